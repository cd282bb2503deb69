"""Ion texts, both ways."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.ion import ion_row, ion_text, parse_ion, parse_ion_row


class TestIonText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": 1, "b": "s", "c": None}, '{a:1,b:"s",c:null}'),
            ("x y", '"x y"'),
            ([1, None], "[1,null]"),
            ({}, "{}"),
            ({"f": 1.5, "b c": True}, "{f:1.5e0,'b c':true}"),
            (Decimal("1.5"), "1.5"),
            (Decimal("2"), "2."),
            (1e10, "10000000000e0"),
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
            ('é"\n', '"é\\"\\n"'),
            (b"hi", "{{aGk=}}"),
            ({"null": 1, "$1": 2}, "{'null':1,'$1':2}"),
            ({"it's": 1}, "{'it\\'s':1}"),
            (date(2024, 3, 5), '"2024-03-05"'),
            ([], "[]"),
            (1e300, "1e300"),
        ],
    )
    def test_given_a_value_then_ion(self, value: object, text: str) -> None:
        assert ion_text(value, Budget()) == text

    def test_given_a_value_nested_too_deep_then_an_error(self) -> None:
        value: object = []
        for _ in range(1000):
            value = [value]

        with pytest.raises(ExpressionError, match="too deep for Ion"):
            ion_text(value, Budget())


class TestIonRow:
    @pytest.mark.parametrize(
        ("value", "text", "read"),
        [
            (datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC), "2030-01-02T03:04:05.678Z", "2030-01-02T03:04:05.678Z"),
            (
                datetime(2030, 1, 2, tzinfo=timezone(timedelta(hours=2))),
                "2030-01-02T00:00:00+02:00",
                "2030-01-02T00:00:00+02:00",
            ),
            (datetime(2030, 1, 2), 'LocalDateTime::"2030-01-02T00:00:00"', "2030-01-02T00:00:00"),
            (date(2030, 1, 2), "2030-01-02", "2030-01-02"),
            (time(1, 2), 'LocalTime::"01:02:00"', "01:02:00"),
            ([1.5, "é", None, b"hi"], '[1.5e0,"é",null,{{aGk=}}]', [1.5, "é", None, b"hi"]),
        ],
    )
    def test_given_a_value_then_other_programs_know_its_type(self, value: object, text: str, read: object) -> None:
        assert ion_row({"v": value}) == f"{{v:{text}}}"
        assert parse_ion(ion_row({"v": value})) == {"v": read}


class TestParseIon:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ('{a:1, b:"x", c:[true, null]}', {"a": 1, "b": "x", "c": [True, None]}),
            ("1 2 3", 1),
            ("-5", -5),
            ("0x1F", 31),
            ("0b1_01", 5),
            ("1_000", 1000),
            ("1.5e0", 1.5),
            ("1.5", Decimal("1.5")),
            ("1.", Decimal("1")),
            ("15d-1", Decimal("1.5")),
            ("+inf", float("inf")),
            ("2024-03-05", "2024-03-05"),
            ("2024T", "2024-01-01"),
            ("2024-03T", "2024-03-01"),
            ("2024-03-05T10:20Z", "2024-03-05T10:20Z"),
            ("2024-03-05T10:20:30.5+01:00", "2024-03-05T10:20:30.5+01:00"),
            ("null.string", None),
            ("symbol", "symbol"),
            ("'a b'", "a b"),
            ("a::'b'::5", 5),
            ("{{aGk=}}", b"hi"),
            ('{{"hi"}}', b"hi"),
            ("'''a''' '''b'''", "ab"),
            ('"\\u00e9\\x41\\n"', "éA\n"),
            ("(+ 1 2)", ["+", 1, 2]),
            ("// c\n/* d */ [1, /* e */ 2,]", [1, 2]),
            ("{\"a\":{}, 'b':[],}", {"a": {}, "b": []}),
            ("$ion_1_0 5", 5),
            ("true", True),
            ("{a:{b:1.5e0}}", {"a": {"b": 1.5}}),
        ],
    )
    def test_given_ion_then_the_first_value(self, text: str, value: object) -> None:
        result = parse_ion(text)

        assert result == value
        assert type(result) is type(value)

    @pytest.mark.parametrize(
        "text", ["{a", "", "[1", '"a', "{1:2}", "[1 2]", "null.nope", "{{*}}", "'''a", "[" * 5000, "]"]
    )
    def test_given_no_ion_then_an_error_names_it(self, text: str) -> None:
        with pytest.raises(ExpressionError, match=r"Ion text|not Ion"):
            parse_ion(text)

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text(st.characters(codec="utf-8")),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
            ),
            max_leaves=8,
        )
    )
    def test_given_any_value_when_written_then_it_reads_back(self, value: object) -> None:
        assert parse_ion(ion_text(value, Budget())) == value


class TestParseIonRow:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("2030-01-02T03:04:05.678Z", datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)),
            ("2030-01-02T03:04+02:00", datetime(2030, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=2)))),
            ("2030-01-02", date(2030, 1, 2)),
            ("2030-01-02T", date(2030, 1, 2)),
            ("2030-02T", date(2030, 2, 1)),
            ("2030T", date(2030, 1, 1)),
            ("2030-01-02T00:00:00-00:00", date(2030, 1, 2)),
            ("2030-01-02T00:00:00Z", datetime(2030, 1, 2, tzinfo=UTC)),
            ('LocalDateTime::"2030-01-02T03:04"', datetime(2030, 1, 2, 3, 4)),
            ("'OffsetDateTime'::\"2030-01-02T03:04Z\"", datetime(2030, 1, 2, 3, 4, tzinfo=UTC)),
            ('ZonedDateTime::"2030-01-02T03:04+00:00[Europe/London]"', datetime(2030, 1, 2, 3, 4, tzinfo=UTC)),
            ('LocalTime::"03:04"', time(3, 4)),
            ('OffsetTime::"03:04Z"', time(3, 4, tzinfo=UTC)),
            ('kind::"2030-01-02"', "2030-01-02"),
            ("LocalTime::7", 7),
            ('{a:[2030-01-02,"2030-01-02"]}', {"a": [date(2030, 1, 2), "2030-01-02"]}),
        ],
    )
    def test_given_times_then_they_are_read_as_such(self, text: str, value: object) -> None:
        assert parse_ion_row(text) == value

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("2030-02-31", "expected a timestamp, not 2030-02-31,"),
            ("2030-01-01T25:00Z", "expected a timestamp, not 2030-01-01T25:00Z,"),
            ('LocalTime::"soon"', "expected a time of the kind LocalTime, not 'soon',"),
        ],
    )
    def test_given_no_such_day_or_time_then_it_is_said(self, text: str, why: str) -> None:
        with pytest.raises(ExpressionError) as error:
            parse_ion_row(text)

        assert why in error.value.message

    @given(
        st.dictionaries(
            st.text(max_size=5),
            st.datetimes(timezones=st.just(UTC)) | st.datetimes() | st.dates() | st.times() | st.binary(max_size=5),
            max_size=3,
        )
    )
    def test_given_a_row_that_was_written_then_it_is_read_as_it_was(self, row: dict[str, object]) -> None:
        assert parse_ion_row(ion_row(row)) == row
