"""git.Sync: the flows and the files of a branch, into one namespace."""

import re
from collections.abc import Mapping, Sequence
from typing import BinaryIO, ClassVar

from tercel.plugin_api import Dynamic, NamespaceFolder, Outputs, RunContext, TaskFailedError, is_on, plugin
from tercel.plugins.git.connection import Connection, clean_folder, joined
from tercel.plugins.git.flow_files import is_flow_file
from tercel.plugins.git.sync_files import obsolete_files, save_file_diff, sync_files
from tercel.plugins.git.sync_flows import folder_files, read_flows, save_flows

_FLOWS = "_flows/"


@plugin("io.kestra.plugin.git.Sync")
class Sync(Connection, frozen=True, kw_only=True):
    """Put the files of a remote branch into the namespace of this flow, and save those of its folder `_flows` as flows.

    The files of the namespace that the branch does not have are deleted; flows are not. Where a flow is not valid,
    nothing is changed. A file `.kestraignore` in *gitDirectory* says, as a `.gitignore` does, what is left alone.

    Attributes:
        git_directory: the folder of the repository that is synced; its root where left out.
        namespace_files_directory: the folder of the namespace's files that is made the same; their root where left out.
        dry_run: only say in the log and the diffs what would change.

    Outputs:
        files: URI of the diff of files, as that of `SyncNamespaceFiles`.
        flows: URI of the diff of flows, as that of `SyncFlows`.

    Example:
        tasks:
          - id: sync
            type: io.kestra.plugin.git.Sync
            url: https://git.example.com/team/flows.git
            branch: main
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            gitDirectory: team
    """

    deprecated: ClassVar[Mapping[str, str]] = {
        "type": "Use io.kestra.plugin.git.SyncFlows and io.kestra.plugin.git.SyncNamespaceFiles."
    }

    git_directory: Dynamic = ""
    namespace_files_directory: Dynamic = ""
    dry_run: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Read, check, change files, save flows."""
        namespace = context.render("{{ flow.namespace }}")
        folder = clean_folder(context.render(self.git_directory), "gitDirectory")
        target = clean_folder(context.render(self.namespace_files_directory), "namespaceFilesDirectory")
        stored = _Below(context.namespace_folder(namespace), target)
        is_dry = is_on(context, self.dry_run)
        with self.open_repository(context) as repository:
            commit = repository.fetch_existing()
            entries = folder_files(context, repository, commit, folder)
            flows = {path: entry for path, entry in entries.items() if path.startswith(_FLOWS)}
            nested = next((path for path in flows if "/" in path.removeprefix(_FLOWS)), None)
            if nested is not None:
                raise TaskFailedError(
                    f"{joined(folder, nested)!r} is in a folder of its own; all flows have to be in one.",
                    "Use SyncFlows with includeChildNamespaces: true.",
                )
            flows = {path: entry for path, entry in flows.items() if is_flow_file(path, with_children=True)}
            blobs = repository.read([entry.oid for entry in flows.values()])
            texts = {path: blob.read() for path, blob in zip(flows, blobs, strict=True)}
            read = read_flows(
                context,
                {joined(folder, path): (_namespace_of(text, namespace), text) for path, text in texts.items()},
                skips_invalid=False,
            )
            files = {path: entry for path, entry in entries.items() if not path.startswith(_FLOWS)}
            obsolete = obsolete_files(repository, commit, folder, stored, files)
            changes = sync_files(context, stored, repository, files, obsolete, dry_run=is_dry)
        return Outputs(
            files=save_file_diff(context, folder, changes, target),
            flows=save_flows(context, read.flows, [], dry_run=is_dry),
        )


def _namespace_of(text: bytes, namespace: str) -> str:
    """The one that a flow names where it is *namespace* or below it; else *namespace*."""
    found = re.search(rb"""^namespace:[ \t]*["']?([A-Za-z0-9._-]+)""", text, re.MULTILINE)
    named = found[1].decode() if found else ""
    return named if named.startswith(f"{namespace}.") else namespace


class _Below:
    """The files of a namespace in one folder, as a `NamespaceFolder`."""

    def __init__(self, files: NamespaceFolder, folder: str) -> None:
        self._files = files
        self._folder = folder

    def list(self, patterns: Sequence[str] = ()) -> list[str]:
        start = joined(self._folder, "")
        return [path.removeprefix(start) for path in self._files.list(patterns) if path.startswith(start)]

    def open(self, path: str) -> BinaryIO:
        return self._files.open(joined(self._folder, path))

    def is_executable(self, path: str) -> bool:
        return self._files.is_executable(joined(self._folder, path))

    def put(self, path: str, content: BinaryIO, *, executable: bool = False) -> str:
        return self._files.put(joined(self._folder, path), content, executable=executable)

    def delete(self, path: str) -> None:
        self._files.delete(joined(self._folder, path))
