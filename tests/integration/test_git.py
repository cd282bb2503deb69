"""git.Clone against real repositories, on disk and over HTTP with a login."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flows import flow, sh, wd
from tests.homes import Home, git
from tests.servers import git_server

CLONE = "io.kestra.plugin.git.Clone"


def clone(url: str | Path, **properties: Any) -> dict[str, Any]:
    return {"id": "clone", "type": CLONE, "url": str(url), **properties}


class TestWhatIsCheckedOut:
    def test_given_no_branch_then_the_remotes_own_is_taken(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(clone(repository), sh("a", "git rev-parse --abbrev-ref HEAD; cat scripts/one.py"))))

        assert ran.output_lines("a") == ["main", "print(1)"]

    def test_given_a_tag_then_its_commit_is_there(self, home: Home, repository: Path) -> None:
        git(repository, "tag", "-a", "v1", "-m", "one")
        (repository / "later.txt").write_text("x")
        git(repository, "add", "."), git(repository, "commit", "-qm", "later")

        ran = home.run(flow(wd(clone(repository, tag="v1"), sh("a", "ls"))))

        assert ran.output_lines("a") == ["hello.sh", "scripts"]

    def test_given_a_short_commit_then_it_is_found_in_the_history(self, home: Home, repository: Path) -> None:
        commit = git(repository, "rev-parse", "--short", "HEAD").strip()
        (repository / "later.txt").write_text("x")
        git(repository, "add", "."), git(repository, "commit", "-qm", "later")

        ran = home.run(flow(wd(clone(repository, commit=commit), sh("a", "ls"))))

        assert ran.output_lines("a") == ["hello.sh", "scripts"]

    def test_given_a_depth_then_history_is_cut(self, home: Home, repository: Path) -> None:
        git(repository, "commit", "-qm", "two", "--allow-empty")
        url = f"file://{repository}"

        ran = home.run(flow(wd(clone(url), sh("a", "git rev-list --count HEAD"))))
        deep = home.run(flow(wd(clone(url, depth=5), sh("a", "git rev-list --count HEAD"))))

        assert (ran.output_lines("a"), deep.output_lines("a")) == (["1"], ["2"])

    def test_given_a_directory_then_it_is_made(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(clone(repository, directory="deep/repo"), sh("a", "ls deep/repo"))))

        assert ran.output_lines("a") == ["hello.sh", "scripts"]

    def test_given_submodules_then_they_are_cloned(self, home: Home, repository: Path, tmp_path: Path) -> None:
        outer = tmp_path / "outer"
        outer.mkdir()
        git(outer, "init", "-q", "-b", "main")
        git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(repository), "inner")
        git(outer, "commit", "-qm", "one")

        ran = home.run(
            flow(wd(clone(outer, cloneSubmodules=True, gitConfig={}), sh("a", "ls inner"))),
            env={"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"},
        )

        assert ran.output_lines("a") == ["hello.sh", "scripts"]


class TestWhatFails:
    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            ({"branch": "nope"}, "The remote has no branch 'nope'."),
            ({"tag": "nope"}, "Cannot resolve tag: nope"),
            ({"commit": "deadbeef"}, "Cannot resolve commit SHA: deadbeef"),
            ({"directory": "../out"}, "leaves the working directory"),
        ],
    )
    def test_then_the_message_names_it(
        self, home: Home, repository: Path, properties: dict[str, str], message: str
    ) -> None:
        ran = home.run(flow(clone(repository, **properties)))

        assert ran.state == "FAILED"
        assert message in ran.log_of("clone")

    def test_given_another_repository_there_then_it_is_refused(
        self, home: Home, repository: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        git(tmp_path, "clone", "-q", str(repository), str(other))
        second = {**clone(other), "id": "second"}

        ran = home.run(flow(wd(clone(repository), second)))

        assert "already holds a clone of" in ran.log_of("second")

    def test_given_strangers_and_fail_then_it_is_refused(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(sh("a", "touch x"), clone(repository, onNonEmpty="FAIL"), inputFiles={"in": "1"})))

        assert "already exists and is not an empty directory" in ran.log_of("clone")
        assert "'x'" in ran.log_of("clone")

    def test_given_a_file_of_the_same_name_then_injected_wins_and_others_fail(
        self, home: Home, repository: Path
    ) -> None:
        injected = home.run(flow(wd(clone(repository), sh("a", "cat hello.sh"), inputFiles={"hello.sh": "mine"})))
        made = home.run(flow(wd(sh("make", "echo 1 > hello.sh"), clone(repository))))

        assert injected.output_lines("a") == ["mine"]
        assert any(entry.level == "WARN" and "hello.sh" in entry.message for entry in injected.logs)
        assert "another file of that name" in made.log_of("clone")

    def test_given_a_password_alone_then_validation_says_so(self, home: Home, repository: Path) -> None:
        issues = home.issues(flow(clone(repository, password="x")))

        assert [issue.message for issue in issues] == ["Git needs `username` and `password` together."]


class TestCredentials:
    @pytest.mark.parametrize("in_url", [False, True])
    def test_given_a_login_then_it_reaches_the_server_and_nothing_else(
        self, home: Home, repository: Path, in_url: bool, tmp_path: Path
    ) -> None:
        git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "served" / "repo.git"))
        with git_server(tmp_path / "served", "me", "s3cret-w0rd") as address:
            url = f"{address}/repo.git"
            task = (
                clone(url.replace("://", "://me:s3cret-w0rd@"))
                if in_url
                else clone(url, username="me", password="s3cret-w0rd")
            )
            ran = home.run(flow(wd(task, sh("a", "cat .git/config; git status --short; ls"))))

        assert ran.state == "SUCCESS", ran.logs
        assert "hello.sh" in ran.output_lines("a")
        assert not any("s3cret-w0rd" in entry.message for entry in ran.logs)
        assert "s3cret-w0rd" not in "\n".join(ran.output_lines("a"))

    def test_given_a_wrong_password_then_it_fails_at_once(self, home: Home, repository: Path, tmp_path: Path) -> None:
        git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "served" / "repo.git"))
        with git_server(tmp_path / "served", "me", "right") as address:
            ran = home.run(flow(clone(f"{address}/repo.git", username="me", password="wr0ng-word")))

        assert ran.state == "FAILED"
        assert "Authentication failed" in ran.log_of("clone")
        assert "wr0ng-word" not in ran.log_of("clone")
