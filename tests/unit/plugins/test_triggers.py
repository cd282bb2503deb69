from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tercel.errors import ExpressionError, UserError
from tercel.model import State
from tercel.model.condition import Basis
from tercel.model.source import Checked, check_flow
from tercel.model.trigger import DateContext, DatedTrigger
from tercel.plugins import catalog
from tercel.plugins.triggers import ExecutionFilter, FlowTrigger, Schedule, ScheduleOnDates, Webhook
from tests.builders import an_execution
from tests.flows import CORE, Node
from tests.triggers import (
    a_condition_context,
    a_date_context,
    a_text,
    a_trigger,
    condition,
    flow_trigger,
    on_dates,
    schedule,
)

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2030, 1, 4, 12, tzinfo=UTC)  # a Friday
HOUR = timedelta(hours=1)


def checked(node: Node) -> Checked:
    return check_flow(a_text(node), catalog())


def codes(node: Node) -> list[tuple[str, str]]:
    return [(issue.code, issue.path.removeprefix("triggers[0].")) for issue in checked(node).issues]


def webhook(**properties: Any) -> Node:
    return {"id": "hook", "type": f"{CORE}.trigger.Webhook", **properties}


class TestValidation:
    @pytest.mark.parametrize(
        ("node", "found"),
        [
            (schedule(cron="* * * *"), [("schedule.cron", "cron")]),
            (schedule(cron="61 * * * *"), [("schedule.cron", "cron")]),
            (schedule(cron="0 * * * * *"), [("schedule.cron", "cron")]),
            (schedule(cron="0 * * * * *", withSeconds=True), []),
            (schedule(cron="@daily", timezone="Europe/Paris"), []),
            (schedule(timezone="Europe/Atlantis"), [("timezone", "timezone")]),
            (on_dates("2030-01-01T00:00:00Z", timezone="+02:00"), [("timezone", "timezone")]),
            (on_dates("2030-01-01T00:00:00Z", "soon"), [("property.type", "dates[1]")]),
            ({**on_dates(), "dates": "{{ vars.dates }}"}, []),
            (schedule(labels={"system.readOnly": "true"}), [("label.system", "labels.system.readOnly")]),
            (schedule(labels=[{"key": "a", "value": 1}]), []),
            (schedule(id="a.b"), [("trigger.id.pattern", "id")]),
            (schedule(stopAfter=["FAILED", "BROKEN"]), [("property.type", "stopAfter[1]")]),
            (schedule(recoverMissedSchedules="SOME"), [("property.type", "recoverMissedSchedules")]),
            (schedule(lateMaximumDelay="PT5M", inputs={"a": 1}, minLogLevel="WARN"), []),
            (schedule(workerGroup={"key": "gpu"}, description="d", disabled=True), []),
            (webhook(key="secret"), []),
            (webhook(), [("webhook.key", "key")]),
            (webhook(key=""), [("webhook.key", "key")]),
            (webhook(key="x" * 256), []),
            (webhook(key="x" * 257), [("webhook.key", "key")]),
            (
                webhook(
                    key="k", conditions=[condition("MultipleCondition", id="m", conditions={"a": condition("Weekend")})]
                ),
                [("webhook.multipleCondition", "conditions[0]")],
            ),
            (
                webhook(
                    key="k",
                    conditions=[
                        condition("Weekend"),
                        condition(
                            "Not",
                            conditions=[condition("MultipleCondition", id="m", conditions={"a": condition("Weekend")})],
                        ),
                    ],
                ),
                [("webhook.multipleCondition", "conditions[1]")],
            ),
            (flow_trigger(states=["FAILED"], inputs={"a": "{{ trigger.outputs.a }}"}), []),
            (flow_trigger(preconditions={"id": "p"}), [("property.missing", "preconditions")]),
            (flow_trigger(preconditions={"flows": [{"namespace": "a"}]}), [("property.missing", "preconditions.id")]),
            (
                flow_trigger(preconditions={"id": "p", "flows": [{"flowId": "a"}]}),
                [("property.missing", "preconditions.flows[0].namespace")],
            ),
            (
                flow_trigger(preconditions={"id": "p", "flows": [{"namespace": "a"}], "timeWindow": {"type": "DAILY"}}),
                [("property.type", "preconditions.timeWindow.type")],
            ),
            (
                flow_trigger(
                    preconditions={
                        "id": "p",
                        "flows": [{"namespace": "a"}],
                        "timeWindow": {"type": "SLIDING_WINDOW", "deadline": "09:00:00"},
                    }
                ),
                [("timeWindow.deadline", "preconditions.timeWindow.deadline")],
            ),
        ],
    )
    def test_given_a_trigger_then_what_is_wrong_with_it_is_told(self, node: Node, found: list[tuple[str, str]]) -> None:
        assert codes(node) == found

    @pytest.mark.parametrize(
        ("filter", "found"),
        [
            ({"field": "NAMESPACE", "type": "EQUAL_TO", "value": "a"}, []),
            ({"field": "NAMESPACE", "type": "EQUAL_TO"}, ["precondition.filter.value"]),
            (
                {"field": "NAMESPACE", "type": "EQUAL_TO", "values": ["a"]},
                ["precondition.filter.value", "precondition.filter.values"],
            ),
            ({"field": "STATE", "type": "IN", "values": ["FAILED"]}, []),
            ({"field": "STATE", "type": "NOT_IN"}, ["precondition.filter.values"]),
            (
                {"field": "STATE", "type": "NOT_IN", "values": ["a"], "value": "a"},
                ["precondition.filter.value"],
            ),
            ({"field": "FLOW_ID", "type": "REGEX", "value": "["}, ["precondition.filter.value"]),
            ({"field": "EXPRESSION", "type": "IS_TRUE", "value": "{{ x }}"}, []),
            ({"field": "EXPRESSION", "type": "EQUAL_TO", "value": "{{ x }}"}, ["precondition.filter.type"]),
            ({"field": "ID", "type": "EQUAL_TO", "value": "a"}, ["property.type"]),
        ],
    )
    def test_given_a_filter_then_what_is_wrong_with_it_is_told(self, filter: Node, found: list[str]) -> None:
        node = flow_trigger(preconditions={"id": "p", "where": [{"id": "w", "filters": [filter]}]})

        assert [code for code, _ in codes(node)] == found

    def test_given_two_tests_of_the_same_name_then_that_is_told(self) -> None:
        where = {"id": "w", "filters": [{"field": "STATE", "type": "EQUAL_TO", "value": "SUCCESS"}]}

        assert codes(flow_trigger(preconditions={"id": "p", "where": [where, where]})) == [
            ("precondition.where.duplicate", "preconditions.where[1].id")
        ]

    def test_given_two_triggers_of_the_same_id_then_that_is_told(self) -> None:
        issues = check_flow(a_text(schedule(), schedule()), catalog()).issues

        assert [(issue.code, issue.path) for issue in issues] == [("trigger.id.duplicate", "triggers[1].id")]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("io.kestra.core.models.triggers.types.Schedule", f"{CORE}.trigger.Schedule"),
            ("io.kestra.core.models.triggers.types.Flow", f"{CORE}.trigger.Flow"),
            ("io.kestra.core.models.triggers.types.Webhook", f"{CORE}.trigger.Webhook"),
        ],
    )
    def test_given_a_former_name_then_it_is_the_same_class(self, old: str, new: str) -> None:
        assert catalog().find(old) is catalog().find(new) is not None

    def test_given_former_properties_then_they_work_and_there_are_warnings(self) -> None:
        read = checked(schedule(scheduleConditions=[condition("Weekend")], backfill={"start": "2030-01-01"}))

        assert [(warning.code, warning.path) for warning in read.warnings] == [
            ("property.deprecated", "triggers[0].scheduleConditions"),
            ("property.deprecated", "triggers[0].backfill"),
        ]

    def test_given_a_flow_trigger_without_conditions_then_it_warns(self) -> None:
        everything = a_trigger(FlowTrigger, flow_trigger())
        something = a_trigger(FlowTrigger, flow_trigger(conditions=[condition("ExecutionStatus")]))

        assert [caution.message for caution in everything.cautions()] == [
            "The trigger 'after' fires for every execution of every other flow."
        ]
        assert list(something.cautions()) == []
        assert [(warning.code, warning.path) for warning in checked(flow_trigger()).warnings] == [
            ("trigger.flow.everything", "triggers[0]")
        ]


class TestSchedule:
    def test_given_a_date_then_executions_see_it_and_those_next_to_it(self) -> None:
        trigger = a_trigger(Schedule, schedule(cron="0 9 * * *", timezone="Europe/Paris"))

        assert trigger.variables(a_date_context(), datetime(2030, 3, 31, 7, tzinfo=UTC)) == {
            "date": "2030-03-31T09:00:00+02:00",
            "next": "2030-04-01T09:00:00+02:00",
            "previous": "2030-03-30T09:00:00+01:00",
        }

    def test_given_no_time_zone_then_it_is_the_servers(self) -> None:
        trigger = a_trigger(Schedule, schedule(cron="0 9 * * *"))

        assert trigger.next_date(a_date_context(PARIS), NOON) == datetime(2030, 1, 5, 8, tzinfo=UTC)
        assert trigger.variables(a_date_context(), NOON)["date"] == "2030-01-04T12:00:00Z"

    def test_given_conditions_under_both_names_then_dates_that_fail_one_are_skipped(self) -> None:
        trigger = a_trigger(
            Schedule,
            schedule(
                cron="0 */6 * * *",
                conditions=[condition("Not", conditions=[condition("Weekend")])],
                scheduleConditions=[condition("TimeBetween", after="05:00:00Z", before="13:00:00Z")],
            ),
        )

        assert trigger.next_date(a_date_context(), NOON) == datetime(2030, 1, 7, 6, tzinfo=UTC)
        assert trigger.variables(a_date_context(), datetime(2030, 1, 7, 6, tzinfo=UTC)) == {
            "date": "2030-01-07T06:00:00Z",
            "next": "2030-01-07T12:00:00Z",
            "previous": "2030-01-04T12:00:00Z",
        }

    def test_given_a_condition_that_more_than_the_date_decides_then_it_skips_none_but_is_asked_when_due(self) -> None:
        expression = "{{ trigger.date | date('H') == '15' and allowed }}"
        trigger = a_trigger(Schedule, schedule(conditions=[condition("Expression", expression=expression)]))
        three = datetime(2030, 1, 4, 15, tzinfo=UTC)

        assert trigger.next_date(a_date_context(allowed=True), NOON) == NOON + HOUR
        assert trigger.holds_at(a_date_context(allowed=True), three)
        assert not trigger.holds_at(a_date_context(allowed=True), NOON)
        assert not trigger.holds_at(a_date_context(allowed=False), three)
        assert trigger.variables(a_date_context(allowed=True), three) == {
            "date": "2030-01-04T15:00:00Z",
            "next": "2030-01-05T15:00:00Z",
            "previous": "2030-01-03T15:00:00Z",
        }

    def test_given_a_condition_that_cannot_be_tested_then_the_date_is_not_skipped(self) -> None:
        trigger = a_trigger(Schedule, schedule(conditions=[condition("PublicHoliday", country="XX")]))

        assert trigger.next_date(a_date_context(), NOON) == NOON + HOUR
        with pytest.raises(UserError, match="no calendar of holidays for XX"):
            trigger.holds_at(a_date_context(), NOON)

    def test_given_conditions_then_the_trigger_itself_can_be_seen(self) -> None:
        expression = "{{ trigger.id == 'schedule' and vars.x == 1 }}"
        trigger = a_trigger(Schedule, schedule(conditions=[condition("Expression", expression=expression)]))

        assert trigger.holds_at(a_date_context(vars={"x": 1}), NOON)

    @pytest.mark.parametrize(
        ("cron", "more", "name", "properties", "expected"),
        [
            ("* * * * * *", {"withSeconds": True}, "DayWeek", {"dayOfWeek": "MONDAY"}, "2030-01-07T00:00:00+00:00"),
            ("* * * * *", {}, "PublicHoliday", {"country": "FR"}, "2030-04-22T00:00:00+00:00"),
            ("0 0 29 2 *", {}, "DayWeek", {"dayOfWeek": "SUNDAY"}, "2032-02-29T00:00:00+00:00"),
            ("@daily", {}, "DateTimeBetween", {"after": "2039-01-01T00:00:00Z"}, "2039-01-02T00:00:00+00:00"),
            ("@daily", {}, "DateTimeBetween", {"after": "2050-01-01T00:00:00Z"}, None),
            ("@yearly", {}, "DateTimeBetween", {"before": "2000-01-01T00:00:00Z"}, None),
        ],
    )
    def test_given_a_condition_that_holds_much_later_or_never_then_the_search_ends_soon(
        self, cron: str, more: Node, name: str, properties: Node, expected: str | None
    ) -> None:
        trigger = a_trigger(Schedule, schedule(cron=cron, conditions=[condition(name, **properties)], **more))

        found = trigger.next_date(a_date_context(), NOON)

        assert (found and found.isoformat()) == expected

    def test_given_a_search_that_is_too_long_then_it_goes_on_from_where_it_stopped(self) -> None:
        trigger = a_trigger(
            Schedule,
            schedule(cron="* * * * *", conditions=[condition("DateTimeBetween", after="2030-01-20T00:00:00Z")]),
        )
        context = a_date_context()

        date = trigger.next_date(context, NOON)
        assert date == NOON + timedelta(minutes=10_000)
        assert trigger.last_date(context, NOON) is None
        assert "next" not in trigger.variables(context, NOON)

        while date is not None and not trigger.holds_at(context, date):
            date = trigger.next_date(context, date)
        assert date == datetime(2030, 1, 20, 0, 1, tzinfo=UTC)

    def test_given_a_condition_on_days_then_most_dates_of_the_others_are_never_looked_at(self) -> None:
        asked: list[datetime] = []

        class Counted(Schedule, frozen=True, kw_only=True):
            def dates(self, context: DateContext, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
                for date in super().dates(context, start, backwards=backwards):
                    asked.append(date)
                    yield date

        weekend = a_trigger(Schedule, schedule(conditions=[condition("Weekend")])).conditions
        assert weekend[0].basis() is Basis.DAY
        trigger = Counted(id="c", type="c", cron="* * * * *", conditions=weekend)

        assert trigger.last_date(a_date_context(PARIS), NOON + timedelta(days=3)) is not None
        assert trigger.next_date(a_date_context(PARIS), NOON) == datetime(2030, 1, 4, 23, tzinfo=UTC)
        assert len(asked) < 10

    def test_given_a_longest_delay_then_older_dates_are_too_late(self) -> None:
        assert a_trigger(Schedule, schedule(lateMaximumDelay="PT5M")).not_before(NOON) == NOON - timedelta(minutes=5)
        assert a_trigger(Schedule, schedule()).not_before(NOON) is None

    def test_given_a_date_then_executions_have_no_schedule_date(self) -> None:
        assert a_trigger(Schedule, schedule()).schedule_date(NOON) is None


class TestScheduleOnDates:
    def dates(self, trigger: DatedTrigger, start: datetime, **more: Any) -> list[str]:
        return [date.isoformat() for date in islice(trigger.dates(a_date_context(), start, **more), 5)]

    def test_given_dates_then_they_come_in_order_each_once(self) -> None:
        trigger = a_trigger(
            ScheduleOnDates,
            on_dates(
                "2030-02-01T09:00:00", "2030-01-05T00:00:00Z", "2030-01-05T01:00:00+01:00", timezone="Europe/Paris"
            ),
        )

        assert self.dates(trigger, NOON) == ["2030-01-05T01:00:00+01:00", "2030-02-01T09:00:00+01:00"]
        assert self.dates(trigger, NOON + timedelta(days=90), backwards=True) == [
            "2030-02-01T09:00:00+01:00",
            "2030-01-05T01:00:00+01:00",
        ]
        assert trigger.next_date(a_date_context(), datetime(2030, 2, 1, 8, tzinfo=UTC)) is None

    def test_given_an_expression_then_it_gives_the_dates(self) -> None:
        trigger = a_trigger(ScheduleOnDates, {**on_dates(), "dates": "{{ vars.dates | toJson }}"})
        context = a_date_context(vars={"dates": ["2030-01-05T00:00:00Z"]})

        assert trigger.next_date(context, NOON) == datetime(2030, 1, 5, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("dates", "message"),
        [
            ("{{ 1 }}", "The dates of the trigger dates are no list: '1'"),
            (["{{ 1 }}"], "'1' is not a date"),
            ("{{ nothing }}", "nothing"),
        ],
    )
    def test_given_what_gives_no_dates_then_it_is_an_error(self, dates: object, message: str) -> None:
        trigger = a_trigger(ScheduleOnDates, {**on_dates(), "dates": dates})

        with pytest.raises(UserError, match=message):
            trigger.next_date(a_date_context(), NOON)

    def test_given_a_date_then_executions_have_it_as_their_schedule_date(self) -> None:
        trigger = a_trigger(ScheduleOnDates, on_dates("2030-01-05T00:00:00Z", "2030-01-06T00:00:00Z"))

        assert trigger.schedule_date(NOON) == NOON
        assert trigger.variables(a_date_context(), datetime(2030, 1, 5, tzinfo=UTC)) == {
            "date": "2030-01-05T00:00:00Z",
            "next": "2030-01-06T00:00:00Z",
        }


class TestExecutionFilter:
    @pytest.mark.parametrize(
        ("properties", "holds"),
        [
            ({"field": "FLOW_ID", "type": "EQUAL_TO", "value": "upstream"}, True),
            ({"field": "FLOW_ID", "type": "EQUAL_TO", "value": "{{ vars.flow }}"}, True),
            ({"field": "FLOW_ID", "type": "NOT_EQUAL_TO", "value": "upstream"}, False),
            ({"field": "NAMESPACE", "type": "STARTS_WITH", "value": "company."}, True),
            ({"field": "NAMESPACE", "type": "ENDS_WITH", "value": ".team"}, True),
            ({"field": "NAMESPACE", "type": "CONTAINS", "value": "any.t"}, True),
            ({"field": "NAMESPACE", "type": "CONTAINS", "value": "other"}, False),
            ({"field": "NAMESPACE", "type": "REGEX", "value": "company"}, False),
            ({"field": "NAMESPACE", "type": "REGEX", "value": r"company\..*"}, True),
            ({"field": "STATE", "type": "IN", "values": ["SUCCESS", "WARNING"]}, True),
            ({"field": "STATE", "type": "NOT_IN", "values": ["SUCCESS", "WARNING"]}, False),
            ({"field": "STATE", "type": "IS_NULL", "value": "x"}, False),
            ({"field": "STATE", "type": "IS_NOT_NULL", "value": "x"}, True),
            ({"field": "EXPRESSION", "type": "IS_TRUE", "value": "{{ vars.flow == 'upstream' }}"}, True),
            ({"field": "EXPRESSION", "type": "IS_FALSE", "value": "{{ vars.flow == 'other' }}"}, True),
            ({"field": "EXPRESSION", "type": "IS_NULL", "value": "{{ vars.none ?? '' }}"}, True),
            ({"field": "EXPRESSION", "type": "IS_NOT_NULL", "value": "{{ vars.flow }}"}, True),
        ],
    )
    def test_given_an_execution_then_it_holds_or_not(self, properties: dict[str, Any], holds: bool) -> None:
        execution = an_execution("CREATED", "SUCCESS", namespace="company.team", flow_id="upstream")
        seen = a_condition_context(execution=execution, vars={"flow": "upstream"})

        assert ExecutionFilter(**properties).test(seen) is holds
        assert not ExecutionFilter(**properties).test(a_condition_context())

    def test_given_an_expression_that_gives_no_pattern_then_it_is_an_error(self) -> None:
        seen = a_condition_context(execution=an_execution("SUCCESS"), vars={"pattern": "["})

        with pytest.raises(UserError, match="is not a regular expression"):
            ExecutionFilter(field="STATE", type="REGEX", value="{{ vars.pattern }}").test(seen)


class TestFlowTrigger:
    def test_given_no_states_then_it_reacts_to_every_end(self) -> None:
        trigger = a_trigger(FlowTrigger, flow_trigger())

        assert [
            state for state in ("RUNNING", "PAUSED", "SUCCESS", "FAILED", "KILLED") if trigger.reacts_to(State(state))
        ] == [
            "SUCCESS",
            "FAILED",
            "KILLED",
        ]

    def test_given_states_then_it_reacts_to_these(self) -> None:
        trigger = a_trigger(FlowTrigger, flow_trigger(states=["RUNNING"]))

        assert trigger.reacts_to(State.RUNNING)
        assert not trigger.reacts_to(State.SUCCESS)

    def test_given_preconditions_then_each_flow_and_each_test_is_a_rule(self) -> None:
        trigger = a_trigger(
            FlowTrigger,
            flow_trigger(
                preconditions={
                    "id": "p",
                    "flows": [
                        {"namespace": "company.team", "flowId": "a", "states": ["SUCCESS"], "labels": {"x": "y"}}
                    ],
                    "where": [
                        {
                            "id": "either",
                            "operand": "OR",
                            "filters": [
                                {"field": "FLOW_ID", "type": "EQUAL_TO", "value": "b"},
                                {"field": "STATE", "type": "EQUAL_TO", "value": "FAILED"},
                            ],
                        },
                        {
                            "id": "both",
                            "filters": [
                                {"field": "FLOW_ID", "type": "EQUAL_TO", "value": "b"},
                                {"field": "STATE", "type": "EQUAL_TO", "value": "FAILED"},
                            ],
                        },
                    ],
                }
            ),
        )
        [preconditions] = trigger.windowed()

        def met(state: str, flow_id: str, **properties: Any) -> list[str]:
            execution = an_execution("CREATED", state, namespace="company.team", flow_id=flow_id, **properties)
            seen = a_condition_context(execution=execution)
            return [name for name, test in preconditions.rules().items() if test(seen)]

        assert met("SUCCESS", "a", labels={"x": "y", "z": ""}) == ["flows[0]"]
        assert met("SUCCESS", "a") == []
        assert met("FAILED", "a", labels={"x": "y"}) == ["where.either"]
        assert met("FAILED", "b") == ["where.either", "where.both"]
        assert preconditions.reset_on_success

    def test_given_a_multiple_condition_then_it_is_no_condition_of_its_own(self) -> None:
        multiple = condition("MultipleCondition", id="m", conditions={"a": condition("Weekend")})
        trigger = a_trigger(FlowTrigger, flow_trigger(conditions=[multiple, condition("ExecutionStatus")]))

        assert len(trigger.tested_conditions()) == 1
        assert [one.id for one in trigger.windowed()] == ["m"]


class TestWebhook:
    def test_given_a_key_then_only_that_one_is_admitted(self) -> None:
        hook = a_trigger(Webhook, webhook(key="{{ secret('KEY') }}"))

        assert hook.admits("schlüssel", "schlüssel")
        assert not hook.admits("schlüssel", "schluessel")
        assert not hook.admits("", "")

    @pytest.mark.parametrize(
        ("body", "seen"),
        [
            ('{"a": [1]}', {"a": [1]}),
            (" [1, 2]", [1, 2]),
            ("12", "12"),
            ("{broken", "{broken"),
            ("hello", "hello"),
            ("", ""),
        ],
    )
    def test_given_a_request_then_executions_see_all_of_it(self, body: str, seen: object) -> None:
        hook = a_trigger(Webhook, webhook(key="k"))

        assert hook.variables(body, {"X-Day": ["1", "2"]}, {"q": ("a",)}) == {
            "body": seen,
            "headers": {"X-Day": ["1", "2"]},
            "parameters": {"q": ["a"]},
        }

    def test_given_conditions_then_all_have_to_hold(self) -> None:
        expressions = [condition("Expression", expression="{{ trigger.body.go }}") for _ in range(2)]
        hook = a_trigger(Webhook, webhook(key="k", conditions=expressions))

        assert hook.holds_for(a_condition_context(trigger={"body": {"go": True}}))
        assert not hook.holds_for(a_condition_context(trigger={"body": {"go": False}}))
        with pytest.raises(ExpressionError):
            hook.holds_for(a_condition_context())
