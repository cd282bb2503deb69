"""`tercel run`: one flow, here and now."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import click

from tercel.cli.following import Following, follow
from tercel.cli.interrupts import Interrupts
from tercel.cli.options import (
    home_option,
    log_level_option,
    namespace_files_option,
    pairs,
    settings_of,
    task_runner_option,
)
from tercel.cli.output import Output, standard_output
from tercel.cli.standing import left_paused
from tercel.model.flow import Flow
from tercel.model.inputs import STORED
from tercel.model.source import check_flow
from tercel.operations import new_execution_id
from tercel.plugins import catalog
from tercel.server import Engine, open_home
from tercel.settings import Settings
from tercel.storage.namespace_files import FolderNamespaceFiles, NamespaceFiles

_REFUSED = 2


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

    Exit code 0 for SUCCESS and WARNING, 1 for all other ends, 2 for a flow or input that is refused, 3 where it is
    left paused. Ctrl-C and SIGTERM (exit code 143) kill the execution cleanly; a second one ends everything at once.

    An execution that pauses asks on a terminal how to go on; elsewhere, or after Ctrl-C there, it is left paused, and
    `tercel execution resume` goes on with it.
    """
    settings = settings_of(home, task_runner=task_runner)
    source, flow = read_flow_file(flow_file, settings)
    paths = _file_inputs(flow, inputs, files)
    inputs = {name: value for name, value in inputs.items() if name not in paths}
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with Interrupts() as interrupts, open_home(settings, namespace_files=serve, on_wait=tell, recover=False) as engine:
        _tell_interrupted(engine)
        tell_problems(engine)
        execution_id = new_execution_id()

        def begin(_: Following) -> None:
            saved = engine.call(engine.operations.save_flow(source, flow))
            engine.call(engine.operations.start(saved, inputs, files=paths, labels=labels, execution_id=execution_id))

        code = follow(engine, interrupts, execution_id, begin, out, log_level=log_level, as_json=as_json)
    leave(output, code)


def read_flow_file(flow_file: Path, settings: Settings) -> tuple[str, Flow]:
    """The flow's text and model; one that is refused ends the program with all its issues told."""
    try:
        source = flow_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        from tercel.cli.flow import unreadable  # noqa: PLC0415  # only for a file that cannot be read

        raise click.UsageError(f"{flow_file} cannot be read: {unreadable(error)}.") from error
    checked = check_flow(source, catalog(), settings.plugin_defaults)
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


def tell(sentence: str) -> None:
    """Say something on standard error."""
    click.echo(sentence, err=True)


def tell_problems(engine: Engine) -> None:
    """Say what of the environment cannot be used."""
    for problem in engine.problems:
        tell(f"Warning: {problem}")


def leave(output: Output, code: int) -> NoReturn:
    """End the program; where standard output could not be written, say so and fail."""
    if output.error is not None:
        raise click.ClickException(f"The output could not be written: {output.error.strerror}.")
    sys.exit(code)


def _tell_interrupted(engine: Engine) -> None:
    interrupted = engine.interrupted()
    count = len(interrupted) - len(left_paused(engine, interrupted))
    if count:
        were, them = ("execution was", "it") if count == 1 else ("executions were", "them")
        tell(f"{count} {were} interrupted; `tercel execution recover` goes on with {them}.")
