"""Internal storage: files under `kestra:///` addresses, and where each kind of file has its place.

Knows the protocol that every storage fulfils, the form of addresses and the paths of the specification. Knows
nothing of where bytes are kept: that is for `local.py` and its siblings to come.

A *path* is plain: `/company/team/my-flow/…/a b.csv`. A *URI* is its percent-encoded form with `kestra://` before
it: `kestra:///company/team/my-flow/…/a%20b.csv`. The tenant is in neither.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from tercel.errors import StorageError

SCHEME = "kestra://"


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one stored file.

    Attributes:
        size: in bytes.
        modified_at: when it was put there, in UTC.
        version: differs as soon as another content may have taken its place; opaque.
        executable: whether it was stored as executable.
    """

    uri: str
    size: int
    modified_at: datetime
    version: str
    executable: bool = False


class InternalStorage(Protocol):
    """Files under addresses, written once by convention, replaced as a whole. Every method may wait on a disk.

    A path or URI with a `..` part, or leading out of the storage, raises StorageError everywhere.
    Reading what is not there raises NotFoundError, naming the URI.
    """

    def put(self, path: str, content: BinaryIO, *, executable: bool = False) -> str:
        """Store the rest of *content* under *path*, replacing what was there at once, and give its URI."""
        ...

    def put_file(self, path: str, file: str | Path, *, executable: bool = False, move: bool = False) -> str:
        """Store a local file; with *move* the local file is gone afterwards, which is often quicker."""
        ...

    def get(self, uri: str) -> BinaryIO:
        """Open a file for reading. The caller closes it; a later put or delete does not change what it reads."""
        ...

    def copy_to(self, uri: str, fd: int) -> int:
        """Write a file's content to a file descriptor open for writing, and give the number of bytes."""
        ...

    def exists(self, uri: str) -> bool:
        """Tell whether there is a file, not a folder, at *uri*."""
        ...

    def stat(self, uri: str) -> StoredFile:
        """Give what is known of a file."""
        ...

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Give every file below a folder, at any depth, ordered by path; nothing when there is no such folder.

        Args:
            prefix: path of the folder; "/" for all.
        """
        ...

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the folders right below a folder, ordered."""
        ...

    def move(self, uri: str, path: str) -> str:
        """Give a file another path, replacing what was there, and give its new URI."""
        ...

    def delete(self, uris: Iterable[str]) -> None:
        """Delete files; those already gone are passed over."""
        ...

    def delete_if(self, uri: str, version: str) -> bool:
        """Delete a file if it is still of that version, and tell whether it was; atomic."""
        ...

    def delete_all(self, prefix: str) -> int:
        """Delete every file below a folder and give their number."""
        ...


def format_uri(path: str) -> str:
    """The URI of a path.

    Raises:
        StorageError: a part is empty, `.` or `..`, or a NUL is in it.

    Example:
        >>> format_uri("/team/flow/a b#1.csv")
        'kestra:///team/flow/a%20b%231.csv'
    """
    return f"{SCHEME}/{'/'.join(map(encode_segment, split_path(path)))}"


def parse_uri(uri: str) -> str:
    """The plain path of a URI, always starting with `/`.

    Raises:
        StorageError: it does not start with `kestra:///`, or its path is refused as by `format_uri`.

    Example:
        >>> parse_uri("kestra:///team/flow/a%20b%231.csv")
        '/team/flow/a b#1.csv'
    """
    if not uri.startswith(f"{SCHEME}/"):
        raise StorageError(f"{uri!r} is not an address of internal storage.", "It starts with kestra:/// then.")
    # Split before decoding, so that an encoded slash cannot make a part of its own.
    parts = [decode_segment(part) for part in uri[len(SCHEME) + 1 :].split("/")]
    for part in parts:
        _check_part(part, uri)
    return "/" + "/".join(parts)


def split_path(path: str) -> list[str]:
    """The parts of a plain path, each checked.

    Raises:
        StorageError: a part is empty, `.` or `..`, or a NUL is in it.
    """
    parts = path.removeprefix("/").split("/")
    for part in parts:
        _check_part(part, path)
    return parts


def _check_part(part: str, whole: str) -> None:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise StorageError(
            f"Internal storage refuses {whole!r}: {part!r} cannot be a part of a path.",
            "Give a path of plain names, without `..` and without empty parts.",
        )


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_ENCODED = tuple(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256))
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def encode_segment(name: str) -> str:
    """Percent-encode one part of a path; bytes that are not UTF-8 survive as surrogates.

    Example:
        >>> encode_segment("p%20 é.txt")
        'p%2520%20%C3%A9.txt'
    """
    return "".join(_ENCODED[byte] for byte in name.encode("utf-8", "surrogateescape"))


def decode_segment(text: str) -> str:
    """The name that `encode_segment` encoded; a `%` that starts no escape stays."""
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), raw).decode("utf-8", "surrogateescape")


_WHITESPACE = re.compile(r"\s")
_NOT_IN_SLUG = re.compile(r"[^A-Za-z0-9_-]")
_DASHES = re.compile(r"-{2,}")


def slug(text: str) -> str:
    """A form of an id for paths; different ids may share it, see `distinct_slug`.

    Example:
        >>> slug("My Tâche_1")
        'my-tache-1'
    """
    plain = _NOT_IN_SLUG.sub("", unicodedata.normalize("NFD", _WHITESPACE.sub("-", text)))
    dashed = _DASHES.sub("-", plain.replace("_", "-"))
    return dashed.removeprefix("-").removesuffix("-").lower()


def distinct_slug(text: str) -> str:
    """A slug that no other id shares, for what is kept under ids alone.

    Example:
        >>> distinct_slug("my-task"), distinct_slug("my_task")
        ('my-task', 'my-task-5d8517')
    """
    plain = slug(text)
    if plain == text:
        return plain
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

    return f"{plain}-{sha256(text.encode()).hexdigest()[:6]}"


_LOW_64 = 0xFFFFFFFFFFFFFFFF
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def murmur_hash(text: str) -> str:
    """MurmurHash3 x64 128 of *text* in UTF-8, seed 0, as little-endian hex; how Kestra names loop values in paths.

    Example:
        >>> murmur_hash("value")
        '7d04fd3bbbc0946dc06caf7356fdf051'
    """
    raw = text.encode()
    tail = len(raw) % 16
    h1 = h2 = 0
    for at in range(0, len(raw) - tail, 16):
        h1 ^= _mix(int.from_bytes(raw[at : at + 8], "little"), _C1, 31, _C2)
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _LOW_64
        h2 ^= _mix(int.from_bytes(raw[at + 8 : at + 16], "little"), _C2, 33, _C1)
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _LOW_64
    rest = raw[len(raw) - tail :]
    h2 ^= _mix(int.from_bytes(rest[8:], "little"), _C2, 33, _C1)
    h1 ^= _mix(int.from_bytes(rest[:8], "little"), _C1, 31, _C2)
    h1 ^= len(raw)
    h2 ^= len(raw)
    h1 = (h1 + h2) & _LOW_64
    h2 = (h2 + h1) & _LOW_64
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _LOW_64
    h2 = (h2 + h1) & _LOW_64
    return h1.to_bytes(8, "little").hex() + h2.to_bytes(8, "little").hex()


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _LOW_64


def _mix(value: int, first: int, bits: int, second: int) -> int:
    return (_rotate((value * first) & _LOW_64, bits) * second) & _LOW_64


def _finish(value: int) -> int:
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & _LOW_64
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & _LOW_64
    return value ^ (value >> 33)


def namespace_path(namespace: str) -> str:
    """Where a namespace has its files: its dots become folders."""
    return "/" + namespace.replace(".", "/")


def flow_path(namespace: str, flow_id: str) -> str:
    """Where a flow has its files."""
    return f"{namespace_path(namespace)}/{slug(flow_id)}"


def execution_path(namespace: str, flow_id: str, execution_id: str) -> str:
    """Where an execution has its files."""
    return f"{flow_path(namespace, flow_id)}/executions/{execution_id}"


def input_path(namespace: str, flow_id: str, execution_id: str, input_id: str, name: str) -> str:
    """Where the file given for an input is kept."""
    return f"{execution_path(namespace, flow_id, execution_id)}/inputs/{input_id}/{name}"


def trigger_path(namespace: str, flow_id: str, execution_id: str, trigger_id: str, name: str) -> str:
    """Where a file found by a trigger is kept."""
    return f"{execution_path(namespace, flow_id, execution_id)}/trigger/{slug(trigger_id)}/{name}"


def task_run_path(namespace: str, flow_id: str, execution_id: str, task_id: str, task_run_id: str) -> str:
    """Where a task run has its files."""
    return f"{execution_path(namespace, flow_id, execution_id)}/tasks/{slug(task_id)}/{task_run_id}"


def output_path(task_run_folder: str, relative_path: str) -> str:
    """Where a captured output file is kept: below `task_run_path`, with its relative path as it was."""
    return f"{task_run_folder}/outputs/{relative_path}"


def namespace_file_path(namespace: str, path: str) -> str:
    """Where a namespace file is kept."""
    return f"{namespace_path(namespace)}/_files/{path.removeprefix('/')}"


def cache_folder(namespace: str, flow_id: str, task_id: str = "") -> str:
    """Where the cache entries of a task are kept; without a task, the folder above those of the whole flow."""
    folder = f"{namespace_path(namespace)}/{distinct_slug(flow_id)}"
    return f"{folder}/{distinct_slug(task_id)}/cache" if task_id else folder
