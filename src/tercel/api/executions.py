"""`/executions`: one execution, searches, the flows that can be run."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from itertools import groupby

import msgspec
from msgspec.structs import replace
from starlette.responses import Response

from tercel.api.answers import csv_line, empty_answer, file_answer, json_answer, page_answer
from tercel.api.call import Call
from tercel.api.execution_filters import ALL, FIELDS, NORMAL, asked_filters
from tercel.api.paging import Paging, read_paging
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, execution_json, flow_for_execution_json, present, state_json
from tercel.errors import InvalidFlowError, NotFoundError
from tercel.model.execution import Execution
from tercel.model.json_form import instant_text
from tercel.model.search import AllOf, Condition, Operation
from tercel.model.state import State
from tercel.store import ExecutionQuery

SORTABLE: Mapping[str, str] = {
    "id": "id",
    "namespace": "namespace",
    "flowId": "flow_id",
    "flowRevision": "revision",
    "state": "state",
    "state.current": "state",
    "startDate": "created_at",
    "state.startDate": "created_at",
    "endDate": "ended_at",
    "state.endDate": "ended_at",
    "state.duration": "duration",
    "triggerId": "trigger_id",
    "kind": "kind",
}
"""What a list can be ordered by, as clients call it, and what searches call it."""

NEWEST_FIRST = (("created_at", True),)
_ROWS_AT_ONCE = 1000
_RECENT = 100


class FlowName(msgspec.Struct, frozen=True):
    """A flow, as clients name it."""

    namespace: str
    id: str


def get(call: Call) -> Response:
    """An execution with its task runs."""
    return json_answer(whole_execution(call, call.path["executionId"]))


def whole_execution(call: Call, execution_id: str, *, url: bool = False) -> Json:
    """The JSON of an execution with its task runs, as it is now. Raises NotFoundError.

    Args:
        call: the request.
        execution_id: of the execution.
        url: with the address where people look at it.
    """
    execution = call.run(call.operations.get_execution(execution_id))
    runs = call.run(call.operations.task_runs(execution_id))
    found = execution_json(execution, runs, call.now)
    return {**found, "url": page_address(call, execution)} if url else found


def page_address(call: Call, execution: Execution) -> str:
    """Where people look at an execution: below the server's own address, or the one that the client knows it by."""
    base = call.options.url or str(call.request.base_url).rstrip("/") + call.options.context_path
    name = f"{execution.namespace}/{execution.flow_id}/{execution.id}"
    return f"{base.rstrip('/')}/ui/{call.options.tenant}/executions/{name}"


def search(call: Call) -> Response:
    """A page of executions."""
    paging = read_paging(call.query, SORTABLE)
    return _page(call, ExecutionQuery(where=asked_filters(call)), paging)


def of_flow(call: Call) -> Response:
    """A page of the executions of a flow."""
    paging = read_paging(call.query, SORTABLE)
    namespace, flow_id = call.query.needed("namespace"), call.query.needed("flowId")
    return _page(call, ExecutionQuery(namespace=namespace, flow_id=flow_id), paging)


def _order(paging: Paging) -> tuple[tuple[str, bool], ...]:
    return tuple((SORTABLE[one.field], one.is_descending) for one in paging.order) or NEWEST_FIRST


def _page(call: Call, query: ExecutionQuery, paging: Paging) -> Response:
    query = replace(query, order=_order(paging), skipped=paging.skipped, limit=paging.size)
    found = call.run(call.operations.search_executions(query))
    is_all = query.skipped == 0 and len(found) < query.limit
    total = len(found) if is_all else call.run(call.operations.count_executions(query))
    return page_answer([execution_json(one, None, call.now) for one in found], total)


def latest(call: Call) -> Response:
    """The newest execution of each of some flows; those that never ran are left out."""
    found: list[Json] = []
    for name in dict.fromkeys(call.json_as(list[FlowName])):
        query = ExecutionQuery(namespace=name.namespace, flow_id=name.id, limit=1)
        found += [_latest_json(one) for one in call.run(call.operations.search_executions(query))]
    return json_answer(found)


def _latest_json(execution: Execution) -> Json:
    return {
        "id": execution.id,
        "flowId": execution.flow_id,
        "namespace": execution.namespace,
        "startDate": instant_text(execution.history[0].date),
        "status": execution.state,
    }


def delete(call: Call) -> Response:
    """Delete an execution that has ended."""
    call.run(call.operations.delete_execution(call.path["executionId"], **deleted_with(call)))
    return empty_answer()


def deleted_with(call: Call) -> dict[str, bool]:
    """What is deleted with an execution."""
    return {
        "logs": call.query.flag("deleteLogs", True),
        "metrics": call.query.flag("deleteMetrics", True),
        "files": call.query.flag("deleteStorage", True),
    }


def flow_that_ran(call: Call) -> Response:
    """The flow of an execution, in the revision that it runs."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    flow = call.run(call.operations.get_flow(execution.namespace, execution.flow_id, execution.revision))
    return json_answer(flow_for_execution_json(flow))


def flow_to_run(call: Call) -> Response:
    """A flow, as whoever starts it needs to know it."""
    revision = call.query.whole("revision", least=1)
    flow = call.run(call.operations.get_flow(call.path["namespace"], call.path["flowId"], revision))
    return json_answer(flow_for_execution_json(flow))


def namespaces_to_run(call: Call) -> Response:
    """The namespaces that have flows."""
    return json_answer([name for name, _ in groupby(one.namespace for one in call.run(call.operations.saved_flows()))])


def flows_to_run(call: Call) -> Response:
    """The flows of a namespace that can be read, as whoever starts them needs to know them."""
    found: list[Json] = []
    for one in call.run(call.operations.saved_flows(call.path["namespace"])):
        with suppress(InvalidFlowError, NotFoundError):
            found.append(flow_for_execution_json(call.run(call.operations.get_flow(one.namespace, one.id))))
    return json_answer(found)


def average_duration(call: Call) -> Response:
    """How long the last executions of a flow took that went well."""
    query = ExecutionQuery(
        namespace=call.path["namespace"],
        flow_id=call.path["flowId"],
        states=(State.SUCCESS, State.WARNING),
        limit=_RECENT,
    )
    found = call.run(call.operations.search_executions(query))
    taken = [(one.history[-1].date - one.history[0].date) / timedelta(milliseconds=1) for one in found]
    return json_answer(present(count=len(taken), avgDurationMs=round(sum(taken) / len(taken)) if taken else None))


def distinct_values(call: Call) -> Response:
    """The different values that a field has, of the executions that fit the filters."""
    name = _client_name(call.query.needed("field"))
    field = FIELDS.get(name)
    if field is None or field.text is None:
        possible = ", ".join(sorted(name for name, one in FIELDS.items() if one.text))
        raise RequestError(422, f"The values of {name!r} cannot be listed.", hint=f"Possible are {possible}.")
    size = min(call.query.whole("size", 100, least=1) or 100, 10_000)
    where = asked_filters(call)
    found = call.run(call.operations.execution_values(field.text, ExecutionQuery(where=where, limit=size)))
    if field.text == "kind":
        without = AllOf((where, Condition(field="kind", operation=Operation.IS_NULL)))
        if NORMAL not in found and call.run(call.operations.execution_ids(ExecutionQuery(where=without, limit=1))):
            found = sorted([NORMAL, *found])[:size]
    return json_answer(found)


def _client_name(name: str) -> str:
    """The name of a field, which some clients write in capitals.

    Example:
        >>> _client_name("FLOW_ID")
        'flowId'
    """
    if not name.isupper():
        return name
    first, *others = name.lower().split("_")
    return first + "".join(part.capitalize() for part in others)


_COLUMNS = (
    "id",
    "namespace",
    "flowId",
    "flowRevision",
    "state",
    "startDate",
    "endDate",
    "duration",
    "labels",
    "trigger",
)


def export(call: Call) -> Response:
    """The executions that fit the filters, as CSV."""
    order = _order(read_paging(call.query, SORTABLE))
    query = ExecutionQuery(where=asked_filters(call), order=order, limit=ALL)
    ids = call.run(call.operations.execution_ids(query))
    return file_answer(_lines(call, ids), "executions.csv", "text/csv")


def _lines(call: Call, ids: list[str]) -> Iterator[bytes]:
    yield csv_line(_COLUMNS)
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        part = ids[start : start + _ROWS_AT_ONCE]
        condition = Condition(field="id", operation=Operation.IN, value=tuple(part))
        query = ExecutionQuery(where=AllOf((condition,)), limit=len(part))
        found = {one.id: one for one in call.run(call.operations.search_executions(query))}
        yield b"".join(_row(call, found[one]) for one in part if one in found)


def _row(call: Call, execution: Execution) -> bytes:
    times = state_json(execution.history, call.now)
    return csv_line(
        (
            execution.id,
            execution.namespace,
            execution.flow_id,
            execution.revision,
            execution.state,
            times.get("startDate", ""),
            times.get("endDate", ""),
            times.get("duration", ""),
            ",".join(f"{key}:{value}" for key, value in execution.labels.items()),
            (execution.trigger or {}).get("id", ""),
        )
    )


ROUTES = (
    Route(method="GET", path="/executions", answer=of_flow),
    Route(method="GET", path="/executions/search", answer=search),
    Route(method="POST", path="/executions/latest", answer=latest),
    Route(method="GET", path="/executions/distinct-field-values", answer=distinct_values),
    Route(method="GET", path="/executions/export/by-query/csv", answer=export),
    Route(method="GET", path="/executions/namespaces", answer=namespaces_to_run),
    Route(method="GET", path="/executions/namespaces/{namespace}/flows", answer=flows_to_run),
    Route(
        method="GET",
        path="/executions/namespaces/{namespace}/flows/{flowId}/average-duration",
        answer=average_duration,
    ),
    Route(method="GET", path="/executions/flows/{namespace}/{flowId}", answer=flow_to_run),
    Route(method="GET", path="/executions/{executionId}", answer=get),
    Route(method="DELETE", path="/executions/{executionId}", answer=delete),
    Route(method="GET", path="/executions/{executionId}/flow", answer=flow_that_ran),
)
