"""Keeps what has ended for so long only: executions with all they left, and log lines, removed batch by batch.

One thread of a server looks now and then; starts, tasks and requests go on meanwhile.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Thread

from tercel.model.state import TERMINAL
from tercel.plugin_api import EngineCalls
from tercel.store import Bell

_LOOK_S = 600.0


class Retention:
    """Removes what is too old, in a thread of its own.

    Args:
        calls: removes it.
        executions: how long executions are kept that have ended, from their start on; None for ever.
        logs: how long log lines are kept, also of executions that are; None as long as these.
        clock: the current instant in UTC.
        tell: is told, for people, what was removed, and why something could not be.
    """

    def __init__(
        self,
        calls: EngineCalls,
        *,
        executions: timedelta | None,
        logs: timedelta | None,
        clock: Callable[[], datetime],
        tell: Callable[[str], object],
    ) -> None:
        self._calls = calls
        self._executions = executions
        self._logs = logs
        self._clock = clock
        self._tell = tell
        self._bell = Bell()
        self._thread: Thread | None = None
        self._is_closing = False

    def open(self) -> None:
        """Start the thread, where anything is ever removed."""
        if self._executions is None and self._logs is None:
            return
        self._thread = Thread(target=self._run, name="tercel-retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more; what is being removed may be left half done, and is found again."""
        self._is_closing = True
        self._bell.ring()

    def _run(self) -> None:
        while not self._is_closing:
            try:
                self.remove()
            except Exception as error:  # a full disk, a database that is away: the next look may go well
                if not self._is_closing:
                    self._tell(f"What is too old cannot be removed: {error}")
            self._bell.wait(_LOOK_S)

    def remove(self) -> None:
        """Remove what is too old by now."""
        now = self._clock()
        if self._executions is not None:
            removed = self._calls.purge_executions(
                namespace=None, flow_id=None, states=TERMINAL, start=None, end=now - self._executions
            )
            if removed.executions:
                self._tell(f"Removed {removed.executions} executions that began before {now - self._executions:%F %R}.")
        if self._logs is not None:
            lines = self._calls.purge_logs(namespace=None, flow_id=None, levels=(), start=None, end=now - self._logs)
            if lines:
                self._tell(f"Removed {lines} log lines from before {now - self._logs:%F %R}.")
