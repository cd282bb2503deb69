"""What a WorkingDirectory is told by its YAML: values that the machine, the worker and the plugin all read."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from tercel.model.task import Dynamic, Part, Task


class NamespaceFiles(Part, frozen=True, kw_only=True):
    """Which files of which namespaces are put into the working directory; present means on."""

    enabled: bool | Dynamic = True
    include: list[Dynamic] | Dynamic = []
    exclude: list[Dynamic] | Dynamic = []
    namespaces: list[Dynamic] | Dynamic = []
    if_exists: Literal["OVERWRITE", "FAIL", "WARN", "IGNORE"] = "OVERWRITE"
    folder_per_namespace: bool = False


class Cache(Part, frozen=True, kw_only=True):
    """Files kept from one run to the next.

    Attributes:
        ttl: how long an entry is good for; None for ever.
        key: more identity, such as the hash of a lock file.
        max_size: bytes; larger sets are not saved.
    """

    patterns: Annotated[
        list[Dynamic] | Dynamic,
        msgspec.Meta(extra={"code": "workingDirectory.cache.patterns"}),
    ]
    ttl: Dynamic | None = None
    exclude: list[Dynamic] | Dynamic = []
    key: Dynamic | None = None
    save: Literal["ON_SUCCESS", "ALWAYS", "NEVER"] = "ON_SUCCESS"
    ttl_from: Literal["SAVED", "LAST_USED"] = "SAVED"
    max_size: int | None = None


class DirectoryTask(Task, frozen=True, kw_only=True):
    """Runs its `tasks` one after the other on one worker in one directory; they travel as one job."""

    tasks: list[Task] = []
    errors: list[Task] = []
    finally_: list[Task] = msgspec.field(default_factory=list[Task], name="finally")
    input_files: dict[str, object] | Dynamic | None = None
    output_files: list[Dynamic] | Dynamic = []
    namespace_files: NamespaceFiles | None = None
    cache: Cache | None = None

    def children(self) -> Sequence[Task]:
        """The tasks of all branches."""
        return (*self.tasks, *self.errors, *self.finally_)
