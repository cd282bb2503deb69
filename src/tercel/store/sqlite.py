"""The embedded database: one thread writes, everything that waits goes into one transaction, readers beside it.

Knows connections and transactions of SQLite; what is written is said by `flows`, `executions`, `logs` and so on.
"""

import os
import sqlite3
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tercel.errors import NotFoundError, StorageError, UnreachableError
from tercel.store.database import Batch, Connection, GroupCommit, Synchronous, Write
from tercel.store.migrate import SQLITE, check_schema, migrate
from tercel.store.waiting import Promise

T = TypeVar("T")

_BUSY_TIMEOUT_S = 30.0


class SqliteDatabase:
    """One SQLite file.

    Args:
        path: the file; made where it is missing.
        synchronous: FULL makes every commit survive a power cut, NORMAL only a crash of the process.
        read_only: only read, beside a process that writes; the file must exist.

    Raises:
        StorageError: the file cannot be opened, or its schema does not fit.
        NotFoundError: *read_only*, and there is no such file.
    """

    def __init__(self, path: Path, synchronous: Synchronous = "FULL", *, read_only: bool = False) -> None:
        self._path = path
        self._is_read_only = read_only
        self._writes = GroupCommit(self._commit)
        self._readers: list[sqlite3.Connection] = []
        if read_only:
            if not path.exists() or not path.stat().st_size:
                raise NotFoundError(f"There is no database {path}.", "Nothing was run in this home yet.")
            with self.reading() as connection:
                is_current = check_schema(connection, SQLITE)
            if not is_current:
                raise StorageError(
                    f"The database {path} was written by an older tercel.",
                    "`tercel run` with this version brings it up to date.",
                )
            return
        try:
            self._writer = self._connect()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute(f"PRAGMA synchronous = {synchronous}")
            migrate(self._writer, SQLITE)
        except sqlite3.Error as error:
            raise StorageError(f"The database {path} cannot be opened: {error}.", _hint(error)) from error

    def _connect(self) -> sqlite3.Connection:
        mode = ""
        if self._is_read_only:
            # Beside a writer, readers share its files. Where there is none, and none can begin, nothing need be shared.
            has_writer = os.path.exists(f"{self._path}-wal") or os.access(self._path.parent, os.W_OK)
            mode = "?mode=ro" if has_writer else "?immutable=1"
        connection = sqlite3.connect(
            f"file:{str(self._path).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}{mode}",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=64,
        )
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def submit(self, write: Write[T]) -> Promise[T]:
        """Queue *write* for the next transaction; the promise is kept once it is committed.

        An error in *write* undoes that write alone and fails its promise; an error in the commit fails all of them.
        """
        return self._writes.submit(write)

    def _commit(self, batch: Batch) -> None:
        """Run *batch* in one transaction, then keep its promises."""
        connection = self._writer
        outcomes: list[tuple[Promise[Any], Any, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for write, promise in batch:
                connection.execute("SAVEPOINT one")
                try:
                    outcomes.append((promise, write(connection), None))
                except Exception as error:  # it belongs to the promise; the others go on
                    connection.execute("ROLLBACK TO one")
                    outcomes.append((promise, None, error))
                connection.execute("RELEASE one")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = UnreachableError(f"Writing to the database {self._path} failed: {error}.", _hint(error))
            failure.__cause__ = error
            for _, promise in batch:
                promise.fail(failure)
            return
        for promise, result, error in outcomes:
            if error is None:
                promise.resolve(result)
            else:
                promise.fail(error)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A connection to read with, for one thread at a time; it sees everything committed before."""
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = self._reader()
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            raise self._unreadable(error) from error
        finally:
            self._readers.append(connection)

    def _reader(self) -> sqlite3.Connection:
        try:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return connection

    def _unreadable(self, error: sqlite3.Error) -> StorageError:
        return UnreachableError(f"Reading from the database {self._path} failed: {error}.", _hint(error))

    def dead(self, connection: Connection, owners: Collection[str]) -> Collection[str]:
        """All of *owners*: the caller has looked at their locks, and a name that was let go of is never taken again."""
        return owners

    def close(self) -> None:
        """Commit what waits and close the file; a second call does nothing."""
        if not self._writes.close():
            return
        for connection in self._readers:
            connection.close()
        if not self._is_read_only:
            self._writer.close()


def _hint(error: sqlite3.Error) -> str:
    """What to do about an error of the database."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "Free some space on its disk, or work in another home: --home DIR."
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return "The file is damaged: bring it back from a backup, or work in another home: --home DIR."
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return "See to whom it belongs and who may write there, or work in another home: --home DIR."
        case _:
            return ""
