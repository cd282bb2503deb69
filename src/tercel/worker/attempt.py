"""One attempt of one task run: its timeout, its end in a state, and what is said when it fails. Never raises."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from tercel.errors import InvariantError, TaskFailedError, TaskKilledError, TaskTimeoutError, TercelError
from tercel.model import State, Task, WorkerResult, parse_duration
from tercel.plugin_api import Outputs, RunnableTask
from tercel.texts import whole
from tercel.worker.control import JobControl, timeout_message
from tercel.worker.run_context import TaskContext
from tercel.worker.timers import Timer, Timers

MAX_OUTPUT_BYTES = 10 * 1024 * 1024
"""How large the outputs of a task run may be, as JSON, where the setting `outputs.max-bytes` says nothing else."""

_LARGEST_NAMED = 3


class ReportedFailureError(TaskFailedError):
    """A failure of which the log of another task run tells already."""


def run_attempt(
    task: Task,
    context: TaskContext,
    control: JobControl,
    timeouts: Timers,
    work: Callable[[TaskContext], Outputs] | None = None,
    *,
    announce: bool = False,
) -> WorkerResult:
    """Run *task* once, to its end.

    Args:
        task: what to run.
        context: what it may reach; published when it has ended.
        control: stops it; also at its timeout.
        timeouts: wakes up at the timeout.
        work: does the work in place of the task's own `run`, and minds the timeout itself.
        announce: log the start and the end, at DEBUG.

    Returns:
        The attempt's end. Failures are logged at ERROR, in words for people; an unexpected one with its traceback at
        TRACE.
    """
    started_at = context.now()
    timer: Timer | None = None
    if announce:
        context.logger.debug(f"{task.type} started.")
    try:
        control.raise_if_stopped()
        if task.timeout is not None and work is None:
            timer = watch(task.timeout, context, control, timeouts)
        result = _ended(_run(task, context) if work is None else work(context), control, started_at)
    except (Exception, SystemExit) as error:
        result = _failed(error, context, control, started_at)
    finally:
        if timer is not None:
            timer.cancel()
    result = msgspec.structs.replace(_within_limit(result, context), ended_at=context.now())
    if announce:
        context.logger.debug(f"{task.type} ended {result.state} after {result.duration.total_seconds():.3f} s.")
    try:
        context.publish()
    except Exception as error:
        # Whatever the store says, the attempt has an end.
        message = f"The log cannot be stored: {type(error).__name__}: {error}"
        return msgspec.structs.replace(result, state=State.FAILED, message=context.mask(message), update=None)
    return result


def _run(task: Task, context: TaskContext) -> Outputs:
    if not isinstance(task, RunnableTask):
        raise InvariantError(f"The task {task.id!r} of type {task.type} came to a worker, but is not runnable.")
    return task.run(context)


def _ended(outputs: Outputs, control: JobControl, at: datetime) -> WorkerResult:
    if control.reason == "timeout":
        # It got to its end too late: without looking whether it has to stop, or just then.
        raise TaskTimeoutError(timeout_message(control.timeout_s), outputs=outputs)
    state = State.WARNING if outputs.warned else State.SUCCESS
    return WorkerResult(state=state, outputs=outputs, started_at=at, ended_at=at, update=outputs.execution_update)


def watch(timeout: str, context: TaskContext, control: JobControl, timeouts: Timers) -> Timer:
    """Have *control* stopped when *timeout*, a template, has passed from now on.

    Raises:
        TaskFailedError: it is no duration.
        ExpressionError: it cannot be rendered.
    """
    rendered = context.render(timeout)
    try:
        seconds = parse_duration(rendered).total_seconds()
    except ValueError as error:
        raise TaskFailedError(f"The timeout of the task cannot be read: {error}.") from error
    control.timeout_s = seconds
    return timeouts.after(seconds, lambda: control.stop("timeout"))


def _failed(error: BaseException, context: TaskContext, control: JobControl, at: datetime) -> WorkerResult:
    """The result of an attempt that *error* ended: why it was stopped counts more than what broke then."""
    outputs: Mapping[str, object] = {}
    if isinstance(error, TaskFailedError | TaskKilledError):
        outputs = error.outputs
    reason = control.reason
    if isinstance(error, TaskKilledError) or reason in {"kill", "shutdown"}:
        return WorkerResult(state=State.KILLED, outputs=outputs, started_at=at, ended_at=at, retryable=False)
    message = whole(
        context.mask(timeout_message(control.timeout_s) if reason == "timeout" else failure_message(error, context))
    )
    if reason == "timeout" or not isinstance(error, ReportedFailureError):
        context.logger.error(message)
    return WorkerResult(
        state=State.FAILED,
        outputs=outputs,
        message=message,
        started_at=at,
        ended_at=at,
        retryable=not isinstance(error, InvariantError),
    )


def failure_message(error: BaseException, context: TaskContext) -> str:
    """What to tell people of *error*; of an unexpected one the traceback is logged at TRACE. Secrets are not masked."""
    if isinstance(error, TercelError) and not isinstance(error, InvariantError):
        return str(error)
    from traceback import format_exception  # noqa: PLC0415  # only when something went wrong that should not

    context.logger.trace("".join(format_exception(error)).rstrip())
    if isinstance(error, InvariantError):
        it = context.identity
        return f"Internal error in execution {it.execution_id}, task run {it.task_run_id}: {error}"
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(lines) < 5:
        lines.append(f"{type(cause).__name__}: {cause}".rstrip(": "))
        cause = cause.__cause__
    return "\nCaused by ".join(lines)


def _within_limit(result: WorkerResult, context: TaskContext) -> WorkerResult:
    """*result*, or a failure without outputs where they are too large or cannot be stored."""
    if not result.outputs:
        return result
    limit = context.setting("outputs.max-bytes", MAX_OUTPUT_BYTES)
    limit = limit if isinstance(limit, int) else MAX_OUTPUT_BYTES
    try:
        size = len(msgspec.json.encode(result.outputs))
    except (TypeError, ValueError) as error:
        message = f"The outputs cannot be stored as JSON: {error}."
    else:
        if size <= limit:
            return result
        message = (
            f"The outputs have {size:,} bytes, more than the {limit:,} that are allowed. The largest: "
            f"{', '.join(_largest(result.outputs))}. Write large values to a file and capture it with outputFiles."
        )
    context.logger.error(message)
    message = f"{result.message}\n{message}" if result.message else message
    return msgspec.structs.replace(
        result,
        state=State.KILLED if result.state is State.KILLED else State.FAILED,
        outputs={},
        message=message,
        update=None,
    )


def _largest(outputs: Mapping[str, object], prefix: str = "") -> Sequence[str]:
    sizes = sorted(((len(msgspec.json.encode(value)), key) for key, value in outputs.items()), reverse=True)
    # `vars` of a script holds everything it printed; its members say more.
    inner = outputs.get("vars")
    if not prefix and isinstance(inner, dict) and inner and sizes[0][1] == "vars":
        return _largest(inner, "vars.")  # pyright: ignore[reportUnknownArgumentType]  # checked to be a map
    return [f"{prefix}{key} ({size:,} bytes)" for size, key in sizes[:_LARGEST_NAMED]]
