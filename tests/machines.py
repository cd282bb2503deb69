"""Workers with layers of their own, and edits of the files in their directories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tercel.layers import LayerStore
from tercel.model.globs import Globs
from tercel.storage.caches import CacheEntry, CacheKey, Caches, TtlFrom, this_platform
from tercel.storage.local import LocalStorage
from tercel.worker.cache_shelf import CacheShelf, Found, Published, note_name
from tests.job_runners import backend

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = CacheKey("company.team", "flow", "wd")
OTHER = CacheKey("company.team", "flow", "other")
ALL = Globs(["**"])

Edit = Callable[[Path], object]


def writes(**files: str) -> Edit:
    return lambda root: [(root / name).write_text(text) for name, text in files.items()]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Machine:
    """One worker with its own layers; several share a storage."""

    def __init__(self, folder: Path, storage: LocalStorage, clock: Clock) -> None:
        self.layers = LayerStore(folder / "layers", folder / "at", backend())
        self.storage = storage
        self.shelf = CacheShelf(storage, self.layers, clock)
        self.caches = Caches(storage)
        self.clock = clock

    def again(self) -> Machine:
        """The same machine, as a process sees it that starts now."""
        machine = object.__new__(Machine)
        machine.__dict__.update(self.__dict__)
        machine.layers = LayerStore(Path(self.layers.pool.folder).parent, self.layers.places, backend())
        machine.shelf = CacheShelf(self.storage, machine.layers, self.clock)
        return machine

    def find(self, key: CacheKey = KEY, ttl: timedelta | None = None, ttl_from: TtlFrom = "SAVED") -> Found:
        return self.shelf.find(key, ttl=ttl, ttl_from=ttl_from)

    def save(
        self, edit: Edit, key: CacheKey = KEY, *, globs: Globs = ALL, on: Found | None = None, **properties: object
    ) -> CacheEntry:
        """As a run does that restores *on*, lets *edit* change the files, and saves."""
        with self.layers.directory("wd") as directory:
            if on is None:
                directory.fill([])
            else:
                self.shelf.fill(directory, on)
            cached = list(directory.layers)
            edit(Path(directory.path))
            layer = directory.freeze(is_last=True)
            assert layer is not None
            taken = directory.split(layer, globs, below=cached)
            layers = [*cached, *([taken] if taken else [])]
            values: dict[str, Any] = {
                "id": os.urandom(16).hex(),
                "key": key,
                "saved_at": self.clock(),
                "patterns": ("**",),
                "platform": this_platform(),
                "root": directory.path,
                "layers": on.entry.layers if on is not None and on.entry is not None else (),
            }
            entry = CacheEntry(**(values | properties))
            self.shelf.save(directory, entry, layers, [*layers, layer])
        return entry

    def publish(self, key: CacheKey = KEY, **more: Any) -> Published | None:
        return self.shelf.publish(note_name(key), durable=False, **more)

    def save_and_publish(self, edit: Edit, key: CacheKey = KEY, **more: Any) -> CacheEntry:
        self.save(edit, key, **more)
        published = self.publish(key)
        assert published is not None
        return published.entry

    def restored(self, found: Found | None = None, key: CacheKey = KEY, only: Globs | None = None) -> dict[str, str]:
        """What a run finds in its directory."""
        with self.layers.directory("wd") as directory:
            self.shelf.fill(directory, found or self.find(key), only)
            return {
                path.relative_to(directory.path).as_posix(): path.read_text()
                for path in Path(directory.path).rglob("*")
                if path.is_file()
            }

    def was_here(self) -> bool:
        with self.layers.directory("wd") as directory:
            return self.shelf.fill(directory, self.find())

    def lose(self, layer: str) -> None:
        shutil.rmtree(os.path.dirname(self.layers.pool.tree(layer)))
