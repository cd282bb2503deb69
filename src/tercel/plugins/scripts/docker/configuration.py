"""What a task says of its container, rendered and as the engine's API takes it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from tercel.model.size import parse_size
from tercel.plugin_api import RunContext, TaskFailedError, parse_duration
from tercel.plugins.scripts.docker.engines import EngineClient
from tercel.plugins.scripts.docker.images import auth_for, auths_of
from tercel.plugins.scripts.docker.properties import DockerProperties

_GRACE_S = 10.0
_LABEL_LENGTH = 63
_NANOS = 1_000_000_000
_API_NAMES = {"deviceIds": "DeviceIDs"}
_SECRETS = frozenset({"password", "registrytoken", "identitytoken", "auth"})


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A container's settings, all texts rendered.

    Attributes:
        image: its name.
        user: "" for the image's own.
        entry_point: None for the image's own.
        grace_s: between the request to end and the end by force.
        auth: for the image's registry; None for what the worker's own configuration says.
        host: arguments of the engine's `HostConfig`, without mounts.
        ports: of the container that are opened.
    """

    image: str
    user: str
    entry_point: tuple[str, ...] | None
    grace_s: float
    auth: Mapping[str, str] | None
    host: Mapping[str, object]
    ports: Sequence[object]

    def host_config(self, client: EngineClient, **more: object) -> Mapping[str, object]:
        """The `HostConfig` of a container.

        Raises:
            TaskFailedError: a value cannot be used.
        """
        from docker.errors import DockerException  # noqa: PLC0415  # loaded by `connect`

        try:
            return client.create_host_config(**self.host, **more)
        except (DockerException, ValueError, TypeError) as error:
            raise TaskFailedError(f"The container cannot be set up so: {error}") from error


def configure(docker: DockerProperties, image: str, context: RunContext, *, keeps_entry_point: bool) -> Configuration:
    """Render what *docker* says.

    Args:
        docker: as it stands in the flow.
        image: that the task asks for, where *docker* names none.
        context: renders.
        keeps_entry_point: of the image, where *docker* names none.

    Raises:
        TaskFailedError: something cannot be used.
    """
    name = _text(docker.image, context) or image.strip()
    if not name:
        raise TaskFailedError("No image is named to run in.", "Name one by 'containerImage'.")
    if docker.volumes and not context.setting("docker.volumes"):
        raise TaskFailedError(
            "The task mounts folders of the machine by 'volumes', and this worker does not allow that.",
            "Whoever runs the worker can: TERCEL_DOCKER_VOLUMES=true.",
        )
    host = _Host(docker, context)
    if docker.entry_point is not None:
        entry_point = tuple(part for part in (context.render(one) for one in docker.entry_point) if part)
    else:
        entry_point = None if keeps_entry_point else ()
    return Configuration(
        image=name,
        user=_text(docker.user, context),
        entry_point=entry_point,
        grace_s=_grace_s(docker, context),
        auth=_auth(name, docker, context),
        host=host.arguments(),
        ports=host.ports,
    )


def _text(value: str | None, context: RunContext) -> str:
    return "" if value is None else context.render(value).strip()


def _grace_s(docker: DockerProperties, context: RunContext) -> float:
    given = _text(docker.kill_grace_period, context)
    if not given:
        return cast("float", context.setting("script.kill-grace", _GRACE_S))
    try:
        return parse_duration(given).total_seconds()
    except ValueError as error:
        raise TaskFailedError(f"'killGracePeriod' cannot be used: {error}.") from error


def _auth(image: str, docker: DockerProperties, context: RunContext) -> Mapping[str, str] | None:
    """What the image's registry is told; no log shows it, nor what is told to others."""
    auths = auths_of(context.render_value(docker.config))
    credentials = _credentials(docker, context)
    for entry in (*auths.values(), credentials):
        _hide(entry, context)
    auth = auth_for(image, auths, credentials)
    _hide(auth or {}, context)
    return auth


def _hide(login: Mapping[str, str], context: RunContext) -> None:
    for name, value in login.items():
        if name.lower() in _SECRETS and value:
            context.add_secret(value)


def _credentials(docker: DockerProperties, context: RunContext) -> Mapping[str, str]:
    if docker.credentials is None:
        return {}
    given = cast("Mapping[str, str | None]", msgspec.to_builtins(docker.credentials))
    return {name: text for name, value in given.items() if (text := _text(value, context))}


class _Host:
    """Makes the arguments of a `HostConfig`.

    Attributes:
        ports: of the container that are opened.
    """

    def __init__(self, docker: DockerProperties, context: RunContext) -> None:
        self._docker = docker
        self._context = context
        self.ports: list[object] = []

    def arguments(self) -> Mapping[str, object]:
        docker, context = self._docker, self._context
        found: dict[str, object] = {"privileged": docker.privileged}
        if docker.network_mode:
            found["network_mode"] = _text(docker.network_mode, context)
        if docker.extra_hosts:
            found["extra_hosts"] = [context.render(one) for one in docker.extra_hosts]
        if docker.volumes:
            found["binds"] = [context.render(one) for one in docker.volumes]
        if docker.shm_size:
            found["shm_size"] = self._size("shmSize", docker.shm_size)
        if docker.cpu is not None and docker.cpu.cpus is not None:
            found["nano_cpus"] = self._nano_cpus(docker.cpu.cpus)
        if docker.device_requests:
            found["device_requests"] = self._devices()
        if docker.port_bindings:
            found["port_bindings"] = self._port_bindings()
        return {**found, **self._memory()}

    def _devices(self) -> list[Mapping[str, object]]:
        """The requests as the API names their parts."""
        rendered = self._context.render_value(msgspec.to_builtins(self._docker.device_requests))
        return [
            {
                _API_NAMES.get(name, name.capitalize()): value
                for name, value in one.items()
                if value not in (None, [], {})
            }
            for one in cast("list[Mapping[str, object]]", rendered)
        ]

    def _memory(self) -> Mapping[str, object]:
        memory = self._docker.memory
        if memory is None:
            return {}
        found: dict[str, object] = {}
        for argument, name, value in (
            ("mem_limit", "memory", memory.memory),
            ("memswap_limit", "memorySwap", memory.memory_swap),
            ("mem_reservation", "memoryReservation", memory.memory_reservation),
        ):
            if value is not None:
                found[argument] = self._size(name, value)
        if memory.memory_swappiness is not None:
            found["mem_swappiness"] = self._whole("memorySwappiness", memory.memory_swappiness)
        if memory.oom_kill_disable is not None:
            found["oom_kill_disable"] = memory.oom_kill_disable
        return found

    def _size(self, name: str, value: str) -> int:
        text = _text(value, self._context)
        if text == "-1":
            return -1
        try:
            return parse_size(text)
        except ValueError as error:
            raise TaskFailedError(f"'{name}' is {text!r}, which is not {error}.") from error

    def _whole(self, name: str, value: int | str) -> int:
        text = _text(str(value), self._context)
        if not text.isdecimal():
            raise TaskFailedError(f"'{name}' is {text!r}, which is no whole number.")
        return int(text)

    def _nano_cpus(self, value: float | str) -> int:
        text = _text(str(value), self._context)
        try:
            return round(float(text) * _NANOS)
        except (ValueError, OverflowError) as error:
            raise TaskFailedError(f"'cpus' is {text!r}, which is no number.") from error

    def _port_bindings(self) -> Mapping[str, object]:
        from docker.utils import ports  # noqa: PLC0415  # loaded by `connect`

        texts = [self._context.render(one) for one in self._docker.port_bindings]
        try:
            bindings = cast("Any", ports).build_port_bindings(texts)
        except ValueError as error:
            raise TaskFailedError(f"'portBindings' cannot be used: {error}") from error
        self.ports = [tuple(port.split("/")) if "/" in port else port for port in bindings]
        return bindings


def labels_for(context: RunContext) -> Mapping[str, str]:
    """Labels that say which task run a container is of, by names that people look for."""
    variables = context.variables
    found: dict[str, str] = {}
    for label, place, name in (
        ("namespace", "flow", "namespace"),
        ("flow-id", "flow", "id"),
        ("execution-id", "execution", "id"),
        ("task-id", "task", "id"),
        ("taskrun-id", "taskrun", "id"),
        ("taskrun-attempt", "taskrun", "attemptsCount"),
    ):
        part = variables.get(place)
        value = cast("Mapping[str, object]", part).get(name) if isinstance(part, Mapping) else None
        if value is not None:
            found[f"kestra.io/{label}"] = str(value)[:_LABEL_LENGTH].rstrip("-._")
    return found
