"""Calls of what people do with executions, with one and with many."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api_executions import (
    Json,
    failed,
    in_state,
    kill,
    labels_of,
    look,
    paused,
    queued,
    run_of,
    running,
    start,
    started,
)
from tests.apis import MAIN, Api, At, case
from tests.flows import echo, fail, flow

NOBODY = "0" * 22
ASKS = [{"id": "answer", "type": "INT"}]


@case("POST", "/executions/{executionId}/actions/restart")
def restart(api: Api, at: At) -> httpx.Response:
    execution = failed(api)

    response = api.post(at(executionId=execution["id"]))

    again = in_state(api, execution["id"], "FAILED")
    assert again["metadata"]["attemptNumber"] == 2
    assert run_of(again, "say")["id"] == run_of(execution, "say")["id"]
    return response


@case("POST", "/executions/{executionId}/actions/restart", error=404)
def restart_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=NOBODY))


@case("POST", "/executions/{executionId}/actions/restart", error=409)
def restart_what_runs(api: Api, at: At) -> httpx.Response:
    execution = running(api)
    assert api.post(at(executionId=started(api)["id"])).status_code == 422

    response = api.post(at(executionId=execution["id"]))

    kill(api, execution["id"])
    return response


@case("POST", "/executions/{executionId}/actions/replay")
def replay(api: Api, at: At) -> httpx.Response:
    execution = started(api, echo("say", "hello"), echo("then", "bye"), labels={"team": "a"})

    response = api.post(
        at(executionId=execution["id"]), params={"taskRunId": run_of(execution, "then")["id"], "breakpoints": "then"}
    )

    again = in_state(api, response.json()["id"], "SUCCESS")
    assert (again["originalId"], labels_of(again)) == (execution["id"], {"team": "a"})
    assert run_of(again, "say")["state"]["startDate"] == run_of(execution, "say")["state"]["startDate"]
    return response


@case("POST", "/executions/{executionId}/actions/replay", error=404)
def replay_nothing(api: Api, at: At) -> httpx.Response:
    execution = started(api)
    assert api.post(at(executionId=execution["id"]), params={"revision": "7"}).status_code == 404

    return api.post(at(executionId=NOBODY))


@case("POST", "/executions/{executionId}/actions/replay-with-inputs")
def replay_with_inputs(api: Api, at: At) -> httpx.Response:
    inputs = [{"id": "a", "type": "INT"}, {"id": "b", "type": "FILE"}]
    execution = with_inputs(api, inputs)
    address = at(executionId=execution["id"])
    same = api.post(address)
    assert same.json()["inputs"] == execution["inputs"]
    assert api.post(address, files={"a": (None, "x")}).status_code == 422

    response = api.post(address, files={"a": (None, "2"), "b": ("new.txt", b"new")})

    new = response.json()
    assert new["inputs"]["a"] == 2
    assert new["inputs"]["b"].endswith(f"/{new['id']}/inputs/b/new.txt")
    return response


def with_inputs(api: Api, inputs: list[Json]) -> Json:
    namespace, id = api.save(inputs=inputs)
    return start(api, namespace, id, inputs={"a": (None, "1"), "b": ("old.txt", b"old")})


@case("DELETE", "/executions/{executionId}/actions/kill")
def kill_one(api: Api, at: At) -> httpx.Response:
    execution = running(api)

    response = api.delete(at(executionId=execution["id"]))

    in_state(api, execution["id"], "KILLED")
    assert api.delete(at(executionId=execution["id"])).status_code == 200
    return response


@case("DELETE", "/executions/{executionId}/actions/kill", error=404)
def kill_nothing(api: Api, at: At) -> httpx.Response:
    return api.delete(at(executionId=NOBODY))


@case("DELETE", "/executions/{executionId}/actions/kill", error=409)
def kill_what_ended(api: Api, at: At) -> httpx.Response:
    return api.delete(at(executionId=started(api)["id"]), params={"isOnKillCascade": "false"})


@case("POST", "/executions/{executionId}/actions/pause")
def pause_one(api: Api, at: At) -> httpx.Response:
    execution = running(api)

    response = api.post(at(executionId=execution["id"]))

    assert response.json()["state"]["current"] == "PAUSED"
    kill(api, execution["id"])
    return response


@case("POST", "/executions/{executionId}/actions/pause", error=404)
def pause_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=NOBODY))


@case("POST", "/executions/{executionId}/actions/pause", error=409)
def pause_what_ended(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=started(api)["id"]))


@case("POST", "/executions/{executionId}/actions/resume")
def resume(api: Api, at: At) -> httpx.Response:
    execution = paused(api, onResume=ASKS)

    response = api.post(at(executionId=execution["id"]), files={"answer": (None, "42")})

    ended = in_state(api, execution["id"], "SUCCESS")
    assert run_of(ended, "wait")["outputs"]["onResume"] == {"answer": 42}
    return response


@case("POST", "/executions/{executionId}/actions/resume", error=404)
def resume_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=NOBODY))


@case("POST", "/executions/{executionId}/actions/resume", error=409)
def resume_what_ended(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=started(api)["id"]), files={"answer": (None, "42")})


@case("POST", "/executions/{executionId}/actions/resume", error=422)
def resume_with_wrong_inputs(api: Api, at: At) -> httpx.Response:
    execution = paused(api, onResume=ASKS)

    response = api.post(at(executionId=execution["id"]), files={"answer": (None, "many")})

    assert look(api, execution["id"])["state"]["current"] == "PAUSED"
    return response


@case("POST", "/executions/{executionId}/actions/resume/validate")
def validate_resume(api: Api, at: At) -> httpx.Response:
    execution = paused(api, onResume=ASKS)
    assert api.post(at(executionId=started(api)["id"])).status_code == 409

    response = api.post(at(executionId=execution["id"]), files={"answer": (None, "many")})

    [answer] = response.json()["inputs"]
    assert (answer["input"]["id"], answer["enabled"]) == ("answer", True)
    assert "many" in answer["errors"][0]["message"]
    return response


@case("POST", "/executions/{executionId}/actions/labels")
def label(api: Api, at: At) -> httpx.Response:
    execution = started(api, labels={"team": "a", "day": "1"})
    address = at(executionId=execution["id"])
    assert api.post(address, json=[{"key": "system.mine", "value": "x"}]).status_code == 422
    assert api.post(address, json=[{"key": "team", "value": ""}]).status_code == 422

    response = api.post(address, json=[{"key": "team", "value": "b"}, {"key": "", "value": ""}])

    assert labels_of(response.json()) == {"team": "b", "day": "1"}
    found = api.get(f"{MAIN}/executions/search", params={"namespace": execution["namespace"], "labels": "team:b"})
    assert found.json()["total"] == 1
    return response


@case("POST", "/executions/{executionId}/actions/labels", error=404)
def label_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=NOBODY), json=[])


@case("POST", "/executions/{executionId}/actions/labels", error=400)
def label_what_is_open(api: Api, at: At) -> httpx.Response:
    return api.post(at(executionId=paused(api)["id"]), json=[{"key": "team", "value": "b"}])


@case("POST", "/executions/{executionId}/actions/change-status")
def change_status(api: Api, at: At) -> httpx.Response:
    address = at(executionId=failed(api)["id"])
    assert api.post(address).status_code == 400
    assert api.post(address, params={"status": "RUNNING"}).status_code == 422
    still_open = at(executionId=paused(api)["id"])
    assert api.post(still_open, params={"status": "FAILED"}).status_code == 422

    response = api.post(at(executionId=failed(api)["id"]), params={"status": "WARNING"})

    assert response.json()["state"]["current"] == "WARNING"
    return response


@case("POST", "/executions/{executionId}/actions/state")
def change_task_state(api: Api, at: At) -> httpx.Response:
    execution = started(api, fail("break"), echo("then", "bye"))
    address = at(executionId=execution["id"])
    run_id = run_of(execution, "break")["id"]
    assert api.post(address, json={"taskRunId": run_id, "state": "RUNNING"}).status_code == 422
    assert api.post(address, json={"taskRunId": run_id}).status_code == 422

    response = api.post(address, json={"taskRunId": run_id, "state": "SUCCESS"})

    assert run_of(in_state(api, execution["id"], "SUCCESS"), "then")["outputs"] == {"value": "bye"}
    return response


@case("POST", "/executions/{executionId}/actions/force-run")
def force_run(api: Api, at: At) -> httpx.Response:
    assert api.post(at(executionId=started(api)["id"])).status_code == 422
    namespace, id = api.save()
    later = api.post(f"{MAIN}/executions/{namespace}/{id}", params={"scheduleDate": "2100-01-01T00:00:00+02:00"}).json()
    assert later["state"]["current"] == "CREATED"
    assert later["scheduleDate"] == "2099-12-31T22:00:00.000Z"

    response = api.post(at(executionId=later["id"]))

    in_state(api, later["id"], "SUCCESS")
    return response


@case("POST", "/executions/{executionId}/actions/unqueue")
def unqueue(api: Api, at: At) -> httpx.Response:
    assert api.post(at(executionId=started(api)["id"])).status_code == 409
    other = queued(api)
    ended = api.post(at(executionId=other["id"]), params={"state": "CANCELLED"})
    assert ended.json()["state"]["current"] == "CANCELLED"
    execution = queued(api)

    response = api.post(at(executionId=execution["id"]))

    in_state(api, execution["id"], "PAUSED")
    return response


# Many


def by_ids(api: Api, at: At, method: str, executions: list[Json], **params: str) -> httpx.Response:
    response = api.request(method, at(), params=params, json=[one["id"] for one in executions])
    told = response.json()
    assert (told["count"], told["totalItems"]) == (len(executions), len(executions)), response.text
    assert told["operationId"]
    return response


def by_query(api: Api, at: At, method: str, executions: list[Json], **given: Any) -> httpx.Response:
    """The executions, by the newer style of filters; each flow has its own namespace."""
    given.setdefault("params", {})["filters[namespace][IN]"] = ",".join(one["namespace"] for one in executions)
    response = api.request(method, at(), **given)
    assert response.json()["count"] == len(executions), response.text
    return response


def wrong_ids(api: Api, at: At, method: str, fits: Json, unfit: Json | None = None, **params: str) -> httpx.Response:
    """Nothing is done where one of the executions is not there, or stands differently."""
    before = look(api, fits["id"])["state"]["current"]
    ids = [fits["id"], NOBODY, *([unfit["id"]] if unfit else [])]

    response = api.request(method, at(), params=params, json=ids)

    assert [one["invalidValue"] for one in response.json()["invalids"]] == ids[1:]
    assert look(api, fits["id"])["state"]["current"] == before
    return response


def all_in(api: Api, executions: list[Json], state: str) -> None:
    for one in executions:
        in_state(api, one["id"], state)


@case("POST", "/executions/restart/by-ids")
def restart_by_ids(api: Api, at: At) -> httpx.Response:
    return by_ids(api, at, "POST", [failed(api), failed(api)])


@case("POST", "/executions/restart/by-ids", error=400)
def restart_wrong_ids(api: Api, at: At) -> httpx.Response:
    return wrong_ids(api, at, "POST", failed(api), started(api))


@case("POST", "/executions/restart/by-query")
def restart_by_query(api: Api, at: At) -> httpx.Response:
    return by_query(api, at, "POST", [failed(api), failed(api)])


@case("POST", "/executions/replay/by-ids")
def replay_by_ids(api: Api, at: At) -> httpx.Response:
    execution = started(api)
    namespace = execution["namespace"]
    assert api.put(f"{MAIN}/flows/{namespace}/hello", content=flow(echo("say", "bye"), id="hello", namespace=namespace))

    response = by_ids(api, at, "POST", [execution], latestRevision="true")

    found = api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["results"]
    assert [one["flowRevision"] for one in found] == [2, 1]
    return response


@case("POST", "/executions/replay/by-ids", error=400)
def replay_wrong_ids(api: Api, at: At) -> httpx.Response:
    return wrong_ids(api, at, "POST", started(api))


@case("POST", "/executions/replay/by-query")
def replay_by_query(api: Api, at: At) -> httpx.Response:
    return by_query(api, at, "POST", [started(api), failed(api)])


@case("DELETE", "/executions/kill/by-ids")
def kill_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [paused(api), running(api)]
    response = by_ids(api, at, "DELETE", executions)
    all_in(api, executions, "KILLED")
    return response


@case("DELETE", "/executions/kill/by-ids", error=400)
def kill_wrong_ids(api: Api, at: At) -> httpx.Response:
    return wrong_ids(api, at, "DELETE", paused(api), started(api))


@case("DELETE", "/executions/kill/by-query")
def kill_by_query(api: Api, at: At) -> httpx.Response:
    executions = [paused(api), paused(api)]
    response = by_query(api, at, "DELETE", executions)
    all_in(api, executions, "KILLED")
    return response


@case("POST", "/executions/pause/by-ids")
def pause_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [running(api)]
    response = by_ids(api, at, "POST", executions)
    all_in(api, executions, "PAUSED")
    kill(api, executions[0]["id"])
    return response


@case("POST", "/executions/pause/by-ids", error=400)
def pause_wrong_ids(api: Api, at: At) -> httpx.Response:
    execution = running(api)
    response = wrong_ids(api, at, "POST", execution, started(api))
    kill(api, execution["id"])
    return response


@case("POST", "/executions/pause/by-query")
def pause_by_query(api: Api, at: At) -> httpx.Response:
    executions = [running(api)]
    response = by_query(api, at, "POST", executions)
    kill(api, executions[0]["id"])
    return response


@case("POST", "/executions/resume/by-ids")
def resume_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [paused(api), paused(api)]
    response = by_ids(api, at, "POST", executions)
    all_in(api, executions, "SUCCESS")
    return response


@case("POST", "/executions/resume/by-ids", error=400)
def resume_wrong_ids(api: Api, at: At) -> httpx.Response:
    asks = paused(api, onResume=[{"id": "why", "type": "STRING"}])
    response = wrong_ids(api, at, "POST", paused(api), asks)

    assert "why" in response.json()["invalids"][1]["message"]
    return wrong_ids(api, at, "POST", paused(api), started(api))


@case("POST", "/executions/resume/by-query")
def resume_by_query(api: Api, at: At) -> httpx.Response:
    executions = [paused(api), paused(api)]
    response = by_query(api, at, "POST", executions)
    all_in(api, executions, "SUCCESS")
    return response


@case("POST", "/executions/force-run/by-ids")
def force_run_by_ids(api: Api, at: At) -> httpx.Response:
    return by_ids(api, at, "POST", [paused(api)])


@case("POST", "/executions/force-run/by-ids", error=400)
def force_run_wrong_ids(api: Api, at: At) -> httpx.Response:
    return wrong_ids(api, at, "POST", paused(api), started(api))


@case("POST", "/executions/force-run/by-query")
def force_run_by_query(api: Api, at: At) -> httpx.Response:
    return by_query(api, at, "POST", [paused(api), paused(api)])


@case("POST", "/executions/unqueue/by-ids")
def unqueue_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [queued(api)]
    response = by_ids(api, at, "POST", executions)
    all_in(api, executions, "PAUSED")
    return response


@case("POST", "/executions/unqueue/by-ids", error=400)
def unqueue_wrong_ids(api: Api, at: At) -> httpx.Response:
    return wrong_ids(api, at, "POST", queued(api), started(api))


@case("POST", "/executions/unqueue/by-query")
def unqueue_by_query(api: Api, at: At) -> httpx.Response:
    executions = [queued(api)]
    response = by_query(api, at, "POST", executions, params={"state": "QUEUED", "newState": "KILLED"})
    all_in(api, executions, "KILLED")
    return response


@case("POST", "/executions/change-status/by-ids")
def change_status_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [failed(api), failed(api)]
    response = by_ids(api, at, "POST", executions, newStatus="SUCCESS")
    all_in(api, executions, "SUCCESS")
    return response


@case("POST", "/executions/change-status/by-ids", error=400)
def change_status_of_wrong_ids(api: Api, at: At) -> httpx.Response:
    execution = failed(api)
    assert api.post(at(), params={"newStatus": "RUNNING"}, json=[execution["id"]]).status_code == 422

    return wrong_ids(api, at, "POST", execution, paused(api), newStatus="SUCCESS")


@case("POST", "/executions/change-status/by-query")
def change_status_by_query(api: Api, at: At) -> httpx.Response:
    return by_query(api, at, "POST", [failed(api)], params={"newStatus": "SUCCESS"})


LABELS = [{"key": "team", "value": "b"}]


@case("POST", "/executions/labels/by-ids")
def label_by_ids(api: Api, at: At) -> httpx.Response:
    executions = [started(api), failed(api)]

    response = api.post(at(), json={"executionsId": [one["id"] for one in executions], "executionLabels": LABELS})

    assert response.json()["count"] == 2
    assert all(labels_of(look(api, one["id"])) == {"team": "b"} for one in executions)
    return response


@case("POST", "/executions/labels/by-ids", error=400)
def label_wrong_ids(api: Api, at: At) -> httpx.Response:
    still_open = paused(api)["id"]

    response = api.post(at(), json={"executionsId": [NOBODY, still_open], "executionLabels": LABELS})

    assert [one["invalidValue"] for one in response.json()["invalids"]] == [NOBODY, still_open]
    return response


@case("POST", "/executions/labels/by-query")
def label_by_query(api: Api, at: At) -> httpx.Response:
    executions = [started(api), started(api)]
    response = by_query(api, at, "POST", executions, json=LABELS)
    assert all(labels_of(look(api, one["id"])) == {"team": "b"} for one in executions)
    return response
