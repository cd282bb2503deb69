"""What triggers and conditions see in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar, cast

from tercel.expression import render
from tercel.model import Execution, TaskRun
from tercel.model.condition import ConditionContext, FlowName
from tercel.model.flow import Flow
from tercel.model.source import check_flow
from tercel.model.trigger import DateContext, Trigger
from tercel.plugins import catalog
from tests.flows import CORE, Node, echo, flow

T = TypeVar("T")

FLOW = FlowName("company.team", "owner")


def a_condition_context(
    date: str | datetime | None = None,
    execution: Execution | None = None,
    runs: Sequence[TaskRun] = (),
    **variables: object,
) -> ConditionContext:
    moment = datetime.fromisoformat(date) if isinstance(date, str) else date
    trigger: dict[str, object] = {} if moment is None else {"trigger": {"date": moment.isoformat()}}

    def rendered(text: str, extra: Mapping[str, object]) -> str:
        return cast("str", render(text, {**trigger, **variables, **extra}))

    return ConditionContext(flow=FLOW, render=rendered, date=moment, execution=execution, runs=runs)


def a_date_context(zone: tzinfo = UTC, **variables: object) -> DateContext:
    return DateContext(
        flow=FLOW, zone=zone, render=lambda text, extra: cast("str", render(text, {**variables, **extra}))
    )


def condition(name: str, **properties: Any) -> Node:
    return {"type": f"{CORE}.condition.{name}", **properties}


def schedule(id: str = "schedule", cron: str = "0 * * * *", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.trigger.Schedule", "cron": cron, **properties}


def on_dates(*dates: str, id: str = "dates", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.trigger.ScheduleOnDates", "dates": list(dates), **properties}


def flow_trigger(id: str = "after", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.trigger.Flow", **properties}


def poll(id: str = "poll", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.http.Trigger", "uri": "http://127.0.0.1:9/", **properties}


def a_text(*triggers: Node, id: str = "owner", namespace: str = "company.team", **properties: Any) -> str:
    """The YAML of a flow with these triggers."""
    return flow(echo("a", "b"), id=id, namespace=namespace, triggers=list(triggers), **properties)


def a_flow(*triggers: Node, **properties: Any) -> Flow:
    checked = check_flow(a_text(*triggers, **properties), catalog())
    assert checked.flow is not None, [issue.text for issue in checked.issues]
    return checked.flow


def a_trigger(kind: type[T], node: Node) -> T:
    trigger: Trigger = a_flow(node).triggers[0]
    assert isinstance(trigger, kind)
    return trigger
