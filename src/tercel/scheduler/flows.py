"""The latest revisions of the flows that have triggers, in memory."""

from collections.abc import Callable
from threading import Lock

import msgspec

from tercel.errors import InvalidFlowError
from tercel.model.flow import Flow
from tercel.model.trigger import ReactingTrigger
from tercel.store import Store, TriggerKey

FlowKey = tuple[str, str]
"""Namespace and id of a flow."""


class Known(msgspec.Struct, frozen=True):
    """What is known of a flow.

    Attributes:
        revision: the latest.
        flow: the flow; None where it has no triggers, or cannot be read.
        is_valid: False where it cannot be read.
    """

    revision: int
    flow: Flow | None
    is_valid: bool = True


class TriggeringFlows:
    """Flows that have triggers, and which of those triggers somebody has disabled. For any thread.

    Args:
        read: reads a flow's source.
    """

    def __init__(self, store: Store, read: Callable[[str], Flow]) -> None:
        self._store = store
        self._read = read
        self._guard = Lock()
        self._known: dict[FlowKey, Known] = {}
        self._changed: dict[FlowKey, None] = {}
        self._disabled: set[TriggerKey] = set()
        self._reacting: dict[FlowKey, list[tuple[Flow, ReactingTrigger]]] = {}
        self._gathered: tuple[tuple[Flow, ReactingTrigger], ...] | None = ()
        self.is_loaded = False

    @property
    def reacting(self) -> tuple[tuple[Flow, ReactingTrigger], ...]:
        """The triggers that react to other executions, of flows that are enabled."""
        gathered = self._gathered
        if gathered is None:  # asked at each change of an execution, while flows change now and then
            with self._guard:
                gathered = self._gathered = tuple(pair for pairs in self._reacting.values() for pair in pairs)
        return gathered

    def find(self, key: FlowKey) -> Known | None:
        """What is known of a flow; None where there is none."""
        return self._known.get(key)

    def keep(self, flow: Flow) -> None:
        """Take note of a flow that was saved."""
        self._note((flow.namespace, flow.id), Known(flow.revision, flow if flow.triggers else None))

    def drop(self, namespace: str, flow_id: str) -> None:
        """Take note that a flow was deleted."""
        with self._guard:
            if self._known.pop((namespace, flow_id), None) is not None:
                self._changed[namespace, flow_id] = None
                self._react((namespace, flow_id), [])

    def disable(self, key: TriggerKey, *, disabled: bool) -> None:
        """Take note that a trigger was disabled, or enabled."""
        (self._disabled.add if disabled else self._disabled.discard)(key)

    def is_disabled(self, key: TriggerKey) -> bool:
        """Say whether somebody has disabled a trigger."""
        return key in self._disabled

    def take_changed(self) -> list[FlowKey]:
        """Flows that were saved or deleted since this was asked last."""
        with self._guard:
            changed, self._changed = list(self._changed), {}
        return changed

    async def refresh(self) -> None:
        """See what other processes have saved and deleted."""
        before = dict(self._known)
        disabled = {state.key for state in await self._store.triggers.all() if state.disabled}
        latest = await self._store.flows.latest()
        for saved in latest:
            key = saved.namespace, saved.id
            known = self._known.get(key)
            if known is None or known.revision < saved.revision:
                self._note(key, self._known_from(saved.source, saved.revision))
        self._disabled = disabled
        there = {(saved.namespace, saved.id) for saved in latest}
        for key, known in before.items():
            if key not in there and self._known.get(key) is known:
                self.drop(*key)
        self.is_loaded = True

    def _known_from(self, source: str, revision: int) -> Known:
        if "triggers" not in source:  # most flows have none, and reading a flow takes a while
            return Known(revision, None)
        try:
            flow = self._read(source)
        except InvalidFlowError:
            return Known(revision, None, is_valid=False)
        return Known(
            revision, msgspec.structs.replace(flow, revision=revision, source=source) if flow.triggers else None
        )

    def _note(self, key: FlowKey, known: Known) -> None:
        with self._guard:
            before = self._known.get(key)
            if before is not None and before.revision > known.revision:
                return
            self._known[key] = known
            if known.flow is not None or (before is not None and before.flow is not None):
                self._changed[key] = None
                self._react(key, [] if known.flow is None else _reacting(known.flow))

    def _react(self, key: FlowKey, pairs: list[tuple[Flow, ReactingTrigger]]) -> None:
        """Take note of which triggers of a flow react; the guard is held."""
        if pairs:
            self._reacting[key] = pairs
        elif self._reacting.pop(key, None) is None:
            return
        self._gathered = None


def _reacting(flow: Flow) -> list[tuple[Flow, ReactingTrigger]]:
    """Those of a flow's triggers that react to other executions."""
    if flow.disabled:
        return []
    return [
        (flow, trigger) for trigger in flow.triggers if isinstance(trigger, ReactingTrigger) and not trigger.disabled
    ]
