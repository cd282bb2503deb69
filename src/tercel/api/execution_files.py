"""`/executions/{id}/file` and `/outputs`: what executions leave: files, and values."""

import re
from collections.abc import Iterator
from typing import BinaryIO, cast
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import RedirectResponse, Response

from tercel.api.answers import file_answer, json_answer
from tercel.api.call import Call
from tercel.api.previews import MOST_ROWS, preview_json
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json, plain, present
from tercel.errors import NotFoundError, StorageError, TaskFailedError
from tercel.item_files import read_rows
from tercel.model.execution import Execution
from tercel.storage import StoredFile, execution_path, format_uri, parse_uri

_BLOCK_BYTES = 256 * 1024
_DEFAULT_ROWS = 100

_encode = msgspec.json.Encoder(enc_hook=str).encode


# Files


def download(call: Call) -> Response:
    """A file of an execution."""
    found = _find(call)
    if isinstance(found, Response):
        return found
    name = parse_uri(found.uri).rpartition("/")[2]
    match (call.query.text("format") or "RAW").upper():
        case "RAW":
            return _raw(call, found, name)
        case "JSONL":
            with call.engine.storage.get(found.uri) as file:
                _check_rows(file)
            return file_answer(_as_json_lines(call, found), f"{name.rpartition('.')[0] or name}.jsonl")
        case other:
            raise RequestError(422, f"There is no format {other[:100]!r}.", hint="Possible are RAW and JSONL.")


def _raw(call: Call, file: StoredFile, name: str) -> Response:
    part = byte_range(call.headers.get("range", ""), file.size)
    if part is None:
        answer = file_answer(_blocks(call.engine.storage.get(file.uri), 0, file.size), name, length=file.size)
    else:
        start, end = part
        answer = file_answer(_blocks(call.engine.storage.get(file.uri), start, end), name, length=end - start)
        answer.status_code = 206
        answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    answer.headers["Accept-Ranges"] = "bytes"
    return answer


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """The part of a file that a request asks for, its end excluded; None for all of it.

    Several ranges, and what is no range, mean all. Raises RequestError, 416, where it begins after the end.

    Example:
        >>> byte_range("bytes=2-", 10), byte_range("bytes=-3", 10), byte_range("bytes=0-1,4-5", 10)
        ((2, 10), (7, 10), None)
    """
    found = _RANGE.fullmatch(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise RequestError(
            416,
            f"The file has {size} bytes.",
            reason="Range Not Satisfiable",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """A part of a file, block by block; the file is closed with it."""
    with file:
        file.seek(start)
        left = end - start
        while left > 0 and (block := file.read(min(_BLOCK_BYTES, left))):
            left -= len(block)
            yield block


def _check_rows(file: BinaryIO) -> None:
    """Raise RequestError, 422, where the first row cannot be read: later there is an answer already."""
    try:
        next(read_rows(file), None)
    except TaskFailedError as error:
        raise RequestError(422, str(error)) from None


def _as_json_lines(call: Call, file: StoredFile) -> Iterator[bytes]:
    with call.engine.storage.get(file.uri) as content:
        for row in read_rows(content):
            yield _encode(plain(row.value)) + b"\n"


def metas(call: Call) -> Response:
    """What is known of a file of an execution."""
    found = _find(call)
    return found if isinstance(found, Response) else json_answer({"size": found.size})


def preview(call: Call) -> Response:
    """The beginning of a file of an execution."""
    rows = call.query.whole("maxRows", _DEFAULT_ROWS, least=1) or _DEFAULT_ROWS
    encoding = call.query.text("encoding") or "UTF-8"
    found = _find(call)
    if isinstance(found, Response):
        return found
    name = parse_uri(found.uri).rpartition("/")[2]
    with call.engine.storage.get(found.uri) as file:
        return json_answer(preview_json(file, name, size=found.size, max_rows=min(rows, MOST_ROWS), encoding=encoding))


def _find(call: Call) -> StoredFile | Response:
    """The file that is asked for, if the execution has it; where another execution has, an answer that says where.

    Raises:
        NotFoundError: there is no such execution, or no such file.
        RequestError: 422, the path leads elsewhere.
    """
    uri = call.query.needed("path")
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    try:
        path = parse_uri(uri)
        if path.startswith(_folder(execution)):
            return call.engine.storage.stat(format_uri(path))
    except StorageError as error:
        raise _refused(error.message) from None
    other = _owner(call, path)
    if other is None:
        raise _refused()
    own, theirs = (f"/executions/{quote(one, safe='')}/file" for one in (execution.id, other.id))
    address = call.address.replace(own, theirs, 1)
    return RedirectResponse(f"{address}?{urlencode(call.query.pairs)}", 307)


def _owner(call: Call, path: str) -> Execution | None:
    """The execution that a path belongs to; None where it belongs to none."""
    for found in re.finditer(r"/executions/([0-9A-Za-z]+)(?=/)", path):
        execution = call.run(call.operations.find_execution(found[1]))
        if execution is not None and path.startswith(_folder(execution)):
            return execution
    return None


def _folder(execution: Execution) -> str:
    return f"{execution_path(execution.namespace, execution.flow_id, execution.id)}/"


def _refused(message: str = "") -> RequestError:
    return RequestError(
        422,
        f"Invalid prefix path{f': {message}' if message else ''}",
        hint="Give the address of a file of the execution.",
    )


# Outputs


def outputs(call: Call) -> Response:
    """The outputs of an execution's flow."""
    return json_answer(plain(call.run(call.operations.get_execution(call.path["executionId"])).outputs))


def outputs_of_tasks(call: Call) -> Response:
    """The task runs of an execution that have outputs."""
    found: list[Json] = [
        present(taskId=run.task_id, taskRunId=run.id, value=run.value, iteration=run.iteration, inline=True)
        for run in call.run(call.operations.task_runs(call.path["executionId"]))
        if run.outputs
    ]
    return json_answer(found)


def outputs_of_task(call: Call) -> Response:
    """The outputs of a task run."""
    for run in call.run(call.operations.task_runs(call.path["executionId"])):
        if run.id == call.path["taskRunId"]:
            return json_answer(cast("Json", plain(run.outputs)))
    raise NotFoundError(f"The execution {call.path['executionId']} has no task run {call.path['taskRunId']!r}.")


ROUTES = (
    Route(method="GET", path="/executions/{executionId}/file", answer=download),
    Route(method="GET", path="/executions/{executionId}/file/metas", answer=metas),
    Route(method="GET", path="/executions/{executionId}/file/preview", answer=preview),
    Route(method="GET", path="/outputs/executions/{executionId}", answer=outputs),
    Route(method="GET", path="/outputs/tasks/{executionId}", answer=outputs_of_tasks),
    Route(method="GET", path="/outputs/tasks/{executionId}/{taskRunId}", answer=outputs_of_task),
    Route(method="GET", path="/outputs/{executionId}", answer=outputs),
    Route(method="GET", path="/outputs/{executionId}/{taskRunId}", answer=outputs_of_task),
)
