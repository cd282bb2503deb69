"""Texts in jq: the formats `@csv`, `@base64` and so on, searching, splitting, and numbers out of texts."""

import re
from collections.abc import Callable

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.jq.runtime import JqError
from tercel.expression.jq.values import failure, is_list, is_map, is_number, json_text, split_text, text_of

_HTML = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", "'": "&#39;", '"': "&quot;"})
_TSV = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"})
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_NUMBER = re.compile(r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)
_MAX_DIGITS = 4000


def formatted(name: str, value: object, budget: Budget) -> str:
    """Write a value in a format, as `@name` does.

    Raises:
        JqError: the value cannot be written so, or there is no such format.
    """
    if name not in _FORMATS:
        raise JqError(f"{name} is not a valid format")
    text = _FORMATS[name](value, budget)
    budget.text(len(text), narrow=text.isascii())
    return text


def _csv(value: object, budget: Budget) -> str:
    return ",".join(_cell(member, "csv", budget) for member in _row(value, "csv"))


def _tsv(value: object, budget: Budget) -> str:
    return "\t".join(_cell(member, "tsv", budget) for member in _row(value, "tsv"))


def _row(value: object, name: str) -> list[object]:
    if not is_list(value):
        raise failure(f"{{}} cannot be {name}-formatted, only array", value)
    return value


def _cell(value: object, name: str, budget: Budget) -> str:
    budget.spend()
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value.translate(_TSV) if name == "tsv" else '"' + value.replace('"', '""') + '"'
        case _ if is_number(value):
            return json_text(value, budget)
        case _:
            raise failure(f"{{}} is not valid in a {name} row", value)


def _sh(value: object, budget: Budget) -> str:
    words: list[str] = []
    for member in value if is_list(value) else [value]:
        budget.spend()
        if is_list(member) or is_map(member):
            raise failure("{} can not be escaped for shell", member)
        words.append("'" + member.replace("'", "'\\''") + "'" if isinstance(member, str) else json_text(member, budget))
    return " ".join(words)


def _uri(value: object, budget: Budget) -> str:
    raw = text_of(value, budget).encode("utf-8", "replace")
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in raw)


def _uri_decoded(value: object, budget: Budget) -> str:
    from urllib.parse import unquote  # noqa: PLC0415 - rarely used

    return unquote(text_of(value, budget), errors="replace")


def _base64(value: object, budget: Budget) -> str:
    from base64 import b64encode  # noqa: PLC0415 - rarely used

    return b64encode(text_of(value, budget).encode("utf-8", "replace")).decode("ascii")


def _base32(value: object, budget: Budget) -> str:
    from base64 import b32encode  # noqa: PLC0415 - rarely used

    return b32encode(text_of(value, budget).encode("utf-8", "replace")).decode("ascii")


def _base64_decoded(value: object, budget: Budget) -> str:
    from base64 import b64decode  # noqa: PLC0415 - rarely used

    text = "".join(text_of(value, budget).split()).rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-8", "replace")
    except ValueError:
        raise failure("{} is not valid base64 data", value) from None


def _base32_decoded(value: object, budget: Budget) -> str:
    from base64 import b32decode  # noqa: PLC0415 - rarely used

    text = text_of(value, budget).rstrip("=")
    try:
        return b32decode(text + "=" * (-len(text) % 8)).decode("utf-8", "replace")
    except ValueError:
        raise failure("{} is not valid base32 data", value) from None


_FORMATS: dict[str, Callable[[object, Budget], str]] = {
    "text": text_of,
    "json": json_text,
    "csv": _csv,
    "tsv": _tsv,
    "html": lambda value, budget: text_of(value, budget).translate(_HTML),
    "uri": _uri,
    "urid": _uri_decoded,
    "sh": _sh,
    "base64": _base64,
    "base64d": _base64_decoded,
    "base32": _base32,
    "base32d": _base32_decoded,
}


def to_number(budget: Budget, value: object) -> object:
    """Give the number that a text means; a number stays itself."""
    if is_number(value):
        return value
    if not isinstance(value, str):
        raise failure("{} cannot be parsed as a number", value)
    budget.scan(len(value))
    found = _NUMBER.fullmatch(value)
    if found is None or len(value) > _MAX_DIGITS:
        raise failure("{} cannot be parsed as a number", value)
    digits = found[1]
    return int(digits) if digits.lstrip("-").isdigit() else float(digits)


def from_json(_budget: Budget, value: object) -> object:
    """Give the value of a JSON text."""
    from tercel.expression.formats import parse_json  # noqa: PLC0415 - rarely used here

    if not isinstance(value, str):
        raise failure("{} only strings can be parsed", value)
    try:
        return parse_json(value)
    except ExpressionError as error:
        raise JqError(f"{error.message} (while parsing '{value[:60]}')", error.message) from error


def split(budget: Budget, value: object, separator: object) -> object:
    """Split a text at every separator."""
    if not (isinstance(value, str) and isinstance(separator, str)):
        raise JqError("split input and separator must be strings")
    return split_text(value, separator, budget)


def join(budget: Budget, value: object, separator: object) -> object:
    """Join the members of a list; null counts as empty, numbers and booleans as their text."""
    if not is_list(value):
        raise failure("Cannot iterate over {}", value)
    if not value:
        return ""
    if not isinstance(separator, str):
        raise failure("{} and {} cannot be added", separator, value[0])
    words: list[str] = []
    length = 0
    for member in value:
        budget.spend()
        if is_list(member) or is_map(member):
            raise failure("{} and {} cannot be added", separator, member)
        words.append("" if member is None else text_of(member, budget))
        length += len(words[-1]) + len(separator)
    budget.text(length)
    return separator.join(words)


def starts_with(_budget: Budget, value: object, start: object) -> object:
    """Tell whether a text begins with another."""
    if not (isinstance(value, str) and isinstance(start, str)):
        raise JqError("startswith() requires string inputs")
    return value.startswith(start)


def ends_with(_budget: Budget, value: object, end: object) -> object:
    """Tell whether a text ends with another."""
    if not (isinstance(value, str) and isinstance(end, str)):
        raise JqError("endswith() requires string inputs")
    return value.endswith(end)


def without_start(_budget: Budget, value: object, start: object) -> object:
    """Give a text without *start* at its beginning; anything else unchanged."""
    return value.removeprefix(start) if isinstance(value, str) and isinstance(start, str) else value


def without_end(_budget: Budget, value: object, end: object) -> object:
    """Give a text without *end* at its end; anything else unchanged."""
    return value.removesuffix(end) if isinstance(value, str) and isinstance(end, str) else value


def trimmed(strip: Callable[[str], str]) -> Callable[[Budget, object], object]:
    """Make the function that cuts blanks off a text with *strip*."""

    def trim(budget: Budget, value: object) -> object:
        if not isinstance(value, str):
            raise failure("{} cannot be trimmed", value)
        budget.scan(len(value))
        return strip(value)

    return trim


def cased(first: str, last: str, offset: int) -> Callable[[Budget, object], object]:
    """Make the function that moves the ASCII letters from *first* to *last* by *offset*."""
    table = {code: code + offset for code in range(ord(first), ord(last) + 1)}

    def change(budget: Budget, value: object) -> object:
        if not isinstance(value, str):
            raise JqError("explode input must be a string")
        budget.scan(len(value))
        return value.translate(table)

    return change


def explode(budget: Budget, value: object) -> object:
    """Give the code points of a text."""
    if not isinstance(value, str):
        raise JqError("explode input must be a string")
    budget.members(len(value), 32)
    return [ord(char) for char in value]


def implode(budget: Budget, value: object) -> object:
    """Give the text of code points."""
    if not is_list(value):
        raise JqError("implode input must be an array")
    budget.members(len(value))
    chars: list[str] = []
    for code in value:
        if not is_number(code) or not 0 <= code <= 0x10FFFF:
            raise JqError("Unicode codepoint must be a number from 0 to 1114111")
        chars.append("\ufffd" if 0xD800 <= code < 0xE000 else chr(int(code)))
    return "".join(chars)


def utf8_length(_budget: Budget, value: object) -> object:
    """Give the number of bytes of a text in UTF-8."""
    if not isinstance(value, str):
        raise failure("{} only strings have UTF-8 byte length", value)
    return len(value.encode("utf-8", "replace"))
