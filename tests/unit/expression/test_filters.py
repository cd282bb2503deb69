"""Filters and tests: what they give, and which kinds they refuse."""

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from tercel.errors import ExpressionError
from tercel.expression import render

CONTEXT: dict[str, object] = {
    "s": "Hello World",
    "v": None,
    "n": 5,
    "l": [3, 1, 2],
    "m": {"a": 1, "b": {"c": "x"}},
    "lines": "a\r\nb\r\nc",
    "instant": datetime(2024, 3, 5, 10, tzinfo=UTC),
    "zoned": datetime(2024, 3, 5, 10, tzinfo=ZoneInfo("Europe/Paris")),
    "local": datetime(2024, 3, 5, 10),
    "day": date(2024, 3, 5),
    "exact": Decimal("-1.50"),
    "data": b"ab",
}


def _value(expression: str) -> object:
    return render(f"{{{{ {expression} }}}}", CONTEXT, mode="typed")


class TestTextFilters:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("s | abbreviate(8)", "Hello..."),
            ("'abcd' | abbreviate(2) ~ ('ab' | abbreviate(1))", "abab"),
            ("data | base64encode", "YWI="),
            ("'YWI' | base64decode", "ab"),
            ("'  aBC' | capitalize", "  ABC"),
            ('"an oLD\tcar" | title', "An OLD\tCar"),
            ("m | lower", "{a=1, b={c=x}}"),
            ("' \t a\u00a0 ' | trim", "a\u00a0"),
            ("{'k': ['a.b', 5, v]} | replace({'.': '-', 5: 6})", {"k": ["a-b", "6", None]}),
            ("'aaa' | replace({'a': 'b', 'b': 'c'})", "ccc"),
            ("'x1y22' | replace({'[0-9]+': '<$0>'}, regexp=true)", "x<1>y<22>"),
            ("'a1b2c3' | split('[0-9]', 2)", ["a", "b2c3"]),
            ("s | slice(6)", "World"),
            ("n | startsWith('5') and (s | endsWith('ld'))", True),
            ("'a.b.c' | substringBefore('.') ~ ('a.b.c' | substringAfterLast('.'))", "ac"),
            ("'Été à_Paris!  ' | slugify", "ete-a-paris"),
            ("lines | indent(2, '-')", "a\r\n--b\r\n--c"),
            ("'' | nindent(2)", ""),
            ("'a' | nindent(2)", "\n  a"),
            ("[\"it's\"] | escapeChar('shell')", ["it'\\''s"]),
            ('"it\'s" | sh', "it'\\''s"),
            ("'a~ b*é' | urlencode | urldecode", "a~ b*é"),
            ("'~*' | urlencode", "%7E*"),
            ("'a' | md5", "0cc175b9c0f1b6a831c399e269772661"),
            ("lines | condense", "abc"),
            ("v | regexMatch('a') or ('ab' | regexMatch('b'))", True),
            ("'a-b' | regexExtract('(\\w)-(\\w)', 2)", "b"),
            ("'a-b' | regexExtract('q')", None),
            ("12 | regexReplace('(\\d)(\\d)', '$2$1')", "21"),
            ("1.5 | string", "1.5"),
        ],
    )
    def test_given_a_value_when_filtered_then_it_is_changed(self, expression: str, expected: object) -> None:
        assert _value(expression) == expected

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("5 | trim", "The filter `trim` needs text, not a whole number"),
            ("s | abbreviate(-1)", "The argument `length` of the filter `abbreviate` is negative"),
            ("'*' | base64decode", "The filter `base64decode` needs valid Base64"),
            ("s | replace('a')", "The filter `replace` needs a map in `replace_pairs`, not text"),
            (
                "s | replace({}, 1)",
                "The argument `regexp` of the filter `replace` must be a boolean, not a whole number",
            ),
            ("v | startsWith('a')", "The filter `startsWith` needs a value, not null"),
            ("s | substringAfter('')", "The argument `separator` is empty"),
            ("s | indent('2')", "The argument `amount` of the filter `indent` needs a whole number, not text"),
            (
                "s | escapeChar('html')",
                "The argument `type` of the filter `escapeChar` must be 'single', 'double' or 'shell'",
            ),
            ("'%2' | urldecode", "The filter `urldecode` found a `%` without two hexadecimal digits"),
            ("5 | sha256", "The filter `sha256` needs text, not a whole number"),
            ("s | regexExtract('o', 1)", "The regular expression of the filter `regexExtract` has no group 1"),
            ("true | string", "The filter `string` needs a number or a text that is one, not a boolean"),
        ],
    )
    def test_given_a_kind_that_does_not_fit_then_the_error_names_the_filter(
        self, expression: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError) as failure:
            _value(expression)

        assert failure.value.message == f"{message}, in the expression `{{{{ {expression} }}}}` at line 1."


class TestListsMapsAndNumbers:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("v | default('d') ~ ('  ' | default('e')) ~ (0 | default('f'))", "de0"),
            ("{} | default", None),
            ("exact | abs", Decimal("1.50")),
            ("(-9223372036854775807 - 1) | abs", -(2**63)),
            ("'010' | number", 8),
            ("1234.5 | numberFormat", "1,234.5"),
            ("[] | first ?? 'none'", "none"),
            ("s | last", "d"),
            ("[1, v, 'a', [true]] | join('|')", "1|null|a|[true]"),
            ("l | sort", [1, 2, 3]),
            ("[2, 1.5, exact] | rsort", [2, 1.5, Decimal("-1.50")]),
            ("l | reverse", [2, 1, 3]),
            ("l | chunk(2)", [[3, 1], [2]]),
            ("[[1], 2, [[3]]] | flatten", [1, 2, [3]]),
            ("[1, 1.0, true, '1', [1], [1]] | distinct", [1, True, "1", [1]]),
            ("v | distinct", "null"),
            ("m | keys", ["a", "b"]),
            ("l | keys", [0, 1, 2]),
            ("m | values | length", 2),
            ("m | merge({'a': 2, 'z': 3}) | keys", ["a", "b", "z"]),
            ("m | merge(['q']) | values | last", "q"),
            ("([1] | merge({'k': 2}) | last).key", "k"),
            ("v | merge(l)", [3, 1, 2]),
            ("v | length + (5 | length)", 0),
        ],
    )
    def test_given_a_value_when_filtered_then_it_is_changed(self, expression: str, expected: object) -> None:
        assert _value(expression) == expected

    def test_given_a_list_when_filtered_then_it_is_as_before(self) -> None:
        _value("l | sort | reverse | merge([1])")

        assert CONTEXT["l"] == [3, 1, 2]

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("'a' | abs", "The filter `abs` needs a number, not text"),
            ("'a' | numberFormat", "The filter `numberFormat` needs a number, not text"),
            ("5 | number", "The filter `number` needs text, not a whole number"),
            ("'' | first", "The filter `first` needs a text that is not empty"),
            ("m | last", "The filter `last` needs a list or text, not a map"),
            ("m | sort", "The filter `sort` needs a list, not a map"),
            ("[1, 'a'] | rsort", "The filter `rsort` needs numbers only or texts only"),
            ("l | slice(2, 2)", "The filter `slice` cannot cut from 2 to 2 out of 3"),
            ("l | chunk(0)", "The argument `size` of the filter `chunk` must be positive"),
            ("s | keys", "The filter `keys` needs a map or list, not text"),
            ("v | merge(v)", "The filter `merge` needs a list or map, not null twice"),
            ("l | merge('x')", "The filter `merge` needs lists or maps, not text"),
            ("{'a': 1} | merge([[1]])", "The key of a map must be text, a number or a boolean, not a list"),
        ],
    )
    def test_given_a_kind_that_does_not_fit_then_the_error_names_the_filter(
        self, expression: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError) as failure:
            _value(expression)

        assert failure.value.message.startswith(message + ",")

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("5", "java.lang.Long"),
            ("true", "java.lang.Boolean"),
            ("m", "java.util.LinkedHashMap"),
            ("exact", "java.math.BigDecimal"),
            ("instant", "java.time.Instant"),
            ("zoned", "java.time.ZonedDateTime"),
            ("local", "java.time.LocalDateTime"),
            ("day", "java.time.LocalDate"),
        ],
    )
    def test_given_a_value_then_its_class_name_is_near_javas(self, expression: str, expected: str) -> None:
        assert _value(f"{expression} | className") == expected


class TestFormatsAndDates:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("m | toJson", '{"a":1,"b":{"c":"x"}}'),
            ("v | json", "null"),
            ("m | toIon", '{a:1,b:{c:"x"}}'),
            ("v | yaml", "null"),
            ("instant | date('yyyy-MM-dd HH:mm', timeZone='Asia/Tokyo')", "2024-03-05 19:00"),
            ("day | dateAdd(1, 'MONTHS', format='dd.MM.yy')", "05.04.24"),
            ("instant | timestamp", 1709632800),
            ("instant | timestampMilli", 1709632800000),
            ("instant | timestampMicro", "1709632800000000000"),
            ("v | date", None),
        ],
    )
    def test_given_a_value_when_formatted_then_it_is_text_of_that_format(
        self, expression: str, expected: object
    ) -> None:
        assert _value(expression) == expected

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("m | jq('.b.c') | first", "x"),
            ("'{\"a\": [1, 2]}' | jq('.a[]')", [1, 2]),
            ("{'a': v, 'd': day} | jq('keys')", [["d"]]),
            ("v | jq('.')", None),
        ],
    )
    def test_given_a_program_when_run_by_jq_then_all_its_results_come_back(
        self, expression: str, expected: object
    ) -> None:
        assert _value(expression) == expected

    def test_given_a_text_that_is_not_json_then_jq_refuses_it(self) -> None:
        with pytest.raises(ExpressionError, match="The filter `jq` needs JSON: "):
            _value("s | jq('.')")


class TestTests:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("v is null and n is not null", True),
            ("'  ' is empty and [] is empty and v is empty and n is not empty", True),
            ("-3 is odd and 0 is even", True),
            ("l is iterable and m is not iterable and s is not iterable", True),
            ("m is map and l is not map", True),
            ("'[1]' is json and '' is json and s is not json", True),
        ],
    )
    def test_given_a_value_when_tested_then_it_answers(self, expression: str, expected: bool) -> None:
        assert _value(expression) is expected

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("v is even", "The test `even` needs a whole number, not null"),
            ("1.5 is odd", "The test `odd` needs a whole number, not a decimal number"),
            ("m is json", "The test `json` needs text, not a map"),
        ],
    )
    def test_given_a_kind_that_does_not_fit_then_the_error_names_the_test(self, expression: str, message: str) -> None:
        with pytest.raises(ExpressionError, match=message):
            _value(expression)
