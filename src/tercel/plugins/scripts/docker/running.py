"""One command in a container: alone in one of its own, or among others in one that a WorkingDirectory keeps."""

import io
import os
import shlex
import tarfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import Literal

import msgspec

from tercel.plugin_api import Command, RunContext, TaskFailedError, TaskKilledError, TaskTimeoutError, handed_down
from tercel.plugins.scripts.docker.configuration import Configuration, configure
from tercel.plugins.scripts.docker.containers import (
    ALONE,
    AMONG_OTHERS,
    SHELL,
    Container,
    Mounted,
    NoProgramError,
    OnOutput,
    Stream,
    UnseenError,
    follow,
    kept_argv,
)
from tercel.plugins.scripts.docker.engines import EngineClient, connect, find_host, told
from tercel.plugins.scripts.docker.images import Image, ensure_image
from tercel.plugins.scripts.docker.ownership import find_user, give, has_foreign
from tercel.plugins.scripts.docker.properties import DockerProperties
from tercel.plugins.scripts.docker.transfer import copy_in, copy_out

_unseen: set[tuple[str, Path]] = set()
"""Engines, and folders of the worker whose content they do not see."""
_without_shell: set[str] = set()
"""Images without a shell, by id."""


def run_in_container(docker: DockerProperties, command: Command, context: RunContext, on_output: OnOutput) -> int:
    """Run *command* as *docker* says; its exit code. Raises as `Docker.run` does."""
    stop = _Stop()
    with context.stopping(stop.request):
        context.stop_if_killed()
        place = find_place(docker, command.image, context, keeps_entry_point=command.keeps_entry_point)
        context.stop_if_killed()
        code = _Run(docker, command, context, place, stop).to_end(on_output)
    try:
        context.stop_if_killed()
    except (TaskKilledError, TaskTimeoutError) as stopped:
        stopped.outputs.setdefault("exitCode", code)
        raise
    return code


def find_place(
    docker: DockerProperties, image: str, context: RunContext, *, keeps_entry_point: bool = False
) -> "Place":
    """The engine and the image, which is pulled where it has to be, and the settings of a container.

    Args:
        docker: as it stands in the flow.
        image: that the task asks for, where *docker* names none.
        context: of the task.
        keeps_entry_point: of the image, where *docker* names none.

    Raises:
        TaskFailedError: no engine answers, the image cannot be had, or a setting cannot be used.
    """
    configuration = configure(docker, image, context, keeps_entry_point=keeps_entry_point)
    host = find_host("" if docker.host is None else context.render(docker.host), os.environ)
    client = connect(host)
    found = ensure_image(client, configuration.image, docker.pull_policy, configuration.auth, context)
    return Place(client, host, found, configuration)


class _Stop:
    """Ends what runs, once it runs: a kill may come at any moment, also before.

    Attributes:
        is_requested: a kill has come.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._ask: Callable[[], None] | None = None
        self._grace: Timer | None = None
        self.is_requested = False

    def request(self) -> None:
        """Ask what runs to end, or what is going to run, as soon as it does; from any thread, and at once."""
        with self._lock:
            self.is_requested = True
            self._begin()

    def runs(self, ask: Callable[[], None], force: Callable[[], None], grace_s: float) -> None:
        """Something runs now, which *ask* asks to end and, *grace_s* later, *force* ends; both may take their time."""
        with self._lock:
            self._ask = ask
            self._grace = Timer(grace_s, force)
            self._grace.daemon = True
            if self.is_requested:
                self._begin()

    def _begin(self) -> None:
        if self._ask is not None and self._grace is not None:
            self._grace.start()
            Thread(target=self._ask, name="tercel-ask", daemon=True).start()
            self._ask = None

    def is_over(self) -> None:
        """What ran has ended: nothing is asked to end any more."""
        with self._lock:
            self._ask = None
            if self._grace is not None:
                self._grace.cancel()


class Place(msgspec.Struct, frozen=True):
    """Where a command runs: the engine, the image, the settings."""

    client: EngineClient
    host: str
    image: Image
    configuration: Configuration

    def container(self, context: RunContext) -> Container:
        """One that is not made yet."""
        return Container(self.client, self.host, self.image, self.configuration, context)


class _Run:
    def __init__(
        self, docker: DockerProperties, command: Command, context: RunContext, place: Place, stop: _Stop
    ) -> None:
        self._docker = docker
        self._command = command
        self._context = context
        self._place = place
        self._stop = stop
        own = context.engine_directory
        beside = own.parent if context.is_shared else own
        folders = [command.directory, beside, context.output_directory]
        self._folders = [path for path in folders if path == beside or not path.is_relative_to(beside)]
        self._user: tuple[int, int] | None = None
        self._env = {**handed_down(context.setting("script.environment"), os.environ), **command.env}

    def to_end(self, on_output: OnOutput) -> int:
        mounts = self._mounts()
        if mounts is not None:
            try:
                return self._mounted(mounts, on_output)
            except UnseenError:
                self._note_unseen()
        return self._alone((), on_output, copies=True)

    def _mounts(self) -> Sequence[Mounted] | None:
        """The folders as the engine finds them; None where they have to be copied."""
        if self._docker.file_handling_strategy == "VOLUME":
            return None
        if (self._place.host, self._command.directory.parent) in _unseen:
            return None
        mounts: list[Mounted] = []
        for folder in self._folders:
            outside = self._context.outside_path(folder)
            if outside is None:
                return None
            mounts.append(Mounted(folder, outside))
        return [*mounts, *(Mounted(path, path, is_read_only=True) for path in self._command.shared_paths)]

    def _note_unseen(self) -> None:
        _unseen.add((self._place.host, self._command.directory.parent))
        message = f"The engine at {self._place.host} does not see the worker's files: they are copied."
        if self._docker.file_handling_strategy == "MOUNT":
            self._context.logger.warn(message)
        else:
            self._context.logger.debug(message)

    def _mounted(self, mounts: Sequence[Mounted], on_output: OnOutput) -> int:
        docker = self._docker
        reuses = self._context.is_shared and docker.reuse_container and docker.delete and docker.wait
        if docker.port_bindings:
            reuses = False  # the ports have to be free for the next one
        if reuses and self._place.image.id not in _without_shell:
            with suppress(NoProgramError):
                return self._among_others(mounts, on_output)
            _without_shell.add(self._place.image.id)
        return self._alone(mounts, on_output, copies=False)

    @property
    def _argv(self) -> list[str]:
        entry_point = self._place.configuration.entry_point
        return [*(self._place.image.entry_point if entry_point is None else entry_point), *self._command.argv]

    def _wrapped(self, script: str, token: str) -> list[str]:
        return [SHELL, "-c", script, token, *self._argv]

    def _alone(self, mounts: Sequence[Mounted], on_output: OnOutput, *, copies: bool) -> int:
        """Run the command in a container of its own."""
        has_shell = self._place.image.id not in _without_shell
        output = _Output(on_output)
        container = self._place.container(self._context)
        removes, is_left_alone = self._docker.delete, False
        try:
            container.make(
                self._wrapped(ALONE, output.token) if has_shell else self._argv,
                mounts,
                env=self._env,
                directory=self._command.directory,
                keeps_logs=not self._docker.wait,
            )
            self._command.facts["containerId"] = container.id
            self._hand_over(container, copies=copies)
            if not self._docker.wait:
                container.start()
                is_left_alone = True
                self._context.logger.info(f"The container {container.name} goes on by itself.")
                return 0
            with self._returning(container, copies=copies):
                code = self._follow_alone(container, output, has_shell=has_shell)
        except NoProgramError:
            if not has_shell:
                raise self._no_program() from None
            removes = True
            _without_shell.add(self._place.image.id)
            return self._alone(mounts, on_output, copies=copies)
        finally:
            self._stop.is_over()
            if not is_left_alone:
                container.end_and_remove(removes=removes)
        if output.is_missing:
            raise self._no_program()
        return code

    def _follow_alone(self, container: Container, output: "_Output", *, has_shell: bool) -> int:
        stream = container.attach()
        try:
            self._context.stop_if_killed()
            container.start()
        except BaseException:
            stream.close()
            raise
        self._follow(container, stream, output, has_shell=has_shell)
        return container.wait()

    def _follow(self, container: Container, stream: Stream, output: "_Output", *, has_shell: bool) -> None:
        self._context.logger.trace(f"The container {container.name} runs {shlex.join(self._argv)}")
        self._stop.runs(
            partial(container.ask_to_end, has_shell=has_shell),
            container.end_by_force,
            self._place.configuration.grace_s,
        )
        follow(stream, output)
        output.end()

    def _among_others(self, mounts: Sequence[Mounted], on_output: OnOutput) -> int:
        """Run the command in the container that the WorkingDirectory keeps for such.

        Raises:
            NoProgramError: the image has no shell, which such a container needs.
        """
        place, context = self._place, self._context
        key = (place.host, place.image.id, msgspec.json.encode(place.configuration), tuple(mounts))
        container = context.resources.get(key)
        if isinstance(container, Container) and not container.lives():  # somebody has ended it, or the engine
            del context.resources[key]
            container.end_and_remove(removes=True)
            container = None
        if not isinstance(container, Container):
            container = self._kept(mounts)
            context.resources[key] = container
        self._command.facts["containerId"] = container.id
        self._hand_over(container, copies=False)
        output = _Output(on_output)
        is_whole = False
        try:
            context.stop_if_killed()
            with self._returning(container, copies=False):
                command, stream = container.begin(
                    self._wrapped(AMONG_OTHERS, output.token), self._env, self._command.directory
                )
                self._follow(container, stream, output, has_shell=True)
                code = container.exit_code(command)
            self._stop.is_over()
            is_whole = not self._stop.is_requested
        finally:
            self._stop.is_over()
            if not is_whole:
                del context.resources[key]
                container.end_and_remove(removes=True)
        if output.is_missing:
            raise self._no_program()
        return code

    def _kept(self, mounts: Sequence[Mounted]) -> Container:
        container = self._place.container(self._context)
        try:
            container.make(kept_argv(), mounts, directory=self._command.directory)
            container.start()
        except BaseException:
            container.end_and_remove(removes=True)
            raise
        return container

    def _no_program(self) -> TaskFailedError:
        return TaskFailedError(
            f"There is no program {self._argv[0]!r} in the image {self._place.configuration.image!r}.",
            "Name an image that has it by 'containerImage', or another 'interpreter'.",
        )

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────

    def _hand_over(self, container: Container, *, copies: bool) -> None:
        """Let the container's user have the folders."""
        user = self._user_of(container)
        if copies:
            folders = [*self._folders, *self._command.shared_paths]
            copy_in(self._place.client, container.name, folders, user, check=self._context.stop_if_killed)
        elif user[0] != 0:
            if os.geteuid() == 0:
                give(self._outside(), user)
            elif user[0] != os.geteuid():
                self._as_root(f"chown -R {user[0]}:{user[1]} -- {self._listed()}")

    @contextmanager
    def _returning(self, container: Container, *, copies: bool) -> Generator[None]:
        """What the container makes of the folders in the block is the worker's afterwards, however it ends."""
        try:
            yield
        except BaseException:
            container.end_by_force()
            if not copies:
                with suppress(Exception):  # the block's own error is what counts
                    self._take_back(container, copies=False)
            raise
        self._take_back(container, copies=copies)

    def _take_back(self, container: Container, *, copies: bool) -> None:
        """Make what there is now in the folders the worker's."""
        if copies:
            for folder in self._folders if self._command.returns_files else [self._context.output_directory]:
                copy_out(self._place.client, container.name, folder)
            return
        worker = os.geteuid(), os.getegid()
        if worker[0] == 0:
            if self._user_of(container)[0] != 0:
                give(self._outside(), worker)
        elif has_foreign(self._outside(), worker[0]):
            self._as_root(f"chown -R {worker[0]}:{worker[1]} -- {self._listed()}")

    def _outside(self) -> list[Path]:
        return [self._context.outside_path(folder) or folder for folder in self._folders]

    def _listed(self) -> str:
        return shlex.join(map(str, self._folders))

    def _as_root(self, text: str) -> None:
        """Run a line of shell as root, in a container of its own that sees the folders."""
        mounts = [Mounted(folder, self._context.outside_path(folder) or folder) for folder in self._folders]
        configuration = msgspec.structs.replace(
            self._place.configuration, user="0", host={"network_mode": "none"}, ports=()
        )
        helper = Container(self._place.client, self._place.host, self._place.image, configuration, self._context)
        try:
            helper.make([SHELL, "-c", text], mounts)
            helper.start()
            is_done = helper.wait() == 0
        except NoProgramError:
            is_done = False
        finally:
            helper.end_and_remove(removes=True)
        if not is_done:
            self._context.logger.warn("The files cannot change hands: the image has no 'chown', or no shell.")

    def _user_of(self, container: Container) -> tuple[int, int]:
        """Whom the container's commands run as; (0, 0) is root."""
        if self._user is None:
            name = self._place.configuration.user or self._place.image.user
            if name in {"", "0", "root", "0:0", "root:root"}:
                self._user = (0, 0)
            else:
                files = {path: self._file_of(container, path) for path in ("/etc/passwd", "/etc/group")}
                try:
                    self._user = find_user(name, files["/etc/passwd"], files["/etc/group"])
                except LookupError as error:
                    raise TaskFailedError(
                        f"There is no user or group {error.args[0]!r} in the image {self._place.configuration.image!r}."
                    ) from error
        return self._user

    def _file_of(self, container: Container, path: str) -> str:
        from docker.errors import NotFound  # noqa: PLC0415  # loaded by `connect`

        with told("The image's users cannot be read"):
            try:
                blocks, _ = self._place.client.get_archive(container.name, path)
            except NotFound:
                return ""
            with tarfile.open(fileobj=io.BytesIO(b"".join(blocks))) as archive:
                [member] = archive.getmembers()
                content = archive.extractfile(member) if member.isreg() else None
                return "" if content is None else content.read().decode("utf-8", "replace")


class _Output:
    """Hands on what a command prints, but not the token by which it is told that there is no such program."""

    def __init__(self, on_output: OnOutput) -> None:
        self._on_output = on_output
        self._begun = b""
        self._is_past = False
        self.token = f"tercel-{os.urandom(8).hex()}"
        self.is_missing = False

    def __call__(self, stream: Literal["stdout", "stderr"], block: bytes) -> None:
        if stream == "stdout" or self._is_past:
            self._on_output(stream, block)
            return
        self._begun += block
        self._is_past = not f"{self.token}\n".encode().startswith(self._begun)
        if self._is_past:
            self._on_output("stderr", self._begun)

    def end(self) -> None:
        """There is no more: what was kept back because it might be the token is handed on where it is not."""
        self.is_missing = self._begun == f"{self.token}\n".encode()
        if self._begun and not self._is_past and not self.is_missing:
            self._on_output("stderr", self._begun)
