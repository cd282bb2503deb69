from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from tercel.errors import UserError
from tercel.model.dates import find_zone, offset_text, parse_instant, parse_time

PARIS = ZoneInfo("Europe/Paris")


class TestFindZone:
    def test_given_a_region_then_it_is_found(self) -> None:
        assert find_zone("UTC") is UTC
        assert find_zone("Europe/Paris") == PARIS

    @pytest.mark.parametrize("name", ["", "Mars/Base", "Europe", "../etc/passwd", "Europe/Paris\0"])
    def test_given_what_is_no_region_then_there_is_none(self, name: str) -> None:
        assert find_zone(name) is None


class TestParseInstant:
    @pytest.mark.parametrize(
        ("text", "instant"),
        [
            ("2030-01-31T12:00:00Z", datetime(2030, 1, 31, 12, tzinfo=UTC)),
            (" 2030-01-31T12:00+02:00 ", datetime(2030, 1, 31, 10, tzinfo=UTC)),
            ("2030-01-31T12:00:00", datetime(2030, 1, 31, 11, tzinfo=UTC)),
            ("2030-01-31", datetime(2030, 1, 30, 23, tzinfo=UTC)),
            ("2030-01-31T12:00:00.123456789Z", datetime(2030, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)),
        ],
    )
    def test_given_a_date_then_it_is_an_instant(self, text: str, instant: datetime) -> None:
        assert parse_instant(text, PARIS) == instant

    def test_given_a_region_then_the_date_is_shown_there(self) -> None:
        assert parse_instant("2030-07-31T12:00:00Z[Europe/Paris]").isoformat() == "2030-07-31T14:00:00+02:00"

    def test_given_no_date_then_it_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"'soon' is not a date\. Write it like 2030-01-31T12:00:00Z\."):
            parse_instant("soon")


class TestParseTime:
    def test_given_a_time_then_its_offset_is_kept(self) -> None:
        assert parse_time("16:30") == time(16, 30)
        assert parse_time("16:30:00+02:00") == time(16, 30, tzinfo=timezone(timedelta(hours=2)))

    def test_given_no_time_then_it_is_refused(self) -> None:
        with pytest.raises(UserError, match=r"'25:00' is not a time of day\. Write it like 16:30:00Z\."):
            parse_time("25:00")


class TestOffsetText:
    def test_given_an_instant_then_it_keeps_its_offset(self) -> None:
        assert offset_text(datetime(2030, 7, 1, 12, tzinfo=UTC)) == "2030-07-01T12:00:00Z"
        assert offset_text(datetime(2030, 7, 1, 12, tzinfo=PARIS)) == "2030-07-01T12:00:00+02:00"
