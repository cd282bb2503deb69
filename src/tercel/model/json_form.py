"""Executions and task runs as the JSON that Kestra's clients know: camelCase, states with their histories."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

from tercel.model.duration import format_duration
from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry, Metric
from tercel.model.state import StateChange

Json = dict[str, object]


def execution_json(execution: Execution, runs: Sequence[TaskRun]) -> Json:
    """An execution with its task runs; absent values are left out."""
    return _present(
        {
            "id": execution.id,
            "namespace": execution.namespace,
            "flowId": execution.flow_id,
            "flowRevision": execution.revision,
            "state": state_json(execution.history),
            "inputs": execution.inputs,
            "outputs": execution.outputs,
            "labels": [{"key": key, "value": value} for key, value in execution.labels.items()],
            "variables": execution.variables or None,
            "trigger": execution.trigger,
            "parentId": execution.parent_id,
            "originalId": execution.original_id or execution.id,
            "taskRunList": [task_run_json(run, execution) for run in runs],
            "metadata": {
                "attemptNumber": execution.attempt_number,
                "originalCreatedDate": instant_text(execution.first_created or execution.history[0].date),
            },
            "scheduleDate": None if execution.schedule_date is None else instant_text(execution.schedule_date),
            "kind": execution.kind,
            "message": execution.message or None,
        }
    )


def task_run_json(run: TaskRun, execution: Execution) -> Json:
    """One task run; absent values are left out."""
    return _present(
        {
            "id": run.id,
            "executionId": run.execution_id,
            "namespace": execution.namespace,
            "flowId": execution.flow_id,
            "taskId": run.task_id,
            "parentTaskRunId": run.parent_id,
            "value": run.value,
            "iteration": run.iteration,
            "attempts": [{"state": state_json(attempt.history)} for attempt in run.attempts],
            "outputs": run.outputs,
            "state": state_json(run.history),
            "message": run.message or None,
        }
    )


def state_json(history: Sequence[StateChange]) -> Json:
    """A state with its history, start, end (None while it goes on) and duration."""
    ended = history[-1].date if history[-1].state.is_terminal else None
    return _present(
        {
            "current": history[-1].state,
            "histories": [{"state": change.state, "date": instant_text(change.date)} for change in history],
            "startDate": instant_text(history[0].date),
            "endDate": None if ended is None else instant_text(ended),
            "duration": format_duration(history[-1].date - history[0].date),
        }
    )


def log_json(entry: LogEntry) -> Json:
    """One log line."""
    return _present(
        {
            "executionId": entry.execution_id,
            "taskId": entry.task_id,
            "taskRunId": entry.task_run_id,
            "attemptNumber": entry.attempt,
            "timestamp": instant_text(entry.date),
            "level": entry.level,
            "message": entry.message,
        }
    )


def metric_json(metric: Metric) -> Json:
    """One metric; a timer's value is in milliseconds."""
    return {
        "executionId": metric.execution_id,
        "taskId": metric.task_id,
        "taskRunId": metric.task_run_id,
        "type": metric.type,
        "name": metric.name,
        "value": metric.value,
        "timestamp": instant_text(metric.date),
        "tags": metric.tags,
    }


def instant_text(date: datetime) -> str:
    """An aware instant in UTC, to the millisecond.

    Example:
        >>> from datetime import UTC
        >>> instant_text(datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))
        '2030-01-02T03:04:05.678Z'
    """
    return date.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_of(history: Sequence[StateChange]) -> timedelta:
    """How long from the first to the last change."""
    return history[-1].date - history[0].date


def stored_files(runs: Iterable[TaskRun]) -> Mapping[str, str]:
    """Every `kestra://` file that outputs name, once: `task.output.path` to URI, in the order of the task runs."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for run in runs:
        name = run.task_id if run.value is None else f"{run.task_id}[{run.value}]"
        pending: list[tuple[str, object]] = [(name, run.outputs)]
        while pending:
            name, value = pending.pop(0)
            if isinstance(value, str) and value.startswith("kestra://"):
                if value not in seen:
                    seen.add(value)
                    found[name] = value
            elif isinstance(value, Mapping):
                members = cast("Mapping[object, object]", value).items()
                pending[:0] = [(f"{name}.{key}", item) for key, item in members]
    return found


def _present(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}
