"""git.PushNamespaceFiles, PushExecutionFiles: files of internal storage, committed on a branch."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from tercel.model.globs import Globs, namespace_globs
from tercel.plugin_api import Dynamic, Outputs, RunContext, TaskFailedError, is_on, plugin
from tercel.plugins.git.connection import clean_folder
from tercel.plugins.git.pushing import Changes, Pushed, PushTask, folder_changes, repository_folder
from tercel.plugins.git.repository import Entry, Repository

_Opener = Callable[[], BinaryIO]


class _PushFiles(PushTask, frozen=True, kw_only=True):
    """A task that pushes files.

    Attributes:
        error_on_missing: fail where there is no file to push.

    Outputs:
        files: URI of the diff: a row with `file`, `change` (CREATED, UPDATED, DELETED), `additions`, `deletions` and
            `changes` (lines; null where it is no text) for each file that the commit changes.
    """

    error_on_missing: bool | Dynamic = False

    def push_files(
        self,
        context: RunContext,
        folder: str,
        files: Mapping[str, tuple[str, _Opener]],
        message: str,
        outdated: Callable[[str], bool],
    ) -> Pushed:
        """Commit and push *files*: modes and contents by path in *folder*; of the others *outdated* are removed."""
        if not files:
            missing = "There is no file that is to be pushed."
            if is_on(context, self.error_on_missing):
                raise TaskFailedError(missing, "Check `files`, or set errorOnMissing: false.")
            context.logger.warn(missing)
        with self.open_repository(context) as repository:
            entries = _add_files(context, repository, files)

            def plan(commit: str | None) -> Changes:
                return folder_changes(repository, commit, folder, entries, outdated)

            return self.push(context, repository, plan, message)


def _add_files(
    context: RunContext, repository: Repository, files: Mapping[str, tuple[str, _Opener]]
) -> dict[str, Entry]:
    copies: list[Path] = []
    for number, (_, opener) in enumerate(files.values()):
        context.stop_if_killed()
        copies.append(repository.folder / f"file-{number}")
        with opener() as content, copies[-1].open("xb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
    oids = repository.add(copies)
    for copy in copies:
        copy.unlink()
    return {path: Entry(mode, oid) for (path, (mode, _)), oid in zip(files.items(), oids, strict=True)}


@plugin("io.kestra.plugin.git.PushNamespaceFiles")
class PushNamespaceFiles(_PushFiles, frozen=True, kw_only=True):
    """Commit the files of a namespace to a remote branch.

    Attributes:
        namespace: that of this flow where left out.
        files: globs; one that does not start with `/` fits at any depth. All files where left out.
        git_directory: the folder of the repository that holds them.
        delete: remove what *files* fits and the namespace does not have.

    Example:
        tasks:
          - id: push
            type: io.kestra.plugin.git.PushNamespaceFiles
            url: https://git.example.com/team/flows.git
            branch: develop
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            files:
              - "scripts/**"
            dryRun: true
    """

    namespace: Dynamic = "{{ flow.namespace }}"
    files: list[Dynamic] | Dynamic | None = None
    git_directory: Dynamic = "_files"
    delete: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Commit and push."""
        namespace = context.render(self.namespace).strip()
        stored = context.namespace_folder(namespace)
        patterns = [] if self.files is None else context.render_list(self.files)
        globs, deletes = namespace_globs(patterns), is_on(context, self.delete)
        files: dict[str, tuple[str, _Opener]] = {}
        for path in stored.list(patterns):
            mode = "100755" if stored.is_executable(path) else "100644"
            files[path] = (mode, lambda path=path: stored.open(path))
        pushed = self.push_files(
            context,
            repository_folder(context, self.git_directory),
            files,
            self.message(context, f"Add files from {namespace} namespace"),
            lambda path: deletes and globs.matches(path),
        )
        return pushed.outputs(context, "files")


@plugin("io.kestra.plugin.git.PushExecutionFiles")
class PushExecutionFiles(_PushFiles, frozen=True, kw_only=True):
    """Commit files that tasks of this execution made to a remote branch.

    Attributes:
        files: globs that fit the names of files that tasks of this execution stored.
        files_map: path below *gitDirectory* to URI of each file; instead of *files*, or besides them.
        git_directory: the folder of the repository that holds them.
        delete: remove files of the folder that *files* fits and the execution did not make. Files that are named by
            *filesMap* push nothing out.

    Example:
        tasks:
          - id: report
            type: io.kestra.plugin.core.storage.Write
            content: "42 orders"
            extension: .txt
          - id: push
            type: io.kestra.plugin.git.PushExecutionFiles
            url: https://git.example.com/team/reports.git
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            filesMap:
              "{{ execution.id }}.txt": "{{ outputs.report.uri }}"
            gitDirectory: reports
    """

    files: list[Dynamic] | Dynamic | None = None
    files_map: dict[str, Dynamic] | Dynamic | None = None
    git_directory: Dynamic = "_outputs"
    delete: bool | Dynamic = True

    def run(self, context: RunContext) -> Outputs:
        """Commit and push."""
        patterns = [] if self.files is None else context.render_list(self.files)
        globs, deletes = Globs(patterns), is_on(context, self.delete)
        named = _named(context.list_execution_files(), globs) | self._mapped(context)
        files: dict[str, tuple[str, _Opener]] = {}
        for path, uri in named.items():
            clean = clean_folder(path, "files")
            if not clean:
                raise TaskFailedError(f"The file {uri} has no name to be pushed by.", "Give it one in `filesMap`.")
            files[clean] = ("100644", lambda uri=uri: context.open_file(uri))
        pushed = self.push_files(
            context,
            repository_folder(context, self.git_directory),
            files,
            self.message(context, context.render("Add files from execution {{ execution.id }}")),
            lambda path: deletes and globs.matches(path),
        )
        return pushed.outputs(context, "files")

    def _mapped(self, context: RunContext) -> dict[str, str]:
        given: object = context.render_value(self.files_map or {})
        if isinstance(given, str):
            try:
                given = msgspec.json.decode(given) if given.strip() else {}
            except msgspec.DecodeError as error:
                raise TaskFailedError(f"'filesMap' renders to a text that is no JSON object: {error}.") from error
        if not isinstance(given, Mapping):
            raise TaskFailedError("'filesMap' has to be a map of names to addresses.")
        return {str(name): str(uri) for name, uri in cast("Mapping[object, object]", given).items()}


def _named(uris: Sequence[str], globs: Globs) -> dict[str, str]:
    """Files that tasks stored, by their names in their task runs; of two of one name the later address counts."""
    found: dict[str, str] = {}
    for uri in uris:
        _, is_of_task, rest = uri.partition("/tasks/")
        name = rest.split("/", 2)[-1].removeprefix("outputs/")
        if is_of_task and rest.count("/") >= 2 and globs.matches(name):
            found[name] = uri
    return found
