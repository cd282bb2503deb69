"""A WorkingDirectory goes on at the child that failed, with the directory as it was before it."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from msgspec.structs import replace

from tercel.layers import LayerStore
from tercel.model import Cache, State, StateChange, Task, TaskRun, WorkerResult
from tercel.model.task import Retry
from tercel.plugin_api import Outputs, RunContext, TaskFailedError
from tercel.storage.caches import Caches
from tercel.worker.layer_services import LayerServices
from tercel.worker.services import utc_now
from tests.command_line import tercel
from tests.flows import flow, sh, wd
from tests.job_runners import Bench, Calls, a_directory, a_shell, backend
from tests.trees import Seen, an_odd_tree, everything_in


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class Watched(Calls, frozen=True, kw_only=True):
    """Makes an odd tree, and changes it; its task id says which of six children it is."""

    def run(self, context: RunContext) -> Outputs:
        root = context.working_directory
        SEEN.setdefault(self.id, []).append(everything_in(root))
        match self.id:
            case "one":
                an_odd_tree(root / "odd")
            case "two":
                (root / "odd/bin/run").write_text("changed")
                (root / "odd/secret").unlink()
            case "three":
                shutil.rmtree(root / "odd/lib")
                (root / "odd/lib").mkdir()
                (root / "odd/lib/new").write_text("new")
            case "four":
                shutil.move(root / "odd/empty", root / "moved")
                (root / "in.txt").write_text("four")
            case "five":
                (root / "half-done").write_text("half")
                (root / "odd/bin/run").unlink()
                if BROKEN:
                    raise TaskFailedError("five is broken")
            case _:
                pass
        return Outputs(name=self.id)


SEEN: dict[str, list[Seen]] = {}
BROKEN: list[bool] = []
SIX = [Watched(id=name) for name in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture(autouse=True)
def fresh() -> None:
    SEEN.clear()
    BROKEN.clear()


def latest(bench: Bench) -> dict[str, TaskRun]:
    """The last report about each child."""
    return {row.task_id: row for row in bench.reports}


def restarted(bench: Bench, task: Task) -> WorkerResult:
    """Run the job again, as the machine sends it after a restart: with the children that ended."""
    rows = list(latest(bench).values())
    again = StateChange(State.RESTARTED, utc_now())
    rows = [row if row.state in _WELL else replace(row, history=(*row.history, again)) for row in rows]
    return bench.run(task, fence=2, children=tuple(rows))


_WELL = {State.SUCCESS, State.WARNING, State.SKIPPED}


class TestRestart:
    def test_given_six_children_whose_fifth_failed_when_repaired_then_it_sees_what_it_saw_and_the_first_four_rest(
        self, bench: Bench
    ) -> None:
        task = a_directory(*SIX, input_files={"in.txt": "in", "other.txt": "in"})
        BROKEN.append(True)
        assert bench.run(task).state is State.FAILED
        BROKEN.clear()

        result = restarted(bench, task)

        assert result.state is State.SUCCESS
        assert {name: len(seen) for name, seen in SEEN.items()} == {
            **dict.fromkeys(("one", "two", "three", "four"), 1),
            "five": 2,
            "six": 1,
        }
        assert SEEN["five"][0] == SEEN["five"][1]
        assert "half-done" in SEEN["six"][0]
        assert [change.state for change in latest(bench)["five"].history] == [
            State.CREATED,
            State.RUNNING,
            State.FAILED,
            State.RESTARTED,
            State.RUNNING,
            State.SUCCESS,
        ]
        assert "Going on with the directory as it was after 'one', 'two', 'three', 'four'." in bench.records.messages()

    def test_given_outputs_of_those_that_rest_then_the_next_child_sees_them(self, bench: Bench, tmp_path: Path) -> None:
        marker = tmp_path / "repaired"
        task = a_directory(
            Watched(id="six"), a_shell("a", "echo {{ outputs.six.name }} {{ tasks.six.state }}; test -e " + str(marker))
        )
        bench.run(task)
        marker.touch()

        result = restarted(bench, task)

        assert result.state is State.SUCCESS
        assert bench.records.messages(task="a").count("six SUCCESS") == 2

    def test_given_an_input_file_that_was_repaired_then_it_alone_is_another_one(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        children = [
            a_shell("a", "echo a > made; echo changed > kept.txt"),
            a_shell("b", "cat script.sh kept.txt; sh script.sh"),
        ]
        inputs = {"script.sh": "exit 1", "kept.txt": "first"}
        bench.run(a_directory(*children, input_files=inputs))

        result = restarted(bench, a_directory(*children, input_files={**inputs, "script.sh": "cat made"}))

        assert result.state is State.SUCCESS
        lines = [line for line in bench.records.messages(task="b") if not line.startswith("test.Shell")]
        assert lines == ["exit 1changed", "exit code 1", "cat madechanged", "a"]

    def test_given_the_snapshot_is_gone_then_all_children_run_again_and_their_rows_go_on(self, bench: Bench) -> None:
        task = a_directory(*SIX)
        BROKEN.append(True)
        bench.run(task)
        BROKEN.clear()
        assert bench.layers.snapshots is not None
        bench.layers.snapshots.forget("execution")

        result = restarted(bench, task)

        assert result.state is State.SUCCESS
        assert {len(seen) for seen in SEEN.values()} == {1, 2}
        assert len(SEEN["one"]) == 2
        states = [change.state for change in latest(bench)["one"].history]
        assert states == [State.CREATED, State.RUNNING, State.SUCCESS, State.RESTARTED, State.RUNNING, State.SUCCESS]
        message = "All tasks run again: what the earlier ones left in the directory is not kept any more."
        assert message in bench.records.messages()

    def test_given_a_worker_that_died_then_another_one_of_the_home_goes_on(self, bench: Bench) -> None:
        BROKEN.append(True)
        bench.run(a_directory(*SIX))
        rows = tuple(row for row in latest(bench).values() if row.state is State.SUCCESS)
        BROKEN.clear()
        other = Bench(bench.base.parent)

        result = other.run(a_directory(*SIX), fence=2, children=rows)

        assert result.state is State.SUCCESS
        assert {name: len(seen) for name, seen in SEEN.items()}["four"] == 1
        assert SEEN["five"][0] == SEEN["five"][1]

    def test_given_a_worker_that_died_then_one_on_another_machine_goes_on(self, tmp_path: Path) -> None:
        here, there = Bench(tmp_path), Bench(tmp_path)
        for name, bench in (("here", here), ("there", there)):
            layers = LayerStore(tmp_path / name / "layers", tmp_path / "tmp" / "at", backend())
            bench.layers = LayerServices(layers, bench.storage, utc_now, stores_snapshots=True)
        task = a_directory(*SIX, input_files={"in.txt": "in"}, cache=Cache(patterns=["c/**"]))
        fill = a_directory(a_shell("a", "mkdir c; echo cached > c/a"), cache=Cache(patterns=["c/**"]))
        here.run(fill, execution_id="earlier")
        here.layers.keeper.wait()
        BROKEN.append(True)
        here.run(task)
        here.layers.keeper.wait()
        rows = tuple(row for row in latest(here).values() if row.state is State.SUCCESS)
        BROKEN.clear()

        result = there.run(task, fence=2, children=rows)

        assert result.state is State.SUCCESS
        assert {name: len(seen) for name, seen in SEEN.items()} == {**dict.fromkeys(list(SEEN), 1), "five": 2}
        assert SEEN["five"][0] == SEEN["five"][1]
        assert "c/a" in SEEN["five"][1]

    def test_given_a_cache_then_it_is_saved_when_the_restart_succeeds(self, bench: Bench, tmp_path: Path) -> None:
        marker = tmp_path / "repaired"
        task = a_directory(
            a_shell("a", "mkdir -p c; echo a >> c/a"),
            a_shell("b", f"test -e {marker}; echo b >> c/b"),
            cache=Cache(patterns=["c/**"]),
        )
        bench.run(task)
        assert Caches(bench.storage).search() == []
        marker.touch()

        assert restarted(bench, task).state is State.SUCCESS
        look = a_directory(a_shell("look", "cat c/a c/b"), cache=Cache(patterns=["c/**"]))
        bench.run(look, execution_id="other")

        assert bench.records.messages(task="look")[-3:-1] == ["a", "b"]

    def test_given_a_restored_cache_then_it_is_there_after_a_restart_and_saved_with_what_is_new(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        marker = tmp_path / "repaired"
        fill = a_directory(a_shell("a", "mkdir -p c; echo old > c/old"), cache=Cache(patterns=["c/**"]))
        bench.run(fill, execution_id="first")
        task = a_directory(
            a_shell("a", "echo a > c/a"), a_shell("b", f"cat c/old; test -e {marker}"), cache=Cache(patterns=["c/**"])
        )
        bench.run(task)
        marker.touch()

        assert restarted(bench, task).state is State.SUCCESS
        bench.run(a_directory(a_shell("look", "ls c"), cache=Cache(patterns=["c/**"])), execution_id="other")

        assert [line for line in bench.records.messages(task="look") if not line.startswith("test.")] == ["a", "old"]


class TestRetry:
    def test_given_a_child_that_is_tried_again_then_its_files_are_put_back_first(self, bench: Bench) -> None:
        count: list[Seen] = []

        def flaky(context: RunContext) -> Outputs:
            root = context.working_directory
            count.append(everything_in(root))
            (root / "in.txt").write_text("spoiled")
            (root / "rest").mkdir()
            if len(count) < 3:
                raise TaskFailedError("not yet")
            return Outputs()

        Calls.functions["flaky"] = flaky
        retry = Retry(type="constant", interval=timedelta(milliseconds=1), max_attempts=3)
        task = a_directory(
            Calls(id="flaky", retry=retry), a_shell("after", "ls; cat in.txt"), input_files={"in.txt": "in"}
        )

        result = bench.run(task)

        assert result.state is State.SUCCESS
        assert count[0] == count[1] == count[2]
        assert bench.child("flaky").state is State.SUCCESS
        assert "spoiled" in bench.records.messages(task="after")


class TestAtOnce:
    def test_given_ten_runs_with_one_cache_then_each_sees_a_whole_entry_and_the_last_save_wins(
        self, tmp_path: Path
    ) -> None:
        bench = Bench(tmp_path)
        line = (
            "cat c/* 2>/dev/null | sort -u | wc -l; rm -rf c; mkdir c; "
            "for i in 1 2 3 4 5; do echo {{ execution.id }} > c/$i; done"
        )
        task = a_directory(a_shell("a", line), cache=Cache(patterns=["c/**"]))
        results: list[WorkerResult] = []

        def run(number: int) -> None:
            for round_ in range(3):
                name = f"{number}-{round_}"
                results.append(bench.run(task, execution_id=name, variables={"execution": {"id": name}}))

        threads = [Thread(target=run, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bench.layers.keeper.wait()

        assert [result.state for result in results] == [State.SUCCESS] * 30
        counts = {line for line in bench.records.messages(task="a") if line.isdigit()}
        assert counts <= {"0", "1"}
        saved = [line for line in bench.records.messages() if line.startswith("Cache saved as entry ")]
        assert len(saved) == 30
        bench.run(task, execution_id="last", variables={"execution": {"id": "last"}})
        bench.layers.keeper.wait()
        [listed] = Caches(bench.storage).search()
        assert listed.entry is not None
        assert listed.entry.execution_id == "last"
        elsewhere = LayerServices(LayerStore(tmp_path / "other", tmp_path / "at", backend()), bench.storage, utc_now)
        bench.layers, before = elsewhere, bench.layers
        bench.run(a_directory(a_shell("look", "cat c/* | sort -u"), cache=Cache(patterns=["c/**"])))
        assert [line for line in bench.records.messages(task="look") if not line.startswith("test.")] == ["last"]
        before.close()
        assert os.listdir(f"{before.layers.pool.folder}/work") == []


class TestCommandLine:
    def test_given_six_children_whose_fifth_fails_when_the_flow_is_mended_and_restarted_then_it_goes_on_there(
        self, tmp_path: Path
    ) -> None:
        home, ran, lists = tmp_path / "home", tmp_path / "ran", tmp_path / "lists"
        listing = r"find . -printf '%p %m %s %T@ %l %i\n' | sed 's/ [0-9]*$//' | sort"

        def a_flow(fifth: str) -> str:
            names = ("one", "two", "three", "four", "five", "six")
            lines = {
                "one": "mkdir -p tree/deep; echo 1 > tree/a; chmod 600 tree/a; ln -s a tree/link",
                "two": "echo 2 >> tree/a; touch -d 2001-01-01 tree/old",
                "three": "rm -r tree/deep; mkdir tree/deep; echo 3 > tree/deep/new",
                "four": "mv tree/old tree/older",
                "five": f"{listing} >> {lists}; echo --- >> {lists}; rm tree/a; {fifth}",
                "six": "test ! -e tree/a",
            }
            return flow(wd(*(sh(name, f"echo {name} >> {ran}; {lines[name]}") for name in names)))

        (tmp_path / "broken.yaml").write_text(a_flow("exit 3"))
        (tmp_path / "mended.yaml").write_text(a_flow("true"))
        assert tercel("run", tmp_path / "broken.yaml", home=home).returncode == 1

        done = tercel("execution", "restart", "last", "--flow", tmp_path / "mended.yaml", home=home)

        assert done.returncode == 0, done.stdout + done.stderr
        assert ran.read_text().split() == ["one", "two", "three", "four", "five", "five", "six"]
        first, second = lists.read_text().removesuffix("---\n").split("---\n")
        assert first == second
        assert "tree/older" in first
        assert "Going on with the directory as it was after 'one', 'two', 'three', 'four'." in done.stdout

    def test_given_from_scratch_then_all_children_run_again(self, tmp_path: Path) -> None:
        home, ran, mark = tmp_path / "home", tmp_path / "ran", tmp_path / "mark"
        text = flow(wd(sh("one", f"echo one >> {ran}"), sh("two", f"echo two >> {ran}; test -e {mark}")))
        (tmp_path / "flow.yaml").write_text(text)
        tercel("run", tmp_path / "flow.yaml", home=home)
        mark.touch()

        done = tercel("execution", "restart", "last", "--from-scratch", home=home)

        assert done.returncode == 0, done.stdout + done.stderr
        assert ran.read_text().split() == ["one", "two", "one", "two"]
