"""Flows over HTTP that several clients change at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.apis import MAIN, Api
from tests.flows import echo, flow
from tests.homes import Home


@pytest.fixture
def api(home: Home) -> Iterator[Api]:
    with Api(home) as served:
        yield served


def test_given_changes_of_a_flow_at_once_then_each_is_answered_with_its_own(api: Api) -> None:
    namespace, id = api.save()
    words = [f"word {number}" for number in range(24)]
    sources = [flow(echo("say", word), namespace=namespace, id=id) for word in words]
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda source: api.put(f"{MAIN}/flows/{namespace}/{id}", content=source), sources))

    answers = [response.json() for response in responses]
    assert [one["tasks"][0]["format"] for one in answers] == words
    assert sorted(one["revision"] for one in answers) == list(range(2, 26))


def test_given_the_same_flow_created_at_once_then_only_one_is(api: Api) -> None:
    namespace = api.new_namespace()
    with ThreadPoolExecutor(8) as threads:
        sources = [flow(echo("say", str(word)), namespace=namespace, id="new") for word in range(24)]
        statuses = list(threads.map(lambda source: api.post(f"{MAIN}/flows", content=source).status_code, sources))

    assert sorted(statuses) == [200, *[422] * 23]


class TestSwitching:
    def test_given_a_list_with_a_flow_that_is_not_there_then_nothing_changes(self, api: Api) -> None:
        namespace, id = api.save()
        names = [{"namespace": namespace, "id": id}, {"namespace": namespace, "id": "nothing"}]

        assert api.post(f"{MAIN}/flows/disable/by-ids", json=names).status_code == 404

        assert api.get(f"{MAIN}/flows/{namespace}/{id}").json()["disabled"] is False

    def test_given_a_flow_that_cannot_be_read_then_only_filters_pass_it_over(self, api: Api) -> None:
        namespace = api.new_namespace()
        api.engine.call(keep(api, namespace, "a", "id: a\ntasks: [{id: x, type: no.such.Type}]\n"))
        api.save(namespace=namespace, id="b")
        names = [{"namespace": namespace, "id": id} for id in ("b", "a")]

        assert api.post(f"{MAIN}/flows/disable/by-ids", json=names).status_code == 422
        assert api.get(f"{MAIN}/flows/{namespace}/b").json()["revision"] == 1

        assert api.post(f"{MAIN}/flows/disable/by-query", params={"namespace": namespace}).json()["count"] == 1
        assert api.get(f"{MAIN}/flows/{namespace}/b").json()["disabled"] is True


async def keep(api: Api, namespace: str, id: str, text: str) -> None:
    """Save a flow as it is, valid or not."""
    await api.engine._store.flows.save(namespace, id, text, datetime.now(UTC))
