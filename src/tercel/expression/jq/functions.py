"""jq's builtins that make one value of one input and the values of their arguments.

Each takes the budget, the input and the arguments. Builtins that run their arguments are in `streams`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from tercel.expression.budget import Budget
from tercel.expression.jq import texts, times
from tercel.expression.jq.mathematics import MATHEMATICS
from tercel.expression.jq.paths import part, put, without
from tercel.expression.jq.runtime import JqError
from tercel.expression.jq.values import (
    add,
    as_double,
    equal,
    failure,
    is_list,
    is_map,
    is_number,
    is_true,
    json_text,
    kind_of,
    order_key,
    settled,
    text_of,
)
from tercel.expression.values import deeper_than

_MAX_DEPTH = 200


def _length(_budget: Budget, value: object) -> object:
    if value is None:
        return 0
    if isinstance(value, str) or is_list(value) or is_map(value):
        return len(value)
    if isinstance(value, bool):
        raise failure("{} has no length", value)
    return abs(value) if isinstance(value, int) else settled(math.fabs(as_double(value)))


def _keys(budget: Budget, value: object) -> object:
    if is_map(value):
        budget.members(len(value))
        return sorted(value)
    return _keys_unsorted(budget, value)


def _keys_unsorted(budget: Budget, value: object) -> object:
    if is_list(value):
        budget.members(len(value))
        return list(range(len(value)))
    if is_map(value):
        budget.members(len(value))
        return list(value)
    raise failure("{} has no keys", value)


def _has(_budget: Budget, value: object, key: object) -> object:
    if is_map(value) and isinstance(key, str):
        return key in value
    if is_list(value) and is_number(key):
        return 0 <= key < len(value)
    raise JqError(f"Cannot check whether {kind_of(value)} has a {kind_of(key)} key")


def _contains(budget: Budget, value: object, wanted: object) -> object:
    return _is_within(budget, value, wanted, 0)


def _is_within(budget: Budget, value: object, wanted: object, depth: int) -> bool:
    budget.spend()
    if isinstance(value, str) and isinstance(wanted, str):
        budget.scan(len(value))
        return wanted in value
    if is_list(value) and is_list(wanted):
        deeper = deeper_than(depth)
        return all(any(_is_within_same(budget, member, one, deeper) for member in value) for one in wanted)
    if is_map(value) and is_map(wanted):
        deeper = deeper_than(depth)
        return all(
            key in value and _is_within_same(budget, value[key], member, deeper) for key, member in wanted.items()
        )
    if kind_of(value) == kind_of(wanted):
        return equal(value, wanted, budget)
    raise failure("{} and {} cannot have their containment checked", value, wanted)


def _is_within_same(budget: Budget, value: object, wanted: object, depth: int) -> bool:
    return kind_of(value) == kind_of(wanted) and _is_within(budget, value, wanted, depth)


def add_all(budget: Budget, value: object) -> object:
    """`add`: the sum of a list's or map's members, null where there are none."""
    members = list(value.values()) if is_map(value) else value
    if not is_list(members):
        raise failure("Cannot iterate over {}", value)
    # Adding texts or lists one by one would copy the first of them again and again.
    words = [member for member in members if isinstance(member, str)]
    if members and len(words) == len(members):
        budget.text(sum(map(len, words)))
        budget.spend(len(members))
        return "".join(words)
    lists = [member for member in members if is_list(member)]
    if members and len(lists) == len(members):
        budget.members(sum(len(member) for member in lists))
        budget.spend(len(members))
        return [one for member in lists for one in member]
    total: object = None
    for member in members:
        budget.spend()
        total = add(total, member, budget)
    return total


def _flatten(budget: Budget, value: object, depth: object = 1e9) -> object:
    if not is_number(depth) or depth < 0:
        raise JqError("flatten depth must not be negative")
    members = list(value.values()) if is_map(value) else value
    if not is_list(members):
        raise failure("Cannot iterate over {}", value)
    flat: list[object] = []
    _flatten_into(flat, members, min(as_double(depth), _MAX_DEPTH), budget)
    return flat


def _flatten_into(flat: list[object], members: Sequence[object], depth: float, budget: Budget) -> None:
    for member in members:
        budget.spend()
        if is_list(member) and depth > 0:
            _flatten_into(flat, member, depth - 1, budget)
        else:
            flat.append(member)
    budget.members(len(flat), 0)


def sorted_list(budget: Budget, value: object) -> list[object]:
    """Give a list's members in jq's order.

    Raises:
        JqError: the value is no list.
    """
    if not is_list(value):
        raise failure("{} cannot be sorted, as it is not an array", value)
    budget.members(len(value))
    return sorted(value, key=lambda member: order_key(member, budget))


def _unique(budget: Budget, value: object) -> object:
    members: list[object] = []
    for member in sorted_list(budget, value):
        if not members or order_key(members[-1], budget) != order_key(member, budget):
            members.append(member)
    return members


def _least(budget: Budget, value: object) -> object:
    members = _members(value)
    return min(members, key=lambda member: order_key(member, budget), default=None)


def _greatest(budget: Budget, value: object) -> object:
    # Of equal ones the last counts.
    members = _members(value)
    return max(reversed(members), key=lambda member: order_key(member, budget), default=None)


def _members(value: object) -> list[object]:
    if not is_list(value):
        raise failure("Cannot iterate over {}", value)
    return value


def _reverse(budget: Budget, value: object) -> object:
    if isinstance(value, str):
        return value[::-1]
    if value is None:
        return []
    members = _members(value)
    budget.members(len(members))
    return members[::-1]


def _transpose(budget: Budget, value: object) -> object:
    rows: list[list[object]] = [_members(row) for row in _members(value)]
    width = max((len(row) for row in rows), default=0)
    budget.members(width)
    budget.spend(width * len(rows))
    return [[row[at] if at < len(row) else None for row in rows] for at in range(width)]


def _to_entries(budget: Budget, value: object) -> object:
    keys = _keys_unsorted(budget, value)
    budget.members(len(_members(keys)), 200)
    return [{"key": key, "value": part(value, key)} for key in _members(keys)]


def _from_entries(budget: Budget, value: object) -> object:
    entries = list(value.values()) if is_map(value) else _members(value)
    made: dict[str, object] = {}
    for entry in entries:
        budget.spend()
        if not is_map(entry):
            raise JqError(f'Cannot index {kind_of(entry)} with "key"')
        key = next((entry[name] for name in ("key", "k", "name", "Name", "Key", "K") if _is_named(entry, name)), None)
        found = next((name for name in ("value", "v", "Value", "V") if _is_named(entry, name)), None)
        if is_list(key) or is_map(key):
            raise failure("Cannot use {} as object key", key)
        if found is None:
            found = next((name for name in ("value", "v", "Value", "V") if name in entry), None)
        made[text_of(key, budget)] = entry[found] if found else None
    return made


def _is_named(entry: dict[str, object], name: str) -> bool:
    return name in entry and entry[name] is not None and (entry[name] is not False or name in {"key", "value"})


def _bsearch(budget: Budget, value: object, wanted: object) -> object:
    members = _members(value)
    key = order_key(wanted, budget)
    low, high = 0, len(members)
    while low < high:
        middle = (low + high) // 2
        found = order_key(members[middle], budget)
        if found == key:
            return middle
        low, high = (middle + 1, high) if found < key else (low, middle)
    return -1 - low


def _indices(budget: Budget, value: object, wanted: object) -> object:
    if value is None:
        return None
    if isinstance(value, str) and isinstance(wanted, str):
        places: list[object] = []
        at = value.find(wanted) if wanted else -1
        while at >= 0:
            budget.spend()
            places.append(at)
            at = value.find(wanted, at + 1)
        return places
    if is_list(value) and is_list(wanted):
        budget.spend((len(value) + 1) * (len(wanted) + 1))
        return part(value, wanted)
    if is_list(value):
        return [at for at, member in enumerate(value) if equal(member, wanted, budget)]
    return part(value, wanted)


def _index(budget: Budget, value: object, wanted: object) -> object:
    places = _indices(budget, value, wanted)
    return places[0] if is_list(places) and places else None


def _rindex(budget: Budget, value: object, wanted: object) -> object:
    places = _indices(budget, value, wanted)
    return places[-1] if is_list(places) and places else None


def _path_of(path: object) -> list[object]:
    if not is_list(path):
        raise JqError("Path must be specified as an array")
    return path


def _setpath(budget: Budget, value: object, path: object, new: object) -> object:
    return put(value, _path_of(path), new, budget)


def _delpaths(budget: Budget, value: object, paths: object) -> object:
    if not is_list(paths):
        raise JqError("Paths must be specified as an array")
    return without(value, [_path_of(path) for path in paths], budget)


def _nwise(budget: Budget, value: object, size: object) -> object:
    if not is_number(size) or size < 1 or not (is_list(value) or isinstance(value, str)):
        raise failure("{} cannot be split into parts", value)
    step = int(size)
    budget.members(len(value) // step + 1, 64)
    return [value[at : at + step] for at in range(0, len(value), step)]


def _raise(_budget: Budget, value: object) -> object:
    raise raised(value)


def _raise_message(_budget: Budget, _value: object, message: object) -> object:
    raise raised(message)


def raised(value: object) -> JqError:
    """Make the error of a program's own `error`."""
    return JqError(value, value if isinstance(value, str) else f"an error with the value {kind_of(value)}")


def _refuse(name: str) -> Callable[..., object]:
    def function(*_: object) -> object:
        raise JqError(f"{name} is not available")

    return function


def _to_string(budget: Budget, value: object) -> object:
    return text_of(value, budget)


def _number_test(test: Callable[[float], bool]) -> Callable[[Budget, object], object]:
    def function(_budget: Budget, value: object) -> object:
        return test(as_double(value))

    return function


def _is_normal(number: float) -> bool:
    return math.isfinite(number) and abs(number) >= 2.2250738585072014e-308


def _constant(value: object) -> Callable[[Budget, object], object]:
    return lambda _budget, _value: value


def _to_array(_budget: Budget, value: object) -> object:
    return value if is_list(value) else [value]


def _absolute(_budget: Budget, value: object) -> object:
    if not is_number(value):
        raise failure("{} has no absolute value", value)
    return -value if value < 0 else value


def _inside(budget: Budget, value: object, whole: object) -> object:
    return _contains(budget, whole, value)


def _in(budget: Budget, value: object, whole: object) -> object:
    return _has(budget, whole, value)


def _to_json(budget: Budget, value: object) -> object:
    return json_text(value, budget)


def _format(budget: Budget, value: object, name: object) -> object:
    return texts.formatted(text_of(name, budget), value, budget)


def _ascii(budget: Budget, value: object) -> object:
    return texts.implode(budget, [value])


def _same(_budget: Budget, value: object, *_: object) -> object:
    return value


def _not(_budget: Budget, value: object) -> object:
    return not is_true(value)


def _kind(_budget: Budget, value: object) -> object:
    return kind_of(value)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **MATHEMATICS,
    "length/0": _length,
    "utf8bytelength/0": texts.utf8_length,
    "not/0": _not,
    "type/0": _kind,
    "keys/0": _keys,
    "keys_unsorted/0": _keys_unsorted,
    "has/1": _has,
    "contains/1": _contains,
    "inside/1": _inside,
    "in/1": _in,
    "add/0": add_all,
    "flatten/0": _flatten,
    "flatten/1": _flatten,
    "sort/0": sorted_list,
    "unique/0": _unique,
    "min/0": _least,
    "max/0": _greatest,
    "reverse/0": _reverse,
    "transpose/0": _transpose,
    "to_entries/0": _to_entries,
    "from_entries/0": _from_entries,
    "bsearch/1": _bsearch,
    "indices/1": _indices,
    "_indices/1": _indices,
    "index/1": _index,
    "rindex/1": _rindex,
    "setpath/2": _setpath,
    "delpaths/1": _delpaths,
    "_nwise/1": _nwise,
    "toarray/0": _to_array,
    "abs/0": _absolute,
    "tostring/0": _to_string,
    "tojson/0": _to_json,
    "fromjson/0": texts.from_json,
    "tonumber/0": texts.to_number,
    "format/1": _format,
    "split/1": texts.split,
    "join/1": texts.join,
    "startswith/1": texts.starts_with,
    "endswith/1": texts.ends_with,
    "ltrimstr/1": texts.without_start,
    "rtrimstr/1": texts.without_end,
    "trim/0": texts.trimmed(str.strip),
    "ltrim/0": texts.trimmed(str.lstrip),
    "rtrim/0": texts.trimmed(str.rstrip),
    "ascii_downcase/0": texts.cased("A", "Z", 32),
    "ascii_upcase/0": texts.cased("a", "z", -32),
    "explode/0": texts.explode,
    "implode/0": texts.implode,
    "ascii/0": _ascii,
    "error/0": _raise,
    "error/1": _raise_message,
    "halt/0": _refuse("halt"),
    "halt_error/0": _refuse("halt_error"),
    "halt_error/1": _refuse("halt_error"),
    "input/0": _refuse("input"),
    "inputs/0": _refuse("inputs"),
    "now/0": _refuse("now"),
    "modulemeta/0": _refuse("modulemeta"),
    "get_search_list/0": _constant([]),
    "get_prog_origin/0": _constant(None),
    "get_jq_origin/0": _constant(None),
    "input_filename/0": _constant(None),
    "input_line_number/0": _constant(0),
    "debug/0": _same,
    "debug/1": _same,
    "stderr/0": _same,
    "env/0": _constant({}),
    "infinite/0": _constant(math.inf),
    "nan/0": _constant(math.nan),
    "isinfinite/0": _number_test(math.isinf),
    "isnan/0": _number_test(math.isnan),
    "isnormal/0": _number_test(_is_normal),
    "isfinite/0": _number_test(lambda number: not math.isinf(number)),
    "gmtime/0": times.broken_down,
    "localtime/0": times.broken_down,
    "mktime/0": times.seconds_of,
    "strftime/1": times.written,
    "strflocaltime/1": times.written,
    "strptime/1": times.read,
    "fromdateiso8601/0": times.from_iso,
    "fromdate/0": times.from_iso,
    "todateiso8601/0": times.to_iso,
    "todate/0": times.to_iso,
    "date/0": times.to_iso,
}
