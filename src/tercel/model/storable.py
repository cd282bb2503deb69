"""Whether a value can be kept and told as JSON: what comes from outside may hold what neither has a form for. Pure."""

from collections.abc import Mapping
from math import isfinite
from typing import cast

from tercel.texts import whole

MOST_DEPTH = 100
"""Levels of lists and maps: whoever reads values later may walk them by recursion."""


def storable_problem(value: object) -> str | None:
    r"""What is wrong with a value, as a clause for people; None where it can be kept.

    Example:
        >>> storable_problem({"a": [1, None, "x"]})
        >>> storable_problem(["\ud800"])
        'it holds half of a character'
        >>> storable_problem([1e999])
        'it holds a number that has no end'
    """
    level: list[object] = [value]
    for depth in range(MOST_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, str):
                if whole(one) is not one:
                    return "it holds half of a character"
            elif isinstance(one, float):
                if not isfinite(one):
                    return "it holds a number that has no end"
            elif depth == MOST_DEPTH and isinstance(one, Mapping | list | tuple):
                return f"it is nested deeper than {MOST_DEPTH} levels"
            elif isinstance(one, Mapping):
                members = cast("Mapping[object, object]", one)
                inner += members.keys()
                inner += members.values()
            elif isinstance(one, list | tuple):
                inner += cast("list[object]", one)
        if not inner:
            break
        level = inner
    return None
