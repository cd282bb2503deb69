"""What running a jq program needs everywhere: results with paths, errors, variables, calls, and the budget.

Every expression is a function from an input to a lazy sequence of results. A result is a pair of path and value;
the path is None where nobody asks for it, and LOST where the value is no longer a part of the input.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias, cast

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget

MAX_CALLS: Final = 10_000

Path: TypeAlias = tuple[object, ...] | None
Item: TypeAlias = tuple[Path, object]
# Variables and arguments, innermost first; which one is meant is settled when the program is compiled.
Scope: TypeAlias = "tuple[object, Scope] | None"
Code: TypeAlias = Callable[["Run", "Scope", Path, object], Iterator[Item]]
# An argument: what to run, and the variables it was written among.
Closure: TypeAlias = tuple[Code, "Scope"]


class _Lost:
    def __repr__(self) -> str:
        return "LOST"


LOST: Final[Path] = (_Lost(),)
_TAIL: Final[Path] = (_Lost(),)


class JqError(Exception):
    """An error that a program can catch.

    Attributes:
        value: what `catch` sees, mostly a text.
        public: what may be shown outside: without the values at fault.
    """

    def __init__(self, value: object, public: str = "") -> None:
        self.value = value
        self.public = public or (value if isinstance(value, str) else "")
        super().__init__(self.public)


class BreakError(Exception):
    """A `break`, on its way to its label."""

    def __init__(self, label: object) -> None:
        super().__init__()
        self.label = label


class Run:
    """One run of a program.

    Attributes:
        budget: pays for steps, texts and lists.
    """

    __slots__ = ("budget",)

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def items(self, closure: Closure, path: Path, value: object) -> Iterator[Item]:
        """Give the results of an argument, with paths."""
        return drive(self, closure[0], closure[1], path, value)

    def values(self, closure: Closure, value: object) -> Iterator[object]:
        """Give the results of an argument, without paths."""
        for item in drive(self, closure[0], closure[1], None, value):
            yield item[1]

    def gathered(self, results: Iterator[object]) -> list[object]:
        """Make a list of results, within the budget."""
        members: list[object] = []
        for value in results:
            members.append(value)
            if len(members) % 4096 == 0:
                self.budget.members(len(members))
        self.budget.members(len(members))
        return members


class Results:
    """The results of one step, which can tell whether there will be more before they are asked for.

    An error met while looking is kept until its turn comes.
    """

    __slots__ = ("_ahead", "_error", "_items")

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._ahead: Item | None = None
        self._error: Exception | None = None

    def take(self) -> Item | None:
        """Give the next result, or None when there is none."""
        if self._error is not None:
            raise self._error
        if self._ahead is not None:
            item, self._ahead = self._ahead, None
            return item
        return next(self._items, None)

    def is_over(self) -> bool:
        """Tell whether there are no more results."""
        if self._ahead is None and self._error is None:
            try:
                self._ahead = next(self._items, None)
            except (JqError, BreakError) as error:
                self._error = error
        return self._ahead is None and self._error is None


def drive(run: Run, code: Code, scope: Scope, path: Path, value: object) -> Iterator[Item]:
    """Run code whose calls in last position are handed back instead of made: recursion without depth."""
    calls = [Results(code(run, scope, path, value))]
    while calls:
        item = calls[-1].take()
        if item is None:
            calls.pop()
        elif item[0] is _TAIL:
            run.budget.spend()
            if calls[-1].is_over():
                calls.pop()
            elif len(calls) >= MAX_CALLS:
                raise too_deep()
            again = cast("Callable[[], Iterator[Item]]", item[1])
            calls.append(Results(again()))
        else:
            yield item


def too_deep() -> ExpressionError:
    """Make the error of too many calls inside each other."""
    return ExpressionError(f"jq: functions call each other more than {MAX_CALLS:,} levels deep.")


def last_call(run: Run, code: Code, scope: Scope, path: Path, value: object) -> Item:
    """Give the item that asks `drive` to go on with *code*."""
    return _TAIL, lambda: code(run, scope, path, value)


def lost(path: Path) -> Path:
    """Give the path of a value that is not a part of the input."""
    return None if path is None else LOST
