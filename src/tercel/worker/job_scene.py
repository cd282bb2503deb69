"""What all task runs of one job have in common: its directory, its secrets, its services."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tercel.model import Task, WorkerJob
from tercel.worker.control import JobControl
from tercel.worker.log_capture import RunIdentity, TaskLog
from tercel.worker.run_context import TaskContext
from tercel.worker.services import WorkerServices
from tercel.worker.timers import Timers
from tercel.worker.workplace import Workplace

if TYPE_CHECKING:
    # Tasks without files know nothing of layers.
    from tercel.layers import LayeredDirectory


class JobScene:
    """The scene of one job.

    Args:
        services: what jobs reach outside of themselves.
        timeouts: wakes up when a timeout passes.
        flushes: sends log lines on while a task is silent; None where it is over in no time.
        is_shared: True for a WorkingDirectory.
        layered: the job's directory, where it is made of layers.
    """

    __slots__ = ("_flushes", "job", "masker", "services", "timeouts", "workplace")

    def __init__(
        self,
        job: WorkerJob,
        services: WorkerServices,
        timeouts: Timers,
        flushes: Timers | None,
        *,
        is_shared: bool = False,
        layered: "LayeredDirectory | None" = None,
    ) -> None:
        self.job = job
        self.services = services
        self.timeouts = timeouts
        self._flushes = flushes
        self.masker = services.masker
        self.workplace = Workplace(services.directories, is_shared=is_shared, layered=layered)

    def context(
        self, task: Task, task_run_id: str, attempt: int, variables: Mapping[str, object], control: JobControl
    ) -> TaskContext:
        """The context of one attempt, counted from zero, of one of the job's task runs."""
        job = self.job
        services = self.services
        identity = RunIdentity(
            execution_id=job.execution_id,
            namespace=job.namespace,
            flow_id=job.flow_id,
            task_id=task.id,
            task_run_id=task_run_id,
            attempt=attempt,
        )
        log = TaskLog(services.logs, identity, self.masker, services.clock, level=task.log_level, flushes=self._flushes)
        return TaskContext(
            services=services,
            identity=identity,
            variables=variables,
            workplace=self.workplace,
            control=control,
            masker=self.masker,
            log=log,
        )

    def close(self, context: TaskContext) -> None:
        """Remove the directory; what cannot be removed is said in the log of *context*."""
        leftover = self.workplace.remove()
        if leftover:
            context.logger.warn(leftover)
            context.logger.flush()
