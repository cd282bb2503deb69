"""Runs numbered migrations, each once and in one transaction; refuses a schema that is newer or was tampered with."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import msgspec

from tercel.errors import StorageError
from tercel.store.database import Connection, Reader

_FOLDER = Path(__file__).parent / "migrations"

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL
)
"""


class Dialect(msgspec.Struct, frozen=True):
    """How a kind of database is migrated.

    Attributes:
        folder: of its migrations.
        begin: statements that begin a transaction beside which nobody else migrates.
        find_table: a query that finds a row where the table `schema_version` is there.
    """

    folder: Path
    begin: tuple[str, ...]
    find_table: str


SQLITE = Dialect(
    _FOLDER / "sqlite",
    ("BEGIN IMMEDIATE",),
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'",
)
POSTGRES = Dialect(
    _FOLDER / "postgres",
    ("BEGIN", "SELECT pg_advisory_xact_lock(8387234165128077420)"),  # "tercel" and a number
    "SELECT 1 WHERE to_regclass('schema_version') IS NOT NULL",
)


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: its number, from 1 and without gaps, its file's name and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Changes with every character of the file."""
        return sha256(self.sql.encode()).hexdigest()


@lru_cache(maxsize=4)
def read_migrations(folder: Path) -> Sequence[Migration]:
    """The migrations in *folder*, `0001_some_name.sql` and so on, in order; read once in a process."""
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return tuple(Migration(int(path.name[:4]), path.stem, path.read_text("utf-8")) for path in paths)


def migrate(
    connection: Connection,
    dialect: Dialect,
    migrations: Sequence[Migration] | None = None,
    applied_at: datetime | None = None,
) -> int:
    """Bring the schema up to the newest of *migrations*; nothing is written where it is there already.

    Args:
        connection: in autocommit mode.
        dialect: of its database.
        migrations: all steps known, from the first; those of the dialect's folder where None.
        applied_at: noted with each step; now where None.

    Returns:
        How many steps were taken.

    Raises:
        StorageError: the schema is newer than this program, or a step applied earlier reads differently today.
    """
    steps = read_migrations(dialect.folder) if migrations is None else migrations
    if check_schema(connection, dialect, steps):
        return 0
    for statement in dialect.begin:
        connection.execute(statement)
    try:
        connection.execute(_TABLE)
        done = _check(_applied(connection, dialect), steps)  # another process may have been faster
        date = (applied_at or datetime.now(UTC)).isoformat(timespec="seconds")
        for step in steps[done:]:
            for statement in _statements(step.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?, ?)", (step.version, step.name, step.checksum, date)
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(steps) - done


def check_schema(connection: Reader, dialect: Dialect, migrations: Sequence[Migration] | None = None) -> bool:
    """True where all of *migrations* are applied, False where some are to come; raises StorageError as `migrate`."""
    steps = read_migrations(dialect.folder) if migrations is None else migrations
    return _check(_applied(connection, dialect), steps) == len(steps)


def _applied(connection: Reader, dialect: Dialect) -> list[tuple[int, str, str]]:
    if connection.execute(dialect.find_table).fetchone() is None:
        return []
    return connection.execute("SELECT version, name, checksum FROM schema_version ORDER BY version").fetchall()


def _check(applied: Sequence[tuple[int, str, str]], migrations: Sequence[Migration]) -> int:
    """How many steps are applied; raises StorageError unless they are the first of *migrations*."""
    if len(applied) > len(migrations):
        raise StorageError(
            f"The database has schema version {applied[-1][0]}, this tercel knows only up to {len(migrations)}.",
            "A newer tercel wrote it: use that version, or another home (--home DIR).",
        )
    for (version, name, checksum), step in zip(applied, migrations, strict=False):
        if version != step.version or checksum != step.checksum:
            raise StorageError(
                f"Schema step {version} ({name}) was applied with other content than this tercel has.",
                "A development version wrote the database: use another home (--home DIR).",
            )
    return len(applied)


def _statements(sql: str) -> list[str]:
    """The statements of a script, without the comments around them."""
    statements: list[str] = []
    buffer = ""
    for line in sql.splitlines(keepends=True):
        if not buffer.strip() and (line.isspace() or line.startswith("--")):
            continue
        buffer += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(buffer):
            statements.append(buffer)
            buffer = ""
    if buffer.strip():
        statements.append(buffer)
    return statements
