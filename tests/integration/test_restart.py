"""`tercel execution restart`: an execution that failed or was killed goes on, in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import command, environment, tercel
from tests.flows import allow_failure, echo, flow, sequential, sh, wd
from tests.homes import until


class Bench:
    """A home, a file where tasks write that they ran, and a mark that mends what fails without it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.seen = folder / "seen"
        self.mark = folder / "mark"
        self._file = folder / "flow.yaml"

    def task(self, task_id: str, *commands: str, **properties: Any) -> dict[str, Any]:
        return sh(task_id, f"echo {task_id} >> {self.seen}", *commands, **properties)

    def marked(self, task_id: str, **properties: Any) -> dict[str, Any]:
        return self.task(task_id, f"test -e {self.mark}", **properties)

    def file(self, *tasks: dict[str, Any], **properties: Any) -> Path:
        self._file.write_text(flow(*tasks, **properties))
        return self._file

    def run(self, *tasks: dict[str, Any], **properties: Any) -> str:
        """The id of an execution at its end."""
        return json.loads(tercel("run", self.file(*tasks, **properties), "--json", home=self.home).stdout)["id"]

    def restart(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return tercel("execution", "restart", *arguments, home=self.home)

    def show(self) -> dict[str, Any]:
        return json.loads(tercel("execution", "show", "last", "--json", home=self.home).stdout)

    def runs(self) -> list[str]:
        return self.seen.read_text().split()

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command("execution", "restart", *arguments),
            env=environment(self.home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_given_a_failed_third_task_then_it_goes_on_there(bench: Bench) -> None:
    failed = bench.run(
        bench.task("one", """echo '::{"outputs":{"n":1}}::'"""),
        bench.task("two"),
        sequential("around", echo("inner", "x"), bench.marked("three")),
        echo("four", "{{ outputs.one.vars.n }}"),
        errors=[bench.task("failed")],
        **{"finally": [bench.task("last")]},
    )
    again = bench.restart(failed)
    bench.mark.touch()

    done = bench.restart("last")

    assert again.returncode == 1
    assert "  three: Command failed with exit code 1" in again.stdout
    assert done.returncode == 0, done.stderr
    assert bench.runs() == ["one", "two", "three", "failed", "last", "three", "failed", "last", "three", "last"]
    lines = [re.sub(r"^\d\d:\d\d:\d\d | in .*", "", line) for line in done.stdout.splitlines()]
    assert "INFO  flow: Restarted: attempt 3, with revision 1 of the flow." in lines
    told = [line for line in lines if line.startswith(("▸", "✓", "✘"))]
    assert told[:4] == ["▸ around RUNNING", "▸ three RUNNING", "✓ three SUCCESS", "✓ around SUCCESS"]
    assert "  four.value   1" in done.stdout
    took = re.search(rf"^SUCCESS in (.*) s, execution {failed}$", done.stdout, re.MULTILINE)
    assert took
    assert float(took[1]) < 10
    shown = bench.show()
    runs = {run["taskId"]: run for run in shown["taskRunList"]}
    assert set(runs) == {"one", "two", "around", "inner", "three", "four", "last"}
    assert len(runs["three"]["attempts"]) == 3
    states = [change["state"] for change in shown["state"]["histories"]]
    assert states == [
        "CREATED",
        "RUNNING",
        "FAILED",
        "RESTARTED",
        "RUNNING",
        "FAILED",
        "RESTARTED",
        "RUNNING",
        "SUCCESS",
    ]


def test_given_a_mended_flow_then_it_goes_on_with_it(bench: Bench) -> None:
    failed = bench.run(bench.task("one"), bench.task("two", "exit 3"))

    done = bench.restart(failed, "--flow", bench.file(bench.task("one"), bench.task("new"), bench.task("two")))

    assert done.returncode == 0, done.stderr
    assert bench.runs() == ["one", "two", "new", "two"]
    assert bench.show()["flowRevision"] == 2


def test_given_an_older_revision_then_it_goes_on_with_that(bench: Bench) -> None:
    bench.run(bench.task("one"), bench.task("two"))
    failed = bench.run(bench.task("one"), bench.task("two", "exit 3"))

    done = bench.restart(failed, "--revision", 1)
    gone = bench.restart(failed, "--revision", 9)

    assert done.returncode == 0, done.stderr
    assert bench.show()["flowRevision"] == 1
    assert gone.returncode == 1


def test_given_a_flow_that_does_not_fit_then_it_is_said_and_nothing_runs(bench: Bench) -> None:
    failed = bench.run(bench.task("one"), bench.task("two", "exit 3"))

    moved = bench.restart(failed, "--flow", bench.file(sequential("s", bench.task("one")), bench.task("three")))
    other = bench.restart(failed, "--flow", bench.file(bench.task("one"), id="other"))
    faulty = bench.restart(failed, "--flow", bench.file({"id": "one", "type": "nope"}))
    both = bench.restart(failed, "--flow", bench.file(bench.task("one")), "--revision", 1)

    assert moved.returncode == 1
    assert moved.stderr == (
        f"Error: The execution {failed} cannot go on with revision 2 of tests.scenario: there the task 'one' stands "
        "inside 's', and the task 'two' is gone.\n"
        "Tasks that have run have to stay where they were, under their ids; all else may change.\n"
    )
    assert other.returncode == 1
    assert other.stderr == (
        f"Error: The execution {failed} is one of tests.scenario, and the file holds tests.other.\n"
        "Give a file with the same `namespace` and `id`.\n"
    )
    assert (faulty.returncode, both.returncode) == (2, 2)
    assert bench.runs() == ["one", "two"]
    assert bench.show()["state"]["current"] == "FAILED"


def test_given_nothing_that_failed_then_it_is_refused(bench: Bench) -> None:
    done = bench.run(bench.task("one"))

    refused = bench.restart(done)
    gone = bench.restart("nope")

    assert refused.returncode == 1
    assert refused.stderr == (
        f"Error: The execution {done} cannot be restarted: it ended in SUCCESS, and none of its tasks failed.\n"
        "`tercel run` runs the flow anew.\n"
    )
    assert gone.returncode == 1
    assert gone.stderr.startswith("Error: There is no execution nope.")


def test_given_a_warning_then_what_was_absorbed_runs_again(bench: Bench) -> None:
    bench.run(allow_failure("a", bench.marked("one")), bench.task("two"), allow_failure("b", bench.marked("three")))
    bench.mark.touch()

    done = bench.restart("last")

    assert done.returncode == 0, done.stderr
    assert bench.runs() == ["one", "two", "three", "one", "three"]
    assert bench.show()["state"]["current"] == "SUCCESS"


def test_given_retries_then_a_restart_gives_them_again(bench: Bench) -> None:
    retry = {"type": "constant", "interval": "PT0.05S", "maxAttempts": 2}
    bench.run(bench.marked("one", retry=retry))

    done = bench.restart("last")

    assert done.returncode == 1
    assert bench.runs() == ["one"] * 4


def test_given_a_failed_working_directory_then_its_run_goes_on_under_its_id(bench: Bench) -> None:
    bench.run(wd(bench.task("one"), bench.marked("two")), bench.task("after"))
    before = {run["taskId"]: run["id"] for run in bench.show()["taskRunList"]}
    bench.mark.touch()

    done = bench.restart("last", "--from-scratch")

    assert done.returncode == 0, done.stderr
    assert bench.runs() == ["one", "two", "one", "two", "after"]
    runs = {run["taskId"]: run for run in bench.show()["taskRunList"]}
    assert {task_id: runs[task_id]["id"] for task_id in before} == before
    assert {task_id: run["state"]["current"] for task_id, run in runs.items()} == dict.fromkeys(
        ["wd", "one", "two", "after"], "SUCCESS"
    )


class TestInterruptedRestarts:
    def failed(self, bench: Bench) -> str:
        """The id of a failed execution; restarted, its second task waits until there is a mark."""
        wait = f"test $(grep -c two {bench.seen}) -gt 1 || exit 1; while test ! -e {bench.mark}; do sleep 0.02; done"
        return bench.run(bench.task("one"), bench.task("two", wait), bench.task("three"))

    def is_under_way(self, bench: Bench) -> bool:
        return bench.runs().count("two") == 2

    def test_given_ctrl_c_then_it_is_killed_and_can_be_restarted_again(self, bench: Bench) -> None:
        failed = self.failed(bench)
        process = bench.start(failed)
        until(lambda: self.is_under_way(bench))
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
        bench.mark.touch()

        done = bench.restart(failed)

        assert process.returncode == 1
        assert re.search(rf"^KILLED in .*, execution {failed}$", output, re.MULTILINE)
        assert done.returncode == 0, done.stderr
        assert bench.runs() == ["one", "two", "two", "two", "three"]

    def test_given_its_process_dies_then_it_is_recovered(self, bench: Bench) -> None:
        failed = self.failed(bench)
        process = bench.start(failed)
        until(lambda: self.is_under_way(bench))
        process.kill()
        process.communicate()
        refused = bench.restart(failed)
        bench.mark.touch()

        done = tercel("execution", "recover", home=bench.home)

        assert refused.returncode == 1
        assert f"`tercel execution recover {failed}` goes on" in refused.stderr
        assert done.returncode == 0, done.stderr
        assert re.search(rf"^SUCCESS in .*, execution {failed}$", done.stdout, re.MULTILINE)
        assert bench.runs() == ["one", "two", "two", "two", "three"]

    def test_given_two_at_once_then_one_of_them_goes_on(self, bench: Bench) -> None:
        failed = self.failed(bench)

        processes = [bench.start(failed) for _ in range(2)]
        until(lambda: self.is_under_way(bench))
        until(lambda: any(process.poll() is not None for process in processes))
        bench.mark.touch()
        ends = {process.wait(20): process.communicate() for process in processes}

        assert set(ends) == {0, 1}
        assert re.match(
            rf"Error: (Somebody else has restarted the execution {failed} meanwhile"
            rf"|The execution {failed} cannot be restarted: it has not ended, it is RUNNING)\.\n",
            ends[1][1],
        )
        assert bench.runs() == ["one", "two", "two", "three"]
