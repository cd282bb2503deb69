"""`tercel server` goes on with what dead processes left open, and the next one with what a dead server did."""

import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from tercel.model import State
from tests.command_line import tercel
from tests.end_to_end.processes import Running, assert_in_turn, executions, is_at_work, kill_after, shape, start
from tests.flows import CORE, echo, flow
from tests.homes import until


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def servers(home: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Servers that were started; ended after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for server in started:
        if server.poll() is None:
            server.kill()
            server.communicate()


def start_server(home: Path, servers: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    server = start("server", "--port", "0", home=home)
    servers.append(server)
    until(lambda: is_at_work(home, server))
    return server


def test_given_a_run_and_then_servers_that_are_killed_then_the_last_server_ends_it_as_without(
    home: Path, tmp_path: Path, servers: list[subprocess.Popen[str]]
) -> None:
    calm = Running(tmp_path, tmp_path / "calm", "calm")
    output, _ = calm.process.communicate(timeout=60)
    assert calm.process.returncode == 0, output
    running = Running(tmp_path, home, "flow")
    until(lambda: any(task == "first" for _, task, *_ in running.steps()))

    running.process.kill()
    running.process.communicate()
    first = start_server(home, servers)
    until(lambda: any(turn == "directory" for turn, *_ in running.steps()))
    first.kill()
    first.communicate()
    last = start_server(home, servers)
    until(lambda: executions(home)[0].state is State.SUCCESS)
    last.send_signal(signal.SIGTERM)
    output, _ = last.communicate(timeout=60)

    assert last.returncode == 0, output
    assert "Traceback" not in output
    [execution] = executions(home)
    [undisturbed] = executions(tmp_path / "calm")
    assert shape(home, execution) == shape(tmp_path / "calm", undisturbed)
    assert_in_turn(running.steps(), calm.steps())


def test_given_a_server_that_lives_when_a_run_is_killed_then_it_goes_on_with_it(
    home: Path, tmp_path: Path, servers: list[subprocess.Popen[str]]
) -> None:
    server = start_server(home, servers)
    running = Running(tmp_path, home, "flow")
    until(lambda: any(task == "one" for _, task, *_ in running.steps()))

    running.process.kill()
    running.process.communicate()
    until(lambda: executions(home)[0].state.is_terminal)

    assert executions(home)[0].state is State.SUCCESS
    assert server.poll() is None


def test_given_servers_that_are_killed_again_and_again_then_each_date_of_a_schedule_starts_its_flow_once(
    home: Path, tmp_path: Path, servers: list[subprocess.Popen[str]]
) -> None:
    trigger = {
        "id": "every_second",
        "type": f"{CORE}.trigger.Schedule",
        "cron": "* * * * * *",
        "withSeconds": True,
        "recoverMissedSchedules": "ALL",
    }
    path = tmp_path / "flow.yaml"
    path.write_text(flow(echo("date", "{{ trigger.date }}"), id="often", triggers=[trigger]))
    saved = tercel("flow", "save", path, home=home)
    assert saved.returncode == 0, saved.stderr
    rng = Random(0)

    for _ in range(3):
        before = len(executions(home))
        server = start_server(home, servers)
        until(lambda before=before: len(executions(home)) > before)
        kill_after(server, rng.uniform(0, 0.9))
    start_server(home, servers)
    before = len(executions(home))
    until(lambda: len(executions(home)) > before and all(one.state.is_terminal for one in executions(home)))

    started = executions(home)
    dates = sorted(datetime.fromisoformat(str(one.trigger["variables"]["date"])) for one in started if one.trigger)
    assert len(dates) == len(started)
    assert [later - date for date, later in pairwise(dates)] == [timedelta(seconds=1)] * (len(dates) - 1)
