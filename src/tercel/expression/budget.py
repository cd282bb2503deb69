"""What one render may use: steps, size of texts and lists, depth, and time.

One Budget goes through a whole render, nested `render()` calls and jq programs included, so that no
template can hide its cost in a corner. The clock is passed in: the ground floor reads none itself.
"""

from collections.abc import Callable

from tercel.errors import ExpressionError

MAX_TEMPLATE = 1_000_000
MAX_STEPS = 1_000_000
MAX_TEXT = 10_000_000
MAX_MEMBERS = 100_000
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
    """

    __slots__ = ("_clock", "_deadline", "_next_look", "depth", "output", "steps")

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._deadline = 0.0 if clock is None else clock() + DEADLINE_S
        self._next_look = _CLOCK_EVERY
        self.steps = 0
        self.output = 0
        self.depth = 0

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

    def text(self, length: int) -> None:
        """Refuse a text of *length* characters made by one operator or filter when it is too long."""
        if length > MAX_TEXT:
            raise ExpressionError(f"A text of {length:,} characters is over the limit of {MAX_TEXT:,}.")
        self.spend(length // 4096)

    def members(self, count: int) -> None:
        """Refuse a list or map of *count* members made by one operator or filter when it is too long."""
        if count > MAX_MEMBERS:
            raise ExpressionError(f"A list of {count:,} members is over the limit of {MAX_MEMBERS:,}.")
        self.spend(count // 16)

    def emit(self, length: int) -> None:
        """Count *length* characters of output of this render."""
        self.output += length
        if self.output > MAX_TEXT:
            raise ExpressionError(f"The output is over the limit of {MAX_TEXT:,} characters.")
