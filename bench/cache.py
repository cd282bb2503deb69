"""What working directories made of layers, and their caches, keep a run waiting for; and what is done behind it.

Measured in the worker, over floors of the same run. The tree is a virtualenv with pandas (`workers.a_tree`). Prints one
JSON line a figure; `python -m bench.cache NAME…` measures only those below whose name contains NAME.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from bench import layers
from bench.report import report, timed
from bench.workers import (
    Bench,
    Measure,
    Worker,
    a_bench,
    calm_collector,
    in_turns,
    nothing,
    open_layers,
    read_everything,
    timed_command,
    watched,
    write_files,
)
from tercel.plugin_api import RunContext
from tercel.worker.directory_cache import DirectoryCache
from tercel.worker.recorder import Recorder

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "5"))
ROOT = Path(__file__).parents[1]
SEED = ROOT.parent / "shared/seeds/flows/004_02_python_cached_dependencies.yaml"
EXAMPLE = ROOT / "examples/flows/python_dependencies_cached.yaml"
SAVE = ((Recorder, "finish"), (DirectoryCache, "save"))
"""All that saving keeps a run waiting for: the last child's layer, and what is then done with the layers."""


def main(wanted: Sequence[str] = ()) -> None:
    calm_collector()
    with a_bench() as bench:
        for name, measure in FIGURES.items():
            if not wanted or any(part in name for part in wanted):
                measure(bench)


def files(bench: Bench) -> None:
    """What is measured with."""
    count = sum(len(names) for _, _, names in os.walk(bench.tree))
    report("cache.files", count, f"files of {bench.kind}, by {bench.worker.layers.layers.backend}")


def restore(bench: Bench) -> None:
    """Of the virtualenv, and of trees of 100 and of 50,000 files, one over the other."""
    worker = bench.worker
    for count in (100, 50_000):
        worker.run(f"{count}", lambda context, count=count: write_files(context.working_directory / "venv", count))
        worker.stored()
    venv, few, many = in_turns(4 * ROUNDS, *(partial(_restore, worker, flow) for flow in ("venv", "100", "50000")))
    report("cache.restore", venv, target=0.005)
    report("cache.restore_100_files", few, target=0.005)
    report("cache.restore_50000_files", many, floor=few, target=0.005, target_ratio=1.25)
    first = statistics.median(_in_a_process("restore", worker.home)["seconds"] for _ in range(ROUNDS))
    report("cache.restore_first_of_a_process", first, target=0.005)


def _restore(worker: Worker, flow_id: str) -> float:
    """Seconds from the look-up until the files are in place."""
    with watched((DirectoryCache, "restore")) as times:
        worker.run(flow_id, nothing)
    return sum(times)


def _restore_once(home: Path) -> dict[str, float]:
    return {"seconds": _restore(Worker(home), "venv")}


def restore_by_copy(bench: Bench) -> None:
    """Over `cp -a`."""
    worker = bench.copying_worker

    def copy() -> float:
        return timed(lambda: subprocess.run(["cp", "-a", bench.tree, bench.new_folder()], check=True))

    read_everything(bench.tree)
    read_everything(worker.home / "layers")
    value, floor = in_turns(ROUNDS, partial(_restore, worker, "venv"), copy)
    report("cache.restore_by_copy", value, floor=floor, target_ratio=1.0)


def restore_fetched(bench: Bench) -> None:
    """On a worker that has to fetch and unpack first, over zstd and tar."""
    storage = bench.worker.home / "storage"
    packed = bench.folder / "floor.tar.zst"
    subprocess.run(_packed_by_tar(bench, packed), shell=True, check=True)

    def fetched() -> float:
        home = bench.new_folder()
        (home / "storage").symlink_to(storage)
        return _restore(Worker(home), "venv")

    value, floor = in_turns(
        max(2, ROUNDS // 2),
        fetched,
        lambda: timed_command(f"zstd -dcq {packed} | tar -C {bench.new_folder()} -xpf -"),
    )
    report("cache.restore_fetched", value, floor=floor)


def _packed_by_tar(bench: Bench, target: Path) -> str:
    return f"tar -C {bench.tree.parent} -cf - {bench.tree.name} | zstd -3 -T0 -q -f -o {target}"


def save(bench: Bench) -> None:
    """Where nothing changed since it was restored, and where 50 files were changed and 10 are new."""
    worker = bench.worker
    unchanged, changed = in_turns(
        2 * ROUNDS, partial(_save, worker, "venv", nothing), partial(_save, worker, "venv", _change_60)
    )
    report("cache.save_unchanged", unchanged, target=0.001)
    report("cache.save_60_files", changed, target=0.015)


def _save(worker: Worker, flow_id: str, child: Callable[[RunContext], object]) -> float:
    """Seconds that saving what *child* did keeps the run waiting; it is stored afterwards."""
    with watched(*SAVE) as times:
        worker.run(flow_id, child)
    worker.stored()
    return sum(times)


def _change_60(context: RunContext) -> None:
    root = context.working_directory / "venv"
    changed = 0
    for path in root.rglob("*.py"):
        if changed < 50 and path.stat().st_size:
            with path.open("ab") as file:
                file.write(b"# changed\n")
            changed += 1
    mark = os.urandom(4).hex()
    for number in range(10):
        (root / f"new-{mark}-{number}.txt").write_text("new\n" * 100)


def first_save(bench: Bench) -> None:
    """What the run waits for; then the packing behind it, over tar and zstd, and the memory that it needs."""
    saves: list[float] = []
    packs: list[float] = []
    floors: list[float] = []
    memory: list[float] = []
    for _ in range(ROUNDS):
        worker = Worker(bench.new_folder())
        with watched(*SAVE) as times:
            worker.run("venv", bench.fetch_tree)
        saves.append(sum(times))
        os.sync()
        packed = _in_a_process("store", worker.home)
        packs.append(packed["seconds"])
        memory.append(packed["grown_mb"])
        os.sync()
        floors.append(timed_command(_packed_by_tar(bench, bench.folder / "floor.tar.zst")))
    report("cache.first_save", statistics.median(saves), target=0.02)
    report("cache.pack", statistics.median(packs), floor=statistics.median(floors), target_ratio=1.2)
    report("cache.pack_memory", statistics.median(memory), "MB", target=64)


def _store(home: Path) -> dict[str, float]:
    """Store what the runs of a home have saved: the seconds it took, and what this process has grown by."""
    for name in ("hashlib", "zstandard", "tercel.layers.packs"):
        import_module(name)
    services = open_layers(home)
    before = _memory_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew here
    services.keeper.entrust_leftovers()
    seconds = timed(services.keeper.wait)
    return {"seconds": seconds, "grown_mb": (_memory_kb("VmHWM") - before) / 1024}


def _memory_kb(what: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1])


def growth(bench: Bench) -> None:
    """Of what depends on the number of files changed: each file of 10,000 over each of 1,000, and of that over 100."""
    counts = (100, 1000, 10_000)
    for backend, parts in (("", ("save", "pack")), ("copy", ("freeze_by_copy", "save_by_copy"))):
        figures = [_per_file(bench, backend, count) for count in counts]
        for part, values in zip(parts, zip(*figures, strict=True), strict=True):
            for count, value, floor in zip(counts[1:], values[1:], values, strict=False):
                report(f"cache.growth.{part}_{count}", value * 1e6, "µs/file", floor=floor * 1e6, target_ratio=1.2)


def _per_file(bench: Bench, backend: str, count: int) -> tuple[float, float]:
    """Seconds for each of *count* files that are changed: saved and packed, or by copy frozen and saved."""
    worker = Worker(bench.new_folder(), backend)
    texts = iter(f"{number}" * 100 for number in range(100))

    def write(context: RunContext) -> None:
        write_files(context.working_directory / "venv", count, next(texts))

    def measured() -> tuple[float, float]:
        with watched((Recorder, "end_step")) as freezes, watched(*SAVE) as saves:
            worker.run("many", write, nothing)
        packing = timed(worker.stored)
        return (freezes[0], sum(saves)) if backend else (sum(saves), packing)

    measured()
    rounds = [measured() for _ in range(3)]
    first, second = (statistics.median(values) / count for values in zip(*rounds, strict=True))
    return first, second


def python_example(bench: Bench) -> None:
    """The flow whose virtualenv comes from the cache: the second run over the first, as whole commands.

    The flow of the seeds where they are and pandas can be had; otherwise the example that does the same with less.
    """
    for flow in (SEED, EXAMPLE):
        times = _commands(bench, flow) if flow.is_file() else []
        if times:
            name = f"cache.python_example.{flow.stem}.second_run"
            report(name, statistics.median(times[1:]), floor=times[0], target_ratio=0.3)
            return
    sys.exit(f"{EXAMPLE} does not run.")


def _commands(bench: Bench, flow: Path) -> list[float]:
    """Seconds of each of four runs; none where one fails."""
    binaries = Path(sys.executable).parent
    command = [binaries / "tercel", "run", flow, "--home", bench.new_folder() / "home"]
    env = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}

    def run() -> object:
        return subprocess.run(command, cwd=bench.folder, env=env, capture_output=True, check=True)

    try:
        return [timed(run) for _ in range(4)]
    except subprocess.CalledProcessError:
        return []


FIGURES: dict[str, Measure] = {
    "files": files,
    "restore": restore,
    "save": save,
    "first_save": first_save,
    **layers.FIGURES,
    "python_example": python_example,
    "growth": growth,
    "restore_fetched": restore_fetched,
    "restore_by_copy": restore_by_copy,  # removes many files each time, after which all takes longer on ext4
}


IN_A_PROCESS: dict[str, Callable[[Path], dict[str, float]]] = {"restore": _restore_once, "store": _store}
"""What is measured in a process of its own, over a home."""


def _in_a_process(name: str, home: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.cache", f"--{name}", str(home)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("--"):
        calm_collector()
        print(json.dumps(IN_A_PROCESS[sys.argv[1].removeprefix("--")](Path(sys.argv[2]))))
    else:
        main(sys.argv[1:])
