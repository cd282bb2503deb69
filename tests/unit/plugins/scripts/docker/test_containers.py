"""What an engine sends of a container's output, cut anywhere; and what is said to it, without an engine."""

import threading
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast

import pytest
import requests
from docker.errors import APIError
from hypothesis import example, given
from hypothesis import strategies as st

from tercel.plugin_api import TaskFailedError
from tercel.plugins.scripts.docker import containers
from tercel.plugins.scripts.docker.configuration import configure
from tercel.plugins.scripts.docker.containers import (
    Container,
    Mounted,
    NoProgramError,
    Stream,
    UnseenError,
    follow,
    kept_argv,
)
from tercel.plugins.scripts.docker.engines import EngineClient, NoEngineError
from tercel.plugins.scripts.docker.images import Image
from tercel.plugins.scripts.docker.runner import DOCKER, Docker
from tests.run_contexts import DirectoryContext

Frame = tuple[int, bytes]


def framed(*frames: Frame) -> bytes:
    return b"".join(bytes([kind, 0, 0, 0]) + len(content).to_bytes(4) + content for kind, content in frames)


class Connection:
    """An engine's connection that gives these blocks, however many bytes are asked for."""

    def __init__(self, *blocks: bytes, error: Exception | None = None) -> None:
        self._blocks = [block for block in blocks if block]
        self._error = error
        self.is_closed = False

    def read1(self, size: int) -> bytes:
        assert size > 0
        if self._blocks:
            return self._blocks.pop(0)
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        self.is_closed = True

    @property
    def stream(self) -> Stream:
        return Stream(self.read1, self.close)


class Kept:
    def __init__(self) -> None:
        self.blocks: list[tuple[str, bytes]] = []

    def __call__(self, stream: Literal["stdout", "stderr"], block: bytes) -> None:
        assert block
        self.blocks.append((stream, block))

    def of(self, stream: str) -> bytes:
        return b"".join(block for name, block in self.blocks if name == stream)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


class TestFollow:
    @given(
        frames=st.lists(st.tuples(st.sampled_from([0, 1, 2, 3]), st.binary(max_size=40)), max_size=12),
        places=st.lists(st.integers(min_value=0), max_size=30),
    )
    @example(frames=[(1, "é".encode()), (2, b""), (1, b"\n")], places=list(range(30)))
    def test_given_frames_cut_anywhere_then_each_stream_gets_its_bytes_in_order(
        self, frames: list[Frame], places: list[int]
    ) -> None:
        kept = Kept()
        connection = Connection(*cut(framed(*frames), places))

        follow(connection.stream, kept)

        assert kept.of("stdout") == b"".join(content for kind, content in frames if kind == 1)
        assert kept.of("stderr") == b"".join(content for kind, content in frames if kind == 2)
        assert connection.is_closed

    def test_given_frames_in_one_block_then_their_order_is_kept(self) -> None:
        kept = Kept()

        follow(Connection(framed((1, b"a"), (2, b"b"), (1, b"c"))).stream, kept)

        assert kept.blocks == [("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c")]

    def test_given_a_large_frame_then_it_is_handed_on_as_it_comes(self) -> None:
        kept = Kept()
        content = bytes(300_000)
        blocks = cut(framed((1, content)), list(range(0, 300_000, 65_536)))

        follow(Connection(*blocks).stream, kept)

        assert max(len(block) for _, block in kept.blocks) <= 65_536
        assert kept.of("stdout") == content

    def test_given_a_connection_that_is_cut_off_then_what_came_is_kept(self) -> None:
        kept = Kept()
        connection = Connection(framed((1, b"whole")), framed((1, b"half"))[:-2], error=ConnectionResetError())

        follow(connection.stream, kept)

        assert kept.of("stdout") == b"wholeha"
        assert connection.is_closed

    @pytest.mark.parametrize("error", [OSError("the log is full"), ConnectionResetError("the log is gone")])
    def test_given_a_sink_that_fails_then_its_error_comes_through(self, error: OSError) -> None:
        connection = Connection(framed((1, b"a")))

        def fail(stream: str, block: bytes) -> None:
            raise error

        with pytest.raises(OSError, match=str(error)) as caught:
            follow(connection.stream, fail)

        assert caught.value is error
        assert connection.is_closed


class Engine:
    """The edge of an engine: notes what it is told, and fails as the test says."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.made: Mapping[str, object] = {}
        self.errors: dict[str, Exception] = {}

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def create_host_config(self, **settings: object) -> Mapping[str, object]:
        return settings

    def create_container(self, image: str, command: list[str], **settings: object) -> Mapping[str, str]:
        self.made = {"image": image, "command": command, **settings}
        self._call("create")
        return {"Id": "1"}

    def start(self, container: str) -> None:
        self._call("start")

    def kill(self, container: str, signal: str | None = None) -> None:
        self._call(f"kill {signal}")

    def remove_container(self, container: str, *, v: bool, force: bool) -> None:
        self._call(f"remove {container}")

    def exec_create(self, container: str, cmd: list[str], **settings: object) -> Mapping[str, str]:
        self._call(f"exec {cmd[-1]!r} as {settings['user']}")
        return {"Id": "2"}

    def exec_start(self, exec_id: str, *, socket: bool = False, detach: bool = False) -> object:
        self._call(f"exec_start {socket=} {detach=}")
        return None

    def exec_inspect(self, exec_id: str) -> Mapping[str, object]:
        self._call("exec_inspect")
        return {"Running": False, "ExitCode": 3}

    @property
    def client(self) -> EngineClient:
        return cast("EngineClient", self)


def an_api_error(text: str, status: int = 500) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("it failed", response, text)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path, variables={"flow": {"id": "f"}})


@pytest.fixture
def make(engine: Engine, context: DirectoryContext) -> Callable[..., Container]:
    """Makes a container that is not made yet."""

    def made(**properties: object) -> Container:
        configuration = configure(Docker(**properties), "app", context, keeps_entry_point=False)  # type: ignore[arg-type]
        image = Image("sha256:1", "", ("entry",))
        return Container(engine.client, "unix:///x.sock", image, configuration, context)

    return made


class TestMake:
    def test_given_all_there_is_then_the_engine_is_told_it(
        self, engine: Engine, context: DirectoryContext, make: Callable[..., Container]
    ) -> None:
        container = make(user="7:8", port_bindings=["8080:80"], shm_size="1k")

        container.make(
            ["sh", "-c", "x"],
            [Mounted(Path("/in"), Path("/out")), Mounted(Path("/lib"), Path("/lib"), is_read_only=True)],
            env={"A": "b"},
            directory=Path("/in/dir"),
        )

        host = cast("Mapping[str, object]", engine.made["host_config"])
        mounts = cast("list[Mapping[str, object]]", host["mounts"])
        assert {name: engine.made[name] for name in engine.made if name != "host_config"} == {
            "image": "sha256:1",
            "command": ["-c", "x"],
            "entrypoint": ["sh"],
            "name": container.name,
            "user": "7:8",
            "environment": {"A": "b"},
            "working_dir": "/in/dir",
            "labels": {"kestra.io/flow-id": "f"},
            "ports": ["80"],
        }
        assert (host["shm_size"], host["port_bindings"]) == (1024, {"80": ["8080"]})
        assert [(one["Source"], one["Target"], one["Type"], one["ReadOnly"]) for one in mounts] == [
            ("/out", "/in", "bind", False),
            ("/lib", "/lib", "bind", True),
        ]

    def test_given_a_container_then_it_is_noted_down_before_it_is_made(
        self, engine: Engine, context: DirectoryContext, make: Callable[..., Container]
    ) -> None:
        container = make()
        engine.errors["create"] = an_api_error("no such image")

        with pytest.raises(TaskFailedError, match="The container cannot be made: no such image"):
            container.make(["sh"], [])

        assert context.leftovers == [(DOCKER, {"host": "unix:///x.sock", "name": container.name})]

    def test_given_one_that_goes_on_by_itself_then_it_is_nobodys_to_remove_and_keeps_its_log(
        self, engine: Engine, context: DirectoryContext, make: Callable[..., Container]
    ) -> None:
        make().make(["sh"], [], keeps_logs=True)

        assert context.leftovers == []
        assert "log_config" not in cast("Mapping[str, object]", engine.made["host_config"])

    @pytest.mark.parametrize(
        "text",
        [
            'invalid mount config for type "bind": bind source path does not exist: /out',
            "statfs /out: no such file or directory",
        ],
    )
    def test_given_a_folder_that_the_engine_does_not_see_then_that_is_told_apart(
        self, engine: Engine, make: Callable[..., Container], text: str
    ) -> None:
        engine.errors["create"] = an_api_error(text, 400)

        with pytest.raises(UnseenError):
            make().make(["sh"], [Mounted(Path("/in"), Path("/out"))])


class TestStart:
    @pytest.mark.parametrize(
        "text",
        [
            'runc create failed: exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown',
            'OCI runtime create failed: exec: \\"/bin/sh\\": executable file not found in $PATH: unknown',
            "crun: executable file `/bin/sh` not found: No such file or directory: OCI runtime attempted",
        ],
    )
    def test_given_no_such_program_then_that_is_told_apart(
        self, engine: Engine, make: Callable[..., Container], text: str
    ) -> None:
        container = make()
        container.make(["/bin/sh", "-c", "x"], [])
        engine.errors["start"] = an_api_error(text)

        with pytest.raises(NoProgramError):
            container.start()

    @pytest.mark.parametrize(
        "text",
        [
            'exec: "/bin/sh": permission denied',
            'exec: "/bin/bash": stat /bin/bash: no such file or directory',
            "no such network",
        ],
    )
    def test_given_other_trouble_then_the_task_fails_with_it(
        self, engine: Engine, make: Callable[..., Container], text: str
    ) -> None:
        container = make()
        container.make(["/bin/sh", "-c", "x"], [])
        engine.errors["start"] = an_api_error(text)

        with pytest.raises(TaskFailedError) as caught:
            container.start()

        assert caught.value.message == f"The container cannot be started: {text}"


class TestEnd:
    def test_given_a_shell_then_all_processes_are_asked_as_root(
        self, engine: Engine, make: Callable[..., Container]
    ) -> None:
        make().ask_to_end(has_shell=True)

        assert engine.calls == ["exec 'kill -TERM 1; kill -TERM -1' as 0", "exec_start socket=False detach=True"]

    def test_given_no_shell_then_the_first_process_is_asked(
        self, engine: Engine, make: Callable[..., Container]
    ) -> None:
        make().ask_to_end(has_shell=False)

        assert engine.calls == ["kill SIGTERM"]

    @pytest.mark.parametrize("error", [an_api_error("not running", 409), requests.ReadTimeout(), OSError("gone")])
    def test_given_an_engine_that_will_not_then_nothing_is_raised(
        self, engine: Engine, make: Callable[..., Container], error: Exception
    ) -> None:
        engine.errors = {"kill None": error, "kill SIGTERM": error}
        container = make()

        container.ask_to_end(has_shell=False)
        container.end_by_force()

        assert engine.calls == ["kill SIGTERM", "kill None"]

    def test_given_a_command_that_has_ended_then_its_code_is_known(self, make: Callable[..., Container]) -> None:
        assert make().exit_code("2") == 3

    def test_given_a_command_that_is_gone_with_its_container_then_its_code_is_that_of_a_kill(
        self, engine: Engine, make: Callable[..., Container]
    ) -> None:
        from docker.errors import NotFound

        response = requests.Response()
        response.status_code = 404
        engine.errors["exec_inspect"] = NotFound("gone", response, "No such exec instance")

        assert make().exit_code("2") == 137

    def test_given_one_that_is_kept_when_told_to_let_go_of_it_then_it_is_ended_and_forgotten(
        self, engine: Engine, context: DirectoryContext, make: Callable[..., Container]
    ) -> None:
        container = make()
        container.make(kept_argv(), [])

        container.end_and_remove(removes=False)

        assert engine.calls == ["create", "kill None"]
        assert context.leftovers == []

    def test_given_an_engine_that_is_gone_when_closed_then_the_note_stays_for_whoever_cleans_up(
        self, context: DirectoryContext, make: Callable[..., Container], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(containers, "_LATER_WAITS_S", ())
        container = make()
        container.make(kept_argv(), [])

        container.end_and_remove(removes=True)  # of an engine at an address where none is
        for thread in threading.enumerate():
            if thread.name == "tercel-remove":
                thread.join(10)

        assert len(context.leftovers) == 1

    def test_given_an_engine_that_comes_back_after_a_while_then_it_is_removed_and_forgotten(
        self,
        engine: Engine,
        context: DirectoryContext,
        make: Callable[..., Container],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        away = iter([NoEngineError("unix:///x.sock", "Connection refused.")] * 6)

        def connect(host: str) -> EngineClient:
            for error in away:
                raise error
            return engine.client

        monkeypatch.setattr(containers, "connect", connect)
        monkeypatch.setattr(containers, "_REMOVAL_WAITS_S", (0.0, 0.0))
        monkeypatch.setattr(containers, "_LATER_WAITS_S", (0.0,) * 5)
        container = make()
        container.make(kept_argv(), [])

        container.close()
        for thread in threading.enumerate():
            if thread.name == "tercel-remove-later":
                thread.join(10)

        assert engine.calls == ["create", f"remove {container.name}"]
        assert context.leftovers == []
