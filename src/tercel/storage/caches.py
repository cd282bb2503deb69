"""Cache entries of working directories: what identifies them, whether they are still good, where they lie.

Knows the pointer `current.json` and the packed layers beside it; knows nothing of files in layers: a pack comes in as a
file and a description, and goes out as a stream.
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
from tercel.model.slugs import murmur_hash
from tercel.storage import (
    InternalStorage,
    cache_folder,
    format_uri,
    namespace_path,
    parse_uri,
)

FORMAT_VERSION = 2
_POINTER, _USED, _OBJECTS, _SUFFIX = "current.json", "used.json", "objects", ".tar.zst"

_NOT_FLOWS = frozenset({"_files", "_versions", "_kv"})
# Nothing else is ever listed or removed, whatever folders of users are called.
_OURS = re.compile(r"(.*/cache(?:/[0-9a-f]{32}){0,2})/(current\.json|objects/[0-9a-f]{32}\.tar\.zst)", re.DOTALL)

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
T = TypeVar("T")

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
        id: 32 hexadecimal digits, unlike those of any other entry.
        saved_at: in UTC.
        root: path of the directory it was saved from; files in it may hold that path.
        layers: what it is made of, the lowest first.
        files: all but folders that are there when the layers lie one on the other.
        bytes: their content.
        seconds: how long the run that made it took before it was saved, 0 when not known; what a hit may save.
    """

    format_version: int = FORMAT_VERSION
    id: str
    key: CacheKey
    saved_at: Instant
    patterns: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    platform: str
    root: str
    layers: tuple[PackedTree, ...]
    files: int = 0
    bytes: int = 0
    execution_id: str = ""
    task_run_id: str = ""
    revision: int = 0
    seconds: float = 0.0

    @property
    def packed_bytes(self) -> int:
        """Size of all its objects."""
        return sum(layer.packed_bytes for layer in self.layers)


class Use(msgspec.Struct, rename="camel"):
    """What `used.json` says.

    Attributes:
        id: of the entry; what is said of another one does not count.
        at: its last use, in UTC.
    """

    id: str
    at: Instant


class Stored(msgspec.Struct, frozen=True):
    """A pointer as it was read.

    Attributes:
        entry: None when it cannot be read.
        version: of the pointer.
    """

    entry: CacheEntry | None
    version: str


class Listed(msgspec.Struct, frozen=True):
    """An entry of internal storage, for people.

    Attributes:
        entry: None when its pointer cannot be read.
        use: None when it was not used yet.
    """

    folder: str
    entry: CacheEntry | None
    use: Use | None


class Caches:
    """The cache entries of internal storage."""

    def __init__(self, storage: InternalStorage) -> None:
        self._storage = storage

    def read(self, key: CacheKey) -> Stored | None:
        """The entry of a key; None where there is none, or one of another version of tercel."""
        uri = _pointer_uri(key)
        try:
            version = self._storage.stat(uri).version
            with self._storage.get(uri) as stream:
                text = stream.read()
        except NotFoundError:
            return None
        entry = _decoded(text, CacheEntry)
        if entry is None:
            is_ours = (found := _decoded(text, _AnyVersion)) is None or found.format_version == FORMAT_VERSION
            return Stored(None, version) if is_ours else None
        return Stored(entry, version) if (entry.format_version, entry.key) == (FORMAT_VERSION, key) else None

    def use(self, entry: CacheEntry) -> Use | None:
        """The last use of an entry; None where it was not used yet."""
        try:
            with self._storage.get(format_uri(f"{entry.key.folder}/{_USED}")) as stream:
                used = _decoded(stream.read(), Use)
        except NotFoundError:
            return None
        return used if used is not None and used.id == entry.id else None

    def touch(self, entry: CacheEntry, now: datetime) -> None:
        """Note that an entry was used."""
        used = msgspec.json.encode(Use(entry.id, now))
        # A file of its own: a pointer written here could take the place of a fresh one.
        self._storage.put(f"{entry.key.folder}/{_USED}", BytesIO(used))

    def object_uri(self, key: CacheKey, layer: str) -> str:
        """Where a layer of an entry is stored."""
        return format_uri(f"{key.folder}/{_OBJECTS}/{layer}{_SUFFIX}")

    def version(self, key: CacheKey, layer: str) -> str:
        """The version of a layer's object now.

        Raises:
            NotFoundError: it is gone: with an entry that was replaced by a newer one, if the pointer says so now.
        """
        return self._storage.stat(self.object_uri(key, layer)).version

    def open(self, key: CacheKey, layer: str) -> BinaryIO:
        """Open a layer's object; the caller closes it.

        Raises:
            NotFoundError: as `version`.
        """
        return self._storage.get(self.object_uri(key, layer))

    def store(self, key: CacheKey, layer: str, file: str) -> None:
        """Store a packed layer.

        Args:
            key: of the entry that it is for.
            layer: its id.
            file: local file with the pack; moved away when it can be.
        """
        self._storage.put_file(f"{key.folder}/{_OBJECTS}/{layer}{_SUFFIX}", file, move=True)

    def publish(self, entry: CacheEntry) -> bool:
        """Point to an entry, all of whose layers are stored; readers see the entry before or this one.

        Returns:
            False when one that was saved later is there: then it stays, and what only this one needs goes.
        """
        before = self.read(entry.key)
        needed = {layer.id for layer in entry.layers}
        old = set[str]()
        if before is not None and before.entry is not None:
            old = {layer.id for layer in before.entry.layers}
            if before.entry.saved_at > entry.saved_at:
                self._storage.delete([self.object_uri(entry.key, layer) for layer in needed - old])
                return False
        self._storage.put(f"{entry.key.folder}/{_POINTER}", BytesIO(msgspec.json.encode(entry)))
        now = self.read(entry.key)
        if now is not None and now.entry is not None:
            kept = {layer.id for layer in now.entry.layers}
            self._storage.delete([self.object_uri(entry.key, layer) for layer in (old | needed) - kept])
        return True

    def drop(self, stored: Stored, key: CacheKey) -> bool:
        """Remove an entry as it was read, unless another has taken its place; tell whether it was removed."""
        if not self._storage.delete_if(_pointer_uri(key), stored.version):
            return False
        self._storage.delete([format_uri(f"{key.folder}/{_USED}")])
        if stored.entry is not None:
            self._storage.delete([self.object_uri(key, layer.id) for layer in stored.entry.layers])
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
                if entry is None or uri not in {self.object_uri(entry.key, layer.id) for layer in entry.layers}:
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
            passed = {*_NOT_FLOWS, "tasks", "inputs", "trigger"} if parent.endswith("/executions") else _NOT_FLOWS
            waiting += [f"{folder}/{child}" for child in self._storage.folders(folder or "/") if child not in passed]
        return found

    def _listed(self, folder: str) -> Listed:
        entry = self._read(folder)
        return Listed(folder, entry, self.use(entry) if entry else None)

    def _read(self, folder: str) -> CacheEntry | None:
        try:
            with self._storage.get(format_uri(f"{folder}/{_POINTER}")) as stream:
                return _decoded(stream.read(), CacheEntry)
        except NotFoundError:
            return None


class _AnyVersion(msgspec.Struct, rename="camel"):
    format_version: int


def _decoded(text: bytes, type_: type[T]) -> T | None:
    """What a stored file says; None where it is not one of ours."""
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def age_of(entry: CacheEntry, use: Use | None, now: datetime, ttl_from: TtlFrom) -> timedelta:
    """How old an entry is by what its ttl counts from: the last save, or the last use."""
    since = entry.saved_at
    if ttl_from == "LAST_USED" and use is not None:
        since = max(since, use.at)
    return now - since


def patterns_differ(entry: CacheEntry, patterns: Sequence[str], exclude: Sequence[str]) -> bool:
    """Tell whether an entry was saved by other patterns, so that only what the new ones take is to be restored."""
    return (entry.patterns, entry.exclude) != (tuple(patterns), tuple(exclude))


def _pointer_uri(key: CacheKey) -> str:
    return format_uri(f"{key.folder}/{_POINTER}")
