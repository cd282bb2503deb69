"""What one event changes while it is being applied: rows, commands, the execution; and what it may render.

The only place where rows are replaced, so the only one that checks the table of legal changes of state. Knows nothing
of what follows from what.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from tercel.errors import InvariantError, UserError
from tercel.machine.index import FlowIndex, Place
from tercel.machine.limits import DIRECTORY_GRACE, LONGEST, TIMEOUT_GRACE
from tercel.machine.live import LiveExecution
from tercel.machine.messages import Command, WriteLog
from tercel.machine.variables import variables
from tercel.model.duration import parse_duration
from tercel.model.execution import Execution, TaskRun
from tercel.model.input_values import parse_output
from tercel.model.state import LEGAL, State, StateChange
from tercel.model.task import LogLevel


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one event changed.

    Attributes:
        execution: the execution's new row; None where it did not change.
        runs: task runs, new or changed, each once, parents before children.
        commands: what to do once the rows are committed.
        removed: ids of task runs to delete, before *runs* are written: what the lost or
            failed job of a WorkingDirectory had reported.
    """

    execution: Execution | None = None
    runs: list[TaskRun] = []
    commands: list[Command] = []
    removed: list[str] = []

    @property
    def is_empty(self) -> bool:
        """True where the event did not fit and nothing has to be stored."""
        return self.execution is None and not self.runs and not self.commands and not self.removed


Functions = Mapping[str, Callable[..., object]]
"""Functions of expressions that reach outside, such as `secret` and `kv`; `mask` hides what `secret` gave,
and what `keep_secret` was told."""


class Outside(NamedTuple):
    """What expressions reach beyond the execution.

    Attributes:
        functions: what they may call.
        surroundings: variables such as `envs`.
        clock: monotonic seconds, for the deadline of one render; None for no deadline.
    """

    functions: Functions
    surroundings: Mapping[str, object]
    clock: Callable[[], float] | None


_MOVING = (State.RUNNING, State.RETRYING, State.PAUSED)


class Step:
    """One event being applied.

    Args:
        flow: the flow revision that the execution runs.
        live: the execution; changed in place.
        now: the event's instant.
        outside: what expressions reach beyond the execution.
    """

    __slots__ = (
        "_changed",
        "_commands",
        "_execution_changed",
        "_flow",
        "_live",
        "_now",
        "_outside",
        "_removed",
    )

    def __init__(self, flow: FlowIndex, live: LiveExecution, now: datetime, outside: Outside) -> None:
        self._flow = flow
        self._live = live
        self._now = now
        self._outside = outside
        self._changed: dict[str, None] = {}
        self._removed: list[str] = []
        self._commands: list[Command] = []
        self._execution_changed = False

    def change(self) -> Change:
        """What was changed, once nothing moves any more."""
        live = self._live
        self._settle_state()
        if self._execution_changed:
            live.execution = replace(live.execution, version=live.execution.version + 1)
        return Change(
            execution=live.execution if self._execution_changed else None,
            runs=[live.runs[run_id] for run_id in self._changed],
            commands=self._commands,
            removed=self._removed,
        )

    @property
    def is_empty(self) -> bool:
        """True where nothing was changed so far."""
        return not (self._execution_changed or self._changed or self._removed)

    def _settle_state(self) -> None:
        """Have the execution say what its task runs do: wait for somebody, wait for another try, or run."""
        live = self._live
        state = live.execution.state
        if state not in _MOVING:
            return
        if live.paused or live.is_held:
            wanted = State.PAUSED
        else:
            rests = bool(live.waiting) and len(live.waiting) == len(live.jobs)
            wanted = State.RETRYING if rests else State.RUNNING
        if wanted is state:
            return
        if state is State.PAUSED:
            self._move_execution(State.RESTARTED)
            self._move_execution(State.RUNNING)
        if wanted is not self._live.execution.state:
            self._move_execution(wanted)

    def _keep(self, run: TaskRun) -> TaskRun:
        self._live.put(run)
        self._changed[run.id] = None
        return run

    def _move_execution(self, state: State) -> None:
        execution = self._live.execution
        change = StateChange(state, max(self._now, execution.history[-1].date))
        self._live.execution = replace(execution, history=grown(execution.history, change))
        self._execution_changed = True

    def _set_execution(self, execution: Execution) -> None:
        """Replace the execution's row, its history apart."""
        self._live.execution = execution
        self._execution_changed = True

    def _log(self, level: LogLevel, message: str, run: TaskRun | None = None) -> None:
        self._commands.append(WriteLog(level=level, message=message, run_id=None if run is None else run.id))

    def _render(self, text: str, run: TaskRun) -> str:
        if "{" not in text:
            return text
        from tercel.expression import render  # noqa: PLC0415  # only flows with expressions pay for it

        outside = self._outside
        seen = variables(self._flow, self._live, run, outside.surroundings)
        try:
            return str(render(text, seen, outside.functions, clock=outside.clock))
        except UserError as error:
            raise self._masked(error) from None

    def _render_outside(self, text: str, extra: Mapping[str, object]) -> str:
        """Render a text with what the execution itself sees; *extra* variables win."""
        from tercel.expression import render  # noqa: PLC0415  # as above

        outside = self._outside
        seen = {**variables(self._flow, self._live, None, outside.surroundings), **extra}
        try:
            return str(render(text, seen, outside.functions, clock=outside.clock))
        except UserError as error:
            raise self._masked(error) from None

    def _masked(self, error: UserError) -> UserError:
        """*error* without the secrets that the expression got: its message may quote them, and is kept."""
        mask = self._outside.functions.get("mask")
        return error if mask is None else UserError(str(mask(str(error))))

    def _timeout(self, place: Place, run: TaskRun) -> timedelta | None:
        """The rendered timeout of a task; None without one. Raises UserError where it is none."""
        written = place.task.timeout
        if written is None:
            return None
        text = self._render(written, run)
        try:
            return min(parse_duration(text), LONGEST) if text else None
        except ValueError as error:
            raise UserError(f"The `timeout` of task {place.task.id!r} is no duration: {error}.") from error

    def _deadline(self, place: Place, run: TaskRun) -> datetime | None:
        """When the machine itself ends an attempt whose worker ought to have done so."""
        try:
            limit = self._timeout(place, run)
        except UserError:
            return None  # the worker renders it too, and fails the attempt with the sentence
        grace = DIRECTORY_GRACE if place.is_directory else timedelta(0) if place.executable else TIMEOUT_GRACE
        return None if limit is None else self._now + limit + grace

    def _flow_outputs(self) -> dict[str, object]:
        """The rendered outputs of the flow, each as its type. Raises UserError where one cannot be."""
        from tercel.expression import render_object  # noqa: PLC0415  # only flows with outputs pay for it

        outside = self._outside
        seen = variables(self._flow, self._live, None, outside.surroundings)
        outputs: dict[str, object] = {}
        for output in self._flow.flow.outputs:
            try:
                rendered = render_object(output.value, seen, outside.functions, clock=outside.clock)
            except UserError as error:
                raise self._masked(error) from None
            try:
                value = outputs[output.id] = parse_output(output.type, rendered)
            except ValueError as error:
                message = f"The output {output.id!r} does not fit its type {output.type}: {error}."
                raise self._masked(UserError(message)) from None
            keep_secret = outside.functions.get("keep_secret") if output.type == "SECRET" else None
            if keep_secret is not None and isinstance(value, str):
                keep_secret(value)
        return outputs


def grown(history: tuple[StateChange, ...], change: StateChange) -> tuple[StateChange, ...]:
    """*history* with one more change, if the table allows it."""
    if change.state not in LEGAL[history[-1].state]:
        raise InvariantError(f"The state {history[-1].state} cannot become {change.state}.")
    return (*history, change)


def between(low: datetime, at: datetime, high: datetime) -> datetime:
    """*at* as told by another clock, moved into what this one allows."""
    return max(low, min(at, high))
