"""Calls of graphs and dependencies."""

from __future__ import annotations

from typing import Any

import httpx

from tests.apis import MAIN, Api, At, case
from tests.flows import CORE, Node, echo, flow, for_each
from tests.triggers import schedule


def subflow(id: str, namespace: str, flow_id: str) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Subflow", "namespace": namespace, "flowId": flow_id}


def after(namespace: str, flow_id: str) -> Node:
    """A trigger that reacts to executions of a flow."""
    condition = {"type": f"{CORE}.condition.ExecutionFlow", "namespace": namespace, "flowId": flow_id}
    return {"id": "after", "type": f"{CORE}.trigger.Flow", "conditions": [condition]}


def uids(graph: dict[str, Any]) -> list[str]:
    return [node["uid"] for node in graph["nodes"]]


def node(graph: dict[str, Any], uid: str) -> dict[str, Any]:
    return next(one for one in graph["nodes"] if one["uid"] == uid)


@case("GET", "/flows/{namespace}/{id}/graph")
def of_flow(api: Api, at: At) -> httpx.Response:
    namespace, inner = api.save(echo("inside", "x"), id="inner")
    api.save(
        echo("say", "hello", description="as it was written"),
        subflow("call", namespace, inner),
        namespace=namespace,
        triggers=[schedule(cron="0 0 1 1 *")],
    )
    address = at(namespace=namespace, id="hello")
    opened = api.get(address, params={"subflows": "root.call"}).json()
    assert "root.call.inside" in uids(opened)
    assert node(opened, "root.call.inside")["task"]["format"] == "x"
    assert [one["cluster"]["type"].rpartition(".")[2] for one in opened["clusters"]] == [
        "GraphCluster",
        "SubflowGraphCluster",
    ]
    assert api.get(address, params={"revision": "7"}).status_code == 404
    assert api.get(address, params={"subflows": ",".join(map(str, range(60)))}).status_code == 422

    response = api.get(address)

    graph = response.json()
    assert "root.call.inside" not in uids(graph)
    assert node(graph, "root.say")["type"] == "io.kestra.core.models.hierarchies.GraphTask"
    assert node(graph, "root.say")["task"]["description"] == "as it was written"
    assert node(graph, "root.call")["type"].endswith("SubflowGraphTask")
    assert node(graph, "root.Triggers.schedule")["triggerDeclaration"]["cron"] == "0 0 1 1 *"
    assert {"source": "root.say", "target": "root.call", "relation": {"relationType": "SEQUENTIAL"}} in graph["edges"]
    assert [one["cluster"]["uid"] for one in graph["clusters"]] == ["cluster_root.Triggers"]
    return response


@case("GET", "/flows/{namespace}/{id}/graph", error=404)
def of_nothing(api: Api, at: At) -> httpx.Response:
    return api.get(at(namespace="company", id="nothing"))


@case("POST", "/flows/graph")
def of_text(api: Api, at: At) -> httpx.Response:
    assert api.post(at(), content="id: x").status_code == 422

    response = api.post(at(), content=flow(for_each("each", ["a", "b"], echo("say", "x"))))

    graph = response.json()
    assert graph["flowables"] == ["each"]
    assert "root.each.say" in uids(graph)
    assert graph["clusters"][0]["cluster"]["relationType"] == "DYNAMIC"
    assert graph["clusters"][0]["cluster"]["taskNode"]["uid"] == "root.each"
    return response


@case("GET", "/executions/{executionId}/graph")
def of_execution(api: Api, at: At) -> httpx.Response:
    text = flow(for_each("each", ["a", "b"], echo("say", "x")), namespace=api.new_namespace(), id="hello")
    found = api.home.run(text)
    assert api.get(at(executionId="none")).status_code == 404

    response = api.get(at(executionId=found.execution.id))

    said = node(response.json(), "root.each._1.say")
    assert said["values"] == ["b"]
    assert said["taskRun"]["state"]["current"] == "SUCCESS"
    assert said["taskRun"]["id"] in {run.id for run in found.runs}
    return response


@case("GET", "/flows/{namespace}/{id}/dependencies")
def dependencies(api: Api, at: At) -> httpx.Response:
    namespace, first = api.save(id="first")
    api.save(namespace=namespace, id="second", triggers=[after(namespace, first)])
    api.save(subflow("call", namespace, "second"), namespace=namespace, id="third")
    api.save(namespace=namespace, id="fourth", triggers=[after(namespace, "third")])

    def names(id: str, **query: str) -> list[str]:
        found = api.get(f"{MAIN}/flows/{namespace}/{id}/dependencies", params=query).json()["nodes"]
        return sorted(one["id"] for one in found if one["namespace"] == namespace)

    assert names("second", destinationOnly="true") == ["second"]
    assert names("first", destinationOnly="true", expandAll="true") == ["first", "second"]
    assert names("first") == ["first", "second"]
    assert names("first", expandAll="true") == ["first", "fourth", "second", "third"]
    assert api.get(f"{MAIN}/flows/{namespace}/none/dependencies").status_code == 404

    response = api.get(at(namespace=namespace, id="second"))

    edges = {(one["source"], one["target"], one["relation"]) for one in response.json()["edges"]}
    assert edges == {
        (f"{namespace}/first", f"{namespace}/second", "FLOW_TRIGGER"),
        (f"{namespace}/third", f"{namespace}/second", "FLOW_TASK"),
    }
    return response
