"""What a task asks of the engine, kept; and a run context that has it and renders like a worker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tercel.errors import NotFoundError
from tercel.expression import render, render_object
from tercel.model.source import read_flow
from tercel.plugin_api import FlowChange, FlowSource, PurgeResult
from tercel.plugins import catalog
from tests.run_contexts import DirectoryContext

VARIABLES: Mapping[str, object] = {
    "flow": {"id": "flow", "namespace": "company.team", "revision": 1},
    "execution": {"id": "execution"},
    "inputs": {"yes": True, "no": False, "zero": 0, "name": "Ann"},
    "vars": {"region": "eu", "total": 3},
}


class KeptCalls:
    """An `EngineCalls` that does nothing but note what it was asked.

    Attributes:
        made: name of each call and its arguments, in order.
        counts: what `count` gives.
        flows: execution id to the flow that it is of.
        saved: the flows that there are.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.counts: list[tuple[str, str, int]] = []
        self.flows: dict[str, tuple[str, str]] = {}
        self.saved: list[FlowSource] = []
        self.purged = PurgeResult(0, 0, 0, 0)

    def kill(self, execution_id: str, *, cascade: bool = True) -> None:
        self.made.append(("kill", {"execution_id": execution_id, "cascade": cascade}))

    def resume(self, execution_id: str, inputs: Mapping[str, object]) -> None:
        self.made.append(("resume", {"execution_id": execution_id, "inputs": inputs}))

    def count(self, **query: Any) -> list[tuple[str, str, int]]:
        self.made.append(("count", query))
        return self.counts

    def purge_executions(self, **query: Any) -> PurgeResult:
        self.made.append(("purge_executions", query))
        return self.purged

    def execution_flow(self, execution_id: str) -> tuple[str, str]:
        if execution_id not in self.flows:
            raise NotFoundError(f"There is no execution {execution_id}.")
        return self.flows[execution_id]

    def set_trigger_disabled(self, namespace: str, flow_id: str, trigger_id: str, *, disabled: bool) -> None:
        given = {"namespace": namespace, "flow_id": flow_id, "trigger_id": trigger_id, "disabled": disabled}
        self.made.append(("set_trigger_disabled", given))

    def saved_flows(self, namespace: str, *, with_children: bool = False) -> list[FlowSource]:
        self.made.append(("saved_flows", {"namespace": namespace, "with_children": with_children}))
        return self.saved

    def read_flow(self, source: str) -> FlowSource:
        flow = read_flow(source, catalog())
        return FlowSource(flow.namespace, flow.id, None, flow.source)

    def change_flows(
        self, sources: Sequence[str], *, delete: Sequence[tuple[str, str]] = (), dry_run: bool = False
    ) -> list[FlowChange]:
        self.made.append(("change_flows", {"sources": sources, "delete": delete, "dry_run": dry_run}))
        return []


class EngineContext(DirectoryContext):
    """A `RunContext` that renders as a worker does and notes the calls to the engine."""

    def __init__(self, root: Path, variables: Mapping[str, object] | None = None) -> None:
        super().__init__(root, variables={**VARIABLES, **(variables or {})})
        self.engine = KeptCalls()

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        return cast("str", render(template, {**self.variables, **(extra or {})}))

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        return render_object(value, {**self.variables, **(extra or {})})

    def counters(self) -> dict[str, float]:
        """The metrics, by name."""
        return {name: value for (_, name, _), value in self.metrics.items()}
