"""Triggers: by a schedule, on given dates, by executions of other flows, by a web request. All pure.

The scheduler asks them when something is due and starts what they want; nothing here reads a clock or a record.
"""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, assert_never, cast

import msgspec

from tercel.errors import UserError
from tercel.model.catalog import plugin
from tercel.model.condition import Condition, ConditionContext, TimeWindow, Windowed
from tercel.model.cron import Cron
from tercel.model.dates import find_zone, parse_instant
from tercel.model.state import State
from tercel.model.storable import storable_problem
from tercel.model.task import Dynamic, Labels, Part, Problem
from tercel.model.trigger import DateContext, DatedTrigger, ReactingTrigger, RequestedTrigger

_OLD = "io.kestra.core.models.triggers.types"
_NEW = "io.kestra.plugin.core.trigger"


class _InZone(DatedTrigger, frozen=True, kw_only=True):
    """A trigger whose dates are meant in a time zone.

    Attributes:
        timezone: name of the time zone, such as `Europe/Paris`; the server's where it is not given.
    """

    timezone: str | None = None

    def problems(self) -> Iterator[Problem]:
        """What all triggers check, and a time zone that there is not."""
        yield from super().problems()
        if self.timezone is not None and find_zone(self.timezone) is None:
            message = f"There is no time zone {self.timezone!r}."
            yield Problem(message, "Write a region such as Europe/Paris, or UTC.", "timezone", ("timezone",))

    def zone(self, context: DateContext) -> tzinfo:
        """The time zone that its dates are meant in."""
        return context.zone if self.timezone is None else find_zone(self.timezone) or context.zone


@plugin(f"{_NEW}.Schedule", aliases=[f"{_OLD}.Schedule"])
class Schedule(_InZone, frozen=True, kw_only=True):
    """Start executions by a cron expression.

    Where the clocks are changed, a fixed time of the day that they skip comes right after the gap, and one that they
    show twice comes once.

    Attributes:
        cron: minute, hour, day of the month, month and day of the week, or a nickname such as `@daily`.
        with_seconds: `cron` begins with a field for the second.
        late_maximum_delay: a date that could not be started for so long is left out.
        schedule_conditions: former name of `conditions`; where both are given, all have to hold.
        backfill: former way to ask for dates in the past.

    Example:
        inputs:
          - id: region
            type: STRING
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: workdays
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "30 6 * * MON-FRI"
            timezone: Europe/Paris
            recoverMissedSchedules: LAST
            inputs:
              region: eu
    """

    deprecated: ClassVar[Mapping[str, str]] = {
        "scheduleConditions": "Use conditions.",
        "backfill": "It does nothing: ask the server for a backfill instead.",
    }

    cron: str
    with_seconds: bool = False
    late_maximum_delay: timedelta | None = None
    schedule_conditions: list[Condition] = []
    backfill: dict[str, object] | None = None

    def problems(self) -> Iterator[Problem]:
        """What all triggers check, and a cron expression that is none."""
        yield from super().problems()
        try:
            _cron(self.cron, self.with_seconds)
        except UserError as error:
            yield Problem(error.message, error.hint, "schedule.cron", ("cron",))

    def tested_conditions(self) -> Sequence[Condition]:
        """The conditions under both names."""
        return (*self.conditions, *self.schedule_conditions)

    def dates(self, context: DateContext, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        """The dates of the cron expression."""
        return _cron(self.cron, self.with_seconds).dates(start, self.zone(context), backwards=backwards)

    def not_before(self, now: datetime) -> datetime | None:
        """Dates longer ago than `lateMaximumDelay` are too late."""
        return None if self.late_maximum_delay is None else now - self.late_maximum_delay


@lru_cache(maxsize=1024)
def _cron(text: str, with_seconds: bool) -> Cron:
    return Cron(text, with_seconds=with_seconds)


@plugin(f"{_NEW}.ScheduleOnDates")
class ScheduleOnDates(_InZone, frozen=True, kw_only=True):
    """Start one execution at each of some dates.

    Attributes:
        dates_: the dates, or an expression that gives a JSON list of them; without an offset they are in `timezone`.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Due at {{ trigger.date }}."
        triggers:
          - id: closing_days
            type: io.kestra.plugin.core.trigger.ScheduleOnDates
            timezone: Europe/Paris
            dates:
              - "2031-03-31T18:00:00"
              - "2031-06-30T18:00:00"
    """

    dates_: list[Dynamic] | Dynamic = msgspec.field(name="dates")

    def problems(self) -> Iterator[Problem]:
        """What all triggers check, and dates that are none."""
        yield from super().problems()
        for index, text in enumerate(self.dates_ if isinstance(self.dates_, list) else ()):
            if "{" in text:
                continue
            try:
                parse_instant(text)
            except UserError as error:
                yield Problem(error.message, error.hint, "property.type", ("dates", index))

    def dates(self, context: DateContext, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        """The dates, rendered. Raises UserError where one of them is no date."""
        zone = self.zone(context)
        dates = {parse_instant(text, zone).astimezone(UTC) for text in self._texts(context)}
        for date in sorted(dates, reverse=backwards):
            if date < start if backwards else date > start:
                yield date.astimezone(zone)

    def schedule_date(self, date: datetime) -> datetime | None:
        """The date itself."""
        return date

    def _texts(self, context: DateContext) -> Sequence[str]:
        if isinstance(self.dates_, list):
            return [context.render(text, {}) for text in self.dates_]
        rendered = context.render(self.dates_, {})
        try:
            return msgspec.json.decode(rendered, type=list[str])
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise UserError(
                f"The dates of the trigger {self.id} are no list: {rendered[:60]!r}.",
                'Write an expression that gives one, such as ["2030-01-31T12:00:00Z"].',
            ) from None


class UpstreamFlow(Part, frozen=True, kw_only=True):
    """A flow of which an execution has to end.

    Attributes:
        namespace: of the flow.
        flow_id: id of the flow; any of the namespace where it is not given.
        states: the states to end in; any where none is given.
        labels: the execution has all of these.
    """

    namespace: str
    flow_id: str | None = None
    states: list[State] = []
    labels: Labels = {}

    def test(self, context: ConditionContext) -> bool:
        """Say whether an execution is one of those meant."""
        execution = context.execution
        return (
            execution is not None
            and execution.namespace == self.namespace
            and (self.flow_id is None or execution.flow_id == self.flow_id)
            and (not self.states or execution.state in self.states)
            and self.labels.items() <= execution.labels.items()
        )


FilterType = Literal[
    "EQUAL_TO",
    "NOT_EQUAL_TO",
    "IS_TRUE",
    "IS_FALSE",
    "IS_NULL",
    "IS_NOT_NULL",
    "STARTS_WITH",
    "ENDS_WITH",
    "REGEX",
    "CONTAINS",
    "IN",
    "NOT_IN",
]
_LISTED = ("IN", "NOT_IN")
_OF_EXPRESSIONS = ("IS_TRUE", "IS_FALSE", "IS_NULL", "IS_NOT_NULL")


class ExecutionFilter(Part, frozen=True, kw_only=True):
    """A test of one thing about an execution.

    Attributes:
        field: what is looked at; an EXPRESSION is the `value` itself, which is rendered.
        type: how.
        value: what it is compared with; all types but IN and NOT_IN.
        values: what it is compared with; IN and NOT_IN.
    """

    field: Literal["FLOW_ID", "NAMESPACE", "STATE", "EXPRESSION"]
    type: FilterType
    value: Dynamic | None = None
    values: list[Dynamic] | None = None

    def problems(self) -> Iterator[Problem]:
        """What the type needs and does not have, and expressions that are compared with nothing."""
        code = "precondition.filter"
        wanted, unwanted = ("values", "value") if self.type in _LISTED else ("value", "values")
        if not getattr(self, wanted):
            yield Problem(f"A filter {self.type} needs '{wanted}'.", f"Add '{wanted}'.", f"{code}.{wanted}", (wanted,))
        if getattr(self, unwanted) is not None:
            message = f"A filter {self.type} has no '{unwanted}'."
            yield Problem(message, f"Use '{wanted}'.", f"{code}.{unwanted}", (unwanted,))
        if self.field == "EXPRESSION" and self.type not in _OF_EXPRESSIONS:
            message = f"There is nothing to compare an EXPRESSION with by {self.type}."
            hint = f"Write the comparison into the expression, and use one of {', '.join(_OF_EXPRESSIONS)}."
            yield Problem(message, hint, f"{code}.type", ("type",))
        if self.type == "REGEX" and self.value is not None and "{" not in self.value:
            try:
                re.compile(self.value)
            except re.error as error:
                message = f"{self.value!r} is not a regular expression: {error.msg}."
                yield Problem(message, "", f"{code}.value", ("value",))

    def test(self, context: ConditionContext) -> bool:
        """Say whether it holds for an execution."""
        execution = context.execution
        if execution is None:
            return False
        value = "" if self.value is None else context.render(self.value, {})
        match self.field:
            case "EXPRESSION":
                found = value
            case "FLOW_ID":
                found = execution.flow_id
            case "NAMESPACE":
                found = execution.namespace
            case "STATE":
                found = execution.state.value
        match self.type:
            case "EQUAL_TO":
                return found == value
            case "NOT_EQUAL_TO":
                return found != value
            case "IS_TRUE":
                return found.strip() not in {"", "false"}
            case "IS_FALSE":
                return found.strip() in {"", "false"}
            case "IS_NULL":
                return not found.strip()
            case "IS_NOT_NULL":
                return bool(found.strip())
            case "STARTS_WITH":
                return found.startswith(value)
            case "ENDS_WITH":
                return found.endswith(value)
            case "REGEX":
                return _matches(value, found)
            case "CONTAINS":
                return value in found
            case "IN" | "NOT_IN":
                is_listed = found in [context.render(one, {}) for one in self.values or ()]
                return is_listed is (self.type == "IN")
            case _:
                assert_never(self.type)


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error as error:
        raise UserError(f"{pattern!r} is not a regular expression: {error.msg}.") from None


class FilterGroup(Part, frozen=True, kw_only=True):
    """Several tests of one execution.

    Attributes:
        id: name of the tests, their own in the trigger.
        operand: all of the filters have to hold, or one of them.
        filters: the tests.
    """

    id: str
    operand: Literal["AND", "OR"] = "AND"
    filters: Annotated[list[ExecutionFilter], msgspec.Meta(min_length=1, extra={"hint": "Give at least one filter."})]

    def test(self, context: ConditionContext) -> bool:
        """Say whether they hold for an execution."""
        return (all if self.operand == "AND" else any)(one.test(context) for one in self.filters)


class Preconditions(Part, frozen=True, kw_only=True):
    """What has to happen, each by some execution, within one span of time.

    Attributes:
        id: name of the preconditions.
        time_window: the span of time; a day, from midnight on, where it is not given.
        reset_on_success: after an execution was started all has to happen anew.
        flows: of each of these an execution has to end.
        where: each of these has to hold for some execution.
    """

    id: str
    time_window: TimeWindow | None = None
    reset_on_success: bool = True
    flows: list[UpstreamFlow] = []
    where: list[FilterGroup] = []

    def problems(self) -> Iterator[Problem]:
        """Nothing to happen, and tests of the same name."""
        if not self.flows and not self.where:
            yield Problem("There is nothing to wait for.", "Give 'flows', or 'where', or both.", "property.missing")
        ids = [one.id for one in self.where]
        for index, id in enumerate(ids):
            if id in ids[:index]:
                message = f"The id '{id}' is used already, by where[{ids.index(id)}]."
                yield Problem(message, "Give each its own.", "precondition.where.duplicate", ("where", index, "id"))

    @property
    def span(self) -> TimeWindow:
        """The span of time."""
        return self.time_window or TimeWindow()

    def rules(self) -> Mapping[str, Callable[[ConditionContext], bool]]:
        """What has to happen."""
        flows = {f"flows[{index}]": flow.test for index, flow in enumerate(self.flows)}
        return flows | {f"where.{one.id}": one.test for one in self.where}


@plugin(f"{_NEW}.Flow", aliases=[f"{_OLD}.Flow"])
class FlowTrigger(ReactingTrigger, frozen=True, kw_only=True):
    """Start an execution when one of another flow has ended, or come into another state.

    Attributes:
        preconditions: what has to happen besides, each by some execution, within one span of time.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: Both are there.
        triggers:
          - id: after_both
            type: io.kestra.plugin.core.trigger.Flow
            preconditions:
              id: loaded
              timeWindow:
                type: DURATION_WINDOW
                window: PT24H
              flows:
                - namespace: company.team
                  flowId: load_orders
                  states: [SUCCESS]
                - namespace: company.team
                  flowId: greet
                  states: [SUCCESS, WARNING]
    """

    preconditions: Preconditions | None = None

    def cautions(self) -> Iterator[Problem]:
        """A trigger that every execution sets off."""
        if not self.conditions and self.preconditions is None:
            message = f"The trigger '{self.id}' fires for every execution of every other flow."
            hint = "Give it conditions, or preconditions, that say which are meant."
            yield Problem(message, hint, "trigger.flow.everything")

    def tested_conditions(self) -> Sequence[Condition]:
        """The conditions that have to hold for the execution that changed."""
        return [condition for condition in self.conditions if not _is_windowed(condition)]

    def windowed(self) -> Sequence[Windowed]:
        """The preconditions, and conditions that collect what happens."""
        old = [cast("Windowed", condition) for condition in self.conditions if _is_windowed(condition)]
        return old if self.preconditions is None else [self.preconditions, *old]


def _is_windowed(condition: Condition) -> bool:
    return callable(getattr(condition, "rules", None))


@plugin(f"{_NEW}.Webhook", aliases=[f"{_OLD}.Webhook"])
class Webhook(RequestedTrigger, frozen=True, kw_only=True):
    """Start an execution by a web request that knows the key.

    Example:
        tasks:
          - id: hello
            type: io.kestra.plugin.core.log.Log
            message: "Order {{ trigger.body.order }}"
        triggers:
          - id: ordered
            type: io.kestra.plugin.core.trigger.Webhook
            key: "{{ secret('WEBHOOK_KEY') }}"
    """

    def problems(self) -> Iterator[Problem]:
        """What all triggers check, the key, and conditions that need several executions."""
        yield from super().problems()
        hint = "Give it a key of at most 256 characters that nobody guesses."
        if not self.key:
            yield Problem("A webhook needs a key.", hint, "webhook.key", ("key",))
        elif len(self.key) > _LONGEST_KEY:
            yield Problem(f"The key has {len(self.key)} characters.", hint, "webhook.key", ("key",))
        for index, condition in enumerate(self.conditions):
            if _has_windowed(condition):
                message = "A webhook cannot wait for several executions."
                yield Problem(message, "Remove this condition.", "webhook.multipleCondition", ("conditions", index))

    def admits(self, key: str, given: str) -> bool:
        """Say whether a request has the key; takes the same time however much of it is right."""
        return bool(key) and hmac.compare_digest(key.encode(), given.encode())

    def variables(
        self, body: str, headers: Mapping[str, Sequence[str]], parameters: Mapping[str, Sequence[str]]
    ) -> dict[str, object]:
        """What executions see as `trigger`: the body, read where it is a JSON object or list, and all else of it."""
        return {
            "body": _json_or_text(body),
            "headers": {name: list(values) for name, values in headers.items()},
            "parameters": {name: list(values) for name, values in parameters.items()},
        }


_LONGEST_KEY = 256


def _json_or_text(body: str) -> object:
    if body.lstrip()[:1] not in {"{", "["}:
        return body
    try:
        read = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    return body if storable_problem(read) is not None else read


def _has_windowed(condition: Condition) -> bool:
    if _is_windowed(condition):
        return True
    inner = getattr(condition, "conditions", ())
    return isinstance(inner, list) and any(_has_windowed(one) for one in cast("list[Condition]", inner))
