"""The caches of a worker: entries in internal storage, and those whose layers only this machine has yet.

An entry that was just saved is a note in the pool of layers, and good at once. It is packed and stored behind the run,
by `publish`, after which workers elsewhere find it too. Of the entry here and the one stored the newer one counts.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from threading import Lock
from typing import Literal

import msgspec
from msgspec.structs import replace

from tercel.errors import NotFoundError
from tercel.layers import DamagedEntryError, Facts, LayeredDirectory, LayerError, LayerStore, Note
from tercel.model.globs import Globs
from tercel.model.packs import PackedTree
from tercel.storage import InternalStorage
from tercel.storage.caches import CacheEntry, CacheKey, Caches, Listed, Stored, TtlFrom, age_of, this_platform

Outcome = Literal["hit", "none", "expired", "platform", "damaged"]

MOST_LAYERS = 32
"""An entry of more layers is made one layer before it is stored."""

_ATTEMPTS = 10
"""What is saved while an entry is stored has its turn at once, so often."""


class _Here(msgspec.Struct, frozen=True, rename="camel"):
    """What a note says of an entry.

    Attributes:
        layers: ids of the entry's layers, the lowest first.
        run: while the layers made last may lead into others of their run: all layers of it, the lowest first.
        is_stored: all layers are in internal storage, and its pointer names the entry.
    """

    entry: CacheEntry
    layers: tuple[str, ...]
    run: tuple[str, ...] = ()
    is_stored: bool = False


class Found(msgspec.Struct, frozen=True):
    """The answer to a look-up.

    Attributes:
        outcome: `hit`, or why there is none: nothing saved yet, expired, made on another platform, or a pointer that
            cannot be read. What expired or was damaged is gone already.
        entry: of a hit.
        layers: ids of its layers, the lowest first.
        note: as it was read; None where this machine has nothing of it.
        stored: the pointer as it was read; None where internal storage has nothing of it.
        age: time since the date that the ttl counts from; also of an expired entry.
    """

    outcome: Outcome
    entry: CacheEntry | None = None
    layers: tuple[str, ...] = ()
    note: Note | None = None
    stored: Stored | None = None
    age: timedelta | None = None


class Published(msgspec.Struct, frozen=True):
    """An entry that was stored.

    Attributes:
        unreadable: what was left out, as it could not be read.
    """

    entry: CacheEntry
    unreadable: tuple[str, ...] = ()


class CacheShelf:
    """The caches that a worker reads and saves.

    Args:
        storage: where entries are stored for all workers.
        layers: keeps the layers of this machine.
        clock: the current instant in UTC.
    """

    def __init__(self, storage: InternalStorage, layers: LayerStore, clock: Callable[[], datetime]) -> None:
        self._caches = Caches(storage)
        self._layers = layers
        self._notes = layers.pool.entries
        self._clock = clock
        self._settling = Lock()

    # Looking up

    def find(self, key: CacheKey, *, ttl: timedelta | None, ttl_from: TtlFrom) -> Found:
        """Look for an entry that is still good; one that is not any more is removed.

        Args:
            key: what identifies it.
            ttl: how old it may be, None for any age; an age equal to it is still good.
            ttl_from: what the age counts from: the last save, or the last use.
        """
        found = self._newest(key)
        entry = found.entry
        if entry is None:
            if found.outcome == "damaged":
                self.drop(key, found)
            return found
        age = age_of(entry, self._caches.use(entry) if ttl_from == "LAST_USED" else None, self._clock(), ttl_from)
        if ttl is not None and age > ttl:
            self.drop(key, found)
            return Found("expired", age=age)
        if entry.platform != this_platform():
            return Found("platform", age=age)
        return replace(found, age=age)

    def _newest(self, key: CacheKey) -> Found:
        note, here = self._here(key)
        stored = self._caches.read(key)
        entry = None if stored is None else stored.entry
        if here is not None and here.is_stored and (entry is None or entry.id != here.entry.id):
            here = None  # removed, or replaced by another worker
            if stored is None and note is not None and self._notes.remove(note_name(key), only=note):
                note = None
        if here is not None and (entry is None or entry.saved_at <= here.entry.saved_at):
            return Found("hit", here.entry, here.layers, note, stored)
        if entry is not None:
            return Found("hit", entry, tuple(layer.id for layer in entry.layers), note, stored)
        return Found("none" if stored is None else "damaged", note=note, stored=stored)

    def _here(self, key: CacheKey) -> tuple[Note | None, _Here | None]:
        note = self._notes.get(note_name(key))
        here = None if note is None else _decoded(note)
        if note is None or here is None or here.entry.key != key:
            return note, None
        if note.boot not in ("", this_boot()):
            # What was not on the disk when the system went down may be anything now.
            self._forget(note_name(key), note)
            return None, None
        return note, here

    def _forget(self, name: str, note: Note) -> None:
        """Remove a note whose layers are no good, and these."""
        if self._notes.remove(name, only=note):
            for layer in note.layers:
                self._layers.pool.discard(layer)

    def touch(self, entry: CacheEntry) -> None:
        """Note for all workers that an entry was used."""
        self._caches.touch(entry, self._clock())

    def uses(self, entry: CacheEntry) -> tuple[int, datetime | None]:
        """How often this machine has used an entry, and when it was last used as far as is known; None for never."""
        name = note_name(entry.key)
        _, here = self._here(entry.key)
        hits = self._notes.uses(name) if here is not None and here.entry.id == entry.id else 0
        used_at = datetime.fromtimestamp(self._notes.used_at(name), UTC) if hits else None
        use = self._caches.use(entry)
        return hits, max(filter(None, (used_at, None if use is None else use.at)), default=None)

    def drop(self, key: CacheKey, found: Found) -> bool:
        """Remove an entry that was found, unless another has taken its place; tell whether it was removed."""
        is_gone = False
        while (note := self._notes.get(note_name(key))) is not None and self._is_of(note, found):
            is_gone = self._notes.remove(note_name(key), only=note)
        stored = self._caches.read(key)
        if stored is not None and (
            (found.stored is not None and stored.version == found.stored.version)
            or (found.entry is not None and stored.entry is not None and stored.entry.id == found.entry.id)
        ):
            is_gone = self._caches.drop(stored, key) or is_gone
        return is_gone

    def _is_of(self, note: Note, found: Found) -> bool:
        """Whether a note is the one that was found, or that of its entry, which was settled or stored meanwhile."""
        here = _decoded(note)
        return note == found.note or (here is not None and found.entry is not None and here.entry.id == found.entry.id)

    # Restoring

    def fill(self, directory: LayeredDirectory, found: Found, only: Globs | None = None) -> bool:
        """Put a hit into an empty directory; tell whether this machine had all of it.

        Args:
            directory: open, with nothing in it.
            found: the hit.
            only: leave out what these do not take; None for everything.

        Raises:
            DamagedEntryError: what is stored is not what was packed, or is gone from here and not stored.
            NotFoundError: a stored layer is gone: another run has saved meanwhile.
            LayerError: the directory or the pool cannot be written.
        """
        entry = _of(found)
        was_here = self.bring(directory, found)
        relocatable = None
        if len(entry.layers) == len(found.layers):
            relocatable = [path for layer in entry.layers for path in layer.relocatable]
        layers = found.layers if only is None else [directory.chosen(found.layers, only)]
        directory.fill(layers, made_at=entry.root, relocatable=relocatable)
        return was_here

    def bring(self, directory: LayeredDirectory, found: Found) -> bool:
        """Have all layers of a hit on this machine, for as long as *directory* is open. As `fill`."""
        entry = _of(found)
        missing = directory.uses(found.layers)
        self._settle(entry.key)
        packs = {pack.id: pack for pack in entry.layers}
        for layer in found.layers:
            if layer not in packs:
                if layer in missing:
                    raise DamagedEntryError(f"The layer {layer[:12]} is gone.")
            elif layer in missing:
                self._fetch(entry, layer)
            else:
                self._check(entry, layer)
        with suppress(OSError):  # the layers are here: a full disk is no reason to go without them
            self._note_use(entry, found)
        return not missing

    def _note_use(self, entry: CacheEntry, found: Found) -> None:
        """Note that an entry was used, and, where it was not here yet, that its layers are to be kept."""
        name = note_name(entry.key)
        note, here = self._here(entry.key)
        if here is None or here.entry.id != entry.id:
            if note is not None and note != found.note:
                return  # another run has saved here meanwhile
            new = _note(_Here(entry, found.layers, is_stored=True), found.layers)
            if not self._notes.put(name, new, instead_of=note, is_first=note is None):
                return
            self._notes.forget_uses(name)
        self._notes.note_use(name)

    def _fetch(self, entry: CacheEntry, layer: str) -> None:
        from tercel.layers.packs import unpack_layer  # noqa: PLC0415  # only what is not here is unpacked

        pack = next(pack for pack in entry.layers if pack.id == layer)
        version = self._caches.version(entry.key, layer)

        def fill(tree: str) -> Facts:
            with self._caches.open(entry.key, layer) as source:
                unpack_layer(source, tree, pack)
            return Facts(pack.files, pack.bytes, {self._caches.object_uri(entry.key, layer): version})

        self._layers.fetch(layer, fill)

    def _check(self, entry: CacheEntry, layer: str) -> None:
        """See that what is stored of a layer still is what was packed; the layer here stands for it."""
        pool, uri = self._layers.pool, self._caches.object_uri(entry.key, layer)
        pack = next(pack for pack in entry.layers if pack.id == layer)
        try:
            version = self._caches.version(entry.key, layer)
        except NotFoundError:
            if self._here(entry.key)[1] is None:
                raise
            return  # not stored yet, or not any more: it will be
        facts = pool.facts(layer)
        if facts is not None and facts.versions.get(uri) == version:
            return
        from hashlib import sha256  # noqa: PLC0415  # loads OpenSSL, which most runs do without

        digest = sha256()
        with self._caches.open(entry.key, layer) as source:
            while block := source.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != pack.sha256:
            raise DamagedEntryError(f"The stored layer {layer[:12]} is damaged: its checksum is another.")
        versions = {} if facts is None else facts.versions
        pool.set_facts(layer, Facts(pack.files, pack.bytes, {**versions, uri: version}))

    # Saving

    def save(self, directory: LayeredDirectory, entry: CacheEntry, layers: Sequence[str], run: Sequence[str]) -> None:
        """Let an entry be the one of its key, here and now.

        Args:
            directory: that made the layers which are new.
            entry: with what is known of the layers that are stored already.
            layers: ids of all its layers, the lowest first.
            run: ids of all layers of the directory, the lowest first.
        """
        here = _Here(entry, tuple(layers), tuple(run))
        directory.keep(run)
        self._notes.forget_uses(note_name(entry.key))
        # All of them: what a rename led out of a layer is copied into it before anybody else sees it.
        self._notes.put(note_name(entry.key), _note(here, (*layers, *run)))

    def _settle(self, key: CacheKey) -> None:
        """Make the layers of an entry that was saved here stand alone."""
        if (known := self._here(key)[1]) is None or not known.run:
            return
        from tercel.layers.splits import settle_layer  # noqa: PLC0415  # same

        with self._settling, self._locked(key):
            note, here = self._here(key)
            if note is None or here is None or not here.run:
                return
            pool = self._layers.pool
            from tercel.layers.stacks import Stack  # noqa: PLC0415  # same

            stored = {pack.id for pack in here.entry.layers}
            for place, layer in enumerate(here.run):
                if layer in here.layers and layer not in stored and pool.has(layer):
                    settle_layer(pool.tree(layer), Stack([pool.tree(one) for one in here.run[:place]]))
            self._notes.put(note_name(key), _note(replace(here, run=()), here.layers, note.boot), instead_of=note)

    def _locked(self, key: CacheKey) -> AbstractContextManager[None]:
        return self._lock(f".{note_name(key)}")

    def _packing(self, name: str) -> AbstractContextManager[None]:
        return self._lock(f".{name}.packing")

    @contextmanager
    def _lock(self, name: str) -> Generator[None]:
        from fcntl import LOCK_EX, flock  # noqa: PLC0415  # only what was just saved is locked

        self._layers.pool.make()
        path = f"{self._layers.pool.folder}/entries/{name}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(fd, LOCK_EX)
            yield
        finally:
            os.close(fd)

    # Storing

    def unpublished(self) -> list[str]:
        """Names of entries that only this machine has, for `publish`."""
        found: list[str] = []
        for name in self._notes.names():
            note = self._notes.get(name)
            here = None if note is None else _decoded(note)
            if here is not None and not here.is_stored:
                found.append(name)
        return found

    def publish(self, name: str, *, durable: bool, check: Callable[[], None] = lambda: None) -> Published | None:
        """Pack what is not stored of an entry, store it, and point to it.

        Args:
            name: as `unpublished` gives it.
            durable: have the layers reach the disk first.
            check: called now and then; raises to end the work, which then begins anew another time.

        Returns:
            The entry as it is stored; None where there is nothing to do any more.

        Raises:
            LayerError: a layer cannot be packed.
            StorageError: a pack cannot be stored.
        """
        with self._packing(name):
            return self._published(name, durable=durable, check=check)

    def _published(self, name: str, *, durable: bool, check: Callable[[], None]) -> Published | None:
        for _ in range(_ATTEMPTS):
            note = self._notes.get(name)
            here = None if note is None else _decoded(note)
            if note is None or here is None or here.is_stored:
                return None
            if note.boot != this_boot():
                self._forget(name, note)
                return None
            if here.run:
                self._settle(here.entry.key)
                continue
            stored = self._stored(note, here, durable=durable, check=check)
            if stored is not None:
                return stored
        return None

    def _stored(self, note: Note, here: _Here, *, durable: bool, check: Callable[[], None]) -> Published | None:
        """The entry once it is stored; None where another one was saved meanwhile."""
        from tercel.layers.changes import count  # noqa: PLC0415  # only what was just saved is counted
        from tercel.layers.stacks import Stack  # noqa: PLC0415  # same

        pool, key = self._layers.pool, here.entry.key
        with pool.work() as work:
            with pool.held():
                work.uses(here.layers)
                if not all(pool.has(layer) for layer in here.layers):
                    self._notes.remove(note_name(key), only=note)
                    return None
            layers = here.layers
            files, size = count(Stack([pool.tree(layer) for layer in layers]))
            check()
            if len(layers) > MOST_LAYERS or sum(pool.bytes(layer) for layer in layers) > 2 * size + _SPARE_BYTES:
                from tercel.layers.copies import squash  # noqa: PLC0415  # seldom needed

                layers = (work.new_id(),)
                squash(Stack([pool.tree(layer) for layer in here.layers]), pool.tree(layers[0]))
                work.keep(layers)
            check()
            if durable:
                _sync(pool.folder)
            packs = {pack.id: pack for pack in here.entry.layers}
            unreadable: list[str] = []
            for layer in layers:
                check()
                if layer not in packs or not self._is_stored(key, layer):
                    packs[layer], left_out = self._pack(work.folder, key, layer, here.entry.root)
                    unreadable += left_out
            entry = replace(here.entry, layers=tuple(packs[layer] for layer in layers), files=files, bytes=size)
            if not self._caches.publish(entry):
                self._notes.remove(note_name(key), only=note)
                return None
            if not all([self._is_noted(key, pack.id, Facts(pack.files, pack.bytes)) for pack in entry.layers]):
                return None  # another worker has replaced what this entry was made on: what is gone is packed again
            now = _note(_Here(entry, layers, is_stored=True), layers, boot="" if durable else None)
            if self._notes.put(note_name(key), now, instead_of=note):
                return Published(entry, tuple(unreadable))
            if self._notes.get(note_name(key)) is None:
                self.drop(key, Found("hit", entry))  # as it was dropped here meanwhile
            return None

    def _is_stored(self, key: CacheKey, layer: str) -> bool:
        try:
            self._caches.version(key, layer)
        except NotFoundError:
            return False
        return True

    def _pack(self, folder: str, key: CacheKey, layer: str, root: str) -> tuple[PackedTree, list[str]]:
        from tercel.layers.packs import pack_layer  # noqa: PLC0415  # only what was just saved is packed

        path = f"{folder}/pack"
        try:
            with open(path, "xb") as file:
                pack, unreadable = pack_layer(self._layers.pool.tree(layer), file, layer_id=layer, root=root)
        except OSError as error:
            raise LayerError(f"The layer {layer[:12]} cannot be packed: {error.strerror}: {error.filename}.") from error
        try:
            self._caches.store(key, layer, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return pack, unreadable

    def _is_noted(self, key: CacheKey, layer: str, facts: Facts) -> bool:
        """Note the version of a layer's object; tells whether there is one."""
        known = self._layers.pool.facts(layer)
        versions = {} if known is None else known.versions
        try:
            version = self._caches.version(key, layer)
        except NotFoundError:
            return False
        facts = replace(facts, versions={**versions, self._caches.object_uri(key, layer): version})
        self._layers.pool.set_facts(layer, facts)
        return True

    # For people

    def listed(self, namespace: str = "") -> list[Listed]:
        """The entries there are, ordered by where they lie; those of a namespace and below it."""
        stored = {one.folder: one for one in self._caches.search(namespace)}
        for name in self._notes.names():
            note = self._notes.get(name)
            here = None if note is None else _decoded(note)
            if here is None or here.is_stored or not _is_in(here.entry.key.namespace, namespace):
                continue
            if note is not None and note.boot != this_boot():
                continue  # it will not be trusted
            folder, other = here.entry.key.folder, stored.get(here.entry.key.folder)
            if other is None or other.entry is None or other.entry.saved_at <= here.entry.saved_at:
                stored[folder] = Listed(folder, here.entry, self._caches.use(here.entry))
        return [stored[folder] for folder in sorted(stored)]

    def is_stored(self, entry: CacheEntry) -> bool:
        """Whether an entry, as `listed` gives it, is in internal storage."""
        _, here = self._here(entry.key)
        return here is None or here.is_stored or here.entry.id != entry.id

    def layers_here(self, entry: CacheEntry) -> tuple[str, ...]:
        """Ids of all layers of an entry that is not in internal storage yet, the lowest first."""
        _, here = self._here(entry.key)
        return () if here is None or here.entry.id != entry.id else here.layers

    def clear(self, listed: Listed) -> None:
        """Remove an entry, here and in internal storage; one that is just being stored, as soon as it is."""
        name = "" if listed.entry is None else note_name(listed.entry.key)
        if not name or self._notes.get(name) is None:
            self._caches.delete(listed.folder)
            return
        with self._packing(name):
            self._notes.remove(name)
            self._caches.delete(listed.folder)

    def evict(self, limit_bytes: int) -> int:
        """Let go of the least recently used entries until all have at most so many bytes on this machine.

        They stay in internal storage; what is not there yet stays here. The layers go with the pool's next `sweep`.

        Returns:
            How many went.
        """
        pool, gone = self._layers.pool, 0
        sizes: dict[str, int] = {}
        users: dict[str, int] = {}
        notes = [(name, note) for name in self._notes.names() if (note := self._notes.get(name)) is not None]
        for _, note in notes:
            for layer in set(note.layers):
                users[layer] = users.get(layer, 0) + 1
                sizes.setdefault(layer, pool.bytes(layer) if pool.has(layer) else 0)
        total = sum(sizes.values())
        for name, note in notes:
            here = _decoded(note)
            if total <= limit_bytes:
                break
            if here is None or not here.is_stored or not self._notes.remove(name, only=note):
                continue
            gone += 1
            for layer in set(note.layers):
                users[layer] -= 1
                total -= 0 if users[layer] else sizes[layer]
        return gone

    def collect(self) -> int:
        """Remove what is in internal storage and belongs to no entry, left by a crash; how many objects went."""
        return self._caches.collect(self._clock())

    def sweep(self) -> None:
        """Remove the layers that nobody needs any more."""
        self._layers.sweep()


_SPARE_BYTES = 1 << 20


def _of(found: Found) -> CacheEntry:
    if found.entry is None:
        raise DamagedEntryError("There is no entry.")
    return found.entry


def note_name(key: CacheKey) -> str:
    """The name of a key's note in the pool."""
    return blake2b(key.folder.encode(), digest_size=16).hexdigest()


def _decoded(note: Note) -> _Here | None:
    try:
        return msgspec.json.decode(note.body, type=_Here)
    except msgspec.DecodeError:
        return None


def _note(here: _Here, layers: Sequence[str], boot: str | None = None) -> Note:
    body = msgspec.Raw(msgspec.json.encode(here))
    return Note(tuple(dict.fromkeys(layers)), body, this_boot() if boot is None else boot)


def _is_in(namespace: str, parent: str) -> bool:
    return not parent or namespace == parent or namespace.startswith(f"{parent}.")


@lru_cache(maxsize=1)
def this_boot() -> str:
    """What tells one boot of the system from another."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _sync(folder: str) -> None:
    """Have all that was written to the file system of a folder reach the disk."""
    from ctypes import CDLL  # noqa: PLC0415  # only what was just saved is brought to the disk

    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        CDLL(None).syncfs(fd)
    finally:
        os.close(fd)
