"""Real processes that run flows whose tasks leave traces, and what came of them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tercel.model import Execution, TaskRun
from tercel.server import Home, read_home
from tercel.settings import Settings, read_settings
from tercel.store import ExecutionQuery
from tests.command_line import command, environment
from tests.flows import CORE, Node, echo, flow, for_each, sh, wd
from tests.homes import until

TURNS = ["first", "loop", "directory", "again", "both", "last"]
"""The flow's tasks that leave traces, in the order in which they may start."""


def traced_flow(flow_id: str, trace: Path) -> str:
    """Script tasks of every kind, each of which adds a line to the file *trace* as it starts."""

    def marked(turn: str, name: str, *commands: str, **properties: Any) -> Node:
        words = f"{turn} {name} '{{{{ taskrun.value ?? '-' }}}}' {{{{ taskrun.id }}}} {{{{ taskrun.attemptsCount }}}}"
        return sh(name, f"echo {words} >> {trace}", *commands, **properties)

    return flow(
        marked("first", "first", """echo '::{"outputs":{"word":"hello"}}::'"""),
        for_each(
            "loop",
            ["a", "b", "c"],
            marked("loop", "one", "sleep 0.02"),
            marked("loop", "two"),
            concurrencyLimit=2,
        ),
        wd(
            marked("directory", "made", "echo {{ outputs.first.vars.word }} > file"),
            marked("directory", "read", "sh -c 'sleep 0.02; cat file' > copy", "grep -q hello copy"),
        ),
        marked(
            "again",
            "again",
            "test {{ taskrun.attemptsCount }} -ge 1",
            retry={"type": "constant", "interval": "PT0.05S", "maxAttempts": 4},
        ),
        echo("said", "{{ outputs.first.vars.word }} {{ outputs.again.exitCode }}"),
        {
            "id": "both",
            "type": f"{CORE}.flow.Parallel",
            "tasks": [marked("both", "left", "sleep 0.01"), marked("both", "right")],
        },
        marked("last", "last"),
        id=flow_id,
        outputs=[{"id": "said", "type": "STRING", "value": "{{ outputs.said.value }}"}],
    )


class Running:
    """`tercel run` of a traced flow, in a process of its own."""

    def __init__(self, folder: Path, home: Path, flow_id: str) -> None:
        self.flow_id = flow_id
        self.home = home
        self.trace = folder / f"{flow_id}.trace"
        self.path = folder / f"{flow_id}.yaml"
        self.path.write_text(traced_flow(flow_id, self.trace))
        self.process = start("run", self.path, home=home)

    def until_at_work(self) -> None:
        """Until the engine is open; the flow starts within milliseconds."""
        until(lambda: self.process.poll() is not None or is_at_work(self.home, self.process))

    def steps(self) -> list[list[str]]:
        """The lines of the trace: turn, task, value, task run, attempt."""
        return [line.split() for line in self.trace.read_text().splitlines()] if self.trace.exists() else []


def start(*arguments: object, home: Path) -> subprocess.Popen[str]:
    """A command in a process of its own, silent."""
    return subprocess.Popen(
        command(*arguments),
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_at_work(home: Path, process: subprocess.Popen[str]) -> bool:
    """True where a process has its engine open."""
    return any((home / "processes").glob(f"*-{process.pid}-*.lock"))


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """kill -9 after a while; False where it ended by itself before."""
    time.sleep(seconds)
    was_alive = process.poll() is None
    process.kill()
    process.communicate()
    return was_alive


def settings_of(home: Path) -> Settings:
    return read_settings({}, home=home)


def executions(home: Path, flow_id: str | None = None) -> list[Execution]:
    """Those in a home; none where nothing was run in it yet."""
    if not (home / "tercel.db").exists():
        return []
    with read_home(settings_of(home)) as looked_at:
        query = ExecutionQuery(flow_id=flow_id, limit=1000)
        return looked_at.call(looked_at.queries.search_executions(query))


def shape(home: Path, execution: Execution) -> dict[str, Any]:
    """How an execution ended, without what differs from one run of a flow to the next."""
    with read_home(settings_of(home)) as looked_at:
        return shape_of(looked_at, execution)


def shape_of(home: Home, execution: Execution) -> dict[str, Any]:
    """As `shape`, in an open home."""
    runs = home.call(home.queries.task_runs(execution.id))
    names = {run.id: f"{run.task_id}:{run.value}" for run in runs}
    text = json.dumps({"outputs": execution.outputs, "runs": sorted(_shape(run, names) for run in runs)})
    for run_id, name in {execution.id: "execution", **names}.items():
        text = text.replace(run_id, name)
    return {"state": execution.state, "message": execution.message, **json.loads(text)}


def _shape(run: TaskRun, names: dict[str, str]) -> list[Any]:
    attempts = [attempt.state.value for attempt in run.attempts]
    parent = names.get(run.parent_id or "", "")
    return [names[run.id], parent, run.state.value, attempts, run.message, json.dumps(run.outputs, sort_keys=True)]


def assert_in_turn(steps: Sequence[Sequence[str]], undisturbed: Sequence[Sequence[str]]) -> None:
    """Everything was started at least as often as without a disturbance, and nothing after something later."""
    started = [(task, value, attempt) for _, task, value, _, attempt in steps]
    assert set(started) == {(task, value, attempt) for _, task, value, _, attempt in undisturbed}
    turns = [TURNS.index(turn) for turn, *_ in steps]
    assert turns == sorted(turns), steps
    for letter in "abc":
        lane = [task for _, task, value, *_ in steps if value == letter]
        assert lane == sorted(lane), steps
    ids = {(task, value): run_id for _, task, value, run_id, _ in steps}
    assert len({run_id for *_, run_id, _ in steps}) == len(ids), "a task run has two ids"
