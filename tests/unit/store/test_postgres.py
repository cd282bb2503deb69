"""What happens to a PostgreSQL database's connections, and to what is written meanwhile."""

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGQUIT
from tempfile import mkdtemp
from threading import Event, Lock, Thread

import psycopg
import pytest

from tercel.errors import NotFoundError, StorageError
from tercel.store import Changes, StaleExecutionError, run
from tercel.store.database import Connection, Reader
from tercel.store.postgres import PostgresDatabase, PostgresStore
from tests.builders import an_execution
from tests.homes import until
from tests.postgres import end_connections, postgres_database, running_server


@pytest.fixture
def dsn() -> Iterator[str]:
    with postgres_database() as dsn:
        yield dsn


@pytest.fixture
def database(dsn: str) -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(dsn, owner="me")
    database.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")).wait(30)
    yield database
    database.close()


def _insert(number: int) -> Callable[[Connection], int]:
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,)).rowcount


def _numbers(database: PostgresDatabase) -> list[int]:
    with database.reading() as connection:
        return [number for (number,) in connection.execute("SELECT n FROM numbers ORDER BY n").fetchall()]


class TestWriting:
    def test_given_one_write_fails_then_the_others_of_its_transaction_stay(self, database: PostgresDatabase) -> None:
        may_go_on = Event()
        database.submit(lambda connection: may_go_on.wait(10))

        good = database.submit(_insert(1))
        bad = database.submit(_insert(1))
        other = database.submit(_insert(2))
        may_go_on.set()

        assert good.wait(10) == 1
        assert other.wait(10) == 1
        with pytest.raises(psycopg.errors.UniqueViolation):
            bad.wait(10)
        assert _numbers(database) == [1, 2]

    def test_given_a_write_alone_fails_then_nothing_of_it_stays(self, database: PostgresDatabase) -> None:
        def broken(connection: Connection) -> None:
            connection.execute("INSERT INTO numbers VALUES (1)")
            raise KeyError

        with pytest.raises(KeyError):
            database.submit(broken).wait(10)
        assert database.submit(_insert(2)).wait(10) == 1
        assert _numbers(database) == [2]

    def test_given_writes_that_wait_when_it_closes_then_they_are_committed(
        self, dsn: str, database: PostgresDatabase
    ) -> None:
        other = PostgresDatabase(dsn, owner="other")
        promises = [other.submit(_insert(number)) for number in range(50)]

        other.close()
        other.close()

        assert all(promise.is_done for promise in promises)
        with pytest.raises(StorageError, match="The database is closed"):
            other.submit(_insert(1)).wait(10)
        assert len(_numbers(database)) == 50

    def test_given_two_processes_that_wait_for_each_other_then_both_are_written(
        self, dsn: str, database: PostgresDatabase
    ) -> None:
        other = PostgresDatabase(dsn, owner="other")
        for number in (1, 2):
            database.submit(_insert(number)).wait(10)
        both_began = [Event(), Event()]

        def crossing(first: int, mine: Event, theirs: Event) -> Callable[[Connection], None]:
            def write(connection: Connection) -> None:
                update = "UPDATE numbers SET n = n + 10 WHERE n % 10 = ?"
                connection.execute(update, (first,))
                mine.set()
                theirs.wait(10)
                connection.execute(update, (3 - first,))

            return write

        promises = [
            database.submit(crossing(1, *both_began)),
            other.submit(crossing(2, *reversed(both_began))),
        ]

        for promise in promises:
            promise.wait(30)
        assert _numbers(database) == [21, 22]
        other.close()


class TestLostConnections:
    def test_given_idle_connections_are_ended_then_nobody_notices(self, dsn: str, database: PostgresDatabase) -> None:
        assert _numbers(database) == []

        assert end_connections(dsn) >= 2

        assert _numbers(database) == []
        assert database.submit(_insert(1)).wait(30) == 1
        assert _numbers(database) == [1]

    def test_given_it_is_lost_between_two_writes_of_a_batch_then_all_are_written_once(
        self, dsn: str, database: PostgresDatabase
    ) -> None:
        runs: list[int] = []

        def lose(connection: Connection) -> None:
            runs.append(connection.execute("INSERT INTO numbers VALUES (2)").rowcount)
            if len(runs) == 1:
                end_connections(dsn)

        may_go_on = Event()
        database.submit(lambda connection: may_go_on.wait(10))
        promises = [database.submit(write) for write in (_insert(1), lose, _insert(3))]
        may_go_on.set()

        for promise in promises:
            promise.wait(30)
        assert runs == [1, 1]
        assert _numbers(database) == [1, 2, 3]

    def test_given_the_server_crashes_then_reading_and_writing_go_on_when_it_is_back(
        self, database: PostgresDatabase
    ) -> None:
        database.submit(_insert(1)).wait(10)
        assert _numbers(database) == [1]

        running_server().stop(SIGQUIT)
        promise = database.submit(_insert(2))
        running_server().start()

        assert promise.wait(30) == 1
        assert _numbers(database) == [1, 2]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_given_it_is_lost_during_a_commit_then_the_write_is_there_once(self, dsn: str, when: str) -> None:
        with Wire(dsn) as wire:
            database = PostgresDatabase(wire.dsn, owner="me")
            database.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)")).wait(30)
            runs: list[None] = []

            def append(connection: Connection) -> int:
                runs.append(None)
                return connection.execute("INSERT INTO numbers VALUES (1)").rowcount

            wire.cut_at_commit = when
            assert database.submit(append).wait(30) == 1

            assert wire.cuts == 1
            assert len(runs) == (2 if when == "before" else 1)
            assert _numbers(database) == [1]
            database.close()

    def test_given_no_server_comes_back_then_the_writer_is_told_that_nothing_is_known(self, dsn: str) -> None:
        with Wire(dsn) as wire:
            database = PostgresDatabase(wire.dsn, owner="me", patience=lambda: 0.2)
            wire.cut_at_commit = "after"
            wire.refuses = True

            with pytest.raises(StorageError, match="was lost during a commit, and whether that was done is not known"):
                database.submit(lambda connection: connection.execute("CREATE TABLE a (n INTEGER)")).wait(30)
            with pytest.raises(StorageError, match=r"Writing to the database test_\S+ on \S+ failed: "):
                database.submit(lambda connection: connection.execute("CREATE TABLE b (n INTEGER)")).wait(30)
            with pytest.raises(StorageError, match="Reading from the database"), database.reading() as connection:
                connection.execute("SELECT 1")
            database.close()


class TestOwners:
    def test_given_a_lost_connection_when_the_process_is_idle_then_it_soon_is_alive_again(self, dsn: str) -> None:
        one, two = PostgresStore(dsn, owner="one", beat_s=0.05), PostgresStore(dsn, owner="two", grace_s=0)
        assert run(two.dead_owners(["one"])) == set()

        end_connections(dsn)

        until(lambda: run(two.dead_owners(["one"])) == set(), 30)
        one.close()
        two.close()

    def test_given_a_process_without_connection_then_it_counts_as_dead_only_after_the_grace(self, dsn: str) -> None:
        patient, hasty = PostgresStore(dsn, owner="patient", grace_s=600), PostgresStore(dsn, owner="hasty", grace_s=0)
        with Wire(dsn) as wire:
            gone, closed = PostgresStore(wire.dsn, owner="gone", patience=lambda: 0), PostgresStore(dsn, owner="closed")
            wire.refuses = True
            wire.cut()
            closed.close()

            until(lambda: run(hasty.dead_owners(["gone", "patient"])) == {"gone"}, 30)
            assert run(patient.dead_owners(["gone", "closed", "never", "hasty"])) == {"closed", "never"}
            gone.close()
        patient.close()
        hasty.close()

    def test_given_a_process_that_writes_all_the_time_then_it_gives_signs_of_life(self, dsn: str) -> None:
        database = PostgresDatabase(dsn, owner="me", beat_s=0)
        database.submit(lambda connection: connection.execute("DELETE FROM processes")).wait(30)

        database.submit(lambda _: None).wait(30)

        with database.reading() as connection:
            until(lambda: connection.execute("SELECT owner FROM processes").fetchall() == [("me",)], 30)
        database.close()

    def test_given_a_living_process_then_nothing_of_it_is_adopted(self, dsn: str) -> None:
        living, other = PostgresStore(dsn, owner="living"), PostgresStore(dsn, owner="other")

        async def create() -> None:
            async with living.transaction() as tx:
                living.executions.save(tx, Changes(created=[an_execution()]))

        run(create())

        assert other.executions.adopt({"execution": "living"}).wait(30) == []
        living.close()
        assert other.executions.adopt({"execution": "living"}).wait(30) == ["execution"]
        other.close()

    def test_given_it_was_away_and_lost_what_it_had_then_it_cannot_write_that(self, dsn: str) -> None:
        with Wire(dsn) as wire:
            away = PostgresStore(wire.dsn, owner="away")
            heir = PostgresStore(dsn, owner="heir", grace_s=0)

            async def save(**changes: object) -> None:
                async with away.transaction() as tx:
                    away.executions.save(tx, Changes(**changes))  # pyright: ignore[reportArgumentType]

            run(save(created=[an_execution()]))
            wire.refuses = True
            wire.cut()
            until(lambda: run(heir.dead_owners(["away"])) == {"away"}, 30)
            assert heir.executions.adopt({"execution": "away"}).wait(30) == ["execution"]
            wire.refuses = False

            with pytest.raises(StaleExecutionError):
                run(save(changed=[(an_execution("CREATED", "RUNNING", version=1), 0)]))
            away.close()
            heir.close()


class TestOpening:
    def test_given_several_that_begin_at_once_then_the_schema_is_made_once(self, dsn: str) -> None:
        stores: list[PostgresStore] = []
        failures: list[BaseException] = []

        def begin(owner: str) -> None:
            try:
                stores.append(PostgresStore(dsn, owner=owner))
            except BaseException as error:
                failures.append(error)

        threads = [Thread(target=begin, args=(f"{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        for store in stores:
            store.close()

    def test_given_an_empty_database_when_only_reading_then_it_says_so(self, dsn: str) -> None:
        with pytest.raises(StorageError, match="was not set up by this version of tercel"):
            PostgresStore(dsn, owner="", read_only=True)

    def test_given_one_that_only_reads_then_it_sees_commits_and_cannot_write(self, dsn: str) -> None:
        writer = PostgresDatabase(dsn, owner="me")
        reader = PostgresDatabase(dsn, owner="", read_only=True)
        writer.submit(lambda connection: connection.execute("CREATE TABLE numbers (n INTEGER)"))
        writer.submit(_insert(7)).wait(10)

        def write(connection: Reader) -> None:
            connection.execute("INSERT INTO numbers VALUES (8)")

        assert _numbers(reader) == [7]
        with pytest.raises(StorageError, match="read-only transaction"), reader.reading() as connection:
            write(connection)
        reader.close()
        writer.close()

    @pytest.mark.parametrize(
        ("dsn", "message"),
        [
            (
                "postgresql://me:hush@127.0.0.1:1/flows",
                r"The database flows on 127\.0\.0\.1:1 cannot be opened: .* See that the database's server runs, and "
                "that TERCEL_DATABASE names it and a user that may log in.",
            ),
            (
                "postgresql://me:hush@127.0.0.1/flows?nonsense=1",
                r"The address of the database cannot be read. It is postgresql://USER:PASSWORD@HOST:PORT/DATABASE\.",
            ),
        ],
    )
    def test_given_a_database_that_is_not_there_then_it_says_so_without_the_password(
        self, dsn: str, message: str
    ) -> None:
        with pytest.raises(StorageError) as caught:
            PostgresStore(dsn, owner="me")

        assert re.fullmatch(message, str(caught.value))
        assert "hush" not in str(caught.value)

    def test_given_another_encoding_then_it_is_refused(self, dsn: str) -> None:
        name = re.search(r"test_\w+", dsn)
        assert name is not None
        with psycopg.connect(dsn, autocommit=True) as connection:
            statement = f"CREATE DATABASE {name[0]}_l TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            connection.execute(statement.encode())

        try:
            with pytest.raises(StorageError, match=r"with the encoding LATIN1\. It has to be UTF8, and PostgreSQL 13"):
                PostgresStore(dsn.replace(name[0], f"{name[0]}_l"), owner="me")
        finally:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name[0]}_l".encode())

    def test_given_nothing_saved_then_a_flow_is_not_found(self, dsn: str) -> None:
        store = PostgresStore(dsn, owner="me")

        with pytest.raises(NotFoundError):
            run(store.flows.get("a", "flow"))
        store.close()


class Wire:
    """Stands between a client and the server of *dsn*, and cuts connections.

    Attributes:
        dsn: the address of the same database, by the wire.
        cut_at_commit: cut the next connection that commits, "before" the server hears of it or "after" it has done so.
        refuses: lets nobody connect.
        cuts: how many commits were cut.
    """

    def __init__(self, dsn: str) -> None:
        [(_, folder)] = re.findall(r"(host)=([^&]+)", dsn)
        self._server = f"{folder}/.s.PGSQL.5432"
        self._folder = Path(mkdtemp(prefix="wire-", dir=folder))
        self.dsn = dsn.replace(f"host={folder}", f"host={self._folder}")
        self.cut_at_commit = ""
        self.refuses = False
        self.cuts = 0
        self._guard = Lock()
        self._links: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{self._folder}/.s.PGSQL.5432")
        self._listener.listen()
        self._thread = Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()
        shutil.rmtree(self._folder)

    def cut(self) -> None:
        """Cut all connections."""
        with self._guard:
            links, self._links = self._links, []
        for link in links:
            _hang_up(*link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            with self._guard:
                self._links.append((client, server))
            for source, target in ((client, server), (server, client)):
                Thread(target=self._carry, args=(source, target, client, server), daemon=True).start()

    def _carry(
        self, source: socket.socket, target: socket.socket, client: socket.socket, server: socket.socket
    ) -> None:
        try:
            while content := source.recv(65536):
                if source is client and b"COMMIT\0" in content and self.cut_at_commit:
                    self._cut_commit(content, client, server)
                    return
                target.sendall(content)
        except OSError:
            pass
        _hang_up(client, server)

    def _cut_commit(self, content: bytes, client: socket.socket, server: socket.socket) -> None:
        when, self.cut_at_commit = self.cut_at_commit, ""
        self.cuts += 1
        client.shutdown(socket.SHUT_RDWR)
        if when == "after":
            server.sendall(content)
            server.shutdown(socket.SHUT_WR)
        else:
            _hang_up(server)


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
        finally:
            end.close()
