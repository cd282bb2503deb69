"""Killed at any moment of restoring, freezing, saving and packing: nothing damaged is served, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

from tercel.layers import LayerStore
from tercel.model import Cache, State
from tercel.plugin_api import Outputs, RunContext
from tercel.storage.caches import Caches
from tercel.storage.local import LocalStorage
from tercel.worker.directories import Directories
from tercel.worker.layer_services import LayerServices
from tests.homes import until
from tests.job_runners import Bench, Calls, a_directory, backend

KILLS = 100
FILES = 30
RUNS_TO_MEASURE = 3


class Worker(Bench):
    """One of the two workers: they share storage, and each has layers of its own."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(folder)
        layers = LayerStore(folder / f"layers-{number}", folder / "tmp" / f"at-{number}", backend())
        self.layers = LayerServices(layers, self.storage, lambda: datetime.now(UTC))
        self.services.layers = lambda: self.layers


def _look(context: RunContext) -> Outputs:
    """All files are of one generation, and all of them are there, or none is."""
    folder = context.working_directory / "c"
    texts = {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}
    generations = {text.split()[0] for text in texts.values()}
    whole = {f"f{number}" for number in range(FILES)} | {f"of-{generation}" for generation in generations}
    if texts and (len(generations) != 1 or set(texts) != whole):
        _report(context, f"mixed: {sorted(texts)} of the generations {generations}")
    return Outputs(generation=int(next(iter(generations), "0")))


def _change(context: RunContext) -> Outputs:
    """The next generation: every file is another one, one is new and one is gone."""
    folder = context.working_directory / "c"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("of-*"):
        old.unlink()
    generation = f"{time.time_ns()}"
    for name in (*(f"f{number}" for number in range(FILES)), f"of-{generation}"):
        (folder / name).write_text(f"{generation} " * 500)
    (context.working_directory / "other").write_text("not cached")
    return Outputs()


def _report(context: RunContext, trouble: str) -> None:
    folder = Path(str(context.setting("test.folder")))
    (folder / "trouble").write_text(trouble)


Calls.functions = {**Calls.functions, "look": _look, "change": _change}
DIRECTORY = a_directory(
    Calls(id="look"), Calls(id="change"), id="wd", cache=Cache(patterns=["c/**"]), input_files={"in.txt": "in"}
)


def run_for_ever(folder: Path) -> None:
    """Run the working directory again and again, on one worker and the other."""
    workers = [Worker(folder, 1), Worker(folder, 2)]
    for worker in workers:
        worker.services.settings = {"test.folder": str(folder)}
        worker.layers.keeper.entrust_leftovers()
    number = os.getpid()
    while True:
        run_once(folder, workers[number % 2], f"{number}")
        workers[number % 2].layers.keeper.wait()
        number += 1


def run_once(folder: Path, worker: Worker, execution_id: str) -> None:
    """Run it; a run that does not succeed is trouble."""
    result = worker.run(DIRECTORY, execution_id=execution_id)
    if result.state is not State.SUCCESS:
        (folder / "trouble").write_text(f"{result}\n{worker.records.messages()}")
    with (folder / "runs").open("a") as runs:
        runs.write(".")


def serve(folder: Path) -> None:
    """For each line read: fork a process that runs for ever, tell its number, and reap it."""
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run_for_ever(folder)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)


class TestKilled:
    def test_given_a_hundred_kills_then_no_run_fails_nothing_is_mixed_and_nothing_is_left(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "tests.integration.test_layers_killed", str(tmp_path)]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin is not None
        assert server.stdout is not None
        chance = random.Random(1)
        run_s = 0.0
        for number in range(KILLS + 1):
            server.stdin.write("go\n")
            server.stdin.flush()
            pid = int(server.stdout.readline())
            if number == 0:
                began = time.monotonic()
                until(lambda: runs_in(tmp_path) >= RUNS_TO_MEASURE)
                run_s = (time.monotonic() - began) / RUNS_TO_MEASURE
            else:
                time.sleep(chance.uniform(0, 3 * run_s))  # the moment is what the test is about
            os.kill(pid, signal.SIGKILL)
            assert server.stdout.readline() == "ended\n"
        server.stdin.close()
        server.stdout.close()
        server.wait()

        assert not (tmp_path / "trouble").exists(), (tmp_path / "trouble").read_text()
        assert runs_in(tmp_path) > KILLS / 10  # on a busy machine many are killed before they come to anything
        for number in (1, 2):
            worker = Worker(tmp_path, number)
            worker.services.settings = {"test.folder": str(tmp_path)}
            worker.layers.clean()
            run_once(tmp_path, worker, f"last-{number}")
            worker.layers.keeper.entrust_leftovers()
            worker.layers.keeper.wait()
            worker.layers.clean()
            assert left_in(worker.layers) == []
            worker.layers.close()
        assert not (tmp_path / "trouble").exists(), (tmp_path / "trouble").read_text()
        self.check_storage(tmp_path)
        self.check_directories(tmp_path)

    def check_storage(self, folder: Path) -> None:
        caches = Caches(LocalStorage(folder / "storage"))
        caches.collect(datetime.now(UTC) + timedelta(hours=2))
        [listed] = caches.search()
        assert listed.entry is not None
        objects = {path.name.removesuffix(".tar.zst") for path in (folder / "storage").rglob("*.tar.zst")}
        assert objects == {layer.id for layer in listed.entry.layers}

    def check_directories(self, folder: Path) -> None:
        Directories(folder / "tmp").sweep()
        left = [path for path in (folder / "tmp").rglob("*") if not path.name.startswith("at-")]
        assert [path for path in left if not path.name.startswith(".")] == []
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()


def runs_in(folder: Path) -> int:
    """How many runs came to their end."""
    return (folder / "runs").stat().st_size if (folder / "runs").exists() else 0


def left_in(services: LayerServices) -> list[str]:
    """What is in a pool that no note names, and what is half done."""
    pool = services.layers.pool
    named: set[str] = set()
    for notes in (pool.entries, pool.runs):
        for name in notes.names():
            note = notes.get(name)
            named.update(() if note is None else note.layers)
    layers = [layer for layer in pool.layers() if layer not in named]
    names = [name for name in os.listdir(pool.folder) if name.startswith(".")]
    for folder in ("entries", "runs", "work"):
        staged = folder == "work"
        names += [name for name in os.listdir(f"{pool.folder}/{folder}") if staged or name.startswith(".staged")]
    half = [layer for layer in pool.layers() if sorted(os.listdir(f"{pool.layers_folder}/{layer}")) not in _WHOLE]
    return [*layers, *names, *half]


_WHOLE = (["t"], ["facts", "t"])


if __name__ == "__main__":
    import_module("tests.conftest")  # enters a user namespace where the backend needs one
    for module in ("changes", "copied", "copies", "overlay", "packs", "relocations", "splits"):
        import_module(f"tercel.layers.{module}")  # before the first fork
    for module in ("hashlib", "zstandard", "tercel.worker.working_directory", "tercel.worker.directory_cache"):
        import_module(module)
    serve(Path(sys.argv[1]))
