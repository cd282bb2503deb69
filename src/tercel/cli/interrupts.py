"""Ctrl-C, SIGTERM and SIGHUP while executions run: the first one kills them cleanly, a second one ends at once.

While one is paused and a person is asked, the first one leaves it paused.
"""

import os
import signal
from _thread import start_new_thread
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

import click

from tercel.errors import TercelError
from tercel.model.state import State
from tercel.store import Bell

LEFT_PAUSED = 3
"""The exit code where an execution is left paused, for another process to resume."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Listens to signals while its block runs, which belongs around everything, the closing of the engine too.

    Signals that the process was started to ignore (`nohup`) stay ignored.

    Attributes:
        heard: the first signal; None before.
    """

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        self._kill: Callable[[], object] | None = None
        self._leaves = False
        self._has_begun = Bell()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def starting(self, kill: Callable[[], object]) -> None:
        """From now on a signal calls *kill*, once what starts has `started`; before, it just leaves the block."""
        self._kill = kill

    def started(self) -> None:
        """There is something to kill."""
        self._has_begun.ring()

    @contextmanager
    def asking(self) -> Generator[None]:
        """While the block runs a signal kills nothing: whoever asks sees by `heard` that there will be no answer."""
        self._leaves = True
        try:
            yield
        finally:
            self._leaves = False

    def exit_code(self, state: State) -> int:
        """The exit code for an execution that ended in *state*, or is left paused."""
        is_stopped = state in (State.KILLED, State.PAUSED)
        if is_stopped and self.heard is not None and self.heard is not signal.SIGINT:
            return 128 + self.heard
        if state is State.PAUSED:
            return LEFT_PAUSED
        return 0 if state in {State.SUCCESS, State.WARNING} else 1

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.heard is not None:
            # Nothing is waited for: the watchdog ends what runs, and `tercel execution recover` finds what is left.
            os._exit(128 + number)
        self.heard = signal.Signals(number)
        if self._leaves:
            return
        if self._kill is None:
            raise SystemExit(128 + number)
        start_new_thread(self._end, (self._kill,))  # not here: the main thread may hold a lock that killing needs

    def _end(self, kill: Callable[[], object]) -> None:
        sentence = "\nKilling the execution; press Ctrl-C again to end at once."
        if self.heard is not None and self.heard is not signal.SIGINT:
            sentence = f"Killing the execution, because of {self.heard.name}."
        with suppress(OSError):  # the terminal may be gone
            click.echo(sentence, err=True)
        self._has_begun.wait()
        with suppress(TercelError):  # it has ended by itself, or whoever waits for it gets the same error
            kill()
