"""What jobs with a directory made of layers need, gathered in one value; made when the first of them comes."""

import os
import time
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b

from tercel.layers import LayerStore
from tercel.model import WorkerJob
from tercel.storage import InternalStorage
from tercel.worker.cache_keeper import CacheKeeper
from tercel.worker.cache_shelf import CacheShelf
from tercel.worker.snapshots import Snapshot, Snapshots
from tercel.worker.stored_snapshots import StoredSnapshots

_MOST_NAME = 40
_CLEAN_EVERY_S = 600.0


class LayerServices:
    """The layers of a worker, and what is kept of them.

    Args:
        layers: makes directories.
        storage: where caches are stored for all workers.
        clock: the current instant in UTC.
        keeps_snapshots: keep what each task run changed.
        snapshot_age_s: for so long.
        snapshot_limit_bytes: what they all may take.
        cache_limit_bytes: what caches may take on this machine.
        durable: what is stored has reached the disk first.
        stores_snapshots: have snapshots in internal storage too, for workers on other machines.

    Attributes:
        shelf: the caches.
        keeper: stores what caches have saved.
        snapshots: None where none are kept.
    """

    def __init__(
        self,
        layers: LayerStore,
        storage: InternalStorage,
        clock: Callable[[], datetime],
        *,
        keeps_snapshots: bool = True,
        snapshot_age_s: float = 7 * 86400.0,
        snapshot_limit_bytes: int = 5 << 30,
        cache_limit_bytes: int = 10 << 30,
        durable: bool = False,
        stores_snapshots: bool = False,
    ) -> None:
        self.layers = layers
        self.shelf = CacheShelf(storage, layers, clock)
        self.keeper = CacheKeeper(self.shelf, durable=durable, limit_bytes=cache_limit_bytes)
        self._stored = StoredSnapshots(storage, layers) if stores_snapshots else None
        self.snapshots = self._opened_snapshots() if keeps_snapshots else None
        self._snapshot_age_s = snapshot_age_s
        self._snapshot_limit_bytes = snapshot_limit_bytes
        self._cache_limit_bytes = cache_limit_bytes

    def _opened_snapshots(self) -> Snapshots:
        stored = self._stored
        if stored is None:
            return Snapshots(self.layers)

        def store(snapshot: Snapshot) -> None:
            name = f"{snapshot.execution_id}.{snapshot.task_run_id}"
            self.keeper.do(name, lambda check: stored.store(snapshot, check))

        return Snapshots(self.layers, store, stored.fetch)

    def clean(self) -> int:
        """Remove what dead processes left, what is too old, and what is past its limit; how many things went."""
        Snapshots(self.layers).evict(
            older_than_s=self._snapshot_age_s, limit_bytes=self._snapshot_limit_bytes, now_s=time.time()
        )
        self.shelf.evict(self._cache_limit_bytes)
        self.shelf.collect()
        return self.layers.sweep()

    def clean_when_due(self) -> None:
        """The same where work of a dead process may have been left, or it was not done for a while."""
        pool = self.layers.pool
        stamp = f"{pool.folder}/cleaned"
        try:
            is_due = bool(os.listdir(f"{pool.folder}/work")) or time.time() - os.stat(stamp).st_mtime > _CLEAN_EVERY_S
        except FileNotFoundError:
            is_due = True
        if is_due:
            pool.make()
            with open(stamp, "wb"):
                pass
            self.clean()

    def close(self, patience_s: float = float("inf")) -> None:
        """Store what caches have saved, for so long at most, and let go of everything."""
        self.keeper.close(patience_s)
        self.layers.close()


def place_name(job: WorkerJob) -> str:
    """The name of the fixed path of a task's directory: the same for all its runs, and no other task's.

    Short, as scripts in the directory hold the path in their first line, which the system cuts.
    """
    identity = "\0".join((job.namespace, job.flow_id, job.task.id))
    readable = "".join(
        letter if letter.isascii() and letter.isalnum() else "-" for letter in f"{job.flow_id}-{job.task.id}"
    )
    return f"{readable[:_MOST_NAME]}-{blake2b(identity.encode(), digest_size=5).hexdigest()}"
