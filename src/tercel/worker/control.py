"""Stopping a job from outside: kill, timeout, shutdown.

A JobControl is a scope. Scopes nest: what stops a WorkingDirectory stops the child that runs in it, while a
child's own timeout stops the child alone.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Literal

from tercel.errors import TaskKilledError, TaskTimeoutError

StopReason = Literal["kill", "timeout", "shutdown"]


class JobControl:
    """Says whether a job has to end, and why. Every method may be called from any thread."""

    __slots__ = ("_callbacks", "_is_finished", "_lock", "_reason", "_stopped", "timeout_s")

    def __init__(self) -> None:
        self._lock = Lock()
        self._reason: StopReason | None = None
        self._callbacks: list[Callable[[StopReason], None]] = []
        self._stopped: Event | None = None
        self._is_finished = False
        self.timeout_s: float = 0.0

    @property
    def reason(self) -> StopReason | None:
        """Why the job has to end; None while it may go on."""
        return self._reason

    def stop(self, reason: StopReason) -> None:
        """End the job: once, except that a kill or shutdown takes over from a timeout."""
        with self._lock:
            if self._is_finished:
                return
            is_first = self._reason is None
            if is_first or self._reason == "timeout":
                self._reason = reason
            if not is_first:
                return
            callbacks, self._callbacks = self._callbacks, []
            if self._stopped is not None:
                self._stopped.set()
        for callback in callbacks:
            callback(reason)

    def finish(self) -> bool:
        """Do what cannot be taken back: from now on no stop counts any more. False where one came before."""
        with self._lock:
            self._is_finished = self._reason is None
            return self._is_finished

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Generator[None]:
        """While the block runs, a stop calls *stop*; at once if the job has to end already."""

        def callback(reason: StopReason) -> None:
            del reason
            stop()

        self._register(callback)
        try:
            yield
        finally:
            self._forget(callback)

    def raise_if_stopped(self) -> None:
        """Raise what ends the task.

        Raises:
            TaskTimeoutError: its timeout passed.
            TaskKilledError: its execution is being killed, or the worker shuts down.
        """
        match self._reason:
            case None:
                return
            case "timeout":
                raise TaskTimeoutError(timeout_message(self.timeout_s))
            case "kill":
                raise TaskKilledError
            case "shutdown":
                raise TaskKilledError("The worker shuts down.")

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than until the job has to end; True if it has to."""
        with self._lock:
            if self._reason is not None:
                return True
            if self._stopped is None:
                self._stopped = Event()
            stopped = self._stopped
        return stopped.wait(seconds)

    @contextmanager
    def nested(self) -> Generator["JobControl"]:
        """A scope inside this one: it can be stopped alone, and is killed when this one stops in any way."""
        inner = JobControl()

        def pass_on(reason: StopReason) -> None:
            inner.stop("kill" if reason == "timeout" else reason)

        self._register(pass_on)
        try:
            yield inner
        finally:
            self._forget(pass_on)

    def _register(self, callback: Callable[[StopReason], None]) -> None:
        with self._lock:
            reason = self._reason
            if reason is None:
                self._callbacks.append(callback)
        if reason is not None:
            callback(reason)

    def _forget(self, callback: Callable[[StopReason], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


def timeout_message(seconds: float) -> str:
    """What a task that ran into its timeout of *seconds* failed with.

    Example:
        >>> timeout_message(3661.5)
        'Timeout after 01:01:01.500'
    """
    millis = round(seconds * 1000)
    hours, millis = divmod(millis, 3_600_000)
    minutes, millis = divmod(millis, 60_000)
    return f"Timeout after {hours:02}:{minutes:02}:{millis // 1000:02}.{millis % 1000:03}"
