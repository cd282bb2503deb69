"""Searching the log lines of all executions: chunks are walked in the order of writing, and read only where need be.

Once a page that is ordered by time is full, only chunks that reach beyond its last line can change it. The others are
counted: by the database alone where they hold nothing but what is asked for, by reading them elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from tercel.model.logs import LogEntry
from tercel.model.task import LEVEL_RANK
from tercel.store.database import AMONG, Conditions, Database, listed
from tercel.store.log_chunks import chunk_has, decode_chunk
from tercel.store.log_queries import FoundLine, FoundLines, LogOrder, LogSearch
from tercel.store.rows import microseconds

_CHUNKS_AT_ONCE = 32
_JOINED = "FROM log_chunks JOIN executions ON executions.id = log_chunks.execution_id"

_ORDERS: dict[LogOrder, Callable[[FoundLine], Any]] = {
    "timestamp": lambda line: line.entry.date,
    "level": lambda line: LEVEL_RANK[line.entry.level],
    "namespace": lambda line: line.namespace,
    "flowId": lambda line: line.flow_id,
}


def search_lines(database: Database, search: LogSearch) -> FoundLines:
    """The lines that are asked for; those not written yet are not seen."""
    page = _Page(search)
    total = 0
    rest: _Rest | None = None
    for chunk_id, lines in _chunks(database, search, _Part()):
        found = [line for line in lines if _fits(line, search)]
        total += len(found)
        page.add(found)
        last = page.last_date()
        if last is not None:
            rest = _Rest(chunk_id, last)
            break
    if rest is not None:
        for _, lines in _chunks(database, search, _Part(rest=rest, is_near=True)):
            found = [line for line in lines if _fits(line, search)]
            total += len(found)
            page.add(found)
        if _is_counted(search):
            total += _count(database, search, _Part(rest=rest, is_near=False, is_whole=True))
        for _, lines in _chunks(database, search, _Part(rest=rest, is_near=False, is_whole=False)):
            total += sum(_fits(line, search) for line in lines)
    return FoundLines(page.lines(), total)


class _Rest(NamedTuple):
    """What follows when a page is full.

    Attributes:
        after: the chunk that filled it.
        date: of its last line then.
    """

    after: int
    date: datetime


class _Part(NamedTuple):
    """Some of the chunks that may hold what is asked for.

    Attributes:
        rest: only such as follow; None for all.
        is_near: only such that reach beyond the last line of the page, or only such that do not.
        is_whole: only such that hold nothing but what is asked for, or only such that may hold something else.
    """

    rest: _Rest | None = None
    is_near: bool | None = None
    is_whole: bool | None = None


class _Page:
    """The lines of a page so far, and those before it."""

    def __init__(self, search: LogSearch) -> None:
        self._skipped = search.skipped
        self._most = search.skipped + search.limit
        self._order = search.order or (("timestamp", True),)
        self._kept: list[FoundLine] = []

    def add(self, lines: Iterable[FoundLine]) -> None:
        """Take lines that come after those taken before where nothing else tells which is first."""
        self._kept += lines
        if len(self._kept) > 2 * self._most + 1000:
            self._cut()

    def _cut(self) -> None:
        for name, is_descending in reversed(self._order):
            self._kept.sort(key=_ORDERS[name], reverse=is_descending)
        del self._kept[self._most :]

    def last_date(self) -> datetime | None:
        """When its last line was logged, if the page is full and ordered by time; None elsewhere."""
        if self._order[0][0] != "timestamp" or len(self._kept) < self._most:
            return None
        self._cut()
        return self._kept[-1].entry.date

    def lines(self) -> list[FoundLine]:
        """The lines of the page."""
        self._cut()
        return self._kept[self._skipped :]


def _is_counted(search: LogSearch) -> bool:
    """Whether the database can count lines: nothing has to be known of them but their levels and dates."""
    return search.test is None and not search.text


def _walks_back(search: LogSearch) -> bool:
    return not search.order or search.order[0] == ("timestamp", True)


def _chunks(database: Database, search: LogSearch, part: _Part) -> Iterator[tuple[int, list[FoundLine]]]:
    """Chunks of a part, newest first where the newest lines are wanted first."""
    back = _walks_back(search)
    text = (search.text or "").lower()
    after: int | None = None
    while True:
        conditions = _conditions(search, part)
        if after is not None:
            conditions.add("log_chunks.id < ?" if back else "log_chunks.id > ?", after)
        with database.reading() as connection:
            rows = connection.execute(
                f"SELECT log_chunks.id, namespace, flow_id, encoding, data {_JOINED} {conditions} "
                f"ORDER BY log_chunks.id {'DESC' if back else ''} LIMIT ?",
                (*conditions.values, _CHUNKS_AT_ONCE),
            ).fetchall()
        for chunk_id, namespace, flow_id, encoding, data in rows:
            if text not in namespace.lower() and text not in flow_id.lower() and not chunk_has(encoding, data, text):
                continue
            entries = decode_chunk(encoding, data)
            yield chunk_id, [FoundLine(entry, namespace, flow_id) for entry in (reversed(entries) if back else entries)]
        if len(rows) < _CHUNKS_AT_ONCE:
            return
        after = rows[-1][0]


def _count(database: Database, search: LogSearch, part: _Part) -> int:
    """The lines of all chunks of a part."""
    conditions = _conditions(search, part)
    with database.reading() as connection:
        query = f"SELECT coalesce(sum(lines), 0) {_JOINED} {conditions}"
        return int(connection.execute(query, conditions.values).fetchone()[0])


def _conditions(search: LogSearch, part: _Part) -> Conditions:
    """Met by the chunks of a part."""
    conditions = Conditions()
    conditions.add("lines > 0")
    if search.execution_ids is not None:
        conditions.add(f"execution_id IN {AMONG}", listed(search.execution_ids))
    if search.namespace is not None and not search.with_children:
        conditions.add("namespace = ?", search.namespace)
    elif search.namespace is not None:
        conditions.add_flows(search.namespace, None)
    if search.flow_id is not None:
        conditions.add("flow_id = ?", search.flow_id)
    if search.start is not None:
        conditions.add("last_us >= ?", microseconds(search.start))
    if search.end is not None:
        conditions.add("first_us <= ?", microseconds(search.end))
    conditions.add("level_mask >= ?", 1 << LEVEL_RANK[search.min_level])
    if part.rest is not None:
        _add_rest(conditions, part.rest, part.is_near, back=_walks_back(search))
    if part.is_whole is not None and _is_counted(search):
        _add_whole(conditions, search, is_whole=part.is_whole)
    return conditions


def _add_rest(conditions: Conditions, rest: _Rest, is_near: bool | None, *, back: bool) -> None:
    conditions.add("log_chunks.id < ?" if back else "log_chunks.id > ?", rest.after)
    if is_near is not None:
        near = "last_us > ?" if back else "first_us < ?"
        conditions.add(near if is_near else f"NOT ({near})", microseconds(rest.date))


def _add_whole(conditions: Conditions, search: LogSearch, *, is_whole: bool) -> None:
    terms = ["(level_mask & ?) = 0"]
    values = [(1 << LEVEL_RANK[search.min_level]) - 1]
    if search.start is not None:
        terms.append("first_us >= ?")
        values.append(microseconds(search.start))
    if search.end is not None:
        terms.append("last_us <= ?")
        values.append(microseconds(search.end))
    term = " AND ".join(terms)
    conditions.add(term if is_whole else f"NOT ({term})", *values)


def _fits(line: FoundLine, search: LogSearch) -> bool:
    entry: LogEntry = line.entry
    return (
        LEVEL_RANK[entry.level] >= LEVEL_RANK[search.min_level]
        and (search.start is None or entry.date >= search.start)
        and (search.end is None or entry.date <= search.end)
        and (not search.text or _has_text(line, search.text.lower()))
        and (search.test is None or search.test(line))
    )


def _has_text(line: FoundLine, text: str) -> bool:
    entry = line.entry
    return text in entry.message.lower() or any(
        text in name.lower() for name in (line.namespace, line.flow_id, entry.execution_id, entry.task_id or "")
    )
