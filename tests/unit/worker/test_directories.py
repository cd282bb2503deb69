"""Private directories and what a crash leaves of them."""

from __future__ import annotations

import stat
from pathlib import Path

from tercel.worker.directories import Directories, remove_tree


class TestMake:
    def test_given_a_base_then_directories_in_it_are_new_empty_and_private(self, tmp_path: Path) -> None:
        directories = Directories(tmp_path / "a" / "base")

        first, second = directories.make(), directories.make()

        assert first != second
        assert first.parent == tmp_path / "a" / "base"
        assert len(first.name) == 22
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        assert list(first.iterdir()) == []

    def test_given_an_engine_area_then_it_is_beside_and_removed_together(self, tmp_path: Path) -> None:
        directories = Directories(tmp_path)
        made = directories.make()
        area = directories.make_engine_area(made)

        assert area == directories.make_engine_area(made) == tmp_path / f"{made.name}.engine"
        assert directories.remove(made, area) == ""
        assert [path.suffix for path in tmp_path.iterdir()] == [".owner"]

    def test_given_the_end_of_the_process_then_nothing_stays(self, tmp_path: Path) -> None:
        directories = Directories(tmp_path)
        directories.remove(directories.make())

        directories.close()

        assert list(tmp_path.iterdir()) == []


class TestSweep:
    def test_given_nothing_then_a_sweep_does_nothing(self, tmp_path: Path) -> None:
        assert Directories(tmp_path / "none").sweep() == []


def test_given_a_base_that_somebody_removed_then_it_is_made_and_claimed_again(tmp_path: Path) -> None:
    directories = Directories(tmp_path / "base")
    directories.make()
    remove_tree(tmp_path / "base")

    made = directories.make()

    assert made.is_dir()
    assert len(list((tmp_path / "base").glob("*.owner"))) == 1
    assert Directories(tmp_path / "base").sweep() == []


def test_given_a_directory_still_in_use_at_the_end_then_another_process_removes_it(tmp_path: Path) -> None:
    directories = Directories(tmp_path)
    made = directories.make()

    directories.close()

    assert Directories(tmp_path).sweep() == [made.name]
    assert list(tmp_path.iterdir()) == []
