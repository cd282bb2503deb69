"""Rules of a flow that no single part of it can see."""

from yaml.nodes import Node

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog
from tercel.model.convert import Reading
from tercel.model.defaults import Defaults
from tercel.model.issue import nearest
from tercel.model.shapes import shape_of
from tercel.model.task import Problem
from tercel.model.yaml_nodes import Entries

_IDENTIFIED = ("task", "trigger")


def check_ids(reading: Reading) -> None:
    """No id twice among all tasks of all branches, nor among the triggers."""
    first: dict[tuple[str, str], Node] = {}
    for seen in reading.seen:
        if not seen.id or seen.family not in _IDENTIFIED:
            continue
        earlier = first.setdefault((seen.family, seen.id), seen.node)
        if earlier is seen.node:
            continue
        line = earlier.start_mark.line + 1
        message = f"The {seen.family} id '{seen.id}' is used already, on line {line}."
        hint = f"Give every {seen.family} of the flow its own id, in whatever branch it is."
        reading.tell(seen.node, (*seen.path, "id"), Problem(message, hint, f"{seen.family}.id.duplicate"))


def check_defaults(reading: Reading, defaults: Defaults, entries: Entries, catalog: Catalog) -> None:
    """Plugin defaults that name a type in full may only set properties which that type has."""
    for default in defaults.all:
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
