"""Restart: an execution that ended badly goes on at what failed or was killed, and what ended well stays.

Scopes that had ended are opened again from the outside in. In each, what ended badly begins again under its own id,
`errors` and `finally` are forgotten so that they run again if need be, and each lane goes on where it stopped. An
execution that ended in WARNING goes on at the failures that something around them absorbed: its lanes are walked once
more, and pass over what is done.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from tercel.errors import UserError
from tercel.machine.flowable import Decision
from tercel.machine.index import ERRORS, FINALLY, FlowIndex, Place
from tercel.machine.live import BAD, Scope, absorbed_failures, directory_scope, flowable_scope, plan_of, top_scope
from tercel.machine.messages import ReplayRequested, RestartRequested, TaskStateChanged
from tercel.machine.moves import with_times
from tercel.machine.step import grown
from tercel.machine.waits import Waits
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import LogLevel, Task

_NO_RUNS: Sequence[TaskRun] = ()


class Restarts(Waits):
    """A step that knows how what has ended goes on."""

    __slots__ = ("_again", "_given", "_inside", "_target")

    # Set by `_look_inside`, as hardly any step needs them.
    _inside: Mapping[str | None, Sequence[TaskRun]]  # the rows inside each task run
    _again: Collection[str]  # what begins again whatever came of it
    _given: str | None  # got its state by hand: things go on after it
    _target: str | None  # begins as if for the first time, with all inside it

    def restart_requested(self, event: RestartRequested) -> None:
        """Go on with an execution that ended badly."""
        live = self._live
        execution = live.execution
        if execution.attempt_number != event.attempt or not can_restart(execution, live.runs.values()):
            return
        if execution.state is State.PAUSED:
            self._pause_again(event)
            return
        live.execution = replace(
            execution,
            revision=event.revision,
            outputs={},
            message="",
            attempt_number=execution.attempt_number + 1,
            from_scratch=event.from_scratch,
            keeps_failures=False,
        )
        self._log(LogLevel.INFO, f"Restarted: attempt {event.attempt + 1}, with revision {event.revision} of the flow.")
        self._begin_again()

    def _pause_again(self, event: RestartRequested) -> None:
        """Have what is paused begin its wait anew; the rest of the execution goes on as it was."""
        live = self._live
        self._set_execution(replace(live.execution, attempt_number=event.attempt + 1))
        for run_id in list(live.paused):
            run = live.runs[run_id]
            at = max(self._now, run.history[-1].date)
            history = grown(run.history, StateChange(State.RESTARTED, at))
            run = replace(run, history=grown(history, StateChange(State.RUNNING, at)), fence=run.fence + 1)
            decision = Decision(outputs=run.outputs, plan=run.plan)
            self._open(live.scopes[run_id], self._flow.places[run.task_id], run, decision)

    def replay_requested(self, event: ReplayRequested) -> None:
        """Begin a new execution, whose rows are copies of an older one's, at one of them."""
        live = self._live
        if live.execution.state is not State.CREATED or event.run_id not in live.runs:
            return
        self._move_execution(State.RUNNING)
        self._open_again([event.run_id, *self._around(event.run_id)], target=event.run_id)

    def task_state_changed(self, event: TaskStateChanged) -> None:
        """Give a task run of an execution that has ended another final state, and go on after it."""
        live = self._live
        execution, run = live.execution, live.runs.get(event.run_id)
        if run is None or execution.is_open or execution.attempt_number != event.attempt:
            return
        if event.state not in TERMINAL or execution.state is State.RETRIED:
            return
        place = self._flow.places.get(run.task_id)
        if place is None or run.state is event.state or place.is_run_by_worker:
            return
        change = StateChange(event.state, max(self._now, run.history[-1].date))
        attempts = run.attempts
        if attempts:
            attempts = (*attempts[:-1], replace(attempts[-1], history=(*attempts[-1].history, change)))
        message = "" if place.is_leaf else run.message  # that its time was up still counts when its branches go on
        self._keep(replace(run, history=(*run.history, change), attempts=attempts, message=message))
        live.execution = replace(
            execution,
            outputs={},
            message="",
            attempt_number=execution.attempt_number + 1,
            keeps_failures=True,
        )
        self._log(LogLevel.INFO, f"Its state was changed by hand, from {run.state} to {event.state}.", run)
        self._begin_again(self._around(run.id), given=run.id)

    def _around(self, run_id: str) -> list[str]:
        """The ids of the task runs that one is inside of, the innermost first."""
        around: list[str] = []
        at = self._live.runs[run_id].parent_id
        while at is not None:
            around.append(at)
            at = self._live.runs[at].parent_id
        return around

    def _begin_again(self, again: Collection[str] = (), given: str | None = None) -> None:
        self._move_execution(State.RESTARTED)
        self._move_execution(State.RUNNING)
        self._open_again(again, given=given)

    def _look_inside(self, again: Collection[str] = (), *, target: str | None = None, given: str | None = None) -> None:
        self._inside = _by_parent(self._live.runs.values())
        self._again, self._target, self._given = frozenset(again), target, given

    def _open_again(self, again: Collection[str], *, target: str | None = None, given: str | None = None) -> None:
        """Open what had ended, from the outside in, and go on; *again* are those that begin again in any case."""
        live = self._live
        live.directory_runs.clear()
        live.absorbed = absorbed_failures(live.execution, live.runs)
        live.execution = replace(live.execution, after=(), violated=())
        live.execution = replace(live.execution, due=self._sla_due())
        self._look_inside(again, target=target, given=given)
        top = live.scopes[None] = top_scope(self._flow)
        self._reopen(top)
        self._climb(top)

    def _is_bad(self, run: TaskRun) -> bool:
        """True for a row that begins again."""
        return run.id in self._again or (run.state in BAD and not self._live.execution.keeps_failures)

    # One scope

    def _reopen(self, scope: Scope) -> None:
        """Prepare a scope that had ended, and begin again what ended badly in it."""
        target = self._again_in_branch(scope.run_id)
        if target is not None:
            self._reopen_branch(scope, self._flow.places[target.task_id], target)
            return
        lanes: dict[int, dict[int, TaskRun]] = {}
        for run in self._inside.get(scope.run_id, _NO_RUNS):
            place = self._flow.places.get(run.task_id)
            if place is None or place.parent is not scope.place or place.branch != scope.lanes.branch:
                self._drop_with_inside(run)
            else:
                lanes.setdefault(scope.lane_of(place, run), {})[place.position] = run
        again: list[TaskRun] = []
        opened: set[int] = set()
        self._forget_what_follows(scope, lanes)
        for lane in sorted(lanes, reverse=True):  # what is put in last is started first
            if self._reopen_lane(scope, lane, lanes[lane], again):
                opened.add(lane)
        self._leave_to_their_turn(scope, again, opened)
        self._keep_to_limit(scope, again, opened)
        scope.leave_open(opened)
        # All at once, before the first of them may fail: as siblings they do not wait for each other.
        renewed = [self._renew(scope, run) for run in reversed(again)]
        for run in renewed:
            self._run_again(scope, self._flow.places[run.task_id], run)

    def _again_in_branch(self, run_id: str | None) -> TaskRun | None:
        """The task run in the `errors` or `finally` of another one that things go on at: all before it stays."""
        for run in self._inside.get(run_id, _NO_RUNS) if self._again or self._given else ():
            place = self._flow.places.get(run.task_id)
            is_meant = run.id in self._again or run.id == self._given
            if is_meant and place is not None and place.branch in (ERRORS, FINALLY):
                return run
        return None

    def _leave_to_their_turn(self, scope: Scope, again: list[TaskRun], opened: set[int]) -> None:
        """Drop, of what begins again in a Dag, what depends on tasks that have not ended, such as others that do."""
        for run in list(again):
            position = self._flow.places[run.task_id].position
            if scope.is_blocked(position):
                self._drop_with_inside(run)
                again.remove(run)
                opened.discard(position)
                scope.active -= 1

    def _keep_to_limit(self, scope: Scope, again: list[TaskRun], opened: set[int]) -> None:
        """Leave those lanes to their turn that are more than may be open at once; what has to begin again is first."""
        limit = scope.lanes.limit
        if not limit or scope.active <= limit or self._target is not None:
            return
        runs = {scope.lane_of(self._flow.places[run.task_id], run): run for run in again}
        lanes = [(run.id not in self._again, lane) for lane, run in runs.items()]
        lanes += [(True, lane) for _, lane, _ in scope.ready]
        for _, lane in sorted(lanes)[limit:]:
            opened.discard(lane)
            scope.active -= 1
            if lane in runs:
                again.remove(runs[lane])
                self._live.absorbed.add(runs[lane].id)
        scope.ready = [step for step in scope.ready if step[1] in opened]

    def _reopen_branch(self, scope: Scope, place: Place, target: TaskRun) -> None:
        """Prepare a scope that goes on in its `errors` or `finally`, at *target*; what was before that stays."""
        opened: set[int] = set()
        for run in self._inside.get(scope.run_id, _NO_RUNS):
            other = self._flow.places.get(run.task_id)
            if run.id == target.id or (other is not None and other.is_run_by_worker):
                continue
            if other is not None and other.parent is scope.place and other.branch == scope.lanes.branch:
                opened.add(scope.lane_of(other, run))
                self._count_done(scope, other, run)
            elif other is not None and _is_before(other, place):
                scope.errors_started |= other.branch == ERRORS
            else:
                self._drop_with_inside(run)
        scope.leave_open(opened)
        scope.errors_started |= place.branch == ERRORS
        scope.finally_started = place.branch == FINALLY
        if target.id == self._given:
            scope.ended(place, target, self._flow.branch(scope.place, place.branch))
        else:
            self._run_again(scope, place, self._renew(scope, target))

    def _count_done(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """Take note of a task run of the main branch that stays as it is."""
        scope.warned += run.state is State.WARNING
        if run.id not in self._live.absorbed:
            scope.release(place.position)
        if run.state in BAD:
            scope.fail(run.state)

    def _forget_what_follows(self, scope: Scope, lanes: dict[int, dict[int, TaskRun]]) -> None:
        """Drop, in a replay, what comes after the task runs that begin again whatever came of them."""
        for lane, runs in list(lanes.items()):
            for position, run in list(runs.items()):
                if run.id not in self._again or self._target is None:
                    continue
                later = {at for at in runs if at > position}
                gone = [(lane, at) for at in later]
                if scope.lanes.limit == 1 and not scope.lanes.after:
                    gone += [(other, at) for other in lanes if other > lane for at in lanes[other]]
                gone += [(at, at) for at in scope.following(position) if at in lanes]
                for other, at in gone:
                    self._drop_with_inside(lanes[other].pop(at))
        for lane in [lane for lane, runs in lanes.items() if not runs]:
            del lanes[lane]

    def _reopen_lane(self, scope: Scope, lane: int, runs: dict[int, TaskRun], again: list[TaskRun]) -> bool:
        """Find where a lane goes on; False where it is opened, or walked again, when its turn comes.

        Args:
            scope: the scope of the lane.
            lane: its number.
            runs: its task runs by position; those that cannot stay are dropped.
            again: gets the task run that the lane goes on at.
        """
        first = scope.first_of(lane)
        positions = range(first, first + 1 if scope.lanes.side_by_side else len(scope.main))
        left = next((at for at in positions if at not in runs or self._is_bad(runs[at])), None)
        if self._target is None:  # given a state by hand, it may stand behind what failed
            left = next((at for at, run in runs.items() if run.id in self._again), left)
        for position, run in list(runs.items()):
            if self._is_bad(run) and position != left:
                self._drop_with_inside(run)  # another revision of the flow has something before it
                del runs[position]
        done = [run for run in runs.values() if not self._is_bad(run)]
        for run in done:
            self._count_done(scope, self._flow.places[run.task_id], run)
        if left is not None and left in runs:
            scope.active += 1
            again.append(runs[left])
        elif not done or any(run.id in self._live.absorbed for run in done):
            return False
        elif left is not None and not scope.is_stopped:
            scope.active += 1
            scope.ready.append((scope.main[left].branch, lane, left))
        return True

    def _meet(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """A lane comes to a task that has run already: pass over it, or go on with what it absorbed."""
        live = self._live
        is_first = live.execution.attempt_number == 1 and live.execution.parent_id is None
        if is_first or run.state not in TERMINAL:
            super()._meet(scope, place, run)
        if run.id not in live.absorbed:
            scope.go_on_after(place, run, is_last=place.position + 1 >= len(scope.main))
            return
        scope.warned -= run.state is State.WARNING
        self._look_inside()
        self._run_again(scope, place, self._renew(scope, run))

    # One task run

    def _renew(self, scope: Scope, run: TaskRun) -> TaskRun:
        """A row that ended begins again; what ran after its end is forgotten."""
        place = self._flow.places[run.task_id]
        is_past_main = self._again_in_branch(run.id) is not None
        if place.is_directory and is_past_main:
            self._live.directory_runs[run.id] = dict.fromkeys(child.id for child in self._children(run))
        elif place.is_directory:
            self._forget_branches(run)
        self._live.absorbed.discard(run.id)
        scope.open[run.id] = None
        return self._restarted(run, keeps_outputs=place.flowable is not None, is_past_main=is_past_main)

    def _restarted(self, run: TaskRun, *, keeps_outputs: bool = False, is_past_main: bool = False) -> TaskRun:
        """Restart a row; *is_past_main* where it goes on in its branches, and what it did before stands."""
        change = StateChange(State.RESTARTED, max(self._now, run.history[-1].date))
        return self._keep(
            replace(
                run,
                history=grown(run.history, change),
                outputs=run.outputs if keeps_outputs or is_past_main else {},
                past_attempts=run.past_attempts if is_past_main else len(run.attempts),
                lost=0,
                due=None,
                worker=None,
                message=run.message if is_past_main else "",
            )
        )

    def _forget_branches(self, run: TaskRun) -> None:
        """Drop `errors` and `finally` of a WorkingDirectory, and take note of its children."""
        children = self._live.directory_runs[run.id] = dict.fromkeys(child.id for child in self._children(run))
        for inside in self._inside.get(run.id, _NO_RUNS):
            if inside.id not in children:
                self._drop_with_inside(inside)

    def _children(self, run: TaskRun) -> Iterator[TaskRun]:
        """The children of a WorkingDirectory that its worker ran."""
        for inside in self._inside.get(run.id, _NO_RUNS):
            place = self._flow.places.get(inside.task_id)
            if place is not None and place.is_run_by_worker:
                yield inside

    def _run_again(self, scope: Scope, place: Place, run: TaskRun) -> None:
        """Begin again with a row that was renewed."""
        has_begun = run.id != self._target and any(change.state is State.RUNNING for change in run.history)
        if place.flowable is not None and has_begun:
            self._enter_again(scope, place, run)
            return
        if place.is_directory and self._again_in_branch(run.id) is not None:
            self._enter_branches(scope, place, run)
            return
        if not self._may_run(scope, place, run):
            return
        if place.flowable is not None:
            self._enter(scope, place, run)
            return
        if place.is_directory and self._live.execution.from_scratch:
            self._forget_children(run)
        elif place.is_directory:
            child = self._keep_children(place, run, also=BAD)
            if child is not None:
                self._restarted(child)
        self._dispatch(place, run)

    def _enter_again(self, around: Scope, place: Place, run: TaskRun) -> None:
        """Open a flowable again; what it had decided stands."""
        try:
            limit = self._timeout(place, run)
        except UserError as error:
            self._log(LogLevel.ERROR, str(error), run)
            self._end_run(around, place, run, State.FAILED, str(error))
            return
        decision = Decision(outputs=run.outputs, plan=run.plan)
        if place.loop is not None:
            decision = place.loop.afresh(decision)
        due = None if limit is None or place.pause is not None or run.message else self._now + limit
        run = replace(
            run,
            history=grown(run.history, StateChange(State.RUNNING, run.history[-1].date)),
            fence=run.fence + 1,
            plan=decision.plan,
            due=due,
        )
        if place.loop is not None:
            run = replace(run, plan=with_times(plan_of(run), deadline=due))
        scope = self._live.scopes[run.id] = flowable_scope(self._flow, around, place, run, decision)
        is_past_main = self._again_in_branch(run.id) is not None
        scope.is_timed_out = bool(run.message)
        if place.pause is not None and not is_past_main and not plan_of(run).get("resumed"):
            for inside in self._inside.get(run.id, _NO_RUNS):
                self._drop_with_inside(inside)
            self._open(scope, place, run, decision)
            return
        self._keep(run)
        self._reopen(scope)
        self._pump(scope)

    def _enter_branches(self, around: Scope, place: Place, run: TaskRun) -> None:
        """Go on in the `errors` or `finally` of a WorkingDirectory; its job was over, and stays so."""
        history = grown(run.history, StateChange(State.RUNNING, run.history[-1].date))
        run = self._keep(replace(run, history=history, fence=run.fence + 1))
        scope = self._live.scopes[run.id] = directory_scope(around, place, run)
        self._reopen(scope)
        self._pump(scope)

    def _drop_with_inside(self, run: TaskRun) -> None:
        for child in self._inside.get(run.id, _NO_RUNS):
            self._drop_with_inside(child)
        self._live.absorbed.discard(run.id)
        self._live.directory_runs.pop(run.id, None)
        self._drop(run.id)


def _is_before(one: Place, other: Place) -> bool:
    """True where *one* runs before *other* in the branches of one scope that follow its main one."""
    if one.parent is not other.parent or one.branch not in (ERRORS, FINALLY):
        return False
    return one.position < other.position if one.branch == other.branch else one.branch == ERRORS


def can_restart(execution: Execution, runs: Iterable[TaskRun]) -> bool:
    """True for an execution that ended badly, or in spite of a task run that did, or with a task run that is paused."""
    if execution.state is State.PAUSED:
        return any(run.state is State.PAUSED for run in runs)
    if execution.is_open or execution.state is State.RETRIED:  # another execution tries again what this one could not
        return False
    if execution.state is State.WARNING:
        return any(run.state in BAD for run in runs)
    return execution.state in BAD


def misfits(old: FlowIndex, new: FlowIndex, runs: Iterable[TaskRun], *, from_scratch: bool = False) -> list[str]:
    """Say why an execution cannot go on with another revision of its flow.

    Properties may change, and tasks that never ran may come and go. A task that has run has to stay where it is: what
    it did stands, and its task run has its place in the row of its siblings.

    Args:
        old: the revision that it ran.
        new: the other one.
        runs: its task runs.
        from_scratch: children of WorkingDirectories run again, so that they may change in every way.

    Returns:
        Parts of a sentence, one for each task that does not fit.
    """
    found: dict[str, str] = {}
    disabled = {task.id for task in _all_tasks(new.flow) if task.disabled}
    for run in runs:
        was = old.places.get(run.task_id)
        if was is None or run.task_id in found or (from_scratch and was.is_run_by_worker):
            continue
        now = new.places.get(run.task_id)
        is_gone = was.parent is not None and was.parent.task.id not in new.places  # then that is what has to be told
        if now is not None:
            problem = _moved(was, now)
        elif is_gone or _runs_after(was) or (run.task_id in disabled and run.state in BAD):
            problem = ""
        else:
            problem = "is disabled" if run.task_id in disabled else "is gone"
        if problem:
            found[run.task_id] = f"the task {run.task_id!r} {problem}"
    return list(found.values())


def _moved(was: Place, now: Place) -> str:
    around = None if now.parent is None else now.parent.task.id
    if around != (None if was.parent is None else was.parent.task.id):
        return "stands at the top of the flow" if around is None else f"stands inside {around!r}"
    if was.branch != now.branch:
        return f"stands in `{now.branch}`, not in `{was.branch}`"
    is_plain = was.is_leaf and now.is_leaf and not was.is_directory and not now.is_directory
    if not is_plain and type(was.task) is not type(now.task):
        return f"is a {type(now.task).__name__}, not a {type(was.task).__name__}"
    return ""


def _runs_after(place: Place) -> bool:
    """True in `errors` and `finally`, which a restart forgets."""
    at: Place | None = place
    while at is not None:
        if at.branch in (ERRORS, FINALLY):
            return True
        at = at.parent
    return False


def _all_tasks(flow: Flow) -> Iterator[Task]:
    pending: list[Task] = [*flow.tasks, *flow.errors, *flow.finally_]
    while pending:
        task = pending.pop()
        pending.extend(task.children())
        yield task


def _by_parent(runs: Iterable[TaskRun]) -> Mapping[str | None, Sequence[TaskRun]]:
    inside: dict[str | None, list[TaskRun]] = {}
    for run in runs:
        inside.setdefault(run.parent_id, []).append(run)
    return inside
