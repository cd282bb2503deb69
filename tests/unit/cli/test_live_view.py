from __future__ import annotations

from datetime import datetime, timedelta
from io import StringIO

import pytest

from tercel.cli.live_view import LiveView, duration_text
from tercel.executor import retry_id
from tercel.model import LogEntry, LogLevel
from tests.builders import NOON, a_task_run, an_execution
from tests.homes import until


def an_entry(message: str, level: str = "INFO", execution_id: str = "execution", date: datetime = NOON) -> LogEntry:
    return LogEntry(execution_id=execution_id, date=date, level=LogLevel(level), message=message, task_id="say")


@pytest.fixture
def out() -> StringIO:
    return StringIO()


class TestPlainLines:
    def test_given_changes_then_each_is_told_once(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)
        created = a_task_run("say", "CREATED")
        running = a_task_run("say", "CREATED", "RUNNING")
        done = a_task_run("say", "CREATED", "RUNNING", "SUCCESS", value="a")

        view.changed(an_execution("RUNNING"), [created])
        view.changed(an_execution("RUNNING"), [running])
        view.changed(an_execution("RUNNING"), [running])
        view.changed(an_execution("RUNNING"), [done])
        view.close()

        assert out.getvalue() == "12:00:01 ▸ say RUNNING\n12:00:02 ✓ say [a] SUCCESS in 2.0 s\n"

    def test_given_another_execution_then_nothing_is_shown(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.changed(an_execution("RUNNING", id="other"), [a_task_run("say", "CREATED", "RUNNING")])
        view.logged([an_entry("x", execution_id="other")])
        view.close()

        assert out.getvalue() == ""

    def test_given_an_instant_then_what_was_before_is_left_out_and_a_restart_begins_anew(self, out: StringIO) -> None:
        view = LiveView("execution", out=out, since=NOON + timedelta(seconds=3))
        states = ("CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS")

        view.changed(an_execution("RUNNING"), [a_task_run("say", *states)])
        view.close()

        assert out.getvalue() == "12:00:04 ▸ say RUNNING\n12:00:05 ✓ say SUCCESS in 2.0 s\n"

    def test_given_a_long_or_hostile_loop_value_then_it_is_cut_and_cleaned(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.changed(an_execution("RUNNING"), [a_task_run("say", "CREATED", "RUNNING", value="\x1b[2Ja\n" + "b" * 50)])
        view.close()

        assert out.getvalue() == f"12:00:01 ▸ say [a {'b' * 38}…] RUNNING\n"

    def test_given_log_lines_then_those_below_the_level_are_left_out(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.logged([an_entry("quiet", "DEBUG"), an_entry("first\nsecond", "WARN")])
        view.close()

        assert out.getvalue() == "12:00:00 WARN  say: first\n               second\n"

    def test_given_more_than_may_wait_then_the_oldest_are_shown_at_once(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        for second in range(3):
            view.logged([an_entry("x" * 600_000, date=NOON + timedelta(seconds=second))])
        shown = out.getvalue().count("\n")
        view.close()

        assert shown == 2
        assert out.getvalue().count("\n") == 3

    def test_given_lines_of_one_time_then_each_has_its_head(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.logged([an_entry("one"), an_entry("two"), an_entry("three", "WARN")])
        view.close()

        assert out.getvalue() == "12:00:00 INFO  say: one\n12:00:00 INFO  say: two\n12:00:00 WARN  say: three\n"

    def test_given_control_sequences_then_they_do_not_reach_the_terminal(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.logged([an_entry("\x1b[31mred\x1b[0m \x1b[2Jgone \x1b]0;title\x07 bell\x07\ttab")])
        view.close()

        assert out.getvalue() == "12:00:00 INFO  say: red gone  bell�\ttab\n"

    def test_given_a_log_line_that_comes_late_then_it_stands_before_the_end_of_its_task(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.changed(an_execution("RUNNING"), [a_task_run("say", "CREATED", "RUNNING", "SUCCESS")])
        view.logged([an_entry("hi", date=NOON + timedelta(seconds=1.5))])
        view.close()

        assert [line.split(" ", 1)[1] for line in out.getvalue().splitlines()] == [
            "▸ say RUNNING",
            "INFO  say: hi",
            "✓ say SUCCESS in 2.0 s",
        ]

    def test_given_nothing_more_then_lines_are_shown_after_a_moment(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.logged([an_entry("hi")])

        until(lambda: out.getvalue() == "12:00:00 INFO  say: hi\n")
        view.close()


class TestOnATerminal:
    def test_given_a_running_task_then_it_stands_below_and_is_redrawn(self, out: StringIO) -> None:
        view = LiveView("execution", out=out, is_live=True)

        view.changed(an_execution("RUNNING"), [a_task_run("say", "CREATED", "RUNNING")])
        running = "\x1b[34m▸ say RUNNING\x1b[0m\n"
        assert out.getvalue() == running
        view.changed(an_execution("RUNNING"), [a_task_run("say", "CREATED", "RUNNING", "SUCCESS")])
        view.close()

        assert out.getvalue() == (
            f"{running}\x1b[1A\x1b[J12:00:01 {running}12:00:02 \x1b[32m✓ say SUCCESS\x1b[0m in 2.0 s\n"
        )


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(milliseconds=7), "0.007 s"),
        (timedelta(seconds=59.94), "59.9 s"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(seconds=125), "2 min 5 s"),
    ],
)
def test_duration_text(duration: timedelta, text: str) -> None:
    assert duration_text(duration) == text


class TestExecutions:
    def test_given_it_waits_for_its_turn_then_it_is_told_once(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)

        view.changed(an_execution("CREATED", "QUEUED"), [])
        view.changed(an_execution("CREATED", "QUEUED", "RUNNING"), [a_task_run("say", "CREATED", "RUNNING")])
        view.close()

        assert out.getvalue() == "12:00:01 ‖ flow QUEUED\n12:00:01 ▸ say RUNNING\n"

    def test_given_another_one_tries_the_same_again_then_that_is_shown_too(self, out: StringIO) -> None:
        view = LiveView("execution", out=out)
        retried = an_execution("CREATED", "RUNNING", "RETRIED")

        view.changed(retried, [])
        view.changed(an_execution("CREATED", id=retry_id(retried)), [a_task_run("say", "CREATED", "RUNNING")])
        view.close()

        assert out.getvalue() == "12:00:01 ▸ say RUNNING\n12:00:02 ↻ flow RETRIED\n"

    def test_given_somebody_is_asked_then_what_waits_is_shown_before_and_what_comes_after(self, out: StringIO) -> None:
        view = LiveView("execution", out=out, is_live=True)
        view.changed(an_execution("RUNNING"), [a_task_run("wait", "CREATED", "RUNNING", "PAUSED")])

        with view.held():
            before = out.getvalue()
            view.changed(an_execution("RUNNING"), [a_task_run("say", "CREATED", "RUNNING")])
            asked = out.getvalue()
        view.close()

        assert before.endswith("‖ wait PAUSED\x1b[0m\n")
        assert before.count("‖ wait PAUSED") == 2  # once drawn below, once told
        assert asked == before
        assert "▸ say RUNNING" in out.getvalue()[len(before) :]
