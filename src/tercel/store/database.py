"""What the repositories know of a database: connections, writes that are committed together, reads beside them.

`sqlite.py` and `postgres.py` are the two databases. The repositories say everything in SQLite's words, of which
`postgres.py` translates the few that PostgreSQL has others for. Here is what both share: the thread that writes, and
transactions.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from tercel.errors import InvariantError, StorageError
from tercel.store import Transaction
from tercel.store.waiting import Promise

T = TypeVar("T")

Synchronous = Literal["FULL", "NORMAL"]

_MOST_WRITES_IN_ONE = 512


class Rows(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""
        ...

    def fetchone(self) -> Any:
        """The next row found, a tuple; None where there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows found that were not fetched yet."""
        ...


class Reader(Protocol):
    """Runs statements; `?` stands for a value."""

    def execute(self, sql: str, values: Sequence[Any] = ..., /) -> Rows:
        """Run a statement."""
        ...


class Connection(Reader, Protocol):
    """Runs statements that write."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Rows:
        """Run a statement once for each of *rows*; `rowcount` is the sum."""
        ...


Write = Callable[[Connection], T]
"""Changes rows in a transaction that somebody else opens and commits; gives what the caller wants to know.

It may be called again, when its transaction was undone, and so changes nothing but rows.
"""

Batch = list[tuple[Write[Any], Promise[Any]]]


class Database(Protocol):
    """One database."""

    def submit(self, write: Write[T]) -> Promise[T]:
        """Queue *write* for the next transaction; the promise is kept once it is committed.

        An error in *write* undoes that write alone and fails its promise; an error in the commit fails all of them.
        """
        ...

    def reading(self) -> AbstractContextManager[Reader]:
        """A connection to read with, for one thread at a time; it sees everything committed before."""
        ...

    def dead(self, connection: Connection, owners: Collection[str]) -> Collection[str]:
        """Those of *owners* that are dead, and stay so until the transaction of the writing *connection* ends."""
        ...


class GroupCommit:
    """One thread that takes writes in the order of their coming; all that wait are committed together.

    Args:
        commit: commits writes and keeps their promises; called in the thread.
        idle: called in the thread whenever nothing came for *idle_s*.
        idle_s: None never calls it.
    """

    def __init__(
        self, commit: Callable[[Batch], None], idle: Callable[[], None] = lambda: None, idle_s: float | None = None
    ) -> None:
        self._commit = commit
        self._idle = idle
        self._idle_s = idle_s
        self._waiting: SimpleQueue[tuple[Write[Any], Promise[Any]] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._guard = Lock()
        self._is_closed = False

    def submit(self, write: Write[T]) -> Promise[T]:
        """Queue *write* for the next transaction; fails with StorageError once it is closed."""
        promise: Promise[T] = Promise()
        if self._is_closed:
            promise.fail(_closed())
            return promise
        self._waiting.put((write, promise))
        if self._thread is None:
            self.start()
        return promise

    def start(self) -> None:
        """Start the thread before there is something to write; the first write does so otherwise."""
        with self._guard:
            if self._thread is None and not self._is_closed:
                self._thread = Thread(target=self._write_all, name="tercel-writer", daemon=True)
                self._thread.start()

    def _write_all(self) -> None:
        stopping = False
        while not stopping:
            try:
                first = self._waiting.get(timeout=self._idle_s)
            except Empty:
                self._idle()
                continue
            if first is None:
                return
            batch = [first]
            try:
                while len(batch) < _MOST_WRITES_IN_ONE:
                    following = self._waiting.get_nowait()
                    if following is None:
                        stopping = True
                        break
                    batch.append(following)
            except Empty:
                pass
            self._commit(batch)

    def close(self) -> bool:
        """Commit what waits and end the thread; True the first time only."""
        with self._guard:
            if self._is_closed:
                return False
            self._is_closed = True
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
        while not self._waiting.empty():
            late = self._waiting.get()
            if late is not None:
                late[1].fail(_closed())
        return True


def _closed() -> StorageError:
    return StorageError("The database is closed.")


class DatabaseTransaction:
    """Collects writes, and commits them together when its block is left without an error."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writes: list[Write[object]] = []
        self._actions: list[Callable[[], object]] = []

    def write(self, write: Write[object]) -> None:
        """Add a write."""
        self._writes.append(write)

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call *action* once everything is committed, and never if it is not."""
        self._actions.append(action)

    async def __aenter__(self) -> "DatabaseTransaction":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        if self._writes:
            await self._database.submit(self._write_all)
        for action in self._actions:
            action()

    def _write_all(self, connection: Connection) -> None:
        for write in self._writes:
            write(connection)


def add_write(tx: Transaction, write: Write[object]) -> None:
    """Have *write* committed with *tx*."""
    if not isinstance(tx, DatabaseTransaction):
        raise InvariantError("This transaction is none of this store's.")
    tx.write(write)


AMONG = "(SELECT value FROM json_each(?))"
"""What stands after `IN` where the value is `listed` texts: one statement, however many they are."""


def listed(texts: Iterable[str]) -> str:
    """The value for `AMONG`."""
    return msgspec.json.encode(list(texts)).decode()


class Conditions:
    """What a statement's rows have to meet: all of the terms added."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._terms: list[str] = []

    def add(self, term: str, *values: object) -> None:
        """Add a term with the values for its `?`."""
        self._terms.append(term)
        self.values += values

    def add_flows(self, namespace: str | None, flow_id: str | None) -> None:
        """Add: the row is of that flow, or of any flow in the namespace or below it."""
        if flow_id is not None:
            self.add("flow_id = ?", flow_id)
            if namespace is not None:
                self.add("namespace = ?", namespace)
        elif namespace is not None:
            # "/" follows "." in the order of characters: a range, which an index knows.
            self.add(
                "(namespace = ? OR (namespace >= ? AND namespace < ?))", namespace, f"{namespace}.", f"{namespace}/"
            )

    def __str__(self) -> str:
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""
