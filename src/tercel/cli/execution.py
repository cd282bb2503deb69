"""`tercel execution`: look at what ran."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from tercel.cli.groups import LateGroup
from tercel.cli.live_view import duration_text
from tercel.cli.options import home_option, meant_execution, settings_of
from tercel.cli.standing import left_paused
from tercel.model.execution import Execution
from tercel.model.json_form import (
    duration_of,
    execution_json,
    instant_text,
    log_json,
    metric_json,
    stored_files,
)
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.server import Home, read_home
from tercel.store import ExecutionQuery

_ID = click.argument("execution_id", metavar="EXECUTION")
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


_LATE = {
    "recover": "tercel.cli.recovery",
    "restart": "tercel.cli.recovery",
    "kill": "tercel.cli.recovery",
    "replay": "tercel.cli.actions",
    "pause": "tercel.cli.actions",
    "resume": "tercel.cli.actions",
    "force-run": "tercel.cli.actions",
    "change-status": "tercel.cli.actions",
    "labels": "tercel.cli.actions",
    "delete": "tercel.cli.actions",
}
"""To look at what ran needs no engine."""


@click.group(cls=LateGroup, late=_LATE)
def execution() -> None:
    """Look at what ran; go on with it, run it again, change it. EXECUTION is an id, or `last` for the newest one."""


@execution.command("list")
@click.option("--namespace", help="Only this namespace.")
@click.option("--flow", "flow_id", help="Only this flow.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(list(State), case_sensitive=False), help="Only these."
)
@click.option("--limit", default=25, show_default=True, type=click.IntRange(1, 1000))
@_JSON
@home_option
def list_(
    namespace: str | None, flow_id: str | None, states: tuple[str, ...], limit: int, as_json: bool, home: Path | None
) -> None:
    """List executions, newest first."""
    wanted = [State(state.upper()) for state in states]
    with read_home(settings_of(home)) as opened:
        query = ExecutionQuery(namespace=namespace, flow_id=flow_id, states=wanted, limit=limit)
        found = opened.call(opened.queries.search_executions(query))
        interrupted = opened.interrupted()
        left = left_paused(opened, interrupted)
    if as_json:
        _print_json([execution_json(one, []) for one in found])
        return
    for one in found:
        is_interrupted = one.id in interrupted
        took = "" if is_interrupted else _took(one)
        started = instant_text(one.history[0].date)
        more = "  to be resumed" if one.id in left else "  interrupted" if is_interrupted else ""
        click.echo(f"{one.id}  {one.state:<8}  {started}  {took:>12}  {one.namespace}.{one.flow_id}{more}")


def _took(found: Execution) -> str:
    """How long an execution took, or has taken until now."""
    until = found.history[-1].date if found.state.is_terminal else datetime.now(UTC)
    return duration_text(until - found.history[0].date)


@execution.command()
@_ID
@_JSON
@home_option
def show(execution_id: str, as_json: bool, home: Path | None) -> None:
    """Show an execution and its task runs."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.get_execution(meant_execution(opened, execution_id)))
        runs = opened.call(opened.queries.task_runs(found.id))
        interrupted = opened.interrupted()
        is_interrupted = found.id in interrupted
        is_left = found.id in left_paused(opened, interrupted)
    if as_json:
        _print_json(execution_json(found, runs))
        return
    click.echo(f"{found.namespace}.{found.flow_id} revision {found.revision}, execution {found.id}")
    took = "" if is_interrupted else f" in {_took(found)}"
    click.echo(f"{found.state}{took}, started {instant_text(found.history[0].date)}")
    if is_left and found.state is State.PAUSED:
        click.echo(
            f"It waits for a person: `tercel execution resume {found.id}` goes on with it, "
            f"`tercel execution kill {found.id}` ends it."
        )
    elif is_left:
        click.echo("It waits for an execution that it started and that is paused: `tercel execution list` shows it.")
    elif is_interrupted:
        click.echo(
            f"Its process was ended in the middle: `tercel execution recover {found.id}` goes on with it, "
            f"`tercel execution kill {found.id}` ends it."
        )
    depth: dict[str, int] = {}
    for one in runs:
        depth[one.id] = 0 if one.parent_id is None else depth.get(one.parent_id, 0) + 1
        name = one.task_id if one.value is None else f"{one.task_id} [{one.value}]"
        tries = f", {len(one.attempts)} attempts" if len(one.attempts) > 1 else ""
        why = f": {one.message}" if one.message else ""
        took = duration_text(duration_of(one.history))
        click.echo(f"{'  ' * (depth[one.id] + 1)}{name}  {one.state} in {took}{tries}{why}")


@execution.command()
@_ID
@click.option("--task", "task_id", help="Only lines of this task.")
@click.option(
    "--level", type=click.Choice(list(LogLevel), case_sensitive=False), default=LogLevel.INFO, show_default=True
)
@_JSON
@home_option
def logs(execution_id: str, task_id: str | None, level: str, as_json: bool, home: Path | None) -> None:
    """Print an execution's log."""
    with read_home(settings_of(home)) as opened:
        meant = meant_execution(opened, execution_id)
        after, is_last = 0, False
        while not is_last:
            page = opened.call(opened.queries.logs(meant, min_level=LogLevel(level.upper()), after=after))
            after, is_last = page.next, page.is_last
            for entry in page.entries:
                if task_id is not None and entry.task_id != task_id:
                    continue
                if as_json:
                    click.echo(json.dumps(log_json(entry), ensure_ascii=False))
                else:
                    place = entry.task_id or "flow"
                    click.echo(f"{instant_text(entry.date)} {entry.level:<5} {place}: {entry.message}")


@execution.command()
@_ID
@click.option("--task", "task_id", help="Only outputs of this task.")
@home_option
def outputs(execution_id: str, task_id: str | None, home: Path | None) -> None:
    """Print the outputs of a flow and its tasks, as JSON."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.get_execution(meant_execution(opened, execution_id)))
        runs = opened.call(opened.queries.task_runs(found.id))
    of_tasks: dict[str, object] = {}
    for one in runs:
        if task_id is None or one.task_id == task_id:
            of_tasks[one.task_id if one.value is None else f"{one.task_id}[{one.value}]"] = one.outputs
    _print_json(of_tasks if task_id is not None else {"outputs": found.outputs, "tasks": of_tasks})


@execution.command()
@_ID
@click.option("--copy-to", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Copy them there.")
@click.option("--changes", "with_changes", is_flag=True, help="List what each task changed in its directory instead.")
@_JSON
@home_option
def files(execution_id: str, copy_to: Path | None, with_changes: bool, as_json: bool, home: Path | None) -> None:
    """List the files that an execution stored, and where they are on disk; or what its tasks changed."""
    if with_changes and copy_to is not None:
        raise click.UsageError("--changes and --copy-to exclude each other.")
    with read_home(settings_of(home)) as opened:
        meant = meant_execution(opened, execution_id)
        if with_changes:
            from tercel.cli.changes import show_changes  # noqa: PLC0415  # needs layers, all else here does not

            show_changes(opened, meant, as_json=as_json)
            return
        found = stored_files(opened.call(opened.queries.task_runs(meant)))
        if as_json:
            _print_json({name: str(opened.storage.path_of(uri)) for name, uri in found.items()})
        else:
            for name, uri in found.items():
                click.echo(f"{name}  {opened.storage.path_of(uri)}")
        if copy_to is not None:
            _copy(opened, found, copy_to)


def _copy(opened: Home, found: Mapping[str, str], folder: Path) -> None:
    """Copy stored files below *folder*, each under its task's name; what is there already is not overwritten."""
    import shutil  # noqa: PLC0415  # only for this option

    for name, uri in found.items():
        task, _, rest = name.partition(".")
        target = (
            folder / task / rest.partition(".")[2] if "." in rest else folder / task / opened.storage.path_of(uri).name
        )
        if not target.resolve().is_relative_to(folder.resolve()):
            raise click.ClickException(f"{name} would be written outside {folder}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise click.ClickException(f"{target} is there already; give another --copy-to.")
        with opened.storage.get(uri) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


@execution.command()
@_ID
@_JSON
@home_option
def metrics(execution_id: str, as_json: bool, home: Path | None) -> None:
    """List the metrics of an execution."""
    with read_home(settings_of(home)) as opened:
        found = opened.call(opened.queries.metrics(meant_execution(opened, execution_id)))
    if as_json:
        _print_json([metric_json(one) for one in found])
        return
    for one in found:
        tags = "".join(f" {key}={value}" for key, value in one.tags.items())
        unit = " ms" if one.type == "timer" else ""
        click.echo(f"{one.task_id}  {one.name}  {one.type}  {one.value:g}{unit}{tags}")


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
