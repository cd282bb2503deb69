"""Evaluates polling triggers: each in a thread of its own, a few at once, in a private directory; never raises."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock, Thread
from time import monotonic
from typing import cast

import msgspec
from msgspec.structs import replace

from tercel.errors import InvariantError, TaskFailedError
from tercel.model.jobs import TriggerJob, TriggerResult
from tercel.model.logs import LogEntry, Metric
from tercel.model.trigger import Trigger
from tercel.plugin_api import MetricType, PollingTrigger
from tercel.storage import execution_path, trigger_path
from tercel.worker.attempt import MAX_OUTPUT_BYTES, failure_message
from tercel.worker.control import JobControl, StopReason, timeout_message
from tercel.worker.log_capture import RunIdentity, TaskLog
from tercel.worker.run_context import TaskContext
from tercel.worker.services import WorkerServices
from tercel.worker.timers import Timers
from tercel.worker.workplace import Workplace

_TIMEOUT_S = 3600.0
_MOST_CHARACTERS = 1 << 20
"""Of the log of one evaluation, which is kept in memory until it is known where it belongs."""


class TriggerContext(TaskContext):
    """All that one evaluation may reach; a `plugin_api.PollContext`.

    Attributes:
        memory: what the trigger keeps.
        has_files: whether it has saved files.
    """

    __slots__ = ("has_files", "memory")

    def __init__(
        self,
        job: TriggerJob,
        services: WorkerServices,
        workplace: Workplace,
        control: JobControl,
        log: TaskLog,
    ) -> None:
        super().__init__(
            services=services,
            identity=_identity(job),
            variables=job.variables,
            workplace=workplace,
            control=control,
            masker=services.masker,
            log=log,
        )
        self.memory: dict[str, object] = dict(job.memory)
        self.has_files = False

    def _storage_path(self, name: str) -> str:
        it = self.identity
        self.has_files = True
        return trigger_path(it.namespace, it.flow_id, it.execution_id, it.task_id, name)

    def metric(
        self, name: str, value: float, type: MetricType = "counter", tags: Mapping[str, str] | None = None
    ) -> None:
        """Nothing: metrics belong to task runs."""


class TriggerRunner:
    """Evaluates triggers; one for a process.

    Args:
        services: what evaluations reach outside of themselves.
        most: how many there are at once, at most.
        groups: keys of the worker groups that it serves; None for all.
        timeout_s: after so long an evaluation is ended.
    """

    def __init__(
        self,
        services: WorkerServices,
        *,
        most: int,
        groups: Sequence[str] | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._services = services
        self._most = most
        self._groups = groups
        self._timeout_s = timeout_s
        self._timeouts = Timers("tercel-trigger-timeouts")
        self._lock = Lock()
        self._running: dict[str, tuple[JobControl, Thread]] = {}
        self._is_closing = False

    @property
    def room(self) -> int:
        """How many more evaluations can begin."""
        with self._lock:
            return 0 if self._is_closing else max(0, self._most - len(self._running))

    def serves(self, trigger: Trigger) -> bool:
        """Say whether the trigger's worker group is one of those that this process serves."""
        return self._groups is None or (trigger.worker_group.key if trigger.worker_group else "") in self._groups

    def start(self, job: TriggerJob, done: Callable[[TriggerResult], object]) -> None:
        """Begin an evaluation; *done* gets its result, in the evaluation's own thread."""
        control = JobControl()
        thread = Thread(target=self._work, args=(job, control, done), name=f"tercel-{job.trigger.id}", daemon=True)
        with self._lock:
            self._running[job.execution_id] = control, thread
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._forget(job)
            done(TriggerResult(problem=f"{error}.", memory=job.memory))

    def _work(self, job: TriggerJob, control: JobControl, done: Callable[[TriggerResult], object]) -> None:
        result = TriggerResult(problem="The evaluation ended without a result.", memory=job.memory)
        try:
            result = self.run(job, control)
        finally:
            self._forget(job)
            done(result)

    def _forget(self, job: TriggerJob) -> None:
        with self._lock:
            self._running.pop(job.execution_id, None)

    def run(self, job: TriggerJob, control: JobControl | None = None) -> TriggerResult:
        """Evaluate a trigger, or settle what it has found, in the calling thread; never raises."""
        control = control or JobControl()
        control.timeout_s = self._timeout_s
        services = self._services
        kept = _Entries(job.trigger.id)
        log = TaskLog(kept, _identity(job), services.masker, services.clock, level=job.trigger.log_level)
        workplace = Workplace(services.directories)
        context = TriggerContext(job, services, workplace, control, log)
        timer = self._timeouts.after(self._timeout_s, lambda: control.stop("timeout"))
        try:
            result = self._evaluated(job, context, control)
        except (Exception, SystemExit) as error:
            told = timeout_message(self._timeout_s) if control.reason == "timeout" else failure_message(error, context)
            result = TriggerResult(problem=context.mask(told), memory=job.memory)
        finally:
            timer.cancel()
        leftover = workplace.remove()
        if leftover:
            context.logger.warn(leftover)
        if context.has_files and (job.is_trial or result.variables is None):
            self._remove_files(job, job.execution_id, context)
        context.logger.flush()
        has_files = context.has_files and result.variables is not None and not job.is_trial
        return replace(result, entries=tuple(kept.entries), has_files=has_files)

    def _evaluated(self, job: TriggerJob, context: TriggerContext, control: JobControl) -> TriggerResult:
        trigger = job.trigger
        if not isinstance(trigger, PollingTrigger):
            raise InvariantError(f"The trigger {trigger.id!r} of type {trigger.type} is no polling trigger.")
        if job.leftover_id:
            self._remove_files(job, job.leftover_id, context)
        control.raise_if_stopped()
        variables = None
        if job.is_settling:
            trigger.settle(context)
        else:
            variables = trigger.evaluate(context)
        control.raise_if_stopped()
        return TriggerResult(
            variables=None if variables is None else self._sound(dict(variables), "variables", context),
            memory=_plain(self._sound(context.memory, "memory", context)),
        )

    def _sound(self, values: dict[str, object], name: str, context: TriggerContext) -> dict[str, object]:
        """*values*, if they can be stored."""
        limit = context.setting("outputs.max-bytes", MAX_OUTPUT_BYTES)
        try:
            size = len(msgspec.json.encode(values))
        except (TypeError, ValueError) as error:
            raise TaskFailedError(f"The {name} of the trigger cannot be stored as JSON: {error}.") from error
        if isinstance(limit, int) and size > limit:
            raise TaskFailedError(f"The {name} of the trigger: {size:,} bytes, more than the {limit:,} allowed.")
        return values

    def _remove_files(self, job: TriggerJob, execution_id: str, context: TriggerContext) -> None:
        try:
            self._services.storage.delete_all(execution_path(job.namespace, job.flow_id, execution_id))
        except Exception as error:  # they are in nobody's way
            context.logger.warn(f"Files of an execution that was not started are left: {error}")

    def stop(self, execution_id: str, reason: StopReason = "kill") -> None:
        """End the evaluation that was to start this execution; nothing where there is none."""
        with self._lock:
            found = self._running.get(execution_id)
        if found is not None:
            found[0].stop(reason)

    def discard(self, job: TriggerJob) -> None:
        """Remove the files of an evaluation whose execution was not started."""
        self._services.storage.delete_all(execution_path(job.namespace, job.flow_id, job.execution_id))

    def close(self, patience_s: float = 5.0) -> None:
        """End what runs, and wait until it has ended, for *patience_s* at most."""
        with self._lock:
            self._is_closing = True
            running = list(self._running.values())
        for control, _ in running:
            control.stop("shutdown")
        deadline = monotonic() + patience_s
        for _, thread in running:
            thread.join(max(0.0, deadline - monotonic()))


class _Entries:
    """Keeps what an evaluation logs."""

    def __init__(self, trigger_id: str) -> None:
        self._trigger_id = trigger_id
        self._characters = 0
        self.entries: list[LogEntry] = []

    def write_logs(self, entries: Sequence[LogEntry]) -> None:
        """Keep entries, as long as there are not too many."""
        for entry in entries:
            if self._characters <= _MOST_CHARACTERS:
                self._characters += len(entry.message) + 100
                self.entries.append(replace(entry, task_id=None, task_run_id=None, trigger_id=self._trigger_id))

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        """Keep none."""


def _identity(job: TriggerJob) -> RunIdentity:
    return RunIdentity(
        execution_id=job.execution_id,
        namespace=job.namespace,
        flow_id=job.flow_id,
        task_id=job.trigger.id,
        task_run_id="",
        attempt=0,
    )


def _plain(memory: dict[str, object]) -> dict[str, object]:
    """What reads the same whether it was stored meanwhile or not."""
    return cast("dict[str, object]", msgspec.json.decode(msgspec.json.encode(memory)))
