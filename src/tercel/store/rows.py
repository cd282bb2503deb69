"""How values become columns and come back: instants as whole microseconds, the rest as msgpack or JSON.

msgpack keeps what JSON loses (instants, bytes, NaN); whole numbers beyond 64 bits travel as an extension of it.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Protocol, cast

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_BIG_INT, _DATE, _TIME, _DURATION, _LOCAL, _SEALED = 1, 2, 3, 4, 5, 6


class Seals(Protocol):
    """Keeps texts that hold a secret from being stored readably."""

    def seal(self, text: str) -> bytes | None:
        """What to store in place of *text*; None where it may be stored as it is."""
        ...

    def open(self, sealed: bytes, *, reveal: bool) -> str:
        """The text again where *reveal* is wanted and possible, and a masked one elsewhere."""
        ...


def microseconds(instant: datetime) -> int:
    """Whole microseconds since 1970, UTC, of an aware instant."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(microseconds: int) -> datetime:
    """The aware UTC instant of `microseconds`."""
    return _EPOCH + timedelta(microseconds=microseconds)


def without_nul(text: str) -> str:
    """*text* for a column: PostgreSQL's texts hold every character but U+0000."""
    return text.replace("\0", "\ufffd")


_pack = msgspec.msgpack.Encoder().encode


def pack(value: object) -> bytes:
    """Encode structs and plain values as msgpack."""
    return _pack(value)


def pack_values(values: Mapping[str, object], seals: Seals | None = None) -> bytes:
    """Encode what a task or a person gave, so that an `Unpacker` gives an equal mapping.

    Args:
        values: by name.
        seals: is asked about every text; None stores all as they are.
    """
    if not values:
        return b"\x80"
    return _pack(_portable(values, seals))


def pack_value(value: object, seals: Seals | None = None) -> bytes:
    """As `pack_values`, for one value of any kind; `Unpacker.value` gives it back."""
    return _pack(_portable(value, seals))


_PLAIN = frozenset({int, float, bool, type(None), bytes})


def _portable(value: object, seals: Seals | None) -> object:
    """*value*, with what msgpack has no form for wrapped; itself where there is nothing to wrap."""
    kind = type(value)
    if isinstance(value, str):
        sealed = None if seals is None else seals.seal(value)
        return value if sealed is None else msgspec.msgpack.Ext(_SEALED, sealed)
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else msgspec.msgpack.Ext(_BIG_INT, b"%d" % value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(key): _portable(one, seals) for key, one in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_portable(one, seals) for one in cast(list[Any], value)]
    if isinstance(value, datetime):
        return value if value.tzinfo else msgspec.msgpack.Ext(_LOCAL, value.isoformat().encode())
    if isinstance(value, date):
        return msgspec.msgpack.Ext(_DATE, value.isoformat().encode())
    if isinstance(value, time):
        return msgspec.msgpack.Ext(_TIME, value.isoformat().encode())
    if isinstance(value, timedelta):
        return msgspec.msgpack.Ext(_DURATION, b"%d" % (value // _MICROSECOND))
    return value


def _unwrap(seals: Seals | None, reveal: bool, code: int, data: memoryview) -> object:
    if code == _SEALED:
        return _WITHOUT_SEALS if seals is None else seals.open(bytes(data), reveal=reveal)
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


_WITHOUT_SEALS = "******"


class Unpacker:
    """Gives back what `pack_values` and `pack_value` encoded.

    Args:
        seals: opens sealed texts; without it they are stars.
        reveal: give sealed texts as they were, where that is possible, instead of masked.
    """

    def __init__(self, seals: Seals | None = None, *, reveal: bool = False) -> None:
        hook = partial(_unwrap, seals, reveal)
        self._decode = msgspec.msgpack.Decoder(dict[str, object], ext_hook=hook).decode
        self._decode_value = msgspec.msgpack.Decoder(ext_hook=hook).decode

    def __call__(self, data: bytes) -> dict[str, object]:
        """The mapping."""
        return {} if data == b"\x80" else self._decode(data)

    def value(self, data: bytes) -> Any:
        """What `pack_value` encoded."""
        return self._decode_value(data)
