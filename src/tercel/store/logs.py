"""Log lines and metrics: taken from any thread, written in batches, read page by page.

Lines wait at most `FLUSH_AFTER_S`, or until `CHUNK_BYTES` of them wait; a writer that is faster than the disk is
held back, so that memory stays bounded and no line is lost.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import groupby
from threading import Condition, Thread
from time import monotonic
from typing import Any

from msgspec.structs import replace

from tercel.model.logs import LogEntry, Metric
from tercel.model.task import LEVEL_RANK, LogLevel
from tercel.store.database import AMONG, Conditions, Connection, Database, listed
from tercel.store.log_chunks import decode_chunk, encode_chunk
from tercel.store.log_queries import FoundLines, LogSearch
from tercel.store.log_search import search_lines
from tercel.store.metrics import INSERT_METRIC, StoredMetrics, metric_row
from tercel.store.records import LogPage, LogPurge
from tercel.store.rows import microseconds
from tercel.store.waiting import Promise
from tercel.texts import whole

FLUSH_AFTER_S = 0.2
CHUNK_BYTES = 64 * 1024
MOST_WAITING_BYTES = 4 * 1024 * 1024
_ENTRY_BYTES = 400  # what an entry costs beside its message

_CHUNKS_AT_ONCE = 32
_DISORDER = timedelta(
    hours=1
)  # the lines of a chunk are taken at one time, and need not be in the order of their dates

_Thinned = tuple[int, int, tuple[Any, ...] | None]
"""A chunk's id, how many lines it had, and the columns that it gets; None where nothing of it is left."""

Listener = Callable[[Sequence[LogEntry]], object]


class StoredLogs(StoredMetrics):
    """Logs and metrics in a database."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._changed = Condition()
        self._entries: list[LogEntry] = []
        self._metrics: list[Metric] = []
        self._waiting_bytes = 0
        self._taken_bytes = 0
        self._flushes: list[Promise[None]] = []
        self._thread: Thread | None = None
        self._is_closing = False
        self._failure: BaseException | None = None
        self._listeners: list[Listener] = []
        self._readers: list[Callable[[Collection[str]], object]] = []

    def write_logs(self, entries: Iterable[LogEntry]) -> None:
        """Take lines, from any thread; blocks while `MOST_WAITING_BYTES` wait. Raises StorageError once writing failed.

        The order of the lines of one thread is kept.
        """
        taken = [_storable(entry) for entry in entries]
        size = sum(len(entry.message) for entry in taken) + _ENTRY_BYTES * len(taken)
        self._take(taken, [], size)

    def write_metrics(self, metrics: Iterable[Metric]) -> None:
        """Take metrics, from any thread; as `write_logs`."""
        taken = [_storable_metric(metric) for metric in metrics]
        self._take([], taken, _ENTRY_BYTES * len(taken))

    def _take(self, entries: list[LogEntry], metrics: list[Metric], size: int) -> None:
        with self._changed:
            while self._waiting_bytes + self._taken_bytes > MOST_WAITING_BYTES and self._failure is None:
                self._changed.wait()
            if self._failure is not None:
                raise self._failure
            is_first = not self._waiting_bytes
            self._entries += entries
            self._metrics += metrics
            before, self._waiting_bytes = self._waiting_bytes, self._waiting_bytes + size
            if is_first or before < CHUNK_BYTES <= self._waiting_bytes:
                self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._flush_all, name="tercel-logs", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def flush(self) -> Promise[None]:
        """Write what waits now; the promise is kept once it is committed."""
        promise: Promise[None] = Promise()
        with self._changed:
            if self._failure is not None:
                promise.fail(self._failure)
            elif self._waiting_bytes or self._taken_bytes:
                self._flushes.append(promise)
                self._wake()
            else:
                promise.resolve(None)
        return promise

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* with every batch of lines as it is written, in the log's own thread; gives a way to stop.

        A listener that raises is not called again.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def on_written(self, reader: Callable[[Collection[str]], object]) -> Callable[[], None]:
        """Call *reader* whenever lines of this process can be read, with the ids of their executions; as `listen`."""
        self._readers.append(reader)
        return lambda: self._readers.remove(reader) if reader in self._readers else None

    def _flush_all(self) -> None:
        while True:
            with self._changed:
                while not (self._waiting_bytes or self._is_closing or self._flushes):
                    self._changed.wait()
                due = monotonic() + FLUSH_AFTER_S
                while self._waiting_bytes < CHUNK_BYTES and not (self._flushes or self._is_closing):
                    if not self._changed.wait(due - monotonic()):
                        break
                entries, self._entries = self._entries, []
                metrics, self._metrics = self._metrics, []
                flushes, self._flushes = self._flushes, []
                self._taken_bytes, self._waiting_bytes = self._waiting_bytes, 0
                is_last = self._is_closing
            failure = self._store(entries, metrics)
            with self._changed:
                self._taken_bytes = 0
                self._failure = failure
                self._changed.notify_all()
            for promise in flushes:
                if failure is None:
                    promise.resolve(None)
                else:
                    promise.fail(failure)
            if is_last or failure is not None:
                return

    def _store(self, entries: list[LogEntry], metrics: list[Metric]) -> Exception | None:
        """Write one batch; gives the error where it could not be written."""
        _tell(self._listeners, entries)

        def write(connection: Connection) -> None:
            if chunks:
                connection.executemany(_INSERT_CHUNK, chunks)
            if rows:
                connection.executemany(INSERT_METRIC, rows)

        try:
            chunks = [_chunk(part) for part in _parts(entries)]
            rows = [metric_row(metric) for metric in metrics]
            if not (chunks or rows):
                return None
            self._database.submit(write).wait()
        except Exception as error:  # whoever writes next is told
            return error
        if self._readers and entries:
            _tell(self._readers, {entry.execution_id for entry in entries})
        return None

    async def read(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        min_level: LogLevel = LogLevel.TRACE,
        after: int = 0,
        most_chunks: int = 32,
    ) -> LogPage:
        """A page of an execution's log: lines of *min_level* or above, of one task run where it is given.

        Lines that are not written yet are not seen; `flush` first to see all.
        """
        rank = LEVEL_RANK[min_level]
        conditions = Conditions()
        conditions.add("execution_id = ? AND id > ? AND level_mask >= ?", execution_id, after, 1 << rank)
        if task_run_id is not None:
            conditions.add("(task_run_id IS NULL OR task_run_id = ?)", task_run_id)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT id, encoding, data FROM log_chunks {conditions} ORDER BY id LIMIT ?",
                (*conditions.values, most_chunks),
            ).fetchall()
        entries = [
            entry
            for _, encoding, data in rows
            for entry in decode_chunk(encoding, data)
            if LEVEL_RANK[entry.level] >= rank and task_run_id in {None, entry.task_run_id}
        ]
        return LogPage(entries, rows[-1][0] if rows else after, len(rows) < most_chunks)

    async def search(self, search: LogSearch) -> FoundLines:
        """A page of lines of all executions. Lines that are not written yet are not seen."""
        return search_lines(self._database, search)

    def delete(
        self, execution_ids: Collection[str], *, lines: bool = True, metrics: bool = True
    ) -> Promise[tuple[int, int]]:
        """Remove what is written of executions, their lines or metrics or both; gives how many of each were removed."""
        ids = listed(execution_ids)

        def write(connection: Connection) -> tuple[int, int]:
            removed_lines = removed_metrics = 0
            if lines:
                query = f"SELECT coalesce(sum(lines), 0) FROM log_chunks WHERE execution_id IN {AMONG}"
                removed_lines = int(connection.execute(query, (ids,)).fetchone()[0])
                connection.execute(f"DELETE FROM log_chunks WHERE execution_id IN {AMONG}", (ids,))
            if metrics:
                statement = f"DELETE FROM metrics WHERE execution_id IN {AMONG}"
                removed_metrics = connection.execute(statement, (ids,)).rowcount
            return removed_lines, removed_metrics

        return self._database.submit(write)

    async def purge(self, purge: LogPurge) -> int:
        """Remove lines, a few chunks at a time; gives how many were removed. Lines not written yet stay."""
        conditions = _purged_chunks(purge)
        removed = after = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    f"SELECT id, lines, encoding, data FROM log_chunks {conditions} AND id > ? ORDER BY id LIMIT ?",
                    (*conditions.values, after, _CHUNKS_AT_ONCE),
                ).fetchall()
            if not rows:
                return removed
            count, after = await self._database.submit(partial(_replace_chunks, _thinned(rows, purge), rows[-1][0]))
            removed += count

    def close(self) -> None:
        """Write what waits; nothing may be written afterwards."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()


def _tell(listeners: list[Callable[[Any], object]], what: object) -> None:
    """Call listeners; one that raises is not called again."""
    for listener in list(listeners):
        try:
            listener(what)
        except Exception:  # whoever only looks must not stop the log
            listeners.remove(listener)


def _storable(entry: LogEntry) -> LogEntry:
    message = whole(entry.message)
    return entry if message is entry.message else replace(entry, message=message)


def _storable_metric(metric: Metric) -> Metric:
    tags = {whole(name): whole(value) for name, value in metric.tags.items()}
    return replace(metric, name=whole(metric.name), tags=tags)


def _chunk(entries: Sequence[LogEntry]) -> tuple[Any, ...]:
    """The columns of a chunk, as `_INSERT_CHUNK` takes them."""
    runs = {entry.task_run_id for entry in entries}
    mask = 0
    for level in {entry.level for entry in entries}:
        mask |= 1 << LEVEL_RANK[level]
    dates = [entry.date for entry in entries]
    return (
        entries[0].execution_id,
        runs.pop() if len(runs) == 1 else None,
        len(entries),
        mask,
        microseconds(min(dates)),
        microseconds(max(dates)),
        *encode_chunk(entries),
    )


def _thinned(rows: Sequence[tuple[Any, ...]], purge: LogPurge) -> list[_Thinned]:
    """What is to become of chunks that hold lines to remove."""
    thinned: list[_Thinned] = []
    for chunk_id, lines, encoding, data in rows:
        kept = [entry for entry in decode_chunk(encoding, data) if not _is_purged(entry, purge)]
        if len(kept) < lines:
            thinned.append((chunk_id, lines, _chunk(kept) if kept else None))
    return thinned


def _replace_chunks(thinned: Sequence[_Thinned], last: int, connection: Connection) -> tuple[int, int]:
    """Write thinned chunks; gives how many lines are gone, and the last chunk that needs no second look.

    A chunk never changes but by losing lines: one that has another number of them was thinned by somebody else.
    """
    removed = 0
    for chunk_id, lines, chunk in thinned:
        if chunk is None:
            done = connection.execute("DELETE FROM log_chunks WHERE id = ? AND lines = ?", (chunk_id, lines))
        else:
            done = connection.execute(_UPDATE_CHUNK, (*chunk[2:], chunk_id, lines))
        if not done.rowcount:
            return removed, chunk_id - 1
        removed += lines - (0 if chunk is None else chunk[2])
    return removed, last


def _purged_chunks(purge: LogPurge) -> Conditions:
    """Met by chunks that may hold lines to remove."""
    conditions = Conditions()
    conditions.add("lines > 0")
    if purge.execution_ids is not None:
        conditions.add(f"execution_id IN {AMONG}", listed(purge.execution_ids))
    if purge.namespace is not None or purge.flow_id is not None:
        executions = Conditions()
        executions.add("executions.id = log_chunks.execution_id")
        executions.add_flows(purge.namespace, purge.flow_id)
        conditions.add(f"EXISTS (SELECT 1 FROM executions {executions})", *executions.values)
    if purge.levels:
        conditions.add("(level_mask & ?) <> 0", sum(1 << LEVEL_RANK[level] for level in set(purge.levels)))
    if purge.start is not None:
        conditions.add("last_us >= ?", microseconds(purge.start - _DISORDER))
    if purge.end is not None:
        conditions.add("first_us < ?", microseconds(purge.end + _DISORDER))
    return conditions


def _is_purged(entry: LogEntry, purge: LogPurge) -> bool:
    return (
        (not purge.levels or entry.level in purge.levels)
        and (purge.start is None or entry.date >= purge.start)
        and (purge.end is None or entry.date < purge.end)
        and (purge.test is None or purge.test(entry))
    )


_INSERT_CHUNK = (
    "INSERT INTO log_chunks (execution_id, task_run_id, lines, level_mask, first_us, last_us, encoding, data) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_CHUNK = (
    "UPDATE log_chunks SET lines = ?, level_mask = ?, first_us = ?, last_us = ?, encoding = ?, data = ? "
    "WHERE id = ? AND lines = ?"
)


def _parts(entries: list[LogEntry]) -> Iterator[list[LogEntry]]:
    """*entries* as chunks: of one execution each, and no larger than need be."""
    by_execution: dict[str, list[LogEntry]] = {}
    for execution_id, group in groupby(entries, key=_execution_id):
        by_execution.setdefault(execution_id, []).extend(group)
    for lines in by_execution.values():
        start = size = 0
        for end, entry in enumerate(lines, 1):
            size += len(entry.message) + 200
            if size >= CHUNK_BYTES:
                yield lines[start:end]
                start, size = end, 0
        if start < len(lines):
            yield lines[start:]


def _execution_id(entry: LogEntry) -> str:
    return entry.execution_id
