"""`tercel server` when what it stands on fails: a full disk, a database that goes away."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api_servers import ApiServer
from tests.command_line import tercel
from tests.integration.test_server_command import until
from tests.postgres import PostgresServer

SLOW = """
id: slow
namespace: company.team
tasks:
  - id: wait
    type: io.kestra.plugin.scripts.shell.Commands
    runner: PROCESS
    commands: ["touch FLAG", "while ! test -e FLAG.go; do sleep 0.05; done"]
  - {id: done, type: io.kestra.plugin.core.debug.Return, format: done}
"""


def save(server: ApiServer, text: str) -> None:
    answer = httpx.post(f"{server.address}/api/v1/flows", content=text, headers={"Content-Type": "application/x-yaml"})
    assert answer.status_code == 200, answer.text


def start(server: ApiServer, timeout_s: float = 60) -> httpx.Response:
    return httpx.post(f"{server.address}/api/v1/executions/company.team/slow", timeout=timeout_s)


def state(server: ApiServer, execution_id: str) -> str:
    found = httpx.get(f"{server.address}/api/v1/executions/{execution_id}", timeout=60)
    return found.json()["state"]["current"]


class TestFullDisk:
    def test_given_nothing_can_be_written_then_it_says_so_and_ends_and_the_next_one_goes_on(
        self, tmp_path: Path
    ) -> None:
        flag = tmp_path / "flag"
        with ApiServer(tmp_path / "home") as server:
            save(server, SLOW.replace("FLAG", str(flag)))
            execution_id = start(server).json()["id"]
            until(flag.exists)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

            refused = start(server)

            assert server.process.wait(60) == 1
            assert refused.status_code == 503
            assert refused.json()["message"].startswith("Service unavailable: Writing to the database ")
        assert "Error: The engine has stopped: Writing to the database " in server.said
        assert "Start the server again: it goes on with what it has left." in server.said
        Path(f"{flag}.go").touch()

        with ApiServer(tmp_path / "home") as server:
            until(lambda: state(server, execution_id) == "SUCCESS")


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class TestDatabaseThatIsAway:
    @pytest.fixture
    def begin(self, tmp_path: Path, postgres: PostgresServer) -> Iterator[Callable[[], tuple[ApiServer, str]]]:
        """Starts a server with an execution under way; gives the server and the execution's id."""
        with ApiServer(tmp_path / "home", {"TERCEL_DATABASE": postgres.dsn()}) as server:

            def begin() -> tuple[ApiServer, str]:
                save(server, SLOW.replace("FLAG", str(tmp_path / "flag")))
                execution_id = start(server).json()["id"]
                until((tmp_path / "flag").exists)
                return server, execution_id

            yield begin

    def test_given_a_while_then_probes_are_answered_and_afterwards_all_goes_on(
        self, tmp_path: Path, postgres: PostgresServer, begin: Callable[[], tuple[ApiServer, str]]
    ) -> None:
        server, execution_id = begin()

        postgres.stop()
        (tmp_path / "flag.go").touch()
        away = httpx.get(f"{server.address}/health", timeout=5)
        living = httpx.get(f"{server.address}/health/liveness", timeout=5)
        until(lambda: "The database does not answer, and is tried again" in server.said)
        postgres.start()

        assert (away.status_code, away.json()["status"]) == (503, "DOWN")
        assert away.json()["details"]["database"]["status"] == "DOWN"
        assert (living.status_code, living.json()["status"]) == (200, "UP")
        until(lambda: state(server, execution_id) == "SUCCESS")
        assert httpx.get(f"{server.address}/health", timeout=5).status_code == 200

    def test_given_it_is_asked_to_stop_then_it_does_not_wait_for_the_database(
        self, postgres: PostgresServer, begin: Callable[[], tuple[ApiServer, str]]
    ) -> None:
        server, _ = begin()
        postgres.stop()

        server.process.send_signal(signal.SIGTERM)

        assert server.process.wait(25) in {0, 1}
        assert "Traceback" not in server.said


class TestOtherCommands:
    def test_given_an_execution_of_a_server_then_they_say_that_its_api_is_to_be_asked(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        with ApiServer(home) as server:
            save(server, SLOW.replace("FLAG", str(tmp_path / "flag")))
            execution_id = start(server).json()["id"]

            refused = tercel("execution", "kill", execution_id, home=home)
            address = refused.stderr.partition("by its API: ")[2].split()[0]
            asked = httpx.delete(f"{server.address}{address}/kill", timeout=60)
            until(lambda: state(server, execution_id) == "KILLED")

        assert refused.returncode == 1
        assert refused.stderr.startswith(f"Error: The execution {execution_id} runs in `tercel server` (process ")
        assert asked.status_code == 200


class TestStoppedMeanwhile:
    def test_given_clients_that_follow_or_wait_then_they_are_answered_and_it_ends_at_once(self, tmp_path: Path) -> None:
        with ApiServer(tmp_path / "home") as server, httpx.Client(base_url=server.address, timeout=60) as client:
            save(server, SLOW.replace("FLAG", str(tmp_path / "flag")))
            execution_id = start(server).json()["id"]
            until((tmp_path / "flag").exists)
            with (
                ThreadPoolExecutor(1) as threads,
                client.stream("GET", f"/api/v1/executions/{execution_id}/follow") as followed,
                client.stream("GET", f"/api/v1/logs/{execution_id}/follow") as logs,
            ):
                events = followed.iter_lines()
                assert next(events) == "id: start"
                waiting = threads.submit(client.post, "/api/v1/executions/company.team/slow?wait=true")
                until(lambda: client.get("/api/v1/executions/search?namespace=company.team").json()["total"] == 2)

                server.process.send_signal(signal.SIGTERM)

                assert server.process.wait(8) == 0
                assert not [line for line in events if line == "id: end"]
                assert logs.read() is not None
                answer = waiting.result(60)
            assert (answer.status_code, answer.json()["state"]["current"]) == (200, "RUNNING")
        assert "Traceback" not in server.said
        assert "ERROR" not in server.said
