from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from tercel.errors import InvariantError
from tercel.model.flow import Flow
from tercel.model.shapes import (
    Anything,
    Either,
    ListOf,
    MapOf,
    Moment,
    Nested,
    Number,
    Text,
    accepted,
    is_family,
    kind_of,
    shape_of,
)
from tercel.model.task import Dynamic, DynamicDuration, Task
from tests.unit.model.samples import Options, Runner, Say


def test_given_a_part_then_its_shape_has_the_names_of_yaml_and_what_must_be_given() -> None:
    shape = shape_of(Say)

    assert shape.fields["taskRunner"].attribute == "task_runner"
    assert [field.name for field in shape.required] == ["id", "type", "message"]
    assert shape.former == {"text": "message"}
    assert shape_of(Say) is shape


def test_given_a_field_that_no_yaml_sets_then_it_is_left_out() -> None:
    assert "source" not in shape_of(Flow).fields
    assert "finally" in shape_of(Flow).fields


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (str | None, Text()),
        (Dynamic | None, Text(is_dynamic=True)),
        (DynamicDuration, Text(is_dynamic=True, is_duration=True)),
        (list[str] | str, Either(kinds=(ListOf(item=Text()), Text()))),
        (dict[str, list[int]], MapOf(value=ListOf(item=Number(is_whole=True)))),
        (tuple[str, ...], ListOf(item=Text())),
        (list, ListOf(item=Anything())),
        (dict, MapOf(value=Anything())),
        (object, Anything()),
        (datetime, Moment(type=datetime)),
        (Options, Nested(part=Options)),
    ],
)
def test_given_an_annotation_then_its_kind_is_known(annotation: object, kind: object) -> None:
    assert kind_of(annotation) == kind


def test_given_an_annotation_that_yaml_cannot_fill_then_the_author_is_told() -> None:
    with pytest.raises(InvariantError, match=r"^Say\.x is annotated with <class 'bytes'>, which no YAML"):
        kind_of(bytes, "Say.x")


def test_given_a_base_of_plugins_then_it_is_a_family_and_its_members_are_not() -> None:
    assert is_family(Task)
    assert is_family(Runner)
    assert not is_family(Say)
    assert not is_family(Options)


def test_given_kinds_then_people_are_told_what_is_accepted() -> None:
    assert accepted(kind_of(int | str | None)) == ("a whole number", "a text")
    assert accepted(kind_of(bool)) == ("true", "false")
    assert accepted(kind_of(object)) == ("any value",)
    assert msgspec.structs.asdict(kind_of(Dynamic))["is_dynamic"] is True
