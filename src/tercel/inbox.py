"""What the executor has still to apply: events from any thread, and timers. It waits here for the next batch.

An event that somebody waits for is urgent; one that nobody waits for may wait a little, so that it shares a commit
with others.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from heapq import heappop, heappush
from time import monotonic

from tercel.machine.messages import Event, ExecutionTimerDue, TimerDue
from tercel.model.execution import Execution, TaskRun
from tercel.store import Bell, Promise, Transaction

PATIENCE_S = 0.05
"""How long an event that nobody waits for may wait for others to be committed with."""

_MOST_EVENTS_IN_ONE = 2000


class Letter:
    """An event on its way.

    Attributes:
        promise: kept once the event is committed; None where nobody waits.
        created: the row that a new execution brings along.
        runs: the task runs that it brings along.
        is_admitted: its flow's concurrency was asked.
        writes: what else is written in the same transaction; None for nothing.
    """

    __slots__ = ("created", "event", "execution_id", "is_admitted", "promise", "runs", "writes")

    def __init__(
        self,
        execution_id: str,
        event: Event,
        promise: Promise[None] | None = None,
        created: Execution | None = None,
        runs: Sequence[TaskRun] = (),
        *,
        is_admitted: bool = False,
        writes: Callable[[Transaction], None] | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.event = event
        self.promise = promise
        self.created = created
        self.runs = runs
        self.is_admitted = is_admitted
        self.writes = writes


class Inbox:
    """Letters and timers. `put` and `close` are for any thread, all the rest for the one that reads.

    Args:
        clock: the current instant in UTC.

    Attributes:
        naps: set by the reader where it soon looks again by itself: patient letters then do not wake it.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._letters: deque[Letter] = deque()
        self._timers: list[tuple[datetime, str, str, int]] = []
        self._later: list[tuple[datetime, int, Letter]] = []
        self._bell = Bell()
        self._is_urgent = False
        self._is_closing = False
        self._oldest_patient: float | None = None
        self.naps = False

    def put(self, letter: Letter, *, is_urgent: bool = True) -> None:
        """Add a letter and wake the reader: now, or within `PATIENCE_S`."""
        self._letters.append(letter)
        if is_urgent:
            self._is_urgent = True
            self._bell.ring()
        elif self._oldest_patient is None:
            self._oldest_patient = monotonic()
            if not self.naps:
                self._bell.ring()

    def close(self) -> None:
        """Have the reader take what is here, and then no more."""
        self._is_closing = True
        self._bell.ring()

    def set_timers(self, task_runs: Iterable[TaskRun]) -> None:
        """Set a timer for each task run that has something due; one that is out of date by then does nothing."""
        for task_run in task_runs:
            if task_run.due is not None:
                heappush(self._timers, (task_run.due, task_run.execution_id, task_run.id, task_run.fence))

    def set_timer(self, execution: Execution) -> None:
        """Set the execution's own timer, where it has one."""
        if execution.due is not None:
            heappush(self._timers, (execution.due, execution.id, "", 0))

    def at(self, due: datetime, letter: Letter) -> None:
        """Bring a letter at *due*; it does not outlive the process."""
        heappush(self._later, (due, id(letter), letter))

    def wait(self) -> bool:
        """Wait for something to do; False where nothing is left and the inbox is closed."""
        while not self._is_urgent:
            if self._is_closing:
                return bool(self._letters)
            self.naps = False
            limit = self._next_timer_s()
            if self._oldest_patient is not None:
                limit = min(limit, self._oldest_patient + PATIENCE_S - monotonic())
            if limit <= 0:
                return True
            if limit <= PATIENCE_S:
                self.naps = True
            self._bell.wait(limit)
        return True

    def _next_timer_s(self) -> float:
        if not self._timers and not self._later:
            return 1e6
        first = min(heap[0][0] for heap in (self._timers, self._later) if heap)
        return (first - self._clock()).total_seconds()

    def take(self) -> list[Letter]:
        """The letters for the next transaction, timers that are due among them."""
        self._is_urgent = False
        self._oldest_patient = None
        letters: list[Letter] = []
        try:
            while len(letters) < _MOST_EVENTS_IN_ONE:
                letters.append(self._letters.popleft())
        except IndexError:
            pass
        else:
            self._is_urgent = True
        if self._timers:
            now = self._clock()
            while self._timers and self._timers[0][0] <= now:
                _, execution_id, run_id, fence = heappop(self._timers)
                due = TimerDue(now=now, run_id=run_id, fence=fence) if run_id else ExecutionTimerDue(now=now)
                letters.append(Letter(execution_id, due))
        if self._later:
            now = self._clock()
            while self._later and self._later[0][0] <= now:
                letters.append(heappop(self._later)[2])
        return letters

    def drain(self) -> list[Letter]:
        """All letters that nobody will apply."""
        letters: list[Letter] = []
        while self._letters:
            letters.append(self._letters.popleft())
        return letters
