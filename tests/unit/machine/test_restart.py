from datetime import timedelta
from typing import Any

import pytest

from tercel.machine import Change, can_restart, compile_flow, misfits
from tercel.machine.messages import (
    KillRequested,
    RestartRequested,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
)
from tercel.model.flow import Flow, FlowOutput
from tercel.model.jobs import ExecutionUpdate
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.plugins.flow.branch import If
from tercel.plugins.flow.dag import Dag, DagTask
from tercel.plugins.flow.each import EachParallel, ForEach
from tercel.plugins.flow.pause import Pause
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tests.builders import a_task_run, an_execution
from tests.unit.machine.driver import Drive, Job, a_flow, a_result, jobs
from tests.unit.machine.test_working_directory import Worker, a_directory

FAILED, KILLED = State.FAILED, State.KILLED
ONCE = [FAILED, State.SUCCESS]
MINUTE = timedelta(minutes=1)


def ended(flow: Flow, **results: object) -> Drive:
    """A drive at its first end."""
    return Drive(flow, results).to_end()


def states(drive: Drive, label: str) -> list[str]:
    return [change.state.value for change in drive.run(label).history]


class TestTasks:
    def test_given_a_failed_task_then_it_goes_on_there_and_what_ended_well_stays(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c")), b=ONCE)
        before = drive.run("a")

        change = drive.restart()
        assert [run.task_id for run in change.runs] == ["b"]
        drive.to_end()

        assert drive.dispatched == ["b", "c"]
        assert drive.run("a") == before
        assert states(drive, "b") == ["CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS"]
        assert [attempt.state.value for attempt in drive.run("b").attempts] == ["FAILED", "SUCCESS"]
        execution = drive.live.execution
        assert [one.state.value for one in execution.history][2:] == ["FAILED", "RESTARTED", "RUNNING", "SUCCESS"]
        assert execution.attempt_number == 2

    def test_given_an_event_that_does_not_fit_then_it_changes_nothing(self) -> None:
        running = Drive(a_flow(*jobs("a"))).start()
        assert running.restart().is_empty
        assert ended(a_flow(*jobs("a"))).restart().is_empty
        drive = ended(a_flow(*jobs("a")), a=FAILED)
        assert drive.apply(RestartRequested(now=drive.now, attempt=2, revision=1)).is_empty

    def test_given_it_fails_again_at_once_then_the_same_event_does_not_restart_it_twice(self) -> None:
        drive = ended(a_flow(Job(id="a", run_if="{{ nope }}")))
        event = RestartRequested(now=drive.now, attempt=1, revision=1)

        drive.apply(event)

        assert states(drive, "a") == ["CREATED", "FAILED", "RESTARTED", "FAILED"]
        assert drive.apply(event).is_empty

    def test_given_errors_and_finally_then_they_are_forgotten_and_run_if_need_be(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a"), errors=jobs("e"), finally_=jobs("f"))
        drive = ended(a_flow(inner, errors=jobs("g"), finally_=jobs("h")), a=ONCE)
        gone = [drive.run(label).id for label in "efgh"]
        fences = {label: drive.run(label).fence for label in "fh"}

        change = drive.restart()
        assert sorted(change.removed) == sorted(gone)
        drive.to_end()

        assert drive.states() == {"s": "SUCCESS", "a": "SUCCESS", "f": "SUCCESS", "h": "SUCCESS"}
        assert drive.dispatched == ["a", "f", "h"]
        assert all(drive.run(label).fence > fence for label, fence in fences.items())

    def test_given_a_kill_then_it_goes_on_where_it_was_killed(self) -> None:
        each = ForEach(id="e", type="e", values=["x", "y", "z"], concurrency_limit=2, tasks=jobs("a", "b"))
        drive = Drive(a_flow(each)).start()
        first, second = drive.begin("a[x]"), drive.begin("a[y]")
        drive.finish(first)
        drive.kill()
        drive.finish(second, State.SUCCESS)
        drive.finish(drive.begin("b[x]"), KILLED)
        drive.queue.clear()
        assert drive.state is KILLED

        drive.restart()
        assert drive.dispatched == ["b[x]", "b[y]"]
        drive.to_end()

        assert drive.dispatched == ["b[x]", "b[y]", "a[z]", "b[z]"]
        assert drive.state is State.SUCCESS

    def test_given_it_was_killed_before_it_began_then_it_begins(self) -> None:
        drive = Drive(a_flow(*jobs("a")))
        drive.apply(KillRequested(now=drive.now))

        drive.restart()

        assert drive.to_end().states() == {"a": "SUCCESS"}

    def test_given_all_tasks_ended_well_but_not_the_flow_then_its_end_is_tried_again(self) -> None:
        outputs = [FlowOutput(id="o", type="STRING", value="{{ nope }}")]
        drive = ended(a_flow(*jobs("a"), finally_=jobs("f"), outputs=outputs))
        assert drive.live.execution.message.startswith("The outputs of the flow cannot be rendered")

        drive.restart(a_flow(*jobs("a"), finally_=jobs("f")))
        drive.to_end()

        assert drive.dispatched == ["f"]
        assert (drive.state, drive.live.execution.message) == (State.SUCCESS, "")
        assert drive.live.execution.revision == 2

    def test_given_retries_then_a_restart_gives_all_of_them_again(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=2, warning_on_retry=True)
        drive = ended(a_flow(Job(id="a", retry=retry)), a=[FAILED, FAILED, FAILED, State.SUCCESS])

        drive.restart()
        drive.to_end()

        assert [attempt.state.value for attempt in drive.run("a").attempts] == ["FAILED", "FAILED", "FAILED", "SUCCESS"]
        assert drive.run("a").state is State.WARNING

    def test_given_success_at_the_first_try_of_a_restart_then_no_retry_is_warned_of(self) -> None:
        retry = Retry(interval=MINUTE, max_attempts=1, warning_on_retry=True)
        drive = ended(a_flow(Job(id="a", retry=retry)), a=ONCE)

        drive.restart()

        assert drive.to_end().run("a").state is State.SUCCESS

    def test_given_workers_were_lost_then_a_restart_forgives_them(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()
        for _ in range(3):
            job = drive.begin("a")
            drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=job.fence))
        assert drive.state is FAILED

        drive.restart()
        job = drive.begin("a")
        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=job.fence))

        assert drive.run("a").lost == 1
        assert drive.to_end().state is State.SUCCESS

    def test_given_the_job_is_lost_in_the_queue_then_it_stays_restarted(self) -> None:
        drive = ended(a_flow(*jobs("a")), a=ONCE)
        drive.restart()
        run = drive.run("a")

        drive.apply(WorkerLost(now=drive.now, run_id=run.id, fence=run.fence))

        assert states(drive, "a") == ["CREATED", "RUNNING", "FAILED", "RESTARTED"]
        assert drive.apply(TaskRunStarted(now=drive.now, run_id=run.id, fence=run.fence, worker="w")).is_empty
        assert drive.run("a").fence == run.fence + 1

    def test_given_a_kill_after_a_restart_then_it_can_be_restarted_again(self) -> None:
        drive = ended(a_flow(*jobs("a", "b")), a=[FAILED, KILLED, State.SUCCESS])
        drive.restart()
        job = drive.begin("a")
        drive.kill()
        drive.finish(job, KILLED)
        assert drive.state is KILLED

        drive.restart()

        assert drive.to_end().state is State.SUCCESS
        assert drive.live.execution.attempt_number == 3


class TestFlowables:
    def test_given_a_failure_deep_inside_then_all_around_it_is_opened_again(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"))
        drive = ended(a_flow(Parallel(id="p", type="p", tasks=[inner, *jobs("x")]), *jobs("c")), b=ONCE)

        drive.restart()
        assert states(drive, "p") == ["CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING"]
        drive.to_end()

        assert drive.dispatched == ["b", "c"]
        assert drive.states() == dict.fromkeys(["p", "s", "x", "a", "b", "c"], "SUCCESS")

    def test_given_a_loop_then_its_values_are_not_asked_for_again(self) -> None:
        def flow(values: str) -> Flow:
            return a_flow(ForEach(id="e", type="e", values=values, tasks=jobs("a")))

        drive = ended(flow("[1, 2, 3]"), **{"a[2]": ONCE})

        drive.restart(flow("{{ nope }}"))

        assert drive.to_end().dispatched == ["a[2]", "a[3]"]

    def test_given_it_failed_to_decide_then_it_decides_again(self) -> None:
        def flow(condition: str) -> Flow:
            return a_flow(If(id="i", type="i", condition=condition, then=jobs("a"), else_=jobs("b")))

        drive = ended(flow("{{ nope }}"))

        drive.restart(flow("false"))

        assert drive.to_end().dispatched == ["b"]
        assert states(drive, "i") == ["CREATED", "FAILED", "RESTARTED", "RUNNING", "SUCCESS"]

    def test_given_a_timeout_then_it_has_all_its_time_again(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", timeout="PT1M", tasks=jobs("a", "b")))).start()
        job, other = drive.begin("a"), drive.begin("b")
        run = drive.run("p")
        assert run.due is not None
        drive.now = run.due
        drive.apply(TimerDue(now=drive.now, run_id=run.id, fence=run.fence))
        drive.finish(job, KILLED)
        drive.finish(other, State.SUCCESS)
        assert drive.states() == {"p": "FAILED", "a": "KILLED", "b": "SUCCESS"}

        drive.restart()

        assert drive.run("p").due == drive.now + MINUTE
        assert drive.run("p").message == ""
        assert drive.apply(TimerDue(now=drive.now + MINUTE, run_id=run.id, fence=run.fence)).is_empty
        assert drive.to_end().states() == {"p": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS"}

    def test_given_a_timeout_that_cannot_be_rendered_any_more_then_it_fails_with_that(self) -> None:
        drive = ended(a_flow(Sequential(id="s", type="s", tasks=jobs("a"))), a=FAILED)

        drive.restart(a_flow(Sequential(id="s", type="s", timeout="{{ nope }}", tasks=jobs("a"))))

        assert drive.states() == {"s": "FAILED", "a": "FAILED"}
        assert "nope" in drive.run("s").message
        assert drive.state is FAILED

    def test_given_one_fails_again_at_once_then_the_others_are_begun_all_the_same(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        first, second = drive.begin("a"), drive.begin("b")
        drive.finish(first, FAILED)
        drive.finish(second, FAILED)

        drive.restart(a_flow(Parallel(id="p", type="p", tasks=[Job(id="a", run_if="{{ nope }}"), *jobs("b")])))

        assert drive.dispatched == ["b"]
        assert drive.to_end().states() == {"p": "FAILED", "a": "FAILED", "b": "SUCCESS"}

    def test_given_a_failure_that_was_absorbed_before_then_it_stays(self) -> None:
        drive = ended(a_flow(AllowFailure(id="w", type="w", tasks=jobs("a")), *jobs("b")), a=FAILED, b=ONCE)

        drive.restart()

        assert drive.to_end().dispatched == ["b"]
        assert drive.state is State.WARNING


class TestDag:
    def a_flow(self, **of_dag: Any) -> Flow:
        b, c = DagTask(task=Job(id="b"), depends_on=["a"]), DagTask(task=Job(id="c"), depends_on=["b"])
        return a_flow(Dag(id="d", type="d", tasks=[DagTask(task=Job(id="a")), b, c], **of_dag))

    def test_given_what_it_depends_on_begins_again_then_a_task_waits_for_its_turn(self) -> None:
        drive = ended(self.a_flow(), b=FAILED)
        drive.results.clear()
        drive.change_task_state("a", FAILED)

        drive.restart()
        assert drive.states() == {"d": "RUNNING", "a": "RESTARTED"}

        assert drive.to_end().dispatched == ["a", "b", "c"]
        assert drive.state is State.SUCCESS

    def test_given_what_it_depends_on_ended_well_then_a_task_begins_again_at_once(self) -> None:
        drive = ended(self.a_flow(), c=ONCE)
        drive.change_task_state("a", FAILED)

        drive.restart()

        assert drive.dispatched == ["a", "c"]
        assert drive.to_end().states() == {"d": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}

    def test_given_what_absorbed_a_failure_runs_again_then_what_depends_on_it_waits(self) -> None:
        absorbing = AllowFailure(id="x", type="x", tasks=jobs("a"))
        last = DagTask(task=Job(id="c"), depends_on=["x", "b"])
        dag = Dag(id="d", type="d", tasks=[DagTask(task=absorbing), DagTask(task=Job(id="b")), last])
        drive = ended(a_flow(AllowFailure(id="w", type="w", tasks=[dag])), a=ONCE, b=ONCE)
        assert drive.state is State.WARNING
        drive.restart()

        drive.finish(drive.begin("b"))
        assert drive.dispatched == ["b", "a"]
        drive.finish(drive.begin("a"))

        assert drive.dispatched == ["b", "a", "c"]
        assert drive.to_end().state is State.SUCCESS

    def test_given_what_absorbed_a_failure_runs_again_then_what_failed_behind_it_waits_for_its_turn(self) -> None:
        absorbing = AllowFailure(id="x", type="x", tasks=jobs("a"))
        last = DagTask(task=Job(id="c"), depends_on=["x"])
        dag = Dag(id="d", type="d", tasks=[DagTask(task=absorbing), last])
        drive = ended(a_flow(AllowFailure(id="w", type="w", tasks=[dag])), a=ONCE, c=FAILED)

        drive.restart()

        assert drive.dispatched == ["a"]
        assert drive.to_end().dispatched == ["a", "c"]


class TestLimit:
    """No more lanes are open than are allowed, also where a state given by hand left more of them unfinished."""

    def a_loop(self, limit: int = 1) -> Task:
        return ForEach(id="e", type="e", values=["1", "2", "3"], concurrency_limit=limit, tasks=jobs("a", "b"))

    def changed(self, *labels: str, **results: object) -> Drive:
        """A drive that had ended well before these task runs were made failures, the last one first."""
        drive = ended(a_flow(self.a_loop(), errors=jobs("x"), finally_=jobs("f")), **results)
        for label in reversed(labels):
            drive.change_task_state(label, FAILED)
            drive.to_end()
        return drive

    def test_given_more_failures_than_lanes_then_the_others_wait_for_their_turn(self) -> None:
        drive = self.changed("a[1]", "a[3]")

        drive.restart()
        assert drive.states() == {
            "e": "RUNNING", "a[1]": "RESTARTED", "b[1]": "SUCCESS",
            "a[2]": "SUCCESS", "b[2]": "SUCCESS", "a[3]": "FAILED", "b[3]": "SUCCESS",
        }  # fmt: skip

        assert drive.to_end().dispatched == ["a[1]", "a[3]", "f"]
        assert drive.history("a[3]") == ["CREATED", "RUNNING", "SUCCESS", "FAILED", "RESTARTED", "RUNNING", "SUCCESS"]
        assert drive.state is State.SUCCESS

    def test_given_an_unfinished_lane_then_it_goes_on_when_its_turn_comes(self) -> None:
        drive = self.changed("a[3]", "b[3]")
        drive.restart()
        drive.kill()
        drive.finish(drive.begin("a[3]"), KILLED)
        drive.change_task_state("a[1]", FAILED)
        drive.to_end()
        drive.change_task_state("a[3]", State.SUCCESS)
        drive.to_end()
        assert "b[3]" not in drive.states()

        drive.restart()
        assert drive.dispatched == ["a[1]"]

        assert drive.to_end().dispatched == ["a[1]", "b[3]", "f"]
        assert drive.state is State.SUCCESS

    def test_given_a_revision_that_allows_less_then_that_counts(self) -> None:
        failing = {f"a[{value}]": ONCE for value in (1, 2, 3)}
        drive = ended(a_flow(self.a_loop(0)), **failing)

        drive.restart(a_flow(self.a_loop(2)))
        assert drive.dispatched == ["a[1]", "a[2]"]

        assert drive.to_end().dispatched == ["a[1]", "a[2]", "b[1]", "b[2]", "a[3]", "b[3]"]
        assert drive.state is State.SUCCESS

    def test_given_another_failure_then_what_waits_is_left_as_it_was_and_counts_for_nothing(self) -> None:
        drive = self.changed("a[1]")
        drive.change_task_state("a[3]", KILLED)
        drive.to_end()
        drive.results["a[1]"] = FAILED

        drive.restart()

        assert drive.to_end().dispatched == ["a[1]", "x", "f"]
        assert drive.states()["a[3]"] == "KILLED"
        assert drive.state is FAILED

    def test_given_a_dag_then_its_tasks_wait_for_their_turn(self) -> None:
        tasks = [DagTask(task=Job(id=id_), depends_on=list(after)) for id_, after in (("a", ""), ("b", ""), ("c", "b"))]
        drive = ended(a_flow(Dag(id="d", type="d", concurrent=1, tasks=tasks)))
        for id_ in "ba":
            drive.change_task_state(id_, FAILED)
            drive.to_end()

        drive.restart()
        assert drive.dispatched == ["a"]

        assert drive.to_end().dispatched == ["a", "b"]
        assert drive.state is State.SUCCESS

    def test_given_a_crash_on_the_way_then_it_goes_on(self) -> None:
        drive = self.changed("a[1]", "a[2]", "b[3]")
        drive.restart()

        while drive.live.execution.is_open:
            drive.crash()
            assert len(drive.queue) == 1
            drive.step()

        assert drive.dispatched == ["a[1]", "a[2]", "b[3]", "f"]
        assert drive.state is State.SUCCESS

    def test_given_a_pause_by_hand_then_no_lane_begins_before_it_is_resumed(self) -> None:
        drive = self.changed("a[1]", "a[2]")
        drive.restart()

        drive.pause()
        drive.finish(drive.begin("a[1]"))
        assert drive.dispatched == ["a[1]"]
        drive.crash()
        drive.resume()

        assert drive.to_end().dispatched == ["a[1]", "a[2]", "f"]


class TestWarning:
    def test_given_absorbed_failures_then_they_run_again_in_order_and_the_rest_is_passed_over(self) -> None:
        first = AllowFailure(id="v", type="w", tasks=jobs("a", "b"))
        last = AllowFailure(id="w", type="w", tasks=jobs("d"))
        drive = ended(a_flow(first, *jobs("c"), last, *jobs("e")), a=ONCE, d=ONCE)
        assert drive.state is State.WARNING

        drive.restart()
        assert drive.dispatched == ["a"]
        assert drive.states() | {"v": "", "a": ""} == {
            "v": "", "a": "", "c": "SUCCESS", "w": "WARNING", "d": "FAILED", "e": "SUCCESS"
        }  # fmt: skip
        drive.to_end()

        assert drive.dispatched == ["a", "b", "d"]
        assert set(drive.states().values()) == {"SUCCESS"}
        assert drive.state is State.SUCCESS

    def test_given_a_limit_then_lanes_are_walked_again_within_it(self) -> None:
        loop = ForEach(
            id="e", type="e", values=["1", "2", "3"], tasks=[AllowFailure(id="w", type="w", tasks=jobs("a"))]
        )
        drive = ended(a_flow(loop), **{"a[1]": ONCE, "a[3]": [FAILED, FAILED]})

        drive.restart()
        assert drive.dispatched == ["a[1]"]
        drive.to_end()

        assert drive.dispatched == ["a[1]", "a[3]"]
        assert drive.state is State.WARNING

    def test_given_a_directory_that_allows_failure_then_its_failed_child_goes_on(self) -> None:
        drive = Drive(a_flow(a_directory("a", "b", allow_failure=True), *jobs("c"))).start()
        worker = Worker(drive)
        worker.runs("a")
        worker.runs("b", FAILED)
        worker.ends(FAILED)
        drive.to_end()

        drive.restart()

        assert drive.states() == {"wd": "RESTARTED", "a": "SUCCESS", "b": "RESTARTED", "c": "SUCCESS"}

    def test_given_a_warning_without_a_failed_task_run_then_there_is_nothing_to_restart(self) -> None:
        drive = ended(a_flow(Job(id="a", allow_failure=True)), a=FAILED)
        assert drive.state is State.WARNING

        assert drive.restart().is_empty


class TestDirectory:
    def failed(self, **properties: Any) -> Drive:
        drive = Drive(a_flow(a_directory("a", "b", "c", **properties))).start()
        worker = Worker(drive)
        worker.runs("a", v=1)
        worker.runs("b", FAILED, v=2)
        worker.ends(FAILED, outputs={"outputFiles": {"f": "u"}})
        return drive.to_end()

    def test_given_a_failed_child_then_it_goes_on_and_those_before_it_stay(self) -> None:
        drive = self.failed()

        change = drive.restart()

        assert change.removed == []
        assert drive.states() == {"wd": "RESTARTED", "a": "SUCCESS", "b": "RESTARTED"}
        assert drive.live.outputs == {"a": {"v": 1}}
        assert len(drive.run("b").attempts) == 1
        worker = Worker(drive)
        worker.children = {"b": drive.run("b")}
        worker.child("b", State.RUNNING)
        worker.child("b", State.SUCCESS)
        worker.runs("c")
        worker.ends()
        assert drive.states() == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
        assert drive.state is State.SUCCESS

    def test_given_from_scratch_then_all_children_are_forgotten(self) -> None:
        drive = self.failed()

        change = drive.restart(from_scratch=True)

        assert len(change.removed) == 2
        assert drive.states() == {"wd": "RESTARTED"}
        assert drive.live.outputs == {}
        assert drive.live.execution.from_scratch

    def test_given_its_branches_ran_then_they_are_forgotten(self) -> None:
        drive = self.failed(errors=jobs("e"), finally_=jobs("f"))

        drive.restart()

        assert drive.states() == {"wd": "RESTARTED", "a": "SUCCESS", "b": "RESTARTED"}

    def test_given_its_branches_are_gone_from_the_flow_then_their_rows_go_with_all_inside(self) -> None:
        drive = self.failed(errors=[Sequential(id="s", type="s", tasks=jobs("e"))])

        drive.restart(a_flow(a_directory("a", "b")))

        assert drive.states() == {"wd": "RESTARTED", "a": "SUCCESS", "b": "RESTARTED"}

    def test_given_a_worker_that_runs_all_again_as_if_new_then_kept_rows_stay(self) -> None:
        drive = self.failed()
        drive.restart()
        worker = Worker(drive)

        for task_id in "abc":
            worker.child(task_id, State.CREATED, State.RUNNING, State.RETRYING, State.RUNNING)
            worker.child(task_id, State.SUCCESS)
        worker.ends()

        assert drive.states() == {"wd": "SUCCESS", "a": "SUCCESS", "b": "KILLED", "c": "SUCCESS"}
        assert len(drive.run("a").history) == 3

    def test_given_the_worker_is_lost_before_it_goes_on_then_the_child_to_go_on_at_stays(self) -> None:
        drive = self.failed()
        drive.restart()
        job = drive.begin("wd")

        drive.apply(WorkerLost(now=drive.now, run_id=job.run_id, fence=job.fence))

        assert drive.states() == {"wd": "CREATED", "a": "SUCCESS", "b": "RESTARTED"}

    def test_given_its_condition_does_not_hold_any_more_then_it_is_skipped_and_its_children_stay(self) -> None:
        drive = self.failed()

        drive.restart(a_flow(a_directory("a", "b", "c", run_if="false")))

        assert drive.states() == {"wd": "SKIPPED", "a": "SUCCESS", "b": "FAILED"}
        assert drive.state is State.SUCCESS

    def test_given_a_new_child_before_the_failed_one_then_it_is_where_it_goes_on(self) -> None:
        drive = self.failed()

        drive.restart(a_flow(a_directory("a", "new", "b", "c")))

        assert drive.states() == {"wd": "RESTARTED", "a": "SUCCESS"}


class TestRevision:
    def test_given_a_new_task_before_the_failed_one_then_both_run(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c")), b=FAILED)
        drive.results["b"] = State.SUCCESS

        drive.restart(a_flow(*jobs("first", "a", "new", "b", "c")))

        assert drive.to_end().dispatched == ["first", "new", "b", "c"]
        assert drive.state is State.SUCCESS

    def test_given_another_order_then_nothing_runs_twice(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c")), c=ONCE)

        drive.restart(a_flow(*jobs("c", "b", "d", "a")))

        assert drive.to_end().dispatched == ["c", "d"]

    def test_given_the_failed_task_is_disabled_then_the_next_one_runs(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c")), b=FAILED)

        drive.restart(a_flow(Job(id="a"), Job(id="b", disabled=True), Job(id="c")))

        assert drive.to_end().states() == {"a": "SUCCESS", "c": "SUCCESS"}

    def test_given_new_tasks_in_lanes_of_their_own_then_they_run_too(self) -> None:
        def flow(*tasks: Task) -> Flow:
            return a_flow(EachParallel(id="e", type="e", value=["x", "y"], tasks=list(tasks)))

        drive = ended(flow(*jobs("b")), **{"b[y]": ONCE})

        drive.restart(flow(*jobs("a", "b")))

        assert sorted(drive.to_end().dispatched) == ["a[x]", "a[y]", "b[y]"]
        assert drive.state is State.SUCCESS

    def test_given_a_task_that_is_gone_then_its_rows_go(self) -> None:
        drive = ended(a_flow(Sequential(id="s", type="s", tasks=jobs("a", "b"))), b=FAILED)

        drive.restart(a_flow(*jobs("c")))

        assert drive.to_end().states() == {"c": "SUCCESS"}


class TestMisfits:
    def of(self, drive: Drive, *tasks: Task, **properties: Any) -> list[str]:
        new = compile_flow(a_flow(*tasks))
        return misfits(drive.index, new, drive.live.runs.values(), **properties)

    def test_given_other_properties_and_other_tasks_that_never_ran_then_it_fits(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c"), errors=jobs("e")), b=FAILED)

        assert self.of(drive, Job(id="a", timeout="PT1M"), *jobs("new", "b", "d")) == []

    def test_given_tasks_that_are_gone_or_elsewhere_then_each_is_told(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("x"))
        drive = ended(a_flow(*jobs("a", "b"), inner, *jobs("c")), c=FAILED)

        assert self.of(drive, Parallel(id="s", type="p", tasks=jobs("b")), Job(id="c")) == [
            "the task 'a' is gone",
            "the task 'b' stands inside 's'",
            "the task 's' is a Parallel, not a Sequential",
            "the task 'x' is gone",
        ]
        assert self.of(drive, *jobs("a", "b", "c", "x")) == [
            "the task 's' is gone",
            "the task 'x' stands at the top of the flow",
        ]

    def test_given_disabled_tasks_then_only_what_ended_well_is_missed(self) -> None:
        drive = ended(a_flow(*jobs("a", "b")), b=FAILED)

        assert self.of(drive, Job(id="a"), Job(id="b", disabled=True)) == []
        assert self.of(drive, Job(id="a", disabled=True), Job(id="b")) == ["the task 'a' is disabled"]

    def test_given_another_branch_then_it_is_told(self) -> None:
        def flow(then: list[Task], else_: list[Task]) -> Flow:
            return a_flow(If(id="i", type="i", condition="true", then=then, else_=else_))

        drive = ended(flow(jobs("a", "b"), []), b=FAILED)

        new = compile_flow(flow(jobs("b"), jobs("a")))
        assert misfits(drive.index, new, drive.live.runs.values()) == ["the task 'a' stands in `else`, not in `then`"]

    def test_given_children_of_a_directory_then_they_may_change_from_scratch(self) -> None:
        drive = TestDirectory().failed()

        assert self.of(drive, a_directory("one", "b")) == ["the task 'a' is gone"]
        assert self.of(drive, a_directory("one", "b"), from_scratch=True) == []


class TestCanRestart:
    @pytest.mark.parametrize(
        ("state", "of_run", "can"),
        [
            ("FAILED", "SUCCESS", True),
            ("KILLED", "SUCCESS", True),
            ("CANCELLED", "SUCCESS", True),
            ("WARNING", "FAILED", True),
            ("WARNING", "WARNING", False),
            ("SUCCESS", "FAILED", False),
            ("RUNNING", "FAILED", False),
        ],
    )
    def test_given_a_state_then_it_can_or_it_cannot(self, state: str, of_run: str, can: bool) -> None:
        execution = an_execution("CREATED", "RUNNING", state) if state != "RUNNING" else an_execution("RUNNING")

        assert can_restart(execution, [a_task_run("a", "CREATED", of_run)]) is can


class TestTaskStateChanged:
    def test_given_a_failure_that_is_made_a_success_then_the_flow_goes_on_after_it(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c"), errors=jobs("e"), finally_=jobs("f")), b=FAILED)

        drive.change_task_state("b", State.SUCCESS)

        assert drive.history("b") == ["CREATED", "RUNNING", "FAILED", "SUCCESS"]
        assert drive.run("b").attempts[-1].state is State.SUCCESS
        assert drive.run("b").message == ""
        assert drive.history()[2:] == ["FAILED", "RESTARTED", "RUNNING"]
        assert drive.states() == {"a": "SUCCESS", "b": "SUCCESS", "c": "CREATED"}
        assert drive.live.execution.attempt_number == 2
        assert drive.to_end().dispatched == ["c", "f"]
        assert drive.state is State.SUCCESS

    def test_given_flowables_around_then_they_run_again_and_go_on(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"), errors=jobs("e"))
        drive = ended(a_flow(Parallel(id="p", type="p", tasks=[inner, *jobs("x")]), *jobs("z")), a=FAILED)

        drive.change_task_state("a", State.WARNING)
        assert drive.states() == {"p": "RUNNING", "s": "RUNNING", "x": "SUCCESS", "a": "WARNING", "b": "CREATED"}

        assert drive.to_end().dispatched == ["b", "z"]
        assert drive.state is State.WARNING

    def test_given_another_failure_then_it_stays_and_counts(self) -> None:
        drive = ended(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")), *jobs("z")), a=FAILED, b=FAILED)

        drive.change_task_state("a", State.SUCCESS)

        assert drive.dispatched == []
        assert drive.states() == {"p": "FAILED", "a": "SUCCESS", "b": "FAILED"}
        assert drive.state is FAILED

    def test_given_a_success_that_is_made_a_failure_then_the_flow_fails_and_its_errors_run(self) -> None:
        drive = ended(a_flow(*jobs("a", "b"), errors=jobs("e")))

        drive.change_task_state("a", FAILED)

        assert drive.to_end().dispatched == ["e"]
        assert drive.state is FAILED

    def test_given_a_flowable_then_what_is_inside_stays(self) -> None:
        drive = ended(a_flow(Sequential(id="s", type="s", tasks=jobs("a", "b")), *jobs("z")), a=FAILED)

        drive.change_task_state("s", State.SUCCESS)

        assert drive.to_end().states() == {"s": "SUCCESS", "a": "FAILED", "z": "SUCCESS"}
        assert drive.dispatched == ["z"]
        assert drive.state is State.SUCCESS

    def test_given_a_loop_then_its_next_values_run(self) -> None:
        drive = ended(a_flow(ForEach(id="e", type="e", values=["1", "2"], tasks=jobs("a"))), **{"a[1]": FAILED})

        drive.change_task_state("a[1]", State.SUCCESS)

        assert drive.to_end().dispatched == ["a[2]"]
        assert drive.state is State.SUCCESS

    def test_given_after_tasks_then_they_run_anew(self) -> None:
        drive = ended(a_flow(*jobs("a"), after_execution=jobs("x")), a=FAILED)

        drive.change_task_state("a", State.SUCCESS)

        assert drive.to_end().dispatched == ["x"]
        assert drive.ends == [FAILED, State.SUCCESS]

    def test_given_it_is_out_of_date_or_does_not_fit_then_nothing_changes(self) -> None:
        drive = ended(a_flow(*jobs("a")), a=FAILED)
        run_id = drive.run("a").id

        def change(state: State = State.SUCCESS, **fields: Any) -> Change:
            values = {"now": drive.now, "run_id": run_id, "state": state, "attempt": 1, **fields}
            return drive.apply(TaskStateChanged(**values))

        assert change(attempt=2).is_empty
        assert change(run_id="unknown").is_empty
        assert change(FAILED).is_empty
        assert change(State.RUNNING).is_empty
        assert not change().is_empty
        assert change().is_empty

    def test_given_it_has_not_ended_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(*jobs("a"))).start()

        assert drive.change_task_state("a", State.SUCCESS).is_empty

    def test_given_a_child_of_a_directory_then_nothing_changes(self) -> None:
        drive = Drive(a_flow(a_directory("c"))).start()
        worker = Worker(drive)
        worker.runs("c", FAILED)
        worker.ends(FAILED)

        assert drive.change_task_state("c", State.SUCCESS).is_empty

    def test_given_a_failure_before_it_and_a_gap_then_what_was_changed_stays(self) -> None:
        drive = ended(a_flow(*jobs("a", "b"), Sequential(id="s", type="s", tasks=jobs("c", "d"))))
        for id_ in "ba":
            drive.change_task_state(id_, FAILED)
        drive.results["a"] = FAILED
        drive.restart()
        drive.to_end()
        assert drive.states() == {"a": "FAILED", "s": "SUCCESS", "c": "SUCCESS", "d": "SUCCESS"}

        drive.change_task_state("c", FAILED)

        assert drive.states() == {"a": "FAILED", "s": "FAILED", "c": "FAILED", "d": "SUCCESS"}
        assert drive.state is FAILED

    def test_given_a_task_of_finally_then_the_branch_goes_on_after_it(self) -> None:
        drive = ended(a_flow(*jobs("a"), errors=jobs("e"), finally_=jobs("f", "g", "h")), a=FAILED, g=FAILED)

        drive.change_task_state("g", State.SUCCESS)

        assert drive.states() == {
            "a": "FAILED", "e": "SUCCESS", "f": "SUCCESS", "g": "SUCCESS", "h": "CREATED"
        }  # fmt: skip
        assert drive.to_end().dispatched == ["h"]
        assert drive.state is FAILED

    def test_given_a_task_of_finally_that_is_made_a_failure_then_the_flow_fails(self) -> None:
        drive = ended(a_flow(*jobs("a"), finally_=jobs("f", "g")))

        drive.change_task_state("f", FAILED)

        assert drive.states() == {"a": "SUCCESS", "f": "FAILED"}
        assert drive.state is FAILED

    def test_given_a_task_of_errors_then_the_branch_goes_on_after_it_and_finally_runs_anew(self) -> None:
        drive = ended(a_flow(*jobs("a"), errors=jobs("e", "g"), finally_=jobs("f")), a=FAILED, e=FAILED)

        drive.change_task_state("e", State.WARNING)

        assert drive.to_end().dispatched == ["g", "f"]
        assert drive.states() == {"a": "FAILED", "e": "WARNING", "g": "SUCCESS", "f": "SUCCESS"}
        assert drive.state is FAILED

    def test_given_a_task_inside_a_branch_then_what_is_around_it_goes_on(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("b", "c"))
        drive = ended(a_flow(*jobs("a"), finally_=[*jobs("f"), inner, *jobs("g")]), b=FAILED)

        drive.change_task_state("b", State.SUCCESS)

        assert drive.to_end().dispatched == ["c", "g"]
        assert drive.state is State.SUCCESS

    def test_given_a_pause_that_nobody_resumed_and_that_was_changed_too_then_its_tasks_never_start(self) -> None:
        pause = Pause(id="w", type="w", timeout="PT1M", tasks=jobs("x"), errors=jobs("e", "g"))
        drive = Drive(a_flow(pause), {"e": FAILED}).start()
        drive.fire()
        drive.to_end()
        drive.change_task_state("w", State.SUCCESS)

        drive.change_task_state("e", State.SUCCESS)

        assert drive.to_end().dispatched == ["g"]
        assert drive.states() == {"w": "FAILED", "e": "SUCCESS", "g": "SUCCESS"}

    def test_given_a_task_in_a_branch_of_a_directory_then_its_job_stays_over(self) -> None:
        drive = Drive(a_flow(a_directory("c", finally_=jobs("f", "g"))), {"f": FAILED}).start()
        worker = Worker(drive)
        worker.runs("c")
        worker.ends(outputs={"n": 1})
        drive.to_end()
        assert drive.states() == {"wd": "FAILED", "c": "SUCCESS", "f": "FAILED"}

        drive.change_task_state("f", State.SUCCESS)
        assert drive.states() == {"wd": "RUNNING", "c": "SUCCESS", "f": "SUCCESS", "g": "CREATED"}

        assert drive.to_end().dispatched == ["g"]
        assert drive.run("wd").outputs == {"n": 1}
        assert drive.state is State.SUCCESS

    def test_given_what_another_execution_was_to_try_again_then_a_kill_is_a_kill(self) -> None:
        policy = Retry(max_attempts=2, behavior="CREATE_NEW_EXECUTION")
        tasks = [Job(id="a", retry=policy), *jobs("b")]
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=tasks, errors=jobs("e")))).start()
        drive.finish(drive.begin("a"), FAILED)
        drive.kill()
        drive.finish(drive.queue.pop(), KILLED)
        assert drive.states() == {"p": "RETRIED", "a": "RETRIED", "b": "KILLED"}

        drive.change_task_state("b", State.WARNING)
        drive.kill()
        drive.finish(drive.queue.pop(), KILLED)

        assert drive.states() == {"p": "KILLED", "a": "RETRIED", "b": "WARNING", "e": "KILLED"}
        assert drive.state is KILLED

    def test_given_a_restart_after_it_then_the_other_failures_begin_again(self) -> None:
        flow = a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))
        drive = ended(flow, a=FAILED, b=[FAILED, State.SUCCESS])
        drive.change_task_state("a", State.SUCCESS)

        drive.restart()

        assert drive.to_end().dispatched == ["b"]
        assert drive.state is State.SUCCESS

    def test_given_a_pause_by_hand_then_a_lane_goes_on_where_it_was_and_not_behind_what_had_ended(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"), allow_failure=True)
        leaves = a_result(update=ExecutionUpdate(ends_as=FAILED))
        drive = ended(a_flow(inner, *jobs("x", "c")), a=FAILED, x=leaves)
        drive.change_task_state("a", State.SUCCESS)
        job = drive.begin("b")

        drive.pause()
        drive.crash()
        drive.resume()
        assert drive.dispatched == ["b"]
        drive.pause()
        drive.finish(job)
        drive.resume()

        assert drive.dispatched == ["b", "c"]

    def test_given_a_crash_on_the_way_then_it_goes_on(self) -> None:
        drive = ended(a_flow(*jobs("a", "b", "c")), a=FAILED)
        drive.change_task_state("a", State.SUCCESS)

        while drive.live.execution.is_open:
            drive.crash()
            drive.step()

        assert drive.dispatched == ["b", "c"]
