from __future__ import annotations

from typing import Any

import pytest

from tercel.machine.topology import Link, linked, links
from tercel.model.condition import FlowName
from tercel.model.flow import Flow
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tests.flows import CORE, Node, echo, flow

A, B, C, D = (FlowName("tests", id) for id in "abcd")
CALLS_B = {"id": "call", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "b"}


def a_flow(id: str, *tasks: Node, **properties: Any) -> Flow:
    return read_flow(flow(*(tasks or (echo("say", "x"),)), id=id, **properties), catalog())


def on(*conditions: Node, **properties: Any) -> list[Node]:
    return [{"id": "on", "type": f"{CORE}.trigger.Flow", "conditions": list(conditions), **properties}]


def condition(type: str, **properties: Any) -> Node:
    return {"type": f"{CORE}.condition.{type}", **properties}


IS_A = condition("ExecutionFlow", namespace="tests", flowId="a")
IS_FAILED = condition("ExecutionStatus", **{"in": ["FAILED"]})


class TestLinks:
    def test_given_a_task_that_starts_a_flow_then_they_are_linked_if_there_is_one(self) -> None:
        flows = [a_flow("a", CALLS_B, {**CALLS_B, "id": "again"}), a_flow("b"), a_flow("c", {**CALLS_B, "flowId": "z"})]

        assert links(flows, [A, B, C]) == [Link(A, B, "FLOW_TASK")]

    def test_given_items_each_with_a_flow_then_they_are_linked(self) -> None:
        items = {**CALLS_B, "type": f"{CORE}.flow.ForEachItem", "items": "{{ x }}", "batch": {"rows": 1}}

        assert links([a_flow("a", items)], [A, B]) == [Link(A, B, "FLOW_TASK")]

    @pytest.mark.parametrize(
        ("triggers", "sources"),
        [
            (on(IS_A), [A]),
            (on(IS_A, IS_FAILED), [A]),
            (on(condition("ExecutionNamespace", namespace="tests")), [A, B, C]),
            (on(condition("ExecutionNamespace", namespace="other")), []),
            (on(condition("Not", conditions=[IS_A])), [B, C]),
            (on(condition("Not", conditions=[IS_FAILED])), [A, B, C]),
            (on(condition("Or", conditions=[IS_A, condition("ExecutionFlow", namespace="tests", flowId="b")])), [A, B]),
            (on(condition("MultipleCondition", id="m", conditions={"one": IS_A})), [A]),
            (on(IS_FAILED), [A, B, C]),
            (on(preconditions={"id": "p", "flows": [{"namespace": "tests", "flowId": "b"}]}), [B]),
            (on(preconditions={"id": "p", "flows": [{"namespace": "tests"}]}), [A, B, C]),
            (
                on(
                    preconditions={
                        "id": "p",
                        "where": [
                            {
                                "id": "w",
                                "filters": [
                                    {"field": "FLOW_ID", "type": "EQUAL_TO", "value": "c"},
                                    {"field": "STATE", "type": "EQUAL_TO", "value": "FAILED"},
                                ],
                            }
                        ],
                    }
                ),
                [C],
            ),
        ],
    )
    def test_given_a_flow_trigger_then_it_follows_the_flows_that_its_conditions_leave(
        self, triggers: list[Node], sources: list[FlowName]
    ) -> None:
        found = links([a_flow("d", triggers=triggers)], [A, B, C, D])

        assert found == [Link(source, D, "FLOW_TRIGGER") for source in sources]


class TestLinked:
    LINKS = (Link(A, B, "FLOW_TASK"), Link(B, C, "FLOW_TRIGGER"), Link(C, D, "FLOW_TASK"), Link(D, C, "FLOW_TASK"))

    def test_given_a_flow_then_only_its_own_links_are_found(self) -> None:
        assert linked(self.LINKS, B) == [*self.LINKS[:2]]

    def test_given_downwards_only_then_what_starts_it_is_left_out(self) -> None:
        assert linked(self.LINKS, B, downwards_only=True) == [self.LINKS[1]]

    def test_given_all_ways_then_circles_are_followed_once(self) -> None:
        assert linked(self.LINKS, B, downwards_only=True, all_ways=True) == [*self.LINKS[1:]]
        assert linked(self.LINKS, D, all_ways=True) == [*self.LINKS]

    def test_given_no_links_then_none_are_found(self) -> None:
        assert linked(self.LINKS, FlowName("tests", "z"), all_ways=True) == []
