"""The HTTP server of the API: listens, serves in a thread of its own, drains and stops."""

import asyncio
import socket
from collections.abc import Mapping
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING

import uvicorn

from tercel.api.application import Api
from tercel.errors import UserError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_BACKLOG = 2048

_LOAD_AFTER_S = 0.3
"""When a server that has just started loads what its first answer in parts would wait for."""


class HttpServer:
    """Serves an API.

    Args:
        api: what answers.
        host: the address to listen on.
        port: 0 takes a free one.
        drain_s: how long requests that are under way may take when it stops.
        management_port: where operators are answered, without login; 0 takes a free one, None has none.

    Raises:
        UserError: nobody can listen there.
    """

    def __init__(
        self, api: Api, host: str, port: int, drain_s: float = 10.0, *, management_port: int | None = None
    ) -> None:
        self._apis = [api]
        self._host = host
        self._sockets = [_listen(host, port)]
        if management_port is not None:
            try:
                self._sockets.append(_listen(host, management_port))
            except UserError:
                self._sockets[0].close()
                raise
            self._apis.append(api.management())
        ports = [one.getsockname()[1] for one in self._sockets]
        config = uvicorn.Config(
            api if management_port is None else _ByPort(dict(zip(ports, self._apis, strict=True))),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(drain_s),
            backlog=_BACKLOG,
        )
        self._server = uvicorn.Server(config)
        self._drained = Event()
        self._thread = Thread(target=self._serve, name="tercel-http", daemon=True)
        self._loading = Timer(_LOAD_AFTER_S, _load_for_streams)
        self._loading.daemon = True

    @property
    def address(self) -> str:
        """Where it is, without a path."""
        return self._address(self._sockets[0])

    @property
    def management_address(self) -> str | None:
        """Where operators are answered; None where they are not apart."""
        return self._address(self._sockets[1]) if len(self._sockets) > 1 else None

    def _address(self, listening: socket.socket) -> str:
        name = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{name}:{listening.getsockname()[1]}"

    def start(self) -> None:
        """Answer requests from now on; those that came before are answered, too."""
        self._thread.start()
        self._loading.start()

    def _serve(self) -> None:
        try:
            asyncio.run(self._server.serve(self._sockets))
        finally:
            self._drained.set()

    @property
    def is_alive(self) -> bool:
        """False once it has stopped, for whatever reason."""
        return not self._drained.is_set()

    def close(self) -> None:
        """Take no more requests, and wait for those under way; a second call does nothing."""
        self._server.should_exit = True
        self._loading.cancel()
        for api in self._apis:
            api.end_streams()
        if self._thread.ident is not None:
            self._thread.join()
        for listening in self._sockets:
            listening.close()
        for api in self._apis:
            api.close()


class _ByPort:
    """Hands a request to the API of the port that it came to."""

    def __init__(self, apis: Mapping[int, Api]) -> None:
        self._apis = apis

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        await self._apis[scope["server"][1]](scope, receive, send)


def _load_for_streams() -> None:
    """Have the library under streamed answers load all of itself: 40 ms."""
    import anyio  # noqa: PLC0415  # slow to load, as said

    anyio.run(anyio.sleep, 0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python says the address there again
        raise UserError(f"Nobody can listen on {host}:{port}: {reason}.", "Give another one: --port PORT.") from error
    # Connections inherit it: the end of an answer would wait for the client to confirm its beginning, 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
