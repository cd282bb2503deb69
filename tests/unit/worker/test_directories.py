"""Private directories and what a crash leaves of them."""

from __future__ import annotations

import stat
import subprocess
import sys
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


class TestRemoveTree:
    def test_given_links_then_they_are_removed_and_not_followed(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").write_text("1")
        tree = tmp_path / "tree"
        (tree / "d").mkdir(parents=True)
        (tree / "d" / "l").symlink_to(outside)
        (tree / "dangling").symlink_to("nowhere")

        remove_tree(tree)

        assert not tree.exists()
        assert (outside / "kept").exists()

    def test_given_nothing_there_then_it_is_fine(self, tmp_path: Path) -> None:
        remove_tree(tmp_path / "none")

    def test_given_a_file_then_it_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("")
        remove_tree(tmp_path / "f")
        (tmp_path / "l").symlink_to(tmp_path)
        remove_tree(tmp_path / "l")

        assert list(tmp_path.iterdir()) == []


def test_given_a_base_that_somebody_removed_then_it_is_made_and_claimed_again(tmp_path: Path) -> None:
    directories = Directories(tmp_path / "base")
    directories.make()
    remove_tree(tmp_path / "base")

    made = directories.make()

    assert made.is_dir()
    assert len(list((tmp_path / "base").glob("*.owner"))) == 1
    assert Directories(tmp_path / "base").sweep() == []


class TestWhatIsHardToRemove:
    def test_given_folders_deeper_than_calls_can_be_then_they_go(self, tmp_path: Path) -> None:
        top = tmp_path / "top"
        top.mkdir()
        script = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()"
        subprocess.run([sys.executable, "-c", script], cwd=top, check=True)

        remove_tree(top)

        assert list(tmp_path.iterdir()) == []

    def test_given_a_directory_still_in_use_at_the_end_then_another_process_removes_it(self, tmp_path: Path) -> None:
        directories = Directories(tmp_path)
        made = directories.make()

        directories.close()

        assert Directories(tmp_path).sweep() == [made.name]
        assert list(tmp_path.iterdir()) == []
