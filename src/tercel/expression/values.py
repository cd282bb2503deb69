"""Values: their kinds, text forms, truth, equality and order.

Three text forms: what `{{ x }}` prints, the debug form that `~`, `+` and text filters see, and JSON.
All of them count the nodes they visit, because a small shared structure can print without end.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, TypeGuard

from tercel.errors import ExpressionError
from tercel.expression.budget import MAX_VALUE_DEPTH, Budget

Number: TypeAlias = int | float | Decimal

_LONG_TEXT = 4096
_MAX_DIGITS = 4000
_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in range(32)},
    **{ord(char): "\\" + letter for char, letter in zip("\b\f", "bf", strict=True)},
}
_CONTROL = re.compile(r"[\x00-\x1f]")


class Entry:
    """A member of a map, as a loop over it or `entrySet()` gives it."""

    __slots__ = ("key", "value")

    def __init__(self, key: object, value: object) -> None:
        self.key = key
        self.value = value


class Loop:
    """The variable `loop` inside a `for`; *index* counts from 0."""

    __slots__ = ("index", "length")

    def __init__(self, length: int) -> None:
        self.index = 0
        self.length = length

    @property
    def first(self) -> bool:
        """True in the first round."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """True in the last round."""
        return self.index == self.length - 1

    @property
    def revindex(self) -> int:
        """Rounds still to come; 0 in the last one."""
        return self.length - 1 - self.index


def is_list(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list."""
    return isinstance(value, list)


def is_map(value: object) -> TypeGuard[dict[object, object]]:
    """Tell whether a value is a map."""
    return isinstance(value, dict)


def is_integer(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number; a boolean is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[Number]:
    """Tell whether a value is a number; a boolean is none."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def kind_of(value: object) -> str:
    """Name the kind of a value for a message, never the value itself."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "a whole number"
        case float() | Decimal():
            return "a decimal number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a map"
        case bytes():
            return "bytes"
        case Entry():
            return "an entry of a map"
        case Loop():
            return "the variable `loop`"
        case _:
            return "a date or duration"


def to_text(value: object, budget: Budget) -> str:
    """Give what `{{ value }}` prints: nothing for null, JSON for lists and maps."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if is_list(value) or is_map(value) or isinstance(value, (bytes, Loop)):
        return json_text(value, budget)
    return debug_text(value, budget)


def debug_text(value: object, budget: Budget) -> str:
    """Give the debug form of a value: `null`, `[1, a]`, `{a=1}`."""
    if isinstance(value, str):
        return str(value)
    if is_list(value) or is_map(value) or isinstance(value, Entry):
        parts: list[str] = []
        _debug(value, _Writer(parts, budget), 0)
        return "".join(parts)
    return _scalar(value)


def json_text(value: object, budget: Budget) -> str:
    """Give the JSON form of a value: no blanks, insertion order, map entries that are null left out."""
    parts: list[str] = []
    _json(value, _Writer(parts, budget), 0)
    return "".join(parts)


def plain(value: object, budget: Budget, depth: int = 0) -> object:
    """Give the value that reading the JSON form back would give, numbers kept as they are."""
    budget.spend()
    if value is None or isinstance(value, (bool, int, float, str, Decimal)):
        return value
    deeper = deeper_than(depth)
    if is_list(value):
        budget.members(len(value))
        return [plain(member, budget, deeper) for member in value]
    if is_map(value):
        budget.members(len(value), 100)
        return {
            _key_text(key): plain(member, budget, deeper) for key, member in list(value.items()) if member is not None
        }
    if isinstance(value, Entry):
        return {_key_text(value.key): plain(value.value, budget, deeper)}
    if isinstance(value, Loop):
        return _loop_map(value)
    if isinstance(value, bytes):
        return _base64(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return _temporal_json(value)


def quoted(text: str) -> str:
    """Give a text as a JSON text: only quotes, backslashes and control characters are escaped."""
    if '"' in text or "\\" in text or not text.isprintable():
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
        if _CONTROL.search(text):
            text = text.translate(_ESCAPES)
    return f'"{text}"'


def truth(value: object, where: str) -> bool:
    """Give the truth of a condition.

    Args:
        value: a boolean, number or text.
        where: the tag or operator, for the message.

    Raises:
        ExpressionError: the value has no truth.
    """
    if value is True or value is False:
        return value
    if isinstance(value, str) or is_number(value):
        return bool(value)
    raise ExpressionError(f"{where} needs a boolean, number or text, not {kind_of(value)}")


def equal(left: object, right: object, budget: Budget, depth: int = 0) -> bool:
    """Tell whether two values are equal: numbers by value, lists and maps by content, nothing else converted."""
    if isinstance(left, str):
        if not isinstance(right, str):
            return False
        if len(left) > _LONG_TEXT:
            budget.spend(len(left) // _LONG_TEXT)
        return left == right
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if is_list(left):
        if not is_list(right) or len(left) != len(right):
            return False
        budget.spend(1 + len(left))
        deeper = deeper_than(depth)
        return all(equal(*pair, budget, deeper) for pair in zip(left, right, strict=False))
    if is_map(left):
        if not is_map(right) or len(left) != len(right):
            return False
        budget.spend(1 + len(left))
        deeper = deeper_than(depth)
        return all(key in right and equal(member, right[key], budget, deeper) for key, member in list(left.items()))
    if isinstance(left, Entry) and isinstance(right, Entry):
        deeper = deeper_than(depth)
        return equal(left.key, right.key, budget, deeper) and equal(left.value, right.value, budget, deeper)
    if isinstance(right, (list, dict, str)):
        return False
    return bool(left == right)


class Members:
    """A collection of values that can be asked for a value, in constant time where it is a scalar."""

    __slots__ = ("_budget", "_others", "_scalars")

    def __init__(self, values: Iterable[object], budget: Budget) -> None:
        self._budget = budget
        self._scalars: set[object] = set()
        self._others: list[object] = []
        for value in values:
            self.add(value)

    def add(self, value: object) -> None:
        """Take a value in."""
        self._budget.spend()
        if _is_scalar(value):
            self._scalars.add(_scalar_key(value))
        else:
            self._others.append(value)

    def __contains__(self, value: object) -> bool:
        if _is_scalar(value):
            return _scalar_key(value) in self._scalars
        self._budget.spend(1 + len(self._others))
        return any(equal(value, other, self._budget) for other in self._others)


def natural_order(values: Iterable[object], where: str) -> Callable[[object], Any]:
    """Choose the sort key of values that are all numbers, all texts or all dates of one kind.

    Raises:
        ExpressionError: they are not; *where* names the filter.
    """
    kinds = {_order_kind(value) for value in values}
    if len(kinds) > 1 or None in kinds:
        raise ExpressionError(f"{where} needs numbers only or texts only")
    return _code_units if kinds == {"text"} else _itself


def code_units(text: str) -> bytes:
    """Give a key that orders texts by UTF-16 code unit."""
    return text.encode("utf-16-be", "surrogatepass")


class _NoKey:
    """What no map has as a key."""


_NO_KEY = _NoKey()


def hashable(key: object) -> object:
    """Give a key that a map can be asked for; a list or map is never found."""
    return _NO_KEY if isinstance(key, (list, dict, Entry, Loop)) else key


def scalar_key(value: object) -> object:
    """Check that a value can be a key of a map.

    Raises:
        ExpressionError: it is a list or map.
    """
    if hashable(value) is value:
        return value
    raise ExpressionError(f"The key of a map must be text, a number or a boolean, not {kind_of(value)}")


class _Writer:
    """Collects pieces of text and counts nodes and length."""

    __slots__ = ("_budget", "_parts")

    def __init__(self, parts: list[str], budget: Budget) -> None:
        self._parts = parts
        self._budget = budget

    def mark(self, text: str) -> None:
        """Write a separator or bracket."""
        self._parts.append(text)

    def node(self, text: str) -> None:
        """Write the text of a scalar."""
        budget = self._budget
        budget.spend()
        if len(text) > 16:
            budget.text(len(text), narrow=text.isascii())
        self._parts.append(text)

    def open(self, bracket: str) -> None:
        """Begin a list or map."""
        self._budget.spend()
        self._parts.append(bracket)


def _json(value: object, out: _Writer, depth: int) -> None:
    if isinstance(value, str):
        out.node(quoted(value))
    elif is_list(value):
        deeper = deeper_than(depth)
        out.open("[")
        separator = ""
        for member in value:
            out.mark(separator)
            separator = ","
            _json(member, out, deeper)
        out.mark("]")
    elif is_map(value):
        deeper = deeper_than(depth)
        out.open("{")
        separator = ""
        for key, member in list(value.items()):
            if member is not None:
                out.node(separator + quoted(_key_text(key)) + ":")
                separator = ","
                _json(member, out, deeper)
        out.mark("}")
    elif isinstance(value, Entry):
        _json({_key_text(value.key): value.value}, out, depth)
    elif isinstance(value, Loop):
        _json(_loop_map(value), out, depth)
    elif isinstance(value, bytes):
        out.node(f'"{_base64(value)}"')
    elif value is None or isinstance(value, bool) or is_number(value):
        text = _scalar(value)
        out.node(f'"{text}"' if text in ("NaN", "Infinity", "-Infinity") else text)
    else:
        text = _temporal_json(value)
        out.node(text if isinstance(value, timedelta) else f'"{text}"')


def _debug(value: object, out: _Writer, depth: int) -> None:
    if isinstance(value, str):
        out.node(value)
    elif is_list(value):
        deeper = deeper_than(depth)
        out.open("[")
        separator = ""
        for member in value:
            out.mark(separator)
            separator = ", "
            _debug(member, out, deeper)
        out.mark("]")
    elif is_map(value):
        deeper = deeper_than(depth)
        out.open("{")
        separator = ""
        for key, member in list(value.items()):
            out.node(separator + _key_text(key) + "=")
            separator = ", "
            _debug(member, out, deeper)
        out.mark("}")
    elif isinstance(value, Entry):
        deeper = deeper_than(depth)
        _debug(value.key, out, deeper)
        out.mark("=")
        _debug(value.value, out, deeper)
    else:
        out.node(_scalar(value))


def _scalar(value: object) -> str:
    """Give the text of anything that is neither text nor a collection."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value.bit_length() > _MAX_DIGITS * 3:
            raise ExpressionError(f"A whole number has more than {_MAX_DIGITS:,} digits")
        return int.__str__(value)
    if isinstance(value, float):
        from tercel.expression.number_format import java_double  # noqa: PLC0415  # rare

        return java_double(value)
    if isinstance(value, bytes):
        return _base64(value)
    if isinstance(value, Loop):
        return "loop"
    if isinstance(value, Decimal):
        return _decimal_text(value)
    from tercel.expression.dates import temporal_text  # noqa: PLC0415  # loaded only where there is a date

    return temporal_text(_temporal(value))


def _temporal_json(value: object) -> str:
    from tercel.expression.dates import temporal_json  # noqa: PLC0415  # loaded only where there is a date

    return temporal_json(_temporal(value))


def _temporal(value: object) -> datetime | date | time | timedelta:
    if not isinstance(value, (datetime, date, time, timedelta)):
        raise ExpressionError(f"A value of the type {type(value).__name__} has no text form")
    return value


def _decimal_text(number: Decimal) -> str:
    """Give the plain digits of an exact decimal, its scale kept."""
    if number.is_finite() and max(abs(number.adjusted()), len(number.as_tuple().digits)) > _MAX_DIGITS:
        raise ExpressionError(f"A decimal number has more than {_MAX_DIGITS:,} digits")
    return format(number, "f")


def _key_text(key: object) -> str:
    return key if isinstance(key, str) else _scalar(key)


def _loop_map(loop: Loop) -> dict[object, object]:
    return {
        "index": loop.index,
        "length": loop.length,
        "first": loop.first,
        "last": loop.last,
        "revindex": loop.revindex,
    }


def _base64(value: bytes) -> str:
    from base64 import b64encode  # noqa: PLC0415  # rare

    return b64encode(value).decode("ascii")


def deeper_than(depth: int) -> int:
    """Give the next level of a walk through a value.

    Raises:
        ExpressionError: it is too deep.
    """
    if depth >= MAX_VALUE_DEPTH:
        raise ExpressionError(f"A value is nested deeper than {MAX_VALUE_DEPTH} levels")
    return depth + 1


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, Decimal))


def _scalar_key(value: object) -> object:
    return (value,) if isinstance(value, bool) else value


def _order_kind(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    if is_number(value):
        return "number"
    return None if value is None or isinstance(value, (bool, list, dict, bytes, Entry, Loop)) else type(value).__name__


def _code_units(value: object) -> bytes:
    return code_units(str(value))


def _itself(value: object) -> object:
    return value
