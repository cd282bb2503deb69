from datetime import timedelta
from typing import Any

import pytest

from tercel.executor.children import retry_id
from tercel.machine.messages import (
    EndExecution,
    KillRequested,
    LabelsSet,
    RestartRequested,
    StartRetry,
    StatusChanged,
    TimerDue,
)
from tercel.model.flow import Concurrency, Flow, FlowOutput, Listener, Sla
from tercel.model.jobs import ExecutionUpdate, WorkerResult
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.plugins.conditions import ExecutionStatus, Expression
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.loop import CheckFrequency, LoopUntil
from tercel.plugins.flow.pause import Pause
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tercel.plugins.flow.subflow import Subflow
from tests.unit.machine.driver import NOON, SECOND, Drive, Job, a_flow, a_result, jobs
from tests.unit.machine.test_working_directory import Worker, a_directory

FAILED, KILLED, SUCCESS, WARNING, RETRIED = (
    State.FAILED,
    State.KILLED,
    State.SUCCESS,
    State.WARNING,
    State.RETRIED,
)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def a_listener(*ids: str, conditions: list[Any] | None = None) -> Listener:
    return Listener(conditions=conditions or [], tasks=jobs(*ids))


def in_states(*states: State) -> ExecutionStatus:
    return ExecutionStatus(type="status", in_=list(states))


def an_exit(state: State) -> WorkerResult:
    return a_result(update=ExecutionUpdate(ends_as=state))


class TestAfterExecution:
    @pytest.mark.parametrize("state", [SUCCESS, FAILED, WARNING, KILLED])
    def test_given_any_end_then_its_tasks_run_once_the_state_is_set(self, state: State) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x", "y"))).start()

        change = drive.finish(drive.begin("a"), state)
        assert not any(isinstance(command, EndExecution) for command in change.commands)
        assert drive.state is state
        assert drive.live.execution.is_closing
        assert drive.live.execution.after == ("afterExecution",)
        assert drive.ends == []
        drive.to_end()

        assert drive.dispatched == ["a", "x", "y"]
        assert drive.history() == ["CREATED", "RUNNING", state.value]
        assert drive.ends == [state]
        assert not drive.live.execution.is_closing
        assert drive.run("x").parent_id is None

    def test_given_errors_and_finally_then_it_comes_after_them(self) -> None:
        branches = {"errors": jobs("e"), "finally_": jobs("f"), "after_execution": jobs("x")}

        assert Drive(a_flow(*jobs("a"), **branches), {"a": FAILED}).to_end().dispatched == ["a", "e", "f", "x"]

    def test_given_outputs_then_its_tasks_run_after_they_are_rendered(self) -> None:
        outputs = [FlowOutput(id="n", type="INT", value="{{ outputs.a.n }}")]
        flow = a_flow(*jobs("a"), outputs=outputs, after_execution=[Job(id="x", run_if="{{ outputs.a.n == 1 }}")])
        drive = Drive(flow, {"a": a_result(outputs={"n": 1})}).to_end()

        assert drive.live.execution.outputs == {"n": 1}
        assert drive.states()["x"] == "SUCCESS"

    def test_given_its_tasks_then_they_see_the_final_state(self) -> None:
        after = [Job(id=state, run_if=f"{{{{ execution.state == '{state}' }}}}") for state in ("SUCCESS", "FAILED")]
        drive = Drive(a_flow(*jobs("a"), after_execution=after), {"a": FAILED}).to_end()

        assert drive.states() == {"a": "FAILED", "SUCCESS": "SKIPPED", "FAILED": "SUCCESS"}

    def test_given_one_of_its_tasks_fails_then_the_rest_does_not_run_and_the_state_stays(self) -> None:
        drive = Drive(a_flow(*jobs("a"), errors=jobs("e"), after_execution=jobs("x", "y")), {"x": FAILED}).to_end()

        assert drive.dispatched == ["a", "x"]
        assert drive.state is SUCCESS

    def test_given_flowables_in_it_then_they_run_as_anywhere(self) -> None:
        each = ForEach(id="e", type="e", values=["1", "2"], tasks=jobs("x"), errors=jobs("ee"), finally_=jobs("f"))
        drive = Drive(a_flow(*jobs("a"), after_execution=[each, *jobs("z")]), {"x[2]": FAILED}).to_end()

        assert drive.dispatched == ["a", "x[1]", "x[2]", "ee", "f"]
        assert drive.states()["e"] == "FAILED"
        assert drive.state is SUCCESS

    def test_given_a_retry_and_a_timeout_in_it_then_they_count(self) -> None:
        task = Job(id="x", retry=Retry(interval=MINUTE, max_attempts=2))
        drive = Drive(a_flow(*jobs("a"), after_execution=[task]), {"x": [FAILED, SUCCESS]}).to_end()

        assert drive.dispatched == ["a", "x", "x"]
        assert drive.history() == ["CREATED", "RUNNING", "SUCCESS"]

    def test_given_a_pause_in_it_then_it_can_be_resumed_and_the_state_stays(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=[Pause(id="w", type="w"), *jobs("x")])).start()
        drive.finish(drive.begin("a"))
        assert drive.states() == {"a": "SUCCESS", "w": "PAUSED"}
        assert drive.state is SUCCESS

        drive.resume("w")

        assert drive.to_end().history() == ["CREATED", "RUNNING", "SUCCESS"]
        assert drive.dispatched == ["a", "x"]

    def test_given_a_loop_in_it_then_it_goes_round(self) -> None:
        often = CheckFrequency(max_iterations=2)
        loop = LoopUntil(id="loop", type="loop", tasks=jobs("x"), condition="false", check_frequency=often)

        assert Drive(a_flow(*jobs("a"), after_execution=[loop])).to_end().dispatched == ["a", "x", "x"]

    def test_given_a_directory_in_it_then_its_branches_run(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=[a_directory("c", errors=jobs("e"))])).start()
        drive.finish(drive.begin("a"))
        worker = Worker(drive)
        worker.runs("c", FAILED)
        worker.ends(FAILED)

        assert drive.to_end().dispatched == ["a", "wd", "e"]

    def test_given_a_subflow_in_it_then_its_end_is_awaited(self) -> None:
        sub = Subflow(id="sub", type="sub", namespace="n", flow_id="f")
        drive = Drive(a_flow(*jobs("a"), after_execution=[sub])).start()
        drive.finish(drive.begin("a"))
        drive.subflows_started("sub")
        assert drive.live.execution.is_closing

        drive.subflow_ended("sub", FAILED)

        assert drive.states()["sub"] == "FAILED"
        assert drive.state is SUCCESS
        assert drive.ends == [SUCCESS]

    def test_given_only_disabled_or_skipped_tasks_then_the_end_is_told_at_once(self) -> None:
        after = [Job(id="off", disabled=True), Job(id="x", run_if="false")]
        drive = Drive(a_flow(*jobs("a"), after_execution=after)).start()

        drive.finish(drive.begin("a"))

        assert drive.ends == [SUCCESS]
        assert drive.states() == {"a": "SUCCESS", "x": "SKIPPED"}

    def test_given_a_task_that_wants_another_end_then_the_state_stays(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x", "y")), {"x": an_exit(FAILED)}).to_end()

        assert drive.state is SUCCESS

    def test_given_a_task_that_asks_for_a_new_execution_then_there_is_none(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=3, behavior="CREATE_NEW_EXECUTION")
        drive = Drive(a_flow(*jobs("a"), after_execution=[Job(id="x", retry=retry)]), {"x": FAILED}).to_end()

        assert drive.retries == []
        assert drive.states() == {"a": "SUCCESS", "x": "FAILED"}

    def test_given_it_crashes_at_any_moment_then_it_goes_on(self) -> None:
        flow = a_flow(*jobs("a"), finally_=jobs("f"), after_execution=jobs("x"), listeners=[a_listener("l", "m")])
        drive = Drive(flow).start()

        while drive.live.execution.is_open:
            drive.crash()
            drive.step()

        assert drive.dispatched == ["a", "f", "x", "l", "m"]
        assert drive.ends == [SUCCESS]


class TestWhileClosing:
    def closing(self, **results: object) -> Drive:
        flow = a_flow(*jobs("a"), after_execution=jobs("x", "y"), listeners=[a_listener("l")])
        drive = Drive(flow, results).start()
        drive.step()
        return drive

    def test_given_a_kill_then_what_follows_the_end_is_killed_and_the_state_stays(self) -> None:
        drive = self.closing()
        job = drive.begin("x")

        drive.kill()
        assert [command.run_id for command in drive.cancelled] == [job.run_id]
        drive.finish(job, KILLED)

        assert drive.states() == {"a": "SUCCESS", "x": "KILLED"}
        assert drive.history() == ["CREATED", "RUNNING", "SUCCESS"]
        assert drive.ends == [SUCCESS]

    def test_given_a_kill_twice_then_the_second_changes_nothing(self) -> None:
        drive = self.closing()
        drive.begin("x")
        drive.kill()
        drive.crash()

        assert drive.apply(KillRequested(now=drive.now)).is_empty

    def test_given_a_kill_when_a_listener_is_still_to_come_then_it_does_not_run(self) -> None:
        drive = self.closing()
        job = drive.begin("x")
        drive.kill()
        drive.crash()

        drive.finish(job)

        assert drive.dispatched == ["a", "x"]
        assert not drive.live.execution.is_open

    def test_given_a_restart_then_it_is_refused_until_all_is_over(self) -> None:
        drive = self.closing(a=FAILED)
        assert drive.state is FAILED
        request = RestartRequested(now=drive.now, attempt=1, revision=1)

        assert drive.apply(request).is_empty
        drive.to_end()
        assert not drive.apply(request).is_empty

    def test_given_labels_then_they_are_set(self) -> None:
        drive = self.closing()

        drive.apply(LabelsSet(now=drive.now, labels={"k": "v"}))

        assert drive.live.execution.labels == {"k": "v"}
        assert drive.live.execution.is_closing

    def test_given_another_status_then_it_is_refused_until_all_is_over(self) -> None:
        drive = self.closing()

        assert drive.apply(StatusChanged(now=drive.now, state=FAILED)).is_empty

    def test_given_a_pause_by_hand_then_it_is_refused(self) -> None:
        assert self.closing().pause().is_empty

    def test_given_an_sla_about_time_then_it_is_over_with_the_end(self) -> None:
        sla = Sla(id="s", type="MAX_DURATION", duration=MINUTE, behavior="FAIL")
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x"), sla=[sla])).start()
        drive.step()

        assert drive.live.execution.due is None
        assert drive.to_end().state is SUCCESS


class TestListeners:
    def flow(self, *listeners: Listener, **properties: Any) -> Flow:
        return a_flow(*jobs("a"), listeners=list(listeners), **properties)

    def test_given_several_then_each_whose_conditions_hold_runs_in_order(self) -> None:
        flow = self.flow(
            a_listener("always", "again"),
            a_listener("bad", conditions=[in_states(FAILED, WARNING)]),
            a_listener("good", conditions=[in_states(SUCCESS)]),
        )

        assert Drive(flow).to_end().dispatched == ["a", "always", "again", "good"]
        assert Drive(flow, {"a": FAILED}).to_end().dispatched == ["a", "always", "again", "bad"]

    def test_given_several_conditions_then_all_have_to_hold(self) -> None:
        both = [in_states(SUCCESS), Expression(type="x", expression="{{ flow.id == 'other' }}")]

        assert Drive(self.flow(a_listener("l", conditions=both))).to_end().dispatched == ["a"]

    def test_given_expressions_then_they_see_the_execution_and_its_outputs(self) -> None:
        seen = "{{ execution.state == 'SUCCESS' and outputs.a.n == 1 and flow.id == 'flow' }}"
        flow = self.flow(a_listener("l", conditions=[Expression(type="x", expression=seen)]))

        assert Drive(flow, {"a": a_result(outputs={"n": 1})}).to_end().dispatched == ["a", "l"]

    def test_given_a_condition_that_cannot_be_tested_then_it_is_told_and_that_listener_does_not_run(self) -> None:
        flow = self.flow(a_listener("l", conditions=[Expression(type="x", expression="{{ nope }}")]), a_listener("m"))
        drive = Drive(flow).to_end()

        assert drive.dispatched == ["a", "m"]
        [message] = drive.messages("WARN")
        assert message.startswith("A listener's condition cannot be tested, so the listener does not run: ")

    def test_given_one_fails_then_the_next_runs_all_the_same(self) -> None:
        drive = Drive(self.flow(a_listener("l", "m"), a_listener("n")), {"l": FAILED}).to_end()

        assert drive.dispatched == ["a", "l", "n"]
        assert drive.state is SUCCESS

    def test_given_after_execution_fails_then_listeners_run_after_it(self) -> None:
        drive = Drive(self.flow(a_listener("l"), after_execution=jobs("x", "y")), {"x": FAILED}).to_end()

        assert drive.dispatched == ["a", "x", "l"]

    def test_given_conditions_then_they_are_tested_once(self) -> None:
        flow = self.flow(a_listener("l", conditions=[in_states(SUCCESS)]), after_execution=jobs("x"))
        drive = Drive(flow).start()
        drive.step()

        assert drive.live.execution.after == ("afterExecution", "listeners.0")

    def test_given_none_holds_then_the_end_is_told_at_once(self) -> None:
        drive = Drive(self.flow(a_listener("l", conditions=[in_states(FAILED)]))).start()
        drive.step()

        assert drive.ends == [SUCCESS]
        assert drive.live.execution.after == ()

    def test_given_the_execution_is_killed_then_they_run(self) -> None:
        drive = Drive(self.flow(a_listener("l", conditions=[in_states(KILLED)]))).start()
        job = drive.begin("a")
        drive.kill()
        drive.finish(job, KILLED)

        assert drive.to_end().dispatched == ["a", "l"]

    def test_given_it_never_ran_then_they_do_not(self) -> None:
        drive = Drive(self.flow(a_listener("l"), concurrency=Concurrency(limit=1)), schedule_date=NOON + HOUR).start()

        drive.kill()

        assert drive.dispatched == []
        assert drive.ends == [KILLED]


class TestRestartAfterClosing:
    def test_given_it_is_restarted_then_what_followed_its_end_is_forgotten_and_runs_anew(self) -> None:
        flow = a_flow(*jobs("a"), after_execution=jobs("x"), listeners=[a_listener("l")])
        drive = Drive(flow, {"a": [FAILED, SUCCESS]}).to_end()

        drive.restart()
        assert drive.states() == {"a": "RESTARTED"}

        assert drive.to_end().dispatched == ["a", "x", "l"]
        assert drive.ends == [FAILED, SUCCESS]

    def test_given_only_an_after_task_failed_then_there_is_nothing_to_restart(self) -> None:
        drive = Drive(a_flow(*jobs("a"), after_execution=jobs("x")), {"x": FAILED}).to_end()

        assert drive.restart().is_empty


class TestForcedEnd:
    @pytest.mark.parametrize("state", [SUCCESS, WARNING, FAILED, KILLED, State.CANCELLED])
    def test_given_an_exit_then_it_ends_well_itself_and_the_execution_in_its_state(self, state: State) -> None:
        branches = {"errors": jobs("e"), "finally_": jobs("f")}
        drive = Drive(a_flow(*jobs("a", "b"), **branches), {"a": an_exit(state)}).to_end()

        assert drive.states() == {"a": "SUCCESS"}
        assert drive.history() == ["CREATED", "RUNNING", "KILLING", state.value]
        assert drive.live.execution.ends_as is None
        assert drive.ends == [state]
        assert drive.messages("INFO") == [f"It ends the execution, in {state}."]

    def test_given_others_that_run_then_they_are_killed_first(self) -> None:
        parts = [*jobs("a", "b"), Job(id="r", retry=Retry(interval=HOUR, max_attempts=2)), Pause(id="w", type="w")]
        inside = [Sequential(id="s", type="s", tasks=[Parallel(id="p", type="p", tasks=parts)], finally_=jobs("f"))]
        drive = Drive(a_flow(*inside, after_execution=jobs("x"))).start()
        a, b, r = drive.begin("a"), drive.begin("b"), drive.begin("r")
        drive.finish(r, FAILED)

        drive.finish(a, an_exit(SUCCESS))
        assert drive.state is State.KILLING
        assert [command.run_id for command in drive.cancelled] == [b.run_id]
        drive.finish(b)

        assert drive.states() == {
            "s": "KILLED", "p": "KILLED", "a": "SUCCESS", "b": "SUCCESS", "r": "KILLED", "w": "KILLED", "x": "CREATED",
        }  # fmt: skip
        assert drive.state is SUCCESS
        assert drive.to_end().dispatched == ["a", "b", "r", "x"]

    def test_given_a_loop_around_then_no_further_value_begins(self) -> None:
        each = ForEach(id="e", type="e", values=["1", "2"], tasks=jobs("a"))
        drive = Drive(a_flow(each), {"a[1]": an_exit(WARNING)}).to_end()

        assert drive.states() == {"e": "KILLED", "a[1]": "SUCCESS"}
        assert drive.state is WARNING

    def test_given_subflows_then_their_executions_go_on(self) -> None:
        sub = Subflow(id="sub", type="sub", namespace="n", flow_id="f")
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=[*jobs("a"), sub]))).start()
        drive.subflows_started("sub")

        drive.finish(drive.begin("a"), an_exit(SUCCESS))

        assert drive.cancelled == []
        assert drive.states()["sub"] == "KILLED"
        assert drive.state is SUCCESS

    def test_given_a_kill_on_top_then_it_wins(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, an_exit(SUCCESS))

        drive.kill()
        assert drive.apply(KillRequested(now=drive.now)).is_empty
        drive.finish(b, KILLED)

        assert drive.state is KILLED

    def test_given_two_exits_then_the_first_counts(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, an_exit(WARNING))

        drive.finish(b, an_exit(FAILED))

        assert drive.state is WARNING

    def test_given_an_exit_that_failed_then_it_is_an_ordinary_failure(self) -> None:
        result = a_result(FAILED, update=ExecutionUpdate(ends_as=SUCCESS, labels={"k": "v"}))
        drive = Drive(a_flow(*jobs("a"), finally_=jobs("f")), {"a": result}).to_end()

        assert drive.dispatched == ["a", "f"]
        assert drive.state is FAILED
        assert drive.live.execution.labels == {}

    def test_given_an_exit_while_it_is_killed_then_the_kill_counts(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        job = drive.begin("a")
        drive.kill()

        drive.finish(job, an_exit(SUCCESS))

        assert drive.state is KILLED

    def test_given_it_is_paused_by_hand_then_it_ends_all_the_same(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.pause()

        drive.finish(a, an_exit(SUCCESS))
        drive.finish(b, KILLED)

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "KILLING", "SUCCESS"]

    def test_given_outputs_that_cannot_be_rendered_then_the_state_that_was_asked_for_counts(self) -> None:
        outputs = [FlowOutput(id="n", type="INT", value="{{ outputs.b.n }}")]
        drive = Drive(a_flow(*jobs("a", "b"), outputs=outputs), {"a": an_exit(SUCCESS)}).to_end()

        assert drive.state is SUCCESS
        assert drive.messages("ERROR")

    def test_given_it_ended_badly_by_an_exit_then_it_can_be_restarted_at_what_was_killed(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, an_exit(FAILED))
        drive.finish(b, KILLED)

        drive.restart()

        assert drive.to_end().dispatched == ["b"]
        assert drive.state is SUCCESS

    def test_given_it_crashes_while_it_ends_then_the_state_is_kept(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, an_exit(State.CANCELLED))
        drive.crash()

        drive.finish(b, KILLED)

        assert drive.state is State.CANCELLED


class TestNewExecution:
    RETRY = Retry(interval=MINUTE, max_attempts=3, behavior="CREATE_NEW_EXECUTION")

    def retried(self, flow: Flow, result: object = FAILED, **properties: Any) -> Drive:
        drive = Drive(flow, {"a": result}, **properties)
        while drive.live.execution.is_open:
            drive.step() if drive.live.execution.state is not State.CREATED else drive.start()
        return drive

    def test_given_a_failure_then_it_ends_retried_and_another_one_is_ordered(self) -> None:
        flow = a_flow(Job(id="a", retry=self.RETRY), *jobs("b"), errors=jobs("e"), finally_=jobs("f"))
        drive = self.retried(flow)

        assert drive.history() == ["CREATED", "RUNNING", "KILLING", "RETRIED"]
        assert drive.history("a") == ["CREATED", "RUNNING", "RETRIED"]
        assert drive.run("a").attempts[-1].state is FAILED
        assert drive.dispatched == ["a"]
        assert drive.retries == [
            StartRetry(
                at=drive.run("a").attempts[-1].history[-1].date + MINUTE,
                id=retry_id(drive.live.execution),
            )
        ]
        assert drive.ends == [RETRIED]
        assert drive.live.execution.due is None
        assert drive.live.execution.ends_as is None

    def test_given_flowables_around_then_they_end_retried_and_what_is_open_is_killed(self) -> None:
        parts = [Job(id="a", retry=self.RETRY), *jobs("b"), Pause(id="w", type="w")]
        inner = Parallel(id="p", type="p", tasks=parts, errors=jobs("e"), finally_=jobs("f"))
        drive = Drive(a_flow(Sequential(id="s", type="s", tasks=[inner]), after_execution=jobs("x"))).start()
        a, b = drive.begin("a"), drive.begin("b")

        drive.finish(a, FAILED)
        assert drive.states() == {"s": "KILLING", "p": "KILLING", "a": "RETRIED", "b": "KILLING", "w": "KILLED"}
        assert drive.retries == []
        drive.finish(b, KILLED)

        assert drive.states() == {"s": "RETRIED", "p": "RETRIED", "a": "RETRIED", "b": "KILLED", "w": "KILLED"}
        assert drive.state is RETRIED
        assert len(drive.retries) == 1
        assert drive.dispatched == ["a", "b"]

    @pytest.mark.parametrize("branch", ["errors", "finally_"])
    def test_given_it_stands_in_a_branch_then_what_is_around_ends_retried(self, branch: str) -> None:
        inside: dict[str, list[Task]] = {branch: [Job(id="x", retry=self.RETRY)]}
        drive = Drive(a_flow(Sequential(id="s", type="s", tasks=jobs("a"), **inside)), {"a": FAILED, "x": FAILED})  # type: ignore[arg-type]

        drive.to_end()

        assert drive.states() == {"s": "RETRIED", "a": "FAILED", "x": "RETRIED"}
        assert drive.state is RETRIED

    def test_given_finally_of_the_flow_then_the_flow_is_tried_again(self) -> None:
        drive = Drive(a_flow(*jobs("a"), finally_=[Job(id="f", retry=self.RETRY)]), {"f": FAILED}).to_end()

        assert drive.state is RETRIED
        assert drive.states() == {"a": "SUCCESS", "f": "RETRIED"}

    def test_given_the_last_try_then_it_is_a_plain_failure(self) -> None:
        flow = a_flow(Job(id="a", retry=self.RETRY), errors=jobs("e"))
        drive = self.retried(flow, attempt_number=3)

        assert drive.state is FAILED
        assert drive.retries == []
        assert drive.dispatched == ["a", "e"]

    def test_given_the_time_is_over_then_it_is_a_plain_failure(self) -> None:
        retry = Retry(interval=MINUTE, max_duration=HOUR, behavior="CREATE_NEW_EXECUTION")

        late = self.retried(a_flow(Job(id="a", retry=retry)), attempt_number=9, first_created=NOON - HOUR)
        early = self.retried(a_flow(Job(id="a", retry=retry)), attempt_number=9, first_created=NOON - HOUR / 2)

        assert late.state is FAILED
        assert early.state is RETRIED

    def test_given_growing_waits_then_the_number_of_executions_counts(self) -> None:
        retry = Retry(
            type="exponential",
            interval=MINUTE,
            max_interval=HOUR,
            delay_factor=3,
            max_attempts=9,
            behavior="CREATE_NEW_EXECUTION",
        )
        drive = self.retried(a_flow(Job(id="a", retry=retry)), attempt_number=3)

        assert drive.retries[0].at == drive.run("a").attempts[-1].history[-1].date + 9 * MINUTE

    def test_given_a_policy_of_the_flow_then_any_failure_asks_for_it(self) -> None:
        assert self.retried(a_flow(*jobs("a"), retry=self.RETRY)).state is RETRIED

    def test_given_a_failure_that_must_not_be_tried_again_then_it_is_plain(self) -> None:
        drive = self.retried(a_flow(Job(id="a", retry=self.RETRY)), a_result(FAILED, retryable=False))

        assert drive.state is FAILED

    def test_given_allow_failure_then_it_counts_only_after_the_last_try(self) -> None:
        task = Job(id="a", retry=self.RETRY, allow_failure=True)

        assert self.retried(a_flow(task)).state is RETRIED
        assert self.retried(a_flow(task), attempt_number=3).state is WARNING

    def test_given_something_that_absorbs_failures_around_then_the_flow_is_tried_again(self) -> None:
        allow = AllowFailure(id="allow", type="x", tasks=[Job(id="a", retry=self.RETRY)])

        assert self.retried(a_flow(allow)).states() == {"allow": "RETRIED", "a": "RETRIED"}

    def test_given_a_child_of_a_directory_then_the_flow_is_tried_again(self) -> None:
        directory = a_directory("c", finally_=jobs("f"))
        child = Job(id="c", retry=self.RETRY)
        drive = Drive(a_flow(type(directory)(id="wd", type="wd", tasks=[child], finally_=jobs("f")))).start()
        worker = Worker(drive)
        worker.runs("c", FAILED)
        worker.ends(FAILED)

        assert drive.state is RETRIED
        assert drive.states() == {"wd": "RETRIED", "c": "FAILED"}
        assert drive.dispatched == ["wd"]

    def test_given_a_kill_while_others_are_ended_then_there_is_no_new_execution(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=[Job(id="a", retry=self.RETRY), *jobs("b")]))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, FAILED)

        drive.kill()
        drive.finish(b, KILLED)

        assert drive.state is KILLED
        assert drive.retries == []
        assert drive.live.execution.due is None

    def test_given_two_fail_then_there_is_one_new_execution(self) -> None:
        tasks = [Job(id="a", retry=self.RETRY), Job(id="b", retry=self.RETRY)]
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=tasks))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, FAILED)
        drive.finish(b, FAILED)

        assert len(drive.retries) == 1
        assert drive.state is RETRIED

    def test_given_it_is_paused_by_hand_then_it_ends_retried_all_the_same(self) -> None:
        drive = Drive(a_flow(Job(id="a", retry=self.RETRY))).start()
        job = drive.begin("a")
        drive.pause()

        drive.finish(job, FAILED)

        assert drive.state is RETRIED

    def test_given_it_crashes_while_others_are_ended_then_the_date_is_kept(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=[Job(id="a", retry=self.RETRY), *jobs("b")]))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, FAILED)
        due = drive.live.execution.due
        drive.crash()

        drive.finish(b, KILLED)

        assert [one.at for one in drive.retries] == [due]

    def test_given_it_ended_retried_then_it_cannot_be_restarted(self) -> None:
        assert self.retried(a_flow(Job(id="a", retry=self.RETRY))).restart().is_empty

    def test_given_after_tasks_and_listeners_then_they_are_left_to_the_last_execution(self) -> None:
        flow = a_flow(Job(id="a", retry=self.RETRY), after_execution=jobs("x"), listeners=[a_listener("l")])

        assert self.retried(flow).dispatched == ["a"]
        assert self.retried(flow, attempt_number=3).dispatched == ["a", "x", "l"]


class TestTimers:
    def test_given_a_timer_of_a_run_that_is_over_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(Sequential(id="s", type="s", tasks=jobs("a"), timeout="PT1M"), *jobs("b"))).start()
        run = drive.run("s")
        drive.finish(drive.begin("a"))

        assert drive.apply(TimerDue(now=drive.now + MINUTE, run_id=run.id, fence=run.fence)).is_empty
        assert drive.now < NOON + MINUTE - SECOND
