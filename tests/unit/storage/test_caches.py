from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from tercel.errors import NotFoundError
from tercel.model.packs import PackedTree
from tercel.storage.caches import CacheEntry, CacheKey, Caches, Use, age_of, patterns_differ, this_platform
from tercel.storage.local import LocalStorage

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = CacheKey("company.team", "my-flow", "wd")
A, B, C = (letter * 32 for letter in "abc")


def a_pack(layer: str) -> PackedTree:
    return PackedTree(id=layer, sha256=layer * 2, files=1, bytes=10, packed_bytes=5, root="/tmp/x")


def an_entry(*layers: str, key: CacheKey = KEY, saved_at: datetime = NOON, **more: object) -> CacheEntry:
    entry = CacheEntry(
        id="e" * 32,
        key=key,
        saved_at=saved_at,
        patterns=("venv/**",),
        platform=this_platform(),
        root="/tmp/x",
        layers=tuple(map(a_pack, layers or (A,))),
    )
    return msgspec.structs.replace(entry, **more)


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.storage = LocalStorage(folder / "storage")
        self.caches = Caches(self.storage)
        self._folder = folder

    def store(self, layer: str, key: CacheKey = KEY) -> None:
        file = self._folder / "pack"
        file.write_text(layer)
        self.caches.store(key, layer, str(file))
        assert not file.exists()

    def publish(self, entry: CacheEntry) -> bool:
        """Store what is not there of an entry, and point to it."""
        for layer in entry.layers:
            if not self.storage.exists(self.caches.object_uri(entry.key, layer.id)):
                self.store(layer.id, entry.key)
        return self.caches.publish(entry)

    def current(self) -> CacheEntry | None:
        stored = self.caches.read(KEY)
        return None if stored is None else stored.entry

    def files(self) -> list[str]:
        return [file.uri.removeprefix("kestra://") for file in self.storage.list("/")]

    def objects(self) -> list[str]:
        return [name[0] for uri in self.files() if (name := Path(uri).name).endswith(".tar.zst")]


@pytest.fixture
def cached(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


class TestFolder:
    def test_given_values_and_key_then_each_combination_has_its_own_place(self) -> None:
        keys = [
            KEY,
            CacheKey("company.team", "my-flow", "wd", ("value",)),
            CacheKey("company.team", "my-flow", "wd", ("value", "b")),
            CacheKey("company.team", "my-flow", "wd", ('["value","b"]',), "k"),
            CacheKey("company.team", "my-flow", "wd", (), "value"),
            CacheKey("company.team", "my-flow", "w_d"),
            CacheKey("company.team", "my_flow", "wd"),
        ]

        folders = [key.folder for key in keys]

        assert folders[0] == "/company/team/my-flow/wd/cache"
        assert folders[1] == "/company/team/my-flow/wd/cache/7d04fd3bbbc0946dc06caf7356fdf051"
        assert len(set(folders)) == len(folders)


class TestRead:
    def test_given_nothing_saved_then_none(self, cached: Fixture) -> None:
        assert cached.caches.read(KEY) is None

    def test_given_a_published_entry_then_it_is_read_back_with_its_version(self, cached: Fixture) -> None:
        entry = an_entry(A, B, seconds=12.5, execution_id="e1", revision=3, files=4, bytes=20)
        assert cached.publish(entry)

        stored = cached.caches.read(KEY)

        assert stored is not None
        assert (stored.entry, entry.packed_bytes) == (entry, 10)
        assert stored.version == cached.storage.stat(f"kestra://{KEY.folder}/current.json").version

    @pytest.mark.parametrize("text", [b"", b"garbage", b"{}", b"\xff", b'{"formatVersion":2}'])
    def test_given_a_pointer_that_cannot_be_read_then_it_has_a_version_and_no_entry(
        self, cached: Fixture, text: bytes
    ) -> None:
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(text))

        stored = cached.caches.read(KEY)

        assert stored is not None
        assert stored.entry is None
        assert cached.caches.drop(stored, KEY)
        assert cached.files() == []

    @pytest.mark.parametrize("text", [b'{"formatVersion": 1}', b'{"formatVersion": 3, "new": true}'])
    def test_given_a_pointer_of_another_version_of_tercel_then_none_and_it_stays(
        self, cached: Fixture, text: bytes
    ) -> None:
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(text))

        assert cached.caches.read(KEY) is None
        assert cached.files() == [f"{KEY.folder}/current.json"]

    def test_given_an_entry_of_another_identity_in_its_place_then_none(self, cached: Fixture) -> None:
        other = an_entry(key=CacheKey("company.team", "my-flow", "other"))
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(msgspec.json.encode(other)))

        assert cached.caches.read(KEY) is None

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"2030-01-01T12:00:00Z", b"2030-01-01T12:00:00"),
            (b"a" * 64, b"../../../../x"),
            (b'"' + b"a" * 32 + b'"', b'"../../../../x"'),
            (b'"bytes":10', b'"bytes":-10'),
            (b'"my-flow"', b'"my-fl\xff"'),
        ],
    )
    def test_given_a_pointer_that_we_never_write_then_it_is_no_entry(
        self, cached: Fixture, old: bytes, new: bytes
    ) -> None:
        content = msgspec.json.encode(an_entry())
        assert old in content
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(content.replace(old, new)))

        stored = cached.caches.read(KEY)

        assert stored is not None
        assert stored.entry is None


class TestObjects:
    def test_given_a_stored_layer_then_it_can_be_opened_and_has_a_version(self, cached: Fixture) -> None:
        cached.store(A)

        with cached.caches.open(KEY, A) as stream:
            assert stream.read() == A.encode()
        assert cached.caches.version(KEY, A)
        assert cached.files() == [f"{KEY.folder}/objects/{A}.tar.zst"]

    def test_given_another_content_then_the_version_is_another(self, cached: Fixture) -> None:
        cached.store(A)
        before = cached.caches.version(KEY, A)

        cached.storage.put(f"{KEY.folder}/objects/{A}.tar.zst", BytesIO(b"else"))

        assert cached.caches.version(KEY, A) != before

    def test_given_none_then_it_is_not_found(self, cached: Fixture) -> None:
        with pytest.raises(NotFoundError):
            cached.caches.version(KEY, A)
        with pytest.raises(NotFoundError):
            cached.caches.open(KEY, A)


class TestUse:
    def test_given_a_touch_then_it_is_the_last_use_of_that_entry_only(self, cached: Fixture) -> None:
        entry = an_entry()
        assert cached.caches.use(entry) is None

        cached.caches.touch(entry, NOON + HOUR)

        assert cached.caches.use(entry) == Use(entry.id, NOON + HOUR)
        assert cached.caches.use(an_entry(id="f" * 32)) is None

    def test_given_a_note_of_use_without_a_time_zone_then_it_does_not_count(self, cached: Fixture) -> None:
        cached.caches.touch(an_entry(), NOON.replace(tzinfo=None))

        assert cached.caches.use(an_entry()) is None

    def test_given_a_touch_then_the_pointer_is_not_written(self, cached: Fixture) -> None:
        cached.publish(an_entry())
        before = cached.caches.read(KEY)

        cached.caches.touch(an_entry(), NOON)

        assert cached.caches.read(KEY) == before


class TestAge:
    @pytest.mark.parametrize(
        ("ttl_from", "used", "age"),
        [
            ("SAVED", None, 3 * HOUR),
            ("SAVED", NOON + HOUR, 3 * HOUR),
            ("LAST_USED", None, 3 * HOUR),
            ("LAST_USED", NOON + HOUR, 2 * HOUR),
            ("LAST_USED", NOON - HOUR, 3 * HOUR),
        ],
    )
    def test_given_a_save_and_a_use_then_the_later_one_counts_where_uses_do(
        self, ttl_from: str, used: datetime | None, age: timedelta
    ) -> None:
        entry = an_entry()
        use = None if used is None else Use(entry.id, used)

        assert age_of(entry, use, NOON + 3 * HOUR, ttl_from) == age  # type: ignore[arg-type]


class TestPatternsDiffer:
    def test_given_the_same_ones_then_not_and_given_others_then_so(self) -> None:
        entry = an_entry(patterns=("a", "b"), exclude=("c",))

        assert not patterns_differ(entry, ["a", "b"], ["c"])
        assert patterns_differ(entry, ["b", "a"], ["c"])
        assert patterns_differ(entry, ["a", "b"], [])


class TestPublish:
    def test_given_a_newer_entry_then_only_its_objects_stay(self, cached: Fixture) -> None:
        cached.publish(an_entry(A, B))

        assert cached.publish(an_entry(B, C, saved_at=NOON + HOUR))

        assert cached.objects() == ["b", "c"]
        assert len(cached.files()) == 3

    def test_given_one_that_was_saved_later_then_it_stays_and_what_only_ours_needs_goes(self, cached: Fixture) -> None:
        later = an_entry(A, B, saved_at=NOON + HOUR)
        cached.publish(later)

        assert not cached.publish(an_entry(A, C))

        assert cached.current() == later
        assert cached.objects() == ["a", "b"]

    def test_given_a_pointer_that_cannot_be_read_then_it_is_replaced(self, cached: Fixture) -> None:
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(b"{"))

        assert cached.publish(an_entry())

        assert cached.current() == an_entry()

    def test_given_it_is_published_again_then_nothing_changes(self, cached: Fixture) -> None:
        cached.publish(an_entry(A, B))

        assert cached.publish(an_entry(A, B))

        assert cached.objects() == ["a", "b"]


class TestDrop:
    def test_given_a_fresh_entry_took_its_place_then_it_stays(self, cached: Fixture) -> None:
        cached.publish(an_entry())
        stored = cached.caches.read(KEY)
        assert stored is not None
        fresh = an_entry(B, saved_at=NOON + HOUR)
        cached.publish(fresh)

        assert not cached.caches.drop(stored, KEY)

        assert cached.current() == fresh
        assert cached.objects() == ["b"]

    def test_given_it_is_the_one_read_then_all_of_it_goes(self, cached: Fixture) -> None:
        cached.publish(an_entry(A, B))
        cached.caches.touch(an_entry(), NOON)
        stored = cached.caches.read(KEY)
        assert stored is not None

        assert cached.caches.drop(stored, KEY)
        assert cached.files() == []
        assert not cached.caches.drop(stored, KEY)


class TestSearchAndDelete:
    KEYS = (
        KEY,
        CacheKey("company.team", "my-flow", "wd", ("a",), "k"),
        CacheKey("company.team", "my-flow", "cache"),
        CacheKey("company.team", "other", "wd"),
        CacheKey("company.team.my-flow", "f", "wd"),
        CacheKey("else", "objects", "cache"),
    )

    def test_given_entries_when_searched_then_those_of_the_place(self, cached: Fixture) -> None:
        for key in self.KEYS:
            cached.publish(an_entry(key=key))
        cached.storage.put("/company/team/my-flow/executions/e/tasks/cache/1/outputs/current.json", BytesIO(b"x"))
        cached.storage.put("/company/team/_files/cache/current.json", BytesIO(b"x"))

        def found(*place: str) -> set[CacheKey | None]:
            return {listed.entry and listed.entry.key for listed in cached.caches.search(*place)}

        assert found() == set(self.KEYS)
        assert found("company") == set(self.KEYS[:5])
        assert found("company.team", "my-flow") == set(self.KEYS[:3])
        assert found("company.team", "my-flow", "wd") == set(self.KEYS[:2])
        assert found("none") == set()

    def test_given_one_that_cannot_be_read_then_it_is_listed_and_can_be_deleted(self, cached: Fixture) -> None:
        cached.store(A)
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(b"{"))

        [listed] = cached.caches.search()
        cached.caches.delete(listed.folder)

        assert (listed.folder, listed.entry, listed.use) == (KEY.folder, None, None)
        assert cached.files() == []

    def test_given_a_flow_is_deleted_then_its_entries_go_and_no_others(self, cached: Fixture) -> None:
        for key in self.KEYS:
            cached.publish(an_entry(key=key))

        assert cached.caches.delete_flow("company.team", "my-flow") == 3
        assert {listed.entry and listed.entry.key for listed in cached.caches.search()} == set(self.KEYS[3:])
        assert len(cached.objects()) == 3

    def test_given_an_entry_is_deleted_then_one_below_it_by_a_key_stays(self, cached: Fixture) -> None:
        for key in self.KEYS[:2]:
            cached.publish(an_entry(key=key))

        cached.caches.delete(KEY.folder)

        assert [listed.folder for listed in cached.caches.search()] == [self.KEYS[1].folder]
        assert cached.caches.version(self.KEYS[1], A)

    def test_given_a_use_when_listed_then_its_date_is_told(self, cached: Fixture) -> None:
        cached.publish(an_entry())
        assert cached.caches.search()[0].use is None

        cached.caches.touch(an_entry(), NOON + HOUR)

        assert cached.caches.search()[0].use == Use(an_entry().id, NOON + HOUR)


class TestCollect:
    def test_given_lost_objects_then_only_old_ones_without_a_pointer_go(self, cached: Fixture) -> None:
        cached.publish(an_entry(A, B))
        cached.store(C)
        users = cached.storage.put(f"/else/cache/objects/{C}.txt", BytesIO(b"x"))
        now = datetime.now(UTC)

        assert cached.caches.collect(now) == 0
        assert cached.caches.collect(now + 2 * HOUR) == 1

        assert cached.objects() == ["a", "b"]
        assert cached.storage.exists(users)
