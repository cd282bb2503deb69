"""What is decided between two commits: executions in a batch, what changed of them, and what to do after it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tercel.machine import FlowIndex, LiveExecution, Requests, variables
from tercel.machine.limits import failed_attempts
from tercel.machine.messages import CancelTask, EndExecution, RunTask, TaskRunFinished, WriteLog
from tercel.machine.step import Functions
from tercel.model.execution import Execution, TaskRun
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.logs import LogEntry
from tercel.model.state import TERMINAL
from tercel.model.working_directory import DirectoryTask
from tercel.store import Transaction, Triggers, TriggerWindow, WindowKey

FindFlow = Callable[[str, str, int], Awaitable[FlowIndex]]
"""Gives a flow's revision, ready for the machine, by namespace, id and revision."""

RunInline = Callable[[WorkerJob], WorkerResult]
"""Runs a task that needs no worker, at once."""

PlanRequests = Callable[[WorkerJob], Requests | WorkerResult]
"""Says which executions a Subflow starts; or how it failed, where that cannot be said."""

FunctionsOf = Callable[[Execution], Functions]
"""Gives the functions that reach outside (`secret`, `kv`, …) for the expressions that the machine renders itself."""

Watcher = Callable[[Execution, Sequence[TaskRun]], object]
"""Is told after a commit what changed."""


class Reactions(Protocol):
    """What follows, by Flow triggers, from a change of an execution's state."""

    @property
    def executions(self) -> Sequence[Execution]:
        """To create, in CREATED."""
        ...

    def write(self, triggers: Triggers, tx: Transaction, /) -> None:
        """Write what the triggers have seen."""
        ...


class React(Protocol):
    """Says what follows from the latest changes of an execution's state; see `FlowTriggers.reactions`."""

    def __call__(
        self,
        execution: Execution,
        *,
        since: int,
        pending: dict[WindowKey, TriggerWindow | None],
        runs: Callable[[], Sequence[TaskRun]],
        variables: Callable[[], Mapping[str, object]],
    ) -> Awaitable[Reactions | None]:
        """Ask about the entries of the execution's history from *since* on; None where there are no triggers."""
        ...


class Work:
    """An execution in the batch at hand: what changed since its last commit, and what to do after the next.

    Attributes:
        created: its row is new.
        wants_slot: ask for one of its flow's slots after the commit.
        forces_slot: take one, whether there is one or not.
        reacted: how many entries of its history triggers were asked about.
        has_told_end: they were asked about its end.
        is_loaded: its rows were read for this batch.
        is_ours: it was adopted by this process; otherwise a commit of its rows shows whose it is.
        writes: what else its commit writes.
    """

    __slots__ = (
        "commands",
        "created",
        "execution",
        "flow",
        "forces_slot",
        "functions",
        "has_told_end",
        "is_loaded",
        "is_ours",
        "live",
        "logs",
        "reacted",
        "removed",
        "runs",
        "version",
        "wants_slot",
        "writes",
    )

    def __init__(self, flow: FlowIndex, live: LiveExecution, functions: Functions, *, created: bool) -> None:
        self.flow = flow
        self.live = live
        self.functions = functions
        self.created = created
        self.version = live.execution.version
        self.execution: Execution | None = None
        self.runs: dict[str, TaskRun] = {}
        self.removed: dict[str, None] = {}
        self.commands: list[RunTask | CancelTask | EndExecution] = []
        self.logs: list[LogEntry] = []
        self.wants_slot = False
        self.forces_slot = False
        self.reacted = 0 if created else len(live.execution.history)
        self.has_told_end = False
        self.is_loaded = False
        self.is_ours = False
        self.writes: list[Callable[[Transaction], None]] = []

    @property
    def has_rows(self) -> bool:
        """True where there is something to write."""
        return self.created or self.execution is not None or bool(self.runs or self.removed)

    def job(self, command: RunTask, task_run: TaskRun, surroundings: "Surroundings") -> WorkerJob:
        """The job of a task run, for a worker or for this thread."""
        execution = self.live.execution
        return WorkerJob(
            execution_id=execution.id,
            namespace=execution.namespace,
            flow_id=execution.flow_id,
            revision=execution.revision,
            task_run_id=command.run_id,
            task=command.task,
            fence=command.fence,
            attempt=failed_attempts(task_run.attempts),
            value=task_run.value,
            values=self.live.path_of(task_run),
            variables=variables(self.flow, self.live, task_run, surroundings),
            group=command.group,
            children=_kept_children(self.live, command),
        )


class Batch:
    """What is decided between two commits.

    Attributes:
        errors: executions of which nothing is written now, and why.
        links: pairs of executions that have to be written together: the second one follows from the first.
        windows: what triggers have seen by this batch.
    """

    __slots__ = ("errors", "links", "windows", "works")

    def __init__(self) -> None:
        self.works: dict[str, Work] = {}
        self.errors: dict[str, BaseException] = {}
        self.links: list[tuple[str, str]] = []
        self.windows: dict[WindowKey, TriggerWindow | None] = {}

    def groups(self) -> list[list[Work]]:
        """The executions that can be written, those together that have to be."""
        group_of = {execution_id: execution_id for execution_id in self.works}

        def first(execution_id: str) -> str:
            while group_of[execution_id] != execution_id:
                execution_id = group_of[execution_id]
            return execution_id

        for one, other in self.links:
            if one in group_of and other in group_of:
                group_of[first(other)] = first(one)
        groups: dict[str, list[Work]] = {}
        for execution_id, work in self.works.items():
            if execution_id not in self.errors:
                groups.setdefault(first(execution_id), []).append(work)
        return list(groups.values())


def waiting_run(live: LiveExecution, command: RunTask) -> TaskRun | None:
    """The task run that *command* is about; None where it is out of date."""
    task_run = live.runs.get(command.run_id)
    if task_run is None or task_run.fence != command.fence or task_run.state in TERMINAL:
        return None
    return task_run


def finished(command: RunTask | CancelTask, result: WorkerResult) -> TaskRunFinished:
    """The event that a job ended."""
    return TaskRunFinished(now=result.ended_at, run_id=command.run_id, fence=command.fence, result=result)


def log_entry(live: LiveExecution, command: WriteLog, now: datetime) -> LogEntry:
    """The log line that the machine wants written."""
    task_run = None if command.run_id is None else live.runs.get(command.run_id)
    return LogEntry(
        execution_id=live.execution.id,
        date=now,
        level=command.level,
        message=command.message,
        task_id=None if task_run is None else task_run.task_id,
        task_run_id=command.run_id,
        attempt=0 if task_run is None else max(0, len(task_run.attempts) - 1),
    )


def _kept_children(live: LiveExecution, command: RunTask) -> tuple[TaskRun, ...]:
    """For a WorkingDirectory, its children's rows of earlier jobs, in the order of its tasks."""
    if not isinstance(command.task, DirectoryTask):
        return ()
    kept = {live.runs[run_id].task_id: live.runs[run_id] for run_id in live.directory_runs.get(command.run_id, ())}
    return tuple(kept[task.id] for task in command.task.tasks if task.id in kept)


Surroundings = Mapping[str, object]
"""Variables from outside executions, such as `envs`."""
