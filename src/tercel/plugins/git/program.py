"""Runs the program `git`; credentials never in argv, URL or log."""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from tercel.plugin_api import NEVER_HANDED_DOWN, MissingToolError, RunContext, TaskFailedError

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


class Login:
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


NOBODY = Login(username=None, password=None, private_key=None, passphrase=None, ca_path=None)
"""No credentials."""


class Credentials(Protocol):
    """A task's properties that say who asks, not rendered yet."""

    @property
    def username(self) -> str | None:
        """For http(s)."""
        ...

    @property
    def password(self) -> str | None:
        """For http(s) and ssh."""
        ...

    @property
    def private_key(self) -> str | None:
        """For ssh, PEM text."""
        ...

    @property
    def passphrase(self) -> str | None:
        """Of the private key."""
        ...

    @property
    def trusted_ca_pem_path(self) -> str | None:
        """A file of certificates."""
        ...


def read_login(context: RunContext, given: Credentials, url: str) -> tuple[str, Login]:
    """*url* without the login in it, and the credentials of *given* or else of *url*, masked from now on."""
    url, (username, password) = without_login(context.render(url).strip())
    login = Login(
        username=rendered(context, given.username) or username,
        password=rendered(context, given.password) or password,
        private_key=rendered(context, given.private_key),
        passphrase=rendered(context, given.passphrase),
        ca_path=rendered(context, given.trusted_ca_pem_path),
    )
    for secret in (login.password, login.private_key, login.passphrase):
        if secret:
            context.add_secret(secret)
    return url, login


class Git:
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

    def ask(
        self,
        *arguments: str,
        check: bool = True,
        given: str | bytes = b"",
        into: BinaryIO | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run it and give its standard output; a failure raises with git's own words unless *check* is False.

        Args:
            arguments: the subcommand and what follows it.
            check: False where a failure is an answer, too.
            given: what it reads from its standard input.
            into: takes the standard output instead, which is "" then.
            env: set on top of what every call gets.
        """
        done = self.call(*arguments, given=given, into=into, env=env)
        if check and done.code != 0:
            raise self.failure(_subcommand(arguments), done)
        return done.out

    def call(
        self,
        *arguments: str,
        given: str | bytes = b"",
        into: BinaryIO | None = None,
        env: Mapping[str, str] | None = None,
    ) -> "Done":
        """As `ask`; gives all it left, whether it failed or not."""
        self._context.stop_if_killed()
        process = subprocess.Popen(
            ["git", *self._settings, *arguments],
            cwd=self._directory,
            env={**self._env, **(env or {})},
            stdin=subprocess.PIPE if given else subprocess.DEVNULL,
            stdout=into or subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

        def stop() -> None:
            # Git waits for helpers of its own, which may wait for a server for ever.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

        with self._context.stopping(stop):
            content = given.encode(errors="surrogateescape") if isinstance(given, str) else given
            out, err = process.communicate(content or None)
        self._context.stop_if_killed()
        said = self._context.mask(err.decode(errors="replace").strip())
        return Done(process.returncode, (out or b"").decode(errors="surrogateescape"), said)

    def failure(self, subcommand: str, done: "Done") -> TaskFailedError:
        """What to raise where *subcommand* has failed: git's own words, and what may be done about it."""
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, done.said)), "")
        return TaskFailedError(f"git {subcommand} failed: {done.said or f'exit code {done.code}'}", hint)


def _subcommand(arguments: Sequence[str]) -> str:
    """The first argument behind those for git itself, which come in pairs."""
    at = 0
    while arguments[at].startswith("-"):
        at += 2
    return arguments[at]


class Done(NamedTuple):
    """What a call of git left.

    Attributes:
        code: its exit code.
        out: its standard output.
        said: its standard error, with secrets masked.
    """

    code: int
    out: str
    said: str


_HINTS = (
    (
        r"Authentication failed|could not read (?:Username|Password)|Permission denied \(|incorrect passphrase",
        "Check `username` and `password`, or `privateKey` and `passphrase`.",
    ),
    (
        r"Connection refused|Could not resolve host|Failed to connect|[Tt]imed out|Name or service not known",
        "Check `url`, and whether its host can be reached from here.",
    ),
    (
        r"not appear to be a git repository|[Rr]epository .*not found|does not exist|not found: did you run",
        "Check `url`: there is no repository, or this login may not see it.",
    ),
    (r"No space left on device", "Make room on the disk that holds the working directories."),
)


@contextmanager
def open_git(context: RunContext, directory: Path, login: Login) -> Generator[Git]:
    """A `git` for *directory* whose credentials live in its environment and in 0600 files, gone afterwards."""
    if shutil.which("git") is None:
        raise MissingToolError("The git tasks need the program git.", "Install it, for example: apt-get install git.")
    private = context.engine_directory / "git"
    private.mkdir(mode=0o700, exist_ok=True)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(NEVER_HANDED_DOWN) and name not in _OF_ANOTHER_REPOSITORY
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
        yield Git(context, directory, env)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def without_login(url: str) -> tuple[str, tuple[str | None, str | None]]:
    """Take user name and password out of an http(s) URL, so that they reach neither argv nor `.git/config`.

    Raises:
        TaskFailedError: it is no URL, nor another address of a repository.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise TaskFailedError(f"`url` is no address: {error}.", "Percent-encode special characters in it.") from None
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url, (None, None)
    login = tuple(None if part is None else unquote(part) for part in (parts.username, parts.password))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), (login[0], login[1])


def rendered(context: RunContext, template: str | None) -> str | None:
    """The rendered text; None where there is none."""
    return None if template is None else context.render(template)
