"""apply(): a batch of events, the machine's answers, rows and jobs, in one transaction.

One thread decides. While it commits, events gather; they all go into the next transaction (group commit). Tasks that
need no worker are run right here, before the commit; timers and jobs are set and sent after it. A crash before the
commit changes nothing.
"""

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from threading import Lock, Thread
from time import monotonic
from typing import assert_never

from tercel.dispatch import Dispatcher, JobRef
from tercel.errors import InvariantError, TercelError
from tercel.inbox import Inbox, Letter
from tercel.machine import FlowIndex, LiveExecution, advance, variables
from tercel.machine.limits import failed_attempts
from tercel.machine.messages import (
    CancelTask,
    Command,
    EndExecution,
    Event,
    ExecutionCreated,
    RestartRequested,
    RunTask,
    TaskRunFinished,
    WorkerLost,
    WriteLog,
)
from tercel.machine.step import Functions
from tercel.model.execution import Execution, TaskRun
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.logs import LogEntry
from tercel.model.state import TERMINAL, State
from tercel.model.working_directory import DirectoryTask
from tercel.store import Changes, Promise, StaleExecutionError, Store, run

_INLINE_BUDGET_S = 0.05
_MOST_JUST_ENDED = 256
"""Ended executions kept for those who ask right after; the store is slower."""

FindFlow = Callable[[str, str, int], Awaitable[FlowIndex]]
"""Gives a flow's revision, ready for the machine, by namespace, id and revision."""

RunInline = Callable[[WorkerJob], WorkerResult]
"""Runs a task that needs no worker, at once."""

FunctionsOf = Callable[[Execution], Functions]
"""Gives the functions that reach outside (`secret`, `kv`, …) for the expressions that the machine renders itself."""

Watcher = Callable[[Execution, Sequence[TaskRun]], object]
"""Is told after a commit what changed."""


class _Work:
    """An execution in the batch at hand: what changed since its last commit, and what to do after the next."""

    __slots__ = (
        "commands",
        "created",
        "execution",
        "flow",
        "functions",
        "live",
        "logs",
        "removed",
        "runs",
        "version",
    )

    def __init__(self, flow: FlowIndex, live: LiveExecution, functions: Functions, *, created: bool) -> None:
        self.flow = flow
        self.live = live
        self.functions = functions
        self.created = created
        self.version = live.execution.version
        self.execution: Execution | None = None
        self.runs: dict[str, TaskRun] = {}
        self.removed: dict[str, None] = {}
        self.commands: list[RunTask | CancelTask | EndExecution] = []
        self.logs: list[LogEntry] = []

    @property
    def has_rows(self) -> bool:
        """True where there is something to write."""
        return self.created or self.execution is not None or bool(self.runs or self.removed)


class _Batch:
    """What is decided between two commits.

    Attributes:
        errors: executions of which nothing is written now, and why.
    """

    __slots__ = ("errors", "works")

    def __init__(self) -> None:
        self.works: dict[str, _Work] = {}
        self.errors: dict[str, BaseException] = {}


class Executor:
    """Applies events to executions, in a thread of its own.

    Args:
        find_flow: gives compiled flows.
        run_inline: runs tasks that need no worker.
        clock: the current instant in UTC.
        functions: gives the functions of an execution's expressions.
        surroundings: variables from outside executions, such as `envs`.
        most_live: executions kept in memory between their steps.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        find_flow: FindFlow,
        run_inline: RunInline,
        clock: Callable[[], datetime],
        functions: FunctionsOf | None = None,
        surroundings: Mapping[str, object] | None = None,
        most_live: int = 1000,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._find_flow = find_flow
        self._run_inline = run_inline
        self._clock = clock
        self._functions: FunctionsOf = functions or _no_functions
        self._surroundings = surroundings or {}
        self._most_live = most_live
        self._live: OrderedDict[str, tuple[FlowIndex, LiveExecution, Functions]] = OrderedDict()
        self._inline: deque[tuple[str, RunTask]] = deque()
        self._inbox = Inbox(clock)
        self._ends: dict[str, list[Promise[Execution]]] = {}
        self._just_ended: OrderedDict[str, Execution] = OrderedDict()
        self._ends_guard = Lock()
        self._watchers: list[Watcher] = []
        self._failure: BaseException | None = None
        self._thread: Thread | None = None
        self._starting = Lock()

    # What others call, from any thread

    def create(self, execution: Execution) -> Promise[None]:
        """Save a new execution and start it, in one transaction; the promise is kept once it is committed."""
        event = ExecutionCreated(now=execution.history[0].date)
        return self._send(Letter(execution.id, event, Promise(), execution))

    def apply(self, execution_id: str, event: Event) -> Promise[None]:
        """Apply an event; the promise is kept once what it changed is committed.

        It fails with NotFoundError where there is no such execution, with StaleExecutionError where another process
        has changed it meanwhile, and with StorageError where nothing could be written; then the executor takes no more
        events.
        """
        return self._send(Letter(execution_id, event, Promise()))

    def _send(self, letter: Letter) -> Promise[None]:
        promise = letter.promise
        if promise is None:
            raise InvariantError("Nobody waits for this event.")
        if self._failure is not None:
            promise.fail(self._failure)
            return promise
        self._inbox.put(letter)
        if self._failure is not None:  # it stopped meanwhile, and may not have seen the letter
            promise.fail(self._failure)
        elif self._thread is None:
            self._start()
        return promise

    def post(self, execution_id: str, event: Event) -> None:
        """Apply an event that nobody waits for: it is committed with the next others, within `inbox.PATIENCE_S`."""
        if self._failure is not None:
            return
        self._inbox.put(Letter(execution_id, event), is_urgent=False)
        if self._thread is None:
            self._start()

    def ended(self, execution_id: str) -> Promise[Execution]:
        """A promise of the execution as it is when it has ended.

        For one that may have ended long ago look into the store once you have the promise.
        """
        promise: Promise[Execution] = Promise()
        if self._failure is not None:
            promise.fail(self._failure)
            return promise
        with self._ends_guard:
            just_ended = self._just_ended.get(execution_id)
            if just_ended is None:
                self._ends.setdefault(execution_id, []).append(promise)
        if just_ended is not None:
            promise.resolve(just_ended)
        elif self._failure is not None:  # it stopped meanwhile, and may not have seen the promise
            promise.fail(self._failure)
        return promise

    def is_live(self, execution_id: str) -> bool:
        """True where the execution has not ended; False says nothing."""
        return execution_id in self._live

    def forget(self, execution_id: str, promise: Promise[Execution]) -> None:
        """Nobody waits for a promise of `ended` any more."""
        with self._ends_guard:
            promises = self._ends.get(execution_id, [])
            if promise in promises:
                promises.remove(promise)
            if not promises:
                self._ends.pop(execution_id, None)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call *watcher* after each commit with what changed, in the executor's thread; gives a way to stop.

        It must not wait; one that raises is not called again.
        """
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    def recover(self, execution_ids: Iterable[str]) -> None:
        """Go on with executions that a dead process left open: what its workers had is lost, timers are set again."""
        for execution_id in execution_ids:
            self._inbox.put(Letter(execution_id, _Recovered(now=self._clock())))
        self._start()

    def close(self) -> None:
        """Apply what has arrived and stop; a second call does nothing."""
        self._inbox.close()
        if self._thread is not None:
            self._thread.join()
        if self._failure is None:
            self._stop(TercelError("The engine is closed."), ())

    # The thread

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="tercel-executor", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._inline or self._inbox.wait():
            letters = self._inbox.take()
            try:
                run(self._apply(letters))
            except Exception as error:  # nothing can be committed any more: whoever waits must know
                self._stop(error, letters)
                return

    def _stop(self, error: BaseException, letters: Sequence[Letter]) -> None:
        """Take no more events and tell all who wait why."""
        self._failure = error
        for letter in (*letters, *self._inbox.drain()):
            if letter.promise is not None:
                letter.promise.fail(error)
        for execution_id in list(self._ends):
            self._tell_ended(execution_id, error)

    # One batch

    async def _apply(self, letters: Sequence[Letter]) -> None:
        batch = _Batch()
        for letter in letters:
            if isinstance(letter.event, RestartRequested):
                await self._restart(batch, letter, letter.event)
                continue
            work = await self._open(batch, letter.execution_id, letter.created)
            if work is not None:
                for event in _recovery(work.live, letter.event):
                    self._decide(batch, work, event)
        await self._run_inline_tasks(batch)
        await self._commit_all(batch)
        self._follow(batch)
        for letter in letters:
            if letter.promise is not None:
                error = batch.errors.get(letter.execution_id)
                if error is None:
                    letter.promise.resolve(None)
                else:
                    letter.promise.fail(error)

    async def _open(
        self, batch: _Batch, execution_id: str, created: Execution | None = None, *, has_ended: bool = False
    ) -> _Work | None:
        """The execution in this batch; None where it cannot be had, which concerns it alone.

        Args:
            batch: gets the execution, or the error.
            execution_id: its id.
            created: its row, where it is new.
            has_ended: refuse one that goes on, unless it does so here: it is another process's.
        """
        if execution_id in batch.errors:
            return None
        work = batch.works.get(execution_id)
        if work is None:
            try:
                known = self._live.get(execution_id) or await self._load(execution_id, created, has_ended=has_ended)
            except Exception as error:  # no such execution, a flow that cannot be read, a broken row
                batch.errors[execution_id] = error
                return None
            self._live[execution_id] = known
            self._live.move_to_end(execution_id)
            work = batch.works[execution_id] = _Work(*known, created=created is not None)
        return work

    async def _load(
        self, execution_id: str, created: Execution | None, *, has_ended: bool
    ) -> tuple[FlowIndex, LiveExecution, Functions]:
        execution = created or await self._store.executions.get(execution_id, reveal=True)
        if has_ended and execution.state not in TERMINAL:
            raise StaleExecutionError("The execution goes on already, in another process.")
        flow = await self._find_flow(execution.namespace, execution.flow_id, execution.revision)
        if created is None:
            rows = await self._store.executions.task_runs(execution_id, reveal=True)
            live = LiveExecution.from_rows(flow, execution, rows)
            self._inbox.set_timers(live.runs.values())
        else:
            live = LiveExecution(execution)
        return flow, live, self._functions(execution)

    async def _restart(self, batch: _Batch, letter: Letter, event: RestartRequested) -> None:
        """Go on with an execution that has ended, with the revision said; whoever asks is told where it cannot be."""
        work = await self._open(batch, letter.execution_id, has_ended=True)
        if work is None:
            return
        execution = work.live.execution
        if execution.state in TERMINAL and execution.revision != event.revision:
            try:
                work.flow = await self._find_flow(execution.namespace, execution.flow_id, event.revision)
            except Exception as error:  # no such revision, or one that cannot be read
                batch.errors[execution.id] = error
                return
            self._live[execution.id] = (work.flow, work.live, work.functions)
        if self._decide(batch, work, event):
            with self._ends_guard:
                self._just_ended.pop(execution.id, None)
            return
        if execution.state in TERMINAL:
            self._live.pop(execution.id, None)
        if letter.promise is not None and execution.id not in batch.errors:
            letter.promise.fail(StaleExecutionError("The execution does not stand as it did when it was asked for."))
            letter.promise = None

    def _decide(self, batch: _Batch, work: _Work, event: Event) -> bool:
        """Have the machine answer one event, and say whether that changed anything.

        An error concerns this execution alone.
        """
        live = work.live
        if live.execution.id in batch.errors:
            return False
        try:
            change = advance(work.flow, live, event, work.functions, self._surroundings, clock=monotonic)
        except Exception as error:  # our mistake: whoever waits is told, and the other executions go on
            batch.errors[live.execution.id] = error
            return True
        if change.execution is not None:
            work.execution = change.execution
        for run_id in change.removed:
            work.runs.pop(run_id, None)
            work.removed[run_id] = None
        for changed in change.runs:
            work.runs[changed.id] = changed
        for command in change.commands:
            self._note(work, command, event.now)
        return not change.is_empty

    def _note(self, work: _Work, command: Command, now: datetime) -> None:
        match command:
            case RunTask():
                if getattr(command.task, "is_inline", False):
                    self._inline.append((work.live.execution.id, command))
                else:
                    work.commands.append(command)
            case CancelTask() | EndExecution():
                work.commands.append(command)
            case WriteLog():
                work.logs.append(_log_entry(work.live, command, now))
            case _:
                raise InvariantError(f"The executor does not know the command {type(command).__name__}.")

    async def _run_inline_tasks(self, batch: _Batch) -> None:
        """Run tasks that need no worker until none is left, or for so long that a commit is due."""
        deadline = monotonic() + _INLINE_BUDGET_S
        while self._inline and monotonic() < deadline:
            execution_id, command = self._inline.popleft()
            work = await self._open(batch, execution_id)
            task_run = None if work is None else _waiting_run(work.live, command)
            if work is not None and task_run is not None:
                if task_run.state is State.KILLING:
                    event = self._killed(command)
                else:
                    event = _finished(command, self._run_inline(self._job(work, command, task_run)))
                self._decide(batch, work, event)

    def _job(self, work: _Work, command: RunTask, task_run: TaskRun) -> WorkerJob:
        execution = work.live.execution
        return WorkerJob(
            execution_id=execution.id,
            namespace=execution.namespace,
            flow_id=execution.flow_id,
            revision=execution.revision,
            task_run_id=command.run_id,
            task=command.task,
            fence=command.fence,
            attempt=failed_attempts(task_run.attempts),
            value=task_run.value,
            values=work.live.path_of(task_run),
            variables=variables(work.flow, work.live, task_run, self._surroundings),
            group=command.group,
            children=_kept_children(work.live, command),
        )

    async def _commit_all(self, batch: _Batch) -> None:
        works = [work for execution_id, work in batch.works.items() if execution_id not in batch.errors]
        try:
            await self._commit(works)
        except StaleExecutionError:
            for work in works:
                try:
                    await self._commit([work])
                except StaleExecutionError as error:
                    batch.errors[work.live.execution.id] = error

    async def _commit(self, works: Sequence[_Work]) -> None:
        """Write what changed and send the jobs."""
        changes = Changes()
        jobs: list[WorkerJob] = []
        for work in works:
            execution = work.live.execution
            if work.created:
                changes.created.append(execution)
            elif work.execution is not None:
                changes.changed.append((execution, work.version))
            changes.removed.extend((execution.id, run_id) for run_id in work.removed)
            changes.runs.extend(work.runs.values())
            for command in work.commands:
                if isinstance(command, RunTask):
                    task_run = _waiting_run(work.live, command)
                    if task_run is not None:
                        jobs.append(self._job(work, command, task_run))
        async with self._store.transaction() as tx:
            if changes.created or changes.changed or changes.removed or changes.runs:
                self._store.executions.save(tx, changes)
            await self._dispatcher.enqueue(tx, jobs)
        self._inbox.naps = bool(jobs)

    def _follow(self, batch: _Batch) -> None:
        """Do what the commit of a batch allows: log, timers, cancelling, telling those who wait."""
        for execution_id, error in batch.errors.items():
            self._live.pop(execution_id, None)
            self._tell_ended(execution_id, error)
        logs: list[LogEntry] = []
        for execution_id, work in batch.works.items():
            if execution_id in batch.errors:
                continue
            logs += work.logs
            self._inbox.set_timers(work.runs.values())
            if work.has_rows:
                self._tell_watchers(work)
            for command in work.commands:
                match command:
                    case CancelTask():
                        self._cancel(work, command)
                    case EndExecution():
                        self._live.pop(execution_id, None)
                        self._tell_ended(execution_id, work.live.execution)
                    case RunTask():
                        pass
                    case _:
                        assert_never(command)
        if logs:
            self._store.logs.write_logs(logs)
        while len(self._live) > self._most_live:
            self._live.popitem(last=False)

    def _cancel(self, work: _Work, command: CancelTask) -> None:
        ref = JobRef(work.live.execution.id, command.run_id, command.fence)
        if self._dispatcher.cancel([ref]):
            self._inbox.put(Letter(ref.execution_id, self._killed(command)))

    def _killed(self, command: RunTask | CancelTask) -> TaskRunFinished:
        """How a task run ends that is killed before it began."""
        now = self._clock()
        return _finished(command, WorkerResult(state=State.KILLED, started_at=now, ended_at=now, retryable=False))

    def _tell_watchers(self, work: _Work) -> None:
        for watcher in list(self._watchers):
            try:
                watcher(work.live.execution, list(work.runs.values()))
            except Exception:  # whoever only looks must not stop the engine
                self._watchers.remove(watcher)

    def _tell_ended(self, execution_id: str, outcome: Execution | BaseException) -> None:
        with self._ends_guard:
            promises = self._ends.pop(execution_id, ())
            if isinstance(outcome, Execution):
                self._just_ended[execution_id] = outcome
                if len(self._just_ended) > _MOST_JUST_ENDED:
                    self._just_ended.popitem(last=False)
        for promise in promises:
            if isinstance(outcome, Execution):
                promise.resolve(outcome)
            else:
                promise.fail(outcome)


def _waiting_run(live: LiveExecution, command: RunTask) -> TaskRun | None:
    """The task run that *command* is about; None where it is out of date."""
    task_run = live.runs.get(command.run_id)
    if task_run is None or task_run.fence != command.fence or task_run.state in TERMINAL:
        return None
    return task_run


def _kept_children(live: LiveExecution, command: RunTask) -> tuple[TaskRun, ...]:
    """For a WorkingDirectory, its children's rows of earlier jobs, in the order of its tasks."""
    if not isinstance(command.task, DirectoryTask):
        return ()
    kept = {live.runs[run_id].task_id: live.runs[run_id] for run_id in live.directory_runs.get(command.run_id, ())}
    return tuple(kept[task.id] for task in command.task.tasks if task.id in kept)


def _finished(command: RunTask | CancelTask, result: WorkerResult) -> TaskRunFinished:
    return TaskRunFinished(now=result.ended_at, run_id=command.run_id, fence=command.fence, result=result)


def _no_functions(_: Execution) -> Functions:
    return {}


class _Recovered(Event, frozen=True, kw_only=True):
    """The execution was adopted from a dead process. Never seen by the machine: it becomes what it means."""


def _recovery(live: LiveExecution, event: Event) -> Iterable[Event]:
    """*event*; for a recovered execution those that tell the machine what was lost."""
    if not isinstance(event, _Recovered):
        return (event,)
    if live.execution.state is State.CREATED:
        return (ExecutionCreated(now=event.now),)
    return [
        WorkerLost(now=event.now, run_id=task_run.id, fence=task_run.fence)
        for task_run in live.runs.values()
        if task_run.fence and task_run.state not in TERMINAL
    ]


def _log_entry(live: LiveExecution, command: WriteLog, now: datetime) -> LogEntry:
    task_run = None if command.run_id is None else live.runs.get(command.run_id)
    return LogEntry(
        execution_id=live.execution.id,
        date=now,
        level=command.level,
        message=command.message,
        task_id=None if task_run is None else task_run.task_id,
        task_run_id=command.run_id,
        attempt=0 if task_run is None else max(0, len(task_run.attempts) - 1),
    )
