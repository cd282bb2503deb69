"""How executions ended, for people."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TextIO, cast

import click

from tercel.cli.live_view import begun_at, duration_text, printable
from tercel.model.execution import Execution, TaskRun
from tercel.model.json_form import stored_files
from tercel.model.logs import Metric
from tercel.model.state import State
from tercel.server import Engine, Home

_MOST_SHOWN = 2000
_MOST_ROWS = 100


def result_of(engine: Engine, execution_id: str) -> tuple[Execution, list[TaskRun], list[Metric]]:
    """An execution as it is, its task runs and its metrics, its log being written."""
    execution = engine.call(engine.queries.get_execution(execution_id))
    runs = engine.call(engine.queries.task_runs(execution_id))
    return execution, runs, engine.call(engine.queries.metrics(execution_id))


def summarise(
    out: TextIO, home: Home, execution: Execution, runs: Sequence[TaskRun], metrics: Sequence[Metric]
) -> None:
    """Print how an execution ended and what came of it, for people."""
    click.echo(f"\n{ended_text(execution)}", file=out)
    if execution.message:
        click.echo(printable(execution.message), file=out)
    for run_ in runs:
        if run_.state is State.FAILED and run_.message:
            click.echo(f"  {run_.task_id}: {printable(run_.message)}", file=out)
    if execution.outputs:
        _list(out, "Outputs", {name: _text(value) for name, value in execution.outputs.items()})
    of_tasks = {name: value for run_ in runs for name, value in _plain_outputs(run_)}
    if of_tasks:
        _list(out, "Outputs of tasks", of_tasks)
    if metrics:
        _list(out, "Metrics", {f"{one.task_id}.{one.name}": f"{one.value:g} ({one.type})" for one in metrics})
    found = stored_files(runs)
    if found:
        _list(out, "Files", {name: str(home.storage.path_of(uri)) for name, uri in found.items()})


def ended_text(execution: Execution) -> str:
    """How an execution ended, for people, and how long it took since it began or was restarted."""
    took = duration_text(execution.history[-1].date - begun_at(execution.history))
    colour = {State.SUCCESS: "green", State.WARNING: "yellow", State.PAUSED: "yellow"}.get(execution.state, "red")
    when = "in" if execution.state.is_terminal else "after"
    return f"{click.style(execution.state.value, fg=colour, bold=True)} {when} {took}, execution {execution.id}"


def _plain_outputs(run_: TaskRun) -> list[tuple[str, str]]:
    """Outputs for people: values that are neither empty nor stored files."""
    name = run_.task_id if run_.value is None else f"{run_.task_id}[{run_.value}]"
    shown: list[tuple[str, str]] = []
    for key, value in run_.outputs.items():
        if key in {"exitCode", "taskRunner"} or _is_files(value):
            continue
        shown.append((f"{name}.{key}", _text(value)))
    return shown


def _is_files(value: object) -> bool:
    if isinstance(value, str):
        return value.startswith("kestra://")
    if isinstance(value, Mapping):
        return all(_is_files(item) for item in cast("Mapping[str, object]", value).values())
    return value is None


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}… ({len(text):,} characters)"


def _list(out: TextIO, title: str, rows: Mapping[str, str]) -> None:
    shown = dict(islice(rows.items(), _MOST_ROWS))
    width = min(max(map(len, shown)), 48)
    lines = "".join(f"  {printable(name):<{width}}  {printable(value)}\n" for name, value in shown.items())
    if len(rows) > len(shown):
        lines += f"  … and {len(rows) - len(shown):,} more; --json prints all\n"
    click.echo(f"\n{title}:\n{lines}", file=out, nl=False)
