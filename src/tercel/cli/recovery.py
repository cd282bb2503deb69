"""`tercel execution recover`, `restart` and `kill`: going on with what was interrupted or failed, or ending it."""

import sys
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from tercel.cli.interrupts import Interrupts
from tercel.cli.live_view import LiveView
from tercel.cli.options import (
    home_option,
    log_level_option,
    meant_execution,
    namespace_files_option,
    settings_of,
    task_runner_option,
)
from tercel.cli.output import standard_output
from tercel.cli.run import end_of, ended_text, folder_namespace_files, read_flow_file, summarise
from tercel.errors import UserError
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.logs import LogEntry
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.server import Engine, open_home, read_home
from tercel.settings import Settings
from tercel.store.home import home_users


@click.command()
@click.argument("execution_ids", metavar="[EXECUTION]...", nargs=-1)
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def recover(
    execution_ids: tuple[str, ...], folder: Path | None, task_runner: str | None, log_level: str, home: Path | None
) -> None:
    """Go on with executions that were interrupted, all of them where none is named, to their end.

    Tasks that had ended are not run again; those that were under way are, three times at most. Give
    --namespace-files and --task-runner as they were given to `tercel run`. Exit code 0 where all end in SUCCESS or
    WARNING.
    """
    settings = settings_of(home, task_runner=task_runner)
    meant = _interrupted(settings, execution_ids)
    if not meant:
        click.echo("No execution was interrupted.")
        return
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with Interrupts() as interrupts, open_home(settings, namespace_files=serve, recover=False) as engine:
        is_live = output.isatty() and len(meant) == 1
        views = [LiveView(one, out=out, min_level=LogLevel(log_level.upper()), is_live=is_live) for one in meant]

        def changed(execution: Execution, runs: Sequence[TaskRun]) -> None:
            for view in views:
                view.changed(execution, runs)

        def logged(entries: Sequence[LogEntry]) -> None:
            for view in views:
                view.logged(entries)

        engine.watch(changed, logged)
        interrupts.starting(lambda: _kill_all(engine))
        engine.recover(meant)
        interrupts.started()
        ended = [engine.call(engine.operations.wait(execution_id)) for execution_id in engine.recovered]
        for execution_id in engine.recovered:
            engine.call(engine.queries.metrics(execution_id))  # writes what waits of the log
        for view in views:
            view.close()
        click.echo("", file=out)
        for execution in ended:
            click.echo(ended_text(execution), file=out)
    sys.exit(max((interrupts.exit_code(execution.state) for execution in ended), default=0))


@click.command()
@click.argument("execution_id", metavar="EXECUTION")
@click.option("--from-scratch", is_flag=True, help="Run working directories again from their first task.")
@click.option("--revision", type=click.IntRange(min=1), metavar="N", help="Go on with this revision of the flow.")
@click.option(
    "--flow",
    "flow_file",
    metavar="FLOW.yaml",
    type=click.Path(path_type=Path),
    help="Save this file as the flow's next revision, and go on with it.",
)
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def restart(
    execution_id: str,
    from_scratch: bool,
    revision: int | None,
    flow_file: Path | None,
    folder: Path | None,
    task_runner: str | None,
    log_level: str,
    home: Path | None,
) -> None:
    """Go on with an execution that failed or was killed, at the task that did, to its end.

    Tasks that ended well are not run again, also not those of a working directory. A mended flow is given with --flow:
    tasks that have run have to stay where they were, all else may change. Give --namespace-files and --task-runner as
    they were given to `tercel run`. Exit codes as those of `tercel run`.
    """
    if revision is not None and flow_file is not None:
        raise click.UsageError("--revision and --flow exclude each other.")
    mended = None if flow_file is None else read_flow_file(flow_file)
    settings = settings_of(home, task_runner=task_runner)
    with read_home(settings) as looked_at:
        execution_id = meant_execution(looked_at, execution_id)
        looked_at.call(looked_at.queries.get_execution(execution_id))
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with (
        Interrupts() as interrupts,
        open_home(settings, what="tercel execution restart", namespace_files=serve, recover=False) as engine,
    ):
        for problem in engine.problems:
            click.echo(f"Warning: {problem}", err=True)
        execution = engine.call(engine.operations.restartable(execution_id))
        if mended is not None:
            revision = _saved(engine, execution, *mended)
        began = datetime.now(UTC)
        min_level = LogLevel(log_level.upper())
        view = LiveView(execution_id, out=out, min_level=min_level, is_live=output.isatty(), since=began)
        stop = engine.watch(view.changed, view.logged)
        interrupts.starting(lambda: engine.call(engine.operations.kill(execution_id)))
        engine.call(engine.operations.restart(execution_id, revision=revision, from_scratch=from_scratch))
        interrupts.started()
        execution, runs, metrics = end_of(engine, execution_id)
        stop()
        view.close()
        summarise(out, engine, execution, runs, metrics)
    if output.error is not None:
        raise click.ClickException(f"The output could not be written: {output.error.strerror}.")
    sys.exit(interrupts.exit_code(execution.state))


def _saved(engine: Engine, execution: Execution, source: str, flow: Flow) -> int:
    """Save a mended flow; the revision that it got."""
    if (flow.namespace, flow.id) != (execution.namespace, execution.flow_id):
        raise UserError(
            f"The execution {execution.id} is one of {execution.namespace}.{execution.flow_id}, and the file holds "
            f"{flow.namespace}.{flow.id}.",
            "Give a file with the same `namespace` and `id`.",
        )
    return engine.call(engine.operations.save_flow(source, flow)).revision


@click.command()
@click.argument("execution_id", metavar="EXECUTION")
@home_option
def kill(execution_id: str, home: Path | None) -> None:
    """End an execution that was interrupted: it becomes KILLED. One that runs is killed where it runs, by Ctrl-C."""
    settings = settings_of(home)
    meant = _interrupted(settings, [execution_id])
    with open_home(settings, recover=False) as engine:
        engine.recover(meant, to_kill=True)
        for one in engine.recovered:
            click.echo(ended_text(engine.call(engine.operations.wait(one))))


def _interrupted(settings: Settings, execution_ids: Collection[str]) -> list[str]:
    """The executions meant, all interrupted ones where none is named; each that is not one of them is refused."""
    with read_home(settings) as home:
        interrupted = home.interrupted()
        for execution_id in execution_ids:
            if execution_id in interrupted:
                continue
            execution = home.call(home.queries.get_execution(execution_id))
            if execution.state.is_terminal:
                raise UserError(
                    f"The execution {execution_id} was not interrupted: it ended in {execution.state}.",
                    f"`tercel execution restart {execution_id}` goes on at what failed."
                    if execution.state in {State.FAILED, State.KILLED}
                    else "",
                )
            owner = home.open_elsewhere().get(execution_id)
            users = [str(user) for user in home_users(settings.home) if user.id == owner]
            raise UserError(
                f"The execution {execution_id} runs in {''.join(users) or 'another process'}.",
                "Press Ctrl-C there, or send SIGTERM to that process, to kill it.",
            )
    return list(execution_ids or interrupted)


def _kill_all(engine: Engine) -> None:
    for execution_id in engine.recovered:
        engine.call(engine.operations.kill(execution_id))
