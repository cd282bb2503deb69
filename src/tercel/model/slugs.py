"""Ids as parts of paths and keys: slugs, and the hash by which Kestra names loop values."""

import re
import unicodedata

_WHITESPACE = re.compile(r"\s")
_NOT_IN_SLUG = re.compile(r"[^A-Za-z0-9_-]")
_DASHES = re.compile(r"-{2,}")


def slug(text: str) -> str:
    """A form of an id for paths; different ids may share it, see `distinct_slug`.

    Example:
        >>> slug("My Tâche_1")
        'my-tache-1'
    """
    plain = _NOT_IN_SLUG.sub("", unicodedata.normalize("NFD", _WHITESPACE.sub("-", text)))
    dashed = _DASHES.sub("-", plain.replace("_", "-"))
    return dashed.removeprefix("-").removesuffix("-").lower()


def distinct_slug(text: str) -> str:
    """A slug that no other id shares, for what is kept under ids alone.

    Example:
        >>> distinct_slug("my-task"), distinct_slug("my_task")
        ('my-task', 'my-task-5d8517')
    """
    plain = slug(text)
    if plain == text:
        return plain
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

    return f"{plain}-{sha256(text.encode()).hexdigest()[:6]}"


_LOW_64 = 0xFFFFFFFFFFFFFFFF
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F


def murmur_hash(text: str) -> str:
    """MurmurHash3 x64 128 of *text* in UTF-8, seed 0, as little-endian hex; how Kestra names loop values in paths.

    Example:
        >>> murmur_hash("value")
        '7d04fd3bbbc0946dc06caf7356fdf051'
    """
    raw = text.encode()
    tail = len(raw) % 16
    h1 = h2 = 0
    for at in range(0, len(raw) - tail, 16):
        h1 ^= _mix(int.from_bytes(raw[at : at + 8], "little"), _C1, 31, _C2)
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _LOW_64
        h2 ^= _mix(int.from_bytes(raw[at + 8 : at + 16], "little"), _C2, 33, _C1)
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _LOW_64
    rest = raw[len(raw) - tail :]
    h2 ^= _mix(int.from_bytes(rest[8:], "little"), _C2, 33, _C1)
    h1 ^= _mix(int.from_bytes(rest[:8], "little"), _C1, 31, _C2)
    h1 ^= len(raw)
    h2 ^= len(raw)
    h1 = (h1 + h2) & _LOW_64
    h2 = (h2 + h1) & _LOW_64
    h1, h2 = _finish(h1), _finish(h2)
    h1 = (h1 + h2) & _LOW_64
    h2 = (h2 + h1) & _LOW_64
    return h1.to_bytes(8, "little").hex() + h2.to_bytes(8, "little").hex()


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _LOW_64


def _mix(value: int, first: int, bits: int, second: int) -> int:
    return (_rotate((value * first) & _LOW_64, bits) * second) & _LOW_64


def _finish(value: int) -> int:
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & _LOW_64
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & _LOW_64
    return value ^ (value >> 33)
