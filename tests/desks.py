"""Desk: what people do with flows and executions, and how tests look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from textwrap import dedent
from typing import Any

from tercel.model import Execution, State, TaskRun
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.store import ExecutionQuery
from tests.homes import Home, Ran, until

RETURN = "io.kestra.plugin.core.debug.Return"
PAUSED_FLOW = """
    tasks:
      - {id: wait, type: io.kestra.plugin.core.flow.Pause}
      - {id: after, type: io.kestra.plugin.core.debug.Return, format: done}
"""
ENDLESS = "{id: endless, type: io.kestra.plugin.core.flow.Sleep, duration: PT1H}"
ASKING_FLOW = """
    tasks:
      - id: approval
        type: io.kestra.plugin.core.flow.Pause
        onResume:
          - {id: reason, type: STRING}
          - {id: count, type: INT, defaults: 3}
      - id: show
        type: io.kestra.plugin.core.debug.Return
        format: "{{ outputs.approval.onResume.reason }} {{ outputs.approval.onResume.count + 1 }}"
"""
HOUR = timedelta(hours=1)


def a_flow(body: str, id: str = "main", namespace: str = "company.team") -> str:
    """The YAML of a flow: its id, its namespace, and all else as it is written."""
    return f"id: {id}\nnamespace: {namespace}\n{dedent(body)}"


class Desk:
    """What people do with flows and executions; the only place that knows how it is called."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def save(self, text: str) -> Any:
        """Save a flow; gives it with its revision."""
        engine = self.home.engine
        return engine.call(engine.operations.save_flow(text, read_flow(text, catalog())))

    def start(self, text: str, inputs: Mapping[str, object] | None = None, **how: Any) -> str:
        """Save a flow and start it; gives the execution's id."""
        flow = self.save(text)
        engine = self.home.engine
        return engine.call(engine.operations.start(flow, inputs, **how)).id

    def run(self, text: str, inputs: Mapping[str, object] | None = None, **how: Any) -> Ran:
        """Save a flow, start it and wait for its end."""
        return self.wait(self.start(text, inputs, **how))

    def wait(self, execution_id: str) -> Ran:
        """Wait for an execution's end, and for what follows it; not for ever."""
        until(lambda: not self.execution(execution_id).is_open)
        return self.ran(execution_id)

    def ran(self, execution_id: str) -> Ran:
        """What there is of an execution now."""
        return self.home.ran(execution_id)

    def execution(self, execution_id: str) -> Execution:
        engine = self.home.engine
        return engine.call(engine.queries.get_execution(execution_id))

    def state(self, execution_id: str) -> State:
        return self.execution(execution_id).state

    def until_state(self, execution_id: str, *expected: str) -> Ran:
        """Wait until an execution is in one of these states."""
        until(lambda: self.state(execution_id) in expected)
        return self.ran(execution_id)

    def until_task_state(self, execution_id: str, task_id: str, state: str) -> Ran:
        """Wait until a task of an execution is in a state."""
        until(lambda: states(self.ran(execution_id)).get(task_id) == state)
        return self.ran(execution_id)

    def executions(self, flow_id: str, namespace: str = "company.team") -> list[Execution]:
        """Those of a flow, oldest first."""
        engine = self.home.engine
        query = ExecutionQuery(namespace=namespace, flow_id=flow_id, limit=100)
        return engine.call(engine.queries.search_executions(query))[::-1]

    def only(self, flow_id: str) -> Ran:
        """The only execution of a flow, at its end."""
        [found] = self.executions(flow_id)
        return self.wait(found.id)

    # What people do to executions

    def _do(self, verb: str, *arguments: Any, **named: Any) -> Any:
        engine = self.home.engine
        return engine.call(getattr(engine.operations, verb)(*arguments, **named))

    def kill(self, execution_id: str, **how: Any) -> None:
        self._do("kill", execution_id, **how)

    def pause(self, execution_id: str) -> None:
        self._do("pause", execution_id)

    def resume(self, execution_id: str, inputs: Mapping[str, object] | None = None) -> None:
        self._do("resume", execution_id, inputs or {})

    def restart(self, execution_id: str, **how: Any) -> Execution:
        return self._do("restart", execution_id, **how)

    def replay(self, execution_id: str, **how: Any) -> Execution:
        """Gives the new execution."""
        return self._do("replay", execution_id, **how)

    def force_run(self, execution_id: str) -> None:
        self._do("force_run", execution_id)

    def set_labels(self, execution_id: str, labels: Mapping[str, str]) -> None:
        self._do("set_labels", execution_id, labels)

    def change_status(self, execution_id: str, state: State) -> None:
        self._do("change_status", execution_id, state)

    def change_task_state(self, execution_id: str, task_run_id: str, state: State) -> None:
        self._do("change_task_state", execution_id, task_run_id, state)

    def delete(self, execution_id: str) -> None:
        self._do("delete_execution", execution_id)

    def delete_flow(self, flow_id: str, namespace: str = "company.team") -> None:
        self._do("delete_flow", namespace, flow_id)


def states(ran: Ran) -> dict[str, str]:
    """Task id to the state of its latest run."""
    return {run.task_id: run.state.value for run in ran.runs}


def order(ran: Ran) -> list[str]:
    """Ids of the tasks in the order in which they began."""
    return [run.task_id for run in sorted(ran.runs, key=lambda run: run.history[0].date)]


def history(of: Execution | TaskRun | Ran) -> list[str]:
    changes = of.execution.history if isinstance(of, Ran) else of.history
    return [change.state.value for change in changes]


def value(ran: Ran, task_id: str) -> object:
    """What a Return gave back."""
    return ran.run_of(task_id).outputs["value"]


def runs_of(ran: Ran, task_id: str) -> list[TaskRun]:
    return [run for run in ran.runs if run.task_id == task_id]


def began(run: TaskRun) -> datetime:
    """When it was first running."""
    return next(change.date for change in run.history if change.state is State.RUNNING)


def ended(run: TaskRun) -> datetime:
    return run.history[-1].date


def at_once(runs: Sequence[TaskRun]) -> int:
    """How many of these ran at the same time, at most."""
    return max(sum(began(other) <= began(run) < ended(other) for other in runs) for run in runs)


def messages(ran: Ran, level: str) -> list[str]:
    return [entry.message for entry in ran.logs if entry.level == level]
