from typing import Any

import pytest

from tercel.model.state import State
from tercel.model.task import Task
from tercel.plugins.flow.dag import Dag, DagTask
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.sequence import Sequential
from tests.unit.machine.driver import Drive, Job, a_flow, jobs

FAILED, SUCCESS = State.FAILED, State.SUCCESS
DIAMOND = {"a": "", "b": "a", "c": "a", "d": "b c"}


def a_dag(tasks: dict[str, str], *, bodies: dict[str, Task] | None = None, **properties: Any) -> Dag:
    """A Dag of tasks by id, each with the ids that it depends on."""
    written = [
        DagTask(task=(bodies or {}).get(id_, Job(id=id_)), depends_on=others.split()) for id_, others in tasks.items()
    ]
    return Dag(**{"id": "dag", "type": "dag", "tasks": written, **properties})


class TestOrder:
    def test_given_dependencies_then_a_task_starts_when_all_before_it_have_ended(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND), *jobs("z"))).start()
        assert drive.dispatched == ["a"]
        drive.finish(drive.begin("a"))
        assert drive.dispatched == ["a", "b", "c"]

        drive.finish(drive.begin("c"))
        assert drive.dispatched == ["a", "b", "c"]
        drive.finish(drive.begin("b"))

        assert drive.to_end().dispatched == ["a", "b", "c", "d", "z"]
        assert drive.states()["dag"] == "SUCCESS"

    def test_given_any_order_of_writing_then_dependencies_decide(self) -> None:
        drive = Drive(a_flow(a_dag({"d": "b c", "c": "a", "b": "a", "a": ""}))).to_end()

        assert drive.dispatched == ["a", "c", "b", "d"]

    def test_given_no_dependencies_then_all_start_at_once(self) -> None:
        assert Drive(a_flow(a_dag({"a": "", "b": "", "c": ""}))).start().dispatched == ["a", "b", "c"]

    def test_given_a_task_that_is_skipped_or_disabled_then_those_after_it_start(self) -> None:
        bodies = {"a": Job(id="a", run_if="false"), "b": Job(id="b", disabled=True)}
        drive = Drive(a_flow(a_dag({"a": "", "b": "a", "c": "a b"}, bodies=bodies))).start()

        assert drive.states() == {"dag": "RUNNING", "a": "SKIPPED", "c": "CREATED"}

    def test_given_all_are_disabled_then_it_succeeds_at_once(self) -> None:
        drive = Drive(a_flow(a_dag({"a": ""}, bodies={"a": Job(id="a", disabled=True)}))).start()

        assert drive.states() == {"dag": "SUCCESS"}

    def test_given_a_dependency_named_twice_then_it_counts_once(self) -> None:
        assert Drive(a_flow(a_dag({"a": "", "b": "a a"}))).to_end().dispatched == ["a", "b"]

    def test_given_a_warning_then_those_after_it_start_and_it_ends_with_a_warning(self) -> None:
        drive = Drive(a_flow(a_dag({"a": "", "b": "a"})), {"a": State.WARNING}).to_end()

        assert drive.states() == {"dag": "WARNING", "a": "WARNING", "b": "SUCCESS"}

    def test_given_flowables_inside_then_their_end_is_awaited(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("x", "y"))
        drive = Drive(a_flow(a_dag({"s": "", "b": "s"}, bodies={"s": inner}))).to_end()

        assert drive.dispatched == ["x", "y", "b"]

    def test_given_a_loop_around_then_each_value_has_its_own(self) -> None:
        each = ForEach(id="e", type="e", values=["1", "2"], tasks=[a_dag({"a": "", "b": "a"})], concurrency_limit=0)
        drive = Drive(a_flow(each)).start()

        drive.finish(drive.begin("a[2]"))

        assert drive.dispatched == ["a[1]", "a[2]", "b[2]"]

    def test_given_it_crashes_at_any_moment_then_it_goes_on(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND, finally_=jobs("f")))).start()

        while drive.live.execution.is_open:
            drive.crash()
            drive.step()

        assert drive.dispatched == ["a", "b", "c", "d", "f"]


class TestLimit:
    def test_given_a_limit_then_no_more_are_open_and_the_first_written_goes_first(self) -> None:
        drive = Drive(a_flow(a_dag({"a": "", "b": "", "c": "a", "d": ""}, concurrent=2))).start()
        assert drive.dispatched == ["a", "b"]

        drive.finish(drive.begin("a"))
        assert drive.dispatched == ["a", "b", "c"]
        drive.finish(drive.begin("b"))

        assert drive.dispatched == ["a", "b", "c", "d"]

    def test_given_one_at_a_time_then_they_run_one_after_the_other(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND, concurrent=1))).start()

        while drive.live.execution.is_open:
            assert len(drive.live.jobs) == 1
            drive.step()

        assert drive.dispatched == ["a", "b", "c", "d"]


class TestFailure:
    def test_given_a_failure_then_nothing_new_starts_and_those_that_run_are_awaited(self) -> None:
        flow = a_flow(a_dag({"a": "", "b": "", "c": "b", "d": "a"}, errors=jobs("e"), finally_=jobs("f")))
        drive = Drive(flow).start()
        a, b = drive.begin("a"), drive.begin("b")

        drive.finish(a, FAILED)
        assert drive.dispatched == ["a", "b", "e"]
        drive.finish(drive.begin("e"))
        assert drive.run("dag").state is State.RUNNING
        drive.finish(b)

        assert drive.to_end().dispatched == ["a", "b", "e", "f"]
        assert drive.states() == {"dag": "FAILED", "a": "FAILED", "b": "SUCCESS", "e": "SUCCESS", "f": "SUCCESS"}

    def test_given_a_failure_that_is_allowed_then_those_after_it_start(self) -> None:
        bodies = {"a": Job(id="a", allow_failure=True)}
        drive = Drive(a_flow(a_dag({"a": "", "b": "a"}, bodies=bodies)), {"a": FAILED}).to_end()

        assert drive.states() == {"dag": "WARNING", "a": "WARNING", "b": "SUCCESS"}

    def test_given_a_kill_then_nothing_new_starts(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND))).start()
        job = drive.begin("a")

        drive.kill()
        drive.finish(job)

        assert drive.states() == {"dag": "KILLED", "a": "SUCCESS"}

    def test_given_a_timeout_then_it_fails(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND, timeout="PT1M"))).start()
        job = drive.begin("a")

        drive.fire()
        drive.finish(job, State.KILLED)

        assert drive.states() == {"dag": "FAILED", "a": "KILLED"}


class TestRestart:
    def test_given_a_failure_then_it_goes_on_there_and_with_all_that_had_not_started(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND)), {"b": [FAILED, SUCCESS]}).to_end()
        assert drive.states() == {"dag": "FAILED", "a": "SUCCESS", "b": "FAILED", "c": "SUCCESS"}

        drive.restart()

        assert drive.to_end().dispatched == ["b", "d"]
        assert drive.state is SUCCESS

    def test_given_a_limit_then_it_holds_after_a_restart(self) -> None:
        flow = a_flow(a_dag({"a": "", "b": "", "c": "", "d": "a b c"}, concurrent=1))
        drive = Drive(flow, {"a": [FAILED, SUCCESS]}).to_end()

        drive.restart()
        while drive.live.execution.is_open:
            assert len(drive.live.jobs) == 1
            drive.step()

        assert drive.dispatched == ["a", "b", "c", "d"]

    def test_given_two_failed_then_both_begin_again_at_once(self) -> None:
        drive = Drive(a_flow(a_dag({"a": "", "b": "", "c": "a b"}))).start()
        a, b = drive.begin("a"), drive.begin("b")
        drive.finish(a, FAILED)
        drive.finish(b, FAILED)

        drive.restart()

        assert sorted(drive.dispatched) == ["a", "b"]
        assert drive.to_end().state is SUCCESS


class TestPauseByHand:
    def test_given_tasks_end_meanwhile_then_those_after_them_start_when_it_is_resumed(self) -> None:
        drive = Drive(a_flow(a_dag(DIAMOND))).start()
        job = drive.begin("a")
        drive.pause()
        drive.finish(job)
        assert drive.dispatched == ["a"]

        drive.resume()

        assert drive.dispatched == ["a", "b", "c"]


class TestProblems:
    def test_given_a_task_that_is_not_there_then_it_is_named(self) -> None:
        [problem] = a_dag({"a": "", "b": "a x"}).problems()

        assert problem.message == "The task 'b' depends on 'x', which is no task of this Dag."
        assert problem.hint == "Its tasks are: a, b."
        assert (problem.code, problem.path) == ("dag.unknown", ("tasks", 1, "dependsOn", 1))

    @pytest.mark.parametrize(
        ("tasks", "circle"),
        [
            ({"a": "a"}, "a → a"),
            ({"a": "b", "b": "a"}, "a → b → a"),
            ({"z": "a", "a": "b", "b": "c", "c": "a"}, "a → b → c → a"),
        ],
    )
    def test_given_a_circle_then_it_is_shown(self, tasks: dict[str, str], circle: str) -> None:
        [problem] = a_dag(tasks).problems()

        assert problem.message == f"The tasks depend on each other in a circle: {circle}."
        assert (problem.code, problem.path) == ("dag.cycle", ("tasks",))

    def test_given_many_ways_to_the_same_task_then_there_is_no_circle(self) -> None:
        layers = {
            f"{level}{side}": f"{level - 1}a {level - 1}b" if level else "" for level in range(30) for side in "ab"
        }

        assert list(a_dag(layers).problems()) == []
