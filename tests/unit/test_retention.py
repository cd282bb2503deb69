from datetime import UTC, datetime, timedelta
from threading import Event
from threading import enumerate as enumerate_threads
from typing import Any, cast

from tercel.model.state import TERMINAL
from tercel.plugin_api import EngineCalls, PurgeResult
from tercel.retention import Retention
from tests.homes import until

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Calls:
    """Notes what is to be removed; *fails* once where asked to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._fails = fails

    def purge_executions(self, **given: Any) -> PurgeResult:
        if self._fails:
            raise OSError("the disk is full")
        self.asked.append(("executions", given))
        return PurgeResult(executions=3, logs=1, metrics=0, files=0)

    def purge_logs(self, **given: Any) -> int:
        self.asked.append(("logs", given))
        return 0


def retention(calls: Calls, told: list[str], **given: Any) -> Retention:
    return Retention(
        cast("EngineCalls", calls),
        executions=given.get("executions"),
        logs=given.get("logs"),
        clock=lambda: NOW,
        tell=told.append,
    )


def test_given_an_age_then_what_has_ended_and_is_older_goes() -> None:
    calls, told = Calls(), list[str]()

    retention(calls, told, executions=timedelta(days=30)).remove()

    [(kind, given)] = calls.asked
    assert kind == "executions"
    assert (given["end"], given["start"], given["states"]) == (datetime(2026, 1, 1, tzinfo=UTC), None, TERMINAL)
    assert told == ["Removed 3 executions that began before 2026-01-01 00:00."]


def test_given_an_age_of_logs_then_lines_go_and_executions_stay() -> None:
    calls, told = Calls(), list[str]()

    retention(calls, told, logs=timedelta(days=1)).remove()

    [(kind, given)] = calls.asked
    assert (kind, given["end"]) == ("logs", datetime(2026, 1, 30, tzinfo=UTC))
    assert told == []


def test_given_no_age_then_nothing_is_looked_at() -> None:
    calls = Calls()
    kept = retention(calls, [])

    kept.open()
    kept.close()

    assert calls.asked == []


def test_given_it_is_closed_meanwhile_then_that_is_no_failure_to_tell() -> None:
    calls, told = Calls(), list[str]()
    kept = retention(calls, told, executions=timedelta(days=1))
    begun, closed = Event(), Event()

    def purge_executions(**_: Any) -> PurgeResult:
        begun.set()
        assert closed.wait(30)
        raise OSError("The database is closed.")

    calls.purge_executions = purge_executions
    kept.open()
    assert begun.wait(30)
    kept.close()
    closed.set()
    until(lambda: not any(thread.name == "tercel-retention" for thread in enumerate_threads()))

    assert told == []


def test_given_a_failure_then_it_is_told_and_the_thread_goes_on() -> None:
    calls, told = Calls(fails=True), list[str]()
    kept = retention(calls, told, executions=timedelta(days=1))

    kept.open()
    while not told:
        pass
    kept.close()

    assert told[0] == "What is too old cannot be removed: the disk is full"
