"""How values become columns and come back: instants as whole microseconds, the rest as msgpack or JSON.

msgpack keeps what JSON loses (instants, bytes, NaN); whole numbers beyond 64 bits travel as an extension of it.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_BIG_INT, _DATE, _TIME, _DURATION, _LOCAL = 1, 2, 3, 4, 5


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970, UTC, of an aware instant."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(microseconds: int) -> datetime:
    """The aware UTC instant of `microseconds`."""
    return _EPOCH + timedelta(microseconds=microseconds)


_pack = msgspec.msgpack.Encoder().encode


def pack(value: object) -> bytes:
    """Encode structs and plain values as msgpack."""
    return _pack(value)


def pack_values(values: Mapping[str, object]) -> bytes:
    """Encode what a task or a person gave, so that `unpack_values` gives an equal mapping."""
    if not values:
        return b"\x80"
    return _pack(_portable(values))


_PLAIN = frozenset({str, int, float, bool, type(None), bytes})


def _portable(value: object) -> object:
    """*value*, with what msgpack has no form for wrapped; itself where there is nothing to wrap."""
    kind = type(value)
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else msgspec.msgpack.Ext(_BIG_INT, b"%d" % value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(key): _portable(one) for key, one in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_portable(one) for one in cast(list[Any], value)]
    if isinstance(value, datetime):
        return value if value.tzinfo else msgspec.msgpack.Ext(_LOCAL, value.isoformat().encode())
    if isinstance(value, date):
        return msgspec.msgpack.Ext(_DATE, value.isoformat().encode())
    if isinstance(value, time):
        return msgspec.msgpack.Ext(_TIME, value.isoformat().encode())
    if isinstance(value, timedelta):
        return msgspec.msgpack.Ext(_DURATION, b"%d" % (value // _MICROSECOND))
    return value


def _unwrap(code: int, data: memoryview) -> object:
    text = bytes(data).decode()
    match code:
        case 1:
            return int(text)
        case 2:
            return date.fromisoformat(text)
        case 3:
            return time.fromisoformat(text)
        case 4:
            return timedelta(microseconds=int(text))
        case 5:
            return datetime.fromisoformat(text)
        case _:
            return bytes(data)


_unpack_values = msgspec.msgpack.Decoder(dict[str, object], ext_hook=_unwrap).decode


def unpack_values(data: bytes) -> dict[str, object]:
    """What `pack_values` encoded."""
    return {} if data == b"\x80" else _unpack_values(data)
