"""Executions that tests of the API bring into every state they need."""

from __future__ import annotations

from typing import Any

from tests.apis import MAIN, Api
from tests.flows import CORE, Node, echo, fail
from tests.homes import until

Json = dict[str, Any]


def started(api: Api, *tasks: Node, wait: bool = True, inputs: Any = None, **properties: Any) -> Json:
    """An execution of a flow of its own, which has ended unless *wait* says otherwise."""
    namespace, id = api.save(*tasks, **properties)
    return start(api, namespace, id, wait=wait, inputs=inputs)


def start(api: Api, namespace: str, id: str, *, wait: bool = True, inputs: Any = None) -> Json:
    """An execution of a saved flow."""
    response = api.post(f"{MAIN}/executions/{namespace}/{id}", params={"wait": str(wait).lower()}, files=inputs)
    assert response.status_code == 200, response.text
    return response.json()


def failed(api: Api) -> Json:
    """An execution that has failed in its task `break`, after `say`."""
    execution = started(api, echo("say", "hello"), fail("break"))
    assert execution["state"]["current"] == "FAILED"
    return execution


def paused(api: Api, **properties: Any) -> Json:
    """An execution that waits in its task `wait` for a person."""
    execution = started(api, pause(**properties), echo("say", "hello"), wait=False)
    return in_state(api, execution["id"], "PAUSED")


def pause(**properties: Any) -> Node:
    return {"id": "wait", "type": f"{CORE}.flow.Pause", **properties}


def nap(seconds: int = 60) -> Node:
    return {"id": "nap", "type": f"{CORE}.flow.Sleep", "duration": f"PT{seconds}S"}


def running(api: Api) -> Json:
    """An execution that runs for longer than any test."""
    execution = started(api, nap(), wait=False)
    return in_state(api, execution["id"], "RUNNING")


def queued(api: Api) -> Json:
    """An execution that waits for the end of another one of its flow."""
    namespace, id = api.save(pause(), concurrency={"limit": 1, "behavior": "QUEUE"})
    first = start(api, namespace, id, wait=False)
    in_state(api, first["id"], "PAUSED")
    second = start(api, namespace, id, wait=False)
    return in_state(api, second["id"], "QUEUED")


def in_state(api: Api, id: str, *states: str) -> Json:
    """The execution, once it is in one of these states."""
    until(lambda: look(api, id)["state"]["current"] in states)
    return look(api, id)


def look(api: Api, id: str) -> Json:
    """The execution as it is now."""
    response = api.get(f"{MAIN}/executions/{id}")
    assert response.status_code == 200, response.text
    return response.json()


def kill(api: Api, id: str) -> None:
    api.delete(f"{MAIN}/executions/{id}/kill")


def labels_of(execution: Json) -> dict[str, str]:
    """The labels of an execution as a map, without tercel's own."""
    found = {label["key"]: label["value"] for label in execution["labels"]}
    return {key: value for key, value in found.items() if not key.startswith("system.")}


def run_of(execution: Json, task_id: str) -> Json:
    """The only task run of a task."""
    [run] = [one for one in execution["taskRunList"] if one["taskId"] == task_id]
    return run
