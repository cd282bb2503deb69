"""`/swagger`: the API's description as an OpenAPI document, made from the routes and the code that answers them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from tercel import __version__
from tercel.api.answers import json_answer
from tercel.api.call import Call
from tercel.api.filters import CHILD, DATE, LEVEL, RANGE, SCOPE, STATE, ChildFilter, Fields, Kind, Scope, flat_filters
from tercel.api.routing import API, Route
from tercel.errors import NotFoundError
from tercel.model.state import State
from tercel.model.task import LogLevel

if TYPE_CHECKING:
    from tercel.api.endpoints import Endpoint, Given, Parameter

Schema = dict[str, Any]

NAMES = {"openapi.json": "application/json", "tercel.json": "application/json", "kestra.yml": "application/yaml"}
"""Below `/swagger`; the YAML, by the name that clients know, is the JSON, which is YAML, too."""

_WITHOUT_TENANT = ("/configs", "/plugins", "/basicAuthValidationErrors", "/pebble", "/me")
_YAML_BODIES = ("/flows",)
_ERRORS = {
    400: "A parameter is missing, or a bulk call names what it cannot be done with.",
    401: "Credentials are missing or wrong.",
    404: "There is no such thing.",
    409: "What is there is in no state for it.",
    410: "It has expired.",
    413: "The request is too long.",
    422: "Something is wrong with what was sent.",
    503: "Something that is needed is not there.",
}
_ABOUT = """\
What `tercel server` answers. Every path below `/api/v1/main` is there without `main`, too.
Actions on an execution are there without `actions/`, too, as before 2.0.
Answers may have more members than are listed.
"""


def answer(call: Call) -> Response:
    """The description of the API."""
    media_type = NAMES.get(call.path["name"])
    if media_type is None:
        raise NotFoundError(f"There is no description {call.path['name']!r}.", f"There is {', '.join(NAMES)}.")
    return json_answer(_whole(call.options.context_path), headers={"Content-Type": media_type})


@cache
def _whole(context_path: str) -> Mapping[str, object]:
    from tercel.api import RESOURCES  # noqa: PLC0415  # which lists this module, too

    return document([route for resource in RESOURCES for route in resource.ROUTES], context_path)


def document(routes: Sequence[Route], context_path: str = "") -> dict[str, Any]:
    """The OpenAPI document of routes.

    Args:
        routes: all endpoints.
        context_path: what stands before every address.
    """
    from tercel.api.answer_shapes import schemas  # noqa: PLC0415  # only who asks for the document needs it
    from tercel.api.endpoints import read_endpoint  # noqa: PLC0415  # likewise

    endpoints = [(route, read_endpoint(route.answer)) for route in routes]
    bodies = list({repr(one.body): one.body for _, one in endpoints if one.body is not None}.values())
    found, named = msgspec.json.schema_components(
        bodies, schema_hook=lambda _: {"description": "Anything."}, ref_template="#/components/schemas/given.{name}"
    )
    body_schemas = dict(zip(map(repr, bodies), found, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route, endpoint in sorted(endpoints, key=lambda one: (one[0].path, one[0].method)):
        operation = _operation(route, endpoint, body_schemas)
        paths.setdefault(documented_path(route), {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tercel", "version": __version__, "description": _ABOUT},
        "servers": [{"url": context_path or "/"}],
        "security": [{"basic": []}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": {**schemas(), **{f"given.{name}": one for name, one in named.items()}},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def documented_path(route: Route) -> str:
    """The path of a route in its main form: with the tenant, where it may have one."""
    path = route.path.replace("*}", "}")
    if route.is_outside:
        return path
    return f"{API}{path}" if path.startswith(_WITHOUT_TENANT) else f"{API}/main{path}"


def about(route: Route) -> str:
    """What an endpoint does, in a line."""
    told = (route.answer.__doc__ or "").partition("\n")[0]
    if told:
        return told
    verb, _, way = route.path.removeprefix("/executions/").removeprefix("/flows/").partition("/by-")
    what = "the flows" if route.path.startswith("/flows") else "the executions"
    verb = "Delete" if way == "" else verb.replace("-", " ").capitalize()
    return f"{verb} {what} {'that fit the filters' if way == 'query' or 'query' in route.path else 'by their ids'}."


def _operation(route: Route, endpoint: "Endpoint", body_schemas: Mapping[str, Schema]) -> Schema:
    words = re.findall(r"\w+", route.path.replace("-", "_"))
    operation: Schema = {
        "operationId": "_".join((route.method.lower(), *words)),
        "summary": about(route),
        "tags": [words[0]],
        "parameters": [*_path_parameters(route), *_query_parameters(endpoint)],
        "responses": {**_responses(route, endpoint), **_error_responses(route, endpoint)},
    }
    body = _body(route, endpoint, body_schemas)
    if body is not None:
        operation["requestBody"] = body
    if route.is_open or "/webhook/" in route.path:
        operation["security"] = []
    if route.path.startswith("/executions/trigger/"):
        operation["deprecated"] = True
    return operation


def _path_parameters(route: Route) -> Iterator[Schema]:
    from tercel.api.endpoints import path_parameters  # noqa: PLC0415  # see above

    for name in path_parameters(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(endpoint: "Endpoint") -> Iterator[Schema]:
    for name, parameter in endpoint.query.items():
        yield _given(name, _parameter_schema(parameter), is_needed=parameter.is_needed)
    if endpoint.sortable is not None:
        yield _given("page", {"type": "integer", "minimum": 1, "default": 1})
        yield _given("size", {"type": "integer", "minimum": 1, "default": 10})
        possible = [f"{field}:{direction}" for field in sorted(endpoint.sortable) for direction in ("asc", "desc")]
        yield _given("sort", {"type": "array", "items": {"type": "string", "enum": possible}})
    if endpoint.filters:
        for name, schema in _flat_filters(endpoint.filters):
            if name not in endpoint.query:
                yield _given(name, schema)
        yield {
            "name": "filters",
            "in": "query",
            "style": "deepObject",
            "description": "`filters[field][OPERATION]=value`; the fields are those listed.",
            "schema": {"type": "object", "properties": {name: {"type": "object"} for name in sorted(endpoint.filters)}},
        }


def _given(name: str, schema: Schema, *, is_needed: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": is_needed, "schema": schema}


def _parameter_schema(parameter: "Parameter") -> Schema:
    match parameter.reader:
        case "flag":
            schema: Schema = {"type": "boolean"}
        case "whole":
            schema = {"type": "integer", "minimum": parameter.least}
        case "instant":
            schema = {"type": "string", "format": "date-time"}
        case "duration":
            schema = {"type": "string", "format": "duration"}
        case "labels":
            schema = {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:.+$"}}
        case "every":
            schema = {"type": "array", "items": {"type": "string"}}
        case "choice":
            schema = {"type": "string", "enum": list(parameter.choices)}
        case _:
            schema = {"type": "string"}
    return schema if parameter.default is None else {**schema, "default": parameter.default}


def _flat_filters(fields: Fields) -> Iterator[tuple[str, Schema]]:
    for name, kind in flat_filters(fields).items():
        yield name, _filter_schema(kind)


def _filter_schema(kind: Kind) -> Schema:
    match kind:
        case _ if kind is DATE:
            return {"type": "string", "format": "date-time"}
        case _ if kind is RANGE:
            return {"type": "string", "format": "duration"}
        case _ if kind is LEVEL:
            return {"type": "string", "enum": list(LogLevel)}
        case _ if kind is CHILD:
            return {"type": "string", "enum": list(ChildFilter)}
        case _ if kind is STATE or kind is SCOPE:
            return {"type": "array", "items": {"type": "string", "enum": list(State if kind is STATE else Scope)}}
        case _ if kind.is_map:
            return {"type": "array", "items": {"type": "string", "pattern": "^[^:]+:.+$"}}
        case _:
            return {"type": "string"}


# Bodies and answers


def _body(route: Route, endpoint: "Endpoint", body_schemas: Mapping[str, Schema]) -> Schema | None:
    if route.method == "GET":
        return None
    if route.takes_form:
        files = {name: {"type": "string", "format": "binary"} for name in endpoint.parts}
        schema: Schema = {"type": "object", "properties": files, "additionalProperties": {"type": "string"}}
        if files:
            schema["required"] = list(files)
        return {"required": bool(files), "content": {"multipart/form-data": {"schema": schema}}}
    if endpoint.body is not None:
        content: Schema = {"application/json": {"schema": body_schemas[repr(endpoint.body)]}}
    elif endpoint.takes_text:
        is_yaml = route.path.startswith(_YAML_BODIES)
        content = {("application/x-yaml" if is_yaml else "text/plain"): {"schema": {"type": "string"}}}
    else:
        return None
    return {"required": not endpoint.may_lack_body, "content": content}


def _responses(route: Route, endpoint: "Endpoint") -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for given in endpoint.given:
        if given.status < 400:
            response = found.setdefault(str(given.status), {"description": about(route)})
            if given.kind != "empty":
                response.setdefault("content", {}).update(_content(route, given))
    return found


def _content(route: Route, given: "Given") -> Schema:
    from tercel.api.answer_shapes import answer_schema, page_schema, reference  # noqa: PLC0415  # see above

    match given.kind:
        case "json":
            return {"application/json": {"schema": answer_schema(route.method, route.path) or {}}}
        case "page":
            item = answer_schema(route.method, route.path) or {}
            return {"application/json": {"schema": page_schema(item)}}
        case "bulk":
            return {"application/json": {"schema": reference("Bulk")}}
        case "events":
            return {"text/event-stream": {}}
        case media_type:
            return {media_type: {"schema": {"type": "string"}}}


def _error_responses(route: Route, endpoint: "Endpoint") -> dict[str, Schema]:
    return {str(status): _error_response(status) for status in sorted({*_error_statuses(route, endpoint)})}


def _error_statuses(route: Route, endpoint: "Endpoint") -> Iterable[int]:
    yield from (given.status for given in endpoint.given if given.status >= 400)
    if not (route.is_open or "/webhook/" in route.path):
        yield 401
    if "{" in route.path or endpoint.body is not None:
        yield 404
    if "/kv/{key}" in route.path:
        yield 410
    if route.method != "GET":
        yield from (409, 413)
    if route.path.endswith("/graph") or "/webhook/" in route.path:
        yield 409
    is_bulk = any(given.kind == "bulk" for given in endpoint.given)
    if is_bulk or any(one.is_needed for one in endpoint.query.values()) or "/actions/" in route.path:
        yield 400
    if (
        "{" in route.path
        or route.method != "GET"
        or endpoint.query
        or endpoint.filters
        or endpoint.sortable is not None
    ):
        yield 422


def _error_response(status: int) -> Schema:
    from tercel.api.answer_shapes import reference  # noqa: PLC0415  # see above

    response: Schema = {"description": _ERRORS[status]}
    match status:
        case 401:
            return response
        case 400:
            schema = {"anyOf": [reference("Error"), reference("BulkError")]}
        case 503:
            schema = reference("Health")
        case _:
            schema = reference("Error")
    return {**response, "content": {"application/json": {"schema": schema}}}


ROUTES = (Route(method="GET", path="/swagger/{name}", answer=answer, is_outside=True),)
