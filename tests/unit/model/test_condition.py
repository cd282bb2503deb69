from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tercel.model.condition import TimeWindow

PARIS = ZoneInfo("Europe/Paris")
HOUR = timedelta(hours=1)


def span(now: str, zone: Any = UTC, **properties: Any) -> tuple[str, str] | None:
    found = TimeWindow(**properties).span_at(datetime.fromisoformat(now), zone)
    if found is None:
        return None
    assert all(moment.tzinfo is UTC for moment in found)
    return found[0].isoformat()[:16], found[1].isoformat()[:16]


class TestDurationWindow:
    @pytest.mark.parametrize(
        ("now", "properties", "expected"),
        [
            ("2030-01-02T10:30:00Z", {}, ("2030-01-02T00:00", "2030-01-03T00:00")),
            ("2030-01-02T00:00:00Z", {}, ("2030-01-02T00:00", "2030-01-03T00:00")),
            ("2030-01-02T10:30:00Z", {"window": 6 * HOUR}, ("2030-01-02T06:00", "2030-01-02T12:00")),
            (
                "2030-01-02T10:30:00Z",
                {"window": 6 * HOUR, "window_advance": 2 * HOUR},
                ("2030-01-02T08:00", "2030-01-02T14:00"),
            ),
            (
                "2030-01-02T01:00:00Z",
                {"window": 6 * HOUR, "window_advance": 2 * HOUR},
                ("2030-01-01T20:00", "2030-01-02T02:00"),
            ),
            ("2030-01-02T19:00:00Z", {"window_advance": -6 * HOUR}, ("2030-01-02T18:00", "2030-01-03T18:00")),
            ("2030-01-02T10:30:00Z", {"window": timedelta(days=7)}, ("2030-01-02T00:00", "2030-01-09T00:00")),
        ],
    )
    def test_given_a_moment_then_its_span_is_aligned_to_midnight(
        self, now: str, properties: dict[str, Any], expected: tuple[str, str]
    ) -> None:
        assert span(now, **properties) == expected

    def test_given_a_zone_then_midnight_is_there_also_where_the_clocks_change(self) -> None:
        assert span("2030-03-31T10:00:00Z", PARIS) == ("2030-03-30T23:00", "2030-03-31T22:00")


class TestOtherWindows:
    def test_given_a_sliding_window_then_it_begins_now(self) -> None:
        assert span("2030-01-02T10:30:00+01:00", type="SLIDING_WINDOW", window=HOUR) == (
            "2030-01-02T09:30",
            "2030-01-02T10:30",
        )
        assert span("2030-01-02T10:30:00Z", type="SLIDING_WINDOW") == ("2030-01-02T10:30", "2030-01-03T10:30")

    @pytest.mark.parametrize(
        ("now", "deadline", "expected"),
        [
            ("2030-01-02T08:59:59Z", time(9), ("2030-01-02T00:00", "2030-01-02T09:00")),
            ("2030-01-02T09:00:00Z", time(9), None),
            ("2030-01-01T22:00:00Z", time(9, tzinfo=timezone(2 * HOUR)), ("2030-01-01T22:00", "2030-01-02T07:00")),
        ],
    )
    def test_given_a_deadline_then_the_span_is_from_midnight_to_it(
        self, now: str, deadline: time, expected: tuple[str, str] | None
    ) -> None:
        assert span(now, type="DAILY_TIME_DEADLINE", deadline=deadline) == expected

    @pytest.mark.parametrize(
        ("now", "start", "end", "expected"),
        [
            ("2030-01-02T08:59:00Z", time(9), time(17), None),
            ("2030-01-02T09:00:00Z", time(9), time(17), ("2030-01-02T09:00", "2030-01-02T17:00")),
            ("2030-01-02T17:00:00Z", time(9), time(17), None),
            ("2030-01-02T23:00:00Z", time(22), time(2), ("2030-01-02T22:00", "2030-01-03T02:00")),
            ("2030-01-02T01:00:00Z", time(22), time(2), ("2030-01-01T22:00", "2030-01-02T02:00")),
            ("2030-01-02T03:00:00Z", time(22), time(2), None),
        ],
    )
    def test_given_two_times_then_the_span_lies_between_them(
        self, now: str, start: time, end: time, expected: tuple[str, str] | None
    ) -> None:
        assert span(now, type="DAILY_TIME_WINDOW", start_time=start, end_time=end) == expected


class TestProblems:
    @pytest.mark.parametrize(
        ("properties", "codes"),
        [
            ({}, []),
            ({"window": HOUR, "window_advance": HOUR}, []),
            ({"deadline": time(9)}, ["timeWindow.deadline"]),
            ({"type": "SLIDING_WINDOW", "window": HOUR}, []),
            ({"type": "SLIDING_WINDOW", "window_advance": HOUR}, ["timeWindow.windowAdvance"]),
            ({"type": "DAILY_TIME_DEADLINE", "deadline": time(9)}, []),
            ({"type": "DAILY_TIME_DEADLINE"}, ["timeWindow.deadline"]),
            ({"type": "DAILY_TIME_DEADLINE", "deadline": time(9), "window": HOUR}, ["timeWindow.window"]),
            ({"type": "DAILY_TIME_WINDOW", "start_time": time(9), "end_time": time(10)}, []),
            ({"type": "DAILY_TIME_WINDOW", "start_time": time(9)}, ["timeWindow.endTime"]),
            (
                {"type": "DAILY_TIME_WINDOW", "deadline": time(9)},
                ["timeWindow.deadline", "timeWindow.startTime", "timeWindow.endTime"],
            ),
            ({"window": timedelta(0)}, ["timeWindow.window"]),
        ],
    )
    def test_given_properties_then_those_that_the_type_has_not_or_needs_are_told(
        self, properties: dict[str, Any], codes: list[str]
    ) -> None:
        problems = list(TimeWindow(**properties).problems())

        assert [problem.code for problem in problems] == codes
        assert [f"timeWindow.{problem.path[0]}" for problem in problems] == codes
