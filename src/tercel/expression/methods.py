"""What stands behind a dot or in brackets: members of maps and lists, and a fixed table of methods.

Nothing else can be reached: never an attribute of a Python object.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tercel.errors import MissingError
from tercel.expression.budget import Budget
from tercel.expression.operators import joined
from tercel.expression.patterns import fully_matches, replace_all, split
from tercel.expression.values import Entry, Loop, equal, hashable, is_list, is_map

_SHOWN = 80
_TRIMMED = "".join(map(chr, range(33)))


def member(value: object, key: object, path: str, budget: Budget) -> object:
    """Look up `value.key` or `value[key]`, without a call.

    Args:
        value: a map, list or anything with properties.
        key: the name, index or key.
        path: how the template wrote *value*, for the message.
        budget: of the render.

    Raises:
        MissingError: there is no such member.
    """
    if is_map(value):
        if hashable(key) in value:
            return value[hashable(key)]
    elif value is None:
        raise MissingError(f"Unable to find `{_shown(key)}` in `{path}` (null)", path)
    else:
        if is_list(value):
            index = _index(key)
            if 0 <= index < len(value):
                return value[index]
        if isinstance(key, str):
            prop = _PROPERTIES.get((_kind(value), key))
            if prop is not None:
                return prop(budget, value)
    raise MissingError(f"Unable to find `{_shown(key)}` in `{path}`", _shown(key))


def call(value: object, name: str, arguments: Sequence[object], path: str, budget: Budget) -> object:
    """Call `value.name(…)`.

    Raises:
        MissingError: there is no such method for these arguments.
    """
    if is_map(value) and name in value:
        return value[name]
    if value is None:
        raise MissingError(f"Unable to find `{name}` in `{path}` (null)", path)
    method = _METHODS.get((_kind(value), name))
    if method is not None and _fits(method[1], arguments):
        return method[0](budget, value, arguments)
    prop = None if arguments else _PROPERTIES.get((_kind(value), name))
    if prop is not None and not is_map(value):
        return prop(budget, value)
    raise MissingError(f"Unable to find the method `{name}` with {len(arguments)} arguments in `{path}`", name)


def _index(key: object) -> int:
    """Give the index that a key stands for, or -1."""
    if isinstance(key, int) and not isinstance(key, bool):
        return key
    if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10:
        return int(key)
    return -1


def _kind(value: object) -> str:
    match value:
        case str():
            return "text"
        case list():
            return "list"
        case dict():
            return "map"
        case Entry():
            return "entry"
        case Loop():
            return "loop"
        case _:
            return ""


def _shown(key: object) -> str:
    text = str(key) if isinstance(key, (str, int, float)) else type(key).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _fits(parameters: Sequence[type], arguments: Sequence[object]) -> bool:
    return len(parameters) == len(arguments) and all(
        isinstance(argument, wanted) for wanted, argument in zip(parameters, arguments, strict=True)
    )


def _first(_: Budget, value: list[object]) -> object:
    if not value:
        raise MissingError("Unable to find `first` in an empty list", "first")
    return value[0]


def _last(_: Budget, value: list[object]) -> object:
    if not value:
        raise MissingError("Unable to find `last` in an empty list", "last")
    return value[-1]


def _copied(method: Callable[[str], str]) -> Callable[[Budget, str], str]:
    """Make a property of a method that gives a text as long as its own."""

    def run(budget: Budget, value: str) -> str:
        budget.text(len(value), narrow=value.isascii())
        return method(value)

    return run


def trimmed(value: str) -> str:
    """Cut characters up to U+0020 off at both ends."""
    return value.strip(_TRIMMED)


def _index_of(budget: Budget, value: list[object], given: Sequence[object]) -> int:
    for index, candidate in enumerate(value):
        budget.spend()
        if equal(candidate, given[0], budget):
            return index
    return -1


def replace_text(value: str, old: str, new: str, budget: Budget) -> str:
    """Replace every *old* in *value*; the length of the result is checked before it is built."""
    grown = len(value) + value.count(old) * max(0, len(new) - len(old))
    budget.text(grown, narrow=value.isascii() and new.isascii())
    return value.replace(old, new)


def _entries(budget: Budget, value: dict[object, object], _: Sequence[object]) -> list[object]:
    budget.members(len(value), 80)
    return [Entry(key, inner) for key, inner in list(value.items())]


def _contains_value(budget: Budget, value: dict[object, object], given: Sequence[object]) -> bool:
    budget.spend(len(value))
    return any(equal(inner, given[0], budget) for inner in list(value.values()))


def _listed(members: list[object], budget: Budget) -> list[object]:
    budget.members(len(members))
    return members


# Without parentheses, and without arguments.
_PROPERTIES: dict[tuple[str, str], Callable[[Budget, Any], object]] = {
    ("text", "length"): lambda _, value: len(value),
    ("text", "empty"): lambda _, value: not value,
    ("text", "isEmpty"): lambda _, value: not value,
    ("text", "blank"): lambda _, value: not value.strip(),
    ("text", "isBlank"): lambda _, value: not value.strip(),
    ("text", "trim"): _copied(trimmed),
    ("text", "strip"): _copied(str.strip),
    ("text", "toUpperCase"): _copied(str.upper),
    ("text", "toLowerCase"): _copied(str.lower),
    ("text", "toString"): lambda _, value: value,
    ("list", "size"): lambda _, value: len(value),
    ("list", "empty"): lambda _, value: not value,
    ("list", "isEmpty"): lambda _, value: not value,
    ("list", "first"): _first,
    ("list", "getFirst"): _first,
    ("list", "last"): _last,
    ("list", "getLast"): _last,
    ("entry", "key"): lambda _, value: value.key,
    ("entry", "value"): lambda _, value: value.value,
    ("entry", "getKey"): lambda _, value: value.key,
    ("entry", "getValue"): lambda _, value: value.value,
    ("loop", "index"): lambda _, value: value.index,
    ("loop", "length"): lambda _, value: value.length,
    ("loop", "first"): lambda _, value: value.first,
    ("loop", "last"): lambda _, value: value.last,
    ("loop", "revindex"): lambda _, value: value.revindex,
}
# With parentheses: the method, which gets its arguments as a list, and their types.
_METHODS: dict[tuple[str, str], tuple[Callable[[Budget, Any, Sequence[Any]], object], tuple[type, ...]]] = {
    ("text", "startsWith"): (lambda _, value, given: value.startswith(given[0]), (str,)),
    ("text", "endsWith"): (lambda _, value, given: value.endswith(given[0]), (str,)),
    ("text", "indexOf"): (lambda _, value, given: value.find(given[0]), (str,)),
    ("text", "lastIndexOf"): (lambda _, value, given: value.rfind(given[0]), (str,)),
    ("text", "replace"): (lambda budget, value, given: replace_text(value, given[0], given[1], budget), (str, str)),
    ("text", "replaceAll"): (lambda budget, value, given: replace_all(given[0], given[1], value, budget), (str, str)),
    ("text", "split"): (lambda budget, value, given: split(given[0], value, 0, budget), (str,)),
    ("text", "matches"): (lambda budget, value, given: fully_matches(given[0], value, budget), (str,)),
    ("text", "concat"): (lambda budget, value, given: joined(value, given[0], budget), (str,)),
    ("text", "equalsIgnoreCase"): (lambda _, value, given: value.casefold() == given[0].casefold(), (str,)),
    ("list", "indexOf"): (_index_of, (object,)),
    ("map", "size"): (lambda _, value, __: len(value), ()),
    ("map", "isEmpty"): (lambda _, value, __: not value, ()),
    ("map", "get"): (lambda _, value, given: value.get(hashable(given[0])), (object,)),
    ("map", "getOrDefault"): (lambda _, value, given: value.get(hashable(given[0]), given[1]), (object, object)),
    ("map", "containsKey"): (lambda _, value, given: hashable(given[0]) in value, (object,)),
    ("map", "containsValue"): (_contains_value, (object,)),
    ("map", "keySet"): (lambda budget, value, _: _listed(list(value), budget), ()),
    ("map", "values"): (lambda budget, value, _: _listed(list(value.values()), budget), ()),
    ("map", "entrySet"): (_entries, ()),
}
