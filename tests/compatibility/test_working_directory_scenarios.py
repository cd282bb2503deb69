"""The acceptance scenarios of WorkingDirectory, by their numbers, against the whole engine.

Those that are not here are in `LATER` with the reason;
`docs/compatibility.md` is generated from both.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.docker_engine import ensure_image
from tests.flows import CORE, allow_failure, echo, fail, flow, for_each, local_files, py, sequential, sh, wd
from tests.homes import Home, Ran, git, is_alive
from tests.tools import need

LATER = {
    95: "deleting a flow and the cache API come with the server; `tercel cache clear` is tested in test_cli",
    102: "tested with a worker that is not root in tests/integration/test_docker_runner.py",
    110: "needs several workers; `tercel run` serves every worker group itself",
}


def states(ran: Ran) -> dict[str, str]:
    return {run.task_id: run.state.value for run in ran.runs}


def vars_of(ran: Ran, task_id: str) -> dict[str, Any]:
    return ran.run_of(task_id).outputs["vars"]  # type: ignore[return-value]


def files_of(ran: Ran, task_id: str) -> dict[str, str]:
    return ran.run_of(task_id).outputs["outputFiles"]  # type: ignore[return-value]


class TestBasics:
    def test_01_an_ordinary_task_inherits_no_files(self, home: Home) -> None:
        ran = home.run(flow(sh("a", "echo hi > f.txt"), sh("b", "cat f.txt", allowFailure=False)))

        assert states(ran) == {"a": "SUCCESS", "b": "FAILED"}

    def test_02_a_child_reads_what_the_one_before_wrote(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "echo content > f.txt"), sh("b", "cat f.txt"))))

        assert ran.state == "SUCCESS"
        assert "content" in ran.log_of("b")

    def test_03_children_share_a_directory_that_is_gone_afterwards(self, home: Home) -> None:
        text = flow(wd(sh("a", "pwd"), sh("b", "pwd")))

        first, second = home.run(text), home.run(text)

        paths = [first.output_lines("a"), first.output_lines("b"), second.output_lines("a")]
        assert paths[0] == paths[1]
        # One path for all runs of a task, so that what holds it, such as a virtualenv, works in each; but another
        # directory each time, also at the same time (`test_working_directory.py`).
        assert paths[0] == paths[2]
        assert not any(Path(lines[0]).exists() for lines in paths)

    def test_04_children_never_overlap_and_name_their_parent(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), sh("b", ":"), sh("c", ":"))))

        runs = [ran.run_of(name) for name in "abc"]
        assert {run.parent_id for run in runs} == {ran.run_of("wd").id}
        for before, after in itertools.pairwise(runs):
            assert after.history[0].date >= before.history[-1].date

    def test_05_a_disabled_child_has_no_task_run(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), sh("b", ":", disabled=True), sh("c", ":"))))

        assert states(ran) == {"wd": "SUCCESS", "a": "SUCCESS", "c": "SUCCESS"}

    def test_06_all_children_disabled_is_success(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":", disabled=True))))

        assert states(ran) == {"wd": "SUCCESS"}

    def test_07_a_disabled_working_directory_is_not_there(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), disabled=True), sh("next", ":")))

        assert states(ran) == {"next": "SUCCESS"}

    def test_08_run_if_false_skips_it_whole(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "echo 1 > c.txt"), runIf="{{ false }}", cache={"patterns": ["c.txt"]})))

        assert states(ran) == {"wd": "SKIPPED"}
        assert home.cache_entries() == []

    def test_09_a_skipped_child_lets_the_next_run(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), sh("b", ":", runIf="{{ 1 == 2 }}"), sh("c", ":"))))

        assert states(ran) == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SKIPPED", "c": "SUCCESS"}

    def test_10_a_run_if_that_cannot_be_rendered_fails_the_child_only(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), sh("b", ":", runIf="{{ nope }}"), sh("c", ":"))))

        assert states(ran) == {"wd": "FAILED", "a": "SUCCESS", "b": "FAILED"}
        assert home.run(flow(sh("still", ":"))).state == "SUCCESS"

    @pytest.mark.parametrize("type_name", ["flows.WorkingDirectory", "flows.Worker"])
    def test_11_former_names_are_the_same(self, home: Home, type_name: str) -> None:
        old = "io.kestra.core.tasks"
        files = {"id": "in", "type": f"{old}.storages.LocalFiles", "inputs": {"x.txt": "hi"}}
        back = {"id": "out", "type": f"{old}.debugs.Return", "format": "{{ taskrun.id }}"}

        ran = home.run(flow({**wd(files, sh("read", "cat x.txt"), back), "type": f"{old}.{type_name}"}))

        assert ran.state == "SUCCESS"
        assert ran.output_lines("read") == ["hi"]
        assert ran.run_of("out").outputs["value"] == ran.run_of("out").id

    def test_12_outputs_of_the_child_before_are_seen(self, home: Home) -> None:
        ran = home.run(flow(wd(echo("first", "one"), echo("second", "{{ outputs.first.value }} two"))))

        assert ran.run_of("second").outputs["value"] == "one two"


class TestValidation:
    @pytest.mark.parametrize("tasks", [{}, {"tasks": []}])
    def test_13_without_tasks_it_is_refused(self, home: Home, tasks: dict[str, Any]) -> None:
        codes = home.codes(flow({"id": "wd", "type": f"{CORE}.flow.WorkingDirectory", **tasks}))

        assert codes == ["workingDirectory.tasks.empty"]

    @pytest.mark.parametrize(
        "child",
        [
            {"type": f"{CORE}.flow.Parallel", "tasks": [sh("x", ":")]},
            {"type": f"{CORE}.flow.If", "condition": "true", "then": [sh("x", ":")]},
            {"type": f"{CORE}.flow.ForEach", "values": ["a"], "tasks": [sh("x", ":")]},
            {"type": f"{CORE}.flow.WorkingDirectory", "tasks": [sh("x", ":")]},
        ],
        ids=["Parallel", "If", "ForEach", "WorkingDirectory"],
    )
    def test_14_only_runnable_children_are_taken(self, home: Home, child: dict[str, Any]) -> None:
        issues = home.issues(flow(wd({"id": "inner", **child})))

        assert [issue.code for issue in issues] == ["workingDirectory.child.notRunnable"]
        assert "inner" in issues[0].message
        assert child["type"] in issues[0].message

    def test_15_worker_group_belongs_to_the_whole(self, home: Home) -> None:
        group = {"key": "gpu"}

        assert home.codes(flow(wd(sh("a", ":", workerGroup=group)))) == ["workingDirectory.child.workerGroup"]
        assert home.codes(flow(wd(sh("a", ":"), workerGroup=group))) == []

    def test_16_errors_may_hold_anything(self, home: Home) -> None:
        parallel = {"id": "p", "type": f"{CORE}.flow.Parallel", "tasks": [echo("x", "")]}

        assert home.codes(flow(wd(sh("a", ":"), errors=[parallel]))) == []

    def test_17_a_cache_needs_patterns(self, home: Home) -> None:
        assert home.codes(flow(wd(sh("a", ":"), cache={"ttl": "PT1H"}))) == ["workingDirectory.cache.patterns"]


class TestInputFiles:
    def test_18_text_arrives_byte_for_byte(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "od -c requirements.txt"), inputFiles={"requirements.txt": "a\nb\n"})))

        assert ran.output_lines("a")[0].split() == ["0000000", "a", "\\n", "b", "\\n"]

    def test_19_parents_are_made(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "cat sub/dir/x.txt"), inputFiles={"sub/dir/x.txt": "hi"})))

        assert ran.output_lines("a") == ["hi"]

    def test_20_a_file_input_is_byte_identical(self, home: Home, tmp_path: Path) -> None:
        content = bytes(range(256)) * 40
        (tmp_path / "data.bin").write_bytes(content)

        ran = home.run(
            flow(
                wd(
                    sh("a", "cp data.csv copy.bin", outputFiles=["copy.bin"]), inputFiles={"data.csv": "{{ inputs.f }}"}
                ),
                inputs=[{"id": "f", "type": "FILE"}],
            ),
            files={"f": tmp_path / "data.bin"},
        )

        assert home.read(files_of(ran, "a")["copy.bin"]) == content

    def test_21_a_captured_map_is_made_again(self, home: Home) -> None:
        up = sh("up", "mkdir d; echo 1 > a.txt; echo 2 > d/b.txt", outputFiles=["**"])

        ran = home.run(flow(up, wd(sh("a", "cat a.txt d/b.txt"), inputFiles="{{ outputs.up.outputFiles }}")))

        assert ran.output_lines("a") == ["1", "2"]

    def test_22_json_text_is_as_good_as_a_map(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "cat x.txt"), inputFiles='{"x.txt": "hi"}')))

        assert ran.output_lines("a") == ["hi"]

    def test_23_names_and_contents_are_rendered(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(sh("a", "cat q.sql"), inputFiles={"{{ inputs.n }}.sql": "select {{ inputs.v }}"}),
                inputs=[{"id": "n", "type": "STRING"}, {"id": "v", "type": "INT"}],
            ),
            inputs={"n": "q", "v": "7"},
        )

        assert ran.output_lines("a") == ["select 7"]

    def test_24_raw_is_kept(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "cat x.txt"), inputFiles={"x.txt": "{% raw %}{{ x }}{% endraw %}"})))

        assert ran.output_lines("a") == ["{{ x }}"]

    def test_25_values_of_other_types(self, home: Home) -> None:
        files = {"null": None, "empty": "", "number": 42, "true": True, "map": {"a": 1}}

        ran = home.run(flow(wd(sh("a", ":"), inputFiles=files, outputFiles=["*"])))

        contents = {name: home.read(uri) for name, uri in files_of(ran, "wd").items()}
        assert contents == {"null": b"", "empty": b"", "number": b"42", "true": b"true", "map": b'{"a":1}'}

    def test_26_a_block_scalar_may_hold_a_uri(self, home: Home) -> None:
        up = sh("up", "printf data > a.txt", outputFiles=["a.txt"])
        block = "{{ outputs.up.outputFiles['a.txt'] }}\n"

        ran = home.run(flow(up, wd(sh("a", "cat x.txt"), inputFiles={"x.txt": block})))

        assert ran.output_lines("a") == ["data"]

    @pytest.mark.parametrize("name", ["../evil", "/../../evil", "a/../../evil"])
    def test_27_no_name_leaves_the_directory(self, home: Home, name: str) -> None:
        ran = home.run(flow(wd(sh("a", ":"), inputFiles={name: "x"})))

        assert states(ran) == {"wd": "FAILED"}
        assert name in ran.log_of("wd")
        assert not list(home.tmp.parent.rglob("evil"))

    def test_28_a_missing_object_is_named(self, home: Home) -> None:
        uri = "kestra:///tests/scenario/executions/gone/x.csv"

        ran = home.run(flow(wd(sh("a", ":"), inputFiles={"data.csv": uri}, errors=[echo("e", "seen")])))

        assert states(ran) == {"wd": "FAILED", "e": "SUCCESS"}
        errors = [entry.message for entry in ran.logs if entry.level == "ERROR"]
        assert any("data.csv" in message and uri in message for message in errors)

    def test_29_an_undefined_variable_stops_before_the_children(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), inputFiles={"x": "{{ nope.y }}"})))

        assert states(ran) == {"wd": "FAILED"}
        assert "nope" in ran.log_of("wd")

    def test_30_a_trigger_hands_over_an_object(self, home: Home) -> None:
        uri = home.put("tests/scenario/executions/x/trigger/t/data.csv", b"a,b\n")

        ran = home.run(
            flow(wd(sh("a", "cat data.csv"), inputFiles={"data.csv": "{{ trigger.objects | jq('.[].uri') | first }}"})),
            trigger={"id": "t", "type": "test", "variables": {"objects": [{"uri": uri}]}},
        )

        assert ran.output_lines("a") == ["a,b"]


class TestNamespaceFiles:
    @pytest.fixture(autouse=True)
    def files(self, home: Home) -> None:
        for path, content in {"main.py": "m", "lib/u.py": "u", "ignore/x.txt": "x"}.items():
            home.put_namespace_file("tests", path, content)

    def listed(self, home: Home, **properties: Any) -> list[str]:
        ran = home.run(flow(wd(sh("a", "find . -type f | sort"), namespaceFiles=properties)))
        assert ran.state == "SUCCESS", ran.logs
        return [line.removeprefix("./") for line in ran.output_lines("a") if line]

    def test_31_exclude_takes_away(self, home: Home) -> None:
        assert self.listed(home, enabled=True, exclude=["/ignore/**"]) == ["lib/u.py", "main.py"]

    def test_32_include_chooses(self, home: Home) -> None:
        assert self.listed(home, include=["lib/**"]) == ["lib/u.py"]

    def test_33_star_dot_py_matches_at_any_depth(self, home: Home) -> None:
        assert self.listed(home, include=["*.py"]) == ["lib/u.py", "main.py"]

    def test_34_enabled_false_is_none_and_empty_is_all(self, home: Home) -> None:
        assert self.listed(home, enabled=False) == []
        assert self.listed(home) == ["ignore/x.txt", "lib/u.py", "main.py"]

    def test_35_an_input_file_wins(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "cat main.py"), namespaceFiles={}, inputFiles={"main.py": "mine"})))

        assert ran.output_lines("a") == ["mine"]

    def test_36_two_children_may_both_ask_for_them(self, home: Home) -> None:
        on = {"enabled": True}

        ran = home.run(flow(wd(sh("a", "cat main.py", namespaceFiles=on), sh("b", "cat main.py", namespaceFiles=on))))

        assert ran.state == "SUCCESS"

    @pytest.mark.parametrize(
        ("policy", "state", "content"),
        [("FAIL", "FAILED", None), ("IGNORE", "SUCCESS", "old"), ("WARN", "SUCCESS", "old")],
    )
    def test_37_if_exists(self, home: Home, policy: str, state: str, content: str | None) -> None:
        asks = {"namespaceFiles": {"ifExists": policy, "include": ["main.py"]}}
        ran = home.run(flow(wd(sh("a", "printf old > main.py"), sh("b", "cat main.py", **asks))))

        assert ran.state == state
        if content is not None:
            assert ran.output_lines("b") == [content]
        warned = any(entry.level == "WARN" and "main.py" in entry.message for entry in ran.logs)
        assert warned == (policy == "WARN")

    def test_38_the_last_namespace_wins_every_time(self, home: Home) -> None:
        home.put_namespace_file("first", "x.txt", "first")
        home.put_namespace_file("second", "x.txt", "second")
        child = sh("a", "cat x.txt")

        ran = home.run(
            flow(
                for_each(
                    "loop",
                    list(map(str, range(50))),
                    wd(child, namespaceFiles={"namespaces": ["first", "second"]}),
                    concurrencyLimit=0,
                )
            )
        )

        assert ran.state == "SUCCESS"
        assert {entry.message for entry in ran.logs if entry.task_id == "a" and entry.level == "INFO"} == {"second"}

    def test_39_a_namespace_without_files_is_fine(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "ls -A")), namespace="empty"))
        other = home.run(flow(wd(sh("a", "ls -A"), namespaceFiles={}), namespace="empty"))

        assert (ran.state, other.state) == ("SUCCESS", "SUCCESS")
        assert other.output_lines("a") == []


class TestOutputFiles:
    def test_40_a_glob_stays_in_its_folder(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(sh("a", "mkdir d; echo 1 > a.csv; echo 2 > d/b.csv"), outputFiles=["*.csv"]),
                sh("next", "cat {{ outputs.wd.outputFiles['a.csv'] }}"),
            )
        )

        assert list(files_of(ran, "wd")) == ["a.csv"]
        assert ran.output_lines("next") == ["1"]

    @pytest.mark.parametrize(
        ("glob", "keys"), [("**/*.csv", ["a.csv", "d/b.csv"]), ("**.csv", ["a.csv", "d/b.csv"]), ("d/**", ["d/b.csv"])]
    )
    def test_41_two_stars_cross_folders(self, home: Home, glob: str, keys: list[str]) -> None:
        ran = home.run(flow(wd(sh("a", "mkdir d; echo 1 > a.csv; echo 2 > d/b.csv"), outputFiles=[glob])))

        assert list(files_of(ran, "wd")) == keys

    def test_42_same_names_in_other_folders_stay_apart(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "mkdir 1 2; echo x > 1/o.txt; echo y > 2/o.txt"), outputFiles=["**"])))

        files = files_of(ran, "wd")
        assert {name: home.read(uri) for name, uri in files.items()} == {"1/o.txt": b"x\n", "2/o.txt": b"y\n"}
        assert all(uri.endswith(name) for name, uri in files.items())

    def test_43_any_name_is_captured(self, home: Home) -> None:
        names = ["a b.txt", "x#1.txt", "q?.txt", "p%20.txt", "[z].txt", "é.txt", "a..b.txt"]
        script = f"for name in {names!r}:\n    open(name, 'w').write(name)\n"

        ran = home.run(flow(wd(py("a", script), outputFiles=["**"])))

        files = files_of(ran, "wd")
        assert sorted(files) == sorted(names)
        assert len(set(files.values())) == len(names)
        assert {name: home.read(uri).decode() for name, uri in files.items()} == {name: name for name in names}

    def test_44_nothing_matched_is_an_empty_map(self, home: Home) -> None:
        ran = home.run(
            flow(wd(sh("a", ":"), outputFiles=["*.csv"]), echo("n", "{{ outputs.wd.outputFiles | length }}"))
        )

        assert ran.run_of("wd").outputs["outputFiles"] == {}
        assert ran.run_of("n").outputs["value"] == "0"

    def test_45_a_missing_literal_is_a_warning(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", ":"), outputFiles=["report.json"])))

        assert states(ran)["wd"] == "SUCCESS"
        assert any(entry.level == "WARN" and "report.json" in entry.message for entry in ran.logs)

    def test_46_overlapping_globs_take_a_file_once(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "echo 1 > a.csv"), outputFiles=["*.csv", "a.*", "**"])))

        assert list(files_of(ran, "wd")) == ["a.csv"]

    def test_47_files_of_a_failed_run_are_there_for_its_errors(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(
                    sh("a", "echo 1 > a.csv"),
                    sh("b", "exit 3"),
                    sh("c", ":"),
                    outputFiles=["*.csv"],
                    errors=[echo("e", "{{ outputs.wd.outputFiles['a.csv'] }}")],
                )
            )
        )

        assert states(ran) == {"wd": "FAILED", "a": "SUCCESS", "b": "FAILED", "e": "SUCCESS"}
        assert ran.run_of("e").outputs["value"] == files_of(ran, "wd")["a.csv"]

    def test_48_outputs_are_there_when_the_next_task_starts(self, home: Home) -> None:
        one = wd(sh("a", "echo {{ taskrun.value }} > o.txt"), outputFiles=["o.txt"])
        use = echo("use", "{{ outputs.wd[taskrun.value].outputFiles['o.txt'] }}")

        ran = home.run(flow(for_each("loop", list(map(str, range(200))), one, use, concurrencyLimit=0)))

        assert ran.state == "SUCCESS"
        used = [run.outputs["value"] for run in ran.runs if run.task_id == "use"]
        assert len(set(used)) == 200

    def test_49_capturing_does_not_consume(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(sh("a", "echo 1 > orders.csv"), local_files("f", outputs=["orders.csv"]), sh("b", "cat orders.csv"))
            )
        )

        assert ran.output_lines("b") == ["1"]

    def test_50_local_files_in_and_out(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(
                    local_files("sql", inputs={"query.sql": "SELECT 1"}),
                    sh("script", "cat query.sql > output.json"),
                    local_files("jsonFiles", outputs=["output.json"]),
                ),
                sh("use", "cat {{ outputs.jsonFiles.uris['output.json'] }}"),
            )
        )

        assert ran.output_lines("use") == ["SELECT 1"]

    def test_51_local_files_alone_keep_to_themselves(self, home: Home) -> None:
        ran = home.run(
            flow(local_files("one", inputs={"x.txt": "1"}, outputs=["*.txt"]), local_files("two", outputs=["*.txt"]))
        )

        assert list(ran.run_of("one").outputs["uris"]) == ["x.txt"]  # type: ignore[call-overload]
        assert ran.run_of("two").outputs["uris"] == {}

    def test_52_nested_inputs_captured_by_two_stars(self, home: Home) -> None:
        inputs = {"test/a.txt": "1", "test/b/c.txt": "2", "test/b/d/e.txt": "3"}

        ran = home.run(flow(local_files("f", inputs=inputs, outputs=["test/**"])))

        assert sorted(ran.run_of("f").outputs["uris"]) == sorted(inputs)  # type: ignore[call-overload]

    def test_53_links_inside_are_captured_and_links_outside_are_not(self, home: Home) -> None:
        child = sh("a", "echo 1 > a.csv; ln -s a.csv l.csv; ln -s /etc/hostname out.csv")

        ran = home.run(flow(wd(child, outputFiles=["*.csv"])))

        assert {name: home.read(uri) for name, uri in files_of(ran, "wd").items()} == {"a.csv": b"1\n", "l.csv": b"1\n"}
        assert any(entry.level == "WARN" and "out.csv" in entry.message for entry in ran.logs)

    def test_54_output_dir_is_the_childs_own(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("child", "echo 1 > {{ outputDir }}/m.txt"), outputFiles=["**"])))

        assert list(files_of(ran, "child")) == ["m.txt"]
        assert files_of(ran, "wd") == {}

    def test_55_engine_files_are_never_captured(self, home: Home) -> None:
        ran = home.run(flow(wd(py("a", "print(1)"), outputFiles=["*.py", "**"])))

        assert files_of(ran, "wd") == {}


class TestStates:
    def test_56_a_second_run_that_captures_nothing_has_no_stale_files(self, home: Home, tmp_path: Path) -> None:
        marker = tmp_path / "repaired"
        make = f"test -e {marker} && exit 0; touch first.txt; exit 1"
        use = echo("use", "{{ outputs.wd.outputFiles | length }}")

        first = home.run(flow(wd(sh("a", make), outputFiles=["*.txt"]), use))
        marker.touch()
        again = home.restart(first)

        assert list(files_of(first, "wd")) == ["first.txt"]
        assert states(again) == {"wd": "SUCCESS", "a": "SUCCESS", "use": "SUCCESS"}
        assert files_of(again, "wd") == {}
        assert again.run_of("use").outputs["value"] == "0"

    def test_57_stderr_is_a_warning(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "echo oops >&2", warningOnStdErr=True)), sh("next", ":")))

        assert states(ran) == {"wd": "WARNING", "a": "WARNING", "next": "SUCCESS"}
        assert ran.state == "WARNING"

    def test_58_an_allowed_failure_goes_on_with_its_files(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "echo 1 > f; exit 1", allowFailure=True), sh("b", "cat f"))))

        assert states(ran) == {"wd": "WARNING", "a": "WARNING", "b": "SUCCESS"}
        assert ran.output_lines("b") == ["1"]

    def test_59_a_failure_stops_the_rest_and_climbs(self, home: Home) -> None:
        ran = home.run(
            flow(
                wd(sh("a", "exit 1"), sh("b", ":"), errors=[echo("local", "")]),
                sh("after", ":"),
                errors=[echo("global", "")],
            )
        )

        assert states(ran) == {"wd": "FAILED", "a": "FAILED", "local": "SUCCESS", "global": "SUCCESS"}
        assert ran.run_of("global").history[0].date >= ran.run_of("local").history[-1].date

    def test_60_exactly_three_runs(self, home: Home) -> None:
        e1 = sh("e1", "ls -A | wc -l")

        ran = home.run(
            flow(wd(sh("first", "touch f; exit 1"), sh("second", ":"), sh("third", ":", disabled=True), errors=[e1]))
        )

        assert states(ran) == {"wd": "FAILED", "first": "FAILED", "e1": "SUCCESS"}
        assert ran.output_lines("e1") == ["0"]

    @pytest.mark.parametrize(("flags", "state"), [({}, "WARNING"), ({"allowWarning": True}, "SUCCESS")])
    def test_61_allow_failure_on_the_whole(self, home: Home, flags: dict[str, Any], state: str) -> None:
        ran = home.run(flow(wd(sh("a", "exit 1"), allowFailure=True, **flags), sh("next", ":")))

        assert states(ran) == {"wd": state, "a": "FAILED", "next": "SUCCESS"}

    def test_62_inside_allow_failure(self, home: Home) -> None:
        children = [echo(name, name) for name in "abc"]

        ran = home.run(flow(allow_failure("allow", wd(*children, fail("d"))), echo("use", "{{ outputs.c.value }}")))

        assert states(ran)["allow"] == "WARNING"
        assert states(ran)["wd"] == "FAILED"
        assert ran.run_of("use").outputs["value"] == "c"

    def test_63_a_child_is_tried_again_in_place(self, home: Home, tmp_path: Path) -> None:
        # The files are put back first, so a count is kept elsewhere.
        retry, tries = {"type": "constant", "interval": "PT0.01S", "maxAttempt": 3}, tmp_path / "tries"
        counter = sh("a", f"pwd; ls; echo x >> {tries}; touch spoiled; test $(wc -l < {tries}) -ge 3", retry=retry)

        ran = home.run(flow(wd(sh("first", "touch made"), counter, sh("b", "ls"))))

        assert states(ran) == {"wd": "SUCCESS", "first": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS"}
        assert [attempt.state for attempt in ran.run_of("a").attempts] == ["FAILED", "FAILED", "SUCCESS"]
        [path] = {line for line in ran.output_lines("a") if line.startswith("/")}
        assert [line for line in ran.output_lines("a") if line != path] == ["made"] * 3
        assert ran.output_lines("b") == ["made", "spoiled"]

    def test_64_errors_run_once_after_the_last_attempt(self, home: Home) -> None:
        retry = {"type": "constant", "interval": "PT0.01S", "maxAttempt": 2}

        ran = home.run(flow(wd(sh("a", "exit 1", retry=retry), errors=[echo("e", "")])))

        assert states(ran) == {"wd": "FAILED", "a": "FAILED", "e": "SUCCESS"}
        assert len(ran.run_of("a").attempts) == 2
        assert ran.run_of("e").history[0].date >= ran.run_of("a").history[-1].date

    def test_65_the_whole_is_tried_again(self, home: Home, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        child = sh("a", f"ls; cat in.txt; touch left; test -e {marker} || {{ touch {marker}; exit 1; }}")
        retry = {"type": "constant", "interval": "PT0.01S", "maxAttempt": 2}

        ran = home.run(flow(wd(child, retry=retry, inputFiles={"in.txt": "here\n"})))

        assert states(ran) == {"wd": "SUCCESS", "a": "SUCCESS"}
        assert ran.output_lines("a") == ["in.txt", "here"] * 2

    def test_66_a_childs_timeout(self, home: Home) -> None:
        started = time.monotonic()

        ran = home.run(flow(wd(sh("a", "echo $$", "exec sleep 60", timeout="PT1S"), sh("b", ":"))))

        assert time.monotonic() - started < 5
        assert states(ran) == {"wd": "FAILED", "a": "FAILED"}
        assert "timeout" in ran.log_of("a").lower()
        assert not is_alive(ran.output_lines("a")[0])

    def test_67_a_timeout_of_the_whole(self, home: Home) -> None:
        ran = home.run(
            flow(wd(sh("a", "echo 1 > c"), sh("b", "exec sleep 60"), timeout="PT0.5S", cache={"patterns": ["c"]}))
        )

        assert states(ran)["wd"] == "FAILED"
        assert states(ran)["b"] in {"FAILED", "KILLED"}
        assert home.cache_entries() == []

    def test_68_kill_during_the_first_child(self, home: Home, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        child = sh("a", "touch c", f"sleep 61 & echo $! > {pids}", f"echo $$ >> {pids}", "sleep 61")

        ran = home.run_and_kill(
            flow(wd(child, sh("b", ":"), sh("c", ":"), cache={"patterns": ["c"]})),
            when=lambda: pids.exists() and len(pids.read_text().split()) == 2,
        )

        assert ran.state == "KILLED"
        assert states(ran)["wd"] == "KILLED"
        assert states(ran)["a"] == "KILLED"
        for other in [run for run in ran.runs if run.task_id in {"b", "c"}]:
            assert "RUNNING" not in [change.state for change in other.history]
        assert not [pid for pid in pids.read_text().split() if is_alive(pid)]
        assert home.leftovers() == []
        assert home.cache_entries() == []

    def test_69_background_processes_end_with_their_child(self, home: Home, tmp_path: Path) -> None:
        pid = tmp_path / "pid"
        look = f"grep -q '^State:.Z' /proc/$(cat {pid})/status 2>/dev/null || test ! -e /proc/$(cat {pid})"

        ran = home.run(flow(wd(sh("a", f"sleep 61 >/dev/null 2>&1 & echo $! > {pid}"), sh("b", look))))

        assert states(ran)["b"] == "SUCCESS"
        assert not is_alive(pid.read_text().strip())


class TestCache:
    def test_70_the_documented_python_example_gains_from_its_cache(self, home: Home, tmp_path: Path) -> None:
        wheel = _wheel(tmp_path)
        child = py(
            "install",
            "import sys, tercel_fixture; print('python', sys.executable); print('value', tercel_fixture.VALUE)",
            beforeCommands=[
                "python -m venv venv",
                "source venv/bin/activate",
                'echo "pip $(command -v pip)"',
                f"pip install --no-index --disable-pip-version-check {wheel}",
            ],
            warningOnStdErr=False,
        )
        text = flow(wd(child, sh("where", "pwd"), cache={"patterns": ["venv/**"], "ttl": "PT24H"}))

        first, second = home.run(text), home.run(text)

        assert (first.state, second.state) == ("SUCCESS", "SUCCESS"), second.logs
        assert home.cache_lines(second) == ["restored", "unchanged"]
        directory = second.output_lines("where")[0]
        lines = second.output_lines("install")
        assert f"pip {directory}/venv/bin/pip" in lines
        assert f"python {directory}/venv/bin/python" in lines
        assert "value 42" in lines
        assert any("already" in line for line in lines)

    def test_71_node_modules_with_links_and_modes(self, home: Home) -> None:
        make = (
            "test -d node_modules && exit 0; mkdir -p node_modules/pkg/bin node_modules/.bin;"
            "printf '#!/bin/sh\\necho hi\\n' > node_modules/pkg/bin/cli; chmod 755 node_modules/pkg/bin/cli;"
            "ln -s ../pkg/bin/cli node_modules/.bin/cli"
        )
        text = flow(
            wd(sh("a", "node_modules/.bin/cli || true"), sh("b", make), cache={"patterns": ["node_modules/**"]})
        )

        home.run(text)
        second = home.run(text)

        assert second.output_lines("a") == ["hi"]

    def test_72_the_tree_comes_back_exactly(self, home: Home) -> None:
        text = flow(wd(sh("look", *_LOOK), sh("make", *_MAKE), sh("again", *_LOOK), cache={"patterns": ["tree/**"]}))

        first, second = home.run(text), home.run(text)

        assert second.output_lines("look") == first.output_lines("again")
        assert len(second.output_lines("look")) > 6

    def test_73_three_at_once_get_complete_trees(self, home: Home) -> None:
        text = flow(wd(sh("look", *_LOOK), sh("make", *_MAKE), sh("again", *_LOOK), cache={"patterns": ["tree/**"]}))
        first = home.run(text)

        ran = home.run_many([text] * 3)

        assert [one.output_lines("look") for one in ran] == [first.output_lines("again")] * 3

    def test_74_miss_then_hit(self, home: Home) -> None:
        text = flow(
            wd(
                sh("look", "cat c.txt || true"),
                sh("make", "echo 1 > c.txt"),
                cache={"patterns": ["c.txt"], "ttl": "PT1H"},
            )
        )

        first = home.run(text)
        entries = home.cache_entries()
        second = home.run(text)

        assert home.cache_lines(first) == ["miss", "saved"]
        assert len(entries) == 1
        assert home.cache_lines(second)[0] == "restored"
        assert second.output_lines("look") == ["1"]

    def test_75_expired_entries_are_replaced(self, home: Home) -> None:
        text = flow(wd(sh("look", "ls"), sh("make", "echo 1 > c.txt"), cache={"patterns": ["c.txt"], "ttl": "PT2S"}))
        home.run(text)
        home.pass_time(timedelta(seconds=3))

        second = home.run(text)

        assert home.cache_lines(second) == ["expired", "saved"]
        assert second.output_lines("look") == []

    @pytest.mark.parametrize(
        ("age", "ttl", "outcome"),
        [
            pytest.param(timedelta(hours=2), "PT5H", "restored", id="76-longer"),
            pytest.param(timedelta(minutes=10), "PT5M", "expired", id="77-shorter"),
            pytest.param(timedelta(days=900), None, "restored", id="78-removed"),
            pytest.param(timedelta(seconds=1), "PT0S", "expired", id="78-zero"),
        ],
    )
    def test_76_77_78_the_ttl_of_the_running_revision_counts(
        self, home: Home, age: timedelta, ttl: str | None, outcome: str
    ) -> None:
        child = sh("make", "echo 1 > c.txt")
        home.run(flow(wd(child, cache={"patterns": ["c.txt"], "ttl": "PT1H"})))
        home.pass_time(age)

        edited = {"patterns": ["c.txt"]} if ttl is None else {"patterns": ["c.txt"], "ttl": ttl}
        ran = home.run(flow(wd(child, cache=edited)))

        assert home.cache_lines(ran)[0] == outcome

    @pytest.mark.parametrize(("ttl_from", "outcome"), [("SAVED", "expired"), ("LAST_USED", "restored")])
    def test_79_from_the_save_or_from_the_last_use(self, home: Home, ttl_from: str, outcome: str) -> None:
        cache = {"patterns": ["c.txt"], "ttl": "PT1H", "ttlFrom": ttl_from}
        text = flow(wd(sh("make", "test -e c.txt || echo 1 > c.txt"), cache=cache))
        home.run(text)
        home.pass_time(timedelta(minutes=30))
        home.run(text)
        home.pass_time(timedelta(minutes=35))

        assert home.cache_lines(home.run(text))[0] == outcome

    def test_80_no_change_no_upload(self, home: Home) -> None:
        text = flow(wd(sh("make", "test -e c.txt || echo 1 > c.txt"), cache={"patterns": ["c.txt"]}))
        home.run(text)
        before = home.cache_files()

        home.run(text)

        assert home.cache_files() == before

    def test_81_an_old_mtime_is_a_change(self, home: Home) -> None:
        make = "test -e c.txt && { echo 2 > c.txt; touch -d 1985-01-01 c.txt; } || echo 1 > c.txt"
        text = flow(wd(sh("look", "cat c.txt || true"), sh("make", make), cache={"patterns": ["c.txt"]}))
        home.run(text)

        second = home.run(text)
        third = home.run(text)

        assert home.cache_lines(second) == ["restored", "saved"]
        assert third.output_lines("look") == ["2"]

    def test_82_a_deletion_is_a_change(self, home: Home) -> None:
        make = "test -e b.txt && rm a.txt || { echo 1 > a.txt; echo 2 > b.txt; }"
        text = flow(wd(sh("look", "ls"), sh("make", make), cache={"patterns": ["*.txt"]}))
        home.run(text)
        home.run(text)

        third = home.run(flow(wd(sh("look", "ls"), cache={"patterns": ["*.txt"]})))

        assert third.output_lines("look") == ["b.txt"]

    def test_83_the_same_input_file_is_no_change(self, home: Home) -> None:
        text = flow(wd(sh("a", ":"), inputFiles={"a.txt": "same"}, cache={"patterns": ["*.txt"], "ttl": "PT1H"}))
        home.run(text)
        home.pass_time(timedelta(minutes=40))
        second = home.run(text)
        home.pass_time(timedelta(minutes=40))
        third = home.run(text)

        assert home.cache_lines(second) == ["restored", "unchanged"]
        assert home.cache_lines(third)[0] == "expired"

    def test_84_a_failed_run_is_not_saved_unless_asked(self, home: Home) -> None:
        def text(**more: Any) -> str:
            return flow(wd(sh("a", "mkdir venv; echo 1 > venv/x; exit 1"), cache={"patterns": ["venv/**"], **more}))

        first, second = home.run(text()), home.run(text())
        assert home.cache_lines(first)[0] == home.cache_lines(second)[0] == "miss"
        assert home.cache_entries() == []

        home.run(text(save="ALWAYS"))
        assert len(home.cache_entries()) == 1

    @pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped", "empty"])
    def test_85_a_damaged_entry_is_a_miss_and_replaced(self, home: Home, damage: str) -> None:
        text = flow(
            wd(
                sh("look", "ls"),
                py("make", "import os\nopen('c.bin', 'wb').write(bytes(range(256)) * 64 + b'0123456789' * 999)"),
                cache={"patterns": ["c.bin"]},
            )
        )
        home.run(text)
        home.damage_cache(damage)

        second, third = home.run(text), home.run(text)

        assert second.state == "SUCCESS"
        assert home.cache_lines(second) == ["damaged", "saved"]
        assert any(entry.level == "WARN" for entry in second.logs)
        assert second.output_lines("look") == []
        assert home.cache_lines(third)[0] == "restored"

    def test_86_hostile_names_are_refused(self, home: Home) -> None:
        text = flow(wd(sh("look", "ls -A"), sh("make", "echo 1 > c.txt"), cache={"patterns": ["c.txt"]}))
        home.run(text)
        home.replace_cache_with_tar({"../x": b"evil", "/tmp/tercel-evil": b"evil", "c.txt": b"1\n"})

        second = home.run(text)

        assert second.output_lines("look") == []
        assert home.cache_lines(second)[0] == "damaged"
        assert not Path("/tmp/tercel-evil").exists()
        assert not list(home.root.rglob("x"))

    def test_87_two_patterns_one_file(self, home: Home) -> None:
        text = flow(
            wd(sh("look", "cat c.txt || true"), sh("a", "echo 1 > c.txt"), cache={"patterns": ["c.txt", "*.txt", "**"]})
        )

        home.run(text)

        assert home.run(text).output_lines("look") == ["1"]

    def test_88_captured_and_cached(self, home: Home) -> None:
        text = flow(
            wd(
                sh("look", "cat data/x || true"),
                sh("a", "mkdir -p data; echo 1 > data/x"),
                outputFiles=["data/**"],
                cache={"patterns": ["data/**"]},
            )
        )

        first, second = home.run(text), home.run(text)

        assert list(files_of(first, "wd")) == ["data/x"]
        assert second.output_lines("look") == ["1"]

    @pytest.mark.parametrize("nested", [False, True])
    def test_89_iterations_do_not_share(self, home: Home, nested: bool) -> None:
        child = sh("a", "cat c.txt || true", "echo {{ parent.taskrun.value ?? taskrun.value }} > c.txt")
        one = wd(child, cache={"patterns": ["c.txt"]})
        text = flow(for_each("loop", ["a", "b"], sequential("seq", one) if nested else one))

        home.run(text)
        second = home.run(text)

        assert len(home.cache_entries()) == 2
        assert sorted(second.output_lines("a")) == ["a", "b"]

    def test_90_my_wd_and_my_dash_wd_do_not_share(self, home: Home) -> None:
        one = wd(sh("a", "cat c || true", "echo 1 > c"), id="my_wd", cache={"patterns": ["c"]})
        two = wd(sh("b", "cat c || true", "echo 2 > c"), id="my-wd", cache={"patterns": ["c"]})

        home.run(flow(one, two))
        second = home.run(flow(one, two))

        assert len(home.cache_entries()) == 2
        assert (second.output_lines("a"), second.output_lines("b")) == (["1"], ["2"])

    def test_91_three_gib_in_little_memory(self, home: Home) -> None:
        text = flow(
            wd(
                sh("look", "stat -c %s big || true"),
                sh("make", "test -e big || truncate -s 3G big"),
                cache={"patterns": ["big"]},
            )
        )

        first = home.run_in_process(text, memory_mb=512)
        second = home.run_in_process(text, memory_mb=512)

        assert (first.returncode, second.returncode) == (0, 0), second.stderr
        assert "3221225472" in second.stdout

    def test_92_many_at_once_with_a_short_ttl(self, home: Home) -> None:
        text = flow(wd(sh("a", "mkdir -p d", "date +%N > d/x"), cache={"patterns": ["d/**"], "ttl": "PT1S"}))

        ran = home.run_many([text] * 20)

        assert {one.state for one in ran} == {"SUCCESS"}

    def test_93_a_key_from_a_file(self, home: Home) -> None:
        cache = {"patterns": ["c"], "key": "{{ read('requirements.txt') | sha1 }}"}
        text = flow(
            wd(
                sh("look", "cat c || true"),
                sh("a", "echo made-by $(cat requirements.txt) > c"),
                cache=cache,
                namespaceFiles={},
            )
        )

        home.put_namespace_file("tests", "requirements.txt", "one")
        home.run(text)
        home.put_namespace_file("tests", "requirements.txt", "two")
        second = home.run(text)
        home.put_namespace_file("tests", "requirements.txt", "one")
        third = home.run(text)

        assert home.cache_lines(second)[0] == "miss"
        assert len(home.cache_entries()) == 2
        assert third.output_lines("look") == ["made-by one"]

    def test_94_a_changed_pattern_restores_only_its_own(self, home: Home) -> None:
        make = sh("make", "mkdir -p a b; echo 1 > a/x; echo 2 > b/x")
        home.run(flow(wd(make, cache={"patterns": ["a/**", "b/**"]})))

        second = home.run(flow(wd(sh("look", "ls"), make, cache={"patterns": ["b/**"]})))

        assert second.output_lines("look") == ["b"]

    def test_96_an_unreadable_file_is_left_out(self, home: Home) -> None:
        make = "test -e good && exit 0; echo 1 > good; echo 2 > bad; chmod 000 bad"
        text = flow(wd(sh("look", "ls"), sh("make", make), cache={"patterns": ["*"]}))
        # Root may read every file, unless it goes without the right to.
        rights = "-dac_override,-dac_read_search"
        is_root = os.geteuid() == 0
        prefix = [need("setpriv", "util-linux"), f"--bounding-set={rights}", f"--inh-caps={rights}"] if is_root else []

        first = home.run_in_process(text, prefix=prefix)
        second = home.run_in_process(text, prefix=prefix)

        assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr
        assert "Cache saved" in first.stdout
        assert "good" in re.findall(r"look: (.*)", second.stdout)
        # What cannot be read cannot be stored: other machines do without it.
        [entry] = home.caches.search()
        assert entry.entry is not None
        warnings = [log.message for log in home.ran(entry.entry.execution_id).logs if log.level == "WARN"]
        # In a user namespace of its own a process may read whatever is its user's.
        reads_all = os.environ.get("TERCEL_LAYERS") == "userns"
        lacks = "The cache in internal storage lacks 1 file that cannot be read: 'bad'."
        assert warnings == ([] if reads_all else [lacks])
        home.forget_layers()
        elsewhere = home.run_in_process(text, prefix=prefix)
        assert elsewhere.returncode == 0, elsewhere.stdout + elsewhere.stderr
        assert re.findall(r"look: (.*)", elsewhere.stdout) == (["bad", "good"] if reads_all else ["good"])


class TestGitAndContext:
    def test_97_clone_beside_an_input_file(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(_clone(repository), sh("a", "ls"), inputFiles={"data.csv": "1"})))

        assert ran.output_lines("a") == ["data.csv", "hello.sh", "scripts"]

    def test_98_a_cached_clone_is_brought_up_to_date(self, home: Home, repository: Path) -> None:
        text = flow(wd(_clone(repository), sh("a", "git log -1 --format=%s"), cache={"patterns": [".git/**"]}))
        home.run(text)
        _commit(repository, "new.txt", "second")

        second = home.run(text)

        assert second.output_lines("a") == ["second"]
        assert "only what is new" in second.log_of("clone")

    def test_99_untracked_files_stay(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(sh("before", "echo 1 > x"), _clone(repository), sh("a", "cat x; ls hello.sh"))))

        assert ran.output_lines("a") == ["1", "hello.sh"]

    def test_100_scripts_of_a_clone_are_executable(self, home: Home, repository: Path) -> None:
        ran = home.run(flow(wd(_clone(repository), sh("a", "./hello.sh"))))

        assert ran.output_lines("a") == ["hello from the repository"]

    def test_103_a_killed_worker_runs_it_again_once(self, home: Home, tmp_path: Path) -> None:
        marker = tmp_path / "second-child-started"
        again = f"test -e {marker} || {{ touch {marker}; exec sleep 120; }}"
        text = flow(wd(sh("a", "pwd"), sh("b", again), sh("c", ":")))

        home.run_and_crash(text, when=marker.exists)
        ran = home.recover()

        assert ran.state == "SUCCESS"
        assert states(ran) == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
        assert len(ran.runs) == 4
        assert home.leftovers() == []

    @pytest.mark.parametrize("from_scratch", [False, True])
    def test_104_a_restart_goes_on_at_the_child_that_failed_or_runs_all_again(
        self, home: Home, tmp_path: Path, from_scratch: bool
    ) -> None:
        marker = tmp_path / "repaired"
        first_child = sh("a", "date +%N > made", """echo '::{"outputs":{"made":"'$(cat made)'"}}::'""")
        second = sh("b", f"cat made; ls; touch half; test -e {marker}")
        text = flow(wd(first_child, second, inputFiles={"in.txt": "1"}), echo("use", "{{ outputs.a.vars.made }}"))

        failed = home.run(text)
        marker.touch()
        again = home.restart(failed, from_scratch=from_scratch)

        assert states(failed) == {"wd": "FAILED", "a": "SUCCESS", "b": "FAILED"}
        assert states(again) == {"wd": "SUCCESS", "a": "SUCCESS", "b": "SUCCESS", "use": "SUCCESS"}
        assert again.run_of("wd").id == failed.run_of("wd").id
        assert again.output_lines("b").count("in.txt") == 2
        assert "half" not in again.output_lines("b")
        assert again.run_of("use").outputs["value"] == again.output_lines("b")[-3]
        assert (vars_of(again, "a") == vars_of(failed, "a")) is not from_scratch

    def test_105_a_replay_from_a_child_is_a_new_execution_that_runs_the_whole_again(self, home: Home) -> None:
        first = sh("a", "date +%N > made", """echo '::{"outputs":{"made":"'$(cat made)'"}}::'""")
        text = flow(
            echo("before", "{{ execution.id }}"),
            wd(first, sh("b", "cat made", "ls")),
            echo("use", "{{ outputs.before.value }}"),
        )

        old = home.run(text)
        new = home.replay(old, old.run_of("b").id)

        assert new.execution.id != old.execution.id
        assert new.execution.parent_id == old.execution.id
        assert states(new) == states(old) == dict.fromkeys(["before", "wd", "a", "b", "use"], "SUCCESS")
        assert new.run_of("use").outputs["value"] == old.execution.id
        assert vars_of(new, "a") != vars_of(old, "a")
        assert new.output_lines("b")[0] == vars_of(new, "a")["made"]

    def test_106_loop_values_are_seen_by_children(self, home: Home) -> None:
        direct = home.run(flow(for_each("loop", [1], wd(echo("r", "{{ taskrun.value }}")))))
        nested = home.run(
            flow(
                for_each(
                    "loop", [1], sequential("s", wd(echo("r", "{{ parent.taskrun.value }} {{ workerTaskrun.id }}")))
                )
            )
        )

        assert direct.run_of("r").outputs["value"] == "1"
        assert nested.run_of("r").outputs["value"] == f"1 {nested.run_of('wd').id}"

    def test_107_three_loops_deep(self, home: Home) -> None:
        one = wd(local_files("first", inputs={"out/stay.txt": "hi"}), local_files("second", outputs=["out/**"]))
        loops = for_each("l1", ["s1"], for_each("l2", ["s2"], for_each("l3", ["s3"], one)))

        ran = home.run(flow(loops, sh("use", "cat {{ outputs.second.s1.s2.s3.uris['out/stay.txt'] }}")))

        assert ran.output_lines("use") == ["hi"]

    def test_108_an_encrypted_output_is_used_and_never_seen(self, home: Home) -> None:
        word = "$(printf b3Blbi1zZXNhbWU= | base64 -d)"
        say = f"""printf '::{{"encryptedOutputs":{{"token":"%s"}}}}::\\n' "{word}\""""
        check = "test \"$(printf %s '{{ outputs.child.vars.token }}' | base64)\" = b3Blbi1zZXNhbWU="

        ran = home.run(flow(wd(sh("child", say), sh("use", check, "echo it is {{ outputs.child.vars.token }}"))))

        assert ran.state == "SUCCESS", ran.logs
        assert ran.output_lines("use") == ["it is **masked***"]
        assert vars_of(ran, "child") == {"token": "**masked***"}
        home.close()
        kept = [path for path in home.root.rglob("*") if path.is_file() and b"open-sesame" in path.read_bytes()]
        assert kept == []

    def test_109_outputs_and_metrics_of_a_child(self, home: Home) -> None:
        line = '::{"outputs":{"a":1},"metrics":[{"name":"n","type":"counter","value":2}]}::'

        ran = home.run(flow(wd(sh("child", f"echo '{line}'"), echo("use", "{{ outputs.child.vars.a }}"))))

        assert vars_of(ran, "child") == {"a": 1}
        assert ran.run_of("use").outputs["value"] == "1"
        metric = next(metric for metric in ran.metrics if metric.name == "n")
        assert (metric.task_run_id, metric.type, metric.value) == (ran.run_of("child").id, "counter", 2)

    def test_111_the_janitor_removes_only_the_dead(self, home: Home) -> None:
        dead = home.make_leftover(pid_alive=False)
        live = home.make_leftover(pid_alive=True)

        home.run(flow(sh("a", ":")))

        assert (dead.exists(), live.exists()) == (False, True)

    @pytest.mark.usefixtures("docker_engine")
    def test_101_what_a_container_deletes_links_and_makes_executable_is_so_for_the_next_child(self, home: Home) -> None:
        ensure_image("busybox")
        contained = {"runner": None, "containerImage": "busybox"}

        ran = home.run(
            flow(
                wd(
                    sh("a", "echo 1 > f; echo 2 > g"),
                    sh("b", "rm f; ln -s g l; printf '#!/bin/sh\\necho hi\\n' > s.sh; chmod 755 s.sh", **contained),
                    sh("c", "ls; cat l; ./s.sh; stat -c %a s.sh"),
                    sh("d", "ls; cat l; ./s.sh; stat -c %a s.sh", **contained),
                )
            )
        )

        expected = ["g", "l", "s.sh", "2", "hi", "755"]
        assert (ran.output_lines("c"), ran.output_lines("d")) == (expected, expected)

    def test_112_the_directory_is_private(self, home: Home) -> None:
        ran = home.run(flow(wd(sh("a", "stat -c %a ."))))

        assert ran.output_lines("a") == [f"{stat.S_IRWXU:o}"]


def test_every_scenario_is_tested_or_explained() -> None:
    text = Path(__file__).read_text()
    names = re.findall(r"def test_((?:\d+_)+)", text)
    tested = {int(number) for name in names for number in name.strip("_").split("_")}

    assert sorted(tested | LATER.keys()) == list(range(1, 113))
    assert not tested & LATER.keys()


_MAKE = (
    "test -d tree && exit 0",
    "mkdir -p tree/empty tree/dir",
    "echo x > tree/exec; chmod 755 tree/exec; echo s > tree/secret; chmod 600 tree/secret",
    "ln -s exec tree/link; ln -s dir tree/dirlink; echo y > tree/dir/f; ln tree/dir/f tree/dir/hard",
    "chmod 700 tree/empty; touch -d '2001-02-03 04:05:06.123456789' tree/exec tree/dir/f tree/empty",
)
_LOOK = (
    "test -d tree || exit 0",
    "cd tree; find . -mindepth 1 -printf '%p %y %m %l %n '"
    " -a \\( -type d -printf '\\n' -o -printf '%s %T@\\n' \\) | sort",
    "find . -name f -o -name hard | sort | xargs stat -c %i | uniq | wc -l",
)


def _clone(repository: Path) -> dict[str, Any]:
    return {"id": "clone", "type": "io.kestra.plugin.git.Clone", "url": str(repository), "branch": "main"}


def _commit(repository: Path, name: str, message: str) -> None:
    (repository / name).write_text(message)
    git(repository, "add", name)
    git(repository, "commit", "-qm", message)


def _wheel(folder: Path) -> Path:
    """A wheel of one module, made by hand, so that nothing is fetched."""
    import zipfile

    path = folder / "tercel_fixture-1.0-py3-none-any.whl"
    info = "tercel_fixture-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tercel_fixture.py", "VALUE = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tercel-fixture\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(
            f"{info}/RECORD", "tercel_fixture.py,,\n" + f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return path
