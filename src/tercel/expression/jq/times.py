"""Dates in jq: broken-down times as lists (month from 0, weekday and day of the year last), always in UTC."""

import math
from datetime import UTC, datetime, timedelta

from tercel.expression.budget import Budget
from tercel.expression.jq.runtime import JqError
from tercel.expression.jq.values import as_double, failure, is_list, is_number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = "%Y-%m-%dT%H:%M:%SZ"


def broken_down(_budget: Budget, value: object) -> object:
    """`gmtime`: seconds since 1970 to a broken-down time."""
    if not is_number(value):
        raise JqError("gmtime() requires a number")
    seconds = as_double(value)
    try:
        moment = _EPOCH + timedelta(seconds=math.floor(seconds))
    except (OverflowError, ValueError):
        raise JqError("error converting number of seconds since epoch to datetime") from None
    fraction = seconds - math.floor(seconds)
    return _parts(moment, moment.second + fraction if fraction else moment.second)


def _parts(moment: datetime, seconds: float) -> list[object]:
    day = moment.timetuple()
    return [
        moment.year,
        moment.month - 1,
        moment.day,
        moment.hour,
        moment.minute,
        seconds,
        moment.isoweekday() % 7,
        day.tm_yday - 1,
    ]


def seconds_of(_budget: Budget, value: object) -> object:
    """`mktime`: a broken-down time to seconds since 1970."""
    if not is_list(value):
        raise JqError("mktime requires array of 6 numbers")
    return (_moment(value, "mktime") - _EPOCH) // timedelta(seconds=1)


def _moment(value: list[object], where: str) -> datetime:
    numbers = [math.floor(number) for number in value[:6] if is_number(number) and math.isfinite(number)]
    if len(numbers) < 6:
        raise JqError(f"{where} requires parsed datetime inputs")
    year, month, day, hour, minute, second = numbers
    try:
        start = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        return start + timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second)
    except (OverflowError, ValueError):
        raise JqError("invalid gmtime representation") from None


def written(budget: Budget, value: object, form: object) -> object:
    """`strftime(form)`: a broken-down time, or seconds since 1970, as text."""
    if is_number(value):
        value = broken_down(budget, value)
    if not is_list(value):
        raise JqError("strftime/1 requires parsed datetime inputs")
    if not isinstance(form, str):
        raise JqError("strftime/1 requires a string format")
    budget.scan(len(form))
    moment = _moment(value, "strftime/1")
    return "".join(_written_piece(piece, moment) for piece in _pieces(form))


def _pieces(form: str) -> list[str]:
    pieces: list[str] = []
    at = 0
    while at < len(form):
        step = 1
        if form[at] == "%":
            step = 3 if form[at + 1 : at + 2] in {"E", "O", "-", "_", "0", "^", "#"} else 2
        pieces.append(form[at : at + step])
        at += step
    return pieces


_SHORTHANDS = {
    "%T": "%H:%M:%S", "%D": "%m/%d/%y", "%F": "%Y-%m-%d", "%R": "%H:%M", "%r": "%I:%M:%S %p", "%h": "%b",
    "%c": "%a %b %e %H:%M:%S %Y", "%x": "%m/%d/%y", "%X": "%H:%M:%S", "%n": "\n", "%t": "\t",
}  # fmt: skip


def _written_piece(piece: str, moment: datetime) -> str:
    from tercel.expression.date_names import MONTHS, WEEKDAYS  # noqa: PLC0415 - rarely used

    if len(piece) == 1:
        return piece
    if len(piece) == 3:
        text = _written_piece("%" + piece[2], moment)
        return text.lstrip("0 ") or "0" if piece[1] == "-" else text
    if piece in _SHORTHANDS:
        return "".join(_written_piece(inner, moment) for inner in _pieces(_SHORTHANDS[piece]))
    week = moment.isocalendar()
    day_of_year = moment.timetuple().tm_yday
    match piece[1:]:
        case "Y":
            return str(moment.year)
        case "C":
            return f"{moment.year // 100:02}"
        case "y":
            return f"{moment.year % 100:02}"
        case "G":
            return str(week.year)
        case "g":
            return f"{week.year % 100:02}"
        case "V":
            return f"{week.week:02}"
        case "m":
            return f"{moment.month:02}"
        case "B":
            return MONTHS[moment.month - 1]
        case "b":
            return MONTHS[moment.month - 1][:3]
        case "d":
            return f"{moment.day:02}"
        case "e":
            return f"{moment.day:2}"
        case "j":
            return f"{day_of_year:03}"
        case "A":
            return WEEKDAYS[moment.weekday()]
        case "a":
            return WEEKDAYS[moment.weekday()][:3]
        case "u":
            return str(moment.isoweekday())
        case "w":
            return str(moment.isoweekday() % 7)
        case "U":
            return f"{(day_of_year + 6 - moment.isoweekday() % 7) // 7:02}"
        case "W":
            return f"{(day_of_year + 6 - moment.weekday()) // 7:02}"
        case "H":
            return f"{moment.hour:02}"
        case "k":
            return f"{moment.hour:2}"
        case "I":
            return f"{moment.hour % 12 or 12:02}"
        case "l":
            return f"{moment.hour % 12 or 12:2}"
        case "p":
            return "AM" if moment.hour < 12 else "PM"
        case "P":
            return "am" if moment.hour < 12 else "pm"
        case "M":
            return f"{moment.minute:02}"
        case "S":
            return f"{moment.second:02}"
        case "s":
            return str((moment - _EPOCH) // timedelta(seconds=1))
        case "Z":
            return "UTC"
        case "z":
            return "+0000"
        case "%":
            return "%"
        case _:
            return piece


def read(budget: Budget, value: object, form: object) -> object:
    """`strptime(form)`: a text to a broken-down time."""
    if not isinstance(value, str):
        raise failure("strptime/1 requires string inputs and arguments", value)
    if not isinstance(form, str):
        raise JqError("strptime/1 requires string inputs and arguments")
    budget.scan(len(value) + len(form))
    from tercel.expression.jq.strptime import read_time  # noqa: PLC0415 - rarely used

    moment = read_time(value, form)
    if moment is None:
        raise JqError(
            f'date "{value[:60]}" does not match format "{form[:60]}"', f'the date does not match format "{form[:60]}"'
        )
    return _parts(moment, moment.second)


def from_iso(budget: Budget, value: object) -> object:
    """`fromdateiso8601`: a text such as 2015-03-05T23:51:47Z to seconds since 1970."""
    return seconds_of(budget, read(budget, value, _ISO))


def to_iso(budget: Budget, value: object) -> object:
    """`todateiso8601`: seconds since 1970 to such a text."""
    return written(budget, value, _ISO)
