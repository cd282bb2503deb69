"""What an endpoint takes and gives, read from the code that answers it: so its description cannot say anything else.

Only the description of the API needs this, and tools.
"""

import ast
import inspect
import linecache
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from types import FunctionType
from typing import Any, cast

import msgspec

from tercel.api import answers, filters, paging, parameters, problems, routing, shapes, streams
from tercel.api import call as calls
from tercel.api.filters import Fields, Kind

_READERS = frozenset({"text", "needed", "every", "flag", "whole", "instant", "duration", "choice", "labels"})
"""The methods of `Parameters` that read one."""

_KNOWN = frozenset(
    module.__name__ for module in (answers, calls, filters, paging, parameters, problems, routing, shapes, streams)
)
"""What is understood by itself, and not looked into."""

_PACKAGE = "tercel.api."
_BODY_IS_READ = frozenset({"text", "json", "body"})


class Parameter(msgspec.Struct, frozen=True):
    """A parameter behind the `?`.

    Attributes:
        reader: the method of `Parameters` that reads it.
        is_needed: has to be given.
        choices: of `choice`; empty otherwise.
        least: of `whole`.
        default: where it is plainly written.
    """

    reader: str
    is_needed: bool = False
    choices: tuple[str, ...] = ()
    least: int = 0
    default: bool | int | None = None


class Given(msgspec.Struct, frozen=True):
    """An answer that is no error.

    Attributes:
        status: of it.
        kind: `json`, `page`, `bulk`, `events` or `empty`; or its media type.
    """

    status: int
    kind: str


class Endpoint(msgspec.Struct):
    """What an endpoint takes and gives.

    Attributes:
        query: parameters by name.
        filters: what a search can be filtered by; empty for no search.
        sortable: what a list can be ordered by; None for no list with pages.
        body: the type of a JSON body; None for none.
        takes_text: the body is a text, or JSON of any form.
        may_lack_body: one that is empty is understood, too.
        parts: the parts of a form that are files, by name.
        given: its answers.
    """

    query: dict[str, Parameter] = {}
    filters: dict[str, Kind] = {}
    sortable: tuple[str, ...] | None = None
    body: Any = None
    takes_text: bool = False
    may_lack_body: bool = False
    parts: list[str] = []
    given: list[Given] = []


def read_endpoint(answer: Callable[..., Any]) -> Endpoint:
    """Read what the function of a route takes and gives."""
    found = Endpoint()
    seen: set[tuple[FunctionType, tuple[tuple[str, str], ...]]] = set()
    waiting: list[tuple[FunctionType, dict[str, str]]] = [(cast("FunctionType", inspect.unwrap(answer)), {})]
    while waiting:
        function, given = waiting.pop()
        key = function, tuple(given.items())
        if key in seen:
            continue
        seen.add(key)
        names = {**_names(function), **given}
        for node in _walk(_code_of(function), names):
            _read_node(node, names, found)
            waiting += _looked_into(node, names)
    return found


def _walk(node: ast.AST, names: Mapping[str, Any]) -> Iterator[ast.AST]:
    """All parts of a piece of code, without branches that are not taken."""
    yield node
    match node:
        case ast.If(test=ast.Name(id=name)) if isinstance(names.get(name), bool):
            parts: Iterable[ast.AST] = node.body if names[name] else node.orelse
        case _:
            parts = ast.iter_child_nodes(node)
    for part in parts:
        yield from _walk(part, names)


def _looked_into(node: ast.AST, names: Mapping[str, Any]) -> Iterator[tuple[FunctionType, dict[str, str]]]:
    """The functions of resources that a piece of code names, with the texts that it calls them with."""
    match node:
        case ast.Call(func=ast.Name() | ast.Attribute()):
            function = _value(node.func, names)
            if isinstance(function, FunctionType) and _is_of_a_resource(function):
                wanted = inspect.signature(function).parameters
                given = {name: one.default for name, one in wanted.items()}
                given |= {name: _value(value, names) for name, value in zip(wanted, node.args, strict=False)}
                given |= {one.arg: _value(one.value, names) for one in node.keywords if one.arg}
                yield function, {name: text for name, text in given.items() if isinstance(text, str)}
        case ast.Name() | ast.Attribute():
            function = _value(node, names)
            if isinstance(function, FunctionType) and _is_of_a_resource(function) and not _reads_a_name(function):
                yield function, {}
        case _:
            pass


def _is_of_a_resource(function: FunctionType) -> bool:
    return function.__module__.startswith(_PACKAGE) and function.__module__ not in _KNOWN


def _reads_a_name(function: FunctionType) -> bool:
    """True where a function is told which parameter to read: what it takes is known only where it is called."""
    return "name" in function.__code__.co_varnames[: function.__code__.co_argcount]


def _code_of(function: FunctionType) -> ast.AST:
    return _codes(function.__code__.co_filename).get(function.__code__.co_firstlineno, ast.Pass())


@cache
def _codes(file: str) -> dict[int, ast.AST]:
    """The functions of a file, by the lines at which they begin."""
    found: dict[int, ast.AST] = {}
    for node in ast.walk(ast.parse("".join(linecache.getlines(file)))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[min(one.lineno for one in (node, *node.decorator_list))] = node
        elif isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, node)
    return found


def _names(function: FunctionType) -> Mapping[str, Any]:
    enclosed = inspect.getclosurevars(function)
    return {**enclosed.builtins, **function.__globals__, **enclosed.nonlocals}


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a name, or a dotted one, stands for; None where that is known only when it runs."""
    match node:
        case ast.Name(id=name):
            return names.get(name)
        case ast.Attribute(value=value, attr=attribute):
            owner = _value(value, names)
            return None if owner is None else getattr(owner, attribute, None)
        case ast.Constant(value=value):
            return value
        case ast.Subscript(value=value, slice=inner):  # such as list[str]
            is_list, part = _value(value, names) is list, _value(inner, names)
            return list[part] if is_list and part is not None else None
        case _:
            return None


def _read_node(node: ast.AST, names: Mapping[str, Any], found: Endpoint) -> None:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="query"), attr=reader)) if reader in _READERS:
            _read_parameter(reader, node, names, found)
        case ast.Call(func=ast.Attribute(attr="json_as"), args=[wanted]):
            found.body = _value(wanted, names)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="call"), attr="file"), args=[ast.Constant(value=name)]):
            found.parts.append(str(name))
        case ast.Attribute(value=ast.Name(id="call"), attr=attribute) if attribute in _BODY_IS_READ:
            found.takes_text = True
            found.may_lack_body |= attribute == "body"
        case ast.Call(func=ast.Name(id=name)):
            _read_call(name, node, names, found)
        case _:
            pass


def _read_parameter(reader: str, node: ast.Call, names: Mapping[str, Any], found: Endpoint) -> None:
    arguments = [_value(one, names) for one in node.args]
    keywords = {one.arg: _value(one.value, names) for one in node.keywords}
    name = arguments[0] if arguments else "labels"
    if not isinstance(name, str):
        return
    known = found.query.get(name, Parameter(reader))
    is_needed = known.is_needed or (reader == "needed" and not isinstance(names.get("default"), str))
    found.query[name] = Parameter(
        reader=known.reader if reader in ("needed", "text") else reader,
        is_needed=is_needed,
        choices=tuple(cast("Collection[str]", arguments[1])) if reader == "choice" else known.choices,
        least=int(keywords.get("least") or 0),
        default=arguments[1] if reader in ("flag", "whole") and len(arguments) > 1 else None,
    )


def _read_call(name: str, node: ast.Call, names: Mapping[str, Any], found: Endpoint) -> None:
    arguments = [_value(one, names) for one in node.args]
    keywords = {one.arg: _value(one.value, names) for one in node.keywords}

    def argument(index: int, keyword: str, default: Any) -> Any:
        value = keywords.get(keyword, arguments[index] if index < len(arguments) else None)
        return default if value is None else value

    match name:
        case "read_paging":
            found.sortable = tuple(cast("Collection[str]", arguments[1]))
        case "read_filters":
            found.filters.update(cast("Fields", arguments[1]))
        case "json_answer":
            found.given.append(Given(argument(1, "status", 200), "json"))
        case "page_answer":
            found.given.append(Given(200, "page"))
        case "bulk_answer":
            found.given.append(Given(200, "bulk"))
        case "empty_answer":
            found.given.append(Given(argument(0, "status", 204), "empty"))
        case "text_answer":
            found.given.append(Given(200, _media_type(argument(1, "media_type", "text/plain"))))
        case "file_answer":
            found.given.append(Given(200, _media_type(argument(2, "media_type", "application/octet-stream"))))
        case "event_stream" | "byte_stream":
            found.given.append(Given(200, "events"))
        case "Response":
            media_type = argument(3, "media_type", None)
            status = argument(1, "status_code", 200)
            kind = "empty" if media_type is None else "json" if media_type == "application/json" else media_type
            found.given.append(Given(status, kind))
        case _:
            pass


def _media_type(text: str) -> str:
    return text.partition(";")[0]


def path_parameters(path: str) -> Iterator[str]:
    """The names of the parameters of a documented path."""
    for part in path.split("/"):
        if part.startswith("{"):
            yield part[1:-1].removesuffix("*")
