"""Answers: JSON, pages, texts, files to save."""

import csv
import io
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse

from tercel.operations import new_execution_id

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_encode = msgspec.json.Encoder(enc_hook=str).encode


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; what it has no form for is written as text."""
    return Response(_encode(value), status, headers, "application/json")


def page_answer(results: Sequence[object], total: int, **more: object) -> Response:
    """A page of results, and how many there are in all."""
    return json_answer({"results": results, "total": total, **more})


def bulk_answer(count: int) -> Response:
    """How many entries of a bulk call were done, in the forms of all versions; it is over, so its id only names it."""
    return json_answer({"count": count, "operationId": new_execution_id(), "totalItems": count})


def empty_answer(status: int = 204) -> Response:
    """Nothing."""
    return Response(b"", status)


def text_answer(text: str, media_type: str = "text/plain") -> Response:
    """A text."""
    return Response(text, media_type=media_type)


def file_answer(
    content: bytes | Iterable[bytes] | AsyncIterable[bytes],
    name: str,
    media_type: str = "application/octet-stream",
    length: int | None = None,
) -> Response:
    """A file to save under *name*.

    Args:
        content: all of it, or a stream: a plain iterator is read in a thread.
        name: without folders.
        media_type: what it is.
        length: of a stream, in bytes; None where it is not known.
    """
    headers = {"Content-Disposition": disposition(name), "X-Content-Type-Options": "nosniff"}
    if isinstance(content, bytes):
        return Response(content, headers=headers, media_type=media_type)
    if length is not None:
        headers["Content-Length"] = str(length)
    stream: Any = content
    return StreamingResponse(stream, headers=headers, media_type=media_type)


def csv_line(cells: Iterable[object]) -> bytes:
    """A line of CSV; what a spreadsheet would take for a formula is told to be a text."""
    line = io.StringIO()
    csv.writer(line).writerow(
        f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells
    )
    return line.getvalue().encode()


def disposition(name: str) -> str:
    """The header that has a browser save a file under *name*.

    Example:
        >>> disposition("flows.zip")
        'attachment; filename="flows.zip"'
    """
    plain = "".join(letter if " " <= letter <= "~" and letter not in '"\\/' else "_" for letter in name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"
