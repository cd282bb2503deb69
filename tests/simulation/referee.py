"""Judges every event on its own account: was it still good, and what may it have led to?

Keeps its own books of dispatches, starts, losses and outcomes, from events and commands alone, and never looks at how
the machine came to its rows. What it accepts is what the oracle reckons with.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec

from tercel.machine import Change
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    EndExecution,
    Event,
    ExecutionCreated,
    KillRequested,
    RestartRequested,
    RunTask,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WorkerLost,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.model.working_directory import DirectoryTask
from tests.simulation.restarts import BAD, Plan, Reckoner

ENDED = {State.SUCCESS, State.WARNING, State.FAILED, State.KILLED, State.SKIPPED}

# Written from the specification, not taken from the table of the model.
AFTER: dict[State, set[State]] = {
    State.CREATED: {
        State.RUNNING,
        State.KILLING,
        State.KILLED,
        State.SKIPPED,
        State.FAILED,
        State.WARNING,
        State.SUCCESS,
    },
    State.RUNNING: {State.RETRYING, State.KILLING, State.CREATED} | ENDED - {State.SKIPPED},
    State.RETRYING: {State.CREATED, State.RUNNING, State.KILLING, State.KILLED},
    State.KILLING: ENDED - {State.SKIPPED},
    State.RESTARTED: {State.RUNNING, State.KILLING} | ENDED - {State.SKIPPED},
    **{state: {State.RESTARTED} for state in ENDED},
}


class ViolationError(AssertionError):
    """The machine did what it must not."""


def demand(condition: object, sentence: str) -> None:
    """Fail with *sentence* unless *condition* holds."""
    if not condition:
        raise ViolationError(sentence)


class Seat(msgspec.Struct):
    """What the referee knows of one leaf task run."""

    task: Task
    retry: Retry | None
    fence: int = 0
    phase: str = "over"
    is_cancelled: bool = False
    outcomes: list[tuple[State, bool, datetime]] = []
    losses: int = 0
    began: datetime | None = None
    first_began: datetime | None = None
    retry_at: datetime | None = None
    child_lengths: dict[str, int] = {}
    past_fails: int = 0
    is_past: bool = False

    def restart(self) -> None:
        """All its tries are given again."""
        self.past_fails += self.fails()
        self.outcomes = []
        self.losses = 0
        self.first_began = None
        self.is_cancelled = self.is_past = False

    def fails(self) -> int:
        return sum(1 for state, _, _ in self.outcomes if state is State.FAILED)


class Referee:
    """The books of one execution."""

    def __init__(self, flow: Flow, reckoner: Reckoner) -> None:
        self.reckoner = reckoner
        self.attempt = 1
        self.from_scratch = False
        self.later: set[str] = set()
        self.last_fence: dict[str, int] = {}
        self.seats: dict[str, Seat] = {}
        self.created = False
        self.kill_at: datetime | None = None
        self.ended: State | None = None
        self.timed_out: dict[str, datetime] = {}
        self.accepted = 0
        self.already_cancelled: set[str] = set()
        self.retries = _policies(flow)

    # Before: is the event still good?

    def is_good(self, event: Event, runs: dict[str, TaskRun]) -> bool:
        """True where the event has to change something, False where it must change nothing."""
        if isinstance(event, RestartRequested):
            has_failed = any(run.state in BAD for run in runs.values())
            is_bad = self.ended in BAD or (self.ended is State.WARNING and has_failed)
            return is_bad and event.attempt == self.attempt
        if self.ended is not None:
            return False
        match event:
            case ExecutionCreated():
                return not self.created
            case KillRequested():
                return self.kill_at is None
            case TimerDue():
                return self._is_timer_good(event, runs)
            case TaskRunStarted() | TaskRunFinished() | WorkerLost() | ChildChanged():
                seat = self.seats.get(event.run_id)
                if seat is None or seat.fence != event.fence or seat.phase == "over":
                    return False
                if isinstance(event, TaskRunStarted):
                    return seat.phase == "queued" and not seat.is_cancelled
                if isinstance(event, ChildChanged):
                    known = runs[event.child.id].history if event.child.id in runs else ()
                    return len(event.child.history) > len(known) and event.child.history[: len(known)] == known
                return True
            case _:
                raise AssertionError(event)

    def _is_timer_good(self, event: TimerDue, runs: dict[str, TaskRun]) -> bool:
        seat = self.seats.get(event.run_id)
        if seat is None:
            run = runs.get(event.run_id)
            is_flowable = run is not None and run.fence == event.fence and run.state is State.RUNNING
            return bool(is_flowable and run and run.due is not None and run.due <= event.now)
        if seat.fence != event.fence or seat.is_cancelled:
            return False
        if seat.retry_at is not None:
            return event.now >= seat.retry_at
        limit = self._deadline(seat)
        return seat.phase == "running" and limit is not None and event.now >= limit

    def _deadline(self, seat: Seat) -> datetime | None:
        if seat.task.timeout is None or seat.began is None:
            return None
        minutes = {"PT1M": 1, "PT5M": 5}[seat.task.timeout]
        grace = timedelta(minutes=10) if isinstance(seat.task, DirectoryTask) else timedelta(seconds=30)
        return seat.began + timedelta(minutes=minutes) + grace

    # After: did it lead to what it may?

    def judge(self, event: Event, change: Change, before: dict[str, TaskRun], header: Execution, *, good: bool) -> None:
        """Check a change against the books, and keep them."""
        if not good:
            demand(change.is_empty, f"{_name(event)} was out of date, yet it changed something.")
            return
        demand(not change.is_empty, f"{_name(event)} was good, yet it changed nothing.")
        self.accepted += 1
        plan = self._plan(event, change, before)
        wants_dispatch = self._book(event, before)
        self._rows(event, change, before, header, plan)
        self._commands(event, change, wants_dispatch)
        dispatched = {command.run_id for command in change.commands if isinstance(command, RunTask)}
        demand(plan.again & self.seats.keys() <= dispatched, "What was restarted was not dispatched.")
        self._note_children(change, before, dispatched)

    def _plan(self, event: Event, change: Change, before: dict[str, TaskRun]) -> Plan:
        """What has to be restarted and dropped in this step, seats told."""
        plan = Plan(set(), set(), set())
        if isinstance(event, RestartRequested):
            self.from_scratch = event.from_scratch
            plan = self.reckoner.restart(before, self.ended or State.KILLED, from_scratch=event.from_scratch)
            for seat in self.seats.values():
                seat.is_past = True
            self.later = plan.later
        elif isinstance(event, TimerDue) and event.run_id in self.seats and self.seats[event.run_id].retry_at:
            plan.dropped.update(run.id for run in before.values() if run.parent_id == event.run_id)
        elif isinstance(event, WorkerLost):
            seat = self.seats[event.run_id]
            if not seat.is_cancelled and (seat.phase == "queued" or seat.losses < 2):
                plan.dropped.update(self.reckoner.loss(before[event.run_id], before))
        for run in change.runs:
            if run.id in self.later and run.history != before[run.id].history:
                turn = self.reckoner.turn(before[run.id], before, from_scratch=self.from_scratch)
                self.later = (self.later - {run.id}) | turn.later
                plan.again.update(turn.again)
                plan.dropped.update(turn.dropped)
        for run_id in plan.dropped:
            self.seats.pop(run_id, None)
        for run_id in plan.again | plan.dropped:
            self.timed_out.pop(run_id, None)
            if run_id in self.seats:
                self.seats[run_id].restart()
        return plan

    def _note_children(self, change: Change, before: dict[str, TaskRun], dispatched: set[str]) -> None:
        """The children that a job of a WorkingDirectory starts with."""
        for run_id in dispatched:
            rows = {**before, **{run.id: run for run in change.runs}}
            kept = (row for row in rows.values() if row.parent_id == run_id and row.id not in change.removed)
            self.seats[run_id].child_lengths = {row.id: len(row.history) for row in kept}

    def _book(self, event: Event, before: dict[str, TaskRun]) -> str | None:
        """Keep the books; the id of the task run that has to be dispatched now, if one has to."""
        match event:
            case ExecutionCreated():
                self.created = True
            case KillRequested():
                self.kill_at = event.now
                self.already_cancelled = {run_id for run_id, seat in self.seats.items() if seat.is_cancelled}
                for seat in self.seats.values():
                    self._cancel(seat, event.now)
            case TaskRunStarted():
                seat = self.seats[event.run_id]
                seat.phase = "running"
                seat.began = event.now
                seat.first_began = seat.first_began or event.now
            case TaskRunFinished():
                seat = self.seats[event.run_id]
                seat.first_began = seat.first_began or event.result.started_at
                self._outcome(
                    event.run_id, event.result.state, event.result.retryable, event.now, event.result.ended_at
                )
            case RestartRequested():
                self.created = True
                self.attempt += 1
                self.ended = self.kill_at = None
                self.already_cancelled = set()
            case WorkerLost():
                return self._lost(event)
            case ChildChanged():
                self.seats[event.run_id].child_lengths[event.child.id] = len(event.child.history)
            case TimerDue():
                seat = self.seats.get(event.run_id)
                if seat is None:
                    return None
                if seat.retry_at is not None:
                    return event.run_id
                self._outcome(event.run_id, State.FAILED, True, event.now, event.now)
            case _:
                raise AssertionError(event)
        return None

    def _lost(self, event: WorkerLost) -> str | None:
        seat = self.seats[event.run_id]
        if seat.is_cancelled:
            self._outcome(event.run_id, State.KILLED, False, event.now, event.now)
            return None
        if seat.phase == "running":
            seat.losses += 1
            if seat.losses == 3:
                self._outcome(event.run_id, State.FAILED, False, event.now, event.now)
                return None
            if len(seat.outcomes) == 0:
                seat.first_began = None
        return event.run_id

    def _outcome(self, run_id: str, state: State, retryable: bool, now: datetime, ended_at: datetime) -> None:
        seat = self.seats[run_id]
        seat.phase = "over"
        seat.outcomes.append((state, retryable, now))
        if state is State.FAILED and retryable and not seat.is_cancelled:
            at = self._next_at(seat, run_id, now, min(max(ended_at, seat.began or ended_at), now))
            seat.retry_at = at

    def _next_at(self, seat: Seat, run_id: str, now: datetime, ended_at: datetime) -> datetime | None:
        """When the next attempt has to be made; the earliest possible instant for a random wait."""
        retry = seat.retry
        fails = seat.fails()
        if retry is None or fails >= (retry.max_attempts or 0):
            return None
        seconds = {"constant": 20.0, "exponential": min(20.0 * 2.0 ** (fails - 1), 60.0), "random": 10.0}[retry.type]
        at = max(now, ended_at + timedelta(seconds=seconds))
        if retry.max_duration is not None:
            if retry.type == "random":
                return None if seat.first_began is None else at  # decided by the row, see `_rows`
            demand(seat.first_began, "An attempt ended that never began.")
            if seat.first_began is not None and at > seat.first_began + retry.max_duration:
                return None
        return at

    def _cancel(self, seat: Seat, now: datetime) -> None:
        if seat.retry_at is not None:
            seat.retry_at = None
            seat.outcomes.append((State.KILLED, False, now))
        if seat.phase != "over":
            seat.is_cancelled = True

    def _rows(self, event: Event, change: Change, before: dict[str, TaskRun], header: Execution, plan: Plan) -> None:
        if change.execution is not None:
            _grew(header.history, change.execution.history, "the execution")
            demand(change.execution.version == header.version + 1, "The version did not grow by one.")
        removed = set(change.removed)
        demand(removed == plan.dropped, f"{len(removed)} rows were deleted, not {len(plan.dropped)}.")
        ids = [run.id for run in change.runs]
        demand(len(set(ids)) == len(ids), "A row is in the change twice.")
        demand(plan.again <= set(ids), "What had to be restarted was not.")
        for run in change.runs:
            old = before.get(run.id)
            if old is None or run.id in removed:
                _grew((), run.history, run.task_id)
                continue
            _grew(old.history, run.history, run.task_id)
            demand(run.fence >= old.fence, "A fence shrank.")
            is_again = run.id in plan.again
            demand(run.lost == 0 if is_again else run.lost >= old.lost, "Losses were forgotten, or were not.")
            if run.state in ENDED:
                demand(run.due is None, "A row that ended has a timer.")
            limit = self.reckoner.limit(run) if is_again and run.state is State.RUNNING else None
            demand(limit is None or run.due == event.now + limit, f"{run.task_id} has no timer of its own.")
            restarts = sum(change.state is State.RESTARTED for change in run.history[len(old.history) :])
            is_childs = isinstance(event, ChildChanged) and run.id == event.child.id
            demand(is_childs or restarts == is_again, f"{run.task_id} was restarted {restarts} times.")
            demand(is_childs or is_again or old.state not in ENDED, f"{run.task_id} changed after its end.")
            demand(run.attempts[: len(old.attempts) - 1] == old.attempts[:-1], "An attempt was forgotten.")
        for run in change.runs:
            seat = self.seats.get(run.id)
            if seat is not None and seat.retry is not None and seat.retry.type == "random":
                self._random_retry(seat, run)
            if seat is not None and run.state is State.RETRYING:
                demand(run.due == seat.retry_at, f"{run.task_id} is tried again at {run.due}, not {seat.retry_at}.")

    def _random_retry(self, seat: Seat, run: TaskRun) -> None:
        """A random wait is only known from the row: take it over if it lies where it may."""
        if seat.retry_at is None:
            return
        retry = seat.retry
        demand(retry is not None, "no policy")
        limit = (
            None
            if retry is None or retry.max_duration is None or seat.first_began is None
            else (seat.first_began + retry.max_duration)
        )
        if run.state is State.RETRYING:
            demand(run.due is not None and run.due >= seat.retry_at, "A random wait is shorter than its minimum.")
            latest = seat.retry_at + timedelta(seconds=50)
            demand(run.due is not None and run.due < latest, "A random wait is longer than its maximum.")
            demand(limit is None or (run.due is not None and run.due <= limit), "A retry lies after `maxDuration`.")
            seat.retry_at = run.due
        elif limit is not None and run.state is not State.KILLED:
            seat.retry_at = None

    def _commands(self, event: Event, change: Change, wants_dispatch: str | None) -> None:
        dispatched: list[str] = []
        cancelled = {command.run_id for command in change.commands if isinstance(command, CancelTask)}
        if isinstance(event, KillRequested):
            open_seats = {run_id for run_id, seat in self.seats.items() if seat.phase != "over"}
            demand(open_seats <= cancelled | self.already_cancelled, "A kill did not cancel every job.")
        for command in change.commands:
            match command:
                case RunTask():
                    self._dispatched(command)
                    dispatched.append(command.run_id)
                case CancelTask():
                    seat = self.seats[command.run_id]
                    demand(seat.fence == command.fence, "A job of another fence is cancelled.")
                    is_own = isinstance(event, TimerDue) and event.run_id == command.run_id
                    if not is_own and seat.retry_at is None and seat.phase != "over":
                        seat.is_cancelled = True
                case EndExecution():
                    demand(self.ended is None, "The execution ended twice.")
                    self.ended = command.state
                case _:
                    pass
        demand(len(dispatched) == len(set(dispatched)), "A task run was dispatched twice in one step.")
        demand(wants_dispatch is None or wants_dispatch in dispatched, f"{_name(event)} led to no new dispatch.")
        if isinstance(event, KillRequested) or (self.kill_at is not None):
            demand(not dispatched, "A task was dispatched after the kill.")
        for run in change.runs:
            seat = self.seats.get(run.id)
            if seat is None and isinstance(event, TimerDue) and run.id == event.run_id and run.message:
                self.timed_out[run.id] = event.now
            if seat is not None and run.state is State.KILLED and seat.retry_at is not None:
                seat.retry_at = None
                seat.outcomes.append((State.KILLED, False, event.now))

    def _dispatched(self, command: RunTask) -> None:
        seat = self.seats.get(command.run_id)
        if seat is None:
            seat = self.seats[command.run_id] = Seat(task=command.task, retry=self.retries[command.task.id])
        else:
            demand(not seat.is_cancelled, "A cancelled task was dispatched again.")
            demand(command.fence == seat.fence + 1, "A dispatch did not take the next fence.")
        demand(command.fence > self.last_fence.get(command.run_id, 0), "A fence was given out twice.")
        self.last_fence[command.run_id] = command.fence
        seat.fence = command.fence
        seat.phase = "queued"
        seat.began = None
        seat.retry_at = None

    def waits_for(self) -> bool:
        """True where something is under way that can move the execution."""
        return any(seat.phase != "over" or seat.retry_at is not None for seat in self.seats.values())


def _name(event: Event) -> str:
    return f"{type(event).__name__} of {getattr(event, 'run_id', 'the execution')}"


def _grew(old: Any, new: Any, what: str) -> None:
    demand(new[: len(old)] == old, f"The history of {what} was rewritten.")
    states = [change.state for change in new[max(len(old) - 1, 0) :]]
    for before, after in pairwise(states):
        demand(after in AFTER.get(before, set()), f"{what} went from {before} to {after}.")
    dates = [change.date for change in new[max(len(old) - 1, 0) :]]
    demand(dates == sorted(dates), f"The history of {what} goes back in time.")
    if not old:
        demand(new[0].state is State.CREATED, f"{what} was not made as CREATED.")


def _policies(flow: Flow) -> dict[str, Retry | None]:
    policies: dict[str, Retry | None] = {}

    def visit(tasks: Any, inherited: Retry | None) -> None:
        for task in tasks:
            policies[task.id] = task.retry or inherited
            visit(task.children(), policies[task.id])

    visit([*flow.tasks, *flow.errors, *flow.finally_], flow.retry)
    return policies
