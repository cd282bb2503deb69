"""What tasks may ask of the engine: kill, resume, count, purge, read logs, save flows, and more. Each call waits.

Tasks run in threads of workers, so that a call blocks nothing but its own task.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from tercel.errors import InvalidFlowError, NotFoundError
from tercel.executor import last_try
from tercel.machine.progress import Progress
from tercel.model.execution import child_execution_id
from tercel.model.flow import Flow
from tercel.model.flow_text import is_same_text
from tercel.model.logs import LogEntry
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.operations import Operations
from tercel.plugin_api import FlowChange, FlowSource, PurgeResult
from tercel.store import CountQuery, FlowRevision, LogPurge, PurgeQuery, Store, run

_BATCH = 200


class NamespaceKeys:
    """The key-value pairs of namespaces as tasks see them; `KeyValues` of the plugin API."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._pairs = store.key_values
        self._clock = clock

    def find(self, namespace: str, key: str) -> object | None:
        """The value; None where there is none or it has expired."""
        found = run(self._pairs.find(namespace, key, self._clock()))
        return None if found is None else found.value

    def keys(self, namespace: str, prefix: str = "") -> list[str]:
        """The keys that begin with *prefix*, sorted."""
        return [pair.key for pair in run(self._pairs.keys(namespace, self._clock(), prefix))]

    def set(
        self, namespace: str, key: str, value: object, *, ttl: timedelta | None = None, overwrite: bool = True
    ) -> bool:
        """Store a value, for *ttl* or for good."""
        now = self._clock()
        expires_at = None if ttl is None else now + ttl
        return self._pairs.set(namespace, key, value, now=now, expires_at=expires_at, overwrite=overwrite).wait()

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; False where there is none."""
        return self._pairs.delete(namespace, key, self._clock()).wait()

    def change(self, namespace: str, key: str, change: Callable[[object | None], object | None]) -> object | None:
        """Replace a value by what *change* makes of it, None removing it."""
        return self._pairs.change(namespace, key, self._clock(), change).wait()


class TaskCalls:
    """The engine as tasks see it; `EngineCalls` of the plugin API.

    Args:
        set_trigger_disabled: switches a trigger off or on; raises NotFoundError.
    """

    def __init__(
        self,
        operations: Operations,
        store: Store,
        set_trigger_disabled: Callable[[str, str, str, bool], object],
    ) -> None:
        self._operations = operations
        self._store = store
        self._set_trigger_disabled = set_trigger_disabled

    def kill(self, execution_id: str, *, cascade: bool = True) -> None:
        """Ask an execution to end."""
        run(self._operations.kill(execution_id, cascade=cascade))

    def resume(self, execution_id: str, inputs: Mapping[str, object]) -> None:
        """Have a paused execution go on."""
        run(self._operations.resume(execution_id, inputs))

    def count(
        self,
        *,
        flows: Sequence[tuple[str, str]] = (),
        namespaces: Sequence[str] = (),
        states: Collection[State] = (),
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[tuple[str, str, int]]:
        """How many executions flows have."""
        query = CountQuery(flows=flows, namespaces=namespaces, states=states, start=start, end=end)
        return [(one.namespace, one.flow_id, one.count) for one in run(self._store.executions.count(query))]

    def purge_executions(
        self,
        *,
        namespace: str | None,
        flow_id: str | None,
        states: Collection[State],
        start: datetime | None,
        end: datetime,
        executions: bool = True,
        logs: bool = True,
        metrics: bool = True,
        files: bool = True,
    ) -> PurgeResult:
        """Remove executions that ended, or parts of what they left, in batches."""
        totals = [0, 0, 0, 0]
        last: str | None = None
        while True:
            query = PurgeQuery(
                namespace=namespace, flow_id=flow_id, states=states, started_after=start, started_before=end, after=last
            )
            found = run(self._store.executions.find_ended(query, _BATCH))
            if files:
                totals[3] += sum(map(self._operations.delete_files, found))
            ids = [execution.id for execution in found]
            if logs or metrics:
                lines, values = self._store.logs.delete(ids, lines=logs, metrics=metrics).wait()
                totals[1] += lines
                totals[2] += values
            if executions:
                totals[0] += self._store.executions.delete(ids).wait()
            if len(found) < _BATCH:
                return PurgeResult(*totals)
            last = found[-1].id

    def logs(
        self, execution_id: str, *, task_ids: Collection[str] = (), min_level: LogLevel = LogLevel.TRACE
    ) -> Iterator[LogEntry]:
        """The log of an execution, all written so far."""
        self._store.logs.flush().wait()
        after, is_last = 0, False
        while not is_last:
            page = run(self._store.logs.read(execution_id, min_level=min_level, after=after))
            for entry in page.entries:
                if not task_ids or entry.task_id in task_ids:
                    yield entry
            after, is_last = page.next, page.is_last

    def subflow_outputs(self, execution_id: str, task_run_id: str) -> Iterator[Mapping[str, object]]:
        """The outputs of the executions that a task run started."""
        rows = {one.id: one for one in run(self._store.executions.task_runs(execution_id))}
        task_run = rows.get(task_run_id)
        if task_run is None:
            raise NotFoundError(f"The execution {execution_id} has no task run {task_run_id}.")
        for number in range(Progress.of(task_run).started):
            child_id = child_execution_id(task_run, number)
            child = run(last_try(self._store.executions, child_id))
            if child is None:
                raise NotFoundError(f"There is no execution {child_id}, which {task_run.task_id!r} started.")
            yield child.outputs

    def execution_flow(self, execution_id: str) -> tuple[str, str]:
        """Namespace and flow of an execution."""
        execution = run(self._store.executions.get(execution_id))
        return execution.namespace, execution.flow_id

    def purge_logs(
        self,
        *,
        namespace: str | None,
        flow_id: str | None,
        levels: Collection[LogLevel],
        start: datetime | None,
        end: datetime,
    ) -> int:
        """Remove log lines."""
        self._store.logs.flush().wait()
        return run(
            self._store.logs.purge(LogPurge(namespace=namespace, flow_id=flow_id, levels=levels, start=start, end=end))
        )

    def set_trigger_disabled(self, namespace: str, flow_id: str, trigger_id: str, *, disabled: bool) -> None:
        """Disable or enable a trigger."""
        self._set_trigger_disabled(namespace, flow_id, trigger_id, disabled)

    def saved_flows(self, namespace: str, *, with_children: bool = False) -> list[FlowSource]:
        """The latest revisions of the flows of a namespace."""
        saved = run(self._operations.saved_flows(None if with_children else namespace))
        return [
            FlowSource(one.namespace, one.id, one.revision, one.source)
            for one in saved
            if one.namespace == namespace or one.namespace.startswith(f"{namespace}.")
        ]

    def read_flow(self, source: str) -> FlowSource:
        """The flow that a text holds, checked."""
        flow = self._operations.read_flow(source)
        return FlowSource(flow.namespace, flow.id, None, flow.source)

    def change_flows(
        self, sources: Sequence[str], *, delete: Sequence[tuple[str, str]] = (), dry_run: bool = False
    ) -> list[FlowChange]:
        """Save flows and delete others, or say what would change."""
        flows = [self._operations.read_flow(source) for source in sources]
        names = [(flow.namespace, flow.id) for flow in flows]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise InvalidFlowError(f"The flow {twice[1]!r} of the namespace {twice[0]!r} is given more than once.")
        known = {(one.namespace, one.id): one for one in run(self._operations.saved_flows())}
        changes = [_change(flow, known.get(name)) for name, flow in zip(names, flows, strict=True)]
        changes += [FlowChange(*name, "DELETED", known[name].revision) for name in delete if name in known]
        if dry_run:
            return changes
        obsolete = frozenset(delete)
        done = run(self._operations.save_flows(flows, lambda one: (one.namespace, one.id) in obsolete))
        revisions = {(one.namespace, one.id): one.revision for one in (*done.saved, *done.deleted)}
        return [one._replace(revision=revisions.get((one.namespace, one.id), one.revision)) for one in changes]


def _change(flow: Flow, known: FlowRevision | None) -> FlowChange:
    if known is None:
        return FlowChange(flow.namespace, flow.id, "CREATED", None)
    kind = "UNCHANGED" if is_same_text(known.source, flow.source) else "UPDATED"
    return FlowChange(flow.namespace, flow.id, kind, known.revision)
