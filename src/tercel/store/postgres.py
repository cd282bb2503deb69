"""PostgresStore: all records in a PostgreSQL database that any number of processes share.

As in SQLite one thread writes, and everything that waits goes into one transaction; readers are beside it. What is
written is said by `flows`, `executions`, `logs` and so on, in SQLite's words.

**A connection that is lost.** The server may restart, the network may fail, somebody may end the connection. A batch
that was under way is then written again, on a new connection, if it certainly was not committed:

- Lost before COMMIT was sent: the server has undone it.
- Lost while COMMIT was under way: every transaction asks for its number at its beginning, and the server knows what
  became of the transaction of that number (`pg_xact_status`). On the new connection, the old one being ended and its
  transaction over, it answers "committed" or "aborted". A stand-in that took over answers as well, if it has all that
  was committed (synchronous replication); one that lost commits has lost more than this batch.

If no new connection can be had in time, the promises fail; only then nobody knows whether a batch whose COMMIT was
under way is there, and the error says so. Deadlocks with other processes, too, undo a batch and have it written again.

**Who is alive.** The writing connection holds an advisory lock on the owner's name, which the server lets go of when
the connection ends; so no lock outlives its process, and a process that lost its connection knows it before it writes
again. It then takes the lock anew; what other processes have adopted meanwhile is not its own any more, and writing to
that fails with StaleExecutionError. Adopting holds the lock of the dead process, so it never crosses its return.

A process that has no lock counts as dead once its last sign of life, which it gives every few seconds, is old enough:
nobody takes away what a process has that is about to come back. One that closed its store is dead at once. Locks belong
to a session, so between tercel and the server there must be no pooler that shares sessions.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from threading import BoundedSemaphore
from time import monotonic, sleep
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tercel.errors import StorageError, UnreachableError
from tercel.store.database import (
    AMONG,
    Batch,
    Connection,
    DatabaseTransaction,
    GroupCommit,
    Reader,
    Rows,
    Synchronous,
    Write,
)
from tercel.store.executions import StoredExecutions
from tercel.store.flows import StoredFlows
from tercel.store.key_values import StoredKeyValues
from tercel.store.logs import StoredLogs
from tercel.store.migrate import POSTGRES, check_schema, migrate
from tercel.store.rows import Seals
from tercel.store.triggers import StoredTriggers
from tercel.store.waiting import Promise

T = TypeVar("T")

Patience = Callable[[], float]
"""Says for how many seconds a new connection is tried for; asked before each try, as it may change meanwhile."""

_MOST_READERS = 8
_PAUSE_S = 0.1  # between tries to connect
_OLDEST_SERVER = 13
_DEFAULTS = {
    "application_name": "tercel",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_Raw = psycopg.Connection[tuple[Any, ...]]
_UNDONE = (errors.DeadlockDetected, errors.SerializationFailure)


class PostgresStore:
    """The `Store` of servers that share a database.

    Args:
        dsn: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, or any other form that libpq knows.
        owner: the process that new executions belong to, unlike that of any other, ever; "" for one that only looks.
        synchronous: FULL makes every commit survive a crash of the database's server, NORMAL only one of this process.
        read_only: only read; the schema must be there.
        seals: keeps texts that hold a secret from being stored readably; None stores all as they are.
        grace_s: how long after its last sign of life a process that has lost its connection counts as alive.
        patience: how long to try for a new connection when one was lost.
        beat_s: how often this process gives a sign of life, and looks whether its connection still stands; well below
            the grace of the others.

    Raises:
        StorageError: the database cannot be reached, is too old, or its schema does not fit; or another process works
            under the name *owner*.
    """

    def __init__(
        self,
        dsn: str,
        *,
        owner: str,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        seals: Seals | None = None,
        grace_s: float = 10.0,
        patience: Patience = lambda: 30.0,
        beat_s: float = 3.0,
    ) -> None:
        self._database = PostgresDatabase(
            dsn, owner=owner, synchronous=synchronous, read_only=read_only, patience=patience, beat_s=beat_s
        )
        self._grace_s = grace_s
        self.flows = StoredFlows(self._database)
        self.executions = StoredExecutions(self._database, owner, seals)
        self.logs = StoredLogs(self._database)
        self.triggers = StoredTriggers(self._database, seals)
        self.key_values = StoredKeyValues(self._database, seals)

    async def dead_owners(self, owners: Iterable[str]) -> set[str]:
        """Those of *owners* that have no connection, and whose last sign of life is older than `grace_s`.

        One that has closed its store is dead at once, and so is nobody, "".
        """
        with self._database.reading() as connection:
            held = {key for (key,) in connection.execute(_HELD_LOCKS).fetchall()}
            alive = {owner for (owner,) in connection.execute(_SEEN, (self._grace_s,)).fetchall()}
        return {owner for owner in owners if not owner or (owner not in alive and _lock_key(owner) not in held)}

    def transaction(self) -> DatabaseTransaction:
        """Opens a transaction; it is committed on a clean exit."""
        return DatabaseTransaction(self._database)

    def close(self) -> None:
        """Write what waits and let go of the connections; a second call does nothing."""
        self.logs.close()
        self._database.close()


_HELD_LOCKS = """
SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock' AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_SEEN = "SELECT owner FROM processes WHERE seen_at > clock_timestamp() - make_interval(secs => ?)"


def _lock_key(owner: str) -> int:
    """The number of the advisory lock that a process holds as long as it lives."""
    return int.from_bytes(blake2b(f"tercel process {owner}".encode(), digest_size=8).digest(), "big", signed=True)


class _UndoneError(Exception):
    """A transaction was undone by no fault of its own, and may be tried again."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__()
        self.error = error


class PostgresDatabase:
    """One PostgreSQL database; see `PostgresStore` for the arguments and errors."""

    def __init__(
        self,
        dsn: str,
        *,
        owner: str,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        patience: Patience = lambda: 30.0,
        beat_s: float = 3.0,
    ) -> None:
        self._conninfo, self._name = _read_dsn(dsn)
        self._owner = owner
        self._synchronous = synchronous
        self._patience = patience
        self._readers: list[_Reader] = []
        self._reader_slots = BoundedSemaphore(_MOST_READERS)
        self._writes = GroupCommit(self._commit, self._beat, beat_s)
        self._writer: _Raw | None = None
        self._backend: tuple[Any, ...] = ()
        self._beat_s = beat_s
        self._next_beat = 0.0
        self._is_closed = False
        try:
            if read_only:
                self._readers.append(_Reader(self._open_reader, patience, self._open_reader()))
                self._check_schema()
                return
            self._writer = self._open_writer()
            migrate(PostgresConnection(self._writer), POSTGRES)
            self._writer.execute(_FORGET_OLD)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg.Error):
                message = f"The database {self._name} cannot be opened: {_reason(error)}."
                is_there = not isinstance(error, psycopg.OperationalError) or error.sqlstate is not None
                raise (StorageError if is_there else UnreachableError)(message, _hint(error)) from error
            raise
        if owner:
            self._beat()
            self._writes.start()  # for the beat, which keeps the owner's lock

    def _check_schema(self) -> None:
        with self.reading() as connection:
            is_current = check_schema(connection, POSTGRES)
        if not is_current:
            raise StorageError(
                f"The database {self._name} was not set up by this version of tercel.",
                "Its server does that when it starts.",
            )

    # Connections

    def _connect(self) -> _Raw:
        connection = psycopg.connect(self._conninfo, autocommit=True)
        encoding = connection.info.parameter_status("server_encoding")
        version = connection.info.server_version // 10000
        if encoding == "UTF8" and version >= _OLDEST_SERVER:
            return connection
        connection.close()
        raise StorageError(
            f"The database {self._name} is one of PostgreSQL {version} with the encoding {encoding}.",
            f"It has to be UTF8, and PostgreSQL {_OLDEST_SERVER} or newer.",
        )

    def _open_writer(self) -> _Raw:
        """A connection to write with that holds the owner's lock; what is left of the one before is ended."""
        connection = self._connect()
        try:
            connection.execute(_SYNCHRONOUS[self._synchronous])
            connection.execute(_NOTICE_DEAD_HOSTS)
            if self._backend:
                # The server may not have noticed yet that the old one is gone: it would hold the lock and rows.
                connection.execute(_END_BACKEND, self._backend)
            if self._owner:
                connection.execute(b"SET lock_timeout = '10s'")
                connection.execute(b"SELECT pg_advisory_lock(%s::bigint)", (_lock_key(self._owner),))
                connection.execute(b"SET lock_timeout = 0")
            self._backend = connection.execute(_OWN_BACKEND).fetchone() or ()
        except BaseException as error:
            connection.close()
            if isinstance(error, errors.LockNotAvailable):
                message = f"Another process works in the database {self._name} under the name {self._owner}."
                raise StorageError(message) from error
            raise
        return connection

    def _standing_writer(self, since: float | None = None) -> _Raw:
        """The connection to write with, made anew where it was lost.

        Raises OperationalError where it has been tried for too long, *since* then; after one try where that is None.
        """
        while self._writer is None or self._writer.closed:
            try:
                self._writer = self._open_writer()
            except psycopg.OperationalError:
                if since is None or self._is_over(since):
                    raise
                sleep(_PAUSE_S)
        return self._writer

    def _is_over(self, since: float) -> bool:
        """Whether what is tried *since* then has been tried for long enough."""
        return monotonic() >= since + self._patience()

    def _beat(self) -> None:
        """Give a sign of life; that also notices a lost connection though nothing is written, and makes it anew."""
        self._next_beat = monotonic() + self._beat_s
        for _ in range(2 if self._owner else 0):  # a lost connection is noticed by the first
            try:
                self._standing_writer().execute(_SIGN, (self._owner,))
            except StorageError:  # somebody has our name; whoever writes next is told
                return
            except psycopg.Error as error:
                if self._writer is None or not _is_lost(self._writer, error):
                    return
            else:
                return

    # Writing

    def submit(self, write: Write[T]) -> Promise[T]:
        """Queue *write* for the next transaction; the promise is kept once it is committed.

        An error in *write* undoes that write alone and fails its promise; an error in the commit fails all of them.
        """
        return self._writes.submit(write)

    def _commit(self, batch: Batch) -> None:
        """Run *batch* in one transaction, again where it was undone by no fault of its own; then keep its promises."""
        since = monotonic()
        while True:
            try:
                outcomes = self._attempt(batch, since)
            except _UndoneError as undone:
                if not self._is_over(since):
                    continue
                outcomes = self._failed(batch, undone.error)
            except psycopg.Error as error:
                outcomes = self._failed(batch, error)
            except StorageError as error:
                outcomes = [(promise, None, error) for _, promise in batch]
            break
        for promise, result, error in outcomes:
            if error is None:
                promise.resolve(result)
            else:
                promise.fail(error)
        if monotonic() >= self._next_beat:
            self._beat()

    def _failed(self, batch: Batch, error: psycopg.Error) -> "_Outcomes":
        failure = UnreachableError(f"Writing to the database {self._name} failed: {_reason(error)}.", _hint(error))
        failure.__cause__ = error
        return [(promise, None, failure) for _, promise in batch]

    def _attempt(self, batch: Batch, since: float) -> "_Outcomes":
        """Write *batch*, and give what came of it, committed.

        Raises _UndoneError and psycopg.Error where certainly nothing was committed, StorageError where that is not
        known.
        """
        connection = self._standing_writer(since)
        try:
            begun = connection.execute(_BEGIN)
            begun.nextset()
            [number] = begun.fetchone() or ("",)
            outcomes = _run(connection, batch)
            if all(error is not None for *_, error in outcomes):
                connection.execute(b"ROLLBACK")
                return outcomes
        except psycopg.Error as error:
            if _is_lost(connection, error):
                raise _UndoneError(error) from error
            connection.execute(b"ROLLBACK")
            if isinstance(error, _UNDONE):
                raise _UndoneError(error) from error
            raise
        try:
            connection.execute(b"COMMIT")
        except psycopg.Error as error:
            if not _is_lost(connection, error):
                raise
            if not self._was_committed(number, error):
                raise _UndoneError(error) from error
        return outcomes

    def _was_committed(self, number: str, lost: psycopg.Error) -> bool:
        """What became of the transaction *number*, whose connection was lost during its commit."""
        try:
            connection = self._standing_writer(monotonic())
            while True:
                [status] = connection.execute(b"SELECT pg_xact_status(%s::xid8)", (number,)).fetchone() or (None,)
                if status in {"committed", "aborted"}:
                    return status == "committed"
                if status is None:  # so long ago that it is forgotten
                    break
                sleep(_PAUSE_S)
        except errors.InvalidParameterValue:  # a number that this server has not come to yet
            return False
        except (psycopg.Error, StorageError):  # nobody can be asked
            pass
        raise UnreachableError(
            f"The connection to the database {self._name} was lost during a commit, and whether that was done is not "
            f"known: {_reason(lost)}."
        ) from lost

    def dead(self, connection: Connection, owners: Collection[str]) -> Collection[str]:
        """Those of *owners* that are dead, and stay so until the transaction of the writing *connection* ends."""
        statement = "SELECT pg_try_advisory_xact_lock_shared(?::bigint)"
        return [
            owner
            for owner in owners
            if not owner or connection.execute(statement, (_lock_key(owner),)).fetchone() == (True,)
        ]

    # Reading

    @contextmanager
    def reading(self) -> Generator[Reader]:
        """A connection to read with, for one thread at a time; it sees everything committed before.

        One that was lost is replaced: each statement that reads stands for itself.
        """
        with self._reader_slots:
            try:
                try:
                    reader = self._readers.pop()
                except IndexError:
                    reader = _Reader(self._open_reader, self._patience)
                try:
                    yield reader
                finally:
                    self._keep(reader)
            except psycopg.Error as error:
                message = f"Reading from the database {self._name} failed: {_reason(error)}."
                raise UnreachableError(message, _hint(error)) from error

    def _keep(self, reader: "_Reader") -> None:
        if self._is_closed:
            reader.close()
        else:
            self._readers.append(reader)

    def _open_reader(self) -> _Raw:
        connection = self._connect()
        connection.execute(b"SET default_transaction_read_only = on")
        return connection

    def close(self) -> None:
        """Commit what waits and close the connections; a second call does nothing."""
        if not self._writes.close():
            return
        self._is_closed = True
        for reader in self._readers:
            reader.close()
        if self._writer is not None:
            with suppress(psycopg.Error):  # the server would notice only a little later that nobody holds them
                self._writer.execute(_SIGN_OUT, (self._owner,))
                self._writer.execute(b"SELECT pg_advisory_unlock_all()")
            self._writer.close()


_SYNCHRONOUS = {"FULL": b"SET synchronous_commit = on", "NORMAL": b"SET synchronous_commit = off"}
# Else the server would notice only after hours that a process is gone with its whole machine.
_NOTICE_DEAD_HOSTS = b"SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_current_xact_id()::text"
_SIGN = (
    b"INSERT INTO processes (owner, seen_at) VALUES (%s, clock_timestamp()) "
    b"ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"
)
_SIGN_OUT = b"DELETE FROM processes WHERE owner = %s"
_FORGET_OLD = b"DELETE FROM processes WHERE seen_at < clock_timestamp() - interval '1 day'"
_OWN_BACKEND = b"SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END_BACKEND = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"

_Outcomes = list[tuple[Promise[Any], Any, BaseException | None]]


def _run(connection: _Raw, batch: Batch) -> _Outcomes:
    """Run writes in the transaction that is open; one that fails is undone alone.

    Raises psycopg.Error where the whole transaction is undone, by the server or with the connection.
    """
    statements = PostgresConnection(connection)
    outcomes: _Outcomes = []
    has_savepoints = len(batch) > 1
    for number, (write, promise) in enumerate(batch):
        if has_savepoints:
            connection.execute(b"RELEASE one; SAVEPOINT one" if number else b"SAVEPOINT one")
        try:
            outcomes.append((promise, write(statements), None))
        except Exception as error:  # it belongs to the promise; the others go on
            if isinstance(error, psycopg.Error) and (_is_lost(connection, error) or isinstance(error, _UNDONE)):
                raise
            if has_savepoints:
                connection.execute(b"ROLLBACK TO one")
            outcomes.append((promise, None, error))
    return outcomes


def _is_lost(connection: _Raw, error: psycopg.Error) -> bool:
    """True where the connection cannot be used any more; it is closed then."""
    is_own = isinstance(error, psycopg.OperationalError) and error.sqlstate is None  # the library's, not the server's
    if is_own or error.diag.severity_nonlocalized in {"FATAL", "PANIC"}:
        connection.close()
    return connection.closed


class PostgresConnection:
    """A `Connection` that says to PostgreSQL what is said in SQLite's words."""

    def __init__(self, raw: _Raw) -> None:
        self._raw = raw

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        """Run a statement."""
        return self._raw.execute(_translated(sql), values)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows:
        """Run a statement once for each of *rows*, without waiting for one before the next."""
        cursor = self._raw.cursor()
        cursor.executemany(_translated(sql), rows)
        return cursor


class _Reader:
    """Reads, and makes its connection anew where it was lost.

    Args:
        connect: makes one.
        patience: how long to try.
        raw: the first one; made when it is needed where None.
    """

    def __init__(self, connect: Callable[[], _Raw], patience: Patience, raw: _Raw | None = None) -> None:
        self._connect = connect
        self._patience = patience
        self._raw = raw

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        """Run a statement."""
        begun = monotonic()
        while True:
            try:
                if self._raw is None or self._raw.closed:
                    self._raw = self._connect()
                return self._raw.execute(_translated(sql), values)
            except psycopg.OperationalError as error:
                is_lost = self._raw is None or _is_lost(self._raw, error)
                if not is_lost or monotonic() >= begun + self._patience():
                    raise
                sleep(_PAUSE_S)

    def close(self) -> None:
        """Let go of the connection."""
        if self._raw is not None:
            self._raw.close()


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    words = sql.replace("%", "%%").replace(AMONG, "(SELECT json_array_elements_text(?::json))")
    words = words.replace(" LIKE ", " ILIKE ")  # SQLite's looks at no case
    return words.replace("?", "%s").encode()


def _read_dsn(dsn: str) -> tuple[str, str]:
    """What to connect with, and the database's name for people, without any password."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # Without the cause, whose text may quote the password.
        raise StorageError(
            "The address of the database cannot be read.", "It is postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    host = given.get("host") or given.get("hostaddr") or "localhost"
    name = f"{given.get('dbname') or given.get('user') or ''} on {host}:{given.get('port') or 5432}".lstrip()
    return make_conninfo("", **{**_DEFAULTS, **given}), name


def _reason(error: psycopg.Error) -> str:
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".?")


def _hint(error: psycopg.Error) -> str:
    """What to do about an error of the database."""
    match error:
        case errors.DiskFull():
            return "Free some space on the disk of the database's server."
        case errors.InsufficientPrivilege():
            return "The user needs the rights to use the database, and to make tables in it."
        case psycopg.OperationalError() if error.sqlstate is None:
            return "See that the database's server runs, and that TERCEL_DATABASE names it and a user that may log in."
        case _:
            return ""
