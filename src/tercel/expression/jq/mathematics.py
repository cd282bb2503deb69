"""jq's mathematical builtins, on doubles; whole results become integers."""

import math
from collections.abc import Callable
from typing import Any

from tercel.expression.budget import Budget
from tercel.expression.jq.values import as_double, is_number, settled


def _of_one(function: Callable[[float], float]) -> Callable[[Budget, object], object]:
    def applied(_budget: Budget, value: object) -> object:
        return _safely(function, as_double(value))

    return applied


def _of_two(function: Callable[[float, float], float]) -> Callable[[Budget, object, object, object], object]:
    def applied(_budget: Budget, _value: object, first: object, second: object) -> object:
        return _safely(function, as_double(first), as_double(second))

    return applied


def _safely(function: Callable[..., float], *numbers: float) -> object:
    try:
        return settled(function(*numbers))
    except OverflowError:
        return math.inf
    except (ValueError, ZeroDivisionError):
        return math.nan


def _rounded(function: Callable[[float], float]) -> Callable[[Budget, object], object]:
    def applied(_budget: Budget, value: object) -> object:
        if isinstance(value, int) and is_number(value):
            return value
        number = as_double(value)
        return settled(float(function(number))) if math.isfinite(number) else number

    return applied


def _half_away(number: float) -> float:
    return math.copysign(math.floor(abs(number) + 0.5), number)


def _log(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda number: -math.inf if number == 0 else function(number)


def _power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except ValueError:
        return math.inf if base == 0 else math.nan


def _exp10(number: float) -> float:
    return _power(10.0, number)


def _cbrt(number: float) -> float:
    root = math.copysign(abs(number) ** (1 / 3), number)
    return round(root) if round(root) ** 3 == number else root


def _significand(number: float) -> float:
    return number if number == 0 or not math.isfinite(number) else math.frexp(number)[0] * 2


def _logb(number: float) -> float:
    if number == 0:
        return -math.inf
    return math.frexp(number)[1] - 1 if math.isfinite(number) else abs(number)


def _scaled(number: float, exponent: float) -> float:
    return math.ldexp(number, int(max(-5000.0, min(5000.0, exponent))))


def _frexp(_budget: Budget, value: object) -> object:
    mantissa, exponent = math.frexp(as_double(value))
    return [settled(mantissa), exponent]


def _modf(_budget: Budget, value: object) -> object:
    fraction, whole = math.modf(as_double(value))
    return [settled(fraction), settled(whole)]


def _lgamma_r(_budget: Budget, value: object) -> object:
    number = as_double(value)
    sign = -1 if number < 0 and math.floor(number) % 2 else 1
    return [_safely(math.lgamma, number), sign]


def _fma(_budget: Budget, _value: object, first: object, second: object, third: object) -> object:
    return settled(as_double(first) * as_double(second) + as_double(third))


_ONE: dict[str, Callable[[float], float]] = {
    "sqrt": math.sqrt, "cbrt": _cbrt, "fabs": math.fabs, "significand": _significand, "logb": _logb,
    "exp": math.exp, "exp2": lambda number: _power(2.0, number), "exp10": _exp10, "pow10": _exp10,
    "expm1": math.expm1, "log": _log(math.log), "log2": _log(math.log2), "log10": _log(math.log10),
    "log1p": math.log1p, "gamma": math.lgamma, "lgamma": math.lgamma, "tgamma": math.gamma,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "asinh": math.asinh, "acosh": math.acosh,
    "atanh": math.atanh, "erf": math.erf, "erfc": math.erfc,
}  # fmt: skip
_TWO: dict[str, Callable[[float, float], float]] = {
    "pow": _power, "atan2": math.atan2, "fmod": math.fmod, "hypot": math.hypot, "copysign": math.copysign,
    "drem": math.remainder, "remainder": math.remainder, "ldexp": _scaled, "scalb": _scaled, "scalbln": _scaled,
    "fmin": min, "fmax": max, "fdim": lambda first, second: max(first - second, 0.0),
    "nextafter": math.nextafter, "nexttoward": math.nextafter,
}  # fmt: skip

MATHEMATICS: dict[str, Callable[..., Any]] = {
    **{f"{name}/0": _of_one(function) for name, function in _ONE.items()},
    **{f"{name}/2": _of_two(function) for name, function in _TWO.items()},
    "floor/0": _rounded(math.floor),
    "ceil/0": _rounded(math.ceil),
    "trunc/0": _rounded(math.trunc),
    "round/0": _rounded(_half_away),
    "rint/0": _rounded(round),
    "nearbyint/0": _rounded(round),
    "frexp/0": _frexp,
    "modf/0": _modf,
    "lgamma_r/0": _lgamma_r,
    "fma/3": _fma,
}
