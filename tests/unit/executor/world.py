"""World: an executor with a real store and dispatcher, and all verbs; the test plays the worker, and the crash."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, BinaryIO, cast

from tercel.dispatch import Lease
from tercel.dispatch.memory import MemoryDispatcher
from tercel.errors import NotFoundError, StorageError, UserError
from tercel.executor import Executor
from tercel.expression import render, render_object
from tercel.machine import ExecutableTask, Request, Requests
from tercel.machine.messages import LabelsSet, RestartRequested, TaskRunFinished
from tercel.model import Execution, Flow, State, StateChange, TaskRun, WorkerJob, WorkerResult
from tercel.model.source import read_flow
from tercel.operations import Operations, RunningFlows
from tercel.plugins import catalog
from tercel.storage.local import LocalStorage
from tercel.store import ExecutionQuery, Promise, run
from tercel.store.embedded import SqliteStore
from tercel.store.executions import StoredExecutions
from tests.builders import an_execution
from tests.flows import Node, as_yaml

WAIT_S = 20


def now() -> datetime:
    return datetime.now(UTC)


def a_result(state: str = "SUCCESS", **properties: Any) -> WorkerResult:
    return WorkerResult(state=State(state), started_at=now(), ended_at=now(), **properties)


def run_inline(job: WorkerJob) -> WorkerResult:
    if job.task.type.endswith("Fail"):
        return a_result("FAILED", message="as asked")
    return a_result(outputs={"value": f"{job.task.id}:{job.value}"})


def a_new_execution(execution_id: str, flow_id: str = "flow") -> Execution:
    return an_execution(id=execution_id, flow_id=flow_id, history=(StateChange(State.CREATED, now()),))


def until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + WAIT_S
    while not condition():
        assert monotonic() < deadline, "it never happened"
        sleep(0.001)


@cache
def _empty_database() -> bytes:
    """A database file with all its tables: making them anew takes longer than most tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "test.db"
        SqliteStore(path, owner="nobody").close()
        return path.read_bytes()


class CrashingStore(SqliteStore):
    """Counts its writes of rows and slots; the process may die at one of them.

    Attributes:
        commits: transactions so far.
        failure: what each transaction fails with from now on.
        writes: transactions and claims of slots so far.
        crash_at: the number of the write at which the process dies.
        keeps: whether that write is still made.
    """

    def __init__(self, path: Path, **options: Any) -> None:
        if not path.exists():
            path.write_bytes(_empty_database())
        super().__init__(path, **options)
        self.commits = 0
        self.writes = 0
        self.failure: Exception | None = None
        self.crash_at: int | None = None
        self.keeps = False
        self.executions = _CrashingExecutions(self, self.executions)  # type: ignore[assignment]

    def transaction(self) -> Any:
        if self.failure is not None:
            raise self.failure
        self.commits += 1
        if not self.dies():
            return super().transaction()
        return _Dying(super().transaction(), keeps=self.keeps)

    def dies(self) -> bool:
        """Count a write; True where the process dies with it."""
        self.writes += 1
        if self.crash_at is None or self.writes < self.crash_at:
            return False
        if self.failure is None:
            self.failure = StorageError("The process is dead.")
            return True
        self.keeps = False
        return True


class _Dying:
    """A transaction that nobody hears the end of."""

    def __init__(self, inner: Any, *, keeps: bool) -> None:
        self._inner = inner
        self._keeps = keeps

    async def __aenter__(self) -> Any:
        return await self._inner.__aenter__()

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._inner._actions.clear()
        if kind is None and self._keeps:
            await self._inner.__aexit__(None, None, None)
        raise StorageError("The process is dead.")


class _CrashingExecutions:
    """What the store does to executions, claims of slots counted."""

    def __init__(self, store: CrashingStore, inner: StoredExecutions) -> None:
        self._store = store
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._dying(found) if name in ("claim_slot", "claim_next", "force_slot") else found

    def _dying(self, write: Callable[..., Promise[Any]]) -> Callable[..., Promise[Any]]:
        def call(*arguments: Any) -> Promise[Any]:
            if not self._store.dies():
                return write(*arguments)
            if self._store.keeps:
                write(*arguments).wait(WAIT_S)
            dead: Promise[Any] = Promise()
            dead.fail(StorageError("The process is dead."))
            return dead

        return call


class Asking:
    """What a Subflow sees when it says which executions it starts."""

    def __init__(self, storage: LocalStorage, variables: Mapping[str, object]) -> None:
        self._storage = storage
        self.variables = variables

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        return cast("str", render(template, {**self.variables, **(extra or {})}))

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        return render_object(value, {**self.variables, **(extra or {})})

    def open_file(self, uri: str) -> BinaryIO:
        return self._storage.get(uri)


class World:
    """An executor with a real store and dispatcher; the test plays the worker.

    Attributes:
        jobs: what came to the worker, in order.
        cancelled: ids of task runs whose jobs it was told to end.
        shift: how far the engine's clock is ahead.
    """

    def __init__(self, path: Path, owner: str = "me", **options: Any) -> None:
        self.store = CrashingStore(path / "test.db", owner=owner, synchronous="NORMAL")
        self.storage = LocalStorage(path / "storage")
        self.dispatcher = MemoryDispatcher()
        self.jobs: list[tuple[WorkerJob, Lease]] = []
        self.cancelled: list[str] = []
        self.secrets: list[str] = []
        self.shift = timedelta(0)
        self.flows = RunningFlows(self.store, self._read)
        self.executor = Executor(
            store=self.store,
            dispatcher=self.dispatcher,
            find_flow=self.flows.find,
            run_inline=run_inline,
            plan=self._plan,
            start_child=self._start_child,
            clock=self.clock,
            **options,
        )
        self.operations = Operations(
            store=self.store,
            executor=self.executor,
            storage=self.storage,
            flows=self.flows,
            read_flow=self._read,
            render_typed=lambda template, variables, _: render(template, variables, mode="typed"),
            add_secret=self.secrets.append,
            clock=self.clock,
        )

    def clock(self) -> datetime:
        return now() + self.shift

    def _read(self, text: str) -> Flow:
        return read_flow(text, catalog())

    async def _start_child(self, request: Request, parent: Execution, task_run: TaskRun, number: int) -> Execution:
        return await self.operations.start_child(request, parent, task_run, number)

    def _plan(self, job: WorkerJob) -> Requests | WorkerResult:
        assert isinstance(job.task, ExecutableTask)
        try:
            return job.task.requests(Asking(self.storage, job.variables))
        except UserError as error:
            return a_result("FAILED", message=str(error))

    # Flows and executions

    def add_flow(self, *tasks: Node, id: str = "flow", **properties: Any) -> Flow:
        """Save a flow of the namespace `tests`."""
        text = as_yaml({"id": id, "namespace": "tests", **properties, "tasks": list(tasks)})
        return run(self.operations.save_flow(text))

    def start(self, execution_id: str = "execution", flow_id: str = "flow") -> Promise[Execution]:
        ended = self.executor.ended(execution_id)
        self.executor.create(a_new_execution(execution_id, flow_id)).wait(WAIT_S)
        return ended

    def do(self, verb: str, *arguments: Any, **named: Any) -> Any:
        """One of the verbs."""
        return run(getattr(self.operations, verb)(*arguments, **named))

    def restart(self, execution_id: str = "execution", attempt: int = 1, revision: int = 1) -> None:
        event = RestartRequested(now=now(), attempt=attempt, revision=revision)
        self.executor.apply(execution_id, event).wait(WAIT_S)

    def pass_time(self, **span: float) -> None:
        """Have the engine's clock go on at once."""
        self.shift += timedelta(**span)
        with contextlib.suppress(NotFoundError):  # any letter has it look at its clock
            self.executor.apply("nobody", LabelsSet(now=self.clock(), labels={})).wait(WAIT_S)

    # The worker

    def consume(self, slots: int = 10) -> None:
        self.dispatcher.consume(
            None,
            slots,
            lambda job, lease: self.jobs.append((job, lease)),
            lambda ref: self.cancelled.append(ref.task_run_id),
        )

    def job(self, index: int) -> WorkerJob:
        until(lambda: len(self.jobs) > index)
        return self.jobs[index][0]

    def job_of(self, task_id: str, flow_id: str | None = None) -> WorkerJob:
        """The latest job of a task."""

        def found() -> list[WorkerJob]:
            jobs = [job for job, _ in list(self.jobs)]
            return [job for job in jobs if job.task.id == task_id and flow_id in (None, job.flow_id)]

        until(found)
        return found()[-1]

    def finish(self, job: WorkerJob, state: str = "SUCCESS", **properties: Any) -> None:
        event = TaskRunFinished(
            now=self.clock(), run_id=job.task_run_id, fence=job.fence, result=a_result(state, **properties)
        )
        self.executor.apply(job.execution_id, event).wait(WAIT_S)

    def split_into(self, *batches: str) -> Mapping[str, object]:
        """Outputs of the first part of a ForEachItem, as its worker gives them."""
        uris = [self.storage.put(f"/batch-{number}", BytesIO(text.encode())) for number, text in enumerate(batches)]
        listed = "".join(f"{uri}\n" for uri in uris)
        return {"splits": self.storage.put("/splits.txt", BytesIO(listed.encode()))}

    # What is stored

    def get(self, execution_id: str = "execution") -> Execution:
        return run(self.store.executions.get(execution_id))

    def state(self, execution_id: str = "execution") -> str:
        return self.get(execution_id).state.value

    def history(self, execution_id: str = "execution") -> list[str]:
        return [change.state.value for change in self.get(execution_id).history]

    def runs(self, execution_id: str = "execution") -> dict[str, TaskRun]:
        return {each.task_id: each for each in run(self.store.executions.task_runs(execution_id))}

    def states(self, execution_id: str = "execution") -> dict[str, str]:
        return {task_id: each.state.value for task_id, each in self.runs(execution_id).items()}

    def of_flow(self, flow_id: str) -> list[Execution]:
        """Its executions, the first created first."""
        query = ExecutionQuery(namespace="tests", flow_id=flow_id, limit=1000)
        return run(self.store.executions.search(query))[::-1]

    def only(self, flow_id: str) -> Execution:
        [found] = self.of_flow(flow_id)
        return found

    def messages(self, execution_id: str = "execution") -> list[str]:
        self.store.logs.flush().wait(WAIT_S)
        return [entry.message for entry in run(self.store.logs.read(execution_id)).entries]

    # The end, and the next one

    def heir(self, path: Path, owner: str = "heir") -> World:
        """The process that goes on after this one has died."""
        self.close()
        heir = World(path, owner)
        heir.shift = self.shift
        heir.consume()
        heir.adopt()
        return heir

    def adopt(self) -> Collection[str]:
        """Go on with what dead processes left open."""
        adopted = self.store.executions.adopt(run(self.store.executions.open_elsewhere())).wait(WAIT_S)
        self.executor.recover(adopted)
        return adopted

    def close(self) -> None:
        self.executor.close()
        self.store.close()


def work(world: World, ends: Sequence[Promise[Execution]], done: Callable[[WorkerJob], None] | None = None) -> None:
    """Have a worker do all jobs that come, until all these executions have ended."""
    taken = 0
    deadline = monotonic() + WAIT_S
    while not all(end.is_done for end in ends):
        assert monotonic() < deadline, "it never ended"
        if taken < len(world.jobs):
            job = world.job(taken)
            taken += 1
            (done or world.finish)(job)
        else:
            sleep(0.001)
