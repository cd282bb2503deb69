"""`/namespaces/{namespace}/files`: the files of a namespace, one by one, as a tree, and as an archive.

Paths are decoded once, by the address; a part that is empty, `.` or `..` is refused wherever a path is given.
"""

import zlib
from collections.abc import Iterator
from datetime import datetime
from io import SEEK_END
from typing import BinaryIO, cast
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from starlette.responses import Response

from tercel.api.answers import empty_answer, file_answer, json_answer
from tercel.api.call import Call, read_all
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.api.shapes import Json
from tercel.errors import NotFoundError
from tercel.model.flow_text import with_property
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.storage.namespace_files import NamespaceFile, StoredNamespaceFiles, clean_path, is_namespace

_FLOWS = "_flows"
_FLOW_FILES = (".yml", ".yaml")
_BLOCK_BYTES = 1 << 20
_MOST_FLOW_BYTES = 16 * 1024 * 1024
_MOST_ENTRIES = 100_000


def get(call: Call) -> Response:
    """A file, or what it was in a revision."""
    stored, path = _files(call), _path(call)
    content = stored.get(path, call.query.whole("revision", least=1))
    size = content.seek(0, SEEK_END)
    content.seek(0)
    return file_answer(_blocks(content), path.rpartition("/")[2], length=size)


def _blocks(content: BinaryIO) -> Iterator[bytes]:
    with content:
        while block := content.read(_BLOCK_BYTES):
            yield block


def put(call: Call) -> Response:
    """Store a file; an archive is unpacked, and a file below `/_flows` is saved as a flow of the namespace."""
    stored, path = _files(call), _path(call, with_flows=True)
    field = call.file("fileContent")
    content = cast("BinaryIO", field.file)
    if (field.file_name or "").lower().endswith(".zip"):
        _unpack(call, stored, content)
    elif _is_flow(path):
        _import_flow(call, path, read_all(field))
    else:
        stored.put(path, content)
    return empty_answer(200)


def _unpack(call: Call, stored: StoredNamespaceFiles, file: BinaryIO) -> None:
    left = call.options.most_upload_bytes
    try:
        with ZipFile(file) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > _MOST_ENTRIES:
                raise RequestError(413, f"The archive has more than {_MOST_ENTRIES} files.")
            # All names are looked at before anything is stored.
            paths = [_checked(entry.filename, with_flows=True) for entry in entries]
            for entry, path in zip(entries, paths, strict=True):
                with archive.open(entry) as packed:
                    content = _Counted(cast("BinaryIO", packed), left)
                    if _is_flow(path):
                        _import_flow(call, path, content.read(_MOST_FLOW_BYTES))
                    else:
                        stored.put(path, cast("BinaryIO", content))
                    left = content.left
    except (BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise RequestError(422, f"The archive cannot be read: {error}.", reason="Invalid format") from error


class _Counted:
    """A stream of which no more than *left* bytes can be read, however small they were packed."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        self._stream = stream
        self.left = left

    def read(self, size: int) -> bytes:
        block = self._stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise RequestError(413, "The archive holds more than may be uploaded.")
        return block


def _is_flow(path: str) -> bool:
    return path.startswith(f"{_FLOWS}/")


def _import_flow(call: Call, path: str, content: bytes) -> None:
    if not path.lower().endswith(_FLOW_FILES):
        raise RequestError(422, f"{path!r} is no flow.", hint="Its name ends in .yml or .yaml.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(422, f"{path!r} is no UTF-8 text.", reason="Invalid format") from None
    flow = read_flow(with_property(text, "namespace", call.path["namespace"]), catalog(), call.plugin_defaults)
    call.run(call.operations.save_flow(flow.source, flow))


def move(call: Call) -> Response:
    """Give a file, or a folder, another path."""
    stored = _files(call)
    stored.move(_path(call, "from"), _path(call, "to"))
    return empty_answer(200)


def delete(call: Call) -> Response:
    """Delete a file, or a folder with all in it; earlier revisions stay. What is not there is passed over."""
    _files(call).delete(_path(call, may_be_root=True))
    return empty_answer(200)


def list_folder(call: Call) -> Response:
    """What is right in a folder."""
    stored = _files(call)
    folder = _path(call, may_be_root=True, default="")
    if not stored.has_folder(folder):
        raise NotFoundError(f"There is no folder {folder!r} in the namespace {stored.namespace!r}.")
    start = len(folder) + 1 if folder else 0
    files: list[Json] = []
    folders: dict[str, list[NamespaceFile]] = {}
    for file in stored.list(folder):
        name, _, rest = file.path[start:].partition("/")
        if rest:
            folders.setdefault(name, []).append(file)
        else:
            files.append(_file_json(file))
    for path in stored.made_folders(folder):
        name = path[start:].partition("/")[0]
        if name:
            folders.setdefault(name, [])
    found = [_folder_json(name, below) for name, below in folders.items()] + files
    return json_answer(sorted(found, key=lambda one: (one["type"], one["fileName"])))


def make_folder(call: Call) -> Response:
    """Make a folder, which is there also while nothing is in it."""
    _files(call).make_folder(_path(call))
    return empty_answer(200)


def stats(call: Call) -> Response:
    """What is known of a file or a folder; of all files without a path."""
    stored = _files(call)
    path = _path(call, may_be_root=True, default="")
    file = stored.find(path) if path else None
    if file is not None:
        return json_answer(_file_json(file))
    if not stored.has_folder(path):
        raise NotFoundError(f"There is no file {path!r} in the namespace {stored.namespace!r}.")
    return json_answer(_folder_json(path.rpartition("/")[2] or "/", stored.list(path)))


def search(call: Call) -> Response:
    """The paths of files that have a text in them, each with a `/` before it."""
    wanted = (call.query.text("q") or "").lower()
    return json_answer([f"/{file.path}" for file in _files(call).list() if wanted in f"/{file.path}".lower()])


def revisions(call: Call) -> Response:
    """The revisions of a file that have content, oldest first."""
    stored, path = _files(call), _path(call)
    found = stored.versions(path)
    if not found:
        raise NotFoundError(f"There is no file {path!r} in the namespace {stored.namespace!r}.")
    return json_answer([{"revision": one.number, "size": one.size} for one in found if not one.is_deletion])


def export(call: Call) -> Response:
    """An archive of all files, and of the namespace's flows below `_flows/`."""
    stored = _files(call)
    flows = {
        f"{_FLOWS}/{one.id}.yml": one.source for one in call.run(call.operations.saved_flows(call.path["namespace"]))
    }
    return file_answer(_packed(stored, flows), f"{stored.namespace}_files.zip", "application/zip")


def _packed(stored: StoredNamespaceFiles, texts: dict[str, str]) -> Iterator[bytes]:
    sink = _Sink()
    with ZipFile(cast("BinaryIO", sink), "w", ZIP_DEFLATED) as archive:
        for file in stored.list():
            try:
                content = stored.get(file.path)
            except NotFoundError:  # deleted meanwhile
                continue
            entry = ZipInfo(file.path, max(file.modified_at.timetuple()[:6], _OLDEST))
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = (0o755 if file.executable else 0o644) << 16
            with archive.open(entry, "w", force_zip64=True) as packed:
                for block in _blocks(content):
                    packed.write(block)
                    yield sink.take()
        for name, text in texts.items():
            archive.writestr(name, text)
            yield sink.take()
    yield sink.take()


_OLDEST = (1980, 1, 1, 0, 0, 0)
"""Archives know no earlier date."""


class _Sink:
    """Takes what is written until somebody fetches it."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, block: bytes) -> int:
        self._written.append(bytes(block))
        return len(block)

    def flush(self) -> None:
        """All has been written already."""

    def take(self) -> bytes:
        taken, self._written = b"".join(self._written), []
        return taken


def _files(call: Call) -> StoredNamespaceFiles:
    namespace = call.path["namespace"]
    if not is_namespace(namespace):
        raise RequestError(422, f"{namespace!r} cannot be a namespace that has files.")
    return StoredNamespaceFiles(call.engine.storage, namespace)


def _path(
    call: Call,
    name: str = "path",
    *,
    with_flows: bool = False,
    may_be_root: bool = False,
    default: str | None = None,
) -> str:
    """A path of the query, without `/` around it. Raises RequestError, and StorageError where it is refused."""
    given = call.query.text(name)
    path = call.query.needed(name) if given is None and default is None else given or default or ""
    if may_be_root and not path.strip("/"):
        return ""
    return _checked(path.rstrip("/"), with_flows=with_flows)


def _checked(path: str, *, with_flows: bool) -> str:
    cleaned = clean_path(path)
    if cleaned == _FLOWS or (_is_flow(cleaned) and not with_flows):
        raise RequestError(422, f"{path!r} is no file: flows are there.", hint="Only a flow can be sent to /_flows.")
    return cleaned


def _file_json(file: NamespaceFile) -> Json:
    return _attributes(file.path.rpartition("/")[2], "File", file.size, file.modified_at, file.modified_at)


def _folder_json(name: str, files: "list[NamespaceFile] | tuple[NamespaceFile, ...]") -> Json:
    dates = [file.modified_at for file in files]
    return _attributes(name, "Directory", 0, max(dates, default=None), min(dates, default=None))


def _attributes(name: str, type_: str, size: int, modified_at: datetime | None, created_at: datetime | None) -> Json:
    return {
        "fileName": name,
        "type": type_,
        "size": size,
        "lastModifiedTime": _milliseconds(modified_at),
        "creationTime": _milliseconds(created_at),
    }


def _milliseconds(moment: datetime | None) -> int:
    """Since 1970; 0 where nothing tells when it was."""
    return 0 if moment is None else round(moment.timestamp() * 1000)


ROUTES = (
    Route(method="GET", path="/namespaces/{namespace}/files", answer=get),
    Route(method="POST", path="/namespaces/{namespace}/files", answer=put, takes_form=True),
    Route(method="PUT", path="/namespaces/{namespace}/files", answer=move),
    Route(method="DELETE", path="/namespaces/{namespace}/files", answer=delete),
    Route(method="GET", path="/namespaces/{namespace}/files/directory", answer=list_folder),
    Route(method="POST", path="/namespaces/{namespace}/files/directory", answer=make_folder),
    Route(method="GET", path="/namespaces/{namespace}/files/stats", answer=stats),
    Route(method="GET", path="/namespaces/{namespace}/files/search", answer=search),
    Route(method="GET", path="/namespaces/{namespace}/files/export", answer=export),
    Route(method="GET", path="/namespaces/{namespace}/files/revisions", answer=revisions),
)
