"""Dates in expressions: presets, the filters' arithmetic, text forms, and calendar tests.

Knows what counts as a date (instants, date objects, epoch seconds, texts) and what is taken for granted where
zone or time is left out. The letters of a pattern belong to `date_patterns`, zones to `date_zones`.
Instants are aware in `datetime.UTC`; zoned date-times have another zone; local ones have none.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from tercel.errors import ExpressionError
from tercel.expression.date_languages import names_of
from tercel.expression.date_names import WEEKDAYS
from tercel.expression.date_patterns import Part, compile_pattern, print_moment, read_moment, resolve
from tercel.expression.date_zones import find_zone, is_region, offset_text, zone_id, zone_of

_PRESETS = {
    "iso": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "iso_sec": "yyyy-MM-dd'T'HH:mm:ssXXX",
    "sql": "yyyy-MM-dd HH:mm:ss.SSSSSS",
    "sql_seq": "yyyy-MM-dd HH:mm:ss",
}
_STYLES = frozenset({"full", "long", "medium", "short"})
_JAVA_PRESETS = frozenset({
    "iso_date_time", "iso_zoned_date_time", "iso_local_date_time", "iso_local_date", "iso_local_time", "iso_date",
    "iso_time", "iso_offset_time", "iso_instant", "iso_ordinal_date", "iso_week_date", "rfc_1123_date_time",
})  # fmt: skip
_EXACT = {
    "NANOS": timedelta(),
    "MICROS": timedelta(microseconds=1),
    "MILLIS": timedelta(milliseconds=1),
    "SECONDS": timedelta(seconds=1),
    "MINUTES": timedelta(minutes=1),
    "HOURS": timedelta(hours=1),
    "HALF_DAYS": timedelta(hours=12),
}
_DAYS = {"DAYS": 1, "WEEKS": 7}
_MONTHS = {"MONTHS": 1, "YEARS": 12, "DECADES": 120, "CENTURIES": 1200, "MILLENNIA": 12000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_date(
    value: object,
    *,
    format: str | None = None,
    time_zone: str | None = None,
    existing_format: str | None = None,
    locale: str | None = None,
    default_zone: str = "UTC",
) -> str | None:
    """Write a date as text.

    Args:
        value: an instant, date object, epoch in seconds, or text; None gives None.
        format: preset or pattern; None for `iso`.
        time_zone: zone of the result, and of a value without one; None for *default_zone*.
        existing_format: preset or pattern by which a text is read; None for ISO.
        locale: language of the result, such as `fr` or `de-DE`; None for English.
        default_zone: the server's zone.

    Raises:
        ExpressionError: the value is no date, or a format, zone or language does not exist.
    """
    if value is None:
        return None
    zone = zone_of(time_zone or default_zone)
    return _print(_moment(value, zone, existing_format), zone, format, locale)


def add_date(
    value: object,
    amount: int,
    unit: str,
    *,
    format: str | None = None,
    time_zone: str | None = None,
    existing_format: str | None = None,
    locale: str | None = None,
    default_zone: str = "UTC",
) -> str | None:
    """Write a date moved by *amount* times *unit*; the other arguments are those of `format_date`.

    Days and longer units keep the time of day over a change to summer time, shorter ones are exact.

    Raises:
        ExpressionError: also when the unit is unknown or the result lies outside the years 1 to 9999.
    """
    if value is None:
        return None
    zone = zone_of(time_zone or default_zone)
    moment = _moment(value, zone, existing_format)
    try:
        moved = _moved(moment, amount, unit)
    except (OverflowError, ValueError) as error:
        raise ExpressionError(f"dateAdd: {amount} {unit} later lies outside the years 1 to 9999.") from error
    return _print(moved, zone, format, locale)


def _moved(moment: datetime, amount: int, unit: str) -> datetime:
    if unit == "NANOS":
        return _exactly_later(moment, timedelta(microseconds=amount // 1000))
    if unit in _EXACT:
        return _exactly_later(moment, _EXACT[unit] * amount)
    if unit in _DAYS:
        return _settled(moment + timedelta(days=_DAYS[unit] * amount))
    if unit not in _MONTHS:
        units = ", ".join([*_EXACT, *_DAYS, *_MONTHS])
        raise ExpressionError(f"dateAdd: there is no unit {unit!r}. The units are {units}.")
    months = moment.year * 12 + moment.month - 1 + _MONTHS[unit] * amount
    first = moment.replace(year=months // 12, month=months % 12 + 1, day=1)
    return _settled(first.replace(day=min(moment.day, _last_day(first.date()).day)))


def _exactly_later(moment: datetime, by: timedelta) -> datetime:
    return (moment.astimezone(UTC) + by).astimezone(moment.tzinfo)


def _settled(moment: datetime) -> datetime:
    """Move a time of day that summer time skips behind the gap."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo)


def timestamp(
    value: object, *, time_zone: str | None = None, existing_format: str | None = None, default_zone: str = "UTC"
) -> int | None:
    """Give a date as seconds since 1970, cut; arguments and errors as in `format_date`."""
    micros = _epoch_micros(value, time_zone, existing_format, default_zone)
    return None if micros is None else micros // 1_000_000


def timestamp_milli(
    value: object, *, time_zone: str | None = None, existing_format: str | None = None, default_zone: str = "UTC"
) -> int | None:
    """Give a date as milliseconds since 1970, cut; arguments and errors as in `format_date`."""
    micros = _epoch_micros(value, time_zone, existing_format, default_zone)
    return None if micros is None else micros // 1000


def timestamp_micro(
    value: object, *, time_zone: str | None = None, existing_format: str | None = None, default_zone: str = "UTC"
) -> str | None:
    """Give seconds times 10⁹ plus microseconds as text: Kestra's filter does so, flows rely on it."""
    micros = _epoch_micros(value, time_zone, existing_format, default_zone)
    return None if micros is None else str(micros // 1_000_000 * 1_000_000_000 + micros % 1_000_000)


def timestamp_nano(
    value: object, *, time_zone: str | None = None, existing_format: str | None = None, default_zone: str = "UTC"
) -> str | None:
    """Give a date as nanoseconds since 1970, as text; arguments and errors as in `format_date`."""
    micros = _epoch_micros(value, time_zone, existing_format, default_zone)
    return None if micros is None else str(micros * 1000)


def _epoch_micros(value: object, time_zone: str | None, existing_format: str | None, default_zone: str) -> int | None:
    if value is None:
        return None
    moment = _moment(value, zone_of(time_zone or default_zone), existing_format)
    return (moment - _EPOCH) // timedelta(microseconds=1)


# ── From value to moment ──────────────────────────────────────────────────────────────────────────────────────


def _moment(value: object, zone: tzinfo, existing_format: str | None = None) -> datetime:
    match value:
        case datetime() if value.tzinfo is not None:
            return value.astimezone(zone) if value.tzinfo is UTC else value
        case datetime():
            return _settled(value.replace(tzinfo=zone))
        case date():
            return _settled(datetime.combine(value, time(12), zone))
        case int() if not isinstance(value, bool):
            try:
                return (_EPOCH + timedelta(seconds=value)).astimezone(zone)
            except OverflowError as error:
                raise ExpressionError(
                    f"The date {value} seconds after 1970 lies outside the years 1 to 9999."
                ) from error
        case str():
            if existing_format is None:
                return _iso_moment(value, zone)
            return _existing_moment(value, zone, existing_format)
        case _:
            raise ExpressionError(f"A {type(value).__name__} is no date: expected a date, a text or epoch seconds.")


_ISO = re.compile(
    r"([+-]?\d{4,10}-\d\d-\d\d)"
    r"(?:[Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{0,9}))?)?(?:(Z|z|[+-]\d\d(?::\d\d(?::\d\d)?)?)(?:\[([^\]]+)\])?)?)?",
    re.ASCII,
)


def _iso_moment(text: str, zone: tzinfo) -> datetime:
    found = _ISO.fullmatch(text)
    if found is None:
        raise ExpressionError(
            f"The date {text[:60]!r} could not be parsed: it is not of the ISO form 2024-03-05T10:20:30Z. "
            "Say with existingFormat how it is written."
        )
    day, hour, minute, second, fraction, offset, region = found.groups()
    try:
        local = datetime.combine(
            date.fromisoformat(day),
            time(int(hour or 0), int(minute or 0), int(second or 0), int((fraction or "")[:6].ljust(6, "0"))),
        )
    except ValueError as error:
        raise ExpressionError(f"The date {text[:60]!r} could not be parsed: {error}.") from error
    own_zone = find_zone(offset.upper()) if offset else None
    if offset and own_zone is None:
        raise ExpressionError(f"The date {text[:60]!r} could not be parsed: there is no offset {offset}.")
    moment = _settled(local.replace(tzinfo=own_zone or zone))
    return moment.astimezone(zone_of(region)) if region else moment


def _existing_moment(text: str, zone: tzinfo, existing_format: str) -> datetime:
    if existing_format in _JAVA_PRESETS:
        if existing_format == "rfc_1123_date_time":
            fields = read_moment(compile_pattern("[EEE, ]d MMM yyyy HH:mm[:ss] [XX][z]"), text)
        elif existing_format == "iso_ordinal_date":
            fields = read_moment(compile_pattern("yyyy-DDD[XXX]"), text)
        else:
            return _iso_moment(text, zone)
    else:
        fields = read_moment(_pattern(existing_format, None), text)
    day, at = resolve(fields)
    return _settled(datetime.combine(day, at, fields.zone or zone))


# ── From moment to text ───────────────────────────────────────────────────────────────────────────────────────


def _pattern(name: str, locale: str | None) -> tuple[Part, ...]:
    return compile_pattern(names_of(locale).style(name) if name in _STYLES else _PRESETS.get(name, name))


def _print(moment: datetime, zone: tzinfo, name: str | None, locale: str | None) -> str:
    name = name or "iso"
    try:
        local = moment.astimezone(zone)
        if name in _JAVA_PRESETS:
            return _java_preset(name, local)
        return print_moment(_pattern(name, locale), local, names_of(locale))
    except OverflowError as error:
        raise ExpressionError("The date lies outside the years 1 to 9999.") from error


def _java_preset(name: str, moment: datetime) -> str:
    offset = moment.utcoffset() or timedelta()
    suffix = offset_text(offset, colon=True) if offset else "Z"
    day = moment.date().isoformat()
    match name:
        case "iso_local_date":
            return day
        case "iso_local_time":
            return _time_text(moment)
        case "iso_local_date_time":
            return f"{day}T{_time_text(moment)}"
        case "iso_date":
            return f"{day}{suffix}"
        case "iso_time" | "iso_offset_time":
            return f"{_time_text(moment)}{suffix}"
        case "iso_instant":
            return temporal_text(moment.astimezone(UTC))
        case "iso_ordinal_date":
            return f"{moment.year:04}-{moment.timetuple().tm_yday:03}{suffix}"
        case "iso_week_date":
            week = moment.isocalendar()
            return f"{week.year:04}-W{week.week:02}-{week.weekday}{suffix}"
        case "rfc_1123_date_time":
            text = print_moment(compile_pattern("EEE, d MMM yyyy HH:mm:ss "), moment)
            return text + (offset_text(offset, colon=False) if offset else "GMT")
        case _:
            region = f"[{zone_id(moment.tzinfo)}]" if is_region(moment.tzinfo) else ""
            return f"{day}T{_time_text(moment)}{suffix}{region}"


def _time_text(at: datetime | time) -> str:
    """Hours, minutes and seconds with a fraction as short as possible."""
    text = f"{at.hour:02}:{at.minute:02}:{at.second:02}"
    return f"{text}.{at.microsecond:06}".rstrip("0") if at.microsecond else text


def _java_time(at: datetime | time, *, seconds: bool) -> str:
    """A time with a fraction of 0, 3 or 6 digits; without zero seconds unless they are wanted."""
    text = f"{at.hour:02}:{at.minute:02}"
    if seconds or at.second or at.microsecond:
        text += f":{at.second:02}"
    if at.microsecond:
        text += f".{at.microsecond:06}".removesuffix("000")
    return text


def temporal_text(value: datetime | date | time | timedelta) -> str:
    """Write a date, time or duration as `{{ x }}` prints it.

    Example:
        >>> temporal_text(timedelta(minutes=90))
        'PT1H30M'
    """
    match value:
        case datetime():
            text = f"{value.date().isoformat()}T{_java_time(value, seconds=value.tzinfo is UTC)}"
            if value.tzinfo is None:
                return text
            offset = value.utcoffset() or timedelta()
            text += offset_text(offset, colon=True) if offset else "Z"
            return f"{text}[{zone_id(value.tzinfo)}]" if is_region(value.tzinfo) else text
        case date():
            return value.isoformat()
        case time():
            return _java_time(value, seconds=False)
        case timedelta():
            return _duration_text(value)


def _duration_text(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    seconds, fraction = divmod(abs(micros), 1_000_000)
    text = ""
    if seconds >= 3600:
        text += f"{sign}{seconds // 3600}H"
    if seconds // 60 % 60:
        text += f"{sign}{seconds // 60 % 60}M"
    if seconds % 60 or fraction or not text:
        decimals = f".{fraction:06}".rstrip("0") if fraction else ""
        text += f"{sign}{seconds % 60}{decimals}S"
    return f"PT{text}"


def temporal_json(value: datetime | date | time | timedelta) -> str:
    """Write a date, time or duration for JSON, without quotes; a duration is a number of seconds, nine decimals."""
    match value:
        case datetime():
            if value.tzinfo is UTC:
                return temporal_text(value)
            text = f"{value.date().isoformat()}T{_time_text(value)}"
            if value.tzinfo is None:
                return text
            offset = value.utcoffset() or timedelta()
            return text + (offset_text(offset, colon=True) if offset else "Z")
        case date():
            return value.isoformat()
        case time():
            return _time_text(value)
        case timedelta():
            micros = value // timedelta(microseconds=1)
            seconds, fraction = divmod(abs(micros), 1_000_000)
            return f"{'-' if micros < 0 else ''}{seconds}.{fraction:06}000"


# ── Calendar tests ────────────────────────────────────────────────────────────────────────────────────────────
# All take a date as `format_date` does and look at it in *time_zone*, else in the server's zone.


def is_weekend(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> bool:
    """Say whether a date is a Saturday or Sunday."""
    return _local(value, time_zone, default_zone).isoweekday() > 5


def is_public_holiday(value: object, country: str | None = None, sub_division: str | None = None) -> bool:
    """Always refuses: tercel has no calendar of holidays."""
    raise ExpressionError("The function isPublicHoliday is not available: tercel has no calendar of public holidays.")


def is_day_week_in_month(
    value: object, weekday: str, position: str, *, time_zone: str | None = None, default_zone: str = "UTC"
) -> bool:
    """Say whether a date is, for example, the `SECOND` `TUESDAY` of its month; positions are FIRST to FOURTH and LAST.

    Raises:
        ExpressionError: weekday or position is none of these words.
    """
    moment = _local(value, time_zone, default_zone)
    positions = ("FIRST", "SECOND", "THIRD", "FOURTH", "LAST")
    if position not in positions:
        raise ExpressionError(f"isDayWeekInMonth: {position!r} is none of {', '.join(positions)}.")
    if weekday not in _WEEKDAYS:
        raise ExpressionError(f"isDayWeekInMonth: {weekday!r} is none of {', '.join(_WEEKDAYS)}.")
    if _WEEKDAYS[moment.weekday()] != weekday:
        return False
    if position == "LAST":
        return _last_day(moment.date()).day - moment.day < 7
    return (moment.day - 1) // 7 == positions.index(position)


def is_last_working_day(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> bool:
    """Say whether a date is the last day of its month from Monday to Friday; public holidays are not known."""
    day = _local(value, time_zone, default_zone).date()
    last = _last_day(day)
    return day == last - timedelta(days=max(0, last.isoweekday() - 5))


def day_of_week(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> str:
    """Give a date's day of the week, such as `MONDAY`."""
    return _WEEKDAYS[_local(value, time_zone, default_zone).weekday()]


def day_of_month(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> int:
    """Give a date's day of the month, from 1."""
    return _local(value, time_zone, default_zone).day


def month_of_year(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> int:
    """Give a date's month, from 1."""
    return _local(value, time_zone, default_zone).month


def hour_of_day(value: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> int:
    """Give a date's hour, 0 to 23."""
    return _local(value, time_zone, default_zone).hour


def is_date_before(value: object, other: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> bool:
    """Say whether a date lies before *other*."""
    return _local(value, time_zone, default_zone) < _local(other, time_zone, default_zone)


def is_date_after(value: object, other: object, *, time_zone: str | None = None, default_zone: str = "UTC") -> bool:
    """Say whether a date lies after *other*."""
    return _local(value, time_zone, default_zone) > _local(other, time_zone, default_zone)


def is_date_between(
    value: object, after: object, before: object, *, time_zone: str | None = None, default_zone: str = "UTC"
) -> bool:
    """Say whether a date lies after the one and before the other, neither included."""
    return is_date_after(value, after, time_zone=time_zone, default_zone=default_zone) and is_date_before(
        value, before, time_zone=time_zone, default_zone=default_zone
    )


_WEEKDAYS = tuple(name.upper() for name in WEEKDAYS)


def _local(value: object, time_zone: str | None, default_zone: str) -> datetime:
    zone = zone_of(time_zone or default_zone)
    return _moment(value, zone).astimezone(zone)


def _last_day(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
