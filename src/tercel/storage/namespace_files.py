"""Namespace files: a tree of files for each namespace, in internal storage or straight from a folder.

Knows names, folders, executable bits, versions, and the include and exclude of `namespaceFiles`. Writing the files
into a working directory is the worker's.

What a put or delete takes away stays as a numbered version of that path, below the folder `_versions`. The numbers of a
path only grow: the first content has 1, each put and each delete the next one. The latest content lies at the file's
own address and has the number after the last one kept.

Storage knows only files. A folder that somebody made is noted beside them, so that it is there while nothing is in it.
"""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import RLock
from typing import BinaryIO, Protocol

import msgspec

from tercel.errors import NotFoundError, StorageError, UserError
from tercel.model.globs import namespace_globs
from tercel.storage import (
    InternalStorage,
    format_uri,
    namespace_file_path,
    namespace_folder_path,
    namespace_version_folder,
    parse_uri,
    split_path,
)
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


class FileVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a namespace file.

    Attributes:
        number: from 1; a path's numbers only grow.
        size: in bytes; 0 for a deletion.
        modified_at: when it came to be, in UTC.
        is_deletion: there was no file from then on.
    """

    number: int
    size: int
    modified_at: datetime
    is_deletion: bool = False


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

    def get(self, path: str, version: int | None = None) -> BinaryIO:
        """Open a file, or an earlier version of it; NotFoundError when there is none. The caller closes it."""
        ...

    def versions(self, path: str) -> tuple[FileVersion, ...]:
        """Give all versions of a file, the oldest first and the present one last; none where there never was one."""
        ...

    def restore(self, path: str, version: int) -> NamespaceFile:
        """Make an earlier version the present one, as the next version."""
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
        """Delete a file, or a folder with all in it, and give the number of files; 0 when there was none.

        Earlier versions stay.
        """
        ...


_CHANGES = RLock()
"""Held while a file is changed: of two changes at once in this process each keeps what it replaces."""

_DELETED = "deleted"
_MADE = "made"


def is_namespace(name: str) -> bool:
    """Whether a namespace can have that name, so that its files are in no other one's folder.

    Example:
        >>> is_namespace("company.team"), is_namespace("company/team")
        (True, False)
    """
    return re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_-]*(\.[a-zA-Z0-9-][a-zA-Z0-9_-]*)*", name) is not None


def namespaces_with_files(storage: InternalStorage) -> list[str]:
    """The namespaces that have files, or folders that somebody made."""
    found: list[str] = []
    pending = [(name,) for name in storage.folders("/")]
    while pending:
        parts = pending.pop()
        names = storage.folders("/" + "/".join(parts))
        if not {"_files", "_folders"}.isdisjoint(names):
            found.append(".".join(parts))
        # Executions have the most folders by far, and no namespaces among them.
        pending += [(*parts, name) for name in names if not name.startswith("_") and name != "executions"]
    return sorted(found)


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

    def get(self, path: str, version: int | None = None) -> BinaryIO:
        """Open a file, or an earlier version of it."""
        uri = self.uri(path) if version is None else self._version_uri(path, version)
        with _Named(self.namespace, path):
            return self._storage.get(uri)

    def versions(self, path: str) -> tuple[FileVersion, ...]:
        """Give all versions of a file, the oldest first."""
        kept = self._kept(path)
        found = self.find(path)
        if found is not None:
            number = max(kept, default=0) + 1
            kept[number] = FileVersion(number=number, size=found.size, modified_at=found.modified_at)
        return tuple(kept[number] for number in sorted(kept))

    def restore(self, path: str, version: int) -> NamespaceFile:
        """Make an earlier version the present one, as the next version."""
        with _CHANGES:
            uri = self._version_uri(path, version)
            with self._storage.get(uri) as content:
                return self.put(path, content, executable=self._storage.stat(uri).executable)

    def _version_uri(self, path: str, number: int) -> str:
        """Where the content of a version lies."""
        known = {version.number: version for version in self.versions(path)}
        found = known.get(number)
        if found is None or found.is_deletion:
            why = "" if found is None else " It was deleted then."
            raise NotFoundError(f"There is no version {number} of the namespace file {path!r}.{why}")
        return self.uri(path) if number == max(known) else format_uri(f"{self._version_folder(path)}/{number}")

    def _kept(self, path: str) -> dict[int, FileVersion]:
        """The versions of a file that are no longer the present one, by number."""
        folder = self._version_folder(path)
        kept: dict[int, FileVersion] = {}
        for file in self._storage.list(folder):
            name, _, mark = parse_uri(file.uri)[len(folder) + 1 :].partition(".")
            if name.isdecimal():
                number = int(name)
                kept[number] = FileVersion(
                    number=number, size=file.size, modified_at=file.modified_at, is_deletion=mark == _DELETED
                )
        return kept

    def _version_folder(self, path: str) -> str:
        return namespace_version_folder(self.namespace, clean_path(path))

    def _keep(self, path: str) -> int:
        """Keep what a file holds now as a version, before it is replaced, and give the next free number."""
        number = max(self._kept(path), default=0) + 1
        try:
            executable = self._storage.stat(self.uri(path)).executable
            content = self._storage.get(self.uri(path))
        except NotFoundError:
            return number
        with content:
            self._storage.put(f"{self._version_folder(path)}/{number}", content, executable=executable)
        return number + 1

    def _bury(self, path: str) -> None:
        """Keep what a file holds as a version, and that it is no longer there as the next one."""
        number = self._keep(path)
        self._storage.put(f"{self._version_folder(path)}/{number}.{_DELETED}", BytesIO())

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

    def made_folders(self, folder: str = "") -> tuple[str, ...]:
        """Give every folder that somebody made, *folder* itself or at any depth below it, ordered by path."""
        top = namespace_folder_path(self.namespace, "")
        below = namespace_folder_path(self.namespace, clean_path(folder) if folder.strip("/") else "")
        notes = (parse_uri(file.uri)[len(top) + 1 :].split("/")[:-1] for file in self._storage.list(below))
        return tuple(sorted("/".join(part.removeprefix("=") for part in parts) for parts in notes))

    def has_folder(self, path: str) -> bool:
        """Say whether there is a folder: something is in it, or somebody made it."""
        path = path.strip("/")
        if not path:
            return True
        is_filled = next(iter(self._storage.list(self._root + clean_path(path))), None) is not None
        return is_filled or bool(self.made_folders(path))

    def make_folder(self, path: str) -> None:
        """Have there be a folder, also while nothing is in it. Raises StorageError where a file is in its way."""
        parts = clean_path(path.rstrip("/")).split("/")
        for end in range(1, len(parts) + 1):
            if self._storage.exists(self.uri("/".join(parts[:end]))):
                raise StorageError(f"There can be no folder {path!r}: {'/'.join(parts[:end])!r} is a file.")
        self._storage.put(f"{namespace_folder_path(self.namespace, '/'.join(parts))}/{_MADE}", BytesIO())

    def _forget_folders(self, paths: Iterable[str]) -> None:
        notes = (namespace_folder_path(self.namespace, path) for path in paths)
        self._storage.delete([format_uri(f"{note}/{_MADE}") for note in notes])

    def _forget_empty(self, path: str) -> None:
        """Forget that somebody made the folders that *path* was the last thing in."""
        parent = path.rpartition("/")[0]
        while parent and next(iter(self._storage.list(self._root + parent)), None) is None:
            made = self.made_folders(parent)
            if any(one != parent for one in made):
                return
            self._forget_folders(made)
            parent = parent.rpartition("/")[0]

    def _refuse_folder(self, path: str) -> None:
        if self.made_folders(path):
            raise StorageError(f"There can be no file {path!r}: it is a folder.")

    def put(self, path: str, content: BinaryIO | bytes, *, executable: bool = False) -> NamespaceFile:
        """Store a file, replacing what was there."""
        self._refuse_folder(path)
        if isinstance(content, bytes):
            return self._replace(path, BytesIO(content), executable=executable)
        # The stream may be slow, and nobody else is to wait for it.
        name = f"{namespace_version_folder(self.namespace, '')}/.incoming-{os.urandom(8).hex()}"
        uri = self._storage.put(name, content, executable=executable)
        try:
            with _CHANGES:
                self._keep(path)
                self._storage.move(uri, self._root + clean_path(path))
                return self._get(path)
        except BaseException:
            self._storage.delete([uri])
            raise

    def _replace(self, path: str, content: BinaryIO, *, executable: bool) -> NamespaceFile:
        with _CHANGES:
            self._keep(path)
            self._storage.put(self._root + clean_path(path), content, executable=executable)
            return self._get(path)

    def put_file(self, path: str, file: str | Path) -> NamespaceFile:
        """Store a local file with its executable bit, replacing what was there."""
        with open(file, "rb") as content:
            executable = bool(os.fstat(content.fileno()).st_mode & stat.S_IXUSR)
            return self._replace(path, content, executable=executable)

    def _get(self, path: str) -> NamespaceFile:
        found = self.find(path)
        if found is None:
            raise _not_found(self.namespace, path)
        return found

    def move(self, path: str, new_path: str) -> int:
        """Rename a file, or a folder with all in it, and give the number of files."""
        old, new = clean_path(path), clean_path(new_path)
        if self._storage.exists(self.uri(old)):
            self._move(old, new)
            return 1
        if new.startswith(f"{old}/"):
            raise StorageError(f"The folder {old!r} cannot be moved into itself, to {new!r}.")
        files, made = self.list(old), self.made_folders(old)
        if not files and not made:
            raise _not_found(self.namespace, path)
        for file in files:
            self._move(file.path, new + file.path[len(old) :])
        if old != new:
            for one in made:
                self.make_folder(new + one[len(old) :])
            self._forget_folders(made)
        return len(files)

    def _move(self, old: str, new: str) -> None:
        if old == new:
            return
        with _CHANGES:
            self._keep(new)
            self._bury(old)
            self._storage.move(self.uri(old), self._root + new)

    def delete(self, path: str) -> int:
        """Delete a file, or a folder with all in it, and give the number of files."""
        path = path.strip("/")
        is_file = bool(path) and self._storage.exists(self.uri(path))
        paths = [clean_path(path)] if is_file else [file.path for file in self.list(path)]
        for one in paths:
            with _CHANGES:
                self._bury(one)
                self._storage.delete([self.uri(one)])
        if not is_file:
            self._forget_folders(self.made_folders(path))
        self._forget_empty(path)
        return len(paths)


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

    def get(self, path: str, version: int | None = None) -> BinaryIO:
        """Open a file for reading; its only version is 1."""
        located = self._locate(path)
        if version not in {None, 1}:
            raise NotFoundError(f"There is no version {version} of the namespace file {path!r}: it is from a folder.")
        return open(located, "rb")

    def versions(self, path: str) -> tuple[FileVersion, ...]:
        """Give the one version that a file of a folder has."""
        found = self.find(path)
        return () if found is None else (FileVersion(number=1, size=found.size, modified_at=found.modified_at),)

    def restore(self, path: str, version: int) -> NamespaceFile:
        """Refuse: the folder belongs to its owner."""
        raise self._read_only(path)

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
