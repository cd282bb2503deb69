"""What a task answers to shape an execution: its branches, what it decides when it starts, how its end is read.

Knows nothing of rows and events. A flowable's main branch is seen as *lanes*: a lane is a row of tasks that run one
after the other, and lanes run side by side up to a limit. Sequential is one lane, Parallel one lane for each task,
ForEach one for each value. The machine moves the lanes; a flowable only says what they are.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import BinaryIO, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from tercel.model.state import State
from tercel.model.task import Task

Render: TypeAlias = Callable[[str], str]
"""Renders a text with what the flowable's own task run sees; raises ExpressionError."""


class RendersRequests(Protocol):
    """What of a run context a task needs to say which executions it starts."""

    @property
    def variables(self) -> Mapping[str, object]:
        """What expressions see."""
        ...

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        """Render a text; *extra* variables win over the context's."""
        ...

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        """Render every text inside maps and lists."""
        ...

    def open_file(self, uri: str) -> BinaryIO:
        """Open a file of internal storage for reading; the caller closes it."""
        ...


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a flowable settled when it started, kept in its row so that it is never evaluated again.

    Attributes:
        outputs: what expressions see of it.
        plan: what only the flowable itself reads; JSON values.
    """

    outputs: Mapping[str, object] = {}
    plan: object = None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """How a flowable waits before its tasks start.

    Attributes:
        after: how long, if nobody resumes it before; None for as long as nobody does.
        then: what happens after that time.
    """

    after: timedelta | None = None
    then: Literal["RESUME", "WARN", "FAIL", "CANCEL"] = "RESUME"


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """What a loop does after a round that ended well: with neither attribute set it is over.

    Attributes:
        after: another round starts after this time.
        failure: it is over, and has failed, for this reason.
    """

    after: timedelta | None = None
    failure: str = ""


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """How the main branch of a started flowable runs.

    Attributes:
        branch: which of its branches is the main one; None when there is nothing to run.
        values: the loop's values; None outside loops.
        side_by_side: True where each task is a lane of its own, False where a lane runs the whole branch.
        limit: lanes open at once; 0 is no limit.
        after: id of a task, where each is a lane of its own, to ids of those that have to end before it starts.
        round: number of the round, from zero, in loops without values; None elsewhere.
    """

    branch: str | None = "tasks"
    values: Sequence[str] | None = None
    side_by_side: bool = False
    limit: int = 1
    after: Mapping[str, Sequence[str]] = {}
    round: int | None = None


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

    def resolve(self, state: State, decision: Decision) -> State:
        """Turn the state that follows from the children into the flowable's own."""
        del decision
        return state


class PausingTask(FlowableTask, frozen=True, kw_only=True):
    """A flowable that waits for a person, or for some time, before its tasks start. Its `timeout` is its own affair."""

    def hold(self, decision: Decision) -> Hold:
        """How it waits."""
        raise NotImplementedError

    def warned(self, decision: Decision) -> Decision:
        """The decision of one that went on by itself, and is to end in WARNING."""
        raise NotImplementedError


class LoopingTask(FlowableTask, frozen=True, kw_only=True):
    """A flowable whose tasks run in rounds until it has enough."""

    def again(self, decision: Decision, render: Render, spent: timedelta) -> Again:
        """Decide after a round that ended well, *spent* since the loop began. Raises UserError."""
        raise NotImplementedError

    def next_round(self, decision: Decision) -> Decision:
        """The decision for another round."""
        raise NotImplementedError

    def afresh(self, decision: Decision) -> Decision:
        """The decision for a loop that was restarted: it may go round as often as at first."""
        raise NotImplementedError


class ExecutableTask(Task, frozen=True, kw_only=True):
    """A task that starts executions of flows; the engine itself carries it out.

    Attributes:
        wait: the task run ends with the executions; otherwise as soon as they are started.
        transmit_failed: its state is the worst of theirs; otherwise SUCCESS.
    """

    wait: bool = True
    transmit_failed: bool = True

    def requests(self, context: RendersRequests) -> "Requests":
        """Say which executions to start. Raises UserError."""
        raise NotImplementedError

    def started(self, ids: Sequence[str], total: int, base_uri: str) -> Mapping[str, object]:
        """The outputs while the executions run.

        Args:
            ids: of those that were started now, the first ones first.
            total: how many it will be.
            base_uri: where files of the task run belong in internal storage.
        """
        raise NotImplementedError

    def counted(
        self,
        outputs: Mapping[str, object],
        states: Mapping[str, int],
        ended: State,
        child_outputs: Mapping[str, object],
    ) -> Mapping[str, object]:
        """The outputs once one more execution has *ended*; *states* counts all that have, by state."""
        raise NotImplementedError


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """An execution to start.

    Attributes:
        revision: of the flow; the latest where None.
        inputs: by id, rendered.
        labels: on top of the flow's.
        inherit_labels: the labels of the execution that asks, too.
        schedule_date: it starts then; None starts it at once.
    """

    namespace: str
    flow_id: str
    revision: int | None = None
    inputs: Mapping[str, object] = {}
    labels: Mapping[str, str] = {}
    inherit_labels: bool = False
    schedule_date: datetime | None = None


class Requests(NamedTuple):
    """The executions that a task starts.

    Attributes:
        total: how many.
        one: gives the request by its number, from zero. Raises UserError.
    """

    total: int
    one: Callable[[int], Request]
