from datetime import timedelta

import pytest

from tercel.errors import InvariantError
from tercel.machine.messages import (
    CancelTask,
    EndExecution,
    ExecutionCreated,
    KillRequested,
    LabelsSet,
    StatusChanged,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WorkerLost,
)
from tercel.model.flow import Flow, FlowOutput
from tercel.model.jobs import ExecutionUpdate
from tercel.model.state import State
from tercel.model.task import Retry, WorkerGroup
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tests.unit.machine.driver import NOON, SECOND, Drive, Job, a_flow, a_result, jobs

FAILED = State.FAILED
MINUTE = timedelta(minutes=1)
FIVE_TIMES = Retry(interval=MINUTE, max_attempts=5)


class TestOrder:
    def test_given_tasks_when_each_succeeds_then_they_run_one_after_the_other(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b", "c"))).to_end()

        assert drive.dispatched == ["a", "b", "c"]
        assert drive.states() == {"a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
        assert drive.state is State.SUCCESS

    def test_given_a_failure_then_nothing_after_it_starts_and_the_execution_fails(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b")), {"a": FAILED}).to_end()

        assert drive.states() == {"a": "FAILED"}
        assert drive.state is FAILED

    def test_given_disabled_tasks_then_they_have_no_task_run(self) -> None:
        drive = Drive(a_flow(Job(id="a", disabled=True), Job(id="b"))).to_end()

        assert drive.states() == {"b": "SUCCESS"}

    def test_given_only_disabled_tasks_then_the_execution_succeeds_at_once(self) -> None:
        drive = Drive(
            a_flow(Job(id="a", disabled=True), Sequential(id="s", type="s", tasks=[Job(id="b", disabled=True)]))
        )

        drive.start()

        assert drive.state is State.SUCCESS
        assert drive.states() == {"s": "SUCCESS"}

    def test_given_ten_thousand_skipped_tasks_then_no_step_recurses(self) -> None:
        drive = Drive(a_flow(*(Job(id=f"t{n}", run_if="false") for n in range(10_000))))

        drive.start()

        assert drive.state is State.SUCCESS
        assert set(drive.states().values()) == {"SKIPPED"}

    def test_given_a_warning_then_the_flow_goes_on_and_ends_with_a_warning(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b")), {"a": State.WARNING}).to_end()

        assert drive.states() == {"a": "WARNING", "b": "SUCCESS"}
        assert drive.state is State.WARNING

    def test_given_the_end_then_it_is_told_once(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        change = drive.finish(drive.begin("a"))

        assert change.commands == [EndExecution(state=State.SUCCESS)]
        assert change.execution is drive.live.execution
        assert [run.task_id for run in change.runs] == ["a"]


class TestErrorsAndFinally:
    def test_given_branches_at_every_level_then_they_run_from_the_inside_out(self) -> None:
        inner = Sequential(id="inner", type="s", tasks=jobs("bad"), errors=jobs("e1"), finally_=jobs("f1"))
        outer = Sequential(id="outer", type="s", tasks=[inner], errors=jobs("e2"), finally_=jobs("f2"))
        drive = Drive(a_flow(outer, *jobs("never"), errors=jobs("e3"), finally_=jobs("f3")), {"bad": FAILED}).to_end()

        assert drive.dispatched == ["bad", "e1", "f1", "e2", "f2", "e3", "f3"]
        assert drive.states()["inner"] == drive.states()["outer"] == "FAILED"
        assert drive.state is FAILED

    def test_given_success_then_only_finally_runs(self) -> None:
        drive = Drive(a_flow(*jobs("a"), errors=jobs("e"), finally_=jobs("f", "g"))).to_end()

        assert drive.dispatched == ["a", "f", "g"]

    def test_given_a_failed_finally_then_the_execution_fails(self) -> None:
        drive = Drive(a_flow(*jobs("a"), finally_=jobs("f", "g")), {"f": FAILED}).to_end()

        assert drive.states() == {"a": "SUCCESS", "f": "FAILED"}
        assert drive.state is FAILED

    def test_given_a_failed_error_task_then_the_next_ones_do_not_run(self) -> None:
        drive = Drive(a_flow(*jobs("a"), errors=jobs("e", "g")), {"a": FAILED, "e": FAILED}).to_end()

        assert drive.states() == {"a": "FAILED", "e": "FAILED"}

    def test_given_warnings_in_errors_and_finally_then_they_do_not_show(self) -> None:
        flow = a_flow(*jobs("a"), finally_=jobs("f"))

        assert Drive(flow, {"f": State.WARNING}).to_end().state is State.SUCCESS

    def test_given_a_failure_among_siblings_then_errors_start_and_the_end_waits_for_all(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b"), errors=jobs("e")))).start()
        a, b = drive.begin("a"), drive.begin("b")

        drive.finish(a, FAILED)
        drive.finish(drive.begin("e"))
        assert drive.run("p").state is State.RUNNING
        drive.finish(b)

        assert drive.states() == {"p": "FAILED", "a": "FAILED", "b": "SUCCESS", "e": "SUCCESS"}

    def test_given_a_worker_that_reports_killed_then_neither_errors_nor_finally_run(self) -> None:
        drive = Drive(a_flow(*jobs("a"), errors=jobs("e"), finally_=jobs("f")), {"a": State.KILLED}).to_end()

        assert drive.dispatched == ["a"]
        assert drive.state is State.KILLED

    def test_given_allow_failure_around_then_the_flow_goes_on_with_a_warning(self) -> None:
        around = AllowFailure(id="allow", type="x", tasks=jobs("a", "b"), errors=jobs("e"))
        drive = Drive(a_flow(around, *jobs("c")), {"a": FAILED}).to_end()

        assert drive.dispatched == ["a", "e", "c"]
        assert drive.states() == {"allow": "WARNING", "a": "FAILED", "e": "SUCCESS", "c": "SUCCESS"}
        assert drive.state is State.WARNING


class TestAllowances:
    def test_given_allow_failure_then_a_failure_is_a_warning(self) -> None:
        drive = Drive(a_flow(Job(id="a", allow_failure=True), Job(id="b")), {"a": FAILED}).to_end()

        assert drive.states() == {"a": "WARNING", "b": "SUCCESS"}

    def test_given_allow_warning_too_then_it_is_a_success(self) -> None:
        flow = a_flow(Job(id="a", allow_failure=True, allow_warning=True))

        assert Drive(flow, {"a": FAILED}).to_end().state is State.SUCCESS

    def test_given_a_flowable_with_allow_failure_then_its_errors_run_all_the_same(self) -> None:
        flow = a_flow(Sequential(id="s", type="s", tasks=jobs("a"), errors=jobs("e"), allow_failure=True))
        drive = Drive(flow, {"a": FAILED}).to_end()

        assert drive.states() == {"s": "WARNING", "a": "FAILED", "e": "SUCCESS"}


class TestRunIf:
    def test_given_a_false_condition_then_it_is_skipped_and_counts_as_success(self) -> None:
        drive = Drive(a_flow(Job(id="a", run_if="{{ inputs.go }}"), Job(id="b")), inputs={"go": False}).to_end()

        assert drive.states() == {"a": "SKIPPED", "b": "SUCCESS"}
        assert drive.state is State.SUCCESS
        assert [change.state for change in drive.run("a").history] == [State.CREATED, State.SKIPPED]

    def test_given_a_skipped_flowable_then_nothing_inside_runs(self) -> None:
        drive = Drive(a_flow(Sequential(id="s", type="s", run_if="0", tasks=jobs("a")))).to_end()

        assert drive.states() == {"s": "SKIPPED"}

    def test_given_a_condition_that_cannot_be_rendered_then_the_task_fails_without_a_retry(self) -> None:
        drive = Drive(a_flow(Job(id="a", run_if="{{ nope }}", retry=FIVE_TIMES))).to_end()

        assert drive.state is FAILED
        assert drive.run("a").message.startswith("The `runIf` of task 'a' cannot be rendered: ")
        assert "nope" in drive.run("a").message
        assert drive.dispatched == []

    def test_given_outputs_of_earlier_tasks_then_the_condition_sees_them(self) -> None:
        flow = a_flow(Job(id="a"), Job(id="b", run_if="{{ outputs.a.value > 1 }}"))
        drive = Drive(flow, {"a": a_result(outputs={"value": 2})}).to_end()

        assert drive.states()["b"] == "SUCCESS"


class TestRetry:
    def test_given_a_failure_when_attempts_are_left_then_it_waits_and_runs_again(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES)), {"a": [FAILED, State.SUCCESS]}).start()

        drive.step()

        run = drive.run("a")
        assert run.state is State.RETRYING
        assert drive.state is State.RETRYING
        assert run.due == run.attempts[0].history[-1].date + MINUTE
        drive.to_end()
        assert drive.state is State.SUCCESS
        assert [attempt.state for attempt in drive.run("a").attempts] == [FAILED, State.SUCCESS]
        assert [str(change.state) for change in drive.live.execution.history] == [
            "CREATED", "RUNNING", "RETRYING", "RUNNING", "SUCCESS",
        ]  # fmt: skip

    def test_given_no_attempts_left_then_it_fails_and_errors_run_once(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=3)
        drive = Drive(a_flow(Job(id="a", retry=retry), errors=jobs("e")), {"a": FAILED}).to_end()

        assert drive.dispatched == ["a", "a", "a", "e"]

    def test_given_an_early_timer_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES)), {"a": FAILED}).start()
        drive.step()
        run = drive.run("a")
        assert run.due is not None

        change = drive.apply(TimerDue(now=run.due - timedelta(microseconds=1), run_id=run.id, fence=run.fence))

        assert change.is_empty

    def test_given_warning_on_retry_then_a_late_success_is_a_warning(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=3, warning_on_retry=True)
        flow = a_flow(Job(id="a", retry=retry))

        assert Drive(flow, {"a": [FAILED, State.SUCCESS]}).to_end().state is State.WARNING
        assert Drive(flow).to_end().state is State.SUCCESS

    def test_given_no_policy_of_its_own_then_that_of_the_nearest_flowable_counts(self) -> None:
        twice = Retry(interval=MINUTE, max_attempts=2)
        flow = a_flow(Sequential(id="s", type="s", tasks=jobs("a"), retry=twice), retry=FIVE_TIMES)

        assert Drive(flow, {"a": FAILED}).to_end().dispatched == ["a", "a"]

    def test_given_a_policy_of_the_flow_then_it_counts_for_all(self) -> None:
        flow = a_flow(*jobs("a"), retry=Retry(interval=MINUTE, max_attempts=2))

        assert Drive(flow, {"a": FAILED}).to_end().dispatched == ["a", "a"]

    def test_given_a_result_that_must_not_be_tried_again_then_it_fails(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES)), {"a": a_result(FAILED, retryable=False)}).to_end()

        assert drive.dispatched == ["a"]

    def test_given_a_retry_as_a_new_execution_then_this_one_ends_retried(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=2, behavior="CREATE_NEW_EXECUTION")
        drive = Drive(a_flow(Job(id="a", retry=retry)), {"a": FAILED}).to_end()

        assert drive.state is State.RETRIED
        assert drive.run("a").state is State.RETRIED

    def test_given_another_task_running_then_the_execution_does_not_rest(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=[Job(id="a", retry=FIVE_TIMES), Job(id="b")]))).start()

        drive.finish(drive.begin("a"), FAILED)
        assert drive.state is State.RUNNING
        drive.finish(drive.begin("b"))

        assert drive.state is State.RETRYING


class TestFences:
    def test_given_an_event_twice_then_the_second_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        started = TaskRunStarted(now=drive.now, run_id=job.run_id, fence=1, worker="w")
        finished = TaskRunFinished(now=drive.now, run_id=job.run_id, fence=1, result=a_result())

        assert drive.apply(started).is_empty
        assert not drive.apply(finished).is_empty
        assert drive.apply(finished).is_empty
        assert drive.apply(ExecutionCreated(now=drive.now)).is_empty
        assert drive.dispatched == ["a", "b"]

    def test_given_a_result_of_an_older_dispatch_then_it_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a")
        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=1))

        change = drive.apply(TaskRunFinished(now=drive.now, run_id=job.run_id, fence=1, result=a_result()))

        assert change.is_empty
        assert drive.run("a").fence == 2

    def test_given_a_result_before_the_start_was_told_then_it_counts_and_the_start_does_not(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.queue[0]

        drive.finish(job)
        late = drive.apply(TaskRunStarted(now=drive.now, run_id=job.run_id, fence=1, worker="w"))

        assert late.is_empty
        assert [str(change.state) for change in drive.run("a").history] == ["CREATED", "RUNNING", "SUCCESS"]
        assert len(drive.run("a").attempts) == 1

    def test_given_a_finished_execution_then_it_ignores_everything(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).to_end()
        run = drive.run("a")

        for event in (
            KillRequested(now=drive.now),
            ExecutionCreated(now=drive.now),
            WorkerLost(now=drive.now, run_id=run.id, fence=1),
            TimerDue(now=drive.now, run_id=run.id, fence=1),
        ):
            assert drive.apply(event).is_empty

    def test_given_an_unknown_task_run_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        assert drive.apply(TaskRunFinished(now=NOON, run_id="nobody", fence=1, result=a_result())).is_empty

    def test_given_a_result_that_is_no_end_then_it_is_our_mistake(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a")

        with pytest.raises(InvariantError, match=r"A job cannot end as RUNNING\."):
            drive.finish(job, State.RUNNING)


class TestLostWorker:
    def test_given_a_lost_worker_then_it_starts_again_and_no_retry_is_used_up(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=Retry(interval=MINUTE, max_attempts=2)))).start()
        job = drive.begin("a")

        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=1))

        run = drive.run("a")
        assert (run.state, run.fence, run.lost, run.attempts, run.worker) == (State.CREATED, 2, 1, (), None)
        drive.finish(drive.begin("a"), FAILED)
        assert drive.run("a").state is State.RETRYING

    def test_given_three_losses_then_it_fails_and_is_not_tried_again(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES))).start()

        for fence in (1, 2, 3):
            job = drive.begin("a")
            drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=fence))

        assert drive.state is FAILED
        assert drive.run("a").message == "Its worker was lost 3 times; it is not started again."

    def test_given_a_job_that_a_stopping_worker_gives_back_then_it_starts_again_and_counts_as_no_loss(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES))).start()

        for fence in range(1, 6):
            job = drive.begin("a")
            drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=fence, is_given_back=True))

        run = drive.run("a")
        assert (run.state, run.fence, run.lost, run.attempts, run.worker) == (State.CREATED, 6, 0, (), None)
        drive.finish(drive.begin("a"))
        assert drive.state is State.SUCCESS

    def test_given_a_job_nobody_had_begun_then_it_counts_as_no_loss(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        for fence in range(1, 6):
            drive.apply(WorkerLost(now=drive.now, run_id=drive.queue[-1].run_id, fence=fence))

        assert (drive.run("a").fence, drive.run("a").lost) == (6, 0)

    def test_given_a_kill_then_a_lost_worker_ends_it(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a")
        drive.kill()

        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=1))

        assert drive.state is State.KILLED


class TestKill:
    def test_given_running_tasks_then_they_stop_first_and_then_the_execution(self) -> None:
        around = Sequential(id="s", type="s", tasks=jobs("a", "b"), errors=jobs("e"), finally_=jobs("f"))
        drive = Drive(a_flow(around, finally_=jobs("g"))).start()
        job = drive.begin("a")

        drive.kill()

        assert drive.state is State.KILLING
        assert drive.states() == {"s": "KILLING", "a": "KILLING"}
        assert drive.cancelled == [CancelTask(run_id=job.run_id, fence=1)]
        drive.finish(job, State.KILLED)
        assert drive.states() == {"s": "KILLED", "a": "KILLED"}
        assert drive.state is State.KILLED
        assert drive.dispatched == ["a"]

    def test_given_a_task_that_ends_by_itself_meanwhile_then_its_state_stays(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b"))).start()
        job = drive.begin("a")
        drive.kill()

        drive.finish(job, a_result(outputs={"x": 1}))

        assert drive.states() == {"a": "SUCCESS"}
        assert drive.live.outputs == {"a": {"x": 1}}
        assert drive.state is State.KILLED

    def test_given_a_task_that_waits_for_its_retry_then_it_is_killed_at_once(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES)), {"a": FAILED}).start()
        drive.step()
        run = drive.run("a")

        drive.kill()

        assert drive.state is State.KILLED
        assert drive.run("a").due is None
        assert drive.apply(TimerDue(now=NOON + timedelta(days=1), run_id=run.id, fence=1)).is_empty

    def test_given_a_failure_while_killing_then_it_is_not_tried_again(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=FIVE_TIMES))).start()
        job = drive.begin("a")
        drive.kill()

        drive.finish(job, FAILED)

        assert drive.states() == {"a": "FAILED"}
        assert drive.state is State.KILLED

    def test_given_an_execution_that_has_not_begun_then_it_is_killed_at_once(self) -> None:
        drive = Drive(a_flow(*jobs("a")))

        drive.kill()

        assert drive.state is State.KILLED
        assert drive.apply(ExecutionCreated(now=drive.now)).is_empty

    def test_given_a_second_kill_then_it_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        drive.kill()

        assert drive.apply(KillRequested(now=drive.now)).is_empty


class TestTimeout:
    def test_given_a_worker_that_does_not_end_it_then_the_timer_does_and_it_is_tried_again(self) -> None:
        drive = Drive(a_flow(Job(id="a", timeout="PT1M", retry=FIVE_TIMES))).start()
        job = drive.begin("a")
        run = drive.run("a")
        assert run.due == drive.now + timedelta(seconds=90)

        drive.apply(TimerDue(now=run.due, run_id=run.id, fence=1))

        assert drive.cancelled == [CancelTask(run_id=job.run_id, fence=1)]
        assert drive.run("a").state is State.RETRYING
        assert drive.run("a").message == "The task did not end within its timeout."

    def test_given_a_timeout_that_cannot_be_rendered_then_it_is_left_to_the_worker(self) -> None:
        drive = Drive(a_flow(Job(id="a", timeout="{{ nope }}"))).start()

        drive.begin("a")

        assert drive.run("a").due is None

    def test_given_a_flowable_then_what_is_open_inside_is_ended_and_then_it_fails(self) -> None:
        inner = Sequential(id="inner", type="s", tasks=jobs("a", "never"))
        flow = a_flow(
            Parallel(id="p", type="p", timeout="PT1M", tasks=[inner, Job(id="b")], errors=jobs("e"), finally_=jobs("f"))
        )
        drive = Drive(flow).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(b)
        run = drive.run("p")
        assert run.due == NOON + MINUTE

        drive.apply(TimerDue(now=NOON + MINUTE, run_id=run.id, fence=run.fence))
        assert drive.states() == {"p": "RUNNING", "inner": "KILLING", "a": "KILLING", "b": "SUCCESS"}
        drive.finish(a, State.KILLED)
        drive.to_end()

        assert drive.dispatched == ["a", "b", "e", "f"]
        assert drive.states()["p"] == "FAILED"
        assert drive.states()["inner"] == "KILLED"
        assert drive.run("p").message == "The tasks inside did not end within the timeout."
        assert drive.state is FAILED

    def test_given_a_timer_after_the_main_branch_then_it_only_goes_away(self) -> None:
        flow = a_flow(Sequential(id="s", type="s", timeout="PT1M", tasks=jobs("a"), finally_=jobs("f")))
        drive = Drive(flow).start()
        drive.finish(drive.begin("a"))
        run = drive.run("s")

        change = drive.apply(TimerDue(now=NOON + MINUTE, run_id=run.id, fence=run.fence))

        assert [(run.task_id, run.due) for run in change.runs] == [("s", None)]
        assert drive.to_end().state is State.SUCCESS

    def test_given_a_flowable_with_no_duration_then_it_fails_with_a_sentence(self) -> None:
        drive = Drive(a_flow(Sequential(id="s", type="s", timeout="soon", tasks=jobs("a")))).to_end()

        assert drive.run("s").message.startswith("The `timeout` of task 's' is no duration: 'soon'")


class TestFlowOutputs:
    def test_given_outputs_then_they_are_rendered_at_the_end_as_their_types(self) -> None:
        flow = a_flow(*jobs("a"), outputs=[FlowOutput(id="sum", type="INT", value="{{ outputs.a.n + 1 }}")])
        drive = Drive(flow, {"a": a_result(outputs={"n": 41})}).to_end()

        assert drive.live.execution.outputs == {"sum": 42}

    def test_given_one_that_cannot_be_rendered_then_the_execution_fails_and_says_why(self) -> None:
        flow = a_flow(*jobs("a"), outputs=[FlowOutput(id="sum", type="STRING", value="{{ outputs.b }}")])
        drive = Drive(flow).to_end()

        assert drive.state is FAILED
        assert drive.live.execution.message.startswith("The outputs of the flow cannot be rendered: ")


class TestRows:
    def test_given_a_result_of_another_clock_then_the_history_never_goes_back(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a")

        drive.finish(job, a_result(at=NOON - timedelta(hours=1)))

        dates = [change.date for change in drive.run("a").history]
        assert dates == sorted(dates)

    def test_given_a_worker_group_then_the_job_goes_there(self) -> None:
        drive = Drive(a_flow(Job(id="a", worker_group=WorkerGroup(key="gpu")))).start()

        assert drive.queue[0].group == "gpu"

    def test_given_the_same_events_then_the_same_ids(self) -> None:
        flow = a_flow(ForEach(id="each", type="e", values=["x", "y"], tasks=jobs("a")))

        assert list(Drive(flow).to_end().live.runs) == list(Drive(flow).to_end().live.runs)

    def test_given_a_changed_execution_then_its_version_grows(self) -> None:
        drive = Drive(a_flow(*jobs("a", "b")))

        assert [drive.start().live.execution.version, drive.to_end().live.execution.version] == [1, 2]

    def test_given_a_started_job_then_its_worker_is_on_the_row_until_it_ends(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a", worker="w7")
        assert drive.run("a").worker == "w7"

        drive.finish(job)

        assert drive.run("a").worker is None
        assert drive.run("a").attempts[0].worker == "w7"
        assert drive.run("a").attempts[0].history[0].date == NOON + SECOND


class TestUpdates:
    def update(self, flow: Flow, *updates: ExecutionUpdate) -> Drive:
        """The flow's tasks, one after the other, each with its update."""
        ids = [task.id for task in flow.tasks]
        return Drive(flow, {id_: a_result(update=update) for id_, update in zip(ids, updates, strict=False)}).to_end()

    def test_given_labels_then_they_are_merged(self) -> None:
        first, second = ExecutionUpdate(labels={"a": "1", "b": "1"}), ExecutionUpdate(labels={"b": "2"})

        assert self.update(a_flow(*jobs("x", "y")), first, second).live.execution.labels == {"a": "1", "b": "2"}

    def test_given_variables_then_they_are_merged_deeply_over_those_of_the_flow(self) -> None:
        flow = a_flow(*jobs("x", "y"), variables={"map": {"a": 1, "b": 1}, "kept": True})
        first = ExecutionUpdate(variables={"map": {"b": 2}, "list": [1]})
        second = ExecutionUpdate(variables={"list": [2], "map": {"c": 3}})

        variables = self.update(flow, first, second).live.execution.variables

        assert variables == {"map": {"a": 1, "b": 2, "c": 3}, "kept": True, "list": [2]}

    def test_given_names_to_unset_then_those_of_the_flow_go_too(self) -> None:
        flow = a_flow(*jobs("x", "y"), variables={"gone": 1, "kept": 2})

        drive = self.update(flow, ExecutionUpdate(unset=("gone", "never")), ExecutionUpdate(variables={"n": 3}))

        assert drive.live.execution.variables == {"kept": 2, "n": 3}

    def test_given_all_are_unset_then_those_of_the_flow_do_not_come_back(self) -> None:
        after = Job(id="z", run_if="{{ vars.only is not defined }}")
        flow = a_flow(*jobs("x", "y"), after, variables={"only": 1})

        drive = self.update(flow, ExecutionUpdate(unset=("only",)), ExecutionUpdate(labels={"k": "v"}))

        assert drive.states()["z"] == "SUCCESS"

    def test_given_a_variable_that_is_unset_and_set_then_only_the_new_value_is_left(self) -> None:
        flow = a_flow(*jobs("x"), variables={"map": {"a": 1}})

        variables = self.update(
            flow, ExecutionUpdate(unset=("map",), variables={"map": {"b": 2}})
        ).live.execution.variables

        assert variables == {"map": {"b": 2}}

    def test_given_nothing_new_then_the_execution_stays_as_it_is(self) -> None:
        drive = Drive(a_flow(*jobs("x", "y"))).start()

        change = drive.finish(drive.begin("x"), a_result(update=ExecutionUpdate()))

        assert change.execution is None

    @pytest.mark.parametrize("state", [FAILED, State.KILLED])
    def test_given_a_task_that_did_not_end_well_then_it_changes_nothing(self, state: State) -> None:
        result = a_result(state, update=ExecutionUpdate(labels={"k": "v"}, variables={"n": 1}))
        execution = Drive(a_flow(*jobs("x")), {"x": result}).to_end().live.execution

        assert (execution.labels, execution.variables) == ({}, {})

    def test_given_a_result_that_is_out_of_date_then_it_changes_nothing(self) -> None:
        drive = Drive(a_flow(*jobs("x"))).start()
        job = drive.begin("x")
        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=1))

        assert drive.finish(job, a_result(update=ExecutionUpdate(labels={"k": "v"}))).is_empty

    def test_given_a_restart_then_variables_and_labels_stay(self) -> None:
        flow = a_flow(*jobs("x", "y"))
        update = a_result(update=ExecutionUpdate(labels={"k": "v"}, variables={"n": 1}))
        drive = Drive(flow, {"x": update, "y": [FAILED, State.SUCCESS]}).to_end()

        drive.restart()

        assert drive.live.execution.variables == {"n": 1}
        assert drive.live.execution.labels == {"k": "v"}


class TestLabelsSet:
    @pytest.mark.parametrize("is_over", [False, True])
    def test_given_an_execution_then_they_are_merged_at_any_time(self, is_over: bool) -> None:
        drive = Drive(a_flow(*jobs("a")), labels={"a": "1", "b": "1"}).start()
        if is_over:
            drive.to_end()

        drive.apply(LabelsSet(now=drive.now, labels={"b": "2", "c": "3"}))

        assert drive.live.execution.labels == {"a": "1", "b": "2", "c": "3"}

    def test_given_the_same_again_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(*jobs("a")), labels={"a": "1"}).start()

        assert drive.apply(LabelsSet(now=drive.now, labels={"a": "1"})).is_empty


class TestStatusChanged:
    def test_given_an_end_then_another_one_follows_and_is_told(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x")), {"a": FAILED}).to_end()

        change = drive.apply(StatusChanged(now=drive.now, state=State.SUCCESS))

        assert drive.history() == ["CREATED", "RUNNING", "FAILED", "SUCCESS"]
        assert change.commands == [EndExecution(state=State.SUCCESS)]
        assert drive.states() == {"a": "FAILED", "x": "SUCCESS"}
        assert drive.dispatched == ["a", "x"]

    def test_given_it_has_not_ended_or_ended_so_or_the_state_is_no_end_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        assert drive.apply(StatusChanged(now=drive.now, state=FAILED)).is_empty
        drive.to_end()
        assert drive.apply(StatusChanged(now=drive.now, state=State.SUCCESS)).is_empty
        assert drive.apply(StatusChanged(now=drive.now, state=State.RUNNING)).is_empty

    def test_given_it_was_changed_to_a_failure_then_there_is_nothing_to_restart_at_and_it_ends_again(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).to_end()
        drive.apply(StatusChanged(now=drive.now, state=FAILED))

        drive.restart()

        assert drive.dispatched == []
        assert drive.state is State.SUCCESS
