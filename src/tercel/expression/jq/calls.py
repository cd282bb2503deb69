"""Definitions and calls of functions: a program's own, those of the prelude, and the builtins in Python."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.jq import tree
from tercel.expression.jq.functions import FUNCTIONS
from tercel.expression.jq.prelude import PRELUDE
from tercel.expression.jq.runtime import Closure, Code, Item, Path, Run, Scope, drive, last_call, lost
from tercel.expression.jq.scopes import Compile, Compiled, Names, depth_of, entry, find, outer, with_name
from tercel.expression.jq.streams import STREAMS

_CALLABLE = frozenset({"function", "closure", "value"})
_PRELUDE: dict[str, Names] = {}


def defined(function: tree.Function, names: Names | None, compile_part: Compile) -> Names:
    """Compile a definition, and give the names visible behind it."""
    compiled = Compiled(function.parameters, depth_of(names))
    name = f"{function.name}/{len(function.parameters)}"
    visible = Names("function", name, depth_of(names), names, compiled)
    inside: Names = visible
    for parameter in function.parameters:
        if parameter.startswith("$"):
            inside = with_name(inside, "variable", parameter[1:])
            inside = Names("value", f"{parameter[1:]}/0", inside.depth, inside)
        else:
            inside = with_name(inside, "closure", f"{parameter}/0")
    compiled.code = compile_part(function.body, inside, last=True)
    return visible


def call(node: tree.Call, names: Names | None, compile_part: Compile, *, last: bool) -> Code:
    """Compile a call.

    Raises:
        ExpressionError: there is no such function.
    """
    name = f"{node.name}/{len(node.arguments)}"
    found = find(names, _CALLABLE, name)
    if found is None:
        if name in FUNCTIONS:
            return _native(FUNCTIONS[name], [compile_part(argument, names) for argument in node.arguments])
        if name in STREAMS:
            return _streaming(STREAMS[name], [compile_part(argument, names, last=True) for argument in node.arguments])
        if name == "builtins/0":
            return _native(_builtins, [])
        if name not in PRELUDE:
            raise ExpressionError(f"jq: {name} is not defined.")
        if name not in _PRELUDE:
            _PRELUDE[name] = defined(PRELUDE[name](), None, compile_part)
        found = _PRELUDE[name]
    hops = depth_of(names) - found.depth
    if found.kind == "value":
        return _value_of_parameter(hops)
    if found.kind == "closure":
        return _closure(hops, last=last)
    assert found.function is not None
    arguments = [compile_part(argument, names, last=True) for argument in node.arguments]
    return _function(found.function, hops, arguments, last=last)


def _value_of_parameter(hops: int) -> Code:
    def code(run: Run, scope: Scope, path: Path, _value: object) -> Iterator[Item]:
        run.budget.spend()
        yield lost(path), entry(scope, hops)

    return code


def _closure(hops: int, *, last: bool) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        body, own_scope = cast("Closure", entry(scope, hops))
        if last:
            yield last_call(run, body, own_scope, path, value)
        else:
            yield from drive(run, body, own_scope, path, value)

    return code


def _function(function: Compiled, hops: int, arguments: Sequence[Code], *, last: bool) -> Code:
    parameters = function.parameters

    def scopes(run: Run, scope: Scope, value: object, inner: Scope, at: int) -> Iterator[Scope]:
        while at < len(parameters) and not parameters[at].startswith("$"):
            inner = ((arguments[at], scope), inner)
            at += 1
        if at == len(parameters):
            yield inner
            return
        for _, argument in drive(run, arguments[at], scope, None, value):
            yield from scopes(run, scope, value, (argument, inner), at + 1)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        body = function.code
        assert body is not None
        for inner in scopes(run, scope, value, outer(scope, hops), 0):
            if last:
                yield last_call(run, body, inner, path, value)
            else:
                yield from drive(run, body, inner, path, value)

    return code


def _streaming(
    function: Callable[[Run, Sequence[tuple[Code, Scope]], Path, object], Iterator[Item]], arguments: Sequence[Code]
) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        return function(run, [(argument, scope) for argument in arguments], path, value)

    return code


def _native(function: Callable[..., object], arguments: Sequence[Code]) -> Code:
    def calls(run: Run, scope: Scope, value: object, at: int, given: tuple[object, ...]) -> Iterator[object]:
        if at < 0:
            run.budget.spend()
            yield function(run.budget, value, *given)
            return
        for _, argument in arguments[at](run, scope, None, value):
            yield from calls(run, scope, value, at - 1, (argument, *given))

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        if not arguments:
            run.budget.spend()
            yield lost(path), function(run.budget, value)
            return
        for result in calls(run, scope, value, len(arguments) - 1, ()):
            yield lost(path), result

    return code


def _builtins(_budget: Budget, _value: object) -> object:
    return sorted(name for name in {"builtins/0", *FUNCTIONS, *STREAMS, *PRELUDE} if not name.startswith("_"))
