"""Functions of expressions that reach outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tercel.model import LogEntry, LogLevel, State
from tercel.plugins.debug import Return
from tercel.secrets import Secrets
from tests.job_runners import Bench
from tests.key_values import KeptKeyValues

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeptKeyValues]:
    with KeptKeyValues(tmp_path) as kept:
        kept.set("company.team", "k", {"a": 1})
        kept.set("company.team", "time", timedelta(minutes=90))
        kept.set("company.team", "expired", "v", ttl=timedelta(0))
        kept.set("other", "k", "theirs")
        yield kept


@pytest.fixture
def bench(tmp_path: Path, keys: KeptKeyValues) -> Bench:
    bench = Bench(
        tmp_path,
        clock=lambda: NOON,
        secrets=Secrets({"PW": "p4ss", "JSON": '{"user": "ann", "n": 12345}'}),
        key_values=keys,
        error_logs=lambda execution_id: [
            LogEntry(execution_id=execution_id, date=NOON, level=LogLevel.ERROR, message="boom", task_id="t")
        ],
    )
    bench.namespace_files({"sub/file.txt": "content é", "empty": "", "t.txt": "{{ flow.id }}"})
    bench.namespace_files({"x": "theirs"}, "other")
    bench.put("/company/team/flow/executions/execution/tasks/t/r/f.txt", b"own")
    bench.put("/company/team/flow/executions/original/tasks/t/r/f.txt", b"replayed")
    bench.put("/p/q/parent-flow/executions/pe/tasks/t/r/f.txt", b"parent")
    bench.put("/other/f/executions/e/tasks/t/r/f.txt", b"foreign")
    bench.put("/company/team/flow/executions/execution/bytes", b"\xff\xfe")
    return bench


def rendered(bench: Bench, template: str, **variables: object) -> object:
    result = bench.run(Return(id="r", type="R", format=template), variables=variables)
    assert result.state is State.SUCCESS, result.message
    return result.outputs["value"]


def refused(bench: Bench, template: str, **variables: object) -> str:
    result = bench.run(Return(id="r", type="R", format=template), variables=variables)
    assert result.state is State.FAILED
    return result.message


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ secret('pw') }}", "p4ss"),
        ("{{ secret('JSON', subkey='user') }}", "ann"),
        ("{{ kv('k').a }}", "1"),
        ("{{ kv('k', 'other') }}", "theirs"),
        ("{{ kv('none') ?? 'd' }}", "d"),
        ("{{ kv('expired') ?? 'd' }}", "d"),
        ("{{ kv('k', errorOnMissing=true).a }}", "1"),
        ("{{ kv('time') }}", "PT1H30M"),
        ("{{ read('sub/file.txt') }}", "content é"),
        ("{{ read('/t.txt') }}", "{{ flow.id }}"),
        ("{{ read('x', 'other') }}", "theirs"),
        ("{{ read('nsfile:///sub/file.txt') }}", "content é"),
        ("{{ read(fileURI('sub/file.txt')) }}", "content é"),
        ("{{ read('kestra:///company/team/flow/executions/execution/tasks/t/r/f.txt') }}", "own"),
        ("{{ read('sub/file.txt', version=1) }}", "content é"),
        ("{{ fileURI('/sub/file.txt') }}", "kestra:///company/team/_files/sub/file.txt"),
        ("{{ fileSize('sub/file.txt') }}", "10"),
        ("{{ fileExists('sub/file.txt') }} {{ fileExists('no') }}", "true false"),
        ("{{ isFileEmpty('empty') }}", "true"),
        ("{{ errorLogs() | length }} {{ errorLogs()[0].message }} {{ errorLogs()[0].taskId }}", "1 boom t"),
        ("{{ now('yyyy-MM-dd') }}", "2030-01-01"),
        ("{{ randomInt(3, 4) }}", "3"),
    ],
)
def test_given_a_function_then_it_gives(bench: Bench, template: str, value: str) -> None:
    assert rendered(bench, template) == value


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ secret('nope') }}", "SECRET_NOPE"),
        ("{{ secret('PW', subkey='a') }}", "'PW' is not a JSON object"),
        (
            "{{ kv('zz', errorOnMissing=true) }}",
            "There is no key 'zz' in namespace 'company.team', or it has expired",
        ),
        ("{{ kv('expired', errorOnMissing=true) }}", "There is no key 'expired'"),
        ("{{ kv('time', 'other', true) }}", "There is no key 'time' in namespace 'other'"),
        ("{{ read('sub/file.txt', version=2) }}", "There is no version 2 of the namespace file 'sub/file.txt'"),
        (
            "{{ read('kestra:///company/team/flow/executions/execution/tasks/t/r/f.txt', version=1) }}",
            "has no versions: only namespace files have",
        ),
        ("{{ read('t.txt', version='x') }}", "version"),
        ("{{ read('nope.txt') }}", "nope.txt"),
        ("{{ read('../x') }}", ".."),
        ("{{ read('kestra:///other/f/executions/e/tasks/t/r/f.txt') }}", "belongs to another execution"),
        ("{{ read('kestra:///company/team/flow/executions/execution/bytes') }}", "not UTF-8"),
        ("{{ fileURI('a/../../x') }}", ".."),
    ],
)
def test_given_what_cannot_be_then_the_message_says_so(bench: Bench, template: str, said: str) -> None:
    assert said in refused(bench, template)


def test_given_a_replay_or_a_trigger_then_their_executions_files_may_be_read(bench: Bench) -> None:
    original = {"execution": {"id": "execution", "originalId": "original"}}
    parent = {"trigger": {"executionId": "pe", "namespace": "p.q", "flowId": "parent_flow"}}

    own = "{{ read('kestra:///company/team/flow/executions/original/tasks/t/r/f.txt') }}"
    theirs = "{{ read('kestra:///p/q/parent-flow/executions/pe/tasks/t/r/f.txt') }}"

    assert rendered(bench, own, **original) == "replayed"
    assert rendered(bench, theirs, **parent) == "parent"
    assert "another execution" in refused(bench, own)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{{ uuid() }}", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
        ("{{ id() }}", r"[0-9A-Za-z]{22}"),
        ("{{ nanoId() }}", r"[-_0-9A-Za-z]{21}"),
        ("{{ nanoId(5, 'ab') }}", r"[ab]{5}"),
        ("{{ ksuid() }}", r"[0-9A-Za-z]{27}"),
        ("{{ randomPort() }}", r"\d{4,5}"),
    ],
)
def test_given_chance_then_each_call_differs_but_for_its_form(bench: Bench, template: str, form: str) -> None:
    first, second = str(rendered(bench, template)), str(rendered(bench, template))

    assert re.fullmatch(form, first)
    assert first != second or len(first) < 10


def test_given_a_secret_given_out_then_it_is_masked_afterwards(bench: Bench) -> None:
    rendered(bench, "{{ secret('JSON', subkey='n') }} {{ secret('PW') }}")

    assert bench.records.messages(LogLevel.DEBUG) == ["***** ****"]
