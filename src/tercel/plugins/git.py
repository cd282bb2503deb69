"""git.*: Clone. By the `git` program; credentials never in argv, URL or log."""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from tercel.plugin_api import (
    Dynamic,
    MissingToolError,
    Outputs,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    plugin,
)

# Answers for the repository's own host alone: submodules and redirects may lead to others.
_ASKPASS = """#!/bin/sh
case "$1" in
"Username for '$TERCEL_GIT_SCHEME://$TERCEL_GIT_HOST': ") printf '%s\\n' "$TERCEL_GIT_USERNAME" ;;
"Password for '$TERCEL_GIT_SCHEME://"*"@$TERCEL_GIT_HOST': ") printf '%s\\n' "$TERCEL_GIT_PASSWORD" ;;
*"@$TERCEL_GIT_HOST's password: ") printf '%s\\n' "$TERCEL_GIT_PASSWORD" ;;
"Enter passphrase for key"*) printf '%s\\n' "$TERCEL_GIT_PASSPHRASE" ;;
*) exit 1 ;;
esac
"""
# What a process that runs us inside a repository of its own, such as a hook, means for that one alone.
_OF_ANOTHER_REPOSITORY = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_QUARANTINE_PATH"),
)
_SCP_HOST = re.compile(r"(?:[^@/]+@)?([^:/]+):")


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
        url, credentials = _without_login(context.render(self.url).strip())
        login = _Login(
            username=_rendered(context, self.username) or credentials[0],
            password=_rendered(context, self.password) or credentials[1],
            private_key=_rendered(context, self.private_key),
            passphrase=_rendered(context, self.passphrase),
            ca_path=_rendered(context, self.trusted_ca_pem_path),
        )
        for secret in (login.password, login.private_key, login.passphrase):
            if secret:
                context.add_secret(secret)
        context.logger.info(f"Start cloning from '{url}'")
        with _git(context, target, login) as git:
            if login.password is not None:
                git.log_in(url)
            fresh = self._prepare(git, context, target, url)
            commit = self._fetch(git, context, fresh)
            self._check_out(git, context, target, commit)
            if _is_on(context, self.clone_submodules):
                git.run("submodule", "update", "--init", "--recursive", *(() if self.commit else ("--depth", "1")))
            for name, value in (self.git_config or {}).items():
                git.run("config", name, str(value))
        return Outputs(directory=str(target))

    def _prepare(self, git: "_Git", context: RunContext, target: Path, url: str) -> bool:
        """Make *target* a repository with *url* as its origin; False where it already was one."""
        if (target / ".git").exists() and self._is_repository(git, context, target):
            known = _without_login(git.ask("config", "--get", "remote.origin.url", check=False).strip())[0]
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

    def _is_repository(self, git: "_Git", context: RunContext, target: Path) -> bool:
        """Whether `.git` is whole; parts of one that a cache brought back are removed."""
        if git.ask("rev-parse", "--git-dir", check=False).strip():
            return True
        prefix = (target / ".git").relative_to(context.working_directory).as_posix() + "/"
        if not any(name.startswith(prefix) for name in context.restored):
            raise TaskFailedError(f"The .git in {_place(context, target)!r} is no repository.")
        context.logger.warn("The .git that the cache brought back is no whole repository; it is cloned anew.")
        shutil.rmtree(target / ".git", ignore_errors=True)
        return False

    def _fetch(self, git: "_Git", context: RunContext, fresh: bool) -> str:
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
        depth = int(context.render(str(self.depth)))
        shallow = ("--depth", str(depth)) if fresh or depth == 1 else ()
        tags = ("--no-tags",) if _is_on(context, self.no_tags) else ()
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

    def _check_out(self, git: "_Git", context: RunContext, target: Path, commit: str) -> None:
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


class _Login:
    """Credentials, rendered; None where not given."""

    def __init__(
        self,
        username: str | None,
        password: str | None,
        private_key: str | None,
        passphrase: str | None,
        ca_path: str | None,
    ) -> None:
        self.username = username
        self.password = password
        self.private_key = private_key
        self.passphrase = passphrase
        self.ca_path = ca_path


class _Git:
    """Runs `git` in one folder, with an environment that asks nobody and shows nothing."""

    def __init__(self, context: RunContext, directory: Path, env: dict[str, str]) -> None:
        self._context = context
        self._directory = directory
        self._env = env
        self._settings: tuple[str, ...] = ("-c", "safe.directory=*", "-c", "advice.detachedHead=false")

    def log_in(self, url: str) -> None:
        """Give the login to the host of *url* when it asks, and to no other; no helper gets to keep it."""
        actual = self.ask("ls-remote", "--get-url", "--", url).strip()  # where `insteadOf` leads
        parts = urlsplit(actual)
        found = _SCP_HOST.match(actual)
        host = parts.netloc.rpartition("@")[2] if parts.scheme.startswith("http") else parts.hostname
        host = host or (found[1] if found else "")
        self._env |= {"TERCEL_GIT_SCHEME": parts.scheme, "TERCEL_GIT_HOST": host}
        self._settings += ("-c", "credential.helper=", "-c", "credential.useHttpPath=false")

    def run(self, *arguments: str) -> None:
        """Run it for its effect."""
        self.ask(*arguments)

    def ask(self, *arguments: str, check: bool = True) -> str:
        """Run it and give its standard output; a failure raises with git's own words unless *check* is False."""
        self._context.stop_if_killed()
        process = subprocess.Popen(
            ["git", *self._settings, *arguments],
            cwd=self._directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

        def stop() -> None:
            # Git waits for helpers of its own, which may wait for a server for ever.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

        with self._context.stopping(stop):
            out, err = process.communicate()
        self._context.stop_if_killed()
        if check and process.returncode != 0:
            said = self._context.mask(err.decode(errors="replace").strip())
            raise TaskFailedError(f"git {arguments[0]} failed: {said or f'exit code {process.returncode}'}")
        return out.decode(errors="surrogateescape")


@contextmanager
def _git(context: RunContext, directory: Path, login: _Login) -> Generator[_Git]:
    """A `git` for *directory* whose credentials live in its environment and in 0600 files, gone afterwards."""
    if shutil.which("git") is None:
        raise MissingToolError("git.Clone needs the program git.", "Install it, for example: apt-get install git.")
    private = context.engine_directory / "git"
    private.mkdir(mode=0o700, exist_ok=True)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SECRET_") and name not in _OF_ANOTHER_REPOSITORY
    }
    env |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
    # Without a repository of its own a folder must not pass for part of one further up.
    env["GIT_CEILING_DIRECTORIES"] = str(directory.parent)
    # A host that the user knows by another key is refused; new ones are not added to the user's own file.
    known = f'UserKnownHostsFile="{private / "known_hosts"}" ~/.ssh/known_hosts'
    ssh = ["ssh", "-o", "StrictHostKeyChecking=accept-new", "-o", known]
    if login.password is not None or login.passphrase is not None:
        askpass = private / "askpass"
        askpass.write_text(_ASKPASS)
        askpass.chmod(stat.S_IRWXU)
        env |= {"GIT_ASKPASS": str(askpass), "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        env |= {
            "TERCEL_GIT_USERNAME": login.username or "",
            "TERCEL_GIT_PASSWORD": login.password or "",
            "TERCEL_GIT_PASSPHRASE": login.passphrase or "",
        }
    if login.private_key is not None:
        key = private / "key"
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(login.private_key.rstrip("\n") + "\n")
        ssh += ["-i", str(key), "-o", "IdentitiesOnly=yes"]
    if "GIT_SSH_COMMAND" not in env:
        env["GIT_SSH_COMMAND"] = " ".join(f"'{part}'" for part in ssh)
    if login.ca_path is not None:
        env["GIT_SSL_CAINFO"] = login.ca_path
    try:
        yield _Git(context, directory, env)
    finally:
        shutil.rmtree(private, ignore_errors=True)


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


def _without_login(url: str) -> tuple[str, tuple[str | None, str | None]]:
    """Take user name and password out of an http(s) URL, so that they reach neither argv nor `.git/config`."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url, (None, None)
    login = tuple(None if part is None else unquote(part) for part in (parts.username, parts.password))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), (login[0], login[1])


def _rendered(context: RunContext, template: str | None) -> str | None:
    return None if template is None else context.render(template)


def _is_on(context: RunContext, value: bool | str) -> bool:
    return context.render(value).strip() not in {"", "false", "0", "-0"} if isinstance(value, str) else value
