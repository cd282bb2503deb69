from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from tercel.errors import NotFoundError
from tercel.model.packs import PackedTree
from tercel.storage.caches import CacheEntry, CacheKey, Caches, Found, patterns_differ, this_platform
from tercel.storage.local import LocalStorage

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = CacheKey("company.team", "my-flow", "wd")


def an_entry(key: CacheKey = KEY, *, content: str = "a", saved_at: datetime = NOON, **more: object) -> CacheEntry:
    pack = PackedTree(sha256=content[:1] * 64, files=1, bytes=10, packed_bytes=5, root="/tmp/x")
    entry = CacheEntry(key=key, saved_at=saved_at, patterns=("venv/**",), platform=this_platform(), pack=pack)
    return msgspec.structs.replace(entry, **more)


class Fixture:
    def __init__(self, folder: Path) -> None:
        self.storage = LocalStorage(folder / "storage")
        self.caches = Caches(self.storage)
        self._folder = folder

    def save(self, entry: CacheEntry) -> bool:
        file = self._folder / "pack"
        file.write_text(entry.pack.sha256)
        return self.caches.save(entry, str(file))

    def files(self) -> list[str]:
        return [file.uri.removeprefix("kestra://") for file in self.storage.list("/")]


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


class TestFind:
    def test_given_nothing_saved_then_none(self, cached: Fixture) -> None:
        assert cached.caches.find(KEY, now=NOON) == Found("none")

    def test_given_a_saved_entry_then_a_hit_with_its_age_and_its_object(self, cached: Fixture) -> None:
        entry = an_entry(seconds=12.5, execution_id="e1", revision=3)
        assert cached.save(entry)

        found = cached.caches.find(KEY, now=NOON + HOUR)

        assert (found.outcome, found.entry, found.age) == ("hit", entry, HOUR)
        with cached.caches.open(entry) as stream:
            assert stream.read() == b"a" * 64
        assert cached.caches.version(entry)

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
        self, cached: Fixture, age: timedelta, ttl: timedelta | None, outcome: str
    ) -> None:
        cached.save(an_entry())

        assert cached.caches.find(KEY, now=NOON + age, ttl=ttl).outcome == outcome
        assert (cached.files() == []) is (outcome == "expired")

    def test_given_a_hit_within_the_hour_when_counted_from_last_use_then_it_lives_on(self, cached: Fixture) -> None:
        cached.save(an_entry())
        used, later = NOON + timedelta(minutes=30), NOON + timedelta(minutes=65)

        cached.caches.touch(an_entry(), used)

        assert cached.caches.find(KEY, now=later, ttl=HOUR, ttl_from="LAST_USED").outcome == "hit"
        assert cached.caches.find(KEY, now=later, ttl=HOUR).outcome == "expired"

    def test_given_a_new_entry_then_the_use_of_the_old_one_counts_no_more(self, cached: Fixture) -> None:
        cached.save(an_entry())
        cached.caches.touch(an_entry(), NOON + 5 * HOUR)
        cached.save(an_entry(content="b", saved_at=NOON + HOUR))

        found = cached.caches.find(KEY, now=NOON + 3 * HOUR, ttl=HOUR, ttl_from="LAST_USED")

        assert found.outcome == "expired"

    def test_given_another_platform_then_it_is_said(self, cached: Fixture) -> None:
        cached.save(an_entry(platform="linux-riscv64"))

        assert cached.caches.find(KEY, now=NOON).outcome == "platform"
        assert cached.caches.find(KEY, now=NOON, platform="linux-riscv64").outcome == "hit"

    @pytest.mark.parametrize("text", [b"", b"garbage", b"{}", b'{"formatVersion": 1}', b"\xff"])
    def test_given_a_pointer_that_cannot_be_read_then_damaged_once_and_gone(self, cached: Fixture, text: bytes) -> None:
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(text))

        assert cached.caches.find(KEY, now=NOON).outcome == "damaged"
        assert cached.caches.find(KEY, now=NOON).outcome == "none"

    def test_given_an_entry_of_another_identity_in_its_place_then_none(self, cached: Fixture) -> None:
        other = an_entry(CacheKey("company.team", "my-flow", "other"))
        cached.storage.put(f"{KEY.folder}/current.json", BytesIO(msgspec.json.encode(other)))

        assert cached.caches.find(KEY, now=NOON).outcome == "none"


class TestSave:
    def test_given_a_newer_entry_then_only_its_object_stays(self, cached: Fixture) -> None:
        cached.save(an_entry())

        assert cached.save(an_entry(content="b"))

        folder = KEY.folder
        assert cached.files() == [f"{folder}/current.json", f"{folder}/objects/{'b' * 64}.tar.zst"]
        with pytest.raises(NotFoundError):
            cached.caches.version(an_entry())

    def test_given_the_same_content_then_nothing_is_stored(self, cached: Fixture) -> None:
        cached.save(an_entry())

        assert not cached.save(an_entry(saved_at=NOON + HOUR))
        assert cached.caches.find(KEY, now=NOON + HOUR).age == HOUR

    def test_given_the_same_content_for_other_patterns_then_the_pointer_tells(self, cached: Fixture) -> None:
        cached.save(an_entry())

        assert cached.save(an_entry(patterns=("b/**",)))

        entry = cached.caches.find(KEY, now=NOON).entry
        assert entry is not None
        assert patterns_differ(entry, ["venv/**"], [])
        assert not patterns_differ(entry, ["b/**"], [])
        assert cached.caches.version(entry)

    def test_given_the_object_is_gone_then_the_same_content_is_stored_again(self, cached: Fixture) -> None:
        cached.save(an_entry())
        cached.storage.delete([f"kestra://{KEY.folder}/objects/{'a' * 64}.tar.zst"])

        assert cached.save(an_entry())
        assert cached.caches.version(an_entry())


class TestDrop:
    def test_given_a_fresh_entry_took_its_place_then_it_stays(self, cached: Fixture) -> None:
        cached.save(an_entry())
        found = cached.caches.find(KEY, now=NOON)
        cached.save(an_entry(content="b"))

        assert not cached.caches.drop(found)
        assert cached.caches.find(KEY, now=NOON).entry == an_entry(content="b")

    def test_given_it_is_the_one_found_then_all_of_it_goes(self, cached: Fixture) -> None:
        cached.save(an_entry())
        cached.caches.touch(an_entry(), NOON)

        assert cached.caches.drop(cached.caches.find(KEY, now=NOON))
        assert cached.files() == []


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
            cached.save(an_entry(key))
        cached.storage.put("/company/team/my-flow/executions/e/tasks/cache/1/outputs/current.json", BytesIO(b"x"))
        cached.storage.put("/company/team/_files/cache/current.json", BytesIO(b"x"))

        def found(*place: str) -> set[CacheKey | None]:
            return {listed.entry and listed.entry.key for listed in cached.caches.search(*place)}

        assert found() == set(self.KEYS)
        assert found("company") == set(self.KEYS[:5])
        assert found("company.team", "my-flow") == set(self.KEYS[:3])
        assert found("company.team", "my-flow", "wd") == set(self.KEYS[:2])
        assert found("none") == set()

    def test_given_a_flow_is_deleted_then_its_entries_go_and_no_others(self, cached: Fixture) -> None:
        for key in self.KEYS:
            cached.save(an_entry(key))

        assert cached.caches.delete_flow("company.team", "my-flow") == 3
        assert {listed.entry and listed.entry.key for listed in cached.caches.search()} == set(self.KEYS[3:])

    def test_given_a_use_when_listed_then_its_date_is_told(self, cached: Fixture) -> None:
        cached.save(an_entry())
        assert cached.caches.search()[0].last_used_at is None

        cached.caches.touch(an_entry(), NOON + HOUR)

        assert cached.caches.search()[0].last_used_at == NOON + HOUR

    def test_given_lost_objects_when_collected_then_only_old_ones_without_a_pointer_go(self, cached: Fixture) -> None:
        cached.save(an_entry())
        lost = cached.storage.put(f"{KEY.folder}/objects/{'c' * 64}.tar.zst", BytesIO(b"x"))
        users = cached.storage.put(f"/else/cache/objects/{'c' * 64}.txt", BytesIO(b"x"))
        now = datetime.now(UTC)

        assert cached.caches.collect(now) == 0
        assert cached.caches.collect(now + 2 * HOUR) == 1
        assert not cached.storage.exists(lost)
        assert cached.storage.exists(users)
        assert cached.caches.version(an_entry())


class TestHostilePointers:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"2030-01-01T12:00:00Z", b"2030-01-01T12:00:00"),
            (b"a" * 64, b"../../../../x"),
            (b'"bytes":10', b'"bytes":-10'),
            (b'"my-flow"', b'"my-fl\xff"'),
        ],
    )
    def test_given_a_pointer_that_we_never_write_then_it_is_dropped(
        self, cached: Fixture, old: bytes, new: bytes
    ) -> None:
        cached.save(an_entry())
        path = f"{KEY.folder}/current.json"
        with cached.storage.get(f"kestra://{path}") as file:
            content = file.read()
        assert old in content
        cached.storage.put(path, BytesIO(content.replace(old, new)))

        assert cached.caches.find(KEY, now=NOON).outcome == "damaged"
        assert cached.caches.find(KEY, now=NOON).outcome == "none"

    def test_given_a_note_of_use_without_a_time_zone_then_it_does_not_count(self, cached: Fixture) -> None:
        entry = an_entry()
        cached.save(entry)
        cached.caches.touch(entry, NOON.replace(tzinfo=None))

        found = cached.caches.find(KEY, now=NOON + 2 * HOUR, ttl=HOUR, ttl_from="LAST_USED")

        assert found.outcome == "expired"
