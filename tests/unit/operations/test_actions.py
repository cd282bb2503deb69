from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import InvalidInputError, NotFoundError, UserError
from tercel.model import Execution, LogEntry, State
from tercel.model.task import LogLevel
from tercel.storage import execution_path
from tercel.store import run
from tests.flows import CORE, Node, echo, fail, local_files
from tests.unit.executor.world import WAIT_S, World, now, until

STATES = "SUCCESS, WARNING, FAILED, KILLED, CANCELLED"


def pause(id: str = "wait", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Pause", **properties}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.consume()
    yield world
    world.close()


def ended(world: World, *tasks: Node, **properties: Any) -> Execution:
    """An execution of a flow that needs no worker, at its end."""
    world.add_flow(*tasks, **properties)
    return world.start().wait(WAIT_S)


class TestKill:
    def test_given_it_runs_then_it_is_killed(self, world: World) -> None:
        world.add_flow(local_files("a"))
        end = world.start()
        job = world.job(0)

        world.do("kill", "execution")
        world.finish(job, "KILLED")

        assert end.wait(WAIT_S).state is State.KILLED

    def test_given_it_has_ended_then_it_stays_as_it_is(self, world: World) -> None:
        ended(world, echo("a", "x"))

        world.do("kill", "execution")

        assert world.state() == "SUCCESS"

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("kill", "gone")


class TestTakeOver:
    @pytest.fixture
    def taken_over(self, world: World) -> list[str]:
        taken: list[str] = []
        world.operations.take_over = taken.extend
        return taken

    def test_given_a_server_then_what_is_at_work_elsewhere_is_taken_over_before_anything_is_done_to_it(
        self, world: World, taken_over: list[str]
    ) -> None:
        ended(world, echo("a", "x"))

        world.do("kill", "execution")
        world.do("set_labels", "execution", {"a": "b"})
        world.do("kill_all", ["execution", "gone"])
        with pytest.raises(NotFoundError):
            world.do("pause", "gone")

        assert taken_over == ["execution", "execution", "execution", "gone", "gone"]

    def test_given_it_runs_here_then_it_stays_where_it_is(self, world: World, taken_over: list[str]) -> None:
        world.add_flow(local_files("a"))
        end = world.start()
        job = world.job(0)

        world.do("pause", "execution")
        world.do("resume", "execution")
        world.do("kill_all", ["execution"])
        world.finish(job, "KILLED")

        assert end.wait(WAIT_S).state is State.KILLED
        assert taken_over == []


class TestPause:
    def test_given_it_runs_then_nothing_more_starts_until_it_is_resumed(self, world: World) -> None:
        world.add_flow(local_files("a"), local_files("b"))
        end = world.start()
        job = world.job(0)

        assert world.do("pause", "execution").state is State.PAUSED
        world.finish(job)
        assert len(world.jobs) == 1
        assert world.do("resume", "execution").state is State.RUNNING
        world.finish(world.job(1))

        assert end.wait(WAIT_S).state is State.SUCCESS

    def test_given_it_has_ended_then_it_is_refused(self, world: World) -> None:
        ended(world, echo("a", "x"))

        with pytest.raises(UserError) as refused:
            world.do("pause", "execution")

        assert refused.value.message == "The execution execution cannot be paused: it is SUCCESS."
        assert refused.value.hint == (
            "Only one in RUNNING or RETRYING can be, and only by the process that it belongs to."
        )

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("pause", "gone")


class TestAnotherProcess:
    @pytest.mark.parametrize("verb", ["pause", "force_run", "resume"])
    def test_given_an_execution_of_another_process_then_it_is_refused_and_stays_as_it_is(
        self, world: World, tmp_path: Path, verb: str
    ) -> None:
        world.add_flow(local_files("a"))
        ended = world.start()
        other = World(tmp_path, owner="other")

        with pytest.raises(UserError, match=r"cannot be .*: it is RUNNING\."):
            other.do(verb, "execution")
        other.close()
        world.finish(world.job(0))

        assert ended.wait(WAIT_S).state is State.SUCCESS


class TestResume:
    ASKS = [{"id": "reason", "type": "STRING"}, {"id": "count", "type": "INT", "defaults": 3}]

    def test_given_what_it_asks_for_then_it_goes_on_with_that(self, world: World) -> None:
        world.add_flow(pause(onResume=self.ASKS), echo("a", "x"))
        end = world.start()

        execution = world.do("resume", "execution", {"reason": "ok"})

        assert execution.id == "execution"
        assert end.wait(WAIT_S).state is State.SUCCESS
        assert world.runs()["wait"].outputs == {"onResume": {"reason": "ok", "count": 3}}

    def test_given_inputs_that_do_not_fit_then_each_is_named_and_it_waits_on(self, world: World) -> None:
        world.add_flow(pause(onResume=self.ASKS))
        world.start()

        with pytest.raises(InvalidInputError) as refused:
            world.do("resume", "execution", {"count": "many"})

        assert "reason" in str(refused.value)
        assert "count" in str(refused.value)
        assert world.state() == "PAUSED"

    def test_given_inputs_that_nobody_asked_for_then_they_are_ignored(self, world: World) -> None:
        world.add_flow(pause())
        end = world.start()

        world.do("resume", "execution", {"more": "x"})

        assert end.wait(WAIT_S).state is State.SUCCESS
        assert world.runs()["wait"].outputs == {"onResume": {}}

    def test_given_nothing_is_asked_for_then_there_are_no_outputs(self, world: World) -> None:
        world.add_flow(pause())
        end = world.start()

        world.do("resume", "execution")

        end.wait(WAIT_S)
        assert world.runs()["wait"].outputs == {}

    def test_given_two_that_pause_then_the_one_that_is_named_goes_on(self, world: World) -> None:
        both = {"id": "p", "type": f"{CORE}.flow.Parallel", "tasks": [pause("one"), pause("two", onResume=self.ASKS)]}
        world.add_flow(both)
        world.start()

        execution = world.do("resume", "execution", {"reason": "ok"}, task_run_id=world.runs()["two"].id)

        assert execution.state is State.PAUSED
        assert world.states() == {"p": "RUNNING", "one": "PAUSED", "two": "SUCCESS"}

    def test_given_a_task_run_that_does_not_pause_then_it_is_refused(self, world: World) -> None:
        world.add_flow({"id": "p", "type": f"{CORE}.flow.Parallel", "tasks": [pause(), local_files("a")]})
        world.start()

        with pytest.raises(UserError, match=r"The execution execution cannot be resumed: it is PAUSED\."):
            world.do("resume", "execution", task_run_id=world.runs()["a"].id)

    def test_given_it_is_not_paused_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()

        with pytest.raises(UserError) as refused:
            world.do("resume", "execution")

        assert refused.value.message == "The execution execution cannot be resumed: it is RUNNING."
        assert refused.value.hint == "Only one in PAUSED can be, and only by the process that it belongs to."

    def test_given_a_secret_input_then_it_is_kept_from_the_log(self, world: World) -> None:
        world.add_flow(pause(onResume=[{"id": "token", "type": "SECRET"}]))
        end = world.start()

        world.do("resume", "execution", {"token": "s3cret"})

        end.wait(WAIT_S)
        assert world.secrets == ["s3cret"]


class TestCheckResume:
    def test_given_inputs_then_what_is_wrong_with_them_is_told_and_nothing_changes(self, world: World) -> None:
        world.add_flow(pause(onResume=TestResume.ASKS))
        world.start()

        world.do("check_resume", "execution", {"reason": "ok"})
        with pytest.raises(InvalidInputError, match="reason"):
            world.do("check_resume", "execution", {})

        assert world.state() == "PAUSED"


class TestForceRun:
    def test_given_it_waits_for_its_date_then_it_starts(self, world: World) -> None:
        flow = world.add_flow(local_files("a"))
        execution = world.do("start", flow, schedule_date=now() + timedelta(hours=1))

        assert world.do("force_run", execution.id).state is State.RUNNING

    def test_given_it_pauses_then_it_goes_on(self, world: World) -> None:
        world.add_flow(pause(), local_files("a"))
        world.start()

        assert world.do("force_run", "execution").state is State.RUNNING

    def test_given_it_waits_for_nothing_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()

        with pytest.raises(UserError) as refused:
            world.do("force_run", "execution")

        assert refused.value.message == "The execution execution cannot be forced to run: it is RUNNING."
        assert refused.value.hint == (
            "Only one in CREATED, QUEUED or PAUSED can be, and only by the process that it belongs to."
        )


class TestSetLabels:
    @pytest.mark.parametrize("task", [echo("a", "x"), local_files("a")])
    def test_given_labels_then_they_are_merged_at_any_time(self, world: World, task: Node) -> None:
        world.add_flow(task)
        world.start()
        world.do("set_labels", "execution", {"a": "1", "b": "1"})

        execution = world.do("set_labels", "execution", {"b": "2"})

        assert execution.labels == {"a": "1", "b": "2"}

    def test_given_the_same_again_then_that_is_fine(self, world: World) -> None:
        ended(world, echo("a", "x"))
        world.do("set_labels", "execution", {"a": "1"})

        assert world.do("set_labels", "execution", {"a": "1"}).labels == {"a": "1"}

    def test_given_one_of_our_own_then_it_is_refused(self, world: World) -> None:
        ended(world, echo("a", "x"))

        with pytest.raises(InvalidInputError) as refused:
            world.do("set_labels", "execution", {"a": "1", "system.x": "1"})

        assert refused.value.message == (
            "The label 'system.x' is reserved: tercel itself sets labels that begin with 'system.'."
        )
        assert world.get().labels == {}

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("set_labels", "gone", {})


class TestChangeStatus:
    def test_given_an_end_then_it_is_another_one(self, world: World) -> None:
        ended(world, fail("a"))

        assert world.do("change_status", "execution", State.SUCCESS).state is State.SUCCESS
        assert world.history() == ["CREATED", "RUNNING", "FAILED", "SUCCESS"]

    @pytest.mark.parametrize("state", [State.RUNNING, State.CREATED, State.SKIPPED, State.RETRIED])
    def test_given_a_state_that_is_no_end_then_it_is_refused(self, world: World, state: State) -> None:
        ended(world, fail("a"))

        with pytest.raises(UserError) as refused:
            world.do("change_status", "execution", state)

        assert refused.value.message == f"{state} is no final state."
        assert refused.value.hint == f"Final states are: {STATES}."

    def test_given_it_has_not_ended_or_ended_so_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()

        with pytest.raises(UserError, match=r"The execution execution cannot be changed: it is RUNNING\."):
            world.do("change_status", "execution", State.SUCCESS)
        world.finish(world.job(0))
        with pytest.raises(UserError, match=r"The execution execution cannot be changed: it is SUCCESS\."):
            world.do("change_status", "execution", State.SUCCESS)


class TestChangeTaskState:
    def test_given_a_failure_then_the_flow_goes_on_after_it(self, world: World) -> None:
        ended(world, fail("a"), echo("b", "x"))
        run_id = world.runs()["a"].id

        world.do("change_task_state", "execution", run_id, State.SUCCESS)

        assert world.do("wait", "execution").state is State.SUCCESS
        assert world.states() == {"a": "SUCCESS", "b": "SUCCESS"}

    def test_given_no_such_task_run_or_the_same_state_then_it_is_refused(self, world: World) -> None:
        ended(world, fail("a"))
        run_id = world.runs()["a"].id

        with pytest.raises(UserError, match=rf"The task run {run_id} of the execution execution is FAILED already\."):
            world.do("change_task_state", "execution", run_id, State.FAILED)
        with pytest.raises(UserError, match=r"The execution execution has no task run unknown\."):
            world.do("change_task_state", "execution", "unknown", State.SUCCESS)
        with pytest.raises(UserError, match=r"PAUSED is no final state\."):
            world.do("change_task_state", "execution", run_id, State.PAUSED)

    def test_given_it_has_not_ended_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()
        run_id = world.job(0).task_run_id

        with pytest.raises(UserError, match=r"The execution execution cannot be changed: it is RUNNING\."):
            world.do("change_task_state", "execution", run_id, State.SUCCESS)

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("change_task_state", "gone", "run", State.SUCCESS)


class TestReplay:
    def test_given_no_task_run_then_all_runs_anew_with_the_same_inputs_and_labels(self, world: World) -> None:
        flow = world.add_flow(local_files("a"), inputs=[{"id": "n", "type": "INT"}])
        old = world.do("start", flow, {"n": 7}, labels={"k": "v"}, trigger={"id": "t", "type": "tt", "variables": {}})
        world.finish(world.job(0), "FAILED")

        new = world.do("replay", old.id)

        assert new.id != old.id
        assert (new.inputs, new.trigger, new.revision) == ({"n": 7}, old.trigger, 1)
        assert new.labels == {**old.labels, "system.replay": "true"}
        assert (new.parent_id, new.original_id, new.attempt_number) == (old.id, old.id, 1)
        assert world.job(1).execution_id == new.id
        assert world.state(old.id) == "FAILED"

    def test_given_a_task_run_then_what_came_before_it_is_copied(self, world: World) -> None:
        ended(world, echo("a", "x"), echo("b", "x"), echo("c", "x"))

        new = world.do("replay", "execution", task_run_id=world.runs()["b"].id)

        assert world.do("wait", new.id).state is State.SUCCESS
        runs = world.runs(new.id)
        assert {id_: [change.state.value for change in one.history] for id_, one in runs.items()} == {
            "a": ["CREATED", "RUNNING", "SUCCESS"],
            "b": ["CREATED", "RUNNING", "SUCCESS", "RESTARTED", "RUNNING", "SUCCESS"],
            "c": ["CREATED", "RUNNING", "SUCCESS"],
        }
        assert runs["a"].outputs == {"value": "a:None"}
        assert runs["a"].id != world.runs()["a"].id

    def test_given_a_replay_of_a_replay_then_the_original_stays_the_first(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))
        first = world.do("start", flow)
        world.do("wait", first.id)
        second = world.do("replay", first.id)
        world.do("wait", second.id)

        third = world.do("replay", second.id)

        assert (third.parent_id, third.original_id) == (second.id, first.id)

    def test_given_another_revision_then_it_runs_that(self, world: World) -> None:
        ended(world, echo("a", "x"), echo("b", "x"))
        world.add_flow(echo("a", "y"), echo("b", "y"), echo("more", "x"))

        new = world.do("replay", "execution", task_run_id=world.runs()["b"].id, revision=2)

        assert world.do("wait", new.id).revision == 2
        assert set(world.runs(new.id)) == {"a", "b", "more"}

    def test_given_a_revision_that_does_not_fit_then_it_is_refused(self, world: World) -> None:
        ended(world, echo("a", "x"), echo("b", "x"))
        world.add_flow(echo("b", "x"), echo("c", "x"))

        with pytest.raises(UserError) as refused:
            world.do("replay", "execution", task_run_id=world.runs()["b"].id, revision=2)

        assert refused.value.message == (
            "The execution execution cannot go on with revision 2 of tests.flow: there the task 'a' is gone."
        )
        assert refused.value.hint == (
            "Tasks that have run have to stay where they were, under their ids; all else may change."
        )

    def test_given_another_revision_without_a_task_run_then_anything_may_change(self, world: World) -> None:
        ended(world, echo("a", "x"))
        world.add_flow(echo("other", "x"))

        new = world.do("replay", "execution", revision=2)

        world.do("wait", new.id)
        assert set(world.runs(new.id)) == {"other"}

    def test_given_no_such_task_run_then_it_is_refused(self, world: World) -> None:
        ended(world, echo("a", "x"))

        with pytest.raises(UserError) as refused:
            world.do("replay", "execution", task_run_id="unknown")

        assert refused.value.message == "The execution execution has no task run unknown."
        assert refused.value.hint == "`tercel execution show execution` lists them."

    def test_given_no_such_revision_or_execution_then_it_is_told(self, world: World) -> None:
        ended(world, echo("a", "x"))

        with pytest.raises(NotFoundError, match=r"There is no flow tests\.flow with revision 7\."):
            world.do("replay", "execution", revision=7)
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("replay", "gone")

    def test_given_a_child_of_a_subflow_then_its_replay_reports_to_nobody(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        sub = {"id": "sub", "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": "child"}
        world.add_flow(sub)
        world.start()
        child = world.only("child")

        new = world.do("replay", child.id)
        world.finish(world.job(1))

        assert world.do("wait", new.id).state is State.SUCCESS
        assert world.states() == {"sub": "RUNNING"}
        assert new.trigger == {name: child.trigger[name] for name in ("id", "type", "variables")}  # type: ignore[index]

    def test_given_an_execution_that_runs_then_its_copy_runs_beside_it(self, world: World) -> None:
        world.add_flow(echo("a", "x"), local_files("b"))
        world.start()
        world.job(0)

        new = world.do("replay", "execution", task_run_id=world.runs()["a"].id)

        assert world.job(1).execution_id == new.id
        assert world.state() == "RUNNING"

    def test_given_an_id_then_the_new_one_has_it(self, world: World) -> None:
        ended(world, echo("a", "x"))

        assert world.do("replay", "execution", new_id="mine").id == "mine"

    def test_given_a_limit_then_the_copy_counts(self, world: World) -> None:
        world.add_flow(echo("a", "x"), local_files("b"), concurrency={"limit": 1})
        world.start()
        world.finish(world.job(0))

        world.do("replay", "execution", task_run_id=world.runs()["b"].id)
        world.job(1)
        world.start("next")

        until(lambda: world.state("next") == "QUEUED")


class TestRestart:
    def test_given_a_failure_then_it_goes_on_there(self, world: World) -> None:
        world.add_flow(echo("a", "x"), local_files("b"))
        world.start()
        world.finish(world.job(0), "FAILED")

        assert world.do("restart", "execution").attempt_number == 2
        world.finish(world.job(1))

        assert world.do("wait", "execution").state is State.SUCCESS

    def test_given_it_has_not_ended_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()

        with pytest.raises(UserError, match=r"The execution execution cannot be restarted: it has not ended"):
            world.do("restart", "execution")

    def test_given_nothing_failed_then_it_is_refused(self, world: World) -> None:
        ended(world, echo("a", "x"))

        with pytest.raises(UserError) as refused:
            world.do("restart", "execution")

        assert refused.value.message == (
            "The execution execution cannot be restarted: it ended in SUCCESS, and none of its tasks failed."
        )

    def test_given_what_follows_its_end_still_runs_then_it_is_refused(self, world: World) -> None:
        world.add_flow(fail("a"), afterExecution=[local_files("after")])
        world.start()
        job = world.job(0)
        assert world.state() == "FAILED"

        with pytest.raises(UserError):
            world.do("restart", "execution")
        world.finish(job)

        assert world.do("restart", "execution").attempt_number == 2

    def test_given_a_limit_then_one_that_never_had_a_slot_counts_once_it_is_restarted(self, world: World) -> None:
        world.add_flow(local_files("a"), concurrency={"limit": 1})
        world.start("busy")
        world.start()
        until(lambda: world.state() == "QUEUED")
        world.do("kill", "execution")
        world.finish(world.job(0))

        world.do("restart", "execution")
        world.job(1)
        world.start("next")

        until(lambda: world.state("next") == "QUEUED")

    def test_given_it_was_killed_before_it_started_then_it_starts_anew(self, world: World) -> None:
        flow = world.add_flow(echo("a", "x"))
        execution = world.do("start", flow, schedule_date=now() + timedelta(hours=1))
        world.do("kill", execution.id)
        assert world.state(execution.id) == "KILLED"

        world.do("restart", execution.id)

        assert world.do("wait", execution.id).state is State.SUCCESS


class TestKeyValues:
    def find(self, world: World, key: str = "k") -> object:
        found = run(world.store.key_values.find("a.b", key, world.clock()))
        return None if found is None else found.value

    def test_given_a_value_then_it_is_kept_and_removed(self, world: World) -> None:
        world.do("set_key_value", "a.b", "k", {"n": 1}, description="why")
        world.do("set_key_value", "a.b", "k", 2)

        assert self.find(world) == 2
        world.do("delete_key_value", "a.b", "k")
        assert self.find(world) is None

    def test_given_a_time_then_it_is_kept_for_that(self, world: World) -> None:
        world.do("set_key_value", "a.b", "k", 1, ttl=timedelta(hours=1))

        assert self.find(world) == 1
        world.shift = timedelta(hours=1)
        assert self.find(world) is None
        world.do("set_key_value", "a.b", "k", 2, overwrite=False)

    def test_given_a_value_that_is_not_to_be_replaced_then_it_is_refused(self, world: World) -> None:
        world.do("set_key_value", "a.b", "k", 1)

        with pytest.raises(InvalidInputError, match=r"The namespace a\.b has the key 'k' already\. Overwrite it\."):
            world.do("set_key_value", "a.b", "k", 2, overwrite=False)
        assert self.find(world) == 1

    @pytest.mark.parametrize("key", ["", "-k", "a b", "a/b"])
    def test_given_a_key_that_cannot_be_one_then_it_is_refused(self, world: World, key: str) -> None:
        with pytest.raises(InvalidInputError) as refused:
            world.do("set_key_value", "a.b", key, 1)

        assert refused.value.message == f"{key!r} cannot be a key."

    def test_given_no_time_at_all_then_it_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidInputError, match=r"A value cannot be kept for no time\. Give a longer time"):
            world.do("set_key_value", "a.b", "k", 1, ttl=timedelta(0))

    def test_given_no_such_key_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"The namespace a\.b has no key 'k'\."):
            world.do("delete_key_value", "a.b", "k")


class TestDeleteExecution:
    def test_given_it_has_ended_then_it_goes_with_all_it_left(self, world: World) -> None:
        execution = ended(world, echo("a", "x"))
        folder = execution_path("tests", "flow", "execution")
        world.storage.put(f"{folder}/file.txt", BytesIO(b"x"))
        world.store.logs.write_logs(
            [LogEntry(execution_id=execution.id, date=now(), level=LogLevel.INFO, message="line")]
        )
        world.store.logs.flush().wait(WAIT_S)

        world.do("delete_execution", "execution")

        with pytest.raises(NotFoundError):
            world.get()
        assert world.runs() == {}
        assert list(world.storage.list(folder)) == []
        assert run(world.store.logs.read("execution")).entries == []

    def test_given_it_has_not_ended_then_it_is_refused(self, world: World) -> None:
        world.add_flow(local_files("a"))
        world.start()

        with pytest.raises(UserError) as refused:
            world.do("delete_execution", "execution")

        assert refused.value.message == "The execution execution has not ended."
        assert refused.value.hint == "Kill it first, or wait for its end."

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("delete_execution", "gone")


class TestWait:
    def test_given_it_is_tried_again_then_the_end_of_the_last_one_is_awaited(self, world: World) -> None:
        retry = {"type": "constant", "interval": "PT0.01S", "maxAttempts": 3, "behavior": "CREATE_NEW_EXECUTION"}
        world.add_flow(fail("a", retry=retry))
        world.start()

        last = world.do("wait", "execution")

        assert (last.state, last.attempt_number) == (State.FAILED, 3)

    def test_given_it_ended_in_another_process_then_it_is_given(self, world: World, tmp_path: Path) -> None:
        ended(world, echo("a", "x"))
        other = World(tmp_path, owner="other")

        assert other.do("wait", "execution").state is State.SUCCESS
        other.close()

    def test_given_no_such_execution_then_it_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.do("wait", "gone")
