"""Capturing files: what globs match in a directory goes to internal storage, nothing from outside it."""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

from tercel.errors import StorageError, TaskFailedError
from tercel.layers.globs import select
from tercel.layers.trees import located as located_folder
from tercel.model.globs import compile_glob

Keep: TypeAlias = Callable[[str, str], str]
"""Takes a relative path and a file to read, stores it, gives its URI."""

Warn: TypeAlias = Callable[[str], None]


def capture_matching(root: Path, patterns: Sequence[str], keep: Keep, warn: Warn) -> dict[str, str]:
    """Store the files below *root* that *patterns* match.

    Args:
        root: the working directory; links to folders are not entered.
        patterns: rendered globs; blank ones are passed over.
        keep: stores one file.
        warn: told of plain names without a file, and of links that lead outside.

    Returns:
        Relative path to URI, sorted by path.

    Raises:
        TaskFailedError: a file cannot be read or stored; names it.
        GlobSyntaxError: a pattern is not well formed.
    """
    globs = [compile_glob(pattern) for pattern in patterns if pattern.strip()]
    literals = [glob.literal for glob in globs if glob.literal is not None]
    if len(literals) == len(globs):
        # Plain names need no walk, and in a big tree a walk takes long.
        return _kept(_named(located_folder(root), literals, warn), keep, warn)
    return _capture(root, patterns, keep, warn)


def capture_all(root: Path, keep: Keep, warn: Warn) -> dict[str, str]:
    """Store every file below *root*, as `capture_matching` does; nothing where *root* is not there."""
    return _capture(root, ["**"], keep, warn) if root.is_dir() else {}


def each_matching(root: Path, patterns: Sequence[str], take: Callable[[str, BinaryIO], None], warn: Warn) -> None:
    """Hand the files that `capture_matching` would store to *take*: relative path, and the file open for reading."""

    def opened(name: str, file: str) -> str:
        with open(file, "rb") as content:
            take(name, content)
        return name

    capture_matching(root, patterns, opened, warn)


def _capture(root: Path, patterns: Sequence[str], keep: Keep, warn: Warn) -> dict[str, str]:
    selection = select(root, patterns)
    for name in selection.outside:
        warn(_outside(name))
    for name in selection.missing:
        warn(_missing(name))
    for name in selection.unreadable:
        warn(f"The folder {name!r} cannot be read; nothing in it is captured.")
    return _kept(selection.files, keep, warn)


def _named(root: str, names: Sequence[str], warn: Warn) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        located = os.path.realpath(f"{root}/{name}")
        if not os.path.lexists(f"{root}/{name}") or os.path.isdir(located):
            warn(_missing(name))
        elif not located.startswith(f"{root}/") or not os.path.isfile(located):
            warn(_outside(name))
        else:
            found[name] = located
    return found


def _kept(files: Mapping[str, str], keep: Keep, warn: Warn) -> dict[str, str]:
    captured: dict[str, str] = {}
    for name, located in files.items():
        if not _is_text(name):
            warn(f"The name of the file {name!r} is not UTF-8, so no output can be called so; it is not captured.")
            continue
        try:
            descriptor = os.open(located, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    # By its descriptor: what was looked at is what is read, whatever happens to the name.
                    captured[name] = keep(name, f"/dev/fd/{descriptor}")
            finally:
                os.close(descriptor)
        except (OSError, StorageError) as error:
            reason = error.strerror or str(error) if isinstance(error, OSError) else error.message
            raise TaskFailedError(f"The file {name!r} cannot be captured: {reason}") from error
    return captured


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _outside(name: str) -> str:
    return f"{name!r} is a link that leads out of the directory or nowhere; it is not captured."


def _missing(name: str) -> str:
    return f"There is no file {name!r} to capture."
