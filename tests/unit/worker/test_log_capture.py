"""Log lines and metrics on their way to the store."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tercel.model import LogLevel
from tercel.secrets import Masker
from tercel.worker.log_capture import BATCH_ENTRIES, MAX_ENTRY, MAX_MESSAGE, MetricBook, RunIdentity, TaskLog
from tercel.worker.timers import Timers
from tests.job_runners import KeptRecords

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
IDENTITY = RunIdentity(execution_id="e", namespace="n", flow_id="f", task_id="t", task_run_id="r", attempt=2)


def a_log(records: KeptRecords, masker: Masker | None = None, level: LogLevel | None = None) -> TaskLog:
    return TaskLog(records, IDENTITY, masker or Masker(), lambda: NOON, level=level)


class TestTaskLog:
    def test_given_lines_then_they_arrive_in_order_with_their_identity(self) -> None:
        records = KeptRecords()
        log = a_log(records)

        log.trace("1")
        log.debug("2")
        log.info("3")
        log.warn("4")
        log.error("5\n6")
        log.log_lines(LogLevel.INFO, ["7", "8"])
        log.flush()

        assert [(entry.level.value, entry.message) for entry in records.entries] == [
            ("TRACE", "1"),
            ("DEBUG", "2"),
            ("INFO", "3"),
            ("WARN", "4"),
            ("ERROR", "5\n6"),
            ("INFO", "7"),
            ("INFO", "8"),
        ]
        entry = records.entries[0]
        assert (entry.execution_id, entry.task_id, entry.task_run_id, entry.attempt, entry.date) == (
            *("e", "t", "r", 2),
            NOON,
        )

    def test_given_a_level_then_milder_lines_are_dropped(self) -> None:
        records = KeptRecords()
        log = a_log(records, level=LogLevel.WARN)

        log.info("no")
        log.warn("yes")
        log.flush()

        assert records.messages() == ["yes"]

    def test_given_a_secret_then_it_is_masked_before_it_is_stored(self) -> None:
        records, masker = KeptRecords(), Masker()
        log = a_log(records, masker)
        masker.add("hunter22")

        log.info("it is hunter22")
        log.flush()

        assert records.messages() == ["it is ********"]

    def test_given_many_lines_then_they_travel_in_batches_without_a_flush(self) -> None:
        records = KeptRecords()
        log = a_log(records)

        for number in range(BATCH_ENTRIES + 1):
            log.info(str(number))

        assert len(records.entries) == BATCH_ENTRIES

    def test_given_a_silent_task_then_its_last_line_travels_by_itself(self) -> None:
        records = KeptRecords()
        log = TaskLog(records, IDENTITY, Masker(), lambda: NOON, flushes=(flushes := Timers("test")))
        log.info("waiting")

        from threading import Event

        passed = Event()
        flushes.after(0.1, passed.set)

        assert passed.wait(5)
        assert records.messages() == ["waiting"]

    def test_given_a_huge_message_then_it_is_cut_with_a_mark(self) -> None:
        records = KeptRecords()
        log = a_log(records)

        log.info("x" * (MAX_MESSAGE + 1234))
        log.flush()

        parts = records.messages()
        assert "".join(parts) == "x" * MAX_MESSAGE + "… [1,234 characters cut]"
        assert {len(part) for part in parts[:-1]} == {MAX_ENTRY}


class TestMetricBook:
    def test_given_the_same_identity_then_values_add_up_and_gauges_keep_the_last(self) -> None:
        records, book = KeptRecords(), MetricBook()

        book.add("n", 1, "counter", {"a": "x", "b": "y"})
        book.add("n", 2, "counter", {"b": "y", "a": "x"})
        book.add("n", 5, "counter", {"a": "z"})
        book.add("g", 1, "gauge", None)
        book.add("g", 7, "gauge", None)
        book.publish(records, IDENTITY, lambda: NOON)

        assert [(metric.name, metric.value, dict(metric.tags)) for metric in records.metrics] == [
            ("n", 3.0, {"a": "x", "b": "y"}),
            ("n", 5.0, {"a": "z"}),
            ("g", 7.0, {}),
        ]

    @pytest.mark.parametrize(("seconds", "millis"), [(2.12, 2120.0), (1.001, 1001.0), (0.0019, 1.0), (-0.0015, -1.0)])
    def test_given_a_timer_then_whole_milliseconds_are_stored(self, seconds: float, millis: float) -> None:
        records, book = KeptRecords(), MetricBook()

        book.add("t", seconds, "timer", None)
        book.publish(records, IDENTITY, lambda: NOON)

        assert records.metrics[0].value == millis

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_given_no_finite_number_then_it_is_refused(self, value: float) -> None:
        with pytest.raises(ValueError, match="Invalid metric 'x'"):
            MetricBook().add("x", value, "counter", None)
