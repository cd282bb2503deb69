"""Backend: trees put in place by copying, in the kernel where it can.

Knows how to make a tree out of its nodes and the files that hold their content, with modes, times, links,
attributes and holes as they were; and to put another root path where the tree holds its old one.
"""

import os
import re
from collections.abc import Sequence
from threading import Thread

from tercel.layers.trees import (
    CREATE_FLAGS,
    READ_FLAGS,
    DamagedEntryError,
    FolderStack,
    LayerError,
    Node,
    link_further_name,
)

RELOCATED_TEXT_BYTES = 1 << 20
"""Text files up to this size have their old root replaced wherever it stands; others in their first line only."""

_IN_ONE_READ_BYTES = 128 << 10
_BLOCK_BYTES = 1 << 20
_FILES_FOR_TWO_THREADS = 400


def copy_tree(nodes: Sequence[Node], source: str, target: str, old_root: str = "", new_root: str = "") -> list[Node]:
    """Make the tree in *target*, an empty folder, and give its nodes as they are there.

    Args:
        nodes: ordered by path, parents before what is in them.
        source: folder that holds the content of every file node under its path.
        target: absolute path of the folder to make it in.
        old_root: what to replace in nodes that relocate; "" for nothing.
        new_root: by what.

    Raises:
        DamagedEntryError: a file of *source* is missing or has another size than its node.
        LayerError: *target* cannot be written.
    """
    relocation = Relocation(old_root, new_root) if old_root and old_root != new_root else None
    folders = [node for node in nodes if node.kind == "d"]
    files = [node for node in nodes if node.kind == "f"]
    try:
        with FolderStack(target) as made:
            for node in folders:
                parent, _, name = node.path.rpartition("/")
                os.mkdir(name, 0o700, dir_fd=made.open(parent))
        _copy_files(files, source, target, relocation)
        _make_links(nodes, target, relocation)
        # Last and from the deepest: making something in a folder changes its time, and may need its write bit.
        with FolderStack(target) as made:
            for node in reversed(folders):
                _finish_folder(made.open(node.path), node)
    except OSError as error:
        raise LayerError(f"The tree cannot be put into {target}: {error.strerror}: {error.filename}.") from error
    return [relocation.relocated.get(node.path, node) for node in nodes] if relocation else list(nodes)


class Relocation:
    """Puts a new root path where a tree means its old one.

    Attributes:
        relocated: the nodes that were changed by it, by path.
    """

    def __init__(self, old_root: str, new_root: str) -> None:
        self.old_root, self.new_root = old_root, new_root
        self.relocated: dict[str, Node] = {}
        self._old, self._new = os.fsencode(old_root), os.fsencode(new_root)
        # Not where it is only the start of another name.
        self._pattern = re.compile(re.escape(self._old) + rb"(?![A-Za-z0-9_-])")

    def content(self, content: bytes, *, is_all: bool = True) -> bytes:
        """What a file that held *content* holds now; only the first line changes when that was not all of it."""
        if is_all and is_text(content):
            return self._pattern.sub(lambda _: self._new, content)
        line, newline, rest = content.partition(b"\n")
        return self._pattern.sub(lambda _: self._new, line) + newline + rest

    def link(self, target: str) -> str:
        """Where a link that led to *target* leads now."""
        return self.new_root + target[len(self.old_root) :] if leads_into(target, self.old_root) else target


def leads_into(target: str, root: str) -> bool:
    """Tell whether a link's target names *root* or something in it."""
    return target == root or target.startswith(f"{root}/")


def holds_root(content: bytes, root: bytes, *, is_all: bool = True) -> bool:
    """Tell whether a file's content means *root* where it can be relocated: in a text, or in a `#!` line.

    Args:
        content: the whole file up to `RELOCATED_TEXT_BYTES`, the start of a larger one.
        root: absolute path, encoded.
        is_all: whether it is the whole.
    """
    if root not in content:
        return False
    return (is_all and is_text(content)) or (content[:2] == b"#!" and root in content.partition(b"\n")[0])


def is_text(content: bytes) -> bool:
    """Tell whether *content* is UTF-8 without NUL."""
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _copy_files(files: Sequence[Node], source: str, target: str, relocation: Relocation | None) -> None:
    if len(files) < _FILES_FOR_TWO_THREADS or (os.cpu_count() or 1) < 2:
        _copy_share(files, source, target, relocation)
        return
    errors: list[BaseException] = []

    def copy_share(share: Sequence[Node]) -> None:
        try:
            _copy_share(share, source, target, relocation)
        except BaseException as error:  # handed over to the caller's thread
            errors.append(error)

    first, second = _halves(files)
    thread = Thread(target=copy_share, args=(second,), name="copy-tree")
    thread.start()
    copy_share(first)
    thread.join()
    if errors:
        raise errors[0]


def _halves(files: Sequence[Node]) -> tuple[Sequence[Node], Sequence[Node]]:
    """Two parts of about the same work: a file costs as much as some 50 KB of content."""
    total = sum(node.size + 50_000 for node in files)
    done = 0
    for index, node in enumerate(files):
        if done * 2 >= total:
            return files[:index], files[index:]
        done += node.size + 50_000
    return files, ()


def _copy_share(files: Sequence[Node], source: str, target: str, relocation: Relocation | None) -> None:
    with FolderStack(source) as sources, FolderStack(target) as targets:
        for node in files:
            folder, _, name = node.path.rpartition("/")
            try:
                read_fd = os.open(name, READ_FLAGS, dir_fd=sources.open(folder))
            except OSError as error:
                raise DamagedEntryError(f"The stored file {node.path!r} cannot be read: {error.strerror}.") from error
            try:
                write_fd = os.open(name, CREATE_FLAGS, 0o600, dir_fd=targets.open(folder))
                try:
                    if relocation is not None and node.relocates:
                        node = _copy_relocated(node, read_fd, write_fd, relocation)  # noqa: PLW2901 - its new size
                    else:
                        _copy_content(node, read_fd, write_fd)
                    for key, value in node.attributes.items():
                        os.setxattr(write_fd, key, value)
                    os.fchmod(write_fd, node.mode)  # after the attributes, which need the write bit
                    os.utime(write_fd, ns=(node.mtime_ns, node.mtime_ns))
                finally:
                    os.close(write_fd)
            finally:
                os.close(read_fd)


def _copy_content(node: Node, read_fd: int, write_fd: int) -> None:
    size = node.size
    if size <= _IN_ONE_READ_BYTES:
        # One read and one write are quicker than asking the kernel to copy so little.
        content = os.read(read_fd, size + 1)
        if len(content) != size:
            raise _wrong_size(node)
        if content:
            write_all(write_fd, content)
        return
    if os.fstat(read_fd).st_size != size:
        raise _wrong_size(node)
    if node.is_sparse:
        _copy_sparse(size, read_fd, write_fd)
    else:
        _copy_range(read_fd, write_fd, 0, size)


def _copy_range(read_fd: int, write_fd: int, start: int, end: int) -> None:
    at = start
    try:
        while at < end and (count := os.copy_file_range(read_fd, write_fd, end - at, at, at)):
            at += count
    except OSError:
        pass  # not on this file system, or not between these two: the plain way follows
    while at < end and (block := os.pread(read_fd, min(_BLOCK_BYTES, end - at), at)):
        at += os.pwrite(write_fd, block, at)


def _copy_sparse(size: int, read_fd: int, write_fd: int) -> None:
    os.ftruncate(write_fd, size)
    for start, end in data_ranges(read_fd, size):
        _copy_range(read_fd, write_fd, start, end)


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


def _copy_relocated(node: Node, read_fd: int, write_fd: int, relocation: Relocation) -> Node:
    from xxhash import xxh3_128  # noqa: PLC0415 - only runs with a cache need it

    digest = xxh3_128()
    read = written = 0
    while block := os.read(read_fd, RELOCATED_TEXT_BYTES):
        if not read:
            block = relocation.content(block, is_all=len(block) == node.size)
        read = os.lseek(read_fd, 0, os.SEEK_CUR)
        digest.update(block)
        write_all(write_fd, block)
        written += len(block)
    if read != node.size:
        raise _wrong_size(node)
    node = Node(
        path=node.path,
        kind=node.kind,
        mode=node.mode,
        size=written,
        mtime_ns=node.mtime_ns,
        digest=digest.digest(),
        relocates=True,
        attributes=node.attributes,
    )
    relocation.relocated[node.path] = node
    return node


def write_all(fd: int, content: bytes) -> None:
    """Write all of *content*, however many calls it takes."""
    written = os.write(fd, content)
    while written < len(content):
        written += os.write(fd, memoryview(content)[written:])


def _wrong_size(node: Node) -> DamagedEntryError:
    return DamagedEntryError(f"The stored file {node.path!r} has not the {node.size} bytes it had.")


def _make_links(nodes: Sequence[Node], target: str, relocation: Relocation | None) -> None:
    with FolderStack(target) as folders, FolderStack(target) as firsts:
        for node in nodes:
            if node.kind not in {"l", "h"}:
                continue
            if node.kind == "h":
                link_further_name(node, folders, firsts)
                continue
            folder, _, name = node.path.rpartition("/")
            fd = folders.open(folder)
            leads_to = node.target
            if relocation is not None and node.relocates:
                leads_to = relocation.link(leads_to)
                relocation.relocated[node.path] = Node(
                    path=node.path, kind="l", mode=node.mode, size=0, mtime_ns=node.mtime_ns, target=leads_to
                )
            os.symlink(leads_to, name, dir_fd=fd)
            os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=fd, follow_symlinks=False)


def _finish_folder(fd: int, node: Node) -> None:
    for key, value in node.attributes.items():
        os.setxattr(fd, key, value)
    os.fchmod(fd, node.mode)
    os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
