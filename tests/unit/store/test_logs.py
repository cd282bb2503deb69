from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from tercel.errors import StorageError
from tercel.model import LogEntry, LogLevel, Metric
from tercel.store import MetricQuery, run
from tercel.store import logs as logs_module
from tercel.store.logs import StoredLogs
from tercel.store.sqlite import SqliteDatabase

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "test.db", "NORMAL")
    yield database
    database.close()


@pytest.fixture
def logs(database: SqliteDatabase) -> Iterator[StoredLogs]:
    logs = StoredLogs(database)
    yield logs
    logs.close()


def a_line(message: str, **properties: object) -> LogEntry:
    values = {"execution_id": "execution", "date": NOON, "level": LogLevel.INFO, "task_run_id": "run"}
    return LogEntry(message=message, **(values | properties))  # pyright: ignore[reportArgumentType]


def _chunks(database: SqliteDatabase) -> list[tuple[int, str, str | None]]:
    with database.reading() as connection:
        return connection.execute("SELECT lines, encoding, task_run_id FROM log_chunks ORDER BY id").fetchall()


class TestBatches:
    def test_given_few_lines_then_they_are_one_plain_chunk(self, logs: StoredLogs, database: SqliteDatabase) -> None:
        logs.write_logs([a_line("one")])
        logs.write_logs([a_line("two")])
        logs.flush().wait(10)

        assert _chunks(database) == [(2, "plain", "run")]

    def test_given_halves_of_characters_then_they_are_replaced_and_what_follows_is_written(
        self, logs: StoredLogs
    ) -> None:
        tags = {"a\ud800": "b\udcff"}
        metric = Metric(
            execution_id="execution",
            task_id="t",
            task_run_id="run",
            type="counter",
            name="n\ud800",
            value=1,
            date=NOON,
            tags=tags,
        )
        logs.write_logs([a_line("a\ud83d\ude00\ud800")])
        logs.write_metrics([metric])
        logs.flush().wait(10)
        logs.write_logs([a_line("after")])
        logs.flush().wait(10)

        assert [entry.message for entry in run(logs.read("execution")).entries] == ["a\U0001f600\ufffd", "after"]
        [found] = run(logs.find_metrics(MetricQuery(execution_id="execution"))).metrics
        assert (found.name, found.tags) == ("n\ufffd", {"a\ufffd": "b\ufffd"})

    def test_given_many_lines_then_they_are_compressed_chunks_in_order(
        self, logs: StoredLogs, database: SqliteDatabase
    ) -> None:
        lines = [a_line(f"line {number} {'x' * 200}") for number in range(3000)]
        for start in range(0, len(lines), 100):
            logs.write_logs(lines[start : start + 100])
        logs.flush().wait(10)

        assert {encoding for _, encoding, _ in _chunks(database)} == {"zstd"}
        read: list[LogEntry] = []
        after, is_last = 0, False
        while not is_last:
            page = run(logs.read("execution", after=after, most_chunks=3))
            read += page.entries
            after, is_last = page.next, page.is_last
        assert read == lines

    def test_given_silence_then_lines_are_written_soon_by_themselves(self, logs: StoredLogs) -> None:
        written = Event()
        logs.listen(lambda entries: written.set())

        logs.write_logs([a_line("one")])

        assert written.wait(10)

    def test_given_several_executions_then_each_has_its_own_chunk(
        self, logs: StoredLogs, database: SqliteDatabase
    ) -> None:
        logs.write_logs([a_line("a"), a_line("b", execution_id="other", task_run_id=None), a_line("c")])
        logs.flush().wait(10)

        assert _chunks(database) == [(2, "plain", "run"), (1, "plain", None)]
        assert [entry.message for entry in run(logs.read("execution")).entries] == ["a", "c"]

    def test_given_a_full_buffer_then_the_writer_waits_and_no_line_is_lost(
        self, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(logs_module, "MOST_WAITING_BYTES", 20_000)
        may_go_on = Event()
        database.submit(lambda connection: may_go_on.wait(10))
        logs = StoredLogs(database)
        progress: list[int] = []

        def write() -> None:
            for number in range(500):
                logs.write_logs([a_line(f"{number}")])
                progress.append(number)

        thread = Thread(target=write)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert len(progress) < 100
        may_go_on.set()
        thread.join(10)
        logs.close()

        entries = run(logs.read("execution", most_chunks=1000)).entries
        assert [entry.message for entry in entries] == [f"{number}" for number in range(500)]

    def test_given_the_database_fails_then_the_next_writer_is_told(
        self, logs: StoredLogs, database: SqliteDatabase
    ) -> None:
        database.submit(lambda connection: connection.execute("DROP TABLE log_chunks")).wait(10)
        logs.write_logs([a_line("lost")])

        with pytest.raises(Exception, match="no such table"):
            logs.flush().wait(10)
        with pytest.raises(Exception, match="no such table"):
            logs.write_logs([a_line("refused")])

    def test_given_a_listener_that_raises_then_it_is_not_called_again(self, logs: StoredLogs) -> None:
        calls: list[str] = []

        def broken(entries: Sequence[LogEntry]) -> None:
            calls.append(entries[0].message)
            raise StorageError("cannot look")

        logs.listen(broken)
        logs.write_logs([a_line("one")])
        logs.flush().wait(10)
        logs.write_logs([a_line("two")])
        logs.flush().wait(10)

        assert calls == ["one"]
        assert len(run(logs.read("execution")).entries) == 2


class TestReading:
    def test_given_levels_and_task_runs_then_only_those_asked_for_come(self, logs: StoredLogs) -> None:
        logs.write_logs(
            [
                a_line("mild", level=LogLevel.DEBUG),
                a_line("bad", level=LogLevel.ERROR, date=NOON + timedelta(seconds=1)),
                a_line("other", level=LogLevel.ERROR, task_run_id="other"),
                a_line("own", level=LogLevel.WARN, task_run_id=None),
            ]
        )
        logs.flush().wait(10)

        def messages(**filters: object) -> list[str]:
            page = run(logs.read("execution", **filters))  # pyright: ignore[reportArgumentType]
            return [entry.message for entry in page.entries]

        assert messages() == ["mild", "bad", "other", "own"]
        assert messages(min_level=LogLevel.WARN) == ["bad", "other", "own"]
        assert messages(task_run_id="other") == ["other"]
        assert messages(task_run_id="run", min_level=LogLevel.ERROR) == ["bad"]
        assert run(logs.read("nobody")).entries == []
