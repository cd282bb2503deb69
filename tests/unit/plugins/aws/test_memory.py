"""What a trigger knows of objects, and how it is written."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tercel.plugins.aws.memory import KnownObjects


def test_given_nothing_known_then_an_object_is_created_and_then_updated() -> None:
    known = KnownObjects()

    first = known.meet("a", "1")
    known.know("a", "1")

    assert (first, known.meet("a", "1"), known.meet("a", "2")) == ("CREATE", None, "UPDATE")


def test_given_objects_that_are_not_met_then_they_can_be_forgotten() -> None:
    written = KnownObjects()
    for key in "abc":
        written.know(key, "1")
    known = KnownObjects(written.write())

    known.meet("b", "1")
    was_complete = known.are_met
    known.forget_unmet()

    assert was_complete is False
    assert len(known) == 1
    assert known.are_met
    assert (known.meet("a", "1"), known.meet("b", "1")) == ("CREATE", None)


def test_given_a_forgotten_object_then_it_is_new() -> None:
    known = KnownObjects()
    known.know("a", "1")

    known.forget("a")
    known.forget("never")

    assert known.meet("a", "1") == "CREATE"
    assert known.write() == ""


def test_given_a_ttl_then_objects_are_forgotten_after_it() -> None:
    known = KnownObjects(ttl_s=10, now_s=100)
    known.know("a", "1")

    early = KnownObjects(known.write(), ttl_s=10, now_s=109)
    late = KnownObjects(known.write(), ttl_s=10, now_s=110)

    assert early.meet("a", "1") is None
    assert late.meet("a", "1") == "CREATE"


def test_given_a_ttl_that_is_new_then_it_counts_from_now_on() -> None:
    known = KnownObjects()
    known.know("a", "1")

    timed = KnownObjects(known.write(), ttl_s=10, now_s=1000)
    later = KnownObjects(timed.write(), ttl_s=10, now_s=1009)
    without = KnownObjects(later.write())

    assert timed.meet("a", "1") is None
    assert later.meet("a", "1") is None
    assert without.meet("a", "1") is None


@given(st.dictionaries(st.text(), st.text(alphabet="0123456789abcdef", min_size=1), max_size=30))
def test_given_any_objects_then_they_are_known_again_when_read(objects: dict[str, str]) -> None:
    known = KnownObjects()
    for key, etag in objects.items():
        known.know(key, etag)

    read = KnownObjects(known.write())

    assert [read.meet(key, etag) for key, etag in objects.items()] == [None] * len(objects)
    assert read.are_met
    assert read.write() == known.write()


def test_given_100_000_objects_then_they_take_16_characters_each_and_little_time() -> None:
    keys = [f"some/rather/long/prefix/of/a/key/{number:09}.parquet" for number in range(100_000)]
    known = KnownObjects()
    began = time.process_time()
    for key in keys:
        known.know(key, key)

    written = known.write()
    read = KnownObjects(written)
    changes = {read.meet(key, key) for key in keys}

    assert time.process_time() - began < 5
    assert len(written) <= 16 * len(keys) + 3
    assert changes == {None}
