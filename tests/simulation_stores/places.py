"""Where a simulated history has its rows: one database, empty before each history."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from tercel.store import Store
from tercel.store.embedded import SqliteStore
from tests.postgres import end_connections, postgres_database


class Place(Protocol):
    """A database that any number of processes open, each as an owner."""

    def clear(self) -> None:
        """Forget all rows; nobody has it open."""
        ...

    def open(self, owner: str) -> Store:
        """Open it as a process that starts now."""
        ...

    def disconnect(self) -> None:
        """Have all processes that are alive be taken for dead until they write the next time."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SqlitePlace:
    """One SQLite file, in memory where there is room for files."""

    def __init__(self) -> None:
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._folder = TemporaryDirectory(prefix="tercel-simulation-", dir=memory)
        self._path = Path(self._folder.name) / "tercel.db"
        self._empty = Path(self._folder.name) / "empty.db"
        SqliteStore(self._empty, owner="", synchronous="NORMAL").close()

    def clear(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self._empty, self._path)

    def open(self, owner: str) -> Store:
        return SqliteStore(self._path, owner=owner, synchronous="NORMAL")

    def disconnect(self) -> None:
        pass  # whoever says here that an owner is dead is believed

    def close(self) -> None:
        self._folder.cleanup()


class PostgresPlace:
    """One PostgreSQL database, emptied before each history."""

    def __init__(self) -> None:
        from tercel.store.postgres import PostgresStore

        self._database = ExitStack()
        self._dsn = self._database.enter_context(postgres_database())
        self._open = PostgresStore
        self.open("first").close()

    def clear(self) -> None:
        import psycopg

        with psycopg.connect(self._dsn, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables "
                "WHERE schemaname = 'public' AND tablename <> 'schema_version'"
            ).fetchone()
            connection.execute(f"TRUNCATE {tables[0]}".encode() if tables else b"")

    def open(self, owner: str) -> Store:
        return self._open(self._dsn, owner=owner, synchronous="NORMAL", grace_s=0, beat_s=1000)

    def disconnect(self) -> None:
        end_connections(self._dsn)

    def close(self) -> None:
        self._database.close()


PLACES: dict[str, Callable[[], Place]] = {"sqlite": SqlitePlace, "postgres": PostgresPlace}
