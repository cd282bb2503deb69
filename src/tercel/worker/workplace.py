"""Where a job works: its directory, the private area beside it, and what the engine has put there."""

import os
from itertools import count
from pathlib import Path

from tercel.worker.directories import Directories
from tercel.worker.safe_files import SafeRoot


class Workplace:
    """A directory made when first asked for; removed by `remove`, always.

    Args:
        is_shared: True for the directory of a WorkingDirectory, in which several task runs work.
    """

    __slots__ = ("_areas", "_beside", "_directories", "_directory", "_engine", "_restored", "_staged", "is_shared")

    def __init__(self, directories: Directories, *, is_shared: bool = False) -> None:
        self._directories = directories
        self._directory: Path | None = None
        self._engine: Path | None = None
        self._beside: list[Path] = []
        self._areas = count(1)
        self._staged: set[str] = set()
        self._restored: set[str] = set()
        self.is_shared = is_shared

    @property
    def directory(self) -> Path:
        """The directory, absolute."""
        if self._directory is None:
            self._directory = self._directories.make()
        return self._directory

    @property
    def is_made(self) -> bool:
        """Whether anybody asked for the directory."""
        return self._directory is not None

    @property
    def staged(self) -> frozenset[str]:
        """Relative paths of what the engine put into the directory."""
        return frozenset(self._staged)

    def note_staged(self, name: str) -> None:
        """Remember that the engine put *name* into the directory."""
        self._staged.add(name)
        self._restored.discard(name)

    @property
    def restored(self) -> frozenset[str]:
        """Those of `staged` that came from a cache."""
        return frozenset(self._restored)

    def note_restored(self, name: str) -> None:
        """Remember that *name* came from a cache."""
        self._staged.add(name)
        self._restored.add(name)

    def make_engine_area(self) -> Path:
        """A new empty folder in the private area."""
        if self._engine is None:
            self._engine = self._directories.make_engine_area(self.directory)
            self._beside.append(self._engine)
        area = self._engine / str(next(self._areas))
        os.mkdir(area, 0o700)
        return area

    def make_output_area(self) -> Path:
        """A new empty folder beside the directory, for what a task makes."""
        area = self._directories.make_output_area(self.directory, next(self._areas))
        self._beside.append(area)
        return area

    def open_root(self) -> SafeRoot:
        """The directory, to write into."""
        return SafeRoot(self.directory)

    def remove(self) -> str:
        """Remove the directory and all beside it; gives why where that fails, else ""."""
        return "" if self._directory is None else self._directories.remove(self._directory, *self._beside)
