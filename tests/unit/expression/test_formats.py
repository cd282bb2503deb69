"""JSON texts, and the front of the other formats."""

import math

import pytest

from tercel.errors import ExpressionError
from tercel.expression.formats import parse_json


class TestParseJson:
    @pytest.mark.parametrize(
        ("text", "value"),
        [('{"foo": [666, 1, 2]}', {"foo": [666, 1, 2]}), ("3", 3), ('"x"', "x"), ("true", True), ("null", None),
         ("  [1] trailing", [1]), ('{"a": 1, "a": 2}', {"a": 2}), ("12345678901234567890123", 12345678901234567890123)],
    )  # fmt: skip
    def test_given_json_then_the_first_value(self, text: str, value: object) -> None:
        assert parse_json(text) == value

    def test_given_decimals_then_doubles(self) -> None:
        assert parse_json("10.0") == 10.0
        assert isinstance(parse_json("10.0"), float)
        assert math.isinf(float(str(parse_json("1e400"))))

    @pytest.mark.parametrize("text", ["{bad", "", "  ", "nope", "NaN", "[1,", "[" * 100_000, "'a'", "9" * 5000])
    def test_given_no_json_then_an_error_that_shows_no_value(self, text: str) -> None:
        with pytest.raises(ExpressionError, match="JSON") as caught:
            parse_json(text)

        assert len(caught.value.message) < 200
