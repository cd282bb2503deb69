from datetime import timedelta

import pytest

from tercel.machine.messages import (
    EndExecution,
    ExecutionCreated,
    ExecutionTimerDue,
    ForceRunRequested,
    PauseRequested,
    ResumeRequested,
    SlotFreed,
    SubflowEnded,
    SubflowStarted,
    TimerDue,
    WorkerLost,
)
from tercel.model.flow import Concurrency, Flow, Sla
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.plugins.flow.dag import Dag, DagTask
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.loop import CheckFrequency, LoopUntil
from tercel.plugins.flow.pause import Pause
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tercel.plugins.flow.subflow import Subflow
from tests.unit.machine.driver import NOON, SECOND, Drive, Job, a_flow, a_result, jobs
from tests.unit.machine.test_working_directory import Worker, a_directory

FAILED, KILLED, SUCCESS, WARNING = State.FAILED, State.KILLED, State.SUCCESS, State.WARNING
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def a_limited_flow(behavior: str = "QUEUE") -> Flow:
    return a_flow(*jobs("a"), concurrency=Concurrency(limit=2, behavior=behavior))  # type: ignore[arg-type]


def a_subflow(id: str = "sub", **properties: object) -> Subflow:
    return Subflow(id=id, type="subflow", namespace="other", flow_id="child", **properties)  # type: ignore[arg-type]


def in_parallel(*tasks: Task, **properties: object) -> Parallel:
    return Parallel(id="p", type="p", tasks=list(tasks), **properties)  # type: ignore[arg-type]


class TestStart:
    def test_given_a_date_to_come_then_only_its_timer_is_set(self) -> None:
        drive = Drive(a_flow(*jobs("a")), schedule_date=NOON + HOUR).start()

        assert drive.state is State.CREATED
        assert drive.live.execution.due == NOON + HOUR
        assert drive.states() == {}

    def test_given_a_date_to_come_when_it_is_told_twice_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(*jobs("a")), schedule_date=NOON + HOUR).start()

        assert drive.apply(ExecutionCreated(now=NOON + MINUTE)).is_empty
        assert drive.apply(ExecutionTimerDue(now=NOON + MINUTE)).is_empty

    def test_given_its_date_has_come_then_it_starts_and_has_no_timer_any_more(self) -> None:
        drive = Drive(a_flow(*jobs("a")), schedule_date=NOON + HOUR).start()

        drive.fire()

        assert drive.history() == ["CREATED", "RUNNING"]
        assert drive.live.execution.due is None
        assert drive.live.execution.history[-1].date == NOON + HOUR
        assert drive.dispatched == ["a"]

    def test_given_a_date_that_has_passed_then_it_starts_at_once(self) -> None:
        assert Drive(a_flow(*jobs("a")), schedule_date=NOON - HOUR).start().dispatched == ["a"]

    def test_given_it_is_forced_before_its_date_then_it_starts(self) -> None:
        drive = Drive(a_flow(*jobs("a")), schedule_date=NOON + HOUR).start()

        drive.apply(ForceRunRequested(now=NOON + MINUTE))

        assert drive.dispatched == ["a"]
        assert drive.live.execution.due is None
        assert drive.to_end().state is SUCCESS

    def test_given_it_is_killed_before_its_date_then_it_never_starts(self) -> None:
        drive = Drive(a_flow(*jobs("a"), finally_=jobs("f"), after_execution=jobs("x")), schedule_date=NOON + HOUR)
        drive.start()

        change = drive.kill()

        assert change.commands == [EndExecution(state=KILLED)]
        assert drive.history() == ["CREATED", "KILLED"]
        assert drive.live.execution.due is None
        assert drive.apply(ExecutionTimerDue(now=NOON + HOUR)).is_empty


class TestConcurrency:
    def test_given_a_slot_then_it_starts(self) -> None:
        drive = Drive(a_limited_flow())

        drive.apply(ExecutionCreated(now=NOON, has_slot=True))

        assert drive.history() == ["CREATED", "RUNNING"]

    def test_given_no_slot_and_no_limit_then_it_starts(self) -> None:
        drive = Drive(a_flow(*jobs("a")))

        drive.apply(ExecutionCreated(now=NOON, has_slot=False))

        assert drive.state is State.RUNNING

    def test_given_queue_then_it_waits_and_starts_when_a_slot_is_freed(self) -> None:
        drive = Drive(a_limited_flow())

        drive.apply(ExecutionCreated(now=NOON, has_slot=False))
        assert drive.state is State.QUEUED
        assert drive.messages("INFO") == ["It waits: 2 executions of test.flow run already."]
        assert drive.states() == {}
        drive.apply(SlotFreed(now=NOON + SECOND))

        assert drive.history() == ["CREATED", "QUEUED", "RUNNING"]
        assert drive.dispatched == ["a"]

    def test_given_a_slot_is_freed_twice_then_the_second_changes_nothing(self) -> None:
        drive = Drive(a_limited_flow())
        drive.apply(ExecutionCreated(now=NOON, has_slot=False))
        drive.apply(SlotFreed(now=NOON))

        assert drive.apply(SlotFreed(now=NOON)).is_empty
        assert drive.apply(ExecutionCreated(now=NOON, has_slot=False)).is_empty

    def test_given_a_slot_before_it_waits_for_one_then_that_changes_nothing(self) -> None:
        drive = Drive(a_limited_flow())

        assert drive.apply(SlotFreed(now=NOON)).is_empty

    def test_given_queue_when_it_is_forced_then_it_starts_without_a_slot(self) -> None:
        drive = Drive(a_limited_flow())
        drive.apply(ExecutionCreated(now=NOON, has_slot=False))

        drive.apply(ForceRunRequested(now=NOON))

        assert drive.dispatched == ["a"]

    def test_given_queue_when_it_is_killed_then_it_ends_at_once(self) -> None:
        drive = Drive(a_limited_flow())
        drive.apply(ExecutionCreated(now=NOON, has_slot=False))

        drive.kill()

        assert drive.history() == ["CREATED", "QUEUED", "KILLED"]
        assert drive.ends == [KILLED]

    @pytest.mark.parametrize(
        ("behavior", "state", "level", "message"),
        [
            ("CANCEL", State.CANCELLED, "WARN", "Cancelled: 2 executions of test.flow run already."),
            (
                "FAIL",
                FAILED,
                "ERROR",
                "2 executions of test.flow run already, and its concurrency allows no more.",
            ),
        ],
    )
    def test_given_it_is_not_to_wait_then_it_ends_without_a_task_run(
        self, behavior: str, state: State, level: str, message: str
    ) -> None:
        drive = Drive(a_limited_flow(behavior))

        drive.apply(ExecutionCreated(now=NOON, has_slot=False))

        assert drive.history() == ["CREATED", state.value]
        assert drive.ends == [state]
        assert drive.messages(level) == [message]
        assert drive.states() == {}
        assert drive.live.execution.message == (message if behavior == "FAIL" else "")

    def test_given_it_is_not_to_wait_then_neither_errors_nor_finally_nor_after_run_and_outputs_are_not_rendered(
        self,
    ) -> None:
        branches = {"errors": jobs("e"), "finally_": jobs("f"), "after_execution": jobs("x")}
        drive = Drive(a_flow(*jobs("a"), concurrency=Concurrency(limit=1, behavior="FAIL"), **branches))

        drive.apply(ExecutionCreated(now=NOON, has_slot=False))

        assert drive.dispatched == []
        assert not drive.live.execution.is_open

    def test_given_a_date_and_no_slot_then_its_timer_ends_with_the_wait_for_it(self) -> None:
        drive = Drive(a_limited_flow(), schedule_date=NOON + HOUR)
        drive.apply(ExecutionCreated(now=NOON, has_slot=False))
        assert drive.state is State.CREATED

        drive.apply(ExecutionCreated(now=NOON + HOUR, has_slot=False))

        assert drive.state is State.QUEUED
        assert drive.live.execution.due is None


class TestForceRun:
    @pytest.mark.parametrize("state", [SUCCESS, FAILED])
    def test_given_it_runs_or_has_ended_then_nothing_changes(self, state: State) -> None:
        drive = Drive(a_flow(*jobs("a")), {"a": state}).start()

        assert drive.apply(ForceRunRequested(now=drive.now)).is_empty
        drive.to_end()
        assert drive.apply(ForceRunRequested(now=drive.now)).is_empty

    def test_given_it_is_paused_by_hand_then_it_goes_on(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)

        drive.apply(ForceRunRequested(now=drive.now))

        assert drive.dispatched == ["a", "b"]

    def test_given_a_task_that_paused_then_it_goes_on(self) -> None:
        drive = Drive(a_flow(Pause(id="wait", type="p"), *jobs("a"))).start()

        drive.apply(ForceRunRequested(now=drive.now))

        assert drive.dispatched == ["a"]


class TestPauseByHand:
    def test_given_a_job_under_way_then_it_ends_and_nothing_follows(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")

        drive.pause()
        assert drive.state is State.PAUSED
        drive.finish(job)

        assert drive.states() == {"a": "SUCCESS"}
        assert drive.dispatched == ["a"]
        assert drive.state is State.PAUSED

    def test_given_it_is_resumed_then_it_runs_on(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)

        drive.resume()

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RUNNING"]
        assert drive.to_end().dispatched == ["a", "b"]
        assert drive.state is SUCCESS

    def test_given_it_is_resumed_before_the_job_has_ended_then_nothing_is_sent_twice(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        drive.pause()

        drive.resume()
        drive.finish(job)

        assert drive.to_end().dispatched == ["a", "b"]

    def test_given_a_job_that_nobody_has_begun_then_it_may_still_begin(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        drive.pause()

        drive.finish(drive.begin("a"))

        assert drive.states() == {"a": "SUCCESS"}

    def test_given_the_last_task_ends_then_the_execution_ends_only_once_it_is_resumed(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)
        assert drive.ends == []

        drive.resume()

        assert drive.state is SUCCESS
        assert drive.dispatched == ["a", "x"]

    def test_given_a_failure_then_errors_begin_once_it_is_resumed(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a"), errors=jobs("e"), finally_=jobs("f"))
        drive = Drive(a_flow(inner, errors=jobs("e2"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job, FAILED)
        assert drive.dispatched == ["a"]

        drive.resume()

        assert drive.to_end().dispatched == ["a", "e", "f", "e2"]
        assert drive.state is FAILED

    def test_given_several_lanes_then_each_goes_on_where_it_was(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y", "z"], concurrency_limit=2, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        x, y = drive.begin("a[x]"), drive.begin("a[y]")
        drive.pause()
        drive.finish(x)
        drive.finish(y)
        assert drive.dispatched == ["a[x]", "a[y]"]

        drive.resume()
        assert sorted(drive.dispatched[2:]) == ["b[x]", "b[y]"]

        assert sorted(drive.to_end().dispatched[4:]) == ["a[z]", "b[z]"]

    def test_given_a_retry_becomes_due_meanwhile_then_it_starts_when_it_is_resumed(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=Retry(interval=MINUTE, max_attempts=2)))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job, FAILED)
        run = drive.run("a")
        assert run.state is State.RETRYING
        drive.now += HOUR
        assert drive.apply(TimerDue(now=drive.now, run_id=run.id, fence=run.fence)).is_empty

        drive.resume()

        assert drive.dispatched == ["a", "a"]
        assert drive.to_end().state is SUCCESS

    def test_given_a_retry_is_not_due_when_it_is_resumed_then_it_waits_for_its_time(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=Retry(interval=HOUR, max_attempts=2)))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job, FAILED)

        drive.resume()

        assert drive.dispatched == ["a"]
        assert drive.state is State.RETRYING

    def test_given_it_waits_for_a_retry_then_it_can_be_paused(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=Retry(interval=HOUR, max_attempts=2))), {"a": FAILED}).start()
        drive.step()
        assert drive.state is State.RETRYING

        drive.pause()
        assert drive.state is State.PAUSED
        drive.resume()

        assert drive.state is State.RETRYING

    def test_given_the_timeout_of_a_flowable_then_it_counts_during_the_pause(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a"), timeout="PT1M", errors=jobs("e"))
        drive = Drive(a_flow(inside)).start()
        job = drive.begin("a")
        drive.pause()

        drive.fire()
        assert [command.run_id for command in drive.cancelled] == [job.run_id]
        drive.finish(job, KILLED)
        assert drive.dispatched == ["a"]
        drive.resume()

        assert drive.to_end().dispatched == ["a", "e"]
        assert drive.states()["s"] == "FAILED"

    def test_given_the_timeout_of_a_flowable_whose_next_task_is_held_back_then_that_never_starts(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a", "b"), timeout="PT1M")
        drive = Drive(a_flow(inside)).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)

        drive.fire()
        drive.resume()

        assert drive.dispatched == ["a"]
        assert drive.states() == {"s": "FAILED", "a": "SUCCESS"}

    def test_given_the_timeout_of_a_flowable_whose_tasks_have_ended_then_it_ended_in_time(self) -> None:
        inside = Sequential(id="s", type="s", tasks=jobs("a"), timeout="PT1M", finally_=jobs("f"))
        drive = Drive(a_flow(inside)).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)

        drive.fire()
        drive.resume()

        assert drive.to_end().states() == {"s": "SUCCESS", "a": "SUCCESS", "f": "SUCCESS"}

    def test_given_a_loop_between_two_rounds_when_its_time_is_up_then_it_fails(self) -> None:
        often = CheckFrequency(interval="PT30S")
        loop = LoopUntil(id="l", type="l", tasks=jobs("a"), condition="false", check_frequency=often, timeout="PT1M")
        drive = Drive(a_flow(loop)).start()
        drive.step()
        drive.pause()
        run = drive.run("l")

        drive.now += HOUR
        drive.apply(TimerDue(now=drive.now, run_id=run.id, fence=run.fence))
        drive.resume()

        assert drive.dispatched == ["a"]
        assert drive.states() == {"l": "FAILED", "a": "SUCCESS"}

    def test_given_lanes_one_of_which_was_killed_meanwhile_then_nothing_follows_in_the_others(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a"))
        each = ForEach(id="e", type="e", values=["x", "y"], concurrency_limit=0, tasks=[inner, *jobs("b")])
        drive = Drive(a_flow(each)).start()
        killed, done = drive.begin("a[x]"), drive.begin("a[y]")
        drive.pause()
        drive.finish(killed, KILLED)
        drive.finish(done)

        drive.resume()

        assert drive.state is KILLED
        assert drive.dispatched == ["a[x]", "a[y]"]

    def test_given_errors_end_after_a_timeout_then_what_was_to_follow_is_forgotten(self) -> None:
        each = ForEach(
            id="e", type="e", values=["x", "y"], concurrency_limit=2, tasks=jobs("a", "b"), errors=jobs("g"),
            timeout="PT1M",
        )  # fmt: skip
        drive = Drive(a_flow(each)).start()
        x, y = drive.begin("a[x]"), drive.begin("a[y]")
        drive.fire()
        drive.finish(x)
        drive.finish(y, KILLED)
        job = drive.begin("g")
        drive.pause()

        drive.finish(job)  # the rows say the same, which the driver looks at

        assert drive.live.scopes[drive.run("e").id].ready == []

    def test_given_a_kill_then_what_was_to_follow_is_forgotten(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y"], concurrency_limit=2, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        job = drive.begin("a[x]")
        drive.begin("a[y]")
        drive.pause()
        drive.finish(job)

        drive.kill()  # the rows say the same, which the driver looks at

        assert drive.live.scopes[drive.run("e").id].ready == []

    def test_given_a_job_outlives_its_timeout_then_it_fails_during_the_pause(self) -> None:
        drive = Drive(a_flow(Job(id="a", timeout="PT1M"))).start()
        drive.begin("a")
        drive.pause()

        drive.fire()

        assert drive.states() == {"a": "FAILED"}
        assert drive.state is State.PAUSED

    def test_given_its_worker_is_lost_then_the_job_is_sent_again(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        drive.pause()

        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=job.fence))

        assert drive.dispatched == ["a", "a"]
        assert drive.state is State.PAUSED

    def test_given_a_directory_that_fails_then_its_errors_wait(self) -> None:
        drive = Drive(a_flow(a_directory("a", errors=jobs("e")))).start()
        worker = Worker(drive)
        worker.runs("a", FAILED)
        drive.pause()
        worker.ends(FAILED)
        assert drive.dispatched == ["wd"]

        drive.resume()

        assert drive.to_end().dispatched == ["wd", "e"]

    def test_given_it_is_killed_then_it_ends(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"), finally_=jobs("f"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)

        drive.kill()

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "KILLING", "KILLED"]
        assert drive.dispatched == ["a"]

    def test_given_it_is_paused_twice_or_resumed_twice_then_the_second_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        assert drive.apply(ResumeRequested(now=drive.now)).is_empty
        drive.pause()

        assert drive.pause().is_empty
        drive.resume()
        assert drive.resume().is_empty

    def test_given_a_late_resume_of_a_task_run_that_is_over_then_the_pause_by_hand_stands(self) -> None:
        drive = Drive(a_flow(Pause(id="wait", type="p"), *jobs("a"))).start()
        drive.resume("wait")
        drive.pause()

        assert drive.resume("wait").is_empty
        assert drive.state is State.PAUSED

    def test_given_it_does_not_run_then_it_cannot_be_paused(self) -> None:
        drive = Drive(a_flow(*jobs("a")))

        assert drive.apply(PauseRequested(now=drive.now)).is_empty
        drive.to_end()
        assert drive.apply(PauseRequested(now=drive.now)).is_empty

    def test_given_a_failure_that_is_absorbed_then_it_goes_on_after_that(self) -> None:
        allow = AllowFailure(id="allow", type="x", tasks=jobs("a"), errors=jobs("e"))
        drive = Drive(a_flow(allow, *jobs("b"))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job, FAILED)

        drive.resume()

        assert drive.to_end().dispatched == ["a", "e", "b"]
        assert drive.state is WARNING

    def test_given_it_crashes_at_any_moment_then_it_goes_on_as_if_nothing_had_happened(self) -> None:
        flow = a_flow(in_parallel(*jobs("a"), Sequential(id="s", type="s", tasks=jobs("b", "c"))), *jobs("d"))
        drive = Drive(flow).start()
        a, b = drive.begin("a"), drive.begin("b")
        for act in (
            drive.pause,
            lambda: drive.finish(b),
            lambda: drive.finish(a),
            drive.resume,
        ):
            act()
            drive.crash()

        assert drive.to_end().states() == dict.fromkeys(["p", "a", "s", "b", "c", "d"], "SUCCESS")


class TestResume:
    @pytest.mark.parametrize("crashes", [False, True])
    def test_given_two_that_paused_at_once_then_the_one_that_was_made_first_goes_on(self, *, crashes: bool) -> None:
        pauses = [Pause(id=id_, type="pause", timeout="PT1M") for id_ in "ab"]
        tasks = [DagTask(task=pauses[0], depends_on=["x"]), DagTask(task=pauses[1]), DagTask(task=Job(id="x"))]
        drive = Drive(a_flow(Dag(id="d", type="d", tasks=tasks))).start()
        drive.finish(drive.begin("x"))
        drive.fire()
        drive.fire()
        drive.restart()
        assert drive.states() == {"d": "RUNNING", "b": "PAUSED", "x": "SUCCESS", "a": "PAUSED"}

        if crashes:
            drive.crash()
        drive.resume()

        assert drive.states() == {"d": "RUNNING", "b": "SUCCESS", "x": "SUCCESS", "a": "PAUSED"}


class TestSubflow:
    def test_given_its_job_then_the_engine_itself_gets_it(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()

        assert drive.dispatched == ["sub"]
        assert drive.queue[0].task.id == "sub"

    def test_given_the_execution_is_started_then_it_runs_with_an_attempt_until_that_ends(self) -> None:
        drive = Drive(a_flow(a_subflow(), *jobs("a"))).start()

        drive.subflows_started("sub", executionId="x", state="CREATED")
        assert drive.states() == {"sub": "RUNNING"}
        assert drive.run("sub").outputs == {"executionId": "x", "state": "CREATED"}
        assert [attempt.worker for attempt in drive.run("sub").attempts] == ["engine"]
        drive.subflow_ended("sub", n=1)

        assert drive.history("sub") == ["CREATED", "RUNNING", "SUCCESS"]
        assert drive.run("sub").outputs == {"executionId": "x", "state": "SUCCESS", "outputs": {"n": 1}}
        assert drive.run("sub").attempts[0].state is SUCCESS
        assert drive.dispatched == ["sub", "a"]
        assert drive.live.outputs["sub"] == drive.run("sub").outputs

    def test_given_it_does_not_wait_then_it_ends_as_soon_as_all_are_started(self) -> None:
        drive = Drive(a_flow(a_subflow(wait=False), *jobs("a"))).start()

        drive.subflows_started("sub", total=2, started=1)
        assert drive.run("sub").state is State.RUNNING
        drive.subflows_started("sub", total=2, started=2)

        assert drive.run("sub").state is SUCCESS
        assert drive.dispatched == ["sub", "a"]
        assert drive.subflow_ended("sub", FAILED).is_empty

    @pytest.mark.parametrize(
        ("ends", "state", "message"),
        [
            ([SUCCESS, SUCCESS, SUCCESS], SUCCESS, ""),
            ([SUCCESS, WARNING, SUCCESS], WARNING, "Of the executions that it started, 1 ended in WARNING."),
            ([WARNING, KILLED, SUCCESS], KILLED, "Of the executions that it started, 1 ended in KILLED."),
            ([FAILED, KILLED, FAILED], FAILED, "Of the executions that it started, 2 ended in FAILED."),
            ([State.CANCELLED, SUCCESS, SUCCESS], SUCCESS, ""),
        ],
    )
    def test_given_several_then_it_ends_with_the_last_in_the_worst_of_their_states(
        self, ends: list[State], state: State, message: str
    ) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=3)

        for index in (2, 0, 1):
            assert drive.run("sub").state is State.RUNNING
            drive.subflow_ended("sub", ends[index], index)

        assert drive.run("sub").state is state
        assert drive.state is state
        assert [line.message for line in drive.logs] == ([message] if message else [])
        assert drive.run("sub").message == ("" if state is WARNING else message)

    def test_given_it_does_not_transmit_failures_then_it_succeeds(self) -> None:
        drive = Drive(a_flow(a_subflow(transmit_failed=False))).start()
        drive.subflows_started("sub")

        drive.subflow_ended("sub", FAILED)

        assert drive.run("sub").state is SUCCESS
        assert drive.run("sub").outputs["state"] == "FAILED"

    def test_given_a_failure_then_its_allowances_count(self) -> None:
        drive = Drive(a_flow(a_subflow(allow_failure=True))).start()
        drive.subflows_started("sub")

        drive.subflow_ended("sub", FAILED)

        assert drive.states() == {"sub": "WARNING"}

    def test_given_a_failure_and_a_retry_then_others_are_started_under_a_new_fence(self) -> None:
        drive = Drive(a_flow(a_subflow(retry=Retry(interval=MINUTE, max_attempts=2)))).start()
        first = drive.run("sub")
        drive.subflows_started("sub")
        drive.subflow_ended("sub", FAILED)
        assert drive.run("sub").state is State.RETRYING

        drive.fire()
        late = SubflowEnded(now=drive.now, run_id=first.id, fence=first.fence, index=0, state=SUCCESS)
        assert drive.apply(late).is_empty
        drive.subflows_started("sub")
        drive.subflow_ended("sub")

        assert drive.dispatched == ["sub", "sub"]
        assert drive.run("sub").fence == first.fence + 1
        assert [attempt.state for attempt in drive.run("sub").attempts] == [FAILED, SUCCESS]
        assert drive.state is SUCCESS

    def test_given_an_end_twice_then_it_counts_once(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=2)
        drive.subflow_ended("sub", SUCCESS, 1)

        assert drive.subflow_ended("sub", FAILED, 1).is_empty
        assert drive.run("sub").state is State.RUNNING

    def test_given_a_start_twice_or_an_older_one_then_it_changes_nothing(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=3, started=2)

        assert drive.subflows_started("sub", total=3, started=2).is_empty
        assert drive.subflows_started("sub", total=3, started=1).is_empty
        assert not drive.subflows_started("sub", total=3, started=3).is_empty

    def test_given_nothing_to_start_then_it_succeeds_at_once(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()

        drive.subflows_started("sub", total=0)

        assert drive.history("sub") == ["CREATED", "RUNNING", "SUCCESS"]

    def test_given_some_end_before_all_are_started_then_it_waits_for_the_others(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=2, started=1)

        drive.subflow_ended("sub", SUCCESS, 0)
        assert drive.run("sub").state is State.RUNNING
        drive.subflows_started("sub", total=2, started=2)
        drive.subflow_ended("sub", SUCCESS, 1)

        assert drive.run("sub").state is SUCCESS

    def test_given_they_cannot_be_started_then_it_fails(self) -> None:
        drive = Drive(a_flow(a_subflow(), errors=jobs("e"))).start()
        job = drive.queue.pop()

        drive.finish(job, a_result(FAILED, message="There is no flow other.child."))

        assert drive.history("sub") == ["CREATED", "RUNNING", "FAILED"]
        assert drive.run("sub").message == "There is no flow other.child."
        assert drive.dispatched == ["sub", "e"]

    def test_given_a_kill_then_the_executions_are_cancelled_and_their_ends_awaited(self) -> None:
        drive = Drive(a_flow(a_subflow(), finally_=jobs("f"))).start()
        drive.subflows_started("sub", total=2)

        drive.kill()
        assert [command.run_id for command in drive.cancelled] == [drive.run("sub").id]
        drive.subflow_ended("sub", KILLED, 0)
        assert drive.state is State.KILLING
        drive.subflow_ended("sub", SUCCESS, 1)

        assert drive.states() == {"sub": "KILLED"}
        assert drive.run("sub").attempts[0].state is KILLED
        assert drive.state is KILLED

    def test_given_a_kill_while_some_are_still_to_be_started_then_those_started_count(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=9, started=1)

        drive.kill()
        drive.subflow_ended("sub", KILLED, 0)

        assert drive.state is KILLED

    def test_given_a_kill_without_cascade_then_it_does_not_wait_for_them(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub")

        drive.kill(cascade=False)

        assert drive.cancelled == []
        assert drive.states() == {"sub": "KILLED"}
        assert drive.state is KILLED

    def test_given_a_kill_without_cascade_then_a_restart_begins_with_an_attempt_of_its_own(self) -> None:
        drive = Drive(a_flow(a_subflow(retry=Retry(interval=MINUTE, max_attempts=1)))).start()
        drive.subflows_started("sub")
        drive.kill(cascade=False)
        assert [attempt.state for attempt in drive.run("sub").attempts] == [KILLED]
        drive.restart()

        drive.finish(drive.queue[-1], FAILED)  # they cannot be started

        assert [attempt.state for attempt in drive.run("sub").attempts] == [KILLED, FAILED]
        assert drive.state is FAILED

    def test_given_a_start_that_is_told_after_the_kill_then_it_is_out_of_date(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.kill()

        assert drive.subflows_started("sub").is_empty
        assert drive.run("sub").state is State.KILLING

    def test_given_its_time_passes_then_it_fails_and_the_executions_are_cancelled(self) -> None:
        drive = Drive(a_flow(a_subflow(timeout="PT1M"))).start()
        drive.subflows_started("sub")

        drive.fire()

        assert drive.run("sub").state is FAILED
        assert drive.run("sub").message == "The task did not end within its timeout."
        assert [command.run_id for command in drive.cancelled] == [drive.run("sub").id]
        assert drive.subflow_ended("sub", KILLED).is_empty

    def test_given_its_time_passes_then_nobody_is_waited_for_in_vain(self) -> None:
        """A worker has some grace to tell of a timeout itself; nobody but the engine looks at a Subflow's."""
        drive = Drive(a_flow(a_subflow(timeout="PT1M"))).start()

        drive.subflows_started("sub")

        assert drive.run("sub").due == drive.now + MINUTE

    def test_given_its_engine_is_lost_then_the_executions_stay_its_own(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub")
        run = drive.run("sub")

        assert drive.apply(WorkerLost(now=drive.now, run_id=run.id, fence=run.fence)).is_empty

    def test_given_its_engine_is_lost_before_any_was_started_then_it_starts_them_again(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        run = drive.run("sub")

        drive.apply(WorkerLost(now=drive.now, run_id=run.id, fence=run.fence))

        assert drive.dispatched == ["sub", "sub"]

    def test_given_it_failed_when_it_is_restarted_then_new_ones_are_started(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", executionId="x")
        drive.subflow_ended("sub", FAILED, n=1)

        drive.restart()
        assert drive.run("sub").outputs == {}
        drive.subflows_started("sub", executionId="y")
        drive.subflow_ended("sub", SUCCESS)

        assert drive.history("sub") == [
            "CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS",
        ]  # fmt: skip
        assert drive.run("sub").outputs == {"executionId": "y", "state": "SUCCESS", "outputs": {}}

    def test_given_a_pause_by_hand_then_its_end_is_written_down_and_nothing_follows(self) -> None:
        drive = Drive(a_flow(a_subflow(), *jobs("a"))).start()
        drive.subflows_started("sub")
        drive.pause()

        drive.subflow_ended("sub")
        assert drive.states() == {"sub": "SUCCESS"}
        drive.resume()

        assert drive.dispatched == ["sub", "a"]

    def test_given_an_event_about_another_task_then_it_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        assert drive.subflows_started("a").is_empty
        assert drive.subflow_ended("a").is_empty
        unknown = SubflowStarted(now=drive.now, run_id="unknown", fence=1, total=1, started=1)
        assert drive.apply(unknown).is_empty

    def test_given_a_crash_at_any_moment_then_the_count_goes_on(self) -> None:
        drive = Drive(a_flow(a_subflow())).start()
        drive.subflows_started("sub", total=70)
        for index in range(70):
            drive.subflow_ended("sub", SUCCESS, index)
            drive.crash()

        assert drive.state is SUCCESS


class TestMaxDuration:
    def a_flow(self, behavior: str = "FAIL", *tasks: Task, **properties: object) -> Flow:
        sla = Sla(id="soon", type="MAX_DURATION", duration=HOUR, behavior=behavior, labels={"sla": "missed"})  # type: ignore[arg-type]
        return a_flow(*(tasks or jobs("a")), sla=[sla], **properties)

    def test_given_it_starts_then_its_timer_is_set_and_goes_with_its_end(self) -> None:
        drive = Drive(self.a_flow()).start()
        assert drive.live.execution.due == NOON + HOUR

        drive.to_end()

        assert drive.state is SUCCESS
        assert drive.live.execution.due is None
        assert drive.live.execution.violated == ()

    def test_given_it_waits_for_its_turn_then_its_time_counts_from_its_start(self) -> None:
        sla = Sla(id="soon", type="MAX_DURATION", duration=HOUR, behavior="FAIL")
        drive = Drive(a_flow(*jobs("a"), sla=[sla], concurrency=Concurrency(limit=1)))
        drive.apply(ExecutionCreated(now=NOON, has_slot=False))
        assert drive.live.execution.due is None

        drive.apply(SlotFreed(now=NOON + HOUR))

        assert drive.live.execution.due == NOON + 2 * HOUR

    @pytest.mark.parametrize(("behavior", "state"), [("FAIL", FAILED), ("CANCEL", State.CANCELLED)])
    def test_given_its_time_is_over_then_what_is_open_is_killed_and_it_ends(self, behavior: str, state: State) -> None:
        branches = {"errors": jobs("e"), "finally_": jobs("f")}
        drive = Drive(self.a_flow(behavior, in_parallel(*jobs("a"), Pause(id="w", type="w")), **branches)).start()
        job = drive.begin("a")

        drive.fire()
        assert drive.state is State.KILLING
        assert drive.live.execution.ends_as is state
        assert drive.states() == {"p": "KILLING", "a": "KILLING", "w": "KILLED"}
        drive.finish(job, KILLED)

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "KILLING", state.value]
        assert drive.states() == {"p": "KILLED", "a": "KILLED", "w": "KILLED"}
        assert drive.dispatched == ["a"]
        assert drive.ends == [state]
        assert drive.messages("WARN") == ["The SLA 'soon' is violated: it runs longer than 1:00:00."]
        assert drive.live.execution.message == "The SLA 'soon' is violated: it runs longer than 1:00:00."
        assert drive.live.execution.labels == {"sla": "missed"}
        assert drive.live.execution.violated == ("soon",)

    def test_given_none_then_it_is_labelled_and_goes_on(self) -> None:
        drive = Drive(self.a_flow("NONE")).start()
        job = drive.begin("a")

        drive.fire()
        assert drive.live.execution.due is None
        drive.finish(job)

        assert drive.state is SUCCESS
        assert drive.live.execution.labels == {"sla": "missed"}
        assert drive.messages("WARN") == ["The SLA 'soon' is violated: it runs longer than 1:00:00."]

    def test_given_an_early_or_a_second_timer_then_nothing_changes(self) -> None:
        drive = Drive(self.a_flow("NONE")).start()

        assert drive.apply(ExecutionTimerDue(now=NOON + MINUTE)).is_empty
        drive.fire()
        assert drive.apply(ExecutionTimerDue(now=NOON + 2 * HOUR)).is_empty

    def test_given_several_then_each_has_its_time_and_the_first_that_ends_it_acts(self) -> None:
        slas = [
            Sla(id="late", type="MAX_DURATION", duration=2 * HOUR, behavior="FAIL"),
            Sla(id="warn", type="MAX_DURATION", duration=HOUR, behavior="NONE", labels={"slow": "yes"}),
            Sla(id="later", type="MAX_DURATION", duration=3 * HOUR, behavior="CANCEL"),
        ]
        drive = Drive(a_flow(*jobs("a"), sla=slas)).start()
        job = drive.begin("a")

        drive.fire()
        assert drive.live.execution.due == NOON + 2 * HOUR
        drive.fire()
        drive.finish(job, KILLED)

        assert drive.state is FAILED
        assert drive.live.execution.violated == ("warn", "late")

    def test_given_two_are_over_at_once_then_only_the_first_ends_it(self) -> None:
        slas = [
            Sla(id="one", type="MAX_DURATION", duration=HOUR, behavior="CANCEL"),
            Sla(id="two", type="MAX_DURATION", duration=HOUR, behavior="FAIL"),
        ]
        drive = Drive(a_flow(*jobs("a"), sla=slas)).start()
        job = drive.begin("a")

        drive.fire()
        drive.finish(job, KILLED)

        assert drive.state is State.CANCELLED
        assert drive.live.execution.violated == ("one",)

    def test_given_a_subflow_then_its_executions_go_on(self) -> None:
        drive = Drive(self.a_flow("FAIL", a_subflow())).start()
        drive.subflows_started("sub")

        drive.fire()

        assert drive.cancelled == []
        assert drive.state is FAILED

    def test_given_it_is_restarted_then_its_time_counts_anew(self) -> None:
        drive = Drive(self.a_flow()).start()
        job = drive.begin("a")
        drive.fire()
        drive.finish(job, KILLED)

        drive.restart()

        assert drive.live.execution.violated == ()
        assert drive.live.execution.due == drive.now + HOUR
        assert drive.to_end().state is SUCCESS

    def test_given_a_pause_then_its_time_goes_on(self) -> None:
        drive = Drive(self.a_flow("FAIL", Pause(id="w", type="w"))).start()

        drive.fire()

        assert drive.state is FAILED
        assert drive.states() == {"w": "KILLED"}

    def test_given_a_kill_meanwhile_then_it_is_killed(self) -> None:
        drive = Drive(self.a_flow()).start()
        job = drive.begin("a")
        drive.fire()

        drive.kill()
        assert drive.live.execution.ends_as is None
        drive.finish(job, KILLED)

        assert drive.state is KILLED

    def test_given_after_tasks_then_they_run(self) -> None:
        drive = Drive(self.a_flow("CANCEL", *jobs("a"), after_execution=jobs("x"))).start()
        job = drive.begin("a")
        drive.fire()

        drive.finish(job, KILLED)

        assert drive.dispatched == ["a", "x"]
        assert drive.state is State.CANCELLED


class TestAssertion:
    def a_flow(self, assertion: str, behavior: str = "FAIL", *tasks: Task, **properties: object) -> Flow:
        sla = Sla(
            id="few",
            type="EXECUTION_ASSERTION",
            assertion=assertion,
            behavior=behavior,  # type: ignore[arg-type]
            labels={"sla": "broken"},
        )
        return a_flow(*(tasks or jobs("a", "b")), sla=[sla], **properties)

    def test_given_it_holds_then_the_execution_goes_on(self) -> None:
        flow = self.a_flow("{{ (outputs.a.value ?? 0) < 3 }}")

        drive = Drive(flow, {"a": a_result(outputs={"value": 2})}).to_end()

        assert drive.state is SUCCESS
        assert drive.live.execution.violated == ()
        assert drive.live.execution.labels == {}

    @pytest.mark.parametrize(("behavior", "state"), [("FAIL", FAILED), ("CANCEL", State.CANCELLED)])
    def test_given_a_change_breaks_it_then_the_execution_ends(self, behavior: str, state: State) -> None:
        flow = self.a_flow("{{ (outputs.a.value ?? 0) < 3 }}", behavior)
        drive = Drive(flow, {"a": a_result(outputs={"value": 3})}).start()

        drive.step()

        assert drive.state is State.KILLING
        drive.finish(drive.queue[0], KILLED)
        assert drive.state is state
        assert drive.states() == {"a": "SUCCESS", "b": "KILLED"}
        assert drive.messages("WARN") == ["The SLA 'few' is violated: what it asserts does not hold."]
        assert drive.live.execution.labels == {"sla": "broken"}

    def test_given_none_then_it_is_told_once(self) -> None:
        drive = Drive(self.a_flow("{{ execution.state != 'RUNNING' }}", "NONE")).to_end()

        assert drive.state is SUCCESS
        assert drive.messages("WARN") == ["The SLA 'few' is violated: what it asserts does not hold."]
        assert drive.live.execution.violated == ("few",)
        assert drive.live.execution.labels == {"sla": "broken"}

    def test_given_it_cannot_be_rendered_then_it_is_logged_and_ignored(self) -> None:
        drive = Drive(self.a_flow("{{ outputs.b.value }}")).to_end()

        assert drive.state is SUCCESS
        assert drive.messages("DEBUG")
        assert drive.messages("DEBUG")[0].startswith("The SLA 'few' cannot be looked at: ")
        assert "WARN" not in {line.level for line in drive.logs}

    def test_given_it_is_broken_from_the_start_then_the_execution_ends_before_a_job_begins(self) -> None:
        drive = Drive(self.a_flow("false")).start()

        drive.finish(drive.queue[0], KILLED)

        assert drive.state is FAILED

    def test_given_an_event_that_changes_nothing_then_it_is_not_looked_at(self) -> None:
        drive = Drive(self.a_flow("{{ outputs.b.value }}")).start()
        told = len(drive.logs)

        assert drive.apply(ExecutionCreated(now=drive.now)).is_empty

        assert len(drive.logs) == told

    def test_given_the_last_task_breaks_it_then_the_execution_has_ended_already(self) -> None:
        flow = self.a_flow("{{ (tasks.a.state ?? '') != 'SUCCESS' }}", "FAIL", *jobs("a"))

        assert Drive(flow).to_end().state is SUCCESS
