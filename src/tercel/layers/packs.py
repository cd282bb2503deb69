"""A layer as one packed object: tar in zstd, streamed both ways in bounded memory.

Reads only what it writes: everything else is refused, and nothing is ever written through a link or outside the
folder it unpacks to.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from typing import BinaryIO

from tercel.layers.copies import (
    attributes,
    data_ranges,
    give_attributes,
    give_status,
    link_further_name,
    make_link,
    make_whiteout,
    set_mark,
    write_all,
)
from tercel.layers.relocations import TEXT_BYTES, Relocation, printable
from tercel.layers.stacks import OPAQUE, REDIRECT, marks
from tercel.layers.tars import TAR_BLOCK_BYTES, Member, extended_size, format_member, parse_member
from tercel.layers.trees import (
    CREATE_FLAGS,
    DEEPEST,
    FOLDER_FLAGS,
    READ_FLAGS,
    DamagedEntryError,
    FolderStack,
    LayerError,
)
from tercel.model.packs import PackedTree

_LEVEL = 3
_MOST_THREADS = 4
_JOB_BYTES = 2 << 20
_BLOCK_BYTES = 1 << 20
_BLOCKS_AHEAD = 4
_MOST_WAITING = 8
_HOLE_BYTES = 1 << 16
_TOGETHER_BYTES, _NOT_TO_WAIT_BYTES = 256 << 10, 16 << 10
"""Small parts are handed to zstd together, larger ones on their own."""

_END = bytes(2 * TAR_BLOCK_BYTES)


def pack_layer(tree: str, target: BinaryIO, *, layer_id: str, root: str) -> tuple[PackedTree, list[str]]:
    """Write a layer to *target*; the same layer always becomes the same bytes.

    Args:
        tree: absolute path of the layer.
        target: open for writing.
        layer_id: 32 hex digits.
        root: absolute path of the working directory that it was made in.

    Returns:
        What is known of the pack, and the paths that could not be read and were left out.

    Raises:
        LayerError: a file changed while it was read, a folder goes on under another name in the layers below, or
            something else cannot be read or written.
    """
    try:
        with _HashingSink(target) as sink:
            packing = _Packing(sink, root)
            packing.write_layer(tree)
    except OSError as error:
        raise LayerError(f"The layer {tree} cannot be packed: {error.strerror}: {error.filename}.") from error
    return packing.facts(layer_id), sorted(packing.unreadable)


class _Packing:
    def __init__(self, sink: "_HashingSink", root: str) -> None:
        from zstandard import FLUSH_FRAME, ZstdCompressionParameters, ZstdCompressor  # noqa: PLC0415 - only runs with a cache need it

        self.unreadable: list[str] = []
        self._root = root
        self._relocation = Relocation(root)
        self._relocatable: list[str] = []
        self._sink = sink
        # The smaller the jobs of its threads, the less memory they need, and the worse they compress.
        parameters = ZstdCompressionParameters.from_level(  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
            _LEVEL, threads=min(os.cpu_count() or 1, _MOST_THREADS), job_size=_JOB_BYTES, overlap_log=1
        )
        self._zstd = ZstdCompressor(compression_params=parameters).stream_writer(
            self._sink,  # type: ignore[arg-type]  # it only calls write
            write_size=_BLOCK_BYTES,
            closefd=False,
        )
        self._end_of_frame = FLUSH_FRAME
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._files = self._bytes = 0
        self._owner = (os.geteuid(), os.getegid())
        self._firsts: dict[tuple[int, int], tuple[str, bool]] = {}

    def facts(self, layer_id: str) -> PackedTree:
        return PackedTree(
            id=layer_id,
            sha256=self._sink.digest,
            files=self._files,
            bytes=self._bytes,
            packed_bytes=self._sink.bytes,
            root=self._root,
            relocatable=tuple(sorted(map(printable, self._relocatable))),
        )

    def write_layer(self, tree: str) -> None:
        fd = os.open(tree, FOLDER_FLAGS)
        try:
            self._put_member(self._member("", "d", os.fstat(fd), attributes=attributes(fd)))
            self._write_folder(fd, "", 0)
        finally:
            os.close(fd)
        self._put(_END)
        self._flush()
        self._zstd.flush(self._end_of_frame)

    def _write_folder(self, fd: int, prefix: str, depth: int) -> None:
        if depth > DEEPEST:
            raise LayerError(f"There are more than {DEEPEST} folders within each other: {prefix!r}.")
        with os.scandir(fd) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            path = prefix + entry.name
            try:
                if entry.is_file(follow_symlinks=False):
                    self._write_file(fd, entry.name, path)
                elif entry.is_dir(follow_symlinks=False):
                    inner = os.open(entry.name, FOLDER_FLAGS, dir_fd=fd)
                    try:
                        self._write_folder_itself(inner, path)
                        self._write_folder(inner, f"{path}/", depth + 1)
                    finally:
                        os.close(inner)
                else:
                    self._write_other(fd, entry, path)
            except PermissionError:
                self.unreadable.append(path)
            except FileNotFoundError as error:
                raise LayerError(f"The file {path!r} went away while it was saved.") from error

    def _write_folder_itself(self, fd: int, path: str) -> None:
        names = _attribute_names(fd)
        if marks() + REDIRECT in names:
            raise LayerError(f"The layer is not settled: {path!r} goes on under another name in the layers below.")
        self._put_member(
            self._member(
                path,
                "d",
                os.fstat(fd),
                is_opaque=marks() + OPAQUE in names,
                attributes=attributes(fd) if names else {},
            )
        )

    def _write_other(self, folder_fd: int, entry: "os.DirEntry[str]", path: str) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry.name, dir_fd=folder_fd)
            if self._relocation.concerns_link(target):
                self._relocatable.append(path)
            self._files += 1
            self._put_member(self._member(path, "l", status, target=target))
        elif stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            self._put_member(Member(path, "w", 0, 0))

    def _write_file(self, folder_fd: int, name: str, path: str) -> None:
        fd = os.open(name, READ_FLAGS, dir_fd=folder_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _changed(path)
            self._files += 1
            key = (status.st_dev, status.st_ino)
            if status.st_nlink > 1 and key in self._firsts:
                first, relocates = self._firsts[key]
                self._put_member(self._member(path, "h", status, target=first))
            else:
                relocates = self._write_content(self._member(path, "f", status, attributes=attributes(fd)), status, fd)
                if status.st_nlink > 1:
                    self._firsts[key] = (path, relocates)
            if relocates:
                self._relocatable.append(path)
            now = os.fstat(fd)
            if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise _changed(path)
        finally:
            os.close(fd)

    def _write_content(self, member: Member, status: os.stat_result, fd: int) -> bool:
        """Write a file with what it holds; tell whether that means the root."""
        member.size = size = status.st_size
        self._bytes += size
        if size <= TEXT_BYTES:
            content = os.read(fd, size) if size else b""
            self._put_member(member)
            self._put(content)
            written = len(content)
            relocates = self._relocation.concerns_content(content, is_all=True)
        else:
            member.is_sparse = status.st_blocks * 512 < size
            self._put_member(member)
            self._flush()
            written, relocates = 0, False
            for block in _blocks(fd, member):
                if not written:
                    relocates = self._relocation.concerns_content(block, is_all=False)
                self._zstd.write(block)
                written += len(block)
        if written != size:
            raise _changed(member.path)
        self._put(bytes(-size % TAR_BLOCK_BYTES))
        return relocates

    def _member(
        self,
        path: str,
        kind: str,
        status: os.stat_result,
        *,
        target: str = "",
        is_opaque: bool = False,
        attributes: dict[str, bytes] | None = None,
    ) -> Member:
        return Member(
            path,
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_mtime_ns,
            uid=-1 if status.st_uid == self._owner[0] else status.st_uid,
            gid=-1 if status.st_gid == self._owner[1] else status.st_gid,
            target=target,
            is_opaque=is_opaque,
            attributes=attributes or {},
        )

    def _put_member(self, member: Member) -> None:
        self._put(format_member(member))

    def _put(self, part: bytes) -> None:
        size = len(part)
        if size >= _NOT_TO_WAIT_BYTES:
            self._flush()
            self._zstd.write(part)
            return
        self._waiting.append(part)
        self._waiting_bytes += size
        if self._waiting_bytes >= _TOGETHER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._zstd.write(b"".join(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = 0


class _HashingSink:
    """Writes on what it is given, and hashes it in a thread of its own: it would hold up the compression.

    Attributes:
        bytes: how many went through.
        digest: the sha256 of all in hex, once the block is left.
    """

    def __init__(self, target: BinaryIO) -> None:
        from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

        self.bytes = 0
        self.digest = ""
        self._target = target
        self._hash = sha256()
        self._blocks: Queue[bytes] = Queue(_MOST_WAITING)
        self._thread = Thread(target=self._run, name="tercel-sha256", daemon=True)

    def __enter__(self) -> "_HashingSink":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._blocks.put(b"")
        self._thread.join()
        self.digest = self._hash.hexdigest()

    def write(self, block: bytes) -> int:
        self.bytes += len(block)
        if block:
            self._blocks.put(block)
        self._target.write(block)
        return len(block)

    def _run(self) -> None:
        while block := self._blocks.get():
            self._hash.update(block)


def _attribute_names(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError:
        return []  # not on this file system


def _blocks(fd: int, member: Member) -> Iterator[bytes]:
    """The content of a large file; its holes without reading them."""
    at = 0
    ranges = data_ranges(fd, member.size) if member.is_sparse else [(0, member.size)]
    zeros = bytes(_BLOCK_BYTES)
    for start, end in [*ranges, (member.size, member.size)]:
        while at < start:
            yield zeros[: start - at]
            at += min(_BLOCK_BYTES, start - at)
        while at < end:
            block = os.pread(fd, min(_BLOCK_BYTES, end - at), at)
            if not block:
                return
            yield block
            at += len(block)


def _changed(path: str) -> LayerError:
    return LayerError(f"The file {path!r} changed while it was saved.", "Wait for processes that still write.")


def unpack_layer(source: BinaryIO, tree: str, expected: PackedTree) -> None:
    """Make the layer *tree*, a folder that is empty or not there yet, of a pack.

    Raises:
        DamagedEntryError: the pack is not the expected one, or holds what no pack of ours holds. What was made until
            then stays, for the caller to remove.
        LayerError: *tree* cannot be written, or *source* not read.
    """
    from zstandard import ZstdError  # noqa: PLC0415 - only runs with a cache need it

    try:
        os.makedirs(tree, 0o700, exist_ok=True)
        with FolderStack(tree) as folders, FolderStack(tree) as firsts, _Blocks(source) as blocks:
            unpacking = _Unpacking(blocks, expected, folders, firsts)
            unpacking.read_layer()
            unpacking.check()
    except (ZstdError, ValueError, EOFError) as error:
        raise DamagedEntryError(f"The stored layer {expected.id[:12]} is damaged: {error}.") from error
    except OSError as error:
        raise LayerError(
            f"The layer {expected.id[:12]} cannot be unpacked: {error.strerror}: {error.filename}."
        ) from error


class _Unpacking:
    """The two stacks have the same root: one for where it is at, the other for files that get further names."""

    def __init__(self, blocks: "_Blocks", expected: PackedTree, folders: FolderStack, firsts: FolderStack) -> None:
        self._blocks = blocks
        self._expected = expected
        self._folders = folders
        self._firsts = firsts
        self._now = time.time_ns()
        self._buffer = b""
        self._at = 0
        self._made: dict[str, Member] = {}
        self._count = self._files = 0
        self._bytes_left = expected.bytes
        self._last: str | None = None

    def read_layer(self) -> None:
        while (block := self._read(TAR_BLOCK_BYTES)) != _END[:TAR_BLOCK_BYTES]:
            member = self._read_member(block)
            self._check_place(member)
            self._files += member.kind in {"f", "l", "h"}
            self._count += 1
            self._make(member)
        if self._read(TAR_BLOCK_BYTES) != _END[:TAR_BLOCK_BYTES] or self._at < len(self._buffer) or self._blocks.next():
            raise ValueError("it goes on after its end")
        # Last and from the deepest: making something in a folder changes its time, and may need its write bit.
        for path, member in reversed(self._made.items()):
            fd = self._folders.open(path)
            if member.is_opaque:
                set_mark(fd, OPAQUE, b"y")
            self._give_facts(fd, member)

    def check(self) -> None:
        if self._blocks.sha256() != self._expected.sha256:
            raise ValueError("its checksum is another")
        if self._bytes_left or self._files != self._expected.files:
            raise ValueError("it holds less than it should")

    def _read(self, size: int) -> bytes:
        """Exactly *size* bytes, at most a block."""
        end = self._at + size
        if end > len(self._buffer):
            parts = [self._buffer[self._at :]]
            missing = size - len(parts[0])
            self._at, end = 0, size
            while missing > 0:
                block = self._blocks.next()
                if not block:
                    raise EOFError("it ends too early")
                parts.append(block)
                missing -= len(block)
            self._buffer = b"".join(parts)
        content = self._buffer[self._at : end]
        self._at = end
        return content

    def _read_member(self, block: bytes) -> Member:
        size = extended_size(block)
        extended = self._read(size + -size % TAR_BLOCK_BYTES)[:size]
        return parse_member(extended, self._read(TAR_BLOCK_BYTES))

    def _check_place(self, member: Member) -> None:
        # Folder by folder, as they are packed: no name comes twice, and a folder before what is in it. So nothing
        # can be written through a link, or outside.
        order = member.path.replace("/", "\0")
        is_first = self._last is None
        if is_first != (member.path == "" and member.kind == "d") or not _is_plain(member.path):
            raise ValueError(f"the name {member.path!r} is refused")
        if not is_first and (order <= (self._last or "") or member.path.rpartition("/")[0] not in self._made):
            raise ValueError(f"the name {member.path!r} is refused")
        if (member.kind == "f" and member.size > self._bytes_left) or (member.kind != "f" and member.size):
            raise ValueError("it holds more than it should")
        if self._count > 2 * self._expected.files + 1_000_000:
            raise ValueError("it holds more than it should")
        self._bytes_left -= member.size
        self._last = order

    def _make(self, member: Member) -> None:
        if member.path == "":
            self._made[""] = member
            return
        folder, _, name = member.path.rpartition("/")
        fd = self._folders.open(folder)
        match member.kind:
            case "d":
                os.mkdir(name, 0o700, dir_fd=fd)
                self._made[member.path] = member
            case "f":
                self._read_file(member, name, fd)
            case "l":
                make_link(member.target, name, fd, (member.uid, member.gid), member.mtime_ns, self._now)
            case "h":
                self._check_first(member)
                link_further_name(member.target, fd, name, self._firsts)
            case _:
                make_whiteout(name, fd)

    def _check_first(self, member: Member) -> None:
        folder, _, name = member.target.rpartition("/")
        if _is_plain(member.target) and name and folder in self._made:
            try:
                if stat.S_ISREG(os.stat(name, dir_fd=self._firsts.open(folder), follow_symlinks=False).st_mode):
                    return
            except FileNotFoundError:
                pass
        raise ValueError(f"{member.path!r} is another name of {member.target!r}, which is no file of it")

    def _read_file(self, member: Member, name: str, folder_fd: int) -> None:
        fd = os.open(name, CREATE_FLAGS, member.mode & 0o777 | 0o600, dir_fd=folder_fd)
        try:
            left = member.size
            step = _HOLE_BYTES if member.is_sparse else _BLOCK_BYTES
            while left:
                block = self._read(min(left, step))
                left -= len(block)
                if member.is_sparse and not block.strip(b"\0"):
                    os.lseek(fd, len(block), os.SEEK_CUR)
                else:
                    write_all(fd, block)
            if member.is_sparse:
                os.ftruncate(fd, member.size)
            self._give_facts(fd, member)
        finally:
            os.close(fd)
        padding = -member.size % TAR_BLOCK_BYTES
        if padding:
            self._read(padding)

    def _give_facts(self, fd: int, member: Member) -> None:
        give_attributes(fd, member.attributes)
        give_status(fd, member.mode, (member.uid, member.gid), member.mtime_ns, self._now)


def _is_plain(path: str) -> bool:
    """Tell whether a path stays below its root, as far as its names tell; "" is the root itself."""
    if not path:
        return True
    parts = path.split("/")
    return "\0" not in path and len(parts) <= DEEPEST + 1 and {"", ".", ".."}.isdisjoint(parts)


class _Blocks:
    """What is in a pack, block by block; a thread of its own, which hardly needs Python, is some blocks ahead."""

    def __init__(self, source: BinaryIO) -> None:
        from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

        self._source = source
        self._hash = sha256()
        self._queue: Queue[bytes | BaseException] = Queue(_BLOCKS_AHEAD)
        self._is_over = False
        self._thread = Thread(target=self._run, name="unpack-layer")

    def __enter__(self) -> "_Blocks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        while self._thread.is_alive():
            with suppress(Empty):
                self._queue.get(timeout=0.01)
        self._thread.join()

    def next(self) -> bytes:
        """The next block; empty after the last one, once."""
        block = self._queue.get()
        if isinstance(block, BaseException):
            raise block
        return block

    def sha256(self) -> str:
        """Of the pack, in hex; to be asked for after the last block."""
        self._thread.join()
        return self._hash.hexdigest()

    def read(self, size: int) -> bytes:
        """Packed bytes, for zstd."""
        block = self._source.read(size)
        self._hash.update(block)
        return block

    def _run(self) -> None:
        from zstandard import ZstdDecompressor  # noqa: PLC0415 - only runs with a cache need it

        try:
            stream = ZstdDecompressor(max_window_size=1 << 27).stream_reader(
                self,  # type: ignore[arg-type]  # it only calls read
                read_size=_BLOCK_BYTES,
            )
            while not self._is_over and (block := stream.read(_BLOCK_BYTES)):
                self._queue.put(block)
            while not self._is_over and self.read(_BLOCK_BYTES):
                pass
            self._queue.put(b"")
        except BaseException as error:  # handed over to the caller's thread
            self._queue.put(error)
