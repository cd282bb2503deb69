from datetime import timedelta
from typing import Any

import pytest

from tercel.errors import UserError
from tercel.machine.messages import TimerDue
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.loop import CheckFrequency, LoopUntil
from tercel.plugins.flow.sequence import AllowFailure, Sequential
from tests.unit.machine.driver import NOON, SECOND, Drive, Job, a_flow, a_result, jobs
from tests.unit.machine.test_working_directory import Worker, a_directory

MINUTE = timedelta(minutes=1)
FAILED, SUCCESS, WARNING, KILLED = State.FAILED, State.SUCCESS, State.WARNING, State.KILLED


def a_loop(*tasks: Task, condition: str = "{{ outputs.a.done }}", **properties: Any) -> LoopUntil:
    often = {
        name: properties.pop(name) for name in ("interval", "max_iterations", "max_duration") if name in properties
    }
    return LoopUntil(
        **{
            "id": "loop",
            "type": "io.kestra.plugin.core.flow.LoopUntil",
            "tasks": list(tasks or jobs("a")),
            "condition": condition,
            "check_frequency": CheckFrequency(**often),
            **properties,
        }
    )


def rounds(drive: Drive, *done: bool, label: str = "a") -> None:
    """Run one round for each of *done*, what its task says."""
    for number, one in enumerate(done):
        if number:
            drive.fire()
        drive.finish(drive.begin(label), a_result(outputs={"done": one}, at=drive.now))


class TestRounds:
    def test_given_the_condition_holds_after_the_first_round_then_it_is_over(self) -> None:
        drive = Drive(a_flow(a_loop(), *jobs("b"))).start()

        rounds(drive, True)

        assert drive.dispatched == ["a", "b"]
        assert drive.states() == {"loop": "SUCCESS", "a": "SUCCESS", "b": "CREATED"}
        assert drive.run("loop").outputs == {"iterationCount": 1}

    def test_given_it_does_not_hold_then_another_round_begins_after_the_interval(self) -> None:
        drive = Drive(a_flow(a_loop(interval="PT10S"))).start()

        rounds(drive, False)
        assert drive.run("loop").state is State.RUNNING
        assert drive.run("loop").due == drive.now + 10 * SECOND
        assert drive.states() == {"loop": "RUNNING", "a": "SUCCESS"}
        first = drive.run("a").id
        change = drive.fire()

        assert change.removed == [first]
        assert drive.dispatched == ["a", "a"]
        assert drive.run("a").iteration == 1
        assert drive.run("a").id != first
        assert drive.run("loop").outputs == {"iterationCount": 2}
        assert drive.run("loop").due is None

    def test_given_several_rounds_then_only_the_rows_of_the_last_are_left(self) -> None:
        drive = Drive(a_flow(a_loop())).start()

        rounds(drive, False, False, False, True)

        assert drive.state is SUCCESS
        assert drive.run("loop").outputs == {"iterationCount": 4}
        assert drive.states() == {"loop": "SUCCESS", "a": "SUCCESS"}
        assert drive.live.outputs == {"loop": {"iterationCount": 4}, "a": {"done": True}}

    def test_given_nothing_is_said_then_a_minute_passes_between_rounds_without_end(self) -> None:
        drive = Drive(a_flow(a_loop())).start()

        rounds(drive, *[False] * 150)

        assert drive.run("loop").due == drive.now + MINUTE

    def test_given_its_former_name_then_a_second_passes_and_a_hundred_rounds_are_the_most(self) -> None:
        loop = a_loop(type="io.kestra.plugin.core.flow.WaitFor")
        drive = Drive(a_flow(loop)).start()

        rounds(drive, False)
        assert drive.run("loop").due == drive.now + SECOND
        drive.fire()
        rounds(drive, *[False] * 99)

        assert drive.state is SUCCESS
        assert drive.run("loop").outputs == {"iterationCount": 100}

    def test_given_a_wait_then_an_early_timer_changes_nothing(self) -> None:
        drive = Drive(a_flow(a_loop())).start()
        rounds(drive, False)
        run = drive.run("loop")

        assert drive.apply(TimerDue(now=drive.now, run_id=run.id, fence=run.fence)).is_empty
        assert not drive.apply(TimerDue(now=drive.now + MINUTE, run_id=run.id, fence=run.fence)).is_empty
        assert drive.apply(TimerDue(now=drive.now + MINUTE, run_id=run.id, fence=run.fence)).is_empty

    def test_given_several_tasks_and_flowables_then_all_of_a_round_is_removed(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y"], tasks=jobs("b"))
        drive = Drive(a_flow(a_loop(*jobs("a"), each, condition="{{ outputs.loop.iterationCount > 1 }}"))).start()
        for _ in range(3):
            drive.step()
        before = {run.id for label in ("a", "e", "b[x]", "b[y]") for run in [drive.run(label)]}

        change = drive.fire()

        assert set(change.removed) == before
        assert drive.states() == {"loop": "RUNNING", "a": "CREATED"}
        assert drive.to_end().dispatched == ["a", "b[x]", "b[y]"] * 2

    def test_given_a_directory_inside_then_its_children_are_removed_too(self) -> None:
        drive = Drive(a_flow(a_loop(a_directory("c"), condition="{{ outputs.loop.iterationCount > 1 }}"))).start()
        worker = Worker(drive)
        worker.runs("c")
        worker.ends()

        drive.fire()

        assert drive.states() == {"loop": "RUNNING", "wd": "CREATED"}

    def test_given_a_loop_of_values_around_then_each_has_its_rounds(self) -> None:
        loop = a_loop(condition="{{ outputs.a[taskrun.value].done ?? true }}")
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x", "y"], tasks=[loop], concurrency_limit=0))).start()

        assert drive.dispatched == ["a[x]", "a[y]"]
        assert drive.to_end().state is SUCCESS

    def test_given_a_loop_in_a_loop_then_the_inner_one_begins_anew_with_each_round(self) -> None:
        inner = a_loop(id="inner", condition="{{ outputs.inner.iterationCount >= 2 }}")
        outer = a_loop(inner, id="outer", condition="{{ outputs.outer.iterationCount >= 2 }}")
        drive = Drive(a_flow(outer)).to_end()

        assert drive.dispatched == ["a"] * 4
        assert drive.states() == {"outer": "SUCCESS", "inner": "SUCCESS", "a": "SUCCESS"}
        assert drive.run("inner").outputs == {"iterationCount": 2}

    def test_given_only_disabled_tasks_then_it_is_over_at_once(self) -> None:
        drive = Drive(a_flow(a_loop(Job(id="a", disabled=True), condition="{{ nope }}"))).start()

        assert drive.states() == {"loop": "SUCCESS"}

    def test_given_skipped_tasks_then_the_condition_is_asked(self) -> None:
        drive = Drive(a_flow(a_loop(Job(id="a", run_if="false"), condition="true"))).start()

        assert drive.states() == {"loop": "SUCCESS", "a": "SKIPPED"}

    def test_given_a_warning_in_an_earlier_round_then_only_the_last_round_counts(self) -> None:
        drive = Drive(a_flow(a_loop(condition="{{ outputs.loop.iterationCount > 1 }}"))).start()
        drive.finish(drive.begin("a"), WARNING)
        drive.fire()
        drive.finish(drive.begin("a"))

        assert drive.state is SUCCESS

    def test_given_a_warning_in_the_last_round_then_it_ends_with_a_warning(self) -> None:
        drive = Drive(a_flow(a_loop(condition="true")), {"a": WARNING}).to_end()

        assert drive.states() == {"loop": "WARNING", "a": "WARNING"}

    def test_given_finally_then_it_runs_once_after_the_last_round(self) -> None:
        loop = a_loop(finally_=jobs("f"), errors=jobs("e"), condition="{{ outputs.loop.iterationCount > 2 }}")

        assert Drive(a_flow(loop)).to_end().dispatched == ["a", "a", "a", "f"]

    def test_given_it_crashes_at_any_moment_then_it_goes_on(self) -> None:
        drive = Drive(a_flow(a_loop(condition="{{ outputs.loop.iterationCount > 2 }}", finally_=jobs("f")))).start()

        while drive.live.execution.is_open:
            drive.crash()
            drive.step()

        assert drive.dispatched == ["a", "a", "a", "f"]
        assert drive.state is SUCCESS


class TestFailures:
    def test_given_a_child_fails_then_the_loop_fails_and_the_condition_is_not_asked(self) -> None:
        loop = a_loop(*jobs("a", "b"), condition="{{ nope }}", errors=jobs("e"), finally_=jobs("f"))
        drive = Drive(a_flow(loop), {"a": FAILED}).to_end()

        assert drive.dispatched == ["a", "e", "f"]
        assert drive.states()["loop"] == "FAILED"
        assert drive.run("loop").message == ""

    def test_given_a_child_that_is_tried_again_then_the_round_goes_on(self) -> None:
        task = Job(id="a", retry=Retry(interval=MINUTE, max_attempts=2))
        drive = Drive(a_flow(a_loop(task, condition="true")), {"a": [FAILED, SUCCESS]}).to_end()

        assert drive.state is SUCCESS

    def test_given_a_failure_that_is_absorbed_then_the_condition_is_asked(self) -> None:
        allow = AllowFailure(id="allow", type="x", tasks=jobs("a"))
        drive = Drive(a_flow(a_loop(allow, condition="true")), {"a": FAILED}).to_end()

        assert drive.states()["loop"] == "WARNING"

    def test_given_a_condition_that_cannot_be_rendered_then_it_fails_and_says_so(self) -> None:
        drive = Drive(a_flow(a_loop(condition="{{ nope }}", errors=jobs("e")))).to_end()

        assert drive.dispatched == ["a", "e"]
        assert drive.states()["loop"] == "FAILED"
        assert "nope" in drive.run("loop").message
        assert drive.messages("ERROR") == [drive.run("loop").message]

    @pytest.mark.parametrize(
        ("properties", "sentence"),
        [
            ({"interval": "{{ 'x' }}"}, "The `checkFrequency.interval` of task 'loop' is no duration: "),
            ({"max_duration": "{{ 'x' }}"}, "The `checkFrequency.maxDuration` of task 'loop' is no duration: "),
            (
                {"max_iterations": "{{ 'x' }}"},
                "The `checkFrequency.maxIterations` of task 'loop' is 'x', not a whole number.",
            ),
            (
                {"max_iterations": "{{ 0 }}"},
                "The `checkFrequency.maxIterations` of task 'loop' is '0', not a whole number.",
            ),
        ],
    )
    def test_given_a_frequency_that_is_none_then_it_fails_before_its_first_round(
        self, properties: dict[str, str], sentence: str
    ) -> None:
        drive = Drive(a_flow(a_loop(**properties))).start()

        assert drive.states() == {"loop": "FAILED"}
        assert drive.run("loop").message.startswith(sentence)


class TestLimits:
    def test_given_the_most_rounds_then_it_ends_in_the_state_of_the_last(self) -> None:
        drive = Drive(a_flow(a_loop(max_iterations=3))).start()

        rounds(drive, False, False, False)

        assert drive.state is SUCCESS
        assert drive.run("loop").outputs == {"iterationCount": 3}
        assert drive.run("loop").due is None

    def test_given_it_is_to_fail_then_it_fails_and_says_so(self) -> None:
        drive = Drive(a_flow(a_loop(max_iterations="{{ 1 + 1 }}", fail_on_max_reached=True, errors=jobs("e")))).start()

        rounds(drive, False, False)

        assert drive.dispatched == ["a", "a", "e"]
        drive.to_end()
        assert drive.states()["loop"] == "FAILED"
        assert drive.run("loop").message == "The loop 'loop' is over: the condition did not hold after 2 rounds."

    def test_given_the_condition_holds_in_the_last_round_then_it_succeeds(self) -> None:
        drive = Drive(a_flow(a_loop(max_iterations=2, fail_on_max_reached=True))).start()

        rounds(drive, False, True)

        assert drive.state is SUCCESS

    @pytest.mark.parametrize(("fails", "state"), [(False, SUCCESS), (True, FAILED)])
    def test_given_the_most_time_then_no_round_follows_when_it_has_passed(self, fails: bool, state: State) -> None:
        drive = Drive(a_flow(a_loop(max_duration="PT90S", fail_on_max_reached=fails))).start()

        rounds(drive, False, False)
        assert drive.state is State.RUNNING
        drive.fire()
        drive.finish(drive.begin("a"), a_result(outputs={"done": False}))

        assert drive.state is state
        if fails:
            assert drive.run("loop").message == ("The loop 'loop' is over: the condition did not hold after 0:01:30.")


class TestTimeout:
    def test_given_its_time_passes_in_a_round_then_that_is_killed_and_it_fails(self) -> None:
        drive = Drive(a_flow(a_loop(timeout="PT90S", errors=jobs("e")))).start()
        rounds(drive, False)
        drive.fire()
        job = drive.begin("a")
        assert drive.run("loop").due == NOON + 90 * SECOND

        drive.fire()
        assert drive.states() == {"loop": "RUNNING", "a": "KILLING"}
        drive.finish(job, KILLED)

        assert drive.to_end().dispatched == ["a", "a", "e"]
        assert drive.states()["loop"] == "FAILED"
        assert drive.run("loop").message == "The tasks inside did not end within the timeout."

    def test_given_its_time_passes_between_rounds_then_it_fails_at_that_time(self) -> None:
        drive = Drive(a_flow(a_loop(interval="PT1H", timeout="PT90S"))).start()

        rounds(drive, False)
        assert drive.run("loop").due == NOON + 90 * SECOND
        drive.fire()

        assert drive.states()["loop"] == "FAILED"
        assert drive.live.execution.history[-1].date == NOON + 90 * SECOND


class TestPauseByHand:
    def test_given_a_round_becomes_due_meanwhile_then_it_begins_when_it_is_resumed(self) -> None:
        drive = Drive(a_flow(a_loop())).start()
        rounds(drive, False)
        drive.pause()
        drive.fire()
        assert drive.dispatched == ["a"]

        drive.resume()

        assert drive.dispatched == ["a", "a"]
        assert drive.run("loop").outputs == {"iterationCount": 2}

    def test_given_a_round_ends_meanwhile_then_the_condition_is_asked_when_it_is_resumed(self) -> None:
        drive = Drive(a_flow(a_loop())).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job, a_result(outputs={"done": False}))
        assert drive.run("loop").due is None

        drive.resume()

        assert drive.run("loop").due == drive.now + MINUTE


class TestKill:
    def test_given_it_waits_between_rounds_then_it_ends_at_once(self) -> None:
        drive = Drive(a_flow(a_loop(finally_=jobs("f")))).start()
        rounds(drive, False)

        drive.kill()

        assert drive.states() == {"loop": "KILLED", "a": "SUCCESS"}
        assert drive.state is KILLED

    def test_given_a_round_under_way_then_its_end_is_awaited(self) -> None:
        drive = Drive(a_flow(a_loop(condition="true"))).start()
        job = drive.begin("a")

        drive.kill()
        drive.finish(job)

        assert drive.states() == {"loop": "KILLED", "a": "SUCCESS"}


class TestRestart:
    def test_given_a_round_failed_then_it_goes_on_there_and_may_go_round_as_often_as_at_first(self) -> None:
        drive = Drive(a_flow(a_loop(*jobs("a", "b"), max_iterations=2))).start()
        rounds(drive, False)
        drive.finish(drive.begin("b"))
        drive.fire()
        rounds(drive, False)
        drive.finish(drive.begin("b"), FAILED)

        drive.restart()
        assert drive.dispatched == ["b"]
        drive.finish(drive.begin("b"))
        assert drive.run("loop").outputs == {"iterationCount": 2}
        assert drive.run("loop").due is not None
        drive.fire()
        rounds(drive, False)
        drive.finish(drive.begin("b"))

        assert drive.state is SUCCESS
        assert drive.run("loop").outputs == {"iterationCount": 3}

    def test_given_it_failed_at_its_limit_then_it_goes_round_again(self) -> None:
        drive = Drive(a_flow(a_loop(max_iterations=2, fail_on_max_reached=True))).start()
        rounds(drive, False, False)
        assert drive.state is FAILED

        drive.restart()
        assert drive.state is State.RUNNING
        assert drive.run("loop").message == ""
        drive.fire()
        rounds(drive, True)

        assert drive.state is SUCCESS

    def test_given_its_time_was_over_then_it_has_all_of_it_again(self) -> None:
        drive = Drive(a_flow(a_loop(interval="PT1H", timeout="PT90S"))).start()
        rounds(drive, False)
        drive.fire()

        drive.restart()

        assert drive.run("loop").due == drive.now + 90 * SECOND

    def test_given_it_was_killed_while_it_waited_then_the_condition_is_asked_again(self) -> None:
        drive = Drive(a_flow(a_loop())).start()
        rounds(drive, False)
        drive.kill()

        drive.restart()

        assert drive.run("loop").state is State.RUNNING
        assert drive.run("loop").due == drive.now + MINUTE
        drive.fire()
        rounds(drive, True)
        assert drive.state is SUCCESS

    def test_given_a_later_task_failed_then_the_loop_stays_as_it_was(self) -> None:
        drive = Drive(a_flow(a_loop(condition="true"), *jobs("b")), {"b": [FAILED, SUCCESS]}).to_end()

        drive.restart()

        assert drive.to_end().dispatched == ["b"]


class TestInside:
    def test_given_a_flowable_around_then_its_timeout_ends_the_wait(self) -> None:
        drive = Drive(a_flow(Sequential(id="s", type="s", tasks=[a_loop(interval="PT1H")], timeout="PT90S"))).start()
        rounds(drive, False)

        drive.fire()

        assert drive.states() == {"s": "FAILED", "loop": "KILLED", "a": "SUCCESS"}

    def test_given_what_was_decided_then_it_is_rendered_once(self) -> None:
        calls: list[str] = []

        def render(text: str) -> str:
            calls.append(text)
            return text

        decision = a_loop(interval="PT5S", max_iterations=4, max_duration="PT1H").decide(render)

        assert decision.outputs == {"iterationCount": 1}
        assert decision.plan == {"interval_s": 5.0, "most": 4, "longest_s": 3600.0, "before": 0}
        assert calls == ["PT5S", "PT1H"]

    def test_given_a_number_that_is_none_then_it_is_refused(self) -> None:
        with pytest.raises(UserError, match="is '-1', not a whole number"):
            a_loop(max_iterations="-1").decide(str)
