"""What was committed, replayed on a model that never crashed, under the eyes of layer 1's referee.

After every commit the store has to hold exactly the model's rows; at the end the oracle says what they have to be.
"""

from msgspec.structs import replace

from tercel.machine import Change, FlowIndex, LiveExecution, advance
from tercel.machine.messages import Event, ForceRunRequested, RestartRequested
from tercel.model.execution import Execution, TaskRun
from tercel.model.state import State
from tercel.store import Store, run
from tests.simulation.flows import Spec, build
from tests.simulation.oracle import Oracle
from tests.simulation.referee import Referee, ViolationError, demand
from tests.simulation.restarts import Reckoner
from tests.simulation.standing import paused


class Mirror:
    """One execution as it has to be.

    Args:
        spec: what the referee and the oracle know the flow by.
        index: the flow as the machine reads it.
        execution: as it was before its first event.

    Attributes:
        owner: the process that wrote it last, or adopted it.
        is_forced: somebody let it go on beyond its flow's limit.
        is_judged: False for one that tries another one again, of which layer 1 does not know: it is only compared.
    """

    def __init__(self, spec: Spec, index: FlowIndex, execution: Execution, owner: str) -> None:
        self.spec = spec
        self.owner = owner
        self.referee = Referee(build(spec), Reckoner(spec), execution)
        self.is_forced = False
        self.is_judged = execution.attempt_number == 1
        self._index = index
        self._live = LiveExecution(execution)
        self.header = execution
        self.rows: dict[str, TaskRun] = {}

    @property
    def is_paused(self) -> bool:
        """True where it waits for a person."""
        if not self.is_judged:
            return self.header.state is State.PAUSED
        return not self.has_ended and (self.referee.standing.is_held or bool(paused(self.rows)))

    @property
    def takes_slot(self) -> bool:
        """True while it counts against its flow's limit, and was not let through beyond that."""
        return self.has_begun and not self.has_ended and not self.is_forced

    @property
    def has_begun(self) -> bool:
        """True once tasks may have run."""
        return any(change.state not in (State.CREATED, State.QUEUED) for change in self.header.history)

    @property
    def has_ended(self) -> bool:
        return not self.header.is_open

    def apply(self, event: Event) -> Change:
        """Replay one event, and judge what comes of it."""
        good = self.is_judged and self.referee.is_good(event, self.rows)
        change = advance(self._index, self._live, event)
        if self.is_judged:
            self.referee.judge(event, change, self.rows, self.header, good=good)
        for run_id in change.removed:
            del self.rows[run_id]
        for row in change.runs:
            self.rows[row.id] = row
        self.header = change.execution or self.header
        self.is_forced |= not change.is_empty and isinstance(event, ForceRunRequested | RestartRequested)
        return change

    def compare(self, store: Store) -> None:
        """The store holds these rows and no others, in this order."""
        stored = run(store.executions.find(self.header.id, reveal=True))
        demand(stored is not None, f"{self.header.id} is not in the store.")
        demand(stored == self.header, f"The execution in the store is {_brief(stored)}, not {_brief(self.header)}.")
        rows = run(store.executions.task_runs(self.header.id, reveal=True))
        for row in rows:
            expected = self.rows.get(row.id)
            demand(expected is not None, f"The store has a row of {row.task_id} that there is not.")
            if row != expected:
                raise ViolationError(f"The store has {_shown(row)}, not {_shown(expected)}.")
        demand(len(rows) == len(self.rows), f"The store has {len(rows)} rows, not {len(self.rows)}.")
        demand([row.id for row in rows] == list(self.rows), "The rows in the store stand in another order.")

    def judge_end(self) -> None:
        """The end is what the oracle says."""
        if self.is_judged:
            Oracle(self.spec, self.referee, self.header, self.rows).check()


def _shown(row: TaskRun | None) -> str:
    return "none" if row is None else f"{row.task_id} {replace(row, id='', execution_id='')}"


def _brief(execution: Execution | None) -> str:
    if execution is None:
        return "none"
    return f"{execution.id} {[change.state.value for change in execution.history]} version {execution.version}"
