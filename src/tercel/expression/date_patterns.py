"""Date patterns: the letters of Java's DateTimeFormatter, compiled once, to print moments and to read them back.

Knows nothing of presets and defaults (`dates`) nor of the words of a language (`date_languages`).
Numbers that a text leaves open (`yyyy-MM` has no day) stay open here: reading gives fields, `resolve` the date.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache

from msgspec import Struct

from tercel.errors import ExpressionError
from tercel.expression.date_languages import ENGLISH
from tercel.expression.date_names import Names, Width
from tercel.expression.date_zones import find_zone, is_region, offset_text, zone_id

# Letter -> the counts allowed. Letters meaning numbers of any width have the limit of a 64-bit integer.
_COUNTS: Mapping[str, Sequence[int]] = {
    **dict.fromkeys("yuYnNAg", range(1, 20)),
    **dict.fromkeys("MLQqEeGxXZ", range(1, 6)),
    **dict.fromkeys("dHhkKmsw", (1, 2)),
    **dict.fromkeys("aFW", (1,)),
    "c": (1, 3, 4, 5),
    "D": (1, 2, 3),
    "S": range(1, 10),
    "O": (1, 4),
    "V": (2,),
    "v": (1, 4),
    "z": (1, 2, 3, 4),
    "B": (1, 4, 5),
}
_WIDTHS: Mapping[int, Width] = {3: "abbreviated", 4: "wide", 5: "narrow"}


class Text(Struct, frozen=True):
    """Characters that stand for themselves."""

    text: str


class Field(Struct, frozen=True):
    """One letter, repeated *count* times, padded with blanks to *pad* characters (0 for not at all)."""

    letter: str
    count: int
    pad: int = 0


class Optional(Struct, frozen=True):
    """A part in square brackets: printed always, read where it is there."""

    parts: "tuple[Part, ...]"


Part = Text | Field | Optional


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> tuple[Part, ...]:
    """Read a pattern.

    Raises:
        ExpressionError: a letter is unknown or stands too often, or a quote or bracket is not closed.
    """
    stack: list[list[Part]] = [[]]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if letter == "'":
            text, at = _quoted(pattern, at)
            stack[-1].append(Text(text))
            continue
        if letter.isascii() and letter.isalpha():
            field, at = _field(pattern, at)
            stack[-1].append(field)
            continue
        if letter == "[":
            stack.append([])
        elif letter == "]":
            if len(stack) == 1:
                raise ExpressionError(f"The date pattern {pattern!r} has a ']' without '['.")
            parts = tuple(stack.pop())
            stack[-1].append(Optional(parts))
        elif letter in "{}#":
            raise ExpressionError(f"The date pattern {pattern!r} has the reserved character {letter!r}.")
        else:
            stack[-1].append(Text(letter))
        at += 1
    while len(stack) > 1:
        parts = tuple(stack.pop())
        stack[-1].append(Optional(parts))
    return tuple(stack[0])


def _quoted(pattern: str, start: int) -> tuple[str, int]:
    if pattern.startswith("''", start):
        return "'", start + 2
    text = ""
    at = start + 1
    while True:
        end = pattern.find("'", at)
        if end < 0:
            raise ExpressionError(f"The date pattern {pattern!r} has a quote that is not closed.")
        text += pattern[at:end]
        if not pattern.startswith("''", end):
            return text, end + 1
        text += "'"
        at = end + 2


def _field(pattern: str, start: int) -> tuple[Field, int]:
    letter = pattern[start]
    at = start
    while at < len(pattern) and pattern[at] == letter:
        at += 1
    count = at - start
    if letter == "p":
        if at >= len(pattern) or pattern[at] not in _COUNTS:
            raise ExpressionError(f"The date pattern {pattern!r} has a 'p' without a letter to pad.")
        inner, at = _field(pattern, at)
        return Field(inner.letter, inner.count, count), at
    if letter not in _COUNTS:
        raise ExpressionError(f"The date pattern {pattern!r} has the unknown letter {letter!r}.")
    if count not in _COUNTS[letter]:
        raise ExpressionError(f"The date pattern {pattern!r} has {letter!r} {count} times, which means nothing.")
    return Field(letter, count), at


# ── Printing ──────────────────────────────────────────────────────────────────────────────────────────────────


def print_moment(parts: Sequence[Part], moment: datetime, names: Names = ENGLISH) -> str:
    """Write an aware *moment*, in its own zone, by a compiled pattern."""
    texts: list[str] = []
    for part in parts:
        match part:
            case Text():
                texts.append(part.text)
            case Field():
                texts.append(_print_field(part, moment, names).rjust(part.pad))
            case Optional():
                texts.append(print_moment(part.parts, moment, names))
    return "".join(texts)


def _print_field(field: Field, moment: datetime, names: Names) -> str:
    letter, count = field.letter, field.count
    if letter in _NUMBERS:
        number = _NUMBERS[letter](moment, names)
        if letter in "yuY" and count == 2:
            return f"{number % 100:02}"
        if letter not in "MLQqec" or count < 3:
            return f"{number:0{count}}"
    if letter in "MLQqEecG":
        return _words(letter, count, names)[_word_index(letter, moment)]
    match letter:
        case "S":
            return f"{moment.microsecond * 1000:09}"[:count]
        case "a":
            return names.halves()[moment.hour // 12]
        case "B":
            return names.day_period(moment)
        case "V":
            return zone_id(moment.tzinfo)
        case "z" | "v":
            return _zone_name(moment, names, wide=count == 4, generic=letter == "v")
        case _:
            return _print_offset(letter, count, moment.utcoffset() or timedelta())


def _zone_name(moment: datetime, names: Names, *, wide: bool, generic: bool) -> str:
    if not is_region(moment.tzinfo):
        return zone_id(moment.tzinfo)
    if zone_id(moment.tzinfo) == "UTC" and (names is ENGLISH or not wide):
        return "Coordinated Universal Time" if wide else "UTC"
    return names.zone(moment, wide=wide, generic=generic)


def _print_offset(letter: str, count: int, offset: timedelta) -> str:
    if letter == "O" or (letter == "Z" and count == 4):
        if not offset:
            return "GMT"
        text = offset_text(offset, colon=True)
        if letter == "O" and count == 1:
            hours = text[1:3].lstrip("0") or "0"
            text = text[0] + hours + text[3:].removesuffix(":00")
        return f"GMT{text}"
    if not offset and (letter == "X" or (letter == "Z" and count == 5)):
        return "Z"
    if letter == "Z":
        return offset_text(offset, colon=count == 5)
    text = offset_text(offset, colon=count in {3, 5}, seconds=count >= 4)
    return text[:3] if count == 1 and text.endswith("00") else text


def _micros_of_day(moment: datetime) -> int:
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond


def week_number(day: date, start_of_period: date, names: Names) -> int:
    """Give the week of *day*, counted from the period's first week, which is 1; 0 lies before it."""
    first = (start_of_period.isoweekday() - names.first_weekday) % 7
    offset = 7 - first if 7 - first >= names.minimal_days else 14 - first
    return ((day - start_of_period).days + 7 - offset) // 7 + 1


def _week_and_year(moment: datetime, names: Names) -> tuple[int, int]:
    day = moment.date()
    for year in (day.year + 1, day.year):
        if year <= date.max.year and (week := week_number(day, date(year, 1, 1), names)) >= 1:
            return week, year
    return week_number(day, date(day.year - 1, 1, 1), names), day.year - 1


def _weekday_number(moment: datetime, names: Names) -> int:
    return (moment.isoweekday() - names.first_weekday) % 7 + 1


def _quarter(moment: datetime, _: Names) -> int:
    return (moment.month + 2) // 3


_NUMBERS: Mapping[str, Callable[[datetime, Names], int]] = {
    "y": lambda moment, _: moment.year,
    "u": lambda moment, _: moment.year,
    "Y": lambda moment, names: _week_and_year(moment, names)[1],
    "M": lambda moment, _: moment.month,
    "L": lambda moment, _: moment.month,
    "Q": _quarter,
    "q": _quarter,
    "d": lambda moment, _: moment.day,
    "D": lambda moment, _: moment.timetuple().tm_yday,
    "e": _weekday_number,
    "c": _weekday_number,
    "w": lambda moment, names: _week_and_year(moment, names)[0],
    "W": lambda moment, names: week_number(moment.date(), moment.date().replace(day=1), names),
    "F": lambda moment, _: (moment.day - 1) // 7 + 1,
    "H": lambda moment, _: moment.hour,
    "k": lambda moment, _: moment.hour or 24,
    "K": lambda moment, _: moment.hour % 12,
    "h": lambda moment, _: moment.hour % 12 or 12,
    "m": lambda moment, _: moment.minute,
    "s": lambda moment, _: moment.second,
    "n": lambda moment, _: moment.microsecond * 1000,
    "A": lambda moment, _: _micros_of_day(moment) // 1000,
    "N": lambda moment, _: _micros_of_day(moment) * 1000,
    "g": lambda moment, _: moment.toordinal() - 678576,
}


def _words(letter: str, count: int, names: Names) -> Sequence[str]:
    width = _WIDTHS.get(count, "abbreviated")
    match letter:
        case "M" | "L":
            return names.months(width, alone=letter == "L")
        case "Q" | "q":
            return names.quarters(width)
        case "G":
            return names.eras(width)
        case _:
            return names.weekdays(width, alone=letter == "c")


def _word_index(letter: str, moment: datetime) -> int:
    match letter:
        case "M" | "L":
            return moment.month - 1
        case "Q" | "q":
            return (moment.month - 1) // 3
        case "G":
            return 1
        case _:
            return moment.weekday()


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────


class Fields(Struct):
    """What a text says about a moment.

    Attributes:
        numbers: letter -> value, by the letter that names the field in *resolve*.
        zone: the zone or offset named, None if none is.
        end: where reading stopped.
    """

    numbers: dict[str, int]
    zone: tzinfo | None = None
    end: int = 0


class _NoMatchError(Exception):
    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def read_moment(parts: Sequence[Part], text: str, names: Names = ENGLISH) -> Fields:
    """Read all of *text* by a compiled pattern.

    Raises:
        ExpressionError: the text does not have that form.
    """
    fields = Fields({})
    try:
        _read(parts, text, fields, names)
    except _NoMatchError as error:
        raise ExpressionError(
            f"The date {text[:60]!r} does not fit the pattern, at character {error.at + 1}."
        ) from None
    if fields.end != len(text):
        raise ExpressionError(f"The date {text[:60]!r} goes on after the pattern, at character {fields.end + 1}.")
    return fields


def _read(parts: Sequence[Part], text: str, fields: Fields, names: Names) -> None:
    for index, part in enumerate(parts):
        match part:
            case Text():
                if not text.startswith(part.text, fields.end):
                    raise _NoMatchError(fields.end)
                fields.end += len(part.text)
            case Field():
                while part.pad and text.startswith(" ", fields.end):
                    fields.end += 1
                _read_field(part, text, fields, names, reserved=_reserved(parts, index))
            case Optional():
                before = Fields(dict(fields.numbers), fields.zone, fields.end)
                try:
                    _read(part.parts, text, fields, names)
                except _NoMatchError:
                    fields.numbers, fields.zone, fields.end = before.numbers, before.zone, before.end


def _reserved(parts: Sequence[Part], index: int) -> int:
    """Digits that belong to the numbers of fixed width right behind one of open width."""
    reserved = 0
    for part in parts[index + 1 :]:
        if not isinstance(part, Field) or not _is_number(part) or (part.count == 1 and part.letter != "S"):
            break
        if part.letter in "yuY" and part.count > 2:
            break
        reserved += part.count
    return reserved


def _is_number(field: Field) -> bool:
    return field.letter == "S" or (field.letter in _NUMBERS and (field.letter not in "MLQqec" or field.count < 3))


def _read_field(field: Field, text: str, fields: Fields, names: Names, *, reserved: int) -> None:
    letter, count = field.letter, field.count
    if _is_number(field):
        _read_number(field, text, fields, reserved)
    elif letter in "MLQqEecGa":
        words = names.halves() if letter == "a" else _words(letter, count, names)
        index = _read_word(words, text, fields)
        fields.numbers[{"L": "M", "q": "Q", "e": "E", "c": "E"}.get(letter, letter)] = index + (letter not in "Ga")
    elif letter == "B":
        periods = ("midnight", "noon", "in the morning", "in the afternoon", "in the evening", "at night")
        index = _read_word(periods, text, fields)
        fields.numbers["a"] = int(index in {1, 3, 4})
    else:
        end, fields.zone = _read_zone(letter, count, text, fields.end)
        fields.end = end


def _read_number(field: Field, text: str, fields: Fields, reserved: int) -> None:
    letter, count = field.letter, field.count
    start = fields.end
    sign = text[start : start + 1]
    if sign in {"-", "+"} and (letter in "yuY" and count != 2):
        start += 1
    else:
        sign = ""
    run = start
    while run < len(text) and text[run].isascii() and text[run].isdigit() and run - start < 19 + reserved:
        run += 1
    digits = run - start
    is_open = (letter in "yuYnNAg" and not (letter in "yuY" and count == 2)) or (count == 1 and letter != "S")
    width = max(digits - reserved, count) if is_open else count
    if width > digits or (letter in "yuY" and is_open and count > 3 and width > count and sign != "+"):
        raise _NoMatchError(fields.end)
    number = int(text[start : start + width])
    if letter == "S":
        number *= 10 ** (9 - count)
    elif letter in "yuY" and count == 2:
        number += 2000
    name = {"u": "y", "L": "M", "q": "Q", "c": "e", "S": "n"}.get(letter, letter)
    fields.numbers[name] = -number if sign == "-" else number
    fields.end = start + width


def _read_word(words: Sequence[str], text: str, fields: Fields) -> int:
    found = [word for word in words if word and text.startswith(word, fields.end)]
    if not found:
        raise _NoMatchError(fields.end)
    longest = max(found, key=len)
    fields.end += len(longest)
    return words.index(longest)


_ABBREVIATIONS = {
    "CET": "Europe/Paris", "CEST": "Europe/Paris", "EET": "Europe/Bucharest", "EEST": "Europe/Bucharest",
    "WET": "Europe/Lisbon", "WEST": "Europe/Lisbon", "BST": "Europe/London", "MSK": "Europe/Moscow",
    "EST": "America/New_York", "EDT": "America/New_York", "CST": "America/Chicago", "CDT": "America/Chicago",
    "MST": "America/Denver", "MDT": "America/Denver", "PST": "America/Los_Angeles", "PDT": "America/Los_Angeles",
    "AKST": "America/Anchorage", "HST": "Pacific/Honolulu", "JST": "Asia/Tokyo", "IST": "Asia/Kolkata",
    "AEST": "Australia/Sydney", "AEDT": "Australia/Sydney", "NZST": "Pacific/Auckland",
}  # fmt: skip


def _read_zone(letter: str, count: int, text: str, start: int) -> tuple[int, tzinfo]:
    for end in _zone_ends(text, start):
        name = text[start:end]
        if letter in "Vzv":
            zone = find_zone(_ABBREVIATIONS.get(name, name) if letter != "V" else name)
        elif letter == "O" or (letter == "Z" and count == 4):
            zone = find_zone(name) if name.startswith("GMT") else None
        else:
            zone = find_zone(name) if _is_offset(letter, count, name) else None
        if zone is not None:
            return end, zone
    raise _NoMatchError(start)


def _zone_ends(text: str, start: int) -> Iterator[int]:
    end = start
    while end < len(text) and end - start < 40 and (text[end].isalnum() or text[end] in "/_+-:"):
        end += 1
    return iter(range(end, start, -1))


def _is_offset(letter: str, count: int, name: str) -> bool:
    if name == "Z":
        return letter == "X" or (letter == "Z" and count == 5)
    digits = name[1:]
    if name[:1] not in {"+", "-"} or not digits.replace(":", "").isdecimal():
        return False
    if letter == "Z":
        return len(digits) == (5 if count == 5 else 4)
    return len(digits) in {1: (2, 4), 2: (4,), 3: (5,), 4: (4, 6), 5: (5, 8)}[count] and (":" in digits) == (
        count in {3, 5}
    )


# ── From fields to date and time ──────────────────────────────────────────────────────────────────────────────

_RANGES = {
    "M": (1, 12), "d": (1, 31), "D": (1, 366), "H": (0, 24), "h": (1, 12), "k": (1, 24), "K": (0, 11),
    "m": (0, 59), "s": (0, 59), "w": (0, 53), "W": (0, 6), "e": (1, 7), "Q": (1, 4), "F": (1, 5),
}  # fmt: skip


def resolve(fields: Fields, names: Names = ENGLISH) -> tuple[date, time]:
    """Say which date and time the fields mean; a time that is open is midnight.

    The last days of a month are cut to those it has (30 February is the 28th or 29th).

    Raises:
        ExpressionError: a number is out of range, two contradict each other, or they make no full date.
    """
    numbers = fields.numbers
    for letter, (low, high) in _RANGES.items():
        if letter in numbers and not low <= numbers[letter] <= high:
            raise ExpressionError(
                f"{numbers[letter]} is no value for {letter!r} in a date: it lies between {low} and {high}."
            )
    try:
        day = _resolve_date(numbers, names)
        at, extra_days = _resolve_time(numbers)
        day += timedelta(days=extra_days)
    except (ValueError, OverflowError) as error:
        raise ExpressionError(f"The date does not exist: {error}.") from error
    if "E" in numbers and numbers["E"] != day.isoweekday():
        raise ExpressionError(f"The date {day} is no {names.weekdays('wide', alone=True)[numbers['E'] - 1]}.")
    return day, at


def _resolve_date(numbers: Mapping[str, int], names: Names) -> date:
    if "g" in numbers:
        return date.fromordinal(numbers["g"] + 678576)
    weekday = numbers.get("e")
    if weekday is None and "E" in numbers:
        weekday = (numbers["E"] - names.first_weekday) % 7 + 1
    if "y" in numbers:
        year = numbers["y"]
        if "M" in numbers and "d" in numbers:
            first = date(year, numbers["M"], 1)
            return first.replace(day=min(numbers["d"], _days_of_month(first)))
        if "D" in numbers:
            day = date(year, 1, 1) + timedelta(days=numbers["D"] - 1)
            if day.year != year:
                raise ExpressionError(f"The year {year} has no day {numbers['D']}.")
            return day
        if "M" in numbers and "W" in numbers and weekday is not None:
            return _day_of_week(date(year, numbers["M"], 1), numbers["W"], weekday, names)
    if "Y" in numbers and "w" in numbers and weekday is not None:
        return _day_of_week(date(numbers["Y"], 1, 1), numbers["w"], weekday, names)
    raise ExpressionError("The pattern gives no full date: it needs year, month and day.")


def _days_of_month(first: date) -> int:
    return ((first.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)).day


def _day_of_week(start_of_period: date, week: int, weekday: int, names: Names) -> date:
    first = (start_of_period.isoweekday() - names.first_weekday) % 7
    weeks = week - week_number(start_of_period, start_of_period, names)
    return start_of_period + timedelta(days=weeks * 7 + weekday - 1 - first)


def _resolve_time(numbers: Mapping[str, int]) -> tuple[time, int]:
    if "N" in numbers or "A" in numbers:
        micros = numbers["N"] // 1000 if "N" in numbers else numbers["A"] * 1000
        moment = datetime.min.replace(tzinfo=UTC) + timedelta(microseconds=micros)
        return moment.time(), 0
    hour = numbers.get("H")
    if hour is None and "k" in numbers:
        hour = numbers["k"] % 24
    if hour is None and "a" in numbers and ("h" in numbers or "K" in numbers):
        hour = (numbers["h"] % 12 if "h" in numbers else numbers["K"]) + 12 * numbers["a"]
    if hour is None:
        return time(), 0
    micro = numbers.get("n", 0) // 1000
    return time(hour % 24, numbers.get("m", 0), numbers.get("s", 0), micro), hour // 24
