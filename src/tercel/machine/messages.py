"""The events the machine hears and the commands it answers with.

Events are facts in the past tense and carry their instant; commands are orders. Both are plain values, so that
a history can be stored, replayed, duplicated and reordered by the simulator.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tercel.model.execution import TaskRun
from tercel.model.jobs import WorkerResult
from tercel.model.state import State
from tercel.model.task import LogLevel, Task


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that happened, at *now* (aware UTC)."""

    now: datetime


class ExecutionCreated(Event, frozen=True, kw_only=True):
    """The execution was saved and may start, unless it is for later.

    Attributes:
        has_slot: False where the flow's `concurrency` has no room for it.
    """

    has_slot: bool = True


class SlotFreed(Event, frozen=True, kw_only=True):
    """The flow's `concurrency` has room for an execution that waited for it."""


class ForceRunRequested(Event, frozen=True, kw_only=True):
    """Somebody wants an execution that waits for its time, its turn or a person to go on now."""


class ExecutionTimerDue(Event, frozen=True, kw_only=True):
    """The execution's own timer is due: its start, or the end of the time that its SLA allows."""


class TaskRunStarted(Event, frozen=True, kw_only=True):
    """A worker took the job numbered *fence*."""

    run_id: str
    fence: int
    worker: str


class TaskRunFinished(Event, frozen=True, kw_only=True):
    """The job numbered *fence* ended."""

    run_id: str
    fence: int
    result: WorkerResult


class ChildChanged(Event, frozen=True, kw_only=True):
    """A WorkingDirectory's child, run by the worker inside job *fence* of task run *run_id*, is now *child*."""

    run_id: str
    fence: int
    child: TaskRun


class WorkerLost(Event, frozen=True, kw_only=True):
    """The worker of job *fence* is gone and will never report; known by a silent heartbeat or a dead process.

    Attributes:
        is_given_back: the worker itself ended the job, as its process stops in good order: that is no loss.
    """

    run_id: str
    fence: int
    is_given_back: bool = False


class TimerDue(Event, frozen=True, kw_only=True):
    """The timer of task run *run_id*, set by dispatch *fence*, is due: a retry or a timeout."""

    run_id: str
    fence: int


class KillRequested(Event, frozen=True, kw_only=True):
    """Somebody wants the execution to end.

    Attributes:
        cascade: the executions that it started end, too.
    """

    cascade: bool = True


class PauseRequested(Event, frozen=True, kw_only=True):
    """Somebody wants nothing new to start until it is resumed."""


class ResumeRequested(Event, frozen=True, kw_only=True):
    """Somebody wants a paused execution to go on.

    Attributes:
        run_id: the paused task run; None for the one that paused first, or for an execution that was paused by hand.
        outputs: the task run's, from what its `onResume` asked for.
    """

    run_id: str | None = None
    outputs: Mapping[str, object] = {}


class LabelsSet(Event, frozen=True, kw_only=True):
    """Somebody gave labels to an execution; they replace those of the same key."""

    labels: Mapping[str, str]


class StatusChanged(Event, frozen=True, kw_only=True):
    """Somebody gave an execution that has ended another final state."""

    state: State


class TaskStateChanged(Event, frozen=True, kw_only=True):
    """Somebody gave a task run of an execution that has ended another final state; the execution goes on after it.

    Attributes:
        attempt: the execution's attempt that ended; about any other one the event is out of date.
    """

    run_id: str
    state: State
    attempt: int


class ReplayRequested(Event, frozen=True, kw_only=True):
    """A new execution, with copies of an older one's task runs, goes on at the task run *run_id*, one of the copies."""

    run_id: str


class SubflowStarted(Event, frozen=True, kw_only=True):
    """Executions were created for the dispatch *fence* of a Subflow's task run.

    Attributes:
        total: how many it will be in all.
        started: how many there are now.
        outputs: what is known of them, for the task run.
    """

    run_id: str
    fence: int
    total: int
    started: int
    outputs: Mapping[str, object] = {}


class SubflowEnded(Event, frozen=True, kw_only=True):
    """An execution that was created for the dispatch *fence* of a Subflow's task run ended.

    Attributes:
        index: which one, from zero.
        outputs: of the flow.
    """

    run_id: str
    fence: int
    index: int
    state: State
    outputs: Mapping[str, object] = {}


class RestartRequested(Event, frozen=True, kw_only=True):
    """Somebody wants an execution that ended badly to go on at what failed or was killed.

    Attributes:
        attempt: the execution's attempt that ended; about any other one the event is out of date.
        revision: the flow's revision to go on with, the one that the event is applied with.
        from_scratch: WorkingDirectories run again from their first child, not from the one that failed.
    """

    attempt: int
    revision: int
    from_scratch: bool = False


class Command(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An order to whoever applied the event; carried out once the changed rows are committed."""


class RunTask(Command, frozen=True, kw_only=True):
    """Bring the task to a worker of *group* (or answer it right here when it is inline)."""

    run_id: str
    fence: int
    task: Task
    group: str = ""


class CancelTask(Command, frozen=True, kw_only=True):
    """Tell the worker that has job *fence* to end it; if none has it yet, report it as killed.

    For a Subflow: kill the executions that it started.
    """

    run_id: str
    fence: int


class StartRetry(Command, frozen=True, kw_only=True):
    """Create, with the same inputs, the execution that tries again what this one could not do.

    Attributes:
        at: when it starts.
        id: of the new execution, derived.
    """

    at: datetime
    id: str


class WriteLog(Command, frozen=True, kw_only=True):
    """Put a line into the log, on task run *run_id* or on the execution itself."""

    level: LogLevel
    message: str
    run_id: str | None = None


class EndExecution(Command, frozen=True, kw_only=True):
    """The execution has its final state and nothing of it runs any more; tell whoever waits for it."""

    state: State
