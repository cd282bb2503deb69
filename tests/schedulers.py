"""A scheduler in a small world: a store in memory that can fail, a clock, and someone who creates executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, cast

from msgspec.structs import replace

from tercel.errors import TercelError
from tercel.model import Execution, LogEntry, State, StateChange
from tercel.model.flow import Flow
from tercel.model.inputs import resolve_inputs
from tercel.model.jobs import TriggerJob, TriggerResult
from tercel.model.labels import execution_labels
from tercel.model.source import read_flow
from tercel.model.trigger import Trigger
from tercel.plugins import catalog
from tercel.scheduler import FlowTriggers, Rendering, Scheduler, TriggeringFlows
from tercel.store import (
    FlowRevision,
    Promise,
    StaleTriggerError,
    Store,
    Transaction,
    TriggerKey,
    TriggerState,
    TriggerWindow,
    WindowKey,
    run,
)
from tests.flows import Node
from tests.triggers import a_text

NOON = datetime(2030, 1, 4, 12, tzinfo=UTC)  # a Friday
OWNER = ("company.team", "owner")


class Crash(BaseException):  # it is no error, and nobody outlives it
    """The process is gone."""


class MemoryTransaction:
    def __init__(self) -> None:
        self.writes: list[Callable[[], None]] = []
        self.checks: list[Callable[[], None]] = []

    def after_commit(self, action: Callable[[], object]) -> None:
        raise NotImplementedError


class MemoryStore:
    """The part of a store that schedulers know; *fault* is called before and after each commit and may raise."""

    def __init__(self) -> None:
        self.revisions: dict[tuple[str, str], FlowRevision] = {}
        self.states: dict[TriggerKey, TriggerState] = {}
        self.saved_windows: dict[WindowKey, TriggerWindow] = {}
        self.rows: dict[str, Execution] = {}
        self.fault: Callable[[str], object] = lambda when: None
        self.lines: list[LogEntry] = []
        self.dead: set[str] = set()
        self.flows = self.executions = self.triggers = self.logs = self

    async def dead_owners(self, owners: Iterable[str]) -> set[str]:
        return self.dead & set(owners)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        tx = MemoryTransaction()
        yield tx
        self.fault("before")
        for check in tx.checks:
            check()
        for write in tx.writes:
            write()
        self.fault("after")

    # logs

    def write_logs(self, entries: Iterable[LogEntry]) -> None:
        self.lines.extend(entries)

    # flows

    def put(self, source: str) -> Flow:
        flow = read_flow(source, catalog())
        before = self.revisions.get((flow.namespace, flow.id))
        revision = 1 if before is None else before.revision + 1
        self.revisions[flow.namespace, flow.id] = FlowRevision(
            namespace=flow.namespace, id=flow.id, revision=revision, source=source, created_at=NOON
        )
        return replace(flow, revision=revision)

    async def latest(self, namespace: str | None = None) -> list[FlowRevision]:
        return list(self.revisions.values())

    # executions

    async def find(self, execution_id: str) -> Execution | None:
        return self.rows.get(execution_id)

    # triggers

    async def all(self, type: str | None = None) -> list[TriggerState]:
        return list(self.states.values())

    async def get(self, *key: str) -> TriggerState | None:
        return self.states.get(cast("TriggerKey", key))

    def save(self, tx: Any, states: Iterable[TriggerState]) -> None:
        for state in list(states):

            def check(state: TriggerState = state) -> None:
                stored = self.states.get(state.key)
                if (0 if stored is None else stored.version) != state.version - 1:
                    raise StaleTriggerError("Somebody else was faster.")

            tx.checks.append(check)
            tx.writes.append(lambda state=state: self.states.update({state.key: state}))

    def remove(self, tx: Any, keys: Iterable[TriggerKey]) -> None:
        for key in list(keys):
            tx.writes.append(lambda key=key: self.states.pop(key, None))
            tx.writes.append(lambda key=key: self._forget([one for one in self.saved_windows if one[:3] == key]))

    async def windows(self, *key: str) -> list[TriggerWindow]:
        return [window for window in self.saved_windows.values() if window.key[:3] == key]

    def save_windows(self, tx: Any, windows: Iterable[TriggerWindow]) -> None:
        for window in list(windows):
            tx.writes.append(lambda window=window: self.saved_windows.update({window.key: window}))

    def remove_windows(self, tx: Any, keys: Iterable[WindowKey]) -> None:
        removed = list(keys)
        tx.writes.append(lambda: self._forget(removed))

    def _forget(self, keys: Iterable[WindowKey]) -> None:
        for key in keys:
            self.saved_windows.pop(key, None)


class Starts:
    """Creates executions in a store, as the operations do."""

    def __init__(self, store: MemoryStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def prepare(
        self,
        flow: Flow,
        inputs: Mapping[str, object],
        *,
        execution_id: str,
        labels: Any = None,
        trigger: Any = None,
        schedule_date: datetime | None = None,
    ) -> Execution:
        return Execution(
            id=execution_id,
            namespace=flow.namespace,
            flow_id=flow.id,
            revision=flow.revision,
            history=(StateChange(State.CREATED, self._clock()),),
            inputs=resolve_inputs(flow.inputs, inputs, lambda text, variables: text),
            labels=execution_labels(flow.labels, labels or {}, execution_id=execution_id),
            trigger=trigger,
            schedule_date=schedule_date,
        )

    def save(self, execution: Execution, with_writes: Callable[[Transaction], None]) -> Promise[None]:
        promise: Promise[None] = Promise()

        async def save() -> None:
            async with self._store.transaction() as tx:
                with_writes(tx)
                assert execution.id not in self._store.rows
                tx.writes.append(lambda: self._store.rows.update({execution.id: execution}))

        try:
            run(save())
        except Exception as error:
            promise.fail(error)
        else:
            promise.resolve(None)
        return promise


class Runner:
    """Evaluates triggers as a test says; for the schedulers of one process."""

    def __init__(self, most: int = 8, group: str = "") -> None:
        self.most = most
        self.group = group
        self.jobs: list[tuple[TriggerJob, Callable[[TriggerResult], object]]] = []
        self.begun: list[TriggerJob] = []
        self.stopped: list[str] = []
        self.discarded: list[str] = []
        self.trial = TriggerResult()

    @property
    def room(self) -> int:
        return self.most - len(self.jobs)

    def serves(self, trigger: Trigger) -> bool:
        return (trigger.worker_group.key if trigger.worker_group else "") == self.group

    def start(self, job: TriggerJob, done: Callable[[TriggerResult], object]) -> None:
        self.jobs.append((job, done))
        self.begun.append(job)

    def run(self, job: TriggerJob) -> TriggerResult:
        self.begun.append(job)
        return self.trial

    def stop(self, execution_id: str) -> None:
        self.stopped.append(execution_id)

    def discard(self, job: TriggerJob) -> None:
        self.discarded.append(job.execution_id)

    def finish(self, result: TriggerResult | None = None, **values: Any) -> TriggerJob:
        """The evaluation that began first ends; it finds nothing where nothing is said."""
        job, done = self.jobs.pop(0)
        done(result or TriggerResult(**{"memory": job.memory, **values}))
        return job


class World:
    """One home; `scheduler` is that of the process at hand."""

    def __init__(self, now: datetime = NOON, zone: tzinfo = UTC, **properties: Any) -> None:
        self.now = now
        self.zone = zone
        self.properties = properties
        self.store = MemoryStore()
        self.warnings: list[str] = []
        self.errors: list[Exception] = []
        self.processes = 0
        self.starts = Starts(self.store, lambda: self.now)
        self.restart()

    def restart(self) -> None:
        """A new process, with nothing in memory; the one before is dead."""
        self.store.dead.add(f"process {self.processes}")
        self.runner = Runner()
        self.scheduler, self.flows = self.another(self.runner)

    def another(self, runner: Runner | None = None) -> tuple[Scheduler, TriggeringFlows]:
        store = cast("Store", self.store)
        flows = TriggeringFlows(store, lambda source: read_flow(source, catalog()))
        self.rendering = Rendering(functions=lambda flow: {}, warn=self.warn, surroundings={"envs": {"a": "b"}})
        self.processes += 1
        scheduler = Scheduler(
            id=f"process {self.processes}",
            store=store,
            start=self.starts,
            flows=flows,
            rendering=self.rendering,
            warn=self.warn,
            on_error=self.errors.append,
            clock=lambda: self.now,
            zone=self.zone,
            runner=runner,
            **self.properties,
        )
        return scheduler, flows

    def flow_triggers(self) -> FlowTriggers:
        return FlowTriggers(
            store=cast("Store", self.store),
            flows=self.flows,
            prepare=self.starts,
            rendering=self.rendering,
            warn=self.warn,
            zone=self.zone,
        )

    def warn(self, flow: Flow, trigger_id: str, message: str) -> None:
        self.warnings.append(f"{flow.id}.{trigger_id}: {message}")

    def save(self, *triggers: Node, **properties: Any) -> Flow:
        flow = self.store.put(a_text(*triggers, **properties))
        self.scheduler.sync(flow)
        return flow

    def step(self, scheduler: Scheduler | None = None) -> datetime | None:
        return asyncio.run((scheduler or self.scheduler).step())

    def after(self, **duration: float) -> datetime | None:
        """Time passes, and then the scheduler looks."""
        self.now += timedelta(**duration)
        return self.step()

    def run_until(self, end: datetime) -> None:
        """The scheduler looks whenever something is due, and every execution ends at once."""
        while True:
            wake_at = self.step()
            self.end_all()
            if self.running():
                continue
            wake_at = self.step()
            if self.running():
                continue
            if wake_at is None or wake_at > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, wake_at)

    def running(self) -> list[Execution]:
        return [execution for execution in self.store.rows.values() if execution.is_open]

    def end(self, execution: Execution, state: State = State.SUCCESS) -> Execution:
        ended = replace(execution, history=(*execution.history, StateChange(state, self.now)))
        self.store.rows[execution.id] = ended
        self.scheduler.ended(ended)
        return ended

    def end_all(self, state: State = State.SUCCESS) -> None:
        for execution in self.running():
            self.end(execution, state)

    def state(self, trigger_id: str = "schedule") -> TriggerState:
        return self.store.states[(*OWNER, trigger_id)]

    def dates(self, trigger_id: str | None = None) -> list[str]:
        """The dates of all executions, as they were created."""
        return [
            cast("Any", execution.trigger)["variables"]["date"]
            for execution in self.store.rows.values()
            if trigger_id in {None, cast("Any", execution.trigger)["id"]}
        ]

    def call(self, coroutine: Any) -> Any:
        return asyncio.run(coroutine)


def refuse_all(when: str) -> None:
    raise TercelError(f"The disk is full, {when} the commit.")
