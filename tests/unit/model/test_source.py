from __future__ import annotations

import subprocess
import sys
from time import process_time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import InvalidFlowError
from tercel.model.flow import PluginDefault
from tercel.model.source import check_flow, check_flows, check_stored, read_flow, read_flows
from tests.unit.model.samples import CATALOG, FLOW, HEAD, issues, say, texts


class TestReadFlow:
    def test_given_a_flow_then_it_is_read_with_its_source(self) -> None:
        text = say()

        flow = read_flow(text, CATALOG)

        assert (flow.id, flow.namespace, flow.revision, flow.source) == ("hello", "dev", 1, text)

    def test_given_one_fault_then_the_error_says_it(self) -> None:
        with pytest.raises(InvalidFlowError) as caught:
            read_flow(say("loud: 5"), CATALOG)

        assert caught.value.message == (
            "The flow is not valid. Line 7, column 11 (tasks[0].loud): '5' is not true or false. Accepted: true, false."
        )
        assert [issue.code for issue in caught.value.issues if hasattr(issue, "code")] == ["property.type"]

    def test_given_several_faults_then_the_error_lists_them(self) -> None:
        with pytest.raises(InvalidFlowError) as caught:
            read_flow(say("loud: 5", "count: x"), CATALOG)

        assert caught.value.message == (
            "The flow is not valid, for 2 reasons:\n"
            "  Line 7, column 11 (tasks[0].loud): '5' is not true or false. Accepted: true, false.\n"
            "  Line 8, column 12 (tasks[0].count): 'x' is not a whole number. Accepted: a whole number."
        )


class TestCheckFlow:
    def test_given_a_text_that_is_no_mapping_then_that_is_told(self) -> None:
        assert texts("- a\n") == [
            "Line 1, column 1: A flow is a mapping. Begin with `id: …`, `namespace: …` and `tasks:`."
        ]
        assert texts("hello\n") == texts("- a\n")

    def test_given_an_empty_mapping_then_all_that_is_needed_is_told(self) -> None:
        assert texts("{}") == [
            "Line 1, column 1 (id): The property 'id' is missing. Add 'id', a text.",
            "Line 1, column 1 (namespace): The property 'namespace' is missing. Add 'namespace', a text.",
            "Line 1, column 1 (tasks): The property 'tasks' is missing. Add 'tasks', a list.",
        ]

    def test_given_an_error_in_the_yaml_then_it_is_the_only_issue(self) -> None:
        assert texts(HEAD + "tasks:\n\t- id: a\n") == [
            "Line 4, column 1: This line is indented with a tab. YAML allows only spaces there: replace the tab with "
            "spaces."
        ]

    def test_given_issues_then_they_are_in_the_order_of_the_text(self) -> None:
        found = issues("zzz: 1\n" + say("loud: 5").replace("id: hello", "id: a b"))

        assert [issue.line for issue in found] == [1, 2, 8]

    def test_given_ten_tasks_then_reading_takes_not_much_longer_than_their_yaml_alone(self) -> None:
        text = FLOW + "".join(
            f"  - id: t{n}\n    type: io.test.Say\n    message: hello\n    timeout: PT5M\n    env: {{A: b}}\n"
            "    retry:\n      type: constant\n      interval: PT1S\n      maxAttempts: 3\n"
            for n in range(10)
        )

        # In turns: on a busy machine both take longer.
        pairs = [(_seconds(text), _seconds_of_yaml(text)) for _ in range(20)]

        fastest, floor = (min(each) for each in zip(*pairs, strict=True))
        assert fastest <= 2.5 * floor


class TestRevisionLine:
    @pytest.mark.parametrize("line", ["revision: 7", "revision: 7  # ours", "'revision': 7", "revision : 7\r"])
    def test_given_one_then_it_is_no_part_of_the_source(self, line: str) -> None:
        for text in (f"{line}\n{say()}", f"{say()}{line}", HEAD + f"{line}\n" + say().removeprefix(HEAD)):
            assert read_flow(text, CATALOG).source == say()

    @pytest.mark.parametrize(
        "text",
        [
            say("data:", "  revision: 7"),
            say("message2: x").replace("message2: x", "data: |-\n      revision: 7"),
            "{id: hello, namespace: dev, revision: 7, tasks: [{id: a, type: io.test.Say, message: x}]}",
            say() + "revision:\n  7\n",
        ],
    )
    def test_given_a_revision_elsewhere_or_not_on_its_own_line_then_it_stays(self, text: str) -> None:
        assert read_flow(text, CATALOG).source == text

    def test_given_no_revision_that_there_can_be_then_it_is_refused(self) -> None:
        assert texts(say() + "revision: 0\n") == [
            "Line 7, column 11 (revision): 0 is less than 1. Accepted: a whole number."
        ]  # fmt: skip


class TestDocuments:
    def test_given_several_then_each_is_a_flow_with_its_own_source(self) -> None:
        one, two = say(), say("count: 5").replace("hello", "bye")

        for text in (f"{one}---\n{two}", f"# first\n---\n{one}---\n\n---\n{two}---\n# end\n"):
            assert [(flow.id, flow.source) for flow in read_flows(text, CATALOG)] == [("hello", one), ("bye", two)]

    def test_given_one_then_its_source_is_the_text(self) -> None:
        text = f"# a comment\n{say()}"

        assert [flow.source for flow in read_flows(text, CATALOG)] == [text]
        assert [flow.source for flow in read_flows(f"---\n{text}", CATALOG)] == [text]

    def test_given_a_document_that_begins_on_the_line_of_the_mark_then_it_is_read(self) -> None:
        text = "%YAML 1.2\n--- # first\n" + say() + "--- {id: b, namespace: n, tasks: [{id: a, type: io.test.Group}]}"

        first, second = check_flows(text, CATALOG)

        assert first.flow is not None
        assert first.flow.source == "--- # first\n" + say()
        assert [issue.code for issue in second.issues] == ["group.empty"]

    def test_given_issues_then_their_lines_are_those_of_the_whole_text(self) -> None:
        text = f"{say()}---\n{say('loud: 5', 'text: x')}---\na: [\n"

        every = check_flows(text, CATALOG)

        assert [[issue.line for issue in checked.issues] for checked in every] == [[], [14, 15], [18]]
        with pytest.raises(InvalidFlowError, match=r"^The flow is not valid, for 3 reasons:\n  Line 14,"):
            read_flows(text, CATALOG)

    @pytest.mark.parametrize("text", ["", "---\n", "# nothing\n---\n---\n"])
    def test_given_none_then_that_is_told(self, text: str) -> None:
        (checked,) = check_flows(text, CATALOG)

        assert [issue.message for issue in checked.issues] == ["The text is empty."]

    def test_given_a_mark_inside_of_a_text_that_is_indented_then_it_parts_nothing(self) -> None:
        text = say("data: |", "  ---", "  x")

        assert len(read_flows(text, CATALOG)) == 1


class TestCheckStored:
    def test_given_a_valid_flow_then_it_is_read(self) -> None:
        checked = check_stored(say(), CATALOG, [PluginDefault(type="io.test", values={"count": 5})])

        assert checked.flow is not None
        assert checked.flow.tasks == read_flow(say("count: 5"), CATALOG).tasks
        assert checked.issues == ()

    def test_given_a_type_that_is_gone_then_there_are_only_issues(self) -> None:
        checked = check_stored(say().replace("io.test.Say", "io.test.Gone"), CATALOG)

        assert checked.flow is None
        assert [issue.code for issue in checked.issues] == ["type.unknown"]

    def test_given_defaults_that_no_longer_fit_then_the_flow_is_read_without_any(self) -> None:
        text = say() + "pluginDefaults: [{type: io.test, values: {loud: true}}]\n"

        checked = check_stored(text, CATALOG, [PluginDefault(type="io.test", values={"count": "many"})])

        assert checked.flow is not None
        assert checked.flow.tasks == read_flow(say(), CATALOG).tasks
        assert [issue.path for issue in checked.issues] == ["tasks[0].count"]


KEYS = ("id", "namespace", "tasks", "type", "message", "errors", "inputs", "labels", "pluginDefaults", "values", "x")
KEYS += ("retry", "interval", "dependsOn", "options", "size", "taskRunner", "cases", "triggers", "name", "defaults")
KEYS += (
    "listeners",
    "sla",
    "conditions",
    "assert",
    "duration",
    "itemType",
    "min",
    "after",
    "validator",
    "key",
    "value",
)
LEAVES = (
    "ARRAY",
    "MULTISELECT",
    "MAX_DURATION",
    "io.test.Never",
    "system.x",
    "[",
    "a",
    "io.test.Say",
    "io.test.Group",
    "io.test",
    "io.test.Fast",
    "INT",
    "SELECT",
    "1",
    "",
    "{{ x }}",
    "PT1S",
)
VALUES = st.recursive(
    st.sampled_from(LEAVES) | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=10))
def test_given_anything_in_yaml_then_it_is_read_or_refused_with_reasons(value: dict[str, object]) -> None:
    checked = check_flow(yaml.safe_dump(value), CATALOG)

    stored = check_stored(yaml.safe_dump(value), CATALOG, [PluginDefault(type="io.test", values={"count": "x"})])

    assert (checked.flow is None) == bool(checked.issues)
    assert stored.flow is not None or stored.issues
    assert all(issue.text and issue.line >= 1 and issue.column >= 1 for issue in checked.issues)


def test_given_pyyaml_without_its_fast_parser_then_flows_are_read_all_the_same() -> None:
    script = (
        "import sys\n"
        "sys.modules['yaml._yaml'] = None\n"
        "from tercel.model.source import check_flow\n"
        "from tests.unit.model.samples import CATALOG, say\n"
        "print(check_flow(say('env: {A: 012}'), CATALOG).flow.tasks[0].env)\n"
        "print(check_flow('a:\\n\\t- b\\n', CATALOG).issues[0].text)\n"
        "print(check_flow(say('loud: {{ x }}'), CATALOG).issues[0].code)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == (
        "{'A': '012'}\n"
        "Line 2, column 1: This line is indented with a tab. YAML allows only spaces there: replace the tab with "
        "spaces.\n"
        "yaml.template\n"
    )


def _seconds(text: str) -> float:
    began = process_time()
    assert check_flow(text, CATALOG).flow is not None
    return process_time() - began


def _seconds_of_yaml(text: str) -> float:
    began = process_time()
    yaml.load(text, yaml.CSafeLoader)
    return process_time() - began


def test_given_a_valid_flow_then_nothing_slow_is_imported() -> None:
    script = (
        "import sys\n"
        "sys.modules['typing_extensions'] = None  # where it is installed, msgspec imports it and with it inspect\n"
        "from tercel.model.catalog import Catalog\n"
        "from tercel.model.source import check_flow\n"
        "check_flow('id: a', Catalog({}))\n"
        "slow = ('inspect', 'difflib', 'jsonschema', 'dataclasses', 'logging')\n"
        "print([name for name in slow if name in sys.modules])\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
