"""Evaluations of polling triggers that this process has under way, and the results that wait to be written."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from tercel.model.jobs import TriggerJob, TriggerResult
from tercel.model.trigger import Trigger
from tercel.scheduler.plan import evaluation_of
from tercel.store import TriggerKey, TriggerState


class EvaluatesTriggers(Protocol):
    """Evaluates polling triggers, in threads of its own; of the worker's side."""

    @property
    def room(self) -> int:
        """How many more evaluations can begin."""
        ...

    def serves(self, trigger: Trigger) -> bool:
        """Say whether the trigger's worker group is one of those that this process serves."""
        ...

    def start(self, job: TriggerJob, done: Callable[[TriggerResult], object]) -> None:
        """Begin an evaluation; *done* gets its result, in whatever thread."""
        ...

    def run(self, job: TriggerJob) -> TriggerResult:
        """Evaluate in the calling thread; never raises."""
        ...

    def stop(self, execution_id: str) -> None:
        """End the evaluation that was to start this execution; nothing where there is none."""
        ...

    def discard(self, job: TriggerJob) -> None:
        """Remove the files of an evaluation whose execution was not started."""
        ...


class Ended(NamedTuple):
    """An evaluation that has ended."""

    job: TriggerJob
    result: TriggerResult


class Evaluations:
    """What this process evaluates. All is for the scheduler's thread but what *runner* calls back.

    Args:
        runner: does it; None where this process evaluates nothing.
        process_id: the owner of these evaluations.
        ring: is called when one has ended.
    """

    def __init__(self, runner: EvaluatesTriggers | None, process_id: str, ring: Callable[[], object]) -> None:
        self._runner = runner
        self._process_id = process_id
        self._ring = ring
        self._running: dict[TriggerKey, TriggerJob] = {}
        self._ended: deque[Ended] = deque()
        self._abandoned: frozenset[str] = frozenset()
        self.held_until: datetime | None = None
        """Before that results are not taken, as they could not be written; None where they could."""

    @property
    def room(self) -> int:
        """How many more can begin."""
        return 0 if self._runner is None else self._runner.room

    def can_begin(self, key: TriggerKey, trigger: Trigger) -> bool:
        """Say whether this process may evaluate a trigger, and does not do so yet."""
        return self._runner is not None and key not in self._running and self._runner.serves(trigger)

    def begin(self, job: TriggerJob) -> None:
        """Begin an evaluation for which the trigger is locked."""
        assert self._runner is not None
        self._running[job.key] = job

        def done(result: TriggerResult) -> None:
            self._ended.append(Ended(job, result))
            self._ring()

        self._runner.start(job, done)

    def try_out(self, job: TriggerJob) -> TriggerResult:
        """Evaluate in this thread, for people to see what comes of it."""
        assert self._runner is not None
        return self._runner.run(job)

    def stop_lost(self, state_of: Callable[[TriggerKey], TriggerState | None]) -> None:
        """End those whose triggers are not locked for them any more."""
        for key, job in self._running.items():
            if not is_locked_for(state_of(key), job):
                assert self._runner is not None
                self._runner.stop(job.execution_id)

    # Results

    def next_ended(self, now: datetime) -> Ended | None:
        """The evaluation that has ended first, as long as it is not forgotten; None where none has, or they wait."""
        if self.held_until is not None and now < self.held_until:
            return None
        self.held_until = None
        return self._ended[0] if self._ended else None

    def forget(self, ended: Ended) -> None:
        """Its result is written, or of no use any more; it is the one that `next_ended` gave."""
        self._ended.popleft()
        self._running.pop(ended.job.key, None)

    def refuse(self, ended: Ended, problem: str) -> None:
        """Have it count as failed; it is the one that `next_ended` gave, and will be given again."""
        result = ended.result
        self._ended[0] = Ended(ended.job, TriggerResult(problem=problem, has_files=result.has_files))

    def discard(self, ended: Ended) -> None:
        """Remove the files that it has saved."""
        if ended.result.has_files and self._runner is not None:
            self._runner.discard(ended.job)

    def due_at(self) -> datetime | None:
        """When results that wait are to be taken; None where none waits."""
        return self.held_until if self._ended else None

    # Those of others

    def owners(self, states: Iterable[TriggerState]) -> dict[str, str]:
        """The executions that other processes evaluate triggers for, each with its process; and what was lost here."""
        mine = {job.execution_id for job in self._running.values()}
        found = [evaluation for evaluation in map(evaluation_of, states) if evaluation is not None]
        return {one.execution_id: one.owner for one in found if one.execution_id not in mine}

    def note_dead(self, owners: Mapping[str, str], dead: Iterable[str]) -> None:
        """Take note of the processes that are dead: what they evaluated may be taken over."""
        gone = {*dead, self._process_id}
        self._abandoned = frozenset(execution_id for execution_id, owner in owners.items() if owner in gone)

    def is_abandoned(self, state: TriggerState) -> bool:
        """Say whether a trigger is locked for an evaluation that nobody works at."""
        evaluation = evaluation_of(state)
        return evaluation is not None and evaluation.execution_id in self._abandoned


def is_locked_for(state: TriggerState | None, job: TriggerJob) -> bool:
    """Say whether a trigger is locked for this evaluation."""
    evaluation = None if state is None else evaluation_of(state)
    return evaluation is not None and evaluation.execution_id == job.execution_id
