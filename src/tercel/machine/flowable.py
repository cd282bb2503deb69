"""What a task answers to shape an execution: its branches, what it decides when it starts, how its end is read.

Knows nothing of rows and events. A flowable's main branch is seen as *lanes*: a lane is a row of tasks that run one
after the other, and lanes run side by side up to a limit. Sequential is one lane, Parallel one lane for each task,
ForEach one for each value. The machine moves the lanes; a flowable only says what they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from tercel.model.state import State
from tercel.model.task import Task

Render: TypeAlias = Callable[[str], str]
"""Renders a text with what the flowable's own task run sees; raises ExpressionError."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a flowable settled when it started, kept in its row so that it is never evaluated again.

    Attributes:
        outputs: what expressions see of it.
        plan: what only `lanes` reads; JSON values.
    """

    outputs: Mapping[str, object] = {}
    plan: object = None


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """How the main branch of a started flowable runs.

    Attributes:
        branch: which of its branches is the main one; None when there is nothing to run.
        values: the loop's values; None outside loops.
        side_by_side: True where each task is a lane of its own, False where a lane runs the whole branch.
        limit: lanes open at once; 0 is no limit.
    """

    branch: str | None = "tasks"
    values: Sequence[str] | None = None
    side_by_side: bool = False
    limit: int = 1


class FlowableTask(Task, frozen=True, kw_only=True):
    """A task that shapes the execution; it never reaches a worker.

    Attributes:
        errors: run when one of its children failed for good.
        finally_: run after all else, unless killed.
    """

    errors: list[Task] = []
    finally_: list[Task] = msgspec.field(default_factory=list[Task], name="finally")

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """Every list of tasks that may become the main branch, by a name of its own."""
        raise NotImplementedError

    def children(self) -> Sequence[Task]:
        """The tasks of all branches."""
        return (*(task for tasks in self.branches().values() for task in tasks), *self.errors, *self.finally_)

    def decide(self, render: Render) -> Decision:
        """Settle, once, what depends on expressions.

        Raises:
            UserError: what was written cannot be used; the task run fails with its sentence.
        """
        del render
        return Decision()

    def lanes(self, decision: Decision) -> Lanes:
        """The lanes that follow from the flowable's own decision; the same for the same decision, always."""
        del decision
        return Lanes()

    def resolve(self, state: State) -> State:
        """Turn the state that follows from the children into the flowable's own."""
        return state
