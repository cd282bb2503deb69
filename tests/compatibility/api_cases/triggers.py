"""Calls of `/triggers`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from tests.apis import MAIN, Api, At, case
from tests.flows import CORE
from tests.homes import until
from tests.triggers import on_dates, schedule

YEARLY = "0 0 1 1 *"
LATER = f"{datetime.now(UTC).year + 3}-06-01T00:00:00.000Z"
LONG_AGO = "1999-12-31T00:00:00Z"


def saved(api: Api, *triggers: Any, tasks: Any = (), **properties: Any) -> dict[str, str]:
    """A flow with a trigger that is due once in a year; the trigger's name."""
    given = triggers or (schedule(cron=YEARLY),)
    namespace, flow_id = api.save(*tasks, triggers=list(given), **properties)
    name = {"namespace": namespace, "flowId": flow_id, "triggerId": str(given[0]["id"])}
    until(lambda: "updatedDate" in state(api, name))
    return name


def state(api: Api, name: dict[str, str]) -> dict[str, Any]:
    found = api.get(f"{MAIN}/triggers/{name['namespace']}/{name['flowId']}").json()["results"]
    return next(one for one in found if one["triggerId"] == name["triggerId"])


def locked(api: Api, end: str = "2000-06-01T00:00:00Z") -> dict[str, str]:
    """A trigger with an execution that waits for a person: the first one of a backfill until *end*."""
    name = saved(api, tasks=[{"id": "wait", "type": f"{CORE}.flow.Pause"}])
    span = {"start": LONG_AGO, "end": end}
    assert api.put(f"{MAIN}/triggers/backfill/create", json={**name, "backfill": span}).status_code == 200
    until(lambda: state(api, name)["locked"])
    return name


def backfilled(api: Api, *, paused: bool = True) -> dict[str, str]:
    """A trigger with a backfill that is paused, or waits for its first execution."""
    name = locked(api, end="2004-01-01T00:00:00Z")
    if paused:
        assert api.put(f"{MAIN}/triggers/backfill/pause", json=name).status_code == 200
    return name


@case("GET", "/triggers/search")
def search(api: Api, at: At) -> httpx.Response:
    name = saved(api, schedule(cron=YEARLY), on_dates(LATER))
    namespace = {"filters[namespace][EQUALS]": name["namespace"]}
    for parameters, ids in (
        ({"namespace": name["namespace"]}, ["dates", "schedule"]),
        ({**namespace, "filters[triggerId][EQUALS]": "dates"}, ["dates"]),
        ({**namespace, "filters[nextExecutionDate][GREATER_THAN_OR_EQUAL_TO]": LATER}, ["dates"]),
        ({**namespace, "filters[lastTriggeredDate][IS_NOT_NULL]": ""}, []),
        ({**namespace, "filters[triggerState][EQUALS]": "DISABLED"}, []),
        ({**namespace, "workerId": "somebody"}, []),
        ({**namespace, "sort": "nextExecutionDate:asc"}, ["schedule", "dates"]),
    ):
        found = api.get(at(), params=parameters).json()
        assert [one["state"]["triggerId"] for one in found["results"]] == ids, parameters
        assert found["total"] == len(ids)

    response = api.get(at(), params={**namespace, "size": "1"})

    [one] = response.json()["results"]
    assert response.json()["total"] == 2
    assert one["trigger"] == one["abstractTrigger"]
    assert one["trigger"]["dates"] == [LATER]
    assert one["state"] == one["triggerContext"]
    assert one["state"]["nextExecutionDate"] == one["state"]["nextEvaluationDate"] == LATER
    return response


@case("GET", "/triggers/{namespace}/{flowId}")
def of_flow(api: Api, at: At) -> httpx.Response:
    name = saved(api, schedule(cron=YEARLY), on_dates(LATER))
    address = at(namespace=name["namespace"], flowId=name["flowId"])
    assert api.get(address, params={"q": "SCHED"}).json()["total"] == 1

    return api.get(address)


@case("PUT", "/triggers/set-disabled")
def set_disabled(api: Api, at: At) -> httpx.Response:
    name = saved(api)

    response = api.put(at(), json={**name, "disabled": True})

    assert response.json()["disabled"] is True
    assert "nextExecutionDate" not in state(api, name)
    assert api.put(at(), json={**name, "disabled": False}).json()["nextExecutionDate"]
    return response


@case("PUT", "/triggers/set-disabled", error=404)
def set_disabled_nothing(api: Api, at: At) -> httpx.Response:
    namespace, flow_id = api.save()
    return api.put(at(), json={"namespace": namespace, "flowId": flow_id, "triggerId": "no", "disabled": True})


@case("POST", "/triggers/set-disabled/by-triggers")
def set_disabled_by_triggers(api: Api, at: At) -> httpx.Response:
    names = [saved(api), saved(api)]
    unknown = {**names[0], "triggerId": "no"}
    refused = api.post(at(), json={"triggers": [*names, unknown], "disabled": True})
    assert refused.status_code == 400
    assert [one["message"] for one in refused.json()["invalids"]] == ["trigger not found"]
    assert not any(state(api, name)["disabled"] for name in names)

    response = api.post(at(), json={"triggers": names, "disabled": True})

    assert response.json()["count"] == 2
    assert all(state(api, name)["disabled"] for name in names)
    return response


@case("POST", "/triggers/{namespace}/{flowId}/{triggerId}/unlock")
def unlock(api: Api, at: At) -> httpx.Response:
    name = locked(api)

    response = api.post(at(**name))

    assert response.json()["locked"] is False
    return response


@case("POST", "/triggers/{namespace}/{flowId}/{triggerId}/unlock", error=404)
def unlock_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(namespace="company", flowId="nothing", triggerId="no"))


@case("POST", "/triggers/{namespace}/{flowId}/{triggerId}/unlock", error=409)
def unlock_what_is_not_locked(api: Api, at: At) -> httpx.Response:
    response = api.post(at(**saved(api)))

    assert "Trigger is not locked" in response.json()["message"]
    return response


@case("POST", "/triggers/unlock/by-triggers")
def unlock_by_triggers(api: Api, at: At) -> httpx.Response:
    name, free = locked(api), saved(api)

    response = api.post(at(), json=[name, free, {**free, "triggerId": "no"}])

    assert response.json()["count"] == 1
    assert state(api, name)["locked"] is False
    return response


@case("POST", "/triggers/{namespace}/{flowId}/{triggerId}/restart")
def restart(api: Api, at: At) -> httpx.Response:
    name = locked(api)

    response = api.post(at(**name))

    assert response.json()["locked"] is False
    return response


@case("POST", "/triggers/{namespace}/{flowId}/{triggerId}/restart", error=404)
def restart_nothing(api: Api, at: At) -> httpx.Response:
    return api.post(at(namespace="company", flowId="nothing", triggerId="no"))


@case("PUT", "/triggers/backfill/create")
def create_backfill(api: Api, at: At) -> httpx.Response:
    name = saved(api, schedule(cron=YEARLY), inputs=[{"id": "n", "type": "INT", "required": False}])
    span = {"start": "2001-01-01T00:00:00+02:00", "end": "2002-01-01T00:00:00Z"}
    for wrong in (
        {**span, "end": "2000-01-01T00:00:00Z"},
        {"start": "2001-01-01T00:00:00"},
        {**span, "labels": [{"key": "system.a", "value": "b"}]},
        {"start": "soon"},
    ):
        assert api.put(at(), json={**name, "backfill": wrong}).status_code == 422, wrong

    backfill = {**span, "inputs": {"n": 1}, "labels": [{"key": "why", "value": "test"}]}
    response = api.put(at(), json={**name, "backfill": backfill})

    told = response.json()["backfill"]
    assert (told["start"], told["paused"]) == ("2000-12-31T22:00:00.000Z", False)
    assert told["inputs"] == {"n": 1}
    assert told["labels"] == [{"key": "why", "value": "test"}]
    until(lambda: "backfill" not in state(api, name))
    assert state(api, name)["date"] == "2002-01-01T00:00:00.000Z"
    return response


@case("PUT", "/triggers/backfill/pause")
def pause_backfill(api: Api, at: At) -> httpx.Response:
    assert api.put(at(), json=saved(api)).status_code == 409
    name = backfilled(api, paused=False)

    response = api.put(at(), json=name)

    assert response.json()["backfill"]["paused"] is True
    assert response.json()["nextExecutionDate"] > "2004"
    return response


@case("PUT", "/triggers/backfill/unpause")
def unpause_backfill(api: Api, at: At) -> httpx.Response:
    name = backfilled(api)

    response = api.put(at(), json=name)

    assert response.json()["backfill"]["paused"] is False
    assert response.json()["nextExecutionDate"] == "2001-01-01T00:00:00.000Z"
    return response


@case("POST", "/triggers/backfill/delete")
def delete_backfill(api: Api, at: At) -> httpx.Response:
    name = backfilled(api)

    response = api.post(at(), json=name)

    assert "backfill" not in response.json()
    assert response.json()["nextExecutionDate"] > "2004"
    return response


@case("PUT", "/triggers")
def update(api: Api, at: At) -> httpx.Response:
    name = saved(api)
    context = state(api, name)
    assert api.put(at(), json={**context, "triggerId": "no"}).status_code == 404
    assert api.put(at(), json={**context, "disabled": True}).json()["disabled"] is True
    assert api.put(at(), json={**state(api, name), "disabled": False}).json()["disabled"] is False
    name = backfilled(api)
    backfill = state(api, name)["backfill"]

    response = api.put(at(), json={**state(api, name), "backfill": {**backfill, "paused": False}})

    assert response.json()["backfill"]["paused"] is False
    assert api.put(at(), json={**name, "backfill": {"start": "2001-01-01T00:00:00Z"}}).status_code == 409
    return response
