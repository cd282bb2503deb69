"""What travels to a worker and back: WorkerJob and WorkerResult of tasks, TriggerJob and TriggerResult of triggers."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from tercel.model.execution import TaskRun
from tercel.model.logs import LogEntry
from tercel.model.state import State
from tercel.model.task import Task
from tercel.model.trigger import Trigger


class WorkerJob(msgspec.Struct, frozen=True, kw_only=True):
    """One dispatch of one task run.

    Attributes:
        fence: the dispatch's number; goes back with every report.
        attempt: how many attempts of the task run came before, counted by the user's retries.
        value: the task run's own loop value; None outside loops.
        values: loop values of the task run and its ancestors, outermost first; part of a cache's identity.
        variables: what expressions see; `outputs` may grow while the job runs.
        group: worker group key, "" for the default group.
        children: for a WorkingDirectory, the rows of its children that were kept from an earlier dispatch, in the
            order of `task.tasks`; empty on the first one. A row that ended SUCCESS, WARNING or SKIPPED is done: the
            worker leaves the child out if it still has the directory as that child left it, and otherwise runs it
            again, going on with its row (…, RESTARTED, RUNNING, …). A row in RESTARTED, the last one if there is one,
            is the child to go on at.
    """

    execution_id: str
    namespace: str
    flow_id: str
    revision: int
    task_run_id: str
    task: Task
    fence: int
    attempt: int = 0
    value: str | None = None
    values: tuple[str, ...] = ()
    variables: Mapping[str, object] = {}
    group: str = ""
    children: tuple[TaskRun, ...] = ()


class ExecutionUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What a task changes in the execution that it belongs to.

    Attributes:
        labels: set, or replaced, in its labels.
        variables: merged into its variables, maps deeply.
        unset: names of variables to remove, before *variables* are merged.
        ends_as: the execution ends now, in this state.
    """

    labels: Mapping[str, str] = {}
    variables: Mapping[str, object] = {}
    unset: tuple[str, ...] = ()
    ends_as: State | None = None


class WorkerResult(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended.

    Attributes:
        state: SUCCESS, WARNING, FAILED, KILLED, SKIPPED; before retries, allowFailure and allowWarning.
        message: why it failed, for people, secrets masked; empty otherwise.
        retryable: False where trying again cannot help or must not happen.
        update: what the task changes in its execution; None for nearly all.
    """

    state: State
    outputs: Mapping[str, object] = {}
    message: str = ""
    started_at: datetime
    ended_at: datetime
    retryable: bool = True
    update: ExecutionUpdate | None = None

    @property
    def duration(self) -> timedelta:
        """How long the attempt took."""
        return self.ended_at - self.started_at


class TriggerJob(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation of a polling trigger.

    Attributes:
        execution_id: of the execution that it starts, should it start one.
        variables: what expressions see.
        memory: what the trigger has kept.
        is_settling: it is to settle what it has found before; nothing is started.
        is_trial: nothing is started, and no file of it is kept.
        leftover_id: the execution that was to be started by an evaluation whose process has died, and whose files are
            to be removed; "" where there is none.
    """

    execution_id: str
    namespace: str
    flow_id: str
    trigger: Trigger
    variables: Mapping[str, object] = {}
    memory: Mapping[str, object] = {}
    is_settling: bool = False
    is_trial: bool = False
    leftover_id: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the trigger from all others."""
        return self.namespace, self.flow_id, self.trigger.id


class TriggerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a TriggerJob.

    Attributes:
        variables: what the execution to start sees as `trigger`; None to start none.
        memory: what the trigger keeps from now on.
        problem: why it failed, for people, secrets masked; empty otherwise.
        entries: what it has logged, secrets masked.
        has_files: it has saved files of the execution to start.
    """

    variables: Mapping[str, object] | None = None
    memory: Mapping[str, object] = {}
    problem: str = ""
    entries: tuple[LogEntry, ...] = ()
    has_files: bool = False
