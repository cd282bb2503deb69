"""Files of executions and expressions tried out on them: what must never come out, does not."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.storage import execution_path
from tests.apis import MAIN, Api
from tests.flows import CORE, echo, flow
from tests.homes import Home

KEY = "open-sesame-1234"


@pytest.fixture
def api(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("SECRET_API_KEY", b64encode(KEY.encode()).decode())
    with Api(home) as served:
        yield served


def ran(api: Api, *tasks: object, **properties: object) -> str:
    return api.home.run(flow(*(tasks or (echo("say", "hello"),)), **properties)).execution.id  # pyright: ignore[reportArgumentType]


def evaluated(api: Api, execution_id: str, expression: str, task_run_id: str = "") -> str:
    address = f"{MAIN}/executions/{execution_id}/actions/eval"
    return api.post(f"{address}/{task_run_id}" if task_run_id else address, content=expression).text


class TestExpressions:
    @pytest.mark.parametrize(
        "expression",
        [
            "{{ secret('API_KEY') }}",
            "{{ secret('api_key') | upper }}",
            "{{ secret('API_KEY') | reverse }}",
            "{{ secret('API_KEY') | slice(0, 6) }}",
            "{{ secret('API_KEY') | base64encode }}",
            "{{ secret('API_KEY') | replace({'-': ' '}) }}",
            "{% for letter in secret('API_KEY') | split('') %}{{ letter }} {% endfor %}",
            "{{ render('{' ~ '{ secret(\"API_KEY\") | upper }' ~ '}') }}",
            "{{ kv('stored') }}",
            "{{ kv('stored') | upper }}",
            "{{ kv('stored').inner }}",
            "{{ outputs.say.value }}",
            "{{ outputs.say.value | upper }}",
            "{{ outputs }}",
            "{{ inputs.password | upper }}",
            "{{ vars.key }} {{ render(vars.key) | upper }}",
            "{{ secret('API_KEY') | toJson | nothing }}",
            "{{ kv(secret('API_KEY'), errorOnMissing=true) }}",
        ],
    )
    def test_given_a_secret_then_no_expression_brings_it_out(self, api: Api, expression: str) -> None:
        api.engine.call(api.engine.operations.set_key_value("tests", "stored", {"inner": f"key {KEY}"}))
        execution_id = ran(
            api,
            echo("say", "{{ secret('API_KEY') }} {{ inputs.password }}"),
            inputs=[{"id": "password", "type": "SECRET", "defaults": f"pass-{KEY}"}],
            variables={"key": "{{ secret('API_KEY') }}"},
        )

        found = evaluated(api, execution_id, expression).lower()

        encoded = b64encode(KEY.encode()).decode().lower()
        for hidden in (KEY, KEY[::-1], "open-s", "sesame", "s e s a m e", encoded, encoded[:12]):
            assert hidden not in found

    def test_given_no_such_secret_then_it_is_told(self, api: Api) -> None:
        assert "There is no secret" in evaluated(api, ran(api), "{{ secret('OTHER') }}")

    def test_given_what_tasks_see_then_expressions_see_it_too(self, api: Api) -> None:
        api.engine.call(api.engine.operations.set_key_value("tests", "stored", "x"))
        execution_id = ran(api, labels={"team": "a"}, variables={"word": "v"})

        found = evaluated(
            api, execution_id, "{{ kv('stored') }} {{ labels.team }} {{ vars.word }} {{ execution.state }}"
        )

        assert found == '{"result":"x a v SUCCESS"}'

    def test_given_an_expression_without_end_then_it_is_stopped(self, api: Api) -> None:
        found = evaluated(api, ran(api), "{% for a in range(1, 1000000000) %}x{% endfor %}")

        assert '"error"' in found


class TestNames:
    def test_given_an_editor_then_it_learns_filters_and_functions(self, api: Api) -> None:
        assert "upper" in api.get("/api/v1/pebble/filters").json()
        assert {"secret", "kv", "now"} <= set(api.get("/api/v1/pebble/functions").json())


def test_given_filters_then_the_flows_are_listed_as_csv(api: Api) -> None:
    api.save(namespace="company.sales", labels={"team": "a"}, description="=1+1")
    api.save(namespace="other")

    found = api.get(f"{MAIN}/flows/export/by-query/csv", params={"namespace": "company"})

    header, row = found.text.splitlines()
    assert header.startswith("id,namespace,revision,")
    assert row.startswith("hello,company.sales,1,'=1+1,False,team:a,")
    assert 'filename="flows.csv"' in found.headers["content-disposition"]


class TestFiles:
    def put(self, api: Api, execution_id: str, name: str, content: bytes) -> str:
        path = f"{execution_path('tests', 'scenario', execution_id)}/{name}"
        return api.engine.storage.put(path, io.BytesIO(content))

    def test_given_rows_then_they_come_as_json_lines(self, api: Api) -> None:
        execution_id = ran(api)
        rows = self.put(api, execution_id, "rows.ion", b'{at: 2030-01-01T00:00:00Z, "n": 1}\n{n: 2}\n')
        broken = self.put(api, execution_id, "broken.ion", b"{a: ")
        address = f"{MAIN}/executions/{execution_id}/file"

        found = api.get(address, params={"path": rows, "format": "jsonl"})

        assert [line[:20] for line in found.text.splitlines()] == ['{"at":"2030-01-01T00', '{"n":2}']
        assert 'filename="rows.jsonl"' in found.headers["content-disposition"]
        assert api.get(address, params={"path": broken, "format": "JSONL"}).status_code == 422
        assert api.get(f"{address}/preview", params={"path": broken}).status_code == 422
        assert api.get(address, params={"path": rows, "format": "XML"}).status_code == 422

    def test_given_a_long_file_then_it_comes_whole_and_in_parts(self, api: Api) -> None:
        execution_id = ran(api)
        content = bytes(range(256)) * 4096
        uri = self.put(api, execution_id, "a b#ä.bin", content)
        address = f"{MAIN}/executions/{execution_id}/file"

        assert api.get(address, params={"path": uri}).content == content
        for asked, part in (
            ("bytes=0-0", content[:1]),
            ("bytes=1000000-", content[1_000_000:]),
            ("bytes=-5", content[-5:]),
            ("bytes=1048575-9999999", content[-1:]),
        ):
            found = api.get(address, params={"path": uri}, headers={"Range": asked})
            assert (found.status_code, found.content) == (206, part)
        assert api.get(address, params={"path": uri}, headers={"Range": "bytes=0-1,5-6"}).content == content
        shown = api.get(f"{address}/preview", params={"path": uri.replace("%23", "#")})
        assert shown.json()["extension"] == "bin"

    def test_given_a_link_that_leads_out_then_it_is_not_followed(self, api: Api, tmp_path: Path) -> None:
        execution_id = ran(api)
        uri = self.put(api, execution_id, "in/a.txt", b"a")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "secret.txt").write_text("private")
        folder = api.engine.storage.path_of(uri).parent
        (folder / "file").symlink_to(outside / "secret.txt")
        (folder / "folder").symlink_to(outside)

        for path in (uri.replace("a.txt", "file"), uri.replace("a.txt", "folder/secret.txt")):
            found = api.get(f"{MAIN}/executions/{execution_id}/file", params={"path": path})
            assert found.status_code in (404, 422)
            assert "private" not in found.text

    def test_given_a_file_of_another_execution_then_the_way_there_keeps_what_was_asked(self, api: Api) -> None:
        execution_id, other = ran(api), ran(api)
        uri = self.put(api, other, "a.txt", b"1\n2\n3\n")
        fake = self.put(api, execution_id, f"executions/{other}/x.txt", b"own")

        found = api.get(
            f"{MAIN}/executions/{execution_id}/file/preview",
            params={"path": uri, "maxRows": "2"},
            follow_redirects=True,
        )
        own = api.get(f"{MAIN}/executions/{execution_id}/file", params={"path": fake})

        assert found.json()["content"] == "1\n2\n"
        assert own.content == b"own"

    def test_given_outputs_with_a_secret_then_they_are_masked(self, api: Api) -> None:
        execution_id = ran(api, {"id": "say", "type": f"{CORE}.debug.Return", "format": "{{ secret('API_KEY') }}"})

        for address in (f"outputs/tasks/{execution_id}", f"outputs/executions/{execution_id}"):
            assert KEY not in api.get(f"{MAIN}/{address}").text
        run_id = api.get(f"{MAIN}/outputs/tasks/{execution_id}").json()[0]["taskRunId"]
        for address in (f"outputs/tasks/{execution_id}/{run_id}", f"outputs/{execution_id}/{run_id}"):
            found = api.get(f"{MAIN}/{address}")
            assert found.json()["value"]
            assert KEY not in found.text
        assert api.get(f"{MAIN}/outputs/{execution_id}").json() == {}
