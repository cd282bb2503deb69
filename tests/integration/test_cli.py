"""The command line, as a process of its own: what it prints, its exit codes, and how it is interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.command_line import ROOT, command, environment, tercel
from tests.flows import CORE, echo, flow, for_each, local_files, sh, wd
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

    def test_given_a_path_for_a_file_input_then_it_is_the_file(self, home_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("a,b")
        text = flow(echo("t", "{{ read(inputs.data) }}"), inputs=[{"id": "data", "type": "FILE"}])
        path = a_file(tmp_path, text)

        done = tercel("run", path, "--input", f"data={tmp_path / 'data.csv'}", home=home_dir)
        missing = tercel("run", path, "--input", "data=/no/where", home=home_dir)
        twice = tercel("run", path, "--input", "data=x", "--file", "data=y", home=home_dir)

        assert re.search(r"^  t\.value +a,b$", done.stdout, re.MULTILINE), done
        assert missing.returncode == 2
        assert missing.stderr == "Error: Input 'data': /no/where is no file.\nGive the path of a regular file.\n"
        assert twice.returncode == 2
        assert "Error: Input 'data' is given twice, by --input and by --file." in twice.stderr

    def test_given_very_many_outputs_then_the_summary_shows_some(self, home_dir: Path, tmp_path: Path) -> None:
        text = flow(for_each("loop", "{{ range(1, 150) }}", echo("t", "{{ taskrun.value }}"), concurrencyLimit=0))

        done = tercel("run", a_file(tmp_path, text), home=home_dir)

        assert re.search(r"^  t\[100\]\.value +100\n  … and 50 more; --json prints all$", done.stdout, re.MULTILINE)

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

    def test_given_docker_in_the_flow_and_no_engine_then_the_way_out_is_told_and_works(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        task = {**sh("a", "echo here"), "docker": {"image": "ubuntu"}}
        del task["runner"]
        path = a_file(tmp_path, flow(task))

        refused = tercel("run", path, home=home_dir, env={"DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"})
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

    def test_given_a_secret_in_an_output_then_it_is_handed_on_but_never_stored_or_shown(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        check = 'test "$(printf %s "{{ outputs.a.value }}" | base64)" = b3Blbi1zZXNhbWU='
        text = flow(
            echo("a", "{{ secret('WORD') }}"),
            sh("b", check, "echo it is {{ outputs.a.value }}"),
            outputs=[{"id": "o", "type": "STRING", "value": "{{ outputs.a.value }}"}],
        )

        done = tercel("run", a_file(tmp_path, text), home=home_dir, env={"SECRET_WORD": "b3Blbi1zZXNhbWU="})
        shown = tercel("execution", "outputs", "last", home=home_dir)

        assert done.returncode == 0, done.stdout
        assert "INFO  b: it is **masked***" in done.stdout
        assert "open-sesame" not in done.stdout + shown.stdout
        kept = [path for path in home_dir.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
        assert kept == []

    def test_given_a_secret_in_a_loop_then_its_values_are_handed_on_but_never_stored_or_shown(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        check = 'test "$(printf %s "{{ taskrun.value }}" | base64)" = b3Blbi1zZXNhbWU='
        text = flow(for_each("each", ["{{ secret('WORD') }}"], sh("a", check)))

        done = tercel("run", a_file(tmp_path, text), home=home_dir, env={"SECRET_WORD": "b3Blbi1zZXNhbWU="})
        shown = tercel("execution", "show", "last", home=home_dir)

        assert done.returncode == 0, done.stdout
        assert "a [**masked***] SUCCESS" in done.stdout
        assert "open-sesame" not in done.stdout + shown.stdout
        kept = [path for path in home_dir.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
        assert kept == []

    def test_given_halves_of_characters_then_they_are_replaced_wherever_they_come_from(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        half = r"""{{ fromJson('"\ud800"') }}"""
        text = flow(
            for_each(
                "each", [half], {"id": "say", "type": f"{CORE}.log.Log", "message": "{{ taskrun.value }} " + half}
            ),
            echo("a", half),
            sh("name", r"touch $(printf 'caf\351.txt')", outputFiles=["*.txt"], allowFailure=True),
            outputs=[{"id": "o", "type": "JSON", "value": r"""{{ fromJson('{"\ud800": "\udc00"}') }}"""}],
        )

        done = tercel("run", a_file(tmp_path, text), home=home_dir)

        assert "Traceback" not in done.stdout + done.stderr
        assert "say: \ufffd \ufffd" in done.stdout
        assert '{"\ufffd": "\ufffd"}' in done.stdout
        assert done.returncode == 0, done.stdout

    def test_given_a_secret_in_a_command_then_it_is_not_in_the_process_list(
        self, home_dir: Path, tmp_path: Path
    ) -> None:
        look = "tr '\\0' ' ' < /proc/$$/cmdline"
        text = flow(sh("a", f"{look} | grep -c -- {{{{ secret('WORD') }}}} || true", "exit 0"))

        done = tercel("run", a_file(tmp_path, text), home=home_dir, env={"SECRET_WORD": "b3Blbi1zZXNhbWU="})

        assert done.returncode == 0, done.stdout
        assert "INFO  a: 0" in done.stdout

    def test_given_a_secret_input_then_it_is_masked_everywhere(self, home_dir: Path, tmp_path: Path) -> None:
        text = flow(sh("a", "echo got {{ inputs.word }}"), inputs=[{"id": "word", "type": "SECRET"}])

        done = tercel("run", a_file(tmp_path, text), "--input", "word=open-sesame", home=home_dir)

        assert "a: got **masked***" in done.stdout
        kept = [path for path in home_dir.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
        assert kept == []


class TestInterrupts:
    def started(
        self, tmp_path: Path, home_dir: Path, script: str, prefix: Sequence[str] = ()
    ) -> tuple[subprocess.Popen[str], int]:
        """A run whose script has started, and the script's process."""
        pid = tmp_path / "pid"
        path = a_file(tmp_path, flow(wd(sh("a", f"echo $$ > {pid}.new; mv {pid}.new {pid}", script))))
        process = subprocess.Popen(
            [*prefix, *command("run", path)],
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
        assert [path.name for path in (home_dir / "tmp").glob("*") if path.is_dir()] == ["at"]
        assert not list((home_dir / "tmp/at").iterdir())

    def test_given_a_second_ctrl_c_then_everything_ends_at_once(self, tmp_path: Path, home_dir: Path) -> None:
        process, script = self.started(tmp_path, home_dir, "trap '' TERM INT; while :; do sleep 1; done")

        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "Killing the execution" in process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=8)

        assert process.returncode == 130
        until(lambda: not is_alive(script), deadline_s=5)

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
    def test_given_another_signal_then_the_execution_is_killed_cleanly_too(
        self, tmp_path: Path, home_dir: Path, number: signal.Signals, code: int
    ) -> None:
        # Whoever runs the tests may have signals ignored, which programs inherit and Tercel respects.
        default = ["env", f"--default-signal={number.name.removeprefix('SIG')}"]
        process, script = self.started(tmp_path, home_dir, "exec sleep 60", prefix=default)

        process.send_signal(number)
        out, err = process.communicate(timeout=20)

        assert process.returncode == code
        assert err == f"Killing the execution, because of {number.name}.\n"
        assert "KILLED in" in out
        assert not is_alive(script)

    def test_given_nohup_then_a_hangup_is_ignored(self, tmp_path: Path, home_dir: Path) -> None:
        process, _ = self.started(tmp_path, home_dir, "sleep 0.5", prefix=["sh", "-c", 'trap "" HUP; exec "$@"', "sh"])

        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=20)

        assert process.returncode == 0
        assert "SUCCESS in" in out


class TestOutputThatGoesAway:
    def test_given_a_reader_that_has_seen_enough_then_the_flow_runs_on_quietly(
        self, tmp_path: Path, home_dir: Path
    ) -> None:
        path = a_file(tmp_path, flow(sh("a", "for i in 1 2 3 4; do echo $i; sleep 0.2; done", f"touch {tmp_path}/end")))
        line = f"{' '.join(command('run', path))} | head -1; exit ${{PIPESTATUS[0]}}"

        done = subprocess.run(
            ["bash", "-c", line], env=environment(home_dir), capture_output=True, text=True, check=False
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "end").exists()

    def test_given_a_closed_standard_output_then_the_flow_runs(self, home_dir: Path) -> None:
        line = f"{' '.join(command('run', HELLO))} >&-"

        done = subprocess.run(
            ["sh", "-c", line], env=environment(home_dir), stderr=subprocess.PIPE, text=True, check=False
        )

        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_given_a_full_disk_then_it_is_said(self, home_dir: Path, options: list[str]) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command("run", HELLO, *options),
                env=environment(home_dir),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )

        assert done.returncode == 1
        assert done.stderr == "Error: The output could not be written: No space left on device.\n"

    def test_given_an_encoding_without_the_signs_then_they_are_written_out(self, home_dir: Path) -> None:
        done = tercel("run", HELLO, home=home_dir, env={"PYTHONIOENCODING": "ascii"})

        assert done.returncode == 0
        assert "\\u2713 say SUCCESS" in done.stdout

    def test_given_control_sequences_in_outputs_then_the_terminal_never_gets_them(
        self, tmp_path: Path, home_dir: Path
    ) -> None:
        line = '::{"outputs":{"v":"\\\\u001b[2Jx"}}::'
        text = flow(sh("a", f"printf '{line}\\n'"))

        done = tercel("run", a_file(tmp_path, text), home=home_dir)

        assert re.search(r"^  a\.vars +\{\"v\": \".*x\"\}$", done.stdout, re.MULTILINE), done.stdout
        assert "\x1b" not in done.stdout


class TestHomesThatCannotBeUsed:
    @pytest.mark.parametrize("arguments", [["run", HELLO], ["execution", "list"]])
    def test_given_a_damaged_database_then_it_is_said(self, home_dir: Path, arguments: list[object]) -> None:
        home_dir.mkdir()
        (home_dir / "tercel.db").write_bytes(b"x" * 200)

        done = tercel(*arguments, home=home_dir)

        first, second = done.stderr.splitlines()
        assert done.returncode == 1
        assert str(home_dir / "tercel.db") in first
        assert first.endswith(": file is not a database.")
        assert second == "The file is damaged: bring it back from a backup, or work in another home: --home DIR."

    @pytest.mark.parametrize("arguments", [["run", HELLO], ["execution", "list"]])
    def test_given_a_folder_in_place_of_the_database_then_it_is_named(
        self, home_dir: Path, arguments: list[object]
    ) -> None:
        (home_dir / "tercel.db").mkdir(parents=True)

        done = tercel(*arguments, home=home_dir)

        assert done.returncode == 1
        assert str(home_dir / "tercel.db") in done.stderr
        assert "Traceback" not in done.stderr

    def test_given_an_empty_database_then_nothing_was_run_yet(self, home_dir: Path) -> None:
        home_dir.mkdir()
        (home_dir / "tercel.db").touch()

        done = tercel("execution", "list", home=home_dir)

        assert done.stderr == (
            f"Error: There is no database {home_dir / 'tercel.db'}.\nNothing was run in this home yet.\n"
        )

    def test_given_a_newer_schema_then_the_way_out_is_told_by_both(self, home_dir: Path) -> None:
        tercel("run", HELLO, home=home_dir)
        with closing(sqlite3.connect(home_dir / "tercel.db", isolation_level=None)) as connection:
            connection.execute("INSERT INTO schema_version VALUES (99, 'later', 'x', 'y')")

        for arguments in (["run", HELLO], ["execution", "list"]):
            done = tercel(*arguments, home=home_dir)
            assert done.stderr == (
                "Error: The database has schema version 99, this tercel knows only up to 3.\n"
                "A newer tercel wrote it: use that version, or another home (--home DIR).\n"
            )

    def test_given_a_file_in_the_way_then_it_is_named(self, home_dir: Path) -> None:
        home_dir.mkdir()
        (home_dir / "processes").touch()

        done = tercel("run", HELLO, home=home_dir)

        assert done.returncode == 1
        assert done.stderr == (
            f"Error: The home {home_dir} cannot be used: {home_dir}/processes: File exists.\n"
            "Give another one: --home DIR.\n"
        )

    def test_given_an_empty_name_then_it_is_wrong_usage(self) -> None:
        done = tercel("run", HELLO, "--home", "")

        assert done.returncode == 2
        assert "Invalid value for '--home': it is empty." in done.stderr

    def test_given_a_setting_that_cannot_be_used_then_it_is_wrong_usage(self, home_dir: Path) -> None:
        done = tercel("run", HELLO, home=home_dir, env={"TERCEL_SLOTS": "x"})

        assert done.returncode == 2
        assert done.stderr == (
            "Error: TERCEL_SLOTS is 'x', which is not a whole number of at least 1.\n"
            "Unset means 4 for each CPU, at least 8.\n"
        )

    def test_given_a_disabled_flow_then_it_is_refused(self, home_dir: Path, tmp_path: Path) -> None:
        done = tercel("run", a_file(tmp_path, flow(sh("a", ":"), disabled=True)), home=home_dir)

        assert done.returncode == 2
        assert done.stderr == "Error: The flow tests.scenario is disabled.\nRemove `disabled: true` to run it.\n"


class TestInterruptedExecutions:
    def crashed(self, tmp_path: Path, home_dir: Path) -> str:
        """The id of an execution whose process was killed while its second task ran."""
        seen = tmp_path / "seen"
        text = flow(
            sh("one", f"echo one >> {seen}"),
            sh("two", f"echo two >> {seen}; test $(grep -c two {seen}) -gt 1 || sleep 60"),
        )
        process = subprocess.Popen(
            command("run", a_file(tmp_path, text)), env=environment(home_dir), stdout=subprocess.DEVNULL
        )
        until(lambda: seen.exists() and "two" in seen.read_text())
        until(lambda: "two  RUNNING" in tercel("execution", "show", "last", home=home_dir).stdout)
        process.kill()
        process.wait()
        return tercel("execution", "list", home=home_dir).stdout.split()[0]

    def test_given_another_run_then_it_leaves_them_alone_and_tells(self, tmp_path: Path, home_dir: Path) -> None:
        crashed = self.crashed(tmp_path, home_dir)

        done = tercel("run", HELLO, home=home_dir)
        listed = tercel("execution", "list", home=home_dir).stdout.splitlines()
        shown = tercel("execution", "show", crashed, home=home_dir).stdout.splitlines()

        assert done.stderr == "1 execution was interrupted; `tercel execution recover` goes on with it.\n"
        assert re.fullmatch(rf"{crashed}  RUNNING   \S+ +tests\.scenario  interrupted", listed[1])
        assert shown[1].startswith("RUNNING, started ")
        assert shown[2] == (
            f"Its process was ended in the middle: `tercel execution recover {crashed}` goes on with it, "
            f"`tercel execution kill {crashed}` ends it."
        )
        assert (tmp_path / "seen").read_text().split() == ["one", "two"]

    def test_given_recover_then_it_goes_on_where_it_was(self, tmp_path: Path, home_dir: Path) -> None:
        crashed = self.crashed(tmp_path, home_dir)

        done = tercel("execution", "recover", home=home_dir)
        again = tercel("execution", "recover", home=home_dir)
        named = tercel("execution", "recover", crashed, home=home_dir)

        assert done.returncode == 0, done.stderr
        assert re.search(rf"^SUCCESS in .*, execution {crashed}$", done.stdout, re.MULTILINE)
        assert (tmp_path / "seen").read_text().split() == ["one", "two", "two"]
        assert again.stdout == "No execution was interrupted.\n"
        assert named.returncode == 1
        assert named.stderr == f"Error: The execution {crashed} was not interrupted: it ended in SUCCESS.\n"

    def test_given_kill_then_it_ends_and_nothing_of_it_runs_again(self, tmp_path: Path, home_dir: Path) -> None:
        crashed = self.crashed(tmp_path, home_dir)

        done = tercel("execution", "kill", crashed, home=home_dir)

        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rf"KILLED in .*, execution {crashed}\n", done.stdout)
        assert (tmp_path / "seen").read_text().split() == ["one", "two"]
        assert "  two  KILLED in " in tercel("execution", "show", crashed, home=home_dir).stdout

    def test_given_one_that_runs_then_it_is_left_alone_and_said_where(self, tmp_path: Path, home_dir: Path) -> None:
        process, _ = TestInterrupts().started(tmp_path, home_dir, "exec sleep 60")
        running = tercel("execution", "list", home=home_dir).stdout.split()[0]

        done = tercel("execution", "kill", running, home=home_dir)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)

        assert done.returncode == 1
        assert f"Error: The execution {running} runs in `tercel run` (process {process.pid}, since " in done.stderr


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

        assert re.match(r"tests\.cached\.wd  1 file, 6 B in 1 layer, .* old, 0 hits, ", listed)
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

    @pytest.mark.parametrize("namespace", ["company/team", "", "..", "a..b"])
    def test_given_no_name_of_a_namespace_then_nothing_is_stored(
        self, home_dir: Path, tmp_path: Path, namespace: str
    ) -> None:
        (tmp_path / "a.txt").write_text("a")

        done = tercel("namespace", "files", "put", namespace, tmp_path / "a.txt", home=home_dir)

        assert done.returncode == 2
        assert (
            f"Error: {namespace!r} cannot be a namespace: its parts are of letters, digits, '-' and '_'." in done.stderr
        )


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

    def test_given_kestras_option_and_a_user_without_a_home_folder_then_it_is_checked_all_the_same(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "good.yaml").write_text(flow(sh("a", ":"), id="good"))

        done = tercel("flow", "validate", "--local", tmp_path, env={"HOME": "~"})

        assert (done.returncode, done.stdout) == (0, "✓ tests / good\n")

    def test_given_a_file_that_is_no_text_then_it_is_said_and_the_others_are_checked(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
        (tmp_path / "b.yaml").write_text(flow(sh("a", ":"), id="good"))

        done = tercel("flow", "validate", tmp_path)

        assert done.returncode == 1
        assert done.stdout == "✓ tests / good\n"
        assert done.stderr == f"✘ {tmp_path / 'a.yaml'}\n  It cannot be read: it is not UTF-8 text.\n"

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


def test_given_a_secret_that_cannot_be_read_then_a_warning_says_so_once(home_dir: Path) -> None:
    done = tercel("run", HELLO, home=home_dir, env={"SECRET_BROKEN": "not base64!"})

    assert done.returncode == 0
    assert done.stderr.count("Warning: SECRET_BROKEN is not Base64 of a UTF-8 text") == 1
