"""What rows and properties are in MongoDB, and what documents are as rows. Pure but for rendering."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast

from tercel.plugin_api import RunContext, TaskFailedError


def rendered_map(value: object, name: str, context: RunContext) -> dict[str, Any]:
    """The document of a property: a map, or a text that renders to one as JSON, with extended JSON in it.

    Raises:
        TaskFailedError: it is none; names the property.
    """
    return _map(_rendered(value, name, context), name)


def optional_map(value: object, name: str, context: RunContext) -> dict[str, Any]:
    """As `rendered_map`; an empty one where there is nothing, or a text that renders to nothing."""
    if value is None or (isinstance(value, str) and not context.render(value).strip()):
        return {}
    return rendered_map(value, name, context)


def rendered_maps(value: object, name: str, context: RunContext) -> list[dict[str, Any]]:
    """The documents of a property: a list of maps, or a text that renders to one as JSON.

    Raises:
        TaskFailedError: it is none; names the property.
    """
    return _maps(_rendered(value, name, context), name)


def rendered_change(value: object, name: str, context: RunContext) -> dict[str, Any] | list[dict[str, Any]]:
    """The change of a property: a map, or a list of stages, or a text that renders to either as JSON.

    Raises:
        TaskFailedError: it is neither; names the property.
    """
    found = _rendered(value, name, context)
    return _maps(cast("list[object]", found), name) if isinstance(found, list) else _map(found, name)


def _rendered(value: object, name: str, context: RunContext) -> object:
    if isinstance(value, str):
        text = context.render(value).strip()
        if not text:
            # Not taken for `{}`: as a filter that means all documents.
            raise TaskFailedError(f"{name!r} is empty when rendered.", "Write {} where that is meant.")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TaskFailedError(f"{name!r} is not JSON: {error}.") from error
    else:
        value = context.render_value(value)
    try:
        return to_bson(value)
    except ValueError as error:
        raise TaskFailedError(f"{name!r} cannot be used: {error}.") from error


def _map(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TaskFailedError(f"{name!r} is not a map, or one as JSON: it is {_kind(value)}.")
    return cast("dict[str, Any]", value)


def _maps(value: object, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise TaskFailedError(f"{name!r} is not a list of maps, or one as JSON: it is {_kind(value)}.")
    for number, entry in enumerate(cast("list[object]", value), 1):
        if not isinstance(entry, dict):
            raise TaskFailedError(f"Entry {number} of {name!r} is not a map: it is {_kind(entry)}.")
    return cast("list[dict[str, Any]]", value)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "a text"
        case int() | float() | Decimal():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a map"
        case _:
            return f"a {type(value).__name__}"


def row_document(value: object) -> dict[str, Any]:
    """The document of a row.

    Raises:
        ValueError: the row is no map, or has a value that MongoDB does not know; says which.
    """
    document = to_bson(value)
    if not isinstance(document, dict):
        raise ValueError(f"it is not a map but {_kind(document)}")  # noqa: TRY004  # of the user's data
    return cast("dict[str, Any]", document)


def to_bson(value: object) -> object:
    """A value of a row or property as pymongo wants it: extended JSON is read, days are dates at midnight in UTC.

    Raises:
        ValueError: a part cannot be a value of MongoDB; says which.
    """
    try:
        return _to_bson(value)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _to_bson(value: object) -> object:
    # The commonest first: this runs for each value of each row.
    if value is None or isinstance(value, (str, int, float, datetime, bytes)):
        return value
    if isinstance(value, Mapping):
        members = {str(name): _to_bson(member) for name, member in cast("Mapping[object, object]", value).items()}
        return _extended(members) if any(name.startswith("$") for name in members) else members
    if isinstance(value, Sequence):
        return [_to_bson(member) for member in cast("Sequence[object]", value)]
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  # pymongo takes it for UTC
    if isinstance(value, (time, timedelta)):
        return str(value)
    return value


def _extended(members: dict[str, Any]) -> object:
    """What extended JSON means, such as `{"$oid": …}`; operators of queries stay."""
    from bson.errors import BSONError  # noqa: PLC0415  # heavy, and an extra
    from bson.json_util import JSONOptions, object_hook  # noqa: PLC0415  # same

    try:
        return object_hook(members, JSONOptions(tz_aware=True, document_class=dict))
    except (BSONError, TypeError, ValueError, KeyError, AttributeError, OverflowError, ArithmeticError) as error:
        raise ValueError(f"{json.dumps(members, default=str)[:100]} is not extended JSON: {error}") from error


def _decimal(value: Decimal) -> object:
    from bson.decimal128 import Decimal128  # noqa: PLC0415  # heavy, and an extra

    try:
        return Decimal128(value)
    except ArithmeticError:
        raise ValueError(f"the number {str(value)[:50]} has more digits than the 34 of a Decimal128") from None


def check_change(change: object, *, replaces: bool) -> None:
    """Look whether *change* is of the kind that is wanted: a new document, or operators or stages.

    Raises:
        ValueError: it is of the other kind, or of none.
    """
    names = [name[:1] for name in cast("dict[str, Any]", change)] if isinstance(change, dict) else None
    if replaces:
        if names is None or "$" in names:
            raise ValueError("what replaces a document has to be a map without operators such as $set")
    elif not change or not (isinstance(change, list) or set(names or ()) == {"$"}):
        raise ValueError("what changes a document has to be a map of operators such as $set")


def to_row(document: Mapping[str, Any], *, for_outputs: bool = False) -> dict[str, object]:
    """A document as a row: ids as hexadecimal text, moments as aware datetimes, decimals, bytes.

    Args:
        document: as pymongo gives it.
        for_outputs: outputs know no decimals: each is a float where that has the same digits, else a text.

    Raises:
        ValueError: it has a value that rows do not know; says where and what.
    """
    number = _output_number if for_outputs else _row_number
    return {name: _row_value(value, name, number) for name, value in document.items()}


def id_value(value: object) -> object:
    """The `_id` of a document, as an output.

    Raises:
        ValueError: as `to_row`.
    """
    return _row_value(value, "_id", _output_number)


_PLAIN = frozenset({type(None), str, bool, float, datetime})
"""Of their subclasses some are something else: code is a text to Python."""


def _row_value(value: object, path: str, number: Callable[[Decimal], object]) -> object:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, int):
        return int(value)  # of 64 bits it has a class of its own
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {name: _row_value(member, f"{path}.{name}", number) for name, member in members.items()}
    if isinstance(value, list):
        items = cast("list[object]", value)
        return [_row_value(item, f"{path}.{at}", number) for at, item in enumerate(items)]
    return _special(value, path, number)


def _special(value: object, path: str, number: Callable[[Decimal], object]) -> object:
    from bson import DBRef, Decimal128, ObjectId, Timestamp  # noqa: PLC0415  # heavy, and an extra

    match value:
        case ObjectId():
            return str(value)
        case Timestamp():
            return value.as_datetime()
        case Decimal128():
            return number(value.to_decimal())
        case DBRef():
            return _row_value(dict(value.as_doc()), path, number)
        case _:
            raise ValueError(f"{path!r} is a {type(value).__name__}, which rows do not know")


def _row_number(number: Decimal) -> object:
    return number if number.is_finite() else math.nan if number.is_nan() else float(number)


def _output_number(number: Decimal) -> object:
    close = _row_number(number) if not number.is_finite() else float(number)
    return close if not number.is_finite() or Decimal(repr(close)) == number else str(number)
