"""The front: modes, raw blocks, recursion, objects, syntax checks and truth of texts."""

import pytest

from tercel.errors import ExpressionError
from tercel.expression import check_syntax, is_template, is_truthy_text, render, render_object


class TestRender:
    def test_given_a_text_without_a_brace_then_it_is_the_same_object(self) -> None:
        text = "no markup % } #}"

        assert render(text, {}) is text

    def test_given_values_with_markup_then_they_are_not_looked_at_again(self) -> None:
        assert render("{{ a }}", {"a": "{{ b }}"}) == "{{ b }}"

    def test_given_the_same_template_twice_then_both_renders_are_independent(self) -> None:
        template = "{% set a = a + 1 %}{% for i in 1..2 %}{% set a = a + i %}{% endfor %}{{ a }}"

        assert [render(template, {"a": a}) for a in (1, 1, 10)] == ["5", "5", "14"]

    def test_given_a_zone_then_dates_without_one_are_in_it(self) -> None:
        assert (
            render("{{ '2024-03-05T10:00:00' | date }}", {}, zone="Europe/Paris") == "2024-03-05T10:00:00.000000+01:00"
        )


class TestRawBlocks:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{% raw %}\n{{ a }}\n{% endraw %}|{{ a }}", "\n{{ a }}\n|1"),
            ("{%- raw -%} {{ a }} {%- endraw -%}", " {{ a }} "),
            ("{{ '{% raw %}{{ a }}{% endraw %}' ~ a }}", "{{ a }}1"),
            ("{% for i in 1..2 %}{% raw %}{{ b }}{% endraw %}{{ i }}{% endfor %}", "{{ b }}1{{ b }}2"),
            ("{% raw %}{% if %}{% endraw %}{# c #}", "{% if %}"),
            ("{{ marked }}", "x"),
            ("{% raw %}{% raw %}a{% endraw %}", "a"),
        ],
    )
    def test_given_a_raw_block_then_its_body_is_untouched(self, template: str, expected: str) -> None:
        assert render(template, {"a": 1, "marked": "{% raw %}x{% endraw %}"}) == expected

    def test_given_a_raw_block_of_several_lines_then_later_errors_still_tell_their_line(self) -> None:
        with pytest.raises(ExpressionError) as failure:
            render("{% raw %}\n\n{% endraw %}\n{{ nope }}", {})

        assert failure.value.line == 4
        assert failure.value.template == "\n\n\n{{ nope }}"


class TestRecursiveMode:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{{ a }} {{ m }}", '1 {"k":"1"}'),
            ("{% raw %}{{ a }}{% endraw %}{{ b }}", "{{ a }}1"),
            ("{{ safe }}", "{{ c }}"),
        ],
    )
    def test_given_values_with_markup_then_they_are_rendered_until_nothing_changes(
        self, template: str, expected: str
    ) -> None:
        context = {
            "a": "{{ b }}",
            "b": "{{ c }}",
            "c": 1,
            "m": {"k": "{{ c }}"},
            "safe": "{% raw %}{{ c }}{% endraw %}",
        }

        assert render(template, context, recursive=True) == expected

    def test_given_values_that_lead_to_each_other_then_it_ends(self) -> None:
        with pytest.raises(ExpressionError, match="Too many rendering attempts: more than 100"):
            render("{{ a }}", {"a": "{{ b }}", "b": "{{ a }}"}, recursive=True)


class TestRenderObject:
    def test_given_a_structure_then_its_texts_and_keys_are_rendered(self) -> None:
        value = {"{{ k }}": ["{{ n }}", 5, None, {"x": True}], "plain": 1.5, 7: "{{ k }}"}

        assert render_object(value, {"k": "key", "n": 5}) == {
            "key": ["5", 5, None, {"x": True}],
            "plain": 1.5,
            7: "key",
        }

    def test_given_two_keys_that_render_alike_then_the_first_stays(self) -> None:
        assert render_object({"{{ k }}": 1, "a": 2}, {"k": "a"}) == {"a": 1}

    def test_given_an_error_deep_inside_then_it_is_told(self) -> None:
        with pytest.raises(ExpressionError, match="nope"):
            render_object({"a": [{"b": "{{ nope }}"}]}, {})


class TestCheckSyntax:
    @pytest.mark.parametrize(
        "template", ["plain", "{", "{{ nope | nofilter }}", "{% raw %}{% if %}{% endraw %}", "{# c #}"]
    )
    def test_given_right_syntax_then_there_is_no_error(self, template: str) -> None:
        assert check_syntax(template) is None

    def test_given_wrong_syntax_then_the_error_tells_the_line(self) -> None:
        error = check_syntax("{% raw %}\n{% endraw %}\n{% if true %}")

        assert error is not None
        assert error.line == 3
        assert error.message == "Unclosed tag `if`: `endif` expected, in the expression `{% if true %}` at line 3."


class TestTexts:
    @pytest.mark.parametrize(("text", "expected"), [("{{ a }}", True), ("{% a", True), ("{#", True), ("{ a }", False)])
    def test_given_a_text_then_only_markup_makes_it_a_template(self, text: str, expected: bool) -> None:
        assert is_template(text) is expected

    @pytest.mark.parametrize(
        ("text", "expected"), [("", False), ("false", False), ("0", False), ("-0", False), (" ", True), ("False", True)]
    )
    def test_given_a_rendered_property_then_a_few_texts_are_false(self, text: str, expected: bool) -> None:
        assert is_truthy_text(text) is expected
