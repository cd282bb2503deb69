"""`kill -9` at any moment: what was done stays done, and what was under way is done again."""

import signal
from pathlib import Path
from random import Random
from threading import Thread
from time import monotonic
from typing import Any, NamedTuple

import pytest

from tercel.server import read_home
from tests.command_line import tercel
from tests.end_to_end.processes import Running, assert_in_turn, executions, kill_after, settings_of, shape, start
from tests.homes import until

ROUNDS = 10
AT_ONCE = 5


class Undisturbed(NamedTuple):
    """What the flow leaves when nothing happens to it, and how long it takes while others run beside it."""

    shape: dict[str, Any]
    steps: list[list[str]]
    took_s: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    running = [Running(folder, folder / "home", f"flow-{number}") for number in range(AT_ONCE)]
    running[0].until_at_work()
    began = monotonic()
    for each in running:
        output, _ = each.process.communicate(timeout=60)
        assert each.process.returncode == 0, output
    [execution] = executions(folder / "home", "flow-0")
    return Undisturbed(shape(folder / "home", execution), running[0].steps(), monotonic() - began)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_given_processes_in_one_home_killed_at_any_moment_when_recovered_then_all_ends_as_without(
    seed: int, tmp_path: Path, undisturbed: Undisturbed
) -> None:
    rng = Random(seed)
    home = tmp_path / "home"
    running = [Running(tmp_path, home, f"flow-{number}") for number in range(AT_ONCE)]

    threads = [Thread(target=_kill, args=(each, _moment(rng, undisturbed))) for each in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if rng.random() < 0.6:  # two losses of the same job are forgiven
        kill_after(start("execution", "recover", home=home), rng.uniform(0.1, 0.3 + undisturbed.took_s))
    done = tercel("execution", "recover", home=home)

    assert done.returncode == 0 or not executions(home), done.stderr + done.stdout
    for each in running:
        found = executions(home, each.flow_id)
        assert len(found) <= 1
        assert found or not each.steps()
        for execution in found:
            assert shape(home, execution) == undisturbed.shape
            assert_in_turn(each.steps(), undisturbed.steps)
    if executions(home):
        with read_home(settings_of(home)) as looked_at:
            assert looked_at.interrupted() == {}


def _moment(rng: Random, undisturbed: Undisturbed) -> float:
    """Seconds after the engine is open: a third within its first 100 ms, the others over the whole life."""
    return rng.uniform(0, 0.1) if rng.random() < 1 / 3 else rng.uniform(0, undisturbed.took_s)


def _kill(running: Running, after_s: float) -> None:
    running.until_at_work()
    kill_after(running.process, after_s)


def test_given_a_process_that_is_stopped_when_another_wants_to_go_on_then_it_is_refused_until_the_first_is_dead(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    home = tmp_path / "home"
    running = Running(tmp_path, home, "flow-0")
    until(lambda: any(task == "one" for _, task, *_ in running.steps()))
    running.process.send_signal(signal.SIGSTOP)
    [execution] = executions(home)

    every = tercel("execution", "recover", home=home)
    named = tercel("execution", "recover", execution.id, home=home)
    running.process.send_signal(signal.SIGCONT)
    output, _ = running.process.communicate(timeout=60)

    assert (every.returncode, every.stdout) == (0, "No execution was interrupted.\n")
    assert named.returncode == 1
    assert f"The execution {execution.id} runs in `tercel run` (process {running.process.pid}" in named.stderr
    assert running.process.returncode == 0, output
    [execution] = executions(home)
    assert shape(home, execution) == undisturbed.shape
    assert_in_turn(running.steps(), undisturbed.steps)
    assert len(running.steps()) == len(undisturbed.steps)
