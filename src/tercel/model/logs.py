"""LogEntry and Metric: what a task run says while it runs, and a trigger before it starts one."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec

from tercel.model.task import LogLevel


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One log line, secrets already masked.

    Attributes:
        date: when it was recorded, aware UTC.
        task_run_id: None for lines about the execution itself.
        attempt: zero-based attempt of the task run.
        trigger_id: of the trigger that said it before it started the execution.
    """

    execution_id: str
    date: datetime
    level: LogLevel
    message: str
    task_id: str | None = None
    task_run_id: str | None = None
    attempt: int = 0
    trigger_id: str | None = None


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One measured value of one attempt of a task run; *value* is milliseconds for a timer."""

    execution_id: str
    task_id: str
    task_run_id: str
    attempt: int = 0
    type: Literal["counter", "timer", "gauge"]
    name: str
    value: float
    date: datetime
    tags: Mapping[str, str] = {}
