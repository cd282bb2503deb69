"""git.SyncNamespaceFiles: files of a branch, as the files of a namespace."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import BinaryIO

from tercel.plugin_api import Dynamic, NamespaceFolder, Outputs, RunContext, is_on, plugin
from tercel.plugins.git.connection import Connection, clean_folder, joined, save_diff
from tercel.plugins.git.repository import Blob, Entry, Repository
from tercel.plugins.git.sync_flows import IGNORE_FILE, SYNC_STATES, folder_files, told_counts

_BLOCK = 1 << 20


@plugin("io.kestra.plugin.git.SyncNamespaceFiles")
class SyncNamespaceFiles(Connection, frozen=True, kw_only=True):
    """Put the files that a remote branch has into a namespace. What a file held before stays as a version.

    A file `.kestraignore` in *gitDirectory* says, as a `.gitignore` does, which files are neither put nor deleted.

    Attributes:
        namespace: that of this flow where left out.
        git_directory: the folder of the repository that holds them.
        delete: delete the files of the namespace that the branch does not have.
        dry_run: only say in the log and the diff what would change.

    Outputs:
        files: URI of the diff: a row for each file with `file` (also as `gitPath`), `change` (CREATED, UPDATED,
            DELETED, UNCHANGED; as `syncState` CREATED is ADDED) and `kestraPath`, its path in the namespace.

    Example:
        tasks:
          - id: sync
            type: io.kestra.plugin.git.SyncNamespaceFiles
            url: https://git.example.com/team/flows.git
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            namespace: company.team
            gitDirectory: scripts
            delete: true
    """

    namespace: Dynamic = "{{ flow.namespace }}"
    git_directory: Dynamic = "_files"
    delete: bool | Dynamic = False
    dry_run: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Compare, delete, put."""
        stored = context.namespace_folder(context.render(self.namespace).strip())
        folder = clean_folder(context.render(self.git_directory), "gitDirectory")
        with self.open_repository(context) as repository:
            commit = repository.fetch_existing()
            entries = folder_files(context, repository, commit, folder)
            changes = sync_files(
                context,
                stored,
                repository,
                entries,
                obsolete_files(repository, commit, folder, stored, entries) if is_on(context, self.delete) else [],
                dry_run=is_on(context, self.dry_run),
            )
        return Outputs(files=save_file_diff(context, folder, changes))


def obsolete_files(
    repository: Repository,
    commit: str,
    folder: str,
    stored: NamespaceFolder,
    entries: Mapping[str, Entry],
) -> list[str]:
    """The files of the namespace that the branch does not have, and does not leave out either."""
    strangers = [path for path in stored.list() if path not in entries]
    rules = repository.files(commit, folder).get(IGNORE_FILE)
    left_out = repository.ignored(strangers, repository.read([rules.oid])[0].read()) if rules else frozenset[str]()
    return [path for path in strangers if path not in left_out]


def save_file_diff(context: RunContext, folder: str, changes: Sequence[tuple[str, str]], target: str = "") -> str:
    """Store what happened to each file, by its path below *folder*, and *target* in the namespace; gives the URI."""
    rows = [
        {
            "file": joined(folder, path),
            "change": kind,
            "gitPath": joined(folder, path),
            "syncState": SYNC_STATES[kind],
            "kestraPath": joined(target, path),
        }
        for path, kind in changes
    ]
    return save_diff(context, rows, "files.ion")


def sync_files(
    context: RunContext,
    stored: NamespaceFolder,
    repository: Repository,
    entries: Mapping[str, Entry],
    obsolete: Sequence[str],
    *,
    dry_run: bool,
) -> list[tuple[str, str]]:
    """Put *entries* and delete *obsolete*; gives what happened to each, by path."""
    blobs = dict(zip(entries, repository.read([entry.oid for entry in entries.values()]), strict=True))
    known = frozenset(stored.list())
    kinds: dict[str, str] = {}
    for path, entry in entries.items():
        context.stop_if_killed()
        kinds[path] = _kind(stored, path, blobs[path], entry) if path in known else "CREATED"
    if not dry_run:
        for path in obsolete:  # first, as a file may stand where a folder is needed
            context.stop_if_killed()
            stored.delete(path)
        for path, kind in kinds.items():
            context.stop_if_killed()
            if kind != "UNCHANGED":
                with blobs[path].open() as content:
                    stored.put(path, content, executable=entries[path].mode == "100755")
    rows = [*kinds.items(), *((path, "DELETED") for path in obsolete)]
    told = told_counts([kind for _, kind in rows])
    context.logger.info(f"Dry run, nothing is changed: {told}." if dry_run else f"Files: {told}.")
    return rows


def _kind(stored: NamespaceFolder, path: str, blob: Blob, entry: Entry) -> str:
    if stored.is_executable(path) != (entry.mode == "100755"):
        return "UPDATED"
    with stored.open(path) as old, blob.open() as new:
        return "UNCHANGED" if _digest(old) == _digest(new) else "UPDATED"


def _digest(file: BinaryIO) -> bytes:
    digest = sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.digest()
