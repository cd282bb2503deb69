"""Expressions: tried out on executions, and the names that they know."""

from starlette.responses import Response

from tercel.api.answers import json_answer
from tercel.api.call import Call
from tercel.api.routing import Route
from tercel.expression.filters import FILTERS
from tercel.expression.functions import FUNCTIONS


def evaluate(call: Call) -> Response:
    """What an expression gives for an execution, or for one of its task runs; one that fails is told as such."""
    found = call.run(
        call.operations.try_expression(call.path["executionId"], call.text, task_run_id=call.path.get("taskRunId"))
    )
    if found.result is not None:
        return json_answer({"result": found.result})
    trace = "\n".join(line for line in (f"{found.kind}: {found.error}", found.hint) if line)
    return json_answer({"error": found.error, "stackTrace": trace})


def filters(call: Call) -> Response:
    """The names of the filters."""
    del call
    return json_answer(sorted(FILTERS))


def functions(call: Call) -> Response:
    """The names of the functions."""
    del call
    return json_answer(sorted(FUNCTIONS))


ROUTES = (
    Route(
        method="POST",
        path="/executions/{executionId}/actions/eval",
        legacy="/executions/{executionId}/eval",
        answer=evaluate,
    ),
    Route(
        method="POST",
        path="/executions/{executionId}/actions/eval/{taskRunId}",
        legacy="/executions/{executionId}/eval/{taskRunId}",
        answer=evaluate,
    ),
    Route(method="GET", path="/pebble/filters", answer=filters),
    Route(method="GET", path="/pebble/functions", answer=functions),
)
