"""Runs one job to its end in the calling thread: a task alone, or a WorkingDirectory with its children."""

from collections.abc import Callable

from tercel.model import DirectoryTask, TaskRun, WorkerJob, WorkerResult
from tercel.plugin_api import RunnableTask
from tercel.worker.attempt import run_attempt
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.services import WorkerServices
from tercel.worker.timers import Timers


class JobRunner:
    """Runs jobs; one for a process, used by all its slots at once.

    Args:
        services: what jobs reach outside of themselves.
    """

    def __init__(self, services: WorkerServices) -> None:
        self._services = services
        self._timeouts = Timers("tercel-timeouts")
        self._flushes = Timers("tercel-log-flushes")

    def run(self, job: WorkerJob, control: JobControl, report_child: Callable[[TaskRun], None]) -> WorkerResult:
        """Run *job*; never raises.

        Args:
            job: the task run to work on.
            control: through which it is stopped. After a stop for shutdown the result says KILLED, and is not to be
                reported: the job runs again elsewhere.
            report_child: told of each change of a WorkingDirectory's child, in order.

        Returns:
            How the attempt ended, with the outputs; everything it logged has been handed on, its directory is gone.
        """
        task = job.task
        if isinstance(task, DirectoryTask):
            from tercel.worker.working_directory import run_directory  # noqa: PLC0415  # not for flows without one

            scene = JobScene(job, self._services, self._timeouts, self._flushes, is_shared=True)
            return run_directory(task, scene, control, report_child)
        is_inline = isinstance(task, RunnableTask) and task.is_inline
        scene = JobScene(job, self._services, self._timeouts, None if is_inline else self._flushes)
        context = scene.context(task, job.task_run_id, job.attempt, job.variables, control)
        result = run_attempt(task, context, control, self._timeouts)
        scene.close(context)
        return result
