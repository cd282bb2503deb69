"""Ctrl-C, SIGTERM and SIGHUP while executions run: the first one kills them cleanly, a second one ends at once."""

import os
import signal
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

import click

from tercel.errors import TercelError
from tercel.model.state import State
from tercel.store import Bell

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

    def exit_code(self, state: State) -> int:
        """The exit code for an execution that ended in *state*."""
        if state is State.KILLED and self.heard is not None and self.heard is not signal.SIGINT:
            return 128 + self.heard
        return 0 if state in {State.SUCCESS, State.WARNING} else 1

    def _hear(self, number: int, _: FrameType | None) -> None:
        if self.heard is not None:
            # Nothing is waited for: the watchdog ends what runs, and `tercel execution recover` finds what is left.
            os._exit(128 + number)
        self.heard = signal.Signals(number)
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
