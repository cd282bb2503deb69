"""The tar (pax) form of a tree's nodes, both ways.

Writes what any tar can read: names, modes, times in nanoseconds, links, `user.` attributes; no owners. Reads only
what it writes. Where content comes from and goes to is in `packs.py`.
"""

import os
from collections.abc import Iterator

from tercel.layers.trees import Node

TAR_BLOCK_BYTES = 512
_LARGEST_EXTENDED_BYTES = 1 << 20
_MOST_DIGITS = 18
_TYPES = {"f": b"0", "h": b"1", "l": b"2", "d": b"5"}
_KINDS = {kind: name for name, kind in _TYPES.items()}
_ATTRIBUTE = b"SCHILY.xattr."
_SPARSE = b"TERCEL.sparse"
_RELOCATES = b"TERCEL.relocates"
_MAGIC = b"ustar\x0000"


def format_node(node: Node) -> Iterator[bytes]:
    """The headers of a node, in parts; a file's content follows them, filled up to whole blocks."""
    name, target = os.fsencode(node.path), os.fsencode(node.target)
    seconds, nanos = divmod(abs(node.mtime_ns), 1_000_000_000)
    sign = b"-" if node.mtime_ns < 0 else b""
    records = [_record(b"mtime", b"%b%d.%09d" % (sign, seconds, nanos))]
    if node.kind == "d":
        name += b"/"
    if len(name) > 100:
        records.append(_record(b"path", name))
    if len(target) > 100:
        records.append(_record(b"linkpath", target))
    if node.size >= 1 << 33:
        records.append(_record(b"size", b"%d" % node.size))
    if node.is_sparse:
        records.append(_record(_SPARSE, b"1"))
    if node.relocates:
        records.append(_record(_RELOCATES, b"1"))
    for key, value in sorted(node.attributes.items()):
        records.append(_record(_ATTRIBUTE + os.fsencode(key), value))
    extended = b"".join(records)
    yield _header(b"PaxHeader", 0o644, len(extended), 0, b"x", b"")
    yield extended
    yield bytes(-len(extended) % TAR_BLOCK_BYTES)
    yield _header(
        name[:100],
        node.mode,
        node.size if node.size < 1 << 33 else 0,
        0 if sign else min(seconds, 0o77777777777),
        _TYPES[node.kind],
        target[:100],
    )


def _record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    digits = len(b"%d" % length)
    if len(b"%d" % (length + digits)) > digits:
        digits += 1
    return b"%d %b=%b\n" % (length + digits, key, value)


def _header(name: bytes, mode: int, size: int, mtime: int, kind: bytes, link: bytes = b"") -> bytes:  # noqa: PLR0917 - the fields in their order
    start = _HEADER_START % (name.ljust(100, b"\x00"), mode, size, mtime)
    end = _HEADER_END % (kind, link.ljust(100, b"\x00"))
    checksum = sum(start) + sum(end) + 8 * 32
    return b"%b%06o\x00 %b%b" % (start, checksum, end, _HEADER_REST)


# Name, mode, owner 0, group 0, size, time; then kind, link, magic and version.
_HEADER_START = b"%b%07o\x000000000\x000000000\x00%011o\x00%011o\x00"
_HEADER_END = b"%b%b" + _MAGIC
_HEADER_REST = bytes(247)


def extended_size(block: bytes) -> int:
    """How many bytes of extended header follow the first block of a node.

    Raises:
        ValueError: it is not of our making.
    """
    size, kind = _checked_header(block)
    if kind != b"x" or size > _LARGEST_EXTENDED_BYTES:
        raise ValueError("a header is not of our making")
    return size


def parse_node(extended: bytes, block: bytes) -> Node:
    """The node of an extended header and the block after it; where its path leads is not checked.

    Raises:
        ValueError: it is not of our making.
    """
    records = _parse_records(extended)
    size, kind = _checked_header(block)
    if kind not in _KINDS:
        raise ValueError(f"an entry is of the kind {kind!r}")
    name = records.get(b"path", block[:100].rstrip(b"\0"))
    if kind == b"5":
        name = name.removesuffix(b"/")
    return Node(
        path=os.fsdecode(name),
        kind=_KINDS[kind],
        mode=_octal(block[100:108]) & 0o7777,
        size=_number(records.get(b"size", b"%d" % size)),
        mtime_ns=_parse_time(records.get(b"mtime", b"")),
        target=os.fsdecode(records.get(b"linkpath", block[157:257].rstrip(b"\0"))),
        is_sparse=_SPARSE in records,
        relocates=_RELOCATES in records,
        attributes={
            os.fsdecode(key[len(_ATTRIBUTE) :]): value
            for key, value in records.items()
            if key.startswith(_ATTRIBUTE + b"user.")
        },
    )


def _checked_header(block: bytes) -> tuple[int, bytes]:
    """Size and kind of a tar header."""
    expected = sum(block[:148]) + 8 * 32 + sum(block[156:])
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
