from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from tercel.machine import Change
from tercel.machine.messages import CancelTask, ChildChanged, RunTask, TimerDue, WorkerLost
from tercel.model.execution import Attempt, TaskRun, task_run_id
from tercel.model.state import State, StateChange
from tercel.model.task import Retry, Task
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.sequence import AllowFailure, Parallel
from tercel.plugins.flow.working_directory import WorkingDirectory
from tests.unit.machine.driver import Drive, Job, a_flow, a_result, jobs

FAILED = State.FAILED
MINUTE = timedelta(minutes=1)


def a_directory(*children: str, **properties: Any) -> WorkingDirectory:
    return WorkingDirectory(id="wd", type="wd", tasks=jobs(*children), **properties)


class Worker:
    """Reports children as a worker does, in one job."""

    def __init__(self, drive: Drive, label: str = "wd", *, tells_start: bool = True) -> None:
        self.drive = drive
        self.job: RunTask = drive.begin(label) if tells_start else drive.queue.pop(0)
        self.children: dict[str, TaskRun] = {}

    def child(self, task_id: str, *states: State, outputs: dict[str, object] | None = None) -> Change:
        run = self.children.get(task_id)
        changes = tuple(StateChange(state, self.drive.now) for state in states)
        if run is None:
            run = TaskRun(
                id=task_run_id("execution", self.job.run_id, task_id, None, None),
                execution_id="execution",
                task_id=task_id,
                parent_id=self.job.run_id,
                history=changes,
            )
        else:
            run = replace(run, history=(*run.history, *changes))
        self.children[task_id] = run = replace(run, outputs=outputs or {}, attempts=(Attempt(changes[-1:]),))
        return self.report(run)

    def report(self, run: TaskRun) -> Change:
        return self.drive.apply(
            ChildChanged(now=self.drive.now, run_id=self.job.run_id, fence=self.job.fence, child=run)
        )

    def runs(self, task_id: str, state: State = State.SUCCESS, **outputs: object) -> None:
        self.child(task_id, State.CREATED, State.RUNNING)
        self.child(task_id, state, outputs=outputs)

    def ends(self, state: State = State.SUCCESS, **fields: object) -> None:
        self.drive.finish(self.job, a_result(state, self.drive.now, **fields))


def start(*tasks: Task, **properties: Any) -> tuple[Drive, Worker]:
    drive = Drive(a_flow(*tasks, **properties)).start()
    return drive, Worker(drive)


class TestJob:
    def test_given_children_then_they_travel_as_one_job_and_their_rows_are_kept(self) -> None:
        drive, worker = start(a_directory("a", "b"), *jobs("c"))

        worker.runs("a", x=1)
        worker.runs("b")
        worker.ends(outputs={"outputFiles": {}})
        drive.to_end()

        assert drive.dispatched == ["wd", "c"]
        assert drive.states() == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
        assert drive.live.outputs == {"wd": {"outputFiles": {}}, "a": {"x": 1}, "b": {}, "c": {}}
        assert drive.run("a").parent_id == drive.run("wd").id

    def test_given_a_child_row_twice_or_late_then_it_changes_nothing(self) -> None:
        drive, worker = start(a_directory("a"))
        worker.child("a", State.CREATED, State.RUNNING)
        running = worker.children["a"]
        worker.child("a", State.SUCCESS)

        assert worker.report(worker.children["a"]).is_empty
        assert worker.report(running).is_empty
        assert drive.run("a").state is State.SUCCESS

    def test_given_a_row_that_is_no_child_of_it_then_it_changes_nothing(self) -> None:
        drive, worker = start(a_directory("a"), *jobs("other"))
        worker.child("a", State.CREATED)

        assert worker.report(
            replace(worker.children["a"], id="forged", history=worker.children["a"].history * 2)
        ).is_empty
        assert worker.report(replace(worker.children["a"], task_id="other")).is_empty
        assert set(drive.states()) == {"wd", "a"}

    def test_given_all_children_disabled_then_the_job_runs_all_the_same(self) -> None:
        directory = WorkingDirectory(id="wd", type="wd", tasks=[Job(id="a", disabled=True)])

        assert Drive(a_flow(directory)).to_end().dispatched == ["wd"]

    def test_given_a_false_condition_then_it_is_skipped_whole(self) -> None:
        assert Drive(a_flow(a_directory("a", run_if="false"))).to_end().states() == {"wd": "SKIPPED"}

    def test_given_an_end_with_open_children_then_they_are_closed(self) -> None:
        drive, worker = start(a_directory("a"))
        worker.child("a", State.CREATED, State.RUNNING)

        worker.ends(FAILED, message="The disk is full.")

        assert drive.states() == {"wd": "FAILED", "a": "KILLED"}
        assert drive.run("a").attempts[-1].state is State.KILLED

    def test_given_a_loop_then_outputs_of_children_stand_under_its_values(self) -> None:
        drive = Drive(a_flow(ForEach(id="e", type="e", values=["x"], tasks=[a_directory("a")]))).start()
        worker = Worker(drive, "wd[x]")

        worker.runs("a", v=1)
        worker.ends(outputs={"outputFiles": {"f": "u"}})

        assert drive.live.outputs["a"] == {"x": {"v": 1}}
        assert drive.live.outputs["wd"] == {"x": {"outputFiles": {"f": "u"}}}


class TestBranches:
    def test_given_a_failed_job_then_errors_and_finally_run_after_it(self) -> None:
        directory = a_directory("a", "b", errors=jobs("e"), finally_=jobs("f"))
        drive, worker = start(directory, errors=jobs("g"))
        worker.runs("a", FAILED)

        worker.ends(FAILED, outputs={"outputFiles": {"f": "u"}}, message="a failed")
        assert drive.run("wd").state is State.RUNNING
        assert drive.live.outputs["wd"] == {"outputFiles": {"f": "u"}}
        drive.to_end()

        assert drive.dispatched == ["wd", "e", "f", "g"]
        assert drive.states()["wd"] == "FAILED"
        assert drive.run("wd").message == "a failed"

    def test_given_success_then_only_finally_runs(self) -> None:
        drive, worker = start(a_directory("a", errors=jobs("e"), finally_=jobs("f")))
        worker.runs("a")
        worker.ends()

        assert drive.to_end().dispatched == ["wd", "f"]
        assert drive.states()["wd"] == "SUCCESS"

    def test_given_its_errors_run_then_late_reports_of_the_job_change_nothing(self) -> None:
        drive, worker = start(a_directory("a", errors=jobs("e")))
        worker.ends(FAILED)

        assert drive.finish(worker.job).is_empty
        assert drive.apply(WorkerLost(now=drive.now, run_id=worker.job.run_id, fence=1)).is_empty
        assert worker.child("a", State.CREATED).is_empty

    def test_given_allow_failure_then_errors_run_and_it_is_a_warning(self) -> None:
        drive, worker = start(a_directory("a", errors=jobs("e"), allow_failure=True), *jobs("c"))
        worker.ends(FAILED)

        assert drive.to_end().dispatched == ["wd", "e", "c"]
        assert drive.states()["wd"] == "WARNING"

    def test_given_allow_failure_around_then_the_outputs_of_the_first_children_are_there(self) -> None:
        drive, worker = start(AllowFailure(id="x", type="x", tasks=[a_directory("a", "b")]))
        worker.runs("a", v=1)
        worker.runs("b", FAILED)
        worker.ends(FAILED)

        assert drive.states() == {"x": "WARNING", "wd": "FAILED", "a": "SUCCESS", "b": "FAILED"}
        assert drive.live.outputs["a"] == {"v": 1}

    def test_given_a_kill_while_its_errors_run_then_all_is_killed(self) -> None:
        drive, worker = start(a_directory("a", errors=jobs("e", "g")))
        worker.ends(FAILED)
        error_task = drive.begin("e")

        drive.kill()
        assert drive.states() == {"wd": "KILLING", "e": "KILLING"}
        drive.finish(error_task, State.KILLED)

        assert drive.states() == {"wd": "KILLED", "e": "KILLED"}
        assert drive.state is State.KILLED


class TestAgain:
    def test_given_a_retry_then_the_whole_of_it_runs_again_and_child_rows_are_replaced(self) -> None:
        drive, worker = start(a_directory("a", "b", retry=Retry(interval=MINUTE, max_attempts=2)))
        worker.runs("a", v=1)
        worker.runs("b", FAILED)
        worker.ends(FAILED)
        run = drive.run("wd")
        assert run.state is State.RETRYING
        assert drive.states()["a"] == "SUCCESS"

        change = drive.apply(TimerDue(now=drive.now + MINUTE, run_id=run.id, fence=1))
        assert sorted(change.removed) == sorted(child.id for child in worker.children.values())
        assert drive.states() == {"wd": "CREATED"}
        assert drive.live.outputs == {}
        again = Worker(drive)
        again.runs("a", v=2)
        again.ends()

        assert drive.states() == {"wd": "SUCCESS", "a": "SUCCESS"}
        assert drive.live.outputs["a"] == {"v": 2}
        assert [attempt.state for attempt in drive.run("wd").attempts] == [FAILED, State.SUCCESS]

    def test_given_a_lost_worker_then_children_that_ended_well_stay_and_the_lost_one_is_not_heard(self) -> None:
        drive, worker = start(a_directory("a", "b"))
        worker.runs("a")
        worker.child("b", State.CREATED, State.RUNNING)

        change = drive.apply(WorkerLost(now=drive.now, run_id=worker.job.run_id, fence=1))

        assert change.removed == [worker.children["b"].id]
        assert drive.states() == {"wd": "CREATED", "a": "SUCCESS"}
        assert worker.child("b", State.SUCCESS).is_empty
        again = Worker(drive)
        again.runs("b")
        again.ends()
        assert drive.states() == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS"}

    def test_given_a_lost_worker_whose_start_was_never_told_then_the_same_children_stay(self) -> None:
        drive = Drive(a_flow(a_directory("a", "b"))).start()
        worker = Worker(drive, tells_start=False)
        worker.runs("a")
        worker.child("b", State.CREATED, State.RUNNING)

        drive.apply(WorkerLost(now=drive.now, run_id=worker.job.run_id, fence=1))

        assert drive.states() == {"wd": "CREATED", "a": "SUCCESS"}

    def test_given_children_out_of_order_when_the_worker_is_lost_then_those_behind_a_gap_go(self) -> None:
        directory = WorkingDirectory(
            id="wd", type="wd", tasks=[Job(id="off", disabled=True), *jobs("a", "b", "c", "d")]
        )
        drive, worker = start(directory)
        worker.child("a", State.CREATED, State.SKIPPED)
        worker.runs("b", State.WARNING)
        worker.runs("d")

        drive.apply(WorkerLost(now=drive.now, run_id=worker.job.run_id, fence=1))

        assert drive.states() == {"wd": "CREATED", "a": "SKIPPED", "b": "WARNING"}

    def test_given_kept_children_when_a_worker_runs_one_again_then_it_goes_on_with_its_row(self) -> None:
        drive, worker = start(a_directory("a", "b"))
        worker.runs("a", v=1)
        drive.apply(WorkerLost(now=drive.now, run_id=worker.job.run_id, fence=1))
        again = Worker(drive)

        again.child("a", State.CREATED, State.RUNNING, State.RETRYING, State.RUNNING)
        assert drive.states()["a"] == "SUCCESS"
        again.children = dict(worker.children)
        again.child("a", State.RESTARTED, State.RUNNING)
        assert drive.live.outputs == {}
        again.child("a", State.SUCCESS, outputs={"v": 2})

        assert [change.state.value for change in drive.run("a").history] == [
            "CREATED",
            "RUNNING",
            "SUCCESS",
            "RESTARTED",
            "RUNNING",
            "SUCCESS",
        ]
        assert drive.live.outputs == {"a": {"v": 2}}

    def test_given_a_child_that_waits_for_its_retry_then_the_execution_rests(self) -> None:
        drive, worker = start(a_directory("a"))

        worker.child("a", State.CREATED, State.RUNNING, State.RETRYING)
        assert drive.state is State.RETRYING
        worker.child("a", State.RUNNING)
        assert drive.state is State.RUNNING

    def test_given_a_sibling_of_the_directory_then_it_does_not_rest(self) -> None:
        drive = Drive(a_flow(Parallel(id="p", type="p", tasks=[a_directory("a"), Job(id="x")]))).start()
        worker = Worker(drive)

        worker.child("a", State.CREATED, State.RUNNING, State.RETRYING)

        assert drive.state is State.RUNNING


class TestEnds:
    def test_given_a_kill_then_the_job_is_cancelled_and_ends_it(self) -> None:
        drive, worker = start(a_directory("a", "b", finally_=jobs("f")))
        worker.child("a", State.CREATED, State.RUNNING)

        drive.kill()
        assert drive.cancelled == [CancelTask(run_id=worker.job.run_id, fence=1)]
        worker.child("a", State.KILLED)
        worker.ends(State.KILLED)

        assert drive.states() == {"wd": "KILLED", "a": "KILLED"}
        assert drive.state is State.KILLED

    def test_given_a_worker_deaf_to_its_timeout_then_the_timer_fails_it(self) -> None:
        drive, worker = start(a_directory("a", timeout="PT1M"))
        worker.child("a", State.CREATED, State.RUNNING)
        run = drive.run("wd")
        assert run.due == drive.now + timedelta(minutes=11)

        drive.apply(TimerDue(now=run.due, run_id=run.id, fence=1))

        assert drive.states() == {"wd": "FAILED", "a": "KILLED"}
