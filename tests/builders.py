"""Values for tests; each builder sets only what the test is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tercel.model import Execution, State, StateChange, TaskRun

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_history(*states: str, start: datetime = NOON, step_s: float = 1.0) -> tuple[StateChange, ...]:
    """States one after the other, *step_s* apart."""
    return tuple(StateChange(State(state), start + timedelta(seconds=step_s * at)) for at, state in enumerate(states))


def a_task_run(task_id: str = "task", *states: str, **properties: Any) -> TaskRun:
    values: dict[str, Any] = {"id": f"run-{task_id}", "execution_id": "execution", "task_id": task_id}
    return TaskRun(**(values | {"history": a_history(*(states or ("CREATED",)))} | properties))


def an_execution(*states: str, **properties: Any) -> Execution:
    values: dict[str, Any] = {"id": "execution", "namespace": "tests", "flow_id": "flow", "revision": 1}
    return Execution(**(values | {"history": a_history(*(states or ("CREATED",)))} | properties))
