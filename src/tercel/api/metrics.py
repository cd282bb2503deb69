"""`/metrics`: what tasks measured, of one execution, and of a flow over time."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from starlette.responses import Response

from tercel.api.answers import json_answer, page_answer
from tercel.api.call import Call
from tercel.api.paging import read_paging
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json
from tercel.model.execution import Execution
from tercel.model.json_form import instant_text
from tercel.model.logs import Metric
from tercel.model.time_spans import Span, span_for, span_start, span_starts
from tercel.store import MetricOrder, MetricQuery, MetricSum, MetricSums

_SORTABLE: Mapping[str, MetricOrder | None] = {
    "namespace": None,
    "flowId": None,
    "executionId": None,
    "taskId": "taskId",
    "taskrunId": "taskRunId",
    "taskRunId": "taskRunId",
    "name": "name",
    "type": "type",
    "value": "value",
    "timestamp": "timestamp",
}
"""Fields that metrics can be ordered by; None for those that are the same for all metrics of an execution."""

_DEFAULT_SPAN = timedelta(days=30)


class Aggregation(StrEnum):
    """What values come to."""

    SUM = "SUM"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"


_VALUES: Mapping[Aggregation, Callable[[MetricSum], float]] = {
    Aggregation.SUM: lambda found: found.total,
    Aggregation.AVG: lambda found: found.total / found.count,
    Aggregation.MIN: lambda found: found.least,
    Aggregation.MAX: lambda found: found.most,
}


def get(call: Call) -> Response:
    """A page of the metrics of an execution, in the order of writing where no other is asked for."""
    paging = read_paging(call.query, _SORTABLE)
    execution = call.run(call.operations.find_execution(call.path["executionId"]))
    if execution is None:
        return page_answer([], 0)
    order: list[tuple[MetricOrder, bool]] = []
    for one in paging.order:
        field = _SORTABLE[one.field]
        if field is not None:
            order.append((field, one.is_descending))
    query = MetricQuery(
        execution_id=execution.id,
        task_run_id=call.query.text("taskRunId") or None,
        task_id=call.query.text("taskId") or None,
        order=order,
        skipped=paging.skipped,
        limit=paging.size,
    )
    found = call.run(call.operations.find_metrics(query))
    return page_answer([metric_json(metric, execution) for metric in found.metrics], found.total)


def metric_json(metric: Metric, execution: Execution) -> Json:
    """A metric; a timer's value is in seconds."""
    shown: Json = {
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "executionId": metric.execution_id,
        "taskId": metric.task_id,
        "taskRunId": metric.task_run_id,
        "type": metric.type,
        "name": metric.name,
        "value": metric.value / 1000 if metric.type == "timer" else metric.value,
        "timestamp": instant_text(metric.date),
    }
    if metric.tags:
        shown["tags"] = metric.tags
    return shown


def names(call: Call) -> Response:
    """The names of the metrics that a flow, or one of its tasks, ever sent."""
    flow = call.path["namespace"], call.path["flowId"]
    return json_answer(call.run(call.operations.metric_names(*flow, call.path.get("taskId"))))


def tasks(call: Call) -> Response:
    """The ids of the tasks of a flow that ever sent a metric."""
    return json_answer(call.run(call.operations.metric_tasks(call.path["namespace"], call.path["flowId"])))


def aggregates(call: Call) -> Response:
    """What a metric of a flow, or of one of its tasks, came to over time."""
    end = call.query.instant("endDate") or call.now
    start = call.query.instant("startDate") or _before(end)
    if start > end:
        raise RequestError(422, "startDate is after endDate.")
    aggregation = call.query.choice("aggregation", Aggregation) or Aggregation.SUM
    span = span_for(end - start)
    name = call.path["metric"]
    sums = MetricSums(
        namespace=call.path["namespace"],
        flow_id=call.path["flowId"],
        task_id=call.path.get("taskId"),
        name=name,
        start=start,
        end=end,
        span_us=_READ_BY[span] // timedelta(microseconds=1),
    )
    found = _joined(call.run(call.operations.metric_sums(sums)), span)
    return json_answer(
        {
            "groupBy": span,
            "aggregations": [
                _aggregation_json(name, at, found.get(at), aggregation) for at in span_starts(start, end, span)
            ],
        }
    )


def _before(end: datetime) -> datetime:
    earliest = datetime.min.replace(tzinfo=UTC)
    return end - min(_DEFAULT_SPAN, end - earliest)


_READ_BY = {
    Span.MINUTE: timedelta(minutes=1),
    Span.HOUR: timedelta(hours=1),
    Span.DAY: timedelta(days=1),
    Span.WEEK: timedelta(days=1),
    Span.MONTH: timedelta(days=1),
}
"""By what the database adds up: all days are equally long, months are not."""


def _joined(sums: Iterable[MetricSum], span: Span) -> dict[datetime, MetricSum]:
    """What each span comes to, by its start."""
    found: dict[datetime, MetricSum] = {}
    for one in sums:
        at = span_start(one.start, span)
        before = found.get(at)
        found[at] = (
            one
            if before is None
            else MetricSum(
                at,
                before.count + one.count,
                before.total + one.total,
                min(before.least, one.least),
                max(before.most, one.most),
            )
        )
    return found


def _aggregation_json(name: str, at: datetime, found: MetricSum | None, aggregation: Aggregation) -> Json:
    """One span; without a value where there is none, but nothing adds up to zero."""
    shown: Json = {"name": name, "date": instant_text(at)}
    if found is not None:
        shown["value"] = _VALUES[aggregation](found)
    elif aggregation is Aggregation.SUM:
        shown["value"] = 0.0
    return shown


ROUTES = (
    Route(method="GET", path="/metrics/{executionId}", answer=get),
    Route(method="GET", path="/metrics/names/{namespace}/{flowId}", answer=names),
    Route(method="GET", path="/metrics/names/{namespace}/{flowId}/{taskId}", answer=names),
    Route(method="GET", path="/metrics/tasks/{namespace}/{flowId}", answer=tasks),
    Route(method="GET", path="/metrics/aggregates/{namespace}/{flowId}/{metric}", answer=aggregates),
    Route(method="GET", path="/metrics/aggregates/{namespace}/{flowId}/{taskId}/{metric}", answer=aggregates),
)
