"""Layers for tests: what a stack of them shows, to be compared with what `everything_in` sees, and edits at random."""

from __future__ import annotations

import codecs
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import strategies as st

from tercel.layers.stacks import Entry, Stack, marks
from tests.trees import Seen

NOBODY = 65534

Step = tuple[str, str, str, int, int]
"""What to do, with which path, another path or content, a mode and a time in ns."""

_NAMES = st.sampled_from(["a", "b", "a-b", "é x", os.fsdecode(b"\xff"), "n" * 120])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_KINDS = st.sampled_from(
    ["file", "file", "folder", "link", "name", "remove", "remove", "rename", "touch", "chmod", "attribute", "rewrite"]
)
_MODES = st.sampled_from([0o644, 0o755, 0o600, 0o555, 0o4711, 0o1777])
STEPS = st.lists(st.tuples(_KINDS, _PATHS, _PATHS, _MODES, st.integers(-(10**18), 4 * 10**18)), max_size=12)


def take_steps(root: Path, steps: list[Step]) -> None:
    """Edit a tree; a step that cannot be taken there is left out."""
    for step in steps:
        try:
            _take_step(root, step)
        except OSError:
            continue


def _take_step(root: Path, step: Step) -> None:
    kind, name, other, mode, time_ns = step
    path = root / name
    match kind:
        case "remove":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        case "rename":
            path.rename(root / other)
        case "touch":
            os.utime(path, ns=(0, time_ns), follow_symlinks=False)
        case "chmod":
            path.chmod(mode)
        case "attribute":
            os.setxattr(path, "user.note", other.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        case "rewrite":
            _rewrite(path)
        case _:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
                path.chmod(mode)
            elif kind == "file":
                path.write_bytes(os.fsencode(other) * (mode * 100 if time_ns % 5 == 0 else 1))
                path.chmod(mode)
                os.utime(path, ns=(0, time_ns))
            elif kind == "link":
                path.symlink_to(other)
                os.utime(path, ns=(0, time_ns), follow_symlinks=False)
            else:
                os.link(root / other, path, follow_symlinks=False)


def _rewrite(path: Path) -> None:
    """Other content of the same size at the same time, in place."""
    status = path.stat()
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes(byte ^ 1 for byte in content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def everything_shown(layers: Sequence[Path | str]) -> Seen:
    """As `everything_in`, of what the layers amount to, the lowest first."""
    first_names: dict[tuple[int, int], str] = {}
    entries = sorted(Stack([str(layer) for layer in layers]).entries(), key=lambda entry: entry.path)
    return {entry.path: _seen(entry, first_names) for entry in entries}


def _seen(entry: Entry, first_names: dict[tuple[int, int], str]) -> tuple[object, ...]:
    status = entry.status
    mode = stat.S_IMODE(status.st_mode)
    if entry.kind == "l":
        return ("link", entry.target, status.st_mtime_ns)
    attributes = {
        key: os.getxattr(entry.source, key)
        for key in os.listxattr(entry.source)
        if key.startswith("user.") and not key.startswith("user.overlay.")
    }
    if entry.kind == "d":
        return ("folder", mode, status.st_mtime_ns, str(attributes))
    first = first_names.setdefault((status.st_dev, status.st_ino), entry.path)
    return ("file", mode, status.st_mtime_ns, Path(entry.source).read_bytes(), str(attributes), first)


def as_nobody(act: Callable[[], object]) -> str:
    """What *act* gives in a child process that is not root, as text; an exception's name and text if it raises."""
    codecs.lookup("ascii")  # `marks` needs it, and nobody may not find it where Python is root's
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            marks.cache_clear()  # as a process that was never root
            os.write(write_fd, str(act()).encode())
        except BaseException as error:
            os.write(write_fd, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    os.waitpid(child, 0)
    with os.fdopen(read_fd) as pipe:
        return pipe.read()
