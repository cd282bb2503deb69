"""Payloads: the JSON inside a frame, checked as a whole before anything of it is used."""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NoReturn, cast

import msgspec

from tercel.model.duration import parse_duration
from tercel.model.task import LogLevel
from tercel.script_protocol.lines import MAX_LINE_CHARACTERS

MetricType = Literal["counter", "timer", "gauge"]


class InvalidPayloadError(ValueError):
    """A payload that is refused as a whole; the message is the reason, for people."""


class PayloadMetric(msgspec.Struct, frozen=True):
    """A value that the script measured; *value* is seconds for a timer."""

    type: MetricType
    name: str
    value: float
    tags: dict[str, str]


class PayloadLog(msgspec.Struct, frozen=True):
    """Something the script, or the protocol about it, has to say."""

    level: LogLevel
    message: str


class Payload(msgspec.Struct, frozen=True):
    """What one payload asks for.

    Attributes:
        outputs: merged into the task's outputs, level by level only at the top.
        secret_outputs: the same, but every text in them is a secret from now on.
        entries: log entries in order, complaints about incomplete metrics and logs among them.
    """

    outputs: dict[str, object]
    secret_outputs: dict[str, object]
    metrics: list[PayloadMetric]
    entries: list[PayloadLog]


BARE_SECTIONS = frozenset({"outputs", "metrics", "logs", "assets"})


def read_payloads(text: str) -> Iterator[Payload]:
    """The payloads of a frame, *text* being what stands between its outer `::`, left to right.

    What follows a payload is ignored unless it is the next one, as two prints without a line break leave it.

    Raises:
        InvalidPayloadError: a payload is not strict JSON or has a wrong shape; those before it were given.
    """
    at = 0
    while True:
        value, end = _decode(text, at)
        yield _check(value)
        if text.startswith("::::{", end):
            at = end + 4
        elif text.startswith("::{", end):
            at = end + 2
        else:
            return


def read_bare_payload(line: str) -> Payload | None:
    """The payload that *line* is without a frame; None where it is an ordinary line, as most JSON is."""
    if not any(f'"{section}"' in line for section in BARE_SECTIONS):
        return None
    try:
        value, end = _decode(line, 0)
        if end != len(line) or not value or not BARE_SECTIONS.issuperset(value):
            return None
        return _check(value)
    except InvalidPayloadError:
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidPayloadError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidPayloadError(f"{text} is too large for a number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_MAX_DEPTH = 100
"""Whoever reads outputs later may walk them by recursion."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _decode(text: str, at: int) -> tuple[dict[str, object], int]:
    try:
        value, end = cast("tuple[object, int]", _DECODER.raw_decode(text, at))
    except InvalidPayloadError:
        raise
    except json.JSONDecodeError as error:
        raise InvalidPayloadError(f"{error.msg} at character {error.pos + 1} of {_excerpt(text)}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidPayloadError(f"{error} in {_excerpt(text)}") from None
    if text.count("[", at, end) + text.count("{", at, end) > _MAX_DEPTH and _is_too_deep(value):
        raise InvalidPayloadError(f"it is nested deeper than {_MAX_DEPTH} levels")
    if _SURROGATE.search(text, at, end):
        value = _without_lone_surrogates(value)
    return cast("dict[str, object]", value), end


def _is_too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH + 1):
        level = [one for container in level for one in _members(container)]
        if not level:
            return False
    return True


def _members(value: object) -> Iterable[object]:
    match value:
        case dict():
            return cast("dict[str, object]", value).values()
        case list():
            return cast("list[object]", value)
        case _:
            return ()


def _excerpt(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"


def _without_lone_surrogates(value: object) -> object:
    """*value* with half surrogates replaced, which no later encoding could write."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            pairs = cast("dict[str, object]", value).items()
            return {cast("str", _without_lone_surrogates(key)): _without_lone_surrogates(one) for key, one in pairs}
        case list():
            return [_without_lone_surrogates(one) for one in cast("list[object]", value)]
        case _:
            return value


def _check(value: dict[str, object]) -> Payload:
    entries: list[PayloadLog] = []
    return Payload(
        _section(value, "outputs"),
        _section(value, "encryptedOutputs"),
        [metric for one in _items(value, "metrics") if (metric := _metric(one, entries)) is not None],
        entries + [entry for one in _items(value, "logs") if (entry := _log(one)) is not None],
    )


def _section(payload: dict[str, object], name: str) -> dict[str, object]:
    value = payload.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidPayloadError(f"{name} is {_kind(value)}, not an object")
    return cast("dict[str, object]", value)


def _items(payload: dict[str, object], name: str) -> list[object]:
    value = payload.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidPayloadError(f"{name} is {_kind(value)}, not a list")
    return cast("list[object]", value)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def _scalar(value: object, what: str) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case _:
            raise InvalidPayloadError(f"{what} is {_kind(value)}, not a text")


def _metric(item: object, entries: list[PayloadLog]) -> PayloadMetric | None:
    """The metric that *item* is; None, and a complaint among *entries*, where it lacks a name or value."""
    if item is None:
        entries.append(PayloadLog(LogLevel.WARN, "Invalid metric: null is none; it was left out"))
        return None
    if not isinstance(item, dict):
        raise InvalidPayloadError(f"a metric is {_kind(item)}, not an object")
    fields = cast("dict[str, object]", item)
    type_ = fields.get("type")
    if type_ not in {"counter", "timer", "gauge"}:
        raise InvalidPayloadError(f"the metric type {type_!r} is none of counter, timer and gauge")
    name = "" if fields.get("name") is None else _scalar(fields["name"], "a metric's name")
    raw = fields.get("value")
    value = None if raw is None or raw == "" else _number(raw, is_timer=type_ == "timer")
    tags = _tags(fields, name, entries)
    if not name:
        entries.append(PayloadLog(LogLevel.WARN, "Invalid metric: it has no name; it was left out"))
        return None
    if value is None:
        entries.append(PayloadLog(LogLevel.WARN, f"Invalid metric {name!r}: it has no value; it was left out"))
        return None
    return PayloadMetric(cast("MetricType", type_), name, value, tags)


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _number(value: object, *, is_timer: bool) -> float:
    text = value.strip() if isinstance(value, str) else ""
    try:
        if _NUMBER.fullmatch(text):
            return _finite(text)
        if text and is_timer:
            return parse_duration(text).total_seconds()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError) as error:
        raise InvalidPayloadError(f"the metric value {_excerpt(str(value))!r} cannot be used: {error}") from None
    shown = repr(_excerpt(value)) if isinstance(value, str) else _kind(value)
    raise InvalidPayloadError(f"the metric value {shown} is not a number")


def _tags(fields: dict[str, object], name: str, entries: list[PayloadLog]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in _section(fields, "tags").items():
        if value is None:
            entries.append(PayloadLog(LogLevel.WARN, f"Invalid metric {name!r}: its tag {key!r} has no value"))
        else:
            tags[key] = _scalar(value, f"the tag {key!r}")
    return tags


_LEVELS: dict[str, LogLevel] = {level.value: level for level in LogLevel} | {
    "WARNING": LogLevel.WARN,
    "FATAL": LogLevel.ERROR,
    "CRITICAL": LogLevel.ERROR,
}
_NUMBERED_LEVELS = (LogLevel.ERROR, LogLevel.WARN, LogLevel.INFO, LogLevel.DEBUG, LogLevel.TRACE)


def _log(item: object) -> PayloadLog | None:
    """The entry that *item* is, or a complaint where it lacks a level; None where it has nothing to say."""
    if item is None:
        return PayloadLog(LogLevel.WARN, "Invalid log: null is none; it was left out")
    if not isinstance(item, dict):
        raise InvalidPayloadError(f"a log is {_kind(item)}, not an object")
    fields = cast("dict[str, object]", item)
    message = _message(fields.get("message"))
    raw = fields.get("level")
    if raw is None:
        return PayloadLog(LogLevel.WARN, f"Invalid log without a level: {_excerpt(message or '')}")
    level = _level(raw)
    return None if message is None else PayloadLog(level, message)


def _level(raw: object) -> LogLevel:
    if isinstance(raw, str):
        level = _LEVELS.get(raw.strip().upper())
        if level is not None:
            return level
    elif isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw < len(_NUMBERED_LEVELS):
        return _NUMBERED_LEVELS[raw]
    raise InvalidPayloadError(f"the log level {raw!r} is none of {', '.join(LogLevel)}")


def _message(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    else:
        text = _scalar(value, "a log's message")
    if len(text) > MAX_LINE_CHARACTERS:
        text = f"{text[:MAX_LINE_CHARACTERS]}… [{len(text) - MAX_LINE_CHARACTERS:,} characters cut]"
    return text
