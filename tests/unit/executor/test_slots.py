import contextlib
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import StorageError
from tercel.machine.messages import KillRequested
from tercel.model import State, WorkerJob
from tests.flows import echo, local_files
from tests.unit.executor.world import WAIT_S, World, now, until, work


class TestConcurrency:
    def limited(self, world: World, limit: int = 1, behavior: str = "QUEUE", **properties: Any) -> None:
        world.add_flow(local_files("task"), concurrency={"limit": limit, "behavior": behavior}, **properties)
        world.consume()

    def settled(self, world: World, **states: str) -> bool:
        until(lambda: {name: world.state(name) for name in states} == states)
        return True

    def test_given_more_than_may_run_then_they_run_in_the_order_of_their_creation(self, world: World) -> None:
        self.limited(world)
        ends = [world.start(name) for name in ("e1", "e2", "e3")]
        assert self.settled(world, e1="RUNNING", e2="QUEUED", e3="QUEUED")

        for index in range(3):
            world.finish(world.job(index))

        assert [ended.wait(WAIT_S).state for ended in ends] == [State.SUCCESS] * 3
        assert [job.execution_id for job, _ in world.jobs] == ["e1", "e2", "e3"]
        assert world.history("e2") == ["CREATED", "QUEUED", "RUNNING", "SUCCESS"]
        assert "It waits: an execution of tests.flow runs already." in world.messages("e2")

    def test_given_a_limit_of_two_then_two_run(self, world: World) -> None:
        self.limited(world, limit=2)
        for name in ("e1", "e2", "e3"):
            world.start(name)

        assert self.settled(world, e1="RUNNING", e2="RUNNING", e3="QUEUED")

    def test_given_other_flows_then_they_do_not_count(self, world: World) -> None:
        self.limited(world)
        world.add_flow(local_files("task"), id="other", concurrency={"limit": 1})
        world.start("e1")
        world.start("o1", "other")

        assert self.settled(world, e1="RUNNING", o1="RUNNING")

    @pytest.mark.parametrize(("behavior", "state"), [("CANCEL", "CANCELLED"), ("FAIL", "FAILED")])
    def test_given_it_is_not_to_wait_then_it_ends_and_takes_no_slot(
        self, world: World, behavior: str, state: str
    ) -> None:
        self.limited(world, behavior=behavior)
        world.start("e1")

        assert world.start("e2").wait(WAIT_S).state == state
        world.finish(world.job(0))
        world.start("e3")

        assert self.settled(world, e1="SUCCESS", e3="RUNNING")

    @pytest.mark.parametrize("state", ["FAILED", "KILLED"])
    def test_given_a_bad_end_then_the_next_one_starts(self, world: World, state: str) -> None:
        self.limited(world)
        world.start("e1")
        world.start("e2")
        assert self.settled(world, e2="QUEUED")

        world.finish(world.job(0), state)

        assert world.job(1).execution_id == "e2"

    def test_given_one_that_waits_is_killed_then_the_one_after_it_gets_its_turn(self, world: World) -> None:
        self.limited(world)
        world.start("e1")
        ended = world.start("e2")
        world.start("e3")
        assert self.settled(world, e2="QUEUED", e3="QUEUED")

        world.executor.apply("e2", KillRequested(now=now())).wait(WAIT_S)
        assert ended.wait(WAIT_S).state is State.KILLED
        assert self.settled(world, e1="RUNNING", e3="QUEUED")
        world.finish(world.job(0))

        assert world.job(1).execution_id == "e3"

    def test_given_one_is_paused_then_it_keeps_its_slot(self, world: World) -> None:
        self.limited(world)
        world.start("e1")
        world.start("e2")
        world.do("pause", "e1")

        assert self.settled(world, e1="PAUSED", e2="QUEUED")

    def test_given_one_is_forced_then_others_wait_until_fewer_than_the_limit_run(self, world: World) -> None:
        self.limited(world)
        for name in ("e1", "e2", "e3"):
            world.start(name)
        assert self.settled(world, e2="QUEUED", e3="QUEUED")

        world.do("force_run", "e2")
        assert self.settled(world, e1="RUNNING", e2="RUNNING", e3="QUEUED")
        world.finish(world.job(0))
        world.pass_time(seconds=2)
        assert self.settled(world, e1="SUCCESS", e3="QUEUED")
        world.finish(world.job(1))

        assert world.job(2).execution_id == "e3"

    def test_given_what_follows_an_end_then_the_slot_is_kept_until_that_is_over(self, world: World) -> None:
        world.add_flow(echo("t", "x"), concurrency={"limit": 1}, afterExecution=[local_files("after")])
        world.consume()
        world.start("e1")
        world.start("e2")
        assert self.settled(world, e1="SUCCESS", e2="QUEUED")

        world.finish(world.job(0))

        assert self.settled(world, e2="SUCCESS")

    def test_given_another_process_frees_a_slot_then_it_is_noticed(self, tmp_path: Path) -> None:
        first, second = World(tmp_path, owner="first"), World(tmp_path, owner="second")
        self.limited(first)
        self.limited(second)
        first.start("e1")
        job = first.job(0)
        second.start("e2")
        assert self.settled(second, e2="QUEUED")

        first.finish(job)
        second.pass_time(seconds=2)

        assert second.job(0).execution_id == "e2"
        first.close()
        second.close()

    def test_given_a_process_that_looks_in_vain_then_it_looks_again(self, tmp_path: Path) -> None:
        first, second = World(tmp_path, owner="first"), World(tmp_path, owner="second")
        self.limited(first)
        self.limited(second)
        first.start("e1")
        job = first.job(0)
        second.start("e2")
        assert self.settled(second, e2="QUEUED")
        second.pass_time(seconds=2)
        second.pass_time(seconds=2)
        assert second.state("e2") == "QUEUED"

        first.finish(job)
        second.pass_time(seconds=2)

        assert second.job(0).execution_id == "e2"
        first.close()
        second.close()

    def test_given_a_subflow_whose_flow_is_full_then_the_parent_waits_for_its_turn(self, world: World) -> None:
        self.limited(world, id="child")
        world.add_flow(
            {"id": "sub", "type": "io.kestra.plugin.core.flow.Subflow", "namespace": "tests", "flowId": "child"}
        )
        world.start("busy", "child")
        ended = world.start()
        child = next(one for one in world.of_flow("child") if one.id != "busy")
        assert self.settled(world, execution="RUNNING", **{child.id: "QUEUED"})

        world.finish(world.job(0))
        world.finish(world.job(1))

        assert ended.wait(WAIT_S).state is State.SUCCESS

    def test_given_a_child_that_is_cancelled_for_want_of_a_slot_then_the_parent_ends(self, world: World) -> None:
        self.limited(world, id="child", behavior="CANCEL")
        world.add_flow(
            {"id": "sub", "type": "io.kestra.plugin.core.flow.Subflow", "namespace": "tests", "flowId": "child"}
        )
        world.start("busy", "child")

        world.start().wait(WAIT_S)

        assert world.runs()["sub"].outputs["state"] == "CANCELLED"

    @pytest.mark.parametrize("keeps", [False, True])
    @pytest.mark.parametrize("at", range(1, 11))
    def test_given_a_crash_at_any_write_then_no_slot_is_lost_and_none_given_twice(
        self, tmp_path: Path, at: int, keeps: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.slots._LOOK_S", 0.02)
        dead = World(tmp_path, owner="dead")
        self.limited(dead)
        dead.store.crash_at, dead.store.keeps = at, keeps
        with contextlib.suppress(StorageError):
            ends = [dead.start("e1"), dead.start("e2")]
            work(dead, ends)

        heir = dead.heir(tmp_path)
        saved = [one.id for one in heir.of_flow("flow")]
        most = 0
        ends = [heir.executor.ended(execution_id) for execution_id in saved]
        for execution_id, ended in zip(saved, ends, strict=True):
            if not heir.get(execution_id).is_open:
                ended.resolve(heir.get(execution_id))

        def finish(job: WorkerJob) -> None:
            nonlocal most
            most = max(most, sum(one.state is State.RUNNING for one in heir.of_flow("flow")))
            heir.finish(job)

        work(heir, ends, finish)
        assert most <= 1
        assert {one.state for one in heir.of_flow("flow")} <= {State.SUCCESS}
        assert heir.start("last") is not None
        assert self.settled(heir, last="RUNNING")
        heir.close()
