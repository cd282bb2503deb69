"""How fast the embedded engine is, each figure over a floor measured in the same run.

Two kinds of task that do nothing are told apart: *inline* ones (Return, answered by the executor itself) and *worker*
ones, which go through the dispatcher to a slot and back. Every commit is durable (FULL). Prints one JSON line a figure.

Run it as `python -m bench.engine [NAME…]` to measure only the figures whose name contains NAME.
"""

import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from bench.report import report, timed
from tercel.model.execution import Execution
from tercel.model.state import State
from tercel.plugin_api import Outputs, RunContext, RunnableTask, plugin
from tercel.server import Engine, open_home
from tercel.settings import read_settings

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "3"))
LOG_BYTES = int(os.environ.get("TERCEL_BENCH_LOG_BYTES", str(1 << 30)))
CALLERS = 64

INLINE = "{id: ID, type: io.kestra.plugin.core.debug.Return, format: x}"
WORKER = "{id: ID, type: bench.Nothing}"
SHELL = "{id: ID, type: io.kestra.plugin.scripts.shell.Commands, runner: PROCESS, commands: [':']}"

_began: list[float] = []


@plugin("bench.Nothing")
class Nothing(RunnableTask, frozen=True, kw_only=True):
    """Does nothing, on a worker, and notes when."""

    def run(self, context: RunContext) -> Outputs:
        """Note when."""
        _began.append(time.perf_counter())
        return Outputs()


def main(wanted: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as folder:
        bench = Bench(Path(folder))
        for name, measure in FIGURES.items():
            if not wanted or any(part in name for part in wanted):
                measure(bench, f"engine.{name}")


class Bench:
    """Homes in a folder, on the disk that is measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._homes = 0

    @contextmanager
    def engine(self) -> Generator[Engine]:
        """An engine in a home of its own."""
        self._homes += 1
        with open_home(read_settings({}, home=self.folder / f"home-{self._homes}")) as engine:
            run(engine, flow("warm", INLINE, WORKER))
            yield engine

    @cached_property
    def commit_s(self) -> float:
        """One durable commit of three small rows, with nothing around it: half of all tries take longer."""
        connection = sqlite3.connect(self.folder / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, content BLOB)")

        def commit() -> None:
            connection.execute("BEGIN IMMEDIATE")
            for number in range(3):
                connection.execute("INSERT OR REPLACE INTO rows VALUES (?, ?)", (f"{number}", os.urandom(300)))
            connection.execute("COMMIT")

        return statistics.median(timed(commit) for _ in range(300))


Measure = Callable[[Bench, str], None]
"""Measures a figure and reports it under the name that it is given."""


def flow(id: str, *tasks: str) -> str:
    lines = "".join(f"  - {task.replace('ID', f't{number}')}\n" for number, task in enumerate(tasks))
    return f"id: {id}\nnamespace: bench\ntasks:\n{lines}"


def parallel(width: int, task: str) -> str:
    children = "".join(f"      - {task.replace('ID', f't{number}')}\n" for number in range(width))
    kind = "io.kestra.plugin.core.flow.Parallel"
    return f"id: wide\nnamespace: bench\ntasks:\n  - id: p\n    type: {kind}\n    tasks:\n{children}"


def for_each(width: int, task: str, limit: int) -> str:
    kind = "io.kestra.plugin.core.flow.ForEach"
    head = f"id: each\nnamespace: bench\ntasks:\n  - id: loop\n    type: {kind}\n    concurrencyLimit: {limit}\n"
    return f"{head}    values: '{{{{ range(1, {width}) | toJson }}}}'\n    tasks:\n      - {task.replace('ID', 't')}\n"


def run(engine: Engine, text: str) -> float:
    """Seconds from the start of a saved flow to its end."""
    saved = engine.call(engine.operations.save_flow(text))
    began = time.perf_counter()
    execution = engine.call(engine.operations.start(saved))
    _check(engine.call(engine.operations.wait(execution.id)))
    return time.perf_counter() - began


def _check(execution: Execution) -> None:
    if execution.state is not State.SUCCESS:
        sys.exit(f"{execution.id} of {execution.flow_id} ended {execution.state}: {execution.message}")


def hop(bench: Bench, name: str) -> None:
    """From the start of one worker task to the start of the next, in a sequence of 200."""
    with bench.engine() as engine:
        _began.clear()
        run(engine, flow("hops", *[WORKER] * 200))
        value = statistics.median(after - before for before, after in pairwise(_began))
    report(name, value, floor=bench.commit_s, target=0.0015, target_ratio=5)


def hops_at_10000(bench: Bench, name: str) -> None:
    """A hop of a loop of 10,000, one after the other, over that of a loop of 100."""

    def per_hop(engine: Engine, width: int) -> float:
        _began.clear()
        run(engine, for_each(width, WORKER, 1))
        return statistics.median(after - before for before, after in pairwise(_began))

    with bench.engine() as engine:
        small = statistics.median(per_hop(engine, 100) for _ in range(ROUNDS))
        large = per_hop(engine, 10_000)
    report(name, large, floor=small, target_ratio=1.2)


def forty(task: str) -> Measure:
    """40 of *task*, one after the other, over 40 commits."""

    def measure(bench: Bench, name: str) -> None:
        with bench.engine() as engine:
            value = min(run(engine, flow("forty", *[task] * 40)) for _ in range(ROUNDS))
        report(name, value, floor=40 * bench.commit_s, target=0.06)

    return measure


def wide(text: str, target: float) -> Measure:
    """A flow whose tasks are under way at the same time, over one commit."""

    def measure(bench: Bench, name: str) -> None:
        with bench.engine() as engine:
            report(name, min(run(engine, text) for _ in range(ROUNDS)), floor=bench.commit_s, target=target)

    return measure


def executions(task: str) -> Measure:
    """One-task executions each second, started by callers that each wait for the end before the next start."""

    def measure(bench: Bench, name: str, each: int = 50) -> None:
        with bench.engine() as engine:
            saved = engine.call(engine.operations.save_flow(flow("one", task)))
            operations = engine.operations

            async def caller() -> None:
                for _ in range(each):
                    execution = await operations.start(saved)
                    _check(await operations.wait(execution.id))

            async def all_callers() -> None:
                await asyncio.gather(*(caller() for _ in range(CALLERS)))

            took = min(timed(lambda: asyncio.run(all_callers())) for _ in range(ROUNDS))
        report(name, CALLERS * each / took, "executions/s", target=3000)

    return measure


def shell(bench: Bench, name: str) -> None:
    """One `sh -c :` task of a sequence, over a bare spawn of it; in turns, so that a busy moment hits both."""
    values: list[float] = []
    spawns: list[float] = []
    with bench.engine() as engine:
        run(engine, flow("shell", SHELL))
        for _ in range(2 * ROUNDS):
            spawns.append(statistics.median(timed(_spawn) for _ in range(40)))
            values.append(run(engine, flow("shell", *[SHELL] * 40)) / 40)
    report(name, min(values), floor=min(spawns), target_ratio=2)


def _spawn() -> None:
    subprocess.run(["/bin/sh", "-c", ":"], check=True)


def log(bench: Bench, name: str) -> None:
    """A script that logs `LOG_BYTES`: lines a second, and megabytes that this process grows by.

    Ends with an error if a line is lost.
    """
    lines = LOG_BYTES // 100
    script = f"yes {'x' * 99} | head -n {lines}"
    talkative = SHELL.replace("':'", f"'{script}'")
    with bench.engine() as engine:
        run(engine, flow("small", SHELL))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
        before = _peak_kb()
        took = run(engine, flow("log", talkative))
        growth = _peak_kb() - before
        home = engine.settings.home
    connection = sqlite3.connect(home / "tercel.db")
    query = "SELECT max(lines) FROM (SELECT sum(lines) AS lines FROM log_chunks GROUP BY execution_id)"
    [stored] = connection.execute(query).fetchone()
    if stored < lines:
        sys.exit(f"{lines - stored} of {lines} lines were lost.")
    report(name, lines / took, "lines/s")
    report(f"{name}.growth", growth / 1024, "MB", target=50)


def _peak_kb() -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def commit(bench: Bench, name: str) -> None:
    """The floor of the figures below."""
    report(name, bench.commit_s)


FIGURES: dict[str, Measure] = {
    "commit": commit,
    "hop.worker": hop,
    "forty.worker": forty(WORKER),
    "forty.inline": forty(INLINE),
    "parallel_500.worker": wide(parallel(500, WORKER), 0.15),
    "parallel_500.inline": wide(parallel(500, INLINE), 0.15),
    "for_each_10000.worker": wide(for_each(10_000, WORKER, 0), 2),
    "for_each_10000.inline": wide(for_each(10_000, INLINE, 0), 2),
    "executions.worker": executions(WORKER),
    "executions.inline": executions(INLINE),
    "shell": shell,
    "hop_at_10000.worker": hops_at_10000,
    "log": log,
}


if __name__ == "__main__":
    main(sys.argv[1:])
