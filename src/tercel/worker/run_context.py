"""The RunContext a task gets: rendering, files, log, metrics, and being stopped.

Everything is made when first asked for, so that a task that only renders costs nothing else.
"""

import os
from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import BinaryIO, cast

import msgspec

from tercel.errors import ExpressionError, InvariantError, TaskFailedError
from tercel.expression import is_truthy_text, render, render_object
from tercel.model import NamespaceFiles, Task
from tercel.plugin_api import EngineCalls, KeyValues, MetricType, Resource, TaskRunner
from tercel.secrets import Masker
from tercel.storage import execution_path, parse_uri, task_run_path
from tercel.worker.addresses import Addresses
from tercel.worker.control import JobControl
from tercel.worker.functions import ExpressionServices
from tercel.worker.input_files import read_input_files, write_input_files
from tercel.worker.log_capture import MetricBook, RunIdentity, TaskLog
from tercel.worker.namespace_folder import TaskNamespaceFolder
from tercel.worker.namespace_staging import stage_namespace_files
from tercel.worker.services import WorkerServices
from tercel.worker.workplace import Workplace

_WORKING_DIR = "workingDir"


class TaskContext:
    """All that one attempt of a task run may reach; a `plugin_api.RunContext`.

    Args:
        variables: what expressions see.
        control: says when the attempt has to end.
        masker: knows the secrets given out in this job.
        log: the attempt's log.
    """

    __slots__ = (
        "_addresses",
        "_control",
        "_engine_directory",
        "_functions",
        "_masker",
        "_metrics",
        "_output_directory",
        "_services",
        "_variables",
        "_workplace",
        "identity",
        "logger",
    )

    def __init__(
        self,
        *,
        services: WorkerServices,
        identity: RunIdentity,
        variables: Mapping[str, object],
        workplace: Workplace,
        control: JobControl,
        masker: Masker,
        log: TaskLog,
    ) -> None:
        self._services = services
        self.identity = identity
        self._variables = variables
        self._workplace = workplace
        self._control = control
        self._masker = masker
        self.logger = log
        self._metrics = MetricBook()
        self._functions: Mapping[str, Callable[..., object]] | None = None
        self._addresses: Addresses | None = None
        self._engine_directory: Path | None = None
        self._output_directory: Path | None = None

    @property
    def working_directory(self) -> Path:
        """The task's own folder, absolute; shared inside a WorkingDirectory."""
        return self._workplace.directory

    @property
    def is_shared(self) -> bool:
        """True inside a WorkingDirectory."""
        return self._workplace.is_shared

    @property
    def engine_directory(self) -> Path:
        """A private folder of this attempt beside the working directory."""
        if self._engine_directory is None:
            self._engine_directory = self._workplace.make_engine_area()
        return self._engine_directory

    @property
    def output_directory(self) -> Path:
        """A private folder of this attempt for the files it makes."""
        if self._output_directory is None:
            self._output_directory = self._workplace.make_output_area()
        return self._output_directory

    @property
    def staged(self) -> frozenset[str]:
        """Relative paths that the engine itself put into the working directory."""
        return self._workplace.staged

    @property
    def restored(self) -> frozenset[str]:
        """Those of `staged` that came from a cache."""
        return self._workplace.restored

    @property
    def variables(self) -> Mapping[str, object]:
        """What expressions see."""
        return self._variables

    def render(self, template: str, extra: Mapping[str, object] | None = None) -> str:
        """Render a text."""
        if "{" not in template:
            return template
        if _WORKING_DIR in template:
            extra = self._with_directory(extra)
        # Text mode gives a text, whatever the template.
        return cast("str", render(template, self._visible(extra), self._services_of_expressions(), clock=monotonic))

    def render_value(self, value: object, extra: Mapping[str, object] | None = None) -> object:
        """Render every text inside maps and lists, keys included."""
        if value is None or isinstance(value, bool | int | float):
            return value
        return render_object(value, self._visible(extra), self._services_of_expressions(), clock=monotonic)

    def render_typed(self, template: str, extra: Mapping[str, object] | None = None) -> object:
        """Render a text that is one expression to its value, with its type; any other to text."""
        if _WORKING_DIR in template:
            extra = self._with_directory(extra)
        visible, functions = self._visible(extra), self._services_of_expressions()
        try:
            return render(template, visible, functions, mode="typed", clock=monotonic)
        except ExpressionError:
            if template.startswith("{{") and template.endswith("}}") and template.count("{{") == 1:
                raise
        return render(template, visible, functions, clock=monotonic)

    def _visible(self, extra: Mapping[str, object] | None) -> Mapping[str, object]:
        return {**self._variables, **extra} if extra else self._variables

    def _with_directory(self, extra: Mapping[str, object] | None) -> Mapping[str, object] | None:
        if _WORKING_DIR in self._variables or (extra and _WORKING_DIR in extra):
            return extra
        return {_WORKING_DIR: str(self.working_directory), **(extra or {})}

    def _services_of_expressions(self) -> Mapping[str, Callable[..., object]]:
        if self._functions is None:
            self._functions = ExpressionServices(
                self._services, self.identity, self._variables, self._masker
            ).functions()
        return self._functions

    @property
    def addresses(self) -> Addresses:
        """Opens what `kestra:///…` and `nsfile:///…` mean."""
        if self._addresses is None:
            self._addresses = Addresses(self._services, self.identity.namespace)
        return self._addresses

    def open_file(self, uri: str) -> BinaryIO:
        """Open a file of internal storage for reading; the caller closes it."""
        return self.addresses.get(uri)

    def fetch_file(self, uri: str, target: Path) -> None:
        """Copy a file of internal storage to *target*, which must not exist."""
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            self.addresses.copy_to(uri, descriptor)
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(descriptor)

    def save_file(self, path: Path, name: str) -> str:
        """Copy a local file into internal storage as *name* of this task run; gives its URI."""
        return self._store(name, path)

    def save_stream(self, stream: BinaryIO, name: str) -> str:
        """Store what *stream* yields as *name* of this task run; gives its URI."""
        return self._services.storage.put(self._storage_path(name), stream)

    def _store(self, name: str, file: Path | str) -> str:
        return self._services.storage.put_file(
            self._storage_path(name), file, executable=bool(os.stat(file).st_mode & 0o100)
        )

    def _storage_path(self, name: str) -> str:
        it = self.identity
        return f"{task_run_path(it.namespace, it.flow_id, it.execution_id, it.task_id, it.task_run_id)}/{name}"

    def file_size(self, uri: str) -> int:
        """The bytes of a file of internal storage."""
        return self.addresses.size(uri)

    def delete_file(self, uri: str) -> bool:
        """Remove a file of this execution or of its namespace; False where there is none."""
        found = self.addresses.namespace_file(uri)
        if found is not None:
            files, path = found
            if files.namespace != self.identity.namespace:
                raise TaskFailedError(f"{uri} is not deleted: it belongs to the namespace {files.namespace!r}.")
            return files.find(path) is not None and files.delete(path) > 0
        if not parse_uri(uri).startswith(f"{self._execution_folder}/"):
            raise TaskFailedError(f"{uri} is not deleted: it belongs neither to this execution nor to its namespace.")
        storage = self._services.storage
        if not storage.exists(uri):
            return False
        storage.delete([uri])
        return True

    def list_execution_files(self) -> list[str]:
        """The URIs of all files that this execution has in internal storage, sorted."""
        return sorted(file.uri for file in self._services.storage.list(self._execution_folder))

    @property
    def _execution_folder(self) -> str:
        it = self.identity
        return execution_path(it.namespace, it.flow_id, it.execution_id)

    def namespace_folder(self, namespace: str) -> TaskNamespaceFolder:
        """The files of a namespace."""
        return TaskNamespaceFolder(self._services.namespace_files(namespace))

    @property
    def key_values(self) -> KeyValues:
        """The key-value pairs of namespaces."""
        if self._services.key_values is None:
            raise TaskFailedError("This process keeps no key-value pairs.")
        return self._services.key_values

    @property
    def engine(self) -> EngineCalls:
        """What of the engine a task may ask for."""
        if self._services.engine is None:
            raise TaskFailedError("Here is no engine that a task could ask about executions, logs and triggers.")
        return self._services.engine

    def write_input_files(self, files: object, extra: Mapping[str, object] | None = None) -> None:
        """Write `inputFiles` (a map, or a text rendering to one) into the working directory."""
        if not files:
            return
        extra = self._with_directory(extra)
        planned = read_input_files(
            files, lambda text: self.render(text, extra), lambda value: self.render_value(value, extra)
        )
        with self._workplace.open_root() as root:
            write_input_files(planned, root, self.addresses.copy_to, self.stop_if_killed)
        for file in planned:
            self._workplace.note_staged(file.name)
        self._workplace.inputs_written()

    def write_namespace_files(self, files: NamespaceFiles) -> None:
        """Put namespace files into the working directory."""
        self.stage_namespace_files(files)

    def stage_namespace_files(self, files: NamespaceFiles) -> int:
        """Put namespace files into the working directory and give their number."""
        if not (files.enabled if isinstance(files.enabled, bool) else is_truthy_text(self.render(files.enabled))):
            return 0
        namespaces = self.render_list(files.namespaces) or [self.identity.namespace]
        with self._workplace.open_root() as root:
            names = stage_namespace_files(
                [self._services.namespace_files(namespace) for namespace in namespaces],
                self.render_list(files.include),
                self.render_list(files.exclude),
                root,
                files.if_exists,
                by_namespace=files.folder_per_namespace,
                warn=self.logger.warn,
                check=self.stop_if_killed,
            )
        for name in names:
            self._workplace.note_staged(name)
        self._workplace.inputs_written()
        return len(names)

    def render_list(self, value: object, extra: Mapping[str, object] | None = None) -> list[str]:
        """The texts of a list property, rendered, blank ones left out.

        Args:
            value: a list, or a text that renders to a list as JSON, or to one element.
            extra: variables that win over the context's.

        Raises:
            TaskFailedError: it is something else.
        """
        if isinstance(value, str):
            return [item for item in _elements(self.render(value, extra)) if item.strip()]
        if not isinstance(value, Sequence):
            raise TaskFailedError(f"A list of texts is needed here, not a {type(value).__name__}.")
        rendered = (self.render(str(item), extra) for item in cast("Sequence[object]", value))
        return [item for item in rendered if item.strip()]

    def capture(self, patterns: object, extra: Mapping[str, object] | None = None) -> dict[str, str]:
        """Store the files that globs match; relative path to URI, sorted."""
        if not patterns:
            return {}
        from tercel.worker.captures import capture_matching  # noqa: PLC0415  # most tasks capture nothing

        globs = self.render_list(patterns, self._with_directory(extra))
        return capture_matching(self.working_directory, globs, self._store_output, self.logger.warn)

    def each_file(self, patterns: object, take: Callable[[str, BinaryIO], None]) -> None:
        """Hand the files of the working directory that globs match, by relative path and open, to *take*; sorted."""
        from tercel.worker.captures import each_matching  # noqa: PLC0415  # as above

        globs = self.render_list(patterns, self._with_directory(None))
        each_matching(self.working_directory, globs, take, self.logger.warn)

    def capture_directory(self, directory: Path) -> dict[str, str]:
        """Store every regular file below *directory*; path relative to it to URI, sorted."""
        from tercel.worker.captures import capture_all  # noqa: PLC0415  # as above

        return capture_all(directory, self._store_output, self.logger.warn)

    def _store_output(self, name: str, file: Path | str) -> str:
        return self._store(f"outputs/{name}", file)

    def metric(
        self, name: str, value: float, type: MetricType = "counter", tags: Mapping[str, str] | None = None
    ) -> None:
        """Record a metric; timers in seconds."""
        self._metrics.add(name, value, type, tags)

    def add_secret(self, value: str) -> None:
        """Mask *value*, and its usual encodings, in every later log line of this job."""
        self._masker.add(value)

    def mask(self, text: str) -> str:
        """*text* with every secret known to this job masked."""
        return self._masker.mask(text)

    def stop_if_killed(self) -> None:
        """Raise TaskKilledError or TaskTimeoutError if the task has to end."""
        self._control.raise_if_stopped()

    def stopping(self, stop: Callable[[], None]) -> AbstractContextManager[None]:
        """While the block runs, a kill or timeout calls *stop*, at once and from another thread."""
        return self._control.stopping(stop)

    @contextmanager
    def contained(self) -> Generator[None]:
        """While the block runs, processes that this thread starts see nothing of tercel but what is this task's."""
        containment = self._services.containment
        if containment is None:
            yield
        elif containment.why_not:
            self.logger.debug(f"The script is not contained: {containment.why_not}.")
            yield
        else:
            self.logger.debug("The script is contained: it sees of tercel's files only its own.")
            with containment.around(self._workplace):
                yield

    def outside_path(self, path: Path) -> Path | None:
        """Where other processes of this machine see *path*, in or beside the working directory."""
        return self._workplace.outside(path)

    @property
    def resources(self) -> MutableMapping[object, Resource]:
        """What lives as long as the working directory."""
        return self._workplace.resources

    def note_leftover(self, runner_type: str, note: Mapping[str, str]) -> Callable[[], None]:
        """Have *note* given to `TaskRunner.remove_leftover` should this process die; gives what forgets it."""
        return self._services.directories.note_leftover(runner_type, note)

    def setting(self, name: str, default: object = None) -> object:
        """A setting of the worker."""
        return self._services.settings.get(name, default)

    def read_task(self, text: str) -> Task:
        """The task that a YAML text describes."""
        if self._services.catalog is None:
            raise InvariantError("There is no catalog to find a task's type in.")
        from tercel.model.source import read_part  # noqa: PLC0415  # few tasks make up others

        return read_part(text, Task, "task", self._services.catalog, missing={"id": self.identity.task_id})

    def task_runner(self, type_name: str) -> TaskRunner:
        """The task runner of that type with nothing set."""
        found = None if self._services.catalog is None else self._services.catalog.find(type_name)
        if found is None or not issubclass(found, TaskRunner):
            raise TaskFailedError(f"There is no task runner of type {type_name!r}.")
        return found(type=type_name)

    def now(self) -> datetime:
        """The current instant, UTC."""
        return self._services.clock()

    def publish(self) -> None:
        """Send on what the log and the metrics still hold; called when the attempt has ended."""
        self._metrics.publish(self._services.logs, self.identity, self._services.clock)
        self.logger.flush()


def _elements(text: str) -> list[str]:
    if not text.lstrip().startswith("["):
        return [text]
    try:
        listed = msgspec.json.decode(text, type=list[object])
    except msgspec.DecodeError:
        # A glob may start with a class: `[ab]*.csv`.
        return [text]
    return [item if isinstance(item, str) else msgspec.json.encode(item).decode() for item in listed]
