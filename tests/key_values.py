"""The key-value pairs of a store of their own, as tasks see them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from tercel.engine_calls import NamespaceKeys
from tercel.store.embedded import SqliteStore


class KeptKeyValues(NamespaceKeys):
    """Key-value pairs in a database in *folder*.

    Attributes:
        now: the instant by which values expire.
    """

    def __init__(self, folder: Path) -> None:
        self.now = datetime(2030, 1, 1, 12, tzinfo=UTC)
        self._store = SqliteStore(folder / "keys.db", owner="tests", synchronous="NORMAL")
        super().__init__(self._store, lambda: self.now)

    def __enter__(self) -> KeptKeyValues:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.close()
