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
from tercel.machine.live import LiveExecution
from tercel.machine.messages import (
    ChildChanged,
    EndExecution,
    Event,
    ExecutionCreated,
    ExecutionTimerDue,
    ForceRunRequested,
    KillRequested,
    LabelsSet,
    PauseRequested,
    ReplayRequested,
    RestartRequested,
    ResumeRequested,
    SlotFreed,
    StatusChanged,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
)
from tercel.machine.restart import Restarts
from tercel.machine.step import Change, Functions, Outside, grown
from tercel.machine.variables import NOTHING
from tercel.model.execution import Attempt, TaskRun, task_run_id
from tercel.model.jobs import ExecutionUpdate
from tercel.model.merging import merged
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
    if not live.execution.is_open and not isinstance(event, _AFTER_THE_END):
        return Change()
    step = _Transition(flow, live, event.now, Outside(functions, surroundings, clock))
    step.apply(event)
    return step.change()


class _Transition(Restarts):
    """A step that knows the events."""

    __slots__ = ()

    def apply(self, event: Event) -> None:
        """Apply one event, and look at what must hold after each."""
        self._apply(event)
        if self._flow.assertions and not self.is_empty:
            self.check_assertions()

    def _apply(self, event: Event) -> None:
        match event:
            case TaskRunStarted():
                self.started(event)
            case TaskRunFinished():
                self.finished(event)
            case ChildChanged():
                self.child_changed(event)
            case TimerDue():
                self.timer_due(event)
            case WorkerLost():
                self.worker_lost(event)
            case SubflowStarted():
                self._subflow(event)
            case SubflowEnded():
                self._subflow(event)
            case ExecutionCreated():
                self.created(event)
            case SlotFreed():
                self.slot_freed()
            case ExecutionTimerDue():
                self.execution_timer_due()
            case KillRequested():
                self.kill_requested(event)
            case PauseRequested():
                self.pause_requested()
            case ResumeRequested():
                self.resume_requested(event)
            case ForceRunRequested():
                self.force_run_requested()
            case LabelsSet():
                self.labels_set(event)
            case RestartRequested():
                self.restart_requested(event)
            case ReplayRequested():
                self.replay_requested(event)
            case StatusChanged():
                self.status_changed(event)
            case TaskStateChanged():
                self.task_state_changed(event)
            case _:
                raise InvariantError(f"The machine does not know the event {type(event).__name__}.")

    def kill_requested(self, event: KillRequested) -> None:
        """End everything: task runs first, then the execution; after its end, what follows it."""
        live = self._live
        execution = live.execution
        if execution.state is State.KILLING:
            if execution.ends_as is not None:
                self._set_execution(replace(execution, ends_as=None, due=None))
            return
        if None not in live.scopes:
            self._end_execution(State.KILLED)
            return
        if execution.is_closing and not execution.after:
            return
        live.is_held = False
        if execution.is_closing:
            self._set_execution(replace(execution, after=()))
        else:
            live.execution = replace(execution, due=None)
            self._move_execution(State.KILLING)
        top = live.scopes[None]
        top.closing = None if top.closing is None else []
        self._kill(top, cascade=event.cascade)
        self._climb(top)

    def labels_set(self, event: LabelsSet) -> None:
        """Give labels to the execution."""
        labels = {**self._live.execution.labels, **event.labels}
        if labels != self._live.execution.labels:
            self._set_execution(replace(self._live.execution, labels=labels))

    def status_changed(self, event: StatusChanged) -> None:
        """Give an execution that has ended another final state."""
        execution = self._live.execution
        if execution.is_open or execution.state in (event.state, State.RETRIED) or event.state not in TERMINAL:
            return
        self._move_execution(event.state)
        self._commands.append(EndExecution(state=event.state))

    def _subflow(self, event: SubflowStarted | SubflowEnded) -> None:
        run = self._with_job(event.run_id, event.fence)
        if run is None:
            return
        if isinstance(event, SubflowStarted):
            self.subflow_started(run, event)
        else:
            self.subflow_ended(run, event)
        self._climb(self._live.scopes.get(run.parent_id))

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
        if run is None:
            return
        update = event.result.update if event.result.state in _DONE_WELL else None
        if update is not None:
            self._update_execution(update)
        self._end_attempt(self._flow.places[run.task_id], run, event.result)
        if update is not None and update.ends_as is not None:
            self._log(LogLevel.INFO, f"It ends the execution, in {update.ends_as}.", run)
            self._force_end(update.ends_as)
        self._climb(self._live.scopes.get(run.parent_id))

    def _update_execution(self, update: ExecutionUpdate) -> None:
        """Change labels and variables as a task says."""
        execution = self._live.execution
        changed = replace(execution, labels={**execution.labels, **update.labels})
        if update.variables or update.unset:
            known = execution.variables if execution.has_variables else self._flow.flow.variables
            left = {name: value for name, value in known.items() if name not in update.unset}
            changed = replace(changed, variables=merged(left, update.variables), has_variables=True)
        if changed != execution:
            self._set_execution(changed)

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
        self._timer(run)

    def worker_lost(self, event: WorkerLost) -> None:
        """The worker will never report: another one gets the task, under a new fence."""
        run = self._with_job(event.run_id, event.fence)
        if run is None:
            return
        place = self._flow.places[run.task_id]
        if place.executable is not None and run.plan is not None:
            return  # its executions go on, whoever started them
        if run.state is State.KILLING:
            self._end_attempt(place, run, self._result(run, State.KILLED, ""))
        elif run.state is State.RUNNING:
            lost = run.lost + 1
            if event.is_given_back:
                lost = run.lost
            if lost >= MAX_LOST:
                message = f"Its worker was lost {lost} times; it is not started again."
                self._log(LogLevel.ERROR, message, run)
                result = self._result(run, State.FAILED, message, retryable=False)
                self._end_attempt(place, replace(run, lost=lost), result)
            else:
                how = "stops" if event.is_given_back else "was lost"
                self._log(LogLevel.WARN, f"The worker {run.worker!r} {how}; the task starts again.", run)
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


_DONE_WELL = (State.SUCCESS, State.WARNING)
_AFTER_THE_END = (RestartRequested, ReplayRequested, LabelsSet, StatusChanged, TaskStateChanged)
