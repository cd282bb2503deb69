"""git.PushFlows, PushNamespaceFiles, PushExecutionFiles, Push: on real repositories, over HTTP with a login."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import NOON
from tests.flows import CORE, as_yaml, echo, flow, sh, wd
from tests.homes import Home, Ran, git
from tests.servers import git_server

GIT = "io.kestra.plugin.git"
PASSWORD = "s3cret-w0rd"
ENV = {"SECRET_GIT_PASSWORD": base64.b64encode(PASSWORD.encode()).decode()}


def task(kind: str, url: str | Path, **properties: Any) -> dict[str, Any]:
    login = {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}"}
    return {"id": "git", "type": f"{GIT}.{kind}", "url": str(url), **login, **properties}


def push(kind: str, url: str | Path, **properties: Any) -> str:
    return flow(task(kind, url, **properties), id="pushing", namespace="system")


def save(home: Home, namespace: str, *ids: str, text: str = "x") -> None:
    for id_ in ids:
        source = as_yaml({"id": id_, "namespace": namespace, "tasks": [echo("a", text)]})
        home.engine.call(home.engine.operations.save_flow(source))


def files(bare: Path, branch: str = "main") -> list[str]:
    return git(bare, "ls-tree", "-r", "--name-only", branch).split()


def content(bare: Path, path: str, branch: str = "main") -> bytes:
    return subprocess.run(
        ["git", "cat-file", "blob", f"{branch}:{path}"], cwd=bare, check=True, capture_output=True
    ).stdout


def hook(bare: Path, name: str, script: str) -> None:
    (bare / "hooks").mkdir(exist_ok=True)
    (bare / "hooks" / name).write_text(f"#!/bin/sh\n{script}\n")
    (bare / "hooks" / name).chmod(0o755)


def diff(home: Home, ran: Ran, name: str) -> list[dict[str, Any]]:
    outputs = ran.run_of("git").outputs
    return [msgspec.json.decode(line) for line in home.read(str(outputs[name])).splitlines()]


def outputs(ran: Ran) -> dict[str, Any]:
    assert ran.state == "SUCCESS", ran.logs
    return dict(ran.run_of("git").outputs)


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """A repository that is served, with one commit on `main`."""
    path = tmp_path / "served" / "repo.git"
    git(tmp_path, "clone", "-q", "--bare", str(repository), str(path))
    return path


@pytest.fixture
def url(bare: Path) -> Iterator[str]:
    with git_server(bare.parent, "me", PASSWORD) as address:
        yield f"{address}/repo.git"


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


class TestPushFlows:
    def test_given_flows_then_they_are_files_of_a_commit(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one", "two")
        save(home, "team.sales.eu", "deep")
        save(home, "teams", "other")

        ran = home.run(push("PushFlows", url, sourceNamespace="team", includeChildNamespaces=True))

        given = outputs(ran)
        assert files(bare) == [
            *("_flows/one.yml", "_flows/sales/eu/deep.yml", "_flows/two.yml"),
            *("hello.sh", "scripts/one.py"),
        ]
        assert git(bare, "rev-parse", "main").strip() == given["commitId"]
        assert given["commitURL"] is None
        assert git(bare, "log", "--format=%an|%ae|%cn|%s", "-1", "main").strip() == (
            "me|tercel@localhost|me|Add flows from team namespace"
        )
        assert diff(home, ran, "flows")[0] == {
            "file": "_flows/one.yml",
            "change": "CREATED",
            "additions": "+6",
            "deletions": "-0",
            "changes": "6",
        }

    def test_given_nothing_new_then_there_is_no_commit(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one")
        first = outputs(home.run(push("PushFlows", url, sourceNamespace="team")))

        ran = home.run(push("PushFlows", url, sourceNamespace="team"))

        assert outputs(ran)["commitId"] is None
        assert diff(home, ran, "flows") == []
        assert "Nothing to commit: the branch 'main'" in ran.log_of("git")
        assert git(bare, "rev-parse", "main").strip() == first["commitId"]

    def test_given_a_flow_that_is_gone_or_changed_then_so_is_its_file(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one", "two")
        home.run(push("PushFlows", url, sourceNamespace="team"))
        home.engine.call(home.engine.operations.delete_flow("team", "one"))
        save(home, "team", "two", text="other")

        ran = home.run(push("PushFlows", url, sourceNamespace="team"))

        assert {row["file"]: row["change"] for row in diff(home, ran, "flows")} == {
            "_flows/one.yml": "DELETED",
            "_flows/two.yml": "UPDATED",
        }
        assert b"other" in content(bare, "_flows/two.yml")

    @pytest.mark.parametrize("given", [{"delete": False}, {"flows": ["tw*"]}, {"flows": "two"}])
    def test_given_no_wish_for_it_then_no_file_is_removed(
        self, home: Home, bare: Path, url: str, given: dict[str, Any]
    ) -> None:
        save(home, "team", "one", "two")
        home.run(push("PushFlows", url, sourceNamespace="team"))
        home.engine.call(home.engine.operations.delete_flow("team", "one"))
        save(home, "team", "three", "two", text="other")

        ran = home.run(push("PushFlows", url, sourceNamespace="team", **given))

        changed = {row["file"] for row in diff(home, ran, "flows")}
        assert changed == ({"_flows/two.yml"} if "flows" in given else {"_flows/two.yml", "_flows/three.yml"})
        assert "_flows/one.yml" in files(bare)

    def test_given_a_file_of_another_ending_then_it_is_the_one_that_is_written(
        self, home: Home, repository: Path, tmp_path: Path
    ) -> None:
        (repository / "_flows").mkdir()
        (repository / "_flows" / "one.yaml").write_text("old")
        git(repository, "add", "."), git(repository, "commit", "-qm", "flow")
        git(repository, "config", "receive.denyCurrentBranch", "ignore")
        save(home, "team", "one")

        outputs(home.run(push("PushFlows", repository, sourceNamespace="team")))

        assert [path for path in files(repository) if path.startswith("_flows")] == ["_flows/one.yaml"]

    def test_given_a_target_namespace_then_it_is_in_the_files(self, home: Home, bare: Path, url: str) -> None:
        source = (
            "id: one # first\nnamespace: dev # here\ntasks:\n  - {id: a, type: " + f"{CORE}.log.Log, message: x}}\n"
        )
        home.engine.call(home.engine.operations.save_flow(source))
        save(home, "dev.sub", "two")

        outputs(
            home.run(push("PushFlows", url, sourceNamespace="dev", targetNamespace="prod", includeChildNamespaces=True))
        )

        assert content(bare, "_flows/one.yml").decode() == source.replace("namespace: dev", "namespace: prod")
        assert b"namespace: prod.sub\n" in content(bare, "_flows/sub/two.yml")

    def test_given_a_dry_run_then_the_diff_is_all_there_is(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one")
        before = git(bare, "for-each-ref")

        ran = home.run(push("PushFlows", url, sourceNamespace="team", dryRun=True, branch="new"))

        assert outputs(ran)["commitId"] is None
        assert [row["change"] for row in diff(home, ran, "flows")] == ["CREATED"]
        assert git(bare, "for-each-ref") == before
        assert "Dry run: 1 created would be pushed to the branch 'new'." in ran.log_of("git")

    def test_given_no_such_branch_then_it_starts_from_the_remotes_own(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one")

        outputs(home.run(push("PushFlows", url, sourceNamespace="team", branch="feature/x")))

        assert files(bare, "feature/x") == ["_flows/one.yml", "hello.sh", "scripts/one.py"]
        assert git(bare, "rev-parse", "feature/x^") == git(bare, "rev-parse", "main")

    def test_given_an_empty_repository_then_it_gets_its_first_commit(self, home: Home, tmp_path: Path) -> None:
        git(tmp_path, "init", "-q", "--bare", "empty.git")
        save(home, "team", "one")

        outputs(home.run(push("PushFlows", tmp_path / "empty.git", sourceNamespace="team")))

        assert files(tmp_path / "empty.git") == ["_flows/one.yml"]

    def test_given_author_message_and_folder_then_they_are_rendered(self, home: Home, bare: Path, url: str) -> None:
        save(home, "team", "one")
        named = {"authorName": "{{ flow.id }}", "authorEmail": "robot@example.com"}

        outputs(
            home.run(
                push(
                    "PushFlows",
                    url,
                    sourceNamespace="team",
                    gitDirectory="{{ 'flows/' ~ flow.namespace }}",
                    commitMessage="From {{ flow.id }}\n\nwith a body",
                    **named,
                )
            )
        )

        assert "flows/system/one.yml" in files(bare)
        assert git(bare, "log", "--format=%an|%ae|%B", "-1", "main").strip() == (
            "pushing|robot@example.com|From pushing\n\nwith a body"
        )

    def test_given_a_flow_that_is_no_longer_valid_then_its_text_is_pushed(
        self, home: Home, bare: Path, url: str
    ) -> None:
        text = "id: one\nnamespace: team\ntasks:\n  - {id: a, type: gone.Task}\n"
        save(home, "team", "one")
        home.engine._store.flows.save("team", "one", text, NOON).wait()

        outputs(home.run(push("PushFlows", url, sourceNamespace="team")))

        assert content(bare, "_flows/one.yml").decode() == text


class TestRaces:
    def rival(self, repository: Path, bare: Path, *paths: str) -> None:
        for path in paths:
            (repository / path).parent.mkdir(exist_ok=True)
            with (repository / path).open("a") as file:
                file.write("theirs\n")
        git(repository, "add", "."), git(repository, "commit", "-qm", "rival")
        git(repository, "push", "-q", str(bare), "main")

    @pytest.mark.parametrize("when", ["GET", "POST"])
    def test_given_a_push_of_somebody_else_meanwhile_then_ours_is_on_top_of_it(
        self, home: Home, repository: Path, bare: Path, when: str
    ) -> None:
        save(home, "team", "one")
        pushed: list[str] = []

        def before(method: str, path: str) -> None:
            if "git-receive-pack" in path and method == when and not pushed:
                pushed.append(path)
                self.rival(repository, bare, "theirs.txt")

        with git_server(bare.parent, "me", PASSWORD, before) as address:
            ran = home.run(push("PushFlows", f"{address}/repo.git", sourceNamespace="team"))

        outputs(ran)
        assert "it is tried again on top of that" in ran.log_of("git")
        assert {"_flows/one.yml", "theirs.txt"} < set(files(bare))
        assert git(bare, "rev-list", "--count", "main").strip() == "3"

    def test_given_somebody_who_is_always_faster_then_it_gives_up_with_a_word(
        self, home: Home, repository: Path, bare: Path
    ) -> None:
        save(home, "team", "one")
        count = 0

        def before(method: str, path: str) -> None:
            nonlocal count
            if "git-receive-pack" in path and method == "GET":
                count += 1
                self.rival(repository, bare, f"theirs{count}.txt")

        with git_server(bare.parent, "me", PASSWORD, before) as address:
            ran = home.run(push("PushFlows", f"{address}/repo.git", sourceNamespace="team"))

        assert ran.state == "FAILED"
        assert "The push to the branch 'main' was rejected 5 times" in ran.log_of("git")
        assert count == 5
        assert "_flows/one.yml" not in files(bare)

    def test_given_a_file_that_both_have_changed_then_push_says_conflict(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        login = {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}"}
        clone = {"id": "clone", "type": f"{GIT}.Clone", "url": url, **login}
        theirs = f"cd {repository} && echo theirs >> hello.sh && git commit -qam x && git push -q {bare} main"
        commit = {"branch": "main", "commitMessage": "m", "flows": {"enabled": False}}
        pushing = {"id": "git", "type": f"{GIT}.Push", **login, **commit}
        identity = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

        ran = home.run(flow(wd(clone, sh("a", "echo ours >> hello.sh", theirs, env=identity), pushing)))

        assert ran.state == "FAILED"
        assert "Conflict: 'hello.sh' has changed on the branch 'main' as well." in ran.log_of("git")
        assert b"ours" not in content(bare, "hello.sh")


class TestPushNamespaceFiles:
    def test_given_files_then_they_are_pushed_as_they_are(self, home: Home, bare: Path, url: str) -> None:
        home.put_namespace_file("team", "a/one.txt", "x\r\ny")
        home.put_namespace_file("team", "two ä.txt", "")

        ran = home.run(push("PushNamespaceFiles", url, namespace="team"))

        outputs(ran)
        assert content(bare, "_files/a/one.txt") == b"x\r\ny"
        assert content(bare, "_files/two ä.txt") == b""
        assert git(bare, "log", "--format=%s", "-1", "main").strip() == "Add files from team namespace"
        assert [row["change"] for row in diff(home, ran, "files")] == ["CREATED", "CREATED"]

    def test_given_binary_and_executable_files_then_they_stay_so(self, home: Home, bare: Path, url: str) -> None:
        folder = home.engine._services.namespace_files("team")
        big = bytes(range(256)) * 20_000
        folder.put("run.sh", BytesIO(b"#!/bin/sh\n"), executable=True)
        folder.put("big.bin", BytesIO(big))

        ran = home.run(push("PushNamespaceFiles", url, namespace="team", gitDirectory="."))

        assert content(bare, "big.bin") == big
        assert git(bare, "ls-tree", "main", "run.sh").startswith("100755")
        assert {row["file"]: row["additions"] for row in diff(home, ran, "files")} == {
            "big.bin": None,
            "hello.sh": "+0",
            "run.sh": "+1",
            "scripts/one.py": "+0",
        }

    def test_given_globs_then_only_what_they_fit_is_pushed_and_removed(self, home: Home, bare: Path, url: str) -> None:
        home.put_namespace_file("team", "a/one.txt", "1")
        home.put_namespace_file("team", "two.py", "2")
        home.run(push("PushNamespaceFiles", url, namespace="team"))
        for path in ("a/one.txt", "two.py"):
            home.engine._services.namespace_files("team").delete(path)

        outputs(home.run(push("PushNamespaceFiles", url, namespace="team", files=["*.txt"])))

        assert [path for path in files(bare) if path.startswith("_files")] == ["_files/two.py"]

    def test_given_no_file_then_it_is_told_and_fails_where_that_is_wanted(self, home: Home, url: str) -> None:
        ran = home.run(push("PushNamespaceFiles", url, namespace="team"))
        strict = home.run(push("PushNamespaceFiles", url, namespace="team", errorOnMissing=True))

        assert (ran.state, strict.state) == ("SUCCESS", "FAILED")
        assert "There is no file that is to be pushed." in ran.log_of("git")


class TestPushExecutionFiles:
    REPORT = sh("report", "echo 42 > report.txt; echo 1 > other.csv", outputFiles=["*.txt", "*.csv"])

    def test_given_globs_then_they_fit_what_tasks_stored(self, home: Home, bare: Path, url: str) -> None:
        ran = home.run(flow(self.REPORT, task("PushExecutionFiles", url, files=["*.txt"])))

        outputs(ran)
        assert [path for path in files(bare) if path.startswith("_outputs")] == ["_outputs/report.txt"]
        assert content(bare, "_outputs/report.txt") == b"42\n"
        assert git(bare, "log", "--format=%s", "-1", "main").strip() == (f"Add files from execution {ran.execution.id}")

    def test_given_a_map_then_names_are_rendered_and_earlier_files_stay(self, home: Home, bare: Path, url: str) -> None:
        named = {"{{ inputs.name }}/r.txt": "{{ outputs.report.outputFiles['report.txt'] }}"}
        text = flow(
            self.REPORT,
            task("PushExecutionFiles", url, filesMap=named, gitDirectory="logs"),
            inputs=[{"id": "name", "type": "STRING"}],
        )

        for name in ("a", "b"):
            outputs(home.run(text, inputs={"name": name}))

        assert [path for path in files(bare) if path.startswith("logs")] == ["logs/a/r.txt", "logs/b/r.txt"]

    def test_given_a_name_that_leaves_the_folder_then_nothing_is_pushed(self, home: Home, bare: Path, url: str) -> None:
        named = {"../x": "{{ outputs.report.outputFiles['report.txt'] }}"}

        ran = home.run(flow(self.REPORT, task("PushExecutionFiles", url, filesMap=named)))

        assert ran.state == "FAILED"
        assert "leaves the files of the repository" in ran.log_of("git")

    def test_given_names_that_are_no_text_then_they_are_pushed_all_the_same(
        self, home: Home, bare: Path, url: str
    ) -> None:
        login = {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}"}
        clone = {"id": "clone", "type": f"{GIT}.Clone", "url": url, **login}
        commit = {"branch": "main", "commitMessage": "m", "flows": {"enabled": False}}
        make = sh("a", r"""touch "$(printf 'caf\351')" 'two words' "$(printf 'line\nbreak')" """)

        ran = home.run(flow(wd(clone, make, {"id": "git", "type": f"{GIT}.Push", **login, **commit})))

        assert [row["file"] for row in diff(home, ran, "files")] == ["caf\ufffd", "line\nbreak", "two words"]
        names = subprocess.run(
            ["git", "ls-tree", "-z", "--name-only", "main"], cwd=bare, check=True, capture_output=True
        )
        assert {b"caf\xe9", b"line\nbreak", b"two words"} < set(names.stdout.split(b"\0"))


class TestPush:
    LOGIN = {"username": "me", "password": "{{ secret('GIT_PASSWORD') }}"}

    def pushing(self, **properties: Any) -> dict[str, Any]:
        given = {"branch": "main", "commitMessage": "by {{ flow.id }}", "flows": {"enabled": False}}
        return {"id": "git", "type": f"{GIT}.Push", **self.LOGIN, **given, **properties}

    def clone(self, url: str, **properties: Any) -> dict[str, Any]:
        return {"id": "clone", "type": f"{GIT}.Clone", "url": url, **self.LOGIN, **properties}

    def test_given_a_clone_then_what_has_changed_in_it_is_pushed(self, home: Home, bare: Path, url: str) -> None:
        change = sh("a", "echo more >> hello.sh", "rm scripts/one.py", "mkdir d; echo 1 > d/new.txt")

        ran = home.run(flow(wd(self.clone(url), change, self.pushing())))

        outputs(ran)
        assert files(bare) == ["d/new.txt", "hello.sh"]
        assert content(bare, "hello.sh").endswith(b"more\n")
        assert git(bare, "ls-tree", "main", "hello.sh").startswith("100755")
        assert {row["file"]: row["change"] for row in diff(home, ran, "files")} == {
            "d/new.txt": "CREATED",
            "hello.sh": "UPDATED",
            "scripts/one.py": "DELETED",
        }
        assert git(bare, "log", "--format=%s|%an", "-1", "main").strip() == "by scenario|me"

    def test_given_commits_of_a_script_then_they_are_pushed_as_one(self, home: Home, bare: Path, url: str) -> None:
        identity = "git -c user.name=a -c user.email=b@c"
        change = sh("a", "echo 1 > new.txt; git add new.txt", f"{identity} commit -qm local", "echo 2 > newer.txt")

        outputs(home.run(flow(wd(self.clone(url), change, self.pushing()))))

        assert {"new.txt", "newer.txt"} < set(files(bare))
        assert git(bare, "rev-list", "--count", "main").strip() == "2"

    def test_given_a_pattern_then_only_that_is_committed(self, home: Home, bare: Path, url: str) -> None:
        change = sh("a", "mkdir out; echo 1 > out/a.txt; echo 2 > b.txt; rm hello.sh")

        outputs(home.run(flow(wd(self.clone(url), change, self.pushing(addFilesPattern=["out"])))))

        assert files(bare) == ["hello.sh", "out/a.txt", "scripts/one.py"]

    def test_given_a_new_branch_then_it_starts_where_the_clone_does(
        self, home: Home, repository: Path, bare: Path, url: str
    ) -> None:
        git(repository, "checkout", "-qb", "dev")
        (repository / "dev.txt").write_text("x")
        git(repository, "add", "."), git(repository, "commit", "-qm", "dev")
        git(repository, "push", "-q", str(bare), "dev")

        outputs(
            home.run(flow(wd(self.clone(url, branch="dev"), sh("a", "echo 1 > n.txt"), self.pushing(branch="topic"))))
        )

        assert files(bare, "topic") == ["dev.txt", "hello.sh", "n.txt", "scripts/one.py"]
        assert git(bare, "rev-parse", "topic^") == git(bare, "rev-parse", "dev")

    def test_given_no_clone_then_files_are_added_to_the_branch(self, home: Home, bare: Path, url: str) -> None:
        home.put_namespace_file("tests", "lib/u.py", "u")
        given = {"inputFiles": {"in.txt": "{{ flow.id }}"}, "namespaceFiles": {"enabled": True}}

        outputs(
            home.run(
                flow(self.pushing(url=url, **given, author={"name": "Ann", "email": "ann@example.com"})),
            )
        )

        assert files(bare) == ["hello.sh", "in.txt", "lib/u.py", "scripts/one.py"]
        assert content(bare, "in.txt") == b"scenario"
        assert git(bare, "log", "--format=%an|%ae", "-1", "main").strip() == "Ann|ann@example.com"

    def test_given_flows_then_those_of_the_namespace_are_pushed(self, home: Home, bare: Path, url: str) -> None:
        save(home, "tests.sub", "two")

        outputs(home.run(flow(self.pushing(url=url, flows={}))))

        assert [path for path in files(bare) if path.startswith("_flows")] == [
            "_flows/scenario.yml",
            "_flows/sub/two.yml",
        ]

    def test_given_hostile_settings_in_the_clone_then_they_neither_run_nor_see_the_password(
        self, home: Home, bare: Path, url: str, tmp_path: Path
    ) -> None:
        trap = tmp_path / "trap"
        script = f"#!/bin/sh\nenv > {trap}\n"
        change = sh(
            "a",
            "echo 1 > n.txt",
            f"printf '{script}' > .git/trap.sh; chmod +x .git/trap.sh; cp .git/trap.sh .git/hooks/pre-push",
            "git config core.fsmonitor .git/trap.sh; git config credential.helper '!.git/trap.sh'",
            "git config core.hooksPath .git/hooks; git config filter.x.clean .git/trap.sh",
            "echo '* filter=x' > .gitattributes",
            f"rm -f {trap}",
        )

        outputs(home.run(flow(wd(self.clone(url), change, self.pushing()))))

        assert content(bare, "n.txt") == b"1\n"
        assert not trap.exists()

    def test_given_neither_clone_nor_url_then_it_says_so(self, home: Home) -> None:
        ran = home.run(flow(self.pushing()))

        assert ran.state == "FAILED"
        assert "There is no clone in the working directory, and no `url`." in ran.log_of("git")
