"""`tercel server` as a process: dates, executions that others left, stopping."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    """A server in a home."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        command = [sys.executable, "-m", "tercel", "server", *arguments, "--port", "0", "--home", str(home)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        ready = self.process.stderr.readline()
        assert "Ready" in ready
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


def test_given_a_run_that_was_killed_then_the_server_goes_on_with_it(
    tmp_path: Path, start: Callable[[], Server]
) -> None:
    home, flag = tmp_path / "home", tmp_path / "flag"
    file = tmp_path / "slow.yaml"
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

    server = start()

    until(lambda: [one["state"]["current"] for one in executions(home, "slow")] == ["SUCCESS"])
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
