from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from msgspec.structs import replace

from tercel.errors import InvariantError, NotFoundError, StorageError, TercelError
from tercel.inbox import Letter
from tercel.machine import FlowIndex
from tercel.machine.messages import (
    ChildChanged,
    ForceRunRequested,
    KillRequested,
    ResumeRequested,
    StatusChanged,
    TaskRunStarted,
    WorkerLost,
)
from tercel.model import Execution, State, StateChange, TaskRun, WorkerJob, WorkerResult, task_run_id
from tercel.store import Promise, StaleExecutionError, run
from tests.builders import an_execution
from tests.flows import echo, fail, for_each, local_files, sequential
from tests.unit.executor.world import WAIT_S, World, a_new_execution, now, run_inline, until


class TestInlineTasks:
    def test_given_only_inline_tasks_then_the_whole_execution_is_one_transaction(self, world: World) -> None:
        world.add_flow(*[echo(f"t{index}", "x") for index in range(40)])

        ended = world.start().wait(WAIT_S)

        assert ended.state is State.SUCCESS
        assert world.store.commits == 1
        assert run(world.store.executions.get("execution")) == ended
        assert world.runs()["t39"].outputs == {"value": "t39:None"}

    def test_given_inline_work_for_long_then_it_is_committed_in_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 0.0001)
        world = World(tmp_path)
        world.add_flow(for_each("loop", [f"{number}" for number in range(30)], echo("t", "x"), concurrencyLimit=0))

        ended = world.start().wait(WAIT_S)

        assert ended.state is State.SUCCESS
        assert world.store.commits > 3
        world.close()

    def test_given_one_that_fails_then_the_flow_fails(self, world: World) -> None:
        world.add_flow(sequential("s", echo("before", "x"), fail("no"), echo("after", "x")))

        assert world.start().wait(WAIT_S).state is State.FAILED

        assert set(world.runs()) == {"s", "before", "no"}


class TestJobs:
    def test_given_a_task_for_workers_then_a_job_comes_after_the_commit_with_its_variables(self, world: World) -> None:
        world.add_flow(echo("first", "x"), local_files("second"))
        seen: list[dict[str, TaskRun]] = []
        world.dispatcher.consume(
            None, 1, lambda job, lease: (seen.append(world.runs()), world.jobs.append((job, lease))), lambda ref: None
        )

        ended = world.start()
        job = world.job(0)

        assert seen[0]["second"].fence == job.fence == 1
        assert job.task.id == "second"
        assert job.variables["outputs"] == {"first": {"value": "first:None"}}
        assert not ended.is_done
        world.finish(job, outputs={"uris": {}})
        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.runs()["second"].outputs == {"uris": {}}

    def test_given_outputs_that_cannot_be_stored_then_only_their_execution_stops(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.add_flow(local_files("first"))
        world.consume()
        broken, other = world.start("broken"), world.start("other")
        jobs = {job.execution_id: job for job in (world.job(0), world.job(1))}

        with pytest.raises(InvariantError, match="The execution broken holds what cannot be stored: UnicodeEncode"):
            world.finish(jobs["broken"], outputs={"uris": "\ud800"})
        world.finish(jobs["other"], outputs={"uris": {}})

        assert other.wait(WAIT_S).state is State.SUCCESS
        with pytest.raises(InvariantError):
            broken.wait(WAIT_S)
        assert "The execution broken holds" in caplog.text

    def test_given_a_result_with_an_old_fence_then_it_changes_nothing(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        ended = world.start()
        old = world.job(0)
        lost = WorkerLost(now=now(), run_id=old.task_run_id, fence=old.fence)
        world.executor.apply("execution", lost).wait(WAIT_S)

        world.finish(old, "FAILED", message="too late")

        new = world.job(1)
        assert new.fence == 2
        assert not ended.is_done
        world.finish(new)
        assert ended.wait(WAIT_S).state is State.SUCCESS

    def test_given_a_patient_event_then_it_shares_the_commit_of_the_next(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        ended = world.start()
        job = world.job(0)
        before = world.store.commits

        world.executor.post(
            "execution", TaskRunStarted(now=now(), run_id=job.task_run_id, fence=job.fence, worker="worker")
        )
        world.finish(job)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.store.commits == before + 1
        assert [change.state for change in world.runs()["task"].history] == ["CREATED", "RUNNING", "SUCCESS"]
        assert world.runs()["task"].attempts[0].worker == "worker"

    def test_given_a_patient_event_and_no_other_then_it_is_committed_soon(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        world.start()
        job = world.job(0)
        sleep(0.1)  # the executor rests by now

        world.executor.post(
            "execution", TaskRunStarted(now=now(), run_id=job.task_run_id, fence=job.fence, worker="worker")
        )

        until(lambda: world.runs()["task"].state is State.RUNNING)

    def test_given_a_retry_then_its_timer_brings_the_next_job(self, world: World) -> None:
        world.add_flow(local_files("task", retry={"type": "constant", "interval": "PT0.02S", "maxAttempts": 2}))
        world.consume()
        ended = world.start()

        world.finish(world.job(0), "FAILED", message="first")
        world.finish(world.job(1))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.job(1).attempt == 1


class TestKill:
    def test_given_a_queued_job_then_it_is_taken_back_and_the_execution_ends(self, world: World) -> None:
        world.add_flow(local_files("task"))
        ended = world.start()
        until(lambda: world.dispatcher.depth("") == 1)

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED
        assert world.dispatcher.depth("") == 0
        assert world.runs()["task"].state is State.KILLED

    def test_given_inline_tasks_that_wait_then_none_of_them_runs_any_more(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 0.002)
        killed = False
        ran_late: list[str] = []

        def run_slowly(job: WorkerJob) -> WorkerResult:
            nonlocal killed
            if killed:
                ran_late.append(str(job.value))
            else:
                world.executor.apply("execution", KillRequested(now=now()))
                killed = True
                sleep(0.003)  # a commit is due
            return run_inline(job)

        monkeypatch.setattr(world.executor, "_run_inline", run_slowly)
        world.add_flow(for_each("loop", list(range(50)), echo("t", "x"), concurrencyLimit=0))

        assert world.start().wait(WAIT_S).state is State.KILLED
        assert ran_late == []

    def test_given_a_running_job_then_its_worker_is_told_and_its_end_awaited(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        ended = world.start()
        job = world.job(0)

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)
        until(lambda: world.cancelled == [job.task_run_id])
        assert not ended.is_done
        world.finish(job, "KILLED")

        assert ended.wait(WAIT_S).state is State.KILLED


class TestErrors:
    def test_given_no_such_execution_then_whoever_asks_is_told(self, world: World) -> None:
        with pytest.raises(NotFoundError, match=r"There is no execution gone\."):
            world.executor.apply("gone", KillRequested(now=now())).wait(WAIT_S)

    def test_given_an_execution_that_cannot_be_advanced_then_the_others_go_on(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        good = world.executor.ended("good")

        bad = world.executor.create(a_new_execution("bad", "none"))
        world.executor.create(a_new_execution("good"))

        with pytest.raises(NotFoundError, match=r"There is no flow tests\.none with revision 1\."):
            bad.wait(WAIT_S)
        assert good.wait(WAIT_S).state is State.SUCCESS

    def test_given_the_machine_fails_then_that_execution_alone_stays_as_it_was(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.add_flow(local_files("t"))
        world.consume()
        broken, ended = world.start(), world.start("other")
        job = next(job for job, _ in [(world.job(0), 0), (world.job(1), 0)] if job.execution_id == "execution")
        stored = world.runs()
        from tercel.executor import executor as module

        advance = module.advance

        def advance_badly(flow: Any, live: Any, event: Any, *others: Any, **named: Any) -> Any:
            if live.execution.id == "execution":
                raise ZeroDivisionError("our mistake")
            return advance(flow, live, event, *others, **named)

        monkeypatch.setattr(module, "advance", advance_badly)
        with pytest.raises(ZeroDivisionError):
            world.finish(job)
        with pytest.raises(ZeroDivisionError):
            broken.wait(WAIT_S)
        other = next(job for job, _ in world.jobs if job.execution_id == "other")
        world.finish(other)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert world.runs() == stored

    def test_given_a_commit_that_fails_then_all_who_wait_are_told_and_nothing_changed(self, tmp_path: Path) -> None:
        world = World(tmp_path)
        world.add_flow(local_files("task"))
        world.consume()
        ended = world.start()
        job = world.job(0)
        stored = world.runs()
        world.store.failure = StorageError("The disk is full.")

        with pytest.raises(StorageError, match="disk is full"):
            world.finish(job)
        with pytest.raises(StorageError, match="disk is full"):
            ended.wait(WAIT_S)
        with pytest.raises(StorageError, match="disk is full"):
            world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert world.runs() == stored
        world.close()

    def test_given_a_closed_executor_then_whoever_waits_is_told(self, tmp_path: Path) -> None:
        world = World(tmp_path)
        world.add_flow(local_files("task"))
        ended = world.start()

        world.close()

        with pytest.raises(TercelError, match="The engine is closed"):
            ended.wait(WAIT_S)
        with pytest.raises(TercelError, match="The engine is closed"):
            world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

    def test_given_an_executor_that_stops_meanwhile_then_nobody_waits_in_vain(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        world.start().wait(WAIT_S)
        inbox = world.executor._inbox
        put = inbox.put

        def put_too_late(letter: Letter, *, is_urgent: bool = True) -> None:
            world.executor.close()
            put(letter, is_urgent=is_urgent)

        inbox.put = put_too_late  # what a thread does that is interrupted right there

        with pytest.raises(TercelError, match=r"The engine is closed\."):
            world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

    def test_given_expressions_then_the_machine_has_a_clock_to_end_them_by(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tercel.executor import executor as module

        clocks: list[object] = []
        advance = module.advance

        def watched(*given: Any, clock: Any = None) -> Any:
            clocks.append(clock)
            return advance(*given, clock=clock)

        monkeypatch.setattr(module, "advance", watched)
        world.add_flow(echo("t", "x"))
        world.start().wait(WAIT_S)

        assert set(clocks) == {monotonic}


class TestMemory:
    def test_given_more_executions_than_are_kept_then_they_are_read_again(self, tmp_path: Path) -> None:
        world = World(tmp_path, most_live=1)
        world.add_flow(local_files("one"), local_files("two"))
        world.consume()
        ends = [world.start(f"execution-{number}") for number in range(3)]

        for index in range(6):
            world.finish(world.job(index))

        assert [ended.wait(WAIT_S).state for ended in ends] == [State.SUCCESS] * 3
        world.close()


class TestWatchers:
    def test_given_a_watcher_then_it_sees_what_was_committed_until_it_stops(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        seen: list[tuple[str, list[str]]] = []

        def watch(execution: Execution, runs: Sequence[TaskRun]) -> None:
            assert run(world.store.executions.get(execution.id)) == execution
            seen.append((execution.state.value, [each.task_id for each in runs]))

        stop = world.executor.watch(watch)
        world.start().wait(WAIT_S)
        stop()
        stop()
        world.start("second").wait(WAIT_S)

        assert seen == [("SUCCESS", ["t"])]

    def test_given_a_watcher_that_raises_then_the_engine_goes_on_without_it(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        calls: list[str] = []

        def watch(execution: Execution, runs: Sequence[TaskRun]) -> None:
            calls.append(execution.id)
            raise BrokenPipeError

        world.executor.watch(watch)

        assert world.start().wait(WAIT_S).state is State.SUCCESS
        assert world.start("second").wait(WAIT_S).state is State.SUCCESS
        assert calls == ["execution"]


class TestRecovery:
    def test_given_a_dead_process_then_its_jobs_run_again_and_timers_are_set(self, tmp_path: Path) -> None:
        flow = (local_files("task", retry={"type": "constant", "interval": "PT0.02S", "maxAttempts": 3}),)
        dead = World(tmp_path, owner="dead")
        dead.add_flow(*flow)
        dead.consume()
        dead.start("waits")
        dead.finish(dead.job(0), "FAILED", message="first")
        dead.start("runs")
        dead.consume()
        until(lambda: any(job.execution_id == "runs" for job, _ in dead.jobs))
        dead.close()

        heir = World(tmp_path, owner="heir")
        heir.add_flow(*flow)
        heir.consume()
        ends = {name: heir.executor.ended(name) for name in ("waits", "runs")}
        heir.executor.recover(heir.store.executions.adopt(run(heir.store.executions.open_elsewhere())).wait(WAIT_S))
        heir.finish(heir.job(0))
        heir.finish(heir.job(1))

        assert {name: ended.wait(WAIT_S).state for name, ended in ends.items()} == {
            "waits": State.SUCCESS,
            "runs": State.SUCCESS,
        }
        assert {job.execution_id: job.fence for job, _ in heir.jobs} == {"waits": 2, "runs": 2}
        heir.close()

    def test_given_a_child_report_for_a_lost_job_then_it_is_ignored(self, world: World) -> None:
        world.add_flow({"id": "wd", "type": "io.kestra.plugin.core.flow.WorkingDirectory", "tasks": [echo("c", "x")]})
        world.consume()
        world.start()
        old = world.job(0)
        world.executor.apply("execution", WorkerLost(now=now(), run_id=old.task_run_id, fence=old.fence)).wait(WAIT_S)
        child = TaskRun(
            id="other", execution_id="execution", task_id="c", parent_id=old.task_run_id, history=an_execution().history
        )

        event = ChildChanged(now=now(), run_id=old.task_run_id, fence=old.fence, child=child)
        world.executor.apply("execution", event).wait(WAIT_S)

        assert set(world.runs()) == {"wd"}


class TestRestart:
    def test_given_an_execution_that_failed_elsewhere_then_it_goes_on_here_and_belongs_here(
        self, tmp_path: Path
    ) -> None:
        tasks = (local_files("one"), local_files("two"), local_files("three"))
        first = World(tmp_path, owner="first")
        first.add_flow(*tasks)
        first.consume()
        ended = first.start()
        first.finish(first.job(0))
        first.finish(first.job(1), "FAILED")
        assert ended.wait(WAIT_S).state is State.FAILED
        other = World(tmp_path, owner="other")
        other.add_flow(*tasks)
        other.consume()

        ended = other.executor.ended("execution")
        other.restart()
        assert run(first.store.executions.open_elsewhere()) == {"execution": "other"}
        other.finish(other.job(0))
        other.finish(other.job(1))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert [job.task.id for job, _ in other.jobs] == ["two", "three"]
        first.close()
        other.close()

    def test_given_two_processes_that_restart_it_then_the_later_one_is_told_and_runs_nothing(
        self, tmp_path: Path
    ) -> None:
        first, second = World(tmp_path, owner="first"), World(tmp_path, owner="second")
        for world in (first, second):
            world.add_flow(local_files("task", retry={"type": "constant", "interval": "PT0.01S", "maxAttempts": 2}))
            world.consume()
        first.start()
        first.finish(first.job(0), "FAILED", retryable=False)

        first.restart()
        with pytest.raises(StaleExecutionError):
            second.restart()
        first.finish(first.job(1), "FAILED")
        first.finish(first.job(2))

        assert run(second.store.executions.get("execution")).state is State.SUCCESS
        assert second.jobs == []
        first.close()
        second.close()

    def test_given_both_have_read_it_before_one_writes_then_only_one_of_them_goes_on(self, tmp_path: Path) -> None:
        first, second = World(tmp_path, owner="first"), World(tmp_path, owner="second")
        for world in (first, second):
            world.add_flow(local_files("task"))
            world.consume()
        first.start()
        first.finish(first.job(0), "FAILED")
        find_flow = second.executor._find_flow

        async def restarted_meanwhile(*which: Any) -> FlowIndex:
            first.restart()
            return await find_flow(*which)

        second.executor._find_flow = restarted_meanwhile

        with pytest.raises(StaleExecutionError):
            second.restart()

        first.finish(first.job(1))
        assert second.jobs == []
        assert run(second.store.executions.open_elsewhere()) == {}
        first.close()
        second.close()

    def test_given_it_ended_in_this_process_then_whoever_waits_gets_its_new_end(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        assert world.start() is not None
        world.finish(world.job(0), "FAILED")

        world.restart()
        ended = world.executor.ended("execution")
        assert not ended.is_done
        world.finish(world.job(1))

        assert ended.wait(WAIT_S).state is State.SUCCESS

    def test_given_it_cannot_be_restarted_then_whoever_asks_is_told(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        world.start()
        with pytest.raises(StaleExecutionError):
            world.restart()
        world.finish(world.job(0))

        with pytest.raises(StaleExecutionError):
            world.restart()
        with pytest.raises(NotFoundError):
            world.restart("gone")

    def test_given_another_revision_then_it_goes_on_with_that(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        ended = world.start()
        world.finish(world.job(0), "FAILED")
        ended.wait(WAIT_S)
        world.add_flow(local_files("task"), echo("more", "x"))

        world.restart(revision=2)
        ended = world.executor.ended("execution")
        world.finish(world.job(1))

        assert ended.wait(WAIT_S).revision == 2
        assert world.job(1).revision == 2
        assert set(world.runs()) == {"task", "more"}
        assert run(world.store.executions.get("execution")).revision == 2

    def test_given_a_directory_then_its_job_brings_the_children_that_were_kept(self, world: World) -> None:
        tasks = [echo("off", "x") | {"disabled": True}, echo("a", "x"), echo("b", "x"), echo("c", "x")]
        world.add_flow({"id": "wd", "type": "io.kestra.plugin.core.flow.WorkingDirectory", "tasks": tasks})
        world.consume()
        world.start()
        job = world.job(0)
        assert job.children == ()
        for task_id, state in (("b", State.FAILED), ("a", State.SUCCESS)):
            history = (
                StateChange(State.CREATED, now()),
                StateChange(State.RUNNING, now()),
                StateChange(state, now()),
            )
            run_id = task_run_id("execution", job.task_run_id, task_id, None, None)
            child = TaskRun(
                id=run_id, execution_id="execution", task_id=task_id, parent_id=job.task_run_id, history=history
            )
            event = ChildChanged(now=now(), run_id=job.task_run_id, fence=job.fence, child=child)
            world.executor.apply("execution", event).wait(WAIT_S)
        world.finish(job, "FAILED")

        world.restart()

        children = world.job(1).children
        assert [(child.task_id, child.state.value) for child in children] == [("a", "SUCCESS"), ("b", "RESTARTED")]
        assert list(children) == [world.runs()["a"], world.runs()["b"]]


class TestSchedule:
    def a_late(self, world: World, execution_id: str = "execution") -> None:
        late = replace(a_new_execution(execution_id), schedule_date=now() + timedelta(hours=1))
        world.executor.create(late).wait(WAIT_S)

    def test_given_a_date_to_come_then_it_starts_then_and_not_before(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        ended = world.executor.ended("execution")
        self.a_late(world)

        world.pass_time(minutes=59)
        assert world.history() == ["CREATED"]
        world.pass_time(minutes=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS

    def test_given_the_process_dies_meanwhile_then_the_next_one_starts_it(self, tmp_path: Path) -> None:
        dead = World(tmp_path, owner="dead")
        dead.add_flow(echo("t", "x"))
        self.a_late(dead)

        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")
        heir.pass_time(minutes=59)
        assert heir.history() == ["CREATED"]
        heir.pass_time(minutes=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        heir.close()

    def test_given_a_limit_then_it_takes_a_slot_only_when_it_starts(self, world: World) -> None:
        world.add_flow(local_files("task"), concurrency={"limit": 1})
        world.consume()
        self.a_late(world)
        world.start("now")
        until(lambda: world.state("now") == "RUNNING")

        world.pass_time(hours=1)
        until(lambda: world.state() == "QUEUED")
        world.finish(world.job(0))

        assert world.job(1).execution_id == "execution"

    def test_given_it_is_forced_then_it_starts_at_once(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        self.a_late(world)
        ended = world.executor.ended("execution")

        world.do("force_run", "execution")

        assert ended.wait(WAIT_S).state is State.SUCCESS


class TestNewExecution:
    RETRY = {"type": "constant", "interval": "PT1H", "maxAttempts": 3, "behavior": "CREATE_NEW_EXECUTION"}

    def test_given_failures_then_each_is_followed_by_another_execution_until_the_last_try(self, world: World) -> None:
        world.add_flow(local_files("task", retry=self.RETRY))
        world.consume()
        world.start()

        for index in range(3):
            world.finish(world.job(index), "FAILED")
            world.pass_time(hours=1)

        found = sorted(world.of_flow("flow"), key=lambda one: one.attempt_number)
        assert [one.state.value for one in found] == ["RETRIED", "RETRIED", "FAILED"]
        assert [one.attempt_number for one in found] == [1, 2, 3]
        assert [one.parent_id for one in found[1:]] == [found[0].id, found[1].id]
        assert {one.first_created for one in found[1:]} == {found[0].history[0].date}

    def test_given_the_process_dies_before_its_date_then_the_next_one_starts_it(self, tmp_path: Path) -> None:
        dead = World(tmp_path, owner="dead")
        dead.add_flow(local_files("task", retry=self.RETRY))
        dead.consume()
        dead.start()
        dead.finish(dead.job(0), "FAILED")

        heir = dead.heir(tmp_path)
        heir.pass_time(hours=1)

        assert heir.job(0).execution_id != "execution"
        heir.close()

    def test_given_a_kill_of_the_one_that_is_tried_again_then_the_other_is_killed(self, world: World) -> None:
        world.add_flow(local_files("task", retry=self.RETRY))
        world.consume()
        world.start()
        world.finish(world.job(0), "FAILED")
        second = next(one.id for one in world.of_flow("flow") if one.id != "execution")
        ended = world.executor.ended(second)

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert ended.wait(WAIT_S).state is State.KILLED

    def test_given_a_limit_then_the_new_one_needs_a_slot_of_its_own(self, world: World) -> None:
        world.add_flow(local_files("task", retry=self.RETRY), concurrency={"limit": 1})
        world.consume()
        world.start()
        world.finish(world.job(0), "FAILED")
        world.start("other")
        assert world.job(1).execution_id == "other"

        world.pass_time(hours=1)
        second = next(one.id for one in world.of_flow("flow") if one.id not in ("execution", "other"))
        until(lambda: world.state(second) == "QUEUED")
        world.finish(world.job(1))

        assert world.job(2).execution_id == second


class TestMustFit:
    def test_given_an_event_that_changes_nothing_then_whoever_asks_is_told(self, world: World) -> None:
        world.add_flow(local_files("task"))
        world.consume()
        world.start()

        for event in (
            ResumeRequested(now=now()),
            ForceRunRequested(now=now()),
            StatusChanged(now=now(), state=State.FAILED),
        ):
            with pytest.raises(StaleExecutionError):
                world.executor.apply("execution", event).wait(WAIT_S)

    def test_given_a_kill_that_changes_nothing_then_that_is_fine(self, world: World) -> None:
        world.add_flow(echo("t", "x"))
        world.start().wait(WAIT_S)

        world.executor.apply("execution", KillRequested(now=now())).wait(WAIT_S)

        assert world.state() == "SUCCESS"


class TestClosing:
    def test_given_after_tasks_then_whoever_waits_waits_for_them(self, world: World) -> None:
        world.add_flow(echo("t", "x"), afterExecution=[local_files("after")])
        world.consume()
        ended = world.start()
        job = world.job(0)
        assert world.state() == "SUCCESS"
        assert not ended.is_done

        world.finish(job)

        assert ended.wait(WAIT_S).is_closing is False

    def test_given_the_process_dies_meanwhile_then_the_next_one_goes_on(self, tmp_path: Path) -> None:
        dead = World(tmp_path, owner="dead")
        dead.add_flow(echo("t", "x"), afterExecution=[local_files("after"), echo("last", "x")])
        dead.consume()
        dead.start()
        dead.job(0)

        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")
        heir.finish(heir.job(0))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert heir.states() == {"t": "SUCCESS", "after": "SUCCESS", "last": "SUCCESS"}
        heir.close()


class TestWaitsOfTheDead:
    """What a process waited for when it died, the next one waits for."""

    CORE = "io.kestra.plugin.core.flow"

    def heir(
        self, tmp_path: Path, *tasks: Any, before: str = "", **properties: Any
    ) -> tuple[World, Promise[Execution]]:
        dead = World(tmp_path, owner="dead")
        dead.add_flow(*tasks, **properties)
        dead.consume()
        dead.start()
        if before:
            dead.finish(dead.job_of(before), "FAILED")
        heir = dead.heir(tmp_path)
        return heir, heir.executor.ended("execution")

    def test_given_a_pause_for_some_time_then_it_goes_on_after_that(self, tmp_path: Path) -> None:
        heir, ended = self.heir(tmp_path, {"id": "w", "type": f"{self.CORE}.Pause", "delay": "PT1H"})
        until(lambda: heir.executor.is_live("execution"))

        heir.pass_time(hours=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        heir.close()

    def test_given_a_pause_for_a_person_then_it_can_be_resumed(self, tmp_path: Path) -> None:
        heir, ended = self.heir(tmp_path, {"id": "w", "type": f"{self.CORE}.Pause"})

        heir.do("resume", "execution")

        assert ended.wait(WAIT_S).state is State.SUCCESS
        heir.close()

    def test_given_a_loop_between_rounds_then_the_next_one_begins_at_its_time(self, tmp_path: Path) -> None:
        loop = {
            "id": "loop",
            "type": f"{self.CORE}.LoopUntil",
            "condition": "{{ outputs.loop.iterationCount > 1 }}",
            "tasks": [echo("t", "x")],
        }
        heir, ended = self.heir(tmp_path, loop)
        until(lambda: heir.executor.is_live("execution"))

        heir.pass_time(minutes=1)

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert heir.runs()["loop"].outputs == {"iterationCount": 2}
        assert heir.runs()["t"].iteration == 1
        heir.close()

    def test_given_a_retry_that_waits_then_it_begins_at_its_time(self, tmp_path: Path) -> None:
        retry = {"type": "constant", "interval": "PT1H", "maxAttempts": 2}
        heir, ended = self.heir(tmp_path, local_files("task", retry=retry), before="task")
        until(lambda: heir.executor.is_live("execution"))

        heir.pass_time(hours=1)
        heir.finish(heir.job(0))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        heir.close()

    def test_given_an_sla_then_its_time_counts_from_the_start(self, tmp_path: Path) -> None:
        sla = {"id": "soon", "type": "MAX_DURATION", "duration": "PT1H", "behavior": "CANCEL"}
        heir, ended = self.heir(tmp_path, {"id": "w", "type": f"{self.CORE}.Pause"}, sla=[sla])
        until(lambda: heir.executor.is_live("execution"))

        heir.pass_time(hours=1)

        assert ended.wait(WAIT_S).state is State.CANCELLED
        heir.close()

    def test_given_a_pause_by_hand_then_nothing_new_starts_until_it_is_resumed(self, tmp_path: Path) -> None:
        dead = World(tmp_path, owner="dead")
        dead.add_flow(local_files("a"), local_files("b"))
        dead.consume()
        dead.start()
        job = dead.job(0)
        dead.do("pause", "execution")
        dead.finish(job)
        heir = dead.heir(tmp_path)
        ended = heir.executor.ended("execution")
        assert heir.state() == "PAUSED"

        heir.do("resume", "execution")
        heir.finish(heir.job(0))

        assert ended.wait(WAIT_S).state is State.SUCCESS
        assert [job.task.id for job, _ in heir.jobs] == ["b"]
        heir.close()


class TestReplay:
    def test_given_copies_then_they_are_saved_with_the_new_execution_and_its_first_step(self, world: World) -> None:
        world.add_flow(echo("a", "x"), echo("b", "x"))
        world.start().wait(WAIT_S)
        before = world.store.commits

        new = world.do("replay", "execution", task_run_id=world.runs()["b"].id)

        assert world.do("wait", new.id).state is State.SUCCESS
        assert world.store.commits == before + 1
        assert world.states(new.id) == {"a": "SUCCESS", "b": "SUCCESS"}

    def test_given_that_cannot_be_saved_then_there_is_nothing_of_it(self, tmp_path: Path) -> None:
        world = World(tmp_path)
        world.add_flow(echo("a", "x"), local_files("b"))
        world.start()
        world.store.failure = StorageError("The disk is full.")

        with pytest.raises(StorageError, match="disk is full"):
            world.do("replay", "execution", task_run_id=world.runs()["a"].id, new_id="new")

        assert [one.id for one in world.of_flow("flow")] == ["execution"]
        assert world.runs("new") == {}
        world.close()
