"""`tercel run`: one flow, here and now."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import click

from tercel.cli.live_view import LiveView, duration_text
from tercel.cli.options import home_option, pairs, settings_of
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.json_form import duration_of, execution_json, metric_json, stored_files
from tercel.model.logs import Metric
from tercel.model.source import check_flow
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.operations import new_execution_id
from tercel.plugins import catalog
from tercel.server import Engine, Home, open_home
from tercel.storage.namespace_files import FolderNamespaceFiles, NamespaceFiles

_REFUSED = 2
_INTERRUPTED = 130
_MOST_SHOWN = 2000


@click.command()
@click.argument("flow_file", metavar="FLOW.yaml", type=click.Path(path_type=Path))
@click.option("--input", "inputs", multiple=True, metavar="ID=VALUE", callback=pairs("--input"), help="An input.")
@click.option("--file", "files", multiple=True, metavar="ID=PATH", callback=pairs("--file"), help="A FILE input.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", callback=pairs("--label"), help="A label.")
@click.option(
    "--namespace-files",
    "folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take namespace files from this folder.",
)
@click.option(
    "--task-runner", type=click.Choice(["process"]), help="Run every script this way, whatever the flow says."
)
@click.option(
    "--log-level", type=click.Choice(list(LogLevel), case_sensitive=False), default=LogLevel.INFO, help="Lines to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, and nothing else.")
@home_option
def run(
    flow_file: Path,
    inputs: dict[str, str],
    files: dict[str, str],
    labels: dict[str, str],
    folder: Path | None,
    task_runner: str | None,
    log_level: str,
    as_json: bool,
    home: Path | None,
) -> None:
    """Run the flow in FLOW.yaml to its end.

    Exit code 0 for SUCCESS and WARNING, 1 for FAILED and KILLED, 2 for a flow or input that is refused. Ctrl-C kills
    the execution cleanly; a second one ends everything at once.
    """
    source, flow = _read(flow_file)
    settings = settings_of(home, task_runner=task_runner)
    engine = open_home(settings, namespace_files=_from_folder(folder), on_wait=_tell)
    try:
        execution_id = new_execution_id()
        view = LiveView(execution_id, min_level=LogLevel(log_level.upper()))
        stop = engine.watch() if as_json else engine.watch(view.changed, view.logged)
        saved = engine.call(engine.operations.save_flow(source, flow))
        paths = {name: Path(path) for name, path in files.items()}
        engine.call(engine.operations.start(saved, inputs, files=paths, labels=labels, execution_id=execution_id))
        execution = _wait(engine, execution_id)
        runs = engine.call(engine.queries.task_runs(execution_id))
        metrics = engine.call(engine.queries.metrics(execution_id))
        stop()
        view.close()
        if as_json:
            shown = execution_json(execution, runs) | {"metrics": [metric_json(metric) for metric in metrics]}
            click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        else:
            _summarise(engine, execution, runs, metrics)
    finally:
        engine.close()
    sys.exit(0 if execution.state in {State.SUCCESS, State.WARNING} else 1)


def _read(flow_file: Path) -> tuple[str, Flow]:
    """The flow's text and model; one that is refused ends the program with all its issues told."""
    try:
        source = flow_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise click.UsageError(f"{flow_file} cannot be read: {reason}.") from error
    checked = check_flow(source, catalog())
    for warning in checked.warnings:
        click.echo(f"Warning: {flow_file}: {warning.text}", err=True)
    if checked.flow is None or checked.issues:
        from tercel.cli.flow import show_checked  # noqa: PLC0415  # only a refused flow needs it

        show_checked(checked, flow_file)
        sys.exit(_REFUSED)
    return source, checked.flow


def _from_folder(folder: Path | None) -> "_Folder | None":
    return None if folder is None else _Folder(folder)


class _Folder:
    """Serves every namespace from one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, namespace: str) -> NamespaceFiles:
        return FolderNamespaceFiles(self._folder, namespace)


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def _wait(engine: Engine, execution_id: str) -> Execution:
    """Wait for the end; Ctrl-C kills the execution, a second one everything at once."""
    try:
        return engine.call(engine.operations.wait(execution_id))
    except KeyboardInterrupt:
        click.echo("\nKilling the execution; press Ctrl-C again to end at once.", err=True)
    try:
        engine.call(engine.operations.kill(execution_id))
        return engine.call(engine.operations.wait(execution_id))
    except KeyboardInterrupt:
        # Nothing is waited for: the watchdog ends what runs, and whoever opens the home next finds what is left.
        os._exit(_INTERRUPTED)


def _summarise(home: Home, execution: Execution, runs: Sequence[TaskRun], metrics: Sequence[Metric]) -> None:
    took = duration_text(duration_of(execution.history))
    colour = {State.SUCCESS: "green", State.WARNING: "yellow"}.get(execution.state, "red")
    state = click.style(execution.state.value, fg=colour, bold=True)
    click.echo(f"\n{state} in {took}, execution {execution.id}")
    if execution.message:
        click.echo(execution.message)
    for run_ in runs:
        if run_.state is State.FAILED and run_.message:
            click.echo(f"  {run_.task_id}: {run_.message}")
    if execution.outputs:
        _list("Outputs", {name: _text(value) for name, value in execution.outputs.items()})
    of_tasks = {name: value for run_ in runs for name, value in _plain_outputs(run_)}
    if of_tasks:
        _list("Outputs of tasks", of_tasks)
    if metrics:
        _list("Metrics", {f"{one.task_id}.{one.name}": f"{one.value:g} ({one.type})" for one in metrics})
    found = stored_files(runs)
    if found:
        _list("Files", {name: str(home.storage.path_of(uri)) for name, uri in found.items()})


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


def _list(title: str, rows: Mapping[str, str]) -> None:
    click.echo(f"\n{title}:")
    width = min(max(map(len, rows)), 48)
    for name, value in rows.items():
        click.echo(f"  {name:<{width}}  {value}")
