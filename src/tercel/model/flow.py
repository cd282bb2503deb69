"""Flow: what the user wrote, read and checked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from tercel.model.input_types import Input, InputType, dependency_problems
from tercel.model.inputs import default_problems
from tercel.model.task import Internal, Labels, Part, Problem, Retry, Task
from tercel.model.trigger import Trigger

__all__ = ["Concurrency", "Flow", "FlowOutput", "Input", "PluginDefault", "by_id"]


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
        retry: how a task that says nothing itself is tried again.
        disabled: the flow cannot be started.
        deleted: set by tercel when the flow is deleted.
        tenant_id: not used.
        source: the YAML text it was read from.
    """

    former_names: ClassVar[Mapping[str, str]] = {"taskDefaults": "pluginDefaults"}
    not_yet: ClassVar[frozenset[str]] = frozenset({"listeners", "sla"})

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
    revision: int = 1
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
    retry: Retry | None = None
    disabled: bool = False
    deleted: bool = False
    tenant_id: str | None = None
    source: Annotated[str, Internal] = ""

    def problems(self) -> Iterator[Problem]:
        """Labels that are reserved, ids used twice, inputs that depend on each other."""
        for key in self.labels:
            if key.startswith("system.") and key != "system.readOnly":
                message = f"The label '{key}' is reserved: tercel itself sets labels that begin with 'system.'."
                yield Problem(message, "Choose another key.", "label.system", ("labels", key))
        yield from _repeated("input", "inputs", [one.id for one in self.inputs])
        yield from _repeated("output", "outputs", [one.id for one in self.outputs])
        yield from dependency_problems(self.inputs)
        for index, one in enumerate(self.inputs):
            for problem in default_problems(one):
                yield msgspec.structs.replace(problem, path=("inputs", index, *problem.path))

    def walk(self) -> Iterator[Task]:
        """Every task of the flow, in all branches, parents before children."""
        pending = [*self.after_execution[::-1], *self.finally_[::-1], *self.errors[::-1], *self.tasks[::-1]]
        while pending:
            task = pending.pop()
            yield task
            pending.extend(reversed(task.children()))


def _repeated(noun: str, name: str, ids: Sequence[str]) -> Iterator[Problem]:
    for index, one in enumerate(ids):
        if one in ids[:index]:
            message = f"The {noun} id '{one}' is used already, by {name}[{ids.index(one)}]."
            yield Problem(message, f"Give every {noun} its own id.", f"{noun}.id.duplicate", (name, index, "id"))


def by_id(flow: Flow) -> Mapping[str, Task]:
    """Every task of the flow by its id."""
    return {task.id: task for task in flow.walk()}
