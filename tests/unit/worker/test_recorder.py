"""Which layer is whose: frozen, written down, and put back."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tercel.layers import LayeredDirectory, LayerError, LayerStore
from tercel.layers import splits as splits_module
from tercel.model.globs import Globs
from tercel.worker.recorder import Recorder
from tercel.worker.snapshots import Snapshot, Snapshots
from tests.job_runners import a_job, a_shell, backend

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Fixture:
    """A directory whose changes are recorded."""

    def __init__(self, folder: Path) -> None:
        self.store = LayerStore(folder / "layers", folder / "at", backend())
        self.snapshots = Snapshots(self.store)
        self.warnings: list[str] = []

    @contextmanager
    def open(self, *, keeps: bool = True) -> Generator[Recorder]:
        with self.store.directory("wd") as directory:
            snapshots = self.snapshots if keeps else None
            recorder = Recorder(a_job(a_shell("wd", ":")), directory, snapshots, lambda: NOON, self.warnings.append)
            directory.fill([])
            yield recorder

    def found(self) -> Snapshot:
        found = self.snapshots.find("execution", "run")
        assert found is not None
        return found

    def shown(self, layers: tuple[str, ...]) -> dict[str, str]:
        """The files of some layers."""
        with self.store.directory("look") as directory:
            directory.fill(layers)
            return files(directory)


def files(directory: LayeredDirectory) -> dict[str, str]:
    root = Path(directory.path)
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def write(recorder: Recorder, **texts: str) -> None:
    for name, text in texts.items():
        path = Path(recorder.directory.path, *name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def end(recorder: Recorder, task: str, *, attempt: int = 0, keep: bool = True, is_last: bool = False) -> None:
    state = "SUCCESS" if keep else "FAILED"
    recorder.end_step(task, f"run-of-{task}", attempt, state, keep=keep, is_last=is_last)


@pytest.fixture
def recorded(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


class TestSteps:
    def test_given_inputs_and_steps_then_what_each_changed_is_found_afterwards(self, recorded: Fixture) -> None:
        with recorded.open() as recorder:
            write(recorder, input="i")
            recorder.inputs_written()
            write(recorder, a="1")
            end(recorder, "a")
            end(recorder, "idle")
            write(recorder, a="2", b="2")
            end(recorder, "b", is_last=True)
            assert [step.task_id for step in recorder.snapshot.steps] == ["a", "idle"]
            recorder.finish()
        recorded.store.sweep()

        snapshot = recorded.found()
        assert [(step.task_id, len(step.layers), step.ended_at) for step in snapshot.steps] == [
            ("a", 1, NOON),
            ("idle", 0, NOON),
            ("b", 1, NOON),
        ]
        assert recorded.shown(snapshot.base) == {"input": "i"}
        assert recorded.shown(snapshot.after(0)) == {"input": "i", "a": "1"}
        assert recorded.shown(snapshot.after(2)) == {"input": "i", "a": "2", "b": "2"}
        assert recorded.warnings == []

    def test_given_an_attempt_that_is_tried_again_then_it_is_put_back_and_its_changes_are_kept_apart(
        self, recorded: Fixture
    ) -> None:
        with recorded.open() as recorder:
            write(recorder, input="i")
            recorder.inputs_written()
            write(recorder, input="spoiled", half="h")
            end(recorder, "a", keep=False)
            assert files(recorder.directory) == {"input": "i"}
            write(recorder, whole="w")
            end(recorder, "a", attempt=1)

        snapshot = recorded.found()
        assert [(step.attempt, step.kept) for step in snapshot.steps] == [(0, False), (1, True)]
        assert recorded.shown(snapshot.after(0)) == {"input": "spoiled", "half": "h"}
        assert recorded.shown(snapshot.after(1)) == {"input": "i", "whole": "w"}

    def test_given_the_last_step_then_its_files_are_there_until_it_is_finished(self, recorded: Fixture) -> None:
        with recorded.open() as recorder:
            recorder.inputs_written()
            write(recorder, a="1")
            end(recorder, "a", is_last=True)

            assert files(recorder.directory) == {"a": "1"}
            recorder.finish()
            recorder.finish()

        assert len(recorded.found().steps) == 1

    def test_given_nobody_keeps_snapshots_then_nothing_stays(self, recorded: Fixture) -> None:
        with recorded.open(keeps=False) as recorder:
            write(recorder, a="1")
            end(recorder, "a")
            assert files(recorder.directory) == {"a": "1"}

        assert recorded.snapshots.find("execution", "run") is None
        assert recorded.store.pool.layers() == []

    def test_given_a_process_that_dies_then_what_ended_before_is_found(self, recorded: Fixture, tmp_path: Path) -> None:
        def live(recorder: Recorder) -> None:
            write(recorder, a="1")
            end(recorder, "a")
            write(recorder, b="2")

        in_another_process(tmp_path, live)
        recorded.store.sweep()

        assert recorded.shown(recorded.found().layers) == {"a": "1"}


class TestTrouble:
    def test_given_what_cannot_be_kept_then_it_is_said_and_is_in_the_next_layer(self, recorded: Fixture) -> None:
        with recorded.open() as recorder:
            recorder.inputs_written()
            write(recorder, a="1")
            freeze = recorder.directory.freeze

            def fail(**_: bool) -> str | None:
                raise LayerError("The disk is full.")

            recorder.directory.freeze = fail  # type: ignore[method-assign]
            end(recorder, "a")
            recorder.directory.freeze = freeze  # type: ignore[method-assign]
            write(recorder, b="2")
            end(recorder, "b")

        assert recorded.warnings == ["The disk is full."]
        snapshot = recorded.found()
        assert [len(step.layers) for step in snapshot.steps] == [0, 1]
        assert recorded.shown(snapshot.layers) == {"a": "1", "b": "2"}

    def test_given_it_cannot_be_put_back_then_that_is_an_error(self, recorded: Fixture) -> None:
        def fail(**_: bool) -> str | None:
            raise LayerError("The disk is full.")

        with recorded.open() as recorder:
            recorder.directory.freeze = fail  # type: ignore[method-assign]

            with pytest.raises(LayerError, match="full"):
                end(recorder, "a", keep=False)
            assert recorder.snapshot.steps == ()

    def test_given_it_cannot_be_written_down_then_it_is_said_and_the_run_goes_on(self, recorded: Fixture) -> None:
        def fail(snapshot: Snapshot, **_: bool) -> None:
            raise OSError(28, "No space left on device")

        with recorded.open() as recorder:
            recorded.snapshots.put = fail  # type: ignore[method-assign]
            write(recorder, a="1")
            end(recorder, "a")

            assert files(recorder.directory) == {"a": "1"}
        assert recorded.warnings == ["What the task changed cannot be written down: No space left on device."]


class TestTake:
    GLOBS = Globs(["c/**"])

    def two_steps(self, recorder: Recorder) -> None:
        write(recorder, input="i", c__in="i")
        recorder.inputs_written()
        write(recorder, a="1", c__a="1")
        end(recorder, "a")
        write(recorder, b="2")
        end(recorder, "b")
        write(recorder, c__in="3", d="3")
        end(recorder, "d", is_last=True)
        recorder.finish()

    ALL = {"input": "i", "a": "1", "b": "2", "d": "3", "c/in": "3", "c/a": "1"}

    def test_given_layers_then_what_the_patterns_take_is_in_others_and_together_they_are_the_same(
        self, recorded: Fixture
    ) -> None:
        with recorded.open() as recorder:
            self.two_steps(recorder)
            taken, layers = recorder.take(self.GLOBS)

        snapshot = recorded.found()
        assert len(taken) == 3
        assert list(snapshot.layers) == layers
        assert snapshot.taken == tuple(taken)
        assert recorded.shown(tuple(taken)) == {"c/in": "3", "c/a": "1"}
        assert recorded.shown(snapshot.layers) == self.ALL
        assert recorded.shown(snapshot.after(0)) == {"input": "i", "a": "1", "c/in": "i", "c/a": "1"}
        recorded.store.sweep()
        assert sorted(recorded.store.pool.layers()) == sorted(layers)

    def test_given_patterns_that_take_nothing_then_all_stays_as_it_was(self, recorded: Fixture) -> None:
        with recorded.open() as recorder:
            self.two_steps(recorder)
            before = recorder.snapshot
            taken, layers = recorder.take(Globs(["nothing/**"]))

        assert (taken, layers) == ([], list(before.layers))
        assert recorded.found() == before

    def test_given_restored_layers_then_nothing_is_taken_from_them(self, recorded: Fixture) -> None:
        with recorded.open() as recorder:
            self.two_steps(recorder)
        cached = recorded.found().layers
        with recorded.open() as recorder:
            recorder.directory.uses(cached)
            recorder.directory.fill(cached)
            recorder.cache_restored(cached, None)
            write(recorder, c__new="n")
            end(recorder, "a", is_last=True)
            recorder.finish()
            taken, layers = recorder.take(self.GLOBS)

        assert layers[: len(cached)] == list(cached)
        assert recorded.shown(tuple(taken)) == {"c/new": "n"}
        assert recorded.shown(cached) == self.ALL

    def test_given_layers_that_a_cache_took_before_then_they_stay_whole_and_are_part_of_it(
        self, recorded: Fixture
    ) -> None:
        with recorded.open() as recorder:
            self.two_steps(recorder)
            first, _ = recorder.take(self.GLOBS)
        snapshot = recorded.found()

        with recorded.open() as recorder:
            recorder.directory.uses(snapshot.layers)
            recorder.directory.fill(snapshot.layers)
            recorder.go_on(snapshot)
            write(recorder, c__new="n", e="e")
            end(recorder, "e", is_last=True)
            recorder.finish()
            second, _ = recorder.take(self.GLOBS)

        assert second[:3] == first
        assert recorded.shown(tuple(first)) == {"c/in": "3", "c/a": "1"}
        assert recorded.shown(tuple(second)) == {"c/in": "3", "c/a": "1", "c/new": "n"}
        assert recorded.shown(recorded.found().layers) == {**self.ALL, "c/new": "n", "e": "e"}

    @pytest.mark.parametrize("failing", [1, 2, 3])
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_given_it_fails_in_the_middle_then_the_snapshot_is_whole(
        self, recorded: Fixture, monkeypatch: pytest.MonkeyPatch, failing: int, when: str
    ) -> None:
        split, calls = splits_module.split_layer, []

        def fail(*arguments: object) -> bool:
            calls.append(1)
            if len(calls) == failing and when == "before":
                raise OSError(28, "No space left on device", "x")
            is_any = split(*arguments)  # type: ignore[arg-type]
            if len(calls) == failing:
                raise OSError(28, "No space left on device", "x")
            return is_any

        monkeypatch.setattr(splits_module, "split_layer", fail)
        with recorded.open() as recorder:
            self.two_steps(recorder)
            with pytest.raises(LayerError, match="No space left"):
                recorder.take(self.GLOBS)
        recorded.store.sweep()

        assert recorded.shown(recorded.found().layers) == self.ALL

    @pytest.mark.parametrize("dying", range(1, 12))
    def test_given_a_process_that_dies_in_the_middle_then_the_snapshot_is_whole_or_gone(
        self, recorded: Fixture, tmp_path: Path, dying: int
    ) -> None:
        def live(recorder: Recorder) -> None:
            self.two_steps(recorder)
            rename, calls = os.rename, []

            def die(*arguments: str, **more: int) -> None:
                calls.append(1)
                if len(calls) == dying:
                    os._exit(9)
                rename(*arguments, **more)

            os.rename = die  # type: ignore[assignment]  # in a process of its own
            recorder.take(self.GLOBS)

        in_another_process(tmp_path, live)
        recorded.store.sweep()

        found = recorded.snapshots.find("execution", "run")
        assert found is None or recorded.shown(found.layers) == self.ALL


def in_another_process(folder: Path, live: Callable[[Recorder], object]) -> None:
    """Record a directory in a process that is gone when *live* is over, without any tidying up."""
    child = os.fork()
    if child == 0:
        try:
            with Fixture(folder).open() as recorder:
                live(recorder)
                os._exit(9)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
