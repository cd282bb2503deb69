"""Sleep."""

from __future__ import annotations

from pathlib import Path
from threading import Timer
from typing import Literal

import pytest

from tercel.model import State
from tercel.model.source import check_flow, read_flow
from tercel.plugin_api import TaskFailedError, TaskKilledError, TaskTimeoutError
from tercel.plugins import catalog
from tercel.plugins.sleep import Sleep
from tests.engine_calls import EngineContext
from tests.flows import CORE, flow
from tests.job_runners import Bench


@pytest.mark.parametrize("duration", ["PT0.02S", "0.02", "{{ 'PT0.02S' }}"])
def test_given_a_duration_then_it_waits_so_long(tmp_path: Path, duration: str) -> None:
    result = Bench(tmp_path).run(Sleep(id="s", type="S", duration=duration))

    assert (result.state, result.outputs) == (State.SUCCESS, {})
    assert result.duration.total_seconds() >= 0.02


@pytest.mark.parametrize(("reason", "error"), [("kill", TaskKilledError), ("timeout", TaskTimeoutError)])
def test_given_a_stop_while_it_waits_then_it_ends_at_once(
    tmp_path: Path, reason: Literal["kill", "timeout"], error: type[Exception]
) -> None:
    context = EngineContext(tmp_path)
    stopper = Timer(0.01, context.stop, [reason])
    stopper.start()

    with pytest.raises(error):
        # So long that the test would never end.
        Sleep(id="s", type="S", duration="P300000D").run(context)

    stopper.join()


def test_given_a_timeout_of_the_task_then_it_fails(tmp_path: Path) -> None:
    result = Bench(tmp_path).run(Sleep(id="s", type="S", duration="PT1H", timeout="PT0.01S"))

    assert (result.state, result.message) == (State.FAILED, "Timeout after 00:00:00.010")


def test_given_a_stop_before_it_starts_then_it_does_not_wait(tmp_path: Path) -> None:
    context = EngineContext(tmp_path)
    context.stop("kill")

    with pytest.raises(TaskKilledError):
        Sleep(id="s", type="S", duration="PT1H").run(context)


def test_given_a_negative_duration_then_it_does_not_wait(tmp_path: Path) -> None:
    assert Sleep(id="s", type="S", duration="PT-5S").run(EngineContext(tmp_path)) == {}


def test_given_an_expression_that_gives_no_duration_then_it_fails(tmp_path: Path) -> None:
    with pytest.raises(TaskFailedError) as failure:
        Sleep(id="s", type="S", duration="{{ inputs.name }}").run(EngineContext(tmp_path))

    assert str(failure.value) == (
        "The duration cannot be read: 'Ann' is not a duration; write it like PT15M, PT1H30M or P1D."
    )


def test_given_yaml_then_it_takes_a_duration_a_number_or_an_expression() -> None:
    for duration in ("PT5S", 5, "{{ inputs.duration }}"):
        text = flow({"id": "s", "type": f"{CORE}.flow.Sleep", "duration": duration})
        assert isinstance(read_flow(text, catalog()).tasks[0], Sleep)


@pytest.mark.parametrize("properties", [{}, {"duration": "long"}])
def test_given_no_duration_in_yaml_then_it_is_refused(properties: dict[str, str]) -> None:
    text = flow({"id": "s", "type": f"{CORE}.flow.Sleep", **properties})

    assert [issue.path for issue in check_flow(text, catalog()).issues] == ["tasks[0].duration"]


def test_given_that_it_waits_then_it_is_not_inline() -> None:
    assert not Sleep.is_inline
