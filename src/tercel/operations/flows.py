"""What people do with several flows at once: replace those of a namespace, switch them off and on, delete them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from tercel.errors import InvalidFlowError
from tercel.machine.topology import Link, links
from tercel.model.condition import FlowName
from tercel.model.flow import Flow
from tercel.model.flow_text import with_property
from tercel.operations.evaluation import Evaluations
from tercel.store import FlowRevision


class FlowChanges(msgspec.Struct, frozen=True):
    """What became of several flows.

    Attributes:
        saved: each in its latest revision, whether it is new or was the same before.
        deleted: each in the revision that notes it.
    """

    saved: list[FlowRevision]
    deleted: list[FlowRevision]


class Flows(Evaluations):
    """Verbs for several flows."""

    def read_flow(self, source: str) -> Flow:
        """The flow that a text holds, as saving it reads it. Raises InvalidFlowError with every issue."""
        return self._read_flow(source)

    async def save_flows(
        self, flows: Sequence[Flow], obsolete: Callable[[FlowRevision], bool] = lambda _: False
    ) -> FlowChanges:
        """Save flows, and delete others: all in one step.

        Args:
            flows: with their sources; all of them are read, and so valid.
            obsolete: says which of the flows that are not among them are deleted.
        """
        kept = {(flow.namespace, flow.id) for flow in flows}
        there = await self.saved_flows()
        others = [one for one in there if (one.namespace, one.id) not in kept and obsolete(one)]
        return await self._change_flows(flows, ((one.namespace, one.id) for one in others))

    async def delete_flows(self, names: Iterable[tuple[str, str]]) -> list[FlowRevision]:
        """Delete flows by namespace and id, all in one step; those that are not there are passed over.

        Returns:
            The revisions that note it.
        """
        return (await self._change_flows((), names)).deleted

    async def _change_flows(self, flows: Sequence[Flow], obsolete: Iterable[tuple[str, str]]) -> FlowChanges:
        completed = [self._completed(flow) for flow in flows]
        sources = [(flow.namespace, flow.id, flow.source) for flow in completed]
        saved, deleted = await self._store.flows.change(sources, obsolete, self._clock())
        for flow, one in zip(completed, saved, strict=True):
            self._note_saved(replace(flow, revision=one.revision))
        for one in deleted:
            self._note_deleted(one.namespace, one.id)
        return FlowChanges(saved, deleted)

    async def flow_links(self) -> list[Link]:
        """Which flows start which; those that cannot be read any more start none."""
        saved = await self._store.flows.latest()
        flows: list[Flow] = []
        for one in saved:
            if "flowId" in one.source or ".Flow" in one.source:  # the others start none, and wait for none
                with suppress(InvalidFlowError):
                    flows.append((await self._flows.find(one.namespace, one.id, one.revision)).flow)
        return links(flows, [FlowName(one.namespace, one.id) for one in saved])

    async def set_flow_disabled(self, namespace: str, flow_id: str, *, disabled: bool) -> bool:
        """Switch a flow off or on, in its text; False where it was so before.

        Raises:
            NotFoundError: there is no such flow.
            InvalidFlowError: it cannot be read any more.
        """
        saved = await self.saved_flow(namespace, flow_id)
        if self._read_flow(saved.source).disabled is disabled:
            return False
        source = with_property(saved.source, "disabled", "true" if disabled else "false")
        await self.save_flow(source, self._read_flow(source))
        return True

    async def remove_revisions(self, namespace: str, flow_id: str, revisions: Collection[int]) -> int:
        """Remove old revisions of a flow, and give how many were there.

        Raises:
            NotFoundError: there is no such flow.
            ConflictError: one is the latest, or an execution runs it; nothing was removed.
        """
        await self.saved_flow(namespace, flow_id)
        return await self._store.flows.remove_revisions(namespace, flow_id, revisions)
