"""A flow as a graph that can be drawn: what comes after what, and, for an execution, how far each of it is. Pure.

Nodes are known by dotted paths: `root.parallel.say`. What belongs to no task begins with `_`, which no task's id does.
A task with tasks inside is a cluster with a beginning and an end of its own; in an execution the rounds of a loop stand
side by side, each with what ran in it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from tercel.machine.flowable import Decision, ExecutableTask, FlowableTask, Lanes, LoopingTask
from tercel.machine.index import AFTER, ERRORS, FINALLY
from tercel.model.execution import TaskRun
from tercel.model.flow import Flow
from tercel.model.task import Task
from tercel.model.trigger import Trigger
from tercel.model.working_directory import DirectoryTask

FindFlow = Callable[[str, str, int | None], Flow | None]
"""Gives a flow by namespace, id and revision; its latest one where the revision is None."""

ROOT = "root"
TRIGGERS = "Triggers"

MOST_ROUNDS = 100
"""Rounds of one loop that are shown."""


class NodeKind(StrEnum):
    """What stands at a place of the graph."""

    TASK = "TASK"
    SUBFLOW = "SUBFLOW"
    TRIGGER = "TRIGGER"
    START = "START"
    END = "END"


class Relation(StrEnum):
    """How a task comes after another one, or inside it."""

    SEQUENTIAL = "SEQUENTIAL"
    CHOICE = "CHOICE"
    ERROR = "ERROR"
    FINALLY = "FINALLY"
    AFTER_EXECUTION = "AFTER_EXECUTION"
    PARALLEL = "PARALLEL"
    DYNAMIC = "DYNAMIC"


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """A place of the graph.

    Attributes:
        uid: its path, its own in the graph.
        task: of TASK and SUBFLOW.
        trigger: of TRIGGER.
        run: the task run, in the graph of an execution; None where there is none.
        relation: how the task comes after what is before it.
        branch: `errors`, `finally` or `afterExecution`, for what is in such a branch; None elsewhere.
        values: of the loops around it, outermost first.
    """

    uid: str
    kind: NodeKind
    task: Task | None = None
    trigger: Trigger | None = None
    run: TaskRun | None = None
    relation: Relation | None = None
    branch: str | None = None
    values: tuple[str, ...] = ()


class GraphEdge(msgspec.Struct, frozen=True, kw_only=True):
    """What comes after what.

    Attributes:
        value: which choice leads there, such as `then`; None elsewhere.
    """

    source: str
    target: str
    relation: Relation | None = None
    value: str | None = None


class GraphCluster(msgspec.Struct, frozen=True, kw_only=True):
    """Places that belong together.

    Attributes:
        uid: of the cluster: that of its task after `cluster_`.
        node: the task's; None for that of the triggers.
        nodes: uids of the places in it, without those of clusters inside.
        parents: uids of the clusters around it, outermost first.
        start: uid of its beginning.
        end: uid of its end.
        relation: how its tasks come after each other.
    """

    uid: str
    node: GraphNode | None = None
    nodes: Sequence[str]
    parents: tuple[str, ...]
    start: str
    end: str
    relation: Relation | None = None


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A flow as a graph.

    Attributes:
        flowables: ids of the tasks that have tasks inside.
    """

    nodes: list[GraphNode]
    edges: list[GraphEdge]
    clusters: list[GraphCluster]
    flowables: list[str]


def flow_graph(
    flow: Flow,
    runs: Collection[TaskRun] = (),
    *,
    opened: Collection[str] = (),
    find_flow: FindFlow | None = None,
) -> Graph:
    """The graph of a flow, or of one of its executions.

    Args:
        flow: it.
        runs: the task runs of the execution, in the order of their creation.
        opened: uids of tasks that start a flow, whose tasks are to be shown.
        find_flow: gives the flow that such a task starts, by namespace, id and revision; None where there is none.
    """
    builder = _Builder(runs, opened, find_flow)
    builder.add_flow(flow)
    return builder.graph


class _Exit(msgspec.Struct, frozen=True):
    """A place that something follows, and how."""

    uid: str
    relation: Relation | None = None
    value: str | None = None


class _Around(msgspec.Struct, frozen=True, kw_only=True):
    """Where tasks stand.

    Attributes:
        path: before the ids of tasks.
        nodes: of the cluster, to be added to.
        parents: the clusters around.
        run_id: the task run that they are inside of; None at the top.
        is_run: False where there are no task runs to look for.
        round: value and number of the loop's round; None outside of loops.
        branch: as of a node.
        values: as of a node.
    """

    path: str
    nodes: list[str]
    parents: tuple[str, ...] = ()
    run_id: str | None = None
    is_run: bool = True
    round: tuple[str | None, int | None] | None = None
    branch: str | None = None
    values: tuple[str, ...] = ()


class _Builder:
    def __init__(
        self,
        runs: Collection[TaskRun],
        opened: Collection[str],
        find_flow: FindFlow | None,
    ) -> None:
        self.graph = Graph(nodes=[], edges=[], clusters=[], flowables=[])
        self._opened = set(opened)
        self._find_flow = find_flow
        self._inside: dict[str | None, list[TaskRun]] = {}
        for run in runs:
            self._inside.setdefault(run.parent_id, []).append(run)

    def add_flow(self, flow: Flow) -> None:
        """Add a whole flow, with its triggers."""
        at = _Around(path=ROOT, nodes=[])
        start = self._start(at)
        if flow.triggers:
            self._add_triggers(flow.triggers, start)
        self._end(at, self._tasks_of(flow, at, [_Exit(start)]))

    def _add_triggers(self, triggers: Sequence[Trigger], root: str) -> None:
        at = _Around(path=f"{ROOT}.{TRIGGERS}", nodes=[])
        start = self._start(at)
        exits: list[_Exit] = []
        for trigger in triggers:
            node = self._node(at, f"{at.path}.{trigger.id}", NodeKind.TRIGGER, trigger=trigger)
            self._join([_Exit(start)], node.uid)
            exits.append(_Exit(node.uid))
        end = self._end(at, exits)
        self._join([_Exit(end)], root)
        self.graph.clusters.append(
            GraphCluster(uid=f"cluster_{at.path}", nodes=at.nodes, parents=(), start=start, end=end)
        )

    def _tasks_of(self, flow: Flow, at: _Around, entries: list[_Exit]) -> list[_Exit]:
        exits = self._row(flow.tasks, at, entries, Relation.SEQUENTIAL)
        exits = self._ends(flow.errors, flow.finally_, at, entries, exits)
        after = msgspec.structs.replace(at, branch=AFTER)
        listening = [task for listener in flow.listeners for task in listener.tasks]
        return self._row([*flow.after_execution, *listening], after, exits, Relation.AFTER_EXECUTION)

    def _ends(
        self, errors: Sequence[Task], last: Sequence[Task], at: _Around, entries: list[_Exit], exits: list[_Exit]
    ) -> list[_Exit]:
        """Add what runs after a failure and what runs at the end."""
        if errors:
            failed = [_Exit(entry.uid, Relation.ERROR) for entry in entries]
            there = msgspec.structs.replace(at, branch=at.branch or ERRORS)
            exits = [*exits, *self._row(errors, there, failed, Relation.ERROR)]
        there = msgspec.structs.replace(at, branch=at.branch or FINALLY)
        return self._row(last, there, exits, Relation.FINALLY)

    def _row(self, tasks: Sequence[Task], at: _Around, entries: list[_Exit], relation: Relation) -> list[_Exit]:
        """Add tasks one after the other; *relation* is that of the first one, where its entry says none."""
        for task in tasks:
            entries = [self._add(task, at, entries, relation)]
            relation = Relation.SEQUENTIAL
        return entries

    def _add(self, task: Task, at: _Around, entries: list[_Exit], relation: Relation) -> _Exit:
        """Add a task and all that is inside of it; gives its end."""
        run = self._run_of(task, at)
        uid = f"{at.path}.{task.id}"
        inner = self._opened_flow(task, uid)
        has_inside = isinstance(task, FlowableTask | DirectoryTask)
        kind = NodeKind.SUBFLOW if isinstance(task, ExecutableTask) else NodeKind.TASK
        if not has_inside and inner is None:
            self._node(at, uid, kind, task=task, run=run, relation=relation)
            self._join([_filled(entry, relation) for entry in entries], uid)
            return _Exit(uid)
        if has_inside:
            self.graph.flowables.append(task.id)
        cluster = f"cluster_{uid}"
        within = msgspec.structs.replace(
            at,
            path=uid,
            nodes=[],
            parents=(*at.parents, cluster),
            run_id=None if run is None else run.id,
            is_run=at.is_run and run is not None and inner is None,
            round=None,
        )
        start = self._start(within)
        node = self._node(within, uid, kind, task=task, run=run, relation=relation)
        self._join([_filled(entry, relation) for entry in entries], start)
        self._join([_Exit(start)], uid)
        if inner is None:
            way, exits = self._inside_of(task, within, uid)
        else:
            way, exits = Relation.SEQUENTIAL, self._tasks_of(inner, within, [_Exit(uid)])
        end = self._end(within, exits)
        self.graph.clusters.append(
            GraphCluster(
                uid=cluster, node=node, nodes=within.nodes, parents=at.parents, start=start, end=end, relation=way
            )
        )
        return _Exit(end)

    def _opened_flow(self, task: Task, uid: str) -> Flow | None:
        started = started_flow(task)
        if uid not in self._opened or started is None or self._find_flow is None:
            return None
        return self._find_flow(*started)

    def _inside_of(self, task: Task, at: _Around, uid: str) -> tuple[Relation, list[_Exit]]:
        """Add the tasks inside of one; gives how they follow it, and their ends."""
        branches: Mapping[str, Sequence[Task]] = {}
        errors: Sequence[Task] = ()
        last: Sequence[Task] = ()
        if isinstance(task, FlowableTask):
            branches, errors, last = task.branches(), task.errors, task.finally_
        elif isinstance(task, DirectoryTask):
            branches, errors, last = {"tasks": task.tasks}, task.errors, task.finally_
        way, lanes = _shape(task, branches)
        entry = _Exit(uid)
        exits: list[_Exit] = []
        if way is Relation.CHOICE:
            for name, tasks in branches.items():
                chosen = _Exit(uid, way, name.removeprefix("case "))
                exits += self._row(tasks, at, [chosen], way) if tasks else []
        elif way is Relation.DYNAMIC:
            for around in self._rounds(branches["tasks"], at):
                exits += self._row(branches["tasks"], around, [entry], way)
        elif lanes.side_by_side:
            exits = self._side_by_side(branches["tasks"], lanes, at, entry)
        else:
            exits = self._row(branches.get("tasks", ()), at, [entry], way)
        return way, self._ends(errors, last, at, [entry], exits or [entry])

    def _side_by_side(self, tasks: Sequence[Task], lanes: Lanes, at: _Around, entry: _Exit) -> list[_Exit]:
        """Add tasks that run side by side, each after those that it depends on."""
        ends: dict[str, _Exit] = {}
        left = list(tasks)
        while left:
            ready = [task for task in left if all(other in ends for other in lanes.after.get(task.id, ()))]
            for task in ready or left:  # a circle is refused when the flow is read
                before = [ends[other] for other in lanes.after.get(task.id, ()) if other in ends]
                ends[task.id] = self._add(task, at, before or [entry], Relation.PARALLEL)
            left = [task for task in left if task.id not in ends]
        awaited = {other for others in lanes.after.values() for other in others}
        return [end for task_id, end in ends.items() if task_id not in awaited]

    def _rounds(self, tasks: Sequence[Task], at: _Around) -> list[_Around]:
        """The rounds of a loop that were begun; one without task runs where none was."""
        ids = {task.id for task in tasks}
        inside = self._inside.get(at.run_id, []) if at.is_run else []
        begun = dict.fromkeys((run.value, run.iteration) for run in inside if run.task_id in ids)
        if not begun:
            return [msgspec.structs.replace(at, is_run=False)]
        return [
            msgspec.structs.replace(
                at,
                path=f"{at.path}._{number}",
                round=round_,
                values=at.values if round_[0] is None else (*at.values, round_[0]),
            )
            for number, round_ in enumerate(list(begun)[:MOST_ROUNDS])
        ]

    def _run_of(self, task: Task, at: _Around) -> TaskRun | None:
        if not at.is_run:
            return None
        for run in reversed(self._inside.get(at.run_id, [])):
            if run.task_id == task.id and at.round in (None, (run.value, run.iteration)):
                return run
        return None

    def _node(self, at: _Around, uid: str, kind: NodeKind, **properties: Any) -> GraphNode:
        node = GraphNode(uid=uid, kind=kind, branch=at.branch, values=at.values, **properties)
        self.graph.nodes.append(node)
        at.nodes.append(uid)
        return node

    def _start(self, at: _Around) -> str:
        return self._node(at, f"{at.path}._start", NodeKind.START).uid

    def _end(self, at: _Around, exits: Sequence[_Exit]) -> str:
        end = self._node(at, f"{at.path}._end", NodeKind.END).uid
        self._join(exits, end)
        return end

    def _join(self, exits: Sequence[_Exit], target: str) -> None:
        for exit_ in exits:
            self.graph.edges.append(
                GraphEdge(source=exit_.uid, target=target, relation=exit_.relation, value=exit_.value)
            )


def _filled(entry: _Exit, relation: Relation) -> _Exit:
    return entry if entry.relation is not None else _Exit(entry.uid, relation, entry.value)


def _shape(task: Task, branches: Mapping[str, Sequence[Task]]) -> tuple[Relation, Lanes]:
    """How the tasks inside of one follow it, and the lanes that they run in."""
    if not isinstance(task, FlowableTask):
        return Relation.SEQUENTIAL, Lanes()
    if isinstance(task, LoopingTask):
        return Relation.DYNAMIC, Lanes()
    if set(branches) != {"tasks"}:
        return Relation.CHOICE, Lanes()
    lanes = task.lanes(Decision(plan=[]))
    if lanes.values is not None:
        return Relation.DYNAMIC, lanes
    return (Relation.PARALLEL if lanes.side_by_side else Relation.SEQUENTIAL), lanes


def started_flow(task: Task) -> tuple[str, str, int | None] | None:
    """Namespace, id and revision of the flow that a task starts; None where it starts none, or not always the same."""
    namespace, flow_id = getattr(task, "namespace", None), getattr(task, "flow_id", None)
    revision = getattr(task, "revision", None)
    if not isinstance(task, ExecutableTask) or not isinstance(namespace, str) or not isinstance(flow_id, str):
        return None
    if "{" in namespace or "{" in flow_id:
        return None
    return namespace, flow_id, int(str(revision)) if str(revision).isdecimal() else None
