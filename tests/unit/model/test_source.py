from __future__ import annotations

import subprocess
import sys
from time import process_time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import InvalidFlowError
from tercel.model.source import check_flow, read_flow
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

    def test_given_a_property_that_is_not_supported_yet_then_it_is_said_so(self) -> None:
        text = say() + "listeners: []\nsla: []\n"

        assert texts(text) == [
            "Line 7, column 1 (listeners): Tercel does not support 'listeners' yet. Remove it.",
            "Line 8, column 1 (sla): Tercel does not support 'sla' yet. Remove it.",
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


KEYS = ("id", "namespace", "tasks", "type", "message", "errors", "inputs", "labels", "pluginDefaults", "values", "x")
KEYS += ("retry", "interval", "dependsOn", "options", "size", "taskRunner", "cases", "triggers", "name", "defaults")
LEAVES = ("a", "io.test.Say", "io.test.Group", "io.test", "io.test.Fast", "INT", "SELECT", "1", "", "{{ x }}", "PT1S")
VALUES = st.recursive(
    st.sampled_from(LEAVES) | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=10))
def test_given_anything_in_yaml_then_it_is_read_or_refused_with_reasons(value: dict[str, object]) -> None:
    checked = check_flow(yaml.safe_dump(value), CATALOG)

    assert (checked.flow is None) == bool(checked.issues)
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
