"""The one place that picks implementations, wires them, starts and stops them.

`open_home` gives the embedded engine: everything in this process, records in the home's SQLite file. `read_home` only
looks, also beside processes that work in the home.
"""

import gc
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from threading import Lock, Thread, active_count
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from tercel.dispatch.memory import MemoryDispatcher
from tercel.engine_calls import NamespaceKeys, TaskCalls
from tercel.errors import StorageError, TercelError
from tercel.executor import Executor, Skips, Watcher, parent_of
from tercel.expression import render
from tercel.machine import Request
from tercel.machine.messages import KillRequested
from tercel.model.execution import Execution, TaskRun, base62
from tercel.model.flow import Flow
from tercel.model.jobs import WorkerJob, WorkerResult
from tercel.model.logs import LogEntry
from tercel.model.source import read_flow
from tercel.model.task import LogLevel
from tercel.operations import Operations, Queries, ReadFlow, RunningFlows
from tercel.plugin_api import TaskRunner
from tercel.plugins import catalog
from tercel.retention import Retention
from tercel.secrets import Masker, Secrets, Vault
from tercel.settings import CONFIGURATION_VARIABLE, SETTINGS, Settings
from tercel.storage.local import LocalStorage
from tercel.storage.namespace_files import NamespaceFiles
from tercel.store import Store, run
from tercel.store.home import HomeLock
from tercel.store.opening import open_store
from tercel.worker.containment import Containment
from tercel.worker.control import JobControl
from tercel.worker.directories import Directories
from tercel.worker.functions import ExpressionServices
from tercel.worker.job_runner import JobRunner
from tercel.worker.log_capture import RunIdentity
from tercel.worker.services import WorkerServices, utc_now
from tercel.worker.worker import Worker

if TYPE_CHECKING:
    # And triggers only where there are flows with some.
    from tercel.scheduler import FlowTriggers, PendingWindows, Reactions, Scheduler
    from tercel.worker.layer_services import LayerServices
    from tercel.worker.trigger_runner import TriggerRunner

T = TypeVar("T")


class Home:
    """A home that is only looked at.

    Attributes:
        storage: its internal storage.
        queries: what can be asked of it; coroutines for `call`.
    """

    queries: Queries

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.storage = LocalStorage(settings.storage_directory, durable=False)
        self.queries = Queries(store)
        self._store = store

    def open_elsewhere(self) -> dict[str, str]:
        """Executions of other processes that have not ended, oldest first, each with the name of its process."""
        return run(self._store.executions.open_elsewhere())

    def interrupted(self) -> dict[str, str]:
        """Executions that dead processes left open, oldest first, each with the name of its process."""
        left = self.open_elsewhere()
        dead = run(self._store.dead_owners(set(left.values())))
        return {execution_id: owner for execution_id, owner in left.items() if owner in dead}

    def interrupted_with(self, execution_ids: Collection[str], *, upwards: bool = True) -> list[str]:
        """Those of *execution_ids* that dead processes left open, and such that they started; oldest first.

        Args:
            execution_ids: these.
            upwards: also those that they were started by, who may wait for them, and all that those started.
        """
        left = self.interrupted()
        tied: dict[str, set[str]] = {execution_id: set() for execution_id in left}
        for execution_id in left:
            parent = parent_of(run(self._store.executions.get(execution_id)))
            if parent is not None and parent.execution_id in left:
                tied[parent.execution_id].add(execution_id)
                if upwards:
                    tied[execution_id].add(parent.execution_id)
        found: set[str] = set()
        more = set(execution_ids) & left.keys()
        while more:
            found |= more
            more = {one for execution_id in more for one in tied[execution_id]} - found
        return [execution_id for execution_id in left if execution_id in found]

    def flow_of(self, execution: Execution) -> Flow:
        """The flow in the revision that an execution ran.

        Raises:
            NotFoundError: it is gone.
            InvalidFlowError: it cannot be read any more.
        """
        saved = run(self._store.flows.get(execution.namespace, execution.flow_id, execution.revision))
        return _reader(self.settings)(saved.source)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of the verbs, blocking this thread, and give what it gives."""
        return run(coroutine)

    def close(self) -> None:
        """Let go of the home; a second call does nothing."""
        self._store.close()

    def __enter__(self) -> "Home":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers of an engine have to do.

    Attributes:
        waiting: jobs that wait for a slot.
        running: jobs that slots have.
        slots: how many jobs run side by side, at most.
        oldest_s: how long the first of those that wait has waited, in seconds; 0 where none waits.
    """

    waiting: int
    running: int
    slots: int
    oldest_s: float


class Engine(Home):
    """The embedded engine: executor, worker and store in this process.

    Attributes:
        operations: the verbs; coroutines for `call`.
        secrets: those of the environment.
        problems: sentences about what of the environment cannot be used, for people who start it.
        recovered: executions that dead processes had left open and that go on here, oldest first.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        lock: HomeLock,
        masker: Masker,
        *,
        worker_id: str,
        namespace_files: Callable[[str], NamespaceFiles] | None = None,
        environment: Mapping[str, str] | None = None,
        skips: Skips | None = None,
    ) -> None:
        super().__init__(settings, store)
        environment = os.environ if environment is None else environment
        self._lock = lock
        self._guard = Lock()
        self._layers: LayerServices | None = None
        self._polls: TriggerRunner | None = None
        self.storage.durable = settings.synchronous == "FULL"
        self.secrets = Secrets.from_environment(environment)
        services = WorkerServices(
            storage=self.storage,
            logs=store.logs,
            directories=Directories(settings.temporary_directory, _remove_leftover),
            secrets=self.secrets,
            worker_id=worker_id,
            settings=settings.for_tasks(),
            namespace_files=namespace_files,
            key_values=NamespaceKeys(store, utc_now),
            error_logs=self._error_logs,
            catalog=catalog(),
            layers=self._open_layers,
            masker=masker,
            containment=_containment(settings),
        )
        self._services = services
        self.problems = self.secrets.problems
        self._runner = JobRunner(services)
        self._dispatcher = MemoryDispatcher()
        self._surroundings = _surroundings(settings, environment)
        self._read_flow = _reader(settings)
        flows = RunningFlows(store, self._read_flow)
        self._triggers = _Triggers(self, worker_id)
        self._executor = Executor(
            store=store,
            dispatcher=self._dispatcher,
            find_flow=flows.find,
            run_inline=self._run_inline,
            plan=self._runner.plan,
            start_child=self._start_child,
            react=self._react,
            clock=utc_now,
            functions=self._functions,
            surroundings=self._surroundings,
            most_live=settings.live_executions,
            skips=skips,
        )
        self._worker = Worker(
            id=worker_id,
            dispatcher=self._dispatcher,
            reports=self._executor,
            runner=self._runner,
            slots=settings.slots,
            clock=utc_now,
        )
        self.operations = Operations(
            store=store,
            executor=self._executor,
            storage=self.storage,
            flows=flows,
            read_flow=self._read_flow,
            render_typed=self._render_typed,
            add_secret=masker.add,
            clock=utc_now,
            mask=masker.mask,
            functions=self._functions,
            surroundings=self._surroundings,
            complete=_completer(settings),
            on_saved=self._triggers.saved,
            on_deleted=self._triggers.deleted,
        )
        self.queries = self.operations
        self._task_calls = services.engine = TaskCalls(self.operations, store, self._triggers.set_disabled)
        self.recovered: list[str] = []
        self._retention: Retention | None = None

    def recover(self, execution_ids: Collection[str] | None = None, *, to_kill: bool = False) -> None:
        """Go on with executions that dead processes left open.

        Args:
            execution_ids: these, and those that they started; all of them where None.
            to_kill: go on only to end them: nothing of them runs again.
        """
        if execution_ids is not None:
            execution_ids = self.interrupted_with(execution_ids, upwards=False)
        adopted = self.adopt(execution_ids)
        if to_kill:
            for execution_id in adopted:
                self._executor.post(execution_id, KillRequested(now=utc_now()))
        self.go_on(adopted)

    def adopt(self, execution_ids: Collection[str] | None = None) -> list[str]:
        """Have executions that dead processes left open belong to this process; nothing of them goes on yet.

        Args:
            execution_ids: these; all of them where None.

        Returns:
            The ids of those that belong to this process now, oldest first.
        """
        left = self.interrupted()
        if execution_ids is not None:
            left = {execution_id: owner for execution_id, owner in left.items() if execution_id in execution_ids}
        adopted = self._store.executions.adopt(left).wait() if left else []
        self.recovered += adopted
        return adopted

    def go_on(self, execution_ids: Collection[str]) -> None:
        """Go on with executions that were adopted: what their workers had is lost, timers are set again."""
        if execution_ids:
            self._remove_leftovers()  # before their tasks run again
            self._executor.recover(execution_ids)

    def take_over(self, execution_ids: Collection[str]) -> None:
        """Go on with those executions that dead processes left open, and such as wait for them or they wait for."""
        if not self.interrupted().keys().isdisjoint(execution_ids):
            self.go_on(self.adopt(self.interrupted_with(execution_ids)))

    def clean_up(self) -> None:
        """Remove what dead processes left of themselves, and their working directories."""
        self._lock.sweep()
        self._remove_leftovers()
        if self.settings.temporary_directory.exists() or (self.settings.home / "layers").exists():
            Thread(target=self._sweep, name="tercel-janitor", daemon=True).start()

    def _remove_leftovers(self) -> None:
        with suppress(OSError):
            self._services.directories.remove_leftovers()

    def _open_layers(self) -> "LayerServices":
        with self._guard:
            if self._layers is None:
                self._layers = open_layers(self.settings, self.storage, clock=self._services.clock)
                self._layers.keeper.entrust_leftovers()
        return self._layers

    def _sweep(self) -> None:
        with suppress(OSError):
            self._services.directories.sweep()
        if (self.settings.home / "layers").exists():
            with suppress(OSError, TercelError):
                self._open_layers().clean_when_due()

    def settle(self) -> None:
        """Wait until what caches have saved is in internal storage."""
        if self._layers is not None:
            self._layers.keeper.wait()

    def watch(
        self,
        changed: Watcher | None = None,
        logged: Callable[[Sequence[LogEntry]], object] | None = None,
    ) -> Callable[[], None]:
        """Be told, in threads of the engine, of changes after each commit and of log lines; gives a way to stop.

        Neither may wait; one that raises is not called again. Secrets in the values of loops are masked, those in
        outputs and inputs are not.
        """
        stops = [self._executor.watch(self._with_masked_values(changed))] if changed else []
        if logged:
            stops.append(self._store.logs.listen(logged))

        def stop_all() -> None:
            for stop in stops:
                stop()

        return stop_all

    def _with_masked_values(self, changed: Watcher) -> Watcher:
        def told(execution: Execution, runs: Sequence[TaskRun]) -> object:
            return changed(execution, [self._with_masked_value(run) for run in runs])

        return told

    def _with_masked_value(self, run: TaskRun) -> TaskRun:
        value = None if run.value is None else self.mask(run.value)
        return run if value == run.value else replace(run, value=value)

    @property
    def failure(self) -> BaseException | None:
        """Why nothing goes on here any more, such as a database that took nothing; None as long as it does."""
        return self._executor.failure

    @property
    def load(self) -> Load:
        """What the workers of this process have to do now."""
        waiting, oldest_s = self._dispatcher.waiting()
        return Load(
            waiting=waiting, running=len(self._worker.running), slots=self.settings.slots, oldest_s=round(oldest_s, 3)
        )

    @property
    def scheduler(self) -> "Scheduler":
        """What starts flows at their dates; it works once `schedule` was called."""
        return self._triggers.scheduler

    def schedule(self) -> None:
        """Start flows at the dates of their triggers from now on, and remove what is too old.

        What dead processes left open is taken over from now on when somebody asks something of it.
        """
        self.operations.take_over = self.take_over
        self._retention = self._made_retention()
        self._retention.open()
        self._triggers.scheduler.open()
        self._executor.watch(lambda execution, _: self._triggers.ended(execution))

    def _made_retention(self) -> Retention:
        assert self._services.engine is not None
        settings = self.settings
        return Retention(
            self._services.engine,
            executions=None if settings.execution_days is None else timedelta(days=settings.execution_days),
            logs=None if settings.log_days is None else timedelta(days=settings.log_days),
            clock=self._services.clock,
            tell=self._say,
        )

    async def _react(
        self,
        execution: Execution,
        *,
        since: int,
        pending: "PendingWindows",
        runs: Callable[[], Sequence[TaskRun]],
        variables: Callable[[], Mapping[str, object]],
    ) -> "Reactions | None":
        if not await self._triggers.are_there():
            return None
        triggers = self._triggers.flow_triggers
        return await triggers.reactions(execution, since=since, pending=pending, runs=runs, variables=variables)

    async def _start_child(self, request: Request, parent: Execution, run: TaskRun, number: int) -> Execution:
        return await self.operations.start_child(request, parent, run, number)

    def _run_inline(self, job: WorkerJob) -> WorkerResult:
        return self._runner.run(job, JobControl(), lambda child: None)

    def _functions(self, execution: Execution) -> Mapping[str, Callable[..., object]]:
        return _Functions(self._services, execution)

    def _render_typed(self, template: str, variables: Mapping[str, object], execution: Execution) -> object:
        flow = {"id": execution.flow_id, "namespace": execution.namespace, "revision": execution.revision}
        seen = {"flow": flow, "execution": {"id": execution.id}, "labels": dict(execution.labels), **variables}
        return render(template, seen, self._functions(execution), mode="typed", clock=time.monotonic)

    async def has_triggers(self) -> bool:
        """Whether a saved flow has triggers, as far as its text tells."""
        return any("triggers" in saved.source for saved in await self._store.flows.latest())

    def make_triggers(self, process_id: str) -> "tuple[Scheduler, FlowTriggers]":
        """What starts executions by itself, not opened yet."""
        from tercel.scheduler import FlowTriggers, Rendering, Scheduler, TriggeringFlows  # noqa: PLC0415  # see `_Triggers`

        flows = TriggeringFlows(self._store, self._read_flow)
        zone, name = _local_zone()
        rendering = Rendering(
            functions=self._functions_of_flow, warn=self._warn_of_trigger, surroundings=self._surroundings, zone=name
        )
        scheduler = Scheduler(
            store=self._store,
            start=self.operations,
            flows=flows,
            rendering=rendering,
            warn=self._warn_of_trigger,
            id=process_id,
            on_error=lambda error: self._say(f"The scheduler tries again: {error}"),
            clock=utc_now,
            zone=zone,
            recovery=self.settings.recover_missed_schedules,
            runner=self._trigger_runner(),
        )
        flow_triggers = FlowTriggers(
            store=self._store,
            flows=flows,
            prepare=self.operations,
            rendering=rendering,
            warn=self._warn_of_trigger,
            zone=zone,
        )
        return scheduler, flow_triggers

    def _trigger_runner(self) -> "TriggerRunner":
        from tercel.worker.trigger_runner import TriggerRunner  # noqa: PLC0415  # see `_Triggers`

        self._polls = TriggerRunner(self._services, most=self.settings.slots)
        return self._polls

    def mask(self, text: str) -> str:
        """*text* with every secret that this process knows masked."""
        return self._services.masker.mask(text)

    def _functions_of_flow(self, flow: Flow) -> Mapping[str, Callable[..., object]]:
        nobody = Execution(id="", namespace=flow.namespace, flow_id=flow.id, revision=flow.revision, history=())
        return self._functions(nobody)

    def _warn_of_trigger(self, flow: Flow, trigger_id: str, message: str) -> None:
        self._say(f"Trigger {trigger_id!r} of {flow.namespace}.{flow.id}: {message}")

    def _say(self, message: str) -> None:
        """Tell those who operate it."""
        import logging  # noqa: PLC0415  # seldom needed, where no server runs

        logging.getLogger("tercel").warning("%s", self.mask(message))  # on stderr, where nobody has set it up

    def _error_logs(self, execution_id: str) -> list[LogEntry]:
        return list(self._task_calls.logs(execution_id, min_level=LogLevel.ERROR))

    def __enter__(self) -> "Engine":
        return self

    def close(self) -> None:
        """End what runs and let go of the home; a second call does nothing.

        Executions that have not ended stay open in the records: whoever opens the home next goes on with them, and
        runs again the tasks that were under way.
        """
        self._triggers.close()
        if self._retention is not None:
            self._retention.close()
        if self._polls is not None:
            self._polls.close(patience_s=self.settings.kill_grace_s + 5)
        self._worker.close(patience_s=self.settings.kill_grace_s + 5)
        self._executor.close()
        if self._layers is not None:
            self._layers.close()
        self._store.close()
        self._services.directories.close()
        self._lock.close()


class _Triggers:
    """What starts executions by itself, made when the first asks for it: a run of a flow without triggers pays little.

    Args:
        engine: whose executions they are.
        process_id: unlike that of any other process, ever.
    """

    def __init__(self, engine: Engine, process_id: str) -> None:
        self._engine = engine
        self._process_id = process_id
        self._guard = Lock()
        self._made: tuple[Scheduler, FlowTriggers] | None = None
        self._is_without = False

    @property
    def scheduler(self) -> "Scheduler":
        """Starts what is due."""
        return self._make()[0]

    @property
    def flow_triggers(self) -> "FlowTriggers":
        """Knows what follows from changes of executions."""
        return self._make()[1]

    async def are_there(self) -> bool:
        """False where no flow had a trigger when this was asked first, and none was saved here since."""
        if self._made is None and not self._is_without:
            self._is_without = not await self._engine.has_triggers()
        return self._made is not None or not self._is_without

    def _make(self) -> "tuple[Scheduler, FlowTriggers]":
        with self._guard:
            if self._made is None:
                self._made = self._engine.make_triggers(self._process_id)
            return self._made

    def saved(self, flow: Flow) -> None:
        """Take note of a flow that was saved."""
        if flow.triggers or self._made is not None:
            self.scheduler.sync(flow)

    def deleted(self, namespace: str, flow_id: str) -> None:
        """Take note of a flow that was deleted."""
        self.scheduler.forget(namespace, flow_id)

    def ended(self, execution: Execution) -> None:
        """Take note of an execution that may have ended."""
        if self._made is not None and not execution.is_open:
            self._made[0].ended(execution)

    def set_disabled(self, namespace: str, flow_id: str, trigger_id: str, disabled: bool) -> None:
        """Disable or enable a trigger. Raises NotFoundError."""
        run(self.scheduler.set_disabled(namespace, flow_id, trigger_id, disabled=disabled))

    def close(self) -> None:
        """Start nothing more."""
        if self._made is not None:
            self._made[0].close()


class _Functions(Mapping[str, Callable[..., object]]):
    """What an execution's own expressions may call; made when the first one calls, as most have none."""

    def __init__(self, services: WorkerServices, execution: Execution) -> None:
        self._services = services
        self._execution = execution
        self._made: Mapping[str, Callable[..., object]] | None = None

    def _all(self) -> Mapping[str, Callable[..., object]]:
        if self._made is None:
            execution = self._execution
            identity = RunIdentity(
                execution_id=execution.id,
                namespace=execution.namespace,
                flow_id=execution.flow_id,
                task_id="",
                task_run_id="",
                attempt=0,
            )
            variables = {} if execution.trigger is None else {"trigger": execution.trigger.get("variables", {})}
            masker = self._services.masker
            functions = ExpressionServices(self._services, identity, variables, masker).functions()
            self._made = {**functions, "mask": masker.mask, "keep_secret": masker.add}
        return self._made

    def __getitem__(self, name: str) -> Callable[..., object]:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _local_zone() -> tuple[tzinfo, str]:
    """The time zone of this machine, and its name; UTC where it cannot be told."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  # few flows have triggers

    name = os.environ.get("TZ", "").removeprefix(":")
    with suppress(OSError):
        name = name or os.readlink("/etc/localtime").partition("/zoneinfo/")[2]
    try:
        return (ZoneInfo(name), name) if name else (UTC, "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC, "UTC"


def open_layers(
    settings: Settings, storage: LocalStorage, *, clock: Callable[[], datetime] = utc_now
) -> "LayerServices":
    """The layers of a home."""
    from tercel.layers import LayerStore  # noqa: PLC0415  # only tasks with files need it
    from tercel.worker.layer_services import LayerServices  # noqa: PLC0415  # same

    return LayerServices(
        LayerStore(settings.home / "layers", settings.temporary_directory / "at", settings.layers_backend),
        storage,
        clock,
        keeps_snapshots=settings.snapshot_limit_bytes > 0,
        snapshot_age_s=settings.snapshot_days * 86400.0,
        snapshot_limit_bytes=settings.snapshot_limit_bytes,
        cache_limit_bytes=settings.cache_limit_bytes,
        durable=settings.synchronous == "FULL",
        stores_snapshots=settings.stores_snapshots,
    )


def open_home(
    settings: Settings,
    *,
    what: str = "tercel run",
    namespace_files: Callable[[str], NamespaceFiles] | None = None,
    on_wait: Callable[[str], object] = lambda _: None,
    recover: bool = True,
    database_patience: Callable[[], float] = lambda: 30.0,
    skips: Skips | None = None,
) -> Engine:
    """Start the embedded engine in a home, made where it is missing.

    Any number of processes share a home this way, each running its own executions; only a process that needs it alone
    keeps others out.

    Args:
        settings: of this process.
        what: the command, for other processes' messages.
        namespace_files: gives the files of a namespace; those in internal storage where None.
        on_wait: told, before the wait, who has the home to itself.
        recover: go on with all that dead processes left open.
        database_patience: how many seconds to try to reach PostgreSQL again when it went away; asked before each try.
        skips: executions that are left alone.

    Raises:
        HomeInUseError: a process has the home to itself, and still does after the time set for waiting.
        StorageError: the home cannot be used.
    """
    try:
        os.makedirs(settings.home, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The home {settings.home} cannot be made: {error.strerror}.", "Give another one: --home DIR."
        ) from error
    _enter_user_namespace(settings)
    process_id = _process_id()
    lock = HomeLock(settings.home, process_id, what, patience_s=settings.home_patience_s, on_wait=on_wait)
    try:
        masker = Masker()
        store = open_store(
            settings.database,
            settings.home,
            owner=process_id,
            synchronous=settings.synchronous,
            seals=_vault(settings, masker),
            patience=database_patience,
        )
    except BaseException:
        lock.close()
        raise
    _calm_collector()
    engine = Engine(settings, store, lock, masker, worker_id=process_id, namespace_files=namespace_files, skips=skips)
    try:
        if recover:
            engine.recover()
        engine.clean_up()
    except BaseException:
        engine.close()
        raise
    return engine


def read_home(settings: Settings) -> Home:
    """Open a home to look at it.

    Raises:
        NotFoundError: nothing was run in this home yet.
        StorageError: its records cannot be read by this version of tercel.
    """
    seals = _vault(settings, Masker())
    store = open_store(settings.database, settings.home, owner="", read_only=True, seals=seals)
    return Home(settings, store)


def _enter_user_namespace(settings: Settings) -> None:
    """Let this process mount what it needs, where nobody but root may, and nothing is lost by it.

    In a user namespace programs that change the user do nothing, so where there is sudo it has to be asked for.
    """
    is_wanted = settings.layers_backend == "userns"
    if os.geteuid() == 0 or (settings.layers_backend and not is_wanted):
        return
    from shutil import which  # noqa: PLC0415  # loads four compression libraries, not for root

    if not is_wanted and (which("sudo") or which("doas")):
        return
    from tercel.mounts import enter_user_namespace, why_no_mounts  # noqa: PLC0415  # loads ctypes, not for root

    if not why_no_mounts():
        return  # entered before
    if active_count() > 1:
        return  # an engine inside of another program
    try:
        enter_user_namespace()
    except OSError as error:
        if is_wanted:
            raise StorageError(
                f"User namespaces, as TERCEL_LAYERS=userns asks for, are not possible here: {error.strerror}.",
                "Leave TERCEL_LAYERS out: then the best way that works here is used.",
            ) from error


def _containment(settings: Settings) -> Containment:
    return Containment(
        settings.home,
        settings.temporary_directory,
        [settings.dependency_directory],
        storage=settings.storage_directory,
        is_wanted=settings.contains_scripts,
    )


def _calm_collector() -> None:
    """Have Python look for garbage cycles less often.

    Rows live long and hold no cycles; looking through ten thousand of them again and again took half of the time of a
    wide ForEach. Frozen is what was imported up to here, which lives as long as the process anyway: only once, as what
    is alive at a later time, and becomes garbage after that, would never be found.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _vault(settings: Settings, masker: Masker) -> Vault:
    """What keeps secrets out of the records: outputs that hold one are stored sealed."""
    return Vault(masker, settings.home / "secret.key", settings.encryption_key)


def _reader(settings: Settings) -> ReadFlow:
    """Reads the source of flows, with their templates."""
    complete = _completer(settings)

    def read(source: str) -> Flow:
        flow = read_flow(source, catalog(), settings.plugin_defaults)
        return flow if complete is None else complete(flow)

    return read


def _completer(settings: Settings) -> Callable[[Flow], Flow] | None:
    """Puts templates into flows; None where they are off."""
    folder = settings.template_directory
    if folder is None:
        return None
    from tercel.templates import with_templates  # noqa: PLC0415  # they are off nearly everywhere

    return lambda flow: with_templates(flow, folder, catalog())


def _remove_leftover(runner_type: str, note: Mapping[str, str]) -> None:
    found = catalog().find(runner_type)
    if found is not None and issubclass(found, TaskRunner):
        found.remove_leftover(note)


def _process_id() -> str:
    """Unlike that of any other process that ever used the home."""
    return f"{os.uname().nodename.split('.')[0]}-{os.getpid()}-{base62(time.time_ns(), 11)}"


def _surroundings(settings: Settings, environment: Mapping[str, str]) -> dict[str, object]:
    """What expressions see that is no execution's."""
    found: dict[str, object] = {"envs": _visible_environment(settings, environment), "globals": settings.globals}
    about: dict[str, object] = {}
    if settings.url:
        about["url"] = settings.url
    if settings.environment_name:
        about["environment"] = {"name": settings.environment_name}
    return {**found, "kestra": about} if about else found


def _visible_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """What expressions see as `envs`: no variable that is a setting."""
    hidden = {*settings.hidden_variables, CONFIGURATION_VARIABLE, *(one.environment for one in SETTINGS)}
    found = [
        (name, name.removeprefix(prefix).lower())
        for name in environment
        for prefix in settings.environment_prefixes
        if name.startswith(prefix) and name not in hidden
    ]
    if not found:
        return {}
    from tercel.kestra_keys import is_setting  # noqa: PLC0415  # few environments have such variables

    return {seen: environment[name] for name, seen in found if not is_setting(name)}
