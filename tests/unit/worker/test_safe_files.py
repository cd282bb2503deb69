"""Writing where others write too."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from tercel.errors import TaskFailedError
from tercel.worker.safe_files import SafeRoot, relative_name, same_content, write_all


class TestRelativeName:
    @pytest.mark.parametrize(
        ("name", "relative"), [("a", "a"), ("/a//b/./c", "a/b/c"), ("./x", "x"), ("a..b", "a..b"), (" ", " ")]
    )
    def test_given_a_name_then_it_is_relative_and_plain(self, name: str, relative: str) -> None:
        assert relative_name(name) == relative

    @pytest.mark.parametrize("name", ["", "/", ".", "..", "a/..", "../a", "a/", "a/.", "a\0"])
    def test_given_a_name_that_is_none_then_it_is_refused(self, name: str) -> None:
        with pytest.raises(TaskFailedError, match="is not a name for a file"):
            relative_name(name)


class TestSafeRoot:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "root"
        folder.mkdir()
        return folder

    def write(self, folder: Path, name: str, content: bytes = b"new") -> None:
        with SafeRoot(folder) as root, root.create(name) as file:
            write_all(file, content)

    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "..", "a//b", "./a"])
    def test_given_a_name_with_steps_then_nothing_is_written(self, folder: Path, name: str) -> None:
        with pytest.raises(TaskFailedError, match="is not a name for a file"):
            self.write(folder, name)

        assert [path.name for path in folder.parent.iterdir()] == ["root"]
        assert list(folder.iterdir()) == []

    def test_given_folders_that_are_not_there_then_they_are_made(self, folder: Path) -> None:
        self.write(folder, "a/b/c")

        assert (folder / "a/b/c").read_bytes() == b"new"

    def test_given_a_file_then_it_is_replaced_and_its_other_name_keeps_the_old(self, folder: Path) -> None:
        (folder / "x").write_text("old")
        os.link(folder / "x", folder / "other")

        self.write(folder, "x")

        assert (folder / "x").read_text() == "new"
        assert (folder / "other").read_text() == "old"

    def test_given_a_link_then_it_is_replaced_and_not_followed(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").write_text("old")
        (folder / "x").symlink_to(tmp_path / "outside")

        self.write(folder, "x")

        assert not (folder / "x").is_symlink()
        assert (tmp_path / "outside").read_text() == "old"

    def test_given_a_link_to_a_folder_outside_then_it_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (folder / "l").symlink_to(tmp_path / "outside")

        with pytest.raises(TaskFailedError, match="'l' is a link that leads out of the working directory"):
            self.write(folder, "l/x")
        assert list((tmp_path / "outside").iterdir()) == []

    def test_given_a_link_to_a_folder_inside_then_the_file_is_written_there(self, folder: Path) -> None:
        (folder / "lib").mkdir()
        (folder / "lib64").symlink_to("lib")

        self.write(folder, "lib64/a/x")

        assert (folder / "lib/a/x").read_text() == "new"

    def test_given_links_in_a_circle_then_it_is_refused(self, folder: Path) -> None:
        (folder / "a").symlink_to("b")
        (folder / "b").symlink_to("a")

        with pytest.raises(TaskFailedError, match=r"is not a folder|leads out"):
            self.write(folder, "a/x")

    def test_given_a_folder_in_the_way_then_it_is_refused(self, folder: Path) -> None:
        (folder / "x").mkdir()

        with pytest.raises(TaskFailedError, match="'x' cannot be written: there is a folder of that name"):
            self.write(folder, "x")

    def test_given_a_file_in_the_way_of_a_folder_then_it_is_refused(self, folder: Path) -> None:
        (folder / "x").write_text("")

        with pytest.raises(TaskFailedError, match="'x' in the working directory is not a folder"):
            self.write(folder, "x/y")

    def test_given_a_name_then_its_existence_is_told_without_following(self, folder: Path) -> None:
        (folder / "dangling").symlink_to("nowhere")
        (folder / "f").write_text("x")

        with SafeRoot(folder) as root:
            assert root.exists("dangling")
            assert root.exists("f")
            assert not root.exists("g")
            assert not root.exists("f/g")
            assert root.open_existing("dangling") is None

    def test_given_no_leak_then_descriptors_are_closed(self, folder: Path) -> None:
        (folder / "lib").mkdir()
        (folder / "l").symlink_to("lib")
        before = len(os.listdir("/dev/fd"))

        for number in range(5):
            self.write(folder, f"l/{number}/x")
            with pytest.raises(TaskFailedError):
                self.write(folder, f"l/{number}/x/y/z")

        assert len(os.listdir("/dev/fd")) == before


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [(b"", b"", True), (b"a", b"", False), (b"", b"a", False), (b"ab", b"ab", True), (b"ab", b"abc", False)],
)
def test_given_two_files_then_their_content_is_compared(left: bytes, right: bytes, same: bool) -> None:
    assert same_content(BytesIO(left), BytesIO(right)) is same
