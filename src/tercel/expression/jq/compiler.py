"""jq syntax trees to functions that run them. Names are resolved here; steps are paid for while running."""

from collections.abc import Callable, Iterator
from typing import assert_never

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.jq import tree
from tercel.expression.jq.calls import call, defined
from tercel.expression.jq.matching import binder
from tercel.expression.jq.paths import extend, get, part, put, without
from tercel.expression.jq.runtime import (
    BreakError,
    Code,
    Item,
    JqError,
    Path,
    Run,
    Scope,
    lost,
)
from tercel.expression.jq.scopes import Names, depth_of, entry, find, with_name
from tercel.expression.jq.streams import each_part, recurse_parts
from tercel.expression.jq.texts import formatted
from tercel.expression.jq.tree import Node
from tercel.expression.jq.values import (
    add,
    compared,
    divide,
    equal,
    failure,
    is_list,
    is_number,
    is_true,
    multiply,
    remainder,
    settled,
    subtract,
)

_ARITHMETIC: dict[str, Callable[[object, object, Budget], object]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "==": equal,
    "!=": lambda left, right, budget: not equal(left, right, budget),
    "<": lambda left, right, budget: compared(left, right, budget) < 0,
    ">": lambda left, right, budget: compared(left, right, budget) > 0,
    "<=": lambda left, right, budget: compared(left, right, budget) <= 0,
    ">=": lambda left, right, budget: compared(left, right, budget) >= 0,
}


def compile_program(program: Node) -> Code:
    """Turn a program into a function, to be run by `drive`.

    Raises:
        ExpressionError: a name is not defined.
    """
    return _compile(program, None, last=True)


def _compile(node: Node, names: Names | None, *, last: bool = False) -> Code:
    """Compile a part; *last* says that `drive` runs it and calls may be handed back to it."""
    match node:
        case tree.Identity():
            return _identity
        case tree.RecurseAll():
            return _recurse_all
        case tree.Literal():
            return _literal(node.value)
        case tree.Text():
            return _text(node, names)
        case tree.Format():
            return _format(node.name)
        case tree.Index():
            return _index(node, names)
        case tree.Slice():
            return _slice(node, names)
        case tree.Iterate():
            return _iterate(_compile(node.of, names))
        case tree.Try():
            return _try(node, names)
        case tree.Pipe():
            return _pipe(_compile(node.left, names), _compile(node.right, names, last=last))
        case tree.Comma():
            return _comma(_compile(node.left, names, last=last), _compile(node.right, names, last=last))
        case tree.Negate():
            return _negate(_compile(node.body, names))
        case tree.Binary(operator="and" | "or"):
            return _logic(node, names)
        case tree.Binary(operator="//"):
            return _alternative(_compile(node.left, names), _compile(node.right, names, last=last))
        case tree.Binary():
            return _arithmetic(_ARITHMETIC[node.operator], _compile(node.left, names), _compile(node.right, names))
        case tree.Assign():
            return _assign(node, names)
        case tree.If():
            return _if(node, names, last=last)
        case tree.Reduce():
            return _reduce(node, names)
        case tree.ForEach():
            return _foreach(node, names)
        case tree.Define():
            return _compile(node.rest, defined(node.function, names, _compile), last=last)
        case tree.Call():
            return call(node, names, _compile, last=last)
        case tree.Variable():
            return _variable(node.name, names)
        case tree.Bind():
            return _bind(node, names, last=last)
        case tree.Label():
            return _label(_compile(node.body, with_name(names, "label", node.name)))
        case tree.Break():
            return _break(node.name, names)
        case tree.ListOf():
            return _list(None if node.body is None else _compile(node.body, names))
        case tree.MapOf():
            return _map(node, names)
        case _:
            assert_never(node)


# ── Leaves ────────────────────────────────────────────────────────────────────────────────────────────────────


def _identity(run: Run, _scope: Scope, path: Path, value: object) -> Iterator[Item]:
    run.budget.spend()
    yield path, value


def _recurse_all(run: Run, _scope: Scope, path: Path, value: object) -> Iterator[Item]:
    return recurse_parts(run, path, value)


def _literal(constant: object) -> Code:
    def code(run: Run, _scope: Scope, path: Path, _value: object) -> Iterator[Item]:
        run.budget.spend()
        yield lost(path), constant

    return code


def _variable(name: str, names: Names | None) -> Code:
    found = find(names, frozenset({"variable"}), name)
    if found is None:
        if name == "ENV":
            return _literal({})
        raise ExpressionError(f"jq: ${name} is not defined.")
    hops = depth_of(names) - found.depth

    def code(run: Run, scope: Scope, path: Path, _value: object) -> Iterator[Item]:
        run.budget.spend()
        yield lost(path), entry(scope, hops)

    return code


def _format(name: str) -> Code:
    def code(run: Run, _scope: Scope, path: Path, value: object) -> Iterator[Item]:
        yield lost(path), formatted(name, value, run.budget)

    return code


def _text(node: tree.Text, names: Names | None) -> Code:
    pieces = [part if isinstance(part, str) else _compile(part, names) for part in node.parts]

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        def texts(count: int) -> Iterator[str]:
            """Give all texts that the first *count* pieces make; the last one varies slowest."""
            if not count:
                yield ""
                return
            piece = pieces[count - 1]
            if isinstance(piece, str):
                for before in texts(count - 1):
                    yield before + piece
                return
            for _, inserted in piece(run, scope, None, value):
                text = formatted(node.format, inserted, run.budget)
                for before in texts(count - 1):
                    run.budget.text(len(before) + len(text))
                    yield before + text

        for text in texts(len(pieces)):
            yield lost(path), text

    return code


# ── Parts of values ───────────────────────────────────────────────────────────────────────────────────────────


def _index(node: tree.Index, names: Names | None) -> Code:
    of = _compile(node.of, names)
    if isinstance(node.key, tree.Literal):
        constant = node.key.value

        def constant_key(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
            for where, whole in of(run, scope, path, value):
                run.budget.spend()
                yield extend(where, constant, whole), part(whole, constant)

        return constant_key
    key_code = _compile(node.key, names)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, key in key_code(run, scope, None, value):
            for where, whole in of(run, scope, path, value):
                run.budget.spend()
                yield extend(where, key, whole), part(whole, key)

    return code


def _slice(node: tree.Slice, names: Names | None) -> Code:
    of = _compile(node.of, names)
    nothing = _literal(None)
    start_code = _compile(node.start, names) if node.start else nothing
    end_code = _compile(node.end, names) if node.end else nothing

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, start in start_code(run, scope, None, value):
            for _, end in end_code(run, scope, None, value):
                key: dict[str, object] = {"start": start, "end": end}
                for where, whole in of(run, scope, path, value):
                    piece = part(whole, key)
                    if is_list(piece):
                        run.budget.members(len(piece))
                    run.budget.spend()
                    yield extend(where, key, whole), piece

    return code


def _iterate(of: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for where, whole in of(run, scope, path, value):
            yield from each_part(run, where, whole)

    return code


def _list(body: Code | None) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        members = [] if body is None else run.gathered(item[1] for item in body(run, scope, None, value))
        yield lost(path), members

    return code


def _map(node: tree.MapOf, names: Names | None) -> Code:
    pairs = [(_compile(key, names), _compile(value, names)) for key, value in node.members]

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        def maps(count: int) -> Iterator[dict[str, object]]:
            if not count:
                yield {}
                return
            key_code, value_code = pairs[count - 1]
            for before in maps(count - 1):
                for _, key in key_code(run, scope, None, value):
                    if not isinstance(key, str):
                        raise failure("Object keys must be strings, not {}", key)
                    for _, member in value_code(run, scope, None, value):
                        run.budget.spend()
                        yield {**before, key: member}

        for members in maps(len(pairs)):
            yield lost(path), members

    return code


# ── Flow ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _pipe(left: Code, right: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for where, piece in left(run, scope, path, value):
            yield from right(run, scope, where, piece)

    return code


def _comma(left: Code, right: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        yield from left(run, scope, path, value)
        yield from right(run, scope, path, value)

    return code


def _if(node: tree.If, names: Names | None, *, last: bool) -> Code:
    condition = _compile(node.condition, names)
    yes = _compile(node.yes, names, last=last)
    no = _compile(node.no, names, last=last)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, answer in condition(run, scope, None, value):
            run.budget.spend()
            yield from (yes if is_true(answer) else no)(run, scope, path, value)

    return code


def _try(node: tree.Try, names: Names | None) -> Code:
    body = _compile(node.body, names)
    handler = None if node.handler is None else _compile(node.handler, names)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        try:
            yield from body(run, scope, path, value)
        except JqError as error:
            if handler is None:
                return
            caught = error.value
        else:
            return
        yield from handler(run, scope, lost(path), caught)

    return code


def _label(body: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        label = object()
        try:
            yield from body(run, (label, scope), path, value)
        except BreakError as error:
            if error.label is not label:
                raise

    return code


def _break(name: str, names: Names | None) -> Code:
    found = find(names, frozenset({"label"}), name)
    if found is None:
        raise ExpressionError(f"jq: the label ${name} is not defined.")
    hops = depth_of(names) - found.depth

    def code(run: Run, scope: Scope, _path: Path, _value: object) -> Iterator[Item]:
        run.budget.spend()
        raise BreakError(entry(scope, hops))
        yield  # a generator, like the others

    return code


# ── Operators ─────────────────────────────────────────────────────────────────────────────────────────────────


def _negate(body: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, number in body(run, scope, None, value):
            if not is_number(number):
                raise failure("{} cannot be negated", number)
            run.budget.spend()
            yield lost(path), settled(-number if isinstance(number, int) else -float(number))

    return code


def _arithmetic(calculate: Callable[[object, object, Budget], object], left: Code, right: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        budget = run.budget
        for _, second in right(run, scope, None, value):
            for _, first in left(run, scope, None, value):
                budget.spend()
                yield lost(path), calculate(first, second, budget)

    return code


def _logic(node: tree.Binary, names: Names | None) -> Code:
    left = _compile(node.left, names)
    right = _compile(node.right, names)
    decides = node.operator == "or"

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, first in left(run, scope, None, value):
            run.budget.spend()
            if is_true(first) is decides:
                yield lost(path), decides
                continue
            for _, second in right(run, scope, None, value):
                yield lost(path), is_true(second)

    return code


def _alternative(left: Code, right: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        run.budget.spend()
        is_found = False
        try:
            for item in left(run, scope, path, value):
                if is_true(item[1]):
                    is_found = True
                    yield item
        except JqError:
            pass
        if not is_found:
            yield from right(run, scope, path, value)

    return code


def _paths(code: Code, run: Run, scope: Scope, value: object) -> Iterator[tuple[object, ...]]:
    for where, piece in code(run, scope, (), value):
        # `extend` refuses a value that is no part of the input; here it is only asked.
        extend(where, None, piece)
        yield where or ()


def _assign(node: tree.Assign, names: Names | None) -> Code:
    target = _compile(node.left, names)
    source = _compile(node.right, names)
    if node.operator == "|=":
        return _update(target, source)
    calculate = _ARITHMETIC.get(node.operator[:-1])

    def assigned(old: object, new: object, budget: Budget) -> object:
        if calculate is not None:
            return calculate(old, new, budget)
        return old if node.operator == "//=" and is_true(old) else new

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, new in source(run, scope, None, value):
            result = value
            for where in _paths(target, run, scope, value):
                result = put(result, where, assigned(get(result, where), new, run.budget), run.budget)
            yield lost(path), result

    return code


def _update(target: Code, source: Code) -> Code:
    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        result = value
        dropped: list[tuple[object, ...]] = []
        for where in _paths(target, run, scope, value):
            new = next(source(run, scope, None, get(result, where)), None)
            if new is None:
                dropped.append(where)
            else:
                result = put(result, where, new[1], run.budget)
        yield lost(path), without(result, dropped, run.budget)

    return code


# ── Variables ─────────────────────────────────────────────────────────────────────────────────────────────────


def _bind(node: tree.Bind, names: Names | None, *, last: bool) -> Code:
    source = _compile(node.source, names)
    scopes, inside = binder(node.patterns, names, _compile)
    # Errors of the body choose the next pattern, so then its calls must be made here.
    count = len(node.patterns)
    body = _compile(node.body, inside, last=last and count == 1)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for _, bound in source(run, scope, None, value):
            for number in range(count):
                try:
                    for inner in scopes(run, scope, bound, number):
                        run.budget.spend()
                        yield from body(run, inner, path, value)
                except JqError:
                    if number == count - 1:
                        raise
                else:
                    break

    return code


def _reduce(node: tree.Reduce, names: Names | None) -> Code:
    source = _compile(node.source, names)
    scopes, inside = binder(node.patterns, names, _compile)
    start = _compile(node.start, names)
    update = _compile(node.update, inside)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for state in start(run, scope, path, value):
            for _, bound in source(run, scope, None, value):
                for inner in scopes(run, scope, bound, 0):
                    run.budget.spend()
                    latest: Item = (lost(path), None)
                    for latest in update(run, inner, state[0], state[1]):  # noqa: B007 - the last one counts
                        pass
                    state = latest  # noqa: PLW2901 - what reducing means
            yield state

    return code


def _foreach(node: tree.ForEach, names: Names | None) -> Code:
    source = _compile(node.source, names)
    scopes, inside = binder(node.patterns, names, _compile)
    start = _compile(node.start, names)
    update = _compile(node.update, inside)
    extract = _compile(node.extract, inside)

    def code(run: Run, scope: Scope, path: Path, value: object) -> Iterator[Item]:
        for state in start(run, scope, path, value):
            for _, bound in source(run, scope, None, value):
                for inner in scopes(run, scope, bound, 0):
                    run.budget.spend()
                    for new in update(run, inner, state[0], state[1]):
                        state = new  # noqa: PLW2901 - the next round starts from the last one
                        yield from extract(run, inner, new[0], new[1])

    return code
