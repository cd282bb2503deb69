"""A small run context over a directory: what a task reaches, without worker, store or settings."""

import re
import shutil
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from tercel.errors import ExpressionError, NotFoundError, TaskKilledError, TaskTimeoutError
from tercel.model.task import LogLevel, Task
from tercel.plugin_api import (
    EngineCalls,
    KeyValues,
    MetricType,
    NamespaceFiles,
    NamespaceFolder,
    Resource,
    TaskFailedError,
    TaskRunner,
)
from tercel.plugins.process import Process
from tercel.plugins.scripts.docker.runner import DOCKER, Docker

_PLACE = re.compile(r"\{\{\s*(?P<path>[\w.]+)(?:\['(?P<key>[^']*)'\])?\s*\}\}")


class KeptLog:
    """A task log in memory; *limit* entries, after which only the number goes up."""

    def __init__(self, limit: int = 100_000) -> None:
        self.entries: list[tuple[LogLevel, str]] = []
        self.count = 0
        self._limit = limit
        self.secrets: list[str] = []

    def log(self, level: LogLevel, message: str) -> None:
        self.count += 1
        if len(self.entries) < self._limit:
            for secret in self.secrets:
                message = message.replace(secret, "***")
            self.entries.append((level, message))

    def log_lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        for line in lines:
            self.log(level, line)

    def trace(self, message: str) -> None:
        self.log(LogLevel.TRACE, message)

    def debug(self, message: str) -> None:
        self.log(LogLevel.DEBUG, message)

    def info(self, message: str) -> None:
        self.log(LogLevel.INFO, message)

    def warn(self, message: str) -> None:
        self.log(LogLevel.WARN, message)

    def error(self, message: str) -> None:
        self.log(LogLevel.ERROR, message)

    def at(self, *levels: LogLevel) -> list[str]:
        """Messages at these levels; without levels, at all but TRACE."""
        return [text for level, text in self.entries if (level in levels if levels else level is not LogLevel.TRACE)]


class DirectoryContext:
    """A `RunContext` over *root*; `{{ name }}`, `{{ a.b }}` and `{{ a['b'] }}` are all it renders.

    Attributes:
        key_values: set by tests that need it, as is *engine*.
    """

    key_values: KeyValues
    engine: EngineCalls

    def __init__(
        self, root: Path, *, variables: Mapping[str, object] | None = None, settings: Mapping[str, object] | None = None
    ) -> None:
        self.root = root
        self.variables: Mapping[str, object] = variables or {}
        self.settings = dict(settings or {})
        self.logger = KeptLog()
        self.metrics: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        self.stored: dict[str, bytes] = {}
        self.reason: Literal["kill", "timeout"] | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self.is_shared = False
        self.staged: frozenset[str] = frozenset()
        self.restored: frozenset[str] = frozenset()
        self.fetched: list[str] = []
        self.resources: dict[object, Resource] = {}
        self.leftovers: list[tuple[str, dict[str, str]]] = []

    @property
    def working_directory(self) -> Path:
        return self._directory("work")

    @property
    def engine_directory(self) -> Path:
        return self._directory("work.engine")

    @property
    def output_directory(self) -> Path:
        return self._directory("work.output")

    def _directory(self, name: str) -> Path:
        directory = self.root / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        def value(match: re.Match[str]) -> str:
            found: object = {**self.variables, **(extra or {})}
            for name in [*match["path"].split("."), *([match["key"]] if match["key"] else [])]:
                if not isinstance(found, Mapping) or name not in found:
                    raise ExpressionError(f"Unknown variable {match[0]}")
                found = found[name]
            return str(found)

        return _PLACE.sub(value, template)

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        match value:
            case str():
                return self.render(value, extra)
            case Mapping():
                return {self.render(str(key), extra): self.render_value(one, extra) for key, one in value.items()}
            case list():
                return [self.render_value(one, extra) for one in value]
            case _:
                return value

    def render_typed(self, template: str, extra: Mapping[str, object] | None = None) -> object:
        return self.render(template, extra)

    def render_list(self, value: object, extra: Mapping[str, object] | None = None) -> list[str]:
        rendered = self.render_value(value, extra)
        return [str(item) for item in (rendered if isinstance(rendered, list) else [rendered])]

    def open_file(self, uri: str) -> BinaryIO:
        return BytesIO(self._content(uri))

    def fetch_file(self, uri: str, target: Path) -> None:
        self.fetched.append(uri)
        content = self._content(uri)
        with target.open("xb") as file:
            file.write(content)

    def file_size(self, uri: str) -> int:
        return len(self._content(uri))

    def delete_file(self, uri: str) -> bool:
        return self.stored.pop(uri, None) is not None

    def list_execution_files(self) -> list[str]:
        return sorted(self.stored)

    def _content(self, uri: str) -> bytes:
        if uri not in self.stored:
            raise NotFoundError("There is no such file.")
        return self.stored[uri]

    def save_file(self, path: Path, name: str) -> str:
        uri = f"kestra:///{name}"
        self.stored[uri] = path.read_bytes()
        return uri

    def save_stream(self, stream: BinaryIO, name: str) -> str:
        uri = f"kestra:///{name}"
        self.stored[uri] = stream.read()
        return uri

    def namespace_folder(self, namespace: str) -> NamespaceFolder:
        raise NotImplementedError

    def write_input_files(self, files: object, extra: Mapping[str, object] | None = None) -> None:
        rendered = self.render_value(files, extra)
        assert isinstance(rendered, dict)
        for name, content in rendered.items():
            target = self.working_directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(str(content), "utf-8")

    def write_namespace_files(self, files: NamespaceFiles) -> None:
        raise NotImplementedError

    def capture(self, patterns: object, extra: Mapping[str, object] | None = None) -> dict[str, str]:
        rendered = self.render_value(patterns, extra)
        assert isinstance(rendered, list)
        found = {path for pattern in rendered for path in self.working_directory.glob(str(pattern)) if path.is_file()}
        return self._save(found, self.working_directory)

    def each_file(self, patterns: object, take: Callable[[str, BinaryIO], None]) -> None:
        raise NotImplementedError

    def capture_directory(self, directory: Path) -> dict[str, str]:
        return self._save({path for path in directory.rglob("*") if path.is_file()}, directory)

    def _save(self, paths: set[Path], base: Path) -> dict[str, str]:
        names = sorted(path.relative_to(base).as_posix() for path in paths)
        return {name: self.save_file(base / name, name) for name in names}

    def metric(
        self, name: str, value: float, type: MetricType = "counter", tags: Mapping[str, str] | None = None
    ) -> None:
        key = (type, name, tuple(sorted((tags or {}).items())))
        self.metrics[key] = value if type == "gauge" else self.metrics.get(key, 0.0) + value

    def add_secret(self, value: str) -> None:
        self.logger.secrets.append(value)

    def mask(self, text: str) -> str:
        for secret in self.logger.secrets:
            text = text.replace(secret, "***")
        return text

    def stop(self, reason: Literal["kill", "timeout"]) -> None:
        """What the worker does on a kill or timeout."""
        with self._lock:
            self.reason = reason
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def stop_if_killed(self) -> None:
        if self.reason == "kill":
            raise TaskKilledError
        if self.reason == "timeout":
            raise TaskTimeoutError("Timeout after 00:00:01.000")

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Generator[None]:
        with self._lock:
            self._callbacks.append(stop)
            is_stopped = self.reason is not None
        if is_stopped:
            stop()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(stop)

    def contained(self) -> AbstractContextManager[None]:
        return nullcontext()

    def outside_path(self, path: Path) -> Path | None:
        return path

    def note_leftover(self, runner_type: str, note: Mapping[str, str]) -> Callable[[], None]:
        entry = (runner_type, dict(note))
        self.leftovers.append(entry)
        return lambda: self.leftovers.remove(entry)

    def setting(self, name: str, default: object = None) -> object:
        return self.settings.get(name, default)

    def read_task(self, text: str) -> Task:
        raise NotImplementedError

    def task_runner(self, type_name: str) -> TaskRunner:
        if type_name in {Process.plugin_type, DOCKER}:
            return Process(type=type_name) if type_name == Process.plugin_type else Docker()
        raise TaskFailedError(f"There is no task runner {type_name}.")

    def remove(self) -> None:
        """Remove the directories, as a worker does after the attempt."""
        for resource in self.resources.values():
            resource.close()
        shutil.rmtree(self.root)
