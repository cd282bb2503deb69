"""Promise: a value that another thread will bring, awaited with or without an asyncio loop.

Services are coroutines. Under asyncio, awaiting a promise yields to the loop; without a running loop it blocks the
thread, and `run` drives a whole coroutine that way. So the embedded engine needs no event loop, whose import alone
takes a fifth of the time that `tercel run` may take in all, and a server can await the same services.
"""

import sys
from _thread import allocate_lock
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar, cast

from tercel.errors import InvariantError

T = TypeVar("T")

_SLICE_S = 0.1


class Promise(Generic[T]):
    """A value, or an error, that comes once. Any thread may bring it, any number may wait."""

    __slots__ = ("_callbacks", "_error", "_guard", "_is_done", "_result")

    def __init__(self) -> None:
        self._guard = allocate_lock()
        self._callbacks: list[Callable[[], object]] = []
        self._is_done = False
        self._result: T | None = None
        self._error: BaseException | None = None

    @property
    def is_done(self) -> bool:
        """True once the value or the error is there."""
        return self._is_done

    def resolve(self, result: T) -> None:
        """Bring the value; later values and errors are ignored."""
        self._finish(result, None)

    def fail(self, error: BaseException) -> None:
        """Bring an error instead of a value; later values and errors are ignored."""
        self._finish(None, error)

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        with self._guard:
            if self._is_done:
                return
            self._result, self._error, self._is_done = result, error, True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call *callback* once done: in the thread that brings the value, or right here if it is there already."""
        with self._guard:
            if not self._is_done:
                self._callbacks.append(callback)
                return
        callback()

    def result(self) -> T:
        """The value; raises the error that was brought instead of it. Only once done."""
        if not self._is_done:
            message = "A promise was read before it was kept."
            raise InvariantError(message)
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    def wait(self, timeout_s: float | None = None) -> T:
        """Block this thread until done and give the value. Raises TimeoutError after *timeout_s*."""
        if not self._is_done:
            bell = allocate_lock()
            bell.acquire()
            self.when_done(bell.release)
            if timeout_s is None:
                # In slices: Python does not see a signal that arrives right before the main thread blocks.
                while not bell.acquire(timeout=_SLICE_S):
                    pass
            elif not bell.acquire(timeout=max(timeout_s, 0)):
                raise TimeoutError
        return self.result()

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._is_done:
            loop = _running_loop()
            if loop is None:
                return self.wait()
            future = loop.create_future()
            self.when_done(lambda: _call_back(loop, future))
            yield from future
        return self.result()


def _call_back(loop: Any, future: Any) -> None:
    try:
        loop.call_soon_threadsafe(_wake, future)
    except RuntimeError:
        if not loop.is_closed():  # otherwise nobody waits there any more
            raise


def _wake(future: Any) -> None:
    if not future.done():  # the awaiting task may have been cancelled
        future.set_result(None)


def _running_loop() -> Any:
    """The asyncio loop that runs in this thread; None where there is none, asyncio not being imported for that."""
    events = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits only promises to its end, blocking this thread; gives what it returns."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    message = "A service waited for something other than a promise outside an event loop."
    raise InvariantError(message)


class Bell:
    """Wakes the one thread that waits for it; a ring while nobody waits is kept, more of them count as one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the waiter, now or as soon as it waits."""
        try:
            self._lock.release()
        except RuntimeError:  # rung already
            return

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until the bell rings or *timeout_s* has passed; True where it rang."""
        return self._lock.acquire(timeout=-1 if timeout_s is None else min(max(timeout_s, 0), 1_000_000))
