"""Which flows start which: by tasks that start them, and by triggers that react to their executions. Pure.

Only what is written plainly is seen: a name that an expression gives is known when it is rendered, and not before.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import msgspec

from tercel.machine.graph import started_flow
from tercel.model.condition import Condition, ConditionContext, FlowName
from tercel.model.execution import Execution
from tercel.model.flow import Flow
from tercel.model.trigger import ReactingTrigger

__all__ = ["Link", "linked", "links"]


class Link(msgspec.Struct, frozen=True):
    """An execution of one flow may bring about one of another.

    Attributes:
        source: what runs first.
        target: what is started.
        relation: a task of *source* starts it, or a trigger of *target*.
    """

    source: FlowName
    target: FlowName
    relation: Literal["FLOW_TASK", "FLOW_TRIGGER"]


def links(flows: Iterable[Flow], names: Sequence[FlowName]) -> list[Link]:
    """Every link among flows, each once, in the order of the flows.

    Args:
        flows: those that start others, or are started by what others do; it does no harm to give more.
        names: of all flows.
    """
    known = set(names)
    found: dict[Link, None] = {}
    for flow in flows:
        name = FlowName(flow.namespace, flow.id)
        for task in flow.walk():
            started = started_flow(task)
            if started is not None and FlowName(*started[:2]) in known:
                found[Link(name, FlowName(*started[:2]), "FLOW_TASK")] = None
        for trigger in flow.triggers:
            if isinstance(trigger, ReactingTrigger):
                for other in names:
                    if other != name and _may_follow(trigger, other):
                        found[Link(other, name, "FLOW_TRIGGER")] = None
    return list(found)


def linked(
    links: Iterable[Link], flow: FlowName, *, downwards_only: bool = False, all_ways: bool = False
) -> list[Link]:
    """The links of a flow.

    Args:
        links: all there are.
        flow: it.
        downwards_only: only to what it starts.
        all_ways: also the links of what it is linked with, and so on.
    """
    every = list(links)
    found: dict[Link, None] = {}
    seen = {flow}
    waiting = [flow]
    while waiting:
        at = waiting.pop()
        for link in every:
            if link.source == at or (link.target == at and not downwards_only):
                found[link] = None
                for other in (link.source, link.target):
                    if all_ways and other not in seen:
                        seen.add(other)
                        waiting.append(other)
    return [link for link in every if link in found]


def _may_follow(trigger: ReactingTrigger, other: FlowName) -> bool:
    """Whether an execution of another flow may set off a trigger, as far as the names of flows tell."""
    context = ConditionContext(
        flow=other,
        render=lambda template, _: template,
        execution=Execution(id="", namespace=other.namespace, flow_id=other.id, revision=1, history=()),
    )
    answers = [_holds(condition, context) for condition in trigger.conditions]
    answers.append(_has_part(getattr(trigger, "preconditions", None), context))
    return False not in answers


def _holds(condition: Condition, context: ConditionContext) -> bool | None:
    """Whether a condition holds for executions of a flow; None where their flow does not tell."""
    match condition.plugin_type.rpartition(".")[2]:
        case "ExecutionFlow" | "ExecutionNamespace":
            return condition.test(context)
        case "Not":
            held = _any(_inner(condition), context)
            return None if held is None else not held
        case "Or" | "MultipleCondition":
            return _any(_inner(condition), context)
        case _:
            return None


def _inner(condition: Condition) -> Iterable[Condition]:
    inner: object = getattr(condition, "conditions", ())
    if isinstance(inner, Mapping):
        return cast("Mapping[str, Condition]", inner).values()
    return cast("Iterable[Condition]", inner)


def _any(conditions: Iterable[Condition], context: ConditionContext) -> bool | None:
    answers = [_holds(condition, context) for condition in conditions]
    return True if True in answers else None if None in answers else False


def _has_part(preconditions: object, context: ConditionContext) -> bool | None:
    """Whether executions of a flow are among what preconditions wait for; None where there are none, or it is open."""
    if preconditions is None:
        return None
    flows = cast("Sequence[object]", getattr(preconditions, "flows", ()))
    name = context.flow
    named = [(getattr(one, "namespace", ""), getattr(one, "flow_id", None)) for one in flows]
    if any(namespace == name.namespace and flow_id in (None, name.id) for namespace, flow_id in named):
        return True
    groups = cast("Sequence[object]", getattr(preconditions, "where", ()))
    return None if any(_admits(group, context) for group in groups) else False


def _admits(group: object, context: ConditionContext) -> bool:
    """Whether filters may hold for executions of a flow."""
    answers: list[bool] = []
    for one in cast("Sequence[object]", getattr(group, "filters", ())):
        is_open = getattr(one, "field", "") not in ("FLOW_ID", "NAMESPACE") or "{" in str(getattr(one, "value", ""))
        answers.append(is_open or cast("Condition", one).test(context))
    return (any if getattr(group, "operand", "AND") == "OR" else all)(answers)
