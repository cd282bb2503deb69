"""Finding a container engine and talking to it by the Docker API. The library is loaded when the first is asked."""

import os
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import Any, Protocol, cast

from tercel.plugin_api import MissingToolError, TaskFailedError

_TIMEOUT_S = 60
"""How long an engine may take for an answer; nobody waits so long for what a container prints."""
_CONNECTIONS = 64


class EngineClient(Protocol):
    """What of the library's `APIClient`, which has no types, is used."""

    def create_host_config(self, **settings: object) -> Mapping[str, object]: ...
    def create_container(self, image: str, command: list[str], **settings: object) -> Mapping[str, str]: ...
    def inspect_container(self, container: str) -> Mapping[str, Mapping[str, object]]: ...
    def inspect_image(self, image: str) -> Mapping[str, object]: ...
    def start(self, container: str) -> None: ...
    def wait(self, container: str, timeout: float | None) -> Mapping[str, int]: ...
    def kill(self, container: str, signal: str | None = None) -> None: ...
    def remove_container(self, container: str, *, v: bool, force: bool) -> None: ...
    def attach_socket(self, container: str, params: Mapping[str, int]) -> object: ...
    def exec_create(self, container: str, cmd: list[str], **settings: object) -> Mapping[str, str]: ...
    def exec_start(self, exec_id: str, *, socket: bool = False, detach: bool = False) -> object: ...
    def exec_inspect(self, exec_id: str) -> Mapping[str, object]: ...
    def pull(self, repository: str, **settings: object) -> Iterator[Mapping[str, object]]: ...
    def put_archive(self, container: str, path: str, data: Iterator[bytes]) -> bool: ...
    def get_archive(self, container: str, path: str, chunk_size: int = 1 << 20) -> tuple[Iterator[bytes], object]: ...


_clients: dict[str, EngineClient] = {}
_lock = Lock()


class NoEngineError(TaskFailedError):
    """No engine answers."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"This task is to run in a container, and no engine answers at {host}: {reason}",
            "Start one (Docker, or Podman with its socket; DOCKER_HOST says where), or run scripts as processes of "
            "this machine: `tercel run --task-runner process`, or `runner: PROCESS` on the task.",
        )


def find_host(given: str, environment: Mapping[str, str]) -> str:
    """The address of the engine: what the task says, else `DOCKER_HOST`, else the first socket that is there.

    Args:
        given: the task's `host`; may be empty.
        environment: such as `os.environ`.
    """
    if given.strip():
        return given.strip()
    if environment.get("DOCKER_HOST"):
        return environment["DOCKER_HOST"]
    if os.name == "nt":
        return "npipe:////./pipe/docker_engine"
    sockets = ["/var/run/docker.sock", "/dind/docker.sock"]
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime:
        sockets += [f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock"]
    sockets += [os.path.expanduser("~/.docker/run/docker.sock"), "/run/podman/podman.sock"]
    return "unix://" + next((path for path in sockets if os.path.exists(path)), sockets[0])


def connect(host: str) -> EngineClient:
    """The client for an engine; the same for all tasks of this process.

    Raises:
        MissingToolError: the library is not installed.
        NoEngineError: no engine answers.
    """
    _knock(host)
    with _lock:
        known = _clients.get(host)
    if known is not None:
        return known
    try:
        from docker.api.client import APIClient  # noqa: PLC0415  # an extra, and slow to load
        from docker.constants import MINIMUM_DOCKER_API_VERSION  # noqa: PLC0415  # same
        from docker.errors import DockerException  # noqa: PLC0415  # same
        from docker.utils import kwargs_from_env  # noqa: PLC0415  # same
        from requests.exceptions import RequestException  # noqa: PLC0415  # same
    except ImportError as error:
        raise MissingToolError(
            "This task is to run in a container, and the library for that is not installed.",
            "Install it: pip install 'tercel[docker]'. Or run scripts as processes of this machine: "
            "`tercel run --task-runner process`.",
        ) from error
    try:
        tls = kwargs_from_env().get("tls", False) if host.startswith(("tcp:", "https:")) else False
        make = partial(
            cast("Any", APIClient),
            base_url=host,
            timeout=_TIMEOUT_S,
            tls=tls,
            num_pools=_CONNECTIONS,
            max_pool_size=_CONNECTIONS,
        )
        if tls:
            asking = _with_own_authority(make(version=MINIMUM_DOCKER_API_VERSION))
            version = asking.version(api_version=False)["ApiVersion"]
            asking.close()
            client: EngineClient = _with_own_authority(make(version=version))
        else:
            client = make(version="auto")
    except (DockerException, RequestException, KeyError) as error:
        raise NoEngineError(host, reason_of(error)) from error
    with _lock:
        return _clients.setdefault(host, client)


def _with_own_authority(client: Any) -> Any:
    """*client*, for which no variable such as `REQUESTS_CA_BUNDLE` replaces what `DOCKER_CERT_PATH` says to trust."""
    merge = client.merge_environment_settings

    def merged(url: str, proxies: object, stream: object, verify: object, cert: object) -> object:
        return merge(url, proxies, stream, client.verify if verify is None else verify, cert)

    client.merge_environment_settings = merged
    return client


def _knock(host: str) -> None:
    """See whether somebody listens at a socket: quicker than to load the library, which would leave its own open.

    Raises:
        NoEngineError: nobody does.
    """
    if host.startswith("unix://"):
        try:
            with socket.socket(socket.AF_UNIX) as knocking:
                knocking.connect("/" + host.removeprefix("unix://").lstrip("/"))
        except OSError as error:
            raise NoEngineError(host, reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """What is at the bottom of an error of the library, in one line."""
    text = str(error)
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            text = inner.strerror if inner.filename is None else f"{inner.strerror}: {inner.filename}"
        inner = inner.__context__
    return f"{text.splitlines()[0].rstrip('.') if text else type(error).__name__}."


@contextmanager
def told(what: str) -> Generator[None]:
    """Make errors of the engine, or of the way to it, failures of the task.

    Args:
        what: the beginning of the sentence, such as "The container cannot be started".
    """
    from docker.errors import APIError, DockerException  # noqa: PLC0415  # loaded by `connect`
    from requests.exceptions import RequestException  # noqa: PLC0415  # same
    from urllib3.exceptions import HTTPError  # noqa: PLC0415  # same

    try:
        yield
    except APIError as error:
        raise TaskFailedError(f"{what}: {explanation(error)}") from error
    except (DockerException, RequestException, HTTPError, ConnectionError, TimeoutError) as error:
        raise TaskFailedError(f"{what}: the engine does not answer: {reason_of(error)}") from error
    except OSError as error:  # a file of the worker's
        raise TaskFailedError(f"{what}: {reason_of(error)}") from error


def explanation(error: Exception) -> str:
    """What the engine says is wrong."""
    text = getattr(error, "explanation", None) or str(error)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return str(text).strip()
