"""A flow as the machine reads it: every task with its parent, branch and place. Made once for each flow revision."""

from collections.abc import Mapping, Sequence

from tercel.machine.flowable import ExecutableTask, FlowableTask, LoopingTask, PausingTask
from tercel.model.flow import Flow
from tercel.model.task import Retry, Task
from tercel.model.working_directory import DirectoryTask

ERRORS = "errors"
FINALLY = "finally"
AFTER = "afterExecution"
LISTENERS = "listeners."
_NO_BRANCH: "tuple[Place, ...]" = ()


class Place:
    """A task where it stands in its flow; disabled tasks have none.

    Attributes:
        parent: the enclosing flowable or working directory; None at the top.
        branch: name of the parent's branch; `errors` and `finally` are the same everywhere.
        position: zero-based among the enabled tasks of the branch.
        retry: the policy that counts: the task's own, else the nearest flowable's, else the flow's.
        flowable: the task itself where it is one, else None.
        is_directory: True for a WorkingDirectory, whose `tasks` a worker runs.
        loop: the task itself where it goes round, else None.
        pause: the task itself where it waits before its tasks start, else None.
        executable: the task itself where the engine carries it out, by starting executions, else None.
        branches: its own branches, enabled tasks only.
    """

    __slots__ = (
        "branch",
        "branches",
        "executable",
        "flowable",
        "is_directory",
        "loop",
        "parent",
        "pause",
        "position",
        "retry",
        "task",
    )

    def __init__(self, task: Task, parent: "Place | None", branch: str, position: int, retry: Retry | None) -> None:
        self.task = task
        self.parent = parent
        self.branch = branch
        self.position = position
        self.retry = retry
        self.flowable = task if isinstance(task, FlowableTask) else None
        self.loop = task if isinstance(task, LoopingTask) else None
        self.pause = task if isinstance(task, PausingTask) else None
        self.executable = task if isinstance(task, ExecutableTask) else None
        self.is_directory = isinstance(task, DirectoryTask)
        self.branches: dict[str, tuple[Place, ...]] = {}

    @property
    def is_leaf(self) -> bool:
        """True where somebody gets a job for it: a worker, also for a WorkingDirectory; the engine for a Subflow."""
        return self.flowable is None

    @property
    def is_run_by_worker(self) -> bool:
        """True for a child that its WorkingDirectory's job runs, so that the machine only keeps its row."""
        return self.parent is not None and self.parent.is_directory and self.branch == "tasks"


class FlowIndex:
    """A compiled flow.

    Attributes:
        places: every enabled task by its id.
        branches: the flow's own branches: `tasks`, `errors`, `finally`, `afterExecution`, and `listeners.0` and so on.
        assertions: whether an SLA has to be looked at with every change.
    """

    __slots__ = ("assertions", "branches", "flow", "places")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.places: dict[str, Place] = {}
        own = {
            "tasks": flow.tasks,
            ERRORS: flow.errors,
            FINALLY: flow.finally_,
            AFTER: flow.after_execution,
            **{
                f"{LISTENERS}{number}": listener.tasks for number, listener in enumerate(getattr(flow, "listeners", []))
            },
        }
        self.assertions = any(sla.type == "EXECUTION_ASSERTION" for sla in flow.sla)
        self.branches = self._settle(own, None, flow.retry)

    def branch(self, place: Place | None, name: str | None) -> "tuple[Place, ...]":
        """The enabled tasks of a branch of *place* (the flow itself for None); empty where there is none."""
        if name is None:
            return _NO_BRANCH
        return (self.branches if place is None else place.branches).get(name, _NO_BRANCH)

    def _settle(
        self, branches: Mapping[str, Sequence[Task]], parent: Place | None, retry: Retry | None
    ) -> "dict[str, tuple[Place, ...]]":
        settled: dict[str, tuple[Place, ...]] = {}
        for name, tasks in branches.items():
            enabled = [task for task in tasks if not task.disabled]
            settled[name] = tuple(
                Place(task, parent, name, position, task.retry or retry) for position, task in enumerate(enabled)
            )
            for place in settled[name]:
                self.places[place.task.id] = place
                place.branches = self._settle(_branches(place.task), place, place.retry)
        return settled


def compile_flow(flow: Flow) -> FlowIndex:
    """Index a flow; keep the answer for as long as the flow runs."""
    return FlowIndex(flow)


def _branches(task: Task) -> Mapping[str, Sequence[Task]]:
    match task:
        case FlowableTask():
            return {**task.branches(), ERRORS: task.errors, FINALLY: task.finally_}
        case DirectoryTask():
            return {"tasks": task.tasks, ERRORS: task.errors, FINALLY: task.finally_}
        case _:
            return {}
