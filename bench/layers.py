"""What each child of a working directory costs beyond itself: frozen when it has ended, contained while it runs.

Run by `bench.cache`.
"""

import os
import statistics
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from bench.report import report, timed
from bench.workers import Bench, Measure, Worker, in_turns, nothing, watched
from tercel.plugin_api import RunContext
from tercel.worker.recorder import Recorder

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "5"))
STARTS = 60


def freeze(bench: Bench) -> None:
    """From a child's end until the directory is ready for the next one."""
    worker = Worker(bench.new_folder())
    children = (nothing, _write_few, bench.fetch_tree, _write_few, nothing)
    with watched((Recorder, "end_step")) as times:
        for _ in range(ROUNDS):
            worker.run("freeze", *children, patterns=())
    unchanged, few, venv, few_more = (statistics.median(times[place :: len(children)]) for place in range(4))
    report("layers.freeze_unchanged", unchanged, target=0.002)
    report("layers.freeze_10_files", few, target=0.002)
    report("layers.freeze_venv", venv, target=0.002)
    report("layers.freeze_10_files_after_venv", few_more, floor=few, target=0.002)
    with watched((Recorder, "end_step")) as times:
        for _ in range(ROUNDS):
            worker.run("many", *[_write_few] * 61, patterns=())
    second, sixtieth = (statistics.median(times[place::61]) for place in (1, 59))
    report("layers.freeze_60th_child", sixtieth, floor=second, target=0.002)


def _write_few(context: RunContext) -> None:
    mark = os.urandom(4).hex()
    for number in range(10):
        (context.working_directory / f"{mark}-{number}.txt").write_text("few\n")


def contained(bench: Bench) -> None:
    """What a process takes longer than a bare one: as a child's, and with a directory made for it alone."""
    medians: list[float] = []

    def start_alone(context: RunContext) -> None:
        with bench.worker.layers.layers.directory("alone") as directory:
            directory.fill([])
            _start(context.contained)
            directory.freeze(is_last=True)

    def measure(context: RunContext) -> None:
        _start(context.contained)  # finds out first whether it can be done
        medians.extend(
            in_turns(
                STARTS,
                lambda: timed(lambda: _start(nullcontext)),
                lambda: timed(lambda: _start(context.contained)),
                lambda: timed(lambda: start_alone(context)),
            )
        )

    bench.worker.run("venv", measure)
    bare, child, alone = medians
    report("layers.bare_process", bare)
    report("layers.contained_over_bare", child - bare, target=0.008)
    report("layers.own_directory_and_contained_over_bare", alone - bare, target=0.008)


def _start(around: Callable[[], AbstractContextManager[object]]) -> None:
    with around():
        process = subprocess.Popen(["/bin/sh", "-c", ":"], start_new_session=True)
    process.wait()


FIGURES: dict[str, Measure] = {"freeze": freeze, "contained": contained}
