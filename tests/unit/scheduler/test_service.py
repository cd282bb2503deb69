from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tercel.errors import ConflictError, NotFoundError, UserError
from tercel.model import State
from tercel.scheduler import Scheduler, backfill_of
from tercel.store import TriggerWindow, run
from tests.flows import Node
from tests.schedulers import NOON, OWNER, Crash, World, refuse_all
from tests.triggers import condition, flow_trigger, on_dates, schedule

KEY = (*OWNER, "schedule")


def at(hour: int, minute: int = 0, day: int = 4) -> str:
    return f"2030-01-{day:02}T{hour:02}:{minute:02}:00Z"


class TestSchedules:
    def test_given_a_new_schedule_then_it_starts_at_its_next_date_and_not_before(self) -> None:
        world = World()
        world.save(schedule(cron="0 * * * *"))

        assert world.step() == NOON + timedelta(hours=1)
        world.after(minutes=59)
        assert world.dates() == []
        world.after(minutes=1)

        assert world.dates() == [at(13)]
        assert world.state().next_at == NOON + timedelta(hours=2)

    def test_given_a_date_then_the_execution_has_all_that_the_trigger_says(self) -> None:
        world = World()
        world.save(
            schedule(
                inputs={"day": "{{ trigger.date | date('dd') }}", "from": "{{ flow.id }}-{{ envs.a }}-{{ vars.v }}"},
                labels={"hour": "{{ trigger.date | date('HH') }}", "broken": "{{ nothing }}"},
            ),
            inputs=[{"id": "day", "type": "INT"}, {"id": "from", "type": "STRING"}],
            variables={"v": "w"},
        )
        world.step()

        world.after(hours=1)

        [execution] = world.running()
        assert execution.inputs == {"day": 4, "from": "owner-b-w"}
        assert execution.labels == {"hour": "13", "system.correlationId": execution.id}
        assert execution.trigger == {
            "id": "schedule",
            "type": "io.kestra.plugin.core.trigger.Schedule",
            "variables": {"date": at(13), "next": at(14), "previous": at(12)},
        }
        assert execution.schedule_date is None
        assert world.state().execution_id == execution.id
        assert ["owner.schedule: The label 'broken' is left out" in warning for warning in world.warnings] == [True]

    def test_given_an_execution_that_runs_then_the_next_one_waits_for_its_end_and_no_date_is_lost(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.after(hours=1)

        world.after(hours=2)
        assert world.dates() == [at(13)]
        assert world.step() is None
        world.end_all()
        world.step()
        assert world.dates() == [at(13), at(14)]
        world.end_all()
        world.step()
        world.end_all()

        assert world.step() == NOON + timedelta(hours=4)
        assert world.dates() == [at(13), at(14), at(15)]
        assert world.state().execution_id is None

    def test_given_several_triggers_then_each_has_its_own_lock(self) -> None:
        world = World()
        world.save(schedule("a"), schedule("b", cron="30 * * * *"))
        world.step()

        world.after(minutes=30)
        world.after(minutes=30)

        assert world.dates("a") == [at(13)]
        assert world.dates("b") == [at(12, 30)]

    def test_given_a_condition_that_does_not_hold_when_due_then_only_the_date_goes_on(self) -> None:
        world = World()
        world.save(schedule(conditions=[condition("Expression", expression="{{ trigger.date | date('H') == '15' }}")]))
        world.step()

        world.run_until(NOON + timedelta(hours=6))

        assert world.dates() == [at(15)]
        assert world.state().next_at == NOON + timedelta(hours=7)

    def test_given_a_condition_that_cannot_be_tested_then_a_failed_execution_shows_it_at_each_date(self) -> None:
        world = World()
        world.save(schedule(conditions=[condition("Expression", expression="{{ nothing }}")]))
        world.step()

        world.run_until(NOON + timedelta(hours=2))

        assert world.dates() == [at(13), at(14)]
        [failed, _] = world.store.rows.values()
        assert failed.state is State.FAILED
        assert failed.message.startswith("The trigger schedule could not start the flow. ")
        assert "nothing" in failed.message
        assert world.state().execution_id is None

    @pytest.mark.parametrize("inputs", [{"n": "{{ nothing }}"}, {"n": "many"}, {}])
    def test_given_inputs_that_do_not_fit_then_a_failed_execution_shows_it(self, inputs: Node) -> None:
        world = World()
        world.save(schedule(inputs=inputs), inputs=[{"id": "n", "type": "INT"}])
        world.step()

        world.after(hours=1)

        assert [execution.state for execution in world.store.rows.values()] == [State.FAILED]
        assert world.state().next_at == NOON + timedelta(hours=2)

    def test_given_a_longest_delay_then_older_dates_are_left_out(self) -> None:
        world = World()
        world.save(schedule(cron="*/10 * * * *", lateMaximumDelay="PT15M"))
        world.step()

        world.after(minutes=47)
        world.end_all()
        world.step()

        assert world.dates() == [at(12, 40)]
        assert world.state().next_at == NOON + timedelta(minutes=50)

    def test_given_dates_then_each_starts_one_execution_planned_for_it(self) -> None:
        world = World()
        world.save(on_dates(at(11), at(13), at(14), inputs={"n": 1}), inputs=[{"id": "n", "type": "INT"}])
        world.step()

        world.run_until(NOON + timedelta(hours=6))

        assert world.dates() == [at(13), at(14)]
        assert [execution.schedule_date for execution in world.store.rows.values()] == [
            NOON + timedelta(hours=1),
            NOON + timedelta(hours=2),
        ]
        assert world.state("dates").next_at is None

    def test_given_dates_that_are_none_then_it_is_told(self) -> None:
        world = World()
        world.save({**on_dates(), "dates": ["{{ nothing }}"]})

        assert world.step() is None
        assert ["owner.dates: The trigger has no next date: " in warning for warning in world.warnings] == [True]

    def test_given_a_zone_then_triggers_that_name_none_are_in_it(self) -> None:
        from zoneinfo import ZoneInfo

        world = World(zone=ZoneInfo("Asia/Tokyo"))
        world.save(schedule(cron="0 9 * * *"))

        assert world.step() == datetime(2030, 1, 5, tzinfo=UTC)


class TestStopAfter:
    def test_given_a_state_to_stop_after_then_the_trigger_is_disabled(self) -> None:
        world = World()
        world.save(schedule(stopAfter=["FAILED"]))
        world.step()
        world.after(hours=1)
        world.end_all()
        world.after(hours=1)
        assert not world.state().disabled

        world.end_all(State.FAILED)

        assert world.step() is None
        assert world.state().disabled
        assert world.state().next_at is None
        world.after(hours=5)
        assert world.dates() == [at(13), at(14)]

    def test_given_an_execution_that_could_not_be_started_then_it_counts_as_failed(self) -> None:
        world = World()
        world.save(schedule(stopAfter=["FAILED"], inputs={"n": "many"}), inputs=[{"id": "n", "type": "INT"}])
        world.step()

        world.after(hours=1)

        assert world.state().disabled

    def test_given_a_trigger_without_dates_then_it_is_disabled_too(self) -> None:
        world = World()
        flow = world.save(flow_trigger(stopAfter=["FAILED"]))
        world.step()
        trigger = {"id": "after", "type": "io.kestra.plugin.core.trigger.Flow", "variables": {}}
        execution = world.starts.prepare(flow, {}, execution_id="e", trigger=trigger)

        world.end(execution, State.FAILED)
        world.step()

        assert world.state("after").disabled
        assert world.flows.is_disabled((*OWNER, "after"))


class TestFlows:
    def test_given_a_flow_that_loses_a_trigger_then_its_state_is_deleted(self) -> None:
        world = World()
        world.save(schedule("a"), schedule("b"))
        world.step()

        world.save(schedule("b"))
        world.step()

        assert list(world.store.states) == [(*OWNER, "b")]

    def test_given_a_flow_that_is_deleted_then_nothing_of_it_is_left(self) -> None:
        world = World()
        world.save(schedule())
        world.step()

        del world.store.revisions[OWNER]
        world.scheduler.forget(*OWNER)

        assert world.after(hours=1) is None
        assert world.store.states == {}
        assert world.dates() == []

    def test_given_a_trigger_that_is_changed_then_it_begins_anew_and_keeps_its_lock(self) -> None:
        world = World()
        world.save(schedule(cron="0 * * * *"))
        world.step()
        world.after(hours=1)
        [execution] = world.running()

        world.save(schedule(cron="30 * * * *"))
        world.after(hours=1)

        assert world.state().execution_id == execution.id
        assert world.state().next_at == NOON + timedelta(hours=1, minutes=30) + timedelta(hours=1)
        assert world.state().revision == 2

    def test_given_a_flow_that_changes_elsewhere_then_its_trigger_goes_on(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.now += timedelta(minutes=30)

        world.save(schedule(), description="new")
        world.step()

        assert world.state().version == 1
        world.after(minutes=30)
        assert [execution.revision for execution in world.running()] == [2]

    @pytest.mark.parametrize("disabled", [{"disabled": True}, {}])
    def test_given_a_flow_or_trigger_that_is_disabled_then_nothing_starts_and_nothing_is_missed(
        self, disabled: Node
    ) -> None:
        trigger = {} if disabled else {"disabled": True}
        world = World()
        world.save(schedule(**trigger), **disabled)
        assert world.step() is None
        world.after(hours=3)
        assert world.dates() == []

        world.save(schedule())
        world.step()

        assert world.state().next_at == NOON + timedelta(hours=4)
        assert world.dates() == []

    def test_given_a_flow_that_cannot_be_read_any_more_then_it_waits(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        broken = world.store.revisions[OWNER]
        world.store.revisions[OWNER] = type(broken)(
            namespace=broken.namespace, id=broken.id, revision=2, source="triggers: [", created_at=NOON
        )

        assert world.after(hours=1) is None
        assert world.dates() == []
        assert list(world.store.states) == [KEY]

    def test_given_other_processes_that_save_and_delete_then_it_is_seen_within_the_poll(self) -> None:
        world = World(poll_s=30.0)
        world.step()
        world.store.put("id: other\nnamespace: a\ntasks: [{id: a, type: io.kestra.plugin.core.debug.Return}]\n")
        world.save(schedule())
        world.step()
        process, flows = world.another()
        world.step(process)
        del world.store.revisions[OWNER]

        world.now += timedelta(seconds=29)
        world.step(process)
        assert list(world.store.states) == [KEY]
        world.now += timedelta(seconds=1)
        world.step(process)

        assert world.store.states == {}
        assert flows.find(OWNER) is None

    def test_given_many_flows_then_only_those_that_changed_are_looked_at_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World()
        for number in range(5):
            world.save(schedule(), id=f"flow{number}")
        world.after(minutes=1)
        taken: list[str] = []
        take = Scheduler._take

        async def taking(self: Scheduler, key: tuple[str, str]) -> bool:
            taken.append(key[1])
            return await take(self, key)

        monkeypatch.setattr(Scheduler, "_take", taking)

        world.after(minutes=1)
        assert taken == []
        other, _ = world.another()
        world.step(other)
        taken.clear()
        world.call(other.set_disabled(OWNER[0], "flow3", "schedule", disabled=True))
        world.after(minutes=1)
        assert taken == ["flow3"]

    def test_given_a_flow_that_could_not_be_taken_then_it_is_at_the_next_look(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World()
        problem = ValueError("not now")

        def fail(*_: object) -> object:
            raise problem

        world.save(schedule())
        with monkeypatch.context() as failing:
            failing.setattr(world.rendering, "variables", fail)
            world.step()
        assert world.errors == [problem]
        assert world.store.states == {}

        world.after(minutes=1)

        assert list(world.store.states) == [KEY]

    def test_given_triggers_of_all_kinds_then_each_has_a_state(self) -> None:
        world = World()
        hook = {"id": "hook", "type": "io.kestra.plugin.core.trigger.Webhook", "key": "k"}
        world.save(schedule(), on_dates(at(13)), flow_trigger(), hook)

        world.step()

        assert {key[2]: state.next_at is not None for key, state in world.store.states.items()} == {
            "schedule": True,
            "dates": True,
            "after": False,
            "hook": False,
        }


class TestRestarts:
    def test_given_a_restart_while_an_execution_runs_then_the_next_one_still_waits(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.after(hours=1)

        world.restart()
        world.after(hours=1)
        assert world.dates() == [at(13)]
        world.end_all()
        world.step()

        assert world.dates() == [at(13), at(14)]

    @pytest.mark.parametrize("gone", [False, True])
    def test_given_an_execution_that_ended_while_nobody_was_there_then_the_next_one_starts(self, gone: bool) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.after(hours=1)
        [execution] = world.running()

        world.end(execution)
        if gone:
            del world.store.rows[execution.id]
        world.restart()
        world.after(hours=1)

        assert world.dates()[-1] == at(14)
        assert world.state().execution_id != execution.id

    def test_given_an_execution_that_ended_elsewhere_then_the_next_one_starts_within_the_poll(self) -> None:
        world = World(poll_s=30.0)
        world.save(schedule(cron="* * * * *"))
        world.step()
        world.after(minutes=1)
        [execution] = world.running()
        process, _ = world.another()
        world.step(process)

        world.end(execution)  # the first process is told
        world.now += timedelta(minutes=1)
        world.step(process)

        assert world.dates() == [at(12, 1), at(12, 2)]

    def test_given_two_schedulers_then_each_date_starts_once(self) -> None:
        world = World()
        world.save(schedule())
        other, _ = world.another()
        world.step()
        world.step(other)

        world.now += timedelta(hours=1)
        world.step(other)
        world.step()

        assert world.dates() == [at(13)]
        assert world.state().version == 2

    def test_given_two_schedulers_at_once_then_the_slower_one_takes_what_the_faster_one_wrote(self) -> None:
        world = World()
        world.save(schedule())
        other, _ = world.another()
        world.step()
        world.step(other)
        world.now += timedelta(hours=1)
        pending = [other]
        commits: list[str] = []

        def overtaken(when: str) -> None:
            commits.append(when)
            if when == "before" and pending:
                run(pending.pop().step())

        world.store.fault = overtaken
        run(world.scheduler.step())

        assert world.dates() == [at(13)]
        assert commits == ["before", "before", "after"]
        assert world.errors == world.warnings == []

    def test_given_a_store_that_fails_then_the_trigger_is_told_of_and_tried_again(self) -> None:
        world = World()
        world.save(schedule(), schedule("other", cron="0 15 * * *"))
        world.step()
        world.store.fault = refuse_all

        world.now += timedelta(hours=1)
        wake_at = world.step()

        assert wake_at == world.now + timedelta(seconds=10)
        assert world.warnings == ["owner.schedule: No execution could be started: The disk is full, before the commit."]
        world.store.fault = lambda when: None
        world.after(seconds=10)
        assert world.dates() == [at(13)]


class TestMissedDates:
    @pytest.mark.parametrize(
        ("given_to", "recovery", "dates", "next_hour"),
        [
            ({}, "ALL", [at(13), at(14), at(15)], 16),
            ({}, "LAST", [at(15)], 16),
            ({}, "NONE", [], 16),
            ({"recoverMissedSchedules": "LAST"}, "ALL", [at(15)], 16),
            ({"recoverMissedSchedules": "ALL"}, "NONE", [at(13), at(14), at(15)], 16),
        ],
    )
    def test_given_a_while_without_scheduler_then_dates_are_made_up_for_as_said(
        self, given_to: Node, recovery: str, dates: list[str], next_hour: int
    ) -> None:
        world = World(recovery=recovery)
        world.save(schedule(**given_to))
        world.step()

        world.restart()
        world.now = NOON.replace(hour=15, minute=30)
        world.run_until(world.now)

        assert world.dates() == dates
        assert world.state().next_at == NOON.replace(hour=next_hour)

    def test_given_a_short_while_then_a_date_is_late_but_not_missed(self) -> None:
        world = World(recovery="NONE")
        world.save(schedule())
        world.step()

        world.restart()
        world.now += timedelta(hours=1, seconds=5)
        world.step()

        assert world.dates() == [at(13)]

    def test_given_conditions_then_the_last_missed_date_is_one_at_which_they_hold(self) -> None:
        world = World(recovery="LAST")
        world.save(schedule(conditions=[condition("TimeBetween", before="14:30:00Z")]))
        world.step()

        world.restart()
        world.now = NOON.replace(hour=18)
        world.run_until(world.now)

        assert world.dates() == [at(14)]

    def test_given_dates_then_they_are_made_up_for_too(self) -> None:
        world = World(recovery="LAST")
        world.save(on_dates(at(13), at(14), at(20)))
        world.step()

        world.restart()
        world.now = NOON.replace(hour=18)
        world.run_until(world.now)

        assert world.dates() == [at(14)]
        assert world.state("dates").next_at == NOON.replace(hour=20)


class TestBackfills:
    START = datetime(2030, 1, 3, 10, tzinfo=UTC)

    def started(self, world: World, **properties: Any) -> None:
        world.call(world.scheduler.start_backfill(*KEY, start=self.START, **properties))

    def a_world(self, **properties: Any) -> World:
        world = World(**properties)
        world.save(
            schedule(inputs={"n": 1}, labels={"from": "trigger"}),
            inputs=[{"id": "n", "type": "INT"}],
        )
        world.step()
        return world

    def test_given_a_backfill_then_each_date_starts_one_after_the_other_and_the_trigger_goes_on(self) -> None:
        world = self.a_world()
        self.started(world, end=self.START + timedelta(hours=2), inputs={"n": 2}, labels={"why": "backfill"})

        world.step()
        assert world.dates() == [at(10, day=3)]
        assert world.step() is None
        world.run_until(NOON + timedelta(hours=1))

        assert world.dates() == [at(10, day=3), at(11, day=3), at(12, day=3), at(13)]
        backfilled, *_, own = world.store.rows.values()
        assert backfilled.inputs == {"n": 2}
        assert backfilled.labels.items() > {"why": "backfill", "from": "trigger"}.items()
        assert own.inputs == {"n": 1}
        assert own.labels.keys() == {"from", "system.correlationId"}
        assert backfill_of(world.state()) is None

    def test_given_no_end_then_the_dates_are_those_up_to_now(self) -> None:
        world = self.a_world()
        self.started(world)

        world.run_until(NOON + timedelta(minutes=1))

        assert len(world.dates()) == 27
        assert world.dates()[-1] == at(12)
        assert world.state().next_at == NOON + timedelta(hours=1)

    def test_given_a_backfill_that_takes_long_then_no_date_of_the_trigger_is_lost_or_doubled(self) -> None:
        world = self.a_world()
        self.started(world, end=NOON + timedelta(days=1))
        world.now += timedelta(hours=2, minutes=30)

        world.run_until(world.now)

        assert world.dates()[-4:] == [at(11), at(12), at(13), at(14)]
        assert len(set(world.dates())) == len(world.dates()) == 29

    def test_given_a_pause_then_the_triggers_own_dates_go_on_meanwhile(self) -> None:
        world = self.a_world()
        self.started(world, end=self.START + timedelta(hours=1))
        world.step()
        world.end_all()

        world.call(world.scheduler.pause_backfill(*KEY, paused=True))
        world.run_until(NOON + timedelta(hours=2))
        assert world.dates() == [at(10, day=3), at(13), at(14)]
        backfill = backfill_of(world.state())
        assert backfill is not None
        assert backfill.paused
        assert backfill.current_date == self.START + timedelta(hours=1)

        world.call(world.scheduler.pause_backfill(*KEY, paused=False))
        world.run_until(NOON + timedelta(hours=3))

        assert world.dates()[3:] == [at(11, day=3), at(15)]

    @pytest.mark.parametrize("paused", [False, True])
    def test_given_a_backfill_that_is_deleted_then_the_trigger_goes_on(self, paused: bool) -> None:
        world = self.a_world()
        self.started(world)
        world.step()
        if paused:
            world.call(world.scheduler.pause_backfill(*KEY, paused=True))

        world.call(world.scheduler.delete_backfill(*KEY))
        world.run_until(NOON + timedelta(hours=1))

        assert world.dates() == [at(10, day=3), at(13)]

    def test_given_a_restart_then_the_backfill_goes_on_where_it_was(self) -> None:
        world = self.a_world(recovery="NONE")
        self.started(world, end=self.START + timedelta(hours=2))
        world.step()

        world.restart()
        world.run_until(NOON + timedelta(minutes=1))

        assert world.dates() == [at(10, day=3), at(11, day=3), at(12, day=3)]

    def test_given_a_changed_trigger_then_the_rest_of_the_backfill_is_of_its_new_dates(self) -> None:
        world = self.a_world()
        self.started(world, end=self.START + timedelta(hours=2))
        world.step()

        world.save(schedule(cron="30 * * * *"), inputs=[{"id": "n", "type": "INT", "defaults": 1}])
        world.run_until(NOON + timedelta(hours=1))

        assert world.dates() == [at(10, day=3), at(11, 30, day=3), at(12, 30)]

    def test_given_a_late_date_then_the_longest_delay_does_not_count(self) -> None:
        world = World()
        world.save(schedule(lateMaximumDelay="PT1M"))
        world.step()
        self.started(world, end=self.START)

        world.step()

        assert world.dates() == [at(10, day=3)]

    def test_given_what_cannot_be_backfilled_then_it_is_refused(self) -> None:
        world = World()
        world.save(schedule(), flow_trigger(), schedule("off", disabled=True))
        world.step()
        start = world.scheduler.start_backfill

        with pytest.raises(UserError, match="goes by no dates"):
            world.call(start(*OWNER, "after", start=self.START))
        with pytest.raises(UserError, match="is disabled"):
            world.call(start(*OWNER, "off", start=self.START))
        with pytest.raises(NotFoundError, match=r"There is no trigger none of a flow company\.team\.owner\."):
            world.call(start(*OWNER, "none", start=self.START))
        with pytest.raises(UserError, match=r"has no date from 2030-01-03T10:00:00\+00:00 to 2030-01-03T09"):
            world.call(start(*KEY, start=self.START, end=self.START - timedelta(hours=1)))
        with pytest.raises(UserError, match=r"The label 'system\.x' is reserved"):
            world.call(start(*KEY, start=self.START, labels={"system.x": "y"}))
        with pytest.raises(UserError, match="has no backfill"):
            world.call(world.scheduler.pause_backfill(*KEY, paused=True))
        with pytest.raises(UserError, match="has no backfill"):
            world.call(world.scheduler.delete_backfill(*KEY))
        self.started(world)
        with pytest.raises(UserError, match="has a backfill already"):
            self.started(world)


class TestPeople:
    def test_given_a_trigger_that_is_disabled_and_enabled_then_it_goes_on_from_there(self) -> None:
        world = World()
        world.save(schedule())
        world.step()

        world.call(world.scheduler.set_disabled(*KEY, disabled=True))
        assert world.after(hours=3) is None
        state = world.call(world.scheduler.set_disabled(*KEY, disabled=False))

        assert state.next_at == NOON + timedelta(hours=4)
        assert world.dates() == []
        assert world.call(world.scheduler.set_disabled(*KEY, disabled=False)).version == state.version

    def test_given_a_trigger_that_people_disabled_then_a_change_of_the_flow_does_not_enable_it(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.call(world.scheduler.set_disabled(*KEY, disabled=True))

        world.save(schedule(cron="30 * * * *"))

        assert world.step() is None
        assert world.state().disabled

    def test_given_a_backfill_then_disabling_holds_it_up_too(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        start = NOON - timedelta(hours=2)
        world.call(world.scheduler.start_backfill(*KEY, start=start))

        world.call(world.scheduler.set_disabled(*KEY, disabled=True))
        assert world.after(hours=3) is None
        world.call(world.scheduler.set_disabled(*KEY, disabled=False))
        world.run_until(world.now)

        assert world.dates() == [at(10), at(11), at(12)]
        assert world.state().next_at == NOON + timedelta(hours=4)

    def test_given_a_lock_then_it_can_be_taken_away(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.after(hours=1)

        world.call(world.scheduler.unlock(*KEY))
        world.after(hours=1)

        assert world.dates() == [at(13), at(14)]
        world.end_all()
        world.step()
        with pytest.raises(UserError, match=r"Trigger is not locked\."):
            world.call(world.scheduler.unlock(*KEY))

    def test_given_a_lock_when_it_is_restarted_then_it_goes_on_from_now(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.after(hours=1)
        world.after(hours=2)

        state = world.call(world.scheduler.restart(*KEY))

        assert state.execution_id is None
        assert world.step() == NOON + timedelta(hours=4)
        assert world.dates() == [at(13)]
        assert world.call(world.scheduler.restart(*KEY)).next_at == NOON + timedelta(hours=4)

    def test_given_a_backfill_when_it_is_restarted_then_the_backfill_goes_on_where_it_was(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.call(world.scheduler.start_backfill(*KEY, start=NOON - timedelta(hours=2)))
        world.step()

        world.call(world.scheduler.restart(*KEY))
        world.run_until(NOON + timedelta(hours=1))

        assert world.dates() == [at(10), at(11), at(12), at(13)]

    def test_given_a_trigger_when_it_is_reset_then_it_is_as_a_new_one(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        world.call(world.scheduler.start_backfill(*KEY, start=NOON - timedelta(hours=2)))
        world.step()
        world.call(world.scheduler.set_disabled(*KEY, disabled=True))
        version = world.state().version

        world.call(world.scheduler.reset(*KEY))

        state = world.state()
        assert (state.disabled, state.execution_id, backfill_of(state)) == (False, None, None)
        assert state.version > version
        assert world.step() == NOON + timedelta(hours=1)
        assert world.dates() == [at(10)]

    def test_given_a_flow_trigger_when_it_is_reset_then_it_has_seen_nothing(self) -> None:
        world = World()
        world.save(flow_trigger("after"))
        world.step()
        window = TriggerWindow(
            namespace=OWNER[0], flow_id=OWNER[1], trigger_id="after", window_id="w", start=NOON, end=NOON
        )
        world.store.saved_windows[window.key] = window

        world.call(world.scheduler.reset(*OWNER, "after"))

        assert world.store.saved_windows == {}

    def test_given_a_flow_that_cannot_be_read_when_its_trigger_is_reset_then_its_state_is_gone(self) -> None:
        world = World()
        world.save(schedule())
        world.step()
        revision = world.store.revisions[OWNER]
        world.store.revisions[OWNER] = replace(revision, revision=2, source="triggers: [")
        world.restart()
        world.step()
        assert KEY in world.store.states

        world.call(world.scheduler.reset(*KEY))

        assert world.store.states == {}
        for verb in (world.scheduler.reset, world.scheduler.restart):
            with pytest.raises(NotFoundError, match="There is no trigger schedule of a flow"):
                world.call(verb(*KEY))

    def test_given_a_flow_that_was_saved_right_before_then_its_trigger_can_be_disabled(self) -> None:
        world = World()
        world.save(schedule())

        world.call(world.scheduler.set_disabled(*KEY, disabled=True))

        assert world.step() is None
        assert world.state().disabled


class TestExactlyOnce:
    @given(
        moves=st.lists(
            st.sampled_from(
                [
                    *("wait", "wait", "end", "crash before", "crash after", "new process", "other"),
                    *("pause", "unpause", "delete", "disable", "enable", "unlock", "restart", "reset"),
                ]
            ),
            max_size=30,
        ),
        minutes=st.lists(st.integers(1, 25), min_size=30, max_size=30),
    )
    def test_given_people_who_do_anything_at_any_time_then_no_date_starts_twice(
        self, moves: list[str], minutes: list[int]
    ) -> None:
        world = World()
        world.save(schedule(cron="*/7 * * * *"))
        world.step()
        other, _ = world.another()
        world.call(world.scheduler.start_backfill(*KEY, start=NOON - timedelta(hours=1)))
        waits = iter(minutes)

        for move in moves:
            match move.split():
                case ["wait"]:
                    _survived(world, world.after, minutes=next(waits))
                case ["end"]:
                    world.end_all()
                case ["crash", when]:
                    world.store.fault = _fault(when, Crash())
                    _survived(world, world.after, minutes=next(waits))
                case ["new", _]:
                    world.restart()
                case ["other"]:
                    _survived(world, lambda: world.step(other))
                case _:
                    with suppress(ConflictError):
                        world.call(_asked(world, move))
            world.store.fault = lambda when: None
            assert len(world.dates()) == len(set(world.dates()))
        world.end_all()
        world.call(world.scheduler.set_disabled(*KEY, disabled=False))
        world.run_until(world.now + timedelta(minutes=10))

        dates = world.dates()
        assert len(dates) == len(set(dates))
        assert world.state().next_at is not None

    @given(
        moves=st.lists(
            st.sampled_from(
                ["wait", "wait", "end", "crash before", "crash after", "fail before", "fail after", "restart", "other"]
            ),
            max_size=30,
        ),
        minutes=st.lists(st.integers(1, 25), min_size=30, max_size=30),
    )
    def test_given_any_crashes_then_every_date_starts_once_and_never_two_at_a_time(
        self, moves: list[str], minutes: list[int]
    ) -> None:
        world = World()
        world.save(schedule(cron="*/7 * * * *"))
        world.step()
        other, _ = world.another()
        waits = iter(minutes)

        for move in moves:
            match move.split():
                case ["wait"]:
                    _survived(world, world.after, minutes=next(waits))
                case ["end"]:
                    world.end_all()
                case ["crash", when]:
                    world.store.fault = _fault(when, Crash())
                    _survived(world, world.after, minutes=next(waits))
                case ["fail", when]:
                    world.store.fault = _fault(when, OSError("The disk is away."))
                    _survived(world, world.after, minutes=next(waits))
                case ["restart"]:
                    world.restart()
                case _:
                    _survived(world, lambda: world.step(other))
            world.store.fault = lambda when: None
            assert len(world.running()) <= 1
        world.now += timedelta(seconds=11)
        world.run_until(world.now)

        expected = list(_dates(NOON, world.now))
        assert world.dates() == expected


def _asked(world: World, verb: str) -> Any:
    scheduler = world.scheduler
    match verb:
        case "pause" | "unpause":
            return scheduler.pause_backfill(*KEY, paused=verb == "pause")
        case "delete":
            return scheduler.delete_backfill(*KEY)
        case "disable" | "enable":
            return scheduler.set_disabled(*KEY, disabled=verb == "disable")
        case "unlock":
            return scheduler.unlock(*KEY)
        case "restart":
            return scheduler.restart(*KEY)
        case _:
            return scheduler.reset(*KEY)


def _fault(when: str, error: BaseException) -> Any:
    def fault(at: str) -> None:
        if at == when:
            raise error

    return fault


def _survived(world: World, step: Any, **arguments: Any) -> None:
    """A step; after a crash there is a new process."""
    try:
        step(**arguments)
    except (Crash, OSError):
        world.restart()


def _dates(start: datetime, end: datetime) -> Iterator[str]:
    date = start
    while date < end:
        date += timedelta(minutes=1)
        if date.minute % 7 == 0 and date <= end:
            yield date.strftime("%Y-%m-%dT%H:%M:%SZ")
