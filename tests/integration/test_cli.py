"""The command line, as a process of its own: what it prints, its exit codes, and how it is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT, command, environment, tercel
from tests.flows import flow, local_files, sh, wd
from tests.homes import is_alive, until

HELLO = ROOT / "examples" / "flows" / "hello.yaml"


@pytest.fixture
def home_dir(tmp_path: Path) -> Path:
    return tmp_path / "home"


def a_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_text(text)
    return path


class TestRun:
    def test_given_no_terminal_then_plain_lines_tell_what_happens(self, home_dir: Path) -> None:
        done = tercel("run", HELLO, home=home_dir)

        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert re.search(r"^\d\d:\d\d:\d\d ▸ say RUNNING$", done.stdout, re.MULTILINE)
        assert re.search(r"^\d\d:\d\d:\d\d INFO  say: Hello from Tercel$", done.stdout, re.MULTILINE)
        assert re.search(r"^\d\d:\d\d:\d\d ✓ say SUCCESS in ", done.stdout, re.MULTILINE)
        assert re.search(r"^SUCCESS in .*, execution \w{22}$", done.stdout, re.MULTILINE)

    def test_given_a_failing_task_then_the_exit_code_is_1_and_the_reason_is_told(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        done = tercel("run", a_file(tmp_path, flow(sh("a", "exit 7"))), home=home_dir)

        assert done.returncode == 1
        assert "  a: Command failed with exit code 7" in done.stdout

    def test_given_a_faulty_flow_then_every_issue_is_told_and_nothing_runs(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        text = flow({**sh("a", ":"), "comands": []}, {"id": "b", "type": "io.kestra.plugin.core.debug.Retrun"})

        done = tercel("run", a_file(tmp_path, text), home=home_dir)

        assert done.returncode == 2
        assert done.stdout == ""
        assert "Did you mean 'commands'?" in done.stderr
        assert "Did you mean io.kestra.plugin.core.debug.Return?" in done.stderr
        assert not home_dir.exists()

    def test_given_no_such_file_then_it_is_wrong_usage(self, home_dir: Path) -> None:
        done = tercel("run", "nowhere.yaml", home=home_dir)

        assert done.returncode == 2
        assert "nowhere.yaml cannot be read: No such file or directory." in done.stderr

    def test_given_inputs_then_all_that_do_not_fit_are_named(self, home_dir: Path, tmp_path: Path) -> None:
        text = flow(sh("a", ":"), inputs=[{"id": "n", "type": "INT"}, {"id": "d", "type": "DATE"}])

        done = tercel("run", a_file(tmp_path, text), "--input", "n=many", "--input", "d=never", home=home_dir)

        assert done.returncode == 2
        assert "'n'" in done.stderr
        assert "'d'" in done.stderr
        assert "Traceback" not in done.stderr

    def test_given_an_input_without_a_value_then_it_is_wrong_usage(self, home_dir: Path) -> None:
        done = tercel("run", HELLO, "--input", "n", home=home_dir)

        assert done.returncode == 2
        assert "'n' is not of the form NAME=VALUE." in done.stderr

    def test_given_json_then_it_is_all_that_is_printed(self, home_dir: Path, tmp_path: Path) -> None:
        line = '::{"outputs":{"a":1}}::'

        done = tercel("run", a_file(tmp_path, flow(sh("a", f"echo '{line}'"))), "--json", home=home_dir)

        result = json.loads(done.stdout)
        assert result["state"]["current"] == "SUCCESS"
        assert result["taskRunList"][0]["outputs"]["vars"] == {"a": 1}
        assert result["metrics"] == []

    def test_given_a_folder_of_namespace_files_then_they_are_used(self, home_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "files" / "lib").mkdir(parents=True)
        (tmp_path / "files" / "lib" / "u.txt").write_text("from the folder")
        text = flow(wd(sh("a", "cat lib/u.txt"), namespaceFiles={}))

        done = tercel("run", a_file(tmp_path, text), "--namespace-files", tmp_path / "files", home=home_dir)

        assert "a: from the folder" in done.stdout

    def test_given_docker_in_the_flow_then_the_way_out_is_told_and_works(self, home_dir: Path, tmp_path: Path) -> None:
        task = {**sh("a", "echo here"), "docker": {"image": "ubuntu"}}
        del task["runner"]
        path = a_file(tmp_path, flow(task))

        refused = tercel("run", path, home=home_dir)
        done = tercel("run", path, "--task-runner", "process", home=home_dir)

        assert refused.returncode == 1
        assert "--task-runner process" in refused.stdout
        assert done.returncode == 0
        assert "a: here" in done.stdout

    def test_given_a_setting_that_is_none_then_it_is_warned_about(self, home_dir: Path) -> None:
        done = tercel("run", HELLO, home=home_dir, env={"TERCEL_SLOT": "3"})

        assert "TERCEL_SLOT is no setting of tercel. Did you mean TERCEL_SLOTS?" in done.stderr
        assert done.returncode == 0

    def test_given_a_secret_then_it_is_used_and_never_shown(self, home_dir: Path, tmp_path: Path) -> None:
        check = "test $(printf %s {{ secret('WORD') }} | base64) = b3Blbi1zZXNhbWU="
        text = flow(sh("a", check, "echo {{ secret('WORD') }}", "env"))

        done = tercel("run", a_file(tmp_path, text), home=home_dir, env={"SECRET_WORD": "b3Blbi1zZXNhbWU="})

        assert done.returncode == 0, done.stdout
        assert "open-sesame" not in done.stdout
        assert "SECRET_WORD" not in done.stdout
        kept = [path for path in home_dir.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
        assert kept == []


class TestInterrupts:
    def started(self, tmp_path: Path, home_dir: Path, script: str) -> tuple[subprocess.Popen[str], int]:
        """A run whose script has started, and the script's process."""
        pid = tmp_path / "pid"
        path = a_file(tmp_path, flow(wd(sh("a", f"echo $$ > {pid}.new; mv {pid}.new {pid}", script))))
        process = subprocess.Popen(
            command("run", path),
            env=environment(home_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        until(pid.exists)
        return process, int(pid.read_text())

    def test_given_ctrl_c_then_the_execution_is_killed_cleanly(self, tmp_path: Path, home_dir: Path) -> None:
        process, script = self.started(tmp_path, home_dir, "exec sleep 60")

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

        assert process.returncode == 1
        assert "Killing the execution" in err
        assert "KILLED in" in out
        assert not is_alive(script)
        assert not [path for path in (home_dir / "tmp").glob("*") if path.is_dir()]

    def test_given_a_second_ctrl_c_then_everything_ends_at_once(self, tmp_path: Path, home_dir: Path) -> None:
        process, script = self.started(tmp_path, home_dir, "trap '' TERM INT; while :; do sleep 1; done")

        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Killing the execution" in process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=8)

        assert process.returncode == 130
        until(lambda: not is_alive(script), deadline_s=5)


class TestLookingBack:
    @pytest.fixture
    def ran(self, home_dir: Path, tmp_path: Path) -> str:
        """The id of an execution with outputs, files, metrics and a log."""
        line = '::{"outputs":{"a":1},"metrics":[{"name":"rows","type":"counter","value":3,"tags":{"k":"v"}}]}::'
        text = flow(sh("a", f"echo '{line}'", "echo said", "echo x > f.txt", outputFiles=["f.txt"]), id="back")
        return json.loads(tercel("run", a_file(tmp_path, text), "--json", home=home_dir).stdout)["id"]

    def test_list_and_show(self, ran: str, home_dir: Path) -> None:
        listed = tercel("execution", "list", home=home_dir).stdout
        shown = tercel("execution", "show", "last", home=home_dir).stdout

        assert re.search(rf"^{ran}  SUCCESS .* tests\.back$", listed, re.MULTILINE)
        assert shown.startswith(f"tests.back revision 1, execution {ran}\nSUCCESS in ")
        assert re.search(r"^  a  SUCCESS in ", shown, re.MULTILINE)

    def test_logs_outputs_files_and_metrics(self, ran: str, home_dir: Path, tmp_path: Path) -> None:
        logs = tercel("execution", "logs", ran, home=home_dir).stdout
        outputs = json.loads(tercel("execution", "outputs", ran, home=home_dir).stdout)
        files = tercel("execution", "files", ran, "--copy-to", tmp_path / "copy", home=home_dir)
        metrics = tercel("execution", "metrics", ran, home=home_dir).stdout

        assert re.search(r"INFO  a: said$", logs, re.MULTILINE)
        assert outputs["tasks"]["a"]["vars"] == {"a": 1}
        assert files.returncode == 0, files.stderr
        name, path = files.stdout.split()
        assert name == "a.outputFiles.f.txt"
        assert Path(path).read_text() == "x\n"
        assert (tmp_path / "copy" / "a" / "f.txt").read_text() == "x\n"
        assert metrics == "a  rows  counter  3 k=v\n"

    def test_given_no_such_execution_then_it_is_said(self, ran: str, home_dir: Path) -> None:
        done = tercel("execution", "show", "nope", home=home_dir)

        assert done.returncode == 1
        assert "nope" in done.stderr
        assert "Traceback" not in done.stderr

    def test_given_a_home_without_anything_then_it_is_said(self, home_dir: Path) -> None:
        done = tercel("execution", "list", home=home_dir)

        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert str(home_dir) in done.stderr

    def test_given_a_run_under_way_then_it_can_be_looked_at(self, tmp_path: Path, home_dir: Path) -> None:
        process, _ = TestInterrupts().started(tmp_path, home_dir, "exec sleep 60")

        until(lambda: "RUNNING" in tercel("execution", "list", home=home_dir).stdout)
        second = tercel("run", HELLO, home=home_dir)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

        assert second.returncode == 0


class TestCache:
    def test_list_show_and_clear(self, home_dir: Path, tmp_path: Path) -> None:
        text = flow(wd(sh("a", "echo 12345 > c.txt"), cache={"patterns": ["*.txt"]}), id="cached")
        tercel("run", a_file(tmp_path, text), home=home_dir)

        listed = tercel("cache", "list", home=home_dir).stdout
        shown = json.loads(tercel("cache", "show", "tests.cached.wd", home=home_dir).stdout)
        cleared = tercel("cache", "clear", "tests.cached.wd", home=home_dir)
        again = tercel("run", a_file(tmp_path, text), home=home_dir)
        nothing = tercel("cache", "clear", "tests.cached.other", home=home_dir)
        unclear = tercel("cache", "clear", home=home_dir)

        assert re.match(r"tests\.cached\.wd  1 files, 6 bytes, .* old\n", listed)
        assert shown[0]["patterns"] == ["*.txt"]
        assert cleared.stdout == "1 entry removed.\n"
        assert "Cache missed: nothing is saved yet." in again.stdout
        assert nothing.returncode == 1
        assert "Nothing is cached for 'tests.cached.other'" in nothing.stderr
        assert unclear.returncode == 2


class TestNamespaceFiles:
    def test_put_get_list_and_delete(self, home_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "src" / "lib").mkdir(parents=True)
        (tmp_path / "src" / "main.py").write_text("print(1)")
        (tmp_path / "src" / "lib" / "u.py").write_text("u")
        files = ("namespace", "files")

        put = tercel(*files, "put", "team", tmp_path / "src", "app", home=home_dir)
        listed = tercel(*files, "list", "team", home=home_dir).stdout
        got = tercel(*files, "get", "team", "app/main.py", home=home_dir).stdout
        deleted = tercel(*files, "delete", "team", "app/lib", home=home_dir).stdout
        missing = tercel(*files, "get", "team", "app/lib/u.py", home=home_dir)
        outside = tercel(*files, "get", "team", "../x", home=home_dir)

        assert put.returncode == 0, put.stderr
        assert listed == "app/lib/u.py  1 bytes\napp/main.py  8 bytes\n"
        assert got == "print(1)"
        assert deleted == "1 file deleted.\n"
        assert missing.returncode == 1
        assert "app/lib/u.py" in missing.stderr
        assert outside.returncode == 1
        assert "Traceback" not in outside.stderr


class TestFlowAndPlugin:
    def test_given_a_folder_then_each_flow_is_checked(self, tmp_path: Path) -> None:
        (tmp_path / "good.yaml").write_text(flow(sh("a", ":"), id="good"))
        (tmp_path / "bad.yml").write_text("id: bad\nnamespace: tests\ntasks:\n\t- id: a\n")

        done = tercel("flow", "validate", tmp_path)

        assert done.returncode == 1
        assert done.stdout == "✓ tests / good\n"
        assert f"✘ {tmp_path / 'bad.yml'}" in done.stderr
        assert "Line 4" in done.stderr
        assert "tab" in done.stderr

    def test_schema_is_json(self) -> None:
        schema = json.loads(tercel("flow", "schema").stdout)

        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def test_plugins_are_listed_and_described(self) -> None:
        listed = tercel("plugin", "list").stdout.splitlines()
        doc = tercel("plugin", "doc", "WorkingDirectory")
        unknown = tercel("plugin", "doc", "Nothing")

        assert "io.kestra.plugin.core.flow.WorkingDirectory" in listed
        assert "io.kestra.plugin.scripts.python.Script" in listed
        assert doc.stdout.startswith("io.kestra.plugin.core.flow.WorkingDirectory\n")
        assert "  outputFiles" in doc.stdout
        assert unknown.returncode == 2

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_scripts(self, shell: str) -> None:
        assert "_TERCEL_COMPLETE" in tercel("completion", shell).stdout

    def test_version_and_wrong_usage(self) -> None:
        version = tercel("--version")
        unknown = tercel("nonsense")

        assert version.stdout == "tercel 0.1.0\n"
        assert unknown.returncode == 2
        assert "No such command 'nonsense'" in unknown.stderr


def test_given_a_closed_pipe_then_there_is_no_traceback(home_dir: Path) -> None:
    shell = f"{sys.executable} -m tercel plugin list | head -1"

    done = subprocess.run(["sh", "-c", shell], env=dict(os.environ), capture_output=True, text=True, check=False)

    assert "Traceback" not in done.stderr


def test_given_local_files_then_their_uris_lead_to_files(home_dir: Path, tmp_path: Path) -> None:
    text = flow(local_files("f", inputs={"a.txt": "x"}, outputs=["a.txt"]))

    done = tercel("run", a_file(tmp_path, text), home=home_dir)

    [path] = re.findall(r"^  f\.uris\.a\.txt +(\S+)$", done.stdout, re.MULTILINE)
    assert Path(path).read_text() == "x"
