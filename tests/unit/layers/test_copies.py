from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tercel.layers.copies import clones, copy_entries, make_whiteout, set_mark, squash
from tercel.layers.relocations import Relocation
from tercel.layers.stacks import OPAQUE, REDIRECT, Entry, Stack, marks, read_layer
from tercel.layers.trees import DamagedEntryError, LayerError
from tests.layers import NOBODY, STEPS, Step, as_nobody, everything_shown, take_steps
from tests.trees import an_odd_tree, everything_in

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def whiteout(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY)
    make_whiteout(path.name, fd)
    os.close(fd)


def mark(folder: Path, name: str, value: bytes) -> None:
    fd = os.open(folder, os.O_RDONLY)
    set_mark(fd, name, value)
    os.close(fd)


def shown(*layers: Path) -> list[Entry]:
    return list(Stack([str(layer) for layer in layers]).entries())


class TestCopyEntries:
    def test_given_an_odd_tree_then_the_copy_is_the_same_stat_for_stat(self, tmp_path: Path) -> None:
        an_odd_tree(tmp_path / "a")
        (tmp_path / "b").mkdir()

        copied = copy_entries(shown(tmp_path / "a"), str(tmp_path / "b"))

        assert everything_in(tmp_path / "b") == everything_in(tmp_path / "a")
        assert (tmp_path / "b/lib/sparse").stat().st_blocks * 512 < 1_000_000
        assert (copied.files, copied.bytes, copied.unreadable) == (15, 12_000_238, ())
        assert copied.method == ("reflink" if clones(str(tmp_path)) else "copy")

    def test_given_enough_for_two_threads_then_all_is_there(self, tmp_path: Path) -> None:
        for number in range(500):
            path = tmp_path / f"a/{number % 20}/{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(number))
        (tmp_path / "a/large").write_bytes(os.urandom(3_000_000))
        (tmp_path / "b").mkdir()

        copied = copy_entries(shown(tmp_path / "a"), str(tmp_path / "b"))

        assert copied.files == 501
        assert everything_in(tmp_path / "b") == everything_in(tmp_path / "a")

    def test_given_folders_that_are_there_then_they_stay_and_get_mode_and_time(self, tmp_path: Path) -> None:
        for name in ("a/d", "b/d"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "a/d/x").write_text("1")
        (tmp_path / "a/d").chmod(0o700)
        (tmp_path / "b/d/mine").write_text("2")
        (tmp_path / "b/d").chmod(0o750)

        copy_entries(shown(tmp_path / "a"), str(tmp_path / "b"))

        assert sorted(os.listdir(tmp_path / "b/d")) == ["mine", "x"]
        assert (tmp_path / "b/d").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "b/d").stat().st_mtime_ns == (tmp_path / "a/d").stat().st_mtime_ns

    @pytest.mark.parametrize("there", ["file", "link", "folder"])
    def test_given_something_else_in_the_place_then_it_is_not_touched(self, tmp_path: Path, there: str) -> None:
        (tmp_path / "a/d").mkdir(parents=True)
        (tmp_path / "a/d/x").write_text("1")
        (tmp_path / "b").mkdir()
        (tmp_path / "elsewhere").mkdir()
        if there == "file":
            (tmp_path / "b/d").write_text("mine")
        elif there == "link":
            (tmp_path / "b/d").symlink_to("../elsewhere")
        else:
            (tmp_path / "b/d/x").mkdir(parents=True)
        before = everything_in(tmp_path / "b", with_folder_times=False)

        with pytest.raises(LayerError, match="cannot be put into"):
            copy_entries(shown(tmp_path / "a"), str(tmp_path / "b"))

        assert everything_in(tmp_path / "b", with_folder_times=False) == before
        assert os.listdir(tmp_path / "elsewhere") == []

    def test_given_a_file_that_shrank_or_went_away_then_it_is_damage(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").write_text("123")
        entries = shown(tmp_path / "a")
        (tmp_path / "a/x").write_text("12")
        for name in "bc":
            (tmp_path / name).mkdir()

        with pytest.raises(DamagedEntryError, match="'x' has not the 3 bytes it had"):
            copy_entries(entries, str(tmp_path / "b"))
        (tmp_path / "a/x").unlink()
        with pytest.raises(DamagedEntryError, match="'x' cannot be read: No such file or directory"):
            copy_entries(entries, str(tmp_path / "c"))

    def test_given_damage_among_many_files_then_the_other_thread_ends_too(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        for number in range(450):
            (tmp_path / f"a/{number}").write_text("1")
        entries = shown(tmp_path / "a")
        (tmp_path / "a/0").unlink()
        (tmp_path / "b").mkdir()

        with pytest.raises(DamagedEntryError, match="'0' cannot be read"):
            copy_entries(entries, str(tmp_path / "b"))

    def test_given_whiteouts_then_they_are_refused_passed_over_or_kept(self, tmp_path: Path) -> None:
        (tmp_path / "a/opaque").mkdir(parents=True)
        (tmp_path / "a/renamed").mkdir()
        whiteout(tmp_path / "a/gone")
        mark(tmp_path / "a/opaque", OPAQUE, b"y")
        mark(tmp_path / "a/renamed", REDIRECT, b"old")
        os.setxattr(tmp_path / "a/opaque", marks() + "origin", b"1")
        entries = list(read_layer(str(tmp_path / "a")))
        for name in "bcd":
            (tmp_path / name).mkdir()

        with pytest.raises(LayerError, match="is a note that 'gone' was deleted, and nothing to copy"):
            copy_entries(entries, str(tmp_path / "b"))
        copy_entries(entries, str(tmp_path / "c"), whiteouts="skip")
        copy_entries(entries, str(tmp_path / "d"), whiteouts="keep")

        assert os.listxattr(tmp_path / "c/opaque") == os.listxattr(tmp_path / "c/renamed") == []
        assert sorted(os.listdir(tmp_path / "c")) == ["opaque", "renamed"]
        assert [entry[:2] + entry[4:] for entry in read_layer(str(tmp_path / "d"))] == [
            ("gone", "w", False, ""), ("opaque", "d", True, ""), ("renamed", "d", False, "old"),
        ]  # fmt: skip
        assert os.listxattr(tmp_path / "d/opaque") == [marks() + OPAQUE]

    def test_given_a_relocation_then_files_and_links_are_changed_on_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/text").write_text("home=/old/x\n")
        (tmp_path / "a/large").write_text("#!/old/bin/python\n" + "/old\n" * 300_000)
        (tmp_path / "a/link").symlink_to("/old/x")
        (tmp_path / "b").mkdir()

        copy_entries(shown(tmp_path / "a"), str(tmp_path / "b"), relocation=Relocation("/old", "/a/newer"))

        assert (tmp_path / "b/text").read_text() == "home=/a/newer/x\n"
        assert (tmp_path / "b/large").read_text() == "#!/a/newer/bin/python\n" + "/old\n" * 300_000
        assert os.readlink(tmp_path / "b/link") == "/a/newer/x"

    @needs_root
    def test_given_files_of_others_then_root_keeps_owners_and_others_lose_setuid(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            source = Path(folder, "a")
            (source / "d").mkdir(parents=True)
            (source / "d/x").write_text("1")
            for name in ("d", "d/x"):
                os.chown(source / name, 12, 13)
            (source / "d/x").chmod(0o4755)
            (source / "l").symlink_to("x")
            os.chown(source / "l", 12, 13, follow_symlinks=False)
            Path(folder, "b").mkdir()

            def act() -> object:
                Path(folder, "c").mkdir()
                copy_entries(shown(source), f"{folder}/c")
                return [oct(Path(folder, "c", name).lstat().st_mode) for name in ("d/x", "d")]

            copy_entries(shown(source), f"{folder}/b")

            assert [Path(folder, "b", name).lstat().st_uid for name in ("d", "d/x", "l")] == [12] * 3
            assert [Path(folder, "b", name).lstat().st_gid for name in ("d", "d/x", "l")] == [13] * 3
            assert Path(folder, "b/d/x").stat().st_mode & 0o7777 == 0o4755
            assert as_nobody(act) == "['0o100755', '0o40755']"

    @needs_root
    def test_given_files_that_cannot_be_read_when_not_root_then_the_rest_is_copied_and_it_is_told(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)

            def act() -> object:
                for name in "ab":
                    Path(folder, name).mkdir()
                for name in ("bad", "good"):
                    Path(folder, "a", name).write_text("123")
                os.link(f"{folder}/a/bad", f"{folder}/a/bad-too")
                Path(folder, "a/bad").chmod(0)
                copied = copy_entries(shown(Path(folder, "a")), f"{folder}/b")
                return copied.unreadable, copied.files, copied.bytes, os.listdir(f"{folder}/b")

            assert as_nobody(act) == "(('bad', 'bad-too'), 1, 3, ['good'])"

    @needs_root
    def test_given_a_read_only_folder_when_not_root_then_what_is_in_it_is_copied(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            an_odd_tree(Path(folder, "a"))
            for path in (Path(folder, "a"), *Path(folder, "a").rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
            (Path(folder, "a/bin/setuid")).chmod(0o4755)

            def act() -> object:
                Path(folder, "b").mkdir()
                copy_entries(shown(Path(folder, "a")), f"{folder}/b")
                return everything_in(Path(folder, "b")) == everything_in(Path(folder, "a"))

            assert as_nobody(act) == "True"


class TestSquash:
    def test_given_layers_then_one_shows_the_same(self, tmp_path: Path) -> None:
        an_odd_tree(tmp_path / "a")
        (tmp_path / "b/lib").mkdir(parents=True)
        whiteout(tmp_path / "b/secret")
        whiteout(tmp_path / "b/lib/deep")
        (tmp_path / "b/empty").mkdir()
        mark(tmp_path / "b/empty", OPAQUE, b"y")
        (tmp_path / "b").chmod(0o750)
        before = everything_shown([tmp_path / "a", tmp_path / "b"])

        squash(Stack([str(tmp_path / "a"), str(tmp_path / "b")]), str(tmp_path / "new/tree"))

        assert everything_shown([tmp_path / "new/tree"]) == before == everything_in(tmp_path / "new/tree")
        assert (tmp_path / "new/tree").stat().st_mode & 0o777 == 0o750
        assert (tmp_path / "new/tree").stat().st_mtime_ns == (tmp_path / "b").stat().st_mtime_ns

    def test_given_a_folder_that_was_renamed_then_what_was_in_it_is_under_its_new_name(self, tmp_path: Path) -> None:
        (tmp_path / "a/old/in").mkdir(parents=True)
        (tmp_path / "a/old/in/x").write_text("1")
        (tmp_path / "b/new").mkdir(parents=True)
        mark(tmp_path / "b/new", REDIRECT, b"old")
        whiteout(tmp_path / "b/old")

        squash(Stack([str(tmp_path / "a"), str(tmp_path / "b")]), str(tmp_path / "c"))

        assert list(everything_in(tmp_path / "c")) == ["new", "new/in", "new/in/x"]
        assert os.listxattr(tmp_path / "c/new") == []

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(steps=STEPS)
    def test_given_any_tree_then_the_copy_is_the_same(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        (folder / "a").mkdir()
        take_steps(folder / "a", steps)

        squash(Stack([str(folder / "a")]), str(folder / "b"))

        assert everything_in(folder / "b") == everything_in(folder / "a")
        shutil.rmtree(folder)


class TestClones:
    def test_given_a_file_system_then_nothing_stays_of_the_trial(self, tmp_path: Path) -> None:
        clones(str(tmp_path))

        assert os.listdir(tmp_path) == []

    def test_given_no_folder_then_it_does_not(self, tmp_path: Path) -> None:
        assert not clones(str(tmp_path / "nothing"))
