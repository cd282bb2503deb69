"""Home: the whole engine in a folder of its own, and what tests ask of it."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import zstandard

import tercel.server
from tercel.model import Execution, LogEntry, Metric, State, TaskRun
from tercel.model.issue import Issue
from tercel.model.source import check_flow, read_flow
from tercel.operations import new_execution_id
from tercel.plugins import catalog
from tercel.server import Engine, open_home
from tercel.settings import Settings, read_settings
from tercel.storage.caches import Caches, Listed
from tercel.storage.namespace_files import StoredNamespaceFiles
from tercel.store import ExecutionQuery
from tercel.worker import services
from tercel.worker.directories import Directories, remove_tree

DEADLINE_S = 60.0


class Ran:
    """An execution that ended, with all it left."""

    def __init__(
        self,
        execution: Execution,
        runs: Sequence[TaskRun],
        logs: Sequence[LogEntry],
        metrics: Sequence[Metric],
    ) -> None:
        self.execution = execution
        self.runs = runs
        self.logs = logs
        self.metrics = metrics

    @property
    def state(self) -> State:
        return self.execution.state

    def run_of(self, task_id: str) -> TaskRun:
        """The only task run of a task."""
        [found] = [run for run in self.runs if run.task_id == task_id]
        return found

    def log_of(self, task_id: str) -> str:
        """Every line of a task's log."""
        return "\n".join(entry.message for entry in self.logs if entry.task_id == task_id)

    def output_lines(self, task_id: str) -> list[str]:
        """What a script printed, without what the engine said about it."""
        return [
            entry.message
            for entry in self.logs
            if entry.task_id == task_id and entry.level == "INFO" and not entry.message.startswith(_ENGINE_LINES)
        ]


_CACHE_WORDS = {
    "Cache restored": "restored",
    "and its ttl": "expired",
    "damaged": "damaged",
    "Cache missed": "miss",
    "Cache saved": "saved",
    "Cache unchanged": "unchanged",
    "Cache not saved": "not saved",
    "Cache dropped": "dropped",
}
_ENGINE_LINES = ("Start cloning", "The repository is here already", "Cache ")


class Home:
    """The embedded engine in *root*; use it as a context."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self._shift = timedelta(0)
        self._engine: Engine | None = None

    @property
    def settings(self) -> Settings:
        return read_settings({"TERCEL_LAYERS": os.environ.get("TERCEL_LAYERS", "")}, home=self.root, slots=16)

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = open_home(self.settings)
        return self._engine

    def __enter__(self) -> Home:
        self._real_now = services.utc_now
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        services.utc_now = self._real_now

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # Running

    def start(
        self,
        text: str,
        *,
        inputs: Mapping[str, object] | None = None,
        files: Mapping[str, Path] | None = None,
        trigger: Mapping[str, object] | None = None,
    ) -> str:
        engine = self.engine
        flow = engine.call(engine.operations.save_flow(text, read_flow(text, catalog())))
        execution_id = new_execution_id()
        started = engine.operations.start(flow, inputs, files=files, trigger=trigger, execution_id=execution_id)
        engine.call(started)
        return execution_id

    def run(self, text: str, *, env: Mapping[str, str] | None = None, **given: Any) -> Ran:
        """Run a flow to its end."""
        before = dict(os.environ)
        os.environ.update(env or {})
        try:
            return self.wait(self.start(text, **given))
        finally:
            os.environ.clear()
            os.environ.update(before)

    def run_many(self, texts: Sequence[str]) -> list[Ran]:
        """Run flows at the same time."""
        return [self.wait(execution_id) for execution_id in [self.start(text) for text in texts]]

    def wait(self, execution_id: str) -> Ran:
        engine = self.engine
        engine.call(engine.operations.wait(execution_id))
        return self.ran(execution_id)

    def ran(self, execution_id: str) -> Ran:
        engine = self.engine
        queries = engine.queries
        logs: list[LogEntry] = []
        after, is_last = 0, False
        while not is_last:
            page = engine.call(queries.logs(execution_id, after=after))
            logs += page.entries
            after, is_last = page.next, page.is_last
        return Ran(
            engine.call(queries.get_execution(execution_id)),
            engine.call(queries.task_runs(execution_id)),
            logs,
            engine.call(queries.metrics(execution_id)),
        )

    def run_and_kill(self, text: str, when: Callable[[], bool]) -> Ran:
        """Start a flow, kill it once *when* holds, wait for its end."""
        execution_id = self.start(text)
        until(when)
        self.engine.call(self.engine.operations.kill(execution_id))
        return self.wait(execution_id)

    def run_in_process(
        self, text: str, memory_mb: int | None = None, prefix: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a flow by `tercel run` in a process of its own, with so much memory at most."""
        self.close()
        path = self.root.parent / "flow.yaml"
        path.write_text(text)
        command = [*prefix, sys.executable, "-m", "tercel", "run", str(path), "--home", str(self.root)]
        if memory_mb is not None:
            command = [
                "sh",
                "-c",
                f'ulimit -v {memory_mb * 1024 * 4}; ulimit -d {memory_mb * 1024}; exec "$@"',
                "sh",
                *command,
            ]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def run_and_crash(self, text: str, when: Callable[[], bool]) -> None:
        """Run a flow by `tercel run` and kill -9 that process once *when* holds."""
        self.close()
        path = self.root.parent / "flow.yaml"
        path.write_text(text)
        command = [sys.executable, "-m", "tercel", "run", str(path), "--home", str(self.root)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(when)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def restart(self, ran: Ran, **how: bool) -> Ran:
        """Restart an execution and wait for its end."""
        self.engine.call(self.engine.operations.restart(ran.execution.id, **how))
        return self.wait(ran.execution.id)

    def replay(self, ran: Ran, task_run_id: str) -> Ran:
        """Run an execution anew from one of its task runs on, and wait for the end."""
        new = self.engine.call(self.engine.operations.replay(ran.execution.id, task_run_id=task_run_id))
        return self.wait(new.id)

    def recover(self) -> Ran:
        """Open the home again and wait for the newest execution, which a crash had left open."""
        engine = self.engine
        [newest] = engine.call(engine.queries.search_executions(ExecutionQuery(limit=1)))
        ran = self.wait(newest.id)
        until(lambda: not self.leftovers())
        return ran

    # Checking flows

    def issues(self, text: str) -> Sequence[Issue]:
        return check_flow(text, catalog()).issues

    def codes(self, text: str) -> list[str]:
        return [issue.code for issue in self.issues(text)]

    # Files

    def put(self, path: str, content: bytes) -> str:
        return self.engine.storage.put(path, io.BytesIO(content))

    def read(self, uri: str) -> bytes:
        with self.engine.storage.get(uri) as file:
            return file.read()

    def put_namespace_file(self, namespace: str, path: str, content: str) -> None:
        StoredNamespaceFiles(self.engine.storage, namespace).put(path, content.encode())

    def leftovers(self) -> list[Path]:
        """Working directories that were not removed, and layers in use."""
        plain = [path for path in self.tmp.glob("*") if path.is_dir() and path.name != "at"]
        places = [path for path in self.tmp.glob("at/*") if path.suffix != ".lock"]
        return [*plain, *places, *self.root.glob("layers/*/work/*")]

    def make_leftover(self, *, pid_alive: bool) -> Path:
        """A working directory of another process, which is dead or alive."""
        if pid_alive:
            self._other = Directories(self.tmp)
            return self._other.make()
        script = (
            "import pathlib, sys; from tercel.worker.directories import Directories;"
            "print(Directories(pathlib.Path(sys.argv[1])).make(), flush=True); import os; os._exit(9)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(self.tmp)], capture_output=True, text=True, check=False
        )
        return Path(done.stdout.strip())

    # The cache

    @property
    def caches(self) -> Caches:
        return Caches(self.engine.storage)

    def cache_entries(self) -> list[Listed]:
        """The entries of internal storage, once all that was saved is there."""
        self.engine.settle()
        return self.caches.search()

    def cache_files(self) -> dict[str, tuple[int, int]]:
        """Every stored file of the cache with its inode and time of change, once all that was saved is there."""
        self.engine.settle()
        return {
            str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in sorted((self.root / "storage").rglob("cache/**/*"))
            if path.is_file()
        }

    def cache_lines(self, ran: Ran) -> list[str]:
        """What the log says became of the cache: restored, miss, expired or damaged; then saved or unchanged."""
        found = []
        for entry in ran.logs:
            if (
                entry.level in {"INFO", "WARN"}
                and entry.message.startswith("Cache ")
                and entry.message[6:12] != "stored"
            ):
                [word] = [word for words, word in _CACHE_WORDS.items() if words in entry.message][:1]
                found.append(word)
        return found

    def pass_time(self, duration: timedelta) -> None:
        """Let the engine's clock go on by *duration*."""
        self._shift += duration
        shift, real = self._shift, self._real_now

        def shifted() -> datetime:
            return real() + shift

        services.utc_now = shifted
        self.close()
        tercel.server.utc_now = shifted

    def damage_cache(self, how: str) -> None:
        """Damage the only entry's object in internal storage, and forget the local copy."""
        self.close()
        [path] = (self.root / "storage").rglob("*.tar.zst")
        content = path.read_bytes()
        match how:
            case "garbage":
                content = os.urandom(len(content))
            case "truncated":
                content = content[: len(content) // 2]
            case "flipped":
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            case _:
                content = b""
        path.chmod(0o644)
        path.write_bytes(content)
        self.forget_layers()

    def replace_cache_with_tar(self, members: Mapping[str, bytes]) -> None:
        """Put a tar of ours, with hostile names, where the only entry's object is; its pointer is made to fit."""
        self.close()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        content = zstandard.compress(packed.getvalue())
        [pointer] = (self.root / "storage").rglob("current.json")
        [path] = (self.root / "storage").rglob("*.tar.zst")
        entry = msgspec.json.decode(pointer.read_bytes())
        [pack] = entry["layers"]
        pack["sha256"] = hashlib.sha256(content).hexdigest()
        pack["packedBytes"] = len(content)
        pack["files"] = len(members)
        pack["bytes"] = sum(map(len, members.values()))
        path.chmod(0o644)
        path.write_bytes(content)
        pointer.write_bytes(msgspec.json.encode(entry))
        self.forget_layers()

    def forget_layers(self) -> None:
        """Be as a machine that has nothing of what others have stored."""
        self.close()
        remove_tree(self.root / "layers")


def until(holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Wait until *holds* does; fail after *deadline_s*."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def is_alive(pid: str | int) -> bool:
    """True for a process that still runs; one that ended and that nobody has asked about yet does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def git(folder: Path, *arguments: str) -> str:
    """Run git in *folder* with an identity of its own."""
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
