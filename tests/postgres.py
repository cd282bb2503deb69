"""A private PostgreSQL server for tests, from Debian's package: one for each process that runs tests, started when the
first test needs it and ended with the process; each test gets a database of its own.

It listens on a socket in its own folder only, and nobody else's server is touched.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg

from tests.tools import unavailable

DEADLINE_S = 60.0
_ADMIN = "postgres"
_PR_SET_PDEATHSIG = 1
_FAST = {"fsync": "off", "full_page_writes": "off"}
_numbers = count(1)


@contextmanager
def postgres_database() -> Iterator[str]:
    """The address of a new, empty database, dropped afterwards; skips the test where there is no PostgreSQL."""
    server = running_server()
    name = f"test_{os.getpid()}_{next(_numbers)}"
    server.run(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        yield server.dsn(name)
    finally:
        server.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@cache
def running_server() -> PostgresServer:
    """The server of this process."""
    server = PostgresServer()
    atexit.register(server.remove)
    server.start()
    return server


class PostgresServer:
    """A server with its files in a temporary folder, owned by a user without rights where this is root.

    Args:
        durable: what is committed is on the disk, as it is by default outside of tests; slower.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._programs = _programs()
        self._user = None if os.geteuid() else _unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix="tercel-pg-", dir="/tmp"))  # a socket's path has to be short
        self._process: subprocess.Popen[bytes] | None = None
        self._options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "32MB",
            "log_min_messages": "fatal",
            **({} if durable else _FAST),
        }
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._initialise()

    def _initialise(self) -> None:
        command = ["-D", self._data, "-A", "trust", "-U", _ADMIN, "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [self._programs / "initdb", *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=_environment(),
            **self._identity(),
        )
        assert done.returncode == 0, done.stderr

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _identity(self) -> dict[str, object]:
        user = self._user
        return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"--{name}={value}" for name, value in self._options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # it makes one system call
                **self._identity(),  # pyright: ignore[reportArgumentType]
            )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends all connections first; SIGQUIT is a crash, after which `start` recovers."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(DEADLINE_S)
            self._process = None

    def remove(self) -> None:
        """End it and remove its files."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, database: str = _ADMIN) -> str:
        """The address of one of its databases."""
        return f"postgresql:///{database}?host={self.folder}&user={_ADMIN}"

    def run(self, statement: str, database: str = _ADMIN) -> list[tuple[object, ...]]:
        """Run a statement as the administrator, outside of any transaction."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def end_connections(dsn: str) -> int:
    """End all connections to a database, as an administrator can; gives how many there were."""
    statement = b"""
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        return len(connection.execute(statement).fetchall())


def _programs() -> Path:
    """The folder of the newest PostgreSQL's programs."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if folders:
        return max(folders, key=lambda folder: float(folder.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else unavailable("PostgreSQL (Debian package postgresql)")


def _unprivileged() -> pwd.struct_passwd:
    """A user who may run PostgreSQL, which refuses to be root's."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return unavailable("a user `postgres`, which Debian's package postgresql makes,")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _end_with_parent() -> None:
    """Have the server crash when the tests do."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
