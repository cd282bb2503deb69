"""Values of inputs and flow outputs: text, or what is typed already, read as a declared type and checked.

Dates, times and durations come out as ISO 8601 text, because an execution's values are kept as JSON.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import cast

from tercel.model.duration import format_duration, parse_duration
from tercel.model.input_types import CHOICES, Input, InputType, compile_pattern
from tercel.model.storable import storable_problem

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 2**63
_QUOTED = 80
_INT = re.compile(r"[+-]?[0-9]{1,30}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_EMAIL = re.compile(r"[a-zA-Z0-9_!#$%&'*+/=?`{|}~^.-]+@[a-zA-Z0-9.-]+")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
STORED = ("kestra://", "nsfile://")
"""How the URIs begin that an input of type FILE takes as they are."""
_TEXTS = frozenset({"STRING", "EMAIL", "URI", "SELECT", "ENUM", "SECRET", "FILE"})


def parse_value(one: Input, raw: object, choices: Sequence[str] | None) -> object:
    """Parse *raw*, text or typed, as the type of *one* and check it against its bounds and *choices*.

    Raises:
        ValueError: it does not fit; a clause for people, without the full stop. A secret is not told.
    """
    if one.type in CHOICES and one.values is not None and one.options is not None:
        raise ValueError("the flow gives both 'values' and 'options' to choose from; only 'values' may stay")
    _refuse_unstorable(raw)
    value = _parsed(one, raw, choices)
    _refuse_unstorable(value)
    return value


def _refuse_unstorable(value: object) -> None:
    problem = storable_problem(value)
    if problem is not None:
        raise ValueError(problem)


def _parsed(one: Input, raw: object, choices: Sequence[str] | None) -> object:
    if one.type in {"ARRAY", "MULTISELECT"}:
        return _parse_list(one, raw, choices)
    value = _PARSERS[one.type](raw)
    _check_bounds(one, value)
    is_text = isinstance(value, str)
    if is_text and one.validator is not None and compile_pattern(one.validator).fullmatch(value) is None:
        shown = "it" if one.is_secret else quoted(value)
        raise ValueError(f"{shown} does not match {one.validator}")
    is_free = one.allow_custom_value or not one.required
    if one.type in {"SELECT", "ENUM"} and choices is not None and value not in choices and not is_free:
        raise ValueError(f"{quoted(value)} is none of {', '.join(choices)}")
    return value


def parse_output(type_: InputType, rendered: object) -> object:
    """Parse what a flow output rendered to as its type; None stays where the type is one of texts.

    Raises:
        ValueError: as `parse_value`.
    """
    if rendered is None:
        if type_ in _TEXTS:
            return None
        raise ValueError("it has no value")
    return parse_value(Input(id="output", type=type_), rendered, None)


def _parse_list(one: Input, raw: object, choices: Sequence[str] | None) -> list[object]:
    shown = "it" if one.is_secret else quoted(raw)
    try:
        items = _from_json(raw) if isinstance(raw, str) else raw
    except ValueError:
        items = None
    if not isinstance(items, list):
        raise ValueError(f'{shown} is not a list; write it like ["a", "b"]')  # noqa: TRY004  # the reader's fault
    if one.type == "ARRAY" and one.item_type is None:  # an output's: says nothing of its items
        return cast("list[object]", items)
    parse = _PARSERS[one.item_type or "STRING"]
    values: list[object] = []
    for index, item in enumerate(cast("list[object]", items)):
        try:
            values.append(parse(item))
        except ValueError as error:
            raise ValueError(f"item {index} ({error})") from None
    if one.type == "MULTISELECT" and choices is not None and not one.allow_custom_value:
        for value in values:
            if _shown(value) not in choices:
                raise ValueError(f"{quoted(value)} is none of {', '.join(choices)}")
    return values


def _check_bounds(one: Input, value: object) -> None:
    key = _KEYS.get(one.type)
    if key is None:
        return
    for name, words in (("min", "less than"), ("max", "more than"), ("after", "not after"), ("before", "not before")):
        bound = getattr(one, name)
        if bound is None:
            continue
        limit = parse_bound(one, name)
        ours, theirs = key(value), key(limit)
        is_broken = {
            "min": ours < theirs,
            "max": ours > theirs,
            "after": ours <= theirs,
            "before": ours >= theirs,
        }[name]
        if is_broken:
            raise ValueError(f"{_shown(value)} is {words} {_shown(limit)}")


def parse_bound(one: Input, name: str) -> object:
    """The `min`, `max`, `after` or `before` of *one*, whichever is its *name*, as its type. Raises ValueError."""
    return _PARSERS[one.type](getattr(one, name))


# ── one parser per type ──────────────────────────────────────────────────────────────────────────────────────────


def as_text(raw: object) -> str:
    """A value that is one of a text, a number, a date or the like, as text. Raises ValueError for others."""
    match raw:
        case str():
            return raw
        case bool():
            return "true" if raw else "false"
        case int() | float():
            return str(raw)
        case datetime():
            return _format_instant(raw)
        case date() | time():
            return raw.isoformat()
        case timedelta():
            return format_duration(raw)
        case None:
            raise ValueError("nothing is given where a text is needed")
        case _:
            raise ValueError("a list or a map is given where a text is needed")


def _int(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        number = raw
    else:
        text = as_text(raw).strip()
        if _INT.fullmatch(text) is None:
            raise ValueError(f"{quoted(raw)} is not a whole number")
        number = int(text)
    if not -_MOST <= number < _MOST:
        raise ValueError(f"{quoted(raw)} has more than 64 bits")
    return number


def _float(raw: object) -> float:
    text = as_text(raw).strip()
    number = float(text) if _FLOAT.fullmatch(text) else math.inf
    if math.isinf(number):
        raise ValueError(f"{quoted(raw)} is not a number")
    return number


def _boolean(raw: object) -> bool:
    return raw if isinstance(raw, bool) else as_text(raw).strip().lower() == "true"


def _datetime(raw: object) -> str:
    try:
        instant = datetime.fromisoformat(as_text(raw).strip())
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{quoted(raw)} is not an instant; write it like 2030-01-31T12:00:00Z")
    return _format_instant(instant)


def _format_instant(instant: datetime) -> str:
    try:
        return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise ValueError(f"{quoted(instant.isoformat())} is outside of the years 1 to 9999") from None


def _date(raw: object) -> str:
    text = as_text(raw).strip()
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or len(text) != len("2030-01-31"):
        raise ValueError(f"{quoted(raw)} is not a date; write it like 2030-01-31")
    return day.isoformat()


def _time(raw: object) -> str:
    text = as_text(raw).strip()
    try:
        clock = time.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        clock = None
    if clock is None:
        raise ValueError(f"{quoted(raw)} is not a time of day; write it like 12:30 or 12:30:00")
    return clock.isoformat()


def _duration(raw: object) -> str:
    return format_duration(raw if isinstance(raw, timedelta) else parse_duration(as_text(raw)))


def _file(raw: object) -> str:
    text = as_text(raw)
    if not text.startswith(STORED):
        raise ValueError(f"{quoted(raw)} is not a file in internal storage")
    return text


def _json(raw: object) -> object:
    return _from_json(raw) if isinstance(raw, str) else raw


def _from_json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError(f"{quoted(text)} is not JSON") from None


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _yaml(raw: object) -> object:
    if not isinstance(raw, str):
        return raw
    from tercel.model.yaml_nodes import load  # noqa: PLC0415  # a fifth of the start-up, for a rare type of input

    try:
        return load(raw)
    except ValueError as error:
        raise ValueError(f"{quoted(raw)} is not YAML: {str(error).rstrip('.')}") from None


def _uri(raw: object) -> str:
    text = as_text(raw)
    if _URI.fullmatch(text) is None:
        raise ValueError(f"{quoted(raw)} is not a URI; write it like https://example.com/a")
    return text


def _texts(raw: object) -> list[object]:
    return _parse_list(Input(id="item", type="MULTISELECT"), raw, None)


def _email(raw: object) -> str:
    text = as_text(raw)
    if text and _EMAIL.fullmatch(text) is None:
        raise ValueError(f"{quoted(raw)} is not an e-mail address")
    return text


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "STRING": as_text,
    "SELECT": as_text,
    "ENUM": as_text,
    "INT": _int,
    "FLOAT": _float,
    "BOOLEAN": _boolean,
    "BOOL": _boolean,
    "DATETIME": _datetime,
    "DATE": _date,
    "TIME": _time,
    "DURATION": _duration,
    "FILE": _file,
    "JSON": _json,
    "YAML": _yaml,
    "URI": _uri,
    "EMAIL": _email,
    "SECRET": as_text,
    "MULTISELECT": _texts,
}

_MICROSECOND = timedelta(microseconds=1)
_KEYS: Mapping[str, Callable[[object], float]] = {
    "INT": lambda value: cast("int", value),
    "FLOAT": lambda value: cast("float", value),
    "DURATION": lambda value: parse_duration(cast("str", value)) // _MICROSECOND,
    "DATETIME": lambda value: (datetime.fromisoformat(cast("str", value)) - _EPOCH) // _MICROSECOND,
    "DATE": lambda value: date.fromisoformat(cast("str", value)).toordinal(),
    "TIME": lambda value: (datetime.fromisoformat(f"1970-01-01T{value}Z") - _EPOCH) // _MICROSECOND,
}
"""What the parsed values of a type are compared by."""


def quoted(raw: object) -> str:
    """A received value as an error shows it, cut where it is long."""
    text = raw if isinstance(raw, str) else json.dumps(raw, default=str)
    return f"'{text}'" if len(text) <= _QUOTED else f"'{text[:_QUOTED]}…'"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
