"""git.Clone against real repositories, on disk and over HTTP with a login."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tercel.plugins.git.program import NOBODY, open_git
from tests.flows import flow, sh, wd
from tests.homes import Home, Ran, git
from tests.run_contexts import DirectoryContext
from tests.servers import Answer, git_server, http_server, stalling_server

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

    def test_given_a_depth_that_is_none_then_it_says_so(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(clone(repository, depth="{{ 'deep' }}"))))

        assert ran.run_of("clone").message == "depth is 'deep', which is not a whole number of 1 or more."

    def test_given_settings_then_they_are_rendered(self, home: Home, repository: Path) -> None:
        settings = {"user.name": "{{ flow.id }}", "core.abbrev": 12}

        ran = home.run(
            flow(
                wd(
                    clone(repository, gitConfig=settings),
                    sh("a", "git config --local --get-regexp 'user.*|core.abbrev'"),
                )
            )
        )

        assert sorted(ran.output_lines("a")) == ["core.abbrev 12", "user.name scenario"]

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

    def test_given_a_submodule_on_another_host_then_it_gets_no_login(
        self, home: Home, repository: Path, tmp_path: Path
    ) -> None:
        asked: list[str] = []

        def stranger(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            asked.append(headers.get("authorization", ""))
            return 401, {"WWW-Authenticate": 'Basic realm="mine"'}, b""

        with http_server(stranger) as other:
            outer = tmp_path / "outer"
            outer.mkdir()
            git(outer, "init", "-q", "-b", "main")
            (outer / ".gitmodules").write_text(f'[submodule "inner"]\n\tpath = inner\n\turl = {other}/inner.git\n')
            commit = git(repository, "rev-parse", "HEAD").strip()
            git(outer, "update-index", "--add", "--cacheinfo", f"160000,{commit},inner")
            git(outer, "add", ".gitmodules"), git(outer, "commit", "-qm", "one")
            git(tmp_path, "clone", "-q", "--bare", str(outer), str(tmp_path / "served" / "repo.git"))
            with git_server(tmp_path / "served", "me", "s3cret-w0rd") as address:
                url = f"{address}/repo.git"
                ran = home.run(flow(clone(url, username="me", password="s3cret-w0rd", cloneSubmodules=True)))

        assert ran.state == "FAILED"
        assert asked
        assert set(asked) == {""}

    def test_given_a_helper_that_keeps_logins_then_it_gets_none(
        self, home: Home, repository: Path, tmp_path: Path
    ) -> None:
        git(tmp_path, "clone", "-q", "--bare", str(repository), str(tmp_path / "served" / "repo.git"))
        kept = tmp_path / "kept"
        helper = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper"}
        with git_server(tmp_path / "served", "me", "p@ss w0rd") as address:
            url = address.replace("://", "://me:p%40ss%20w0rd@") + "/repo.git"
            ran = home.run(flow(clone(url)), env={**helper, "GIT_CONFIG_VALUE_0": f"store --file={kept}"})

        assert ran.state == "SUCCESS", ran.logs
        assert not kept.exists()


class TestWhatACacheBroughtBack:
    def run(self, home: Home, task: dict[str, Any], *commands: str, pattern: str = ".git/**", **more: Any) -> Ran:
        return home.run(flow(wd(task, sh("a", *commands), cache={"patterns": [pattern]}, **more)))

    def test_given_a_shallow_repository_then_an_older_commit_is_found(self, home: Home, repository: Path) -> None:
        first = git(repository, "rev-parse", "HEAD").strip()
        (repository / "later.txt").write_text("x")
        git(repository, "add", "."), git(repository, "commit", "-qm", "later")
        url = f"file://{repository}"
        self.run(home, clone(url), "ls")

        ran = self.run(home, clone(url, commit=first), "ls")

        assert ran.state == "SUCCESS", ran.logs
        assert ran.output_lines("a") == ["hello.sh", "scripts"]

    def test_given_another_branch_a_tag_and_rewritten_history_then_each_is_what_is_there(
        self, home: Home, repository: Path
    ) -> None:
        git(repository, "tag", "v1"), git(repository, "checkout", "-qb", "other")
        (repository / "other.txt").write_text("x")
        (
            git(repository, "add", "."),
            git(repository, "commit", "-qm", "other"),
            git(repository, "checkout", "-q", "main"),
        )
        url = f"file://{repository}"
        found = [self.run(home, clone(url), "ls").output_lines("a")]
        found.append(self.run(home, clone(url, branch="other"), "ls").output_lines("a"))
        found.append(self.run(home, clone(url, tag="v1"), "ls").output_lines("a"))
        (repository / "new.txt").write_text("x")
        git(repository, "add", "."), git(repository, "commit", "-q", "--amend", "-m", "rewritten")
        found.append(self.run(home, clone(url), "ls").output_lines("a"))

        plain = ["hello.sh", "scripts"]
        assert found == [plain, ["hello.sh", "other.txt", "scripts"], plain, ["hello.sh", "new.txt", "scripts"]]

    def test_given_an_input_file_that_is_in_the_repository_then_it_wins_again(
        self, home: Home, repository: Path
    ) -> None:
        files = {"hello.sh": "mine"}

        runs = [self.run(home, clone(repository), "cat hello.sh", inputFiles=files) for _ in range(2)]

        assert [ran.output_lines("a") for ran in runs] == [["mine"], ["mine"]]

    def test_given_restored_files_that_the_repository_has_newer_then_its_own_are_there(
        self, home: Home, repository: Path
    ) -> None:
        self.run(home, clone(repository), "ls", pattern="scripts/**")
        (repository / "scripts" / "one.py").write_text("print(2)\n")
        git(repository, "commit", "-qam", "newer")

        ran = self.run(home, clone(repository), "cat scripts/one.py", pattern="scripts/**")

        assert ran.output_lines("a") == ["print(2)"]

    def test_given_a_part_of_a_repository_then_it_is_cloned_anew_and_none_further_up_is_touched(
        self, repository: Path
    ) -> None:
        (repository / "hello.sh").write_text("work in progress")
        git(repository, "remote", "add", "origin", str(repository))
        with Home(repository / ".tercel") as home:
            self.run(home, clone(repository), "ls", pattern=".git/refs/**")
            ran = self.run(home, clone(repository), "cat scripts/one.py", pattern=".git/refs/**")

        assert ran.output_lines("a") == ["print(1)"], ran.logs
        assert (repository / "hello.sh").read_text() == "work in progress"


def test_given_a_file_where_the_repository_has_a_folder_then_it_is_not_lost(home: Home, repository: Path) -> None:
    ran = home.run(flow(wd(sh("make", "echo 1 > scripts"), clone(repository))))

    assert ran.state == "FAILED"
    assert "has a folder 'scripts', and a file of that name" in ran.log_of("clone")


def test_given_a_server_that_stalls_then_a_kill_does_not_wait_for_it(home: Home) -> None:
    with stalling_server() as (address, has_asked):
        began = time.monotonic()
        ran = home.run_and_kill(flow(clone(f"{address}/x.git")), has_asked)

    assert ran.state == "KILLED"
    assert time.monotonic() - began < 10


def test_given_settings_of_the_server_then_git_and_what_it_starts_see_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_TOKEN", "TERCEL_DATABASE", "KESTRA_CONFIGURATION"):
        monkeypatch.setenv(name, "open-sesame")

    with open_git(DirectoryContext(tmp_path), tmp_path, NOBODY) as git_program:
        seen = git_program.ask("-c", "alias.seen=!env", "seen")

    assert "GIT_TERMINAL_PROMPT=0" in seen
    assert "open-sesame" not in seen


def test_given_a_run_from_inside_a_hook_then_its_repository_is_left_alone(
    home: Home, repository: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"

    ran = home.run(flow(clone(repository)), env={"GIT_INDEX_FILE": str(index), "GIT_DIR": str(tmp_path / "nowhere")})

    assert ran.state == "SUCCESS", ran.logs
    assert not index.exists()
