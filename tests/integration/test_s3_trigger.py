"""aws.s3.Trigger through the whole engine, against a server process that checks who asks."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from tercel.model import Execution
from tercel.scheduler import problem_of
from tercel.store import ExecutionQuery, TriggerState
from tests.command_line import tercel
from tests.desks import Desk
from tests.flows import echo, flow
from tests.homes import Home, Ran, until
from tests.s3 import S3Server

TRIGGER = "io.kestra.plugin.aws.s3.Trigger"
READ = "{{ read(trigger.objects | jq('.[].uri') | first) }}"


class Inbox:
    """A bucket for one test, and a flow that waits for objects there."""

    def __init__(self, server: S3Server, home: Home, caplog: pytest.LogCaptureFixture) -> None:
        self.server = server
        self.bucket = server.bucket("inbox")
        self.desk = Desk(home)
        self.engine = home.engine
        self._log = caplog

    def trigger(self, **properties: Any) -> dict[str, Any]:
        given = {"action": "NONE", "interval": "PT0.05S", **properties}
        return {"id": "objects", "type": TRIGGER, "bucket": self.bucket, **self.server.login, **given}

    def begin(self, say: str = READ, **properties: Any) -> None:
        self.desk.save(flow(echo("say", say), id="owner", triggers=[self.trigger(**properties)]))
        self.engine.schedule()

    def put(self, **objects: bytes | str) -> None:
        self.server.put(self.bucket, {key.replace("__", "/"): content for key, content in objects.items()})

    def keys(self) -> list[str]:
        return self.server.keys(self.bucket)

    def executions(self) -> list[Execution]:
        found = self.engine.call(self.engine.queries.search_executions(ExecutionQuery(flow_id="owner", limit=1000)))
        return sorted(found, key=lambda execution: execution.id)

    def ended(self, count: int) -> list[Ran]:
        """The executions, once there are *count* and all have ended, and what they were started for is settled."""
        until(lambda: len([one for one in self.executions() if not one.is_open]) >= count)
        until(lambda: "settleAt" not in self.state.detail)
        return [self.desk.ran(one.id) for one in self.executions()]

    def taken(self) -> list[list[tuple[str, str]]]:
        """Keys and kinds of change, by execution."""
        return [[(one["key"], one["changeType"]) for one in objects_of(each)] for each in self.executions()]

    @property
    def state(self) -> TriggerState:
        [state] = self.engine.call(self.engine.queries.trigger_states())
        return state

    @property
    def is_evaluated(self) -> bool:
        states = self.engine.call(self.engine.queries.trigger_states())
        return bool(states) and "evaluatedAt" in states[0].detail

    def pass_evaluations(self, count: int = 2) -> None:
        """Wait until it was evaluated *count* times more."""
        for _ in range(count):
            before = self.state.detail.get("evaluatedAt")
            until(lambda before=before: self.state.detail.get("evaluatedAt") != before)

    def said(self, text: str) -> bool:
        return text in self._log.text

    def said_times(self, text: str) -> int:
        return self._log.text.count(text)


def objects_of(execution: Execution) -> list[dict[str, Any]]:
    return cast("dict[str, Any]", execution.trigger)["variables"]["objects"]


@pytest.fixture
def inbox(s3_server: S3Server, home: Home, caplog: pytest.LogCaptureFixture) -> Inbox:
    return Inbox(s3_server, home, caplog)


def test_given_a_folder_marker_and_max_keys_of_one_when_moved_then_each_object_starts_one_execution(
    inbox: Inbox,
) -> None:
    inbox.server.put(inbox.bucket, {"raw/": b"", "raw/a b.csv": b"one", "raw/deep/c.csv": b"two", "other": b"no"})

    inbox.begin(prefix="raw/", filter="FILES", maxKeys=1, action="MOVE", moveTo={"key": "archive/raw/"})
    ran = inbox.ended(2)

    assert [one.run_of("say").outputs["value"] for one in ran] == ["one", "two"]
    assert inbox.keys() == ["archive/raw/a b.csv", "archive/raw/c.csv", "other", "raw/"]
    [first] = objects_of(ran[0].execution)
    assert set(first) == {"uri", "key", "etag", "size", "lastModified", "owner", "changeType"}
    assert (first["key"], first["size"], first["changeType"]) == ("raw/a b.csv", 3, "CREATE")
    prefix = f"kestra:///tests/owner/executions/{ran[0].execution.id}/trigger/objects/"
    assert first["uri"].startswith(prefix)
    assert first["uri"].endswith(".csv")
    inbox.pass_evaluations()
    assert len(inbox.executions()) == 2


def test_given_delete_then_all_that_is_found_at_once_starts_one_execution_and_is_gone(inbox: Inbox) -> None:
    inbox.put(a="1", b="2", c="3")

    inbox.begin(action="DELETE")
    inbox.ended(1)

    assert inbox.taken() == [[("a", "CREATE"), ("b", "CREATE"), ("c", "CREATE")]]
    assert inbox.keys() == []
    assert inbox.state.detail["memory"]["known"] == ""


def test_given_none_then_an_object_starts_one_execution_until_it_is_written_anew(inbox: Inbox) -> None:
    inbox.put(a="1")

    inbox.begin()
    inbox.ended(1)
    inbox.pass_evaluations()
    inbox.put(b="1")
    inbox.ended(2)
    inbox.put(a="22")
    inbox.ended(3)
    inbox.pass_evaluations()

    assert inbox.taken() == [[("a", "CREATE")], [("b", "CREATE")], [("a", "UPDATE")]]
    assert inbox.keys() == ["a", "b"]


def test_given_none_then_what_is_no_longer_there_is_forgotten(inbox: Inbox) -> None:
    inbox.put(**{f"k{number}": "x" for number in range(5)})
    inbox.begin()
    inbox.ended(1)
    full = len(inbox.state.detail["memory"]["known"])

    for number in range(4):
        inbox.server.client.delete_object(Bucket=inbox.bucket, Key=f"k{number}")
    inbox.pass_evaluations()
    left = len(inbox.state.detail["memory"]["known"])
    inbox.put(k0="x")
    inbox.ended(2)

    assert (full, left) == (len("12:") + 5 * 16, len("12:") + 16)
    assert inbox.taken()[1] == [("k0", "CREATE")]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("CREATE", [("new", "CREATE")]),
        ("UPDATE", [("old", "UPDATE")]),
    ],
)
def test_given_on_then_only_those_changes_count(inbox: Inbox, on: str, expected: list[tuple[str, str]]) -> None:
    inbox.put(old="1")
    inbox.begin(on=on)
    until(lambda: inbox.is_evaluated)
    first = len(inbox.ended(1 if on == "CREATE" else 0))
    inbox.put(old="22")
    inbox.put(new="1")
    inbox.ended(first + 1)
    inbox.pass_evaluations()

    assert inbox.taken()[first:] == [expected]


def test_given_max_size_then_larger_objects_are_passed_over_with_one_warning(inbox: Inbox) -> None:
    inbox.put(large="1234", small="123")

    inbox.begin(maxSize=3, action="DELETE")
    inbox.ended(1)
    inbox.pass_evaluations(3)

    assert inbox.taken() == [[("small", "CREATE")]]
    assert inbox.keys() == ["large"]
    assert inbox.said_times("1 objects have more bytes than maxSize allows: they are passed over.") <= 1


def test_given_no_download_then_objects_have_no_uri(inbox: Inbox) -> None:
    inbox.put(a="1")

    inbox.begin(say="{{ trigger.objects | jq('.[].key') | first }}", download=False, action="DELETE")
    [ran] = inbox.ended(1)

    assert ran.run_of("say").outputs["value"] == "a"
    assert objects_of(ran.execution)[0]["uri"] is None
    assert [path for path in (inbox.desk.home.root / "storage").rglob("*/trigger/*/*")] == []


def test_given_an_expression_in_move_to_then_it_sees_the_object(inbox: Inbox) -> None:
    other = inbox.server.bucket("archive")
    inbox.put(**{"in__a.csv": "1"})

    inbox.begin(action="MOVE", moveTo={"key": "{{ object.size }}/{{ flow.id }}/", "bucket": other})
    inbox.ended(1)

    assert inbox.server.keys(other) == ["1/owner/a.csv"]
    assert inbox.keys() == []


def test_given_an_archive_among_what_is_listed_then_objects_there_start_nothing(inbox: Inbox) -> None:
    inbox.put(a="1")

    inbox.begin(action="MOVE", moveTo={"key": "archive"})
    inbox.ended(1)
    inbox.pass_evaluations()

    assert inbox.taken() == [[("a", "CREATE")]]
    assert inbox.keys() == ["archive/a"]


def test_given_more_than_a_page_of_known_objects_then_a_new_one_behind_them_is_found(inbox: Inbox) -> None:
    from tercel.plugins.aws.memory import KnownObjects

    inbox.server.put(inbox.bucket, {f"k{number:04}": b"" for number in range(1005)})
    inbox.begin(download=False, maxKeys=1000, say="{{ trigger.objects | length }}")
    ran = inbox.ended(2)
    inbox.put(zz="1")
    ran = inbox.ended(3)

    assert [one.run_of("say").outputs["value"] for one in ran] == ["1000", "5", "1"]
    assert len(KnownObjects(inbox.state.detail["memory"]["known"])) == 1006


def test_given_another_state_key_then_the_trigger_begins_anew(inbox: Inbox) -> None:
    inbox.put(a="1")
    inbox.begin(stateKey="one")
    inbox.ended(1)

    inbox.begin(stateKey="two", stateTtl="P1D")
    inbox.ended(2)

    assert inbox.taken() == [[("a", "CREATE")], [("a", "CREATE")]]


def test_given_a_ttl_that_has_passed_then_an_object_counts_as_new(inbox: Inbox) -> None:
    inbox.put(a="1")

    inbox.begin(stateTtl="PT1S")
    inbox.ended(2)

    assert inbox.taken()[:2] == [[("a", "CREATE")], [("a", "CREATE")]]


def test_given_an_object_written_again_before_it_is_settled_then_it_stays_and_starts_the_next(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tercel.plugins.aws import trigger

    inbox.put(a="1")
    real = trigger.act
    calls: list[str] = []

    def act(*arguments: Any) -> bool:
        calls.append(arguments[1].key)
        if len(calls) == 1:
            inbox.put(a="22")
        return real(*arguments)

    monkeypatch.setattr(trigger, "act", act)
    inbox.begin(action="DELETE")
    ran = inbox.ended(2)

    assert [one.run_of("say").outputs["value"] for one in ran] == ["1", "22"]
    assert inbox.taken() == [[("a", "CREATE")], [("a", "UPDATE")]]
    assert inbox.keys() == []
    assert inbox.said("was written again since it was taken: it stays.")


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"secretKeyId": "hunter2-hunter2"}, "SignatureDoesNotMatch"),
        ({"accessKeyId": "AKIANOBODY"}, "InvalidAccessKeyId"),
        ({"bucket": "no-such-bucket-here"}, "There is no bucket 'no-such-bucket-here'."),
        ({"regexp": "("}, "regexp '(' is no regular expression"),
        ({"moveTo": {"key": "{{ object.none.none }}"}, "action": "MOVE"}, "none"),
    ],
)
def test_given_what_goes_wrong_then_the_log_says_so_and_it_is_tried_again(
    inbox: Inbox, properties: dict[str, Any], said: str
) -> None:
    inbox.put(a="1")

    inbox.begin(**properties)
    until(lambda: inbox.said_times("The evaluation failed: ") >= 2)

    assert said in problem_of(inbox.state)
    assert inbox.said(said)
    assert not inbox.said("hunter2")
    assert inbox.executions() == []
    assert inbox.keys() == ["a"]


def test_given_nobody_who_answers_then_the_log_says_so(inbox: Inbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

    inbox.begin(endpointOverride=address)

    until(lambda: inbox.said(f"The evaluation failed: There is no connection to {address}"))


def test_given_a_move_that_is_refused_then_it_is_tried_until_it_works_and_nothing_starts_twice(inbox: Inbox) -> None:
    target = f"{inbox.bucket}-archive"
    inbox.put(a="1")

    inbox.begin(action="MOVE", moveTo={"key": "x", "bucket": target})
    until(lambda: inbox.said("What it has found could not be settled: "))
    inbox.server.make(target)
    until(lambda: inbox.server.keys(target) == ["x/a"] and inbox.keys() == [])
    inbox.pass_evaluations()

    assert inbox.taken() == [[("a", "CREATE")]]


def test_given_the_command_that_tests_a_trigger_then_nothing_is_taken(tmp_path: Path, s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.put(bucket, {"a": "1"})
    path = tmp_path / "flow.yaml"
    trigger = {"id": "t", "type": TRIGGER, "bucket": bucket, "action": "DELETE", **s3_server.login}
    path.write_text(flow(echo("say", "x"), id="owner", triggers=[trigger]))
    home = tmp_path / "home"
    assert tercel("flow", "save", path, home=home).returncode == 0

    done = tercel("trigger", "test", "owner", "t", home=home)

    assert done.returncode == 0, done.stderr
    [one] = json.loads(done.stdout)["objects"]
    assert (one["key"], one["changeType"]) == ("a", "CREATE")
    assert s3_server.keys(bucket) == ["a"]
    assert [each for each in (home / "storage").rglob("*") if each.is_file()] == []


def test_given_a_move_to_nowhere_or_no_action_then_the_flow_is_refused(inbox: Inbox) -> None:
    nowhere = flow(echo("say", "x"), triggers=[inbox.trigger(action="MOVE")])
    no_ttl = flow(echo("say", "x"), triggers=[inbox.trigger(stateTtl="soon")])

    [issue] = inbox.desk.home.issues(nowhere)
    [other] = inbox.desk.home.issues(no_ttl)

    assert "MOVE needs 'moveTo'." in issue.text
    assert "stateTtl: " in other.text
