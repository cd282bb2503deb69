"""Executions followed to their end: what is shown of them, who is asked when one pauses, what is told at the end.

`tercel run` and the commands that go on with an execution all come by here.
"""

import json
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from threading import Lock, Thread
from typing import NamedTuple, TextIO

import click

from tercel.cli.interrupts import Interrupts
from tercel.cli.live_view import LiveView
from tercel.cli.questions import NoAnswerError, Questions, is_answered
from tercel.cli.standing import has_jobs, has_timer, is_at_work
from tercel.cli.summary import ended_text, result_of, summarise
from tercel.errors import InvalidInputError, UserError
from tercel.machine import FlowIndex, compile_flow
from tercel.model.execution import Execution, TaskRun
from tercel.model.input_types import Input
from tercel.model.json_form import execution_json, metric_json
from tercel.model.logs import LogEntry
from tercel.model.state import State
from tercel.model.task import LogLevel
from tercel.server import Engine
from tercel.store import Bell

_SLICE_S = 0.1
"""Python does not see a signal that arrives right before the main thread blocks, so it never does for long."""


class Paused(NamedTuple):
    """An execution that waits for a person.

    Attributes:
        run: the task run that paused first; None where the execution was paused by hand.
        asks: the inputs that whoever resumes it has to give.
        goes_on: True where it, or another one here, also goes on by itself some time.
    """

    execution: Execution
    run: TaskRun | None
    asks: Sequence[Input]
    goes_on: bool


class Following:
    """Follows the executions of this process.

    Args:
        engine: theirs.
        interrupts: active for as long as they are followed.
        views: show them.
        out: where a person is asked.
        can_ask: there is one.
    """

    def __init__(
        self, engine: Engine, interrupts: Interrupts, views: Sequence[LiveView], out: TextIO, *, can_ask: bool
    ) -> None:
        self._engine = engine
        self._interrupts = interrupts
        self._views = views
        self._out = out
        self._can_ask = can_ask
        self._guard = Lock()
        self._bell = Bell()
        self._open: dict[str, Execution] = {}
        self._runs: dict[str, dict[str, TaskRun]] = {}
        self._flows: dict[tuple[str, str, int], FlowIndex] = {}
        self._stop = engine.watch(self._changed, self._logged if views else None)

    def take(self, execution_ids: Collection[str]) -> None:
        """Take note of executions that were adopted, before anything of them goes on."""
        for execution_id in execution_ids:
            execution = self._engine.call(self._engine.queries.get_execution(execution_id))
            self._note(execution, self._engine.call(self._engine.queries.task_runs(execution_id)))

    def is_quiet(self, execution_id: str) -> bool:
        """True where nothing of an execution that was taken note of had been given to anybody to do."""
        return not has_jobs(self._runs[execution_id].values(), self._index(self._open[execution_id]))

    def open_ids(self) -> list[str]:
        """The executions of this process that are open, in no order."""
        with self._guard:
            return list(self._open)

    def kill(self) -> None:
        """Have all end that is open here."""
        for execution_id in self.open_ids():
            with suppress(UserError):  # it was deleted, or has gone over to another process
                self._engine.call(self._engine.operations.kill(execution_id))

    def wait(self, execution_ids: Collection[str]) -> list[Execution] | Paused:
        """Wait until executions have ended, asking whoever is there when one pauses.

        Returns:
            The executions as they are then, in the order given; or the one that waits for a person, where none answers
            and nothing else goes on here.
        """
        waiter = _Waiter(self._engine, execution_ids, self._bell)
        while not waiter.is_done:
            self._bell.wait(_SLICE_S)
            paused = None if waiter.is_done or self._interrupts.heard else self._paused()
            if paused is None:
                continue
            if self._can_ask:
                if not self._ask(paused):
                    return paused
            elif not paused.goes_on:
                return paused
        return waiter.result()

    def close(self) -> None:
        """Show what waits to be shown, and nothing more."""
        self._stop()
        for view in self._views:
            view.close()

    # What is open

    def _changed(self, execution: Execution, runs: Sequence[TaskRun]) -> None:
        for view in self._views:
            view.changed(execution, runs)
        self._note(execution, runs)
        if execution.state is State.PAUSED:
            self._bell.ring()

    def _logged(self, entries: Sequence[LogEntry]) -> None:
        for view in self._views:
            view.logged(entries)

    def _note(self, execution: Execution, runs: Sequence[TaskRun]) -> None:
        with self._guard:
            if not execution.is_open:
                self._open.pop(execution.id, None)
                self._runs.pop(execution.id, None)
                return
            self._open[execution.id] = execution
            known = self._runs.setdefault(execution.id, {})
            for run in runs:
                if run.state.is_terminal:
                    known.pop(run.id, None)
                else:
                    known[run.id] = run

    def _paused(self) -> Paused | None:
        """What waits for a person; None where nothing does, or something here is at work."""
        with self._guard:
            paused = [execution for execution in self._open.values() if execution.state is State.PAUSED]
            if not paused:
                return None
            everything = [(execution, list(self._runs[execution.id].values())) for execution in self._open.values()]
        if any(is_at_work(execution, runs, self._index(execution)) for execution, runs in everything):
            return None
        execution = paused[0]
        runs = next(runs for one, runs in everything if one is execution)
        waiting = [run for run in runs if run.state is State.PAUSED]
        run = min(waiting, key=lambda run: run.history[-1].date, default=None)
        asks = () if run is None else asked_inputs(self._index(execution), run)
        return Paused(execution, run, asks, any(has_timer(*one) for one in everything))

    def _index(self, execution: Execution) -> FlowIndex:
        key = execution.namespace, execution.flow_id, execution.revision
        if key not in self._flows:
            self._flows[key] = compile_flow(self._engine.flow_of(execution))
        return self._flows[key]

    # Asking

    def _ask(self, paused: Paused) -> bool:
        """Ask whoever is there to resume an execution; False where it is to be left paused."""
        execution, run = paused.execution, paused.run

        def is_over() -> bool:
            return bool(self._interrupts.heard) or self._paused() is None

        self._engine.call(self._engine.queries.metrics(execution.id))  # writes what waits of the log
        with ExitStack() as stack:
            for view in self._views:
                stack.enter_context(view.held())
            stack.enter_context(self._interrupts.asking())
            try:
                given = ask_to_resume(Questions(self._out, is_over), execution, run, paused.asks)
            except NoAnswerError:
                return self._paused() is None
            resume = self._engine.operations.resume(execution.id, given, task_run_id=None if run is None else run.id)
            try:
                self._engine.call(resume)
            except InvalidInputError as error:
                click.echo(error.message, err=True)
            except UserError:
                return True  # it went on by itself meanwhile
        return True


class _Waiter:
    """Waits, in a thread of its own, for executions to end."""

    def __init__(self, engine: Engine, execution_ids: Collection[str], bell: Bell) -> None:
        self._engine = engine
        self._ids = execution_ids
        self._bell = bell
        self._ended: list[Execution] = []
        self._error: Exception | None = None
        self.is_done = False
        Thread(target=self._wait, name="tercel-waiter", daemon=True).start()

    def _wait(self) -> None:
        try:
            self._ended = [self._engine.call(self._engine.operations.wait(one)) for one in self._ids]
        except Exception as error:  # raised where the result is asked for
            self._error = error
        self.is_done = True
        self._bell.ring()

    def result(self) -> list[Execution]:
        """The executions as they ended; raises what kept them from it."""
        if self._error is not None:
            raise self._error
        return self._ended


def asked_inputs(index: FlowIndex, run: TaskRun) -> Sequence[Input]:
    """What whoever resumes a task run has to give."""
    return getattr(index.places[run.task_id].task, "on_resume", ())


def ask_to_resume(
    questions: Questions, execution: Execution, run: TaskRun | None, asks: Sequence[Input]
) -> dict[str, object]:
    """Have a person say that an execution is to be resumed, and with what. Raises NoAnswerError."""
    place = "" if run is None else f" at {run.task_id!r}"
    if run is not None and run.value is not None:
        place += f" [{run.value}]"
    name = f"{execution.namespace}.{execution.flow_id}"
    if not asks:
        questions.confirm(f"{name} is paused{place}: press Enter to resume it, Ctrl-C to leave it paused.")
        return {}
    questions.tell(f"{name} is paused{place}: give what it asks for to resume it, Ctrl-C leaves it paused.")
    return questions.inputs(asks)


def follow(
    engine: Engine,
    interrupts: Interrupts,
    execution_id: str,
    begin: Callable[[Following], object],
    out: TextIO,
    *,
    log_level: str,
    as_json: bool = False,
    since: datetime | None = None,
) -> int:
    """Show an execution to its end, and wait for what else is open here then; gives the exit code.

    Args:
        engine: its own.
        interrupts: active around the engine.
        execution_id: the execution.
        begin: starts it, or goes on with it.
        out: standard output.
        log_level: of the lines to show.
        as_json: show nothing but one JSON object at the end.
        since: what happened before is not shown.
    """
    is_live = out.isatty() and not as_json
    level = LogLevel(log_level.upper())
    views = [] if as_json else [LiveView(execution_id, out=out, min_level=level, is_live=is_live, since=since)]
    following = Following(engine, interrupts, views, out, can_ask=is_live and is_answered(out))
    interrupts.starting(following.kill)
    begin(following)
    interrupts.started()
    outcome = following.wait([execution_id])
    is_left = isinstance(outcome, Paused)
    execution, runs, metrics = result_of(engine, execution_id if is_left else outcome[0].id)
    for view in views:
        view.close()
    if as_json:
        content = execution_json(execution, runs) | {"metrics": [metric_json(metric) for metric in metrics]}
        click.echo(json.dumps(content, ensure_ascii=False, indent=2), file=out)
    else:
        summarise(out, engine, execution, runs, metrics)
    if is_left:
        tell_left(outcome.execution, execution_id)
        return interrupts.exit_code(State.PAUSED)
    wait_for_others(following, None if as_json else out)
    return interrupts.exit_code(execution.state)


def wait_for_others(following: Following, out: TextIO | None) -> None:
    """Wait for all that is still open in this process: executions that others started and did not wait for."""
    is_told = False
    while others := following.open_ids():
        if not is_told:
            count = "another execution" if len(others) == 1 else f"{len(others)} other executions"
            click.echo(f"Waiting for {count}; Ctrl-C kills {'it' if len(others) == 1 else 'them'}.", err=True)
            is_told = True
        outcome = following.wait(others)
        if isinstance(outcome, Paused):
            tell_left(outcome.execution)
            return
        for execution in outcome if out is not None else ():
            click.echo(ended_text(execution), file=out)


def tell_left(execution: Execution, asked_id: str = "") -> None:
    """Say how an execution that is left paused goes on."""
    name = f"The execution {execution.id} of {execution.namespace}.{execution.flow_id}"
    subject = "It" if execution.id == asked_id else name
    click.echo(f"{subject} is left paused; `tercel execution resume {execution.id}` goes on with it.", err=True)
