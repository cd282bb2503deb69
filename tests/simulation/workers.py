"""What a simulated worker makes of a job; the workers of both simulations draw it the same way."""

from datetime import datetime
from random import Random
from typing import Any, Protocol

from msgspec.structs import replace

from tercel.model.execution import Attempt, TaskRun, task_run_id
from tercel.model.jobs import ExecutionUpdate
from tercel.model.state import State, StateChange
from tercel.model.task import Task
from tests.simulation.flows import Spec
from tests.simulation.referee import ENDED
from tests.simulation.restarts import DONE


class Directory(Protocol):
    """A WorkingDirectory in the hands of a worker.

    Attributes:
        children: the rows of its children so far.
        kept: rows that came with the job, by task.
        has_folder: the worker still has the directory as the last of those rows left it.
    """

    children: list[TaskRun]
    kept: dict[str, TaskRun]
    has_folder: bool


def next_child(rng: Random, now: datetime, directory: Directory, task: Any, owner: tuple[str, str]) -> TaskRun | None:
    """The next row of a WorkingDirectory's child; None where there is none.

    Args:
        task: the WorkingDirectory.
        owner: its execution and its task run.
    """
    execution_id, run_id = owner
    tasks: list[Task] = [one for one in task.children() if not one.disabled and one.id.startswith("c")]
    rows = directory.children
    if rows and rows[-1].state not in ENDED:
        state = rng.choice([State.SUCCESS, State.SUCCESS, State.WARNING, State.FAILED, State.RETRYING])
        if rows[-1].state is State.RETRYING:
            state = State.RUNNING
        rows[-1] = replace(rows[-1], history=(*rows[-1].history, StateChange(state, now)))
        return rows[-1]
    while len(rows) < len(tasks) and not (rows and rows[-1].state is State.FAILED):
        one = tasks[len(rows)]
        kept = directory.kept.get(one.id)
        if kept is not None and kept.state in DONE and directory.has_folder:
            rows.append(kept)
            continue
        begun = StateChange(State.RUNNING, now)
        child = kept or TaskRun(
            id=task_run_id(execution_id, run_id, one.id, None, None),
            execution_id=execution_id,
            task_id=one.id,
            parent_id=run_id,
            history=(StateChange(State.CREATED, now),),
        )
        again = (StateChange(State.RESTARTED, now),) if child.state in ENDED else ()
        history = (*child.history, *again, begun)
        rows.append(replace(child, history=history, attempts=(*child.attempts, Attempt((begun,)))))
        return rows[-1]
    return None


def update_of(rng: Random, spec: Spec) -> ExecutionUpdate | None:
    """How a task that did well changes its own execution."""
    if spec["kind"] == "exit":
        return ExecutionUpdate(ends_as=State(spec["state"]))
    if spec["kind"] == "update":
        variables = {rng.choice("vw"): {rng.choice("mn"): rng.randint(1, 9)}}
        unset = tuple(rng.sample("vw", rng.randint(0, 1)))
        return ExecutionUpdate(labels={rng.choice("ab"): "set"}, variables=variables, unset=unset)
    return None
