"""kv.Set, Get, GetKeys, Delete."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tercel.model import State
from tercel.plugins.kv import Delete, Get, GetKeys, Set
from tests.job_runners import Bench
from tests.key_values import KeptKeyValues

OWN = "company.team"


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptKeyValues]:
    with KeptKeyValues(tmp_path) as kept:
        yield kept


@pytest.fixture
def bench(tmp_path: Path, kept: KeptKeyValues) -> Bench:
    return Bench(tmp_path, key_values=kept)


def a_set(**properties: Any) -> Set:
    return Set(**({"id": "s", "type": "S", "key": "k", "value": "v"} | properties))


class TestSet:
    @pytest.mark.parametrize(
        ("value", "kind", "stored"),
        [
            ("{{ flow.id }}!", None, "flow!"),
            ("{{ taskrun }}", None, {"id": "run"}),
            ("{{ 1 + 1 }}", None, 2),
            ({"a": "{{ flow.id }}", "b": [1, None]}, None, {"a": "flow", "b": [1, None]}),
            (5, None, 5),
            (False, None, False),
            ("PT1H30M", None, timedelta(minutes=90)),
            ("P1DT2S", None, timedelta(days=1, seconds=2)),
            ("P", None, "P"),
            ("PT", None, "PT"),
            ("P99999999999D", None, "P99999999999D"),
            ("PT1H", "STRING", "PT1H"),
            (" x ", "STRING", " x "),
            ("5", "NUMBER", 5),
            ("-5.5", "NUMBER", -5.5),
            ("99999999999999999999", "NUMBER", 99999999999999999999),
            ("True", "BOOLEAN", True),
            ("false", "BOOLEAN", False),
            ("2030-01-31T12:00:00Z", "DATETIME", datetime(2030, 1, 31, 12, tzinfo=UTC)),
            ("2030-01-31", "DATE", date(2030, 1, 31)),
            ("pt5m", "DURATION", timedelta(minutes=5)),
            ('{"a": [1]}', "JSON", {"a": [1]}),
            ({"a": 1}, "JSON", {"a": 1}),
        ],
    )
    def test_given_a_value_then_it_is_stored_with_its_type(
        self, bench: Bench, kept: KeptKeyValues, value: object, kind: Any, stored: object
    ) -> None:
        result = bench.run(a_set(value=value, kv_type=kind))

        assert (result.state, result.message, result.outputs) == (State.SUCCESS, "", {})
        found = kept.find(OWN, "k")
        assert (found, type(found)) == (stored, type(stored))

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("x", "NUMBER"),
            ("yes", "BOOLEAN"),
            ("2030-01-31", "DATETIME"),
            ("2030-01-31T12:00:00", "DATETIME"),
            ("x", "DATE"),
            ("5 minutes", "DURATION"),
            ("{a", "JSON"),
        ],
    )
    def test_given_a_text_of_another_kind_then_it_fails(
        self, bench: Bench, kept: KeptKeyValues, value: str, kind: Any
    ) -> None:
        result = bench.run(a_set(value=value, kv_type=kind))

        assert result.message == f"The value cannot be read as {kind}. Change it, or 'kvType'."
        assert kept.keys(OWN) == []

    def test_given_a_namespace_then_it_is_stored_there(self, bench: Bench, kept: KeptKeyValues) -> None:
        bench.run(a_set(key="{{ flow.id }}.x", namespace="other.{{ flow.id }}"))

        assert kept.find("other.flow", "flow.x") == "v"

    def test_given_a_time_to_live_then_the_value_ends_after_it(self, bench: Bench, kept: KeptKeyValues) -> None:
        bench.run(a_set(ttl="PT{{ 2 }}M"))

        kept.now += timedelta(seconds=119)
        assert kept.find(OWN, "k") == "v"
        kept.now += timedelta(seconds=1)
        assert kept.find(OWN, "k") is None

    @pytest.mark.parametrize(
        ("ttl", "message"),
        [
            ("-PT1S", "The 'ttl' is -PT1S: a value cannot end before it begins."),
            ("soon", "The 'ttl' cannot be read: 'soon' is not a duration; write it like PT15M, PT1H30M or P1D."),
        ],
    )
    def test_given_a_time_to_live_that_cannot_be_then_it_fails(self, bench: Bench, ttl: str, message: str) -> None:
        assert bench.run(a_set(ttl=ttl)).message == message

    def test_given_a_value_that_must_stay_then_it_fails_until_it_has_expired(
        self, bench: Bench, kept: KeptKeyValues
    ) -> None:
        kept.set(OWN, "k", "before", ttl=timedelta(minutes=1))

        refused = bench.run(a_set(overwrite=False))

        assert refused.message == (
            "The key 'k' of namespace 'company.team' has a value already. Set 'overwrite' to replace it."
        )
        kept.now += timedelta(minutes=1)
        assert bench.run(a_set(overwrite=False)).state is State.SUCCESS

    @pytest.mark.parametrize("key", ["", "a b", ".a", "a/b", "é"])
    def test_given_a_name_that_cannot_be_a_key_then_it_fails(self, bench: Bench, key: str) -> None:
        message = f"{key!r} cannot be a key. Use letters, digits, '.', '-' and '_', with a letter or digit first."

        assert bench.run(a_set(key=key)).message == message
        assert bench.run(Get(id="g", type="G", key=key)).message == message
        assert bench.run(Delete(id="d", type="D", key=key)).message == message

    def test_given_no_store_then_it_fails_and_says_so(self, tmp_path: Path) -> None:
        assert Bench(tmp_path).run(a_set()).message == "This process keeps no key-value pairs."


class TestGet:
    def test_given_a_key_then_its_value_with_its_type(self, bench: Bench, kept: KeptKeyValues) -> None:
        kept.set(OWN, "k", {"a": [1, True]})
        kept.set("other", "flow", "theirs")

        assert bench.run(Get(id="g", type="G", key="k")).outputs == {"value": {"a": [1, True]}}
        assert bench.run(Get(id="g", type="G", key="{{ flow.id }}", namespace="other")).outputs == {"value": "theirs"}

    def test_given_no_value_then_null_or_an_error(self, bench: Bench, kept: KeptKeyValues) -> None:
        kept.set(OWN, "k", "v", ttl=timedelta(0))

        assert bench.run(Get(id="g", type="G", key="k")).outputs == {"value": None}
        assert bench.run(Get(id="g", type="G", key="k", error_on_missing=True)).message == (
            "There is no key 'k' in namespace 'company.team', or it has expired."
        )


class TestGetKeys:
    def test_given_a_prefix_then_the_keys_that_begin_with_it(self, bench: Bench, kept: KeptKeyValues) -> None:
        for key in ("b.1", "a.2", "a.1"):
            kept.set(OWN, key, "v")
        kept.set(OWN, "a.0", "v", ttl=timedelta(0))

        assert bench.run(GetKeys(id="g", type="G")).outputs == {"keys": ["a.1", "a.2", "b.1"]}
        assert bench.run(GetKeys(id="g", type="G", prefix="{{ 'a' }}.")).outputs == {"keys": ["a.1", "a.2"]}
        assert bench.run(GetKeys(id="g", type="G", namespace="other")).outputs == {"keys": []}


class TestDelete:
    def test_given_a_key_then_it_is_gone(self, bench: Bench, kept: KeptKeyValues) -> None:
        kept.set(OWN, "k", "v")

        assert bench.run(Delete(id="d", type="D", key="k")).outputs == {"deleted": True}
        assert bench.run(Delete(id="d", type="D", key="k")).outputs == {"deleted": False}
        assert bench.run(Delete(id="d", type="D", key="k", error_on_missing=True)).message == (
            "There is no key 'k' in namespace 'company.team', or it has expired."
        )
