"""`tercel server` as its configuration has it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import httpx

from tercel import __version__
from tests.command_line import command, environment

DEADLINE_S = 60


def started(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("server", *arguments), env=environment(None, variables), stderr=subprocess.PIPE, text=True
    )


def test_given_kestras_configuration_then_it_serves_as_that_says(tmp_path: Path) -> None:
    file = tmp_path / "kestra.yml"
    file.write_text(
        f"kestra:\n  storage: {{type: local, local: {{basePath: '{tmp_path}/data'}}}}\n"
        "  repository.type: h2\n  queue.type: h2\n  url: https://flows.example\n"
        "  system-flows.namespace: ours\n  server.basic-auth: {username: me@example.org, password: 'Secret-123'}\n"
        "micronaut.server: {port: 0, host: 127.0.0.1, contextPath: kestra}\nendpoints.all.port: none\n"
    )

    with started("standalone", "--config", file) as process:
        assert process.stderr is not None
        ready = process.stderr.readline()
        address = ready.partition("Server Running on ")[2].partition(",")[0]
        refused = httpx.get(f"{address}/api/v1/configs")
        told = httpx.get(f"{address}/api/v1/configs", auth=("me@example.org", "Secret-123")).json()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()

    assert ready.endswith(f"INFO  tercel: Ready. Server Running on {address}, in {tmp_path}/data/.tercel.\n")
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/kestra")
    assert refused.status_code == 401
    assert (told["url"], told["systemNamespace"]) == ("https://flows.example", "ours")
    said = [line.split(" ", 1)[1].strip() for line in rest.splitlines()]
    assert said[0] == f"INFO  tercel: Tercel {__version__}; operators are answered on {address}."
    assert [line.split(": ")[0] for line in said[1:]] == ["INFO  access", "INFO  access", "INFO  tercel"]
    assert said[-1] == "INFO  tercel: Stopping."
    assert (tmp_path / "data" / ".tercel" / "tercel.db").exists()


def test_given_a_database_that_does_not_answer_when_it_is_stopped_then_it_waits_no_longer(tmp_path: Path) -> None:
    address = f"postgresql:///{tmp_path.name}?host={tmp_path}"  # a folder without a socket
    variables = {"TERCEL_DATABASE": address, "TERCEL_HOME": str(tmp_path / "home")}

    with started(**variables) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()

    assert f" WARN  tercel: The database {tmp_path.name} on {tmp_path}:5432 cannot be opened: " in first
    assert first.endswith(" Trying again for a minute.\n")
    assert process.returncode == 1
    assert rest.startswith(f"Error: The database {tmp_path.name} on {tmp_path}:5432 cannot be opened: ")
