"""Commits on a remote branch: made of changes to its files, pushed, and made anew where somebody else was faster."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tercel.plugin_api import Dynamic, Outputs, RunContext, TaskFailedError, is_on
from tercel.plugins.git.connection import Connection, clean_folder, joined, save_diff, shown
from tercel.plugins.git.program import rendered
from tercel.plugins.git.repository import LINK_MODES, Author, Changed, Entry, Repository, commit_url

KEPT_FILES = (".kestraignore", ".gitkeep")
"""What pushes never delete: they speak of the folder, and come from nowhere else."""

_MOST_TRIES = 5

Changes = Mapping[str, Entry | None]
"""What a commit changes, by path in the repository; None removes."""


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        commit: its id; None where there was nothing to commit, or it was a dry run.
        url: the commit's page; None on hosts that are not known.
        changed: what the commit does, or would do.
    """

    commit: str | None
    url: str | None
    changed: list[Changed]

    def outputs(self, context: RunContext, name: str) -> Outputs:
        """The outputs of a push, with its diff as output *name*."""
        uri = save_diff(context, [_row(changed) for changed in self.changed])
        return Outputs({"commitId": self.commit, "commitURL": self.url, name: uri})


def _row(changed: Changed) -> dict[str, object]:
    added, removed = changed.added, changed.removed
    row: dict[str, object] = {"file": shown(changed.path), "change": changed.kind}
    if added is None or removed is None:  # no text
        return {**row, "additions": None, "deletions": None, "changes": None}
    return {**row, "additions": f"+{added}", "deletions": f"-{removed}", "changes": str(added + removed)}


class PushTask(Connection, frozen=True, kw_only=True):
    """A task that commits on a remote branch, which is created where missing.

    Attributes:
        commit_message: of the commit.
        author_name: who is named as author; *username* where left out.
        author_email: of the author.
        dry_run: only say in the log and the diff what would be pushed.

    Outputs:
        commitId: the id of the commit; null where there was nothing to commit, and for a dry run.
        commitURL: the commit's page on well-known hosts; null elsewhere.
    """

    commit_message: Dynamic | None = None
    author_name: Dynamic | None = None
    author_email: Dynamic | None = None
    dry_run: bool | Dynamic = False

    def author_of(self, context: RunContext) -> Author:
        """Who is named by commits."""
        name = rendered(context, self.author_name) or rendered(context, self.username) or "Tercel"
        return Author(name.strip() or "Tercel", (rendered(context, self.author_email) or "tercel@localhost").strip())

    def message(self, context: RunContext, default: str) -> str:
        """The message of the commit. Raises TaskFailedError where it is blank."""
        message = default if self.commit_message is None else context.render(self.commit_message)
        if not message.strip():
            raise TaskFailedError("`commitMessage` is empty.", "Git wants a message for every commit.")
        return message

    def push(
        self,
        context: RunContext,
        repository: Repository,
        plan: Callable[[str | None], Changes],
        message: str,
        start: Callable[[], str | None] | None = None,
    ) -> Pushed:
        """Commit and push.

        Args:
            context: of the task.
            repository: with its branch.
            plan: what to change of the files of a commit, or of none; asked again where somebody else was faster.
            message: of the commit.
            start: the commit that a new branch starts from; the remote's own branch where None.
        """
        author, is_dry = self.author_of(context), is_on(context, self.dry_run)
        log, branch = context.logger, repository.branch
        said = ""
        for _ in range(_MOST_TRIES):
            tip = repository.fetch()
            parent = tip or (start or repository.fetch_default)()
            old = repository.tree_of(parent)
            tree = repository.tree(parent, plan(parent))
            changed = repository.changes(old, tree)
            if not changed:
                log.info(f"Nothing to commit: the branch {branch!r} of {repository.url!r} has all of it already.")
                return Pushed(None, None, [])
            if is_dry:
                log.info(f"Dry run: {_told(changed)} would be pushed to the branch {branch!r}.")
                return Pushed(None, None, changed)
            commit = repository.commit(tree, parent, message, author)
            lost = repository.push(commit)
            if lost is None:
                new = "" if tip else "new "
                log.info(f"Pushed commit {commit[:10]} to the {new}branch {branch!r}: {_told(changed)}.")
                return Pushed(commit, commit_url(repository.url, commit), changed)
            said = lost
            log.info(f"Somebody else has pushed to the branch {branch!r} meanwhile; it is tried again on top of that.")
        raise TaskFailedError(
            f"The push to the branch {branch!r} was rejected {_MOST_TRIES} times, as somebody else pushed each time:"
            f" {said}",
            "Let pushes to one branch run one after the other, or retry the task later.",
        )


def _told(changed: list[Changed]) -> str:
    counts = [(kind, sum(one.kind == kind for one in changed)) for kind in ("CREATED", "UPDATED", "DELETED")]
    return ", ".join(f"{count} {kind.lower()}" for kind, count in counts if count)


def folder_changes(
    repository: Repository, commit: str | None, folder: str, files: Mapping[str, Entry], outdated: Callable[[str], bool]
) -> dict[str, Entry | None]:
    """What brings *files*, by their path in *folder*, into a commit.

    Args:
        repository: has the commit.
        commit: what is changed; None for nothing.
        folder: of the repository; "" is its root.
        files: to be written.
        outdated: says which of the other files in the folder are removed.
    """
    there = repository.files(commit, folder)
    changes: dict[str, Entry | None] = {joined(folder, path): entry for path, entry in files.items()}
    for path, entry in there.items():
        is_kept = path in files or path.rpartition("/")[2] in KEPT_FILES or entry.mode in LINK_MODES
        if not is_kept and outdated(path):
            changes[joined(folder, path)] = None
    return changes


def repository_folder(context: RunContext, directory: str) -> str:
    """The rendered `gitDirectory`."""
    return clean_folder(context.render(directory), "gitDirectory")
