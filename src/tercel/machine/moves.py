"""How an execution moves on: what starts next, where a failure goes, what ends when, what a kill does.

A scope (live.py) is the inside of the execution, of an open flowable, or of a WorkingDirectory whose job is over.
`_pump` starts in a scope all that can start and ends it when nothing is left; `_climb` does so from the inside out.
Each looks only at the scope's own counts.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from msgspec.structs import replace

from tercel.errors import InvariantError, UserError
from tercel.machine.flowable import Again, Decision
from tercel.machine.index import AFTER, ERRORS, FINALLY, LISTENERS, Place
from tercel.machine.limits import LONGEST, counted_attempts, failed_attempts, next_attempt_at, next_execution_at
from tercel.machine.live import DONE, Scope, closing_scope, directory_scope, ends_at, flowable_scope, plan_of
from tercel.machine.messages import CancelTask, EndExecution, RunTask, StartRetry
from tercel.machine.step import Step, between, grown
from tercel.model.condition import ConditionContext, FlowName
from tercel.model.execution import Attempt, TaskRun, execution_id_at, task_run_id
from tercel.model.flow import Listener
from tercel.model.jobs import WorkerResult
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import LogLevel, Retry

GOING_ON = (State.RUNNING, State.RETRYING, State.PAUSED)
"""States of an execution that starts, or may start, further tasks."""


class Moves(Step):
    """A step that knows what follows from what."""

    __slots__ = ()

    # Moving on

    def _climb(self, scope: Scope | None) -> None:
        """Move a scope on, and for as long as one ends the one around it."""
        while scope is not None and self._pump(scope):
            scope = scope.parent

    def _pump(self, scope: Scope) -> bool:
        """Start in a scope all that can start; True if the scope ended."""
        if self._live.is_held:
            self._pass_over(scope)
            return False
        if scope.is_held and not scope.is_killing:
            return False
        while not scope.is_killing:
            if self._start_next(scope):
                continue
            if scope.open or scope.is_waiting:
                return False
            if scope.closing:
                scope.ready.append((scope.closing.pop(0), 0, 0))
                continue
            if scope.closing is not None:
                break
            if not scope.finally_started and self._goes_round(scope):
                continue
            if scope.finally_started or scope.outcome() is State.KILLED or not self._begin(scope, FINALLY):
                self._end_scope(scope)
                return True
        if scope.open:
            return False
        self._end_scope(scope)
        return True

    def _pass_over(self, scope: Scope) -> None:
        """Have the lanes of a scope go past what a restarted execution had done before, while nothing may start."""
        live = self._live
        ready, scope.ready = scope.ready, []
        for branch, lane, at in ready:
            position = at
            if branch == scope.lanes.branch:
                while position < len(scope.main):
                    run_id = self._id_of(scope, scope.main[position], *scope.value_of(lane))
                    if run_id not in live.runs or run_id in live.absorbed:
                        break
                    position += 1
                if position == len(scope.main):
                    scope.active -= 1
                    continue
            scope.ready.append((branch, lane, position))

    def _id_of(self, scope: Scope, place: Place, value: str | None, iteration: int | None) -> str:
        return task_run_id(self._live.execution.id, scope.run_id, place.task.id, value, iteration)

    def _start_next(self, scope: Scope) -> bool:
        """Start one task run of a scope, or open one of its branches; False when nothing can start now."""
        if scope.ready:
            branch, lane, position = scope.ready.pop()
            if branch in (ERRORS, FINALLY) or scope.closing is not None:
                self._start(scope, self._flow.branch(scope.place, branch)[position], None, None)
            else:
                self._start(scope, scope.main[position], *scope.value_of(lane))
            return True
        if not scope.is_stopped and scope.has_lane:
            limit = scope.lanes.limit
            if limit == 0 or scope.active < limit:
                lane = scope.open_lane()
                self._start(scope, scope.main[scope.first_of(lane)], *scope.value_of(lane))
                return True
        # Error tasks do not wait for siblings of the failed task, except where those are being ended by a timeout.
        wants_errors = not scope.errors_started and scope.outcome() is State.FAILED
        if wants_errors and not (scope.is_timed_out and scope.open):
            scope.errors_started = True
            return self._begin(scope, ERRORS)
        return False

    def _begin(self, scope: Scope, branch: str) -> bool:
        """Open `errors` or `finally`; False when there is nothing in it."""
        if branch == FINALLY:
            scope.finally_started = True
        if not self._flow.branch(scope.place, branch):
            return False
        scope.ready.append((branch, 0, 0))
        return True

    def _start(self, scope: Scope, place: Place, value: str | None, iteration: int | None) -> None:
        live = self._live
        task = place.task
        run_id = self._id_of(scope, place, value, iteration)
        found = live.runs.get(run_id)
        if found is not None:
            self._meet(scope, place, found)
            return
        run = TaskRun(
            id=run_id,
            execution_id=live.execution.id,
            task_id=task.id,
            parent_id=scope.run_id,
            value=value,
            iteration=iteration,
            history=(StateChange(State.CREATED, self._now),),
            # A restart may delete rows and make them again: what is late for an old one must not fit the new one.
            fence=(live.execution.attempt_number - 1) << 32,
        )
        scope.open[run_id] = None
        live.add(run)
        self._changed[run_id] = None
        self._begin_run(scope, place, run)

    def _meet(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """A lane comes to a task that has run already, as only lanes of restarted executions do."""
        del scope
        raise InvariantError(
            f"The task {place.task.id!r} started twice at the same place of execution {run.execution_id}."
        )

    def _begin_run(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """Skip a task run, or send it to a worker or open it."""
        if not self._may_run(scope, place, run):
            return
        if place.is_leaf:
            self._dispatch(place, run)
        else:
            self._enter(scope, place, run)

    def _may_run(self, scope: Scope, place: Place, run: TaskRun) -> bool:
        condition = place.task.run_if
        if condition is None:
            return True
        from tercel.expression import is_truthy_text  # noqa: PLC0415  # only flows with a condition pay for it

        try:
            if is_truthy_text(self._render(condition, run)):
                return True
            self._end_run(scope, place, run, State.SKIPPED)
        except UserError as error:
            message = f"The `runIf` of task {place.task.id!r} cannot be rendered: {error}"
            self._log(LogLevel.ERROR, message, run)
            self._end_run(scope, place, run, State.FAILED, message)
        return False

    def _dispatch(self, place: Place, run: TaskRun) -> None:
        """Send a leaf to a worker, under a new fence."""
        live = self._live
        history = run.history
        if run.state not in (State.CREATED, State.RESTARTED):
            history = grown(history, StateChange(State.CREATED, max(self._now, history[-1].date)))
        plan = None if place.is_leaf else run.plan
        fence = run.fence + 1
        run = self._keep(replace(run, history=history, fence=fence, due=None, worker=None, plan=plan, message=""))
        live.jobs.add(run.id)
        live.waiting.discard(run.id)
        group = place.task.worker_group
        self._commands.append(
            RunTask(run_id=run.id, fence=run.fence, task=place.task, group="" if group is None else group.key)
        )

    def _forget_children(self, run: TaskRun) -> None:
        """Remove what earlier jobs of a WorkingDirectory reported: the next one starts from the beginning."""
        for child_id in self._live.directory_runs.pop(run.id, ()):
            self._drop(child_id)

    def _keep_children(self, place: Place, run: TaskRun, also: Collection[State]) -> TaskRun | None:
        """Keep the children of a WorkingDirectory that ended well, up to the first that did not; remove the others.

        Args:
            place: of the WorkingDirectory.
            run: its task run.
            also: states in which that first one is kept, too.

        Returns:
            The one that is kept for its state.
        """
        live = self._live
        rows = {live.runs[child_id].task_id: live.runs[child_id] for child_id in live.directory_runs.get(run.id, ())}
        kept: dict[str, None] = {}
        first: TaskRun | None = None
        for child in place.branches["tasks"]:
            row = rows.get(child.task.id)
            if row is None or row.state not in DONE:
                first = row if row is not None and row.state in also else None
                break
            kept[row.id] = None
        if first is not None:
            kept[first.id] = None
        for row in rows.values():
            if row.id not in kept:
                self._drop(row.id)
        live.directory_runs[run.id] = kept
        return first

    def _drop(self, run_id: str) -> None:
        """Delete a row."""
        self._live.drop(run_id)
        self._changed.pop(run_id, None)
        self._removed.append(run_id)

    def _enter(self, around: Scope, place: Place, run: TaskRun) -> None:
        """Open a flowable and start what is first inside."""
        flowable = place.flowable
        if flowable is None:
            raise InvariantError(f"The task {place.task.id!r} is no flowable.")
        live = self._live
        try:
            decision = flowable.decide(lambda text: self._render(text, run))
            limit = None if place.pause else self._timeout(place, run)
        except UserError as error:
            self._log(LogLevel.ERROR, str(error), run)
            self._end_run(around, place, run, State.FAILED, str(error))
            return
        run = replace(
            run,
            history=grown(run.history, StateChange(State.RUNNING, self._now)),
            outputs=decision.outputs,
            plan=decision.plan,
            fence=run.fence + 1,
            due=None if limit is None else self._now + limit,
        )
        scope = flowable_scope(self._flow, around, place, run, decision)
        live.scopes[run.id] = scope
        self._open(scope, place, run, decision)

    def _open(self, scope: Scope, place: Place, run: TaskRun, decision: Decision) -> None:
        """Keep the row of a flowable that starts, and start what is first inside, unless it waits before that."""
        if place.pause is not None:
            hold = place.pause.hold(decision)
            run = replace(
                run,
                history=grown(run.history, StateChange(State.PAUSED, run.history[-1].date)),
                due=None if hold.after is None else self._now + min(hold.after, LONGEST),
            )
            scope.is_held = True
        elif place.loop is not None:
            run = replace(run, plan=with_times(plan_of(run), deadline=run.due))
        self._keep(run)
        self._pump(scope)

    def _goes_round(self, scope: Scope) -> bool:
        """Ask a loop whose round is over whether another one follows; True where it does, or where it failed."""
        loop = None if scope.place is None else scope.place.loop
        if loop is None or scope.run_id is None or scope.is_stopped or not scope.main:
            return False
        run = self._live.runs[scope.run_id]
        decision = Decision(outputs=run.outputs, plan=run.plan)
        try:
            again = loop.again(decision, lambda text: self._render(text, run), self._now - running_since(run))
        except UserError as error:
            again = Again(failure=str(error))
        if again.failure:
            self._log(LogLevel.ERROR, again.failure, run)
            self._keep(replace(run, due=None, message=again.failure))
            scope.time_out()
            return True
        if again.after is None:
            return False
        wakes, deadline = self._now + min(again.after, LONGEST), ends_at(run)
        due = wakes if deadline is None else min(wakes, deadline)
        self._keep(replace(run, plan=with_times(plan_of(run), deadline=deadline, wakes=wakes), due=due))
        scope.is_waiting = True
        return True

    # Ends

    def _end_attempt(self, place: Place, run: TaskRun, result: WorkerResult) -> None:
        """Write down how a job ended, and decide: again, the branches of a WorkingDirectory, or the end."""
        run = self._attempted(run, result)
        if place.is_directory:
            self._close_children(run, result)
        state = result.state
        if state is State.FAILED and result.retryable and run.state is not State.KILLING:
            retry = self._retry_policy(place, run)
            if retry is not None and retry.behavior == "CREATE_NEW_EXECUTION":
                if self._retry_elsewhere(retry, place, run, result):
                    return
            elif retry is not None and (at := next_attempt_at(retry, counted_attempts(run), self._now, run.id)):
                change = StateChange(State.RETRYING, max(self._now, run.history[-1].date))
                self._keep(
                    replace(run, history=grown(run.history, change), due=at, worker=None, message=result.message)
                )
                self._live.waiting.add(run.id)
                return
        run = replace(run, outputs=result.outputs, message=result.message, due=None, worker=None)
        around = self._scope_around(run)
        if place.is_directory and run.state is not State.KILLING and self._has_branches(place, state):
            run = self._keep(replace(run, plan={"job": "over"}))
            self._live.scopes[run.id] = directory_scope(around, place, run)
            self._leave_worker(run)
            self._pump(self._live.scopes[run.id])
        else:
            self._end_run(around, place, run, state, result.message, ended_at=result.ended_at)

    def _attempted(self, run: TaskRun, result: WorkerResult) -> TaskRun:
        """*run* with its attempt ended as *result* says; a job whose start was never reported has one now."""
        end = StateChange(result.state, between(run.history[-1].date, result.ended_at, self._now))
        last = run.attempts[-1] if run.attempts else None
        if last is not None and last.state not in TERMINAL:
            return replace(run, attempts=(*run.attempts[:-1], replace(last, history=(*last.history, end))))
        if result.state in (State.KILLED, State.SKIPPED, State.CANCELLED):
            return run
        begun = StateChange(State.RUNNING, between(run.history[-1].date, result.started_at, end.date))
        history = run.history if run.state is State.KILLING else grown(run.history, begun)
        return replace(run, history=history, attempts=(*run.attempts, Attempt((begun, end), run.worker)))

    def _close_children(self, run: TaskRun, result: WorkerResult) -> None:
        """End the rows of children that the worker left open: their job is over."""
        live = self._live
        for child_id in live.directory_runs.get(run.id, ()):
            child = live.runs[child_id]
            if child.state in TERMINAL:
                continue
            end = StateChange(State.KILLED, max(self._now, child.history[-1].date))
            closed = replace(with_attempt_over(child, end), due=None, message=result.message)
            closed = replace(closed, history=grown(child.history, end))
            live.put(closed)
            self._changed[child_id] = None

    def _retry_policy(self, place: Place, run: TaskRun) -> Retry | None:
        """The policy for a task run that failed: of a WorkingDirectory's child that asks for a new execution, its."""
        if place.is_directory:
            for child_id in self._live.directory_runs.get(run.id, ()):
                child = self._live.runs[child_id]
                retry = self._flow.places[child.task_id].retry
                if child.state is State.FAILED and retry is not None and retry.behavior == "CREATE_NEW_EXECUTION":
                    return retry
        return place.retry

    def _retry_elsewhere(self, retry: Retry, place: Place, run: TaskRun, result: WorkerResult) -> bool:
        """Have a new execution try again what this one could not do, and end it; False after the last try."""
        execution = self._live.execution
        if execution.state not in GOING_ON:
            return False
        first = execution.first_created or execution.history[0].date
        tried = first, run.attempts[-1].history[-1].date
        at = next_execution_at(retry, execution.attempt_number, tried, self._now, execution.id)
        if at is None:
            return False
        self._log(LogLevel.INFO, f"The flow is tried again by a new execution, at {at.isoformat()}.", run)
        run = replace(run, outputs=result.outputs, due=None, worker=None)
        self._end_run(self._scope_around(run), place, run, State.RETRIED, result.message)
        self._force_end(State.RETRIED, due=at)
        return True

    def _has_branches(self, place: Place, state: State) -> bool:
        if state is State.KILLED:
            return False
        has_errors = state is State.FAILED and self._flow.branch(place, ERRORS)
        return bool(has_errors or self._flow.branch(place, FINALLY))

    def _end_scope(self, scope: Scope) -> None:
        """All inside a scope ended: its task run, or the execution, ends too."""
        if scope.closing is not None:
            self._close_execution()
            return
        state = State.KILLED if scope.is_killing else scope.outcome()
        if state is not State.KILLED:
            state = State.KILLED if scope.finally_killed else State.FAILED if scope.finally_failed else state
        if scope.run_id is None or scope.place is None or scope.parent is None:
            self._end_execution(state)
            return
        run = self._live.runs[scope.run_id]
        if scope.is_killing:
            state = State.RETRIED if scope.is_retried else State.KILLED
        elif scope.place.flowable is not None:
            state = scope.place.flowable.resolve(state, Decision(outputs=run.outputs, plan=run.plan))
        del self._live.scopes[scope.run_id]
        self._end_run(scope.parent, scope.place, run, state, run.message)

    def _end_run(
        self,
        around: Scope,
        place: Place,
        run: TaskRun,
        state: State,
        message: str = "",
        *,
        ended_at: datetime | None = None,
    ) -> None:
        """Bring a task run to its final state, allowances included, and tell the scope around it."""
        last = run.history[-1].date
        at = self._now if ended_at is None else between(last, ended_at, self._now)
        end = StateChange(_allowed(place, run, state), max(at, last))
        run = self._keep(replace(run, history=grown(run.history, end), due=None, worker=None, message=message))
        self._leave_worker(run)
        around.ended(place, run, self._flow.branch(around.place, place.branch))

    def _scope_around(self, run: TaskRun) -> Scope:
        return self._live.scopes[run.parent_id]

    def _leave_worker(self, run: TaskRun) -> None:
        self._live.jobs.discard(run.id)
        self._live.waiting.discard(run.id)

    def _end_execution(self, state: State) -> None:
        """Bring the execution to its final state, and run what follows it."""
        live = self._live
        message, started = "", bool(live.scopes)
        if self._flow.flow.outputs and started:
            try:
                live.execution = replace(live.execution, outputs=self._flow_outputs())
            except UserError as error:
                message = f"The outputs of the flow cannot be rendered: {error}"
                self._log(LogLevel.ERROR, message)
                state = state if state is State.KILLED else State.FAILED
        forced = live.execution.ends_as
        if forced is not None:
            state = forced
        retry_at = live.execution.due if forced is State.RETRIED else None
        live.execution = replace(live.execution, due=None, ends_as=None, message=message or live.execution.message)
        live.scopes.clear()
        live.absorbed.clear()
        if live.execution.state is State.PAUSED:
            self._move_execution(State.RESTARTED)
        if live.execution.state in (State.RETRYING, State.RESTARTED):
            self._move_execution(State.RUNNING)
        self._move_execution(state)
        if retry_at is not None:
            seed = [live.execution.id, "retry"]
            retry_id = execution_id_at(live.execution.history[-1].date, seed)
            self._commands.append(StartRetry(at=retry_at, id=retry_id))
        branches = self._closing_branches() if started and state is not State.RETRIED else ()
        live.execution = replace(live.execution, is_closing=bool(branches), after=branches)
        if branches:
            live.scopes[None] = closing_scope(branches)
            self._pump(live.scopes[None])
        else:
            self._commands.append(EndExecution(state=state))

    def _closing_branches(self) -> tuple[str, ...]:
        """The branches that run now that the execution has its final state."""
        branches = [AFTER] if self._flow.branch(None, AFTER) else []
        for number, listener in enumerate(self._flow.flow.listeners):
            name = f"{LISTENERS}{number}"
            if self._flow.branch(None, name) and self._holds(listener):
                branches.append(name)
        return tuple(branches)

    def _holds(self, listener: Listener) -> bool:
        """Whether all conditions of a listener hold, now that the execution has its final state."""
        if not listener.conditions:
            return True
        live = self._live
        execution = live.execution
        context = ConditionContext(
            flow=FlowName(execution.namespace, execution.flow_id),
            render=self._render_outside,
            date=self._now,
            execution=execution,
            runs=list(live.runs.values()),
        )
        try:
            return all(condition.test(context) for condition in listener.conditions)
        except UserError as error:
            self._log(LogLevel.WARN, f"A listener's condition cannot be tested, so the listener does not run: {error}")
            return False

    def _close_execution(self) -> None:
        """All that follows the execution's end is over, too."""
        live = self._live
        live.scopes.clear()
        self._set_execution(replace(live.execution, is_closing=False))
        self._commands.append(EndExecution(state=live.execution.state))

    # Kill

    def _force_end(self, state: State, *, due: datetime | None = None) -> None:
        """End the execution now, in *state*: what is open is killed, and nothing more starts.

        Args:
            state: its final one.
            due: when the execution that tries again starts, for RETRIED.
        """
        live = self._live
        if live.execution.state not in GOING_ON:
            return
        live.is_held = False
        live.execution = replace(live.execution, ends_as=state, due=due)
        self._move_execution(State.KILLING)
        top = live.scopes[None]
        self._kill(top, cascade=False)
        self._climb(top)

    def _kill(self, scope: Scope, *, only_main: bool = False, cascade: bool = True) -> None:
        """End what is open in a scope: jobs are cancelled, what only waits ends at once.

        Args:
            scope: the scope.
            only_main: leave `errors` and `finally` alone.
            cascade: end the executions that its task runs started, too.
        """
        live = self._live
        if not only_main:
            scope.kill()
        for run_id in list(scope.open):
            run = live.runs[run_id]
            place = self._flow.places[run.task_id]
            if only_main and place.branch in (ERRORS, FINALLY):
                continue
            inner = live.scopes.get(run_id)
            is_over = run.state is State.RETRYING or (place.executable is not None and not cascade)
            if inner is None and is_over:
                run = with_attempt_over(run, StateChange(State.KILLED, max(self._now, run.history[-1].date)))
                self._end_run(scope, place, run, State.KILLED, run.message)
            elif run.state is not State.KILLING:
                change = StateChange(State.KILLING, max(self._now, run.history[-1].date))
                self._keep(replace(run, history=grown(run.history, change), due=None))
                if inner is None:
                    self._commands.append(CancelTask(run_id=run.id, fence=run.fence))
                else:
                    self._kill(inner, cascade=cascade)
                    self._pump(inner)
            elif inner is not None:
                self._kill(inner, cascade=cascade)
                self._pump(inner)

    def _time_out(self, scope: Scope, run: TaskRun) -> None:
        """The time of a flowable's main branch has passed: end what is open of it, then fail."""
        places = self._flow.places
        open_tasks = (places[self._live.runs[run_id].task_id] for run_id in scope.open)
        has_open = any(place.branch not in (ERRORS, FINALLY) for place in open_tasks)
        if not (has_open or scope.is_waiting or scope.has_left):  # something is left in a pause by hand
            self._keep(replace(run, due=None))
            return
        message = "The tasks inside did not end within the timeout."
        self._log(LogLevel.ERROR, message, run)
        plan = with_times(plan_of(run)) if scope.is_waiting else run.plan
        self._keep(replace(run, due=None, plan=plan, message=message))
        scope.time_out()
        scope.is_waiting = False
        self._kill(scope, only_main=True)


def with_attempt_over(run: TaskRun, end: StateChange) -> TaskRun:
    """*run* without an attempt that is still open."""
    last = run.attempts[-1] if run.attempts else None
    if last is None or last.state in TERMINAL:
        return run
    return replace(run, attempts=(*run.attempts[:-1], replace(last, history=(*last.history, end))))


def running_since(run: TaskRun) -> datetime:
    """When a task run went on last."""
    return next(change.date for change in reversed(run.history) if change.state is State.RUNNING)


def with_times(
    plan: Mapping[str, object], *, deadline: datetime | None = None, wakes: datetime | None = None
) -> Mapping[str, object]:
    """The plan of a loop with its instants."""
    return {
        **plan,
        "deadline": None if deadline is None else deadline.isoformat(),
        "wakes": None if wakes is None else wakes.isoformat(),
    }


def _allowed(place: Place, run: TaskRun, state: State) -> State:
    """The final state once `warningOnRetry`, `allowFailure` and `allowWarning` had their say."""
    task = place.task
    retry = place.retry
    if state is State.SUCCESS and retry is not None and retry.warning_on_retry:
        state = State.WARNING if failed_attempts(counted_attempts(run)) else state
    if state is State.FAILED and task.allow_failure:
        state = State.WARNING
    if state is State.WARNING and task.allow_warning:
        state = State.SUCCESS
    return state
