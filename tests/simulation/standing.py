"""Where an execution as a whole has to stand: started or waiting for it, paused, being ended, ended.

Books of their own, kept by the referee from events alone, and written apart from the machine.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tercel.machine.messages import (
    Event,
    ExecutionCreated,
    ExecutionTimerDue,
    ForceRunRequested,
    KillRequested,
    LabelsSet,
    PauseRequested,
    ReplayRequested,
    ResumeRequested,
    SlotFreed,
    StatusChanged,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.jobs import ExecutionUpdate
from tercel.model.state import State
from tests.simulation.flows import MINUTES

ENDED = {State.SUCCESS, State.WARNING, State.FAILED, State.KILLED, State.SKIPPED, State.CANCELLED, State.RETRIED}
REFUSED = {"CANCEL": State.CANCELLED, "FAIL": State.FAILED}


class Standing:
    """The books of the execution itself.

    Attributes:
        phase: `new`, `scheduled`, `queued` or `begun`.
        by_hand: somebody paused it.
        since: when it began, or began again after its end.
        violated: ids of the SLAs that were broken.
        broken_at: when one of them ended it.
        changed: somebody gave it another final state than the one that it had reached.
        kill_at: when it began to be ended, by a kill or by force.
        forced: the state that a forced end leads to; None where a kill's does.
        final: the state that it ended in at *final_at*, whatever runs after that.
        ended: the same, once nothing of it runs any more.
        after_kill_at: when what runs after its end was killed.
    """

    def __init__(self, header: Execution, behavior: str, slas: list[dict[str, Any]]) -> None:
        self.slas = slas
        self.violated: set[str] = set()
        self.since: datetime | None = None
        self.broken_at: datetime | None = None
        self.changed = False
        self.schedule_date = header.schedule_date
        self.behavior = behavior
        self.labels = dict(header.labels)
        self.variables: dict[str, object] = dict(header.variables)
        self.phase = "new"
        self.by_hand = False
        self.kill_at: datetime | None = None
        self.forced: State | None = None
        self.final: State | None = None
        self.final_at: datetime | None = None
        self.ended: State | None = None
        self.after_kill_at: datetime | None = None

    @property
    def is_held(self) -> bool:
        """True while nothing may begin, since somebody paused it."""
        return self.by_hand and self._is_running()

    @property
    def is_begun(self) -> bool:
        """True once tasks may have run."""
        return self.phase == "begun"

    @property
    def is_moving(self) -> bool:
        """True while tasks of it may run and nobody ends it."""
        return self._is_running()

    def restart(self, now: datetime) -> None:
        """It goes on after its end."""
        self.since = now
        self.violated = set()
        self.changed = False
        self.phase = "begun"
        self.by_hand = False
        self.kill_at = self.forced = self.final = self.ended = self.after_kill_at = None

    def is_good(self, event: Event, rows: Mapping[str, TaskRun]) -> bool | None:
        """Whether an event about the execution itself has to change something; None where it is about a task run."""
        match event:
            case LabelsSet():
                return any(self.labels.get(key) != value for key, value in event.labels.items())
            case StatusChanged():
                return self.ended is not None and self.ended not in (event.state, State.RETRIED)
            case KillRequested():
                if self.final is not None:
                    return self.ended is None and self.after_kill_at is None
                return self.kill_at is None or self.forced is not None
            case ExecutionCreated():
                is_early = self.schedule_date is not None and event.now < self.schedule_date
                return self.phase == "new" or (self.phase == "scheduled" and not is_early)
            case ExecutionTimerDue():
                if self.phase == "scheduled" and self.final is None:
                    return self.schedule_date is not None and event.now >= self.schedule_date
                return self._is_running() and any(at <= event.now for at in self._due())
            case SlotFreed():
                return self.phase == "queued" and self.final is None
            case PauseRequested():
                return self._is_running() and not paused(rows) and not self.by_hand
            case ForceRunRequested():
                if self.final is not None or self.kill_at is not None:
                    return False
                return not self.is_begun or self.by_hand or bool(paused(rows))
            case ResumeRequested():
                if self.final is not None and self.ended is None and self.after_kill_at is None:
                    return event.run_id in paused(rows) if event.run_id is not None else bool(paused(rows))
                if not self._is_running():
                    return False
                return event.run_id in paused(rows) if event.run_id is not None else self.by_hand or bool(paused(rows))
            case _:
                return None

    def _is_running(self) -> bool:
        return self.is_begun and self.kill_at is None and self.final is None

    def _due(self) -> list[datetime]:
        """When each SLA about time is broken that is not yet."""
        return [at for rule in self.slas if (at := self._broken_at(rule)) is not None]

    def _broken_at(self, rule: Mapping[str, Any]) -> datetime | None:
        if self.since is None or rule["id"] in self.violated or "duration" not in rule:
            return None
        return self.since + timedelta(minutes=MINUTES[rule["duration"]])

    def due(self) -> datetime | None:
        """What its own timer has to be set to."""
        if self.final is not None or self.kill_at is not None:
            return None
        if self.is_begun:
            return min(self._due(), default=None)
        return self.schedule_date if self.phase == "scheduled" else None

    def break_rules(self, event: Event) -> State | None:
        """Take note of the SLAs that the event broke; the state that it has to end in for it."""
        for rule in self.slas:
            if not self._is_running() or rule["id"] in self.violated:
                continue
            at = self._broken_at(rule)
            is_late = isinstance(event, ExecutionTimerDue) and at is not None and at <= event.now
            if not is_late and ("duration" in rule or self.labels.get("a") != "y"):
                continue
            self.violated.add(rule["id"])
            self.labels.update(rule.get("labels", {}))
            if rule["behavior"] != "NONE":
                self.broken_at = event.now
                return State.FAILED if rule["behavior"] == "FAIL" else State.CANCELLED
        return None

    def book(self, event: Event, rows: Mapping[str, TaskRun]) -> None:
        """Keep the books of a good event."""
        self._book(event, rows)
        if self.is_begun and self.since is None:
            self.since = event.now

    def _book(self, event: Event, rows: Mapping[str, TaskRun]) -> None:
        match event:
            case LabelsSet():
                self.labels.update(event.labels)
            case StatusChanged():
                self.final = self.ended = event.state
                self.changed = True
            case KillRequested():
                self._killed(event.now)
            case ExecutionCreated():
                if self.schedule_date is not None and event.now < self.schedule_date:
                    self.phase = "scheduled"
                else:
                    self.phase = "begun" if event.has_slot else "queued" if self.behavior == "QUEUE" else "refused"
            case SlotFreed():
                self.phase = "begun"
            case ExecutionTimerDue():
                self.phase = "begun"
            case ReplayRequested():
                self.phase = "begun"
            case PauseRequested():
                self.by_hand = True
            case ForceRunRequested() | ResumeRequested():
                self.phase = "begun" if self.final is None else self.phase
                if not paused(rows):
                    self.by_hand = False
            case _:
                pass

    def _killed(self, now: datetime) -> None:
        if self.final is not None:
            self.after_kill_at = now
        else:
            self.kill_at = self.kill_at or now
            self.forced = None

    def end(self, state: State, now: datetime) -> None:
        """It has its last state."""
        self.final, self.final_at = state, now

    def force(self, state: State, now: datetime) -> None:
        """It has to end in *state*, unless it is being ended already."""
        if self.kill_at is None and self.final is None:
            self.kill_at = now
            self.forced = state

    def updated(self, update: ExecutionUpdate) -> None:
        """A task changed it."""
        self.labels.update(update.labels)
        for name in update.unset:
            self.variables.pop(name, None)
        self.variables = merged(self.variables, update.variables)

    def state(self, rows: Mapping[str, TaskRun], *, rests: bool) -> State:
        """The state that it has to be in; *rests* where all that is under way waits for its next attempt."""
        if self.final is not None:
            return self.final
        if not self.is_begun:
            return State.QUEUED if self.phase == "queued" else State.CREATED
        if self.kill_at is not None:
            return State.KILLING
        if self.by_hand or paused(rows):
            return State.PAUSED
        return State.RETRYING if rests else State.RUNNING


def paused(rows: Mapping[str, TaskRun]) -> set[str]:
    """Ids of the task runs that wait for a person or for their time."""
    return {run.id for run in rows.values() if run.state is State.PAUSED}


def first_paused(rows: Mapping[str, TaskRun]) -> set[str]:
    """Ids of those that may be meant where nobody says which: the first that paused, and of several the first made."""
    times = {run_id: (rows[run_id].history[-1].date, rows[run_id].history[0].date) for run_id in paused(rows)}
    return {run_id for run_id, at in times.items() if at == min(times.values())}


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """*low* with what *high* says, maps inside maps too."""
    both = dict(low)
    for key, value in high.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both
