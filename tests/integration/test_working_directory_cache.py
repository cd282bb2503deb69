"""The cache of a WorkingDirectory, by the job runner alone, with real processes and packs."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tercel.layers import LayerStore
from tercel.model import Cache, LogLevel, Retry, State, TaskRun
from tercel.model.globs import Globs
from tercel.mounts import mount, own_mounts, why_no_mounts
from tercel.plugin_api import Outputs, RunContext
from tercel.storage.caches import CacheKey, Caches
from tercel.worker.control import JobControl
from tercel.worker.layer_services import LayerServices
from tercel.worker.recorder import Recorder
from tests.job_runners import Bench, Calls, a_directory, a_shell, backend

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **parts: float) -> None:
        self.now += timedelta(**parts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Bench:
    """A worker that stores what was saved before the next run begins."""
    return Bench(tmp_path, clock)


@pytest.fixture(params=["stored", "on this machine only"])
def either(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """The same, and a worker that never comes to storing anything."""
    if request.param != "stored":
        bench.layers.keeper.entrust = lambda *_: None  # type: ignore[method-assign]
    return bench


def told(bench: Bench) -> list[str]:
    """What was said about the cache since the last call, but for its being stored."""
    bench.layers.keeper.wait()
    lines = [line for line in bench.records.messages(LogLevel.INFO, LogLevel.WARN, task="wd") if "ache" in line]
    bench.records.entries.clear()
    return [line for line in lines if not line.startswith(("Cache stored", "The cache is kept on this machine only"))]


def run(bench: Bench, line: str, cache: Cache, **properties: object) -> list[str]:
    result = bench.run(a_directory(a_shell("a", line), cache=cache), **properties)
    assert result.state is State.SUCCESS, result.message
    bench.layers.keeper.wait()
    return bench.records.messages(LogLevel.INFO, task="a")


def objects(bench: Bench) -> list[str]:
    bench.layers.keeper.wait()
    return [file.uri for file in bench.storage.list("/") if file.uri.endswith(".tar.zst")]


def elsewhere(bench: Bench, folder: Path, clock: Clock) -> Bench:
    """A worker on another machine, with the same internal storage."""
    other = Bench(folder, clock)
    other.storage = other.services.storage = bench.storage
    layers = LayerStore(folder / "layers", folder / "tmp" / "at", backend())
    other.layers = LayerServices(layers, bench.storage, clock)
    return other


class TestHitAndMiss:
    def test_given_a_second_run_then_the_files_of_the_first_are_there_before_the_first_child(
        self, bench: Bench
    ) -> None:
        first = run(bench, "ls | wc -l; mkdir -p d; echo x > d/f", Cache(patterns=["d/**"]))
        said = told(bench)
        second = run(bench, "cat d/f", Cache(patterns=["d/**"]))

        assert first == ["0"]
        assert said[0] == "Cache missed: nothing is saved yet."
        assert said[1].startswith("Cache saved as entry ")
        assert second == ["x"]
        restored, saved = told(bench)
        assert restored.startswith("Cache restored from entry ")
        assert " 0 s old: 1 file, 2 B in " in restored
        assert saved.startswith("Cache unchanged: 1 file, 2 B (")

    def test_given_a_hit_then_metrics_say_so(self, bench: Bench) -> None:
        run(bench, "echo x > f", Cache(patterns=["*"]))
        missed = bench.records.values("wd")
        bench.records.metrics.clear()
        run(bench, ":", Cache(patterns=["*"]))
        hit = bench.records.values("wd")

        assert (missed["cache.hit"], missed["cache.files"], missed["cache.size"]) == (0, 1, 2)
        assert (hit["cache.hit"], hit["cache.files"], hit["cache.size"]) == (1, 1, 2)
        assert {"cache.restore.duration", "cache.save.duration"} <= hit.keys()

    def test_given_only_a_working_directory_with_a_false_run_if_then_nothing_else_is_cached(self, bench: Bench) -> None:
        run(bench, "echo x > a.txt; echo y > b.log", Cache(patterns=["*.txt"]))

        assert run(bench, "ls", Cache(patterns=["*.txt"]))[-1] == "a.txt"

    def test_given_two_patterns_for_one_file_then_it_is_saved_once(self, bench: Bench) -> None:
        run(bench, "echo x > a.txt", Cache(patterns=["*.txt", "a.*"]))

        assert "1 file, 2 B" in told(bench)[1]

    def test_given_an_exclude_then_those_files_are_left_out(self, either: Bench) -> None:
        cache = Cache(patterns=["d/**"], exclude=["d/tmp/**"])
        run(either, "mkdir -p d/tmp; touch d/x d/tmp/y", cache)

        assert run(either, "find . -type f", cache)[-1] == "./d/x"

    def test_given_other_patterns_then_only_what_they_take_is_restored(self, either: Bench) -> None:
        run(either, "mkdir a b; echo 1 > a/x; echo 2 > b/y", Cache(patterns=["a/**", "b/**"]))

        assert run(either, "find . -type f", Cache(patterns=["b/**"]))[-1] == "./b/y"
        assert run(either, "find . -type f; mkdir -p a; echo 3 > a/x", Cache(patterns=["a/**"]))[-1] != "./a/x"

    def test_given_files_that_are_captured_too_then_they_are_cached_all_the_same(self, either: Bench) -> None:
        task = a_directory(
            a_shell("a", "mkdir -p data; echo x >> data/f"), cache=Cache(patterns=["data/**"]), output_files=["data/**"]
        )
        either.run(task)
        result = either.run(task)

        uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
        assert either.read(uris["data/f"]) == b"x\nx\n"

    def test_given_loop_values_and_keys_then_entries_are_apart(self, bench: Bench) -> None:
        cache = Cache(patterns=["f"], key="{{ inputs.k }}")
        for value in "ab":
            for key in "xy":
                run(bench, f"echo {value}{key} > f", cache, values=(value,), variables={"inputs": {"k": key}})
        bench.records.entries.clear()

        seen = [
            run(bench, "cat f", cache, values=(value,), variables={"inputs": {"k": key}})[-1]
            for value in "ab"
            for key in "xy"
        ]

        assert seen == ["ax", "ay", "bx", "by"]
        assert len(objects(bench)) == 4

    def test_given_an_expression_that_fails_then_the_run_goes_on_without_a_cache(self, bench: Bench) -> None:
        run(bench, "echo x > f", Cache(patterns=["f"], key="{{ nope }}"))

        (warning,) = told(bench)
        assert warning.startswith("Cache missed: it cannot be restored. ")
        assert "nope" in warning
        assert objects(bench) == []


class TestTtl:
    CACHE = Cache(patterns=["f"], ttl="PT1H")

    def test_given_an_old_entry_then_it_expired_and_is_saved_anew(self, either: Bench, clock: Clock) -> None:
        run(either, "echo 1 > f", self.CACHE)
        clock.forward(hours=1)
        at_its_end = run(either, "cat f", self.CACHE)[-1]
        clock.forward(seconds=1)
        told(either)

        later = run(either, "ls | wc -l; echo 2 > f", self.CACHE)

        assert at_its_end == "1"
        assert later == ["0"]
        missed, saved = told(either)
        assert missed == "Cache missed: the entry is 1 h 0 min old and its ttl 1 h 0 min."
        assert saved.startswith("Cache saved")

    @pytest.mark.parametrize(
        ("age_minutes", "ttl", "hit"),
        [(120, "PT5H", True), (10, "PT5M", False), (10, None, True), (1, "PT0S", False), (10, "{{ 'PT1H' }}", True)],
    )
    def test_given_an_edited_ttl_then_it_counts_for_entries_that_are_there(
        self, either: Bench, clock: Clock, age_minutes: int, ttl: str | None, hit: bool
    ) -> None:
        run(either, "echo 1 > f", self.CACHE)
        clock.forward(minutes=age_minutes)

        assert (run(either, "ls", Cache(patterns=["f"], ttl=ttl)) == ["f"]) is hit

    @pytest.mark.parametrize(("ttl_from", "hit"), [("SAVED", False), ("LAST_USED", True)])
    def test_given_hits_without_changes_then_the_ttl_counts_from_the_save_or_the_use(
        self, either: Bench, clock: Clock, ttl_from: str, hit: bool
    ) -> None:
        cache = Cache(patterns=["f"], ttl="PT1H", ttl_from=ttl_from)  # type: ignore[arg-type]
        run(either, "echo 1 > f", cache)
        clock.forward(minutes=30)
        run(either, ":", cache)
        clock.forward(minutes=35)

        assert (run(either, "ls", cache)[-1:] == ["f"]) is hit


class TestChanges:
    CACHE = Cache(patterns=["*.txt"])

    def test_given_no_change_then_the_object_and_its_date_stay(self, bench: Bench, clock: Clock) -> None:
        run(bench, "echo 1 > a.txt", self.CACHE)
        before = list(bench.storage.list("/"))
        assert before
        clock.forward(minutes=1)

        run(bench, ":", self.CACHE)

        assert list(bench.storage.list("/")) == before

    def test_given_a_change_with_an_old_date_then_it_is_seen(self, either: Bench) -> None:
        run(either, "echo 1 > a.txt", self.CACHE)
        run(either, "echo 2 > a.txt; touch -d 1985-01-01 a.txt", self.CACHE)

        assert "0 new, 1 changed, 0 deleted" in told(either)[-1]
        assert run(either, "cat a.txt", self.CACHE)[-1] == "2"

    def test_given_a_deleted_file_then_it_does_not_come_back(self, either: Bench) -> None:
        run(either, "touch a.txt b.txt", self.CACHE)
        run(either, "rm a.txt", self.CACHE)

        assert run(either, "ls", self.CACHE)[-1] == "b.txt"

    def test_given_all_files_deleted_then_the_entry_is_dropped(self, either: Bench) -> None:
        run(either, "touch a.txt", self.CACHE)
        told(either)
        run(either, "rm a.txt", self.CACHE)

        assert told(either)[-1].startswith("Cache dropped: everything it held was deleted.")
        assert objects(either) == []
        assert run(either, "ls | wc -l", self.CACHE)[-1] == "0"

    def test_given_injected_files_with_the_same_content_then_nothing_is_saved_again(self, either: Bench) -> None:
        task = a_directory(a_shell("a", ":"), cache=self.CACHE, input_files={"a.txt": "same"})
        either.run(task)
        told(either)

        either.run(task)

        assert told(either)[-1].startswith("Cache unchanged")

    def test_given_nothing_that_matches_then_nothing_is_saved(self, bench: Bench) -> None:
        run(bench, ":", self.CACHE)

        assert told(bench)[-1].startswith("Cache not saved: no file matches its patterns.")

    def test_given_more_bytes_than_allowed_then_nothing_is_saved(self, bench: Bench) -> None:
        run(bench, "head -c 5000 /dev/zero > a.txt", Cache(patterns=["*.txt"], max_size=1000))

        said = told(bench)
        assert "The cache has more than the 1.0 kB allowed." in said
        assert said[-1].startswith("Cache not saved: it is too large.")
        assert objects(bench) == []


class TestWhenItIsSaved:
    @pytest.mark.parametrize(
        ("save", "line", "is_saved"),
        [
            ("ON_SUCCESS", "touch f", True),
            ("ON_SUCCESS", "touch f; exit 1", False),
            ("ALWAYS", "touch f; exit 1", True),
            ("NEVER", "touch f", False),
        ],
    )
    def test_given_an_end_then_the_property_decides(self, bench: Bench, save: str, line: str, is_saved: bool) -> None:
        bench.run(a_directory(a_shell("a", line), cache=Cache(patterns=["f"], save=save)))  # type: ignore[arg-type]

        assert bool(objects(bench)) is is_saved

    @pytest.mark.parametrize("reason", ["kill", "timeout"])
    def test_given_a_kill_or_a_timeout_then_it_is_never_saved(self, bench: Bench, reason: str) -> None:
        control = JobControl()
        timeout = "PT0.2S" if reason == "timeout" else None
        if reason == "kill":
            threading.Timer(0.2, lambda: control.stop("kill")).start()

        bench.run(
            a_directory(a_shell("a", "touch f; sleep 30"), cache=Cache(patterns=["f"], save="ALWAYS"), timeout=timeout),
            control,
        )

        assert objects(bench) == []


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


class TestKillWhileSaving:
    def test_given_a_kill_before_anything_is_moved_then_nothing_is_saved(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control = JobControl()
        whole = Recorder.finish

        def finish(self: Recorder) -> None:
            whole(self)
            control.stop("kill")

        monkeypatch.setattr(Recorder, "finish", finish)

        result = bench.run(a_directory(a_shell("a", "echo x > f"), cache=Cache(patterns=["f"])), control)

        assert result.state is State.KILLED
        assert told(bench)[-1] == "Cache not saved: the run did not succeed."
        assert list(bench.storage.list("/")) == []
        assert bench.left() == []

    def test_given_a_kill_once_the_entry_is_put_into_place_then_the_run_ended_before_it(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control = JobControl()
        whole = Recorder.take

        def take(self: Recorder, globs: Globs) -> tuple[list[str], list[str]]:
            control.stop("kill")
            return whole(self, globs)

        monkeypatch.setattr(Recorder, "take", take)

        result = bench.run(a_directory(a_shell("a", "echo x > f"), cache=Cache(patterns=["f"])), control)

        assert result.state is State.SUCCESS
        assert len(objects(bench)) == 1


class TestDirectoryReplaced:
    @pytest.mark.parametrize(
        "line",
        [
            'd="$PWD"; cd ..; rm -rf "$d"; ln -s {mine} "$d"',
            'd="$PWD"; cd ..; rm -rf "$d" || true; ln -s {mine} "$d" || true',
            'd="$PWD"; cd ..; mv "$d" x || true; ln -s {mine} "$d" || true',
            "ln -s {mine} d",
        ],
    )
    def test_given_a_link_in_its_place_then_what_it_leads_to_is_neither_taken_nor_read(
        self, bench: Bench, tmp_path: Path, line: str
    ) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "f").write_text("mine")
        line = line.format(mine=mine)

        bench.run(a_directory(a_shell("a", line), cache=Cache(patterns=["**/f", "f"])))
        captured = bench.run(a_directory(a_shell("a", line), output_files=["**/f", "f"]))
        bench.layers.keeper.wait()

        assert (mine / "f").read_text() == "mine"
        assert not captured.outputs.get("outputFiles")
        assert why_no_mounts() or bench.left() == []
        look = a_directory(a_shell("look", "find . -name f"), cache=Cache(patterns=["**/f", "f"]))
        assert bench.run(look).state is State.SUCCESS
        assert bench.records.messages(LogLevel.INFO, task="look") == []

    def test_given_a_link_in_its_place_when_tried_again_then_what_it_leads_to_stays(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "f").write_text("mine")
        line = f'touch x; d="$PWD"; cd ..; rm -rf "$d" || true; ln -s {mine} "$d" || true; exit 1'
        retry = Retry(interval=timedelta(milliseconds=10), max_attempts=3)

        bench.run(a_directory(a_shell("first", "echo 1 > y"), a_shell("a", line, retry=retry)))

        assert [path.name for path in mine.iterdir()] == ["f"]
        assert (mine / "f").read_text() == "mine"


class TestDamage:
    @pytest.mark.parametrize("damage", [_garbage, _truncated, _flipped, _emptied])
    def test_given_a_damaged_object_then_it_is_a_miss_and_replaced(
        self, bench: Bench, damage: Callable[[Path], None]
    ) -> None:
        cache = Cache(patterns=["f*"])
        run(bench, "echo 1 > f1; echo 2 > f2", cache)
        (path,) = Path(bench.storage.base).rglob("*.tar.zst")
        damage(path)
        told(bench)

        seen = run(bench, "ls | wc -l; echo 3 > f3", cache)

        warning, saved = told(bench)
        assert seen[-1] == "0"
        assert warning.startswith("Cache missed: its entry is damaged and has been dropped. ")
        assert saved.startswith("Cache saved")
        assert run(bench, "ls", cache)[-1] == "f3"

    def test_given_a_damaged_pointer_then_it_is_a_miss(self, bench: Bench) -> None:
        cache = Cache(patterns=["f"])
        run(bench, "echo 1 > f", cache)
        (path,) = Path(bench.storage.base).rglob("current.json")
        path.write_text("{")

        assert run(bench, "ls | wc -l; touch f", cache)[-1] == "0"
        assert run(bench, "ls", cache)[-1] == "f"

    @pytest.mark.parametrize("is_here", [True, False])
    def test_given_a_deleted_object_then_it_is_a_miss_unless_its_layer_is_here(
        self, bench: Bench, is_here: bool
    ) -> None:
        cache = Cache(patterns=["f"])
        run(bench, "echo 1 > f", cache)
        bench.storage.delete(objects(bench))
        if not is_here:
            shutil.rmtree(bench.layers.layers.pool.folder)

        assert run(bench, "ls | wc -l; date +%N > f", cache)[-1] == str(int(is_here))
        assert run(bench, "ls", cache)[-1] == "f"

    @pytest.mark.parametrize("how", ["a file", "a dangling link", "gone"])
    def test_given_a_layer_here_that_is_broken_then_the_run_goes_on_in_a_directory_that_works(
        self, bench: Bench, how: str
    ) -> None:
        cache = Cache(patterns=["f*"])
        run(bench, "echo 1 > f1; echo 2 > f2", cache)
        for layer in bench.layers.layers.pool.layers():
            tree = Path(bench.layers.layers.pool.tree(layer))
            shutil.rmtree(tree)
            if how == "a file":
                tree.write_text("")
            elif how == "a dangling link":
                tree.symlink_to("nowhere")

        seen = run(bench, "ls | wc -l; head -c 600000 /dev/zero > f3; ls", cache, execution_id="second")
        told(bench)

        assert seen[0] in {"0", "2"}
        assert run(bench, "ls", cache)[-1] == "f3"
        assert told(bench)[0].startswith("Cache restored")

    def test_given_the_whole_pool_is_removed_then_it_is_fetched_and_made_again(self, bench: Bench) -> None:
        cache = Cache(patterns=["f"])
        run(bench, "echo 1 > f", cache)
        shutil.rmtree(bench.layers.layers.pool.folder)

        assert run(bench, "cat f", cache)[-1] == "1"
        assert "fetched first" in told(bench)[-2]


class TestElsewhere:
    CACHE = Cache(patterns=["d/**"])

    def test_given_a_save_then_a_worker_on_another_machine_has_it_once_it_is_stored(
        self, bench: Bench, tmp_path: Path, clock: Clock
    ) -> None:
        other = elsewhere(bench, tmp_path / "other", clock)
        run(bench, "mkdir d; echo '#!'$PWD/d/x > d/run; pwd", self.CACHE)

        seen = [run(other, "cat d/run; pwd", self.CACHE) for _ in range(2)]

        said = told(other)
        assert ", fetched first" in said[0]
        assert ", fetched first" not in said[2]
        path = seen[0][-1]
        assert path != bench.records.messages(LogLevel.INFO, task="a")[-1]
        assert seen[0] == [f"#!{path}/d/x", path]
        assert seen[1] == [*seen[0], *seen[0]]

    def test_given_workers_that_save_in_turn_then_each_has_what_the_other_added(
        self, bench: Bench, tmp_path: Path, clock: Clock
    ) -> None:
        other = elsewhere(bench, tmp_path / "other", clock)
        for number in range(6):
            clock.forward(seconds=1)
            run((bench, other)[number % 2], f"mkdir -p d; echo {number} > d/{number}; rm -f d/{number - 3}", self.CACHE)

        for one in (bench, other):
            assert run(one, "ls d", self.CACHE)[-3:] == ["3", "4", "5"]
        assert len(objects(bench)) <= 6

    def test_given_one_that_damages_what_is_stored_then_the_other_one_drops_it(
        self, bench: Bench, tmp_path: Path, clock: Clock
    ) -> None:
        other = elsewhere(bench, tmp_path / "other", clock)
        run(bench, "mkdir d; touch d/x", self.CACHE)
        (path,) = Path(bench.storage.base).rglob("*.tar.zst")
        path.chmod(0o600)
        _truncated(path)

        assert run(other, "ls | wc -l", self.CACHE)[-1] == "0"
        assert run(bench, "ls | wc -l", self.CACHE)[-1] == "0"


class TestRestart:
    def test_given_a_run_that_failed_and_was_saved_when_it_goes_on_then_the_entry_others_are_in_stays_whole(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        # The restart splits the layers of the first run again, and one of them is the entry's.
        marker = tmp_path / "repaired"
        cache = Cache(patterns=["c/**"], save="ALWAYS")
        task = a_directory(
            a_shell("a", "mkdir c; echo 1 > c/x; echo 2 > y"), a_shell("b", f"cat c/x y; test -e {marker}"), cache=cache
        )
        bench.run(task)
        bench.layers.keeper.wait()
        marker.touch()
        shelf, key = bench.layers.shelf, CacheKey("company.team", "flow", "wd")
        rows = tuple({row.task_id: row for row in bench.reports}.values())
        seen: list[object] = []

        with bench.layers.layers.directory("other") as directory:
            shelf.fill(directory, shelf.find(key, ttl=None, ttl_from="SAVED"))
            goes_on = threading.Thread(target=lambda: seen.append(self._go_on(bench, task, rows)))
            goes_on.start()
            goes_on.join()
            bench.layers.keeper.wait()
            seen.append((Path(directory.path) / "c/x").read_text())

        assert seen == [State.SUCCESS, "1\n"]
        assert run(bench, "cat c/x", cache, execution_id="later")[-1] == "1"
        lines = bench.records.messages(LogLevel.INFO, task="b")
        assert lines == ["1", "2", "1", "2"]

    def _go_on(self, bench: Bench, task: object, rows: tuple[TaskRun, ...]) -> State:
        return bench.run(task, fence=2, children=rows).state  # type: ignore[arg-type]


@pytest.mark.skipif(bool(why_no_mounts()), reason="a small disk can be made only where mounts can")
class TestFullDisk:
    """Nothing can be made any more at one point after the other."""

    TASK = a_directory(
        a_shell("a", "echo 1 > a; mkdir -p c; echo 1 > c/x; ls a c/x"),
        a_shell("b", "cat a c/x"),
        a_shell("c", "cat a c/x; echo 2 > c/x"),
        cache=Cache(patterns=["c/**"]),
        input_files={"in": "x"},
    )

    @pytest.fixture(autouse=True)
    def on_any_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The small disk is in memory, where files cannot be cloned."""
        if backend() == "reflink":
            monkeypatch.setenv("TERCEL_LAYERS", "copy")

    @pytest.mark.parametrize("first", range(10, 100, 10))
    def test_given_no_room_at_some_point_then_no_run_fails_for_its_cache_and_nothing_half_is_served(
        self, tmp_path: Path, clock: Clock, first: int
    ) -> None:
        troubles: list[object] = []
        for files in range(first, first + 10):
            folder = tmp_path / str(files)
            folder.mkdir()
            attempt = threading.Thread(target=lambda f=folder, n=files: troubles.append(self._attempt(f, n, clock)))
            attempt.start()
            attempt.join()

        assert troubles == [""] * 10

    def _attempt(self, folder: Path, files: int, clock: Clock) -> str:
        with own_mounts():
            mount("small", os.fspath(folder), "tmpfs", 0, f"nr_inodes={files}")
            bench = Bench(folder, clock)
            results = [bench.run(self.TASK, execution_id=name) for name in ("first", "second")]
            bench.layers.keeper.wait()
            lines = {name: bench.records.messages(LogLevel.INFO, task=name) for name in "abc"}
            if any(
                # The directory is never another one than the children before have left.
                "No such file" in line and bench.child("a").state is State.SUCCESS
                for line in [*lines["b"], *lines["c"]]
            ):
                return f"{files}: lost files: {lines}"
            mount(None, os.fspath(folder), None, 32, "nr_inodes=10000")
            after = bench.run(a_directory(a_shell("look", "find . -type f; cat c/x || true"), cache=self.TASK.cache))
            bench.layers.keeper.wait()
            seen = bench.records.messages(LogLevel.INFO, task="look")
            if after.state is not State.SUCCESS or seen[:1] not in (
                [],
                ["./c/x"],
                ["cat: c/x: No such file or directory"],
            ):
                return f"{files}: {after.state} {seen}"
            if seen[0] == "./c/x" and seen[1] != "2":
                return f"{files}: half: {seen}"
            if any(result.state is State.SUCCESS for result in results) or files > 60:
                said = " ".join(bench.records.messages(LogLevel.INFO, LogLevel.WARN, task="wd"))
                return "" if "Cache" in said else f"{files}: nothing said"
            return ""


class TestWhatIsKept:
    def test_given_modes_links_times_and_empty_folders_then_all_come_back(self, bench: Bench) -> None:
        line = (
            "mkdir -p d/empty d/sub; echo '#!/bin/sh' > d/run; chmod 755 d/run; echo s > d/secret; chmod 600 d/secret;"
            "ln -s run d/link; ln -s sub d/dirlink; ln d/run d/hard; touch -d 2001-02-03T04:05:06.789 d/secret"
        )
        seen: list[object] = []

        def look(context: RunContext) -> Outputs:
            found: dict[str, object] = {}
            for path in sorted((context.working_directory / "d").rglob("*")):
                status = path.lstat()
                found[path.name] = (
                    stat.filemode(status.st_mode),
                    status.st_mtime_ns,
                    os.readlink(path) if path.is_symlink() else "",
                    status.st_nlink,
                )
            seen.append(found)
            return Outputs()

        Calls.functions["look"] = look
        cache = Cache(patterns=["d/**"])
        bench.run(a_directory(a_shell("a", line), Calls(id="look"), cache=cache))
        bench.run(a_directory(Calls(id="look"), cache=cache))

        assert seen[0] == seen[1]
        assert len(seen) == 2

    def test_given_a_virtual_environment_then_it_works_in_the_directory_of_the_next_run(self, bench: Bench) -> None:
        cache = Cache(patterns=["venv/**"])
        make = (
            f"[ -d venv ] || {sys.executable} -m venv --without-pip venv; . venv/bin/activate; command -v python; pwd"
        )

        first = run(bench, make, cache)
        bench.records.entries.clear()
        second = run(bench, make, cache)

        assert first[-2] == f"{first[-1]}/venv/bin/python"
        assert second[-2] == f"{second[-1]}/venv/bin/python"
        assert first[-1] == second[-1]
        assert "unchanged" in told(bench)[-1]

    def test_given_restored_files_then_children_know_them_as_staged(self, bench: Bench) -> None:
        seen: list[frozenset[str]] = []

        def look(context: RunContext) -> Outputs:
            seen.append(context.staged)
            return Outputs()

        Calls.functions["staged"] = look
        run(bench, "mkdir d; touch d/f", Cache(patterns=["d/**"]))
        bench.run(a_directory(Calls(id="staged"), cache=Cache(patterns=["d/**"]), input_files={"in": "x"}))

        assert seen == [frozenset({"d/f", "in"})]

    def test_given_runs_side_by_side_then_each_gets_a_whole_tree(self, bench: Bench) -> None:
        cache = Cache(patterns=["d/**"], ttl="PT1S")
        states: list[State] = []

        def one() -> None:
            line = (
                "mkdir -p d; n=$(ls d | wc -l); [ $n = 0 ] || [ $n = 20 ]; for i in $(seq 20); do echo $$ > d/$i; done"
            )
            states.append(bench.run(a_directory(a_shell("a", line), cache=cache)).state)

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        bench.layers.keeper.wait()

        assert states == [State.SUCCESS] * 8
        assert len(Caches(bench.storage).search()) == 1
