"""What every backend of layers owes its users.

The backend is the best one of this machine, or the one that TERCEL_LAYERS names: `test_layers_elsewhere.py` runs this
file again for each of the others.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercel.layers import Facts, LayerError, LayerStore, Note
from tercel.layers.packs import pack_layer, unpack_layer
from tests.job_runners import backend
from tests.trees import an_odd_tree, everything_in


def a_store(folder: Path) -> LayerStore:
    return LayerStore(folder / "layers", folder / "at", backend())


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return a_store(tmp_path)


def made(store: LayerStore, make: Callable[[Path], object], below: Sequence[str] = (), name: str = "flow") -> str:
    """The layer of what *make* does on top of others, kept."""
    with store.directory(name) as directory:
        directory.fill(below)
        make(Path(directory.path))
        layer = directory.freeze()
        assert layer is not None
        directory.keep([layer])
    return layer


def shown(store: LayerStore, layers: Sequence[str], name: str = "flow", **times: bool) -> dict[str, tuple[object, ...]]:
    """What is in a directory of some layers."""
    with store.directory(name) as directory:
        directory.fill(layers)
        return everything_in(Path(directory.path), **times)


def writes(**files: str) -> Callable[[Path], object]:
    return lambda root: [(root / name).write_text(text) for name, text in files.items()]


class TestBackend:
    def test_given_a_wish_then_it_is_the_one_in_use(self, store: LayerStore) -> None:
        assert store.backend == (backend() or store.backend)

    def test_given_a_wish_that_cannot_be_then_it_says_so_and_how_to_go_on(self, tmp_path: Path) -> None:
        impossible: Any = "userns" if os.geteuid() == 0 else "overlay"
        store = LayerStore(tmp_path / "layers", tmp_path / "at", impossible)

        with pytest.raises(LayerError) as refused:
            _ = store.backend

        assert f"by '{impossible}', as TERCEL_LAYERS asks for, are not possible: " in refused.value.message
        assert refused.value.hint == "Leave it out: then the best way that works here is used."


class TestFreeze:
    def test_given_an_odd_tree_when_shown_again_then_it_is_the_same_stat_for_stat(self, store: LayerStore) -> None:
        with store.directory("flow") as directory:
            directory.fill([])
            an_odd_tree(Path(directory.path))
            before = everything_in(Path(directory.path))
            layer = directory.freeze()
            assert layer is not None
            directory.keep([layer])
            assert everything_in(Path(directory.path)) == before

        assert shown(store, [layer]) == before

    def test_given_nothing_changed_then_there_is_no_layer(self, store: LayerStore) -> None:
        layer = made(store, an_odd_tree)

        with store.directory("flow") as directory:
            directory.fill([layer])
            (Path(directory.path) / "bin/run").read_text()

            assert directory.freeze() is None
            assert directory.layers == [layer]

    def test_given_three_steps_then_each_layer_holds_what_its_step_changed(self, store: LayerStore) -> None:
        with store.directory("flow") as directory:
            root = Path(directory.path)
            directory.fill([])
            writes(a="1", b="2")(root)
            first = directory.freeze()
            (root / "a").write_text("1!")
            second = directory.freeze()
            (root / "b").unlink()
            third = directory.freeze()
            assert directory.layers == [first, second, third]
            directory.keep(directory.layers)
            layers = directory.layers

        assert [sorted(shown(store, layers[:count])) for count in range(4)] == [[], ["a", "b"], ["a", "b"], ["a"]]
        assert shown(store, layers)["a"][3] == b"1!"

    def test_given_a_step_that_is_not_kept_then_the_directory_is_as_before(self, store: LayerStore) -> None:
        odd = made(store, an_odd_tree)

        with store.directory("flow") as directory:
            root = Path(directory.path)
            directory.fill([odd])
            before = everything_in(root)
            shutil.rmtree(root / "lib")
            (root / "bin/run").write_text("broken")
            (root / "new").mkdir()
            (root / "secret").chmod(0o644)
            layer = directory.freeze(keep=False)

            assert layer is not None
            assert everything_in(root) == before
            assert directory.layers == [odd]

    def test_given_the_last_step_then_it_is_kept_too(self, store: LayerStore) -> None:
        with store.directory("flow") as directory:
            directory.fill([])
            an_odd_tree(Path(directory.path))
            before = everything_in(Path(directory.path))
            layer = directory.freeze(is_last=True)
            assert layer is not None
            directory.keep([layer])

        assert shown(store, [layer]) == before

    def test_given_a_folder_in_place_of_a_file_and_a_file_in_place_of_a_folder_then_both_are(
        self, store: LayerStore
    ) -> None:
        below = made(store, lambda root: [(root / "f").write_text("1"), (root / "d/in").mkdir(parents=True)])

        def swap(root: Path) -> None:
            (root / "f").unlink()
            (root / "f/deep").mkdir(parents=True)
            shutil.rmtree(root / "d")
            (root / "d").write_text("2")

        layer = made(store, swap, [below])

        assert {name: one[0] for name, one in shown(store, [below, layer]).items()} == {
            "d": "file",
            "f": "folder",
            "f/deep": "folder",
        }

    def test_given_a_folder_removed_and_made_again_then_nothing_of_the_old_one_is_in_it(
        self, store: LayerStore
    ) -> None:
        below = made(store, lambda root: [(root / "d").mkdir(), (root / "d/old").write_text("1")])

        def again(root: Path) -> None:
            shutil.rmtree(root / "d")
            (root / "d").mkdir()
            (root / "d/new").write_text("2")

        layer = made(store, again, [below])

        assert sorted(shown(store, [below, layer])) == ["d", "d/new"]

    def test_given_a_folder_from_below_renamed_then_it_is_there_under_its_new_name(self, store: LayerStore) -> None:
        below = made(store, lambda root: an_odd_tree(root / "odd"))
        before = shown(store, [below])

        layer = made(store, lambda root: renamed(root / "odd", root / "even"), [below])

        after = shown(store, [below, layer])
        assert {f"odd{name[4:]}" for name in after} == set(before)

    def test_given_many_layers_then_they_are_shown_all(self, store: LayerStore) -> None:
        count = 130 if store.backend in {"overlay", "userns"} else 12
        with store.directory("flow") as directory:
            directory.fill([])
            for number in range(count):
                (Path(directory.path) / f"f{number}").touch()
                directory.freeze()

            assert len(list(Path(directory.path).iterdir())) == count


class TestFixedPath:
    def test_given_two_runs_then_the_path_is_the_same_and_nothing_is_there_afterwards(self, store: LayerStore) -> None:
        paths = []
        for _ in range(2):
            with store.directory("flow") as directory:
                directory.fill([])
                paths.append(Path(directory.path))
                assert directory.path == os.path.realpath(directory.path)
                assert Path(directory.path).stat().st_mode & 0o777 == 0o700

        assert paths[0] == paths[1]
        assert not paths[0].exists()

    def test_given_ten_at_once_then_each_sees_its_own_files(self, store: LayerStore) -> None:
        layer = made(store, writes(shared="all"))
        meeting = threading.Barrier(10, timeout=30)
        seen: dict[int, set[str]] = {}

        def one(number: int) -> None:
            with store.directory("flow") as directory:
                directory.fill([layer])
                (Path(directory.path) / f"own-{number}").touch()
                meeting.wait()
                line = subprocess.run(["ls"], cwd=directory.path, capture_output=True, text=True, check=True).stdout
                seen[number] = set(line.split())
                meeting.wait()

        threads = [threading.Thread(target=one, args=(number,)) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert seen == {number: {"shared", f"own-{number}"} for number in range(10)}

    def test_given_another_path_then_files_that_hold_the_old_one_are_changed(self, store: LayerStore) -> None:
        def make(root: Path) -> None:
            (root / "script").write_text(f"#!{root}/bin/python\n")
            (root / "script").chmod(0o755)
            (root / "link").symlink_to(root / "script")
            (root / "binary").write_bytes(b"\0" + os.fsencode(root))

        with store.directory("old") as directory:
            old = directory.path
            directory.fill([])
            make(Path(old))
            layer = directory.freeze()
            assert layer is not None
            directory.keep([layer])

        with store.directory("new") as directory:
            directory.fill([layer], made_at=old)
            root = Path(directory.path)

            assert (root / "script").read_text() == f"#!{root}/bin/python\n"
            assert (root / "script").stat().st_mode & 0o777 == 0o755
            assert os.readlink(root / "link") == str(root / "script")
            assert (root / "binary").read_bytes() == b"\0" + os.fsencode(old)


class TestPacks:
    def test_given_layers_packed_and_unpacked_elsewhere_then_they_show_the_same(self, tmp_path: Path) -> None:
        here, there = a_store(tmp_path / "here"), a_store(tmp_path / "there")
        first = made(here, an_odd_tree)

        def edit(root: Path) -> None:
            (root / "bin/run").unlink()
            shutil.rmtree(root / "lib")
            (root / "lib").mkdir()
            (root / "lib/new").write_text("new")

        second = made(here, edit, [first])
        for layer in (first, second):
            packed = io.BytesIO()
            facts, left_out = pack_layer(here.pool.tree(layer), packed, layer_id=layer, root="/somewhere")
            assert left_out == []

            def fill(tree: str, packed: io.BytesIO = packed, facts: Any = facts) -> Facts:
                unpack_layer(io.BytesIO(packed.getvalue()), tree, facts)
                return Facts(facts.files, facts.bytes)

            there.fetch(layer, fill)

        assert shown(there, [first, second]) == shown(here, [first, second])


class TestSweep:
    def test_given_layers_that_nothing_names_then_they_go_and_others_stay(self, store: LayerStore) -> None:
        named, unnamed = made(store, writes(a="1")), made(store, writes(a="2"))
        store.pool.runs.put("run", Note((named,), _raw(b"{}")))

        store.sweep()

        assert store.pool.layers() == [named]
        assert not store.pool.has(unnamed)

    def test_given_a_directory_in_use_then_nothing_of_it_goes(self, store: LayerStore) -> None:
        layer = made(store, writes(a="1"))

        with store.directory("flow") as directory:
            assert directory.uses([layer]) == set()
            directory.fill([layer])
            (Path(directory.path) / "b").touch()
            directory.freeze()
            store.sweep()

            assert sorted(os.listdir(directory.path)) == ["a", "b"]
        store.sweep()
        assert store.pool.layers() == []

    def test_given_a_process_killed_in_the_middle_then_what_it_left_goes(
        self, store: LayerStore, tmp_path: Path
    ) -> None:
        layer = made(store, an_odd_tree)
        store.pool.runs.put("run", Note((layer,), _raw(b"{}")))
        script = (
            "import sys; from pathlib import Path; import tests.conftest\n"
            "from tests.contract.test_layers import a_store\n"
            "with a_store(Path(sys.argv[1])).directory('flow') as directory:\n"
            "    directory.uses([sys.argv[2]]); directory.fill([sys.argv[2]])\n"
            "    (Path(directory.path) / 'left').touch(); directory.freeze()\n"
            "    print('ready', flush=True); sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path), layer]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        store.sweep()
        assert len(store.pool.layers()) > 1

        process.send_signal(signal.SIGKILL)
        process.communicate()
        store.sweep()

        assert store.pool.layers() == [layer]
        assert os.listdir(f"{store.pool.folder}/work") == []
        assert [name for name in os.listdir(store.places) if not name.startswith(".")] == []
        assert sorted(shown(store, [layer])) == sorted(shown(store, [layer]))


def _raw(text: bytes) -> Any:
    import msgspec

    return msgspec.Raw(text)


def renamed(path: Path, target: Path) -> None:
    """Rename as `mv` does: by copying where the kernel will not."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        subprocess.run(["cp", "-a", os.fspath(path), os.fspath(target)], check=True)
        subprocess.run(["chmod", "-R", "u+w", os.fspath(path)], check=True)
        subprocess.run(["rm", "-r", os.fspath(path)], check=True)


def all_of(root: Path) -> tuple[object, ...]:
    """Everything in a folder, and what it is itself."""
    status = root.stat()
    return status.st_mode, status.st_mtime_ns, everything_in(root)


NAMES = st.sampled_from(["a", "b", "c", "é", "x y"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
EDITS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.binary(max_size=6), st.sampled_from([0o644, 0o755, 0o600])),
    st.tuples(st.just("append"), PATHS, st.binary(min_size=1, max_size=3)),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("link"), PATHS, st.sampled_from(["a", "../b", "nowhere", "/etc/hostname"])),
    st.tuples(st.just("twin"), PATHS, PATHS),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o700, 0o755, 0o711])),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("touch"), PATHS, st.integers(1, 2_000_000_000)),
)


def edit(root: Path, edits: Sequence[tuple[Any, ...]], at_ns: int) -> None:
    """Do what can be done of some edits; what is written has a time of its own, the same wherever it is done."""
    for kind, name, *more in edits:
        path = root / name
        at_ns += 1_000_000_007
        try:
            match kind:
                case "write":
                    path.unlink(missing_ok=True)  # what has another name is not written through
                    path.write_bytes(more[0])
                    path.chmod(more[1])
                case "append":
                    if path.is_symlink() or not path.is_file() or path.stat().st_nlink > 1:
                        continue
                    with path.open("ab") as file:
                        file.write(more[0])
                case "mkdir":
                    path.mkdir(parents=True)
                case "remove":
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                case "link":
                    path.symlink_to(more[0])
                case "twin":
                    # Both made here: what comes from a layer below is another file as soon as it is changed.
                    if not path.exists() and not path.is_symlink() and path != root / more[0]:
                        path.write_bytes(b"twin")
                        os.utime(path, ns=(at_ns, at_ns))
                        os.link(path, root / more[0])
                    continue
                case "chmod":
                    if path.is_dir() and not path.is_symlink():
                        path.chmod(more[0])
                    continue
                case "rename":
                    if path.is_dir() and more[0].startswith(f"{name}/"):
                        continue
                    if not (root / more[0]).exists() and not (root / more[0]).is_symlink():
                        renamed(path, root / more[0])
                    continue
                case _:
                    os.utime(path, ns=(more[0] * 10**9, more[0] * 10**9), follow_symlinks=False)
                    continue
            if path.is_symlink() or path.is_file():
                os.utime(path, ns=(at_ns, at_ns), follow_symlinks=False)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EPERM}:
                raise


def without_own_time(state: tuple[object, ...]) -> tuple[object, ...]:
    """What `all_of` gives, the time of the folder itself apart: where that alone changes, there is no layer."""
    return (state[0], *state[2:])


class TestRandomTrees:
    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    @given(steps=st.lists(st.lists(EDITS, min_size=1, max_size=8), min_size=1, max_size=4))
    def test_given_any_edits_then_layers_show_what_a_plain_folder_would(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[list[tuple[Any, ...]]]
    ) -> None:
        folder = tmp_path_factory.mktemp("random")
        store, mirror = a_store(folder), folder / "mirror"
        mirror.mkdir()
        states: list[tuple[object, ...]] = []
        counts: list[int] = []
        with store.directory("flow") as directory:
            root = Path(directory.path)
            directory.fill([])
            for number, edits in enumerate(steps):
                before = all_of(root)
                edit(root, [*edits, ("remove", "a"), ("write", "z", b"z", 0o644)], 10**18)
                directory.freeze(keep=False)
                assert without_own_time(all_of(root)) == without_own_time(before)

                edit(mirror, edits, (number + 1) * 10**17)
                edit(root, edits, (number + 1) * 10**17)
                assert everything_in(root, with_folder_times=False) == everything_in(mirror, with_folder_times=False)
                state = all_of(root)
                directory.freeze()
                assert all_of(root) == state
                states.append(state)
                counts.append(len(directory.layers))
            directory.keep(directory.layers)
            layers = directory.layers

        for state, count in zip(states, counts, strict=True):
            with store.directory("flow") as directory:
                directory.fill(layers[:count])
                rebuilt = all_of(Path(directory.path))
                assert count == 0 or without_own_time(rebuilt) == without_own_time(state)
        shutil.rmtree(folder)
