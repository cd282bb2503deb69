"""Executions that other ones start: how they begin, are ended with them, and report their own end.

A child's row and the row of the task run that started it are written in one transaction, and so are its end and what
follows from it in its parent. A crash between them cannot be.
"""

from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from tercel.machine import Request
from tercel.machine.messages import StartRetry, SubflowEnded
from tercel.machine.progress import Progress
from tercel.model.execution import Execution, TaskRun, child_execution_id, execution_id_at
from tercel.model.state import TERMINAL, State, StateChange
from tercel.store import Executions


class Child(NamedTuple):
    """Which task run an execution was started by.

    Attributes:
        execution_id: of the execution that the task run belongs to.
        fence: of the dispatch.
        number: which one of those that the dispatch started, from zero.
    """

    execution_id: str
    run_id: str
    fence: int
    number: int


StartChild = Callable[[Request, Execution, TaskRun, int], Awaitable[Execution]]
"""Makes the row of an execution: the request, the execution and task run that ask, and its number among theirs."""


def parent_of(execution: Execution) -> Child | None:
    """The task run that an execution was started by; None where none was."""
    match execution.trigger:
        case {
            "variables": {"executionId": str(parent_id)},
            "taskRunId": str(run_id),
            "fence": int(fence),
            "number": int(number),
        }:
            return Child(parent_id, run_id, fence, number)
        case _:
            return None


def report_of(execution: Execution, now: datetime) -> tuple[str, SubflowEnded] | None:
    """What an execution that ended tells its parent, and the parent; None where it tells nothing.

    One that was restarted after its end has told it before; one that is tried again leaves it to that.
    """
    parent = parent_of(execution)
    ends = sum(change.state in TERMINAL for change in execution.history)
    if parent is None or execution.state is State.RETRIED or ends > 1:
        return None
    return parent.execution_id, SubflowEnded(
        now=now,
        run_id=parent.run_id,
        fence=parent.fence,
        index=parent.number,
        state=execution.state,
        outputs=execution.outputs,
    )


def open_children(run: TaskRun) -> Iterator[tuple[int, str]]:
    """Number and id of the executions that a task run started and of which it does not know the end."""
    for index in Progress.of(run).open_ones():
        yield index, child_execution_id(run, index)


def retry_id(execution: Execution) -> str:
    """The id of the execution that tries again what one in RETRIED could not do."""
    at = next(change.date for change in execution.history if change.state is State.RETRIED)
    return execution_id_at(at, [execution.id, "retry"])


async def last_try(executions: Executions, execution_id: str) -> Execution | None:
    """An execution, or the last of those that try again what it could not do; None where it is not there any more."""
    found = await executions.find(execution_id, reveal=True)
    while found is not None and found.state is State.RETRIED:
        found = await executions.find(retry_id(found), reveal=True)
    return found


def retry_of(execution: Execution, command: StartRetry, now: datetime) -> Execution:
    """The row of the execution that tries again what *execution* could not do."""
    return Execution(
        id=command.id,
        namespace=execution.namespace,
        flow_id=execution.flow_id,
        revision=execution.revision,
        history=(StateChange(State.CREATED, now),),
        inputs=execution.inputs,
        labels=execution.labels,
        trigger=execution.trigger,
        parent_id=execution.id,
        original_id=execution.original_id,
        attempt_number=execution.attempt_number + 1,
        schedule_date=command.at,
        first_created=execution.first_created or execution.history[0].date,
    )
