"""Scopes, macros, blocks, what is missing, typed results, and the place in errors."""

import pytest

from tercel.errors import ExpressionError, MissingError
from tercel.expression import render

CONTEXT: dict[str, object] = {
    "n": 5,
    "v": None,
    "e": "",
    "l": [3, 1, 2],
    "m": {"a": 1, "b": {"c": "x"}, "z": None},
}


class TestMissing:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{{ nope ?? 'd' }}", "d"),
            ("{{ (m.q.y | upper) ?? 'd' }}", "d"),
            ("{{ nope ~ 'a' ?? 'd' }}", "Unable"),
            ("{{ (nope + 1) ?? 'd' }}", "d"),
            ("{{ nope | upper | default('d') | lower }}", "d"),
            ("{{ m.q.y is not defined }}{{ m.z is defined }}", "truefalse"),
            ("{{ (v ??? 'd') ~ '!' }}", "!"),
            ("{{ nope ?? nothing ?? 'last' }}", "last"),
            ("{{ l[7] ?? l['x'] ?? l[-1] ?? 'd' }}", "d"),
            ("{{ v.x ?? 'd' }}{{ n.x ?? 'd' }}{{ n.x() ?? 'd' }}", "ddd"),
        ],
    )
    def test_given_a_missing_part_when_something_takes_it_then_it_stands_in(self, template: str, expected: str) -> None:
        if expected == "Unable":
            with pytest.raises(MissingError):
                render(template, CONTEXT)
        else:
            assert render(template, CONTEXT) == expected

    @pytest.mark.parametrize(
        ("template", "message", "name"),
        [
            ("{{ nope }}", "Unable to find `nope` used in the expression `{{ nope }}` at line 1", "nope"),
            ("{{ m.q.y }}", "Unable to find `q` in `m` used in the expression `{{ m.q.y }}` at line 1", "q"),
            ("{{ m.b['q'] }}", "Unable to find `q` in `m.b` used in the expression `{{ m.b['q'] }}` at line 1", "q"),
            ("{{ v.x }}", "Unable to find `x` in `v` (null) used in the expression `{{ v.x }}` at line 1", "v"),
            ("a\n\n{{ l[n] }}", "Unable to find `5` in `l` used in the expression `{{ l[n] }}` at line 3", "5"),
            (
                "{{ 'a'.nope(1) }}",
                "Unable to find the method `nope` with 1 arguments in `'a'` "
                "used in the expression `{{ 'a'.nope(1) }}` at line 1",
                "nope",
            ),
        ],
    )
    def test_given_a_missing_part_when_nothing_takes_it_then_the_error_names_it(
        self, template: str, message: str, name: str
    ) -> None:
        with pytest.raises(MissingError) as failure:
            render(template, CONTEXT)

        assert failure.value.message == message
        assert failure.value.name == name


class TestScopes:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{% set a = 0 %}{% for i in l %}{% set a = a + i %}{% endfor %}{{ a }}", "6"),
            ("{% for i in l %}{% set q = i %}{% endfor %}{{ q ?? 'gone' }}", "gone"),
            ("{% for i in l %}{{ q ?? 'new' }}{% set q = i %}{% endfor %}", "new31"),
            ("{% for i in l %}{% set n = i %}{% endfor %}{{ n }}", "2"),
            ("{% if true %}{% set q = 1 %}{% endif %}{{ q }}", "1"),
            (
                "{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.revindex }} {% endfor %}",
                "0122 0121 0120 ",
            ),
            ("{% for n in l %}{% endfor %}{{ n }}", "5"),
            ("{% for e in m %}{{ e.key }}:{{ e.value ?? '-' }} {% else %}none{% endfor %}", 'a:1 b:{"c":"x"} z:- '),
            ("{% for i in v %}x{% else %}none{% endfor %}", ""),
            ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        ],
    )
    def test_given_names_set_in_loops_when_rendered_then_each_lives_in_its_scope(
        self, template: str, expected: str
    ) -> None:
        assert render(template, CONTEXT) == expected

    def test_given_a_template_that_sets_names_when_rendered_then_the_context_is_as_before(self) -> None:
        context: dict[str, object] = {"n": 1, "l": [1]}

        render("{% set n = 2 %}{% set q = 3 %}{% set l = l + 4 %}{{ l | sort }}", context)

        assert context == {"n": 1, "l": [1]}


class TestMacros:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{{ f(1) }}{% macro f(a, b='x') %}<{{ a }}{{ b }}>{% endmacro %}", "<1x>"),
            ("{% macro f(a, b) %}{{ b }}{{ a }}{% endmacro %}{{ f(b=1, a=2) }}{{ f(3, b=4) }}", "1243"),
            ("{% macro f(a) %}{% set q = a %}{{ q }}{% endmacro %}{{ f(1) }}{{ q ?? '-' }}", "1-"),
            ("{% macro f(a) %}{{ n ?? 'unseen' }}{% endmacro %}{{ f(1) }}{{ n }}", "unseen5"),
            ("{% macro f(a) %}{{ a.q.y }}{% endmacro %}{{ f(m) ?? 'd' }}{{ n }}", "d5"),
            (
                "{% macro f(a) %}{% for i in a %}{{ i.q }}{% endfor %}{% endmacro %}"
                "{% for i in l %}{{ f([m]) ?? i }}{% endfor %}",
                "312",
            ),
            ("{% macro max() %}mine{% endmacro %}{{ max(1) }}", "1"),
            ("{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "321"),
        ],
    )
    def test_given_a_macro_when_called_then_it_sees_its_arguments_only(self, template: str, expected: str) -> None:
        assert render(template, CONTEXT) == expected

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "The macro `f` takes only 1 argument, not 2"),
            ("{% macro f(a) %}{% endmacro %}{{ f(b=2) }}", "The macro `f` has no argument `b`, it takes `a`"),
            ("{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}", "The macro `f` gets its argument `a` twice"),
        ],
    )
    def test_given_wrong_arguments_when_called_then_the_error_names_them(self, template: str, message: str) -> None:
        with pytest.raises(ExpressionError, match=message):
            render(template, CONTEXT)

    def test_given_an_error_behind_a_call_when_rendered_then_it_tells_the_line_of_the_caller(self) -> None:
        template = "{% macro f(a) %}{{ a }}{% endmacro %}\n{{ f(1) ~ nope }}"

        with pytest.raises(MissingError) as failure:
            render(template, CONTEXT)

        assert failure.value.line == 2

    def test_given_an_error_inside_a_macro_when_rendered_then_it_tells_the_line_of_the_call(self) -> None:
        with pytest.raises(MissingError) as failure:
            render("{% macro f(a) %}\n{{ a.q }}{% endmacro %}\n\n{{ f('x') }}", CONTEXT)

        assert failure.value.line == 4


class TestBlocksAndFilterTags:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{% block x %}[{{ n }}]{% endblock x %}{{ block('x') }}{{ block('y') }}", "[5][5]"),
            ("{% filter upper | trim %} a{{ m.b.c }} {% endfilter %}", "AX"),
            ("{% filter replace({'a': n}) %}banana{% endfilter %}", "b5n5n5"),
        ],
    )
    def test_given_a_body_when_rendered_then_it_is_shown_as_asked(self, template: str, expected: str) -> None:
        assert render(template, CONTEXT) == expected


class TestCalls:
    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("1 | nofilter", "Unknown filter `nofilter`"),
            ("1 is notest", "Unknown test `notest`"),
            ("nofunction()", "Unknown function `nofunction`"),
            ("l | join('a', 'b')", "The filter `join` takes only 1 argument, not 2"),
            ("l | join(sep=',')", "The filter `join` has no argument `sep`, it takes `separator`"),
            ("l | chunk", "The filter `chunk` needs its argument `size`"),
            ("range(1, 2, 3, 4)", "The function `range` takes at most 3 arguments, not 4"),
            ("range(1, start=2)", "The function `range` gets its argument `start` twice"),
            ("max(1, a=2)", "The function `max` has no argument `a`"),
        ],
    )
    def test_given_a_wrong_call_when_evaluated_then_the_error_names_what_is_wrong(
        self, expression: str, message: str
    ) -> None:
        template = f"{{{{ {expression} }}}}"

        with pytest.raises(ExpressionError) as failure:
            render(template, CONTEXT)

        assert failure.value.message == f"{message}, in the expression `{template}` at line 1."

    def test_given_a_wrong_call_when_its_branch_is_not_taken_then_it_does_no_harm(self) -> None:
        assert render("{{ true ? 'ok' : (1 | nofilter(nope=2)) }}{% if false %}{{ f() }}{% endif %}", CONTEXT) == "ok"

    def test_given_a_missing_argument_when_called_then_the_whole_call_is_missing(self) -> None:
        assert render("{{ ('a' | replace(nope)) ?? 'd' }}{{ max(1, nope) ?? 'd' }}", CONTEXT) == "dd"


class TestTypedMode:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{{ l }}", [3, 1, 2]),
            ("{# c #}{% set q = m %}{{ q }}", {"a": 1, "b": {"c": "x"}, "z": None}),
            ("{{ v }}", None),
            ("{% if false %}x{% endif %}", None),
            ("", ""),
            ("plain", "plain"),
            ("{{ m.b.c }} and text", "x and text"),
            (" \n {{- n }}", 5),
            ("{% filter upper %}{{ m.b.c }}{% endfilter %}", "X"),
            ("{% macro f(a) %}{{ a }}{% endmacro %}{{ f(l) }}", "[3,1,2]"),
        ],
    )
    def test_given_one_value_when_rendered_typed_then_it_keeps_its_type(self, template: str, expected: object) -> None:
        result = render(template, CONTEXT, mode="typed")

        assert result == expected
        assert type(result) is type(expected)

    @pytest.mark.parametrize("template", ["x{{ n }}", "{{ n }}{{ n }}", "{{ n }} ", "{{ 'a' }}{{ 'b' }}", "{{ l }}x"])
    def test_given_a_mixture_when_rendered_typed_then_it_is_an_error(self, template: str) -> None:
        with pytest.raises(ExpressionError):
            render(template, CONTEXT, mode="typed")
