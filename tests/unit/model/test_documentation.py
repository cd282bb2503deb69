from __future__ import annotations

import pytest

from tercel.model.documentation import Property, kind_text, part_name, parts_inside, properties
from tercel.model.schema import example, example_flow
from tercel.model.shapes import shape_of
from tercel.model.task import Part, Task
from tests.unit.model.samples import Group, Options, Runner, Say

TOLD = {one.name: one for one in properties(Say)}


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("message", "list of texts or text", ""),
        ("loud", "true or false", "false"),
        ("soft", "true or false or text", "false"),
        ("count", "whole number", "0"),
        ("share", "number", "0.5"),
        ("limited", "whole number (at least 1, at most 10)", "1"),
        ("open", "number (more than 0, less than 1)", "0.5"),
        ("mode", "`FAST` or `SLOW`", "FAST"),
        ("colour", "`RED` or `GREEN`", "RED"),
        ("wait", "duration", ""),
        ("lasting", "duration", ""),
        ("at", "instant", ""),
        ("day", "date", ""),
        ("clock", "time of day", ""),
        ("data", "any value", ""),
        ("env", "map of texts", ""),
        ("marks", "labels: a map, or a list of `key` and `value`", ""),
        ("options", "Options", ""),
        ("manyOptions", "list of Options", ""),
        ("taskRunner", "task runner", ""),
    ],
)
def test_given_a_property_then_what_it_takes_is_told(name: str, kind: str, default: str) -> None:
    assert (TOLD[name].kind, TOLD[name].default) == (kind, default)


def test_given_properties_then_those_whose_texts_are_rendered_are_known() -> None:
    rendered = {name for name, one in TOLD.items() if one.is_rendered} - set(shape_of(Task).fields)

    assert rendered == {"message", "soft", "lasting", "data", "files", "marks"}


def test_given_a_required_property_with_a_former_name_then_both_are_told() -> None:
    assert TOLD["message"] == Property(
        "message", "list of texts or text", "", True, True, "what is said, even over two lines. Former name: `text`."
    )
    assert TOLD["docker"].about == "Deprecated: Use taskRunner."


def test_given_what_all_tasks_have_then_it_can_be_left_out() -> None:
    assert [one.name for one in properties(Group, Task)] == ["tasks", "errors", "cases"]
    assert "type" not in TOLD


def test_given_parts_inside_then_they_are_found_once_and_types_are_none() -> None:
    assert parts_inside(Say, Task) == [Options]
    assert part_name(Options) == "Options"
    assert parts_inside(Group, Task) == []
    assert kind_text(shape_of(Say).fields["taskRunner"].kind) == Runner.family


class WithExample(Part, frozen=True, kw_only=True):
    """Has an example.

    Example:
        tasks:
          - id: a

            type: b

    Outputs:
        c: d.
    """


class Heir(WithExample, frozen=True, kw_only=True):
    """Has none."""


def test_given_a_docstring_then_its_example_is_the_body_of_a_flow() -> None:
    assert example(WithExample) == "tasks:\n  - id: a\n\n    type: b\n"
    assert example_flow(WithExample) == ("id: example\nnamespace: company.team\n\ntasks:\n  - id: a\n\n    type: b\n")
    assert (example(Heir), example_flow(Heir)) == ("", "")
