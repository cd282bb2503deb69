"""The ASGI application: finds the route of a request, checks who asks, reads what comes with it, sends the answer.

Answers that are plain functions run in threads of this module's own, where they may block; a request thread is to the
engine what any other caller is. Verbs are coroutines that await only promises: `Call.run` drives one in the request's
thread, which waits until the writer's thread has committed. Everything a verb touches may be used by any thread: the
store hands each reader a connection of its own and queues writes, the executor takes events through its inbox, and
plans and caches of flows change by single steps or under a lock. Nothing blocks the loop; what lasts (waiting for an
execution, event streams) is a coroutine and awaits the same promises there.
"""

import logging
import re
from asyncio import FIRST_COMPLETED, AbstractEventLoop, CancelledError, Event, ensure_future, get_running_loop, wait
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tercel.api.answers import json_answer
from tercel.api.call import Call, Engine, Field
from tercel.api.meters import Meters
from tercel.api.options import Options
from tercel.api.origins import check_origin, origin_headers
from tercel.api.problems import RequestError, Told, told, told_mistake
from tercel.api.routing import Found, Route, Routes
from tercel.api.streams import EVENTS
from tercel.errors import UserError
from tercel.server_log import tell_request

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_LOGGER = logging.getLogger("tercel.api")

_UNTOLD = ("/ping", "/health", "/health/liveness", "/health/readiness", "/prometheus")
"""Addresses that are asked for every few seconds; nobody wants to read of them."""

_WEBHOOK_KEY = re.compile(r"(/executions/+webhook/+[^/]+/+[^/]+/+)[^/]+")

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

_THREADS = 32
_MOST_FIELDS = 10_000
_LONGEST_TEXT = 64 * 1024 * 1024


class Api:
    """The API of one engine, as an ASGI application.

    Attributes:
        routes: all endpoints.
        options: how it is set up.
        meters: count what becomes of executions; those of another API where it goes with that.
    """

    def __init__(self, engine: Engine, routes: Sequence[Route], options: Options, meters: Meters | None = None) -> None:
        self.options = options
        self.routes = Routes(routes, options.tenant)
        self.meters = meters or Meters()
        self._stop = None if meters else engine.watch(self.meters.changed)
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, "tercel-request")
        self._loop: AbstractEventLoop | None = None
        self._stopping = Event()

    def management(self) -> "Api":
        """The API of the management port: what operators ask for, without login."""
        routes = [replace(route, is_open=True) for route in self.routes.all if route.is_management]
        return Api(self._engine, routes, replace(self.options, context_path=""), self.meters)

    def end_streams(self) -> None:
        """End what lasts, event streams and requests that wait for an execution; for any thread, once it is served."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nothing lasts any more
                self._loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Wait for the requests that are being answered."""
        if self._stop is not None:
            self._stop()
        self._threads.shutdown()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        raw = cast("bytes", scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        method = cast("str", scope["method"])
        begun = monotonic()
        self._loop = self._loop or get_running_loop()
        sent = _Sent(send)
        request = Request(scope, _Limited(receive, self.options.most_upload_bytes))
        try:
            response = await self._answer(method, raw, headers, request)
        except ClientDisconnect:
            return
        except UserError as error:
            response = _problem(told(error, raw))
        except Exception:  # whatever it is, the client gets an answer, and whoever operates the server the traceback
            _LOGGER.exception("No answer to %s %s could be made.", method, _without_key(raw))
            response = _problem(told_mistake(raw))
        for name, value in origin_headers(method, headers, self.options).items():
            response.headers[name] = value
        try:
            if response.media_type == EVENTS:
                await self._stream(response, scope, receive, sent)
            else:
                await response(scope, receive, sent)
        finally:
            with suppress(Exception):
                await request.close()
            if self.options.logs_requests and raw.removeprefix(self.options.context_path) not in _UNTOLD:
                who = {"user": scope["user"]} if scope.get("user") else {}
                facts = {"length": sent.length, "duration": round((monotonic() - begun) * 1000, 1), **who}
                address = cast("tuple[str, int] | None", scope.get("client"))
                facts["address"] = address[0] if address else "-"
                tell_request(method, _without_key(raw), sent.status, facts)

    async def _stream(self, response: Response, scope: "Scope", receive: "Receive", sent: "_Sent") -> None:
        """Send an answer that lasts, until it ends by itself or the server stops."""
        sending, stopping = ensure_future(response(scope, receive, sent)), ensure_future(self._stopping.wait())
        try:
            await wait((sending, stopping), return_when=FIRST_COMPLETED)
            if sending.done():
                await sending
                return
            sending.cancel()
            with suppress(CancelledError):
                await sending
            await sent.end()
        finally:
            stopping.cancel()
            sending.cancel()

    async def _answer(self, method: str, raw: str, headers: Mapping[str, str], request: Request) -> Response:
        path = raw
        context = self.options.context_path
        if context:
            if path != context and not path.startswith(f"{context}/"):
                raise RequestError(404, "There is nothing at this address.")
            path = path.removeprefix(context)
        is_asked = method == "OPTIONS" and "access-control-request-method" in headers
        if is_asked and origin_headers(method, headers, self.options):
            return Response(status_code=204)
        found = self.routes.find(method, path)
        user = request.scope["user"] = await self._check(method, path, headers, found.route)
        if found.route is None:
            raise _nowhere(method, found)
        call = Call(
            engine=self._engine,
            options=self.options,
            path=found.values,
            query_string=cast("bytes", request.scope["query_string"]).decode("latin-1"),
            headers=headers,
            address=raw,
            now=datetime.now(UTC),
            user=user,
            meters=self.meters,
            request=request,
            is_stopping=self._stopping.is_set,
        )
        route = found.route
        if route.takes_form:
            call.form = await _form(request)
        elif not route.streams_body and method not in ("GET", "HEAD"):
            call.body = await _body(request, self.options.most_body_bytes)
        if iscoroutinefunction(route.answer):
            return await route.answer(call)
        return await get_running_loop().run_in_executor(self._threads, route.answer, call)

    async def _check(self, method: str, path: str, headers: Mapping[str, str], route: Route | None) -> str:
        """Who asks. Raises RequestError where they may not."""
        login = self.options.login
        is_open = (route is not None and route.is_open) or login.is_open(path)
        if not is_open:
            check_origin(method, headers, self.options)
        if is_open or not login.is_required:
            return ""
        authorization = headers.get("authorization", "")
        if authorization:
            user = await get_running_loop().run_in_executor(self._threads, login.user_of, authorization)
            if user is not None:
                return user
        raise RequestError(401, "", headers={"WWW-Authenticate": "Basic realm=Kestra"})


def _without_key(address: str) -> str:
    """*address* as anybody may read it: whoever knows the key of a webhook can start its flow."""
    return _WEBHOOK_KEY.sub(r"\1***", address)


class _Limited:
    """A client's messages, of which the bodies are not longer than *most_bytes* together."""

    def __init__(self, receive: "Receive", most_bytes: int) -> None:
        self._receive = receive
        self._left = most_bytes

    async def __call__(self) -> "Message":
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise RequestError(413, "The request is too long.")
        return message


async def _body(request: Request, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > most_bytes:
            raise RequestError(413, f"The body is longer than {most_bytes} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)


async def _form(request: Request) -> tuple[Field, ...]:
    if request.headers.get("content-length") == "0":
        return ()
    if not request.headers.get("content-type", "").lower().startswith(_FORMS):
        await _refuse_body(request)
        return ()
    try:
        form = await request.form(max_files=_MOST_FIELDS, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_TEXT)
    except (MultiPartException, HTTPException) as error:
        text = error.message if isinstance(error, MultiPartException) else error.detail
        raise RequestError(422, f"The form cannot be read: {text}", reason="Invalid format") from None
    fields: list[Field] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            file = value.file
            fields.append(Field(name=name, file=file, file_name=value.filename or ""))
        else:
            fields.append(Field(name=name, text=value))
    return tuple(fields)


async def _refuse_body(request: Request) -> None:
    """Raise RequestError, 422, where there is a body, which is no form: what it says would be lost in silence."""
    async for chunk in request.stream():
        if chunk.strip():
            raise RequestError(
                422,
                "The body is no form.",
                hint="Send the values as parts of `multipart/form-data`.",
                reason="Invalid format",
            )


def _nowhere(method: str, found: Found) -> RequestError:
    if not found.allowed:
        return RequestError(404, "There is nothing at this address.")
    allowed = ", ".join(found.allowed)
    return RequestError(
        405, f"{method} is not possible here.", hint=f"Possible: {allowed}.", headers={"Allow": allowed}
    )


def _problem(problem: Told) -> Response:
    if problem.status == 401:
        return Response(b"", 401, dict(problem.headers))
    return json_answer(problem.body, problem.status, problem.headers)


class _Sent:
    """Sends an answer; what is sent to a client that has gone away is lost in silence.

    Attributes:
        status: of the answer; 0 before it begins.
        length: bytes of its body so far.
    """

    def __init__(self, send: "Send") -> None:
        self._send = send
        self.status = 0
        self.length = 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Send a message of an answer."""
        self.status = message.get("status", self.status)
        self.length += len(message.get("body", b""))
        with suppress(ClientDisconnect, OSError):
            await self._send(message)

    async def end(self) -> None:
        """End an answer that was cut short, as a whole one."""
        if self.status:
            await self({"type": "http.response.body", "body": b"", "more_body": False})
