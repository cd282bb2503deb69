"""Files of many items, handled in a stream: cut into batches, joined, and read row by row.

Whatever the size of a file, only a row of it is in memory, or a block. Files come from and go to internal storage
through a task's `RunContext`.
"""

import codecs
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from io import BufferedReader, RawIOBase
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from tercel.errors import ExpressionError
from tercel.expression.ion import parse_ion, parse_ion_row
from tercel.plugin_api import RunContext, TaskFailedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK_BYTES = 1 << 20
_MOST_SPOOLED_BYTES = 4 << 20


def split_items(
    context: RunContext,
    uri: str,
    *,
    rows: int | None = None,
    partitions: int | None = None,
    size_bytes: int | None = None,
    separator: str = "\n",
    name: str = "items",
) -> list[str]:
    """Cut a file into files of whole lines, stored as files of the task run.

    Args:
        context: of the task that asks.
        uri: the file.
        rows: lines in each file.
        partitions: how many files at most; they get the lines in turn.
        size_bytes: the most that a file holds, unless a single line is longer. Of the three the first that is given
            counts, in the order *size_bytes*, *partitions*, *rows*.
        separator: ends each line; the last one of the file may lack it and gets it.
        name: the stored files are called so, with a number behind.

    Returns:
        The URIs, in order; none for an empty file.

    Raises:
        TaskFailedError: nothing says where to cut, or it is less than one.
        NotFoundError: there is no such file.
    """
    for what, least in (("bytes", size_bytes), ("partitions", partitions), ("rows", rows)):
        if least is not None and least < 1:
            raise TaskFailedError(f"A file cannot be split by {what} of {least}: it takes at least one.")
    if not separator:
        raise TaskFailedError("A file cannot be split at an empty separator.")
    suffix = Path(uri.rpartition("/")[2]).suffix
    uris: list[str] = []

    def store(batch: Iterable[bytes]) -> None:
        context.stop_if_killed()
        uris.append(context.save_stream(stream_of(batch), f"{name}-{len(uris) + 1}{suffix}"))

    with context.open_file(uri) as source:
        lines = lines_of(source, separator.encode())
        if size_bytes is not None:
            batches = _by_size(lines, size_bytes)
        elif partitions is not None:
            batches = _in_turn(lines, partitions, context)
        elif rows is not None:
            batches = _by_rows(lines, rows)
        else:
            raise TaskFailedError("A file is split by bytes, partitions or rows, and none is given.", "Set one.")
        for batch in batches:
            store(batch)
    return uris


def concat_items(context: RunContext, uris: Sequence[str], separator: str = "", name: str = "items") -> str:
    """Store one file of the task run, *name*, that holds all *uris* in order, *separator* after each; gives its URI.

    Raises:
        NotFoundError: one of them is not there.
    """

    def blocks() -> Iterator[bytes]:
        for uri in uris:
            with context.open_file(uri) as source:
                while block := source.read(_BLOCK_BYTES):
                    context.stop_if_killed()
                    yield block
            if separator:
                yield separator.encode()

    return context.save_stream(stream_of(blocks()), name)


def lines_of(stream: BinaryIO, separator: bytes = b"\n") -> Iterator[bytes]:
    """The lines of what *stream* yields, each with *separator* at its end; the last one gets it if it lacks it."""
    if separator == b"\n":
        for line in stream:
            yield line if line.endswith(b"\n") else line + b"\n"
        return
    rest, looked = bytearray(), 0
    while block := stream.read(_BLOCK_BYTES):
        rest += block
        start = 0
        while (found := rest.find(separator, max(start, looked))) >= 0:
            end = found + len(separator)
            yield bytes(rest[start:end])
            start = end
        del rest[:start]
        looked = max(0, len(rest) - len(separator) + 1)
    if rest:
        yield bytes(rest) + separator


def stream_of(chunks: Iterable[bytes]) -> BinaryIO:
    """A stream to read that yields *chunks* as they are asked for."""
    return BufferedReader(_Chunks(iter(chunks)), _BLOCK_BYTES)


class _Chunks(RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target):
            if not self._left:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._left = memoryview(chunk)
            count = min(len(self._left), len(target) - filled)
            target[filled : filled + count] = self._left[:count]
            self._left = self._left[count:]
            filled += count
        return filled


# ── where to cut ─────────────────────────────────────────────────────────────────────────────────────────────────


def _by_rows(lines: Iterator[bytes], rows: int) -> Iterator[Iterable[bytes]]:
    """Batches of *rows* lines; each is to be used up before the next is asked for."""
    for first in lines:
        yield chain((first,), islice(lines, rows - 1))


def _by_size(lines: Iterator[bytes], limit: int) -> Iterator[Iterable[bytes]]:
    """Batches of at most *limit* bytes; each is to be used up before the next is asked for."""
    following = next(lines, None)

    def batch(line: bytes) -> Iterator[bytes]:
        nonlocal following
        size = len(line)
        yield line
        for following in lines:
            size += len(following)
            if size > limit:
                return
            yield following
        following = None

    while following is not None:
        yield batch(following)


def _in_turn(lines: Iterator[bytes], partitions: int, context: RunContext) -> Iterator[Iterable[bytes]]:
    """Lines dealt out to *partitions* files; those that got none are left out."""
    folder = context.engine_directory / "partitions"
    folder.mkdir()
    dealt: dict[int, bytearray] = {}
    spooled = 0

    def write() -> None:
        # Not all files are kept open: there may be more than a process may have.
        context.stop_if_killed()
        for number, part in dealt.items():
            with (folder / str(number)).open("ab") as file:
                file.write(part)
        dealt.clear()

    count = 0
    for count, line in enumerate(lines, 1):
        dealt.setdefault((count - 1) % partitions, bytearray()).extend(line)
        spooled += len(line)
        if spooled > _MOST_SPOOLED_BYTES:
            write()
            spooled = 0
    write()
    for number in range(min(partitions, count)):
        yield _blocks(folder / str(number))
    # An attempt may split more than once.
    for number in range(min(partitions, count)):
        (folder / str(number)).unlink()
    folder.rmdir()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Row(NamedTuple):
    """A value of a file of rows, and its text, on one line wherever the text allows it."""

    text: str
    value: object


def read_rows(stream: BinaryIO, check: Callable[[], None] = lambda: None, *, dates: bool = False) -> Iterator[Row]:
    """The values of a file in Ion text, and so in JSON, in order.

    They may stand on a line each, or several on one, or one on several; a list around all of them is passed over,
    and so are nulls.

    Args:
        stream: yields the file's content.
        check: called now and then; raises to end the work.
        dates: give timestamps as dates and times, not as texts.

    Raises:
        TaskFailedError: the file is no such text; names the row.
    """
    cutter = _Cutter(parse_ion_row if dates else parse_ion)
    count = 0
    try:
        for row in _rows(stream, cutter, check):
            count += 1
            if row.value is not None:
                yield row
    except UnicodeDecodeError as error:
        raise TaskFailedError(f"Row {count + 1} of the file cannot be read: it is not UTF-8 text.") from error
    except ExpressionError as error:
        raise TaskFailedError(f"Row {count + 1} of the file cannot be read: {error.message}") from error


def _rows(stream: BinaryIO, cutter: "_Cutter", check: Callable[[], None]) -> Iterator[Row]:
    """JSON objects on a line each as they are; all else through the cutter, many lines at once."""
    decode = codecs.getincrementaldecoder("utf-8")()
    line = stream.readline(_BLOCK_BYTES)
    if line.startswith(_BINARY_ION):
        raise TaskFailedError(
            "The file is binary Ion, which cannot be read.", "Have it written as Ion text, JSON or JSON lines."
        )
    while line:
        check()
        if line.startswith(b"{") and cutter.is_idle:
            if not line.endswith(b"\n"):
                line += stream.readline(_LONG_ROW_BYTES)
            row = _json_line(line)
            if row is not None:
                yield row
                line = stream.readline(_BLOCK_BYTES)
                continue
        texts: list[str] = []
        broken: UnicodeDecodeError | None = None
        size = 0
        try:
            while True:
                texts.append(decode.decode(line))
                size += len(line)
                if size >= _PIECE_BYTES or not line.endswith(b"\n"):
                    break
                line = stream.readline(_BLOCK_BYTES)
        except UnicodeDecodeError as error:
            broken = error
        yield from cutter.cut("".join(texts))
        if broken is not None:
            raise broken
        line = stream.readline(_BLOCK_BYTES)
    yield from cutter.cut(decode.decode(b"", final=True))
    yield from cutter.end()


_PIECE_BYTES = 1 << 16
"""So many bytes of lines are looked at together, as a value may stand on several."""
_LONG_ROW_BYTES = 16 << 20
"""Of a line longer than a block so much more is read where it may be one object."""
_decode_json = msgspec.json.Decoder().decode


def _json_line(line: bytes) -> Row | None:
    """The row of a line that is a JSON object and nothing else."""
    try:
        return Row(line.decode().strip(), _decode_json(line))
    except (ValueError, RecursionError):
        return None


_BINARY_ION = b"\xe0\x01\x00\xea"
"""How binary Ion begins; no text does."""


def _refuse(constant: str) -> object:
    raise ValueError(constant)


_JSON = json.JSONDecoder(parse_constant=_refuse)

_TEXT = r'"[^"\\\n]*+(?:\\(?s:.)[^"\\\n]*+)*+"'
_LONG_TEXT = r"'''[^'\\]*+(?:(?:\\(?s:.)|'(?!''))[^'\\]*+)*+'''"
_TOKEN = re.compile(
    r"(?P<blank>(?:[\s\ufeff]+|//[^\n\r]*|/\*(?s:.*?)\*/)+)"
    rf"|(?P<long>{_LONG_TEXT})"
    rf"|(?P<lob>\{{\{{(?:\s*(?:{_TEXT}|{_LONG_TEXT})\s*|[A-Za-z0-9+/=\s]*)\}}\}})"
    rf"|(?P<text>{_TEXT})"
    r"|(?P<symbol>'(?!'')[^'\\\n]*+(?:\\(?s:.)[^'\\\n]*+)*+')"
    r"|(?P<open>\{(?!\{)|[\[(])"
    r"|(?P<close>[\])}])"
    r"|(?P<annotation>::)"
    r"|(?P<comma>,)"
    r"|(?P<word>(?:[^\s{}\[\](),\"':/]+|:(?!:)|/(?![/*]))+)"
)
_CLOSERS = {"'''": "'''", "/*": "*/", "{{": "}}"}
"""What begins a token that may go on over lines, to what ends it."""
_AT_END = 3  # so many characters behind a token say that it is all of it
_PAIRS = {"]": "[", ")": "(", "}": "{"}


class _Cutter:
    """Cuts a text, given in pieces, into its values at the top level."""

    def __init__(self, parse: Callable[[str], object]) -> None:
        self._parse = parse
        self._waiting = [""]
        self._closer = ""
        self._pieces: list[str] = []
        self._open: list[str] = []
        self._in_list = False

    @property
    def is_idle(self) -> bool:
        """True between two values, outside of a list."""
        return not (self._waiting[0] or self._pieces or self._in_list)

    def cut(self, text: str) -> Iterator[Row]:
        """Take a piece and give the values that are complete with it."""
        return self._cut(text, is_whole=text.endswith("\n"))

    def end(self) -> Generator[Row]:
        """Give what comes out as nothing follows."""
        yield from self._cut("", is_whole=True)
        if not self.is_idle:
            raise ExpressionError("The text ends in the middle of a value.")

    def _cut(self, text: str, *, is_whole: bool) -> Iterator[Row]:
        before = self._waiting[-1][-2:]
        self._waiting.append(text)
        if self._closer and self._closer not in before + text and not (is_whole and self._closer == '"'):
            return  # looking again at what waits would take long where it is long
        text, at, self._closer = "".join(self._waiting), 0, ""
        while at < len(text):
            quick = _json_row(text, at) if text[at] == "{" and not self._pieces else None
            if quick is not None:
                row, at = quick
                yield row
                continue
            found = _TOKEN.match(text, at)
            if not is_whole and (found is None or len(text) - found.end() < _AT_END):
                self._closer = '"' if found is None and text[at] == '"' else ""
                break
            if found is None:
                self._closer = _CLOSERS.get(text[at : at + 3], _CLOSERS.get(text[at : at + 2], ""))
                if self._closer:
                    break
                raise ExpressionError(f"The text is not Ion: it cannot go on with {_excerpt(text, at)!r}.")
            at = found.end()
            if self._takes(found):
                yield self._row()
        self._waiting = [text[at:]]

    def _takes(self, found: re.Match[str]) -> bool:
        """Take a token and tell whether a value ends with it."""
        kind, token = found.lastgroup, found[0]
        if not self._open:
            if kind == "blank" or (kind == "word" and token == "$ion_1_0" and not self._pieces):
                return False
            if kind == "open" and token == "[" and not self._in_list and not self._pieces:
                self._in_list = True
                return False
            if self._in_list and not self._pieces and (kind == "comma" or token == "]"):
                self._in_list = kind == "comma"
                return False
        if kind != "blank":
            self._pieces.append(token)
        elif self._pieces[-1] != " ":
            self._pieces.append(" ")
        match kind:
            case "open":
                self._open.append(token)
            case "close":
                if not self._open or self._open.pop() != _PAIRS[token]:
                    raise ExpressionError(f"The text is not Ion: {token!r} closes nothing.")
            case "annotation":
                return False
            case "word" | "symbol":
                behind = _ANNOTATES.match(found.string, found.end())
                return not self._open and behind is None
            case _:
                pass
        return not self._open

    def _row(self) -> Row:
        text = "".join(self._pieces)
        self._pieces.clear()
        # JSON over several lines is to give the same as on one.
        quick = _json_row(text, 0) if text[0] == "{" else None
        return Row(text, self._parse(text)) if quick is None or quick[1] < len(text) else quick[0]


def _json_row(text: str, at: int) -> tuple[Row, int] | None:
    """The row of a JSON object, which is read much faster, and where it ends; None where there is none."""
    try:
        value, end = _JSON.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    # In JSON no text has a line break in it.
    return Row(_LINE_BREAK.sub(" ", text[at:end]), value), end


def _excerpt(text: str, at: int) -> str:
    return text[at : at + 20].splitlines(keepends=True)[0]


_LINE_BREAK = re.compile(r"[ \t]*+[\r\n]\s*+")
_ANNOTATES = re.compile(r"\s*::")
