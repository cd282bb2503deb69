"""How executions begin: a flow is saved, inputs are parsed, a row is made; for people, Subflows and triggers."""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec.structs import replace

from tercel.errors import DisabledFlowError, InvalidFlowError, InvalidInputError, NotFoundError, UserError
from tercel.executor import Executor
from tercel.machine import Request
from tercel.model.checks import exists_issue, update_issues
from tercel.model.execution import Execution, TaskRun, base62, child_execution_id
from tercel.model.flow import Flow
from tercel.model.inputs import Input, ResolvedInput, examine_inputs, resolve_inputs
from tercel.model.labels import execution_labels
from tercel.model.source import invalid
from tercel.model.state import State, StateChange
from tercel.operations.queries import Queries, ReadFlow, RunningFlows
from tercel.storage import InternalStorage, format_uri, input_path
from tercel.store import Promise, Store, Transaction

RenderTyped = Callable[[str, Mapping[str, object], Execution], object]
"""Renders an expression of an input's declaration with these variables, for an execution about to start."""

FunctionsOf = Callable[[Execution], Mapping[str, Callable[..., object]]]
"""What expressions of an execution may call."""

_SYSTEM = "system."


class Upload(msgspec.Struct, frozen=True):
    """A file that comes with a start.

    Attributes:
        name: what it is called, without folders; empty where the input names it.
        content: is read from its beginning to its end.
    """

    name: str
    content: BinaryIO


class Starts(Queries):
    """Saves flows and starts executions.

    Args:
        flows: shared with the executor.
        render_typed: renders expressions of inputs.
        add_secret: has a text masked from now on wherever it is shown or stored.
        clock: the current instant in UTC.
        mask: hides secrets in a text.
        functions: what expressions of an execution may call.
        surroundings: variables from outside the execution.
        complete: adds to a flow, read already, what is kept apart from it: templates.
        on_saved: is told each flow that was saved.
        on_deleted: is told namespace and id of each flow that was deleted.
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
        mask: Callable[[str], str] = str,
        functions: FunctionsOf | None = None,
        surroundings: Mapping[str, object] | None = None,
        complete: Callable[[Flow], Flow] | None = None,
        on_saved: Callable[[Flow], object] | None = None,
        on_deleted: Callable[[str, str], object] | None = None,
    ) -> None:
        super().__init__(store)
        self._executor = executor
        self._storage = storage
        self._flows = flows
        self._read_flow = read_flow
        self._render_typed = render_typed
        self._add_secret = add_secret
        self._clock = clock
        self._mask = mask
        self._functions: FunctionsOf = functions or _no_functions
        self._surroundings = surroundings or {}
        self._complete = complete
        self._on_saved = on_saved
        self._on_deleted = on_deleted

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
        flow = self._completed(flow or self._read_flow(source))
        saved = await self._store.flows.save(flow.namespace, flow.id, flow.source, self._clock())
        flow = replace(flow, revision=saved.revision)
        self._note_saved(flow)
        return flow

    def _completed(self, flow: Flow) -> Flow:
        return flow if self._complete is None else self._complete(flow)

    def _note_saved(self, flow: Flow) -> None:
        self._flows.keep(flow)
        if self._on_saved is not None:
            self._on_saved(flow)

    def _note_deleted(self, namespace: str, flow_id: str) -> None:
        if self._on_deleted is not None:
            self._on_deleted(namespace, flow_id)

    async def create_flow(self, source: str) -> Flow:
        """Save a flow that there is not yet. Raises InvalidFlowError, also where there is one of its id."""
        flow = self._completed(self._read_flow(source))
        saved = await self._store.flows.create(flow.namespace, flow.id, flow.source, self._clock())
        if saved is None:
            raise invalid([exists_issue(flow)])
        flow = replace(flow, revision=saved.revision)
        self._note_saved(flow)
        return flow

    async def update_flow(self, namespace: str, flow_id: str, source: str) -> Flow:
        """Save the next revision of a flow. Raises NotFoundError, and InvalidFlowError, also for another id."""
        await self._store.flows.get(namespace, flow_id)
        flow = self._read_flow(source)
        issues = update_issues(flow, namespace, flow_id)
        if issues:
            raise invalid(issues)
        return await self.save_flow(source, flow)

    async def delete_flow(self, namespace: str, flow_id: str) -> None:
        """Delete a flow: it is neither started nor found any more, and what runs of it goes on.

        Its revisions stay, and so does their numbering. Raises NotFoundError.
        """
        await self._store.flows.delete(namespace, flow_id, self._clock())
        self._note_deleted(namespace, flow_id)

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
        uploads: Mapping[str, Upload] | None = None,
        labels: Mapping[str, str] | None = None,
        trigger: Mapping[str, object] | None = None,
        schedule_date: datetime | None = None,
        kind: str | None = None,
        execution_id: str | None = None,
        passes_unknown: bool = False,
    ) -> Execution:
        """Start a saved flow.

        Args:
            flow: with its revision, as `save_flow` and `get_flow` give it.
            inputs: by id; text or typed values.
            files: local files for inputs of type FILE; copied into internal storage.
            uploads: files that were sent, for inputs of type FILE; likewise.
            labels: on top of the flow's.
            trigger: what started it; None for a person.
            schedule_date: it is created now and starts then; None starts it at once.
            kind: what it is run for, such as TEST; None for its own sake.
            execution_id: from `new_execution_id`, for a caller that has to know it before; None draws one.
            passes_unknown: what the flow has no input for is passed over, not refused.

        Returns:
            The execution as it was saved.

        Raises:
            InvalidInputError: naming every input that does not fit, and labels that cannot be set.
            DisabledFlowError: the flow is disabled.
        """
        if not passes_unknown:
            _refuse_unknown(flow, inputs or {})
        execution_id = execution_id or new_execution_id()
        nobody = Execution(
            id=execution_id, namespace=flow.namespace, flow_id=flow.id, revision=flow.revision, history=()
        )
        given = {**(inputs or {}), **self._store_files(flow, execution_id, files or {})}
        with self._stored_uploads(flow.inputs, nobody, uploads) as stored:
            execution = self.prepare(
                flow,
                {**given, **stored},
                execution_id=execution_id,
                labels=labels,
                trigger=trigger,
                schedule_date=schedule_date,
            )
        if kind is not None:
            execution = replace(execution, kind=kind)
        await self._executor.create(execution)
        return execution

    async def examine_start(
        self, flow: Flow, inputs: Mapping[str, object], uploads: Mapping[str, str] | None = None
    ) -> list[ResolvedInput]:
        """What would become of each input of a start, without starting anything.

        Args:
            flow: with its revision.
            inputs: as for `start`.
            uploads: names of the files that would be sent, by input.
        """
        nobody = Execution(
            id=new_execution_id(), namespace=flow.namespace, flow_id=flow.id, revision=flow.revision, history=()
        )
        return self._examine(flow.inputs, nobody, inputs, uploads or {})

    def _examine(
        self,
        declared: Sequence[Input],
        execution: Execution,
        inputs: Mapping[str, object],
        uploads: Mapping[str, str],
    ) -> list[ResolvedInput]:
        uris = {
            one.id: format_uri(_upload_path(execution, one, uploads[one.id]))
            for one in declared
            if one.type == "FILE" and one.id in uploads
        }
        return examine_inputs(
            declared,
            {**inputs, **uris},
            lambda template, variables: self._render_typed(template, variables, execution),
        )

    def save(self, execution: Execution, with_writes: Callable[[Transaction], None]) -> Promise[None]:
        """Save and start an execution that `prepare` made, in one transaction with what *with_writes* adds."""
        return self._executor.create(execution, with_writes=with_writes)

    def prepare(
        self,
        flow: Flow,
        inputs: Mapping[str, object],
        *,
        execution_id: str,
        labels: Mapping[str, str] | None = None,
        system_labels: Mapping[str, str] | None = None,
        trigger: Mapping[str, object] | None = None,
        schedule_date: datetime | None = None,
    ) -> Execution:
        """The row of an execution, for whoever saves it; as `start`, but inputs that the flow lacks are ignored."""
        if flow.disabled:
            message = f"The flow {flow.namespace}.{flow.id} is disabled."
            raise DisabledFlowError(message, "Remove `disabled: true` to run it.")
        execution = Execution(
            id=execution_id,
            namespace=flow.namespace,
            flow_id=flow.id,
            revision=flow.revision,
            history=(StateChange(State.CREATED, self._clock()),),
            labels=execution_labels(flow.labels, labels or {}, execution_id=execution_id, system=system_labels),
            trigger=trigger,
            original_id=execution_id,
            schedule_date=schedule_date,
        )
        return replace(execution, inputs=self._resolve(flow.inputs, execution, inputs))

    async def start_child(self, request: Request, parent: Execution, run: TaskRun, number: int) -> Execution:
        """The row of an execution that a Subflow's task run starts, for the executor.

        Raises:
            UserError: there is no such flow, it cannot be started, or its inputs do not fit.
        """
        try:
            flow = await self.get_flow(request.namespace, request.flow_id, request.revision)
        except (NotFoundError, InvalidFlowError) as error:
            raise UserError(str(error), error.hint) from error
        task_id = run.task_id
        task = (await self._flows.find(parent.namespace, parent.flow_id, parent.revision)).places[task_id].task
        own = {key: value for key, value in parent.labels.items() if not key.startswith(_SYSTEM)}
        return self.prepare(
            flow,
            request.inputs,
            execution_id=child_execution_id(run, number),
            labels={**(own if request.inherit_labels else {}), **request.labels},
            system_labels={key: value for key, value in parent.labels.items() if key.startswith(_SYSTEM)},
            trigger={
                "id": task_id,
                "type": task.type,
                "variables": {
                    "executionId": parent.id,
                    "namespace": parent.namespace,
                    "flowId": parent.flow_id,
                    "flowRevision": parent.revision,
                    "taskRunId": run.id,
                },
                "taskRunId": run.id,
                "fence": run.fence,
                "number": number,
            },
            schedule_date=request.schedule_date,
        )

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
            if not path.stat().st_size:
                raise InvalidInputError(f"Input {input_id!r}: {path} is empty.", "Give a file with content.")
            target = input_path(flow.namespace, flow.id, execution_id, input_id, path.name)
            uris[input_id] = self._storage.put_file(target, path)
        return uris

    @contextmanager
    def _stored_uploads(
        self, declared: Sequence[Input], execution: Execution, uploads: Mapping[str, Upload] | None
    ) -> Generator[Mapping[str, str]]:
        """Store what was sent for inputs of type FILE of an execution; gives the addresses.

        Where the block raises, nothing of it stays.
        """
        uris: dict[str, str] = {}
        try:
            for one in declared:
                if uploads and one.type == "FILE" and one.id in uploads:
                    upload = uploads[one.id]
                    _refuse_empty(one, upload)
                    uris[one.id] = self._storage.put(_upload_path(execution, one, upload.name), upload.content)
            yield uris
        except BaseException:
            self._storage.delete(uris.values())
            raise

    def _resolve(
        self, declared: Sequence[Input], execution: Execution, given: Mapping[str, object]
    ) -> dict[str, object]:
        if not declared:
            return {}
        resolved = resolve_inputs(
            declared, given, lambda template, variables: self._render_typed(template, variables, execution)
        )
        for one in declared:
            if one.is_secret:
                self._keep_secret(input_value(resolved, one.id))
        return resolved

    def _keep_secret(self, value: object) -> None:
        if isinstance(value, str):
            self._add_secret(value)
        elif isinstance(value, list):
            for item in cast("list[object]", value):
                self._keep_secret(item)


def _upload_path(execution: Execution, declared: Input, name: str) -> str:
    """Where a file that was sent for an input is kept; one without a name has the input's id and extension."""
    plain = name.replace("\0", "").replace("\\", "/").rpartition("/")[2]
    if plain in {"", ".", ".."}:
        plain = f"{declared.id}{declared.file_extension}"
    return input_path(execution.namespace, execution.flow_id, execution.id, declared.id, plain)


def _refuse_empty(declared: Input, upload: Upload) -> None:
    if not upload.content.seek(0, os.SEEK_END):
        raise InvalidInputError(f"Input {declared.id!r}: the file is empty.", "Send a file with content.")
    upload.content.seek(0)


def _refuse_unknown(flow: Flow, inputs: Mapping[str, object]) -> None:
    unknown = sorted(inputs.keys() - {one.id for one in flow.inputs})
    if unknown:
        names = ", ".join(one.id for one in flow.inputs)
        raise InvalidInputError(
            f"The flow has no input {', '.join(map(repr, unknown))}.",
            f"Its inputs are: {names}." if names else "It takes none.",
        )


def input_value(values: Mapping[str, object], dotted: str) -> object:
    """The value of an id whose dots mean nested maps; None where it is not there."""
    name, _, rest = dotted.partition(".")
    value = values.get(name)
    if not rest:
        return value
    return input_value(cast("Mapping[str, object]", value), rest) if isinstance(value, Mapping) else None


def _no_functions(_: Execution) -> Mapping[str, Callable[..., object]]:
    return {}


def new_execution_id() -> str:
    """A fresh id: 22 characters of base 62, later ones greater, unlike any other."""
    now_ns = time.time_ns()
    fraction = (now_ns % 1_000_000) * 4096 // 1_000_000  # of a millisecond: orders what one process starts
    chance = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return base62((now_ns // 1_000_000) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | chance, 22)
