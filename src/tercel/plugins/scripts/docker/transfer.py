"""Copying folders into a container and back, streamed: with modes, links, times and what was removed."""

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from math import floor
from pathlib import Path
from threading import Thread
from typing import IO, cast

from tercel.plugin_api import TaskFailedError
from tercel.plugins.scripts.docker.engines import EngineClient, explanation, reason_of, told
from tercel.removal import remove_tree

_BLOCK = 1 << 20
_BUFFER = 1 << 16
"""Of an archive; the library copies what is left of it for every member, so that a larger one takes far longer."""
_END = bytes(1024)
"""What an archive ends with; without it members may be missing, and what is missing would be removed."""
_COPYING_IN = "The working directory cannot be copied into the container"
_COPYING_OUT = "The working directory cannot be copied out of the container"


def copy_in(
    client: EngineClient,
    container: str,
    folders: Sequence[Path],
    owner: tuple[int, int],
    *,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copy folders, to the same paths in the container, where they belong to *owner*.

    Args:
        client: of the engine.
        container: its name.
        folders: absolute.
        owner: user and group, as numbers of the container.
        check: called again and again meanwhile; what it raises ends the copying.

    Raises:
        TaskFailedError: it cannot be done.
    """
    with told(_COPYING_IN), closing(_packed(folders, owner, check)) as blocks:
        client.put_archive(container, "/", blocks)


def _packed(folders: Sequence[Path], owner: tuple[int, int], check: Callable[[], None]) -> Generator[bytes]:
    """Folders as the blocks of a tar archive, never in memory as a whole."""
    source, target = os.pipe()
    errors: list[Exception] = []

    def write() -> None:
        try:
            with os.fdopen(target, "wb", _BLOCK) as file:
                _pack(file, folders, owner)
        except Exception as error:  # raised in the reading thread
            errors.append(error)

    writer = Thread(target=write, name="tercel-pack")
    writer.start()
    try:
        with os.fdopen(source, "rb", 0) as file:
            while block := file.read(_BLOCK):
                check()
                yield block
        writer.join()
        if errors:  # the library would take an OSError for one of the connection
            raise TaskFailedError(f"{_COPYING_IN}: {reason_of(errors[0])}") from errors[0]
    finally:
        writer.join()


def _pack(file: IO[bytes], folders: Sequence[Path], owner: tuple[int, int]) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as archive:
        for folder in folders:
            for path in _walk(os.fspath(folder)):
                try:
                    member = archive.gettarinfo(path, path.lstrip("/"))
                except FileNotFoundError:
                    continue
                if member is None:  # pyright: ignore[reportUnnecessaryComparison]  # sockets, says the library
                    continue
                member.uid, member.gid = owner
                member.uname = member.gname = ""
                if member.isreg():
                    with open(path, "rb") as content:
                        archive.addfile(member, content)
                else:
                    archive.addfile(member)


def _walk(folder: str) -> Iterator[str]:
    """A folder and all in it, folders before what they hold; links are not followed."""
    yield folder
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        else:
            yield entry.path


def copy_out(client: EngineClient, container: str, folder: Path) -> None:
    """Make *folder* what it is in the container: what is the same there is not touched, what is not there goes.

    Raises:
        TaskFailedError: it cannot be done.
    """
    from docker.errors import NotFound  # noqa: PLC0415  # loaded by `connect`

    with told(_COPYING_OUT):
        try:
            blocks, _ = client.get_archive(container, os.fspath(folder), chunk_size=_BLOCK)
        except NotFound as error:
            if "no such container" in explanation(error).lower():
                raise
            _remove_all(folder)
            return
        reader = _Reader(blocks)
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|", bufsize=_BUFFER) as archive:
                sync = _Sync(folder, archive)
                sync.take()
        except tarfile.TarError as error:
            raise TaskFailedError(f"{_COPYING_OUT}: what the engine sends is damaged: {error}") from error
        if not reader.comes_to_an_end():
            raise TaskFailedError(f"{_COPYING_OUT}: the engine has not sent all of it.")
        sync.finish()


def _remove_all(folder: Path) -> None:
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        remove_tree(entry.path)


class _Reader:
    """Blocks to be read like a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = memoryview(b"")
        self._tail = b""

    def read(self, size: int) -> bytes:
        """At most *size* bytes; none at the end."""
        if not self._rest:
            block = next(self._blocks, b"")
            self._tail = (self._tail + block)[-len(_END) :]
            self._rest = memoryview(block)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def comes_to_an_end(self) -> bool:
        """Read the rest, after which the connection can be used again; whether it is that of a whole archive."""
        while self.read(_BLOCK):
            pass
        return self._tail == _END


class _Sync:
    """Brings a folder to what an archive of it says; the archive's paths begin with the folder's own name.

    Nothing is written through a link: what a member is in has been made a folder by an earlier one.
    """

    def __init__(self, folder: Path, archive: tarfile.TarFile) -> None:
        self._root = os.fspath(folder)
        self._archive = archive
        self._seen: set[str] = set()
        self._folders: dict[str, tarfile.TarInfo] = {}
        self._inodes: set[int] = set()

    def take(self) -> None:
        """Make what the archive holds.

        Raises:
            TaskFailedError: there is something else in the folder's place.
        """
        for member in self._archive:
            path = self._path(member.name)
            if path is None or path in self._seen:
                continue
            self._seen.add(path)
            if member.isdir():
                self._make_folder(path)
                self._folders[path] = member
            elif path == self._root:
                raise TaskFailedError(f"In the container, {path} is no folder any more.")
            elif member.issym():
                self._link(path, member)
            elif member.islnk():
                self._hard_link(path, member)
            elif member.isreg():
                self._file(path, member)

    def finish(self) -> None:
        """Remove what it does not hold."""
        self._remove_others(self._root)
        for path, member in reversed(self._folders.items()):
            _give(path, member)

    def _path(self, name: str) -> str | None:
        """Where a member belongs; None for one that is outside, or in something that is no folder."""
        _, _, below = name.strip("/").partition("/")
        if not below:
            return self._root
        path = f"{self._root}/{below}"
        has_odd_parts = not {"", ".", ".."}.isdisjoint(below.split("/"))
        return None if has_odd_parts or os.path.dirname(path) not in self._folders else path

    def _make_folder(self, path: str) -> None:
        if not _is(path, stat.S_ISDIR):
            remove_tree(path)
            os.mkdir(path, 0o700)
        elif os.stat(path).st_mode & 0o700 != 0o700:
            os.chmod(path, 0o700)  # until everything is in it

    def _link(self, path: str, member: tarfile.TarInfo) -> None:
        if _is(path, stat.S_ISLNK) and os.readlink(path) == member.linkname:
            return
        remove_tree(path)
        os.symlink(member.linkname, path)
        _give_time(path, member)

    def _hard_link(self, path: str, member: tarfile.TarInfo) -> None:
        origin = self._path(member.linkname)
        if origin is None or not _is(origin, stat.S_ISREG):
            return
        if os.path.lexists(path) and os.path.samestat(os.lstat(path), os.lstat(origin)):
            return
        remove_tree(path)
        os.link(origin, path, follow_symlinks=False)

    def _file(self, path: str, member: tarfile.TarInfo) -> None:
        content = self._archive.extractfile(member)
        assert content is not None
        if self._is_same_size(path, member):
            if not os.access(path, os.R_OK | os.W_OK):
                os.chmod(path, 0o600)
            self._compare(path, content)
        else:
            remove_tree(path)
            with open(path, "xb", buffering=0) as file:
                shutil.copyfileobj(content, file, _BLOCK)
        self._inodes.add(os.stat(path).st_ino)
        if not _has_time(path, member) or _mode(path) != member.mode & 0o7777:
            _give(path, member)

    def _is_same_size(self, path: str, member: tarfile.TarInfo) -> bool:
        """Whether there is a file of the size at *path*, which is no other name of one that is another file by now."""
        if not _is(path, stat.S_ISREG):
            return False
        known = os.stat(path)
        return known.st_size == member.size and known.st_ino not in self._inodes

    def _compare(self, path: str, content: IO[bytes]) -> None:
        """Write *content* from where it begins to differ."""
        with open(path, "rb", buffering=0) as known:
            while block := content.read(_BLOCK):
                place = known.tell()
                if known.read(len(block)) != block:
                    break
            else:
                return
            if os.fstat(known.fileno()).st_nlink > 1:  # whatever has the other names keeps what is in it
                known.seek(0)
                os.unlink(path)
                with open(path, "xb", buffering=0) as own:
                    shutil.copyfileobj(known, own, _BLOCK)
        with open(path, "r+b", buffering=0) as file:
            file.seek(place)
            file.write(block)
            shutil.copyfileobj(content, file, _BLOCK)

    def _remove_others(self, folder: str) -> None:
        with os.scandir(folder) as found:
            entries = list(found)
        for entry in entries:
            if entry.path not in self._seen:
                remove_tree(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                self._remove_others(entry.path)


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    with suppress(FileNotFoundError):
        return kind(os.lstat(path).st_mode)
    return False


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _give(path: str, member: tarfile.TarInfo) -> None:
    os.chmod(path, member.mode & 0o7777)
    _give_time(path, member)


def _give_time(path: str, member: tarfile.TarInfo) -> None:
    if not _has_time(path, member):
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _has_time(path: str, member: tarfile.TarInfo) -> bool:
    """Whether the time of *path* is that of *member*, as engines tell it: in whole seconds, and none before 1970.

    Whoever compares times is to see that nothing has changed.
    """
    return max(0, floor(os.lstat(path).st_mtime)) == max(0, floor(member.mtime))
