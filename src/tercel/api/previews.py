"""The beginning of a file, in a form that a page can show. Pure but for reading."""

import codecs
from base64 import b64encode
from typing import BinaryIO

from tercel.api.problems import RequestError
from tercel.api.shapes import Json, plain
from tercel.errors import TaskFailedError
from tercel.item_files import read_rows

MOST_ROWS = 5000
"""Lines or rows of a preview, at most."""

_MOST_TEXT_BYTES = 4 * 1024 * 1024
_MOST_BINARY_BYTES = 16 * 1024 * 1024

_ROWS = frozenset({"ion"})
_IMAGES = frozenset({"jpg", "jpeg", "png", "svg", "gif", "bmp", "webp", "avif", "ico"})
_MARKDOWN = frozenset({"md", "markdown"})


def preview_json(file: BinaryIO, name: str, *, size: int, max_rows: int, encoding: str = "UTF-8") -> Json:
    """A preview.

    Args:
        file: its content.
        name: of the file; its extension says how it is shown.
        size: of the file, in bytes.
        max_rows: lines or rows to show.
        encoding: of a text.

    Raises:
        RequestError: 422, an unknown encoding, or a file of rows that cannot be read.
    """
    decoder = _decoder(encoding)
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    if extension in _ROWS:
        kind, (content, is_cut) = "LIST", _rows(file, max_rows)
    elif extension in _IMAGES or extension == "pdf":
        kind, (content, is_cut) = "PDF" if extension == "pdf" else "IMAGE", _binary(file, size)
    else:
        kind, (content, is_cut) = "MARKDOWN" if extension in _MARKDOWN else "TEXT", _text(file, max_rows, decoder)
    return {
        "extension": extension,
        "type": kind,
        "content": content,
        "maxLine": max_rows,
        "truncated": is_cut,
    }


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError):
        info = None
    # Python also knows "encodings" of bytes as bytes, such as zip, and of names, such as idna.
    if info is None or not getattr(info, "_is_text_encoding", True) or info.name in ("idna", "punycode", "undefined"):
        raise RequestError(422, f"There is no encoding {encoding[:100]!r}.", hint="UTF-8 and ISO-8859-1 are such.")
    return codecs.getincrementaldecoder(info.name)("replace")


def _rows(file: BinaryIO, most: int) -> tuple[list[object], bool]:
    found: list[object] = []
    try:
        for row in read_rows(file):
            if len(found) == most:
                return found, True
            found.append(plain(row.value))
    except TaskFailedError as error:
        raise RequestError(422, str(error)) from None
    return found, False


def _binary(file: BinaryIO, size: int) -> tuple[str, bool]:
    """All of it as Base64: a part of an image shows nothing."""
    if size > _MOST_BINARY_BYTES:
        return "", True
    return b64encode(file.read(_MOST_BINARY_BYTES)).decode(), False


def _text(file: BinaryIO, most: int, decoder: codecs.IncrementalDecoder) -> tuple[str, bool]:
    raw = file.read(_MOST_TEXT_BYTES + 1)
    is_cut = len(raw) > _MOST_TEXT_BYTES
    try:
        text = decoder.decode(raw[:_MOST_TEXT_BYTES], final=not is_cut)
    except UnicodeError as error:
        raise RequestError(422, f"The file cannot be read: {error}.", hint="Give its encoding.") from None
    lines = text.split("\n", most)
    if len(lines) > most:
        is_cut = is_cut or bool(lines.pop())
        lines.append("")
    return "\n".join(lines), is_cut
