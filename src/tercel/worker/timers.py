"""Calls back at set times, all from one thread that starts when first needed."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from threading import Condition, Thread
from time import monotonic


class Timer:
    """One call to come; `cancel` it when it is no longer wanted."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Let the time pass without a call; harmless afterwards."""
        self.callback = None


class Timers:
    """Timeouts and the like: callbacks must be quick; one that raises is told on stderr.

    Args:
        name: what the thread is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._due: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._changed = Condition()
        self._thread: Thread | None = None

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* once, *seconds* from now."""
        timer = Timer(callback)
        at = monotonic() + seconds
        with self._changed:
            is_next = not self._due or at < self._due[0][0]
            heappush(self._due, (at, next(self._numbers), timer))
            if self._thread is None:
                self._thread = Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            elif is_next:
                self._changed.notify()
        return timer

    def _work(self) -> None:
        while True:
            with self._changed:
                callback = self._next()
                while callback is None:
                    self._changed.wait(self._due[0][0] - monotonic() if self._due else None)
                    callback = self._next()
            try:
                callback()
            except Exception:
                from traceback import print_exc  # noqa: PLC0415  # hardly ever needed

                # The next timer must not suffer for it; and there is no log here to tell it to.
                print_exc()

    def _next(self) -> Callable[[], None] | None:
        """Take out the callback that is due; None where it is too early. The lock is held.

        Cancelled timers are dropped before their time, so that the thread does not wake for each of them.
        """
        while self._due:
            at, _, timer = self._due[0]
            callback = timer.callback
            if callback is not None and at > monotonic():
                return None
            heappop(self._due)
            if callback is not None:
                return callback
        return None
