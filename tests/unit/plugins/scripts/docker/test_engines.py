"""Which engine is asked, and what is said when it does not answer; no engine is."""

import gc
import shutil
import sys
import warnings
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from threading import Thread
from typing import Any, cast

import pytest
import requests
from docker.errors import APIError, DockerException
from urllib3.exceptions import ProtocolError

from tercel.plugin_api import MissingToolError, TaskFailedError
from tercel.plugins.scripts.docker.engines import NoEngineError, connect, explanation, find_host, told
from tests.http_servers import Authority, tls_server

WAYS_OUT = (
    "Start one (Docker, or Podman with its socket; DOCKER_HOST says where), or run scripts as processes of this "
    "machine: `tercel run --task-runner process`, or `runner: PROCESS` on the task."
)


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The sockets that are there."""
    there: set[str] = set()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tercel.plugins.scripts.docker.engines.os.path.exists", lambda path: path in there)
    return there


class TestFindHost:
    def test_given_a_host_then_it_is_taken_without_blanks(self) -> None:
        assert find_host(" tcp://there:1 ", {"DOCKER_HOST": "tcp://elsewhere:2"}) == "tcp://there:1"

    def test_given_none_then_the_environment_says_it(self, sockets: set[str]) -> None:
        sockets.add("/var/run/docker.sock")

        assert find_host(" ", {"DOCKER_HOST": "tcp://elsewhere:2"}) == "tcp://elsewhere:2"

    def test_given_nothing_said_then_it_is_the_first_socket_that_is_there(
        self, sockets: set[str], tmp_path: Path
    ) -> None:
        order = [
            "/var/run/docker.sock",
            "/dind/docker.sock",
            "/run/user/7/docker.sock",
            "/run/user/7/podman/podman.sock",
            f"{tmp_path}/.docker/run/docker.sock",
            "/run/podman/podman.sock",
        ]

        found = []
        for socket in reversed(order):
            sockets.add(socket)
            found.append(find_host("", {"XDG_RUNTIME_DIR": "/run/user/7"}))

        assert found == [f"unix://{socket}" for socket in reversed(order)]

    def test_given_no_socket_at_all_then_it_is_the_usual_one(self, sockets: set[str]) -> None:
        assert sockets == set()
        assert find_host("", {}) == "unix:///var/run/docker.sock"


class TestConnect:
    @pytest.mark.parametrize(
        ("host", "reason"),
        [
            ("unix:///nowhere.sock", "No such file or directory."),
            ("tcp://127.0.0.1:1", "Connection refused."),
            ("odd://there", "Invalid bind address protocol: odd://there."),
        ],
    )
    def test_given_no_engine_then_the_message_says_why_and_the_ways_out(self, host: str, reason: str) -> None:
        with pytest.raises(NoEngineError) as caught:
            connect(host)

        assert caught.value.message == f"This task is to run in a container, and no engine answers at {host}: {reason}"
        assert caught.value.hint == WAYS_OUT

    def test_given_certificates_that_are_not_there_then_it_is_no_engine_either(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", "/nowhere")

        with pytest.raises(NoEngineError, match="certificate and key files"):
            connect("tcp://127.0.0.1:2")

    def test_given_an_authority_of_the_engines_own_then_one_for_all_else_does_not_take_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = Authority(tmp_path)
        (tmp_path / "others").mkdir()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path / "others").certificate))
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        context = authority.context_for("127.0.0.1")
        authority.certificate.rename(tmp_path / "ca.pem")
        for name in ("cert.pem", "key.pem"):
            shutil.copy(tmp_path / "127.0.0.1.pem", tmp_path / name)

        with tls_server(context, (200, {}, b'{"ApiVersion": "1.44"}')) as port:
            client = connect(f"tcp://127.0.0.1:{port}")

        assert cast("Any", client).api_version == "1.44"
        cast("Any", client).close()
        with pytest.raises(NoEngineError, match=r"no engine answers at tcp://127\.0\.0\.1:1: Connection refused"):
            connect("tcp://127.0.0.1:1")

    def test_given_an_engine_that_has_gone_since_then_that_is_said_and_no_socket_stays_open(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "s"
        host = f"unix://{path}"
        with UnixStreamServer(str(path), AnEngine) as engine:
            thread = Thread(target=engine.serve_forever, args=(0.01,))
            thread.start()
            client = connect(host)
            assert connect(host) is client
            engine.shutdown()
            thread.join()

        with pytest.raises(NoEngineError, match="Connection refused"):
            connect(host)

        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            gc.collect()

    def test_given_no_library_then_the_message_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "docker.api.client", None)

        with pytest.raises(MissingToolError) as caught:
            connect("tcp://127.0.0.1:3")

        assert caught.value.message == "This task is to run in a container, and the library for that is not installed."
        assert caught.value.hint == (
            "Install it: pip install 'tercel[docker]'. Or run scripts as processes of this machine: "
            "`tercel run --task-runner process`."
        )


class AnEngine(BaseHTTPRequestHandler):
    """It says which version it is, and nothing else."""

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ApiVersion": "1.44"}')


def an_api_error(text: str | bytes, status: int = 500) -> APIError:
    response = requests.Response()
    response.status_code = status
    return APIError("it failed", response, text)


class TestTold:
    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (an_api_error("no such network: x\n"), "It cannot be made: no such network: x"),
            (an_api_error(b"\xff is not there"), "It cannot be made: \ufffd is not there"),
            (DockerException("odd\nand more"), "It cannot be made: the engine does not answer: odd."),
            (requests.ReadTimeout("Read timed out."), "It cannot be made: the engine does not answer: Read timed out."),
            (ProtocolError("broken"), "It cannot be made: the engine does not answer: broken."),
            (ConnectionResetError(104, "Reset"), "It cannot be made: the engine does not answer: Reset."),
            (ConnectionError(), "It cannot be made: the engine does not answer: ConnectionError."),
            (OSError(28, "No space left", "/a/b"), "It cannot be made: No space left: /a/b."),
        ],
    )
    def test_given_an_error_then_the_task_fails_with_what_is_at_its_bottom(
        self, error: Exception, message: str
    ) -> None:
        with pytest.raises(TaskFailedError) as caught, told("It cannot be made"):
            raise error

        assert caught.value.message == message
        assert caught.value.__cause__ is error

    def test_given_an_error_around_another_one_then_the_inner_one_is_told(self) -> None:
        around = requests.ConnectionError("Connection aborted.")
        around.__context__ = ConnectionResetError(104, "Gone")

        with pytest.raises(TaskFailedError) as caught, told("It fails"):
            raise around

        assert caught.value.message == "It fails: the engine does not answer: Gone."

    def test_given_a_failure_of_the_task_then_it_passes(self) -> None:
        with pytest.raises(TaskFailedError) as caught, told("It fails"):
            raise TaskFailedError("as it was")

        assert caught.value.message == "as it was"


def test_given_an_error_without_an_explanation_then_its_own_text_is_one() -> None:
    assert explanation(DockerException(" no words ")) == "no words"
