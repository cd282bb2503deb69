"""Languages of dates: English is built in, every other one comes from babel, the extra `locale`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from tercel.errors import ExpressionError
from tercel.expression.date_names import MONTHS, WEEKDAYS, Names, Width

_QUARTERS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")
_ERAS: Mapping[str, Sequence[str]] = {
    "abbreviated": ("BC", "AD"),
    "wide": ("Before Christ", "Anno Domini"),
    "narrow": ("B", "A"),
}
_DAY_PERIODS = ((6, "at night"), (12, "in the morning"), (18, "in the afternoon"), (21, "in the evening"))
_STYLES = {
    "full": "EEEE, MMMM d, y 'at' h:mm:ss a zzzz",
    "long": "MMMM d, y 'at' h:mm:ss a z",
    "medium": "MMM d, y, h:mm:ss a",
    "short": "M/d/yy, h:mm a",
}


class _English:
    first_weekday = 7
    minimal_days = 1

    def months(self, width: Width, *, alone: bool) -> Sequence[str]:
        return _cut(MONTHS, width)

    def weekdays(self, width: Width, *, alone: bool) -> Sequence[str]:
        return _cut(WEEKDAYS, width)

    def quarters(self, width: Width) -> Sequence[str]:
        if width == "wide":
            return _QUARTERS
        return ("Q1", "Q2", "Q3", "Q4") if width == "abbreviated" else ("1", "2", "3", "4")

    def halves(self) -> Sequence[str]:
        return ("AM", "PM")

    def eras(self, width: Width) -> Sequence[str]:
        return _ERAS[width]

    def day_period(self, moment: datetime) -> str:
        if moment.minute == 0 and moment.hour in {0, 12}:
            return "midnight" if moment.hour == 0 else "noon"
        return next((name for hour, name in _DAY_PERIODS if moment.hour < hour), "at night")

    def zone(self, moment: datetime, *, wide: bool, generic: bool) -> str:
        if wide or generic:
            return _babel_names("en_US").zone(moment, wide=wide, generic=generic)
        short = moment.tzname() or ""
        # Regions without letters of their own are called -03 in the time zone database.
        return _gmt_offset(moment) if short[:1] in {"+", "-"} else short

    def style(self, style: str) -> str:
        return _STYLES[style]


def _cut(names: Sequence[str], width: Width) -> Sequence[str]:
    if width == "wide":
        return names
    return [name[: 3 if width == "abbreviated" else 1] for name in names]


def _gmt_offset(moment: datetime) -> str:
    offset = moment.utcoffset() or timedelta()
    minutes = abs(offset) // timedelta(minutes=1)
    return f"GMT{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"


ENGLISH: Names = _English()


def names_of(locale: str | None) -> Names:
    """Give the words of a language.

    Args:
        locale: such as `fr`, `de-DE` or `pt_BR`; None for English.

    Raises:
        ExpressionError: the language is unknown, or needs babel and that is not installed.
    """
    if locale is None or locale.replace("-", "_") in {"en", "en_US"}:
        return ENGLISH
    return _babel_names(locale.replace("-", "_"))


@lru_cache(maxsize=32)
def _babel_names(locale: str) -> Names:
    try:
        from tercel.expression.date_locale import babel_names  # noqa: PLC0415 - babel is an extra, and slow to import
    except ImportError:
        raise ExpressionError(
            f"Dates in the language {locale!r} need babel, which is not installed: pip install 'tercel[locale]'."
        ) from None
    names = babel_names(locale)
    if names is None:
        raise ExpressionError(f"There is no language {locale!r} for dates.")
    return names
