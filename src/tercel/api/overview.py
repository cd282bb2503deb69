"""What there is, counted; and what Kestra lists and tercel has none of: blueprints, dashboards."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from tercel.api.answers import json_answer, page_answer
from tercel.api.call import Call
from tercel.api.flow_outlines import outline
from tercel.api.paging import read_paging
from tercel.api.routing import Route
from tercel.errors import NotFoundError
from tercel.model.state import State
from tercel.store import ExecutionQuery, FlowRevision

_SORTABLE: Mapping[str, Callable[[object], Any]] = {"id": str, "title": str, "publishedAt": str, "created": str}


class Where(msgspec.Struct, frozen=True, rename="camel"):
    """What `POST /stats/summary` takes."""

    namespace: str | None = None
    flow_id: str | None = None

    def fits(self, saved: FlowRevision) -> bool:
        """Say whether a flow is meant."""
        is_below = self.namespace in (None, "", saved.namespace) or saved.namespace.startswith(f"{self.namespace}.")
        return is_below and self.flow_id in (None, "", saved.id)


def usages(call: Call) -> Response:
    """How many flows, namespaces, triggers and executions there are."""
    flows = call.run(call.operations.saved_flows())
    counts = {state: call.run(call.operations.count_executions(ExecutionQuery(states=(state,)))) for state in State}
    return json_answer(
        {
            "flows": {
                "count": len(flows),
                "namespacesCount": len({one.namespace for one in flows}),
                "triggersCount": _triggers(flows),
            },
            "executions": {
                "count": sum(counts.values()),
                "executionCounts": {state: count for state, count in counts.items() if count},
            },
        }
    )


def summary(call: Call) -> Response:
    """How many flows and triggers there are; in a namespace and below it, where one is given."""
    where = call.json_as(Where) if call.body.strip() else Where()
    flows = [one for one in call.run(call.operations.saved_flows()) if where.fits(one)]
    return json_answer({"flows": len(flows), "triggers": _triggers(flows)})


def _triggers(flows: list[FlowRevision]) -> int:
    return sum(len(outline(one).triggers) for one in flows)


def empty_page(call: Call) -> Response:
    """A page of what there is none of."""
    read_paging(call.query, _SORTABLE)
    return page_answer([], 0)


def empty_list(_: Call) -> Response:
    """A list of what there is none of."""
    return json_answer([])


def nothing(call: Call) -> Response:
    """Whatever is asked for is not there."""
    raise NotFoundError(f"There is nothing called {call.path['id']!r}.")


ROUTES = (
    Route(method="GET", path="/usages/all", answer=usages),
    Route(method="POST", path="/stats/summary", answer=summary),
    Route(method="GET", path="/blueprints/community", answer=empty_page),
    Route(method="GET", path="/blueprints/community/tags", answer=empty_list),
    Route(method="GET", path="/blueprints/community/{kind}", answer=empty_page),
    Route(method="GET", path="/blueprints/community/{kind}/tags", answer=empty_list),
    Route(method="GET", path="/blueprints/community/{kind}/{id}", answer=nothing),
    Route(method="GET", path="/dashboards", answer=empty_page),
    Route(method="GET", path="/dashboards/{id}", answer=nothing),
)
