"""Return, Log, Echo."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.model import LogLevel, State
from tercel.plugins.debug import Echo, Log, Return
from tests.job_runners import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_given_a_format_then_return_gives_it_rendered_and_measured(bench: Bench) -> None:
    result = bench.run(Return(id="r", type="R", format="{{ flow.id }}!"))

    assert result.outputs == {"value": "flow!"}
    assert bench.records.messages(LogLevel.DEBUG) == ["flow!"]
    length, duration = bench.records.metrics
    assert (length.name, length.type, length.value, length.tags) == (
        "length",
        "counter",
        5.0,
        {"format": "{{ flow.id }}!"},
    )
    assert (duration.name, duration.type) == ("duration", "timer")


def test_given_no_format_then_return_gives_null(bench: Bench) -> None:
    assert bench.run(Return(id="r", type="R")).outputs == {"value": None}


@pytest.mark.parametrize(
    ("message", "lines"), [("hi {{ flow.id }}", ["hi flow"]), (["a", "{{ flow.id }}"], ["a", "flow"])]
)
def test_given_messages_then_log_writes_each(bench: Bench, message: str | list[str], lines: list[str]) -> None:
    result = bench.run(Log(id="l", type="L", message=message, level=LogLevel.WARN))

    assert (result.state, result.outputs) == (State.SUCCESS, {})
    assert bench.records.messages(LogLevel.WARN) == lines


def test_given_the_former_name_then_echo_logs_at_info(bench: Bench) -> None:
    bench.run(Echo(id="e", type="E", format="hi"))

    assert bench.records.messages(LogLevel.INFO) == ["hi"]
