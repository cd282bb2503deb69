"""A server keeps what has ended for so long only; what still runs, and what is younger, stays."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from tercel.errors import NotFoundError
from tercel.server import open_home
from tercel.store import ExecutionQuery
from tests.flows import flow, sh
from tests.homes import Home, until


def test_given_an_age_then_older_executions_go_with_all_they_left(home: Home) -> None:
    old = home.run(flow(sh("a", "echo old > f", outputFiles=["f"]), id="old")).execution
    paused = home.start(flow({"id": "p", "type": "io.kestra.plugin.core.flow.Pause"}, id="paused"))
    [file] = list((home.root / "storage").rglob("outputs/f"))
    home.pass_time(timedelta(days=3))
    young = home.run(flow(sh("a", "echo young"), id="young")).execution
    settings = msgspec.structs.replace(home.settings, execution_days=2)
    home.close()

    with open_home(settings) as engine:
        engine.schedule()
        until(lambda: old.id not in {one.id for one in engine.call(engine.queries.search_executions(ExecutionQuery()))})

        assert not file.exists()
        with pytest.raises(NotFoundError):
            engine.call(engine.queries.logs(old.id))
        assert engine.call(engine.queries.get_execution(young.id)).id == young.id
        assert engine.call(engine.queries.get_execution(paused)).is_open
