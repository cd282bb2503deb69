"""Syntax: precedence, literals, trimming, tags, and where errors stand."""

import pytest

from tercel.errors import ExpressionError
from tercel.expression import render
from tercel.expression.budget import Budget
from tercel.expression.parser import parse
from tercel.expression.tree import Chain, Print, Text

CONTEXT: dict[str, object] = {
    "s": "Hello World",
    "e": "",
    "n": 5,
    "d": 2.5,
    "b": True,
    "v": None,
    "k": "a",
    "l": [3, 1, 2],
    "m": {"a": 1, "b": {"c": "x"}},
}


def _shown(expression: str) -> object:
    return render(f"{{{{ {expression} }}}}", CONTEXT)


class TestPrecedence:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("n ?? 0 | string", "5"),
            ("'a' ~ nope ?? 'b'", "ab"),
            ("1 ~ 2 + 3", "123"),
            ("'a' ~ 'b' | upper", "AB"),
            ("s | length + 1", "12"),
            ("l | first ?? 0", "3"),
            ("-5 | abs", "5"),
            ("1 + -5 | abs", "6"),
            ("not n == 5", "false"),
            ("1..2 + 1", "[1,2,1]"),
            ("n > 3 ? 'x' : 'y'", "x"),
            ("b ? 1 : b ? 2 : 3", "1"),
            ("m.z ?? m.y ?? 'd'", "d"),
            ("2 + 3 * 4 % 5", "4"),
            ("n == 5 and n != 6 or nope", "true"),
            ("n is odd and s is not empty", "true"),
        ],
    )
    def test_given_operators_side_by_side_when_rendered_then_the_tighter_one_goes_first(
        self, written: str, expected: str
    ) -> None:
        assert _shown(written) == expected

    def test_given_a_long_chain_when_parsed_then_it_is_a_list_and_not_a_deep_tree(self) -> None:
        template = parse("{{ " + "1 + " * 5000 + "1 }}", Budget())

        tag = template.body[0]
        assert isinstance(tag, Print)
        assert isinstance(tag.value, Chain)
        assert len(tag.value.steps) == 5000


class TestLiterals:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (r"'it\'s'", "it's"),
            (r"'a\nb'", r"a\nb"),
            (r"'a\\'", r"a\\"),
            (r'"a\"b"', 'a"b'),
            ('"a #{n + 1} b"', "a 6 b"),
            ('"#{m["b"].c}#{"<#{k}>"}"', "x<a>"),
            (r'"a # \"b\""', r"a # \"b\""),
            ("7L", "7"),
            ("007", "7"),
            ("{k: 1, 'x': {'y': [2]}}", '{"a":1,"x":{"y":[2]}}'),
            ("{'a': {'b': {}}}", '{"a":{"b":{}}}'),
            ("NULL ?? none ?? TRUE", "true"),
        ],
    )
    def test_given_a_literal_when_rendered_then_it_stands_for_its_value(self, written: str, expected: str) -> None:
        assert _shown(written) == expected

    def test_given_any_alphabet_when_used_in_a_name_then_it_is_one(self) -> None:
        assert render("{{ größe_1 }}{{ 名 }}", {"größe_1": 1, "名": 2}) == "12"


class TestTrimming:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("a \n {{- n -}} \n b", "a5b"),
            ("a {{-n}} b", "a -5 b"),
            ("a {{ n-}} b", "a 5b"),
            ("a {%- if b -%} \n x {% endif -%} b", "ax b"),
            ("a {#- c -#} b", "ab"),
            ("a {# c-#} b", "a  b"),
            ("a {#- c #} b", "a b"),
            ("[{%- verbatim -%} {{ x }} {%- endverbatim -%} ]", "[{{ x }}]"),
        ],
    )
    def test_given_a_dash_at_a_delimiter_when_rendered_then_white_space_on_that_side_goes(
        self, template: str, expected: str
    ) -> None:
        assert render(template, CONTEXT) == expected


class TestErrors:
    @pytest.mark.parametrize(
        ("template", "message", "line"),
        [
            (
                "{{ a b }}",
                "Unexpected `b`, the end of the tag expected, in the expression `{{ a b }}` at line 1.",
                1,
            ),
            ("x\ny {{ @ }}", "Unexpected character `@`, in the expression `y {{ @ }}` at line 2.", 2),
            ("{{ (1 + 2 }}", "Unclosed `(`: `)` expected, in the expression `{{ (1 + 2 }}` at line 1.", 1),
            ("{{ 'abc }}", "Unclosed text literal, in the expression `{{ 'abc }}` at line 1.", 1),
            ('{{ "abc }}', 'Unclosed text literal, in the expression `{{ "abc }}` at line 1.', 1),
            ("{{ v", "Unclosed `{{`: `}}` expected, in the expression `{{ v` at line 1.", 1),
            ("{# v", "Unclosed comment: `#}` expected, in the expression `{# v` at line 1.", 1),
            (
                "a\r\n{% if true %}\rx",
                "Unclosed tag `if`: `endif` expected, in the expression `{% if true %}` at line 2.",
                2,
            ),
            (
                "{% for x in l %}",
                "Unclosed tag `for`: `endfor` expected, in the expression `{% for x in l %}` at line 1.",
                1,
            ),
            ("{% elif x %}", "Unknown tag `elif`, in the expression `{% elif x %}` at line 1.", 1),
            ("{% endfor %}", "Unexpected tag `endfor`, in the expression `{% endfor %}` at line 1.", 1),
            (
                "{% for a, b in l %}{% endfor %}",
                "Unexpected `,`, `in` expected, in the expression `{% for a, b in l %}{% endfor %}` at line 1.",
                1,
            ),
            (
                "{% set null = 1 %}",
                "`null` is a constant and cannot be set, in the expression `{% set null = 1 %}` at line 1.",
                1,
            ),
            (
                "{{ 99999999999999999999 }}",
                "A whole number must fit in 64 bits, in the expression `{{ 99999999999999999999 }}` at line 1.",
                1,
            ),
        ],
    )
    def test_given_wrong_syntax_when_rendered_then_the_error_says_what_was_found_and_where(
        self, template: str, message: str, line: int
    ) -> None:
        with pytest.raises(ExpressionError) as failure:
            render(template, CONTEXT)

        assert failure.value.message == message
        assert failure.value.line == line
        assert failure.value.template == template

    @pytest.mark.parametrize(
        "template",
        [
            "{{ }}",
            "{{ 1 + }}",
            "{{ [1,] }}",
            "{{ [1][0] }}",
            "{{ .5 }}",
            "{{ 1e3 }}",
            "{{ l.0 }}",
            "{{ m.is }}",
            "{{{ v }}}",
            "{{ 3 is  not even }}",
            "{{ f(a=1, 2) }}",
            "{{ {'a'} }}",
            "{{ a ? b }}",
            "{{ x = 1 }}",
            "{% if %}x{% endif %}",
            "{% %}",
            "{% macro f(1) %}{% endmacro %}",
            "{% block %}{% endblock %}",
            "{% verbatim %}x",
            '{{ "#{1" }}',
            "{% if true %}{% else %}{% else %}{% endif %}",
            "{{ ] }}",
            "{{ (1] }}",
        ],
    )
    def test_given_something_outside_the_grammar_when_rendered_then_it_is_refused(self, template: str) -> None:
        with pytest.raises(ExpressionError):
            render(template, CONTEXT)


class TestText:
    def test_given_no_tag_when_parsed_then_all_is_text(self) -> None:
        template = parse("a { b } }} %} #}", Budget())

        assert [statement.text for statement in template.body if isinstance(statement, Text)] == ["a { b } }} %} #}"]
