"""PostgreSQL ends the connections of an engine that works, again and again: all ends as if it had not."""

import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import pytest

from tercel.model import State
from tercel.server import Engine, open_home
from tercel.settings import read_settings
from tests.end_to_end.processes import assert_in_turn, shape_of, traced_flow
from tests.postgres import end_connections, postgres_database, running_server

COUNT = 12


@pytest.fixture
def dsn() -> Iterator[str]:
    with postgres_database() as dsn:
        yield dsn


def run_all(engine: Engine, folder: Path) -> tuple[list[dict[str, Any]], list[list[list[str]]]]:
    """Run the traced flow so many times at once; how each ended, and the lines of its trace."""
    traces = [folder / f"{number}.trace" for number in range(COUNT)]
    ids = []
    for number, trace in enumerate(traces):
        saved = engine.call(engine.operations.save_flow(traced_flow(f"flow-{number}", trace)))
        ids.append(engine.call(engine.operations.start(saved)).id)
    ended = [engine.call(engine.operations.wait(execution_id)) for execution_id in ids]
    assert {execution.state for execution in ended} == {State.SUCCESS}
    steps = [[line.split() for line in trace.read_text().splitlines()] for trace in traces]
    return [shape_of(engine, execution) for execution in ended], steps


def test_given_connections_that_are_ended_all_the_time_then_all_executions_end_as_without(
    dsn: str, tmp_path: Path
) -> None:
    rng = Random(0)
    is_over = Event()
    ended_connections = 0

    def disturb() -> None:
        nonlocal ended_connections
        while not is_over.wait(rng.uniform(0, 0.15)):
            ended_connections += end_connections(dsn)

    (tmp_path / "calm").mkdir()
    (tmp_path / "disturbed").mkdir()
    with open_home(read_settings({"TERCEL_DATABASE": dsn}, home=tmp_path / "home")) as engine:
        calm, undisturbed = run_all(engine, tmp_path / "calm")
        thread = Thread(target=disturb)
        thread.start()
        try:
            disturbed, steps = run_all(engine, tmp_path / "disturbed")
        finally:
            is_over.set()
            thread.join()

    assert ended_connections > 3
    assert disturbed == calm
    for one, other in zip(steps, undisturbed, strict=True):
        assert_in_turn(one, other)
        assert len(one) == len(other), "something ran twice though its worker lived on"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_given_a_server_that_ends_or_crashes_and_starts_again_then_the_engine_goes_on(
    dsn: str, tmp_path: Path, how: signal.Signals
) -> None:
    server = running_server()
    with open_home(read_settings({"TERCEL_DATABASE": dsn}, home=tmp_path / "home")) as engine:
        trace = tmp_path / "trace"
        saved = engine.call(engine.operations.save_flow(traced_flow("flow", trace)))
        execution = engine.call(engine.operations.start(saved))
        server.stop(how)
        server.start()

        ended = engine.call(engine.operations.wait(execution.id))

    assert ended.state is State.SUCCESS
