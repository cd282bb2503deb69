"""Filters of searches, in both styles: flat parameters, and `filters[field][OPERATION]=value`. Pure.

Both become conditions of one form. Whoever searches says which fields there are, and either has rows tested here, by
`holds`, or puts the conditions into a query of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

import msgspec

from tercel.api.parameters import Parameters, read_choice, read_duration, read_flag, read_instant, read_whole
from tercel.api.problems import RequestError
from tercel.model.search import AllOf, AnyOf, Condition, Operation, Where
from tercel.model.state import State
from tercel.model.task import LEVEL_RANK, LogLevel


class Scope(StrEnum):
    """Whose flows are meant: people's, or those of the system namespace."""

    USER = "USER"
    SYSTEM = "SYSTEM"


class ChildFilter(StrEnum):
    """Executions that another one started, or those that none did."""

    CHILD = "CHILD"
    MAIN = "MAIN"


class Kind(msgspec.Struct, frozen=True):
    """What values a field has, and how it may be compared.

    Attributes:
        read: reads a value, given the field's name; raises RequestError.
        operations: how it may be compared.
        is_map: its conditions name a key.
    """

    read: Callable[[str, str], Any]
    operations: frozenset[Operation]
    is_map: bool = False


_O = Operation
_SAME = frozenset({_O.EQUALS, _O.NOT_EQUALS})
_AMONG = _SAME | {_O.IN, _O.NOT_IN}
_ABSENT = frozenset({_O.IS_NULL, _O.IS_NOT_NULL})
_ORDERED = _SAME | {_O.GREATER_THAN, _O.LESS_THAN, _O.GREATER_THAN_OR_EQUAL_TO, _O.LESS_THAN_OR_EQUAL_TO}
_LIKE = _AMONG | {_O.STARTS_WITH, _O.ENDS_WITH, _O.CONTAINS, _O.NOT_CONTAINS, _O.REGEX, _O.PREFIX}


def _as_text(_: str, value: str) -> str:
    return value


TEXT = Kind(_as_text, _LIKE | _ABSENT)
"""A text. PREFIX means the text itself, or one that goes on with a dot: a namespace and all below it."""

QUERY = Kind(_as_text, frozenset({_O.EQUALS, _O.NOT_EQUALS, _O.CONTAINS}))
"""Free text, looked for wherever it may stand."""

FLAG = Kind(read_flag, _SAME)
WHOLE = Kind(lambda name, value: read_whole(name, value, least=-(2**62)), _AMONG | _ORDERED)
DATE = Kind(read_instant, _ORDERED | _ABSENT)
MAP = Kind(_as_text, _LIKE | _ABSENT, is_map=True)
STATE = Kind(lambda name, value: read_choice(name, value, State), _AMONG)
SCOPE = Kind(lambda name, value: read_choice(name, value, Scope), _AMONG)
CHILD = Kind(lambda name, value: read_choice(name, value, ChildFilter), _SAME)
LEVEL = Kind(lambda name, value: read_choice(name, value, LogLevel), _ORDERED | _AMONG)
RANGE = Kind(read_duration, frozenset({_O.EQUALS}))
"""A time back from now; read as a condition on `startDate`."""

Fields = Mapping[str, Kind]
"""The fields of a search, as clients call them."""

MOST_DEPTH = 2

_PART = re.compile(r"\[([^\[\]]*)\]")


def read_filters(parameters: Parameters, fields: Fields, now: datetime) -> AllOf:
    """What has to hold of the rows that a search gives.

    Args:
        parameters: of the request; those that are no filter are left alone.
        fields: what can be searched by; `timeRange` is understood wherever there is `startDate`.
        now: the current instant.

    Returns:
        All conditions. `namespace` as a flat parameter means the namespace and all below it; a level means that level
        and all above it.

    Raises:
        RequestError: 422, an unknown field or operation, or a value that the field cannot have.
    """
    known = {**fields, "timeRange": RANGE} if "startDate" in fields else dict(fields)
    parts = _flat(parameters, known, now)
    groups: dict[str, dict[str, list[tuple[list[str], str]]]] = {}
    for name, value in parameters:
        if not name.startswith("filters["):
            continue
        keys = _keys(name)
        if keys[0] in ("and", "or"):
            groups.setdefault(keys[0], {}).setdefault(_index(name, keys), []).append((keys[2:], value))
        else:
            parts.append(_leaf(name, keys, value, known, now))
    parts += _groups(groups, known, now, depth=1)
    read = AllOf(tuple(parts))
    _refuse_turned(read)
    return read


def _keys(name: str) -> list[str]:
    keys = _PART.findall(name)
    if "filters" + "".join(f"[{key}]" for key in keys) != name or len(keys) < 2:
        raise RequestError(422, f"{name!r} is no filter.", hint="Write filters[field][OPERATION]=value.")
    return keys


def _index(name: str, keys: Sequence[str]) -> str:
    if not (keys[1].isascii() and keys[1].isdecimal()) or len(keys) < 4:
        raise RequestError(422, f"{name!r} is no filter.", hint="Write filters[or][0][field][OPERATION]=value.")
    return keys[1]


def _groups(
    groups: Mapping[str, Mapping[str, list[tuple[list[str], str]]]], known: Fields, now: datetime, *, depth: int
) -> list[Where]:
    found: list[Where] = []
    for word, entries in groups.items():
        members: list[Where] = []
        for _, leaves in sorted(entries.items(), key=lambda entry: int(entry[0])):
            inner: dict[str, dict[str, list[tuple[list[str], str]]]] = {}
            own: list[Where] = []
            for keys, value in leaves:
                name = "filters" + "".join(f"[{key}]" for key in keys)
                if keys[0] not in ("and", "or"):
                    own.append(_leaf(name, keys, value, known, now))
                elif depth >= MOST_DEPTH:
                    raise RequestError(422, f"The filter {name!r} is nested too deep.", hint="One level is possible.")
                else:
                    inner.setdefault(keys[0], {}).setdefault(_index(name, keys), []).append((keys[2:], value))
            own += _groups(inner, known, now, depth=depth + 1)
            members.append(own[0] if len(own) == 1 else AllOf(tuple(own)))
        found.append(AnyOf(tuple(members)) if word == "or" else AllOf(tuple(members)))
    return found


def _leaf(name: str, keys: Sequence[str], value: str, known: Fields, now: datetime) -> Condition:
    field = keys[0]
    kind = known.get(field)
    if kind is None:
        raise RequestError(422, f"There is no filter {field!r}.", hint=f"Possible are {', '.join(sorted(known))}.")
    try:
        operation = Operation(keys[1].upper())
    except ValueError:
        raise RequestError(422, f"There is no operation {keys[1]!r}.") from None
    if operation not in kind.operations:
        possible = ", ".join(sorted(kind.operations))
        raise RequestError(422, f"{field!r} cannot be compared by {operation}.", hint=f"Possible are {possible}.")
    key = keys[2] if len(keys) == 3 else ""
    if len(keys) > 3 or bool(key) is not kind.is_map:
        if not (kind.is_map and len(keys) == 2 and ":" in value):
            raise RequestError(422, f"{name!r} is no filter on {field!r}.")
        key, _, value = value.partition(":")
    return _condition(field, operation, value, kind, now=now, key=key)


def _condition(field: str, operation: Operation, value: str, kind: Kind, *, now: datetime, key: str = "") -> Condition:
    read: Any
    if operation in _ABSENT:
        read = None
    elif operation in (_O.IN, _O.NOT_IN):
        read = tuple(kind.read(field, one.strip()) for one in value.split(",") if one.strip())
    else:
        read = kind.read(field, value)
    if field == "timeRange":
        return _since(cast("timedelta", read), now)
    if kind is LEVEL and operation is _O.EQUALS:
        operation = _O.GREATER_THAN_OR_EQUAL_TO
    if operation is _O.REGEX:
        _pattern(value)
    return Condition(field=field, operation=operation, value=read, key=key)


def _since(span: timedelta, now: datetime) -> Condition:
    try:
        return Condition(field="startDate", operation=_O.GREATER_THAN_OR_EQUAL_TO, value=now - span)
    except OverflowError:
        raise RequestError(422, "The time range is longer than time is.") from None


_FLAT: tuple[tuple[str, str, Operation], ...] = (
    ("q", "q", _O.EQUALS),
    ("namespace", "namespace", _O.PREFIX),
    ("flowId", "flowId", _O.EQUALS),
    ("triggerId", "triggerId", _O.EQUALS),
    ("executionId", "executionId", _O.EQUALS),
    ("taskId", "taskId", _O.EQUALS),
    ("workerId", "workerId", _O.EQUALS),
    ("triggerExecutionId", "triggerExecutionId", _O.EQUALS),
    ("childFilter", "childFilter", _O.EQUALS),
    ("minLevel", "level", _O.GREATER_THAN_OR_EQUAL_TO),
    ("startDate", "startDate", _O.GREATER_THAN_OR_EQUAL_TO),
    ("endDate", "endDate", _O.LESS_THAN_OR_EQUAL_TO),
    ("timeRange", "timeRange", _O.EQUALS),
)
"""Parameter, field and operation of the flat style; lists apart."""


def _flat(parameters: Parameters, known: Fields, now: datetime) -> list[Where]:
    parts: list[Where] = []
    for name, field, operation in _FLAT:
        value = parameters.text(name)
        if value and field in known:
            parts.append(_condition(field, operation, value, known[field], now=now))
    for field in ("state", "scope"):
        values = [one for text in parameters.every(field) for one in text.split(",") if one]
        if values and field in known:
            read = tuple(known[field].read(field, one) for one in values)
            parts.append(Condition(field=field, operation=_O.IN, value=read))
    if "labels" in known:
        for key, value in parameters.labels().items():
            parts.append(Condition(field="labels", operation=_O.EQUALS, value=value, key=key))
    if parameters.text("timeRange") and parameters.text("startDate"):
        raise RequestError(422, "Give either startDate or timeRange.")
    return parts


def _refuse_turned(read: AllOf) -> None:
    starts = [one.value for one in read.of("startDate") if one.operation is _O.GREATER_THAN_OR_EQUAL_TO]
    ends = [one.value for one in read.of("endDate") if one.operation is _O.LESS_THAN_OR_EQUAL_TO]
    if starts and ends and max(starts) > min(ends):
        raise RequestError(422, "startDate is after endDate.")


def flat_filters(fields: Fields) -> dict[str, Kind]:
    """The flat parameters of a search that has these fields, by name, with what their values are."""
    known = {**fields, "timeRange": RANGE} if "startDate" in fields else fields
    found = {name: known[field] for name, field, _ in _FLAT if field in known}
    return found | {name: known[name] for name in ("state", "scope", "labels") if name in known}


def holds(where: Where, values: Callable[[str], Any]) -> bool:
    """Say whether what a row has fits.

    Args:
        where: what has to hold.
        values: a field's value of the row; None where it has none. Where the field may stand in several places, as
            for `q`, a list of texts, one of which has to fit; a mapping for a map.
    """
    match where:
        case AllOf():
            return all(holds(part, values) for part in where.parts)
        case AnyOf():
            return any(holds(part, values) for part in where.parts)
        case Condition():
            value = values(where.field)
            if isinstance(value, Mapping):
                value = cast("Mapping[str, Any]", value).get(where.key)
            if isinstance(value, list):
                return _fits_any(where, cast("list[str]", value))
            return _fits(where, value)


def _fits_any(condition: Condition, texts: Iterable[str]) -> bool:
    """Free text is looked for anywhere, in any case."""
    is_there = any(str(condition.value).lower() in text.lower() for text in texts)
    return is_there is not (condition.operation is _O.NOT_EQUALS)


def _fits(condition: Condition, value: Any) -> bool:
    wanted: Any = condition.value
    operation = condition.operation
    if operation in _ABSENT:
        return (value is None) is (operation is _O.IS_NULL)
    if value is None:
        return operation in (_O.NOT_EQUALS, _O.NOT_IN, _O.NOT_CONTAINS)
    if isinstance(condition.value, LogLevel):
        value, wanted = LEVEL_RANK[LogLevel(value)], LEVEL_RANK[condition.value]
    match operation:
        case _O.EQUALS:
            return value == wanted
        case _O.NOT_EQUALS:
            return value != wanted
        case _O.GREATER_THAN:
            return value > wanted
        case _O.LESS_THAN:
            return value < wanted
        case _O.GREATER_THAN_OR_EQUAL_TO:
            return value >= wanted
        case _O.LESS_THAN_OR_EQUAL_TO:
            return value <= wanted
        case _O.IN:
            return value in wanted
        case _O.NOT_IN:
            return value not in wanted
        case _O.STARTS_WITH:
            return value.startswith(wanted)
        case _O.ENDS_WITH:
            return value.endswith(wanted)
        case _O.CONTAINS:
            return wanted.lower() in value.lower()
        case _O.NOT_CONTAINS:
            return wanted.lower() not in value.lower()
        case _O.PREFIX:
            return value == wanted or value.startswith(f"{wanted}.")
        case _:
            return _pattern(wanted)(value)


def _pattern(text: str) -> Callable[[str], bool]:
    """Looks for a regular expression, for a limited time. Raises RequestError, 422, where it is none."""
    import regex  # noqa: PLC0415  # few filters are regular expressions

    try:
        compiled = regex.compile(text)
    except regex.error as error:
        raise RequestError(422, f"{text[:100]!r} is no regular expression: {error}.") from None

    def find(value: str) -> bool:
        try:
            return compiled.search(value, timeout=0.2) is not None
        except TimeoutError:
            raise RequestError(422, f"The regular expression {text[:100]!r} takes too long.") from None

    return find
