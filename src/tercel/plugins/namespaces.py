"""Files of a namespace: UploadFiles, DownloadFiles, DeleteFiles."""

import os
import stat
from collections.abc import Callable, Mapping
from typing import BinaryIO, Literal, cast

import msgspec

from tercel.plugin_api import Dynamic, NamespaceFolder, Outputs, RunContext, RunnableTask, TaskFailedError, plugin


@plugin("io.kestra.plugin.core.namespace.UploadFiles")
class UploadFiles(RunnableTask, frozen=True, kw_only=True):
    """Put files into a namespace, for flows to come.

    Attributes:
        namespace: that of the flow where absent.
        files: globs, for files of the working directory; they keep their relative paths.
        files_map: names to addresses of files in internal storage, such as the `outputFiles` of a task.
        destination: the folder they are put into.
        conflict: what happens to a file that is there already. OVERWRITE keeps the former content as a version.

    Outputs:
        files: path in the namespace to address of each file that was put there.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            content: Ada
          - id: upload
            type: io.kestra.plugin.core.namespace.UploadFiles
            namespace: company.team
            filesMap:
              names.txt: "{{ outputs.names.uri }}"
            destination: lists
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ read('lists/names.txt') }}"
    """

    namespace: Dynamic | None = None
    files: list[Dynamic] | Dynamic | None = None
    files_map: dict[str, Dynamic] | Dynamic | None = None
    destination: Dynamic = "/"
    conflict: Literal["OVERWRITE", "ERROR", "SKIP"] = "OVERWRITE"

    def run(self, context: RunContext) -> Outputs:
        """Put each file."""
        folder = _folder(self.namespace, context)
        destination = context.render(self.destination).strip("/")
        known = frozenset(() if self.conflict == "OVERWRITE" else folder.list())
        put: dict[str, str] = {}

        def take(name: str, content: BinaryIO, *, executable: bool) -> None:
            context.stop_if_killed()
            path = _joined(destination, name)
            if path in known:
                if self.conflict == "ERROR":
                    raise TaskFailedError(
                        f"The namespace has a file {path!r} already.", "Set 'conflict' to OVERWRITE or SKIP."
                    )
                context.logger.debug(f"The namespace has a file {path!r} already; it is kept.")
            else:
                put[path] = folder.put(path, content, executable=executable)

        if self.files:
            context.each_file(self.files, lambda name, file: take(name, file, executable=_is_executable(file)))
        for name, uri in self._map(context).items():
            with context.open_file(uri) as content:
                take(name, content, executable=False)
        return Outputs(files=put)

    def _map(self, context: RunContext) -> Mapping[str, str]:
        given: object = context.render_value(self.files_map or {})
        if isinstance(given, str):
            try:
                given = msgspec.json.decode(given) if given.strip() else {}
            except msgspec.DecodeError as error:
                raise TaskFailedError(f"'filesMap' renders to a text that is no JSON object: {error}.") from error
        if not isinstance(given, Mapping):
            raise TaskFailedError("'filesMap' has to be a map of names to addresses.")
        return {str(name): str(uri) for name, uri in cast("Mapping[object, object]", given).items()}


def _is_executable(file: BinaryIO) -> bool:
    return bool(os.fstat(file.fileno()).st_mode & stat.S_IXUSR)


@plugin("io.kestra.plugin.core.namespace.DownloadFiles")
class DownloadFiles(RunnableTask, frozen=True, kw_only=True):
    """Copy files of a namespace to where the task run keeps its own, for other tasks to read.

    Attributes:
        namespace: that of the flow where absent.
        files: globs; one that does not start with `/` fits at any depth.
        destination: a folder that the copies are put into.

    Outputs:
        files: path in the namespace to address of each copy.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            content: Ada
          - id: upload
            type: io.kestra.plugin.core.namespace.UploadFiles
            namespace: company.team
            filesMap:
              names.txt: "{{ outputs.names.uri }}"
            destination: lists
          - id: download
            type: io.kestra.plugin.core.namespace.DownloadFiles
            namespace: company.team
            files:
              - lists/*.txt
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ read(outputs.download.files['lists/names.txt']) }}"
    """

    namespace: Dynamic | None = None
    files: list[Dynamic] | Dynamic
    destination: Dynamic = "/"

    def run(self, context: RunContext) -> Outputs:
        """Copy each file."""
        folder = _folder(self.namespace, context)
        destination = context.render(self.destination).strip("/")
        copies: dict[str, str] = {}

        def copy(path: str) -> None:
            with folder.open(path) as content:
                copies[path] = context.save_stream(content, _joined(destination, path))

        _each(folder, self.files, context, copy)
        context.metric("downloaded", len(copies))
        return Outputs(files=copies)


@plugin("io.kestra.plugin.core.namespace.DeleteFiles")
class DeleteFiles(RunnableTask, frozen=True, kw_only=True):
    """Delete files of a namespace. What they held stays as a version.

    Attributes:
        namespace: that of the flow where absent.
        files: globs; one that does not start with `/` fits at any depth.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            content: Ada
          - id: upload
            type: io.kestra.plugin.core.namespace.UploadFiles
            namespace: company.team
            filesMap:
              names.txt: "{{ outputs.names.uri }}"
            destination: lists
          - id: remove
            type: io.kestra.plugin.core.namespace.DeleteFiles
            namespace: company.team
            files:
              - lists/*.txt
    """

    namespace: Dynamic | None = None
    files: list[Dynamic] | Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Delete each file."""
        folder = _folder(self.namespace, context)
        count = _each(folder, self.files, context, folder.delete)
        context.metric("deleted", count)
        return Outputs()


def _each(folder: NamespaceFolder, files: object, context: RunContext, act: Callable[[str], object]) -> int:
    """Call *act* for each file that globs fit, and give their number."""
    patterns = context.render_list(files)
    # Without any the folder would give all.
    paths = folder.list(patterns) if patterns else []
    for path in paths:
        context.stop_if_killed()
        act(path)
    return len(paths)


def _folder(namespace: str | None, context: RunContext) -> NamespaceFolder:
    return context.namespace_folder(context.render("{{ flow.namespace }}" if namespace is None else namespace))


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name.lstrip('/')}" if folder else name.lstrip("/")
