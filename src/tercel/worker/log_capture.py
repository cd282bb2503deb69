"""A task run's log lines and metrics on their way to the store: masked, filtered, in batches."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol

from tercel.model import LogEntry, LogLevel, Metric
from tercel.model.task import LEVEL_RANK
from tercel.plugin_api import MetricType
from tercel.secrets import Masker
from tercel.worker.timers import Timer, Timers

MAX_MESSAGE = 1 << 20
"""Characters of one message that are kept."""

MAX_ENTRY = 10_240
"""Characters of one entry, as in Kestra: a longer message takes several, each dated a moment after the one before."""

_MOMENT = timedelta(milliseconds=1)

BATCH_ENTRIES = 500
BATCH_CHARACTERS = 1 << 18
FLUSH_S = 0.05
"""A line waits this long for others to travel with."""


class LogSink(Protocol):
    """Where log entries and metrics go. Safe to call from any thread; may block while the store is behind."""

    def write_logs(self, entries: Sequence[LogEntry]) -> None:
        """Take entries over, in this order."""
        ...

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        """Take metrics over."""
        ...


class RunIdentity:
    """Which attempt of which task run it is about; *attempt* counts from zero."""

    __slots__ = ("attempt", "execution_id", "flow_id", "namespace", "task_id", "task_run_id")

    def __init__(
        self, *, execution_id: str, namespace: str, flow_id: str, task_id: str, task_run_id: str, attempt: int
    ) -> None:
        self.execution_id = execution_id
        self.namespace = namespace
        self.flow_id = flow_id
        self.task_id = task_id
        self.task_run_id = task_run_id
        self.attempt = attempt


class TaskLog:
    """The log of one attempt; a `plugin_api.TaskLogger`, safe to use from several threads.

    Args:
        level: the task's `logLevel`: milder entries are dropped; None keeps all.
        flushes: sends waiting lines on while the task is silent; None where the attempt is over in no time.
    """

    __slots__ = (
        "_clock",
        "_flushes",
        "_identity",
        "_lock",
        "_masker",
        "_rank",
        "_sending",
        "_sink",
        "_size",
        "_timer",
        "_waiting",
    )

    def __init__(
        self,
        sink: LogSink,
        identity: RunIdentity,
        masker: Masker,
        clock: Callable[[], datetime],
        *,
        level: LogLevel | None = None,
        flushes: Timers | None = None,
    ) -> None:
        self._sink = sink
        self._identity = identity
        self._masker = masker
        self._clock = clock
        self._rank = 0 if level is None else LEVEL_RANK[level]
        self._flushes = flushes
        self._lock = Lock()
        self._sending = Lock()
        self._waiting: list[LogEntry] = []
        self._size = 0
        self._timer: Timer | None = None

    def log(self, level: LogLevel, message: str) -> None:
        """Record one entry; line breaks inside stay."""
        self.log_lines(level, (message,))

    def log_lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        """Record one entry for each of *lines*, in order; blocks while the store cannot keep up."""
        if LEVEL_RANK[level] < self._rank:
            return
        now = self._clock()
        entries = [
            self._entry(level, now + number * _MOMENT, part)
            for line in lines
            for number, part in enumerate(_parts(self._masker.mask(line)))
        ]
        size = sum(len(entry.message) for entry in entries)
        with self._lock:
            self._waiting.extend(entries)
            self._size += size
            is_full = len(self._waiting) >= BATCH_ENTRIES or self._size >= BATCH_CHARACTERS
            if self._timer is None and self._flushes is not None and not is_full:
                self._timer = self._flushes.after(FLUSH_S, self.flush)
        if is_full:
            self.flush()

    def _entry(self, level: LogLevel, date: datetime, text: str) -> LogEntry:
        it = self._identity
        return LogEntry(
            execution_id=it.execution_id,
            date=date,
            level=level,
            message=text,
            task_id=it.task_id,
            task_run_id=it.task_run_id,
            attempt=it.attempt,
        )

    def flush(self) -> None:
        """Send on what waits."""
        # Taking and sending under one lock keeps the lines of two flushes in order.
        with self._sending:
            with self._lock:
                entries, self._waiting, self._size = self._waiting, [], 0
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            if entries:
                self._sink.write_logs(entries)

    def trace(self, message: str) -> None:
        """Record one entry at TRACE."""
        self.log(LogLevel.TRACE, message)

    def debug(self, message: str) -> None:
        """Record one entry at DEBUG."""
        self.log(LogLevel.DEBUG, message)

    def info(self, message: str) -> None:
        """Record one entry at INFO."""
        self.log(LogLevel.INFO, message)

    def warn(self, message: str) -> None:
        """Record one entry at WARN."""
        self.log(LogLevel.WARN, message)

    def error(self, message: str) -> None:
        """Record one entry at ERROR."""
        self.log(LogLevel.ERROR, message)


class MetricBook:
    """The metrics of one attempt, added up by type, name and tags, published when it ends."""

    __slots__ = ("_lock", "_values")

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[tuple[MetricType, str, tuple[tuple[str, str], ...]], float] = {}

    def add(self, name: str, value: float, type: MetricType, tags: Mapping[str, str] | None) -> None:
        """Record a value; counters and timers (seconds) add up, a gauge keeps the last.

        Raises:
            ValueError: *value* is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"Invalid metric {name!r}: {value} is not a number that can be stored")
        key = (type, name, tuple(sorted((tags or {}).items())))
        with self._lock:
            self._values[key] = value if type == "gauge" else self._values.get(key, 0.0) + value

    def publish(self, sink: LogSink, identity: RunIdentity, clock: Callable[[], datetime]) -> None:
        """Hand everything recorded to *sink*, timers as whole milliseconds."""
        if not self._values:
            return
        with self._lock:
            values, self._values = self._values, {}
        now = clock()
        sink.write_metrics(
            [
                Metric(
                    execution_id=identity.execution_id,
                    task_id=identity.task_id,
                    task_run_id=identity.task_run_id,
                    attempt=identity.attempt,
                    type=type,
                    name=name,
                    # Rounding first: 1.001 s is 1000.999… ms in binary and would lose one to truncation.
                    value=float(math.trunc(round(value * 1000, 6))) if type == "timer" else float(value),
                    date=now,
                    tags=dict(tags),
                )
                for (type, name, tags), value in values.items()
            ]
        )


def _parts(message: str) -> Sequence[str]:
    """A message as its entries."""
    if len(message) <= MAX_ENTRY:
        return (message,)
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}… [{len(message) - MAX_MESSAGE:,} characters cut]"
    return [message[at : at + MAX_ENTRY] for at in range(0, len(message), MAX_ENTRY)]
