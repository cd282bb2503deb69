"""What the server has done since it started, counted, and what waits: as text for Prometheus.

Names are Kestra's where it has one. Counted is what this process commits; what waits is asked for when it is read.
"""

import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate
from mmap import PAGESIZE
from pathlib import Path
from threading import Lock
from typing import Protocol

from tercel.model.execution import Execution, TaskRun
from tercel.model.state import State, StateChange

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
_MOST_ENDED = 10_000

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How often something took how long."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class Load(Protocol):
    """What the workers of an engine have to do."""

    @property
    def waiting(self) -> int:
        """Jobs that wait for a slot."""
        ...

    @property
    def running(self) -> int:
        """Jobs that slots have."""
        ...

    @property
    def slots(self) -> int:
        """How many jobs run side by side, at most."""
        ...

    @property
    def oldest_s(self) -> float:
        """How long the first of those that wait has waited, in seconds; 0 where none waits."""
        ...


class _Counts:
    """Of executions or of task runs: how many were created and ended, and how long they took, by labels."""

    def __init__(self) -> None:
        self.created: Counter[Labels] = Counter()
        self.ended: Counter[Labels] = Counter()
        self.durations: dict[Labels, Histogram] = {}

    def count(self, history: Sequence[StateChange], start: int, flow: Labels, since: datetime) -> None:
        """Count the changes of a history from number *start* on that happened after *since*."""
        for index in range(start, len(history)):
            change = history[index]
            if change.date < since:
                continue
            if index == 0:
                self.created[flow] += 1
            if change.state.is_terminal:
                state = (("state", str(change.state)),)
                self.ended[flow + state] += 1
                took = change.date - history[0].date
                self.durations.setdefault(state, Histogram()).observe(took.total_seconds())


class _Tries:
    """Of attempts at task runs by workers: how many began and ended, how long they took, how long the first waited."""

    def __init__(self) -> None:
        self.started: Counter[Labels] = Counter()
        self.ended: Counter[Labels] = Counter()
        self.durations: dict[Labels, Histogram] = {}
        self.waits: dict[Labels, Histogram] = {}

    def count(self, run: TaskRun, seen: tuple[int, int], flow: Labels, since: datetime) -> tuple[int, int]:
        """Count those that began and ended after *since*; *seen* and the answer are how many have by now."""
        attempts = run.attempts
        started, ended = (min(count, len(attempts)) for count in seen)  # one whose worker was lost is taken out again
        for index in range(started, len(attempts)):
            began_at = attempts[index].history[0].date
            if attempts[index].worker is not None and began_at >= since:
                self.started[flow] += 1
                if not index:
                    self.waits.setdefault((), Histogram()).observe((began_at - run.history[0].date).total_seconds())
        while ended < len(attempts) and attempts[ended].state.is_terminal:
            history = attempts[ended].history
            if attempts[ended].worker is not None and history[-1].date >= since:
                state = (("state", str(history[-1].state)),)
                self.ended[flow + state] += 1
                took = history[-1].date - history[0].date
                self.durations.setdefault(state, Histogram()).observe(took.total_seconds())
            ended += 1
        return len(attempts), ended


class _Seen:
    """How much of an execution's history, and of those of its task runs and their attempts, has been counted."""

    __slots__ = ("changes", "runs", "tries")

    def __init__(self) -> None:
        self.changes = 0
        self.runs: dict[str, int] = {}
        self.tries: dict[str, tuple[int, int]] = {}


class Meters:
    """Counts what becomes of executions and task runs, as the engine tells it. For any thread.

    Args:
        since: what happened before is not counted; now where None.
    """

    def __init__(self, since: datetime | None = None) -> None:
        self._since = since or datetime.now(UTC)
        self._guard = Lock()
        self._open: dict[str, _Seen] = {}
        self._ended: OrderedDict[str, _Seen] = OrderedDict()
        self._states: dict[str, State] = {}
        self._executions = _Counts()
        self._runs = _Counts()
        self._tries = _Tries()

    def changed(self, execution: Execution, runs: Sequence[TaskRun]) -> None:
        """Take note of a change that was committed; does not wait."""
        flow = ("namespace_id", execution.namespace), ("flow_id", execution.flow_id)
        with self._guard:
            seen = self._open.get(execution.id) or self._ended.pop(execution.id, None) or _Seen()
            self._executions.count(execution.history, seen.changes, flow, self._since)
            seen.changes = len(execution.history)
            for run in runs:
                self._runs.count(run.history, seen.runs.get(run.id, 0), flow, self._since)
                seen.runs[run.id] = len(run.history)
                if run.attempts:
                    seen.tries[run.id] = self._tries.count(run, seen.tries.get(run.id, (0, 0)), flow, self._since)
            self._keep(execution, seen)

    def _keep(self, execution: Execution, seen: _Seen) -> None:
        if execution.is_open:
            self._open[execution.id] = seen
            self._states[execution.id] = execution.state
            return
        self._open.pop(execution.id, None)
        self._states.pop(execution.id, None)
        # It may be restarted, or get another label; then what it did before is not to be counted again.
        self._ended[execution.id] = seen
        if len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def page(self, load: Load) -> str:
        """All that was counted, and *load*, as text."""
        with self._guard:
            states = Counter(self._states.values())
            lines = [
                *_counter("executor_execution_started_count", "Executions created.", self._executions.created),
                *_counter("executor_execution_end_count", "Executions that ended, by state.", self._executions.ended),
                *_histogram("executor_execution_duration", "From creation to end.", self._executions.durations),
                *_counter("executor_taskrun_next_count", "Task runs created.", self._runs.created),
                *_counter("executor_taskrun_ended_count", "Task runs that ended, by state.", self._runs.ended),
                *_histogram("executor_taskrun_ended_duration", "From creation to end.", self._runs.durations),
                *_counter("worker_started_count", "Tries that workers began.", self._tries.started),
                *_counter("worker_ended_count", "Tries of workers that ended, by state.", self._tries.ended),
                *_histogram("worker_ended_duration", "From begin to end of a try.", self._tries.durations),
                *_histogram("worker_queued_duration", "From creation to the first try.", self._tries.waits),
                *_gauge(
                    "executor_execution_open",
                    "Executions that have not ended and changed since the server started, by state.",
                    {(("state", str(state)),): states[state] for state in State if not state.is_terminal},
                ),
            ]
        lines += [
            *_gauge("worker_job_pending", "Jobs that wait for a slot.", {(): load.waiting}),
            *_gauge("worker_job_running", "Jobs that slots have.", {(): load.running}),
            *_gauge("worker_running_count", "The same, by another name of it.", {(): load.running}),
            *_gauge("worker_job_thread", "Slots.", {(): load.slots}),
            *_gauge("worker_job_oldest_seconds", "How long the oldest job has waited.", {(): load.oldest_s}),
            *_process(),
        ]
        return "\n".join(lines) + "\n"


def _counter(name: str, about: str, values: Mapping[Labels, int]) -> Iterator[str]:
    yield from _head(f"kestra_{name}_total", about, "counter")
    yield from (_line(f"kestra_{name}_total", labels, value) for labels, value in sorted(values.items()))


def _gauge(name: str, about: str, values: Mapping[Labels, float]) -> Iterator[str]:
    yield from _head(f"kestra_{name}", about, "gauge")
    yield from (_line(f"kestra_{name}", labels, value) for labels, value in values.items())


def _histogram(name: str, about: str, values: Mapping[Labels, Histogram]) -> Iterator[str]:
    full = f"kestra_{name}_seconds"
    yield from _head(full, about, "histogram")
    for labels, one in sorted(values.items()):
        totals = list(accumulate(one.counts))
        for bound, total in zip((*map(str, _BOUNDS_S), "+Inf"), totals, strict=True):
            yield _line(f"{full}_bucket", (*labels, ("le", bound)), total)
        yield _line(f"{full}_sum", labels, one.sum_s)
        yield _line(f"{full}_count", labels, totals[-1])


def _process() -> Iterator[str]:
    cpu = time.process_time()
    yield from _head("process_cpu_seconds_total", "Time that processors were used.", "counter")
    yield _line("process_cpu_seconds_total", (), cpu)
    with suppress(OSError, ValueError, IndexError):  # only Linux says it so
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        yield from _head("process_resident_memory_bytes", "Memory in use.", "gauge")
        yield _line("process_resident_memory_bytes", (), pages * PAGESIZE)


def _head(name: str, about: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _line(name: str, labels: Labels, value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
