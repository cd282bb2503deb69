"""`/namespaces`: which there are: those of flows, keys and files, the ones above them, and that of the system; secrets.

Of secrets only the names are told.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from tercel.api.answers import json_answer, page_answer
from tercel.api.call import Call
from tercel.api.filters import FLAG, QUERY, TEXT, Fields, holds, read_filters
from tercel.api.paging import page_of, read_paging
from tercel.api.routing import Route
from tercel.api.shapes import Json
from tercel.storage.namespace_files import namespaces_with_files

FIELDS: Fields = {"q": QUERY, "namespace": TEXT, "id": TEXT, "existingOnly": FLAG}

_SORTABLE: Mapping[str, Callable[[str], Any]] = {"id": str, "name": str}
_SECRETS_SORTABLE: Mapping[str, Callable[[str], Any]] = {"key": str, "name": str}


class Wanted(msgspec.Struct, frozen=True, rename="camel"):
    """What `POST /namespaces/autocomplete` takes."""

    q: str | None = None
    ids: list[str] | None = None
    existing_only: bool = False


def search(call: Call) -> Response:
    """A page of namespaces; those are disabled that are there only because of others, or of the system."""
    paging = read_paging(call.query, _SORTABLE)
    where = read_filters(call.query, FIELDS, call.now)
    known = _known(call)
    wants_existing = call.query.flag("existing", False)
    found = [
        name
        for name, exists in known.items()
        if (exists or not wants_existing)
        and holds(where, lambda field, name=name, exists=exists: _value(name, field, exists=exists))
    ]
    return page_answer([_json(name, exists=known[name]) for name in page_of(found, paging, _SORTABLE)], len(found))


def _value(name: str, field: str, *, exists: bool) -> Any:
    match field:
        case "q":
            return [name]
        case "existingOnly":
            return exists
        case _:
            return name


def get(call: Call) -> Response:
    """A namespace, whether there is anything in it or not."""
    name = call.path["id"]
    return json_answer(_json(name, exists=_known(call).get(name, False)))


def _json(name: str, *, exists: bool) -> Json:
    return {"id": name, "deleted": False, "disabled": not exists}


def autocomplete(call: Call) -> Response:
    """The names of namespaces that have a text in them, or are among those named."""
    wanted = call.json_as(Wanted)
    text = (wanted.q or "").lower()
    return json_answer(
        [
            name
            for name, exists in _known(call).items()
            if text in name.lower() and (not wanted.ids or name in wanted.ids) and (exists or not wanted.existing_only)
        ]
    )


def _known(call: Call) -> dict[str, bool]:
    """Every namespace by name, and whether there is something right in it."""
    existing = {one.namespace for one in call.run(call.operations.saved_flows())}
    existing |= {one.namespace for one in call.run(call.operations.key_values(None, call.now))}
    existing |= set(namespaces_with_files(call.engine.storage))
    names = {call.options.system_namespace}.union(*(_and_above(name) for name in existing))
    return {name: name in existing for name in sorted(names)}


def _and_above(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def secrets(call: Call) -> Response:
    """A page of the names of secrets, which all namespaces have in common."""
    paging = read_paging(call.query, _SECRETS_SORTABLE)
    wanted = (call.query.text("q") or "").lower()
    found = [name for name in call.engine.secrets.names() if wanted in name.lower()]
    namespace = call.path["namespace"]
    page = [{"key": name, "namespace": namespace} for name in page_of(found, paging, _SECRETS_SORTABLE)]
    return page_answer(page, len(found), readOnly=True)


def inherited_secrets(call: Call) -> Response:
    """The names of secrets by namespace."""
    return json_answer({call.path["namespace"]: call.engine.secrets.names()})


ROUTES = (
    Route(method="GET", path="/namespaces/search", answer=search),
    Route(method="POST", path="/namespaces/autocomplete", answer=autocomplete),
    Route(method="GET", path="/namespaces/{id}", answer=get),
    Route(method="GET", path="/namespaces/{namespace}/secrets", answer=secrets),
    Route(method="GET", path="/namespaces/{namespace}/inherited-secrets", answer=inherited_secrets),
)
