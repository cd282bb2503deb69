"""The tar (pax) form of what is in a layer, both ways.

Writes what any tar can read: names, modes, times in nanoseconds, links, whiteouts as the devices they are, `user.`
attributes, and owners where they are not those of who packs. Reads only what it writes. Where content comes from and
goes to is in `packs.py`.
"""

import os
from functools import lru_cache
from zlib import adler32

import msgspec

from tercel.layers.trees import LayerError

TAR_BLOCK_BYTES = 512
_LARGEST_EXTENDED_BYTES = 1 << 20
_MOST_DIGITS = 18
_TYPES = {"f": b"0", "h": b"1", "l": b"2", "w": b"3", "d": b"5"}
_KINDS = {kind: name for name, kind in _TYPES.items()}
_ATTRIBUTE = b"SCHILY.xattr."
_SPARSE = b"TERCEL.sparse"
_OPAQUE = b"TERCEL.opaque"
_MAGIC = b"ustar\x0000"


class Member(msgspec.Struct):
    """One thing in a packed layer.

    Attributes:
        path: relative, with `/` between its parts; "" is the layer's root.
        kind: as `Entry.kind`, or `h` for a further name of a file.
        mode: permission bits.
        mtime_ns: when it was last modified.
        size: in bytes; 0 for what is not a file.
        uid: its owner; -1 for who packs, and who unpacks.
        gid: its group; same.
        target: of a link, as it is; of a further name, the path of the file.
        is_sparse: a file with holes.
        is_opaque: a folder that hides what is below it.
        attributes: extended attributes of users, without the marks of layers.
    """

    path: str
    kind: str
    mode: int
    mtime_ns: int
    size: int = 0
    uid: int = -1
    gid: int = -1
    target: str = ""
    is_sparse: bool = False
    is_opaque: bool = False
    attributes: dict[str, bytes] = {}


def format_member(member: Member) -> bytes:
    """The headers of a member, in whole blocks; a file's content follows them, filled up to whole blocks too.

    Raises:
        LayerError: it has more attributes than `parse_member` takes.
    """
    name, target = os.fsencode(member.path), os.fsencode(member.target)
    seconds, nanos = divmod(abs(member.mtime_ns), 1_000_000_000)
    sign = b"-" if member.mtime_ns < 0 else b""
    records = [_record(b"mtime", b"%b%d.%09d" % (sign, seconds, nanos))]
    if member.kind == "d":
        name = (name or b".") + b"/"
    if len(name) > 100:
        records.append(_record(b"path", name))
    if len(target) > 100:
        records.append(_record(b"linkpath", target))
    if member.size >= 1 << 33:
        records.append(_record(b"size", b"%d" % member.size))
    if member.uid >= 0:
        records.append(_record(b"uid", b"%d" % member.uid))
    if member.gid >= 0:
        records.append(_record(b"gid", b"%d" % member.gid))
    if member.is_sparse:
        records.append(_record(_SPARSE, b"1"))
    if member.is_opaque:
        records.append(_record(_OPAQUE, b"1"))
    for key, value in sorted(member.attributes.items()):
        records.append(_record(_ATTRIBUTE + os.fsencode(key), value))
    extended = b"".join(records)
    if len(extended) > _LARGEST_EXTENDED_BYTES:
        raise LayerError(f"{member.path!r} has more than 1 MiB of attributes.")
    size = len(extended)
    header = _header(
        name[:100],
        member.mode,
        member.size if member.size < 1 << 33 else 0,
        0 if sign else min(seconds, 0o77777777777),
        _TYPES[member.kind],
        target[:100],
    )
    return _extended_header(size) + extended.ljust(size + -size % TAR_BLOCK_BYTES, b"\0") + header


@lru_cache(maxsize=1000)
def _extended_header(size: int) -> bytes:
    return _header(b"PaxHeader", 0o644, size, 0, b"x", b"")


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    digits = len(b"%d" % length)
    if len(b"%d" % (length + digits)) > digits:
        digits += 1
    return b"%d %b=%b\n" % (length + digits, key, value)


def _header(name: bytes, mode: int, size: int, mtime: int, kind: bytes, link: bytes = b"") -> bytes:  # noqa: PLR0917 - the fields in their order
    start = _HEADER_START % (name.ljust(100, b"\x00"), mode, size, mtime)
    end = _HEADER_END % (kind, link.ljust(100, b"\x00"))
    checksum = _sum(start) + _sum(end) + _SUM_OF_THE_REST
    return b"%b%06o\x00 %b%b" % (start, checksum, end, _HEADER_REST)


# Name, mode, owner 0, group 0, size, time; then kind, link, magic and version.
_HEADER_START = b"%b%07o\x000000000\x000000000\x00%011o\x00%011o\x00"
_HEADER_END = b"%b%b" + _MAGIC
# A device is 0/0, as whiteouts are.
_HEADER_REST = bytes(64) + b"0000000\x000000000\x00" + bytes(167)
_SUM_OF_THE_REST = 8 * 32 + sum(_HEADER_REST)


def _sum(part: bytes) -> int:
    """The sum of up to 256 bytes, 10 times as quick as sum(): the lower half of an Adler-32 is one more than it."""
    return (adler32(part) & 0xFFFF) - 1


def extended_size(block: bytes) -> int:
    """How many bytes of extended header follow the first block of a member.

    Raises:
        ValueError: it is not of our making.
    """
    size, kind = _checked_header(block)
    if kind != b"x" or size > _LARGEST_EXTENDED_BYTES:
        raise ValueError("a header is not of our making")
    return size


def parse_member(extended: bytes, block: bytes) -> Member:
    """The member of an extended header and the block after it; where its path leads is not checked.

    Raises:
        ValueError: it is not of our making.
    """
    records = _parse_records(extended)
    size, kind = _checked_header(block)
    if kind not in _KINDS:
        raise ValueError(f"an entry is of the kind {kind!r}")
    if kind == _TYPES["w"] and block[329:345].strip(b"0\0"):
        raise ValueError("an entry is a device")
    name = records.get(b"path", block[:100].rstrip(b"\0"))
    if kind == _TYPES["d"]:
        name = b"" if name == b"./" else name.removesuffix(b"/")
    return Member(
        path=os.fsdecode(name),
        kind=_KINDS[kind],
        mode=_octal(block[100:108]) & 0o7777,
        mtime_ns=_parse_time(records.get(b"mtime", b"")),
        size=_number(records.get(b"size", b"%d" % size)),
        uid=_parse_owner(records.get(b"uid")),
        gid=_parse_owner(records.get(b"gid")),
        target=os.fsdecode(records.get(b"linkpath", block[157:257].rstrip(b"\0"))),
        is_sparse=_SPARSE in records,
        is_opaque=_OPAQUE in records,
        attributes={
            os.fsdecode(key[len(_ATTRIBUTE) :]): value
            for key, value in records.items()
            if key.startswith(_ATTRIBUTE + b"user.") and not key.startswith(_ATTRIBUTE + b"user.overlay.")
        },
    )


def _checked_header(block: bytes) -> tuple[int, bytes]:
    """Size and kind of a tar header."""
    expected = _sum(block[:148]) + 8 * 32 + _sum(block[156:400]) + _sum(block[400:])
    if block[257:265] != _MAGIC or _octal(block[148:156]) != expected:
        raise ValueError("a header is not of our making")
    return _octal(block[124:136]), block[156:157]


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not digits.isdigit():
        raise ValueError("a number in a header is wrong")
    return int(digits, 8)


def _number(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        raise ValueError("a number in an extended header is wrong")
    return int(digits)


def _parse_owner(digits: bytes | None) -> int:
    """A user or group; -1 where none is given."""
    number = -1 if digits is None else _number(digits)
    if number >= 1 << 32:
        raise ValueError("an owner in an extended header is wrong")
    return number


def _parse_time(text: bytes) -> int:
    """Nanoseconds since 1970 of a decimal number of seconds."""
    sign = -1 if text.startswith(b"-") else 1
    seconds, _, fraction = text.removeprefix(b"-").partition(b".")
    if not (seconds + fraction).isdigit() or len(seconds) > _MOST_DIGITS:
        raise ValueError("a time in a header is wrong")
    return sign * (int(seconds) * 1_000_000_000 + int(fraction.ljust(9, b"0")[:9]))


def _parse_records(extended: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(extended):
        digits, space, _ = extended[at : at + 20].partition(b" ")
        end = at + int(digits) if space and digits.isdigit() else 0
        key, equals, value = extended[at + len(digits) + 1 : end - 1].partition(b"=")
        if not at < end <= len(extended) or not equals:
            raise ValueError("an extended header is wrong")
        records[key] = value
        at = end
    return records
