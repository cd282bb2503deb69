"""Input: what a flow asks for at its start, as declared. What values fit is in `inputs`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Protocol, get_args

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
CHOICES = frozenset({"SELECT", "ENUM", "MULTISELECT"})
"""The types whose values are chosen from a list."""

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


def own_properties(type: str) -> frozenset[str]:
    """The properties that inputs of a type have, by their YAML names."""
    named = dict(zip(Input.__struct_fields__, Input.__struct_encode_fields__, strict=True))
    return frozenset(named[attribute] for attribute in (*_COMMON, *_OWN.get(type, ())))


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
    type: Annotated[InputType, msgspec.Meta(extra={"deprecated": {"ENUM": "Use SELECT."}})]
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

    @property
    def file_extension(self) -> str:
        """FILE: ending of the stored file, with its dot."""
        extension = self.extension or "upl"
        return extension if extension.startswith(".") else f".{extension}"

    @property
    def is_secret(self) -> bool:
        """True where values are to be shown to nobody."""
        return "SECRET" in (self.type, self.item_type)

    @property
    def own_bounds(self) -> tuple[str, ...]:
        """Which of `min`, `max`, `after`, `before` the type knows."""
        own = _OWN.get(self.type, frozenset[str]())
        return tuple(name for name in ("min", "max", "after", "before") if name in own)

    def problems(self) -> Iterator[Problem]:
        """Properties that the type does not have or lacks, and texts that are no regular expressions."""
        own = _OWN.get(self.type, frozenset[str]())
        for attribute, name in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True):
            value: object = getattr(self, attribute)
            if attribute not in _COMMON and attribute not in own and value is not None and value is not False:
                message = f"An input of type {self.type} has no property '{name}'."
                yield Problem(message, "Remove it, or change the type.", "property.unknown", (name,))
        if self.validator is not None:
            try:
                compile_pattern(self.validator)
            except ValueError as error:
                message = f"The validator is not a regular expression: {error}."
                yield Problem(message, "Mend it; it has to match the whole value.", "input.regex", ("validator",))
        if self.type in CHOICES:
            yield from self._choice_problems()
        if self.type == "ARRAY" and self.item_type in {None, "ARRAY"}:
            message = "An input of type ARRAY needs an 'itemType' other than ARRAY."
            yield Problem(message, "Add one, such as `itemType: STRING`.", "input.array.itemType", ("itemType",))

    def _choice_problems(self) -> Iterator[Problem]:
        if not self.choices and not self.expression:
            message = f"An input of type {self.type} needs values to choose from."
            yield Problem(message, "Add 'values', a list.", "input.values", ("values",))
        if self.type == "MULTISELECT" and self.item_type == "ARRAY":
            message = "The items of a MULTISELECT cannot be lists."
            yield Problem(message, "Choose another 'itemType'.", "input.array.itemType", ("itemType",))
        for name, texts in (("values", self.values), ("options", self.options)):
            for index, text in enumerate(texts or ()):
                try:
                    compile_pattern(text)
                except ValueError as error:
                    message = f"'{text}' is not a regular expression: {error}."
                    hint = "Kestra takes only values that are; put a backslash before special characters."
                    yield Problem(message, hint, "input.regex", (name, index))


class Pattern(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, string: str, /) -> object:
        """Something where it matches all of *string*; None elsewhere."""
        ...


_ESCAPE = re.compile(r"\\Q(.*?)(?:\\E|$)|\\(.)", re.DOTALL)
_BEYOND_PYTHON = re.compile(r"\\[pPGRXhHvV]|\(\?<[A-Za-z]|\[\^?\[|&&|--|~~|\|\|")


def compile_pattern(text: str) -> Pattern:
    r"""Compile a regular expression, also one with what Java has beyond Python, such as `\p{L}` and `(?<name>…)`.

    Raises:
        ValueError: it is none; says why, without the full stop.
    """
    text = _ESCAPE.sub(_in_python, text)
    try:
        if _BEYOND_PYTHON.search(text) is None:
            return re.compile(text, re.ASCII)
        import regex  # noqa: PLC0415  # takes 70 ms to load, and hardly a pattern needs it

        try:
            return regex.compile(text, regex.VERSION1)
        except regex.error as error:
            raise ValueError(str(error)) from None
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _in_python(escape: re.Match[str]) -> str:
    if escape[2] is None:
        return re.escape(escape[1])
    return r"\Z" if escape[2] == "z" else escape[0]


def dependency_problems(inputs: Sequence[Input], name: str = "inputs") -> Iterator[Problem]:
    """Dependencies on inputs that do not exist or that lead back, and ids that are both a value and a map.

    Args:
        inputs: all that are declared together.
        name: the property that declares them.
    """
    by_id = {one.id: index for index, one in enumerate(inputs)}
    for index, one in enumerate(inputs):
        for place, needed in enumerate(one.depends_on.inputs if one.depends_on else ()):
            if needed not in by_id:
                yield Problem(
                    f"The input '{one.id}' depends on '{needed}', which is no input of the flow.",
                    "Name one that is declared beside it, or add it.",
                    "input.dependsOn.unknown",
                    (name, index, "dependsOn", "inputs", place),
                )
        if any(other.startswith(f"{one.id}.") for other in by_id):
            message = f"The input '{one.id}' cannot be a value and hold other inputs ('{one.id}.…') as well."
            yield Problem(message, "Rename one of them.", "input.id.duplicate", (name, index, "id"))
    cycle = _cycle(inputs)
    if cycle:
        path = (name, by_id[cycle[0]], "dependsOn")
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
