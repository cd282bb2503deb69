"""The scheduler with its thread, a real database and several processes' worth of schedulers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from tercel.model import Execution, State, StateChange
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.scheduler import Rendering, Scheduler, TriggeringFlows
from tercel.store import Changes, ExecutionQuery, Promise, Transaction, run
from tercel.store.embedded import SqliteStore
from tests.schedulers import OWNER, Starts
from tests.triggers import a_text, schedule

PATIENCE_S = 20.0


def now() -> datetime:
    return datetime.now(UTC)


class Saved(Starts):
    """Saves executions in a database, and ends them at once."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(cast("Any", store), now)
        self.store = store
        self.ended: Callable[[Execution], object] = lambda execution: None

    def save(self, execution: Execution, with_writes: Callable[[Transaction], None]) -> Promise[None]:
        promise: Promise[None] = Promise()
        ended = Execution(
            **{name: getattr(execution, name) for name in execution.__struct_fields__ if name != "history"},
            history=(*execution.history, StateChange(State.SUCCESS, now())),
        )

        async def save() -> None:
            async with self.store.transaction() as tx:
                self.store.executions.save(tx, Changes(created=[ended]))
                with_writes(tx)

        try:
            run(save())
        except Exception as error:
            promise.fail(error)
        else:
            promise.resolve(None)
            self.ended(ended)
        return promise


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "tercel.db", owner="test", synchronous="NORMAL")
    yield opened
    opened.close()


def a_scheduler(store: SqliteStore, problems: list[object], id: str = "process") -> Scheduler:
    starts = Saved(store)

    def warn(*words: object) -> None:
        problems.append(words)

    scheduler = Scheduler(
        id=id,
        store=store,
        start=starts,
        flows=TriggeringFlows(store, lambda source: read_flow(source, catalog())),
        rendering=Rendering(functions=lambda flow: {}, warn=warn),
        warn=warn,
        on_error=problems.append,
        clock=now,
        zone=UTC,
        poll_s=0.2,
    )
    starts.ended = scheduler.ended
    return scheduler


def dates(store: SqliteStore) -> list[str]:
    query = ExecutionQuery(namespace=OWNER[0], flow_id=OWNER[1], limit=1000)
    return sorted(cast("Any", row.trigger)["variables"]["date"] for row in run(store.executions.search(query)))


def test_given_two_schedulers_on_one_database_then_each_second_starts_once(store: SqliteStore) -> None:
    problems: list[object] = []
    schedulers = [a_scheduler(store, problems, id) for id in ("one", "other")]
    for scheduler in schedulers:
        scheduler.open()
    source = a_text(schedule(cron="* * * * * *", withSeconds=True))
    saved = store.flows.save(*OWNER, source, now()).wait()
    schedulers[0].sync(read_flow(source, catalog()))
    assert saved.revision == 1

    deadline = time.monotonic() + PATIENCE_S
    while len(dates(store)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for scheduler in schedulers:
        scheduler.close()
        scheduler.close()

    found = dates(store)
    instants = [datetime.fromisoformat(date) for date in found]
    assert len(found) >= 2
    assert [(later - earlier).total_seconds() for earlier, later in pairwise(instants)] == [1.0 for _ in instants[1:]]
    assert problems == []


def test_given_people_then_what_they_want_is_written_and_read_again(store: SqliteStore) -> None:
    scheduler = a_scheduler(store, [])
    key = (*OWNER, "schedule")
    store.flows.save(*OWNER, a_text(schedule()), now()).wait()

    run(scheduler.start_backfill(*key, start=datetime(2024, 1, 1, tzinfo=UTC), inputs={"a": [1, None]}))
    state = run(store.triggers.get(*key))
    assert state is not None
    assert run(scheduler.pause_backfill(*key, paused=True)).version == state.version + 1
    assert run(scheduler.delete_backfill(*key)).detail.keys() == {"definition"}
    assert run(scheduler.set_disabled(*key, disabled=True)).disabled
    assert run(store.triggers.due(datetime(2100, 1, 1, tzinfo=UTC))) == []
