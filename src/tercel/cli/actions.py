"""`tercel execution replay`, `pause`, `resume`, `force-run`, `change-status`, `labels` and `delete`."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, NoReturn

import click

from tercel.cli.following import Following, ask_to_resume, asked_inputs, follow
from tercel.cli.interrupts import Interrupts
from tercel.cli.options import (
    home_option,
    log_level_option,
    meant_execution,
    namespace_files_option,
    pairs,
    settings_of,
    task_runner_option,
)
from tercel.cli.output import standard_output
from tercel.cli.questions import NoAnswerError, Questions, is_answered
from tercel.cli.reaching import meant_task_run, refuse_elsewhere
from tercel.cli.run import folder_namespace_files, leave, tell, tell_problems
from tercel.cli.summary import ended_text
from tercel.errors import InvalidInputError, UserError
from tercel.machine import compile_flow
from tercel.model.execution import Execution, TaskRun
from tercel.model.inputs import STORED
from tercel.model.state import State
from tercel.operations import new_execution_id
from tercel.server import Engine, open_home, read_home
from tercel.settings import Settings
from tercel.storage import input_path

_EXECUTION = click.argument("execution_id", metavar="EXECUTION")
_FINAL = [State.SUCCESS, State.WARNING, State.FAILED, State.KILLED, State.CANCELLED]


class Found(NamedTuple):
    """An execution that this process can reach.

    Attributes:
        runs: its task runs.
        is_open: no process has it, and this one may adopt it.
    """

    execution: Execution
    runs: list[TaskRun]
    is_open: bool


def _reach(settings: Settings, execution_id: str, verb: str, hint: str = "") -> Found:
    """Look an execution up; one that another process is at work on is refused."""
    with read_home(settings) as home:
        execution = home.call(home.queries.get_execution(meant_execution(home, execution_id)))
        if execution.is_open and execution.id not in home.interrupted():
            hint = (
                hint or f"Only there it could be {verb}, which cannot be asked for: wait for its end, or kill it there."
            )
            refuse_elsewhere(home, execution.id, hint)
        return Found(execution, home.call(home.queries.task_runs(execution.id)), execution.is_open)


@click.command()
@_EXECUTION
@click.option("--from", "origin", metavar="TASK_OR_RUN_ID", help="Begin at this task, with what came before as it was.")
@click.option("--revision", type=click.IntRange(min=1), metavar="N", help="Run this revision of the flow.")
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def replay(
    execution_id: str,
    origin: str | None,
    revision: int | None,
    folder: Path | None,
    task_runner: str | None,
    log_level: str,
    home: Path | None,
) -> None:
    """Run an execution anew, as another one with the same inputs and labels, to its end.

    With --from, tasks that come before are not run again: their outputs are taken over. TASK_OR_RUN_ID is the id of a
    task, or of one of its task runs in a loop. Exit codes as those of `tercel run`.
    """
    settings = settings_of(home, task_runner=task_runner)
    with read_home(settings) as looked_at:
        execution_id = meant_execution(looked_at, execution_id)
        runs = looked_at.call(looked_at.queries.task_runs(execution_id))
    run = None if origin is None else meant_task_run(runs, origin, execution_id)
    new_id = new_execution_id()

    def begin(engine: Engine, _: Interrupts, __: Following) -> None:
        made = engine.operations.replay(
            execution_id, task_run_id=None if run is None else run.id, revision=revision, new_id=new_id
        )
        engine.call(made)

    _follow(settings, "replay", new_id, begin, folder=folder, log_level=log_level, since=datetime.now(UTC))


@click.command()
@_EXECUTION
@home_option
def pause(execution_id: str, home: Path | None) -> None:
    """Pause an execution that was interrupted: it goes on only when somebody resumes it.

    `tercel execution recover` without a name leaves it alone then.
    """
    settings = settings_of(home)
    found = _reach(settings, execution_id, "paused")
    with open_home(settings, what="tercel execution pause", recover=False) as engine:
        if found.execution.state in (State.RUNNING, State.RETRYING):
            engine.adopt([found.execution.id])
        click.echo(ended_text(engine.call(engine.operations.pause(found.execution.id))))
    tell(f"`tercel execution resume {found.execution.id}` goes on with it.")


@click.command()
@_EXECUTION
@click.option(
    "--input", "inputs", multiple=True, metavar="ID=VALUE", callback=pairs("--input"), help="What the Pause asks for."
)
@click.option("--task-run", "name", metavar="ID", help="The Pause that is meant, where several wait: a task, or a run.")
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def resume(
    execution_id: str,
    inputs: dict[str, str],
    name: str | None,
    folder: Path | None,
    task_runner: str | None,
    log_level: str,
    home: Path | None,
) -> None:
    """Go on with an execution that was left paused, to its end.

    What its Pause asks for is given by --input, or asked on a terminal. Executions that wait for it go on with it. Give
    --namespace-files and --task-runner as they were given to `tercel run`. Exit codes as those of `tercel run`.
    """
    settings = settings_of(home, task_runner=task_runner)
    hint = "Only that process can resume it: press Enter there, or leave it paused there by Ctrl-C and resume it here."
    found = _reach(settings, execution_id, "resumed", hint)
    execution = found.execution
    run = _paused_run(found, name)

    def begin(engine: Engine, interrupts: Interrupts, following: Following) -> None:
        given = _answers(engine, interrupts, execution, run, inputs)
        call = engine.operations.resume(execution.id, given, task_run_id=None if run is None else run.id)
        act_on(engine, following, found, (State.PAUSED,), lambda: engine.call(call))

    _follow(settings, "resume", execution.id, begin, folder=folder, log_level=log_level, since=datetime.now(UTC))


def _paused_run(found: Found, name: str | None) -> TaskRun | None:
    """The task run to resume: the one named, or the one that paused first; None where it was paused by hand."""
    paused = [run for run in found.runs if run.state is State.PAUSED]
    if name is None:
        return min(paused, key=lambda run: run.history[-1].date, default=None)
    run = meant_task_run(found.runs, name, found.execution.id, among=[State.PAUSED])
    if run.state is not State.PAUSED:
        waiting = ", ".join(f"{one.task_id} ({one.id})" for one in paused)
        raise UserError(
            f"The task run {name!r} of the execution {found.execution.id} is not paused: it is {run.state}.",
            f"Those that are: {waiting}." if waiting else "",
        )
    return run


def _answers(
    engine: Engine, interrupts: Interrupts, execution: Execution, run: TaskRun | None, given: Mapping[str, str]
) -> dict[str, object]:
    """What a Pause asks for, as it was given, or as the person at the terminal says."""
    asks = () if run is None else asked_inputs(compile_flow(engine.flow_of(execution)), run)
    unknown = given.keys() - {one.id for one in asks}
    if unknown and execution.state is State.PAUSED:
        names = ", ".join(one.id for one in asks)
        raise InvalidInputError(
            f"Nothing asks for {', '.join(map(repr, sorted(unknown)))}.",
            f"What is asked for: {names}." if names else "It is resumed without inputs.",
        )
    _, out = standard_output()
    can_ask = bool(asks) and not given and is_answered(out)
    answers: dict[str, object] = {**given}
    while True:
        if can_ask:
            with interrupts.asking():
                try:
                    answers = ask_to_resume(Questions(out, lambda: bool(interrupts.heard)), execution, run, asks)
                except NoAnswerError:
                    raise SystemExit(interrupts.exit_code(State.PAUSED)) from None
        try:
            for one in asks:
                value = answers.get(one.id)
                if one.type == "FILE" and isinstance(value, str) and not value.startswith(STORED):
                    answers[one.id] = _stored(engine, execution, one.id, Path(value))
            run_id = None if run is None else run.id
            engine.call(engine.operations.check_resume(execution.id, answers, task_run_id=run_id))
        except InvalidInputError as error:
            if not can_ask:
                raise InvalidInputError(error.message, "Give what it asks for by --input ID=VALUE.") from error
            tell(error.message)
        else:
            return answers


def _stored(engine: Engine, execution: Execution, input_id: str, path: Path) -> str:
    """A local file, copied into internal storage."""
    if not path.is_file():
        raise InvalidInputError(f"Input {input_id!r}: {path} is no file.")
    return engine.storage.put_file(
        input_path(execution.namespace, execution.flow_id, execution.id, input_id, path.name), path
    )


@click.command()
@_EXECUTION
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def force_run(
    execution_id: str, folder: Path | None, task_runner: str | None, log_level: str, home: Path | None
) -> None:
    """Go on with an execution that waits for its time, its turn or a person, without waiting, to its end.

    Give --namespace-files and --task-runner as they were given to `tercel run`. Exit codes as those of `tercel run`.
    """
    settings = settings_of(home, task_runner=task_runner)
    found = _reach(settings, execution_id, "forced to run")
    execution = found.execution

    def begin(engine: Engine, _: Interrupts, following: Following) -> None:
        states = (State.CREATED, State.QUEUED, State.PAUSED)
        act_on(engine, following, found, states, lambda: engine.call(engine.operations.force_run(execution.id)))

    _follow(settings, "force-run", execution.id, begin, folder=folder, log_level=log_level, since=datetime.now(UTC))


def act_on(
    engine: Engine, following: Following, found: Found, states: tuple[State, ...], act: Callable[[], object]
) -> None:
    """Adopt an execution with all that it waits for and that waits for it, do something to it, and have all go on."""
    execution = found.execution
    if not found.is_open or execution.state not in states:
        act()  # says why not
        return
    adopted = engine.adopt(engine.interrupted_with([execution.id]))
    if execution.id not in adopted:
        raise UserError(
            f"Another process has gone on with the execution {execution.id} meanwhile.",
            f"`tercel execution show {execution.id}` tells how it stands.",
        )
    following.take(adopted)
    if following.is_quiet(execution.id):
        act()
        engine.go_on([one for one in adopted if one != execution.id])
        return
    engine.go_on(adopted)  # what was under way is lost first, and only then is something new given to do
    try:
        act()
    except UserError:
        if engine.call(engine.queries.get_execution(execution.id)).state in states:
            raise
        tell(f"The execution {execution.id} went on by itself: its time was over.")


@click.command()
@_EXECUTION
@click.argument("state", type=click.Choice(_FINAL, case_sensitive=False))
@click.option("--task-run", "name", metavar="ID", help="Of this task run instead: its id, or that of its task.")
@namespace_files_option
@task_runner_option
@log_level_option
@home_option
def change_status(
    execution_id: str,
    state: str,
    name: str | None,
    folder: Path | None,
    task_runner: str | None,
    log_level: str,
    home: Path | None,
) -> None:
    """Give an execution that has ended, or one of its task runs, another final state.

    With --task-run the execution goes on after that task, to its end; exit codes are those of `tercel run` then.
    """
    settings = settings_of(home, task_runner=task_runner)
    found = _reach(settings, execution_id, "changed")
    execution, wanted = found.execution, State(state.upper())
    if name is None:
        with open_home(settings, what="tercel execution change-status", recover=False) as engine:
            engine.call(engine.operations.change_status(execution.id, wanted))
        click.echo(f"{execution.id} was {execution.state} and is {wanted}.")
        return
    run = meant_task_run(found.runs, name, execution.id)

    def begin(engine: Engine, _: Interrupts, __: Following) -> None:
        engine.call(engine.operations.change_task_state(execution.id, run.id, wanted))

    since = datetime.now(UTC)
    _follow(settings, "change-status", execution.id, begin, folder=folder, log_level=log_level, since=since)


@click.command()
@_EXECUTION
@click.argument("given", metavar="KEY=VALUE...", nargs=-1, required=True, callback=pairs("KEY=VALUE"))
@home_option
def labels(execution_id: str, given: dict[str, str], home: Path | None) -> None:
    """Give labels to an execution; they replace those with the same key."""
    settings = settings_of(home)
    found = _reach(settings, execution_id, "labelled")
    with open_home(settings, what="tercel execution labels", recover=False) as engine:
        if found.is_open:
            engine.adopt([found.execution.id])
        execution = engine.call(engine.operations.set_labels(found.execution.id, given))
    for key, value in execution.labels.items():
        click.echo(f"{key}={value}")


@click.command()
@_EXECUTION
@home_option
def delete(execution_id: str, home: Path | None) -> None:
    """Remove an execution that has ended, with its task runs, logs, metrics and files."""
    settings = settings_of(home)
    found = _reach(settings, execution_id, "deleted")
    with open_home(settings, what="tercel execution delete", recover=False) as engine:
        engine.call(engine.operations.delete_execution(found.execution.id))
    click.echo(f"{found.execution.id} deleted.")


def _follow(
    settings: Settings,
    verb: str,
    execution_id: str,
    begin: Callable[[Engine, Interrupts, Following], object],
    *,
    folder: Path | None,
    log_level: str,
    since: datetime | None = None,
) -> NoReturn:
    """Open the home, begin, follow the execution to its end, and leave with its exit code."""
    output, out = standard_output()
    serve = folder_namespace_files(folder)
    with (
        Interrupts() as interrupts,
        open_home(settings, what=f"tercel execution {verb}", namespace_files=serve, recover=False) as engine,
    ):
        tell_problems(engine)

        def start(following: Following) -> None:
            begin(engine, interrupts, following)

        code = follow(engine, interrupts, execution_id, start, out, log_level=log_level, since=since)
    leave(output, code)
