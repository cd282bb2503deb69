"""Drives an execution through the machine with scripted results, one job at a time, in the order of dispatch.

After each event the aggregate in memory has to be the one that the rows give, and the event brought once more has to
change nothing: every test is one of recovery and of duplicates, too.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from tercel.machine import Change, LiveExecution, advance, compile_flow
from tercel.machine.live import Scope
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    EndExecution,
    Event,
    ExecutionCreated,
    ExecutionTimerDue,
    KillRequested,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    RunTask,
    SlotFreed,
    StartRetry,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
    WriteLog,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.jobs import WorkerResult
from tercel.model.state import TERMINAL, State, StateChange
from tercel.model.task import Task

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
_FACTS = (
    ChildChanged,
    ExecutionCreated,
    ExecutionTimerDue,
    SlotFreed,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WorkerLost,
)
"""Events that may come twice; what people ask for is asked for twice where it does."""


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
        functions: of expressions.
        inputs: of the execution.
        properties: further ones of the execution.

    Attributes:
        queue: jobs that were dispatched and have not begun.
        dispatched: labels of the task runs that were, in order.
        ends: states of the ends that were told.
        retries: what was ordered to be tried again by new executions.
    """

    def __init__(
        self,
        flow: Flow,
        results: Mapping[str, object] | None = None,
        functions: Mapping[str, object] | None = None,
        inputs: Mapping[str, object] | None = None,
        **properties: object,
    ) -> None:
        self.index = compile_flow(flow)
        self.results = dict(results or {})
        self.functions = dict(functions or {})
        self.now = NOON
        self.queue: list[RunTask] = []
        self.cancelled: list[CancelTask] = []
        self.logs: list[WriteLog] = []
        self.dispatched: list[str] = []
        self.ends: list[State] = []
        self.retries: list[StartRetry] = []
        history = (StateChange(State.CREATED, NOON),)
        execution = Execution(
            id="execution", namespace="test", flow_id="flow", revision=1, history=history, inputs=inputs or {}
        )
        self.live = LiveExecution(replace(execution, **properties))

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
                case EndExecution(state=state):
                    self.ends.append(state)
                case StartRetry():
                    self.retries.append(command)
                case _:
                    raise AssertionError(f"What is {command}?")
        self.check_rows()
        if isinstance(event, _FACTS):
            assert advance(self.index, self.live, event, self.functions).is_empty, event  # type: ignore[arg-type]
        return change

    def check_rows(self) -> None:
        """The aggregate is the one that its rows give."""
        rebuilt = LiveExecution.from_rows(self.index, self.live.execution, reversed(self.live.runs.values()))
        assert rebuilt.outputs == self.live.outputs
        assert rebuilt.states == self.live.states
        assert rebuilt.jobs == self.live.jobs
        assert rebuilt.paused == self.live.paused
        assert rebuilt.is_held == self.live.is_held
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
            self.fire()
            return
        label = self.label(self.live.runs[self.queue[0].run_id])
        job = self.begin(label)
        script = self.results.get(label, State.SUCCESS)
        if isinstance(script, Sequence) and not isinstance(script, str):
            script = script[min(len(self.live.runs[job.run_id].attempts), len(script)) - 1]
        self.finish(job, script)

    def fire(self) -> Change:
        """Let the earliest timer fire, at its instant."""
        timers = [(run.due, run.id, run.fence) for run in self.live.runs.values() if run.due is not None]
        if self.live.execution.due is not None:
            timers.append((self.live.execution.due, "", 0))
        due, run_id, fence = min(timers)
        self.now = max(self.now, due)
        event = TimerDue(now=self.now, run_id=run_id, fence=fence) if run_id else ExecutionTimerDue(now=self.now)
        return self.apply(event)

    def to_end(self) -> "Drive":
        if self.state is State.CREATED:
            self.start()
        for _ in range(10_000):
            if not self.live.execution.is_open:
                return self
            self.step()
        raise AssertionError("It does not end.")

    def kill(self, *, cascade: bool = True) -> Change:
        self.now += SECOND
        return self.apply(KillRequested(now=self.now, cascade=cascade))

    def pause(self) -> Change:
        self.now += SECOND
        return self.apply(PauseRequested(now=self.now))

    def resume(self, label: str | None = None, **outputs: object) -> Change:
        self.now += SECOND
        run_id = None if label is None else self.run(label).id
        return self.apply(ResumeRequested(now=self.now, run_id=run_id, outputs=outputs))

    def change_task_state(self, label: str, state: State) -> Change:
        self.now += SECOND
        self.dispatched.clear()
        attempt = self.live.execution.attempt_number
        return self.apply(TaskStateChanged(now=self.now, run_id=self.run(label).id, state=state, attempt=attempt))

    def crash(self) -> None:
        """Forget all but the rows."""
        self.live = LiveExecution.from_rows(self.index, self.live.execution, self.live.runs.values())

    def subflows_started(self, label: str, total: int = 1, started: int | None = None, **outputs: object) -> Change:
        """The engine created executions for a task run."""
        run = self.run(label)
        self.queue = [job for job in self.queue if job.run_id != run.id]
        self.now += SECOND
        started = total if started is None else started
        return self.apply(
            SubflowStarted(now=self.now, run_id=run.id, fence=run.fence, total=total, started=started, outputs=outputs)
        )

    def subflow_ended(self, label: str, state: State = State.SUCCESS, index: int = 0, **outputs: object) -> Change:
        """One of these executions ended."""
        run = self.run(label)
        self.now += SECOND
        return self.apply(
            SubflowEnded(now=self.now, run_id=run.id, fence=run.fence, index=index, state=state, outputs=outputs)
        )

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

    def history(self, label: str | None = None) -> list[str]:
        """The states of a task run, or of the execution, oldest first."""
        of = self.live.execution if label is None else self.run(label)
        return [change.state.value for change in of.history]

    def messages(self, level: str) -> list[str]:
        """What was logged at a level."""
        return [line.message for line in self.logs if line.level == level]


def counts(scope: Scope) -> dict[str, object]:
    """What a scope counts, without what is only there on the way."""
    left_out = {"parent", "place", "main", "lanes", "finally_started", "errors_started"}
    if scope.is_stopped or scope.is_killing:  # no lane is opened any more
        left_out |= {"next_lane", "_opened", "_openable"}
    found = {name: getattr(scope, name) for name in Scope.__slots__ if name not in left_out}
    return {
        **found,
        "ready": sorted(scope.ready),
        "_openable": sorted(found.get("_openable", ())),
        "round": scope.lanes.round,
    }
