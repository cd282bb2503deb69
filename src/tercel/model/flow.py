"""Flow: what the user wrote, read and checked."""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from tercel.model.task import Part, Retry, Task


class PluginDefault(Part, frozen=True, kw_only=True):
    """Property values for every task whose type is *type* or starts with it; *forced* ones beat the task."""

    type: str
    values: dict[str, object]
    forced: bool = False


class Concurrency(Part, frozen=True, kw_only=True):
    """How many executions of the flow may run at once, and what happens to the next."""

    limit: int
    behavior: Literal["QUEUE", "CANCEL", "FAIL"] = "QUEUE"


class FlowOutput(Part, frozen=True, kw_only=True):
    """A value the flow gives back when it ends; *value* is rendered then."""

    id: str
    type: str
    value: object
    description: str | None = None
    display_name: str | None = None


class DependsOn(Part, frozen=True, kw_only=True):
    """Which inputs, and which condition over them, an input needs in order to be asked for."""

    inputs: list[str] = []
    condition: str | None = None


class Input(Part, frozen=True, kw_only=True):
    """One declared input; which of the optional properties mean something depends on *type* (model/inputs.py)."""

    id: str = ""
    name: str | None = None
    type: str
    description: str | None = None
    display_name: str | None = None
    required: bool = True
    defaults: object = None
    depends_on: DependsOn | None = None
    validator: str | None = None
    values: list[object] | None = None
    options: list[object] | None = None
    expression: str | None = None
    item_type: str | None = None
    allow_custom_value: bool = False
    is_radio: bool = False
    min: object = None
    max: object = None
    after: object = None
    before: object = None
    extension: str | None = None


class Flow(Part, frozen=True, kw_only=True):
    """A flow, after plugin defaults.

    Attributes:
        variables: free values, seen as `vars`; not rendered by themselves.
        source: the YAML text it was read from.
    """

    id: str
    namespace: str
    revision: int = 1
    description: str | None = None
    labels: dict[str, str] = {}
    inputs: list[Input] = []
    variables: dict[str, object] = {}
    tasks: list[Task]
    errors: list[Task] = []
    finally_: list[Task] = msgspec.field(default_factory=list[Task], name="finally")
    after_execution: list[Task] = []
    outputs: list[FlowOutput] = []
    triggers: list[object] = []
    plugin_defaults: list[PluginDefault] = []
    concurrency: Concurrency | None = None
    retry: Retry | None = None
    disabled: bool = False
    source: str = ""

    def walk(self) -> Iterator[Task]:
        """Every task of the flow, in all branches, parents before children."""
        pending = [*self.after_execution[::-1], *self.finally_[::-1], *self.errors[::-1], *self.tasks[::-1]]
        while pending:
            task = pending.pop()
            yield task
            pending.extend(reversed(task.children()))


def by_id(flow: Flow) -> Mapping[str, Task]:
    """Every task of the flow by its id."""
    return {task.id: task for task in flow.walk()}
