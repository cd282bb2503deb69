from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.model.time_spans import Span, span_for, span_start, span_starts

AT = datetime(2030, 5, 16, 12, 34, 56, 789, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "span"),
    [
        (timedelta(days=366), Span.MONTH),
        (timedelta(days=365), Span.WEEK),
        (timedelta(days=181), Span.WEEK),
        (timedelta(days=180), Span.DAY),
        (timedelta(days=1), Span.HOUR),
        (timedelta(hours=6), Span.MINUTE),
    ],
)
def test_given_a_length_then_it_is_cut_so_that_few_spans_come_of_it(length: timedelta, span: Span) -> None:
    assert span_for(length) is span


@pytest.mark.parametrize(
    ("span", "start"),
    [
        (Span.MINUTE, "2030-05-16T12:34:00+00:00"),
        (Span.HOUR, "2030-05-16T12:00:00+00:00"),
        (Span.DAY, "2030-05-16T00:00:00+00:00"),
        (Span.WEEK, "2030-05-13T00:00:00+00:00"),
        (Span.MONTH, "2030-05-01T00:00:00+00:00"),
    ],
)
def test_given_an_instant_then_its_span_begins_before_it(span: Span, start: str) -> None:
    assert span_start(AT, span).isoformat() == start


@given(
    start=st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
    length=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=900)),
)
def test_given_any_interval_then_its_spans_follow_each_other_and_hold_it(start: datetime, length: timedelta) -> None:
    span = span_for(length)

    starts = list(span_starts(start, start + length, span))

    assert starts[0] <= start
    assert starts[-1] == span_start(start + length, span)
    assert all(
        one < other and span_start(other - timedelta(microseconds=1), span) == one for one, other in pairwise(starts)
    )


def test_given_the_ends_of_time_then_spans_stop_there() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    first = datetime.min.replace(tzinfo=UTC)

    assert [at.month for at in span_starts(last - timedelta(days=40), last, Span.MONTH)] == [11, 12]
    assert span_start(first + timedelta(days=2), Span.WEEK) >= first
