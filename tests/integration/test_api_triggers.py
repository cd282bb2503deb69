"""Triggers over HTTP: many at once, as files, and those whose flows are gone or broken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apis import MAIN, Api
from tests.flows import CORE
from tests.homes import Home, until
from tests.triggers import schedule

YEARLY = "0 0 1 1 *"
SPAN = {"start": "1999-12-31T00:00:00Z", "end": "2004-01-01T00:00:00Z"}


@pytest.fixture
def api(home: Home) -> Iterator[Api]:
    home.engine.schedule()
    with Api(home) as served:
        yield served


def saved(api: Api, namespace: str, id: str = "hello", **properties: Any) -> dict[str, str]:
    api.save(namespace=namespace, id=id, triggers=[schedule(cron=YEARLY)], **properties)
    name = {"namespace": namespace, "flowId": id, "triggerId": "schedule"}
    until(lambda: "updatedDate" in states(api, namespace)[id])
    return name


def states(api: Api, namespace: str) -> dict[str, Any]:
    """By the flows' ids."""
    found = api.get(f"{MAIN}/triggers/search", params={"namespace": namespace, "size": "100"}).json()["results"]
    return {one["state"]["flowId"]: one["state"] for one in found}


def post(api: Api, path: str, **given: Any) -> int:
    response = api.post(f"{MAIN}/triggers/{path}", **given)
    assert response.status_code == 200, response.text
    return response.json()["count"]


def test_given_filters_then_just_those_are_switched(api: Api) -> None:
    for id in ("one", "two"):
        saved(api, "company.a", id)
    saved(api, "company.b")

    assert post(api, "set-disabled/by-query", params={"namespace": "company.a", "disabled": "true"}) == 2

    assert all(one["disabled"] for one in states(api, "company.a").values())
    assert not states(api, "company.b")["hello"]["disabled"]
    query = {"filters[namespace][EQUALS]": "company.a", "filters[flowId][EQUALS]": "one", "disabled": "false"}
    assert post(api, "set-disabled/by-query", params=query) == 1
    assert [one["disabled"] for one in states(api, "company.a").values()] == [False, True]


def test_given_backfills_then_they_are_changed_together(api: Api) -> None:
    pause = [{"id": "wait", "type": f"{CORE}.flow.Pause"}]
    names = []
    for id in ("one", "two"):
        names.append(_paused_flow(api, id, pause))
    plain = saved(api, "company.a", "plain")
    everywhere = {"namespace": "company.a"}

    assert post(api, "backfill/pause/by-triggers", json=[*names, plain]) == 2
    assert all(states(api, "company.a")[name["flowId"]]["backfill"]["paused"] for name in names)
    assert post(api, "backfill/unpause/by-query", params=everywhere) == 2
    assert post(api, "backfill/pause/by-query", params=everywhere) == 2
    assert post(api, "backfill/unpause/by-triggers", json=names[:1]) == 1
    assert post(api, "unlock/by-query", params={**everywhere, "filters[flowId][EQUALS]": "two"}) == 1
    assert post(api, "backfill/delete/by-triggers", json=names[:1]) == 1
    assert post(api, "backfill/delete/by-query", params=everywhere) == 1
    assert not any("backfill" in one for one in states(api, "company.a").values())
    unknown = api.post(f"{MAIN}/triggers/backfill/pause/by-triggers", json=[{**plain, "triggerId": "no"}])
    assert unknown.status_code == 400
    assert unknown.json()["message"] == "invalid bulk pause"


def _paused_flow(api: Api, id: str, tasks: Any) -> dict[str, str]:
    api.save(*tasks, namespace="company.a", id=id, triggers=[schedule(cron=YEARLY)])
    name = {"namespace": "company.a", "flowId": id, "triggerId": "schedule"}
    assert api.put(f"{MAIN}/triggers/backfill/create", json={**name, "backfill": SPAN}).status_code == 200
    until(lambda: states(api, "company.a")[id]["locked"])
    return name


def test_given_triggers_then_their_state_can_be_forgotten(api: Api) -> None:
    names = [saved(api, "company.a", id) for id in ("one", "two", "three")]
    post(api, "set-disabled/by-query", params={"namespace": "company.a"})
    one, two, _ = names

    assert api.delete(f"{MAIN}/triggers/company.a/one/schedule").status_code == 204
    assert api.delete(f"{MAIN}/triggers/company.a/one/nothing").status_code == 404
    removed = api.request("DELETE", f"{MAIN}/triggers/delete/by-triggers", json=[two, {**one, "flowId": "no"}])
    assert removed.json()["count"] == 1
    assert {id: state["disabled"] for id, state in states(api, "company.a").items()} == {
        "one": False,
        "two": False,
        "three": True,
    }
    removed = api.delete(f"{MAIN}/triggers/delete/by-query", params={"filters[triggerState][EQUALS]": "DISABLED"})
    assert removed.json()["count"] == 1
    assert not states(api, "company.a")["three"]["disabled"]


def test_given_a_flow_that_is_disabled_or_gone_then_its_trigger_says_so(api: Api) -> None:
    saved(api, "company.a", disabled=True)

    assert "nextExecutionDate" not in states(api, "company.a")["hello"]
    api.delete(f"{MAIN}/flows/company.a/hello")
    until(lambda: states(api, "company.a") == {})


def test_given_a_trigger_that_its_flow_disables_then_it_is_disabled_whoever_enables_it(api: Api) -> None:
    api.save(namespace="company.a", triggers=[schedule(cron=YEARLY, disabled=True)])
    name = {"namespace": "company.a", "flowId": "hello", "triggerId": "schedule"}

    response = api.put(f"{MAIN}/triggers/set-disabled", json={**name, "disabled": False})

    assert response.json()["disabled"] is True
    assert "nextExecutionDate" not in response.json()


def test_given_an_export_then_it_is_csv_that_no_program_takes_for_formulas(api: Api) -> None:
    saved(api, "company.a")

    response = api.get(f"{MAIN}/triggers/export/by-query/csv", params={"namespace": "company.a"})

    head, row = response.text.splitlines()
    assert head == "namespace,flowId,triggerId,type,disabled,locked,nextExecutionDate,executionId"
    assert row.startswith(f"company.a,hello,schedule,{CORE}.trigger.Schedule,false,false,20")


@pytest.mark.parametrize(
    "backfill",
    [
        {"start": "0001-01-01T00:00:00Z"},
        {"start": "9999-12-31T23:59:59-12:00"},
        {"start": "2001-01-01T00:00:00Z", "end": "9999-12-31T23:59:59Z"},
        {"start": "2001-02-01T00:00:00Z", "end": "2001-03-01T00:00:00Z"},
        {"start": "2001-01-01T00:00:00Z", "inputs": {"deep": json.loads("[" * 101 + "]" * 101)}},
        {},
    ],
)
def test_given_a_span_that_cannot_be_then_no_backfill_begins(api: Api, backfill: dict[str, object]) -> None:
    name = saved(api, "company.a")

    response = api.put(f"{MAIN}/triggers/backfill/create", json={**name, "backfill": backfill})

    assert response.status_code == 422
    assert "backfill" not in states(api, "company.a")["hello"]
