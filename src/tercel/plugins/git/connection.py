"""What the tasks that push and sync share: where the repository is, who asks, and the diff that they give."""

import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import ENOSPC
from io import BytesIO
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec

from tercel.plugin_api import Dynamic, Problem, RunContext, RunnableTask, TaskFailedError, is_on, whole_number
from tercel.plugins.git.program import open_git, read_login
from tercel.plugins.git.repository import Repository

_SECRET_HINT = "Keep it as a secret, and write {{ secret('GIT_TOKEN') }} or the name that you gave it."


class Connection(RunnableTask, frozen=True, kw_only=True):
    """A task that works on one branch of a remote repository.

    Attributes:
        url: http(s), ssh, `git@host:path`, `file://` or a local path.
        branch: short name or `refs/heads/…`.
        username: any one does with a token, such as x-access-token.
        password: a password or token, as an expression; wants *username* as well.
        private_key: an SSH key, PEM text.
        passphrase: of the private key.
        trusted_ca_pem_path: a file with certificates that are trusted.
        git_config: settings of Git by name, for this task alone.
        no_proxy: reach the host without the proxy that the environment names.
        connect_timeout: milliseconds.
        read_timeout: milliseconds without a byte from an http(s) server after which it is given up.
        clone_submodules: whether submodules are looked into.
        kestra_url: address of the API.
        auth: login of the API.
    """

    without_effect: ClassVar[Mapping[str, str]] = {
        **RunnableTask.without_effect,
        "connectTimeout": "Git has its own; 'timeout' ends the whole task.",
        "cloneSubmodules": "Submodules are left alone.",
        "kestraUrl": "The task asks the engine that runs it; leave it out.",
        "auth": "The task asks the engine that runs it; leave it out.",
    }

    url: Dynamic | None = None
    branch: Dynamic = "main"
    username: Dynamic | None = None
    password: Dynamic | None = None
    private_key: Dynamic | None = None
    passphrase: Dynamic | None = None
    trusted_ca_pem_path: Dynamic | None = None
    git_config: dict[str, object] | None = None
    no_proxy: bool | Dynamic = False
    connect_timeout: int | Dynamic | None = None
    read_timeout: int | Dynamic | None = None
    clone_submodules: bool | Dynamic = False
    kestra_url: Dynamic | None = None
    auth: dict[str, object] | None = None

    def problems(self) -> Iterator[Problem]:
        """Half a login, and passwords that everybody can read who sees the flow."""
        yield from super().problems()
        if self._needs_url() and not self.url:
            yield Problem("`url` is missing.", "Write the address of the repository.", path=("url",))
        if (self.username is None) != (self.password is None):
            yield Problem(
                message="Git needs `username` and `password` together.",
                hint="With a token, any username does, such as x-access-token.",
                path=("username" if self.password is None else "password",),
            )
        if self.password and "{{" not in self.password:
            yield Problem("`password` is written into the flow.", _SECRET_HINT, path=("password",))
        if self.url and _has_password(self.url):
            yield Problem(
                "`url` has a password in it.",
                f"Write it as `username` and `password`. {_SECRET_HINT}",
                path=("url",),
            )

    def _needs_url(self) -> bool:
        return True

    @contextmanager
    def open_repository(self, context: RunContext, url: str | None = None) -> Generator[Repository]:
        """The branch, not fetched yet, in a folder of the engine that is gone afterwards.

        Args:
            context: of the task.
            url: an expression; `url` where None.
        """
        url, login = read_login(context, self, url or self.url or "")
        if not url:
            raise TaskFailedError("`url` is empty.", "Write the address of the repository.")
        branch = context.render(self.branch).strip().removeprefix("refs/heads/")
        if not branch or branch.startswith("-"):
            raise TaskFailedError(f"{branch!r} is no name of a branch.", "Check `branch`.")
        folder = Path(tempfile.mkdtemp(prefix="repository-", dir=context.engine_directory))
        try:
            with open_git(context, folder, login) as git:
                repository = Repository(git, folder, branch, url)
                try:
                    repository.create()
                    if is_on(context, self.no_proxy):
                        git.run("config", "http.proxy", "")
                    if self.read_timeout is not None:
                        seconds = max(1, whole_number(context, self.read_timeout, "readTimeout") // 1000)
                        git.run("config", "http.lowSpeedLimit", "1")
                        git.run("config", "http.lowSpeedTime", str(seconds))
                    for name, value in (self.git_config or {}).items():
                        git.run("config", name, str(context.render_value(value)))
                    if login.password is not None:
                        git.log_in(url)
                    yield repository
                finally:
                    repository.close()
        except OSError as error:
            hint = "Make room on its disk." if error.errno == ENOSPC else "See whether that folder can be written."
            raise TaskFailedError(
                f"The folder of the working directories cannot be used: {error.strerror}.", hint
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _has_password(url: str) -> bool:
    try:
        password = urlsplit(url).password
    except ValueError:
        return False
    return bool(password) and "{{" not in (password or "")


def clean_folder(path: str, name: str) -> str:
    """A folder of the repository, without `/` at its ends; "" is the root.

    Args:
        path: as rendered.
        name: of the property that it comes from, for the message.

    Raises:
        TaskFailedError: it leaves the repository.
    """
    parts = [part for part in path.strip().split("/") if part not in {"", "."}]
    if ".." in parts or ".git" in parts:
        raise TaskFailedError(f"{name}: {path!r} leaves the files of the repository.", "Give a path without `..`.")
    return "/".join(parts)


def joined(folder: str, path: str) -> str:
    """A path of the repository from one in a folder of it."""
    return f"{folder}/{path}" if folder else path


def save_diff(context: RunContext, rows: Sequence[Mapping[str, object]], name: str = "diff.ion") -> str:
    """Store what changes, one row for each file; gives its URI."""
    lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    return context.save_stream(BytesIO(lines), name)


def shown(path: str) -> str:
    """A name as people and JSON can have it, whatever its bytes are."""
    return path.encode(errors="surrogateescape").decode(errors="replace")


def is_text_path(path: str) -> bool:
    """False for a name that is no UTF-8, which nothing here can keep."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
