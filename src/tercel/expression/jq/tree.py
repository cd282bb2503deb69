"""The syntax tree of a jq program."""

from typing import TypeAlias

from msgspec import Struct


class Identity(Struct, frozen=True):
    """`.`."""


class RecurseAll(Struct, frozen=True):
    """`..`."""


class Literal(Struct, frozen=True):
    """A number, or a text without interpolation."""

    value: object


class Text(Struct, frozen=True):
    r"""A text with `\(…)` inside; what is inserted goes through *format* (`text` if none is written)."""

    parts: "tuple[str | Node, ...]"
    format: str


class Format(Struct, frozen=True):
    """`@base64` and the like, alone."""

    name: str


class Index(Struct, frozen=True):
    """`of.name` or `of[key]`."""

    of: "Node"
    key: "Node"


class Slice(Struct, frozen=True):
    """`of[start:end]`; None where a bound is left out."""

    of: "Node"
    start: "Node | None"
    end: "Node | None"


class Iterate(Struct, frozen=True):
    """`of[]`."""

    of: "Node"


class Try(Struct, frozen=True):
    """`try body catch handler`, or `body?`."""

    body: "Node"
    handler: "Node | None"


class Pipe(Struct, frozen=True):
    """`left | right`."""

    left: "Node"
    right: "Node"


class Comma(Struct, frozen=True):
    """`left, right`."""

    left: "Node"
    right: "Node"


class Negate(Struct, frozen=True):
    """`-body`."""

    body: "Node"


class Binary(Struct, frozen=True):
    """An arithmetic, comparing or logical operator, or `//`."""

    operator: str
    left: "Node"
    right: "Node"


class Assign(Struct, frozen=True):
    """`left = right`, `left |= right` and `left op= right`."""

    operator: str
    left: "Node"
    right: "Node"


class If(Struct, frozen=True):
    """`if condition then yes else no end`; without an else-part the input itself."""

    condition: "Node"
    yes: "Node"
    no: "Node"


class Reduce(Struct, frozen=True):
    """`reduce source as patterns (start; update)`."""

    source: "Node"
    patterns: "tuple[Pattern, ...]"
    start: "Node"
    update: "Node"


class ForEach(Struct, frozen=True):
    """`foreach source as patterns (start; update; extract)`."""

    source: "Node"
    patterns: "tuple[Pattern, ...]"
    start: "Node"
    update: "Node"
    extract: "Node"


class Function(Struct, frozen=True):
    """`def name(parameters): body;` with `$` kept in front of parameters that are values."""

    name: str
    parameters: tuple[str, ...]
    body: "Node"


class Define(Struct, frozen=True):
    """A function and the rest of the program, which may call it."""

    function: Function
    rest: "Node"


class Call(Struct, frozen=True):
    """`name(arguments)`."""

    name: str
    arguments: "tuple[Node, ...]"


class Variable(Struct, frozen=True):
    """`$name`."""

    name: str


class Bind(Struct, frozen=True):
    """`source as pattern ?// pattern | body`."""

    source: "Node"
    patterns: "tuple[Pattern, ...]"
    body: "Node"


class Label(Struct, frozen=True):
    """`label $name | body`."""

    name: str
    body: "Node"


class Break(Struct, frozen=True):
    """`break $name`."""

    name: str


class ListOf(Struct, frozen=True):
    """`[body]`; None for the empty list."""

    body: "Node | None"


class MapOf(Struct, frozen=True):
    """`{key: value, …}`."""

    members: "tuple[tuple[Node, Node], ...]"


class VariablePattern(Struct, frozen=True):
    """`$name`: takes the whole value."""

    name: str


class ListPattern(Struct, frozen=True):
    """`[pattern, …]`."""

    members: "tuple[Pattern, ...]"


class MapPattern(Struct, frozen=True):
    """`{key: pattern, …}`: the key, the variable that takes its value (`$name: …`), and the pattern if any."""

    members: "tuple[tuple[Node, str | None, Pattern | None], ...]"


Node: TypeAlias = (
    Identity | RecurseAll | Literal | Text | Format | Index | Slice | Iterate | Try | Pipe | Comma | Negate | Binary
    | Assign | If | Reduce | ForEach | Define | Call | Variable | Bind | Label | Break | ListOf | MapOf
)  # fmt: skip
Pattern: TypeAlias = VariablePattern | ListPattern | MapPattern
