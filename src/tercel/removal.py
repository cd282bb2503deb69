"""Removing folders, whatever is in them: at once, or out of sight at once and for good when there is time."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from errno import ENOTEMPTY

_DEEPEST = 64
_REMOVED = ".removed-"


class Trash:
    """Takes things out of sight by one rename each; their files go later.

    Args:
        folder: absolute path, on the file system of what is thrown away.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._paths: list[str] = []

    def put(self, path: str) -> None:
        """Take something out of sight; nothing there is fine."""
        removed = f"{self._folder}/{_REMOVED}{os.getpid()}-{os.urandom(6).hex()}"
        with suppress(FileNotFoundError):
            os.rename(path, removed)
            self._paths.append(removed)

    def empty(self, most: int | None = None) -> None:
        """Remove the files of what is out of sight, of at most so many things; what cannot go stays for `sweep`."""
        while self._paths and most != 0:
            with suppress(OSError):
                remove_tree(self._paths.pop())
            most = None if most is None else most - 1

    def sweep(self) -> None:
        """The same for what any process has put here."""
        self._paths.clear()
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if name.startswith(_REMOVED):
                    with suppress(OSError):
                        remove_tree(f"{self._folder}/{name}")


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove a file, link or directory with all in it, following no link; nothing there is fine.

    Directories that may not be written are made writable first.

    Raises:
        OSError: something cannot be removed, for example because it belongs to another user.
    """
    try:
        os.rmdir(path)  # most are empty
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    except OSError as error:
        if error.errno != ENOTEMPTY:
            raise
    else:
        return
    with suppress(FileNotFoundError):
        _retried(lambda: _remove_children(path), path)
        os.rmdir(path)


def _remove_children(path: str | os.PathLike[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while os.listdir(descriptor):
            _empty(descriptor, descriptor, 0)
    finally:
        os.close(descriptor)


def _empty(descriptor: int, top: int, depth: int) -> None:
    with os.scandir(descriptor) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            os.unlink(name, dir_fd=descriptor)
            continue
        if depth == _DEEPEST:
            # Folders may be nested deeper than we can call or have files open: the rest has its turn from the top.
            _make_writable(name, descriptor)
            os.rename(name, os.urandom(16).hex(), src_dir_fd=descriptor, dst_dir_fd=top)
            continue
        _retried_at(name, descriptor, top, depth + 1)
        os.rmdir(name, dir_fd=descriptor)


def _retried_at(name: str, parent: int, top: int, depth: int) -> None:
    for attempt in range(2):
        try:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                _empty(inner, top, depth)
            finally:
                os.close(inner)
        except PermissionError:
            if attempt:
                raise
            _make_writable(name, parent)
        else:
            return


def _retried(remove: Callable[[], None], path: str | os.PathLike[str]) -> None:
    try:
        remove()
    except PermissionError:
        _make_writable(os.fspath(path), None)
        remove()


def _make_writable(name: str, parent: int | None) -> None:
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        os.chmod(name, stat.S_IMODE(mode) | 0o700, dir_fd=parent)
