from __future__ import annotations

from datetime import timedelta

import pytest

from tercel.model.flow import by_id
from tercel.model.source import check_flow, read_flow
from tests.unit.model.samples import CATALOG, FLOW, HEAD, Never, Say, issues, say


def told(text: str) -> list[tuple[str, str, str]]:
    return [(issue.path, issue.code, issue.message) for issue in issues(text)]


class TestIds:
    @pytest.mark.parametrize("name", ["a", "A.b_c-1", "0", "x" * 100])
    def test_given_a_fitting_id_then_it_is_taken(self, name: str) -> None:
        assert read_flow(say().replace("hello", name), CATALOG).id == name

    @pytest.mark.parametrize(
        ("name", "code"),
        [("-a", "pattern"), ("a b", "pattern"), ("'a\n\n'", "pattern"), ("é", "pattern"), ("x" * 101, "length")],
    )
    def test_given_an_id_that_does_not_fit_then_it_is_refused(self, name: str, code: str) -> None:
        assert [(path, code) for path, code, _ in told(say().replace("hello", name))] == [("id", f"flow.id.{code}")]

    @pytest.mark.parametrize(
        ("name", "code"), [("Dev", "pattern"), (".a", "pattern"), ("a/b", "pattern"), ("x" * 151, "length")]
    )
    def test_given_a_namespace_that_does_not_fit_then_it_is_refused(self, name: str, code: str) -> None:
        text = say().replace("dev", name)

        assert [(path, code) for path, code, _ in told(text)] == [("namespace", f"flow.namespace.{code}")]


class TestTasks:
    @pytest.mark.parametrize("text", [HEAD + "tasks: []\n", HEAD, HEAD + "tasks:\n"])
    def test_given_no_tasks_then_the_flow_is_refused(self, text: str) -> None:
        assert [(path, code) for path, code, _ in told(text)] == [("tasks", "flow.tasks.empty")]

    def test_given_an_id_twice_in_whatever_branches_then_it_is_refused(self) -> None:
        text = FLOW + (
            "  - {id: a, type: io.test.Group, tasks: [{id: b, type: io.test.Say, message: x}]}\n"
            "errors:\n"
            "  - {id: a, type: io.test.Say, message: x}\n"
            "finally:\n"
            "  - {id: b, type: io.test.Say, message: x}\n"
            "afterExecution:\n"
            "  - {id: c, type: io.test.Say, message: x}\n"
        )

        assert told(text) == [
            ("errors[0].id", "task.id.duplicate", "The task id 'a' is used already, on line 4."),
            ("finally[0].id", "task.id.duplicate", "The task id 'b' is used already, on line 4."),
        ]

    def test_given_one_task_twice_by_an_anchor_then_its_id_is_twice_there(self) -> None:
        text = FLOW + "  - &a {id: a, type: io.test.Say, message: x}\n  - *a\n"

        assert told(text) == [("tasks[1].id", "task.id.duplicate", "The task id 'a' is used already, on line 4.")]

    def test_given_a_trigger_id_twice_then_it_is_refused_but_a_task_may_share_it(self) -> None:
        text = say() + "triggers:\n" + "  - {id: a, type: io.x.T}\n" * 2

        assert [(path, code) for path, code, _ in told(text)] == [
            ("triggers[0].type", "type.unknown"),
            ("triggers[1].id", "trigger.id.duplicate"),
            ("triggers[1].type", "type.unknown"),
        ]

    def test_given_branches_then_walking_sees_parents_before_children(self) -> None:
        text = FLOW + (
            "  - {id: g, type: io.test.Group, tasks: [{id: a, type: io.test.Say, message: x}]}\n"
            "  - {id: b, type: io.test.Say, message: x}\n"
            "errors:\n"
            "  - {id: e, type: io.test.Say, message: x}\n"
            "finally:\n"
            "  - {id: f, type: io.test.Say, message: x}\n"
        )

        flow = read_flow(text, CATALOG)

        assert [task.id for task in flow.walk()] == ["g", "a", "b", "e", "f"]
        assert isinstance(by_id(flow)["f"], Say)

    def test_given_listeners_then_their_tasks_are_walked_and_their_ids_are_checked(self) -> None:
        text = say() + (
            "afterExecution: [{id: b, type: io.test.Say, message: x}]\n"
            "listeners:\n"
            "  - description: text\n"
            "    conditions: [{type: io.test.Never}]\n"
            "    tasks: [{id: g, type: io.test.Group, tasks: [{id: c, type: io.test.Say, message: x}]}]\n"
            "  - tasks: [{id: d, type: io.test.Say, message: x}]\n"
        )

        flow = read_flow(text, CATALOG)

        assert [task.id for task in flow.walk()] == ["a", "b", "g", "c", "d"]
        assert isinstance(flow.listeners[0].conditions[0], Never)
        assert told(text.replace("id: d", "id: c")) == [
            ("listeners[1].tasks[0].id", "task.id.duplicate", "The task id 'c' is used already, on line 11.")
        ]
        assert [one.text for one in check_flow(text, CATALOG).warnings if one.path == "listeners"] == [
            "Line 8, column 1 (listeners): 'listeners' is deprecated. Use `afterExecution`, or another flow with a "
            "Flow trigger."
        ]


class TestLabels:
    def test_given_labels_in_either_form_then_they_are_read(self) -> None:
        assert read_flow(say() + "labels: {a: 1, b: yes}\n", CATALOG).labels == {"a": "1", "b": "yes"}
        assert read_flow(say() + "labels:\n  - key: a\n    value: 1\n", CATALOG).labels == {"a": "1"}

    def test_given_a_reserved_label_then_it_is_refused(self) -> None:
        text = say() + "labels: {system.readOnly: true, system.other: x}\n"

        assert told(text) == [
            (
                "labels.system.other",
                "label.system",
                "The label 'system.other' is reserved: tercel itself sets labels that begin with 'system.'.",
            )
        ]


class TestOtherProperties:
    def test_given_all_of_them_then_they_are_read(self) -> None:
        text = say() + (
            "revision: 7\n"
            "description: text\n"
            "variables: {a: {b: 1}, c: '{{ x }}'}\n"
            "outputs: [{id: o.p, type: INT, value: '{{ 1 }}'}]\n"
            "concurrency: {limit: 2, behavior: FAIL}\n"
            "retry: {type: constant, interval: PT1S, maxAttempt: 3}\n"
            "disabled: true\n"
            "tenantId: main\n"
            "sla:\n"
            "  - {id: time, type: MAX_DURATION, behavior: CANCEL, duration: PT8H, labels: {sla: missed}}\n"
            "  - {id: holds, type: EXECUTION_ASSERTION, behavior: NONE, assert: '{{ outputs.a.value }}'}\n"
        )

        flow = read_flow(text, CATALOG)

        assert flow.variables == {"a": {"b": 1}, "c": "{{ x }}"}
        assert (flow.outputs[0].id, flow.outputs[0].value) == ("o.p", "{{ 1 }}")
        assert flow.concurrency is not None
        assert (flow.concurrency.limit, flow.concurrency.behavior) == (2, "FAIL")
        assert flow.retry is not None
        assert flow.retry.attempts == 3
        assert (flow.revision, flow.disabled, flow.description, flow.tenant_id) == (7, True, "text", "main")
        assert [(one.id, one.duration, one.assertion, one.behavior, one.labels) for one in flow.sla] == [
            ("time", timedelta(hours=8), None, "CANCEL", {"sla": "missed"}),
            ("holds", None, "{{ outputs.a.value }}", "NONE", {}),
        ]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("concurrency: {}", ("concurrency.limit", "concurrency.limit", "The property 'limit' is missing.")),
            ("concurrency: {limit: 0}", ("concurrency.limit", "concurrency.limit", "0 is not more than 0.")),
            ("tenantId: Main", ("tenantId", "flow.tenantId.pattern", "'Main' is not allowed here.")),
            ("listeners: [{tasks: []}]", ("listeners[0].tasks", "listener.tasks.empty", "'tasks' is empty.")),
            ("listeners: [{}]", ("listeners[0].tasks", "listener.tasks.empty", "The property 'tasks' is missing.")),
            ("listeners: [{task: 1, tasks: [{id: b, type: io.test.Say, message: x}]}]",
             ("listeners[0].task", "property.unknown", "Unknown property 'task'.")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: FAIL}]",
             ("sla[0].duration", "property.missing", "An SLA of type MAX_DURATION needs 'duration'.")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: FAIL, duration: PT0S}]",
             ("sla[0].duration", "sla.duration", "'duration' is not longer than nothing.")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: FAIL, duration: PT1S, assert: x}]",
             ("sla[0].assert", "property.unknown", "An SLA of type MAX_DURATION has no property 'assert'.")),
            ("sla: [{id: a, type: EXECUTION_ASSERTION, behavior: FAIL}]",
             ("sla[0].assert", "property.missing", "An SLA of type EXECUTION_ASSERTION needs 'assert'.")),
            ("sla: [{id: a, type: EXECUTION_ASSERTION, behavior: FAIL, duration: PT1S, assert: x}]",
             ("sla[0].duration", "property.unknown", "An SLA of type EXECUTION_ASSERTION has no property 'duration'.")),
            ("sla: [{id: a, type: MAX_DURATION, duration: PT1S}]",
             ("sla[0].behavior", "property.missing", "The property 'behavior' is missing.")),
            ("sla: [{id: a.b, type: MAX_DURATION, behavior: NONE, duration: PT1S}]",
             ("sla[0].id", "sla.id.pattern", "'a.b' is not allowed here.")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: NONE, duration: PT1S}, "
             "{id: a, type: EXECUTION_ASSERTION, behavior: NONE, assert: x}]",
             ("sla[1].id", "sla.id.duplicate", "The sla id 'a' is used already, by sla[0].")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: NONE, duration: PT1S, labels: {system.readOnly: true}}]",
             ("sla[0].labels.system.readOnly", "label.system", "The label 'system.readOnly' is reserved: tercel itself "
              "sets labels that begin with 'system.'.")),
            ("sla: [{id: a, type: MAX_DURATION, behavior: NONE, duration: PT1S, labels: [{key: system.x, value: y}]}]",
             ("sla[0].labels.system.x", "label.system", "The label 'system.x' is reserved: tercel itself sets labels "
              "that begin with 'system.'.")),
            ("outputs: [{id: a, type: INT}]",
             ("outputs[0].value", "property.missing", "The property 'value' is missing.")),
            ("outputs: [{id: a, type: INT, value: 1}, {id: a, type: INT, value: 1}]",
             ("outputs[1].id", "output.id.duplicate", "The output id 'a' is used already, by outputs[0].")),
            ("outputs: [{id: -, type: INT, value: 1}]",
             ("outputs[0].id", "output.id.pattern", "'-' is not allowed here.")),
            ("source: x", ("source", "property.unknown", "Unknown property 'source'.")),
            ("inputs: [{id: a, type: INT}, {id: a, type: INT}]",
             ("inputs[1].id", "input.id.duplicate", "The input id 'a' is used already, by inputs[0].")),
            ("inputs: [{id: a, type: INT, defaults: x}]",
             ("inputs[0].defaults", "input.defaults", "The default does not fit: 'x' is not a whole number.")),
        ],
    )  # fmt: skip
    def test_given_a_fault_then_it_is_refused(self, line: str, expected: tuple[str, str, str]) -> None:
        assert told(say() + line + "\n") == [expected]
