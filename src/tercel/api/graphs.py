"""`/flows/…/graph`, `/executions/…/graph` and dependencies: flows and their executions as graphs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from starlette.responses import Response

from tercel.api.answers import json_answer
from tercel.api.call import Call
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, flow_json, present, task_run_json
from tercel.errors import InvalidFlowError, UserError
from tercel.machine.graph import (
    FindFlow,
    Graph,
    GraphCluster,
    GraphEdge,
    GraphNode,
    NodeKind,
    Relation,
    flow_graph,
)
from tercel.machine.index import AFTER, ERRORS, FINALLY
from tercel.machine.topology import Link, linked
from tercel.model.condition import FlowName
from tercel.model.execution import Execution
from tercel.model.flow import Flow
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.store import FlowRevision

_HIERARCHIES = "io.kestra.core.models.hierarchies"
_KINDS: Mapping[NodeKind, str] = {
    NodeKind.TASK: "GraphTask",
    NodeKind.SUBFLOW: "SubflowGraphTask",
    NodeKind.TRIGGER: "GraphTrigger",
    NodeKind.START: "GraphClusterRoot",
    NodeKind.END: "GraphClusterEnd",
}
_BRANCHES = {ERRORS: Relation.ERROR, FINALLY: Relation.FINALLY, AFTER: Relation.AFTER_EXECUTION}

_MOST_OPENED = 50
"""Subflows that are shown with what is inside of them."""


def of_flow(call: Call) -> Response:
    """The graph of a flow."""
    namespace, flow_id = call.path["namespace"], call.path["id"]
    revision = call.query.whole("revision", least=1)
    saved = call.run(call.operations.saved_flow(namespace, flow_id, revision))
    flow = _read(call, saved)
    shown = _Shown(call, saved)
    return json_answer(shown.graph_json(flow_graph(flow, opened=_opened(call), find_flow=shown.find)))


def of_text(call: Call) -> Response:
    """The graph of a flow that is not saved."""
    flow = read_flow(call.text, catalog(), call.plugin_defaults)
    shown = _Shown(
        call, FlowRevision(namespace=flow.namespace, id=flow.id, revision=1, source=call.text, created_at=call.now)
    )
    return json_answer(shown.graph_json(flow_graph(flow, opened=_opened(call), find_flow=shown.find)))


def of_execution(call: Call) -> Response:
    """The graph of the flow that an execution runs, with its task runs."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    saved = call.run(call.operations.saved_flow(execution.namespace, execution.flow_id, execution.revision))
    flow = _read(call, saved)
    runs = call.run(call.operations.task_runs(execution.id))
    shown = _Shown(call, saved, execution)
    return json_answer(shown.graph_json(flow_graph(flow, runs, opened=_opened(call), find_flow=shown.find)))


def _read(call: Call, saved: FlowRevision) -> Flow:
    """A flow. Raises RequestError, 409, where it cannot be read any more."""
    try:
        return call.run(call.operations.get_flow(saved.namespace, saved.id, saved.revision))
    except InvalidFlowError as error:
        raise RequestError(409, f"The flow {saved.namespace}.{saved.id} is not valid: {error.message}") from error


def _opened(call: Call) -> list[str]:
    uids = [uid for text in call.query.every("subflows") for uid in text.split(",") if uid]
    if len(uids) > _MOST_OPENED:
        raise RequestError(422, f"{len(uids)} subflows are too many to show.", hint=f"Give at most {_MOST_OPENED}.")
    return uids


class _Shown:
    """A graph as JSON, with tasks and triggers as they were written.

    Args:
        call: the request.
        saved: the flow.
        execution: the execution that the graph is of; None for that of a flow.
    """

    def __init__(self, call: Call, saved: FlowRevision, execution: Execution | None = None) -> None:
        self._call = call
        self._execution = execution
        self._written: dict[tuple[str, str], Json] = {}
        self._add(saved)

    @property
    def find(self) -> FindFlow:
        """Gives the flow that a task starts; None where it cannot be had."""
        return self._find

    def _find(self, namespace: str, flow_id: str, revision: int | None) -> Flow | None:
        try:
            saved = self._call.run(self._call.operations.saved_flow(namespace, flow_id, revision))
            flow = self._call.run(self._call.operations.get_flow(namespace, flow_id, saved.revision))
        except UserError:
            return None
        self._add(saved)
        return flow

    def _add(self, saved: FlowRevision) -> None:
        """Take note of all that has an id and a type in a flow's text; of several of a name, the first."""
        pending: list[object] = [flow_json(saved)]
        while pending:
            value = pending.pop(0)
            if isinstance(value, dict):
                part = cast("Json", value)
                if "id" in part and "type" in part:
                    self._written.setdefault((str(part["id"]), str(part["type"])), part)
                pending += part.values()
            elif isinstance(value, list):
                pending += cast("list[object]", value)

    def _as_written(self, id: str, type: str) -> Json:
        return self._written.get((id, type), {"id": id, "type": type})

    def graph_json(self, graph: Graph) -> Json:
        """The whole graph."""
        return {
            "nodes": [self._node_json(node) for node in graph.nodes],
            "edges": [_edge_json(edge) for edge in graph.edges],
            "clusters": [self._cluster_json(cluster) for cluster in graph.clusters],
            "flowables": graph.flowables,
        }

    def _node_json(self, node: GraphNode) -> Json:
        shown = present(
            uid=node.uid,
            type=f"{_HIERARCHIES}.{_KINDS[node.kind]}",
            relationType=node.relation,
            branchType=None if node.branch is None else _BRANCHES[node.branch],
            error=True if node.branch == ERRORS else None,
            values=list(node.values) or None,
        )
        if node.task is not None:
            shown["task"] = self._as_written(node.task.id, node.task.type)
        if node.trigger is not None:
            shown["triggerDeclaration"] = self._as_written(node.trigger.id, node.trigger.type)
        if node.run is not None and self._execution is not None:
            run = task_run_json(node.run, self._execution, self._call.now)
            run.pop("outputs", None)  # nothing of the graph, and they may be long
            shown["taskRun"] = run
        return shown

    def _cluster_json(self, cluster: GraphCluster) -> Json:
        is_subflow = cluster.node is not None and cluster.node.kind is NodeKind.SUBFLOW
        return {
            "cluster": present(
                uid=cluster.uid,
                type=f"{_HIERARCHIES}.{'SubflowGraphCluster' if is_subflow else 'GraphCluster'}",
                relationType=cluster.relation,
                taskNode=None if cluster.node is None else self._node_json(cluster.node),
            ),
            "nodes": cluster.nodes,
            "parents": cluster.parents,
            "start": cluster.start,
            "end": cluster.end,
        }


def _edge_json(edge: GraphEdge) -> Json:
    relation = present(relationType=edge.relation, value=edge.value)
    return {"source": edge.source, "target": edge.target, "relation": relation}


# Dependencies


def dependencies(call: Call) -> Response:
    """The flows that a flow starts, and those that start it."""
    saved = call.run(call.operations.saved_flow(call.path["namespace"], call.path["id"]))
    flow = FlowName(saved.namespace, saved.id)
    found = linked(
        call.run(call.operations.flow_links()),
        flow,
        downwards_only=call.query.flag("destinationOnly", False),
        all_ways=call.query.flag("expandAll", False),
    )
    return _topology([flow], found)


def namespace_dependencies(call: Call) -> Response:
    """The flows of a namespace, what they start, and what starts them."""
    namespace = call.path["namespace"]
    names = [FlowName(one.namespace, one.id) for one in call.run(call.operations.saved_flows(namespace))]
    is_downwards = call.query.flag("destinationOnly", False)
    found = [
        link
        for link in call.run(call.operations.flow_links())
        if link.source.namespace == namespace or (link.target.namespace == namespace and not is_downwards)
    ]
    return _topology(names, found)


def _topology(flows: Iterable[FlowName], links: Sequence[Link]) -> Response:
    names = dict.fromkeys([*flows, *(name for link in links for name in (link.source, link.target))])
    edges = [{"source": _uid(one.source), "target": _uid(one.target), "relation": one.relation} for one in links]
    return json_answer({"nodes": [_flow_node_json(name) for name in names], "edges": edges})


def _flow_node_json(name: FlowName) -> Json:
    return {"uid": _uid(name), "namespace": name.namespace, "id": name.id}


def _uid(name: FlowName) -> str:
    return f"{name.namespace}/{name.id}"


ROUTES = (
    Route(method="GET", path="/flows/{namespace}/{id}/graph", answer=of_flow),
    Route(method="POST", path="/flows/graph", answer=of_text),
    Route(method="GET", path="/flows/{namespace}/{id}/dependencies", answer=dependencies),
    Route(method="GET", path="/namespaces/{namespace}/dependencies", answer=namespace_dependencies),
    Route(method="GET", path="/executions/{executionId}/graph", answer=of_execution),
)
