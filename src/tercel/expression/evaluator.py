"""The syntax tree to closures, and closures and a rendering to a value.

A compiled template holds no state: it is shared between threads. What is missing travels as a MissingError
up to the nearest `??`, `???`, `default` or `is defined`. Each tag pays for all nodes of its expression before
it evaluates them, so the closures themselves need not count.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tercel.errors import ExpressionError, MissingError
from tercel.expression import tree
from tercel.expression.arguments import Builtin, bound, in_order
from tercel.expression.filters import FILTERS, TESTS
from tercel.expression.functions import FUNCTIONS
from tercel.expression.methods import call, member
from tercel.expression.operators import BINARY, affirm, negate
from tercel.expression.rendering import Rendering, Scope
from tercel.expression.values import Entry, Loop, debug_text, is_list, is_map, kind_of, scalar_key, to_text, truth

Evaluate: TypeAlias = Callable[[Rendering], object]
Run: TypeAlias = Callable[[Rendering], None]
Apply: TypeAlias = Callable[[Rendering, object], object]

_LONGEST_PATH = 100


class Program:
    """A compiled template."""

    __slots__ = ("_blocks", "_body", "_macros", "_only")

    def __init__(self, template: tree.Template) -> None:
        self._body = _body(template.body)
        self._macros = {name: _macro(macro) for name, macro in template.macros.items()}
        self._blocks = {name: _body(block.body) for name, block in template.blocks.items()}
        single = template.body[0] if len(template.body) == 1 else None
        self._only = (_expression(single.value), single) if isinstance(single, tree.Print) else None

    def text(self, rendering: Rendering) -> str:
        """Render to text."""
        rendering.macros, rendering.blocks = self._macros, self._blocks
        if self._only is not None:
            evaluate, tag = self._only
            rendering.where = tag.where
            rendering.budget.spend(tag.cost)
            text = to_text(evaluate(rendering), rendering.budget)
            rendering.budget.emit(len(text), narrow=text.isascii())
            return text
        self._body(rendering)
        return "".join(rendering.out)

    def value(self, rendering: Rendering) -> object:
        """Render in typed mode: the one value that is printed, or text.

        Raises:
            ExpressionError: several values, or a value beside text, are printed.
        """
        rendering.macros, rendering.blocks = self._macros, self._blocks
        rendering.values = []
        self._body(rendering)
        return _single(rendering.values)


class _Printed:
    """A value printed in typed mode, apart from the literal text around it."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def _single(printed: Sequence[object]) -> object:
    """Give the one value of a typed render; literal text may follow a text, nothing may precede a value."""
    result: object = None
    for item in printed:
        if isinstance(item, _Printed):
            if item.value is None:
                continue
            if result is not None:
                raise ExpressionError("The template must print exactly one value here, and no text before it")
            result = item.value
        elif result is None:
            result = item
        elif isinstance(result, str):
            result += str(item)
        else:
            raise ExpressionError(f"The template prints {kind_of(result)} here, no text can follow it")
    return result


# Statements


def _body(statements: tree.Body) -> Run:
    runs = tuple(_statement(statement) for statement in statements)
    if len(runs) == 1:
        return runs[0]

    def run(rendering: Rendering) -> None:
        for each in runs:
            each(rendering)

    return run


def _statement(statement: tree.Statement) -> Run:
    match statement:
        case tree.Text():
            return _text(statement)
        case tree.Print():
            return _print(statement)
        case tree.If():
            return _if(statement)
        case tree.For():
            return _for(statement)
        case tree.Set():
            return _set(statement)
        case tree.Block():
            return _body(statement.body)
        case tree.FilterBody():
            return _filter_body(statement)


def _text(statement: tree.Text) -> Run:
    text = statement.text
    return lambda rendering: rendering.write(text)


def _print(statement: tree.Print) -> Run:
    evaluate, where, cost = _expression(statement.value), statement.where, statement.cost

    def run(rendering: Rendering) -> None:
        rendering.where = where
        budget = rendering.budget
        budget.spend(cost)
        value = evaluate(rendering)
        if rendering.values is None:
            rendering.write(to_text(value, budget))
        else:
            rendering.values.append(_Printed(value))

    return run


def _if(statement: tree.If) -> Run:
    branches = [
        (_expression(branch.condition), branch.cost, branch.where, _body(branch.body)) for branch in statement.branches
    ]
    otherwise = _body(statement.otherwise)

    def run(rendering: Rendering) -> None:
        for condition, cost, where, body in branches:
            rendering.where = where
            rendering.budget.spend(cost)
            if truth(condition(rendering), "The condition of `if`"):
                body(rendering)
                return
        otherwise(rendering)

    return run


def _for(statement: tree.For) -> Run:
    values, cost, where, name = _expression(statement.values), statement.cost, statement.where, statement.name
    body, otherwise = _body(statement.body), _body(statement.otherwise)

    def run(rendering: Rendering) -> None:
        rendering.where = where
        budget = rendering.budget
        budget.spend(cost)
        members = _members(values(rendering))
        if members is None:
            return
        if not members:
            otherwise(rendering)
            return
        loop = Loop(len(members))
        scope = Scope({"loop": loop}, rendering.scope)
        rendering.scope = scope
        for loop.index, item in enumerate(members):
            budget.spend()
            scope.values[name] = item
            body(rendering)
        rendering.scope = scope.parent or rendering.root

    return run


def _members(value: object) -> Sequence[object] | None:
    if value is None:
        return None
    if is_list(value):
        return list(value)
    if is_map(value):
        return [Entry(key, inner) for key, inner in list(value.items())]
    raise ExpressionError(f"`for` needs a list or map, not {kind_of(value)}")


def _set(statement: tree.Set) -> Run:
    evaluate, where, cost, name = _expression(statement.value), statement.where, statement.cost, statement.name

    def run(rendering: Rendering) -> None:
        rendering.where = where
        rendering.budget.spend(cost)
        rendering.assign(name, evaluate(rendering))

    return run


def _filter_body(statement: tree.FilterBody) -> Run:
    body, where, cost = _body(statement.body), statement.where, statement.cost
    steps = [_filter(step) for step in statement.steps]

    def run(rendering: Rendering) -> None:
        value: object = rendering.captured(body, "The tag `filter`")
        rendering.where = where
        budget = rendering.budget
        budget.spend(cost)
        for step in steps:
            value = step(rendering, value)
        rendering.write(to_text(value, budget))

    return run


def _macro(macro: tree.Macro) -> Callable[..., str]:
    """Compile a macro to a function of the rendering and the arguments by position and by name."""
    body = _body(macro.body)
    where = f"The macro `{macro.name}`"
    names = tuple(name for name, _ in macro.parameters)
    defaults = [None if default is None else _expression(default) for _, default in macro.parameters]

    def run(rendering: Rendering, positional: Sequence[Evaluate], named: Sequence[tuple[str, Evaluate]]) -> str:
        ordered = in_order(where, names, positional, named)
        arguments = {
            name: None if given is None else given(rendering) for name, given in zip(names, ordered, strict=True)
        }

        def inside(inner: Rendering) -> None:
            inner.variables = {}
            inner.scope = inner.root = Scope(arguments, None)
            for name, given, default in zip(names, ordered, defaults, strict=True):
                if given is None and default is not None:
                    arguments[name] = default(inner)
            body(inner)

        return rendering.captured(inside, where)

    return run


# Expressions


def _expression(node: tree.Expression) -> Evaluate:
    match node:
        case tree.Literal():
            value = node.value
            return lambda _: value
        case tree.Name():
            return _name(node.name)
        case tree.Path():
            return _path(node)
        case tree.Chain():
            return _chain(node)
        case tree.Call():
            return _call(node)
        case tree.Ternary():
            return _ternary(node)
        case tree.Unary():
            return _unary(node)
        case tree.ListOf():
            return _list(node)
        case tree.MapOf():
            return _map(node)
        case tree.Interpolation():
            return _interpolation(node)


def _name(name: str) -> Evaluate:
    def evaluate(rendering: Rendering) -> object:
        scope = rendering.scope
        while True:
            if name in scope.values:
                return scope.values[name]
            if scope.parent is None:
                break
            scope = scope.parent
        try:
            return rendering.variables[name]
        except KeyError:
            raise MissingError(f"Unable to find `{name}`", name) from None

    return evaluate


def _path(node: tree.Path) -> Evaluate:
    base = _expression(node.base)
    path = _written(node.base)
    # The name or constant key, the closure of any other key, what messages show, the arguments of a method.
    links: list[tuple[object, Evaluate | None, str, list[Evaluate] | None]] = []
    for link in node.links:
        if isinstance(link, tree.Subscript):
            if isinstance(link.key, tree.Literal):
                links.append((link.key.value, None, path, None))
            else:
                links.append((None, _expression(link.key), path, None))
            path = _longer(path, f"[{_written(link.key)}]")
        else:
            arguments = None if link.arguments is None else [_expression(argument) for argument in link.arguments]
            links.append((link.name, None, path, arguments))
            path = _longer(path, f".{link.name}" + ("" if arguments is None else "()"))

    def evaluate(rendering: Rendering) -> object:
        value = base(rendering)
        for name, dynamic, written, arguments in links:
            key = name if dynamic is None else dynamic(rendering)
            if arguments is not None:
                values = [argument(rendering) for argument in arguments]
                value = call(value, str(key), values, written, rendering.budget)
            elif type(key) is str and is_map(value) and key in value:
                value = value[key]
            else:
                value = member(value, key, written, rendering.budget)
        return value

    return evaluate


def _longer(path: str, link: str) -> str:
    """Add a link to what messages show of a path; a long path ends in `…`."""
    return path + link if len(path) + len(link) <= _LONGEST_PATH else path.removesuffix("…") + "…"


def _written(node: tree.Expression) -> str:
    """Say how the template wrote a value, shortened; for messages."""
    match node:
        case tree.Name():
            return node.name[:_LONGEST_PATH]
        case tree.Literal():
            return repr(node.value)[:40] if isinstance(node.value, (str, int, float)) else "null"
        case tree.Call():
            return f"{node.name[:_LONGEST_PATH]}()"
        case tree.Path():
            return _written(node.base) + "…"
        case _:
            return "(…)"


def _ternary(node: tree.Ternary) -> Evaluate:
    condition, then, otherwise = _expression(node.condition), _expression(node.then), _expression(node.otherwise)

    def evaluate(rendering: Rendering) -> object:
        value = condition(rendering)
        chosen = value is not None and truth(value, "The condition of `? :`")
        return then(rendering) if chosen else otherwise(rendering)

    return evaluate


def _unary(node: tree.Unary) -> Evaluate:
    operand = _expression(node.operand)
    if node.operator == "not":
        return lambda rendering: not truth(operand(rendering), "`not`")
    sign = negate if node.operator == "-" else affirm
    return lambda rendering: sign(operand(rendering))


def _list(node: tree.ListOf) -> Evaluate:
    items = [_expression(item) for item in node.items]
    count = len(items)

    def evaluate(rendering: Rendering) -> object:
        rendering.budget.members(count)
        return [item(rendering) for item in items]

    return evaluate


def _map(node: tree.MapOf) -> Evaluate:
    pairs = [(_expression(key), _expression(value)) for key, value in node.pairs]
    count = len(pairs)

    def evaluate(rendering: Rendering) -> object:
        rendering.budget.members(count, 100)
        return {scalar_key(key(rendering)): value(rendering) for key, value in pairs}

    return evaluate


def _interpolation(node: tree.Interpolation) -> Evaluate:
    parts = [_expression(part) for part in node.parts]

    def evaluate(rendering: Rendering) -> object:
        budget = rendering.budget
        values = [part(rendering) for part in parts]
        texts = ["" if value is None else debug_text(value, budget) for value in values]
        budget.text(sum(map(len, texts)), narrow=all(map(str.isascii, texts)))
        return "".join(texts)

    return evaluate


# Operators, filters and tests, one step after the other


def _chain(node: tree.Chain) -> Evaluate:
    first = _expression(node.first)
    steps = [_step(step) for step in node.steps]
    if not any(rescue for _, rescue in steps):
        applies = tuple(apply for apply, _ in steps)

        def evaluate(rendering: Rendering) -> object:
            value = first(rendering)
            for apply in applies:
                value = apply(rendering, value)
            return value

        return evaluate

    def evaluate_rescued(rendering: Rendering) -> object:
        value: object = None
        missing: MissingError | None = None
        try:
            value = first(rendering)
        except MissingError as error:
            missing = error
        for apply, rescue in steps:
            try:
                if missing is None:
                    value = apply(rendering, value)
                elif rescue is not None:
                    value = rescue(rendering)
                    missing = None
            except MissingError as error:
                missing = error
        if missing is not None:
            raise missing
        return value

    return evaluate_rescued


def _step(step: tree.Operation | tree.Filter | tree.Test) -> tuple[Apply, Evaluate | None]:
    """Compile a step: what it does with a value, and what it gives where everything before it is missing."""
    match step:
        case tree.Operation():
            return _operation(step)
        case tree.Filter():
            apply = _filter(step)
            return apply, (lambda rendering: apply(rendering, None)) if step.name == "default" else None
        case tree.Test():
            negated = step.negated
            if step.name == "defined":
                return lambda _, value: (value is not None) != negated, lambda _: negated
            return _test(step), None


def _operation(step: tree.Operation) -> tuple[Apply, Evaluate | None]:
    right = _expression(step.right)
    match step.operator:
        case "??":
            return lambda rendering, value: right(rendering) if value is None else value, right
        case "???":
            return lambda _, value: value, right
        case "and":
            return lambda rendering, value: truth(value, "`and`") and truth(right(rendering), "`and`"), None
        case "or":
            return lambda rendering, value: truth(value, "`or`") or truth(right(rendering), "`or`"), None
        case operator:
            operate = BINARY[operator]
            return lambda rendering, value: operate(value, right(rendering), rendering.budget), None


def _arguments(node: tree.Arguments) -> tuple[list[Evaluate], list[tuple[str, Evaluate]]]:
    return (
        [_expression(argument) for argument in node.positional],
        [(name, _expression(argument)) for name, argument in node.named],
    )


def _bound(where: str, builtin: Builtin, node: tree.Arguments) -> list[Evaluate | None] | ExpressionError:
    """Put the arguments in order, or give the error that evaluating the call raises."""
    positional, named = _arguments(node)
    try:
        return bound(where, builtin, positional, named)
    except ExpressionError as error:
        return error


def _failing(message: str) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise ExpressionError(message)

    return fail


def _filter(step: tree.Filter) -> Apply:
    name = step.name
    builtin = FILTERS.get(name)
    if builtin is None:
        return _failing(f"Unknown filter `{name}`")
    arguments = _bound(f"The filter `{name}`", builtin, step.arguments)
    if isinstance(arguments, ExpressionError):
        return _failing(arguments.message)
    run, keeps_null = builtin.run, builtin.keeps_null

    def apply(rendering: Rendering, value: object) -> object:
        values = [None if argument is None else argument(rendering) for argument in arguments]
        return None if value is None and keeps_null else run(rendering, value, *values)

    return apply


def _test(step: tree.Test) -> Apply:
    name, negated = step.name, step.negated
    test = TESTS.get(name)
    if test is None:
        return _failing(f"Unknown test `{name}`")
    return lambda rendering, value: test(rendering, value) != negated


def _call(node: tree.Call) -> Evaluate:
    name = node.name
    builtin = FUNCTIONS.get(name)
    if builtin is None:
        return _macro_call(node)
    arguments = _bound(f"The function `{name}`", builtin, node.arguments)
    if isinstance(arguments, ExpressionError):
        return _failing(arguments.message)
    run = builtin.run

    def evaluate(rendering: Rendering) -> object:
        return run(rendering, *[None if argument is None else argument(rendering) for argument in arguments])

    return evaluate


def _macro_call(node: tree.Call) -> Evaluate:
    name = node.name
    positional, named = _arguments(node.arguments)

    def evaluate(rendering: Rendering) -> object:
        macro = rendering.macros.get(name)
        if macro is None:
            raise ExpressionError(f"Unknown function `{name}`")
        return macro(rendering, positional, named)

    return evaluate
