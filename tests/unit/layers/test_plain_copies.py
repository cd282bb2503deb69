from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tercel.layers import plain_copies
from tercel.layers.plain_copies import FEWEST, copy_plain
from tercel.layers.stacks import OPAQUE, REDIRECT, marks
from tests.trees import everything_in


def a_plain_tree(root: Path) -> None:
    """Much in one folder deep down, something beside each on the way, and all that `cp` has to keep."""
    deep = root / "venv/lib/site-packages"
    deep.mkdir(parents=True)
    for number in range(FEWEST):
        folder = deep / f"package-{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.py").write_text(f"{number}")
    (root / "top").write_text("1")
    (root / "venv/-n").write_text("no option")
    (root / "venv/python").symlink_to("/usr/bin/python3")
    (root / "venv/empty").mkdir()
    (root / ("venv/" + os.fsdecode(b"\xff"))).write_text("not UTF-8")
    (deep / "run").write_text("#!/bin/sh")
    (deep / "run").chmod(0o4755)
    os.setxattr(deep / "run", "user.note", b"kept")
    with (deep / "sparse").open("wb") as sparse:
        sparse.truncate(5_000_000)
    os.utime(deep / "run", ns=(1, 123_456_789))
    os.utime(root / "venv/python", ns=(1, 987_654_321), follow_symlinks=False)
    (root / "venv/lib").chmod(0o555)
    os.utime(root / "venv/lib", ns=(1, 5_000_000_001))
    os.utime(deep, ns=(1, 6_000_000_001))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "target").mkdir()
    a_plain_tree(tmp_path / "tree")
    return tmp_path / "tree"


def copied(tree: Path) -> bool:
    return copy_plain(str(tree), str(tree.parent / "target"))


class TestCopyPlain:
    def test_given_a_plain_tree_then_it_is_the_same_stat_for_stat(self, tree: Path) -> None:
        assert copied(tree)

        assert everything_in(tree.parent / "target") == everything_in(tree)
        assert (tree.parent / "target/venv/lib/site-packages/sparse").stat().st_blocks == 0

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda tree: os.mknod(tree / "venv/gone", 0o020000, 0),
            lambda tree: os.mkfifo(tree / "venv/pipe"),
            lambda tree: os.link(tree / "top", tree / "twin"),
            lambda tree: os.setxattr(tree / "venv", marks() + REDIRECT, b"other"),
            lambda tree: os.setxattr(tree / "venv/empty", "user.note", b"1"),
        ],
    )
    def test_given_what_cp_does_not_know_then_nothing_is_copied(
        self, tree: Path, spoil: Callable[[Path], object]
    ) -> None:
        spoil(tree)

        assert not copied(tree)
        assert os.listdir(tree.parent / "target") == []

    def test_given_marks_that_mean_nothing_here_then_they_are_not_copied(self, tree: Path) -> None:
        before = everything_in(tree)
        for folder in ("venv", "venv/empty", "venv/lib/site-packages/package-1"):
            os.setxattr(tree / folder, marks() + OPAQUE, b"y")
            os.setxattr(tree / folder, marks() + "origin", b"")

        assert copied(tree)

        assert everything_in(tree.parent / "target") == before
        found = [path for path in (tree.parent / "target").rglob("*") if path.is_dir() and os.listxattr(path)]
        assert found == []

    def test_given_a_few_files_then_no_program_is_started(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "target").mkdir()
        (tmp_path / "tree/one").write_text("1")

        assert not copied(tmp_path / "tree")

    def test_given_no_cp_of_gnu_then_nothing_is_copied(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = tree.parent / "bin"
        other.mkdir()
        (other / "cp").write_text("#!/bin/sh\necho BusyBox\n")
        (other / "cp").chmod(0o755)
        monkeypatch.setenv("PATH", str(other))
        plain_copies._program.cache_clear()

        assert not copied(tree)

        monkeypatch.undo()
        plain_copies._program.cache_clear()
        assert copied(tree)

    def test_given_a_target_that_is_full_then_it_says_so(self, tree: Path) -> None:
        (tree.parent / "target/top").mkdir()  # in the way of a file

        assert not copied(tree)

    def test_given_the_same_by_cp_alone_then_it_is_the_same(self, tree: Path) -> None:
        assert copied(tree)
        subprocess.run(["cp", "-a", f"{tree}/.", tree.parent / "floor"], check=True)

        assert everything_in(tree.parent / "target") == everything_in(tree.parent / "floor")
