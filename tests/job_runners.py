"""A job runner over a folder, its log kept in memory, and a task that runs a shell line."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from tercel.layers import LayerStore
from tercel.model import DirectoryTask, LogEntry, LogLevel, Metric, Task, TaskRun, WorkerJob, WorkerResult
from tercel.plugin_api import Outputs, RunContext, RunnableTask, TaskFailedError
from tercel.secrets import Secrets
from tercel.storage.local import LocalStorage
from tercel.storage.namespace_files import StoredNamespaceFiles
from tercel.worker.control import JobControl
from tercel.worker.directories import Directories
from tercel.worker.job_runner import JobRunner
from tercel.worker.layer_services import LayerServices
from tercel.worker.services import WorkerServices, utc_now


class KeptRecords:
    """A log sink in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.entries: list[LogEntry] = []
        self.metrics: list[Metric] = []

    def write_logs(self, entries: Sequence[LogEntry]) -> None:
        with self._lock:
            self.entries.extend(entries)

    def write_metrics(self, metrics: Sequence[Metric]) -> None:
        with self._lock:
            self.metrics.extend(metrics)

    def messages(self, *levels: LogLevel, task: str | None = None) -> list[str]:
        return [
            entry.message
            for entry in self.entries
            if (not levels or entry.level in levels) and (task is None or entry.task_id == task)
        ]

    def values(self, task: str | None = None) -> dict[str, float]:
        return {metric.name: metric.value for metric in self.metrics if task is None or metric.task_id == task}


class Shell(RunnableTask, frozen=True, kw_only=True):
    """Runs `sh -c` in the working directory; its log is what it prints, its output `exitCode`."""

    type: str = "test.Shell"
    run_: str
    output_files: list[str] = []

    def run(self, context: RunContext) -> Outputs:
        line = context.render(self.run_)
        process = subprocess.Popen(
            ["sh", "-ec", line],
            cwd=context.working_directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

        def stop() -> None:
            os.killpg(process.pid, signal.SIGKILL)

        with context.stopping(stop):
            printed = process.communicate()[0]
        for text in printed.splitlines():
            context.logger.info(text)
        outputs = Outputs(exitCode=process.returncode)
        if self.output_files:
            outputs["outputFiles"] = context.capture(self.output_files)
        context.stop_if_killed()
        if process.returncode:
            raise TaskFailedError(f"exit code {process.returncode}", outputs=outputs)
        return outputs


class Warns(RunnableTask, frozen=True, kw_only=True):
    """Ends in WARNING."""

    type: str = "test.Warns"

    def run(self, context: RunContext) -> Outputs:
        outputs = Outputs()
        outputs.warned = True
        return outputs


class Calls(RunnableTask, frozen=True, kw_only=True):
    """Does what the test says."""

    type: str = "test.Calls"
    functions: ClassVar[dict[str, Callable[[RunContext], Outputs]]] = {}

    def run(self, context: RunContext) -> Outputs:
        return self.functions[self.id](context)


def a_shell(id: str, line: str, **properties: Any) -> Shell:
    return Shell(id=id, run_=line, **properties)


def a_directory(*tasks: Task, **properties: Any) -> DirectoryTask:
    values = {"id": "wd", "type": "io.kestra.plugin.core.flow.WorkingDirectory"}
    return DirectoryTask(**(values | {"tasks": list(tasks)} | properties))


def a_job(task: Task, **properties: Any) -> WorkerJob:
    variables: dict[str, object] = {
        "flow": {"id": "flow", "namespace": "company.team", "revision": 1},
        "execution": {"id": "execution"},
        "task": {"id": task.id, "type": task.type},
        "taskrun": {"id": "run"},
        "outputs": {},
        "tasks": {},
    }
    variables.update(properties.pop("variables", {}))
    values: dict[str, Any] = {
        "execution_id": "execution",
        "namespace": "company.team",
        "flow_id": "flow",
        "revision": 1,
        "task_run_id": "run",
        "task": task,
        "fence": 1,
        "variables": variables,
    }
    return WorkerJob(**(values | properties))


def backend() -> Any:
    """The backend of layers that this run of the tests is about; "" for the best one."""
    return os.environ.get("TERCEL_LAYERS", "")


class Bench:
    """A job runner with all it needs below *folder*."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] | None = None, **services: Any) -> None:
        self.storage = LocalStorage(folder / "storage")
        self.layers = LayerServices(
            LayerStore(folder / "layers", folder / "tmp" / "at", backend()), self.storage, clock or utc_now
        )
        self.base = folder / "tmp"
        self.directories = Directories(self.base)
        self.records = KeptRecords()
        self.reports: list[TaskRun] = []
        self.services = WorkerServices(
            storage=self.storage,
            logs=self.records,
            directories=self.directories,
            layers=lambda: self.layers,
            clock=clock,
            worker_id="worker-1",
            **({"secrets": Secrets({})} | services),
        )
        self.runner = JobRunner(self.services)

    def run(self, task: Task, control: JobControl | None = None, **properties: Any) -> WorkerResult:
        """Run one job to its end."""
        return self.runner.run(a_job(task, **properties), control or JobControl(), self.reports.append)

    def namespace_files(self, files: Mapping[str, str], namespace: str = "company.team") -> None:
        stored = StoredNamespaceFiles(self.storage, namespace)
        for path, text in files.items():
            stored.put(path, text.encode())

    def put(self, path: str, content: bytes) -> str:
        return self.storage.put(path, BytesIO(content))

    def read(self, uri: object) -> bytes:
        with self.storage.get(str(uri)) as file:
            return file.read()

    def child(self, task_id: str) -> TaskRun:
        """The last report about a child."""
        return next(run for run in reversed(self.reports) if run.task_id == task_id)

    def states(self) -> dict[str, str]:
        """Each child's last state."""
        return {run.task_id: run.state.value for run in self.reports}

    def left(self) -> list[str]:
        """What is in the folder of working directories."""
        plain = [path.name for path in self.base.glob("*") if path.suffix != ".owner" and path.name != "at"]
        return [*plain, *(path.name for path in self.base.glob("at/[!.]*"))]
