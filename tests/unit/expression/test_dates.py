"""What counts as a date, what the filters print, and the calendar tests."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tercel.errors import ExpressionError
from tercel.expression import dates

AFTERNOON = "2024-01-02T15:04:05Z"
PARIS = ZoneInfo("Europe/Paris")


class TestFormatDate:
    @pytest.mark.parametrize(
        ("value", "options", "text"),
        [
            ("2024-01-02T15:04:05.678901Z", {}, "2024-01-02T15:04:05.678901Z"),
            (AFTERNOON, {"format": "iso_sec"}, "2024-01-02T15:04:05Z"),
            ("2024-01-02T15:04:05.5Z", {"format": "sql"}, "2024-01-02 15:04:05.500000"),
            ("2024-01-02T15:04:05.5Z", {"format": "sql_seq"}, "2024-01-02 15:04:05"),
            (AFTERNOON, {"format": "iso_local_date"}, "2024-01-02"),
            (AFTERNOON, {"format": "iso_instant"}, "2024-01-02T15:04:05Z"),
            (AFTERNOON, {"format": "iso_local_time"}, "15:04:05"),
            (AFTERNOON, {"format": "iso_local_date_time"}, "2024-01-02T15:04:05"),
            (AFTERNOON, {"format": "iso_offset_time", "time_zone": "Europe/Paris"}, "16:04:05+01:00"),
            (
                AFTERNOON,
                {"format": "iso_zoned_date_time", "time_zone": "Europe/Paris"},
                "2024-01-02T16:04:05+01:00[Europe/Paris]",
            ),
            ("2024-03-05T10:20:30.123456Z", {"format": "iso_date_time"}, "2024-03-05T10:20:30.123456Z[UTC]"),
            ("2024-03-05T10:20:30.1200Z", {"format": "iso_date_time"}, "2024-03-05T10:20:30.12Z[UTC]"),
            (AFTERNOON, {"format": "iso_date_time", "time_zone": "+02:00"}, "2024-01-02T17:04:05+02:00"),
            (AFTERNOON, {"format": "iso_date"}, "2024-01-02Z"),
            (AFTERNOON, {"format": "iso_time"}, "15:04:05Z"),
            (AFTERNOON, {"format": "rfc_1123_date_time"}, "Tue, 2 Jan 2024 15:04:05 GMT"),
            (
                AFTERNOON,
                {"format": "rfc_1123_date_time", "time_zone": "Asia/Tokyo"},
                "Wed, 3 Jan 2024 00:04:05 +0900",
            ),
            (AFTERNOON, {"format": "iso_ordinal_date"}, "2024-002Z"),
            ("2024-12-30T09:05:00Z", {"format": "iso_week_date"}, "2025-W01-1Z"),
            (AFTERNOON, {"format": "full"}, "Tuesday, January 2, 2024 at 3:04:05 PM Coordinated Universal Time"),
            (AFTERNOON, {"format": "short"}, "1/2/24, 3:04 PM"),
            ("2024-01-02T15:04:05.123+05:30", {}, "2024-01-02T09:34:05.123000Z"),
            ("2024-01-02T15:04:05.123+05:30", {"time_zone": "Asia/Tokyo"}, "2024-01-02T18:34:05.123000+09:00"),
            ("2024-01-02T15:04+01:00[Europe/Paris]", {}, "2024-01-02T14:04:00.000000Z"),
            ("2013-09-08T17:19:12", {"time_zone": "Europe/Paris"}, "2013-09-08T17:19:12.000000+02:00"),
            ("2013-09-08", {"time_zone": "Europe/Paris"}, "2013-09-08T00:00:00.000000+02:00"),
            ("2024-01-02T15:04:05.123456789Z", {"format": "SSSSSSSSS"}, "123456000"),
            (1704207845, {}, "2024-01-02T15:04:05.000000Z"),
            (date(2024, 2, 29), {}, "2024-02-29T12:00:00.000000Z"),
            (datetime(2024, 1, 2, 15, 4, tzinfo=UTC), {"format": "yyyy-MM-dd HH:mm"}, "2024-01-02 15:04"),
            (datetime(2024, 7, 2, 15, 4), {"time_zone": "Europe/Paris"}, "2024-07-02T15:04:00.000000+02:00"),
            (datetime(2024, 7, 2, 15, 4, tzinfo=PARIS), {}, "2024-07-02T13:04:00.000000Z"),
            ("2024-01-02", {"default_zone": "Asia/Tokyo"}, "2024-01-02T00:00:00.000000+09:00"),
            ("2024-03-31T02:30:00", {"time_zone": "Europe/Paris"}, "2024-03-31T03:30:00.000000+02:00"),
        ],
    )
    def test_given_a_date_when_formatted_then_it_reads_as_in_java(
        self, value: object, options: dict[str, str], text: str
    ) -> None:
        assert dates.format_date(value, **options) == text

    @pytest.mark.parametrize(
        ("value", "existing", "text"),
        [
            ("July 24, 2001", "MMMM dd, yyyy", "2001-07-24T00:00:00Z"),
            ("02/01/2024 10:20", "dd/MM/yyyy HH:mm", "2024-01-02T10:20:00Z"),
            ("Tue, 08 Feb 2022 19:38:26 GMT", "rfc_1123_date_time", "2022-02-08T19:38:26Z"),
            ("Tue, 8 Feb 2022 19:38:26 +0100", "rfc_1123_date_time", "2022-02-08T18:38:26Z"),
            ("2024-065", "iso_ordinal_date", "2024-03-05T00:00:00Z"),
            ("2024-01-02 03:04:05", "sql_seq", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.000006+01:00", "iso", "2024-01-02T02:04:05Z"),
            ("2024-01-02 03:04 PM", "yyyy-MM-dd hh:mm a", "2024-01-02T15:04:00Z"),
        ],
    )
    def test_given_an_existing_format_when_read_then_missing_fields_are_filled_in(
        self, value: str, existing: str, text: str
    ) -> None:
        assert dates.format_date(value, format="iso_sec", existing_format=existing) == text

    def test_given_null_then_null(self) -> None:
        assert dates.format_date(None) is None

    @pytest.mark.parametrize(
        ("value", "options", "message"),
        [
            ("nope", {}, "The date 'nope' could not be parsed"),
            (True, {}, "A bool is no date"),
            (1.5, {}, "A float is no date"),
            ("2024-02-30", {}, "day is out of range"),
            (10**18, {}, "outside the years 1 to 9999"),
            (AFTERNOON, {"time_zone": "Mars/Olympus"}, "There is no time zone 'Mars/Olympus'"),
            (AFTERNOON, {"time_zone": "../etc/passwd"}, "There is no time zone"),
            (AFTERNOON, {"format": "T"}, "unknown letter 'T'"),
            (AFTERNOON, {"format": "HHH"}, "'H' 3 times"),
            ("2024-03", {"existing_format": "yyyy-MM"}, "no full date"),
            ("Wed, 5 Mar 2024", {"existing_format": "EEE, d MMM yyyy"}, "is no Wednesday"),
            (AFTERNOON, {"locale": "xx-YY", "format": "EEEE"}, "no language 'xx_YY'"),
        ],
    )
    def test_given_no_date_or_a_bad_format_then_the_error_names_it(
        self, value: object, options: dict[str, str], message: str
    ) -> None:
        with pytest.raises(ExpressionError, match=message):
            dates.format_date(value, **options)

    @pytest.mark.parametrize(
        ("pattern", "locale", "text"),
        [
            ("EEEE d MMMM", "fr", "mardi 2 janvier"),
            ("EEEE, d. MMMM", "de-DE", "Dienstag, 2. Januar"),
            ("e", "de-DE", "2"),
            ("e", "en-US", "3"),
            ("e", "fr", "3"),
            ("zzzz", "fr", "temps universel coordonné"),
        ],
    )
    def test_given_a_language_then_its_words_are_used(self, pattern: str, locale: str, text: str) -> None:
        pytest.importorskip("babel")

        assert dates.format_date(AFTERNOON, format=pattern, locale=locale) == text


class TestAddDate:
    @pytest.mark.parametrize(
        ("value", "amount", "unit", "options", "text"),
        [
            ("2024-03-01T00:00:00Z", -1, "DAYS", {}, "2024-02-29T00:00:00.000000Z"),
            ("2024-03-01T00:00:00Z", 90, "MINUTES", {"format": "HH:mm"}, "01:30"),
            ("2024-01-31", 1, "MONTHS", {"format": "yyyy-MM-dd"}, "2024-02-29"),
            ("2024-02-29", 1, "YEARS", {"format": "yyyy-MM-dd"}, "2025-02-28"),
            ("2024-02-29", -1, "DECADES", {"format": "yyyy-MM-dd"}, "2014-02-28"),
            ("2024-01-01", 2, "HALF_DAYS", {"format": "yyyy-MM-dd"}, "2024-01-02"),
            ("2024-01-01", 1500, "NANOS", {}, "2024-01-01T00:00:00.000001Z"),
            ("2024-01-01", 1, "WEEKS", {"format": "iso_local_date"}, "2024-01-08"),
            ("2024-03-30T12:00:00", 1, "DAYS", {"time_zone": "Europe/Paris", "format": "HH:mm XXX"}, "12:00 +02:00"),
            ("2024-03-30T12:00:00", 24, "HOURS", {"time_zone": "Europe/Paris", "format": "HH:mm XXX"}, "13:00 +02:00"),
        ],
    )
    def test_given_an_amount_then_the_date_moves(
        self, value: str, amount: int, unit: str, options: dict[str, str], text: str
    ) -> None:
        assert dates.add_date(value, amount, unit, **options) == text

    @pytest.mark.parametrize(("amount", "unit"), [(1, "days"), (10**9, "YEARS"), (10**30, "DAYS"), (1, "FOREVER")])
    def test_given_an_unknown_unit_or_too_much_then_an_error(self, amount: int, unit: str) -> None:
        with pytest.raises(ExpressionError, match="dateAdd"):
            dates.add_date("2024-03-01", amount, unit)


class TestTimestamp:
    def test_given_a_date_then_each_unit_counts_from_1970(self) -> None:
        value = "2024-01-02T15:04:05.500123Z"

        assert dates.timestamp(value) == 1704207845
        assert dates.timestamp_milli(value) == 1704207845500
        assert dates.timestamp_micro(value) == "1704207845000500123"
        assert dates.timestamp_nano(value) == "1704207845500123000"

    def test_given_a_local_text_then_the_zone_counts(self) -> None:
        assert dates.timestamp("2024-01-02T00:00:00", time_zone="Europe/Paris") == 1704150000

    def test_given_null_then_null(self) -> None:
        assert dates.timestamp(None) is None
        assert dates.timestamp_nano(None) is None


class TestTexts:
    @pytest.mark.parametrize(
        ("value", "text", "json"),
        [
            (datetime(2024, 3, 5, 10, tzinfo=UTC), "2024-03-05T10:00:00Z", "2024-03-05T10:00:00Z"),
            (
                datetime(2024, 3, 5, 10, 0, 0, 600_000, tzinfo=UTC),
                "2024-03-05T10:00:00.600Z",
                "2024-03-05T10:00:00.600Z",
            ),
            (
                datetime(2024, 3, 5, 10, tzinfo=PARIS),
                "2024-03-05T10:00+01:00[Europe/Paris]",
                "2024-03-05T10:00:00+01:00",
            ),
            (datetime(2024, 3, 5, 10, 0, 0, 1), "2024-03-05T10:00:00.000001", "2024-03-05T10:00:00.000001"),
            (datetime(2024, 3, 5, 10), "2024-03-05T10:00", "2024-03-05T10:00:00"),
            (date(2024, 3, 5), "2024-03-05", "2024-03-05"),
            (time(10, 0), "10:00", "10:00:00"),
            (time(10, 0, 1, 500_000), "10:00:01.500", "10:00:01.5"),
            (timedelta(minutes=90), "PT1H30M", "5400.000000000"),
            (timedelta(0), "PT0S", "0.000000000"),
            (timedelta(days=1, seconds=1.5), "PT24H1.5S", "86401.500000000"),
            (-timedelta(minutes=1, seconds=1), "PT-1M-1S", "-61.000000000"),
        ],
    )
    def test_given_a_temporal_value_then_print_and_json_forms(
        self, value: datetime | date | time | timedelta, text: str, json: str
    ) -> None:
        assert dates.temporal_text(value) == text
        assert dates.temporal_json(value) == json


class TestCalendar:
    def test_given_a_saturday_then_it_is_weekend_where_it_is_saturday(self) -> None:
        late_friday = "2024-03-08T23:30:00Z"

        assert not dates.is_weekend(late_friday)
        assert dates.is_weekend(late_friday, time_zone="Europe/Paris")

    @pytest.mark.parametrize(
        ("day", "position", "expected"),
        [("2024-03-04", "FIRST", True), ("2024-03-11", "SECOND", True), ("2024-03-25", "LAST", True),
         ("2024-03-25", "FOURTH", True), ("2024-03-18", "LAST", False), ("2024-03-05", "FIRST", False)],
    )  # fmt: skip
    def test_given_a_day_then_its_place_in_the_month_is_known(self, day: str, position: str, expected: bool) -> None:
        assert dates.is_day_week_in_month(day, "MONDAY", position) is expected

    @pytest.mark.parametrize(("weekday", "position"), [("MONDAY", "FIFTH"), ("Monday", "FIRST")])
    def test_given_unknown_words_then_an_error_lists_those_known(self, weekday: str, position: str) -> None:
        with pytest.raises(ExpressionError, match="is none of"):
            dates.is_day_week_in_month("2024-03-04", weekday, position)

    def test_given_a_month_ending_on_sunday_then_friday_is_the_last_working_day(self) -> None:
        assert dates.is_last_working_day("2024-03-29")
        assert not dates.is_last_working_day("2024-03-31")

    def test_given_a_date_then_its_parts_can_be_asked_for(self) -> None:
        assert dates.day_of_week("2024-03-05") == "TUESDAY"
        assert dates.day_of_month("2024-03-05") == 5
        assert dates.month_of_year("2024-03-05") == 3
        assert dates.hour_of_day("2024-03-05T10:20:00Z", time_zone="Europe/Paris") == 11

    def test_given_two_dates_then_they_compare_as_instants(self) -> None:
        assert dates.is_date_before("2024-03-05T10:00:00+01:00", "2024-03-05T09:30:00Z")
        assert dates.is_date_after("2024-03-06", "2024-03-05")
        assert dates.is_date_between("2024-03-06", "2024-03-05", "2024-03-07")
        assert not dates.is_date_between("2024-03-05", "2024-03-05", "2024-03-07")

    def test_given_a_holiday_is_asked_for_then_an_error_says_it_is_not_available(self) -> None:
        with pytest.raises(ExpressionError, match="not available"):
            dates.is_public_holiday("2024-12-25", "FR")
