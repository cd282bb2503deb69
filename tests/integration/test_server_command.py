"""`tercel server` as a process: dates, executions that others left, stopping."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.command_line import tercel

DEADLINE_S = 60

EVERY_SECOND = """
id: often
namespace: company.team
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: "{{ trigger.date }}"}
triggers:
  - {id: clock, type: io.kestra.plugin.core.trigger.Schedule, cron: "* * * * * *", withSeconds: true}
"""

AFTER_IT = """
id: after
namespace: company.team
tasks:
  - {id: say, type: io.kestra.plugin.core.debug.Return, format: "{{ trigger.executionId }}"}
triggers:
  - id: flow
    type: io.kestra.plugin.core.trigger.Flow
    states: [SUCCESS]
    conditions:
      - {type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company.team, flowId: often}
"""

SLOW = """
id: slow
namespace: company.team
tasks:
  - id: wait
    type: io.kestra.plugin.scripts.shell.Commands
    runner: PROCESS
    commands: ["touch FLAG", "sleep SECONDS"]
  - {id: done, type: io.kestra.plugin.core.debug.Return, format: done}
"""


class Server:
    """A server in a home.

    Attributes:
        said: its lines before it was ready.
    """

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        command = [sys.executable, "-m", "tercel", "server", *arguments, "--port", "0", "--home", str(home)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.said: list[str] = []
        while "Ready" not in (ready := self.process.stderr.readline()):
            assert ready, self.said
            self.said.append(ready)
        self.port = int(ready.partition("http://127.0.0.1:")[2].partition(",")[0])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.ended()

    def begin_stop(self) -> None:
        """Ask it to stop, and go on once it has begun to."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        assert any("Stopping." in line for line in self.process.stderr)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(*arguments: str) -> Server:
        started.append(Server(tmp_path / "home", *arguments))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


def save(home: Path, text: str) -> None:
    file = home.parent / "flow.yaml"
    file.write_text(text)
    assert tercel("flow", "save", str(file), "--home", str(home)).returncode == 0


def executions(home: Path, flow_id: str) -> list[dict[str, Any]]:
    listed = tercel("execution", "list", "--flow", flow_id, "--limit", "100", "--json", "--home", str(home))
    return json.loads(listed.stdout)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def dates(home: Path) -> Counter[str]:
    return Counter(one["trigger"]["variables"]["date"] for one in executions(home, "often"))


def test_given_a_schedule_then_each_date_fires_once_over_kills_and_flow_triggers_follow(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home = tmp_path / "home"
    save(home, EVERY_SECOND)
    save(home, AFTER_IT)
    for number in (signal.SIGKILL, signal.SIGTERM):
        server = start()
        seen = sum(dates(home).values())
        until(lambda seen=seen: sum(dates(home).values()) >= seen + 2)
        server.stop(number)
    server = start()
    ended = sum(dates(home).values()) + 1
    until(lambda: sum(dates(home).values()) >= ended)
    until(lambda: len(executions(home, "after")) >= ended - 1)
    assert server.stop() == 0

    fired = dates(home)
    seconds = sorted(fired)
    assert set(fired.values()) == {1}
    assert len(seconds) == _seconds_between(seconds[0], seconds[-1]) + 1, "A date was left out."
    causes = Counter(one["trigger"]["variables"]["executionId"] for one in executions(home, "after"))
    assert set(causes.values()) == {1}


def _seconds_between(first: str, last: str) -> int:
    from datetime import datetime

    return round((datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())


def leave_one_open(home: Path, flag: Path) -> None:
    """Have a process begin an execution and die; run again its task ends at once."""
    file = home.parent / "slow.yaml"
    file.write_text(SLOW.replace("FLAG", str(flag)).replace("SECONDS", f"$(test -f {flag}.again && echo 0 || echo 60)"))
    run = subprocess.Popen(
        [sys.executable, "-m", "tercel", "run", str(file), "--home", str(home)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(flag.exists)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    Path(f"{flag}.again").touch()


def test_given_a_run_that_was_killed_then_the_server_goes_on_with_it(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home = tmp_path / "home"
    leave_one_open(home, tmp_path / "flag")

    server = start()

    until(lambda: [one["state"]["current"] for one in executions(home, "slow")] == ["SUCCESS"])
    assert server.stop() == 0


PAUSED = """
id: paused
namespace: company.team
tasks:
  - {id: hold, type: io.kestra.plugin.core.flow.Pause, onResume: [{id: x, type: INT}]}
  - {id: done, type: io.kestra.plugin.core.debug.Return, format: "{{ outputs.hold.onResume.x }}"}
"""

PAUSED_BESIDE = """
id: beside
namespace: company.team
tasks:
  - id: both
    type: io.kestra.plugin.core.flow.Parallel
    tasks:
      - {id: hold, type: io.kestra.plugin.core.flow.Pause}
      - {id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: company.team, flowId: slow}
"""


def ask(server: Server, method: str, path: str, **form: str) -> Any:
    """What the API answers to a form."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/v1/executions/{path}", urlencode(form).encode(), method=method
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.loads(answer.read() or b"null")


def states(home: Path, flow_id: str) -> list[str]:
    return [one["state"]["current"] for one in executions(home, flow_id)]


def test_given_paused_executions_when_the_server_is_killed_then_the_next_one_resumes_and_kills_them(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home = tmp_path / "home"
    save(home, PAUSED)
    server = start()
    one, other, third = (ask(server, "POST", "company.team/paused")["id"] for _ in range(3))
    until(lambda: states(home, "paused") == ["PAUSED"] * 3)
    server.stop(signal.SIGKILL)
    server = start()

    ask(server, "POST", f"{one}/resume", x="42")
    ask(server, "DELETE", f"{other}/kill")
    ask(server, "POST", f"{third}/force-run")

    until(lambda: sorted(states(home, "paused")) == ["FAILED", "KILLED", "SUCCESS"])
    assert server.stop() == 0


def test_given_a_pause_beside_a_subflow_when_the_server_is_killed_then_the_next_one_goes_on_with_the_subflow(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home, flag = tmp_path / "home", tmp_path / "flag"
    save(home, SLOW.replace("FLAG", str(flag)).replace("SECONDS", f"$(test -f {flag}.again && echo 0 || echo 60)"))
    save(home, PAUSED_BESIDE)
    server = start()
    execution_id = ask(server, "POST", "company.team/beside")["id"]
    until(flag.exists)
    server.stop(signal.SIGKILL)
    Path(f"{flag}.again").touch()

    server = start()

    def call() -> str:
        runs = ask(server, "GET", execution_id)["taskRunList"]
        return next(run["state"]["current"] for run in runs if run["taskId"] == "call")

    until(lambda: call() == "SUCCESS")
    assert states(home, "beside") == ["PAUSED"]
    ask(server, "POST", f"{execution_id}/resume")
    until(lambda: states(home, "beside") == ["SUCCESS"])
    assert server.stop() == 0


def test_given_a_task_under_way_when_servers_are_stopped_again_and_again_then_it_is_not_lost(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home, flag = tmp_path / "home", tmp_path / "flag"
    save(home, SLOW.replace("FLAG", str(flag)).replace("SECONDS", f"$(test -f {flag}.again && echo 0 || echo 60)"))
    server = start()
    ask(server, "POST", "company.team/slow")
    for _ in range(3):
        until(flag.exists)
        flag.unlink()
        assert server.stop() == 0
        server = start()
    until(flag.exists)
    Path(f"{flag}.again").touch()

    assert server.stop() == 0
    server = start()

    until(lambda: states(home, "slow") == ["SUCCESS"])
    assert server.stop() == 0


def begin_request(server: Server, body: bytes) -> socket.socket:
    """A request that the server has begun to answer, its body not sent yet."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S)
    head = (
        "POST /api/v1/flows/validate HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100")
    return connection


def test_given_a_request_under_way_when_it_is_stopped_then_the_request_is_answered(
    start: Callable[..., Server],
) -> None:
    server = start("standalone", "--worker-thread", "3", "--no-tutorials")
    body = b"id: a"
    connection = begin_request(server, body)

    server.begin_stop()
    connection.sendall(body)

    with connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.ended() == 0


def test_given_a_second_signal_then_it_ends_at_once(start: Callable[..., Server]) -> None:
    server = start("local")
    with begin_request(server, b"id: a"):
        server.begin_stop()

        assert server.stop() == 128 + signal.SIGTERM


class TestFlowPath:
    def test_given_a_folder_then_its_flows_are_saved_and_what_is_no_flow_is_told(
        self, tmp_path: Path, start: Callable[..., Server]
    ) -> None:
        folder = tmp_path / "flows"
        (folder / "below").mkdir(parents=True)
        (folder / "below" / "often.yml").write_text(EVERY_SECOND)
        (folder / "broken.yaml").write_text("id: [")

        server = start("standalone", "--flow-path", str(folder))

        broken, saved = (line.partition("tercel: ")[2] for line in server.said)
        assert broken.startswith(f"The flow {folder}/broken.yaml is not saved: The flow is not valid. Line 1, ")
        assert saved == f"Saved what is new of 1 flows in {folder}.\n"
        until(lambda: len(executions(server.home, "often")) > 0)
        assert server.stop() == 0

    def test_given_no_folder_then_it_is_refused(self, tmp_path: Path) -> None:
        done = tercel("server", "--flow-path", str(tmp_path / "none"), "--home", str(tmp_path / "home"))

        assert done.returncode == 2
        assert "does not exist" in done.stderr


class TestSkips:
    @pytest.mark.parametrize(
        "option",
        ["--skip-executions={id}", "--skip-flows=main|company.team|slow", "--skip-namespaces=other,company.team"],
    )
    def test_given_an_execution_then_it_is_left_alone_until_a_start_without(
        self, tmp_path: Path, start: Callable[..., Server], option: str
    ) -> None:
        home = tmp_path / "home"
        leave_one_open(home, tmp_path / "flag")
        [left] = executions(home, "slow")

        server = start(option.format(id=left["id"]))
        asked = httpx.delete(f"http://127.0.0.1:{server.port}/api/v1/executions/{left['id']}/kill", timeout=60)
        assert server.stop() == 0

        assert asked.status_code == 409
        assert f"The execution {left['id']} is skipped" in asked.json()["message"]
        assert executions(home, "slow")[0]["state"]["current"] == "RUNNING"
        server = start()
        until(lambda: [one["state"]["current"] for one in executions(home, "slow")] == ["SUCCESS"])
        assert server.stop() == 0
