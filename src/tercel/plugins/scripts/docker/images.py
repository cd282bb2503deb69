"""Images: whether one is there, who may pull it, and one pull at a time of each, seen in the log of all who wait."""

import base64
import binascii
import json
from collections.abc import Mapping
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, NamedTuple, cast

from tercel.plugin_api import RunContext, TaskFailedError
from tercel.plugins.scripts.docker.engines import EngineClient, explanation, told

_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "hub.docker.com"})
_CONFIG_NAMES = {"identitytoken": "identityToken", "registrytoken": "registryToken"}
_TRIES = 5
_FIRST_WAIT_S = 5.0
_LONGEST_WAIT_S = 120.0
_TELL_EVERY_S = 10.0


class Image(NamedTuple):
    """What of an image matters to a run.

    Attributes:
        id: digest of its content.
        user: whom its commands run as; "" is root.
        entry_point: what gets a container's command as arguments.
    """

    id: str
    user: str
    entry_point: tuple[str, ...]


def ensure_image(
    client: EngineClient, name: str, policy: str, auth: Mapping[str, str] | None, context: RunContext
) -> Image:
    """The image of that name, pulled where *policy* asks for it.

    Args:
        client: of the engine.
        name: as in flows.
        policy: ALWAYS, IF_NOT_PRESENT or NEVER.
        auth: for its registry; None for what the worker's own Docker configuration says.
        context: gets to see how it goes, and says when to give up.

    Raises:
        TaskFailedError: it cannot be had.
        TaskKilledError: the task has to end; a pull that others wait for goes on.
    """
    found = None if policy == "ALWAYS" else _inspect(client, name)
    if found is not None:
        return found
    if policy == "NEVER":
        raise TaskFailedError(
            f"The image {name!r} is not there, and 'pullPolicy' is NEVER.", f"Pull or build it: docker pull {name}"
        )
    _pulls.wait_for(client, name, auth, context)
    found = _inspect(client, name)
    if found is None:
        raise TaskFailedError(f"The image {name!r} is not there after it was pulled.")
    return found


def _inspect(client: EngineClient, name: str) -> Image | None:
    from docker.errors import NotFound  # noqa: PLC0415  # loaded by `connect`

    with told(f"The image {name!r} cannot be looked at"):
        try:
            facts = client.inspect_image(name)
        except NotFound:
            return None
    config = cast("Mapping[str, Any]", facts.get("Config") or {})
    return Image(str(facts["Id"]), config.get("User") or "", tuple(config.get("Entrypoint") or ()))


class _Pull:
    """One pull of one image, and the queues of those who wait for it."""

    def __init__(self) -> None:
        self.waiting: list[SimpleQueue[str | None]] = []
        self.error = ""

    def tell(self, line: str | None) -> None:
        """Tell all who wait; None is the end."""
        for queue in list(self.waiting):
            queue.put(line)


class _Pulls:
    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[tuple[int, str, str], _Pull] = {}

    def wait_for(self, client: EngineClient, name: str, auth: Mapping[str, str] | None, context: RunContext) -> None:
        queue: SimpleQueue[str | None] = SimpleQueue()
        key = (id(client), name, json.dumps(auth, sort_keys=True))
        with self._lock:
            pull = self._running.get(key)
            if pull is None:
                pull = self._running[key] = _Pull()
                thread = Thread(target=self._run, args=(client, key, auth, pull), name="tercel-pull", daemon=True)
            else:
                thread = None
            pull.waiting.append(queue)
        context.logger.info(f"Pulling the image {name}" + (" (a pull is under way)." if thread is None else "."))
        if thread is not None:
            thread.start()
        try:
            with context.stopping(lambda: queue.put(None)):
                while (line := queue.get()) is not None:
                    context.logger.info(line)
        finally:
            pull.waiting.remove(queue)
        context.stop_if_killed()
        if pull.error:
            raise TaskFailedError(
                f"The image {name!r} cannot be pulled: {context.mask(pull.error)}",
                "Check its name, and 'credentials' where its registry is private.",
            )
        context.logger.info(f"The image {name} is there.")

    def _run(
        self, client: EngineClient, key: tuple[int, str, str], auth: Mapping[str, str] | None, pull: _Pull
    ) -> None:
        try:
            pull.error = _pull(client, key[1], auth, pull)
        except Exception as error:  # of this thread nobody else would hear
            pull.error = str(error)
        finally:
            with self._lock:
                del self._running[key]
            pull.tell(None)


_pulls = _Pulls()


def _pull(client: EngineClient, name: str, auth: Mapping[str, str] | None, pull: _Pull) -> str:
    """Pull, again where the registry or the way to it has a bad moment; gives why it did not work, else ""."""
    from docker.errors import APIError  # noqa: PLC0415  # loaded by `connect`
    from requests.exceptions import RequestException  # noqa: PLC0415  # same
    from urllib3.exceptions import HTTPError  # noqa: PLC0415  # same

    wait_s = _FIRST_WAIT_S
    for attempt in range(1, _TRIES + 1):
        try:
            return _pull_once(client, name, auth, pull)
        except APIError as error:
            reason = explanation(error)
            is_passing = error.is_server_error() and not _is_final(reason)
        except (RequestException, HTTPError, ConnectionError, TimeoutError) as error:
            reason, is_passing = f"the engine does not answer: {error}", True
        if not is_passing or attempt == _TRIES or not pull.waiting:
            return reason
        pull.tell(f"The pull of {name} failed: {reason} Trying again in {wait_s:g} s.")
        _sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
    return ""


def _is_final(reason: str) -> bool:
    """Engines say 500 for much that will not pass."""
    return any(word in reason for word in ("no basic auth", "unauthorized", "denied", "not found", "manifest unknown"))


def _sleep(seconds: float) -> None:
    from time import sleep  # noqa: PLC0415  # so that a test can do without

    sleep(seconds)


def _pull_once(client: EngineClient, name: str, auth: Mapping[str, str] | None, pull: _Pull) -> str:
    layers: dict[str, str] = {}
    told_at = monotonic()
    stream = client.pull(name, stream=True, decode=True, auth_config=None if auth is None else dict(auth))
    for event in stream:
        if event.get("error"):
            return str(event["error"])
        if event.get("id") and event.get("status"):
            layers[str(event["id"])] = str(event["status"])
        if layers and monotonic() - told_at >= _TELL_EVERY_S:
            told_at = monotonic()
            done = sum(status in {"Pull complete", "Already exists"} for status in layers.values())
            pull.tell(f"Pulling the image {name}: {done} of {len(layers)} layers.")
    return ""


def registry_of(image: str) -> str:
    """The registry that an image's name leads to, as its credentials are filed.

    Example:
        >>> registry_of("ghcr.io/a/b:1"), registry_of("ubuntu")
        ('ghcr.io', 'https://index.docker.io/v1/')
    """
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return _HUB if not is_host or first in _HUB_NAMES else first


def _filed_as(registry: str) -> str:
    """*registry* without scheme and version, the Hub's other names as its own."""
    bare = registry.strip().removeprefix("https://").removeprefix("http://").rstrip("/")
    bare = bare.removesuffix("/v2").removesuffix("/v1")
    return _HUB if bare in _HUB_NAMES else bare


def auths_of(config: object) -> Mapping[str, Mapping[str, str]]:
    """The logins in a Docker `config.json`, by registry.

    Args:
        config: its content, as a map or as JSON; None where there is none.

    Raises:
        TaskFailedError: it is none.
    """
    if isinstance(config, str):
        try:
            config = json.loads(config) if config.strip() else None
        except ValueError as error:
            raise TaskFailedError(f"'config' is no JSON: {error}", "Write what is in a Docker config.json.") from error
    if config is None:
        return {}
    auths = cast("Mapping[str, object]", config).get("auths") if isinstance(config, Mapping) else None
    if not isinstance(auths, Mapping):
        raise TaskFailedError("'config' has no 'auths'.", "Write what is in a Docker config.json.")
    return {
        registry: {
            _CONFIG_NAMES.get(name, name): str(value)
            for name, value in cast("Mapping[str, object]", entry).items()
            if value
        }
        for registry, entry in cast("Mapping[str, object]", auths).items()
        if isinstance(entry, Mapping)
    }


def auth_for(
    image: str, auths: Mapping[str, Mapping[str, str]], credentials: Mapping[str, str]
) -> dict[str, str] | None:
    """What the registry of *image* is told; None where the task says nothing of it.

    Args:
        image: its name.
        auths: of `auths_of`.
        credentials: `registry`, `username`, `password`, `registryToken`, `identityToken`, `auth`; rendered.

    Raises:
        TaskFailedError: an `auth` cannot be read.
    """
    registry = registry_of(image)
    filed = _filed_as(registry)
    given: dict[str, str] = {}
    for name, entry in auths.items():
        if _filed_as(name) == filed:
            given = _login(entry)
    if _filed_as(credentials.get("registry") or registry) == filed:
        given |= _login({name: value for name, value in credentials.items() if name != "registry"})
    if not given:
        return None
    names = {name: in_config for in_config, name in _CONFIG_NAMES.items()}
    return {**{names.get(name, name): value for name, value in given.items()}, "serveraddress": registry}


def _login(entry: Mapping[str, str]) -> dict[str, str]:
    """*entry* with user and password in the place of what stands for both."""
    login = {name: value for name, value in entry.items() if name != "auth"}
    if entry.get("auth") and not login.get("username"):
        try:
            login["username"], colon, login["password"] = base64.b64decode(entry["auth"]).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise TaskFailedError("'auth' of the registry's credentials is not the Base64 form of USER:PASSWORD.")
    return login
