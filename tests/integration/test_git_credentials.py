"""Tasks of Git that push and sync: who asks, what fails and how, and that no secret is seen anywhere; HTTP and ssh."""

from __future__ import annotations

import base64
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercel.mounts import mount, own_mounts, why_no_mounts
from tercel.plugin_api import FlowSource, TaskFailedError
from tercel.plugins.git.push_flows import PushFlows
from tests.engine_calls import EngineContext
from tests.flows import CORE, as_yaml, echo, flow
from tests.git_servers import SshServer, ssh_server
from tests.homes import Home, Ran, git
from tests.servers import git_server, stalling_server

GIT = "io.kestra.plugin.git"
PASSWORD = "s3cret-w0rd"
SYNCS = {
    "PushFlows": {"sourceNamespace": "team"},
    "PushNamespaceFiles": {"namespace": "team"},
    "SyncFlows": {"targetNamespace": "other"},
    "SyncFlow": {"targetNamespace": "other", "flowPath": "_flows/there.yml"},
    "SyncNamespaceFiles": {"namespace": "other"},
    "Push": {"branch": "main", "commitMessage": "m", "inputFiles": {"in.txt": "x"}},
}
TASKS = [pytest.param(kind, properties, id=kind) for kind, properties in SYNCS.items()]


def task(kind: str, url: str | Path, **properties: Any) -> dict[str, Any]:
    return {"id": "git", "type": f"{GIT}.{kind}", "url": str(url), **properties}


def basic(**properties: Any) -> dict[str, Any]:
    return {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}", **properties}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def refs(bare: Path) -> str:
    return git(bare, "for-each-ref")


def contents(home: Home) -> dict[str, object]:
    """All flows and namespace files of the home, but for the flow that runs the task."""
    flows = home.engine.call(home.engine.operations.saved_flows())
    found: dict[str, object] = {f"{one.namespace}.{one.id}": one.source for one in flows if one.id != "scenario"}
    for namespace in ("team", "other"):
        files = home.engine._services.namespace_files(namespace).list()
        found |= {f"{namespace}/{file.path}": file.size for file in files}
    return found


def command_lines() -> bytes:
    """Those of all processes of this machine."""
    found: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(found)


def places_of(secret: str, root: Path) -> list[str]:
    """The files below *root* that hold a secret."""
    words = [secret.encode(), encoded(secret).encode(), encoded(f"me:{secret}").encode()]
    return [
        str(path) for path in root.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in words)
    ]


@pytest.fixture
def filled(home: Home) -> Home:
    """A home with a flow and a file in the namespace `team`."""
    text = as_yaml({"id": "one", "namespace": "team", "tasks": [echo("a", "x")]})
    home.engine.call(home.engine.operations.save_flow(text))
    home.put_namespace_file("team", "one.txt", "1")
    return home


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """A repository that is served, with a flow and a file to sync."""
    flow_text = f"id: there\nnamespace: x\ntasks:\n  - {{id: a, type: {CORE}.log.Log, message: x}}\n"
    for name, content in (("_flows/there.yml", flow_text), ("_files/there.txt", "x")):
        (repository / name).parent.mkdir()
        (repository / name).write_text(content)
    git(repository, "add", "."), git(repository, "commit", "-qm", "content")
    path = tmp_path / "served" / "repo.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(path))
    return path


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_GIT_PASSWORD", encoded(PASSWORD))


def failed(ran: Ran) -> str:
    assert ran.state == "FAILED", ran.logs
    return ran.log_of("git")


class TestSecrets:
    @pytest.mark.parametrize(("kind", "properties"), TASKS)
    def test_given_a_password_then_it_is_neither_in_a_command_line_nor_in_a_file(
        self, filled: Home, bare: Path, kind: str, properties: dict[str, Any]
    ) -> None:
        seen: list[bytes] = []

        with git_server(bare.parent, "me", PASSWORD, lambda *_: seen.append(command_lines())) as address:
            ran = filled.run(flow(task(kind, f"{address}/repo.git", **basic(**properties))))
        lines = "\n".join(f"{entry.message}" for entry in ran.logs)
        filled.close()

        assert ran.state == "SUCCESS", ran.logs
        assert b"git" in seen[0]
        assert not any(PASSWORD.encode() in one for one in seen)
        assert PASSWORD not in lines
        assert places_of(PASSWORD, filled.root) == []

    @pytest.mark.parametrize(("kind", "properties"), TASKS)
    def test_given_a_wrong_password_then_that_is_said_and_nothing_is_changed(
        self, filled: Home, bare: Path, kind: str, properties: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_GIT_PASSWORD", encoded("wr0ng-word"))
        filled.close()
        before, there = refs(bare), contents(filled)

        with git_server(bare.parent, "me", PASSWORD) as address:
            ran = filled.run(flow(task(kind, f"{address}/repo.git", **basic(**properties))))

        assert "Authentication failed" in failed(ran)
        assert "Check `username` and `password`" in failed(ran)
        assert (refs(bare), contents(filled)) == (before, there)
        filled.close()
        assert places_of("wr0ng-word", filled.root) == []

    @pytest.mark.parametrize(("kind", "properties"), TASKS)
    def test_given_a_literal_password_then_validation_says_how_to_mend_it(
        self, home: Home, kind: str, properties: dict[str, Any]
    ) -> None:
        literal = {"username": "me", "password": "abc", **properties}
        in_url = task(kind, "https://me:abc@git.example.com/x.git", **properties)

        [issue] = home.issues(flow(task(kind, "https://git.example.com/x.git", **literal)))
        [other] = home.issues(flow(in_url))

        assert issue.message == "`password` is written into the flow."
        assert issue.hint == "Keep it as a secret, and write {{ secret('GIT_TOKEN') }} or the name that you gave it."
        assert other.message == "`url` has a password in it."

    def test_given_a_password_from_plugin_defaults_then_it_is_fine(self, home: Home) -> None:
        defaults = [{"type": GIT, "values": basic(url="https://git.example.com/x.git")}]
        tasks = {"id": "git", "type": f"{GIT}.PushFlows"}

        assert home.issues(flow(tasks, pluginDefaults=defaults)) == ()
        assert [one.message for one in home.issues(flow(tasks))] == ["`url` is missing."]


class TestWhatFails:
    @pytest.mark.parametrize(("kind", "properties"), TASKS)
    def test_given_nobody_who_listens_then_the_address_is_in_question(
        self, filled: Home, kind: str, properties: dict[str, Any]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        ran = filled.run(flow(task(kind, f"http://127.0.0.1:{port}/x.git", **basic(**properties))))

        assert "Failed to connect" in failed(ran) or "Connection refused" in failed(ran)
        assert "Check `url`, and whether its host can be reached from here." in failed(ran)

    @pytest.mark.parametrize("kind", ["Clone", "PushFlows"])
    def test_given_no_address_then_that_is_said_and_no_password_shown(self, home: Home, kind: str) -> None:
        url = "https://me:{{ secret('GIT_PASSWORD') }}@[bad/x"

        ran = home.run(flow({"id": "git", "type": f"{GIT}.{kind}", "url": url}))

        assert "`url` is no address: Invalid IPv6 URL. Percent-encode special characters in it." in failed(ran)
        assert PASSWORD not in failed(ran)

    @pytest.mark.parametrize(("kind", "properties"), TASKS)
    def test_given_a_folder_that_is_no_repository_then_that_is_said(
        self, filled: Home, tmp_path: Path, kind: str, properties: dict[str, Any]
    ) -> None:
        (tmp_path / "plain").mkdir()

        ran = filled.run(flow(task(kind, tmp_path / "plain", **properties)))

        assert "does not appear to be a git repository" in failed(ran)
        assert "Check `url`: there is no repository, or this login may not see it." in failed(ran)

    @pytest.mark.parametrize("kind", [kind for kind in SYNCS if kind.startswith("Push")])
    def test_given_a_hook_that_refuses_then_its_words_are_told_and_nothing_is_pushed(
        self, filled: Home, bare: Path, kind: str
    ) -> None:
        (bare / "hooks").mkdir(exist_ok=True)
        (bare / "hooks" / "pre-receive").write_text("#!/bin/sh\necho 'only on Mondays' >&2\nexit 1\n")
        (bare / "hooks" / "pre-receive").chmod(0o755)
        before = refs(bare)

        with git_server(bare.parent, "me", PASSWORD) as address:
            ran = filled.run(flow(task(kind, f"{address}/repo.git", **basic(**SYNCS[kind]))))

        assert "only on Mondays" in failed(ran)
        assert "pre-receive hook declined" in failed(ran)
        assert refs(bare) == before

    def test_given_a_remote_that_takes_no_pushes_then_that_is_said(self, filled: Home, bare: Path) -> None:
        git(bare, "config", "http.receivepack", "false")

        with git_server(bare.parent, "me", PASSWORD) as address:
            ran = filled.run(flow(task("PushFlows", f"{address}/repo.git", **basic(sourceNamespace="team"))))

        assert "git push failed" in failed(ran)
        assert "403" in failed(ran)

    def test_given_a_server_that_stalls_and_a_read_timeout_then_it_is_given_up(self, filled: Home) -> None:
        with stalling_server() as (address, _):
            ran = filled.run(
                flow(task("PushFlows", f"{address}/x.git", sourceNamespace="team", readTimeout=1000)),
            )

        assert "git fetch failed" in failed(ran)

    def test_given_a_server_that_stalls_then_a_kill_does_not_wait_and_nothing_is_left(self, filled: Home) -> None:
        with stalling_server() as (address, has_asked):
            ran = filled.run_and_kill(flow(task("PushFlows", f"{address}/x.git", sourceNamespace="team")), has_asked)

        assert ran.state == "KILLED"
        assert filled.leftovers() == []


class TestSsh:
    KEY = "{{ secret('GIT_KEY') }}"

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[SshServer]:
        with ssh_server(tmp_path / "sshd") as server:
            yield server

    def test_given_a_key_then_each_kind_of_task_works_and_the_key_is_in_no_file(
        self, filled: Home, bare: Path, server: SshServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_GIT_KEY", encoded(server.private_key))
        filled.close()
        url = f"{server.address}{bare}"
        tasks = [
            {**task(kind, url, privateKey=self.KEY, **SYNCS.get(kind, {})), "id": kind}
            for kind in ("Clone", "SyncFlows", "PushFlows")
        ]

        ran = filled.run(flow(*tasks))
        filled.close()

        assert ran.state == "SUCCESS", ran.logs
        assert "_flows/one.yml" in git(bare, "ls-tree", "-r", "--name-only", "main").split()
        secret = server.private_key.splitlines()[2]
        assert not any(secret in entry.message for entry in ran.logs)
        assert places_of(secret, filled.root) == []

    def test_given_a_key_with_a_passphrase_then_both_are_used_and_a_wrong_one_is_said(
        self, filled: Home, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        phrases = {"good": "s0me-phrase", "bad": "0ther-phrase"}
        with ssh_server(tmp_path / "sshd", phrases["good"]) as server:
            monkeypatch.setenv("SECRET_GIT_KEY", encoded(server.private_key))
            for name, phrase in phrases.items():
                monkeypatch.setenv(f"SECRET_{name}", encoded(phrase))
            filled.close()
            ran, wrong = (
                filled.run(
                    flow(
                        task(
                            "PushFlows",
                            f"{server.address}{bare}",
                            privateKey=self.KEY,
                            passphrase=f"{{{{ secret('{name}') }}}}",
                            sourceNamespace="team",
                        )
                    )
                )
                for name in phrases
            )
        filled.close()

        assert ran.state == "SUCCESS", ran.logs
        assert "Permission denied" in failed(wrong)
        assert [places_of(phrase, filled.root) for phrase in phrases.values()] == [[], []]

    def test_given_a_strangers_key_then_it_is_refused(
        self, filled: Home, bare: Path, server: SshServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_GIT_KEY", encoded(server.stranger))
        filled.close()
        before = refs(bare)

        ran = filled.run(
            flow(task("PushFlows", f"{server.address}{bare}", privateKey=self.KEY, sourceNamespace="team"))
        )

        assert "Permission denied (publickey)" in failed(ran)
        assert "Check `username` and `password`, or `privateKey` and `passphrase`." in failed(ran)
        assert refs(bare) == before


@pytest.mark.skipif(bool(why_no_mounts()), reason="a small disk can be made only where mounts can")
class TestFullDisk:
    @pytest.mark.parametrize("where", ["flow", "remote"])
    def test_given_no_room_then_that_is_said_and_nothing_is_pushed(
        self, repository: Path, bare: Path, tmp_path: Path, where: str
    ) -> None:
        big = random.Random(1).randbytes(2_000_000)
        if where == "remote":
            (repository / "big").write_bytes(big)
            (
                git(repository, "add", "."),
                git(repository, "commit", "-qm", "big"),
                git(repository, "push", "-q", str(bare), "main"),
            )
        before = refs(bare)
        errors: list[TaskFailedError] = []

        def attempt() -> None:
            with own_mounts():
                mount("small", str(folder), "tmpfs", 0, "size=1m")
                context = EngineContext(folder)
                text = big.hex() if where == "flow" else "id: a"
                context.engine.saved = [FlowSource("team", "a", 1, text)]
                try:
                    PushFlows(id="git", type="x", url=str(bare), source_namespace="team").run(context)  # type: ignore[arg-type]
                except TaskFailedError as error:
                    errors.append(error)
                assert list((folder / "work.engine").iterdir()) == []

        folder = tmp_path / "small"
        folder.mkdir()
        thread = threading.Thread(target=attempt)  # its mounts end with it
        thread.start()
        thread.join()

        [error] = errors
        assert "No space left on device" in error.message
        assert error.hint.startswith("Make room on ")
        assert refs(bare) == before
