"""Reading times by a pattern of `%` letters, in English and UTC."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from tercel.expression.date_names import MONTHS, WEEKDAYS
from tercel.expression.jq.runtime import JqError

_NUMBERS = {
    "Y": r"[+-]?\d{1,4}", "m": r"\d{1,2}", "d": r"\d{1,2}", "e": r" ?\d{1,2}", "H": r"\d{1,2}", "I": r"\d{1,2}",
    "M": r"\d{1,2}", "S": r"\d{1,2}", "j": r"\d{1,3}", "y": r"\d{1,2}", "s": r"-?\d{1,12}", "u": r"\d", "w": r"\d",
    "C": r"\d{1,2}", "U": r"\d{1,2}", "W": r"\d{1,2}", "V": r"\d{1,2}", "G": r"\d{4}", "g": r"\d{1,2}",
}  # fmt: skip
_SHORTHANDS = {
    "T": "%H:%M:%S", "D": "%m/%d/%y", "F": "%Y-%m-%d", "R": "%H:%M", "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y", "x": "%m/%d/%y", "X": "%H:%M:%S",
}  # fmt: skip
_WORDS = {
    "B": "month", "b": "month", "h": "month", "A": "weekday", "a": "weekday",
}  # fmt: skip
_MONTH = "|".join([*MONTHS, *(name[:3] for name in MONTHS)])
_WEEKDAY = "|".join([*WEEKDAYS, *(name[:3] for name in WEEKDAYS)])


def read_time(text: str, form: str) -> datetime | None:
    """Give the time that *text* means by the pattern *form*; None when it does not fit.

    Raises:
        JqError: the pattern has a letter that cannot be read.
    """
    found = _compiled(form).fullmatch(text)
    if found is None:
        return None
    try:
        return _resolved({name: value for name, value in found.groupdict().items() if value is not None})
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=64)
def _compiled(form: str) -> re.Pattern[str]:
    return re.compile(_pattern(form, set()), re.ASCII | re.IGNORECASE)


def _pattern(form: str, seen: set[str]) -> str:
    pattern = ""
    at = 0
    while at < len(form):
        char = form[at]
        at += 1
        if char.isspace():
            pattern += r"\s*"
        elif char != "%":
            pattern += re.escape(char)
        else:
            letter = form[at : at + 1]
            at += 1
            pattern += _group(letter, seen)
    return pattern


def _group(letter: str, seen: set[str]) -> str:
    if letter in _SHORTHANDS:
        return _pattern(_SHORTHANDS[letter], seen)
    if letter in _NUMBERS:
        name, body = letter, rf"\s*(?:{_NUMBERS[letter]})" if letter == "e" else _NUMBERS[letter]
    elif letter in _WORDS:
        name = _WORDS[letter]
        body = _MONTH if name == "month" else _WEEKDAY
    elif letter == "p":
        name, body = "p", "AM|PM"
    elif letter == "Z":
        return "[A-Za-z]+"
    elif letter == "z":
        name, body = "z", r"Z|[+-]\d\d:?(?:\d\d)?"
    elif letter in {"%", "n", "t"} and letter:
        return "%" if letter == "%" else r"\s*"
    else:
        raise JqError(f"strptime/1 does not know %{letter}")
    if name in seen:
        return f"(?:{body})"
    seen.add(name)
    return f"(?P<{name}>{body})"


def _resolved(fields: Mapping[str, str]) -> datetime:
    numbers = {name: int(value) for name, value in fields.items() if name in _NUMBERS}
    if "s" in numbers:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=numbers["s"])
    year = numbers.get("Y", 1900)
    if "Y" not in numbers and "y" in numbers:
        year = numbers["y"] + (1900 if numbers["y"] >= 69 else 2000)
    month = numbers.get("m", 1)
    if "month" in fields:
        month = 1 + [name[:3] for name in MONTHS].index(fields["month"][:3].capitalize())
    day = date(year, month, numbers.get("d", numbers.get("e", 1)))
    if "j" in numbers:
        day = date(year, 1, 1) + timedelta(days=numbers["j"] - 1)
    hour = numbers.get("H", 0)
    if "I" in numbers:
        hour = numbers["I"] % 12 + (12 if fields.get("p", "").upper() == "PM" else 0)
    second = numbers.get("S", 0)
    moment = datetime(day.year, day.month, day.day, hour, numbers.get("M", 0), min(second, 59), tzinfo=UTC)
    return moment + timedelta(seconds=second - min(second, 59))
