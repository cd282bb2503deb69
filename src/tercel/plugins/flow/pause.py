"""Pause: waits for a person, or for some time."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import ClassVar, Literal, cast

from tercel.errors import UserError
from tercel.machine.flowable import Decision, Hold, PausingTask, Render
from tercel.model.catalog import plugin
from tercel.model.duration import parse_duration
from tercel.model.input_types import Input
from tercel.model.inputs import input_problems
from tercel.model.state import State
from tercel.model.task import DynamicDuration, Problem, Task

Behavior = Literal["RESUME", "WARN", "FAIL", "CANCEL"]


@plugin("io.kestra.plugin.core.flow.Pause", aliases=["io.kestra.core.tasks.flows.Pause"])
class Pause(PausingTask, frozen=True, kw_only=True):
    """Wait until somebody resumes the execution, or for some time.

    Other branches of the flow go on meanwhile.

    Attributes:
        pause_duration: how long to wait at most; for as long as nobody resumes it without one.
        delay: former name of `pauseDuration`.
        timeout: how long to wait at most before it fails, unless `behavior` says otherwise.
        behavior: what happens after that time: RESUME goes on, WARN goes on and ends in WARNING, FAIL fails,
            CANCEL cancels the execution.
        on_resume: what whoever resumes it has to give; seen as `outputs.<id>.onResume`.
        tasks: run after it was resumed.

    Outputs:
        onResume: what was given.

    Example:
        tasks:
          - id: approval
            type: io.kestra.plugin.core.flow.Pause
            pauseDuration: PT0.5S
            behavior: RESUME
            onResume:
              - id: reason
                type: STRING
                defaults: Nobody was there.
          - id: send
            type: io.kestra.plugin.core.log.Log
            message: It goes on.
    """

    deprecated: ClassVar[Mapping[str, str]] = {"tasks": "Write the tasks after the Pause."}

    pause_duration: DynamicDuration | None = None
    delay: DynamicDuration | None = None
    behavior: Behavior | None = None
    on_resume: list[Input] = []
    tasks: list[Task] = []

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the inputs that it asks for."""
        yield from input_problems(self.on_resume, "onResume")

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks."""
        return {"tasks": self.tasks}

    def decide(self, render: Render) -> Decision:
        """Render the durations; the shorter one counts."""
        waits: list[tuple[timedelta, Behavior]] = []
        for name, written, then in (
            ("pauseDuration", self.pause_duration, "RESUME"),
            ("delay", self.delay, "RESUME"),
            ("timeout", self.timeout, "FAIL"),
        ):
            text = "" if written is None else render(written)
            if not text:
                continue
            try:
                waits.append((parse_duration(text), self.behavior or cast("Behavior", then)))
            except ValueError as error:
                raise UserError(f"The `{name}` of task {self.id!r} is no duration: {error}.") from error
        if not waits:
            return Decision()
        after, then = min(waits, key=lambda one: one[0])
        return Decision(plan={"after_s": after.total_seconds(), "then": then})

    def hold(self, decision: Decision) -> Hold:
        """As decided."""
        plan = cast("Mapping[str, object]", decision.plan or {})
        if "after_s" not in plan:
            return Hold()
        return Hold(after=timedelta(seconds=cast("float", plan["after_s"])), then=cast("Behavior", plan["then"]))

    def warned(self, decision: Decision) -> Decision:
        """Ends in WARNING."""
        return Decision(outputs=decision.outputs, plan={**cast("Mapping[str, object]", decision.plan), "warned": True})

    def resolve(self, state: State, decision: Decision) -> State:
        """A warning where nobody came in time."""
        plan = cast("Mapping[str, object]", decision.plan or {})
        return State.WARNING if state is State.SUCCESS and plan.get("warned") else state
