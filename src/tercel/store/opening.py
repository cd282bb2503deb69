"""Opens the store that an address names: a PostgreSQL database, or else the file of a home."""

from collections.abc import Callable
from pathlib import Path

from tercel.errors import MissingToolError
from tercel.store import Store
from tercel.store.database import Synchronous
from tercel.store.embedded import SqliteStore
from tercel.store.rows import Seals

DATABASE_FILE = "tercel.db"


def open_store(
    database: str,
    home: Path,
    *,
    owner: str,
    synchronous: Synchronous = "FULL",
    read_only: bool = False,
    seals: Seals | None = None,
    patience: Callable[[], float] = lambda: 30.0,
) -> Store:
    """Open the store of a home, or the one that many share.

    Args:
        database: `postgresql://…`; empty for the file in *home*.
        home: an existing directory.
        owner: the process that new executions belong to, unlike that of any other, ever; "" for one that only looks.
        synchronous: FULL makes every commit survive a power cut, NORMAL only a crash of the process.
        read_only: only read what is there.
        seals: keeps texts that hold a secret from being stored readably; None stores all as they are.
        patience: how many seconds to try to reach PostgreSQL again when it went away; asked before each try.

    Raises:
        StorageError: the database cannot be opened, or its schema does not fit.
        NotFoundError: *read_only*, and the home has no file yet.
        MissingToolError: the library for PostgreSQL is not installed.
    """
    if not database:
        file = home / DATABASE_FILE
        return SqliteStore(file, owner=owner, synchronous=synchronous, read_only=read_only, seals=seals)
    try:
        from tercel.store.postgres import PostgresStore  # noqa: PLC0415  # its library comes as an extra
    except ImportError as error:
        raise MissingToolError(
            "The library psycopg, which a PostgreSQL database needs, is not installed.",
            "Install it: pip install 'tercel[postgres]'.",
        ) from error
    return PostgresStore(
        database, owner=owner, synchronous=synchronous, read_only=read_only, seals=seals, patience=patience
    )
