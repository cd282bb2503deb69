"""Replay: a new execution begins in the middle, with copies of what an older one did before."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from tercel.machine.index import FlowIndex
from tercel.machine.moves import with_attempt_over
from tercel.model.execution import TaskRun, task_run_id
from tercel.model.state import TERMINAL, State, StateChange


class Copies(NamedTuple):
    """What a replay begins with.

    Attributes:
        runs: the rows of the new execution, parents before children.
        target: id of the one to begin at, among them.
    """

    runs: list[TaskRun]
    target: str


def copies_for_replay(flow: FlowIndex, runs: Mapping[str, TaskRun], run_id: str, execution_id: str) -> Copies | None:
    """Copy the rows of an execution for another one that begins at one of its task runs.

    What follows that task run is dropped once the machine opens the copies again; what is inside it, what has not
    ended, and branches that run after others are not copied.

    Args:
        flow: the revision that the new execution runs.
        runs: the older execution's task runs by id.
        run_id: the task run to begin at; a WorkingDirectory's child means the WorkingDirectory.
        execution_id: of the new execution.

    Returns:
        The copies; None where the flow has no place for that task run any more.
    """
    target = runs[run_id]
    place = flow.places.get(target.task_id)
    if place is not None and place.is_run_by_worker and target.parent_id is not None:
        target = runs[target.parent_id]
        place = flow.places.get(target.task_id)
    if place is None:
        return None
    around = set[str]()
    at = target.parent_id
    while at is not None:
        around.add(at)
        at = runs[at].parent_id
    ids: dict[str, str] = {}
    copies: list[TaskRun] = []
    for run in runs.values():
        is_copied = run.id == target.id or run.id in around or run.state in TERMINAL
        is_inside = run.parent_id is not None and (run.parent_id not in ids or run.parent_id == target.id)
        if is_inside or not is_copied or run.task_id not in flow.places:
            continue
        parent_id = None if run.parent_id is None else ids[run.parent_id]
        ids[run.id] = task_run_id(execution_id, parent_id, run.task_id, run.value, run.iteration)
        copies.append(
            replace(
                _ended(run),
                id=ids[run.id],
                execution_id=execution_id,
                parent_id=parent_id,
                fence=0,
                lost=0,
                due=None,
                worker=None,
            )
        )
    return Copies(copies, ids[target.id]) if target.id in ids else None


def _ended(run: TaskRun) -> TaskRun:
    """A row with its end; one that still runs in the older execution ends here, so that it can begin again."""
    last = run.history[-1]
    if last.state in TERMINAL:
        return run
    end = StateChange(State.KILLED, last.date)
    return replace(with_attempt_over(run, end), history=(*run.history, end))
