"""log.Fetch and PurgeLogs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import NotFoundError
from tercel.item_files import read_rows
from tercel.model import LogEntry, LogLevel, State
from tercel.model.task import LEVEL_RANK
from tercel.plugin_api import Problem
from tercel.plugins.logs import Fetch, PurgeLogs
from tests.job_runners import Bench

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def an_entry(message: str, level: LogLevel = LogLevel.INFO, **properties: Any) -> LogEntry:
    return LogEntry(**({"execution_id": "execution", "date": NOON, "level": level, "message": message} | properties))


class KeptLogs:
    """The part of `plugin_api.EngineCalls` that is about logs, over lists.

    Attributes:
        entries: the log of all executions.
        purges: what was asked to be removed.
    """

    def __init__(self) -> None:
        self.entries = [
            an_entry("of the execution", LogLevel.WARN),
            an_entry('a "text"\nin two lines', task_id="a", task_run_id="r1", date=NOON + timedelta(milliseconds=250)),
            an_entry("tried again", task_id="a", task_run_id="r1", attempt=1),
            an_entry("quiet", LogLevel.DEBUG, task_id="b", task_run_id="r2"),
            an_entry("theirs", LogLevel.ERROR, execution_id="other"),
        ]
        self.purges: list[dict[str, object]] = []

    def logs(
        self, execution_id: str, *, task_ids: Collection[str] = (), min_level: LogLevel = LogLevel.TRACE
    ) -> Iterator[LogEntry]:
        for entry in self.entries:
            is_wanted = not task_ids or entry.task_id in task_ids
            if entry.execution_id == execution_id and is_wanted and LEVEL_RANK[entry.level] >= LEVEL_RANK[min_level]:
                yield entry

    def execution_flow(self, execution_id: str) -> tuple[str, str]:
        if execution_id != "other":
            raise NotFoundError(f"There is no execution {execution_id}.")
        return "other.team", "their-flow"

    def purge_logs(self, **query: Any) -> int:
        self.purges.append(query)
        return 3


@pytest.fixture
def kept() -> KeptLogs:
    return KeptLogs()


@pytest.fixture
def bench(tmp_path: Path, kept: KeptLogs) -> Bench:
    return Bench(tmp_path, engine=kept)


def rows(bench: Bench, uri: object) -> list[Any]:
    with bench.storage.get(str(uri)) as file:
        return [row.value for row in read_rows(file)]


class TestFetch:
    def test_given_nothing_then_it_is_the_log_of_the_own_execution(self, bench: Bench) -> None:
        result = bench.run(Fetch(id="f", type="F"))

        assert result.outputs == {
            "uri": "kestra:///company/team/flow/executions/execution/tasks/f/run/logs.ion",
            "size": 3,
        }
        first, second, third = rows(bench, result.outputs["uri"])
        assert second == {
            "namespace": "company.team",
            "flowId": "flow",
            "executionId": "execution",
            "taskId": "a",
            "taskRunId": "r1",
            "attemptNumber": 0,
            "timestamp": "2030-01-01T12:00:00.250Z",
            "level": "INFO",
            "message": 'a "text"\nin two lines',
        }
        assert (first["taskId"], first["level"], third["attemptNumber"]) == (None, "WARN", 1)

    @pytest.mark.parametrize(
        ("properties", "messages"),
        [
            ({"level": LogLevel.DEBUG, "tasks_id": ["{{ 'b' }}"]}, ["quiet"]),
            ({"level": LogLevel.WARN}, ["of the execution"]),
            ({"tasks_id": ["none"]}, []),
            ({"execution_id": "{{ execution.id }}", "tasks_id": ["b"], "level": LogLevel.TRACE}, ["quiet"]),
        ],
    )
    def test_given_a_choice_then_only_those_lines(
        self, bench: Bench, properties: dict[str, Any], messages: list[str]
    ) -> None:
        result = bench.run(Fetch(id="f", type="F", **properties))

        assert [row["message"] for row in rows(bench, result.outputs["uri"])] == messages
        assert result.outputs["size"] == len(messages)

    @pytest.mark.parametrize("flow", [{}, {"namespace": "other.team", "flow_id": "their-flow"}])
    def test_given_another_execution_then_its_log_with_its_flow(self, bench: Bench, flow: dict[str, str]) -> None:
        result = bench.run(Fetch(id="f", type="F", execution_id="other", **flow))

        [row] = rows(bench, result.outputs["uri"])
        assert (row["namespace"], row["flowId"], row["message"]) == ("other.team", "their-flow", "theirs")

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            (
                {"execution_id": "other", "namespace": "company.team", "flow_id": "flow"},
                "The execution other is one of other.team.their-flow, not of company.team.flow.",
            ),
            ({"execution_id": "none"}, "There is no execution none."),
        ],
    )
    def test_given_an_execution_that_is_not_there_or_of_another_flow_then_it_fails(
        self, bench: Bench, properties: dict[str, str], message: str
    ) -> None:
        result = bench.run(Fetch(id="f", type="F", **properties))

        assert (result.state, result.message) == (State.FAILED, message)

    def test_given_half_of_a_flow_then_validation_says_so(self) -> None:
        message = "'namespace' and 'flowId' name a flow together."
        both = Fetch(id="f", type="F", namespace="n", flow_id="f")

        assert list(Fetch(id="f", type="F", namespace="n").problems()) == [
            Problem(message, "Add 'flowId', or remove the other.")
        ]
        assert list(Fetch(id="f", type="F", flow_id="f").problems()) == [
            Problem(message, "Add 'namespace', or remove the other.")
        ]
        assert list(both.problems()) == []


class TestPurgeLogs:
    def test_given_bounds_then_the_engine_is_asked_with_them(self, bench: Bench, kept: KeptLogs) -> None:
        task = PurgeLogs(
            id="p",
            type="P",
            namespace="{{ flow.namespace }}",
            flow_id="flow",
            log_levels=[LogLevel.DEBUG, LogLevel.TRACE],
            start_date="2030-01-01T00:00:00+02:00",
            end_date="{{ '2030-01-02' }}",
        )

        result = bench.run(task)

        assert (result.message, result.outputs) == ("", {"count": 3})
        [asked] = kept.purges
        assert asked == {
            "namespace": "company.team",
            "flow_id": "flow",
            "levels": [LogLevel.DEBUG, LogLevel.TRACE],
            "start": datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            "end": datetime(2030, 1, 2, tzinfo=UTC),
        }

    def test_given_an_end_only_then_all_logs_are_meant(self, bench: Bench, kept: KeptLogs) -> None:
        bench.run(PurgeLogs(id="p", type="P", end_date="2030-01-02T00:00:00Z"))

        [asked] = kept.purges
        assert (asked["namespace"], asked["flow_id"], asked["levels"], asked["start"]) == (None, None, [], None)

    def test_given_no_instant_then_it_fails(self, bench: Bench, kept: KeptLogs) -> None:
        result = bench.run(PurgeLogs(id="p", type="P", end_date="yesterday"))

        assert result.message == "'endDate' is 'yesterday', which is no instant. Write it like 2030-01-31T12:00:00Z."
        assert kept.purges == []

    def test_given_a_flow_without_namespace_then_validation_says_so(self) -> None:
        assert list(PurgeLogs(id="p", type="P", flow_id="f", end_date="x").problems()) == [
            Problem("'flowId' stands without 'namespace'.", "Add the namespace of the flow.")
        ]
