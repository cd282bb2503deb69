"""YAML texts to values."""

import math

import pytest

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.yaml_reader import parse_yaml


def read(text: str) -> object:
    return parse_yaml(text, Budget())


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("yes", True),
            ("No", False),
            ("ON", True),
            ("off", False),
            ("true", True),
            ("tRue", "tRue"),
            ("y", "y"),
            ("null", None),
            ("~", None),
            ("", None),
            ("0", 0),
            ("010", 8),
            ("08", "08"),
            ("0o10", "0o10"),
            ("0x1F", 31),
            ("-0x1F", -31),
            ("0b11", 3),
            ("1_000", 1000),
            ("+1", 1),
            ("12345678901234567890", 12345678901234567890),
            ("1e3", 1000.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1_0.5", 10.5),
            ("1.5e+3", 1500.0),
            (".", "."),
            ("1e", "1e"),
            ("12:30", "12:30"),
            ("1:30:45", "1:30:45"),
            ("2024-01-01", "2024-01-01"),
            (".inf", math.inf),
            ("'5'", "5"),
            ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
            ("!x 1", "1"),
            ("!!str 5", "5"),
            ("!!int '5'", 5),
            ("! 5", 5),
            ("!!float 1", 1.0),
            ("!!null x", None),
            ("!!binary aGk=", b"hi"),
            ("!!timestamp 2024-01-01", "2024-01-01"),
            ("=", "="),
            ("1,000", "1,000"),
            ('"\\u00e9"', "é"),
            ("|\n  x\n  y\n", "x\ny\n"),
        ],
    )
    def test_given_a_scalar_then_its_yaml_1_1_value(self, text: str, value: object) -> None:
        result = read(f"a: {text}")

        assert result == {"a": value}
        assert isinstance(result, dict)
        assert type(result["a"]) is type(value)


class TestDocuments:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("foo: [666, 1, 2]", {"foo": [666, 1, 2]}),
            ("a:\n  b: deep\n", {"a": {"b": "deep"}}),
            ("5", 5),
            ("---", None),
            ("a: 1\n---\na: 2\n", {"a": 1}),
            ("a: 1\na: 2\n", {"a": 2}),
            ("1: x\ntrue: y\n~: z", {"1": "x", "true": "y", "~": "z"}),
            ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
            ("a: &x {c: 1}\nb:\n  <<: *x\n  d: 2", {"a": {"c": 1}, "b": {"c": 1, "d": 2}}),
            (
                "a: &x {c: 1}\ne: &y {c: 2, f: 3}\nb: {<<: [*x, *y], d: 4}",
                {"a": {"c": 1}, "e": {"c": 2, "f": 3}, "b": {"c": 1, "f": 3, "d": 4}},
            ),
            ("? a", {"a": None}),
            ("[a, b: c]", ["a", {"b": "c"}]),
            ("&k a: 1\nb: *k", {"a": 1, "b": "a"}),
        ],
    )
    def test_given_a_document_then_its_value(self, text: str, value: object) -> None:
        assert read(text) == value

    @pytest.mark.parametrize(
        "text",
        ["a: b: c", "", "# c", "a: [1", "\ta: 1", "a: *nope", "? [1]\n: 2", "a: !!float x", "a: !!binary x", "<<: [1]"],
    )
    def test_given_no_yaml_then_an_error_names_it(self, text: str) -> None:
        with pytest.raises(ExpressionError, match="YAML"):
            read(text)

    def test_given_an_error_then_the_place_is_named(self) -> None:
        with pytest.raises(ExpressionError, match="mapping values are not allowed in this context, line 2, column 5"):
            read("x: 1\na: b: c")


class TestLimits:
    def test_given_aliases_of_aliases_then_they_count_expanded(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

        with pytest.raises(ExpressionError, match="1,000,000 steps"):
            read("\n".join(lines))

    def test_given_a_text_nested_too_deep_then_an_error(self) -> None:
        with pytest.raises(ExpressionError, match="deeper than 200"):
            read("[" * 300 + "]" * 300)

    def test_given_an_anchor_inside_itself_then_an_error(self) -> None:
        with pytest.raises(ExpressionError, match=r"alias \*a"):
            read("&a [*a]")
