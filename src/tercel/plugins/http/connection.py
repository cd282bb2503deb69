"""The connections of requests: which way they take, which addresses they may reach, and how they are cut.

Imported when a request is made, as httpx is heavy, and an extra.
"""

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from ssl import SSLContext
from threading import Lock
from typing import cast
from urllib.request import getproxies_environment, proxy_bypass

import httpcore
import httpx

from tercel.plugin_api import MissingToolError
from tercel.plugins.http.guard import Guard

_SOCKET_OPTIONS = Iterable[httpcore.SOCKET_OPTION]
_PORTS = {"http": 80, "https": 443}


class Transport(httpx.BaseTransport):
    """Takes each request, those after a redirect too, the way that is meant for it, past the guard.

    Args:
        guard: of the worker.
        proxy: address of the proxy that the flow names; "" for none at all, None for what the environment says.
        trusts_all: certificates do not matter.
        add_secret: told of passwords.
    """

    def __init__(self, guard: Guard, *, proxy: str | None, trusts_all: bool, add_secret: Callable[[str], None]) -> None:
        self._guard = guard
        self._proxy = proxy
        self._trusts_all = trusts_all
        self._add_secret = add_secret
        self._pools: dict[tuple[str, bool], httpx.HTTPTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer is still to be read."""
        url = request.url
        proxy = self._proxy_for(url) if self._proxy is None else self._proxy
        if proxy:
            self._guard.check_behind_proxy(url.host, url.port or _PORTS.get(url.scheme, 0))
        key = (proxy, url.scheme == "https")
        if key not in self._pools:
            self._pools[key] = _Pooled(self._pool(*key))
        return self._pools[key].handle_request(request)

    def close(self) -> None:
        """End all connections."""
        for pool in self._pools.values():
            pool.close()

    def _proxy_for(self, url: httpx.URL) -> str:
        """What `HTTPS_PROXY` and the like name; "" for none, and for the hosts of `NO_PROXY`."""
        proxies = getproxies_environment()
        if proxy_bypass(f"{url.host}:{url.port}" if url.port else url.host, proxies):
            return ""
        proxy = proxies.get(url.scheme) or proxies.get("all") or ""
        return proxy if not proxy or "://" in proxy else f"http://{proxy}"

    def _pool(self, proxy: str, is_secure: bool) -> httpcore.ConnectionPool:
        ssl = self._ssl if is_secure else None
        if not proxy:
            return httpcore.ConnectionPool(ssl_context=ssl, network_backend=_Backend(self._guard))
        # The administrator's own proxy may be reached, whatever is denied to flows.
        backend = _Backend(None if self._proxy is None else self._guard, is_for_proxy=True)
        one = httpx.Proxy(proxy)
        if one.raw_auth is not None and one.raw_auth[1]:
            self._add_secret(one.raw_auth[1].decode())
        address = httpcore.URL(
            scheme=one.url.raw_scheme, host=one.url.raw_host, port=one.url.port, target=one.url.raw_path
        )
        if one.url.scheme.startswith("socks"):
            _check_socks()
            return httpcore.SOCKSProxy(address, proxy_auth=one.raw_auth, ssl_context=ssl, network_backend=backend)
        return httpcore.HTTPProxy(
            address,
            proxy_auth=one.raw_auth,
            ssl_context=ssl,
            proxy_ssl_context=self._ssl if one.url.scheme == "https" else None,
            network_backend=backend,
        )

    @cached_property
    def _ssl(self) -> SSLContext:
        # By `SSL_CERT_FILE` or `SSL_CERT_DIR` where there is one.
        return httpx.create_ssl_context(verify=not self._trusts_all)


def _check_socks() -> None:
    try:
        import socksio  # noqa: F401, PLC0415  # pyright: ignore[reportMissingImports, reportUnusedImport]  # an extra
    except ImportError:
        raise MissingToolError(
            "A SOCKS proxy needs the library socksio.", "Install it: pip install 'httpx[socks]'."
        ) from None


class _Pooled(httpx.HTTPTransport):
    """httpx's own transport over a pool whose connections are made by our rules."""

    def __init__(self, pool: httpcore.ConnectionPool) -> None:  # pyright: ignore[reportMissingSuperCall]
        self._pool = pool


class _Backend(httpcore.NetworkBackend):
    """Connects to the very addresses that the guard has looked at; without one to whatever there is."""

    def __init__(self, guard: Guard | None, *, is_for_proxy: bool = False) -> None:
        self._guard = guard or Guard((), ())
        self._is_for_proxy = is_for_proxy
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: "_SOCKET_OPTIONS | None" = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers."""
        try:
            return self._connected(host, port, timeout, local_address, socket_options)
        except httpcore.ConnectError as error:
            if self._is_for_proxy:
                raise httpcore.ConnectError(f"the proxy {host}:{port} cannot be reached: {error}") from error
            raise

    def _connected(
        self,
        host: str,
        port: int,
        timeout: float | None,
        local_address: str | None,
        socket_options: "_SOCKET_OPTIONS | None",
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._guard.addresses(host, port)
        except (socket.gaierror, UnicodeError) as error:
            raise httpcore.ConnectError(f"there is no host {host!r}") from error
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
        return self._inner.connect_tcp(addresses[-1], port, timeout, local_address, socket_options)


class Line:
    """The connection that a request uses at the moment, which a kill or timeout cuts.

    Closing a response does not wake the thread that waits for its next byte; shutting the socket does.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._stream: httpcore.NetworkStream | None = None
        self._is_cut = False

    def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Told by httpx of what it does."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._stream = cast("httpcore.NetworkStream", info["return_value"])
                self._cut_if_due()

    def cut(self) -> None:
        """End the connection, and those to come."""
        with self._lock:
            self._is_cut = True
            self._cut_if_due()

    def _cut_if_due(self) -> None:
        if self._stream is None or not self._is_cut:
            return
        raw = self._stream.get_extra_info("socket")
        if isinstance(raw, socket.socket):
            with suppress(OSError):
                # Not by the method of an SSL socket, which is not made for another thread.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)
