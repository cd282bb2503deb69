from __future__ import annotations

from tercel.model.flow import PluginDefault
from tercel.model.issue import Issue
from tercel.model.source import check_flow
from tercel.model.task import Task
from tests.unit.model.samples import CATALOG, HEAD, Fast, Say, texts


def read(defaults: str, *tasks: str, key: str = "pluginDefaults") -> list[Task]:
    """The tasks of a flow with these plugin defaults."""
    text = f"{HEAD}{key}:\n{defaults}tasks:\n" + "".join(f"  - {task}\n" for task in tasks)
    checked = check_flow(text, CATALOG)
    assert checked.flow is not None, [issue.text for issue in checked.issues]
    return checked.flow.tasks


def read_one(defaults: str, properties: str = "", key: str = "pluginDefaults", type: str = "io.test.Say") -> Say:
    (task,) = read(defaults, f"{{id: a, type: {type}, message: hi{properties}}}", key=key)
    assert isinstance(task, Say)
    return task


def test_given_a_default_when_the_property_is_absent_then_it_counts() -> None:
    defaults = "  - {type: io.test.Say, values: {count: 5, mode: SLOW}}\n"

    assert read_one(defaults, ", count: 1") == Say(id="a", type="io.test.Say", message="hi", count=1, mode="SLOW")


def test_given_the_beginning_of_a_type_then_all_its_types_are_meant() -> None:
    defaults = "  - {type: io.test, values: {allowFailure: true}}\n"

    first, second = read(
        defaults, "{id: a, type: io.test.Say, message: x}", "{id: g, type: io.test.Group, tasks: [{id: b, type: "
        "io.test.Say, message: y}]}",
    )  # fmt: skip

    assert first.allow_failure
    assert second.allow_failure
    assert [child.allow_failure for child in second.children()] == [True]


def test_given_a_former_name_on_either_side_then_it_is_the_same_type() -> None:
    assert read_one("  - {type: io.test.old.Say, values: {count: 5}}\n").count == 5
    assert read_one("  - {type: io.test.Say, values: {count: 5}}\n", type="io.test.old.Say").count == 5


def test_given_the_former_name_of_the_property_then_it_counts() -> None:
    assert read_one("  - {type: io.test.Say, values: {count: 5}}\n", key="taskDefaults").count == 5


def test_given_several_defaults_then_the_first_wins_and_of_forced_ones_the_last() -> None:
    defaults = "  - {type: io.test.Say, values: {count: 1}}\n  - {type: io.test, values: {count: 2}}\n"
    assert read_one(defaults).count == 1

    forced = "".join(f"  - {{type: io.test.Say, forced: true, values: {{count: {n}}}}}\n" for n in (1, 2))
    assert read_one(forced, ", count: 9").count == 2


def test_given_maps_then_they_are_merged_deeply_and_lists_are_not() -> None:
    defaults = "  - {type: io.test.Say, values: {options: {size: 1, tags: {a: x, b: x}}, words: [x], env: {A: x}}}\n"

    task = read_one(defaults, ", options: {tags: {b: y, c: y}, depth: 7}, words: [y]")

    assert task.options is not None
    assert (task.options.size, task.options.depth, task.options.tags) == (1, 7, {"a": "x", "b": "y", "c": "y"})
    assert task.words == ["y"]
    assert task.env == {"A": "x"}


def test_given_a_forced_map_then_it_wins_key_by_key() -> None:
    defaults = "  - {type: io.test.Say, forced: true, values: {options: {size: 1}}}\n"

    task = read_one(defaults, ", options: {size: 2, depth: 3}")

    assert task.options is not None
    assert (task.options.size, task.options.depth) == (1, 3)


def test_given_defaults_of_a_task_runner_then_they_reach_one_that_defaults_brought() -> None:
    defaults = (
        "  - {type: io.test.Say, values: {taskRunner: {type: io.test.Fast}}}\n"
        "  - {type: io.test.Fast, values: {cores: 8}}\n"
    )

    assert read_one(defaults).task_runner == Fast(type="io.test.Fast", cores=8)
    assert read_one(defaults, ", taskRunner: {type: io.test.Fast, cores: 2}").task_runner == Fast(
        type="io.test.Fast", cores=2
    )


def test_given_a_property_that_one_of_several_types_lacks_then_it_is_ignored_there() -> None:
    defaults = "  - {type: io.test, values: {count: 5, nowhere: 1, options: {size: 1, nothing: 2}}}\n"

    task = read_one(defaults)

    assert task.count == 5


class TestFaults:
    def test_given_a_wrong_value_then_it_is_told_once_and_where_it_stands(self) -> None:
        text = HEAD + (
            "pluginDefaults:\n"
            "  - type: io.test.Say\n"
            "    values:\n"
            "      count: many\n"
            "tasks:\n"
            "  - {id: a, type: io.test.Say, message: x}\n"
            "  - {id: b, type: io.test.Say, message: x}\n"
        )

        assert texts(text) == [
            "Line 6, column 14 (tasks[0].count): 'many' is not a whole number. Accepted: a whole number."
        ]

    def test_given_a_property_that_the_exact_type_lacks_then_it_is_refused(self) -> None:
        text = HEAD + (
            "pluginDefaults:\n"
            "  - {type: io.test.old.Fast, values: {core: 1, image: x}}\n"
            "tasks:\n"
            "  - {id: a, type: io.test.Say, message: x}\n"
        )

        assert texts(text) == [
            "Line 4, column 39 (pluginDefaults[0].values.core): io.test.old.Fast has no property 'core'. "
            "Did you mean 'cores'? Accepted: type, cores, image."
        ]

    def test_given_faulty_defaults_then_each_fault_is_told(self) -> None:
        text = HEAD + (
            "pluginDefaults:\n"
            "  - {type: io.test.Say}\n"
            "  - {values: {count: 1}}\n"
            "  - {type: io.test.Say, values: {count: }}\n"
            "  - {type: io.test.Say, values: [1]}\n"
            "  - none\n"
            "tasks:\n"
            "  - {id: a, type: io.test.Say, message: x}\n"
        )

        assert told(text) == [
            ("pluginDefaults[0].values", "pluginDefault.values", "The property 'values' is missing."),
            ("pluginDefaults[1].type", "property.missing", "The property 'type' is missing."),
            ("pluginDefaults[2].values.count", "pluginDefault.values", "The default of 'count' has no value."),
            ("pluginDefaults[3].values", "pluginDefault.values", "A list stands where a mapping is expected."),
            ("pluginDefaults[4]", "property.type", "'none' is not a mapping."),
        ]

    def test_given_defaults_under_both_names_then_the_former_one_is_refused(self) -> None:
        text = HEAD + (
            "pluginDefaults: []\n"
            "taskDefaults: []\n"
            "tasks:\n"
            "  - {id: a, type: io.test.Say, message: x}\n"
        )  # fmt: skip

        assert [(path, code) for path, code, _ in told(text)] == [("taskDefaults", "property.unknown")]


def told(text: str) -> list[tuple[str, str, str]]:
    found: tuple[Issue, ...] = check_flow(text, CATALOG).issues
    return [(issue.path, issue.code, issue.message) for issue in found]


class TestFreeValues:
    """Every mapping with a `type` gets the defaults of the text that stands there."""

    def test_given_mappings_in_a_free_value_then_they_get_defaults_at_any_depth(self) -> None:
        defaults = "  - {type: my, values: {a: 1, b: {c: 2}}}\n"

        task = read_one(defaults, ", data: {type: my.kind, b: {d: 3}, list: [{type: my2}, {type: other}, {a: 5}]}")

        assert task.data == {
            "type": "my.kind",
            "a": 1,
            "b": {"d": 3, "c": 2},
            "list": [{"type": "my2", "a": 1, "b": {"c": 2}}, {"type": "other"}, {"a": 5}],
        }

    def test_given_a_part_that_is_no_plugin_then_it_gets_defaults_by_its_type(self) -> None:
        text = HEAD + (
            "pluginDefaults: [{type: INT, values: {required: false}}]\n"
            "inputs: [{id: i, type: INT}, {id: s, type: STRING}]\n"
            "tasks: [{id: a, type: io.test.Say, message: x}]\n"
        )

        checked = check_flow(text, CATALOG)

        assert checked.flow is not None
        assert [one.required for one in checked.flow.inputs] == [False, True]

    def test_given_defaults_then_they_are_not_put_into_themselves(self) -> None:
        text = HEAD + (
            "pluginDefaults: [{type: io.test, values: {values: {x: 1}, data: {type: io.test.x}}}]\n"
            "tasks: [{id: a, type: io.test.Say, message: x}]\n"
        )

        checked = check_flow(text, CATALOG)

        assert checked.flow is not None
        assert checked.flow.plugin_defaults[0].values == {"values": {"x": 1}, "data": {"type": "io.test.x"}}


class TestGlobalDefaults:
    TEXT = HEAD + (
        "pluginDefaults: [{type: io.test.Say, values: {count: 1, options: {size: 1}}}]\n"
        "tasks: [{id: a, type: io.test.Say, message: x, loud: true}]\n"
    )

    def read(self, *global_defaults: PluginDefault, text: str = TEXT) -> Say:
        checked = check_flow(text, CATALOG, global_defaults)
        assert checked.flow is not None, [issue.text for issue in checked.issues]
        (task,) = checked.flow.tasks
        assert isinstance(task, Say)
        return task

    def test_given_some_then_they_count_less_than_those_of_the_flow(self) -> None:
        values: dict[str, object] = {"count": 9, "loud": False, "share": 0.25, "options": {"size": 9, "depth": 9}}
        values |= {"words": ["yes", "1"], "data": {"a": None, "b": True, "c": 1.5}, "short": "012"}

        task = self.read(PluginDefault(type="io.test", values=values))

        assert (task.count, task.loud, task.share, task.words, task.short) == (1, True, 0.25, ["yes", "1"], "012")
        assert task.options is not None
        assert (task.options.size, task.options.depth) == (1, 9)
        assert task.data == {"a": None, "b": True, "c": 1.5}

    def test_given_several_sources_then_the_first_counts_and_of_forced_ones_the_last(self) -> None:
        near = PluginDefault(type="io.test.Say", values={"share": 0.1, "mode": "SLOW"})
        far = PluginDefault(type="io.test.Say", values={"share": 0.2, "colour": "GREEN"})

        task = self.read(near, far)
        assert (task.share, task.mode, task.colour) == (0.1, "SLOW", "GREEN")

        forced = [PluginDefault(type="io.test.Say", values={"count": n, "loud": False}, forced=True) for n in (7, 8)]
        text = self.TEXT.replace("Say, values: {count: 1", "Say, forced: true, values: {count: 1")
        task = self.read(*forced, text=text)
        assert (task.count, task.loud) == (8, False)

    def test_given_a_property_that_the_type_lacks_then_it_is_ignored(self) -> None:
        assert self.read(PluginDefault(type="io.test.Say", values={"nothing": 1, "options": {"none": 1}})).count == 1

    def test_given_a_value_that_does_not_fit_then_it_is_told_at_the_task(self) -> None:
        found = check_flow(self.TEXT, CATALOG, [PluginDefault(type="io.test.Say", values={"share": "half"})]).issues

        assert [issue.text for issue in found] == [
            "Line 4, column 9 (tasks[0].share): 'half' is not a number. It comes from the plugin defaults of tercel's "
            "settings. Accepted: a number."
        ]
