"""How far a task run is with the executions that it started; kept in its plan."""

from collections.abc import Iterator, Mapping
from typing import cast

from tercel.machine.live import plan_of
from tercel.model.execution import TaskRun
from tercel.model.state import State


class Progress:
    """How many executions a Subflow's task run starts, has started, and knows the end of.

    Attributes:
        total: how many there will be.
        started: how many there are.
        states: how many have ended, by state.
    """

    def __init__(self, total: int, started: int, states: Mapping[str, int], ended: int) -> None:
        self.total = total
        self.started = started
        self.states = states
        self._ended = ended  # bit n is set where number n has ended

    @classmethod
    def of(cls, run: TaskRun) -> "Progress":
        """That of a task run; nothing of zero where it has started none yet."""
        plan = plan_of(run)
        states = cast("Mapping[str, int]", plan.get("states", {}))
        total, started = cast("int", plan.get("total", 0)), cast("int", plan.get("started", 0))
        return cls(total, started, states, int(str(plan.get("ended", "0")), 16))

    def has(self, index: int) -> bool:
        """Whether that one has ended."""
        return bool(self._ended >> index & 1)

    def open_ones(self) -> Iterator[int]:
        """The numbers of those that are started and have not ended."""
        return (index for index in range(self.started) if not self.has(index))

    def replaced(self, *, total: int, started: int) -> "Progress":
        """The same with other totals."""
        return Progress(total, started, self.states, self._ended)

    def with_ended(self, index: int, state: State) -> "Progress":
        """The same with one more that ended."""
        states = {**self.states, state.value: self.states.get(state.value, 0) + 1}
        return Progress(self.total, self.started, states, self._ended | 1 << index)

    def as_json(self) -> Mapping[str, object]:
        """What `of` reads again."""
        return {
            "total": self.total,
            "started": self.started,
            "states": dict(self.states),
            "ended": format(self._ended, "x"),
        }
