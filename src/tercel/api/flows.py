"""`/flows`: one flow, its revisions and tasks; searches."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from tercel.api.answers import empty_answer, json_answer, page_answer
from tercel.api.call import Call
from tercel.api.filters import FLAG, MAP, QUERY, SCOPE, TEXT, WHOLE, Fields, Scope, holds, read_filters
from tercel.api.flow_outlines import outline
from tercel.api.paging import page_of, read_paging
from tercel.api.parameters import read_whole
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import find_task_json, flow_json
from tercel.errors import NotFoundError
from tercel.operations.flow_diff import changes_between, choose_revisions
from tercel.store import FlowRevision

if TYPE_CHECKING:
    import regex

FIELDS: Fields = {
    "q": QUERY,
    "namespace": TEXT,
    "flowId": TEXT,
    "id": TEXT,
    "flowRevision": WHOLE,
    "labels": MAP,
    "scope": SCOPE,
    "enabled": FLAG,
}

_SORTABLE: Mapping[str, Callable[[FlowRevision], Any]] = {
    "id": lambda one: one.id,
    "namespace": lambda one: one.namespace,
    "revision": lambda one: one.revision,
    "updated": lambda one: one.created_at,
    "disabled": lambda one: outline(one).disabled,
    "description": lambda one: outline(one).description,
}

_CONTEXT_LINES = 1
_MOST_FRAGMENTS = 20


def create(call: Call) -> Response:
    """Save a flow that there is not yet."""
    flow = call.run(call.operations.create_flow(call.text))
    return json_answer(flow_json(_saved(call, flow.namespace, flow.id, flow.revision), with_source=True))


def get(call: Call) -> Response:
    """A flow."""
    saved = call.run(
        call.operations.saved_flow(
            call.path["namespace"],
            call.path["id"],
            call.query.whole("revision", least=1),
            allow_deleted=call.query.flag("allowDeleted", False),
        )
    )
    return json_answer(flow_json(saved, with_source=call.query.flag("source", False)))


def update(call: Call) -> Response:
    """Save the next revision of a flow."""
    flow = call.run(call.operations.update_flow(call.path["namespace"], call.path["id"], call.text))
    return json_answer(flow_json(_saved(call, flow.namespace, flow.id, flow.revision), with_source=True))


def delete(call: Call) -> Response:
    """Delete a flow; its revisions stay."""
    call.run(call.operations.delete_flow(call.path["namespace"], call.path["id"]))
    return empty_answer()


def revisions(call: Call) -> Response:
    """Every revision of a flow, oldest first."""
    found = call.run(call.operations.flow_revisions(call.path["namespace"], call.path["id"]))
    with_deleted = call.query.flag("allowDelete", False)
    return json_answer([flow_json(one, with_source=True) for one in found if with_deleted or not one.deleted])


def revision_diff(call: Call) -> Response:
    """What has changed from one revision to another, as a unified diff; the last change where neither is given."""
    earlier, later = call.query.whole("from", least=1), call.query.whole("to", least=1)
    known = call.run(call.operations.flow_revisions(call.path["namespace"], call.path["id"]))
    if not known:
        raise NotFoundError(f"There is no flow {call.path['namespace']}.{call.path['id']}.")
    old, new = choose_revisions(known, earlier, later)
    lines = changes_between(old, new)
    return json_answer({"from": old.revision, "to": new.revision, "diff": "".join(f"{line}\n" for line in lines)})


def remove_revisions(call: Call) -> Response:
    """Remove old revisions of a flow."""
    call.query.needed("revisions")
    numbers = [number for text in call.query.every("revisions") for number in text.split(",") if number]
    chosen = {read_whole("revisions", number, least=1) for number in numbers}
    call.run(call.operations.remove_revisions(call.path["namespace"], call.path["id"], chosen))
    return empty_answer(200)


def task(call: Call) -> Response:
    """A task of a flow, wherever it stands."""
    revision = call.query.whole("revision", least=1)
    saved = _saved(call, call.path["namespace"], call.path["id"], revision)
    found = find_task_json(flow_json(saved), call.path["taskId"])
    if found is None:
        raise NotFoundError(f"The flow {saved.namespace}.{saved.id} has no task {call.path['taskId']!r}.")
    return json_answer(found)


def in_namespace(call: Call) -> Response:
    """The flows of a namespace, without those of namespaces below it."""
    return json_answer([flow_json(one) for one in call.run(call.operations.saved_flows(call.path["namespace"]))])


def search(call: Call) -> Response:
    """A page of flows."""
    paging = read_paging(call.query, _SORTABLE)
    found = matching_flows(call)
    return page_answer([flow_json(one) for one in page_of(found, paging, _SORTABLE)], len(found))


def search_sources(call: Call) -> Response:
    """A page of flows whose text has something in it, with the places."""
    paging = read_paging(call.query, _SORTABLE)
    pattern = _wanted(call)
    namespace = call.query.text("namespace")
    saved = [
        one
        for one in call.run(call.operations.saved_flows())
        if not namespace or one.namespace == namespace or one.namespace.startswith(f"{namespace}.")
    ]
    try:
        found = [one for one in saved if pattern.search(one.source, timeout=1) is not None]
        results = [_found_json(one, pattern) for one in page_of(found, paging, _SORTABLE)]
    except TimeoutError:
        raise RequestError(422, f"The regular expression {pattern.pattern[:100]!r} takes too long.") from None
    return page_answer(results, len(found))


def _wanted(call: Call) -> "regex.Pattern[str]":
    import regex  # noqa: PLC0415  # only this search needs it

    text = call.query.text("q") or ""
    wanted = text if call.query.flag("regex", False) else re.escape(text)
    if call.query.flag("wholeWord", False):
        wanted = rf"\b(?:{wanted})\b"
    try:
        return regex.compile(wanted, 0 if call.query.flag("caseSensitive", False) else regex.IGNORECASE)
    except regex.error as error:
        raise RequestError(422, f"{text[:100]!r} is no regular expression: {error}.") from None


def _found_json(saved: FlowRevision, pattern: "regex.Pattern[str]") -> dict[str, object]:
    lines = saved.source.splitlines()
    matches = [number for number, line in enumerate(lines) if pattern.search(line, timeout=1)][:_MOST_FRAGMENTS]
    fragments = [
        "\n".join(
            pattern.sub(lambda match: f"[mark]{match[0]}[/mark]" if match[0] else "", line, timeout=1)
            for line in lines[max(0, number - _CONTEXT_LINES) : number + _CONTEXT_LINES + 1]
        )
        for number in matches
    ]
    return {
        "namespace": saved.namespace,
        "id": saved.id,
        "editable": True,
        "matches": [{"line": number + 1, "text": lines[number]} for number in matches],
        "model": flow_json(saved),
        "fragments": fragments,
    }


def distinct_namespaces(call: Call) -> Response:
    """The namespaces that have flows."""
    wanted = (call.query.text("q") or "").lower()
    names = dict.fromkeys(one.namespace for one in call.run(call.operations.saved_flows()))
    return json_answer([name for name in names if wanted in name.lower()])


def matching_flows(call: Call) -> list[FlowRevision]:
    """The flows that fit the filters of a request, by namespace and id."""
    where = read_filters(call.query, FIELDS, call.now)
    system = call.options.system_namespace
    return [
        one
        for one in call.run(call.operations.saved_flows())
        if holds(where, lambda field, one=one: _value(one, field, system))
    ]


def _value(saved: FlowRevision, field: str, system: str) -> Any:
    match field:
        case "q":
            return [saved.id, saved.namespace, f"{saved.namespace}.{saved.id}"]
        case "namespace":
            return saved.namespace
        case "flowRevision":
            return saved.revision
        case "labels":
            return outline(saved).labels
        case "scope":
            is_system = saved.namespace == system or saved.namespace.startswith(f"{system}.")
            return Scope.SYSTEM if is_system else Scope.USER
        case "enabled":
            return not outline(saved).disabled
        case _:
            return saved.id


def _saved(call: Call, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision:
    return call.run(call.operations.saved_flow(namespace, flow_id, revision))


ROUTES = (
    Route(method="POST", path="/flows", answer=create),
    Route(method="GET", path="/flows/search", answer=search),
    Route(method="GET", path="/flows/source", answer=search_sources),
    Route(method="GET", path="/flows/distinct-namespaces", answer=distinct_namespaces),
    Route(method="GET", path="/flows/{namespace}", answer=in_namespace),
    Route(method="GET", path="/flows/{namespace}/{id}", answer=get),
    Route(method="PUT", path="/flows/{namespace}/{id}", answer=update),
    Route(method="DELETE", path="/flows/{namespace}/{id}", answer=delete),
    Route(method="GET", path="/flows/{namespace}/{id}/revisions", answer=revisions),
    Route(method="DELETE", path="/flows/{namespace}/{id}/revisions", answer=remove_revisions),
    Route(method="GET", path="/flows/{namespace}/{id}/revisions/diff", answer=revision_diff),
    Route(method="GET", path="/flows/{namespace}/{id}/tasks/{taskId}", answer=task),
)
