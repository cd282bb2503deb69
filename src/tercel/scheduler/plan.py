"""A trigger's state and how it goes on: what is due, what is next, what was missed, backfills. Pure.

Every function takes the state as it is and gives it as it should be, in its next version; nothing is written here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Literal, cast

import msgspec
from msgspec.structs import replace

from tercel.errors import ConflictError, UserError
from tercel.model.flow import Flow
from tercel.model.jobs import TriggerResult
from tercel.model.labels import label_problems
from tercel.model.shapes import shape_of
from tercel.model.state import State
from tercel.model.task import Part
from tercel.model.trigger import DateContext, DatedTrigger, Trigger
from tercel.plugin_api import PollingTrigger
from tercel.store import TriggerKey, TriggerState

Recovery = Literal["ALL", "LAST", "NONE"]
"""Which missed dates are made up for."""

_LATE = timedelta(seconds=10)
"""A date this young is late, not missed: another scheduler may be about to start it."""

_MOST_SKIPPED = 1000
"""Dates at which the conditions do not hold that are passed over between two looks at what else is due."""

_TICK = timedelta(microseconds=1)


class Backfill(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Dates in the past that are made up for because somebody asked for it; instants are aware UTC.

    Attributes:
        start: the first date is not before it.
        end: the last date is not after it.
        current_date: the date to start next.
        paused: nothing is started for it; the trigger's other dates are.
        inputs: on top of the trigger's.
        labels: on top of the trigger's.
        previous_next_execution_date: the date that the trigger goes on with after the last one.
    """

    start: datetime
    end: datetime
    current_date: datetime
    paused: bool = False
    inputs: dict[str, object] = {}
    labels: dict[str, str] = {}
    previous_next_execution_date: datetime | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A polling trigger is being evaluated; while it is, nobody else evaluates it.

    Attributes:
        owner: the process that does.
        execution_id: of the execution that it starts, should it start one; no other evaluation has the same.
        started_at: when it began, aware UTC.
    """

    owner: str
    execution_id: str
    started_at: datetime


class Detail(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a trigger's state keeps besides.

    Attributes:
        definition: tells whether the trigger has been changed in its flow since.
        date: the date that an execution was started for last, aware UTC.
        triggered_at: when that was, aware UTC.
        evaluation: the one under way of a polling trigger.
        evaluated_at: when the last one ended, aware UTC.
        problem: why the last one failed; empty where it did not.
        memory: what a polling trigger keeps for itself.
        settle_at: when it is to be settled what an evaluation has found, aware UTC; None where nothing is.
    """

    definition: str = ""
    date: datetime | None = None
    triggered_at: datetime | None = None
    backfill: Backfill | None = None
    evaluation: Evaluation | None = None
    evaluated_at: datetime | None = None
    problem: str = ""
    memory: dict[str, object] = {}
    settle_at: datetime | None = None


def detail_of(state: TriggerState) -> Detail:
    """What *state* keeps besides."""
    return msgspec.convert(state.detail, Detail)


def backfill_of(state: TriggerState) -> Backfill | None:
    """The backfill under way or paused; None where there is none."""
    return detail_of(state).backfill


def last_date_of(state: TriggerState) -> datetime | None:
    """The date that an execution was started for last, aware UTC; None where none was."""
    return detail_of(state).date


def evaluation_of(state: TriggerState) -> Evaluation | None:
    """The evaluation under way; None where there is none."""
    return detail_of(state).evaluation if "evaluation" in state.detail else None


def problem_of(state: TriggerState) -> str:
    """Why the last evaluation failed; empty where it did not."""
    return detail_of(state).problem


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a trigger whose time has come.

    Attributes:
        state: how it goes on; the lock is not set.
        date: start an execution for this date; None to start none.
        error: why that cannot be started; None where it can.
        backfill: the one that the date belongs to; None where it belongs to none.
        evaluates: a worker has to say what comes of it; the state is as it was.
    """

    state: TriggerState
    date: datetime | None = None
    error: UserError | None = None
    backfill: Backfill | None = None
    evaluates: bool = False


class Plan:
    """One trigger of one flow.

    Args:
        flow: the latest revision.
        trigger: of that flow.
        context: what it sees where it goes by dates.
        warn: is told why it has no dates where that cannot be said.
    """

    def __init__(self, flow: Flow, trigger: Trigger, context: DateContext, warn: Callable[[str], object]) -> None:
        self.flow = flow
        self.trigger = trigger
        self.context = context
        self._warn = warn
        self._definition = _definition(flow, trigger)

    @property
    def key(self) -> TriggerKey:
        """What tells the trigger from all others."""
        return self.flow.namespace, self.flow.id, self.trigger.id

    @property
    def is_on(self) -> bool:
        """Whether the flow has it enabled."""
        return not self.flow.disabled and not self.trigger.disabled

    # The flow changes

    def first(self, now: datetime) -> TriggerState:
        """The state of a trigger that is new."""
        namespace, flow_id, trigger_id = self.key
        return TriggerState(
            namespace=namespace,
            flow_id=flow_id,
            trigger_id=trigger_id,
            type=self.trigger.type,
            revision=self.flow.revision,
            next_at=self._next(now) if self.is_on else None,
            detail=_plain(Detail(definition=self._definition)),
            updated_at=now,
        )

    def is_changed(self, state: TriggerState) -> bool:
        """Say whether the flow now says something else about the trigger than it did."""
        return detail_of(state).definition != self._definition

    def changed(self, state: TriggerState, now: datetime) -> TriggerState:
        """Begin anew, as the flow says something else; the lock, a backfill and what people disabled stay."""
        detail = replace(detail_of(state), definition=self._definition)
        renewed = replace(state, type=self.trigger.type, revision=self.flow.revision)
        return self._restarted(renewed, detail, now)

    def _restarted(self, state: TriggerState, detail: Detail, now: datetime) -> TriggerState:
        """Go on from *now*: dates before that were not missed, and of an evaluation under way nothing is taken."""
        detail = replace(detail, evaluation=None)
        if not self.is_on or state.disabled:
            return _written(state, now, detail, next_at=None)
        next_at, backfill = self._next(now), detail.backfill
        if backfill is None or backfill.paused:
            return _written(state, now, detail, next_at=next_at)
        date = self._next(backfill.current_date - _TICK)
        if date is None or date > backfill.end:
            return _written(state, now, replace(detail, backfill=None), next_at=next_at)
        going_on = replace(backfill, current_date=date, previous_next_execution_date=next_at)
        return _written(state, now, replace(detail, backfill=going_on), next_at=date)

    # Time passes

    @property
    def is_polling(self) -> bool:
        """Whether a worker has to say what comes of the trigger."""
        return isinstance(self.trigger, PollingTrigger)

    def due_at(self, state: TriggerState) -> datetime | None:
        """When the trigger is to be looked at; None while something else holds it up.

        A lock for an evaluation is no matter of time: see `evaluation_of`.
        """
        if "settleAt" in state.detail and self.is_polling:
            return detail_of(state).settle_at
        if state.execution_id is not None or state.disabled:
            return None
        return state.next_at

    def missed(self, state: TriggerState, now: datetime, recovery: Recovery) -> TriggerState:
        """Pass over dates that passed while no scheduler was there, as far as the trigger, or else *recovery*, says."""
        detail = detail_of(state)
        if not isinstance(self.trigger, DatedTrigger) or _is_active(detail.backfill):
            return state
        if state.next_at is None or state.next_at >= now - _LATE:
            return state
        match self.trigger.recover_missed_schedules or recovery:
            case "ALL":
                return state
            case "NONE":
                return _written(state, now, detail, next_at=self._next(now - _LATE))
            case "LAST":
                last = self._last(now)
                if last is None or last <= state.next_at:
                    return state
                return _written(state, now, detail, next_at=last)

    def decide(self, state: TriggerState, now: datetime) -> Decision:
        """Say what comes of a state whose `due_at` is not after *now*."""
        trigger = self.trigger
        if isinstance(trigger, PollingTrigger):
            return self._look(trigger, state, now)
        detail, date = detail_of(state), state.next_at
        if not isinstance(trigger, DatedTrigger):
            date = None
        for _ in range(_MOST_SKIPPED):
            if date is None or date > now:
                break
            backfill = detail.backfill if _is_active(detail.backfill) else None
            earliest = trigger.not_before(now) if isinstance(trigger, DatedTrigger) and backfill is None else None
            if earliest is not None and date < earliest:
                date = self._next(earliest - _TICK)
                continue
            following, after = self._following(detail, date)
            error = None
            try:
                holds = cast("DatedTrigger", trigger).holds_at(self.context, date)
            except UserError as found:
                holds, error = True, found
            if holds:
                detail = replace(following, date=date, triggered_at=now)
                going_on = _written(state, now, detail, next_at=after)
                return Decision(state=going_on, date=date, error=error, backfill=backfill)
            detail, date = following, after
        return Decision(state=_written(state, now, detail, next_at=date))

    def _look(self, trigger: PollingTrigger, state: TriggerState, now: datetime) -> Decision:
        """Say whether a polling trigger is to be evaluated."""
        detail, error = detail_of(state), None
        try:
            if detail.settle_at is not None or trigger.holds_at(self.context, now):
                return Decision(state=state, evaluates=True)
        except UserError as found:
            detail, error = replace(detail, date=now, triggered_at=now), found
        detail = replace(detail, evaluation=None, evaluated_at=now)
        later = _written(state, now, detail, next_at=_after(now, trigger.interval))
        return Decision(state=later, date=None if error is None else now, error=error)

    def _following(self, detail: Detail, date: datetime) -> tuple[Detail, datetime | None]:
        """What follows *date*, and when."""
        after = self._next(date)
        backfill = detail.backfill
        if backfill is None or backfill.paused:
            return detail, after
        if after is None or after > backfill.end:
            return replace(detail, backfill=None), backfill.previous_next_execution_date
        return replace(detail, backfill=replace(backfill, current_date=after)), after

    def _next(self, after: datetime) -> datetime | None:
        if not isinstance(self.trigger, DatedTrigger):
            return after if self.is_polling else None
        try:
            return self.trigger.next_date(self.context, after)
        except UserError as error:
            self._warn(f"The trigger has no next date: {error}")
            return None

    def _last(self, now: datetime) -> datetime | None:
        try:
            return cast("DatedTrigger", self.trigger).last_date(self.context, now + _TICK)
        except UserError as error:
            self._warn(f"The trigger's last date cannot be told: {error}")
            return None

    # A worker evaluates

    def begun(self, state: TriggerState, now: datetime, *, owner: str, execution_id: str) -> TriggerState:
        """Lock the trigger for an evaluation, or for settling what one has found."""
        evaluation = Evaluation(owner=owner, execution_id=execution_id, started_at=now)
        return _written(state, now, replace(detail_of(state), evaluation=evaluation))

    def evaluated(self, state: TriggerState, now: datetime, result: TriggerResult) -> TriggerState:
        """Go on after an evaluation; where an execution is started it holds the trigger up from now on."""
        trigger = cast("PollingTrigger", self.trigger)
        detail = detail_of(state)
        execution_id = state.execution_id
        later = _after(now, trigger.interval)
        ended = replace(detail, evaluation=None, evaluated_at=now, problem=result.problem)
        if not result.problem:
            ended = replace(ended, memory=dict(result.memory))
        if result.variables is not None and detail.evaluation is not None:
            execution_id = detail.evaluation.execution_id
            ended = replace(ended, date=now, triggered_at=now, settle_at=now if trigger.settles else None)
        return _written(replace(state, execution_id=execution_id), now, ended, next_at=later)

    def settled(self, state: TriggerState, now: datetime, result: TriggerResult) -> TriggerState:
        """Go on after what an evaluation has found was to be settled; it is tried again where that failed."""
        trigger = cast("PollingTrigger", self.trigger)
        detail = replace(detail_of(state), evaluation=None, problem=result.problem)
        if result.problem:
            return _written(state, now, replace(detail, settle_at=_after(now, trigger.interval)))
        return _written(state, now, replace(detail, settle_at=None, memory=dict(result.memory)))

    # An execution ends

    def freed(self, state: TriggerState, execution_id: str, ended: State | None, now: datetime) -> TriggerState:
        """Go on after an execution of the trigger has ended, or is not there any more, *ended* being None."""
        is_stopped = ended is not None and ended in self.trigger.stop_after
        is_held = state.execution_id == execution_id
        if not is_held and (not is_stopped or state.disabled):
            return state
        freed = replace(state, execution_id=None) if is_held else state
        if is_stopped:
            freed = replace(freed, disabled=True, next_at=None)
        return _written(freed, now)

    # People decide

    def disabled(self, state: TriggerState, now: datetime, *, disabled: bool) -> TriggerState:
        """Disable the trigger, or enable it: then it goes on from *now*."""
        if state.disabled is disabled:
            return state
        changed = replace(state, disabled=disabled)
        return self._restarted(changed, detail_of(state), now)

    def unlocked(self, state: TriggerState, now: datetime) -> TriggerState:
        """Go on although the last execution, or evaluation, has not ended. Raises ConflictError where there is none."""
        detail = detail_of(state)
        if state.execution_id is None and detail.evaluation is None:
            raise ConflictError("Trigger is not locked.", "No execution of it holds it up.")
        return _written(replace(state, execution_id=None), now, replace(detail, evaluation=None))

    def restarted(self, state: TriggerState, now: datetime) -> TriggerState:
        """Go on from *now*, whatever holds the trigger up; a backfill and what people disabled stay."""
        return self._restarted(replace(state, execution_id=None), detail_of(state), now)

    def reset(self, state: TriggerState, now: datetime) -> TriggerState:
        """Begin as a trigger that is new: without lock and backfill, and enabled where the flow has it so."""
        return replace(self.first(now), version=state.version + 1)

    def backfilled(
        self,
        state: TriggerState,
        now: datetime,
        *,
        start: datetime,
        end: datetime | None = None,
        inputs: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> TriggerState:
        """Begin a backfill: every date from *start* to *end*, at most *now*, where None up to now.

        Raises:
            ConflictError: the trigger goes by no dates, is disabled, or has a backfill.
            UserError: there is no such date, or a label is reserved.
        """
        self._refuse_backfill(state)
        for problem in label_problems(labels or {}):
            raise UserError(problem.message, problem.hint)
        last = now if end is None else min(end, now)
        first = cast("DatedTrigger", self.trigger).next_date(self.context, start - _TICK)
        if first is None or first > last:
            raise UserError(
                f"The trigger {self.trigger.id} has no date from {start.isoformat()} to {last.isoformat()}.",
                "Choose another start or end.",
            )
        backfill = Backfill(
            start=start,
            end=last,
            current_date=first,
            inputs=dict(inputs or {}),
            labels=dict(labels or {}),
            previous_next_execution_date=state.next_at,
        )
        return _written(state, now, replace(detail_of(state), backfill=backfill), next_at=first)

    def _refuse_backfill(self, state: TriggerState) -> None:
        name = f"The trigger {self.trigger.id}"
        if not isinstance(self.trigger, DatedTrigger):
            raise ConflictError(f"{name} goes by no dates.", "Only a trigger with dates can be backfilled.")
        if state.disabled or not self.is_on:
            raise ConflictError(f"{name} is disabled.", "Enable it before.")
        if backfill_of(state) is not None:
            raise ConflictError(f"{name} has a backfill already.", "Delete it before.")

    def paused(self, state: TriggerState, now: datetime, *, paused: bool) -> TriggerState:
        """Pause the backfill, whereupon the trigger's other dates go on, or continue it.

        Raises:
            ConflictError: there is none.
        """
        detail, backfill = self._backfill(state)
        if backfill.paused is paused:
            return state
        resumed = replace(backfill, paused=paused, previous_next_execution_date=None if paused else state.next_at)
        next_at = backfill.previous_next_execution_date if paused else backfill.current_date
        if state.disabled or not self.is_on:
            next_at = None
        return _written(state, now, replace(detail, backfill=resumed), next_at=next_at)

    def without_backfill(self, state: TriggerState, now: datetime) -> TriggerState:
        """End the backfill: the trigger goes on as if there had been none. Raises ConflictError where there is none."""
        detail, backfill = self._backfill(state)
        is_held = backfill.paused or state.disabled or not self.is_on
        next_at = state.next_at if is_held else backfill.previous_next_execution_date
        return _written(state, now, replace(detail, backfill=None), next_at=next_at)

    def _backfill(self, state: TriggerState) -> tuple[Detail, Backfill]:
        detail = detail_of(state)
        if detail.backfill is None:
            raise ConflictError(f"The trigger {self.trigger.id} has no backfill.", "Start one before.")
        return detail, detail.backfill


def _is_active(backfill: Backfill | None) -> bool:
    return backfill is not None and not backfill.paused


def _after(now: datetime, interval: timedelta) -> datetime:
    """When *interval* has passed; the end of time where it is longer than that."""
    return now + min(interval, datetime.max.replace(tzinfo=now.tzinfo) - now)


_KEEP = object()


def _written(
    state: TriggerState, now: datetime, detail: Detail | None = None, *, next_at: datetime | object | None = _KEEP
) -> TriggerState:
    """*state* in its next version, with what changed."""
    return replace(
        state,
        detail=state.detail if detail is None else _plain(detail),
        next_at=state.next_at if next_at is _KEEP else next_at,
        updated_at=now,
        version=state.version + 1,
    )


def _plain(detail: Detail) -> Mapping[str, object]:
    return msgspec.to_builtins(detail)


def _definition(flow: Flow, trigger: Trigger) -> str:
    """Changes when the flow says something else about the trigger; new properties of a type do not change it."""
    said = [flow.disabled, _said(trigger)]
    return blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=12).hexdigest()


def _said(value: object) -> object:
    """What was written of *value*: what is as it is by itself is left out."""
    if isinstance(value, Part):
        fields = shape_of(type(value)).fields.values()
        said = {field.name: (getattr(value, field.attribute), field.default) for field in fields}
        return {
            name: _said(one)
            for name, (one, default) in said.items()
            if one != default and one is not None and one not in ([], {})
        }
    if isinstance(value, Mapping):
        return {key: _said(one) for key, one in cast("Mapping[str, object]", value).items()}
    if isinstance(value, list):
        return [_said(one) for one in cast("list[object]", value)]
    return value
