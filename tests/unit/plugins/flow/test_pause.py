from datetime import timedelta
from typing import Any

import pytest

from tercel.machine.messages import KillRequested, ResumeRequested, TimerDue
from tercel.model.input_types import Input
from tercel.model.state import State
from tercel.model.task import Task
from tercel.plugins.flow.pause import Pause
from tercel.plugins.flow.sequence import Parallel, Sequential
from tests.unit.machine.driver import NOON, SECOND, Drive, Job, a_flow, jobs

HOUR = timedelta(hours=1)
FAILED, SUCCESS, WARNING, PAUSED = State.FAILED, State.SUCCESS, State.WARNING, State.PAUSED


def a_pause(id: str = "wait", **properties: Any) -> Pause:
    return Pause(id=id, type="pause", **properties)


def started(*tasks: Task, **properties: Any) -> Drive:
    return Drive(a_flow(*tasks, **properties)).start()


class TestPause:
    def test_given_it_starts_then_it_and_the_execution_are_paused_until_somebody_resumes_it(self) -> None:
        drive = started(a_pause(), *jobs("a"))

        assert drive.history("wait") == ["CREATED", "RUNNING", "PAUSED"]
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED"]
        assert drive.run("wait").due is None
        assert drive.dispatched == []
        assert not drive.ends

    def test_given_it_is_resumed_then_it_ends_well_and_what_follows_runs(self) -> None:
        drive = started(a_pause(), *jobs("a"))

        drive.resume()

        assert drive.history("wait") == ["CREATED", "RUNNING", "PAUSED", "RUNNING", "SUCCESS"]
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING"]
        assert drive.run("wait").attempts == ()
        assert drive.to_end().dispatched == ["a"]

    def test_given_it_is_the_last_task_then_the_execution_ends_when_it_is_resumed(self) -> None:
        drive = started(a_pause())

        drive.resume()

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "SUCCESS"]

    def test_given_what_it_asked_for_then_it_is_seen_as_its_outputs(self) -> None:
        after = Job(id="a", run_if="{{ outputs.wait.onResume.reason == 'ok' }}")
        drive = started(a_pause(on_resume=[Input(id="reason", type="STRING")]), after)

        drive.resume(onResume={"reason": "ok"})

        assert drive.run("wait").outputs == {"onResume": {"reason": "ok"}}
        assert drive.states()["a"] == "CREATED"

    def test_given_tasks_of_its_own_then_they_run_after_it_was_resumed(self) -> None:
        drive = started(a_pause(tasks=jobs("x", "y"), finally_=jobs("f")), *jobs("a"))
        assert drive.dispatched == []

        drive.resume()
        assert drive.run("wait").state is State.RUNNING

        assert drive.to_end().dispatched == ["x", "y", "f", "a"]
        assert drive.history("wait") == ["CREATED", "RUNNING", "PAUSED", "RUNNING", "SUCCESS"]

    def test_given_a_task_of_its_own_fails_then_its_errors_run_and_it_fails(self) -> None:
        drive = Drive(a_flow(a_pause(tasks=jobs("x"), errors=jobs("e"))), {"x": FAILED}).start()

        drive.resume()

        assert drive.to_end().dispatched == ["x", "e"]
        assert drive.states() == {"wait": "FAILED", "x": "FAILED", "e": "SUCCESS"}

    def test_given_it_is_resumed_twice_then_the_second_changes_nothing(self) -> None:
        drive = started(a_pause(tasks=jobs("x")))
        drive.resume("wait")

        assert drive.resume("wait").is_empty
        assert drive.resume().is_empty

    def test_given_a_condition_that_does_not_hold_then_nobody_waits(self) -> None:
        assert started(a_pause(run_if="false"), *jobs("a")).states() == {"wait": "SKIPPED", "a": "CREATED"}

    def test_given_durations_that_are_none_then_it_fails_and_says_so(self) -> None:
        drive = started(a_pause(pause_duration="{{ 'soon' }}"))

        assert drive.states() == {"wait": "FAILED"}
        assert drive.run("wait").message.startswith("The `pauseDuration` of task 'wait' is no duration: ")

    def test_given_it_crashes_while_it_waits_then_it_can_be_resumed(self) -> None:
        drive = started(a_pause(tasks=jobs("x")))
        drive.crash()

        drive.resume()
        drive.crash()

        assert drive.to_end().state is SUCCESS

    def test_given_inputs_that_do_not_fit_together_then_it_has_a_problem(self) -> None:
        twice = [Input(id="x", type="STRING"), Input(id="x", type="STRING")]

        assert [problem.path[0] for problem in a_pause(on_resume=twice).problems()] == ["onResume"]
        assert list(a_pause(on_resume=twice[:1]).problems()) == []


class TestOtherBranches:
    def test_given_others_beside_it_then_they_go_on(self) -> None:
        drive = started(
            Parallel(id="p", type="p", tasks=[a_pause(), Sequential(id="s", type="s", tasks=jobs("a", "b"))])
        )
        assert drive.state is PAUSED

        drive.finish(drive.begin("a"))
        drive.finish(drive.begin("b"))

        assert drive.states() == {"p": "RUNNING", "wait": "PAUSED", "s": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS"}
        assert drive.state is PAUSED
        drive.resume()
        assert drive.state is SUCCESS

    def test_given_two_that_pause_then_the_execution_runs_again_once_both_are_resumed(self) -> None:
        drive = started(Parallel(id="p", type="p", tasks=[a_pause("one"), a_pause("two")]))

        drive.resume("two")
        assert drive.states() == {"p": "RUNNING", "one": "PAUSED", "two": "SUCCESS"}
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED"]
        drive.resume()

        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "SUCCESS"]

    def test_given_none_is_named_then_the_one_that_paused_first_goes_on(self) -> None:
        later = Sequential(id="s", type="s", tasks=[*jobs("a"), a_pause("late")])
        drive = started(Parallel(id="p", type="p", tasks=[later, a_pause("early")]))
        drive.finish(drive.begin("a"))

        drive.resume()

        assert drive.states()["early"] == "SUCCESS"
        assert drive.states()["late"] == "PAUSED"

    def test_given_a_failure_beside_it_then_errors_run_and_it_still_waits(self) -> None:
        drive = started(Parallel(id="p", type="p", tasks=[a_pause(), *jobs("a")], errors=jobs("e")))

        drive.finish(drive.begin("a"), FAILED)
        drive.finish(drive.begin("e"))

        assert drive.states() == {"p": "RUNNING", "wait": "PAUSED", "a": "FAILED", "e": "SUCCESS"}
        drive.resume()
        assert drive.state is FAILED

    def test_given_a_pause_by_hand_on_top_then_the_one_does_not_lift_the_other(self) -> None:
        drive = started(Parallel(id="p", type="p", tasks=[a_pause(tasks=jobs("x")), *jobs("a")]), *jobs("b"))
        assert drive.pause().is_empty  # it is PAUSED already

        drive.finish(drive.begin("a"))
        drive.resume()

        assert drive.dispatched == ["a", "x"]


class TestTime:
    @pytest.mark.parametrize("name", ["pause_duration", "delay"])
    def test_given_a_duration_then_it_goes_on_by_itself_after_that(self, name: str) -> None:
        drive = started(a_pause(**{name: "PT1H"}), *jobs("a"))
        assert drive.run("wait").due == NOON + HOUR

        drive.fire()

        assert drive.states() == {"wait": "SUCCESS", "a": "CREATED"}
        assert drive.run("wait").due is None
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING"]

    def test_given_a_timer_that_is_early_or_of_another_dispatch_then_nothing_changes(self) -> None:
        drive = started(a_pause(delay="PT1H"))
        run = drive.run("wait")

        assert drive.apply(TimerDue(now=NOON + HOUR - SECOND, run_id=run.id, fence=run.fence)).is_empty
        assert drive.apply(TimerDue(now=NOON + HOUR, run_id=run.id, fence=run.fence + 1)).is_empty

    def test_given_it_was_resumed_before_its_time_then_the_timer_changes_nothing(self) -> None:
        drive = started(a_pause(delay="PT1H", tasks=jobs("x")))
        run = drive.run("wait")
        drive.resume()

        assert drive.apply(TimerDue(now=NOON + HOUR, run_id=run.id, fence=run.fence)).is_empty
        assert drive.run("wait").due is None

    def test_given_a_timeout_then_it_fails_and_its_errors_run_but_not_its_tasks(self) -> None:
        drive = started(a_pause(timeout="PT1H", tasks=jobs("x"), errors=jobs("e"), finally_=jobs("f")), *jobs("a"))

        drive.fire()

        assert drive.to_end().dispatched == ["e", "f"]
        assert drive.states()["wait"] == "FAILED"
        assert drive.run("wait").message == "Nobody resumed it in time."
        assert drive.messages("ERROR") == ["Nobody resumed it in time."]
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "FAILED"]

    def test_given_a_timeout_and_allow_failure_then_the_flow_goes_on(self) -> None:
        drive = started(a_pause(timeout="PT1H", allow_failure=True), *jobs("a"))

        drive.fire()

        assert drive.states() == {"wait": "WARNING", "a": "CREATED"}

    @pytest.mark.parametrize(("delay", "timeout", "state"), [("PT1H", "PT2H", "SUCCESS"), ("PT2H", "PT1H", "FAILED")])
    def test_given_two_durations_then_the_shorter_one_counts(self, delay: str, timeout: str, state: str) -> None:
        drive = started(a_pause(delay=delay, timeout=timeout))
        assert drive.run("wait").due == NOON + HOUR

        drive.fire()

        assert drive.states() == {"wait": state}

    def test_given_expressions_then_they_are_rendered_once(self) -> None:
        drive = Drive(a_flow(a_pause(pause_duration="{{ inputs.wait }}")), inputs={"wait": "PT1H"}).start()

        assert drive.run("wait").due == NOON + HOUR

    def test_given_a_time_beyond_all_dates_then_it_waits_for_long(self) -> None:
        due = started(a_pause(delay="P36500000D")).run("wait").due

        assert due is not None
        assert due > NOON + timedelta(days=36_000)


class TestBehavior:
    def fired(self, behavior: str, *others: Task, **properties: Any) -> Drive:
        drive = started(a_pause(pause_duration="PT1H", behavior=behavior, **properties), *others)
        drive.fire()
        return drive

    def test_given_resume_then_it_goes_on(self) -> None:
        assert self.fired("RESUME", *jobs("a")).states() == {"wait": "SUCCESS", "a": "CREATED"}

    def test_given_resume_for_a_timeout_then_it_goes_on(self) -> None:
        drive = started(a_pause(timeout="PT1H", behavior="RESUME"), *jobs("a"))

        drive.fire()

        assert drive.states() == {"wait": "SUCCESS", "a": "CREATED"}

    def test_given_warn_then_it_goes_on_and_ends_in_a_warning(self) -> None:
        drive = self.fired("WARN", *jobs("a"), tasks=jobs("x"))

        assert drive.to_end().dispatched == ["x", "a"]
        assert drive.states()["wait"] == "WARNING"
        assert drive.state is WARNING
        assert drive.messages("WARN") == ["Nobody resumed it in time; it goes on with a warning."]

    def test_given_warn_when_a_task_of_its_own_fails_then_it_fails(self) -> None:
        drive = self.fired("WARN", tasks=jobs("x"))

        drive.finish(drive.begin("x"), FAILED)

        assert drive.states()["wait"] == "FAILED"

    def test_given_warn_when_it_was_resumed_in_time_then_it_succeeds(self) -> None:
        drive = started(a_pause(pause_duration="PT1H", behavior="WARN"))

        drive.resume()

        assert drive.state is SUCCESS

    def test_given_fail_then_it_fails(self) -> None:
        drive = self.fired("FAIL", *jobs("a"), errors=jobs("e"))

        assert drive.dispatched == ["e"]
        assert drive.to_end().state is FAILED

    def test_given_cancel_then_the_execution_is_cancelled_and_what_runs_is_killed(self) -> None:
        pause = a_pause(pause_duration="PT1H", behavior="CANCEL", errors=jobs("e"), finally_=jobs("f"))
        flow = a_flow(Parallel(id="p", type="p", tasks=[pause, *jobs("a")]), errors=jobs("e2"), finally_=jobs("f2"))
        drive = Drive(flow).start()
        job = drive.begin("a")

        drive.fire()
        assert drive.states() == {"p": "KILLING", "wait": "CANCELLED", "a": "KILLING"}
        assert drive.state is State.KILLING
        drive.finish(job, State.KILLED)

        assert drive.states() == {"p": "KILLED", "wait": "CANCELLED", "a": "KILLED"}
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "KILLING", "CANCELLED"]
        assert drive.dispatched == ["a"]
        assert drive.run("wait").message == "Nobody resumed it in time; the execution is cancelled."

    def test_given_cancel_then_a_kill_on_top_wins(self) -> None:
        pause = a_pause(pause_duration="PT1H", behavior="CANCEL")
        drive = started(Parallel(id="p", type="p", tasks=[pause, *jobs("a")]))
        job = drive.begin("a")
        drive.fire()

        drive.kill()
        drive.finish(job, State.KILLED)

        assert drive.state is State.KILLED


class TestKill:
    def test_given_it_waits_then_it_is_killed_at_once(self) -> None:
        drive = started(a_pause(errors=jobs("e"), finally_=jobs("f")), finally_=jobs("f2"))

        drive.kill()

        assert drive.states() == {"wait": "KILLED"}
        assert drive.history() == ["CREATED", "RUNNING", "PAUSED", "KILLING", "KILLED"]
        assert drive.dispatched == []
        assert drive.run("wait").due is None

    def test_given_a_job_beside_it_then_its_end_is_awaited(self) -> None:
        drive = started(Parallel(id="p", type="p", tasks=[a_pause(), *jobs("a")]))
        job = drive.begin("a")

        drive.kill()
        assert drive.states()["wait"] == "KILLED"
        assert drive.resume().is_empty
        drive.finish(job, State.KILLED)

        assert drive.state is State.KILLED

    def test_given_a_timeout_around_it_then_it_is_killed_and_that_fails(self) -> None:
        drive = started(Sequential(id="s", type="s", tasks=[a_pause()], timeout="PT1H", errors=jobs("e")))

        drive.fire()

        assert drive.states() == {"s": "RUNNING", "wait": "KILLED", "e": "CREATED"}
        assert drive.state is State.RUNNING


class TestRestart:
    def test_given_it_failed_by_its_timer_then_it_waits_again_and_its_branches_are_forgotten(self) -> None:
        drive = started(a_pause(timeout="PT1H", errors=jobs("e"), finally_=jobs("f")), *jobs("a"))
        drive.fire()
        drive.to_end()

        drive.restart()

        assert drive.states() == {"wait": "PAUSED"}
        assert drive.run("wait").due == drive.now + HOUR
        drive.resume()
        assert drive.to_end().dispatched == ["f", "a"]
        assert drive.state is SUCCESS

    def test_given_it_was_killed_while_it_waited_then_it_waits_again(self) -> None:
        drive = started(a_pause(), *jobs("a"))
        drive.kill()

        drive.restart()

        assert drive.state is PAUSED
        drive.resume()
        assert drive.to_end().state is SUCCESS

    def test_given_it_was_resumed_before_a_task_of_its_own_failed_then_nobody_is_asked_again(self) -> None:
        drive = Drive(a_flow(a_pause(tasks=jobs("x", "y"))), {"y": [FAILED, SUCCESS]}).start()
        drive.resume(onResume={"reason": "ok"})
        drive.to_end()

        drive.restart()

        assert drive.dispatched == ["y"]
        assert drive.run("wait").outputs == {"onResume": {"reason": "ok"}}
        assert drive.to_end().state is SUCCESS

    def test_given_it_went_on_with_a_warning_then_the_warning_stays(self) -> None:
        pause = a_pause(pause_duration="PT1H", behavior="WARN", tasks=jobs("x"))
        drive = Drive(a_flow(pause), {"x": [FAILED, SUCCESS]}).start()
        drive.fire()
        drive.to_end()

        drive.restart()

        assert drive.to_end().states() == {"wait": "WARNING", "x": "SUCCESS"}

    def test_given_a_later_task_failed_then_it_stays_as_it_was(self) -> None:
        drive = Drive(a_flow(a_pause(), *jobs("a")), {"a": [FAILED, SUCCESS]}).start()
        drive.resume()
        drive.to_end()

        drive.restart()

        assert drive.dispatched == ["a"]
        assert drive.to_end().states() == {"wait": "SUCCESS", "a": "SUCCESS"}

    def test_given_it_was_cancelled_by_its_timer_then_it_waits_again(self) -> None:
        drive = started(a_pause(pause_duration="PT1H", behavior="CANCEL"))
        drive.fire()
        assert drive.state is State.CANCELLED

        drive.restart()

        assert drive.states() == {"wait": "PAUSED"}


class TestEvents:
    def test_given_a_run_that_does_not_pause_then_it_cannot_be_resumed(self) -> None:
        drive = started(Parallel(id="p", type="p", tasks=[a_pause(), *jobs("a")]))

        assert drive.resume("a").is_empty
        assert drive.resume("p").is_empty
        assert drive.apply(ResumeRequested(now=drive.now, run_id="unknown")).is_empty

    def test_given_it_has_ended_then_nothing_changes(self) -> None:
        drive = started(a_pause())
        drive.resume()

        assert drive.resume("wait").is_empty
        assert drive.apply(KillRequested(now=drive.now)).is_empty
