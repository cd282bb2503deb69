"""One container: made, started, followed, asked to end, removed; also when this process dies meanwhile."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any, Literal, NamedTuple, cast

import msgspec

from tercel.plugin_api import RunContext
from tercel.plugins.scripts.docker.configuration import Configuration, labels_for
from tercel.plugins.scripts.docker.engines import EngineClient, connect, explanation, told
from tercel.plugins.scripts.docker.images import Image
from tercel.plugins.scripts.docker.properties import DOCKER

OnOutput = Callable[[Literal["stdout", "stderr"], bytes], None]

SHELL = "/bin/sh"
_BLOCK = 1 << 16
_NAMES: Mapping[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}
_KILLED = 137
_IS_MISSING = re.compile("no such file|not found", re.IGNORECASE)
_REMOVAL_WAITS_S = (0.1, 0.5, 2.0, 0.0)
_LATER_WAITS_S = (5.0, 10.0, 20.0, 40.0, *(60.0 for _ in range(60)))
"""Between further tries, for as long as this process lives: an engine that is started anew is there again by then."""
_LOOK_S = 0.01
_LOOKS_S = 5.0

_START = """\
trap stopped=1 TERM
command -v "$1" > /dev/null 2>&1 || { echo "$0" >&2; exit 127; }
"$@"
code=$?
looks=0
goes_on() { [ "$stopped" ] || [ $((looks = looks + 1)) -le 5 ]; }
"""
ALONE = f"""{_START}\
while kill -0 -1 2> /dev/null && goes_on; do sleep 0.05 2> /dev/null || sleep 1; done
exit $code
"""
"""Runs a command as the first process of a container, which ends with it; when asked to end, all may tidy up first.

What the command has left behind has a moment to write down the rest of its output, as `tee` does.
Its name is a token that it prints where there is no such program.
"""
AMONG_OTHERS = f"""{_START}\
others() {{
    for process in /proc/[0-9]*; do
        read -r id name state parent rest 2> /dev/null < "$process/stat" || continue
        case "$id $name $state $parent" in 1\\ * | $$\\ * | *\\ Z\\ * | *\\ \\(sleep\\)\\ ?\\ 1) ;; *) return 0 ;; esac
    done
    return 1
}}
while others && goes_on; do sleep 0.05 2> /dev/null || sleep 1; done
[ "$stopped" ] || kill -KILL -1 2> /dev/null
exit $code
"""
"""The same in a container that goes on; what the command has left behind ends with it.

Engines end what it prints with this process, so that it waits for all but the first process and its `sleep`.
"""
_KEEP = """\
trap stopped=1 TERM
while [ -z "$stopped" ]; do sleep 3600 & wait $!; done
while kill -0 -1 2> /dev/null; do sleep 0.05 2> /dev/null || sleep 1; done
"""
"""First process of a container that is kept: it reaps what others leave; asked to end, it waits for all the others."""
_ASK = "kill -TERM 1; kill -TERM -1"


class UnseenError(Exception):
    """The engine does not see a folder that it was to mount."""


class NoProgramError(Exception):
    """The image does not have the program that a container was to start with."""


class Mounted(msgspec.Struct, frozen=True):
    """A folder of the worker that a container sees.

    Attributes:
        path: in the container.
        outside: where the engine finds it.
        is_read_only: nothing can be written there.
    """

    path: Path
    outside: Path
    is_read_only: bool = False


class Container:
    """A container of this process.

    Args:
        client: of its engine.
        host: the engine's address.
        image: what it is made of.
        configuration: its settings.
        context: of the task run it is made for.

    Attributes:
        id: by which the engine knows it; "" before it is made.
    """

    def __init__(
        self, client: EngineClient, host: str, image: Image, configuration: Configuration, context: RunContext
    ) -> None:
        self.client = client
        self.host = host
        self.image = image
        self.configuration = configuration
        self.name = f"tercel-{os.urandom(8).hex()}"
        self.id = ""
        self._context = context
        self._program = ""
        self._forget: Callable[[], None] = lambda: None

    def make(
        self,
        argv: Sequence[str],
        mounts: Sequence[Mounted],
        *,
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
        keeps_logs: bool = False,
    ) -> None:
        """Make it; nothing runs yet. Its entry point is the first of *argv*.

        Raises:
            UnseenError: the engine does not see a folder.
            TaskFailedError: it cannot be made.
        """
        from docker.errors import APIError  # noqa: PLC0415  # loaded by `connect`
        from docker.types import LogConfig, Mount  # noqa: PLC0415  # same

        self._program = argv[0]
        more: dict[str, object] = {
            "mounts": [
                Mount(str(one.path), str(one.outside), type="bind", read_only=one.is_read_only) for one in mounts
            ]
        }
        if not keeps_logs:
            more["log_config"] = LogConfig(type="none")
            self._forget = self._context.note_leftover(DOCKER, {"host": self.host, "name": self.name})
        with told("The container cannot be made"):
            try:
                made = self.client.create_container(
                    self.image.id,
                    list(argv[1:]),
                    entrypoint=[argv[0]],
                    name=self.name,
                    user=self.configuration.user or None,
                    environment=dict(env or {}),
                    working_dir=None if directory is None else str(directory),
                    labels=dict(labels_for(self._context)),
                    ports=list(self.configuration.ports) or None,
                    host_config=self.configuration.host_config(self.client, **more),
                )
                self.id = made["Id"]
            except APIError as error:
                reason = explanation(error)
                if "bind source path does not exist" in reason or ("statfs" in reason and "no such file" in reason):
                    raise UnseenError(reason) from error
                raise

    def start(self) -> None:
        """Start its first process.

        Raises:
            NoProgramError: there is no such program in the image.
            TaskFailedError: it does not start.
        """
        from docker.errors import APIError  # noqa: PLC0415  # loaded by `connect`

        with told("The container cannot be started"):
            try:
                self.client.start(self.name)
            except APIError as error:
                reason = explanation(error).replace("\\", "")
                if re.search(rf'["`]{re.escape(self._program)}["`]', reason) and _IS_MISSING.search(reason):
                    raise NoProgramError from error
                raise

    def attach(self) -> "Stream":
        """What its first process prints, from its start on."""
        with told("The container's output cannot be read"):
            socket = self.client.attach_socket(self.name, params={"stdout": 1, "stderr": 1, "stream": 1})
        return _stream(socket)

    def wait(self) -> int:
        """Wait for its first process to end; its exit code."""
        with told("The container's end cannot be waited for"):
            return int(self.client.wait(self.name, timeout=None)["StatusCode"])

    def begin(self, argv: Sequence[str], env: Mapping[str, str], directory: Path) -> "tuple[str, Stream]":
        """Start a command in it; the command's id and what it prints.

        Raises:
            TaskFailedError: it cannot be started, or the container has ended.
        """
        with told("The command cannot be started in the container"):
            made = self.client.exec_create(
                self.name, list(argv), environment=dict(env), workdir=str(directory), user=self.configuration.user
            )
            return made["Id"], _stream(self.client.exec_start(made["Id"], socket=True))

    def exit_code(self, command: str) -> int:
        """The exit code of a command that has closed what it prints to."""
        from docker.errors import NotFound  # noqa: PLC0415  # loaded by `connect`

        deadline = monotonic() + _LOOKS_S
        with told("The command's exit code cannot be had"):
            while True:
                try:
                    facts = self.client.exec_inspect(command)
                except NotFound:
                    return _KILLED
                if not facts.get("Running") or monotonic() > deadline:
                    code = facts.get("ExitCode")
                    return code if isinstance(code, int) else _KILLED
                sleep(_LOOK_S)

    def ask_to_end(self, *, has_shell: bool) -> None:
        """Ask every process in it to end; never raises."""
        from docker.errors import DockerException  # noqa: PLC0415  # loaded by `connect`
        from requests.exceptions import RequestException  # noqa: PLC0415  # same

        with suppress(DockerException, RequestException, OSError):
            if has_shell:
                made = self.client.exec_create(self.name, [SHELL, "-c", _ASK], user="0")
                self.client.exec_start(made["Id"], detach=True)
            else:
                self.client.kill(self.name, "SIGTERM")

    def end_by_force(self) -> None:
        """End every process in it; never raises."""
        from docker.errors import DockerException  # noqa: PLC0415  # loaded by `connect`
        from requests.exceptions import RequestException  # noqa: PLC0415  # same

        with suppress(DockerException, RequestException, OSError):
            self.client.kill(self.name)

    def lives(self) -> bool:
        """Whether it is there and its first process runs."""
        from docker.errors import NotFound  # noqa: PLC0415  # loaded by `connect`

        with told("The container cannot be looked at"):
            try:
                return bool(self.client.inspect_container(self.name)["State"].get("Running"))
            except NotFound:
                return False

    def end_and_remove(self, *, removes: bool) -> None:
        """End it, and remove it in its own time; should that fail, whoever cleans up after this process does it.

        Args:
            removes: False to leave it there, ended.
        """
        if removes:
            Thread(target=self.close, name="tercel-remove", daemon=False).start()
        else:
            self.end_by_force()
            self._forget()

    def close(self) -> None:
        """End and remove it, in its own time where the engine is away; never raises."""
        for wait_s in _REMOVAL_WAITS_S:
            if self._removed():
                return
            sleep(wait_s)  # engines refuse what is just ending by itself
        Thread(target=self._close_later, name="tercel-remove-later", daemon=True).start()

    def _close_later(self) -> None:
        for wait_s in _LATER_WAITS_S:
            sleep(wait_s)
            if self._removed():
                return

    def _removed(self) -> bool:
        with suppress(Exception):  # in the end it is left for the janitor
            remove_container(self.host, self.name)
            self._forget()
            return True
        return False


def kept_argv() -> list[str]:
    """The first process of a container that is kept for many commands."""
    return [SHELL, "-c", _KEEP]


def remove_container(host: str, name: str) -> None:
    """End and remove a container; one that is not there is fine.

    Raises:
        TaskFailedError: the engine does not answer, or will not.
    """
    client = connect(host)
    from docker.errors import APIError, NotFound  # noqa: PLC0415  # loaded by `connect`

    with told("The container cannot be removed"):
        try:
            client.remove_container(name, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if "already in progress" not in explanation(error):
                raise


def _stream(socket: object) -> "Stream":
    """What an engine sends on a connection; what came with the head of its answer included.

    The library hands out the bare socket, past the buffer that may hold the beginning.
    """
    response = cast("Any", socket)._response
    buffered = response.raw._fp.fp
    buffered.raw._sock.settimeout(None)  # a command may be silent for as long as it likes
    return Stream(buffered.read1, response.close)


class Stream(NamedTuple):
    """What an engine sends.

    Attributes:
        read1: gives at most so many bytes as soon as there are some; none at the end.
        close: lets go of the connection.
    """

    read1: Callable[[int], bytes]
    close: Callable[[], None]


def follow(stream: Stream, on_output: OnOutput) -> None:
    """Hand on what comes, cut anywhere, until the end.

    Source of the frames: https://docs.docker.com/reference/api/engine/, "Attach to a container": kind, three zeros,
    length in four bytes, content.
    """
    head = b""
    kind, rest = 0, 0
    try:
        for block in _blocks(stream):
            place = 0
            while place < len(block):
                if rest == 0:
                    taken = block[place : place + 8 - len(head)]
                    head += taken
                    place += len(taken)
                    if len(head) == 8:
                        kind, rest, head = head[0], int.from_bytes(head[4:]), b""
                    continue
                part = block[place : place + rest]
                rest -= len(part)
                place += len(part)
                if kind in _NAMES:
                    on_output(_NAMES[kind], part)
    finally:
        stream.close()


def _blocks(stream: Stream) -> Iterator[bytes]:
    with suppress(ConnectionError):  # the engine has cut it off: the exit code tells the rest
        while block := stream.read1(_BLOCK):
            yield block
