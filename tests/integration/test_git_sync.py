"""git.SyncFlows, SyncFlow, SyncNamespaceFiles: from real repositories, over HTTP with a login."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.flows import CORE, flow
from tests.homes import Home, Ran, git
from tests.servers import git_server

GIT = "io.kestra.plugin.git"
PASSWORD = "s3cret-w0rd"


def task(kind: str, url: str | Path, **properties: Any) -> dict[str, Any]:
    login = {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}"}
    return {"id": "git", "type": f"{GIT}.{kind}", "url": str(url), **login, **properties}


def sync(kind: str, url: str | Path, namespace: str = "system", **properties: Any) -> str:
    return flow(task(kind, url, **properties), id="syncing", namespace=namespace)


def source(id_: str, namespace: str = "team", message: str = "x") -> str:
    head = f"id: {id_}  # a flow\nnamespace: {namespace}\n\n"
    return f"{head}tasks:\n  - {{id: a, type: {CORE}.log.Log, message: {message}}}\n"


def commit(repository: Path, contents: dict[str, str | bytes | None], bare: Path | None = None) -> None:
    """Commit files, of which None removes one; pushed where *bare* is given."""
    for name, content in contents.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    git(repository, "add", "--all", "."), git(repository, "commit", "-qm", "more")
    if bare is not None:
        git(repository, "push", "-q", str(bare), "HEAD")


def saved(home: Home) -> dict[str, tuple[int, str]]:
    """Revision and text of every flow but the one that syncs."""
    found = home.engine.call(home.engine.operations.saved_flows())
    return {f"{one.namespace}.{one.id}": (one.revision, one.source) for one in found if one.id != "syncing"}


def stored(home: Home, namespace: str) -> dict[str, bytes]:
    folder = home.engine._services.namespace_files(namespace)
    found: dict[str, bytes] = {}
    for file in folder.list():
        with folder.get(file.path) as content:
            found[file.path] = content.read()
    return found


def outputs(ran: Ran) -> dict[str, Any]:
    assert ran.state == "SUCCESS", ran.logs
    return dict(ran.run_of("git").outputs)


def diff(home: Home, ran: Ran, name: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in home.read(str(outputs(ran)[name])).splitlines()]


def kinds(home: Home, ran: Ran, name: str) -> dict[str, str]:
    return {str(row["file"]): row["change"] for row in diff(home, ran, name)}


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    path = tmp_path / "served" / "repo.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(path))
    return path


@pytest.fixture
def url(bare: Path) -> Iterator[str]:
    with git_server(bare.parent, "me", PASSWORD) as address:
        yield f"{address}/repo.git"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_GIT_PASSWORD", base64.b64encode(PASSWORD.encode()).decode())


class TestRoundTrip:
    def test_given_flows_of_one_home_then_another_gets_them_byte_for_byte(
        self, home: Home, url: str, tmp_path: Path
    ) -> None:
        texts = [source("one"), source("two", message='"ä ✓"'), source("deep", "team.sales.eu").rstrip("\n")]
        for text in texts:
            home.engine.call(home.engine.operations.save_flow(text))
        outputs(
            home.run(
                flow(
                    task("PushFlows", url, sourceNamespace="team", includeChildNamespaces=True),
                    id="syncing",
                    namespace="system",
                )
            )
        )
        with Home(tmp_path / "other") as other:
            ran = other.run(sync("SyncFlows", url, targetNamespace="team", includeChildNamespaces=True))
            again = other.run(sync("SyncFlows", url, targetNamespace="team", includeChildNamespaces=True))

            assert set(kinds(other, ran, "flows").values()) == {"CREATED"}
            assert saved(other) == saved(home)
            assert set(kinds(other, again, "flows").values()) == {"UNCHANGED"}
            assert [text.encode() for _, text in saved(other).values()] == [
                texts[0].encode(),
                texts[1].encode(),
                texts[2].encode(),
            ]

    def test_given_files_of_one_home_then_another_gets_them_byte_for_byte(
        self, home: Home, url: str, tmp_path: Path
    ) -> None:
        folder = home.engine._services.namespace_files("team")
        given = {
            "a.bin": bytes(range(256)) * 4_000,
            "b/crlf.txt": b"x\r\ny\r\n",
            "b/ä ö.txt": b"",
            "run.sh": b"#!/bin/sh",
        }
        for path, content in given.items():
            folder.put(path, BytesIO(content), executable=path == "run.sh")
        outputs(home.run(flow(task("PushNamespaceFiles", url, namespace="team"), id="syncing")))

        with Home(tmp_path / "other") as other:
            outputs(other.run(sync("SyncNamespaceFiles", url, namespace="team")))

            assert stored(other, "team") == given
            found = other.engine._services.namespace_files("team")
            assert [file.path for file in found.list() if file.executable] == ["run.sh"]


class TestSyncFlows:
    def test_given_files_then_they_are_flows_of_the_target(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        texts = {
            "_flows/one.yml": source("one", "elsewhere"),
            "_flows/two.yaml": source("two", '"team"'),
            "_flows/README.md": "# no flow",
            "_flows/sub/three.yml": source("three", "x"),
        }
        commit(repository, texts, bare)

        ran = home.run(sync("SyncFlows", url, targetNamespace="team"))

        assert diff(home, ran, "flows") == [
            {
                "file": f"_flows/{name}",
                "change": "CREATED",
                "gitPath": f"_flows/{name}",
                "syncState": "ADDED",
                "flowId": name.partition(".")[0],
                "namespace": "team",
                "revision": 1,
            }
            for name in ("one.yml", "two.yaml")
        ]
        assert saved(home) == {"team.one": (1, source("one", "team")), "team.two": (1, source("two", '"team"'))}

    def test_given_a_change_then_there_is_a_new_revision_of_that_flow_alone(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        commit(repository, {"_flows/one.yml": source("one"), "_flows/two.yml": source("two")}, bare)
        home.run(sync("SyncFlows", url, targetNamespace="team"))
        commit(repository, {"_flows/two.yml": source("two", message="new")}, bare)

        ran = home.run(sync("SyncFlows", url, targetNamespace="team"))

        assert [(row["flowId"], row["change"], row["revision"]) for row in diff(home, ran, "flows")] == [
            ("one", "UNCHANGED", 1),
            ("two", "UPDATED", 2),
        ]

    @pytest.mark.parametrize("dry", [False, True])
    def test_given_delete_then_what_git_lacks_is_gone_but_for_the_flow_that_runs(
        self, home: Home, repository: Path, bare: Path, url: str, dry: bool
    ) -> None:
        for one in (source("one"), source("gone"), source("below", "team.sub"), source("far", "teams")):
            home.engine.call(home.engine.operations.save_flow(one))
        commit(repository, {"_flows/one.yml": source("one", message="new"), "_flows/new.yml": source("new")}, bare)
        before = saved(home)

        ran = home.run(sync("SyncFlows", url, "team", targetNamespace="team", delete=True, dryRun=dry))

        assert [(row["file"], row["change"], row["flowId"]) for row in diff(home, ran, "flows")] == [
            ("_flows/new.yml", "CREATED", "new"),
            ("_flows/one.yml", "UPDATED", "one"),
            (None, "DELETED", "gone"),
        ]
        assert "it runs this task, and so it is kept" in ran.log_of("git")
        assert ("Dry run, nothing is changed: 1 created, 1 updated, 1 deleted." in ran.log_of("git")) is dry
        kept = {"team.one", "team.new", "team.sub.below", "teams.far"}
        assert saved(home) == before if dry else set(saved(home)) == kept

    def test_given_an_invalid_flow_then_nothing_is_changed_and_all_are_named(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        texts = {
            "_flows/a.yml": source("a"),
            "_flows/broken.yml": "id: broken\nnamespace: team\ntasks:\n  - {id: x, type: no.such.Task}\n",
            "_flows/latin.yml": b"id: l\xe9\n",
            "_flows/tab.yml": "id: t\n\tnamespace: team\n",
        }
        commit(repository, texts, bare)
        home.engine.call(home.engine.operations.save_flow(source("gone")))

        ran = home.run(sync("SyncFlows", url, targetNamespace="team", delete=True))

        log = ran.log_of("git")
        assert ran.state == "FAILED"
        assert "Nothing is changed, as not every flow is valid." in log
        assert "_flows/broken.yml: The flow is not valid. Line 4" in log
        assert "no.such.Task" in log
        assert "_flows/latin.yml: it is no UTF-8 text." in log
        assert "_flows/tab.yml: " in log
        assert set(saved(home)) == {"team.gone"}

    def test_given_invalid_ones_are_ignored_then_the_others_are_saved_and_theirs_stay(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        home.engine.call(home.engine.operations.save_flow(source("broken")))
        texts = {"_flows/a.yml": source("a"), "_flows/other-name.yml": "id: broken\nnamespace: team\ntasks: 1\n"}
        commit(repository, texts, bare)

        ran = home.run(sync("SyncFlows", url, targetNamespace="team", delete=True, ignoreInvalidFlows=True))

        outputs(ran)
        assert set(saved(home)) == {"team.a", "team.broken"}
        [warning] = [entry.message for entry in ran.logs if entry.level == "WARN"]
        assert warning.startswith("Left out: _flows/other-name.yml: ")

    def test_given_two_files_of_one_flow_then_both_are_named(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        commit(repository, {"_flows/a.yml": source("same"), "_flows/b.yml": source("same")}, bare)

        ran = home.run(sync("SyncFlows", url, targetNamespace="team"))

        assert ran.state == "FAILED"
        assert "'_flows/a.yml' and '_flows/b.yml' are both the flow 'same'" in ran.log_of("git")
        assert saved(home) == {}

    def test_given_an_ignore_file_then_what_it_says_is_left_out(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        texts = {"_flows/.kestraignore": "draft-*\n", "_flows/a.yml": source("a"), "_flows/draft-b.yml": "no flow"}
        commit(repository, texts, bare)

        outputs(home.run(sync("SyncFlows", url, targetNamespace="team")))

        assert set(saved(home)) == {"team.a"}

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            ({"gitDirectory": "nowhere"}, "The branch 'main' has no folder 'nowhere'."),
            ({"branch": "nope"}, "The remote has no branch 'nope'. Check `branch` and `url`."),
            ({"gitDirectory": "../x"}, "leaves the files of the repository"),
            ({"branch": "--upload-pack=x"}, "is no name of a branch"),
        ],
    )
    def test_given_no_such_place_then_it_is_named(
        self, home: Home, url: str, properties: dict[str, str], message: str
    ) -> None:
        ran = home.run(sync("SyncFlows", url, targetNamespace="team", **properties))

        assert ran.state == "FAILED"
        assert message in ran.log_of("git")


class TestSyncFlow:
    def test_given_a_path_then_that_flow_is_saved(self, home: Home, repository: Path, bare: Path, url: str) -> None:
        commit(repository, {"deep/one.yml": source("one", "x"), "deep/bad.yml": "no flow"}, bare)

        ran = home.run(sync("SyncFlow", url, targetNamespace="team", flowPath="deep/one.yml"))

        given = outputs(ran)
        assert (given["flowId"], given["namespace"], given["revision"]) == ("one", "team", 1)
        assert kinds(home, ran, "flow") == {"deep/one.yml": "CREATED"}
        assert saved(home) == {"team.one": (1, source("one"))}

    def test_given_a_dry_run_then_nothing_is_saved(self, home: Home, repository: Path, bare: Path, url: str) -> None:
        commit(repository, {"one.yml": source("one")}, bare)

        ran = home.run(sync("SyncFlow", url, targetNamespace="team", flowPath="one.yml", dryRun=True))

        assert outputs(ran)["revision"] is None
        assert saved(home) == {}

    def test_given_no_such_file_then_it_is_named(self, home: Home, url: str) -> None:
        ran = home.run(sync("SyncFlow", url, targetNamespace="team", flowPath="nope.yml"))

        assert "The branch 'main' has no file 'nope.yml'." in ran.log_of("git")


class TestSyncNamespaceFiles:
    def test_given_changes_then_each_is_told(self, home: Home, repository: Path, bare: Path, url: str) -> None:
        for path in ("same.txt", "old.txt", "gone.txt"):
            home.put_namespace_file("team", path, "1")
        commit(repository, {"_files/same.txt": "1", "_files/old.txt": "2", "_files/d/new.txt": "3"}, bare)

        ran = home.run(sync("SyncNamespaceFiles", url, namespace="team", delete=True))

        assert diff(home, ran, "files")[0] == {
            "file": "_files/d/new.txt",
            "change": "CREATED",
            "gitPath": "_files/d/new.txt",
            "syncState": "ADDED",
            "kestraPath": "d/new.txt",
        }
        assert kinds(home, ran, "files") == {
            "_files/d/new.txt": "CREATED",
            "_files/old.txt": "UPDATED",
            "_files/same.txt": "UNCHANGED",
            "_files/gone.txt": "DELETED",
        }
        assert stored(home, "team") == {"d/new.txt": b"3", "old.txt": b"2", "same.txt": b"1"}

    @pytest.mark.parametrize("given", [{}, {"delete": True, "dryRun": True}])
    def test_given_no_delete_or_a_dry_run_then_nothing_is_deleted(
        self, home: Home, repository: Path, bare: Path, url: str, given: dict[str, bool]
    ) -> None:
        home.put_namespace_file("team", "mine.txt", "1")
        commit(repository, {"_files/new.txt": "3"}, bare)

        outputs(home.run(sync("SyncNamespaceFiles", url, namespace="team", **given)))

        assert stored(home, "team") == {"mine.txt": b"1", **({} if given else {"new.txt": b"3"})}

    def test_given_an_ignore_file_then_it_is_kept_to(self, home: Home, repository: Path, bare: Path, url: str) -> None:
        rules = "*.log\n!keep.log\n/build/\n# note\n"
        contents = {f"_files/{name}": "g" for name in ("a.log", "keep.log", "build/x.txt", "d/build/y.txt", "e.txt")}
        commit(repository, {**contents, "_files/.kestraignore": rules}, bare)
        home.put_namespace_file("team", "local.log", "mine")
        home.put_namespace_file("team", "stale.txt", "mine")

        outputs(home.run(sync("SyncNamespaceFiles", url, namespace="team", delete=True)))

        assert sorted(stored(home, "team")) == ["d/build/y.txt", "e.txt", "keep.log", "local.log"]

    def test_given_links_and_attributes_then_only_plain_bytes_are_taken(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        (repository / "_files").mkdir()
        (repository / "_files" / "link").symlink_to("/etc/passwd")
        commit(repository, {"_files/a.txt": "$Id$ x\n", ".gitattributes": "*.txt ident eol=crlf\n"}, bare)

        ran = home.run(sync("SyncNamespaceFiles", url, namespace="team"))

        outputs(ran)
        assert stored(home, "team") == {"a.txt": b"$Id$ x\n"}
        assert "'link' is not synced: only plain files are." in ran.log_of("git")

    def test_given_a_folder_where_a_file_was_then_it_takes_its_place(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        home.put_namespace_file("team", "a", "file")
        commit(repository, {"_files/a/b.txt": "x"}, bare)

        outputs(home.run(sync("SyncNamespaceFiles", url, namespace="team", delete=True)))

        assert stored(home, "team") == {"a/b.txt": b"x"}


class TestSync:
    def test_given_a_folder_then_its_files_and_flows_are_those_of_the_namespace(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        for path in ("lib/gone.py", "lib/kept.tmp", "other.txt"):
            home.put_namespace_file("team", path, "1")
        home.engine.call(home.engine.operations.save_flow(source("stays")))
        texts = {
            "app/.kestraignore": "*.tmp\n",
            "app/_flows/one.yml": source("one", "elsewhere"),
            "app/_flows/two.yml": source("two", "team.sub"),
            "app/d/new.py": "x",
            "outside.txt": "x",
        }
        commit(repository, texts, bare)
        given = {"gitDirectory": "app", "namespaceFilesDirectory": "lib"}

        dry = home.run(sync("Sync", url, "team", **given, dryRun=True))
        before = (sorted(stored(home, "team")), set(saved(home)))
        ran = home.run(sync("Sync", url, "team", **given))

        assert before == (["lib/gone.py", "lib/kept.tmp", "other.txt"], {"team.stays"})
        assert sorted(stored(home, "team")) == ["lib/d/new.py", "lib/kept.tmp", "other.txt"]
        assert set(saved(home)) == {"team.stays", "team.one", "team.sub.two"}
        for one in (dry, ran):
            assert kinds(home, one, "flows") == {"app/_flows/one.yml": "CREATED", "app/_flows/two.yml": "CREATED"}
            assert [(row["kestraPath"], row["change"]) for row in diff(home, one, "files")] == [
                ("lib/d/new.py", "CREATED"),
                ("lib/gone.py", "DELETED"),
            ]

    @pytest.mark.parametrize(
        "place",
        [
            ("_flows/bad.yml", "_flows/bad.yml: The flow is not valid"),
            ("_flows/sub/x.yml", "is in a folder of its own"),
        ],
    )
    def test_given_a_flow_that_cannot_be_saved_then_no_file_is_changed(
        self, home: Home, repository: Path, bare: Path, url: str, place: tuple[str, str]
    ) -> None:
        path, message = place
        home.put_namespace_file("team", "mine.txt", "1")
        commit(repository, {path: "id: x\n", "a.txt": "x"}, bare)

        ran = home.run(sync("Sync", url, "team"))

        assert ran.state == "FAILED"
        assert message in ran.log_of("git")
        assert stored(home, "team") == {"mine.txt": b"1"}
