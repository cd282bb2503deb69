"""The nouns of tercel: pure values, re-exported here."""

from tercel.model.duration import format_duration, parse_duration
from tercel.model.execution import Attempt, Execution, TaskRun, task_run_id
from tercel.model.flow import Flow, Input
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.logs import LogEntry, Metric
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import Dynamic, LogLevel, Part, Problem, Retry, Task, WorkerGroup
from tercel.model.working_directory import Cache, DirectoryTask, NamespaceFiles

__all__ = [
    "TERMINAL",
    "Attempt",
    "Cache",
    "DirectoryTask",
    "Dynamic",
    "Execution",
    "Flow",
    "Input",
    "LogEntry",
    "LogLevel",
    "Metric",
    "NamespaceFiles",
    "Part",
    "Problem",
    "Retry",
    "State",
    "StateChange",
    "Task",
    "TaskRun",
    "WorkerGroup",
    "WorkerJob",
    "WorkerResult",
    "format_duration",
    "parse_duration",
    "task_run_id",
]
