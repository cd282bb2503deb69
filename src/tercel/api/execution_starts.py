"""`/executions`: how executions begin: a flow is started, its inputs are checked before, a webhook is called."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
from starlette.responses import Response

from tercel.api.answers import empty_answer, json_answer
from tercel.api.call import Call, Field, read_all
from tercel.api.executions import page_address, whole_execution
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, execution_json, flow_for_execution_json, plain, present
from tercel.api.streams import in_thread
from tercel.errors import ConflictError, DisabledFlowError, InvalidFlowError
from tercel.model.flow import Flow
from tercel.model.input_types import Input
from tercel.model.inputs import ResolvedInput
from tercel.operations import Upload, WebRequest

_FILES = "files"
"""The name of all parts that are files, by the older convention."""

_LOOK_S = 1.0
"""How often it is seen whether a client that waits is still there."""


class Kind(StrEnum):
    """What an execution is run for."""

    NORMAL = "NORMAL"
    TEST = "TEST"
    PLAYGROUND = "PLAYGROUND"
    LOOP = "LOOP"


class Given(msgspec.Struct, frozen=True):
    """What a form gives for inputs.

    Attributes:
        inputs: texts by id.
        uploads: files by id, for inputs of type FILE.
    """

    inputs: dict[str, object]
    uploads: dict[str, Upload]

    @property
    def names(self) -> dict[str, str]:
        """What the files are called, by id."""
        return {id_: upload.name for id_, upload in self.uploads.items()}


def given_inputs(form: Sequence[Field], declared: Sequence[Input]) -> Given:
    """Read the parts of a form as values of inputs.

    A part that is a file counts for the input of its name; one called `files`, by the older convention, for the input
    that its file is named after. A file that is sent for an input of another type is that input's text.

    Raises:
        RequestError: 422, such a file is no text.
    """
    types = {one.id: one.type for one in declared}
    found = Given({}, {})
    for field in form:
        if field.file is None:
            found.inputs[field.name] = field.text or ""
            continue
        name, file_name = field.name, field.file_name or ""
        if name == _FILES and _FILES not in types:
            name, file_name = file_name, ""
        if types.get(name) == "FILE":
            found.uploads[name] = Upload(file_name, field.file)
        elif name in types:
            found.inputs[name] = _as_text(name, field)
    return found


def _as_text(name: str, field: Field) -> str:
    try:
        return read_all(field).decode()
    except UnicodeDecodeError:
        raise RequestError(422, f"Input {name!r}: the file is no UTF-8 text.", reason="Invalid entity") from None


async def create(call: Call) -> Response:
    """Start a flow; with `wait=true` the answer comes when the execution has ended."""
    execution_id = await in_thread(lambda: _start(call))
    if call.query.flag("wait", False):
        await _until_ended(call, execution_id)
    return json_answer(await in_thread(lambda: whole_execution(call, execution_id, url=True)))


def _start(call: Call) -> str:
    flow = _flow(call)
    given = given_inputs(call.form, flow.inputs)
    kind = call.query.choice("kind", Kind)
    execution = call.run(
        call.operations.start(
            flow,
            given.inputs,
            uploads=given.uploads,
            labels=call.query.labels(),
            schedule_date=call.query.instant("scheduleDate"),
            kind=None if kind in (None, Kind.NORMAL) else str(kind),
            passes_unknown=True,
        )
    )
    return execution.id


def _flow(call: Call) -> Flow:
    """The flow to start. Raises NotFoundError, and ConflictError where it cannot be read any more."""
    namespace, flow_id = call.path["namespace"], call.path["id"]
    try:
        return call.run(call.operations.get_flow(namespace, flow_id, call.query.whole("revision", least=1)))
    except InvalidFlowError as error:
        raise ConflictError(f"The flow {namespace}.{flow_id} is invalid: {error}") from error


async def _until_ended(call: Call, execution_id: str) -> None:
    """Wait for the end of an execution, or until the client has gone away or the server stops."""
    ended = asyncio.ensure_future(call.operations.wait_for_end(execution_id))
    try:
        while not ended.done():
            await asyncio.wait((ended,), timeout=_LOOK_S)
            if not ended.done() and (call.is_stopping() or await call.request.is_disconnected()):
                return
        await ended
    finally:
        ended.cancel()


def validate(call: Call) -> Response:
    """What would become of the inputs of a start."""
    flow = _flow(call)
    if flow.disabled:
        raise DisabledFlowError(f"The flow {flow.namespace}.{flow.id} is disabled.")
    call.query.labels()
    given = given_inputs(call.form, flow.inputs)
    found = call.run(call.operations.examine_start(flow, given.inputs, given.names))
    return json_answer(
        {"id": flow.id, "namespace": flow.namespace, "inputs": inputs_json(found, declared_json(flow), given)}
    )


def declared_json(flow: Flow) -> Mapping[str, object]:
    """The declarations of a flow's inputs, as it is written, by id."""
    written = flow_for_execution_json(flow).get("inputs")
    return {
        str(one.get("id") or one.get("name")): one
        for one in (msgspec.convert(written, list[dict[str, object]]) if written else ())
    }


def inputs_json(found: Sequence[ResolvedInput], declared: Mapping[str, object], given: Given) -> list[Json]:
    """What became of inputs.

    Args:
        found: each of them.
        declared: their declarations by id; one that is not there is written from what is known of it.
        given: what was sent: of a file its name is told, of a secret nothing.
    """
    return [
        present(
            input=declared.get(one.input.id, {"id": one.input.id, "type": one.input.type}),
            value=_shown(one, given),
            enabled=one.is_enabled,
            isDefault=one.is_default,
            errors=[{"message": text} for text in one.errors],
        )
        for one in found
    ]


def _shown(one: ResolvedInput, given: Given) -> object:
    if one.value is None:
        return None
    if one.input.is_secret:
        return "******"
    if one.input.id in given.uploads:
        return given.uploads[one.input.id].name or one.input.id
    return plain(one.value)


def webhook(call: Call) -> Response:
    """Start a flow by a web request that knows the key of one of its webhooks."""
    namespace, flow_id = call.path["namespace"], call.path["id"]
    request = WebRequest(
        key=call.path["key"],
        body=call.body.decode("utf-8", "replace"),
        headers=_multimap(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in call.request.scope["headers"]
        ),
        parameters=_multimap(call.query),
    )
    try:
        execution = call.run(call.operations.start_by_request(namespace, flow_id, request))
    except DisabledFlowError:
        raise
    except InvalidFlowError as error:
        raise ConflictError(f"The flow {namespace}.{flow_id} is invalid: {error}") from error
    if execution is None:
        return empty_answer()
    return json_answer({**execution_json(execution, None, call.now), "url": page_address(call, execution)})


def _multimap(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


_WEBHOOK = "/executions/webhook/{namespace}/{id}/{key}"

ROUTES = (
    Route(method="POST", path="/executions/{namespace}/{id}", answer=create, takes_form=True),
    Route(method="POST", path="/executions/trigger/{namespace}/{id}", answer=create, takes_form=True),
    Route(method="POST", path="/executions/{namespace}/{id}/validate", answer=validate, takes_form=True),
    *(
        Route(method=method, path=path, answer=webhook, is_open=True)
        for method in ("GET", "POST", "PUT")
        for path in (_WEBHOOK, f"{_WEBHOOK}/{{path*}}")
    ),
)
