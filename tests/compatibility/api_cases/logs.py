"""Calls of `/logs`."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.apis import MAIN, Api, At, case, events
from tests.flows import CORE, Node, flow
from tests.homes import Ran


def log(id: str, message: str, level: str = "INFO") -> Node:
    return {"id": id, "type": f"{CORE}.log.Log", "message": message, "level": level}


def ran(api: Api, *tasks: Node, **properties: Any) -> Ran:
    """An execution that has ended, of a flow that logs a line at INFO and one at WARN."""
    given = tasks or (log("calm", "all is well"), log("loud", "take care", "WARN"))
    properties.setdefault("namespace", api.new_namespace())
    return api.home.run(flow(*given, id="hello", **properties))


def messages(response: httpx.Response) -> list[str]:
    found = response.json()
    return [one["message"] for one in (found["results"] if isinstance(found, dict) else found)]


@case("GET", "/logs/{executionId}")
def get(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    address = at(executionId=found.execution.id)
    run = found.run_of("loud")
    assert messages(api.get(address, params={"minLevel": "WARN"})) == ["take care"]
    assert messages(api.get(address, params={"taskRunId": run.id})) == ["take care"]
    assert messages(api.get(address, params={"taskId": "calm", "attempt": "0"})) == ["all is well"]
    assert messages(api.get(address, params={"attempt": "1"})) == []
    assert messages(api.get(address, params={"filters[level][EQUALS]": "WARN"})) == ["take care"]
    assert api.get(address, params={"minLevel": "LOUD"}).status_code == 422
    assert api.get(at(executionId="none")).json() == []

    response = api.get(address)

    assert messages(response) == ["all is well", "take care"]
    assert response.json()[1]["taskRunId"] == run.id
    assert response.json()[1]["attemptNumber"] == 0
    return response


@case("GET", "/logs/{executionId}/download")
def download(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    nothing = api.get(at(executionId="none"))
    assert (nothing.status_code, nothing.content) == (200, b"")

    response = api.get(at(executionId=found.execution.id))

    lines = [line.split(" ", 2)[1:] for line in response.text.splitlines()]
    assert lines == [["INFO", "all is well"], ["WARN", "take care"]]
    assert response.headers["content-disposition"] == f'attachment; filename="{found.execution.id}.log"'
    return response


@case("GET", "/logs/{executionId}/follow")
def follow(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    address = at(executionId=found.execution.id)

    response = api.get(address)

    lines = list(events(response))
    assert [json.loads(data)["message"] for _, data in lines] == ["all is well", "take care"]
    assert {name for name, _ in lines} == {"progress"}
    assert response.headers["x-accel-buffering"] == "no"
    return response


@case("GET", "/logs/search")
def search(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    first = ran(api, namespace=namespace)
    ran(api, log("more", "more to see"), namespace=f"{namespace}.below")
    assert messages(api.get(at(), params={"namespace": namespace, "minLevel": "WARN"})) == ["take care"]
    assert messages(api.get(at(), params={"namespace": namespace, "q": "MORE"})) == ["more to see"]
    below = {"filters[namespace][EQUALS]": f"{namespace}.below"}
    assert messages(api.get(at(), params=below)) == ["more to see"]
    either = {
        "filters[executionId][EQUALS]": first.execution.id,
        "filters[or][0][taskId][EQUALS]": "calm",
        "filters[or][1][level][EQUALS]": "ERROR",
    }
    assert messages(api.get(at(), params=either)) == ["all is well"]
    assert api.get(at(), params={"namespace": namespace, "triggerId": "daily"}).json()["total"] == 0
    assert api.get(at(), params={"namespace": namespace, "endDate": "2001-01-01T00:00:00Z"}).json()["results"] == []
    assert api.get(at(), params={"sort": "message:asc"}).status_code == 422
    assert api.get(at(), params={"page": "1000", "size": "1000"}).status_code == 422
    page = api.get(at(), params={"namespace": namespace, "size": "2", "page": "2", "sort": "timestamp:asc"}).json()
    assert ([one["message"] for one in page["results"]], page["total"]) == (["more to see"], 3)

    response = api.get(at(), params={"namespace": namespace})

    assert messages(response) == ["more to see", "take care", "all is well"]
    assert response.json()["type"] == "OFFSET"
    return response


@case("DELETE", "/logs/{executionId}")
def delete(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    address = at(executionId=found.execution.id)
    assert api.delete(address, params={"minLevel": "WARN", "taskId": "calm"}).status_code == 200
    assert len(messages(api.get(f"{MAIN}/logs/{found.execution.id}"))) == 2
    assert api.delete(address, params={"minLevel": "WARN"}).status_code == 200
    assert messages(api.get(f"{MAIN}/logs/{found.execution.id}")) == ["all is well"]

    response = api.delete(address)

    assert messages(api.get(f"{MAIN}/logs/{found.execution.id}")) == []
    assert api.delete(at(executionId="none")).status_code == 200
    return response


@case("DELETE", "/logs/{namespace}/{flowId}")
def delete_of_flow(api: Api, at: At) -> httpx.Response:
    found = ran(api).execution
    other = ran(api).execution
    address = at(namespace=found.namespace, flowId=found.flow_id)
    assert api.delete(address, params={"triggerId": "daily"}).status_code == 200
    assert len(messages(api.get(f"{MAIN}/logs/{found.id}"))) == 2

    response = api.delete(address)

    assert messages(api.get(f"{MAIN}/logs/{found.id}")) == []
    assert len(messages(api.get(f"{MAIN}/logs/{other.id}"))) == 2
    return response
