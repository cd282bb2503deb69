"""Internal storage: files under `kestra:///` addresses, and where each kind of file has its place.

Knows the protocol that every storage fulfils, the form of addresses and the paths of the specification. Knows
nothing of where bytes are kept: that is for `local.py` and its siblings to come.

A *path* is plain: `/company/team/my-flow/…/a b.csv`. A *URI* is its percent-encoded form with `kestra://` before
it: `kestra:///company/team/my-flow/…/a%20b.csv`. The tenant is in neither.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from tercel.errors import StorageError
from tercel.model.slugs import distinct_slug, slug

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


def namespace_version_folder(namespace: str, path: str) -> str:
    """Where the earlier versions of a namespace file are kept, by number; "" for the folder of those of all files.

    Example:
        >>> namespace_version_folder("company.team", "lib/u.py")
        '/company/team/_versions/=lib/=u.py'
    """
    # Marked, no part of the path reads like a number below it.
    return "/".join([f"{namespace_path(namespace)}/_versions", *(f"={part}" for part in path.split("/") if part)])


def namespace_folder_path(namespace: str, path: str) -> str:
    """Where it is noted that a folder of a namespace was made by itself; "" for the folder of all such notes."""
    # Marked, no part of the path reads like the name of a note.
    return "/".join([f"{namespace_path(namespace)}/_folders", *(f"={part}" for part in path.split("/") if part)])


def cache_folder(namespace: str, flow_id: str, task_id: str = "") -> str:
    """Where the cache entries of a task are kept; without a task, the folder above those of the whole flow."""
    folder = f"{namespace_path(namespace)}/{distinct_slug(flow_id)}"
    return f"{folder}/{distinct_slug(task_id)}/cache" if task_id else folder
