"""Calls of `/metrics`."""

from __future__ import annotations

from typing import Any

import httpx

from tests.apis import Api, At, case
from tests.flows import CORE, Node, flow
from tests.homes import Ran


def publish(id: str, *metrics: dict[str, Any]) -> Node:
    return {"id": id, "type": f"{CORE}.metric.Publish", "metrics": list(metrics)}


def rows(value: float, name: str = "rows") -> dict[str, Any]:
    return {"name": name, "type": "counter", "value": value}


def ran(api: Api) -> Ran:
    """An execution of a flow that measures rows in two tasks, and a time in one."""
    took = {"name": "took", "type": "timer", "value": "PT1.5S", "tags": {"kind": "load"}}
    text = flow(publish("load", rows(3), took), publish("clean", rows(2)), namespace=api.new_namespace(), id="hello")
    return api.home.run(text)


@case("GET", "/metrics/{executionId}")
def get(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    address = at(executionId=found.execution.id)

    def values(**query: str) -> list[float]:
        return [one["value"] for one in api.get(address, params=query).json()["results"]]

    assert values(sort="value:asc") == [1.5, 2, 3]
    assert values(taskId="clean") == [2]
    assert values(taskRunId=found.run_of("load").id, sort="name:desc", size="1") == [1.5]
    assert values(sort="namespace:asc", page="2", size="2") == [2]
    assert api.get(address, params={"sort": "tags:asc"}).status_code == 422
    assert api.get(at(executionId="none")).json() == {"results": [], "total": 0}

    response = api.get(address)

    assert response.json()["total"] == 3
    assert response.json()["results"][1]["tags"] == {"kind": "load"}
    return response


@case("GET", "/metrics/names/{namespace}/{flowId}")
def names(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution
    assert api.get(at(namespace=found.namespace, flowId="none")).json() == []

    response = api.get(at(namespace=found.namespace, flowId=found.flow_id))

    assert response.json() == ["rows", "took"]
    return response


@case("GET", "/metrics/names/{namespace}/{flowId}/{taskId}")
def names_of_task(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution

    response = api.get(at(namespace=found.namespace, flowId=found.flow_id, taskId="clean"))

    assert response.json() == ["rows"]
    return response


@case("GET", "/metrics/tasks/{namespace}/{flowId}")
def tasks(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution

    response = api.get(at(namespace=found.namespace, flowId=found.flow_id))

    assert response.json() == ["clean", "load"]
    return response


@case("GET", "/metrics/aggregates/{namespace}/{flowId}/{metric}")
def aggregates(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution
    address = at(namespace=found.namespace, flowId=found.flow_id, metric="rows")

    def values(**query: str) -> tuple[str, int, list[float]]:
        answer = api.get(address, params=query).json()
        values = [one["value"] for one in answer["aggregations"] if one.get("value")]
        return answer["groupBy"], len(answer["aggregations"]), values

    assert values(aggregation="avg") == ("day", 31, [2.5])
    assert values(aggregation="MIN") == ("day", 31, [2])
    assert values(aggregation="max") == ("day", 31, [3])
    assert values(startDate="2020-01-01T00:00:00Z", endDate="2023-06-30T00:00:00Z") == ("month", 42, [])
    assert api.get(address, params={"aggregation": "median"}).status_code == 422
    turned = {"startDate": "2030-01-02T00:00:00Z", "endDate": "2030-01-01T00:00:00Z"}
    assert api.get(address, params=turned).status_code == 422

    response = api.get(address)

    assert response.json()["aggregations"][0]["value"] == 0
    assert [one["value"] for one in response.json()["aggregations"] if one["value"]] == [5]
    return response


@case("GET", "/metrics/aggregates/{namespace}/{flowId}/{taskId}/{metric}")
def aggregates_of_task(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution

    response = api.get(at(namespace=found.namespace, flowId=found.flow_id, taskId="load", metric="took"))

    assert [one["value"] for one in response.json()["aggregations"] if one["value"]] == [1.5]
    return response
