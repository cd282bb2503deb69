"""The values that an execution starts with: parsed, defaulted and checked against the declared inputs.

Pure: expressions are rendered by a callable that is handed in, and uploads have been stored by whoever calls.
Dates, times and durations come out as ISO 8601 text, because an execution's inputs are kept as JSON.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import cast

from tercel.errors import InvalidInputError, UserError
from tercel.model.duration import format_duration, parse_duration
from tercel.model.input_types import Input
from tercel.model.task import Problem

RenderTyped = Callable[[str, Mapping[str, object]], object]
"""Renders a template with these variables on top of the execution's; what prints one value keeps its type."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSENT = object()
_TEXTUAL = frozenset({"STRING", "EMAIL", "FILE"})
_MOST = 2**63
_QUOTED = 80
_EMAIL = re.compile(r"[a-zA-Z0-9_!#$%&'*+/=?`{|}~^.-]+@[a-zA-Z0-9.-]+")
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d+)?)?")
STORED = ("kestra://", "nsfile://")
"""How the URIs begin that an input of type FILE takes as they are."""


def resolve_inputs(
    declared: Sequence[Input], given: Mapping[str, object], render_typed: RenderTyped
) -> dict[str, object]:
    """Parse, default and check *given* by what is *declared*.

    Args:
        declared: the inputs of a flow (`flow.inputs`).
        given: by input id, text or already typed; what no input is named by is ignored.
        render_typed: renders conditions, defaults that are expressions and lists of values.

    Returns:
        The values by id, ids with dots as nested maps; inputs switched off by `dependsOn` are left out.

    Raises:
        InvalidInputError: naming every input that is missing or does not fit.
    """
    resolution = _Resolution(declared, given, render_typed)
    for one in declared:
        resolution.resolve(one.id)
    if resolution.errors:
        raise InvalidInputError("\n".join(resolution.errors), "Start the flow again with values that fit.")
    values: dict[str, object] = {}
    for one in declared:
        value = resolution.values[one.id]
        if value is not _ABSENT:
            _place(values, one.id.split("."), value)
    return values


class _Resolution:
    """One call of `resolve_inputs`: what is known of each input so far."""

    def __init__(self, declared: Sequence[Input], given: Mapping[str, object], render_typed: RenderTyped) -> None:
        self.values: dict[str, object] = {}
        self.errors: list[str] = []
        self._declared = {one.id: one for one in declared}
        self._given = given
        self._render = render_typed

    def resolve(self, id_: str) -> object:
        """The value of the input, worked out once; absent while it, or what it depends on, is switched off."""
        if id_ not in self.values:
            self.values[id_] = _ABSENT  # also ends a circle of dependencies
            one = self._declared.get(id_)
            if one is not None:
                try:
                    self.values[id_] = self._value(one)
                except (ValueError, UserError) as error:
                    text = error.message if isinstance(error, UserError) else f"{error}."
                    self.errors.append(f"Input '{id_}': {text}")
        return self.values[id_]

    def _value(self, one: Input) -> object:
        variables: dict[str, object] = {}
        for needed in one.depends_on.inputs if one.depends_on else ():
            value = self.resolve(needed)
            if value is _ABSENT:
                return _ABSENT
            _place(variables, needed.split("."), value)
        context = {"inputs": variables}
        condition = one.depends_on.condition if one.depends_on else None
        if condition is not None and self._render(condition, context) is not True:
            return _ABSENT
        raw = self._given.get(one.id)
        if raw == "" and one.type not in _TEXTUAL:
            raw = None
        if raw is None:
            raw = one.defaults
            if isinstance(raw, str) and _is_template(raw):
                raw = self._render(raw, context)
            elif one.type in {"BOOLEAN", "BOOL"} and raw in {"yes", "Yes", "YES", "on", "On", "ON"}:
                raw = True
        if raw is None:
            if one.required:
                raise ValueError("a value is missing")
            return None
        choices = one.choices
        if choices is None and one.expression is not None:
            choices = _listed(self._render(one.expression, context))
        return parse_value(one, raw, choices)


def _listed(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("its expression gives no list of values")  # noqa: TRY004  # the flow's fault, told as text
    return [_as_text(item) for item in cast("list[object]", value) if item is not None]


def _place(values: dict[str, object], path: Sequence[str], value: object) -> None:
    for step in path[:-1]:
        inner = values.setdefault(step, {})
        if not isinstance(inner, dict):
            return  # refused when the flow was read
        values = cast("dict[str, object]", inner)
    values[path[-1]] = value


def default_problems(one: Input) -> Iterator[Problem]:
    """What is wrong with the bounds and the default that *one* declares, as far as it shows before any start."""
    for name in ("min", "max", "after", "before"):
        bound = getattr(one, name)
        if bound is not None:
            try:
                _PARSERS[one.type](bound)
            except ValueError as error:
                yield Problem(f"'{name}' does not fit: {error}.", f"Write a value of type {one.type}.", "", (name,))
                return
    if one.defaults is None or (isinstance(one.defaults, str) and _is_template(one.defaults)):
        return
    if one.type == "FILE" and not str(one.defaults).startswith(STORED):
        message = f"The default {_quoted(one.defaults)} is not a file in internal storage."
        yield Problem(message, "Use a URI like nsfile:///data.csv.", "input.file.defaults", ("defaults",))
        return
    if one.type == "SECRET" or (one.choices is None and one.expression is not None):
        return
    try:
        parse_value(one, one.defaults, one.choices)
    except ValueError as error:
        yield Problem(f"The default does not fit: {error}.", "", "input.defaults", ("defaults",))


def parse_value(one: Input, raw: object, choices: Sequence[str] | None) -> object:
    """Parse *raw*, text or typed, as the type of *one* and check it against its bounds and *choices*.

    Raises:
        ValueError: it does not fit; a clause for people, without the full stop.
    """
    if one.type in {"ARRAY", "MULTISELECT"}:
        return _parse_list(one, raw, choices)
    value = _PARSERS[one.type](raw)
    _check_bounds(one, value)
    if one.validator is not None and re.fullmatch(one.validator, cast("str", value)) is None:
        shown = "it" if one.type == "SECRET" else _quoted(value)
        raise ValueError(f"{shown} does not match {one.validator}")
    is_free = one.allow_custom_value or not one.required
    if one.type in {"SELECT", "ENUM"} and choices is not None and value not in choices and not is_free:
        raise ValueError(f"{_quoted(value)} is none of {', '.join(choices)}")
    return value


def _parse_list(one: Input, raw: object, choices: Sequence[str] | None) -> list[object]:
    items = _from_json(raw) if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise ValueError(f'{_quoted(raw)} is not a list; write it like ["a", "b"]')  # noqa: TRY004
    parse = _PARSERS[one.item_type or "STRING"]
    values: list[object] = []
    for index, item in enumerate(cast("list[object]", items)):
        try:
            values.append(parse(item))
        except ValueError as error:
            raise ValueError(f"item {index} ({error})") from None
    if one.type == "MULTISELECT" and choices is not None and not one.allow_custom_value:
        for value in values:
            if _as_text(value) not in choices:
                raise ValueError(f"{_quoted(value)} is none of {', '.join(choices)}")
    return values


def _check_bounds(one: Input, value: object) -> None:
    key = _KEYS.get(one.type)
    if key is None:
        return
    for name, words in (("min", "less than"), ("max", "more than"), ("after", "not after"), ("before", "not before")):
        bound = getattr(one, name)
        if bound is None:
            continue
        limit = _PARSERS[one.type](bound)
        ours, theirs = key(value), key(limit)
        is_broken = {
            "min": ours < theirs,
            "max": ours > theirs,
            "after": ours <= theirs,
            "before": ours >= theirs,
        }[name]
        if is_broken:
            raise ValueError(f"{_shown(value)} is {words} {_shown(limit)}")


# ── one parser per type ──────────────────────────────────────────────────────────────────────────────────────────


def _as_text(raw: object) -> str:
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
        case _:
            raise ValueError("a list or a map is given where a text is needed")


def _int(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        number = raw
    else:
        text = _as_text(raw).strip()
        if re.fullmatch(r"[+-]?\d{1,30}", text) is None:
            raise ValueError(f"{_quoted(raw)} is not a whole number")
        number = int(text)
    if not -_MOST <= number < _MOST:
        raise ValueError(f"{_quoted(raw)} has more than 64 bits")
    return number


def _float(raw: object) -> float:
    try:
        number = float(_as_text(raw))
    except ValueError:
        raise ValueError(f"{_quoted(raw)} is not a number") from None
    if not math.isfinite(number) or isinstance(raw, bool):
        raise ValueError(f"{_quoted(raw)} is not a number")
    return number


def _boolean(raw: object) -> bool:
    return raw if isinstance(raw, bool) else _as_text(raw).strip().lower() == "true"


def _datetime(raw: object) -> str:
    try:
        instant = datetime.fromisoformat(_as_text(raw).strip())
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"{_quoted(raw)} is not an instant; write it like 2030-01-31T12:00:00Z")
    return _format_instant(instant)


def _format_instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _date(raw: object) -> str:
    text = _as_text(raw).strip()
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or len(text) != len("2030-01-31"):
        raise ValueError(f"{_quoted(raw)} is not a date; write it like 2030-01-31")
    return day.isoformat()


def _time(raw: object) -> str:
    text = _as_text(raw).strip()
    try:
        clock = time.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        clock = None
    if clock is None:
        raise ValueError(f"{_quoted(raw)} is not a time of day; write it like 12:30 or 12:30:00")
    return clock.isoformat()


def _duration(raw: object) -> str:
    return format_duration(raw if isinstance(raw, timedelta) else parse_duration(_as_text(raw)))


def _file(raw: object) -> str:
    text = _as_text(raw)
    if not text.startswith(STORED):
        raise ValueError(f"{_quoted(raw)} is not a file in internal storage")
    return text


def _json(raw: object) -> object:
    return _from_json(raw) if isinstance(raw, str) else raw


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{_quoted(text)} is not JSON") from None


def _yaml(raw: object) -> object:
    if not isinstance(raw, str):
        return raw
    from tercel.model.yaml_nodes import load  # noqa: PLC0415  # a fifth of the start-up, for a rare type of input

    try:
        return load(raw)
    except ValueError as error:
        raise ValueError(f"it is not YAML: {str(error).rstrip('.')}") from None


def _uri(raw: object) -> str:
    text = _as_text(raw)
    if _URI.fullmatch(text) is None:
        raise ValueError(f"{_quoted(raw)} is not a URI; write it like https://example.com/a")
    return text


def _email(raw: object) -> str:
    text = _as_text(raw)
    if text and _EMAIL.fullmatch(text) is None:
        raise ValueError(f"{_quoted(raw)} is not an e-mail address")
    return text


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "STRING": _as_text,
    "SELECT": _as_text,
    "ENUM": _as_text,
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
    "SECRET": _as_text,
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


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


def _quoted(raw: object) -> str:
    text = raw if isinstance(raw, str) else json.dumps(raw, default=str)
    return f"'{text}'" if len(text) <= _QUOTED else f"'{text[:_QUOTED]}…'"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
