"""Flow: what the user wrote, read and checked."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

import msgspec

from tercel.model.condition import Condition
from tercel.model.input_types import Input, InputType
from tercel.model.inputs import input_problems, repeated_ids
from tercel.model.labels import READ_ONLY, label_problems
from tercel.model.task import Dynamic, Internal, Labels, Part, Problem, Retry, Task
from tercel.model.trigger import Trigger

__all__ = ["Concurrency", "Flow", "FlowOutput", "Input", "Listener", "PluginDefault", "Sla", "by_id"]


class PluginDefault(Part, frozen=True, kw_only=True):
    """Property values for every task and task runner of a type.

    Attributes:
        type: full name of a type, or the beginning of several.
        values: property values; a property that the task sets itself keeps its own.
        forced: the values win over the task's own.
    """

    type: str
    values: Annotated[dict[str, object], msgspec.Meta(extra={"code": "pluginDefault.values"})]
    forced: bool = False

    def problems(self) -> Iterator[Problem]:
        """A default without a value says nothing."""
        for name, value in self.values.items():
            if value is None:
                message = f"The default of '{name}' has no value."
                yield Problem(message, "Give it one, or remove it.", "pluginDefault.values", ("values", name))


class Concurrency(Part, frozen=True, kw_only=True):
    """How many executions of the flow may run at once, and what happens to the next.

    Attributes:
        limit: executions at once.
        behavior: the next one waits, is cancelled or fails.
    """

    limit: Annotated[int, msgspec.Meta(gt=0, extra={"code": "concurrency.limit"})]
    behavior: Literal["QUEUE", "CANCEL", "FAIL"] = "QUEUE"


class FlowOutput(Part, frozen=True, kw_only=True):
    """A value the flow gives back when it ends.

    Attributes:
        id: name of the output.
        type: what the rendered value is read as.
        value: rendered when the flow ends.
        description: for readers, in Markdown.
        display_name: what a page shows in place of the id.
    """

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9._-]*$",
            extra={"code": "output.id", "hint": "Use letters, digits, '.', '-' and '_', with a letter or digit first."},
        ),
    ]
    type: InputType
    value: object
    description: str | None = None
    display_name: str | None = None


class Sla(Part, frozen=True, kw_only=True):
    """What has to hold for every execution, and what happens when it does not.

    Attributes:
        id: its name, its own in the flow.
        type: a longest duration, or an expression that must always be true.
        duration: MAX_DURATION: how long an execution may take.
        assertion: EXECUTION_ASSERTION: rendered with every change; falsy breaks it.
        behavior: the execution fails, is cancelled, or goes on.
        labels: given to an execution that breaks it.
    """

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
            extra={"code": "sla.id", "hint": "Use letters, digits, '-' and '_', with a letter or digit first."},
        ),
    ]
    type: Literal["MAX_DURATION", "EXECUTION_ASSERTION"]
    duration: timedelta | None = None
    assertion: Dynamic | None = msgspec.field(default=None, name="assert")
    behavior: Literal["FAIL", "CANCEL", "NONE"]
    labels: Labels = {}

    def problems(self) -> Iterator[Problem]:
        """What the type lacks, what belongs to the other one, and labels that are reserved."""
        is_timed = self.type == "MAX_DURATION"
        for name, value, is_own, example in (
            ("duration", self.duration, is_timed, "PT1H"),
            ("assert", self.assertion, not is_timed, '"{{ outputs.count.value > 0 }}"'),
        ):
            if is_own and value is None:
                message = f"An SLA of type {self.type} needs '{name}'."
                yield Problem(message, f"Add '{name}', such as {example}.", "property.missing", (name,))
            elif not is_own and value is not None:
                message = f"An SLA of type {self.type} has no property '{name}'."
                yield Problem(message, "Remove it, or change the type.", "property.unknown", (name,))
        if is_timed and self.duration is not None and self.duration <= timedelta(0):
            message = "'duration' is not longer than nothing."
            yield Problem(message, "Write a duration such as PT1H.", "sla.duration", ("duration",))
        yield from label_problems(self.labels)


class Listener(Part, frozen=True, kw_only=True):
    """Tasks that run after an execution's end, if it ended so.

    Attributes:
        description: for readers, in Markdown.
        conditions: all have to hold; without any the tasks always run.
        tasks: run one after the other.
    """

    description: str | None = None
    conditions: list[Condition] = []
    tasks: Annotated[
        list[Task],
        msgspec.Meta(min_length=1, extra={"code": "listener.tasks.empty", "hint": "Give the listener a task."}),
    ]


class Flow(Part, frozen=True, kw_only=True):
    """A flow, after plugin defaults.

    Attributes:
        id: name of the flow, its own in the namespace.
        namespace: where the flow belongs; dots make levels.
        revision: given by tercel with each change; ignored when written.
        description: for readers, in Markdown.
        labels: given to every execution.
        inputs: what the flow asks for at its start.
        variables: free values, seen as `vars`; not rendered by themselves.
        tasks: what the flow does, one after the other.
        errors: run when a task failed.
        finally_: run at the end, whatever happened before.
        after_execution: run after the execution has its last state.
        outputs: what the flow gives back when it ends.
        triggers: what starts the flow by itself.
        plugin_defaults: property values for all tasks of a type.
        concurrency: how many executions may run at once.
        sla: what has to hold for every execution.
        listeners: older form of `afterExecution`, with conditions.
        retry: how a task that says nothing itself is tried again.
        disabled: the flow cannot be started.
        deleted: set by tercel when the flow is deleted.
        tenant_id: not used.
        source: the YAML text it was read from.
    """

    former_names: ClassVar[Mapping[str, str]] = {"taskDefaults": "pluginDefaults"}
    deprecated: ClassVar[Mapping[str, str]] = {
        "listeners": "Use `afterExecution`, or another flow with a Flow trigger."
    }

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9._-]*$",
            max_length=100,
            extra={"code": "flow.id", "hint": "Use letters, digits, '.', '-' and '_', with a letter or digit first."},
        ),
    ]
    namespace: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-z0-9][a-z0-9._-]*$",
            max_length=150,
            extra={
                "code": "flow.namespace",
                "hint": "Use lower-case letters, digits, '.', '-' and '_', with a letter or digit first.",
            },
        ),
    ]
    revision: Annotated[int, msgspec.Meta(ge=1)] = 1
    description: str | None = None
    labels: Labels = {}
    inputs: list[Input] = []
    variables: dict[str, object] = {}
    tasks: Annotated[
        list[Task],
        msgspec.Meta(min_length=1, extra={"code": "flow.tasks.empty", "hint": "Give the flow at least one task."}),
    ]
    errors: list[Task] = []
    finally_: list[Task] = msgspec.field(default_factory=list[Task], name="finally")
    after_execution: list[Task] = []
    outputs: list[FlowOutput] = []
    triggers: list[Trigger] = []
    plugin_defaults: list[PluginDefault] = []
    concurrency: Concurrency | None = None
    sla: list[Sla] = []
    listeners: list[Listener] = []
    retry: Retry | None = None
    disabled: bool = False
    deleted: bool = False
    tenant_id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]*$", extra={"code": "flow.tenantId"})] | None = (
        None
    )
    source: Annotated[str, Internal] = ""

    def problems(self) -> Iterator[Problem]:
        """Labels that are reserved, ids used twice, inputs that depend on each other."""
        yield from label_problems(self.labels, allowed=(READ_ONLY,))
        yield from input_problems(self.inputs)
        yield from repeated_ids("output", "outputs", [one.id for one in self.outputs])
        yield from repeated_ids("sla", "sla", [one.id for one in self.sla])

    def walk(self) -> Iterator[Task]:
        """Every task of the flow, in all branches, parents before children."""
        listening = [task for listener in self.listeners for task in listener.tasks]
        pending = [*self.tasks, *self.errors, *self.finally_, *self.after_execution, *listening][::-1]
        while pending:
            task = pending.pop()
            yield task
            pending.extend(reversed(task.children()))


def by_id(flow: Flow) -> Mapping[str, Task]:
    """Every task of the flow by its id."""
    return {task.id: task for task in flow.walk()}
