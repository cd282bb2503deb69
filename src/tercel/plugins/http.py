"""core.http.*: Request, Download and Trigger. What a request is made of, what comes back; no retries of its own."""

import json
import re
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Literal, cast
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from tercel.plugin_api import (
    Dynamic,
    MissingToolError,
    Outputs,
    Part,
    PollContext,
    PollingTrigger,
    RunContext,
    RunnableTask,
    TaskFailedError,
    parse_duration,
    plugin,
)

if TYPE_CHECKING:
    import httpx
    from httpcore import NetworkStream

_BLOCK = 1 << 20
_EXCERPT_BYTES = 1 << 12
_MAX_BODY_BYTES = 10 << 20
_LONGEST_NAME = 200
_LONGEST_SUFFIX = 20
_CONNECT_S = 10.0
_READ_S = 10.0
_FALSE = frozenset({"", "false", "0", "-0", "null"})


class HttpAuth(Part, frozen=True, kw_only=True):
    """How to log in: BASIC and DIGEST want *username* and *password*, BEARER wants *token*."""

    type: Literal["BASIC", "DIGEST", "BEARER"] = "BASIC"
    username: Dynamic | None = None
    password: Dynamic | None = None
    token: Dynamic | None = None


class HttpTimeout(Part, frozen=True, kw_only=True):
    """Durations after which a request is given up."""

    connect_timeout: Dynamic | None = None
    read_idle_timeout: Dynamic | None = None


class HttpProxy(Part, frozen=True, kw_only=True):
    """The proxy to go through."""

    type: Literal["HTTP", "SOCKS", "DIRECT"] = "HTTP"
    address: Dynamic | None = None
    port: int | Dynamic | None = None
    username: Dynamic | None = None
    password: Dynamic | None = None


class SslOptions(Part, frozen=True, kw_only=True):
    """How far the server's certificate is trusted."""

    insecure_trust_all_certificates: bool | Dynamic = False


class HttpOptions(Part, frozen=True, kw_only=True):
    """How the request travels; both the flat names of old and the grouped ones of today.

    Attributes:
        max_content_length: accepted for old flows; a body of any size is streamed, so nothing is cut.
        allowed_response_codes: status codes that are no failure, whatever they are.
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


class _HttpTask(RunnableTask, frozen=True, kw_only=True):
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
    def _response(self, context: RunContext) -> Generator["httpx.Response"]:
        """Send the request; the body is still to be read. A status of 400 or more raises unless allowed."""
        try:
            import httpx  # noqa: PLC0415  # heavy, and an extra
        except ImportError:
            raise MissingToolError(
                "HTTP tasks need the library httpx.", "Install it: pip install 'tercel[http]'."
            ) from None
        uri = context.render(self.uri).strip()
        _check_uri(uri, context)
        options = self.options or HttpOptions()
        line = _Line()
        try:
            with (
                context.stopping(line.cut),
                ExitStack() as files,
                _client(options, self.ssl_options, context) as client,
            ):
                request = self._request(client, uri, context, files)
                request.extensions = {**request.extensions, "trace": line.trace}
                context.logger.debug(f"{request.method} {_shown(uri)}")
                response = client.send(request, stream=True)
                try:
                    self._check_status(response, options, context)
                    yield response
                finally:
                    response.close()
        except httpx.InvalidURL as error:
            raise TaskFailedError(f"The uri is no address: {error}") from error
        except httpx.HTTPError as error:
            context.stop_if_killed()
            raise TaskFailedError(
                f"{context.render(self.method)} {_shown(uri)} failed: {error or type(error).__name__}."
            ) from error

    def _request(self, client: "httpx.Client", uri: str, context: RunContext, files: ExitStack) -> "httpx.Request":
        headers = _text_map(context, self.headers)
        auth = self.options.auth if self.options else None
        if auth is not None and auth.type == "BEARER":
            token = context.render(auth.token or "")
            context.add_secret(token)
            headers["Authorization"] = f"Bearer {token}"
        content_type = None if self.content_type is None else context.render(self.content_type)
        params = (
            None if self.params is None else {name: _plain(value) for name, value in _map(context, self.params).items()}
        )
        method = context.render(self.method).upper()
        form = None if self.form_data is None else _map(context, self.form_data)
        if form is None:
            content = None if self.body is None else context.render(self.body).encode()
            if content is not None:
                headers.setdefault("Content-Type", content_type or "application/json")
            return client.build_request(method, uri, params=params, headers=headers, content=content)
        if (content_type or "").startswith("multipart/form-data"):
            parts = [_part(context, name, value, files) for name, value in form.items()]
            return client.build_request(method, uri, params=params, headers=headers, files=parts)
        fields = {name: _plain(value) for name, value in form.items()}
        return client.build_request(method, uri, params=params, headers=headers, data=fields)

    def _check_status(self, response: "httpx.Response", options: HttpOptions, context: RunContext) -> None:
        if response.status_code < 400 or _is_on(context, self.allow_failed) or _is_on(context, options.allow_failed):
            return
        allowed = options.allowed_response_codes
        if isinstance(allowed, str):
            allowed = [int(code) for code in re.findall(r"\d+", context.render(allowed))]
        if response.status_code not in (allowed or ()):
            excerpt = _start(response).decode(response.charset_encoding or "utf-8", "replace")[:200].strip()
            raise TaskFailedError(
                f"The server answered {response.status_code} {response.reason_phrase} to "
                f"{response.request.method} {_shown(str(response.request.url))}" + (f": {excerpt}" if excerpt else ".")
            )


@plugin(
    "io.kestra.plugin.core.http.Request",
    aliases=["io.kestra.plugin.fs.http.Request"],
)
class Request(_HttpTask, frozen=True, kw_only=True):
    """Send an HTTP request and give the answer's body back as text.

    Attributes:
        uri: the address, http or https.
        body: text to send; `application/json` unless *contentType* says otherwise.
        form_data: fields to send; files with `contentType: multipart/form-data`.
        allow_failed: take a status of 400 or more as success.
        encrypt_body: needs an encryption key, which only a server has.

    Outputs:
        body: the answer's text.
        code: the status.
        headers: name to list of values.
        uri: the address asked.
    """

    encrypt_body: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Send, and read the whole answer."""
        if self.encrypt_body:
            raise TaskFailedError(
                "encryptBody needs an encryption key, and none is configured.", "Leave encryptBody out."
            )
        with self._response(context) as response:
            body = _whole(response, context)
            if "charset" not in response.headers.get("content-type", ""):
                response.encoding = context.render((self.options or HttpOptions()).default_charset)
            try:
                text = body.decode(response.encoding or "utf-8")
            except (UnicodeDecodeError, LookupError):
                raise TaskFailedError(
                    f"The answer of {_shown(str(response.request.url))} is not text.",
                    "Use io.kestra.plugin.core.http.Download for files.",
                ) from None
            code = response.status_code
            tags = {"request.method": response.request.method, "response.code": str(code)}
            context.metric("response.length", len(body), tags=tags)
            return Outputs(
                uri=_without_login(str(response.request.url)), code=code, headers=_headers(response), body=text
            )


@plugin(
    "io.kestra.plugin.core.http.Download",
    aliases=["io.kestra.plugin.fs.http.Download"],
)
class Download(_HttpTask, frozen=True, kw_only=True):
    """Fetch a file by HTTP into internal storage, streamed.

    Attributes:
        uri: the address, http or https.
        fail_on_empty_response: an empty answer fails the task instead of being a warning.

    Outputs:
        uri: the file in internal storage.
        code: the status.
        length: bytes received.
        headers: name to list of values.
    """

    fail_on_empty_response: bool = True

    def run(self, context: RunContext) -> Outputs:
        """Stream the answer into a file, check its size, store it."""
        with self._response(context) as response:
            target = context.engine_directory / "download"
            with target.open("wb") as file:
                length = _copy(response, file, context)
            announced = response.headers.get("content-length")
            if announced is not None and "content-encoding" not in response.headers and int(announced) != length:
                raise TaskFailedError(f"Invalid size, got {length}, expected {announced}.")
            if length == 0:
                if self.fail_on_empty_response:
                    raise TaskFailedError(
                        "No response from server: the body is empty.", "Set failOnEmptyResponse: false to accept that."
                    )
                context.logger.warn("The server's response is empty.")
            context.metric("response.length", length, tags={"request.method": response.request.method})
            uri = context.save_file(target, _file_name(response))
            return Outputs(uri=uri, code=response.status_code, length=length, headers=_headers(response))


@plugin(
    "io.kestra.plugin.core.http.Trigger",
    aliases=["io.kestra.plugin.fs.http.Trigger"],
)
class Trigger(PollingTrigger, frozen=True, kw_only=True):
    """Start an execution when an HTTP request is answered as it should be.

    The request is sent again after each interval, but not while an execution that it started runs. A status of 400 or
    more is an answer like others. Executions see as `trigger` what Request gives: `uri`, `code`, `headers` and `body`.

    Attributes:
        uri: the address, http or https.
        body: text to send; `application/json` unless *contentType* says otherwise.
        form_data: fields to send; files with `contentType: multipart/form-data`.
        response_condition: an execution is started unless it renders to an empty text, `false`, `null`, `0` or `-0`; it
            sees `response.statusCode`, `response.body` and `response.headers`.
        encrypt_body: needs an encryption key, which only a server has.
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
    response_condition: Dynamic = "{{ response.statusCode < 400 }}"
    encrypt_body: bool = False

    def evaluate(self, context: PollContext) -> Outputs | None:
        """Send the request, and give the answer where it meets the condition."""
        answer = self._request().run(context)
        response = {"statusCode": answer["code"], "body": answer["body"], "headers": answer["headers"]}
        if context.render(self.response_condition, {"response": response}).strip() in _FALSE:
            context.logger.debug(f"{_shown(str(answer['uri']))} answered {answer['code']}: not what is waited for.")
            return None
        return answer

    def _request(self) -> Request:
        return Request(
            id=self.id,
            type=self.type,
            uri=self.uri,
            method=self.method,
            body=self.body,
            form_data=self.form_data,
            content_type=self.content_type,
            headers=self.headers,
            params=self.params,
            options=self.options,
            ssl_options=self.ssl_options,
            allow_failed=True,
            encrypt_body=self.encrypt_body,
        )


class _Line:
    """The connection that a request uses at the moment, which a kill or timeout cuts.

    Closing a response does not wake the thread that waits for its next byte; shutting the socket does.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._stream: NetworkStream | None = None
        self._is_cut = False

    def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Told by httpx of what it does."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            with self._lock:
                self._stream = cast("NetworkStream", info["return_value"])
                self._cut_if_due()

    def cut(self) -> None:
        """End the connection, and those to come."""
        with self._lock:
            self._is_cut = True
            self._cut_if_due()

    def _cut_if_due(self) -> None:
        if self._stream is None or not self._is_cut:
            return
        import socket  # noqa: PLC0415  # loaded by httpx anyway

        raw = self._stream.get_extra_info("socket")
        if isinstance(raw, socket.socket):
            with suppress(OSError):
                # Not by the method of an SSL socket, which is not made for another thread.
                socket.socket.shutdown(raw, socket.SHUT_RDWR)


def _check_uri(uri: str, context: RunContext) -> None:
    try:
        parts = urlsplit(uri)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        # Without saying which: what stands for a port may be the rest of a password.
        raise TaskFailedError("The uri is no address.", "Percent-encode special characters in it.") from None
    if not is_address:
        raise TaskFailedError(f"{_shown(uri)!r} is not an http or https address.")
    if parts.password:
        context.add_secret(unquote(parts.password))


def _without_login(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _start(response: "httpx.Response") -> bytes:
    """The first bytes of the answer; the rest is never read."""
    start = b""
    for block in response.iter_bytes(_EXCERPT_BYTES):
        start += block
        if len(start) >= _EXCERPT_BYTES:
            break
    return start


def _whole(response: "httpx.Response", context: RunContext) -> bytes:
    limit = cast("int", context.setting("outputs.max-bytes", _MAX_BODY_BYTES))
    blocks: list[bytes] = []
    length = 0
    for block in response.iter_bytes():
        blocks.append(block)
        length += len(block)
        if length > limit:
            raise TaskFailedError(
                f"The answer of {_shown(str(response.request.url))} has more than the {limit:,} bytes allowed.",
                "Use io.kestra.plugin.core.http.Download for large answers.",
            )
    return b"".join(blocks)


def _client(options: HttpOptions, ssl: SslOptions | None, context: RunContext) -> "httpx.Client":
    import httpx  # noqa: PLC0415  # heavy, and an extra

    timeout = options.timeout or HttpTimeout()
    connect_s = _seconds(context, timeout.connect_timeout or options.connect_timeout, _CONNECT_S)
    read_s = _seconds(context, timeout.read_idle_timeout or options.read_idle_timeout or options.read_timeout, _READ_S)
    return httpx.Client(
        timeout=httpx.Timeout(read_s, connect=connect_s),
        follow_redirects=_is_on(context, options.follow_redirects),
        verify=not _is_on(context, (ssl or options.ssl or SslOptions()).insecure_trust_all_certificates),
        auth=_auth(options, context),
        proxy=_proxy(options, context),
    )


def _auth(options: HttpOptions, context: RunContext) -> "httpx.Auth | None":
    import httpx  # noqa: PLC0415  # heavy, and an extra

    auth = options.auth
    if auth is None:
        if options.basic_auth_user is None:
            return None
        auth = HttpAuth(username=options.basic_auth_user, password=options.basic_auth_password)
    if auth.type == "BEARER":
        return None
    username, password = context.render(auth.username or ""), context.render(auth.password or "")
    if password:
        context.add_secret(password)
    return httpx.DigestAuth(username, password) if auth.type == "DIGEST" else httpx.BasicAuth(username, password)


def _proxy(options: HttpOptions, context: RunContext) -> str | None:
    proxy = options.proxy or HttpProxy(
        type=options.proxy_type or "HTTP",
        address=options.proxy_address,
        port=options.proxy_port,
        username=options.proxy_username,
        password=options.proxy_password,
    )
    if proxy.address is None or proxy.type == "DIRECT":
        return None
    login = ""
    if proxy.username is not None:
        login = quote(context.render(proxy.username), safe="")
        login += ":" + quote(context.render(proxy.password or ""), safe="") + "@"
    scheme = "socks5" if proxy.type == "SOCKS" else "http"
    port = "" if proxy.port is None else f":{context.render(str(proxy.port))}"
    return f"{scheme}://{login}{context.render(proxy.address)}{port}"


def _copy(response: "httpx.Response", target: BinaryIO, context: RunContext) -> int:
    length = 0
    for block in response.iter_bytes(_BLOCK):
        context.stop_if_killed()
        target.write(block)
        length += len(block)
    return length


def _file_name(response: "httpx.Response") -> str:
    """The name the server suggests, else the last part of the address; never with a folder in it."""
    disposition = response.headers.get("content-disposition", "")
    extended = re.search(r"filename\*\s*=\s*[\w-]*'[^']*'([^;]+)", disposition, re.IGNORECASE)
    plain = re.search(r'filename\s*=\s*(?:"([^"]*)"|([^;\s]+))', disposition, re.IGNORECASE)
    if extended is not None:
        name = unquote(extended.group(1).strip())
    elif plain is not None:
        name = plain.group(1) or plain.group(2) or ""
    else:
        name = unquote(urlsplit(str(response.request.url)).path)
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].replace("\0", "")
    return _fitting(base) if base.strip(".") else "download"


def _fitting(name: str) -> str:
    """*name*, cut where no file system would take it, its suffix kept."""
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = f".{suffix}" if dot and stem and len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    kept = name.removesuffix(suffix).encode()[: _LONGEST_NAME - len(suffix.encode())]
    return kept.decode(errors="ignore") + suffix


def _headers(response: "httpx.Response") -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in response.headers.raw:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


def _part(
    context: RunContext, name: str, value: object, files: ExitStack
) -> tuple[str, tuple[str | None, BinaryIO | str]]:
    """One field of a multipart form: a file for a URI or `{name, content}`, else text."""
    if isinstance(value, str) and value.startswith("kestra://"):
        return name, (unquote(value.rpartition("/")[2]), files.enter_context(context.open_file(value)))
    if isinstance(value, Mapping):
        file = cast("Mapping[str, object]", value)
        content = file.get("content")
        if "name" in file and isinstance(content, str):
            is_stored = content.startswith("kestra://")
            return name, (str(file["name"]), files.enter_context(context.open_file(content)) if is_stored else content)
    return name, (None, _plain(cast("object", value)))


def _map(context: RunContext, value: object) -> dict[str, object]:
    rendered = context.render_value(value)
    if isinstance(rendered, str):
        try:
            rendered = json.loads(rendered or "{}")
        except ValueError as error:
            raise TaskFailedError(f"{rendered[:80]!r} is not a JSON object: {error}.") from error
    if not isinstance(rendered, Mapping):
        raise TaskFailedError(f"A map is wanted, but there is a {type(rendered).__name__}.")
    return {str(name): item for name, item in cast("Mapping[object, object]", rendered).items()}


def _text_map(context: RunContext, value: object) -> dict[str, str]:
    return {} if value is None else {name: _plain(item) for name, item in _map(context, value).items()}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_on(context: RunContext, value: bool | str | None) -> bool:
    if isinstance(value, str):
        return context.render(value).strip() not in _FALSE
    return bool(value)


def _seconds(context: RunContext, value: str | None, default: float) -> float:
    if value is None:
        return default
    try:
        return parse_duration(context.render(value)).total_seconds()
    except ValueError as error:
        raise TaskFailedError(f"{error}.") from error


def _shown(uri: str) -> str:
    """The address without login and query, which may hold secrets."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
