"""LiveExecution: an execution with its task runs in memory, and what the machine counts so that no step looks at all.

Everything here follows from the rows; `from_rows` makes it again after a failed commit or a restart. Rows are frozen
and replaced; the aggregate around them is the caller's own and changes in place.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from heapq import heappop, heappush
from itertools import pairwise
from typing import cast

from tercel.errors import InvariantError
from tercel.machine.flowable import Decision, Lanes
from tercel.machine.index import AFTER, ERRORS, FINALLY, LISTENERS, FlowIndex, Place
from tercel.model.execution import Execution, TaskRun
from tercel.model.state import TERMINAL, State, begun_again_at

BAD = frozenset({State.FAILED, State.KILLED, State.CANCELLED, State.RETRIED})
"""States of task runs that a restart runs again."""

DONE = frozenset({State.SUCCESS, State.WARNING, State.SKIPPED})
"""States of task runs that a restart leaves as they are."""

_STOPPED = (State.FAILED, State.KILLED)
_SHOWN: dict[State, object] = {state: {"state": state.value} for state in State}
"""What `tasks` holds for a state; shared, since nothing changes it."""


class Scope:
    """The inside of an open flowable, of a WorkingDirectory whose job is over, or of the execution itself.

    Attributes:
        run_id: the flowable's task run; None for the execution.
        open: task runs directly inside that have not ended.
        ready: branch, lane and position of the tasks to start next.
        next_lane: the first lane of the main branch that was never opened, or that a restart left to be walked again.
        active: lanes of the main branch that are open.
        warned: task runs of the main branch that ended in WARNING.
        is_killing: nothing starts any more; it ends KILLED.
        is_timed_out: its main branch is being ended, or is over, and it fails.
        is_held: it waits for a person, or for its time, before anything starts.
        is_waiting: a loop between two rounds.
        is_retried: a task run inside is tried again by a new execution.
        job_state: how the job of a WorkingDirectory ended; None for all others.
        closing: branches to run after the execution's end that have not begun; None before it.
    """

    __slots__ = (
        "_blocked",
        "_dependents",
        "_main_failed",
        "_main_killed",
        "_openable",
        "_opened",
        "_released",
        "active",
        "closing",
        "errors_started",
        "finally_failed",
        "finally_killed",
        "finally_started",
        "is_held",
        "is_killing",
        "is_retried",
        "is_timed_out",
        "is_waiting",
        "job_state",
        "lanes",
        "main",
        "next_lane",
        "open",
        "parent",
        "place",
        "ready",
        "run_id",
        "warned",
    )

    def __init__(
        self,
        parent: "Scope | None",
        place: Place | None,
        run_id: str | None,
        main: tuple[Place, ...],
        lanes: Lanes,
    ) -> None:
        self.parent = parent
        self.place = place
        self.run_id = run_id
        self.main = main
        self.lanes = lanes
        self.job_state: State | None = None
        self.open: dict[str, None] = {}
        self.ready: list[tuple[str, int, int]] = []
        self.next_lane = 0
        self.active = 0
        self.errors_started = False
        self.finally_started = False
        self.is_killing = False
        self.is_timed_out = False
        self.is_held = False
        self.is_waiting = False
        self.is_retried = False
        self.closing: list[str] | None = None
        self._main_failed = False
        self._main_killed = False
        self._opened: set[int] = set()
        self.warned = 0
        self.finally_failed = False
        self.finally_killed = False
        self._blocked: list[int] | None = None
        self._dependents: dict[int, list[int]] = {}
        self._released: set[int] = set()
        self._openable: list[int] = []  # a heap: what is written first is opened first
        if lanes.after:
            self._blocked = self._blocked_by(lanes.after)
            self._openable.extend(at for at, count in enumerate(self._blocked) if not count)

    @property
    def depth(self) -> int:
        """How many scopes there are around it."""
        return 0 if self.parent is None else self.parent.depth + 1

    def _blocked_by(self, after: Mapping[str, Sequence[str]]) -> list[int]:
        """For each task of the main branch, how many others have to end before it."""
        positions = {place.task.id: place.position for place in self.main}
        blocked = [0] * len(self.main)
        for place in self.main:
            for other in dict.fromkeys(after.get(place.task.id, ())):
                if other in positions:  # disabled ones are as if they were not there
                    blocked[place.position] += 1
                    self._dependents.setdefault(positions[other], []).append(place.position)
        return blocked

    @property
    def is_stopped(self) -> bool:
        """True where nothing new of the main branch starts."""
        return self._main_failed or self._main_killed or self.is_timed_out

    @property
    def has_lane(self) -> bool:
        """True where a lane can be opened, as far as the limit allows."""
        return bool(self._openable) if self._blocked is not None else self.next_lane < self.lane_count

    @property
    def lane_count(self) -> int:
        """How many lanes the main branch has."""
        values = self.lanes.values
        tasks = len(self.main)
        return (0 if not tasks else 1 if values is None else len(values)) * (tasks if self.lanes.side_by_side else 1)

    @property
    def has_left(self) -> bool:
        """True where something of the main branch has still to start, now or once its turn comes."""
        if self.is_stopped:
            return False
        return self.has_lane or any(branch == self.lanes.branch for branch, _, _ in self.ready)

    def outcome(self) -> State:
        """The state that follows from the main branch alone."""
        if self.job_state is not None:
            return self.job_state
        if self.is_timed_out:
            return State.FAILED
        if self._main_killed:
            return State.KILLED
        if self._main_failed:
            return State.FAILED
        return State.WARNING if self.warned else State.SUCCESS

    def first_of(self, lane: int) -> int:
        """Position of a lane's first task."""
        return lane % len(self.main) if self.lanes.side_by_side else 0

    def value_of(self, lane: int) -> tuple[str | None, int | None]:
        """Loop value and iteration of a lane; None twice outside loops."""
        values = self.lanes.values
        if values is None:
            return None, self.lanes.round
        iteration = lane // len(self.main) if self.lanes.side_by_side else lane
        return values[iteration], iteration

    def lane_of(self, place: Place, run: TaskRun) -> int:
        """The lane of the main branch that a task run belongs to."""
        iteration = 0 if self.lanes.round is not None else run.iteration or 0
        return iteration * len(self.main) + place.position if self.lanes.side_by_side else iteration

    def leave_open(self, opened: set[int]) -> None:
        """Take note of the lanes that have been opened; the others are left."""
        if self._blocked is not None:
            self._opened = opened
            self._openable = [at for at, count in enumerate(self._blocked) if not count and at not in opened]
            return
        self._opened = opened
        self.next_lane = -1
        self._to_next_lane()

    def open_lane(self) -> int:
        """Open the next lane."""
        self.active += 1
        if self._blocked is not None:
            lane = heappop(self._openable)
            self._opened.add(lane)
            return lane
        lane = self.next_lane
        self._to_next_lane()
        return lane

    def begin_again(self, lanes: Lanes) -> None:
        """Forget the main branch, which has ended, and begin it anew with *lanes*: the next round of a loop."""
        self.lanes = lanes
        self.ready.clear()
        self.next_lane = 0
        self.active = 0
        self.warned = 0
        self.is_waiting = False

    def release(self, position: int) -> None:
        """The task at *position* of the main branch ended: what waited for it alone can start."""
        if self._blocked is None or position in self._released:
            return
        self._released.add(position)
        for dependent in self._dependents.get(position, ()):
            self._blocked[dependent] -= 1
            if not self._blocked[dependent] and dependent not in self._opened:
                heappush(self._openable, dependent)

    def hold_back(self, position: int) -> None:
        """The task at *position* of the main branch is to run a second time: what depends on it waits for that."""
        if self._blocked is None:
            return
        self._released.discard(position)
        for dependent in self._dependents.get(position, ()):
            self._blocked[dependent] += 1

    def is_blocked(self, position: int) -> bool:
        """True where the task at *position* of the main branch has to wait for the end of another one."""
        return self._blocked is not None and self._blocked[position] > 0

    def following(self, position: int) -> set[int]:
        """Positions of the tasks that, directly or not, wait for the end of the one at *position*."""
        found: set[int] = set()
        pending = [position]
        while pending:
            for dependent in self._dependents.get(pending.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    pending.append(dependent)
        return found

    def fail(self, state: State) -> None:
        """Take note of a task run of the main branch that ended badly, and stays so."""
        self._main_failed |= state in (State.FAILED, State.RETRIED)
        self._main_killed |= state is State.KILLED
        self._forget_ready()

    def time_out(self) -> None:
        """The main branch is over, or is being ended, and it fails."""
        self.is_timed_out = True
        self._forget_ready()

    def kill(self) -> None:
        """Nothing starts any more."""
        self.is_killing = True
        self._forget_ready()
        self.ready.clear()

    def _forget_ready(self) -> None:
        """Take back what of the main branch was to start next, once nothing new of it does."""
        if self.ready and (self.is_stopped or self.is_killing):
            left = [step for step in self.ready if step[0] != self.lanes.branch]
            self.active -= len(self.ready) - len(left)
            self.ready = left

    def _to_next_lane(self) -> None:
        self.next_lane += 1
        while self.next_lane in self._opened:
            self._opened.discard(self.next_lane)
            self.next_lane += 1

    def go_on_after(self, place: Place, run: TaskRun, *, is_last: bool) -> None:
        """Have the lane of *run*, one of the main branch, go on with the next task, or end it."""
        if is_last or self.lanes.side_by_side or self.is_stopped:
            self.active -= 1
        else:
            self.ready.append((place.branch, self.lane_of(place, run), place.position + 1))

    def ended(self, place: Place, run: TaskRun, siblings: tuple[Place, ...]) -> None:
        """Take note that *run*, one of this scope's, ended; *siblings* is its branch."""
        self.open.pop(run.id, None)
        state = run.state
        self.is_retried |= state is State.RETRIED
        is_last = self.is_killing or state in _STOPPED or place.position + 1 >= len(siblings)
        if place.branch == ERRORS or is_after(place.branch):
            if not is_last:
                self.ready.append((place.branch, 0, place.position + 1))
        elif place.branch == FINALLY:
            self.finally_failed |= state is State.FAILED
            self.finally_killed |= state is State.KILLED
            if not is_last:
                self.ready.append((FINALLY, 0, place.position + 1))
        else:
            self.fail(state)
            self.warned += state is State.WARNING
            self.release(place.position)
            self.go_on_after(place, run, is_last=is_last)


class LiveExecution:
    """An execution in memory. Make it by `LiveExecution(execution)` or `from_rows`; only `advance` changes it.

    A change that could not be committed leaves it ahead of the store: throw it away and read the rows again.

    Attributes:
        runs: every task run by id, in the order in which they were made.
        outputs: what expressions see as `outputs`; grows in place, so that a job may hold it.
        states: what expressions see as `tasks`.
        scopes: the open flowables by the id of their task run; None is the execution.
        directory_runs: ids of the children of each WorkingDirectory that its worker reported.
        jobs: ids of leaf task runs that wait for a worker, are with one, or wait for their next attempt.
        waiting: those of them that do nothing but wait for their next attempt.
        absorbed: ids of ended task runs that run again once their lane comes to them: what `absorbed_failures` names,
            and what a restart left to its turn.
        below: ids of the task runs inside each task run, its grandchildren apart.
        paused: ids of task runs that are PAUSED.
        is_held: it was paused by hand: nothing new starts.
    """

    __slots__ = (
        "_shown",
        "absorbed",
        "below",
        "directory_runs",
        "execution",
        "is_held",
        "jobs",
        "known",
        "outputs",
        "paused",
        "runs",
        "scopes",
        "states",
        "waiting",
    )

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self.runs: dict[str, TaskRun] = {}
        self.outputs: dict[str, object] = {}
        self.states: dict[str, object] = {}
        self.scopes: dict[str | None, Scope] = {}
        self.directory_runs: dict[str, dict[str, None]] = {}
        self.jobs: set[str] = set()
        self.waiting: set[str] = set()
        self.absorbed: set[str] = set()
        self.below: dict[str, dict[str, None]] = {}
        self.paused: dict[str, None] = {}
        self.is_held = False
        self._shown: dict[tuple[str, str | None], str] = {}
        self.known: tuple[Execution, Mapping[str, object]] | None = None

    @classmethod
    def from_rows(cls, flow: FlowIndex, execution: Execution, runs: Iterable[TaskRun]) -> "LiveExecution":
        """Make the aggregate from stored rows, *runs* in any order; linear in their number.

        Raises:
            InvariantError: rows that do not belong together.
        """
        live = cls(execution)
        live.runs = {run.id: run for run in sorted(runs, key=_made_at)}
        _Restore(live, flow).run()
        return live

    def path_of(self, run: TaskRun) -> tuple[str, ...]:
        """Loop values of a task run's ancestors and its own, outermost first."""
        path = () if run.value is None else (run.value,)
        parent_id = run.parent_id
        while parent_id is not None:
            parent = self.runs[parent_id]
            if parent.value is not None:
                path = (parent.value, *path)
            parent_id = parent.parent_id
        return path

    def first_paused(self) -> str | None:
        """The id of the task run that paused first; of several that did at once, of the one made first."""
        paused = (self.runs[run_id] for run_id in self.paused)
        first = min(paused, key=lambda run: (run.history[-1].date, _made_at(run)), default=None)
        return None if first is None else first.id

    def add(self, run: TaskRun) -> None:
        """Take a new row in; `put` it once it has a place in what expressions see."""
        self.runs[run.id] = run
        if run.parent_id is not None:
            self.below.setdefault(run.parent_id, {})[run.id] = None

    def put(self, run: TaskRun) -> None:
        """Keep a row, new or changed."""
        before = self.runs.get(run.id)
        if before is None:
            self.add(run)
        else:
            self.runs[run.id] = run
        state = run.state
        if state is State.PAUSED:
            self.paused[run.id] = None
        elif self.paused:
            self.paused.pop(run.id, None)
        if run.parent_id is None or self._is_shown(run):
            if run.value is None:
                self.states[run.task_id] = _SHOWN[state]
            else:
                cast("dict[str, object]", self.states.setdefault(run.task_id, {}))[run.value] = _SHOWN[state]
        if run.outputs or state in TERMINAL:
            path = self.path_of(run)
            self._branch(run.task_id, path)[path[-1] if path else run.task_id] = run.outputs
        elif before is not None and (before.outputs or before.state in TERMINAL):
            self._forget_outputs(run)

    def drop(self, run_id: str) -> None:
        """Forget a task run and its outputs."""
        run = self.runs[run_id]
        self._forget_outputs(run)
        del self.runs[run_id]
        self.below.get(run.parent_id or "", {}).pop(run_id, None)
        self.below.pop(run_id, None)
        self.paused.pop(run_id, None)
        key = (run.task_id, run.value)
        if self._shown.get(key, run_id) != run_id:
            return
        if run.value is None:
            self.states.pop(run.task_id, None)
        else:
            values = cast("dict[str, object]", self.states.get(run.task_id, {}))
            values.pop(run.value, None)
            if not values:
                self.states.pop(run.task_id, None)
        if self._shown.pop(key, None) is not None:
            for other in self.runs.values():
                if (other.task_id, other.value) == key:
                    self.put(other)

    def _is_shown(self, run: TaskRun) -> bool:
        """True unless `tasks` shows another run of the same task and value: of several rounds, the one made last."""
        parent = self.runs[run.parent_id or ""]
        if parent.value is None and parent.parent_id is None:
            return True
        key = (run.task_id, run.value)
        shown = self.runs.get(self._shown.get(key, ""))
        if shown is not None and (shown.history[0].date, shown.id) > (run.history[0].date, run.id):
            return False
        self._shown[key] = run.id
        return True

    def _forget_outputs(self, run: TaskRun) -> None:
        """Take the outputs of a task run out of what expressions see."""
        path = self.path_of(run)
        for length in range(len(path), -1, -1):
            branch = self._branch(run.task_id, path[:length])
            branch.pop(path[length - 1] if length else run.task_id, None)
            if branch:
                break

    def _branch(self, task_id: str, path: tuple[str, ...]) -> dict[str, object]:
        at = self.outputs
        if not path:
            return at
        for key in (task_id, *path[:-1]):
            below = at.get(key)
            if not isinstance(below, dict):
                below = at[key] = {}
            at = cast("dict[str, object]", below)
        return at


def _made_at(run: TaskRun) -> tuple[float, int]:
    return run.history[0].date.timestamp(), run.iteration or 0


class _Restore:
    """Builds the counts of a LiveExecution from its rows."""

    def __init__(self, live: LiveExecution, flow: FlowIndex) -> None:
        self._live = live
        self._flow = flow
        self._since = begun_again_at(live.execution.history)

    def run(self) -> None:
        live = self._live
        for run in list(live.runs.values()):
            live.add(run)
            live.put(run)
        execution = live.execution
        if not execution.is_open or execution.state in (State.CREATED, State.QUEUED):
            return
        live.is_held = execution.state is State.PAUSED and not live.paused
        self._restore_top()
        if not execution.is_closing:
            live.absorbed = absorbed_failures(execution, live.runs)
            live.absorbed |= {run.id for run in live.runs.values() if self._is_put_off(run)}
        inside: dict[str | None, list[TaskRun]] = {}
        for run in live.runs.values():
            inside.setdefault(run.parent_id, []).append(run)
        pending: list[str | None] = [None]
        while pending:
            scope = live.scopes[pending.pop()]
            lanes: dict[int, list[TaskRun]] = {}
            for run in inside.get(scope.run_id, ()):
                place = self._place(run)
                if place.is_run_by_worker or (scope.closing is not None and not is_after(place.branch)):
                    continue
                is_open = run.state not in TERMINAL
                self._count(scope, place, run, is_open)
                if place.branch not in (ERRORS, FINALLY) and scope.closing is None:
                    lanes.setdefault(scope.lane_of(place, run), []).append(run)
                if is_open and self._restore_scope(scope, place, run, inside.get(run.id, [])):
                    pending.append(run.id)
            lanes = {lane: rows for lane, rows in lanes.items() if not self._is_left(scope, rows)}
            self._restore_ready(scope, inside.get(scope.run_id, ()), lanes)
            scope.leave_open(set(lanes))

    def _restore_ready(self, scope: Scope, rows: Sequence[TaskRun], lanes: Mapping[int, list[TaskRun]]) -> None:
        """Leave what a pause by hand keeps from starting; at all other times nothing that can start is left."""
        ready, scope.ready = scope.ready, []
        if not self._live.is_held:
            return
        there = {run.task_id for run in rows}
        for branch, lane, position in ready:
            if branch in (ERRORS, FINALLY):
                if self._flow.branch(scope.place, branch)[position].task.id not in there:
                    scope.ready.append((branch, lane, position))
            elif lane in lanes and position == self._goes_on_at(lanes[lane]):
                scope.ready.append((branch, lane, position))
                scope.active += 1

    def _goes_on_at(self, lane: Sequence[TaskRun]) -> int | None:
        """Where a lane goes on after the task that began last in it; None where one still runs."""
        if any(run.state not in TERMINAL for run in lane):
            return None
        last = max(lane, key=lambda run: (run.restarted_at or run.started_at, self._place(run).position))
        position = self._place(last).position + 1
        done = {self._place(run).position for run in lane if run.id not in self._live.absorbed}
        while position in done:
            position += 1
        return position

    def _is_left(self, scope: Scope, lane: list[TaskRun]) -> bool:
        """True where a lane is walked again later: it is not over, and nothing of it began since the restart."""
        if self._since is None or any(_has_begun(run, self._since) for run in lane):
            return False
        is_short = not scope.lanes.side_by_side and len(lane) < len(scope.main)
        return is_short or any(run.id in self._live.absorbed for run in lane)

    def _is_put_off(self, run: TaskRun) -> bool:
        """True for what ended badly and waits for its turn: what is around it was restarted, and it was not."""
        since = self._since
        if since is None or run.parent_id is None or run.state not in BAD or self._live.execution.keeps_failures:
            return False
        is_around_open = _has_begun(self._live.runs[run.parent_id], since) and not self._place(run).is_run_by_worker
        return is_around_open and not _has_begun(run, since)

    def _place(self, run: TaskRun) -> Place:
        try:
            return self._flow.places[run.task_id]
        except KeyError:
            raise InvariantError(f"The flow has no task {run.task_id!r}, yet the task run {run.id} is of it.") from None

    def _restore_top(self) -> None:
        live = self._live
        if live.execution.is_closing:
            top = closing_scope(live.execution.after)
            begun = {self._place(run).branch for run in live.runs.values() if run.parent_id is None}
            top.closing = [branch for branch in live.execution.after if branch not in begun]
            top.is_killing = not live.execution.after
        else:
            top = top_scope(self._flow)
            top.is_killing = live.execution.state is State.KILLING
        live.scopes[None] = top

    def _restore_scope(self, parent: Scope, place: Place, run: TaskRun, inside: list[TaskRun]) -> bool:
        live = self._live
        if place.flowable is not None:
            decision = Decision(outputs=run.outputs, plan=run.plan)
            scope = flowable_scope(self._flow, parent, place, run, decision)
            scope.is_timed_out = bool(run.message)
            scope.is_held = run.state is State.PAUSED
            scope.is_waiting = wakes_at(run) is not None
        else:
            children = [child for child in inside if self._place(child).is_run_by_worker]
            if place.is_directory:
                live.directory_runs[run.id] = dict.fromkeys(child.id for child in children)
            if len(children) == len(inside) and not is_job_over(run):
                live.jobs.add(run.id)
                if run.state is State.RETRYING or any(child.state is State.RETRYING for child in children):
                    live.waiting.add(run.id)
                return False
            scope = directory_scope(parent, place, run)
        scope.is_killing = run.state is State.KILLING
        live.scopes[run.id] = scope
        return True

    def _count(self, scope: Scope, place: Place, run: TaskRun, is_open: bool) -> None:
        if place.branch == ERRORS:
            scope.errors_started = True
        elif place.branch == FINALLY:
            scope.finally_started = True
        elif is_open and not is_after(place.branch):
            scope.active += 1
        if is_open:
            scope.open[run.id] = None
        else:
            if run.id in self._live.absorbed and run.state in BAD:
                return
            active, is_retried = scope.active, scope.is_retried
            scope.ended(place, run, self._flow.branch(scope.place, place.branch))
            scope.active = active
            if not _has_begun(run, self._since or self._live.execution.history[0].date):
                scope.is_retried = is_retried  # it was to be tried again before the restart, or before this replay
            if run.id in self._live.absorbed:
                scope.hold_back(place.position)


def absorbed_failures(execution: Execution, runs: Mapping[str, TaskRun]) -> set[str]:
    """Which task runs have still to run again in an execution that was restarted although it ended in WARNING.

    They are the flowables and WorkingDirectories that ended well although something inside failed or was killed. Lanes
    are walked again for their sake, in order and within the limit; what else has ended is passed over.

    Args:
        execution: the execution, restarted already.
        runs: every task run by id.

    Returns:
        Their ids; none in any other execution, where what ended well stays.
    """
    since = _restarted_from_warning(execution)
    found: set[str] = set()
    if since is None:
        return found
    for run in runs.values():
        at = run.parent_id if run.state in BAD else None
        while at is not None and at not in found:
            around = runs[at]
            if around.state in DONE and not _has_begun(around, since):
                found.add(at)
            at = around.parent_id
    return found


def _restarted_from_warning(execution: Execution) -> datetime | None:
    """When an execution was restarted, if that was its latest restart and it had ended in WARNING before."""
    if execution.attempt_number == 1 or execution.keeps_failures:
        return None
    for before, change in pairwise(reversed(execution.history)):
        if before.state is State.RESTARTED and change.state is not State.PAUSED:
            return before.date if change.state is State.WARNING else None
    return None


def _has_begun(run: TaskRun, since: datetime | None) -> bool:
    """True where a task run began, or began again, at *since* or later."""
    return since is not None and (run.restarted_at or run.started_at) >= since


def top_scope(flow: FlowIndex) -> Scope:
    """The scope of the execution itself."""
    return Scope(None, None, None, flow.branches["tasks"], Lanes())


def closing_scope(branches: Sequence[str]) -> Scope:
    """The scope of an execution that has ended, for the branches that follow."""
    scope = Scope(None, None, None, (), Lanes(branch=None))
    scope.closing = list(branches)
    return scope


def is_after(branch: str) -> bool:
    """True for a branch that runs after the execution's end."""
    return branch == AFTER or branch.startswith(LISTENERS)


def wakes_at(run: TaskRun) -> datetime | None:
    """When the next round of a loop begins; None unless it waits for it."""
    return _planned(run, "wakes")


def ends_at(run: TaskRun) -> datetime | None:
    """When the time of a loop is up; None without a timeout."""
    return _planned(run, "deadline")


def is_job_over(run: TaskRun) -> bool:
    """True for a WorkingDirectory whose job has ended, and of which `errors` and `finally` are left."""
    return plan_of(run).get("job") == "over"


def plan_of(run: TaskRun) -> Mapping[str, object]:
    """What a task run planned, where it is a map; empty elsewhere."""
    plan: object = run.plan
    return cast("Mapping[str, object]", plan) if isinstance(plan, Mapping) else {}


def _planned(run: TaskRun, name: str) -> datetime | None:
    text = plan_of(run).get(name)
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def flowable_scope(flow: FlowIndex, parent: Scope, place: Place, run: TaskRun, decision: Decision) -> Scope:
    """The scope of a flowable that starts, or had started, with *decision*."""
    if place.flowable is None:
        raise InvariantError(f"The task {place.task.id!r} has no branches.")
    lanes = place.flowable.lanes(decision)
    return Scope(parent, place, run.id, flow.branch(place, lanes.branch), lanes)


def directory_scope(parent: Scope, place: Place, run: TaskRun) -> Scope:
    """The scope of a WorkingDirectory whose job is over: only `errors` and `finally` are left."""
    scope = Scope(parent, place, run.id, (), Lanes(branch=None))
    scope.job_state = run.attempts[-1].state
    return scope
