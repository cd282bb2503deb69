"""Numbers to text and back."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression.number_format import java_double, number_format, to_number


class TestJavaDouble:
    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (2.5, "2.5"),
            (3.0, "3.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e7, "1.0E7"),
            (9999999.0, "9999999.0"),
            (1.2e-4, "1.2E-4"),
            (0.001, "0.001"),
            (1e300, "1.0E300"),
            (-12345678.9, "-1.23456789E7"),
            (5e-324, "5.0E-324"),
            (float("nan"), "NaN"),
            (float("inf"), "Infinity"),
            (float("-inf"), "-Infinity"),
            (123456789.0, "1.23456789E8"),
        ],
    )
    def test_given_a_double_then_java_s_text(self, number: float, text: str) -> None:
        assert java_double(number) == text

    @given(st.floats(allow_nan=False))
    def test_given_any_double_then_it_reads_back(self, number: float) -> None:
        assert float(java_double(number).replace("Infinity", "inf")) == number


class TestToNumber:
    @pytest.mark.parametrize(
        ("text", "type_name", "number"),
        [
            ("12", None, 12),
            ("12.5", None, 12.5),
            ("-3", None, -3),
            ("0x1F", None, 31),
            ("010", None, 8),
            ("1e3", None, 1000.0),
            ("42", "DOUBLE", 42.0),
            ("42", "LONG", 42),
            ("7", "INT", 7),
            ("010", "INT", 10),
            ("0.1", "FLOAT", 0.1),
            ("123456789012345678901", "BIGINTEGER", 123456789012345678901),
            ("1.50", "BIGDECIMAL", Decimal("1.50")),
        ],
    )
    def test_given_a_text_then_its_number_with_its_type(self, text: str, type_name: str | None, number: object) -> None:
        result = to_number(text, type_name)

        assert result == number
        assert type(result) is type(number)

    @pytest.mark.parametrize(
        ("text", "type_name"),
        [("abc", None), (" 1", None), ("1 ", None), ("", None), ("1.5", "INT"), ("99999999999", "INT"),
         ("9" * 20, "LONG"), ("x", "BIGDECIMAL"), ("1", "int"), ("9" * 5000, None), ("08", "WORD"), ("1_0", None)],
    )  # fmt: skip
    def test_given_no_such_number_then_an_error(self, text: str, type_name: str | None) -> None:
        with pytest.raises(ExpressionError, match="number"):
            to_number(text, type_name)


class TestNumberFormat:
    # What java.text.DecimalFormat prints with the symbols of Locale.US.
    @pytest.mark.parametrize(
        ("number", "pattern", "text"),
        [
            (3.141592653, "#.##", "3.14"), (0.5, "#.##", "0.5"), (1234567.891, "#,##0.0", "1,234,567.9"),
            (5, "000", "005"), (2.5, "0", "2"), (3.5, "0", "4"), (0.125, "0.00", "0.12"), (0.256, "0.0%", "25.6%"),
            (1234.5, "#,##0.###", "1,234.5"), (0.5, ".##", ".5"), (5, ".##", "5.0"), (5, "0.", "5."), (0, "#", "0"),
            (-1234.5, "#,##0.00;(#,##0.00)", "(1,234.50)"), (-5, "0;0", "-5"), (5, "0 'it''s'", "5 it's"),
            (5, "'#'0", "#5"), (5, "$#,##0.00", "$5.00"), (1234567, "0.###E0", "1.235E6"), (999.995, "0E0", "1E3"),
            (12345.6789, "##0.##E0", "12.346E3"), (1234567, "#0.0E00", "1.23E06"), (0.000123, "0.###E0", "1.23E-4"),
            (1234567, "##,###,##0", "1,234,567"), (1e10, "#,####.0", "100,0000,0000.0"), (-0.001, "0.0", "-0.0"),
            (Decimal("12345678901234567890.125"), "#,##0.00", "12,345,678,901,234,567,890.12"), (5, "abc", "abc5"),
            (float("nan"), "0", "NaN"), (float("-inf"), "0.0", "-∞"), (1.005, "0.00", "1.00"), (0.25, "0‰", "250‰"),
        ],
    )  # fmt: skip
    def test_given_a_pattern_then_java_s_text(self, number: float | Decimal, pattern: str, text: str) -> None:
        assert number_format(number, pattern) == text

    def test_given_no_pattern_then_groups_and_at_most_three_decimals(self) -> None:
        assert number_format(1234.56789) == "1,234.568"

    @pytest.mark.parametrize("pattern", ["0.0.0", "0,", "#0#", "'a", "0E", "0;0;0"])
    def test_given_a_malformed_pattern_then_an_error(self, pattern: str) -> None:
        with pytest.raises(ExpressionError, match="The number pattern"):
            number_format(1, pattern)

    def test_given_a_giant_decimal_then_an_error_instead_of_a_giant_text(self) -> None:
        with pytest.raises(ExpressionError, match="digits"):
            number_format(Decimal("1E+999999"), "0")
