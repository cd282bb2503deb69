"""LoopUntil: rounds of tasks until a condition holds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, cast

import msgspec

from tercel.errors import UserError
from tercel.machine.flowable import Again, Decision, Lanes, LoopingTask, Render
from tercel.model.catalog import plugin
from tercel.model.duration import parse_duration
from tercel.model.size import parse_count
from tercel.model.task import Dynamic, DynamicDuration, Part, Task

_WAIT_FOR = ("PT1S", 100, "PT1H")
_LOOP_UNTIL = ("PT1M", None, None)


class CheckFrequency(Part, frozen=True, kw_only=True):
    """How often, and how long, a loop goes round.

    Attributes:
        interval: wait between two rounds; PT1M without it.
        max_iterations: rounds at most; no limit without it.
        max_duration: no further round starts when so much time has passed since the first; no limit without it.
    """

    interval: DynamicDuration | None = None
    max_iterations: Annotated[int, msgspec.Meta(ge=1)] | Dynamic | None = None
    max_duration: DynamicDuration | None = None


@plugin("io.kestra.plugin.core.flow.LoopUntil", aliases=["io.kestra.plugin.core.flow.WaitFor"])
class LoopUntil(LoopingTask, frozen=True, kw_only=True):
    """Run tasks again and again until a condition holds.

    The rows of a round are removed when the next one begins. Under its former name `WaitFor` the interval is PT1S and
    the limits are 100 rounds and PT1H where nothing is said.

    Attributes:
        condition: rendered after each round that went well; anything but an empty text, `false`, `0` and `-0` ends
            the loop.
        check_frequency: how often and how long.
        fail_on_max_reached: fail where a limit ends the loop.

    Outputs:
        iterationCount: how many rounds were begun.

    Example:
        tasks:
          - id: wait_for_it
            type: io.kestra.plugin.core.flow.LoopUntil
            condition: "{{ outputs.look.value == 'ready' }}"
            checkFrequency:
              interval: PT0.1S
              maxIterations: 10
            failOnMaxReached: true
            tasks:
              - id: look
                type: io.kestra.plugin.core.debug.Return
                format: "{{ outputs.wait_for_it.iterationCount < 3 ? 'not yet' : 'ready' }}"
    """

    tasks: Annotated[list[Task], msgspec.Meta(min_length=1)]
    condition: Dynamic
    check_frequency: CheckFrequency = CheckFrequency()
    fail_on_max_reached: bool = False

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks of one round."""
        return {"tasks": self.tasks}

    def decide(self, render: Render) -> Decision:
        """Render the frequency."""
        interval, most, longest = _WAIT_FOR if self.type.endswith("WaitFor") else _LOOP_UNTIL
        often = self.check_frequency
        plan = {
            "interval_s": self._seconds("interval", often.interval or interval, render),
            "most": self._number(often.max_iterations, render) or most,
            "longest_s": self._seconds("maxDuration", often.max_duration or longest, render),
            "before": 0,
        }
        return Decision(outputs={"iterationCount": 1}, plan=plan)

    def _seconds(self, name: str, written: str | None, render: Render) -> float | None:
        text = render(written) if written else ""
        try:
            return parse_duration(text).total_seconds() if text else None
        except ValueError as error:
            raise UserError(f"The `checkFrequency.{name}` of task {self.id!r} is no duration: {error}.") from error

    def _number(self, written: object, render: Render) -> int | None:
        text = render(written) if isinstance(written, str) else written
        if text is None or text == "":
            return None
        try:
            return parse_count(str(text))
        except ValueError:
            message = f"The `checkFrequency.maxIterations` of task {self.id!r} is {text!r}, not a whole number."
            raise UserError(message) from None

    def lanes(self, decision: Decision) -> Lanes:
        """One row of tasks, in each round."""
        return Lanes(round=_rounds(decision) - 1)

    def again(self, decision: Decision, render: Render, spent: timedelta) -> Again:
        """Look at the condition, then at the limits."""
        from tercel.expression import is_truthy_text  # noqa: PLC0415  # a flow without a condition does not pay for it

        if is_truthy_text(render(self.condition)):
            return Again()
        plan = cast("Mapping[str, float | None]", decision.plan)
        rounds = _rounds(decision) - int(plan["before"] or 0)
        most, longest_s = plan["most"], plan["longest_s"]
        reached = ""
        if most is not None and rounds >= most:
            reached = f"the condition did not hold after {rounds} rounds"
        elif longest_s is not None and spent.total_seconds() >= longest_s:
            reached = f"the condition did not hold after {timedelta(seconds=longest_s)}"
        if reached:
            return Again(failure=f"The loop {self.id!r} is over: {reached}." if self.fail_on_max_reached else "")
        return Again(after=timedelta(seconds=plan["interval_s"] or 0))

    def next_round(self, decision: Decision) -> Decision:
        """One more."""
        return Decision(outputs={"iterationCount": _rounds(decision) + 1}, plan=decision.plan)

    def afresh(self, decision: Decision) -> Decision:
        """Rounds before the restart do not count for the limit."""
        plan = cast("Mapping[str, object]", decision.plan)
        return Decision(outputs=decision.outputs, plan={**plan, "before": _rounds(decision) - 1})


def _rounds(decision: Decision) -> int:
    return cast("int", decision.outputs["iterationCount"])
