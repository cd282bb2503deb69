from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest

from tercel.model.source import check_flow
from tercel.model.task import Task
from tests.unit.model.samples import CATALOG, FLOW, HEAD, Colour, Fast, Group, Say, issues, refused, said, say, texts


class TestValues:
    @pytest.mark.parametrize(
        ("line", "attribute", "value"),
        [
            ("short: 012", "short", "012"),
            ("short: 5", "short", "5"),
            ("short: yes", "short", "yes"),
            ("short: 1:30", "short", "1:30"),
            ("loud: true", "loud", True),
            ("loud: 'true'", "loud", True),
            ("loud: off", "loud", False),
            ("soft: no", "soft", False),
            ("soft: '{{ x }}'", "soft", "{{ x }}"),
            ("soft: 'no'", "soft", "no"),
            ("count: 1_000", "count", 1000),
            ("count: -3", "count", -3),
            ("count: '7'", "count", 7),
            ("count: 0x1F", "count", 31),
            ("share: 1", "share", 1.0),
            ("share: 1e-3", "share", 0.001),
            ("share: .5", "share", 0.5),
            ("mode: SLOW", "mode", "SLOW"),
            ("colour: GREEN", "colour", Colour.GREEN),
            ("wait: PT1M", "wait", timedelta(minutes=1)),
            ("wait: 90", "wait", timedelta(seconds=90)),
            ("lasting: pt5m", "lasting", "pt5m"),
            ("lasting: '{{ inputs.t }}'", "lasting", "{{ inputs.t }}"),
            ("at: 2030-01-31T12:00:00Z", "at", datetime(2030, 1, 31, 12, tzinfo=UTC)),
            ("day: 2030-01-31", "day", date(2030, 1, 31)),
            ("clock: 12:30", "clock", time(12, 30)),
            ("data: {a: [1, 2.5, yes, ~, x, 'yes', 0o17, 017, 0b11, .inf, 1:30, 2030-01-01]}", "data", {
                "a": [1, 2.5, True, None, "x", "yes", 15, 15, 3, float("inf"), "1:30", "2030-01-01"]
            }),
            ("data: {1: a, true: b, 2.0: c}", "data", {"1": "a", "true": "b", "2.0": "c"}),
            ("env: {A: 1, B: true, C: 012, D: ''}", "env", {"A": "1", "B": "true", "C": "012", "D": ""}),
            ("words: [a, 1, yes]", "words", ["a", "1", "yes"]),
            ("numberOrText: 5", "number_or_text", 5),
            ("numberOrText: '5'", "number_or_text", "5"),
            ("numberOrText: five", "number_or_text", "five"),
            ("files: {a.txt: hi, b: 1}", "files", {"a.txt": "hi", "b": 1}),
            ("files: '{{ inputs.files }}'", "files", "{{ inputs.files }}"),
            ("marks: {a: 1, b: yes}", "marks", {"a": "1", "b": "yes"}),
            ("marks: [{key: a, value: 1}, {key: a, value: 2}]", "marks", {"a": "1"}),
            ("timerOrColor: PT1S", "timer_or_color", timedelta(seconds=1)),
            ("timerOrColor: RED", "timer_or_color", Colour.RED),
            ("timerOrColor: 1.5", "timer_or_color", 1.5),
            ("wait:", "wait", None),
            ("words: ~", "words", []),
            ("loud: null", "loud", False),
        ],
    )  # fmt: skip
    def test_given_a_value_when_read_then_it_has_the_type_of_the_property(
        self, line: str, attribute: str, value: object
    ) -> None:
        read = getattr(said(line), attribute)

        assert read == value
        assert type(read) is type(value)

    def test_given_either_a_list_or_a_text_when_read_then_both_are_taken(self) -> None:
        assert said().message == "hi"
        checked = check_flow(FLOW + "  - {id: a, type: io.test.Say, message: [x, 1]}\n", CATALOG)
        assert checked.flow is not None
        assert checked.flow.tasks[0] == Say(id="a", type="io.test.Say", message=["x", "1"])

    def test_given_parts_in_parts_when_read_then_they_are_built(self) -> None:
        task = said("options: {size: 1, tags: {a: 1}}", "manyOptions:", "  - size: 2", "  - {size: 3, depth: 4}")

        assert task.options is not None
        assert task.options.tags == {"a": "1"}
        assert [(one.size, one.depth) for one in task.many_options] == [(2, 1), (3, 4)]

    def test_given_a_family_in_a_task_when_read_then_its_type_says_the_class(self) -> None:
        task = said("taskRunner: {type: io.test.old.Fast, cores: 4}")

        assert task.task_runner == Fast(type="io.test.old.Fast", cores=4)

    def test_given_tasks_in_tasks_when_read_then_each_is_of_its_class(self) -> None:
        text = FLOW + (
            "  - id: g\n"
            "    type: io.test.Group\n"
            "    tasks:\n"
            "      - {id: a, type: io.test.Say, message: x}\n"
            "    cases:\n"
            "      one:\n"
            "        - {id: b, type: io.test.Say, message: y}\n"
        )

        flow = check_flow(text, CATALOG).flow

        assert flow is not None
        assert [(type(task), task.id) for task in flow.walk()] == [(Group, "g"), (Say, "a"), (Say, "b")]

    def test_given_anchors_and_merge_keys_when_read_then_the_mapping_has_them(self) -> None:
        text = HEAD + (
            "variables:\n"
            "  base: &base {size: 1, depth: 2}\n"
            "tasks:\n"
            "  - id: a\n"
            "    type: io.test.Say\n"
            "    message: &m hi\n"
            "    options:\n"
            "      <<: *base\n"
            "      depth: 3\n"
            "  - id: b\n"
            "    type: io.test.Say\n"
            "    message: *m\n"
            "    options:\n"
            "      <<: [*base, {tags: {x: y}}]\n"
        )

        flow = check_flow(text, CATALOG).flow

        assert flow is not None
        first, second = flow.tasks
        assert isinstance(first, Say)
        assert isinstance(second, Say)
        assert first.options is not None
        assert second.options is not None
        assert (first.options.size, first.options.depth) == (1, 3)
        assert (second.message, second.options.size, second.options.tags) == ("hi", 1, {"x": "y"})

    def test_given_a_tag_of_yaml_itself_when_read_then_it_counts(self) -> None:
        assert said("data: [!!str 5, !!int '5']").data == ["5", 5]


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "text"),
        [
            ("loud: maybe", "'maybe' is not true or false. Accepted: true, false."),
            (
                "loud: '{{ inputs.x }}'",
                "'{{ inputs.x }}' is not true or false. This property is read before the flow runs, so it cannot be "
                "an expression. Accepted: true, false.",
            ),
            ("count: 1.5", "'1.5' is not a whole number. Accepted: a whole number."),
            ("share: x", "'x' is not a number. Accepted: a number."),
            ("limited: 11", "11 is more than 10. Accepted: a whole number."),
            ("limited: 0", "0 is less than 1. Accepted: a whole number."),
            ("open: 0", "0 is not more than 0. Accepted: a number."),
            ("open: 1", "1 is not less than 1. Accepted: a number."),
            ("mode: fast", "'fast' is none of the values that may stand here. Did you mean FAST? "
             "Accepted: FAST, SLOW."),
            ("colour: BLUE", "'BLUE' is none of the values that may stand here. Accepted: RED, GREEN."),
            ("wait: soon", "'soon' is not a duration. Write it like PT15M, PT1H30M or P1D. "
             "Accepted: a duration such as PT15M."),
            ("lasting: 5 min", "'5 min' is not a duration. Write it like PT15M, PT1H30M or P1D."),
            ("at: 2030-01-31T12:00:00", "'2030-01-31T12:00:00' is not an instant such as 2030-01-31T12:00:00Z. "
             "Accepted: an instant such as 2030-01-31T12:00:00Z."),
            ("at: noon", "'noon' is not an instant such as 2030-01-31T12:00:00Z. "
             "Accepted: an instant such as 2030-01-31T12:00:00Z."),
            ("day: [1]", "A list stands where a date such as 2030-01-31 is expected. "
             "Accepted: a date such as 2030-01-31."),
            ("words: a", "'a' is not a list. Write each item on a line of its own, after '- '. Accepted: a list."),
            ("words: [a, ~]", "Nothing stands here."),
            ("words: {a: b}", "A mapping stands where a list is expected. Accepted: a list."),
            ("few: []", "'few' is empty. Accepted: a list."),
            ("short: ''", "This text is empty."),
            ("short: longer", "This text has 6 characters, more than 5. Shorten it."),
            ("short: [a]", "A list stands where a text is expected."),
            ("env: [a]", "A list stands where a mapping is expected. Accepted: a mapping."),
            ("env: {A: }", "Nothing stands here."),
            ("env: {A: [1]}", "A list stands where a text is expected."),
            ("options: big", "'big' is not a mapping. Accepted: a mapping."),
            ("options: {}", "The property 'size' is missing. Add 'size', a whole number."),
            ("marks: {a: [1]}", "A list stands where a text is expected."),
            ("marks: x", "'x' is not a mapping. Accepted: a mapping."),
            ("marks: [{key: a}]", "The property 'value' is missing. Add 'value', a text."),
            ("marks: [a]", "'a' is not a mapping. Accepted: a mapping."),
            ("files: [a]", "A list stands where a mapping or a text is expected. Accepted: a mapping, a text."),
            ("timerOrColor: {}", "A mapping stands where a duration such as PT15M or RED or GREEN or a number is "
             "expected. Accepted: a duration such as PT15M, RED, GREEN, a number."),
            ("manyOptions: [1]", "'1' is not a mapping. Accepted: a mapping."),
            ("data: !secret x", "The tag !secret means nothing here. Remove the tag."),
            ("taskRunner: fast", "'fast' is not a mapping. Accepted: a mapping."),
            ("taskRunner: {type: io.test.Say}",
             "io.test.Say is a task, and a task runner is expected here. Name a task runner."),
            ("taskRunner: {cores: 1}", "The property 'type' is missing. Add 'type', the full name of a task runner; "
             "`tercel plugin list` shows them."),
        ],
    )  # fmt: skip
    def test_given_a_wrong_value_when_read_then_it_is_said_what_is_accepted(self, line: str, text: str) -> None:
        assert refused(line) == text

    def test_given_a_value_without_quotes_that_is_a_template_then_the_quotes_are_asked_for(self) -> None:
        for line in ("loud: {{ x }}", "data: {{ x }}", "words: {{ x }}", "files: {{ x }}", "words: [a, {{ x }}]"):
            assert refused(line) == (
                "A value that starts with {{ is not in quotes, and YAML takes { for the start of a mapping. "
                'Put the whole value in quotes: "{{ … }}".'
            )

    def test_given_a_colon_that_makes_a_mapping_of_a_text_then_the_quotes_are_asked_for(self) -> None:
        (told,) = issues(say("words:", "  - echo a: b"))

        assert told.text == (
            "Line 8, column 9 (tasks[0].words[0]): A mapping stands where a text is expected. "
            "A ': ' makes a mapping of a text: put the text in quotes."
        )

    def test_given_an_unknown_property_then_the_nearest_and_all_accepted_are_told(self) -> None:
        (told,) = issues(say("options: {siz: 1, size: 1}"))

        assert (told.line, told.column, told.path, told.code) == (7, 15, "tasks[0].options.siz", "property.unknown")
        assert told.message == "Unknown property 'siz'."
        assert told.hint == "Did you mean 'size'?"
        assert told.accepted == ("size", "depth", "tags")

    def test_given_a_snake_case_property_then_the_camel_case_one_is_offered(self) -> None:
        assert refused("log_level: INFO").startswith("Unknown property 'log_level'. Did you mean 'logLevel'?")

    def test_given_a_long_wrong_value_then_it_is_cut(self) -> None:
        assert refused(f"count: {'x' * 100}").startswith(f"'{'x' * 60}…' is not a whole number.")

    def test_given_many_violations_then_all_are_told_in_one_answer(self) -> None:
        text = HEAD + (
            "descripton: x\n"
            "tasks:\n"
            "  - id: a b\n"
            "    type: io.test.Say\n"
            "    mesage: x\n"
            "    loud: maybe\n"
            "  - id: b\n"
            "    type: io.test.Sayy\n"
            "    retry: {type: Constant}\n"
            "    anything: goes\n"
            "  - message: x\n"
        )

        assert [(one.line, one.column, one.path, one.code) for one in issues(text)] == [
            (3, 1, "descripton", "property.unknown"),
            (5, 5, "tasks[0].message", "property.missing"),
            (5, 9, "tasks[0].id", "task.id.pattern"),
            (7, 5, "tasks[0].mesage", "property.unknown"),
            (8, 11, "tasks[0].loud", "property.type"),
            (10, 11, "tasks[1].type", "type.unknown"),
            (11, 19, "tasks[1].retry.type", "property.type"),
            (13, 5, "tasks[2].type", "property.missing"),
            (13, 5, "tasks[2].id", "property.missing"),
        ]

    def test_given_an_alias_to_a_faulty_value_then_it_is_told_once(self) -> None:
        text = FLOW + (
            "  - {id: a, type: io.test.Say, message: x, options: &o {size: big}}\n"
            "  - {id: b, type: io.test.Say, message: x, options: *o}\n"
        )

        assert [one.path for one in issues(text)] == ["tasks[0].options.size"]


class TestTypes:
    def test_given_an_unknown_type_then_the_nearest_is_offered(self) -> None:
        assert texts(FLOW + "  - {id: a, type: io.test.Sayy, whatever: 1}\n") == [
            "Line 4, column 19 (tasks[0].type): No plugin provides the task type io.test.Sayy. "
            "Did you mean io.test.Say?"
        ]

    def test_given_a_type_far_from_all_then_the_command_that_lists_them_is_named(self) -> None:
        assert texts(FLOW + "  - {id: a, type: io.kestra.plugin.solr.Query, bucket: b}\n") == [
            "Line 4, column 19 (tasks[0].type): No plugin provides the task type io.kestra.plugin.solr.Query. "
            "`tercel plugin list` shows every type there is."
        ]

    def test_given_a_bare_name_then_the_full_one_is_offered(self) -> None:
        assert texts(FLOW + "  - {id: a, type: say}\n") == [
            "Line 4, column 19 (tasks[0].type): No plugin provides the task type say. Did you mean io.test.Say?"
        ]

    def test_given_a_type_that_is_no_name_then_that_is_told(self) -> None:
        assert texts(FLOW + "  - {id: a, type: 'io.test Say'}\n") == [
            "Line 4, column 19 (tasks[0].type): 'io.test Say' is not the name of a type. Write the full name, such as "
            "io.kestra.plugin.core.log.Log; `tercel plugin list` shows them."
        ]

    def test_given_a_trigger_of_unknown_type_then_it_is_told(self) -> None:
        text = say() + "triggers:\n  - {id: t, type: io.test.Moon, phase: full}\n"

        assert texts(text) == [
            "Line 8, column 19 (triggers[0].type): No plugin provides the trigger type "
            "io.test.Moon. `tercel plugin list` shows every type there is."
        ]

    def test_given_an_unknown_type_then_tasks_inside_it_are_read_all_the_same(self) -> None:
        text = FLOW + (
            "  - id: a\n"
            "    type: io.test.Grup\n"
            "    tasks:\n"
            "      - {id: a, type: io.test.Say, mesage: x}\n"
            "      - just text\n"
        )

        assert [(one.path, one.code) for one in issues(text)] == [
            ("tasks[0].type", "type.unknown"),
            ("tasks[0].tasks[0].message", "property.missing"),
            ("tasks[0].tasks[0].id", "task.id.duplicate"),
            ("tasks[0].tasks[0].mesage", "property.unknown"),
        ]

    def test_given_a_former_name_of_a_type_then_there_is_a_warning(self) -> None:
        checked = check_flow(FLOW + "  - {id: a, type: io.test.old.Say, message: x}\n", CATALOG)

        assert checked.flow is not None
        assert checked.flow.tasks[0].type == "io.test.old.Say"
        assert [one.text for one in checked.warnings] == [
            "Line 4, column 19 (tasks[0].type): io.test.old.Say is now called io.test.Say."
        ]

    def test_given_what_is_deprecated_then_there_are_warnings(self) -> None:
        text = (
            say("docker: {size: 1}")
            + "  - {id: g, type: io.test.Group, tasks: [{id: b, type: io.test.Say, text: x}]}\n"
        )

        checked = check_flow(text, CATALOG)

        assert checked.flow is not None
        assert [one.text for one in checked.warnings] == [
            "Line 7, column 5 (tasks[0].docker): 'docker' is deprecated. Use taskRunner.",
            "Line 8, column 13 (tasks[1].type): 'type' is deprecated. Use something newer.",
            "Line 8, column 69 (tasks[1].tasks[0].text): 'text' is now called 'message'.",
        ]

    def test_given_both_names_of_a_property_then_the_former_one_is_unknown(self) -> None:
        (told,) = issues(say("text: again"))

        assert told.message == "Unknown property 'text'."


class TestProblems:
    def test_given_a_rule_of_the_part_itself_then_it_is_told_where_it_belongs(self) -> None:
        text = FLOW + (
            "  - id: a\n"
            "    type: io.test.Group\n"
            "  - id: b\n"
            "    type: io.test.Group\n"
            "    errors: [{id: e, type: io.test.Say, message: x}]\n"
            "    tasks:\n"
            "      - {id: c, type: io.test.Group, tasks: [{id: d, type: io.test.Say, message: x}]}\n"
        )

        assert texts(text) == [
            "Line 4, column 5 (tasks[0].tasks): There are no tasks. Add one.",
            "Line 6, column 5 (tasks[1]): Both are given. Choose.",
            "Line 10, column 9 (tasks[1].tasks[0]): c says nothing.",
        ]

    def test_given_a_spot_that_could_not_be_read_then_its_rules_are_silent(self) -> None:
        text = FLOW + (
            "  - id: a\n"
            "    type: io.test.Group\n"
            "    tasks: many\n"
            "  - id: b\n"
            "    type: io.test.Group\n"
            "    tasks: [{id: c, type: io.test.Nothing}, {id: d, type: io.test.Say}]\n"
            "    errors: 5\n"
        )

        assert [(one.path, one.code) for one in issues(text)] == [
            ("tasks[0].tasks", "property.type"),
            ("tasks[1].tasks[0].type", "type.unknown"),
            ("tasks[1].tasks[1].message", "property.missing"),
            ("tasks[1].errors", "property.type"),
        ]

    def test_given_an_unknown_property_only_then_the_rules_are_told_too(self) -> None:
        text = FLOW + "  - {id: a, type: io.test.Group, more: 1}\n"

        assert [one.code for one in issues(text)] == ["group.empty", "property.unknown"]


def test_given_a_task_of_unknown_type_then_the_flow_is_not_given() -> None:
    checked = check_flow(FLOW + "  - {id: a, type: io.test.Nothing}\n", CATALOG)

    assert checked.flow is None
    assert not any(isinstance(issue, Task) for issue in checked.issues)
