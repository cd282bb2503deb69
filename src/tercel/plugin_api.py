"""What a plugin imports, and all it may reach: bases of tasks and polling triggers, the run context, task runners.

A plugin knows nothing of stores, workers or settings; whatever it needs of them comes through `RunContext`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal, NamedTuple, Protocol, cast

from tercel.errors import (
    ExpressionError,
    MissingToolError,
    NotFoundError,
    TaskFailedError,
    TaskKilledError,
    TaskTimeoutError,
    TercelError,
    UserError,
)
from tercel.expression import is_truthy_text
from tercel.model.catalog import plugin
from tercel.model.condition import Condition, ConditionContext
from tercel.model.duration import parse_duration
from tercel.model.flow_text import with_property
from tercel.model.jobs import ExecutionUpdate
from tercel.model.logs import LogEntry
from tercel.model.state import State
from tercel.model.task import Dynamic, DynamicDuration, Labels, LogLevel, Part, Problem, Task
from tercel.model.trigger import TimedTrigger
from tercel.model.working_directory import NamespaceFiles

__all__ = [
    "NEVER_HANDED_DOWN",
    "Command",
    "Condition",
    "ConditionContext",
    "Dynamic",
    "DynamicDuration",
    "EngineCalls",
    "ExecutionUpdate",
    "ExpressionError",
    "FlowChange",
    "FlowSource",
    "KeyValues",
    "Labels",
    "LogEntry",
    "LogLevel",
    "MetricType",
    "MissingToolError",
    "NamespaceFiles",
    "NamespaceFolder",
    "NotFoundError",
    "OnOutput",
    "Outputs",
    "Part",
    "PollContext",
    "PollingTrigger",
    "Problem",
    "PurgeResult",
    "Resource",
    "RunContext",
    "RunnableTask",
    "State",
    "Task",
    "TaskFailedError",
    "TaskKilledError",
    "TaskLogger",
    "TaskRunner",
    "TaskTimeoutError",
    "TercelError",
    "UserError",
    "handed_down",
    "is_on",
    "is_truthy_text",
    "parse_duration",
    "plugin",
    "whole_number",
    "with_property",
]

MetricType = Literal["counter", "timer", "gauge"]

OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]
"""Gets blocks of bytes of a stream of a command as they come, cut anywhere."""


class Outputs(dict[str, object]):
    """What a task gives back, by output name.

    Attributes:
        warned: set it to end in WARNING instead of SUCCESS.
        execution_update: what the task changes in its own execution.
    """

    __slots__ = ("execution_update", "warned")

    def __init__(self, values: Mapping[str, object] | None = None, /, **named: object) -> None:
        super().__init__(values or {}, **named)
        self.warned: bool = False
        self.execution_update: ExecutionUpdate | None = None


class KeyValues(Protocol):
    """The key-value pairs of namespaces; each call is done when it returns, and safe from any thread."""

    def find(self, namespace: str, key: str) -> object | None:
        """The value, with its type; None where there is none or it has expired."""
        ...

    def keys(self, namespace: str, prefix: str = "") -> list[str]:
        """The keys that begin with *prefix*, sorted; expired ones are left out."""
        ...

    def set(
        self, namespace: str, key: str, value: object, *, ttl: timedelta | None = None, overwrite: bool = True
    ) -> bool:
        """Store a value, for *ttl* or for good; False where there is one and *overwrite* is not wanted."""
        ...

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; False where there is none."""
        ...

    def change(self, namespace: str, key: str, change: Callable[[object | None], object | None]) -> object | None:
        """Replace a value by what *change* makes of it, None removing it; nobody else changes it meanwhile.

        Returns:
            The new value.
        """
        ...


class PurgeResult(NamedTuple):
    """How many of each were removed."""

    executions: int
    logs: int
    metrics: int
    files: int


class FlowSource(NamedTuple):
    """A flow's text.

    Attributes:
        revision: None where it is not saved.
    """

    namespace: str
    id: str
    revision: int | None
    source: str


class FlowChange(NamedTuple):
    """What became of a flow.

    Attributes:
        revision: the latest one; None where nothing was changed and there is none.
    """

    namespace: str
    id: str
    kind: Literal["CREATED", "UPDATED", "UNCHANGED", "DELETED"]
    revision: int | None


class EngineCalls(Protocol):
    """What a task may ask about executions, logs, flows and triggers. Each call waits; none for inline tasks.

    Instants are aware. Errors are UserError, with a sentence.
    """

    def kill(self, execution_id: str, *, cascade: bool = True) -> None:
        """Ask an execution to end, and with *cascade* those that it started."""
        ...

    def resume(self, execution_id: str, inputs: Mapping[str, object]) -> None:
        """Have a paused execution go on; *inputs* are those that its Pause asks for."""
        ...

    def count(
        self,
        *,
        flows: Sequence[tuple[str, str]] = (),
        namespaces: Sequence[str] = (),
        states: Collection[State] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[tuple[str, str, int]]:
        """Namespace, flow and how many executions it has, for each of *flows*, or each flow of *namespaces*.

        A flow without an execution counts zero; *start* and *end* bound when the execution started.
        """
        ...

    def purge_executions(
        self,
        *,
        namespace: str | None,
        flow_id: str | None,
        states: Collection[State],
        start: datetime | None,
        end: datetime,
        executions: bool = True,
        logs: bool = True,
        metrics: bool = True,
        files: bool = True,
    ) -> PurgeResult:
        """Remove executions that ended, in batches; *namespace* without *flow_id* means those below it, too."""
        ...

    def logs(
        self, execution_id: str, *, task_ids: Collection[str] = (), min_level: LogLevel = LogLevel.TRACE
    ) -> Iterator[LogEntry]:
        """The log of an execution, all written so far, in order; of some tasks only where *task_ids* names them."""
        ...

    def subflow_outputs(self, execution_id: str, task_run_id: str) -> Iterator[Mapping[str, object]]:
        """The outputs of the executions that a task run started, in the order of their start."""
        ...

    def execution_flow(self, execution_id: str) -> tuple[str, str]:
        """Namespace and flow of an execution."""
        ...

    def purge_logs(
        self,
        *,
        namespace: str | None,
        flow_id: str | None,
        levels: Collection[LogLevel],
        start: datetime | None,
        end: datetime,
    ) -> int:
        """Remove log lines; gives how many. *namespace* as in `purge_executions`; no *levels* are all."""
        ...

    def set_trigger_disabled(self, namespace: str, flow_id: str, trigger_id: str, *, disabled: bool) -> None:
        """Disable or enable a trigger."""
        ...

    def saved_flows(self, namespace: str, *, with_children: bool = False) -> list[FlowSource]:
        """The latest revisions of the flows of a namespace, *with_children* of those below it, too; sorted."""
        ...

    def read_flow(self, source: str) -> FlowSource:
        """The flow that a text holds, checked as if it were to be saved.

        Raises InvalidFlowError with every issue.
        """
        ...

    def change_flows(
        self, sources: Sequence[str], *, delete: Sequence[tuple[str, str]] = (), dry_run: bool = False
    ) -> list[FlowChange]:
        """Save the flows that texts hold, and delete others; with *dry_run* only say what would change.

        Args:
            sources: all of them are checked before anything is changed; one that is the same gets no new revision.
            delete: namespaces and ids; those that are not there are passed over.
            dry_run: change nothing.

        Returns:
            What became of each, in the order of *sources* and then of *delete*.

        Raises:
            InvalidFlowError: one is not valid, or in two texts; nothing was changed.
        """
        ...


class NamespaceFolder(Protocol):
    """The files of one namespace, with versions; paths are relative to its root."""

    def list(self, patterns: Sequence[str] = ()) -> list[str]:
        """The paths of the files that globs match as those of `namespaceFiles` do, of all without any; sorted."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; the caller closes it."""
        ...

    def is_executable(self, path: str) -> bool:
        """Whether a file may be executed. Raises NotFoundError."""
        ...

    def put(self, path: str, content: BinaryIO, *, executable: bool = False) -> str:
        """Write a file, as its next version where it is there already; gives its URI."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; older versions are kept."""
        ...


class TaskLogger(Protocol):
    """A task's log. Lines are masked, filtered by the task's `logLevel` and stored in batches."""

    def log(self, level: LogLevel, message: str) -> None:
        """Record one entry; line breaks inside stay."""
        ...

    def log_lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        """Record one entry for each of *lines*, in order; blocks while the log cannot keep up."""
        ...

    def trace(self, message: str) -> None:
        """Record one entry at TRACE."""
        ...

    def debug(self, message: str) -> None:
        """Record one entry at DEBUG."""
        ...

    def info(self, message: str) -> None:
        """Record one entry at INFO."""
        ...

    def warn(self, message: str) -> None:
        """Record one entry at WARN."""
        ...

    def error(self, message: str) -> None:
        """Record one entry at ERROR."""
        ...


class Resource(Protocol):
    """Something to be closed."""

    def close(self) -> None:
        """Let go of it; never raises."""
        ...


class RunContext(Protocol):
    """All a task may reach while it runs, on one worker, in one attempt."""

    @property
    def working_directory(self) -> Path:
        """The task's own folder, absolute; made (mode 0700) when first asked for, shared inside a WorkingDirectory."""
        ...

    @property
    def is_shared(self) -> bool:
        """True inside a WorkingDirectory: the folder holds what came before and outlives the task."""
        ...

    @property
    def engine_directory(self) -> Path:
        """A private folder beside the working directory for files that no glob of the user may see."""
        ...

    @property
    def output_directory(self) -> Path:
        """A private folder beside both for files that the task makes; it may be removed before the task ends."""
        ...

    @property
    def staged(self) -> frozenset[str]:
        """Relative paths that the engine itself put into the working directory: input and namespace files, cache."""
        ...

    @property
    def restored(self) -> frozenset[str]:
        """Those of `staged` that came from a cache, and that neither an input nor a namespace file has replaced."""
        ...

    @property
    def logger(self) -> TaskLogger:
        """The task's log."""
        ...

    @property
    def variables(self) -> Mapping[str, object]:
        """What expressions see: `flow`, `execution`, `taskrun`, `inputs`, `outputs` and so on."""
        ...

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        """Render a text; *extra* variables win over the context's. Raises ExpressionError."""
        ...

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        """Render every text inside maps and lists, keys included; other values stay."""
        ...

    def render_typed(self, template: str, extra: Mapping[str, object] | None = None) -> object:
        """Render a text that is one expression to its value, with its type; any other to text."""
        ...

    def render_list(self, value: object, extra: Mapping[str, object] | None = None) -> list[str]:
        """The texts of a list, rendered; a text is rendered to a list as JSON, or to one element. No blank ones."""
        ...

    def open_file(self, uri: str) -> BinaryIO:
        """Open a file of internal storage (`kestra:///…`, `nsfile:///…`) for reading; the caller closes it."""
        ...

    def fetch_file(self, uri: str, target: Path) -> None:
        """Copy a file of internal storage to *target*, which must not exist; never held in memory."""
        ...

    def save_file(self, path: Path, name: str) -> str:
        """Copy a local file into internal storage as *name* (a relative path) of this task run; gives its URI."""
        ...

    def save_stream(self, stream: BinaryIO, name: str) -> str:
        """Store what *stream* yields as *name* of this task run; gives its URI."""
        ...

    def file_size(self, uri: str) -> int:
        """The bytes of a file of internal storage. Raises NotFoundError."""
        ...

    def delete_file(self, uri: str) -> bool:
        """Remove a file of internal storage; False where there is none.

        Raises TaskFailedError for one that belongs neither to this execution nor to its namespace.
        """
        ...

    def list_execution_files(self) -> list[str]:
        """The URIs of all files that this execution has in internal storage, sorted."""
        ...

    def namespace_folder(self, namespace: str) -> NamespaceFolder:
        """The files of a namespace."""
        ...

    @property
    def key_values(self) -> KeyValues:
        """The key-value pairs of namespaces."""
        ...

    @property
    def engine(self) -> EngineCalls:
        """What of the engine a task may ask for."""
        ...

    def write_input_files(self, files: object, extra: Mapping[str, object] | None = None) -> None:
        """Write `inputFiles` (a map, or a text rendering to one) into the working directory."""
        ...

    def write_namespace_files(self, files: NamespaceFiles) -> None:
        """Put namespace files into the working directory."""
        ...

    def capture(self, patterns: object, extra: Mapping[str, object] | None = None) -> dict[str, str]:
        """Store the files that globs (a list, or a text rendering to one) match; relative path to URI, sorted."""
        ...

    def capture_directory(self, directory: Path) -> dict[str, str]:
        """Store every regular file below *directory*; path relative to it to URI, sorted."""
        ...

    def each_file(self, patterns: object, take: Callable[[str, BinaryIO], None]) -> None:
        """Hand the files of the working directory that globs match, by relative path and open, to *take*; sorted."""
        ...

    def metric(
        self, name: str, value: float, type: MetricType = "counter", tags: Mapping[str, str] | None = None
    ) -> None:
        """Record a metric; timers in seconds. Same name, type and tags add up (a gauge keeps the last)."""
        ...

    def add_secret(self, value: str) -> None:
        """Mask *value*, and its usual encodings, in every later log line of this task run."""
        ...

    def mask(self, text: str) -> str:
        """*text* with every secret known to this task run masked."""
        ...

    def stop_if_killed(self) -> None:
        """Raise TaskKilledError or TaskTimeoutError if the task has to end."""
        ...

    def stopping(self, stop: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, a kill or timeout calls *stop*, at once and from another thread."""
        ...

    def contained(self) -> AbstractContextManager[None]:
        """While the block runs, processes that this thread starts see of tercel's files only those of this task."""
        ...

    def outside_path(self, path: Path) -> Path | None:
        """Where other processes of this machine, such as a container engine, see *path*; None where they do not.

        Of the working directory and the folders beside it.
        """
        ...

    @property
    def resources(self) -> MutableMapping[object, Resource]:
        """What lives as long as the working directory, by any key; it is closed before the directory is removed."""
        ...

    def note_leftover(self, runner_type: str, note: Mapping[str, str]) -> Callable[[], None]:
        """Have *note* given to `TaskRunner.remove_leftover` of *runner_type* should this process die.

        To be called before what it is about is made; gives what forgets the note, for when that is gone.
        """
        ...

    def setting(self, name: str, default: object = None) -> object:
        """A setting of the worker, such as `script.warning-on-std-err`."""
        ...

    def read_task(self, text: str) -> Task:
        """The task that a YAML text describes; without an `id` it gets this task's. Raises InvalidFlowError."""
        ...

    def task_runner(self, type_name: str) -> "TaskRunner":
        """The task runner of that type with nothing set, for tasks that name none; TaskFailedError where none is."""
        ...


def is_on(context: RunContext, value: bool | str | None) -> bool:
    """A flag, or a text that renders to one: an empty text, `false`, `0`, `-0` and `null` are off, in any case."""
    if not isinstance(value, str):
        return bool(value)
    text = context.render(value).strip().lower()
    return is_truthy_text(text) and text != "null"


def whole_number(context: RunContext, value: int | str, name: str, *, least: int = 0) -> int:
    """A number, or a text that renders to one.

    Args:
        context: of the task.
        value: what the property holds.
        name: of the property, for the message.
        least: what it has to be, at least; not below zero.

    Raises:
        TaskFailedError: it is none, or less.
    """
    text = context.render(str(value)).strip()
    if not (text.isascii() and text.isdecimal()) or len(text) > _MOST_DIGITS or int(text) < least:
        raise TaskFailedError(f"{name} is {text[:80]!r}, which is not a whole number of {least} or more.")
    return int(text)


_MOST_DIGITS = 18
"""Of numbers that fit into 64 bits."""


class RunnableTask(Task, frozen=True, kw_only=True):
    """A task that does work on a worker."""

    is_inline: ClassVar[bool] = False
    """True where `run` only renders and logs: then whoever applies the event runs it, with no hop to a worker."""

    updates_execution: ClassVar[bool] = False
    """True for tasks that change the execution itself (Labels, SetVariables); not allowed in a WorkingDirectory."""

    def works_outside(self, settings: Mapping[str, object]) -> bool:
        """Whether others than this process's own children have to see the working directory, as container engines."""
        return False

    def run(self, context: RunContext) -> Outputs:
        """Do the work, in a thread of its own.

        Raises:
            TaskFailedError: the task failed, retries apply; its outputs are kept.
            TaskKilledError: the execution is being killed.
        """
        raise NotImplementedError


class PollContext(RunContext, Protocol):
    """All a polling trigger may reach while it is evaluated, and it is evaluated on one worker at a time.

    Files that it saves belong to the execution that it is going to start; where it starts none they are removed.
    """

    @property
    def memory(self) -> MutableMapping[str, object]:
        """What the trigger keeps from one evaluation to the next: JSON values, by any key.

        It is written in the transaction that starts the execution, so both are there or neither is. Of an evaluation
        that fails nothing is kept.
        """
        ...


class PollingTrigger(TimedTrigger, frozen=True, kw_only=True):
    """A trigger that a worker asks again and again whether there is something to start an execution for.

    Each thing leads to one execution, whatever crashes, where the trigger keeps in its memory what it has taken and
    changes nothing outside before that is written: `evaluate` looks, and `settle` changes.

    Attributes:
        interval: from the end of one evaluation to the next one.
    """

    settles: ClassVar[bool] = False
    """True where `settle` has something to do."""

    interval: timedelta = timedelta(minutes=1)

    def problems(self) -> Iterator[Problem]:
        """What all triggers check, and an interval that is none."""
        yield from super().problems()
        if self.interval <= timedelta(0):
            message = "'interval' is not longer than nothing."
            yield Problem(message, "Write a duration such as PT1M.", "trigger.interval", ("interval",))

    def evaluate(self, context: PollContext) -> Mapping[str, object] | None:
        """What the execution to start sees as `trigger`; None to start none. It may be asked twice for one thing.

        Raises:
            TercelError: it cannot be said now; the trigger is asked again after its interval.
        """
        raise NotImplementedError

    def settle(self, context: PollContext) -> None:
        """Do to the outside what is to be done once the execution is there, such as moving away what it was given.

        What that is the memory says. After a crash it is called again, and after an error with each interval until it
        succeeds; before that the trigger is not evaluated.
        """


class Command(Part, frozen=True, kw_only=True):
    """What a task runner starts.

    Attributes:
        argv: program and arguments; secrets may be in it, so it is never logged unmasked.
        env: set on top of what the task runner itself hands down.
        directory: working directory, absolute; the command sees it under `visible_directory`.
        input_paths: files the command line names, which a container has to be given.
        shared_paths: folders outside of this task's own that the command reads, too.
        image: container image to run in, where the task runner names none.
        keeps_entry_point: the image's own entry point gets *argv* as its arguments.
        returns_files: False where nobody looks at what the command leaves in *directory*.
        facts: what the task runner tells of the run, such as `containerId`; it puts them there meanwhile.
    """

    argv: list[str]
    env: dict[str, str]
    directory: Path
    input_paths: list[Path] = []
    shared_paths: list[Path] = []
    image: str = ""
    keeps_entry_point: bool = False
    returns_files: bool = True
    facts: dict[str, str] = {}


def handed_down(names: object, environment: Mapping[str, str]) -> dict[str, str]:
    """What of the worker's *environment* scripts get because a setting names it; never what is for Tercel alone.

    Args:
        names: the setting `script.environment`: a list, or a text with commas or blanks between them.
        environment: such as `os.environ`.
    """
    if isinstance(names, str):
        names = names.replace(",", " ").split()
    return {
        name: environment[name]
        for name in cast("Iterable[str]", names or ())
        if name in environment and not name.startswith(NEVER_HANDED_DOWN)
    }


NEVER_HANDED_DOWN = ("SECRET_", "KESTRA_", "TERCEL_")
"""How the names of variables begin that scripts never inherit."""


class TaskRunner(Part, frozen=True, kw_only=True):
    """Where a script's commands run: Process or Docker."""

    family: ClassVar[str] = "task runner"

    is_container: ClassVar[bool] = False
    """True where commands run in an image's own file system."""

    type: str

    def run(
        self,
        command: Command,
        context: RunContext,
        on_output: OnOutput,
    ) -> int:
        """Run *command* to its end and give its exit code, 128 + signal where a signal ended it.

        *on_output* gets blocks of bytes as they come, cut anywhere, one call at a time for each stream but both
        streams side by side. Kill and timeout end the command and all its descendants, and raise.
        """
        raise NotImplementedError

    def environment_id(self, image: str, context: RunContext) -> str:
        """What tells what is installed there where commands run from what is elsewhere; "" for this machine.

        Args:
            image: as `Command.image`.
            context: of the task.
        """
        return ""

    @classmethod
    def remove_leftover(cls, note: Mapping[str, str]) -> None:
        """Remove what a process that died has left, by what `RunContext.note_leftover` was told.

        Raises:
            Exception: it cannot be removed now; it is tried again later.
        """

    def visible_directory(self, directory: Path) -> str:
        """The path under which the command sees *directory*."""
        return str(directory)
