"""Which executions stand still until a person comes, and which have something to do."""

from collections.abc import Collection

from tercel.errors import UserError
from tercel.executor import open_children, parent_of
from tercel.machine import FlowIndex, compile_flow
from tercel.machine.progress import Progress
from tercel.model.execution import Execution, TaskRun
from tercel.model.state import State
from tercel.server import Home
from tercel.store import ExecutionQuery

_AT_WORK = frozenset({State.CREATED, State.RESTARTED, State.RUNNING, State.KILLING})
_MOST_LOOKED_AT = 200


def has_jobs(runs: Collection[TaskRun], index: FlowIndex) -> bool:
    """True where somebody has got one of these task runs to carry it out, or starts executions for it."""
    for run in runs:
        place = index.places[run.task_id]
        if not place.is_leaf or run.state not in _AT_WORK:
            continue
        progress = Progress.of(run)
        if place.executable is None or run.state is not State.RUNNING or progress.started != progress.total:
            return True
    return False


def is_at_work(execution: Execution, runs: Collection[TaskRun], index: FlowIndex) -> bool:
    """True where what is under way will move an execution on; what executions that it started do apart.

    Args:
        execution: an open one.
        runs: those of its task runs that have not ended.
        index: its flow.
    """
    match execution.state:
        case State.CREATED:
            return execution.due is None
        case State.QUEUED:
            return False
        case State.PAUSED:
            return has_jobs(runs, index)
        case _:
            return not runs or has_jobs(runs, index)


def is_held(execution: Execution, runs: Collection[TaskRun]) -> bool:
    """True where an execution was paused by hand."""
    return execution.state is State.PAUSED and all(run.state is not State.PAUSED for run in runs)


def has_timer(execution: Execution, runs: Collection[TaskRun]) -> bool:
    """True where an execution goes on by itself when a time has come."""
    if is_held(execution, runs):
        return False  # times that come are kept until somebody resumes it
    return execution.due is not None or any(run.due is not None for run in runs)


def left_paused(home: Home, interrupted: Collection[str]) -> set[str]:
    """Those of all the *interrupted* executions that can only go on when a person resumes one of them."""
    if not interrupted:
        return set()
    query = ExecutionQuery(states=[State.PAUSED], limit=_MOST_LOOKED_AT)
    candidates = home.call(home.queries.search_executions(query))
    left: set[str] = set()
    while candidates:
        execution = candidates.pop()
        if execution.id in left or execution.id not in interrupted or not _stands_still(home, execution, left):
            continue
        left.add(execution.id)
        parent = parent_of(execution)
        if parent is not None and parent.execution_id in interrupted:
            candidates.append(home.call(home.queries.get_execution(parent.execution_id)))
    return left


def _stands_still(home: Home, execution: Execution, left: Collection[str]) -> bool:
    """True where nothing moves an execution on, its own or one that it started; *left* are known to stand still."""
    runs = [run for run in home.call(home.queries.task_runs(execution.id)) if not run.state.is_terminal]
    if is_held(execution, runs):
        return True
    try:
        index = compile_flow(home.flow_of(execution))
    except UserError:  # it is gone, or cannot be read any more: whoever goes on with it is told
        return False
    if is_at_work(execution, runs, index) or has_timer(execution, runs):
        return False
    return all(child_id in left for run in runs for _, child_id in open_children(run))
