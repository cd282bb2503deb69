"""Whether cost grows with work alone: loops, chains and stores of 100 and of 10,000, on both databases; and memory.

Run it as `python -m bench.growth [NAME…]` to measure only the figures whose name contains NAME.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.engine import INLINE, ROUNDS, WORKER, flow, for_each, run
from bench.report import report
from tercel.server import Engine, open_home
from tercel.settings import read_settings

FEW, MANY = 100, 10_000

Measure = Callable[["Homes", str], None]


class Homes:
    """Engines in a folder of their own, by the name of their database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @contextmanager
    def engine(self, database: str) -> Generator[Engine]:
        """An engine on an empty database: `sqlite` or `postgres`."""
        self._count += 1
        environment = {}
        with _postgres(database == "postgres") as address:
            if address:
                environment["TERCEL_DATABASE"] = address
            with open_home(read_settings(environment, home=self._folder / f"home-{self._count}")) as engine:
                run(engine, flow("warm", INLINE, WORKER))
                yield engine


@contextmanager
def _postgres(is_wanted: bool) -> Generator[str]:
    if not is_wanted:
        yield ""
        return
    from tests.postgres import PostgresServer

    server = PostgresServer(durable=True)
    try:
        server.start()
        yield server.dsn("postgres")
    finally:
        server.remove()


def main(wanted: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as folder:
        homes = Homes(Path(folder))
        for name, measure in FIGURES.items():
            if not wanted or any(part in name for part in wanted):
                measure(homes, f"growth.{name}")


def loop(database: str, task: str, target: float) -> Measure:
    """A loop over 10,000 values, all at once: seconds; and each task over one of a loop over 100."""

    def measure(homes: Homes, name: str) -> None:
        with homes.engine(database) as engine:
            few = statistics.median(run(engine, for_each(FEW, task, 0)) for _ in range(4 * ROUNDS)) / FEW
            took = min(run(engine, for_each(MANY, task, 0)) for _ in range(ROUNDS))
        report(name, took, target=target)
        report(f"{name}.each", took / MANY, floor=few, target_ratio=1.2)

    return measure


def chain(homes: Homes, name: str) -> None:
    """Each task of 10,000 in a row, over one of 100 in a row."""
    with homes.engine("sqlite") as engine:
        few = statistics.median(run(engine, flow("few", *[INLINE] * FEW)) for _ in range(4 * ROUNDS)) / FEW
        many = min(run(engine, flow("many", *[INLINE] * MANY)) for _ in range(ROUNDS)) / MANY
    report(name, many, floor=few, target_ratio=1.2)


def stored(homes: Homes, name: str) -> None:
    """One execution beside 10,000 others in the store, over one beside 100."""

    def typical(engine: Engine) -> float:
        return statistics.median(run(engine, flow("one", INLINE)) for _ in range(200))

    with homes.engine("sqlite") as engine:
        few = typical(engine)
        saved = engine.call(engine.operations.save_flow(flow("one", INLINE)))
        for _ in range(MANY):
            last = engine.call(engine.operations.start(saved))
        engine.call(engine.operations.wait(last.id))
        report(name, typical(engine), floor=few, target_ratio=1.2)


def memory(homes: Homes, name: str) -> None:
    """The peak of a process of its own that runs a loop over 10,000 values."""
    del homes
    script = "from bench.growth import _peak; _peak()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    report(name, int(done.stdout) / 1024, "MB", target=150)


def _peak() -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-") as folder, Homes(Path(folder)).engine("sqlite") as engine:
        run(engine, for_each(MANY, WORKER, 0))
        time.sleep(0.1)
        [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
        print(int(line.split()[1]))


FIGURES: dict[str, Measure] = {
    "loop_10000.sqlite": loop("sqlite", WORKER, 2),
    "loop_10000_inline.sqlite": loop("sqlite", INLINE, 2),
    "loop_10000.postgres": loop("postgres", WORKER, 8),
    "loop_10000_inline.postgres": loop("postgres", INLINE, 8),
    "chain_10000.sqlite": chain,
    "stored_10000.sqlite": stored,
    "memory_10000.sqlite": memory,
}


if __name__ == "__main__":
    main(sys.argv[1:])
