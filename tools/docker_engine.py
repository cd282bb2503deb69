"""Sees to it that a Docker engine answers: the one that is there, or Debian's, which root starts and leaves running.

`python tools/docker_engine.py` prints its address. An engine that was there before is never stopped or changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 90.0
SOCKET = "unix:///var/run/docker.sock"
NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip-forward=false")
_PID_FILES = {"dockerd": Path("/var/run/docker.pid"), "containerd": Path("/var/run/docker/containerd/containerd.pid")}
_LOG_END_BYTES = 3000


class EngineError(RuntimeError):
    """No engine can be had: *reason* in one line, and the end of the engine's log if one was started in vain."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(f"{reason}\n{log}".rstrip())
        self.reason = reason


def ensure_engine() -> str:
    """The address of an engine that answers; from any number of processes at once.

    Raises:
        EngineError: none answers, and none can be started here.
    """
    address = os.environ.get("DOCKER_HOST") or SOCKET
    if answers():
        return address
    if address != SOCKET:
        raise EngineError("an engine at the address in DOCKER_HOST")
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        raise EngineError("a Docker engine (Debian package docker.io, which root can start)")
    with locked("engine"):
        if not answers() and not _comes_up(_running("dockerd")):
            try:
                start(program, _options())
            except EngineError:  # a bridge needs more rights than containers do
                start(program, [*_options(), *NO_NETWORK])
    return address


def answers() -> bool:
    """Whether an engine does, at the address in DOCKER_HOST or at the usual socket."""
    import docker
    from docker.errors import DockerException

    if not _somebody_listens(os.environ.get("DOCKER_HOST") or SOCKET):
        return False
    try:
        client = docker.from_env(timeout=10)
    except DockerException:
        return False
    try:
        return client.ping()
    except (DockerException, OSError):
        return False
    finally:
        client.close()


def _somebody_listens(address: str) -> bool:
    """Whether the library may try; at a socket where nobody does it would leave its own open."""
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as knocking:
        return knocking.connect_ex(address.removeprefix("unix://")) == 0


def start(program: str, options: Sequence[str]) -> None:
    """Start an engine that lives on after this process, and wait until it answers.

    Raises:
        EngineError: it ended, or did not answer in time.
    """
    log = state_folder() / "engine.log"
    for name, pid_file in _PID_FILES.items():
        if _running(name) is None:
            pid_file.unlink(missing_ok=True)  # by now the number may be another process's, which stops an engine
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = ["env", "-C", "/", program, *options]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsid=True)
    if not _comes_up(pid):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_END_BYTES))
            raise EngineError(f"a Docker engine that starts (its log is {log})", file.read().decode(errors="replace"))


def _comes_up(pid: int | None) -> bool:
    """Whether the engine that is process *pid* answers before it ends and before the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while pid is not None and time.monotonic() < deadline:
        if answers():
            return True
        if _ended(pid):
            return False
        time.sleep(0.05)
    return False


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # another one started it
        return not Path(f"/proc/{pid}").exists()


def _running(name: str) -> int | None:
    """The process that the pid file of *name* means, if it still is one of that name."""
    try:
        pid = int(_PID_FILES[name].read_text())
        return pid if Path(f"/proc/{pid}/comm").read_text().strip() == name else None
    except (OSError, ValueError):
        return None


def _options() -> list[str]:
    """What this machine needs: containers' packets have to fit into those of its network."""
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    sizes = [int(Path(f"/sys/class/net/{route[0]}/mtu").read_text()) for route in routes if route[1] == "00000000"]
    return ["--log-level=warn", f"--mtu={min([1500, *sizes])}"]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Only one process and thread of this machine at a time, for each *name*."""
    with (state_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def state_folder() -> Path:
    """Locks and logs of this user, the same for every clone of the project."""
    folder = Path(tempfile.gettempdir()) / f"tercel-docker-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise EngineError(f"the folder {folder}, which is another user's,")
    return folder


if __name__ == "__main__":
    try:
        print(ensure_engine())
    except EngineError as error:
        sys.exit(f"There is no engine; this would be needed: {error}")
