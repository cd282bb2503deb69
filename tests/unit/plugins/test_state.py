"""state.Set, Get, Delete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tercel.model import State
from tercel.plugins.state import Delete, Get, Set
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


def test_given_data_twice_then_it_is_merged_deeply_and_read_back(bench: Bench, kept: KeptKeyValues) -> None:
    first = bench.run(Set(id="s", type="S", data={"a": {"x": 1, "y": [1]}, "b": "{{ flow.id }}"}))
    second = bench.run(Set(id="s", type="S", data={"a": {"y": [2], "z": None}, "c": {"d": 1}}))
    found = bench.run(Get(id="g", type="G"))

    key = "flow_states_tasks-states_default"
    assert first.outputs == {"count": 2, "key": key}
    assert second.outputs == {"count": 3, "key": key}
    merged = {"a": {"x": 1, "y": [2], "z": None}, "b": "flow", "c": {"d": 1}}
    assert found.outputs == {"data": merged, "count": 3}
    assert kept.find(OWN, key) == merged


def test_given_many_at_once_then_none_is_lost(bench: Bench, kept: KeptKeyValues) -> None:
    threads = [Thread(target=bench.run, args=(Set(id="s", type="S", data={f"k{n}": n}),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bench.run(Get(id="g", type="G")).outputs["count"] == 8


@pytest.mark.parametrize(
    ("flow_id", "name", "namespace", "key"),
    [
        ("my-flow", "default", False, "my-flow_states_tasks-states_default"),
        ("my_flow", "a_b.c", False, "my-flow-8c153b_states_tasks-states_a_b.c"),
        ("My_Flow", "{{ flow.id }}", False, "my-flow-969eac_states_tasks-states_My_Flow"),
        ("flow", "a b", False, "flow_states_tasks-states_a-b-c8687a"),
        ("flow", "default", True, "states_tasks-states_default"),
    ],
)
def test_given_a_flow_and_a_name_then_no_other_shares_the_key(
    bench: Bench, flow_id: str, name: str, namespace: bool, key: str
) -> None:
    task = Set(id="s", type="S", name=name, namespace=namespace)

    result = bench.run(task, variables={"flow": {"id": flow_id, "namespace": OWN}})

    assert result.outputs["key"] == key


def test_given_the_value_of_a_loop_then_each_has_its_own_state_unless_shared(bench: Bench) -> None:
    def key(value: object, **properties: bool) -> object:
        variables = {"taskrun": {"id": "run", "value": value}}
        return bench.run(Set(id="s", type="S", **properties), variables=variables).outputs["key"]

    assert key("value") == "flow_states_tasks-states_default_7d04fd3bbbc0946dc06caf7356fdf051"
    assert key({"a": 1}) == key('{"a":1}')
    assert key("value", taskrun_value=False) == "flow_states_tasks-states_default"
    assert key(None) == "flow_states_tasks-states_default"


def test_given_no_state_then_it_is_empty_or_an_error(bench: Bench) -> None:
    assert bench.run(Get(id="g", type="G")).outputs == {"data": {}, "count": 0}
    result = bench.run(Get(id="g", type="G", name="n", error_on_missing=True))
    assert (result.state, result.message) == (State.FAILED, "There is no state 'n'.")


def test_given_a_state_when_deleted_then_it_is_gone(bench: Bench) -> None:
    bench.run(Set(id="s", type="S", data={"a": 1}))

    assert bench.run(Delete(id="d", type="D")).outputs == {"deleted": True}
    assert bench.run(Delete(id="d", type="D")).outputs == {"deleted": False}
    assert bench.run(Delete(id="d", type="D", error_on_missing=True)).message == "There is no state 'default'."
    assert bench.run(Get(id="g", type="G")).outputs["count"] == 0
