"""`/flows`: many flows at once: written, deleted, switched off and on."""

from collections.abc import Callable, Sequence

import msgspec
from starlette.responses import Response

from tercel.api.answers import bulk_answer, json_answer
from tercel.api.call import Call
from tercel.api.flows import matching_flows
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import flow_json
from tercel.errors import InvalidFlowError
from tercel.model.flow import Flow
from tercel.model.flow_text import with_property
from tercel.model.source import read_flow, read_flows
from tercel.operations import FlowChanges
from tercel.plugins import catalog
from tercel.store import FlowRevision


class FlowName(msgspec.Struct, frozen=True):
    """A flow, as bulk calls name it."""

    namespace: str
    id: str


def replace_namespace(call: Call) -> Response:
    """Write the flows of a namespace; all others in it are deleted, unless `delete=false` says otherwise."""
    namespace = call.path["namespace"]
    flows = _read(call)
    if call.query.flag("override", False):
        flows = [
            read_flow(with_property(flow.source, "namespace", namespace), catalog(), call.plugin_defaults)
            if flow.namespace != namespace
            else flow
            for flow in flows
        ]
    _refuse_foreign(flows, lambda name: name == namespace, f"the namespace {namespace}")
    _refuse_twice(flows)
    obsolete = _obsolete(call, flows, lambda one: one.namespace == namespace)
    return _changed(call.run(call.operations.save_flows(flows, obsolete)))


def replace_many(call: Call) -> Response:
    """Write flows of any namespaces; all others are deleted, unless `delete=false` says otherwise."""
    namespace = call.query.text("namespace")
    with_children = call.query.flag("allowNamespaceChild", False)
    flows = _read(call)

    def is_meant(name: str) -> bool:
        return not namespace or name == namespace or (with_children and name.startswith(f"{namespace}."))

    _refuse_foreign(flows, is_meant, f"the namespace {namespace}")
    _refuse_twice(flows)
    obsolete = _obsolete(call, flows, lambda one: is_meant(one.namespace))
    return _changed(call.run(call.operations.save_flows(flows, obsolete)))


def _read(call: Call) -> list[Flow]:
    """The flows of the body; none where it is empty. Raises InvalidFlowError with all that is wrong in any of them."""
    return read_flows(call.text, catalog(), call.plugin_defaults) if call.text.strip() else []


def _refuse_foreign(flows: Sequence[Flow], is_meant: Callable[[str], bool], what: str) -> None:
    foreign = [flow for flow in flows if not is_meant(flow.namespace)]
    if foreign:
        names = ", ".join(f"{flow.namespace}.{flow.id}" for flow in foreign)
        errors = [(f"{flow.namespace}.{flow.id} is of another namespace.", "flow.namespace") for flow in foreign]
        raise RequestError(422, f"Not of {what}: {names}.", reason="Invalid entity", errors=errors)


def _refuse_twice(flows: Sequence[Flow]) -> None:
    names = [f"{flow.namespace}.{flow.id}" for flow in flows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        errors = [(f"{name} is given more than once.", "flow.id") for name in twice]
        raise RequestError(422, f"Given more than once: {', '.join(twice)}.", reason="Invalid entity", errors=errors)


def _obsolete(
    call: Call, flows: Sequence[Flow], is_meant: Callable[[FlowRevision], bool]
) -> Callable[[FlowRevision], bool]:
    if not call.query.flag("delete", True):
        return lambda _: False
    if not flows:
        # A client that finds no files sends nothing, and would lose everything by it.
        raise RequestError(422, "There is no flow in the body.", hint="Delete flows by /flows/delete/by-query.")
    return is_meant


def _changed(changes: FlowChanges) -> Response:
    return json_answer([flow_json(one, with_source=True) for one in (*changes.saved, *changes.deleted)])


def delete_by_ids(call: Call) -> Response:
    """Delete flows."""
    names = [(one.namespace, one.id) for one in call.json_as(list[FlowName])]
    return bulk_answer(len(call.run(call.operations.delete_flows(names))))


def delete_by_query(call: Call) -> Response:
    """Delete the flows that fit the filters."""
    names = [(one.namespace, one.id) for one in matching_flows(call)]
    return bulk_answer(len(call.run(call.operations.delete_flows(names))))


def _switched(*, disabled: bool, by_query: bool) -> Callable[[Call], Response]:
    """An answer that switches flows off or on, in their texts; it counts those that were not so before.

    A list with a flow that is not there, or cannot be read, changes nothing; of those that fit filters such are passed
    over.
    """

    def answer(call: Call) -> Response:
        if by_query:
            flows = [one for one in matching_flows(call) if _is_readable(call, one)]
        else:
            names = dict.fromkeys((one.namespace, one.id) for one in call.json_as(list[FlowName]))
            flows = [call.run(call.operations.saved_flow(*name)) for name in names]
            for one in flows:
                call.operations.read_flow(one.source)
        changed = [
            call.run(call.operations.set_flow_disabled(one.namespace, one.id, disabled=disabled)) for one in flows
        ]
        return bulk_answer(changed.count(True))

    return answer


def _is_readable(call: Call, saved: FlowRevision) -> bool:
    try:
        call.operations.read_flow(saved.source)
    except InvalidFlowError:
        return False
    return True


ROUTES = (
    Route(method="POST", path="/flows/{namespace}", answer=replace_namespace),
    Route(method="POST", path="/flows/bulk", answer=replace_many),
    Route(method="DELETE", path="/flows/delete/by-ids", answer=delete_by_ids),
    Route(method="DELETE", path="/flows/delete/by-query", answer=delete_by_query),
    Route(method="POST", path="/flows/disable/by-ids", answer=_switched(disabled=True, by_query=False)),
    Route(method="POST", path="/flows/disable/by-query", answer=_switched(disabled=True, by_query=True)),
    Route(method="POST", path="/flows/enable/by-ids", answer=_switched(disabled=False, by_query=False)),
    Route(method="POST", path="/flows/enable/by-query", answer=_switched(disabled=False, by_query=True)),
)
