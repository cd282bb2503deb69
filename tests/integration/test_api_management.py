"""The management port: what operators ask for, without login, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tercel.api import HttpServer, Login, Options, create_app
from tercel.errors import UserError
from tests.homes import Home
from tests.integration.test_server_command import Server

ME = ("me@example.com", "Secret123")


@pytest.fixture
def server(home: Home) -> Iterator[HttpServer]:
    options = Options(login=Login(username=ME[0], password=ME[1]), is_local=True, context_path="/below")
    with closing(HttpServer(create_app(home.engine, options), "127.0.0.1", 0, 1, management_port=0)) as served:
        served.start()
        yield served


def get(address: str, auth: tuple[str, str] | None = None) -> httpx.Response:
    return httpx.get(address, auth=auth, timeout=30)


@pytest.mark.parametrize("path", ["/health", "/health/liveness", "/health/readiness", "/version", "/prometheus"])
def test_given_the_management_port_then_operators_need_no_login(server: HttpServer, path: str) -> None:
    assert get(f"{server.management_address}{path}").status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/main/flows/search", "/api/v1/configs", "/ping", "/below/health"])
def test_given_the_management_port_then_nothing_else_is_there(server: HttpServer, path: str) -> None:
    assert get(f"{server.management_address}{path}", ME).status_code == 404


def test_given_the_port_of_the_server_then_metrics_need_the_login(server: HttpServer) -> None:
    assert get(f"{server.address}/below/prometheus").status_code == 401
    assert get(f"{server.address}/below/prometheus", ME).status_code == 200
    assert get(f"{server.address}/below/health").status_code == 200


def test_given_a_port_that_somebody_has_then_it_is_told_and_nothing_stays_open(home: Home) -> None:
    app = create_app(home.engine, Options(login=Login(), is_local=True))
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()

        said = r"^Nobody can listen on 127\.0\.0\.1:\d+: Address already in use\. Give another one: --port PORT\.$"
        with pytest.raises(UserError, match=said):
            HttpServer(app, "127.0.0.1", port, management_port=taken.getsockname()[1])

        with closing(HttpServer(app, "127.0.0.1", port)) as served:
            assert served.management_address is None


def test_given_the_setting_then_the_command_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("TERCEL_MANAGEMENT_PORT", str(port))
    server = Server(tmp_path / "home")

    try:
        assert get(f"http://127.0.0.1:{port}/health").json()["status"] == "UP"
    finally:
        assert server.stop() == 0
