"""Reading what an address means: `kestra:///…` in internal storage, `nsfile://…` among namespace files."""

import re
from typing import BinaryIO

from tercel.errors import StorageError
from tercel.storage import SCHEME, parse_uri
from tercel.storage.namespace_files import NamespaceFiles
from tercel.worker.services import WorkerServices

NAMESPACE_SCHEME = "nsfile://"
_FILES = "/_files/"
# A captured file may lie in a folder of that name too.
_OF_EXECUTION = re.compile(r"kestra://(?:(?!/_files/).)*/executions/[^/]+/(?:tasks|inputs|trigger)/[^/]+/")


class Addresses:
    """Opens files by address for jobs of one namespace, which `nsfile:///…` means.

    Every method raises NotFoundError where there is no such file and StorageError where an address is refused.
    """

    __slots__ = ("_namespace", "_services")

    def __init__(self, services: WorkerServices, namespace: str) -> None:
        self._services = services
        self._namespace = namespace

    def get(self, uri: str, version: int | None = None) -> BinaryIO:
        """Open for reading; the caller closes it. Only a namespace file has a *version* other than the latest."""
        found = self.namespace_file(uri)
        if found is not None:
            return found[0].get(found[1], version)
        if version is not None:
            raise StorageError(f"{uri} has no versions: only namespace files have.")
        return self._services.storage.get(uri)

    def copy_to(self, uri: str, fd: int) -> int:
        """Write the content to a file descriptor and give the number of bytes."""
        found = self.namespace_file(uri)
        return self._services.storage.copy_to(uri, fd) if found is None else found[0].copy_to(found[1], fd)

    def size(self, uri: str) -> int:
        """The number of bytes."""
        found = self.namespace_file(uri)
        if found is None:
            return self._services.storage.stat(uri).size
        file = found[0].find(found[1])
        if file is None:
            # Opening it says why it is not there.
            found[0].get(found[1]).close()
            return 0
        return file.size

    def namespace_file(self, uri: str) -> tuple[NamespaceFiles, str] | None:
        """The namespace files and the path in them that *uri* means; None for any other file of internal storage."""
        if uri.startswith(NAMESPACE_SCHEME):
            owner, slash, path = uri.removeprefix(NAMESPACE_SCHEME).partition("/")
            if not slash:
                raise StorageError(f"{uri!r} names no file.", "Write nsfile:///path or nsfile://namespace/path.")
            return self._services.namespace_files(owner or self._namespace), path
        if _FILES in uri and uri.startswith(SCHEME) and not _OF_EXECUTION.match(uri):
            # Their tree need not be part of internal storage: `--namespace-files` takes it from a folder.
            owner, _, path = parse_uri(uri).partition(_FILES)
            return self._services.namespace_files(owner.strip("/").replace("/", ".")), path
        return None
