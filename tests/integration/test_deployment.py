"""The image, built and started on a real engine: alone, and as a compose file that was written for Kestra has it."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.docker_engine import ensure_image
from tests.flows import CORE, SCRIPTS, flow, sh
from tests.postgres import running_server
from tests.tools import need, unavailable
from tools.docker_engine import SOCKET, locked

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

ROOT = Path(__file__).parents[2]
IMAGE = "tercel-test/server:latest"
DEADLINE_S = 90.0

COMPOSE = """
services:
  postgres:
    image: postgres
    environment: {POSTGRES_DB: kestra, POSTGRES_USER: kestra, POSTGRES_PASSWORD: k3str4}
  kestra:
    image: kestra/kestra:latest-full
    pull_policy: always
    entrypoint: /bin/bash
    user: root
    env_file: [.env]
    command: [-c, "/app/kestra server standalone --worker-thread=128"]
    volumes:
      - kestra-data:/app/storage
      - /var/run/docker.sock:/var/run/docker.sock
      - WORK:WORK:rw
    environment:
      KESTRA_CONFIGURATION: |
        datasources:
          postgres:
            url: jdbc:postgresql://postgres:5432/kestra
            driverClassName: org.postgresql.Driver
            username: kestra
            password: k3str4
        kestra:
          server:
            basic-auth: {enabled: false, username: admin, password: kestra}
          repository: {type: postgres}
          storage:
            type: local
            local: {base-path: "/app/storage"}
          queue: {type: postgres}
          tasks:
            tmp-dir: {path: WORK/tmp}
            scripts:
              docker: {volume-enabled: true}
          url: http://localhost:8080/
    ports: ["8080:8080", "8081:8081"]
    depends_on:
      postgres: {condition: service_started}
"""
"""Such a deployment; WORK is a folder of the test in place of /tmp/kestra-wd."""

FORWARD = """
import asyncio, os, sys

async def copy(reader, writer):
    try:
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    finally:
        writer.close()

async def serve(reader, writer):
    inner = await asyncio.open_unix_connection(sys.argv[1])
    await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, None, 5432)
    await server.serve_forever()

asyncio.run(main())
"""
"""What stands at the name `postgres` in the containers' network: it leads to the socket of the tests' PostgreSQL."""


@pytest.fixture(scope="module")
def image(docker_engine: DockerClient) -> str:
    """The slim image, of the sources as they are."""
    from docker.errors import BuildError

    base = ensure_image("python:3.13-slim")
    with locked("image-server"):
        try:
            docker_engine.images.build(
                path=str(ROOT), tag=IMAGE, target="slim", buildargs={"BASE": base}, rm=True, forcerm=True
            )
        except BuildError as error:
            said = "".join(str(line.get("stream", "")) for line in error.build_log)
            if "No matching distribution" in said or "Could not find a version" in said:
                unavailable("a package index in containers")
            raise AssertionError(said[-3000:]) from error
    return IMAGE


class Server:
    """A server in a container."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def address(self, port: int = 8080) -> str:
        self.container.reload()
        [bound] = self.container.ports[f"{port}/tcp"]
        return f"http://127.0.0.1:{bound['HostPort']}"

    @property
    def log(self) -> str:
        return self.container.logs().decode()

    def until(self, text: str) -> None:
        """Wait until it says so."""
        until(lambda: text in self.log or self.fail_if_ended())

    def fail_if_ended(self) -> bool:
        self.container.reload()
        assert self.container.status in ("created", "running"), self.log
        return False

    def save(self, text: str) -> None:
        headers = {"Content-Type": "application/x-yaml"}
        answer = httpx.post(f"{self.address()}/api/v1/flows", content=text, headers=headers, timeout=DEADLINE_S)
        assert answer.status_code == 200, answer.text

    def run(self, flow_id: str) -> dict[str, Any]:
        """The execution, once it has ended."""
        path = f"/api/v1/executions/tests/{flow_id}?wait=true"
        answer = httpx.post(self.address() + path, timeout=DEADLINE_S, files={"x": (None, "y")})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self) -> int:
        """Its exit code, after the signal that `docker stop` sends; it may not come to the second one."""
        self.container.stop(timeout=int(DEADLINE_S))
        return int(self.container.wait()["StatusCode"])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def container(client: DockerClient, image: str, command: list[str] | None = None, **options: Any) -> Iterator[Server]:
    """A container that is removed afterwards, with its volumes."""
    made = client.containers.create(image, command, labels={"tercel.test": "deployment"}, **options)
    try:
        made.start()
        yield Server(made)
    finally:
        made.remove(force=True, v=True)


PORTS = {"8080/tcp": ("127.0.0.1", None), "8081/tcp": ("127.0.0.1", None)}


def says(client: DockerClient, image: str, command: list[str] | str | None = None, **options: Any) -> str:
    return client.containers.run(image, command, remove=True, stderr=True, **options).decode()


class TestTheImage:
    def test_given_nothing_then_it_tells_what_there_is(self, docker_engine: DockerClient, image: str) -> None:
        assert says(docker_engine, image).startswith("Usage: kestra [OPTIONS] COMMAND [ARGS]...")

    def test_given_arguments_then_they_are_those_of_the_command(self, docker_engine: DockerClient, image: str) -> None:
        assert says(docker_engine, image, ["--version"]).startswith("tercel ")

    def test_given_its_shell_then_the_command_is_where_others_look_for_it(
        self, docker_engine: DockerClient, image: str
    ) -> None:
        line = "whoami; pwd; for name in /app/kestra kestra tercel; do $name --version; done; touch /app/storage/x"

        said = says(docker_engine, image, ["-c", line], entrypoint="/bin/bash").splitlines()

        assert said[:2] == ["kestra", "/app"]
        assert len(said) == 5
        assert len(set(said[2:])) == 1

    def test_given_no_login_then_it_does_not_serve_everybody(self, docker_engine: DockerClient, image: str) -> None:
        with container(docker_engine, image, ["server", "standalone"]) as server:
            assert server.container.wait()["StatusCode"] == 1
            assert "Without a login the server cannot listen on 0.0.0.0" in server.log


def test_given_scripts_that_leave_processes_behind_then_none_of_them_stays(
    docker_engine: DockerClient, image: str
) -> None:
    orphans = flow(sh("leave", "for i in 1 2 3; do (sh -c 'sleep 0.01 & exit') ; done; sleep 0.1"), id="orphans")
    options = {"environment": {"TERCEL_LOGIN": "none"}, "ports": PORTS, "entrypoint": "/bin/bash"}
    with container(docker_engine, image, ["-c", "/app/kestra server standalone"], **options) as server:
        server.until("Server Running")
        server.save(orphans)

        assert server.run("orphans")["state"]["current"] == "SUCCESS"

        processes = [row[-1] for row in server.container.top(ps_args="-eo pid,state,comm")["Processes"]]
        assert "sleep" not in processes
        assert "tini" in processes
        assert server.stop() == 0


def test_given_a_login_then_it_serves_runs_flows_stops_and_goes_on(docker_engine: DockerClient, image: str) -> None:
    environment = {"TERCEL_USERNAME": "me@example.org", "TERCEL_PASSWORD": "Secret-123", "TERCEL_CONTAIN": "false"}
    hello = flow(
        sh("say", 'echo "::{\\"outputs\\":{\\"user\\":\\"$(whoami)\\"}}::"'),
        id="hello",
        outputs=[{"id": "user", "type": "STRING", "value": "{{ outputs.say.vars.user }}"}],
    )
    with (
        container(docker_engine, image, ["server", "standalone"], environment=environment, ports=PORTS) as server,
        httpx.Client(auth=("me@example.org", "Secret-123"), timeout=DEADLINE_S) as client,
    ):
        server.until("Server Running")
        assert httpx.get(f"{server.address(8081)}/health").json()["status"] == "UP"
        assert httpx.get(f"{server.address()}/api/v1/flows/search").status_code == 401

        saved = client.post(
            f"{server.address()}/api/v1/flows", content=hello, headers={"Content-Type": "application/x-yaml"}
        )
        assert saved.status_code == 200, saved.text
        ran = client.post(
            f"{server.address()}/api/v1/executions/tests/hello?wait=true", files={"x": (None, "y")}
        ).json()
        assert (ran["state"]["current"], ran["outputs"]) == ("SUCCESS", {"user": "kestra"})

        assert server.stop() == 0
        assert "Stopping." in server.log
        server.container.start()
        until(lambda: server.log.count("Server Running") == 2 or server.fail_if_ended())
        found = client.get(f"{server.address()}/api/v1/executions/{ran['id']}").json()
        assert found["state"]["current"] == "SUCCESS"


@contextmanager
def network(client: DockerClient) -> Iterator[str]:
    """A network of containers, in which they find each other by name."""
    from docker.errors import APIError

    name = f"tercel-test-{os.getpid()}"
    try:
        made = client.networks.create(name, labels={"tercel.test": "deployment"})
    except APIError:
        unavailable("a network of containers")
    try:
        yield name
    finally:
        made.remove()


@contextmanager
def database() -> Iterator[None]:
    """The user and the database that the compose file names, in the PostgreSQL of the tests."""
    server = running_server()
    server.run("CREATE ROLE kestra LOGIN")
    try:
        server.run("CREATE DATABASE kestra OWNER kestra TEMPLATE template0")
        yield
    finally:
        server.run("DROP DATABASE IF EXISTS kestra WITH (FORCE)")
        server.run("DROP ROLE kestra")


@contextmanager
def postgres_of_the_tests(client: DockerClient, image: str, network_name: str) -> Iterator[None]:
    """The name `postgres` in a network of containers."""
    folder = str(running_server().folder)
    options = {
        "entrypoint": ["/opt/tercel/bin/python", "-c", FORWARD, f"{folder}/.s.PGSQL.5432"],
        "user": "root",
        "volumes": [f"{folder}:{folder}"],
    }
    made = client.containers.create(image, [], labels={"tercel.test": "deployment"}, **options)
    try:
        client.networks.get(network_name).connect(made, aliases=["postgres"])
        made.start()
        yield
    finally:
        made.remove(force=True)


def as_options(service: dict[str, Any], volumes: dict[str, str]) -> dict[str, Any]:
    """What a compose file says of a service, as arguments of the engine's API; ports are free ones of this machine.

    Args:
        service: of the file.
        volumes: the names of volumes by those in the file.
    """
    known = {"image", "pull_policy", "entrypoint", "user", "command", "env_file", "volumes", "environment", "ports"}
    assert set(service) <= {*known, "depends_on"}
    binds = []
    for volume in service["volumes"]:
        source, _, rest = volume.partition(":")
        binds.append(f"{volumes.get(source, source)}:{rest}")
    return {
        "command": service["command"],
        "entrypoint": service["entrypoint"],
        "user": service["user"],
        "environment": service["environment"],
        "volumes": binds,
        "ports": {f"{port.rpartition(':')[2]}/tcp": ("127.0.0.1", None) for port in service["ports"]},
    }


def test_given_a_compose_file_for_kestra_when_only_the_image_is_changed_then_it_works(
    docker_engine: DockerClient, image: str, tmp_path: Path
) -> None:
    if os.environ.get("DOCKER_HOST", SOCKET) != SOCKET:
        unavailable(f"an engine at {SOCKET}")
    busybox = ensure_image("busybox")
    work, scripts = tmp_path / "wd", tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "say.sh").write_text("cat /app/word.txt; pwd > where.txt")
    (scripts / "word.txt").write_text("of the host")
    service = yaml.safe_load(COMPOSE.replace("WORK", str(work)))["services"]["kestra"]
    volume = docker_engine.volumes.create(labels={"tercel.test": "deployment"})
    options = as_options(service, {"kestra-data": volume.name})
    options["environment"]["SECRET_WORD"] = base64.b64encode(b"open-sesame").decode()  # as the .env of the file has it
    mounts = flow(
        {
            "id": "said",
            "type": f"{SCRIPTS}.shell.Commands",
            "docker": {"image": busybox, "volumes": [f"{scripts}:/app"]},
            "commands": ['echo \'::{"outputs":{"word":"\'$(sh /app/say.sh)\'"}}::\'', "test -s where.txt"],
            "env": {"WORD": "{{ secret('WORD') }}"},
        },
        {"id": "kept", "type": f"{CORE}.storage.Write", "content": "a file"},
        id="mounts",
        outputs=[
            {"id": "word", "type": "STRING", "value": "{{ outputs.said.vars.word }}"},
            {"id": "uri", "type": "STRING", "value": "{{ outputs.kept.uri }}"},
        ],
    )
    try:
        with (
            database(),
            network(docker_engine) as name,
            container(docker_engine, image, network=name, **options) as server,
        ):
            server.until("Trying again for a minute.")  # it came up before its database
            with postgres_of_the_tests(docker_engine, image, name):
                server.until("Server Running")
                assert httpx.get(f"{server.address(8081)}/health").json()["status"] == "UP"
                assert httpx.get(f"{server.address()}/ping").text == "pong"

                server.save(mounts)
                ran = server.run("mounts")

                assert ran["state"]["current"] == "SUCCESS", server.log
                assert ran["outputs"]["word"] == "of the host"
                [[rows]] = running_server().run("SELECT count(*) FROM executions", "kestra")
                assert rows == 1
                path = ran["outputs"]["uri"].removeprefix("kestra:///")
                assert server.container.exec_run(["cat", f"/app/storage/{path}"]).output == b"a file"
                assert "open-sesame" not in server.log
                assert server.stop() == 0
    finally:
        with suppress(Exception):
            volume.remove(force=True)


def test_given_the_unit_then_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    program = need("systemd-analyze", "systemd")
    text = (ROOT / "deploy" / "tercel.service").read_text()
    unit = tmp_path / "tercel.service"
    unit.write_text(text.replace("/opt/tercel/bin/tercel", sys.executable))

    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
