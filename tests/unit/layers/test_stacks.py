import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.layers.stacks import Stack, entry_at, marks, read_layer
from tercel.layers.trees import DEEPEST, LayerError
from tests.stacks import PATHS, KernelLayers, Recipe, make_by_hand, needs_kernel, recipes, shown

EDITS = [
    # Made, among others: folders within folders, empty ones, links of both kinds, a name of no text.
    "mkdir -p d/e/f z bin; echo 1 > d/1; echo 2 > d/e/2; echo 3 > d/e/f/3; echo top > top; chmod 750 d/e;"
    "ln -s d/e link; ln -s nowhere dangling; ln d/1 d/also-1; touch -d @1.000000001 d/e/2 z;"
    "mkdir -p keep/in; echo k > keep/in/k; : > empty; chmod 4755 top",
    # Written over, deleted, made again, replaced by another kind of thing, renamed.
    "echo more >> d/1; chmod 700 d/e/f; rm d/e/2; rm -rf keep; mkdir keep; echo new > keep/new; rm -r z; echo z > z;"
    "rm empty; mkdir -p empty/now; mv d/e e; rm link; mkdir link; mv top bin/top; mkfifo pipe",
    # Renamed again, under the same parent and another one, with things in it changed; the old name taken anew.
    "mv e/f e/g; mkdir e/f; echo other > e/f/other; mv e d/again; echo x > d/again/x; rm z; rm -r empty; rm pipe;"
    "echo file > e; mv keep bin/keep; rm bin/keep/new",
    "mv d/again last; rm last/g/3; mv bin/keep keep; rm -r d",
]


def made(folder: Path, *layers: Recipe) -> Stack:
    return Stack([make_by_hand(folder / str(number), layer, number) for number, layer in enumerate(layers)])


def listed(stack: Stack) -> list[str]:
    return [f"{entry.kind} {entry.path}" for entry in stack.entries()]


class TestReadLayer:
    def test_given_all_kinds_then_they_come_by_path_with_their_marks_and_devices_are_passed_over(
        self, tmp_path: Path
    ) -> None:
        tree = make_by_hand(
            tmp_path,
            (
                ("b", "o", ""),
                ("b/x", "f", "12"),
                ("a", "w", ""),
                ("c", "l", "b/x"),
                ("b/r", "r", "/q/p"),
                ("b-", "f", ""),
            ),
        )
        os.mkfifo(f"{tree}/pipe")

        entries = list(read_layer(tree))

        assert [(entry.kind, entry.path) for entry in entries] == [
            ("w", "a"), ("d", "b"), ("f", "b-"), ("d", "b/r"), ("f", "b/x"), ("l", "c"),
        ]  # fmt: skip
        assert [(e.path, e.is_opaque, e.redirect) for e in entries if e.kind == "d"] == [
            ("b", True, ""),
            ("b/r", False, "/q/p"),
        ]
        assert (entries[-1].target, entries[0].target, entries[4].status.st_size) == ("b/x", "", 2)

    def test_given_folders_nested_too_deep_then_it_is_refused(self, tmp_path: Path) -> None:
        deep = tmp_path
        for _ in range(DEEPEST + 2):
            deep /= "d"
            deep.mkdir()

        with pytest.raises(LayerError, match="more than 250 folders within each other"):
            list(read_layer(str(tmp_path)))
        with pytest.raises(LayerError, match="more than 250 folders within each other"):
            list(Stack([str(tmp_path)]).entries())

    @pytest.mark.parametrize("redirect", ["..", "/..", "/a/../../b", "../b", "/", "a/b", "//a", "/a/", "."])
    def test_given_a_mark_that_leads_out_of_the_layers_then_it_counts_for_nothing(
        self, tmp_path: Path, redirect: str
    ) -> None:
        os.setxattr(tmp_path, marks() + "redirect", redirect.encode())

        entry = entry_at(str(tmp_path), "d")

        assert entry is not None
        assert entry.redirect == ""


class TestStack:
    def test_given_no_layers_then_there_is_nothing(self) -> None:
        assert list(Stack([]).entries()) == []
        assert Stack([]).find("a") is None
        assert list(Stack([]).below("a")) == []

    def test_given_two_layers_then_the_upper_one_counts_and_folders_are_one(self, tmp_path: Path) -> None:
        stack = made(
            tmp_path,
            (("a/one", "f", "1"), ("a/two", "f", "2"), ("a/gone", "f", ""), ("f", "f", ""), ("d/x", "f", "")),
            (("a/two", "f", "22"), ("a/gone", "w", ""), ("f/now", "f", ""), ("d", "l", "a"), ("nothing", "w", "")),
        )

        assert listed(stack) == ["d a", "f a/one", "f a/two", "l d", "d f", "f f/now"]
        assert [entry.path for entry in stack.below("a")] == ["a/one", "a/two"]
        assert [stack.find(path) for path in ("a/gone", "d/x", "nothing", "f/x", "x/y")] == [None] * 5
        two = stack.inside("a")("two")
        assert two is not None
        assert two == stack.find("a/two")
        assert (two.path, two.status.st_size) == ("a/two", 2)

    def test_given_an_opaque_folder_then_what_is_below_is_hidden_by_it_and_by_it_only(self, tmp_path: Path) -> None:
        stack = made(
            tmp_path,
            (("a/old", "f", ""), ("b/old", "f", "")),
            (("a", "o", ""), ("a/new", "f", ""), ("b/new", "f", "")),
            (("a/top", "f", ""),),
        )

        assert listed(stack) == ["d a", "f a/new", "f a/top", "d b", "f b/new", "f b/old"]

    def test_given_renamed_folders_then_they_go_on_where_they_came_from(self, tmp_path: Path) -> None:
        stack = made(
            tmp_path,
            (("a/b/1", "f", ""), ("a/b/c/2", "f", "")),
            (("a/b/3", "f", ""),),
            (("a/b", "w", ""), ("n", "r", "/a/b"), ("n/c", "w", ""), ("n/d", "r", "c")),
            (("m", "r", "n"), ("n", "w", ""), ("m/4", "f", "")),
        )

        assert listed(stack) == ["d a", "d m", "f m/1", "f m/3", "f m/4", "d m/d", "f m/d/2"]
        found = stack.find("m/d/2")
        assert found is not None
        assert found.source == f"{stack.trees[0]}/a/b/c/2"

    def test_given_a_folder_both_opaque_and_renamed_then_it_is_opaque_as_for_the_kernel(self, tmp_path: Path) -> None:
        stack = made(tmp_path, (("a/1", "f", ""),), (("b", "r", "/a"), ("b/2", "f", "")))
        os.setxattr(f"{stack.trees[1]}/b", marks() + "opaque", b"y")

        assert listed(stack) == ["d a", "f a/1", "d b", "f b/2"]

    def test_given_a_renamed_folder_whose_parent_is_opaque_then_only_the_whole_path_leads_below(
        self, tmp_path: Path
    ) -> None:
        stack = made(tmp_path, (("a/x/1", "f", ""),), (("a", "o", ""), ("a/y", "r", "x"), ("a/z", "r", "/a/x")))

        assert listed(stack) == ["d a", "d a/y", "d a/z", "f a/z/1"]

    def test_given_a_pipe_then_it_hides_what_is_below_it(self, tmp_path: Path) -> None:
        stack = made(tmp_path, (("a", "f", ""), ("b/c", "f", "")), ())
        os.mkfifo(f"{stack.trees[1]}/a")
        os.mkfifo(f"{stack.trees[1]}/b")

        assert listed(stack) == []
        assert [stack.find(path) for path in ("a", "b", "b/c")] == [None] * 3
        assert list(stack.below("b")) == []

    @given(layers=st.lists(recipes("ffldwor"), min_size=1, max_size=3))
    def test_given_any_layers_then_what_is_listed_is_what_is_found(self, layers: list[Recipe]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            stack = made(Path(folder), *layers)

            entries = shown(stack.entries())

            assert shown(entry for path in {*PATHS, *entries} if (entry := stack.find(path))) == entries
            for path in PATHS[::5]:
                inside = {other: thing for other, thing in entries.items() if other.startswith(f"{path}/")}
                assert shown(stack.below(path)) == inside


class TestStackAndTheKernel:
    @needs_kernel
    def test_given_layers_that_the_kernel_made_then_it_shows_just_what_we_do(self, tmp_path: Path) -> None:
        layers = KernelLayers(tmp_path)
        layers.change(*EDITS)

        views = layers.view(*(layers.trees[: number + 1] for number in range(len(EDITS))))

        for number, view in enumerate(views):
            view = {path: thing for path, thing in view.items() if path != "pipe"}  # noqa: PLW2901 - which we leave out
            assert shown(Stack(layers.trees[: number + 1]).entries()) == view
        assert "last/g" in views[-1]  # renamed four times
        assert any(entry.redirect for tree in layers.trees for entry in read_layer(tree))

    @needs_kernel
    def test_given_a_user_namespace_then_it_shows_just_what_we_do_with_the_marks_of_users(self, tmp_path: Path) -> None:
        layers = KernelLayers(tmp_path, in_user_namespace=True)
        layers.change(*(commands.replace("; mkfifo pipe", "").replace(" rm pipe;", "") for commands in EDITS))

        [(kernel, ours)] = layers.views(layers.trees)

        assert kernel == ours
        assert os.getxattr(f"{layers.trees[1]}/keep", "user.overlay.opaque") == b"y"

    @needs_kernel
    @pytest.mark.parametrize("seed", range(3))
    def test_given_layers_made_by_hand_then_the_kernel_shows_just_what_we_do(self, tmp_path: Path, seed: int) -> None:
        kinds = [
            (("a/b/x", "f", "1"), ("a/c/y", "f", "2"), ("b", "d", ""), ("c", "f", "3")),
            (("a", "o", ""), ("a/d", "r", "/a/b"), ("a/e", "r", "c"), ("c/in", "f", "4")),
            (("a/c", "f", "5"), ("b", "r", "/a"), ("a/d", "w", ""), ("c", "w", "")),
            (("d", "r", "/b/d"), ("c", "r", "/a/b"), ("a", "l", "b"), ("b/q/r", "f", "6")),
        ]
        stack = made(tmp_path, *kinds[seed:], *kinds[:seed])

        assert KernelLayers(tmp_path).view(stack.trees) == [shown(stack.entries())]
