"""How long the cache of a working directory takes, each figure over a floor measured in the same run.

The tree is a virtualenv with pandas, made once in the folder of $TERCEL_BENCH_TREES (by default below the system's
temporary folder); where it cannot be installed, a made-up tree of the same shape. Prints one JSON line a figure.
"""

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench.report import report, timed
from tercel.layers import LayerStore
from tercel.model.globs import Globs
from tercel.storage.caches import CacheEntry, CacheKey, Caches, this_platform
from tercel.storage.local import LocalStorage

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "5"))
PATTERNS = ("venv/**",)


def main() -> None:
    tree, kind = a_tree()
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=tree.parent) as folder:
        bench = Bench(Path(folder), tree)
        report("cache.files", bench.files, f"files of {kind}")
        report_both("cache.walk", bench.unchanged(), 1.5)
        report_both("cache.first_save", bench.first_save(), 1.5)
        report("cache.keep_in_pool", bench.keep())
        report_both("cache.restore", bench.restore(), 1.0)
        report_both("cache.restore_fetched", bench.restore_fetched())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report("cache.peak_memory", peak, "MB")


def report_both(name: str, measured_and_floor: tuple[float, float], target_ratio: float | None = None) -> None:
    """Print what was measured over its floor."""
    measured, floor = measured_and_floor
    report(name, measured, floor=floor, target_ratio=target_ratio)


class Bench:
    """A working directory with the tree in it, a local tier and a storage, all on one disk."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.run.mkdir()
        subprocess.run(["cp", "-a", tree, self.run / "venv"], check=True)
        self.layers = LayerStore(folder / "pool")
        self.caches = Caches(LocalStorage(folder / "storage"))
        self.globs = Globs(PATTERNS)
        self.files = len(self.layers.look(self.run, self.globs).entries)
        self.entry: CacheEntry | None = None

    def unchanged(self) -> tuple[float, float]:
        """Finding that nothing changed, over a walk that looks at everything."""
        baseline = self.layers.baseline(self.layers.look(self.run, self.globs))

        def compare() -> None:
            assert not self.layers.changes(baseline, self.layers.look(self.run, self.globs))

        return in_turns(compare, lambda: bare_walk(str(self.run)), rounds=4 * ROUNDS)

    def first_save(self) -> tuple[float, float]:
        """From looking at the directory to the pointer in storage, over tar and zstd."""
        target = self.folder / "floor.tar.zst"
        floor = f"tar -C {self.run} -cf - venv | zstd -3 -T0 -q -f -o {target}"
        return in_turns(
            self._save,
            lambda: subprocess.run(floor, shell=True, check=True),
            before=lambda: self.caches.delete_flow("bench", "flow"),
            warm=(self.run,),
        )

    def _save(self) -> None:
        with self.layers.pack(self.layers.look(self.run, self.globs)) as packed:
            self.entry = CacheEntry(
                key=CacheKey("bench", "flow", "wd"),
                saved_at=datetime.now(UTC),
                patterns=PATTERNS,
                platform=this_platform(),
                pack=packed.facts,
            )
            self.caches.save(self.entry, packed.file)

    def keep(self) -> float:
        """Moving the directory's files into the local tier; uses them up, so it is done once."""
        copy = self.folder / "copy"
        copy.mkdir()
        subprocess.run(["cp", "-a", self.run / "venv", copy / "venv"], check=True)
        with self.layers.pack(self.layers.look(copy, self.globs)) as packed:
            return timed(lambda: packed.keep("version"))

    def restore(self) -> tuple[float, float]:
        """From the local tier into an empty directory, over `cp -a`."""
        self._save()
        self._restore_to(self._new_folder())
        return in_turns(
            lambda: self._restore_to(self._new_folder()),
            lambda: subprocess.run(["cp", "-a", self.run / "venv", self._new_folder()], check=True),
            warm=(self.run, Path(self.layers.pool.folder)),
        )

    def restore_fetched(self) -> tuple[float, float]:
        """On a worker that has to fetch and unpack first, over zstd and tar."""
        packed = self.folder / "floor.tar.zst"

        def fetched() -> None:
            self.layers = LayerStore(self._new_folder())
            self._restore_to(self._new_folder())

        def unpacked() -> None:
            subprocess.run(f"zstd -dcq {packed} | tar -C {self._new_folder()} -xpf -", shell=True, check=True)

        return in_turns(fetched, unpacked, rounds=max(1, ROUNDS // 2))

    def _new_folder(self) -> Path:
        # Always another, removed at the end only: ext4 looks long for an inode where many have just been removed.
        return Path(tempfile.mkdtemp(dir=self.folder))

    def _restore_to(self, target: Path) -> None:
        assert self.entry is not None
        entry = self.entry
        self.layers.restore(entry.pack, self.caches.version(entry), lambda: self.caches.open(entry), target)


def in_turns(
    measured: Callable[[], object],
    floor: Callable[[], object],
    before: Callable[[], object] = lambda: None,
    rounds: int = ROUNDS,
    warm: tuple[Path, ...] = (),
) -> tuple[float, float]:
    """The least of both, as what others do on the machine is no part of it; in turns, *warm* in the page cache."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds * 2):
        which = (number + number // 2) % 2
        before()
        os.sync()
        for folder in warm:
            read_everything(folder)
        times[which].append(timed((measured, floor)[which]))
    return min(times[0]), min(times[1])


def read_everything(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def bare_walk(folder: str) -> int:
    """The least a walk can do: list every folder and stat every entry."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            count += 1
            if entry.is_dir(follow_symlinks=False):
                count += bare_walk(entry.path)
    return count


def a_tree() -> tuple[Path, str]:
    """A virtualenv with pandas, or a tree of its shape; kept for the next time."""
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


if __name__ == "__main__":
    main()
