from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings

from tercel.layers import directories
from tercel.layers.copies import Copied, copy_entries
from tercel.layers.directories import DirectoryState, freeze, put_back
from tercel.layers.stacks import OPAQUE, Stack, marks, read_layer
from tercel.layers.trees import LayerError
from tests.layers import NOBODY, STEPS, Step, as_nobody, everything_shown, take_steps
from tests.trees import an_odd_tree, everything_in

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class World:
    """A directory, and the layers that were made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "work"
        self.root.mkdir()
        self.layers: list[Path] = []
        self.state = DirectoryState.of(self.root)

    def freeze(self, *, takes: bool = False) -> Path | None:
        layer = self.folder / f"pool/{len(self.layers)}/tree"
        state = freeze(self.root, self.state, str(layer), takes=takes)
        assert (state is None) == (not layer.exists())
        if state is None:
            return None
        self.layers.append(layer)
        self.state = state
        return layer

    def put_back(self) -> None:
        self.state = put_back(self.root, self.state, Stack([str(layer) for layer in self.layers]))

    @property
    def last(self) -> list[str]:
        return [f"{entry.kind} {entry.path}" for entry in read_layer(str(self.layers[-1]))]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("takes", [False, True])
class TestFreeze:
    def test_given_an_odd_tree_then_the_layer_shows_it_stat_for_stat(self, world: World, takes: bool) -> None:
        an_odd_tree(world.root)
        before = everything_in(world.root)

        layer = world.freeze(takes=takes)

        assert layer is not None
        assert everything_shown(world.layers) == before
        assert (layer / "lib/sparse").stat().st_blocks * 512 < 1_000_000
        assert layer.stat().st_mode & 0o7777 == world.root.stat().st_mode & 0o7777
        assert layer.stat().st_mtime_ns == world.state.entries[""].mtime_ns

    def test_given_no_change_then_there_is_no_layer(self, world: World, takes: bool) -> None:
        an_odd_tree(world.root)
        world.freeze()
        (world.root / "temporary").touch()
        (world.root / "temporary").unlink()

        assert world.freeze(takes=takes) is None

    def test_given_changes_of_all_kinds_then_the_layer_has_only_them(self, world: World, takes: bool) -> None:
        for name in ("a/b/same", "a/b/changed", "a/gone", "a/folder/in/deep", "was-file", "was-folder/in", "c/same"):
            (world.root / name).parent.mkdir(parents=True, exist_ok=True)
            (world.root / name).write_text("1")
        world.freeze()
        (world.root / "a/b/changed").write_text("22")
        (world.root / "a/gone").unlink()
        shutil.rmtree(world.root / "a/folder")
        (world.root / "was-file").unlink()
        (world.root / "was-file").mkdir()
        (world.root / "was-file/new").write_text("1")
        shutil.rmtree(world.root / "was-folder")
        (world.root / "was-folder").write_text("1")
        (world.root / "c").chmod(0o700)
        before = everything_in(world.root)

        layer = world.freeze(takes=takes)

        assert layer is not None
        assert world.last == [
            "d a", "d a/b", "f a/b/changed", "w a/folder", "w a/gone", "d c", "d was-file", "f was-file/new",
            "f was-folder",
        ]  # fmt: skip
        assert os.getxattr(layer / "was-file", marks() + OPAQUE) == b"y"
        assert everything_shown(world.layers) == before

    def test_given_a_rewrite_that_keeps_size_and_time_then_it_is_seen(self, world: World, takes: bool) -> None:
        (world.root / "x").write_text("1")
        os.utime(world.root / "x", ns=(1, 1))
        world.freeze()

        (world.root / "x").write_text("2")
        os.utime(world.root / "x", ns=(1, 1))
        world.freeze(takes=takes)

        assert (world.layers[-1] / "x").read_text() == "2"

    def test_given_a_folder_made_anew_then_what_it_held_before_is_gone(self, world: World, takes: bool) -> None:
        (world.root / "a/b").mkdir(parents=True)
        (world.root / "a/b/x").write_text("1")
        world.freeze()
        shutil.rmtree(world.root / "a")
        (world.root / "a/b").mkdir(parents=True)
        world.freeze()
        (world.root / "a/b/y").write_text("1")
        before = everything_in(world.root)

        world.freeze(takes=takes)

        assert everything_shown(world.layers) == before
        assert list(before) == ["a", "a/b", "a/b/y"]

    def test_given_pipes_and_sockets_then_they_are_passed_over(self, world: World, takes: bool) -> None:
        (world.root / "was-file").write_text("1")
        world.freeze()
        (world.root / "new").mkdir()
        os.mkfifo(world.root / "new/pipe")
        (world.root / "was-file").unlink()
        os.mkfifo(world.root / "was-file")
        if os.geteuid() == 0:
            os.mknod(world.root / "new/not-deleted", 0o020000, 0)

        world.freeze(takes=takes)

        assert world.last == ["d new", "w was-file"]

    def test_given_a_file_with_a_name_elsewhere_then_writing_there_changes_nothing(
        self, world: World, takes: bool
    ) -> None:
        (world.folder / "cache").write_text("wheel")
        for name in ("venv/lib/x", "venv/y"):
            (world.root / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(world.folder / "cache", world.root / name)
        (world.root / "venv/z").write_text("1")

        layer = world.freeze(takes=takes)
        (world.folder / "cache").write_text("other")

        assert layer is not None
        assert (layer / "venv/y").read_text() == "wheel"
        assert (layer / "venv/y").samefile(layer / "venv/lib/x")

    def test_given_marks_that_a_task_made_then_they_are_none_of_the_layer(self, world: World, takes: bool) -> None:
        (world.root / "a/in").mkdir(parents=True)
        for folder in ("a", "a/in"):
            os.setxattr(world.root / folder, "user.overlay.redirect", b"/../../etc")
            if os.geteuid() == 0:
                os.setxattr(world.root / folder, "trusted.overlay.redirect", b"/../../etc")

        layer = world.freeze(takes=takes)

        assert layer is not None
        assert os.listxattr(layer / "a") == [marks() + OPAQUE]
        assert os.listxattr(layer / "a/in") == []

    @needs_root
    def test_given_what_cannot_be_read_when_not_root_then_the_rest_is_kept_and_it_is_told(self, takes: bool) -> None:
        # Not in tmp_path, whose parents are closed to others.
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)

            def act() -> object:
                world = World(Path(folder))
                for name in ("closed/in", "good", "bad"):
                    (world.root / name).parent.mkdir(exist_ok=True)
                    (world.root / name).write_text("1")
                world.freeze()
                for name in ("bad", "closed"):
                    (world.root / name).chmod(0)
                (world.root / "closed-too").mkdir(0)
                (world.root / "new").write_text("1")
                world.freeze(takes=takes)
                return (
                    sorted(os.listdir(world.layers[-1])),
                    world.state.unreadable,
                    Path(world.layers[-1] / "closed").stat().st_mode & 0o777,
                )

            told = "'closed', 'closed-too'" + ("" if takes else ", 'bad'")
            bad = "'bad', " if takes else ""
            assert as_nobody(act) == f"([{bad}'closed', 'closed-too', 'new'], ({told}), 0)"
            for name in ("work/closed", "work/closed-too"):
                os.chmod(f"{folder}/{name}", 0o700)

    @needs_root
    def test_given_files_of_others_then_their_owners_are_kept(self, world: World, takes: bool) -> None:
        (world.root / "a").mkdir()
        (world.root / "a/x").write_text("1")
        (world.root / "l").symlink_to("x")
        for name in ("a", "a/x", "l"):
            os.chown(world.root / name, NOBODY, 12, follow_symlinks=False)
        (world.root / "a/x").chmod(0o4711)

        world.freeze(takes=takes)

        layer = world.layers[-1]
        assert [(layer / name).lstat().st_uid for name in ("a", "a/x", "l")] == [NOBODY] * 3
        assert [(layer / name).lstat().st_gid for name in ("a", "a/x", "l")] == [12] * 3
        assert (layer / "a/x").stat().st_mode & 0o7777 == 0o4711


class TestFreezeOnly:
    def test_given_a_new_folder_when_taken_then_it_is_moved_whole(self, world: World) -> None:
        (world.root / "venv/bin").mkdir(parents=True)
        (world.root / "venv/bin/python").write_text("1")
        inode = (world.root / "venv").stat().st_ino

        layer = world.freeze(takes=True)

        assert layer is not None
        assert (layer / "venv").stat().st_ino == inode
        assert os.listdir(world.root) == []

    def test_given_another_disk_when_taken_then_files_are_copied(self, world: World) -> None:
        memory = Path("/dev/shm")
        if not memory.is_dir() or memory.stat().st_dev == world.folder.stat().st_dev:
            pytest.skip("there is no second file system at /dev/shm")
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            (world.root / "a").mkdir()
            (world.root / "a/x").write_text("1")
            before = everything_in(world.root)

            freeze(world.root, world.state, f"{folder}/tree", takes=True)

            assert everything_shown([f"{folder}/tree"]) == before

    def test_given_a_file_that_keeps_changing_then_it_is_told_and_there_is_no_layer(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = world.root / "log"
        log.write_text("line\n")
        copied: list[int] = []

        def copy_while_it_is_written(*given: Any, **more: Any) -> Copied:
            done = copy_entries(*given, **more)
            with log.open("a") as file:
                file.write("line\n")
            copied.append(1)
            return done

        with monkeypatch.context() as patched:
            patched.setattr(directories, "copy_entries", copy_while_it_is_written)
            with pytest.raises(LayerError, match="'log' keeps changing while") as caught:
                world.freeze()

        assert caught.value.hint.startswith("A process that a task left behind still writes")
        assert len(copied) > 1
        assert not (world.folder / "pool/0/tree").exists()
        assert world.freeze() is not None

    def test_given_a_layer_that_is_there_then_it_is_not_touched(self, world: World) -> None:
        (world.root / "x").write_text("1")
        (world.folder / "pool/0/tree").mkdir(parents=True)
        (world.folder / "pool/0/tree/theirs").write_text("1")

        with pytest.raises(LayerError, match="tree cannot be made: File exists"):
            world.freeze()

        assert os.listdir(world.folder / "pool/0/tree") == ["theirs"]

    def test_given_a_link_in_the_place_of_the_directory_then_it_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "work").symlink_to("/etc")

        with pytest.raises(LayerError, match="cannot be looked at: Not a directory"):
            DirectoryState.of(tmp_path / "work")


class TestPutBack:
    def test_given_edits_of_all_kinds_when_put_back_then_it_is_as_it_was_and_the_rest_untouched(
        self, world: World
    ) -> None:
        an_odd_tree(world.root)
        (world.root / "bin/same").write_text("1")
        world.freeze()
        before = everything_in(world.root)
        inode = (world.root / "bin/same").stat().st_ino

        shutil.rmtree(world.root / "lib")
        (world.root / "bin/run").write_text("#!/bin/no\necho hi\n")
        os.utime(world.root / "bin/run", ns=(1, -1_500_000_001))
        (world.root / "secret").chmod(0o644)
        (world.root / "empty").rmdir()
        (world.root / "empty").write_text("1")
        (world.root / "dangling").unlink()
        (world.root / "dangling").mkdir()
        (world.root / "dangling/new").write_text("1")
        (world.root / "locked").chmod(0)
        os.mkfifo(world.root / "pipe")
        os.setxattr(world.root / "bin", "user.new", b"1")
        world.put_back()

        assert everything_in(world.root) == before
        assert (world.root / "bin/same").stat().st_ino == inode
        assert world.freeze() is None

    def test_given_nothing_changed_when_put_back_then_nothing_is_touched(self, world: World) -> None:
        an_odd_tree(world.root)
        world.freeze()
        before = world.state.entries

        world.put_back()

        assert world.state.entries == before

    def test_given_many_files_gone_when_put_back_then_all_are_there(self, world: World) -> None:
        (world.root / "a").mkdir()
        for number in range(200):
            (world.root / f"a/{number}").write_text(str(number))
        world.freeze()
        before = everything_in(world.root)

        shutil.rmtree(world.root / "a")
        world.put_back()

        assert everything_in(world.root) == before

    def test_given_layers_that_show_something_else_when_put_back_then_it_is_told(self, world: World) -> None:
        (world.root / "x").write_text("1")
        world.freeze()
        (world.root / "x").unlink()
        (world.layers[0] / "x").unlink()

        with pytest.raises(LayerError, match=r"'x' in .* cannot be put back: it is not in its layers"):
            world.put_back()

    @needs_root
    def test_given_folders_that_were_closed_when_not_root_then_they_are_put_back(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)

            def act() -> object:
                world = World(Path(folder))
                (world.root / "a/b").mkdir(parents=True)
                (world.root / "a/b/x").write_text("1")
                (world.root / "a/b").chmod(0o555)
                world.freeze()
                before = everything_in(world.root)
                (world.root / "a/b").chmod(0o755)
                (world.root / "a/b/x").unlink()
                (world.root / "a/b/y").write_text("1")
                (world.root / "a/b").chmod(0)
                (world.root / "a").chmod(0o100)
                world.put_back()
                return everything_in(world.root) == before

            assert as_nobody(act) == "True"


class TestAnyEdits:
    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(first=STEPS, second=STEPS, third=STEPS)
    @example(
        first=[("file", "a/b", "a", 0o644, 1)],
        second=[("remove", "a", "", 0, 0), ("file", "a", "b", 0o644, 1)],
        third=[("remove", "a", "", 0, 0), ("file", "a/c", "b", 0o644, 1)],
    )
    def test_given_any_edits_then_the_layers_show_the_directory_and_put_it_back(
        self, tmp_path_factory: pytest.TempPathFactory, first: list[Step], second: list[Step], third: list[Step]
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        world = World(folder)
        for edits in (first, second):
            take_steps(world.root, edits)
            world.freeze()
            assert everything_shown(world.layers) == everything_in(world.root)

        before = everything_in(world.root)
        take_steps(world.root, third)
        world.put_back()

        assert everything_in(world.root) == before
        assert world.freeze() is None
        take_steps(world.root, third)
        before = everything_in(world.root)
        world.freeze(takes=True)
        assert everything_shown(world.layers) == before
        shutil.rmtree(folder)
