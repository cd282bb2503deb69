from __future__ import annotations

from datetime import timedelta

from tercel.model import Attempt, LogEntry, LogLevel, Metric
from tercel.model.json_form import execution_json, log_json, metric_json, stored_files, task_run_json
from tests.builders import NOON, a_history, a_task_run, an_execution


class TestExecutionJson:
    def test_given_an_ended_execution_then_kestras_names_are_used(self) -> None:
        execution = an_execution("CREATED", "RUNNING", "SUCCESS", labels={"a": "b"}, outputs={"x": 1})

        assert execution_json(execution, []) == {
            "id": "execution",
            "namespace": "tests",
            "flowId": "flow",
            "flowRevision": 1,
            "state": {
                "current": "SUCCESS",
                "histories": [
                    {"state": "CREATED", "date": "2030-01-01T12:00:00.000Z"},
                    {"state": "RUNNING", "date": "2030-01-01T12:00:01.000Z"},
                    {"state": "SUCCESS", "date": "2030-01-01T12:00:02.000Z"},
                ],
                "startDate": "2030-01-01T12:00:00.000Z",
                "endDate": "2030-01-01T12:00:02.000Z",
                "duration": "PT2S",
            },
            "inputs": {},
            "outputs": {"x": 1},
            "labels": [{"key": "a", "value": "b"}],
            "originalId": "execution",
            "taskRunList": [],
            "metadata": {"attemptNumber": 1, "originalCreatedDate": "2030-01-01T12:00:00.000Z"},
        }

    def test_given_an_execution_for_later_that_tries_again_then_its_dates_are_told(self) -> None:
        execution = an_execution(
            "CREATED",
            attempt_number=2,
            first_created=NOON - timedelta(hours=1),
            schedule_date=NOON + timedelta(hours=1),
        )

        found = execution_json(execution, [])

        assert found["scheduleDate"] == "2030-01-01T13:00:00.000Z"
        assert found["metadata"] == {"attemptNumber": 2, "originalCreatedDate": "2030-01-01T11:00:00.000Z"}

    def test_given_a_running_task_run_then_it_has_no_end(self) -> None:
        attempts = (Attempt(a_history("RUNNING")),)
        run = a_task_run("say", "CREATED", "RUNNING", value="v", iteration=0, parent_id="p", attempts=attempts)

        found = task_run_json(run, an_execution())

        assert found["value"] == "v"
        assert found["parentTaskRunId"] == "p"
        assert "endDate" not in found["state"]  # type: ignore[operator]
        assert [attempt["state"]["current"] for attempt in found["attempts"]] == ["RUNNING"]  # type: ignore[attr-defined]


def test_given_a_log_line_without_a_task_then_its_keys_are_absent() -> None:
    entry = LogEntry(execution_id="e", date=NOON + timedelta(microseconds=1999), level=LogLevel.INFO, message="m")

    assert log_json(entry) == {
        "executionId": "e",
        "attemptNumber": 0,
        "timestamp": "2030-01-01T12:00:00.001Z",
        "level": "INFO",
        "message": "m",
    }


def test_given_a_metric_then_its_tags_come_along() -> None:
    metric = Metric(
        execution_id="e", task_id="t", task_run_id="r", type="counter", name="n", value=2.0, date=NOON, tags={"a": "b"}
    )

    assert metric_json(metric)["tags"] == {"a": "b"}


def test_given_outputs_then_every_stored_file_is_found() -> None:
    runs = [
        a_task_run("one", outputs={"uri": "kestra:///a", "n": 1, "files": {"x": "kestra:///b", "y": "no"}}),
        a_task_run("two", value="v", outputs={"uri": "kestra:///c", "again": "kestra:///a"}),
    ]

    assert stored_files(runs) == {"one.uri": "kestra:///a", "one.files.x": "kestra:///b", "two[v].uri": "kestra:///c"}
