"""Two hundred executions in one process that dies in the middle: the next one ends them all as if nothing had been."""

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tercel.model import State
from tercel.server import read_home
from tests.command_line import ROOT, environment
from tests.end_to_end.many import SLOTS
from tests.end_to_end.processes import executions, settings_of, shape_of
from tests.homes import until

COUNT = 200
TRACES = 4 * COUNT


def start_many(home: Path, trace: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.many", str(home), str(trace), str(count)],
        cwd=ROOT,
        env=environment(None),
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(trace: Path) -> list[list[str]]:
    return [line.split() for line in trace.read_text().splitlines()] if trace.exists() else []


@pytest.mark.parametrize("seed", [0, 1])
def test_given_200_executions_when_their_process_dies_and_another_goes_on_then_all_end_as_without(
    seed: int, tmp_path: Path
) -> None:
    rng = Random(seed)
    home, trace = tmp_path / "home", tmp_path / "trace"
    first = start_many(home, trace, COUNT)
    assert first.stdout is not None
    assert "started" in (first.stdout.readline(), first.stdout.readline())[-1]
    # A fast machine is far already: some have to be left.
    moment = min(len(lines(trace)) + rng.randint(0, TRACES // 2), TRACES * 9 // 10)
    until(lambda: len(lines(trace)) >= moment, deadline_s=180)
    first.kill()
    first.communicate()
    begun = executions(home)
    assert len(begun) == COUNT
    left_open = {execution.id for execution in begun if not execution.state.is_terminal}

    second = start_many(home, trace, 0)
    output, _ = second.communicate(timeout=120)

    assert output.splitlines()[-1] == f"ended {len(left_open)}"
    ended = executions(home)
    assert {execution.id for execution in ended} == {execution.id for execution in begun}
    assert {execution.state for execution in ended} == {State.SUCCESS}
    with read_home(settings_of(home)) as looked_at:
        shapes = [shape_of(looked_at, execution) for execution in ended]
    assert all(one == shapes[0] for one in shapes)
    assert [name for name, *_ in shapes[0]["runs"]] == [f"{task}:None" for task in TASKS]
    _assert_in_turn(lines(trace), {execution.id for execution in ended})


TASKS = ["both", "last", "left", "one", "right", "two"]
_TURNS = {"one": 0, "left": 1, "right": 1, "last": 2}


def _assert_in_turn(steps: list[list[str]], ids: set[str]) -> None:
    """Each task of each execution started, and none after one that comes later."""
    of_execution: dict[str, list[str]] = {}
    for task, execution_id, _ in steps:
        of_execution.setdefault(execution_id, []).append(task)
    assert of_execution.keys() == ids
    for tasks in of_execution.values():
        assert set(tasks) == _TURNS.keys()
        turns = [_TURNS[task] for task in tasks]
        assert turns == sorted(turns)
    again = len(steps) - len(ids) * len(_TURNS)
    assert again <= 3 * SLOTS, "more ran again than was under way, or done and not yet committed"
