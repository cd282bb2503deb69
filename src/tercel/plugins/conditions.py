"""Conditions: on dates, on executions, on flows, and those made of others. All pure.

Those on dates are for triggers that have dates, those on executions for flow triggers, webhooks and listeners: on a
schedule there is no execution, so they do not hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec

from tercel.errors import MissingToolError, UserError
from tercel.model.catalog import plugin
from tercel.model.condition import Basis, Condition, ConditionContext, TimeWindow
from tercel.model.dates import parse_instant, parse_time
from tercel.model.state import State
from tercel.model.task import Dynamic, Labels, Problem

if TYPE_CHECKING:
    from holidays import HolidayBase

_A = "io.kestra.core.models.conditions.types"
_B = "io.kestra.plugin.core.condition"

_TRIGGER_DATE = "{{ trigger.date }}"

Weekday = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]
_WEEKDAYS: tuple[Weekday, ...] = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_PLACES = ("FIRST", "SECOND", "THIRD", "FOURTH")


def _old(name: str) -> list[str]:
    return [f"{_A}.{name}", f"{_B}.{name}"]


class _OnDate(Condition, frozen=True, kw_only=True):
    """A condition on a date.

    Attributes:
        date: the date; by itself that of the trigger.
    """

    decided_by: ClassVar[Basis] = Basis.DAY

    date: Dynamic = _TRIGGER_DATE

    def basis(self) -> Basis:
        """The date, unless something is rendered."""
        is_plain = self.date == _TRIGGER_DATE and not any("{" in text for text in self._texts())
        return self.decided_by if is_plain else Basis.ALL

    def _texts(self) -> Sequence[str]:
        """Further properties that may be rendered."""
        return ()

    def _moment(self, context: ConditionContext) -> datetime:
        if self.date == _TRIGGER_DATE and context.date is not None:
            return context.date
        return parse_instant(context.render(self.date, {}))


def _unreadable(parse: Callable[[str], object], **texts: str | None) -> Iterator[Problem]:
    """One problem for each text without markup that *parse* refuses."""
    for name, text in texts.items():
        if text is None or "{" in text:
            continue
        try:
            parse(text)
        except UserError as error:
            yield Problem(error.message, error.hint, "property.type", (name,))


@plugin(f"{_B}.DateTimeBetween", aliases=_old("DateTimeBetweenCondition"))
class DateTimeBetween(_OnDate, frozen=True, kw_only=True):
    """Holds for dates after one instant, before another, or both; the instants themselves are left out.

    Attributes:
        after: such as `2030-01-31T12:00:00Z`.
        before: such as `2030-01-31T12:00:00Z`.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: daily
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.DateTimeBetween
                after: "2030-01-01T00:00:00Z"
                before: "2031-01-01T00:00:00Z"
    """

    decided_by = Basis.DATE

    after: Dynamic | None = None
    before: Dynamic | None = None

    def problems(self) -> Iterator[Problem]:
        """Neither instant, and what is no instant."""
        if self.after is None and self.before is None:
            yield Problem("Neither 'after' nor 'before' is given.", "Give one of them, or both.", "property.missing")
        yield from _unreadable(parse_instant, after=self.after, before=self.before)

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        moment = self._moment(context)
        if self.after is not None and moment <= parse_instant(context.render(self.after, {})):
            return False
        return self.before is None or moment < parse_instant(context.render(self.before, {}))

    def _texts(self) -> Sequence[str]:
        return self.after or "", self.before or ""


@plugin(f"{_B}.TimeBetween", aliases=_old("TimeBetweenCondition"))
class TimeBetween(_OnDate, frozen=True, kw_only=True):
    """Holds for times of the day after one, before another, or both; these themselves are left out.

    Attributes:
        after: such as `16:30:00Z`; without an offset it is in the date's own.
        before: such as `16:30:00Z`; without an offset it is in the date's own.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: in_office_hours
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 * * * *"
            timezone: Europe/Paris
            conditions:
              - type: io.kestra.plugin.core.condition.TimeBetween
                after: "08:30:00"
                before: "17:30:00"
    """

    decided_by = Basis.DATE

    after: Dynamic | None = None
    before: Dynamic | None = None

    def problems(self) -> Iterator[Problem]:
        """Neither time, and what is no time."""
        if self.after is None and self.before is None:
            yield Problem("Neither 'after' nor 'before' is given.", "Give one of them, or both.", "property.missing")
        yield from _unreadable(parse_time, after=self.after, before=self.before)

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        moment = self._moment(context)
        if self.after is not None:
            after = parse_time(context.render(self.after, {}))
            if _time_beside(moment, after) <= after:
                return False
        if self.before is None:
            return True
        before = parse_time(context.render(self.before, {}))
        return _time_beside(moment, before) < before

    def _texts(self) -> Sequence[str]:
        return self.after or "", self.before or ""


def _time_beside(moment: datetime, other: time) -> time:
    """The time of day of *moment* in the offset that *other* has."""
    return moment.time() if other.tzinfo is None else moment.astimezone(other.tzinfo).timetz()


@plugin(f"{_B}.DayWeek", aliases=_old("DayWeekCondition"))
class DayWeek(_OnDate, frozen=True, kw_only=True):
    """Holds on one day of the week.

    Attributes:
        day_of_week: the day.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: daily
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.DayWeek
                dayOfWeek: MONDAY
    """

    day_of_week: Weekday

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        return _WEEKDAYS[self._moment(context).weekday()] == self.day_of_week


@plugin(f"{_B}.DayWeekInMonth", aliases=_old("DayWeekInMonthCondition"))
class DayWeekInMonth(_OnDate, frozen=True, kw_only=True):
    """Holds on one day of the week in one week of the month, such as the first Monday.

    Attributes:
        day_of_week: the day.
        day_in_month: which of the month's days of that name.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: daily
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.DayWeekInMonth
                dayOfWeek: MONDAY
                dayInMonth: FIRST
    """

    day_of_week: Weekday
    day_in_month: Literal["FIRST", "SECOND", "THIRD", "FOURTH", "LAST"]

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        moment = self._moment(context)
        if _WEEKDAYS[moment.weekday()] != self.day_of_week:
            return False
        if self.day_in_month == "LAST":
            return (moment.date() + timedelta(days=7)).month != moment.month
        return (moment.day - 1) // 7 == _PLACES.index(self.day_in_month)


@plugin(f"{_B}.Weekend", aliases=_old("WeekendCondition"))
class Weekend(_OnDate, frozen=True, kw_only=True):
    """Holds on Saturdays and Sundays.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: daily
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.Weekend
    """

    def test(self, context: ConditionContext) -> bool:
        """Look at the day of the week."""
        return self._moment(context).isoweekday() > 5


@plugin(f"{_B}.PublicHoliday", aliases=_old("PublicHolidayCondition"))
class PublicHoliday(_OnDate, frozen=True, kw_only=True):
    """Holds on public holidays.

    Attributes:
        country: code of the country, such as `FR`.
        sub_division: code of a part of the country that has holidays of its own, such as `BY`.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: daily
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.PublicHoliday
                country: DE
                subDivision: BY
    """

    country: Dynamic | None = None
    sub_division: Dynamic | None = None

    def test(self, context: ConditionContext) -> bool:
        """Look the date up."""
        if not self.country:
            raise UserError("A PublicHoliday condition needs a country.", "Give `country`, such as FR.")
        country = context.render(self.country, {}).strip().upper()
        part = context.render(self.sub_division, {}).strip().upper() if self.sub_division else None
        return self._moment(context).date() in _calendar(country, part)

    def _texts(self) -> Sequence[str]:
        return self.country or "", self.sub_division or ""


@lru_cache(maxsize=64)
def _calendar(country: str, part: str | None) -> "HolidayBase":
    try:
        from holidays import country_holidays  # noqa: PLC0415  # an extra, and slow to import
    except ImportError:
        raise MissingToolError(
            "The condition PublicHoliday needs a calendar of holidays.", "Install it: pip install 'tercel[holidays]'."
        ) from None
    try:
        return country_holidays(country, subdiv=part)
    except NotImplementedError:
        of = country if part is None else f"{part} in {country}"
        raise UserError(
            f"There is no calendar of holidays for {of}.", "Write codes such as FR, or DE with BY."
        ) from None


@plugin(f"{_B}.Expression", aliases=[f"{_A}.VariableCondition", f"{_B}.ExpressionCondition"])
class Expression(Condition, frozen=True, kw_only=True):
    """Holds where an expression gives anything but an empty text or `false`.

    Attributes:
        expression: the expression.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.Expression
                expression: "{{ trigger.state == 'SUCCESS' }}"
    """

    expression: Dynamic

    def test(self, context: ConditionContext) -> bool:
        """Render."""
        return _is_true(context.render(self.expression, {}))


def _is_true(text: str) -> bool:
    return text.strip() not in {"", "false"}


class _OfOthers(Condition, frozen=True, kw_only=True):
    """A condition made of others.

    Attributes:
        conditions: the other ones.
    """

    conditions: Annotated[list[Condition], msgspec.Meta(min_length=1, extra={"hint": "Give at least one."})]

    def basis(self) -> Basis:
        """What decides the one that needs most."""
        return max((condition.basis() for condition in self.conditions), default=Basis.ALL)


@plugin(f"{_B}.Not", aliases=_old("NotCondition"))
class Not(_OfOthers, frozen=True, kw_only=True):
    """Holds where none of some conditions holds.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: workdays
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.Not
                conditions:
                  - type: io.kestra.plugin.core.condition.Weekend
                  - type: io.kestra.plugin.core.condition.PublicHoliday
                    country: FR
    """

    def test(self, context: ConditionContext) -> bool:
        """Test them."""
        return not any(condition.test(context) for condition in self.conditions)


@plugin(f"{_B}.Or", aliases=_old("OrCondition"))
class Or(_OfOthers, frozen=True, kw_only=True):
    """Holds where at least one of some conditions holds.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: twice_a_week
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "0 6 * * *"
            conditions:
              - type: io.kestra.plugin.core.condition.Or
                conditions:
                  - type: io.kestra.plugin.core.condition.DayWeek
                    dayOfWeek: MONDAY
                  - type: io.kestra.plugin.core.condition.DayWeek
                    dayOfWeek: THURSDAY
    """

    def test(self, context: ConditionContext) -> bool:
        """Test them."""
        return any(condition.test(context) for condition in self.conditions)


@plugin(f"{_B}.ExecutionOutputs", aliases=_old("ExecutionOutputsCondition"))
class ExecutionOutputs(Condition, frozen=True, kw_only=True):
    """Holds for executions that gave outputs which an expression finds right.

    Attributes:
        expression: sees the outputs of the flow as `trigger.outputs`.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.ExecutionOutputs
                expression: "{{ trigger.outputs.rows > 10 }}"
    """

    expression: Dynamic

    def test(self, context: ConditionContext) -> bool:
        """Render."""
        execution = context.execution
        if execution is None or not execution.outputs:
            return False
        return _is_true(context.render(self.expression, {"trigger": {"outputs": execution.outputs}}))


@plugin(f"{_B}.ExecutionFlow", aliases=_old("ExecutionFlowCondition"))
class ExecutionFlow(Condition, frozen=True, kw_only=True):
    """Holds for executions of one flow.

    Attributes:
        namespace: of the flow.
        flow_id: id of the flow.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
    """

    namespace: str
    flow_id: str

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        execution = context.execution
        return execution is not None and (execution.namespace, execution.flow_id) == (self.namespace, self.flow_id)


@plugin(f"{_B}.ExecutionNamespace", aliases=_old("ExecutionNamespaceCondition"))
class ExecutionNamespace(Condition, frozen=True, kw_only=True):
    """Holds for executions of flows in one namespace, or in some.

    Attributes:
        namespace: the namespace, or a part of it.
        comparison: what the namespace of an execution has to do with it: be equal, begin or end with it.
        prefix: the same as the comparison PREFIX, where none is given.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionNamespace
                namespace: company
                comparison: PREFIX
    """

    namespace: str
    comparison: Literal["EQUALS", "PREFIX", "SUFFIX"] | None = None
    prefix: bool = False

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        if context.execution is None:
            return False
        found = context.execution.namespace
        match self.comparison or ("PREFIX" if self.prefix else "EQUALS"):
            case "PREFIX":
                return found.startswith(self.namespace)
            case "SUFFIX":
                return found.endswith(self.namespace)
            case _:
                return found == self.namespace


@plugin(f"{_B}.ExecutionStatus", aliases=_old("ExecutionStatusCondition"))
class ExecutionStatus(Condition, frozen=True, kw_only=True):
    """Holds for executions in some states.

    Attributes:
        in_: the execution is in one of these.
        not_in: the execution is in none of these.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.ExecutionStatus
                in:
                  - SUCCESS
                  - WARNING
    """

    in_: list[State] | None = msgspec.field(default=None, name="in")
    not_in: list[State] | None = None

    def test(self, context: ConditionContext) -> bool:
        """Look at the state."""
        return context.execution is not None and _is_among(context.execution.state, self.in_, self.not_in)


def _is_among(state: State, wanted: Sequence[State] | None, unwanted: Sequence[State] | None) -> bool:
    return (wanted is None or state in wanted) and (unwanted is None or state not in unwanted)


@plugin(f"{_B}.ExecutionLabels", aliases=_old("ExecutionLabelsCondition"))
class ExecutionLabels(Condition, frozen=True, kw_only=True):
    """Holds for executions that have some labels.

    Attributes:
        labels: all of them, with these values.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.ExecutionLabels
                labels:
                  team: sales
    """

    labels: Labels

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        return context.execution is not None and self.labels.items() <= context.execution.labels.items()


@plugin(f"{_B}.HasRetryAttempt", aliases=_old("HasRetryAttemptCondition"))
class HasRetryAttempt(Condition, frozen=True, kw_only=True):
    """Holds for executions in which a task was tried again, and a try of it ended in some state.

    Attributes:
        in_: the try ended in one of these.
        not_in: the try ended in none of these.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.HasRetryAttempt
                in:
                  - FAILED
    """

    in_: list[State] | None = msgspec.field(default=None, name="in")
    not_in: list[State] | None = None

    def test(self, context: ConditionContext) -> bool:
        """Look at the attempts."""
        return any(
            _is_among(attempt.state, self.in_, self.not_in)
            for run in context.runs
            if len(run.attempts) > 1
            for attempt in run.attempts
        )


@plugin(f"{_B}.FlowCondition", aliases=[f"{_A}.FlowCondition"])
class FlowCondition(Condition, frozen=True, kw_only=True):
    """Holds in one flow: the flow that the condition is written in.

    Attributes:
        namespace: of the flow.
        flow_id: id of the flow.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.FlowCondition
                namespace: company.team
                flowId: example
    """

    namespace: str
    flow_id: str

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        return context.flow == (self.namespace, self.flow_id)


@plugin(f"{_B}.FlowNamespaceCondition", aliases=[f"{_A}.FlowNamespaceCondition"])
class FlowNamespaceCondition(Condition, frozen=True, kw_only=True):
    """Holds in flows of one namespace: the flow that the condition is written in.

    Attributes:
        namespace: the namespace.
        prefix: it is enough that the flow's namespace begins with it.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.flowId }} ended as {{ trigger.state }}."
        triggers:
          - id: after_orders
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.ExecutionFlow
                namespace: company.team
                flowId: load_orders
              - type: io.kestra.plugin.core.condition.FlowNamespaceCondition
                namespace: company
                prefix: true
    """

    namespace: str
    prefix: bool = False

    def test(self, context: ConditionContext) -> bool:
        """Compare."""
        found = context.flow.namespace
        return found.startswith(self.namespace) if self.prefix else found == self.namespace


@plugin(f"{_B}.MultipleCondition", aliases=[f"{_A}.MultipleCondition"])
class MultipleCondition(Condition, frozen=True, kw_only=True):
    """Holds once all of some conditions have held, each for some execution, within one span of time.

    It does so on the list of conditions of a flow trigger. Anywhere else all of them have to hold for one execution.

    Attributes:
        id: name of the condition, its own in the trigger.
        time_window: the span of time; a day, from midnight on, where it is not given.
        window: former way to write `timeWindow.window`.
        window_advance: former way to write `timeWindow.windowAdvance`.
        reset_on_success: after an execution was started all has to happen anew.
        conditions: what has to happen, each under a name.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: Both are there.
        triggers:
          - id: after_both
            type: io.kestra.plugin.core.trigger.Flow
            conditions:
              - type: io.kestra.plugin.core.condition.MultipleCondition
                id: loaded
                timeWindow:
                  window: PT24H
                conditions:
                  orders:
                    type: io.kestra.plugin.core.condition.ExecutionFlow
                    namespace: company.team
                    flowId: load_orders
                  greeting:
                    type: io.kestra.plugin.core.condition.ExecutionFlow
                    namespace: company.team
                    flowId: greet
    """

    deprecated: ClassVar[Mapping[str, str]] = {
        "window": "Use timeWindow.window.",
        "windowAdvance": "Use timeWindow.windowAdvance.",
    }

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
            extra={"code": "condition.id", "hint": "Use letters, digits, '-' and '_', with a letter or digit first."},
        ),
    ]
    time_window: TimeWindow | None = None
    window: timedelta | None = None
    window_advance: timedelta | None = None
    reset_on_success: bool = True
    conditions: dict[str, Condition]

    def problems(self) -> Iterator[Problem]:
        """Nothing to happen."""
        if not self.conditions:
            yield Problem(
                "There are no conditions.", "Give at least one, under a name.", "property.length", ("conditions",)
            )

    @property
    def span(self) -> TimeWindow:
        """The span of time, as either form gives it."""
        if self.time_window is not None:
            return self.time_window
        return TimeWindow(window=self.window, window_advance=self.window_advance)

    def rules(self) -> Mapping[str, Callable[[ConditionContext], bool]]:
        """What has to happen."""
        return {name: condition.test for name, condition in self.conditions.items()}

    def test(self, context: ConditionContext) -> bool:
        """Test all of them on one execution."""
        return all(condition.test(context) for condition in self.conditions.values())
