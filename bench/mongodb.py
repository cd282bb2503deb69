"""mongodb.Load: seconds and memory for files of 1,000 to 100,000 rows, over a bare loop of pymongo's insert_many.

The server is a process of its own: `mongod` where there is one, else the stand-in of the tests. That one is slow, so
the processor's time of this process alone is a figure, too.
"""

import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.command_line import peak_mb, tercel
from bench.engine import run
from bench.report import report
from tercel.server import Engine, open_home
from tercel.settings import read_settings
from tercel.storage.namespace_files import StoredNamespaceFiles
from tests.mongodb import MongoServer, running_server

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 3
CHUNK = 1000


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-") as folder, running_server() as server:
        home = Path(folder) / "home"
        for size in SIZES:
            (Path(folder) / f"{size}.jsonl").write_bytes(rows(size))
        with open_home(read_settings({}, home=home)) as engine:
            for size in SIZES:
                StoredNamespaceFiles(engine.storage, "bench").put(f"{size}.jsonl", rows(size))
            run(engine, load(server, SIZES[0]))
            measure(engine, server, Path(folder))
        memory(server, Path(folder))


def measure(engine: Engine, server: MongoServer, folder: Path) -> None:
    """Seconds of each size over the bare loop's, then of this process for each row of many over one of few."""
    each: dict[int, float] = {}
    for size in SIZES:
        ours: list[tuple[float, float]] = []
        floors: list[tuple[float, float]] = []
        for _ in range(ROUNDS if size < SIZES[-1] else 1):
            ours.append(clock(run, engine, load(server, size)))
            floors.append(clock(bare, server, folder / f"{size}.jsonl"))
        (took, used), (floor, floor_used) = (map(statistics.median, zip(*one, strict=True)) for one in (ours, floors))
        each[size] = used / size
        report(f"mongodb.load_{size}", took, floor=floor, target_ratio=1.5)
        report(f"mongodb.load_{size}_processor", used, floor=floor_used, target_ratio=2.0 if size > CHUNK else None)
    report("mongodb.load_each_row_of_many_processor", each[SIZES[-1]], floor=each[SIZES[1]], target_ratio=1.2)


def memory(server: MongoServer, folder: Path) -> None:
    """The peak of a process that loads many rows, over one that loads few."""
    peaks: list[float] = []
    for size in (SIZES[0], SIZES[-1]):
        path = folder / "flow.yaml"
        path.write_text(load(server, size))
        peaks.append(peak_mb([*tercel(), "run", str(path), "--home", str(folder / "home")]))
    report(f"mongodb.load_{SIZES[-1]}_memory", peaks[1], "MB", floor=peaks[0], target_ratio=1.2)


def load(server: MongoServer, size: int) -> str:
    """A flow that empties the collection and loads a file of so many rows into it."""
    place = {"connection": {"uri": server.uri}, "database": "bench", "collection": "rows"}
    task = {"id": "load", "type": "io.kestra.plugin.mongodb.Load", "chunk": CHUNK, **place}
    drop(server)
    return json.dumps({"id": "load", "namespace": "bench", "tasks": [{**task, "from": f"nsfile:///{size}.jsonl"}]})


def bare(server: MongoServer, path: Path) -> None:
    """What the least program would do."""
    drop(server)
    collection = server.client["bench"]["rows"]
    batch: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for line in file:
            batch.append(json.loads(line))
            if len(batch) == CHUNK:
                collection.insert_many(batch)
                batch = []


def drop(server: MongoServer) -> None:
    server.client["bench"].drop_collection("rows")


def rows(size: int) -> bytes:
    """Documents as people have them: ids, texts, numbers, a list, a map, some 200 bytes."""
    return b"".join(
        b'{"order":%d,"customer":"customer %d","total":%d.5,"paid":true,"items":["apple","pear","plum"],'
        b'"address":{"street":"Main Street %d","city":"Springfield","zip":"12345"},"note":null}\n'
        % (number, number % 100, number % 1000, number)
        for number in range(size)
    )


def clock(action: Callable[..., object], *given: Any) -> tuple[float, float]:
    """Seconds of the wall's clock and of this process's processor time."""
    began, used = time.perf_counter(), _processor_s()
    action(*given)
    return time.perf_counter() - began, _processor_s() - used


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
