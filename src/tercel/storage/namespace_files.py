"""Namespace files: a tree of files for each namespace, in internal storage or straight from a folder.

Knows names, folders, executable bits and the include and exclude of `namespaceFiles`. Writing the files into a
working directory is the worker's.
"""

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from tercel.errors import NotFoundError, StorageError, UserError
from tercel.model.globs import namespace_globs
from tercel.storage import InternalStorage, format_uri, namespace_file_path, parse_uri, split_path
from tercel.storage.local import copy_content


class NamespaceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a namespace.

    Attributes:
        path: with `/` between its parts, without one before them.
        size: in bytes.
        modified_at: in UTC.
    """

    path: str
    size: int
    modified_at: datetime
    executable: bool = False


class NamespaceFiles(Protocol):
    """The files of one namespace. A leading `/` of a path may be left out; `..` raises StorageError."""

    namespace: str

    def list(self, folder: str = "") -> tuple[NamespaceFile, ...]:
        """Give every file below *folder*, ordered by path; none when there is no such folder."""
        ...

    def select(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[NamespaceFile, ...]:
        """Give the files that a `namespaceFiles` property takes, ordered by path.

        Raises:
            GlobSyntaxError: a pattern is not well formed.
        """
        ...

    def get(self, path: str) -> BinaryIO:
        """Open a file for reading; NotFoundError when there is none. The caller closes it."""
        ...

    def copy_to(self, path: str, fd: int) -> int:
        """Write a file's content to a file descriptor open for writing, and give the number of bytes."""
        ...

    def find(self, path: str) -> NamespaceFile | None:
        """Give what is known of a file, None when there is none."""
        ...

    def put(self, path: str, content: BinaryIO | bytes, *, executable: bool = False) -> NamespaceFile:
        """Store a file, replacing what was there."""
        ...

    def put_file(self, path: str, file: str | Path) -> NamespaceFile:
        """Store a local file with its executable bit, replacing what was there."""
        ...

    def move(self, path: str, new_path: str) -> int:
        """Rename a file, or a folder with all in it, and give the number of files; NotFoundError when none."""
        ...

    def delete(self, path: str) -> int:
        """Delete a file, or a folder with all in it, and give the number of files; 0 when there was none."""
        ...


class StoredNamespaceFiles:
    """Files of a namespace in internal storage."""

    def __init__(self, storage: InternalStorage, namespace: str) -> None:
        self.namespace = namespace
        self._storage = storage
        self._root = namespace_file_path(namespace, "")

    def list(self, folder: str = "") -> tuple[NamespaceFile, ...]:
        """Give every file below *folder*, ordered by path."""
        found = self._storage.list(self._root + folder.strip("/"))
        files = (
            NamespaceFile(
                path=parse_uri(file.uri)[len(self._root) :],
                size=file.size,
                modified_at=file.modified_at,
                executable=file.executable,
            )
            for file in found
        )
        return tuple(sorted(files, key=lambda file: file.path))

    def select(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[NamespaceFile, ...]:
        """Give the files that a `namespaceFiles` property takes, ordered by path."""
        globs = namespace_globs(include, exclude)
        return tuple(file for file in self.list() if globs.matches(file.path))

    def get(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with _Named(self.namespace, path):
            return self._storage.get(self.uri(path))

    def copy_to(self, path: str, fd: int) -> int:
        """Write a file's content to *fd* and give the number of bytes."""
        with _Named(self.namespace, path):
            return self._storage.copy_to(self.uri(path), fd)

    def uri(self, path: str) -> str:
        """The address of a file in internal storage, whether it is there or not."""
        return format_uri(self._root + clean_path(path))

    def find(self, path: str) -> NamespaceFile | None:
        """Give what is known of a file, None when there is none."""
        try:
            file = self._storage.stat(self.uri(path))
        except NotFoundError:
            return None
        return NamespaceFile(
            path=clean_path(path), size=file.size, modified_at=file.modified_at, executable=file.executable
        )

    def put(self, path: str, content: BinaryIO | bytes, *, executable: bool = False) -> NamespaceFile:
        """Store a file, replacing what was there."""
        stream = BytesIO(content) if isinstance(content, bytes) else content
        self._storage.put(self._root + clean_path(path), stream, executable=executable)
        return self._get(path)

    def put_file(self, path: str, file: str | Path) -> NamespaceFile:
        """Store a local file with its executable bit, replacing what was there."""
        executable = bool(os.stat(file).st_mode & stat.S_IXUSR)
        self._storage.put_file(self._root + clean_path(path), file, executable=executable)
        return self._get(path)

    def _get(self, path: str) -> NamespaceFile:
        found = self.find(path)
        if found is None:
            raise _not_found(self.namespace, path)
        return found

    def move(self, path: str, new_path: str) -> int:
        """Rename a file, or a folder with all in it, and give the number of files."""
        old, new = clean_path(path), clean_path(new_path)
        if self._storage.exists(self.uri(old)):
            self._storage.move(self.uri(old), self._root + new)
            return 1
        if new.startswith(f"{old}/"):
            raise StorageError(f"The folder {old!r} cannot be moved into itself, to {new!r}.")
        files = self.list(old)
        if not files:
            raise _not_found(self.namespace, path)
        for file in files:
            self._storage.move(self.uri(file.path), self._root + new + file.path[len(old) :])
        return len(files)

    def delete(self, path: str) -> int:
        """Delete a file, or a folder with all in it, and give the number of files."""
        path = path.strip("/")
        if path and self._storage.exists(self.uri(path)):
            self._storage.delete([self.uri(path)])
            return 1
        return self._storage.delete_all(self._root + path)


class FolderNamespaceFiles:
    """A namespace whose files are those of a local folder, read only."""

    def __init__(self, folder: str | Path, namespace: str) -> None:
        self.namespace = namespace
        self._folder = os.path.realpath(folder)
        if not os.path.isdir(self._folder):
            raise NotFoundError(f"There is no folder {os.fspath(folder)!r} to take namespace files from.")

    def list(self, folder: str = "") -> tuple[NamespaceFile, ...]:
        """Give every file below *folder*, ordered by path; links are followed to files inside, not to folders."""
        top = clean_path(folder) if folder.strip("/") else ""
        found: list[NamespaceFile] = []
        for parent, folders, names in os.walk(os.path.join(self._folder, top)):
            folders[:] = [name for name in folders if name != ".git"]
            for name in names:
                file = self.find(os.path.relpath(os.path.join(parent, name), self._folder))
                if file is not None:
                    found.append(file)
        return tuple(sorted(found, key=lambda file: file.path))

    def select(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> tuple[NamespaceFile, ...]:
        """Give the files that a `namespaceFiles` property takes, ordered by path."""
        globs = namespace_globs(include, exclude)
        return tuple(file for file in self.list() if globs.matches(file.path))

    def get(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        return open(self._locate(path), "rb")

    def copy_to(self, path: str, fd: int) -> int:
        """Write a file's content to *fd* and give the number of bytes."""
        with self.get(path) as source:
            return copy_content(source.fileno(), fd)

    def find(self, path: str) -> NamespaceFile | None:
        """Give what is known of a file, None when there is none."""
        try:
            status = os.stat(self._locate(path))
        except (NotFoundError, FileNotFoundError):
            return None
        return NamespaceFile(
            path=clean_path(path),
            size=status.st_size,
            modified_at=datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC),
            executable=bool(status.st_mode & stat.S_IXUSR),
        )

    def put(self, path: str, content: BinaryIO | bytes, *, executable: bool = False) -> NamespaceFile:
        """Refuse: the folder belongs to its owner."""
        raise self._read_only(path)

    def put_file(self, path: str, file: str | Path) -> NamespaceFile:
        """Refuse: the folder belongs to its owner."""
        raise self._read_only(path)

    def move(self, path: str, new_path: str) -> int:
        """Refuse: the folder belongs to its owner."""
        raise self._read_only(path)

    def delete(self, path: str) -> int:
        """Refuse: the folder belongs to its owner."""
        raise self._read_only(path)

    def _read_only(self, path: str) -> UserError:
        return UserError(
            f"The namespace file {path!r} cannot be changed: the files of {self.namespace!r} come from the folder "
            f"{self._folder}.",
            "Change it there, or run without --namespace-files.",
        )

    def _locate(self, path: str) -> str:
        located = os.path.realpath(os.path.join(self._folder, clean_path(path)))
        if not located.startswith(f"{self._folder}/"):
            raise _not_found(self.namespace, path, "It is a link that leads out of the folder.")
        if not os.path.isfile(located):
            raise _not_found(self.namespace, path)
        return located


def clean_path(path: str) -> str:
    """A namespace file's path without the `/` before it, each part checked.

    Raises:
        StorageError: a part is empty, `.` or `..`.
    """
    return "/".join(split_path("/" + path.lstrip("/")))


class _Named:
    """Turns a storage's NotFoundError into one that speaks of the namespace."""

    def __init__(self, namespace: str, path: str) -> None:
        self._namespace = namespace
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, NotFoundError):
            raise _not_found(self._namespace, self._path) from error


def _not_found(namespace: str, path: str, hint: str = "") -> NotFoundError:
    return NotFoundError(
        f"There is no namespace file {path!r} in {namespace!r}.",
        hint or f"`tercel namespace files list {namespace}` shows those there are.",
    )
