"""What happens next: one event turns an execution's rows into the next ones, and into commands.

Pure and deterministic. No clock (time is in the event), no randomness, no ids from outside, no I/O. Whatever the
event, it goes the same way: the row it is about changes; if that row ended, the scope around it takes note; then scopes
are moved on (moves.py) until nothing moves. Each step looks at the row, its parents and what starts next, never at all
task runs.

An event that does not fit, because its fence is not current or the row has moved on, changes nothing.
"""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from tercel.errors import InvariantError
from tercel.machine.index import FlowIndex, Place
from tercel.machine.limits import MAX_LOST
from tercel.machine.live import LiveExecution, top_scope
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    Event,
    ExecutionCreated,
    KillRequested,
    RestartRequested,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WorkerLost,
)
from tercel.machine.restart import Restarts
from tercel.machine.step import Change, Functions, Outside, grown
from tercel.machine.variables import NOTHING
from tercel.model.execution import Attempt, TaskRun, task_run_id
from tercel.model.jobs import WorkerResult
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import LogLevel


def advance(
    flow: FlowIndex,
    live: LiveExecution,
    event: Event,
    functions: Functions = NOTHING,  # pyright: ignore[reportArgumentType]  # empty
    surroundings: Mapping[str, object] = NOTHING,
    *,
    clock: Callable[[], float] | None = None,
) -> Change:
    """Apply one event to an execution.

    Args:
        flow: the flow revision that the execution runs.
        live: the execution; changed in place. Throw it away when the change cannot be committed, or when this raises.
        event: what happened.
        functions: for expressions of flowables, `runIf`, `timeout` and flow outputs.
        surroundings: variables from outside the execution, such as `envs` and `globals`.
        clock: monotonic seconds, only to end a template that takes too long; None for no such limit.

    Returns:
        The rows that changed, and commands; empty when the event did not fit.

    Raises:
        InvariantError: a change of state that the table does not allow; a mistake of ours.
    """
    if live.execution.state in TERMINAL and not isinstance(event, RestartRequested):
        return Change()
    step = _Transition(flow, live, event.now, Outside(functions, surroundings, clock))
    match event:
        case TaskRunStarted():
            step.started(event)
        case TaskRunFinished():
            step.finished(event)
        case ChildChanged():
            step.child_changed(event)
        case TimerDue():
            step.timer_due(event)
        case WorkerLost():
            step.worker_lost(event)
        case ExecutionCreated():
            step.created()
        case KillRequested():
            step.kill_requested()
        case RestartRequested():
            step.restart_requested(event)
        case _:
            raise InvariantError(f"The machine does not know the event {type(event).__name__}.")
    return step.change()


class _Transition(Restarts):
    """A step that knows the events."""

    __slots__ = ()

    def created(self) -> None:
        """Start the execution."""
        live = self._live
        if live.execution.state is not State.CREATED:
            return
        self._move_execution(State.RUNNING)
        live.scopes[None] = top_scope(self._flow)
        self._climb(live.scopes[None])

    def kill_requested(self) -> None:
        """End everything: task runs first, then the execution."""
        live = self._live
        if live.execution.state is State.KILLING:
            return
        if None not in live.scopes:
            self._end_execution(State.KILLED)
            return
        self._move_execution(State.KILLING)
        top = live.scopes[None]
        self._kill(top)
        self._climb(top)

    def started(self, event: TaskRunStarted) -> None:
        """A worker has the job: an attempt begins, and with it the time that it may take."""
        run = self._current(event.run_id, event.fence)
        if run is None or run.state not in (State.CREATED, State.RESTARTED):
            return
        place = self._flow.places[run.task_id]
        begun = StateChange(State.RUNNING, max(self._now, run.history[-1].date))
        self._keep(
            replace(
                run,
                history=grown(run.history, begun),
                attempts=(*run.attempts, Attempt((begun,), event.worker)),
                worker=event.worker,
                due=self._deadline(place, run),
            )
        )

    def finished(self, event: TaskRunFinished) -> None:
        """A job ended."""
        if event.result.state not in TERMINAL:
            raise InvariantError(f"A job cannot end as {event.result.state}.")
        run = self._with_job(event.run_id, event.fence)
        if run is not None:
            place = self._flow.places[run.task_id]
            self._end_attempt(place, run, event.result)
            self._climb(self._scope_around(run))

    def child_changed(self, event: ChildChanged) -> None:
        """A worker reports how a child of its WorkingDirectory stands: the row is kept as it is, if it is newer."""
        live = self._live
        parent = self._with_job(event.run_id, event.fence)
        child = event.child
        place = self._flow.places.get(child.task_id)
        if parent is None or place is None or not place.is_run_by_worker or place.parent is None:
            return
        expected = task_run_id(live.execution.id, parent.id, child.task_id, None, None)
        if place.parent.task.id != parent.task_id or child.id != expected or child.parent_id != parent.id:
            return
        stored = live.runs.get(child.id)
        seen = 0 if stored is None else len(stored.history)
        if len(child.history) <= seen or (stored is not None and child.history[:seen] != stored.history):
            return
        for position in range(max(seen, 1), len(child.history)):
            grown(child.history[:position], child.history[position])
        live.directory_runs.setdefault(parent.id, {})[child.id] = None
        live.put(child)
        self._changed[child.id] = None
        if child.state is State.RETRYING:
            live.waiting.add(parent.id)
        elif stored is not None and stored.state is State.RETRYING:
            inside = (live.runs[child_id] for child_id in live.directory_runs[parent.id])
            if not any(run.state is State.RETRYING for run in inside):
                live.waiting.discard(parent.id)

    def timer_due(self, event: TimerDue) -> None:
        """A retry is due, or a timeout has passed."""
        run = self._current(event.run_id, event.fence)
        if run is None or run.due is None or run.due > self._now:
            return
        place = self._flow.places[run.task_id]
        scope = self._live.scopes.get(run.id)
        if scope is not None:
            self._time_out(scope, run)
        elif run.state is State.RETRYING:
            self._forget_children(run)
            self._dispatch(place, run)
        elif run.state is State.RUNNING:
            self._commands.append(CancelTask(run_id=run.id, fence=run.fence))
            self._log(LogLevel.ERROR, f"The task {place.task.id!r} did not end within its timeout.", run)
            result = self._result(run, State.FAILED, "The task did not end within its timeout.")
            self._end_attempt(place, run, result)
        self._climb(self._scope_around(run) if scope is None else scope)

    def worker_lost(self, event: WorkerLost) -> None:
        """The worker will never report: another one gets the task, under a new fence."""
        run = self._with_job(event.run_id, event.fence)
        if run is None:
            return
        place = self._flow.places[run.task_id]
        if run.state is State.KILLING:
            self._end_attempt(place, run, self._result(run, State.KILLED, ""))
        elif run.state is State.RUNNING:
            lost = run.lost + 1
            if lost >= MAX_LOST:
                message = f"Its worker was lost {lost} times; it is not started again."
                self._log(LogLevel.ERROR, message, run)
                result = self._result(run, State.FAILED, message, retryable=False)
                self._end_attempt(place, replace(run, lost=lost), result)
            else:
                self._log(LogLevel.WARN, f"The worker {run.worker!r} was lost; the task starts again.", run)
                # What the lost worker began is no try of the user's: it would eat a retry.
                self._dispatch_again(place, replace(run, lost=lost, attempts=run.attempts[:-1]))
        else:
            self._dispatch_again(place, run)
        self._climb(self._scope_around(run))

    def _dispatch_again(self, place: Place, run: TaskRun) -> None:
        """Give a lost task to another worker; a WorkingDirectory goes on where the lost one was."""
        if place.is_directory:
            self._keep_children(place, run, also=(State.RESTARTED,))
        self._dispatch(place, run)

    # Which row an event is about

    def _current(self, run_id: str, fence: int) -> TaskRun | None:
        """The open task run of an event; None where the event is out of date."""
        run = self._live.runs.get(run_id)
        if run is None or run.fence != fence or run.state in TERMINAL:
            return None
        return None if self._flow.places[run.task_id].is_run_by_worker else run

    def _with_job(self, run_id: str, fence: int) -> TaskRun | None:
        """The task run of an event if a job of that fence may be with a worker now."""
        run = self._current(run_id, fence)
        if run is None or run.state is State.RETRYING or run.id in self._live.scopes:
            return None
        return run

    def _result(self, run: TaskRun, state: State, message: str, *, retryable: bool = True) -> WorkerResult:
        """What the machine itself says of an attempt that nobody reports."""
        started = run.attempts[-1].history[0].date if run.attempts else self._now
        return WorkerResult(state=state, message=message, started_at=started, ended_at=self._now, retryable=retryable)
