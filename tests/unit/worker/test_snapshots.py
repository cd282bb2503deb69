"""What is written down of a directory, child by child."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tercel.layers import LayerStore, Note
from tercel.worker import snapshots as snapshots_module
from tercel.worker.snapshots import Snapshot, Snapshots, Step
from tests.job_runners import a_job, a_shell

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_step(task_id: str, *layers: str, attempt: int = 0, kept: bool = True) -> Step:
    return Step(
        task_id=task_id,
        task_run_id=f"run-of-{task_id}",
        attempt=attempt,
        state="SUCCESS" if kept else "FAILED",
        ended_at=NOON,
        layers=layers,
        kept=kept,
    )


def a_snapshot(*steps: Step, task_run_id: str = "run", **more: object) -> Snapshot:
    snapshot = Snapshot(
        execution_id="execution",
        task_run_id=task_run_id,
        task_id="wd",
        namespace="company.team",
        flow_id="flow",
        path="/at/wd",
        made_at=NOON,
        steps=steps,
    )
    return replace(snapshot, **more)


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.layers = LayerStore(folder / "layers", folder / "at", "copy")
        self.pool = self.layers.pool
        self.snapshots = Snapshots(self.layers)

    def layer(self, size: int = 0) -> str:
        """A layer with so many bytes, that nothing names yet."""
        with self.pool.work() as work:
            layer = work.new_layer()
            Path(self.pool.tree(layer), "f").write_bytes(bytes(size))
            work.keep([layer])
        return layer

    def put(self, *sizes: int, name: str = "run", execution_id: str = "execution", used_at: float = 0.0) -> Snapshot:
        steps = [a_step("a", self.layer(size)) for size in sizes]
        snapshot = a_snapshot(*steps, task_run_id=name, execution_id=execution_id)
        self.snapshots.put(snapshot)
        if used_at:
            os.utime(f"{self.pool.folder}/runs/{execution_id}.{name}", (used_at, used_at))
        return snapshot


@pytest.fixture
def kept(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


class TestSnapshot:
    SNAPSHOT = a_snapshot(
        a_step("a", "a1"),
        a_step("b", "b1", "b2", kept=False),
        a_step("b", "b3", attempt=1),
        a_step("c"),
        cache=("k",),
        inputs=("i1", "i2"),
    )

    def test_given_steps_then_each_found_what_was_kept_before_it(self) -> None:
        assert [self.SNAPSHOT.before(place) for place in range(5)] == [
            ("k", "i1", "i2"),
            ("k", "i1", "i2", "a1"),
            ("k", "i1", "i2", "a1"),
            ("k", "i1", "i2", "a1", "b3"),
            ("k", "i1", "i2", "a1", "b3"),
        ]

    def test_given_steps_then_each_left_its_own_too_though_it_was_not_kept(self) -> None:
        assert self.SNAPSHOT.after(1) == ("k", "i1", "i2", "a1", "b1", "b2")
        assert self.SNAPSHOT.after(3) == ("k", "i1", "i2", "a1", "b3")

    def test_given_steps_then_their_layers_are_all_there_are(self) -> None:
        assert self.SNAPSHOT.layers == ("k", "i1", "i2", "a1", "b1", "b2", "b3")
        assert self.SNAPSHOT.base == ("k", "i1", "i2")

    def test_given_attempts_then_the_last_one_is_the_place_of_a_task(self) -> None:
        assert [self.SNAPSHOT.place_of(task) for task in ("a", "b", "c", "d")] == [0, 2, 3, None]


class TestPutAndFind:
    def test_given_a_snapshot_then_it_is_found_and_a_later_one_takes_its_place(self, kept: Fixture) -> None:
        first = kept.put(1)
        assert kept.snapshots.find("execution", "run") == first

        later = kept.put(1, 2)

        assert kept.snapshots.find("execution", "run") == later
        assert kept.snapshots.find("execution", "other") is None

    def test_given_a_sweep_then_its_layers_stay(self, kept: Fixture) -> None:
        snapshot = kept.put(1)
        kept.layer()

        kept.layers.sweep()

        assert kept.pool.layers() == list(snapshot.layers)

    def test_given_a_layer_that_is_gone_then_there_is_none(self, kept: Fixture) -> None:
        snapshot = kept.put(1, 2)
        kept.pool.discard(snapshot.layers[0])

        assert kept.snapshots.find("execution", "run") is None
        assert kept.snapshots.of_execution("execution") == []

    def test_given_another_boot_then_there_is_none(self, kept: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
        kept.put(1)
        monkeypatch.setattr(snapshots_module, "this_boot", lambda: "another")

        assert kept.snapshots.find("execution", "run") is None

    @pytest.mark.parametrize("body", [b"{}", b"[1]", b'{"executionId":1}'])
    def test_given_a_note_that_says_something_else_then_there_is_none(self, kept: Fixture, body: bytes) -> None:
        import msgspec

        kept.put(1)
        note = kept.pool.runs.get("execution.run")
        assert note is not None
        kept.pool.runs.put("execution.run", Note(note.layers, msgspec.Raw(body), note.boot))

        assert kept.snapshots.find("execution", "run") is None

    def test_given_an_execution_then_all_of_it_are_found_in_order_and_forgotten(self, kept: Fixture) -> None:
        for number, name in enumerate(("z", "a")):
            kept.snapshots.put(a_snapshot(task_run_id=name, made_at=NOON.replace(second=number)))
        other = kept.put(1, execution_id="execution-2")

        assert [one.task_run_id for one in kept.snapshots.of_execution("execution")] == ["z", "a"]
        kept.snapshots.forget("execution")

        assert kept.snapshots.of_execution("execution") == []
        assert kept.snapshots.of_execution("execution-2") == [other]


class TestOtherMachines:
    def test_given_a_store_then_it_is_told_of_what_is_final_and_has_steps(self, kept: Fixture) -> None:
        stored: list[Snapshot] = []
        snapshots = Snapshots(kept.layers, stored.append)
        snapshot = a_snapshot(a_step("a"))

        snapshots.put(a_snapshot())
        snapshots.put(snapshot, is_final=False)
        assert stored == []
        snapshots.put(snapshot)

        assert stored == [snapshot]

    def test_given_none_here_then_the_one_of_another_machine_is_fetched(self, kept: Fixture) -> None:
        job, elsewhere = a_job(a_shell("a", ":")), a_snapshot()
        snapshots = Snapshots(kept.layers, fetch=lambda _: elsewhere)

        assert snapshots.of_job(job) == elsewhere
        mine = kept.put(1)
        assert snapshots.of_job(job) == mine
        assert Snapshots(kept.layers).of_job(job) == mine


class TestEvict:
    def evicted(self, kept: Fixture, **limits: float) -> list[str]:
        values = {"older_than_s": 1e9, "limit_bytes": 1e9, "now_s": 1000.0} | limits
        before = set(kept.pool.runs.names())
        gone = kept.snapshots.evict(
            older_than_s=values["older_than_s"], limit_bytes=int(values["limit_bytes"]), now_s=values["now_s"]
        )
        names = sorted(name.partition(".")[2] for name in before - set(kept.pool.runs.names()))
        assert len(names) == gone
        return names

    def test_given_an_age_then_older_ones_go(self, kept: Fixture) -> None:
        for name, at in (("a", 100.0), ("b", 500.0), ("c", 900.0)):
            kept.put(1, name=name, used_at=at)

        assert self.evicted(kept, older_than_s=500) == ["a"]
        assert self.evicted(kept, older_than_s=499) == ["b"]

    def test_given_a_limit_then_the_oldest_ones_go_until_the_rest_has_room(self, kept: Fixture) -> None:
        for name, at in (("a", 300.0), ("b", 100.0), ("c", 200.0)):
            kept.put(100, name=name, used_at=at)

        assert self.evicted(kept, limit_bytes=300) == []
        assert self.evicted(kept, limit_bytes=299) == ["b"]
        assert self.evicted(kept, limit_bytes=0) == ["a", "c"]

    def test_given_layers_that_a_cache_has_too_then_they_do_not_count(self, kept: Fixture) -> None:
        import msgspec

        snapshot = kept.put(100, used_at=100.0)
        kept.pool.entries.put("entry", Note(snapshot.layers, msgspec.Raw(b"{}")))

        assert self.evicted(kept, limit_bytes=0) == []
        kept.pool.entries.remove("entry")
        assert self.evicted(kept, limit_bytes=0) == ["run"]

    def test_given_it_went_then_its_layers_go_with_the_next_sweep(self, kept: Fixture) -> None:
        kept.put(100, used_at=100.0)
        self.evicted(kept, limit_bytes=0)

        kept.layers.sweep()

        assert kept.pool.layers() == []

    def test_given_layers_that_are_gone_already_then_they_do_not_count(self, kept: Fixture) -> None:
        snapshot = kept.put(100, used_at=100.0)
        kept.pool.discard(snapshot.layers[0])

        assert self.evicted(kept, limit_bytes=0) == []
