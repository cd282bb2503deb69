"""Hostile templates: each ends soon, in little memory, with an ordinary error that names the limit.

Time is that of the process, so that a busy machine does no harm; a regular expression counts wall-clock time.
"""

import gc
import time
import tracemalloc
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression import budget, patterns, render

LONGEST_S = 1.0
MOST_BYTES = 100_000_000
FEW_STEPS = 50_000
DOUBLED = "{% set l = [1] %}{% for i in 1..40 %}{% set l = [l, l] %}{% endfor %}"
CONTEXT: dict[str, object] = {
    "n": 2**63 - 1,
    "m": {},
    "l": [1],
    "long": "a" * 9_000_000,
    "other": "a" * 8_999_999 + "b",
    "bomb": "a" * 60 + "b",
    "unsorted": [str(index * 7919 % 100_003) for index in range(100_000)],
    "self": "{{ render(self) }}",
    "grows": "{{ grows }}{{ grows }}",
    "twice": "{{ render(twice) }}{{ render(twice) }}",
    "ion": "[" + "1," * 500_000 + "1]",
    "brackets": "[" * 100_000,
}

SYNTAX = {
    "parentheses": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested deeper than 200 levels"),
    "lists": ("{{ " + "[" * 5000 + "]" * 5000 + " }}", "nested deeper than 200 levels"),
    "not": ("{{ " + "not " * 5000 + "true }}", "nested deeper than 200 levels"),
    "minus": ("{{ " + "-" * 100_000 + "1 }}", "nested deeper than 200 levels"),
    "ternary": ("{{ " + "1 ? 1 : " * 5000 + "1 }}", "nested deeper than 200 levels"),
    "interpolation": ("{{ " + '"#{' * 5000 + "1" + '}"' * 5000 + " }}", "nested deeper than 200 levels"),
    "ifs": ("{% if true %}" * 1000 + "{% endif %}" * 1000, "nested deeper than 200 levels"),
    "calls": ("{{ " + "max(" * 5000 + "1" + ")" * 5000 + " }}", "nested deeper than 200 levels"),
    "chain": ("{{ " + "1+" * 400_000 + "1 }}", "more than 30,000 values and operators"),
    "path": ("{{ m" + ".a" * 400_000 + " }}", "more than 30,000 values and operators"),
    "prints": ("{{1}}" * 150_000, "more than 30,000 values and operators"),
    "length": ("{{ 1 }}" + "a" * 1_000_000, "over the limit of 1,000,000"),
}
MADE = {
    "list doubling": ("{% for i in 1..60 %}{% set l = l + l %}{% endfor %}", "A list of 131,072 members"),
    "list flattening": ("{% for i in 1..60 %}{% set l = [l, l] | flatten %}{% endfor %}", "A list of 131,072 members"),
    "tilde doubling": (
        "{% set s = 'abc' %}{% for i in 1..60 %}{% set s = s ~ s %}{% endfor %}",
        "A text of 12,582,912 characters",
    ),
    "wide doubling": (
        "{% set s = '😀' %}{% for i in 1..60 %}{% set s = s + s %}{% endfor %}",
        "A text of 4,194,304 characters",
    ),
    "range": ("{{ 1..10000000000 }}", "A list of 10,000,000,000 members"),
    "range down": ("{{ range(1, -9223372036854775807, -1) }}", "A list of 9,223,372,036,854,775,809 members"),
    "ranges held": (
        "{% for i in 1..10000 %}{% set l = l + [1..100000] %}{% endfor %}",
        "more than 40,000,000 bytes in all",
    ),
    "texts held": ("{{ [" + ",".join(["long.toUpperCase()"] * 1000) + "] }}", "more than 40,000,000 bytes in all"),
    "maps": (
        "{% for i in 1..100000 %}{% set m = m | merge({i: i}) %}{% endfor %}",
        "more than 40,000,000 bytes in all",
    ),
    "upper": ("{% for i in 1..10000 %}{% set q = long | upper %}{% endfor %}", "more than 40,000,000 bytes in all"),
    "replace": (
        "{% set s = 'aa' %}{% for i in 1..60 %}{% set s = s | replace({'a': 'aaaaaaaaaa'}) %}{% endfor %}",
        "A text of 20,000,000 characters",
    ),
    "replace nothing": ("{{ long | replace({'': 'xx'}) }}", "A text of 27,000,002 characters"),
    "indent": ("{{ 'a\nb' | indent(1000000000) }}", "A text of 2,000,000,007 characters"),
    "join": ("{{ 1..100000 | join(bomb ~ bomb) }}", "A text of 12,688,773 characters"),
    "split": ("{{ long | split('a', -1) }}", "A list of 102,400 members"),
    "toJson": (
        "{% set s = '\"' %}{% for i in 1..60 %}{% set s = s | toJson %}{% endfor %}",
        "over the limit of 10,000,000 bytes",
    ),
    "raw": (
        "{% for i in 1..100000 %}{% raw %}" + "x" * 1000 + "{% endraw %}{% endfor %}",
        "The output is over the limit",
    ),
    "output": (
        "{% for i in 1..100000 %}{{ bomb ~ bomb }}{% endfor %}",
        "The output is over the limit of 10,000,000 bytes",
    ),
    "macro": ("{% macro f(a) %}{{ f(a) }}{% endmacro %}{{ f(1) }}", "The macro `f` is more than 100 calls deep"),
    "block": ("{% block b %}{{ block('b') }}{% endblock %}", "The function `block` is more than 100 calls deep"),
    "render": ("{{ render(self) }}", "The function `render` is more than 20 calls deep"),
    "render growing": ("{{ render(grows) }}", "(line 1 of the text given to `render`)"),
    "long Ion": ("{{ fromIon(ion) }}", "more than 1,000,000 steps"),
    "decimals": ("{% set d = '1E3999' | number('BIGDECIMAL') %}{{ d * d * d * d }}", "`*` of two decimal numbers"),
    "huge decimal": ("{{ '1E999999999' | number('BIGDECIMAL') }}", "no numbers of more than 4,000 digits"),
    "render fan": ("{{ render(twice) }}", "The function `render` is more than 20 calls deep"),
    "deep printed": ("{% for i in 1..50000 %}{% set l = [l] %}{% endfor %}{{ l }}", "nested deeper than 200 levels"),
    "deep compared": (
        "{% set k = l %}{% for i in 1..50000 %}{% set l = [l] %}{% set k = [k] %}{% endfor %}{{ l == k }}",
        "nested deeper than 200 levels",
    ),
    "huge pattern": ("{{ bomb | regexMatch('(((a{900}){900}){900}){900}') }}", "is too large"),
    "huge pattern in jq": ("{{ [bomb] | jq('.[] | test(\"((((a{900}){900}){900}){900})\")') }}", "is too large"),
    "long searched text": ("{{ long | regexMatch('a*b') }}", "over the limit of 1,000,000 for patterns"),
    "nested JSON": ("{{ fromJson(brackets) }}", "JSON"),
}
# What only steps or time end.
COUNTED = {
    "slugify": "{{ long | slugify }}",
    "loops": "{% for a in 1..1000 %}{% for b in 1..1000 %}{% for c in 1..1000 %}{% endfor %}{% endfor %}{% endfor %}",
    "long chain in a loop": "{% for a in 1..100000 %}{% set q = " + "1+" * 10_000 + "1 %}{% endfor %}",
    "search": "{% for i in 1..100000 %}{% set q = long contains 'b' %}{% endfor %}",
    "endsWith": "{% for i in 1..100000 %}{% set q = long | endsWith(long) %}{% endfor %}",
    "equality": "{% for i in 1..100000 %}{% set q = long == other %}{% endfor %}",
    "members": "{% for i in 1..1000 %}{% set q = unsorted contains unsorted %}{% endfor %}",
    "sort": "{% for i in 1..1000 %}{% set q = unsorted | sort %}{% endfor %}",
    "macro fan": "{% macro f(a) %}{% if a > 0 %}{{ f(a - 1) }}{{ f(a - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "shared printed": DOUBLED + "{{ l }}",
    "shared as debug text": DOUBLED + "{{ '' ~ l }}",
    "shared compared": DOUBLED.replace(" l ", " k ").replace("l, l", "k, k") + DOUBLED + "{{ l == k }}",
    "shared replaced": DOUBLED + "{{ l | replace({'1': '2'}) }}",
    "shared rendered": DOUBLED + "{{ render(l) }}",
}
PATTERNS = {
    "in regexMatch": "{{ bomb | regexMatch('(a|a)*$') }}",
    "in a loop": "{% for i in 1..20 %}{{ bomb | regexExtract('(a|a)*$') ?? 1 }}{% endfor %}",
    "in replace": "{{ bomb | replace({'(a|a)*$': 'x'}, true) }}",
    "in split": "{{ bomb | split('(a|a)*$') }}",
    "in a method": "{{ bomb.matches('(a|a)*') }}",
}
MEMORY = ["ranges held", "wide doubling", "texts held", "maps", "toJson", "output", "list doubling"]


def _failure(template: str, longest_s: float = LONGEST_S) -> ExpressionError:
    gc.disable()  # looking through what thousands of tests left behind is not the template's time
    try:
        started_s = time.process_time()
        with pytest.raises(ExpressionError) as failure:
            render(template, CONTEXT, clock=time.process_time)
        took_s = time.process_time() - started_s
    finally:
        gc.enable()
    assert took_s < longest_s
    assert len(failure.value.message) < 1000
    return failure.value


@pytest.mark.parametrize(
    ("template", "message"), [pytest.param(*case, id=name) for name, case in (SYNTAX | MADE).items()]
)
def test_given_a_template_that_grows_when_rendered_then_the_error_names_the_limit(template: str, message: str) -> None:
    assert message in _failure(template).message


@pytest.mark.parametrize("template", [pytest.param(case, id=name) for name, case in COUNTED.items()])
def test_given_a_template_that_works_hard_when_rendered_then_its_steps_are_counted(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "MAX_STEPS", FEW_STEPS)
    monkeypatch.setattr(budget, "DEADLINE_S", 60.0)  # on a busy machine time would come first

    assert "more than 50,000 steps" in _failure(template, longest_s=60.0).message


@pytest.mark.parametrize("template", [pytest.param(case, id=name) for name, case in PATTERNS.items()])
def test_given_a_pattern_that_never_ends_when_searched_then_time_ends_it(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "REGEX_TIMEOUT_S", 0.05)

    assert "takes longer than 0.05 s" in _failure(template).message


@pytest.mark.parametrize("name", ["loops", "sort", "shared compared"])
def test_given_the_real_limits_when_a_template_works_hard_then_it_ends_within_a_second(name: str) -> None:
    assert "The template takes " in _failure(COUNTED[name]).message


def test_given_a_clock_when_the_deadline_passes_then_the_render_ends() -> None:
    now_s = iter(range(100_000))

    with pytest.raises(ExpressionError, match=r"The template takes longer than 0.7 s"):
        render("{% for i in 1..100000 %}{% endfor %}", {}, clock=lambda: float(next(now_s)))


@pytest.mark.parametrize("name", MEMORY)
def test_given_a_template_that_hoards_when_rendered_then_it_ends_within_a_hundred_megabytes(name: str) -> None:
    tracemalloc.start()
    try:
        _failure(MADE[name][0])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < MOST_BYTES


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ " + "1+" * 10_000 + "1 }}", "10001"),
        ("{{ " + "[" * 90 + "]" * 90 + " }}", "[" * 90 + "]" * 90),
        ("{% macro f(a) %}{% if a > 1 %}{{ f(a - 1) }}{% endif %}x{% endmacro %}{{ f(60) }}", "x" * 60),
        ("{{ n + n }}{{ n * n * n }}", "-29223372036854775807"),
        ("{% for a in 1..300 %}{% for b in 1..300 %}{% endfor %}{% endfor %}done", "done"),
    ],
    ids=["chain", "lists", "macro", "overflow", "loops"],
)
def test_given_a_large_but_honest_template_when_rendered_then_it_is_done(template: str, expected: str) -> None:
    assert render(template, CONTEXT, clock=time.process_time) == expected


def test_given_a_deep_stack_when_rendered_then_no_recursion_error_escapes() -> None:
    def below(levels: int) -> None:
        if levels:
            below(levels - 1)
        else:
            render("{{ " + "(1 + " * 190 + "1" + ")" * 190 + " }}", {})

    with pytest.raises(ExpressionError, match="The template is nested too deeply"):
        below(800)


@given(
    st.lists(
        st.sampled_from(
            [
                "{{",
                "}}",
                "{%",
                "%}",
                "{#",
                "#}",
                "{% raw %}",
                "{% endraw %}",
                "-",
                " ",
                "\n",
                "'",
                '"',
                "#{",
                "}",
                "{",
                "(",
                ")",
                "[",
                "]",
                ",",
                ":",
                "?",
                "??",
                "???",
                "|",
                "~",
                "+",
                "..",
                "=",
                "==",
                "is",
                "not",
                "and",
                "contains",
                "if",
                "endif",
                "else",
                "for",
                "in",
                "endfor",
                "set",
                "macro",
                "endmacro",
                "block",
                "endblock",
                "filter",
                "endfilter",
                "verbatim",
                "endverbatim",
                "x",
                "l",
                "m",
                "n",
                ".",
                "1",
                "2.5",
                "true",
                "null",
                "upper",
                "default",
                "join",
                "max",
                "render",
                "loop",
            ]
        ),
        max_size=40,
    ).map("".join)
)
@example("{{ x is }}")
@example("{% for x in l %}{% set l = l + x %}")
@example("{{ '\\")
@example('{{ "#{')
@example("{%raw%}{%endraw%}{#-")
def test_given_any_text_when_rendered_then_only_an_expression_error_leaves(template: str) -> None:
    for mode in ("text", "typed"):
        error = _error(template, mode)

        assert error is None or error.line >= 1


def _error(template: str, mode: Literal["text", "typed"]) -> ExpressionError | None:
    try:
        render(template, {"l": [1, None], "m": {"n": "{{ x }}"}, "n": 0, "x": "{{ n }}"}, mode=mode)
    except ExpressionError as error:
        return error
    return None
