"""Where a job works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.layers import LayerStore
from tercel.worker.directories import Directories
from tercel.worker.workplace import Workplace
from tests.job_runners import backend


@pytest.fixture
def directories(tmp_path: Path) -> Directories:
    return Directories(tmp_path / "base")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".owner")


class TestDirectory:
    def test_given_nobody_asks_then_nothing_is_made(self, tmp_path: Path, directories: Directories) -> None:
        workplace = Workplace(directories)

        assert workplace.folders == []
        assert workplace.remove() == ""
        assert not (tmp_path / "base").exists()

    def test_given_it_is_asked_for_then_it_is_one_and_gone_afterwards(
        self, tmp_path: Path, directories: Directories
    ) -> None:
        workplace = Workplace(directories)

        assert workplace.directory is workplace.directory
        assert workplace.directory.is_dir()
        assert workplace.folders == [str(workplace.directory)]
        assert workplace.remove() == ""
        assert names(tmp_path / "base") == []

    def test_given_areas_then_they_are_beside_it_apart_and_gone_with_it(
        self, tmp_path: Path, directories: Directories
    ) -> None:
        workplace = Workplace(directories)
        engine, output = workplace.make_engine_area(), workplace.make_output_area()
        again = workplace.make_engine_area()

        assert len({engine, again, output}) == 3
        assert engine.parent == again.parent
        assert engine.parent.parent == output.parent == workplace.directory.parent
        assert workplace.folders == [str(workplace.directory), str(engine.parent), str(output)]
        assert list(workplace.directory.iterdir()) == []
        workplace.remove()
        assert names(tmp_path / "base") == []


class TestLayered:
    def test_given_a_directory_of_layers_then_it_is_that_one_and_whoever_opened_it_closes_it(
        self, tmp_path: Path, directories: Directories
    ) -> None:
        store = LayerStore(tmp_path / "layers", tmp_path / "base" / "at", backend())
        with store.directory("wd") as layered:
            layered.fill([])
            workplace = Workplace(directories, is_shared=True, layered=layered)
            (workplace.directory / "f").write_text("1")
            engine = workplace.make_engine_area()

            assert str(workplace.directory) == layered.path
            assert engine.parent.parent == tmp_path / "base"
            assert workplace.folders == [layered.path, str(engine.parent)]
            assert workplace.remove() == ""

            assert (workplace.directory / "f").read_text() == "1"
            assert not engine.exists()
        assert names(tmp_path / "base") in ([], ["at"])

    def test_given_two_jobs_in_directories_of_layers_then_their_areas_are_apart(
        self, tmp_path: Path, directories: Directories
    ) -> None:
        store = LayerStore(tmp_path / "layers", tmp_path / "base" / "at", "copy")
        with store.directory("one") as one, store.directory("two") as two:
            areas = {Workplace(directories, layered=layered).make_engine_area().parent for layered in (one, two)}

        assert len(areas) == 2


class TestStaged:
    def test_given_what_the_engine_wrote_then_it_is_known(self, directories: Directories) -> None:
        workplace = Workplace(directories)
        assert workplace.staged == frozenset()

        workplace.note_staged("a")

        assert workplace.staged == {"a"}
        assert workplace.restored == frozenset()

    def test_given_a_cache_then_its_files_are_looked_at_when_somebody_asks_and_once(
        self, directories: Directories
    ) -> None:
        looks: list[int] = []

        def paths() -> list[str]:
            looks.append(1)
            return ["a", "b"]

        workplace = Workplace(directories)
        workplace.note_cached(paths)
        workplace.note_staged("b")
        assert looks == []

        assert workplace.staged == {"a", "b"}
        assert workplace.restored == {"a"}
        assert looks == [1]

    def test_given_a_file_written_over_a_restored_one_then_it_is_the_engines(self, directories: Directories) -> None:
        workplace = Workplace(directories)
        workplace.note_cached(lambda: ["a", "b"])
        assert workplace.restored == {"a", "b"}

        workplace.note_staged("a")

        assert workplace.restored == {"b"}
        assert workplace.staged == {"a", "b"}
