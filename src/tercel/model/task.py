"""Task: what every task shares. Plain values; what a task does is in `plugins/`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

Dynamic = Annotated[str, msgspec.Meta(extra={"dynamic": True})]
"""Text that may hold `{{ … }}` and is rendered when the task runs."""

DynamicDuration = Annotated[str, msgspec.Meta(extra={"dynamic": True, "format": "duration"})]
"""A duration such as PT15M, or text that renders to one when the task runs."""

Labels = Annotated[dict[str, str], msgspec.Meta(extra={"labels": True})]
"""Labels by key; written as a mapping or as a list of `key` and `value`."""

Internal = msgspec.Meta(extra={"internal": True})
"""Marks a field that no YAML sets."""

Raw = msgspec.Meta(extra={"raw": True})
"""Marks an `object` whose scalar keeps its source text, because another property says how to read it."""

_ID_HINT = "Use letters, digits, '-' and '_', with a letter or digit first."

TaskId = Annotated[
    str, msgspec.Meta(pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$", extra={"code": "task.id", "hint": _ID_HINT})
]
"""Id of a task."""


class LogLevel(StrEnum):
    """How serious a log line is, mildest first."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


LEVEL_RANK: dict[LogLevel, int] = {level: rank for rank, level in enumerate(LogLevel)}


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Anything that is written as a YAML mapping: `snake_case` here, `camelCase` there.

    A class that names a `family` and is not announced by `@plugin` is only a base: where a property is annotated
    with it, the mapping's `type` says, through the catalog, which class it is.
    """

    plugin_type: ClassVar[str] = ""
    """Canonical type name, set by `@plugin`; empty for parts that are no plugin."""

    plugin_aliases: ClassVar[tuple[str, ...]] = ()
    """Former type names, set by `@plugin`."""

    family: ClassVar[str] = ""
    """What people call plugins of this base: "task", "task runner", "trigger"."""

    former_names: ClassVar[Mapping[str, str]] = {}
    """Former YAML name of a property to its present one; used where the present one is absent."""

    not_yet: ClassVar[frozenset[str]] = frozenset()
    """Properties that Kestra has and tercel does not support yet."""

    deprecated: ClassVar[Mapping[str, str]] = {}
    """YAML name of a property that still works to a sentence on what to use instead; `type` means the whole type."""

    without_effect: ClassVar[Mapping[str, str]] = {}
    """YAML name of a property that is accepted but does nothing yet, to a sentence on what to do instead."""

    def problems(self) -> Iterator["Problem"]:
        """Violations that only the whole mapping shows, such as two properties that exclude each other."""
        return iter(())


class Problem(msgspec.Struct, frozen=True):
    """A violation found by a part itself.

    Attributes:
        code: our name for it, such as `workingDirectory.tasks.empty`; empty where the spec names none.
        message: what is wrong, with the value.
        hint: what to do.
        path: keys and indexes from the part to the spot, such as `("cache", "patterns", 0)`.
    """

    message: str
    hint: str = ""
    code: str = ""
    path: tuple[str | int, ...] = ()


Attempts = Annotated[int, msgspec.Meta(ge=1, extra={"code": "retry.maxAttempt"})]
"""How many tries, the first included."""


class Retry(Part, frozen=True, kw_only=True):
    """How a failed task run is tried again.

    Attributes:
        type: how the waits between tries grow.
        interval: constant, exponential: wait after the first failed attempt.
        max_interval: exponential, random: longest wait.
        delay_factor: exponential: what each wait is multiplied by to give the next.
        min_interval: random: shortest wait.
        max_attempts: tries in all, the first included; without it there is no limit.
        max_attempt: former name of `maxAttempts`.
        max_duration: no further try starts later than this after the first one started; without it there is no limit.
        warning_on_retry: a success that took more than one try ends in WARNING.
        behavior: try the task again, or the whole flow in a new execution.
    """

    type: Literal["constant", "exponential", "random"] = "constant"
    interval: timedelta | None = None
    max_interval: timedelta | None = None
    delay_factor: float = 2.0
    min_interval: timedelta | None = None
    max_attempts: Attempts | None = None
    max_attempt: Attempts | None = None
    max_duration: timedelta | None = None
    warning_on_retry: bool = False
    behavior: Literal["RETRY_FAILED_TASK", "CREATE_NEW_EXECUTION"] = "RETRY_FAILED_TASK"

    @property
    def attempts(self) -> int | None:
        """Tries in all, under either spelling; None is no limit."""
        return self.max_attempts if self.max_attempts is not None else self.max_attempt

    def problems(self) -> Iterator[Problem]:
        """What each type needs, and waits that leave no room for a second try."""
        code = f"retry.{self.type}"
        for name, value in self._waits():
            if value is None:
                yield Problem(
                    f"A retry of type {self.type} needs '{name}'.", f"Add '{name}', such as PT30S.", code, (name,)
                )
            elif value <= timedelta(0):
                yield Problem(f"'{name}' is not longer than nothing.", "Write a duration such as PT30S.", code, (name,))
        for shorter, longer in _ORDERS[self.type]:
            below, above = getattr(self, _ATTRIBUTES[shorter]), getattr(self, _ATTRIBUTES[longer])
            if below is not None and above is not None and above <= below:
                yield Problem(
                    f"'{longer}' is not longer than '{shorter}'.", f"Make '{longer}' longer.", code, (longer,)
                )

    def _waits(self) -> Iterator[tuple[str, timedelta | None]]:
        match self.type:
            case "constant":
                yield "interval", self.interval
            case "exponential":
                yield "interval", self.interval
                yield "maxInterval", self.max_interval
            case "random":
                yield "minInterval", self.min_interval
                yield "maxInterval", self.max_interval


_ATTRIBUTES = {
    "interval": "interval",
    "minInterval": "min_interval",
    "maxInterval": "max_interval",
    "maxDuration": "max_duration",
}
_ORDERS: dict[str, tuple[tuple[str, str], ...]] = {
    "constant": (("interval", "maxDuration"),),
    "exponential": (("interval", "maxDuration"), ("interval", "maxInterval")),
    "random": (("minInterval", "maxDuration"), ("maxInterval", "maxDuration"), ("minInterval", "maxInterval")),
}


class WorkerGroup(Part, frozen=True, kw_only=True):
    """Which workers may run a task: those started with this key.

    Attributes:
        key: the key of the worker group.
        fallback: what happens while no worker of the group is there.
    """

    key: Annotated[
        str, msgspec.Meta(pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$", extra={"code": "workerGroup.key", "hint": _ID_HINT})
    ]
    fallback: Literal["WAIT", "FAIL", "CANCEL"] = "WAIT"


class Task(Part, frozen=True, kw_only=True):
    """One step of a flow.

    Attributes:
        id: name of the task, its own in the whole flow.
        type: full name of the task's type.
        description: for readers, in Markdown.
        disabled: the task is treated as if it were not there.
        run_if: rendered just before the task would start; falsy skips it.
        timeout: longest time an attempt may take; a duration, or an expression that gives one.
        retry: how the task is tried again when it fails.
        allow_failure: a failure becomes a warning, and the flow goes on.
        allow_warning: a warning becomes a success.
        worker_group: which workers may run the task.
        log_level: least level that is kept of the task's log.
        log_to_file: the log goes to a file in internal storage.
    """

    family: ClassVar[str] = "task"
    without_effect: ClassVar[Mapping[str, str]] = {"logToFile": "Read the log with `tercel execution logs`."}

    id: TaskId
    type: str
    description: str | None = None
    disabled: bool = False
    run_if: Dynamic | None = None
    timeout: DynamicDuration | None = None
    retry: Retry | None = None
    allow_failure: bool = False
    allow_warning: bool = False
    worker_group: WorkerGroup | None = None
    log_level: LogLevel | None = None
    log_to_file: bool = False

    def children(self) -> Sequence["Task"]:
        """Every task written inside this one, in all its branches, in reading order."""
        return ()
