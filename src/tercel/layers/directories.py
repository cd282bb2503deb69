"""Layers without mounts: what has changed in a real directory becomes a layer, or is put back.

Knows how to see every change, one that keeps size and time too, and how a layer says it. Where the layers are and
when they are made is for others.
"""

import os
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from tercel.layers.copies import attributes, copy_entries, give_attributes, give_status, set_mark
from tercel.layers.relocations import parents
from tercel.layers.stacks import OPAQUE, TRUSTED, USER, Entry, Stack
from tercel.layers.trees import DEEPEST, FOLDER_FLAGS, DamagedEntryError, FolderStack, LayerError
from tercel.removal import remove_tree

_ATTEMPTS = 3
_COARSE_CLOCK = 5
"""CLOCK_REALTIME_COARSE of clock_gettime(2), by which files get their times."""
_LONGEST_TICK_S = 0.05
_FOR_A_WALK = 300
"""For more paths than this, one walk through a stack is quicker than asking for each."""


class Facts(NamedTuple):
    """Of one thing in a directory: whatever is done to it, one of them is another."""

    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    links: int
    uid: int
    gid: int

    @property
    def kind(self) -> str:
        """As `Entry.kind`; "" for a device, pipe or socket."""
        return _KINDS.get(self.mode & 0o170000, "")


_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}


def _facts(status: os.stat_result) -> Facts:
    return Facts(
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
    )


class DirectoryState:
    """What a real directory held when it was last looked at. Any later change to it can be told from it.

    Attributes:
        directory: absolute path.
        entries: path to facts; "" is the directory itself.
        unreadable: folders that could not be listed, of which what was known before is taken to be there; and files
            that could not be kept.
    """

    __slots__ = ("directory", "entries", "unreadable")

    def __init__(self, directory: str, entries: dict[str, Facts], unreadable: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.entries = entries
        self.unreadable = unreadable

    @classmethod
    def of(cls, directory: str | os.PathLike[str]) -> "DirectoryState":
        """Look at a directory; links are seen as links.

        Raises:
            LayerError: it is no folder, cannot be read, or folders are nested deeper than `DEEPEST`.
        """
        return _Look(os.fspath(directory)).state()


class _Look:
    """A walk through a directory.

    Args:
        directory: absolute path.
        known: what is taken to be in folders that cannot be listed.
        opens_up: make folders that cannot be listed accessible to their owner.
    """

    def __init__(self, directory: str, known: Mapping[str, Facts] | None = None, *, opens_up: bool = False) -> None:
        self._directory = directory
        self._known = known or {}
        self._opens_up = opens_up
        self._entries: dict[str, Facts] = {}
        self._unreadable: list[str] = []

    def state(self) -> DirectoryState:
        try:
            fd = os.open(self._directory, FOLDER_FLAGS)
            try:
                self._entries[""] = _facts(os.fstat(fd))
                self._look(fd, "", 0)
            finally:
                os.close(fd)
        except OSError as error:
            raise LayerError(f"{self._directory} cannot be looked at: {error.strerror}: {error.filename}.") from error
        _wait_for_tick(max(facts.ctime_ns for facts in self._entries.values()))
        return DirectoryState(self._directory, self._entries, tuple(self._unreadable))

    def _look(self, fd: int, prefix: str, depth: int) -> None:
        if depth > DEEPEST:
            raise LayerError(f"{self._directory} has more than {DEEPEST} folders within each other.")
        entries = self._entries
        below: list[str] = []
        with os.scandir(fd) as found:
            for entry in found:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone since the listing
                mode = status.st_mode
                entries[prefix + entry.name] = _facts(status)
                if mode & 0o170000 == stat.S_IFDIR:
                    below.append(entry.name)
        for name in below:
            self._descend(fd, prefix + name, name, depth)

    def _descend(self, fd: int, path: str, name: str, depth: int) -> None:
        try:
            try:
                inner = os.open(name, FOLDER_FLAGS, dir_fd=fd)
            except PermissionError:
                if not self._opens_up:
                    raise
                _open_up(fd, name)
                inner = os.open(name, FOLDER_FLAGS, dir_fd=fd)
        except PermissionError:
            self._unreadable.append(path)
            self._entries.update({at: facts for at, facts in self._known.items() if at.startswith(f"{path}/")})
            return
        except (FileNotFoundError, NotADirectoryError):
            self._entries.pop(path)  # gone since the listing
            return
        try:
            self._look(inner, f"{path}/", depth + 1)
        finally:
            os.close(inner)


def _open_up(folder_fd: int, name: str) -> None:
    """Let the owner of a folder into it; never through a link."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(os.fstat(fd).st_mode) | 0o700)
    finally:
        os.close(fd)


def _wait_for_tick(last_ns: int) -> None:
    """Wait until a change to a file has a later time than *last_ns*: times of files go by ticks of the kernel."""
    deadline = time.monotonic() + _LONGEST_TICK_S
    while time.clock_gettime_ns(_COARSE_CLOCK) <= last_ns and time.monotonic() < deadline:
        time.sleep(0.0005)


def freeze(
    directory: str | os.PathLike[str], state: DirectoryState, target: str, *, takes: bool = False
) -> DirectoryState | None:
    """Make a layer of all that has changed in a directory.

    Args:
        directory: absolute path.
        state: what it held before; what the layers below show.
        target: absolute path of the layer's tree; made, with the folders it is in, only when there is something.
        takes: move files out of the directory instead of copying them; it is of no use afterwards.

    Returns:
        What the directory holds now; None when nothing has changed, and there is no layer. The time of the directory
        itself is no change.

    Raises:
        LayerError: files keep changing, or something cannot be read or written. There is no layer then.
    """
    path = os.fspath(directory)
    changed = ""
    for _ in range(1 if takes else _ATTEMPTS):
        now = _Look(path, state.entries).state()
        if now.entries == state.entries:
            return None
        changes = _Changes(state.entries, now.entries)
        if not changes:
            return None
        _make_folder(target)
        try:
            left_out = _write_layer(path, now, changes, target, takes=takes)
        except _ChangedError as error:
            remove_tree(target)
            changed = error.path
        except BaseException:
            remove_tree(target)
            raise
        else:
            now.unreadable += left_out
            return now
    raise LayerError(
        f"The file {changed!r} keeps changing while {path} is looked at.",
        "A process that a task left behind still writes: end it in the task that starts it.",
    )


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, 0o700)
    except OSError as error:
        raise LayerError(f"The layer {path} cannot be made: {error.strerror}.") from error


class _ChangedError(Exception):
    """A file is not what it was a moment ago."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class _Changes:
    """What a layer has to say so that a directory comes out of what it was before.

    Attributes:
        new_folders: where there was none; in the layer they hide what is below them.
        paths: everything that the layer has but whiteouts, parents before what is in them.
        gone: what it has whiteouts for.
    """

    def __init__(self, before: Mapping[str, Facts], now: Mapping[str, Facts]) -> None:
        changed = [path for path, facts in now.items() if before.get(path) != facts and facts.kind and path]
        no_file = [path for path, facts in now.items() if not facts.kind]
        self.gone = sorted(
            path
            for path in (*(before.keys() - now.keys()), *no_file)
            if _kind(before, path) and _kind(now, _parent(path)) == "d"
        )
        self.new_folders = {path for path in changed if _kind(now, path) == "d" and _kind(before, path) != "d"}
        self.paths = sorted({*changed, *(folder for path in (*changed, *self.gone) for folder in parents(path))})

    def __bool__(self) -> bool:
        return bool(self.paths or self.gone)


def _kind(entries: Mapping[str, Facts], path: str) -> str:
    facts = entries.get(path)
    return facts.kind if facts else ""


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _write_layer(
    directory: str, now: DirectoryState, changes: _Changes, target: str, *, takes: bool
) -> tuple[str, ...]:
    """Write it, and give the paths of files that could not be read."""
    try:
        with FolderStack(directory) as folders:
            entries = list(_entries(directory, folders, now.entries, changes))
            taken = _take(folders, target, entries, now, changes) if takes else set[str]()
            try:
                rest = (entry for entry in entries if entry.path not in taken)
                left_out = copy_entries(rest, target, whiteouts="keep").unreadable
            except DamagedEntryError as error:  # a stored file it is not
                raise _ChangedError(_first_changed(folders, changes.paths, now.entries) or directory) from error
            if not takes:
                changed = _first_changed(folders, changes.paths, now.entries)
                if changed is not None:
                    raise _ChangedError(changed)
        with FolderStack(target) as made:
            root = now.entries[""]
            give_status(made.open(""), root.mode, (root.uid, root.gid), root.mtime_ns, time.time_ns())
    except OSError as error:
        raise LayerError(f"{directory} cannot be kept in {target}: {error.strerror}: {error.filename}.") from error
    return left_out


def _entries(directory: str, folders: FolderStack, now: Mapping[str, Facts], changes: _Changes) -> Iterator[Entry]:
    for path in changes.paths:
        status = _look_again(folders, path)
        if status is None or _facts(status) != now[path]:
            raise _ChangedError(path)
        is_outermost = path in changes.new_folders and _parent(path) not in changes.new_folders
        yield Entry(path, now[path].kind, f"{directory}/{path}", status, is_outermost)
    root = os.stat(directory)
    for path in changes.gone:
        yield Entry(path, "w", f"{directory}/{path}", root)


def _look_again(folders: FolderStack, path: str) -> os.stat_result | None:
    folder, _, name = path.rpartition("/")
    try:
        return os.stat(name, dir_fd=folders.open(folder), follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _first_changed(folders: FolderStack, paths: Iterable[str], now: Mapping[str, Facts]) -> str | None:
    """A file or link that is not what it was when it was looked at."""
    for path in paths:
        if now[path].kind != "d":
            status = _look_again(folders, path)
            if status is None or _facts(status) != now[path]:
                return path
    return None


def _take(folders: FolderStack, target: str, entries: list[Entry], now: DirectoryState, changes: _Changes) -> set[str]:
    """Move what can be moved into the layer, new folders whole; give its paths. Other folders are made there."""
    names = Counter((entry.status.st_dev, entry.status.st_ino) for entry in entries if entry.kind == "f")
    fixed = {
        entry.path
        for entry in entries
        # A file with a name elsewhere could be changed from there.
        if entry.kind == "f" and entry.status.st_nlink > names[entry.status.st_dev, entry.status.st_ino]
    }
    no_files = [path for path, facts in now.entries.items() if not facts.kind]
    not_whole = {folder for path in (*fixed, *no_files, *now.unreadable) for folder in (*parents(path), path)}
    taken: set[str] = set()
    with FolderStack(target) as made:
        for entry in entries:
            folder, _, name = entry.path.rpartition("/")
            if folder in taken:
                taken.add(entry.path)
            elif entry.kind != "d":
                if entry.kind != "w" and entry.path not in fixed and _moves(name, folders, made, folder):
                    taken.add(entry.path)
            elif entry.path not in changes.new_folders or entry.path in not_whole:
                os.mkdir(name, 0o700, dir_fd=made.open(folder))
            elif _moves(name, folders, made, folder):
                taken.add(entry.path)
            else:
                os.mkdir(name, 0o700, dir_fd=made.open(folder))
            if entry.kind == "d" and entry.path in taken:
                _mark_only(made.open(entry.path), is_opaque=entry.is_opaque)
    return taken


def _moves(name: str, folders: FolderStack, made: FolderStack, folder: str) -> bool:
    """Move a thing, and tell whether that could be done: not to another disk, nor out of a read-only folder."""
    try:
        os.rename(name, name, src_dir_fd=folders.open(folder), dst_dir_fd=made.open(folder))
    except OSError:
        return False
    return True


def _mark_only(fd: int, *, is_opaque: bool) -> None:
    """Have no marks on a folder but ours: a task can set any on its own."""
    with suppress(OSError):  # there are none on this file system
        for name in os.listxattr(fd):
            if name.startswith((TRUSTED, USER)):
                os.removexattr(fd, name)
    if is_opaque:
        set_mark(fd, OPAQUE, b"y")


def put_back(directory: str | os.PathLike[str], state: DirectoryState, stack: Stack) -> DirectoryState:
    """Make a directory what it was; what has not changed is not touched.

    Args:
        directory: absolute path.
        state: what it was.
        stack: shows the same.

    Returns:
        What it holds now: the same, with other inodes.

    Raises:
        LayerError: files keep changing, the stack shows something else, or something cannot be read or written.
    """
    path = os.fspath(directory)
    now = _Look(path, state.entries, opens_up=True).state()
    closed = set(now.unreadable) - set(state.unreadable)
    if closed:
        raise LayerError(f"The folder {min(closed)!r} in {path} cannot be put back, as it cannot be read.")
    try:
        _PuttingBack(path, state, now.entries, stack).run()
    except OSError as error:
        raise LayerError(f"{path} cannot be put back: {error.strerror}: {error.filename}.") from error
    result = DirectoryState.of(path)
    for at, facts in state.entries.items():
        new = result.entries.get(at)
        if facts.kind and at not in state.unreadable and (new is None or _content(new) != _content(facts)):
            raise LayerError(
                f"The file {at!r} changes while {path} is put back.",
                "A process that a task left behind still writes: end it in the task that starts it.",
            )
    return result


def _content(facts: Facts) -> tuple[str, int, int]:
    return facts.kind, facts.size if facts.kind == "f" else 0, facts.mtime_ns


class _PuttingBack:
    def __init__(self, directory: str, state: DirectoryState, now: Mapping[str, Facts], stack: Stack) -> None:
        self._directory = directory
        self._before = state.entries
        self._unreadable = set(state.unreadable)
        self._now = now
        self._stack = stack
        self._wrong = {path for path, facts in now.items() if path and state.entries.get(path) != facts}
        self._found = dict[str, Entry]()

    def run(self) -> None:
        before, now = self._before, self._now
        surplus = {path for path in self._wrong if _kind(now, path) != "d" or _kind(before, path) != "d"}
        missing = {path for path, facts in before.items() if facts.kind and (path in surplus or path not in now)}
        folders = self._wrong - surplus
        self._find(missing | folders)
        touched = {*folders, *(_parent(path) for path in surplus | missing)}
        if before[""] != now[""]:
            touched.add("")
        self._remove(surplus, touched)
        copy_entries((self._found[path] for path in sorted(missing) if path in self._found), self._directory)
        with FolderStack(self._directory) as made:
            for path in sorted(touched | {path for path in missing if _kind(before, path) == "d"}, reverse=True):
                facts = before.get(path)
                if facts is not None and facts.kind == "d":
                    self._finish(made.open(path), path, facts)

    def _find(self, paths: set[str]) -> None:
        """Look up what is to be copied, or has attributes to be copied."""
        if len(paths) > _FOR_A_WALK:
            self._found = {entry.path: entry for entry in self._stack.entries() if entry.path in paths}
        else:
            entries = {path: self._stack.find(path) for path in paths}
            self._found = {path: entry for path, entry in entries.items() if entry is not None}
        for path in paths:
            entry = self._found.get(path)
            if path not in self._unreadable and (entry is None or entry.kind != self._before[path].kind):
                raise LayerError(f"{path!r} in {self._directory} cannot be put back: it is not in its layers.")

    def _remove(self, surplus: set[str], touched: set[str]) -> None:
        with FolderStack(self._directory) as folders:
            for folder in sorted(touched):
                if _kind(self._now, folder) == "d":
                    fd = folders.open(folder)
                    mode = stat.S_IMODE(os.fstat(fd).st_mode)
                    if mode & 0o300 != 0o300:
                        os.fchmod(fd, mode | 0o300)
            for path in sorted(surplus, reverse=True):
                folder, _, name = path.rpartition("/")
                if _kind(self._now, path) == "d":
                    os.rmdir(name, dir_fd=folders.open(folder))
                else:
                    os.unlink(name, dir_fd=folders.open(folder))

    def _finish(self, fd: int, path: str, facts: Facts) -> None:
        if path in self._found:
            wanted = _attributes(self._found[path])
            current = attributes(fd)
            for name in current.keys() - wanted.keys():
                os.removexattr(fd, name)
            give_attributes(fd, {name: value for name, value in wanted.items() if current.get(name) != value})
        give_status(fd, facts.mode, (facts.uid, facts.gid), facts.mtime_ns, time.time_ns())


def _attributes(entry: Entry) -> dict[str, bytes]:
    try:
        fd = os.open(entry.source, FOLDER_FLAGS)
    except PermissionError:
        return {}
    try:
        return attributes(fd)
    finally:
        os.close(fd)
