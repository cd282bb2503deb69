from __future__ import annotations

from datetime import timedelta

import pytest

from tercel.cli.reaching import meant_task_run
from tercel.cli.standing import has_timer, is_at_work, is_held
from tercel.errors import UserError
from tercel.machine import compile_flow
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tests.builders import NOON, a_task_run, an_execution
from tests.flows import CORE, echo, flow, sequential

INDEX = compile_flow(
    read_flow(
        flow(
            sequential("around", {"id": "wait", "type": f"{CORE}.flow.Pause"}, echo("say", "x")),
            {"id": "call", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "other"},
        ),
        catalog(),
    )
)
LATER = NOON + timedelta(hours=1)


class TestIsAtWork:
    def test_given_a_pause_inside_a_flowable_then_nothing_is(self) -> None:
        runs = [a_task_run("around", "CREATED", "RUNNING"), a_task_run("wait", "CREATED", "RUNNING", "PAUSED")]

        assert not is_at_work(an_execution("CREATED", "RUNNING", "PAUSED"), runs, INDEX)

    @pytest.mark.parametrize("state", ["CREATED", "RUNNING", "KILLING", "RESTARTED"])
    def test_given_a_task_beside_it_then_somebody_is(self, state: str) -> None:
        runs = [a_task_run("wait", "PAUSED"), a_task_run("say", state)]

        assert is_at_work(an_execution("PAUSED"), runs, INDEX)

    @pytest.mark.parametrize(("started", "expected"), [(1, True), (2, False)])
    def test_given_a_subflow_then_it_is_until_all_its_executions_are_made(self, started: int, expected: bool) -> None:
        runs = [a_task_run("call", "CREATED", "RUNNING", plan={"started": started, "total": 2})]

        assert is_at_work(an_execution("RUNNING"), runs, INDEX) is expected

    def test_given_none_has_begun_then_it_depends_on_what_it_waits_for(self) -> None:
        assert is_at_work(an_execution("CREATED"), [], INDEX)
        assert not is_at_work(an_execution("CREATED", due=LATER), [], INDEX)
        assert not is_at_work(an_execution("CREATED", "QUEUED"), [], INDEX)
        assert is_at_work(an_execution("CREATED", "RUNNING"), [], INDEX)


class TestHasTimer:
    def test_given_a_time_then_it_has(self) -> None:
        assert has_timer(an_execution("PAUSED"), [a_task_run("wait", "PAUSED", due=LATER)])
        assert has_timer(an_execution("CREATED", due=LATER), [])
        assert not has_timer(an_execution("PAUSED"), [a_task_run("wait", "PAUSED")])

    def test_given_it_is_held_by_hand_then_times_are_kept(self) -> None:
        retrying = [a_task_run("say", "CREATED", "RUNNING", "RETRYING", due=LATER)]

        assert is_held(an_execution("PAUSED"), retrying)
        assert not has_timer(an_execution("PAUSED"), retrying)


class TestMeantTaskRun:
    RUNS = (
        a_task_run("say", "SUCCESS", id="1", value="a", iteration=0),
        a_task_run("say", "PAUSED", id="2", value="b", iteration=1),
        a_task_run("call", "SUCCESS", id="3"),
    )

    def test_given_an_id_or_a_task_with_one_run_then_it_is_that(self) -> None:
        assert meant_task_run(self.RUNS, "2", "e").id == "2"
        assert meant_task_run(self.RUNS, "call", "e").id == "3"

    def test_given_several_then_the_states_decide_or_the_choices_are_told(self) -> None:
        assert meant_task_run(self.RUNS, "say", "e", among=["PAUSED"]).id == "2"
        with pytest.raises(UserError) as refused:
            meant_task_run(self.RUNS, "say", "e")

        assert refused.value.message == "The task 'say' has 2 task runs in the execution e."
        assert refused.value.hint == (
            "Give the id of one of them:\n  1  value a, iteration 0  SUCCESS\n  2  value b, iteration 1  PAUSED"
        )

    def test_given_none_then_the_tasks_are_told(self) -> None:
        with pytest.raises(UserError) as refused:
            meant_task_run(self.RUNS, "other", "e")

        assert str(refused.value) == "The execution e has no task run 'other'. Its tasks are: say, call."
