from typing import Any

from msgspec.structs import replace

from tercel.machine import LiveExecution, compile_flow, copies_for_replay
from tercel.machine.messages import ReplayRequested
from tercel.model.execution import task_run_id
from tercel.model.flow import Flow, Sla
from tercel.model.state import State
from tercel.model.task import Retry
from tercel.plugins.flow.branch import If
from tercel.plugins.flow.dag import Dag, DagTask
from tercel.plugins.flow.each import ForEach
from tercel.plugins.flow.loop import LoopUntil
from tercel.plugins.flow.pause import Pause
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tercel.plugins.flow.subflow import Subflow
from tests.unit.machine.driver import SECOND, Drive, Job, a_flow, a_result, jobs
from tests.unit.machine.test_working_directory import Worker, a_directory

FAILED, SUCCESS, KILLED = State.FAILED, State.SUCCESS, State.KILLED


def ended(flow: Flow, **results: object) -> Drive:
    return Drive(flow, results).to_end()


def replay(old: Drive, label: str, flow: Flow | None = None, **results: object) -> Drive:
    """A new execution that begins at a task run of *old*, as the executor makes it."""
    new = Drive(flow or old.index.flow, results)
    new.now = old.now + SECOND
    copies = copies_for_replay(new.index, old.live.runs, old.run(label).id, "new")
    assert copies is not None
    execution = replace(new.live.execution, id="new", parent_id="execution", from_scratch=True)
    new.live = LiveExecution.from_rows(new.index, execution, copies.runs)
    new.apply(ReplayRequested(now=new.now, run_id=copies.target))
    return new


class TestSequence:
    def test_given_a_task_then_what_came_before_is_copied_and_it_and_all_after_it_run(self) -> None:
        old = ended(a_flow(*jobs("a", "b", "c")), a=a_result(outputs={"n": 1}))

        new = replay(old, "b")

        assert new.states() == {"a": "SUCCESS", "b": "RESTARTED"}
        assert new.history() == ["CREATED", "RUNNING"]
        assert new.live.outputs == {"a": {"n": 1}}
        assert new.to_end().dispatched == ["b", "c"]
        assert new.history("a") == ["CREATED", "RUNNING", "SUCCESS"]
        assert new.history("b") == ["CREATED", "RUNNING", "SUCCESS", "RESTARTED", "RUNNING", "SUCCESS"]
        assert new.state is SUCCESS

    def test_given_copies_then_their_ids_are_those_of_the_new_execution(self) -> None:
        new = replay(ended(a_flow(*jobs("a", "b"))), "b").to_end()

        assert {run.execution_id for run in new.live.runs.values()} == {"new"}
        assert new.run("a").id == task_run_id("new", None, "a", None, None)

    def test_given_the_first_task_then_nothing_but_its_row_is_copied(self) -> None:
        old = ended(a_flow(*jobs("a", "b")))

        new = replay(old, "a")

        assert new.states() == {"a": "RESTARTED"}
        assert new.live.outputs == {}

    def test_given_a_failed_execution_then_it_may_begin_anywhere_before_that(self) -> None:
        old = ended(a_flow(*jobs("a", "b", "c"), errors=jobs("e"), finally_=jobs("f")), b=FAILED)
        assert old.dispatched == ["a", "b", "e", "f"]

        assert replay(old, "a").to_end().dispatched == ["a", "b", "c", "f"]
        assert replay(old, "b").to_end().dispatched == ["b", "c", "f"]

    def test_given_branches_that_follow_the_end_then_they_run_anew(self) -> None:
        old = ended(a_flow(*jobs("a", "b"), after_execution=jobs("x")))

        new = replay(old, "b")
        assert new.states() == {"a": "SUCCESS", "b": "RESTARTED"}

        assert new.to_end().dispatched == ["b", "x"]

    def test_given_a_warning_before_it_then_that_counts(self) -> None:
        new = replay(ended(a_flow(*jobs("a", "b")), a=State.WARNING), "b")

        assert new.to_end().state is State.WARNING

    def test_given_a_condition_of_the_target_then_it_is_asked_again(self) -> None:
        old = ended(a_flow(Job(id="a"), Job(id="b", run_if="{{ outputs.a.go }}")), a=a_result(outputs={"go": True}))

        new = replay(old, "b", a_flow(Job(id="a"), Job(id="b", run_if="false")))

        assert new.states() == {"a": "SUCCESS", "b": "SKIPPED"}

    def test_given_an_execution_that_still_runs_then_what_has_not_ended_is_not_copied(self) -> None:
        old = Drive(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b")))).start()
        old.finish(old.begin("a"))
        old.begin("b")

        new = replay(old, "a")

        assert sorted(new.dispatched) == ["a", "b"]
        assert new.to_end().state is SUCCESS

    def test_given_a_failure_by_hand_elsewhere_then_what_had_followed_it_stays(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"))
        old = ended(a_flow(Parallel(id="p", type="p", tasks=[inner, *jobs("x")])))
        old.change_task_state("a", FAILED)
        old.to_end()

        new = replay(old, "x")

        assert new.to_end().dispatched == ["a", "x"]
        assert new.state is SUCCESS

    def test_given_it_is_told_twice_then_the_second_changes_nothing(self) -> None:
        new = replay(ended(a_flow(*jobs("a"))), "a")

        assert new.apply(ReplayRequested(now=new.now, run_id=new.run("a").id)).is_empty

    def test_given_an_sla_about_time_then_it_counts_from_the_replay(self) -> None:
        sla = Sla(id="s", type="MAX_DURATION", duration=60 * SECOND, behavior="FAIL")

        new = replay(ended(a_flow(*jobs("a"), sla=[sla])), "a")

        assert new.live.execution.due == new.now + 60 * SECOND

    def test_given_it_fails_then_it_can_be_restarted(self) -> None:
        new = replay(ended(a_flow(*jobs("a", "b", "c"))), "b", b=[SUCCESS, FAILED, SUCCESS]).to_end()
        assert new.state is FAILED

        new.restart()

        assert new.to_end().dispatched == ["b", "c"]
        assert new.state is SUCCESS


class TestFlowables:
    def test_given_a_task_inside_then_those_around_it_go_on(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b", "c"))
        old = ended(a_flow(*jobs("x"), inner, *jobs("y")))

        new = replay(old, "b")

        assert new.states() == {"x": "SUCCESS", "s": "RUNNING", "a": "SUCCESS", "b": "RESTARTED"}
        assert new.to_end().dispatched == ["b", "c", "y"]

    def test_given_a_flowable_as_target_then_all_inside_runs(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"))
        old = ended(a_flow(*jobs("x"), inner, *jobs("y")))

        new = replay(old, "s")

        assert new.states() == {"x": "SUCCESS", "s": "RUNNING", "a": "CREATED"}
        assert new.to_end().dispatched == ["a", "b", "y"]

    def test_given_a_condition_as_target_then_it_is_evaluated_again(self) -> None:
        choice = If(id="if", type="i", condition="{{ inputs.go }}", then=jobs("a"), else_=jobs("b"))
        old = Drive(a_flow(choice), inputs={"go": True}).to_end()
        new = Drive(a_flow(choice), inputs={"go": False})
        copies = copies_for_replay(new.index, old.live.runs, old.run("if").id, "new")
        assert copies is not None
        new.live = LiveExecution.from_rows(new.index, replace(new.live.execution, id="new"), copies.runs)

        new.apply(ReplayRequested(now=new.now, run_id=copies.target))

        assert new.dispatched == ["b"]
        assert new.run("if").outputs == {"evaluationResult": False}

    def test_given_a_condition_around_then_what_it_decided_stands(self) -> None:
        def flow(condition: str) -> Flow:
            return a_flow(If(id="if", type="i", condition=condition, then=jobs("a", "b"), else_=jobs("c")))

        new = replay(ended(flow("true")), "b", flow("false"))

        assert new.dispatched == ["b"]

    def test_given_siblings_side_by_side_then_they_stay_as_they_were(self) -> None:
        old = ended(a_flow(Parallel(id="p", type="p", tasks=jobs("a", "b", "c")), *jobs("y")))

        new = replay(old, "b")

        assert new.states() == {"p": "RUNNING", "a": "SUCCESS", "b": "RESTARTED", "c": "SUCCESS"}
        assert new.to_end().dispatched == ["b", "y"]

    def test_given_errors_and_finally_inside_then_they_run_anew(self) -> None:
        inner = Sequential(id="s", type="s", tasks=jobs("a", "b"), errors=jobs("e"), finally_=jobs("f"))
        old = ended(a_flow(inner), b=FAILED)

        new = replay(old, "b")
        assert new.states() == {"s": "RUNNING", "a": "SUCCESS", "b": "RESTARTED"}

        assert new.to_end().dispatched == ["b", "f"]

    def test_given_an_absorbed_failure_before_it_then_that_stays(self) -> None:
        old = ended(a_flow(AllowFailure(id="allow", type="x", tasks=jobs("a")), *jobs("b")), a=FAILED)

        new = replay(old, "b")

        assert new.to_end().dispatched == ["b"]
        assert new.states() == {"allow": "WARNING", "a": "FAILED", "b": "SUCCESS"}

    def test_given_a_dag_then_what_depends_on_it_runs_again_and_the_rest_stays(self) -> None:
        tasks = {"a": "", "b": "a", "c": "a", "d": "b", "e": "c", "f": "d e"}
        dag = Dag(
            id="dag",
            type="dag",
            tasks=[DagTask(task=Job(id=id_), depends_on=others.split()) for id_, others in tasks.items()],
        )
        old = ended(a_flow(dag, *jobs("z")))

        new = replay(old, "b")

        assert new.states() == {"dag": "RUNNING", "a": "SUCCESS", "c": "SUCCESS", "e": "SUCCESS", "b": "RESTARTED"}
        assert new.to_end().dispatched == ["b", "d", "f", "z"]


class TestLoops:
    def test_given_one_value_after_the_other_then_later_values_run_again(self) -> None:
        old = ended(a_flow(ForEach(id="e", type="e", values=["1", "2", "3"], tasks=jobs("a", "b"))))

        new = replay(old, "a[2]")

        assert new.states() == {"e": "RUNNING", "a[1]": "SUCCESS", "b[1]": "SUCCESS", "a[2]": "RESTARTED"}
        assert new.to_end().dispatched == ["a[2]", "b[2]", "a[3]", "b[3]"]

    def test_given_all_values_at_once_then_the_others_stay(self) -> None:
        each = ForEach(id="e", type="e", values=["1", "2", "3"], tasks=jobs("a", "b"), concurrency_limit=0)

        new = replay(ended(a_flow(each)), "a[2]")

        assert new.to_end().dispatched == ["a[2]", "b[2]"]
        assert set(new.states().values()) == {"SUCCESS"}

    def test_given_a_loop_in_a_loop_then_the_lanes_around_are_followed(self) -> None:
        inner = ForEach(id="in", type="e", values=["x", "y"], tasks=jobs("a"))
        old = ended(a_flow(ForEach(id="out", type="e", values=["1", "2"], tasks=[inner])))

        new = replay(old, "a[1][y]")

        assert new.to_end().dispatched == ["a[1][y]", "a[2][x]", "a[2][y]"]

    def test_given_the_loop_as_target_then_its_values_are_rendered_again(self) -> None:
        def flow(values: list[str]) -> Flow:
            return a_flow(ForEach(id="e", type="e", values=values, tasks=jobs("a")))

        assert replay(ended(flow(["1"])), "e", flow(["2", "3"])).to_end().dispatched == ["a[2]", "a[3]"]

    def test_given_rounds_then_it_goes_on_in_the_round_that_is_left(self) -> None:
        loop = LoopUntil(
            id="loop", type="loop", tasks=jobs("a", "b"), condition="{{ outputs.loop.iterationCount > 1 }}"
        )
        old = ended(a_flow(loop, *jobs("c")))

        new = replay(old, "b")

        assert new.dispatched == ["b"]
        assert new.to_end().dispatched == ["b", "c"]
        assert new.run("loop").outputs == {"iterationCount": 2}

    def test_given_the_rounds_as_target_then_they_begin_anew(self) -> None:
        loop = LoopUntil(id="loop", type="loop", tasks=jobs("a"), condition="{{ outputs.loop.iterationCount > 1 }}")

        new = replay(ended(a_flow(loop)), "loop")

        assert new.to_end().dispatched == ["a", "a"]


class TestDirectories:
    def ended(self, *children: str, **properties: Any) -> Drive:
        drive = Drive(a_flow(*jobs("x"), a_directory(*children, **properties), *jobs("y"))).start()
        drive.step()
        worker = Worker(drive)
        for child in children:
            worker.runs(child)
        worker.ends()
        return drive.to_end()

    def test_given_a_child_then_the_whole_directory_is_redone(self) -> None:
        old = self.ended("a", "b", finally_=jobs("f"))

        new = replay(old, "b")
        assert new.states() == {"x": "SUCCESS", "wd": "RESTARTED"}
        worker = Worker(new)
        worker.runs("a")
        worker.runs("b")
        worker.ends()

        assert new.to_end().dispatched == ["wd", "f", "y"]

    def test_given_a_later_task_then_the_directory_stays(self) -> None:
        new = replay(self.ended("a", "b"), "y")

        assert new.states() == {"x": "SUCCESS", "wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "y": "RESTARTED"}

    def test_given_a_task_of_its_branches_then_it_begins_there(self) -> None:
        drive = Drive(a_flow(a_directory("a", errors=jobs("e")))).start()
        worker = Worker(drive)
        worker.runs("a", FAILED)
        worker.ends(FAILED)
        drive.to_end()

        new = replay(drive, "wd")

        assert new.states() == {"wd": "RESTARTED"}


class TestWaits:
    def test_given_a_pause_before_it_then_nobody_is_asked_again(self) -> None:
        old = Drive(a_flow(Pause(id="w", type="w"), *jobs("a"))).start()
        old.resume(onResume={"k": "v"})
        old.to_end()

        new = replay(old, "a")

        assert new.dispatched == ["a"]
        assert new.live.outputs["w"] == {"onResume": {"k": "v"}}

    def test_given_a_pause_as_target_then_it_pauses_again(self) -> None:
        old = Drive(a_flow(Pause(id="w", type="w", tasks=jobs("x")), *jobs("a"))).start()
        old.resume(onResume={"k": "v"})
        old.to_end()

        new = replay(old, "w")

        assert new.states() == {"w": "PAUSED"}
        assert new.run("w").outputs == {}
        assert new.state is State.PAUSED
        new.resume()
        assert new.to_end().dispatched == ["x", "a"]

    def test_given_a_task_inside_a_pause_then_that_was_resumed_already(self) -> None:
        old = Drive(a_flow(Pause(id="w", type="w", tasks=jobs("x", "z")), *jobs("a"))).start()
        old.resume()
        old.to_end()

        new = replay(old, "z")

        assert new.states() == {"w": "RUNNING", "x": "SUCCESS", "z": "RESTARTED"}
        assert new.to_end().dispatched == ["z", "a"]

    def test_given_a_subflow_before_it_then_that_stays_and_as_target_it_is_started_anew(self) -> None:
        old = Drive(a_flow(Subflow(id="sub", type="s", namespace="n", flow_id="f"), *jobs("a"))).start()
        old.subflows_started("sub", executionId="x")
        old.subflow_ended("sub", SUCCESS, n=1)
        old.to_end()

        assert replay(old, "a").live.outputs["sub"] == {"executionId": "x", "state": "SUCCESS", "outputs": {"n": 1}}
        new = replay(old, "sub")
        assert new.dispatched == ["sub"]
        new.subflows_started("sub", executionId="y")
        new.subflow_ended("sub")

        assert new.run("sub").outputs == {"executionId": "y", "state": "SUCCESS", "outputs": {}}
        assert new.to_end().state is SUCCESS

    def test_given_a_subflow_under_way_as_target_then_it_has_an_attempt_of_its_own(self) -> None:
        once = Retry(interval=SECOND, max_attempts=1)
        old = Drive(a_flow(Subflow(id="sub", type="s", namespace="n", flow_id="f", retry=once))).start()
        old.subflows_started("sub")

        new = replay(old, "sub")
        new.finish(new.queue[-1], FAILED)  # it cannot be started

        assert [attempt.state for attempt in new.run("sub").attempts] == [KILLED, FAILED]
        assert new.state is FAILED

    def test_given_a_paused_execution_then_it_may_be_replayed(self) -> None:
        old = Drive(a_flow(*jobs("a"), Pause(id="w", type="w"))).start()
        old.step()

        new = replay(old, "a")
        new.step()

        assert new.states() == {"a": "SUCCESS", "w": "PAUSED"}


class TestOtherRevision:
    def test_given_the_task_is_gone_then_there_are_no_copies(self) -> None:
        old = ended(a_flow(*jobs("a", "b")))

        assert copies_for_replay(compile_flow(a_flow(*jobs("a"))), old.live.runs, old.run("b").id, "new") is None

    def test_given_later_tasks_that_are_new_then_they_run(self) -> None:
        new = replay(ended(a_flow(*jobs("a", "b"))), "b", a_flow(*jobs("a", "b", "more")))

        assert new.to_end().dispatched == ["b", "more"]

    def test_given_later_tasks_that_are_gone_then_their_rows_are_too(self) -> None:
        new = replay(ended(a_flow(*jobs("a", "b", "c"))), "b", a_flow(*jobs("a", "b")))

        assert new.to_end().states() == {"a": "SUCCESS", "b": "SUCCESS"}


class TestErrorBranches:
    def test_given_a_task_of_the_errors_of_the_flow_then_it_begins_there(self) -> None:
        """What failed stays as it was, and the branch goes on at the task that was named."""
        old = ended(a_flow(*jobs("a"), errors=jobs("e", "g")), a=FAILED)

        new = replay(old, "g")

        assert new.states()["a"] == "FAILED"
        assert new.to_end().dispatched == ["g"]
        assert new.state is FAILED

    def test_given_what_timed_out_then_its_errors_go_on_and_it_fails(self) -> None:
        inside = Sequential(
            id="s", type="s", tasks=jobs("a"), timeout="PT1M", errors=jobs("e", "g"), finally_=jobs("f")
        )
        old = Drive(a_flow(inside)).start()
        job = old.begin("a")
        old.fire()
        old.finish(job, KILLED)
        old.to_end()

        new = replay(old, "g")

        assert new.run("s").due is None
        assert new.to_end().dispatched == ["g", "f"]
        assert new.states() == {"s": "FAILED", "a": "KILLED", "e": "SUCCESS", "g": "SUCCESS", "f": "SUCCESS"}

    def test_given_a_pause_that_nobody_resumed_then_its_errors_go_on_and_it_does_not_pause_again(self) -> None:
        old = Drive(a_flow(Pause(id="w", type="w", timeout="PT1M", tasks=jobs("x"), errors=jobs("e")))).start()
        old.fire()
        old.to_end()

        new = replay(old, "e")

        assert new.states() == {"w": "RUNNING", "e": "RESTARTED"}
        assert new.to_end().states() == {"w": "FAILED", "e": "SUCCESS"}

    def test_given_a_task_of_finally_then_errors_do_not_run_again(self) -> None:
        old = ended(a_flow(*jobs("a"), errors=jobs("e"), finally_=jobs("f", "g")), a=FAILED)

        new = replay(old, "f")

        assert new.to_end().dispatched == ["f", "g"]
        assert new.states() == {"a": "FAILED", "e": "SUCCESS", "f": "SUCCESS", "g": "SUCCESS"}
        assert new.state is FAILED

    def test_given_a_directory_then_its_errors_go_on_and_its_job_stays_over(self) -> None:
        old = Drive(a_flow(a_directory("a", errors=jobs("e", "g")), *jobs("z"))).start()
        worker = Worker(old)
        worker.runs("a", FAILED)
        worker.ends(FAILED)
        old.to_end()

        new = replay(old, "g")
        assert new.states() == {"wd": "RUNNING", "a": "FAILED", "e": "SUCCESS", "g": "RESTARTED"}

        assert new.to_end().dispatched == ["g"]
        assert new.states()["wd"] == "FAILED"
        assert new.state is FAILED

    def test_given_a_directory_that_was_tried_again_then_its_job_is_warned_of_still(self) -> None:
        policy = Retry(max_attempts=2, warning_on_retry=True)
        old = Drive(a_flow(a_directory("a", retry=policy, finally_=jobs("f")))).start()
        worker = Worker(old)
        worker.runs("a", FAILED)
        worker.ends(FAILED)
        old.fire()
        worker = Worker(old)
        worker.runs("a")
        worker.ends()
        old.to_end()
        assert old.states()["wd"] == "WARNING"

        new = replay(old, "f").to_end()

        assert new.states() == {"wd": "WARNING", "a": "SUCCESS", "f": "SUCCESS"}
