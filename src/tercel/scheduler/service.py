"""Scheduler: starts executions when their dates come, or a worker says so: each once, one of a trigger at a time.

One thread decides. It sleeps until something is due, a flow is saved or an execution ends; now and then it looks by
itself, for what other processes did. A date is taken in one transaction: the trigger's state goes on to its next
version, with the new execution as its lock, and the execution is created. So a crash loses or doubles nothing, and of
two schedulers the faster one wins.

A polling trigger takes two transactions: one locks it for an evaluation, which a worker does in a thread of its own,
and one writes what came of that, with the execution where it starts one. The lock names this process, so that another
one evaluates the trigger again when this one is dead.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from threading import Lock, Thread
from typing import NamedTuple

import msgspec

from tercel.errors import NotFoundError, StorageError, TercelError, UserError
from tercel.model.condition import FlowName
from tercel.model.dates import offset_text
from tercel.model.execution import Execution, execution_id_at
from tercel.model.flow import Flow
from tercel.model.jobs import TriggerJob, TriggerResult
from tercel.model.state import State
from tercel.model.task import LEVEL_RANK, LogLevel
from tercel.model.trigger import DateContext, DatedTrigger, Trigger
from tercel.plugin_api import PollingTrigger
from tercel.scheduler.by_flow import ByFlow
from tercel.scheduler.evaluations import Ended, EvaluatesTriggers, Evaluations, is_locked_for
from tercel.scheduler.flows import FlowKey, TriggeringFlows
from tercel.scheduler.plan import Backfill, Decision, Plan, Recovery, detail_of, evaluation_of
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


class Trial(NamedTuple):
    """What came of an evaluation that starts nothing.

    Attributes:
        is_due: its conditions hold now.
    """

    is_due: bool
    result: TriggerResult


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
        runner: evaluates polling triggers; None where this process evaluates none.
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
        runner: EvaluatesTriggers | None = None,
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
        self._plans: ByFlow[Plan] = ByFlow()
        self._states: ByFlow[TriggerState] = ByFlow()
        self._untaken: set[FlowKey] = set()
        self._guard = Lock()
        self._held: dict[TriggerKey, datetime] = {}
        self._ended: deque[tuple[TriggerKey, str, State]] = deque()
        self._looked_at: datetime | None = None
        self._bell = Bell()
        self._evaluations = Evaluations(runner, id, self._bell.ring)
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
        """Let a trigger go on although its last execution, or its evaluation, has not ended.

        Raises:
            NotFoundError: there is no such trigger.
            ConflictError: nothing holds it up.
        """
        return await self._change((namespace, flow_id, trigger_id), lambda plan, state, now: plan.unlocked(state, now))

    async def restart(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState:
        """Have a trigger go on from now, whatever holds it up: dates before that are passed over.

        A backfill, and what people disabled, stay. Raises NotFoundError.
        """
        return await self._change((namespace, flow_id, trigger_id), lambda plan, state, now: plan.restarted(state, now))

    async def reset(self, namespace: str, flow_id: str, trigger_id: str) -> None:
        """Forget where a trigger stands: one that its flow still has begins as a new one does.

        Raises NotFoundError where nothing is known of it.
        """
        key = namespace, flow_id, trigger_id
        if await self._plan_of(key) is not None:
            await self._change(key, lambda plan, state, now: plan.reset(state, now), with_windows=True)
            return
        if await self._store.triggers.get(*key) is None:
            raise _no_trigger(key)
        await self._wrote([], [key])
        with self._guard:
            self._states.drop(key)
        self._flows.disable(key, disabled=False)

    async def try_out(self, namespace: str, flow_id: str, trigger_id: str) -> Trial:
        """Evaluate a polling trigger now, in this thread, and start nothing: neither its state nor a file is kept.

        Raises:
            NotFoundError: there is no such trigger.
            UserError: it is no polling trigger, or its conditions cannot be tested.
        """
        key = namespace, flow_id, trigger_id
        plan = await self._plan_of(key)
        if plan is None:
            raise _no_trigger(key)
        if not isinstance(plan.trigger, PollingTrigger):
            raise UserError(
                f"The trigger {trigger_id} is no polling trigger.", "Only those are evaluated again and again."
            )
        now = self._clock()
        state = await self._store.triggers.get(*key) or plan.first(now)
        is_due = plan.trigger.holds_at(plan.context, now)
        job = self._job(plan, state, self._execution_id(state, now))
        trial = msgspec.structs.replace(job, is_trial=True, is_settling=False, leftover_id="")
        return Trial(is_due, self._evaluations.try_out(trial))

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
            ConflictError: it goes by no dates, is disabled, or has a backfill already.
            UserError: it has no such dates.
        """
        return await self._change(
            (namespace, flow_id, trigger_id),
            lambda plan, state, now: plan.backfilled(state, now, start=start, end=end, inputs=inputs, labels=labels),
        )

    async def pause_backfill(self, namespace: str, flow_id: str, trigger_id: str, *, paused: bool) -> TriggerState:
        """Pause a backfill, or continue it. Raises NotFoundError, and ConflictError where there is none."""
        return await self._change(
            (namespace, flow_id, trigger_id), lambda plan, state, now: plan.paused(state, now, paused=paused)
        )

    async def delete_backfill(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState:
        """End a backfill. Raises NotFoundError, and ConflictError where there is none."""
        return await self._change(
            (namespace, flow_id, trigger_id), lambda plan, state, now: plan.without_backfill(state, now)
        )

    async def _change(
        self,
        key: TriggerKey,
        change: Callable[[Plan, TriggerState, datetime], TriggerState],
        *,
        with_windows: bool = False,
    ) -> TriggerState:
        """Write what *change* makes of a trigger's state, however often somebody else is faster.

        With *with_windows* what it has seen within spans of time is forgotten, too.
        """
        for _ in range(_MOST_TRIES):
            plan = await self._plan_of(key)
            if plan is None:
                raise _no_trigger(key)
            state = await self._store.triggers.get(*key)
            if state is None:  # the flow was saved right before
                state = plan.first(self._clock())
                if not await self._wrote([state]):
                    continue
            changed = change(plan, state, self._clock())
            if changed is state or await self._wrote([changed], windows_of=[key] if with_windows else ()):
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
        await self._take_results()
        self._evaluations.stop_lost(self._states.get)
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
            before, self._states = self._states, ByFlow(states)
        self._held.clear()
        others = {key[:2] for key, state in states.items() if before.get(key) != state}
        gone = {key[:2] for key, _ in before.items() if key not in states}
        await self._take_all((*changed, *others, *gone, *self._untaken))
        for state in self._states.values():
            if state.execution_id is not None:
                execution = await self._store.executions.find(state.execution_id)
                if execution is None or not execution.is_open:
                    await self._free(state.key, state.execution_id, None if execution is None else execution.state)
        owners = self._evaluations.owners(self._states.values())
        self._evaluations.note_dead(owners, await self._store.dead_owners(set(owners.values())) if owners else ())
        if is_first:
            await self._recover()

    async def _take_all(self, keys: Iterable[FlowKey]) -> None:
        wanted = dict.fromkeys(keys)
        self._untaken.update(wanted)
        for key in wanted:
            try:
                if await self._take(key):
                    self._untaken.discard(key)
            except StorageError:
                raise
            except Exception as error:  # one flow must not hold up the others
                self._on_error(error)

    async def _take(self, key: FlowKey) -> bool:
        """Bring the states of a flow's triggers in line with what the flow says; False where that is still to do."""
        for _ in range(_MOST_TRIES):
            known, plans = self._flows.find(key), self._plans_of(key)
            if known is not None and not known.is_valid:
                self._keep_plans(key, {})
                return True
            if await self._bring_in_line(key, plans):
                self._keep_plans(key, plans)
                return True
            await self._read_again(key)
            await self._flows.refresh()
        return False

    async def _bring_in_line(self, key: FlowKey, plans: Mapping[str, Plan]) -> bool:
        """Write what *plans* mean for the states of a flow's triggers; False where somebody else was faster."""
        now = self._clock()
        states = self._states.of(key)
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
                self._states.drop(one)
        return True

    def _keep_plans(self, key: FlowKey, plans: Mapping[str, Plan]) -> None:
        for name in self._plans.of(key).keys() - plans.keys():
            self._plans.drop((*key, name))
        for plan in plans.values():
            self._plans[plan.key] = plan

    async def _read_again(self, key: FlowKey) -> None:
        """Take the states of a flow's triggers as they are stored."""
        stored = {state.trigger_id: state for state in await self._store.triggers.all() if state.key[:2] == key}
        with self._guard:
            for name in self._states.of(key).keys() - stored.keys():
                self._states.drop((*key, name))
            for state in stored.values():
                self._states[state.key] = state

    async def _recover(self) -> None:
        """Pass over missed dates that are not to be made up for."""
        now = self._clock()
        for key, plan in self._plans.items():
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
        due = [(due_at, state) for due_at, state in self._waiting() if due_at <= now]
        due.sort(key=lambda one: (one[0], one[1].key))
        return [state for _, state in due if self._held.get(state.key, now) <= now]

    def _next_at(self) -> datetime | None:
        dates = [max(due_at, self._held.get(state.key, due_at)) for due_at, state in self._waiting()]
        retry_at = self._evaluations.due_at()
        return min(dates if retry_at is None else [*dates, retry_at], default=None)

    def _waiting(self) -> Iterator[tuple[datetime, TriggerState]]:
        """States that wait for nothing but a date, each with that date."""
        can_evaluate = self._evaluations.room > 0
        for state in self._states.values():
            plan = self._plans.get(state.key)
            if plan is None or (plan.is_polling and not (can_evaluate and self._may_evaluate(plan, state))):
                continue
            due_at = state.updated_at if evaluation_of(state) is not None else plan.due_at(state)
            if due_at is not None:
                yield due_at, state

    def _may_evaluate(self, plan: Plan, state: TriggerState) -> bool:
        """Say whether this process may evaluate a polling trigger: nobody who lives does."""
        is_free = evaluation_of(state) is None or self._evaluations.is_abandoned(state)
        return is_free and self._evaluations.can_begin(state.key, plan.trigger)

    async def _fire(self, due: Sequence[TriggerState], now: datetime) -> None:
        """Start what is due, all of it side by side."""
        starts: list[_Start] = []
        quiet: list[TriggerState] = []
        jobs: list[tuple[TriggerState, TriggerJob]] = []
        room = self._evaluations.room
        for state in due:
            plan = self._plans[state.key]
            if plan.is_polling and len(jobs) >= room:
                continue
            try:
                decision = plan.decide(state, now)
                if decision.evaluates:
                    jobs.append(self._locked(plan, state, now))
                elif decision.date is None:
                    quiet.append(decision.state)
                else:
                    starts.append(self._begin(plan, decision, decision.date, now))
            except Exception as error:  # one trigger must not hold up the others
                self._warn(plan.flow, plan.trigger.id, f"The trigger cannot be evaluated: {error}")
                self._held[state.key] = now + self._poll
        for start in starts:
            await self._finish(start, now)
        if quiet or jobs:
            await self._write_or_read([*quiet, *(state for state, _ in jobs)])
        for state, job in jobs:
            if self._states.get(state.key) is state:
                self._evaluations.begin(job)

    def _begin(self, plan: Plan, decision: Decision, date: datetime, now: datetime) -> _Start:
        """Ask for the execution of a date."""
        trigger = plan.trigger
        locked = msgspec.structs.replace(decision.state, execution_id=self._execution_id(decision.state, now))
        variables: Mapping[str, object] = {"date": offset_text(date)}
        if not isinstance(trigger, DatedTrigger):
            return self._prepared(plan, locked, variables, error=decision.error)
        error = decision.error
        try:
            variables = trigger.variables(plan.context, date)
        except UserError as found:
            error = error or found
        return self._prepared(
            plan,
            locked,
            variables,
            inputs=trigger.inputs,
            backfill=decision.backfill,
            error=error,
            schedule_date=trigger.schedule_date(date),
        )

    def _execution_id(self, state: TriggerState, now: datetime) -> str:
        """The id of an execution that no other process, and this one for no other state, gives to one."""
        return execution_id_at(now, ["trigger", self._id, *state.key, state.version])

    def _prepared(
        self,
        plan: Plan,
        locked: TriggerState,
        variables: Mapping[str, object],
        *,
        inputs: Mapping[str, object] | None = None,
        backfill: Backfill | None = None,
        error: UserError | None = None,
        schedule_date: datetime | None = None,
    ) -> _Start:
        """Ask for the execution that *locked* is locked by, *variables* being what it sees as `trigger`."""
        flow, trigger = plan.flow, plan.trigger
        seen = self._rendering.variables(flow, {"id": trigger.id, "type": trigger.type, **variables})
        given = _Given(
            str(locked.execution_id),
            {"id": trigger.id, "type": trigger.type, "variables": variables},
            {**({} if backfill is None else backfill.labels), **self._rendering.labels(flow, trigger, seen)},
        )
        if error is not None:
            return _Start(plan, locked, given, error)
        try:
            rendered = self._rendering.inputs(flow, inputs or {}, seen)
            execution = self._start.prepare(
                flow,
                {**rendered, **({} if backfill is None else backfill.inputs)},
                execution_id=given.execution_id,
                labels=given.labels,
                trigger=given.trigger,
                schedule_date=schedule_date,
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

    # What workers evaluate

    def _locked(self, plan: Plan, state: TriggerState, now: datetime) -> tuple[TriggerState, TriggerJob]:
        """A polling trigger, locked for an evaluation, and that evaluation."""
        job = self._job(plan, state, self._execution_id(state, now))
        return plan.begun(state, now, owner=self._id, execution_id=job.execution_id), job

    def _job(self, plan: Plan, state: TriggerState, execution_id: str) -> TriggerJob:
        flow, trigger, detail = plan.flow, plan.trigger, detail_of(state)
        return TriggerJob(
            execution_id=execution_id,
            namespace=flow.namespace,
            flow_id=flow.id,
            trigger=trigger,
            variables=self._rendering.variables(flow, {"id": trigger.id, "type": trigger.type}),
            memory=detail.memory,
            is_settling=detail.settle_at is not None,
            leftover_id="" if detail.evaluation is None else detail.evaluation.execution_id,
        )

    async def _take_results(self) -> None:
        """Write what came of evaluations; what cannot be written now waits a while, and so do those after it."""
        while (ended := self._evaluations.next_ended(self._clock())) is not None:
            try:
                await self._take_result(ended)
            except Exception as error:  # one trigger must not hold up the others
                if isinstance(error, StorageError) or ended.result.problem:
                    self._evaluations.held_until = self._clock() + self._poll
                    self._on_error(error)
                else:
                    self._evaluations.refuse(ended, f"{error}")
            else:
                self._evaluations.forget(ended)

    async def _take_result(self, ended: Ended) -> None:
        """Write what came of an evaluation, however often somebody else is faster; nothing if it is unlocked since."""
        job = ended.job
        for _ in range(_MOST_TRIES):
            plan, state = self._plans.get(job.key), self._states.get(job.key)
            if plan is None or state is None or not plan.is_polling or not is_locked_for(state, job):
                if await self._store.executions.find(job.execution_id) is None:
                    self._evaluations.discard(ended)
                return
            try:
                if ended.result.variables is None:
                    await self._write_idle(plan, state, ended)
                else:
                    await self._write_found(plan, state, ended.result)
            except StaleTriggerError:
                await self._read_again(job.key[:2])
            else:
                return
        raise TercelError(f"The trigger {job.trigger.id} of {job.namespace}.{job.flow_id} is changed all the time.")

    async def _write_found(self, plan: Plan, state: TriggerState, result: TriggerResult) -> None:
        """Start the execution that an evaluation has found something for."""
        now = self._clock()
        start = self._prepared(plan, plan.evaluated(state, now, result), result.variables or {})
        if isinstance(start.promise, UserError):
            await self._fail(start, start.promise, now)
        else:
            await start.promise
            self._remember(start.state)
        if result.entries:
            self._store.logs.write_logs(result.entries)

    async def _write_idle(self, plan: Plan, state: TriggerState, ended: Ended) -> None:
        """Have a trigger go on after an evaluation that starts nothing; what went wrong is told."""
        job, result = ended
        go_on = plan.settled if job.is_settling else plan.evaluated
        following = go_on(state, self._clock(), result)
        async with self._store.transaction() as tx:
            self._store.triggers.save(tx, [following])
        self._remember(following)
        self._evaluations.discard(ended)
        for entry in result.entries:
            if LEVEL_RANK[entry.level] >= LEVEL_RANK[LogLevel.WARN]:
                self._warn(plan.flow, plan.trigger.id, entry.message)
        if result.problem:
            what = "What it has found could not be settled" if job.is_settling else "The evaluation failed"
            self._warn(plan.flow, plan.trigger.id, f"{what}: {result.problem}")

    def _saving(self, state: TriggerState) -> Callable[[Transaction], None]:
        return lambda tx: self._store.triggers.save(tx, [state])


def _no_trigger(key: TriggerKey) -> NotFoundError:
    return NotFoundError(f"There is no trigger {key[2]} of a flow {key[0]}.{key[1]}.")
