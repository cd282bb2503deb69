"""Runs one job to its end in the calling thread: a task alone, or a WorkingDirectory with its children."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tercel.machine import ExecutableTask, Requests
from tercel.model import DirectoryTask, State, Task, TaskRun, WorkerJob, WorkerResult
from tercel.plugin_api import Outputs, RunnableTask
from tercel.worker.attempt import run_attempt
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.run_context import TaskContext
from tercel.worker.services import WorkerServices
from tercel.worker.timers import Timers

if TYPE_CHECKING:
    # Tasks without files know nothing of layers.
    from tercel.layers import LayeredDirectory


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

            with self._opened(job, is_wanted=control.reason is None) as (layered, trouble):
                scene = self._scene(job, layered, is_shared=True)
                if trouble is not None:
                    return self._refused(job, scene, control, trouble)
                return run_directory(task, scene, control, report_child)
        with self._opened(job, is_wanted=self._keeps_files(task)) as (layered, trouble):
            scene = self._scene(job, layered)
            if trouble is not None:
                return self._refused(job, scene, control, trouble)
            context = self._context(job, scene, control)
            work = None if layered is None else _Recorded(job, scene, layered)
            result = run_attempt(task, context, control, self._timeouts)
            if work is not None:
                work.finish(result.state)
            scene.close(context)
            return result

    def plan(self, job: WorkerJob) -> Requests | WorkerResult:
        """Say which executions the task of *job* starts, or how it failed where that cannot be said; never raises."""
        planned: list[Requests] = []

        def work(context: TaskContext) -> Outputs:
            if isinstance(job.task, ExecutableTask):
                planned.append(job.task.requests(context))
            return Outputs()

        scene = JobScene(job, self._services, self._timeouts, None)
        context = self._context(job, scene, JobControl())
        result = run_attempt(job.task, context, JobControl(), self._timeouts, work)
        scene.close(context)
        return planned[0] if planned and result.state is State.SUCCESS else result

    def _keeps_files(self, task: Task) -> bool:
        """Whether a task alone gets a directory of layers: with it what it changed of its input files is seen."""
        return getattr(task, "input_files", None) is not None

    def _works_outside(self, task: Task) -> bool:
        """Whether a container engine has to see the directory of *task*."""
        tasks = task.tasks if isinstance(task, DirectoryTask) else (task,)
        settings = self._services.settings
        return any(isinstance(one, RunnableTask) and one.works_outside(settings) for one in tasks)

    @contextmanager
    def _opened(
        self, job: WorkerJob, *, is_wanted: bool
    ) -> "Generator[tuple[LayeredDirectory | None, Exception | None]]":
        """The directory made of layers, None where none is wanted; or why it cannot be had."""
        open_layers = self._services.layers
        if open_layers is None or not is_wanted:
            yield None, None
            return
        from tercel.layers import LayerError  # noqa: PLC0415  # not for tasks without files
        from tercel.worker.layer_services import place_name  # noqa: PLC0415  # same

        is_plain = self._works_outside(job.task)
        with ExitStack() as stack:
            layered, trouble = None, None
            try:
                services = open_layers()
                # Of a task alone nothing is to be seen afterwards where snapshots are not kept.
                if isinstance(job.task, DirectoryTask) or services.snapshots is not None:
                    opened = stack.enter_context(services.layers.directory(place_name(job), is_plain=is_plain))
                    if not isinstance(job.task, DirectoryTask):
                        opened.fill([])
                    layered = opened
            except (LayerError, OSError) as error:
                trouble = error
            yield layered, trouble

    def _scene(self, job: WorkerJob, layered: "LayeredDirectory | None", *, is_shared: bool = False) -> JobScene:
        is_inline = isinstance(job.task, RunnableTask) and job.task.is_inline
        flushes = None if is_inline else self._flushes
        return JobScene(job, self._services, self._timeouts, flushes, is_shared=is_shared, layered=layered)

    def _context(self, job: WorkerJob, scene: JobScene, control: JobControl) -> TaskContext:
        return scene.context(job.task, job.task_run_id, job.attempt, job.variables, control)

    def _refused(self, job: WorkerJob, scene: JobScene, control: JobControl, trouble: Exception) -> WorkerResult:
        """The result of a job that has no directory to run in."""

        def fail(_: TaskContext) -> Outputs:
            raise trouble

        context = self._context(job, scene, control)
        result = run_attempt(job.task, context, control, self._timeouts, fail)
        scene.close(context)
        return result


class _Recorded:
    """Writes down what a task alone does in its directory."""

    def __init__(self, job: WorkerJob, scene: JobScene, layered: "LayeredDirectory") -> None:
        from tercel.worker.recorder import Recorder  # noqa: PLC0415  # not for tasks without files

        layers = scene.services.layers
        snapshots = None if layers is None else layers().snapshots
        self._job = job
        self._recorder = Recorder(job, layered, snapshots, scene.services.clock, lambda _: None)
        scene.workplace.inputs_written = self._recorder.inputs_written

    def finish(self, state: State) -> None:
        """The attempt has ended."""
        job = self._job
        self._recorder.end_step(job.task.id, job.task_run_id, job.attempt, state.value, keep=True, is_last=True)
        self._recorder.finish()
