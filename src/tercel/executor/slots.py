"""Slots of flows that have a `concurrency`: who gets one, who waits, and whose turn comes when one is free.

The store counts them, so that none is lost with a process and no two processes give out the same one.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from tercel.errors import TercelError
from tercel.executor.work import Work
from tercel.inbox import Inbox, Letter
from tercel.machine.messages import Event, ExecutionCreated, SlotFreed
from tercel.model.execution import Execution
from tercel.model.state import State
from tercel.store import Executions, Promise

_LOOK_S = 1.0
"""How often one looks whether another process has freed a slot."""


class LookAtQueue(Event, frozen=True, kw_only=True):
    """Time to see whether another process has freed a slot of a flow. Never seen by the machine."""

    namespace: str
    flow_id: str


class Slots:
    """Asks for slots once what an execution waits with is committed, and tells the inbox what came of it.

    All is called by the executor's thread.
    """

    def __init__(self, executions: Executions, inbox: Inbox, clock: Callable[[], datetime]) -> None:
        self._executions = executions
        self._inbox = inbox
        self._clock = clock
        self._waiting: dict[tuple[str, str], dict[str, int]] = {}

    def committed(self, work: Work) -> None:
        """Ask for a slot for an execution that needs one, and take note of those that wait for theirs."""
        concurrency = work.flow.flow.concurrency
        if concurrency is None:
            return
        execution = work.live.execution
        key, limit = (execution.namespace, execution.flow_id), concurrency.limit
        if work.forces_slot:
            self._executions.force_slot(execution.id)
        if work.wants_slot:
            claimed = self._executions.claim_slot(execution.id, *key, limit)
            state = execution.state
            claimed.when_done(lambda: self._claimed(execution.id, claimed, state))
        if execution.state is State.QUEUED:
            if key not in self._waiting:
                self._look_later(*key)
            self._waiting.setdefault(key, {})[execution.id] = limit
        elif key in self._waiting:
            self._waiting[key].pop(execution.id, None)
            if not self._waiting[key]:
                del self._waiting[key]

    def _claimed(self, execution_id: str, claimed: Promise[bool], state: State) -> None:
        """Whether an execution got a slot is known; in the thread that knows it."""
        try:
            has_slot = claimed.result()
        except TercelError:
            return  # the store is broken: the next commit says so
        if state is State.CREATED:
            event = ExecutionCreated(now=self._clock(), has_slot=has_slot)
            self._inbox.put(Letter(execution_id, event, is_admitted=True))
        elif has_slot:
            self._inbox.put(Letter(execution_id, SlotFreed(now=self._clock())))

    def freed(self, execution: Execution) -> None:
        """An execution has ended: give its slot to the one of its flow that waits longest."""
        self._give(execution.namespace, execution.flow_id)

    def look(self, event: LookAtQueue) -> None:
        """See whether another process has freed a slot, for as long as something waits."""
        if (event.namespace, event.flow_id) in self._waiting:
            self._give(event.namespace, event.flow_id)
            self._look_later(event.namespace, event.flow_id)

    def _give(self, namespace: str, flow_id: str) -> None:
        waiting = self._waiting.get((namespace, flow_id))
        if not waiting:
            return
        limit = next(iter(waiting.values()))
        claimed = self._executions.claim_next(namespace, flow_id, limit)

        def tell() -> None:
            try:
                execution_id = claimed.result()
            except TercelError:
                return
            if execution_id is not None:
                self._inbox.put(Letter(execution_id, SlotFreed(now=self._clock())))

        claimed.when_done(tell)

    def _look_later(self, namespace: str, flow_id: str) -> None:
        at = self._clock() + timedelta(seconds=_LOOK_S)
        self._inbox.at(at, Letter("", LookAtQueue(now=at, namespace=namespace, flow_id=flow_id)))


def needs_slot(work: Work, now: datetime) -> bool:
    """True for an execution that is about to start and has first to get one of its flow's slots."""
    execution = work.live.execution
    if work.flow.flow.concurrency is None or execution.state is not State.CREATED:
        return False
    return execution.schedule_date is None or execution.schedule_date <= now
