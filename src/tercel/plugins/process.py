"""core.runner.Process: a script's commands as processes of this machine, ended with all their descendants.

Each command gets a session of its own, so that one signal reaches all of it; a pidfd tells when it ends, and one
loop in the calling thread reads both streams. It knows nothing of scripts: it is given an argv and tells bytes.
"""

import os
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from errno import E2BIG
from functools import lru_cache
from pathlib import Path
from threading import Lock, Timer
from time import monotonic, sleep
from typing import Literal, cast

from tercel.plugin_api import (
    NEVER_HANDED_DOWN,
    Command,
    RunContext,
    TaskFailedError,
    TaskKilledError,
    TaskRunner,
    TaskTimeoutError,
    handed_down,
    plugin,
)

OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]

ATTEMPT_VARIABLE = "TERCEL_ATTEMPT_ID"
"""Environment variable that names the attempt; descendants that left the session are found by it."""

_GRACE_S = 5.0
_BLOCK = 1 << 16
_FLUSH_S = 0.25
"""After the command itself ended, what it left behind has this long to write down the rest of its output."""
_REST_S = 2.0
_REAP_S = 0.2
_PROBE_S = 0.005
_LOOK_S = 0.02
_PIPE_BLOCKS = 32

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
_INHERITED = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"),
        *_PROXIES,
        *(name.lower() for name in _PROXIES),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"),
        *("NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
    )
)
_INHERITED_PREFIXES = ("LC_", "CONDA_")


@plugin(
    "io.kestra.plugin.core.runner.Process",
    aliases=["io.kestra.core.models.tasks.runners.types.ProcessTaskRunner"],
)
class Process(TaskRunner, frozen=True, kw_only=True):
    """Run the commands of a script as processes of the worker's machine.

    Of the worker's environment they see only what is harmless and of use (`PATH`, `HOME`, `LANG`, proxies,
    certificates, `CONDA_*`, and what the setting `script.environment` names), never its secrets.

    Attributes:
        kill_grace_period: on a kill or timeout, the time between the request to end and the end by force; the
            setting `script.kill-grace` where absent.

    Example:
        tasks:
          - id: report
            type: io.kestra.plugin.scripts.shell.Commands
            taskRunner:
              type: io.kestra.plugin.core.runner.Process
              killGracePeriod: PT10S
            commands:
              - echo "Runs on $(uname)"
    """

    kill_grace_period: timedelta | None = None

    def run(self, command: Command, context: RunContext, on_output: OnOutput) -> int:
        """Run *command*; its exit code, 128 + signal where a signal ended it.

        Raises:
            TaskFailedError: it could not be started.
            TaskKilledError: the execution is being killed; *outputs* has the `exitCode`.
            TaskTimeoutError: its time is over; *outputs* has the `exitCode`.
        """
        environment = (
            inherited_environment(os.environ)
            | handed_down(context.setting("script.environment"), os.environ)
            | command.env
        )
        child = _Child(self._grace_s(context), environment.get(ATTEMPT_VARIABLE))
        with context.stopping(child.stop):
            try:
                context.stop_if_killed()
                _add_python(environment, context)
                _watchdog()  # sees all of the machine, and is no part of what is contained
                with context.contained():
                    child.start(command, environment)
                context.logger.trace(f"Process {child.pid} runs {shlex.join(command.argv)}")
                code = child.follow(on_output)
            finally:
                child.end()
        try:
            context.stop_if_killed()
        except (TaskKilledError, TaskTimeoutError) as stopped:
            stopped.outputs.setdefault("exitCode", code)
            raise
        return code

    def _grace_s(self, context: RunContext) -> float:
        if self.kill_grace_period is not None:
            return self.kill_grace_period.total_seconds()
        return cast("float", context.setting("script.kill-grace", _GRACE_S))


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What of the worker's *environment* every script may see."""
    return {
        name: environment[name]
        for name in environment
        if (name in _INHERITED or name.startswith(_INHERITED_PREFIXES)) and not name.startswith(NEVER_HANDED_DOWN)
    }


def _add_python(environment: dict[str, str], context: RunContext) -> None:
    """Make `python` work where the machine has only `python3`."""
    path = environment.get("PATH", os.defpath)
    python = _missing_python(path)
    if python:
        directory = context.engine_directory / "python"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        launcher = directory / "python"
        if not launcher.exists():
            # Not a link: a venv made through one would point into this directory, which soon is no more.
            launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n', "utf-8")
            launcher.chmod(0o700)
        environment["PATH"] = f"{path}{os.pathsep}{directory}"


@lru_cache(maxsize=32)
def _missing_python(path: str) -> str:
    """The interpreter that has to stand in for `python` on *path*; empty where there is one."""
    if shutil.which("python", path=path):
        return ""
    import sys  # noqa: PLC0415  # the rare case

    return shutil.which("python3", path=path) or sys.executable


class _Child:
    """One command, from its start to the end of the last process it left."""

    def __init__(self, grace_s: float, attempt: str | None) -> None:
        self._grace_s = grace_s
        self._attempt = attempt
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over = False
        self._stopped_at: float | None = None
        self._grace: Timer | None = None
        self._slot: int | None = None
        self.pid = 0

    def start(self, command: Command, environment: Mapping[str, str]) -> None:
        """Start it; it may already have to stop."""
        try:
            # A session of its own costs nothing here; `preexec_fn` would turn vfork into fork and double the time.
            process = subprocess.Popen(
                command.argv,
                cwd=command.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise _start_error(error, command, environment) from error
        with self._lock:
            self._process = process
            self.pid = process.pid
            is_stopped = self._stopped_at is not None
        self._slot = _watchdog().watch(self.pid)
        if is_stopped:
            self._ask_to_end()

    def stop(self) -> None:
        """Ask it to end; from any thread."""
        with self._lock:
            if self._stopped_at is not None:
                return
            self._stopped_at = monotonic()
            is_started = self._process is not None
        if is_started:
            self._ask_to_end()

    def _ask_to_end(self) -> None:
        """Ask, and end it by force when its grace is over: whoever follows it needs only to see that it has ended."""
        self._signal(signal.SIGTERM)
        self._grace = Timer(self._grace_s, self._signal, (signal.SIGKILL,))
        self._grace.daemon = True
        self._grace.start()

    def follow(self, on_output: OnOutput) -> int:
        """Hand on what it prints until it has ended, then end what it left behind; its exit code."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        streams = _Streams(self._process.stdout.fileno(), self._process.stderr.fileno(), on_output)
        pidfd = _open_pidfd(self.pid)
        try:
            if pidfd is not None:
                streams.also_wake_on(pidfd)
                while pidfd not in streams.read_ready(None):
                    pass
                streams.forget(pidfd)
            else:
                while not _has_ended(self.pid):
                    streams.read_ready(_LOOK_S)
        finally:
            if pidfd is not None:
                os.close(pidfd)
        if self._stopped_at is None:
            streams.read_rest()
        if self._stopped_at is not None:
            self._await_group_end(streams, self._stopped_at + self._grace_s)
        self._signal(signal.SIGKILL)
        if streams.are_open or self._stopped_at is not None:
            self._end_escaped()
            streams.read_what_is_there()
        return self._finish()

    def _await_group_end(self, streams: "_Streams", deadline: float) -> None:
        """Let what the command started end in good order too, until *deadline*."""
        assert self._process is not None
        self._process.wait()
        while monotonic() < deadline and _is_group_alive(self.pid):
            streams.read_ready(_PROBE_S)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; its number cannot be another's while one of it lives."""
        with self._lock:
            if self._process is not None and not self._is_over:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, number)

    def _end_escaped(self) -> None:
        """End descendants that left the session, as daemons do: they still have the attempt in their environment."""
        if self._attempt is None:
            return
        marker = f"{ATTEMPT_VARIABLE}={self._attempt}".encode()
        for name in _process_ids():
            with suppress(OSError):
                pidfd = os.pidfd_open(int(name))
                try:
                    if marker in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)

    def _finish(self) -> int:
        """Forget the group, all of which has been told to end by force; the exit code."""
        assert self._process is not None
        with self._lock:
            self._is_over = True
        if self._slot is not None:
            _watchdog().forget(self._slot)
            self._slot = None
        code = self._process.wait()
        deadline = monotonic() + _REAP_S
        while monotonic() < deadline and _is_group_alive(self.pid):
            sleep(_PROBE_S)
        return code if code >= 0 else 128 - code

    def end(self) -> None:
        """Leave nothing: no process, no open file. Nothing happens where all is over already."""
        if self._process is not None:
            if not self._is_over:
                self._signal(signal.SIGKILL)
                self._finish()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
        if self._grace is not None:
            self._grace.cancel()


class _Streams:
    """Both streams of a command, read in blocks by whoever calls."""

    def __init__(self, stdout: int, stderr: int, on_output: OnOutput) -> None:
        self._names: dict[int, Literal["stdout", "stderr"]] = {stdout: "stdout", stderr: "stderr"}
        self._on_output = on_output
        self._poll = select.poll()
        for fd in self._names:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)

    @property
    def are_open(self) -> bool:
        """True while somebody may still write into one of them."""
        return bool(self._names)

    def also_wake_on(self, fd: int) -> None:
        """Let `read_ready` tell when *fd* is ready."""
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        """Wake on *fd* no more."""
        self._poll.unregister(fd)

    def read_ready(self, timeout_s: float | None) -> set[int]:
        """Wait, and hand on one block of each stream that has one; everything that was ready."""
        ready = {fd for fd, _ in self._poll.poll(None if timeout_s is None else timeout_s * 1000)}
        for fd in ready:
            if fd in self._names:
                self._read(fd)
        return ready

    def read_rest(self) -> None:
        """Read to the end, but wait only while something comes: a daemon may hold a stream open for ever."""
        deadline = monotonic() + _REST_S
        while self._names and self.read_ready(_FLUSH_S) and monotonic() < deadline:
            pass

    def read_what_is_there(self) -> None:
        """Read what has been written, at most what a pipe holds."""
        for _ in range(_PIPE_BLOCKS):
            if not (self._names and self.read_ready(0)):
                return

    def _read(self, fd: int) -> None:
        try:
            block = os.read(fd, _BLOCK)
        except BlockingIOError:
            return
        if block:
            self._on_output(self._names[fd], block)
        else:
            self._poll.unregister(fd)
            del self._names[fd]


def _open_pidfd(pid: int) -> int | None:
    """A file that is readable once the process has ended; None where the system has no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _is_group_alive(group: int) -> bool:
    """False once all have ended; one that has ended counts as a member until the init process gets to reap it."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    for name in _process_ids():
        with suppress(OSError):
            # After the name in parentheses, which may hold anything: state, parent, group.
            state, _, its_group = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in {"Z", "X"}:
                return True
    return not os.path.isdir("/proc/self")


def _process_ids() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _start_error(error: Exception, command: Command, environment: Mapping[str, str]) -> TaskFailedError:
    program = command.argv[0] if command.argv else ""
    if isinstance(error, FileNotFoundError) and str(error.filename) == str(command.directory):
        return TaskFailedError(f"The working directory {command.directory} is gone.")
    if isinstance(error, FileNotFoundError):
        return TaskFailedError(
            f"The program {program!r} is not on this machine.",
            "Install it where the worker runs, or name another one in 'interpreter'.",
        )
    if isinstance(error, PermissionError):
        return TaskFailedError(f"The program {program!r} may not be run.", "Make it executable: chmod +x.")
    if isinstance(error, OSError) and error.errno == E2BIG:
        longest = max(len(os.fsencode(text)) for text in (*command.argv, *environment.values()))
        return TaskFailedError(
            f"The command line or environment is too long for the system: one text alone has {longest:,} bytes.",
            "Write it into a file with 'inputFiles' and run that.",
        )
    if isinstance(error, ValueError):
        return TaskFailedError(f"The command line or environment cannot be passed on: {error}.")
    return TaskFailedError(f"The program {program!r} could not be started: {error}.")


_WATCHDOG_SCRIPT = """cd /
read -r end
while read -r group; do
  [ -z "$group" ] || kill -s KILL -- "-$group"
done < /proc/self/fd/3"""


class _Watchdog:
    """Ends all groups when this process dies without having done so, even by SIGKILL.

    A shell that sleeps until its pipe breaks, then reads which groups live from memory it shares with us. That
    costs a command one write; a parent-death signal would have to be set between fork and exec.
    """

    _ROW = 12

    def __init__(self) -> None:
        self._lock = Lock()
        self._free: list[int] = []
        self._rows = 0
        self._memory = os.memfd_create("tercel-groups")
        reader, self._writer = os.pipe()
        try:
            os.posix_spawn(
                "/bin/sh",
                ["tercel-watchdog", "-c", _WATCHDOG_SCRIPT],
                {},
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, reader, 0),
                    (os.POSIX_SPAWN_DUP2, self._memory, 3),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
        finally:
            os.close(reader)

    def watch(self, group: int) -> int:
        """End *group* with us; gives what `forget` wants."""
        with self._lock:
            if self._free:
                slot = self._free.pop()
            else:
                slot = self._rows
                self._rows += 1
        self._write(slot, str(group))
        return slot

    def forget(self, slot: int) -> None:
        """The group has ended."""
        self._write(slot, "")
        with self._lock:
            self._free.append(slot)

    def _write(self, slot: int, text: str) -> None:
        os.pwrite(self._memory, f"{text:<{self._ROW - 1}}\n".encode(), slot * self._ROW)


class _NoWatchdog:
    """Where the system cannot share memory that way, a worker that is killed leaves its scripts running."""

    def watch(self, group: int) -> int:
        return group

    def forget(self, slot: int) -> None:
        del slot


_WATCHDOG_LOCK = Lock()


def _watchdog() -> _Watchdog | _NoWatchdog:
    with _WATCHDOG_LOCK:
        return _the_watchdog(os.getpid())


@lru_cache(maxsize=1)
def _the_watchdog(pid: int) -> _Watchdog | _NoWatchdog:
    """One for this process; *pid* makes a forked child get its own."""
    del pid
    try:
        return _Watchdog()
    except (AttributeError, OSError):
        return _NoWatchdog()
