"""Executions that web requests start: which webhook has the key, whether its conditions hold, what it hands over."""

from collections.abc import Mapping, Sequence
from time import monotonic

import msgspec

from tercel.errors import ConflictError, NotFoundError, UserError
from tercel.expression import render
from tercel.model.condition import ConditionContext, FlowName
from tercel.model.execution import Execution
from tercel.model.flow import Flow
from tercel.model.trigger import RequestedTrigger
from tercel.operations.flows import Flows
from tercel.operations.starts import new_execution_id


class WebRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A web request that asks for an execution.

    Attributes:
        key: that it knows.
        body: as text.
        headers: every value by name.
        parameters: of its address, every value by name.
    """

    key: str
    body: str = ""
    headers: Mapping[str, Sequence[str]] = {}
    parameters: Mapping[str, Sequence[str]] = {}


class Webhooks(Flows):
    """The verb of web requests."""

    async def start_by_request(self, namespace: str, flow_id: str, request: WebRequest) -> Execution | None:
        """Start an execution for a web request.

        Returns:
            The execution as it was saved; None where the conditions of the webhook do not hold.

        Raises:
            NotFoundError: there is no such flow, or none of its webhooks has the key.
            InvalidFlowError: the flow cannot be read any more.
            DisabledFlowError: the flow is disabled.
            ConflictError: the webhook is disabled.
            InvalidInputError: the flow needs inputs, which a webhook has none of.
        """
        unknown = NotFoundError(f"There is no webhook of {namespace}.{flow_id} with this key.")
        try:
            flow = await self.get_flow(namespace, flow_id)
        except NotFoundError:
            raise unknown from None
        trigger = self._with_key(flow, request.key)
        if trigger is None:
            raise unknown
        state = await self._store.triggers.get(namespace, flow_id, trigger.id)
        if not flow.disabled and (trigger.disabled or (state is not None and state.disabled)):
            raise ConflictError(f"The webhook {trigger.id!r} of {namespace}.{flow_id} is disabled.", "Enable it first.")
        variables = trigger.variables(request.body, request.headers, request.parameters)
        seen = {"id": trigger.id, "type": trigger.type, **variables}
        execution = self.prepare(
            flow,
            {},
            execution_id=new_execution_id(),
            labels=self._labels(flow, trigger, seen),
            trigger={"id": trigger.id, "type": trigger.type, "variables": variables},
        )
        if not self._holds(flow, trigger, execution, seen):
            return None
        await self._executor.create(execution)
        return execution

    def _with_key(self, flow: Flow, given: str) -> RequestedTrigger | None:
        """The webhook that has the key; all are looked at, so that the time tells nothing."""
        found: RequestedTrigger | None = None
        for trigger in flow.triggers:
            if isinstance(trigger, RequestedTrigger):
                try:
                    key = self._rendered(flow, trigger.key or "", {})
                except UserError:
                    key = ""
                if trigger.admits(key, given):
                    found = found or trigger
        return found

    def _holds(self, flow: Flow, trigger: RequestedTrigger, execution: Execution, seen: Mapping[str, object]) -> bool:
        """Say whether the conditions hold; one that cannot be told does not."""
        context = ConditionContext(
            flow=FlowName(flow.namespace, flow.id),
            render=lambda text, extra: self._rendered(flow, text, {"trigger": seen, **extra}, execution),
            date=execution.history[0].date,
            execution=execution,
        )
        try:
            return trigger.holds_for(context)
        except UserError:
            return False

    def _labels(self, flow: Flow, trigger: RequestedTrigger, seen: Mapping[str, object]) -> dict[str, str]:
        """The labels of the webhook; one that cannot be rendered is left out."""
        labels: dict[str, str] = {}
        for key, value in trigger.labels.items():
            try:
                labels[key] = self._rendered(flow, value, {"trigger": seen})
            except UserError:
                continue
        return labels

    def _rendered(
        self, flow: Flow, text: str, variables: Mapping[str, object], execution: Execution | None = None
    ) -> str:
        nobody = Execution(id="", namespace=flow.namespace, flow_id=flow.id, revision=flow.revision, history=())
        seen = {
            **self._surroundings,
            "flow": {"id": flow.id, "namespace": flow.namespace, "revision": flow.revision},
            "vars": flow.variables,
            **variables,
        }
        return str(render(text, seen, self._functions(execution or nobody), clock=monotonic))
