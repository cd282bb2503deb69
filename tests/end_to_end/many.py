"""`python -m tests.end_to_end.many HOME TRACE COUNT`: an engine that runs so many executions at once, or goes on.

With COUNT 0 it goes on with what a dead process left open, to the end; `moved SECONDS` is printed once the first
task of them has started, and how long that took from the start of the engine.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tercel.model import Execution, TaskRun
from tercel.server import open_home
from tercel.settings import read_settings
from tests.flows import CORE, echo, flow, sh

SLOTS = 8


def flow_text(trace: Path) -> str:
    """Tasks on a worker and inline ones; each of the former adds a line to the file *trace* as it starts."""
    words = "{{ execution.id }} {{ taskrun.id }}"
    return flow(
        sh("one", f"echo one {words} >> {trace}"),
        echo("two", "{{ execution.id }}"),
        {
            "id": "both",
            "type": f"{CORE}.flow.Parallel",
            "tasks": [sh("left", f"echo left {words} >> {trace}"), sh("right", f"echo right {words} >> {trace}")],
        },
        sh("last", f"echo last {words} >> {trace}"),
        id="many",
    )


def main(home: Path, trace: Path, count: int) -> None:
    began = time.perf_counter()
    with open_home(read_settings({}, home=home, slots=SLOTS), recover=False) as engine:
        operations = engine.operations
        has_moved = False

        def changed(execution: Execution, runs: Sequence[TaskRun]) -> None:
            nonlocal has_moved
            if not has_moved and any(run.attempts for run in runs):
                has_moved = True
                print(f"moved {time.perf_counter() - began:.4f}", flush=True)

        engine.watch(changed)
        if count:
            saved = engine.call(operations.save_flow(flow_text(trace)))
            ids = [engine.call(operations.start(saved)).id for _ in range(count)]
            print("started", flush=True)
        else:
            engine.recover()
            ids = engine.recovered
        for execution_id in ids:
            engine.call(operations.wait(execution_id))
        print(f"ended {len(ids)}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
