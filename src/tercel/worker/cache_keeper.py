"""Stores, behind the runs, what caches have saved: one thread, started when it is first needed."""

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from time import monotonic, perf_counter

import msgspec

from tercel.errors import TercelError
from tercel.storage.caches import CacheEntry
from tercel.worker.cache_shelf import CacheShelf


class Kept(msgspec.Struct, frozen=True):
    """What became of an entry.

    Attributes:
        entry: as it is stored; None where another one has taken its place, or it could not be stored.
        trouble: why it could not; else "".
        unreadable: what was left out, as it could not be read.
        seconds: how long it took.
    """

    entry: CacheEntry | None
    trouble: str
    seconds: float
    unreadable: tuple[str, ...] = ()


Told = Callable[[Kept], object]


class _StoppedError(Exception):
    """There is no more time."""


class CacheKeeper:
    """Packs and stores entries, one after the other.

    Args:
        durable: have layers reach the disk before they are packed.
        limit_bytes: what all entries may take on this machine; past it the least recently used go.
    """

    def __init__(self, shelf: CacheShelf, *, durable: bool, limit_bytes: int) -> None:
        self._shelf = shelf
        self._durable = durable
        self._limit_bytes = limit_bytes
        self._changed = Condition()
        self._waiting: dict[str, Callable[[], object]] = {}
        self._thread: Thread | None = None
        self._is_busy = False
        self._is_closing = False
        self._stop_at = float("inf")

    def entrust(self, name: str, told: Told = lambda _: None) -> None:
        """Store an entry soon.

        Args:
            name: of its note, as the shelf gives it.
            told: called in the keeper's thread with what became of it.
        """
        self._do(f"{name} {os.urandom(4).hex()}", lambda: told(self._kept(name)))

    def do(self, name: str, work: Callable[[Callable[[], None]], object]) -> None:
        """Do something else soon, behind what waits already.

        Args:
            name: work of the same name that still waits is not done any more.
            work: gets what is to be called now and then, which raises when the time is up. What it raises itself is
                nobody's business.
        """
        self._do(name, lambda: work(self._check))

    def _do(self, name: str, work: Callable[[], object]) -> None:
        with self._changed:
            self._waiting.pop(name, None)
            self._waiting[name] = work
            if self._thread is None:
                self._thread = Thread(target=self._run, name="tercel-cache-keeper", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def entrust_leftovers(self) -> None:
        """Store what processes that are gone had saved and not stored."""
        for name in self._shelf.unpublished():
            self.entrust(name)

    def wait(self) -> None:
        """Wait until nothing is left to be stored."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._is_busy)

    def close(self, patience_s: float = float("inf")) -> None:
        """Store what waits, for so long at most, and end; what is not stored by then is for another process."""
        with self._changed:
            self._is_closing = True
            self._stop_at = monotonic() + patience_s
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    self._thread = None  # what comes later gets another one
                    return
                work = self._waiting.pop(next(iter(self._waiting)))
                self._is_busy = True
            with suppress(Exception):  # nothing must end the keeper
                work()

    def _kept(self, name: str) -> Kept:
        began = perf_counter()
        published, trouble = None, ""
        try:
            published = self._shelf.publish(name, durable=self._durable, check=self._check)
            if self._shelf.evict(self._limit_bytes):
                self._shelf.sweep()
        except _StoppedError:
            trouble = "the process ended; the next one goes on with it"
        except (TercelError, OSError) as error:
            trouble = str(error)
        except Exception as error:  # whatever is wrong with one entry, the others have their turn
            trouble = f"{type(error).__name__}: {error}"
        took = perf_counter() - began
        return Kept(None, trouble, took) if published is None else Kept(published.entry, "", took, published.unreadable)

    def _check(self) -> None:
        if monotonic() > self._stop_at:
            raise _StoppedError
