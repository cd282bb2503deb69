"""What a request carries: a text, a file of internal storage, or the fields of a form."""

import mimetypes
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import BinaryIO, cast
from urllib.parse import unquote

from tercel.plugin_api import RunContext
from tercel.plugins.http.texts import plain

_BLOCK = 1 << 18
_STORED = ("kestra:///", "nsfile:///")


class StoredContent:
    """A file of internal storage, read anew for each try, never held in memory.

    Args:
        uri: of the file.
        context: of the task.
    """

    def __init__(self, uri: str, context: RunContext) -> None:
        self._uri = uri
        self._context = context
        self.length = context.file_size(uri)

    def __iter__(self) -> Iterator[bytes]:
        with self._context.open_file(self._uri) as file:
            while block := file.read(_BLOCK):
                yield block

    @property
    def content_type(self) -> str:
        """What the file's name says that it holds."""
        return mimetypes.guess_type(unquote(self._uri))[0] or "application/octet-stream"


def is_stored(text: str) -> bool:
    """Whether a text is nothing but the address of a file in internal storage."""
    return text.startswith(_STORED) and not any(character.isspace() for character in text)


def form_part(
    context: RunContext, name: str, value: object, files: ExitStack
) -> tuple[str, tuple[str | None, BinaryIO | str]]:
    """One field of a multipart form: a file for a URI or `{name, content}`, else text."""
    if isinstance(value, str) and is_stored(value):
        return name, (unquote(value.rpartition("/")[2]), files.enter_context(context.open_file(value)))
    if isinstance(value, Mapping):
        file = cast("Mapping[str, object]", value)
        if "name" in file and "content" in file:
            content = plain(file["content"])
            opened = files.enter_context(context.open_file(content)) if is_stored(content) else content
            return name, (plain(file["name"]), opened)
    return name, (None, plain(cast("object", value)))
