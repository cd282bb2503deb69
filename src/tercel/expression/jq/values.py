"""jq's values: kinds, order, truth, arithmetic and JSON text. A float that is whole becomes an integer again."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeAlias, TypeGuard

from tercel.expression.budget import Budget
from tercel.expression.jq.runtime import JqError
from tercel.expression.number_format import java_double
from tercel.expression.values import deeper_than, quoted

Number: TypeAlias = int | float | Decimal
_BITS = 63
_SHOWN = 11
_MAX_DIGIT_BITS = 12_000


def is_list(value: object) -> TypeGuard[list[object]]:
    """Tell whether a value is a list."""
    return isinstance(value, list)


def is_map(value: object) -> TypeGuard[dict[str, object]]:
    """Tell whether a value is a map; its keys are texts."""
    return isinstance(value, dict)


def is_number(value: object) -> TypeGuard[Number]:
    """Tell whether a value is a number."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def kind_of(value: object) -> str:
    """Give jq's name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "number"


def is_true(value: object) -> bool:
    """Tell whether a value counts as true: all but false and null."""
    return value is not None and value is not False


def failure(message: str, *values: object) -> JqError:
    """Make an error.

    Args:
        message: with `{}` where a value is described.
        values: for `catch` they are named with kind and the first characters, outside with the kind only.
    """
    return JqError(message.format(*map(_described, values)), message.format(*map(kind_of, values)))


def _described(value: object) -> str:
    text = _shortly(value)
    return f"{kind_of(value)} ({text if len(text) <= _SHOWN + 3 else text[:_SHOWN] + '...'})"


def _shortly(value: object) -> str:
    """Give the beginning of a value's JSON text, without looking at all of a large one."""
    if is_list(value):
        return json_text(value[:8], Budget())
    if is_map(value):
        return json_text({key: value[key] for key in list(value)[:4]}, Budget())
    return json_text(value[:20] if isinstance(value, str) else value, Budget())


def json_text(value: object, budget: Budget) -> str:
    """Give a value's JSON text, without blanks, nulls kept."""
    parts: list[str] = []
    _write(value, parts, budget, 0)
    return "".join(parts)


def _write(value: object, parts: list[str], budget: Budget, depth: int) -> None:
    budget.spend()
    if isinstance(value, str):
        budget.text(len(value), narrow=value.isascii())
        parts.append(quoted(value))
    elif is_list(value):
        deeper = deeper_than(depth)
        separator = "["
        for member in value:
            parts.append(separator)
            _write(member, parts, budget, deeper)
            separator = ","
        parts.append("]" if value else "[]")
    elif is_map(value):
        deeper = deeper_than(depth)
        separator = "{"
        for key, member in value.items():
            budget.text(len(key), narrow=key.isascii())
            parts.append(f"{separator}{quoted(key)}:")
            _write(member, parts, budget, deeper)
            separator = ","
        parts.append("}" if value else "{}")
    else:
        parts.append(_scalar_text(value))


def _scalar_text(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            if value.bit_length() > _MAX_DIGIT_BITS:
                raise JqError("number has too many digits")
            return int.__str__(value)
        case float() if math.isnan(value):
            return "null"
        case float():
            return java_double(max(-1.7976931348623157e308, min(1.7976931348623157e308, value)))
        case Decimal():
            return format(value, "f")
        case _:
            return "null"


def text_of(value: object, budget: Budget) -> str:
    """Give a text itself, and the JSON text of anything else."""
    return value if isinstance(value, str) else json_text(value, budget)


# ── Order ─────────────────────────────────────────────────────────────────────────────────────────────────────


def order_key(value: object, budget: Budget, depth: int = 0) -> tuple[object, ...]:
    """Give a key that sorts as jq does: null, false, true, numbers, texts, lists, maps."""
    budget.spend()
    match value:
        case None:
            return (0,)
        case bool():
            return (2 if value else 1,)
        case str():
            return (4, value)
        case _ if is_list(value):
            deeper = deeper_than(depth)
            return (5, [order_key(member, budget, deeper) for member in value])
        case _ if is_map(value):
            deeper = deeper_than(depth)
            names = sorted(value)
            return (6, names, [order_key(value[name], budget, deeper) for name in names])
        case float() if math.isnan(value):
            return (3, 0)
        case _:
            return (3, 1, value)


def equal(left: object, right: object, budget: Budget) -> bool:
    """Tell whether two values are equal; numbers by value, and nan equals nothing."""
    if isinstance(left, str) and isinstance(right, str):
        budget.scan(min(len(left), len(right)) // 64)
        return left == right
    if is_number(left) and is_number(right):
        return left == right
    return order_key(left, budget) == order_key(right, budget)


def compared(left: object, right: object, budget: Budget) -> int:
    """Give -1, 0 or 1 as *left* comes before, with or after *right*; nan comes before every number, itself too."""
    if isinstance(left, float) and math.isnan(left) and is_number(right):
        return -1
    first, second = order_key(left, budget), order_key(right, budget)
    return -1 if first < second else int(first != second)


# ── Arithmetic ────────────────────────────────────────────────────────────────────────────────────────────────


def settled(number: float) -> int | float:
    """Give a whole number as an integer where it has at most 64 bits, and an integer above that as a float."""
    if isinstance(number, int):
        return number if number.bit_length() <= _BITS else _as_float(number)
    if number.is_integer() and abs(number) < 1 << _BITS:
        return int(number)
    return number


def _as_float(number: Number) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def as_double(value: object) -> float:
    """Give a number as a float.

    Raises:
        JqError: the value is no number.
    """
    if not is_number(value):
        raise failure("{} number required", value)
    return _as_float(value)


def both_whole(left: Number, right: Number) -> bool:
    """Tell whether two numbers can be calculated with as integers."""
    return isinstance(left, int) and isinstance(right, int) and max(left.bit_length(), right.bit_length()) <= 2 * _BITS


def add(left: object, right: object, budget: Budget) -> object:
    """Give `left + right`."""
    if left is None:
        return right
    if right is None:
        return left
    if is_number(left) and is_number(right):
        if both_whole(left, right):
            return settled(left + right)  # pyright: ignore[reportArgumentType, reportOperatorIssue] - both are integers
        return settled(_as_float(left) + _as_float(right))
    if isinstance(left, str) and isinstance(right, str):
        budget.text(len(left) + len(right), narrow=left.isascii() and right.isascii())
        return left + right
    if is_list(left) and is_list(right):
        budget.members(len(left) + len(right))
        return left + right
    if is_map(left) and is_map(right):
        budget.members(len(left) + len(right), 100)
        return {**left, **right}
    raise failure("{} and {} cannot be added", left, right)


def subtract(left: object, right: object, budget: Budget) -> object:
    """Give `left - right`; of lists, the members that the right one does not have."""
    if is_number(left) and is_number(right):
        if both_whole(left, right):
            return settled(left - right)  # pyright: ignore[reportArgumentType, reportOperatorIssue] - both are integers
        return settled(_as_float(left) - _as_float(right))
    if is_list(left) and is_list(right):
        budget.spend((len(left) + 1) * (len(right) + 1))
        return [member for member in left if not any(equal(member, other, budget) for other in right)]
    raise failure("{} and {} cannot be subtracted", left, right)


def multiply(left: object, right: object, budget: Budget) -> object:
    """Give `left * right`: numbers, a text repeated, or two maps merged at every depth."""
    if is_number(left) and is_number(right):
        if both_whole(left, right):
            return settled(left * right)  # pyright: ignore[reportArgumentType, reportOperatorIssue] - both are integers
        return settled(_as_float(left) * _as_float(right))
    if isinstance(right, str) and is_number(left):
        left, right = right, left
    if isinstance(left, str) and is_number(right):
        count = _as_float(right)
        if not count > 0:
            return None
        times = max(1, math.ceil(min(count, 1e9)))
        budget.text(len(left) * times, narrow=left.isascii())
        return left * times
    if is_map(left) and is_map(right):
        return _merged(left, right, budget, 0)
    raise failure("{} and {} cannot be multiplied", left, right)


def _merged(left: dict[str, object], right: dict[str, object], budget: Budget, depth: int) -> dict[str, object]:
    deeper = deeper_than(depth)
    budget.members(len(left) + len(right), 100)
    merged = dict(left)
    for key, member in right.items():
        own = merged.get(key)
        merged[key] = _merged(own, member, budget, deeper) if is_map(own) and is_map(member) else member
    return merged


def divide(left: object, right: object, budget: Budget) -> object:
    """Give `left / right`; of texts, the left one split at the right one."""
    if is_number(left) and is_number(right):
        if right == 0:
            raise failure("{} and {} cannot be divided because the divisor is zero", left, right)
        if both_whole(left, right) and left % right == 0:  # pyright: ignore[reportOperatorIssue] - both are integers
            return settled(left // right)  # pyright: ignore[reportArgumentType, reportOperatorIssue] - same
        return settled(_as_float(left) / _as_float(right))
    if isinstance(left, str) and isinstance(right, str):
        return split_text(left, right, budget)
    raise failure("{} and {} cannot be divided", left, right)


def remainder(left: object, right: object, _budget: Budget) -> object:
    """Give `left % right` of the numbers cut to integers; the sign is that of *left*."""
    if not (is_number(left) and is_number(right)):
        raise failure("{} and {} cannot be divided", left, right)
    if math.isnan(left) or math.isnan(right):
        return math.nan
    dividend, divisor = _cut(left), abs(_cut(right))
    if divisor == 0:
        raise failure("{} and {} cannot be divided (remainder) because the divisor is zero", left, right)
    rest = abs(dividend) % divisor
    return -rest if dividend < 0 else rest


def _cut(number: Number) -> int:
    limit = 1 << _BITS
    return int(max(-limit, min(limit - 1, number)))


def split_text(text: str, separator: str, budget: Budget) -> list[object]:
    """Split a text; an empty separator splits into characters, an empty text gives no parts."""
    budget.scan(len(text))
    if not text:
        return []
    parts: Sequence[str] = text.split(separator) if separator else text
    budget.members(len(parts), 56)
    return list(parts)
