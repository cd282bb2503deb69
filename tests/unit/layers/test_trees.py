import os
import tempfile
from pathlib import Path

import pytest

from tercel.layers import LayerStore
from tercel.layers.trees import Changes, FolderStack, LayerError, compare, scan, take_baseline
from tercel.model.globs import Globs

NOBODY = 65534


def packed_by_nobody(root: Path, pool: Path) -> str:
    """Pack a folder in a child process that is not root; give what it found."""
    import hashlib  # noqa: F401 - before the change of user, who may not read the modules

    import xxhash  # noqa: F401 - same
    import zstandard  # noqa: F401 - same

    import tercel.layers.packs  # noqa: F401 - same

    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            store = LayerStore(pool)
            with store.pack(store.look(root, Globs(["**"]))) as packed:
                os.write(write_fd, f"{packed.facts.files} {sorted(packed.unreadable)}".encode())
        except BaseException as error:
            os.write(write_fd, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    os.waitpid(child, 0)
    with os.fdopen(read_fd) as pipe:
        return pipe.read()


class TestScan:
    def test_given_only_some_folders_wanted_then_others_are_not_even_opened(self, tmp_path: Path) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        (tmp_path / "a/b/x").write_text("1")
        (tmp_path / "a/y").write_text("1")
        (tmp_path / "other").chmod(0)

        tree = scan(str(tmp_path), Globs(["a/b/**"]))

        assert (list(tree.entries), list(tree.folders), tree.unreadable) == (["a/b/x"], ["a/b", "a"], [])
        assert tree.bytes == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_given_what_cannot_be_read_when_packed_then_the_rest_is_there_and_it_is_told(self) -> None:
        # Not in tmp_path, whose parents are closed to others.
        with tempfile.TemporaryDirectory() as folder:
            root, pool = Path(folder, "w"), Path(folder, "pool")
            (root / "closed").mkdir(parents=True)
            pool.mkdir()
            for name in ("good", "bad", "closed/in"):
                (root / name).write_text("1")
            for path in (root / "bad", root / "closed"):
                path.chmod(0)
            os.chmod(folder, 0o755)
            os.chown(pool, NOBODY, NOBODY)

            assert packed_by_nobody(root, pool) == "1 ['bad', 'closed']"


class TestCompare:
    def test_given_no_restore_when_compared_then_content_counts_all_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "same").write_text("1")
        (tmp_path / "other").write_text("1")
        globs = Globs(["*"])
        baseline = take_baseline(scan(str(tmp_path), globs))

        for name, content in (("same", "1"), ("other", "2")):
            (tmp_path / name).write_text(content)
            os.utime(tmp_path / name, ns=(1, 1))

        assert compare(baseline, scan(str(tmp_path), globs)) == Changes(changed=("other",))

    def test_given_a_file_that_became_a_link_then_it_has_changed(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("")
        globs = Globs(["*"])
        baseline = take_baseline(scan(str(tmp_path), globs))

        (tmp_path / "x").unlink()
        (tmp_path / "x").symlink_to("y")

        assert compare(baseline, scan(str(tmp_path), globs)).changed == ("x",)


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
