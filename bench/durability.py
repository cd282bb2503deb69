"""How soon all goes on after `kill -9` in the middle of two hundred executions, and how little of it is done twice.

Every commit is durable (FULL). Prints one JSON line a figure.

Run it as `python -m bench.durability [NAME…]` to measure only the figures whose name contains NAME.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.report import report
from tercel.model.execution import Execution, TaskRun
from tercel.model.state import State
from tercel.server import Engine, open_home, read_home
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "3"))
COUNT = 200
SLOTS = 8
LEAD = 20
"""The process dies once so many tasks have started after the last execution has begun."""

SCRIPT = "'echo {{ taskrun.id }} >> TRACE', 'sleep 0.05'"
TASK = f"{{id: ID, type: io.kestra.plugin.scripts.shell.Commands, runner: PROCESS, commands: [{SCRIPT}]}}"


def main(wanted: Sequence[str] = ()) -> None:
    if list(wanted[:1]) == ["--drive"]:
        drive(Path(wanted[1]), int(wanted[2]))
        return
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as folder:
        bench = Bench(Path(folder))
        for name, measure in FIGURES.items():
            if not wanted or any(part in name for part in wanted):
                measure(bench, f"durability.{name}")


# The processes that are measured


def drive(home: Path, count: int) -> None:
    """Run so many executions at once; with none, go on with what was left, to the end. Says when what happened."""
    with open_home(_settings(home), recover=False) as engine:
        has_moved = False

        def changed(_: Execution, runs: Sequence[TaskRun]) -> None:
            nonlocal has_moved
            if not has_moved and any(run.attempts for run in runs):
                has_moved = True
                _say("moved")

        engine.watch(changed)
        if count:
            ids = _start(engine, home, count)
        else:
            engine.recover()
            ids = engine.recovered
        _say("begun")
        for execution_id in ids:
            engine.call(engine.operations.wait(execution_id))
        _say("ended")


def _start(engine: Engine, home: Path, count: int) -> list[str]:
    tasks = "\n".join(f"  - {TASK.replace('ID', f't{number}')}" for number in range(3))
    text = f"id: many\nnamespace: bench\ntasks:\n{tasks}\n".replace("TRACE", str(_trace(home)))
    saved = engine.call(engine.operations.save_flow(text))
    return [engine.call(engine.operations.start(saved)).id for _ in range(count)]


def _say(what: str) -> None:
    print(f"{what} {time.time()}", flush=True)


def _settings(home: Path) -> Settings:
    return read_settings({}, home=home, slots=SLOTS)


def _trace(home: Path) -> Path:
    return home.with_suffix(".trace")


class Recovery:
    """A process that dies, and the one after it.

    Attributes:
        moved_s: from the start of the second process to the first task that it starts.
        ended_s: to the end of all executions.
        again: tasks that were started twice.
    """

    def __init__(self, home: Path) -> None:
        trace = _trace(home)
        first = _process(home, COUNT)
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("begun"):
                break
        before = _lines(trace)
        while _lines(trace) < before + LEAD:
            if first.poll() is not None:
                sys.exit("The process that was to be killed ended by itself.")
            time.sleep(0.001)
        first.kill()
        first.communicate()
        began = time.time()
        output, _ = _process(home, 0).communicate()
        told = dict(line.split() for line in output.splitlines())
        self.moved_s, self.ended_s = float(told["moved"]) - began, float(told["ended"]) - began
        started = trace.read_text().split()
        self.again = len(started) - len(set(started))
        _check(home, len(set(started)))


def _lines(trace: Path) -> int:
    return len(trace.read_text().splitlines()) if trace.exists() else 0


def _check(home: Path, started: int) -> None:
    """End with an error where anything was lost."""
    with read_home(_settings(home)) as looked_at:
        executions = looked_at.call(looked_at.queries.search_executions(ExecutionQuery(limit=2 * COUNT)))
    states = {execution.state for execution in executions}
    if len(executions) != COUNT or states != {State.SUCCESS} or started != 3 * COUNT:
        sys.exit(f"{len(executions)} executions ended in {states}, and {started} tasks were started.")


def _process(home: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.durability", "--drive", str(home), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


# Figures


class Bench:
    """Homes in a folder, on the disk that is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._recoveries: list[Recovery] = []

    @property
    def recoveries(self) -> list[Recovery]:
        """Several, made when they are first asked for."""
        if not self._recoveries:
            self._recoveries = [Recovery(self.folder / f"home-{number}") for number in range(ROUNDS)]
        return self._recoveries

    def fresh_s(self) -> float:
        """From the start of a process that finds nothing to go on with to the first task of its own."""
        home = self.folder / f"fresh-{time.time_ns()}"
        began = time.time()
        output, _ = _process(home, 1).communicate()
        return float(dict(line.split() for line in output.splitlines())["moved"]) - began


Measure = Callable[[Bench, str], None]


def first_move(bench: Bench, name: str) -> None:
    """From the start of the next process to the first task that moves, over that of a process with nothing to do."""
    floor = min(bench.fresh_s() for _ in range(ROUNDS))
    report(name, max(one.moved_s for one in bench.recoveries), floor=floor, target=2, target_ratio=3)


def all_ended(bench: Bench, name: str) -> None:
    """Until all have ended."""
    report(name, min(one.ended_s for one in bench.recoveries))


def done_twice(bench: Bench, name: str) -> None:
    """Tasks started twice: those in the slots, and those that had ended but were not committed yet."""
    report(name, max(one.again for one in bench.recoveries), "tasks", target=3 * SLOTS)


FIGURES: dict[str, Measure] = {
    "first_move": first_move,
    "all_ended": all_ended,
    "done_twice": done_twice,
}


if __name__ == "__main__":
    main(sys.argv[1:])
