"""A worker to measure, whose children are functions of the benchmark; and trees for it to work on."""

import gc
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from bench.report import timed
from tercel.layers import Backend, LayerStore
from tercel.model import Cache, DirectoryTask, LogEntry, LogLevel, Metric, State, WorkerJob
from tercel.plugin_api import Outputs, RunContext, RunnableTask
from tercel.secrets import Secrets
from tercel.storage.local import LocalStorage
from tercel.worker.containment import Containment
from tercel.worker.control import JobControl
from tercel.worker.directories import Directories
from tercel.worker.job_runner import JobRunner
from tercel.worker.layer_services import LayerServices
from tercel.worker.services import WorkerServices, utc_now

Child = Callable[[RunContext], object]
"""What a child does in the working directory."""


class Worker:
    """Runs WorkingDirectories in this thread, with storage, layers and directories of a home of its own.

    Args:
        home: made when it is not there; nothing else may be in it.
        backend: how layers become a directory; "" for the best that works here.
    """

    def __init__(self, home: Path, backend: Backend | str = "") -> None:
        self.home = home
        self.layers = open_layers(home, backend)
        self._log = _Log()
        self._runs = 0
        services = WorkerServices(
            storage=LocalStorage(home / "storage"),
            logs=self._log,
            directories=Directories(home / "tmp"),
            secrets=Secrets({}),
            layers=lambda: self.layers,
            worker_id="bench",
            containment=Containment(home, home / "tmp", [home / "dependencies"]),
        )
        self._runner = JobRunner(services)

    def run(self, flow_id: str, *children: Child, patterns: Sequence[str] = ("venv/**",)) -> None:
        """Run a WorkingDirectory to its end; what it saves in its cache is packed when `stored` is called.

        Args:
            flow_id: the runs of one flow share a cache.
            children: one after the other.
            patterns: of the cache; none for no cache.
        """
        for number, child in enumerate(children):
            _Child.functions[f"child{number}"] = child
        tasks = [_Child(id=f"child{number}", type="bench.Child") for number in range(len(children))]
        cache = Cache(patterns=list(patterns)) if patterns else None
        self._runs += 1
        job = WorkerJob(
            execution_id=f"execution{self._runs}",
            namespace="bench",
            flow_id=flow_id,
            revision=1,
            task_run_id="run",
            task=DirectoryTask(id="wd", type="io.kestra.plugin.core.flow.WorkingDirectory", tasks=tasks, cache=cache),
            fence=1,
        )
        result = self._runner.run(job, JobControl(), lambda _: None)
        if result.state is not State.SUCCESS or self._log.has_warned:
            sys.exit(f"A job of {flow_id} ended {result.state}: {result.message}\n" + "\n".join(self._log.messages))

    def stored(self) -> None:
        """Store what caches have saved; a worker does it behind its runs."""
        self.layers.keeper.entrust_leftovers()
        self.layers.keeper.wait()


class _Log:
    """Keeps what was said, for when something goes wrong."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.has_warned = False

    def write_logs(self, entries: Sequence[LogEntry]) -> None:
        self.messages.extend(entry.message for entry in entries)
        self.has_warned = self.has_warned or any(entry.level is LogLevel.WARN for entry in entries)

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        del metrics


class _Child(RunnableTask, frozen=True, kw_only=True):
    """Calls a function."""

    functions: ClassVar[dict[str, Child]] = {}

    def run(self, context: RunContext) -> Outputs:
        self.functions[self.id](context)
        return Outputs()


def open_layers(home: Path, backend: Backend | str = "") -> LayerServices:
    """The layers of a home; they pack nothing on their own, lest it disturbs what is measured."""
    store = LayerStore(home / "layers", home / "tmp" / "at", backend)  # type: ignore[arg-type]
    services = LayerServices(store, LocalStorage(home / "storage"), utc_now)
    services.keeper.entrust = _unless_saved(services.keeper.entrust)  # type: ignore[method-assign]
    return services


def _unless_saved(entrust: Callable[..., None]) -> Callable[..., None]:
    """What a run has saved, of which it wants to be told, waits for `Worker.stored`."""

    def entrust_leftover(name: str, told: object = None) -> None:
        if told is None:
            entrust(name)

    return entrust_leftover


class Bench:
    """Homes and copies on the disk that has the tree."""

    def __init__(self, folder: Path, tree: Path, kind: str) -> None:
        self.folder = folder
        self.tree = tree
        self.kind = kind

    def new_folder(self) -> Path:
        """Always another, removed at the end only: ext4 looks long for an inode where many have just been removed."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @cached_property
    def worker(self) -> Worker:
        """By the best backend, with the tree in the cache of the flow `venv`."""
        return self._with_tree(Worker(self.new_folder()))

    @cached_property
    def copying_worker(self) -> Worker:
        """The same by copy."""
        return self._with_tree(Worker(self.new_folder(), "copy"))

    def _with_tree(self, worker: Worker) -> Worker:
        worker.run("venv", self.fetch_tree)
        worker.stored()
        return worker

    def fetch_tree(self, context: RunContext) -> None:
        """What a child does that makes the tree."""
        subprocess.run(["cp", "-a", self.tree, context.working_directory / "venv"], check=True)


Measure = Callable[[Bench], None]
"""Measures figures and reports them."""


def nothing(_: RunContext) -> None:
    """What a child does that changes no file."""


@contextmanager
def a_bench() -> Generator[Bench]:
    """On the disk of the trees; what it made is removed at the end."""
    tree, kind = a_tree()
    folder = tempfile.mkdtemp(prefix="tercel-bench-", dir=tree.parent)
    try:
        yield Bench(Path(folder), tree, kind)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def calm_collector() -> None:
    """Have Python look for garbage as seldom as a worker's process does."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextmanager
def watched(*methods: tuple[type, str]) -> Generator[list[float]]:
    """Gives a list that has the seconds of each call of some methods, while the block runs."""
    times: list[float] = []
    originals = [(owner, name, getattr(owner, name)) for owner, name in methods]

    def timing(method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            began = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                times.append(time.perf_counter() - began)

        return call

    for owner, name, method in originals:
        setattr(owner, name, timing(method))
    try:
        yield times
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def in_turns(rounds: int, *actions: Callable[[], float]) -> list[float]:
    """The median of what each of *actions* gives; one after the other, so that a busy moment hits all."""
    taken = [[action() for action in actions] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def timed_command(command: str) -> float:
    """Seconds that a shell line takes."""
    return timed(lambda: subprocess.run(command, shell=True, check=True))


def read_everything(folder: Path) -> None:
    """Have all files below *folder* in the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def write_files(folder: Path, count: int, text: str = "x" * 400) -> None:
    """Write *count* files below *folder*, a hundred in each of its folders."""
    for start in range(0, count, 100):
        inner = folder / f"part-{start // 100}"
        inner.mkdir(parents=True, exist_ok=True)
        for number in range(start, min(start + 100, count)):
            (inner / f"file-{number}.txt").write_text(f"{text}{number}\n")


def a_tree() -> tuple[Path, str]:
    """A virtualenv with pandas, or a tree of its shape where it cannot be installed; kept for the next time.

    It is in the folder of $TERCEL_BENCH_TREES, by default below the system's temporary folder.
    """
    folder = Path(os.environ.get("TERCEL_BENCH_TREES", f"{tempfile.gettempdir()}/tercel-bench-trees"))
    real, made_up = folder / "pandas-venv", folder / "made-up-venv"
    if real.is_dir():
        return real, "a virtualenv with pandas"
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f"staged-{os.getpid()}"
    try:
        subprocess.run([sys.executable, "-m", "venv", staged], check=True, capture_output=True)
        install = [staged / "bin/python", "-m", "pip", "install", "--quiet", "pandas"]
        subprocess.run(install, check=True, capture_output=True, timeout=300)
        subprocess.run([staged / "bin/python", "-c", "import pandas"], check=True, capture_output=True)
        staged.rename(real)
    except (subprocess.SubprocessError, OSError):
        shutil.rmtree(staged, ignore_errors=True)
    else:
        return real, "a virtualenv with pandas"
    if not made_up.is_dir():
        make_up(staged)
        staged.rename(made_up)
    return made_up, "a made-up tree"


def make_up(root: Path) -> None:
    """6,650 files of 170 MB in some 700 folders: many small texts and bytecode, a few large libraries."""
    draw = random.Random(7)
    words = [f"word_{number} = self.value[{number}]\n" for number in range(2000)]
    for number in range(6600):
        folder = root / "lib" / f"package-{number % 70}" / f"part-{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        size = int(draw.lognormvariate(8.6, 1.3))
        if number % 2:
            content = "".join(draw.choices(words, k=size // 25 + 1)).encode()
        else:
            content = draw.randbytes(size // 2) + bytes(size - size // 2)
        (folder / f"file-{number}.py").write_bytes(content)
    (root / "libs").mkdir()
    for number in range(50):
        half = draw.randbytes(1_000_000)
        (root / "libs" / f"large-{number}.so").write_bytes(half + half[:500_000] * 2)
