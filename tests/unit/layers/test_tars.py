"""Headers of packs that we never write."""

import os

import pytest

from tercel.layers.tars import Member, extended_size, format_member, parse_member
from tercel.layers.trees import LayerError


def record(key: bytes, value: bytes) -> bytes:
    """A record of an extended header, which begins with its own length."""
    records = (b"%d %b=%b\n" % (length, key, value) for length in range(200))
    return next(text for length, text in enumerate(records) if len(text) == length)


def split(headers: bytes) -> tuple[bytes, bytes]:
    """The extended header, and the block after it."""
    size = extended_size(headers[:512])
    return headers[512 : 512 + size], headers[-512:]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"size", b"-5"),
        (b"size", b"+5"),
        (b"size", b" 5"),
        (b"size", b"9" * 30),
        (b"mtime", b"9" * 30),
        (b"uid", b"-2"),
        (b"gid", b"%d" % (1 << 32)),
    ],
)
def test_given_a_number_that_is_none_then_the_header_is_refused(key: bytes, value: bytes) -> None:
    extended, block = split(format_member(Member("a", "f", 0o644, 0)))

    assert parse_member(extended, block).size == 0
    with pytest.raises(ValueError, match="is wrong"):
        parse_member(extended + record(key, value), block)


@pytest.mark.parametrize(
    "member",
    [
        Member("a", "f", 0o4755, -1_500_000_001, size=1 << 40, uid=0, gid=12, is_sparse=True),
        Member("", "d", 0o700, 1, attributes={"user.a": b"\0=\n", "user.b": b""}),
        Member("n" * 99, "d", 0o1777, 1, is_opaque=True),
        Member(os.fsdecode(b"\xff") + "/é" * 80, "l", 0o777, 1, target="t" * 200),
        Member("a/b", "w", 0, 0),
        Member("a/c", "h", 0o644, 5, target="a/b"),
    ],
)
def test_given_a_member_then_it_is_read_as_it_was_written(member: Member) -> None:
    headers = format_member(member)

    assert len(headers) % 512 == 0
    assert parse_member(*split(headers)) == member


@pytest.mark.parametrize("name", ["user.overlay.opaque", "trusted.overlay.redirect", "security.capability"])
def test_given_attributes_that_are_no_users_then_they_are_left_out(name: str) -> None:
    headers = format_member(Member("a", "d", 0o700, 1, attributes={name: b"y"}))

    assert parse_member(*split(headers)).attributes == {}


def test_given_a_device_that_is_no_whiteout_then_it_is_refused() -> None:
    extended, block = split(format_member(Member("a", "w", 0, 0)))
    device = bytearray(block)
    device[335] += 1
    device[148:155] = b"%06o\0" % (sum(device) + 8 * 32 - sum(device[148:156]))

    with pytest.raises(ValueError, match="an entry is a device"):
        parse_member(extended, bytes(device))


def test_given_more_attributes_than_are_read_then_they_are_refused() -> None:
    with pytest.raises(LayerError, match="'a' has more than 1 MiB of attributes"):
        format_member(Member("a", "f", 0o644, 0, attributes={f"user.{number}": bytes(60_000) for number in range(20)}))
