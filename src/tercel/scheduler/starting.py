"""What starting an execution by a trigger takes: rendering before there is an execution, and who creates it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import Protocol, cast

from tercel.errors import UserError
from tercel.expression import render, render_object
from tercel.machine.step import Functions
from tercel.model.execution import Execution
from tercel.model.flow import Flow
from tercel.model.labels import execution_labels
from tercel.model.state import State, StateChange
from tercel.model.trigger import Trigger
from tercel.store import Promise, Transaction

Warn = Callable[[Flow, str, str], object]
"""Is told, for people, what went wrong with a trigger of a flow: the flow, the trigger's id, a sentence or two."""


class PreparesExecutions(Protocol):
    """Makes the rows of executions that somebody else saves; the operations do."""

    def prepare(
        self,
        flow: Flow,
        inputs: Mapping[str, object],
        *,
        execution_id: str,
        labels: Mapping[str, str] | None = None,
        trigger: Mapping[str, object] | None = None,
        schedule_date: datetime | None = None,
    ) -> Execution:
        """A new execution in CREATED, its inputs resolved.

        Args:
            flow: with its revision.
            inputs: by id; text or typed values.
            execution_id: the id that it gets.
            labels: on top of the flow's.
            trigger: `id`, `type` and `variables`.
            schedule_date: what it was planned for.

        Raises:
            UserError: the inputs do not fit, or the flow is disabled.
        """
        ...


class StartsExecutions(PreparesExecutions, Protocol):
    """Makes and saves executions."""

    def save(self, execution: Execution, with_writes: Callable[[Transaction], None]) -> Promise[None]:
        """Save a new execution in one transaction with further writes: all or nothing of it is kept.

        One in CREATED is started; one that has FAILED already is only kept, so that people see it, and those who look
        at executions are told.

        The promise fails, and nothing is kept, with StaleTriggerError where *with_writes* adds a trigger's state that
        somebody else has changed. Other executions that are saved at the same time are not concerned.
        """
        ...


def failed_execution(
    flow: Flow,
    message: str,
    *,
    execution_id: str,
    labels: Mapping[str, str],
    trigger: Mapping[str, object],
    now: datetime,
) -> Execution:
    """An execution that has FAILED before it began; *message* says why, for people."""
    return Execution(
        id=execution_id,
        namespace=flow.namespace,
        flow_id=flow.id,
        revision=flow.revision,
        history=(StateChange(State.CREATED, now), StateChange(State.FAILED, now)),
        labels=execution_labels(flow.labels, labels, execution_id=execution_id),
        trigger=trigger,
        original_id=execution_id,
        message=message,
    )


class Rendering:
    """Renders what triggers hold.

    Args:
        functions: gives the functions (`secret`, `kv`, …) for expressions of a flow's triggers.
        surroundings: variables from outside, such as `envs`.
        zone: name of the time zone of dates where a template names none.
        warn: is told what could not be rendered.
    """

    def __init__(
        self,
        *,
        functions: Callable[[Flow], Functions],
        warn: Warn,
        surroundings: Mapping[str, object] | None = None,
        zone: str = "UTC",
    ) -> None:
        self._functions = functions
        self._surroundings = surroundings or {}
        self._warn = warn
        self._zone = zone

    def variables(self, flow: Flow, trigger: Mapping[str, object]) -> dict[str, object]:
        """What expressions see before there is an execution; *trigger* under that name."""
        return {
            **self._surroundings,
            "flow": {"id": flow.id, "namespace": flow.namespace, "revision": flow.revision},
            "vars": flow.variables,
            "trigger": trigger,
        }

    def text(self, flow: Flow, variables: Mapping[str, object]) -> Callable[[str, Mapping[str, object]], str]:
        """A function that renders a text with *variables* and further ones; it raises ExpressionError."""
        functions = self._functions(flow)

        def rendered(text: str, extra: Mapping[str, object]) -> str:
            seen = {**variables, **extra} if extra else variables
            return cast("str", render(text, seen, functions, clock=monotonic, zone=self._zone))

        return rendered

    def inputs(self, flow: Flow, inputs: Mapping[str, object], variables: Mapping[str, object]) -> dict[str, object]:
        """*inputs* with every text rendered. Raises ExpressionError."""
        rendered = render_object(inputs, variables, self._functions(flow), clock=monotonic, zone=self._zone)
        return cast("dict[str, object]", rendered)

    def labels(self, flow: Flow, trigger: Trigger, variables: Mapping[str, object]) -> dict[str, str]:
        """The labels of a trigger; one that cannot be rendered is left out, and that is told."""
        rendered = self.text(flow, variables)
        labels: dict[str, str] = {}
        for key, value in trigger.labels.items():
            try:
                labels[key] = rendered(value, {})
            except UserError as error:
                self._warn(flow, trigger.id, f"The label '{key}' is left out: {error}")
        return labels
