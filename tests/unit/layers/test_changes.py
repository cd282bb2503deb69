from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercel.layers.changes import Change, changes_anything, count, count_layer, layer_changes, stack_changes
from tercel.layers.stacks import Stack
from tercel.model.globs import Globs
from tests.stacks import GLOBS, Recipe, make_by_hand, recipes, shown

STACKS = st.lists(recipes("ffldwor"), max_size=4)


def made(folder: Path, wanted: Sequence[Recipe]) -> list[str]:
    return [make_by_hand(folder / str(place), recipe, place) for place, recipe in enumerate(wanted)]


def difference(before: Stack, after: Stack) -> list[Change]:
    """What is other in one stack than in another, by looking at all there is in both."""
    old, new = shown(before.entries()), shown(after.entries())
    found: list[Change] = []
    for path in sorted({*old, *new}):
        was, now = old.get(path), new.get(path)
        size, size_before = (len(one[3]) if one is not None and one[0] == "f" else 0 for one in (now, was))
        if was is None and now is not None:
            found.append(Change(path, "created", now[0], size, 0))
        elif was is not None and now is None:
            found.append(Change(path, "deleted", was[0], 0, size_before))
        elif was is not None and now is not None and (was[:2], was[3]) != (now[:2], now[3]):
            found.append(Change(path, "changed", now[0], size, size_before))
    return found


class TestLayerChanges:
    @given(wanted=STACKS, top=recipes("ffldwor"))
    @settings(deadline=None)
    def test_given_any_layer_then_its_changes_are_those_of_what_is_seen(
        self, wanted: list[Recipe], top: Recipe
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            *below, tree = made(Path(folder), [*wanted, top])

            changes = layer_changes(tree, Stack(below))

            assert changes == difference(Stack(below), Stack([*below, tree]))


class TestStackChanges:
    @given(shared=STACKS, before=STACKS, after=STACKS)
    @settings(deadline=None)
    def test_given_any_two_stacks_then_they_are_those_of_what_is_seen(
        self, shared: list[Recipe], before: list[Recipe], after: list[Recipe]
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trees = made(Path(folder), [*shared, *before, *after])
            lowest = trees[: len(shared)]
            old = Stack([*lowest, *trees[len(shared) : len(shared) + len(before)]])
            new = Stack([*lowest, *trees[len(shared) + len(before) :]])

            changes = stack_changes(old, new)

            assert changes == difference(old, new)

    def test_given_what_was_undone_then_it_is_no_change(self, tmp_path: Path) -> None:
        first, second, third = made(
            tmp_path, [(("a", "f", "a"),), (("a", "f", "/b/a"), ("b", "f", "a")), (("a", "f", "a"), ("b", "w", ""))]
        )

        assert stack_changes(Stack([first]), Stack([first, second, third])) == []

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_given_a_stack_and_itself_then_there_is_none(self, tmp_path: Path, count: int) -> None:
        stack = Stack(made(tmp_path, [(("a/x.txt", "f", "a"),), (("a", "o", "a"),)][:count]))

        assert stack_changes(stack, stack) == []


class TestOneLayer:
    def test_given_all_kinds_of_edits_then_each_is_told_and_what_is_the_same_is_not(self, tmp_path: Path) -> None:
        below, tree = made(
            tmp_path,
            [
                (
                    ("same", "f", "1"), ("other", "f", "1"), ("mode", "f", "a"), ("link", "l", "x"), ("also", "l", "x"),
                    ("gone/in/it", "f", "12"), ("gone/l", "l", "x"), ("file", "f", "123"), ("folder/in", "f", "1"),
                    ("again/kept", "f", "k"), ("again/lost", "f", "l"), ("d", "d", "a"), ("e", "d", "a"),
                ),
                (
                    ("same", "f", "1"), ("other", "f", "2"), ("mode", "f", "b"), ("link", "l", "y"), ("also", "l", "x"),
                    ("gone", "w", ""), ("file/now", "f", "1"), ("folder", "f", "12"), ("never", "w", ""),
                    ("again", "o", "a"), ("again/kept", "f", "k"), ("again/made", "f", "mm"), ("d", "d", "b"),
                    ("e", "d", "a"), ("n/n", "d", "a"),
                ),
            ],
        )  # fmt: skip
        os.truncate(f"{tree}/mode", 1)
        os.chmod(f"{tree}/mode", 0o600)

        assert layer_changes(tree, Stack([below])) == [
            Change("again/lost", "deleted", "f", 0, 1),
            Change("again/made", "created", "f", 2, 0),
            Change("d", "changed", "d", 0, 0),
            Change("file", "changed", "d", 0, 3),
            Change("file/now", "created", "f", 1, 0),
            Change("folder", "changed", "f", 2, 0),
            Change("folder/in", "deleted", "f", 0, 1),
            Change("gone", "deleted", "d", 0, 0),
            Change("gone/in", "deleted", "d", 0, 0),
            Change("gone/in/it", "deleted", "f", 0, 2),
            Change("gone/l", "deleted", "l", 0, 0),
            Change("link", "changed", "l", 0, 0),
            Change("mode", "changed", "f", 1, 1),
            Change("n", "created", "d", 0, 0),
            Change("n/n", "created", "d", 0, 0),
            Change("other", "changed", "f", 1, 1),
        ]

    def test_given_a_renamed_folder_then_all_in_it_is_deleted_there_and_created_here(self, tmp_path: Path) -> None:
        below, tree = made(
            tmp_path, [(("a/x", "f", "1"), ("a/y", "f", "2")), (("a", "w", ""), ("b", "r", "/a"), ("b/y", "w", ""))]
        )

        changes = layer_changes(tree, Stack([below]))

        assert [f"{what} {path}" for path, what, *_ in changes] == [
            "deleted a", "deleted a/x", "deleted a/y", "created b", "created b/x",
        ]  # fmt: skip

    def test_given_large_files_that_differ_in_the_last_byte_then_it_is_seen(self, tmp_path: Path) -> None:
        below, tree = made(tmp_path, [(("a", "f", ""), ("b", "f", "")), (("a", "f", ""), ("b", "f", ""))])
        for root, last in ((below, b"1"), (tree, b"2")):
            Path(root, "a").write_bytes(bytes(3_000_000) + last)
            Path(root, "b").write_bytes(bytes(3_000_000) + b"1")

        assert [change.path for change in layer_changes(tree, Stack([below]))] == ["a"]

    def test_given_an_empty_layer_then_nothing_below_is_looked_at(self, tmp_path: Path) -> None:
        assert not changes_anything(str(tmp_path), Stack([str(tmp_path / "not-there")]), Globs(["**"]))

    def test_given_folders_that_the_globs_cannot_reach_then_they_are_not_even_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        below, tree = made(
            tmp_path, [(("a/b/x", "f", "1"),), (("a/b/x", "f", "2"), ("a/c/x", "f", ""), ("d", "f", ""))]
        )
        listed: list[str] = []
        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", lambda path: (listed.append(os.path.relpath(path, tree)), scandir(path))[1])

        assert not changes_anything(tree, Stack([below]), Globs(["a/b/*/**", "e"]))
        assert set(listed) == {".", "a", "a/b"}
        assert changes_anything(tree, Stack([below]), Globs(["a/b/*"]))

    @given(wanted=STACKS, top=recipes("ffldwor"), globs=st.sampled_from(GLOBS))
    @settings(deadline=None)
    def test_given_any_globs_then_it_says_whether_they_take_any_of_the_changes(
        self, wanted: list[Recipe], top: Recipe, globs: Globs
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            *trees, tree = made(Path(folder), [*wanted, top])
            below = Stack(trees)
            before = shown(below.entries())

            changes = difference(below, Stack([*trees, tree]))

            def is_taken(path: str, kind: str) -> bool:
                if kind != "d":
                    return globs.matches(path)
                return globs.takes_all_below(path) and globs.may_reach_into(path)

            kinds = [(one.path, kind) for one in changes for kind in {one.kind, *before.get(one.path, one.kind)[:1]}]
            assert changes_anything(tree, below) == bool(changes)
            assert changes_anything(tree, below, globs) == any(is_taken(path, kind) for path, kind in kinds)


class TestCount:
    def test_given_links_and_further_names_then_content_is_counted_once_and_whiteouts_not(self, tmp_path: Path) -> None:
        below, tree = made(
            tmp_path,
            [(("a", "f", "12"), ("d/b", "f", "123"), ("gone", "f", "1")), (("a", "f", "1"), ("gone", "w", ""))],
        )
        os.link(f"{below}/d/b", f"{below}/d/c")
        os.symlink("somewhere", f"{tree}/link")

        assert count(Stack([below, tree])) == (4, 4)
        assert (count_layer(below), count_layer(tree), count(Stack([]))) == ((4, 6), (2, 1), (0, 0))
