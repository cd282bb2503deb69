"""What a restart and a lost worker have to leave, reckoned from spec and rows: written apart from the machine."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from tercel.model.execution import TaskRun
from tercel.model.state import State
from tests.simulation.flows import AFTER_BRANCHES, LEAVES, Lane, Spec, dependencies, enabled, lanes_of

BAD = (State.FAILED, State.KILLED, State.CANCELLED, State.RETRIED)
DONE = (State.SUCCESS, State.WARNING, State.SKIPPED)

LIMITS = {None: None, "PT1M": timedelta(minutes=1), "PT5M": timedelta(minutes=5)}

Rows = Mapping[str, TaskRun]


class Plan(NamedTuple):
    """What has to happen to rows.

    Attributes:
        again: ids of those that are restarted now.
        dropped: ids of those that are deleted.
        later: ids of those that are restarted when the lane that they stand in comes to them.
    """

    again: set[str]
    dropped: set[str]
    later: set[str]


class Reckoner:
    """Reckons for one flow.

    Attributes:
        flow: the flow's own spec.
        specs: every task by its id.
        rounds: the present round, from zero, of each loop's task run.
    """

    def __init__(self, spec: Spec) -> None:
        self.flow = self._spec = spec
        self.specs = {one["id"]: one for one in _all(spec)}
        self.rounds: dict[str, int] = {}

    def restart(self, rows: Rows, ended: State, *, from_scratch: bool) -> Plan:
        """What the restart of an execution that ended as *ended* has to do."""
        walk = _Walk(rows, self.rounds, is_warning=ended is State.WARNING, from_scratch=from_scratch)
        walk.scope(self._spec, None, [[(task, None, None) for task in enabled(self._spec["tasks"])]])
        return walk.plan

    def change(self, run: TaskRun, rows: Rows) -> Plan:
        """What has to be done when somebody gives a task run another state: all around it is run again."""
        walk = _Walk(rows, self.rounds, is_warning=False, from_scratch=False)
        at = run
        while at.parent_id is not None:
            around = rows[at.parent_id]
            walk.plan.again.add(around.id)
            walk.branches_after(self.specs[around.task_id], around.id, at)
            at = around
        walk.branches_after(self._spec, None, at)
        return walk.plan

    def is_child(self, run: TaskRun, rows: Rows) -> bool:
        """True for a child of a directory that its job runs."""
        spec = self.flow if run.parent_id is None else self.specs[rows[run.parent_id].task_id]
        return spec["kind"] == "directory" and run.task_id in {task["id"] for task in spec["tasks"]}

    def replay(self, target: TaskRun, rows: Rows) -> Plan:
        """What the replay at a task run has to do with the copies that it begins with."""
        walk = _Walk(rows, self.rounds, is_warning=False, from_scratch=True)
        path = [target]
        while path[0].parent_id is not None:
            path.insert(0, rows[path[0].parent_id])
        around: TaskRun | None = None
        for at in path:
            spec = self._spec if around is None else self.specs[around.task_id]
            walk.replay_scope(spec, around, at)
            around = at
        return walk.plan

    def before(self, spec: Spec, run: TaskRun, rows: Rows) -> list[TaskRun | None]:
        """What stands before a task run in the main branch, or what it depends on; None where a row is not there."""
        inside = {(row.task_id, row.iteration): row for row in rows.values() if row.parent_id == run.parent_id}
        if spec["kind"] == "dag":
            tasks = {task["id"]: task for task in enabled(spec["tasks"])}
            names = dependencies(spec, tasks[run.task_id]) if run.task_id in tasks else set[str]()
            return [inside.get((name, None)) for name in names if name in tasks]
        lanes: list[Lane] = [[(task, None, None) for task in enabled(spec["tasks"])]] if run.parent_id is None else []
        if run.parent_id is not None and spec["kind"] != "directory":
            lanes = lanes_of(spec, self.rounds.get(run.parent_id, 0)) or []
        for lane in lanes:
            found = [inside.get((task["id"], iteration)) for task, _, iteration in lane]
            if run in found:
                return found[: found.index(run)]
        return []

    def past_main(self, target: TaskRun, rows: Rows) -> set[str]:
        """What is around a task run that things go on at, and goes on in its `errors` or `finally`: the rest stays."""
        found: set[str] = set()
        at = target
        while at.parent_id is not None:
            around = rows[at.parent_id]
            spec = self.specs[around.task_id]
            if at.task_id in {task["id"] for name in ("errors", "finally") for task in spec.get(name, [])}:
                found.add(around.id)
            at = around
        return found

    def turn(self, run: TaskRun, rows: Rows, ended: State, *, from_scratch: bool) -> Plan:
        """What has to be done when the turn of a task run comes that had been put off by a restart."""
        walk = _Walk(rows, self.rounds, is_warning=ended is State.WARNING, from_scratch=from_scratch)
        walk.again(self.specs[run.task_id], run)
        return walk.plan

    def limit(self, run: TaskRun) -> timedelta | None:
        """How long a flowable may take; None for a loop, too, whose timers have books of their own."""
        spec = self.specs[run.task_id]
        return None if spec["kind"] in (*LEAVES, "directory", "pause", "loop") else LIMITS[spec.get("timeout")]

    def inside(self, run: TaskRun, rows: Rows) -> set[str]:
        """All that goes when a loop begins its next round."""
        found: set[str] = set()
        left = [run.id]
        while left:
            parent = left.pop()
            below = [row.id for row in rows.values() if row.parent_id == parent]
            found.update(below)
            left += below
        return found

    def loss(self, run: TaskRun, rows: Rows) -> set[str]:
        """The children that go when the worker of a running task run is lost."""
        spec = self.specs[run.task_id]
        if spec["kind"] != "directory":
            return set()
        children = {row.task_id: row for row in rows.values() if row.parent_id == run.id}
        for task in enabled(spec["tasks"]):
            row = children.get(task["id"])
            if row is None:
                break
            if row.state in DONE:
                del children[row.task_id]
                continue
            if row.state is State.RESTARTED:
                del children[row.task_id]
            break
        return {row.id for row in children.values()}


class _Walk:
    def __init__(self, rows: Rows, rounds: Mapping[str, int], *, is_warning: bool, from_scratch: bool) -> None:
        self.plan = Plan(set(), set(), set())
        self._rounds = rounds
        self._is_warning = is_warning
        self._from_scratch = from_scratch
        self._inside = {(run.parent_id, run.task_id, run.iteration): run for run in rows.values()}
        self._below: dict[str | None, list[TaskRun]] = {}
        for run in rows.values():
            self._below.setdefault(run.parent_id, []).append(run)

    def scope(self, spec: Spec, run_id: str | None, lanes: list[Lane]) -> None:
        self.branches(spec, run_id)
        waiting = self._waiting(spec, run_id) if spec["kind"] == "dag" else set[str]()
        limit = {"each_sequential": 1}.get(spec["kind"], spec.get("limit", 0))
        going = 0
        for lane in lanes:
            places = [(task, self._inside.get((run_id, task["id"], iteration))) for task, _, iteration in lane]
            gap = next((at for at, (_, run) in enumerate(places) if run is None), len(places))
            behind = [run for _, run in places[gap:] if run is not None and run.state in BAD]  # its turn comes anew
            self.plan.dropped.update(one.id for run in behind for one in self._tree(run))
            found = [(task, run) for task, run in places if run is not None and run not in behind]
            bad = [(task, run) for task, run in found if run.state in BAD]
            for task, run in bad[:1]:
                if run.id in waiting:
                    self.plan.dropped.update(one.id for one in self._tree(run))
                elif limit and going >= limit:
                    self.plan.later.add(run.id)
                else:
                    going += 1
                    self.again(task, run)
            for _, run in bad[1:]:  # only where one before it was given its state by hand
                self.plan.dropped.update(one.id for one in self._tree(run))
            is_put_off = bool(bad) and bad[0][1].id in self.plan.later  # then the whole lane is walked
            walked = found[found.index(bad[0]) + 1 :] if bad and not is_put_off else found
            if self._is_warning:
                ended_well = (run for _, run in walked if run.state in DONE)
                self.plan.later.update(run.id for run in ended_well if self._has_bad_below(run))
            is_left = any(run.id in self.plan.later for _, run in found)
            going += bool(found) and not bad and not is_left and len(found) < len(lane)

    def replay_scope(self, spec: Spec, around: TaskRun | None, at: TaskRun) -> None:
        """One scope on the way to what a replay begins at: *at* is it, or is around it."""
        run_id = None if around is None else around.id
        self.plan.again.add(at.id)
        if self.branches_after(spec, run_id, at):
            return
        if around is None:
            lanes: list[Lane] = [[(task, None, None) for task in enabled(spec["tasks"])]]
        else:
            lanes = lanes_of(spec, self._rounds.get(around.id, 0)) or []
        rows = [[self._inside.get((run_id, task["id"], iteration)) for task, _, iteration in lane] for lane in lanes]
        own = next(number for number, lane in enumerate(rows) if at in lane)
        gone = rows[own][rows[own].index(at) + 1 :]
        # One after the other; a Dag has an order of its own, unless nothing in it depends on anything.
        has_order = spec["kind"] == "dag" and any(dependencies(spec, task) for task in spec["tasks"])
        if {"each_sequential": 1}.get(spec["kind"], spec.get("limit", 0)) == 1 and not has_order:
            gone += [row for lane in rows[own + 1 :] for row in lane]
        if spec["kind"] == "dag":
            gone += [self._inside.get((run_id, name, None)) for name in _followers(spec, at.task_id)]
        for row in gone:
            self._drop(row)
        waiting = self._waiting(spec, run_id) if spec["kind"] == "dag" else set[str]()
        for number, lane in enumerate(lanes):
            bad = [
                (task, row)
                for (task, _, _), row in zip(lane, rows[number], strict=True)
                if row is not None and row.state in BAD and row is not at and row.id not in self.plan.dropped
            ]
            for place, (task, row) in enumerate(bad):
                if place or row.id in waiting:
                    self._drop(row)
                else:
                    self.again(task, row)

    def _drop(self, run: TaskRun | None) -> None:
        if run is not None:
            self.plan.dropped.update(one.id for one in self._tree(run))

    def _waiting(self, spec: Spec, run_id: str | None) -> set[str]:
        """Ids of what stands in a Dag behind something that has not ended well, or runs again: it waits for that."""
        there = {task["id"]: self._inside.get((run_id, task["id"], None)) for task in enabled(spec["tasks"])}
        found: set[str] = set()
        for task in enabled(spec["tasks"]):
            run = there[task["id"]]
            before = [there[name] for name in dependencies(spec, task) if name in there]
            if run is not None and any(one is None or self._runs_again(one) for one in before):
                found.add(run.id)
        return found

    def again(self, spec: Spec, run: TaskRun) -> None:
        self.plan.again.add(run.id)
        if spec["kind"] == "directory":
            self.branches(spec, run.id)
            self._children(spec, run)
        elif spec["kind"] not in LEAVES and State.RUNNING in [change.state for change in run.history]:
            self.scope(spec, run.id, lanes_of(spec, self._rounds.get(run.id, 0)) or [])

    def _children(self, spec: Spec, run: TaskRun) -> None:
        goes_on = not self._from_scratch
        for task in enabled(spec["tasks"]):
            row = self._inside.get((run.id, task["id"], None))
            if row is not None and goes_on and row.state in DONE:
                continue
            if row is not None:
                (self.plan.again if goes_on else self.plan.dropped).add(row.id)
            goes_on = False

    def branches_after(self, spec: Spec, run_id: str | None, at: TaskRun) -> bool:
        """Drop what follows *at* in the branches that come after the main one; False where it is of the main one."""
        names = ("errors", "finally", *AFTER_BRANCHES)
        tasks = [task["id"] for name in names for task in enabled(spec.get(name, []))]
        is_inside = at.task_id in tasks
        for id_ in tasks[tasks.index(at.task_id) + 1 :] if is_inside else tasks:
            self._drop(self._inside.get((run_id, id_, None)))
        return is_inside

    def branches(self, spec: Spec, run_id: str | None) -> None:
        for name in ("errors", "finally", *AFTER_BRANCHES):
            for task in enabled(spec.get(name, [])):
                run = self._inside.get((run_id, task["id"], None))
                if run is not None:
                    self.plan.dropped.update(one.id for one in self._tree(run))

    def _runs_again(self, run: TaskRun) -> bool:
        return run.state not in DONE or (self._is_warning and self._has_bad_below(run))

    def _tree(self, run: TaskRun) -> Iterator[TaskRun]:
        yield run
        for child in self._below.get(run.id, ()):
            yield from self._tree(child)

    def _has_bad_below(self, run: TaskRun) -> bool:
        return any(one.state in BAD for one in self._tree(run) if one is not run)


def _followers(spec: Spec, id_: str) -> set[str]:
    """Ids of the tasks of a Dag that, directly or not, depend on one of them."""
    found: set[str] = set()
    left = [id_]
    while left:
        before = left.pop()
        later = {task["id"] for task in enabled(spec["tasks"]) if before in dependencies(spec, task)} - found
        found |= later
        left += later
    return found


def _all(spec: Spec) -> Iterator[Spec]:
    for value in spec.values():
        if isinstance(value, list) and value and isinstance(value[0], dict) and "kind" in value[0]:
            for task in value:
                yield task
                yield from _all(task)
