"""The memory of one process: the real executor and dispatcher, turned by hand, and a worker that the world plays."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tercel.dispatch import JobRef, Lease, job_ref
from tercel.dispatch.memory import MemoryDispatcher
from tercel.executor import Executor, FindFlow, PlanRequests, RunInline, StartChild
from tercel.executor.work import React
from tercel.inbox import Letter
from tercel.machine import Change
from tercel.machine.messages import Event, ExecutionTimerDue, TimerDue
from tercel.model.execution import Execution, TaskRun
from tercel.model.jobs import WorkerJob
from tercel.model.state import State
from tercel.store import Changes, Promise, Store
from tests.simulation_stores.faults import FaultyDispatcher, FaultyStore, Gate


class HandDriven(Executor):
    """The executor without its thread: `turn` does what the thread does between two waits.

    Attributes:
        refused: executions of which nothing was written in the latest turn, and why.
    """

    refused: dict[str, BaseException] = {}
    _letters: list[Letter] = []

    def _start(self) -> None:
        pass

    @property
    def has_work(self) -> bool:
        """True where a turn would do something."""
        inbox = self._inbox
        now = inbox._clock()
        is_due = any(heap and heap[0][0] <= now for heap in (inbox._timers, inbox._later))
        return bool(self._inline or inbox._letters or is_due)

    @property
    def looks_at(self) -> datetime | None:
        """When it looks again by itself at what may have changed elsewhere; None where it has no reason to."""
        later = self._inbox._later
        return later[0][0] if later else None

    @property
    def failure(self) -> BaseException | None:
        return self._failure

    def is_wanted(self, job: WorkerJob) -> bool:
        """True where the machine still waits for this job and wants no end of it."""
        _, live, _ = self._live[job.execution_id]
        row = live.runs.get(job.task_run_id)
        return row is not None and row.fence == job.fence and row.state in (State.CREATED, State.RESTARTED)

    def turn(self) -> list[Letter]:
        """One batch; gives its letters."""
        self.refused = {}
        self._letters = []
        self._turn()
        return self._letters

    async def _apply(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            is_timer = letter.promise is None and isinstance(letter.event, TimerDue | ExecutionTimerDue)
            if is_timer:  # one after the other, for the oracle's sake
                letter.event = replace(letter.event, now=self._clock())
        self._letters = list(letters)
        await super()._apply(letters)

    def _follow(self, batch: Any) -> None:
        self.refused = dict(batch.errors)
        super()._follow(batch)


class Job:
    """A job in the hands of a worker.

    Args:
        has_folder: the worker still has the directory of a WorkingDirectory as the last one left it.
    """

    def __init__(self, job: WorkerJob, lease: Lease, *, has_folder: bool) -> None:
        self.job = job
        self.lease = lease
        self.has_folder = has_folder
        self.kept = {child.task_id: child for child in job.children}
        self.has_begun = False
        self.is_cancelled = False
        self.children: list[TaskRun] = []


class Process:
    """One process.

    Args:
        gate: passed at every point of the store and the dispatcher.
        committed: told after each commit what was written.
        taken: told of each job that the worker takes.

    Attributes:
        decided: what the machine was asked since the last commit, per execution: its row before, the event, the change.
        waits: promises of the ends of executions.
    """

    def __init__(
        self,
        owner: str,
        store: Store,
        *,
        gate: Gate,
        committed: Callable[[list[Changes]], None],
        find_flow: FindFlow,
        run_inline: RunInline,
        plan: PlanRequests,
        start_child: StartChild,
        react: React,
        clock: Callable[[], datetime],
        slots: int,
        most_live: int,
        keeps_folder: Callable[[], bool],
        taken: Callable[[WorkerJob], None],
    ) -> None:
        self.owner = owner
        self.store = store
        self.dispatcher = MemoryDispatcher()
        self.executor = HandDriven(
            store=FaultyStore(store, gate, committed),
            dispatcher=FaultyDispatcher(self.dispatcher, gate),
            find_flow=find_flow,
            run_inline=run_inline,
            plan=plan,
            start_child=start_child,
            react=react,
            clock=clock,
            most_live=most_live,
        )
        self.hands: list[Job] = []
        self.decided: dict[str, list[tuple[Execution, Event, Change]]] = {}
        self.waits: dict[str, Promise[Execution]] = {}
        self.is_dead = False
        self._keeps_folder = keeps_folder
        self._taken = taken
        self.dispatcher.consume(None, slots, self._take, self._cancel)

    def _take(self, job: WorkerJob, lease: Lease) -> None:
        self._taken(job)
        self.hands.append(Job(job, lease, has_folder=self._keeps_folder()))

    def _cancel(self, ref: JobRef) -> None:
        for held in self.hands:
            if job_ref(held.job) == ref:
                held.is_cancelled = True

    def die(self) -> None:
        """What was in memory is gone."""
        self.is_dead = True
        self.store.close()
