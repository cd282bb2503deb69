"""Text forms, truth, equality and order of values."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tercel.errors import ExpressionError
from tercel.expression import render
from tercel.expression.budget import Budget
from tercel.expression.values import (
    Entry,
    Loop,
    Members,
    debug_text,
    equal,
    json_text,
    kind_of,
    natural_order,
    plain,
    quoted,
    to_text,
    truth,
)


class TestTextForms:
    @pytest.mark.parametrize(
        ("value", "printed", "debug", "json"),
        [
            (None, "", "null", "null"),
            (True, "true", "true", "true"),
            (-5, "-5", "-5", "-5"),
            (3.0, "3.0", "3.0", "3.0"),
            (1e7, "1.0E7", "1.0E7", "1.0E7"),
            (float("nan"), "NaN", "NaN", '"NaN"'),
            (Decimal("1.50"), "1.50", "1.50", "1.50"),
            (Decimal("1E3"), "1000", "1000", "1000"),
            ('é/"\n', 'é/"\n', 'é/"\n', '"é/\\"\\n"'),
            ([1, "a", None], '[1,"a",null]', "[1, a, null]", '[1,"a",null]'),
            ({"a": 1, "b": None}, '{"a":1}', "{a=1, b=null}", '{"a":1}'),
            ({"a": {"b": None}}, '{"a":{}}', "{a={b=null}}", '{"a":{}}'),
            ({1: 2, 1.5: True}, '{"1":2,"1.5":true}', "{1=2, 1.5=true}", '{"1":2,"1.5":true}'),
            (Entry("k", [1]), "k=[1]", "k=[1]", '{"k":[1]}'),
            (b"ab", "YWI=", "YWI=", '"YWI="'),
            (date(2024, 2, 29), "2024-02-29", "2024-02-29", '"2024-02-29"'),
            (
                datetime(2024, 3, 5, 10, tzinfo=UTC),
                "2024-03-05T10:00:00Z",
                "2024-03-05T10:00:00Z",
                '"2024-03-05T10:00:00Z"',
            ),
            (timedelta(minutes=90), "PT1H30M", "PT1H30M", "5400.000000000"),
        ],
    )
    def test_given_a_value_then_each_form_is_its_own(self, value: object, printed: str, debug: str, json: str) -> None:
        if isinstance(value, bytes):
            printed = json  # printed bytes are JSON

        assert to_text(value, Budget()) == printed
        assert debug_text(value, Budget()) == debug
        assert json_text(value, Budget()) == json

    def test_given_control_characters_then_json_escapes_only_those(self) -> None:
        assert quoted("\x01\b\f\t\x7f\u2028") == '"\\u0001\\b\\f\\t\x7f\u2028"'

    def test_given_a_loop_then_it_prints_its_fields(self) -> None:
        assert to_text(Loop(2), Budget()) == '{"index":0,"length":2,"first":true,"last":false,"revindex":1}'

    def test_given_something_foreign_then_it_has_no_text_form(self) -> None:
        with pytest.raises(ExpressionError, match="A value of the type object has no text form"):
            to_text(object(), Budget())

    def test_given_a_structure_then_plain_is_what_its_json_would_read_as(self) -> None:
        value = {"a": None, 1: [Entry("k", date(2024, 1, 1)), b"ab", 10.0, Decimal("1.5")]}

        assert plain(value, Budget()) == {"1": [{"k": "2024-01-01"}, "YWI=", 10.0, Decimal("1.5")]}


class TestTruth:
    @pytest.mark.parametrize(
        ("value", "expected"), [("false", True), ("", False), (0, False), (0.5, True), (True, True)]
    )
    def test_given_a_boolean_number_or_text_then_it_has_a_truth(self, value: object, expected: bool) -> None:
        assert truth(value, "`if`") is expected

    @pytest.mark.parametrize("value", [None, [], [1], {}, date(2024, 1, 1)])
    def test_given_anything_else_then_it_is_an_error_naming_the_kind(self, value: object) -> None:
        with pytest.raises(ExpressionError) as failure:
            truth(value, "`and`")

        assert failure.value.message == f"`and` needs a boolean, number or text, not {kind_of(value)}"


class TestEquality:
    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (1, 1.0),
            (1, Decimal("1.0")),
            ("a", "a"),
            (None, None),
            ([1, {"a": 2}], [1.0, {"a": 2}]),
            (b"a", b"a"),
            (Entry("a", 1), Entry("a", 1)),
            (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_given_the_same_content_then_they_are_equal(self, left: object, right: object) -> None:
        assert equal(left, right, Budget())
        assert right in Members([left], Budget())

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (1, True),
            (0, False),
            (1, "1"),
            (None, 0),
            (None, ""),
            ([1], [1, 1]),
            ({"a": 1}, {"b": 1}),
            ([True], [1]),
            (Entry("a", 1), {"a": 1}),
            (date(2024, 1, 1), "2024-01-01"),
        ],
    )
    def test_given_other_kinds_or_content_then_they_differ(self, left: object, right: object) -> None:
        assert not equal(left, right, Budget())
        assert right not in Members([left], Budget())


class TestOrder:
    def test_given_texts_then_they_are_ordered_by_code_unit(self) -> None:
        texts = ["\uffff", "😀", "é", "Z", "a"]

        assert sorted(texts, key=natural_order(texts, "sort")) == ["Z", "a", "é", "😀", "\uffff"]
        assert render("{{ '😀' < '\uffff' }}", {}) == "true"

    @pytest.mark.parametrize("values", [[1, "a"], [None, 1], [True, False], [[1], [2]]])
    def test_given_kinds_without_a_common_order_then_it_is_an_error(self, values: list[object]) -> None:
        with pytest.raises(ExpressionError, match="The filter `sort` needs numbers only or texts only"):
            natural_order(values, "The filter `sort`")
