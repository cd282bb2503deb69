"""Flowables that choose what runs: If, Switch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec

from tercel.machine.flowable import Decision, FlowableTask, Lanes, Render
from tercel.model.catalog import plugin
from tercel.model.task import Dynamic, Problem, Task


@plugin("io.kestra.plugin.core.flow.If", aliases=["io.kestra.core.tasks.flows.If"])
class If(FlowableTask, frozen=True, kw_only=True):
    """Run `then` when a condition holds, `else` when it does not.

    The rendered condition is false when it is empty, `false`, `0` or `-0`; anything else is true.

    Attributes:
        condition: rendered once, when the task starts.

    Outputs:
        evaluationResult: whether the condition held.

    Example:
        inputs:
          - id: amount
            type: INT
            defaults: 120
        tasks:
          - id: large
            type: io.kestra.plugin.core.flow.If
            condition: "{{ inputs.amount > 100 }}"
            then:
              - id: ask
                type: io.kestra.plugin.core.log.Log
                message: Somebody has to look at it.
            else:
              - id: accept
                type: io.kestra.plugin.core.log.Log
                message: Accepted.
    """

    condition: Dynamic
    then: Annotated[list[Task], msgspec.Meta(min_length=1, extra={"code": "if.then.empty"})]
    else_: list[Task] = msgspec.field(default_factory=list[Task], name="else")

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """`then` and `else`."""
        return {"then": self.then, "else": self.else_}

    def decide(self, render: Render) -> Decision:
        """Render the condition."""
        from tercel.expression import is_truthy_text  # noqa: PLC0415  # a flow without a condition does not pay for it

        return Decision(outputs={"evaluationResult": is_truthy_text(render(self.condition))})

    def lanes(self, decision: Decision) -> Lanes:
        """The branch that the condition chose."""
        return Lanes(branch="then" if decision.outputs["evaluationResult"] else "else")


@plugin(
    "io.kestra.plugin.core.flow.Switch",
    aliases=["io.kestra.core.tasks.flows.Switch", "io.kestra.plugin.core.flows.Switch"],
)
class Switch(FlowableTask, frozen=True, kw_only=True):
    """Run the tasks of the case that equals a value; `defaults` when none does.

    Attributes:
        value: rendered once, when the task starts.

    Outputs:
        value: the rendered value.
        defaults: whether no case equals it.

    Example:
        inputs:
          - id: country
            type: STRING
            defaults: FR
        tasks:
          - id: language
            type: io.kestra.plugin.core.flow.Switch
            value: "{{ inputs.country }}"
            cases:
              FR:
                - id: french
                  type: io.kestra.plugin.core.log.Log
                  message: Bonjour
              DE:
                - id: german
                  type: io.kestra.plugin.core.log.Log
                  message: Guten Tag
            defaults:
              - id: english
                type: io.kestra.plugin.core.log.Log
                message: Hello
    """

    value: Dynamic
    cases: dict[str, list[Task]] = {}
    defaults: list[Task] = []

    def problems(self) -> Iterator[Problem]:
        """A Switch without a single task chooses nothing."""
        if not self.defaults and not any(self.cases.values()):
            yield Problem("The Switch has no tasks.", "Add 'cases' or 'defaults'.", "switch.empty", ("cases",))

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """Each case, and `defaults`."""
        return {**{_case(text): tasks for text, tasks in self.cases.items()}, "defaults": self.defaults}

    def decide(self, render: Render) -> Decision:
        """Render the value."""
        value = render(self.value)
        return Decision(outputs={"value": value, "defaults": value not in self.cases})

    def lanes(self, decision: Decision) -> Lanes:
        """The case that the value chose."""
        return Lanes(branch="defaults" if decision.outputs["defaults"] else _case(str(decision.outputs["value"])))


def _case(text: str) -> str:
    return f"case {text}"
