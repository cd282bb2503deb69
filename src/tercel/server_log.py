"""What a server says to those who operate it: one line each, as text or as JSON, on stderr.

Once it has started nobody who has something to say waits for whoever reads it: lines are written by a thread, and where
nobody takes them they are dropped, and counted.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import Literal, TextIO

from tercel.model.logs import LogEntry

Form = Literal["text", "json"]
Level = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"]

_MOST_WAITING = 5_000
_PATIENCE_S = 2.0
_PAUSE_S = 0.05
_AT_ONCE = 500

_NUMBERS: Mapping[str, int] = {
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "OFF": logging.CRITICAL + 1,
}
_NAMES = {5: "TRACE", logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}


class ServerLog:
    """Writes what the loggers of this process are told, from now to `close`.

    `tercel` is the logger of what the server does, `access` that of requests, `flow` that of what tasks log.

    Args:
        form: text for people, or JSON for programs.
        level: the least level of what the server does.
        task_level: the least level of what tasks log.
        stream: stderr where None.
    """

    def __init__(
        self,
        form: Form = "text",
        *,
        level: Level = "INFO",
        task_level: Level = "INFO",
        stream: TextIO | None = None,
    ) -> None:
        self._flow = logging.getLogger("flow")
        self._flow_level = _NUMBERS[task_level]
        self._root = logging.getLogger()
        self._before = self._root.level
        self._levels = {"tercel": _NUMBERS[level], "access": logging.INFO, "flow": self._flow_level}
        for name, number in self._levels.items():
            logging.getLogger(name).setLevel(number)
        self._root.setLevel(logging.WARNING)
        self._queue: Queue[logging.LogRecord | None] = Queue(_MOST_WAITING)
        self._entrance = _Entrance(self._queue)
        self._form = _Json() if form == "json" else _Text()
        self._out = stream or sys.stderr
        self._stream = _Stream(self._out)
        self._stream.setFormatter(self._form)
        self._writer: Thread | None = None
        self._closing = Event()
        self._root.addHandler(self._stream)

    def start(self, mask: Callable[[str], str]) -> None:
        """Write by a thread from now on, and what *mask* leaves of each line: it takes secrets out of a text."""
        self._form.mask = mask
        self._writer = Thread(target=self._write, name="tercel-log", daemon=True)
        self._writer.start()
        self._root.removeHandler(self._stream)
        self._root.addHandler(self._entrance)

    def _write(self) -> None:
        is_open = True
        while is_open:
            records = [self._queue.get()]
            with suppress(Empty):
                while len(records) < _AT_ONCE:
                    records.append(self._queue.get_nowait())
            is_open = None not in records
            with suppress(OSError, ValueError):  # nobody can be told that nobody can be told
                self._out.write("".join(self._line(one) for one in records if one is not None))
                self._out.flush()
            if len(records) < _AT_ONCE:
                # What comes meanwhile is written together: a thread that woke for each line would hold up all others.
                self._closing.wait(_PAUSE_S)

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return f"{self._form.format(record)}\n"
        except Exception as error:  # of whoever has called its logger wrongly
            return f"{record.name}: {record.msg!r} cannot be said: {error}\n"

    def tell_tasks(self, entries: Sequence[LogEntry]) -> None:
        """Say what tasks have logged, secrets already masked."""
        for entry in entries:
            number = _NUMBERS[entry.level]
            if number >= self._flow_level:
                record = self._flow.makeRecord("flow", number, "", 0, entry.message, (), None)
                record.created = entry.date.timestamp()
                record.facts = {
                    "executionId": entry.execution_id,
                    **({"taskId": entry.task_id} if entry.task_id else {}),
                    **({"taskRunId": entry.task_run_id, "attempt": entry.attempt} if entry.task_run_id else {}),
                    **({"triggerId": entry.trigger_id} if entry.trigger_id else {}),
                }
                self._entrance.handle(record)

    def close(self) -> None:
        """Write what is left, for two seconds at most; a second call does nothing."""
        self._root.removeHandler(self._stream)
        self._root.removeHandler(self._entrance)
        self._root.setLevel(self._before)
        for name in self._levels:
            logging.getLogger(name).setLevel(logging.NOTSET)
        if self._writer is None:
            return
        self._closing.set()
        try:
            self._queue.put(None, timeout=_PATIENCE_S)
        except Full:  # what still waits is lost, as whoever reads has stopped to
            self._queue.queue.clear()
            self._queue.put(None)
        self._writer.join(_PATIENCE_S)
        self._writer = None

    def __enter__(self) -> "ServerLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def tell_request(method: str, path: str, status: int, facts: Mapping[str, object]) -> None:
    """Say that a request was answered.

    Args:
        method: of the request.
        path: what was asked for, without what could be secret.
        status: of the answer.
        facts: `length` in bytes, `duration` in ms, `address` and `user` of who asked.
    """
    logging.getLogger("access").info(
        "%s %s", method, path, extra={"facts": {"method": method, "path": path, "status": status, **facts}}
    )


class _Entrance(logging.Handler):
    """Puts records into a queue as long as there is room."""

    def __init__(self, queue: "Queue[logging.LogRecord | None]") -> None:
        super().__init__()
        self._waiting = queue
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Put it there, unless nobody has taken anything for long."""
        try:
            if self._dropped and self._waiting.qsize() < _MOST_WAITING // 2:
                self._waiting.put_nowait(_note(self._dropped))
                self._dropped = 0
            self._waiting.put_nowait(record)
        except Full:
            self._dropped += 1


def _note(dropped: int) -> logging.LogRecord:
    text = f"{dropped} lines were dropped, as nobody read them in time."
    return logging.LogRecord("tercel", logging.WARNING, "", 0, text, (), None)


class _Stream(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Nobody can be told that nobody can be told."""


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    return getattr(record, "facts", {})


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


class _Form(logging.Formatter):
    mask: Callable[[str], str] = staticmethod(str)
    """Takes secrets out of a text."""


class _Json(_Form):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": _instant(record),
            "level": _level(record),
            "logger": record.name,
            "thread": record.threadName,
            "message": self.mask(record.getMessage()),
            **_facts(record),
        }
        if record.exc_info:
            line["stackTrace"] = self.mask("".join(traceback.format_exception(*record.exc_info)))
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(_Form):
    def format(self, record: logging.LogRecord) -> str:
        facts = _facts(record)
        text = record.getMessage()
        if record.name == "access":
            text += " {status} {length} B {duration} ms {address} {user}".format_map({"user": "-", **facts})
        elif facts:
            text = " ".join(f"[{value}]" for name, value in facts.items() if name != "attempt") + f" {text}"
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        text = self.mask(text).replace("\n", "\n  ")  # so that no line of a task looks like one of the server
        return f"{_instant(record)} {_level(record):<5} {record.name}: {text}"
