"""Headers of packs that we never write."""

import pytest

from tercel.layers.tars import format_node, parse_node
from tercel.layers.trees import Node


def record(key: bytes, value: bytes) -> bytes:
    """A record of an extended header, which begins with its own length."""
    records = (b"%d %b=%b\n" % (length, key, value) for length in range(200))
    return next(text for length, text in enumerate(records) if len(text) == length)


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"size", b"-5"), (b"size", b"+5"), (b"size", b" 5"), (b"size", b"9" * 30), (b"mtime", b"9" * 30)],
)
def test_given_a_number_that_is_none_then_the_header_is_refused(key: bytes, value: bytes) -> None:
    _, extended, _, block = format_node(Node("a", "f", 0o644, 0, 0))

    assert parse_node(extended, block).size == 0
    with pytest.raises(ValueError, match="is wrong"):
        parse_node(extended + record(key, value), block)
