"""Trigger: what every trigger shares, and what each kind of trigger has to say to the scheduler.

Pure. A kind is how a trigger comes to start an execution: by dates, by changes of other executions, by web requests.
Triggers that are asked again and again do I/O: their base is `PollingTrigger` in `plugin_api.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, ClassVar, Literal

import msgspec

from tercel.errors import UserError
from tercel.model.condition import Basis, Condition, ConditionContext, FlowName, Windowed
from tercel.model.dates import offset_text
from tercel.model.labels import label_problems
from tercel.model.state import TERMINAL, State
from tercel.model.task import Dynamic, Labels, LogLevel, Part, Problem, WorkerGroup


class Trigger(Part, frozen=True, kw_only=True):
    """What starts executions of a flow by itself.

    Attributes:
        id: name of the trigger, its own in the flow.
        type: full name of the trigger's type.
        description: for readers, in Markdown.
        conditions: have to hold, all of them, or nothing is started.
        disabled: nothing is started.
        labels: given to every execution that it starts; rendered, and left out where that fails.
        stop_after: the trigger is disabled once an execution that it started ends in one of these states.
        worker_group: which workers may evaluate the trigger.
        log_level: least level that is kept of the trigger's log.
        log_to_file: the log goes to a file in internal storage.
    """

    family: ClassVar[str] = "trigger"
    former_names: ClassVar[Mapping[str, str]] = {"minLogLevel": "logLevel"}
    without_effect: ClassVar[Mapping[str, str]] = {"logToFile": "What goes wrong is told by the log of the server."}

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
            extra={
                "code": "trigger.id",
                "hint": "Use letters, digits, '-' and '_', with a letter or digit first.",
            },
        ),
    ]
    type: str
    description: str | None = None
    conditions: list[Condition] = []
    disabled: bool = False
    labels: Labels = {}
    stop_after: list[State] = []
    worker_group: WorkerGroup | None = None
    log_level: LogLevel | None = None
    log_to_file: bool = False

    def problems(self) -> Iterator[Problem]:
        """Labels that are reserved."""
        yield from label_problems(self.labels)

    def tested_conditions(self) -> Sequence[Condition]:
        """The conditions that have to hold, under whatever names they are written."""
        return self.conditions


class DateContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a trigger that goes by dates sees.

    Attributes:
        flow: the flow that it belongs to.
        zone: the time zone where it names none.
        render: as in `ConditionContext`.
    """

    flow: FlowName
    zone: tzinfo
    render: Callable[[str, Mapping[str, object]], str]


class TimedTrigger(Trigger, frozen=True, kw_only=True):
    """Is looked at when its time has come."""

    def zone(self, context: DateContext) -> tzinfo:
        """The time zone that its dates are meant in."""
        return context.zone

    def holds_at(self, context: DateContext, date: datetime) -> bool:
        """Say whether all conditions hold at *date*. Raises UserError where that cannot be said."""
        seen = self.condition_context(context, date)
        return all(condition.test(seen) for condition in self.tested_conditions())

    def condition_context(self, context: DateContext, date: datetime) -> ConditionContext:
        """What its conditions see at *date*."""
        local = date.astimezone(self.zone(context))
        trigger = {"id": self.id, "type": self.type, "date": offset_text(local)}
        return ConditionContext(
            flow=context.flow,
            render=lambda text, extra: context.render(text, {"trigger": trigger, **extra}),
            date=local,
        )


class DatedTrigger(TimedTrigger, frozen=True, kw_only=True):
    """Starts an execution at each of its dates.

    Attributes:
        inputs: of the executions; rendered.
        recover_missed_schedules: which of the dates that passed while nothing was there to start them are made up for:
            all of them, one by one, the last one, or none; as the server is set where it is not given.
    """

    inputs: dict[str, object] = {}
    recover_missed_schedules: Literal["ALL", "LAST", "NONE"] | None = None

    def dates(self, context: DateContext, start: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        """Its dates after *start*, or those before it, nearest first, whatever the conditions; in its time zone."""
        raise NotImplementedError

    def schedule_date(self, date: datetime) -> datetime | None:
        """What executions of *date* name as the date that they were planned for."""
        return None

    def not_before(self, now: datetime) -> datetime | None:
        """Dates before this one are too late to be started; None where none is."""
        return None

    def next_date(self, context: DateContext, after: datetime) -> datetime | None:
        """The next date to look at after *after*, in UTC; None where there is none within ten years.

        Dates at which conditions cannot hold are left out, as far as the date alone decides that; whether all
        conditions hold is to be asked when the date has come. After a long search in vain it is a date at which to
        search on.
        """
        fixed = [condition for condition in self.tested_conditions() if condition.basis() is not Basis.ALL]
        date, _ = self._search(context, after, fixed)
        return None if date is None else date.astimezone(UTC)

    def last_date(self, context: DateContext, before: datetime) -> datetime | None:
        """The last date before *before* at which all conditions hold, in UTC; None where none is found."""
        date, is_found = self._search(context, before, self.tested_conditions(), backwards=True)
        return date.astimezone(UTC) if date is not None and is_found else None

    def variables(self, context: DateContext, date: datetime) -> dict[str, object]:
        """What executions of *date* see as `trigger`.

        The date, and those next to it at which the conditions hold, as texts in the trigger's time zone.
        """
        local = date.astimezone(self.zone(context))
        seen: dict[str, object] = {"date": offset_text(local)}
        for name, backwards in (("next", False), ("previous", True)):
            other, is_found = self._search(context, local, self.tested_conditions(), backwards=backwards)
            if other is not None and is_found:
                seen[name] = offset_text(other)
        return seen

    def _search(
        self, context: DateContext, start: datetime, conditions: Sequence[Condition], *, backwards: bool = False
    ) -> tuple[datetime | None, bool]:
        """The nearest date at which *conditions* hold, and True; where the search gave up, the last date looked at.

        A date at which a condition cannot be tested counts as one at which it holds: so the error comes to light.
        """
        dates = self.dates(context, start, backwards=backwards)
        last: datetime | None = None
        for _ in range(_MOST_DATES):
            last = next(dates, None)
            if last is None or abs(last - start) > _LONGEST_SEARCH:
                return None, False
            basis = self._fails_by(context, last, conditions) if conditions else None
            if basis is None:
                return last, True
            if basis is Basis.DAY:
                dates = self.dates(context, _edge_of_day(last, backwards=backwards), backwards=backwards)
        return last, False

    def _fails_by(self, context: DateContext, date: datetime, conditions: Sequence[Condition]) -> Basis | None:
        """What decides the condition that does not hold at *date*; None where all do."""
        seen = self.condition_context(context, date)
        try:
            return min((one.basis() for one in conditions if not one.test(seen)), default=None)
        except UserError:
            return None


_MOST_DATES = 10_000
"""Dates that one search looks at; with the commonest conditions it takes half a second."""

_LONGEST_SEARCH = timedelta(days=3653)


def _edge_of_day(date: datetime, *, backwards: bool) -> datetime:
    """What all other dates of the day of *date* lie on the near side of."""
    midnight = date.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return midnight if backwards else midnight + timedelta(days=1, microseconds=-1)


class ReactingTrigger(Trigger, frozen=True, kw_only=True):
    """Starts an execution when one of another flow changes its state.

    Attributes:
        states: the states to react to; without any, every state that an execution ends in.
        inputs: of the executions; rendered, `trigger.outputs` being the outputs of the execution that changed.
    """

    states: list[State] = []
    inputs: dict[str, object] = {}

    def reacts_to(self, state: State) -> bool:
        """Say whether the trigger looks at executions that come into *state*."""
        return state in (self.states or TERMINAL)

    def windowed(self) -> Sequence[Windowed]:
        """What has to happen within spans of time, besides the conditions."""
        return ()


class RequestedTrigger(Trigger, frozen=True, kw_only=True):
    """Starts an execution for each web request that knows its key.

    Attributes:
        key: what the address of the request has to end with; it is as good as a password.
    """

    key: Dynamic | None = None

    def admits(self, key: str, given: str) -> bool:
        """Say whether a request has the key; takes the same time however much of it is right.

        Args:
            key: the trigger's own, rendered.
            given: the one of the request.
        """
        raise NotImplementedError

    def variables(
        self, body: str, headers: Mapping[str, Sequence[str]], parameters: Mapping[str, Sequence[str]]
    ) -> dict[str, object]:
        """What executions see as `trigger`."""
        raise NotImplementedError

    def holds_for(self, context: ConditionContext) -> bool:
        """Say whether all conditions hold. Raises UserError where that cannot be said."""
        return all(condition.test(context) for condition in self.tested_conditions())
