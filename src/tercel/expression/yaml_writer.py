"""Values to YAML texts, in the one style of Kestra's filter: block style, quotes only where they are needed."""

import re
from datetime import date, time, timedelta
from typing import Protocol, TypeGuard

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.number_format import java_double

_MAX_DEPTH = 200
_MAX_BITS = 12_000
_STEP = 2
_RESERVED = frozenset(
    spelling
    for word in ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
    for spelling in (word, word.capitalize(), word.upper())
)
# Line and paragraph separators could be written, but would be read as line breaks.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_NEEDS_DOUBLE = re.compile(r"~|.*[\[\]{},\t\r]|#|.*[ ]#|.*:(?:[ ]|\Z)", re.DOTALL)
_NEEDS_SINGLE = re.compile(r"[ &*!|>'\"%@`]|[-?](?:[ ]|\Z)|---|\.\.\.|0[0-9_]+\Z|.*[ ]\Z", re.DOTALL)
_KEY_NEEDS_DOUBLE = re.compile(r"[~0-9+.-]|.*[\t\r]", re.DOTALL)
_KEY_NEEDS_SINGLE = re.compile(r"[\[\]{},#]|.*[ ]#|.*:(?:[ ]|\Z)", re.DOTALL)
_BLANK_BEFORE_BREAK = re.compile(r"[ ](?:\n|\Z)")
_LONGEST_SIMPLE_KEY = 127
_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\0": "\\0", "\x07": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\x0b": "\\v",
    "\x0c": "\\f", "\r": "\\r", "\x1b": "\\e", "\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P",
}  # fmt: skip
_ESCAPED = re.compile('["\\\\\t\n\r]|' + _UNPRINTABLE.pattern)


class _HasKeyAndValue(Protocol):
    key: object
    value: object


def yaml_text(value: object, budget: Budget) -> str:
    """Write a value as one YAML document, ending in a line break; nulls are kept.

    Args:
        value: null, boolean, number, text, date, bytes, list, map, or an entry of a map.
        budget: pays for every node and for the length.

    Raises:
        ExpressionError: the value is nested too deep or too large for the budget.
    """
    writer = _Writer(budget)
    writer.value(value, -_STEP, in_map=False, depth=0)
    text = "".join(writer.parts)[1:]
    # An empty text alone is marked as a document, else the whole would look empty.
    return f"--- {text}" if value == "" else text


class _Writer:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.parts: list[str] = []

    def value(self, value: object, parent: int, *, in_map: bool, depth: int) -> None:
        """Write what follows a key or dash, from the blank on.

        Args:
            value: any value.
            parent: column of the map or list around it.
            in_map: a map is around it: then a list stays in its column.
            depth: maps and lists around it.
        """
        self._budget.spend()
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"The value is nested deeper than {_MAX_DEPTH}, too deep for YAML.")
        if is_entry(value):
            self._map({value.key: value.value}, parent + _STEP, depth)
        elif is_map(value):
            self._map(value, parent + _STEP, depth)
        elif is_list(value):
            self._list(value, parent if in_map else parent + _STEP, depth)
        elif isinstance(value, str):
            # A dash stands one column behind its list: the hint for a block's indentation counts from there.
            self._add(f" {_text(value, max(parent, 0) + _STEP, hint=_STEP if in_map or depth == 0 else 1)}\n")
        else:
            self._add(f" {scalar_text(value)}\n")

    def _map(self, value: dict[object, object], column: int, depth: int) -> None:
        if not value:
            self._add(" {}\n")
            return
        self._add("\n")
        for key, member in list(value.items()):
            text = key if isinstance(key, str) else scalar_text(key)
            self._add(" " * column + _key(text, column))
            self.value(member, column, in_map=True, depth=depth + 1)

    def _list(self, value: list[object], column: int, depth: int) -> None:
        if not value:
            self._add(" []\n")
            return
        self._add("\n")
        for member in value:
            self._add(" " * column + " -")
            self.value(member, column, in_map=False, depth=depth + 1)

    def _add(self, text: str) -> None:
        self._budget.text(len(text), narrow=text.isascii())
        self.parts.append(text)


def is_map(value: object) -> TypeGuard[dict[object, object]]:
    """Tell whether a value is a map."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list."""
    return isinstance(value, list)


def is_entry(value: object) -> TypeGuard[_HasKeyAndValue]:
    """Tell whether a value is a map's entry, as a loop gives it."""
    return hasattr(value, "key") and hasattr(value, "value")


def scalar_text(value: object) -> str:
    """Give the text of a value that is neither text nor a collection, as JSON would have it without quotes.

    Raises:
        ExpressionError: it is none that has a text.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            if value.bit_length() > _MAX_BITS:
                raise ExpressionError("A whole number has too many digits to be written.")
            return int.__str__(value)
        case float():
            return java_double(value)
        case bytes():
            from base64 import b64encode  # noqa: PLC0415 - rarely used

            return b64encode(value).decode("ascii")
        case date() | time() | timedelta():
            from tercel.expression.dates import temporal_json  # noqa: PLC0415 - loaded only where there is a date

            return temporal_json(value)
        case _:
            from decimal import Decimal  # noqa: PLC0415 - slow to import, rarely used

            if isinstance(value, Decimal):
                return format(value, "f")
            raise ExpressionError(f"A {type(value).__name__} cannot be written in this format.")


def _text(text: str, column: int, *, hint: int) -> str:
    if "\n" in text and not (
        "\t" in text or "\r" in text or _BLANK_BEFORE_BREAK.search(text) or _UNPRINTABLE.search(text)
    ):
        return _literal(text, column, hint)
    if not text or text in _RESERVED or "\n" in text or _NEEDS_DOUBLE.match(text) or _UNPRINTABLE.search(text):
        return _double_quoted(text)
    return _single_quoted(text) if _NEEDS_SINGLE.match(text) else text


def _key(text: str, column: int) -> str:
    if not text or "\n" in text or text in _RESERVED or _KEY_NEEDS_DOUBLE.match(text) or _UNPRINTABLE.search(text):
        key = _double_quoted(text)
    elif _NEEDS_SINGLE.match(text) or _KEY_NEEDS_SINGLE.match(text):
        key = _single_quoted(text)
    else:
        key = text
    if text and "\n" not in text and len(text) <= _LONGEST_SIMPLE_KEY:
        return f"{key}:"
    return f"? {key}\n{' ' * column}:"


def _literal(text: str, column: int, step: int) -> str:
    hint = str(step) if text[0] in " \n" else ""
    chomp = "-" if not text.endswith("\n") else "+" if text == "\n" or text.endswith("\n\n") else ""
    lines = text.removesuffix("\n").split("\n")
    margin = " " * column
    return "\n".join([f"|{hint}{chomp}", *(margin + line if line else "" for line in lines)])


def _single_quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _double_quoted(text: str) -> str:
    return '"' + _ESCAPED.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
