"""Executions that web requests start; over HTTP they are tested with the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.errors import ConflictError, DisabledFlowError, InvalidInputError, NotFoundError
from tercel.operations import WebRequest
from tests.flows import CORE, echo, flow
from tests.unit.executor.world import World

HOOK = {"id": "hook", "type": f"{CORE}.trigger.Webhook", "key": "sesame"}
REQUEST = WebRequest(key="sesame", body='{"n": 1}', headers={"x": ["1", "2"]}, parameters={"p": [""]})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def save(world: World, **properties: object) -> None:
    world.do("create_flow", flow(echo("say", "{{ trigger.body.n }}"), id="flow", **{"triggers": [HOOK], **properties}))


class TestStartByRequest:
    def test_given_the_key_then_one_execution_starts_with_what_was_sent(self, world: World) -> None:
        save(world, labels={"team": "a"})

        execution = world.do("start_by_request", "tests", "flow", REQUEST)

        assert execution.trigger == {
            "id": "hook",
            "type": HOOK["type"],
            "variables": {"body": {"n": 1}, "headers": {"x": ["1", "2"]}, "parameters": {"p": [""]}},
        }
        assert execution.labels["team"] == "a"
        assert world.do("get_execution", execution.id).trigger == execution.trigger

    @pytest.mark.parametrize("name", ["flow", "gone"])
    def test_given_another_key_or_no_such_flow_then_the_same_is_told(self, world: World, name: str) -> None:
        save(world)
        request = WebRequest(key="Sesame" if name == "flow" else "sesame")

        with pytest.raises(NotFoundError, match=rf"There is no webhook of tests\.{name} with this key\."):
            world.do("start_by_request", "tests", name, request)

    def test_given_a_key_that_cannot_be_rendered_then_nobody_has_it(self, world: World) -> None:
        save(world, triggers=[{**HOOK, "key": "{{ nothing.there }}"}])

        with pytest.raises(NotFoundError):
            world.do("start_by_request", "tests", "flow", WebRequest(key=""))

    def test_given_a_disabled_flow_or_webhook_then_it_is_refused(self, world: World) -> None:
        save(world, triggers=[{**HOOK, "disabled": True}])
        with pytest.raises(ConflictError, match=r"The webhook 'hook' of tests\.flow is disabled\."):
            world.do("start_by_request", "tests", "flow", REQUEST)

        world.do("update_flow", "tests", "flow", flow(echo("say", "x"), id="flow", triggers=[HOOK], disabled=True))
        with pytest.raises(DisabledFlowError):
            world.do("start_by_request", "tests", "flow", REQUEST)

    def test_given_conditions_that_do_not_hold_or_cannot_be_told_then_none_starts(self, world: World) -> None:
        for expression in ("{{ trigger.body.n == 2 }}", "{{ nothing.there }}"):
            condition = {"type": f"{CORE}.condition.Expression", "expression": expression}
            source = flow(echo("say", "x"), id=f"flow{len(expression)}", triggers=[{**HOOK, "conditions": [condition]}])
            saved = world.do("create_flow", source)

            assert world.do("start_by_request", "tests", saved.id, REQUEST) is None

    def test_given_needed_inputs_then_it_is_refused(self, world: World) -> None:
        save(world, inputs=[{"id": "n", "type": "INT"}])

        with pytest.raises(InvalidInputError, match="Input 'n': a value is missing"):
            world.do("start_by_request", "tests", "flow", REQUEST)
