import sqlite3
from pathlib import Path
from threading import Event

import pytest

from tercel.errors import NotFoundError, StorageError
from tercel.store.database import DatabaseTransaction
from tercel.store.sqlite import SqliteDatabase
from tercel.store.waiting import run


@pytest.fixture
def database(tmp_path: Path):
    database = SqliteDatabase(tmp_path / "test.db", "NORMAL")
    database.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")).wait(10)
    yield database
    database.close()


def _insert(number: int):
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


def _numbers(database: SqliteDatabase) -> list[int]:
    with database.reading() as connection:
        return [row[0] for row in connection.execute("SELECT n FROM numbers ORDER BY n")]


class TestWriting:
    def test_given_a_write_when_its_promise_is_kept_then_readers_see_it(self, database: SqliteDatabase) -> None:
        assert database.submit(_insert(1)).wait(10) == 1

        assert _numbers(database) == [1]

    def test_given_writes_that_wait_then_they_share_a_transaction(self, database: SqliteDatabase) -> None:
        may_go_on = Event()
        commits: list[int] = []

        def slow(connection: sqlite3.Connection) -> None:
            may_go_on.wait(10)

        def note(connection: sqlite3.Connection) -> None:
            commits.append(connection.total_changes)

        held = database.submit(slow)
        promises = [database.submit(_insert(number)) for number in range(5)]
        database.submit(note)
        assert _numbers(database) == []
        may_go_on.set()

        held.wait(10)
        for promise in promises:
            promise.wait(10)
        assert _numbers(database) == [0, 1, 2, 3, 4]

    def test_given_one_write_fails_then_the_others_of_its_transaction_stay(self, database: SqliteDatabase) -> None:
        may_go_on = Event()
        database.submit(lambda connection: may_go_on.wait(10))

        good = database.submit(_insert(1))
        bad = database.submit(_insert(1))
        other = database.submit(_insert(2))
        may_go_on.set()

        assert good.wait(10) == 1
        assert other.wait(10) == 1
        with pytest.raises(sqlite3.IntegrityError):
            bad.wait(10)
        assert _numbers(database) == [1, 2]

    def test_given_writes_that_wait_when_it_closes_then_they_are_committed(self, tmp_path: Path) -> None:
        database = SqliteDatabase(tmp_path / "closing.db", "NORMAL")
        database.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)"))
        promises = [database.submit(_insert(number)) for number in range(50)]

        database.close()
        database.close()

        assert all(promise.is_done for promise in promises)
        with pytest.raises(StorageError, match="The database is closed"):
            database.submit(_insert(1)).wait(10)
        reopened = SqliteDatabase(tmp_path / "closing.db", "NORMAL")
        assert len(_numbers(reopened)) == 50
        reopened.close()


class TestTransaction:
    def test_given_a_clean_exit_then_writes_and_then_actions_happen(self, database: SqliteDatabase) -> None:
        seen: list[list[int]] = []

        async def both() -> None:
            async with DatabaseTransaction(database) as tx:
                tx.write(_insert(1))
                tx.write(_insert(2))
                tx.after_commit(lambda: seen.append(_numbers(database)))

        run(both())
        assert seen == [[1, 2]]

    def test_given_an_error_in_the_block_then_nothing_happens(self, database: SqliteDatabase) -> None:
        async def broken() -> None:
            async with DatabaseTransaction(database) as tx:
                tx.write(_insert(1))
                raise KeyError

        with pytest.raises(KeyError):
            run(broken())
        assert _numbers(database) == []

    def test_given_one_write_fails_then_none_stays_and_no_action_runs(self, database: SqliteDatabase) -> None:
        actions: list[str] = []

        async def broken() -> None:
            async with DatabaseTransaction(database) as tx:
                tx.write(_insert(1))
                tx.write(_insert(1))
                tx.after_commit(lambda: actions.append("ran"))

        with pytest.raises(sqlite3.IntegrityError):
            run(broken())
        assert _numbers(database) == []
        assert actions == []


class TestOpening:
    def test_given_no_file_when_only_reading_then_it_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="Nothing was run in this home yet"):
            SqliteDatabase(tmp_path / "none.db", read_only=True)

        assert not (tmp_path / "none.db").exists()

    def test_given_a_writer_when_another_only_reads_then_it_sees_commits_and_cannot_write(self, tmp_path: Path) -> None:
        path = tmp_path / "odd ?#% name.db"
        writer = SqliteDatabase(path, "NORMAL")
        reader = SqliteDatabase(path, read_only=True)
        writer.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)"))
        writer.submit(_insert(7)).wait(10)

        assert _numbers(reader) == [7]
        with pytest.raises(StorageError, match="readonly"), reader.reading() as connection:
            connection.execute("INSERT INTO numbers VALUES (8)")
        reader.close()
        writer.close()

        closed = SqliteDatabase(path, read_only=True)
        assert _numbers(closed) == [7]
        closed.close()

    def test_given_two_writers_then_each_waits_for_the_other(self, tmp_path: Path) -> None:
        one, two = SqliteDatabase(tmp_path / "two.db", "NORMAL"), SqliteDatabase(tmp_path / "two.db", "NORMAL")
        one.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)")).wait(10)

        promises = [database.submit(_insert(number)) for number in range(20) for database in (one, two)]

        assert [promise.wait(30) for promise in promises] == [1] * 40
        one.close()
        two.close()

    def test_given_something_that_is_no_database_then_it_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "text.db"
        path.write_text("this is a text, and a long one at that" * 100)

        with pytest.raises(StorageError, match="cannot be opened: file is not a database"):
            SqliteDatabase(path)
