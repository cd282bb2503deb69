"""What can be asked of logs and metrics beyond one execution, and while they grow."""

from collections.abc import Callable, Collection

from tercel.model.execution import Execution
from tercel.model.task import LogLevel
from tercel.store import (
    FoundLines,
    FoundMetrics,
    LogPage,
    LogPurge,
    LogSearch,
    MetricQuery,
    MetricSum,
    MetricSums,
    Store,
)


class LogQueries:
    """Questions about logs and metrics; all that this process wrote before is seen."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find_execution(self, execution_id: str) -> Execution | None:
        """An execution, without its task runs; None where there is none."""
        return await self._store.executions.find(execution_id)

    async def log_page(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        min_level: LogLevel = LogLevel.TRACE,
        after: int = 0,
        most_chunks: int = 32,
    ) -> LogPage:
        """A page of a log as it is written so far, for who reads on later; empty where there is no such execution."""
        return await self._store.logs.read(
            execution_id, task_run_id=task_run_id, min_level=min_level, after=after, most_chunks=most_chunks
        )

    async def write_logs(self) -> None:
        """Have all that this process has logged so far written, so that it can be read."""
        await self._store.logs.flush()

    def on_logs_written(self, reader: Callable[[Collection[str]], object]) -> Callable[[], None]:
        """Have *reader* called in a thread of the log whenever lines that this process wrote can be read.

        Args:
            reader: gets the ids of their executions; it may not wait. One that raises is not called again.

        Returns:
            A way to stop.
        """
        return self._store.logs.on_written(reader)

    async def search_logs(self, search: LogSearch) -> FoundLines:
        """A page of lines of all executions."""
        await self._store.logs.flush()
        return await self._store.logs.search(search)

    async def purge_logs(self, purge: LogPurge) -> int:
        """Remove lines; gives how many were removed."""
        await self._store.logs.flush()
        return await self._store.logs.purge(purge)

    async def find_metrics(self, query: MetricQuery) -> FoundMetrics:
        """A page of the metrics of an execution; empty where there is no such execution."""
        await self._store.logs.flush()
        return await self._store.logs.find_metrics(query)

    async def metric_names(self, namespace: str, flow_id: str, task_id: str | None = None) -> list[str]:
        """The names of the metrics that executions of a flow, or one of its tasks there, ever sent; ordered."""
        await self._store.logs.flush()
        return await self._store.logs.metric_names(namespace, flow_id, task_id)

    async def metric_tasks(self, namespace: str, flow_id: str) -> list[str]:
        """The ids of the tasks of a flow that ever sent a metric, ordered."""
        await self._store.logs.flush()
        return await self._store.logs.metric_tasks(namespace, flow_id)

    async def metric_sums(self, sums: MetricSums) -> list[MetricSum]:
        """What the metrics of a flow come to in each span of time that has some, oldest first."""
        await self._store.logs.flush()
        return await self._store.logs.metric_sums(sums)
