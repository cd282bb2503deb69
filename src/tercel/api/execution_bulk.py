"""`/executions`: what people do with many executions: those of a list, or those that fit filters.

A list is done as a whole or not at all: an entry with which it cannot be done refuses it. Of the executions that fit
filters those are done with which it can be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from starlette.responses import Response

from tercel.api.answers import bulk_answer
from tercel.api.call import Call
from tercel.api.execution_actions import Label, Unqueued, needed_status, read_labels, take_from_queue
from tercel.api.execution_filters import ALL, asked_filters
from tercel.api.executions import NEWEST_FIRST, deleted_with
from tercel.api.problems import BulkError, Invalid
from tercel.api.routing import Route
from tercel.errors import UserError
from tercel.model.execution import Execution
from tercel.model.search import AllOf, Condition, Operation
from tercel.model.state import State
from tercel.operations import refuse_unless_final
from tercel.store import ExecutionQuery

_AT_ONCE = 500

Refusal = Callable[[Call, Execution], str | None]
"""Why it cannot be done with an execution, for people; None where it can."""

Act = Callable[[Call, Sequence[str]], int]
"""Does it with executions by id, and gives with how many."""


class Labelled(msgspec.Struct, frozen=True, rename="camel"):
    """Executions, and the labels that they are to have."""

    executions_id: list[str]
    execution_labels: list[Label]


class Verb(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is done with many executions.

    Attributes:
        name: for messages.
        refusal: says with which it cannot be done.
        act: does it.
    """

    name: str
    refusal: Refusal
    act: Act


def _by_ids(verb: Callable[[Call], Verb]) -> Callable[[Call], Response]:
    def answer(call: Call) -> Response:
        return _do(call, verb(call), call.json_as(list[str]))

    return answer


def _by_query(verb: Callable[[Call], Verb]) -> Callable[[Call], Response]:
    def answer(call: Call) -> Response:
        meant = verb(call)
        done = 0
        query = ExecutionQuery(where=asked_filters(call), order=NEWEST_FIRST, limit=ALL)
        for ids in _parts(call.run(call.operations.execution_ids(query))):
            found = _found(call, ids)
            done += meant.act(call, [id_ for id_, one in found.items() if meant.refusal(call, one) is None])
        return bulk_answer(done)

    return answer


def _do(call: Call, verb: Verb, given: Sequence[str]) -> Response:
    """Do it with all of these, or raise BulkError and do nothing."""
    ids = list(dict.fromkeys(given))
    invalid: list[Invalid] = []
    for part in _parts(ids):
        found = _found(call, part)
        for id_ in part:
            why = verb.refusal(call, found[id_]) if id_ in found else "execution not found"
            if why is not None:
                invalid.append(Invalid(why, id_, "execution"))
    if invalid:
        raise BulkError(verb.name, invalid)
    return bulk_answer(verb.act(call, ids))


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))


def _found(call: Call, ids: Sequence[str]) -> dict[str, Execution]:
    """The executions that there are, in the order of *ids*."""
    condition = Condition(field="id", operation=Operation.IN, value=tuple(ids))
    query = ExecutionQuery(where=AllOf((condition,)), limit=len(ids))
    found = {one.id: one for one in call.run(call.operations.search_executions(query))}
    return {id_: found[id_] for id_ in ids if id_ in found}


def _each(do: Callable[[Call, str], object]) -> Act:
    """One after the other; what somebody else was faster with is passed over."""

    def act(call: Call, ids: Sequence[str]) -> int:
        done = 0
        for id_ in ids:
            try:
                do(call, id_)
            except UserError:
                continue
            done += 1
        return done

    return act


def _unless(*states: State) -> Refusal:
    """Refuses all that are in another state."""
    names = " or ".join(states)
    return lambda _, execution: None if execution.state in states else f"execution is not {names}"


def _unless_ended(_: Call, execution: Execution) -> str | None:
    return "execution is not terminated" if execution.is_open else None


def _if_ended(_: Call, execution: Execution) -> str | None:
    return None if execution.is_open else "execution is already finished"


def _unless_restartable(call: Call, execution: Execution) -> str | None:
    try:
        call.run(call.operations.restartable(execution.id))
    except UserError as error:
        return error.message
    return None


def _unless_resumable(call: Call, execution: Execution) -> str | None:
    if execution.state is not State.PAUSED:
        return "execution is not PAUSED"
    try:
        call.run(call.operations.check_resume(execution.id))
    except UserError as error:
        return error.message
    return None


def _never(_: Call, __: Execution) -> str | None:
    return None


def _restart(_: Call) -> Verb:
    return Verb(
        name="restart",
        refusal=_unless_restartable,
        act=_each(lambda call, id_: call.run(call.operations.restart(id_))),
    )


def _replay(call: Call) -> Verb:
    is_latest = call.query.flag("latestRevision", False)

    def again(call: Call, id_: str) -> None:
        revision = None
        if is_latest:
            execution = call.run(call.operations.get_execution(id_))
            revision = call.run(call.operations.saved_flow(execution.namespace, execution.flow_id)).revision
        call.run(call.operations.replay(id_, revision=revision))

    return Verb(name="replay", refusal=_never, act=_each(again))


def _kill(call: Call) -> Verb:
    cascade = call.query.flag("isOnKillCascade", True)

    def kill(call: Call, ids: Sequence[str]) -> int:
        return len(call.run(call.operations.kill_all(ids, cascade=cascade)))

    return Verb(name="kill", refusal=_if_ended, act=kill)


def _pause(_: Call) -> Verb:
    return Verb(
        name="pause",
        refusal=_unless(State.RUNNING, State.RETRYING),
        act=_each(lambda call, id_: call.run(call.operations.pause(id_))),
    )


def _resume(_: Call) -> Verb:
    return Verb(
        name="resume",
        refusal=_unless_resumable,
        act=_each(lambda call, id_: call.run(call.operations.resume(id_))),
    )


def _force_run(_: Call) -> Verb:
    return Verb(
        name="force run",
        refusal=_unless(State.CREATED, State.QUEUED, State.PAUSED),
        act=_each(lambda call, id_: call.run(call.operations.force_run(id_))),
    )


def _unqueue_listed(call: Call) -> Verb:
    return _unqueue(call.query.choice("state", Unqueued) or call.query.choice("newState", Unqueued))


def _unqueue_found(call: Call) -> Verb:
    """Here `state` is a filter."""
    return _unqueue(call.query.choice("newState", Unqueued))


def _unqueue(state: Unqueued | None) -> Verb:
    return Verb(
        name="unqueue",
        refusal=_unless(State.QUEUED),
        act=_each(lambda call, id_: take_from_queue(call, id_, state or Unqueued.RUNNING)),
    )


def _change_status(call: Call) -> Verb:
    state = needed_status(call, "newStatus")
    refuse_unless_final(state)
    return Verb(
        name="change status",
        refusal=_unless_ended,
        act=_each(lambda call, id_: call.run(call.operations.change_status(id_, state))),
    )


def _delete(call: Call) -> Verb:
    with_open = call.query.flag("includeNonTerminated", False)
    others = deleted_with(call)

    def delete(call: Call, ids: Sequence[str]) -> int:
        still_open = [id_ for id_, one in _found(call, ids).items() if one.is_open]
        for id_ in call.run(call.operations.kill_all(still_open)):
            call.run(call.operations.wait_for_end(id_))
        return _each(lambda call, id_: call.run(call.operations.delete_execution(id_, **others)))(call, ids)

    return Verb(name="delete", refusal=_never if with_open else _unless_ended, act=delete)


def _labels(labels: Mapping[str, str]) -> Verb:
    return Verb(
        name="labels",
        refusal=_unless_ended,
        act=_each(lambda call, id_: call.run(call.operations.set_labels(id_, labels))),
    )


def label_by_ids(call: Call) -> Response:
    """Give labels to executions."""
    asked = call.json_as(Labelled)
    return _do(call, _labels(read_labels(asked.execution_labels)), asked.executions_id)


def label_by_query(call: Call) -> Response:
    """Give labels to the executions that fit the filters."""
    labels = read_labels(call.json_as(list[Label]))
    return _by_query(lambda _: _labels(labels))(call)


def _both(method: str, name: str, verb: Callable[[Call], Verb]) -> tuple[Route, Route]:
    path = f"/executions/{name}" if name else "/executions"
    return (
        Route(method=method, path=f"{path}/by-ids", answer=_by_ids(verb)),
        Route(method=method, path=f"{path}/by-query", answer=_by_query(verb)),
    )


ROUTES = (
    *_both("DELETE", "", _delete),
    *_both("DELETE", "kill", _kill),
    *_both("POST", "restart", _restart),
    *_both("POST", "replay", _replay),
    *_both("POST", "pause", _pause),
    *_both("POST", "resume", _resume),
    *_both("POST", "force-run", _force_run),
    Route(method="POST", path="/executions/unqueue/by-ids", answer=_by_ids(_unqueue_listed)),
    Route(method="POST", path="/executions/unqueue/by-query", answer=_by_query(_unqueue_found)),
    *_both("POST", "change-status", _change_status),
    Route(method="POST", path="/executions/labels/by-ids", answer=label_by_ids),
    Route(method="POST", path="/executions/labels/by-query", answer=label_by_query),
)
