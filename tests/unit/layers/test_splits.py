import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tercel.layers.copies import copy_entries
from tercel.layers.splits import settle_layer, split_layer
from tercel.layers.stacks import Entry, Stack, marks, read_layer
from tercel.model.globs import Globs
from tests.stacks import (
    GLOBS,
    KernelLayers,
    Recipe,
    Shown,
    files_in,
    make_by_hand,
    needs_kernel,
    recipes,
    shown,
)

NOBODY = 65534
VENV = Globs(["venv/**"])


def made(folder: Path, *layers: Recipe) -> list[str]:
    return [make_by_hand(folder / str(number), layer, number) for number, layer in enumerate(layers)]


def listed(tree: str) -> list[str]:
    return [f"{entry.kind}{'o' * entry.is_opaque} {entry.path}" for entry in read_layer(tree)]


def taken(globs: Globs, seen: Shown) -> Shown:
    return {path: thing for path, thing in files_in(seen).items() if globs.matches(path)}


def folders_taken(globs: Globs, seen: Shown) -> set[str]:
    folders = {path for path, thing in seen.items() if thing[0] == "d"}
    return {path for path in folders if globs.takes_all_below(path) and globs.may_reach_into(path)}


class TestSplitLayer:
    def test_given_a_folder_of_which_all_is_taken_then_it_is_moved_by_one_rename_and_not_looked_into(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree = make_by_hand(
            tmp_path, (("venv", "o", ""), ("venv/lib/x", "f", "1"), ("venv/w", "w", ""), ("other/y", "f", ""))
        )
        target, before = f"{tmp_path}/target", shown(read_layer(tree))
        scandir, rename, did = os.scandir, os.rename, []
        monkeypatch.setattr(os, "scandir", lambda path: (did.append(f"look {path}"), scandir(path))[1])
        monkeypatch.setattr(os, "rename", lambda old, new: (did.append(f"move {old}"), rename(old, new))[1])

        assert split_layer(tree, target, VENV)
        assert did == [f"look {tree}/", f"move {tree}/venv"]
        monkeypatch.undo()
        assert listed(target) == ["do venv", "d venv/lib", "f venv/lib/x", "w venv/w"]
        assert listed(tree) == ["d other", "f other/y"]
        assert shown([*read_layer(tree), *read_layer(target)]) == before

    @pytest.mark.parametrize("recipe", [(), (("a", "f", ""), ("b/c", "d", ""), ("v", "w", ""), ("d", "o", ""))])
    def test_given_nothing_to_take_then_there_is_no_target_and_all_is_as_before(
        self, tmp_path: Path, recipe: Recipe
    ) -> None:
        tree = make_by_hand(tmp_path, recipe)
        before, mtime_ns = shown(read_layer(tree)), os.stat(tree).st_mtime_ns

        assert not split_layer(tree, f"{tmp_path}/target", VENV)
        assert (shown(read_layer(tree)), os.stat(tree).st_mtime_ns) == (before, mtime_ns)
        assert not os.path.exists(f"{tmp_path}/target")

    def test_given_folders_of_which_a_part_is_taken_then_both_have_them_just_as_they_were(self, tmp_path: Path) -> None:
        tree = make_by_hand(
            tmp_path, (("a/b/x.txt", "f", "1"), ("a/b/y", "f", "2"), ("a/b/l.txt", "l", "y"), ("a/c", "f", "3"))
        )
        folders = [f"{tree}", f"{tree}/a", f"{tree}/a/b"]
        for number, folder in enumerate(folders):
            os.setxattr(folder, "user.note", b"%d" % number)
            os.chmod(folder, [0o2750, 0o1711, 0o555][number])
            os.utime(folder, ns=(0, 1_000_000_001 * number + 7))
        before = [os.stat(folder) for folder in folders]

        assert split_layer(tree, f"{tmp_path}/target", Globs(["a/**/*.txt"]), Stack([]))

        assert listed(f"{tmp_path}/target") == ["d a", "d a/b", "l a/b/l.txt", "f a/b/x.txt"]
        assert listed(tree) == ["d a", "d a/b", "f a/b/y", "f a/c"]
        for root in (tree, f"{tmp_path}/target"):
            for number, old in enumerate(before):
                folder = [root, f"{root}/a", f"{root}/a/b"][number]
                now = os.stat(folder)
                assert (now.st_mode, now.st_mtime_ns, now.st_uid) == (old.st_mode, old.st_mtime_ns, old.st_uid)
                assert os.getxattr(folder, "user.note") == b"%d" % number

    def test_given_an_opaque_folder_of_which_a_part_is_taken_then_the_mark_goes_with_it_as_it_lies_below(
        self, tmp_path: Path
    ) -> None:
        below, tree = made(
            tmp_path,
            (("a/old.txt", "f", ""), ("a/z", "f", "")),
            (("a", "o", ""), ("a/x.txt", "f", ""), ("a/y", "f", "")),
        )
        before = shown(Stack([below, tree]).entries())

        assert split_layer(tree, f"{tmp_path}/target", Globs(["a/*.txt"]))

        assert (listed(f"{tmp_path}/target"), listed(tree)) == (["do a", "f a/x.txt"], ["d a", "f a/y"])
        assert shown(Stack([below, f"{tmp_path}/target", tree]).entries()) == before
        assert list(files_in(shown(Stack([below, f"{tmp_path}/target"]).entries()))) == ["a/x.txt"]

    def test_given_excludes_then_they_stay_and_a_folder_without_any_is_still_moved_as_one(self, tmp_path: Path) -> None:
        tree = make_by_hand(
            tmp_path,
            (("v/a/1", "f", ""), ("v/b/2", "f", ""), ("v/b/no.log", "f", ""), ("v/e", "d", ""), ("v/w", "w", "")),
        )
        inode = os.stat(f"{tree}/v/a").st_ino

        assert split_layer(tree, f"{tmp_path}/target", Globs(["v/**"], exclude=["**/*.log"]))

        assert listed(f"{tmp_path}/target") == [
            "d v",
            "d v/a",
            "f v/a/1",
            "d v/b",
            "f v/b/2",
            "w v/b/no.log",
            "d v/e",
            "w v/w",
        ]
        assert listed(tree) == ["d v", "d v/b", "f v/b/no.log", "w v/w"]
        assert os.stat(f"{tmp_path}/target/v/a").st_ino == inode

    def test_given_files_of_the_engine_then_only_a_pattern_that_names_them_takes_them(self, tmp_path: Path) -> None:
        tree = make_by_hand(tmp_path, ((".kestra/a", "f", ""), ("a", "f", ""), ("b/.kestra/a", "f", "")))

        assert split_layer(tree, f"{tmp_path}/1", Globs(["**"]))
        assert listed(tree) == ["d .kestra", "f .kestra/a"]
        assert split_layer(tree, f"{tmp_path}/2", Globs([".kestra/**"]))
        assert listed(f"{tmp_path}/2") == ["d .kestra", "f .kestra/a"]

    @pytest.mark.parametrize("gone", ["venv", "venv/lib", "venv/lib/x"])
    def test_given_a_whiteout_at_or_in_what_the_patterns_reach_then_both_have_it(
        self, tmp_path: Path, gone: str
    ) -> None:
        cached, tree = made(tmp_path, (("venv/lib/x", "f", ""),), ((gone, "w", ""), ("gone", "w", "")))
        globs = Globs(["venv/**/x", "venv/y"])

        assert split_layer(tree, f"{tmp_path}/target", globs)

        assert f"w {gone}" in listed(tree)
        assert "w gone" not in listed(f"{tmp_path}/target")
        assert files_in(shown(Stack([cached, f"{tmp_path}/target"]).entries())) == {}
        folder = os.path.dirname(f"{tmp_path}/target/{gone}")
        assert os.getxattr(folder, marks() + "origin") == b""

    @pytest.mark.parametrize("kind", ["f", "l"])
    def test_given_a_file_that_stays_where_a_cached_folder_was_then_the_target_hides_the_folder(
        self, tmp_path: Path, kind: str
    ) -> None:
        cached, tree = made(tmp_path, (("venv/lib/x", "f", ""),), (("venv", kind, "x"), ("else", kind, "x")))
        before = shown(Stack([cached, tree]).entries())

        assert split_layer(tree, f"{tmp_path}/target", VENV, Stack([cached]))

        assert listed(f"{tmp_path}/target") == ["w venv"]
        assert shown(Stack([cached, f"{tmp_path}/target", tree]).entries()) == before

    def test_given_what_is_below_then_the_target_hides_only_what_is_there_and_taken(self, tmp_path: Path) -> None:
        below, tree = made(
            tmp_path,
            (("a/y", "f", ""), ("b/x.txt", "f", ""), ("c", "f", ""), ("d/y", "f", "")),
            (("a", "w", ""), ("b", "w", ""), ("c", "f", ""), ("new", "f", ""), ("d", "o", ""), ("e", "w", "")),
        )

        assert split_layer(tree, f"{tmp_path}/target", Globs(["**/x.txt"]), Stack([below]))

        assert listed(f"{tmp_path}/target") == ["w b"]

    def test_given_hard_links_then_those_that_all_move_stay_one_and_others_are_copied_with_all_they_have(
        self, tmp_path: Path
    ) -> None:
        tree = make_by_hand(tmp_path, (("v/1", "f", "a"), ("v/2", "f", "b"), ("w/3", "f", "c"), ("stays", "d", "")))
        for source, name in (("v/1", "v/1b"), ("v/2", "stays/2"), ("v/2", "v/2b"), ("w/3", "v/3")):
            os.link(f"{tree}/{source}", f"{tree}/{name}")
        os.setxattr(f"{tree}/v/2", "user.note", b"1")
        os.utime(f"{tree}/v/2", ns=(0, 123_456_789))
        before, target = shown(read_layer(tree)), tmp_path / "target"
        first, third = os.stat(f"{tree}/v/1").st_ino, os.stat(f"{tree}/v/3").st_ino

        assert split_layer(tree, str(target), Globs(["v/*", "w/**"]))

        status = {name: os.stat(target / name) for name in ("v/1", "v/1b", "v/2", "v/2b", "v/3", "w/3")}
        assert status["v/1"].st_ino == status["v/1b"].st_ino == first
        assert status["v/3"].st_ino == status["w/3"].st_ino == third  # a whole folder moves without a look into it
        assert status["v/2"].st_ino == status["v/2b"].st_ino != os.stat(f"{tree}/stays/2").st_ino
        assert os.getxattr(target / "v/2", "user.note") == b"1"
        assert files_in(shown([*read_layer(tree), *read_layer(str(target))])) == files_in(before)

    @pytest.mark.parametrize("after", range(5))
    def test_given_it_breaks_off_then_nothing_is_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
    ) -> None:
        tree = make_by_hand(tmp_path, tuple((f"{a}/{b}.txt", "f", a + b) for a in "vwx" for b in "12"))
        before, target = shown(read_layer(tree)), f"{tmp_path}/target"
        rename, left = os.rename, iter(range(after))

        def break_off(old: str, new: str) -> None:
            if next(left, None) is None:
                raise OSError("no more")
            rename(old, new)

        monkeypatch.setattr(os, "rename", break_off)
        with pytest.raises(OSError, match="no more"):
            split_layer(tree, target, Globs(["v/**", "w/*.txt", "x/2*", "x/1*"]))
        monkeypatch.undo()

        assert shown([*read_layer(target), *read_layer(tree)]) == before

    @settings(max_examples=40)  # each makes some twenty files
    @given(layers=st.lists(recipes(), max_size=3), top=recipes(), globs=st.sampled_from(GLOBS))
    def test_given_any_layer_and_anything_below_then_the_two_show_what_it_did(
        self, layers: list[Recipe], top: Recipe, globs: Globs
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            *below, tree = made(Path(folder), *layers, top)
            target = f"{folder}/target"
            before, alone = shown(Stack([*below, tree]).entries()), shown(Stack([tree]).entries())

            targets = [target] if split_layer(tree, target, globs) else []

            assert shown(Stack([*below, *targets, tree]).entries()) == before
            assert files_in(shown(Stack(targets).entries())) == taken(globs, alone)
            assert folders_taken(globs, alone) <= shown(Stack(targets).entries()).keys()

    @settings(max_examples=40)  # each makes some twenty files
    @given(layers=st.lists(recipes("ffldwor"), min_size=1, max_size=4), globs=st.sampled_from(GLOBS))
    @example(layers=[(("a/a/x.txt", "f", "a"),), (("a", "r", "b"), ("b/a", "r", "/a"))], globs=GLOBS[1])
    @example(
        layers=[
            (("a/a/x.txt", "f", "a"), ("b/a/a", "f", "a")),
            (("a", "r", "/b/a"), ("b", "o", "a"), ("b/b", "r", "/a")),
        ],
        globs=GLOBS[1],
    )
    def test_given_layers_with_renamed_folders_one_after_the_other_then_what_is_cached_of_them_is_what_they_show(
        self, layers: list[Recipe], globs: Globs
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trees = made(Path(folder), *layers)
            before = shown(Stack(trees).entries())
            run: list[str] = []
            targets: list[str] = []

            for number, tree in enumerate(trees):
                target, below = f"{folder}/target-{number}", Stack(run)
                if split_layer(tree, target, globs, below):
                    settle_layer(target, below, copy_entries)
                    targets.append(target)
                    run.append(target)
                run.append(tree)

            cached = shown(Stack(targets).entries())
            assert shown(Stack(run).entries()) == before
            assert files_in(cached) == taken(globs, before)
            assert folders_taken(globs, before) <= cached.keys()


class TestSettleLayer:
    def test_given_no_renamed_folders_then_nothing_is_done(self, tmp_path: Path) -> None:
        tree = make_by_hand(tmp_path, (("a", "o", ""), ("a/b/c", "f", ""), ("w", "w", "")))
        before = shown(read_layer(tree))

        assert not settle_layer(tree, Stack([]), copy_entries)
        assert shown(read_layer(tree)) == before

    def test_given_renamed_folders_within_each_other_then_the_layer_holds_all_they_show(self, tmp_path: Path) -> None:
        *below, tree = made(
            tmp_path,
            (("a/x", "f", "1"), ("a/in/y", "f", "2"), ("a/in/gone", "f", ""), ("a/q/z", "l", "x"), ("c/e", "d", "")),
            (("a/in/more", "f", "3"),),
            (
                ("a", "w", ""), ("b", "r", "/a"), ("b/x", "f", "new"), ("b/in", "w", ""), ("b/out", "r", "in"),
                ("b/out/gone", "w", ""), ("b/q/own", "f", ""), ("d", "r", "/c"), ("d/e/f", "f", ""),
            ),
        )  # fmt: skip
        os.chmod(f"{tree}/b/q", 0o555)
        before = shown(Stack([*below, tree]).entries())

        assert settle_layer(tree, Stack(below), copy_entries)

        assert shown(Stack([*below, tree]).entries()) == before
        assert listed(tree) == [
            "w a", "do b", "do b/out", "f b/out/more", "f b/out/y", "d b/q", "f b/q/own", "l b/q/z", "f b/x",
            "do d", "d d/e", "f d/e/f",
        ]  # fmt: skip
        assert not settle_layer(tree, Stack(below), copy_entries)
        assert os.listdir(os.path.dirname(tree)) == ["tree"]

    def test_given_nothing_below_where_a_folder_came_from_then_it_is_what_it_is(self, tmp_path: Path) -> None:
        below, tree = made(tmp_path, (("b/hidden", "f", ""),), (("b", "r", "/nowhere"), ("b/x", "f", "")))

        assert settle_layer(tree, Stack([below]), copy_entries)
        assert listed(tree) == ["do b", "f b/x"]

    def test_given_it_breaks_off_then_the_layer_shows_the_same_and_can_be_settled_again(self, tmp_path: Path) -> None:
        below, tree = made(
            tmp_path, (("a/x", "f", "1"), ("a/y/z", "f", "2")), (("a", "w", ""), ("b", "r", "/a"), ("b/y/o", "f", ""))
        )
        stack = Stack([below, tree])
        before = shown(stack.entries())

        def copy_some(entries: Iterable[Entry], target: str) -> None:
            copy_entries(list(entries)[:2], target)
            raise OSError("no more")

        with pytest.raises(OSError, match="no more"):
            settle_layer(tree, Stack([below]), copy_some)
        assert shown(stack.entries()) == before
        assert settle_layer(tree, Stack([below]), copy_entries)
        assert shown(stack.entries()) == before

    @settings(max_examples=40)  # each makes some twenty files
    @given(layers=st.lists(recipes("ffldworr"), min_size=1, max_size=4))
    def test_given_any_layers_then_they_show_the_same_and_need_nothing_below_any_more(
        self, layers: list[Recipe]
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            *below, tree = made(Path(folder), *layers)
            before = shown(Stack([*below, tree]).entries())

            settle_layer(tree, Stack(below), copy_entries)

            assert shown(Stack([*below, tree]).entries()) == before
            assert not any(entry.redirect for entry in read_layer(tree))


RUNS = [
    "mkdir -p venv/lib/p data; echo 1 > venv/lib/p/1; echo 2 > venv/lib/2; echo c > venv/cfg; echo d > data/d;"
    "mkdir build; echo o > build/x.o; echo c > build/x.c; echo n > note; ln venv/cfg venv/cfg-too; ln -s 2 venv/lib/l",
    "mv venv/lib/p venv/lib/q; echo 3 > venv/lib/q/3; rm venv/lib/2; rm -r build; mkdir build; echo p > build/y.o;"
    "mv data moved; echo m > moved/m; echo x >> note",
    "mv venv old; mkdir venv; echo new > venv/new; mv build/y.o .; rm -r build; echo f > build; mv moved/d old/cfg",
    "rm -r old/lib/q; mv old venv/old; chmod 700 venv; rm build; mkdir build; mv y.o build/z.o; mv moved venv/moved",
]


class TestSplitsAndTheKernel:
    @needs_kernel
    @pytest.mark.parametrize(
        "patterns", [["venv/**", "build/*.o"], ["**/*.o", "moved/**", "**/1"], ["old/**", "venv/*"]]
    )
    def test_given_what_children_do_then_the_kernel_shows_the_same_after_split_and_settle(
        self, tmp_path: Path, patterns: list[str]
    ) -> None:
        layers, globs = KernelLayers(tmp_path), Globs(patterns)
        layers.change(*RUNS)
        states = [layers.trees[: number + 1] for number in range(len(RUNS))]
        before = layers.view(*states)
        run: list[str] = []
        targets: list[str] = []

        for number, tree in enumerate(layers.trees):
            target, below = f"{tmp_path}/target-{number}", Stack(run)
            if split_layer(tree, target, globs, below):
                settle_layer(target, below, copy_entries)
                targets.append(target)
                run.append(target)
            run.append(tree)

        states = [run[: run.index(tree) + 1] for tree in layers.trees]
        for target in targets:
            _forget_marks_of_the_kernel(target)  # as none of them is packed
        *after, cached = layers.view(*states, targets)
        assert after == before
        assert files_in(cached) == taken(globs, before[-1])
        assert [shown(Stack(state).entries()) for state in states] == before


def _forget_marks_of_the_kernel(tree: str) -> None:
    for folder, _, _ in os.walk(tree):
        for name in os.listxattr(folder):
            if name.startswith(marks()) and name.removeprefix(marks()) not in {"opaque", "redirect", "origin"}:
                os.removexattr(folder, name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_given_folders_closed_by_their_owner_then_a_user_can_split_and_settle_them_all_the_same() -> None:
    # Not in tmp_path, whose parents are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        marks()  # loads what nobody cannot
        read_fd, write_fd = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                marks.cache_clear()
                os.write(write_fd, repr(_split_and_settled(Path(folder))).encode())
            except BaseException as error:
                os.write(write_fd, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write_fd)
        os.waitpid(child, 0)
        with os.fdopen(read_fd) as pipe:
            found = pipe.read()

    moved = ["d c 555", "d c/v 555", "f c/v/x 644", "f c/y.txt 644", "d r 500", "do r/v 555", "d r/v/b 555"]
    assert found == repr([*moved, "f r/v/b/f 644", "f r/v/g 644", "", "d c 555", "f c/z 644", "d r 500"])


def _split_and_settled(folder: Path) -> list[str]:
    below, tree = made(
        folder,
        (("a/b/f", "f", ""), ("a/g", "f", "")),
        (("c/v/x", "f", ""), ("c/y.txt", "f", ""), ("c/z", "f", ""), ("r/v", "r", "/a"), ("r/v/b", "d", "")),
    )
    for path in ("c/v", "c", "r/v/b", "r/v"):
        os.chmod(f"{tree}/{path}", 0o555)
    os.chmod(f"{tree}/r", 0o500)
    target = f"{folder}/target"
    assert split_layer(tree, target, Globs(["*/v/**", "c/*.txt"]), Stack([below]))
    assert settle_layer(target, Stack([below]), copy_entries)
    described = [
        [
            f"{line} {stat.S_IMODE(entry.status.st_mode):o}"
            for line, entry in zip(listed(root), read_layer(root), strict=True)
        ]
        for root in (target, tree)
    ]
    return [*described[0], "", *described[1]]
