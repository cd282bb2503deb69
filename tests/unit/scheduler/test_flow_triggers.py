from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tercel.model import Execution, State
from tercel.scheduler import PendingWindows, Reactions
from tests.builders import a_history, a_task_run, an_execution
from tests.flows import Node
from tests.schedulers import NOON, OWNER, World
from tests.triggers import condition, flow_trigger

KEY = (*OWNER, "after")
HOUR = timedelta(hours=1)


class Following:
    """A flow with a flow trigger, and executions of other flows that end."""

    def __init__(self, *triggers: Node, **properties: Any) -> None:
        self.world = World()
        self.world.save(*triggers, **properties)
        self.triggers = self.world.flow_triggers()
        self.count = 0

    def react(
        self, execution: Execution, since: int = 0, pending: PendingWindows | None = None, **more: Any
    ) -> Reactions:
        """What follows, written as the executor does unless a batch is under way."""
        found = self.world.call(
            self.triggers.reactions(execution, since=since, pending={} if pending is None else pending, **more)
        )
        if pending is None:
            self.write(found)
        return found

    def write(self, reactions: Reactions) -> None:
        async def write() -> None:
            async with self.world.store.transaction() as tx:
                reactions.write(self.world.store, tx)  # type: ignore[arg-type]

        self.world.call(write())

    def end(self, flow_id: str, state: str = "SUCCESS", at: datetime = NOON, **properties: Any) -> list[Execution]:
        """What follows from the end of an execution of another flow."""
        self.count += 1
        history = a_history("CREATED", "RUNNING", state, start=at, step_s=0.0)
        values: dict[str, Any] = {"id": f"e{self.count}", "namespace": "company.team", "flow_id": flow_id}
        return list(self.react(an_execution(**(values | {"history": history} | properties)), since=2).executions)

    def windows(self) -> dict[str, list[str]]:
        return {window.window_id: sorted(window.results) for window in self.world.store.saved_windows.values()}


class TestReactions:
    def test_given_an_execution_that_ends_then_one_starts_that_knows_of_it(self) -> None:
        following = Following(
            flow_trigger(
                inputs={"n": "{{ trigger.outputs.count }}", "text": "{{ trigger.flowId }} {{ vars.v }}"},
                labels={"from": "{{ trigger.executionId }}", "broken": "{{ nothing }}"},
            ),
            inputs=[{"id": "n", "type": "INT"}, {"id": "text", "type": "STRING"}],
            labels={"team": "a"},
            variables={"v": "w"},
        )

        [started] = following.end("upstream", id="first", outputs={"count": 3}, revision=7)

        assert (started.namespace, started.flow_id, started.state) == (*OWNER, State.CREATED)
        assert started.inputs == {"n": 3, "text": "upstream w"}
        assert started.labels == {"team": "a", "from": "first", "system.correlationId": started.id}
        assert started.trigger == {
            "id": "after",
            "type": "io.kestra.plugin.core.trigger.Flow",
            "variables": {
                "executionId": "first",
                "namespace": "company.team",
                "flowId": "upstream",
                "flowRevision": 7,
                "state": "SUCCESS",
                "outputs": {"count": 3},
            },
        }
        assert ["The label 'broken' is left out" in warning for warning in following.world.warnings] == [True]

    def test_given_the_same_change_again_then_the_execution_has_the_same_id(self) -> None:
        execution = an_execution("CREATED", "RUNNING", "SUCCESS", flow_id="upstream")
        [first] = Following(flow_trigger()).react(execution).executions
        [again] = Following(flow_trigger()).react(execution).executions

        assert first.id == again.id

    def test_given_an_execution_of_its_own_flow_then_nothing_starts(self) -> None:
        following = Following(flow_trigger())

        assert following.end(OWNER[1]) == []
        assert len(following.end(OWNER[1], namespace="other")) == 1

    @pytest.mark.parametrize("off", [{"disabled": True}, {}])
    def test_given_a_flow_or_trigger_that_is_disabled_then_nothing_starts(self, off: Node) -> None:
        following = Following(flow_trigger(**({} if off else {"disabled": True})), **off)

        assert following.end("upstream") == []

    def test_given_a_trigger_that_somebody_disabled_then_nothing_starts_until_it_is_enabled(self) -> None:
        following = Following(flow_trigger())
        scheduler = following.world.scheduler

        following.world.call(scheduler.set_disabled(*KEY, disabled=True))
        assert following.end("upstream") == []
        following.world.restart()
        following.triggers = following.world.flow_triggers()
        assert following.end("upstream") == []
        following.world.call(following.world.scheduler.set_disabled(*KEY, disabled=False))

        assert len(following.end("upstream")) == 1

    def test_given_a_flow_without_such_triggers_then_nothing_else_is_looked_at(self) -> None:
        following = Following({"id": "s", "type": "io.kestra.plugin.core.trigger.Schedule", "cron": "@daily"})
        following.end("upstream")
        following.world.store.triggers = None  # type: ignore[assignment]

        def never() -> Any:
            raise AssertionError

        assert following.react(an_execution("SUCCESS"), pending={}, variables=never) == Reactions()

    def test_given_several_flows_then_each_reacts(self) -> None:
        following = Following(flow_trigger())
        following.world.save(flow_trigger(), id="second")

        assert [execution.flow_id for execution in following.end("upstream")] == ["owner", "second"]

    @pytest.mark.parametrize(
        ("states", "since", "started"),
        [
            ([], 0, ["SUCCESS"]),
            (["CREATED", "RUNNING"], 0, ["CREATED", "RUNNING"]),
            (["CREATED", "RUNNING"], 1, ["RUNNING"]),
            (["RUNNING", "SUCCESS"], 2, ["SUCCESS"]),
            (["FAILED"], 0, []),
            ([], 3, []),
        ],
    )
    def test_given_states_then_each_change_that_was_not_reacted_to_counts(
        self, states: list[str], since: int, started: list[str]
    ) -> None:
        following = Following(flow_trigger(states=states))
        execution = an_execution("CREATED", "RUNNING", "SUCCESS", flow_id="upstream", outputs={"a": 1})

        found = following.react(execution, since)

        variables: list[Any] = [one.trigger["variables"] for one in found.executions if one.trigger is not None]
        assert [one["state"] for one in variables] == started
        assert [bool(one["outputs"]) for one in variables] == [state == "SUCCESS" for state in started]
        assert len({one.id for one in found.executions}) == len(started)

    def test_given_conditions_then_all_have_to_hold(self) -> None:
        following = Following(
            flow_trigger(
                conditions=[
                    condition("ExecutionFlow", namespace="company.team", flowId="upstream"),
                    condition("ExecutionStatus", **{"in": ["FAILED"]}),
                    condition("Expression", expression="{{ flow.id == 'owner' and outputs.a.value == 1 }}"),
                    condition("ExecutionOutputs", expression="{{ trigger.outputs.x == 'y' }}"),
                    condition("FlowCondition", namespace="company.team", flowId="owner"),
                ]
            )
        )

        def reacts(state: str, flow_id: str = "upstream", value: int = 1) -> bool:
            execution = an_execution("CREATED", state, namespace="company.team", flow_id=flow_id, outputs={"x": "y"})
            seen = {"flow": {"id": flow_id}, "outputs": {"a": {"value": value}}}
            return bool(following.react(execution, variables=lambda: seen).executions)

        assert reacts("FAILED")
        assert not reacts("SUCCESS")
        assert not reacts("FAILED", "other")
        assert not reacts("FAILED", value=2)

    def test_given_task_runs_then_conditions_see_them(self) -> None:
        following = Following(flow_trigger(conditions=[condition("HasRetryAttempt", **{"in": ["FAILED"]})]))
        execution = an_execution("CREATED", "SUCCESS", flow_id="upstream")

        assert following.react(execution, runs=lambda: [a_task_run()]).executions == []

    def test_given_a_condition_that_cannot_be_tested_then_it_does_not_hold_and_that_is_told(self) -> None:
        following = Following(flow_trigger(conditions=[condition("Expression", expression="{{ nothing }}")]))

        assert following.end("upstream") == []
        assert following.world.warnings[0].startswith("owner.after: A condition counts as not met: ")

    @pytest.mark.parametrize("inputs", [{"n": "{{ trigger.outputs.none }}"}, {"n": "many"}, {}])
    def test_given_inputs_that_do_not_fit_then_nothing_starts_and_that_is_told(self, inputs: Node) -> None:
        following = Following(flow_trigger(inputs=inputs), inputs=[{"id": "n", "type": "INT"}])

        assert following.end("upstream") == []
        assert following.world.warnings[0].startswith("owner.after: No execution is started after e1: ")


def both(**properties: Any) -> Node:
    flows = [{"namespace": "company.team", "flowId": name, "states": ["SUCCESS"]} for name in ("a", "b")]
    return flow_trigger(preconditions={"id": "both", "flows": flows, **properties})


class TestWindows:
    def test_given_preconditions_then_all_have_to_happen_before_an_execution_starts(self) -> None:
        following = Following(both())

        assert following.end("a") == []
        assert following.windows() == {"both": ["flows[0]"]}
        assert following.end("a") == []
        assert following.end("b", "FAILED") == []
        assert following.end("c") == []
        assert len(following.end("b")) == 1
        assert following.windows() == {}
        assert following.end("b") == []
        assert following.windows() == {"both": ["flows[1]"]}

    def test_given_no_reset_then_each_later_match_starts_another_one_while_the_window_lasts(self) -> None:
        following = Following(both(resetOnSuccess=False))

        following.end("a")
        assert len(following.end("b")) == 1
        assert len(following.end("a")) == 1
        assert following.end("c") == []
        assert following.windows() == {"both": ["flows[0]", "flows[1]"]}
        assert following.end("a", at=NOON + 24 * HOUR) == []
        assert following.windows() == {"both": ["flows[0]"]}

    @pytest.mark.parametrize(
        ("window", "first", "second", "starts"),
        [
            ({}, NOON, NOON + 11 * HOUR, True),
            ({}, NOON, NOON + 12 * HOUR, False),
            ({"window": "PT6H"}, NOON, NOON + 5 * HOUR, True),
            ({"window": "PT6H"}, NOON, NOON + 6 * HOUR, False),
            ({"window": "PT6H", "windowAdvance": "PT1H"}, NOON, NOON + HOUR, False),
            ({"type": "SLIDING_WINDOW", "window": "PT2H"}, NOON + 11 * HOUR, NOON + 12 * HOUR, True),
            ({"type": "SLIDING_WINDOW", "window": "PT2H"}, NOON, NOON + 2 * HOUR, False),
            ({"type": "DAILY_TIME_DEADLINE", "deadline": "14:00:00"}, NOON, NOON + HOUR, True),
            ({"type": "DAILY_TIME_DEADLINE", "deadline": "14:00:00"}, NOON, NOON + 2 * HOUR, False),
            ({"type": "DAILY_TIME_DEADLINE", "deadline": "10:00:00"}, NOON, NOON + HOUR, False),
            ({"type": "DAILY_TIME_WINDOW", "startTime": "11:00:00", "endTime": "14:00:00"}, NOON, NOON + HOUR, True),
            ({"type": "DAILY_TIME_WINDOW", "startTime": "12:30:00", "endTime": "14:00:00"}, NOON, NOON + HOUR, False),
        ],
    )
    def test_given_a_time_window_then_all_has_to_happen_inside_of_it(
        self, window: Node, first: datetime, second: datetime, starts: bool
    ) -> None:
        following = Following(both(timeWindow=window))

        assert following.end("a", at=first) == []

        assert bool(following.end("b", at=second)) is starts

    def test_given_a_deadline_then_what_happens_later_leaves_nothing(self) -> None:
        following = Following(both(timeWindow={"type": "DAILY_TIME_DEADLINE", "deadline": "10:00:00"}))

        following.end("a")

        assert following.windows() == {}

    def test_given_one_batch_then_what_it_has_seen_counts_before_it_is_committed(self) -> None:
        following = Following(both())
        pending: PendingWindows = {}

        def end(flow_id: str) -> Reactions:
            execution = an_execution("CREATED", "SUCCESS", id=flow_id, namespace="company.team", flow_id=flow_id)
            return following.react(execution, pending=pending)

        first, second = end("a"), end("b")
        assert len(second.executions) == 1
        following.write(first)
        following.write(second)
        assert following.windows() == {}
        assert end("b").executions == []

    def test_given_conditions_beside_then_only_executions_for_which_they_hold_count(self) -> None:
        trigger = both()
        trigger["conditions"] = [condition("ExecutionLabels", labels={"team": "x"})]
        following = Following(trigger)

        assert following.end("a") == []
        assert following.end("b", labels={"team": "x"}) == []
        assert len(following.end("a", labels={"team": "x"})) == 1

    def test_given_tests_then_each_has_to_hold_for_some_execution(self) -> None:
        where = [
            {"id": "bad", "filters": [{"field": "STATE", "type": "IN", "values": ["FAILED", "KILLED"]}]},
            {"id": "team", "filters": [{"field": "NAMESPACE", "type": "STARTS_WITH", "value": "other"}]},
        ]
        following = Following(flow_trigger(preconditions={"id": "p", "where": where}))

        assert following.end("a", "FAILED") == []
        assert following.windows() == {"p": ["where.bad"]}
        assert len(following.end("a", namespace="other.team")) == 1

    def test_given_the_older_form_then_it_is_the_same(self) -> None:
        following = Following(
            flow_trigger(
                conditions=[
                    condition(
                        "MultipleCondition",
                        id="multiple",
                        window="PT6H",
                        conditions={
                            name: condition("ExecutionFlow", namespace="company.team", flowId=name)
                            for name in ("a", "b")
                        },
                    )
                ]
            )
        )

        assert following.end("a") == []
        assert following.windows() == {"multiple": ["a"]}
        assert following.end("b", at=NOON + 6 * HOUR) == []
        assert len(following.end("a", at=NOON + 7 * HOUR)) == 1

    def test_given_a_rule_that_cannot_be_tested_then_it_is_not_met(self) -> None:
        where = [{"id": "w", "filters": [{"field": "EXPRESSION", "type": "IS_TRUE", "value": "{{ nothing }}"}]}]
        following = Following(flow_trigger(preconditions={"id": "p", "where": where}))

        assert following.end("a") == []
        assert len(following.world.warnings) == 1

    def test_given_a_change_of_the_trigger_then_what_was_seen_is_forgotten(self) -> None:
        following = Following(both())
        following.world.step()
        following.end("a")

        following.world.save(both(resetOnSuccess=False))
        following.world.step()

        assert following.windows() == {}

    def test_given_inputs_that_do_not_fit_then_all_has_to_happen_anew(self) -> None:
        trigger = both()
        trigger["inputs"] = {"n": "many"}
        following = Following(trigger, inputs=[{"id": "n", "type": "INT"}])

        following.end("a")
        assert following.end("b") == []

        assert following.windows() == {}

    def test_given_a_zone_then_midnight_is_there(self) -> None:
        from zoneinfo import ZoneInfo

        following = Following(both())
        following.world.zone = ZoneInfo("Asia/Tokyo")
        following.triggers = following.world.flow_triggers()

        following.end("a")

        [window] = following.world.store.saved_windows.values()
        assert window.start == datetime(2030, 1, 4, 15, tzinfo=UTC) - 24 * HOUR
        assert window.end == datetime(2030, 1, 4, 15, tzinfo=UTC)
