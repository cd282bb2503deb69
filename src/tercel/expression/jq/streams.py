"""jq's builtins that run their arguments: any number of results, and paths kept where a part of the input comes out."""

import math
from collections.abc import Callable, Iterator, Sequence

from tercel.expression.budget import Budget
from tercel.expression.jq import regexes
from tercel.expression.jq.functions import add_all
from tercel.expression.jq.paths import extend, get, part, put, without
from tercel.expression.jq.runtime import MAX_CALLS, Closure, Item, JqError, Path, Results, Run, lost, too_deep
from tercel.expression.jq.values import (
    failure,
    is_list,
    is_map,
    is_number,
    is_true,
    kind_of,
    order_key,
    settled,
    text_of,
)

_Stream = Callable[[Run, Sequence[Closure], Path, object], Iterator[Item]]
_MAX_DEPTH = 200


def each_part(run: Run, path: Path, value: object) -> Iterator[Item]:
    """`.[]`: the members of a list or map."""
    if is_list(value):
        for at, member in enumerate(value):
            run.budget.spend()
            yield extend(path, at, value), member
    elif is_map(value):
        for key, member in value.items():
            run.budget.spend()
            yield extend(path, key, value), member
    else:
        raise failure("Cannot iterate over {}", value)


def recurse_parts(run: Run, path: Path, value: object) -> Iterator[Item]:
    """`..`: the input and all its parts, each before its own parts."""
    open_parts: list[Iterator[Item]] = [iter([(path, value)])]
    while open_parts:
        item = next(open_parts[-1], None)
        if item is None:
            open_parts.pop()
            continue
        run.budget.spend()
        yield item
        if is_list(item[1]) or is_map(item[1]):
            open_parts.append(each_part(run, item[0], item[1]))


def _empty(_run: Run, _arguments: Sequence[Closure], _path: Path, _value: object) -> Iterator[Item]:
    return iter(())


def _recurse_all(run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    return recurse_parts(run, path, value)


def _recurse(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`recurse(f)`, `recurse(f; condition)`."""
    pending = [Results(iter([(path, value)]))]
    while pending:
        item = pending[-1].take()
        if item is None:
            pending.pop()
            continue
        run.budget.spend()
        yield item
        _go_on(pending, _where(run, arguments, item))


def _go_on(pending: list[Results], items: Iterator[Item]) -> None:
    """Let *items* come next; steps without further results are forgotten, so that a chain takes no room."""
    if pending[-1].is_over():
        pending.pop()
    elif len(pending) >= MAX_CALLS:
        raise too_deep()
    pending.append(Results(items))


def _where(run: Run, arguments: Sequence[Closure], item: Item) -> Iterator[Item]:
    for found in run.items(arguments[0], item[0], item[1]):
        if len(arguments) == 1:
            yield found
            continue
        for answer in run.values(arguments[1], found[1]):
            if is_true(answer):
                yield found


def _select(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for answer in run.values(arguments[0], value):
        if is_true(answer):
            yield path, value


def _of_kinds(*kinds: str) -> _Stream:
    def stream(_run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
        return iter([(path, value)] if kind_of(value) in kinds else [])

    return stream


def _if_number(test: Callable[[float], bool]) -> _Stream:
    def stream(_run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
        return iter([(path, value)] if is_number(value) and test(float(value)) else [])

    return stream


def _map(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    members = (result for _, member in each_part(run, None, value) for result in run.values(arguments[0], member))
    yield lost(path), run.gathered(members)


def _map_values(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    if is_list(value):
        made = (next(run.items(arguments[0], None, member), None) for member in value)
        yield lost(path), run.gathered(item[1] for item in made if item is not None)
        return
    changed: dict[str, object] = {}
    for key, member in value.items() if is_map(value) else ():
        run.budget.spend()
        found = next(run.items(arguments[0], None, member), None)
        if found is not None:
            changed[key] = found[1]
    if not is_map(value):
        raise failure("Cannot iterate over {}", value)
    run.budget.members(len(changed), 100)
    yield lost(path), changed


def _paths(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`paths`, `paths(condition)`."""
    for where, member in recurse_parts(run, (), value):
        if not where:
            continue
        if not arguments:
            yield lost(path), list(where)
            continue
        for answer in run.values(arguments[0], member):
            if is_true(answer):
                yield lost(path), list(where)


def _leaf_paths(run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for where, member in recurse_parts(run, (), value):
        if where and not (is_list(member) or is_map(member)):
            yield lost(path), list(where)


def _path(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for where in _own_paths(run, arguments[0], value):
        yield lost(path), list(where)


def _own_paths(run: Run, argument: Closure, value: object) -> Iterator[tuple[object, ...]]:
    for where, member in run.items(argument, (), value):
        extend(where, None, member)
        yield where or ()


def _delete(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), without(value, list(_own_paths(run, arguments[0], value)), run.budget)


def _pick(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    picked: object = None
    for where in _own_paths(run, arguments[0], value):
        picked = put(picked, where, get(value, where), run.budget)
    yield lost(path), picked


def _getpath(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for given in run.values(arguments[0], value):
        if not is_list(given):
            raise JqError("Path must be specified as an array")
        where = path
        for key in given:
            where = extend(where, key, value)
        yield where, get(value, given)


def _to_stream(run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for event in _events(run, (), value):
        yield lost(path), event


def _events(run: Run, path: tuple[object, ...], value: object) -> Iterator[object]:
    """Give path and value of each leaf; behind the parts of a list or map the path of the last one alone."""
    if len(path) > _MAX_DEPTH:
        raise JqError("Path too deep")
    if not (is_list(value) or is_map(value)) or not value:
        run.budget.spend()
        yield [list(path), value]
        return
    where: Path = path
    for where, member in each_part(run, path, value):
        yield from _events(run, where or (), member)
    yield [list(where or ())]


def _from_stream(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    made: object = None
    for event in run.values(arguments[0], value):
        where = event[0] if is_list(event) and event else None
        if not is_list(event) or not is_list(where):
            raise JqError("Invalid streaming format")
        if len(event) > 1:
            made = put(made, where, event[1], run.budget) if where else event[1]
        if (not where) if len(event) > 1 else len(where) == 1:
            yield lost(path), made
            made = None


def _truncate_stream(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for event in run.values(arguments[0], value):
        where = event[0] if is_list(event) and event else None
        if not is_list(event) or not is_list(where) or not is_number(value):
            raise JqError("Invalid streaming format")
        if len(where) > value:
            yield lost(path), [where[int(value) :], *event[1:]]


def _first(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for item in run.items(arguments[0], path, value):
        yield item
        return


def _last(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    latest: Item | None = None
    for latest in run.items(arguments[0], path, value):  # noqa: B007 - the last one counts
        run.budget.spend()
    if latest is not None:
        yield latest


def _limit(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for count in run.values(arguments[0], value):
        if not is_number(count):
            raise failure("{} is no number of results", count)
        if count == 0:
            continue
        # A negative count gives everything, as in jq 1.6.
        left = math.inf if count < 0 else math.ceil(count) if math.isfinite(count) else math.inf
        for item in run.items(arguments[1], path, value):
            yield item
            left -= 1
            if left <= 0:
                break


def _nth(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for number in run.values(arguments[0], value):
        if len(arguments) == 1:
            yield extend(path, number, value), part(value, number)
            continue
        if not is_number(number) or number < 0:
            raise JqError("Out of bounds negative array index")
        for at, item in enumerate(run.items(arguments[1], path, value)):
            if at >= number:
                yield item
                break


def _part_at(index: int) -> _Stream:
    def stream(_run: Run, _arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
        return iter([(extend(path, index, value), part(value, index))])

    return stream


def _is_empty(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), next(run.items(arguments[0], None, value), None) is None


def _while(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`while(condition; update)`."""
    return _recurse_while(run, arguments, (path, value), yields_last=False)


def _until(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`until(condition; update)`."""
    return _recurse_while(run, arguments, (path, value), yields_last=True)


def _recurse_while(run: Run, arguments: Sequence[Closure], start: Item, *, yields_last: bool) -> Iterator[Item]:
    pending = [Results(iter([start]))]
    while pending:
        item = pending[-1].take()
        if item is None:
            pending.pop()
            continue
        run.budget.spend()
        for answer in run.values(arguments[0], item[1]):
            if is_true(answer) is yields_last:
                if yields_last:
                    yield item
                continue
            if not yields_last:
                yield item
            _go_on(pending, run.items(arguments[1], item[0], item[1]))
            break


def _repeat(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`repeat(update)`: the input, then the results of the update, for ever."""
    return _recurse(run, arguments, path, value)


def _range(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`range(end)`, `range(start; end)`, `range(start; end; step)`."""
    zero: Iterator[object] = iter([0])
    starts = run.values(arguments[0], value) if len(arguments) > 1 else zero
    for start in starts:
        for end in run.values(arguments[min(1, len(arguments) - 1)], value):
            for step in run.values(arguments[2], value) if len(arguments) > 2 else (1,):
                if not (is_number(start) and is_number(end) and is_number(step)):
                    raise JqError("Range bounds must be numeric")
                for number in _numbers(float(start), float(end), float(step)):
                    run.budget.spend()
                    yield lost(path), settled(number)


def _numbers(number: float, end: float, step: float) -> Iterator[float]:
    while (number < end) if step > 0 else (number > end) if step < 0 else (number < end):
        yield number
        number += step


def _any_all(*, decides: bool) -> _Stream:
    def stream(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
        members: Iterator[object]
        if len(arguments) == 2:
            members = run.values(arguments[0], value)
        else:
            members = (member for _, member in each_part(run, None, value))
        for member in members:
            answers = run.values(arguments[-1], member) if arguments else iter([member])
            if any(is_true(answer) is decides for answer in answers):
                yield lost(path), decides
                return
        yield lost(path), not decides

    return stream


def _is_in(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`IN(values)`, `IN(source; values)`."""
    sources = run.values(arguments[0], value) if len(arguments) > 1 else iter([value])
    keys = [order_key(source, run.budget) for source in sources]
    run.budget.members(len(keys))
    for member in run.values(arguments[-1], value):
        run.budget.spend(len(keys))
        if order_key(member, run.budget) in keys:
            yield lost(path), True
            return
    yield lost(path), False


def _index_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`INDEX(key)`, `INDEX(source; key)`: a map from key to member; of equal keys the last counts."""
    if len(arguments) > 1:
        members = run.values(arguments[0], value)
    else:
        members = (member for _, member in each_part(run, None, value))
    made: dict[str, object] = {}
    for member in members:
        for key in run.values(arguments[-1], member):
            made[text_of(key, run.budget)] = member
            run.budget.members(len(made), 0)
    yield lost(path), made


def _keyed(run: Run, argument: Closure, value: object) -> list[tuple[tuple[object, ...], object]]:
    """Give the members of a list with the key that the argument gives each, which may be of several values."""
    if not is_list(value):
        raise failure("Cannot index {} with number", value)
    run.budget.members(len(value), 100)
    return [(order_key(list(run.values(argument, member)), run.budget), member) for member in value]


def _sorted_pairs(run: Run, argument: Closure, value: object) -> list[tuple[tuple[object, ...], object]]:
    if not is_list(value):
        raise failure("{} cannot be sorted, as it is not an array", value)
    return sorted(_keyed(run, argument, value), key=lambda pair: pair[0])


def _sort_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), [member for _, member in _sorted_pairs(run, arguments[0], value)]


def _groups(run: Run, argument: Closure, value: object) -> list[list[object]]:
    groups: list[list[object]] = []
    latest: tuple[object, ...] | None = None
    for key, member in _sorted_pairs(run, argument, value):
        if latest is None or key != latest:
            groups.append([])
            latest = key
        groups[-1].append(member)
    return groups


def _group_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), list(_groups(run, arguments[0], value))


def _unique_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), [group[0] for group in _groups(run, arguments[0], value)]


def _min_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    pairs = _keyed(run, arguments[0], value)
    yield lost(path), min(pairs, key=lambda pair: pair[0])[1] if pairs else None


def _max_by(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    # Of equal ones the last counts.
    pairs = _keyed(run, arguments[0], value)[::-1]
    yield lost(path), max(pairs, key=lambda pair: pair[0])[1] if pairs else None


def _walk(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    for result in _walked(run, arguments[0], value, 0):
        yield lost(path), result


def _walked(run: Run, argument: Closure, value: object, depth: int) -> Iterator[object]:
    run.budget.spend()
    if depth > _MAX_DEPTH:
        raise JqError("walk: the value is nested too deep")
    if is_list(value):
        value = [result for member in value for result in _walked(run, argument, member, depth + 1)]
        run.budget.members(len(value))
    elif is_map(value):
        made: dict[str, object] = {}
        for key, member in value.items():
            for result in _walked(run, argument, member, depth + 1):
                made[key] = result
                break
        value = made
    return run.values(argument, value)


def _combinations(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`combinations`: one member of each list, in all ways; `combinations(n)`: n times the same list."""
    counts = run.values(arguments[0], value) if arguments else iter([None])
    for count in counts:
        if count is None:
            lists = [_listed(member) for _, member in each_part(run, None, value)]
        else:
            times = int(count) if is_number(count) else 0
            run.budget.members(times)
            lists = [_listed(value)] * times
        for chosen in _choices(lists, run.budget):
            yield lost(path), chosen


def _choices(lists: Sequence[Sequence[object]], budget: Budget) -> Iterator[list[object]]:
    from itertools import product  # noqa: PLC0415 - rarely used

    for chosen in product(*lists):
        budget.spend(1 + len(chosen) // 16)
        yield list(chosen)


def _listed(value: object) -> Sequence[object]:
    if is_map(value):
        return list(value.values())
    if not is_list(value):
        raise failure("Cannot iterate over {}", value)
    return value


def _add(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    yield lost(path), add_all(run.budget, run.gathered(run.values(arguments[0], value)))


STREAMS: dict[str, _Stream] = {
    "empty/0": _empty,
    "recurse/0": _recurse_all,
    "recurse_down/0": _recurse_all,
    "recurse/1": _recurse,
    "recurse/2": _recurse,
    "select/1": _select,
    "arrays/0": _of_kinds("array"),
    "objects/0": _of_kinds("object"),
    "iterables/0": _of_kinds("array", "object"),
    "booleans/0": _of_kinds("boolean"),
    "numbers/0": _of_kinds("number"),
    "normals/0": _if_number(lambda number: math.isfinite(number) and abs(number) >= 2.2250738585072014e-308),
    "finites/0": _if_number(lambda number: not math.isinf(number) and not math.isnan(number)),
    "strings/0": _of_kinds("string"),
    "nulls/0": _of_kinds("null"),
    "values/0": _of_kinds("boolean", "number", "string", "array", "object"),
    "scalars/0": _of_kinds("null", "boolean", "number", "string"),
    "scalars_or_empty/0": _of_kinds("null", "boolean", "number", "string"),
    "map/1": _map,
    "map_values/1": _map_values,
    "add/1": _add,
    "path/1": _path,
    "paths/0": _paths,
    "paths/1": _paths,
    "leaf_paths/0": _leaf_paths,
    "del/1": _delete,
    "pick/1": _pick,
    "getpath/1": _getpath,
    "tostream/0": _to_stream,
    "fromstream/1": _from_stream,
    "truncate_stream/1": _truncate_stream,
    "first/0": _part_at(0),
    "last/0": _part_at(-1),
    "first/1": _first,
    "last/1": _last,
    "nth/1": _nth,
    "nth/2": _nth,
    "limit/2": _limit,
    "isempty/1": _is_empty,
    "while/2": _while,
    "until/2": _until,
    "repeat/1": _repeat,
    "range/1": _range,
    "range/2": _range,
    "range/3": _range,
    "any/0": _any_all(decides=True),
    "any/1": _any_all(decides=True),
    "any/2": _any_all(decides=True),
    "all/0": _any_all(decides=False),
    "all/1": _any_all(decides=False),
    "all/2": _any_all(decides=False),
    "IN/1": _is_in,
    "IN/2": _is_in,
    "INDEX/1": _index_by,
    "INDEX/2": _index_by,
    "sort_by/1": _sort_by,
    "group_by/1": _group_by,
    "unique_by/1": _unique_by,
    "min_by/1": _min_by,
    "max_by/1": _max_by,
    "walk/1": _walk,
    "combinations/0": _combinations,
    "combinations/1": _combinations,
    "test/1": regexes.test,
    "test/2": regexes.test,
    "match/1": regexes.match,
    "match/2": regexes.match,
    "capture/1": regexes.capture,
    "capture/2": regexes.capture,
    "scan/1": regexes.scan,
    "scan/2": regexes.scan,
    "split/2": regexes.split,
    "splits/1": regexes.splits,
    "splits/2": regexes.splits,
    "sub/2": regexes.sub,
    "sub/3": regexes.sub,
    "gsub/2": regexes.gsub,
    "gsub/3": regexes.gsub,
}
