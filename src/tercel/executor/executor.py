"""apply(): a batch of events, the machine's answers, rows and jobs, in one transaction.

One thread decides. While it commits, events gather; they all go into the next transaction (group commit). Tasks that
need no worker are run right here, before the commit; timers and jobs are set and sent after it. A crash before the
commit changes nothing.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from threading import Lock, Thread
from time import monotonic
from typing import assert_never, cast

from msgspec.structs import replace

from tercel.dispatch import Dispatcher, JobRef
from tercel.errors import ConflictError, InvariantError, StorageError, TercelError, UserError
from tercel.executor.children import StartChild, last_try, open_children, report_of, retry_id, retry_of
from tercel.executor.ends import Ends
from tercel.executor.skips import Skips
from tercel.executor.slots import LookAtQueue, Slots, needs_slot
from tercel.executor.work import (
    Batch,
    FindFlow,
    FunctionsOf,
    PlanRequests,
    React,
    RunInline,
    Watcher,
    Work,
    finished,
    log_entry,
    waiting_run,
)
from tercel.inbox import Inbox, Letter
from tercel.machine import FlowIndex, LiveExecution, advance, variables
from tercel.machine.flowable import ExecutableTask
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    Command,
    EndExecution,
    Event,
    ExecutionCreated,
    ExecutionTimerDue,
    ForceRunRequested,
    KillRequested,
    PauseRequested,
    ReplayRequested,
    RestartRequested,
    ResumeRequested,
    RunTask,
    StartRetry,
    StatusChanged,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
    WriteLog,
)
from tercel.machine.progress import Progress
from tercel.machine.step import Functions
from tercel.model.execution import Execution, TaskRun, child_execution_id
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.logs import LogEntry
from tercel.model.state import TERMINAL, State
from tercel.model.task import LogLevel
from tercel.storage import format_uri, task_run_path
from tercel.store import Changes, Promise, StaleExecutionError, StaleTriggerError, Store, Transaction, run

_INLINE_BUDGET_S = 0.05
_MUST_FIT = (
    PauseRequested,
    ResumeRequested,
    ForceRunRequested,
    RestartRequested,
    StatusChanged,
    TaskStateChanged,
)
"""Events whose sender has to know where they changed nothing."""

_NOT_WAITING = (ForceRunRequested, ReplayRequested, RestartRequested, TaskStateChanged)
"""Events by which an execution goes on without waiting for a slot of its flow; it counts all the same."""

_OF_WORKERS = frozenset({TaskRunStarted, TaskRunFinished, ChildChanged, TimerDue})
"""Events that the machine answers as they are: nearly all."""


_UNSTORABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What encoding a value raises that has no form in the store."""

_LOGGER = logging.getLogger("tercel.executor")


class Executor:
    """Applies events to executions, in a thread of its own.

    Args:
        find_flow: gives compiled flows.
        run_inline: runs tasks that need no worker.
        plan: says which executions a Subflow starts.
        start_child: makes their rows.
        react: says which executions follow from a change of another one.
        clock: the current instant in UTC.
        functions: gives the functions of an execution's expressions.
        surroundings: variables from outside executions, such as `envs`.
        most_live: executions kept in memory between their steps.
        skips: those that are left alone: what is asked of them fails with ConflictError.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        find_flow: FindFlow,
        run_inline: RunInline,
        plan: PlanRequests | None = None,
        start_child: StartChild | None = None,
        react: React | None = None,
        clock: Callable[[], datetime],
        functions: FunctionsOf | None = None,
        surroundings: Mapping[str, object] | None = None,
        most_live: int = 1000,
        skips: Skips | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._find_flow = find_flow
        self._run_inline = run_inline
        self._plan = plan
        self._start_child = start_child
        self._react = react
        self._clock = clock
        self._functions: FunctionsOf = functions or _no_functions
        self._surroundings = surroundings or {}
        self._most_live = most_live
        self._skips = skips or Skips()
        self._live: OrderedDict[str, tuple[FlowIndex, LiveExecution, Functions]] = OrderedDict()
        self._inline: deque[tuple[str, RunTask]] = deque()
        self._reports: deque[tuple[str, str, SubflowEnded]] = deque()
        self._retries: deque[Execution] = deque()
        self._inbox = Inbox(clock)
        self._slots = Slots(store.executions, self._inbox, clock)
        self._ends = Ends()
        self._watchers: list[Watcher] = []
        self._failure: BaseException | None = None
        self._thread: Thread | None = None
        self._starting = Lock()

    # What others call, from any thread

    def create(
        self,
        execution: Execution,
        *,
        runs: Sequence[TaskRun] = (),
        event: Event | None = None,
        with_writes: Callable[[Transaction], None] | None = None,
    ) -> Promise[None]:
        """Save a new execution and start it, in one transaction; the promise is kept once it is committed.

        Args:
            execution: its row, in CREATED; or in a final state, to be kept as it is.
            runs: task runs that it begins with: copies of another one's.
            event: how it starts; from its first task where None.
            with_writes: what else is written in the same transaction; where that raises StaleTriggerError nothing is,
                and the promise fails with it.
        """
        event = event or ExecutionCreated(now=execution.history[0].date)
        return self._send(Letter(execution.id, event, Promise(), execution, runs, writes=with_writes))

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
        promise = self._ends.promise(execution_id)
        if self._failure is not None:  # it may have stopped before it could see the promise
            promise.fail(self._failure)
        return promise

    @property
    def failure(self) -> BaseException | None:
        """Why it takes no more events; None where it does."""
        return self._failure

    def is_live(self, execution_id: str) -> bool:
        """True where the execution has not ended; False says nothing."""
        return execution_id in self._live

    def forget(self, execution_id: str, promise: Promise[Execution]) -> None:
        """Nobody waits for a promise of `ended` any more."""
        self._ends.forget(execution_id, promise)

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
            if not self._turn():
                return

    def _turn(self) -> bool:
        """Apply what has arrived, in one transaction; False where nothing can be committed any more."""
        letters = self._inbox.take()
        try:
            run(self._apply(letters))
        except Exception as error:  # whoever waits must know
            self._stop(error, letters)
            return False
        return True

    def _stop(self, error: BaseException, letters: Sequence[Letter]) -> None:
        """Take no more events and tell all who wait why."""
        self._failure = error
        for letter in (*letters, *self._inbox.drain()):
            if letter.promise is not None:
                letter.promise.fail(error)
        self._ends.fail(error)

    # One batch

    async def _apply(self, letters: Sequence[Letter]) -> None:
        batch = Batch()
        for letter in letters:
            await self._take(batch, letter)
        deadline = monotonic() + _INLINE_BUDGET_S
        await self._run_inline_tasks(batch, deadline)
        while self._react is not None and await self._ask_triggers(batch, self._react):
            await self._run_inline_tasks(batch, deadline)
        await self._commit_all(batch)
        self._follow(batch)
        for letter in letters:
            if letter.promise is not None:
                error = batch.errors.get(letter.execution_id)
                if error is None:
                    letter.promise.resolve(None)
                else:
                    letter.promise.fail(error)

    async def _take(self, batch: Batch, letter: Letter) -> None:
        """Have the machine answer the event of one letter."""
        event = letter.event
        if type(event) in _OF_WORKERS:
            work = batch.works.get(letter.execution_id) or await self._open(batch, letter.execution_id)
            if work is not None:
                self._decide(batch, work, event)
            return
        if isinstance(event, LookAtQueue):
            self._slots.look(event)
            return
        work = await self._open(batch, letter.execution_id, letter.created, letter.runs)
        if work is None:
            return
        if letter.writes is not None:
            work.writes.append(letter.writes)
        if isinstance(event, RestartRequested) and not await self._change_revision(batch, work, event.revision):
            return
        if isinstance(event, KillRequested):
            self._kill_elsewhere(work, event)
        is_changed = False
        for one in await self._meaning(work, event):
            if isinstance(one, ExecutionCreated) and not letter.is_admitted and needs_slot(work, event.now):
                work.wants_slot = is_changed = True
            else:
                is_changed |= self._decide(batch, work, one)
        work.forces_slot |= isinstance(event, _NOT_WAITING)
        if is_changed or not isinstance(event, _MUST_FIT) or letter.promise is None:
            return
        if letter.execution_id not in batch.errors:
            letter.promise.fail(StaleExecutionError("The execution does not stand as it did when it was asked for."))
            letter.promise = None

    def _kill_elsewhere(self, work: Work, event: KillRequested) -> None:
        """Have a kill reach what its execution has started and does not wait for."""
        execution = work.live.execution
        if execution.state is State.RETRIED:
            self._inbox.put(Letter(retry_id(execution), event))
        if not event.cascade:
            return
        for task_run in work.live.runs.values():
            place = work.flow.places.get(task_run.task_id)
            if task_run.state in TERMINAL and place is not None and place.executable is not None:
                self._kill_children([child_id for _, child_id in open_children(task_run)], event.now)

    async def _meaning(self, work: Work, event: Event) -> Sequence[Event]:
        """*event*; for a recovered execution those that tell the machine what was lost."""
        live = work.live
        if isinstance(event, ExecutionTimerDue) and live.execution.state is State.CREATED:
            return (ExecutionCreated(now=event.now),)
        if not isinstance(event, _Recovered):
            return (event,)
        work.is_ours = True
        if live.execution.state is State.CREATED:
            return (ExecutionCreated(now=event.now),)
        if live.execution.state is State.QUEUED:
            work.wants_slot = True
            return ()
        events: list[Event] = []
        for task_run in list(live.runs.values()):
            if not task_run.fence or task_run.state in TERMINAL:
                continue
            if task_run.plan is not None and work.flow.places[task_run.task_id].executable is not None:
                events += await self._recovered_children(work, task_run, event.now)
            else:
                events.append(WorkerLost(now=event.now, run_id=task_run.id, fence=task_run.fence))
        return events

    async def _recovered_children(self, work: Work, task_run: TaskRun, now: datetime) -> Sequence[Event]:
        """What has become of the executions of a task run; those that were still to be started are started."""
        task = work.flow.places[task_run.task_id].task
        command = RunTask(run_id=task_run.id, fence=task_run.fence, task=task)
        progress = Progress.of(task_run)
        events: list[Event] = []
        if task_run.state is State.KILLING:
            work.commands.append(CancelTask(run_id=task_run.id, fence=task_run.fence))
        elif progress.started != progress.total:
            self._inline.append((task_run.execution_id, command))
        for number, child_id in open_children(task_run):
            child = await last_try(self._store.executions, child_id)
            if child is None:
                message = f"The execution {child_id}, which it waits for, is not there any more."
                work.logs.append(_problem_entry(work.live, task_run, message, now))
                events.append(
                    SubflowEnded(now=now, run_id=task_run.id, fence=task_run.fence, index=number, state=State.FAILED)
                )
                continue
            report = None if child.is_open else report_of(child, now)
            if report is not None:
                events.append(report[1])
        return events

    async def _change_revision(self, batch: Batch, work: Work, revision: int) -> bool:
        """Have an execution that has ended go on with another revision of its flow; False where it is not there."""
        execution = work.live.execution
        if not execution.is_open and execution.revision != revision:
            try:
                work.flow = await self._find_flow(execution.namespace, execution.flow_id, revision)
            except Exception as error:  # no such revision, or one that cannot be read
                batch.errors[execution.id] = error
                return False
            self._live[execution.id] = (work.flow, work.live, work.functions)
        return True

    async def _open(
        self,
        batch: Batch,
        execution_id: str,
        created: Execution | None = None,
        runs: Sequence[TaskRun] = (),
    ) -> Work | None:
        """The execution in this batch; None where it cannot be had, which concerns it alone.

        Args:
            batch: gets the execution, or the error.
            execution_id: its id.
            created: its row, where it is new.
            runs: the task runs that it begins with then.
        """
        if execution_id in batch.errors:
            return None
        work = batch.works.get(execution_id)
        if work is None:
            known = self._live.get(execution_id)
            is_loaded = known is None
            try:
                known = known or await self._load(execution_id, created, runs)
            except StorageError:
                raise  # an event would be lost: whoever starts next goes on from what is written
            except Exception as error:  # no such execution, a flow that cannot be read, a broken row
                batch.errors[execution_id] = error
                return None
            self._live[execution_id] = known
            self._live.move_to_end(execution_id)
            work = batch.works[execution_id] = Work(*known, created=created is not None)
            work.is_loaded = is_loaded and created is None
            work.runs.update((task_run.id, task_run) for task_run in runs)
        return work

    async def _load(
        self, execution_id: str, created: Execution | None, runs: Sequence[TaskRun]
    ) -> tuple[FlowIndex, LiveExecution, Functions]:
        if execution_id in self._skips.executions:
            raise _skipped(execution_id)
        execution = created or await self._store.executions.get(execution_id, reveal=True)
        if self._skips.has(execution):
            raise _skipped(execution_id)
        flow = await self._find_flow(execution.namespace, execution.flow_id, execution.revision)
        if created is None:
            rows = await self._store.executions.task_runs(execution_id, reveal=True)
            live = LiveExecution.from_rows(flow, execution, rows)
        elif runs:
            live = LiveExecution.from_rows(flow, execution, runs)
        else:
            live = LiveExecution(execution)
        return flow, live, self._functions(execution)

    def _decide(self, batch: Batch, work: Work, event: Event) -> bool:
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

    def _note(self, work: Work, command: Command, now: datetime) -> None:
        match command:
            case RunTask():
                if getattr(command.task, "is_inline", False) or isinstance(command.task, ExecutableTask):
                    self._inline.append((work.live.execution.id, command))
                else:
                    work.commands.append(command)
            case CancelTask():
                work.commands.append(command)
            case EndExecution():
                work.commands.append(command)
                report = report_of(work.live.execution, now)
                if report is not None:
                    self._reports.append((work.live.execution.id, *report))
            case StartRetry():
                self._retries.append(retry_of(work.live.execution, command, now))
            case WriteLog():
                work.logs.append(log_entry(work.live, command, now))
            case _:
                raise InvariantError(f"The executor does not know the command {type(command).__name__}.")

    async def _run_inline_tasks(self, batch: Batch, deadline: float) -> None:
        """Run tasks that need no worker until none is left, or for so long that a commit is due.

        What ends or begins elsewhere through this batch is always settled in it: both are in one transaction.
        """
        while True:
            await self._settle_elsewhere(batch)
            if not self._inline or monotonic() >= deadline:
                return
            execution_id, command = self._inline.popleft()
            work = await self._open(batch, execution_id)
            task_run = None if work is None else waiting_run(work.live, command)
            if work is None or task_run is None:
                continue
            if isinstance(command.task, ExecutableTask):
                await self._start_children(batch, work, command, task_run, deadline)
            elif task_run.state is State.KILLING:
                self._decide(batch, work, self._killed(command))
            else:
                job = work.job(command, task_run, self._surroundings)
                self._decide(batch, work, finished(command, self._run_inline(job)))

    async def _settle_elsewhere(self, batch: Batch) -> None:
        """Create the executions that try again what others could not do, and tell parents how theirs ended."""
        while self._retries or self._reports:
            if self._retries:
                execution = self._retries.popleft()
                await self._create_beside(batch, execution.parent_id, execution)
                continue
            child_id, parent_id, event = self._reports.popleft()
            work = await self._open(batch, parent_id)
            if work is not None:
                batch.links.append((child_id, parent_id))
                self._decide(batch, work, self._with_asked_outputs(batch.works[child_id], work, event))

    async def _create_beside(self, batch: Batch, cause_id: str | None, execution: Execution) -> str | None:
        """Create an execution that follows from another one of the batch; gives the reason where it cannot be."""
        work = await self._open(batch, execution.id, execution)
        if work is None:
            return str(batch.errors.pop(execution.id))
        if cause_id is not None:
            batch.links.append((cause_id, execution.id))
        event = ExecutionCreated(now=execution.history[0].date)
        if needs_slot(work, event.now):
            work.wants_slot = True
        else:
            self._decide(batch, work, event)
        return None

    async def _ask_triggers(self, batch: Batch, react: React) -> bool:
        """Create the executions that triggers start after what has changed in the batch; False where there are none."""
        found = False
        for work in list(batch.works.values()):
            execution = work.live.execution
            if execution.id in batch.errors:
                continue
            is_over = any(isinstance(command, EndExecution) for command in work.commands)
            if execution.is_closing:  # its last state is told once what follows it is over, too
                execution = replace(execution, history=execution.history[:-1])
            since = work.reacted
            if is_over and not work.has_told_end:
                since, work.has_told_end = min(since, len(execution.history) - 1), True
            if since >= len(execution.history):
                continue
            work.reacted = len(execution.history)
            reactions = await react(
                execution,
                since=since,
                pending=batch.windows,
                runs=partial(list[TaskRun], work.live.runs.values()),
                variables=partial(variables, work.flow, work.live, None, self._surroundings),
            )
            if reactions is None:
                continue
            work.writes.append(partial(reactions.write, self._store.triggers))
            for started in reactions.executions:
                found = True
                await self._create_beside(batch, execution.id, started)
        return found

    async def _start_children(
        self, batch: Batch, work: Work, command: RunTask, task_run: TaskRun, deadline: float
    ) -> None:
        """Start the executions of a task run, as many as there is time for; the others follow after the commit."""
        task = cast("ExecutableTask", command.task)
        started = number = Progress.of(task_run).started
        if task_run.state is State.KILLING:
            if not number:
                self._decide(batch, work, self._killed(command))
            return
        plan, start_child = self._plan, self._start_child
        if plan is None or start_child is None:
            raise InvariantError("Nobody can start executions here.")
        planned = plan(work.job(command, task_run, self._surroundings))
        if isinstance(planned, WorkerResult):
            self._decide(batch, work, finished(command, planned))
            return
        while number < planned.total and (number == started or monotonic() < deadline):
            try:
                child = await start_child(planned.one(number), work.live.execution, task_run, number)
            except UserError as error:
                problem = str(error)
            else:
                problem = await self._create_beside(batch, work.live.execution.id, child)
            if problem is not None:
                now = self._clock()
                result = WorkerResult(state=State.FAILED, message=problem, started_at=now, ended_at=now)
                work.logs.append(_problem_entry(work.live, task_run, problem, now))
                self._kill_children([child_execution_id(task_run, at) for at in range(number)], now)
                self._decide(batch, work, finished(command, result))
                return
            number += 1
        outputs: Mapping[str, object] = {}
        if not started:
            ids = [child_execution_id(task_run, at) for at in range(number)]
            outputs = task.started(ids, planned.total, self._uri_of(work.live.execution, task_run))
        event = SubflowStarted(
            now=self._clock(),
            run_id=command.run_id,
            fence=command.fence,
            total=planned.total,
            started=number,
            outputs=outputs,
        )
        self._decide(batch, work, event)
        if number < planned.total:
            self._inline.append((work.live.execution.id, command))

    def _uri_of(self, execution: Execution, task_run: TaskRun) -> str:
        """Where the files of a task run belong."""
        return format_uri(
            task_run_path(execution.namespace, execution.flow_id, execution.id, task_run.task_id, task_run.id)
        )

    def _with_asked_outputs(self, child: Work, work: Work, event: SubflowEnded) -> SubflowEnded:
        """*event*, with the outputs that the Subflow itself asks for, seen from the execution that ended."""
        task_run = work.live.runs.get(event.run_id)
        asked = None if task_run is None else getattr(work.flow.places[task_run.task_id].task, "outputs", None)
        if not asked or task_run is None:
            return event
        from tercel.expression import render_object  # noqa: PLC0415  # hardly any Subflow asks

        seen = variables(child.flow, child.live, None, self._surroundings)
        try:
            outputs = render_object(asked, seen, child.functions, clock=monotonic)
        except UserError as error:
            now = self._clock()
            message = f"The `outputs` cannot be rendered: {error}"
            work.logs.append(_problem_entry(work.live, task_run, message, now))
            return replace(event, state=State.FAILED)
        return replace(event, outputs={**event.outputs, **cast("Mapping[str, object]", outputs)})

    async def _commit_all(self, batch: Batch) -> None:
        groups = batch.groups()
        try:
            await self._commit([work for group in groups for work in group])
        except (StaleExecutionError, StaleTriggerError, *_UNSTORABLE):
            for group in groups:
                await self._commit_group(batch, group)

    async def _commit_group(self, batch: Batch, group: Sequence[Work]) -> None:
        """Commit what has to be written together; where somebody was faster, what can be without that."""
        try:
            await self._commit(group)
        except (StaleExecutionError, StaleTriggerError, *_UNSTORABLE) as error:
            for work in group:
                if work.created or len(group) == 1:
                    batch.errors[work.live.execution.id] = _told(error, work.live.execution.id)
                else:
                    await self._commit_group(batch, [work])

    async def _commit(self, works: Sequence[Work]) -> None:
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
                    task_run = waiting_run(work.live, command)
                    if task_run is not None:
                        jobs.append(work.job(command, task_run, self._surroundings))
        async with self._store.transaction() as tx:
            for work in works:
                for write in work.writes:
                    write(tx)
            if changes.created or changes.changed or changes.removed or changes.runs:
                self._store.executions.save(tx, changes)
            await self._dispatcher.enqueue(tx, jobs)
        self._inbox.naps = bool(jobs)

    def _follow(self, batch: Batch) -> None:
        """Do what the commit of a batch allows: log, timers, cancelling, telling those who wait."""
        for execution_id, error in batch.errors.items():
            self._live.pop(execution_id, None)
            self._ends.tell(execution_id, error)
        logs: list[LogEntry] = []
        for execution_id, work in batch.works.items():
            if execution_id in batch.errors:
                continue
            logs += work.logs
            is_moved = work.has_rows or work.wants_slot or bool(work.commands)
            if work.is_loaded and not work.is_ours and not is_moved:
                self._live.pop(execution_id, None)  # it may be another process's
                continue
            self._inbox.set_timers(work.live.runs.values() if work.is_loaded else work.runs.values())
            if work.is_loaded or work.execution is not None or work.created:
                self._inbox.set_timer(work.live.execution)
            if work.has_rows:
                self._tell_watchers(work)
            self._slots.committed(work)
            for command in work.commands:
                match command:
                    case CancelTask():
                        self._cancel(work, command)
                    case EndExecution():
                        if not work.live.execution.is_open:
                            self._end(work)
                    case RunTask():
                        pass
                    case _:
                        assert_never(command)
            if not work.live.execution.is_open:
                self._live.pop(execution_id, None)
            else:
                self._ends.goes_on(execution_id)
        if logs:
            self._store.logs.write_logs(logs)
        while len(self._live) > self._most_live:
            self._live.popitem(last=False)

    def _cancel(self, work: Work, command: CancelTask) -> None:
        task_run = work.live.runs.get(command.run_id)
        if task_run is not None and work.flow.places[task_run.task_id].executable is not None:
            children = [child_id for _, child_id in open_children(task_run)]
            self._kill_children(children, self._clock())
            if not children and task_run.state is State.KILLING:
                self._inbox.put(Letter(task_run.execution_id, self._killed(command)))
            return
        ref = JobRef(work.live.execution.id, command.run_id, command.fence)
        if self._dispatcher.cancel([ref]):
            self._inbox.put(Letter(ref.execution_id, self._killed(command)))

    def _kill_children(self, execution_ids: Iterable[str], now: datetime) -> None:
        for execution_id in execution_ids:
            self._inbox.put(Letter(execution_id, KillRequested(now=now)))

    def _end(self, work: Work) -> None:
        """An execution is over: free its slot, and tell those who wait."""
        execution = work.live.execution
        if work.flow.flow.concurrency is not None:
            self._slots.freed(execution)
        self._ends.tell(execution.id, execution)

    def _killed(self, command: RunTask | CancelTask) -> TaskRunFinished:
        """How a task run ends that is killed before it began."""
        now = self._clock()
        return finished(command, WorkerResult(state=State.KILLED, started_at=now, ended_at=now, retryable=False))

    def _tell_watchers(self, work: Work) -> None:
        for watcher in list(self._watchers):
            try:
                watcher(work.live.execution, list(work.runs.values()))
            except Exception:  # whoever only looks must not stop the engine
                self._watchers.remove(watcher)


def _told(error: Exception, execution_id: str) -> Exception:
    """What those are told who wait for an execution that could not be written."""
    if not isinstance(error, _UNSTORABLE):
        return error
    told = InvariantError(f"The execution {execution_id} holds what cannot be stored: {type(error).__name__}: {error}")
    told.__cause__ = error
    _LOGGER.error("%s", told)
    return told


def _skipped(execution_id: str) -> ConflictError:
    return ConflictError(
        f"The execution {execution_id} is skipped, as this process was started to do.", "Start it without --skip-…."
    )


def _no_functions(_: Execution) -> Functions:
    return {}


class _Recovered(Event, frozen=True, kw_only=True):
    """The execution was adopted from a dead process. Never seen by the machine: it becomes what it means."""


def _problem_entry(live: LiveExecution, task_run: TaskRun, message: str, now: datetime) -> LogEntry:
    return log_entry(live, WriteLog(level=LogLevel.ERROR, message=message, run_id=task_run.id), now)
