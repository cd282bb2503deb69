"""Runs numbered migrations, each once and in one transaction; refuses a schema that is newer or was tampered with."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from tercel.errors import StorageError

SQLITE_MIGRATIONS = Path(__file__).parent / "migrations" / "sqlite"

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    version    INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: its number, from 1 and without gaps, its file's name and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Changes with every character of the file."""
        return sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> Sequence[Migration]:
    """The migrations in *folder*, `0001_some_name.sql` and so on, in order."""
    paths = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [Migration(int(path.name[:4]), path.stem, path.read_text("utf-8")) for path in paths]


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration], applied_at: datetime | None = None) -> int:
    """Bring the schema up to the newest of *migrations*; nothing is written where it is there already.

    Args:
        connection: in autocommit mode (`isolation_level=None`).
        migrations: all steps known, from the first.
        applied_at: noted with each step; now where None.

    Returns:
        How many steps were taken.

    Raises:
        StorageError: the schema is newer than this program, or a step applied earlier reads differently today.
    """
    if check_schema(connection, migrations):
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_TABLE)
        done = _check(_applied(connection), migrations)  # another process may have been faster
        date = (applied_at or datetime.now(UTC)).isoformat(timespec="seconds")
        for step in migrations[done:]:
            for statement in _statements(step.sql):
                connection.execute(statement)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?, ?)", (step.version, step.name, step.checksum, date)
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return len(migrations) - done


def check_schema(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> bool:
    """True where all of *migrations* are applied, False where some are to come; raises StorageError as `migrate`."""
    return _check(_applied(connection), migrations) == len(migrations)


def _applied(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    try:
        return connection.execute("SELECT version, name, checksum FROM schema_version ORDER BY version").fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return []


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
