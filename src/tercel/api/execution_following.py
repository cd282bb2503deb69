"""`/executions/{executionId}/follow`: executions as they go on, by server-sent events that end when they do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from time import monotonic

from starlette.responses import Response

from tercel.api.call import Call
from tercel.api.execution_filters import ALL
from tercel.api.routing import Route
from tercel.api.shapes import Json, execution_json
from tercel.api.streams import Bridge, event_stream, in_thread
from tercel.model.execution import Execution, TaskRun
from tercel.model.labels import CORRELATION
from tercel.model.search import AllOf, Condition, Operation
from tercel.store import ExecutionQuery

_LOOK_S = 2.0
"""How often the records are looked at: what other processes do, nobody tells."""

_SHARE = 4
"""Between two events is at least so many times the time that making one takes: long lists of task runs change often."""


async def follow(call: Call) -> Response:
    """An execution after every change, until it has ended."""
    execution_id = call.path["executionId"]
    bridge: Bridge[None] = Bridge(most=1)
    # Watched before it is read, or a change between the two would be missed.
    stop = call.engine.watch(lambda execution, _: bridge.put(None) if execution.id == execution_id else None)
    try:
        await in_thread(lambda: call.run(call.operations.get_execution(execution_id)))
    except BaseException:
        stop()
        raise

    async def events() -> AsyncIterator[tuple[str, object]]:
        try:
            yield "start", {"id": execution_id, "originalId": execution_id, "labels": []}
            seen: tuple[Execution, Sequence[TaskRun]] | None = None
            while True:
                begun = monotonic()
                found = await in_thread(lambda: _read(call, execution_id))
                if found is None:  # it was deleted
                    return
                if found != seen:
                    seen = found
                    execution, runs = found
                    data = execution_json(execution, runs, datetime.now(UTC))
                    yield ("progress" if execution.is_open else "end"), data
                    if not execution.is_open:
                        return
                    await asyncio.sleep((monotonic() - begun) * _SHARE)
                await bridge.next(_LOOK_S)
        finally:
            stop()

    return event_stream(events())


def _read(call: Call, execution_id: str) -> tuple[Execution, Sequence[TaskRun]] | None:
    """An execution and its task runs; None where there is none."""
    execution = call.run(call.operations.find_execution(execution_id))
    return None if execution is None else (execution, call.run(call.operations.task_runs(execution_id)))


async def follow_dependencies(call: Call) -> Response:
    """The states of the executions that have to do with one, until all of them have ended."""
    execution_id = call.path["executionId"]
    bridge: Bridge[None] = Bridge(most=1)
    stop = call.engine.watch(lambda execution, _: bridge.put(None))
    try:
        execution = await in_thread(lambda: call.run(call.operations.get_execution(execution_id)))
    except BaseException:
        stop()
        raise
    correlation = execution.labels.get(CORRELATION, execution_id)

    async def events() -> AsyncIterator[tuple[str, object]]:
        try:
            yield "start", {"executionId": execution_id}
            seen: dict[str, int] = {}
            while True:
                begun = monotonic()
                related = await in_thread(lambda: _related(call, correlation))
                for one in related:
                    if seen.get(one.id) != one.version:
                        seen[one.id] = one.version
                        yield "progress", _status_json(call, one)
                if not any(one.is_open for one in related):
                    yield "end", _status_json(call, next((one for one in related if one.id == execution_id), execution))
                    return
                await asyncio.sleep((monotonic() - begun) * _SHARE)
                await bridge.next(_LOOK_S)
        finally:
            stop()

    return event_stream(events())


def _related(call: Call, correlation: str) -> list[Execution]:
    condition = Condition(field="labels", operation=Operation.EQUALS, value=correlation, key=CORRELATION)
    query = ExecutionQuery(where=AllOf((condition,)), order=(("created_at", False),), limit=ALL)
    return call.run(call.operations.search_executions(query))


def _status_json(call: Call, execution: Execution) -> Json:
    return {
        "executionId": execution.id,
        "tenantId": call.options.tenant,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "state": execution_json(execution, None, datetime.now(UTC))["state"],
    }


ROUTES = (
    Route(method="GET", path="/executions/{executionId}/follow", answer=follow),
    Route(method="GET", path="/executions/{executionId}/follow-dependencies", answer=follow_dependencies),
)
