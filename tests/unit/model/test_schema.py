from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tercel.model.catalog import Catalog
from tercel.model.schema import descriptions, flow_schema, outputs, summary, type_schema
from tercel.model.source import check_flow
from tercel.model.task import Task
from tercel.plugins.kv import Get as KvGet
from tests.unit.model.samples import CATALOG, FLOW, Group, Runner, Say, say

SCHEMA: dict[str, Any] = flow_schema(CATALOG)
VALIDATOR = Draft202012Validator(SCHEMA)

RICH = (
    say(
        "count: 5",
        "mode: SLOW",
        "wait: PT1S",
        "short: 5",
        "env: {A: 1}",
        "words: [a]",
        "marks: [{key: a, value: 1}]",
        "options: {size: 1}",
        "taskRunner: {type: io.test.old.Fast, cores: 2}",
        "retry: {type: constant, interval: PT1S}",
    )
    + "  - {id: g, type: io.test.Group, tasks: [{id: b, type: io.test.old.Say, message: [x, y]}]}\n"
    + "inputs: [{name: a, type: INT, defaults: 1}]\n"
    + "pluginDefaults: [{type: io.test, values: {count: 1}}]\n"
    + "labels: {a: b}\n"
    + "variables: {a: {b: [1]}}\n"
)


def test_given_the_schema_then_it_is_one_itself() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["title"] == "Flow"


@pytest.mark.parametrize("text", [say(), RICH])
def test_given_a_valid_flow_then_the_schema_takes_it(text: str) -> None:
    assert check_flow(text, CATALOG).flow is not None

    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "text",
    [
        "namespace: dev\n" + say().partition("\n")[2].partition("\n")[2],
        FLOW.replace("tasks:\n", "tasks: []\n"),
        say("mesage: x"),
        say("count: x"),
        say("count: 1.5"),
        say("limited: 11"),
        say("open: 0"),
        say("mode: fast"),
        say("short: longer"),
        say("options: {}"),
        say("options: {size: 1, more: 2}"),
        say("taskRunner: {type: io.test.Say}"),
        say("taskRunner: {type: io.test.Fast, more: 1}"),
        say("marks: [{key: a}]"),
        say("words: a"),
        say("retry: {type: never}"),
        say().replace("id: a", "id: a.b"),
        say().replace("io.test.Say", "io.test.Sayy"),
        say().replace("    message: hi\n", ""),
        say() + "  - {id: g, type: io.test.Group, tasks: [{id: b, type: io.test.Say}]}\n",
        say() + "inputs: [{type: INT}]\n",
        say() + "inputs: [{id: a, type: int}]\n",
        say() + "concurrency: {limit: 0}\n",
        say() + "triggers: [{id: t, type: io.kestra.plugin.core.trigger.Schedule}]\n",
        say() + "more: 1\n",
    ],
)
def test_given_an_invalid_flow_then_the_schema_refuses_it_as_reading_does(text: str) -> None:
    assert check_flow(text, CATALOG).flow is None

    assert not VALIDATOR.is_valid(yaml.safe_load(text))


class TestWhatEditorsShow:
    def test_given_a_task_then_its_type_completes_present_and_former_names(self) -> None:
        names = SCHEMA["$defs"]["task"]["properties"]["type"]["anyOf"]

        assert names == [
            {"const": "io.test.Group", "description": "Holds tasks.", "deprecated": True},
            {"const": "io.test.Say", "description": "Holds one property of every kind."},
            {"const": "io.test.old.Say", "description": "Former name of io.test.Say.", "deprecated": True},
        ]

    def test_given_a_type_then_its_properties_are_described(self) -> None:
        schema = SCHEMA["$defs"]["io.test.Say"]

        assert schema["description"] == "Holds one property of every kind."
        assert schema["properties"]["message"]["description"] == "what is said, even over two lines."
        assert schema["properties"]["soft"]["description"] == "how."
        assert schema["properties"]["retry"] == {
            "$ref": "#/$defs/Retry",
            "description": "how the task is tried again when it fails.",
        }

    def test_given_what_is_deprecated_then_it_is_marked(self) -> None:
        schema = SCHEMA["$defs"]["io.test.Say"]["properties"]

        assert (schema["docker"]["deprecated"], schema["docker"]["description"]) == (
            True,
            "Deprecated. Use taskRunner.",
        )
        assert (schema["text"]["deprecated"], schema["text"]["description"]) == (True, "Former name of `message`.")
        assert SCHEMA["$defs"]["io.test.Group"]["description"] == "Holds tasks.\n\nDeprecated. Use something newer."
        assert SCHEMA["$defs"]["io.test.Group"]["deprecated"] is True

    def test_given_choices_and_defaults_then_they_are_listed(self) -> None:
        schema = SCHEMA["$defs"]["io.test.Say"]["properties"]

        assert schema["mode"] == {"enum": ["FAST", "SLOW"], "default": "FAST"}
        assert schema["colour"] == {"enum": ["RED", "GREEN"], "default": "RED"}
        assert schema["limited"] == {"type": "integer", "minimum": 1, "maximum": 10, "default": 1}
        assert "default" not in schema["words"]


class TestTypeSchema:
    def test_given_a_type_alone_then_tasks_inside_may_be_anything(self) -> None:
        validator = Draft202012Validator(type_schema(Group))

        assert validator.is_valid({"id": "g", "type": "io.test.Group", "tasks": [{"id": "a", "type": "x.Y", "z": 1}]})
        assert not validator.is_valid({"id": "g", "type": "io.test.Say", "tasks": []})
        assert not validator.is_valid({"id": "g", "type": "io.test.Group", "tasks": [{"id": "a"}]})

    def test_given_the_catalog_then_tasks_inside_are_checked(self) -> None:
        validator = Draft202012Validator(type_schema(Group, CATALOG))

        assert not validator.is_valid({"id": "g", "type": "io.test.Group", "tasks": [{"id": "a", "type": "x.Y"}]})

    def test_given_a_family_then_any_of_its_types_fits(self) -> None:
        validator = Draft202012Validator(type_schema(Task, CATALOG))

        assert validator.is_valid({"id": "a", "type": "io.test.Say", "message": "x"})
        assert not validator.is_valid({"id": "a", "type": "io.test.Say", "mesage": "x"})
        assert not validator.is_valid({"id": "a", "type": "io.test.Unknown"})

    def test_given_a_catalog_with_a_broken_module_then_it_is_left_out(self) -> None:
        catalog = Catalog({"io.test.Say": "tests.unit.model.samples", "io.broken.X": "no.such.module"})

        names = flow_schema(catalog)["$defs"]

        assert isinstance(names, dict)
        assert "io.test.Say" in names
        assert "io.broken.X" not in names


def test_given_docstrings_then_their_sections_are_told_apart() -> None:
    assert summary(Say) == "Holds one property of every kind."
    assert summary(Runner) == "A family of its own."
    assert descriptions(Say)["loud"] == "how."
    assert descriptions(Say)["id"] == descriptions(Task)["id"]
    assert outputs(KvGet) == {"value": "the value, with its type; null where there is none."}
    assert outputs(Runner) == {}
