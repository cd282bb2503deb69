"""What scripts see of the machine: all but the home of tercel and the directories of other task runs."""

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from tercel.worker.workplace import Workplace

_OF_HOME = re.compile(
    r"tercel\.db(-\w+)?|storage|layers|tmp|dependencies|processes|lock|secret\.key|login\.json(\.\d+)?"
)
_OF_BASE = re.compile(r"[0-9A-Za-z]{8}\.owner|[0-9A-Za-z]{22}(\.\w+)?|\.\S+|at")


class Containment:
    """Hides folders from the processes of task runs.

    Args:
        home: of tercel.
        base: folder of the directories of task runs; it may be in the home.
        shown: folders in them that scripts need.
        storage: folder of internal storage, which is tercel's alone; None where it is in the home.
        is_wanted: False to hide nothing.
    """

    def __init__(
        self, home: Path, base: Path, shown: Sequence[Path], *, storage: Path | None = None, is_wanted: bool = True
    ) -> None:
        self._is_wanted = is_wanted
        self._home = os.path.realpath(home)
        self._base = os.path.realpath(base)
        self._storage = None if storage is None else os.path.realpath(storage)
        self._shown = [os.path.realpath(path) for path in shown]

    @cached_property
    def why_not(self) -> str:
        """Why nothing is hidden; "" where it is. Looked at once, when the first script starts."""
        if not self._is_wanted:
            return "TERCEL_CONTAIN is false"
        from tercel.mounts import why_no_mounts  # noqa: PLC0415  # loads ctypes, for scripts only

        for folder, ours in ((self._home, _OF_HOME), (self._base, _OF_BASE)):
            # Something else is in there that a script may want: nothing may be lost to it.
            other = next((name for name in _listing(folder) if not ours.fullmatch(name)), None)
            if other is not None:
                return f"{folder} is not tercel's alone: {other!r} is in it"
        why_not = why_no_mounts()
        return f"the system allows no mounts: {why_not}" if why_not else ""

    def around(self, workplace: Workplace) -> AbstractContextManager[None]:
        """While the block runs, processes that this thread starts see only what is in *workplace* of what is hidden.

        Raises:
            OSError: the system does not allow it.
        """
        from tercel.mounts import contained  # noqa: PLC0415  # loads ctypes, for scripts only

        folders = {self._home, self._base, *([] if self._storage is None else [self._storage])}
        hidden = [one for one in sorted(folders) if not any(_is_in(one, other) for other in folders - {one})]
        return contained(hidden, [*self._shown, *map(os.path.realpath, workplace.folders)])


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
