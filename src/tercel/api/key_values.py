"""`/namespaces/{namespace}/kv` and `/kv`: the key-value pairs of namespaces, secrets in their values masked."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
from starlette.responses import Response

from tercel.api.answers import empty_answer, json_answer, page_answer
from tercel.api.call import Call
from tercel.api.filters import DATE, QUERY, TEXT, WHOLE, Fields, holds, read_filters
from tercel.api.paging import page_of, read_paging
from tercel.api.parameters import read_duration
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, plain, present
from tercel.errors import ExpressionError, NotFoundError
from tercel.expression.ion import parse_ion
from tercel.model.json_form import instant_text
from tercel.model.key_values import ValueType, is_key, typed_value, untyped_value
from tercel.model.storable import storable_problem
from tercel.store import KeyValue

FIELDS: Fields = {
    "q": QUERY,
    "namespace": TEXT,
    "key": TEXT,
    "name": TEXT,
    "version": WHOLE,
    "created": DATE,
    "updated": DATE,
    "expirationDate": DATE,
}

_SORTABLE: Mapping[str, Callable[[KeyValue], Any]] = {
    "key": lambda one: one.key,
    "name": lambda one: one.key,
    "namespace": lambda one: one.namespace,
    "created": lambda one: one.created_at,
    "creationDate": lambda one: one.created_at,
    "updated": lambda one: one.updated_at,
    "updateDate": lambda one: one.updated_at,
    "expirationDate": lambda one: one.expires_at,
}

_DATE = re.compile(r"\d{4}-\d\d-\d\d(?P<time>T\S+)?", re.ASCII)
_MOST_DIGITS = 308
_END = "the end of what was sent"


class Keys(msgspec.Struct, frozen=True):
    """What `DELETE /namespaces/{namespace}/kv` takes."""

    keys: list[str]


def put(call: Call) -> Response:
    """Store a value under a key; how long it is kept is said by the header `ttl`."""
    key, ttl = call.path["key"], call.headers.get("ttl")
    if not is_key(key):
        raise RequestError(422, f"{key!r} cannot be a key.", hint="Use letters, digits, '.', '-' and '_'.")
    stored = call.operations.set_key_value(
        call.path["namespace"],
        key,
        read_value(call.text),
        ttl=read_duration("ttl", ttl) if ttl else None,
        description=call.headers.get("description") or call.query.text("description") or "",
    )
    call.run(stored)
    return empty_answer(200)


def read_value(text: str) -> object:
    """A value out of a text that is JSON or Ion: with its type, a text that reads like a duration being one.

    Raises RequestError, 422.

    Example:
        >>> read_value('"PT5M"'), read_value("2021-09-01"), read_value("[1]")
        (datetime.timedelta(seconds=300), datetime.date(2021, 9, 1), [1])
    """
    try:
        value = _read(text.strip())
    except (ValueError, ExpressionError, RecursionError):
        raise RequestError(422, "The value is neither JSON nor Ion.", hint="Write a text in quotes.") from None
    problem = storable_problem(value)
    if problem is not None:
        raise RequestError(422, f"The value cannot be kept: {problem}.")
    if value is None:
        raise RequestError(422, "The value null is none.", hint="DELETE removes a key.")
    return untyped_value(value) if isinstance(value, str) else value


def _read(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = _DATE.fullmatch(text)
    if found:
        return typed_value(text, "DATETIME" if found["time"] else "DATE")
    # An Ion value is read up to its end: what follows must be nothing.
    items = parse_ion(f'[{text}\n, "{_END}"]')
    if not isinstance(items, list) or len(cast("list[object]", items)) != 2 or items[1] != _END:
        raise ValueError(text)
    return _plain_number(cast("list[object]", items)[0])


def _plain_number(value: object) -> object:
    """An Ion value with numbers as JSON has them."""
    match value:
        case Decimal():
            # A short text may stand for a number of a million digits.
            is_whole = value.adjusted() <= _MOST_DIGITS and value == value.to_integral_value()
            return int(value) if is_whole else float(value)
        case list():
            return [_plain_number(one) for one in cast("list[object]", value)]
        case dict():
            return {key: _plain_number(one) for key, one in cast("dict[str, object]", value).items()}
        case bytes():
            raise ValueError(value)
        case _:
            return value


def get(call: Call) -> Response:
    """A value, with its type."""
    namespace, key = call.path["namespace"], call.path["key"]
    found = call.run(call.operations.find_key_value(namespace, key))
    if found is None:
        raise NotFoundError(f"No value found for key '{key}' in namespace '{namespace}'")
    if found.expires_at is not None and found.expires_at <= call.now:
        raise RequestError(410, f"The value of the key {key!r} in the namespace {namespace!r} has expired.")
    return json_answer(
        {
            "type": type_of(found.value),
            "value": plain(found.value),
            "revision": found.version,
            "updated": instant_text(found.updated_at),
        }
    )


def type_of(value: object) -> ValueType:
    """The type that a value is told as.

    Example:
        >>> type_of(1.5), type_of({"a": 1})
        ('NUMBER', 'JSON')
    """
    match value:
        case str():
            return "STRING"
        case bool():
            return "BOOLEAN"
        case int() | float():
            return "NUMBER"
        case datetime():
            return "DATETIME"
        case date():
            return "DATE"
        case timedelta():
            return "DURATION"
        case _:
            return "JSON"


def delete(call: Call) -> Response:
    """Remove a key and its value; tells whether there was one."""
    return json_answer(bool(call.run(call.operations.delete_key_values(call.path["namespace"], [call.path["key"]]))))


def delete_many(call: Call) -> Response:
    """Remove keys and their values; tells which there were."""
    given = call.json_as(Keys)
    return json_answer({"keys": call.run(call.operations.delete_key_values(call.path["namespace"], given.keys))})


def in_namespace(call: Call) -> Response:
    """The keys of a namespace, without those of its parents."""
    return json_answer([_entry(one) for one in _pairs(call, call.path["namespace"])])


def inherited(call: Call) -> Response:
    """The keys of the parents of a namespace; of several with the same key that of the nearest."""
    found: dict[str, KeyValue] = {}
    parent = call.path["namespace"].rpartition(".")[0]
    while parent:
        for one in _pairs(call, parent):
            found.setdefault(one.key, one)
        parent = parent.rpartition(".")[0]
    return json_answer([_entry(found[key]) for key in sorted(found)])


def search(call: Call) -> Response:
    """A page of the keys of all namespaces."""
    paging = read_paging(call.query, _SORTABLE)
    where = read_filters(call.query, FIELDS, call.now)
    found = [one for one in _pairs(call, None) if holds(where, lambda field, one=one: _field(one, field))]
    return page_answer([_entry(one) for one in page_of(found, paging, _SORTABLE)], len(found))


def _field(one: KeyValue, field: str) -> Any:
    match field:
        case "q":
            return [one.key, one.namespace]
        case "namespace":
            return one.namespace
        case "version":
            return one.version
        case "created":
            return one.created_at
        case "updated":
            return one.updated_at
        case "expirationDate":
            return one.expires_at
        case _:
            return one.key


def _pairs(call: Call, namespace: str | None) -> list[KeyValue]:
    return call.run(call.operations.key_values(namespace, call.now))


def _entry(one: KeyValue) -> Json:
    return present(
        namespace=one.namespace,
        key=one.key,
        revision=one.version,
        version=one.version,
        description=one.description or None,
        creationDate=instant_text(one.created_at),
        updateDate=instant_text(one.updated_at),
        expirationDate=None if one.expires_at is None else instant_text(one.expires_at),
    )


ROUTES = (
    Route(method="GET", path="/kv", answer=search),
    Route(method="GET", path="/namespaces/{namespace}/kv", answer=in_namespace),
    Route(method="DELETE", path="/namespaces/{namespace}/kv", answer=delete_many),
    Route(method="GET", path="/namespaces/{namespace}/kv/inheritance", answer=inherited),
    Route(method="PUT", path="/namespaces/{namespace}/kv/{key}", answer=put),
    Route(method="GET", path="/namespaces/{namespace}/kv/{key}", answer=get),
    Route(method="DELETE", path="/namespaces/{namespace}/kv/{key}", answer=delete),
)
