"""A real server of the API in this process, with a client; and the calls that show what each endpoint answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from tercel.api import HttpServer, Login, Options, create_app
from tercel.server import Engine
from tests.flows import echo, flow
from tests.homes import Home

MAIN = "/api/v1/main"
PLAIN = "/api/v1"


class Api:
    """A server of a home, on a free port; use it as a context.

    Attributes:
        home: with the engine.
        client: knows the server's address; credentials and headers are for the test to set.
    """

    def __init__(self, home: Home, **options: Any) -> None:
        self.home = home
        self._options = {"login": Login(), "is_local": True, **options}
        self._numbers = count(1)

    def __enter__(self) -> Api:
        self.server = HttpServer(create_app(self.home.engine, Options(**self._options)), "127.0.0.1", 0, drain_s=1)
        self.server.start()
        self.client = httpx.Client(base_url=self.server.address, timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()
        self.server.close()

    @property
    def engine(self) -> Engine:
        return self.home.engine

    def request(self, method: str, address: str, **given: Any) -> httpx.Response:
        return self.client.request(method, address, **given)

    def get(self, address: str, **given: Any) -> httpx.Response:
        return self.request("GET", address, **given)

    def post(self, address: str, **given: Any) -> httpx.Response:
        return self.request("POST", address, **given)

    def put(self, address: str, **given: Any) -> httpx.Response:
        return self.request("PUT", address, **given)

    def delete(self, address: str, **given: Any) -> httpx.Response:
        return self.request("DELETE", address, **given)

    def new_namespace(self) -> str:
        """A namespace that no other case uses."""
        return f"company.team{next(self._numbers)}"

    def save(self, *tasks: Any, namespace: str = "", id: str = "hello", **properties: Any) -> tuple[str, str]:
        """Save a flow, by default in a namespace of its own and with one task that says hello; its namespace and id."""
        namespace = namespace or self.new_namespace()
        text = flow(*(tasks or (echo("say", "hello"),)), namespace=namespace, id=id, **properties)
        response = self.post(f"{MAIN}/flows", content=text)
        assert response.status_code == 200, response.text
        return namespace, id


class At:
    """The address of an endpoint in one of its forms: with the tenant, without, or the one before 2.0.

    Attributes:
        template: the path as it is documented, in this form.
        made: the addresses made so far.
    """

    def __init__(self, template: str) -> None:
        self.template = template.replace("{tenant}", "main")
        self.made: list[str] = []

    def __call__(self, **values: str) -> str:
        """The address with these values for its parameters, encoded."""
        self.made.append(re.sub(r"\{(\w+)\}", lambda match: quote(values.pop(match[1]), safe=""), self.template))
        assert not values, f"{self.template} has no {values}"
        return self.made[-1]


Case = Callable[[Api, At], httpx.Response]
"""Prepares what is needed, calls the endpoint at the address that `At` gives, and gives its answer."""

CASES: dict[tuple[str, str, int | None], Case] = {}
"""By method, path without tenant, and status of the error; None for the normal answer."""


def case(method: str, path: str, *, error: int | None = None) -> Callable[[Case], Case]:
    """Announces the case of an endpoint of the conformance file.

    Args:
        method: as listed.
        path: as listed, without `/api/v1` and tenant: `/flows/{namespace}/{id}`.
        error: the status where it is the case of a listed error.
    """

    def announce(function: Case) -> Case:
        key = method, path, error
        assert key not in CASES, f"{key} has two cases"
        CASES[key] = function
        return function

    return announce


def events(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """Id and data of each event of a stream that has ended."""
    for block in response.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines:
            yield lines.get("id", ""), lines["data"]
