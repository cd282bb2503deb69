"""The syntax tree of a template: what the parser makes and the evaluator reads.

Plain classes, because a template is parsed while somebody waits for `tercel run`. A tag knows where it
stands in the text (*where*: start and end offset), an expression does not: errors are told per tag.
"""

from collections.abc import Sequence
from typing import TypeAlias

Where: TypeAlias = tuple[int, int]


class Literal:
    """A constant, number or text."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Name:
    """A variable."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class ListOf:
    """`[a, b]`."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence["Expression"]) -> None:
        self.items = items


class MapOf:
    """`{k: v}`; keys are expressions."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Sequence[tuple["Expression", "Expression"]]) -> None:
        self.pairs = pairs


class Interpolation:
    """A double-quoted text with `#{…}` in it: its parts in order."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence["Expression"]) -> None:
        self.parts = parts


class Arguments:
    """What stands in the parentheses of a call: positional ones, then named ones."""

    __slots__ = ("named", "positional")

    def __init__(self, positional: Sequence["Expression"], named: Sequence[tuple[str, "Expression"]]) -> None:
        self.positional = positional
        self.named = named


NO_ARGUMENTS = Arguments((), ())


class Call:
    """A function or macro call."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: Arguments) -> None:
        self.name = name
        self.arguments = arguments


class Attribute:
    """One `.name`, or `.name(…)` where *arguments* is not None."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: "Sequence[Expression] | None") -> None:
        self.name = name
        self.arguments = arguments


class Subscript:
    """One `[key]`."""

    __slots__ = ("key",)

    def __init__(self, key: "Expression") -> None:
        self.key = key


class Path:
    """A value and the attributes and subscripts behind it, nearest first."""

    __slots__ = ("base", "links")

    def __init__(self, base: "Expression", links: "Sequence[Attribute | Subscript]") -> None:
        self.base = base
        self.links = links


class Unary:
    """`not x`, `-x`, `+x`."""

    __slots__ = ("operand", "operator")

    def __init__(self, operator: str, operand: "Expression") -> None:
        self.operator = operator
        self.operand = operand


class Operation:
    """One binary operator and its right side."""

    __slots__ = ("operator", "right")

    def __init__(self, operator: str, right: "Expression") -> None:
        self.operator = operator
        self.right = right


class Filter:
    """One `| name(…)`."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: Arguments) -> None:
        self.name = name
        self.arguments = arguments


class Test:
    """One `is name(…)` or `is not name(…)`."""

    __slots__ = ("arguments", "name", "negated")

    def __init__(self, name: str, arguments: Arguments, negated: bool) -> None:
        self.name = name
        self.arguments = arguments
        self.negated = negated


class Chain:
    """A value and the steps applied to it one after the other.

    All binary operators associate to the left, so a run of them is a list and not a deep tree:
    `1 + 1 + …` of any length is evaluated in a loop.
    """

    __slots__ = ("first", "steps")

    def __init__(self, first: "Expression", steps: "Sequence[Operation | Filter | Test]") -> None:
        self.first = first
        self.steps = steps


class Ternary:
    """`condition ? then : otherwise`."""

    __slots__ = ("condition", "otherwise", "then")

    def __init__(self, condition: "Expression", then: "Expression", otherwise: "Expression") -> None:
        self.condition = condition
        self.then = then
        self.otherwise = otherwise


Expression: TypeAlias = Literal | Name | ListOf | MapOf | Interpolation | Call | Path | Unary | Chain | Ternary


class Text:
    """What stands outside all tags."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Print:
    """`{{ value }}`; *cost* is the number of nodes of the expression."""

    __slots__ = ("cost", "value", "where")

    def __init__(self, value: Expression, cost: int, where: Where) -> None:
        self.value = value
        self.cost = cost
        self.where = where


class Branch:
    """One `if` or `elseif` with its body."""

    __slots__ = ("body", "condition", "cost", "where")

    def __init__(self, condition: Expression, cost: int, body: "Body", where: Where) -> None:
        self.condition = condition
        self.cost = cost
        self.body = body
        self.where = where


class If:
    """`{% if %}` to `{% endif %}`."""

    __slots__ = ("branches", "otherwise")

    def __init__(self, branches: Sequence[Branch], otherwise: "Body") -> None:
        self.branches = branches
        self.otherwise = otherwise


class For:
    """`{% for name in values %}` to `{% endfor %}`."""

    __slots__ = ("body", "cost", "name", "otherwise", "values", "where")

    def __init__(
        self, name: str, values: Expression, cost: int, where: Where, *, body: "Body", otherwise: "Body"
    ) -> None:
        self.name = name
        self.values = values
        self.cost = cost
        self.body = body
        self.otherwise = otherwise
        self.where = where


class Set:
    """`{% set name = value %}`."""

    __slots__ = ("cost", "name", "value", "where")

    def __init__(self, name: str, value: Expression, cost: int, where: Where) -> None:
        self.name = name
        self.value = value
        self.cost = cost
        self.where = where


class Block:
    """`{% block name %}` to `{% endblock %}`."""

    __slots__ = ("body", "name")

    def __init__(self, name: str, body: "Body") -> None:
        self.name = name
        self.body = body


class FilterBody:
    """`{% filter a | b %}` to `{% endfilter %}`."""

    __slots__ = ("body", "cost", "steps", "where")

    def __init__(self, steps: Sequence[Filter], cost: int, body: "Body", where: Where) -> None:
        self.steps = steps
        self.cost = cost
        self.body = body
        self.where = where


Statement: TypeAlias = Text | Print | If | For | Set | Block | FilterBody
Body: TypeAlias = Sequence[Statement]


class Macro:
    """`{% macro name(parameters) %}` to `{% endmacro %}`; a parameter's default may be None for none."""

    __slots__ = ("body", "name", "parameters")

    def __init__(self, name: str, parameters: Sequence[tuple[str, Expression | None]], body: Body) -> None:
        self.name = name
        self.parameters = parameters
        self.body = body


class Template:
    """A whole template: its body, and its macros and blocks by name."""

    __slots__ = ("blocks", "body", "macros")

    def __init__(self, body: Body, macros: dict[str, Macro], blocks: dict[str, Block]) -> None:
        self.body = body
        self.macros = macros
        self.blocks = blocks
