"""git.SyncFlows, SyncFlow: files of a branch, saved as flows; all of them, or none where one is not valid."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from tercel.errors import InvalidFlowError
from tercel.plugin_api import Dynamic, FlowChange, FlowSource, Outputs, RunContext, TaskFailedError, is_on, plugin
from tercel.plugins.git.connection import Connection, clean_folder, is_text_path, joined, save_diff, shown
from tercel.plugins.git.flow_files import in_namespace, is_flow_file, namespace_of, stem_of
from tercel.plugins.git.repository import LINK_MODES, Entry, Repository

SYNC_STATES = {"CREATED": "ADDED", "UPDATED": "UPDATED", "DELETED": "DELETED", "UNCHANGED": "UNCHANGED"}
"""What happened to a file, as `syncState` has it."""


class _Read(NamedTuple):
    """The files of flows, read.

    Attributes:
        flows: the valid ones, by path in the repository.
        broken: namespaces and likely ids of those that are not valid.
    """

    flows: dict[str, FlowSource]
    broken: set[tuple[str, str]]


@plugin("io.kestra.plugin.git.SyncFlows")
class SyncFlows(Connection, frozen=True, kw_only=True):
    """Save the flows that a remote branch has, checked as an upload is. Where one is not valid, nothing is changed.

    A flow whose text is the same gets no new revision.

    Attributes:
        target_namespace: where they are saved; it is written into them as `namespace`.
        git_directory: the folder of the repository that holds them.
        include_child_namespaces: files in folders of it as well, each in the namespace that is named so.
        delete: delete the flows of the namespace that the branch does not have; never the one that runs this task.
        ignore_invalid_flows: leave out what is not valid, with a warning.
        dry_run: only say in the log and the diff what would change.

    Outputs:
        flows: URI of the diff: a row for each flow with `file` (also as `gitPath`; null where it has none), `change`
            (CREATED, UPDATED, DELETED, UNCHANGED; as `syncState` CREATED is ADDED), `flowId`, `namespace`, `revision`.

    Example:
        tasks:
          - id: sync
            type: io.kestra.plugin.git.SyncFlows
            url: https://git.example.com/team/flows.git
            branch: main
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            targetNamespace: company.team
            includeChildNamespaces: true
            delete: true
    """

    target_namespace: Dynamic
    git_directory: Dynamic = "_flows"
    include_child_namespaces: bool | Dynamic = False
    delete: bool | Dynamic = False
    ignore_invalid_flows: bool | Dynamic = False
    dry_run: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Read, check, save."""
        target = context.render(self.target_namespace).strip()
        folder = clean_folder(context.render(self.git_directory), "gitDirectory")
        with_children = is_on(context, self.include_child_namespaces)
        with self.open_repository(context) as repository:
            there = folder_files(context, repository, repository.fetch_existing(), folder)
            entries = {path: entry for path, entry in there.items() if is_flow_file(path, with_children=with_children)}
            read = read_flows(
                context,
                {
                    joined(folder, path): (namespace_of(path, target), content)
                    for path, content in _contents(repository, entries).items()
                },
                skips_invalid=is_on(context, self.ignore_invalid_flows),
            )
        obsolete: list[tuple[str, str]] = []
        if is_on(context, self.delete):
            kept = read.broken | {(flow.namespace, flow.id) for flow in read.flows.values()}
            obsolete = _obsolete(context, context.engine.saved_flows(target, with_children=with_children), kept)
        uri = save_flows(context, read.flows, obsolete, dry_run=is_on(context, self.dry_run))
        return Outputs(flows=uri)


@plugin("io.kestra.plugin.git.SyncFlow")
class SyncFlow(Connection, frozen=True, kw_only=True):
    """Save one flow that a remote branch has, checked as an upload is.

    Attributes:
        target_namespace: where it is saved; it is written into it as `namespace`.
        flow_path: the file, from the root of the repository.
        dry_run: only say in the log and the diff what would change.

    Outputs:
        flowId: id of the flow.
        namespace: its namespace.
        revision: its latest one; null where it is a dry run and there is none.
        flow: URI of the diff, as that of `SyncFlows`.

    Example:
        tasks:
          - id: sync
            type: io.kestra.plugin.git.SyncFlow
            url: https://git.example.com/team/flows.git
            username: robot
            password: "{{ secret('GIT_TOKEN') }}"
            targetNamespace: company.team
            flowPath: flows/report.yml
    """

    target_namespace: Dynamic
    flow_path: Dynamic
    dry_run: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Read, check, save."""
        target = context.render(self.target_namespace).strip()
        path = clean_folder(context.render(self.flow_path), "flowPath")
        with self.open_repository(context) as repository:
            entry = repository.files(repository.fetch_existing()).get(path)
            if entry is None or entry.mode in LINK_MODES:
                raise TaskFailedError(
                    f"The branch {repository.branch!r} has no file {path!r}.", "Check `flowPath` and `branch`."
                )
            content = repository.read([entry.oid])[0].read()
        read = read_flows(context, {path: (target, content)}, skips_invalid=False)
        uri = save_flows(context, read.flows, [], dry_run=is_on(context, self.dry_run))
        [flow] = read.flows.values()
        saved = [one for one in context.engine.saved_flows(flow.namespace) if one.id == flow.id]
        return Outputs(
            flowId=flow.id, namespace=flow.namespace, revision=saved[0].revision if saved else None, flow=uri
        )


def folder_files(context: RunContext, repository: Repository, commit: str, folder: str) -> dict[str, Entry]:
    """The files of a folder that are to be synced, by their path in it.

    Left out are what `.kestraignore` in the folder says, that file itself, links, submodules, and names that are no
    UTF-8.

    Raises:
        TaskFailedError: there is no such folder.
    """
    found = repository.files(commit, folder)
    if folder and not found:
        raise TaskFailedError(
            f"The branch {repository.branch!r} has no folder {folder!r}.", "Check `gitDirectory` and `branch`."
        )
    rules = found.pop(IGNORE_FILE, None)
    odd = sorted(path for path, entry in found.items() if entry.mode in LINK_MODES or not is_text_path(path))
    for path in odd:
        del found[path]
        context.logger.warn(f"{shown(path)!r} is not synced: only plain files are.")
    if rules is None:
        return found
    ignored = repository.ignored(list(found), repository.read([rules.oid])[0].read())
    return {path: entry for path, entry in found.items() if path not in ignored}


IGNORE_FILE = ".kestraignore"


def _contents(repository: Repository, entries: Mapping[str, Entry]) -> dict[str, bytes]:
    blobs = repository.read([entry.oid for entry in entries.values()])
    return {path: blob.read() for path, blob in zip(entries, blobs, strict=True)}


def read_flows(context: RunContext, files: Mapping[str, tuple[str, bytes]], *, skips_invalid: bool) -> _Read:
    """Read and check the flows of *files*: namespace and content by path in the repository.

    Raises:
        TaskFailedError: some are not valid, and *skips_invalid* is not wanted; it names every one.
    """
    read = _Read({}, set())
    problems: list[str] = []
    places: dict[tuple[str, str], str] = {}
    for path, (namespace, content) in files.items():
        try:
            source = content.decode("utf-8-sig")
            flow = context.engine.read_flow(in_namespace(source, namespace))
        except (UnicodeDecodeError, InvalidFlowError) as error:
            said = "it is no UTF-8 text." if isinstance(error, UnicodeDecodeError) else str(error)
            problems.append(f"{path}: {said}")
            read.broken.update((namespace, name) for name in _likely_ids(path, content))
            continue
        name = (flow.namespace, flow.id)
        if name in places:
            raise TaskFailedError(
                f"{places[name]!r} and {path!r} are both the flow {flow.id!r} of the namespace {flow.namespace!r}.",
                "Remove one of them from the repository.",
            )
        places[name] = path
        read.flows[path] = flow
    if problems and not skips_invalid:
        told = "\n".join(problems)
        raise TaskFailedError(
            f"Nothing is changed, as not every flow is valid.\n{told}", "Mend them in the repository."
        )
    for problem in problems:
        context.logger.warn(f"Left out: {problem}")
    return read


def _likely_ids(path: str, content: bytes) -> set[str]:
    """What a file that is no valid flow may be called, so that its flow is not taken for one that is gone."""
    found = re.search(rb"""^id:[ \t]*["']?([A-Za-z0-9._-]+)""", content, re.MULTILINE)
    return {stem_of(path).rpartition("/")[2]} | ({found[1].decode()} if found else set())


def _obsolete(
    context: RunContext, saved: Sequence[FlowSource], kept: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    own = (context.render("{{ flow.namespace }}"), context.render("{{ flow.id }}"))
    names = [(one.namespace, one.id) for one in saved if (one.namespace, one.id) not in kept]
    if own in names:
        names.remove(own)
        context.logger.warn(f"The flow {own[1]!r} is not in the repository; it runs this task, and so it is kept.")
    return names


def save_flows(
    context: RunContext, flows: Mapping[str, FlowSource], obsolete: Sequence[tuple[str, str]], *, dry_run: bool
) -> str:
    """Save *flows*, by path in the repository, and delete *obsolete*; gives the URI of the diff."""
    changes = context.engine.change_flows([one.source for one in flows.values()], delete=obsolete, dry_run=dry_run)
    paths = {(flow.namespace, flow.id): path for path, flow in flows.items()}
    rows = [_row(paths.get((change.namespace, change.id)), change) for change in changes]
    told = told_counts([change.kind for change in changes])
    context.logger.info(f"Dry run, nothing is changed: {told}." if dry_run else f"Flows: {told}.")
    return save_diff(context, rows, "flows.ion")


def _row(path: str | None, change: FlowChange) -> dict[str, object]:
    return {
        "file": path,
        "change": change.kind,
        "gitPath": path,
        "syncState": SYNC_STATES[change.kind],
        "flowId": change.id,
        "namespace": change.namespace,
        "revision": change.revision,
    }


def told_counts(kinds: Sequence[str]) -> str:
    """How often each thing happened, in words."""
    counts = [(kind, kinds.count(kind)) for kind in SYNC_STATES]
    return ", ".join(f"{count} {kind.lower()}" for kind, count in counts if count) or "there are none"
