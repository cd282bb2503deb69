"""Which function answers which request: addresses of the API to routes. Pure.

The fixed words of an address win over its parameters, whatever the order of the routes: `/executions/search` is never
an execution called `search`, nor is it a namespace.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from tercel.errors import UserError

if TYPE_CHECKING:
    from tercel.api.call import Call

API = "/api/v1"
"""What the addresses of all resources begin with."""

Answer = Callable[["Call"], Any]
"""Answers a request: a plain function runs in a thread and may block, a coroutine function in the loop and may not.

Gives a `starlette.responses.Response`; errors are raised, see `problems`.
"""

_WORDS: Mapping[str, frozenset[str]] = {
    f"{API}/executions": frozenset(
        {
            "search",
            "latest",
            "by-ids",
            "by-query",
            "flows",
            "namespaces",
            "webhook",
            "trigger",
            "export",
            "distinct-field-values",
            "restart",
            "replay",
            "kill",
            "pause",
            "resume",
            "labels",
            "change-status",
            "force-run",
            "unqueue",
        }
    ),
    f"{API}/flows": frozenset(
        {
            "search",
            "source",
            "bulk",
            "validate",
            "graph",
            "import",
            "export",
            "delete",
            "disable",
            "enable",
            "distinct-namespaces",
            "deprecated",
            "expressions",
            "hashes",
        }
    ),
}
"""Words that are neither namespaces nor ids behind an address, also where nothing is answered there."""

_EXECUTION_ID = re.compile("[0-9A-Za-z]{22}")
_REST = "*"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint.

    Attributes:
        method: GET, POST, PUT, PATCH or DELETE; HEAD follows from GET.
        path: as documented, such as `/flows/{namespace}/{id}`, below `/api/v1` and a tenant that may stand there; a
            last part `{path*}` stands for all that is left of the address.
        answer: answers it.
        legacy: the path of an action before 2.0, whose first parameter is the id of an execution; empty for none.
        takes_form: the body is `multipart/form-data`, to be read as `Call.form`; otherwise it is `Call.body`.
        streams_body: the body is read by *answer* itself, a coroutine function.
        is_outside: the path is that of the address as it is, not below `/api/v1`.
        is_open: needs no login.
        is_management: operators ask for it: it is on the management port, too, and needs no login there.
    """

    method: str
    path: str
    answer: Answer
    legacy: str = ""
    takes_form: bool = False
    streams_body: bool = False
    is_outside: bool = False
    is_open: bool = False
    is_management: bool = False

    @property
    def full_path(self) -> str:
        """The path, from the address's first `/`, without tenant."""
        return self.path if self.is_outside else API + self.path


class Found(msgspec.Struct, frozen=True):
    """What an address leads to.

    Attributes:
        route: the endpoint; None where there is none for the method.
        values: of the path's parameters, by name, decoded.
        allowed: the methods that the address knows; empty where it is none of the API.
    """

    route: Route | None
    values: Mapping[str, str] = {}
    allowed: tuple[str, ...] = ()


class _Node:
    """A part of an address, with what may follow it."""

    __slots__ = ("child", "fixed", "rest", "routes", "words")

    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.child: _Node | None = None
        self.rest: _Node | None = None
        self.routes: dict[str, tuple[Route, tuple[str, ...], bool]] = {}
        self.words: frozenset[str] = frozenset()


class Routes:
    """All endpoints.

    Args:
        routes: at most one for a method and a shape of path.
        tenant: the one that there is.
    """

    def __init__(self, routes: Iterable[Route], tenant: str = "main") -> None:
        self.all = tuple(routes)
        self._tenant = tenant
        self._root = _Node()
        for route in self.all:
            self._add(route, route.full_path, is_legacy=False)
            if route.legacy:
                self._add(route, API + route.legacy, is_legacy=True)
        for address, words in _WORDS.items():
            for node, _ in _meant(self._root, _parts(address), ()):
                node.words = words

    def _add(self, route: Route, path: str, *, is_legacy: bool) -> None:
        node, names = self._root, list[str]()
        for part in _parts(path):
            if not part.startswith("{"):
                node = node.fixed.setdefault(part, _Node())
                continue
            name = part[1:-1]
            names.append(name.removesuffix(_REST))
            if name.endswith(_REST):
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node.child = node.child or _Node()
                node = node.child
        if route.method in node.routes:
            message = f"{route.method} {path} is answered twice."
            raise ValueError(message)
        node.routes[route.method] = route, tuple(names), is_legacy

    def find(self, method: str, raw_path: str) -> Found:
        """The endpoint of an address.

        Args:
            method: HEAD counts as GET.
            raw_path: from the first `/`, percent-encoded as it was sent, without a query.

        Raises:
            UserError: the address is not encoded as it should be.
        """
        wanted = "GET" if method == "HEAD" else method
        try:
            parts = [unquote(part, errors="strict") for part in _parts(raw_path)]
        except UnicodeDecodeError:
            raise UserError("The address is no UTF-8 text.") from None
        if parts[:2] == ["api", "v1"] and parts[2:3] == [self._tenant]:
            del parts[2]
        allowed: dict[str, None] = {}
        for node, values in _meant(self._root, parts, ()):
            for found, (route, names, is_legacy) in node.routes.items():
                if is_legacy and not _EXECUTION_ID.fullmatch(values[0]):
                    continue
                if found == wanted:
                    return Found(route, dict(zip(names, values, strict=True)))
                allowed[found] = None
        return Found(None, {}, tuple(allowed))


def shape(path: str) -> str:
    """A documented path without the names of its parameters.

    Example:
        >>> shape("/flows/{namespace}/{id}")
        '/flows/{}/{}'
    """
    return re.sub(r"\{\w+(\*?)\}", r"{\1}", path)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _meant(node: _Node, parts: Sequence[str], values: tuple[str, ...]) -> Iterator[tuple[_Node, tuple[str, ...]]]:
    """What an address may mean, the likeliest first."""
    if not parts:
        yield node, values
        return
    first, left = parts[0], parts[1:]
    if first in node.fixed:
        yield from _meant(node.fixed[first], left, values)
    if node.child is not None and first not in node.words:
        yield from _meant(node.child, left, (*values, first))
    if node.rest is not None:
        yield node.rest, (*values, "/".join(parts))
