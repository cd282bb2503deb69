"""The flow language, sections 20 and 21 of its specification: triggers and conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from tercel.model import Attempt, State
from tercel.model.condition import Condition
from tercel.plugins.triggers import Webhook
from tests.builders import a_history, a_task_run, an_execution
from tests.desks import Desk, a_flow, value
from tests.flows import Node
from tests.homes import Home, until
from tests.schedulers import World
from tests.servers import Answer, http_server
from tests.triggers import a_condition_context, a_trigger, condition, flow_trigger, on_dates, poll, schedule

FAILS = "tasks: [{id: a, type: io.kestra.plugin.core.execution.Fail}]"
WORKS = "tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: x}]"
FAILED = Attempt(history=a_history("CREATED", "RUNNING", "FAILED"))
FRIDAY = datetime(2030, 1, 4, 12, tzinfo=UTC)


def a_follower(trigger: str, body: str = WORKS, id: str = "follower") -> str:
    """A flow with one flow trigger."""
    return a_flow(f"triggers: [{{id: after, type: io.kestra.plugin.core.trigger.Flow, {trigger}}}]\n{body}", id=id)


def followers(desk: Desk, flow_id: str = "follower") -> int:
    return len(desk.executions(flow_id))


class TestSection20Triggers:
    def test_a_schedule_starts_executions_that_know_their_dates(self, desk: Desk) -> None:
        desk.save(
            a_flow(
                """
                labels: {team: a}
                inputs: [{id: at, type: DATETIME}]
                triggers:
                  - id: each
                    type: io.kestra.plugin.core.trigger.Schedule
                    cron: "* * * * * *"
                    withSeconds: true
                    timezone: UTC
                    labels: {by: "{{ trigger.id }}"}
                    inputs: {at: "{{ trigger.date }}"}
                tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ trigger.previous }}"}]
                """
            )
        )

        desk.home.engine.schedule()

        until(lambda: followers(desk, "main") > 0)
        ran = desk.wait(desk.executions("main")[0].id)
        seen = cast("dict[str, Any]", ran.execution.trigger)
        date = datetime.fromisoformat(seen["variables"]["date"])
        assert (seen["id"], ran.execution.inputs["at"]) == ("each", f"{date:%Y-%m-%dT%H:%M:%SZ}")
        assert datetime.fromisoformat(str(value(ran, "a"))) == date - timedelta(seconds=1)
        assert {name: ran.execution.labels[name] for name in ("team", "by")} == {"team": "a", "by": "each"}
        assert ran.execution.schedule_date is None

    def test_executions_of_a_trigger_never_overlap_and_no_date_is_lost(self) -> None:
        world = World()
        world.save(schedule(cron="0 * * * *"))
        world.step()

        world.after(hours=3, minutes=1)
        first = len(world.store.rows)
        world.end_all()
        world.run_until(world.now)

        assert first == 1
        assert [date[11:13] for date in world.dates()] == ["13", "14", "15"]

    @pytest.mark.parametrize(("recovery", "hours"), [("ALL", ["13", "14", "15"]), ("LAST", ["15"]), ("NONE", [])])
    def test_dates_that_were_missed_are_made_up_for_as_asked(self, recovery: str, hours: list[str]) -> None:
        world = World()
        world.save(schedule(cron="0 * * * *", recoverMissedSchedules=recovery))
        world.step()
        world.now += timedelta(hours=3, minutes=1)
        world.restart()

        world.run_until(world.now)

        assert [date[11:13] for date in world.dates()] == hours

    def test_given_dates_start_one_execution_each_that_was_planned_for_it(self) -> None:
        world = World()
        world.save(on_dates("2030-01-05T12:00:00Z", "2030-01-06T12:00:00Z"))

        world.run_until(FRIDAY + timedelta(days=7))

        planned = [execution.schedule_date for execution in world.store.rows.values()]
        assert planned == [FRIDAY + timedelta(days=1), FRIDAY + timedelta(days=2)]

    def test_a_trigger_may_stop_after_a_state(self) -> None:
        world = World()
        world.save(schedule(stopAfter=["FAILED"]))
        world.step()
        world.after(hours=1)

        world.end_all(State.FAILED)
        world.after(hours=5)

        assert world.state().disabled
        assert len(world.dates()) == 1

    def test_a_new_polling_trigger_is_evaluated_at_once_and_not_while_its_execution_runs(self) -> None:
        world = World()
        world.save(poll(interval="PT1M"))
        world.step()

        world.runner.finish(variables={"code": 200})
        world.step()
        world.after(minutes=5)
        before = len(world.runner.begun)
        world.end_all()
        world.step()

        assert (before, len(world.runner.begun)) == (1, 2)

    def test_a_polling_trigger_that_fails_is_told_of_and_asked_again_after_its_interval(self) -> None:
        world = World()
        world.save(poll(interval="PT1M"))
        world.step()

        world.runner.finish(problem="Connection refused.")

        assert world.step() == FRIDAY + timedelta(minutes=1)
        assert world.warnings == ["owner.poll: The evaluation failed: Connection refused."]
        assert world.store.rows == {}

    @pytest.mark.parametrize("package", ["core", "fs"])
    def test_an_http_trigger_gives_what_a_request_gives(self, desk: Desk, package: str) -> None:
        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            return (200 if path == "/up" else 500), {"X-A": "b"}, body

        with http_server(answer) as address:
            desk.save(
                a_flow(
                    f"""
                    triggers:
                      - id: up
                        type: io.kestra.plugin.{package}.http.Trigger
                        uri: "{address}/{{{{ 'up' }}}}"
                        method: POST
                        body: hello
                        interval: PT1H
                      - id: down
                        type: io.kestra.plugin.{package}.http.Trigger
                        uri: "{address}/down"
                    tasks: [{{id: a, type: io.kestra.plugin.core.debug.Return, format: "{{{{ trigger.body }}}}"}}]
                    """
                )
            )
            desk.home.engine.schedule()
            until(lambda: followers(desk, "main") > 0)

        ran = desk.wait(desk.executions("main")[0].id)
        seen = cast("dict[str, Any]", ran.execution.trigger)
        assert value(ran, "a") == "hello"
        assert seen["id"] == "up"
        assert seen["variables"].keys() == {"uri", "code", "headers", "body"}
        assert (seen["variables"]["code"], seen["variables"]["uri"]) == (200, f"{address}/up")

    def test_a_flow_trigger_starts_when_another_flow_ends_and_sees_its_outputs(self, desk: Desk) -> None:
        desk.save(
            a_follower(
                'inputs: {count: "{{ trigger.outputs.count }}"}, states: [SUCCESS]',
                "inputs: [{id: count, type: INT}]\n"
                'tasks: [{id: a, type: io.kestra.plugin.core.debug.Return, format: "{{ trigger.flowId }}"}]',
            )
        )

        up = desk.run(a_flow(f"{WORKS}\noutputs: [{{id: count, type: INT, value: '3'}}]", id="up"))

        ran = desk.only("follower")
        assert (ran.state, ran.execution.inputs, value(ran, "a")) == ("SUCCESS", {"count": 3}, "up")
        assert cast("Any", ran.execution.trigger)["variables"]["executionId"] == up.execution.id

    def test_inputs_that_do_not_fit_start_nothing(self, desk: Desk) -> None:
        desk.save(a_follower("inputs: {count: many}", f"inputs: [{{id: count, type: INT}}]\n{WORKS}"))

        desk.run(a_flow(WORKS, id="up"))

        assert followers(desk) == 0

    def test_a_flow_trigger_is_blind_for_its_own_flow(self, desk: Desk) -> None:
        ran = desk.run(a_follower("states: [SUCCESS]"))

        assert [one.id for one in desk.executions("follower")] == [ran.execution.id]

    def test_preconditions_wait_for_all_flows_and_begin_anew(self, desk: Desk) -> None:
        flows = ", ".join(f"{{namespace: company.team, flowId: {name}, states: [SUCCESS]}}" for name in ("one", "two"))
        desk.save(a_follower(f"preconditions: {{id: both, flows: [{flows}]}}"))
        counts: list[int] = []

        for name in ("one", "one", "two", "two", "one"):
            desk.run(a_flow(WORKS, id=name))
            counts.append(followers(desk))

        assert counts == [0, 0, 1, 1, 2]

    def test_what_was_seen_outlives_the_process(self, home: Home) -> None:
        flows = "[{namespace: company.team, flowId: one}, {namespace: company.team, flowId: two}]"
        first = Desk(home)
        first.save(a_follower(f"preconditions: {{id: both, flows: {flows}}}"))
        first.run(a_flow(WORKS, id="one"))
        home.close()

        second = Desk(home)
        second.run(a_flow(WORKS, id="two"))

        assert followers(second) == 1

    def test_a_disabled_trigger_starts_nothing_until_it_is_enabled(self, desk: Desk) -> None:
        desk.save(a_follower("states: [SUCCESS]"))
        toggle = "{{id: a, type: io.kestra.plugin.core.trigger.Toggle, flowId: follower, trigger: after, enabled: {}}}"

        desk.run(a_flow(f"tasks: [{toggle.format('false')}]", id="off"))
        desk.run(a_flow(WORKS, id="up"))
        before = followers(desk)
        desk.run(a_flow(f"tasks: [{toggle.format('true')}]", id="on"))

        assert (before, followers(desk)) == (0, 1)

    @pytest.mark.parametrize(
        ("body", "seen"), [('{"a": 1}', {"a": 1}), ("[1]", [1]), ("plain", "plain"), ("{broken", "{broken")]
    )
    def test_a_webhook_knows_its_key_and_reads_the_body(self, body: str, seen: object) -> None:
        webhook = a_trigger(Webhook, {"id": "hook", "type": "io.kestra.plugin.core.trigger.Webhook", "key": "k"})

        variables = webhook.variables(body, {"a": ["b"]}, {"c": ["d", "e"]})

        assert variables == {"body": seen, "headers": {"a": ["b"]}, "parameters": {"c": ["d", "e"]}}
        assert (webhook.admits("k", "k"), webhook.admits("k", "x")) == (True, False)


def a_condition(node: Node) -> Condition:
    return cast("Any", a_trigger(cast("Any", object), flow_trigger(conditions=[node]))).conditions[0]


class TestSection21Conditions:
    @pytest.mark.parametrize(
        ("name", "properties", "date", "holds"),
        [
            ("DateTimeBetween", {"after": "2030-01-01T00:00:00Z"}, "2030-01-01T00:00:01+00:00", True),
            ("DateTimeBetween", {"after": "2030-01-01T00:00:00Z"}, "2030-01-01T00:00:00+00:00", False),
            ("DayWeek", {"dayOfWeek": "FRIDAY"}, "2030-01-04T12:00:00+00:00", True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "FIRST"}, "2030-01-04T12:00:00+00:00", True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "LAST"}, "2030-01-04T12:00:00+00:00", False),
            ("PublicHoliday", {"country": "FR"}, "2030-07-14T12:00:00+00:00", True),
            ("PublicHoliday", {"country": "FR"}, "2030-07-15T12:00:00+00:00", False),
            ("TimeBetween", {"after": "08:00:00Z", "before": "09:00:00Z"}, "2030-01-04T08:30:00+00:00", True),
            ("TimeBetween", {"after": "08:00:00Z", "before": "09:00:00Z"}, "2030-01-04T09:00:00+00:00", False),
            ("Weekend", {}, "2030-01-05T12:00:00+00:00", True),
            ("Weekend", {}, "2030-01-04T12:00:00+00:00", False),
            ("Not", {"conditions": [condition("Weekend")]}, "2030-01-04T12:00:00+00:00", True),
            (
                "Or",
                {"conditions": [condition("Weekend"), condition("DayWeek", dayOfWeek="FRIDAY")]},
                "2030-01-04T12:00:00+00:00",
                True,
            ),
            (
                "Expression",
                {"expression": "{{ trigger.date contains '2030' }}"},
                "2030-01-04T12:00:00+00:00",
                True,
            ),
        ],
    )
    def test_on_dates(self, name: str, properties: dict[str, Any], date: str, holds: bool) -> None:
        found = a_condition(condition(name, **properties)).test(a_condition_context(date))

        assert found is holds

    @pytest.mark.parametrize(
        ("properties", "holds"),
        [
            ({"in": ["FAILED"]}, True),
            ({"notIn": ["FAILED"]}, False),
            ({"in": ["SUCCESS"]}, False),
        ],
    )
    def test_has_retry_attempt_looks_at_task_runs_that_were_tried_again(
        self, properties: dict[str, Any], holds: bool
    ) -> None:
        run = a_task_run(attempts=(FAILED, FAILED))

        found = a_condition(condition("HasRetryAttempt", **properties)).test(
            a_condition_context(execution=an_execution(), runs=[run])
        )

        assert found is holds

    @pytest.mark.parametrize(
        "written",
        [
            "{type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company.team, flowId: up}",
            "{type: io.kestra.plugin.core.condition.ExecutionNamespace, namespace: company, comparison: PREFIX}",
            "{type: io.kestra.plugin.core.condition.ExecutionNamespace, namespace: company, prefix: true}",
            "{type: io.kestra.plugin.core.condition.ExecutionStatus, in: [SUCCESS]}",
            "{type: io.kestra.plugin.core.condition.ExecutionStatus, notIn: [FAILED]}",
            "{type: io.kestra.plugin.core.condition.ExecutionLabels, labels: {team: a}}",
            "{type: io.kestra.plugin.core.condition.ExecutionOutputs, expression: '{{ trigger.outputs.n == 3 }}'}",
            "{type: io.kestra.plugin.core.condition.FlowCondition, namespace: company.team, flowId: follower}",
            "{type: io.kestra.plugin.core.condition.FlowNamespaceCondition, namespace: company, prefix: true}",
        ],
    )
    def test_on_executions(self, desk: Desk, written: str) -> None:
        negated = f"{{type: io.kestra.plugin.core.condition.Not, conditions: [{written}]}}"
        desk.save(a_follower(f"conditions: [{written}]", id="follower"))
        of_up = "{type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company.team, flowId: up}"
        desk.save(a_follower(f"conditions: [{of_up}, {negated.replace('follower', 'other')}]", id="other"))

        desk.run(a_flow(f"labels: {{team: a}}\n{WORKS}\noutputs: [{{id: n, type: INT, value: '3'}}]", id="up"))
        desk.only("follower")

        assert followers(desk, "other") == 0

    def test_all_of_a_trigger_have_to_hold(self, desk: Desk) -> None:
        status = "{type: io.kestra.plugin.core.condition.ExecutionStatus, in: [%s]}"
        flow = "{type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company.team, flowId: up}"
        desk.save(a_follower(f"conditions: [{flow}, {status % 'FAILED'}]"))

        desk.run(a_flow(WORKS, id="up"))
        before = followers(desk)
        desk.run(a_flow(FAILS, id="up"))

        assert (before, desk.only("follower").state) == (0, "SUCCESS")

    def test_one_that_cannot_be_rendered_does_not_hold(self, desk: Desk) -> None:
        desk.save(
            a_follower("conditions: [{type: io.kestra.plugin.core.condition.Expression, expression: '{{ nope }}'}]")
        )

        desk.run(a_flow(WORKS, id="up"))

        assert followers(desk) == 0

    def test_a_multiple_condition_collects_what_happens(self, desk: Desk) -> None:
        conditions = ", ".join(
            f"{name}: {{type: io.kestra.plugin.core.condition.ExecutionFlow, namespace: company.team, flowId: {name}}}"
            for name in ("one", "two")
        )
        kind = "io.kestra.plugin.core.condition.MultipleCondition"
        desk.save(a_follower(f"conditions: [{{type: {kind}, id: both, conditions: {{{conditions}}}}}]"))

        counts: list[int] = []
        for name in ("one", "two"):
            desk.run(a_flow(WORKS, id=name))
            counts.append(followers(desk))

        assert counts == [0, 1]
