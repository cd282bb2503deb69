"""Input: what a flow asks for at its start, as declared. What values fit is in `inputs`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, get_args

import msgspec

from tercel.model.task import Part, Problem, Raw

ItemType = Literal[
    "STRING",
    "INT",
    "FLOAT",
    "BOOLEAN",
    "BOOL",
    "DATETIME",
    "DATE",
    "TIME",
    "DURATION",
    "FILE",
    "JSON",
    "YAML",
    "URI",
    "EMAIL",
    "SELECT",
    "ENUM",
    "MULTISELECT",
    "SECRET",
]
InputType = Literal[ItemType, "ARRAY"]
INPUT_TYPES: tuple[str, ...] = get_args(InputType)

_ID = msgspec.Meta(
    pattern="^[a-zA-Z0-9][a-zA-Z0-9._-]*$",
    extra={"code": "input.id", "hint": "Use letters, digits, '.', '-' and '_', with a letter or digit first."},
)
_COMMON = frozenset({"id", "name", "type", "description", "display_name", "required", "defaults", "depends_on"})
_BOUNDS = frozenset({"min", "max"})
_MOMENTS = frozenset({"after", "before"})
_OWN: Mapping[str, frozenset[str]] = {
    "STRING": frozenset({"validator"}),
    "SECRET": frozenset({"validator"}),
    "INT": _BOUNDS,
    "FLOAT": _BOUNDS,
    "DURATION": _BOUNDS,
    "DATETIME": _MOMENTS,
    "DATE": _MOMENTS,
    "TIME": _MOMENTS,
    "FILE": frozenset({"extension"}),
    "SELECT": frozenset({"values", "expression", "allow_custom_value", "is_radio"}),
    "ENUM": frozenset({"values"}),
    "MULTISELECT": frozenset({"values", "options", "expression", "item_type", "allow_custom_value"}),
    "ARRAY": frozenset({"item_type"}),
}


class DependsOn(Part, frozen=True, kw_only=True):
    """Which inputs, and which condition over them, an input needs in order to be asked for.

    Attributes:
        inputs: ids of other inputs; each has to be asked for itself.
        condition: expression over them that has to give true.
    """

    inputs: list[str] = []
    condition: str | None = None


class Input(Part, frozen=True, kw_only=True):
    """One declared input; which of the optional properties mean something depends on its type.

    Attributes:
        id: dots make nested maps: `a.b` is seen as `inputs.a.b`.
        name: former name of `id`.
        type: what values are read as.
        description: for readers, in Markdown.
        display_name: what a page shows in place of the id.
        required: whether an execution may start without a value.
        defaults: value taken where none is given; a text may be an expression.
        depends_on: when the input is asked for at all; without it, always.
        validator: STRING, SECRET: regular expression that the whole value must match.
        values: SELECT, ENUM, MULTISELECT: the values to choose from.
        options: MULTISELECT: former name of `values`.
        expression: SELECT, MULTISELECT: renders to the list of values.
        item_type: ARRAY, MULTISELECT: type of each item.
        allow_custom_value: SELECT, MULTISELECT: other values than those listed are taken too.
        is_radio: SELECT: how a page shows it.
        min: INT, FLOAT, DURATION: least value.
        max: INT, FLOAT, DURATION: greatest value.
        after: DATE, DATETIME, TIME: only later values.
        before: DATE, DATETIME, TIME: only earlier values.
        extension: FILE: ending of the stored file.
    """

    former_names: ClassVar[Mapping[str, str]] = {"name": "id"}

    id: Annotated[str, _ID]
    name: str | None = None
    type: InputType
    description: str | None = None
    display_name: Annotated[str, msgspec.Meta(max_length=64, extra={"code": "input.displayName"})] | None = None
    required: bool = True
    defaults: Annotated[object, Raw] = None
    depends_on: DependsOn | None = None
    validator: str | None = None
    values: list[str] | None = None
    options: list[str] | None = None
    expression: str | None = None
    item_type: InputType | None = None
    allow_custom_value: bool = False
    is_radio: bool = False
    min: Annotated[object, Raw] = None
    max: Annotated[object, Raw] = None
    after: Annotated[object, Raw] = None
    before: Annotated[object, Raw] = None
    extension: str | None = None

    @property
    def choices(self) -> list[str] | None:
        """The values to choose from, under either name; None where they come from `expression` or do not exist."""
        return self.values if self.values is not None else self.options

    def problems(self) -> Iterator[Problem]:
        """Properties that the type does not have or lacks, and a `validator` that is no regular expression."""
        own = _OWN.get(self.type, frozenset[str]())
        for attribute, name in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value: object = getattr(self, attribute)
            if attribute not in _COMMON and attribute not in own and value is not None and value is not False:
                message = f"An input of type {self.type} has no property '{name}'."
                yield Problem(message, "Remove it, or change the type.", "property.unknown", (name,))
        if self.validator is not None:
            try:
                re.compile(self.validator)
            except re.error as error:
                message = f"The validator is not a regular expression: {error}."
                yield Problem(message, "Mend it; it has to match the whole value.", "input.regex", ("validator",))
        if self.type in {"SELECT", "ENUM", "MULTISELECT"} and not self.choices and not self.expression:
            message = f"An input of type {self.type} needs values to choose from."
            yield Problem(message, "Add 'values', a list.", "input.values", ("values",))
        if self.values is not None and self.options is not None:
            yield Problem("Both 'values' and 'options' are given.", "Keep 'values'.", "input.values", ("options",))
        if self.type == "ARRAY" and self.item_type in {None, "ARRAY"}:
            message = "An input of type ARRAY needs an 'itemType' other than ARRAY."
            yield Problem(message, "Add one, such as `itemType: STRING`.", "input.array.itemType", ("itemType",))


def dependency_problems(inputs: Sequence[Input]) -> Iterator[Problem]:
    """Dependencies on inputs that do not exist or that lead back, and ids that are both a value and a map."""
    by_id = {one.id: index for index, one in enumerate(inputs)}
    for index, one in enumerate(inputs):
        for place, needed in enumerate(one.depends_on.inputs if one.depends_on else ()):
            if needed not in by_id:
                yield Problem(
                    f"The input '{one.id}' depends on '{needed}', which is no input of the flow.",
                    "Name an input of this flow, or add it.",
                    "input.dependsOn.unknown",
                    ("inputs", index, "dependsOn", "inputs", place),
                )
        if any(other.startswith(f"{one.id}.") for other in by_id):
            message = f"The input '{one.id}' cannot be a value and hold other inputs ('{one.id}.…') as well."
            yield Problem(message, "Rename one of them.", "input.id.duplicate", ("inputs", index, "id"))
    cycle = _cycle(inputs)
    if cycle:
        path = ("inputs", by_id[cycle[0]], "dependsOn")
        message = f"The inputs depend on each other in a circle: {' → '.join(cycle)}."
        yield Problem(message, "Break the circle.", "input.dependsOn.cycle", path)


def _cycle(inputs: Sequence[Input]) -> list[str]:
    """A circle of dependencies, its first id repeated at the end; empty where there is none."""
    needs = {one.id: one.depends_on.inputs if one.depends_on else [] for one in inputs}
    done: set[str] = set()
    for start in needs:
        trail: list[str] = []
        pending: list[str | None] = [start]
        while pending:
            one = pending.pop()
            if one is None:
                done.add(trail.pop())
            elif one in trail:
                return [*trail[trail.index(one) :], one]
            elif one in needs and one not in done:
                trail.append(one)
                pending += [None, *needs[one]]
    return []
