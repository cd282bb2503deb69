"""Execution, TaskRun, Attempt: the rows the engine keeps. Ids of task runs are derived, never drawn."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b

import msgspec

from tercel.model.state import State, StateChange

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_HALF = 62**11
_QUARTER = 62**4
_encode = msgspec.json.Encoder().encode
_PAIRS = tuple(high + low for high in _BASE62 for low in _BASE62)


class Attempt(msgspec.Struct, frozen=True):
    """One try at a task run.

    Attributes:
        history: states with dates (aware UTC), oldest first; the last one is the attempt's state.
        worker: id of the worker that took it; None before one did.
    """

    history: tuple[StateChange, ...]
    worker: str | None = None

    @property
    def state(self) -> State:
        """The state the attempt is in."""
        return self.history[-1].state


class TaskRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a task in an execution: a row of its own.

    Attributes:
        parent_id: task run of the enclosing flowable; None at the top.
        value: the loop's value this run belongs to, as text; None outside loops.
        iteration: zero-based place of the value in its loop; None outside loops.
        fence: number of the latest dispatch, unlike that of any other of this id; a result with another number
            changes nothing.
        lost: how often a worker was lost with it.
        due: when its timer fires (retry, timeout); None without one.
        plan: flowables: what was decided once at the start and must not be evaluated again, such as a loop's values;
            JSON values only; None where nothing was.
        attempts: the tries, oldest first; one whose worker was lost is taken out again.
        past_attempts: how many of them were made before it was restarted last, and count for retries no more.
    """

    id: str
    execution_id: str
    task_id: str
    parent_id: str | None = None
    value: str | None = None
    iteration: int | None = None
    history: tuple[StateChange, ...]
    attempts: tuple[Attempt, ...] = ()
    outputs: Mapping[str, object] = {}
    fence: int = 0
    lost: int = 0
    due: datetime | None = None
    worker: str | None = None
    plan: object = None
    past_attempts: int = 0
    message: str = ""
    """Why it failed, for people; empty otherwise. Set on a running flowable: it fails once its branches ended."""

    @property
    def state(self) -> State:
        """The state the task run is in."""
        return self.history[-1].state

    @property
    def started_at(self) -> datetime:
        """When the row was made."""
        return self.history[0].date

    @property
    def restarted_at(self) -> datetime | None:
        """When it was restarted last; None where it never was."""
        return next((change.date for change in reversed(self.history) if change.state is State.RESTARTED), None)


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a flow, without its task runs.

    Attributes:
        revision: the flow's revision it runs; only a restart may change it.
        trigger: `id`, `type`, `variables` of what started it; None for a manual start.
        attempt_number: one more than how often it was restarted.
        from_scratch: WorkingDirectories that run again do so from their first child, as the last restart asked.
        has_variables: its tasks have set or removed variables: *variables* are all that there are, the flow's included.
        keeps_failures: the last restart left what had failed as it was: only a task run's state was changed.
        schedule_date: it stays CREATED until then; None starts at once.
        due: when its own timer fires (its start, the end of its time); None without one.
        ends_as: the state that a forced end leads to, while what is open is being ended; None for all other ends.
        is_closing: it has its last state, and the tasks that follow it still run.
        after: branches that follow its last state, `afterExecution` and those of listeners; settled with that state.
        violated: ids of the SLAs that were broken.
        first_created: when the first of a row of executions was made that try the same again; None for the first.
        kind: what it is run for, such as TEST; None for its own sake.
        version: grows with every change of this row; a cached copy with another version is stale.
    """

    id: str
    namespace: str
    flow_id: str
    revision: int
    history: tuple[StateChange, ...]
    inputs: Mapping[str, object] = {}
    outputs: Mapping[str, object] = {}
    labels: Mapping[str, str] = {}
    variables: Mapping[str, object] = {}
    trigger: Mapping[str, object] | None = None
    parent_id: str | None = None
    original_id: str | None = None
    attempt_number: int = 1
    from_scratch: bool = False
    has_variables: bool = False
    keeps_failures: bool = False
    schedule_date: datetime | None = None
    due: datetime | None = None
    ends_as: State | None = None
    is_closing: bool = False
    after: tuple[str, ...] = ()
    violated: tuple[str, ...] = ()
    first_created: datetime | None = None
    kind: str | None = None
    message: str = ""
    """Why it failed, where no task run says so; empty otherwise."""
    version: int = 0

    @property
    def state(self) -> State:
        """The state the execution is in."""
        return self.history[-1].state

    @property
    def is_open(self) -> bool:
        """True while something of it may still move by itself."""
        return self.is_closing or not self.state.is_terminal


def base62(number: int, length: int) -> str:
    """Write *number* in base 62, left-padded with zeros to *length* characters."""
    digits: list[str] = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits)).rjust(length, "0")


def task_run_id(
    execution_id: str, parent_id: str | None, task_id: str, value: str | None, iteration: int | None
) -> str:
    """Derive the id of a task run: the same place in the same execution always gets the same id.

    Example:
        >>> task_run_id("ex", None, "hello", None, None)
        '05sWP9AJNzfjMeA0s3i00p'
    """
    path = _encode((execution_id, parent_id, task_id, value, iteration))
    return _written(int.from_bytes(blake2b(path, digest_size=16).digest(), "big"))


def _written(number: int) -> str:
    """`base62(number, 22)`, three times as fast: the machine derives an id for every task run it starts."""
    text = ""
    for half in divmod(number, _HALF):
        rest, low = divmod(half, _QUARTER)
        high, middle = divmod(rest, _QUARTER)
        text += (
            f"{_PAIRS[high // 62]}{_BASE62[high % 62]}"
            f"{_PAIRS[middle // 3844]}{_PAIRS[middle % 3844]}{_PAIRS[low // 3844]}{_PAIRS[low % 3844]}"
        )
    return text


_CHANCE_BITS = 80
_EXECUTION_ID_LENGTH = 22


def execution_id_at(at: datetime, seed: object) -> str:
    """Derive the id of an execution that another one brings about: the same for the same arguments, always.

    Like drawn ids it begins with the time, so that later executions have greater ids.

    Args:
        at: when it is made, aware; whole milliseconds count.
        seed: JSON values that no other execution is derived from.
    """
    digest = int.from_bytes(blake2b(_encode(seed), digest_size=10).digest(), "big")
    return base62(int(at.timestamp() * 1000) << _CHANCE_BITS | digest, _EXECUTION_ID_LENGTH)


def child_execution_id(run: TaskRun, index: int) -> str:
    """The id of the execution number *index* (from zero) that the latest dispatch of a Subflow's task run starts."""
    sent = next((change.date for change in reversed(run.history) if change.state in _SENT), run.started_at)
    return execution_id_at(sent, [run.execution_id, run.id, run.fence, index])


_SENT = (State.CREATED, State.RESTARTED)
