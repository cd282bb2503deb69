"""What people do with executions from the command line: each verb in a process of its own, and what it refuses."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any

import pytest

from tests.command_line import command, environment, tercel
from tests.flows import CORE, Node, echo, fail, flow, for_each, sh
from tests.homes import until


def pause(id: str = "wait", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Pause", **properties}


def subflow(id: str, flow_id: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Subflow", "namespace": "tests", "flowId": flow_id, **properties}


def parallel(id: str, *tasks: Node) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Parallel", "tasks": list(tasks)}


ASKING = pause(
    onResume=[
        {"id": "why", "type": "STRING"},
        {"id": "ok", "type": "BOOLEAN", "defaults": True},
        {"id": "n", "type": "INT", "required": False},
    ]
)
ANSWER = echo("after", "{{ outputs.wait.onResume.why }}, {{ outputs.wait.onResume.ok }}")


class Bench:
    """A home and a flow file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.seen = folder / "seen"
        self.mark = folder / "mark"

    def file(self, *tasks: Node, **properties: Any) -> Path:
        path = self.folder / "flow.yaml"
        path.write_text(flow(*tasks, **properties))
        return path

    def run(self, *tasks: Node, **properties: Any) -> subprocess.CompletedProcess[str]:
        return tercel("run", self.file(*tasks, **properties), home=self.home)

    def ran(self, *tasks: Node, **properties: Any) -> str:
        """The id of an execution that `tercel run` has let go of."""
        self.run(*tasks, **properties)
        return self.newest()

    def save(self, *tasks: Node, **properties: Any) -> None:
        done = tercel("flow", "save", self.file(*tasks, **properties), home=self.home)
        assert done.returncode == 0, done.stderr

    def verb(self, verb: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return tercel("execution", verb, *arguments, home=self.home)

    def start(self, *tasks: Node, **properties: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command("run", self.file(*tasks, **properties)),
            env=environment(self.home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupted(self, *tasks: Node, state: str, **properties: Any) -> str:
        """The id of an execution whose process was killed when it was in *state*."""
        process = self.start(*tasks, **properties)
        until(lambda: self.states()[:1] == [state])
        process.kill()
        process.communicate()
        return self.newest()

    def list(self) -> list[dict[str, Any]]:
        return json.loads(self.verb("list", "--json").stdout or "[]")

    def states(self) -> list[str]:
        return [one["state"]["current"] for one in self.list()]

    def newest(self) -> str:
        return self.list()[0]["id"]

    def show(self, execution_id: str = "last") -> dict[str, Any]:
        return json.loads(self.verb("show", execution_id, "--json").stdout)

    def runs(self, execution_id: str = "last") -> dict[str, str]:
        return {run["taskId"]: run["state"]["current"] for run in self.show(execution_id)["taskRunList"]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, *arguments: object, home: Path) -> None:
        self._fd, terminal = pty.openpty()
        self._process = subprocess.Popen(
            command(*arguments),
            env=environment(home, {"TERM": "xterm", "NO_COLOR": "1"}),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self.text = ""
        self._at = 0

    def read_until(self, words: str) -> None:
        """Read on until *words* have come, after those that were read for last."""
        deadline = time.monotonic() + 60
        while words not in self.text[self._at :]:
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        self._at = self.text.index(words, self._at) + len(words)

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """The exit code, once all is read."""
        with suppress(OSError):
            while self._read():
                pass
        return self._process.wait(60)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        if not select([self._fd], [], [], 60)[0]:
            return False
        found = os.read(self._fd, 4096).decode(errors="replace")
        self.text += re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", found).replace("\r\n", "\n")
        return bool(found)


@contextmanager
def at_terminal(*arguments: object, home: Path) -> Iterator[Terminal]:
    terminal = Terminal(*arguments, home=home)
    try:
        yield terminal
    finally:
        terminal.close()


class TestPausedRun:
    def test_given_no_terminal_then_it_is_left_paused_and_resumed_by_another_process(self, bench: Bench) -> None:
        left = bench.run(echo("before", "x"), ASKING, ANSWER)
        paused = bench.newest()
        listed = bench.verb("list").stdout
        shown = bench.verb("show", paused).stdout
        hello = tercel("run", bench.file(echo("a", "x"), id="hello"), home=bench.home)
        nothing = bench.verb("recover")

        done = bench.verb("resume", paused, "--input", "why=because")

        assert left.returncode == 3
        assert re.search(rf"^PAUSED after .* s, execution {paused}$", left.stdout, re.MULTILINE)
        assert left.stderr == f"It is left paused; `tercel execution resume {paused}` goes on with it.\n"
        assert re.search(r"^\d\d:\d\d:\d\d ‖ wait PAUSED$", left.stdout, re.MULTILINE)
        assert listed.rstrip().endswith("tests.scenario  to be resumed")
        assert f"It waits for a person: `tercel execution resume {paused}` goes on with it, " in shown
        assert (hello.returncode, hello.stderr) == (0, "")
        assert nothing.stdout == "No execution was interrupted.\n"
        assert done.returncode == 0, done.stderr
        assert "  after.value    because, true" in done.stdout
        assert re.search(rf"^SUCCESS in .*, execution {paused}$", done.stdout, re.MULTILINE)
        assert "before RUNNING" not in done.stdout
        states = [change["state"] for change in bench.show(paused)["state"]["histories"]]
        assert states == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "SUCCESS"]

    def test_given_json_then_the_paused_execution_is_printed(self, bench: Bench) -> None:
        done = tercel("run", bench.file(ASKING), "--json", home=bench.home)

        assert done.returncode == 3
        assert json.loads(done.stdout)["state"]["current"] == "PAUSED"
        assert "`tercel execution resume " in done.stderr

    def test_given_a_pause_with_a_time_then_it_is_waited_for(self, bench: Bench) -> None:
        done = bench.run(pause(pauseDuration="PT0.2S"), echo("after", "x"))

        assert done.returncode == 0, done.stdout
        assert "✓ after SUCCESS" in done.stdout

    def test_given_another_branch_at_work_then_it_ends_first(self, bench: Bench) -> None:
        done = bench.run(parallel("both", pause(), sh("work", "sleep 0.3", "echo worked")))

        assert done.returncode == 3
        assert "work: worked" in done.stdout
        assert bench.runs() == {"both": "RUNNING", "wait": "PAUSED", "work": "SUCCESS"}

    def test_given_a_subflow_that_pauses_then_resuming_it_goes_on_with_both(self, bench: Bench) -> None:
        bench.save(pause(), id="child")
        left = bench.run(subflow("call", "child"), echo("after", "x"))
        [child, parent] = [one["id"] for one in bench.list()]

        done = bench.verb("resume", child)

        assert left.returncode == 3
        assert left.stderr == (
            f"The execution {child} of tests.child is left paused; `tercel execution resume {child}` goes on with it.\n"
        )
        assert done.returncode == 0, done.stderr
        assert re.search(rf"^SUCCESS in .*, execution {child}$", done.stdout, re.MULTILINE)
        assert bench.states() == ["SUCCESS", "SUCCESS"]
        assert bench.runs(parent) == {"call": "SUCCESS", "after": "SUCCESS"}

    def test_given_a_terminal_then_inputs_are_asked_for(self, bench: Bench) -> None:
        with at_terminal("run", bench.file(ASKING, ANSWER), home=bench.home) as terminal:
            terminal.read_until("tests.scenario is paused at 'wait': give what it asks for to resume it, ")
            terminal.read_until("why (STRING): ")
            terminal.write("\n")
            terminal.read_until("ok (true or false, Enter takes true): ")
            terminal.write("\n")
            terminal.read_until("n (INT, may be empty): ")
            terminal.write("\n")
            terminal.read_until("Input 'why': a value is missing.")
            terminal.read_until("why (STRING): ")
            terminal.write("because\n")
            terminal.read_until("ok (true or false, Enter takes true): ")
            terminal.write("false\n")
            terminal.read_until("n (INT, may be empty): ")
            terminal.write("\n")
            code = terminal.end()

        assert code == 0, terminal.text
        assert "because, false" in terminal.text

    def test_given_a_terminal_and_no_inputs_then_enter_resumes_it(self, bench: Bench) -> None:
        with at_terminal("run", bench.file(pause(), echo("after", "x")), home=bench.home) as terminal:
            terminal.read_until("is paused at 'wait': press Enter to resume it, Ctrl-C to leave it paused.")
            terminal.write("\n")
            code = terminal.end()

        assert code == 0, terminal.text
        assert bench.runs() == {"wait": "SUCCESS", "after": "SUCCESS"}

    def test_given_ctrl_c_at_the_question_then_it_is_left_paused_and_asked_again_by_resume(self, bench: Bench) -> None:
        with at_terminal("run", bench.file(ASKING, ANSWER), home=bench.home) as terminal:
            terminal.read_until("why (STRING): ")
            terminal.interrupt()
            code = terminal.end()
        left = bench.states()

        with at_terminal("execution", "resume", "last", home=bench.home) as again:
            again.read_until("why (STRING): ")
            again.write("because\n")
            again.read_until("Enter takes true): ")
            again.write("\n")
            again.read_until("n (INT, may be empty): ")
            again.write("\n")
            resumed = again.end()

        assert code == 3, terminal.text
        assert "It is left paused; `tercel execution resume " in terminal.text
        assert "Killing" not in terminal.text
        assert left == ["PAUSED"]
        assert resumed == 0, again.text
        assert "because, true" in again.text


class TestResume:
    def test_given_it_does_not_fit_then_it_is_said_and_nothing_changes(self, bench: Bench) -> None:
        paused = bench.ran(ASKING, ANSWER)

        empty = bench.verb("resume", paused)
        wrong = bench.verb("resume", paused, "--input", "why=x", "--input", "n=many")
        unknown = bench.verb("resume", paused, "--input", "why=x", "--input", "wy=x")
        nowhere = bench.verb("resume", paused, "--task-run", "other")

        assert [done.returncode for done in (empty, wrong, unknown, nowhere)] == [2, 2, 2, 1]
        assert empty.stderr == ("Error: Input 'why': a value is missing.\nGive what it asks for by --input ID=VALUE.\n")
        assert "Input 'n': " in wrong.stderr
        assert unknown.stderr == "Error: Nothing asks for 'wy'.\nWhat is asked for: why, ok, n.\n"
        assert nowhere.stderr == (f"Error: The execution {paused} has no task run 'other'.\nIts tasks are: wait.\n")
        assert bench.states() == ["PAUSED"]

    def test_given_one_that_ended_then_it_is_refused(self, bench: Bench) -> None:
        ended = bench.ran(echo("a", "x"))

        done = bench.verb("resume", ended)

        assert done.returncode == 1
        assert done.stderr == (
            f"Error: The execution {ended} cannot be resumed: it is SUCCESS.\n"
            "Only one in PAUSED can be, and only by the process that it belongs to.\n"
        )

    def test_given_several_pauses_then_the_one_named_is_resumed(self, bench: Bench) -> None:
        paused = bench.ran(parallel("both", pause("one"), pause("two")))

        first = bench.verb("resume", paused, "--task-run", "two")
        between = bench.runs()
        again = bench.verb("resume", paused, "--task-run", "two")
        last = bench.verb("resume", paused)

        assert first.returncode == 3
        assert between == {"both": "RUNNING", "one": "PAUSED", "two": "SUCCESS"}
        assert again.returncode == 1
        assert again.stderr.startswith(
            f"Error: The task run 'two' of the execution {paused} is not paused: it is SUCCESS.\nThose that are: one ("
        )
        assert last.returncode == 0, last.stderr

    def test_given_its_process_lives_then_it_is_refused_and_said_where(self, bench: Bench) -> None:
        with at_terminal("run", bench.file(pause()), home=bench.home) as terminal:
            terminal.read_until("press Enter to resume it")
            paused = bench.newest()
            done = bench.verb("resume", paused)
            terminal.write("\n")
            code = terminal.end()

        assert done.returncode == 1
        assert re.fullmatch(
            rf"Error: The execution {paused} runs in `tercel run` \(process \d+, since .* UTC\)\.\n"
            "Only that process can resume it: press Enter there, or leave it paused there by Ctrl-C and resume it here."
            "\n",
            done.stderr,
        )
        assert code == 0

    def test_given_a_file_is_asked_for_then_its_path_is_enough(self, bench: Bench) -> None:
        paused = bench.ran(
            pause(onResume=[{"id": "data", "type": "FILE"}]), echo("after", "{{ read(outputs.wait.onResume.data) }}")
        )
        (bench.folder / "data.csv").write_text("a,b")

        missing = bench.verb("resume", paused, "--input", "data=/no/where")
        done = bench.verb("resume", paused, "--input", f"data={bench.folder / 'data.csv'}")

        assert missing.returncode == 2
        assert missing.stderr.startswith("Error: Input 'data': /no/where is no file.\n")
        assert done.returncode == 0, done.stderr
        assert re.search(r"^  after\.value +a,b$", done.stdout, re.MULTILINE)


class TestRestart:
    def test_given_one_that_was_left_paused_then_it_waits_anew(self, bench: Bench) -> None:
        paused = bench.ran(pause(), echo("after", "yes"))

        done = bench.verb("restart", paused)

        assert done.returncode == 3, done.stderr
        assert bench.show(paused)["metadata"]["attemptNumber"] == 2
        assert bench.verb("resume", paused).returncode == 0

    def test_given_one_that_is_paused_in_a_process_that_lives_then_it_is_refused(self, bench: Bench) -> None:
        with at_terminal("run", bench.file(pause()), home=bench.home) as terminal:
            terminal.read_until("press Enter to resume it")
            done = bench.verb("restart", "last")

        assert done.returncode == 1
        assert re.fullmatch(
            r"Error: The execution \S+ runs in `tercel run` \(process \d+, since .* UTC\)\.\n"
            r"Only there it goes on: leave it paused by Ctrl-C, and try again\.\n",
            done.stderr,
        )


class TestPause:
    def test_given_an_interrupted_one_then_it_waits_and_goes_on_where_it_was(self, bench: Bench) -> None:
        tasks = [
            sh("work", f"echo work >> {bench.seen}; test -e {bench.mark} || sleep 60"),
            echo("after", "x"),
        ]
        interrupted = bench.interrupted(*tasks, state="RUNNING")

        done = bench.verb("pause", interrupted)
        left = bench.verb("recover")
        bench.mark.touch()
        resumed = bench.verb("resume", interrupted)

        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rf"PAUSED after .*, execution {interrupted}\n", done.stdout)
        assert done.stderr == f"`tercel execution resume {interrupted}` goes on with it.\n"
        assert left.stdout == "No execution was interrupted.\n"
        assert resumed.returncode == 0, resumed.stderr
        assert bench.runs() == {"work": "SUCCESS", "after": "SUCCESS"}

    def test_given_one_that_ended_or_runs_elsewhere_then_it_is_refused(self, bench: Bench) -> None:
        ended = bench.ran(echo("a", "x"))
        process = bench.start(sh("work", "sleep 60"))
        until(lambda: bench.states()[0] == "RUNNING")
        running = bench.newest()

        refused = bench.verb("pause", ended)
        elsewhere = bench.verb("pause", running)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

        assert (refused.returncode, elsewhere.returncode) == (1, 1)
        assert refused.stderr == (
            f"Error: The execution {ended} cannot be paused: it is SUCCESS.\n"
            "Only one in RUNNING or RETRYING can be, and only by the process that it belongs to.\n"
        )
        assert re.fullmatch(
            rf"Error: The execution {running} runs in `tercel run` \(process {process.pid}, since .* UTC\)\.\n"
            "Only there it could be paused, which cannot be asked for: wait for its end, or kill it there.\n",
            elsewhere.stderr,
        )


class TestReplay:
    def test_given_no_task_then_all_runs_again_as_another_execution(self, bench: Bench) -> None:
        old = bench.ran(
            sh("a", f"echo a >> {bench.seen}"),
            echo("b", "{{ inputs.n }}"),
            inputs=[{"id": "n", "type": "INT", "defaults": 7}],
        )

        done = bench.verb("replay", "last")

        new = bench.newest()
        assert done.returncode == 0, done.stderr
        assert new != old
        assert re.search(rf"^SUCCESS in .*, execution {new}$", done.stdout, re.MULTILINE)
        assert bench.seen.read_text().split() == ["a", "a"]
        assert re.search(r"^  b\.value +7$", done.stdout, re.MULTILINE)

    def test_given_a_task_then_what_was_before_it_is_taken_over(self, bench: Bench) -> None:
        bench.ran(
            sh("a", f"echo a >> {bench.seen}", 'echo \'::{"outputs":{"n":1}}::\''), echo("b", "{{ outputs.a.vars.n }}")
        )

        done = bench.verb("replay", "last", "--from", "b")

        assert done.returncode == 0, done.stderr
        assert bench.seen.read_text().split() == ["a"]
        assert re.search(r"^  b\.value +1$", done.stdout, re.MULTILINE)
        told = [line.partition(" ")[2] for line in done.stdout.splitlines() if "▸" in line]
        assert told == ["▸ b RUNNING"]

    def test_given_a_task_in_a_loop_then_one_of_its_runs_has_to_be_named(self, bench: Bench) -> None:
        old = bench.ran(for_each("loop", ["x", "y"], echo("a", "{{ taskrun.value }}")))
        runs = {run.get("value"): run["id"] for run in bench.show()["taskRunList"] if run["taskId"] == "a"}

        unclear = bench.verb("replay", old, "--from", "a")
        nowhere = bench.verb("replay", old, "--from", "b")
        done = bench.verb("replay", old, "--from", runs["y"])

        assert (unclear.returncode, nowhere.returncode) == (1, 1)
        assert unclear.stderr == (
            f"Error: The task 'a' has 2 task runs in the execution {old}.\n"
            "Give the id of one of them:\n"
            f"  {runs['x']}  value x, iteration 0  SUCCESS\n"
            f"  {runs['y']}  value y, iteration 1  SUCCESS\n"
        )
        assert nowhere.stderr == f"Error: The execution {old} has no task run 'b'.\nIts tasks are: loop, a.\n"
        assert done.returncode == 0, done.stderr
        assert [line.partition(" ")[2] for line in done.stdout.splitlines() if "▸" in line][-1] == "▸ a [y] RUNNING"

    def test_given_a_revision_then_that_one_runs(self, bench: Bench) -> None:
        old = bench.ran(echo("a", "old"))
        bench.save(echo("a", "new"))

        same = bench.verb("replay", old)
        other = bench.verb("replay", old, "--revision", 2)
        gone = bench.verb("replay", old, "--revision", 9)

        assert re.search(r"^  a\.value +old$", same.stdout, re.MULTILINE)
        assert re.search(r"^  a\.value +new$", other.stdout, re.MULTILINE)
        assert gone.returncode == 1
        assert "revision 9" in gone.stderr


class TestChangeStatus:
    def test_given_an_end_then_it_becomes_another(self, bench: Bench) -> None:
        failed = bench.ran(fail("a"))

        done = bench.verb("change-status", failed, "warning")
        wrong = bench.verb("change-status", failed, "RUNNING")

        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{failed} was FAILED and is WARNING.\n"
        assert bench.states() == ["WARNING"]
        assert wrong.returncode == 2

    def test_given_a_task_run_then_the_execution_goes_on_after_it(self, bench: Bench) -> None:
        failed = bench.ran(sh("a", f"echo a >> {bench.seen}; exit 1"), echo("b", "x"))

        done = bench.verb("change-status", failed, "SUCCESS", "--task-run", "a")

        assert done.returncode == 0, done.stderr
        assert bench.runs() == {"a": "SUCCESS", "b": "SUCCESS"}
        assert bench.seen.read_text().split() == ["a"]

    def test_given_one_that_has_not_ended_then_it_is_refused(self, bench: Bench) -> None:
        paused = bench.ran(pause())

        done = bench.verb("change-status", paused, "FAILED")

        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: The execution {paused} cannot be changed: it is PAUSED.\n")


class TestForceRun:
    def test_given_a_paused_one_then_it_goes_on(self, bench: Bench) -> None:
        paused = bench.ran(pause(), echo("after", "x"))

        done = bench.verb("force-run", paused)

        assert done.returncode == 0, done.stderr
        assert bench.runs() == {"wait": "SUCCESS", "after": "SUCCESS"}

    def test_given_one_that_waits_for_its_turn_then_it_has_it(self, bench: Bench) -> None:
        text = f"test -e {bench.mark} || sleep 60"
        first = bench.start(sh("a", text), concurrency={"limit": 1})
        until(lambda: bench.states() == ["RUNNING"])
        second = bench.start(sh("a", text), concurrency={"limit": 1})
        until(lambda: bench.states() == ["QUEUED", "RUNNING"])
        assert second.stdout is not None
        shown = second.stdout.readline()  # the state is stored before it is shown
        second.kill()
        second.communicate()
        bench.mark.touch()

        done = bench.verb("force-run", "last")
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)

        assert "‖ scenario QUEUED" in shown
        assert done.returncode == 0, done.stderr
        assert bench.states()[0] == "SUCCESS"

    def test_given_one_that_ended_then_it_is_refused(self, bench: Bench) -> None:
        ended = bench.ran(echo("a", "x"))

        done = bench.verb("force-run", ended)

        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: The execution {ended} cannot be forced to run: it is SUCCESS.\n")


class TestLabels:
    def test_given_labels_then_they_are_merged(self, bench: Bench) -> None:
        ended = bench.ran(echo("a", "x"), labels={"team": "data", "env": "test"})

        done = bench.verb("labels", ended, "env=live", "new=a=b")

        assert done.returncode == 0, done.stderr
        assert {"team=data", "env=live", "new=a=b"} <= set(done.stdout.splitlines())
        assert {"key": "env", "value": "live"} in bench.show()["labels"]

    def test_given_one_that_was_left_paused_then_it_stays_so(self, bench: Bench) -> None:
        paused = bench.ran(pause())

        done = bench.verb("labels", paused, "a=b")

        assert done.returncode == 0, done.stderr
        assert bench.states() == ["PAUSED"]
        assert bench.verb("resume", paused).returncode == 0

    def test_given_what_cannot_be_set_then_it_is_refused(self, bench: Bench) -> None:
        ended = bench.ran(echo("a", "x"))

        reserved = bench.verb("labels", ended, "system.from=x")
        no_pair = bench.verb("labels", ended, "a")
        none = bench.verb("labels", ended)

        assert (reserved.returncode, no_pair.returncode, none.returncode) == (2, 2, 2)
        assert "'a' is not of the form NAME=VALUE." in no_pair.stderr


class TestDelete:
    def test_given_an_end_then_nothing_of_it_is_left(self, bench: Bench) -> None:
        ended = bench.ran(sh("a", "echo x > f.txt", outputFiles=["f.txt"]))
        path = Path(bench.verb("files", ended).stdout.split()[-1])
        assert path.exists()

        done = bench.verb("delete", ended)
        again = bench.verb("delete", ended)

        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{ended} deleted.\n"
        assert not path.exists()
        assert bench.list() == []
        assert again.returncode == 1
        assert again.stderr.startswith(f"Error: There is no execution {ended}.")

    def test_given_one_that_has_not_ended_then_it_is_refused(self, bench: Bench) -> None:
        paused = bench.ran(pause())

        done = bench.verb("delete", paused)
        killed = bench.verb("kill", paused)
        after = bench.verb("delete", paused)

        assert done.stderr == (f"Error: The execution {paused} has not ended.\nKill it first, or wait for its end.\n")
        assert killed.returncode == 0, killed.stderr
        assert re.fullmatch(rf"KILLED in .*, execution {paused}\n", killed.stdout)
        assert after.returncode == 0


class TestOtherExecutions:
    def test_given_a_subflow_that_nobody_waits_for_then_the_process_does(self, bench: Bench) -> None:
        bench.save(sh("a", "sleep 0.3", f"touch {bench.mark}"), id="child")

        done = bench.run(subflow("call", "child", wait=False))

        assert done.returncode == 0, done.stdout
        assert done.stderr == "Waiting for another execution; Ctrl-C kills it.\n"
        assert bench.mark.exists()
        assert bench.states() == ["SUCCESS", "SUCCESS"]
        assert (
            done.stdout.rstrip().splitlines()[-1] == f"SUCCESS in {done.stdout.rstrip().rpartition('SUCCESS in ')[2]}"
        )

    def test_given_ctrl_c_while_it_waits_then_they_are_killed(self, bench: Bench) -> None:
        bench.save(sh("a", "exec sleep 60"), id="child")
        process = bench.start(subflow("call", "child", wait=False))
        assert process.stderr is not None
        assert process.stderr.readline() == "Waiting for another execution; Ctrl-C kills it.\n"

        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

        assert process.returncode == 0
        assert bench.states() == ["KILLED", "SUCCESS"]

    def test_given_a_retry_by_another_execution_then_it_is_followed(self, bench: Bench) -> None:
        retry = {"type": "constant", "interval": "PT0.05S", "maxAttempts": 2, "behavior": "CREATE_NEW_EXECUTION"}

        done = bench.run(sh("a", f"test -e {bench.mark} || {{ touch {bench.mark}; exit 1; }}"), retry=retry)

        assert done.returncode == 0, done.stdout
        assert bench.states() == ["SUCCESS", "RETRIED"]
        assert re.search(rf"^SUCCESS in .*, execution {bench.newest()}$", done.stdout, re.MULTILINE)
        assert "↻ scenario RETRIED" in done.stdout
        assert "✓ a SUCCESS" in done.stdout
