"""Subflow: runs another flow as a part of this one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, cast

from tercel.errors import UserError
from tercel.machine.flowable import ExecutableTask, RendersRequests, Request, Requests
from tercel.model.catalog import plugin
from tercel.model.state import State
from tercel.model.task import Dynamic, Labels


class StartsFlow(ExecutableTask, frozen=True, kw_only=True):
    """What all tasks share that start executions of one flow.

    Attributes:
        namespace: of the flow.
        flow_id: of the flow.
        revision: of the flow; the latest without one.
        inputs: for the flow.
        labels: for the executions, on top of the flow's.
        inherit_labels: they get the labels of this execution, too.
        schedule_date: they start then.
    """

    namespace: Dynamic
    flow_id: Dynamic
    revision: int | Dynamic | None = None
    inputs: dict[str, object] = {}
    labels: Labels = {}
    inherit_labels: bool = False
    schedule_date: Dynamic | None = None

    def request(self, context: RendersRequests, extra: Mapping[str, object] | None = None) -> Request:
        """What to start, rendered."""
        revision = context.render(str(self.revision), extra) if self.revision is not None else ""
        if revision and not revision.isdecimal():
            raise UserError(f"The `revision` of task {self.id!r} is {revision!r}, not a whole number.")
        at = context.render(self.schedule_date, extra) if self.schedule_date else ""
        return Request(
            namespace=context.render(self.namespace, extra),
            flow_id=context.render(self.flow_id, extra),
            revision=int(revision) if revision else None,
            inputs=cast("Mapping[str, object]", context.render_value(self.inputs, extra)),
            labels={key: context.render(value, extra) for key, value in self.labels.items()},
            inherit_labels=self.inherit_labels,
            schedule_date=self._instant(at) if at else None,
        )

    def _instant(self, text: str) -> datetime:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise UserError(f"The `scheduleDate` of task {self.id!r} is no date: {text!r}.") from error
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


@plugin(
    "io.kestra.plugin.core.flow.Subflow",
    aliases=["io.kestra.core.tasks.flows.Subflow", "io.kestra.core.tasks.flows.Flow"],
)
class Subflow(StartsFlow, frozen=True, kw_only=True):
    """Run another flow, as an execution of its own.

    Attributes:
        wait: end with it; otherwise as soon as it is started.
        transmit_failed: end in its state when that is FAILED, KILLED or WARNING; otherwise in SUCCESS.
        outputs: rendered with what the other flow's expressions see at its end; older form of the flow's own outputs.

    Outputs:
        executionId: the other execution's id.
        state: its state.
        outputs: its outputs.

    Example:
        tasks:
          - id: greet
            type: io.kestra.plugin.core.flow.Subflow
            namespace: company.team
            flowId: greet
            inputs:
              name: Grace
            labels:
              calledBy: "{{ flow.id }}"
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.greet.outputs.text }}"
    """

    deprecated: ClassVar[Mapping[str, str]] = {"outputs": "Give the other flow `outputs`."}

    outputs: dict[str, object] = {}

    def requests(self, context: RendersRequests) -> Requests:
        """One."""
        request = self.request(context)

        def one(index: int) -> Request:
            del index
            return request

        return Requests(1, one)

    def started(self, ids: Sequence[str], total: int, base_uri: str) -> Mapping[str, object]:
        """Its id."""
        del total, base_uri
        return {"executionId": ids[0], "state": State.CREATED.value}

    def counted(
        self,
        outputs: Mapping[str, object],
        states: Mapping[str, int],
        ended: State,
        child_outputs: Mapping[str, object],
    ) -> Mapping[str, object]:
        """Its state and outputs."""
        del states
        return {**outputs, "state": ended.value, "outputs": dict(child_outputs)}
