"""How a request travels, as a flow says it: timeouts, proxy, login, TLS, redirects."""

from typing import Literal

from tercel.plugin_api import Dynamic, Part


class HttpAuth(Part, frozen=True, kw_only=True):
    """How to log in.

    Attributes:
        type: BASIC and DIGEST want *username* and *password*, BEARER wants *token*.
        username: at the server.
        password: at the server.
        token: sent as it is.
    """

    type: Literal["BASIC", "DIGEST", "BEARER"] = "BASIC"
    username: Dynamic | None = None
    password: Dynamic | None = None
    token: Dynamic | None = None


class HttpTimeout(Part, frozen=True, kw_only=True):
    """Durations after which a request is given up.

    Attributes:
        connect_timeout: until there is a connection; PT10S where it is not given.
        read_idle_timeout: without a single byte from the server; PT10S where it is not given.
    """

    connect_timeout: Dynamic | None = None
    read_idle_timeout: Dynamic | None = None


class HttpProxy(Part, frozen=True, kw_only=True):
    """The proxy to go through.

    Attributes:
        type: HTTP, or SOCKS (version 5; needs `pip install 'httpx[socks]'`); with DIRECT there is none, whatever
            the worker's environment says.
        address: of the proxy; without it the proxy that the worker's environment names.
        port: of the proxy.
        username: at the proxy.
        password: at the proxy.
    """

    type: Literal["HTTP", "SOCKS", "DIRECT"] = "HTTP"
    address: Dynamic | None = None
    port: int | Dynamic | None = None
    username: Dynamic | None = None
    password: Dynamic | None = None


class SslOptions(Part, frozen=True, kw_only=True):
    """How far the server's certificate is trusted.

    Attributes:
        insecure_trust_all_certificates: any certificate will do. A certificate authority of one's own is better told
            to the worker: by the environment variable `SSL_CERT_FILE`.
    """

    insecure_trust_all_certificates: bool | Dynamic = False


class HttpOptions(Part, frozen=True, kw_only=True):
    """How the request travels; both the flat names of old and the grouped ones of today.

    Attributes:
        connect_timeout: as in *timeout*.
        read_timeout: former name of *readIdleTimeout*.
        read_idle_timeout: as in *timeout*.
        connection_pool_idle_timeout: without effect, as each task has connections of its own.
        max_content_length: a larger answer fails the task; without it an answer may have any length.
        proxy_type: as in *proxy*, like the four that follow.
        proxy_address: of the proxy.
        proxy_port: of the proxy.
        proxy_username: at the proxy.
        proxy_password: at the proxy.
        default_charset: of an answer that does not say which it has.
        follow_redirects: up to 20; to another host the login is not taken along.
        log_level: without effect; a request is logged at DEBUG.
        basic_auth_user: for BASIC, as in *auth*.
        basic_auth_password: the same.
        timeout: when a request is given up.
        proxy: which proxy to go through.
        auth: how to log in.
        allow_failed: take a status of 400 or more as success.
        allowed_response_codes: status codes that are no failure, whatever they are.
        ssl: how far the server's certificate is trusted.
    """

    connect_timeout: Dynamic | None = None
    read_timeout: Dynamic | None = None
    read_idle_timeout: Dynamic | None = None
    connection_pool_idle_timeout: Dynamic | None = None
    max_content_length: int | Dynamic | None = None
    proxy_type: Literal["HTTP", "SOCKS", "DIRECT"] | None = None
    proxy_address: Dynamic | None = None
    proxy_port: int | Dynamic | None = None
    proxy_username: Dynamic | None = None
    proxy_password: Dynamic | None = None
    default_charset: Dynamic = "UTF-8"
    follow_redirects: bool | Dynamic = True
    log_level: str | None = None
    basic_auth_user: Dynamic | None = None
    basic_auth_password: Dynamic | None = None
    timeout: HttpTimeout | None = None
    proxy: HttpProxy | None = None
    auth: HttpAuth | None = None
    allow_failed: bool | Dynamic | None = None
    allowed_response_codes: list[int] | Dynamic | None = None
    ssl: SslOptions | None = None

    def the_proxy(self) -> HttpProxy:
        """The proxy, under whichever names it is written."""
        return self.proxy or HttpProxy(
            type=self.proxy_type or "HTTP",
            address=self.proxy_address,
            port=self.proxy_port,
            username=self.proxy_username,
            password=self.proxy_password,
        )

    def the_auth(self) -> HttpAuth | None:
        """The login, under whichever names it is written."""
        if self.auth is None and self.basic_auth_user is not None:
            return HttpAuth(username=self.basic_auth_user, password=self.basic_auth_password)
        return self.auth
