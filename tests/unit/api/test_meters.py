from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from tercel.api.meters import Meters
from tercel.model import Execution, State, TaskRun
from tercel.model.execution import Attempt
from tests import builders
from tests.builders import NOON, a_history, a_task_run

FLOW = 'namespace_id="company",flow_id="hello"'


class Idle(NamedTuple):
    waiting: int = 3
    running: int = 2
    slots: int = 4
    oldest_s: float = 1.5


def an_execution(*states: State, **properties: Any) -> Execution:
    """In each state two seconds after the one before."""
    began = properties.pop("began", NOON)
    history = a_history(*states, start=began, step_s=2)
    return builders.an_execution(**({"namespace": "company", "flow_id": "hello", "history": history} | properties))


def a_run(*states: State) -> TaskRun:
    return a_task_run("say", history=a_history(*states, step_s=2))


def values(meters: Meters) -> dict[str, float]:
    lines = [line for line in meters.page(Idle()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def meters() -> Meters:
    return Meters(since=NOON)


class TestMeters:
    def test_given_an_execution_that_comes_bit_by_bit_then_it_counts_once(self, meters: Meters) -> None:
        states = (State.CREATED, State.RUNNING, State.SUCCESS)
        for count in (1, 2, 2, 3, 3):
            meters.changed(an_execution(*states[:count]), [a_run(*states[:count])])

        found = values(meters)

        for kind in ("execution_started", "taskrun_next"):
            assert found[f"kestra_executor_{kind}_count_total{{{FLOW}}}"] == 1
        for kind in ("execution_end", "taskrun_ended"):
            assert found[f'kestra_executor_{kind}_count_total{{{FLOW},state="SUCCESS"}}'] == 1
        assert found['kestra_executor_execution_duration_seconds_sum{state="SUCCESS"}'] == 4
        assert found['kestra_executor_execution_duration_seconds_bucket{state="SUCCESS",le="2.5"}'] == 0
        assert found['kestra_executor_execution_duration_seconds_bucket{state="SUCCESS",le="5"}'] == 1
        assert found['kestra_executor_execution_duration_seconds_bucket{state="SUCCESS",le="+Inf"}'] == 1

    def test_given_tries_of_workers_then_each_counts_once(self, meters: Meters) -> None:
        failed = Attempt(a_history(State.RUNNING, State.FAILED, start=NOON + timedelta(seconds=4), step_s=2), "me")
        lost = Attempt(a_history(State.RUNNING, start=NOON + timedelta(seconds=8)), "gone")
        good = Attempt(a_history(State.RUNNING, State.SUCCESS, start=NOON + timedelta(seconds=20), step_s=1), "me")
        begun = Attempt(failed.history[:1], "me")
        for attempts in [(), (begun,), (failed,), (failed, lost), (failed,), (failed, good), (failed, good)]:
            run = replace(a_run(State.CREATED, State.RUNNING), attempts=attempts)
            meters.changed(an_execution(State.CREATED, State.RUNNING), [run])

        found = values(meters)

        assert found[f"kestra_worker_started_count_total{{{FLOW}}}"] == 3
        assert found[f'kestra_worker_ended_count_total{{{FLOW},state="FAILED"}}'] == 1
        assert found[f'kestra_worker_ended_count_total{{{FLOW},state="SUCCESS"}}'] == 1
        assert found['kestra_worker_ended_duration_seconds_sum{state="FAILED"}'] == 2
        assert found["kestra_worker_queued_duration_seconds_sum"] == 4
        assert found["kestra_worker_queued_duration_seconds_count"] == 1
        assert found["kestra_worker_running_count"] == 2

    def test_given_what_no_worker_did_then_it_is_no_try_of_one(self, meters: Meters) -> None:
        inline = Attempt(a_history(State.RUNNING, State.SUCCESS))
        run = replace(a_run(State.CREATED, State.SUCCESS), attempts=(inline,))
        meters.changed(an_execution(State.CREATED, State.SUCCESS), [run])

        assert not [
            name for name in values(meters) if name.startswith(("kestra_worker_started", "kestra_worker_ended"))
        ]

    def test_given_executions_that_go_on_then_they_are_told_by_state(self, meters: Meters) -> None:
        meters.changed(an_execution(State.CREATED, State.RUNNING, id="a"), [])
        meters.changed(an_execution(State.CREATED, State.RUNNING, State.PAUSED, id="b"), [])
        meters.changed(an_execution(State.CREATED, State.RUNNING, State.FAILED, id="c"), [])

        found = values(meters)

        assert found['kestra_executor_execution_open{state="RUNNING"}'] == 1
        assert found['kestra_executor_execution_open{state="PAUSED"}'] == 1
        assert found['kestra_executor_execution_open{state="CREATED"}'] == 0

    def test_given_an_execution_that_is_restarted_then_both_ends_count(self, meters: Meters) -> None:
        failed = (State.CREATED, State.RUNNING, State.FAILED)
        meters.changed(an_execution(*failed), [])
        meters.changed(an_execution(*failed), [])
        meters.changed(an_execution(*failed, State.RESTARTED, State.RUNNING, State.SUCCESS), [])

        found = values(meters)

        assert found[f"kestra_executor_execution_started_count_total{{{FLOW}}}"] == 1
        assert found[f'kestra_executor_execution_end_count_total{{{FLOW},state="FAILED"}}'] == 1
        assert found[f'kestra_executor_execution_end_count_total{{{FLOW},state="SUCCESS"}}'] == 1

    def test_given_what_was_before_then_it_does_not_count(self, meters: Meters) -> None:
        before = NOON - timedelta(seconds=3)
        meters.changed(an_execution(State.CREATED, State.RUNNING, State.SUCCESS, began=before), [])

        found = values(meters)

        assert f"kestra_executor_execution_started_count_total{{{FLOW}}}" not in found
        assert found[f'kestra_executor_execution_end_count_total{{{FLOW},state="SUCCESS"}}'] == 1

    def test_given_the_load_then_it_is_told(self, meters: Meters) -> None:
        found = values(meters)

        assert found["kestra_worker_job_pending"] == 3
        assert found["kestra_worker_job_running"] == 2
        assert found["kestra_worker_job_thread"] == 4
        assert found["kestra_worker_job_oldest_seconds"] == 1.5
        assert found["process_cpu_seconds_total"] > 0
        assert found["process_resident_memory_bytes"] > 1_000_000

    def test_given_names_with_quotes_then_they_are_escaped(self, meters: Meters) -> None:
        odd = an_execution(State.CREATED, namespace='a"b\\c\nd')
        meters.changed(odd, [])

        assert 'namespace_id="a\\"b\\\\c\\nd"' in meters.page(Idle())
