"""`tercel execution recover`, `restart` and `kill`: going on with what was interrupted or failed, or ending it."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import click

from tercel.cli.actions import Found, act_on
from tercel.cli.following import Following, Paused, follow, tell_left, wait_for_others
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
from tercel.cli.questions import is_answered
from tercel.cli.reaching import refuse_elsewhere
from tercel.cli.run import folder_namespace_files, leave, read_flow_file, tell_problems
from tercel.cli.standing import left_paused
from tercel.cli.summary import ended_text
from tercel.errors import UserError
from tercel.model.execution import Execution
from tercel.model.flow import Flow
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.server import Engine, open_home, read_home
from tercel.settings import Settings


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

    Tasks that had ended are not run again; those that were under way are, three times at most. Executions that wait
    for those named, or that they wait for, go on with them. Give --namespace-files and --task-runner as they were given
    to `tercel run`. Exit code 0 where all end in SUCCESS or WARNING, 3 where one is left paused, 1 otherwise.
    """
    settings = settings_of(home, task_runner=task_runner)
    meant = _interrupted(settings, execution_ids)
    if not meant:
        click.echo("No execution was interrupted.")
        return
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with (
        Interrupts() as interrupts,
        open_home(settings, what="tercel execution recover", namespace_files=serve, recover=False) as engine,
    ):
        tell_problems(engine)
        is_live = output.isatty() and len(meant) == 1
        views = [LiveView(one, out=out, min_level=LogLevel(log_level.upper()), is_live=is_live) for one in meant]
        following = Following(engine, interrupts, views, out, can_ask=is_answered(out))
        interrupts.starting(following.kill)
        adopted = engine.adopt(engine.interrupted_with(meant))
        following.take(adopted)
        engine.go_on(adopted)
        interrupts.started()
        outcome = following.wait(adopted)
        for execution_id in adopted:
            engine.call(engine.queries.metrics(execution_id))  # writes what waits of the log
        following.close()
        click.echo("", file=out)
        if isinstance(outcome, Paused):
            found = [engine.call(engine.queries.get_execution(one)) for one in adopted]
        else:
            found = outcome
        for execution in found:
            click.echo(ended_text(execution), file=out)
        if isinstance(outcome, Paused):
            tell_left(outcome.execution)
        else:
            wait_for_others(following, out)
    states = [State.PAUSED if execution.is_open else execution.state for execution in found]
    leave(output, max(map(interrupts.exit_code, states), default=0))


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

    Tasks that ended well are not run again, also not those of a working directory. One that was left paused begins its
    wait anew. A mended flow is given with --flow: tasks that have run have to stay where they were, all else may
    change. Give --namespace-files and --task-runner as they were given to `tercel run`. Exit codes as those of
    `tercel run`.
    """
    if revision is not None and flow_file is not None:
        raise click.UsageError("--revision and --flow exclude each other.")
    settings = settings_of(home, task_runner=task_runner)
    mended = None if flow_file is None else read_flow_file(flow_file, settings)
    with read_home(settings) as looked_at:
        execution_id = meant_execution(looked_at, execution_id)
        looked_at.call(looked_at.queries.get_execution(execution_id))
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with (
        Interrupts() as interrupts,
        open_home(settings, what="tercel execution restart", namespace_files=serve, recover=False) as engine,
    ):
        tell_problems(engine)
        execution = engine.call(engine.operations.restartable(execution_id))
        if execution.is_open and execution_id not in engine.interrupted():
            refuse_elsewhere(engine, execution_id, "Only there it goes on: leave it paused by Ctrl-C, and try again.")
        if mended is not None:
            revision = _saved(engine, execution, *mended)

        def act() -> None:
            engine.call(engine.operations.restart(execution_id, revision=revision, from_scratch=from_scratch))

        def begin(following: Following) -> None:
            act_on(engine, following, Found(execution, [], execution.is_open), (State.PAUSED,), act)

        since = datetime.now(UTC)
        code = follow(engine, interrupts, execution_id, begin, out, log_level=log_level, since=since)
    leave(output, code)


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
    """End an execution that no process has any more, with all that it started: it becomes KILLED.

    One that runs is killed where it runs, by Ctrl-C.
    """
    settings = settings_of(home)
    meant = _interrupted(settings, [execution_id])
    with open_home(settings, what="tercel execution kill", recover=False) as engine:
        engine.recover(meant, to_kill=True)
        for one in engine.recovered:
            click.echo(ended_text(engine.call(engine.operations.wait(one))))


def _interrupted(settings: Settings, execution_ids: Collection[str]) -> list[str]:
    """The executions meant, each of which has to be an interrupted one.

    Where none is named, all that are, without those that are left paused.
    """
    with read_home(settings) as home:
        interrupted = home.interrupted()
        if not execution_ids:
            left = left_paused(home, interrupted)
            return [execution_id for execution_id in interrupted if execution_id not in left]
        meant = [meant_execution(home, execution_id) for execution_id in execution_ids]
        for execution_id in meant:
            if execution_id in interrupted:
                continue
            execution = home.call(home.queries.get_execution(execution_id))
            if execution.is_open:
                refuse_elsewhere(home, execution_id, "Press Ctrl-C there, or send SIGTERM to that process, to kill it.")
            hint = f"`tercel execution restart {execution_id}` goes on at what failed."
            raise UserError(
                f"The execution {execution_id} was not interrupted: it ended in {execution.state}.",
                hint if execution.state in {State.FAILED, State.KILLED} else "",
            )
        return meant
