"""What can be asked: flows in their revisions, executions, task runs, logs, metrics."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec.structs import replace

from tercel.errors import NotFoundError
from tercel.machine import FlowIndex, compile_flow
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.logs import Metric
from tercel.model.task import LogLevel
from tercel.operations.log_queries import LogQueries
from tercel.store import ExecutionQuery, FlowRevision, KeyValue, LogPage, Store, TriggerState

_EVER = datetime.fromtimestamp(0, UTC)

ReadFlow = Callable[[str], Flow]
"""Reads a flow's source; raises InvalidFlowError."""


class RunningFlows:
    """Flow revisions as the machine reads them, each read once.

    Args:
        most: how many are kept.
    """

    def __init__(self, store: Store, read: ReadFlow, most: int = 256) -> None:
        self._store = store
        self._read = read
        self._most = most
        self._compiled: OrderedDict[tuple[str, str, int], FlowIndex] = OrderedDict()

    async def find(self, namespace: str, flow_id: str, revision: int) -> FlowIndex:
        """A revision. Raises NotFoundError, and InvalidFlowError where this version of tercel cannot read it."""
        found = self._compiled.get((namespace, flow_id, revision))
        if found is None:
            saved = await self._store.flows.get(namespace, flow_id, revision)
            found = self.keep(replace(self._read(saved.source), revision=revision, source=saved.source))
        return found

    def keep(self, flow: Flow) -> FlowIndex:
        """Keep a flow, read already, under its revision."""
        index = self._compiled[flow.namespace, flow.id, flow.revision] = compile_flow(flow)
        while len(self._compiled) > self._most:
            self._compiled.popitem(last=False)
        return index


class Queries(LogQueries):
    """What can be asked of a home, also while another process works in it."""

    async def saved_flows(self, namespace: str | None = None) -> list[FlowRevision]:
        """The latest revision of every flow, by namespace and id; of one namespace where given."""
        return await self._store.flows.latest(namespace)

    async def saved_flow(
        self, namespace: str, flow_id: str, revision: int | None = None, *, allow_deleted: bool = False
    ) -> FlowRevision:
        """A revision of a flow, the latest where *revision* is None; of a deleted one only where allowed.

        Raises NotFoundError.
        """
        found = await self._store.flows.find(namespace, flow_id, revision)
        if found is None and allow_deleted and revision is None:
            found = next(iter((await self._store.flows.revisions(namespace, flow_id))[-1:]), None)
        if found is None:
            which = "" if revision is None else f" with revision {revision}"
            raise NotFoundError(f"There is no flow {namespace}.{flow_id}{which}.")
        return found

    async def flow_revisions(self, namespace: str, flow_id: str) -> list[FlowRevision]:
        """Every revision of a flow, also of one that was deleted, oldest first; empty where there is no such flow."""
        return await self._store.flows.revisions(namespace, flow_id)

    async def trigger_states(self) -> list[TriggerState]:
        """Where triggers stand, by namespace, flow and id; those that nothing is known of yet are left out."""
        return await self._store.triggers.all()

    async def key_values(self, namespace: str | None, now: datetime, prefix: str = "") -> list[KeyValue]:
        """The pairs of a namespace, or of all where None, whose key begins with *prefix*, by namespace and key.

        Secrets in them are masked.
        """
        return await self._store.key_values.keys(namespace, now, prefix)

    async def find_key_value(self, namespace: str, key: str) -> KeyValue | None:
        """A pair, also one that has expired and is not forgotten yet, secrets masked; None where there is none."""
        found = await self._store.key_values.keys(namespace, _EVER, key)
        return next((one for one in found if one.key == key), None)

    async def get_execution(self, execution_id: str) -> Execution:
        """An execution, without its task runs. Raises NotFoundError."""
        return await self._store.executions.get(execution_id)

    async def search_executions(self, query: ExecutionQuery) -> list[Execution]:
        """A page of executions, in the order asked for."""
        return await self._store.executions.search(query)

    async def count_executions(self, query: ExecutionQuery) -> int:
        """How many executions there are, on all pages."""
        return await self._store.executions.total(query)

    async def execution_ids(self, query: ExecutionQuery) -> list[str]:
        """The ids of a page of executions, in the order asked for."""
        return await self._store.executions.ids(query)

    async def execution_values(self, field: str, query: ExecutionQuery, *, key: str = "") -> list[str]:
        """The different texts that a field of executions has; see `Executions.values` of the store."""
        return await self._store.executions.values(field, query, key=key)

    async def task_runs(self, execution_id: str) -> list[TaskRun]:
        """Its task runs, oldest first. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        return await self._store.executions.task_runs(execution_id)

    async def logs(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        min_level: LogLevel = LogLevel.TRACE,
        after: int = 0,
    ) -> LogPage:
        """A page of its log, all that this process wrote included. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        await self._store.logs.flush()
        return await self._store.logs.read(execution_id, task_run_id=task_run_id, min_level=min_level, after=after)

    async def metrics(self, execution_id: str, task_run_id: str | None = None) -> list[Metric]:
        """Its metrics, or those of one task run. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        await self._store.logs.flush()
        return await self._store.logs.metrics(execution_id, task_run_id)
