"""What a worker needs from the rest of tercel to run jobs, gathered in one value."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tercel.model import LogEntry
from tercel.model.catalog import Catalog
from tercel.plugin_api import EngineCalls, KeyValues
from tercel.secrets import Masker, Secrets
from tercel.storage import InternalStorage
from tercel.storage.namespace_files import NamespaceFiles, StoredNamespaceFiles
from tercel.worker.directories import Directories
from tercel.worker.log_capture import LogSink

if TYPE_CHECKING:
    # Only tasks with files load what keeps them.
    from tercel.worker.containment import Containment
    from tercel.worker.layer_services import LayerServices


class WorkerServices:
    """What jobs reach outside of themselves.

    Args:
        storage: internal storage.
        namespace_files: gives the files of a namespace by its name; None takes them from *storage*.
        logs: takes log entries and metrics.
        directories: makes the private directories of task runs.
        secrets: what `secret('NAME')` gives.
        worker_id: noted in attempts.
        settings: by name, such as `script.warning-on-std-err`.
        key_values: the key-value pairs of namespaces; None where there are none.
        engine: what tasks may ask of the engine; None where there is none to be asked.
        error_logs: the ERROR entries of an execution so far; None gives none.
        clock: the current instant in UTC.
        catalog: finds task runners by type; None finds none.
        layers: opens what makes directories out of layers, when the first is needed; None for plain directories,
            without caches.
        masker: knows every secret that was used in this process; None makes one.
        containment: hides tercel's own files from scripts; None hides nothing.
    """

    __slots__ = (
        "catalog",
        "clock",
        "containment",
        "directories",
        "engine",
        "error_logs",
        "key_values",
        "layers",
        "logs",
        "masker",
        "namespace_files",
        "secrets",
        "settings",
        "storage",
        "worker_id",
    )

    def __init__(
        self,
        *,
        storage: InternalStorage,
        logs: LogSink,
        directories: Directories,
        secrets: Secrets,
        worker_id: str = "",
        settings: Mapping[str, object] | None = None,
        namespace_files: Callable[[str], NamespaceFiles] | None = None,
        key_values: KeyValues | None = None,
        engine: EngineCalls | None = None,
        error_logs: Callable[[str], Sequence[LogEntry]] | None = None,
        clock: Callable[[], datetime] | None = None,
        catalog: Catalog | None = None,
        layers: Callable[[], "LayerServices"] | None = None,
        masker: Masker | None = None,
        containment: "Containment | None" = None,
    ) -> None:
        self.storage = storage
        self.logs = logs
        self.directories = directories
        self.secrets = secrets
        self.worker_id = worker_id
        self.settings: Mapping[str, object] = settings or {}
        self.namespace_files: Callable[[str], NamespaceFiles] = namespace_files or self._stored_namespace_files
        self.key_values = key_values
        self.engine = engine
        self.error_logs = error_logs
        self.clock = clock or utc_now
        self.catalog = catalog
        self.layers = layers
        self.masker = masker or Masker()
        self.containment = containment

    def _stored_namespace_files(self, namespace: str) -> NamespaceFiles:
        return StoredNamespaceFiles(self.storage, namespace)


def utc_now() -> datetime:
    """The current instant."""
    return datetime.now(UTC)
