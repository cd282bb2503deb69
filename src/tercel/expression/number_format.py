"""Numbers and their texts: reading them, Java's text of a double, and decimal patterns such as `#,##0.00`."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from tercel.errors import ExpressionError

if TYPE_CHECKING:
    from decimal import Decimal

_MAX_DIGITS = 4000
_INTEGER = re.compile(r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|#([0-9a-fA-F]+)|0([0-7]+)|(\d+))", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DOUBLE = re.compile(r"[+-]?(?:NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fFdD]?)", re.ASCII)
_BITS = {"INT": 32, "LONG": 64}


def java_double(number: float) -> str:
    """Write a double as Java does: shortest digits, always one behind the dot, `1.0E7` from ten million on.

    Example:
        >>> [java_double(number) for number in (2.5, 3.0, 1e7, 0.00012)]
        ['2.5', '3.0', '1.0E7', '1.2E-4']
    """
    if number != number:  # noqa: PLR0124 - the one value that is not itself
        return "NaN"
    if number in {float("inf"), float("-inf")}:
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)
    mantissa, exponent = _scientific(number)
    return f"{mantissa}E{exponent}"


def _scientific(number: float) -> tuple[str, int]:
    sign, text = ("-", repr(-number)) if number < 0 else ("", repr(number))
    digits, _, power = text.partition("e")
    whole, _, fraction = digits.partition(".")
    exponent = int(power or 0) + len(whole) - 1
    significant = whole + fraction
    stripped = significant.lstrip("0")
    exponent -= len(significant) - len(stripped)
    stripped = stripped.rstrip("0") or "0"
    return f"{sign}{stripped[0]}.{stripped[1:] or '0'}", exponent


def to_number(text: str, type_name: str | None = None) -> "int | float | Decimal":
    """Read a number.

    Args:
        text: nothing but the number, no blanks around it.
        type_name: `INT`, `LONG`, `FLOAT`, `DOUBLE`, `BIGDECIMAL` or `BIGINTEGER`; None for an integer if it looks
            like one (`0x1F` is hexadecimal, `010` octal), else a double.

    Raises:
        ExpressionError: the text is no such number, or the type does not exist.
    """
    match type_name:
        case None:
            integer = _integer(text)
            return _double(text) if integer is None else integer
        case "INT" | "LONG" | "BIGINTEGER":
            if re.fullmatch(r"[+-]?\d+", text, re.ASCII) is None or len(text) > _MAX_DIGITS:
                raise _no_number(text, type_name)
            integer = int(text)
            bits = _BITS.get(type_name)
            if bits is not None and not -(1 << bits - 1) <= integer < 1 << bits - 1:
                raise ExpressionError(
                    f"The number {text[:60]} does not fit the type {type_name}, which has {bits} bits."
                )
            return integer
        case "FLOAT":
            return _single(_double(text))
        case "DOUBLE":
            return _double(text)
        case "BIGDECIMAL":
            from decimal import Decimal  # noqa: PLC0415 - slow to import, rarely used

            if _DECIMAL.fullmatch(text) is None or len(text) > _MAX_DIGITS:
                raise _no_number(text, type_name)
            return Decimal(text)
        case _:
            raise ExpressionError(
                f"There is no number type {type_name[:60]!r}. "
                "The types are INT, LONG, FLOAT, DOUBLE, BIGDECIMAL and BIGINTEGER."
            )


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None or len(text) > _MAX_DIGITS:
        return None
    sign, hexadecimal, hashed, octal, digits = found.groups()
    if digits is not None:
        # 08 is neither octal nor a plain integer.
        return int(sign + digits) if digits == "0" or not digits.startswith("0") else None
    number = int(octal, 8) if octal is not None else int(hexadecimal or hashed, 16)
    return -number if sign == "-" else number


def _double(text: str) -> float:
    if _DOUBLE.fullmatch(text) is None or len(text) > _MAX_DIGITS:
        raise _no_number(text, None)
    return float(text if text.endswith(("NaN", "Infinity")) else text.rstrip("fFdD"))


def _single(number: float) -> float:
    """Round to 32 bits and give the double with the shortest digits that mean the same."""
    import struct  # noqa: PLC0415 - rarely used

    try:
        packed = struct.pack("f", number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
    single = struct.unpack("f", packed)[0]
    return next(
        (short for digits in range(1, 10) if struct.pack("f", short := float(f"{single:.{digits}g}")) == packed), single
    )


def _no_number(text: str, type_name: str | None) -> ExpressionError:
    return ExpressionError(f"The text {text[:60]!r} is no number{f' of the type {type_name}' if type_name else ''}.")


class _Pattern(Struct, frozen=True):
    """A decimal pattern, read.

    Attributes:
        prefix, suffix: text around positive numbers.
        negative_prefix, negative_suffix: text around negative ones.
        scale: 2 for percent, 3 for per mille, else 0: the decimal point moves by so many places.
        group: digits between separators, 0 for none.
        integers: least number of digits before the point; with exponent, *places* is the most.
        decimals: least and most digits behind the point.
        exponent: least digits of the exponent, 0 for none.
    """

    prefix: str
    suffix: str
    negative_prefix: str
    negative_suffix: str
    scale: int
    group: int
    integers: int
    places: int
    decimals: tuple[int, int]
    exponent: int
    point_shown: bool


def number_format(number: "int | float | Decimal", pattern: str = "#,##0.###") -> str:
    """Write a number by a decimal pattern, with English separators; ties round to the even digit.

    Raises:
        ExpressionError: the pattern is malformed.

    Example:
        >>> number_format(1234.5, "#,##0.00")
        '1,234.50'
    """
    from decimal import Decimal  # noqa: PLC0415 - slow to import, rarely used

    form = _compile(pattern)
    exact = number if isinstance(number, Decimal) else Decimal(repr(number) if isinstance(number, float) else number)
    if exact.is_nan():
        return "NaN"
    negative = exact.is_signed()
    if exact.is_infinite():
        digits = "∞"
    elif form.exponent:
        digits = _with_exponent(abs(exact).scaleb(form.scale), form)
    else:
        digits = _plain_digits(abs(exact).scaleb(form.scale), form)
        negative = negative and (isinstance(number, float) or any(digit in "123456789" for digit in digits))
    if negative:
        return f"{form.negative_prefix}{digits}{form.negative_suffix}"
    return f"{form.prefix}{digits}{form.suffix}"


def _plain_digits(number: "Decimal", form: _Pattern) -> str:
    whole, fraction = _rounded(number, form.decimals[1])
    whole = whole.lstrip("0").rjust(form.integers, "0")
    fraction = fraction.rstrip("0").ljust(form.decimals[0], "0")
    if not whole and not fraction:
        whole = "0"
    if form.group:
        first = len(whole) % form.group
        groups = [whole[:first], *(whole[at : at + form.group] for at in range(first, len(whole), form.group))]
        whole = ",".join(group for group in groups if group)
    return f"{whole}.{fraction}" if fraction or form.point_shown else whole


def _rounded(number: "Decimal", decimals: int) -> tuple[str, str]:
    from decimal import ROUND_HALF_EVEN, Context, Decimal  # noqa: PLC0415 - slow to import, rarely used

    if number.adjusted() > _MAX_DIGITS:
        raise ExpressionError(f"The number has more than {_MAX_DIGITS:,} digits.")
    context = Context(prec=max(number.adjusted(), 0) + decimals + 10, rounding=ROUND_HALF_EVEN)
    text = format(number.quantize(Decimal(1).scaleb(-decimals), context=context), "f")
    whole, _, fraction = text.partition(".")
    return whole, fraction


def _with_exponent(number: "Decimal", form: _Pattern) -> str:
    # More places than required digits: the exponent is a multiple of their count (engineering notation).
    stepped = form.places > form.integers and form.places > 1
    significant = (form.places if stepped else form.integers) + form.decimals[1]
    if number:
        number = _to_significant(number, max(significant, 1))
    exponent = number.adjusted() if number else 0
    if stepped:
        exponent = exponent // form.places * form.places
    elif number:
        exponent -= form.integers - 1 if form.integers or form.decimals[1] else 0
    mantissa = number.scaleb(-exponent)
    digits = mantissa.adjusted() + 1 if mantissa else 1
    least = max(0, form.integers + form.decimals[0] - digits) if stepped else form.decimals[0]
    whole, fraction = _rounded(mantissa, significant)
    fraction = fraction.rstrip("0").ljust(least, "0")
    whole = whole.lstrip("0").rjust(form.integers, "0")
    power = f"{'-' if exponent < 0 else ''}{abs(exponent):0{form.exponent}}"
    return f"{whole}{'.' if fraction or form.point_shown else ''}{fraction}E{power}"


def _to_significant(number: "Decimal", digits: int) -> "Decimal":
    from decimal import ROUND_HALF_EVEN, Context  # noqa: PLC0415 - slow to import, rarely used

    return Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(number)


@lru_cache(maxsize=128)
def _compile(pattern: str) -> _Pattern:
    prefix, number, suffix, rest = _split(pattern or "#,###." + "#" * 20)
    found = re.fullmatch(r"([#,]*[0,]*)(?:(\.)(0*)(#*))?(?:E(0+))?", number)
    if found is None or suffix[0].startswith("E"):
        raise ExpressionError(f"The number pattern {pattern!r} is malformed.")
    whole, point, zeros, hashes, power = (group or "" for group in found.groups())
    if whole.endswith(",") or (power and "," in whole):
        raise ExpressionError(f"The number pattern {pattern!r} is malformed.")
    integers = whole.count("0")
    if not integers and not zeros and point:
        # A pattern that requires no digit at all gets one: before the point, or behind it when nothing is before.
        if not pattern:
            integers = 0
        elif whole or not hashes:
            integers = 1
        else:
            zeros, hashes = "0", hashes[1:]
    negative_prefix, negative_suffix = "-" + prefix[0], suffix[0]
    if rest:
        second_prefix, _, second_suffix, more = _split(rest)
        if more:
            raise ExpressionError(f"The number pattern {pattern!r} has more than two parts.")
        negative_prefix, negative_suffix = second_prefix[0], second_suffix[0]
        if (negative_prefix, negative_suffix) == (prefix[0], suffix[0]):
            negative_prefix = "-" + prefix[0]
    return _Pattern(
        prefix[0],
        suffix[0],
        negative_prefix,
        negative_suffix,
        prefix[1] or suffix[1],
        len(whole) - whole.rindex(",") - 1 if "," in whole else 0,
        integers,
        len(whole),
        (len(zeros), len(zeros) + len(hashes)),
        len(power),
        bool(point) and not zeros and not hashes,
    )


def _split(pattern: str) -> tuple[tuple[str, int], str, tuple[str, int], str]:
    """Split a pattern into prefix, number, suffix (texts with the scale their signs ask for) and what follows a `;`."""
    prefix, at = _affix(pattern, 0, until="#0,.")
    start = at
    while at < len(pattern) and pattern[at] in "#0,.":
        at += 1
    if pattern.startswith("E0", at):
        at += 1
        while pattern.startswith("0", at):
            at += 1
    number = pattern[start:at]
    suffix, at = _affix(pattern, at, until="")
    return prefix, number, suffix, pattern[at + 1 :]


def _affix(pattern: str, at: int, *, until: str) -> tuple[tuple[str, int], int]:
    text = ""
    scale = 0
    quoted = False
    while at < len(pattern) and (quoted or (pattern[at] not in until and pattern[at] != ";")):
        char = pattern[at]
        at += 1
        if char == "'":
            if pattern.startswith("'", at):
                text += "'"
                at += 1
            else:
                quoted = not quoted
            continue
        if not quoted:
            if char in "#0,." and not until:
                raise ExpressionError(f"The number pattern {pattern!r} has digits behind its end.")
            scale = {"%": 2, "‰": 3}.get(char, scale)
            char = "$" if char == "¤" else char
        text += char
    if quoted:
        raise ExpressionError(f"The number pattern {pattern!r} has a quote that is not closed.")
    return (text, scale), at
