"""Rules of a flow that no single part of it can see."""

from collections.abc import Iterator

from yaml.nodes import Node, ScalarNode, SequenceNode

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog
from tercel.model.convert import Reading, Seen
from tercel.model.defaults import Defaults
from tercel.model.flow import Flow
from tercel.model.issue import Issue, nearest
from tercel.model.labels import label_problems
from tercel.model.shapes import shape_of
from tercel.model.task import Problem
from tercel.model.yaml_nodes import Entries

_IDENTIFIED = ("task", "trigger")
_STARTS_A_FLOW = frozenset({"io.kestra.plugin.core.flow.Subflow", "io.kestra.plugin.core.flow.ForEachItem"})


def check_flow_rules(flow: Flow, reading: Reading, defaults: Defaults, entries: Entries, catalog: Catalog) -> None:
    """Tell every issue that only the whole of a flow shows.

    Args:
        flow: as it was read, stand-ins included.
        reading: what it was read by, and is told to.
        defaults: the plugin defaults that it was read with.
        entries: reads mappings.
        catalog: finds types.
    """
    _check_ids(reading)
    _check_hidden_ids(reading, flow)
    _check_defaults(reading, defaults, entries, catalog)
    for seen in reading.seen:
        if seen.part is not None and seen.part.plugin_type in _STARTS_A_FLOW:
            _check_recursion(reading, entries, seen, flow)
            _check_labels(reading, entries, seen)


def _check_ids(reading: Reading) -> None:
    """No id twice among all tasks of all branches, nor among the triggers."""
    first: dict[tuple[str, str], Seen] = {}
    for seen in reading.seen:
        if not seen.id or seen.family not in _IDENTIFIED:
            continue
        earlier = first.setdefault((seen.family, seen.id), seen)
        if earlier is seen:
            continue
        line = earlier.node.start_mark.line + 1
        message = f"The {seen.family} id '{seen.id}' is used already, on line {line}."
        hint = f"Give every {seen.family} of the flow its own id, in whatever branch it is."
        reading.tell(seen.node, (*seen.path, "id"), Problem(message, hint, f"{seen.family}.id.duplicate"))


def _check_hidden_ids(reading: Reading, flow: Flow) -> None:
    """No task has the id of one that is not written, such as those that a ForEachItem does its work by."""
    written = {seen.id: seen for seen in reading.seen if seen.family == "task" and seen.id}
    met: set[str] = set()
    for task in flow.walk():
        if task.id in met and task.id in written:
            seen = written.pop(task.id)
            message = f"The task id '{task.id}' is used already, by a task that another one brings along."
            problem = Problem(message, "Choose another id.", "task.id.duplicate")
            if not reading.has_told(seen.node, "task.id.duplicate"):
                reading.tell(seen.node, (*seen.path, "id"), problem)
        met.add(task.id)


def _check_defaults(reading: Reading, defaults: Defaults, entries: Entries, catalog: Catalog) -> None:
    """Plugin defaults that name a type in full may only set properties which that type has."""
    for default in defaults.own:
        type_name: str = default.type.value
        try:
            part = catalog.find(type_name)
        except MissingToolError:
            continue
        if part is None:
            continue
        shape = shape_of(part)
        for name, (key, _) in entries.of(default.values).items():
            if name in shape.fields or name in shape.former:
                continue
            near = nearest(name, tuple(shape.fields))
            message = f"{type_name} has no property '{name}'."
            hint = f"Did you mean '{near}'?" if near else ""
            reading.tell(
                key, (*default.path, name), Problem(message, hint, "pluginDefault.values"), tuple(shape.fields)
            )


def _check_recursion(reading: Reading, entries: Entries, seen: Seen, flow: Flow) -> None:
    """A flow that starts itself never ends. One that is named by an expression is known only when it starts."""
    properties = entries.of(seen.mapping)
    found = {name: properties[name][1] for name in ("namespace", "flowId") if name in properties}
    names = {name: node.value for name, node in found.items() if isinstance(node, ScalarNode)}
    if flow.id and names == {"namespace": flow.namespace, "flowId": flow.id}:
        message = f"The flow starts itself, {flow.namespace}.{flow.id}, so that it would never end."
        hint = "Name another flow, or loop by LoopUntil."
        reading.tell(found["flowId"], (*seen.path, "flowId"), Problem(message, hint, "flow.recursive"))


def _check_labels(reading: Reading, entries: Entries, seen: Seen) -> None:
    """An execution is given no label that is tercel's own."""
    labels = entries.of(seen.mapping).get("labels")
    for problem in label_problems(_label_keys(entries, labels[1]) if labels is not None else ()):
        reading.tell_problem(problem, seen.mapping, seen.path)


def _label_keys(entries: Entries, labels: Node) -> Iterator[str]:
    """The keys of labels in either form."""
    yield from entries.of(labels)
    for item in labels.value if isinstance(labels, SequenceNode) else ():
        entry = entries.of(item).get("key")
        if entry is not None and isinstance(entry[1], ScalarNode):
            yield entry[1].value


def update_issues(flow: Flow, namespace: str, flow_id: str) -> tuple[Issue, ...]:
    """What keeps *flow* from taking the place of another one: an update changes neither id nor namespace."""
    return tuple(
        Issue(
            line=1,
            column=1,
            path=name,
            code=f"flow.update.{name}",
            message=f"The flow {namespace}.{flow_id} cannot become one with the {name} '{new}'.",
            hint=f"Keep `{name}: {old}`, or create a new flow.",
        )
        for name, old, new in (("id", flow_id, flow.id), ("namespace", namespace, flow.namespace))
        if old != new
    )


def exists_issue(flow: Flow) -> Issue:
    """What is wrong with creating *flow* where there is one of its id and namespace."""
    message = f"There is a flow {flow.namespace}.{flow.id} already."
    return Issue(
        line=1, column=1, path="id", code="flow.exists", message=message, hint="Update it, or choose another id."
    )
