"""Polling triggers in a small world: when they are evaluated, what becomes of it, and what a crash leaves."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercel.errors import ConflictError, NotFoundError, StorageError, UserError
from tercel.model import LogEntry, LogLevel, State
from tercel.model.jobs import TriggerResult
from tercel.plugins import http
from tercel.scheduler import evaluation_of, problem_of
from tests.schedulers import NOON, OWNER, Crash, Runner, World
from tests.triggers import a_flow, condition, poll, schedule

KEY = (*OWNER, "poll")
MINUTE = timedelta(minutes=1)


def found(world: World, **variables: object) -> str:
    """The evaluation under way finds something; gives the execution that it starts."""
    job = world.runner.finish(variables=variables or {"x": 1})
    world.step()
    return job.execution_id


def a_line(level: LogLevel, message: str, execution_id: str = "e") -> LogEntry:
    return LogEntry(execution_id=execution_id, date=NOON, level=level, message=message, trigger_id="poll")


def variables_of(world: World) -> list[object]:
    return [cast("Any", execution.trigger)["variables"] for execution in world.store.rows.values()]


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.Trigger, "settles", True)


class TestEvaluations:
    def test_given_a_new_trigger_then_it_is_evaluated_at_once_and_again_after_its_interval(self) -> None:
        world = World()
        world.save(poll(interval="PT5M"))

        assert world.step() is None
        [(job, _)] = world.runner.jobs
        assert (job.key, job.trigger.id, job.memory, job.is_settling) == (KEY, "poll", {}, False)
        assert job.variables["flow"] == {"id": "owner", "namespace": "company.team", "revision": 1}
        assert job.variables["trigger"] == {"id": "poll", "type": "io.kestra.plugin.core.http.Trigger"}
        world.now += MINUTE
        world.runner.finish()

        assert world.step() == NOON + 6 * MINUTE
        assert world.store.rows == {}
        world.after(minutes=4)
        assert world.runner.jobs == []
        world.after(minutes=1)
        assert len(world.runner.jobs) == 1

    def test_given_an_evaluation_under_way_then_the_lock_says_who_works_at_it(self) -> None:
        world = World()
        world.save(poll())
        world.step()

        evaluation = evaluation_of(world.state("poll"))

        assert evaluation is not None
        assert evaluation.owner == "process 1"
        assert evaluation.execution_id == world.runner.jobs[0][0].execution_id
        assert evaluation.started_at == NOON

    def test_given_something_found_then_one_execution_starts_and_the_state_moves_on_with_it(self) -> None:
        world = World()
        world.save(poll(labels={"x": "{{ trigger.x }}"}), labels={"team": "a"})
        world.step()

        execution_id = found(world, x="y")

        [execution] = world.running()
        assert execution.id == execution_id
        assert execution.trigger == {
            "id": "poll",
            "type": "io.kestra.plugin.core.http.Trigger",
            "variables": {"x": "y"},
        }
        assert execution.labels == {"team": "a", "x": "y", "system.correlationId": execution_id}
        state = world.state("poll")
        assert state.execution_id == execution_id
        assert state.next_at == NOON + MINUTE
        assert evaluation_of(state) is None

    def test_given_an_execution_that_runs_then_the_trigger_is_not_evaluated_before_its_end(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)

        world.after(minutes=5)
        assert world.runner.jobs == []
        world.end_all()
        world.step()

        assert len(world.runner.jobs) == 1

    def test_given_a_failure_then_it_is_told_and_the_trigger_is_evaluated_again(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        lines = (a_line(LogLevel.INFO, "asked"), a_line(LogLevel.WARN, "odd"))

        world.runner.finish(problem="Nobody answers.", entries=lines)

        assert world.step() == NOON + MINUTE
        assert world.warnings == ["owner.poll: odd", "owner.poll: The evaluation failed: Nobody answers."]
        assert problem_of(world.state("poll")) == "Nobody answers."
        assert world.store.rows == {}
        world.after(minutes=1)
        world.runner.finish()
        world.step()
        assert problem_of(world.state("poll")) == ""

    def test_given_an_execution_then_what_the_trigger_logged_is_in_its_log(self) -> None:
        world = World()
        world.save(poll())
        world.step()

        world.runner.finish(variables={}, entries=(a_line(LogLevel.DEBUG, "asked"),))
        world.step()

        assert [line.message for line in world.store.lines] == ["asked"]
        assert world.warnings == []

    def test_given_a_memory_then_the_next_evaluation_has_it_unless_one_failed(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        for values in ({"memory": {"seen": [1]}}, {"memory": {"seen": [2]}, "problem": "no"}):
            world.runner.finish(**values)
            world.step()
            world.after(minutes=1)

        assert world.runner.jobs[0][0].memory == {"seen": [1]}

    def test_given_inputs_that_do_not_fit_then_a_failed_execution_shows_it_and_the_thing_counts_as_taken(self) -> None:
        world = World()
        world.save(poll(), inputs=[{"id": "n", "type": "INT"}])
        world.step()

        world.runner.finish(variables={"x": 1}, memory={"seen": 1})

        assert world.step() == NOON + MINUTE
        [execution] = world.store.rows.values()
        assert execution.state is State.FAILED
        assert execution.message.startswith("The trigger poll could not start the flow. ")
        assert world.state("poll").execution_id is None
        assert world.state("poll").detail["memory"] == {"seen": 1}

    def test_given_a_state_to_stop_after_then_the_trigger_is_disabled(self) -> None:
        world = World()
        world.save(poll(stopAfter=["FAILED"]))
        world.step()
        found(world)

        world.end_all(State.FAILED)

        assert world.step() is None
        assert world.state("poll").disabled
        world.after(hours=1)
        assert world.runner.jobs == []

    def test_given_conditions_that_do_not_hold_then_it_is_not_evaluated(self) -> None:
        world = World()
        weekend = condition("DayWeek", dayOfWeek="SATURDAY", date="{{ trigger.date }}")
        world.save(poll(interval="PT1H", conditions=[weekend]))

        assert world.step() == NOON + timedelta(hours=1)
        assert world.runner.jobs == []
        world.now = NOON + timedelta(hours=12)
        world.step()
        assert len(world.runner.jobs) == 1

    def test_given_a_condition_that_cannot_be_tested_then_a_failed_execution_shows_it(self) -> None:
        world = World()
        world.save(poll(conditions=[condition("Expression", expression="{{ nothing }}")]))

        assert world.step() == NOON + MINUTE
        assert [execution.state for execution in world.store.rows.values()] == [State.FAILED]
        assert world.runner.begun == []

    def test_given_more_triggers_than_there_is_room_then_the_others_wait(self) -> None:
        world = World()
        world.runner.most = 2
        world.save(*(poll(f"poll-{number}") for number in range(5)))

        assert world.step() is None
        assert len(world.runner.jobs) == 2
        while world.runner.jobs:
            world.runner.finish()
            world.step()

        assert sorted(job.trigger.id for job in world.runner.begun) == [f"poll-{number}" for number in range(5)]

    def test_given_a_worker_group_that_is_not_served_then_others_evaluate_it(self) -> None:
        world = World()
        world.save(poll(workerGroup={"key": "gpu"}))

        assert world.step() is None
        assert world.runner.jobs == []
        other = Runner(group="gpu")
        world.step(world.another(other)[0])
        assert len(other.jobs) == 1

    def test_given_a_process_that_evaluates_nothing_then_it_leaves_the_trigger_alone(self) -> None:
        world = World()
        world.save(poll(), schedule())

        assert world.step(world.another()[0]) == NOON + timedelta(hours=1)
        assert evaluation_of(world.state("poll")) is None

    @pytest.mark.parametrize("interval", ["PT0S", "-PT1M"])
    def test_given_an_interval_that_is_none_then_the_flow_is_refused(self, interval: str) -> None:
        with pytest.raises(AssertionError, match="not longer than nothing"):
            a_flow(poll(interval=interval))

    def test_given_an_endless_interval_then_it_is_evaluated_once(self) -> None:
        world = World()
        world.save(poll(interval="P3000000D"))
        world.step()
        world.runner.finish()

        assert world.step() == datetime.max.replace(tzinfo=UTC)


class TestPeople:
    def test_given_a_trigger_that_is_disabled_meanwhile_then_the_evaluation_is_ended_and_nothing_of_it_taken(
        self,
    ) -> None:
        world = World()
        world.save(poll())
        world.step()

        world.call(world.scheduler.set_disabled(*KEY, disabled=True))
        world.step()
        job = world.runner.finish(variables={"x": 1}, has_files=True)
        world.step()

        assert world.runner.stopped == [job.execution_id]
        assert world.runner.discarded == [job.execution_id]
        assert world.store.rows == {}
        assert world.after(hours=1) is None
        world.call(world.scheduler.set_disabled(*KEY, disabled=False))
        world.step()
        assert len(world.runner.jobs) == 1

    def test_given_a_flow_that_is_saved_anew_then_the_trigger_begins_again_with_its_memory(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish(memory={"seen": 1})
        world.step()
        world.save(poll())
        assert world.step() == NOON + MINUTE

        world.save(poll(uri="http://127.0.0.1:9/other"))
        world.step()

        [(job, _)] = world.runner.jobs
        assert cast("http.Trigger", job.trigger).uri == "http://127.0.0.1:9/other"
        assert job.memory == {"seen": 1}

    def test_given_a_change_during_an_evaluation_then_the_next_one_waits_for_its_end(self) -> None:
        world = World()
        world.save(poll())
        world.step()

        world.save(poll(uri="http://127.0.0.1:9/other"))
        world.step()

        assert len(world.runner.jobs) == 1
        assert world.runner.stopped == [world.runner.jobs[0][0].execution_id]
        world.runner.finish(problem="stopped")
        world.step()
        [(job, _)] = world.runner.jobs
        assert cast("http.Trigger", job.trigger).uri == "http://127.0.0.1:9/other"
        assert world.warnings == []

    @pytest.mark.parametrize("how", ["removed", "deleted", "disabled"])
    def test_given_a_flow_without_the_trigger_then_nothing_starts(self, how: str) -> None:
        world = World()
        flow = world.save(poll())
        world.step()
        if how == "removed":
            world.save(schedule())
        elif how == "disabled":
            world.save(poll(), disabled=True)
        else:
            del world.store.revisions[flow.namespace, flow.id]
            world.scheduler.forget(flow.namespace, flow.id)
        world.step()

        world.runner.finish(variables={"x": 1})
        world.step()

        assert world.store.rows == {}
        assert len(world.runner.stopped) == 1
        assert world.runner.jobs == []

    def test_given_an_unlock_then_the_trigger_goes_on_beside_its_execution(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)
        world.now += MINUTE

        world.call(world.scheduler.unlock(*KEY))
        world.step()

        assert len(world.runner.jobs) == 1
        assert len(world.running()) == 1
        world.call(world.scheduler.unlock(*KEY))
        with pytest.raises(ConflictError, match="not locked"):
            world.call(world.scheduler.unlock(*KEY))

    def test_given_a_restart_then_the_evaluation_begins_again(self) -> None:
        world = World()
        world.save(poll())
        world.step()

        world.call(world.scheduler.restart(*KEY))
        world.step()
        world.runner.finish(variables={"x": 1})
        world.step()

        assert len(world.runner.begun) == 2
        assert world.store.rows == {}

    def test_given_a_reset_then_the_memory_is_gone(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish(memory={"seen": 1})
        world.step()

        world.call(world.scheduler.reset(*KEY))
        world.step()

        assert world.runner.jobs[0][0].memory == {}

    def test_given_a_backfill_then_it_is_refused(self) -> None:
        world = World()
        world.save(poll())

        with pytest.raises(ConflictError, match="goes by no dates"):
            world.call(world.scheduler.start_backfill(*KEY, start=NOON))

    def test_given_a_trial_then_nothing_is_written_and_the_memory_is_seen(self) -> None:
        world = World()
        world.save(poll(conditions=[condition("DayWeek", dayOfWeek="FRIDAY", date="{{ trigger.date }}")]), schedule())
        world.step()
        world.runner.finish(memory={"seen": 1})
        world.step()
        before = dict(world.store.states)
        world.runner.trial = TriggerResult(variables={"x": 1})

        trial = world.call(world.scheduler.try_out(*KEY))

        assert (trial.is_due, trial.result.variables) == (True, {"x": 1})
        job = world.runner.begun[-1]
        assert (job.is_trial, job.memory) == (True, {"seen": 1})
        assert world.store.states == before
        assert world.store.rows == {}
        with pytest.raises(UserError, match="is no polling trigger"):
            world.call(world.scheduler.try_out(*OWNER, "schedule"))
        with pytest.raises(NotFoundError):
            world.call(world.scheduler.try_out(*OWNER, "none"))


class TestSettling:
    pytestmark = pytest.mark.usefixtures("settling")

    def test_given_an_execution_then_what_was_found_is_settled_while_it_runs(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish(variables={"x": 1}, memory={"taken": ["a"]})
        world.step()

        [(job, _)] = world.runner.jobs
        assert (job.is_settling, job.memory) == (True, {"taken": ["a"]})
        assert len(world.running()) == 1
        world.runner.finish(memory={"taken": []})
        world.step()

        state = world.state("poll")
        assert state.detail["memory"] == {"taken": []}
        assert "settleAt" not in state.detail
        assert state.execution_id is not None
        assert world.runner.jobs == []

    def test_given_a_failure_then_it_is_tried_again_before_the_trigger_is_evaluated(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)
        world.end_all()

        world.runner.finish(problem="Access denied.")

        assert world.step() == NOON + MINUTE
        assert world.warnings == ["owner.poll: What it has found could not be settled: Access denied."]
        world.after(minutes=1)
        assert [job.is_settling for job, _ in world.runner.jobs] == [True]
        world.runner.finish()
        world.step()
        assert [job.is_settling for job, _ in world.runner.jobs] == [False]

    def test_given_a_trigger_that_is_disabled_then_it_is_settled_all_the_same(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)
        world.call(world.scheduler.set_disabled(*KEY, disabled=True))
        world.runner.finish(problem="stopped")

        world.step()

        assert [job.is_settling for job, _ in world.runner.jobs] == [True]
        world.runner.finish()
        assert world.step() is None
        assert world.state("poll").next_at is None

    def test_given_an_execution_that_ends_meanwhile_then_both_count(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)

        world.end_all()
        world.step()
        world.runner.finish(memory={"n": 1})

        assert world.step() == NOON + MINUTE
        assert world.state("poll").execution_id is None
        assert world.state("poll").detail["memory"] == {"n": 1}

    def test_given_a_crash_before_it_is_settled_then_the_next_process_does_it_at_once(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        found(world)
        world.restart()

        world.step()

        [(job, _)] = world.runner.jobs
        assert job.is_settling
        assert len(world.store.rows) == 1


class TestCrashes:
    def test_given_a_process_that_died_at_it_then_another_one_evaluates_again_and_clears_up(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        [(before, _)] = world.runner.jobs
        world.restart()

        world.step()

        [(job, _)] = world.runner.jobs
        assert job.leftover_id == before.execution_id
        assert job.execution_id != before.execution_id
        found(world)
        assert list(world.store.rows) == [job.execution_id]

    def test_given_a_process_that_lives_then_nobody_else_evaluates_the_trigger(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        other = Runner()
        scheduler, _ = world.another(other)

        world.step(scheduler)
        world.now += timedelta(hours=1)
        world.step(scheduler)
        assert other.jobs == []
        world.store.dead.add("process 1")
        world.now += timedelta(hours=1)
        world.step(scheduler)

        assert len(other.jobs) == 1

    def test_given_a_process_that_was_thought_dead_then_only_the_other_ones_result_counts(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        other = Runner()
        scheduler, _ = world.another(other)
        world.store.dead.add("process 1")
        world.step(scheduler)

        late = world.runner.finish(variables={"x": "late"}, has_files=True)
        world.step()
        other.finish(variables={"x": "taken over"})
        world.step(scheduler)

        assert variables_of(world) == [{"x": "taken over"}]
        assert world.runner.discarded == [late.execution_id]

    def test_given_another_scheduler_that_locks_first_then_this_one_does_not_evaluate(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish()
        world.step()
        other = Runner()
        scheduler, _ = world.another(other)
        world.step(scheduler)
        world.now += MINUTE
        world.step(scheduler)

        world.step()

        assert len(other.jobs) == 1
        assert world.runner.jobs == []

    def test_given_an_evaluation_that_was_lost_here_then_it_is_begun_again(self) -> None:
        world = World()
        world.save(poll())

        def crash(when: str) -> None:
            if when == "after" and evaluation_of(world.state("poll")) is not None:
                raise StorageError("The connection is lost.")

        world.store.fault = crash
        with pytest.raises(StorageError):
            world.step()
        world.store.fault = lambda when: None
        assert world.runner.jobs == []
        world.after(minutes=1)

        assert len(world.runner.jobs) == 1

    def test_given_a_store_that_is_away_then_the_result_waits_for_it(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish(variables={"x": 1})

        def refuse(when: str) -> None:
            raise StorageError("The database is away.")

        world.store.fault = refuse
        assert world.step() == NOON + timedelta(seconds=10)
        assert len(world.errors) == 1
        world.store.fault = lambda when: None
        world.after(seconds=10)

        assert variables_of(world) == [{"x": 1}]

    def test_given_a_result_that_was_written_though_it_did_not_seem_so_then_its_files_stay(self) -> None:
        world = World()
        world.save(poll())
        world.step()
        world.runner.finish(variables={"x": 1}, has_files=True)

        def fail_after(when: str) -> None:
            if when == "after":
                raise StorageError("The connection is lost.")

        world.store.fault = fail_after
        world.step()
        world.store.fault = lambda when: None
        world.after(minutes=1)

        assert variables_of(world) == [{"x": 1}]
        assert world.runner.discarded == []

    def test_given_a_result_that_cannot_be_written_then_it_counts_as_failed_and_others_go_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World()
        world.save(poll("a"), poll("b"))
        world.step()
        prepare = world.starts.prepare

        def broken(*arguments: Any, trigger: Any, **named: Any) -> Any:
            if trigger["id"] == "a":
                raise TypeError("odd")
            return prepare(*arguments, trigger=trigger, **named)

        monkeypatch.setattr(world.starts, "prepare", broken)
        first = world.runner.finish(variables={"x": 1}, has_files=True)
        world.runner.finish(variables={"x": 2})

        world.step()

        assert variables_of(world) == [{"x": 2}]
        assert world.warnings == ["owner.a: The evaluation failed: odd"]
        assert world.runner.discarded == [first.execution_id]
        assert world.state("a").next_at == NOON + MINUTE


@dataclasses.dataclass
class Outside:
    """Things that appear, and whatever the executions of a trigger were given of them."""

    there: list[int] = dataclasses.field(default_factory=list)
    number: int = 0

    def appear(self) -> None:
        self.number += 1
        self.there.append(self.number)


def evaluate(world: World, outside: Outside) -> None:
    """What a trigger does that takes one new thing at a time and then removes it outside."""
    job, done = world.runner.jobs.pop(0)
    memory = dict(job.memory)
    taken = cast("int", memory.get("taken", 0))
    if job.is_settling:
        outside.there = [one for one in outside.there if one > taken]
        done(TriggerResult(memory=memory))
        return
    new = [one for one in outside.there if one > taken]
    if not new:
        done(TriggerResult(memory=memory))
        return
    done(TriggerResult(variables={"thing": new[0]}, memory={"taken": new[0]}))


MOVES = st.sampled_from(["appear", "step", "evaluate", "end", "minute", "crash", "crash at commit", "toggle", "edit"])


@pytest.mark.usefixtures("settling")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # it is the same for all examples
@given(moves=st.lists(MOVES, max_size=40), chance=st.randoms(use_true_random=False))
def test_given_any_crashes_then_each_thing_starts_exactly_one_execution(moves: list[str], chance: Random) -> None:
    world, outside = World(), Outside()
    world.save(poll())
    for move in moves:
        _move(world, outside, move, chance)
        assert len(world.running()) <= 1
    world.call(world.scheduler.set_disabled(*KEY, disabled=False))
    for _ in range(4 * outside.number + 4):
        for move in ("minute", "evaluate", "step", "evaluate", "step", "end"):
            _move(world, outside, move, chance)

    given = [cast("Any", variables)["thing"] for variables in variables_of(world)]
    assert given == list(range(1, outside.number + 1))
    assert outside.there == []


def _move(world: World, outside: Outside, move: str, chance: Random) -> None:
    match move:
        case "appear":
            outside.appear()
        case "evaluate":
            if world.runner.jobs:
                evaluate(world, outside)
        case "end":
            world.end_all()
        case "minute":
            world.after(minutes=1)
        case "crash":
            world.restart()
        case "crash at commit":
            _crash_at_a_commit(world, chance.choice(["before", "after"]), chance.randint(1, 3))
        case "toggle":
            state = world.store.states.get(KEY)
            if state is not None:
                world.call(world.scheduler.set_disabled(*KEY, disabled=not state.disabled))
        case "edit":
            world.save(poll(uri=f"http://127.0.0.1:9/{chance.random()}"))
        case _:
            world.step()


def _crash_at_a_commit(world: World, moment: str, number: int) -> None:
    left = [number]

    def crash(when: str) -> None:
        left[0] -= when == moment
        if left[0] == 0:
            raise Crash

    world.store.fault = crash
    with suppress(Crash):
        world.step()
    world.store.fault = lambda when: None
    world.restart()
