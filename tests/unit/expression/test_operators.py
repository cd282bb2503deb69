"""Operators on values: numbers, lists, texts and what they refuse."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression import render
from tercel.expression.operators import wrap

CONTEXT: dict[str, object] = {
    "v": None,
    "l": [3, 1, 2],
    "m": {"a": 1, "k": "q"},
    "exact": Decimal("1.10"),
    "huge": Decimal("1E999999999"),
    "big": 2**70,
    "inf": float("inf"),
}
SIGNED = st.integers(min_value=-(2**63), max_value=2**63 - 1)


def _value(expression: str, **more: object) -> object:
    return render(f"{{{{ {expression} }}}}", {**CONTEXT, **more}, mode="typed")


class TestNumbers:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("-7 / 2", -3),
            ("-7 % 3", -1),
            ("7 % -3", 1),
            ("5 % 2.5", 0.0),
            ("1.0 / 0", float("inf")),
            ("-1.0 / 0", float("-inf")),
            ("9223372036854775807 + 1", -(2**63)),
            ("-(-9223372036854775807 - 1)", -(2**63)),
            ("(-9223372036854775807 - 1) / -1", -(2**63)),
            ("exact + 1", Decimal("2.10")),
            ("exact * 2.0", Decimal("2.20")),
            ("-exact", Decimal("-1.10")),
            ("exact / 3", Decimal("0.3666666666666666666666666666666667")),
            ("exact > 1 and exact < 1.5", True),
            ("exact == 1.1", False),
            ("inf % 2 == inf % 2", False),
        ],
    )
    def test_given_numbers_then_they_are_calculated_as_in_java(self, expression: str, expected: object) -> None:
        result = _value(expression)

        assert result == expected
        assert type(result) is type(expected)

    @given(left=SIGNED, right=SIGNED)
    def test_given_any_two_integers_then_the_result_fits_in_64_bits(self, left: int, right: int) -> None:
        for operator in "+-*":
            result = _value(f"a {operator} b", a=left, b=right)

            assert isinstance(result, int)
            assert -(2**63) <= result < 2**63

    def test_given_an_integer_outside_then_wrap_keeps_its_lower_64_bits(self) -> None:
        assert [wrap(2**63), wrap(2**64 + 5), wrap(-(2**63) - 1)] == [-(2**63), 5, 2**63 - 1]

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("1 / 0", "A whole number cannot be divided by zero"),
            ("exact / 0", "`/` of two decimal numbers has no result"),
            ("true + 1", "`+` needs a number, not a boolean"),
            ("v + 1", "`+` needs a number, not null"),
            ("m + m", "`+` needs a number, not a map"),
            ("'a' * 2", "`*` needs a number, not text"),
            ("-'a'", "`-` needs a number, not text"),
            ("'a' > 1", "`>` needs two numbers or two texts, not text and a whole number"),
            ("1 .. inf", "`..` needs whole numbers or single letters, not a decimal number"),
            ("huge .. huge", "`..` needs whole numbers or single letters, not a decimal number"),
            ("5 contains 1", "`contains` needs a list, map or text on its left, not a whole number"),
            ("not l contains 9", "`not` needs a boolean, number or text, not a list"),
        ],
    )
    def test_given_kinds_that_do_not_fit_then_the_error_names_operator_and_kind(
        self, expression: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError) as failure:
            _value(expression)

        assert failure.value.message.startswith(message + ",")


class TestListsAndTexts:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("l + [l]", [3, 1, 2, [3, 1, 2]]),
            ("[1] + 'a'", "[1]a"),
            ("[1, 2, 1] - 1", [2, 1]),
            ("[1, 2, 1, [1]] - [1.0, [1]]", [2]),
            ("'a' + v", "anull"),
            ("'a' ~ v ~ m", "a{a=1, k=q}"),
            ("l contains [1, 2]", True),
            ("l contains '1'", False),
            ("m contains 'k' and not (m contains l)", True),
            ("'a1' contains 1", True),
            ("'q' isIn m and 'a' isIn m", True),
            ("'5' isIn [5] and not (v isIn [v])", True),
            ("'c'..'a'", []),
            ("1.9..3.2", [1, 2, 3]),
        ],
    )
    def test_given_lists_maps_and_texts_then_the_operator_means_what_the_left_side_is(
        self, expression: str, expected: object
    ) -> None:
        assert _value(expression) == expected

    def test_given_a_list_then_adding_to_it_leaves_it_as_it_was(self) -> None:
        members = [1]

        assert _value("x + 2", x=members) == [1, 2]
        assert members == [1]

    @pytest.mark.parametrize("operator", ["<", "<=", ">", ">="])
    def test_given_null_on_a_side_then_no_order_holds(self, operator: str) -> None:
        assert _value(f"v {operator} 1") is False
        assert _value(f"'a' {operator} v") is False
