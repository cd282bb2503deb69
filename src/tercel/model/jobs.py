"""WorkerJob and WorkerResult: what travels to a worker and back."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from tercel.model.execution import TaskRun
from tercel.model.state import State
from tercel.model.task import Task


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
