"""`/triggers`: where the triggers of saved flows stand; switching them, letting them go on, and their backfills."""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.responses import Response

from tercel.api.answers import bulk_answer, csv_line, empty_answer, file_answer, json_answer, page_answer
from tercel.api.call import Call
from tercel.api.filters import DATE, FLAG, QUERY, SCOPE, TEXT, Fields, Scope, holds, read_filters
from tercel.api.flow_outlines import outline
from tercel.api.paging import page_of, read_paging
from tercel.api.problems import BulkError, Invalid, RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, labels_json, plain, present
from tercel.errors import ConflictError, NotFoundError
from tercel.model.json_form import instant_text
from tercel.model.storable import storable_problem
from tercel.scheduler import Backfill, Evaluation, backfill_of, evaluation_of, last_date_of, problem_of
from tercel.store import TriggerKey, TriggerState

FIELDS: Fields = {
    "q": QUERY,
    "namespace": TEXT,
    "flowId": TEXT,
    "triggerId": TEXT,
    "workerId": TEXT,
    "type": TEXT,
    "executionId": TEXT,
    "triggerExecutionId": TEXT,
    "triggerState": TEXT,
    "scope": SCOPE,
    "enabled": FLAG,
    "locked": FLAG,
    "lastTriggeredDate": DATE,
    "nextExecutionDate": DATE,
    "startDate": DATE,
    "endDate": DATE,
}

_EXPORTED = ("namespace", "flowId", "triggerId", "type", "disabled", "locked", "nextExecutionDate", "executionId")


_FIRST_YEAR, _LAST_YEAR = 1900, 9000


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger.

    Attributes:
        key: namespace, flow and id.
        definition: as its flow has it; empty where its flow has it no more, or cannot be read.
        state: where it stands; None where nothing is known of that yet.
        is_flow_disabled: its flow is.
    """

    key: TriggerKey
    definition: Json
    state: TriggerState | None
    is_flow_disabled: bool = False

    @property
    def is_disabled(self) -> bool:
        """Whether it starts nothing."""
        return self.definition.get("disabled") is True or (self.state is not None and self.state.disabled)

    @property
    def type(self) -> str:
        """Full name of its type."""
        return str(self.definition.get("type") or (self.state.type if self.state is not None else ""))

    @property
    def next_at(self) -> datetime | None:
        """Its next date."""
        if self.state is None or self.is_disabled or self.is_flow_disabled:
            return None
        return self.state.next_at

    @property
    def last_at(self) -> datetime | None:
        """The date that it started an execution for last."""
        return None if self.state is None else last_date_of(self.state)

    @property
    def execution_id(self) -> str | None:
        """The execution that holds it up."""
        return None if self.state is None else self.state.execution_id

    @property
    def evaluation(self) -> Evaluation | None:
        """The evaluation that is under way."""
        return None if self.state is None else evaluation_of(self.state)

    @property
    def is_locked(self) -> bool:
        """Whether an execution or an evaluation holds it up."""
        return self.execution_id is not None or self.evaluation is not None


_SORTABLE: Mapping[str, Callable[[Listed], Any]] = {
    "namespace": lambda one: one.key[0],
    "flowId": lambda one: one.key[1],
    "triggerId": lambda one: one.key[2],
    "executionId": lambda one: one.execution_id,
    "nextExecutionDate": lambda one: one.next_at,
    "nextEvaluationDate": lambda one: one.next_at,
    "lastTriggeredDate": lambda one: one.last_at,
    "date": lambda one: one.last_at,
}


class Name(msgspec.Struct, frozen=True, rename="camel"):
    """A trigger, as calls name it."""

    namespace: str
    flow_id: str
    trigger_id: str

    @property
    def key(self) -> TriggerKey:
        """Namespace, flow and id."""
        return self.namespace, self.flow_id, self.trigger_id


class Switch(Name, frozen=True, rename="camel"):
    """What `PUT /triggers/set-disabled` takes."""

    disabled: bool


class Switches(msgspec.Struct, frozen=True):
    """What `POST /triggers/set-disabled/by-triggers` takes."""

    triggers: list[Name]
    disabled: bool


class Label(msgspec.Struct, frozen=True):
    """A label of a backfill."""

    key: str
    value: str


class Span(msgspec.Struct, frozen=True):
    """The backfill that a caller asks for, or sends back as it was told of it."""

    start: datetime
    end: datetime | None = None
    inputs: dict[str, object] | None = None
    labels: list[Label] | dict[str, str] | None = None
    paused: bool = False


class NewBackfill(Name, frozen=True, rename="camel"):
    """What `PUT /triggers/backfill/create` takes."""

    backfill: Span


class Update(Name, frozen=True, rename="camel"):
    """What `PUT /triggers` takes, of a trigger as it was told."""

    disabled: bool | None = None
    backfill: Span | None = None


# Looking


def search(call: Call) -> Response:
    """A page of triggers, each with its definition and its state."""
    paging = read_paging(call.query, _SORTABLE)
    found = _matching(call)
    return page_answer([_item(one) for one in page_of(found, paging, _SORTABLE)], len(found))


def of_flow(call: Call) -> Response:
    """A page of the states of a flow's triggers."""
    paging = read_paging(call.query, _SORTABLE)
    wanted = (call.query.text("q") or "").lower()
    namespace, flow_id = call.path["namespace"], call.path["flowId"]
    found = [one for one in _listed(call, namespace) if one.key[1] == flow_id and wanted in one.key[2].lower()]
    return page_answer([_state_json(one) for one in page_of(found, paging, _SORTABLE)], len(found))


def export(call: Call) -> Response:
    """The triggers that fit the filters, as CSV."""
    lines = [csv_line(_EXPORTED)]
    for one in _matching(call):
        state = {**_state_json(one), "type": one.type}
        lines.append(csv_line(_cell(state.get(name, "")) for name in _EXPORTED))
    return file_answer(b"".join(lines), "triggers.csv", "text/csv")


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _matching(call: Call) -> list[Listed]:
    where = read_filters(call.query, FIELDS, call.now)
    by_last = (call.query.text("dateFilter") or "").upper() == "LAST_TRIGGERED_DATE"
    system = call.options.system_namespace
    return [
        one
        for one in _listed(call)
        if holds(where, lambda field, one=one: _value(one, field, system=system, by_last=by_last))
    ]


def _value(one: Listed, field: str, *, system: str, by_last: bool) -> Any:
    namespace, flow_id, trigger_id = one.key
    match field:
        case "q":
            return [namespace, flow_id, trigger_id, f"{namespace}.{flow_id}"]
        case "namespace":
            return namespace
        case "flowId":
            return flow_id
        case "triggerId":
            return trigger_id
        case "type":
            return one.type
        case "executionId" | "triggerExecutionId":
            return one.execution_id
        case "triggerState":
            return "DISABLED" if one.is_disabled else "ENABLED"
        case "scope":
            is_system = namespace == system or namespace.startswith(f"{system}.")
            return Scope.SYSTEM if is_system else Scope.USER
        case "enabled":
            return not one.is_disabled
        case "locked":
            return one.is_locked
        case "lastTriggeredDate":
            return one.last_at
        case "nextExecutionDate":
            return one.next_at
        case "startDate" | "endDate":
            return one.last_at if by_last else one.next_at
        case _:
            return None if one.evaluation is None else one.evaluation.owner


def _listed(call: Call, namespace: str | None = None) -> list[Listed]:
    """All triggers, by namespace, flow and id: those of saved flows, and those that only a state is left of."""
    # States before flows: what a flow does not have any more is then really gone.
    states = {state.key: state for state in call.run(call.operations.trigger_states())}
    found: dict[TriggerKey, Listed] = {}
    for saved in call.run(call.operations.saved_flows(namespace)):
        flow = outline(saved)
        for definition in flow.triggers:
            key = saved.namespace, saved.id, str(definition["id"])
            state = states.get(key)
            found[key] = Listed(key=key, definition=definition, state=state, is_flow_disabled=flow.disabled)
    for key, state in states.items():
        if key not in found and namespace in (None, key[0]):
            found[key] = Listed(key=key, definition={}, state=state)
    return [found[key] for key in sorted(found)]


def _item(one: Listed) -> Json:
    state = _state_json(one)
    return {"trigger": one.definition, "state": state, "abstractTrigger": one.definition, "triggerContext": state}


def _state_json(one: Listed) -> Json:
    """Where a trigger stands, under the names of all versions."""
    namespace, flow_id, trigger_id = one.key
    state = one.state
    backfill = None if state is None else backfill_of(state)
    last, following = _text(one.last_at), _text(one.next_at)
    updated = None if state is None else instant_text(state.updated_at)
    evaluation = one.evaluation
    return present(
        namespace=namespace,
        flowId=flow_id,
        triggerId=trigger_id,
        disabled=one.is_disabled,
        locked=one.is_locked,
        executionId=one.execution_id,
        date=last,
        lastTriggeredDate=last,
        nextExecutionDate=following,
        nextEvaluationDate=following,
        updatedDate=updated,
        updatedAt=updated,
        evaluateRunningDate=None if evaluation is None else instant_text(evaluation.started_at),
        workerId=None if evaluation is None else evaluation.owner,
        problem=None if state is None else problem_of(state) or None,
        stopAfter=one.definition.get("stopAfter"),
        backfill=None if backfill is None else _backfill_json(backfill),
    )


def _backfill_json(backfill: Backfill) -> Json:
    return present(
        start=instant_text(backfill.start),
        end=instant_text(backfill.end),
        currentDate=instant_text(backfill.current_date),
        paused=backfill.paused,
        inputs=plain(backfill.inputs) if backfill.inputs else None,
        labels=labels_json(backfill.labels) if backfill.labels else None,
        previousNextExecutionDate=_text(backfill.previous_next_execution_date),
    )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else instant_text(moment)


# One trigger


def set_disabled(call: Call) -> Response:
    """Disable a trigger, or enable it."""
    given = call.json_as(Switch)
    return _told(call, call.run(call.engine.scheduler.set_disabled(*given.key, disabled=given.disabled)))


def unlock(call: Call) -> Response:
    """Let a trigger go on although its last execution has not ended."""
    return _told(call, call.run(call.engine.scheduler.unlock(*_key(call))))


def restart(call: Call) -> Response:
    """Have a trigger go on from now, whatever holds it up."""
    return _told(call, call.run(call.engine.scheduler.restart(*_key(call))))


def delete(call: Call) -> Response:
    """Forget where a trigger stands; one that its flow still has begins as a new one does."""
    call.run(call.engine.scheduler.reset(*_key(call)))
    return empty_answer()


def update(call: Call) -> Response:
    """Disable or enable a trigger, and begin, pause or continue its backfill: as the state says that is sent."""
    given = call.json_as(Update)
    one = _find(call, given.key)
    state = one.state
    if given.disabled is not None and given.disabled is not one.is_disabled:
        state = call.run(call.engine.scheduler.set_disabled(*given.key, disabled=given.disabled))
    if given.backfill is not None:
        current = None if state is None else backfill_of(state)
        if current is None or _text(current.start) != _text(given.backfill.start):
            state = _begin(call, given.key, given.backfill)
        elif current.paused is not given.backfill.paused:
            state = call.run(call.engine.scheduler.pause_backfill(*given.key, paused=given.backfill.paused))
    return json_answer(_state_json(replace(one, state=state)))


def _key(call: Call) -> TriggerKey:
    return call.path["namespace"], call.path["flowId"], call.path["triggerId"]


def _find(call: Call, key: TriggerKey) -> Listed:
    for one in _listed(call, key[0]):
        if one.key == key:
            return one
    raise NotFoundError(f"There is no trigger {key[2]} of a flow {key[0]}.{key[1]}.")


def _told(call: Call, state: TriggerState) -> Response:
    return json_answer(_state_json(replace(_find(call, state.key), state=state)))


# Backfills


def create_backfill(call: Call) -> Response:
    """Start an execution for every date of a trigger in a span of time."""
    given = call.json_as(NewBackfill)
    return _told(call, _begin(call, given.key, given.backfill))


def _begin(call: Call, key: TriggerKey, wanted: Span) -> TriggerState:
    first, last = _instant(wanted.start), None if wanted.end is None else _instant(wanted.end)
    if last is not None and last < first:
        raise RequestError(422, "The backfill ends before it begins.")
    problem = storable_problem(wanted.inputs)
    if problem is not None:
        raise RequestError(422, f"The inputs cannot be kept: {problem}.", reason="Invalid entity")
    labels = wanted.labels or {}
    start = call.engine.scheduler.start_backfill(
        *key,
        start=first,
        end=last,
        inputs=wanted.inputs,
        labels={one.key: one.value for one in labels} if isinstance(labels, list) else labels,
    )
    return call.run(start)


def _instant(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise RequestError(422, "A backfill begins and ends at dates with an offset.", hint="Append Z for UTC.")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise RequestError(422, f"There is no backfill in the year {moment.year}.")
    return moment.astimezone(UTC)


def pause_backfill(call: Call) -> Response:
    """Pause a backfill."""
    return _change_one(call, _pause)


def unpause_backfill(call: Call) -> Response:
    """Continue a backfill."""
    return _change_one(call, _unpause)


def delete_backfill(call: Call) -> Response:
    """End a backfill."""
    return _change_one(call, _delete_backfill)


_Change = Callable[[Call, TriggerKey], Coroutine[Any, Any, TriggerState]]


def _change_one(call: Call, change: _Change) -> Response:
    return _told(call, call.run(change(call, call.json_as(Name).key)))


def _disable(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.set_disabled(*key, disabled=True)


def _enable(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.set_disabled(*key, disabled=False)


def _unlock(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.unlock(*key)


def _pause(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.pause_backfill(*key, paused=True)


def _unpause(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.pause_backfill(*key, paused=False)


def _delete_backfill(call: Call, key: TriggerKey) -> Coroutine[Any, Any, TriggerState]:
    return call.engine.scheduler.delete_backfill(*key)


def _reset(call: Call, key: TriggerKey) -> Coroutine[Any, Any, None]:
    return call.engine.scheduler.reset(*key)


# Many triggers


def set_disabled_by_triggers(call: Call) -> Response:
    """Disable or enable triggers."""
    given = call.json_as(Switches)
    keys = _known(call, "set-disabled", given.triggers)
    return _change_many(call, keys, _disable if given.disabled else _enable)


def set_disabled_by_query(call: Call) -> Response:
    """Disable or enable the triggers that fit the filters."""
    change = _disable if call.query.flag("disabled", True) else _enable
    return _change_many(call, _matching_keys(call), change)


def unlock_by_triggers(call: Call) -> Response:
    """Unlock triggers; those that cannot be are passed over."""
    return _change_many(call, [one.key for one in call.json_as(list[Name])], _unlock)


def unlock_by_query(call: Call) -> Response:
    """Unlock the triggers that fit the filters and are locked."""
    return _change_many(call, _matching_keys(call), _unlock)


def delete_by_triggers(call: Call) -> Response:
    """Forget where triggers stand."""
    return _change_many(call, [one.key for one in call.json_as(list[Name])], _reset)


def delete_by_query(call: Call) -> Response:
    """Forget where the triggers stand that fit the filters."""
    return _change_many(call, _matching_keys(call), _reset)


def pause_by_triggers(call: Call) -> Response:
    """Pause the backfills of triggers."""
    return _change_many(call, _known(call, "pause", call.json_as(list[Name])), _pause)


def pause_by_query(call: Call) -> Response:
    """Pause the backfills of the triggers that fit the filters."""
    return _change_many(call, _matching_keys(call), _pause)


def unpause_by_triggers(call: Call) -> Response:
    """Continue the backfills of triggers."""
    return _change_many(call, _known(call, "unpause", call.json_as(list[Name])), _unpause)


def unpause_by_query(call: Call) -> Response:
    """Continue the backfills of the triggers that fit the filters."""
    return _change_many(call, _matching_keys(call), _unpause)


def delete_backfills_by_triggers(call: Call) -> Response:
    """End the backfills of triggers."""
    return _change_many(call, _known(call, "delete", call.json_as(list[Name])), _delete_backfill)


def delete_backfills_by_query(call: Call) -> Response:
    """End the backfills of the triggers that fit the filters."""
    return _change_many(call, _matching_keys(call), _delete_backfill)


def _matching_keys(call: Call) -> list[TriggerKey]:
    return [one.key for one in _matching(call)]


def _known(call: Call, verb: str, names: Sequence[Name]) -> list[TriggerKey]:
    """The triggers named. Raises BulkError where there is no such one."""
    known = {one.key for one in _listed(call)}
    unknown = [name for name in names if name.key not in known]
    if unknown:
        raise BulkError(verb, [Invalid("trigger not found", ".".join(name.key), "trigger") for name in unknown])
    return [name.key for name in names]


def _change_many(
    call: Call, keys: Iterable[TriggerKey], change: Callable[[Call, TriggerKey], Coroutine[Any, Any, object]]
) -> Response:
    """Change triggers; those that cannot be changed so are passed over, and do not count."""
    count = 0
    for key in dict.fromkeys(keys):
        try:
            call.run(change(call, key))
        except (NotFoundError, ConflictError):
            continue
        count += 1
    return bulk_answer(count)


ROUTES = (
    Route(method="GET", path="/triggers/search", answer=search),
    Route(method="GET", path="/triggers/export/by-query/csv", answer=export),
    Route(method="GET", path="/triggers/{namespace}/{flowId}", answer=of_flow),
    Route(method="PUT", path="/triggers", answer=update),
    Route(method="PUT", path="/triggers/set-disabled", answer=set_disabled),
    Route(method="POST", path="/triggers/set-disabled/by-triggers", answer=set_disabled_by_triggers),
    Route(method="POST", path="/triggers/set-disabled/by-query", answer=set_disabled_by_query),
    Route(method="POST", path="/triggers/{namespace}/{flowId}/{triggerId}/unlock", answer=unlock),
    Route(method="POST", path="/triggers/unlock/by-triggers", answer=unlock_by_triggers),
    Route(method="POST", path="/triggers/unlock/by-query", answer=unlock_by_query),
    Route(method="POST", path="/triggers/{namespace}/{flowId}/{triggerId}/restart", answer=restart),
    Route(method="DELETE", path="/triggers/{namespace}/{flowId}/{triggerId}", answer=delete),
    Route(method="DELETE", path="/triggers/delete/by-triggers", answer=delete_by_triggers),
    Route(method="DELETE", path="/triggers/delete/by-query", answer=delete_by_query),
    Route(method="PUT", path="/triggers/backfill/create", answer=create_backfill),
    Route(method="PUT", path="/triggers/backfill/pause", answer=pause_backfill),
    Route(method="PUT", path="/triggers/backfill/unpause", answer=unpause_backfill),
    Route(method="POST", path="/triggers/backfill/delete", answer=delete_backfill),
    Route(method="POST", path="/triggers/backfill/pause/by-triggers", answer=pause_by_triggers),
    Route(method="POST", path="/triggers/backfill/pause/by-query", answer=pause_by_query),
    Route(method="POST", path="/triggers/backfill/unpause/by-triggers", answer=unpause_by_triggers),
    Route(method="POST", path="/triggers/backfill/unpause/by-query", answer=unpause_by_query),
    Route(method="POST", path="/triggers/backfill/delete/by-triggers", answer=delete_backfills_by_triggers),
    Route(method="POST", path="/triggers/backfill/delete/by-query", answer=delete_backfills_by_query),
)
