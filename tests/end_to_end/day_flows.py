"""The twenty flows of a day, and what each of their executions is to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.flows import CORE, Node, as_yaml, echo, for_each, sh, wd
from tests.triggers import condition, flow_trigger, poll, schedule

NAMESPACE = "company.day"


class DayFlow(NamedTuple):
    """A flow of the day.

    Attributes:
        tasks: as in the YAML.
        triggers: as in the YAML.
        is_serial: no two of its script tasks run at once, as it has one trigger that starts one execution at a time.
        gap_s: between two posts to its webhook; zero where it has none.
    """

    id: str
    tasks: Sequence[Node]
    triggers: Sequence[Node] = ()
    is_serial: bool = True
    gap_s: float = 0.0

    @property
    def text(self) -> str:
        """Its YAML."""
        return as_yaml(
            {"id": self.id, "namespace": NAMESPACE, "tasks": list(self.tasks), "triggers": list(self.triggers)}
        )

    @property
    def key(self) -> str:
        """What its webhook wants to be told."""
        return f"key-of-{self.id}"

    @property
    def runs(self) -> Counter[str]:
        """How many task runs of each task an execution has in the end."""
        return _runs(self.tasks)

    @property
    def scripts(self) -> Counter[str]:
        """How many of them are scripts that leave a line."""
        return Counter({node["id"]: count for node, count in _counted(self.tasks) if "commands" in node})


def step_of(trigger: Node) -> timedelta:
    """From one date of a schedule of the day to the next."""
    return timedelta(seconds=int(trigger["cron"].split()[0].removeprefix("*/")))


def flows(address: str, lines: Path) -> list[DayFlow]:
    """The flows.

    Args:
        address: of the server that the polls ask.
        lines: the file to which each script adds a line.
    """

    def line(id: str, *commands: str) -> Node:
        return sh(id, f"echo {{{{ execution.id }}}} {{{{ taskrun.id }}}} {id} >> {lines}", *commands)

    def both(*tasks: Node) -> Node:
        return {"id": "both", "type": f"{CORE}.flow.Parallel", "tasks": list(tasks)}

    directory = wd(line("make", "echo made > made"), line("read", "grep -q made made"))
    subflow = {
        "id": "call",
        "type": f"{CORE}.flow.Subflow",
        "namespace": NAMESPACE,
        "flowId": "target",
        "wait": True,
        "transmitFailed": True,
    }
    said = """echo '::{"outputs":{"word":"hello"}}::'"""
    date = echo("date", "{{ trigger.date }}")
    body = echo("body", "{{ trigger.body }}")
    return [
        DayFlow("tick-two", [date], [_every(2)]),
        DayFlow("tick-three", [date, echo("again", "{{ outputs.date.value }}")], [_every(3)]),
        DayFlow("tick-script", [line("one"), date], [_every(4)]),
        DayFlow("tick-directory", [directory, date], [_every(5)]),
        DayFlow("tick-both", [both(date, line("aside"))], [_every(6)]),
        DayFlow("tick-twice", [date], [_every(10), _every(12)]),
        _hook("hook-plain", body, gap_s=0.6),
        _hook("hook-script", line("one"), gap_s=1.5),
        _hook("hook-both", both(body, echo("aside", "{{ execution.id }}"))),
        _hook("hook-subflow", subflow, body),
        _hook("hook-loop", for_each("loop", ["a", "b", "c"], echo("each", "{{ taskrun.value }}"))),
        _hook("hook-outputs", line("say", said), echo("said", "{{ outputs.say.vars.word }}"), gap_s=2.0),
        DayFlow("target", [echo("here", "{{ execution.id }}")], is_serial=False),
        _poll("poll-one", address, body),
        _poll("poll-two", address, body, echo("again", "{{ outputs.body.value }}")),
        _poll("poll-script", address, line("one")),
        _poll("poll-last", address),
        _after("after-tick", "tick-three"),
        _after("after-many", "hook-plain", "poll-one", "tick-twice"),
        _after("after-after", "after-tick"),
    ]


def _every(seconds: int) -> Node:
    return schedule(f"every-{seconds}", f"*/{seconds} * * * * *", withSeconds=True, recoverMissedSchedules="ALL")


def _hook(id: str, *tasks: Node, gap_s: float = 1.0) -> DayFlow:
    trigger = {"id": "hook", "type": f"{CORE}.trigger.Webhook", "key": f"key-of-{id}"}
    return DayFlow(id, tasks, [trigger], is_serial=False, gap_s=gap_s)


def _poll(id: str, address: str, *tasks: Node) -> DayFlow:
    """A flow that is started with a numbered event, and says at last that it has it."""
    taken = {
        "id": "taken",
        "type": f"{CORE}.http.Request",
        "uri": f"{address}/taken/{id}/{{{{ trigger.body }}}}",
        "method": "POST",
    }
    return DayFlow(id, [*tasks, taken], [poll(uri=f"{address}/next/{id}", interval="PT1S")])


def _after(id: str, *upstream: str) -> DayFlow:
    triggers = [
        flow_trigger(one, conditions=[condition("ExecutionFlow", namespace=NAMESPACE, flowId=one)]) for one in upstream
    ]
    return DayFlow(id, [echo("upstream", "{{ trigger.executionId }}")], triggers, is_serial=False)


def _counted(tasks: Sequence[Node], times: int = 1) -> list[tuple[Node, int]]:
    """All tasks, each with how often it runs."""
    found: list[tuple[Node, int]] = []
    for node in tasks:
        found.append((node, times))
        children: list[Any] = node.get("tasks", [])
        found += _counted(children, times * len(node.get("values", [None])))
    return found


def _runs(tasks: Sequence[Node]) -> Counter[str]:
    return Counter({node["id"]: count for node, count in _counted(tasks)})
