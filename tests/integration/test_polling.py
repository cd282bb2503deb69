"""Polling triggers through the whole engine: HTTP answers of every kind, schedulers side by side, processes killed."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, cast

import pytest

from tercel.model import Execution
from tercel.scheduler import problem_of
from tercel.server import Engine, Home, open_home, read_home
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery
from tests import homes
from tests.command_line import command, environment, tercel
from tests.desks import Desk
from tests.flows import echo, flow
from tests.homes import until
from tests.postgres import postgres_database
from tests.servers import Answer, http_server, stalling_server
from tests.triggers import poll

OWNER = ("company.team", "owner")


def a_text(*triggers: dict[str, Any], say: str = "{{ trigger.body }}") -> str:
    return flow(echo("say", say), id=OWNER[1], namespace=OWNER[0], triggers=list(triggers))


def executions(home: Home) -> list[Execution]:
    """The executions of the flow, oldest first."""
    found = home.call(home.queries.search_executions(ExecutionQuery(flow_id=OWNER[1], limit=1000)))
    return sorted(found, key=lambda execution: execution.id)


def trigger_of(execution: Execution) -> dict[str, Any]:
    return cast("dict[str, Any]", execution.trigger)["variables"]


class Served:
    """An HTTP server that answers with a number of its own each time, and knows how many asked at once."""

    def __init__(self, status: int = 200, pause_s: float = 0.0) -> None:
        self.status = status
        self.pause_s = pause_s
        self.bodies: list[str] = []
        self.active = 0
        self.most = 0
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self._lock:
            self.active += 1
            self.most = max(self.most, self.active)
            self.bodies.append(str(len(self.bodies)))
            said = self.bodies[-1]
        threading.Event().wait(self.pause_s)
        with self._lock:
            self.active -= 1
        return self.status, {"Content-Type": "text/plain", "X-Told": "yes"}, said.encode()


class Told:
    """A desk whose server's log is kept."""

    def __init__(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        self.desk = desk
        self.engine = desk.home.engine
        self._log = caplog

    def begin(self, *triggers: dict[str, Any], **properties: Any) -> None:
        self.desk.save(a_text(*triggers, **properties))
        self.engine.schedule()

    def said(self, text: str) -> bool:
        return text in self._log.text

    @property
    def problem(self) -> str:
        [state] = self.engine.call(self.engine.queries.trigger_states())
        return problem_of(state)


@pytest.fixture
def told(home: homes.Home, caplog: pytest.LogCaptureFixture) -> Told:
    return Told(Desk(home), caplog)


class TestHttp:
    def test_given_an_answer_then_an_execution_sees_it_and_has_the_log_of_the_request(self, told: Told) -> None:
        served = Served()
        with http_server(served.answer) as address:
            told.begin(poll(uri=f"{address}/x", headers={"X-A": "{{ flow.id }}"}, interval="PT1H"))
            until(lambda: bool(executions(told.engine)))

        [execution] = executions(told.engine)
        ran = told.desk.wait(execution.id)
        seen = trigger_of(ran.execution)
        assert (seen["uri"], seen["code"], seen["body"]) == (f"{address}/x", 200, "0")
        assert seen["headers"]["x-told"] == ["yes"]
        assert ran.run_of("say").outputs["value"] == "0"
        lines = [entry for entry in ran.logs if entry.trigger_id == "poll"]
        assert [line.message for line in lines] == [f"GET {address}/x"]
        assert len(served.bodies) == 1

    @pytest.mark.parametrize(
        ("status", "condition", "starts"),
        [
            (200, None, True),
            (404, None, False),
            (404, "{{ response.statusCode == 404 }}", True),
            (200, "{{ response.body == '0' and response.headers['x-told'][0] == 'yes' }}", True),
            (200, "{{ response.body }}", False),
            (200, "{{ response.body == '7' }}", False),
            (200, "{{ null }}", False),
        ],
    )
    def test_given_a_condition_then_it_decides(
        self, told: Told, status: int, condition: str | None, starts: bool
    ) -> None:
        served = Served(status)
        how = {} if condition is None else {"responseCondition": condition}
        with http_server(served.answer) as address:
            told.begin(poll(uri=address, interval="PT1H", **how))
            until(lambda: bool(executions(told.engine)) if starts else _is_evaluated(told.engine))

        assert [trigger_of(one)["code"] for one in executions(told.engine)] == ([status] if starts else [])
        assert told.problem == ""

    def test_given_a_condition_that_cannot_be_rendered_then_the_log_says_so_and_it_is_tried_again(
        self, told: Told
    ) -> None:
        served = Served()
        with http_server(served.answer) as address:
            told.begin(poll(uri=address, interval="PT0.05S", responseCondition="{{ response.nothing.x }}"))
            until(lambda: len(served.bodies) >= 2)
            until(lambda: told.said("Trigger 'poll' of company.team.owner: The evaluation failed: "))

        assert executions(told.engine) == []
        assert "nothing" in told.problem

    def test_given_nobody_who_answers_then_the_log_says_so(self, told: Told) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        told.begin(poll(uri=f"http://127.0.0.1:{port}/", interval="PT0.05S"))

        until(lambda: told.said("The evaluation failed: GET http://127.0.0.1"))

        assert executions(told.engine) == []

    def test_given_a_server_that_is_too_slow_then_the_evaluation_fails_and_the_scheduler_goes_on(
        self, told: Told
    ) -> None:
        served = Served()
        with stalling_server() as (slow, has_asked), http_server(served.answer) as address:
            told.begin(
                poll("slow", uri=slow, interval="PT1H", options={"readTimeout": "PT3S"}),
                poll("quick", uri=address, interval="PT1H"),
            )
            until(has_asked)
            until(lambda: bool(executions(told.engine)))
            quick = [cast("Any", one.trigger)["id"] for one in executions(told.engine)]
            until(lambda: told.said("Trigger 'slow' of company.team.owner: The evaluation failed: "))

        assert quick == ["quick"]

    def test_given_a_close_during_a_request_then_it_is_cut_and_the_next_process_asks_again(
        self, told: Told, tmp_path: Path
    ) -> None:
        with stalling_server() as (slow, has_asked):
            told.begin(poll(uri=slow, interval="PT1H", options={"readTimeout": "PT1H"}))
            until(has_asked)
            told.desk.home.close()
        served = Served()

        with http_server(served.answer) as address:
            engine = told.desk.home.engine
            told.desk.save(a_text(poll(uri=address, interval="PT1H")))
            engine.schedule()
            until(lambda: bool(executions(engine)))

        assert [trigger_of(one)["body"] for one in executions(engine)] == ["0"]

    def test_given_a_secret_then_it_is_masked_in_what_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("SECRET_TOKEN", "aHVudGVyMg==")
        with homes.Home(tmp_path / "home") as home:
            told = Told(Desk(home), caplog)
            told.begin(poll(uri="http://127.0.0.1:9/{{ secret('TOKEN') }}", interval="PT1H"))

            until(lambda: told.said("The evaluation failed: "))

            assert not told.said("hunter2")
            assert "*******" in told.problem


def _is_evaluated(engine: Engine) -> bool:
    states = engine.call(engine.queries.trigger_states())
    return bool(states) and "evaluatedAt" in states[0].detail


class TestCommand:
    def save(self, home: Path, *triggers: dict[str, Any]) -> None:
        path = home.parent / "flow.yaml"
        path.write_text(a_text(*triggers))
        assert tercel("flow", "save", path, home=home).returncode == 0

    def test_given_an_answer_then_what_an_execution_would_see_is_printed_and_none_starts(self, tmp_path: Path) -> None:
        home = tmp_path / "home"

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            return 200, {}, b"for " + headers["authorization"].encode()

        with http_server(answer) as address:
            self.save(home, poll(uri=address, headers={"Authorization": "Bearer {{ secret('TOKEN') }}"}))
            done = tercel("trigger", "test", "owner", "poll", home=home, env={"SECRET_TOKEN": "aHVudGVyMg=="})

        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert (printed["code"], printed["body"]) == (200, "for Bearer *******")
        assert f"DEBUG GET {address}\n" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        with read_home(read_settings({}, home=home)) as opened:
            assert executions(opened) == []

    def test_given_nothing_to_start_then_it_says_so(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        weekend = {"type": "io.kestra.plugin.core.condition.Expression", "expression": "{{ false }}"}
        with http_server(Served(503).answer) as address:
            self.save(home, poll(uri=address, conditions=[weekend]))
            done = tercel("trigger", "test", "company.team.owner", "poll", home=home)

        assert (done.returncode, done.stdout) == (0, "")
        assert "Its conditions do not hold" in done.stderr
        assert done.stderr.endswith("There is nothing to start an execution for.\n")

    def test_given_a_failure_then_it_is_told_by_the_exit_code_too(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        schedule = {"id": "daily", "type": "io.kestra.plugin.core.trigger.Schedule", "cron": "@daily"}
        self.save(home, poll(uri="http://127.0.0.1:9/"), schedule)

        failed = tercel("trigger", "test", "owner", "poll", home=home)
        dated = tercel("trigger", "test", "owner", "daily", home=home)
        unknown = tercel("trigger", "test", "owner", "none", home=home)

        assert (failed.returncode, failed.stdout) == (1, "")
        assert "Error: The evaluation failed: GET http://127.0.0.1:9/ failed" in failed.stderr
        assert (dated.returncode, "is no polling trigger" in dated.stderr) == (1, True)
        assert (unknown.returncode, "Its triggers are: poll, daily." in unknown.stderr) == (1, True)


@contextmanager
def two_engines(folder: Path, kind: str) -> Iterator[tuple[Engine, Engine]]:
    """Two processes' worth of engines on one database."""
    with ExitStack() as stack:
        if kind == "sqlite":
            settings = [read_settings({}, home=folder / "home", slots=4)] * 2
        else:
            dsn = stack.enter_context(postgres_database())
            settings = [_on(dsn, folder / name) for name in ("one", "other")]
        yield stack.enter_context(open_home(settings[0])), stack.enter_context(open_home(settings[1]))


def _on(dsn: str, home: Path) -> Settings:
    return read_settings({"TERCEL_DATABASE": dsn, "TERCEL_STORAGE_DIR": str(home.parent / "storage")}, home=home)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_given_two_schedulers_on_one_database_then_one_asks_at_a_time_and_each_answer_starts_one_execution(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(pause_s=0.01)
    with two_engines(tmp_path, kind) as engines:
        one, other = engines
        desk_flow = a_text(poll(uri="http://127.0.0.1:9/", interval="PT1H"))
        with http_server(served.answer) as address:
            text = desk_flow.replace("http://127.0.0.1:9/", address).replace("PT1H", "PT0.02S")
            one.call(one.operations.save_flow(text))
            for engine in engines:
                engine.schedule()
            until(lambda: len(executions(one)) >= 15)
            for engine in engines:
                engine.scheduler.close()
            until(lambda: served.active == 0)
        started = [trigger_of(execution)["body"] for execution in executions(other)]

    assert served.most == 1
    assert len(started) == len(set(started))
    assert set(started) <= set(served.bodies)
    assert len(served.bodies) - len(started) <= 2
    assert "failed" not in caplog.text


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with files, and an installed package with the trigger that takes them."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    about = tmp_path / "packages" / "inbox-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: inbox\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tercel.plugins]\nio.test.Inbox = tests.polling\n")
    return folder


def _server(folder: Path) -> Popen[bytes]:
    env = {"PYTHONPATH": f"{folder / 'packages'}"}
    arguments = command("server", "--port", "0")
    return Popen(arguments, env=environment(folder / "home", env), stdout=DEVNULL, stderr=DEVNULL)


def test_given_a_process_killed_at_any_moment_then_each_file_starts_exactly_one_execution(inbox: Path) -> None:
    """Among the moments are those between the end of an evaluation and the commit of what came of it."""
    places = [("evaluate", after) for after in (0, 1, 4, 10)] + [("settle", 0), ("settle", 3), ("settled", 0)]
    (inbox.parent / "kills").write_text("".join(f"{place} {after}\n" for place, after in places))
    names = [f"{number:02}.txt" for number in range(24)]
    for name in names:
        (inbox / name).write_text(f"content of {name}")
    trigger = {"id": "inbox", "type": "io.test.Inbox", "folder": str(inbox), "interval": "PT0.01S"}
    home = inbox.parent / "home"
    path = inbox.parent / "flow.yaml"
    path.write_text(a_text(trigger, say="{{ read(trigger.objects | jq('.[].uri') | first) }}"))
    packages = {"PYTHONPATH": f"{inbox.parent / 'packages'}"}
    assert tercel("flow", "save", path, home=home, env=packages).returncode == 0

    kills = 0
    while True:
        server = _server(inbox.parent)
        try:
            until(lambda server=server: server.poll() is not None or _is_done(home, names))
            if server.poll() is None:
                break
            assert server.wait() == -signal.SIGKILL
            kills += 1
        finally:
            server.kill()
            server.wait()

    with read_home(read_settings({}, home=home)) as opened:
        found = executions(opened)
        said = [_said(opened, execution) for execution in found]
        files = sum(1 for _ in opened.storage.list("/"))
    taken = Counter(one["name"] for execution in found for one in trigger_of(execution)["objects"])
    assert kills == len(places)
    assert taken == Counter(names)
    assert said == [f"content of {trigger_of(execution)['objects'][0]['name']}" for execution in found]
    assert files == len(names)
    assert list(inbox.iterdir()) == []


def _is_done(home: Path, names: list[str]) -> bool:
    with read_home(read_settings({}, home=home)) as opened:
        found = executions(opened)
        left = any((home.parent / "inbox").iterdir())
    ended = [execution for execution in found if not execution.is_open]
    return not left and sum(len(trigger_of(execution)["objects"]) for execution in ended) >= len(names)


def _said(home: Home, execution: Execution) -> object:
    [run] = home.call(home.queries.task_runs(execution.id))
    return run.outputs["value"]
