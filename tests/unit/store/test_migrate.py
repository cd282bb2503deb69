import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tercel.errors import StorageError
from tercel.store.migrate import SQLITE_MIGRATIONS, Migration, migrate, read_migrations

FIRST = Migration(1, "0001_first", "-- what it is for\nCREATE TABLE a (x INTEGER);\nINSERT INTO a VALUES (';' || 1);\n")
SECOND = Migration(2, "0002_second", "ALTER TABLE a ADD COLUMN y TEXT;")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    yield connection
    connection.close()


class TestMigrate:
    def test_given_an_empty_database_then_every_step_is_taken_once(self, connection: sqlite3.Connection) -> None:
        assert migrate(connection, [FIRST, SECOND], NOON) == 2
        assert migrate(connection, [FIRST, SECOND], NOON) == 0

        assert connection.execute("SELECT * FROM a").fetchall() == [(";1", None)]
        assert connection.execute("SELECT version, name, applied_at FROM schema_version").fetchall() == [
            (1, "0001_first", "2030-01-01T12:00:00+00:00"),
            (2, "0002_second", "2030-01-01T12:00:00+00:00"),
        ]

    def test_given_an_older_database_then_only_what_is_missing_runs(self, connection: sqlite3.Connection) -> None:
        migrate(connection, [FIRST], NOON)

        assert migrate(connection, [FIRST, SECOND], NOON) == 1

    def test_given_a_newer_database_then_it_is_refused(self, connection: sqlite3.Connection) -> None:
        migrate(connection, [FIRST, SECOND], NOON)

        with pytest.raises(StorageError) as caught:
            migrate(connection, [FIRST], NOON)

        assert str(caught.value) == (
            "The database has schema version 2, this tercel knows only up to 1. "
            "A newer tercel wrote it: use that version, or another home (--home DIR)."
        )

    def test_given_a_step_that_was_edited_afterwards_then_it_is_refused(self, connection: sqlite3.Connection) -> None:
        migrate(connection, [FIRST], NOON)
        edited = Migration(1, "0001_first", FIRST.sql + "-- edited\n")

        with pytest.raises(StorageError, match=r"Schema step 1 \(0001_first\) was applied with other content"):
            migrate(connection, [edited], NOON)

    def test_given_a_step_that_fails_then_nothing_of_it_stays(self, connection: sqlite3.Connection) -> None:
        broken = Migration(1, "0001_broken", "CREATE TABLE a (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")

        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, [broken], NOON)

        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


class TestOurMigrations:
    def test_they_are_numbered_without_gaps(self) -> None:
        steps = read_migrations(SQLITE_MIGRATIONS)

        assert steps
        assert [step.version for step in steps] == list(range(1, len(steps) + 1))

    def test_they_run_on_an_empty_database(self, connection: sqlite3.Connection) -> None:
        steps = read_migrations(SQLITE_MIGRATIONS)

        assert migrate(connection, steps) == len(steps)
