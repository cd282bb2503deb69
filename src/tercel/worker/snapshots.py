"""What a task run's directory was, child by child: the layers are in the pool, and a note says which is what.

With it an execution goes on at the child that failed, and people see what each child has changed.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Annotated

import msgspec

from tercel.layers import LayerStore, Note
from tercel.model import WorkerJob
from tercel.storage.caches import CacheEntry
from tercel.worker.cache_shelf import this_boot

Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One attempt of one task run in a directory.

    Attributes:
        attempt: counted from zero.
        state: how it ended.
        layers: ids of what it changed, the lowest first; none where it changed nothing.
        kept: whether what came after it saw its changes; False for an attempt that was tried again.
    """

    task_id: str
    task_run_id: str
    attempt: int
    state: str
    ended_at: Instant
    layers: tuple[str, ...] = ()
    kept: bool = True


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the directory of a task run was made of.

    Attributes:
        task_run_id: of the WorkingDirectory, or of a task alone.
        path: where the directory was, for whoever worked in it.
        cache: layers that came from a cache, the lowest first.
        entry: the cache's entry they came from; None for none.
        inputs: layers with namespace and input files.
        taken: those of the layers that a cache has too, or had: nothing is moved out of them any more.
        steps: what ran in it, in order.
    """

    execution_id: str
    task_run_id: str
    task_id: str
    namespace: str
    flow_id: str
    path: str
    made_at: Instant
    cache: tuple[str, ...] = ()
    entry: CacheEntry | None = None
    inputs: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def base(self) -> tuple[str, ...]:
        """The layers that the first step found."""
        return (*self.cache, *self.inputs)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of all."""
        return (*self.base, *(layer for step in self.steps for layer in step.layers))

    def before(self, place: int) -> tuple[str, ...]:
        """The layers that the step at *place* found, the lowest first; those at the end for one past the last."""
        return (*self.base, *(layer for step in self.steps[:place] if step.kept for layer in step.layers))

    def after(self, place: int) -> tuple[str, ...]:
        """The layers that the step at *place* left, the lowest first, also where they were not kept for the next."""
        return (*self.before(place), *self.steps[place].layers)

    def place_of(self, task_id: str) -> int | None:
        """The place of a task's last attempt; None where it did not run."""
        return next((place for place in reversed(range(len(self.steps))) if self.steps[place].task_id == task_id), None)


class Snapshots:
    """The snapshots of this machine.

    Args:
        layers: keeps their layers.
        store: has a snapshot stored for other machines too, soon; None keeps them here alone.
        fetch: brings what another machine has stored of a job; None where nothing is stored.
    """

    def __init__(
        self,
        layers: LayerStore,
        store: Callable[[Snapshot], object] | None = None,
        fetch: Callable[[WorkerJob], Snapshot | None] | None = None,
    ) -> None:
        self._layers = layers
        self._store = store
        self._fetch = fetch
        self._notes = layers.pool.runs

    def put(self, snapshot: Snapshot, *, is_final: bool = True) -> None:
        """Keep a snapshot, in place of an earlier one of the same task run.

        Args:
            snapshot: to be kept.
            is_final: False where files are just being moved from one of its layers to another.
        """
        body = msgspec.Raw(msgspec.json.encode(snapshot))
        self._notes.put(_name(snapshot.execution_id, snapshot.task_run_id), Note(snapshot.layers, body, this_boot()))
        if self._store is not None and snapshot.steps and is_final:
            self._store(snapshot)

    def of_job(self, job: WorkerJob) -> Snapshot | None:
        """The snapshot of a job's earlier dispatch, from another machine where this one has none; None for none.

        Raises:
            LayerError: what another machine has stored cannot be brought here.
        """
        found = self.find(job.execution_id, job.task_run_id)
        return self._fetch(job) if found is None and self._fetch is not None else found

    def find(self, execution_id: str, task_run_id: str) -> Snapshot | None:
        """The snapshot of a task run, all of whose layers are here; None where there is none any more."""
        note = self._notes.get(_name(execution_id, task_run_id))
        return None if note is None else self._read(note)

    def of_execution(self, execution_id: str) -> list[Snapshot]:
        """The snapshots of an execution, the first made first."""
        found = [one for name in self._names(execution_id) if (one := self._at(name)) is not None]
        return sorted(found, key=lambda one: one.made_at)

    def forget(self, execution_id: str) -> None:
        """Remove the snapshots of an execution; their layers go with the pool's next `sweep`."""
        for name in self._names(execution_id):
            self._notes.remove(name)

    def _names(self, execution_id: str) -> Iterator[str]:
        return (name for name in self._notes.names() if name.partition(".")[0] == execution_id)

    def _at(self, name: str) -> Snapshot | None:
        note = self._notes.get(name)
        return None if note is None else self._read(note)

    def _read(self, note: Note) -> Snapshot | None:
        # What was written shortly before the system went down may not have reached the disk whole.
        if note.boot != this_boot() or not all(self._layers.pool.has(layer) for layer in note.layers):
            return None
        try:
            return msgspec.json.decode(note.body, type=Snapshot)
        except msgspec.DecodeError:
            return None

    def evict(self, *, older_than_s: float, limit_bytes: int, now_s: float) -> int:
        """Let go of old snapshots, and of the oldest ones until all have at most so many bytes; how many went.

        Layers that a cache has too do not count. They all go with the pool's next `sweep`.
        """
        pool, gone = self._layers.pool, 0
        cached = {
            layer
            for name in pool.entries.names()
            if (note := pool.entries.get(name)) is not None
            for layer in note.layers
        }
        kept: list[tuple[str, int]] = []
        for name in self._notes.names():
            if now_s - self._notes.used_at(name) > older_than_s:
                gone += self._notes.remove(name)
                continue
            note = self._notes.get(name)
            layers: Sequence[str] = () if note is None else note.layers
            kept.append((name, sum(pool.bytes(layer) for layer in layers if layer not in cached and pool.has(layer))))
        total = sum(size for _, size in kept)
        for name, size in kept:
            if total <= limit_bytes:
                break
            gone += self._notes.remove(name)
            total -= size
        return gone


def _name(execution_id: str, task_run_id: str) -> str:
    return f"{execution_id}.{task_run_id}"
