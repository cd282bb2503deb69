"""Scheduler: starts executions when their dates come, each date once, one execution of a trigger at a time.

One thread decides. It sleeps until something is due, a flow is saved or an execution ends; now and then it looks by
itself, for what other processes did. A date is taken in one transaction: the trigger's state goes on to its next
version, with the new execution as its lock, and the execution is created. So a crash loses or doubles nothing, and of
two schedulers the faster one wins.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from threading import Lock, Thread
from typing import NamedTuple

import msgspec

from tercel.errors import NotFoundError, StorageError, TercelError, UserError
from tercel.model.condition import FlowName
from tercel.model.dates import offset_text
from tercel.model.execution import Execution, execution_id_at
from tercel.model.flow import Flow
from tercel.model.state import State
from tercel.model.trigger import DateContext, DatedTrigger, Trigger
from tercel.scheduler.flows import FlowKey, TriggeringFlows
from tercel.scheduler.plan import Decision, Plan, Recovery
from tercel.scheduler.starting import Rendering, StartsExecutions, Warn, failed_execution
from tercel.store import Bell, Promise, StaleTriggerError, Store, Transaction, TriggerKey, TriggerState, run

_POLL_S = 10.0
_MOST_TRIES = 20
"""How often a change is tried again that somebody else is faster with."""

_MOST_ROUNDS = 100
"""Looks at what is due between two looks at what has changed."""


class _Start(NamedTuple):
    """An execution on its way.

    Attributes:
        state: of the trigger, as it is written together with the execution.
        given: what it is created with.
        promise: kept once it is saved; an error where it cannot be.
    """

    plan: Plan
    state: TriggerState
    given: "_Given"
    promise: Promise[None] | UserError


class _Given(NamedTuple):
    execution_id: str
    trigger: Mapping[str, object]
    labels: Mapping[str, str]


class Scheduler:
    """Starts what is due, in a thread of its own.

    Args:
        start: creates the executions.
        flows: the flows that have triggers.
        rendering: renders inputs, labels and conditions.
        warn: is told what goes wrong with a trigger.
        id: name of this process, unlike that of any other.
        on_error: is told why the scheduler itself could not go on; it tries again.
        clock: the current instant in UTC.
        zone: the time zone of triggers that name none.
        recovery: which dates missed while no scheduler was there are made up for, where a trigger does not say.
        poll_s: how often it looks for what other processes did.
    """

    def __init__(
        self,
        *,
        store: Store,
        start: StartsExecutions,
        flows: TriggeringFlows,
        rendering: Rendering,
        warn: Warn,
        id: str,
        on_error: Callable[[Exception], object],
        clock: Callable[[], datetime],
        zone: tzinfo,
        recovery: Recovery = "ALL",
        poll_s: float = _POLL_S,
    ) -> None:
        self._store = store
        self._start = start
        self._flows = flows
        self._rendering = rendering
        self._warn = warn
        self._id = id
        self._on_error = on_error
        self._clock = clock
        self._zone = zone
        self._recovery: Recovery = recovery
        self._poll = timedelta(seconds=poll_s)
        self._plans: dict[TriggerKey, Plan] = {}
        self._states: dict[TriggerKey, TriggerState] = {}
        self._guard = Lock()
        self._held: dict[TriggerKey, datetime] = {}
        self._ended: deque[tuple[TriggerKey, str, State]] = deque()
        self._looked_at: datetime | None = None
        self._bell = Bell()
        self._thread: Thread | None = None
        self._is_closing = False

    # What others call, from any thread

    def open(self) -> None:
        """Start the thread."""
        self._thread = Thread(target=self._run, name="tercel-scheduler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; a second call does nothing."""
        self._is_closing = True
        self._bell.ring()
        if self._thread is not None:
            self._thread.join()

    def sync(self, flow: Flow) -> None:
        """Take note of a flow that was saved."""
        self._flows.keep(flow)
        self._bell.ring()

    def forget(self, namespace: str, flow_id: str) -> None:
        """Take note of a flow that was deleted."""
        self._flows.drop(namespace, flow_id)
        self._bell.ring()

    def ended(self, execution: Execution) -> None:
        """Take note of an execution that has ended and of which nothing runs any more; cheap, and never waits."""
        if execution.trigger is None:
            return
        key = execution.namespace, execution.flow_id, str(execution.trigger.get("id"))
        if key in self._states:
            self._ended.append((key, execution.id, execution.state))
            self._bell.ring()

    async def set_disabled(self, namespace: str, flow_id: str, trigger_id: str, *, disabled: bool) -> TriggerState:
        """Disable a trigger, or enable it. Raises NotFoundError."""
        return await self._change(
            (namespace, flow_id, trigger_id), lambda plan, state, now: plan.disabled(state, now, disabled=disabled)
        )

    async def unlock(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState:
        """Let a trigger go on although its last execution has not ended.

        Raises:
            NotFoundError: there is no such trigger.
            UserError: no execution holds it up.
        """
        return await self._change((namespace, flow_id, trigger_id), lambda plan, state, now: plan.unlocked(state, now))

    async def start_backfill(
        self,
        namespace: str,
        flow_id: str,
        trigger_id: str,
        *,
        start: datetime,
        end: datetime | None = None,
        inputs: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> TriggerState:
        """Start an execution for every date of a trigger from *start* to *end*, one after the other.

        Args:
            namespace: of the flow.
            flow_id: id of the flow.
            trigger_id: id of the trigger.
            start: the first date is not before it, aware.
            end: the last date is not after it, aware; now where None, or where it is later than that.
            inputs: on top of the trigger's.
            labels: on top of the trigger's.

        Raises:
            NotFoundError: there is no such trigger.
            UserError: it has no such dates, is disabled, or has a backfill already.
        """
        return await self._change(
            (namespace, flow_id, trigger_id),
            lambda plan, state, now: plan.backfilled(state, now, start=start, end=end, inputs=inputs, labels=labels),
        )

    async def pause_backfill(self, namespace: str, flow_id: str, trigger_id: str, *, paused: bool) -> TriggerState:
        """Pause a backfill, or continue it. Raises NotFoundError, and UserError where there is none."""
        return await self._change(
            (namespace, flow_id, trigger_id), lambda plan, state, now: plan.paused(state, now, paused=paused)
        )

    async def delete_backfill(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState:
        """End a backfill. Raises NotFoundError, and UserError where there is none."""
        return await self._change(
            (namespace, flow_id, trigger_id), lambda plan, state, now: plan.without_backfill(state, now)
        )

    async def _change(
        self, key: TriggerKey, change: Callable[[Plan, TriggerState, datetime], TriggerState]
    ) -> TriggerState:
        """Write what *change* makes of a trigger's state, however often somebody else is faster."""
        for _ in range(_MOST_TRIES):
            plan = await self._plan_of(key)
            if plan is None:
                raise NotFoundError(f"There is no trigger {key[2]} of a flow {key[0]}.{key[1]}.")
            state = await self._store.triggers.get(*key)
            if state is None:  # the flow was saved right before
                state = plan.first(self._clock())
                if not await self._wrote([state]):
                    continue
            changed = change(plan, state, self._clock())
            if changed is state or await self._wrote([changed]):
                self._remember(changed)
                self._bell.ring()
                return changed
        raise TercelError(f"The trigger {key[2]} of {key[0]}.{key[1]} is changed all the time.", "Try again.")

    async def _plan_of(self, key: TriggerKey) -> Plan | None:
        if not self._flows.is_loaded:
            await self._flows.refresh()
        return self._plans_of(key[:2]).get(key[2])

    def _plans_of(self, key: FlowKey) -> dict[str, Plan]:
        """The plans of a flow's triggers, by their ids."""
        known = self._flows.find(key)
        flow = None if known is None else known.flow
        return {} if flow is None else {trigger.id: self._plan(flow, trigger) for trigger in flow.triggers}

    def _plan(self, flow: Flow, trigger: Trigger) -> Plan:
        known = self._plans.get((flow.namespace, flow.id, trigger.id))
        if known is not None and known.flow is flow:
            return known
        seen = self._rendering.variables(flow, {"id": trigger.id, "type": trigger.type})
        context = DateContext(
            flow=FlowName(flow.namespace, flow.id), zone=self._zone, render=self._rendering.text(flow, seen)
        )
        return Plan(flow, trigger, context, lambda message: self._warn(flow, trigger.id, message))

    # The thread

    def _run(self) -> None:
        while not self._is_closing:
            wait = self._poll
            try:
                wake_at = run(self.step())
                if wake_at is not None:
                    wait = min(wait, wake_at - self._clock())
            except Exception as error:  # the next look may go well: a full disk, a database that is away
                self._on_error(error)
            self._bell.wait(wait.total_seconds())

    async def step(self) -> datetime | None:
        """Do all that is to be done now, and say when the next trigger is due; None where none is."""
        if self._looked_at is None or self._clock() - self._looked_at >= self._poll:
            await self._look_around(is_first=self._looked_at is None)
            self._looked_at = self._clock()
        else:
            await self._take_all(self._flows.take_changed())
        while self._ended:
            await self._free(*self._ended[0])
            self._ended.popleft()
        for _ in range(_MOST_ROUNDS):
            now = self._clock()
            due = self._due(now)
            if not due:
                break
            await self._fire(due, now)
        return self._next_at()

    # What has changed

    async def _look_around(self, *, is_first: bool) -> None:
        """Read all again: flows and states that other processes changed, executions that ended there."""
        # States before flows: what a flow does not have any more is then really gone.
        states = {state.key: state for state in await self._store.triggers.all()}
        await self._flows.refresh()
        changed = self._flows.take_changed()
        with self._guard:
            self._states = states
        self._held.clear()
        await self._take_all((*changed, *(key[:2] for key in states), *(key[:2] for key in self._plans)))
        for state in list(self._states.values()):
            if state.execution_id is not None:
                execution = await self._store.executions.find(state.execution_id)
                if execution is None or not execution.is_open:
                    await self._free(state.key, state.execution_id, None if execution is None else execution.state)
        if is_first:
            await self._recover()

    async def _take_all(self, keys: Iterable[FlowKey]) -> None:
        for key in dict.fromkeys(keys):
            try:
                await self._take(key)
            except StorageError:
                raise
            except Exception as error:  # one flow must not hold up the others
                self._on_error(error)

    async def _take(self, key: FlowKey) -> None:
        """Bring the states of a flow's triggers in line with what the flow says."""
        for _ in range(_MOST_TRIES):
            known, plans = self._flows.find(key), self._plans_of(key)
            if known is not None and not known.is_valid:
                self._keep_plans(key, {})
                return
            if await self._bring_in_line(key, plans):
                self._keep_plans(key, plans)
                return
            await self._read_again(key)
            await self._flows.refresh()

    async def _bring_in_line(self, key: FlowKey, plans: Mapping[str, Plan]) -> bool:
        """Write what *plans* mean for the states of a flow's triggers; False where somebody else was faster."""
        now = self._clock()
        states = {state.trigger_id: state for state in list(self._states.values()) if state.key[:2] == key}
        new = [plan.first(now) for name, plan in plans.items() if name not in states]
        changed = [
            plan.changed(states[name], now)
            for name, plan in plans.items()
            if name in states and plan.is_changed(states[name])
        ]
        gone = [state.key for name, state in states.items() if name not in plans]
        if not new and not changed and not gone:
            return True
        if not await self._wrote([*new, *changed], gone, windows_of=[state.key for state in changed]):
            return False
        for state in (*new, *changed):
            self._remember(state)
        with self._guard:
            for one in gone:
                self._states.pop(one, None)
        return True

    def _keep_plans(self, key: FlowKey, plans: Mapping[str, Plan]) -> None:
        for one in [one for one in self._plans if one[:2] == key and one[2] not in plans]:
            del self._plans[one]
        self._plans.update({plan.key: plan for plan in plans.values()})

    async def _read_again(self, key: FlowKey) -> None:
        """Take the states of a flow's triggers as they are stored."""
        stored = {state.key: state for state in await self._store.triggers.all() if state.key[:2] == key}
        with self._guard:
            for one in [one for one in self._states if one[:2] == key and one not in stored]:
                del self._states[one]
            self._states.update(stored)

    async def _recover(self) -> None:
        """Pass over missed dates that are not to be made up for."""
        now = self._clock()
        for key, plan in list(self._plans.items()):
            state = self._states.get(key)
            if state is not None:
                missed = plan.missed(state, now, self._recovery)
                if missed is not state:
                    await self._write_or_read([missed])

    async def _free(self, key: TriggerKey, execution_id: str, state: State | None) -> None:
        """Go on after an execution of a trigger has ended."""
        try:
            await self._change(key, lambda plan, held, now: plan.freed(held, execution_id, state, now))
        except NotFoundError:  # the trigger has been removed meanwhile, or its flow cannot be read
            return

    async def _wrote(
        self,
        states: Sequence[TriggerState],
        gone: Iterable[TriggerKey] = (),
        windows_of: Iterable[TriggerKey] = (),
    ) -> bool:
        """Write states in one transaction; False, and nothing is written, where somebody else was faster."""
        windows = [window.key for key in windows_of for window in await self._store.triggers.windows(*key)]
        try:
            async with self._store.transaction() as tx:
                self._store.triggers.save(tx, states)
                self._store.triggers.remove(tx, gone)
                self._store.triggers.remove_windows(tx, windows)
        except StaleTriggerError:
            return False
        return True

    async def _write_or_read(self, states: Sequence[TriggerState]) -> None:
        """Write states, each by itself where not all can be; one that somebody else has changed is read again."""
        if await self._wrote(states):
            for state in states:
                self._remember(state)
        elif len(states) == 1:
            await self._read_again(states[0].key[:2])
        else:
            for state in states:
                await self._write_or_read([state])

    def _remember(self, state: TriggerState) -> None:
        with self._guard:
            known = self._states.get(state.key)
            if known is None or known.version < state.version:
                self._states[state.key] = state
        self._flows.disable(state.key, disabled=state.disabled)

    # What is due

    def _due(self, now: datetime) -> list[TriggerState]:
        """The states to look at now, longest due first."""
        due = [
            (state.next_at, state) for state in self._waiting() if state.next_at is not None and state.next_at <= now
        ]
        due.sort(key=lambda one: (one[0], one[1].key))
        return [state for _, state in due if self._held.get(state.key, now) <= now]

    def _next_at(self) -> datetime | None:
        return min(
            (
                max(state.next_at, self._held.get(state.key, state.next_at))
                for state in self._waiting()
                if state.next_at is not None
            ),
            default=None,
        )

    def _waiting(self) -> list[TriggerState]:
        """States that wait for nothing but their date."""
        return [
            state
            for state in list(self._states.values())
            if state.next_at is not None and state.execution_id is None and not state.disabled
            if state.key in self._plans
        ]

    async def _fire(self, due: Sequence[TriggerState], now: datetime) -> None:
        """Start what is due, all of it side by side."""
        starts: list[_Start] = []
        quiet: list[TriggerState] = []
        for state in due:
            plan = self._plans[state.key]
            try:
                decision = plan.decide(state, now)
                if decision.date is None:
                    quiet.append(decision.state)
                else:
                    starts.append(self._begin(plan, decision, decision.date, now))
            except Exception as error:  # one trigger must not hold up the others
                self._warn(plan.flow, plan.trigger.id, f"The trigger cannot be evaluated: {error}")
                self._held[state.key] = now + self._poll
        for start in starts:
            await self._finish(start, now)
        if quiet:
            await self._write_or_read(quiet)

    def _begin(self, plan: Plan, decision: Decision, date: datetime, now: datetime) -> _Start:
        """Ask for the execution of a date."""
        flow, trigger, backfill = plan.flow, plan.trigger, decision.backfill
        assert isinstance(trigger, DatedTrigger)
        key, version = decision.state.key, decision.state.version
        execution_id = execution_id_at(now, ["trigger", self._id, *key, version])
        locked = msgspec.structs.replace(decision.state, execution_id=execution_id)
        variables: Mapping[str, object] = {"date": offset_text(date)}
        error = decision.error
        try:
            variables = trigger.variables(plan.context, date)
        except UserError as found:
            error = error or found
        seen = self._rendering.variables(flow, {"id": trigger.id, "type": trigger.type, **variables})
        given = _Given(
            execution_id,
            {"id": trigger.id, "type": trigger.type, "variables": variables},
            {**({} if backfill is None else backfill.labels), **self._rendering.labels(flow, trigger, seen)},
        )
        if error is not None:
            return _Start(plan, locked, given, error)
        try:
            inputs = self._rendering.inputs(flow, trigger.inputs, seen)
            execution = self._start.prepare(
                flow,
                {**inputs, **({} if backfill is None else backfill.inputs)},
                execution_id=execution_id,
                labels=given.labels,
                trigger=given.trigger,
                schedule_date=trigger.schedule_date(date),
            )
        except UserError as found:
            return _Start(plan, locked, given, found)
        return _Start(plan, locked, given, self._start.save(execution, self._saving(locked)))

    async def _finish(self, start: _Start, now: datetime) -> None:
        """Wait for an execution to be saved; one that cannot be is saved as FAILED, so that people see why."""
        flow, trigger = start.plan.flow, start.plan.trigger
        try:
            if isinstance(start.promise, UserError):
                await self._fail(start, start.promise, now)
            else:
                await start.promise
                self._remember(start.state)
        except StaleTriggerError:
            await self._read_again(start.state.key[:2])
        except Exception as error:  # one trigger must not hold up the others
            self._warn(flow, trigger.id, f"No execution could be started: {error}")
            await self._read_again(start.state.key[:2])
            self._held[start.state.key] = now + self._poll

    async def _fail(self, start: _Start, error: UserError, now: datetime) -> None:
        flow, trigger = start.plan.flow, start.plan.trigger
        state = msgspec.structs.replace(start.state, execution_id=None)
        if State.FAILED in trigger.stop_after:
            state = msgspec.structs.replace(state, disabled=True, next_at=None)
        message = f"The trigger {trigger.id} could not start the flow. {error}"
        await self._start.save(failed_execution(flow, message, **start.given._asdict(), now=now), self._saving(state))
        self._remember(state)

    def _saving(self, state: TriggerState) -> Callable[[Transaction], None]:
        return lambda tx: self._store.triggers.save(tx, [state])
