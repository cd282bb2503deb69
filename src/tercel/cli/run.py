"""`tercel run`: one flow, here and now."""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO, cast

import click

from tercel.cli.interrupts import Interrupts
from tercel.cli.live_view import LiveView, begun_at, duration_text, printable
from tercel.cli.options import (
    home_option,
    log_level_option,
    namespace_files_option,
    pairs,
    settings_of,
    task_runner_option,
)
from tercel.cli.output import standard_output
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.inputs import STORED
from tercel.model.json_form import execution_json, metric_json, stored_files
from tercel.model.logs import Metric
from tercel.model.source import check_flow
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.operations import new_execution_id
from tercel.plugins import catalog
from tercel.server import Engine, Home, open_home
from tercel.storage.namespace_files import FolderNamespaceFiles, NamespaceFiles

_REFUSED = 2
_MOST_SHOWN = 2000
_MOST_ROWS = 100


@click.command()
@click.argument("flow_file", metavar="FLOW.yaml", type=click.Path(path_type=Path))
@click.option("--input", "inputs", multiple=True, metavar="ID=VALUE", callback=pairs("--input"), help="An input.")
@click.option("--file", "files", multiple=True, metavar="ID=PATH", callback=pairs("--file"), help="A FILE input.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", callback=pairs("--label"), help="A label.")
@namespace_files_option
@task_runner_option
@log_level_option
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

    Exit code 0 for SUCCESS and WARNING, 1 for FAILED and KILLED, 2 for a flow or input that is refused. Ctrl-C and
    SIGTERM (exit code 143) kill the execution cleanly; a second one ends everything at once.
    """
    source, flow = read_flow_file(flow_file)
    paths = _file_inputs(flow, inputs, files)
    inputs = {name: value for name, value in inputs.items() if name not in paths}
    settings = settings_of(home, task_runner=task_runner)
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with Interrupts() as interrupts, open_home(settings, namespace_files=serve, on_wait=_tell, recover=False) as engine:
        _tell_interrupted(engine)
        for problem in engine.problems:
            _tell(f"Warning: {problem}")
        execution_id = new_execution_id()
        view = LiveView(execution_id, out=out, min_level=LogLevel(log_level.upper()), is_live=output.isatty())
        stop = engine.watch() if as_json else engine.watch(view.changed, view.logged)
        saved = engine.call(engine.operations.save_flow(source, flow))
        interrupts.starting(lambda: engine.call(engine.operations.kill(execution_id)))
        engine.call(engine.operations.start(saved, inputs, files=paths, labels=labels, execution_id=execution_id))
        interrupts.started()
        execution, runs, metrics = end_of(engine, execution_id)
        stop()
        view.close()
        if as_json:
            shown = execution_json(execution, runs) | {"metrics": [metric_json(metric) for metric in metrics]}
            click.echo(json.dumps(shown, ensure_ascii=False, indent=2), file=out)
        else:
            summarise(out, engine, execution, runs, metrics)
    if output.error is not None:
        raise click.ClickException(f"The output could not be written: {output.error.strerror}.")
    sys.exit(interrupts.exit_code(execution.state))


def end_of(engine: Engine, execution_id: str) -> tuple[Execution, list[TaskRun], list[Metric]]:
    """An execution, its task runs and its metrics, once it has ended and its log is written."""
    engine.call(engine.operations.wait(execution_id))
    execution = engine.call(engine.queries.get_execution(execution_id))
    runs = engine.call(engine.queries.task_runs(execution_id))
    return execution, runs, engine.call(engine.queries.metrics(execution_id))


def read_flow_file(flow_file: Path) -> tuple[str, Flow]:
    """The flow's text and model; one that is refused ends the program with all its issues told."""
    try:
        source = flow_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        from tercel.cli.flow import unreadable  # noqa: PLC0415  # only for a file that cannot be read

        raise click.UsageError(f"{flow_file} cannot be read: {unreadable(error)}.") from error
    checked = check_flow(source, catalog())
    for warning in checked.warnings:
        click.echo(f"Warning: {flow_file}: {warning.text}", err=True)
    if checked.flow is None or checked.issues:
        from tercel.cli.flow import show_checked  # noqa: PLC0415  # only a refused flow needs it

        show_checked(checked, flow_file)
        sys.exit(_REFUSED)
    return source, checked.flow


def _file_inputs(flow: Flow, inputs: Mapping[str, str], files: Mapping[str, str]) -> dict[str, Path]:
    """Local files by the input they are for, by `--file`, or by `--input` where that is of type FILE."""
    for name in files:
        if name in inputs:
            raise click.UsageError(f"Input {name!r} is given twice, by --input and by --file.")
    found = {name: Path(path) for name, path in files.items()}
    for one in flow.inputs:
        value = inputs.get(one.id)
        if one.type == "FILE" and value and not value.startswith(STORED):
            found[one.id] = Path(value)
    return found


def folder_namespace_files(folder: Path | None) -> "_Folder | None":
    """Namespace files out of *folder*; None, which means those of the home, where there is none."""
    return None if folder is None else _Folder(folder)


class _Folder:
    """Serves every namespace from one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, namespace: str) -> NamespaceFiles:
        return FolderNamespaceFiles(self._folder, namespace)


def _tell(sentence: str) -> None:
    click.echo(sentence, err=True)


def _tell_interrupted(engine: Engine) -> None:
    count = len(engine.interrupted())
    if count:
        were, them = ("execution was", "it") if count == 1 else ("executions were", "them")
        _tell(f"{count} {were} interrupted; `tercel execution recover` goes on with {them}.")


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
    colour = {State.SUCCESS: "green", State.WARNING: "yellow"}.get(execution.state, "red")
    return f"{click.style(execution.state.value, fg=colour, bold=True)} in {took}, execution {execution.id}"


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
