"""What one render may use: steps, size of texts and lists, depth, and time.

One Budget goes through a whole render, nested `render()` calls and jq programs included, so that no
template can hide its cost in a corner. The clock is passed in: the ground floor reads none itself.
"""

from collections.abc import Callable

from tercel.errors import ExpressionError

MAX_TEMPLATE = 1_000_000
MAX_STEPS = 1_000_000
MAX_NODES = 30_000
MAX_TEXT = 10_000_000
MAX_MADE = 40_000_000
MAX_MEMBERS = 100_000
MAX_VALUE_DEPTH = 200
MAX_PATTERN = 10_000
MAX_PATTERN_SIZE = 50_000
MAX_SEARCHED = 1_000_000
MAX_PARSE_DEPTH = 200
MAX_MACRO_DEPTH = 100
MAX_RENDER_DEPTH = 20
MAX_PASSES = 100
REGEX_TIMEOUT_S = 0.4
DEADLINE_S = 0.7
_CLOCK_EVERY = 1024


class Budget:
    """Counts what a render has used and ends it, with an ExpressionError naming the limit, when it is too much.

    Args:
        clock: monotonic seconds, or None for no deadline.

    Attributes:
        depth: macro calls and blocks around the current one.
        render_depth: `render()` calls around the current one.
    """

    __slots__ = ("_clock", "_deadline", "_next_look", "depth", "made", "output", "render_depth", "steps")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._deadline = 0.0 if clock is None else clock() + DEADLINE_S
        self._next_look = _CLOCK_EVERY
        self.steps = 0
        self.output = 0
        self.made = 0
        self.depth = 0
        self.render_depth = 0

    def spend(self, steps: int = 1) -> None:
        """Use *steps* of the budget: loop rounds, calls, nodes printed or built, jq steps."""
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ExpressionError(f"The template takes more than {MAX_STEPS:,} steps.")
        if self.steps >= self._next_look:
            self._next_look = self.steps + _CLOCK_EVERY
            self.check_deadline()

    def check_deadline(self) -> None:
        """End the render if its time is over."""
        if self._clock is not None and self._clock() > self._deadline:
            raise ExpressionError(f"The template takes longer than {DEADLINE_S:g} s.")

    def remaining_s(self, at_most: float) -> float:
        """Say how many seconds one search may still take: never more than *at_most*, never zero."""
        if self._clock is None:
            return at_most
        return max(0.001, min(at_most, self._deadline - self._clock()))

    def text(self, length: int, *, narrow: bool = True) -> None:
        """Refuse a text of *length* characters made by one operator or filter when it is too long.

        Args:
            length: characters.
            narrow: the text is plain ASCII, one byte a character; others count as four.
        """
        size = length if narrow else length * 4
        if size > MAX_TEXT:
            raise ExpressionError(f"A text of {length:,} characters is over the limit of {MAX_TEXT:,} bytes.")
        self._make(size)
        self.spend(length // 4096)

    def members(self, count: int, size: int = 8) -> None:
        """Refuse a list or map of *count* members made by one operator or filter when it is too long.

        Args:
            count: members.
            size: bytes that one member takes.
        """
        if count > MAX_MEMBERS:
            raise ExpressionError(f"A list of {count:,} members is over the limit of {MAX_MEMBERS:,}.")
        self._make(64 + count * size)
        self.spend(count // 16)

    def scan(self, length: int) -> None:
        """Count work that looks at each of *length* characters with more than one machine instruction."""
        self.spend(length // 8)

    def emit(self, length: int, *, narrow: bool = True) -> None:
        """Count *length* characters of output of this render; *narrow* as in `text`."""
        self.output += length if narrow else length * 4
        if self.output > MAX_TEXT:
            raise ExpressionError(f"The output is over the limit of {MAX_TEXT:,} bytes.")

    def _make(self, size: int) -> None:
        self.made += size
        if self.made > MAX_MADE:
            raise ExpressionError(f"The template makes texts and lists of more than {MAX_MADE:,} bytes in all.")
