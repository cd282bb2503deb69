"""Secrets that core.http.* handle are in no file of the home, no log, no output, and no list of processes."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import tercel
from tests.end_to_end.processes import start
from tests.flows import flow
from tests.homes import Home, until
from tests.servers import Answer, http_server

HTTP = "io.kestra.plugin.core.http"
SECRET = "open-sesame-4711"
ENCODED = base64.b64encode(SECRET.encode()).decode()
EMBEDDED = base64.b64encode(f"me:{SECRET}".encode()).decode()


def everywhere(home: Path) -> bytes:
    """Every file of a home, the database and its journal among them."""
    return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


def assert_nowhere(*texts: bytes | str) -> None:
    for text in texts:
        content = text.encode() if isinstance(text, str) else text
        for form in (SECRET, ENCODED, EMBEDDED):
            assert form.encode() not in content


def told(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Gives back all that it was told, as some servers do when they complain."""
    said = {"path": path, "headers": headers, "body": body.decode("latin-1")}
    status = int(path.lstrip("/").partition("?")[0])
    return (
        status,
        {"X-Told": headers.get("authorization", ""), "Content-Type": "application/json"},
        json.dumps(said).encode(),
    )


@pytest.mark.parametrize("kind", ["Request", "Download"])
@pytest.mark.parametrize("status", [404, 500])
@pytest.mark.parametrize(
    "properties",
    [
        {"headers": {"Authorization": "Bearer {{ secret('TOKEN') }}", "X-Key": "{{ secret('TOKEN') }}"}},
        {"options": {"auth": {"type": "BASIC", "username": "me", "password": "{{ secret('TOKEN') }}"}}},
        {"options": {"auth": {"type": "BEARER", "token": "{{ secret('TOKEN') }}"}}},
        {"method": "POST", "body": '{"key": "{{ secret(\'TOKEN\') }}"}'},
        {"params": {"key": "{{ secret('TOKEN') }}"}},
    ],
    ids=["headers", "basic", "bearer", "body", "params"],
)
def test_given_a_secret_that_the_server_gives_back_with_an_error_then_it_is_nowhere(
    tmp_path: Path, kind: str, status: int, properties: dict[str, Any]
) -> None:
    home = tmp_path / "home"
    path = tmp_path / "flow.yaml"
    with http_server(told) as address:
        task = {"id": "http", "type": f"{HTTP}.{kind}", "uri": f"{address}/{status}", "logLevel": "TRACE", **properties}
        path.write_text(flow(task))
        done = tercel("run", path, "--json", home=home, env={"SECRET_TOKEN": ENCODED})

    assert done.returncode == 1
    assert f"The server answered {status}" in done.stdout + done.stderr
    assert_nowhere(done.stdout, done.stderr, everywhere(home))


def test_given_a_literal_password_and_an_answer_that_holds_it_then_outputs_are_sealed(home: Home) -> None:
    options = {"auth": {"type": "BASIC", "username": "me", "password": "{{ 'open-sesame-' ~ 4711 }}"}}
    with http_server(told) as address:
        ran = home.run(flow({"id": "http", "type": f"{HTTP}.Request", "uri": f"{address}/200", "options": options}))
    home.close()

    assert ran.state == "SUCCESS", ran.logs
    assert_nowhere(str(ran.runs), str(ran.logs), everywhere(home.root))


def test_given_a_request_under_way_then_the_list_of_processes_and_their_environments_tell_nothing(
    tmp_path: Path,
) -> None:
    asked, go = threading.Event(), threading.Event()

    def wait(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        asked.set()
        go.wait(30)
        return 200, {}, b"ok"

    home = tmp_path / "home"
    path = tmp_path / "flow.yaml"
    with http_server(wait) as address:
        options = {
            "auth": {"type": "BASIC", "username": "me", "password": "{{ 'open-sesame-' ~ 4711 }}"},
            "proxy": {"type": "DIRECT"},
        }
        path.write_text(flow({"id": "http", "type": f"{HTTP}.Request", "uri": address, "options": options}))
        running = start("run", path, home=home)
        try:
            until(asked.is_set)
            listed = subprocess.run(["ps", "axwwe"], capture_output=True, check=True).stdout
        finally:
            go.set()
            output, _ = running.communicate(timeout=60)

    assert running.returncode == 0, output
    assert b"tercel" in listed
    assert_nowhere(listed, output, everywhere(home))


class TestEncryptBody:
    def test_given_it_then_later_tasks_see_the_text_and_nobody_else_does(self, home: Home) -> None:
        task = {"id": "http", "type": f"{HTTP}.Request", "encryptBody": True}
        use = {"id": "use", "type": f"{HTTP}.Request", "headers": {"X-Key": "{{ outputs.http.encryptedBody }}"}}
        seen: list[str | None] = []

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            seen.append(headers.get("x-key"))
            return 200, {}, SECRET.encode() if path == "/token" else b"ok"

        show = {
            "id": "show",
            "type": "io.kestra.plugin.core.log.Log",
            "message": "It is {{ outputs.http.encryptedBody }}",
        }
        with http_server(answer) as address:
            ran = home.run(flow({**task, "uri": f"{address}/token"}, {**use, "uri": f"{address}/use"}, show))
        home.close()

        outputs = ran.run_of("http").outputs
        assert ran.state == "SUCCESS", ran.logs
        assert seen == [None, SECRET]
        assert "body" not in outputs
        assert set(str(outputs["encryptedBody"])) <= set("*masked")
        assert "It is **masked**" in ran.log_of("show")
        assert_nowhere(str(ran.runs), str(ran.logs), everywhere(home.root))

    def test_given_a_large_answer_then_it_is_refused(self, home: Home) -> None:
        with http_server(lambda *_: (200, {}, b"x" * 70_000)) as address:
            ran = home.run(flow({"id": "http", "type": f"{HTTP}.Request", "uri": address, "encryptBody": True}))

        assert ran.run_of("http").message == (
            f"The answer of {address} has more than the 65,536 bytes that encryptBody can handle."
        )
