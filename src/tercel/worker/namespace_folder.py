"""The files of a namespace as tasks see them."""

from collections.abc import Sequence
from typing import BinaryIO

from tercel.errors import NotFoundError
from tercel.storage import format_uri, namespace_file_path
from tercel.storage.namespace_files import NamespaceFiles


class TaskNamespaceFolder:
    """A `plugin_api.NamespaceFolder` over namespace files."""

    def __init__(self, files: NamespaceFiles) -> None:
        self._files = files

    def list(self, patterns: Sequence[str] = ()) -> list[str]:
        """The paths of the files that globs match, of all without any; sorted."""
        return [file.path for file in self._files.select(patterns)]

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; the caller closes it."""
        return self._files.get(path)

    def is_executable(self, path: str) -> bool:
        """Whether a file may be executed. Raises NotFoundError."""
        file = self._files.find(path)
        if file is None:
            raise NotFoundError(f"The namespace {self._files.namespace!r} has no file {path!r}.")
        return file.executable

    def put(self, path: str, content: BinaryIO, *, executable: bool = False) -> str:
        """Write a file, as its next version where it is there already; gives its URI."""
        file = self._files.put(path, content, executable=executable)
        return format_uri(namespace_file_path(self._files.namespace, file.path))

    def delete(self, path: str) -> None:
        """Remove a file; older versions are kept."""
        self._files.delete(path)
