"""Flows and executions as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tercel.api.answers import disposition
from tercel.api.flow_outlines import outline
from tercel.api.shapes import (
    execution_json,
    find_task_json,
    flow_for_execution_json,
    flow_json,
    state_json,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.source import read_flow
from tercel.model.state import State, StateChange
from tercel.plugins import catalog
from tercel.store import FlowRevision
from tests.flows import echo, flow

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=90)


def saved(source: str, *, deleted: bool = False) -> FlowRevision:
    return FlowRevision(namespace="n", id="f", revision=3, source=source, created_at=NOON, deleted=deleted)


def history(*states: State) -> tuple[StateChange, ...]:
    return tuple(StateChange(state, NOON + timedelta(seconds=at)) for at, state in enumerate(states))


class TestFlow:
    def test_given_a_text_then_it_is_the_flow_with_what_is_known_besides(self) -> None:
        source = "id: f\nnamespace: n\nlabels: {a: 1}\ndescription:\ntasks: [{id: t, type: x, format: 012}]\n"

        assert flow_json(saved(source)) == {
            "id": "f",
            "namespace": "n",
            "labels": [{"key": "a", "value": "1"}],
            "tasks": [{"id": "t", "type": "x", "format": 10}],
            "revision": 3,
            "disabled": False,
            "deleted": False,
            "draft": False,
            "updated": "2030-01-01T12:00:00.000Z",
        }
        assert flow_json(saved(source), with_source=True)["source"] == source

    def test_given_texts_that_read_like_other_values_then_they_are_as_they_are_written(self) -> None:
        source = """\
id: f
namespace: n
description: 010
labels: {a: yes, n: 1.10}
variables: {id: 1, labels: {a: yes}}
inputs: [{id: 7, type: SELECT, values: [yes, no]}]
tasks:
  - {id: 1, type: io.kestra.plugin.core.flow.Parallel, disabled: no, tasks: [{id: on, type: x, labels: {q: off}}]}
triggers: [{id: off, type: y, labels: [{key: 1, value: 2.0}]}]
"""

        found = flow_json(saved(source))

        assert found["description"] == "010"
        assert found["labels"] == [{"key": "a", "value": "yes"}, {"key": "n", "value": "1.10"}]
        assert found["variables"] == {"id": 1, "labels": {"a": True}}
        assert found["inputs"] == [{"id": "7", "type": "SELECT", "values": ["yes", "no"]}]
        assert found["triggers"] == [{"id": "off", "type": "y", "labels": [{"key": "1", "value": "2.0"}]}]
        assert (find_task_json(found, "1") or {})["disabled"] is False
        assert find_task_json(found, "on") == {"id": "on", "type": "x", "labels": {"q": "off"}}
        assert outline(saved(source)).labels == {"a": "yes", "n": "1.10"}

    def test_given_a_text_that_cannot_be_read_then_it_says_so(self) -> None:
        found = flow_json(saved("a: [", deleted=True))

        assert found["tasks"] == []
        assert found["deleted"]
        assert found["exception"]

    def test_given_a_task_inside_another_then_it_is_found_and_triggers_are_not(self) -> None:
        source = flow(
            {"id": "if", "type": "If", "condition": "x", "then": [echo("deep", "x")]},
            triggers=[{"id": "clock", "type": "Schedule"}],
        )
        found = flow_json(saved(source))

        assert (find_task_json(found, "deep") or {})["id"] == "deep"
        assert find_task_json(found, "clock") is None

    def test_given_who_may_only_start_it_then_no_properties_of_tasks_are_told(self) -> None:
        read = read_flow(
            flow(echo("a", "secret"), namespace="n", id="f", inputs=[{"id": "i", "type": "STRING"}]), catalog()
        )

        found = flow_for_execution_json(read)

        assert found["tasks"] == [{"id": "a", "type": echo("a", "x")["type"]}]
        assert found["inputs"] == [{"id": "i", "type": "STRING"}]
        assert "triggers" not in found


class TestExecution:
    execution = Execution(
        id="e",
        namespace="n",
        flow_id="f",
        revision=3,
        history=history(State.CREATED, State.RUNNING, State.SUCCESS),
        inputs={"for": timedelta(days=1)},
        labels={"a": "b"},
        trigger={"id": "t", "type": "x", "variables": {"executionId": "p"}, "taskRunId": "r", "fence": 2, "number": 0},
    )

    def test_given_an_execution_then_it_has_what_clients_need(self) -> None:
        found = execution_json(self.execution, [], LATER)

        assert found["originalId"] == "e"
        assert found["deleted"] is False
        assert found["inputs"] == {"for": "PT24H"}
        assert found["trigger"] == {"id": "t", "type": "x", "variables": {"executionId": "p"}}
        assert found["state"]["current"] == "SUCCESS"  # pyright: ignore[reportIndexIssue]
        assert not found.keys() & {"outputs", "variables", "taskRunList", "parentId", "scheduleDate"}

    def test_given_task_runs_then_they_are_listed_with_their_flow(self) -> None:
        run = TaskRun(id="r", execution_id="e", task_id="t", history=history(State.CREATED), outputs={"x": 1})

        [found] = execution_json(self.execution, [run], LATER)["taskRunList"]  # pyright: ignore[reportGeneralTypeIssues]

        assert (found["namespace"], found["flowId"], found["outputs"]) == ("n", "f", {"x": 1})
        assert found["state"]["duration"] == "PT1M30S"


class TestState:
    def test_given_one_that_has_just_begun_then_its_duration_goes_on(self) -> None:
        found = state_json(history(State.CREATED), LATER)

        assert found["duration"] == "PT1M30S"
        assert "endDate" not in found

    def test_given_a_pause_then_its_end_is_told(self) -> None:
        found = state_json(history(State.CREATED, State.RUNNING, State.PAUSED), LATER)

        assert found["endDate"] == "2030-01-01T12:00:02.000Z"
        assert found["duration"] == "PT2S"


def test_given_any_name_of_a_file_then_the_header_holds_it() -> None:
    assert disposition('a"b\r\n.txt') == "attachment; filename=\"a_b__.txt\"; filename*=UTF-8''a%22b%0D%0A.txt"
    assert disposition("ä.txt").endswith("filename*=UTF-8''%C3%A4.txt")
