"""Spans of calendar time that values are added up by: minutes, hours, days, weeks and months, in UTC. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never


class Span(StrEnum):
    """How long a span is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def span_for(length: timedelta) -> Span:
    """The span that an interval of this length is cut into.

    Example:
        >>> span_for(timedelta(days=30)).value
        'day'
    """
    if length > timedelta(days=365):
        return Span.MONTH
    if length > timedelta(days=180):
        return Span.WEEK
    if length > timedelta(days=1):
        return Span.DAY
    if length > timedelta(hours=6):
        return Span.HOUR
    return Span.MINUTE


def span_start(at: datetime, span: Span) -> datetime:
    """When the span began that an instant in UTC is in; weeks begin on Monday."""
    match span:
        case Span.MINUTE:
            return at.replace(second=0, microsecond=0)
        case Span.HOUR:
            return at.replace(minute=0, second=0, microsecond=0)
        case Span.DAY:
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        case Span.WEEK:
            day = at.replace(hour=0, minute=0, second=0, microsecond=0)
            return day - min(timedelta(days=day.weekday()), day - datetime.min.replace(tzinfo=day.tzinfo))
        case Span.MONTH:
            return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        case _:
            assert_never(span)


def span_starts(start: datetime, end: datetime, span: Span) -> Iterator[datetime]:
    """When each span of an interval in UTC begins, its end included; the first one may begin before *start*."""
    at = span_start(start, span)
    while at <= end:
        yield at
        try:
            at = _next(at, span)
        except (OverflowError, ValueError):  # time ends in the year 9999
            return


def _next(at: datetime, span: Span) -> datetime:
    match span:
        case Span.MINUTE:
            return at + timedelta(minutes=1)
        case Span.HOUR:
            return at + timedelta(hours=1)
        case Span.DAY:
            return at + timedelta(days=1)
        case Span.WEEK:
            return at + timedelta(weeks=1)
        case Span.MONTH:
            return at.replace(year=at.year + at.month // 12, month=at.month % 12 + 1)
        case _:
            assert_never(span)
