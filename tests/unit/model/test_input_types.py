from __future__ import annotations

import pytest

from tercel.model.input_types import DependsOn, Input, dependency_problems, own_properties
from tercel.model.source import check_flow
from tests.unit.model.samples import CATALOG, issues, say


def read(*lines: str) -> Input:
    checked = check_flow(say() + "inputs:\n" + "".join(f"  - {line}\n" for line in lines), CATALOG)
    assert checked.flow is not None, [issue.text for issue in checked.issues]
    return checked.flow.inputs[0]


def told(*lines: str) -> list[tuple[str, str, str]]:
    found = issues(say() + "inputs:\n" + "".join(f"  - {line}\n" for line in lines))
    return [(issue.path.removeprefix("inputs[0]."), issue.code, issue.message) for issue in found]


def test_given_the_older_form_then_name_is_the_id_and_there_is_a_warning() -> None:
    text = say() + "inputs:\n  - name: attempts\n    type: INT\n    defaults: 10\n"

    checked = check_flow(text, CATALOG)

    assert checked.flow is not None
    assert (checked.flow.inputs[0].id, checked.flow.inputs[0].defaults) == ("attempts", "10")
    assert [one.text for one in checked.warnings] == [
        "Line 8, column 5 (inputs[0].name): 'name' is now called 'id'."
    ]  # fmt: skip


def test_given_both_names_then_the_id_counts_and_the_name_is_kept() -> None:
    declared = read("{id: a, name: b, type: INT}")

    assert (declared.id, declared.name) == ("a", "b")


def test_given_defaults_then_a_scalar_keeps_its_source_text() -> None:
    assert read("{id: a, type: STRING, defaults: 1.10}").defaults == "1.10"
    assert read("{id: a, type: STRING, defaults: 012}").defaults == "012"
    assert read("{id: a, type: JSON, defaults: {a: 1}}").defaults == {"a": 1}
    assert read("{id: a, type: STRING, defaults: }").defaults is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{type: INT}", ("id", "property.missing", "The property 'id' is missing.")),
        ("{id: a}", ("type", "property.missing", "The property 'type' is missing.")),
        ("{id: a, type: int}", ("type", "property.type", "'int' is none of the values that may stand here.")),
        ("{id: a b, type: INT}", ("id", "input.id.pattern", "'a b' is not allowed here.")),
        ("{id: a, type: INT, validator: x}",
         ("validator", "property.unknown", "An input of type INT has no property 'validator'.")),
        ("{id: a, type: INT, values: [a]}",
         ("values", "property.unknown", "An input of type INT has no property 'values'.")),
        ("{id: a, type: STRING, allowCustomValue: true}",
         ("allowCustomValue", "property.unknown", "An input of type STRING has no property 'allowCustomValue'.")),
        ("{id: a, type: STRING, validator: '['}",
         ("validator", "input.regex",
          "The validator is not a regular expression: unterminated character set at position 0.")),
        ("{id: a, type: SELECT}", ("values", "input.values", "An input of type SELECT needs values to choose from.")),
        ("{id: a, type: SELECT, values: [b, '*']}",
         ("values[1]", "input.regex", "'*' is not a regular expression: nothing to repeat at position 0.")),
        ("{id: a, type: MULTISELECT, options: ['(']}",
         ("options[0]", "input.regex",
          "'(' is not a regular expression: missing ), unterminated subpattern at position 0.")),
        ("{id: a, type: MULTISELECT, values: [a], itemType: ARRAY}",
         ("itemType", "input.array.itemType", "The items of a MULTISELECT cannot be lists.")),
        ("{id: a, type: JSON, defaults: [], validator: x}",
         ("validator", "property.unknown", "An input of type JSON has no property 'validator'.")),
        ("{id: a, type: ARRAY, itemType: INT, min: 1}",
         ("min", "property.unknown", "An input of type ARRAY has no property 'min'.")),
        ("{id: a, type: INT, min: x}", ("min", "property.type", "'min' does not fit: 'x' is not a whole number.")),
        ("{id: a, type: ARRAY}",
         ("itemType", "input.array.itemType", "An input of type ARRAY needs an 'itemType' other than ARRAY.")),
        ("{id: a, type: ARRAY, itemType: ARRAY}",
         ("itemType", "input.array.itemType", "An input of type ARRAY needs an 'itemType' other than ARRAY.")),
        (f"{{id: a, type: INT, displayName: {'x' * 65}}}",
         ("displayName", "input.displayName.length", "This text has 65 characters, more than 64.")),
        ("{id: a, type: FILE, defaults: /tmp/x}",
         ("defaults", "input.file.defaults", "The default '/tmp/x' is not a file in internal storage.")),
    ],
)  # fmt: skip
def test_given_a_faulty_declaration_then_it_is_refused(line: str, expected: tuple[str, str, str]) -> None:
    assert told(line) == [expected]


def test_given_a_type_then_its_properties_are_told() -> None:
    assert {"id", "displayName", "min", "max"} <= own_properties("INT")
    assert "values" not in own_properties("INT")
    assert {"values", "allowCustomValue"} <= own_properties("SELECT")


class TestDependencies:
    def test_given_an_input_that_does_not_exist_then_it_is_told(self) -> None:
        (problem,) = dependency_problems([Input(id="a", type="INT", depends_on=DependsOn(inputs=["b"]))])

        assert (problem.code, problem.path) == ("input.dependsOn.unknown", ("inputs", 0, "dependsOn", "inputs", 0))
        assert problem.message == "The input 'a' depends on 'b', which is no input of the flow."

    def test_given_a_circle_then_it_is_written_out(self) -> None:
        needs = {"a": [], "b": ["a", "c"], "c": ["d"], "d": ["b"]}
        declared = [Input(id=id, type="INT", depends_on=DependsOn(inputs=on)) for id, on in needs.items()]

        (problem,) = dependency_problems(declared)

        assert (problem.code, problem.path) == ("input.dependsOn.cycle", ("inputs", 1, "dependsOn"))
        assert problem.message == "The inputs depend on each other in a circle: b → c → d → b."

    def test_given_many_that_share_what_they_need_then_there_is_no_circle(self) -> None:
        needs = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
        declared = [Input(id=id, type="INT", depends_on=DependsOn(inputs=on)) for id, on in needs.items()]

        assert list(dependency_problems(declared)) == []

    def test_given_an_id_that_is_a_value_and_a_map_then_it_is_told(self) -> None:
        (problem,) = dependency_problems([Input(id="a.b", type="INT"), Input(id="a", type="INT")])

        assert problem.message == "The input 'a' cannot be a value and hold other inputs ('a.…') as well."
        assert problem.path == ("inputs", 1, "id")
