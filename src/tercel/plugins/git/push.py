"""git.Push: the files of the working directory, committed on a branch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tercel.plugin_api import (
    Dynamic,
    NamespaceFiles,
    Outputs,
    Part,
    Problem,
    RunContext,
    TaskFailedError,
    is_on,
    plugin,
)
from tercel.plugins.git.flow_files import stem_for
from tercel.plugins.git.program import NOBODY, open_git, rendered, without_login
from tercel.plugins.git.pushing import Changes, PushTask, repository_folder
from tercel.plugins.git.repository import Author, Entry, Repository


class FlowFiles(Part, frozen=True, kw_only=True):
    """Which flows are written into the directory before it is committed.

    Attributes:
        enabled: write those of the flow's namespace.
        child_namespaces: those of namespaces below it, too, each namespace in a folder of its own.
        git_directory: the folder they are written into.
    """

    enabled: bool | Dynamic = True
    child_namespaces: bool | Dynamic = True
    git_directory: Dynamic = "_flows"


class PushAuthor(Part, frozen=True, kw_only=True):
    """Who is named as author of a commit."""

    name: Dynamic | None = None
    email: Dynamic | None = None


class _Clone(NamedTuple):
    """The repository that a directory is the work tree of.

    Attributes:
        objects: the folder with its objects.
        url: of its `origin`, without a login; "" where it has none.
        branch: the one that is checked out; None without one.
        commit: what the files were checked out from, as the remote had it; None without any.
    """

    objects: Path
    url: str
    branch: str | None
    commit: str | None


@plugin("io.kestra.plugin.git.Push")
class Push(PushTask, frozen=True, kw_only=True):
    """Commit the files of the working directory to a remote branch, together with the flows of the namespace.

    In a clone all that has changed since it was made is committed, removals and commits of scripts included. Without
    one files are only added and replaced. Where somebody else changed one of the same files meanwhile, the task fails.

    Attributes:
        url: may be left out in a clone.
        branch: short name or `refs/heads/…`.
        directory: a folder below the working directory; its root where left out.
        add_files_pattern: paths and patterns of Git, of what is committed.
        input_files: written into the working directory before.
        namespace_files: put there before.
        flows: written there before, unless switched off.
        author: who is named as author; instead of *authorName* and *authorEmail*.

    Outputs:
        files: URI of the diff: a row with `file`, `change` (CREATED, UPDATED, DELETED), `additions`, `deletions` and
            `changes` (lines; null where it is no text) for each file that the commit changes.

    Example:
        tasks:
          - id: work
            type: io.kestra.plugin.core.flow.WorkingDirectory
            tasks:
              - id: clone
                type: io.kestra.plugin.git.Clone
                url: https://git.example.com/team/reports.git
                branch: main
                username: robot
                password: "{{ secret('GIT_TOKEN') }}"
              - id: report
                type: io.kestra.plugin.scripts.shell.Commands
                commands:
                  - date > report.txt
              - id: push
                type: io.kestra.plugin.git.Push
                branch: main
                username: robot
                password: "{{ secret('GIT_TOKEN') }}"
                addFilesPattern:
                  - report.txt
                flows:
                  enabled: false
                commitMessage: Report of the day
    """

    branch: Dynamic = ""
    directory: Dynamic | None = None
    add_files_pattern: list[Dynamic] | Dynamic = "."
    input_files: dict[str, object] | Dynamic | None = None
    namespace_files: NamespaceFiles | None = None
    flows: FlowFiles = FlowFiles()
    author: PushAuthor | None = None

    def problems(self) -> Iterator[Problem]:
        """What has to be said in any case."""
        yield from super().problems()
        if not self.branch:
            yield Problem("`branch` is missing.", "Write the branch that is pushed to.", path=("branch",))
        if not self.commit_message:
            yield Problem("`commitMessage` is missing.", "Say what the commit is about.", path=("commitMessage",))

    def _needs_url(self) -> bool:
        return False

    def author_of(self, context: RunContext) -> Author:
        """Who is named by commits."""
        known = super().author_of(context)
        if self.author is None:
            return known
        name, email = rendered(context, self.author.name), rendered(context, self.author.email)
        return Author(name or known.name, email or known.email)

    def run(self, context: RunContext) -> Outputs:
        """Write what is asked for, commit, push."""
        root = context.working_directory
        below = "" if self.directory is None else context.render(self.directory).strip()
        directory = (root / below).resolve()
        if not directory.is_relative_to(root.resolve()):
            raise TaskFailedError(f"directory: {below!r} leaves the working directory.", "Give a relative path in it.")
        directory.mkdir(parents=True, exist_ok=True)
        context.write_input_files(self.input_files)
        if self.namespace_files is not None:
            context.write_namespace_files(self.namespace_files)
        self._write_flows(context, directory)
        clone = _find_clone(context, directory)
        if not self.url and (clone is None or not clone.url):
            raise TaskFailedError("There is no clone in the working directory, and no `url`.", "Set `url`.")
        with self.open_repository(context, None if self.url or clone is None else clone.url) as repository:
            _borrow(repository, clone)
            patterns = context.render_list(self.add_files_pattern)
            files = _Files(repository, directory, patterns, clone)

            def start() -> str | None:
                own = clone.branch if clone is not None else None
                return (repository.fetch(own) if own else None) or repository.fetch_default()

            message = self.message(context, "")
            return self.push(context, repository, files.changes_of, message, start).outputs(context, "files")

    def _write_flows(self, context: RunContext, directory: Path) -> None:
        if not is_on(context, self.flows.enabled):
            return
        namespace = context.render("{{ flow.namespace }}")
        folder = directory / repository_folder(context, self.flows.git_directory)
        with_children = is_on(context, self.flows.child_namespaces)
        for flow in context.engine.saved_flows(namespace, with_children=with_children):
            stem = folder / stem_for(flow, namespace)
            path = stem.with_name(f"{stem.name}.yaml")
            path = path if path.exists() else stem.with_name(f"{stem.name}.yml")
            if not path.resolve().is_relative_to(directory):
                raise TaskFailedError(f"The flow {flow.id!r} cannot be written: a link leads out of the directory.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(flow.source.encode())


def _find_clone(context: RunContext, directory: Path) -> _Clone | None:
    """The repository of *directory*; asked with no credentials at hand, as its settings may be anybody's."""
    if not (directory / ".git").exists():
        return None
    with open_git(context, directory, NOBODY) as git:
        if not git.ask("rev-parse", "--git-dir", check=False).strip():
            raise TaskFailedError("The .git in the working directory is no repository.", "Clone again.")
        url = without_login(git.ask("config", "--get", "remote.origin.url", check=False).strip())[0]
        branch = git.ask("symbolic-ref", "--quiet", "--short", "HEAD", check=False).strip() or None
        objects = Path(git.ask("rev-parse", "--git-path", "objects").strip())
        wanted = [*([f"refs/remotes/origin/{branch}"] if branch else []), "HEAD"]
        commits = (git.ask("rev-parse", "--verify", "--quiet", f"{one}^{{commit}}", check=False) for one in wanted)
        commit = next((one.strip() for one in commits if one.strip()), None)
        return _Clone((directory / objects).resolve(), url, branch, commit)


def _borrow(repository: Repository, clone: _Clone | None) -> None:
    """Let the repository read what the clone has."""
    if clone is not None:
        (repository.folder / "objects" / "info" / "alternates").write_text(f"{clone.objects}\n")


class _Files:
    """The files of a directory, and what a commit needs to have them.

    What has been changed is found once, against what they were checked out from, or the first commit that is asked
    about; so that nothing is taken for a change that somebody else has pushed.
    """

    def __init__(self, repository: Repository, directory: Path, patterns: list[str], clone: _Clone | None) -> None:
        self._repository = repository
        self._directory = directory
        self._patterns = patterns
        self._is_clone = clone is not None
        self._origin = None if clone is None else clone.commit
        self._before: Mapping[str, Entry] | None = None
        self._changes: dict[str, Entry | None] = {}

    def changes_of(self, commit: str | None) -> Changes:
        """What of the directory *commit* lacks. Raises TaskFailedError where both have changed a file."""
        if self._before is None:
            origin = self._origin if self._is_clone else commit
            self._before = self._repository.files(origin)
            self._changes = self._changed(origin, self._before)
        there, before = self._repository.files(commit), self._before
        both = sorted(
            path
            for path, entry in self._changes.items()
            if there.get(path) != before.get(path) and there.get(path) != entry
        )
        if both:
            more = f" and {len(both) - 3} more" if len(both) > 3 else ""
            names = ", ".join(map(repr, both[:3]))
            raise TaskFailedError(
                f"Conflict: {names}{more} has changed on the branch {self._repository.branch!r} as well.",
                "Clone it again, and make the change anew.",
            )
        return {path: entry for path, entry in self._changes.items() if there.get(path) != entry}

    def _changed(self, origin: str | None, before: Mapping[str, Entry]) -> dict[str, Entry | None]:
        git = self._repository.git
        git.run("read-tree", *([origin] if origin else ["--empty"]))
        (self._repository.folder / "info").mkdir(exist_ok=True)
        (self._repository.folder / "info" / "exclude").write_text("/.kestra/\n")
        env = {"GIT_DIR": str(self._repository.folder), "GIT_WORK_TREE": str(self._directory)}
        removals = ("--all",) if self._is_clone else ("--ignore-removal",)
        if self._patterns:
            git.ask("-C", str(self._directory), "add", *removals, "--", *self._patterns, env=env)
        after = self._repository.files(git.ask("write-tree").strip())
        return {path: after.get(path) for path in {**after, **before} if after.get(path) != before.get(path)}
