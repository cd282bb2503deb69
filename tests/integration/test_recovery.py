"""A process that dies in the middle of a flow, and the next one that opens its home."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest

from tercel.model import State, TaskRun
from tercel.server import Engine, open_home, read_home
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery
from tests.flows import echo, flow, for_each, sh, wd

_RUN = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from tercel.server import open_home
from tercel.settings import read_settings

engine = open_home(read_settings({}, home=Path(sys.argv[1])), recover=sys.argv[3] == "recover")
if sys.argv[2]:
    flow = engine.call(engine.operations.save_flow(Path(sys.argv[2]).read_text()))
    execution = engine.call(engine.operations.start(flow))
    print(execution.id, flush=True)
    engine.call(engine.operations.wait(execution.id))
else:
    print(*engine.recovered, flush=True)
    for execution_id in engine.recovered:
        engine.call(engine.operations.wait(execution_id))
engine.close()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({}, home=tmp_path / "home")


def run_until(settings: Settings, text: str, condition: Callable[[], object], *, recover: bool = False) -> str:
    """Run a flow (none for "") in a process of its own, kill that once *condition* holds; gives the execution's id."""
    path = settings.home.parent / "flow.yaml"
    path.write_text(text)
    arguments = [str(settings.home), str(path) if text else "", "recover" if recover else ""]
    process = subprocess.Popen([sys.executable, "-c", _RUN, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    execution_id = process.stdout.readline().strip()
    try:
        deadline = monotonic() + 30
        while not condition():
            assert monotonic() < deadline, "it never came so far"
            assert process.poll() is None, "it ended by itself"
            sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    return execution_id


def recovered(settings: Settings, execution_id: str) -> tuple[State, dict[str, list[TaskRun]]]:
    with open_home(settings) as engine:
        assert engine.recovered == [execution_id]
        return end_of(engine, execution_id)


def is_done(settings: Settings, task_id: str) -> bool:
    """Whether the records of the newest execution have a task ended."""
    with read_home(settings) as home:
        [newest] = home.call(home.queries.search_executions(ExecutionQuery(limit=1)))
        return any(
            run.task_id == task_id and run.state.is_terminal for run in home.call(home.queries.task_runs(newest.id))
        )


def end_of(engine: Engine, execution_id: str) -> tuple[State, dict[str, list[TaskRun]]]:
    execution = engine.call(engine.operations.wait(execution_id))
    runs: dict[str, list[TaskRun]] = {}
    for each in engine.call(engine.queries.task_runs(execution_id)):
        runs.setdefault(each.task_id, []).append(each)
    return execution.state, runs


def states(run: TaskRun) -> list[str]:
    return [change.state.value for change in run.history]


class TestKilledProcess:
    def test_given_a_script_was_running_then_it_runs_again_and_what_was_done_stays_done(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        seen = tmp_path / "seen"
        text = flow(
            sh("first", f"echo first >> {seen}"),
            sh("second", f"echo second >> {seen}; test $(grep -c second {seen}) -gt 1 || sleep 60"),
            echo("third", "{{ outputs.first.exitCode }}"),
        )

        killed = run_until(settings, text, lambda: seen.exists() and "second" in seen.read_text())
        state, runs = recovered(settings, killed)

        assert state is State.SUCCESS
        assert seen.read_text().split() == ["first", "second", "second"]
        assert [len(found) for found in runs.values()] == [1, 1, 1]
        assert states(runs["second"][0])[-1] == "SUCCESS"
        assert runs["second"][0].lost <= 1
        assert runs["third"][0].outputs == {"value": "0"}

    def test_given_a_retry_was_waiting_then_its_timer_is_set_again(self, settings: Settings, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        retry = {"type": "constant", "interval": "PT1S", "maxAttempts": 3}
        text = flow(sh("task", f"echo x >> {seen}; test $(grep -c x {seen}) -gt 1", retry=retry))

        def is_waiting() -> bool:
            if not seen.exists():
                return False
            with read_home(settings) as home:
                [execution] = home.call(home.queries.search_executions(ExecutionQuery()))
                return home.call(home.queries.task_runs(execution.id))[0].state is State.RETRYING

        killed = run_until(settings, text, is_waiting)
        state, runs = recovered(settings, killed)

        assert state is State.SUCCESS
        assert len(runs["task"][0].attempts) == 2
        assert seen.read_text().split() == ["x", "x"]

    def test_given_a_working_directory_then_it_goes_on_at_the_child_and_its_old_folders_go(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        """Scenario 103."""
        seen = tmp_path / "seen"
        text = flow(
            wd(
                sh("one", f"echo one >> {seen}; echo data > file"),
                sh("two", f"echo two >> {seen}; cat file; test $(grep -c two {seen}) -gt 1 || sleep 60"),
                sh("three", f"echo three >> {seen}; cat file"),
            )
        )

        killed = run_until(
            settings, text, lambda: seen.exists() and "two" in seen.read_text() and is_done(settings, "one")
        )
        places = (
            settings.temporary_directory,
            settings.home / "layers/trusted/work",
            settings.home / "layers/user/work",
        )
        left = [path for place in places if place.exists() for path in place.iterdir() if path.name != "at"]
        assert left
        state, runs = recovered(settings, killed)

        assert state is State.SUCCESS
        assert seen.read_text().split() == ["one", "two", "two", "three"]
        assert {task: [each.state for each in found] for task, found in runs.items()} == {
            task: [State.SUCCESS] for task in ("wd", "one", "two", "three")
        }
        deadline = monotonic() + 20
        while any(path.exists() for path in left):
            assert monotonic() < deadline
            sleep(0.01)

    def test_given_a_wide_loop_of_inline_tasks_then_each_ends_once(self, settings: Settings, tmp_path: Path) -> None:
        text = flow(
            for_each("loop", "{{ range(1, 3000) | toJson }}", echo("t", "{{ taskrun.value }}"), concurrencyLimit=0)
        )

        def has_begun() -> bool:
            with read_home(settings) as home:
                [execution] = home.call(home.queries.search_executions(ExecutionQuery()))
                runs = home.call(home.queries.task_runs(execution.id))
                return sum(each.state is State.SUCCESS for each in runs) > 10

        killed = run_until(settings, text, has_begun)
        with open_home(settings) as engine:
            state, runs = end_of(engine, killed)

        assert state is State.SUCCESS
        assert sorted(int(str(each.outputs["value"])) for each in runs["t"]) == list(range(1, 3001))

    def test_given_it_dies_each_time_then_the_third_loss_fails_the_task(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        seen = tmp_path / "seen"
        text = flow(sh("deadly", f"echo x >> {seen}; sleep 60"))

        def begun(times: int) -> Callable[[], bool]:
            def has_begun() -> bool:
                if not seen.exists() or seen.read_text().count("x") < times:
                    return False
                with read_home(settings) as home:
                    [execution] = home.call(home.queries.search_executions(ExecutionQuery()))
                    [task_run] = home.call(home.queries.task_runs(execution.id))
                    return task_run.state is State.RUNNING and task_run.fence == times

            return has_begun

        killed = run_until(settings, text, begun(1))
        for times in (2, 3):
            assert run_until(settings, "", begun(times), recover=True) == killed
        state, runs = recovered(settings, killed)

        assert state is State.FAILED
        assert runs["deadly"][0].message == "Its worker was lost 3 times; it is not started again."


class TestLivingProcess:
    def test_given_it_still_lives_then_nobody_takes_its_executions(self, settings: Settings, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        path = tmp_path / "flow.yaml"
        path.write_text(flow(sh("t", f"touch {seen}; sleep 1")))
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(settings.home), str(path), ""], stdout=subprocess.DEVNULL
        )
        deadline = monotonic() + 30
        while not seen.exists():
            assert monotonic() < deadline
            sleep(0.005)

        with open_home(settings) as engine:
            assert engine.recovered == []

        assert process.wait(30) == 0
        assert os.listdir(settings.home / "processes") == []


_LOOK = """
import os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import tercel.mounts
from tercel.errors import StorageError
from tercel.server import open_home, read_home
from tercel.settings import read_settings
from tercel.store import ExecutionQuery

settings = read_settings({}, home=Path(sys.argv[1]))

def look():
    with read_home(settings) as home:
        print(len(home.call(home.queries.search_executions(ExecutionQuery()))), len(home.interrupted()))

look()  # everything is imported now, by a user who may
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
look()
try:
    open_home(settings)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's place")
def test_given_a_home_that_can_only_be_read_then_it_is_looked_at_and_not_run_in() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:  # what pytest gives is private
        os.chmod(folder, 0o755)
        settings = read_settings({}, home=Path(folder) / "home")
        with open_home(settings) as engine:
            saved = engine.call(engine.operations.save_flow(flow(echo("a", "x"))))
            engine.call(engine.operations.wait(engine.call(engine.operations.start(saved)).id))
        subprocess.run(["chmod", "-R", "a+rX,a-w", settings.home], check=True)

        done = subprocess.run(
            [sys.executable, "-c", _LOOK, str(settings.home)], capture_output=True, text=True, check=False
        )

        assert done.stdout.splitlines() == [
            "1 0",
            "1 0",
            f"The home {settings.home} cannot be used: {settings.home}/lock: Permission denied. "
            "Give another one: --home DIR.",
        ], done.stderr
