"""Jobs on their way to workers: the port that every queue offers, and how a job is named.

Implementations: `memory.py`, in the process itself.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from tercel.model.jobs import WorkerJob
from tercel.store import Transaction

__all__ = ["Dispatcher", "Handler", "JobRef", "Lease", "job_ref"]


class JobRef(msgspec.Struct, frozen=True):
    """Names one dispatch of one task run."""

    execution_id: str
    task_run_id: str
    fence: int


def job_ref(job: WorkerJob) -> JobRef:
    """The name of a job."""
    return JobRef(job.execution_id, job.task_run_id, job.fence)


class Lease(Protocol):
    """A consumer's right to a job."""

    def free(self) -> None:
        """The job's slot is free again: the next job may come."""
        ...

    def acknowledge(self) -> None:
        """The job's result is committed: it need never be brought again. Frees the slot too."""
        ...


Handler = Callable[[WorkerJob, Lease], object]
"""Takes a job over and returns at once; the lease is used later, from any thread."""


class Dispatcher(Protocol):
    """Brings jobs to consumers, each at least once. One conformance suite for every implementation."""

    async def enqueue(self, tx: Transaction, jobs: Sequence[WorkerJob]) -> None:
        """Queue jobs, each for the worker group it names; consumers see them once *tx* is committed."""
        ...

    def cancel(self, jobs: Sequence[JobRef]) -> list[JobRef]:
        """Take jobs back: those that no consumer had picked are gone and given back, of the others consumers are told.

        Jobs that are neither queued nor picked are ignored.
        """
        ...

    def consume(
        self, groups: Sequence[str] | None, slots: int, handler: Handler, canceller: Callable[[JobRef], object]
    ) -> Callable[[], None]:
        """Bring jobs of *groups* (all of them where None), at most *slots* at a time, to *handler*.

        Args:
            groups: keys of worker groups; "" is the default one.
            slots: jobs whose slot is not free again, at least 1.
            handler: gets each job once, from any thread.
            canceller: called when a job that the handler has is cancelled.

        Returns:
            Ends it: no further job comes. Jobs that are neither free nor acknowledged go back into the queue.
        """
        ...

    def depth(self, group: str) -> int:
        """How many jobs wait for a consumer of *group*."""
        ...

    def waiting(self) -> tuple[int, float]:
        """How many jobs wait for a consumer of any group, and for how many seconds the first of them has waited."""
        ...
