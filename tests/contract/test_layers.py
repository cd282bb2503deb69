"""What every layer store owes its users; a new backend joins by one line in `STORES`."""

import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercel.errors import NotFoundError
from tercel.layers import DamagedEntryError, LayerError, LayerStore, Restored
from tercel.model.globs import Globs
from tercel.model.packs import PackedTree
from tercel.storage.caches import CacheEntry, CacheKey, Caches, this_platform
from tercel.storage.local import LocalStorage
from tests.trees import an_odd_tree, everything_in

STORES: dict[str, Callable[[Path], LayerStore]] = {
    "copies": lambda folder: LayerStore(folder / "pool"),
}
ALL = Globs(["**"])


class Shelf:
    """Stands for internal storage: packed trees by name, each with a version."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.fetched = 0

    def version(self, facts: PackedTree) -> str:
        return str(hash(self.content[facts.sha256]))

    def fetch(self, facts: PackedTree) -> Callable[[], BinaryIO]:
        def fetch() -> BinaryIO:
            self.fetched += 1
            return io.BytesIO(self.content[facts.sha256])

        return fetch


@pytest.fixture(params=STORES)
def make_store(request: pytest.FixtureRequest) -> Callable[[Path], LayerStore]:
    return STORES[request.param]


@pytest.fixture
def store(make_store: Callable[[Path], LayerStore], tmp_path: Path) -> LayerStore:
    return make_store(tmp_path)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def save(store: LayerStore, shelf: Shelf, root: Path, globs: Globs = ALL, *, keep: bool = False) -> PackedTree:
    with store.pack(store.look(root, globs)) as packed:
        shelf.content[packed.facts.sha256] = Path(packed.file).read_bytes()
        if keep:
            assert packed.keep(shelf.version(packed.facts))
    return packed.facts


def restore(store: LayerStore, shelf: Shelf, facts: PackedTree, root: Path, only: Globs | None = None) -> Restored:
    root.mkdir(exist_ok=True)
    return store.restore(facts, shelf.version(facts), shelf.fetch(facts), root, only)


class TestRestore:
    @pytest.mark.parametrize("keep", [False, True])
    def test_given_an_odd_tree_when_restored_then_it_is_the_same_stat_for_stat(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path, keep: bool
    ) -> None:
        an_odd_tree(tmp_path / "a")
        before = everything_in(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a", keep=keep)

        restored = restore(store, shelf, facts, tmp_path / "b")

        assert everything_in(tmp_path / "b") == before
        assert restored.was_local is keep
        assert (tmp_path / "b/lib/sparse").stat().st_blocks * 512 < 1_000_000
        assert (restored.files, facts.files) == (15, 15)

    def test_given_a_hit_when_restored_again_then_nothing_is_fetched(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")

        restore(store, shelf, facts, tmp_path / "b")
        (tmp_path / "b/secret").write_text("changed in place")
        restored = restore(store, shelf, facts, tmp_path / "c")

        assert shelf.fetched == 1
        assert restored.was_local
        assert everything_in(tmp_path / "c") == everything_in(tmp_path / "a")

    def test_given_other_patterns_when_restored_then_only_what_they_take(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")

        restore(store, shelf, facts, tmp_path / "b", only=Globs(["bin/**", "lib/secret*"]))

        assert sorted(everything_in(tmp_path / "b")) == [
            "bin", "bin/link", "bin/run", "bin/setuid", "lib", "lib/secret-too",
        ]  # fmt: skip
        assert (tmp_path / "b/lib/secret-too").read_bytes() == (tmp_path / "a/secret").read_bytes()
        assert (tmp_path / "b/lib/secret-too").stat().st_nlink == 1

    def test_given_a_file_with_a_name_elsewhere_when_kept_then_writing_there_changes_nothing(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "global-cache").write_text("wheel")
        os.link(tmp_path / "global-cache", tmp_path / "a/x")
        facts = save(store, shelf, tmp_path / "a", keep=True)

        (tmp_path / "global-cache").write_text("other")
        restore(store, shelf, facts, tmp_path / "b")

        assert (tmp_path / "b/x").read_text() == "wheel"

    def test_given_many_at_once_then_each_gets_a_whole_tree(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        before = everything_in(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")
        errors: list[BaseException] = []

        def run(number: int) -> None:
            try:
                restore(store, shelf, facts, tmp_path / f"run-{number}")
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert all(everything_in(tmp_path / f"run-{number}") == before for number in range(6))

    def test_given_a_directory_on_another_disk_when_kept_then_it_stays_as_it_was(
        self, store: LayerStore, shelf: Shelf
    ) -> None:
        memory = Path("/dev/shm")
        if not memory.is_dir() or memory.stat().st_dev == Path(store.pool.make()).stat().st_dev:
            pytest.skip("there is no second file system at /dev/shm")
        root = memory / f"tercel-test-{os.getpid()}"
        root.mkdir()
        try:
            (root / "x").write_text("1")
            with store.pack(store.look(root, ALL)) as packed:
                assert not packed.keep("v")
            assert (root / "x").read_text() == "1"
        finally:
            shutil.rmtree(root)


class TestDamage:
    @pytest.mark.parametrize("kind", ["garbage", "truncated", "flipped", "empty", "longer"])
    @pytest.mark.parametrize("was_local", [False, True])
    def test_given_a_damaged_object_when_restored_then_it_says_so_and_leaves_nothing(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path, kind: str, was_local: bool
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a", keep=was_local)
        good = shelf.content[facts.sha256]
        flipped = bytearray(good)
        flipped[len(good) // 2] ^= 1
        shelf.content[facts.sha256] = {
            "garbage": b"not a pack" * 100,
            "truncated": good[: len(good) // 2],
            "flipped": bytes(flipped),
            "empty": b"",
            "longer": good + b"x",
        }[kind]

        with pytest.raises(DamagedEntryError, match=f"The stored tree {facts.sha256[:12]} is damaged"):
            restore(store, shelf, facts, tmp_path / "b")

        assert list((tmp_path / "b").iterdir()) == []
        shelf.content[facts.sha256] = good
        restore(store, shelf, facts, tmp_path / "b")
        assert (tmp_path / "b/empty").is_dir()

    def test_given_a_hole_in_the_local_tier_when_restored_then_the_object_is_fetched_again(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")
        restore(store, shelf, facts, tmp_path / "b")
        pooled = Path(store.pool.folder, facts.sha256, "tree")
        (pooled / "secret").write_bytes(b"shorter")
        (pooled / "lib/large.bin").unlink()

        restored = restore(store, shelf, facts, tmp_path / "c")

        assert everything_in(tmp_path / "c") == everything_in(tmp_path / "a")
        assert not restored.was_local

    @pytest.mark.parametrize(
        "members",
        [
            [("../x", "file")],
            [("/tmp/tercel-evil", "file")],
            [("a", "link to .."), ("a/x", "file")],
            [("a", "link to /tmp"), ("a/x", "file")],
            [("a", "name of /etc/passwd")],
            [("a", "name of ../../x")],
            [("a", "device")],
            [("a", "fifo")],
            [("a/../../x", "file")],
            [("a", "file"), ("a", "file")],
            [("b/c", "file")],
        ],
    )
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_given_a_hostile_pack_with_the_right_checksum_when_restored_then_nothing_is_written_outside(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path, members: list[tuple[str, str]], form: int
    ) -> None:
        facts = hostile(shelf, members, form)
        (tmp_path / "x").write_text("mine")

        with pytest.raises(DamagedEntryError):
            restore(store, shelf, facts, tmp_path / "b")

        assert (tmp_path / "x").read_text() == "mine"
        assert not Path("/tmp/tercel-evil").exists()
        assert list((tmp_path / "b").iterdir()) == []
        assert [name for name in os.listdir(store.pool.folder) if name.startswith(".")] == []

    def test_given_a_pack_that_holds_more_than_it_should_when_restored_then_it_stops(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        with (tmp_path / "a/bomb").open("wb") as bomb:
            bomb.truncate(200_000_000)
        facts = save(store, shelf, tmp_path / "a")
        claimed = PackedTree(sha256=facts.sha256, files=1, bytes=1000, packed_bytes=facts.packed_bytes, root="/r")

        with pytest.raises(DamagedEntryError, match="it holds more than it should"):
            restore(store, shelf, claimed, tmp_path / "b")


def hostile(shelf: Shelf, members: list[tuple[str, str]], form: int) -> PackedTree:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.mtime = 1.5
            if kind == "file":
                member.size = 4
            elif kind.startswith("link to "):
                member.type, member.linkname = tarfile.SYMTYPE, kind.removeprefix("link to ")
            elif kind.startswith("name of "):
                member.type, member.linkname = tarfile.LNKTYPE, kind.removeprefix("name of ")
            else:
                member.type = tarfile.CHRTYPE if kind == "device" else tarfile.FIFOTYPE
            tar.addfile(member, io.BytesIO(b"evil"))
    import hashlib

    packed = zstandard.ZstdCompressor().compress(raw.getvalue())
    sha256 = hashlib.sha256(packed).hexdigest()
    shelf.content[sha256] = packed
    size = 4 * sum(kind == "file" for _, kind in members)
    return PackedTree(sha256=sha256, files=len(members), bytes=size, packed_bytes=len(packed), root="/r")


class TestPack:
    def test_given_the_same_tree_when_packed_twice_then_the_object_is_the_same(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        first = save(store, shelf, tmp_path / "a")
        restore(store, shelf, first, tmp_path / "b")

        assert save(store, shelf, tmp_path / "a").sha256 == first.sha256
        assert save(store, shelf, tmp_path / "b").sha256 == first.sha256

    @pytest.mark.skipif(shutil.which("tar") is None or shutil.which("zstd") is None, reason="tar or zstd is missing")
    def test_given_a_pack_when_unpacked_by_tar_then_it_is_the_same_tree(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")
        (tmp_path / "b").mkdir()

        unpack = ["tar", "--zstd", "--xattrs", "-xpf", "-", "-C", str(tmp_path / "b")]
        done = subprocess.run(unpack, input=shelf.content[facts.sha256], capture_output=True, check=True)

        assert everything_in(tmp_path / "b") == everything_in(tmp_path / "a"), done.stderr

    def test_given_devices_and_pipes_when_packed_then_they_are_passed_over(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        os.mkfifo(tmp_path / "a/pipe")
        (tmp_path / "a/x").write_text("1")

        facts = save(store, shelf, tmp_path / "a")
        restore(store, shelf, facts, tmp_path / "b")

        assert sorted(everything_in(tmp_path / "b")) == ["x"]

    def test_given_excludes_when_packed_then_what_they_take_is_left_out(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        globs = Globs(["bin/**", "lib/**", "*"], exclude=["lib/**", "**/setuid"])

        tree = store.look(tmp_path / "a", globs)

        assert sorted([*tree.entries, *tree.folders]) == [
            "bin", "bin/link", "bin/run", "dangling", "empty.txt", "outside", "secret", "to-folder",
        ]  # fmt: skip

    def test_given_a_pack_that_was_not_moved_away_when_done_then_nothing_stays(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").write_text("1")

        save(store, shelf, tmp_path / "a")

        assert os.listdir(store.pool.folder) == []

    def test_given_a_file_that_changed_after_it_was_packed_when_kept_then_it_is_refused(
        self, store: LayerStore, tmp_path: Path
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/x").write_text("1")
        with store.pack(store.look(tmp_path / "a", ALL)) as packed:
            (tmp_path / "a/x").write_text("22")
            with pytest.raises(LayerError, match="The file 'x' changed after it was saved"):
                packed.keep("v")

        assert os.listdir(store.pool.folder) == []


class TestRelocation:
    def test_given_texts_and_links_with_the_old_path_when_restored_elsewhere_then_exactly_those_change(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        old, new = tmp_path / "old", tmp_path / "a-longer-name"
        old.mkdir()
        text = f"#!{old}/bin/python\nhome={old} {old}-other {old}.engine\n"
        (old / "script").write_text(text)
        (old / "script").chmod(0o755)
        (old / "binary").write_bytes(b"\0" + text.encode())
        (old / "archive").write_bytes(f"#!{old}/bin/python\n".encode() + b"\0\xff" + str(old).encode())
        (old / "large").write_bytes(f"#!{old}/x\n".encode() + f"{old}\n".encode() * 100_000)
        (old / "inside").symlink_to(old / "script")
        (old / "root").symlink_to(old)
        (old / "other").symlink_to(f"{old}-other")
        os.utime(old / "script", ns=(1, 1_234_567_890_123_456_789))
        facts = save(store, shelf, old)

        restored = restore(store, shelf, facts, new)

        assert facts.relocatable == ("archive", "inside", "large", "root", "script")
        assert (new / "script").read_text() == f"#!{new}/bin/python\nhome={new} {old}-other {new}.engine\n"
        assert (new / "script").stat().st_mtime_ns == 1_234_567_890_123_456_789
        assert (new / "script").stat().st_mode & 0o777 == 0o755
        assert (new / "binary").read_bytes() == (old / "binary").read_bytes()
        assert (new / "archive").read_bytes() == f"#!{new}/bin/python\n".encode() + b"\0\xff" + str(old).encode()
        assert (new / "large").read_bytes() == f"#!{new}/x\n".encode() + f"{old}\n".encode() * 100_000
        assert os.readlink(new / "inside") == str(new / "script")
        assert os.readlink(new / "root") == str(new)
        assert os.readlink(new / "other") == f"{old}-other"
        tree = store.look(new, ALL)
        assert not store.changes(store.baseline(tree, restored), store.look(new, ALL))


class TestChanges:
    def test_given_a_restored_tree_when_nothing_happens_then_no_change_and_nothing_is_read(
        self, store: LayerStore, shelf: Shelf, tmp_path: Path
    ) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")
        restored = restore(store, shelf, facts, tmp_path / "b")
        baseline = store.baseline(store.look(tmp_path / "b", ALL), restored)

        (tmp_path / "b/empty/temporary").touch()
        (tmp_path / "b/empty/temporary").unlink()

        assert not store.changes(baseline, store.look(tmp_path / "b", ALL))

    def test_given_edits_when_compared_then_each_is_told(self, store: LayerStore, shelf: Shelf, tmp_path: Path) -> None:
        an_odd_tree(tmp_path / "a")
        facts = save(store, shelf, tmp_path / "a")
        root = tmp_path / "b"
        restored = restore(store, shelf, facts, root)
        (root / "injected").write_text("by an input file")
        baseline = store.baseline(store.look(root, ALL), restored)

        (root / "injected").write_text("by an input file")
        os.utime(root / "bin/run")
        times = (root / "bin/setuid").stat()
        (root / "bin/setuid").write_text("y")
        os.utime(root / "bin/setuid", ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        (root / "new").write_text("1")
        (root / "dangling").unlink()
        (root / "to-folder").unlink()
        (root / "to-folder").symlink_to("bin")
        (root / "empty.txt").chmod(0o600)
        (root / "empty").chmod(0o700)
        (root / "lib/deep").rmdir()
        changes = store.changes(baseline, store.look(root, ALL))

        assert changes.created == ("new",)
        assert changes.changed == ("bin/setuid", "empty", "empty.txt", "to-folder")
        assert changes.deleted == ("dangling", "lib/deep")


class TestWithInternalStorage:
    """The way a worker puts layers and cache entries together."""

    KEY = CacheKey("tests", "flow", "wd")
    NOW = datetime(2030, 1, 1, tzinfo=UTC)

    def save(self, store: LayerStore, caches: Caches, root: Path) -> bool:
        with store.pack(store.look(root, ALL)) as packed:
            entry = CacheEntry(
                key=self.KEY, saved_at=self.NOW, patterns=("**",), platform=this_platform(), pack=packed.facts
            )
            was_stored = caches.save(entry, packed.file)
            with suppress(NotFoundError):  # replaced already
                packed.keep(caches.version(entry))
        return was_stored

    def restore(self, store: LayerStore, caches: Caches, root: Path) -> Restored | DamagedEntryError | None:
        root.mkdir(exist_ok=True)
        for _ in range(2):
            found = caches.find(self.KEY, now=self.NOW)
            entry = found.entry
            if entry is None:
                return None
            try:
                return store.restore(entry.pack, caches.version(entry), lambda entry=entry: caches.open(entry), root)
            except NotFoundError:
                continue  # replaced since the pointer was read
            except DamagedEntryError as error:
                caches.drop(found)
                store.forget(entry.pack)
                return error
        return None

    def test_given_a_saved_entry_when_restored_then_it_comes_from_the_local_tier(
        self, store: LayerStore, tmp_path: Path
    ) -> None:
        caches = Caches(LocalStorage(tmp_path / "storage"))
        an_odd_tree(tmp_path / "a")
        before = everything_in(tmp_path / "a")
        assert self.save(store, caches, tmp_path / "a")

        restored = self.restore(store, caches, tmp_path / "b")

        assert isinstance(restored, Restored)
        assert restored.was_local
        assert everything_in(tmp_path / "b") == before

    def test_given_the_object_is_damaged_when_restored_then_it_is_dropped_and_saved_anew(
        self, store: LayerStore, tmp_path: Path
    ) -> None:
        caches = Caches(LocalStorage(tmp_path / "storage"))
        an_odd_tree(tmp_path / "a")
        self.save(store, caches, tmp_path / "a")
        (stored,) = (tmp_path / "storage").rglob("*.tar.zst")
        stored.write_bytes(stored.read_bytes()[:-1] + b"?")

        assert isinstance(self.restore(store, caches, tmp_path / "b"), DamagedEntryError)
        assert self.restore(store, caches, tmp_path / "b") is None
        an_odd_tree(tmp_path / "c")
        self.save(store, caches, tmp_path / "c")
        assert isinstance(self.restore(store, caches, tmp_path / "b"), Restored)

    def test_given_savers_and_readers_at_once_then_each_reader_gets_a_whole_entry_or_none(
        self, store: LayerStore, tmp_path: Path
    ) -> None:
        caches = Caches(LocalStorage(tmp_path / "storage"))
        wrong: list[object] = []

        def run(number: int) -> None:
            try:
                for turn in range(4):
                    root = tmp_path / f"run-{number}-{turn}"
                    restored = self.restore(store, caches, root)
                    if isinstance(restored, DamagedEntryError):
                        wrong.append(restored)
                    if len({path.read_text() for path in root.iterdir()}) > 1:
                        wrong.append("mixed")
                    for name in "abc":
                        (root / name).write_text(f"{number} {turn}")
                    self.save(store, caches, root)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert wrong == []


NAMES = st.sampled_from(["a", "b", "a-b", "é x", "n" * 120])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.binary(max_size=40) | st.integers(1, 3).map(lambda count: b"block" * 50_000 * count)
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o700])
TIMES = st.integers(-(10**18), 4 * 10**18)
STEPS = st.lists(
    st.tuples(st.just("file"), PATHS, CONTENT, MODES, TIMES)
    | st.tuples(st.just("folder"), PATHS, st.just(b""), MODES, TIMES)
    | st.tuples(st.just("link"), PATHS, PATHS, MODES, TIMES)
    | st.tuples(st.just("name"), PATHS, PATHS, MODES, TIMES)
    | st.tuples(st.just("remove"), PATHS, st.just(b""), MODES, TIMES),
    max_size=12,
)


def take_steps(root: Path, steps: list[tuple[str, str, bytes | str, int, int]]) -> None:
    """Edit a tree; a step that cannot be taken there is left out."""
    for kind, name, value, mode, time_ns in steps:
        path = root / name
        try:
            if kind == "remove":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir(exist_ok=True)
                path.chmod(mode)
            elif kind == "file":
                path.write_bytes(value)  # type: ignore[arg-type]
                path.chmod(mode)
                os.utime(path, ns=(0, time_ns))
            elif kind == "link":
                path.symlink_to(value)  # type: ignore[arg-type]
                os.utime(path, ns=(0, time_ns), follow_symlinks=False)
            else:
                os.link(root / str(value), path, follow_symlinks=False)
        except OSError:
            continue


class TestAnyTree:
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(steps=STEPS, edits=STEPS)
    def test_given_any_tree_and_any_edits_when_saved_and_restored_then_each_time_it_is_the_same(
        self,
        make_store: Callable[[Path], LayerStore],
        tmp_path_factory: pytest.TempPathFactory,
        steps: list[tuple[str, str, bytes | str, int, int]],
        edits: list[tuple[str, str, bytes | str, int, int]],
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        store, shelf = make_store(folder), Shelf()
        root = folder / "0"
        root.mkdir()
        take_steps(root, steps)
        restored = None
        for number in (1, 2, 3):
            before = everything_in(root)
            facts = save(store, shelf, root, keep=number == 2)
            root = folder / str(number)
            restored = restore(store, shelf, facts, root)
            assert everything_in(root) == before
            baseline = store.baseline(store.look(root, ALL), restored)
            take_steps(root, edits)
            now = everything_in(root, with_folder_times=False)
            changes = store.changes(baseline, store.look(root, ALL))
            assert set(changes.created) == now.keys() - before.keys()
            assert set(changes.deleted) == before.keys() - now.keys()
        shutil.rmtree(folder)
