"""jq's destructuring: `as [$a, {b: $c}] ?// $d` to functions that put the variables in scope."""

from collections.abc import Callable, Iterator, Sequence

from tercel.expression.jq import tree
from tercel.expression.jq.paths import part
from tercel.expression.jq.runtime import Code, JqError, Run, Scope
from tercel.expression.jq.scopes import Compile, Names, with_name
from tercel.expression.jq.tree import Pattern
from tercel.expression.jq.values import failure, is_list, kind_of

_Matcher = Callable[[Run, Scope, object, dict[str, object]], Iterator[dict[str, object]]]


def binder(
    patterns: Sequence[Pattern], names: Names | None, compile_part: Compile
) -> tuple[Callable[[Run, Scope, object, int], Iterator[Scope]], Names | None]:
    """Compile patterns: what gives the scopes that pattern number *n* makes of a value, and the names then visible."""
    variables = list(dict.fromkeys(name for pattern in patterns for name in _pattern_names(pattern)))
    for name in variables:
        names = with_name(names, "variable", name)
    # Keys of a pattern may use the variables before them: they are compiled with all, those to come being null.
    matchers = [_matcher(pattern, names, variables, compile_part) for pattern in patterns]
    if len(patterns) == 1 and isinstance(patterns[0], tree.VariablePattern):
        return (lambda _run, scope, value, _number: iter([(value, scope)])), names

    def scopes(run: Run, scope: Scope, value: object, number: int) -> Iterator[Scope]:
        for bound in matchers[number](run, scope, value, {}):
            inner = scope
            for name in variables:
                inner = (bound.get(name), inner)
            yield inner

    return scopes, names


def _pattern_names(pattern: Pattern) -> Iterator[str]:
    match pattern:
        case tree.VariablePattern():
            yield pattern.name
        case tree.ListPattern():
            for member in pattern.members:
                yield from _pattern_names(member)
        case tree.MapPattern():
            for _, name, inner in pattern.members:
                if name is not None:
                    yield name
                if inner is not None:
                    yield from _pattern_names(inner)


def _matcher(pattern: Pattern, names: Names | None, variables: Sequence[str], compile_part: Compile) -> _Matcher:
    match pattern:
        case tree.VariablePattern():
            return lambda _run, _scope, value, bound: iter([{**bound, pattern.name: value}])
        case tree.ListPattern():
            return _list_matcher([_matcher(member, names, variables, compile_part) for member in pattern.members])
        case tree.MapPattern():
            members = [
                (
                    compile_part(key, names),
                    name,
                    None if inner is None else _matcher(inner, names, variables, compile_part),
                )
                for key, name, inner in pattern.members
            ]
            return _map_matcher(members, variables)


def _list_matcher(members: Sequence[_Matcher]) -> _Matcher:
    def matches(
        run: Run, scope: Scope, value: object, bound: dict[str, object], at: int = 0
    ) -> Iterator[dict[str, object]]:
        if at == len(members):
            yield bound
            return
        run.budget.spend()
        if value is not None and not is_list(value):
            raise failure("Cannot index {} with number", value)
        for more in members[at](run, scope, part(value, at), bound):
            yield from matches(run, scope, value, more, at + 1)

    return matches


def _map_matcher(members: Sequence[tuple[Code, str | None, _Matcher | None]], variables: Sequence[str]) -> _Matcher:
    def matches(
        run: Run, scope: Scope, value: object, bound: dict[str, object], at: int = 0
    ) -> Iterator[dict[str, object]]:
        if at == len(members):
            yield bound
            return
        run.budget.spend()
        key_code, name, inner = members[at]
        inside = scope
        for variable in variables:
            inside = (bound.get(variable), inside)
        for _, key in key_code(run, inside, None, value):
            if not isinstance(key, str):
                raise JqError(f"Cannot index {kind_of(value)} with {kind_of(key)}")
            member = part(value, key)
            more = bound if name is None else {**bound, name: member}
            for most in [more] if inner is None else inner(run, scope, member, more):
                yield from matches(run, scope, value, most, at + 1)

    return matches
