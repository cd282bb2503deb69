"""Dag: tasks that start as soon as those they depend on have ended."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from tercel.machine.flowable import Decision, FlowableTask, Lanes
from tercel.model.catalog import plugin
from tercel.model.task import Part, Problem, Task


class DagTask(Part, frozen=True, kw_only=True):
    """A task of a Dag.

    Attributes:
        task: what runs.
        depends_on: ids of tasks of the same Dag that have to end before it starts.
    """

    task: Task
    depends_on: list[str] = []


@plugin("io.kestra.plugin.core.flow.Dag", aliases=["io.kestra.core.tasks.flows.Dag"])
class Dag(FlowableTask, frozen=True, kw_only=True):
    """Run tasks in the order that their dependencies allow, side by side where they allow it.

    After a failure no further task starts.

    Attributes:
        concurrent: how many run at once; 0 is no limit.

    Example:
        tasks:
          - id: reports
            type: io.kestra.plugin.core.flow.Dag
            tasks:
              - task:
                  id: orders
                  type: io.kestra.plugin.core.log.Log
                  message: Loads orders.
              - task:
                  id: customers
                  type: io.kestra.plugin.core.log.Log
                  message: Loads customers.
              - task:
                  id: totals
                  type: io.kestra.plugin.core.log.Log
                  message: Adds them up.
                dependsOn:
                  - orders
                  - customers
    """

    tasks: Annotated[list[DagTask], msgspec.Meta(min_length=1, extra={"code": "dag.empty"})]
    concurrent: Annotated[int, msgspec.Meta(ge=0)] = 0

    def problems(self) -> Iterator[Problem]:
        """Dependencies on tasks that are not here, and circles of them."""
        ids = {one.task.id: None for one in self.tasks}
        for index, one in enumerate(self.tasks):
            for place, other in enumerate(one.depends_on):
                if other not in ids:
                    message = f"The task '{one.task.id}' depends on '{other}', which is no task of this Dag."
                    hint = f"Its tasks are: {', '.join(ids)}."
                    yield Problem(message, hint, "dag.unknown", ("tasks", index, "dependsOn", place))
        circle = _circle({one.task.id: one.depends_on for one in self.tasks})
        if circle:
            message = f"The tasks depend on each other in a circle: {' → '.join(circle)}."
            yield Problem(message, "Take one of these dependencies out.", "dag.cycle", ("tasks",))

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks."""
        return {"tasks": [one.task for one in self.tasks]}

    def lanes(self, decision: Decision) -> Lanes:
        """One lane for each task, opened when those before it have ended."""
        del decision
        after = {one.task.id: one.depends_on for one in self.tasks if one.depends_on}
        return Lanes(side_by_side=True, limit=self.concurrent, after=after)


def _circle(dependencies: Mapping[str, Sequence[str]]) -> list[str]:
    """A circle among *dependencies*, its first element again at the end; empty where there is none."""
    done: set[str] = set()
    for start in dependencies:
        path: list[str] = []
        pending: list[tuple[str, bool]] = [(start, False)]
        while pending:
            name, is_left = pending.pop()
            if is_left:
                path.pop()
                done.add(name)
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                pending.append((name, True))
                pending.extend((other, False) for other in dependencies.get(name, ()) if other in dependencies)
    return []
