"""What can be kept, and what inputs take because of it."""

from __future__ import annotations

import pytest

from tercel.model.input_values import parse_value
from tercel.model.inputs import Input
from tercel.model.storable import storable_problem

TOO_DEEP = "it is nested deeper than 100 levels"
HALF = "it holds half of a character"
ENDLESS = "it holds a number that has no end"


def nested(levels: int) -> object:
    value: object = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, None),
        ("\U0001f600", None),
        ({"a": [1, 2.5, True, None, ("x",)]}, None),
        (nested(100), None),
        (nested(101), TOO_DEEP),
        ([[]], None),
        (nested(100_000), TOO_DEEP),
        ("a\ud800", HALF),
        ({"\udfff": 1}, HALF),
        ([1, [float("inf")]], ENDLESS),
        (float("nan"), ENDLESS),
    ],
)
def test_given_a_value_then_it_is_told_why_it_cannot_be_kept(value: object, problem: str | None) -> None:
    assert storable_problem(value) == problem


@pytest.mark.parametrize(
    ("type_", "raw", "problem"),
    [
        ("JSON", '{"a": "\\ud800"}', HALF),
        ("JSON", "[1e999]", ENDLESS),
        ("JSON", "[" * 101 + "]" * 101, TOO_DEEP),
        ("JSON", nested(500), TOO_DEEP),
        ("ARRAY", nested(500), TOO_DEEP),
        ("STRING", "\ud800", HALF),
    ],
)
def test_given_an_input_that_cannot_be_kept_then_it_is_refused(type_: str, raw: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_value(Input(id="a", type=type_, item_type="JSON"), raw, None)  # pyright: ignore[reportArgumentType]
