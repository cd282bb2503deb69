"""SqliteStore: all records in one SQLite file, in the home of the processes that share it."""

from collections.abc import Iterable
from pathlib import Path

from tercel.store.database import DatabaseTransaction, Synchronous
from tercel.store.executions import StoredExecutions
from tercel.store.flows import StoredFlows
from tercel.store.home import is_dead
from tercel.store.key_values import StoredKeyValues
from tercel.store.logs import StoredLogs
from tercel.store.rows import Seals
from tercel.store.sqlite import SqliteDatabase
from tercel.store.triggers import StoredTriggers


class SqliteStore:
    """The `Store` of the embedded engine; see `SqliteDatabase` for the arguments and errors.

    Args:
        path: in a home, where processes leave their locks.
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
        self._home = path.parent
        self._database = SqliteDatabase(path, synchronous, read_only=read_only)
        self.flows = StoredFlows(self._database)
        self.executions = StoredExecutions(self._database, owner, seals)
        self.logs = StoredLogs(self._database)
        self.triggers = StoredTriggers(self._database, seals)
        self.key_values = StoredKeyValues(self._database, seals)

    async def dead_owners(self, owners: Iterable[str]) -> set[str]:
        """Those of *owners* that are no live process of the home; nobody, "", is dead."""
        return {owner for owner in owners if not owner or is_dead(self._home, owner)}

    def transaction(self) -> DatabaseTransaction:
        """Opens a transaction; it is committed on a clean exit."""
        return DatabaseTransaction(self._database)

    def close(self) -> None:
        """Write what waits and close the file; a second call does nothing."""
        self.logs.close()
        self._database.close()
