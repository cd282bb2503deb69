"""The examples of types, and a home with what they take to be there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from tercel.model import Execution
from tercel.model.schema import classes, example_flow
from tercel.model.source import read_flow
from tercel.model.task import Part
from tercel.model.trigger import Trigger
from tercel.plugins import catalog
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery
from tests.homes import Home, Ran

PREFIX = "io.kestra.plugin."
TYPES: Mapping[str, type[Part]] = {part.plugin_type.removeprefix(PREFIX): part for part in classes(catalog())}
"""Every type that tercel has, by its name without what all names begin with."""

SERVICES = ("aws.", "core.http.", "git.", "mongodb.")
"""How the names of types begin that need a service."""

BESIDE = {
    "greet": """
        inputs:
          - {id: name, type: STRING, defaults: Ada}
        outputs:
          - {id: text, type: STRING, value: "Hello {{ inputs.name }}"}
        tasks:
          - {id: say, type: io.kestra.plugin.core.log.Log, message: "Hello {{ inputs.name }}"}
    """,
    "load_orders": """
        labels: {team: sales}
        outputs:
          - {id: rows, type: INT, value: 12}
        tasks:
          - id: load
            type: io.kestra.plugin.core.execution.Fail
            condition: "{{ taskrun.attemptsCount == 0 }}"
            retry: {type: constant, interval: PT0.01S, maxAttempts: 2}
    """,
    "wait_for_approval": """
        tasks:
          - {id: wait, type: io.kestra.plugin.core.flow.Pause}
    """,
}
"""Flows of the namespace company.team that examples name."""

TEMPLATE = """
id: greeting
namespace: company.team
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: "Hello {{ parent.outputs.args.name }}"}
"""


def beside(name: str) -> str:
    """One of these flows, whole."""
    return f"id: {name}\nnamespace: company.team\n{dedent(BESIDE[name])}"


def names(holds: Callable[[type[Part]], bool]) -> list[str]:
    """The types for which *holds* does, without those that need a service."""
    return [name for name, part in TYPES.items() if holds(part) and not name.startswith(SERVICES)]


def triggers_of(name: str) -> Sequence[Trigger]:
    return read_flow(example_flow(TYPES[name]), catalog()).triggers


class ExampleHome(Home):
    """A home with what examples take to be there; scripts run without containers, unless *has_containers*."""

    def __init__(self, root: Path, *, has_containers: bool = False) -> None:
        super().__init__(root)
        self._task_runner = "" if has_containers else "process"
        templates = root / "templates"
        templates.mkdir(parents=True)
        (templates / "greeting.yaml").write_text(TEMPLATE)
        for name in BESIDE:
            self.save(beside(name))

    @property
    def settings(self) -> Settings:
        environment = {
            "TERCEL_LAYERS": os.environ.get("TERCEL_LAYERS", ""),
            "TERCEL_TASK_RUNNER": self._task_runner,
            "TERCEL_TEMPLATES": str(self.root / "templates"),
        }
        return read_settings(environment, home=self.root, slots=16)

    def save(self, text: str) -> None:
        self.engine.call(self.engine.operations.save_flow(text, read_flow(text, catalog())))

    def run_example(self, name: str, text: str = "") -> Ran:
        """Run the example of a type, or *text* in its place, under an id of its own."""
        text = text or example_flow(TYPES[name])
        return self.run(text.replace("id: example\n", f"id: {re.sub(r'[^a-z]+', '-', name.lower())}\n", 1))

    def executions(self, flow_id: str) -> list[Execution]:
        found = self.engine.queries.search_executions(ExecutionQuery(flow_id=flow_id, limit=100))
        return list(self.engine.call(found))
