"""Counts over HTTP, and lists of what there is none of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.apis import MAIN, PLAIN, Api
from tests.homes import Home
from tests.triggers import schedule


@pytest.fixture
def api(home: Home) -> Iterator[Api]:
    with Api(home) as served:
        yield served


def test_given_flows_and_executions_then_they_are_counted(api: Api) -> None:
    api.save(namespace="company.a", triggers=[schedule("one"), schedule("two")])
    api.save(namespace="company.b", disabled=True)
    flow = api.engine.call(api.engine.operations.get_flow("company.a", "hello"))
    for _ in range(2):
        api.home.wait(api.engine.call(api.engine.operations.start(flow)).id)

    assert api.get(f"{MAIN}/usages/all").json() == {
        "flows": {"count": 2, "namespacesCount": 2, "triggersCount": 2},
        "executions": {"count": 2, "executionCounts": {"SUCCESS": 2}},
    }
    assert api.post(f"{PLAIN}/stats/summary").json() == {"flows": 2, "triggers": 2}
    for where, counts in (
        ({"namespace": "company"}, (2, 2)),
        ({"namespace": "company.b"}, (1, 0)),
        ({"namespace": "comp"}, (0, 0)),
        ({"flowId": "other"}, (0, 0)),
    ):
        found = api.post(f"{PLAIN}/stats/summary", json=where).json()
        assert (found["flows"], found["triggers"]) == counts, where


def test_given_what_there_is_none_of_then_the_lists_are_empty(api: Api) -> None:
    for path in ("blueprints/community", "blueprints/community/flow", "dashboards"):
        assert api.get(f"{MAIN}/{path}", params={"page": "1", "size": "25"}).json() == {"results": [], "total": 0}
    for path in ("blueprints/community/tags", "blueprints/community/flow/tags"):
        assert api.get(f"{MAIN}/{path}").json() == []
    for path in ("blueprints/community/flow/1", "dashboards/1"):
        assert api.get(f"{MAIN}/{path}").status_code == 404


def test_given_revisions_of_a_flow_then_what_has_changed_between_them_is_shown(api: Api) -> None:
    namespace, id = api.save()
    address = f"{MAIN}/flows/{namespace}/{id}"
    source = api.get(f"{address}?source=true").json()["source"]
    for word in ("bye", "soon"):
        saved = api.put(address, content=f"{source}# {word}\n", headers={"Content-Type": "application/x-yaml"})
        assert saved.status_code == 200, saved.text

    last = api.get(f"{address}/revisions/diff").json()
    whole = api.get(f"{address}/revisions/diff?from=1&to=3").json()

    assert (last["from"], last["to"]) == (2, 3)
    assert (whole["from"], whole["to"]) == (1, 3)
    assert whole["diff"].startswith(f"--- {namespace}.{id}, revision 1\n+++ {namespace}.{id}, revision 3\n@@ ")
    assert api.get(f"{address}/revisions/diff?from=9").status_code == 404
    assert api.get(f"{MAIN}/flows/{namespace}/nothing/revisions/diff").status_code == 404
