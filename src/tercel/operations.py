"""The verbs that users have: save a flow, start it, kill an execution, look at what came of it.

The only place that draws ids. Everything here is a coroutine that awaits only the store's promises.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from tercel.errors import InvalidFlowError, InvalidInputError, UserError
from tercel.executor import Executor
from tercel.machine import FlowIndex, can_restart, compile_flow, misfits
from tercel.machine.messages import KillRequested, RestartRequested
from tercel.model.execution import Execution, TaskRun, base62
from tercel.model.flow import Flow
from tercel.model.inputs import resolve_inputs
from tercel.model.logs import Metric
from tercel.model.state import State, StateChange
from tercel.model.task import LogLevel
from tercel.storage import InternalStorage, input_path
from tercel.store import ExecutionQuery, LogPage, StaleExecutionError, Store

ReadFlow = Callable[[str], Flow]
"""Reads a flow's source; raises InvalidFlowError."""

RenderTyped = Callable[[str, Mapping[str, object], Execution], object]
"""Renders an expression of an input's declaration with these variables, for an execution about to start."""

CORRELATION_LABEL = "system.correlationId"


class RunningFlows:
    """Flow revisions as the machine reads them, each read once.

    Args:
        most: how many are kept.
    """

    def __init__(self, store: Store, read: ReadFlow, most: int = 256) -> None:
        self._store = store
        self._read = read
        self._most = most
        self._compiled: OrderedDict[tuple[str, str, int], FlowIndex] = OrderedDict()

    async def find(self, namespace: str, flow_id: str, revision: int) -> FlowIndex:
        """A revision. Raises NotFoundError, and InvalidFlowError where this version of tercel cannot read it."""
        found = self._compiled.get((namespace, flow_id, revision))
        if found is None:
            saved = await self._store.flows.get(namespace, flow_id, revision)
            found = self.keep(replace(self._read(saved.source), revision=revision, source=saved.source))
        return found

    def keep(self, flow: Flow) -> FlowIndex:
        """Keep a flow, read already, under its revision."""
        index = self._compiled[flow.namespace, flow.id, flow.revision] = compile_flow(flow)
        while len(self._compiled) > self._most:
            self._compiled.popitem(last=False)
        return index


class Queries:
    """What can be asked of a home, also while another process works in it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_execution(self, execution_id: str) -> Execution:
        """An execution, without its task runs. Raises NotFoundError."""
        return await self._store.executions.get(execution_id)

    async def search_executions(self, query: ExecutionQuery) -> list[Execution]:
        """A page of executions, newest first."""
        return await self._store.executions.search(query)

    async def task_runs(self, execution_id: str) -> list[TaskRun]:
        """Its task runs, oldest first. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        return await self._store.executions.task_runs(execution_id)

    async def logs(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        min_level: LogLevel = LogLevel.TRACE,
        after: int = 0,
    ) -> LogPage:
        """A page of its log, all that this process wrote included. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        await self._store.logs.flush()
        return await self._store.logs.read(execution_id, task_run_id=task_run_id, min_level=min_level, after=after)

    async def metrics(self, execution_id: str, task_run_id: str | None = None) -> list[Metric]:
        """Its metrics, or those of one task run. Raises NotFoundError."""
        await self._store.executions.get(execution_id)
        await self._store.logs.flush()
        return await self._store.logs.metrics(execution_id, task_run_id)


class Operations(Queries):
    """What can be done, for the command line and the API alike.

    Args:
        flows: shared with the executor.
        render_typed: renders expressions of inputs.
        add_secret: has a text masked from now on wherever it is shown or stored.
        clock: the current instant in UTC.
    """

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        storage: InternalStorage,
        flows: RunningFlows,
        read_flow: ReadFlow,
        render_typed: RenderTyped,
        add_secret: Callable[[str], object],
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(store)
        self._executor = executor
        self._storage = storage
        self._flows = flows
        self._read_flow = read_flow
        self._render_typed = render_typed
        self._add_secret = add_secret
        self._clock = clock

    async def save_flow(self, source: str, flow: Flow | None = None) -> Flow:
        """Save a flow's text as its next revision, unless it is the current one's.

        Args:
            source: YAML.
            flow: what *source* reads as, where the caller has read it.

        Returns:
            The flow with its revision.

        Raises:
            InvalidFlowError: with every issue.
        """
        flow = flow or self._read_flow(source)
        saved = await self._store.flows.save(flow.namespace, flow.id, source, self._clock())
        flow = replace(flow, revision=saved.revision, source=source)
        self._flows.keep(flow)
        return flow

    async def get_flow(self, namespace: str, flow_id: str, revision: int | None = None) -> Flow:
        """A flow, in its latest revision where *revision* is None. Raises NotFoundError."""
        saved = await self._store.flows.get(namespace, flow_id, revision)
        return (await self._flows.find(namespace, flow_id, saved.revision)).flow

    async def start(
        self,
        flow: Flow,
        inputs: Mapping[str, object] | None = None,
        *,
        files: Mapping[str, Path] | None = None,
        labels: Mapping[str, str] | None = None,
        trigger: Mapping[str, object] | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Start a saved flow.

        Args:
            flow: with its revision, as `save_flow` and `get_flow` give it.
            inputs: by id; text or typed values.
            files: local files for inputs of type FILE; copied into internal storage.
            labels: on top of the flow's; they win.
            trigger: what started it; None for a person.
            execution_id: from `new_execution_id`, for a caller that has to know it before; None draws one.

        Returns:
            The execution as it was saved.

        Raises:
            InvalidInputError: naming every input that does not fit, and labels that cannot be set.
            InvalidFlowError: the flow is disabled.
        """
        if flow.disabled:
            message = f"The flow {flow.namespace}.{flow.id} is disabled."
            raise InvalidFlowError(message, "Remove `disabled: true` to run it.")
        execution_id = execution_id or new_execution_id()
        execution = Execution(
            id=execution_id,
            namespace=flow.namespace,
            flow_id=flow.id,
            revision=flow.revision,
            history=(StateChange(State.CREATED, self._clock()),),
            labels=_labels(flow, labels or {}, execution_id),
            trigger=trigger,
            original_id=execution_id,
        )
        given = {**(inputs or {}), **self._store_files(flow, execution_id, files or {})}
        execution = replace(execution, inputs=self._resolve(flow, execution, given))
        await self._executor.create(execution)
        return execution

    def _store_files(self, flow: Flow, execution_id: str, files: Mapping[str, Path]) -> dict[str, str]:
        declared = {one.id: one for one in flow.inputs}
        uris: dict[str, str] = {}
        for input_id, path in files.items():
            if input_id not in declared or declared[input_id].type != "FILE":
                names = ", ".join(one.id for one in flow.inputs if one.type == "FILE")
                raise InvalidInputError(
                    f"The flow has no input {input_id!r} of type FILE.",
                    f"Its file inputs are: {names}." if names else "It takes no files.",
                )
            if not path.is_file():
                raise InvalidInputError(f"Input {input_id!r}: {path} is no file.", "Give the path of a regular file.")
            target = input_path(flow.namespace, flow.id, execution_id, input_id, path.name)
            uris[input_id] = self._storage.put_file(target, path)
        return uris

    def _resolve(self, flow: Flow, execution: Execution, given: Mapping[str, object]) -> dict[str, object]:
        unknown = sorted(given.keys() - {one.id for one in flow.inputs})
        if unknown:
            names = ", ".join(one.id for one in flow.inputs)
            raise InvalidInputError(
                f"The flow has no input {', '.join(map(repr, unknown))}.",
                f"Its inputs are: {names}." if names else "It takes none.",
            )
        if not flow.inputs:
            return {}
        resolved = resolve_inputs(
            flow.inputs, given, lambda template, variables: self._render_typed(template, variables, execution)
        )
        for one in flow.inputs:
            if one.type == "SECRET" or one.item_type == "SECRET":
                self._keep_secret(_at(resolved, one.id))
        return resolved

    def _keep_secret(self, value: object) -> None:
        if isinstance(value, str):
            self._add_secret(value)
        elif isinstance(value, list):
            for item in cast("list[object]", value):
                self._keep_secret(item)

    async def kill(self, execution_id: str) -> None:
        """Ask an execution to end; one that has ended stays as it is. Raises NotFoundError."""
        await self._executor.apply(execution_id, KillRequested(now=self._clock()))

    async def restartable(self, execution_id: str) -> Execution:
        """An execution that can be restarted. Raises NotFoundError, and UserError where it cannot."""
        execution = await self._store.executions.get(execution_id)
        _refuse_unless_restartable(execution, await self._store.executions.task_runs(execution_id))
        return execution

    async def restart(self, execution_id: str, *, revision: int | None = None, from_scratch: bool = False) -> Execution:
        """Go on with an execution that ended badly, at what failed or was killed; what ended well stays.

        Args:
            execution_id: of an execution in FAILED, KILLED or CANCELLED, or in WARNING with a task run that failed.
            revision: of the flow, to go on with; the one that it ran where None.
            from_scratch: WorkingDirectories run again from their first child, not from the one that failed.

        Returns:
            The execution as it was restarted. It belongs to this process.

        Raises:
            NotFoundError: no such execution or revision.
            UserError: it has not ended, nothing of it failed, the revision does not fit to what ran, or somebody else
                was faster.
        """
        execution = await self.restartable(execution_id)
        if revision is None:
            revision = execution.revision
        if revision != execution.revision:
            await self._check_revision(execution, revision, from_scratch=from_scratch)
        event = RestartRequested(
            now=self._clock(), attempt=execution.attempt_number, revision=revision, from_scratch=from_scratch
        )
        try:
            await self._executor.apply(execution_id, event)
        except StaleExecutionError as error:
            raise UserError(
                f"Somebody else has restarted the execution {execution_id} meanwhile.",
                f"`tercel execution show {execution_id}` tells how it stands.",
            ) from error
        return await self._store.executions.get(execution_id)

    async def _check_revision(self, execution: Execution, revision: int, *, from_scratch: bool) -> None:
        """Refuse a revision in which what has run has no place any more."""
        namespace, flow_id = execution.namespace, execution.flow_id
        new = await self._flows.find(namespace, flow_id, revision)
        old = await self._flows.find(namespace, flow_id, execution.revision)
        runs = await self._store.executions.task_runs(execution.id)
        found = misfits(old, new, runs, from_scratch=from_scratch)
        if found:
            raise UserError(
                f"The execution {execution.id} cannot go on with revision {revision} of {namespace}.{flow_id}: there "
                f"{_listed(found)}.",
                "Tasks that have run have to stay where they were, under their ids; all else may change.",
            )

    async def wait(self, execution_id: str) -> Execution:
        """Wait until an execution has ended, and give it as it is then. Raises NotFoundError."""
        ended = self._executor.ended(execution_id)
        if ended.is_done or self._executor.is_live(execution_id):
            return await ended
        try:
            execution = await self._store.executions.get(execution_id)
            return execution if execution.state.is_terminal else await ended
        finally:
            self._executor.forget(execution_id, ended)


def _refuse_unless_restartable(execution: Execution, runs: Sequence[TaskRun]) -> None:
    state = execution.state
    if not state.is_terminal:
        raise UserError(
            f"The execution {execution.id} cannot be restarted: it has not ended, it is {state}.",
            f"Wait for its end, or kill it. If its process is gone, `tercel execution recover {execution.id}` goes on.",
        )
    if not can_restart(execution, runs):
        raise UserError(
            f"The execution {execution.id} cannot be restarted: it ended in {state}, and none of its tasks failed.",
            "`tercel run` runs the flow anew.",
        )


def _listed(parts: Sequence[str]) -> str:
    return ", and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _at(values: Mapping[str, object], dotted: str) -> object:
    """The value of an id whose dots mean nested maps; None where it is not there."""
    name, _, rest = dotted.partition(".")
    value = values.get(name)
    if not rest:
        return value
    return _at(cast("Mapping[str, object]", value), rest) if isinstance(value, Mapping) else None


def _labels(flow: Flow, given: Mapping[str, str], execution_id: str) -> dict[str, str]:
    refused: Sequence[str] = [name for name in given if name.startswith("system.") and name != CORRELATION_LABEL]
    if refused:
        raise InvalidInputError(
            f"The label {', '.join(refused)} is tercel's own.", f"Only {CORRELATION_LABEL} may be given at a start."
        )
    own = {name: value for name, value in flow.labels.items() if not name.startswith("system.")}
    return {CORRELATION_LABEL: execution_id, **own, **given}


def new_execution_id() -> str:
    """A fresh id: 22 characters of base 62, later ones greater, unlike any other."""
    now_ns = time.time_ns()
    fraction = (now_ns % 1_000_000) * 4096 // 1_000_000  # of a millisecond: orders what one process starts
    chance = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return base62((now_ns // 1_000_000) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | chance, 22)
