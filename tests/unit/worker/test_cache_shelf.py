"""The caches of a worker: what is here, what is stored, and what becomes of the one when the other changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import NotFoundError
from tercel.layers import DamagedEntryError
from tercel.model.globs import Globs
from tercel.storage.caches import CacheEntry, CacheKey, this_platform
from tercel.storage.local import LocalStorage
from tercel.worker import cache_shelf
from tercel.worker.cache_shelf import MOST_LAYERS, Found, Published, note_name
from tests.machines import HOUR, KEY, NOON, OTHER, Clock, Machine, writes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def here(tmp_path: Path, storage: LocalStorage, clock: Clock) -> Machine:
    return Machine(tmp_path / "here", storage, clock)


@pytest.fixture
def there(tmp_path: Path, storage: LocalStorage, clock: Clock) -> Machine:
    return Machine(tmp_path / "there", storage, clock)


def objects(storage: LocalStorage) -> dict[str, Path]:
    """The stored layers, by id."""
    return {path.name.partition(".")[0]: path for path in Path(storage.base).rglob("*.tar.zst")}


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


class TestSavedHere:
    def test_given_nothing_then_none(self, here: Machine) -> None:
        assert here.find() == Found("none")

    def test_given_a_save_then_it_is_a_hit_at_once_and_nothing_is_stored(
        self, here: Machine, storage: LocalStorage
    ) -> None:
        entry = here.save(writes(a="1"))

        found = here.find()

        assert (found.outcome, found.entry, found.stored, found.age) == ("hit", entry, None, timedelta(0))
        assert here.restored(found) == {"a": "1"}
        assert here.was_here()
        assert list(storage.list("/")) == []

    def test_given_a_save_then_another_process_of_the_machine_finds_it_too(self, here: Machine) -> None:
        here.save(writes(a="1"))

        assert here.again().restored() == {"a": "1"}

    def test_given_a_second_save_then_it_is_the_one(self, here: Machine) -> None:
        here.save(writes(a="1", b="1"))
        here.save(lambda root: [(root / "a").write_text("2"), (root / "b").unlink()], on=here.find())

        assert here.restored() == {"a": "2"}

    def test_given_keys_then_entries_are_apart(self, here: Machine) -> None:
        here.save(writes(a="1"))
        here.save(writes(b="2"), OTHER)

        assert here.restored() == {"a": "1"}
        assert here.restored(key=OTHER) == {"b": "2"}

    def test_given_patterns_then_only_what_they_take_is_restored(self, here: Machine) -> None:
        here.save(lambda root: [(root / "d").mkdir(), (root / "d/x").write_text("1"), (root / "y").write_text("2")])

        assert here.restored(only=Globs(["d/**"])) == {"d/x": "1"}

    def test_given_what_the_globs_did_not_take_then_it_is_not_in_the_entry(self, here: Machine) -> None:
        here.save(writes(a="1", b="2"), globs=Globs(["a"]))

        assert here.restored() == {"a": "1"}

    def test_given_a_sweep_then_what_is_saved_stays(self, here: Machine) -> None:
        here.save(writes(a="1"))

        here.layers.sweep()

        assert here.restored() == {"a": "1"}

    def test_given_a_renamed_folder_of_the_layer_below_then_its_files_are_in_the_entry_alone(
        self, here: Machine, there: Machine
    ) -> None:
        # On an overlay of root the new layer says only where the folder was: the entry has to be settled first.
        with here.layers.directory("wd") as directory:
            directory.fill([])
            (Path(directory.path) / "old/in").mkdir(parents=True)
            (Path(directory.path) / "old/in/x").write_text("1")
            below = directory.freeze()
            assert below is not None
            os.system(f"mv {directory.path}/old {directory.path}/new")
            layer = directory.freeze(is_last=True)
            assert layer is not None
            taken = directory.split(layer, Globs(["new/**"]), below=[below])
            assert taken is not None
            entry = CacheEntry(
                id="e" * 32, key=KEY, saved_at=NOON, patterns=(), platform=this_platform(), root="/x", layers=()
            )
            here.shelf.save(directory, entry, [taken], [below, taken, layer])

        assert here.restored() == {"new/in/x": "1"}
        here.publish()
        here.layers.sweep()
        assert here.layers.pool.layers() == [taken]
        assert here.restored() == there.restored() == {"new/in/x": "1"}


class TestPublish:
    def test_given_a_save_when_published_then_another_worker_fetches_it_once(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save(writes(a="123"))
        assert there.find().outcome == "none"

        published = here.publish()

        assert published is not None
        assert (published.entry.files, published.entry.bytes, published.unreadable) == (1, 3, ())
        assert [there.was_here(), there.was_here()] == [False, True]
        assert there.restored() == here.restored() == {"a": "123"}
        assert list(objects(storage)) == [pack.id for pack in published.entry.layers]

    def test_given_it_is_published_then_there_is_no_more_to_do(self, here: Machine) -> None:
        here.save(writes(a="1"))
        assert here.shelf.unpublished() == [note_name(KEY)]

        here.publish()

        assert here.shelf.unpublished() == []
        assert here.publish() is None
        assert here.publish(OTHER) is None

    def test_given_a_change_on_top_then_only_the_new_layer_is_packed(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save_and_publish(writes(a="1"))
        before = {path: path.stat().st_mtime_ns for path in objects(storage).values()}

        here.save_and_publish(writes(b="2"), on=here.find())

        assert len(objects(storage)) == 2
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert there.restored() == {"a": "1", "b": "2"}

    def test_given_a_replaced_entry_then_its_objects_go(self, here: Machine, storage: LocalStorage) -> None:
        here.save_and_publish(writes(a="1"))

        entry = here.save_and_publish(writes(a="2"))

        assert list(objects(storage)) == [entry.layers[0].id]

    def test_given_it_ends_before_all_is_stored_then_nobody_else_sees_anything_and_it_begins_anew(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save_and_publish(writes(a="1"))
        here.save(writes(b="2"), on=here.find())
        calls = []

        def stop() -> None:
            calls.append(1)
            if len(calls) == 4:  # before the second of the two layers
                raise TimeoutError

        with pytest.raises(TimeoutError):
            here.publish(check=stop)

        assert there.restored() == {"a": "1"}
        assert here.restored() == {"a": "1", "b": "2"}
        assert here.shelf.unpublished() == [note_name(KEY)]
        here.publish()
        assert there.restored() == {"a": "1", "b": "2"}
        assert len(objects(storage)) == 2

    def test_given_base_objects_that_were_deleted_meanwhile_then_they_are_packed_again(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save_and_publish(writes(a="1"))
        here.save(writes(b="2"), on=here.find())
        for path in objects(storage).values():
            path.unlink()

        here.publish()

        assert there.restored() == {"a": "1", "b": "2"}

    def test_given_base_objects_that_go_right_before_the_pointer_is_written_then_they_are_packed_again(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        # Another worker has made one layer of the base, and deletes what its pointer names no more.
        here.save_and_publish(writes(a="1"))
        [base] = objects(storage).values()
        here.save(writes(b="2"), on=here.find())
        puts, gone = storage.put, []

        def put(path: str, content: Any, **more: Any) -> str:
            if path.endswith("current.json") and not gone:
                base.unlink()
                gone.append(base)
            return puts(path, content, **more)

        storage.put = put  # type: ignore[method-assign]
        here.publish()

        assert there.restored() == {"a": "1", "b": "2"}

    def test_given_two_publishers_then_both_end_and_one_has_done_it(self, here: Machine, there: Machine) -> None:
        here.save(writes(**{f"f{number}": "x" * 1000 for number in range(50)}))
        machines = [here, here.again(), here.again()]
        done: list[Published | None] = []
        threads = [threading.Thread(target=lambda one=one: done.append(one.publish())) for one in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(one is None for one in done) == [False, True, True]
        assert len(there.restored()) == 50

    def test_given_a_save_while_an_entry_is_published_then_the_later_one_is_stored(
        self, here: Machine, there: Machine
    ) -> None:
        here.save(writes(a="1"))
        saved: list[CacheEntry] = []

        def save_once() -> None:
            if not saved:
                here.clock.now += HOUR
                saved.append(here.save(writes(a="2")))

        published = here.publish(check=save_once)

        assert published is not None
        assert published.entry.id == saved[0].id
        assert here.restored() == there.restored() == {"a": "2"}
        assert here.shelf.unpublished() == []

    def test_given_a_save_right_before_the_note_is_written_then_it_is_not_lost(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save(writes(a="1"))
        puts = storage.put
        saved: list[CacheEntry] = []

        def put(path: str, content: Any, **more: Any) -> str:
            uri = puts(path, content, **more)
            if path.endswith("current.json") and not saved:
                here.clock.now += HOUR
                saved.append(here.save(writes(a="2")))
            return uri

        storage.put = put  # type: ignore[method-assign]
        here.publish()

        assert here.restored() == there.restored() == {"a": "2"}

    def test_given_an_entry_dropped_while_it_is_published_then_it_does_not_come_back(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save(writes(a="1"))
        found = here.find()

        here.publish(check=lambda: here.shelf.drop(KEY, found))

        assert (here.find().outcome, there.find().outcome) == ("none", "none")
        assert objects(storage) == {}

    def test_given_an_entry_dropped_right_after_its_pointer_is_written_then_it_does_not_come_back(
        self, here: Machine, there: Machine, storage: LocalStorage
    ) -> None:
        here.save(writes(a="1"))
        puts = storage.put

        def put(path: str, content: Any, **more: Any) -> str:
            uri = puts(path, content, **more)
            here.layers.pool.entries.remove(note_name(KEY))
            return uri

        storage.put = put  # type: ignore[method-assign]
        here.publish()

        assert (here.find().outcome, there.find().outcome) == ("none", "none")

    def test_given_one_that_another_worker_saved_later_then_it_stays(self, here: Machine, there: Machine) -> None:
        here.save(writes(a="here"))
        here.clock.now += HOUR
        there.save_and_publish(writes(a="there"))

        assert here.publish() is None

        assert here.restored() == there.restored() == {"a": "there"}
        assert here.shelf.unpublished() == []

    def test_given_a_layer_that_is_gone_then_the_note_goes_too(self, here: Machine) -> None:
        here.save(writes(a="1"))
        here.lose(here.find().layers[0])

        assert here.publish() is None
        assert here.find().outcome == "none"

    def test_given_files_that_cannot_be_read_then_they_are_told_and_others_are_stored(
        self, here: Machine, there: Machine
    ) -> None:
        reads_all: list[bool] = []

        def make(root: Path) -> None:
            writes(a="1", b="2")(root)
            (root / "b").chmod(0)
            with suppress(PermissionError):
                # Root may read everything, and so may everybody in a user namespace of their own.
                reads_all.append((root / "b").read_text() == "2")

        here.save(make)

        published = here.publish()

        assert published is not None
        expected = ((), {"a": "1", "b": "2"}) if reads_all else (("b",), {"a": "1"})
        assert (published.unreadable, there.restored()) == expected

    def test_given_another_boot_then_nothing_of_it_is_stored(
        self, here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.save(writes(a="1"))
        monkeypatch.setattr(cache_shelf, "this_boot", lambda: "another")

        assert here.publish() is None
        assert (here.find().outcome, there.find().outcome) == ("none", "none")


class TestFlattening:
    def layered(self, machine: Machine, count: int) -> None:
        """Save an entry of so many layers, each of which has one file more and takes one away."""
        with machine.layers.directory("wd") as directory:
            root = Path(directory.path)
            directory.fill([])
            writes(keep="k", f0="0")(root)
            for number in range(1, count):
                directory.freeze()
                writes(**{f"f{number}": str(number)})(root)
                (root / f"f{number - 1}").unlink()
            directory.freeze(is_last=True)
            layers = directory.layers
            entry = CacheEntry(
                id="e" * 32, key=KEY, saved_at=NOON, patterns=(), platform=this_platform(), root=str(root), layers=()
            )
            machine.shelf.save(directory, entry, layers, layers)

    @pytest.mark.parametrize(("count", "stored"), [(MOST_LAYERS, MOST_LAYERS), (MOST_LAYERS + 1, 1)])
    def test_given_many_layers_then_past_the_limit_they_are_stored_as_one(
        self, here: Machine, there: Machine, count: int, stored: int
    ) -> None:
        self.layered(here, count)
        before = here.restored()

        published = here.publish()

        assert published is not None
        assert len(published.entry.layers) == stored
        assert here.restored() == there.restored() == before == {"keep": "k", f"f{count - 1}": str(count - 1)}
        here.layers.sweep()
        assert len(here.layers.pool.layers()) == stored

    def test_given_more_than_half_garbage_then_it_is_stored_as_one_and_is_the_same(
        self, here: Machine, there: Machine
    ) -> None:
        def edit(root: Path) -> None:
            (root / "big").write_bytes(os.urandom(700_000))
            (root / "run").write_text("#!")
            (root / "run").chmod(0o755)

        for _ in range(4):
            here.save(edit, on=here.find() if here.find().entry else None)
        assert len(here.find().layers) == 4

        published = here.publish()

        assert published is not None
        assert len(published.entry.layers) == 1
        assert published.entry.bytes == 700_002
        with there.layers.directory("wd") as directory:
            there.shelf.fill(directory, there.find())
            assert (Path(directory.path) / "big").stat().st_size == 700_000
            assert (Path(directory.path) / "run").stat().st_mode & 0o777 == 0o755

    def test_given_it_is_flattened_while_a_run_is_in_it_then_that_run_can_save_on_top(
        self, here: Machine, there: Machine
    ) -> None:
        self.layered(here, MOST_LAYERS + 1)
        found = here.find()
        with here.layers.directory("wd") as directory:
            here.shelf.fill(directory, found)
            here.publish()
            here.layers.sweep()
            here.clock.now += HOUR
            (Path(directory.path) / "late").write_text("1")
            layer = directory.freeze(is_last=True)
            assert layer is not None
            assert found.entry is not None
            layers = [*found.layers, layer]
            entry = cache_shelf.replace(found.entry, id="f" * 32, saved_at=here.clock())
            here.shelf.save(directory, entry, layers, layers)

        here.publish()

        assert here.restored() == there.restored()
        assert here.restored()["late"] == "1"


class TestWhichOneCounts:
    def test_given_one_here_and_an_older_one_stored_then_the_one_here(self, here: Machine, there: Machine) -> None:
        there.save_and_publish(writes(a="there"))
        here.clock.now += HOUR
        here.save(writes(a="here"))

        assert here.restored() == {"a": "here"}
        assert there.restored() == {"a": "there"}

    def test_given_one_here_and_a_newer_one_stored_then_the_one_stored(self, here: Machine, there: Machine) -> None:
        here.save(writes(a="here"))
        here.clock.now += HOUR
        there.save_and_publish(writes(a="there"))

        assert here.restored() == {"a": "there"}

    def test_given_one_published_here_that_another_worker_replaced_then_the_other_one_and_it_stays_here(
        self, here: Machine, there: Machine
    ) -> None:
        here.save_and_publish(writes(a="here"))
        here.clock.now += HOUR
        there.save_and_publish(writes(a="there"), on=there.find())

        assert not here.was_here()

        here.layers.sweep()
        assert here.was_here()
        assert here.restored() == {"a": "there"}
        assert here.shelf.uses(here.find().entry or pytest.fail("none"))[0] == 3

    def test_given_one_that_was_removed_in_storage_then_the_note_is_forgotten(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        here.caches.delete(KEY.folder)

        assert here.find().outcome == "none"
        here.layers.sweep()
        assert here.layers.pool.layers() == []

    def test_given_a_save_while_another_run_fetches_then_the_save_is_not_lost(
        self, here: Machine, there: Machine
    ) -> None:
        there.save_and_publish(writes(a="there"))
        found = here.find()
        here.clock.now += HOUR
        saved = here.save(writes(a="here"))

        assert here.restored(found) == {"a": "there"}

        assert here.find().entry == saved
        assert here.shelf.unpublished() == [note_name(KEY)]

    def test_given_half_a_note_then_what_is_stored_counts(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        Path(here.layers.pool.folder, "entries", note_name(KEY)).write_text("{")

        assert here.restored() == {"a": "1"}

    def test_given_a_note_of_something_else_then_what_is_stored_counts(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        note = Path(here.layers.pool.folder, "entries", note_name(KEY))
        note.write_text(note.read_text().replace('"entry":', '"entrance":'))

        assert here.restored() == {"a": "1"}
        assert here.find().layers == here.find().layers


class TestAnotherBoot:
    def test_given_a_note_of_another_boot_then_it_is_not_trusted(
        self, here: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.save(writes(a="1"))
        monkeypatch.setattr(cache_shelf, "this_boot", lambda: "another")

        assert here.find().outcome == "none"
        assert here.layers.pool.layers() == [] or here.layers.sweep()
        assert here.layers.pool.layers() == []

    @pytest.mark.parametrize(("durable", "was_here"), [(True, True), (False, False)])
    def test_given_a_stored_entry_then_its_layers_here_count_if_they_reached_the_disk(
        self, here: Machine, monkeypatch: pytest.MonkeyPatch, durable: bool, was_here: bool
    ) -> None:
        here.save(writes(a="1"))
        here.shelf.publish(note_name(KEY), durable=durable)
        monkeypatch.setattr(cache_shelf, "this_boot", lambda: "another")

        assert here.was_here() is was_here
        assert here.restored() == {"a": "1"}

    def test_given_layers_that_were_fetched_then_they_are_fetched_again(
        self, here: Machine, there: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.save_and_publish(writes(a="1"))
        assert not there.was_here()
        assert there.was_here()

        monkeypatch.setattr(cache_shelf, "this_boot", lambda: "another")

        assert not there.was_here()
        assert there.restored() == {"a": "1"}


class TestExpiryAndPlatform:
    @pytest.mark.parametrize("publishes", [False, True])
    @pytest.mark.parametrize(
        ("age", "ttl", "outcome"),
        [
            (timedelta(hours=2), timedelta(hours=5), "hit"),
            (timedelta(minutes=10), timedelta(minutes=5), "expired"),
            (timedelta(days=9999), None, "hit"),
            (HOUR, HOUR, "hit"),
            (HOUR + timedelta(microseconds=1), HOUR, "expired"),
            (timedelta(seconds=1), timedelta(0), "expired"),
            (timedelta(0), timedelta(0), "hit"),
        ],
    )
    def test_given_an_age_and_the_ttl_of_now_then_it_is_strictly_after(
        self, here: Machine, age: timedelta, ttl: timedelta | None, outcome: str, publishes: bool
    ) -> None:
        here.save(writes(a="1"))
        if publishes:
            here.publish()
        here.clock.now += age

        found = here.find(ttl=ttl)

        assert (found.outcome, found.age) == (outcome, age)
        assert here.find().outcome == ("none" if outcome == "expired" else "hit")
        assert list(here.storage.list("/")) == [] or (publishes and outcome == "hit")

    def test_given_a_use_when_the_ttl_counts_from_it_then_it_lives_on(self, here: Machine) -> None:
        entry = here.save_and_publish(writes(a="1"))
        here.clock.now += timedelta(minutes=30)
        here.shelf.touch(entry)
        here.clock.now += timedelta(minutes=35)

        assert here.find(ttl=HOUR, ttl_from="LAST_USED").age == timedelta(minutes=35)
        assert here.find(ttl=HOUR).outcome == "expired"

    def test_given_an_entry_that_expired_here_then_a_fresh_one_of_another_run_stays(self, here: Machine) -> None:
        here.save(writes(a="1"))
        old = here.find()
        here.clock.now += 2 * HOUR
        fresh = here.save(writes(a="2"))

        assert not here.shelf.drop(KEY, old)
        assert here.find().entry == fresh

    @pytest.mark.parametrize("publishes", [False, True])
    def test_given_another_platform_then_it_is_said_and_the_entry_stays(self, here: Machine, publishes: bool) -> None:
        here.save(writes(a="1"), platform="linux-riscv64")
        if publishes:
            here.publish()

        assert here.find().outcome == "platform"
        assert here.find().outcome == "platform"


class TestDrop:
    def test_given_an_entry_that_is_settled_and_stored_meanwhile_when_dropped_then_all_of_it_goes(
        self, here: Machine, there: Machine
    ) -> None:
        here.save(writes(a="1"))
        found = here.find()
        here.restored(found)
        here.publish()

        assert here.shelf.drop(KEY, found)

        assert (here.find().outcome, there.find().outcome) == ("none", "none")
        here.layers.sweep()
        assert here.layers.pool.layers() == []

    def test_given_another_worker_that_replaced_it_meanwhile_then_that_one_stays(
        self, here: Machine, there: Machine
    ) -> None:
        here.save_and_publish(writes(a="1"))
        found = here.find()
        here.clock.now += HOUR
        there.save_and_publish(writes(a="2"))

        here.shelf.drop(KEY, found)

        assert here.restored() == there.restored() == {"a": "2"}


def _garbage(content: bytes) -> bytes:
    return os.urandom(len(content))


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _emptied(content: bytes) -> bytes:
    return b""


class TestDamage:
    @pytest.mark.parametrize("damage", [_garbage, _truncated, _flipped, _emptied])
    @pytest.mark.parametrize("is_here", [False, True])
    def test_given_a_damaged_object_then_it_is_refused_and_nothing_of_it_is_here(
        self, here: Machine, there: Machine, damage: Callable[[bytes], bytes], is_here: bool
    ) -> None:
        here.save_and_publish(lambda root: (root / "a").write_bytes(os.urandom(5000)))
        [path] = objects(here.storage).values()
        overwrite(path, damage(path.read_bytes()))
        machine = here if is_here else there
        found = machine.find()

        with machine.layers.directory("wd") as directory:
            with pytest.raises(DamagedEntryError):
                machine.shelf.fill(directory, found)
            directory.fill([])
            assert os.listdir(directory.path) == []

        assert machine.shelf.drop(KEY, found)
        assert (here.find().outcome, there.find().outcome) == ("none", "none")
        machine.layers.sweep()
        assert machine.layers.pool.layers() == []

    def test_given_a_damaged_second_layer_then_nothing_of_the_first_is_shown(
        self, here: Machine, there: Machine
    ) -> None:
        first = here.save_and_publish(writes(a="1"))
        entry = here.save_and_publish(writes(b="2"), on=here.find())
        [second] = {pack.id for pack in entry.layers} - {pack.id for pack in first.layers}
        overwrite(objects(here.storage)[second], b"")

        with there.layers.directory("wd") as directory:
            with pytest.raises(DamagedEntryError):
                there.shelf.fill(directory, there.find())
            directory.fill([])
            assert os.listdir(directory.path) == []

    def test_given_a_pointer_that_cannot_be_read_then_it_is_damaged_once_and_gone(
        self, here: Machine, there: Machine
    ) -> None:
        here.save_and_publish(writes(a="1"))
        here.storage.put(f"{KEY.folder}/current.json", BytesIO(b"{"))

        assert [there.find().outcome, there.find().outcome] == ["damaged", "none"]
        assert here.find().outcome == "none"

    def test_given_objects_that_are_gone_then_it_is_not_found_and_the_newer_entry_is(
        self, here: Machine, there: Machine
    ) -> None:
        here.save_and_publish(writes(a="1"))
        found = there.find()
        here.clock.now += HOUR
        here.save_and_publish(writes(a="2"))

        with there.layers.directory("wd") as directory, pytest.raises(NotFoundError):
            there.shelf.fill(directory, found)

        assert there.restored() == {"a": "2"}

    def test_given_a_layer_that_is_neither_here_nor_stored_then_the_entry_is_damaged_and_can_be_dropped(
        self, here: Machine
    ) -> None:
        here.save(writes(a="1"))
        found = here.find()
        here.lose(found.layers[0])

        with here.layers.directory("wd") as directory, pytest.raises(DamagedEntryError):
            here.shelf.fill(directory, found)

        assert here.shelf.drop(KEY, found)
        assert here.find().outcome == "none"

    def test_given_a_layer_that_was_lost_here_and_is_stored_then_it_is_fetched(self, here: Machine) -> None:
        entry = here.save_and_publish(writes(a="1"))
        here.lose(entry.layers[0].id)

        assert not here.was_here()
        assert here.restored() == {"a": "1"}

    def test_given_objects_that_are_gone_and_layers_here_then_they_count(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        for path in objects(here.storage).values():
            path.unlink()

        assert here.restored() == {"a": "1"}

    def test_given_the_same_object_stored_anew_then_it_is_checked_and_counts(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        [path] = objects(here.storage).values()
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)

        assert here.was_here()
        assert here.restored() == {"a": "1"}


class TestTouchAndUses:
    def test_given_uses_then_they_are_counted_for_that_entry(self, here: Machine) -> None:
        entry = here.save(writes(a="1"))
        assert here.shelf.uses(entry) == (0, None)

        here.restored()
        here.restored()

        assert here.shelf.uses(entry)[0] == 2
        fresh = here.save(writes(a="2"))
        assert here.shelf.uses(entry)[0] == here.shelf.uses(fresh)[0] == 0

    def test_given_a_touch_of_another_worker_then_the_later_use_is_told(self, here: Machine, there: Machine) -> None:
        entry = here.save_and_publish(writes(a="1"))
        there.clock.now += timedelta(days=9999)
        there.shelf.touch(entry)

        assert here.shelf.uses(entry) == (0, there.clock())


class TestEvict:
    def saved(self, machine: Machine, **bytes_of: int) -> None:
        for name, size in bytes_of.items():
            machine.save_and_publish(writes(f="x" * size), CacheKey("n", "f", name))
            os.utime(f"{machine.layers.pool.folder}/entries/{note_name(CacheKey('n', 'f', name))}", ns=(0, len(name)))

    def here(self, machine: Machine) -> set[str]:
        """The tasks of which something is on this machine."""
        return {name for name in ("a", "bb", "ccc") if _note_is_there(machine, CacheKey("n", "f", name))}

    def test_given_a_limit_then_the_least_recently_used_go_and_stay_stored(self, here: Machine) -> None:
        self.saved(here, a=100, bb=100, ccc=100)
        here.restored(key=CacheKey("n", "f", "a"))

        assert here.shelf.evict(250) == 1

        assert self.here(here) == {"a", "ccc"}
        here.layers.sweep()
        assert len(here.layers.pool.layers()) == 2
        assert here.restored(key=CacheKey("n", "f", "bb")) == {"f": "x" * 100}

    def test_given_enough_room_then_nothing_goes(self, here: Machine) -> None:
        self.saved(here, a=100, bb=100)

        assert here.shelf.evict(200) == 0
        assert here.shelf.evict(199) == 1

    def test_given_what_is_not_stored_then_it_never_goes(self, here: Machine) -> None:
        here.save(writes(a="x" * 100))
        self.saved(here, a=100)

        assert here.shelf.evict(0) == 1

        assert here.restored() == {"a": "x" * 100}
        assert self.here(here) == set()

    def test_given_it_is_evicted_between_look_up_and_restore_then_it_is_restored(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        found = here.find()

        here.shelf.evict(0)
        here.layers.sweep()

        assert here.restored(found) == {"a": "1"}
        here.layers.sweep()
        assert here.was_here()

    def test_given_a_run_that_is_in_it_then_its_layers_stay_meanwhile(self, here: Machine) -> None:
        here.save_and_publish(writes(a="1"))
        with here.layers.directory("wd") as directory:
            here.shelf.fill(directory, here.find())
            here.shelf.evict(0)
            here.layers.sweep()

            assert (Path(directory.path) / "a").read_text() == "1"
            assert here.layers.pool.has(here.find().layers[0])


class TestForPeople:
    def test_given_entries_here_and_stored_then_both_are_listed_in_order(self, here: Machine, there: Machine) -> None:
        stored = there.save_and_publish(writes(a="1"), OTHER)
        saved = here.save(writes(a="1"))
        here.save(writes(a="1"), CacheKey("else", "f", "wd"))

        listed = here.shelf.listed("company")

        assert [one.entry for one in listed] == [stored, saved]
        assert [here.shelf.is_stored(one.entry) for one in listed if one.entry] == [True, False]
        assert [len(here.shelf.layers_here(one.entry)) for one in listed if one.entry] == [0, 1]
        assert len(here.shelf.listed()) == 3
        assert here.shelf.listed("comp") == []

    def test_given_one_here_and_another_one_stored_then_the_newer_one_is_listed(
        self, here: Machine, there: Machine
    ) -> None:
        there.save_and_publish(writes(a="1"))
        here.clock.now += HOUR
        newer = here.save(writes(a="2"))

        assert [one.entry for one in here.shelf.listed()] == [newer]
        here.clock.now += HOUR
        newest = there.save_and_publish(writes(a="3"))
        assert [one.entry for one in here.shelf.listed()] == [newest]

    def test_given_one_of_another_boot_then_it_is_not_listed(
        self, here: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.save(writes(a="1"))
        monkeypatch.setattr(cache_shelf, "this_boot", lambda: "another")

        assert here.shelf.listed() == []

    @pytest.mark.parametrize("publishes", [False, True])
    def test_given_an_entry_when_cleared_then_it_is_gone_here_and_in_storage(
        self, here: Machine, there: Machine, publishes: bool
    ) -> None:
        here.save(writes(a="1"))
        if publishes:
            here.publish()
            there.restored()

        [listed] = here.shelf.listed()
        here.shelf.clear(listed)

        assert here.shelf.listed() == []
        assert (here.find().outcome, there.find().outcome) == ("none", "none")
        assert here.publish() is None
        here.layers.sweep()
        assert here.layers.pool.layers() == []
        assert list(here.storage.list("/")) == []

    def test_given_a_pointer_that_cannot_be_read_when_cleared_then_it_is_gone(self, here: Machine) -> None:
        here.storage.put(f"{KEY.folder}/current.json", BytesIO(b"{"))

        [listed] = here.shelf.listed()
        here.shelf.clear(listed)

        assert here.shelf.listed() == []

    def test_given_an_entry_that_is_just_being_stored_when_cleared_then_it_does_not_come_back(
        self, here: Machine, there: Machine
    ) -> None:
        here.save(writes(a="1"))
        [listed] = here.shelf.listed()
        clearing = threading.Thread(target=here.again().shelf.clear, args=(listed,))

        def clear() -> None:
            if not clearing.is_alive():
                clearing.start()

        here.publish(check=lambda: clear() if clearing.ident is None else None)
        clearing.join()

        assert (here.find().outcome, there.find().outcome) == ("none", "none")


class TestRelocation:
    def test_given_another_path_then_files_that_hold_the_former_one_are_changed(
        self, here: Machine, there: Machine
    ) -> None:
        roots: list[str] = []

        def edit(root: Path) -> None:
            roots.append(str(root))
            (root / "run").write_text(f"#!{root}/bin/python\n")

        here.save_and_publish(edit)
        with there.layers.directory("wd") as directory:
            there.shelf.fill(directory, there.find())
            path = directory.path
            text = (Path(path) / "run").read_text()

        assert path != roots[0]
        assert text == f"#!{path}/bin/python\n"


def _note_is_there(machine: Machine, key: CacheKey) -> bool:
    return machine.layers.pool.entries.get(note_name(key)) is not None


class TestMachinesAtWork:
    def test_given_many_that_find_save_publish_evict_and_sweep_then_every_hit_is_whole(
        self, here: Machine, there: Machine
    ) -> None:
        troubles: list[object] = []
        stop = threading.Event()

        def edit(root: Path) -> None:
            value = os.urandom(4).hex()
            for name in "abcd":
                (root / name).write_text(value)

        def run(machine: Machine) -> None:
            for _ in range(6):
                try:
                    found = machine.find()
                    if found.entry is not None:
                        try:
                            seen: Mapping[str, str] = machine.restored(found)
                        except NotFoundError:
                            continue
                        if len(seen) != 4 or len(set(seen.values())) != 1:
                            troubles.append(seen)
                    machine.clock.now += timedelta(seconds=1)
                    machine.save(edit)
                    machine.publish()
                except Exception as error:
                    troubles.append(error)

        def tidy(machine: Machine) -> None:
            while not stop.is_set():
                machine.shelf.evict(10)
                machine.layers.sweep()

        runs = [threading.Thread(target=run, args=(machine,)) for machine in (here, here.again(), there)]
        janitors = [threading.Thread(target=tidy, args=(machine.again(),)) for machine in (here, there)]
        for thread in (*runs, *janitors):
            thread.start()
        for thread in runs:
            thread.join()
        stop.set()
        for thread in janitors:
            thread.join()

        assert troubles == []
        assert here.restored() == there.restored()
