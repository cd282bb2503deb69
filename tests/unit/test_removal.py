"""Removing folders at once, or out of sight first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tercel.removal import Trash, remove_tree
from tests.layers import as_nobody


def a_tree(path: Path) -> Path:
    (path / "d/e").mkdir(parents=True)
    (path / "d/e/f").write_text("x")
    return path


class TestRemoveTree:
    def test_given_links_then_they_are_removed_and_not_followed(self, tmp_path: Path) -> None:
        outside = a_tree(tmp_path / "outside")
        tree = a_tree(tmp_path / "tree")
        (tree / "d/l").symlink_to(outside)
        (tree / "dangling").symlink_to("nowhere")

        remove_tree(tree)

        assert os.listdir(tmp_path) == ["outside"]
        assert (outside / "d/e/f").exists()

    def test_given_nothing_a_file_or_a_link_in_its_place_then_that_goes(self, tmp_path: Path) -> None:
        outside = a_tree(tmp_path / "outside")
        (tmp_path / "file").touch()
        (tmp_path / "link").symlink_to(outside)

        for name in ("none", "file", "link"):
            remove_tree(tmp_path / name)

        assert os.listdir(tmp_path) == ["outside"]
        assert (outside / "d/e/f").exists()

    def test_given_folders_deeper_than_calls_can_be_then_they_go(self, tmp_path: Path) -> None:
        top = tmp_path / "top"
        top.mkdir()
        script = "import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')\nopen('f', 'w').close()"
        subprocess.run([sys.executable, "-c", script], cwd=top, check=True)

        remove_tree(top)

        assert os.listdir(tmp_path) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_given_folders_that_their_owner_may_not_write_then_they_go(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        for folder in tmp_path.parents:
            folder.chmod(folder.stat().st_mode | 0o001)

        def act() -> list[str]:
            tree = a_tree(tmp_path / "tree")
            for name in ("d/e", "d", ""):
                (tree / name).chmod(0o000 if name == "d/e" else 0o500)
            remove_tree(tree)
            return os.listdir(tmp_path)

        assert as_nobody(act) == "[]"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_given_what_is_another_users_then_it_is_refused(self, tmp_path: Path) -> None:
        for folder in (tmp_path, *tmp_path.parents):
            folder.chmod(folder.stat().st_mode | 0o005)
        tree = a_tree(tmp_path / "tree")

        assert as_nobody(lambda: remove_tree(tree)).startswith("PermissionError: ")
        assert (tree / "d/e/f").exists()


class TestTrash:
    def test_given_a_folder_then_it_is_out_of_sight_at_once_and_its_files_go_later(self, tmp_path: Path) -> None:
        trash = Trash(str(tmp_path))
        tree = a_tree(tmp_path / "tree")

        trash.put(str(tree))
        trash.put(str(tmp_path / "none"))

        assert not tree.exists()
        [name] = os.listdir(tmp_path)
        assert name.startswith(".removed-")
        trash.empty()
        assert os.listdir(tmp_path) == []

    def test_given_many_then_no_more_than_wanted_are_emptied_at_once(self, tmp_path: Path) -> None:
        trash = Trash(str(tmp_path))
        for number in range(5):
            trash.put(str(a_tree(tmp_path / str(number))))

        trash.empty(most=2)
        assert len(os.listdir(tmp_path)) == 3
        trash.empty(most=0)
        assert len(os.listdir(tmp_path)) == 3
        trash.empty()
        assert os.listdir(tmp_path) == []

    def test_given_trash_of_a_process_that_died_then_a_sweep_removes_it_and_nothing_else(self, tmp_path: Path) -> None:
        Trash(str(tmp_path)).put(str(a_tree(tmp_path / "tree")))
        a_tree(tmp_path / "kept")

        Trash(str(tmp_path)).sweep()
        Trash(str(tmp_path / "none")).sweep()

        assert os.listdir(tmp_path) == ["kept"]

    def test_given_two_of_the_same_name_then_both_are_out_of_sight(self, tmp_path: Path) -> None:
        trash = Trash(str(tmp_path))
        for _ in range(2):
            trash.put(str(a_tree(tmp_path / "tree")))

        assert len(os.listdir(tmp_path)) == 2
