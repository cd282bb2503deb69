"""Names of a jq program and where their values lie while it runs.

At run time variables and arguments form a chain, innermost first; how far to go along it for a name is settled here.
"""

from typing import Protocol

from msgspec import Struct

from tercel.expression.jq.runtime import Code, Scope
from tercel.expression.jq.tree import Node


class Compiled(Struct):
    """A function of a program. *code* is set when its body is compiled; *depth* is that of its definition."""

    parameters: tuple[str, ...]
    depth: int
    code: Code | None = None


class Names(Struct, frozen=True):
    """What is visible at a place of a program, innermost first.

    Attributes:
        kind: `variable`, `value` (parameter `$x` called as `x`), `closure`, `function` or `label`.
        name: without `$`; functions with their number of parameters, `f/1`.
        depth: entries of the run-time scope below and including this one.
    """

    kind: str
    name: str
    depth: int
    outer: "Names | None"
    function: Compiled | None = None


def depth_of(names: Names | None) -> int:
    """Give the number of entries of the run-time scope at a place."""
    return names.depth if names else 0


def with_name(names: Names | None, kind: str, name: str) -> Names:
    """Give the names inside of what brings one entry more."""
    return Names(kind, name, depth_of(names) + 1, names)


def find(names: Names | None, kinds: frozenset[str], name: str) -> Names | None:
    """Find the innermost name of one of the kinds; None when there is none."""
    while names is not None:
        if names.name == name and names.kind in kinds:
            return names
        names = names.outer
    return None


def outer(scope: Scope, hops: int) -> Scope:
    """Give the scope without its *hops* innermost entries."""
    for _ in range(hops):
        assert scope is not None
        scope = scope[1]
    return scope


def entry(scope: Scope, hops: int) -> object:
    """Give the entry that lies behind the *hops* innermost ones."""
    found = outer(scope, hops)
    return found[0] if found else None


class Compile(Protocol):
    """Compiles a part of a program; *last* says that `drive` runs it and calls may be handed back to it."""

    def __call__(self, node: Node, names: Names | None, *, last: bool = False) -> Code: ...  # noqa: D102
