"""What an execution waits for, other than its workers: a person, a time, a turn, executions that it started.

Pauses, rounds of loops, the executions of Subflows, and the end of the time that an SLA allows.
"""

from datetime import datetime

from msgspec.structs import replace

from tercel.errors import UserError
from tercel.machine.flowable import Decision, ExecutableTask
from tercel.machine.index import Place
from tercel.machine.live import Scope, ends_at, plan_of, top_scope, wakes_at
from tercel.machine.messages import CancelTask, ExecutionCreated, ResumeRequested, SubflowEnded, SubflowStarted
from tercel.machine.moves import GOING_ON, Moves, with_times
from tercel.machine.progress import Progress
from tercel.machine.step import grown
from tercel.model.execution import Attempt, TaskRun
from tercel.model.flow import Sla
from tercel.model.jobs import WorkerResult
from tercel.model.state import State, StateChange, begun_again_at
from tercel.model.task import LogLevel

_WORST_FIRST = (State.FAILED, State.KILLED, State.WARNING)


class Waits(Moves):
    """A step that knows what ends a wait."""

    __slots__ = ()

    # The start

    def created(self, event: ExecutionCreated) -> None:
        """Start the execution, or have it wait for its time or its turn."""
        live = self._live
        execution = live.execution
        if execution.state is not State.CREATED:
            return
        at = execution.schedule_date
        if at is not None and at > self._now:
            if execution.due != at:
                self._set_execution(replace(execution, due=at))
            return
        limit = self._flow.flow.concurrency
        if event.has_slot or limit is None:
            self._begin_execution()
            return
        number = limit.limit
        name = f"{execution.namespace}.{execution.flow_id}"
        running = f"{number} executions of {name} run" if number > 1 else f"an execution of {name} runs"
        live.execution = replace(execution, due=None)
        match limit.behavior:
            case "QUEUE":
                self._log(LogLevel.INFO, f"It waits: {running} already.")
                self._move_execution(State.QUEUED)
            case "CANCEL":
                self._log(LogLevel.WARN, f"Cancelled: {running} already.")
                self._end_execution(State.CANCELLED)
            case "FAIL":
                message = f"{running[0].upper()}{running[1:]} already, and its concurrency allows no more."
                self._log(LogLevel.ERROR, message)
                live.execution = replace(live.execution, message=message)
                self._end_execution(State.FAILED)

    def slot_freed(self) -> None:
        """The turn of an execution has come that waited for others of its flow."""
        if self._live.execution.state is State.QUEUED:
            self._begin_execution()

    def force_run_requested(self) -> None:
        """Go on without waiting for a time, a turn or a person."""
        state = self._live.execution.state
        if state in (State.CREATED, State.QUEUED):
            self._begin_execution()
        elif state is State.PAUSED:
            self.resume_requested(ResumeRequested(now=self._now))

    def _begin_execution(self) -> None:
        live = self._live
        self._move_execution(State.RUNNING)
        live.execution = replace(live.execution, due=self._sla_due())
        live.scopes[None] = top_scope(self._flow)
        self._climb(live.scopes[None])

    # Pauses

    def pause_requested(self) -> None:
        """Start nothing more until somebody resumes it; what runs goes on."""
        if self._live.execution.state in (State.RUNNING, State.RETRYING):
            self._live.is_held = True

    def resume_requested(self, event: ResumeRequested) -> None:
        """Go on: a task run that paused, or all that was held back by hand."""
        live = self._live
        if live.is_held:
            if event.run_id is None:
                self._go_on()
            return
        run_id = live.first_paused() if event.run_id is None else event.run_id
        scope = live.scopes.get(run_id) if run_id in live.paused else None
        if scope is not None and run_id is not None:
            run = live.runs[run_id]
            plan = {**plan_of(run), "resumed": True}
            self._resume(scope, replace(run, outputs={**run.outputs, **event.outputs}, plan=plan))
            self._climb(scope)

    def _go_on(self) -> None:
        """Start what a pause by hand held back, from the inside out; then what became due meanwhile."""
        live = self._live
        live.is_held = False
        self._move_execution(State.RUNNING)
        for run_id, scope in sorted(live.scopes.items(), key=lambda item: item[1].depth, reverse=True):
            if live.scopes.get(run_id) is scope:
                self._pump(scope)
        for run_id in [*live.waiting, *(key for key, scope in live.scopes.items() if key and scope.is_waiting)]:
            run = live.runs[run_id]
            if run.due is not None and run.due <= self._now:
                self._timer(run)

    def _resume(self, scope: Scope, run: TaskRun) -> None:
        change = StateChange(State.RUNNING, max(self._now, run.history[-1].date))
        self._keep(replace(run, history=grown(run.history, change), due=None))
        scope.is_held = False

    def _hold_over(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """Nobody resumed a pause before its time."""
        if place.pause is None:
            return
        decision = Decision(outputs=run.outputs, plan=run.plan)
        match place.pause.hold(decision).then:
            case "RESUME":
                self._resume(scope, replace(run, plan={**plan_of(run), "resumed": True}))
            case "WARN":
                self._log(LogLevel.WARN, "Nobody resumed it in time; it goes on with a warning.", run)
                run = replace(run, plan=place.pause.warned(decision).plan)
                self._resume(scope, replace(run, plan={**plan_of(run), "resumed": True}))
            case "FAIL":
                message = "Nobody resumed it in time."
                self._log(LogLevel.ERROR, message, run)
                self._resume(scope, replace(run, message=message))
                scope.time_out()
            case "CANCEL":
                message = "Nobody resumed it in time; the execution is cancelled."
                self._log(LogLevel.WARN, message, run)
                del self._live.scopes[run.id]
                self._end_run(self._scope_around(run), place, run, State.CANCELLED, message)
                self._force_end(State.CANCELLED)

    # Timers

    def _timer(self, run: TaskRun) -> None:
        """The timer of a task run is due."""
        live = self._live
        place = self._flow.places[run.task_id]
        scope = live.scopes.get(run.id)
        if scope is not None and run.state is State.PAUSED:
            self._hold_over(scope, place, run)
            scope = live.scopes.get(run.id)
        elif scope is not None and self._is_next_round(run):
            self._next_round(scope, place, run)
        elif scope is not None:
            self._time_out(scope, run)
        elif run.state is State.RETRYING:
            if live.is_held:
                return
            self._forget_children(run)
            self._dispatch(place, run)
        elif run.state is State.RUNNING:
            self._commands.append(CancelTask(run_id=run.id, fence=run.fence))
            self._log(LogLevel.ERROR, f"The task {place.task.id!r} did not end within its timeout.", run)
            result = self._result(run, State.FAILED, "The task did not end within its timeout.")
            self._end_attempt(place, run, result)
        self._climb(live.scopes.get(run.parent_id) if scope is None else scope)

    def _is_next_round(self, run: TaskRun) -> bool:
        """True where a loop's wait is over, and not its whole time."""
        wakes, deadline = wakes_at(run), ends_at(run)
        if self._live.is_held and deadline is not None and deadline <= self._now:
            return False  # a round that was due before would have been over by now
        return wakes is not None and wakes <= self._now and (deadline is None or wakes < deadline)

    def _next_round(self, scope: Scope, place: Place, run: TaskRun) -> None:
        if place.loop is None or self._live.is_held:
            return
        for child_id in list(self._live.below.get(run.id, ())):
            self._drop_all(child_id)
        decision = place.loop.next_round(Decision(outputs=run.outputs, plan=run.plan))
        deadline = ends_at(run)
        run = replace(run, plan=decision.plan)
        plan = with_times(plan_of(run), deadline=deadline)
        self._keep(replace(run, outputs=decision.outputs, plan=plan, due=deadline))
        scope.begin_again(place.loop.lanes(decision))

    def _drop_all(self, run_id: str) -> None:
        """Delete a row and all inside it."""
        live = self._live
        for child_id in list(live.below.get(run_id, ())):
            self._drop_all(child_id)
        live.directory_runs.pop(run_id, None)
        self._drop(run_id)

    def _result(self, run: TaskRun, state: State, message: str, *, retryable: bool = True) -> WorkerResult:
        """What the machine itself says of an attempt that nobody reports."""
        started = run.attempts[-1].history[0].date if run.attempts else self._now
        return WorkerResult(state=state, message=message, started_at=started, ended_at=self._now, retryable=retryable)

    # Executions that a task run started

    def subflow_started(self, run: TaskRun, event: SubflowStarted) -> None:
        """Executions were created for a task run; it runs, and ends at once where it need not wait for them."""
        place = self._flow.places[run.task_id]
        task = place.executable
        if task is None or run.state is State.KILLING:
            return
        if run.state in (State.CREATED, State.RESTARTED):
            begun = StateChange(State.RUNNING, max(self._now, run.history[-1].date))
            run = replace(
                run,
                history=grown(run.history, begun),
                attempts=(*run.attempts, Attempt((begun,), "engine")),
                due=self._deadline(place, run),
                plan=None,
            )
        plan = Progress.of(run)
        if run.plan is not None and event.started <= plan.started:
            return
        plan = plan.replaced(total=event.total, started=event.started)
        run = self._keep(replace(run, outputs={**run.outputs, **event.outputs}, plan=plan.as_json()))
        self._end_if_all(place, task, run, plan)

    def subflow_ended(self, run: TaskRun, event: SubflowEnded) -> None:
        """One of the executions of a task run ended; each counts once."""
        place = self._flow.places[run.task_id]
        task = place.executable
        plan = Progress.of(run)
        if task is None or run.state not in (State.RUNNING, State.KILLING) or plan.has(event.index):
            return
        plan = plan.with_ended(event.index, event.state)
        outputs = task.counted(run.outputs, plan.states, event.state, event.outputs)
        run = self._keep(replace(run, outputs=outputs, plan=plan.as_json()))
        self._end_if_all(place, task, run, plan)

    def _end_if_all(self, place: Place, task: ExecutableTask, run: TaskRun, plan: Progress) -> None:
        ended = sum(plan.states.values())
        if run.state is State.KILLING:
            if ended >= plan.started:
                self._end_attempt(place, run, self._result(run, State.KILLED, ""))
            return
        if plan.started < plan.total or (task.wait and ended < plan.total):
            return
        state, message = State.SUCCESS, ""
        if task.wait and task.transmit_failed:
            state = next((one for one in _WORST_FIRST if plan.states.get(one.value)), State.SUCCESS)
            if state is not State.SUCCESS:
                message = f"Of the executions that it started, {plan.states[state.value]} ended in {state}."
                self._log(LogLevel.WARN if state is State.WARNING else LogLevel.ERROR, message, run)
        result = replace(self._result(run, state, "" if state is State.WARNING else message), outputs=run.outputs)
        self._end_attempt(place, run, result)

    # SLA

    def execution_timer_due(self) -> None:
        """The execution's start is due, or the end of the time that an SLA allows."""
        execution = self._live.execution
        if execution.due is None or execution.due > self._now:
            return
        if execution.state is State.CREATED:
            self.created(ExecutionCreated(now=self._now))
            return
        if execution.state not in GOING_ON:
            return
        since = _begun_at(execution.history)
        for sla in self._flow.flow.sla:
            if sla.duration is not None and since + sla.duration <= self._now and self._is_kept(sla):
                self._violated(sla, f"it runs longer than {sla.duration}")
        if self._live.execution.state in GOING_ON:
            self._set_execution(replace(self._live.execution, due=self._sla_due()))

    def check_assertions(self) -> None:
        """Look, after a change, at the SLAs that say what must always hold."""
        for sla in self._flow.flow.sla:
            if sla.assertion is None or not self._is_kept(sla):
                continue
            from tercel.expression import is_truthy_text  # noqa: PLC0415  # only flows with an SLA pay for it

            try:
                holds = is_truthy_text(self._render_outside(sla.assertion, {}))
            except UserError as error:
                self._log(LogLevel.DEBUG, f"The SLA {sla.id!r} cannot be looked at: {error}")
                continue
            if not holds:
                self._violated(sla, "what it asserts does not hold")

    def _is_kept(self, sla: Sla) -> bool:
        execution = self._live.execution
        return execution.state in GOING_ON and sla.id not in execution.violated

    def _violated(self, sla: Sla, why: str) -> None:
        execution = self._live.execution
        self._log(LogLevel.WARN, f"The SLA {sla.id!r} is violated: {why}.")
        violated = (*execution.violated, sla.id)
        self._set_execution(replace(execution, violated=violated, labels={**execution.labels, **sla.labels}))
        if sla.behavior == "NONE":
            return
        message = f"The SLA {sla.id!r} is violated: {why}."
        self._live.execution = replace(self._live.execution, message=message)
        self._force_end(State.FAILED if sla.behavior == "FAIL" else State.CANCELLED)

    def _sla_due(self) -> datetime | None:
        """When the next SLA about time would be violated."""
        execution = self._live.execution
        since = _begun_at(execution.history)
        left = [
            since + sla.duration
            for sla in self._flow.flow.sla
            if sla.duration is not None and sla.id not in execution.violated
        ]
        return min(left, default=None)


def _begun_at(history: tuple[StateChange, ...]) -> datetime:
    """When the execution began, or was restarted after its end."""
    first = next((change.date for change in history if change.state is State.RUNNING), history[0].date)
    return begun_again_at(history) or first
