"""What can be asked of logs and metrics over all executions, and what is found."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from tercel.model.logs import LogEntry, Metric
from tercel.model.task import LogLevel


class FoundLine(msgspec.Struct, frozen=True):
    """A log line, with the flow of its execution."""

    entry: LogEntry
    namespace: str
    flow_id: str


LogOrder = Literal["timestamp", "level", "namespace", "flowId"]
"""What log lines can be ordered by."""


class LogSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which log lines to find, of all executions; each condition narrows it further.

    Attributes:
        execution_ids: of these executions; None for all.
        namespace: of executions in it; None for all.
        with_children: those in namespaces below it are meant, too.
        flow_id: of executions of flows with this id; None for all.
        min_level: this level or above.
        start: only lines at or after it, aware.
        end: only lines at or before it, aware.
        text: the message has it, in any case, or the id of the namespace, flow, execution or task; None for any.
        test: what is left to say of a line, when the conditions above hold; every line is read then. None for nothing.
        order: what to order by, the most important first, and whether the greatest comes first.
        skipped: lines before the page.
        limit: lines of the page.
    """

    execution_ids: Collection[str] | None = None
    namespace: str | None = None
    with_children: bool = False
    flow_id: str | None = None
    min_level: LogLevel = LogLevel.TRACE
    start: datetime | None = None
    end: datetime | None = None
    text: str | None = None
    test: Callable[[FoundLine], bool] | None = None
    order: Sequence[tuple[LogOrder, bool]] = (("timestamp", True),)
    skipped: int = 0
    limit: int = 25


class FoundLines(msgspec.Struct, frozen=True):
    """A page of log lines, and how many there are in all."""

    lines: list[FoundLine]
    total: int


MetricOrder = Literal["taskId", "taskRunId", "name", "type", "value", "timestamp"]
"""What metrics can be ordered by."""


class MetricQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which metrics of an execution to find.

    Attributes:
        task_run_id: of this task run; None for all.
        task_id: of this task; None for all.
        order: what to order by, the most important first, and whether the greatest comes first; then by writing.
        skipped: metrics before the page.
        limit: metrics of the page.
    """

    execution_id: str
    task_run_id: str | None = None
    task_id: str | None = None
    order: Sequence[tuple[MetricOrder, bool]] = ()
    skipped: int = 0
    limit: int = 25


class FoundMetrics(msgspec.Struct, frozen=True):
    """A page of metrics, and how many there are in all."""

    metrics: list[Metric]
    total: int


class MetricSums(msgspec.Struct, frozen=True, kw_only=True):
    """Which metrics of a flow's executions to add up.

    Attributes:
        task_id: of this task; None for all.
        start: only those at or after it, aware.
        end: only those at or before it, aware.
        span_us: those of one span of time, counted from 1970, are added up; in microseconds.
    """

    namespace: str
    flow_id: str
    name: str
    task_id: str | None = None
    start: datetime
    end: datetime
    span_us: int


class MetricSum(msgspec.Struct, frozen=True):
    """What the metrics of one span of time come to.

    Attributes:
        start: of the span, aware UTC.
        count: how many there are, at least one.
        total: their sum; in seconds for timers, as are *least* and *most*.
    """

    start: datetime
    count: int
    total: float
    least: float
    most: float
