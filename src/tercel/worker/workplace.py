"""Where a job works: its directory, the private area beside it, and what the engine has put there."""

import os
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tercel.plugin_api import Resource
from tercel.worker.directories import Directories
from tercel.worker.safe_files import SafeRoot

if TYPE_CHECKING:
    # Tasks without files know nothing of layers.
    from tercel.layers import LayeredDirectory


class Workplace:
    """A directory made when first asked for; removed by `remove`, always.

    Args:
        is_shared: True for the directory of a WorkingDirectory, in which several task runs work.
        layered: the directory, where it is made of layers; whoever opened it closes it.
    """

    __slots__ = (
        "_areas",
        "_beside",
        "_cached",
        "_directories",
        "_directory",
        "_engine",
        "_restored",
        "_staged",
        "_stem",
        "inputs_written",
        "is_shared",
        "layered",
        "resources",
    )

    def __init__(
        self, directories: Directories, *, is_shared: bool = False, layered: "LayeredDirectory | None" = None
    ) -> None:
        self._directories = directories
        self._directory: Path | None = None if layered is None else Path(layered.path)
        self._stem: Path | None = None
        self._engine: Path | None = None
        self._beside: list[Path] = []
        self._areas = count(1)
        self._staged: set[str] = set()
        self._cached: Callable[[], Iterable[str]] | None = None
        self._restored: frozenset[str] | None = None
        self.is_shared = is_shared
        self.layered = layered
        self.inputs_written: Callable[[], object] = lambda: None
        """Called when the input files of a task alone are there."""
        self.resources: dict[object, Resource] = {}
        """What lives as long as the directory; closed before it goes."""

    @property
    def directory(self) -> Path:
        """The directory, absolute."""
        if self._directory is None:
            self._directory = self._stem = self._directories.make()
        return self._directory

    @property
    def staged(self) -> frozenset[str]:
        """Relative paths of what the engine put into the directory."""
        return self.restored | self._staged

    def note_staged(self, name: str) -> None:
        """Remember that the engine put *name* into the directory."""
        self._staged.add(name)

    @property
    def restored(self) -> frozenset[str]:
        """Those of `staged` that came from a cache."""
        if self._restored is None:
            # Only who asks has the cache walked: it may hold very many files.
            self._restored = frozenset(self._cached() if self._cached is not None else ())
        return self._restored - self._staged

    def note_cached(self, paths: Callable[[], Iterable[str]]) -> None:
        """Remember that a cache was put into the directory, of which *paths* gives the files."""
        self._cached = paths
        self._restored = None

    @property
    def _name(self) -> Path:
        """What the names of the areas beside the directory begin with."""
        if self._stem is None:
            if self.layered is None:
                return self.directory
            self._stem = self._directories.reserve()
        return self._stem

    def make_engine_area(self) -> Path:
        """A new empty folder in the private area."""
        if self._engine is None:
            self._engine = self._directories.make_engine_area(self._name)
            self._beside.append(self._engine)
        area = self._engine / str(next(self._areas))
        os.mkdir(area, 0o700)
        return area

    def make_output_area(self) -> Path:
        """A new empty folder beside the directory, for what a task makes."""
        if self.is_shared:
            return self.make_engine_area()  # all is in one folder, as a container that is kept gets to see it once
        area = self._directories.make_output_area(self._name, next(self._areas))
        self._beside.append(area)
        return area

    def outside(self, path: Path) -> Path | None:
        """Where other processes of this machine see *path*, in or beside the directory; None where they do not."""
        if self.layered is None or not path.is_relative_to(self.layered.path):
            return path
        return Path(self.layered.outside, path.relative_to(self.layered.path)) if self.layered.outside else None

    @property
    def folders(self) -> list[str]:
        """Absolute paths of all that belongs to the job, for those who may see nothing else."""
        made = [] if self._directory is None else [self._directory]
        return [os.fspath(path) for path in (*made, *self._beside)]

    def open_root(self) -> SafeRoot:
        """The directory, to write into."""
        return SafeRoot(self.directory)

    def remove(self) -> str:
        """Remove the directory and all beside it; gives why where that fails, else ""."""
        for resource in self.resources.values():
            resource.close()
        self.resources.clear()
        mine = [] if self._directory is None or self.layered is not None else [self._directory]
        gone = [*mine, *self._beside]
        return self._directories.remove(*gone) if gone else ""
