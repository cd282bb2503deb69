"""The local tier: unpacked trees in a folder of their own, ready to be put in place.

Knows how trees get in (by one rename), how long they stay (a bound on size, least recently used out first) and what
a crash leaves behind. A tree in use is held by a lock, across processes too.
"""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec

from tercel.layers.trees import FolderStack, LayerError, Node, link_further_name

DEFAULT_LIMIT_BYTES = 10 << 30
_INDEX, _FACTS, _TREE, _LOCK = "index", "facts.json", "tree", "lock"
_STAGING, _REMOVED = ".staging-", ".removed-"
_LEFTOVER_AGE_S = 60.0


class PooledTree(msgspec.Struct, frozen=True):
    """A tree of the pool, held for as long as the `with` block lasts.

    Attributes:
        nodes: what is in it, ordered by path.
        content: folder that has the content of every file node, and of its further names, under its path.
        version: of the stored object it was made from, when that was last checked.
    """

    nodes: list[Node]
    content: str
    version: str


class _Facts(msgspec.Struct):
    version: str
    bytes: int


class Pool:
    """The local tier in a folder, private to its owner; several processes may share it.

    Args:
        folder: absolute path; made when it is not there, with mode 0700.
        limit_bytes: content of all trees together; past it the least recently used go, but never one in use.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.folder = os.fspath(folder)
        self.limit_bytes = limit_bytes

    @contextmanager
    def hold(self, name: str) -> Generator[PooledTree | None]:
        """Hold a tree and make it the most recently used; None when the pool has none of that name."""
        fd = self._lock(name, fcntl.LOCK_SH)
        if fd is None:
            yield None
            return
        try:
            tree = self._read(name, fd)
            if tree is None:
                self._remove(name)
            yield tree
        finally:
            os.close(fd)

    def _lock(self, name: str, how: int) -> int | None:
        path = f"{self.folder}/{name}/{_INDEX}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, how)
            # It may have been removed between the two lines above.
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                return fd
        except (FileNotFoundError, BlockingIOError):
            pass
        os.close(fd)
        return None

    def _read(self, name: str, fd: int) -> PooledTree | None:
        folder = f"{self.folder}/{name}"
        try:
            with open(f"{folder}/{_FACTS}", "rb") as file:
                facts = msgspec.json.decode(file.read(), type=_Facts)
            with open(f"{folder}/{_INDEX}", "rb") as file:
                nodes = _decode_nodes(file.read())
        except (OSError, msgspec.DecodeError):
            return None
        os.utime(fd)
        return PooledTree(nodes, f"{folder}/{_TREE}", facts.version)

    def make(self) -> str:
        """Make the pool's folder if it is not there, and give its path."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        return self.folder

    @contextmanager
    def staged_file(self) -> Generator[tuple[str, BinaryIO]]:
        """A new file of the pool, by path and open for writing; removed afterwards if it was not moved away."""
        path = f"{self.make()}/{_STAGING}{_unique_name()}"
        with open(path, "xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield path, file
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def set_version(self, name: str, version: str) -> None:
        """Note that the stored object was checked once more, now with another version."""
        path = f"{self.folder}/{name}/{_FACTS}"
        with open(path, "rb") as file:
            facts = msgspec.json.decode(file.read(), type=_Facts)
        facts.version = version
        _write_whole(path, msgspec.json.encode(facts))

    def add(self, name: str, version: str, fill: Callable[[str], list[Node]]) -> None:
        """Make a tree and let it appear at once under *name*; keep the one that is there already, if so.

        Args:
            name: of plain characters.
            version: of the stored object.
            fill: puts the content of all file nodes into the folder it is given, and gives the nodes. What it
                raises is passed on, and nothing stays of it.
        """
        staging = f"{self.folder}/{_STAGING}{_unique_name()}"
        for folder in (self.make(), staging, f"{staging}/{_TREE}"):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(f"{staging}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            nodes = fill(f"{staging}/{_TREE}")
            size = sum(node.size for node in nodes)
            _write_whole(f"{staging}/{_FACTS}", msgspec.json.encode(_Facts(version, size)))
            _write_whole(f"{staging}/{_INDEX}", _encode_nodes(nodes))
            try:
                os.rename(staging, f"{self.folder}/{name}")
            except OSError:
                if not os.path.isdir(f"{self.folder}/{name}"):
                    raise
        finally:
            os.close(lock)
            remove_tree(staging)
        self._make_room(keep=name)

    def take_over(self, name: str, version: str, nodes: Sequence[Node], root: str) -> bool:
        """Add a tree by moving its files out of *root*, which is of no use afterwards.

        A file that has a name elsewhere is copied, as it could be changed from there.

        Returns:
            False when *root* is on another disk; then nothing was moved.
        """
        if os.stat(root).st_dev != os.stat(self.make()).st_dev:
            return False

        def fill(target: str) -> list[Node]:
            _move_files(nodes, root, target)
            return list(nodes)

        self.add(name, version, fill)
        return True

    def remove(self, name: str) -> bool:
        """Remove a tree, and tell whether it is gone; one in use stays."""
        fd = self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if fd is None:
            return not os.path.isdir(f"{self.folder}/{name}")
        try:
            self._remove(name)
        finally:
            os.close(fd)
        return True

    def _remove(self, name: str) -> None:
        removed = f"{self.folder}/{_REMOVED}{_unique_name()}"
        with suppress(FileNotFoundError):
            os.rename(f"{self.folder}/{name}", removed)
            remove_tree(removed)

    def names(self) -> list[str]:
        """The trees there are, the least recently used first."""
        return [name for _, name, _ in self._by_use()]

    def _by_use(self) -> list[tuple[int, str, int]]:
        """When each tree was last used in ns, its name and its size in bytes."""
        found: list[tuple[int, str, int]] = []
        for name in _listing(self.folder):
            if name.startswith("."):
                continue
            try:
                used = os.stat(f"{self.folder}/{name}/{_INDEX}").st_mtime_ns
                with open(f"{self.folder}/{name}/{_FACTS}", "rb") as file:
                    size = msgspec.json.decode(file.read(), type=_Facts).bytes
            except (OSError, msgspec.DecodeError):
                continue
            found.append((used, name, size))
        return sorted(found)

    def _make_room(self, keep: str) -> None:
        trees = self._by_use()
        total = sum(size for _, _, size in trees)
        for _, name, size in trees:
            if total <= self.limit_bytes:
                return
            if name != keep and self.remove(name):
                total -= size

    def clean(self) -> int:
        """Remove what a crash left behind, and what is past the limit; give the number of leftovers."""
        count = 0
        for name in _listing(self.folder):
            path = f"{self.folder}/{name}"
            if name.startswith(_REMOVED) or (name.startswith(_STAGING) and _is_abandoned(path)):
                remove_tree(path)
                with suppress(OSError):
                    os.unlink(path)
                count += 1
        self._make_room(keep="")
        return count


def _encode_nodes(nodes: list[Node]) -> bytes:
    try:
        return msgspec.msgpack.encode(nodes)
    except UnicodeEncodeError:
        # Names that are not UTF-8 travel as hex behind a NUL, which no name can hold.
        return msgspec.msgpack.encode(
            [msgspec.structs.replace(node, path=_as_text(node.path), target=_as_text(node.target)) for node in nodes]
        )


def _as_text(name: str) -> str:
    raw = os.fsencode(name)
    return name if name.isascii() else f"\0{raw.hex()}"


def _decode_nodes(content: bytes) -> list[Node]:
    nodes = msgspec.msgpack.decode(content, type=list[Node])
    for node in nodes:
        if node.path[0] == "\0":
            node.path = os.fsdecode(bytes.fromhex(node.path[1:]))
        if node.target[:1] == "\0":
            node.target = os.fsdecode(bytes.fromhex(node.target[1:]))
    return nodes


def _is_abandoned(staging: str) -> bool:
    """Tell whether its maker is gone: who makes something holds its lock."""
    is_file = os.path.isfile(staging)
    try:
        fd = os.open(staging if is_file else f"{staging}/{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # Perhaps so new that there is no lock yet.
        return os.path.isdir(staging) and time.time() - os.stat(staging).st_mtime > _LEFTOVER_AGE_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _move_files(nodes: Sequence[Node], root: str, target: str) -> None:
    names_here: dict[str, int] = {}
    for node in nodes:
        if node.kind == "h":
            names_here[node.target] = names_here.get(node.target, 1) + 1
    with FolderStack(root) as sources, FolderStack(target) as targets, FolderStack(target) as firsts:
        for node in nodes:
            folder, _, name = node.path.rpartition("/")
            if node.kind == "d":
                os.mkdir(name, 0o700, dir_fd=targets.open(folder))
            elif node.kind == "h":
                link_further_name(node, targets, firsts)
            elif node.kind == "f":
                source_fd, target_fd = sources.open(folder), targets.open(folder)
                status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
                facts = (stat.S_ISREG(status.st_mode), status.st_size, status.st_mtime_ns)
                if facts != (True, node.size, node.mtime_ns):
                    raise LayerError(f"The file {node.path!r} changed after it was saved.")
                if status.st_nlink > names_here.get(node.path, 1):
                    _copy_file(name, source_fd, target_fd)
                else:
                    os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def _copy_file(name: str, source_fd: int, target_fd: int) -> None:
    read_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        write_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
        try:
            while os.copy_file_range(read_fd, write_fd, 1 << 30):
                pass
        finally:
            os.close(write_fd)
    finally:
        os.close(read_fd)


def remove_tree(path: str) -> None:
    """Remove a folder with all in it, not following links; what cannot be removed stays, for the next time."""
    from shutil import rmtree  # noqa: PLC0415 - loads four compression libraries

    rmtree(path, ignore_errors=True)


def _listing(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _write_whole(path: str, content: bytes) -> None:
    staged = f"{path}.{_unique_name()}"
    with open(staged, "wb") as file:
        file.write(content)
    os.rename(staged, path)


def _unique_name() -> str:
    return f"{os.getpid()}-{os.urandom(6).hex()}"
