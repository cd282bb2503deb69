"""Standard output that may go away while a flow runs: the flow matters, so it runs on."""

import os
import re
import sys
from errno import EPIPE
from typing import TextIO, cast

_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class Output:
    """Standard output, written as long as it takes anything.

    Attributes:
        error: what ended it; None while it works. A reader that has seen enough (`| head`) counts as None.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._has_colours = not os.environ.get("NO_COLOR")
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, or do nothing once that failed."""
        if self._stream is not None:
            try:
                return self._stream.write(text if self._has_colours else _COLOUR.sub("", text))
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing once that failed."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def isatty(self) -> bool:
        """True for a terminal on which lines can be drawn again."""
        return self._stream is not None and self._stream.isatty() and os.environ.get("TERM") != "dumb"

    def _give_up(self, error: OSError) -> None:
        stream, self._stream = self._stream, None
        if error.errno != EPIPE:
            self.error = error
        if stream is not None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # or the interpreter fails to write the rest when it ends
            os.close(nowhere)


def standard_output() -> tuple[Output, TextIO]:
    """Standard output, and the same as those see it who only write."""
    output = Output(cast("TextIO | None", sys.stdout))
    return output, cast("TextIO", output)
