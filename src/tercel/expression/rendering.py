"""One render under way: its variables, scopes, services, budget and output."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from tercel.errors import ExpressionError, UserError
from tercel.expression.budget import MAX_MACRO_DEPTH, Budget
from tercel.expression.tree import Where

Function: TypeAlias = Callable[..., object]
"""A service that reaches outside (secrets, files, clock); `functions.SERVICES` lists names and arguments."""


class Scope:
    """Names that `set`, a loop or a macro has made, and the scope around them."""

    __slots__ = ("parent", "values")

    def __init__(self, values: dict[str, object], parent: "Scope | None") -> None:
        self.values = values
        self.parent = parent


class Rendering:
    """What the closures of a compiled template work on; used by one render only.

    Attributes:
        variables: the context; never modified.
        functions: services by name.
        budget: what the whole render may still use, nested ones included.
        zone: the time zone of dates where a template names none.
        nests: False in recursive mode, which has no `render` function.
        scope: the innermost scope.
        root: the scope of the template or macro.
        out: what has been printed.
        values: in typed mode what is printed instead, values as they are; None in text mode.
        where: the tag being evaluated.
        macros: those of the template, as callables.
        blocks: those of the template, as callables.
    """

    __slots__ = (
        "blocks",
        "budget",
        "functions",
        "macros",
        "nests",
        "out",
        "render",
        "root",
        "scope",
        "values",
        "variables",
        "where",
        "zone",
    )

    def __init__(
        self,
        variables: Mapping[str, object],
        functions: Mapping[str, Function],
        budget: Budget,
        render: "Pass",
        *,
        zone: str = "UTC",
        nests: bool = True,
    ) -> None:
        self.variables: Mapping[str, object] = variables
        self.functions: Mapping[str, Function] = functions
        self.budget: Budget = budget
        self.render: Pass = render
        self.zone: str = zone
        self.nests: bool = nests
        self.root: Scope = Scope({}, None)
        self.scope: Scope = self.root
        self.out: list[str] = []
        self.values: list[object] | None = None
        self.where: Where = (0, 0)
        self.macros: Mapping[str, Callable[..., str]] = {}
        self.blocks: Mapping[str, Callable[[Rendering], None]] = {}

    def write(self, text: str) -> None:
        """Print a text."""
        self.budget.emit(len(text), narrow=text.isascii())
        (self.out if self.values is None else self.values).append(text)

    def nested(self) -> "Rendering":
        """Make a rendering of another text within this one: same names, services and budget, own output."""
        return Rendering(self.visible(), self.functions, self.budget, self.render, zone=self.zone, nests=self.nests)

    def visible(self) -> Mapping[str, object]:
        """Give all names that can be seen from here."""
        chain: list[Scope] = []
        scope: Scope | None = self.scope
        while scope is not None:
            if scope.values:
                chain.append(scope)
            scope = scope.parent
        if not chain:
            return self.variables
        names = dict(self.variables)
        for each in reversed(chain):
            names.update(each.values)
        return names

    def assign(self, name: str, value: object) -> None:
        """Set a name in the nearest scope that has it; a variable of the context is shadowed everywhere."""
        scope: Scope | None = self.scope
        while scope is not None:
            if name in scope.values:
                scope.values[name] = value
                return
            scope = scope.parent
        (self.root if name in self.variables else self.scope).values[name] = value

    def captured(self, body: "Callable[[Rendering], None]", where: str) -> str:
        """Run a body one level down and give what it printed as text.

        Scopes and output are afterwards as they were, whatever happens.

        Args:
            body: the compiled body of a macro, block or filter tag.
            where: its name, for messages.
        """
        budget = self.budget
        if budget.depth >= MAX_MACRO_DEPTH:
            raise ExpressionError(f"{where} is more than {MAX_MACRO_DEPTH} calls deep")
        budget.spend()
        budget.depth += 1
        before = self.scope, self.root, self.variables, self.out, self.values, self.where
        self.out, self.values = [], None
        try:
            body(self)
            return "".join(self.out)
        finally:
            self.scope, self.root, self.variables, self.out, self.values, self.where = before
            budget.depth -= 1

    def service(self, name: str, function: str, *arguments: object) -> object:
        """Call a service.

        Raises:
            ExpressionError: the caller of render has none of that name, or the service refuses.
        """
        service = self.functions.get(name)
        if service is None:
            raise ExpressionError(f"The function `{function}` is not available here")
        given = list(arguments)
        while given and given[-1] is None:
            given.pop()
        try:
            return service(*given)
        except ExpressionError:
            raise
        except UserError as error:
            raise ExpressionError(f"The function `{function}` fails: {error}") from error
        except OSError as error:
            raise ExpressionError(f"The function `{function}` fails: {error.strerror or 'no access'}") from error


Pass: TypeAlias = Callable[[Rendering, str, bool], str]
"""Renders a text within the same budget; the last argument says whether until it no longer changes."""
