"""Event streams: events of a source that lasts, sent as they come, with signs of life between them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec
from starlette.responses import Response, StreamingResponse

T = TypeVar("T")

SIGN_OF_LIFE_S = 15.0
"""How long a stream is silent at most: proxies cut what says nothing."""

EVENTS = "text/event-stream"
"""The media type of streams."""

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_encode = msgspec.json.Encoder(enc_hook=str).encode


def event_stream(events: AsyncIterator[tuple[str, object]]) -> Response:
    """An answer that sends events, and ends with them.

    Args:
        events: id and data of each; an asynchronous generator is closed when the client has gone away.
    """
    return StreamingResponse(_sent(events), headers=_HEADERS, media_type=EVENTS)


def byte_stream(blocks: AsyncIterator[bytes]) -> Response:
    """As `event_stream`, for a source that writes its events itself, many at once, and its own signs of life."""
    return StreamingResponse(blocks, headers=_HEADERS, media_type=EVENTS)


async def _sent(events: AsyncIterator[tuple[str, object]]) -> AsyncIterator[bytes]:
    following: asyncio.Future[tuple[str, object]] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait((following,), timeout=SIGN_OF_LIFE_S)
            if not done:
                yield b":\n\n"
                continue
            try:
                event_id, data = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield b"id: " + event_id.encode() + b"\ndata: " + _encode(data) + b"\n\n"
    finally:
        if following is not None and following.cancel():
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await following
        close: Any = getattr(events, "aclose", None)
        if close is not None:
            await close()


class Bridge(Generic[T]):
    """Brings values from threads of the engine to a coroutine; to be made in the loop.

    Args:
        most: values that wait; of more, the oldest are dropped, and `has_dropped` says so.

    Example: `stop = call.engine.watch(lambda execution, runs: bridge.put(execution))`.
    """

    def __init__(self, most: int = 1000) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[T] = asyncio.Queue()
        self._most = most
        self.has_dropped = False

    def put(self, value: T) -> None:
        """Bring a value, from any thread; does not wait."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._take, value)

    def _take(self, value: T) -> None:
        if self._waiting.qsize() >= self._most:
            self._waiting.get_nowait()
            self.has_dropped = True
        self._waiting.put_nowait(value)

    async def next(self, timeout_s: float | None = None) -> T | None:
        """The next value; None where none came within *timeout_s*."""
        try:
            return await asyncio.wait_for(self._waiting.get(), timeout_s)
        except TimeoutError:
            return None


async def in_thread(function: Callable[[], T]) -> T:
    """What a function gives that blocks, such as one that reads a file; called in a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, function)
