"""ISO 8601 durations (`PT15M`, `P1DT2H`) to timedelta and back."""

import re
from datetime import timedelta

_ISO = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<weeks>[+-]?\d+)W)?(?:(?P<days>[+-]?\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>[+-]?\d+)H)?(?:(?P<minutes>[+-]?\d+)M)?(?:(?P<seconds>[+-]?\d+(?:[.,]\d*)?)S)?)?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration: ISO 8601 in either case, or a number of seconds.

    Raises:
        ValueError: with a sentence for people, when *text* is neither.

    Example:
        >>> str(parse_duration("PT1H30M")), str(parse_duration("p1d")), str(parse_duration("2.5"))
        ('1:30:00', '1 day, 0:00:00', '0:00:02.500000')
    """
    trimmed = text.strip()
    if _NUMBER.fullmatch(trimmed):
        return _bounded(0, 0, trimmed, text)
    match = _ISO.fullmatch(trimmed)
    parts = {} if match is None else {name: value for name, value in match.groupdict().items() if value is not None}
    sign = -1 if parts.pop("sign", "+") == "-" else 1
    if not parts:
        raise ValueError(f"{text!r} is not a duration; write it like PT15M, PT1H30M or P1D")
    whole = {name: int(parts.get(name, "0")) for name in ("weeks", "days", "hours", "minutes")}
    days = whole["weeks"] * 7 + whole["days"]
    seconds = parts.get("seconds", "0").replace(",", ".")
    return sign * _bounded(days, whole["hours"] * 60 + whole["minutes"], seconds, text)


def _bounded(days: int, minutes: int, seconds: str, text: str) -> timedelta:
    whole, _, fraction = seconds.partition(".")
    micros = int(f"{fraction:0<6}"[:6])  # by whole numbers: a float would lose them in a long duration
    try:
        return timedelta(
            days=days, minutes=minutes, seconds=int(whole), microseconds=-micros if whole[0] == "-" else micros
        )
    except OverflowError:
        raise ValueError(f"{text!r} is longer than a duration can be") from None


def format_duration(duration: timedelta) -> str:
    """Write a duration as ISO 8601, hours and below only, as Java's Duration does.

    Example:
        >>> format_duration(timedelta(days=1, minutes=5)), format_duration(timedelta(0))
        ('PT24H5M', 'PT0S')
    """
    micros = duration // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    hours, micros = divmod(micros, 3_600_000_000)
    minutes, micros = divmod(micros, 60_000_000)
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{sign}{hours}H" if hours else ""
    text += f"{sign}{minutes}M" if minutes else ""
    if seconds or fraction:
        text += f"{sign}{seconds}" + (f".{fraction:06d}".rstrip("0") if fraction else "") + "S"
    return f"PT{text}" if text else "PT0S"
