"""SqliteStore: flows, executions and logs in one SQLite file."""

from pathlib import Path

from tercel.store.executions import SqliteExecutions
from tercel.store.flows import SqliteFlows
from tercel.store.logs import SqliteLogs
from tercel.store.rows import Seals
from tercel.store.sqlite import Database, SqliteTransaction, Synchronous


class SqliteStore:
    """The `Store` of the embedded engine; see `Database` for the arguments and errors.

    Args:
        owner: the process that new executions belong to.
        seals: keeps texts that hold a secret from being stored readably; None stores all as they are.
    """

    def __init__(
        self,
        path: Path,
        *,
        owner: str,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        seals: Seals | None = None,
    ) -> None:
        self._database = Database(path, synchronous, read_only=read_only)
        self.flows = SqliteFlows(self._database)
        self.executions = SqliteExecutions(self._database, owner, seals)
        self.logs = SqliteLogs(self._database)

    def transaction(self) -> SqliteTransaction:
        """Opens a transaction; it is committed on a clean exit."""
        return SqliteTransaction(self._database)

    def close(self) -> None:
        """Write what waits and close the file; a second call does nothing."""
        self.logs.close()
        self._database.close()
