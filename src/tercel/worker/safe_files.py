"""Writing into a directory that others write to: nothing lands outside it, whatever links lie in the way.

Every path is taken part by part from an open directory, and no link is followed by the kernel. A link to a
directory that leads to another place inside is resolved here, once; any other is refused.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tercel.errors import TaskFailedError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFIT = frozenset(("", ".", ".."))
_BLOCK = 1 << 20
_MAX_LINKS = 40


def relative_name(name: str) -> str:
    """*name* as a path inside a directory: leading and doubled `/` and single dots taken out.

    Raises:
        TaskFailedError: it is empty, ends with `/`, holds `..` as a part, or a NUL.

    Example:
        >>> relative_name("/a/./b//c.txt")
        'a/b/c.txt'
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if "\0" in name or ".." in parts or not parts or name.endswith(("/", "/.")):
        raise TaskFailedError(
            f"{name!r} is not a name for a file in the working directory.",
            "It has to be a relative path without `..` that ends with a file name.",
        )
    return "/".join(parts)


class SafeRoot:
    """An open directory to write into; close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, _DIRECTORY)

    def __enter__(self) -> "SafeRoot":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the directory go."""
        os.close(self._descriptor)

    def exists(self, name: str) -> bool:
        """Tell whether something, a dangling link included, is at *name*."""
        try:
            with self._parent(name.split("/"), create=False) as (parent, last):
                os.stat(last, dir_fd=parent, follow_symlinks=False)
        except (FileNotFoundError, TaskFailedError):
            return False
        return True

    def open_existing(self, name: str) -> BinaryIO | None:
        """The regular file at *name*, for reading; None where there is none or it is a link."""
        try:
            with self._parent(name.split("/"), create=False) as (parent, last):
                descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=parent)
        except (OSError, TaskFailedError):
            return None
        return os.fdopen(descriptor, "rb")

    def create(self, name: str, mode: int = 0o644) -> BinaryIO:
        """A new file at *name*, for writing; folders on the way are made, a file or link there is replaced.

        Args:
            name: as `relative_name` gives it.
            mode: permission bits, before the umask.

        Raises:
            TaskFailedError: a folder is in the way of the file, a file in the way of a folder, or a link leads out.
        """
        with self._parent(name.split("/"), create=True) as (parent, last):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                descriptor = os.open(last, flags, mode, dir_fd=parent)
            except FileExistsError:
                # Replaced, not written over: the old content may be shared by hard links.
                try:
                    os.unlink(last, dir_fd=parent)
                except (IsADirectoryError, PermissionError) as error:
                    raise TaskFailedError(f"{name!r} cannot be written: there is a folder of that name.") from error
                descriptor = os.open(last, flags, mode, dir_fd=parent)
        return os.fdopen(descriptor, "wb", buffering=0)

    @contextmanager
    def _parent(self, parts: list[str], *, create: bool) -> Generator[tuple[int, str]]:
        if not _UNFIT.isdisjoint(parts):
            raise TaskFailedError(f"{'/'.join(parts)!r} is not a name for a file in the working directory.")
        descriptor = os.dup(self._descriptor)
        try:
            descriptor = self._descend(descriptor, parts[:-1], create=create)
            yield descriptor, parts[-1]
        finally:
            os.close(descriptor)

    def _descend(self, descriptor: int, folders: list[str], *, create: bool) -> int:
        links = 0
        at = 0
        while at < len(folders):
            try:
                inner = os.open(folders[at], _DIRECTORY, dir_fd=descriptor)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(folders[at], 0o777, dir_fd=descriptor)
                continue
            except OSError as error:
                links += 1
                folders = self._without_link(folders, at, error if links <= _MAX_LINKS else None)
                # From the root again: the place the link leads to is walked without following either.
                os.dup2(self._descriptor, descriptor, inheritable=False)
                at = 0
                continue
            os.dup2(inner, descriptor, inheritable=False)
            os.close(inner)
            at += 1
        return descriptor

    def _without_link(self, folders: list[str], at: int, error: OSError | None) -> list[str]:
        place = "/".join(folders[: at + 1])
        link = self.path / place
        if error is None or not link.is_symlink():
            raise TaskFailedError(f"{place!r} in the working directory is not a folder.") from error
        root = os.path.realpath(self.path)
        target = os.path.realpath(link)
        if not target.startswith(root + "/") and target != root:
            raise TaskFailedError(f"{place!r} is a link that leads out of the working directory.") from error
        inside = [] if target == root else target[len(root) + 1 :].split("/")
        return [*inside, *folders[at + 1 :]]


def write_all(target: BinaryIO, content: bytes) -> None:
    """Write the whole of *content* to an unbuffered file, which may take it in pieces."""
    view = memoryview(content)
    while view:
        view = view[target.write(view) :]


def same_content(left: BinaryIO, right: BinaryIO) -> bool:
    """Tell whether two files read the same to their ends."""
    while True:
        block = left.read(_BLOCK)
        # The two may cut their blocks differently, so the other side is asked for as much as came.
        other = b""
        while len(other) < max(len(block), 1):
            more = right.read(max(len(block), 1) - len(other))
            if not more:
                break
            other += more
        if block != other:
            return False
        if not block:
            return True
