"""What an answer holds: its content, decoded as it comes and never all in memory, its headers, and its file name."""

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from tercel.plugin_api import RunContext, TaskFailedError
from tercel.plugins.http.texts import shown

if TYPE_CHECKING:
    import httpx

_BLOCK = 1 << 20
_LONGEST_NAME = 200
_LONGEST_SUFFIX = 20


class Content:
    """The content of an answer, to be read once.

    Args:
        response: its content unread.
        context: of the task; a kill ends the reading.
        most: larger content fails the task; None for any.

    Attributes:
        length: bytes read so far, as they are after decoding.
    """

    def __init__(self, response: "httpx.Response", context: RunContext, most: int | None = None) -> None:
        self._address = shown(str(response.request.url))
        self._blocks = self._decoded(response)
        self._context = context
        self._most = most
        self._ahead = b""
        self.length = 0

    def read(self, size: int = _BLOCK) -> bytes:
        """The next bytes, *size* at most; none at the end."""
        block = self._ahead or self._next()
        self._ahead = block[size:]
        return block[:size]

    def take(self, size: int) -> bytes:
        """The next *size* bytes, fewer only where it ends."""
        blocks: list[bytes] = []
        while size > 0 and (block := self.read(size)):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)

    def is_at_end(self) -> bool:
        """Say whether everything is read; waits for the next byte."""
        self._ahead = self._ahead or self._next()
        return not self._ahead

    def give_back(self, start: bytes) -> None:
        """Have *start*, which was read, read again."""
        self._ahead = start + self._ahead

    def _next(self) -> bytes:
        self._context.stop_if_killed()
        block = next(self._blocks, b"")
        self.length += len(block)
        if self._most is not None and self.length > self._most:
            raise TaskFailedError(
                f"The answer of {self._address} has more than the {self._most:,} bytes that maxContentLength allows."
            )
        return block

    def _decoded(self, response: "httpx.Response") -> Iterator[bytes]:
        match response.headers.get("content-encoding", "").strip().lower():
            case "" | "identity":
                return (block for block in response.iter_raw() if block)
            case "gzip" | "x-gzip":
                return (block for block in self._unzipped(response.iter_raw()) if block)
            case _:
                return (block for block in response.iter_bytes(_BLOCK) if block)

    def _unzipped(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Unlike httpx's own decoder it never makes more of a few bytes than a block at a time."""
        decoder = zlib.decompressobj(31)
        is_begun = False
        try:
            for block in blocks:
                rest = block
                while rest:
                    if decoder.eof:
                        decoder = zlib.decompressobj(31)  # files may be put together of several
                    is_begun = True
                    yield decoder.decompress(rest, _BLOCK)
                    rest = decoder.unused_data.lstrip(b"\0") if decoder.eof else decoder.unconsumed_tail
            yield decoder.flush()
        except zlib.error as error:
            raise TaskFailedError(f"The answer of {self._address} is not gzip, as it says: {error}.") from error
        if is_begun and not decoder.eof:
            raise TaskFailedError(f"The answer of {self._address} ends in the middle of its gzip content.")


def save(content: Content, name: str, context: RunContext) -> str:
    """Write what is left of *content* into internal storage, and give its URI; all of it is there or nothing is."""
    try:
        return context.save_stream(cast("BinaryIO", content), name)
    except OSError as error:
        raise TaskFailedError(f"The answer cannot be stored: {error.strerror or error}.") from error


def headers_of(response: "httpx.Response") -> dict[str, list[str]]:
    """Values by name: each name as it came, and in lower case, by which it is found whatever the server writes."""
    headers: dict[str, list[str]] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        for one in {name, name.lower()}:
            headers.setdefault(one, []).append(value)
    return headers


def file_name(response: "httpx.Response", otherwise: str) -> str:
    """The name the server suggests, else the last part of the address, else *otherwise*; never with a folder in it."""
    disposition = response.headers.get("content-disposition", "")
    extended = re.search(r"filename\*\s*=\s*[\w-]*'[^']*'([^;]+)", disposition, re.IGNORECASE)
    plain = re.search(r'filename\s*=\s*(?:"([^"]*)"|([^;\s]+))', disposition, re.IGNORECASE)
    if extended is not None:
        name = unquote(extended.group(1).strip())
    elif plain is not None:
        name = plain.group(1) or plain.group(2) or ""
    else:
        name = unquote(urlsplit(str(response.request.url)).path)
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].replace("\0", "")
    return _fitting(base) if base.strip(".") else otherwise


def _fitting(name: str) -> str:
    """*name*, cut where no file system would take it, its suffix kept."""
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    suffix = f".{suffix}" if dot and stem and len(suffix.encode()) <= _LONGEST_SUFFIX else ""
    kept = name.removesuffix(suffix).encode()[: _LONGEST_NAME - len(suffix.encode())]
    return kept.decode(errors="ignore") + suffix
