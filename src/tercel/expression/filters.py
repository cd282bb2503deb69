"""Filters and `is` tests: one function each, and the tables of their names and arguments.

Filters on text have a file of their own.
"""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

from tercel.errors import ExpressionError
from tercel.expression.arguments import Builtin
from tercel.expression.date_filters import DATE_FILTERS
from tercel.expression.operators import wrap
from tercel.expression.rendering import Rendering
from tercel.expression.text_filters import TEXT_FILTERS, integer_of, text_of
from tercel.expression.values import (
    Entry,
    Members,
    debug_text,
    is_integer,
    is_list,
    is_map,
    is_number,
    json_text,
    kind_of,
    natural_order,
    plain,
    scalar_key,
)

_MOST_DIGITS = 4000
_CLASS_NAMES = (
    (bool, "java.lang.Boolean"),
    (int, "java.lang.Long"),
    (float, "java.lang.Double"),
    (Decimal, "java.math.BigDecimal"),
    (str, "java.lang.String"),
    (list, "java.util.ArrayList"),
    (dict, "java.util.LinkedHashMap"),
    (Entry, "java.util.Map$Entry"),
    (bytes, "byte[]"),
    (timedelta, "java.time.Duration"),
    (date, "java.time.LocalDate"),
    (time, "java.time.LocalTime"),
)


def _is_empty(value: object) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, (list, dict)) and not value)


def _list_of(value: object, name: str) -> list[object]:
    if not is_list(value):
        raise ExpressionError(f"The filter `{name}` needs a list, not {kind_of(value)}")
    return value


# Any value


def _default(_: Rendering, value: object, default: object) -> object:
    return default if _is_empty(value) else value


def _to_json(rendering: Rendering, value: object) -> object:
    return json_text(value, rendering.budget)


def _to_ion(rendering: Rendering, value: object) -> object:
    from tercel.expression.formats import ion_text  # noqa: PLC0415  # rare, and formats is large

    return ion_text(value, rendering.budget)


def _yaml(rendering: Rendering, value: object) -> object:
    from tercel.expression.formats import yaml_text  # noqa: PLC0415  # rare, and formats is large

    return "null" if value is None else yaml_text(value, rendering.budget)


def _jq(rendering: Rendering, value: object, expression: object) -> object:
    from tercel.expression.formats import parse_json  # noqa: PLC0415  # rare, and formats is large
    from tercel.expression.jq import run_jq  # noqa: PLC0415  # rare, and jq is large

    program = text_of(expression, "The argument `expression` of the filter `jq`")
    if isinstance(value, str):
        weigh_json(value, rendering)
        try:
            data = parse_json(value)
        except ExpressionError as error:
            raise ExpressionError(f"The filter `jq` needs JSON: {error.message}") from error
    else:
        data = plain(value, rendering.budget)
    try:
        return run_jq(program, data, rendering.budget)
    except ExpressionError as error:
        raise error if "jq" in error.message else ExpressionError(f"The filter `jq`: {error.message}") from error


def weigh_json(text: str, rendering: Rendering) -> None:
    """Count what reading a JSON text will make, before it is read."""
    size = text.count(",") + text.count("[") + text.count("{")
    rendering.budget.spend(size // 4)
    rendering.budget.text(len(text), narrow=text.isascii())
    rendering.budget.text(size * 16)


def _class_name(_: Rendering, value: object) -> object:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return "java.time.LocalDateTime"
        return "java.time.Instant" if isinstance(value.tzinfo, timezone) else "java.time.ZonedDateTime"
    return next((name for kind, name in _CLASS_NAMES if isinstance(value, kind)), "java.lang.Object")


def _length(_: Rendering, value: object) -> object:
    return _size(value)


def _size(value: object) -> int:
    return len(value) if isinstance(value, str) or is_list(value) or is_map(value) else 0


# Numbers


def _abs(_: Rendering, value: object) -> object:
    if not is_number(value):
        raise ExpressionError(f"The filter `abs` needs a number, not {kind_of(value)}")
    if isinstance(value, int):
        return wrap(abs(value))
    return value.copy_abs() if isinstance(value, Decimal) else abs(value)


def _number(_: Rendering, value: object, type_name: object) -> object:
    from tercel.expression.formats import to_number  # noqa: PLC0415  # rare, and formats is large

    kind = None if type_name is None else text_of(type_name, "The argument `type` of the filter `number`")
    number = to_number(text_of(value, "The filter `number`"), kind)
    if isinstance(number, Decimal) and abs(number.adjusted()) > _MOST_DIGITS:
        raise ExpressionError(f"The filter `number` takes no numbers of more than {_MOST_DIGITS:,} digits")
    return number


def _number_format(_: Rendering, value: object, pattern: object) -> object:
    from tercel.expression.formats import number_format  # noqa: PLC0415  # rare, and formats is large

    if not is_number(value):
        raise ExpressionError(f"The filter `numberFormat` needs a number, not {kind_of(value)}")
    wanted = "#,##0.###" if pattern is None else text_of(pattern, "The argument `format` of the filter `numberFormat`")
    return number_format(value, wanted)


# Lists and maps


def _first(_: Rendering, value: object) -> object:
    return _end(value, "first", 0)


def _last(_: Rendering, value: object) -> object:
    return _end(value, "last", -1)


def _end(value: object, name: str, index: int) -> object:
    if isinstance(value, str):
        if not value:
            raise ExpressionError(f"The filter `{name}` needs a text that is not empty")
        return value[index]
    if not is_list(value):
        raise ExpressionError(f"The filter `{name}` needs a list or text, not {kind_of(value)}")
    return value[index] if value else None


def _join(rendering: Rendering, value: object, separator: object) -> object:
    budget = rendering.budget
    members = _list_of(value, "join")
    between = "" if separator is None else debug_text(separator, budget)
    budget.spend(len(members))
    texts = [debug_text(member, budget) for member in members]
    length = sum(map(len, texts)) + len(between) * max(0, len(texts) - 1)
    budget.text(length, narrow=between.isascii() and all(map(str.isascii, texts)))
    return between.join(texts)


def _sort(rendering: Rendering, value: object) -> object:
    return _sorted(rendering, value, "sort")


def _reverse_sort(rendering: Rendering, value: object) -> object:
    return _sorted(rendering, value, "rsort")


def _sorted(rendering: Rendering, value: object, name: str) -> list[object]:
    members = _list_of(value, name)
    rendering.budget.members(len(members))
    rendering.budget.spend(len(members))
    key = natural_order(members, f"The filter `{name}`")
    return sorted(members, key=key, reverse=name == "rsort")


def _reverse(rendering: Rendering, value: object) -> object:
    members = _list_of(value, "reverse")
    rendering.budget.members(len(members))
    return members[::-1]


def _slice(rendering: Rendering, value: object, from_index: object, to_index: object) -> object:
    size = _size(value)
    start = 0 if from_index is None else integer_of(from_index, "The argument `fromIndex` of the filter `slice`")
    end = size if to_index is None else integer_of(to_index, "The argument `toIndex` of the filter `slice`")
    if not isinstance(value, str) and not is_list(value):
        raise ExpressionError(f"The filter `slice` needs a list or text, not {kind_of(value)}")
    if not 0 <= start < end <= size:
        raise ExpressionError(f"The filter `slice` cannot cut from {start} to {end} out of {size}")
    if isinstance(value, str):
        rendering.budget.text(end - start, narrow=value.isascii())
    else:
        rendering.budget.members(end - start)
    return value[start:end]


def _chunk(rendering: Rendering, value: object, size: object) -> object:
    members = _list_of(value, "chunk")
    count = integer_of(size, "The argument `size` of the filter `chunk`")
    if count <= 0:
        raise ExpressionError("The argument `size` of the filter `chunk` must be positive")
    rendering.budget.members(len(members), 72)
    return [members[start : start + count] for start in range(0, len(members), count)]


def _flatten(rendering: Rendering, value: object) -> object:
    flat: list[object] = []
    for member in _list_of(value, "flatten"):
        if is_list(member):
            rendering.budget.members(len(flat) + len(member), 0)
            flat += member
        else:
            flat.append(member)
    rendering.budget.members(len(flat))
    return flat


def _distinct(rendering: Rendering, value: object) -> object:
    if value is None:
        return "null"  # upstream's oddity, kept
    members = _list_of(value, "distinct")
    rendering.budget.members(len(members))
    seen = Members((), rendering.budget)
    unique: list[object] = []
    for member in members:
        if member not in seen:
            seen.add(member)
            unique.append(member)
    return unique


def _keys(rendering: Rendering, value: object) -> object:
    if not is_list(value) and not is_map(value):
        raise ExpressionError(f"The filter `keys` needs a map or list, not {kind_of(value)}")
    keys: list[object] = list(value) if is_map(value) else list(range(len(value)))
    rendering.budget.members(len(keys), 40)
    return keys


def _values(rendering: Rendering, value: object) -> object:
    if not is_map(value):
        raise ExpressionError(f"The filter `values` needs a map, not {kind_of(value)}")
    rendering.budget.members(len(value))
    return list(value.values())


def _merge(rendering: Rendering, value: object, items: object) -> object:
    if value is None and items is None:
        raise ExpressionError("The filter `merge` needs a list or map, not null twice")
    for side in (value, items):
        if side is not None and not isinstance(side, (list, dict)):
            raise ExpressionError(f"The filter `merge` needs lists or maps, not {kind_of(side)}")
    if value is None or items is None:
        return items if value is None else value
    if is_map(value):
        added = dict(items) if is_map(items) else {scalar_key(item): item for item in _list_of(items, "merge")}
        rendering.budget.members(len(value) + len(added), 40)
        return {**value, **added}
    members = _list_of(value, "merge")
    more = [Entry(*pair) for pair in list(items.items())] if is_map(items) else _list_of(items, "merge")
    rendering.budget.members(len(members) + len(more), 48)
    return [*members, *more]


# Tests


def _no_number(value: object, name: str) -> int:
    if not is_integer(value):
        raise ExpressionError(f"The test `{name}` needs a whole number, not {kind_of(value)}")
    return value


def _is_json(rendering: Rendering, value: object) -> bool:
    from tercel.expression.formats import parse_json  # noqa: PLC0415  # rare, and formats is large

    text = text_of(value, "The test `json`")
    if not text.strip():
        return True
    weigh_json(text, rendering)
    try:
        parse_json(text)
    except ExpressionError:
        return False
    return True


TESTS: dict[str, Callable[[Rendering, object], bool]] = {
    "null": lambda _, value: value is None,
    "empty": lambda _, value: _is_empty(value),
    "even": lambda _, value: _no_number(value, "even") % 2 == 0,
    "odd": lambda _, value: _no_number(value, "odd") % 2 != 0,
    "iterable": lambda _, value: isinstance(value, list),
    "map": lambda _, value: isinstance(value, dict),
    "json": _is_json,
}
"""The tests after `is`, without `defined`: that one the evaluator answers itself, because it takes what is missing."""

FILTERS: dict[str, Builtin] = {
    **TEXT_FILTERS,
    **DATE_FILTERS,
    "default": Builtin(_default, "default", keeps_null=False),
    "toJson": Builtin(_to_json, keeps_null=False),
    "json": Builtin(_to_json, keeps_null=False),
    "toIon": Builtin(_to_ion, keeps_null=False),
    "yaml": Builtin(_yaml, keeps_null=False),
    "jq": Builtin(_jq, "expression*"),
    "className": Builtin(_class_name),
    "length": Builtin(_length, keeps_null=False),
    "abs": Builtin(_abs, keeps_null=False),
    "number": Builtin(_number, "type"),
    "numberFormat": Builtin(_number_format, "format"),
    "first": Builtin(_first),
    "last": Builtin(_last),
    "join": Builtin(_join, "separator"),
    "sort": Builtin(_sort),
    "rsort": Builtin(_reverse_sort),
    "reverse": Builtin(_reverse),
    "slice": Builtin(_slice, "fromIndex", "toIndex"),
    "chunk": Builtin(_chunk, "size*"),
    "flatten": Builtin(_flatten),
    "distinct": Builtin(_distinct, keeps_null=False),
    "keys": Builtin(_keys),
    "values": Builtin(_values),
    "merge": Builtin(_merge, "items", keeps_null=False),
}
