"""Runs a command as a user without any rights, as far as it can be found by that user: for root's tests only.

`python -m tests.unprivileged COMMAND…`: in mounts of its own, where the folders that lead to Python and to this project
are open to everybody, it becomes nobody and runs the command.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from tercel.mounts import bind, mount, own_mounts

NOBODY = 65534
_PR_SET_DUMPABLE = 4


def _closed(path: Path) -> Path | None:
    """The topmost folder on the way to *path* that others may not enter."""
    return next((folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001), None)


def main() -> None:
    """Become nobody and run the command line's command."""
    project = Path(__file__).parents[1]
    with own_mounts():
        for needed in (Path(sys.base_prefix).resolve(), project, Path(sys.prefix)):
            while (closed := _closed(needed)) is not None:
                inside = closed / needed.relative_to(closed).parts[0]
                fd = os.open(inside, os.O_PATH)
                mount("tercel", os.fspath(closed), "tmpfs", 0, "mode=755")
                inside.mkdir()
                bind(f"/proc/thread-self/fd/{fd}", os.fspath(inside))
                os.close(fd)
        os.chdir(project)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        # Otherwise what is in /proc of this process stays root's.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.environ["HOME"] = os.environ.get("UNPRIVILEGED_HOME", "/tmp")
        os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
