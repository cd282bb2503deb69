"""Metrics as they are read: of an execution, page by page; of a flow, by name and added up. `logs.py` writes them."""

from typing import Any

import msgspec

from tercel.model.logs import Metric
from tercel.store.database import Conditions, Database
from tercel.store.log_queries import FoundMetrics, MetricOrder, MetricQuery, MetricSum, MetricSums
from tercel.store.rows import instant, microseconds, without_nul

_COLUMNS = "execution_id, task_id, task_run_id, attempt, type, name, value, date_us, tags"
INSERT_METRIC = f"INSERT INTO metrics ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

_VALUE = "CASE WHEN type = 'timer' THEN value / 1000 ELSE value END"
"""What people see: seconds of a timer, whose value is in milliseconds."""

_ORDERS: dict[MetricOrder, str] = {
    "taskId": "task_id",
    "taskRunId": "task_run_id",
    "name": "name",
    "type": "type",
    "value": _VALUE,
    "timestamp": "date_us",
}
_JOINED = "FROM metrics JOIN executions ON executions.id = metrics.execution_id"


class StoredMetrics:
    """Metrics in a database, for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def metrics(self, execution_id: str, task_run_id: str | None = None) -> list[Metric]:
        """The metrics of an execution, or of one of its task runs, in the order of writing."""
        conditions = _of_execution(execution_id, task_run_id, None)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM metrics {conditions} ORDER BY id", conditions.values
            ).fetchall()
        return [_metric(row) for row in rows]

    async def find_metrics(self, query: MetricQuery) -> FoundMetrics:
        """A page of the metrics of an execution."""
        conditions = _of_execution(query.execution_id, query.task_run_id, query.task_id)
        order = [f"{_ORDERS[name]} {'DESC' if is_descending else 'ASC'}" for name, is_descending in query.order]
        with self._database.reading() as connection:
            total = connection.execute(f"SELECT count(*) FROM metrics {conditions}", conditions.values).fetchone()[0]
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM metrics {conditions} ORDER BY {', '.join([*order, 'id'])} LIMIT ? OFFSET ?",
                (*conditions.values, query.limit, query.skipped),
            ).fetchall()
        return FoundMetrics([_metric(row) for row in rows], total)

    async def metric_names(self, namespace: str, flow_id: str, task_id: str | None = None) -> list[str]:
        """The names of the metrics that executions of a flow, or one of its tasks there, ever sent; ordered."""
        return self._distinct("name", _of_flow(namespace, flow_id, task_id))

    async def metric_tasks(self, namespace: str, flow_id: str) -> list[str]:
        """The ids of the tasks of a flow that ever sent a metric, ordered."""
        return self._distinct("task_id", _of_flow(namespace, flow_id, None))

    def _distinct(self, column: str, conditions: Conditions) -> list[str]:
        with self._database.reading() as connection:
            rows = connection.execute(f"SELECT DISTINCT {column} {_JOINED} {conditions}", conditions.values).fetchall()
        return sorted(value for (value,) in rows)

    async def metric_sums(self, sums: MetricSums) -> list[MetricSum]:
        """What the metrics of a flow come to in each span of time that has some, oldest first.

        Those of executions for tests and the like do not count.
        """
        conditions = _of_flow(sums.namespace, sums.flow_id, sums.task_id)
        conditions.add("(kind IS NULL OR kind = 'NORMAL')")
        conditions.add("name = ?", sums.name)
        conditions.add("date_us >= ? AND date_us <= ?", microseconds(sums.start), microseconds(sums.end))
        span = f"date_us / {sums.span_us:d}"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {span}, count(*), sum({_VALUE}), min({_VALUE}), max({_VALUE}) {_JOINED} {conditions} "
                f"GROUP BY {span} ORDER BY {span}",
                conditions.values,
            ).fetchall()
        return [MetricSum(instant(at * sums.span_us), *numbers) for at, *numbers in rows]


def _of_execution(execution_id: str, task_run_id: str | None, task_id: str | None) -> Conditions:
    conditions = Conditions()
    conditions.add("execution_id = ?", execution_id)
    if task_run_id is not None:
        conditions.add("task_run_id = ?", task_run_id)
    if task_id is not None:
        conditions.add("task_id = ?", task_id)
    return conditions


def _of_flow(namespace: str, flow_id: str, task_id: str | None) -> Conditions:
    conditions = Conditions()
    conditions.add("namespace = ? AND flow_id = ?", namespace, flow_id)
    if task_id is not None:
        conditions.add("task_id = ?", task_id)
    return conditions


def metric_row(metric: Metric) -> tuple[object, ...]:
    """The columns of a metric, as `INSERT_METRIC` takes them."""
    return (
        metric.execution_id,
        metric.task_id,
        metric.task_run_id,
        metric.attempt,
        metric.type,
        without_nul(metric.name),
        metric.value,
        microseconds(metric.date),
        msgspec.json.encode(metric.tags).decode(),
    )


def _metric(row: tuple[Any, ...]) -> Metric:
    execution_id, task_id, task_run_id, attempt, type_, name, value, date_us, tags = row
    return Metric(
        execution_id=execution_id,
        task_id=task_id,
        task_run_id=task_run_id,
        attempt=attempt,
        type=type_,
        name=name,
        value=value,
        date=instant(date_us),
        tags=msgspec.json.decode(tags, type=dict[str, str]),
    )
