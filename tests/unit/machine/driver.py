"""Drives an execution through the machine with scripted results, one job at a time, in the order of dispatch."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tercel.machine import Change, LiveExecution, advance, compile_flow
from tercel.machine.live import Scope
from tercel.machine.messages import (
    CancelTask,
    Event,
    ExecutionCreated,
    KillRequested,
    RestartRequested,
    RunTask,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WriteLog,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.jobs import WorkerResult
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import Task

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Job(Task, frozen=True, kw_only=True):
    """A leaf that does nothing."""

    type: str = "job"


def a_flow(*tasks: Task, **properties: object) -> Flow:
    return Flow(id="flow", namespace="test", tasks=list(tasks), **properties)  # type: ignore[arg-type]


def jobs(*ids: str) -> list[Task]:
    return [Job(id=id_) for id_ in ids]


def a_result(state: State = State.SUCCESS, at: datetime = NOON, **fields: object) -> WorkerResult:
    return WorkerResult(**{"state": state, "started_at": at, "ended_at": at, **fields})  # type: ignore[arg-type]


class Drive:
    """An execution under way.

    Args:
        flow: what it runs.
        results: by task id, or `id[value]`: a state or result, or a list of them, one for each attempt.
    """

    def __init__(
        self,
        flow: Flow,
        results: Mapping[str, object] | None = None,
        functions: Mapping[str, object] | None = None,
        inputs: Mapping[str, object] | None = None,
    ) -> None:
        self.index = compile_flow(flow)
        self.results = dict(results or {})
        self.functions = dict(functions or {})
        self.now = NOON
        self.queue: list[RunTask] = []
        self.cancelled: list[CancelTask] = []
        self.logs: list[WriteLog] = []
        self.dispatched: list[str] = []
        history = (StateChange(State.CREATED, NOON),)
        self.live = LiveExecution(
            Execution(
                id="execution", namespace="test", flow_id="flow", revision=1, history=history, inputs=inputs or {}
            )
        )

    def apply(self, event: Event) -> Change:
        change = advance(self.index, self.live, event, self.functions)  # type: ignore[arg-type]
        for command in change.commands:
            match command:
                case RunTask():
                    self.queue.append(command)
                    self.dispatched.append(self.label(self.live.runs[command.run_id]))
                case CancelTask():
                    self.cancelled.append(command)
                case WriteLog():
                    self.logs.append(command)
                case _:
                    pass
        self.check_rows()
        return change

    def check_rows(self) -> None:
        """The aggregate is the one that its rows give."""
        rebuilt = LiveExecution.from_rows(self.index, self.live.execution, reversed(self.live.runs.values()))
        assert rebuilt.outputs == self.live.outputs
        assert rebuilt.states == self.live.states
        assert rebuilt.jobs == self.live.jobs
        assert rebuilt.waiting == self.live.waiting
        assert rebuilt.absorbed == self.live.absorbed
        assert {k: v for k, v in rebuilt.directory_runs.items() if v} == {
            k: v for k, v in self.live.directory_runs.items() if v and self.live.runs[k].state not in TERMINAL
        }
        assert {k: counts(v) for k, v in rebuilt.scopes.items()} == {k: counts(v) for k, v in self.live.scopes.items()}

    def start(self) -> "Drive":
        self.apply(ExecutionCreated(now=self.now))
        return self

    def begin(self, label: str, worker: str = "w") -> RunTask:
        """A worker takes the job."""
        job = next(job for job in self.queue if self.label(self.live.runs[job.run_id]) == label)
        self.queue.remove(job)
        self.now += SECOND
        self.apply(TaskRunStarted(now=self.now, run_id=job.run_id, fence=job.fence, worker=worker))
        return job

    def finish(self, job: RunTask, result: object = State.SUCCESS) -> Change:
        self.now += SECOND
        made = result if isinstance(result, WorkerResult) else a_result(State(str(result)), self.now - SECOND / 2)
        return self.apply(TaskRunFinished(now=self.now, run_id=job.run_id, fence=job.fence, result=made))

    def step(self) -> None:
        """Run the oldest job, or let the earliest timer fire."""
        if not self.queue:
            run = min((run for run in self.live.runs.values() if run.due is not None), key=lambda run: str(run.due))
            assert run.due is not None
            self.now = max(self.now, run.due)
            self.apply(TimerDue(now=self.now, run_id=run.id, fence=run.fence))
            return
        label = self.label(self.live.runs[self.queue[0].run_id])
        job = self.begin(label)
        script = self.results.get(label, State.SUCCESS)
        if isinstance(script, Sequence) and not isinstance(script, str):
            script = script[min(len(self.live.runs[job.run_id].attempts), len(script)) - 1]
        self.finish(job, script)

    def to_end(self) -> "Drive":
        if self.state is State.CREATED:
            self.start()
        for _ in range(10_000):
            if self.state in TERMINAL:
                return self
            self.step()
        raise AssertionError("It does not end.")

    def kill(self) -> None:
        self.now += SECOND
        self.apply(KillRequested(now=self.now))

    def restart(self, flow: Flow | None = None, *, from_scratch: bool = False) -> Change:
        """Restart the execution, with another revision of the flow where one is given."""
        self.now += SECOND
        revision = self.live.execution.revision
        if flow is not None:
            self.index = compile_flow(flow)
            revision += 1
        self.dispatched.clear()
        attempt = self.live.execution.attempt_number
        return self.apply(RestartRequested(now=self.now, attempt=attempt, revision=revision, from_scratch=from_scratch))

    @property
    def state(self) -> State:
        return self.live.execution.state

    def label(self, run: TaskRun) -> str:
        return run.task_id + "".join(f"[{value}]" for value in self.live.path_of(run))

    def run(self, label: str) -> TaskRun:
        return next(run for run in self.live.runs.values() if self.label(run) == label)

    def states(self) -> dict[str, str]:
        return {self.label(run): run.state.value for run in self.live.runs.values()}


def counts(scope: Scope) -> dict[str, object]:
    """What a scope counts, without what is only there on the way."""
    left_out = {"parent", "place", "main", "lanes", "finally_started", "errors_started"}
    return {name: getattr(scope, name) for name in Scope.__slots__ if name not in left_out}
