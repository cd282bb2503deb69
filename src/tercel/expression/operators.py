"""The binary operators, on values.

Short-circuit ones (`and`, `or`, `??`, `???`, `? :`) are not here: they decide what is evaluated, and so
belong to the evaluator.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.values import (
    Members,
    Number,
    code_units,
    debug_text,
    equal,
    hashable,
    is_integer,
    is_list,
    is_map,
    is_number,
    kind_of,
)

_LOWEST = -(2**63)
_HIGHEST = 2**63 - 1
_RANGE_SIZE = 40
_MOST_DIGITS = 40
_DECIMAL = Context(prec=34, Emin=-9999, Emax=9999, traps=[DivisionByZero, InvalidOperation, Overflow])
_LONG_TEXT = 4096


def wrap(number: int) -> int:
    """Give a whole number as the 64 bits that hold it."""
    if _LOWEST <= number <= _HIGHEST:
        return number
    return ((number - _LOWEST) & (2**64 - 1)) + _LOWEST


def joined(left: str, right: str, budget: Budget) -> str:
    """Put two texts behind each other."""
    budget.text(len(left) + len(right), narrow=left.isascii() and right.isascii())
    return left + right


def concatenate(left: object, right: object, budget: Budget) -> object:
    """`~`: the debug forms of both; null counts as empty."""
    return joined(
        "" if left is None else debug_text(left, budget), "" if right is None else debug_text(right, budget), budget
    )


def add(left: object, right: object, budget: Budget) -> object:
    """`+`: text, a longer list or a sum, decided by the operands."""
    if isinstance(left, str) or isinstance(right, str):
        return joined(debug_text(left, budget), debug_text(right, budget), budget)
    if is_list(left):
        more = right if is_list(right) else [right]
        budget.members(len(left) + len(more))
        return [*left, *more]
    return _arithmetic("+", left, right)


def subtract(left: object, right: object, budget: Budget) -> object:
    """`-`: a list without members, or a difference."""
    if not is_list(left):
        return _arithmetic("-", left, right)
    budget.members(len(left))
    if is_list(right):
        gone = Members(right, budget)
        return [member for member in left if member not in gone]
    rest: list[object] = list(left)
    for index, member in enumerate(left):
        budget.spend()
        if equal(member, right, budget):
            del rest[index]
            break
    return rest


def multiply(left: object, right: object, budget: Budget) -> object:
    """`*`: a product."""
    return _arithmetic("*", left, right)


def divide(left: object, right: object, budget: Budget) -> object:
    """`/`: a quotient, cut towards zero where both are whole numbers."""
    return _arithmetic("/", left, right)


def remainder(left: object, right: object, budget: Budget) -> object:
    """`%`: a remainder with the sign of the dividend."""
    return _arithmetic("%", left, right)


def equals(left: object, right: object, budget: Budget) -> object:
    """`==`: equal by value."""
    return equal(left, right, budget)


def differs(left: object, right: object, budget: Budget) -> object:
    """`!=`: not equal by value."""
    return not equal(left, right, budget)


def less(left: object, right: object, budget: Budget) -> object:
    """`<`."""
    order = _order("<", left, right)
    return order is not None and order < 0


def less_or_equal(left: object, right: object, budget: Budget) -> object:
    """`<=`."""
    order = _order("<=", left, right)
    return order is not None and order <= 0


def greater(left: object, right: object, budget: Budget) -> object:
    """`>`."""
    order = _order(">", left, right)
    return order is not None and order > 0


def greater_or_equal(left: object, right: object, budget: Budget) -> object:
    """`>=`."""
    order = _order(">=", left, right)
    return order is not None and order >= 0


def contains(left: object, right: object, budget: Budget) -> object:
    """`contains`: a member of a list or all of several, a key of a map, a part of a text."""
    if left is None:
        return False
    if is_list(left):
        if not is_list(right):
            budget.spend(len(left))
            return any(equal(member, right, budget) for member in left)
        members = Members(left, budget)
        return all(member in members for member in right)
    if is_map(left):
        return hashable(right) in left
    if isinstance(left, str):
        part = debug_text(right, budget)
        budget.spend((len(left) + len(part)) // _LONG_TEXT)
        return part in left
    raise ExpressionError(f"`contains` needs a list, map or text on its left, not {kind_of(left)}")


def is_in(left: object, right: object, budget: Budget) -> object:
    """`isIn`: the text form is that of a member of a list, or of a key or value of a map."""
    if left is None or right is None or isinstance(right, str):
        return False
    text = debug_text(left, budget)
    if is_list(right):
        candidates = right
    elif is_map(right):
        candidates = [*right.keys(), *right.values()]
    else:
        raise ExpressionError(f"`isIn` needs a list or map on its right, not {kind_of(right)}")
    budget.spend(len(candidates))
    return any(member is not None and debug_text(member, budget) == text for member in candidates)


def interval(left: object, right: object, budget: Budget) -> object:
    """`..`: whole numbers or letters, both ends included."""
    return stepped(left, right, 1, "`..`", budget)


def stepped(start: object, end: object, step: int, where: str, budget: Budget) -> list[object]:
    """Give the members of a range, both ends included.

    Args:
        start: a number, cut to a whole one, or a text of one character.
        end: the same kind as *start*.
        step: not zero; negative counts down.
        where: the operator or function, for messages.
        budget: of the render; refuses a long range before it is built.
    """
    letters = isinstance(start, str) and isinstance(end, str) and len(start) == len(end) == 1
    first = ord(str(start)) if letters else _whole(start, where)
    last = ord(str(end)) if letters else _whole(end, where)
    numbers = range(first, last + (1 if step > 0 else -1), step)
    # len() of a range does not take counts beyond the machine word.
    budget.members((numbers[-1] - first) // step + 1 if numbers else 0, _RANGE_SIZE)
    return [chr(number) for number in numbers] if letters else list(numbers)


def negate(value: object) -> object:
    """Unary `-`."""
    if is_integer(value):
        return wrap(-value)
    number = _number(value, "-")
    return number.copy_negate() if isinstance(number, Decimal) else -number


def affirm(value: object) -> object:
    """Unary `+`."""
    return _number(value, "+")


BINARY: dict[str, Callable[[object, object, Budget], object]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
    "~": concatenate,
    "==": equals,
    "equals": equals,
    "!=": differs,
    "<": less,
    "<=": less_or_equal,
    ">": greater,
    ">=": greater_or_equal,
    "contains": contains,
    "isIn": is_in,
    "..": interval,
}


def _number(value: object, operator: str) -> Number:
    if not is_number(value):
        raise ExpressionError(f"`{operator}` needs a number, not {kind_of(value)}")
    return value


def _arithmetic(operator: str, left: object, right: object) -> Number:
    if is_integer(left) and is_integer(right):
        return wrap(_whole_result(operator, left, right))
    first, second = _number(left, operator), _number(right, operator)
    if isinstance(first, Decimal) or isinstance(second, Decimal):
        return _decimal_result(operator, first, second)
    try:
        return _double_result(operator, float(first), float(second))
    except OverflowError as error:
        raise ExpressionError(f"`{operator}` needs a smaller whole number") from error


def _whole_result(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            if right == 0:
                raise ExpressionError("A whole number cannot be divided by zero")
            quotient = abs(left) // abs(right)
            quotient = quotient if (left < 0) == (right < 0) else -quotient
            return quotient if operator == "/" else left - quotient * right


def _double_result(operator: str, left: float, right: float) -> float:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            if right != 0:
                return left / right
            if left == 0 or math.isnan(left):
                return math.nan
            return math.copysign(math.inf, left) * math.copysign(1, right)
        case _:
            return math.nan if right == 0 or math.isinf(left) else math.fmod(left, right)


def _decimal_result(operator: str, left: Number, right: Number) -> Decimal:
    first = left if isinstance(left, Decimal) else Decimal(repr(left))
    second = right if isinstance(right, Decimal) else Decimal(repr(right))
    try:
        match operator:
            case "+":
                return _DECIMAL.add(first, second)
            case "-":
                return _DECIMAL.subtract(first, second)
            case "*":
                return _DECIMAL.multiply(first, second)
            case "/":
                return _DECIMAL.divide(first, second)
            case _:
                return _DECIMAL.remainder(first, second)
    except ArithmeticError as error:
        raise ExpressionError(f"`{operator}` of two decimal numbers has no result") from error


def _order(operator: str, left: object, right: object) -> int | None:
    """Compare: negative, zero or positive; None where one side is null or not a number in the IEEE sense."""
    if is_number(left) and is_number(right):
        if left == right:
            return 0
        if left < right:
            return -1
        return 1 if left > right else None
    if left is None or right is None:
        return None
    if isinstance(left, str) and isinstance(right, str):
        if left == right:
            return 0
        if left.isascii() and right.isascii():
            return -1 if left < right else 1
        return -1 if code_units(left) < code_units(right) else 1
    raise ExpressionError(f"`{operator}` needs two numbers or two texts, not {kind_of(left)} and {kind_of(right)}")


def _whole(value: object, where: str) -> int:
    if is_number(value) and not (isinstance(value, Decimal) and value.adjusted() > _MOST_DIGITS):
        try:
            return wrap(int(value))
        except (ValueError, OverflowError):  # NaN and infinity
            pass
    raise ExpressionError(f"{where} needs whole numbers or single letters, not {kind_of(value)}")
