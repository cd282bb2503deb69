"""Worker: claims jobs, runs each in a slot of its own, reports how it ended, and ends it when told to."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from threading import Lock, Thread
from time import monotonic
from typing import Protocol

from tercel.dispatch import Dispatcher, JobRef, Lease, job_ref
from tercel.machine.messages import ChildChanged, Event, TaskRunFinished, TaskRunStarted, WorkerLost
from tercel.model.execution import TaskRun
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.state import State
from tercel.store import Bell, Promise
from tercel.worker.control import JobControl, StopReason
from tercel.worker.timers import Timers

_BRIEF_S = 0.001
_WATCH_S = 0.01


class Reports(Protocol):
    """Where a worker reports to: the executor, or what stands for it on another machine."""

    def apply(self, execution_id: str, event: Event) -> Promise[None]:
        """Apply an event; the promise is kept once what it changed is committed."""
        ...

    def post(self, execution_id: str, event: Event) -> None:
        """Apply an event that nobody waits for."""
        ...


class RunsJobs(Protocol):
    """What a slot runs a job with: `JobRunner`."""

    def run(self, job: WorkerJob, control: JobControl, report_child: Callable[[TaskRun], None]) -> WorkerResult:
        """Run *job* in the calling thread; never raises."""
        ...


class Worker:
    """Runs jobs in up to *slots* threads, started as they are needed and kept.

    Args:
        id: noted in attempts.
        groups: keys of the worker groups it serves; None for all.
        clock: the current instant in UTC.
    """

    def __init__(
        self,
        *,
        id: str,
        dispatcher: Dispatcher,
        reports: Reports,
        runner: RunsJobs,
        slots: int,
        clock: Callable[[], datetime],
        groups: Sequence[str] | None = None,
    ) -> None:
        self._id = id
        self._reports = reports
        self._runner = runner
        self._clock = clock
        self._lock = Lock()
        self._jobs: deque[tuple[WorkerJob, Lease, JobControl]] = deque()
        self._controls: dict[JobRef, JobControl] = {}
        self._threads: list[Thread] = []
        self._resting: list[Bell] = []
        self._is_waking = False
        self._is_closing = False
        self._shortest_s = _BRIEF_S
        self._taken = 0
        self._is_watching = False
        self._timers = Timers("tercel-slots")
        self._leave = dispatcher.consume(groups, slots, self._take, self.cancel)

    def _take(self, job: WorkerJob, lease: Lease) -> None:
        """Hand a job to a slot; the dispatcher brings no more than there are slots."""
        control = JobControl()
        with self._lock:
            self._controls[job_ref(job)] = control
            self._jobs.append((job, lease, control))
            self._wake()
        if self._is_closing:
            control.stop("shutdown")

    def _wake(self) -> None:
        """See to it that waiting jobs get a thread; the lock is held.

        Threads wake one after the other, each waking the next if there is work left by then. Where jobs are brief one
        thread does them all: more would fight for the interpreter, and ten thousand jobs took twice as long. Whether
        they still are is looked at again while jobs wait.
        """
        if self._is_waking or not self._jobs:
            return
        if self._shortest_s < _BRIEF_S and len(self._threads) > len(self._resting):
            self._watch()
            return
        self._is_waking = True
        if self._resting:
            self._resting.pop().ring()
        else:
            thread = Thread(target=self._work, name=f"tercel-slot-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _watch(self) -> None:
        """Look again in a moment; the lock is held."""
        if not self._is_watching:
            self._is_watching = True
            self._timers.after(_WATCH_S, partial(self._look, self._taken))

    def _look(self, taken: int) -> None:
        """Wake one more thread where jobs wait and none was taken since: those at work are at long ones."""
        with self._lock:
            self._is_watching = False
            if self._taken == taken:
                self._shortest_s = _BRIEF_S
            self._wake()

    def _work(self) -> None:
        bell = Bell()
        has_woken = True
        while True:
            with self._lock:
                if has_woken:
                    self._is_waking = False
                work = self._jobs.popleft() if self._jobs else None
                if work is not None:
                    self._taken += 1
                    self._wake()
                elif self._is_closing:
                    return
                else:
                    self._resting.append(bell)
            if work is None:
                bell.wait()
                has_woken = True
            else:
                has_woken = False
                self._run(*work)

    def _run(self, job: WorkerJob, lease: Lease, control: JobControl) -> None:
        ref = job_ref(job)
        if control.reason is None:
            started = TaskRunStarted(now=self._clock(), run_id=ref.task_run_id, fence=ref.fence, worker=self._id)
            self._reports.post(ref.execution_id, started)
        began = monotonic()
        try:
            result = self._runner.run(job, control, self._child_reporter(ref))
        except Exception as error:  # it should never raise; but without its slot the execution would never end
            now = self._clock()
            message = f"Internal error in execution {ref.execution_id}, task run {ref.task_run_id}: {error!r}"
            result = WorkerResult(state=State.FAILED, message=message, started_at=now, ended_at=now, retryable=False)
        took_s = monotonic() - began
        with self._lock:
            self._controls.pop(ref, None)
            self._shortest_s = min(took_s, self._shortest_s * 2)
        if control.reason == "shutdown":  # not over: whoever opens the home next runs it again
            back = WorkerLost(now=self._clock(), run_id=ref.task_run_id, fence=ref.fence, is_given_back=True)
            self._reports.post(ref.execution_id, back)
        else:
            finished = TaskRunFinished(now=result.ended_at, run_id=ref.task_run_id, fence=ref.fence, result=result)
            self._reports.apply(ref.execution_id, finished).when_done(lease.acknowledge)
            lease.free()

    def _child_reporter(self, ref: JobRef) -> Callable[[TaskRun], None]:
        def report(child: TaskRun) -> None:
            event = ChildChanged(now=child.history[-1].date, run_id=ref.task_run_id, fence=ref.fence, child=child)
            self._reports.post(ref.execution_id, event)

        return report

    def cancel(self, ref: JobRef) -> None:
        """End a job; what is not running any more is ignored."""
        with self._lock:
            control = self._controls.get(ref)
        if control is not None:
            control.stop("kill")

    @property
    def running(self) -> list[JobRef]:
        """The jobs that slots have."""
        with self._lock:
            return list(self._controls)

    def close(self, reason: StopReason = "shutdown", patience_s: float = 30.0) -> bool:
        """Take no more jobs, end those that run, and wait until they have ended, for *patience_s* at most.

        Returns:
            True where all have ended.
        """
        self._leave()
        with self._lock:
            self._is_closing = True
            controls = list(self._controls.values())
            threads = list(self._threads)
            resting, self._resting = self._resting, []
        for control in controls:
            control.stop(reason)
        for bell in resting:
            bell.ring()
        deadline = monotonic() + patience_s
        for thread in threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in threads)
