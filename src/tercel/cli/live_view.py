"""What `tercel run` shows while a flow runs: a line for each change and each log line, in the order of their times.

Changes are told at once and log lines in batches, so lines wait a moment for those that belong before them. On a
terminal the task runs that are under way stand below, redrawn in place; elsewhere there are plain lines only.
"""

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import groupby
from threading import Condition, Thread
from time import monotonic
from typing import TextIO

from tercel.executor import retry_id
from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry
from tercel.model.state import State, StateChange, begun_again_at
from tercel.model.task import LEVEL_RANK, LogLevel

_COLOURS: Mapping[str, str] = {
    State.SUCCESS: "32",
    State.WARNING: "33",
    State.FAILED: "31",
    State.KILLED: "31",
    State.CANCELLED: "31",
    State.RETRIED: "31",
    State.SKIPPED: "90",
    State.RUNNING: "34",
    State.RETRYING: "33",
    State.PAUSED: "33",
    State.QUEUED: "33",
    LogLevel.WARN: "33",
    LogLevel.ERROR: "31",
    LogLevel.DEBUG: "90",
    LogLevel.TRACE: "90",
}
_MARKS: Mapping[str, str] = {
    State.SUCCESS: "✓",
    State.WARNING: "⚠",
    State.FAILED: "✘",
    State.KILLED: "✘",
    State.CANCELLED: "✘",
    State.RETRIED: "↻",
    State.SKIPPED: "-",
    State.RUNNING: "▸",
    State.RETRYING: "↻",
    State.PAUSED: "‖",
    State.QUEUED: "‖",
}
_TOLD = frozenset(_MARKS)
_TOLD_OF_EXECUTIONS = frozenset({State.QUEUED, State.RETRIED})
_ABOUT_TO_RUN = frozenset({State.CREATED, State.RESTARTED})
_MOST_ACTIVE = 8
_LONGEST_VALUE = 40
_WAIT_S = 0.3
_MOST_WAITING = 1 << 20
"""Characters that wait at most: a script may print faster than a terminal shows."""
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")


class LiveView:
    """Shows one execution; its methods are called from any thread.

    Args:
        execution_id: the execution to show, and those that try the same again; what others do is left out.
        min_level: log lines below it are left out.
        is_live: redraw what is under way, and use colours.
        since: what happened before is left out.
    """

    def __init__(
        self,
        execution_id: str,
        *,
        out: TextIO | None = None,
        min_level: LogLevel = LogLevel.INFO,
        is_live: bool | None = None,
        since: datetime | None = None,
    ) -> None:
        self._shown = {execution_id}
        self._since = since
        self._out = out or sys.stdout
        self._min_rank = LEVEL_RANK[min_level]
        self._is_live = self._out.isatty() if is_live is None else is_live
        self._wake = Condition()
        self._waiting: list[tuple[datetime, int, float, str]] = []
        self._count = 0
        self._size = 0
        self._is_closed = False
        self._is_held = False
        self._thread: Thread | None = None
        self._seen: dict[str, int] = {}
        self._active: dict[str, str] = {}
        self._drawn = 0

    def changed(self, execution: Execution, runs: Sequence[TaskRun]) -> None:
        """Show what a commit changed."""
        if execution.id not in self._shown:
            return
        if execution.state is State.RETRIED:
            self._shown.add(retry_id(execution))
        with self._wake:
            self._take(self._changes_of_execution(execution))
            for run in runs:
                self._take(self._changes_of(run))
            self._redraw()

    def logged(self, entries: Sequence[LogEntry]) -> None:
        """Show log lines."""
        shown = [
            entry
            for entry in entries
            if entry.execution_id in self._shown and LEVEL_RANK[entry.level] >= self._min_rank
        ]
        blocks: list[tuple[datetime, str]] = []
        # The lines of one block of output have one time: they are told as one, since there may be a million of them.
        for (date, level, task_id), block in groupby(shown, key=_heading):
            head = f"{date:%H:%M:%S} {self._painted(f'{level:<5}', level)} {task_id or 'flow'}: "
            blocks.append((date, "\n".join([f"{head}{printable(entry.message)}" for entry in block])))
        with self._wake:
            self._take(blocks)

    def close(self) -> None:
        """Show what waits, and take away what is drawn below."""
        with self._wake:
            self._is_closed = True
            self._active.clear()
            self._write(self._due(float("inf")))
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def held(self) -> Generator[None]:
        """Show what waits, and nothing more while the block runs: it has the terminal to itself."""
        with self._wake:
            active, self._active = self._active, {}
            self._write(self._due(float("inf")))
            self._active = active
            self._is_held = True
        try:
            yield
        finally:
            with self._wake:
                self._is_held = False
                self._redraw()

    def _take(self, lines: Sequence[tuple[datetime, str]]) -> None:
        """Keep lines until those that belong before them have come; the lock is held."""
        now = monotonic()
        for date, line in lines:
            self._count += 1
            self._size += len(line)
            heappush(self._waiting, (date, self._count, now, line))
        if self._size > _MOST_WAITING:
            self._write(self._due(float("-inf")))
        if self._thread is None and lines:
            self._thread = Thread(target=self._show_in_time, name="tercel-view", daemon=True)
            self._thread.start()

    def _show_in_time(self) -> None:
        with self._wake:
            while not self._is_closed:
                lines = [] if self._is_held else self._due(monotonic() - _WAIT_S)
                if lines:
                    self._write(lines)
                self._wake.wait(_WAIT_S / 3)

    def _due(self, before: float) -> list[str]:
        """Take out, in order, the lines that have waited since *before*, and those that are too many to wait."""
        lines: list[str] = []
        while self._waiting and (self._waiting[0][2] <= before or self._size > _MOST_WAITING):
            lines.append(heappop(self._waiting)[3])
            self._size -= len(lines[-1])
        return lines

    def _redraw(self) -> None:
        if self._is_live and not self._is_held:
            self._write([])

    def _changes_of_execution(self, execution: Execution) -> list[tuple[datetime, str]]:
        seen = self._seen.get(execution.id, 0)
        lines = [
            (change.date, self._line(change, execution.flow_id))
            for change in execution.history[seen:]
            if change.state in _TOLD_OF_EXECUTIONS and self._is_told(change)
        ]
        self._seen[execution.id] = len(execution.history)
        if execution.state is State.QUEUED:
            self._active[execution.id] = self._marked(execution.flow_id, execution.state)
        else:
            self._active.pop(execution.id, None)
        return lines

    def _changes_of(self, run: TaskRun) -> list[tuple[datetime, str]]:
        lines: list[tuple[datetime, str]] = []
        name = run.task_id if run.value is None else f"{run.task_id} [{_short(run.value)}]"
        seen = self._seen.get(run.id, 0)
        if len(run.history) < seen:
            seen = 0
        for change in run.history[seen:]:
            if change.state in _TOLD and self._is_told(change):
                took = f" in {duration_text(change.date - begun_at(run.history))}" if change.state.is_terminal else ""
                lines.append((change.date, f"{self._line(change, name)}{took}"))
        self._seen[run.id] = len(run.history)
        if run.state.is_terminal:
            self._active.pop(run.id, None)
        elif run.state not in _ABOUT_TO_RUN:
            self._active[run.id] = self._marked(name, run.state)
        return lines

    def _is_told(self, change: StateChange) -> bool:
        return self._since is None or change.date >= self._since

    def _line(self, change: StateChange, name: str) -> str:
        return f"{change.date:%H:%M:%S} {self._marked(name, change.state)}"

    def _marked(self, name: str, state: State) -> str:
        return self._painted(f"{_MARKS.get(state, '·')} {name} {state}", state)

    def _write(self, lines: Sequence[str]) -> None:
        if not self._is_live:
            if lines:
                self._out.write("\n".join(lines) + "\n")
                self._out.flush()
            return
        erase = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        active = list(self._active.values())
        more = [f"… and {len(active) - _MOST_ACTIVE} more"] if len(active) > _MOST_ACTIVE else []
        below = active[:_MOST_ACTIVE] + more
        self._drawn = len(below)
        self._out.write(erase + "".join(f"{line}\n" for line in (*lines, *below)))
        self._out.flush()

    def _painted(self, text: str, key: str) -> str:
        colour = _COLOURS.get(key)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._is_live and colour else text


def duration_text(duration: timedelta) -> str:
    """A duration in the two largest units that matter.

    Example:
        >>> duration_text(timedelta(milliseconds=12)), duration_text(timedelta(seconds=125))
        ('0.012 s', '2 min 5 s')
        >>> duration_text(timedelta(days=9, hours=3))
        '9 d 3 h'
    """
    seconds = duration.total_seconds()
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def begun_at(history: Sequence[StateChange]) -> datetime:
    """When what has this history began: was made, or restarted last after its end."""
    return begun_again_at(history) or history[0].date


def _heading(entry: LogEntry) -> tuple[datetime, LogLevel, str | None]:
    return entry.date, entry.level, entry.task_id


def _short(value: str) -> str:
    """A loop value in one short line, so that what is drawn can be drawn over."""
    line = " ".join(printable(value).split())
    return line if len(line) <= _LONGEST_VALUE else f"{line[:_LONGEST_VALUE]}…"


def printable(text: str) -> str:
    """Without the control sequences by which a script could draw over the view; tabs stay, line breaks are indented."""
    if text.isprintable():
        return text
    text = text.replace("\n", "\n" + " " * 15)
    return "".join(char if char >= " " or char in "\n\t" else "�" for char in _CONTROL.sub("", text))
