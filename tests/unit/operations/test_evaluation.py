from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tercel.errors import NotFoundError
from tests.flows import Node, echo, for_each
from tests.unit.executor.world import WAIT_S, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def ran(world: World, *tasks: Node) -> str:
    """An execution that has ended, of which a task's output names the task and the loop's value."""
    world.add_flow(*tasks)
    return world.start().wait(WAIT_S).id


class TestTryExpression:
    def test_given_an_execution_then_its_outputs_are_seen(self, world: World) -> None:
        execution_id = ran(world, echo("say", "x"))

        found = world.do("try_expression", execution_id, "{{ outputs.say.value }} {{ flow.id }}")

        assert (found.result, found.error) == ("say:None flow", "")

    def test_given_a_task_run_then_what_is_its_own_is_seen(self, world: World) -> None:
        execution_id = ran(world, for_each("each", ["a", "b"], echo("say", "x")))
        [run] = [run for run in world.do("task_runs", execution_id) if run.value == "b"]

        found = world.do("try_expression", execution_id, "{{ taskrun.value }} {{ task.id }}", run.id)

        assert found.result == "b say"

    def test_given_an_expression_that_fails_then_it_is_told_why(self, world: World) -> None:
        execution_id = ran(world, echo("say", "x"))

        found = world.do("try_expression", execution_id, "{{ outputs.none.value }}")

        assert found.result is None
        assert "none" in found.error
        assert found.kind == "MissingError"

    def test_given_half_a_character_then_the_text_can_be_sent(self, world: World) -> None:
        execution_id = ran(world, echo("say", "x"))

        found = world.do("try_expression", execution_id, r"""{{ fromIon('"a\ud800b \ud83d\ude00"') }}""")

        assert found.result == "a\ufffdb \U0001f600"

    def test_given_no_such_execution_or_task_run_then_it_is_told(self, world: World) -> None:
        execution_id = ran(world, echo("say", "x"))

        with pytest.raises(NotFoundError, match="has no task run gone"):
            world.do("try_expression", execution_id, "x", "gone")
        with pytest.raises(NotFoundError):
            world.do("try_expression", "gone", "x")
