"""`/flows/import` and `/flows/export`: flows as files, one by one or in a ZIP archive; a list of them as CSV."""

import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from starlette.responses import Response

from tercel.api.answers import csv_line, file_answer, json_answer
from tercel.api.call import Call, read_all
from tercel.api.flow_bulk import FlowName
from tercel.api.flow_outlines import outline
from tercel.api.flows import matching_flows
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import flow_json
from tercel.errors import InvalidFlowError
from tercel.model.source import documents, read_flow
from tercel.plugins import catalog
from tercel.store import FlowRevision

_FLOW_FILES = (".yml", ".yaml")
_MOST_BYTES = 64 * 1024 * 1024
"""Of texts in an archive: more would be no flows."""


def import_flows(call: Call) -> Response:
    """Save every flow of a file that is valid; tells which are not, by their place or by their name in the archive."""
    fails = call.query.flag("failOnError", False)
    failed: list[str] = []
    for name, text in _texts(call):
        try:
            flow = read_flow(text, catalog(), call.plugin_defaults)
        except InvalidFlowError:
            if fails:
                raise
            failed.append(name)
            continue
        call.run(call.operations.save_flow(flow.source, flow))
    return json_answer(failed)


def _texts(call: Call) -> Iterator[tuple[str, str]]:
    field = call.file("fileUpload")
    name = (field.file_name or "").lower()
    if name.endswith(_FLOW_FILES):
        for index, (_, text) in enumerate(documents(_decoded(read_all(field), name))):
            yield str(index), text
    elif name.endswith(".zip"):
        yield from _unpacked(cast("BinaryIO", field.file))
    else:
        raise RequestError(422, f"{field.file_name!r} is no file of flows.", hint="Send a .yml, .yaml or .zip file.")


def _unpacked(file: BinaryIO) -> Iterator[tuple[str, str]]:
    left = _MOST_BYTES
    try:
        with ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or not entry.filename.lower().endswith(_FLOW_FILES):
                    continue
                with archive.open(entry) as packed:
                    content = packed.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise RequestError(413, f"The archive holds more than {_MOST_BYTES} bytes of flows.")
                yield entry.filename, _decoded(content, entry.filename)
    except (BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise RequestError(422, f"The archive cannot be read: {error}.", reason="Invalid format") from error


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(422, f"{name!r} is no UTF-8 text.", reason="Invalid format") from None


def export_by_ids(call: Call) -> Response:
    """An archive of flows."""
    names = call.json_as(list[FlowName])
    return _archive([call.run(call.operations.saved_flow(one.namespace, one.id)) for one in names])


def export_by_query(call: Call) -> Response:
    """An archive of the flows that fit the filters."""
    return _archive(matching_flows(call))


_COLUMNS = ("id", "namespace", "revision", "description", "disabled", "labels", "updated")


def export_list(call: Call) -> Response:
    """A list of the flows that fit the filters, as CSV."""
    lines = [csv_line(_COLUMNS)]
    for saved in matching_flows(call):
        labels = ",".join(f"{key}:{value}" for key, value in outline(saved).labels.items())
        shown = {**flow_json(saved), "labels": labels}
        lines.append(csv_line(shown.get(column, "") for column in _COLUMNS))
    return file_answer(b"".join(lines), "flows.csv", "text/csv")


def _archive(flows: Sequence[FlowRevision]) -> Response:
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for one in flows:
            archive.writestr(f"{one.namespace}.{one.id}.yml", one.source)
    return file_answer(packed.getvalue(), "flows.zip", "application/zip")


ROUTES = (
    Route(method="POST", path="/flows/import", answer=import_flows, takes_form=True),
    Route(method="POST", path="/flows/export/by-ids", answer=export_by_ids),
    Route(method="GET", path="/flows/export/by-query", answer=export_by_query),
    Route(method="GET", path="/flows/export/by-query/csv", answer=export_list),
)
