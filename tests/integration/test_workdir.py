"""What tasks did to their directories, looked at by the command line: changes, differences, copies, a shell."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import ROOT, command, environment, tercel
from tests.flows import flow, for_each, py, sh, wd
from tests.homes import until

THREE = flow(
    wd(
        sh("make", "printf 'one\\n' > a.txt", "mkdir -p d/e hollow", "echo x > d/e/f", "ln -s a.txt link"),
        sh("change", "echo two >> a.txt", "rm -r d", "printf '\\000%0999d' 7 > big", "chmod 640 in.txt"),
        sh("broken", "echo junk > junk", "exit 3"),
        id="work",
        inputFiles={"in.txt": "hello"},
    )
)


GUIDE = (ROOT / "docs" / "guide.md").read_text()
COMMANDS = re.findall(r"^(tercel (?:workdir|cache|execution files last --changes).*?)(?: +#.*)?$", GUIDE, re.MULTILINE)


def run(home: Path, text: str, env: dict[str, str] | None = None) -> str:
    """Run a flow; the id of its execution."""
    path = home.with_suffix(".yaml")
    path.write_text(text)
    done = tercel("run", path, "--json", home=home, env=env)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)["id"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("workdir") / "home"
    run(home, THREE)
    return home


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("loops") / "home"
    child = sh("child", "echo {{ parent.taskrun.value ?? taskrun.value }} > value; echo more > more")
    run(home, flow(for_each("loop", ["x", "y"], wd(child), concurrencyLimit=1)))
    return home


def task_runs(home: Path, task_id: str) -> list[str]:
    shown = json.loads(tercel("execution", "show", "last", "--json", home=home).stdout)
    return [one["id"] for one in shown["taskRunList"] if one["taskId"] == task_id]


class TestChanges:
    def test_given_three_children_then_each_ones_changes_are_listed(self, home: Path) -> None:
        done = tercel("execution", "files", "last", "--changes", home=home)

        assert done.stderr == ""
        assert done.stdout == (
            "make  SUCCESS: 4 created, +6 B\n"
            "  + a.txt  4 B\n"
            "  + d/e/f  2 B\n"
            "  + hollow/\n"
            "  + link  link\n"
            "change  SUCCESS: 1 created, 2 changed, 1 deleted, +1.0 kB\n"
            "  ~ a.txt  4 B → 8 B\n"
            "  + big  1.0 kB\n"
            "  - d/e/f\n"
            "  ~ in.txt  5 B → 5 B\n"
            "broken  FAILED: 1 created, +5 B\n"
            "  + junk  5 B\n"
            "In all: 6 created, 2 changed, 1 deleted, +1.0 kB\n"
        )

    def test_given_json_then_nothing_is_left_out(self, home: Path) -> None:
        [make, change, broken] = json.loads(
            tercel("execution", "files", "last", "--changes", "--json", home=home).stdout
        )

        assert [one["path"] for one in make["changes"]] == ["a.txt", "d", "d/e", "d/e/f", "hollow", "link"]
        assert change["changes"][0] == {"path": "a.txt", "what": "changed", "kind": "file", "size": 8, "sizeBefore": 4}
        assert [one["what"] for one in change["changes"] if one["path"].startswith("d")] == ["deleted"] * 3
        assert (broken["taskId"], broken["attempt"], broken["state"], broken["kept"]) == ("broken", 0, "FAILED", True)
        assert [make["taskRunId"]] == task_runs(home, "make")

    def test_given_a_cache_then_what_it_took_is_shown_too(self, tmp_path: Path) -> None:
        text = flow(wd(sh("a", "echo 1 > kept; echo 2 > cached"), cache={"patterns": ["cached"]}))
        run(tmp_path / "home", text)

        done = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")

        assert done.stdout == "a  SUCCESS: 2 created, +4 B\n  + cached  2 B\n  + kept  2 B\n"

    def test_given_attempts_then_each_is_listed_by_its_number(self, tmp_path: Path) -> None:
        retry = {"type": "constant", "interval": "PT0.01S", "maxAttempts": 2}
        text = flow(wd(sh("flaky", "echo {{ taskrun.attemptsCount }} > tries", "exit 1", retry=retry)))
        run(tmp_path / "home", text)

        done = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")

        assert done.stdout == (
            "flaky, attempt 1  FAILED, put back: 1 created, +2 B\n  + tries  2 B\n"
            "flaky, attempt 2  FAILED: 1 created, +2 B\n  + tries  2 B\n"
            "In all: 2 created, +4 B\n"
        )

    def test_given_very_many_then_some_are_shown(self, tmp_path: Path) -> None:
        run(tmp_path / "home", flow(wd(sh("many", "seq -f %03g 120 | xargs touch"))))

        done = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")

        assert done.stdout.startswith("many  SUCCESS: 120 created, +0 B\n  + 001  0 B\n")
        assert done.stdout.endswith("  + 100  0 B\n  … and 20 more; --json lists all\n")

    def test_given_a_name_that_would_draw_on_the_terminal_then_it_is_escaped(self, tmp_path: Path) -> None:
        script = r"open(b'a\x1b[2J\nb', 'w'); open(b'\xff', 'w')"
        run(tmp_path / "home", flow(wd(py("odd", script))))

        done = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")

        assert done.stdout == "odd  SUCCESS: 2 created, +0 B\n  + a\\x1b[2J\\nb  0 B\n  + \\udcff  0 B\n"

    def test_given_tasks_alone_then_only_those_with_input_files_are_listed(self, tmp_path: Path) -> None:
        plain = sh("plain", "echo 1 > one")
        run(tmp_path / "home", flow(plain, sh("with_files", "echo 2 >> two", inputFiles={"two": "1\n"})))
        with_files = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")
        run(tmp_path / "home", flow(plain))
        nothing = tercel("execution", "files", "last", "--changes", home=tmp_path / "home")
        as_json = tercel("execution", "files", "last", "--changes", "--json", home=tmp_path / "home")

        assert with_files.stdout == "with_files  SUCCESS: 1 changed, +2 B\n  ~ two  2 B → 4 B\n"
        sentence = "No task of this execution kept its files: working directories and tasks with inputFiles do.\n"
        assert (nothing.returncode, nothing.stdout) == (0, sentence)
        assert (json.loads(as_json.stdout), as_json.stderr) == ([], sentence)

    def test_given_snapshots_are_switched_off_then_it_is_said(self, tmp_path: Path) -> None:
        env = {"TERCEL_SNAPSHOT_SIZE": "0"}
        run(tmp_path / "home", THREE, env)

        changes = tercel("execution", "files", "last", "--changes", home=tmp_path / "home", env=env)
        diff = tercel("workdir", "diff", "last", "make", home=tmp_path / "home", env=env)

        sentence = "What work changed is not kept: TERCEL_SNAPSHOT_SIZE is 0, which switches that off."
        assert changes.stdout == f"{sentence}\n"
        assert (diff.returncode, diff.stderr) == (1, f"Error: {sentence}\n")

    def test_given_a_directory_that_had_to_go_then_the_limits_are_named(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        run(home, flow(wd(sh("a", "echo 1 > one"), id="first"), wd(sh("b", "echo 2 > two"), id="second")))
        for note in (home / "layers").glob("*/runs/*"):
            if b'"taskId":"first"' in note.read_bytes():
                note.unlink()

        done = tercel("execution", "files", "last", "--changes", home=home)

        assert done.stdout == (
            "b  SUCCESS: 1 created, +2 B\n  + two  2 B\nWhat first changed is not kept: TERCEL_SNAPSHOT_SIZE is 5G, "
            "after which the oldest go, and TERCEL_SNAPSHOT_DAYS 7.\n"
        )

    def test_given_copy_to_as_well_then_it_is_wrong_usage(self, home: Path) -> None:
        done = tercel("execution", "files", "last", "--changes", "--copy-to", "x", home=home)

        assert done.returncode == 2


class TestDiff:
    def test_given_one_child_then_its_changes(self, home: Path) -> None:
        done = tercel("workdir", "diff", "last", "broken", home=home)

        assert done.stdout == "+ junk  5 B\nbroken: 1 created, +5 B\n"

    def test_given_two_children_then_what_is_other_between_them(self, home: Path) -> None:
        forth = tercel("workdir", "diff", "last", "make", "broken", home=home)
        back = tercel("workdir", "diff", "last", "broken", "make", home=home)

        assert forth.stdout == (
            "~ a.txt  4 B → 8 B\n+ big  1.0 kB\n- d/e/f\n~ in.txt  5 B → 5 B\n+ junk  5 B\n"
            "make → broken: 2 created, 2 changed, 1 deleted, +1.0 kB\n"
        )
        assert back.stdout == (
            "~ a.txt  8 B → 4 B\n- big\n+ d/e/f  2 B\n~ in.txt  5 B → 5 B\n- junk\n"
            "broken → make: 1 created, 2 changed, 2 deleted, -1.0 kB\n"
        )

    def test_given_the_working_directory_then_all_its_children_together(self, home: Path) -> None:
        done = tercel("workdir", "diff", "last", "work", "--json", home=home)

        changes = {one["path"]: one["what"] for one in json.loads(done.stdout)}
        assert changes == {
            **dict.fromkeys(("a.txt", "big", "hollow", "junk", "link"), "created"),
            "in.txt": "changed",
        }

    def test_given_text_then_lines_that_are_others_are_shown(self, home: Path) -> None:
        done = tercel("workdir", "diff", "last", "change", "--text", home=home)

        assert done.stdout == (
            "~ a.txt  4 B → 8 B\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n one\n+two\n"
            "+ big  1.0 kB\n"
            "- d/e/f\n--- a/d/e/f\n+++ b/d/e/f\n@@ -1 +0,0 @@\n-x\n"
            "~ in.txt  5 B → 5 B\n"
            "change: 1 created, 2 changed, 1 deleted, +1.0 kB\n"
        )

    def test_given_an_unknown_child_then_those_there_are_are_told(self, home: Path) -> None:
        done = tercel("workdir", "diff", "last", "nope", home=home)

        assert done.returncode == 1
        assert done.stderr == (
            "Error: There is no task 'nope' that worked in a directory in this execution.\n"
            "There are: make, change, broken, work.\n"
        )

    def test_given_a_child_of_several_then_a_task_run_chooses(self, loops: Path) -> None:
        first, second = task_runs(loops, "wd")

        unclear = tercel("workdir", "diff", "last", "child", home=loops)
        chosen = tercel("workdir", "diff", "last", "child", "--run", second, home=loops)
        by_child = tercel("workdir", "diff", "last", "child", "--run", task_runs(loops, "child")[0], home=loops)
        wrong = tercel("workdir", "diff", "last", "child", "--run", "nope", home=loops)

        assert unclear.returncode == 2
        assert unclear.stderr.endswith(
            "Error: There is more than one 'child' in this execution. Choose one:\n"
            f"  --run {first}  child [x]\n  --run {second}  child [y]\n"
        )
        assert chosen.stdout.endswith("child [y]: 2 created, +7 B\n")
        assert by_child.stdout.endswith("child [x]: 2 created, +7 B\n")
        assert wrong.returncode == 1
        assert "There is no task 'child' that worked in a directory with the task run nope" in wrong.stderr

    def test_given_no_such_execution_then_it_is_said(self, home: Path) -> None:
        done = tercel("workdir", "diff", "nope", "make", home=home)

        assert done.returncode == 1
        assert "nope" in done.stderr


class TestExport:
    def test_given_a_child_then_the_directory_as_it_left_it(self, home: Path, tmp_path: Path) -> None:
        after = tercel("workdir", "export", "last", "change", tmp_path / "deep" / "after", home=home)
        before = tercel("workdir", "export", "last", "change", "before", "--before", home=home, cwd=tmp_path)

        assert after.stdout == f"4 files, 1.0 kB, copied to {tmp_path}/deep/after.\n"
        assert sorted(os.listdir(tmp_path / "deep" / "after")) == ["a.txt", "big", "hollow", "in.txt", "link"]
        assert (tmp_path / "deep" / "after" / "in.txt").stat().st_mode & 0o777 == 0o640
        assert before.stdout == "4 files, 11 B, copied to before.\n"
        assert (tmp_path / "before" / "link").readlink() == Path("a.txt")
        assert (tmp_path / "before" / "a.txt").read_text() == "one\n"
        assert (tmp_path / "before" / "d" / "e" / "f").read_text() == "x\n"
        assert sorted(os.listdir(tmp_path)) == ["before", "deep"]
        assert os.listdir(tmp_path / "deep") == ["after"]

    def test_given_a_folder_then_it_has_to_be_empty(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").touch()
        (tmp_path / "dangling").symlink_to("nowhere")

        empty = tercel("workdir", "export", "last", "make", tmp_path / "empty", home=home)
        refused = [
            tercel("workdir", "export", "last", "make", tmp_path / name, home=home)
            for name in ("empty", "file", "dangling")
        ]

        assert empty.returncode == 0
        assert (tmp_path / "empty" / "a.txt").read_text() == "one\n"
        assert [one.returncode for one in refused] == [2, 2, 2]
        assert f"Error: {tmp_path}/file is there already and not an empty folder.\n" in refused[1].stderr

    def test_given_it_fails_half_way_then_nothing_is_left(self, home: Path, tmp_path: Path) -> None:
        # The longest name there can be: the one it has meanwhile is too long.
        done = tercel("workdir", "export", "last", "make", tmp_path / ("x" * 255), home=home)

        assert done.returncode == 1
        assert "File name too long" in done.stderr
        assert os.listdir(tmp_path) == []

    def test_given_a_place_that_cannot_be_written_then_it_says_which(self, home: Path) -> None:
        done = tercel("workdir", "export", "last", "make", "/proc/nowhere", home=home)

        assert done.returncode == 1
        assert done.stderr == (
            "Error: /proc/nowhere cannot be made: No such file or directory.\nName a folder you may write to.\n"
        )


class TestShell:
    def test_given_a_child_then_a_command_sees_what_it_found(self, home: Path) -> None:
        done = tercel("workdir", "shell", "last", "change", "--", "sh", "-c", "pwd; ls; cat a.txt; exit 7", home=home)
        at_the_end = tercel("workdir", "shell", "last", "--", "ls", home=home)

        assert done.returncode == 7
        path, *names = done.stdout.split()
        assert path.startswith(f"{home}/tmp/at/scenario-work-")
        assert names == ["a.txt", "d", "hollow", "in.txt", "link", "one"]
        assert done.stderr == f"{path}: what you change here is thrown away when the command ends.\n"
        assert at_the_end.stdout.split() == ["a.txt", "big", "hollow", "in.txt", "junk", "link"]

    def test_given_changes_then_they_are_thrown_away(self, home: Path) -> None:
        spoil = tercel("workdir", "shell", "last", "--", "sh", "-c", "rm -r *; echo new > new; ls", home=home)
        again = tercel("workdir", "shell", "last", "--", "ls", home=home)

        assert spoil.stdout == "new\n"
        assert again.stdout.split() == ["a.txt", "big", "hollow", "in.txt", "junk", "link"]
        assert list((home / "layers").glob("*/work/*")) == []

    def test_given_scripts_variables_then_the_command_has_them_and_no_secrets(self, home: Path) -> None:
        env = {"SECRET_A": "c2VjcmV0", "MINE": "1", "OTHER": "2", "TERCEL_SCRIPT_ENVIRONMENT": "MINE"}
        done = tercel("workdir", "shell", "last", "--", "sh", "-c", "pwd; env", home=home, env=env)

        path, *lines = done.stdout.splitlines()
        variables = dict(line.partition("=")[::2] for line in lines)
        assert variables["WORKING_DIR"] == path
        assert variables["MINE"] == "1"
        assert not {"SECRET_A", "OTHER", "TERCEL_HOME"} & set(variables)

    def test_given_no_command_then_it_is_the_shell_of_the_user(self, home: Path) -> None:
        done = subprocess.run(
            command("workdir", "shell", "last", "broken"),
            env=environment(home, {"SHELL": "/bin/sh"}),
            input="cat a.txt\nexit 4\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert (done.returncode, done.stdout) == (4, "one\ntwo\n")

    def test_given_another_place_then_paths_in_files_are_adapted(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        run(home, flow(wd(sh("a", "pwd > where"))))

        done = tercel(
            "workdir",
            "shell",
            "last",
            "--",
            "sh",
            "-c",
            "cat where; pwd",
            home=home,
            env={"TERCEL_TMP_DIR": f"{home}/o"},
        )

        where, here = done.stdout.split()
        assert where == here
        assert here.startswith(f"{home}/o/at/")

    def test_given_no_such_command_then_it_is_said(self, home: Path) -> None:
        done = tercel("workdir", "shell", "last", "--", "/no/where", home=home)

        assert done.returncode == 1
        assert done.stderr.endswith("Error: /no/where cannot be started: No such file or directory.\n")

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 5), (signal.SIGINT, 6)])
    def test_given_a_signal_then_the_command_ends_first(self, home: Path, number: int, code: int) -> None:
        script = "trap 'exit 5' TERM; trap 'exit 6' INT; echo ready; while :; do sleep 0.05; done"
        with subprocess.Popen(
            command("workdir", "shell", "last", "--", "sh", "-c", script),
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if number == signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)

        assert process.returncode == code
        assert list((home / "layers").glob("*/work/*")) == []

    def test_given_a_janitor_meanwhile_then_the_layers_stay(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        run(home, flow(wd(sh("a", "echo 1 > one"))))
        process = subprocess.Popen(
            command("workdir", "shell", "last", "--", "sh", "-c", "ls; read go; cat one"),
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"

        pruned = tercel("cache", "prune", home=home, env={"TERCEL_SNAPSHOT_SIZE": "0"})
        out, _ = process.communicate("go\n", timeout=20)
        gone = tercel("workdir", "shell", "last", "--", "ls", home=home)

        assert pruned.returncode == 0
        assert out == "1\n"
        assert gone.returncode == 1
        assert gone.stderr.startswith("Error: What wd changed is not kept: TERCEL_SNAPSHOT_SIZE is 5G")

    def test_given_two_directories_then_one_has_to_be_named(self, loops: Path) -> None:
        first, _ = task_runs(loops, "wd")

        unclear = tercel("workdir", "shell", "last", "--", "ls", home=loops)
        chosen = tercel("workdir", "shell", "last", "--run", first, "--", "cat", "value", home=loops)

        assert unclear.returncode == 2
        assert "There is more than one directory in this execution. Choose one:" in unclear.stderr
        assert chosen.stdout == "x\n"


def test_given_a_run_under_way_then_its_directory_can_be_looked_at(tmp_path: Path) -> None:
    home, path = tmp_path / "home", tmp_path / "flow.yaml"
    path.write_text(flow(wd(sh("a", "echo 1 > one"), sh("b", "exec sleep 60"))))
    process = subprocess.Popen(command("run", path), env=environment(home), stdout=subprocess.DEVNULL)

    def seen() -> Any:
        return "+ one  2 B" in tercel("execution", "files", "last", "--changes", home=home).stdout

    until(seen)
    shown = tercel("workdir", "shell", "last", "--", "cat", "one", home=home)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=20)

    assert shown.stdout == "1\n"
    assert re.search(
        r"^b  KILLED: nothing changed$", tercel("execution", "files", "last", "--changes", home=home).stdout, re.M
    )


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the runs that the guide's commands are about."""
    home = tmp_path_factory.mktemp("guide") / "home"
    for name in ("keep", "share_files"):
        [text] = re.findall(rf"^```yaml\n(id: {name}\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
        run(home, text)
    return home


class TestGuide:
    @pytest.mark.parametrize("line", COMMANDS)
    def test_given_a_command_then_it_works(self, guided: Path, line: str) -> None:
        done = subprocess.run(
            command(*shlex.split(line)[1:]),
            env=environment(guided, {"SHELL": "/bin/sh"}),
            cwd=guided.parent,
            input="",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 0, done.stderr

    def test_given_the_listing_then_it_is_what_is_printed(self, guided: Path) -> None:
        assert f"```text\n{tercel('execution', 'files', 'last', '--changes', home=guided).stdout}```\n" in GUIDE
