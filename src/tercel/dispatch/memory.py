"""Embedded: a queue per worker group in the process itself.

What it holds dies with the process, and is found again in the rows by the next one that opens the home.
"""

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic

from tercel.dispatch import Handler, JobRef, job_ref
from tercel.model.jobs import WorkerJob
from tercel.store import Transaction


class MemoryDispatcher:
    """A `Dispatcher` without a place of its own. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._queues: dict[str, deque[JobRef]] = {}
        self._waiting: dict[JobRef, tuple[WorkerJob, float]] = {}  # and since when
        self._picked: dict[JobRef, _Lease] = {}
        self._consumers: list[_Consumer] = []

    async def enqueue(self, tx: Transaction, jobs: Sequence[WorkerJob]) -> None:
        """Queue jobs; consumers see them once *tx* is committed."""
        if jobs:
            tx.after_commit(lambda: self._add(jobs))

    def _add(self, jobs: Sequence[WorkerJob]) -> None:
        now = monotonic()
        with self._lock:
            for job in jobs:
                ref = job_ref(job)
                if ref in self._picked:
                    continue
                if ref not in self._waiting:
                    self._queues.setdefault(job.group, deque()).append(ref)
                self._waiting[ref] = job, now
        self._deliver()

    def cancel(self, jobs: Sequence[JobRef]) -> list[JobRef]:
        """Take jobs back; gives those that were still queued."""
        unpicked: list[JobRef] = []
        told: list[_Lease] = []
        with self._lock:
            for ref in jobs:
                if self._waiting.pop(ref, None) is not None:
                    unpicked.append(ref)  # its place in the queue is passed over when its turn comes
                elif (lease := self._picked.get(ref)) is not None:
                    lease.is_cancelled = True
                    if lease.is_handed:
                        told.append(lease)
        for lease in told:
            lease.consumer.canceller(lease.ref)
        return unpicked

    def consume(
        self, groups: Sequence[str] | None, slots: int, handler: Handler, canceller: Callable[[JobRef], object]
    ) -> Callable[[], None]:
        """Bring jobs to *handler*, in the thread that queues a job or frees a slot; gives a way to end it."""
        consumer = _Consumer(None if groups is None else frozenset(groups), slots, handler, canceller)
        with self._lock:
            self._consumers.append(consumer)
        self._deliver()
        return lambda: self._leave(consumer)

    def _leave(self, consumer: "_Consumer") -> None:
        with self._lock:
            if consumer not in self._consumers:
                return
            self._consumers.remove(consumer)
            for ref, lease in list(self._picked.items()):
                if lease.consumer is consumer:
                    del self._picked[ref]
                    if lease.holds_slot:
                        self._waiting[ref] = lease.job, monotonic()
                        self._queues.setdefault(lease.job.group, deque()).appendleft(ref)
        self._deliver()

    def waiting(self) -> tuple[int, float]:
        """How many jobs wait for a consumer of any group, and for how many seconds the first of them has waited."""
        with self._lock:
            oldest = next(iter(self._waiting.values()), None)
            return len(self._waiting), 0.0 if oldest is None else monotonic() - oldest[1]

    def depth(self, group: str) -> int:
        """How many jobs wait for a consumer of *group*."""
        with self._lock:
            return sum(1 for ref in self._queues.get(group, ()) if ref in self._waiting)

    def _deliver(self) -> None:
        """Bring waiting jobs to free slots."""
        while True:
            with self._lock:
                lease = self._pick()
            if lease is None:
                return
            lease.consumer.handler(lease.job, lease)
            with self._lock:
                lease.is_handed = True
            if lease.is_cancelled:  # while it was on its way
                lease.consumer.canceller(lease.ref)

    def _pick(self) -> "_Lease | None":
        if not self._waiting:
            return None
        for consumer in self._consumers:
            if consumer.free_slots <= 0:
                continue
            for group in self._queues if consumer.groups is None else consumer.groups:
                queue = self._queues.get(group)
                while queue:
                    ref = queue.popleft()
                    waiting = self._waiting.pop(ref, None)
                    if waiting is not None:
                        consumer.free_slots -= 1
                        lease = self._picked[ref] = _Lease(self, consumer, waiting[0], ref)
                        return lease
        return None

    def release(self, lease: "_Lease", *, is_done: bool) -> None:
        """Give a lease's slot back, and forget its job where *is_done*."""
        with self._lock:
            had_slot, lease.holds_slot = lease.holds_slot, False
            lease.consumer.free_slots += had_slot
            if is_done and self._picked.get(lease.ref) is lease:
                del self._picked[lease.ref]
        if had_slot:
            self._deliver()


class _Consumer:
    __slots__ = ("canceller", "free_slots", "groups", "handler")

    def __init__(
        self, groups: frozenset[str] | None, slots: int, handler: Handler, canceller: Callable[[JobRef], object]
    ) -> None:
        self.groups = groups
        self.free_slots = slots
        self.handler = handler
        self.canceller = canceller


class _Lease:
    __slots__ = ("_dispatcher", "consumer", "holds_slot", "is_cancelled", "is_handed", "job", "ref")

    def __init__(self, dispatcher: MemoryDispatcher, consumer: _Consumer, job: WorkerJob, ref: JobRef) -> None:
        self._dispatcher = dispatcher
        self.consumer = consumer
        self.job = job
        self.ref = ref
        self.holds_slot = True
        self.is_handed = False
        self.is_cancelled = False

    def free(self) -> None:
        """The job's slot is free again."""
        self._dispatcher.release(self, is_done=False)

    def acknowledge(self) -> None:
        """The job's result is committed."""
        self._dispatcher.release(self, is_done=True)
