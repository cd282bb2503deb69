"""Durable records: the protocols that the rest of tercel knows, and the values that cross them.

Implementations are picked in `server.py`: `SqliteStore` in `embedded.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry, Metric
from tercel.model.task import LogLevel
from tercel.store.records import Changes, ExecutionQuery, FlowRevision, LogPage, StaleExecutionError
from tercel.store.waiting import Bell, Promise, run

__all__ = [
    "Bell",
    "Changes",
    "ExecutionQuery",
    "Executions",
    "FlowRevision",
    "Flows",
    "LogPage",
    "Logs",
    "Promise",
    "StaleExecutionError",
    "Store",
    "Transaction",
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

    async def find(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision | None:
        """One revision, the latest where *revision* is None; None where there is no such flow or it was deleted."""
        ...

    async def get(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision:
        """As `find`. Raises NotFoundError."""
        ...

    async def revisions(self, namespace: str, flow_id: str) -> list[FlowRevision]:
        """Every revision of a flow, oldest first."""
        ...


class Executions(Protocol):
    """Executions and their task runs.

    An execution belongs to one process, its owner, which alone advances it. When that process is dead, another one
    adopts what it left open. One that has ended belongs to whoever restarts it.
    """

    def save(self, tx: Transaction, changes: Changes) -> None:
        """Write *changes* with *tx*, all or none of them; executions among them then belong to this process.

        The transaction fails with StaleExecutionError where an execution has another version than said: somebody else
        was faster.
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
        """A page of executions, newest first."""
        ...

    async def open_elsewhere(self) -> dict[str, str]:
        """Executions that have not ended, oldest first, and the process each belongs to; those of this one apart."""
        ...

    def adopt(self, executions: Mapping[str, str]) -> Promise[list[str]]:
        """Take over executions from dead processes.

        Args:
            executions: ids, each with the process it belongs to.

        Returns:
            The ids of those that had not ended and still belonged to the process said, in the order given.
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

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Opens a transaction; it is committed on a clean exit, and everything or nothing of it is kept."""
        ...

    def close(self) -> None:
        """Write what waits and let go of everything; a second call does nothing."""
        ...
