"""The children of a WorkingDirectory: one after the other in the same directory, tried again in place."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tercel.errors import UserError
from tercel.expression import is_truthy_text
from tercel.layers.trees import LayerError
from tercel.machine.limits import counted_attempts, next_attempt_at
from tercel.machine.variables import child_variables
from tercel.model import Attempt, LogLevel, State, StateChange, Task, TaskRun, WorkerResult, task_run_id
from tercel.worker.attempt import run_attempt
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.run_context import TaskContext

if TYPE_CHECKING:
    # Not without layers.
    from tercel.worker.recorder import Recorder


class Children:
    """Runs the `tasks` of one WorkingDirectory's job, of which it keeps count.

    Args:
        scope: ends the running child, and lets no other start, when the WorkingDirectory is stopped.
        report: told of each change of a child, in order.
        recorder: keeps what each attempt changes; None where nobody does.

    Attributes:
        states: task id to final state of the children that started or were skipped, in order.
        failure: which child ended the loop, and why, for people; empty where none did.
    """

    def __init__(
        self,
        scene: JobScene,
        scope: JobControl,
        report: Callable[[TaskRun], None],
        recorder: "Recorder | None" = None,
    ) -> None:
        self.recorder = recorder
        self.scene = scene
        self.scope = scope
        self.report = report
        self.rows = {row.task_id: row for row in scene.job.children}
        self.outputs: dict[str, Mapping[str, object]] = {}
        self.states: dict[str, State] = {}
        self.failure = ""

    @property
    def state(self) -> State:
        """What the children amount to: KILLED before FAILED before WARNING before SUCCESS."""
        ended = self.states.values()
        return next((state for state in (State.KILLED, State.FAILED, State.WARNING) if state in ended), State.SUCCESS)

    def run_all_again(self) -> None:
        """What an earlier job of this run has done is lost: say so of all its children before the first one starts.

        Otherwise those that have not had their turn yet would look done to whoever comes after this job.
        """
        now = self.scene.services.clock()
        for task_id, row in self.rows.items():
            if row.state.is_terminal:
                again = StateChange(State.RESTARTED, max(now, row.history[-1].date))
                self.rows[task_id] = replace(
                    row,
                    history=(*row.history, again),
                    past_attempts=len(row.attempts),
                    fence=self.scene.job.fence,
                )
                self.report(self.rows[task_id])

    def take_over(self, row: TaskRun) -> None:
        """A child that an earlier job of this run has done."""
        self.states[row.task_id] = row.state
        if row.state is not State.SKIPPED:
            self.outputs[row.task_id] = row.outputs

    def run(self, task: Task, *, is_last: bool = False) -> bool:
        """Run one child to its end, with all its attempts; says whether the next one may start.

        Args:
            task: of the child.
            is_last: no other follows.
        """
        if self.scope.reason is not None:
            return False
        ended = _ChildRun(self, task, is_last=is_last).to_end()
        self.states[task.id] = ended.state
        if ended.state is not State.SKIPPED:
            self.outputs[task.id] = ended.outputs
        if ended.state is State.FAILED:
            self.failure = f"The task {task.id!r} failed: {ended.message}"
        return ended.state not in {State.FAILED, State.KILLED} and self.scope.reason is None


class _ChildRun:
    """One child's task run, from CREATED to its end."""

    def __init__(self, siblings: Children, task: Task, *, is_last: bool) -> None:
        self._siblings = siblings
        self._scene = siblings.scene
        self._task = task
        self._is_last = is_last
        job = self._scene.job
        known = siblings.rows.get(task.id)
        if known is None:
            known = TaskRun(
                id=task_run_id(job.execution_id, job.task_run_id, task.id, None, None),
                execution_id=job.execution_id,
                task_id=task.id,
                parent_id=job.task_run_id,
                history=(StateChange(State.CREATED, self._scene.services.clock()),),
            )
        self._run = replace(known, fence=job.fence, worker=self._scene.services.worker_id or None, due=None)

    def to_end(self) -> TaskRun:
        """Run until no attempt is left, reporting each change."""
        if self._task.run_if is not None and not self._is_wanted(self._task.run_if):
            return self._run
        while True:
            result = self._attempt()
            retry_at = self._retry_at(result)
            if not self._record(result, is_final=retry_at is None):
                retry_at = None
            if retry_at is None:
                self._end(self._final_state(result.state), result)
                return self._run
            self._change(State.RETRYING, due=retry_at, message=result.message, outputs=result.outputs)
            wait_s = (retry_at - self._scene.services.clock()).total_seconds()
            if self._siblings.scope.wait(max(0.0, wait_s)):
                self._end(State.KILLED, result)
                return self._run

    def _is_wanted(self, run_if: str) -> bool:
        context = self._context(self._siblings.scope)
        try:
            if is_truthy_text(context.render(run_if)):
                return True
        except UserError as error:
            message = context.mask(f"runIf cannot be evaluated: {error}")
            context.logger.log(LogLevel.ERROR, message)
            self._change(self._final_state(State.FAILED), message=message)
        else:
            self._change(State.SKIPPED)
        finally:
            context.publish()
        return False

    def _attempt(self) -> WorkerResult:
        services = self._scene.services
        begun = self._later(services.clock())
        change = StateChange(State.RUNNING, begun)
        done = self._run.attempts
        attempt = Attempt((change,), self._run.worker)
        self._run = replace(
            self._run, history=(*self._run.history, change), attempts=(*done, attempt), due=None, message="", outputs={}
        )
        self._siblings.report(self._run)
        with self._siblings.scope.nested() as control:
            context = self._context(control)
            result = run_attempt(self._task, context, control, self._scene.timeouts, announce=True)
        end = StateChange(result.state, max(begun, result.ended_at))
        self._run = replace(self._run, attempts=(*done, Attempt((change, end), attempt.worker)))
        return result

    def _record(self, result: WorkerResult, *, is_final: bool) -> bool:
        """Keep what an attempt changed; put the directory back where it is tried again, and tell whether it could be.

        Args:
            result: of the attempt.
            is_final: False where it is tried again.
        """
        recorder, run = self._siblings.recorder, self._run
        if recorder is None or self._siblings.scope.reason == "shutdown":
            return True
        state = self._final_state(result.state) if is_final else result.state
        ends_all = is_final and (self._is_last or state in {State.FAILED, State.KILLED})
        try:
            recorder.end_step(run.task_id, run.id, len(run.attempts) - 1, state.value, keep=is_final, is_last=ends_all)
        except LayerError as error:
            context = self._context(self._siblings.scope)
            message = f"It is not tried again, as the directory cannot be put back: {error}"
            context.logger.log(LogLevel.ERROR, message)
            context.publish()
            return False
        return True

    def _context(self, control: JobControl) -> TaskContext:
        siblings = self._siblings
        finished = sum(1 for attempt in self._run.attempts if attempt.state.is_terminal)
        variables = child_variables(self._scene.job, self._task, self._run, siblings.outputs, siblings.states)
        variables["workingDir"] = str(self._scene.workplace.directory)
        return self._scene.context(self._task, self._run.id, finished, variables, control)

    def _retry_at(self, result: WorkerResult) -> datetime | None:
        retry = self._task.retry
        if retry is None or result.state is not State.FAILED or not result.retryable:
            return None
        if self._siblings.scope.reason is not None or retry.behavior != "RETRY_FAILED_TASK":
            return None
        return next_attempt_at(retry, counted_attempts(self._run), self._scene.services.clock(), seed=self._run.id)

    def _final_state(self, state: State) -> State:
        task = self._task
        if state is State.SUCCESS and task.retry is not None and task.retry.warning_on_retry:
            state = State.WARNING if len(counted_attempts(self._run)) > 1 else state
        if state is State.FAILED and task.allow_failure:
            state = State.WARNING
        if state is State.WARNING and task.allow_warning:
            state = State.SUCCESS
        return state

    def _end(self, state: State, result: WorkerResult) -> None:
        self._change(state, outputs=result.outputs, message=result.message)

    def _change(
        self,
        state: State,
        *,
        outputs: Mapping[str, object] | None = None,
        message: str = "",
        due: datetime | None = None,
    ) -> None:
        change = StateChange(state, self._later(self._scene.services.clock()))
        self._run = replace(
            self._run, history=(*self._run.history, change), outputs=outputs or {}, message=message, due=due
        )
        self._siblings.report(self._run)

    def _later(self, at: datetime) -> datetime:
        """*at*, or the last change's date where the clock has been set back."""
        return max(at, self._run.history[-1].date)
