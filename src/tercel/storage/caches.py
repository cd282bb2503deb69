"""Cache entries of working directories: what identifies them, whether they are still good, where they lie.

Knows the pointer `current.json` and the packed objects beside it; knows nothing of trees: a pack comes in as a file
and a description, and goes out as a stream.
"""

import os
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import BytesIO
from typing import Annotated, BinaryIO, Literal, TypeVar

import msgspec

from tercel.errors import NotFoundError
from tercel.model.packs import PackedTree
from tercel.storage import (
    InternalStorage,
    cache_folder,
    format_uri,
    murmur_hash,
    namespace_path,
    parse_uri,
)

FORMAT_VERSION = 1
_POINTER, _USED, _OBJECTS, _SUFFIX = "current.json", "used.json", "objects", ".tar.zst"

_NOT_FLOWS = frozenset({"_files", "_kv"})
# Nothing else is ever listed or removed, whatever folders of users are called.
_OURS = re.compile(r"(.*/cache(?:/[0-9a-f]{32}){0,2})/(current\.json|objects/[0-9a-f]{64}\.tar\.zst)", re.DOTALL)

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
T = TypeVar("T")

Outcome = Literal["hit", "none", "expired", "platform", "damaged"]
TtlFrom = Literal["SAVED", "LAST_USED"]


def this_platform() -> str:
    """Operating system and processor: what is cached on one is of no use on another."""
    return f"{sys.platform}-{os.uname().machine}"


class CacheKey(msgspec.Struct, frozen=True, rename="camel"):
    """What identifies an entry.

    Attributes:
        values: loop values around the task, outermost first.
        key: the rendered `cache.key`; "" for none.
    """

    namespace: str
    flow_id: str
    task_id: str
    values: tuple[str, ...] = ()
    key: str = ""

    @property
    def folder(self) -> str:
        """Where the entry lies in internal storage."""
        folder = cache_folder(self.namespace, self.flow_id, self.task_id)
        if self.values:
            one = self.values[0] if len(self.values) == 1 else msgspec.json.encode(self.values).decode()
            folder += f"/{murmur_hash(one)}"
        if self.key:
            # As a map, so that no loop value that reads like a key leads to the same place.
            folder += f"/{murmur_hash(msgspec.json.encode({'key': self.key}).decode())}"
        return folder


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What `current.json` says.

    Attributes:
        saved_at: in UTC.
        seconds: how long the run that made it took before it was saved, 0 when not known; what a hit may save.
        pack: the object and what is in it.
    """

    format_version: int = FORMAT_VERSION
    key: CacheKey
    saved_at: Instant
    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    platform: str
    pack: PackedTree
    execution_id: str = ""
    task_run_id: str = ""
    revision: int = 0
    seconds: float = 0.0


class _Used(msgspec.Struct, rename="camel"):
    sha256: str
    at: Instant


class Found(msgspec.Struct, frozen=True):
    """The answer to a look-up.

    Attributes:
        outcome: `hit`, or why there is none: nothing saved yet, expired, made on another platform, or a pointer that
            cannot be read. What expired or was damaged is gone already.
        entry: of a hit.
        version: of the pointer that was read.
        age: time since the date that the ttl counts from; also of an expired entry.
    """

    outcome: Outcome
    entry: CacheEntry | None = None
    version: str = ""
    age: timedelta | None = None


class Listed(msgspec.Struct, frozen=True):
    """An entry as `tercel cache list` shows it.

    Attributes:
        entry: None when its pointer cannot be read.
        last_used_at: last hit; None when not known.
    """

    folder: str
    entry: CacheEntry | None
    last_used_at: datetime | None


class Caches:
    """The cache entries of internal storage."""

    def __init__(self, storage: InternalStorage) -> None:
        self._storage = storage

    def find(
        self,
        key: CacheKey,
        *,
        now: datetime,
        ttl: timedelta | None = None,
        ttl_from: TtlFrom = "SAVED",
        platform: str = "",
    ) -> Found:
        """Look for an entry that is still good; one that is not any more is removed.

        Args:
            key: what identifies it.
            now: in UTC.
            ttl: how old it may be, None for any age; an age equal to it is still good.
            ttl_from: what the age counts from: the last save, or the last use.
            platform: "" for this one.
        """
        uri = format_uri(f"{key.folder}/{_POINTER}")
        try:
            version = self._storage.stat(uri).version
            with self._storage.get(uri) as stream:
                text = stream.read()
        except NotFoundError:
            return Found("none")
        entry = _decoded(text, CacheEntry)
        if entry is None:
            self._storage.delete_if(uri, version)
            return Found("damaged")
        if entry.format_version != FORMAT_VERSION or entry.key != key:
            return Found("none")
        since = entry.saved_at
        if ttl_from == "LAST_USED":
            since = max(since, self._last_used_at(key.folder, entry) or since)
        age = now - since
        if ttl is not None and age > ttl:
            self.drop(Found("expired", entry, version))
            return Found("expired", age=age)
        if entry.platform != (platform or this_platform()):
            return Found("platform", age=age)
        return Found("hit", entry, version, age)

    def version(self, entry: CacheEntry) -> str:
        """The version of an entry's object now.

        Raises:
            NotFoundError: it is gone: replaced by a newer one meanwhile, if the pointer says so now.
        """
        return self._storage.stat(_object_uri(entry)).version

    def open(self, entry: CacheEntry) -> BinaryIO:
        """Open an entry's object; the caller closes it.

        Raises:
            NotFoundError: as `version`.
        """
        return self._storage.get(_object_uri(entry))

    def touch(self, entry: CacheEntry, now: datetime) -> None:
        """Note that an entry was used."""
        used = msgspec.json.encode(_Used(entry.pack.sha256, now))
        # A file of its own: a pointer written here could take the place of a fresh one.
        self._storage.put(f"{entry.key.folder}/{_USED}", BytesIO(used))

    def save(self, entry: CacheEntry, file: str) -> bool:
        """Store a packed tree and point to it; readers see the entry before or this one.

        Args:
            entry: what the pointer will say.
            file: local file with the pack; moved away when it can be.

        Returns:
            False when the entry there holds the same content for the same patterns: then nothing is stored.
        """
        before = self._read(entry.key.folder)
        if before is not None and _same(before, entry) and self._storage.exists(_object_uri(entry)):
            return False
        object_path = f"{entry.key.folder}/{_OBJECTS}/{entry.pack.sha256}{_SUFFIX}"
        self._storage.put_file(object_path, file, move=True)
        self._storage.put(f"{entry.key.folder}/{_POINTER}", BytesIO(msgspec.json.encode(entry)))
        now = self._read(entry.key.folder)
        if before is not None and now is not None and before.pack.sha256 != now.pack.sha256:
            self._storage.delete([_object_uri(before)])
        return True

    def drop(self, found: Found) -> bool:
        """Remove an entry that was found, unless another has taken its place; tell whether it was removed."""
        if found.entry is None:
            return False
        folder = found.entry.key.folder
        if not self._storage.delete_if(format_uri(f"{folder}/{_POINTER}"), found.version):
            return False
        self._storage.delete([_object_uri(found.entry), format_uri(f"{folder}/{_USED}")])
        return True

    def search(self, namespace: str = "", flow_id: str = "", task_id: str = "") -> list[Listed]:
        """Give the entries there are, ordered by where they lie; "" for all of that kind.

        Args:
            namespace: those in it and, by its dots, below it.
            flow_id: with a namespace only: those of one flow.
            task_id: with a flow only: those of one task.
        """
        if flow_id:
            flow = cache_folder(namespace, flow_id)
            tops = [f"{flow}/{name}/cache" for name in self._storage.folders(flow)]
        else:
            tops = self._cache_folders(namespace_path(namespace) if namespace else "")
        listed = [self._listed(folder) for top in tops for folder, name in self._files(top) if name == _POINTER]
        # Below the folder of a flow there may be those of a namespace that reads like it.
        return sorted(
            (
                one
                for one in listed
                if one.entry is None
                or not flow_id
                or (
                    (one.entry.key.namespace, one.entry.key.flow_id) == (namespace, flow_id)
                    and task_id in {"", one.entry.key.task_id}
                )
            ),
            key=lambda one: one.folder,
        )

    def delete(self, folder: str) -> None:
        """Remove the entry of a folder, as `search` gives it, whatever it is."""
        pointer = format_uri(f"{folder}/{_POINTER}")
        self._storage.delete([pointer, format_uri(f"{folder}/{_USED}")])
        self._storage.delete_all(f"{folder}/{_OBJECTS}")

    def delete_flow(self, namespace: str, flow_id: str) -> int:
        """Remove all entries of a flow, as the flow is deleted, and give their number."""
        entries = self.search(namespace, flow_id)
        for listed in entries:
            self.delete(listed.folder)
        return len(entries)

    def collect(self, now: datetime, older_than: timedelta = timedelta(hours=1)) -> int:
        """Remove objects that no pointer names, left by a crash, and give their number.

        Args:
            now: in UTC.
            older_than: younger ones may be on their way to a pointer.
        """
        lost: list[str] = []
        for top in self._cache_folders(""):
            for folder, name in self._files(top):
                uri = format_uri(f"{folder}/{name}")
                if name == _POINTER or now - self._storage.stat(uri).modified_at <= older_than:
                    continue
                entry = self._read(folder)
                if entry is None or uri != _object_uri(entry):
                    lost.append(uri)
        self._storage.delete(lost)
        return len(lost)

    def _files(self, top: str) -> list[tuple[str, str]]:
        """Pointers and objects below a cache folder: the entry's folder, and their name in it."""
        matches = (_OURS.fullmatch(parse_uri(file.uri)) for file in self._storage.list(top))
        return [(match[1], match[2]) for match in matches if match]

    def _cache_folders(self, top: str) -> list[str]:
        """Folders of that name at or below *top*, not looking where files of executions and namespaces are."""
        found: list[str] = []
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            parent, _, name = folder.rpartition("/")
            if name == "cache":
                found.append(folder)
                continue
            passed = {"_files", "_kv", "tasks", "inputs", "trigger"} if parent.endswith("/executions") else _NOT_FLOWS
            waiting += [f"{folder}/{child}" for child in self._storage.folders(folder or "/") if child not in passed]
        return found

    def _listed(self, folder: str) -> Listed:
        entry = self._read(folder)
        return Listed(folder, entry, self._last_used_at(folder, entry) if entry else None)

    def _read(self, folder: str) -> CacheEntry | None:
        try:
            with self._storage.get(format_uri(f"{folder}/{_POINTER}")) as stream:
                return _decoded(stream.read(), CacheEntry)
        except NotFoundError:
            return None

    def _last_used_at(self, folder: str, entry: CacheEntry) -> datetime | None:
        try:
            with self._storage.get(format_uri(f"{folder}/{_USED}")) as stream:
                used = _decoded(stream.read(), _Used)
        except NotFoundError:
            return None
        return used.at if used is not None and used.sha256 == entry.pack.sha256 else None


def _decoded(text: bytes, type_: type[T]) -> T | None:
    """What a stored file says; None where it is not one of ours."""
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def patterns_differ(entry: CacheEntry, patterns: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether an entry was saved by other patterns, so that only what the new ones take is to be restored."""
    return (entry.patterns, entry.exclude) != (tuple(patterns), tuple(exclude))


def _same(one: CacheEntry, other: CacheEntry) -> bool:
    return (one.key, one.pack.sha256, one.patterns, one.exclude, one.platform) == (
        other.key,
        other.pack.sha256,
        other.patterns,
        other.exclude,
        other.platform,
    )


def _object_uri(entry: CacheEntry) -> str:
    return format_uri(f"{entry.key.folder}/{_OBJECTS}/{entry.pack.sha256}{_SUFFIX}")
