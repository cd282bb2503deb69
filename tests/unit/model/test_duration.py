from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.model.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT15M", 900),
        ("P1DT2H", 93_600),
        ("P2W", 1_209_600),
        ("pt0.5s", 0.5),
        ("PT1,5S", 1.5),
        ("-PT1M", -60),
        ("PT-0.5S", -0.5),
        ("PT-1M", -60),
        ("90", 90),
        ("2.5", 2.5),
        (" PT1S ", 1),
    ],
)
def test_given_a_duration_then_it_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "P", "PT", "15M", "PT5", "P1M", "P1Y", "soon", "-5", "PT1M1H"])
def test_given_no_duration_then_it_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it like PT15M, PT1H30M or P1D"):
        parse_duration(text)


def test_given_an_endless_duration_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="is longer than a duration can be"):
        parse_duration(f"P{'9' * 20}D")


@given(st.timedeltas())
def test_given_any_duration_then_writing_and_reading_gives_it_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
