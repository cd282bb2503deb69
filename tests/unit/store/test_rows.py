from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.store.rows import Unpacker, instant, microseconds, pack_values

NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


class TestInstants:
    @given(st.datetimes(timezones=st.just(UTC)))
    def test_given_any_instant_then_it_comes_back(self, at: datetime) -> None:
        assert instant(microseconds(at)) == at

    def test_given_another_zone_then_the_instant_is_the_same(self) -> None:
        east = NOON.astimezone(timezone(timedelta(hours=5)))

        assert instant(microseconds(east)) == NOON


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            "text ü",
            -1,
            2**64 - 1,
            2**64,
            -(2**200),
            1.5,
            float("inf"),
            b"\x00bytes",
            NOON,
            datetime(2030, 1, 1, 12),  # local on purpose
            date(2030, 1, 31),
            time(23, 59, 1),
            timedelta(days=-1, microseconds=3),
            [1, ["two", {"three": 3}]],
            {"deep": {"list": [1, None, {"big": 2**70}]}},
        ],
    )
    def test_given_a_value_then_it_comes_back_with_its_type(self, value: object) -> None:
        back = Unpacker()(pack_values({"key": value}))["key"]

        assert back == value
        assert type(back) is type(value)

    def test_given_nothing_then_one_byte_is_enough(self) -> None:
        assert pack_values({}) == b"\x80"
        assert Unpacker()(b"\x80") == {}

    def test_given_keys_that_are_no_text_then_they_become_text(self) -> None:
        assert Unpacker()(pack_values({"map": {1: "a"}})) == {"map": {"1": "a"}}
