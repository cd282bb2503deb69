"""Stopping jobs."""

from __future__ import annotations

import threading
import time

import pytest

from tercel.errors import TaskKilledError, TaskTimeoutError
from tercel.worker.control import JobControl, timeout_message


class TestStop:
    def test_given_no_stop_then_nothing_is_raised(self) -> None:
        control = JobControl()
        control.raise_if_stopped()

        assert control.reason is None
        assert not control.wait(0)

    def test_given_a_callback_then_it_is_called_once_and_not_after_its_block(self) -> None:
        control, calls = JobControl(), list[str]()

        with control.stopping(lambda: calls.append("in")):
            control.stop("kill")
            control.stop("kill")
        with control.stopping(lambda: calls.append("late")):
            pass

        assert calls == ["in", "late"]

    def test_given_a_block_that_is_over_then_its_callback_is_not_called(self) -> None:
        control, calls = JobControl(), list[str]()
        with control.stopping(lambda: calls.append("in")):
            pass

        control.stop("kill")

        assert calls == []

    def test_given_a_timeout_then_a_kill_takes_over_but_not_the_other_way(self) -> None:
        first, second = JobControl(), JobControl()
        first.stop("timeout")
        first.stop("kill")
        second.stop("kill")
        second.stop("timeout")

        assert (first.reason, second.reason) == ("kill", "kill")

    def test_given_a_reason_then_the_error_says_it(self) -> None:
        timed, killed, shut = JobControl(), JobControl(), JobControl()
        timed.timeout_s = 90
        timed.stop("timeout")
        killed.stop("kill")
        shut.stop("shutdown")

        with pytest.raises(TaskTimeoutError, match=r"Timeout after 00:01:30\.000"):
            timed.raise_if_stopped()
        with pytest.raises(TaskKilledError, match="being killed"):
            killed.raise_if_stopped()
        with pytest.raises(TaskKilledError, match="shuts down"):
            shut.raise_if_stopped()

    def test_given_a_stop_from_another_thread_then_a_wait_ends_at_once(self) -> None:
        control = JobControl()
        threading.Timer(0.05, lambda: control.stop("kill")).start()
        begun = time.monotonic()

        assert control.wait(30)
        assert time.monotonic() - begun < 5


class TestNested:
    @pytest.mark.parametrize(("outer", "inner"), [("kill", "kill"), ("timeout", "kill"), ("shutdown", "shutdown")])
    def test_given_a_stop_outside_then_the_inside_ends_too(self, outer: str, inner: str) -> None:
        control = JobControl()

        with control.nested() as scope:
            control.stop(outer)  # type: ignore[arg-type]

            assert scope.reason == inner

    def test_given_a_stop_inside_then_the_outside_goes_on(self) -> None:
        control = JobControl()

        with control.nested() as scope:
            scope.stop("timeout")

        assert control.reason is None

    def test_given_a_scope_that_is_over_then_it_is_not_stopped_any_more(self) -> None:
        control = JobControl()
        with control.nested() as scope:
            pass

        control.stop("kill")

        assert scope.reason is None


def test_given_hours_then_the_message_shows_them() -> None:
    assert timeout_message(100 * 3600 + 0.0014) == "Timeout after 100:00:00.001"


def test_given_work_that_cannot_be_taken_back_then_later_stops_do_not_count() -> None:
    control = JobControl()

    assert control.finish()
    control.stop("kill")

    assert control.reason is None


def test_given_a_stop_then_such_work_is_not_begun() -> None:
    control = JobControl()
    control.stop("kill")

    assert not control.finish()
