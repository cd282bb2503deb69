"""Task: what every task shares. Plain values; what a task does is in `plugins/`."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

Dynamic = Annotated[str, msgspec.Meta(extra={"dynamic": True})]
"""Text that may hold `{{ … }}` and is rendered when the task runs."""


class LogLevel(StrEnum):
    """How serious a log line is, mildest first."""

    TRACE = "TRACE"
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


LEVEL_RANK: dict[LogLevel, int] = {level: rank for rank, level in enumerate(LogLevel)}


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Anything that is written as a YAML mapping: `snake_case` here, `camelCase` there."""

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


class Retry(Part, frozen=True, kw_only=True):
    """How a failed task run is tried again.

    Attributes:
        interval: constant, exponential: wait after the first failed attempt.
        max_attempts: tries in all, the first included; None is no limit.
        max_duration: no further try starts later than this after the first one started; None is no limit.
    """

    type: Literal["constant", "exponential", "random"] = "constant"
    interval: timedelta | None = None
    max_interval: timedelta | None = None
    delay_factor: float = 2.0
    min_interval: timedelta | None = None
    max_attempts: int | None = None
    max_attempt: int | None = None
    max_duration: timedelta | None = None
    warning_on_retry: bool = False
    behavior: Literal["RETRY_FAILED_TASK", "CREATE_NEW_EXECUTION"] = "RETRY_FAILED_TASK"

    @property
    def attempts(self) -> int | None:
        """Tries in all, under either spelling; None is no limit."""
        return self.max_attempts if self.max_attempts is not None else self.max_attempt


class WorkerGroup(Part, frozen=True, kw_only=True):
    """Which workers may run a task: those started with this key."""

    key: str
    fallback: Literal["WAIT", "FAIL", "CANCEL"] = "WAIT"


class Task(Part, frozen=True, kw_only=True):
    """One step of a flow.

    Attributes:
        run_if: rendered just before dispatch; falsy skips the task.
        timeout: per attempt; a duration, or a template that renders to one.
    """

    plugin_type: ClassVar[str] = ""
    """Canonical type name, set by `@plugin`."""

    id: str
    type: str
    description: str | None = None
    disabled: bool = False
    run_if: Dynamic | None = None
    timeout: Dynamic | None = None
    retry: Retry | None = None
    allow_failure: bool = False
    allow_warning: bool = False
    worker_group: WorkerGroup | None = None
    log_level: LogLevel | None = None
    log_to_file: bool = False

    def children(self) -> Sequence["Task"]:
        """Every task written inside this one, in all its branches, in reading order."""
        return ()
