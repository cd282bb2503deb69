"""Shell tasks on the Process runner: how commands are put together, files, outputs, how they end."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tercel.errors import TaskFailedError, TaskKilledError, TaskTimeoutError
from tercel.model.task import LogLevel
from tercel.plugins.process import Process
from tercel.plugins.scripts import LANGUAGES, Commands, Script
from tercel.plugins.scripts.command_line import assemble
from tercel.plugins.scripts.docker.runner import Docker
from tests.contract.test_task_runner import eventually
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path, variables={"taskrun": {"id": "run", "attemptsCount": 2}, "name": "World"})


def commands(*texts: str, **properties: object) -> Commands:
    return msgspec.structs.replace(Commands(id="task", type="t", commands=list(texts), runner="PROCESS"), **properties)


def files_in(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


class TestCommands:
    def test_given_commands_then_directory_variables_and_functions_persist(self, context: DirectoryContext) -> None:
        task = commands("mkdir d; cd d; x=1", "f() { echo $x in ${PWD##*/}; }", "f", before_commands=["echo before"])

        outputs = task.run(context)

        assert context.logger.at(LogLevel.INFO) == ["before", "1 in d"]
        assert outputs == {"exitCode": 0, "vars": {}, "outputFiles": {}}
        assert not outputs.warned

    def test_given_elements_that_belong_together_then_they_are_one_text(self, context: DirectoryContext) -> None:
        commands("cat <<END", "a {{ name }}", "END", "echo 'b", "c'").run(context)

        assert context.logger.at(LogLevel.INFO) == ["a World", "b", "c"]

    def test_given_commands_as_an_expression_then_its_list_is_run(self, context: DirectoryContext) -> None:
        context.variables = {"list": '["echo a", "echo b"]'}

        commands(commands="{{ list }}").run(context)

        assert context.logger.at(LogLevel.INFO) == ["a", "b"]

    def test_given_commands_that_render_to_no_list_then_the_message_says_so(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match=r"'commands' is '\{\{ name \}\}', which does not render to a list"):
            commands(commands="{{ name }}").run(context)

    def test_given_a_failing_command_then_the_next_does_not_run(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError) as caught:
            commands("echo a > a.txt; false", "echo never", output_files=["*.txt"]).run(context)

        assert caught.value.message == "Command failed with exit code 1"
        assert caught.value.outputs == {"exitCode": 1, "vars": {}, "outputFiles": {"a.txt": "kestra:///a.txt"}}
        assert context.logger.at(LogLevel.INFO) == []

    def test_given_no_fail_fast_then_the_last_command_counts(self, context: DirectoryContext) -> None:
        assert commands("false", "echo on", fail_fast=False).run(context)["exitCode"] == 0
        assert context.logger.at(LogLevel.INFO) == ["on"]

    def test_given_an_interpreter_then_it_gets_the_text(self, context: DirectoryContext) -> None:
        task = commands("import sys", "print(sys.argv)", interpreter=["python3", "-c"], fail_fast=False)

        task.run(context)

        assert context.logger.at(LogLevel.INFO) == ["['-c']"]

    def test_given_source_then_it_works_whatever_sh_is(self, context: DirectoryContext) -> None:
        commands("source ./env.sh", "echo $X", input_files={"env.sh": "X={{ name }}"}).run(context)

        assert context.logger.at(LogLevel.INFO) == ["World"]

    def test_given_an_inline_script_then_it_is_the_command_line(self, context: DirectoryContext) -> None:
        script = Script(id="t", type="t", runner="PROCESS", script="for i in 1 2; do echo $i; done\nls -A\n")

        script.run(context)

        assert context.logger.at(LogLevel.INFO) == ["1", "2"]


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["bash", "--posix"]], ids=" ".join)
def test_given_a_shell_then_source_works_with_the_shim(shell: Sequence[str], tmp_path: Path) -> None:
    text = assemble(
        ["/bin/sh", "-c"], [f"echo 'X=set' > {tmp_path}/f; source {tmp_path}/f"], ["echo $X"], fail_fast=True
    )[-1]

    done = subprocess.run([*shell, "-c", text], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("set\n", "")


class TestStderr:
    @pytest.mark.parametrize(
        ("given", "setting", "warned"),
        [(None, None, True), (None, False, False), (True, False, True), (False, None, False), (False, True, False)],
    )
    def test_given_a_line_on_stderr_then_the_task_or_else_the_setting_decides(
        self, context: DirectoryContext, given: bool | None, setting: bool | None, warned: bool
    ) -> None:
        if setting is not None:
            context.settings["script.warning-on-std-err"] = setting

        outputs = commands("echo notice >&2", warning_on_std_err=given).run(context)

        assert outputs.warned is warned
        assert context.logger.at(LogLevel.WARN) == ["notice"]

    def test_given_a_payload_on_stderr_then_it_counts_as_a_line(self, context: DirectoryContext) -> None:
        outputs = commands("""echo '::{"outputs":{"a":1}}::' >&2""").run(context)

        assert outputs["vars"] == {"a": 1}
        assert outputs.warned

    def test_given_a_stderr_level_then_its_lines_have_it(self, context: DirectoryContext) -> None:
        context.settings["script.stderr-level"] = "ERROR"

        commands("echo notice >&2").run(context)

        assert context.logger.at(LogLevel.ERROR) == ["notice"]


class TestProtocol:
    def test_given_payloads_then_outputs_metrics_and_logs_are_kept(self, context: DirectoryContext) -> None:
        outputs = commands(
            """echo '::{"outputs":{"a":1},"metrics":[{"name":"n","type":"counter","value":2,"tags":{"x":"y"}}]}::'""",
            """echo '::{"logs":[{"level":"ERROR","message":"oh"}]}::'""",
            """echo '::{"metrics":[{"name":"n","type":"timer","value":1.5}]}::'""",
        ).run(context)

        assert outputs["vars"] == {"a": 1}
        assert context.metrics == {("counter", "n", (("x", "y"),)): 2.0, ("timer", "n", ()): 1.5}
        assert context.logger.at() == ["oh"]

    def test_given_an_encrypted_output_then_it_is_an_output_that_no_log_shows(self, context: DirectoryContext) -> None:
        outputs = commands("""echo '::{"encryptedOutputs":{"key":"s3cret"}}::'""", "echo s3cret").run(context)

        assert outputs["vars"] == {"key": "s3cret"}
        assert context.logger.at() == ["***"]

    def test_given_outputs_that_are_too_large_then_the_task_fails_and_names_the_largest(
        self, context: DirectoryContext
    ) -> None:
        context.settings["outputs.max-bytes"] = 1000
        text = """echo '::{"outputs":{"small":1}}::'; printf '::{"outputs":{"large":"%02000d"}}::\\n' 0"""

        with pytest.raises(TaskFailedError) as caught:
            commands(text).run(context)

        assert caught.value.message == (
            "The outputs are too large: 2,003 bytes, while 1,000 are allowed. "
            "The largest: 'large' (2,002), 'small' (1)."
        )
        assert caught.value.outputs == {"exitCode": 0, "vars": {}, "outputFiles": {}}

    def test_given_a_line_of_outputs_too_long_to_be_read_then_the_task_fails(self, context: DirectoryContext) -> None:
        text = """printf '::{"outputs":{"a":"'; head -c 17000000 /dev/zero | tr '\\0' x; echo '"}}::'"""

        with pytest.raises(TaskFailedError) as caught:
            commands(text).run(context)

        assert caught.value.message == "The outputs are too large: a line of them has 17,000,024 bytes."

    def test_given_one_output_written_again_and_again_then_only_the_last_counts(
        self, context: DirectoryContext
    ) -> None:
        context.settings["outputs.max-bytes"] = 1000
        text = """for i in $(seq 100); do printf '::{"outputs":{"a":"%0500d"}}::\\n' $i; done"""

        outputs = commands(text).run(context)

        assert outputs["vars"] == {"a": "100".zfill(500)}


class TestEnvironment:
    def test_given_variables_then_the_script_sees_them_as_text(self, context: DirectoryContext) -> None:
        env = {"A_{{ name }}": "b {{ name }}", "NUMBER": 3, "FLAG": True, "NOTHING": None}

        commands('echo "$A_World|$NUMBER|$FLAG|$NOTHING"', env=env).run(context)

        assert context.logger.at(LogLevel.INFO) == ["b World|3|true|"]

    def test_given_an_attempt_then_its_id_is_there_for_idempotency(self, context: DirectoryContext) -> None:
        commands("echo $TERCEL_ATTEMPT_ID").run(context)

        assert context.logger.at(LogLevel.INFO) == ["run-2"]

    def test_given_the_directories_then_variables_and_expressions_agree(self, context: DirectoryContext) -> None:
        commands(
            'test "$WORKING_DIR" = {{ workingDir }}',
            'test "$OUTPUT_DIR" = {{ outputDir }}',
            'test "$PWD" = {{ workingDir }}',
            env={"WORKING_DIR": "mine"},
        ).run(context)


class TestFiles:
    def test_given_files_in_the_output_directory_then_they_are_outputs_and_no_glob_sees_them(
        self, context: DirectoryContext
    ) -> None:
        text = "mkdir $OUTPUT_DIR/d; echo 1 > {{ outputDir }}/d/a.txt; echo 2 > {{ outputDir }}/b.txt; echo 3 > b.txt"

        outputs = commands(text, output_files=["**/*.txt"]).run(context)

        assert outputs["outputFiles"] == {"b.txt": "kestra:///b.txt", "d/a.txt": "kestra:///d/a.txt"}
        assert context.stored == {"kestra:///b.txt": b"3\n", "kestra:///d/a.txt": b"1\n"}
        assert files_in(context.working_directory) == ["b.txt"]

    def test_given_a_script_that_removes_the_output_directory_then_there_is_nothing_to_capture(
        self, context: DirectoryContext
    ) -> None:
        assert commands("rm -r $OUTPUT_DIR").run(context)["outputFiles"] == {}

    def test_given_a_shared_directory_then_what_is_large_beside_it_is_gone_at_the_end(
        self, context: DirectoryContext
    ) -> None:
        context.is_shared = True
        context.stored = {"kestra:///x": b"large"}

        outputs = commands("cp kestra:///x $OUTPUT_DIR/y").run(context)

        assert outputs["outputFiles"] == {"y": "kestra:///y"}
        assert files_in(context.engine_directory) == []
        assert files_in(context.output_directory) == []

    def test_given_an_output_file_by_name_then_its_path_can_be_rendered(self, context: DirectoryContext) -> None:
        outputs = commands("echo 1 > {{ outputFiles['a.txt'] }}", output_files=["a.txt", "*.csv"]).run(context)

        assert outputs["outputFiles"] == {"a.txt": "kestra:///a.txt"}

    def test_given_uris_then_the_script_reads_local_copies_each_fetched_once(self, context: DirectoryContext) -> None:
        context.stored = {"kestra:///x/a%20b.csv": b"one\n", "kestra:///y/c.csv": b"two\n"}

        commands(
            "cat kestra:///x/a%20b.csv kestra:///y/c.csv",
            "echo kestra:///x/a%20b.csv | grep -o '[^/]*$'",
            "ls -A",
            env={"URI": "kestra:///y/c.csv"},
        ).run(context)

        assert context.logger.at(LogLevel.INFO) == ["one", "two", "1-a_b.csv"]
        assert context.fetched == ["kestra:///x/a%20b.csv", "kestra:///y/c.csv"]

    def test_given_a_uri_of_no_file_then_the_message_has_it(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match=r"The file kestra:///no that the task names cannot be read"):
            commands("cat kestra:///no").run(context)

    def test_given_an_end_then_nothing_of_the_engines_is_left_in_the_working_directory(
        self, context: DirectoryContext
    ) -> None:
        script = Script.__subclasses__()
        node = next(one for one in script if one.language is LANGUAGES["node"])
        task = node(id="t", type="t", script="process.exit(3)", runner="PROCESS", output_files=["**"])

        with pytest.raises(TaskFailedError) as caught:
            task.run(context)

        assert caught.value.outputs["outputFiles"] == {}
        assert list(context.working_directory.iterdir()) == []


class TestStop:
    @pytest.mark.parametrize(("reason", "error"), [("kill", TaskKilledError), ("timeout", TaskTimeoutError)])
    def test_given_a_stop_then_what_was_there_is_kept(
        self, context: DirectoryContext, reason: str, error: type[TaskKilledError | TaskTimeoutError]
    ) -> None:
        text = """echo '::{"outputs":{"a":1}}::'; echo half > a.txt; echo ready; sleep 60"""
        stopper = threading.Thread(
            target=lambda: (
                eventually(lambda: "ready" in context.logger.at()),
                context.stop("kill" if reason == "kill" else "timeout"),
            )
        )

        stopper.start()
        with pytest.raises(error) as caught:
            commands(text, output_files=["*.txt"]).run(context)
        stopper.join()

        assert caught.value.outputs == {
            "exitCode": 143,
            "vars": {"a": 1},
            "outputFiles": {"a.txt": "kestra:///a.txt"},
        }


class TestRunner:
    def test_given_no_runner_and_no_engine_then_the_message_says_what_to_do(
        self, context: DirectoryContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")

        with pytest.raises(TaskFailedError) as caught:
            commands("echo a", runner=None).run(context)

        assert str(caught.value) == (
            f"This task is to run in a container, and no engine answers at unix://{tmp_path}/nowhere.sock: "
            "No such file or directory. Start one (Docker, or Podman with its socket; DOCKER_HOST says where), or run "
            "scripts as processes of this machine: `tercel run --task-runner process`, or `runner: PROCESS` on the "
            "task."
        )

    @pytest.mark.parametrize(
        ("given", "is_outside"),
        [
            ({"runner": None}, True),
            ({"runner": "DOCKER"}, True),
            ({"runner": "PROCESS"}, False),
            ({"runner": None, "docker": Docker()}, True),
            ({"runner": None, "task_runner": Docker()}, True),
            ({"runner": "PROCESS", "task_runner": Docker()}, True),
            ({"runner": "DOCKER", "task_runner": Process(type=Process.plugin_type)}, False),
        ],
    )
    def test_given_a_runner_then_it_says_whether_others_have_to_see_the_directory(
        self, given: dict[str, Any], is_outside: bool
    ) -> None:
        task = commands("true", **given)

        assert task.works_outside({}) is is_outside
        assert task.works_outside({"script.task-runner": "process"}) is False

    @pytest.mark.parametrize("runner", [None, "DOCKER", "PROCESS"])
    def test_given_the_setting_process_then_it_wins(self, context: DirectoryContext, runner: str | None) -> None:
        context.settings["script.task-runner"] = "process"

        assert commands("true", runner=runner).run(context)["exitCode"] == 0

    def test_given_both_then_the_task_runner_wins_with_a_warning(self, context: DirectoryContext) -> None:
        process = context.task_runner("io.kestra.plugin.core.runner.Process")

        assert commands("true", runner="DOCKER", task_runner=process).run(context)["exitCode"] == 0
        assert context.logger.at(LogLevel.WARN) == ["Both 'taskRunner' and 'runner' are given; 'taskRunner' it is."]
