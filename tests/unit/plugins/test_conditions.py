from __future__ import annotations

import builtins
from typing import Any

import pytest
import yaml

from tercel.errors import MissingToolError, UserError
from tercel.model import Attempt
from tercel.model.condition import Basis, Condition
from tercel.model.source import check_flow
from tercel.plugins import catalog
from tercel.plugins.conditions import PublicHoliday
from tests.builders import a_history, a_task_run, an_execution
from tests.triggers import a_condition_context, a_text, condition, flow_trigger

FRIDAY = "2030-01-04T12:00:00+00:00"
SATURDAY = "2030-01-05T12:00:00+00:00"


def made(name: str, **properties: Any) -> Condition:
    checked = check_flow(a_text(flow_trigger(conditions=[condition(name, **properties)])), catalog())
    assert checked.flow is not None, [issue.text for issue in checked.issues]
    return checked.flow.triggers[0].conditions[0]


def codes(name: str, **properties: Any) -> list[tuple[str, str]]:
    checked = check_flow(a_text(flow_trigger(conditions=[condition(name, **properties)])), catalog())
    return [(issue.code, issue.path.removeprefix("triggers[0].conditions[0]")) for issue in checked.issues]


class TestOnDates:
    @pytest.mark.parametrize(
        ("name", "properties", "date", "holds"),
        [
            ("DateTimeBetween", {"after": "2030-01-04T11:00:00Z"}, FRIDAY, True),
            ("DateTimeBetween", {"after": "2030-01-04T12:00:00Z"}, FRIDAY, False),
            ("DateTimeBetween", {"before": "2030-01-04T12:00:00Z"}, FRIDAY, False),
            ("DateTimeBetween", {"before": "2030-01-04T14:00:00+01:00"}, FRIDAY, True),
            ("DateTimeBetween", {"after": "2030-01-04T11:00:00Z", "before": "2030-01-04T11:30:00Z"}, FRIDAY, False),
            ("TimeBetween", {"after": "11:00:00Z", "before": "13:00:00Z"}, FRIDAY, True),
            ("TimeBetween", {"after": "12:00:00Z"}, FRIDAY, False),
            ("TimeBetween", {"before": "12:00:00Z"}, FRIDAY, False),
            ("TimeBetween", {"after": "13:30:00+02:00"}, FRIDAY, True),
            ("TimeBetween", {"after": "00:30:00+13:00", "before": "02:00:00+13:00"}, FRIDAY, True),
            ("TimeBetween", {"after": "13:30:00"}, "2030-01-04T14:00:00+02:00", True),
            ("DayWeek", {"dayOfWeek": "FRIDAY"}, FRIDAY, True),
            ("DayWeek", {"dayOfWeek": "FRIDAY"}, SATURDAY, False),
            ("DayWeek", {"dayOfWeek": "SATURDAY"}, "2030-01-05T00:30:00+02:00", True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "FIRST"}, FRIDAY, True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "SECOND"}, FRIDAY, False),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "FOURTH"}, "2030-01-25T12:00:00Z", True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "LAST"}, "2030-01-25T12:00:00Z", True),
            ("DayWeekInMonth", {"dayOfWeek": "FRIDAY", "dayInMonth": "LAST"}, "2030-01-18T12:00:00Z", False),
            ("Weekend", {}, FRIDAY, False),
            ("Weekend", {}, SATURDAY, True),
            ("PublicHoliday", {"country": "FR"}, "2030-07-14T12:00:00Z", True),
            ("PublicHoliday", {"country": "FR"}, "2030-07-15T12:00:00Z", False),
            ("PublicHoliday", {"country": "DE", "subDivision": "BY"}, "2030-01-06T12:00:00Z", True),
            ("PublicHoliday", {"country": "DE"}, "2030-01-06T12:00:00Z", False),
            ("Expression", {"expression": "{{ trigger.date | date('d') == '4' }}"}, FRIDAY, True),
            ("Expression", {"expression": "{{ trigger.date | date('d') == '5' }}"}, FRIDAY, False),
            ("Expression", {"expression": "  "}, FRIDAY, False),
            ("Expression", {"expression": "0"}, FRIDAY, True),
            ("Not", {"conditions": [condition("Weekend")]}, FRIDAY, True),
            ("Not", {"conditions": [condition("Weekend"), condition("DayWeek", dayOfWeek="FRIDAY")]}, FRIDAY, False),
            ("Or", {"conditions": [condition("Weekend"), condition("DayWeek", dayOfWeek="FRIDAY")]}, FRIDAY, True),
            ("Or", {"conditions": [condition("Weekend")]}, FRIDAY, False),
        ],
    )
    def test_given_a_date_then_it_holds_or_not(
        self, name: str, properties: dict[str, Any], date: str, holds: bool
    ) -> None:
        assert made(name, **properties).test(a_condition_context(date)) is holds

    def test_given_a_date_of_its_own_then_that_one_counts(self) -> None:
        seen = a_condition_context(FRIDAY, day="2030-01-05")

        assert made("Weekend", date="{{ day }}").test(seen)
        with pytest.raises(UserError, match="'soon' is not a date"):
            made("Weekend", date="soon").test(seen)

    def test_given_bounds_that_are_expressions_then_they_are_rendered(self) -> None:
        seen = a_condition_context(FRIDAY, start="2030-01-04T11:00:00Z", hour="13:00:00Z")

        assert made("DateTimeBetween", after="{{ start }}").test(seen)
        assert made("TimeBetween", before="{{ hour }}").test(seen)

    def test_given_an_expression_that_cannot_be_rendered_then_it_is_an_error(self) -> None:
        with pytest.raises(UserError):
            made("Expression", expression="{{ nothing }}").test(a_condition_context(FRIDAY))

    def test_given_no_country_or_an_unknown_one_then_it_is_an_error(self) -> None:
        seen = a_condition_context(FRIDAY)

        with pytest.raises(UserError, match="needs a country"):
            made("PublicHoliday").test(seen)
        with pytest.raises(UserError, match="There is no calendar of holidays for XX in DE"):
            made("PublicHoliday", country="de", subDivision="xx").test(seen)

    def test_given_no_calendars_then_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import_any = builtins.__import__

        def without_holidays(name: str, *rest: Any, **more: Any) -> Any:
            if name == "holidays":
                raise ImportError(name)
            return import_any(name, *rest, **more)

        monkeypatch.setattr(builtins, "__import__", without_holidays)

        with pytest.raises(MissingToolError, match=r"Install it: pip install 'tercel\[holidays\]'\."):
            PublicHoliday(type="p", country="NO").test(a_condition_context(FRIDAY))

    @pytest.mark.parametrize(
        ("name", "properties", "basis"),
        [
            ("Weekend", {}, Basis.DAY),
            ("Weekend", {"date": "{{ now() }}"}, Basis.ALL),
            ("PublicHoliday", {"country": "FR"}, Basis.DAY),
            ("PublicHoliday", {"country": "{{ vars.country }}"}, Basis.ALL),
            ("TimeBetween", {"after": "11:00:00Z"}, Basis.DATE),
            ("DateTimeBetween", {"after": "{{ vars.start }}"}, Basis.ALL),
            ("Expression", {"expression": "true"}, Basis.ALL),
            ("Not", {"conditions": [condition("Weekend")]}, Basis.DAY),
            ("Or", {"conditions": [condition("Weekend"), condition("TimeBetween", after="11:00:00Z")]}, Basis.DATE),
            ("ExecutionFlow", {"namespace": "a", "flowId": "b"}, Basis.ALL),
        ],
    )
    def test_given_a_condition_then_it_says_what_decides_it(
        self, name: str, properties: dict[str, Any], basis: Basis
    ) -> None:
        assert made(name, **properties).basis() is basis


class TestOnExecutions:
    EXECUTION = an_execution(
        "CREATED",
        "RUNNING",
        "SUCCESS",
        namespace="company.team",
        flow_id="upstream",
        labels={"team": "a", "day": "1"},
        outputs={"count": 3},
    )

    @pytest.mark.parametrize(
        ("name", "properties", "holds"),
        [
            ("ExecutionFlow", {"namespace": "company.team", "flowId": "upstream"}, True),
            ("ExecutionFlow", {"namespace": "company.team", "flowId": "other"}, False),
            ("ExecutionFlow", {"namespace": "company", "flowId": "upstream"}, False),
            ("ExecutionNamespace", {"namespace": "company.team"}, True),
            ("ExecutionNamespace", {"namespace": "company"}, False),
            ("ExecutionNamespace", {"namespace": "company", "prefix": True}, True),
            ("ExecutionNamespace", {"namespace": "company", "comparison": "PREFIX"}, True),
            ("ExecutionNamespace", {"namespace": "team", "comparison": "SUFFIX"}, True),
            ("ExecutionNamespace", {"namespace": "company", "comparison": "EQUALS", "prefix": True}, False),
            ("ExecutionStatus", {"in": ["SUCCESS", "WARNING"]}, True),
            ("ExecutionStatus", {"in": ["FAILED"]}, False),
            ("ExecutionStatus", {"notIn": ["SUCCESS"]}, False),
            ("ExecutionStatus", {"in": ["SUCCESS"], "notIn": ["FAILED"]}, True),
            ("ExecutionLabels", {"labels": {"team": "a"}}, True),
            ("ExecutionLabels", {"labels": [{"key": "team", "value": "a"}, {"key": "day", "value": "2"}]}, False),
            ("ExecutionOutputs", {"expression": "{{ trigger.outputs.count == 3 }}"}, True),
            ("ExecutionOutputs", {"expression": "{{ trigger.outputs.count == 4 }}"}, False),
            ("FlowCondition", {"namespace": "company.team", "flowId": "owner"}, True),
            ("FlowCondition", {"namespace": "company.team", "flowId": "upstream"}, False),
            ("FlowNamespaceCondition", {"namespace": "company.team"}, True),
            ("FlowNamespaceCondition", {"namespace": "company"}, False),
            ("FlowNamespaceCondition", {"namespace": "company", "prefix": True}, True),
        ],
    )
    def test_given_an_execution_then_it_holds_or_not(self, name: str, properties: dict[str, Any], holds: bool) -> None:
        assert made(name, **properties).test(a_condition_context(execution=self.EXECUTION)) is holds

    @pytest.mark.parametrize(
        ("name", "properties"),
        [
            ("ExecutionFlow", {"namespace": "a", "flowId": "b"}),
            ("ExecutionNamespace", {"namespace": "a"}),
            ("ExecutionStatus", {"notIn": ["FAILED"]}),
            ("ExecutionLabels", {"labels": {}}),
            ("ExecutionOutputs", {"expression": "true"}),
            ("HasRetryAttempt", {"notIn": ["FAILED"]}),
        ],
    )
    def test_given_no_execution_then_none_of_them_holds(self, name: str, properties: dict[str, Any]) -> None:
        assert not made(name, **properties).test(a_condition_context(FRIDAY))

    def test_given_no_outputs_then_those_on_outputs_do_not_hold(self) -> None:
        seen = a_condition_context(execution=an_execution("SUCCESS"))

        assert not made("ExecutionOutputs", expression="true").test(seen)

    def test_given_attempts_then_only_those_of_tasks_that_were_tried_again_count(self) -> None:
        failed, succeeded = (Attempt(a_history("RUNNING", end)) for end in ("FAILED", "SUCCESS"))
        once = a_task_run("once", "RUNNING", "FAILED", attempts=(failed,))
        twice = a_task_run("twice", "RUNNING", "SUCCESS", attempts=(failed, succeeded))

        def holds(*runs: Any, **properties: Any) -> bool:
            seen = a_condition_context(execution=self.EXECUTION, runs=runs)
            return made("HasRetryAttempt", **properties).test(seen)

        assert not holds(once, **{"in": ["FAILED"]})
        assert holds(once, twice, **{"in": ["FAILED"]})
        assert not holds(twice, **{"in": ["KILLED"]})
        assert holds(twice, notIn=["FAILED"])
        assert not holds(twice, notIn=["FAILED", "SUCCESS"])


class TestMultipleCondition:
    CONDITIONS = {
        "first": condition("ExecutionFlow", namespace="company.team", flowId="upstream"),
        "second": condition("ExecutionStatus", **{"in": ["SUCCESS"]}),
    }

    def test_given_one_execution_then_all_conditions_have_to_hold_for_it(self) -> None:
        multiple = made("MultipleCondition", id="both", conditions=self.CONDITIONS)

        assert multiple.test(a_condition_context(execution=TestOnExecutions.EXECUTION))
        assert not multiple.test(a_condition_context(execution=an_execution("SUCCESS")))

    def test_given_former_properties_then_they_make_the_window(self) -> None:
        old = made("MultipleCondition", id="m", window="PT6H", windowAdvance="PT1H", conditions=self.CONDITIONS)
        new = made(
            "MultipleCondition",
            id="m",
            timeWindow={"window": "PT6H", "windowAdvance": "PT1H"},
            conditions=self.CONDITIONS,
        )

        assert getattr(old, "span") == getattr(new, "span")  # noqa: B009  # typed as any condition


class TestProblems:
    @pytest.mark.parametrize(
        ("name", "properties", "found"),
        [
            ("DateTimeBetween", {}, [("property.missing", "")]),
            ("DateTimeBetween", {"after": "soon"}, [("property.type", ".after")]),
            ("DateTimeBetween", {"after": "{{ soon }}"}, []),
            ("TimeBetween", {}, [("property.missing", "")]),
            ("TimeBetween", {"before": "soon"}, [("property.type", ".before")]),
            ("DayWeek", {"dayOfWeek": "Friday"}, [("property.type", ".dayOfWeek")]),
            ("Not", {"conditions": []}, [("property.length", ".conditions")]),
            ("Or", {}, [("property.missing", ".conditions")]),
            ("MultipleCondition", {"id": "m", "conditions": {}}, [("property.length", ".conditions")]),
            ("ExecutionStatus", {"in": ["DONE"]}, [("property.type", ".in[0]")]),
        ],
    )
    def test_given_what_is_wrong_then_it_is_told(
        self, name: str, properties: dict[str, Any], found: list[tuple[str, str]]
    ) -> None:
        assert codes(name, **properties) == found


RENAMED = {
    "DateTimeBetweenCondition": "DateTimeBetween",
    "DayWeekCondition": "DayWeek",
    "DayWeekInMonthCondition": "DayWeekInMonth",
    "ExecutionFlowCondition": "ExecutionFlow",
    "ExecutionLabelsCondition": "ExecutionLabels",
    "ExecutionNamespaceCondition": "ExecutionNamespace",
    "ExecutionOutputsCondition": "ExecutionOutputs",
    "ExecutionStatusCondition": "ExecutionStatus",
    "HasRetryAttemptCondition": "HasRetryAttempt",
    "NotCondition": "Not",
    "OrCondition": "Or",
    "PublicHolidayCondition": "PublicHoliday",
    "TimeBetweenCondition": "TimeBetween",
    "WeekendCondition": "Weekend",
}
OLD_A = "io.kestra.core.models.conditions.types"
NEW = "io.kestra.plugin.core.condition"
FORMER = [
    *((f"{OLD_A}.{old}", f"{NEW}.{new}") for old, new in RENAMED.items()),
    *((f"{NEW}.{old}", f"{NEW}.{new}") for old, new in RENAMED.items()),
    (f"{OLD_A}.VariableCondition", f"{NEW}.Expression"),
    (f"{NEW}.ExpressionCondition", f"{NEW}.Expression"),
    *(
        (f"{OLD_A}.{name}", f"{NEW}.{name}")
        for name in ("FlowCondition", "FlowNamespaceCondition", "MultipleCondition")
    ),
]


@pytest.mark.parametrize(("old", "new"), FORMER)
def test_given_a_former_name_then_it_is_the_same_class(old: str, new: str) -> None:
    part = catalog().find(old)

    assert part is not None
    assert part is catalog().find(new)
    assert part.plugin_type == new


def test_given_plugin_defaults_then_conditions_get_them() -> None:
    text = a_text(
        flow_trigger(conditions=[condition("PublicHoliday")]),
        pluginDefaults=[{"type": f"{NEW}.PublicHoliday", "values": {"country": "FR"}}],
    )
    yaml.safe_load(text)

    checked = check_flow(text, catalog())

    assert checked.flow is not None
    assert isinstance(checked.flow.triggers[0].conditions[0], PublicHoliday)
    assert checked.flow.triggers[0].conditions[0].country == "FR"
