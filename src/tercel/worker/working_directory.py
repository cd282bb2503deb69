"""A WorkingDirectory's run: fill the directory, run the children in it, collect, save, remove.

The phases follow one another; the result is given back only when the last one is over, so that nobody sees the
WorkingDirectory ended before its files are where its outputs say.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from tercel.errors import TaskFailedError, TaskKilledError, UserError
from tercel.model import DirectoryTask, State, Task, TaskRun, WorkerResult
from tercel.plugin_api import Outputs
from tercel.worker.attempt import ReportedFailureError, run_attempt, watch
from tercel.worker.children import Children
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.run_context import TaskContext

if TYPE_CHECKING:
    from tercel.worker.directory_cache import DirectoryCache
    from tercel.worker.layer_services import LayerServices
    from tercel.worker.recorder import Recorder


def run_directory(
    task: DirectoryTask, scene: JobScene, control: JobControl, report_child: Callable[[TaskRun], None]
) -> WorkerResult:
    """Run *task* and its children to the end; never raises. The arguments are those of `JobRunner.run`."""
    job = scene.job
    # A scope of its own: the WorkingDirectory's timeout kills the running child and leaves the job's control alone.
    with control.nested() as scope:
        context = scene.context(task, job.task_run_id, job.attempt, job.variables, scope)
        run = _DirectoryRun(task, scene, scope, context, report_child)
        result = run_attempt(task, context, scope, scene.timeouts, run.to_end)
    scene.close(context)
    return result


class _DirectoryRun:
    def __init__(
        self,
        task: DirectoryTask,
        scene: JobScene,
        scope: JobControl,
        context: TaskContext,
        report_child: Callable[[TaskRun], None],
    ) -> None:
        self._task = task
        self._scene = scene
        self._scope = scope
        self._context = context
        self._layers = None if scene.workplace.layered is None else _layers_of(scene)
        self._recorder = self._opened_recorder()
        self._cache = self._opened_cache()
        self._children = Children(scene, scope, report_child, self._recorder)

    def _opened_recorder(self) -> "Recorder | None":
        layered = self._scene.workplace.layered
        if layered is None or self._layers is None:
            return None
        from tercel.worker.recorder import Recorder  # noqa: PLC0415  # not without layers

        services = self._scene.services
        return Recorder(self._scene.job, layered, self._layers.snapshots, services.clock, self._context.logger.warn)

    def _opened_cache(self) -> "DirectoryCache | None":
        if self._task.cache is None:
            return None
        if self._recorder is None or self._layers is None:
            self._context.logger.warn("This worker keeps no caches.")
            return None
        from tercel.worker.directory_cache import DirectoryCache  # noqa: PLC0415  # not without a cache

        return DirectoryCache(self._task.cache, self._layers, self._recorder, self._scene, self._context)

    def to_end(self, context: TaskContext) -> Outputs:
        """All phases but the last, the removal of the directory.

        Raises:
            TaskFailedError: a phase or a child failed, or the timeout passed; with the outputs.
            TaskKilledError: the execution is being killed; with the outputs.
        """
        timer = (
            None
            if self._task.timeout is None
            else watch(self._task.timeout, context, self._scope, self._scene.timeouts)
        )
        try:
            children = [child for child in self._task.tasks if not child.disabled]
            done = self._fill(children)
            for place, child in enumerate(children[done:], done + 1):
                if not self._children.run(child, is_last=place == len(children)):
                    break
        finally:
            # The timeout is over the directory's filling and the children, not over what is done with the result.
            if timer is not None:
                timer.cancel()
        return self._collect()

    def _fill(self, children: Sequence[Task]) -> int:
        """Put into the directory what the first child finds; gives how many children an earlier job has done."""
        context, recorder, cache = self._context, self._recorder, self._cache
        directory = self._scene.workplace.directory
        context.logger.debug(f"The directory is {directory}{self._method()}.")
        if self._scene.job.children and recorder is None:
            self._children.run_all_again()
        elif self._scene.job.children and recorder is not None:
            from tercel.worker.resumption import go_on  # noqa: PLC0415  # only after a restart or a lost worker

            snapshots = None if self._layers is None else self._layers.snapshots
            done = go_on(self._scene, recorder, snapshots, children, context=context, stage=self._stage)
            if done is not None:
                for row in done:
                    self._children.take_over(row)
                if cache is not None:
                    cache.go_on(recorder.snapshot.cache, recorder.snapshot.entry)
                return len(done)
            recorder.directory.fill([])  # whatever it has come to
            self._children.run_all_again()
        if cache is not None:
            cache.restore()
            context.stop_if_killed()
        if recorder is not None and not recorder.directory.layers:
            recorder.directory.fill([])
        self._stage()
        if recorder is not None:
            recorder.inputs_written()
        context.stop_if_killed()
        return 0

    def _method(self) -> str:
        """How the directory is made, for people."""
        if self._layers is None:
            return ""
        layers = self._layers.layers
        return f", by {layers.backend}" + (f", as {layers.why}" if layers.why else "")

    def _stage(self) -> None:
        """Write namespace and input files."""
        self._stage_namespace_files()
        self._context.stop_if_killed()
        self._context.write_input_files(self._task.input_files)

    def _stage_namespace_files(self) -> None:
        files = self._task.namespace_files
        if files is None:
            return
        started = perf_counter()
        count = self._context.stage_namespace_files(files)
        self._context.metric("namespacefiles.count", count)
        self._context.metric("namespacefiles.duration", perf_counter() - started, "timer")
        self._context.logger.debug(f"{count} namespace file{'s' * (count != 1)} written.")

    def _collect(self) -> Outputs:
        outputs = Outputs()
        if self._scope.reason == "shutdown":
            # All of it happens again elsewhere, and the worker has little time.
            raise TaskKilledError
        failure = ""
        try:
            uris = self._context.capture(self._task.output_files)
        except (UserError, TaskFailedError) as error:
            failure = str(error)
        except OSError as error:
            failure = f"The output files cannot be captured: {error.strerror or error}: {error.filename}"
        else:
            outputs |= {"outputFiles": uris, "uris": uris}
            if self._task.output_files:
                self._context.metric("outputfiles.count", len(uris))
        if self._recorder is not None:
            self._recorder.finish()
        if self._cache is not None:
            succeeded = not failure and self._children.state in {State.SUCCESS, State.WARNING}
            self._cache.save(self._scope, succeeded=succeeded)
        return self._resolved(outputs, failure)

    def _resolved(self, outputs: Outputs, failure: str) -> Outputs:
        """*outputs*, or the error that the WorkingDirectory ends with."""
        children = self._children
        if failure:
            raise TaskFailedError("\n".join(filter(None, (children.failure, failure))), outputs=outputs)
        stopped = self._scope.reason
        if stopped in {"kill", "shutdown"} or (stopped is None and children.state is State.KILLED):
            raise TaskKilledError(outputs=outputs)
        if stopped == "timeout" or children.state is State.FAILED:
            raise ReportedFailureError(children.failure, outputs=outputs)
        outputs.warned = children.state is State.WARNING
        return outputs


def _layers_of(scene: JobScene) -> "LayerServices | None":
    return None if scene.services.layers is None else scene.services.layers()
