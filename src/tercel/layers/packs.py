"""A tree as one packed object: tar in zstd, streamed both ways in bounded memory.

Reads only what it writes: everything else is refused, and nothing is ever written through a link or outside the
folder it unpacks to.
"""

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from tercel.layers.copies import (
    RELOCATED_TEXT_BYTES,
    data_ranges,
    holds_root,
    leads_into,
    write_all,
)
from tercel.layers.tars import TAR_BLOCK_BYTES, extended_size, format_node, parse_node
from tercel.layers.trees import (
    CREATE_FLAGS,
    READ_FLAGS,
    DamagedEntryError,
    FolderStack,
    LayerError,
    Node,
    Tree,
    link_further_name,
)
from tercel.model.packs import PackedTree

LEVEL = 3
_BLOCK_BYTES = 1 << 20
_HOLE_BYTES = 1 << 16
_END = bytes(2 * TAR_BLOCK_BYTES)


def pack_tree(tree: Tree, target: BinaryIO) -> tuple[PackedTree, list[Node], list[str]]:
    """Write a tree to *target*.

    Returns:
        What is known of the pack, its nodes ordered by path, and the files that could not be read and were left out.

    Raises:
        LayerError: a file changed while it was read.
    """
    packing = _Packing(tree, target)
    packing.write_tree()
    return packing.facts(), packing.nodes, packing.unreadable


class _Packing:
    def __init__(self, tree: Tree, target: BinaryIO) -> None:
        from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

        from xxhash import xxh3_128_digest  # noqa: PLC0415 - only runs with a cache need it
        from zstandard import FLUSH_FRAME, ZstdCompressor  # noqa: PLC0415 - same

        self.nodes: list[Node] = []
        self.unreadable = list(tree.unreadable)
        self._tree = tree
        self._root = os.fsencode(tree.root)
        self._sink = _HashingSink(target, sha256())
        self._digest = xxh3_128_digest
        self._zstd = ZstdCompressor(level=LEVEL, threads=-1, write_checksum=True).stream_writer(
            self._sink,  # type: ignore[arg-type]  # it only calls write
            write_size=_BLOCK_BYTES,
            closefd=False,
        )
        self._end_of_frame = FLUSH_FRAME
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._bytes = 0
        self._names_of: dict[tuple[int, int], str] = {}

    def facts(self) -> PackedTree:
        return PackedTree(
            sha256=self._sink.hash.hexdigest(),
            files=sum(node.kind != "d" for node in self.nodes),
            bytes=self._bytes,
            packed_bytes=self._sink.bytes,
            root=self._tree.root,
            relocatable=tuple(_printable(node.path) for node in self.nodes if node.relocates),
        )

    def write_tree(self) -> None:
        folders, entries = self._tree.folders, self._tree.entries
        with FolderStack(self._tree.root) as stack:
            for path in sorted(folders.keys() | entries.keys()):
                if path in folders:
                    self._write_folder(stack, path)
                    continue
                parent, _, name = path.rpartition("/")
                try:
                    fd = stack.open(parent)
                    if stat.S_ISLNK(entries[path][0]):
                        self._write_link(path, entries[path][2], entries[path][3])
                    else:
                        self._write_file(path, name, fd)
                except PermissionError:
                    self.unreadable.append(path)
                except FileNotFoundError as error:
                    raise LayerError(f"The file {path!r} went away while it was saved.") from error
        self._put(_END)
        self._flush()
        self._zstd.flush(self._end_of_frame)

    def _write_folder(self, stack: FolderStack, path: str) -> None:
        mode, mtime_ns = self._tree.folders[path]
        self._put_node(Node(path, "d", mode, 0, mtime_ns, attributes=_attributes(stack.open(path))))

    def _write_link(self, path: str, mtime_ns: int, target: str) -> None:
        relocates = leads_into(target, self._tree.root)
        self._put_node(Node(path, "l", 0o777, 0, mtime_ns, target=target, relocates=relocates))

    def _write_file(self, path: str, name: str, folder_fd: int) -> None:
        fd = os.open(name, READ_FLAGS, dir_fd=folder_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise LayerError(f"The file {path!r} was replaced while it was saved.")
            mode, size, mtime_ns = status.st_mode & 0o7777, status.st_size, status.st_mtime_ns
            if status.st_nlink > 1:
                first = self._names_of.setdefault((status.st_dev, status.st_ino), path)
                if first != path:
                    self._put_node(Node(path, "h", mode, 0, mtime_ns, target=first))
                    return
            node = Node(path, "f", mode, size, mtime_ns, attributes=_attributes(fd))
            self._bytes += size
            if size <= RELOCATED_TEXT_BYTES:
                self._write_small(node, fd)
            else:
                node.is_sparse = status.st_blocks * 512 < size
                self._write_large(node, fd)
        finally:
            os.close(fd)

    def _write_small(self, node: Node, fd: int) -> None:
        content = os.read(fd, node.size) if node.size else b""
        if len(content) != node.size:
            raise _changed(node)
        node.digest = self._digest(content)
        node.relocates = holds_root(content, self._root)
        self._put_node(node)
        self._put(content)
        self._put(bytes(-node.size % TAR_BLOCK_BYTES))

    def _write_large(self, node: Node, fd: int) -> None:
        from xxhash import xxh3_128  # noqa: PLC0415 - only runs with a cache need it

        digest = xxh3_128()
        written = 0
        for block in _blocks(fd, node):
            if not written:
                node.relocates = holds_root(block, self._root, is_all=False)
                self._put_node(node)
                self._flush()
            digest.update(block)
            self._zstd.write(block)
            written += len(block)
        if written != node.size:
            raise _changed(node)
        node.digest = digest.digest()
        self._put(bytes(-node.size % TAR_BLOCK_BYTES))

    def _put_node(self, node: Node) -> None:
        self.nodes.append(node)
        for part in format_node(node):
            self._put(part)

    def _put(self, part: bytes) -> None:
        self._waiting.append(part)
        self._waiting_bytes += len(part)
        if self._waiting_bytes >= _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._zstd.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0


def _printable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


class _Hash(Protocol):
    def update(self, block: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _HashingSink:
    def __init__(self, target: BinaryIO, hash_: _Hash) -> None:
        self.hash = hash_
        self.bytes = 0
        self._target = target

    def write(self, block: bytes) -> int:
        self.hash.update(block)
        self.bytes += len(block)
        self._target.write(block)
        return len(block)


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}  # not on this file system
    return {name: os.getxattr(fd, name) for name in names if name.startswith("user.")} if names else {}


def _blocks(fd: int, node: Node) -> Iterator[bytes]:
    """The content of a large file; its holes without reading them."""
    at = 0
    ranges = data_ranges(fd, node.size) if node.is_sparse else [(0, node.size)]
    zeros = bytes(_BLOCK_BYTES)
    for start, end in [*ranges, (node.size, node.size)]:
        while at < start:
            yield zeros[: start - at]
            at += min(_BLOCK_BYTES, start - at)
        while at < end:
            block = os.pread(fd, min(_BLOCK_BYTES, end - at), at)
            if not block:
                return
            yield block
            at += len(block)


def _changed(node: Node) -> LayerError:
    return LayerError(f"The file {node.path!r} changed while it was saved.", "Wait for processes that still write.")


def unpack_tree(source: BinaryIO, target: str, expected: PackedTree) -> list[Node]:
    """Read a pack into *target*, a new and empty folder of our own, and give its nodes ordered by path.

    Only folders and the content of files are made, all private to their owner: symbolic links, modes and times are
    in the nodes, for whoever puts the tree in place.

    Raises:
        DamagedEntryError: the pack is not the expected one, or holds what no pack of ours holds. What was made until
            then stays, for the caller to remove.
        OSError: *target* cannot be written, or *source* not read.
    """
    from zstandard import ZstdError  # noqa: PLC0415 - only runs with a cache need it

    try:
        unpacking = _Unpacking(source, target, expected)
        with FolderStack(target) as stack, FolderStack(target) as firsts:
            unpacking.read_tree(stack, firsts)
        unpacking.check()
    except (ZstdError, ValueError, EOFError) as error:
        raise DamagedEntryError(f"The stored tree {expected.sha256[:12]} is damaged: {error}.") from error
    return unpacking.nodes


class _Unpacking:
    def __init__(self, source: BinaryIO, target: str, expected: PackedTree) -> None:
        from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

        from zstandard import ZstdDecompressor  # noqa: PLC0415 - only runs with a cache need it

        self.nodes: list[Node] = []
        self._expected = expected
        self._target = target
        self._source = _HashingSource(source, sha256())
        self._stream = ZstdDecompressor(max_window_size=1 << 27).stream_reader(
            self._source,  # type: ignore[arg-type]  # it only calls read
            read_size=_BLOCK_BYTES,
        )
        self._buffer = b""
        self._at = 0
        self._kinds: dict[str, str] = {"": "d"}
        self._bytes_left = expected.bytes
        self._last = ""

    def read_tree(self, stack: FolderStack, firsts: FolderStack) -> None:
        while (block := self._read(TAR_BLOCK_BYTES)) != _END[:TAR_BLOCK_BYTES]:
            node = self._read_node(block)
            self._check_place(node)
            self.nodes.append(node)
            if node.kind == "d":
                os.mkdir(f"{self._target}/{node.path}", 0o700)
            elif node.kind == "f":
                self._read_file(node, stack)
            elif node.kind == "h":
                link_further_name(node, stack, firsts)
        if self._read(TAR_BLOCK_BYTES) != _END[:TAR_BLOCK_BYTES] or self._stream.read(1):
            raise ValueError("it goes on after its end")

    def check(self) -> None:
        while self._source.read(_BLOCK_BYTES):
            pass
        if self._source.hash.hexdigest() != self._expected.sha256:
            raise ValueError("its checksum is another")
        files = sum(node.kind != "d" for node in self.nodes)
        if self._bytes_left or files != self._expected.files:
            raise ValueError("it holds less than it should")

    def _read(self, size: int) -> bytes:
        """Exactly *size* bytes, at most a block."""
        end = self._at + size
        if end > len(self._buffer):
            parts = [self._buffer[self._at :]]
            missing = size - len(parts[0])
            self._at, end = 0, size
            while missing > 0:
                block = self._stream.read(_BLOCK_BYTES)
                if not block:
                    raise EOFError("it ends too early")
                parts.append(block)
                missing -= len(block)
            self._buffer = b"".join(parts)
        content = self._buffer[self._at : end]
        self._at = end
        return content

    def _read_node(self, block: bytes) -> Node:
        size = extended_size(block)
        extended = self._read(size + -size % TAR_BLOCK_BYTES)[:size]
        return parse_node(extended, self._read(TAR_BLOCK_BYTES))

    def _check_place(self, node: Node) -> None:
        parent, _, name = node.path.rpartition("/")
        # A parent must have come before, as a folder: so nothing can be written through a link, or outside.
        if name in {"", ".", ".."} or "\0" in node.path or self._kinds.get(parent) != "d" or node.path <= self._last:
            raise ValueError(f"the name {node.path!r} is refused")
        if node.kind == "h" and self._kinds.get(node.target) != "f":
            raise ValueError(f"{node.path!r} is another name of {node.target!r}, which is no file of it")
        if (node.kind == "f" and node.size > self._bytes_left) or (node.kind != "f" and node.size):
            raise ValueError("it holds more than it should")
        if len(self.nodes) > 2 * self._expected.files + 1_000_000:
            raise ValueError("it holds more than it should")
        self._bytes_left -= node.size
        self._last = node.path
        self._kinds[node.path] = node.kind

    def _read_file(self, node: Node, stack: FolderStack) -> None:
        from xxhash import xxh3_128  # noqa: PLC0415 - only runs with a cache need it

        folder, _, name = node.path.rpartition("/")
        fd = os.open(name, CREATE_FLAGS, 0o600, dir_fd=stack.open(folder))
        try:
            digest = xxh3_128()
            left = node.size
            step = _HOLE_BYTES if node.is_sparse else _BLOCK_BYTES
            while left:
                block = self._read(min(left, step))
                digest.update(block)
                left -= len(block)
                if node.is_sparse and not block.strip(b"\0"):
                    os.lseek(fd, len(block), os.SEEK_CUR)
                else:
                    write_all(fd, block)
            if node.is_sparse:
                os.ftruncate(fd, node.size)
            node.digest = digest.digest()
        finally:
            os.close(fd)
        padding = -node.size % TAR_BLOCK_BYTES
        if padding:
            self._read(padding)


class _HashingSource:
    def __init__(self, source: BinaryIO, hash_: _Hash) -> None:
        self.hash = hash_
        self._source = source

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self.hash.update(block)
        return block
