"""What is stored behind the runs, and what is told of it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tercel.errors import StorageError
from tercel.storage.local import LocalStorage
from tercel.worker.cache_keeper import CacheKeeper, Kept
from tercel.worker.cache_shelf import note_name
from tests.machines import KEY, OTHER, Clock, Machine, writes


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def here(tmp_path: Path, clock: Clock) -> Machine:
    return Machine(tmp_path / "here", LocalStorage(tmp_path / "storage"), clock)


@pytest.fixture
def there(tmp_path: Path, here: Machine, clock: Clock) -> Machine:
    return Machine(tmp_path / "there", here.storage, clock)


def a_keeper(machine: Machine, limit_bytes: int = 1 << 30) -> CacheKeeper:
    return CacheKeeper(machine.shelf, durable=False, limit_bytes=limit_bytes)


class Told:
    """Keeps what it is told; waits where it is told to."""

    def __init__(self) -> None:
        self.all: list[Kept] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.is_told = threading.Event()

    def __call__(self, kept: Kept) -> None:
        self.all.append(kept)
        self.is_told.set()
        self.go_on.wait(10)


@pytest.fixture
def told() -> Told:
    return Told()


class TestEntrust:
    def test_given_entries_then_each_is_stored_and_told_of(self, here: Machine, there: Machine, told: Told) -> None:
        first, second = here.save(writes(a="1")), here.save(writes(b="22"), OTHER)
        keeper = a_keeper(here)

        for key in (KEY, OTHER):
            keeper.entrust(note_name(key), told)
        keeper.wait()

        assert [kept.entry and (kept.entry.id, kept.entry.bytes) for kept in told.all] == [
            (first.id, 1),
            (second.id, 2),
        ]
        assert [(kept.trouble, kept.unreadable) for kept in told.all] == [("", ())] * 2
        assert all(kept.seconds > 0 for kept in told.all)
        assert there.restored() == {"a": "1"}
        keeper.close()

    def test_given_nothing_to_do_then_that_is_told_without_trouble(self, here: Machine, told: Told) -> None:
        keeper = a_keeper(here)

        keeper.entrust("none", told)
        keeper.close()

        assert [(kept.entry, kept.trouble) for kept in told.all] == [(None, "")]

    def test_given_nothing_entrusted_then_there_is_nothing_to_wait_for(self, here: Machine) -> None:
        keeper = a_keeper(here)

        keeper.wait()
        keeper.close()

    def test_given_a_save_that_comes_while_it_is_busy_then_it_has_its_turn(
        self, here: Machine, there: Machine, told: Told
    ) -> None:
        told.go_on.clear()
        keeper = a_keeper(here)
        here.save(writes(a="1"))
        keeper.entrust(note_name(KEY), told)
        assert told.is_told.wait(10)

        here.save(writes(a="2"))
        keeper.entrust(note_name(KEY), told)
        told.go_on.set()
        keeper.wait()

        assert len(told.all) == 2
        assert there.restored() == {"a": "2"}
        keeper.close()

    def test_given_the_limit_is_passed_then_what_was_used_least_recently_goes_from_here(
        self, here: Machine, there: Machine
    ) -> None:
        keeper = a_keeper(here, limit_bytes=150)
        for key in (KEY, OTHER):
            here.save(writes(a="x" * 100), key)
            keeper.entrust(note_name(key))
            keeper.wait()
        keeper.close()

        here.layers.sweep()

        assert len(here.layers.pool.layers()) == 1
        assert here.restored() == there.restored() == {"a": "x" * 100}


class TestTrouble:
    def test_given_a_storage_that_fails_then_it_is_told_and_the_others_are_stored(
        self, here: Machine, there: Machine, told: Told
    ) -> None:
        here.save(writes(a="1"))
        here.save(writes(b="2"), OTHER)
        puts = here.storage.put_file

        def put_file(path: str, file: str, **more: bool) -> str:
            if path.startswith(KEY.folder):
                raise StorageError("The disk is on fire.")
            return puts(path, file, **more)

        here.storage.put_file = put_file  # type: ignore[assignment, method-assign]
        keeper = a_keeper(here)

        for key in (KEY, OTHER):
            keeper.entrust(note_name(key), told)
        keeper.wait()

        assert [kept.trouble for kept in told.all] == ["The disk is on fire.", ""]
        assert told.all[0].entry is None
        assert there.restored(key=OTHER) == {"b": "2"}
        assert here.restored() == {"a": "1"}
        assert here.shelf.unpublished() == [note_name(KEY)]
        keeper.close()

    def test_given_an_error_nobody_thought_of_then_it_is_told_by_its_name(self, here: Machine, told: Told) -> None:
        here.save(writes(a="1"))
        here.storage.put_file = None  # type: ignore[assignment, method-assign]
        keeper = a_keeper(here)

        keeper.entrust(note_name(KEY), told)
        keeper.close()

        assert [kept.trouble for kept in told.all] == ["TypeError: 'NoneType' object is not callable"]

    def test_given_somebody_told_who_fails_then_the_others_are_stored(self, here: Machine, told: Told) -> None:
        def fail(kept: Kept) -> None:
            raise RuntimeError("closed")

        keeper = a_keeper(here)
        keeper.entrust("one", fail)
        keeper.entrust("two", told)
        keeper.wait()

        assert len(told.all) == 1
        keeper.close()


class TestDo:
    def test_given_other_work_then_it_is_done_in_turn_and_the_newest_of_a_name_only(
        self, here: Machine, told: Told
    ) -> None:
        told.go_on.clear()
        done: list[str] = []
        keeper = a_keeper(here)
        keeper.entrust("none", told)
        assert told.is_told.wait(10)

        keeper.do("one", lambda check: done.append("one, first"))
        keeper.do("two", lambda check: done.append("two"))
        keeper.do("one", lambda check: done.append("one, again"))
        told.go_on.set()
        keeper.close()

        assert done == ["two", "one, again"]

    def test_given_work_that_fails_then_what_comes_after_it_is_done(self, here: Machine) -> None:
        done: list[str] = []

        def fail(check: object) -> None:
            raise OSError("no")

        keeper = a_keeper(here)
        keeper.do("one", fail)
        keeper.do("two", lambda check: done.append("two"))
        keeper.close()

        assert done == ["two"]


class TestClose:
    def test_given_what_waits_when_closed_then_it_is_stored_first(self, here: Machine, there: Machine) -> None:
        here.save(writes(a="1"))
        keeper = a_keeper(here)
        keeper.entrust(note_name(KEY))

        keeper.close()

        assert there.restored() == {"a": "1"}
        keeper.close()

    def test_given_no_more_patience_then_it_is_left_and_the_next_process_goes_on_with_it(
        self, here: Machine, there: Machine, told: Told
    ) -> None:
        told.go_on.clear()
        here.save(writes(a="1"))
        keeper = a_keeper(here)
        keeper.entrust("none", told)
        assert told.is_told.wait(10)
        keeper.entrust(note_name(KEY), told)

        threading.Timer(0.05, told.go_on.set).start()
        keeper.close(patience_s=0)

        assert [kept.trouble for kept in told.all] == ["", "the process ended; the next one goes on with it"]
        assert there.find().outcome == "none"
        assert here.restored() == {"a": "1"}
        again = a_keeper(here.again())
        again.entrust_leftovers()
        again.close()
        assert there.restored() == {"a": "1"}

    def test_given_something_that_comes_after_the_end_then_it_is_told_and_nobody_waits_for_it(
        self, here: Machine, told: Told
    ) -> None:
        here.save(writes(a="1"))
        keeper = a_keeper(here)
        keeper.close(patience_s=-1)

        keeper.entrust(note_name(KEY), told)
        keeper.wait()

        assert [kept.trouble for kept in told.all] == ["the process ended; the next one goes on with it"]
        keeper.close(patience_s=-1)


def test_given_a_process_that_was_killed_then_the_next_one_stores_what_it_saved(
    tmp_path: Path, here: Machine, there: Machine, clock: Clock
) -> None:
    here.save(writes(a="1"))
    keeper = a_keeper(Machine(tmp_path / "here", here.storage, clock))

    keeper.entrust_leftovers()
    keeper.close()

    assert there.restored() == {"a": "1"}
