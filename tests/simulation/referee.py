"""Judges every event on its own account: was it still good, and what may it have led to?

Keeps its own books of dispatches, starts, losses and outcomes, from events and commands alone, and never looks at how
the machine came to its rows. What it accepts is what the oracle reckons with.
"""

from collections.abc import Mapping
from copy import deepcopy
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
    ForceRunRequested,
    KillRequested,
    ReplayRequested,
    RestartRequested,
    ResumeRequested,
    RunTask,
    StartRetry,
    StatusChanged,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
    WriteLog,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.model.working_directory import DirectoryTask
from tests.simulation.flows import EXECUTABLE, LEAVES, MINUTES, Spec, enabled, lanes_of
from tests.simulation.restarts import BAD, Plan, Reckoner
from tests.simulation.rounds import Rounds, Wait
from tests.simulation.standing import ENDED, Standing, first_paused, paused

# Written from the specification, not taken from the table of the model.
AFTER: dict[State, set[State]] = {
    State.CREATED: ENDED - {State.RETRIED} | {State.RUNNING, State.QUEUED, State.KILLING},
    State.QUEUED: {State.RUNNING, State.KILLING, State.KILLED, State.CANCELLED},
    State.RUNNING: ENDED - {State.SKIPPED} | {State.PAUSED, State.RETRYING, State.KILLING, State.CREATED},
    State.PAUSED: ENDED - {State.SKIPPED} | {State.RUNNING, State.RESTARTED, State.KILLING},
    State.RETRYING: {State.CREATED, State.RUNNING, State.PAUSED, State.KILLING, State.KILLED, State.RETRIED},
    State.KILLING: ENDED - {State.SKIPPED},
    State.RESTARTED: ENDED | {State.RUNNING, State.KILLING},
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
    spec: Spec
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
    total: int = 0
    started: int = 0
    children: dict[int, State] = {}

    @property
    def is_executable(self) -> bool:
        """True where other executions do its work."""
        return self.spec["kind"] in EXECUTABLE

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

    def __init__(self, flow: Flow, reckoner: Reckoner, header: Execution) -> None:
        self.reckoner = reckoner
        self.rounds = Rounds(reckoner)
        behavior = "QUEUE" if flow.concurrency is None else flow.concurrency.behavior
        self.standing = Standing(header, behavior, reckoner.flow.get("sla", []))
        self.created_at = header.history[0].date
        self.retried: str | None = None
        self.retry_at: datetime | None = None
        self.retried_by: Retry | None = None
        self.set_at: dict[str, datetime] = {}
        self.kept_at: datetime | None = None
        self.is_over = self.is_of_paused = self.stood_still = False
        self.before: dict[str, TaskRun] = {}
        self.change = Change()
        self.past_main: set[str] = set()
        self.replayed: set[str] = set()
        self.broken = 0
        self.meddled_at: datetime | None = None
        self.pauses: dict[str, str] = {}
        self.first_paused: dict[str, datetime] = {}
        self.attempt = 1
        self.from_scratch = False
        self.ended_before = State.KILLED
        self.later: set[str] = set()
        self.last_fence: dict[str, int] = {}
        self.seats: dict[str, Seat] = {}
        self.timed_out: dict[str, datetime] = {}
        self.accepted = 0
        self.already_cancelled: set[str] = set()
        self.retries = _policies(flow)

    @property
    def kill_at(self) -> datetime | None:
        """When the execution began to be ended."""
        return self.standing.kill_at

    @property
    def ended(self) -> State | None:
        """The state in which the execution ended, once nothing of it runs."""
        return self.standing.ended

    def take_over(self, older: "Referee", ids: Mapping[str, str], rows: dict[str, TaskRun], now: datetime) -> None:
        """Know of copies what an older execution's books say of their originals, which *ids* maps to them."""
        for old, new in ids.items():
            if old in older.seats:
                seat = self.seats[new] = deepcopy(older.seats[old])
                seat.fence = seat.losses = 0
                seat.phase, seat.retry_at, seat.is_past = "over", None, True
                seat.child_lengths = {ids[child]: seen for child, seen in seat.child_lengths.items() if child in ids}
            if old in older.timed_out:
                self.timed_out[new] = older.timed_out[old]
            if old in older.set_at:
                self.set_at[new] = older.set_at[old]
            if old in older.pauses:
                self.pauses[new] = older.pauses[old]
        self.rounds.take_over(older.rounds, ids)
        self.standing.variables = dict(older.standing.variables)
        self.from_scratch = True
        self.kept_at = self.meddled_at = now

    # Before: is the event still good?

    def is_good(self, event: Event, runs: dict[str, TaskRun]) -> bool:
        """True where the event has to change something, False where it must change nothing."""
        if isinstance(event, ReplayRequested):
            return self.standing.phase == "new" and event.run_id in runs
        if isinstance(event, TaskStateChanged):
            run = runs.get(event.run_id)
            is_over = self.ended not in (None, State.RETRIED) and event.attempt == self.attempt
            is_fit = run is not None and run.state is not event.state and not self.reckoner.is_child(run, runs)
            return is_over and is_fit
        if isinstance(event, RestartRequested):
            if self.standing.is_moving and paused(runs):
                return event.attempt == self.attempt
            has_failed = any(run.state in BAD for run in runs.values())
            is_bad = (self.ended in BAD and self.ended is not State.RETRIED) or (
                self.ended is State.WARNING and has_failed
            )
            return is_bad and event.attempt == self.attempt
        of_execution = self.standing.is_good(event, runs)
        if of_execution is not None:
            return of_execution
        if self.ended is not None:
            return False
        match event:
            case TimerDue():
                return self._is_timer_good(event, runs)
            case SubflowStarted() | SubflowEnded():
                return self._is_subflow_good(event)
            case TaskRunStarted() | TaskRunFinished() | WorkerLost() | ChildChanged():
                seat = self.seats.get(event.run_id)
                if seat is None or seat.fence != event.fence or seat.phase == "over":
                    return False
                if isinstance(event, WorkerLost) and seat.is_executable:
                    return seat.phase == "queued"  # what is started goes on, whoever started it
                if isinstance(event, TaskRunStarted):
                    return seat.phase == "queued" and not seat.is_cancelled
                if isinstance(event, ChildChanged):
                    known = runs[event.child.id].history if event.child.id in runs else ()
                    return len(event.child.history) > len(known) and event.child.history[: len(known)] == known
                return True
            case _:
                raise AssertionError(event)

    def _is_subflow_good(self, event: SubflowStarted | SubflowEnded) -> bool:
        seat = self.seats.get(event.run_id)
        if seat is None or seat.fence != event.fence or seat.phase == "over":
            return False
        if isinstance(event, SubflowStarted):
            return not seat.is_cancelled and (seat.phase == "queued" or event.started > seat.started)
        return seat.phase == "running" and event.index not in seat.children

    def _is_timer_good(self, event: TimerDue, runs: dict[str, TaskRun]) -> bool:
        seat = self.seats.get(event.run_id)
        if seat is None:
            run = runs.get(event.run_id)
            if run is None or run.fence != event.fence or run.state not in (State.RUNNING, State.PAUSED):
                return False
            is_held = self.standing.is_held and self.rounds.waits(run.id) and not self.rounds.is_past(run.id, event.now)
            return run.due is not None and run.due <= event.now and not is_held
        if seat.fence != event.fence or seat.is_cancelled:
            return False
        if seat.retry_at is not None:
            return event.now >= seat.retry_at and not self.standing.is_held
        limit = self._deadline(seat)
        return seat.phase == "running" and limit is not None and event.now >= limit

    def _deadline(self, seat: Seat) -> datetime | None:
        if seat.task.timeout is None or seat.began is None:
            return None
        minutes = {"PT1M": 1, "PT5M": 5}[seat.task.timeout]
        grace = timedelta(minutes=10) if isinstance(seat.task, DirectoryTask) else timedelta(seconds=30)
        grace = timedelta(0) if seat.is_executable else grace  # no worker minds the time
        return seat.began + timedelta(minutes=minutes) + grace

    # After: did it lead to what it may?

    def judge(self, event: Event, change: Change, before: dict[str, TaskRun], header: Execution, *, good: bool) -> None:
        """Check a change against the books, and keep them."""
        if not good:
            demand(change.is_empty, f"{_name(event)} was out of date, yet it changed something.")
            return
        demand(not change.is_empty, f"{_name(event)} was good, yet it changed nothing.")
        self.accepted += 1
        self.next_round_of: str | None = None
        self.is_of_paused = isinstance(event, RestartRequested) and self.standing.final is None
        plan = self._plan(event, change, before)
        self.stood_still = self.standing.is_held
        after = () if change.execution is None else change.execution.history[len(header.history) :]
        states = [one.state for one in after]
        self.is_over = bool(states) and states[-1] in ENDED and State.KILLING not in states
        self.before, self.change = before, change
        wants_dispatch = self._book(event, before)
        self._rows(event, change, before, header, plan)
        self._commands(event, change, wants_dispatch)
        self._execution(change, header)
        if self.stood_still and self.standing.is_held:
            self._still(event, change, before)
        self._timed(event, change, before)
        dispatched = {command.run_id for command in change.commands if isinstance(command, RunTask)}
        demand(
            (plan.again - self.past_main) & self.seats.keys() <= dispatched, "What was restarted was not dispatched."
        )
        self._note_children(change, before, dispatched)
        rows = {id_: run for id_, run in before.items() if id_ not in change.removed}
        rows |= {run.id: run for run in change.runs}
        for problem in self.rounds.note(event.now, rows, self.timed_out, stands_still=self.standing.is_held):
            raise ViolationError(problem)

    def _execution(self, change: Change, header: Execution) -> None:
        after = change.execution or header
        if self.kill_at is None and self.standing.phase != "new":
            demand(after.due == self.standing.due(), f"Its timer is set to {after.due}, not {self.standing.due()}.")
        demand(after.labels == self.standing.labels, f"The labels are {after.labels}, not {self.standing.labels}.")
        demand(
            after.variables == self.standing.variables,
            f"The variables are {after.variables}, not {self.standing.variables}.",
        )

    def _still(self, event: Event, change: Change, before: dict[str, TaskRun]) -> None:
        """Nothing begins and nothing around it ends while somebody holds the execution."""
        for run in change.runs:
            is_childs = isinstance(event, ChildChanged) and run.id == event.child.id
            demand(run.id in before or is_childs, f"{run.task_id} began while the execution was paused.")
            kind = self.reckoner.specs[run.task_id]["kind"]
            is_leaf = kind in (*LEAVES, "directory") or is_childs or run.state not in ENDED
            demand(is_leaf or before[run.id].state in ENDED, f"{run.task_id} ended while the execution was paused.")
        for command in change.commands:
            is_new = isinstance(command, RunTask) and not (
                isinstance(event, WorkerLost) and event.run_id == command.run_id
            )
            demand(not is_new, "A task was dispatched while the execution was paused.")

    def _timed(self, event: Event, change: Change, before: dict[str, TaskRun]) -> None:
        """A flowable whose time is up fails if anything of its main branch is left, begun or not."""
        if not isinstance(event, TimerDue) or event.run_id in self.seats or event.run_id == self.next_round_of:
            return
        run = before[event.run_id]
        if run.state is State.PAUSED:
            return
        lanes = lanes_of(self.reckoner.specs[run.task_id], self.reckoner.rounds.get(run.id, 0)) or []
        inside = {(row.task_id, row.iteration): row for row in before.values() if row.parent_id == run.id}
        main = [inside.get((task["id"], iteration)) for lane in lanes for task, _, iteration in lane]
        is_open = any(row is not None and row.state not in ENDED for row in main)
        has_left = any(row is None or row.id in self.later for row in main)
        known = [row for row in main if row is not None and row.id not in self.later]
        has_left &= not any(row.state in (State.FAILED, State.KILLED, State.RETRIED) for row in known)
        is_late = is_open or has_left or self.rounds.waits(run.id)
        told = any(row.id == run.id and row.message for row in change.runs)
        demand(told == is_late, f"{run.task_id} has {'' if told else 'not '}timed out.")

    def _plan(self, event: Event, change: Change, before: dict[str, TaskRun]) -> Plan:
        """What has to be restarted and dropped in this step, seats told."""
        plan = Plan(set(), set(), set())
        self.past_main = set[str]()
        if isinstance(event, TaskStateChanged):
            plan = self.reckoner.change(before[event.run_id], before)
            self._go_on_past_main(before[event.run_id], before)
            self.set_at[event.run_id] = self.kept_at = self.meddled_at = event.now
            if event.run_id in self.seats:
                self._set(self.seats[event.run_id], event, before[event.run_id])
            for seat in self.seats.values():
                seat.is_past = True
            self.later = set()
        elif isinstance(event, ReplayRequested):
            plan = self.reckoner.replay(before[event.run_id], before)
            self.replayed = plan.again - {event.run_id}
            self._go_on_past_main(before[event.run_id], before)
        elif self.is_of_paused:
            plan.again.update(paused(before))
            for run_id in plan.again:
                self.first_paused.setdefault(run_id, begun_at(before[run_id]))
        elif isinstance(event, RestartRequested):
            self.from_scratch = event.from_scratch
            self.ended_before = self.ended or State.KILLED
            plan = self.reckoner.restart(before, self.ended_before, from_scratch=event.from_scratch)
            for seat in self.seats.values():
                seat.is_past = True
            self.later = plan.later
        elif isinstance(event, TimerDue) and event.run_id in self.seats and self.seats[event.run_id].retry_at:
            plan.dropped.update(run.id for run in before.values() if run.parent_id == event.run_id)
        elif isinstance(event, ResumeRequested | ForceRunRequested) and self.standing.is_held:
            ready = {
                id_ for id_, seat in self.seats.items() if seat.retry_at is not None and seat.retry_at <= event.now
            }
            plan.dropped.update(run.id for run in before.values() if run.parent_id in ready)
            for run in before.values():
                is_due = run.due is not None and run.due <= event.now
                if is_due and self.rounds.waits(run.id) and self._is_next_round(run.id, event, change, before):
                    self.rounds.next(run.id)
                    plan.dropped.update(self.reckoner.inside(run, before))
        elif isinstance(event, TimerDue) and self._is_next_round(event.run_id, event, change, before):
            self.next_round_of = event.run_id
            self.rounds.next(event.run_id)
            plan.dropped.update(self.reckoner.inside(before[event.run_id], before))
        elif isinstance(event, WorkerLost):
            seat = self.seats[event.run_id]
            if not seat.is_cancelled and (seat.phase == "queued" or seat.losses < 2):
                plan.dropped.update(self.reckoner.loss(before[event.run_id], before))
        for run in change.runs:
            if run.id in self.later and run.history != before[run.id].history:
                turn = self.reckoner.turn(before[run.id], before, self.ended_before, from_scratch=self.from_scratch)
                self.later = (self.later - {run.id}) | turn.later
                plan.again.update(turn.again)
                plan.dropped.update(turn.dropped)
        self.later -= plan.dropped
        for run_id in plan.dropped:
            self.seats.pop(run_id, None)
            self.pauses.pop(run_id, None)
            self.rounds.drop(run_id)
        for run_id in plan.again - self.past_main:
            self.rounds.again(run_id)
        if isinstance(event, ReplayRequested):
            self.rounds.drop(event.run_id)  # it begins as if for the first time
        for run_id in self.past_main - self.seats.keys():
            self.set_at.pop(run_id, None)
        for run_id in (plan.again | plan.dropped) - self.past_main:
            if not self.is_of_paused:
                self.first_paused.pop(run_id, None)
            self.timed_out.pop(run_id, None)
            self.set_at.pop(run_id, None)
            if run_id in self.seats:
                self.seats[run_id].restart()
        return plan

    def _go_on_past_main(self, run: TaskRun, rows: dict[str, TaskRun]) -> None:
        """Directories around a task run of their `errors` or `finally` go on, and their jobs stay over."""
        self.past_main = self.reckoner.past_main(run, rows)
        for run_id in self.past_main & self.seats.keys():
            self.seats[run_id].fence += 1
            self.seats[run_id].losses = 0

    def _set(self, seat: Seat, event: TaskStateChanged, run: TaskRun) -> None:
        """A leaf has another state, and so has its last attempt: what it had tried before is past."""
        states = [attempt.state for attempt in run.attempts]
        seat.outcomes = []
        seat.past_fails = [*states[:-1], *([event.state] if states else [])].count(State.FAILED)

    def _is_next_round(self, run_id: str, event: Event, change: Change, before: dict[str, TaskRun]) -> bool:
        """True where a loop that waited begins its next round, and has not run out of time."""
        if not self.rounds.waits(run_id):
            return False
        is_next = any(before[id_].parent_id == run_id for id_ in change.removed)
        demand(is_next or self.rounds.is_past(run_id, event.now), "A loop did not go on in its time.")
        demand(not is_next or self.rounds.may_go_on(run_id), "A loop went on after its timeout.")
        return is_next

    def _note_children(self, change: Change, before: dict[str, TaskRun], dispatched: set[str]) -> None:
        """The children that a job of a WorkingDirectory starts with."""
        for run_id in dispatched:
            rows = {**before, **{run.id: run for run in change.runs}}
            kept = (row for row in rows.values() if row.parent_id == run_id and row.id not in change.removed)
            self.seats[run_id].child_lengths = {row.id: len(row.history) for row in kept}

    def _book(self, event: Event, before: dict[str, TaskRun]) -> str | None:
        """Keep the books; the id of the task run that has to be dispatched now, if one has to."""
        self.standing.book(event, before)
        wanted = self._book_run(event, before)
        known = len(self.standing.violated)
        state = None if self.is_over else self.standing.break_rules(event)
        self.broken = len(self.standing.violated) - known
        if state is not None:
            self._force(state, event.now)
        return wanted

    def _book_run(self, event: Event, before: dict[str, TaskRun]) -> str | None:
        match event:
            case KillRequested():
                self._end_all(event.now, cascade=event.cascade)
            case ResumeRequested() | ForceRunRequested():
                pass  # which row it was about is seen in `_rows`
            case SubflowStarted() | SubflowEnded():
                self._subflow(event)
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
                update = event.result.update
                if update is not None:
                    self.standing.updated(update)
                    if update.ends_as is not None:
                        self._force(update.ends_as, event.now)
            case RestartRequested() if self.is_of_paused:
                self.attempt += 1
            case RestartRequested() | TaskStateChanged():
                self.attempt += 1
                self.standing.restart(event.now)
                self.retried = self.retry_at = None
                self.already_cancelled = set()
            case WorkerLost():
                return self._lost(event)
            case ChildChanged():
                self.seats[event.run_id].child_lengths[event.child.id] = len(event.child.history)
            case TimerDue():
                seat = self.seats.get(event.run_id)
                if seat is None:
                    if before[event.run_id].state is State.PAUSED:
                        self._pause_over(before[event.run_id], event.now)
                    return None
                if seat.retry_at is not None:
                    return event.run_id
                self._outcome(event.run_id, State.FAILED, True, event.now, event.now)
            case _:
                pass
        return None

    def _pause_over(self, run: TaskRun, now: datetime) -> None:
        spec = self.reckoner.specs[run.task_id]
        behavior = spec.get("behavior") or ("RESUME" if "delay" in spec else "FAIL")
        self.pauses[run.id] = behavior
        if behavior == "CANCEL":
            self._force(State.CANCELLED, now)

    def _force(self, state: State, now: datetime) -> None:
        if self.kill_at is None and self.standing.final is None:
            self.standing.force(state, now)
            self._end_all(now, cascade=False)

    def _end_all(self, now: datetime, *, cascade: bool) -> None:
        for seat in self.seats.values():
            if seat.is_executable and not cascade and seat.phase != "over":
                seat.phase = "over"
                seat.outcomes.append((State.KILLED, False, now))
        self.already_cancelled = {run_id for run_id, seat in self.seats.items() if seat.is_cancelled}
        for seat in self.seats.values():
            self._cancel(seat, now)

    def _subflow(self, event: SubflowStarted | SubflowEnded) -> None:
        seat = self.seats[event.run_id]
        if isinstance(event, SubflowStarted):
            if seat.phase == "queued":
                seat.phase = "running"
                seat.began = event.now
                seat.first_began = seat.first_began or event.now
            seat.total, seat.started = event.total, event.started
        else:
            seat.children[event.index] = event.state
        ended = list(seat.children.values())
        if seat.started == seat.total and not seat.spec["wait"]:
            self._outcome(event.run_id, State.SUCCESS, False, event.now, event.now)
        elif len(ended) == (seat.started if seat.is_cancelled else seat.total):
            state = next((one for one in (State.FAILED, State.KILLED, State.WARNING) if one in ended), State.SUCCESS)
            state = state if seat.spec["transmit"] else State.SUCCESS
            state = State.KILLED if seat.is_cancelled else state
            self._outcome(event.run_id, state, True, event.now, event.now)

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
            ended_at = min(max(ended_at, seat.began or ended_at), now)
            retry = self._policy(seat, run_id)
            if retry is not None and retry.behavior == "CREATE_NEW_EXECUTION":
                self._retry_elsewhere(retry, run_id, now, ended_at)
            else:
                seat.retry_at = self._next_at(seat, run_id, now, ended_at)

    def _policy(self, seat: Seat, run_id: str) -> Retry | None:
        """How it is tried again: a directory as its failed child says, where that asks for a new execution."""
        children = {run.task_id: run.state for run in self.before.values() if run.parent_id == run_id}
        for task in enabled(seat.spec.get("tasks", [])) if seat.spec["kind"] == "directory" else ():
            retry = self.retries[task["id"]]
            is_failed = children.get(task["id"]) is State.FAILED
            if is_failed and retry is not None and retry.behavior == "CREATE_NEW_EXECUTION":
                return retry
        return seat.retry

    def _retry_elsewhere(self, retry: Retry, run_id: str, now: datetime, ended_at: datetime) -> None:
        """A new execution tries again; for a random wait the earliest instant is kept, see `_commands`."""
        if self.kill_at is not None or self.standing.final is not None or self.attempt >= (retry.max_attempts or 0):
            return
        at = max(now, ended_at + timedelta(seconds=_wait(retry, self.attempt)))
        if retry.max_duration is not None and at > self.created_at + retry.max_duration:
            return
        if retry.max_duration is not None and retry.type == "random" and not self._is_retried(run_id):
            is_late = at + timedelta(seconds=50) > self.created_at + retry.max_duration
            demand(is_late, "Nobody tries it again, although there is time.")
            return
        self.retried = run_id
        self.retry_at = at
        self.retried_by = retry
        self._force(State.RETRIED, now)

    def _is_retried(self, run_id: str) -> bool:
        return any(run.id == run_id and run.state is State.RETRIED for run in self.change.runs)

    def _next_at(self, seat: Seat, run_id: str, now: datetime, ended_at: datetime) -> datetime | None:
        """When the next attempt has to be made; the earliest possible instant for a random wait."""
        retry = seat.retry
        fails = seat.fails()
        if retry is None or fails >= (retry.max_attempts or 0):
            return None
        at = max(now, ended_at + timedelta(seconds=_wait(retry, fails)))
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
            if isinstance(event, StatusChanged):
                is_right = change.execution.history[:-1] == header.history and change.execution.state is event.state
                demand(is_right, "The execution has another state than said.")
            else:
                _grew(header.history, change.execution.history, "the execution")
                new = [one.state for one in change.execution.history[len(header.history) :]]
                is_resumed = bool(paused(before)) and header.state is State.PAUSED and State.RUNNING in new
                demand(not is_resumed or State.RESTARTED in new, "The execution went on without a RESTARTED.")
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
            if isinstance(event, TaskStateChanged) and run.id == event.run_id:
                demand(run.history[:-1] == old.history and run.state is event.state, "It has another state than said.")
                continue
            _grew(old.history, run.history, run.task_id)
            demand(run.fence >= old.fence, "A fence shrank.")
            is_again = run.id in plan.again
            demand(run.lost == 0 if is_again else run.lost >= old.lost, "Losses were forgotten, or were not.")
            if run.state in ENDED:
                demand(run.due is None, "A row that ended has a timer.")
                has_open = run.id in self.seats and any(one.state not in ENDED for one in run.attempts)
                demand(not has_open, "A row that ended has an attempt that has not.")
            has_time = is_again and run.state is State.RUNNING and run.id not in self.timed_out
            limit = self.reckoner.limit(run) if has_time else None
            demand(limit is None or run.due == event.now + limit, f"{run.task_id} has no timer of its own.")
            restarts = sum(change.state is State.RESTARTED for change in run.history[len(old.history) :])
            is_childs = isinstance(event, ChildChanged) and run.id == event.child.id
            demand(is_childs or restarts == is_again, f"{run.task_id} was restarted {restarts} times.")
            is_set = isinstance(event, TaskStateChanged) and run.id == event.run_id
            demand(is_childs or is_again or is_set or old.state not in ENDED, f"{run.task_id} changed after its end.")
            demand(run.attempts[: len(old.attempts) - 1] == old.attempts[:-1], "An attempt was forgotten.")
        for run in change.runs:
            seat = self.seats.get(run.id)
            if seat is not None and seat.is_executable and run.state is State.RUNNING:
                demand(run.due == self._deadline(seat), f"{run.task_id} has the timer {run.due}.")
        self._paused_rows(event, change, before)
        if self.is_of_paused:
            ids_ = {run.id for run in change.runs if run.state is State.PAUSED}
            demand(ids_ == set(ids) == plan.again, "A restart of what is paused changed something else.")
            is_new = all(run.fence == before[run.id].fence + 1 for run in change.runs)
            demand(is_new, "What is paused waits anew under the same fence.")
        if change.execution is not None and change.execution.state in ENDED and self.standing.final is None:
            self.standing.end(change.execution.state, event.now)
        for run in change.runs:
            seat = self.seats.get(run.id)
            if seat is not None and seat.retry is not None and seat.retry.type == "random":
                self._random_retry(seat, run)
            if seat is not None and run.state is State.RETRYING:
                demand(run.due == seat.retry_at, f"{run.task_id} is tried again at {run.due}, not {seat.retry_at}.")

    def _paused_rows(self, event: Event, change: Change, before: dict[str, TaskRun]) -> None:
        """What begins to wait has the right timer, and a resumption is of one task run, the right one."""
        for run in change.runs:
            spec = self.reckoner.specs[run.task_id]
            if spec["kind"] != "pause" or (run.id in before and run.history == before[run.id].history):
                continue
            known = len(before[run.id].history) if run.id in before else 0
            if State.PAUSED in [one.state for one in run.history[known:]]:
                self.pauses.pop(run.id, None)  # it waits anew, also where something ends it in the same step
            if run.state is State.PAUSED:
                limit = spec.get("delay") or spec.get("timeout")
                due = None if limit is None else event.now + timedelta(minutes=MINUTES[limit])
                demand(run.due == due, f"{run.task_id} waits until {run.due}, not {due}.")
        if not isinstance(event, ResumeRequested | ForceRunRequested):
            return
        waiting = paused(before)
        gone = {run.id for run in change.runs if run.id in waiting and run.state is not State.PAUSED}
        demand(len(gone) == bool(waiting), f"{len(gone)} task runs were resumed by one request.")
        named = event.run_id if isinstance(event, ResumeRequested) else None
        demand(not gone or gone <= ({named} if named else first_paused(before)), "Another task run was resumed.")
        for run in change.runs:
            if run.id in gone:
                self.pauses[run.id] = "RESUME"
                given = dict(event.outputs) if isinstance(event, ResumeRequested) else {}
                demand({**run.outputs, **given} == run.outputs, "What it was resumed with is not in its outputs.")

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
        warnings = [one for one in change.commands if isinstance(one, WriteLog) and "is violated" in one.message]
        demand(len(warnings) == self.broken, f"{len(warnings)} SLAs were said to be violated, not {self.broken}.")
        cancelled = {command.run_id for command in change.commands if isinstance(command, CancelTask)}
        is_kill = event.now in (self.kill_at, self.standing.after_kill_at)
        if is_kill:
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
                case StartRetry():
                    self._retry_started(command)
                case EndExecution():
                    is_first = self.ended is None or isinstance(event, StatusChanged)
                    demand(is_first, "The execution ended twice.")
                    self.standing.ended = command.state
                case _:
                    pass
        demand(len(dispatched) == len(set(dispatched)), "A task run was dispatched twice in one step.")
        demand(wants_dispatch is None or wants_dispatch in dispatched, f"{_name(event)} led to no new dispatch.")
        is_killed = (self.kill_at and self.standing.final is None) or self.standing.after_kill_at
        # What broke an SLA may have started something just before.
        is_broken = self.kill_at == event.now and bool(self.standing.violated)
        demand(is_broken or not (is_killed and dispatched), "A task was dispatched after the kill.")
        over = {run.id for run in change.runs if run.state in ENDED}
        for run_id in dispatched if is_broken else ():
            seat = self.seats[run_id]
            if seat.is_executable and (self.standing.final is None or run_id in over):
                seat.phase = "over"
                seat.outcomes.append((State.KILLED, False, event.now))
        if isinstance(event, ResumeRequested | ForceRunRequested) and self.stood_still:
            ready = {
                id_ for id_, seat in self.seats.items() if seat.retry_at is not None and seat.retry_at <= event.now
            }
            demand(self.standing.is_held or not ready, "A retry that was due did not start with the resumption.")
        for run in change.runs:
            seat = self.seats.get(run.id)
            is_own = isinstance(event, TimerDue) and run.id == event.run_id and run.id != self.next_round_of
            is_late = run.id not in self.timed_out and self.rounds.is_past(run.id, event.now) and bool(run.message)
            if isinstance(event, ResumeRequested | ForceRunRequested) and is_late:
                is_own = True  # a round that had ended in a pause by hand, and the time is up
                self.rounds.verdicts[run.id] = Wait.WAITS
            if seat is None and is_own and run.message:
                self.timed_out[run.id] = event.now
            if seat is not None and run.state is State.KILLED and seat.retry_at is not None:
                seat.retry_at = None
                seat.outcomes.append((State.KILLED, False, event.now))

    def _retry_started(self, command: StartRetry) -> None:
        demand(self.standing.final is State.RETRIED, "A new execution tries again what this one has not given up.")
        at = self.retry_at
        demand(at is not None, "Another execution was started twice, or for nothing.")
        retry = self.retried_by
        spread = timedelta(seconds=50 if retry is not None and retry.type == "random" else 0)
        demand(at is not None and at <= command.at <= at + spread, f"It is tried again at {command.at}, not {at}.")
        self.retry_at = None

    def _dispatched(self, command: RunTask) -> None:
        seat = self.seats.get(command.run_id)
        if seat is None:
            spec = self.reckoner.specs[command.task.id]
            seat = self.seats[command.run_id] = Seat(task=command.task, spec=spec, retry=self.retries[command.task.id])
        else:
            demand(not seat.is_cancelled, "A cancelled task was dispatched again.")
            demand(command.fence == seat.fence + 1, "A dispatch did not take the next fence.")
        demand(command.fence > self.last_fence.get(command.run_id, 0), "A fence was given out twice.")
        self.last_fence[command.run_id] = command.fence
        seat.fence = command.fence
        seat.phase = "queued"
        seat.began = None
        seat.retry_at = None
        seat.total = seat.started = 0
        seat.children = {}

    def waits_for(self, rows: dict[str, TaskRun]) -> bool:
        """True where something is under way that can move the execution."""
        if not self.standing.is_begun or self.standing.is_held or paused(rows):
            return True
        return any(self.rounds.waits(run_id) for run_id in rows) or any(
            seat.phase != "over" or seat.retry_at is not None for seat in self.seats.values()
        )


def begun_at(run: TaskRun) -> datetime:
    """When a task run was made, or restarted last."""
    return max((one.date for one in run.history if one.state is State.RESTARTED), default=run.history[0].date)


def _wait(retry: Retry, fails: int) -> float:
    """Seconds after that many failures; the fewest possible where they are drawn at random."""
    return {"constant": 20.0, "exponential": min(20.0 * 2.0 ** (fails - 1), 60.0), "random": 10.0}[retry.type]


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

    listeners = [task for listener in flow.listeners for task in listener.tasks]
    visit([*flow.tasks, *flow.errors, *flow.finally_, *flow.after_execution, *listeners], flow.retry)
    return policies
