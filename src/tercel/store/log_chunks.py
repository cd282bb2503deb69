"""Log lines as they are stored: many together, as JSON, one line an entry, compressed where that is worth it."""

from collections.abc import Sequence
from functools import cache

import msgspec

from tercel.model.logs import LogEntry

_WORTH_COMPRESSING_BYTES = 8 * 1024

_encode_lines = msgspec.json.Encoder().encode_lines


def encode_chunk(entries: Sequence[LogEntry]) -> tuple[str, bytes]:
    """How the lines are encoded, `plain` or `zstd`, and the lines encoded."""
    data = _encode_lines(entries)
    if len(data) < _WORTH_COMPRESSING_BYTES:
        return "plain", data
    from zstandard import ZstdCompressor  # noqa: PLC0415  # 12 ms that a short log does not need

    return "zstd", ZstdCompressor(level=1).compress(data)


def decode_chunk(encoding: str, data: bytes) -> list[LogEntry]:
    """The lines of a chunk, in the order of writing."""
    return _decoder().decode_lines(_unpacked(encoding, data))


def chunk_has(encoding: str, data: bytes, text: str) -> bool:
    """False where a chunk certainly has no line with *text*, in lower case, in it; quicker than reading its lines."""
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
        return True  # JSON may write it in another way
    return text.encode() in _unpacked(encoding, data).lower()


def _unpacked(encoding: str, data: bytes) -> bytes:
    if encoding == "zstd":
        from zstandard import ZstdDecompressor  # noqa: PLC0415  # only where a chunk is compressed

        return ZstdDecompressor().decompress(data)
    return data


@cache
def _decoder() -> msgspec.json.Decoder[LogEntry]:
    return msgspec.json.Decoder(LogEntry)
