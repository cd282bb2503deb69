"""The words of dates in any language, out of babel.

Only `date_languages` imports this, and only where a language other than English is asked for: babel is an extra.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from babel import Locale, UnknownLocaleError
from babel.dates import (
    get_date_format,
    get_datetime_format,
    get_day_names,
    get_era_names,
    get_month_names,
    get_period_id,
    get_quarter_names,
    get_time_format,
    get_timezone_name,
)

from tercel.expression.date_names import Names, Width


def babel_names(locale: str) -> Names | None:
    """Give the words of *locale*, such as `fr` or `de_DE`; None when there is no such language."""
    try:
        return _BabelNames(Locale.parse(locale))
    except (ValueError, UnknownLocaleError):
        return None


class _BabelNames:
    def __init__(self, locale: Locale) -> None:
        self._locale = locale
        # As in Java, a language without a country has the week of the United States.
        self.first_weekday = locale.first_week_day + 1 if locale.territory else 7
        self.minimal_days = locale.min_week_days if locale.territory else 1

    def months(self, width: Width, *, alone: bool) -> Sequence[str]:
        return _listed(get_month_names(width, "stand-alone" if alone else "format", self._locale), 1, 12)

    def weekdays(self, width: Width, *, alone: bool) -> Sequence[str]:
        return _listed(get_day_names(width, "stand-alone" if alone else "format", self._locale), 0, 7)

    def quarters(self, width: Width) -> Sequence[str]:
        return _listed(get_quarter_names(width, locale=self._locale), 1, 4)

    def halves(self) -> Sequence[str]:
        words = self._locale.day_periods["format"]["abbreviated"]
        return (words.get("am", "AM"), words.get("pm", "PM"))

    def eras(self, width: Width) -> Sequence[str]:
        return _listed(get_era_names(width, self._locale), 0, 2)

    def day_period(self, moment: datetime) -> str:
        words: Mapping[str, str] = self._locale.day_periods["format"]["wide"]
        period = get_period_id(moment.replace(tzinfo=None), locale=self._locale)
        return words.get(period) or words.get("am" if moment.hour < 12 else "pm", "")

    def zone(self, moment: datetime, *, wide: bool, generic: bool) -> str:
        if not wide:
            return moment.tzname() or ""
        return get_timezone_name(moment.tzinfo if generic else moment, width="long", locale=self._locale)

    def style(self, style: str) -> str:
        width = "full" if style == "full" else "long" if style == "long" else "medium" if style == "medium" else "short"
        joined = str(get_datetime_format(width, self._locale))
        time = get_time_format(width, self._locale).pattern
        return joined.replace("{0}", time).replace("{1}", get_date_format(width, self._locale).pattern)


def _listed(names: Mapping[int, str], first: int, count: int) -> Sequence[str]:
    return [names[first + index] for index in range(count)]
