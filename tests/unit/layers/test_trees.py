import os
import tempfile
from pathlib import Path

import pytest

from tercel.layers.trees import FolderStack, LayerError, scan
from tercel.model.globs import Globs
from tests.layers import as_nobody
from tests.trees import an_odd_tree


class TestScan:
    def test_given_only_some_folders_wanted_then_others_are_not_even_opened(self, tmp_path: Path) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        (tmp_path / "a/b/x").write_text("1")
        (tmp_path / "a/y").write_text("1")
        (tmp_path / "other").chmod(0)

        tree = scan(str(tmp_path), Globs(["a/b/**"]))

        assert (list(tree.entries), tree.unreadable) == (["a/b/x"], [])
        assert tree.entries["a/b/x"].st_size == 1

    def test_given_excludes_then_what_they_take_is_left_out(self, tmp_path: Path) -> None:
        an_odd_tree(tmp_path / "a")
        globs = Globs(["bin/**", "lib/**", "*"], exclude=["lib/**", "**/setuid"])

        tree = scan(str(tmp_path / "a"), globs)

        assert sorted(tree.entries) == [
            "bin/link", "bin/run", "dangling", "empty.txt", "outside", "secret", "to-folder",
        ]  # fmt: skip

    def test_given_pipes_then_they_are_passed_over(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        assert scan(str(tmp_path), Globs(["**"])).entries == {}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_given_folders_that_cannot_be_read_then_the_rest_is_there_and_it_is_told(self) -> None:
        # Not in tmp_path, whose parents are closed to others.
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "closed").mkdir()
            for name in ("good", "closed/in"):
                Path(folder, name).write_text("1")
            Path(folder, "closed").chmod(0)
            os.chmod(folder, 0o755)

            def act() -> object:
                tree = scan(folder, Globs(["**"]))
                return list(tree.entries), tree.unreadable

            assert as_nobody(act) == "(['good'], ['closed'])"

    def test_given_a_link_in_the_place_of_the_folder_then_it_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "work").symlink_to("/etc")

        with pytest.raises(LayerError, match="work is no folder any more"):
            scan(str(tmp_path / "work"), Globs(["**"]))


class TestFolderStack:
    def test_given_a_link_in_the_place_of_a_folder_when_opened_then_it_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/out").symlink_to("/etc")

        with FolderStack(tmp_path) as folders, pytest.raises(NotADirectoryError):
            folders.open("a/out")

    @pytest.mark.parametrize("path", ["..", "a/../b", "a//b", "/etc"])
    def test_given_a_path_that_leads_out_when_opened_then_it_is_refused(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "a").mkdir()

        with FolderStack(tmp_path) as folders, pytest.raises(LayerError):
            folders.open(path)

    def test_given_paths_in_any_order_when_opened_then_each_is_the_right_folder(self, tmp_path: Path) -> None:
        with FolderStack(tmp_path) as folders:
            for path in ("a/b/c", "a", "a/x", "", "a/b", "a/b/c", "z"):
                fd = folders.open(path, make=True)
                assert os.fstat(fd).st_ino == (tmp_path / path).stat().st_ino
