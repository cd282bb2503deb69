"""Executions over HTTP: inputs of every client, files, waiting, following, webhooks, children."""

from __future__ import annotations

import base64
import csv
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tercel.api import Login
from tests.api_executions import Json, in_state, kill, look, pause, paused, run_of, running, start, started
from tests.apis import MAIN, Api, events
from tests.flows import CORE, echo, flow
from tests.homes import Home, until

FILE = {"id": "data", "type": "FILE", "extension": ".csv"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Home(tmp_path_factory.mktemp("executions")) as home, Api(home) as served:
        yield served


def stored(api: Api, namespace: str) -> list[str]:
    return [file.uri for file in api.engine.storage.list(f"/{namespace.replace('.', '/')}")]


class TestInputs:
    def post(self, api: Api, declared: Any, parts: Any) -> tuple[str, httpx.Response]:
        namespace, id = api.save(inputs=declared)
        return namespace, api.post(f"{MAIN}/executions/{namespace}/{id}", files=parts)

    @pytest.mark.parametrize(
        ("part", "name"),
        [
            (("files", ("data", b"a,b")), "data.csv"),  # the older convention
            (("data", ("my table.csv", b"a,b", "text/csv")), "my%20table.csv"),
            (("data", ("data", b"a,b")), "data"),  # bytes, as kestrapy sends them
            (("data", ("../../etc/passwd", b"a,b")), "passwd"),
            (("data", ("..\\..", b"a,b")), "data.csv"),
        ],
    )
    def test_given_a_file_then_it_is_stored_under_its_own_name(
        self, api: Api, part: tuple[str, Any], name: str
    ) -> None:
        namespace, response = self.post(api, [FILE], [part])

        execution = response.json()
        uri = f"kestra:///{namespace.replace('.', '/')}/hello/executions/{execution['id']}/inputs/data/{name}"
        assert execution["inputs"] == {"data": uri}
        assert stored(api, namespace) == [uri]
        assert api.home.read(uri) == b"a,b"

    def test_given_an_input_called_files_then_its_part_is_meant(self, api: Api) -> None:
        _, response = self.post(api, [{"id": "files", "type": "FILE"}], [("files", ("data", b"a,b"))])

        assert response.json()["inputs"]["files"].endswith("/inputs/files/data")

    def test_given_a_file_for_another_type_then_its_text_is_the_value(self, api: Api) -> None:
        declared = [{"id": "a.count", "type": "INT"}, {"id": "word", "type": "STRING"}]

        _, response = self.post(api, declared, [("a.count", ("a.count", b"7")), ("files", ("word", "ä".encode()))])

        assert response.json()["inputs"] == {"a": {"count": 7}, "word": "ä"}
        _, response = self.post(api, declared[1:], [("word", ("word", b"\xff"))])
        assert response.status_code == 422

    @pytest.mark.parametrize("parts", [[("data", ("x.csv", b""))], [("data", ("x.csv", b"a")), ("n", (None, "many"))]])
    def test_given_inputs_that_are_refused_then_no_file_stays(self, api: Api, parts: Any) -> None:
        namespace, response = self.post(api, [FILE, {"id": "n", "type": "INT", "required": False}], parts)

        assert response.status_code == 422
        assert stored(api, namespace) == []

    def test_given_an_address_of_a_file_then_it_is_taken_and_one_of_the_server_is_not(self, api: Api) -> None:
        _, response = self.post(api, [FILE], {"data": (None, "kestra:///company/x.csv")})
        assert response.json()["inputs"] == {"data": "kestra:///company/x.csv"}

        for address in ("file:///etc/passwd", "/etc/passwd"):
            assert self.post(api, [FILE], {"data": (None, address)})[1].status_code == 422

    @pytest.mark.parametrize("text", ['{"a": "\\ud800"}', "[1e999]", "[" * 300 + "]" * 300, "[" * 100_000])
    def test_given_a_value_that_cannot_be_kept_then_it_is_refused_and_others_start(self, api: Api, text: str) -> None:
        namespace, id = api.save(inputs=[{"id": "any", "type": "JSON"}])
        address = f"{MAIN}/executions/{namespace}/{id}"

        refused = api.post(address, files={"any": (None, text)})

        assert refused.status_code == 422, refused.text
        assert refused.json()["message"].startswith("Invalid entity: Input 'any': ")
        assert start(api, namespace, id, inputs={"any": (None, "[1]")})["state"]["current"] == "SUCCESS"

    def test_given_a_body_that_is_no_form_then_it_is_refused_and_nothing_starts(self, api: Api) -> None:
        namespace, id = api.save(inputs=[{"id": "word", "type": "STRING", "defaults": "a"}])
        address = f"{MAIN}/executions/{namespace}/{id}"

        refused = api.post(address, json={"word": "b"})

        assert refused.status_code == 422
        assert refused.json()["message"] == (
            "Invalid format: The body is no form. Send the values as parts of `multipart/form-data`."
        )
        assert api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["total"] == 0
        assert api.post(address, headers={"Content-Type": "application/json"}).status_code == 200
        assert api.post(address, headers={"Content-Type": "multipart/form-data"}).status_code == 200
        assert api.post(address, data={"word": "b"}).json()["inputs"] == {"word": "b"}

    def test_given_a_big_file_then_it_passes_through_without_being_held(self, api: Api, tmp_path: Path) -> None:
        size = 48 * 1024 * 1024
        path = tmp_path / "big"
        with path.open("wb") as file:
            file.truncate(size)
        namespace, id = api.save(inputs=[FILE])

        tracemalloc.start()
        try:
            with path.open("rb") as file:
                response = api.post(f"{MAIN}/executions/{namespace}/{id}", files={"data": ("big", file)})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert api.engine.storage.stat(response.json()["inputs"]["data"]).size == size
        assert peak < size / 3


class TestWaiting:
    def test_given_wait_then_a_pause_does_not_end_it(self, api: Api) -> None:
        namespace, id = api.save(pause(), echo("say", "hello"))
        found: list[Json] = []
        thread = Thread(target=lambda: found.append(start(api, namespace, id)))
        thread.start()
        search = {"namespace": namespace, "state": "PAUSED"}
        until(lambda: api.get(f"{MAIN}/executions/search", params=search).json()["total"] == 1)
        [execution] = api.get(f"{MAIN}/executions/search", params=search).json()["results"]
        assert not found

        api.post(f"{MAIN}/executions/{execution['id']}/resume")
        thread.join()

        assert found[0]["id"] == execution["id"]
        assert found[0]["state"]["current"] == "SUCCESS"
        assert len(found[0]["taskRunList"]) == 2

    def test_given_a_client_that_goes_away_then_nobody_waits_any_more(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.api.execution_starts._LOOK_S", 0.01)
        waiting: list[str] = []
        wait_for_end = api.engine.operations.wait_for_end

        async def noted(execution_id: str) -> Any:
            waiting.append(execution_id)
            try:
                return await wait_for_end(execution_id)
            finally:
                waiting.remove(execution_id)

        monkeypatch.setattr(api.engine.operations, "wait_for_end", noted)
        namespace, id = api.save(pause())

        with pytest.raises(httpx.ReadTimeout):
            api.post(f"{MAIN}/executions/{namespace}/{id}", params={"wait": "true"}, timeout=0.5)

        until(lambda: not waiting)


class TestFollowing:
    def test_given_an_execution_that_waits_then_events_come_at_once_and_end_with_it(self, api: Api) -> None:
        execution = paused(api)
        found: list[tuple[str, Json]] = []

        with api.client.stream("GET", f"{MAIN}/executions/{execution['id']}/follow") as response:
            assert response.headers["x-accel-buffering"] == "no"
            name = ""
            for line in response.iter_lines():
                if line.startswith("id: "):
                    name = line.removeprefix("id: ")
                if line.startswith("data: "):
                    found.append((name, json.loads(line.removeprefix("data: "))))
                    if len(found) == 2:
                        assert found[1][1]["state"]["current"] == "PAUSED"
                        kill(api, execution["id"])

        assert [name for name, _ in found[:2]] == ["start", "progress"]
        assert found[0][1] == {"id": execution["id"], "originalId": execution["id"], "labels": []}
        assert (found[-1][0], found[-1][1]["state"]["current"]) == ("end", "KILLED")

    def test_given_tasks_that_follow_the_end_then_it_ends_after_them(self, api: Api) -> None:
        execution = started(api, wait=False, afterExecution=[echo("last", "x"), echo("very-last", "x")])

        found = list(events(api.get(f"{MAIN}/executions/{execution['id']}/follow")))

        last = json.loads(found[-1][1])
        assert [run["taskId"] for run in last["taskRunList"]] == ["say", "last", "very-last"]
        assert all(run["state"]["current"] == "SUCCESS" for run in last["taskRunList"])

    def test_given_an_end_then_nobody_listens_any_more(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        listening: list[object] = []
        watch = api.engine.watch

        def noted(*given: Any) -> Any:
            stop = watch(*given)
            listening.append(stop)
            return lambda: (stop(), listening.remove(stop))

        monkeypatch.setattr(api.engine, "watch", noted)
        api.get(f"{MAIN}/executions/{started(api)['id']}/follow")
        api.get(f"{MAIN}/executions/{'0' * 22}/follow")
        execution = running(api)
        with api.client.stream("GET", f"{MAIN}/executions/{execution['id']}/follow") as response:
            lines = response.iter_lines()  # kept, as its end would end the response
            next(lines)
            assert len(listening) == 1

        kill(api, execution["id"])

        until(lambda: not listening)


class TestChildren:
    def test_given_a_subflow_then_it_is_found_by_its_parent_and_followed_with_it(self, api: Api) -> None:
        namespace, child = api.save(echo("say", "hello"), id="child")
        subflow = {
            "id": "call",
            "type": f"{CORE}.flow.Subflow",
            "namespace": namespace,
            "flowId": child,
            "wait": True,
        }
        api.save(subflow, namespace=namespace, id="parent")
        parent = start(api, namespace, "parent")

        def found(**query: str) -> list[str]:
            response = api.get(f"{MAIN}/executions/search", params={"namespace": namespace, **query})
            return [one["flowId"] for one in response.json()["results"]]

        assert found(childFilter="CHILD") == found(triggerExecutionId=parent["id"]) == ["child"]
        assert found(childFilter="MAIN") == ["parent"]
        assert sorted(found(labels=f"system.correlationId:{parent['id']}")) == ["child", "parent"]
        told = [
            (name, json.loads(data))
            for name, data in events(api.get(f"{MAIN}/executions/{parent['id']}/follow-dependencies"))
        ]
        assert [(name, data["flowId"]) for name, data in told[1:]] == [
            ("progress", "parent"),
            ("progress", "child"),
            ("end", "parent"),
        ]
        assert told[-1][1]["state"]["current"] == "SUCCESS"
        assert told[-1][1]["tenantId"] == "main"
        called = api.get(f"{MAIN}/executions/search", params={"triggerExecutionId": parent["id"]}).json()["results"][0]
        assert called["trigger"]["variables"] == {
            "executionId": parent["id"],
            "namespace": namespace,
            "flowId": "parent",
            "flowRevision": 1,
            "taskRunId": parent["taskRunList"][0]["id"],
        }


class TestLists:
    def test_given_executions_then_they_are_exported_as_csv(self, api: Api) -> None:
        execution = started(api, labels={"team": 'a "b"'})

        response = api.get(f"{MAIN}/executions/export/by-query/csv", params={"namespace": execution["namespace"]})

        [row] = csv.DictReader(response.text.splitlines())
        assert (row["id"], row["state"], row["flowRevision"]) == (execution["id"], "SUCCESS", "1")
        assert row["labels"].startswith('team:a "b",system.correlationId:')
        assert row["duration"] == execution["state"]["duration"]

    def test_given_a_field_then_its_different_values_are_listed(self, api: Api) -> None:
        execution = started(api)
        address = f"{MAIN}/executions/distinct-field-values"
        within = {"namespace": execution["namespace"]}

        assert api.get(address, params={"field": "flowId", **within}).json() == ["hello"]
        assert api.get(address, params={"field": "state", **within}).json() == ["SUCCESS"]
        assert api.get(address, params={"field": "kind", **within}).json() == ["NORMAL"]
        assert api.get(address, params=within).status_code == 400
        assert api.get(address, params={"field": "startDate"}).status_code == 422

    def test_given_the_kind_normal_then_those_without_another_one_are_meant(self, api: Api) -> None:
        namespace, id = api.save()
        plain = start(api, namespace, id)["id"]
        test = api.post(f"{MAIN}/executions/{namespace}/{id}", params={"kind": "TEST", "wait": "true"}).json()["id"]

        def found(operation: str, value: str) -> set[str]:
            params = {"namespace": namespace, f"filters[kind][{operation}]": value}
            page = api.get(f"{MAIN}/executions/search", params=params).json()
            assert page["total"] == len(page["results"])
            return {one["id"] for one in page["results"]}

        assert found("EQUALS", "NORMAL") == {plain}
        assert found("IN", "NORMAL,TEST") == {plain, test}
        assert found("IN", "TEST,LOOP") == {test}
        assert found("NOT_EQUALS", "NORMAL") == {test}
        assert found("NOT_IN", "NORMAL,TEST") == set()
        assert found("NOT_EQUALS", "TEST") == {plain}

    def test_given_only_flags_to_keep_then_logs_and_files_of_a_deleted_execution_stay(self, api: Api) -> None:
        namespace, id = api.save(inputs=[FILE])
        executions = [start(api, namespace, id, inputs={"data": ("x", b"x")}) for _ in range(2)]

        api.delete(f"{MAIN}/executions/{executions[0]['id']}", params={"deleteStorage": "false"})
        api.delete(f"{MAIN}/executions/{executions[1]['id']}")

        assert [uri.split("/")[7] for uri in stored(api, namespace)] == [executions[0]["id"]]


class TestWebhooks:
    HOOK = {"type": f"{CORE}.trigger.Webhook"}

    def test_given_a_login_then_webhooks_need_none_and_others_do(self, home: Home) -> None:
        with Api(home, login=Login(username="me@example.com", password="Secret123")) as api:
            api.client.auth = ("me@example.com", "Secret123")
            namespace, id = api.save(triggers=[{"id": "hook", "key": "sesame", **self.HOOK}])
            api.client.auth = None

            response = api.post(f"{MAIN}/executions/webhook/{namespace}/{id}/sesame")

            assert response.status_code == 200
            assert api.get(f"{MAIN}/executions/{response.json()['id']}").status_code == 401

    @pytest.mark.parametrize("levels", [101, 300, 100_000])
    def test_given_a_body_that_is_nested_too_deep_then_it_is_a_text(self, api: Api, levels: int) -> None:
        namespace, id = api.save(triggers=[{"id": "hook", "key": "sesame", **self.HOOK}])
        body = "[" * levels + "]" * levels

        execution = api.post(f"{MAIN}/executions/webhook/{namespace}/{id}/sesame", content=body).json()

        assert in_state(api, execution["id"], "SUCCESS")["trigger"]["variables"]["body"] == body

    def test_given_a_word_of_the_api_then_it_is_no_namespace_that_needs_no_login(self, home: Home) -> None:
        with Api(home, login=Login(username="me@example.com", password="Secret123")) as api:
            api.client.auth = ("me@example.com", "Secret123")
            _, id = api.save(namespace="webhook")
            api.client.auth = None

            assert api.post(f"{MAIN}/executions/webhook/{id}").status_code == 404
            assert api.post(f"{MAIN}/executions/webhook/{id}/validate").status_code == 404

    def test_given_several_webhooks_then_the_key_tells_which_one_is_meant(self, api: Api) -> None:
        hooks = [{"id": name, "key": f"key of {name}", **self.HOOK} for name in ("one", "two")]
        namespace, id = api.save(triggers=hooks)

        response = api.get(f"{MAIN}/executions/webhook/{namespace}/{id}/key%20of%20two")

        assert response.json()["trigger"]["id"] == "two"

    def test_given_a_key_that_is_a_secret_then_it_is_not_told(
        self, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_HOOK", base64.b64encode(b"open sesame").decode())
        with Api(home) as api:
            keyed = {"id": "hook", "key": "{{ secret('HOOK') }}", **self.HOOK}
            unknown = {"id": "other", "key": "{{ secret('NONE') }}", **self.HOOK}
            namespace, id = api.save(triggers=[unknown, keyed])

            response = api.post(f"{MAIN}/executions/webhook/{namespace}/{id}/open%20sesame")

            assert response.json()["trigger"]["id"] == "hook"
            assert api.post(f"{MAIN}/executions/webhook/{namespace}/{id}/").status_code == 404

    def test_given_inputs_that_a_webhook_cannot_give_then_it_is_refused(self, api: Api) -> None:
        hook = {"id": "hook", "key": "sesame", **self.HOOK}
        namespace, id = api.save(triggers=[hook], inputs=[{"id": "n", "type": "INT"}])

        assert api.get(f"{MAIN}/executions/webhook/{namespace}/{id}/sesame").status_code == 422

    def test_given_a_flow_that_is_disabled_then_that_is_what_is_told(self, api: Api) -> None:
        namespace, id = api.save(triggers=[{"id": "hook", "key": "sesame", **self.HOOK}], disabled=True)

        response = api.post(f"{MAIN}/executions/webhook/{namespace}/{id}/sesame")

        assert response.status_code == 409
        assert response.json()["message"] == (
            f"Illegal state: The flow {namespace}.{id} is disabled. Remove `disabled: true` to run it."
        )

    def test_given_many_requests_at_once_then_each_starts_one_execution(self, api: Api) -> None:
        namespace, id = api.save(triggers=[{"id": "hook", "key": "sesame", **self.HOOK}])
        found: list[str] = []

        def ask() -> None:
            with httpx.Client(base_url=api.server.address, timeout=30) as client:
                for number in range(5):
                    response = client.post(f"{MAIN}/executions/webhook/{namespace}/{id}/sesame", json=[number])
                    found.append(response.json()["id"])

        threads = [Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(found)) == 20
        searched = api.get(f"{MAIN}/executions/search", params={"namespace": namespace, "size": "100"}).json()
        assert {one["id"] for one in searched["results"]} == set(found)


def test_given_a_flow_that_cannot_be_read_then_it_is_not_started(api: Api) -> None:
    namespace, id = api.save()
    text = flow({"id": "x", "type": "no.such.Type"}, namespace=namespace, id=id)
    api.engine.call(save_as_it_is(api, namespace, id, text))

    assert api.post(f"{MAIN}/executions/{namespace}/{id}").status_code == 409
    assert api.post(f"{MAIN}/executions/{namespace}/{id}/validate").status_code == 409
    api.save(namespace=namespace, id="other")
    listed = api.get(f"{MAIN}/executions/namespaces/{namespace}/flows")
    assert [one["id"] for one in listed.json()] == ["other"]


async def save_as_it_is(api: Api, namespace: str, id: str, text: str) -> None:
    from datetime import UTC, datetime

    await api.engine._store.flows.save(namespace, id, text, datetime.now(UTC))


def test_given_a_revision_then_that_one_runs(api: Api) -> None:
    namespace, id = api.save(echo("say", "old"))
    api.put(f"{MAIN}/flows/{namespace}/{id}", content=flow(echo("say", "new"), namespace=namespace, id=id))

    old = api.post(f"{MAIN}/executions/{namespace}/{id}", params={"revision": "1", "wait": "true"}).json()
    new = api.post(f"/api/v1/executions/trigger/{namespace}/{id}", params={"wait": "true"}).json()

    assert [run_of(one, "say")["outputs"]["value"] for one in (old, new)] == ["old", "new"]
    assert look(api, old["id"])["flowRevision"] == 1
    assert in_state(api, new["id"], "SUCCESS")["flowRevision"] == 2
