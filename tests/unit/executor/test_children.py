import contextlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tercel.errors import StorageError
from tercel.executor import parent_of, retry_id
from tercel.executor.children import Child, open_children, report_of, retry_of
from tercel.machine.messages import KillRequested, StartRetry, SubflowEnded
from tercel.model.execution import child_execution_id
from tercel.model.state import State
from tests.builders import NOON, a_history, a_task_run, an_execution
from tests.flows import CORE, Node, echo, fail, for_each, local_files
from tests.unit.executor.world import WAIT_S, World, now, until, work

NEW_EXECUTION = {"type": "constant", "interval": "PT1H", "maxAttempts": 2, "behavior": "CREATE_NEW_EXECUTION"}


def subflow(id: str = "sub", flow_id: str = "child", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": flow_id, **properties}


def for_each_item(id: str = "each", **properties: Any) -> Node:
    return {
        "id": id,
        "type": f"{CORE}.flow.ForEachItem",
        "items": "kestra:///items.txt",
        "namespace": "tests",
        "flowId": "child",
        **properties,
    }


@pytest.fixture
def world(world: World) -> World:
    world.consume()
    return world


class TestParentOf:
    TRIGGER = {"id": "sub", "type": "Subflow", "variables": {"executionId": "parent"}, "taskRunId": "run", "fence": 3}

    def test_given_a_trigger_of_a_subflow_then_it_names_the_task_run(self) -> None:
        assert parent_of(an_execution(trigger={**self.TRIGGER, "number": 2})) == Child("parent", "run", 3, 2)

    @pytest.mark.parametrize(
        "trigger", [None, {}, TRIGGER, {"id": "flow", "type": "Flow", "variables": {"executionId": "other"}}]
    )
    def test_given_any_other_then_there_is_no_parent(self, trigger: dict[str, object] | None) -> None:
        assert parent_of(an_execution(trigger=trigger)) is None


class TestReportOf:
    TRIGGER = {**TestParentOf.TRIGGER, "number": 0}

    def test_given_its_first_end_then_it_is_told(self) -> None:
        execution = an_execution("CREATED", "RUNNING", "WARNING", trigger=self.TRIGGER, outputs={"n": 1})

        assert report_of(execution, NOON) == (
            "parent",
            SubflowEnded(now=NOON, run_id="run", fence=3, index=0, state=State.WARNING, outputs={"n": 1}),
        )

    def test_given_its_second_end_then_nothing_is_told(self) -> None:
        states = ("CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS")

        assert report_of(an_execution(*states, trigger=self.TRIGGER), NOON) is None

    def test_given_it_is_tried_again_then_that_tells_it(self) -> None:
        assert report_of(an_execution("CREATED", "RUNNING", "RETRIED", trigger=self.TRIGGER), NOON) is None

    def test_given_nobody_started_it_then_nothing_is_told(self) -> None:
        assert report_of(an_execution("CREATED", "SUCCESS"), NOON) is None


class TestIds:
    def test_given_those_that_have_ended_then_the_others_are_open(self) -> None:
        task_run = a_task_run(plan={"total": 4, "started": 3, "states": {"SUCCESS": 1}, "ended": "2"}, fence=1)

        assert list(open_children(task_run)) == [(at, child_execution_id(task_run, at)) for at in (0, 2)]

    def test_given_none_was_started_then_none_is_open(self) -> None:
        assert list(open_children(a_task_run())) == []

    def test_given_an_execution_that_is_tried_again_then_the_other_has_its_inputs_labels_and_trigger(self) -> None:
        old = an_execution(
            "CREATED",
            "RUNNING",
            "RETRIED",
            inputs={"i": 1},
            labels={"k": "v"},
            trigger={"id": "t"},
            original_id="first",
            attempt_number=2,
            first_created=NOON - timedelta(hours=1),
            outputs={"o": 1},
            variables={"n": 1},
        )

        new = retry_of(old, StartRetry(at=NOON + timedelta(hours=1), id=retry_id(old)), NOON)

        assert new == replace(
            old,
            id=retry_id(old),
            history=a_history("CREATED"),
            parent_id="execution",
            attempt_number=3,
            schedule_date=NOON + timedelta(hours=1),
            outputs={},
            variables={},
        )


class TestSubflow:
    def test_given_a_subflow_then_parent_and_child_begin_in_one_transaction_and_end_in_one(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child", outputs=[{"id": "n", "type": "STRING", "value": "x"}])
        world.add_flow(subflow(), echo("after", "x"))

        ended = world.start()
        job = world.job_of("work")
        assert world.store.commits == 1
        child = world.only("child")
        assert world.states() == {"sub": "RUNNING"}
        assert world.runs()["sub"].outputs == {"executionId": child.id, "state": "CREATED"}
        world.finish(job)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.store.commits == 2
        assert world.state(child.id) == "SUCCESS"
        assert world.runs()["sub"].outputs == {"executionId": child.id, "state": "SUCCESS", "outputs": {"n": "x"}}
        assert world.states() == {"sub": "SUCCESS", "after": "SUCCESS"}

    def test_given_only_inline_tasks_in_three_floors_then_all_is_one_transaction(self, world: World) -> None:
        world.add_flow(echo("deep", "x"), id="grandchild")
        world.add_flow(subflow(flow_id="grandchild"), id="child")
        world.add_flow(subflow())

        assert world.start().wait(WAIT_S).state is State.SUCCESS

        assert world.store.commits == 1
        assert [one.state for one in (world.only("child"), world.only("grandchild"))] == [State.SUCCESS] * 2

    def test_given_the_child_then_it_knows_who_started_it(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")
        world.add_flow(subflow())
        world.start().wait(WAIT_S)

        child, run = world.only("child"), world.runs()["sub"]

        assert child.trigger == {
            "id": "sub",
            "type": f"{CORE}.flow.Subflow",
            "variables": {
                "executionId": "execution",
                "namespace": "tests",
                "flowId": "flow",
                "flowRevision": 1,
                "taskRunId": run.id,
            },
            "taskRunId": run.id,
            "fence": run.fence,
            "number": 0,
        }
        assert child.id == child_execution_id(run, 0)
        assert child.parent_id is None

    @pytest.mark.parametrize(
        ("properties", "state", "flow_state"),
        [
            ({}, "FAILED", "FAILED"),
            ({"transmitFailed": False}, "SUCCESS", "SUCCESS"),
            ({"allowFailure": True}, "WARNING", "WARNING"),
        ],
    )
    def test_given_the_child_fails_then_the_parent_says_what_comes_of_it(
        self, world: World, properties: dict[str, object], state: str, flow_state: str
    ) -> None:
        world.add_flow(fail("bad"), id="child")
        world.add_flow(subflow(**properties))

        assert world.start().wait(WAIT_S).state == flow_state

        assert world.states() == {"sub": state}
        assert world.runs()["sub"].outputs["state"] == "FAILED"

    def test_given_it_does_not_wait_then_the_parent_ends_and_the_child_goes_on(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(subflow(wait=False))

        assert world.start().wait(WAIT_S).state is State.SUCCESS
        child = world.only("child")
        assert world.runs()["sub"].outputs == {"executionId": child.id, "state": "CREATED"}
        ended = world.executor.ended(child.id)
        world.finish(world.job_of("work"), "FAILED")

        assert ended.wait(WAIT_S).state is State.FAILED
        assert world.history() == ["CREATED", "RUNNING", "SUCCESS"]

    def test_given_older_outputs_then_they_are_rendered_with_what_the_child_sees(self, world: World) -> None:
        world.add_flow(echo("deep", "x"), id="child", outputs=[{"id": "n", "type": "STRING", "value": "x"}])
        world.add_flow(subflow(outputs={"got": "{{ outputs.deep.value }}"}))

        world.start().wait(WAIT_S)

        assert world.runs()["sub"].outputs["outputs"] == {"n": "x", "got": "deep:None"}

    def test_given_older_outputs_that_cannot_be_rendered_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("deep", "x"), id="child")
        world.add_flow(subflow(outputs={"got": "{{ nope }}"}))

        assert world.start().wait(WAIT_S).state is State.FAILED

        assert any(message.startswith("The `outputs` cannot be rendered: ") for message in world.messages())

    def test_given_a_date_then_the_child_waits_for_it(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")
        world.add_flow(subflow(scheduleDate=(now() + timedelta(hours=1)).isoformat()))
        ended = world.start()
        assert world.only("child").state is State.CREATED

        world.pass_time(hours=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS

    def test_given_values_then_each_has_its_own_child(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child", inputs=[{"id": "v", "type": "STRING"}])
        world.add_flow(for_each("loop", ["a", "b"], subflow(inputs={"v": "{{ taskrun.value }}"}), concurrencyLimit=0))

        assert world.start().wait(WAIT_S).state is State.SUCCESS

        assert sorted(str(one.inputs["v"]) for one in world.of_flow("child")) == ["a", "b"]

    def test_given_a_flow_that_starts_itself_then_each_is_another_execution(self, world: World) -> None:
        world.add_flow(
            {
                "id": "if",
                "type": f"{CORE}.flow.If",
                "condition": "{{ inputs.n > 0 }}",
                "then": [subflow(flow_id="{{ flow.id }}", inputs={"n": "{{ inputs.n - 1 }}"})],
            },
            inputs=[{"id": "n", "type": "INT", "defaults": 3}],
        )

        execution = world.do("start", world.do("get_flow", "tests", "flow"))
        assert world.do("wait", execution.id).state is State.SUCCESS

        assert [one.inputs["n"] for one in world.of_flow("flow")].count(0) == 1
        assert len(world.of_flow("flow")) == 4


class TestBadRequests:
    def failed(self, world: World, **properties: Any) -> str:
        """The message of a Subflow that cannot start what it wants."""
        world.add_flow(subflow(**properties), errors=[echo("e", "x")])

        assert world.start().wait(WAIT_S).state is State.FAILED

        assert world.states() == {"sub": "FAILED", "e": "SUCCESS"}
        assert world.of_flow("child") == []
        message = world.runs()["sub"].message
        assert message in world.messages()
        return message

    def test_given_no_such_flow_then_the_task_fails_and_says_so(self, world: World) -> None:
        assert self.failed(world).startswith("There is no flow tests.child.")

    def test_given_no_such_revision_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")

        assert self.failed(world, revision=7).startswith("There is no flow tests.child with revision 7.")

    def test_given_a_flow_that_is_disabled_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child", disabled=True)

        assert self.failed(world).startswith("The flow tests.child is disabled.")

    def test_given_inputs_that_do_not_fit_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child", inputs=[{"id": "n", "type": "INT"}])

        assert "'n'" in self.failed(world, inputs={"n": "many"})

    def test_given_inputs_that_are_missing_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child", inputs=[{"id": "n", "type": "INT"}])

        assert "'n'" in self.failed(world)

    def test_given_a_request_that_cannot_be_rendered_then_the_task_fails_and_says_so(self, world: World) -> None:
        world.add_flow(subflow(flow_id="{{ nope }}"))

        assert world.start().wait(WAIT_S).state is State.FAILED

        assert "nope" in world.runs()["sub"].message

    def test_given_inputs_that_the_flow_lacks_then_they_are_ignored(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")
        world.add_flow(subflow(inputs={"more": "x"}))

        assert world.start().wait(WAIT_S).state is State.SUCCESS

    def test_given_a_retry_then_it_is_tried_again(self, world: World) -> None:
        world.add_flow(subflow(retry={"type": "constant", "interval": "PT1H", "maxAttempts": 2}))
        ended = world.start()
        assert world.state() == "RETRYING"
        world.add_flow(echo("t", "x"), id="child")

        world.pass_time(hours=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert [attempt.state.value for attempt in world.runs()["sub"].attempts] == ["FAILED", "SUCCESS"]


class TestKill:
    def test_given_a_kill_then_it_reaches_the_last_floor_and_each_waits_for_the_one_below(self, world: World) -> None:
        world.add_flow(local_files("work"), id="grandchild")
        world.add_flow(subflow(flow_id="grandchild"), id="child")
        world.add_flow(subflow())
        ended = world.start()
        job = world.job_of("work")

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)
        until(lambda: world.cancelled == [job.task_run_id])
        assert [world.state("execution"), world.only("child").state] == ["KILLING", "KILLING"]
        world.finish(job, "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED
        assert [world.only(id_).state for id_ in ("child", "grandchild")] == [State.KILLED] * 2

    def test_given_a_kill_without_cascade_then_the_child_goes_on_and_reports_to_nobody(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(subflow())
        ended = world.start()
        child = world.only("child")
        child_ended = world.executor.ended(child.id)

        world.executor.apply("execution", KillRequested(now=now(), cascade=False)).wait(WAIT_S)
        assert ended.wait(WAIT_S).state is State.KILLED
        world.finish(world.job_of("work"))

        assert child_ended.wait(WAIT_S).state is State.SUCCESS
        assert world.states() == {"sub": "KILLED"}

    def test_given_a_child_that_waits_for_its_date_then_it_is_killed_too(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")
        world.add_flow(subflow(scheduleDate=(now() + timedelta(hours=1)).isoformat()))
        ended = world.start()

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.only("child").state is State.KILLED

    def test_given_a_child_that_waits_for_its_turn_then_it_is_killed_too(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child", concurrency={"limit": 1})
        world.add_flow(subflow())
        world.start("busy", "child")
        ended = world.start()
        child = next(one.id for one in world.of_flow("child") if one.id != "busy")
        until(lambda: world.state(child) == "QUEUED")

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.history(child) == ["CREATED", "QUEUED", "KILLED"]

    def test_given_a_child_that_is_paused_then_it_is_killed_too(self, world: World) -> None:
        world.add_flow({"id": "wait", "type": f"{CORE}.flow.Pause"}, id="child")
        world.add_flow(subflow())
        ended = world.start()

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.only("child").state is State.KILLED

    def test_given_the_child_is_killed_by_itself_then_the_parent_ends_killed(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(subflow())
        ended = world.start()
        job = world.job_of("work")

        world.executor.apply(world.only("child").id, KillRequested(now=now())).wait(WAIT_S)
        world.finish(job, "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED

    def test_given_the_time_of_the_task_passes_then_the_child_is_killed_and_the_task_fails(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(subflow(timeout="PT1H"))
        ended = world.start()
        job = world.job_of("work")
        child_ended = world.executor.ended(job.execution_id)

        world.pass_time(hours=1)
        assert ended.wait(WAIT_S).state is State.FAILED
        until(lambda: world.cancelled)
        world.finish(job, "KILLED")

        assert child_ended.wait(WAIT_S).state is State.KILLED


class TestForEachItem:
    def test_given_batches_then_one_execution_runs_for_each(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child", inputs=[{"id": "at", "type": "STRING"}])
        world.add_flow(for_each_item(inputs={"at": "{{ taskrun.iteration }} {{ taskrun.items }}"}))
        ended = world.start()

        world.finish(world.job_of("each_split"), outputs=world.split_into("a\n", "b\n", "c\n"))
        world.finish(world.job_of("each_merge"))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert sorted(str(one.inputs["at"]) for one in world.of_flow("child")) == [
            f"{at + 1} kestra:///batch-{at}" for at in range(3)
        ]
        outputs = world.runs()["each_items"].outputs
        assert outputs["numberOfBatches"] == 3
        assert outputs["iterations"] == {"SUCCESS": 3}
        assert str(outputs["subflowOutputsBaseUri"]).startswith("kestra:///tests/flow/")

    def test_given_many_batches_then_they_are_started_in_several_transactions(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 0.0002)
        world.add_flow(local_files("work"), id="child")
        world.add_flow(for_each_item())
        ended = world.start()
        before = world.store.commits

        world.finish(world.job_of("each_split"), outputs=world.split_into(*[f"{at}\n" for at in range(5)]))
        until(lambda: len(world.of_flow("child")) == 5)
        assert world.store.commits - before >= 5
        ids = {one.id for one in world.of_flow("child")}
        assert ids == {child_execution_id(world.runs()["each_items"], at) for at in range(5)}
        work(world, [ended], lambda job: None if job.task.id == "each_split" else world.finish(job))

        assert world.runs()["each_items"].outputs["iterations"] == {"SUCCESS": 5}

    @pytest.mark.parametrize(("transmits", "state"), [(True, "FAILED"), (False, "SUCCESS")])
    def test_given_one_of_them_fails_then_the_others_end_first(self, world: World, transmits: bool, state: str) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(for_each_item(transmitFailed=transmits))
        ended = world.start()
        world.finish(world.job(0), outputs=world.split_into("a\n", "b\n"))

        world.finish(world.job(1), "FAILED")
        assert world.states()["each_items"] == "RUNNING"
        world.finish(world.job(2))
        if not transmits:
            world.finish(world.job_of("each_merge"))

        assert ended.wait(WAIT_S).state == state
        assert world.runs()["each_items"].outputs["iterations"] == {"FAILED": 1, "SUCCESS": 1}

    def test_given_no_batches_then_it_succeeds(self, world: World) -> None:
        world.add_flow(echo("t", "x"), id="child")
        world.add_flow(for_each_item())
        ended = world.start()

        world.finish(world.job_of("each_split"), outputs=world.split_into())
        world.finish(world.job_of("each_merge"))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.runs()["each_items"].outputs["numberOfBatches"] == 0
        assert world.of_flow("child") == []

    def test_given_it_does_not_wait_then_it_ends_when_all_are_started(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(for_each_item(wait=False))
        ended = world.start()

        world.finish(world.job_of("each_split"), outputs=world.split_into("a\n", "b\n"))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert set(world.runs()) == {"each", "each_split", "each_items"}
        assert [one.state for one in world.of_flow("child")] == [State.RUNNING] * 2

    def test_given_a_request_that_goes_wrong_later_then_those_started_are_killed_and_it_fails(
        self, world: World
    ) -> None:
        world.add_flow(local_files("work"), id="child", inputs=[{"id": "n", "type": "INT"}])
        world.add_flow(for_each_item(inputs={"n": "{{ taskrun.iteration == 3 ? 'bad' : taskrun.iteration }}"}))
        ended = world.start()

        world.finish(world.job_of("each_split"), outputs=world.split_into("a\n", "b\n", "c\n"))

        assert ended.wait(WAIT_S).state is State.FAILED
        assert world.states()["each_items"] == "FAILED"
        assert len(world.of_flow("child")) == 2
        until(lambda: len(world.cancelled) == 2)
        for job, _ in world.jobs:
            if job.task.id == "work":
                world.finish(job, "KILLED")
        until(lambda: {one.state for one in world.of_flow("child")} <= {State.KILLED})

    def test_given_a_kill_while_they_are_started_then_no_more_are(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 0.0002)
        world.add_flow(local_files("work"), id="child")
        world.add_flow(for_each_item())
        ended = world.start()
        start_child, stopped = world.operations.start_child, 3

        async def killed_meanwhile(*asked: Any) -> Any:
            if asked[-1] == stopped:
                world.executor.apply("execution", KillRequested(now=now()))
            return await start_child(*asked)

        monkeypatch.setattr(world.operations, "start_child", killed_meanwhile)
        world.finish(world.job_of("each_split"), outputs=world.split_into(*[f"{at}\n" for at in range(50)]))
        until(lambda: len(world.cancelled) >= stopped + 1)
        for job, _ in list(world.jobs):
            if job.task.id == "work":
                world.finish(job, "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED
        assert len(world.of_flow("child")) < 50
        assert {one.state for one in world.of_flow("child")} == {State.KILLED}


class TestRetriedChild:
    def test_given_the_child_is_tried_again_then_the_parent_hears_of_the_last_one_only(self, world: World) -> None:
        world.add_flow(local_files("work", retry=NEW_EXECUTION), id="child")
        world.add_flow(subflow())
        ended = world.start()
        first = world.only("child")

        world.finish(world.job_of("work"), "FAILED")
        assert world.state(first.id) == "RETRIED"
        second = world.get(retry_id(world.get(first.id)))
        assert second.state is State.CREATED
        assert (second.parent_id, second.attempt_number, second.trigger) == (first.id, 2, first.trigger)
        assert world.states() == {"sub": "RUNNING"}
        world.pass_time(hours=1)
        job = next(job for job, _ in world.jobs if job.execution_id == second.id)
        world.finish(job)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.runs()["sub"].outputs["state"] == "SUCCESS"

    def test_given_its_end_and_the_new_execution_then_they_are_one_transaction(self, world: World) -> None:
        world.add_flow(local_files("work", retry=NEW_EXECUTION))
        world.start()
        before = world.store.commits

        world.finish(world.job_of("work"), "FAILED")

        assert world.store.commits == before + 1
        assert [one.state.value for one in world.of_flow("flow")] in (["RETRIED", "CREATED"], ["CREATED", "RETRIED"])

    def test_given_the_parent_is_killed_while_it_waits_then_nothing_is_tried_again(self, world: World) -> None:
        world.add_flow(local_files("work", retry=NEW_EXECUTION), id="child")
        world.add_flow(subflow())
        ended = world.start()
        first = world.only("child")
        world.finish(world.job_of("work"), "FAILED")

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.state(retry_id(world.get(first.id))) == "KILLED"

    def test_given_a_child_that_failed_is_restarted_then_its_second_end_changes_nothing(self, world: World) -> None:
        world.add_flow(local_files("work"), id="child")
        world.add_flow(subflow())
        ended = world.start()
        world.finish(world.job_of("work"), "FAILED")
        assert ended.wait(WAIT_S).state is State.FAILED
        child = world.only("child")

        world.restart(child.id)
        again = world.executor.ended(child.id)
        world.finish(world.job_of("work"))

        assert again.wait(WAIT_S).state is State.SUCCESS
        assert world.history() == ["CREATED", "RUNNING", "FAILED"]

    def test_given_older_outputs_then_they_are_of_the_last_one(self, world: World) -> None:
        world.add_flow(local_files("work", retry=NEW_EXECUTION), id="child")
        world.add_flow(subflow(outputs={"got": "{{ outputs.work.n }}"}))
        ended = world.start()
        world.finish(world.job_of("work"), "FAILED")
        world.pass_time(hours=1)
        until(lambda: len(world.jobs) == 2)

        world.finish(world.job(1), outputs={"n": 1})

        ended.wait(WAIT_S)
        assert world.runs()["sub"].outputs["outputs"] == {"got": "1"}


class TestCrash:
    """The process dies at one of its writes, which is still made or not; another one goes on."""

    FLOWS = ((local_files("work"), echo("out", "x")), (subflow(), local_files("after")))

    def crashed(self, tmp_path: Path, at: int, keeps: bool) -> tuple[World, World]:
        dead = World(tmp_path, owner="dead")
        dead.consume()
        dead.add_flow(*self.FLOWS[0], id="child")
        dead.add_flow(*self.FLOWS[1])
        dead.store.crash_at, dead.store.keeps = at, keeps
        with contextlib.suppress(StorageError):
            ended = dead.executor.ended("execution")
            dead.start()
            work(dead, [ended])
            ended.wait(WAIT_S)
        return dead, dead.heir(tmp_path)

    @pytest.mark.parametrize("keeps", [False, True])
    @pytest.mark.parametrize("at", [1, 2, 3, 4])
    def test_given_a_crash_at_any_commit_then_parent_and_child_end_once(
        self, tmp_path: Path, at: int, keeps: bool
    ) -> None:
        _, heir = self.crashed(tmp_path, at, keeps)

        if not heir.of_flow("flow"):
            assert (at, keeps) == (1, False)
            assert heir.of_flow("child") == []
        else:
            ended = heir.executor.ended("execution")
            if not heir.get().is_open:
                ended.resolve(heir.get())
            work(heir, [ended])
            assert heir.state() == "SUCCESS"
            assert heir.only("child").state is State.SUCCESS
            assert heir.states() == {"sub": "SUCCESS", "after": "SUCCESS"}
            assert heir.runs()["sub"].outputs["state"] == "SUCCESS"
        heir.close()


class TestRecovery:
    def a_parent(self, tmp_path: Path, *tasks: Node, **properties: Any) -> World:
        """A dead process with a parent that waits for its child."""
        dead = World(tmp_path, owner="dead")
        dead.consume()
        dead.add_flow(*(tasks or (local_files("work"),)), id="child")
        dead.add_flow(subflow(**properties))
        dead.start()
        return dead

    def test_given_the_child_goes_on_then_the_parent_waits_for_it(self, tmp_path: Path) -> None:
        heir = self.a_parent(tmp_path).heir(tmp_path)
        ended = heir.executor.ended("execution")

        heir.finish(heir.job_of("work"))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert heir.runs()["sub"].fence == 1
        heir.close()

    def test_given_the_child_ended_in_another_process_then_the_parent_hears_of_it(self, tmp_path: Path) -> None:
        dead = self.a_parent(tmp_path)
        child = dead.only("child")
        dead.close()
        first = World(tmp_path, owner="first")
        first.consume()
        first.executor.recover(first.store.executions.adopt({child.id: "dead"}).wait(WAIT_S))
        first.finish(first.job_of("work"), "FAILED")
        until(lambda: first.state(child.id) == "FAILED")
        first.close()
        second = World(tmp_path, owner="second")
        second.add_flow(subflow())
        ended = second.executor.ended("execution")

        second.adopt()

        assert ended.wait(WAIT_S).state is State.FAILED
        assert second.runs()["sub"].outputs["state"] == "FAILED"
        second.close()

    def test_given_the_child_is_not_there_any_more_then_the_parent_fails_and_says_so(self, tmp_path: Path) -> None:
        dead = self.a_parent(tmp_path)
        child = dead.only("child")
        dead.close()
        first = World(tmp_path, owner="first")
        first.consume()
        first.executor.recover(first.store.executions.adopt({child.id: "dead"}).wait(WAIT_S))
        first.finish(first.job_of("work"))
        until(lambda: first.state(child.id) == "SUCCESS")
        first.store.executions.delete([child.id]).wait(WAIT_S)
        first.close()
        second = World(tmp_path, owner="second")
        second.add_flow(subflow())
        ended = second.executor.ended("execution")

        second.adopt()

        assert ended.wait(WAIT_S).state is State.FAILED
        assert any(child.id in message for message in second.messages("execution"))
        second.close()

    def test_given_the_child_was_retried_and_that_one_waits_then_the_parent_waits_for_it(self, tmp_path: Path) -> None:
        dead = self.a_parent(tmp_path, local_files("work", retry=NEW_EXECUTION))
        dead.finish(dead.job_of("work"), "FAILED")
        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")

        heir.pass_time(hours=1)
        heir.finish(heir.job_of("work"))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        heir.close()

    def test_given_the_child_was_retried_and_that_one_ended_then_the_parent_hears_of_it(self, tmp_path: Path) -> None:
        dead = self.a_parent(tmp_path, local_files("work", retry=NEW_EXECUTION))
        dead.finish(dead.job_of("work"), "FAILED")
        retried = next(retry_id(one) for one in dead.of_flow("child") if one.state is State.RETRIED)
        dead.close()
        first = World(tmp_path, owner="first")
        first.consume()
        first.shift = timedelta(hours=2)
        first.executor.recover(first.store.executions.adopt({retried: "dead"}).wait(WAIT_S))
        first.finish(first.job_of("work"), outputs={"n": 1})
        until(lambda: first.state(retried) == "SUCCESS")
        first.close()
        second = World(tmp_path, owner="second")
        ended = second.executor.ended("execution")

        second.adopt()

        assert ended.wait(WAIT_S).state is State.SUCCESS
        second.close()

    def test_given_the_parent_was_being_killed_then_the_child_is_killed(self, tmp_path: Path) -> None:
        dead = self.a_parent(tmp_path)
        dead.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)
        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")

        until(lambda: heir.only("child").state in (State.KILLING, State.KILLED))
        if heir.only("child").state is State.KILLING and heir.jobs:
            heir.finish(heir.job_of("work"), "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED
        heir.close()

    def test_given_only_some_were_started_then_the_others_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 0.0002)
        dead = World(tmp_path, owner="dead")
        dead.consume()
        dead.add_flow(local_files("work"), id="child")
        dead.add_flow(for_each_item())
        dead.start()
        split = dead.job_of("each_split")
        dead.store.crash_at, dead.store.keeps = dead.store.writes + 3, False
        outputs = dead.split_into(*[f"{at}\n" for at in range(6)])
        dead.finish(split, outputs=outputs)
        until(lambda: dead.store.failure)
        begun = len(dead.of_flow("child"))
        assert 0 < begun < 6

        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")
        work(heir, [ended])

        assert heir.state() == "SUCCESS"
        assert len(heir.of_flow("child")) == 6
        assert heir.runs()["each_items"].outputs["iterations"] == {"SUCCESS": 6}
        heir.close()
