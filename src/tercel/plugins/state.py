"""A map that outlives executions, kept for a flow: Set, Get, Delete. Newer flows use the tasks of `kv`."""

import re
from collections.abc import Mapping
from typing import cast

from tercel.model.merging import merged
from tercel.model.slugs import distinct_slug, murmur_hash
from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, plugin

_PLAIN = re.compile(r"[a-zA-Z0-9._-]+")


class _StateTask(RunnableTask, frozen=True, kw_only=True):
    """A task on a state.

    Attributes:
        name: of the state.
        namespace: share the state among the flows of the namespace.
        taskrun_value: keep a state of its own for each value of a loop.
    """

    name: Dynamic = "default"
    namespace: bool = False
    taskrun_value: bool = True

    def place(self, context: RunContext) -> tuple[str, str]:
        """The namespace and the key that the state is kept under."""
        flow_id, namespace = context.render("{{ flow.id }}"), context.render("{{ flow.namespace }}")
        name = context.render(self.name)
        parts = [] if self.namespace else [distinct_slug(flow_id)]
        parts += ["states", "tasks-states", name if _PLAIN.fullmatch(name) else distinct_slug(name)]
        run = context.variables.get("taskrun")
        if self.taskrun_value and isinstance(run, Mapping) and _state(cast("object", run)).get("value") is not None:
            parts.append(murmur_hash(context.render("{{ taskrun.value }}")))
        return namespace, "_".join(parts)

    def missing(self, context: RunContext) -> TaskFailedError:
        """The error where there has to be a state and there is none."""
        return TaskFailedError(f"There is no state {context.render(self.name)!r}.")


@plugin("io.kestra.plugin.core.state.Set", aliases=["io.kestra.core.tasks.states.Set"])
class Set(_StateTask, frozen=True, kw_only=True):
    """Merge a map into a state.

    Attributes:
        name: of the state.
        namespace: share the state among the flows of the namespace.
        taskrun_value: keep a state of its own for each value of a loop.
        data: what is merged into the state, maps inside of it deeply.

    Outputs:
        count: how many members the state has.
        key: what it is kept under, among the key-value pairs of the namespace.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.state.Set
            name: progress
            data:
              last_order: 42
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "It has {{ outputs.keep.count }} member."
    """

    data: dict[str, object] = {}

    def run(self, context: RunContext) -> Outputs:
        """Merge the map."""
        namespace, key = self.place(context)
        data = cast("Mapping[str, object]", context.render_value(self.data))
        after = context.key_values.change(namespace, key, lambda before: merged(_state(before), data))
        return Outputs(count=len(_state(after)), key=key)


@plugin("io.kestra.plugin.core.state.Get", aliases=["io.kestra.core.tasks.states.Get"])
class Get(_StateTask, frozen=True, kw_only=True):
    """Give a state.

    Attributes:
        name: of the state.
        namespace: share the state among the flows of the namespace.
        taskrun_value: keep a state of its own for each value of a loop.
        error_on_missing: fail where there is none.

    Outputs:
        data: the state; an empty map where there is none.
        count: how many members it has.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.state.Set
            name: progress
            data:
              last_order: 42
          - id: look
            type: io.kestra.plugin.core.state.Get
            name: progress
            errorOnMissing: true
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.look.data.last_order }}"
    """

    error_on_missing: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Look the state up."""
        found = context.key_values.find(*self.place(context))
        if found is None and self.error_on_missing:
            raise self.missing(context)
        data = _state(found)
        return Outputs(data=data, count=len(data))


@plugin("io.kestra.plugin.core.state.Delete", aliases=["io.kestra.core.tasks.states.Delete"])
class Delete(_StateTask, frozen=True, kw_only=True):
    """Remove a state.

    Attributes:
        name: of the state.
        namespace: share the state among the flows of the namespace.
        taskrun_value: keep a state of its own for each value of a loop.
        error_on_missing: fail where there is none.

    Outputs:
        deleted: whether there was one.

    Example:
        tasks:
          - id: keep
            type: io.kestra.plugin.core.state.Set
            name: progress
            data:
              last_order: 42
          - id: forget
            type: io.kestra.plugin.core.state.Delete
            name: progress
    """

    error_on_missing: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Remove the state."""
        is_deleted = context.key_values.delete(*self.place(context))
        if not is_deleted and self.error_on_missing:
            raise self.missing(context)
        return Outputs(deleted=is_deleted)


def _state(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}
