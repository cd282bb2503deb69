"""The letters of date patterns, printing and reading."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression.date_patterns import compile_pattern, print_moment, read_moment, resolve
from tercel.expression.date_zones import find_zone, zone_id, zone_of

MORNING = datetime(2024, 3, 5, 10, 5, 6, 7008, tzinfo=ZoneInfo("Europe/Paris"))


class TestPrintMoment:
    # What OpenJDK 17 prints, with Locale.US; F as from 19 on.
    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            ("y yy yyy yyyy yyyyy", "2024 24 2024 2024 02024"), ("u uu uuuuu", "2024 24 02024"),
            ("M MM MMM MMMM MMMMM", "3 03 Mar March M"), ("L LL LLL LLLL LLLLL", "3 03 Mar March M"),
            ("d dd D DD DDD", "5 05 65 65 065"), ("E EE EEE EEEE EEEEE", "Tue Tue Tue Tuesday T"),
            ("e ee eee eeee", "3 03 Tue Tuesday"), ("c ccc cccc ccccc", "3 Tue Tuesday T"),
            ("Q QQ QQQ QQQQ QQQQQ", "1 01 Q1 1st quarter 1"), ("q qqqq", "1 1st quarter"),
            ("H HH h hh k kk K KK", "10 10 10 10 10 10 10 10"), ("m mm s ss", "5 05 6 06"),
            ("S SS SSSSSS SSSSSSSSS", "0 00 007008 007008000"), ("n nnnnnnnnnn", "7008000 0007008000"),
            ("a G GGGG GGGGG", "AM AD Anno Domini A"), ("w ww W F Y YY YYYY", "10 10 2 1 2024 24 2024"),
            ("X XX XXX XXXX XXXXX", "+01 +0100 +01:00 +0100 +01:00"), ("x xx xxx", "+01 +0100 +01:00"),
            ("Z ZZ ZZZ ZZZZ ZZZZZ", "+0100 +0100 +0100 GMT+01:00 +01:00"), ("O OOOO", "GMT+1 GMT+01:00"),
            ("VV z v", "Europe/Paris CET CET"), ("A N", "36306007 36306007008000"), ("B g", "in the morning 60374"),
            ("[yyyy]'a''b' '' %", "2024a'b ' %"), ("ppH pppH", "10  10"), ("yyyyMMdd'T'HH", "20240305T10"),
        ],
    )  # fmt: skip
    def test_given_a_pattern_then_it_prints_as_java_does(self, pattern: str, text: str) -> None:
        if pattern.endswith(" v"):
            pytest.importorskip("babel")
            pattern, text = pattern.removesuffix(" v"), text.removesuffix(" CET")

        assert print_moment(compile_pattern(pattern), MORNING) == text

    @pytest.mark.parametrize(
        ("moment", "pattern", "text"),
        [
            (datetime(2024, 12, 30, tzinfo=UTC), "YYYY yyyy ww", "2025 2024 01"),
            (datetime(2021, 1, 2, tzinfo=UTC), "YYYY ww W e", "2021 01 1 7"),
            (datetime(2021, 1, 2, tzinfo=UTC), "X XXX x VV z O ZZZZ", "Z Z +00 Z Z GMT GMT"),
            (datetime(2021, 1, 2, 0, tzinfo=UTC), "h k K B", "12 24 0 midnight"),
            (datetime(2021, 1, 2, 12, tzinfo=UTC), "h a B", "12 PM noon"),
            (datetime(2021, 1, 2, 12, tzinfo=zone_of("UTC+2")), "VV z XXX", "UTC+02:00 UTC+02:00 +02:00"),
            (datetime(2021, 1, 2, 12, tzinfo=zone_of("-03:30")), "O X xx", "GMT-3:30 -0330 -0330"),
        ],
    )
    def test_given_a_border_case_then_it_prints_as_java_does(self, moment: datetime, pattern: str, text: str) -> None:
        assert print_moment(compile_pattern(pattern), moment) == text

    @pytest.mark.parametrize(
        "pattern",
        ["HHH", "V", "VVV", "T", "b", "MMMMMM", "cc", "SSSSSSSSSS", "aa", "WW", "OO", "vv", "'abc", "p", "{", "#", "]"],
    )
    def test_given_a_pattern_that_java_refuses_then_an_error(self, pattern: str) -> None:
        with pytest.raises(ExpressionError, match="The date pattern"):
            compile_pattern(pattern)


class TestReadMoment:
    @pytest.mark.parametrize(
        ("pattern", "text", "day", "at"),
        [
            ("yyyy-M-d", "2024-01-2", date(2024, 1, 2), time()),
            ("yyyyMMddHHmmss", "20240102030405", date(2024, 1, 2), time(3, 4, 5)),
            ("yyyyMMddHHmmssSSS", "20240102030405678", date(2024, 1, 2), time(3, 4, 5, 678_000)),
            ("yy-MM-dd", "99-01-02", date(2099, 1, 2), time()),
            ("yyyy-MM-dd", "2023-02-30", date(2023, 2, 28), time()),
            ("MMM d, yyyy", "Mar 5, 2024", date(2024, 3, 5), time()),
            ("EEE, d MMM yyyy", "Tue, 5 Mar 2024", date(2024, 3, 5), time()),
            ("yyyy-MM-dd hh:mm a", "2024-01-02 03:04 PM", date(2024, 1, 2), time(15, 4)),
            ("yyyy-MM-dd hh:mm", "2024-01-02 03:04", date(2024, 1, 2), time()),
            ("yyyy-MM-dd HH", "2024-01-02 24", date(2024, 1, 3), time()),
            ("yyyy-MM-dd kk", "2024-01-02 24", date(2024, 1, 2), time()),
            ("yyyy-MM-dd HH:mm:ss[.SSS]", "2024-01-02 03:04:05", date(2024, 1, 2), time(3, 4, 5)),
            ("YYYY-'W'ww-e", "2024-W10-3", date(2024, 3, 5), time()),
            ("yyyy MM W e", "2024 03 2 3", date(2024, 3, 5), time()),
            ("yyyy-DDD", "2024-065", date(2024, 3, 5), time()),
            ("A yyyy-MM-dd", "5000 2024-01-02", date(2024, 1, 2), time(0, 0, 5)),
            ("yyyy-MM-dd B h", "2024-01-02 at night 5", date(2024, 1, 2), time(5)),
            ("g", "60374", date(2024, 3, 5), time()),
            ("dd/MM/yyyy G", "02/01/2024 AD", date(2024, 1, 2), time()),
        ],
    )
    def test_given_a_text_that_fits_then_date_and_time(self, pattern: str, text: str, day: date, at: time) -> None:
        assert resolve(read_moment(compile_pattern(pattern), text)) == (day, at)

    @pytest.mark.parametrize(
        ("letters", "text", "hours"),
        [("X", "Z", 0), ("X", "+01", 1), ("XXX", "+01:30", 1.5), ("Z", "+0130", 1.5), ("O", "GMT+1", 1),
         ("z", "CET", 1), ("z", "EST", -5), ("VV", "Asia/Tokyo", 9), ("ZZZZ", "GMT-02:00", -2), ("VV", "+02:00", 2)],
    )  # fmt: skip
    def test_given_a_zone_then_its_offset(self, letters: str, text: str, hours: float) -> None:
        fields = read_moment(compile_pattern(f"yyyy-MM-dd {letters}"), f"2024-01-02 {text}")

        assert fields.zone is not None
        assert datetime(2024, 1, 2, tzinfo=fields.zone).utcoffset() == timedelta(hours=hours)

    @pytest.mark.parametrize(
        ("pattern", "text"),
        [("yyyy-MM-dd", "2024-1-2"), ("yyyy-MM-dd", "2024-01-02x"), ("MMM d, yyyy", "mar 5, 2024"),
         ("yyyyMMdd", "202401023"), ("yyyy-MM-dd HH:mm:ss.SSS", "2024-01-02 03:04:05.12"),
         ("MM/dd/yyyy", "1/2/2024"), ("yyyy-MM-dd XXX", "2024-01-02 +0100"), ("yyyy", "two")],
    )  # fmt: skip
    def test_given_a_text_that_does_not_fit_then_an_error(self, pattern: str, text: str) -> None:
        with pytest.raises(ExpressionError, match="The date "):
            read_moment(compile_pattern(pattern), text)

    @pytest.mark.parametrize(("pattern", "text"), [("yyyy-MM-dd", "2023-13-01"), ("yyyy-MM-dd", "2023-02-32")])
    def test_given_a_number_out_of_range_then_an_error(self, pattern: str, text: str) -> None:
        with pytest.raises(ExpressionError, match="it lies between"):
            resolve(read_moment(compile_pattern(pattern), text))

    @given(st.datetimes(min_value=datetime(1000, 1, 1)))
    def test_given_any_moment_when_printed_and_read_then_it_is_the_same(self, moment: datetime) -> None:
        pattern = compile_pattern("EEEE, d MMMM uuuu HH:mm:ss.SSSSSS XXX")

        fields = read_moment(pattern, print_moment(pattern, moment.replace(tzinfo=UTC)))

        assert resolve(fields) == (moment.date(), moment.time())


class TestZones:
    @pytest.mark.parametrize(
        ("name", "id"),
        [
            ("UTC", "UTC"),
            ("Z", "Z"),
            ("+02:00", "+02:00"),
            ("+2", "+02:00"),
            ("+0230", "+02:30"),
            ("UTC+2", "UTC+02:00"),
            ("GMT+02:30", "GMT+02:30"),
            ("UT", "UT"),
            ("Europe/Paris", "Europe/Paris"),
            ("-00:00", "Z"),
        ],
    )
    def test_given_a_name_then_the_zone_has_java_s_id(self, name: str, id: str) -> None:
        assert zone_id(zone_of(name)) == id

    @pytest.mark.parametrize("name", ["", "Nowhere", "+18:01", "+1:2:3:4", "UTC+", "/etc/passwd", "..", "Europe"])
    def test_given_no_zone_then_none(self, name: str) -> None:
        assert find_zone(name) is None
