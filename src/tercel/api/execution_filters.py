"""Filters of executions, as searches understand them: names of fields, free text, scopes, regular expressions."""

from typing import cast

import msgspec

from tercel.api.call import Call
from tercel.api.filters import (
    CHILD,
    DATE,
    MAP,
    QUERY,
    SCOPE,
    STATE,
    TEXT,
    WHOLE,
    ChildFilter,
    Kind,
    Scope,
    holds,
    read_filters,
)
from tercel.model.search import AllOf, AnyOf, Condition, Operation, Where
from tercel.store import ExecutionQuery

NORMAL = "NORMAL"
"""The kind of an execution that is run for its own sake."""

ALL = 2**31
"""The limit of a search for all that there are."""


class Field(msgspec.Struct, frozen=True):
    """What executions can be filtered by.

    Attributes:
        kind: of its values.
        name: what searches call it; empty where it becomes other conditions.
        text: likewise, where its different values can be listed.
    """

    kind: Kind
    name: str = ""
    text: str | None = None


FIELDS = {
    "q": Field(QUERY),
    "scope": Field(SCOPE),
    "childFilter": Field(CHILD),
    "id": Field(TEXT, "id"),
    "executionId": Field(TEXT, "id"),
    "namespace": Field(TEXT, "namespace", "namespace"),
    "flowId": Field(TEXT, "flow_id", "flow_id"),
    "flowRevision": Field(WHOLE, "revision", "revision"),
    "state": Field(STATE, "state", "state"),
    "kind": Field(TEXT, "kind", "kind"),
    "labels": Field(MAP, "labels"),
    "startDate": Field(DATE, "created_at"),
    "created": Field(DATE, "created_at"),
    "endDate": Field(DATE, "ended_at"),
    "triggerId": Field(TEXT, "trigger_id", "trigger_id"),
    "triggerExecutionId": Field(TEXT, "caller_id"),
    "parentId": Field(TEXT, "parent_id"),
}
"""By the name that clients know."""

_AMONG = frozenset({Operation.EQUALS, Operation.NOT_EQUALS, Operation.IN, Operation.NOT_IN})

_KINDS = {name: field.kind for name, field in FIELDS.items()}


def asked_filters(call: Call) -> AllOf:
    """What has to hold of the executions that a request is about. Raises RequestError, 422."""
    where = read_filters(call.query, _KINDS, call.now)
    return AllOf(tuple(_meant(call, part) for part in where.parts))


def _meant(call: Call, where: Where) -> Where:
    match where:
        case AllOf():
            return AllOf(tuple(_meant(call, part) for part in where.parts))
        case AnyOf():
            return AnyOf(tuple(_meant(call, part) for part in where.parts))
        case Condition(field="q"):
            return _free_text(where)
        case Condition(field="scope"):
            return _scope(call, where)
        case Condition(field="childFilter"):
            is_child = (where.value is ChildFilter.CHILD) is (where.operation is Operation.EQUALS)
            operation = Operation.IS_NOT_NULL if is_child else Operation.IS_NULL
            return Condition(field="caller_id", operation=operation)
        case Condition(field="kind") if where.operation in _AMONG:
            return _kind(where)
        case Condition(operation=Operation.REGEX):
            return _matching(call, where)
        case Condition():
            return msgspec.structs.replace(where, field=FIELDS[where.field].name)


def _free_text(condition: Condition) -> Where:
    """Anywhere in the namespace or the flow's id, or where the execution's id begins."""
    if not condition.value:
        return AllOf()
    if condition.operation is Operation.NOT_EQUALS:
        return AllOf(
            tuple(
                Condition(field=name, operation=Operation.NOT_CONTAINS, value=condition.value)
                for name in ("namespace", "flow_id", "id")
            )
        )
    return AnyOf(
        (
            Condition(field="namespace", operation=Operation.CONTAINS, value=condition.value),
            Condition(field="flow_id", operation=Operation.CONTAINS, value=condition.value),
            Condition(field="id", operation=Operation.STARTS_WITH, value=condition.value),
        )
    )


def _scope(call: Call, condition: Condition) -> Where:
    value = condition.value
    given = cast("tuple[Scope, ...]", value) if isinstance(value, tuple) else (Scope(value),)
    if condition.operation in (Operation.NOT_EQUALS, Operation.NOT_IN):
        given = tuple(scope for scope in Scope if scope not in given)
    system = Condition(field="namespace", operation=Operation.PREFIX, value=call.options.system_namespace)
    names = call.run(call.operations.execution_values("namespace", ExecutionQuery(where=AllOf((system,)), limit=ALL)))
    parts = {
        Scope.SYSTEM: system,
        Scope.USER: Condition(field="namespace", operation=Operation.NOT_IN, value=tuple(names)),
    }
    return AnyOf(tuple(parts[scope] for scope in dict.fromkeys(given)))


def _kind(condition: Condition) -> Where:
    """The records have no kind for an execution that is run for its own sake."""
    value = condition.value
    wanted = cast("tuple[str, ...]", value) if isinstance(value, tuple) else (str(value),)
    is_one = condition.operation in (Operation.EQUALS, Operation.IN)
    among = Condition(field="kind", operation=Operation.IN if is_one else Operation.NOT_IN, value=wanted)
    if NORMAL not in wanted:
        return among
    if is_one:
        return AnyOf((among, Condition(field="kind", operation=Operation.IS_NULL)))
    return AllOf((among, Condition(field="kind", operation=Operation.IS_NOT_NULL)))


def _matching(call: Call, condition: Condition) -> Condition:
    """A regular expression, as the values that match it: databases differ in what they take for one."""
    name = FIELDS[condition.field].name
    query = ExecutionQuery(limit=ALL)
    values = call.run(call.operations.execution_values(name, query, key=condition.key))
    found = tuple(value for value in values if holds(condition, lambda _, value=value: value))
    return Condition(field=name, operation=Operation.IN, value=found, key=condition.key)
