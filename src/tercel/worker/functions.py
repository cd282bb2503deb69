"""The functions of expressions that reach outside: secrets, keys, files, logs, chance and time."""

import os
import time
from collections.abc import Callable, Mapping
from typing import cast

from tercel.errors import ExpressionError, NotFoundError
from tercel.expression.budget import MAX_TEXT
from tercel.model.execution import base62
from tercel.secrets import Masker
from tercel.storage import SCHEME, execution_path, format_uri, namespace_file_path, namespace_path, parse_uri
from tercel.storage.namespace_files import clean_path
from tercel.worker.addresses import NAMESPACE_SCHEME, Addresses
from tercel.worker.log_capture import RunIdentity
from tercel.worker.services import WorkerServices


class ExpressionServices:
    """What `secret()`, `kv()`, `read()` and the like give to one task run.

    Args:
        variables: of the task run; say which execution's files may be read.
        masker: is told of every secret given out.
    """

    __slots__ = ("_chance", "_execution_id", "_files", "_flow_id", "_masker", "_namespace", "_services", "_variables")

    def __init__(
        self,
        services: WorkerServices,
        identity: RunIdentity,
        variables: Mapping[str, object],
        masker: Masker,
    ) -> None:
        self._services = services
        self._namespace = identity.namespace
        self._flow_id = identity.flow_id
        self._execution_id = identity.execution_id
        self._variables = variables
        self._masker = masker
        self._files = Addresses(services, identity.namespace)
        self._chance = {"now": services.clock, **_CHANCE}

    def functions(self) -> dict[str, Callable[..., object]]:
        """The services by the names that `expression` knows them by."""
        return {
            "secret": self.secret,
            "kv": self.kv,
            "read": self.read,
            "file_uri": self.file_uri,
            "file_size": self.file_size,
            "file_exists": self.file_exists,
            "is_file_empty": self.is_file_empty,
            "error_logs": self.error_logs,
            **self._chance,
        }

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        """A secret's value, which is masked in the log from then on; one of its JSON members with *subkey*."""
        del namespace
        value = self._services.secrets.find(key)
        if value is None:
            raise ExpressionError(
                f"There is no secret {key!r}: put it, Base64-encoded, into the environment variable "
                f"SECRET_{key.upper()}."
            )
        self._masker.add(value)
        return value if subkey is None else self._member(key, value, subkey)

    def _member(self, key: str, value: str, subkey: str) -> str:
        from json import loads  # noqa: PLC0415  # few secrets are maps

        try:
            members = loads(value)
        except ValueError:
            members = None
        if not isinstance(members, dict) or subkey not in members:
            raise ExpressionError(f"The secret {key!r} is not a JSON object with a member {subkey!r}.")
        member = cast("dict[str, object]", members)[subkey]
        text = member if isinstance(member, str) else str(member)
        self._masker.add(text)
        return text

    def kv(self, key: str, namespace: str | None = None, error_on_missing: object = None) -> object:
        """The value stored under a key of a namespace; null where there is none."""
        place = namespace or self._namespace
        found = None if self._services.key_values is None else self._services.key_values.find(place, key)
        if found is None and error_on_missing:
            raise ExpressionError(f"There is no key {key!r} in namespace {place!r}, or it has expired.")
        return found

    def read(self, path: str, namespace: str | None = None, version: int | None = None) -> str:
        """The text of a namespace file, of its *version*, or of a file of this execution or of the one before it."""
        with self._files.get(self._readable(path, namespace), version) as content:
            raw = content.read(MAX_TEXT * 4 + 1)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ExpressionError(f"read({path!r}) fails: the file is not UTF-8 text.") from error

    def file_uri(self, path: str, namespace: str | None = None) -> str:
        """The address of a namespace file, whether it is there or not."""
        return format_uri(namespace_file_path(namespace or self._namespace, clean_path(path)))

    def file_size(self, path: str, namespace: str | None = None) -> int:
        """The bytes of a file that `read` could read."""
        return self._files.size(self._readable(path, namespace))

    def file_exists(self, path: str, namespace: str | None = None) -> bool:
        """Whether there is such a file."""
        try:
            self._files.size(self._readable(path, namespace))
        except NotFoundError:
            return False
        return True

    def is_file_empty(self, path: str, namespace: str | None = None) -> bool:
        """Whether a file has no content."""
        return self.file_size(path, namespace) == 0

    def error_logs(self) -> list[dict[str, object]]:
        """The ERROR entries of the execution so far."""
        if self._services.error_logs is None:
            return []
        return [
            {
                "taskId": entry.task_id,
                "taskRunId": entry.task_run_id,
                "attemptNumber": entry.attempt,
                "timestamp": entry.date,
                "level": entry.level.value,
                "message": entry.message,
                "executionId": entry.execution_id,
                "flowId": self._flow_id,
                "namespace": self._namespace,
            }
            for entry in self._services.error_logs(self._execution_id)
        ]

    def _readable(self, path: str, namespace: str | None) -> str:
        """The address that *path* means, if expressions may read it."""
        if path.startswith(NAMESPACE_SCHEME):
            return path
        if not path.startswith(SCHEME):
            return self.file_uri(path, namespace)
        if not parse_uri(path).startswith(tuple(self._readable_folders())):
            raise ExpressionError(f"{path} belongs to another execution, whose files are not for this one to read.")
        return path

    def _readable_folders(self) -> list[str]:
        folders = [f"{execution_path(self._namespace, self._flow_id, self._execution_id)}/"]
        match self._variables.get("execution"):
            case {"originalId": str(original)}:
                folders.append(f"{execution_path(self._namespace, self._flow_id, original)}/")
            case _:
                pass
        match self._variables.get("trigger"):
            case {"executionId": str(execution_id), "namespace": str(namespace), "flowId": str(flow_id)}:
                folders.append(f"{execution_path(namespace, flow_id, execution_id)}/")
            case _:
                pass
        folders.append(f"{namespace_path(self._namespace)}/_files/")
        return folders


def _random_uuid() -> str:
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def random_id() -> str:
    """A random id, 22 characters of letters and digits."""
    return base62(int.from_bytes(os.urandom(16)), 22)


def _random_int(lower: int, upper: int) -> int:
    span = upper - lower
    # So many bits more than the span has that no number is likelier than another by more than 2^-64.
    return lower + (int.from_bytes(os.urandom(span.bit_length() // 8 + 9)) % span if span else 0)


def _nano_id(length: int | None = None, alphabet: str | None = None) -> str:
    letters = alphabet or _NANO_ALPHABET
    return "".join(letters[_random_int(0, len(letters))] for _ in range(_NANO_LENGTH if length is None else length))


def _ksuid() -> str:
    seconds = int(time.time()) - _KSUID_EPOCH_S
    return base62(int.from_bytes(seconds.to_bytes(4) + os.urandom(16)), 27)


def _random_port() -> int:
    import socket  # noqa: PLC0415  # hardly ever asked for

    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


_NANO_ALPHABET = "_-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NANO_LENGTH = 21
_KSUID_EPOCH_S = 1_400_000_000
_CHANCE: dict[str, Callable[..., object]] = {
    "uuid": _random_uuid,
    "id": random_id,
    "random_int": _random_int,
    "nano_id": _nano_id,
    "ksuid": _ksuid,
    "random_port": _random_port,
    "random_bytes": os.urandom,
}
