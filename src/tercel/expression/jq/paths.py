"""Parts of jq's values: reading, setting and deleting at a path. Values are never changed, copies are."""

import math
from collections.abc import Sequence

from tercel.expression.budget import Budget
from tercel.expression.jq.runtime import LOST, JqError, Path
from tercel.expression.jq.values import failure, is_list, is_map, is_number, kind_of, order_key

MAX_PATH = 200


def extend(path: Path, key: object, value: object) -> Path:
    """Give the path of *value*'s part *key*.

    Raises:
        JqError: the value is no part of the input.
    """
    if path is None:
        return None
    if path is LOST:
        raise failure("Invalid path expression with result {}", value)
    if len(path) >= MAX_PATH:
        raise JqError("Path too deep")
    return (*path, key)


def part(value: object, key: object) -> object:
    """Give `value[key]`; null where there is none.

    Raises:
        JqError: such a value has no such parts.
    """
    if is_map(value) and isinstance(key, str):
        return value.get(key)
    if is_list(value) and is_number(key):
        index = _index(key)
        if index is None:
            return None
        index += len(value) if index < 0 else 0
        return value[index] if 0 <= index < len(value) else None
    if is_map(key) and (is_list(value) or value is None or isinstance(value, str)):
        start, end = _bounds(key, 0 if value is None else len(value))
        return None if value is None else value[start:end]
    if value is None and (isinstance(key, str) or is_number(key) or key is None):
        return None
    if is_list(value) and is_list(key):
        if not key:
            return None
        return [at for at in range(len(value) - len(key) + 1) if _same(value[at : at + len(key)], key)]
    raise _no_part(value, key)


def _same(left: list[object], right: list[object]) -> bool:
    budget = Budget()
    return order_key(left, budget) == order_key(right, budget)


def _no_part(value: object, key: object) -> JqError:
    if isinstance(key, str):
        return JqError(
            f'Cannot index {kind_of(value)} with string "{key[:60]}"', f"Cannot index {kind_of(value)} with string"
        )
    return JqError(f"Cannot index {kind_of(value)} with {kind_of(key)}")


def _index(key: object) -> int | None:
    if isinstance(key, float) and not math.isfinite(key):
        return None
    return math.floor(key) if is_number(key) else None


def _bounds(key: object, length: int) -> tuple[int, int]:
    """Give the start and end of a slice, cut to the length."""
    if not is_map(key) or set(key) - {"start", "end"}:
        raise JqError("Start and end indices of an array slice must be numbers")
    bounds: list[int] = []
    for name, default, rounded in (("start", 0, math.floor), ("end", length, math.ceil)):
        bound = key.get(name)
        if bound is None:
            bounds.append(default)
            continue
        if not is_number(bound):
            raise JqError("Start and end indices of an array slice must be numbers")
        number = max(-float(length) - 1, min(float(length), float(bound)))
        place = 0 if math.isnan(number) else rounded(number)
        bounds.append(max(0, place + length if place < 0 else place))
    return bounds[0], max(bounds)


def get(value: object, path: Sequence[object]) -> object:
    """Give the part at a path; null as soon as something on the way is null."""
    for key in path:
        if value is None:
            return None
        value = part(value, key)
    return value


def put(value: object, path: Sequence[object], new: object, budget: Budget) -> object:
    """Give *value* with *new* at a path; lists and maps on the way are made where there is null."""
    if len(path) > MAX_PATH:
        raise JqError("Path too deep")
    budget.spend()
    if not path:
        return new
    key, rest = path[0], path[1:]
    inner = put(part(value, key) if not isinstance(value, str) else None, rest, new, budget)
    if isinstance(key, str) and (value is None or is_map(value)):
        budget.members(len(value or {}), 0)
        return {**(value or {}), key: inner}
    if is_number(key) and (value is None or is_list(value)):
        members = list(value or [])
        index = _index(key) or 0
        if index < 0:
            index += len(members)
            if index < 0:
                raise JqError("Out of bounds negative array index")
        if index >= len(members):
            budget.members(index + 1)
            members += [None] * (index + 1 - len(members))
        budget.members(len(members), 0)
        members[index] = inner
        return members
    if is_map(key) and (value is None or is_list(value)):
        if not is_list(inner):
            raise JqError("A slice of an array can only be assigned another array")
        members = list(value or [])
        start, end = _bounds(key, len(members))
        budget.members(len(members) + len(inner))
        return members[:start] + inner + members[end:]
    raise _no_part(value, key)


def without(value: object, paths: Sequence[Sequence[object]], budget: Budget) -> object:
    """Give *value* without the parts at the paths, whatever their order."""
    budget.members(len(paths))
    ordered = sorted(paths, key=lambda path: order_key(list(path), budget), reverse=True)
    for path in ordered:
        value = _without(value, path, budget) if path else None
    return value


def _without(value: object, path: Sequence[object], budget: Budget) -> object:
    budget.spend()
    if value is None:
        return None
    key, rest = path[0], path[1:]
    if rest:
        inner = part(value, key)
        return value if inner is None else put(value, [key], _without(inner, rest, budget), budget)
    if is_map(value) and isinstance(key, str):
        budget.members(len(value), 0)
        return {name: member for name, member in value.items() if name != key}
    if is_list(value) and is_number(key):
        index = _index(key)
        if index is None:
            return value
        index += len(value) if index < 0 else 0
        budget.members(len(value), 0)
        return value[:index] + value[index + 1 :] if 0 <= index < len(value) else value
    if is_list(value) and is_map(key):
        start, end = _bounds(key, len(value))
        return value[:start] + value[end:]
    raise JqError(f"Cannot delete field at {kind_of(value)} index of {kind_of(key)}")
