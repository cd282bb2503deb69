"""Questions to the person at the terminal, asked for as long as there is something to answer."""

import os
import sys
import termios
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from select import select
from typing import TextIO

from tercel.cli.live_view import printable
from tercel.model.input_types import Input

_LOOK_S = 0.1


class NoAnswerError(Exception):
    """There is nobody to answer, or nothing to ask any more."""


class Questions:
    """Reads lines from the terminal.

    Args:
        out: where questions are written.
        is_over: looked at again and again while one waits; True ends the wait with NoAnswerError.
    """

    def __init__(self, out: TextIO, is_over: Callable[[], bool]) -> None:
        self._out = out
        self._is_over = is_over

    def confirm(self, sentence: str) -> None:
        """Wait for Enter. Raises NoAnswerError."""
        self._say(f"{sentence} ")
        self._line()

    def tell(self, sentence: str) -> None:
        """Say something that needs no answer."""
        self._say(f"{sentence}\n")

    def inputs(self, declared: Sequence[Input]) -> dict[str, object]:
        """Ask for a value of each input; what is left empty is left out. Raises NoAnswerError."""
        given: dict[str, object] = {}
        for one in declared:
            if one.description:
                self._say(f"  {printable(one.description.strip())}\n")
            self._say(f"  {_label(one)}: ")
            line = self._secret_line() if one.type == "SECRET" else self._line()
            if line:
                given[one.id] = line
        return given

    def _secret_line(self) -> str:
        with _without_echo(sys.stdin.fileno()):
            line = self._line()
        self._say("\n")
        return line

    def _line(self) -> str:
        """The next line, in the terminal's own line editing."""
        stdin = sys.stdin.fileno()
        while not self._is_over():
            if select([stdin], [], [], _LOOK_S)[0]:
                line = os.read(stdin, 1 << 16)
                if not line:  # Ctrl-D
                    break
                return line.decode(errors="replace").strip()
        self._say("\n")
        raise NoAnswerError

    def _say(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def is_answered(out: TextIO) -> bool:
    """True where a person can be asked."""
    return out.isatty() and sys.stdin is not None and sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]  # None where it was closed


def _label(one: Input) -> str:
    """What an input is called, and what it takes."""
    notes: list[str] = [one.type]
    if one.values or one.options:
        notes = [f"one of {', '.join(one.values or one.options or ())}"]
    if one.type in ("BOOLEAN", "BOOL"):
        notes = ["true or false"]
    if one.defaults is not None and one.type != "SECRET":
        default = str(one.defaults).lower() if isinstance(one.defaults, bool) else str(one.defaults)
        notes.append(f"Enter takes {printable(default)}")
    elif not one.required or one.defaults is not None:
        notes.append("may be empty")
    name = one.display_name or one.id
    return f"{printable(name)} ({', '.join(notes)})"


@contextmanager
def _without_echo(terminal: int) -> Generator[None]:
    before = termios.tcgetattr(terminal)
    quiet = [*before]
    quiet[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
