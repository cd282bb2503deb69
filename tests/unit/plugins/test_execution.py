"""Fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.model import LogLevel, State
from tercel.plugins.execution import Fail
from tests.job_runners import Bench


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        (None, "FAILED"),
        ("{{ flow.id == 'flow' }}", "FAILED"),
        ("{{ flow.id == 'other' }}", "SUCCESS"),
        ("", "SUCCESS"),
        ("0", "SUCCESS"),
        (" ", "FAILED"),
        (True, "FAILED"),
        (False, "SUCCESS"),
    ],
)
def test_given_a_condition_then_it_decides(tmp_path: Path, condition: str | bool | None, state: str) -> None:
    bench = Bench(tmp_path)

    result = bench.run(Fail(id="f", type="F", condition=condition, error_message="no {{ flow.id }}"))

    assert result.state is State(state)
    assert bench.records.messages(LogLevel.ERROR) == ["no flow"] * (state == "FAILED")
