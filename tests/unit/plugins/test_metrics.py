"""Publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tercel.model import State
from tercel.model.source import check_flow, read_flow
from tercel.plugin_api import TaskFailedError
from tercel.plugins import catalog
from tercel.plugins.metrics import Publish, PublishedMetric
from tests.engine_calls import EngineContext
from tests.flows import CORE, flow
from tests.job_runners import Bench


def a_publish(*metrics: dict[str, Any]) -> Any:
    text = flow({"id": "p", "type": f"{CORE}.metric.Publish", "metrics": list(metrics)})
    return read_flow(text, catalog()).tasks[0]


def test_given_metrics_then_they_are_rendered_and_recorded(tmp_path: Path) -> None:
    context = EngineContext(tmp_path)
    task = a_publish(
        {"type": "counter", "name": "{{ flow.id }}.rows", "value": 5, "tags": {"who": "{{ inputs.name }}", "n": 1}},
        {"type": "counter", "name": "half", "value": "{{ 1 / 2.0 }}"},
        {"type": "gauge", "name": "level", "value": -1.5},
    )

    assert task.run(context) == {"metrics": 3}
    assert context.metrics == {
        ("counter", "flow.rows", (("n", "1"), ("who", "Ann"))): 5.0,
        ("counter", "half", ()): 0.5,
        ("gauge", "level", ()): -1.5,
    }


@pytest.mark.parametrize(("value", "millis"), [("PT1M", 60_000.0), (2, 2000.0), ("0.25", 250.0), ("{{ 3 }}", 3000.0)])
def test_given_a_timer_then_a_duration_or_seconds_are_stored_in_milliseconds(
    tmp_path: Path, value: Any, millis: float
) -> None:
    bench = Bench(tmp_path)

    result = bench.run(a_publish({"type": "timer", "name": "took", "value": value}))

    assert (result.state, result.outputs) == (State.SUCCESS, {"metrics": 1})
    [metric] = bench.records.metrics
    assert (metric.type, metric.value) == ("timer", millis)


def test_given_the_same_name_and_tags_twice_then_they_add_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    one = {"type": "counter", "name": "rows", "value": 2}

    bench.run(a_publish(one, one, {**one, "tags": {"a": "b"}}))

    assert [(metric.value, metric.tags) for metric in bench.records.metrics] == [(4.0, {}), (2.0, {"a": "b"})]


@pytest.mark.parametrize(
    ("type_name", "value", "reason"),
    [
        ("counter", "{{ inputs.name }}", "'Ann' is no number"),
        ("counter", "{{ 'nan' }}", "'nan' is no number that can be counted with"),
        ("counter", "{{ '' }}", "'' is no number"),
        ("timer", "{{ inputs.name }}", "'Ann' is not a duration; write it like PT15M, PT1H30M or P1D"),
    ],
)
def test_given_a_value_that_is_none_then_it_fails(tmp_path: Path, type_name: Any, value: str, reason: str) -> None:
    task = Publish(id="p", type="P", metrics=[PublishedMetric(type=type_name, name="m", value=value)])

    with pytest.raises(TaskFailedError) as failure:
        task.run(EngineContext(tmp_path))

    assert str(failure.value) == f"The value of the metric 'm' cannot be used: {reason}."


@pytest.mark.parametrize(
    ("metric", "path"),
    [
        ({"type": "counter", "name": "m", "value": "many"}, "value"),
        ({"type": "timer", "name": "m", "value": "long"}, "value"),
        ({"type": "histogram", "name": "m", "value": 1}, "type"),
        ({"type": "counter", "value": 1}, "name"),
        ({"type": "counter", "name": "m"}, "value"),
    ],
)
def test_given_a_metric_that_is_none_in_yaml_then_it_is_refused(metric: dict[str, Any], path: str) -> None:
    text = flow({"id": "p", "type": f"{CORE}.metric.Publish", "metrics": [metric]})

    assert [issue.path for issue in check_flow(text, catalog()).issues] == [f"tasks[0].metrics[0].{path}"]
