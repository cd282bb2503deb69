"""Durable records: the protocols that the rest of tercel knows, and the values that cross them.

Implementations are picked in `server.py`: `SqliteStore` in `embedded.py`, `PostgresStore` in `postgres.py`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry, Metric
from tercel.model.task import LogLevel
from tercel.store.log_queries import (
    FoundLine,
    FoundLines,
    FoundMetrics,
    LogOrder,
    LogSearch,
    MetricOrder,
    MetricQuery,
    MetricSum,
    MetricSums,
)
from tercel.store.records import (
    Changes,
    CountQuery,
    ExecutionQuery,
    FlowCount,
    FlowRevision,
    KeyValue,
    LogPage,
    LogPurge,
    PurgeQuery,
    StaleExecutionError,
    StaleTriggerError,
    TriggerKey,
    TriggerState,
    TriggerWindow,
    WindowKey,
)
from tercel.store.waiting import Bell, Promise, run

__all__ = [
    "Bell",
    "Changes",
    "CountQuery",
    "ExecutionQuery",
    "Executions",
    "FlowCount",
    "FlowRevision",
    "Flows",
    "FoundLine",
    "FoundLines",
    "FoundMetrics",
    "KeyValue",
    "KeyValues",
    "LogOrder",
    "LogPage",
    "LogPurge",
    "LogSearch",
    "Logs",
    "MetricOrder",
    "MetricQuery",
    "MetricSum",
    "MetricSums",
    "Promise",
    "PurgeQuery",
    "StaleExecutionError",
    "StaleTriggerError",
    "Store",
    "Transaction",
    "TriggerKey",
    "TriggerState",
    "TriggerWindow",
    "Triggers",
    "WindowKey",
    "run",
]


class Transaction(Protocol):
    """Writes that are committed together, when the block that opened it is left without an error."""

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call *action* once everything is committed, and never if it is not."""
        ...


class Flows(Protocol):
    """Flow revisions: the source of every revision ever saved."""

    def save(self, namespace: str, flow_id: str, source: str, now: datetime) -> Promise[FlowRevision]:
        """Save *source* as the next revision, or give the current one back where its text is the same.

        Text is the same when it differs in nothing but its line breaks' form and those at its end.
        """
        ...

    def create(self, namespace: str, flow_id: str, source: str, now: datetime) -> Promise[FlowRevision | None]:
        """Save *source* as a flow that there is not yet; None where there is one of that name, whatever its text."""
        ...

    async def find(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision | None:
        """One revision, the latest where *revision* is None; None where there is no such flow or it was deleted."""
        ...

    async def get(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision:
        """As `find`. Raises NotFoundError."""
        ...

    async def revisions(self, namespace: str, flow_id: str) -> list[FlowRevision]:
        """Every revision of a flow, oldest first."""
        ...

    async def latest(self, namespace: str | None = None) -> list[FlowRevision]:
        """The latest revision of every flow that was not deleted, by namespace and id; of one namespace where given."""
        ...

    def delete(self, namespace: str, flow_id: str, now: datetime) -> Promise[FlowRevision]:
        """Note that a flow was deleted, as its next revision; those before it stay readable by their number.

        Returns:
            The revision that notes it, with the text that the flow had last.

        Raises:
            NotFoundError: there is no such flow, or it was deleted before.
        """
        ...

    def change(
        self, sources: Sequence[tuple[str, str, str]], obsolete: Iterable[tuple[str, str]], now: datetime
    ) -> Promise[tuple[list[FlowRevision], list[FlowRevision]]]:
        """Save flows as `save` does and delete others as `delete` does: all of it, or nothing.

        Args:
            sources: namespace, id and text of each flow to save.
            obsolete: namespace and id of those to delete; what is not there is passed over.
            now: when it is done.

        Returns:
            The revision of each that was saved, and those that note what was deleted.
        """
        ...

    def remove_revisions(self, namespace: str, flow_id: str, revisions: Collection[int]) -> Promise[int]:
        """Remove old revisions; those that are not there are passed over.

        Returns:
            How many were there.

        Raises:
            ConflictError: one is the latest, or an execution runs it; nothing was removed.
        """
        ...


class Executions(Protocol):
    """Executions and their task runs.

    An execution belongs to one process, its owner, which alone advances it. When that process is dead, another one
    adopts what it left open. One that has ended belongs to whoever restarts it. Open means: not ended, or ended with
    tasks that follow its end still running.
    """

    def save(self, tx: Transaction, changes: Changes) -> None:
        """Write *changes* with *tx*, all or none of them; executions among them then belong to this process.

        The transaction fails with StaleExecutionError where an execution has another version than said, or belongs to
        another process while it is open: somebody else was faster.
        """
        ...

    async def find(self, execution_id: str, *, reveal: bool = False) -> Execution | None:
        """The execution, without its task runs; None where there is none.

        Texts that hold a secret are masked, unless *reveal* is wanted, to go on with the execution.
        """
        ...

    async def get(self, execution_id: str, *, reveal: bool = False) -> Execution:
        """As `find`. Raises NotFoundError."""
        ...

    async def task_runs(self, execution_id: str, *, reveal: bool = False) -> list[TaskRun]:
        """Its task runs, oldest first; empty where it has none or does not exist. *reveal* as in `find`."""
        ...

    async def search(self, query: ExecutionQuery) -> list[Execution]:
        """A page of executions, in the order asked for."""
        ...

    async def total(self, query: ExecutionQuery) -> int:
        """How many executions there are, on all pages."""
        ...

    async def ids(self, query: ExecutionQuery) -> list[str]:
        """The ids of a page of executions, in the order asked for."""
        ...

    async def values(self, field: str, query: ExecutionQuery, *, key: str = "") -> list[str]:
        """The different texts that a field of executions has, at most `query.limit` of them, in their order.

        Args:
            field: as in `ExecutionQuery`.
            query: which executions.
            key: of the map, where *field* is `labels`.
        """
        ...

    async def open_elsewhere(self) -> dict[str, str]:
        """Executions that are open, oldest first, and the process each belongs to; those of this one apart.

        "" stands for nobody: they were made for another process to take.
        """
        ...

    def adopt(self, executions: Mapping[str, str]) -> Promise[list[str]]:
        """Take over executions from dead processes.

        Args:
            executions: ids, each with the process it belongs to.

        Returns:
            The ids of those that were open and still belonged to the process said, in the order given.
        """
        ...

    def claim_slot(self, execution_id: str, namespace: str, flow_id: str, limit: int) -> Promise[bool]:
        """Give a saved execution one of its flow's *limit* slots, if one is free; nobody else gets the same.

        An execution keeps its slot, which counts while it is open: once it has ended the slot is free, and one that is
        restarted counts again.

        Returns:
            True where the execution has a slot now, or had one before.
        """
        ...

    def claim_next(self, namespace: str, flow_id: str, limit: int) -> Promise[str | None]:
        """Give the oldest QUEUED execution of this process that has no slot one, if one is free; gives its id.

        None where no slot is free or nothing waits. Its state stays: the caller tells it.
        """
        ...

    def force_slot(self, execution_id: str) -> Promise[None]:
        """Give an execution a slot beyond any limit: others wait until fewer than the limit count."""
        ...

    async def count(self, query: CountQuery) -> list[FlowCount]:
        """How many executions flows have: those asked for in the order given, then others by namespace and id."""
        ...

    async def find_ended(self, query: PurgeQuery, limit: int) -> list[Execution]:
        """At most *limit* executions that are not open any more, oldest first."""
        ...

    def delete(self, execution_ids: Collection[str]) -> Promise[int]:
        """Remove executions and their task runs, those apart that are open; gives how many executions were removed.

        Logs and metrics stay, see `Logs.delete`.
        """
        ...


class Logs(Protocol):
    """Log lines and metrics: taken from any thread, written in batches, read page by page."""

    def write_logs(self, entries: Iterable[LogEntry]) -> None:
        """Take lines, from any thread; blocks while too many wait. The order of the lines of one thread is kept.

        Raises StorageError once lines could not be written.
        """
        ...

    def write_metrics(self, metrics: Iterable[Metric]) -> None:
        """Take metrics, from any thread; as `write_logs`."""
        ...

    def flush(self) -> Promise[None]:
        """Write what waits now; the promise is kept once it is committed."""
        ...

    def listen(self, listener: Callable[[Sequence[LogEntry]], object]) -> Callable[[], None]:
        """Call *listener* with every batch of lines as it is written, in a thread of the log; gives a way to stop.

        A listener that raises is not called again.
        """
        ...

    def on_written(self, reader: Callable[[Collection[str]], object]) -> Callable[[], None]:
        """Call *reader* whenever lines of this process can be read, with the ids of their executions; as `listen`."""
        ...

    async def search(self, search: LogSearch) -> FoundLines:
        """A page of lines of all executions. Lines that are not written yet are not seen."""
        ...

    async def read(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        min_level: LogLevel = LogLevel.TRACE,
        after: int = 0,
        most_chunks: int = 32,
    ) -> LogPage:
        """A page of an execution's log: lines of *min_level* or above, of one task run where it is given.

        Lines that are not written yet are not seen; `flush` first to see all.
        """
        ...

    async def metrics(self, execution_id: str, task_run_id: str | None = None) -> list[Metric]:
        """The metrics of an execution, or of one of its task runs, in the order of writing."""
        ...

    async def find_metrics(self, query: MetricQuery) -> FoundMetrics:
        """A page of the metrics of an execution."""
        ...

    async def metric_names(self, namespace: str, flow_id: str, task_id: str | None = None) -> list[str]:
        """The names of the metrics that executions of a flow, or one of its tasks there, ever sent; ordered."""
        ...

    async def metric_tasks(self, namespace: str, flow_id: str) -> list[str]:
        """The ids of the tasks of a flow that ever sent a metric, ordered."""
        ...

    async def metric_sums(self, sums: MetricSums) -> list[MetricSum]:
        """What the metrics of a flow come to in each span of time that has some, oldest first."""
        ...

    def delete(
        self, execution_ids: Collection[str], *, lines: bool = True, metrics: bool = True
    ) -> Promise[tuple[int, int]]:
        """Remove what is written of executions, their lines or metrics or both; gives how many of each were removed."""
        ...

    async def purge(self, purge: LogPurge) -> int:
        """Remove lines, a few chunks at a time; gives how many were removed. Lines not written yet stay."""
        ...


class Triggers(Protocol):
    """Where triggers stand, and what those that wait for several things have seen so far."""

    async def all(self, type: str | None = None) -> list[TriggerState]:
        """Every trigger's state, by namespace, flow and id; of one type where given."""
        ...

    async def get(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState | None:
        """The state of a trigger; None where nothing is known of it."""
        ...

    async def due(self, now: datetime) -> list[TriggerState]:
        """Those that are to be looked at by now and are not disabled, longest due first."""
        ...

    def save(self, tx: Transaction, states: Iterable[TriggerState]) -> None:
        """Write states with *tx*, all or none of them.

        The transaction fails with StaleTriggerError where a trigger's stored version is not the one before the version
        to be written, or where one of version 1 is there already: somebody else was faster.
        """
        ...

    def remove(self, tx: Transaction, keys: Iterable[TriggerKey]) -> None:
        """Forget triggers and their windows; those that are not there are passed over."""
        ...

    async def windows(self, namespace: str, flow_id: str, trigger_id: str) -> list[TriggerWindow]:
        """The windows of a trigger, the one that begins first, first."""
        ...

    def save_windows(self, tx: Transaction, windows: Iterable[TriggerWindow]) -> None:
        """Write windows, new or changed."""
        ...

    def remove_windows(self, tx: Transaction, keys: Iterable[WindowKey]) -> None:
        """Forget windows; those that are not there are passed over."""
        ...


class KeyValues(Protocol):
    """Key-value pairs of namespaces. One that has expired counts as one that is not there."""

    def set(
        self,
        namespace: str,
        key: str,
        value: object,
        *,
        now: datetime,
        expires_at: datetime | None = None,
        overwrite: bool = True,
        description: str = "",
    ) -> Promise[bool]:
        """Write a pair; False, and nothing is written, where there is one and *overwrite* is not wanted."""
        ...

    async def find(self, namespace: str, key: str, now: datetime) -> KeyValue | None:
        """A pair, texts that hold a secret revealed; None where there is none."""
        ...

    async def keys(self, namespace: str | None, now: datetime, prefix: str = "") -> list[KeyValue]:
        """The pairs of a namespace, or of all where None, whose key begins with *prefix*, by namespace and key.

        Texts that hold a secret are masked.
        """
        ...

    def delete(self, namespace: str, key: str, now: datetime | None = None) -> Promise[bool]:
        """Remove a pair; False where there was none. Without *now* an expired one counts as there."""
        ...

    def change(
        self, namespace: str, key: str, now: datetime, change: Callable[[object | None], object | None]
    ) -> Promise[object | None]:
        """Replace a value by what *change* makes of it; nobody else changes it meanwhile.

        Args:
            namespace: where the pair is.
            key: its key.
            now: the current instant.
            change: gets the value, secrets revealed, or None where there is no pair; None as its answer removes the
                pair. Called in the store's thread, perhaps more than once: it must be quick and do nothing else.

        Returns:
            The new value; the promise fails with what *change* raises, and nothing is written then.
        """
        ...


class Store(Protocol):
    """All records of one home or server."""

    @property
    def flows(self) -> Flows:
        """Flow revisions."""
        ...

    @property
    def executions(self) -> Executions:
        """Executions and task runs."""
        ...

    @property
    def logs(self) -> Logs:
        """Log lines and metrics."""
        ...

    @property
    def triggers(self) -> Triggers:
        """Where triggers stand."""
        ...

    @property
    def key_values(self) -> KeyValues:
        """Key-value pairs of namespaces."""
        ...

    async def dead_owners(self, owners: Iterable[str]) -> set[str]:
        """Those of *owners* that are no live process: what they left open may be adopted. Nobody, "", is dead."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Opens a transaction; it is committed on a clean exit, and everything or nothing of it is kept."""
        ...

    def close(self) -> None:
        """Write what waits and let go of everything; a second call does nothing."""
        ...
