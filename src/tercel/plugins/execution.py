"""Tasks about executions: what becomes of the own one, and asking for, resuming, killing and removing others.

What changes the own execution goes out as an ExecutionUpdate. Others are reached through the engine, which a task
has to wait for: such a task never runs inline.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal, cast

from tercel.plugin_api import (
    Dynamic,
    ExecutionUpdate,
    ExpressionError,
    Outputs,
    Part,
    Problem,
    RunContext,
    RunnableTask,
    State,
    TaskFailedError,
    is_truthy_text,
    plugin,
)

_ZONE_NAME = re.compile(r"\[[^\]]*\]$")
_LONGEST_QUOTE = 100


@plugin("io.kestra.plugin.core.execution.Fail", aliases=["io.kestra.core.tasks.executions.Fail"])
class Fail(RunnableTask, frozen=True, kw_only=True):
    """Fail, always or when a condition holds.

    Attributes:
        condition: fails unless it renders to an empty text, `false`, `0` or `-0`; without one, always.
        error_message: what is said then.

    Example:
        tasks:
          - id: count
            type: io.kestra.plugin.core.debug.Return
            format: "12"
          - id: too_few
            type: io.kestra.plugin.core.execution.Fail
            condition: "{{ outputs.count.value | number < 10 }}"
            errorMessage: "Only {{ outputs.count.value }} rows came."
    """

    is_inline = True

    condition: Dynamic | bool | None = None
    error_message: Dynamic = "Task failure"

    def run(self, context: RunContext) -> Outputs:
        """Look at the condition."""
        if self.condition is None or _is_true(context, self.condition):
            raise TaskFailedError(context.render(self.error_message))
        return Outputs()


@plugin("io.kestra.plugin.core.execution.Assert")
class Assert(RunnableTask, frozen=True, kw_only=True):
    """Fail unless all conditions hold; each that does not is named in the log.

    Attributes:
        conditions: each holds unless it renders to an empty text, `false`, `0` or `-0`, or cannot be rendered.
        error_message: what is said when one does not hold; without it, how many do not.

    Example:
        tasks:
          - id: count
            type: io.kestra.plugin.core.debug.Return
            format: "12"
          - id: check
            type: io.kestra.plugin.core.execution.Assert
            conditions:
              - "{{ outputs.count.value | number >= 10 }}"
              - "{{ outputs.count.value | number < 1000 }}"
            errorMessage: "{{ outputs.count.value }} rows are too few or too many."
    """

    is_inline = True

    conditions: list[Dynamic]
    error_message: Dynamic | None = None

    def run(self, context: RunContext) -> Outputs:
        """Look at every condition."""
        complaints = [complaint for condition in self.conditions if (complaint := _complaint(context, condition))]
        for complaint in complaints:
            context.logger.error(complaint)
        context.metric("success", len(self.conditions) - len(complaints))
        context.metric("failed", len(complaints))
        if complaints:
            said = f"{len(complaints)} of {len(self.conditions)} conditions do not hold."
            raise TaskFailedError(said if self.error_message is None else context.render(self.error_message))
        return Outputs()


def _complaint(context: RunContext, condition: str) -> str:
    """Why a condition does not hold; empty where it does."""
    try:
        return "" if _is_true(context, condition) else f"The condition {condition} does not hold."
    except ExpressionError as error:
        return f"The condition {condition} cannot be rendered: {error}"


_ENDS: Mapping[str, State] = {
    "SUCCESS": State.SUCCESS,
    "WARNING": State.WARNING,
    "KILLED": State.KILLED,
    "FAILED": State.FAILED,
    "CANCELED": State.CANCELLED,
}


@plugin("io.kestra.plugin.core.execution.Exit")
class Exit(RunnableTask, frozen=True, kw_only=True):
    """End the execution at once, in a state of your choice; what still runs is killed.

    Attributes:
        state: the state that the execution ends in; an expression may give it, too.

    Example:
        tasks:
          - id: anything_new
            type: io.kestra.plugin.core.flow.If
            condition: "{{ vars.rows is defined }}"
            then:
              - id: work
                type: io.kestra.plugin.core.log.Log
                message: "{{ vars.rows }} rows to load."
            else:
              - id: nothing
                type: io.kestra.plugin.core.execution.Exit
                state: SUCCESS
    """

    is_inline = True
    updates_execution = True

    state: Literal["SUCCESS", "WARNING", "KILLED", "FAILED", "CANCELED"] | Dynamic = "SUCCESS"

    def problems(self) -> Iterator[Problem]:
        """A text that is neither a state nor an expression."""
        if self.state not in _ENDS and "{" not in self.state:
            yield Problem(_no_end(self.state), _END_HINT, path=("state",))

    def run(self, context: RunContext) -> Outputs:
        """Say how the execution ends."""
        name = context.render(self.state).strip()
        if name not in _ENDS:
            raise TaskFailedError(_no_end(name), _END_HINT)
        return _updating(ExecutionUpdate(ends_as=_ENDS[name]))


def _no_end(name: str) -> str:
    return f"{_quoted(name)} is no state that an execution can be made to end in."


_END_HINT = f"Write one of {', '.join(_ENDS)}."


class Label(Part, frozen=True, kw_only=True):
    """One label of the list form."""

    key: Dynamic
    value: Dynamic


@plugin("io.kestra.plugin.core.execution.Labels", aliases=["io.kestra.core.tasks.executions.Labels"])
class Labels(RunnableTask, frozen=True, kw_only=True):
    """Give labels to the execution; one that is there already gets the new value.

    Attributes:
        labels: a mapping, a list of `key` and `value`, or an expression that gives either as JSON.

    Example:
        tasks:
          - id: mark
            type: io.kestra.plugin.core.execution.Labels
            labels:
              team: sales
              day: "{{ execution.startDate | date('yyyy-MM-dd') }}"
    """

    is_inline = True
    updates_execution = True

    labels: dict[str, Dynamic] | list[Label] | Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Render the labels."""
        labels: dict[str, str] = {}
        for key, value in self._pairs(context):
            if key.startswith("system."):
                raise TaskFailedError(f"The label {key} is tercel's own.", "Choose a key that does not begin so.")
            labels[key] = value
        return _updating(ExecutionUpdate(labels=labels))

    def _pairs(self, context: RunContext) -> Iterator[tuple[str, str]]:
        match self.labels:
            case str(text):
                yield from _label_pairs(_decoded(context, "labels", text))
            case dict(labels):
                yield from ((context.render(key), context.render(value)) for key, value in labels.items())
            case list(labels):
                yield from ((context.render(label.key), context.render(label.value)) for label in labels)


def _label_pairs(labels: object) -> Iterator[tuple[str, str]]:
    """The labels of a decoded text; numbers are as they were written."""
    if isinstance(labels, dict):
        pairs = list(cast("dict[str, object]", labels).items())
    elif isinstance(labels, list):
        pairs = [_pair(label) for label in cast("list[object]", labels)]
    else:
        raise TaskFailedError("`labels` renders to neither a map nor a list.", _LABELS_HINT)
    for key, value in pairs:
        if isinstance(value, bool):
            yield key, str(value).lower()
        elif isinstance(value, str | int | float):
            yield key, str(value)
        else:
            raise TaskFailedError(f"The value of the label {key!r} is {_kind(value)}.", "Labels have text values.")


def _pair(label: object) -> tuple[str, object]:
    fields = cast("dict[str, object]", label) if isinstance(label, dict) else {}
    key = fields.get("key")
    if not isinstance(key, str) or fields.keys() != {"key", "value"}:
        raise TaskFailedError("An item of `labels` is no map of `key` and `value`.", _LABELS_HINT)
    return key, fields["value"]


_LABELS_HINT = 'Have it give JSON such as {"team": "sales"}.'


@plugin("io.kestra.plugin.core.execution.SetVariables")
class SetVariables(RunnableTask, frozen=True, kw_only=True):
    """Set variables of the execution, which later tasks see under `vars`.

    Attributes:
        variables: merged into those that there are, maps deeply; or an expression that gives a map as JSON.
        overwrite: false fails when one of the variables is there already.

    Example:
        tasks:
          - id: remember
            type: io.kestra.plugin.core.execution.SetVariables
            variables:
              region: eu
              bucket: "{{ flow.namespace }}-reports"
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ vars.bucket }} in {{ vars.region }}"
    """

    is_inline = True
    updates_execution = True

    variables: dict[str, object] | Dynamic
    overwrite: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Render the variables."""
        variables = _rendered_map(context, "variables", self.variables)
        known = _variables(context)
        there = [name for name in variables if name in known]
        if there and not _is_true(context, self.overwrite):
            raise TaskFailedError(
                f"There {_are(there)} already, and `overwrite` is false.", "Choose other names, or set `overwrite`."
            )
        return _updating(ExecutionUpdate(variables=variables))


@plugin("io.kestra.plugin.core.execution.UnsetVariables")
class UnsetVariables(RunnableTask, frozen=True, kw_only=True):
    """Remove variables of the execution.

    Attributes:
        variables: their names; or an expression that gives a list as JSON.
        ignore_missing: false fails when one of them is not there.

    Example:
        tasks:
          - id: remember
            type: io.kestra.plugin.core.execution.SetVariables
            variables:
              token: "{{ flow.id }}-1"
          - id: forget
            type: io.kestra.plugin.core.execution.UnsetVariables
            variables:
              - token
            ignoreMissing: true
    """

    is_inline = True
    updates_execution = True

    variables: list[Dynamic] | Dynamic
    ignore_missing: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Render the names."""
        names = self._names(context)
        known = _variables(context)
        missing = [name for name in names if name not in known]
        if missing and not _is_true(context, self.ignore_missing):
            raise TaskFailedError(
                f"There {_are(missing, none=True)}.", "Set `ignoreMissing` if it does not matter whether it is there."
            )
        return _updating(ExecutionUpdate(unset=tuple(names)))

    def _names(self, context: RunContext) -> list[str]:
        if not isinstance(self.variables, str):
            return [context.render(name) for name in self.variables]
        found = _decoded(context, "variables", self.variables)
        names = cast("list[object]", found) if isinstance(found, list) else []
        if not isinstance(found, list) or not all(isinstance(name, str) for name in names):
            raise TaskFailedError("`variables` renders to no list of names.", 'Have it give JSON such as ["total"].')
        return cast("list[str]", names)


def _variables(context: RunContext) -> Mapping[str, object]:
    return cast("Mapping[str, object]", context.variables.get("vars", {}))


def _are(names: list[str], *, none: bool = False) -> str:
    listed = ", ".join(map(repr, names))
    if len(names) == 1:
        return f"is {'no' if none else 'a'} variable {listed}"
    return f"are {'no ' if none else ''}variables {listed}"


def _updating(update: ExecutionUpdate) -> Outputs:
    outputs = Outputs()
    outputs.execution_update = update
    return outputs


class CountedFlow(Part, frozen=True, kw_only=True):
    """A flow whose executions are counted."""

    namespace: Dynamic
    flow_id: Dynamic


@plugin("io.kestra.plugin.core.execution.Count", aliases=["io.kestra.core.tasks.executions.Counts"])
class Count(RunnableTask, frozen=True, kw_only=True):
    """Count executions of flows, to find those that ran too often or not at all.

    Attributes:
        flows: the flows whose executions are counted.
        namespaces: count those of each flow in these namespaces.
        states: count only executions in one of these states; without any, all.
        start_date: count only what started at this instant or later; such as 2030-01-31T12:00:00Z.
        end_date: count only what started at this instant or earlier.
        expression: a flow is kept when it renders to `true`; sees the number as `count`.

    Outputs:
        results: `namespace`, `flowId` and `count` of each flow that is kept.
        total: the sum of their counts.

    Example:
        tasks:
          - id: failures
            type: io.kestra.plugin.core.execution.Count
            flows:
              - namespace: company.team
                flowId: load_orders
            states:
              - FAILED
            startDate: "{{ now() | dateAdd(-1, 'DAYS') }}"
            expression: "{{ count >= 3 }}"
          - id: tell
            type: io.kestra.plugin.core.log.Log
            runIf: "{{ outputs.failures.total > 0 }}"
            message: "It failed {{ outputs.failures.total }} times since yesterday."
    """

    flows: list[CountedFlow] = []
    namespaces: list[Dynamic] = []
    states: list[State] = []
    start_date: datetime | Dynamic | None = None
    end_date: datetime | Dynamic | None = None
    expression: Dynamic

    def problems(self) -> Iterator[Problem]:
        """Nothing to count."""
        if not self.flows and not self.namespaces:
            yield Problem("Nothing says which executions are counted.", "Add 'flows' or 'namespaces'.")

    def run(self, context: RunContext) -> Outputs:
        """Ask the engine, and keep what the expression wants."""
        counted = context.engine.count(
            flows=[(context.render(flow.namespace), context.render(flow.flow_id)) for flow in self.flows],
            namespaces=[context.render(namespace) for namespace in self.namespaces],
            states=self.states,
            start=_optional_instant(context, "startDate", self.start_date),
            end=_optional_instant(context, "endDate", self.end_date),
        )
        results = [
            {"namespace": namespace, "flowId": flow_id, "count": count}
            for namespace, flow_id, count in counted
            if context.render(self.expression, {"count": count}).strip() == "true"
        ]
        return Outputs(results=results, total=sum(cast("int", result["count"]) for result in results))


@plugin("io.kestra.plugin.core.execution.Resume")
class Resume(RunnableTask, frozen=True, kw_only=True):
    """Have a paused execution go on.

    Attributes:
        execution_id: of the paused execution; without it, the one that this task runs in.
        namespace: of its flow; given together with `flowId`, the execution must be one of that flow.
        flow_id: of its flow.
        inputs: what the Pause asks for in its `onResume`; or an expression that gives a map as JSON.

    Example:
        tasks:
          - id: side_by_side
            type: io.kestra.plugin.core.flow.Parallel
            tasks:
              - id: wait
                type: io.kestra.plugin.core.flow.Pause
                onResume:
                  - id: approved
                    type: BOOL
              - id: answer
                type: io.kestra.plugin.core.execution.Resume
                executionId: "{{ execution.id }}"
                inputs:
                  approved: true
                retry:
                  type: constant
                  interval: PT0.5S
                  maxAttempts: 5
    """

    execution_id: Dynamic | None = None
    namespace: Dynamic | None = None
    flow_id: Dynamic | None = None
    inputs: dict[str, object] | Dynamic = {}

    def problems(self) -> Iterator[Problem]:
        """A flow that is named by half, or without an execution."""
        if (self.namespace is None) != (self.flow_id is None):
            given, other = ("namespace", "flowId") if self.flow_id is None else ("flowId", "namespace")
            yield Problem(f"'{given}' is given without '{other}'.", "Give both or neither.", path=(given,))
        elif self.flow_id is not None and self.execution_id is None:
            yield Problem(
                "A flow is named, but no execution of it.", "Add 'executionId', or remove both.", path=("flowId",)
            )

    def run(self, context: RunContext) -> Outputs:
        """Find the execution and resume it."""
        execution_id = context.render(self.execution_id or "{{ execution.id }}")
        if self.namespace is not None and self.flow_id is not None:
            wanted = context.render(self.namespace), context.render(self.flow_id)
            found = context.engine.execution_flow(execution_id)
            if found != wanted:
                raise TaskFailedError(
                    f"The execution {execution_id} is one of the flow {'.'.join(found)}, not of {'.'.join(wanted)}."
                )
        context.engine.resume(execution_id, _rendered_map(context, "inputs", self.inputs))
        return Outputs()


@plugin("io.kestra.plugin.core.execution.Kill")
class Kill(RunnableTask, frozen=True, kw_only=True):
    """Ask an execution to end; it is killed soon after.

    Attributes:
        execution_id: of the execution.
        propagate_killing: executions that it started as subflows are killed, too.

    Example:
        tasks:
          - id: start
            type: io.kestra.plugin.core.flow.Subflow
            namespace: company.team
            flowId: wait_for_approval
            wait: false
          - id: stop
            type: io.kestra.plugin.core.execution.Kill
            executionId: "{{ outputs.start.executionId }}"
    """

    execution_id: Dynamic
    propagate_killing: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Ask for it."""
        cascade = _is_true(context, self.propagate_killing)
        context.engine.kill(context.render(self.execution_id), cascade=cascade)
        return Outputs()


@plugin(
    "io.kestra.plugin.core.execution.PurgeExecutions",
    aliases=["io.kestra.core.tasks.storages.Purge", "io.kestra.plugin.core.storage.Purge"],
)
class PurgeExecutions(RunnableTask, frozen=True, kw_only=True):
    """Remove executions that ended, with their logs, metrics and files.

    Attributes:
        namespace: only executions of flows in this namespace, and without `flowId` in those below it; without it, all.
        flow_id: only executions of this flow of the namespace.
        start_date: only what started at this instant or later; such as 2030-01-31T12:00:00Z.
        end_date: only what started before this instant.
        states: only executions that ended in one of these states; without any, all that ended.
        purge_execution: remove the executions themselves.
        purge_log: remove their logs.
        purge_metric: remove their metrics.
        purge_storage: remove their files in internal storage.

    Outputs:
        executionsCount: how many executions were removed.
        logsCount: how many lines of their logs.
        metricsCount: how many of their metrics.
        storagesCount: how many of their files.

    Example:
        tasks:
          - id: purge
            type: io.kestra.plugin.core.execution.PurgeExecutions
            namespace: company.team
            endDate: "{{ now() | dateAdd(-30, 'DAYS') }}"
            states:
              - SUCCESS
              - WARNING
    """

    namespace: Dynamic | None = None
    flow_id: Dynamic | None = None
    start_date: datetime | Dynamic | None = None
    end_date: datetime | Dynamic
    states: list[State] = []
    purge_execution: bool | Dynamic = True
    purge_log: bool | Dynamic = True
    purge_metric: bool | Dynamic = True
    purge_storage: bool | Dynamic = True

    def problems(self) -> Iterator[Problem]:
        """A flow without its namespace."""
        if self.flow_id is not None and self.namespace is None:
            yield Problem("'flowId' is given without 'namespace'.", "Add the flow's namespace.", path=("flowId",))

    def run(self, context: RunContext) -> Outputs:
        """Have the engine remove them."""
        removed = context.engine.purge_executions(
            namespace=None if self.namespace is None else context.render(self.namespace),
            flow_id=None if self.flow_id is None else context.render(self.flow_id),
            states=self.states or [state for state in State if state.is_terminal],
            start=_optional_instant(context, "startDate", self.start_date),
            end=_instant(context, "endDate", self.end_date),
            executions=_is_true(context, self.purge_execution),
            logs=_is_true(context, self.purge_log),
            metrics=_is_true(context, self.purge_metric),
            files=_is_true(context, self.purge_storage),
        )
        return Outputs(
            executionsCount=removed.executions,
            logsCount=removed.logs,
            metricsCount=removed.metrics,
            storagesCount=removed.files,
        )


def _is_true(context: RunContext, value: bool | str) -> bool:
    return is_truthy_text(context.render(value)) if isinstance(value, str) else value


def _rendered_map(context: RunContext, name: str, value: Mapping[str, object] | str) -> dict[str, object]:
    rendered = _decoded(context, name, value) if isinstance(value, str) else context.render_value(value)
    if not isinstance(rendered, dict):
        raise TaskFailedError(f"`{name}` renders to {_kind(rendered)}.", "Have it give a map as JSON.")
    return cast("dict[str, object]", rendered)


def _decoded(context: RunContext, name: str, text: str) -> object:
    rendered = context.render(text)
    try:
        return json.loads(rendered)
    except ValueError as error:
        raise TaskFailedError(f"`{name}` renders to {_quoted(rendered)}, which is no JSON: {error}.") from error


def _optional_instant(context: RunContext, name: str, value: datetime | str | None) -> datetime | None:
    return None if value is None else _instant(context, name, value)


def _instant(context: RunContext, name: str, value: datetime | str) -> datetime:
    if isinstance(value, datetime):
        return value
    text = context.render(value).strip()
    try:
        instant = datetime.fromisoformat(_ZONE_NAME.sub("", text))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise TaskFailedError(
            f"`{name}` renders to {_quoted(text)}, which is no instant.", "Write it like 2030-01-31T12:00:00Z."
        )
    return instant


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case list():
            return "a list"
        case dict():
            return "a map"
        case _:
            return _quoted(str(value))


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…")
