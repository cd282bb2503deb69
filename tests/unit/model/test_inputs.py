from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

import pytest

from tercel.errors import ExpressionError, InvalidInputError
from tercel.expression import render as render_expression
from tercel.model.input_types import DependsOn, Input
from tercel.model.inputs import (
    default_problems,
    examine_inputs,
    input_problems,
    parse_value,
    resolve_inputs,
    with_defaults,
)


def render(template: str, variables: Mapping[str, object]) -> object:
    """Stands in for the expression language: evaluates what is between the braces as Python over the inputs."""
    inputs = variables["inputs"]
    assert isinstance(inputs, dict)
    try:
        return eval(template.strip("{} "), {"inputs": inputs})  # texts of these tests only
    except KeyError as error:
        raise ExpressionError(f"There is no {error}.") from None
    except SyntaxError:
        raise ExpressionError(f"Not an expression of these tests: {template}") from None


def render_as_tercel(template: str, variables: Mapping[str, object]) -> object:
    return render_expression(template, variables, mode="typed")


def resolve(*declared: Input, **given: object) -> dict[str, object]:
    return resolve_inputs(declared, given, render)


def value(raw: object, type: str, **properties: object) -> object:
    """What one input of this type makes of a given value."""
    return resolve(Input(id="x", type=type, **properties), x=raw)["x"]  # type: ignore[arg-type]


def refusal(raw: object, type: str, **properties: object) -> str:
    with pytest.raises(InvalidInputError) as caught:
        value(raw, type, **properties)
    assert caught.value.hint == "Start the flow again with values that fit."
    return caught.value.message.removeprefix("Input 'x': ")


class TestTypes:
    @pytest.mark.parametrize(
        ("type", "raw", "expected"),
        [
            ("STRING", "a", "a"),
            ("STRING", "", ""),
            ("STRING", 5, "5"),
            ("STRING", True, "true"),
            ("INT", "42", 42),
            ("INT", " -7 ", -7),
            ("INT", 2**40, 2**40),
            ("FLOAT", "1.5", 1.5),
            ("FLOAT", 2, 2.0),
            ("BOOLEAN", "TRUE", True),
            ("BOOLEAN", "yes", False),
            ("BOOL", False, False),
            ("DATETIME", "2030-01-31T12:00:00+02:00", "2030-01-31T10:00:00Z"),
            ("DATETIME", datetime(2030, 1, 31, 12, 0, 0, 500, tzinfo=UTC), "2030-01-31T12:00:00.000500Z"),
            ("DATE", "2030-01-31", "2030-01-31"),
            ("DATE", date(2030, 1, 31), "2030-01-31"),
            ("TIME", "12:30", "12:30:00"),
            ("TIME", time(12, 30, 5), "12:30:05"),
            ("DURATION", "pt90m", "PT1H30M"),
            ("DURATION", timedelta(days=1), "PT24H"),
            ("FILE", "kestra:///dev/hello/x.csv", "kestra:///dev/hello/x.csv"),
            ("JSON", '{"a": [1, null]}', {"a": [1, None]}),
            ("JSON", {"a": 1}, {"a": 1}),
            ("YAML", "a: [1, yes]", {"a": [1, True]}),
            ("YAML", [1], [1]),
            ("URI", "http://localhost:8080/x", "http://localhost:8080/x"),
            ("EMAIL", "a.b@c.example", "a.b@c.example"),
            ("EMAIL", "", ""),
        ],
    )
    def test_given_a_fitting_value_then_it_is_parsed(self, type: str, raw: object, expected: object) -> None:
        parsed = value(raw, type)

        assert parsed == expected
        assert parsed.__class__ is expected.__class__

    @pytest.mark.parametrize(
        ("type", "raw", "expected"),
        [
            ("STRING", [1], "a list or a map is given where a text is needed ('[1]' was given)."),
            ("INT", "4.5", "'4.5' is not a whole number."),
            ("INT", True, "'true' is not a whole number."),
            ("INT", 2**63, "'9223372036854775808' has more than 64 bits."),
            ("FLOAT", "x", "'x' is not a number."),
            ("FLOAT", "nan", "'nan' is not a number."),
            ("FLOAT", True, "'true' is not a number."),
            ("DATETIME", "2030-01-31T12:00:00",
             "'2030-01-31T12:00:00' is not an instant; write it like 2030-01-31T12:00:00Z."),
            ("DATETIME", "tomorrow", "'tomorrow' is not an instant; write it like 2030-01-31T12:00:00Z."),
            ("DATE", "20300131", "'20300131' is not a date; write it like 2030-01-31."),
            ("DATE", "2030-02-31", "'2030-02-31' is not a date; write it like 2030-01-31."),
            ("TIME", "25:00", "'25:00' is not a time of day; write it like 12:30 or 12:30:00."),
            ("TIME", "12", "'12' is not a time of day; write it like 12:30 or 12:30:00."),
            ("DURATION", "long", "'long' is not a duration; write it like PT15M, PT1H30M or P1D."),
            ("FILE", "/etc/passwd", "'/etc/passwd' is not a file in internal storage."),
            ("FILE", "", "'' is not a file in internal storage."),
            ("JSON", "{a}", "'{a}' is not JSON."),
            ("YAML", "a: b: c", "'a: b: c' is not YAML: Line 1, column 5: A second ': ' stands in one line. "
             "Put the value in quotes if the colon belongs to it."),
            ("URI", "no uri", "'no uri' is not a URI; write it like https://example.com/a."),
            ("EMAIL", "a@", "'a@' is not an e-mail address."),
        ],
    )  # fmt: skip
    def test_given_a_value_that_does_not_fit_then_it_is_refused(self, type: str, raw: object, expected: str) -> None:
        assert refusal(raw, type) == expected

    def test_given_a_secret_that_does_not_fit_then_it_is_not_told(self) -> None:
        with pytest.raises(ValueError) as refused:  # noqa: PT011  # the text is asserted below
            parse_value(Input(id="a", type="SECRET", validator=r"[0-9]+"), "open-sesame", None)

        assert str(refused.value) == "it does not match [0-9]+"

    def test_given_a_long_value_that_does_not_fit_then_it_is_cut(self) -> None:
        assert refusal("x" * 100, "INT") == f"'{'x' * 80}…' is not a whole number."


class TestBounds:
    @pytest.mark.parametrize(
        ("type", "raw", "bounds", "expected"),
        [
            ("INT", "4", {"min": "5"}, "4 is less than 5."),
            ("INT", 6, {"max": 5}, "6 is more than 5."),
            ("FLOAT", "0.4", {"min": "0.5"}, "0.4 is less than 0.5."),
            ("DURATION", "PT5S", {"min": "PT1M"}, "PT5S is less than PT1M."),
            ("DURATION", "P2D", {"max": "P1D"}, "PT48H is more than PT24H ('P2D' was given)."),
            ("DATE", "2030-01-01", {"after": "2030-01-01"}, "2030-01-01 is not after 2030-01-01."),
            ("DATE", "2030-01-02", {"before": "2030-01-01"}, "2030-01-02 is not before 2030-01-01."),
            ("TIME", "09:00", {"after": "10:00"}, "09:00:00 is not after 10:00:00."),
            ("DATETIME", "2030-01-01T00:00:00+01:00", {"after": "2029-12-31T23:00:00Z"},
             "2029-12-31T23:00:00Z is not after 2029-12-31T23:00:00Z ('2030-01-01T00:00:00+01:00' was given)."),
            ("STRING", "abc1", {"validator": "[a-z]+"}, "'abc1' does not match [a-z]+."),
        ],
    )  # fmt: skip
    def test_given_a_value_out_of_bounds_then_it_is_refused(
        self, type: str, raw: object, bounds: dict[str, object], expected: str
    ) -> None:
        assert refusal(raw, type, **bounds) == expected

    @pytest.mark.parametrize(
        ("type", "raw", "bounds"),
        [
            ("INT", 5, {"min": "5", "max": "5"}),
            ("DATE", "2030-01-02", {"after": "2030-01-01", "before": "2030-01-03"}),
            ("STRING", "abc", {"validator": "[a-z]+"}),
        ],
    )
    def test_given_a_value_within_bounds_then_it_is_taken(
        self, type: str, raw: object, bounds: dict[str, object]
    ) -> None:
        assert value(raw, type, **bounds) == raw


class TestChoices:
    def test_given_a_value_to_choose_then_only_those_listed_are_taken(self) -> None:
        assert value("a", "SELECT", values=["a", "b"]) == "a"
        assert refusal("c", "SELECT", values=["a", "b"]) == "'c' is none of a, b."
        assert refusal("c", "ENUM", values=["a", "b"]) == "'c' is none of a, b."

    def test_given_custom_values_or_no_need_then_others_are_taken(self) -> None:
        assert value("c", "SELECT", values=["a"], allow_custom_value=True) == "c"
        assert value("c", "SELECT", values=["a"], required=False) == "c"
        assert value(["c"], "MULTISELECT", values=["a"], allow_custom_value=True) == ["c"]

    def test_given_an_expression_then_it_gives_the_choices(self) -> None:
        assert value("2", "SELECT", expression="{{ [1, 2, None] }}") == "2"
        assert refusal("3", "SELECT", expression="{{ [1, 2, None] }}") == "'3' is none of 1, 2."
        assert refusal("3", "SELECT", expression="{{ 5 }}") == "its expression gives no list of values."

    def test_given_several_values_then_each_is_checked(self) -> None:
        assert value('["a", "b"]', "MULTISELECT", values=["a", "b"]) == ["a", "b"]
        assert value(["1"], "MULTISELECT", options=["1"], item_type="INT") == [1]
        assert refusal(["a", "c"], "MULTISELECT", values=["a", "b"]) == "'c' is none of a, b."

    def test_given_an_array_then_each_item_is_parsed(self) -> None:
        assert value("[1, 2]", "ARRAY", item_type="INT") == [1, 2]
        assert value([1.5, True], "ARRAY", item_type="STRING") == ["1.5", "true"]
        assert refusal("[1, 2.5]", "ARRAY", item_type="INT") == "item 1 ('2.5' is not a whole number)."
        assert refusal([None], "ARRAY", item_type="STRING") == (
            "item 0 (nothing is given where a text is needed) ('[null]' was given)."
        )
        assert refusal("a", "ARRAY", item_type="INT") == '\'a\' is not a list; write it like ["a", "b"].'
        assert refusal('{"a": 1}', "ARRAY", item_type="INT") == '\'{"a": 1}\' is not a list; write it like ["a", "b"].'


class TestResolution:
    def test_given_no_value_then_the_default_counts(self) -> None:
        assert resolve(Input(id="a", type="INT", defaults="10")) == {"a": 10}
        assert resolve(Input(id="a", type="INT", defaults="10"), a="11") == {"a": 11}
        assert resolve(Input(id="a", type="INT", defaults="10"), a="") == {"a": 10}
        assert resolve(Input(id="a", type="STRING", defaults="x"), a="") == {"a": ""}
        assert resolve(Input(id="a", type="BOOLEAN", defaults="yes")) == {"a": True}

    def test_given_a_default_that_is_an_expression_then_it_is_rendered(self) -> None:
        declared = [
            Input(id="a", type="INT"),
            Input(id="b", type="INT", defaults="{{ inputs['a'] + 1 }}", depends_on=DependsOn(inputs=["a"])),
        ]

        assert resolve(*declared, a=1) == {"a": 1, "b": 2}

    def test_given_no_value_at_all_then_only_required_inputs_are_missed(self) -> None:
        assert resolve(Input(id="a", type="INT", required=False)) == {"a": None}
        with pytest.raises(InvalidInputError) as caught:
            resolve(Input(id="a", type="INT"))
        assert caught.value.message == "Input 'a': a value is missing."

    def test_given_several_faults_then_all_are_told(self) -> None:
        with pytest.raises(InvalidInputError) as caught:
            resolve(Input(id="a", type="INT"), Input(id="b", type="DATE"), Input(id="c", type="INT"), a="x", c=1)

        assert caught.value.message == "Input 'a': 'x' is not a whole number.\nInput 'b': a value is missing."

    def test_given_values_that_no_input_asks_for_then_they_are_left_out(self) -> None:
        assert resolve(Input(id="a", type="INT"), a=1, b=2) == {"a": 1}

    def test_given_ids_with_dots_then_they_make_maps(self) -> None:
        declared = [Input(id="a.b", type="INT"), Input(id="a.c.d", type="INT")]

        assert resolve_inputs(declared, {"a.b": 1, "a.c.d": 2}, render) == {"a": {"b": 1, "c": {"d": 2}}}

    def test_given_a_condition_that_does_not_hold_then_the_input_is_left_out(self) -> None:
        declared = [
            Input(
                id="late",
                type="INT",
                depends_on=DependsOn(inputs=["mode"], condition="{{ inputs['mode'] == 'x' }}"),
            ),
            Input(id="mode", type="STRING"),
            Input(id="later", type="INT", depends_on=DependsOn(inputs=["late"])),
        ]

        assert resolve(*declared, mode="x", late=1, later=2) == {"late": 1, "mode": "x", "later": 2}
        assert resolve(*declared, mode="y", late="nonsense") == {"mode": "y"}

    def test_given_a_condition_that_gives_text_then_it_does_not_hold(self) -> None:
        declared = Input(id="a", type="INT", depends_on=DependsOn(condition="{{ 'true' }}"))

        assert resolve(declared) == {}

    def test_given_a_condition_that_cannot_be_rendered_then_that_is_told(self) -> None:
        declared = Input(id="a", type="INT", depends_on=DependsOn(condition="{{ inputs['b'] }}"))

        with pytest.raises(InvalidInputError) as caught:
            resolve(declared)

        assert caught.value.message == "Input 'a': There is no 'b'."

    def test_given_a_circle_then_nothing_hangs(self) -> None:
        a = Input(id="a", type="INT", depends_on=DependsOn(inputs=["b"]))
        b = Input(id="b", type="INT", depends_on=DependsOn(inputs=["a"]))

        assert resolve(a, b) == {}

    def test_given_an_error_then_what_depends_on_it_is_checked_as_far_as_can_be(self) -> None:
        declared = [
            Input(id="a", type="INT"),
            Input(id="b", type="INT", depends_on=DependsOn(inputs=["a"])),
            Input(id="c", type="INT", depends_on=DependsOn(inputs=["a"], condition="{{ inputs['a'] > 0 }}")),
            Input(id="d", type="INT", defaults="{{ inputs['a'] }}", depends_on=DependsOn(inputs=["a"])),
            Input(id="e", type="INT", depends_on=DependsOn(inputs=["d"], condition="{{ inputs['d'] > 0 }}")),
        ]

        with pytest.raises(InvalidInputError) as caught:
            resolve(*declared, a="x", b="y", c="z")

        assert caught.value.message == "Input 'a': 'x' is not a whole number.\nInput 'b': 'y' is not a whole number."

    def test_given_several_inputs_that_need_one_then_it_is_worked_out_once(self) -> None:
        rendered: list[str] = []

        def count(template: str, variables: Mapping[str, object]) -> object:
            rendered.append(template)
            return render(template, variables)

        declared = [Input(id=id, type="INT", depends_on=DependsOn(inputs=["a"])) for id in "bcd"]
        declared.append(Input(id="a", type="INT", defaults="{{ 1 }}"))

        assert resolve_inputs(declared, {"b": 1, "c": 2, "d": 3}, count) == {"b": 1, "c": 2, "d": 3, "a": 1}
        assert rendered == ["{{ 1 }}"]

    @pytest.mark.parametrize(
        ("type", "default", "expected"),
        [
            ("STRING", "runs/{{ inputs.b }}", "runs/5"),
            ("STRING", "{{ inputs.b }}-{{ inputs.b }}", "5-5"),
            ("STRING", "{% if inputs.b > 4 %}many: {{ inputs.b }}{% endif %}", "many: 5"),
            ("INT", "1{{ inputs.b }}", 15),
            ("JSON", '{"n": {{ inputs.b }}}', {"n": 5}),
            ("ARRAY", ["a{{ inputs.b }}"], ["a5"]),
        ],
    )
    def test_given_a_default_of_texts_and_values_then_it_is_one_text(
        self, type: str, default: object, expected: object
    ) -> None:
        properties = {"item_type": "STRING", "defaults": default, "depends_on": DependsOn(inputs=["b"])}
        declared = Input(id="a", type=type, **properties)  # type: ignore[arg-type]

        values = resolve_inputs([declared, Input(id="b", type="INT")], {"b": 5}, render_as_tercel)

        assert values["a"] == expected

    def test_given_a_default_of_texts_and_values_that_fails_then_its_own_error_is_told(self) -> None:
        with pytest.raises(InvalidInputError) as caught:
            resolve_inputs([Input(id="a", type="STRING", defaults="x{{ nope }}")], {}, render_as_tercel)

        assert caught.value.message == (
            "Input 'a': Unable to find `nope` used in the expression `{{ nope }}` at line 1."
        )

    def test_given_a_default_with_expressions_inside_then_they_are_rendered(self) -> None:
        assert resolve(Input(id="a", type="ARRAY", item_type="INT", defaults=["{{ 1 + 1 }}", "3"])) == {"a": [2, 3]}
        assert resolve(Input(id="a", type="JSON", defaults={"b": ["{{ [1] }}", 2]})) == {"a": {"b": [[1], 2]}}

    def test_given_nested_maps_then_ids_with_dots_find_their_values(self) -> None:
        declared = [Input(id="a.b", type="INT"), Input(id="a.c", type="INT", required=False)]

        assert resolve(*declared, a={"b": "1"}) == {"a": {"b": 1, "c": None}}
        assert resolve(*declared, a={"b": "1"}, **{"a.b": 2}) == {"a": {"b": 2, "c": None}}

    @pytest.mark.parametrize("type", ["INT", "BOOLEAN", "SELECT", "SECRET", "JSON", "DATE"])
    def test_given_an_empty_text_for_what_is_no_text_then_nothing_was_given(self, type: str) -> None:
        values = ["a"] if type == "SELECT" else None

        assert resolve(Input(id="a", type=type, values=values, required=False), a="") == {"a": None}  # type: ignore[arg-type]

    def test_given_no_key_then_a_secret_is_refused(self) -> None:
        declared = [Input(id="a", type="SECRET", required=False)]

        assert resolve_inputs(declared, {"a": "x"}, render) == {"a": "x"}
        assert resolve_inputs(declared, {}, render, can_seal=False) == {"a": None}
        with pytest.raises(InvalidInputError, match=r"^Input 'a': there is no key to keep a SECRET by\."):
            resolve_inputs(declared, {"a": "x"}, render, can_seal=False)

    def test_given_a_text_that_is_no_truth_value_then_it_is_false_with_a_warning(self) -> None:
        told: list[str] = []
        declared = [Input(id=id, type="BOOL", defaults="no") for id in "abcd"]

        values = resolve_inputs(declared, {"a": "yes", "b": "TRUE", "c": False}, render, warn=told.append)

        assert values == {"a": False, "b": True, "c": False, "d": False}
        assert told == ["Input 'a': 'yes' is neither true nor false; it counts as false."]


class TestExamineInputs:
    def test_given_inputs_then_it_is_said_what_became_of_each(self) -> None:
        declared = [
            Input(id="given", type="INT"),
            Input(id="default", type="INT", defaults="2"),
            Input(id="off", type="INT", depends_on=DependsOn(condition="{{ False }}")),
            Input(id="none", type="INT", required=False),
            Input(id="bad", type="INT"),
            Input(id="missing", type="INT"),
            Input(id="odd", type="BOOL"),
        ]

        found = examine_inputs(declared, {"given": "1", "bad": "x", "odd": "1"}, render)

        assert [one.input for one in found] == declared
        assert [(one.value, one.is_enabled, one.is_default, one.errors) for one in found] == [
            (1, True, False, ()),
            (2, True, True, ()),
            (None, False, False, ()),
            (None, True, False, ()),
            (None, True, False, ("'x' is not a whole number",)),
            (None, True, False, ("a value is missing",)),
            (False, True, False, ()),
        ]
        assert found[-1].warnings == ("'1' is neither true nor false; it counts as false",)


class TestWithDefaults:
    def test_given_missing_inputs_then_their_defaults_are_seen(self) -> None:
        declared = [
            Input(id="a", type="INT", defaults="1"),
            Input(id="b.c", type="BOOL", defaults="yes"),
            Input(id="b.d", type="INT", defaults="{{ 1 + 1 }}"),
            Input(id="e", type="INT", defaults="{{ inputs['nothing'] }}"),
            Input(id="f", type="INT"),
        ]
        values: dict[str, object] = {"a": 5, "b": {"x": 1}}

        assert with_defaults(declared, values) == {"a": 5, "b": {"x": 1, "c": True}}
        assert with_defaults(declared, values, render) == {"a": 5, "b": {"x": 1, "c": True, "d": 2}}
        assert values == {"a": 5, "b": {"x": 1}}


class TestInputProblems:
    def test_given_inputs_of_a_pause_then_paths_begin_with_its_property(self) -> None:
        declared = [
            Input(id="a", type="INT", defaults="x"),
            Input(id="a", type="INT"),
            Input(id="b", type="INT", depends_on=DependsOn(inputs=["c"])),
            Input(id="d", type="INT", depends_on=DependsOn(inputs=["d"])),
            Input(id="a.b", type="INT"),
        ]

        assert [(one.code, one.path) for one in input_problems(declared, "onResume")] == [
            ("input.id.duplicate", ("onResume", 1, "id")),
            ("input.id.duplicate", ("onResume", 0, "id")),
            ("input.id.duplicate", ("onResume", 1, "id")),
            ("input.dependsOn.unknown", ("onResume", 2, "dependsOn", "inputs", 0)),
            ("input.dependsOn.cycle", ("onResume", 3, "dependsOn")),
            ("input.defaults", ("onResume", 0, "defaults")),
        ]


class TestDefaultProblems:
    @pytest.mark.parametrize(
        ("declared", "path", "message"),
        [
            (Input(id="a", type="INT", defaults="x"), ("defaults",),
             "The default does not fit: 'x' is not a whole number."),
            (Input(id="a", type="INT", defaults="1", min="2"), ("defaults",),
             "The default does not fit: 1 is less than 2."),
            (Input(id="a", type="INT", min="x"), ("min",), "'min' does not fit: 'x' is not a whole number."),
            (Input(id="a", type="SELECT", values=["b"], defaults="c"), ("defaults",),
             "The default does not fit: 'c' is none of b."),
            (Input(id="a", type="FILE", defaults="/tmp/x"), ("defaults",),
             "The default '/tmp/x' is not a file in internal storage."),
        ],
    )  # fmt: skip
    def test_given_a_default_that_cannot_fit_then_it_is_told(
        self, declared: Input, path: tuple[str, ...], message: str
    ) -> None:
        assert [(one.path, one.message) for one in default_problems(declared)] == [(path, message)]

    @pytest.mark.parametrize(
        "declared",
        [
            Input(id="a", type="INT", defaults="{{ 1 }}"),
            Input(id="a", type="FILE", defaults="nsfile:///a.csv"),
            Input(id="a", type="SECRET", defaults="x"),
            Input(id="a", type="SELECT", expression="{{ x }}", defaults="c"),
            Input(id="a", type="ARRAY", item_type="INT", defaults=[1]),
            Input(id="a", type="ARRAY", item_type="INT", defaults=["{{ 1 }}"]),
            Input(id="a", type="ARRAY", item_type="INT", min="told by the input itself"),
            Input(id="a", type="BOOLEAN", defaults="on"),
            Input(id="a", type="MULTISELECT", values=["a"], options=["a"], defaults=["b"]),
            Input(id="a", type="INT"),
        ],
    )
    def test_given_a_default_that_may_fit_then_nothing_is_told(self, declared: Input) -> None:
        assert list(default_problems(declared)) == []
