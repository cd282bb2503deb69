"""Condition: what every condition shares and what it sees; and spans of time in which several things have to happen.

Pure. Conditions stand on triggers and on listeners; what a condition does is in `plugins/conditions.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import IntEnum
from typing import ClassVar, Literal, NamedTuple, Protocol

import msgspec

from tercel.model.execution import Execution, TaskRun
from tercel.model.task import Part, Problem


class FlowName(NamedTuple):
    """Which flow is meant."""

    namespace: str
    id: str


class ConditionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a condition is tested on.

    Attributes:
        flow: the flow that the trigger or listener belongs to.
        render: renders a text with the variables at hand, and with further ones that win over them; raises
            ExpressionError.
        date: the date in question, aware, in the trigger's time zone; None where there is none.
        execution: the execution in question; None on schedules.
        runs: its task runs.
    """

    flow: FlowName
    render: Callable[[str, Mapping[str, object]], str]
    date: datetime | None = None
    execution: Execution | None = None
    runs: Sequence[TaskRun] = ()


class Basis(IntEnum):
    """What decides whether a condition holds, and so how long an answer stays true."""

    DAY = 0
    """The day of the date alone: the same for all dates of a day."""
    DATE = 1
    """The date alone."""
    ALL = 2
    """Anything: it has to be tested at the time."""


class Condition(Part, frozen=True, kw_only=True):
    """What has to hold before a trigger starts an execution, or a listener runs."""

    family: ClassVar[str] = "condition"

    type: str

    def test(self, context: ConditionContext) -> bool:
        """Say whether it holds. Raises UserError where that cannot be said."""
        raise NotImplementedError

    def basis(self) -> Basis:
        """What decides it."""
        return Basis.ALL


class TimeWindow(Part, frozen=True, kw_only=True):
    """The span of time in which several things have to happen.

    Attributes:
        type: whether spans follow each other from midnight on, begin with the first thing that happens, end at a time
            of the day, or lie between two times of each day.
        window: DURATION_WINDOW, SLIDING_WINDOW: how long a span is; a day where it is not given.
        window_advance: DURATION_WINDOW: how much later than midnight spans begin; may be negative.
        deadline: DAILY_TIME_DEADLINE: when the span ends that begins at midnight.
        start_time: DAILY_TIME_WINDOW: when it begins.
        end_time: DAILY_TIME_WINDOW: when it ends; on the next day where that is not later than `startTime`.
    """

    type: Literal["DURATION_WINDOW", "SLIDING_WINDOW", "DAILY_TIME_DEADLINE", "DAILY_TIME_WINDOW"] = "DURATION_WINDOW"
    window: timedelta | None = None
    window_advance: timedelta | None = None
    deadline: time | None = None
    start_time: time | None = None
    end_time: time | None = None

    def problems(self) -> Iterator[Problem]:
        """Properties that the type does not have, and those that it needs."""
        given = {"window": self.window, "windowAdvance": self.window_advance, "deadline": self.deadline}
        given |= {"startTime": self.start_time, "endTime": self.end_time}
        needed, allowed = _FIELDS[self.type]
        for name, value in given.items():
            if value is None and name in needed:
                message = f"A time window of type {self.type} needs '{name}'."
                yield Problem(message, f"Add '{name}', such as 09:00:00.", f"timeWindow.{name}", (name,))
            elif value is not None and name not in needed and name not in allowed:
                message = f"A time window of type {self.type} has no '{name}'."
                yield Problem(message, "Remove it, or name another type.", f"timeWindow.{name}", (name,))
        if self.window is not None and self.window <= timedelta(0):
            message = "'window' is not longer than nothing."
            yield Problem(message, "Write a duration such as PT6H.", "timeWindow.window", ("window",))

    def span_at(self, now: datetime, zone: tzinfo) -> tuple[datetime, datetime] | None:
        """The span that *now* lies in, or that begins now; its end is not part of it.

        Args:
            now: when something happened, aware.
            zone: in which midnight and times of day are meant, unless they have an offset.

        Returns:
            Start and end in UTC; None where *now* lies outside of every span.
        """
        match self.type:
            case "SLIDING_WINDOW":
                return now.astimezone(UTC), now.astimezone(UTC) + (self.window or _DAY)
            case "DURATION_WINDOW":
                return self._aligned(now, zone)
            case "DAILY_TIME_DEADLINE":
                deadline = self.deadline or time()
                return _daily(now, zone, time(tzinfo=deadline.tzinfo), deadline)
            case "DAILY_TIME_WINDOW":
                return _daily(now, zone, self.start_time or time(), self.end_time or time())

    def _aligned(self, now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
        window = self.window or _DAY
        local = now.astimezone(zone).replace(tzinfo=None)
        first = datetime.combine(local.date(), time()) + (self.window_advance or timedelta(0))
        start = first + (local - first) // window * window
        return _instant(start, zone), _instant(start + window, zone)


_DAY = timedelta(days=1)
_FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "DURATION_WINDOW": ((), ("window", "windowAdvance")),
    "SLIDING_WINDOW": ((), ("window",)),
    "DAILY_TIME_DEADLINE": (("deadline",), ()),
    "DAILY_TIME_WINDOW": (("startTime", "endTime"), ()),
}


def _daily(now: datetime, zone: tzinfo, start: time, end: time) -> tuple[datetime, datetime] | None:
    """The span that *now* lies in, of those from *start* to *end* of each day, or to *end* of the next day."""
    today = now.astimezone(start.tzinfo or zone).date()
    for day in (today, today - _DAY):
        first = _instant(datetime.combine(day, start), zone)
        last = _instant(datetime.combine(day, end), zone)
        if last <= first:
            last = _instant(datetime.combine(day + _DAY, end), zone)
        if first <= now < last:
            return first, last
    return None


def _instant(local: datetime, zone: tzinfo) -> datetime:
    return local.replace(tzinfo=local.tzinfo or zone).astimezone(UTC)


class Windowed(Protocol):
    """Several things that have to happen, each by some execution, within one span of time."""

    @property
    def id(self) -> str:
        """Unlike that of the trigger's other ones."""
        ...

    @property
    def reset_on_success(self) -> bool:
        """Whether all has to happen anew once it has led to an execution."""
        ...

    @property
    def span(self) -> TimeWindow:
        """The span of time."""
        ...

    def rules(self) -> Mapping[str, Callable[[ConditionContext], bool]]:
        """What has to happen: names to tests of an execution, which raise UserError where nothing can be said."""
        ...
