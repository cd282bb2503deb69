from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import UserError
from tercel.model.cron import Cron

PARIS = ZoneInfo("Europe/Paris")
MINUTE = timedelta(minutes=1)


def after(text: str, start: str, zone: str = "UTC", most: int = 3, **more: bool) -> list[str]:
    moment = datetime.fromisoformat(start)
    where = UTC if zone == "UTC" else ZoneInfo(zone)
    return [date.isoformat() for date in islice(Cron(text, **more).dates(moment, where), most)]


def before(text: str, start: str, zone: str = "UTC", most: int = 3, **more: bool) -> list[str]:
    moment = datetime.fromisoformat(start)
    where = UTC if zone == "UTC" else ZoneInfo(zone)
    return [date.isoformat() for date in islice(Cron(text, **more).dates(moment, where, backwards=True), most)]


class TestDates:
    @pytest.mark.parametrize(
        ("text", "first"),
        [
            ("*/15 * * * *", "2030-01-01T12:15:00+00:00"),
            ("5/15 * * * *", "2030-01-01T12:05:00+00:00"),
            ("0 9-17/4 * * *", "2030-01-01T13:00:00+00:00"),
            ("0 9 * * MON-FRI", "2030-01-02T09:00:00+00:00"),
            ("0 9 * * fri-sun", "2030-01-04T09:00:00+00:00"),
            ("0 9 * * 0", "2030-01-06T09:00:00+00:00"),
            ("0 9 * * 7", "2030-01-06T09:00:00+00:00"),
            ("0 9 ? JAN,mar ?", "2030-01-02T09:00:00+00:00"),
            ("0 0 13 * 5", "2030-01-04T00:00:00+00:00"),
            ("0 0 29 2 *", "2032-02-29T00:00:00+00:00"),
            ("@yearly", "2031-01-01T00:00:00+00:00"),
            ("@annually", "2031-01-01T00:00:00+00:00"),
            ("@monthly", "2030-02-01T00:00:00+00:00"),
            ("@weekly", "2030-01-06T00:00:00+00:00"),
            ("@daily", "2030-01-02T00:00:00+00:00"),
            ("@midnight", "2030-01-02T00:00:00+00:00"),
            (" @hourly ", "2030-01-01T13:00:00+00:00"),
        ],
    )
    def test_given_an_expression_then_the_first_date_is_after_the_start(self, text: str, first: str) -> None:
        assert after(text, "2030-01-01T12:00:00+00:00", most=1) == [first]

    def test_given_seconds_then_their_field_comes_first(self) -> None:
        assert after("*/20 0 12 * * *", "2030-01-01T12:00:00+00:00", with_seconds=True) == [
            "2030-01-01T12:00:20+00:00",
            "2030-01-01T12:00:40+00:00",
            "2030-01-02T12:00:00+00:00",
        ]

    def test_given_seconds_then_a_nickname_means_the_same(self) -> None:
        assert after("@hourly", "2030-01-01T12:00:00+00:00", most=1, with_seconds=True) == ["2030-01-01T13:00:00+00:00"]

    def test_given_a_fraction_of_a_second_then_the_date_right_before_is_not_left_out(self) -> None:
        assert before("0 * * * *", "2030-01-01T12:00:00.5+00:00", most=1) == ["2030-01-01T12:00:00+00:00"]
        assert before("0 * * * *", "2030-01-01T12:00:00+00:00", most=1) == ["2030-01-01T11:00:00+00:00"]
        assert after("0 * * * *", "2030-01-01T11:59:59.5+00:00", most=1) == ["2030-01-01T12:00:00+00:00"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "'' has 0 fields, and a cron expression has 5."),
            ("* * * *", "'* * * *' has 4 fields, and a cron expression has 5."),
            ("60 * * * *", "'60 * * * *' is not a cron expression: bad minute."),
            ("* 24 * * *", "'* 24 * * *' is not a cron expression: bad hour."),
            ("* * 0 * *", "'* * 0 * *' is not a cron expression: bad day-of-month."),
            ("* * * 13 *", "'* * * 13 *' is not a cron expression: bad month."),
            ("* * * * 8", "'* * * * 8' is not a cron expression: bad day-of-week."),
            ("* * * * FRI-MON", "'* * * * FRI-MON' is not a cron expression: bad day-of-week."),
            ("*/0 * * * *", "'*/0 * * * *' is not a cron expression: bad minute."),
            ("*/70 * * * *", "'*/70 * * * *' is not a cron expression: a step of 70 is too long."),
            ("0 0 31 2 *", "'0 0 31 2 *' is not a cron expression: bad day-of-month."),
            ("@often", "'@often' has 1 fields, and a cron expression has 5."),
        ],
    )
    def test_given_what_is_no_expression_then_it_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(UserError) as refused:
            Cron(text)

        assert refused.value.message == message
        assert refused.value.hint == "Write it like '0 9 * * MON-FRI', or @daily."

    def test_given_seconds_that_were_not_asked_for_then_the_hint_says_how(self) -> None:
        with pytest.raises(UserError, match=r"has 6 fields.*Set withSeconds: true"):
            Cron("0 0 * * * *")

    def test_given_no_seconds_although_asked_for_then_it_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"has 5 fields, and a cron expression has 6"):
            Cron("0 * * * *", with_seconds=True)


class TestDaylightSaving:
    def test_given_a_gap_then_a_time_inside_comes_right_after_it(self) -> None:
        assert after("30 2 * * *", "2030-03-30T12:00:00+01:00", "Europe/Paris") == [
            "2030-03-31T03:00:00+02:00",
            "2030-04-01T02:30:00+02:00",
            "2030-04-02T02:30:00+02:00",
        ]
        assert before("30 2 * * *", "2030-04-01T02:30:00+02:00", "Europe/Paris", 2) == [
            "2030-03-31T03:00:00+02:00",
            "2030-03-30T02:30:00+01:00",
        ]

    def test_given_several_times_inside_a_gap_then_they_are_one_date(self) -> None:
        assert after("10,20 2,3 * * *", "2030-03-31T00:00:00+01:00", "Europe/Paris", 4) == [
            "2030-03-31T03:00:00+02:00",
            "2030-03-31T03:10:00+02:00",
            "2030-03-31T03:20:00+02:00",
            "2030-04-01T02:10:00+02:00",
        ]

    def test_given_an_overlap_then_a_time_inside_comes_once(self) -> None:
        assert after("30 2 * * *", "2030-10-26T12:00:00+02:00", "Europe/Paris") == [
            "2030-10-27T02:30:00+02:00",
            "2030-10-28T02:30:00+01:00",
            "2030-10-29T02:30:00+01:00",
        ]

    def test_given_a_start_inside_an_overlap_then_no_date_comes_again_or_is_lost(self) -> None:
        second_pass = "2030-10-27T02:10:00+01:00"
        assert after("30 2 * * *", second_pass, "Europe/Paris", 1) == ["2030-10-28T02:30:00+01:00"]
        assert before("30 2 * * *", second_pass, "Europe/Paris", 1) == ["2030-10-27T02:30:00+02:00"]

    def test_given_seconds_then_the_same_holds(self) -> None:
        assert after("5 30 2 * * *", "2030-03-31T00:00:00+01:00", "Europe/Paris", 1, with_seconds=True) == [
            "2030-03-31T03:00:00+02:00"
        ]
        assert after("5 30 2 * * *", "2030-10-27T02:30:05+02:00", "Europe/Paris", 1, with_seconds=True) == [
            "2030-10-28T02:30:05+01:00"
        ]

    def test_given_every_half_hour_then_clocks_decide(self) -> None:
        assert after("*/30 * * * *", "2030-03-31T01:30:00+01:00", "Europe/Paris", 2) == [
            "2030-03-31T03:00:00+02:00",
            "2030-03-31T03:30:00+02:00",
        ]
        assert after("*/30 2 * * *", "2030-03-30T12:00:00+01:00", "Europe/Paris", 1) == ["2030-04-01T02:00:00+02:00"]
        assert after("*/30 2 * * *", "2030-10-26T12:00:00+02:00", "Europe/Paris", 5) == [
            "2030-10-27T02:00:00+02:00",
            "2030-10-27T02:30:00+02:00",
            "2030-10-27T02:00:00+01:00",
            "2030-10-27T02:30:00+01:00",
            "2030-10-28T02:00:00+01:00",
        ]

    @pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
    @pytest.mark.parametrize("text", ["* * * * *", "*/7 * * * *", "30 * * * *", "*/20 1-3 * * *", "*/15 2 * * SUN"])
    def test_given_clocks_that_change_then_dates_are_the_minutes_that_they_show(self, zone: str, text: str) -> None:
        where = ZoneInfo(zone)
        shown = [
            start + MINUTE * minute
            for start in (datetime(2030, month, day, tzinfo=UTC) for month, day in TRANSITIONS)
            for minute in range(24 * 60)
            if _shows(text, (start + MINUTE * minute).astimezone(where))
        ]

        found: list[datetime] = []
        for month, day in TRANSITIONS:
            start = datetime(2030, month, day, tzinfo=UTC)
            for date in Cron(text).dates(start - MINUTE / 2, where):
                if date >= start + timedelta(days=1):
                    break
                found.append(date.astimezone(UTC))

        assert found == shown

    @given(
        start=st.datetimes(datetime(2030, 1, 1), datetime(2031, 1, 1)),
        text=st.sampled_from(["30 2 * * *", "0,30 1,2,3 * * *", "*/30 * * * *", "15 2 * * SUN", "0 0 1 * *"]),
        zone=st.sampled_from([PARIS, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")]),
    )
    def test_given_any_start_then_dates_forwards_are_those_backwards(
        self, start: datetime, text: str, zone: ZoneInfo
    ) -> None:
        moment = start.replace(tzinfo=UTC)
        cron = Cron(text)

        forwards = list(islice(cron.dates(moment, zone), 6))
        backwards = list(islice(cron.dates(forwards[-1] + MINUTE / 2, zone, backwards=True), 6))

        assert all(date > moment for date in forwards)
        assert forwards == backwards[::-1]


TRANSITIONS = [(3, 10), (3, 31), (4, 6), (10, 5), (10, 27), (11, 3)]


def _shows(text: str, local: datetime) -> bool:
    minute, hour, _, _, day = text.split()
    step = int(minute.partition("/")[2] or 0)
    of_minute = local.minute % step == 0 if step else minute in {"*", str(local.minute)}
    first, _, last = hour.partition("-")
    of_hour = hour == "*" or int(first) <= local.hour <= int(last or first)
    return of_minute and of_hour and (day == "*" or local.isoweekday() == 7)
