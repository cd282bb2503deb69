"""What Request and Download share: the properties of a request, and its way to an answer."""

import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote, urlsplit

from tercel.plugin_api import (
    Dynamic,
    MissingToolError,
    RunContext,
    RunnableTask,
    TaskFailedError,
    is_on,
    whole_number,
)
from tercel.plugins.http.answer import Content
from tercel.plugins.http.content import StoredContent, form_part, is_stored
from tercel.plugins.http.guard import Guard
from tercel.plugins.http.options import HttpOptions, HttpTimeout, SslOptions
from tercel.plugins.http.texts import plain, rendered_map, seconds, shown

if TYPE_CHECKING:
    import httpx

_CONNECT_S = 10.0
_READ_S = 10.0
_EXCERPT_BYTES = 1 << 12
_EXCERPT_CHARACTERS = 200
_HEADERS = {"User-Agent": "tercel", "Accept-Encoding": "gzip, deflate"}


class HttpTask(RunnableTask, frozen=True, kw_only=True):
    """A task that sends a request.

    Attributes:
        uri: the address, http or https.
        method: such as POST.
        body: text to send, or the URI of a file in internal storage whose content is sent, streamed.
        form_data: fields to send; files with `contentType: multipart/form-data`, each by its URI in internal storage,
            or by `name` and `content`, which may be such a URI.
        content_type: of what is sent; with *body* it is `application/json` unless this or *headers* say otherwise, and
            for a file what its name says.
        headers: to send; lists and maps as JSON.
        params: added to the address's query; a list gives one parameter for each of its values.
        options: how the request travels.
        ssl_options: how far the server's certificate is trusted; `options.ssl` is the same.
        allow_failed: take a status of 400 or more as success.
    """

    uri: Dynamic
    method: Dynamic = "GET"
    body: Dynamic | None = None
    form_data: dict[str, object] | Dynamic | None = None
    content_type: Dynamic | None = None
    headers: dict[str, Dynamic] | Dynamic | None = None
    params: dict[str, object] | Dynamic | None = None
    options: HttpOptions | None = None
    ssl_options: SslOptions | None = None
    allow_failed: bool | Dynamic = False

    @contextmanager
    def response(self, context: RunContext) -> Generator["httpx.Response"]:
        """Send the request; the body is still to be read. A status of 400 or more raises unless allowed.

        Raises:
            TaskFailedError: it cannot be sent, or answered; also while the body is read inside the block.
        """
        try:
            import httpx  # noqa: PLC0415  # heavy, and an extra

            from tercel.plugins.http.connection import Line  # noqa: PLC0415  # same
        except ImportError:
            raise MissingToolError(
                "HTTP tasks need the library httpx.", "Install it: pip install 'tercel[http]'."
            ) from None
        uri = context.render(self.uri).strip()
        _check_uri(uri, context)
        method = context.render(self.method).strip().upper()
        line = Line()
        try:
            with context.stopping(line.cut), ExitStack() as files, self._client(context) as client:
                request = self._request(client, method, uri, context, files)
                request.extensions = {**request.extensions, "trace": line.trace}
                context.logger.debug(f"{method} {shown(uri)}")
                response = client.send(request, stream=True)
                try:
                    self._check_status(response, context)
                    yield response
                finally:
                    response.close()
        except httpx.InvalidURL as error:
            raise TaskFailedError(f"The uri is no address: {error}") from error
        except httpx.HTTPError as error:
            context.stop_if_killed()
            raise _failure(error, method, uri) from error

    def content_of(self, response: "httpx.Response", context: RunContext) -> Content:
        """The content of an answer."""
        most = self.the_options.max_content_length
        if most is None or not context.render(str(most)).strip():
            return Content(response, context)
        return Content(response, context, whole_number(context, most, "maxContentLength"))

    @property
    def the_options(self) -> HttpOptions:
        """Those given, or the defaults."""
        return self.options or HttpOptions()

    def _client(self, context: RunContext) -> "httpx.Client":
        import httpx  # noqa: PLC0415  # heavy, and an extra

        from tercel.plugins.http.connection import Transport  # noqa: PLC0415  # same

        options = self.the_options
        timeout = options.timeout or HttpTimeout()
        connect = timeout.connect_timeout or options.connect_timeout
        read = timeout.read_idle_timeout or options.read_idle_timeout or options.read_timeout
        trust = self.ssl_options or options.ssl or SslOptions()
        deny = cast("tuple[str, ...]", context.setting("http.deny", ()))
        allow = cast("tuple[str, ...]", context.setting("http.allow", ()))
        read_s = seconds(context, read, "readIdleTimeout", _READ_S)
        return httpx.Client(
            timeout=httpx.Timeout(read_s, connect=seconds(context, connect, "connectTimeout", _CONNECT_S)),
            follow_redirects=is_on(context, options.follow_redirects),
            auth=_auth(options, context),
            headers=_HEADERS,
            transport=Transport(
                Guard(deny, allow),
                proxy=_proxy(options, context),
                trusts_all=is_on(context, trust.insecure_trust_all_certificates),
                add_secret=context.add_secret,
            ),
        )

    def _request(
        self, client: "httpx.Client", method: str, uri: str, context: RunContext, files: ExitStack
    ) -> "httpx.Request":
        import httpx  # noqa: PLC0415  # heavy, and an extra

        given = {} if self.headers is None else rendered_map(context, self.headers)
        if odd := next((name for name in given if not name.isascii()), None):
            raise TaskFailedError(f"The header {odd!r} cannot be sent.", "Names of headers are ASCII.")
        # Blanks around a value, such as the line break at the end of a secret, are no part of it.
        headers = httpx.Headers({name: plain(value).strip() for name, value in given.items()}, encoding="utf-8")
        auth = self.the_options.the_auth()
        if auth is not None and auth.type == "BEARER":
            token = context.render(auth.token or "").strip()
            context.add_secret(token)
            headers["Authorization"] = f"Bearer {token}"
        url = _with_params(_parsed(uri), {} if self.params is None else rendered_map(context, self.params))
        if self.form_data is None:
            return self._with_body(client, method, url, headers, context)
        form = rendered_map(context, self.form_data)
        content_type = self._content_type(headers, context)
        headers.pop("Content-Type", None)  # which has a boundary in it where there are parts
        if content_type.lower().startswith("multipart/form-data"):
            parts = [form_part(context, name, value, files) for name, value in form.items()]
            return client.build_request(method, url, headers=headers, files=parts)
        fields = {name: plain(value) for name, value in form.items()}
        return client.build_request(method, url, headers=headers, data=fields)

    def _with_body(
        self, client: "httpx.Client", method: str, url: "httpx.URL", headers: "httpx.Headers", context: RunContext
    ) -> "httpx.Request":
        content_type = self._content_type(headers, context)
        body = "" if self.body is None else context.render(self.body)
        content = None
        if is_stored(body):
            content = StoredContent(body, context)
            headers["Content-Length"] = str(content.length)
            content_type = content_type or content.content_type
        elif self.body is not None:
            content = body.encode()
            content_type = content_type or "application/json"
        if content_type:
            headers["Content-Type"] = content_type
        return client.build_request(method, url, headers=headers, content=content)

    def _content_type(self, headers: "httpx.Headers", context: RunContext) -> str:
        if self.content_type is not None:
            return context.render(self.content_type)
        return headers.get("Content-Type", "")

    def _check_status(self, response: "httpx.Response", context: RunContext) -> None:
        options = self.the_options
        if response.status_code < 400 or is_on(context, self.allow_failed) or is_on(context, options.allow_failed):
            return
        allowed = options.allowed_response_codes
        if isinstance(allowed, str):
            allowed = [int(code) for code in re.findall(r"\d+", context.render(allowed))]
        if response.status_code not in (allowed or ()):
            start = Content(response, context).take(_EXCERPT_BYTES)
            excerpt = context.mask(start.decode("utf-8", "replace"))[:_EXCERPT_CHARACTERS].strip()
            raise TaskFailedError(
                f"The server answered {response.status_code} {response.reason_phrase} to "
                f"{response.request.method} {shown(str(response.request.url))}" + (f": {excerpt}" if excerpt else ".")
            )


def _check_uri(uri: str, context: RunContext) -> None:
    try:
        parts = urlsplit(uri)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        # Without saying which: what stands for a port may be the rest of a password.
        raise TaskFailedError("The uri is no address.", "Percent-encode special characters in it.") from None
    if "://" not in uri:
        raise TaskFailedError("The uri is no address.", "Begin it with http:// or https:// and a host.")
    if not is_address:
        raise TaskFailedError(f"{shown(uri)!r} is not an http or https address.")
    if parts.password:
        context.add_secret(unquote(parts.password))


def _parsed(uri: str) -> "httpx.URL":
    import httpx  # noqa: PLC0415  # heavy, and an extra

    url = httpx.URL(uri)
    try:
        _ = url.host
    except UnicodeError as error:
        raise TaskFailedError(f"The uri is no address: its host is none: {error}.") from error
    return url


def _with_params(url: "httpx.URL", params: dict[str, object]) -> "httpx.URL":
    """*url* with more parameters; a list gives one for each of its values."""
    for name, value in params.items():
        for one in cast("list[object]", value) if isinstance(value, list) else [value]:
            url = url.copy_add_param(name, plain(one))
    return url


def _auth(options: HttpOptions, context: RunContext) -> "httpx.Auth | None":
    import httpx  # noqa: PLC0415  # heavy, and an extra

    auth = options.the_auth()
    if auth is None or auth.type == "BEARER":
        return None
    username, password = context.render(auth.username or ""), context.render(auth.password or "")
    if password:
        context.add_secret(password)
    return httpx.DigestAuth(username, password) if auth.type == "DIGEST" else httpx.BasicAuth(username, password)


def _proxy(options: HttpOptions, context: RunContext) -> str | None:
    """As `Transport` wants it."""
    proxy = options.the_proxy()
    if proxy.type == "DIRECT":
        return ""
    if proxy.address is None:
        return None
    login = ""
    if proxy.username is not None:
        password = context.render(proxy.password or "")
        context.add_secret(password)
        login = f"{quote(context.render(proxy.username), safe='')}:{quote(password, safe='')}@"
    scheme = "socks5" if proxy.type == "SOCKS" else "http"
    port = "" if proxy.port is None else f":{whole_number(context, proxy.port, 'proxyPort', least=1)}"
    return f"{scheme}://{login}{context.render(proxy.address)}{port}"


def _failure(error: "httpx.HTTPError", method: str, uri: str) -> TaskFailedError:
    """What went wrong, of which request, in words."""
    try:
        request = error.request
    except RuntimeError:  # it was not told
        return TaskFailedError(f"{method} {shown(uri)} failed: {error or type(error).__name__}.")
    timeouts = cast("dict[str, float | None]", request.extensions.get("timeout", {}))
    what, hint = _in_words(error, {name: f"{value:g} s" for name, value in timeouts.items() if value is not None})
    return TaskFailedError(f"{request.method} {shown(str(request.url))} failed: {what}.", hint)


def _in_words(error: "httpx.HTTPError", timeouts: dict[str, str]) -> tuple[str, str]:
    import httpx  # noqa: PLC0415  # heavy, and an extra

    text = str(error).rstrip(".")
    lengths = re.search(r"received (\d+) bytes, expected (\d+)", text)
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {timeouts.get('connect')}", "options.timeout.connectTimeout allows more."
    if isinstance(error, httpx.ReadTimeout):
        return f"nothing came for {timeouts.get('read')}", "options.timeout.readIdleTimeout allows more."
    if isinstance(error, httpx.WriteTimeout):
        return f"nothing was taken for {timeouts.get('write')}", ""
    if isinstance(error, httpx.TooManyRedirects):
        return "it is redirected again and again, more than 20 times", ""
    if lengths is not None:
        return f"Invalid size, got {lengths[1]}, expected {lengths[2]}", "The connection was cut in the middle."
    if "incomplete chunked read" in text:
        return "the connection was cut in the middle of the answer", ""
    if text.startswith("Illegal header value"):  # which is quoted there, and may be a secret
        return "the value of a header has a line break or another character that no header may have", ""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = "An issuer of your own is trusted by SSL_CERT_FILE in the worker's environment."
        return f"the server's certificate is not trusted: {text.partition('failed: ')[2] or text}", hint
    return text or type(error).__name__, ""
