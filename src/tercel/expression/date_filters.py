"""Filters and functions on dates: their arguments; what they do is in `dates`."""

from collections.abc import Callable
from typing import TypedDict

from tercel.errors import ExpressionError
from tercel.expression.arguments import Builtin
from tercel.expression.rendering import Rendering
from tercel.expression.text_filters import integer_of, text_of

_LONGEST = 1_000


class _Options(TypedDict):
    time_zone: str | None
    existing_format: str | None
    default_zone: str


def _text(where: str, name: str, value: object) -> str | None:
    """Check an argument that is a text or left out."""
    if value is None:
        return None
    text = text_of(value, f"The argument `{name}` of {where}")
    if len(text) > _LONGEST:
        raise ExpressionError(f"The argument `{name}` of {where} is over the limit of {_LONGEST:,} characters")
    return text


def _options(where: str, rendering: Rendering, zone: object, existing: object) -> _Options:
    return {
        "time_zone": _text(where, "timeZone", zone),
        "existing_format": _text(where, "existingFormat", existing),
        "default_zone": rendering.zone,
    }


def _date(rendering: Rendering, value: object, *options: object) -> object:
    from tercel.expression.dates import format_date  # noqa: PLC0415  # loaded only where there is a date

    where = "the filter `date`"
    pattern, zone, existing, locale = options
    return format_date(
        value,
        format=_text(where, "format", pattern),
        locale=_text(where, "locale", locale),
        **_options(where, rendering, zone, existing),
    )


def _date_add(rendering: Rendering, value: object, amount: object, unit: object, *options: object) -> object:
    from tercel.expression.dates import add_date  # noqa: PLC0415  # loaded only where there is a date

    where = "the filter `dateAdd`"
    pattern, zone, existing, locale = options
    return add_date(
        value,
        integer_of(amount, f"The argument `amount` of {where}"),
        text_of(unit, f"The argument `unit` of {where}"),
        format=_text(where, "format", pattern),
        locale=_text(where, "locale", locale),
        **_options(where, rendering, zone, existing),
    )


def _epoch(name: str, function: str) -> Callable[[Rendering, object, object, object], object]:
    """Make the filter *name* of one of the functions of `dates` that count from 1970."""
    where = f"the filter `{name}`"

    def run(rendering: Rendering, value: object, zone: object, existing: object) -> object:
        from tercel.expression import dates  # noqa: PLC0415  # loaded only where there is a date

        give: Callable[..., object] = getattr(dates, function)
        return give(value, **_options(where, rendering, zone, existing))

    return run


def _now(rendering: Rendering, *options: object) -> object:
    return _date(rendering, rendering.service("now", "now"), *options)


def _calendar(name: str, function: str) -> Callable[..., object]:
    """Make the function *name* of one of the calendar tests of `dates`."""

    def run(rendering: Rendering, value: object, *arguments: object) -> object:
        from tercel.expression import dates  # noqa: PLC0415  # loaded only where there is a date

        *others, zone = arguments
        give: Callable[..., object] = getattr(dates, function)
        where = f"the function `{name}`"
        return give(value, *others, time_zone=_text(where, "timeZone", zone), default_zone=rendering.zone)

    return run


def _public_holiday(_: Rendering, value: object, country: object, sub_division: object) -> object:
    from tercel.expression.dates import is_public_holiday  # noqa: PLC0415  # loaded only where there is a date

    where = "the function `isPublicHoliday`"
    return is_public_holiday(value, _text(where, "country", country), _text(where, "subDivision", sub_division))


_FORMATTED = ("format", "timeZone", "existingFormat", "locale")
_ZONED = ("timeZone", "existingFormat")

DATE_FILTERS = {
    "date": Builtin(_date, *_FORMATTED),
    "dateAdd": Builtin(_date_add, "amount*", "unit*", *_FORMATTED),
    "timestamp": Builtin(_epoch("timestamp", "timestamp"), *_ZONED),
    "timestampMilli": Builtin(_epoch("timestampMilli", "timestamp_milli"), *_ZONED),
    "timestampMicro": Builtin(_epoch("timestampMicro", "timestamp_micro"), *_ZONED),
    "timestampNano": Builtin(_epoch("timestampNano", "timestamp_nano"), *_ZONED),
}
DATE_FUNCTIONS = {
    "now": Builtin(_now, *_FORMATTED),
    "isWeekend": Builtin(_calendar("isWeekend", "is_weekend"), "date*", "timeZone"),
    "isPublicHoliday": Builtin(_public_holiday, "date*", "country", "subDivision"),
    "isDayWeekInMonth": Builtin(
        _calendar("isDayWeekInMonth", "is_day_week_in_month"), "date*", "dayOfWeek*", "dayInMonth*", "timeZone"
    ),
    "isLastWorkingDay": Builtin(_calendar("isLastWorkingDay", "is_last_working_day"), "date*", "timeZone"),
    "dayOfWeek": Builtin(_calendar("dayOfWeek", "day_of_week"), "date*", "timeZone"),
    "dayOfMonth": Builtin(_calendar("dayOfMonth", "day_of_month"), "date*", "timeZone"),
    "monthOfYear": Builtin(_calendar("monthOfYear", "month_of_year"), "date*", "timeZone"),
    "hourOfDay": Builtin(_calendar("hourOfDay", "hour_of_day"), "date*", "timeZone"),
    "isDateBefore": Builtin(_calendar("isDateBefore", "is_date_before"), "date*", "other*", "timeZone"),
    "isDateAfter": Builtin(_calendar("isDateAfter", "is_date_after"), "date*", "other*", "timeZone"),
    "isDateBetween": Builtin(_calendar("isDateBetween", "is_date_between"), "date*", "start*", "end*", "timeZone"),
}
