"""Internal storage in a directory.

A file's path below the directory is its plain path; what is executable has its owner's x bit. Every file appears
by rename, so a reader gets the old content or the new, never half of one.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tercel.errors import NotFoundError, StorageError
from tercel.storage import StoredFile, format_uri, parse_uri, split_path

_STAGING = ".staging"
_BLOCK_BYTES = 1 << 20


class LocalStorage:
    """Internal storage in a directory, private to its owner.

    Args:
        base: made when it is not there, with mode 0700.
        durable: wait for a file's content to be on disk before it gets its name, so that what a committed state
            refers to survives a power cut. Costs one disk flush for each file.
    """

    def __init__(self, base: str | Path, *, durable: bool = False) -> None:
        self.base = os.path.realpath(base)
        self.durable = durable

    def put(self, path: str, content: BinaryIO, *, executable: bool = False) -> str:
        """Store the rest of *content* under *path* and give its URI."""
        uri, target = self._target(path)
        with _Staged(self.base, target, executable=executable) as staged:
            while block := content.read(_BLOCK_BYTES):
                _write_all(staged.fd, block)
            staged.commit(durable=self.durable)
        return uri

    def put_file(self, path: str, file: str | Path, *, executable: bool = False, move: bool = False) -> str:
        """Store a local file and give its URI."""
        uri, target = self._target(path)
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if move and self._adopt(source, file, target, executable=executable):
                return uri
            with _Staged(self.base, target, executable=executable) as staged:
                copy_content(source, staged.fd)
                staged.commit(durable=self.durable)
        finally:
            os.close(source)
        if move:
            os.unlink(file)
        return uri

    def _adopt(self, source: int, file: str | Path, target: str, *, executable: bool) -> bool:
        """Rename a file into the storage; False when that cannot be, as it lies on another disk or has two names."""
        if os.fstat(source).st_nlink > 1:
            return False
        os.fchmod(source, _mode(executable=executable))
        if self.durable:
            os.fdatasync(source)
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(file, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise _refused(error, self.base, target) from error
            return False
        return True

    def get(self, uri: str) -> BinaryIO:
        """Open a file for reading."""
        return os.fdopen(self._open(uri), "rb")

    def copy_to(self, uri: str, fd: int) -> int:
        """Write a file's content to *fd*, sharing blocks where the file system can, and give its size in bytes."""
        source = self._open(uri)
        try:
            return copy_content(source, fd)
        finally:
            os.close(source)

    def path_of(self, uri: str) -> Path:
        """Where the file of *uri* lies on disk, whether it is there or not; for people, not for writing."""
        return Path(self._locate(parse_uri(uri)))

    def exists(self, uri: str) -> bool:
        """Tell whether there is a file at *uri*."""
        try:
            os.close(self._open(uri))
        except NotFoundError:
            return False
        return True

    def stat(self, uri: str) -> StoredFile:
        """Give what is known of a file."""
        fd = self._open(uri)
        try:
            return _stored_file(uri, os.fstat(fd))
        finally:
            os.close(fd)

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Give every file below a folder, ordered by path."""
        folder = self._folder(prefix)
        at = folder.removeprefix(self.base)
        yield from self._walk(folder, at)

    def _walk(self, folder: str, at: str) -> Iterator[StoredFile]:
        for entry in _entries(folder):
            if not at and entry.name == _STAGING:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path, f"{at}/{entry.name}")
            elif entry.is_file(follow_symlinks=False):
                try:
                    yield _stored_file(format_uri(f"{at}/{entry.name}"), entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Give the names of the folders right below a folder, ordered."""
        return tuple(
            entry.name
            for entry in _entries(self._folder(prefix))
            if entry.is_dir(follow_symlinks=False) and entry.name != _STAGING
        )

    def move(self, uri: str, path: str) -> str:
        """Give a file another path, replacing what was there, and give its new URI."""
        os.close(self._open(uri))
        new_uri, target = self._target(path)
        source = self._locate(parse_uri(uri))
        try:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(source, target)
        except OSError as error:
            raise _refused(error, self.base, target) from error
        self._remove_empty_folders(os.path.dirname(source))
        return new_uri

    def delete(self, uris: Iterable[str]) -> None:
        """Delete files; those already gone are passed over."""
        for uri in uris:
            path = self._locate(parse_uri(uri))
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except IsADirectoryError as error:
                raise StorageError(f"{uri} is a folder, not a file.") from error
            self._remove_empty_folders(os.path.dirname(path))

    def delete_if(self, uri: str, version: str) -> bool:
        """Delete a file if it is still of that version, and tell whether it was."""
        path = self._locate(parse_uri(uri))
        # Taken away first and looked at then: between a look and an unlink another could put a new file there.
        taken = f"{self._staging()}/{_unique_name()}"
        try:
            os.rename(path, taken)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            if _version(os.lstat(taken)) == version:
                self._remove_empty_folders(os.path.dirname(path))
                return True
            with suppress(FileExistsError):  # a newer one has come meanwhile, and it is the one to keep
                os.link(taken, path, follow_symlinks=False)
            return False
        finally:
            os.unlink(taken)

    def delete_all(self, prefix: str) -> int:
        """Delete every file below a folder and give their number."""
        from shutil import rmtree  # noqa: PLC0415 - loads four compression libraries

        folder = self._folder(prefix)
        count = sum(1 for _ in self._walk(folder, folder.removeprefix(self.base)))
        if folder == self.base:
            for entry in _entries(folder):
                rmtree(entry.path, ignore_errors=True)
        elif os.path.isdir(folder):
            rmtree(folder, ignore_errors=True)
            self._remove_empty_folders(os.path.dirname(folder))
        return count

    def clean(self, older_than_s: float = 3600.0) -> int:
        """Remove what a crash left half written, and give the number of files.

        Args:
            older_than_s: younger files may still be in the making.
        """
        limit = datetime.now(UTC).timestamp() - older_than_s
        count = 0
        for entry in _entries(f"{self.base}/{_STAGING}"):
            try:
                if entry.stat(follow_symlinks=False).st_mtime < limit:
                    os.unlink(entry.path)
                    count += 1
            except FileNotFoundError:
                continue
        return count

    def _target(self, path: str) -> tuple[str, str]:
        uri = format_uri(path)
        return uri, self._locate("/" + "/".join(split_path(path)))

    def _folder(self, prefix: str) -> str:
        path = prefix.strip("/")
        return self._locate("/" + "/".join(split_path(path))) if path else self.base

    def _locate(self, path: str) -> str:
        """Where a plain path lies on disk; a link in its folders may not lead out of the storage."""
        if path.split("/", 2)[1] == _STAGING:
            raise StorageError(f"Internal storage refuses {path!r}: {_STAGING!r} is its own.")
        located = self.base + path
        folder = os.path.realpath(os.path.dirname(located))
        if folder != self.base and not folder.startswith(f"{self.base}/"):
            raise StorageError(f"Internal storage refuses {path!r}: it leads out of the storage.")
        return located

    def _open(self, uri: str) -> int:
        path = self._locate(parse_uri(uri))
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"There is no file {uri} in internal storage.") from error
        except OSError as error:
            raise StorageError(f"Internal storage cannot read {uri}: {error.strerror}.") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotFoundError(f"There is no file {uri} in internal storage.", "It is a folder.")
        return fd

    def _staging(self) -> str:
        folder = f"{self.base}/{_STAGING}"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder

    def _remove_empty_folders(self, folder: str) -> None:
        while folder != self.base:
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)


class _Staged:
    """A file in the making: written aside, given its name by `commit`, gone otherwise."""

    def __init__(self, base: str, target: str, *, executable: bool) -> None:
        self._base = base
        self._folder = f"{base}/{_STAGING}"
        self._path = f"{self._folder}/{_unique_name()}"
        self._target = target
        self._mode = _mode(executable=executable)

    def __enter__(self) -> "_Staged":
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self.fd = os.open(self._path, flags, self._mode)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self.fd = os.open(self._path, flags, self._mode)
        return self

    def commit(self, *, durable: bool) -> None:
        if durable:
            os.fdatasync(self.fd)
        folder = os.path.dirname(self._target)
        for attempt in range(5):
            try:
                try:
                    os.rename(self._path, self._target)
                except FileNotFoundError:
                    os.makedirs(folder, mode=0o700, exist_ok=True)
                    os.rename(self._path, self._target)
            except FileNotFoundError:
                # Whoever deletes the last file of a folder removes the folder too, perhaps right now.
                if attempt == 4:
                    raise
            except OSError as error:
                raise _refused(error, self._base, self._target) from error
            else:
                break
        if durable:
            _sync_folder(folder)

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        with suppress(FileNotFoundError):  # it has its name
            os.unlink(self._path)


def copy_content(source: int, target: int) -> int:
    """Copy the rest of one file to another by file descriptors, in the kernel where it can, and give the bytes."""
    copied = 0
    try:
        while count := os.copy_file_range(source, target, 1 << 30):
            copied += count
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM):
            raise
    # Also after a clean end: file systems without a size of their own (/proc) give the call nothing to copy.
    while block := os.read(source, _BLOCK_BYTES):
        _write_all(target, block)
        copied += len(block)
    return copied


def _write_all(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return []
        raise


def _stored_file(uri: str, status: os.stat_result) -> StoredFile:
    return StoredFile(
        uri=uri,
        size=status.st_size,
        modified_at=datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC),
        version=_version(status),
        executable=bool(status.st_mode & stat.S_IXUSR),
    )


def _version(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _mode(*, executable: bool) -> int:
    return 0o700 if executable else 0o600


def _refused(error: OSError, base: str, target: str) -> StorageError:
    return StorageError(f"Internal storage cannot store {format_uri(target[len(base) :])}: {error.strerror}.")


def _unique_name() -> str:
    return f"{os.getpid()}-{os.urandom(8).hex()}"
