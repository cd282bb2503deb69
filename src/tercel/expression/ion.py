"""Ion texts: writing values and rows, and reading the first value of a text.

Reads nulls of every type, numbers in every notation, timestamps (to ISO text, or in rows to dates), symbols, texts,
blobs and clobs, lists, structs, s-expressions (as lists), annotations (skipped, but for those of times) and comments.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from typing import NoReturn

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.yaml_writer import is_entry, is_list, is_map, scalar_text

_MAX_DEPTH = 200
_MAX_DIGITS = 4000
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_SYMBOL_NUMBER = re.compile(r"\$[0-9]+", re.ASCII)
_KEYWORDS = frozenset({"null", "true", "false", "nan"})
_BLANK = re.compile(r"(?:[ \t\r\n\v\f]+|//[^\n\r]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER = re.compile(
    r"(?P<binary>-?0[bB][01](?:_?[01])*)"
    r"|(?P<hex>-?0[xX][0-9a-fA-F](?:_?[0-9a-fA-F])*)"
    r"|(?P<float>-?[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?[eE][+-]?[0-9]+)"
    r"|(?P<decimal>-?[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?(?:[dD][+-]?[0-9]+)?|[dD][+-]?[0-9]+))"
    r"|(?P<int>-?[0-9](?:_?[0-9])*)",
    re.ASCII,
)
_TIMESTAMP = re.compile(
    r"[0-9]{4}(?:T|-[0-9]{2}(?:T|-[0-9]{2}(?:T(?:[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:[0-9]{2}))?)?))",
    re.ASCII,
)
_SPECIAL_FLOAT = re.compile(r"[+-]inf|nan(?![A-Za-z0-9_$])", re.ASCII)
_END = re.compile(r"(?:[{}\[\](),\"' \t\r\n\v\f]|/[/*]|\Z)", re.ASCII)
_NULL_TYPES = frozenset(
    "null bool int float decimal timestamp string symbol blob clob struct list sexp".split()  # noqa: SIM905 - one line
)
_OPERATORS = re.compile(r"[!#%&*+\-./;<=>?@^`|~]+")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(\r\n|.))", re.DOTALL)
_QUOTED = {quote: re.compile(rf"(?:[^{quote}\\\r\n]++|\\(?s:.))*+") for quote in "\"'"}
_SIMPLE_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "v": "\v",
    "'": "'", '"': '"', "?": "?", "/": "/", "\\": "\\", "\n": "", "\r": "", "\r\n": "",
}  # fmt: skip


def ion_text(value: object, budget: Budget) -> str:
    """Write a value as Ion text: names quoted only where needed, nulls kept, doubles with an exponent.

    Raises:
        ExpressionError: the value is nested too deep or too large for the budget.
    """
    return _written(value, budget, _scalar)


def ion_row(value: object) -> str:
    """Write a value as a row of a file: as `ion_text`, but instants and days as timestamps, for other programs.

    Raises:
        ExpressionError: as `ion_text`.

    Example:
        >>> ion_row({"day": date(2030, 1, 2), "text": "x"})
        '{day:2030-01-02,text:"x"}'
    """
    return _written(value, Budget(), _row_scalar)


def _written(value: object, budget: Budget, scalar: Callable[[object], str]) -> str:
    parts: list[str] = []
    _write(value, parts, budget, 0, scalar)
    text = "".join(parts)
    budget.text(len(text), narrow=text.isascii())
    return text


def _write(value: object, parts: list[str], budget: Budget, depth: int, scalar: Callable[[object], str]) -> None:
    budget.spend()
    if depth > _MAX_DEPTH:
        raise ExpressionError(f"The value is nested deeper than {_MAX_DEPTH}, too deep for Ion.")
    if is_entry(value):
        value = {value.key: value.value}
    if is_map(value):
        separator = "{"
        for key, member in list(value.items()):
            parts.append(f"{separator}{_name(key if isinstance(key, str) else scalar_text(key))}:")
            _write(member, parts, budget, depth + 1, scalar)
            separator = ","
        parts.append("}" if value else "{}")
    elif is_list(value):
        separator = "["
        for member in value:
            parts.append(separator)
            _write(member, parts, budget, depth + 1, scalar)
            separator = ","
        parts.append("]" if value else "[]")
    else:
        text = scalar(value)
        budget.text(len(text), narrow=text.isascii())
        parts.append(text)


def _scalar(value: object) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case float():
            return _double(value)
        case bytes():
            return f"{{{{{scalar_text(value)}}}}}"
        case timedelta():
            return scalar_text(value)
        case datetime() | date() | time():
            return f'"{scalar_text(value)}"'
        case _:
            text = scalar_text(value)
            is_decimal = value is not None and not isinstance(value, (bool, int))
            return f"{text}." if is_decimal and "." not in text else text


def _row_scalar(value: object) -> str:
    match value:
        case datetime():
            text = scalar_text(value)
            return text if value.tzinfo is not None else f'LocalDateTime::"{text}"'
        case date():
            return value.isoformat()
        case time():
            return f'{"OffsetTime" if value.tzinfo else "LocalTime"}::"{scalar_text(value)}"'
        case _:
            return _scalar(value)


def _double(number: float) -> str:
    text = repr(number)
    match text:
        case "nan":
            return "nan"
        case "inf" | "-inf":
            return "+inf" if number > 0 else "-inf"
        case _:
            mantissa, _, exponent = text.partition("e")
            return f"{mantissa.removesuffix('.0')}e{int(exponent or 0)}"


def _name(name: str) -> str:
    if _IDENTIFIER.fullmatch(name) and name not in _KEYWORDS and not _SYMBOL_NUMBER.fullmatch(name):
        return name
    return "'" + json.dumps(name, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def parse_ion(text: str) -> object:
    """Read the first Ion value of a text; what follows it is ignored.

    Returns:
        None, bool, int, float, Decimal, str (symbols and timestamps too), bytes, list or dict.

    Raises:
        ExpressionError: the text does not begin with an Ion value, or is nested too deep.
    """
    return _Reader(text).first()


def parse_ion_row(text: str) -> object:
    """Read a row of a file: as `parse_ion`, but with dates and times, as `ion_row` and other programs write them.

    Returns:
        Besides, and instead of their texts: datetime (aware for timestamps), date (a timestamp of a day only, and one
        of midnight in UTC without an offset), time.

    Raises:
        ExpressionError: as `parse_ion`, or there is no such day or time.

    Example:
        >>> parse_ion_row('{day:2030-01-02,at:LocalTime::"10:00"}')
        {'day': datetime.date(2030, 1, 2), 'at': datetime.time(10, 0)}
    """
    return _RowReader(text).first()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def first(self) -> object:
        """Read one value, behind the version marker if there is one."""
        self._blank()
        if self._text.startswith("$ion_1_0", self._at):
            self._at += len("$ion_1_0")
        return self._value(0)

    def _blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _fail(self, expected: str) -> NoReturn:
        line = self._text.count("\n", 0, self._at) + 1
        column = self._at - (self._text.rfind("\n", 0, self._at) + 1) + 1
        raise ExpressionError(f"The text is not Ion: expected {expected} at line {line}, column {column}.")

    def _value(self, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise ExpressionError(f"The Ion text is nested deeper than {_MAX_DEPTH}.")
        self._blank()
        text, at = self._text, self._at
        if text.startswith("{{", at):
            return self._lob()
        match text[at : at + 1]:
            case "{":
                return self._struct(depth)
            case "[":
                return self._list(depth, "]", comma=True)
            case "(":
                return self._list(depth, ")", comma=False)
            case '"':
                return self._quoted('"')
            case "'":
                if text.startswith("'''", at):
                    return self._long_text()
                symbol = self._quoted("'")
                return self._annotated(symbol, depth) if self._annotates() else symbol
            case _:
                return self._word(depth)

    def _annotated(self, name: str, depth: int) -> object:
        """The value behind an annotation."""
        return self._value(depth)

    def _timestamp(self, text: str) -> object:
        return _timestamp(text)

    def _annotates(self) -> bool:
        self._blank()
        if self._text.startswith("::", self._at):
            self._at += 2
            return True
        return False

    def _word(self, depth: int) -> object:
        special = _SPECIAL_FLOAT.match(self._text, self._at)
        if special is not None:
            self._at = special.end()
            return float(special[0])
        for pattern in (_TIMESTAMP, _NUMBER):
            found = pattern.match(self._text, self._at)
            if found is not None and _END.match(self._text, found.end()):
                self._at = found.end()
                return self._timestamp(found[0]) if pattern is _TIMESTAMP else self._number(found)
        found = _IDENTIFIER.match(self._text, self._at)
        if found is None:
            self._fail("a value")
        self._at = found.end()
        word = found[0]
        if self._annotates():
            return self._annotated(word, depth)
        if word == "null" and self._text.startswith(".", self._at):
            kind = _IDENTIFIER.match(self._text, self._at + 1)
            if kind is None or kind[0] not in _NULL_TYPES:
                self._fail("a type behind `null.`")
            self._at = kind.end()
        return {"null": None, "true": True, "false": False}.get(word, word)

    def _number(self, found: re.Match[str]) -> object:
        digits = found[0].replace("_", "")
        if len(digits) > _MAX_DIGITS:
            raise ExpressionError(f"The Ion text has a number of more than {_MAX_DIGITS:,} digits.")
        match found.lastgroup:
            case "binary" | "hex":
                return int(digits, 0)
            case "int":
                return int(digits)
            case "float":
                return float(digits)
            case _:
                from decimal import Decimal  # noqa: PLC0415 - slow to import, rarely used

                return Decimal(digits.lower().replace("d", "e"))

    def _struct(self, depth: int) -> dict[str, object]:
        self._at += 1
        members: dict[str, object] = {}
        while not self._closes("}"):
            name = self._field_name()
            self._blank()
            if not self._text.startswith(":", self._at):
                self._fail("':'")
            self._at += 1
            members[name] = self._value(depth + 1)
            self._separator("}")
        return members

    def _field_name(self) -> str:
        if self._text.startswith("'''", self._at):
            return self._long_text()
        quote = self._text[self._at : self._at + 1]
        if quote in {"'", '"'} and quote:
            return self._quoted(quote)
        found = _IDENTIFIER.match(self._text, self._at)
        if found is None:
            self._fail("the name of a field")
        self._at = found.end()
        return found[0]

    def _list(self, depth: int, end: str, *, comma: bool) -> list[object]:
        self._at += 1
        members: list[object] = []
        while not self._closes(end):
            operator = None if comma else _OPERATORS.match(self._text, self._at)
            if operator is not None and not _NUMBER.match(self._text, self._at):
                self._at = operator.end()
                members.append(operator[0])
            else:
                members.append(self._value(depth + 1))
            if comma:
                self._separator(end)
        return members

    def _closes(self, end: str) -> bool:
        self._blank()
        if self._text.startswith(end, self._at):
            self._at += 1
            return True
        return False

    def _separator(self, end: str) -> None:
        self._blank()
        if self._text.startswith(",", self._at):
            self._at += 1
        elif not self._text.startswith(end, self._at):
            self._fail(f"',' or '{end}'")

    def _quoted(self, quote: str) -> str:
        start = self._at + 1
        found = _QUOTED[quote].match(self._text, start)
        end = start if found is None else found.end()
        if not self._text.startswith(quote, end):
            self._fail(f"a closing {quote}")
        self._at = end + 1
        return self._unescaped(self._text[start:end])

    def _long_text(self) -> str:
        text = ""
        while self._text.startswith("'''", self._at):
            start = at = self._at + 3
            while not self._text.startswith("'''", at):
                if at >= len(self._text):
                    self._fail("closing '''")
                at += 2 if self._text[at] == "\\" else 1
            text += self._unescaped(self._text[start:at].replace("\r\n", "\n").replace("\r", "\n"))
            self._at = at + 3
            self._blank()
        return text

    def _unescaped(self, text: str) -> str:
        return _ESCAPE.sub(self._escape, text) if "\\" in text else text

    def _escape(self, found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        if code:
            number = int(code, 16)
            return chr(number) if number <= 0x10FFFF else self._fail("a character")
        if found[4] not in _SIMPLE_ESCAPES:
            self._fail("an escape that Ion knows")
        return _SIMPLE_ESCAPES[found[4]]

    def _lob(self) -> bytes:
        self._at += 2
        self._blank()
        text: str | None = None
        if self._text.startswith("'''", self._at):
            text = self._long_text()
        elif self._text.startswith('"', self._at):
            text = self._quoted('"')
        end = self._text.find("}}", self._at)
        if end < 0:
            self._fail("'}}'")
        content = self._text[self._at : end]
        self._at = end + 2
        if text is not None:
            return text.encode("latin-1", "replace")
        from base64 import b64decode  # noqa: PLC0415 - rarely used

        try:
            return b64decode("".join(content.split()), validate=True)
        except ValueError:
            self._fail("Base64 between '{{' and '}}'")


class _RowReader(_Reader):
    """Knows dates and times."""

    def _timestamp(self, text: str) -> object:
        iso = _timestamp(text)
        try:
            if len(iso) == _DAY_LENGTH:
                return date.fromisoformat(iso)
            moment = datetime.fromisoformat(iso)
        except ValueError:
            self._fail(f"a timestamp, not {text},")
        is_day = iso.endswith("-00:00") and moment.time() == time()
        return moment.date() if is_day else moment

    def _annotated(self, name: str, depth: int) -> object:
        value = self._value(depth)
        read = _TIMES.get(name)
        if read is None or not isinstance(value, str):
            return value
        try:
            return read(value.partition("[")[0])  # behind it there may be the name of a zone
        except ValueError:
            self._fail(f"a time of the kind {name}, not {value!r},")


_DAY_LENGTH = len("2030-01-02")
_TIMES: Mapping[str, Callable[[str], object]] = {
    "OffsetDateTime": datetime.fromisoformat,
    "ZonedDateTime": datetime.fromisoformat,
    "LocalDateTime": datetime.fromisoformat,
    "OffsetTime": time.fromisoformat,
    "LocalTime": time.fromisoformat,
}


def _timestamp(text: str) -> str:
    """Ion may leave out parts; ISO wants a date at least, and no T behind it."""
    day, _, at = text.partition("T")
    day += "-01" * (2 - day.count("-"))
    return f"{day}T{at}" if at else day
