"""What a filter, test or function takes, and how the arguments of a call are put in its order."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tercel.errors import ExpressionError

T = TypeVar("T")


class Builtin:
    """A filter, test or function with the names of its arguments.

    Args:
        run: gets what the caller gives first, then one value for each argument; None for one left out.
        parameters: names in order; a `*` behind one means it is required.
        keeps_null: null in gives null out (filters only).
        any_number: takes any number of positional arguments instead of *parameters*.
    """

    __slots__ = ("any_number", "keeps_null", "parameters", "required", "run")

    def __init__(
        self, run: Callable[..., object], *parameters: str, keeps_null: bool = True, any_number: bool = False
    ) -> None:
        self.run = run
        self.parameters = tuple(name.removesuffix("*") for name in parameters)
        self.required = frozenset(name.removesuffix("*") for name in parameters if name.endswith("*"))
        self.keeps_null = keeps_null
        self.any_number = any_number


def in_order(
    where: str, parameters: Sequence[str], positional: Sequence[T], named: Sequence[tuple[str, T]]
) -> list[T | None]:
    """Put the arguments of a call in the order of the parameters.

    Args:
        where: the filter, function or macro, for messages.
        parameters: its argument names.
        positional: arguments without a name.
        named: arguments with one.

    Returns:
        One argument for each parameter, None for those left out.

    Raises:
        ExpressionError: too many, unknown, or given twice.
    """
    if len(positional) > len(parameters):
        most = f"at most {len(parameters)}" if len(parameters) != 1 else "only 1"
        raise ExpressionError(f"{where} takes {most} argument{'s' * (len(parameters) != 1)}, not {len(positional)}")
    ordered: list[T | None] = [*positional, *([None] * (len(parameters) - len(positional)))]
    for name, argument in named:
        if name not in parameters:
            known = f", it takes `{'`, `'.join(parameters)}`" if parameters else ""
            raise ExpressionError(f"{where} has no argument `{name}`{known}")
        index = parameters.index(name)
        if ordered[index] is not None:
            raise ExpressionError(f"{where} gets its argument `{name}` twice")
        ordered[index] = argument
    return ordered


def bound(where: str, builtin: Builtin, positional: Sequence[T], named: Sequence[tuple[str, T]]) -> list[T | None]:
    """Put the arguments of a call in order and check that the required ones are there.

    Raises:
        ExpressionError: naming the argument that is missing, unknown or too many.
    """
    if builtin.any_number:
        if named:
            raise ExpressionError(f"{where} has no argument `{named[0][0]}`")
        return list(positional)
    if not builtin.parameters:
        return []
    ordered = in_order(where, builtin.parameters, positional, named)
    for name, argument in zip(builtin.parameters, ordered, strict=True):
        if argument is None and name in builtin.required:
            raise ExpressionError(f"{where} needs its argument `{name}`")
    return ordered
