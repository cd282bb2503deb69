"""A WorkingDirectory's run, by the job runner alone, with real processes."""

from __future__ import annotations

import os
import stat
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tercel.model import LogLevel, NamespaceFiles, Retry, State
from tercel.mounts import why_no_mounts
from tercel.plugin_api import Outputs, RunContext
from tercel.plugins.debug import Return
from tercel.plugins.files import LocalFiles
from tercel.storage.namespace_files import FolderNamespaceFiles
from tercel.worker.control import JobControl
from tests.job_runners import Bench, Calls, Warns, a_directory, a_job, a_shell


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def called(id: str, function: object) -> Calls:
    Calls.functions[id] = function  # type: ignore[assignment]
    return Calls(id=id)


class TestChildren:
    def test_given_two_children_then_the_second_reads_what_the_first_wrote(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", "echo hi > f.txt"), a_shell("b", "cat f.txt")))

        assert result.state is State.SUCCESS
        assert bench.states() == {"a": "SUCCESS", "b": "SUCCESS"}
        assert "hi" in bench.records.messages(LogLevel.INFO, task="b")

    def test_given_two_children_then_they_share_a_private_directory_that_is_gone_afterwards(self, bench: Bench) -> None:
        bench.run(a_directory(a_shell("a", "pwd; stat -c %a ."), a_shell("b", "pwd")))

        first, mode = bench.records.messages(LogLevel.INFO, task="a")
        assert bench.records.messages(LogLevel.INFO, task="b") == [first]
        assert mode == "700"
        assert Path(first).parent == bench.base / "at"
        assert bench.left() == []

    def test_given_runs_of_one_task_then_all_are_at_the_same_path_and_never_meet(self, bench: Bench) -> None:
        names = ("one", "two", "three")
        task = a_directory(a_shell("a", "pwd; ls | wc -l; touch {{ execution.id }}; sleep 0.2; ls"))
        results: list[State] = []

        def run(name: str) -> None:
            results.append(bench.run(task, execution_id=name, variables={"execution": {"id": name}}).state)

        threads = [threading.Thread(target=run, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert results == [State.SUCCESS] * 3
        for name in names:
            entries = [entry for entry in bench.records.entries if (entry.execution_id, entry.task_id) == (name, "a")]
            path, *seen = [entry.message for entry in entries if entry.level is LogLevel.INFO]
            assert seen == ["0", name]
            # Where threads cannot have mounts of their own, only one can have the path.
            assert why_no_mounts() or Path(path).parent == bench.base / "at"

    def test_given_another_task_or_flow_then_the_path_is_another(self, bench: Bench) -> None:
        for flow_id, task_id in (("flow", "wd"), ("flow", "w-d"), ("flow", "w_d"), ("f", "wd"), ("f-low", "wd")):
            bench.run(a_directory(a_shell("a", "pwd"), id=task_id), flow_id=flow_id)
        bench.run(a_directory(a_shell("a", "pwd")), namespace="company")

        paths = bench.records.messages(LogLevel.INFO, task="a")
        assert len(set(paths)) == len(paths) == 6

    def test_given_children_then_their_runs_have_derived_ids_and_whole_histories(self, bench: Bench) -> None:
        bench.run(a_directory(a_shell("a", ":")))

        running, ended = bench.reports
        assert [change.state for change in running.history] == [State.CREATED, State.RUNNING]
        assert [change.state for change in ended.history] == [State.CREATED, State.RUNNING, State.SUCCESS]
        assert [attempt.state for attempt in ended.attempts] == [State.SUCCESS]
        assert (ended.parent_id, ended.value, ended.fence, ended.worker) == ("run", None, 1, "worker-1")
        assert running.id == ended.id
        dates = [change.date for change in ended.history]
        assert dates == sorted(dates)

    def test_given_a_disabled_child_then_it_has_no_run(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), a_shell("b", ":", disabled=True), a_shell("c", ":")))

        assert result.state is State.SUCCESS
        assert list(bench.states()) == ["a", "c"]

    def test_given_all_children_disabled_then_it_succeeds(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":", disabled=True)))

        assert result.state is State.SUCCESS
        assert bench.reports == []

    def test_given_a_false_run_if_then_the_child_is_skipped_and_the_next_one_runs(self, bench: Bench) -> None:
        result = bench.run(
            a_directory(a_shell("a", ":"), a_shell("b", ":", run_if="{{ outputs.a.exitCode == 1 }}"), a_shell("c", ":"))
        )

        assert result.state is State.SUCCESS
        assert bench.states() == {"a": "SUCCESS", "b": "SKIPPED", "c": "SUCCESS"}
        assert bench.child("b").attempts == ()

    def test_given_a_run_if_that_cannot_be_rendered_then_the_child_failed(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":", run_if="{{ nope }}"), a_shell("b", ":")))

        assert result.state is State.FAILED
        assert bench.states() == {"a": "FAILED"}
        assert any("nope" in line for line in bench.records.messages(LogLevel.ERROR, task="a"))

    def test_given_outputs_of_a_child_then_the_next_one_sees_them_and_its_state(self, bench: Bench) -> None:
        result = bench.run(
            a_directory(
                Return(id="a", type="R", format="one"),
                Return(id="b", type="R", format="{{ outputs.a.value }} {{ tasks.a.state }} {{ workerTaskrun.id }}"),
            )
        )

        assert result.state is State.SUCCESS
        assert bench.child("b").outputs == {"value": "one SUCCESS run"}

    def test_given_a_loop_value_then_children_see_it_and_their_siblings_under_it(self, bench: Bench) -> None:
        bench.run(
            a_directory(
                Return(id="a", type="R", format="{{ taskrun.value }}"),
                Return(id="b", type="R", format="{{ outputs.a[taskrun.value].value }}"),
            ),
            value="v",
            values=("v",),
            variables={"taskrun": {"id": "run", "value": "v"}},
        )

        assert bench.child("b").outputs == {"value": "v"}

    def test_given_any_child_then_it_can_name_the_directory(self, bench: Bench) -> None:
        bench.run(a_directory(Return(id="a", type="R", format="{{ workingDir }}"), a_shell("b", "pwd")))

        assert bench.records.messages(LogLevel.INFO, task="b") == [bench.child("a").outputs["value"]]


class TestStates:
    def test_given_a_failing_child_then_no_other_starts_and_the_directory_failed(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", "exit 3"), a_shell("b", ":")))

        assert result.state is State.FAILED
        assert result.message == "The task 'a' failed: exit code 3"
        assert bench.states() == {"a": "FAILED"}
        assert bench.child("a").outputs == {"exitCode": 3}
        assert bench.records.messages(LogLevel.ERROR, task="wd") == []
        assert bench.left() == []

    def test_given_allow_failure_on_a_child_then_it_warns_and_the_next_one_sees_its_files(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", "echo x > f; exit 1", allow_failure=True), a_shell("b", "cat f")))

        assert result.state is State.WARNING
        assert bench.states() == {"a": "WARNING", "b": "SUCCESS"}
        assert bench.child("a").attempts[0].state is State.FAILED

    def test_given_a_warning_then_allow_warning_makes_it_a_success(self, bench: Bench) -> None:
        warned = bench.run(a_directory(Warns(id="a")))
        allowed = bench.run(a_directory(Warns(id="a", allow_warning=True)))

        assert (warned.state, allowed.state) == (State.WARNING, State.SUCCESS)

    def test_given_a_task_that_breaks_then_the_traceback_is_at_trace_and_the_message_short(self, bench: Bench) -> None:
        def breaks(context: RunContext) -> Outputs:
            raise KeyError("oh")

        result = bench.run(a_directory(called("breaks", breaks)))

        assert result.message == "The task 'breaks' failed: KeyError: 'oh'"
        assert bench.records.messages(LogLevel.ERROR) == ["KeyError: 'oh'"]
        assert any("Traceback" in line for line in bench.records.messages(LogLevel.TRACE))


class TestRetryAndTimeout:
    RETRY = Retry(interval=timedelta(milliseconds=10), max_attempts=3)

    def test_given_a_retry_then_the_child_is_tried_again_in_the_same_directory_as_it_was_before(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        count = tmp_path / "count"
        line = f"pwd; ls; echo x >> mine; echo x >> {count}; [ $(wc -l < {count}) -ge 3 ]"
        first = a_shell("first", "echo 1 > theirs; pwd")
        result = bench.run(a_directory(first, a_shell("a", line, retry=self.RETRY), a_shell("b", "wc -l < mine; ls")))

        child = bench.child("a")
        assert result.state is State.SUCCESS
        assert [attempt.state for attempt in child.attempts] == [State.FAILED, State.FAILED, State.SUCCESS]
        assert [change.state.value for change in child.history] == [
            *("CREATED", "RUNNING", "RETRYING", "RUNNING", "RETRYING", "RUNNING", "SUCCESS")
        ]
        assert len({run.id for run in bench.reports if run.task_id == "a"}) == 1
        [path] = bench.records.messages(LogLevel.INFO, task="first")
        assert bench.records.messages(LogLevel.INFO, task="a") == [path, "theirs"] * 3
        assert bench.records.messages(LogLevel.INFO, task="b") == ["1", "mine", "theirs"]
        assert {entry.attempt for entry in bench.records.entries if entry.task_id == "a"} == {0, 1, 2}

    def test_given_a_retry_that_is_used_up_then_the_child_failed(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", "exit 1", retry=self.RETRY)))

        assert result.state is State.FAILED
        assert len(bench.child("a").attempts) == 3

    def test_given_a_retry_that_is_used_up_then_what_the_last_attempt_left_is_captured(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        count = tmp_path / "count"
        line = f"echo x >> {count}; touch try$(wc -l < {count}); exit 1"

        result = bench.run(a_directory(a_shell("a", line, retry=self.RETRY), output_files=["try*"]))

        assert list(result.outputs["uris"]) == ["try3"]  # type: ignore[call-overload]

    def test_given_warning_on_retry_then_a_late_success_warns(self, bench: Bench, tmp_path: Path) -> None:
        retry = Retry(interval=timedelta(milliseconds=10), max_attempts=2, warning_on_retry=True)
        marker = tmp_path / "marker"
        result = bench.run(a_directory(a_shell("a", f"[ -e {marker} ] || {{ touch {marker}; exit 1; }}", retry=retry)))

        assert result.state is State.WARNING

    def test_given_a_kill_while_it_waits_to_retry_then_it_ends_at_once(self, bench: Bench) -> None:
        control = JobControl()
        retry = Retry(interval=timedelta(minutes=5), max_attempts=3)
        killer = threading.Timer(0.3, lambda: control.stop("kill"))
        killer.start()
        begun = time.monotonic()

        result = bench.run(a_directory(a_shell("a", "exit 1", retry=retry), a_shell("b", ":")), control)

        assert result.state is State.KILLED
        assert time.monotonic() - begun < 5
        assert bench.states() == {"a": "KILLED"}

    def test_given_a_timeout_on_a_child_then_it_failed_and_the_process_is_gone(self, bench: Bench) -> None:
        begun = time.monotonic()

        result = bench.run(a_directory(a_shell("a", "sleep 60", timeout="{{ 'PT0.2S' }}"), a_shell("b", ":")))

        assert result.state is State.FAILED
        assert bench.child("a").message == "Timeout after 00:00:00.200"
        assert bench.states() == {"a": "FAILED"}
        assert time.monotonic() - begun < 5

    def test_given_a_timeout_on_the_directory_then_the_child_is_killed_and_files_are_captured(
        self, bench: Bench
    ) -> None:
        task = a_directory(
            a_shell("a", "echo x > f.txt; sleep 60"), a_shell("b", ":"), timeout="PT0.3S", output_files=["*.txt"]
        )

        result = bench.run(task)

        assert result.state is State.FAILED
        assert result.message == "Timeout after 00:00:00.300"
        assert bench.states() == {"a": "KILLED"}
        assert list(result.outputs["uris"]) == ["f.txt"]  # type: ignore[call-overload]
        assert bench.records.messages(LogLevel.ERROR, task="wd") == ["Timeout after 00:00:00.300"]


class TestRoughChildren:
    @pytest.mark.parametrize("line", ['rm -rf "$PWD"', 'mv "$PWD" ../x', 'rmdir "$PWD"'])
    def test_given_a_child_that_takes_the_directory_away_then_the_run_has_an_end(self, bench: Bench, line: str) -> None:
        task = a_directory(
            a_shell("a", f"touch a.txt; {line}", allow_failure=True), a_shell("b", "ls"), output_files=["*.txt"]
        )

        result = bench.run(task)

        # A mount point cannot be taken away; where there are no mounts, it is a folder like others.
        assert result.state in ({State.WARNING} if not why_no_mounts() else {State.WARNING, State.FAILED})
        if not why_no_mounts():
            assert bench.states() == {"a": "WARNING", "b": "SUCCESS"}
            captured = [] if line.startswith("rm -rf") else ["a.txt"]
            assert list(result.outputs["uris"]) == captured  # type: ignore[call-overload]
            assert bench.left() == []

    def test_given_what_cannot_be_captured_then_the_run_has_an_end_and_says_why(self, bench: Bench) -> None:
        def refuse(*_: object, **__: object) -> str:
            raise OSError(5, "Input/output error", "a.txt")

        bench.storage.put_file = refuse  # type: ignore[method-assign]

        result = bench.run(a_directory(a_shell("a", "touch a.txt"), output_files=["*.txt"]))

        assert result.state is State.FAILED
        assert "The file 'a.txt' cannot be captured: Input/output error" in result.message
        assert bench.left() == []

    def test_given_reports_that_fail_then_the_run_has_an_end(self, bench: Bench) -> None:
        def broken(run: object) -> None:
            raise RuntimeError("closed")

        result = bench.runner.run(a_job(a_directory(a_shell("a", ":"))), JobControl(), broken)

        assert (result.state, result.message) == (State.FAILED, "RuntimeError: closed")
        assert bench.left() == []

    def test_given_a_shutdown_then_nothing_is_captured_and_the_directory_is_gone(self, bench: Bench) -> None:
        control = JobControl()
        threading.Timer(0.2, lambda: control.stop("shutdown")).start()

        result = bench.run(a_directory(a_shell("a", "touch f; sleep 30"), output_files=["f"]), control)

        assert (result.state, result.outputs, control.reason) == (State.KILLED, {}, "shutdown")
        assert bench.left() == []


class TestKill:
    def test_given_a_kill_during_a_child_then_no_other_starts_and_the_directory_is_removed(self, bench: Bench) -> None:
        control = JobControl()
        task = a_directory(a_shell("a", "echo x > f.txt; sleep 60"), a_shell("b", ":"), output_files=["f.txt"])
        threading.Timer(0.3, lambda: control.stop("kill")).start()

        result = bench.run(task, control)

        assert result.state is State.KILLED
        assert bench.states() == {"a": "KILLED"}
        assert list(result.outputs["outputFiles"]) == ["f.txt"]  # type: ignore[call-overload]
        assert bench.left() == []

    def test_given_a_kill_before_the_start_then_nothing_is_made(self, bench: Bench) -> None:
        control = JobControl()
        control.stop("kill")

        result = bench.run(a_directory(a_shell("a", ":")), control)

        assert result.state is State.KILLED
        assert bench.reports == []
        assert not bench.base.exists()


class TestInputFiles:
    def test_given_names_and_texts_then_the_files_are_there_exactly(self, bench: Bench) -> None:
        files = {
            "requirements.txt": "a\nb\n",
            "sub/dir/x.txt": "hi",
            "/top.txt": "{% raw %}{{ x }}{% endraw %}",
            "{{ inputs.n }}.sql": "select {{ inputs.v }}",
            "null": None,
            "empty": "",
            "number": 42,
            "flag": True,
            "map": {"a": 1, "b": ["{{ inputs.v }}"]},
        }
        names = "requirements.txt sub/dir/x.txt top.txt q.sql null empty number flag map"
        line = f"for f in {names}; do echo $f=`cat $f`; done"

        bench.run(a_directory(a_shell("a", line), input_files=files), variables={"inputs": {"n": "q", "v": 7}})

        assert bench.records.messages(LogLevel.INFO, task="a") == [
            "requirements.txt=a b",
            "sub/dir/x.txt=hi",
            "top.txt={{ x }}",
            "q.sql=select 7",
            "null=",
            "empty=",
            "number=42",
            "flag=true",
            'map={"a":1,"b":["7"]}',
        ]

    def test_given_addresses_then_the_objects_are_copied_byte_for_byte(self, bench: Bench) -> None:
        content = b"\0\xff" * 5000
        uri = bench.put("/company/team/flow/executions/execution/tasks/up/r/data", content)
        bench.namespace_files({"q.sql": "select 1"})
        files = {"data.csv": "{{ outputs.up.uri }}", "block": f"{uri}\n", "q": "nsfile:///q.sql"}
        task = a_directory(a_shell("a", ":"), input_files=files, output_files=["data.csv", "block", "q"])

        result = bench.run(task, variables={"outputs": {"up": {"uri": uri}}})

        uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
        assert bench.read(uris["data.csv"]) == content
        assert bench.read(uris["block"]) == content
        assert bench.read(uris["q"]) == b"select 1"

    def test_given_a_text_that_renders_to_a_map_then_it_is_used(self, bench: Bench) -> None:
        uri = bench.put("/x/y", b"of y")
        task = a_directory(a_shell("a", "cat d/b.txt a.txt"), input_files="{{ outputs.up.outputFiles }}")

        bench.run(task, variables={"outputs": {"up": {"outputFiles": {"a.txt": "plain", "d/b.txt": uri}}}})

        assert bench.records.messages(LogLevel.INFO, task="a") == ["of yplain"]

    @pytest.mark.parametrize("name", ["../evil", "/../../evil", "a/../../evil", "", "x/", "..", "a\0b"])
    def test_given_a_name_that_leads_out_then_nothing_is_written_and_no_child_runs(
        self, bench: Bench, name: str
    ) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), input_files={"ok.txt": "1", name: "boom"}))

        assert result.state is State.FAILED
        assert repr(name) in result.message
        assert bench.reports == []
        assert bench.left() == []
        assert not list(bench.base.parent.rglob("evil"))

    def test_given_a_missing_object_then_the_error_names_file_and_address(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), input_files={"data.csv": "kestra:///no/such"}))

        assert result.state is State.FAILED
        (said,) = bench.records.messages(LogLevel.ERROR, task="wd")
        assert "'data.csv'" in said
        assert "kestra:///no/such" in said
        assert bench.reports == []

    def test_given_an_undefined_variable_then_no_child_runs(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), input_files={"x": "{{ nope }}"}))

        assert result.state is State.FAILED
        assert bench.reports == []

    def test_given_a_secret_in_a_file_then_it_is_masked_in_every_log(self, tmp_path: Path) -> None:
        from tercel.secrets import Secrets

        bench = Bench(tmp_path, secrets=Secrets({"TOKEN": "s3cr3t-value"}))

        bench.run(a_directory(a_shell("a", "cat f"), input_files={"f": "{{ secret('TOKEN') }}"}))

        assert bench.records.messages(LogLevel.INFO, task="a") == ["**masked****"]


class TestNamespaceFiles:
    def test_given_include_and_exclude_then_only_those_files_are_there(self, bench: Bench) -> None:
        bench.namespace_files({"main.py": "m", "lib/u.py": "u", "ignore/x.txt": "x"})
        task = a_directory(
            a_shell("a", "find . -type f | sort"), namespace_files=NamespaceFiles(exclude=["/ignore/**"])
        )

        bench.run(task)

        assert bench.records.messages(LogLevel.INFO, task="a") == ["./lib/u.py", "./main.py"]
        assert bench.records.values("wd")["namespacefiles.count"] == 2

    def test_given_the_same_name_then_the_input_file_wins(self, bench: Bench) -> None:
        bench.namespace_files({"main.py": "theirs"})
        task = a_directory(
            a_shell("a", "cat main.py"), namespace_files=NamespaceFiles(), input_files={"main.py": "mine"}
        )

        bench.run(task)

        assert bench.records.messages(LogLevel.INFO, task="a") == ["mine"]

    def test_given_several_namespaces_then_the_last_one_wins(self, bench: Bench) -> None:
        bench.namespace_files({"x.txt": "a"}, "a")
        bench.namespace_files({"x.txt": "b"}, "b")

        bench.run(a_directory(a_shell("s", "cat x.txt"), namespace_files=NamespaceFiles(namespaces=["a", "b"])))

        assert bench.records.messages(LogLevel.INFO, task="s") == ["b"]

    @pytest.mark.parametrize(("enabled", "count"), [(False, "0"), ("{{ false }}", "0"), (True, "1")])
    def test_given_enabled_then_it_decides(self, bench: Bench, enabled: bool | str, count: str) -> None:
        bench.namespace_files({"x.txt": "a"})

        bench.run(a_directory(a_shell("s", "ls | wc -l"), namespace_files=NamespaceFiles(enabled=enabled)))

        assert bench.records.messages(LogLevel.INFO, task="s") == [count]

    @pytest.mark.parametrize(
        ("if_exists", "state", "kept"),
        [
            ("FAIL", "FAILED", None),
            ("IGNORE", "SUCCESS", "old"),
            ("WARN", "SUCCESS", "old"),
            ("OVERWRITE", "SUCCESS", "new"),
        ],
    )
    def test_given_a_file_with_other_content_then_if_exists_decides(
        self, bench: Bench, if_exists: str, state: str, kept: str | None
    ) -> None:
        bench.namespace_files({"x.txt": "new", "same.txt": "same"})

        def stage(context: RunContext) -> Outputs:
            (context.working_directory / "x.txt").write_text("old")
            (context.working_directory / "same.txt").write_text("same")
            context.write_namespace_files(NamespaceFiles(if_exists=if_exists))  # type: ignore[arg-type]
            return Outputs(x=(context.working_directory / "x.txt").read_text())

        result = bench.run(called("stage", stage))

        assert result.state.value == state
        assert result.outputs.get("x") == kept
        assert len(bench.records.messages(LogLevel.WARN)) == (if_exists == "WARN")

    def test_given_a_namespace_without_files_then_nothing_happens(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), namespace_files=NamespaceFiles(namespaces=["nobody"])))

        assert result.state is State.SUCCESS


class TestOutputFiles:
    def test_given_globs_then_matching_files_are_outputs_under_both_names(self, bench: Bench) -> None:
        task = a_directory(
            a_shell("a", "echo a > a.csv; mkdir d; echo b > d/b.csv; echo 1 > 1.txt"), output_files=["**/*.csv"]
        )

        result = bench.run(task)

        uris: dict[str, str] = result.outputs["outputFiles"]  # type: ignore[assignment]
        assert list(uris) == ["a.csv", "d/b.csv"]
        assert result.outputs["uris"] == uris
        assert uris["d/b.csv"].endswith("/tasks/wd/run/outputs/d/b.csv")
        assert bench.read(uris["d/b.csv"]) == b"b\n"
        assert bench.records.values("wd")["outputfiles.count"] == 2

    def test_given_odd_names_then_each_is_captured_under_its_own(self, bench: Bench) -> None:
        names = ["a b.txt", "x#1.txt", "q?.txt", "p%20.txt", "[z].txt", "é.txt", "a..b.txt", "p .txt"]

        def write(context: RunContext) -> Outputs:
            for name in names:
                (context.working_directory / name).write_text(name)
            return Outputs()

        result = bench.run(a_directory(called("write", write), output_files=["*.txt"]))

        uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
        assert {name: bench.read(uri).decode() for name, uri in uris.items()} == {name: name for name in names}

    def test_given_nothing_to_capture_then_the_maps_are_empty(self, bench: Bench) -> None:
        none = bench.run(a_directory(a_shell("a", ":")))
        no_match = bench.run(a_directory(a_shell("a", ":"), output_files=["*.csv", "{{ '' }}"]))

        assert none.outputs == no_match.outputs == {"outputFiles": {}, "uris": {}}

    def test_given_a_plain_name_without_a_file_then_it_is_said_and_nothing_fails(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", ":"), output_files=["report.json"]))

        assert result.state is State.SUCCESS
        assert bench.records.messages(LogLevel.WARN, task="wd") == ["There is no file 'report.json' to capture."]

    def test_given_a_failed_child_then_files_are_captured_all_the_same(self, bench: Bench) -> None:
        result = bench.run(a_directory(a_shell("a", "echo x > a.csv; exit 1"), output_files=["a.csv"]))

        assert result.state is State.FAILED
        assert list(result.outputs["outputFiles"]) == ["a.csv"]  # type: ignore[call-overload]

    @pytest.mark.parametrize("patterns", [["*.csv"], ["l.csv", "out.csv", "a.csv"]])
    def test_given_links_then_those_inside_are_captured_and_those_outside_not(
        self, bench: Bench, patterns: list[str]
    ) -> None:
        line = "echo a > a.csv; ln -s a.csv l.csv; ln -s /etc/hostname out.csv"

        result = bench.run(a_directory(a_shell("a", line), output_files=patterns))

        uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
        assert list(uris) == ["a.csv", "l.csv"]
        assert bench.read(uris["l.csv"]) == b"a\n"
        assert any("'out.csv'" in line for line in bench.records.messages(LogLevel.WARN, task="wd"))

    def test_given_a_folder_of_the_engine_then_no_glob_sees_it(self, bench: Bench) -> None:
        def write(context: RunContext) -> Outputs:
            (context.engine_directory / "script.py").write_text("1")
            (context.working_directory / ".kestra").mkdir()
            (context.working_directory / ".kestra" / "x.py").write_text("1")
            return Outputs()

        result = bench.run(a_directory(called("engine", write), output_files=["**"]))

        assert result.outputs["uris"] == {}

    def test_given_local_files_then_they_write_and_capture_and_leave_the_file(self, bench: Bench) -> None:
        result = bench.run(
            a_directory(
                LocalFiles(id="in", type="L", inputs={"test/a.txt": "1", "test/d/b.txt": "2"}),
                LocalFiles(id="out", type="L", outputs=["test/**"]),
                a_shell("c", "cat test/a.txt"),
            )
        )

        assert result.state is State.SUCCESS
        outputs = bench.child("out").outputs
        assert list(outputs["uris"]) == ["test/a.txt", "test/d/b.txt"]  # type: ignore[call-overload]
        assert outputs["uris"] == outputs["outputFiles"]


class TestCleanup:
    def test_given_folders_without_write_permission_then_they_are_removed(self, bench: Bench) -> None:
        bench.run(a_directory(a_shell("a", "mkdir -p a/b; touch a/b/c; chmod 500 a/b a; ln -s /etc l")))

        assert bench.left() == []
        assert os.path.isdir("/etc")

    def test_given_a_task_alone_then_its_directory_is_its_own_and_gone_afterwards(self, bench: Bench) -> None:
        bench.run(a_shell("a", "pwd; touch x"))
        bench.run(a_shell("a", "pwd; ls"))

        first, second = bench.records.messages(LogLevel.INFO)
        assert first != second
        assert bench.left() == []

    def test_given_a_task_that_needs_no_directory_then_none_is_made(self, bench: Bench) -> None:
        bench.run(Return(id="a", type="R", format="x"))

        assert not bench.base.exists()

    def test_given_the_mode_of_injected_files_then_it_follows_the_umask_or_the_flow(self, bench: Bench) -> None:
        def look(context: RunContext) -> Outputs:
            context.write_input_files({"a": "1", "b": {"content": "#!", "mode": "755"}})
            modes = {n: stat.S_IMODE((context.working_directory / n).stat().st_mode) for n in "ab"}
            return Outputs({name: oct(mode) for name, mode in modes.items()})

        result = bench.run(called("look", look))

        umask = os.umask(0)
        os.umask(umask)
        assert result.outputs == {"a": oct(0o644 & ~umask), "b": "0o755"}


class TestOddNames:
    def test_given_a_name_that_is_no_text_then_the_others_are_captured(self, bench: Bench) -> None:
        line = "touch \"$(printf 'x\\377.txt')\" b.txt"

        result = bench.run(a_directory(a_shell("a", line), output_files=["**"]))

        assert result.state is State.SUCCESS
        assert list(result.outputs["outputFiles"]) == ["b.txt"]
        assert any("is not UTF-8" in line for line in bench.records.messages(LogLevel.WARN, task="wd"))

    def test_given_a_captured_folder_called_like_that_of_namespace_files_then_it_is_read(self, bench: Bench) -> None:
        first = bench.run(
            a_directory(a_shell("a", "mkdir -p v1.2/_files; echo hi > v1.2/_files/x"), output_files=["**"])
        )
        [uri] = first.outputs["outputFiles"].values()

        second = bench.run(a_directory(a_shell("b", "cat x"), input_files={"x": uri}))

        assert second.state is State.SUCCESS, second.message
        assert bench.records.messages(LogLevel.INFO, task="b") == ["hi"]

    def test_given_a_namespace_that_leads_out_then_nothing_is_written_there(self, tmp_path: Path) -> None:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "p.txt").write_text("x")
        bench = Bench(tmp_path, namespace_files=lambda name: FolderNamespaceFiles(tmp_path / "files", name))
        files = NamespaceFiles(namespaces=["../evil"], folder_per_namespace=True)

        result = bench.run(a_directory(a_shell("a", "ls"), namespace_files=files))

        assert result.state is State.FAILED
        assert [path.parent.name for path in tmp_path.rglob("p.txt")] == ["files"]
