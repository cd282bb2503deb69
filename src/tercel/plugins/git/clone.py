"""git.Clone: a repository in the working directory."""

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from tercel.plugin_api import (
    Dynamic,
    Outputs,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    is_on,
    plugin,
    whole_number,
)
from tercel.plugins.git.program import Git, open_git, read_login, without_login


@plugin("io.kestra.plugin.git.Clone")
class Clone(RunnableTask, frozen=True, kw_only=True):
    """Clone a Git repository into the working directory, or into a folder of it.

    Files that the engine put there before (input files, namespace files, a restored cache) do not stand in the
    way. A `.git` of the same repository, restored from a cache, is brought up to date instead of cloned again.

    Attributes:
        url: http(s), ssh, `git@host:path`, `file://` or a local path.
        branch: short name or `refs/heads/…`; the remote's own default where left out.
        tag: a tag instead of a branch.
        commit: a full or short SHA instead of both; the whole history is fetched for it.
        directory: a folder below the working directory; its root where left out.
        depth: how many commits of history; ignored for *commit* and *tag*.
        password: a password or token; wants *username* as well.
        private_key: an SSH key, PEM text.
        on_non_empty: MERGE also takes a folder that other tasks put files into.
        connect_timeout: milliseconds; accepted for old flows, git has its own.

    Outputs:
        directory: absolute path of the work tree.

    Example:
        tasks:
          - id: work
            type: io.kestra.plugin.core.flow.WorkingDirectory
            tasks:
              - id: clone
                type: io.kestra.plugin.git.Clone
                url: https://git.example.com/team/scripts.git
                branch: main
                username: robot
                password: "{{ secret('GIT_TOKEN') }}"
              - id: build
                type: io.kestra.plugin.scripts.shell.Commands
                commands:
                  - sh build.sh
    """

    url: Dynamic
    branch: Dynamic | None = None
    tag: Dynamic | None = None
    commit: Dynamic | None = None
    directory: Dynamic | None = None
    depth: int | Dynamic = 1
    clone_submodules: bool | Dynamic = False
    clone_all_branches: bool | Dynamic = True
    no_tags: bool | Dynamic = False
    username: Dynamic | None = None
    password: Dynamic | None = None
    private_key: Dynamic | None = None
    passphrase: Dynamic | None = None
    connect_timeout: int | Dynamic | None = None
    read_timeout: int | Dynamic | None = None
    no_proxy: Dynamic | None = None
    trusted_ca_pem_path: Dynamic | None = None
    git_config: dict[str, object] | None = None
    on_non_empty: Literal["FAIL", "MERGE"] = "MERGE"

    def problems(self) -> Iterator[Problem]:
        """Properties that contradict each other."""
        if (self.username is None) != (self.password is None):
            yield Problem(
                message="Git needs `username` and `password` together.",
                hint="With a token, any username does, such as x-access-token.",
                path=("username" if self.password is None else "password",),
            )
        if self.tag is not None and self.no_tags is True:
            yield Problem(message="`noTags` and `tag` exclude each other.", path=("noTags",))
        if isinstance(self.depth, int) and self.depth < 1:
            yield Problem(message=f"`depth` is {self.depth}; at least 1 is wanted.", path=("depth",))

    def run(self, context: RunContext) -> Outputs:
        """Clone, or fetch into what a cache brought back."""
        target = _target(context, None if self.directory is None else context.render(self.directory))
        url, login = read_login(context, self, self.url)
        context.logger.info(f"Start cloning from '{url}'")
        with open_git(context, target, login) as git:
            if login.password is not None:
                git.log_in(url)
            fresh = self._prepare(git, context, target, url)
            commit = self._fetch(git, context, fresh)
            self._check_out(git, context, target, commit)
            if is_on(context, self.clone_submodules):
                git.run("submodule", "update", "--init", "--recursive", *(() if self.commit else ("--depth", "1")))
            for name, value in (self.git_config or {}).items():
                git.run("config", name, str(context.render_value(value)))
        return Outputs(directory=str(target))

    def _prepare(self, git: Git, context: RunContext, target: Path, url: str) -> bool:
        """Make *target* a repository with *url* as its origin; False where it already was one."""
        if (target / ".git").exists() and self._is_repository(git, context, target):
            known = without_login(git.ask("config", "--get", "remote.origin.url", check=False).strip())[0]
            if known == url:
                context.logger.info("The repository is here already; only what is new is fetched.")
                return False
            raise TaskFailedError(f"{_place(context, target)!r} already holds a clone of {known!r}, not of {url!r}.")
        if self.on_non_empty == "FAIL":
            strangers = _strangers(context, target)
            if strangers:
                raise TaskFailedError(
                    f"Destination path {target.name!r} already exists and is not an empty directory:"
                    f" it holds {strangers[0]!r}.",
                    "Clone into another `directory`, or set onNonEmpty: MERGE.",
                )
        git.run("init", "--quiet")
        git.run("remote", "add", "--", "origin", url)
        return True

    def _is_repository(self, git: Git, context: RunContext, target: Path) -> bool:
        """Whether `.git` is whole; parts of one that a cache brought back are removed."""
        if git.ask("rev-parse", "--git-dir", check=False).strip():
            return True
        prefix = (target / ".git").relative_to(context.working_directory).as_posix() + "/"
        if not any(name.startswith(prefix) for name in context.restored):
            raise TaskFailedError(f"The .git in {_place(context, target)!r} is no repository.")
        context.logger.warn("The .git that the cache brought back is no whole repository; it is cloned anew.")
        shutil.rmtree(target / ".git", ignore_errors=True)
        return False

    def _fetch(self, git: Git, context: RunContext, fresh: bool) -> str:
        """Fetch what is asked for; gives the commit to check out."""
        if self.commit is not None:
            wanted = context.render(self.commit).strip()
            is_shallow = git.ask("rev-parse", "--is-shallow-repository").strip() == "true"
            whole = ("--unshallow",) if is_shallow else ()
            git.run("fetch", "--quiet", "--tags", "--force", *whole, "origin", "+refs/heads/*:refs/remotes/origin/*")
            found = git.ask("rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}", check=False).strip()
            if not found:
                raise TaskFailedError(f"Cannot resolve commit SHA: {wanted}")
            return found
        depth = whole_number(context, self.depth, "depth", least=1)
        shallow = ("--depth", str(depth)) if fresh or depth == 1 else ()
        tags = ("--no-tags",) if is_on(context, self.no_tags) else ()
        if self.tag is not None:
            name = context.render(self.tag).strip()
            reference = f"refs/tags/{name.removeprefix('refs/tags/')}"
            if not git.ask("ls-remote", "origin", reference).strip():
                raise TaskFailedError(f"Cannot resolve tag: {name}")
            git.run("fetch", "--quiet", *shallow, "origin", f"+{reference}:{reference}")
            return git.ask("rev-parse", f"{reference}^{{commit}}").strip()
        if self.branch is not None:
            name = context.render(self.branch).strip().removeprefix("refs/heads/")
            if not git.ask("ls-remote", "--heads", "origin", f"refs/heads/{name}").strip():
                raise TaskFailedError(f"The remote has no branch {name!r}.", "Check `branch` and `url`.")
        else:
            head = git.ask("ls-remote", "--symref", "origin", "HEAD")
            match = re.search(r"^ref: refs/heads/(\S+)\s+HEAD", head, re.MULTILINE)
            if match is None:
                raise TaskFailedError(
                    "Cannot determine the default branch. Please specify the 'branch' property explicitly."
                )
            name = match.group(1)
        git.run("fetch", "--quiet", *shallow, *tags, "origin", f"+refs/heads/{name}:refs/remotes/origin/{name}")
        git.run("symbolic-ref", "HEAD", f"refs/heads/{name}")
        return git.ask("rev-parse", f"refs/remotes/origin/{name}").strip()

    def _check_out(self, git: Git, context: RunContext, target: Path, commit: str) -> None:
        """Bring the files of *commit* into place; what the engine staged wins over them, with a warning."""
        prefix = target.relative_to(context.working_directory)
        kept: dict[Path, Path] = {}
        restored = context.restored
        injected = context.staged - restored
        tracked = set(git.ask("ls-files", "-z").split("\0"))
        names = [name for name in git.ask("ls-tree", "-r", "-z", "--name-only", commit).split("\0") if name]
        _refuse_files_for_folders(target, names, tracked)
        for name in names:
            path, place = target / name, (prefix / name).as_posix()
            if (name in tracked and place not in injected) or not os.path.lexists(path):
                continue
            if (
                git.ask("hash-object", "--", name, check=False).strip()
                == git.ask("rev-parse", f"{commit}:{name}").strip()
            ):
                continue
            if place in restored:
                context.logger.warn(f"The repository has {name!r} too; it takes the place of what the cache restored.")
                continue
            if place not in injected:
                raise TaskFailedError(
                    f"The repository has {name!r}, and another file of that name is there already.",
                    "Clone it before that file is made, or into another `directory`.",
                )
            aside = context.engine_directory / f"staged-{len(kept)}"
            shutil.move(path, aside)
            kept[path] = aside
            context.logger.warn(f"The repository has {name!r} too; the file that was put there before is kept.")
        detached = self.commit is not None or self.tag is not None
        if detached:
            git.run("checkout", "--quiet", "--force", "--detach", commit)
        else:
            git.run("reset", "--quiet", "--hard", commit)
        for path, aside in kept.items():
            path.unlink(missing_ok=True)
            shutil.move(aside, path)


def _target(context: RunContext, directory: str | None) -> Path:
    root = context.working_directory
    if not directory:
        return root
    if directory.startswith("/") or ".." in directory.split("/"):
        raise TaskFailedError(
            f"directory: {directory!r} leaves the working directory.", "Give a relative path without `..`."
        )
    target = root / directory
    if not target.resolve().is_relative_to(root.resolve()):
        raise TaskFailedError(f"directory: {directory!r} leads out of the working directory by a link.")
    target.mkdir(parents=True, exist_ok=True)
    return target


def _strangers(context: RunContext, target: Path) -> Sequence[str]:
    """Files in *target* that the engine did not put there, relative to the working directory, sorted."""
    root = context.working_directory
    found: list[str] = []
    for folder, _, names in os.walk(target):
        relative = Path(folder).relative_to(root)
        found += [path for name in names if (path := (relative / name).as_posix()) not in context.staged]
    return sorted(found)


def _refuse_files_for_folders(target: Path, names: Sequence[str], tracked: set[str]) -> None:
    """Git would take away, without a word, a file that stands where the repository has a folder."""
    folders = {name[:at] for name in names for at, char in enumerate(name) if char == "/"}
    for folder in sorted(folders - tracked):
        path = target / folder
        if path.is_symlink() or path.is_file():
            raise TaskFailedError(
                f"The repository has a folder {folder!r}, and a file of that name is there already.",
                "Clone it before that file is made, or into another `directory`.",
            )


def _place(context: RunContext, target: Path) -> str:
    relative = target.relative_to(context.working_directory).as_posix()
    return "the working directory" if relative == "." else relative
