"""The local tier: notes, work under way, what the janitor removes and what it must not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path

import msgspec
import pytest

from tercel.layers.pool import Facts, Note, Notes, Pool, only_one


def a_note(*layers: str, body: str = "{}", boot: str = "") -> Note:
    return Note(layers, msgspec.Raw(body.encode()), boot)


def write(pool: Pool, layer: str, **files: str) -> None:
    for name, text in files.items():
        Path(pool.tree(layer), name).write_text(text)


def kept(pool: Pool, **files: str) -> str:
    """A layer whose work is over and that nothing names yet."""
    with pool.work() as work:
        layer = work.new_layer()
        write(pool, layer, **files)
        work.keep([layer])
    return layer


def left_by_a_dead_process(folder: Path) -> list[str]:
    """What a process makes that is killed in the middle of its work: a layer it would keep and one it would not."""
    script = (
        "import os, sys\n"
        "from tercel.layers.pool import Pool\n"
        "pool = Pool(sys.argv[1])\n"
        "with pool.work() as work:\n"
        "    layers = [work.new_layer(), work.new_layer()]\n"
        "    work.keep(layers[:1])\n"
        "    print(*layers, flush=True)\n"
        "    os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, capture_output=True, text=True)
    return done.stdout.split()


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return Pool(str(tmp_path / "pool"))


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(str(tmp_path / "notes"), str(tmp_path / "lock"))


class TestNotes:
    def test_given_a_note_then_it_is_read_back(self, notes: Notes) -> None:
        note = a_note("a", "b", body='{"x":1}', boot="now")

        assert notes.put("one", note)

        assert notes.get("one") == note
        assert notes.get("none") is None
        assert notes.names() == ["one"]

    @pytest.mark.parametrize("content", [b"", b"{", b'{"layers": 1}', b"\xff\0", b'{"layers":["a"]}'])
    def test_given_half_a_note_then_there_is_none(self, notes: Notes, tmp_path: Path, content: bytes) -> None:
        notes.put("one", a_note())
        (tmp_path / "notes/one").write_bytes(content)

        assert notes.get("one") is None

    def test_given_a_note_that_was_read_then_it_is_replaced_or_removed_only_while_it_is_there(
        self, notes: Notes
    ) -> None:
        first, second, third = (a_note(name) for name in "abc")
        notes.put("one", first)
        notes.put("one", second)

        assert not notes.put("one", third, instead_of=first)
        assert not notes.remove("one", only=first)
        assert notes.get("one") == second
        assert notes.put("one", third, instead_of=second)
        assert notes.remove("one", only=third)
        assert not notes.remove("one")
        assert not notes.put("one", first, instead_of=third)
        assert notes.names() == []

    def test_given_a_writer_that_compares_then_another_writer_does_not_get_between(
        self, notes: Notes, tmp_path: Path
    ) -> None:
        # Otherwise a run saves, and the keeper's note of the entry before takes its place.
        notes.put("one", a_note("a"))
        held = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        flock(held, LOCK_EX)
        writer = threading.Thread(target=notes.put, args=("one", a_note("b")))
        writer.start()

        writer.join(0.05)
        seen_meanwhile = notes.get("one")
        os.close(held)
        writer.join()

        assert seen_meanwhile == a_note("a")
        assert notes.get("one") == a_note("b")

    def test_given_notes_that_are_written_and_used_then_the_least_recent_one_is_first(self, notes: Notes) -> None:
        for name in ("a", "b", "c"):
            notes.put(name, a_note())
            time.sleep(0.02)
        notes.note_use("a")
        notes.note_use("none")

        assert notes.names() == ["b", "c", "a"]
        assert notes.used_at("a") > notes.used_at("c")
        assert notes.used_at("none") == 0

    def test_given_uses_then_they_are_counted_until_forgotten(self, notes: Notes) -> None:
        notes.put("a", a_note())
        assert notes.uses("a") == 0

        for _ in range(3):
            notes.note_use("a")
        assert notes.uses("a") == 3
        notes.put("a", a_note("x"))
        assert notes.uses("a") == 3
        notes.forget_uses("a")
        notes.forget_uses("a")

        assert notes.uses("a") == 0

    def test_given_writers_at_once_then_every_read_is_a_whole_note(self, notes: Notes) -> None:
        every = [a_note(*[letter * 32] * 50) for letter in "abcd"]
        notes.put("one", every[0])

        def write(note: Note) -> None:
            for _ in range(30):
                notes.put("one", note)

        writers = [threading.Thread(target=write, args=(note,)) for note in every]
        for writer in writers:
            writer.start()
        seen = [notes.get("one") for _ in range(100)]
        for writer in writers:
            writer.join()

        assert all(note in every for note in seen)
        assert notes.names() == ["one"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_given_a_full_disk_then_the_note_before_stays_and_nothing_is_left_over(tmp_path: Path) -> None:
    from tercel.mounts import mount, own_mounts

    def attempt() -> None:
        with own_mounts():
            (tmp_path / "small").mkdir()
            mount("small", str(tmp_path / "small"), "tmpfs", 0, "size=64k")
            notes = Notes(str(tmp_path / "small/notes"), str(tmp_path / "small/lock"))
            notes.put("one", a_note("a"))
            with pytest.raises(OSError, match="No space"):
                (tmp_path / "small/filler").write_bytes(bytes(100_000))

            with pytest.raises(OSError, match="No space"):
                notes.put("one", a_note(*["b" * 32] * 1000))

            found.append(notes.get("one"))
            found.append(os.listdir(tmp_path / "small/notes"))

    found: list[object] = []
    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()

    assert found == [a_note("a"), ["one"]]


class TestWork:
    def test_given_work_then_its_layers_are_there_until_its_end_unless_they_are_kept(self, pool: Pool) -> None:
        with pool.work() as work:
            mine, kept_one = work.new_layer(), work.new_layer()
            Path(work.folder, "x").touch()
            assert pool.has(mine)
            work.keep([kept_one])

        assert (pool.has(mine), pool.has(kept_one)) == (False, True)
        assert pool.layers() == [kept_one]
        assert os.listdir(f"{pool.folder}/work") == []

    def test_given_an_id_then_only_the_folder_around_the_tree_is_there(self, pool: Pool) -> None:
        with pool.work() as work:
            layer = work.new_id()

            assert len(layer) == 32
            assert not pool.has(layer)
            os.mkdir(pool.tree(layer))
            assert pool.has(layer)

    def test_given_the_pool_then_nobody_else_may_look_into_it(self, pool: Pool) -> None:
        with pool.work() as work:
            layer = work.new_layer()

            for folder in (pool.folder, pool.layers_folder, work.folder, pool.tree(layer)):
                assert os.stat(folder).st_mode & 0o777 == 0o700
            assert os.path.samefile(os.path.join(pool.layers_folder, pool.relative_tree(layer)), pool.tree(layer))
            assert os.listdir(os.path.join(pool.layers_folder, pool.empty_tree)) == []

    def test_given_an_error_in_the_middle_then_nothing_stays(self, pool: Pool) -> None:
        def fail() -> None:
            with pool.work() as work:
                write(pool, work.new_layer(), x="1")
                raise ValueError("oh")

        with pytest.raises(ValueError, match="oh"):
            fail()

        assert pool.layers() == []
        assert os.listdir(f"{pool.folder}/work") == []

    def test_given_somebody_who_removed_the_pool_then_work_makes_it_again(self, pool: Pool) -> None:
        from tercel.removal import remove_tree

        kept(pool)
        remove_tree(pool.folder)

        layer = kept(pool)

        assert pool.layers() == [layer]


class TestAdoptAndDiscard:
    def test_given_a_folder_that_is_ready_then_it_is_a_layer(self, pool: Pool) -> None:
        with pool.work() as work:
            os.makedirs(f"{work.folder}/f/t")
            pool.adopt("a" * 32, f"{work.folder}/f")

            assert pool.has("a" * 32)

    def test_given_it_is_there_already_then_the_first_one_stays(self, pool: Pool) -> None:
        layer = kept(pool, x="first")
        with pool.work() as work:
            os.makedirs(f"{work.folder}/f/t")
            Path(work.folder, "f/t/x").write_text("second")
            pool.adopt(layer, f"{work.folder}/f")

        assert Path(pool.tree(layer), "x").read_text() == "first"
        assert pool.layers() == [layer]

    def test_given_a_layer_that_is_no_good_when_discarded_then_it_is_gone_at_once(self, pool: Pool) -> None:
        layer = kept(pool, x="1")

        pool.discard(layer)
        pool.discard("b" * 32)

        assert not pool.has(layer)
        assert pool.layers() == []


class TestFacts:
    def test_given_facts_then_they_are_read_back_and_replaced(self, pool: Pool) -> None:
        layer = kept(pool)
        assert pool.facts(layer) is None

        pool.set_facts(layer, Facts(1, 2, {"uri": "v1"}))
        pool.set_facts(layer, Facts(1, 2, {"uri": "v2"}))

        assert pool.facts(layer) == Facts(1, 2, {"uri": "v2"})
        assert sorted(os.listdir(os.path.dirname(pool.tree(layer)))) == ["facts", "t"]

    def test_given_half_of_them_then_none_are_known(self, pool: Pool) -> None:
        layer = kept(pool, x="1234")
        pool.set_facts(layer, Facts(1, 2))
        Path(pool.tree(layer)).with_name("facts").write_bytes(b'{"files":1,')

        assert pool.facts(layer) is None
        assert pool.bytes(layer) == 4

    def test_given_a_layer_then_its_bytes_are_counted_once(self, pool: Pool) -> None:
        layer = kept(pool, x="1234", y="56")
        os.link(f"{pool.tree(layer)}/x", f"{pool.tree(layer)}/x-too")

        assert pool.bytes(layer) == 6
        write(pool, layer, z="789")
        assert pool.bytes(layer) == 6

    def test_given_a_layer_that_is_gone_then_nothing_is_counted_or_made(self, pool: Pool) -> None:
        kept(pool)

        assert pool.bytes("a" * 32) == 0
        pool.set_facts("a" * 32, Facts(1, 2))
        assert not os.path.exists(f"{pool.layers_folder}/{'a' * 32}")


class TestSweep:
    def test_given_no_pool_then_nothing_is_made(self, pool: Pool) -> None:
        assert pool.sweep() == 0
        assert not os.path.exists(pool.folder)

    @pytest.mark.parametrize("notes", [lambda pool: pool.entries, lambda pool: pool.runs])
    def test_given_a_note_then_its_layers_stay_and_all_others_go(
        self, pool: Pool, notes: Callable[[Pool], Notes]
    ) -> None:
        named, other = kept(pool), kept(pool)
        notes(pool).put("one", a_note(named))

        assert pool.sweep() == 1

        assert pool.layers() == [named]
        assert not pool.has(other)
        notes(pool).remove("one")
        assert pool.sweep() == 1
        assert pool.layers() == []

    def test_given_a_run_of_which_a_layer_is_gone_then_its_note_and_all_its_layers_go(self, pool: Pool) -> None:
        layer = kept(pool)
        pool.runs.put("one", a_note(layer, "not-here"))

        pool.sweep()

        assert (pool.runs.names(), pool.layers()) == ([], [])

    def test_given_an_entry_of_which_a_layer_is_gone_then_it_stays_as_that_can_be_fetched(self, pool: Pool) -> None:
        layer = kept(pool)
        pool.entries.put("one", a_note(layer, "not-here"))

        pool.sweep()

        assert (pool.entries.names(), pool.layers()) == (["one"], [layer])

    def test_given_work_under_way_then_what_it_makes_and_what_it_uses_stays(self, pool: Pool) -> None:
        used, unused = kept(pool), kept(pool)
        with pool.work() as work:
            mine = work.new_layer()
            work.uses([used])

            Pool(pool.folder).sweep()

            assert (pool.has(mine), pool.has(used), pool.has(unused)) == (True, True, False)
            assert os.path.isdir(work.folder)
        assert pool.sweep() == 1
        assert pool.layers() == []

    def test_given_a_dead_process_then_what_it_left_goes_though_it_wanted_to_keep_it(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        layers = left_by_a_dead_process(tmp_path / "pool")
        assert sorted(pool.layers()) == sorted(layers)
        assert len(layers) == 2

        assert pool.sweep() == 3

        assert pool.layers() == []
        assert os.listdir(f"{pool.folder}/work") == []

    def test_given_a_dead_process_that_wrote_its_note_then_the_layer_stays(self, pool: Pool, tmp_path: Path) -> None:
        first, second = left_by_a_dead_process(tmp_path / "pool")
        pool.entries.put("one", a_note(second))

        pool.sweep()

        assert pool.layers() == [second]
        assert not pool.has(first)

    def test_given_somebody_between_looking_and_using_then_the_janitor_waits(self, pool: Pool) -> None:
        layer = kept(pool)
        janitor = threading.Thread(target=pool.sweep)
        with pool.work() as work:
            with pool.held():
                janitor.start()
                janitor.join(0.05)
                assert pool.has(layer)
                work.uses([layer])
            janitor.join()

            assert pool.has(layer)

    def test_given_half_a_note_then_it_goes_and_its_layers_too(self, pool: Pool) -> None:
        layer = kept(pool)
        pool.entries.put("one", a_note(layer))
        Path(pool.folder, "entries/one").write_bytes(b'{"layers":')

        pool.sweep()

        assert pool.entries.names() == []
        assert pool.layers() == []

    def test_given_counts_of_notes_that_are_gone_then_only_they_go(self, pool: Pool) -> None:
        for name in ("one", "two"):
            pool.entries.put(name, a_note())
            pool.entries.note_use(name)
        pool.entries.remove("one")

        pool.sweep()

        assert sorted(os.listdir(f"{pool.folder}/entries")) == [".two.uses", "two"]
        assert pool.entries.uses("two") == 1

    def test_given_what_others_put_out_of_sight_then_its_files_go(self, pool: Pool) -> None:
        Pool(pool.folder).discard(kept(pool, x="1"))

        pool.sweep()

        assert not [name for name in os.listdir(pool.folder) if name.startswith(".removed")]

    def test_given_many_at_work_and_a_janitor_then_nobody_misses_anything(self, pool: Pool) -> None:
        base = kept(pool, x="1")
        pool.entries.put("base", a_note(base))
        troubles: list[str] = []

        def job(number: int) -> None:
            for round_ in range(5):
                with pool.work() as work:
                    with pool.held():
                        work.uses([base])
                        has_base = pool.has(base)
                    mine = work.new_layer()
                    write(pool, mine, x="1")
                    work.keep([mine])
                    pool.runs.put(f"{number}.{round_}", a_note(base, mine))
                if not has_base or not pool.has(mine) or not Path(pool.tree(base), "x").exists():
                    troubles.append(f"{number}.{round_}")

        threads = [threading.Thread(target=job, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            pool.sweep()
        for thread in threads:
            thread.join()

        assert troubles == []
        assert len(pool.layers()) == 21


class TestOnlyOne:
    def test_given_a_lock_in_use_then_it_is_said_and_free_again_later(self, tmp_path: Path) -> None:
        path = str(tmp_path / "lock")

        with only_one(path) as mine, only_one(path) as theirs:
            assert (mine, theirs) == (True, False)
        with only_one(path) as again:
            assert again
