from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tercel.cli.changes import change_text, shown, totals_text
from tercel.cli.workdir import text_difference
from tercel.layers.changes import Change
from tercel.layers.stacks import Stack


def a_change(
    path: str, what: Literal["created", "changed", "deleted"], size: int = 0, size_before: int = 0, kind: str = "f"
) -> Change:
    return Change(path, what, kind, size, size_before)


class TestShown:
    def test_given_folders_with_something_in_them_then_only_that_is_told(self) -> None:
        changes = [
            a_change("a", "created", kind="d"),
            a_change("a/b", "created", kind="d"),
            a_change("a/b/c", "created"),
            a_change("d", "deleted", kind="d"),
            a_change("e", "changed", kind="d"),
            a_change("e/f", "changed"),
            a_change("g", "created", kind="d"),
            a_change("g/h", "deleted"),
        ]

        assert [one.path for one in shown(changes)] == ["a/b/c", "d", "e", "e/f", "g", "g/h"]


class TestTexts:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (a_change("a", "created", 5), "+ a  5 B"),
            (a_change("a", "changed", 2000, 5), "~ a  5 B → 2.0 kB"),
            (a_change("a", "deleted", 0, 5), "- a"),
            (a_change("a", "created", kind="d"), "+ a/"),
            (a_change("a", "changed", 0, 5, kind="l"), "~ a  5 B → link"),
            (a_change("a\nb\x1b", "deleted"), "- a\\nb\\x1b"),
            (a_change("ä b", "deleted"), "- ä b"),
        ],
    )
    def test_given_a_change_then_its_line(self, change: Change, text: str) -> None:
        assert change_text(change) == text

    def test_given_changes_then_their_number_and_growth(self) -> None:
        changes = [a_change("a", "created", 5), a_change("b", "deleted", 0, 2000), a_change("c", "deleted", 0, 5)]

        assert totals_text(changes) == "1 created, 2 deleted, -2.0 kB"
        assert totals_text([]) == "nothing changed"


class TestTextDifference:
    @pytest.fixture
    def stacks(self, tmp_path: Path) -> tuple[Stack, Stack]:
        for name in ("before", "after"):
            (tmp_path / name).mkdir()
        return Stack([str(tmp_path / "before")]), Stack([str(tmp_path / "after")])

    def difference(self, stacks: tuple[Stack, Stack], before: bytes | None, after: bytes | None) -> str:
        for stack, content in zip(stacks, (before, after), strict=True):
            if content is not None:
                (Path(stack.trees[0]) / "f").write_bytes(content)
        return text_difference(a_change("f", "changed"), *stacks)

    def test_given_text_then_its_lines(self, stacks: tuple[Stack, Stack]) -> None:
        told = self.difference(stacks, b"a\nb\n", b"a\nc")

        assert told == "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n\\ No newline at end of file\n"

    def test_given_odd_line_ends_then_only_line_feeds_count(self, stacks: tuple[Stack, Stack]) -> None:
        told = self.difference(stacks, "a\r\u2028b\n".encode(), None)

        assert told == "--- a/f\n+++ b/f\n@@ -1 +0,0 @@\n-a\r\u2028b\n"

    @pytest.mark.parametrize("content", [b"\xff", b"a\0b", b"x" * (64 * 1024 + 1)])
    def test_given_no_text_or_a_long_one_then_nothing(self, stacks: tuple[Stack, Stack], content: bytes) -> None:
        assert self.difference(stacks, b"a\n", content) == ""
