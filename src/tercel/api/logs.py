"""`/logs`: lines of an execution, at once, as a file or while they are written; searches over all executions."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace
from starlette.responses import Response, StreamingResponse

from tercel.api.answers import empty_answer, file_answer, json_answer, page_answer
from tercel.api.call import Call
from tercel.api.filters import (
    DATE,
    LEVEL,
    QUERY,
    SCOPE,
    TEXT,
    WHOLE,
    AllOf,
    Condition,
    Fields,
    Operation,
    Scope,
    Where,
    holds,
    read_filters,
)
from tercel.api.paging import read_paging
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.streams import SIGN_OF_LIFE_S, Bridge, byte_stream, in_thread
from tercel.model.execution import Execution
from tercel.model.logs import LogEntry
from tercel.model.task import LEVEL_RANK, LogLevel
from tercel.store import FoundLine, LogOrder, LogPurge, LogSearch

FIELDS: Fields = {
    "q": QUERY,
    "scope": SCOPE,
    "namespace": TEXT,
    "flowId": TEXT,
    "executionId": TEXT,
    "triggerId": TEXT,
    "taskId": TEXT,
    "taskRunId": TEXT,
    "attemptNumber": WHOLE,
    "level": LEVEL,
    "startDate": DATE,
    "endDate": DATE,
}

_SORTABLE: Mapping[str, LogOrder] = {
    "timestamp": "timestamp",
    "level": "level",
    "namespace": "namespace",
    "flowId": "flowId",
}

_DEEPEST = 100_000
"""Lines up to the end of a page, at most: they are all looked at to find the page."""

_POLL_S = 1.0
"""How long a follower waits at most before it looks again: other processes do not tell that they wrote."""

_LINGER_S = 0.5
"""How long after an execution's end its log is followed: other processes write a little later than they say the end."""

_CHUNKS_AT_ONCE = 8

_NOTHING: list[FoundLine] = []

_encode = msgspec.json.Encoder().encode


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of an execution are asked for."""

    min_level: LogLevel = LogLevel.TRACE
    task_run_id: str | None = None
    task_id: str | None = None
    attempt: int | None = None
    where: AllOf = AllOf()
    system_namespace: str = ""

    def is_of(self, line: FoundLine) -> bool:
        """Say whether a line is one of them."""
        entry = line.entry
        return (
            self.task_run_id in (None, entry.task_run_id)
            and self.task_id in (None, entry.task_id)
            and self.attempt in (None, entry.attempt)
            and LEVEL_RANK[entry.level] >= LEVEL_RANK[self.min_level]
            and (not self.where.parts or holds(self.where, partial(_value, line, self.system_namespace)))
        )


def _wanted(call: Call) -> _Wanted:
    return _Wanted(
        min_level=call.query.choice("minLevel", LogLevel) or LogLevel.TRACE,
        task_run_id=call.query.text("taskRunId") or None,
        task_id=call.query.text("taskId") or None,
        attempt=call.query.whole("attempt"),
        where=read_filters(call.query, FIELDS, call.now),
        system_namespace=call.options.system_namespace,
    )


def _value(line: FoundLine, system_namespace: str, field: str) -> Any:
    entry = line.entry
    match field:
        case "q":
            return [entry.message, line.namespace, line.flow_id, entry.execution_id, entry.task_id or ""]
        case "scope":
            is_system = line.namespace == system_namespace or line.namespace.startswith(f"{system_namespace}.")
            return Scope.SYSTEM if is_system else Scope.USER
        case "namespace":
            return line.namespace
        case "flowId":
            return line.flow_id
        case "executionId":
            return entry.execution_id
        case "taskId":
            return entry.task_id
        case "taskRunId":
            return entry.task_run_id
        case "attemptNumber":
            return entry.attempt
        case "level":
            return entry.level
        case "triggerId":
            return entry.trigger_id
        case _:
            return entry.date


class LogLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A log line as JSON: a struct, as there may be very many."""

    namespace: str
    flow_id: str
    execution_id: str
    task_id: str | None = None
    task_run_id: str | None = None
    attempt_number: int
    trigger_id: str | None = None
    timestamp: datetime
    level: LogLevel
    thread: str
    message: str


def log_line(line: FoundLine) -> LogLine:
    """A log line as JSON."""
    entry = line.entry
    return LogLine(
        namespace=line.namespace,
        flow_id=line.flow_id,
        execution_id=entry.execution_id,
        task_id=entry.task_id,
        task_run_id=entry.task_run_id,
        attempt_number=entry.attempt,
        trigger_id=entry.trigger_id,
        timestamp=entry.date,
        level=entry.level,
        thread="executor" if entry.task_run_id is None else "worker",
        message=entry.message,
    )


# One execution


def get(call: Call) -> Response:
    """The lines of an execution, by time; none where there is no such execution."""
    pages = _pages(call, _wanted(call))
    first = next(pages, _NOTHING)
    second = next(pages, None)
    if second is None:
        return json_answer([log_line(line) for line in first])
    return StreamingResponse(_json_list(first, second, pages), media_type="application/json")


def _json_list(first: list[FoundLine], second: list[FoundLine], more: Iterator[list[FoundLine]]) -> Iterator[bytes]:
    """A JSON list, piece by piece."""
    begin = b"["
    for page in _in_turn(first, second, more):
        if page:
            yield begin + b",".join(_encode(log_line(line)) for line in page)
            begin = b","
    yield b"[]" if begin == b"[" else b"]"


def _in_turn(
    first: list[FoundLine], second: list[FoundLine], more: Iterator[list[FoundLine]]
) -> Iterator[list[FoundLine]]:
    yield first
    yield second
    yield from more


def download(call: Call) -> Response:
    """The lines of an execution as a text; an empty one where there are none yet."""
    pages = _pages(call, _wanted(call))
    texts = (_text(page) for page in pages)
    return file_answer(texts, f"{call.path['executionId']}.log", "text/plain")


def _text(lines: list[FoundLine]) -> bytes:
    entries = (line.entry for line in lines)
    return b"".join(
        b"%b %b %b\n" % (_encode(entry.date)[1:-1], entry.level.encode(), entry.message.encode()) for entry in entries
    )


def _pages(call: Call, wanted: _Wanted) -> Iterator[list[FoundLine]]:
    """The lines of an execution, page by page; all that this process has logged before included."""
    execution = call.run(call.operations.find_execution(call.path["executionId"]))
    if execution is None:
        return
    call.run(call.operations.write_logs())
    after, is_last = 0, False
    while not is_last:
        lines, after, is_last = _read(call, execution, wanted, after=after, most_chunks=_CHUNKS_AT_ONCE)
        yield lines


def _read(
    call: Call, execution: Execution, wanted: _Wanted, *, after: int, most_chunks: int
) -> tuple[list[FoundLine], int, bool]:
    """Lines after a place, by time; the place after them; and whether these are all there are."""
    page = call.run(
        call.operations.log_page(
            execution.id,
            task_run_id=wanted.task_run_id,
            min_level=wanted.min_level,
            after=after,
            most_chunks=most_chunks,
        )
    )
    lines = [FoundLine(entry, execution.namespace, execution.flow_id) for entry in sorted(page.entries, key=_date)]
    return [line for line in lines if wanted.is_of(line)], page.next, page.is_last


def _date(entry: LogEntry) -> Any:
    return entry.date


async def follow(call: Call) -> Response:
    """An event for each line of an execution: those written so far, then others as they come; ends after its end."""
    return byte_stream(_followed(call, _wanted(call)))


async def _followed(call: Call, wanted: _Wanted) -> AsyncIterator[bytes]:
    """Events of lines, many at once.

    What is told of lines and changes only rings a bell: lines are read from the store in the order of writing, each
    once, from the place where the read before ended.
    """
    execution_id = call.path["executionId"]
    bell = Bridge[None](most=1)
    stops = _ring(call, execution_id, bell)
    after, most_chunks = 0, 1
    last_sent = time.monotonic()
    over_since: float | None = None
    has_read = False
    try:
        while True:
            execution = await in_thread(lambda: call.run(call.operations.find_execution(execution_id)))
            if execution is None:
                return
            is_open = execution.is_open
            if not is_open and has_read:
                await call.operations.write_logs()
            is_last = False
            while not is_last:
                block, after, is_last = await in_thread(
                    partial(_events, call, execution, wanted, after=after, most_chunks=most_chunks)
                )
                most_chunks = _CHUNKS_AT_ONCE
                if block:
                    yield block
                    last_sent = time.monotonic()
            now = time.monotonic()
            if is_open:
                over_since = None
                await bell.next(_POLL_S)
            elif not has_read:
                pass  # what is still to be written would have kept the first line waiting
            elif over_since is None:
                over_since = now
                await bell.next(_LINGER_S)
            elif now - over_since < _LINGER_S:
                await bell.next(_LINGER_S - (now - over_since))
            else:
                return
            has_read = True
            if time.monotonic() - last_sent > SIGN_OF_LIFE_S:
                yield b":\n\n"
                last_sent = time.monotonic()
    finally:
        for stop in stops:
            stop()


def _ring(call: Call, execution_id: str, bell: Bridge[None]) -> list[Callable[[], None]]:
    """Have a bell rung whenever lines of an execution can be read, or it has ended; gives ways to stop."""

    def written(execution_ids: Collection[str]) -> None:
        if execution_id in execution_ids:
            bell.put(None)

    def changed(execution: Execution, _: object) -> None:
        if execution.id == execution_id and not execution.is_open:
            bell.put(None)

    return [call.operations.on_logs_written(written), call.engine.watch(changed)]


def _events(
    call: Call, execution: Execution, wanted: _Wanted, *, after: int, most_chunks: int
) -> tuple[bytes, int, bool]:
    """As `_read`, the lines being written as events."""
    lines, after, is_last = _read(call, execution, wanted, after=after, most_chunks=most_chunks)
    return (
        b"".join(b"id: progress\ndata: " + _encode(log_line(line)) + b"\n\n" for line in lines),
        after,
        is_last,
    )


def delete(call: Call) -> Response:
    """Remove lines of an execution."""
    wanted = _wanted(call)
    execution = call.run(call.operations.find_execution(call.path["executionId"]))
    if execution is not None:
        purge = LogPurge(
            execution_ids=[execution.id],
            levels=[level for level in LogLevel if LEVEL_RANK[level] >= LEVEL_RANK[wanted.min_level]],
            test=lambda entry: wanted.is_of(FoundLine(entry, execution.namespace, execution.flow_id)),
        )
        call.run(call.operations.purge_logs(purge))
    return empty_answer(200)


# Many executions


def search(call: Call) -> Response:
    """A page of lines of all executions, the newest first where no other order is asked for."""
    paging = read_paging(call.query, _SORTABLE)
    if paging.skipped + paging.size > _DEEPEST:
        raise RequestError(
            422, f"The page ends after line {_DEEPEST}.", hint="Narrow the search by a date or a namespace."
        )
    asked = _search(read_filters(call.query, FIELDS, call.now), call.options.system_namespace)
    order = [(_SORTABLE[one.field], one.is_descending) for one in paging.order]
    if not order:
        order.append(("timestamp", True))
    found = call.run(
        call.operations.search_logs(replace(asked, order=order, skipped=paging.skipped, limit=paging.size))
    )
    return page_answer([log_line(line) for line in found.lines], found.total, type="OFFSET")


def _search(where: AllOf, system_namespace: str) -> LogSearch:
    """What the filters ask for, as much of it as possible in the words of the store."""
    search = LogSearch()
    rest: list[Where] = []
    for part in where.parts:
        narrowed = _narrowed(search, part) if isinstance(part, Condition) else None
        if narrowed is None:
            rest.append(part)
        else:
            search = narrowed
    if not rest:
        return search
    left = AllOf(tuple(rest))

    def test(line: FoundLine) -> bool:
        return holds(left, partial(_value, line, system_namespace))

    return replace(search, test=test)


_O = Operation


def _narrowed(search: LogSearch, condition: Condition) -> LogSearch | None:
    """A search narrowed by a condition; None where the store has no words for it."""
    value = condition.value
    match condition.field, condition.operation:
        case "namespace", _O.EQUALS | _O.PREFIX if search.namespace is None:
            return replace(search, namespace=value, with_children=condition.operation is _O.PREFIX)
        case "flowId", _O.EQUALS if search.flow_id is None:
            return replace(search, flow_id=value)
        case "executionId", _O.EQUALS if search.execution_ids is None:
            return replace(search, execution_ids=(value,))
        case "executionId", _O.IN if search.execution_ids is None:
            return replace(search, execution_ids=value)
        case "q", _O.EQUALS | _O.CONTAINS if search.text is None:
            return replace(search, text=value)
        case "level", _O.GREATER_THAN_OR_EQUAL_TO:
            return replace(search, min_level=max(search.min_level, value, key=LEVEL_RANK.__getitem__))
        case "startDate", _O.GREATER_THAN_OR_EQUAL_TO:
            return replace(search, start=value if search.start is None else max(search.start, value))
        case "endDate", _O.LESS_THAN_OR_EQUAL_TO:
            return replace(search, end=value if search.end is None else min(search.end, value))
        case _:
            return None


def delete_of_flow(call: Call) -> Response:
    """Remove the lines of a flow's executions; with `triggerId` only those that the trigger said."""
    trigger_id = call.query.text("triggerId")
    purge = LogPurge(
        namespace=call.path["namespace"],
        flow_id=call.path["flowId"],
        test=(lambda entry: entry.trigger_id == trigger_id) if trigger_id else None,
    )
    call.run(call.operations.purge_logs(purge))
    return empty_answer(200)


ROUTES = (
    Route(method="GET", path="/logs/search", answer=search),
    Route(method="GET", path="/logs/{executionId}", answer=get),
    Route(method="DELETE", path="/logs/{executionId}", answer=delete),
    Route(method="GET", path="/logs/{executionId}/download", answer=download),
    Route(method="GET", path="/logs/{executionId}/follow", answer=follow),
    Route(method="DELETE", path="/logs/{namespace}/{flowId}", answer=delete_of_flow),
)
