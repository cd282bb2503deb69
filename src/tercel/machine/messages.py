"""The events the machine hears and the commands it answers with.

Events are facts in the past tense and carry their instant; commands are orders. Both are plain values, so that
a history can be stored, replayed, duplicated and reordered by the simulator.
"""

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
    """The execution was saved and may start."""


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
    """The worker of job *fence* is gone and will never report; known by a silent heartbeat or a dead process."""

    run_id: str
    fence: int


class TimerDue(Event, frozen=True, kw_only=True):
    """The timer of task run *run_id*, set by dispatch *fence*, is due: a retry or a timeout."""

    run_id: str
    fence: int


class KillRequested(Event, frozen=True, kw_only=True):
    """Somebody wants the execution to end."""


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
    """Tell the worker that has job *fence* to end it; if none has it yet, report it as killed."""

    run_id: str
    fence: int


class WriteLog(Command, frozen=True, kw_only=True):
    """Put a line into the log, on task run *run_id* or on the execution itself."""

    level: LogLevel
    message: str
    run_id: str | None = None


class EndExecution(Command, frozen=True, kw_only=True):
    """The execution reached a terminal state; tell whoever waits for it."""

    state: State
