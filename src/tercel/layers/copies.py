"""Files, folders and links put into a folder by copying, by clone or in the kernel where it can.

Knows how to make them as they were: modes, times, owners, links of both kinds, `user.` attributes and holes. Where
they come from is in `stacks.py`. Goes by descriptors of folders and never through a link.
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fcntl import ioctl
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Literal, Protocol

import msgspec

from tercel.layers.stacks import OPAQUE, REDIRECT, USER, Entry, Stack, marks
from tercel.layers.trees import CREATE_FLAGS, READ_FLAGS, DamagedEntryError, FolderStack, LayerError

Method = Literal["reflink", "copy"]

_FICLONE = 0x40049409
"""ioctl(2) that makes one file share the content of another; man 2 ioctl_ficlone."""

_IN_ONE_READ_BYTES = 128 << 10
_BLOCK_BYTES = 1 << 20
_COST_OF_A_FILE, _COST_OF_A_SHARE = 50_000, 10_000_000
"""A file costs as much as so many bytes of content; so much for a thread at a time."""

_MOST_ROOTS = 8


class Copied(msgspec.Struct, frozen=True):
    """What was copied.

    Attributes:
        files: regular files, links and further names of a file.
        bytes: content of all files.
        method: `reflink` when content is shared with where it came from.
        unreadable: paths of files that were left out, as they could not be read.
    """

    files: int
    bytes: int
    method: Method
    unreadable: tuple[str, ...] = ()


class Relocating(Protocol):
    """Changes some of what is copied; implemented in `relocations.py`."""

    def new_start(self, fd: int, size: int) -> tuple[bytes, int] | None:
        """What a file starts with now, and how many of its bytes that stands for; None where nothing changes."""
        ...

    def new_target(self, target: str) -> str:
        """Where a link leads now."""
        ...


def copy_entries(
    entries: Iterable[Entry],
    target: str,
    *,
    relocation: Relocating | None = None,
    whiteouts: Literal["refuse", "skip", "keep"] = "refuse",
) -> Copied:
    """Put entries into the folder *target*. Folders that are there already stay, and get mode and time of their entry.

    Args:
        entries: parents before what is in them.
        target: absolute path of a folder; nothing but folders may be in the place of an entry.
        relocation: changes files and links on the way.
        whiteouts: `keep` makes them in *target*, and keeps the marks of folders too: it becomes a layer.

    Raises:
        DamagedEntryError: a file is not what its entry says.
        LayerError: *target* cannot be written, or there is a whiteout and they are refused.
    """
    try:
        with _Copying(target, relocation, keeps_marks=whiteouts == "keep") as copying:
            for entry in entries:
                if entry.kind != "w" or whiteouts == "keep":
                    copying.add(entry)
                elif whiteouts == "refuse":
                    raise LayerError(f"{entry.source} is a note that {entry.path!r} was deleted, and nothing to copy.")
            return copying.finish()
    except OSError as error:
        raise LayerError(f"The files cannot be put into {target}: {error.strerror}: {error.filename}.") from error


def squash(stack: Stack, target: str) -> None:
    """Make a folder *target* with what a stack shows: the one layer that can take its place.

    Raises:
        LayerError: something cannot be read or written.
    """
    make_layer(stack.entries(), target, stack.trees[-1])


def make_layer(entries: Iterable[Entry], target: str, like: str, *, relocation: Relocating | None = None) -> None:
    """Make a folder *target* that is a layer of *entries*, without marks; its root is as the folder *like*.

    Raises:
        LayerError: something cannot be read or written.
    """
    try:
        os.makedirs(target, 0o700)
        copied = copy_entries(entries, target, relocation=relocation)
        if copied.unreadable:
            raise LayerError(f"The file {copied.unreadable[0]!r} in the layers below {target} cannot be read.")
        with FolderStack(target) as folders:
            status = os.stat(like)
            give_status(folders.open(""), status.st_mode, owner_of(status), status.st_mtime_ns, time.time_ns())
    except OSError as error:
        raise LayerError(f"The layer {target} cannot be made: {error.strerror}: {error.filename}.") from error


def clones(folder: str) -> bool:
    """Tell by trying whether files of an existing folder can share their content."""
    names = [f"{folder}/.clone-{os.getpid()}-{os.urandom(6).hex()}-{number}" for number in range(2)]
    fds: list[int] = []
    try:
        fds = [os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600) for name in names]
        os.write(fds[0], b"x" * 4096)
        ioctl(fds[1], _FICLONE, fds[0])
    except OSError:
        return False
    finally:
        for fd, name in zip(fds, names, strict=False):
            os.close(fd)
            os.unlink(name)
    return True


class _Copying:
    """Copies while entries are still being added: a second thread has its turn as soon as there is enough to do."""

    def __init__(self, target: str, relocation: Relocating | None, *, keeps_marks: bool) -> None:
        self._target = target
        self._relocation = relocation
        self._keeps_marks = keeps_marks
        self._now = time.time_ns()
        self._made = FolderStack(target)
        self._folders: list[Entry] = []
        self._links: list[Entry] = []
        self._further: list[tuple[Entry, Entry]] = []
        self._firsts: dict[tuple[int, int], Entry] = {}
        self._share: list[Entry] = []
        self._share_cost = 0
        self._shares: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._errors: list[BaseException] = []
        self._files = self._bytes = 0
        self._unreadable: list[Entry] = []
        self._unclonable: set[int] = set()
        self._has_cloned = False

    def __enter__(self) -> "_Copying":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._errors.append(LayerError("Copying has stopped."))  # for the other thread, which looks here
        self._end_thread()
        self._made.close()

    def add(self, entry: Entry) -> None:
        """Take an entry into account. Folders are made at once, files when there is a thread for them."""
        if entry.kind == "d":
            self._folders.append(entry)
            parent, _, name = entry.path.rpartition("/")
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=self._made.open(parent))
            return
        if entry.kind == "w":
            self._links.append(entry)
            return
        self._files += 1
        if entry.kind == "l":
            self._links.append(entry)
            return
        status = entry.status
        if status.st_nlink > 1:
            first = self._firsts.setdefault((status.st_dev, status.st_ino), entry)
            if first is not entry:
                self._further.append((entry, first))
                return
        self._bytes += status.st_size
        self._share.append(entry)
        self._share_cost += status.st_size + _COST_OF_A_FILE
        if self._share_cost > _COST_OF_A_SHARE:
            self._hand_over()

    def _hand_over(self) -> None:
        share, self._share, self._share_cost = self._share, [], 0
        if self._thread is None:
            if not self._unclonable or (os.cpu_count() or 1) < 2:
                self._copy_share(share)  # nothing is known yet, or all are clones, at which two are no quicker than one
                return
            self._thread = Thread(target=self._copy_shares, name="copy-entries")
            self._thread.start()
        self._shares.put(share)
        if self._errors:
            raise self._errors[0]

    def _copy_shares(self) -> None:
        try:
            while (share := self._shares.get()) is not None and not self._errors:
                self._copy_share(share)
        except BaseException as error:  # handed over to the caller's thread
            self._errors.append(error)

    def finish(self) -> Copied:
        """Copy what is left, and give all folders their modes and times."""
        self._copy_share(self._share)
        with suppress(Empty):
            while self._thread is not None:
                self._copy_share(self._shares.get_nowait() or [])
        self._end_thread()
        if self._errors:
            raise self._errors[0]
        self._make_links()
        # Last and from the deepest: making something in a folder changes its time, and may need its write bit.
        with _Sources() as sources:
            for entry in reversed(self._folders):
                self._finish_folder(self._made.open(entry.path), entry, sources)
        left_out = {entry.path: entry.status.st_size for entry in self._unreadable}
        further = [entry.path for entry, first in self._further if first.path in left_out]
        return Copied(
            files=self._files - len(left_out) - len(further),
            bytes=self._bytes - sum(left_out.values()),
            method="reflink" if self._has_cloned else "copy",
            unreadable=tuple(sorted([*left_out, *further])),
        )

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._shares.put(None)
            self._thread.join()
            self._thread = None

    def _copy_share(self, files: Sequence[Entry]) -> None:
        with _Sources() as sources, FolderStack(self._target) as targets:
            folder, folder_fd = None, -1
            for entry in files:
                try:
                    read_fd = sources.open_file(entry)
                except PermissionError:
                    self._unreadable.append(entry)
                    continue
                except OSError as error:
                    raise DamagedEntryError(
                        f"The stored file {entry.path!r} cannot be read: {error.strerror}."
                    ) from error
                try:
                    above, _, name = entry.path.rpartition("/")
                    if above != folder:
                        folder, folder_fd = above, targets.open(above)
                    self._copy_file(entry, read_fd, name, folder_fd)
                finally:
                    os.close(read_fd)

    def _copy_file(self, entry: Entry, read_fd: int, name: str, folder_fd: int) -> None:
        status = entry.status
        # Its own mode at once saves a call for most.
        write_fd = os.open(name, CREATE_FLAGS, status.st_mode & 0o777 | 0o600, dir_fd=folder_fd)
        try:
            if status.st_size:
                self._copy_content(entry, status.st_size, read_fd, write_fd)
            given = attributes(read_fd)
            if given:
                give_attributes(write_fd, given)
            give_status(write_fd, status.st_mode, owner_of(status), status.st_mtime_ns, self._now)
        finally:
            os.close(write_fd)

    def _copy_content(self, entry: Entry, size: int, read_fd: int, write_fd: int) -> None:
        if self._relocation is not None:
            start = self._relocation.new_start(read_fd, size)
            if start is not None:
                write_all(write_fd, start[0])
                _append(entry, read_fd, write_fd, start[1])
                return
        if entry.status.st_dev not in self._unclonable:
            if self._clone(entry, read_fd, write_fd):
                return
            self._unclonable.add(entry.status.st_dev)
        if size <= _IN_ONE_READ_BYTES:
            # One read and one write are quicker than asking the kernel to copy so little.
            content = os.read(read_fd, size + 1)
            if len(content) != size:
                raise _wrong_size(entry)
            write_all(write_fd, content)
            return
        if os.fstat(read_fd).st_size != size:
            raise _wrong_size(entry)
        if entry.status.st_blocks * 512 < size:
            os.ftruncate(write_fd, size)
            for start, end in data_ranges(read_fd, size):
                _copy_range(read_fd, write_fd, start, end)
        else:
            _copy_range(read_fd, write_fd, 0, size)

    def _clone(self, entry: Entry, read_fd: int, write_fd: int) -> bool:
        try:
            ioctl(write_fd, _FICLONE, read_fd)
        except OSError:
            return False
        if os.fstat(write_fd).st_size != entry.status.st_size:
            raise _wrong_size(entry)
        self._has_cloned = True
        return True

    def _make_links(self) -> None:
        left_out = {entry.path for entry in self._unreadable}
        with FolderStack(self._target) as folders, FolderStack(self._target) as firsts:
            for entry, first in self._further:
                if first.path in left_out:
                    continue
                folder, _, name = entry.path.rpartition("/")
                link_further_name(first.path, folders.open(folder), name, firsts)
            for entry in self._links:
                folder, _, name = entry.path.rpartition("/")
                fd = folders.open(folder)
                if entry.kind == "w":
                    make_whiteout(name, fd)
                    continue
                target = entry.target
                if self._relocation is not None:
                    target = self._relocation.new_target(target)
                make_link(target, name, fd, owner_of(entry.status), entry.status.st_mtime_ns, self._now)

    def _finish_folder(self, fd: int, entry: Entry, sources: "_Sources") -> None:
        with suppress(PermissionError):  # listed, but not to be opened: it has come with what can be seen of it
            give_attributes(fd, attributes(sources.open_folder(entry)))
        if self._keeps_marks:
            if entry.is_opaque:
                set_mark(fd, OPAQUE, b"y")
            if entry.redirect:
                set_mark(fd, REDIRECT, os.fsencode(entry.redirect))
        status = entry.status
        give_status(fd, status.st_mode, owner_of(status), status.st_mtime_ns, self._now)


class _Sources:
    """What entries come from, opened by descriptors of the folders it is in."""

    def __init__(self) -> None:
        self._roots: dict[str, FolderStack] = {}
        self._folder = ""
        self._fd = -1

    def __enter__(self) -> "_Sources":
        return self

    def __exit__(self, *_: object) -> None:
        for folders in self._roots.values():
            folders.close()

    def open_file(self, entry: Entry) -> int:
        """A new descriptor, the caller's to close."""
        folder, _, name = entry.source.rpartition("/")
        if folder != self._folder:
            self._fd = self._open(folder, entry.path.rpartition("/")[0])
            self._folder = folder
        return os.open(name, READ_FLAGS, dir_fd=self._fd)

    def open_folder(self, entry: Entry) -> int:
        """A descriptor that stays open until something else is asked for."""
        self._folder = entry.source
        self._fd = self._open(entry.source, entry.path)
        return self._fd

    def _open(self, folder: str, path: str) -> int:
        root, inside = folder, ""
        if folder.endswith(f"/{path}"):  # all but what was renamed
            root, inside = folder[: len(folder) - len(path) - 1], path
        folders = self._roots.get(root)
        if folders is None:
            if len(self._roots) == _MOST_ROOTS:
                self._roots.pop(next(iter(self._roots))).close()
            folders = self._roots[root] = FolderStack(root)
        return folders.open(inside)


def _append(entry: Entry, read_fd: int, write_fd: int, start: int) -> None:
    """Write what follows the first *start* bytes of a file where the other one ends."""
    at = start
    while block := os.pread(read_fd, _BLOCK_BYTES, at):
        write_all(write_fd, block)
        at += len(block)
    if at != entry.status.st_size:
        raise _wrong_size(entry)


def _copy_range(read_fd: int, write_fd: int, start: int, end: int) -> None:
    at = start
    try:
        while at < end and (count := os.copy_file_range(read_fd, write_fd, end - at, at, at)):
            at += count
    except OSError:
        pass  # not on this file system, or not between these two: the plain way follows
    while at < end and (block := os.pread(read_fd, min(_BLOCK_BYTES, end - at), at)):
        at += os.pwrite(write_fd, block, at)


def data_ranges(fd: int, size: int) -> list[tuple[int, int]]:
    """Where a file has content, as start and end; the rest are holes."""
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break  # a hole up to the end
        at = os.lseek(fd, start, os.SEEK_HOLE)
        ranges.append((start, at))
    return ranges


def write_all(fd: int, content: bytes) -> None:
    """Write all of *content*, however many calls it takes."""
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, memoryview(content)[written:])


def _wrong_size(entry: Entry) -> DamagedEntryError:
    return DamagedEntryError(f"The stored file {entry.path!r} has not the {entry.status.st_size} bytes it had.")


def attributes(fd: int) -> dict[str, bytes]:
    """The extended attributes that belong to a file or folder: those of users, without the marks of layers."""
    try:
        names = os.listxattr(fd)
        if not names:
            return {}
        names = [name for name in names if name.startswith("user.") and not name.startswith(USER)]
        return {name: os.getxattr(fd, name) for name in names}
    except OSError:
        return {}  # not on this file system


def give_attributes(fd: int, given: Mapping[str, bytes]) -> None:
    """Give a file or folder extended attributes; a file system that has none does without."""
    for name, value in given.items():
        with suppress(OSError):
            os.setxattr(fd, name, value)


def set_mark(fd: int, mark: str, value: bytes) -> None:
    """Set a mark of layers on an open folder that may be read-only; a file system without attributes does without."""
    try:
        os.setxattr(fd, marks() + mark, value)
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.fchmod(fd, mode | 0o200)
        os.setxattr(fd, marks() + mark, value)
        os.fchmod(fd, mode)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


Owner = tuple[int, int]
"""User and group; -1 is whoever it is already."""


def owner_of(status: os.stat_result) -> Owner:
    """User and group of a file."""
    return status.st_uid, status.st_gid


def give_status(fd: int, mode: int, owner: Owner, mtime_ns: int, accessed_ns: int) -> None:
    """Give an open file or folder mode, owner and time of modification; the owner where that is permitted.

    A time of access after that of the modification spares the kernel noting when it is read.
    """
    now = os.fstat(fd)
    mode &= 0o7777
    new_owner = _new_owner(now, owner)
    if new_owner is not None:
        if not _is_given(lambda uid, gid: os.fchown(fd, uid, gid), new_owner) and stat.S_ISREG(now.st_mode):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)  # they would stand for another owner
        os.fchmod(fd, mode)
    elif now.st_mode & 0o7777 != mode:
        os.fchmod(fd, mode)
    os.utime(fd, ns=(accessed_ns, mtime_ns))


def _new_owner(now: os.stat_result, owner: Owner) -> Owner | None:
    current = owner_of(now)
    if owner == current:
        return None
    new = (current[0] if owner[0] == -1 else owner[0], current[1] if owner[1] == -1 else owner[1])
    return None if new == current else new


def _is_given(chown: Callable[[int, int], None], owner: Owner) -> bool:
    try:
        chown(*owner)
    except OSError:  # not permitted, or unknown in this user namespace
        with suppress(OSError):
            chown(-1, owner[1])
        return False
    return True


def make_link(target: str, name: str, folder_fd: int, owner: Owner, mtime_ns: int, accessed_ns: int) -> None:  # noqa: PLR0917 - as give_status
    """Make a symbolic link with owner and time of modification, as `give_status`."""
    os.symlink(target, name, dir_fd=folder_fd)
    new_owner = _new_owner(os.stat(name, dir_fd=folder_fd, follow_symlinks=False), owner)
    if new_owner is not None:
        _is_given(lambda uid, gid: os.chown(name, uid, gid, dir_fd=folder_fd, follow_symlinks=False), new_owner)
    os.utime(name, ns=(accessed_ns, mtime_ns), dir_fd=folder_fd, follow_symlinks=False)


def make_whiteout(name: str, folder_fd: int) -> None:
    """Note in a layer that what is below it of that name is deleted; needs no rights since Linux 5.8."""
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder_fd)
    # Without this mark on the folder, whatever its value, the kernel lists the whiteout where nothing lies below it.
    set_mark(folder_fd, "origin", b"")


def link_further_name(first: str, folder_fd: int, name: str, firsts: FolderStack) -> None:
    """Make a further name of the file that is at the path *first* of *firsts*."""
    folder, _, first_name = first.rpartition("/")
    os.link(first_name, name, src_dir_fd=firsts.open(folder), dst_dir_fd=folder_fd, follow_symlinks=False)
