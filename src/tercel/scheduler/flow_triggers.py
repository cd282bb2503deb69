"""FlowTriggers: which executions follow from a change of another one.

The executor asks before it commits the change, and writes the answer in the same transaction: so nothing is started
twice or forgotten. What triggers have seen so far, where they wait for several things, is kept in windows.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

import msgspec

from tercel.errors import UserError
from tercel.model.condition import ConditionContext, FlowName, Windowed
from tercel.model.execution import Execution, TaskRun, execution_id_at
from tercel.model.flow import Flow
from tercel.model.trigger import ReactingTrigger
from tercel.scheduler.flows import TriggeringFlows
from tercel.scheduler.starting import PreparesExecutions, Rendering, Warn
from tercel.store import Store, Transaction, Triggers, TriggerWindow, WindowKey

PendingWindows = dict[WindowKey, TriggerWindow | None]
"""Windows as a batch that is not committed yet will leave them; None where it removes one."""


class Reactions(NamedTuple):
    """What follows from a change.

    Attributes:
        executions: to create, in CREATED.
        saved: windows to write.
        removed: windows to forget.
    """

    executions: Sequence[Execution] = ()
    saved: Sequence[TriggerWindow] = ()
    removed: Sequence[WindowKey] = ()

    def write(self, triggers: Triggers, tx: Transaction) -> None:
        """Write the windows with *tx*."""
        triggers.remove_windows(tx, self.removed)
        triggers.save_windows(tx, self.saved)


class _Upstream(NamedTuple):
    """An execution as it was right after a change."""

    execution: Execution
    runs: Sequence[TaskRun]
    variables: Mapping[str, object]
    at: datetime


class FlowTriggers:
    """Knows which triggers react to which changes.

    Args:
        flows: the flows that have triggers.
        prepare: makes the rows of the executions to create.
        rendering: renders conditions, inputs and labels.
        warn: is told why a trigger starts nothing although it should.
        zone: in which windows begin and end at midnight.
    """

    def __init__(
        self,
        *,
        store: Store,
        flows: TriggeringFlows,
        prepare: PreparesExecutions,
        rendering: Rendering,
        warn: Warn,
        zone: tzinfo,
    ) -> None:
        self._store = store
        self._flows = flows
        self._prepare = prepare
        self._rendering = rendering
        self._warn = warn
        self._zone = zone

    async def reactions(
        self,
        execution: Execution,
        *,
        since: int,
        pending: PendingWindows,
        runs: Callable[[], Sequence[TaskRun]] = tuple,
        variables: Callable[[], Mapping[str, object]] = dict,
    ) -> Reactions:
        """Say what follows from the latest changes of an execution's state.

        Args:
            execution: as it is now.
            since: how many entries of its history have been reacted to before. The state that it ends in is to be
                asked about once nothing of it runs any more, so with the tasks that follow its end behind it.
            pending: windows that the batch at hand changes; those changed here are added.
            runs: gives its task runs; called only where a trigger may react.
            variables: gives what its expressions see; as *runs*.
        """
        if not self._flows.is_loaded:
            await self._flows.refresh()
        if not self._flows.reacting:
            return _NOTHING
        executions: list[Execution] = []
        touched: dict[WindowKey, TriggerWindow | None] = {}
        looked: tuple[Sequence[TaskRun], Mapping[str, object]] | None = None
        for index in range(since, len(execution.history)):
            change = execution.history[index]
            is_last = index == len(execution.history) - 1
            for flow, trigger in self._flows.reacting:
                if not trigger.reacts_to(change.state) or not self._concerns(flow, trigger, execution):
                    continue
                was = msgspec.structs.replace(
                    execution,
                    history=execution.history[: index + 1],
                    outputs=execution.outputs if is_last else {},
                )
                looked = looked or (runs(), variables())
                upstream = _Upstream(was, *looked, change.date)
                if await self._fires(flow, trigger, upstream, pending, touched):
                    seed = ["flow trigger", execution.id, index, flow.namespace, flow.id, trigger.id]
                    started = self._started(flow, trigger, upstream, execution_id_at(change.date, seed))
                    if started is not None:
                        executions.append(started)
        return Reactions(
            executions,
            [window for window in touched.values() if window is not None],
            [key for key, window in touched.items() if window is None],
        )

    def _concerns(self, flow: Flow, trigger: ReactingTrigger, execution: Execution) -> bool:
        """False for executions of the trigger's own flow, and where somebody has disabled the trigger."""
        if (flow.namespace, flow.id) == (execution.namespace, execution.flow_id):
            return False
        return not self._flows.is_disabled((flow.namespace, flow.id, trigger.id))

    async def _fires(
        self,
        flow: Flow,
        trigger: ReactingTrigger,
        upstream: _Upstream,
        pending: PendingWindows,
        touched: dict[WindowKey, TriggerWindow | None],
    ) -> bool:
        """Say whether the trigger starts an execution now, and note what it has seen."""
        seen = self._context(flow, trigger, upstream)
        if not all(self._holds(flow, trigger, seen, one.test) for one in trigger.tested_conditions()):
            return False
        gatherings = trigger.windowed()
        if not gatherings:
            return True
        windows = await self._windows(flow, trigger, pending)
        met_any, is_complete = False, True
        after: dict[WindowKey, TriggerWindow | None] = {}
        for gathering in gatherings:
            key = (flow.namespace, flow.id, trigger.id, gathering.id)
            rules = gathering.rules()
            met = {name: True for name, test in rules.items() if self._holds(flow, trigger, seen, test)}
            window = windows.get(key)
            if window is not None and not window.start <= upstream.at < window.end:
                window = after[key] = None
            if met:
                window = self._with(window, key, gathering, met, upstream.at)
                if window is not None:
                    met_any, after[key] = True, window
            is_complete = is_complete and window is not None and all(window.results.get(name) for name in rules)
        fires = met_any and is_complete
        if fires:
            after |= {(flow.namespace, flow.id, trigger.id, one.id): None for one in gatherings if one.reset_on_success}
        pending |= after
        touched |= after
        return fires

    def _with(
        self, window: TriggerWindow | None, key: WindowKey, gathering: Windowed, met: Mapping[str, bool], at: datetime
    ) -> TriggerWindow | None:
        """*window*, or a new one, in which *met* has happened; None where *at* lies outside of every span."""
        if window is not None:
            return msgspec.structs.replace(window, results={**window.results, **met})
        span = gathering.span.span_at(at, self._zone)
        if span is None:
            return None
        namespace, flow_id, trigger_id, window_id = key
        return TriggerWindow(
            namespace=namespace,
            flow_id=flow_id,
            trigger_id=trigger_id,
            window_id=window_id,
            start=span[0],
            end=span[1],
            results=met,
        )

    async def _windows(
        self, flow: Flow, trigger: ReactingTrigger, pending: PendingWindows
    ) -> Mapping[WindowKey, TriggerWindow]:
        """The windows of a trigger, as the batch at hand leaves them."""
        stored = await self._store.triggers.windows(flow.namespace, flow.id, trigger.id)
        now = {window.key: window for window in stored} | pending
        return {key: window for key, window in now.items() if window is not None}

    def _holds(
        self,
        flow: Flow,
        trigger: ReactingTrigger,
        seen: ConditionContext,
        test: Callable[[ConditionContext], bool],
    ) -> bool:
        try:
            return test(seen)
        except UserError as error:
            self._warn(flow, trigger.id, f"A condition counts as not met: {error}")
            return False

    def _context(self, flow: Flow, trigger: ReactingTrigger, upstream: _Upstream) -> ConditionContext:
        variables = self._rendering.variables(flow, _variables(upstream.execution))
        return ConditionContext(
            flow=FlowName(flow.namespace, flow.id),
            render=self._rendering.text(flow, {**upstream.variables, **variables}),
            execution=upstream.execution,
            runs=upstream.runs,
        )

    def _started(
        self, flow: Flow, trigger: ReactingTrigger, upstream: _Upstream, execution_id: str
    ) -> Execution | None:
        """The execution that the trigger starts; None, and that is told, where its inputs cannot be."""
        variables = _variables(upstream.execution)
        seen = self._rendering.variables(flow, {"id": trigger.id, "type": trigger.type, **variables})
        try:
            return self._prepare.prepare(
                flow,
                self._rendering.inputs(flow, trigger.inputs, seen),
                execution_id=execution_id,
                labels=self._rendering.labels(flow, trigger, seen),
                trigger={"id": trigger.id, "type": trigger.type, "variables": variables},
            )
        except UserError as error:
            self._warn(flow, trigger.id, f"No execution is started after {upstream.execution.id}: {error}")
            return None


_NOTHING = Reactions()


def _variables(execution: Execution) -> dict[str, object]:
    """What executions see as `trigger`."""
    return {
        "executionId": execution.id,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "flowRevision": execution.revision,
        "state": execution.state.value,
        "outputs": execution.outputs,
    }
