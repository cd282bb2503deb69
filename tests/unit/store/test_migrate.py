import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread

import msgspec
import psycopg
import pytest
from msgspec.structs import replace

from tercel.errors import StorageError
from tercel.model import Attempt
from tercel.model.state import TERMINAL
from tercel.store import Changes, Store, run
from tercel.store.database import Connection
from tercel.store.embedded import SqliteStore
from tercel.store.executions import OPEN
from tercel.store.migrate import POSTGRES, SQLITE, Dialect, Migration, migrate, read_migrations
from tercel.store.postgres import PostgresConnection, PostgresStore
from tests.builders import NOON, a_history, a_task_run, an_execution
from tests.postgres import postgres_database

FIRST = Migration(1, "0001_first", "-- what it is for\nCREATE TABLE a (x TEXT);\nINSERT INTO a VALUES (';' || '1');\n")
SECOND = Migration(2, "0002_second", "ALTER TABLE a ADD COLUMN y TEXT;")


class Place:
    """A database that nobody has migrated yet."""

    def __init__(self, dialect: Dialect, path: Path, dsn: str, stack: ExitStack) -> None:
        self.dialect = dialect
        self._path = path
        self._dsn = dsn
        self._stack = stack

    def connect(self) -> Connection:
        if self.dialect is SQLITE:
            return self._stack.enter_context(
                closing(sqlite3.connect(self._path, isolation_level=None, check_same_thread=False))
            )
        raw = self._stack.enter_context(closing(psycopg.connect(self._dsn, autocommit=True)))
        return PostgresConnection(raw)

    def open_store(self) -> Store:
        if self.dialect is SQLITE:
            store: Store = SqliteStore(self._path, owner="me")
        else:
            store = PostgresStore(self._dsn, owner="me")
        self._stack.callback(store.close)
        return store


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield Place(SQLITE, tmp_path / "test.db", "", stack)
        else:
            dsn = stack.enter_context(postgres_database())
            yield Place(POSTGRES, tmp_path, dsn, stack)


def take(place: Place, *steps: Migration, connection: Connection | None = None) -> int:
    return migrate(connection or place.connect(), place.dialect, steps, NOON)


class TestMigrate:
    def test_given_an_empty_database_then_every_step_is_taken_once(self, place: Place) -> None:
        assert take(place, FIRST, SECOND) == 2
        assert take(place, FIRST, SECOND) == 0

        connection = place.connect()
        assert connection.execute("SELECT * FROM a").fetchall() == [(";1", None)]
        assert connection.execute("SELECT version, name, applied_at FROM schema_version").fetchall() == [
            (1, "0001_first", "2030-01-01T12:00:00+00:00"),
            (2, "0002_second", "2030-01-01T12:00:00+00:00"),
        ]

    def test_given_an_older_database_then_only_what_is_missing_runs(self, place: Place) -> None:
        take(place, FIRST)

        assert take(place, FIRST, SECOND) == 1

    def test_given_several_that_begin_at_once_then_every_step_is_taken_once(self, place: Place) -> None:
        taken: list[int] = []
        threads = [
            Thread(
                target=lambda connection: taken.append(take(place, FIRST, SECOND, connection=connection)), args=(one,)
            )
            for one in [place.connect() for _ in range(4)]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(taken) == [0, 0, 0, 2]

    def test_given_a_newer_database_then_it_is_refused(self, place: Place) -> None:
        take(place, FIRST, SECOND)

        with pytest.raises(StorageError) as caught:
            take(place, FIRST)

        assert str(caught.value) == (
            "The database has schema version 2, this tercel knows only up to 1. "
            "A newer tercel wrote it: use that version, or another home (--home DIR)."
        )

    def test_given_a_step_that_was_edited_afterwards_then_it_is_refused(self, place: Place) -> None:
        take(place, FIRST)
        edited = Migration(1, "0001_first", FIRST.sql + "-- edited\n")

        with pytest.raises(StorageError, match=r"Schema step 1 \(0001_first\) was applied with other content"):
            take(place, edited)

    def test_given_a_step_that_fails_then_nothing_of_it_stays(self, place: Place) -> None:
        broken = Migration(1, "0001_broken", "CREATE TABLE a (x INTEGER);\nCREATE TABLE a (x INTEGER);\n")

        with pytest.raises((sqlite3.OperationalError, psycopg.errors.DuplicateTable)):
            take(place, broken)

        assert place.connect().execute(place.dialect.find_table).fetchone() is None


class TestOurMigrations:
    @pytest.mark.parametrize("dialect", [SQLITE, POSTGRES])
    def test_they_are_numbered_without_gaps(self, dialect: Dialect) -> None:
        steps = read_migrations(dialect.folder)

        assert steps
        assert [step.version for step in steps] == list(range(1, len(steps) + 1))

    def test_both_kinds_of_database_have_the_same_steps(self) -> None:
        names = [[step.name for step in read_migrations(dialect.folder)] for dialect in (SQLITE, POSTGRES)]

        assert names[0] == names[1]

    def test_the_first_step_is_that_of_the_first_release(self) -> None:
        first = read_migrations(SQLITE.folder)[0]

        assert first.checksum == "2ddf988163aedf96e54d28591295d9280d7533cbaea172d0b0fe20c2c8e7f000"

    def test_they_run_on_an_empty_database_and_both_kinds_have_the_same_columns(self) -> None:
        lite = sqlite3.connect(":memory:", isolation_level=None)
        migrate(lite, SQLITE)
        tables = [name for (name,) in lite.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = {
            (table, column)
            for table in tables
            if not table.startswith("sqlite_")
            for (column,) in lite.execute("SELECT name FROM pragma_table_info(?)", (table,))
        }
        lite.close()

        with postgres_database() as dsn, closing(psycopg.connect(dsn, autocommit=True)) as raw:
            migrate(PostgresConnection(raw), POSTGRES)
            statement = b"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            others = set(raw.execute(statement).fetchall())

        assert columns - others == set()
        # SQLite has the one by itself, and files of the home for the other.
        assert others - columns == {("task_runs", "rowid"), ("processes", "owner"), ("processes", "seen_at")}

    @pytest.mark.parametrize("dialect", [SQLITE, POSTGRES])
    def test_indices_of_what_is_open_know_every_final_state(self, dialect: Dialect) -> None:
        sql = read_migrations(dialect.folder)[1].sql

        lists = re.findall(r"state NOT IN \(([^)]*)\)", sql)

        assert [set(re.findall(r"\w+", one)) for one in lists] == [set(TERMINAL), set(TERMINAL)]

    def test_given_a_query_for_what_is_open_then_its_index_is_used(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection, SQLITE)
        queries = {
            "executions_open": f"SELECT id, owner FROM executions WHERE {OPEN} AND owner <> 'me' ORDER BY id",
            "executions_with_slot": "SELECT count(*) FROM executions WHERE namespace = 'a' AND flow_id = 'b' "
            f"AND slot = 1 AND {OPEN}",
            "triggers_due": "SELECT * FROM triggers WHERE next_us IS NOT NULL AND disabled = 0 AND next_us <= 1",
        }

        for index, query in queries.items():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
            assert index in str(plan)
        connection.close()


class TestTheFirstRelease:
    """A database that tercel 0.1 wrote: with rows, as it encoded them."""

    def rows(self, connection: Connection) -> None:
        pack = msgspec.msgpack.encode
        history = [{"state": "CREATED", "date": NOON}, {"state": "RUNNING", "date": NOON}]
        ended = [*history, {"state": "SUCCESS", "date": NOON}]
        start = pack([{"a": 1}, {"v": NOON}, {"id": "daily"}, "parent", "original"])
        insert = (
            "INSERT INTO executions (id, namespace, flow_id, revision, state, version, owner, created_us, ended_us, "
            "labels, detail) VALUES (?, 'tests', 'flow', 1, ?, 3, 'old', 1893499200000000, NULL, '{\"l\":\"x\"}', ?)"
        )
        connection.execute(insert, ("open", "RUNNING", pack([history, {"o": 2}, 2, "why"])))
        connection.execute(insert, ("ended", "SUCCESS", pack([ended, {}, 1, "", True])))
        for execution_id in ("open", "ended"):
            connection.execute("INSERT INTO execution_starts (execution_id, body) VALUES (?, ?)", (execution_id, start))
        connection.execute(
            "INSERT INTO task_runs (execution_id, id, task_id, value, state, fence, lost, detail, outputs) "
            "VALUES ('open', 'run-one', 'one', 'v', 'RUNNING', 4, 0, ?, ?)",
            (pack([history, [{"history": history, "worker": "w"}], "m"]), pack({"x": 1})),
        )

    def test_given_it_then_everything_comes_back_and_goes_on(self, place: Place) -> None:
        connection = place.connect()
        migrate(connection, place.dialect, read_migrations(place.dialect.folder)[:1])
        self.rows(connection)

        store = place.open_store()

        common = {
            "inputs": {"a": 1},
            "variables": {"v": NOON},
            "trigger": {"id": "daily"},
            "parent_id": "parent",
            "original_id": "original",
            "labels": {"l": "x"},
            "version": 3,
        }
        running = a_history("CREATED", "RUNNING", step_s=0)
        opened = an_execution(id="open", history=running, outputs={"o": 2}, attempt_number=2, message="why", **common)
        ended = an_execution(
            id="ended", history=a_history("CREATED", "RUNNING", "SUCCESS", step_s=0), from_scratch=True, **common
        )
        one = a_task_run(
            "one",
            execution_id="open",
            history=running,
            attempts=(Attempt(running, "w"),),
            value="v",
            fence=4,
            message="m",
            outputs={"x": 1},
        )
        assert run(store.executions.get("open")) == opened
        assert run(store.executions.get("ended")) == ended
        assert run(store.executions.task_runs("open")) == [one]
        assert run(store.executions.open_elsewhere()) == {"open": "old"}

        assert store.executions.adopt({"open": "old"}).wait(10) == ["open"]
        changed = replace(opened, history=ended.history, version=4, variables={"v": 2})

        async def save() -> None:
            async with store.transaction() as tx:
                store.executions.save(tx, Changes(changed=[(changed, 3)]))

        run(save())
        assert run(store.executions.get("open")) == changed
