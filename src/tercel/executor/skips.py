"""Which executions an executor leaves alone: the way out where it cannot cope with one, until that is mended. Pure."""

import msgspec

from tercel.model.execution import Execution


class Skips(msgspec.Struct, frozen=True):
    """What is left alone.

    Attributes:
        executions: their ids.
        flows: all executions of these, by NAMESPACE.ID.
        namespaces: all executions in these, and not in those below them.
    """

    executions: frozenset[str] = frozenset()
    flows: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def has(self, execution: Execution) -> bool:
        """Whether an execution is left alone.

        Example:
            >>> of_a_flow = Execution(id="5", namespace="company.team", flow_id="load", revision=1, history=())
            >>> Skips(flows=frozenset({"company.team.load"})).has(of_a_flow)
            True
            >>> Skips(namespaces=frozenset({"company"})).has(of_a_flow)
            False
        """
        return (
            execution.id in self.executions
            or f"{execution.namespace}.{execution.flow_id}" in self.flows
            or execution.namespace in self.namespaces
        )

    def __bool__(self) -> bool:
        return bool(self.executions or self.flows or self.namespaces)
