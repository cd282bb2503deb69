from __future__ import annotations

import os
from pathlib import Path

import pytest

from tercel.layers.relocations import Relocation, find_relocatable, relocation_layer
from tercel.layers.stacks import Stack
from tests.layers import everything_shown

LARGE = b"/old\n" * 300_000


def a_tree(root: Path) -> Stack:
    (root / "bin").mkdir(parents=True)
    (root / "bin/script").write_bytes(b"#!/old/bin/python\nhome=/old /old-other /old.engine\n")
    (root / "bin/script").chmod(0o4755)
    os.setxattr(root / "bin/script", "user.note", b"1")
    os.link(root / "bin/script", root / "bin/script-too")
    (root / "binary").write_bytes(b"\0#!/old/bin/python\n")
    (root / "archive").write_bytes(b"#!/old/bin/python\n\0\xff/old")
    (root / "large").write_bytes(b"#!/old/x\n" + LARGE)
    (root / "large-text").write_bytes(b"x\n" + LARGE)
    (root / "only-similar").write_bytes(b"/old-other /older\n")
    (root / os.fsdecode(b"\xff")).write_text("/old\n")
    (root / "inside").symlink_to("/old/script")
    (root / "root").symlink_to("/old")
    (root / "other").symlink_to("/old-other")
    os.utime(root / "bin/script", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "inside", ns=(1, 987_654_321), follow_symlinks=False)
    os.utime(root / "bin", ns=(1, 5))
    (root / "bin").chmod(0o750)
    return Stack([str(root)])


RELOCATABLE = ["archive", "bin/script", "bin/script-too", "inside", "large", "root", "\ufffd"]


def test_given_a_tree_then_what_means_its_root_is_found(tmp_path: Path) -> None:
    assert find_relocatable(a_tree(tmp_path / "a"), "/old") == RELOCATABLE


class TestRelocationLayer:
    def test_given_a_new_root_then_on_top_of_the_stack_exactly_those_files_and_links_are_others(
        self, tmp_path: Path
    ) -> None:
        stack = a_tree(tmp_path / "a")
        before = everything_shown(stack.trees)
        new = tmp_path / "b/tree"

        assert relocation_layer(stack, RELOCATABLE, "/old", "/a/newer", str(new))

        after = everything_shown([*stack.trees, new])
        assert sorted(path for path in after if after[path] != before[path]) == sorted(
            [*RELOCATABLE[:-1], os.fsdecode(b"\xff")]
        )
        assert (new / "bin/script").read_bytes() == b"#!/a/newer/bin/python\nhome=/a/newer /old-other /a/newer.engine\n"
        assert (new / "bin/script").samefile(new / "bin/script-too")
        assert (new / "archive").read_bytes() == b"#!/a/newer/bin/python\n\0\xff/old"
        assert (new / "large").read_bytes() == b"#!/a/newer/x\n" + LARGE
        assert os.readlink(new / "inside") == "/a/newer/script"
        assert os.readlink(new / "root") == "/a/newer"
        for path in after:
            unchanged = [
                index for index in range(len(after[path])) if index not in ({1} if after[path][0] == "link" else {3})
            ]
            assert [after[path][index] for index in unchanged] == [before[path][index] for index in unchanged]
        assert new.stat().st_mtime_ns == (tmp_path / "a").stat().st_mtime_ns

    @pytest.mark.parametrize(
        "paths", [[], ["binary", "only-similar", "other", "large-text"], ["../a/archive", "/etc", "no"]]
    )
    def test_given_nothing_to_change_then_there_is_no_layer(self, tmp_path: Path, paths: list[str]) -> None:
        stack = a_tree(tmp_path / "a")

        assert not relocation_layer(stack, paths, "/old", "/a/newer", str(tmp_path / "b/tree"))

        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("content", "is_all", "expected"),
    [
        (b"x=/old", True, True),
        (b"x=/old", False, False),
        (b"x=/older", True, False),
        (b"#!/old/x\n\xff", True, True),
        (b"#!/bin/sh\n/old\xff", True, False),
        (b"\xff#!/old", True, False),
    ],
)
def test_given_content_then_only_where_it_can_be_replaced_it_is_concerned(
    content: bytes, is_all: bool, expected: bool
) -> None:
    assert Relocation("/old").concerns_content(content, is_all=is_all) is expected
