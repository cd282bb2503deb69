"""What a server says: its form, its levels, and that nobody waits for who reads it."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from tercel.model.logs import LogEntry
from tercel.model.task import LogLevel
from tercel.server_log import Form, Level, ServerLog, tell_request
from tests.builders import NOON


def an_entry(message: str, level: str = "INFO", **properties: str) -> LogEntry:
    return LogEntry(execution_id="one", date=NOON, level=LogLevel(level), message=message, **properties)  # pyright: ignore[reportArgumentType]


@contextmanager
def saying(
    form: Form = "text", level: Level = "INFO", task_level: Level = "INFO", secrets: Sequence[str] = ()
) -> Generator[tuple[ServerLog, io.StringIO]]:
    said = io.StringIO()

    def mask(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    with ServerLog(form, level=level, task_level=task_level, stream=said) as log:
        log.start(mask)
        yield log, said


def lines(said: io.StringIO) -> list[str]:
    """The lines, without the instants at their beginning."""
    return [line if line.startswith("  ") else line.split(" ", 1)[1] for line in said.getvalue().splitlines()]


class TestText:
    def test_given_what_server_tasks_and_requests_say_then_each_is_a_line(self) -> None:
        with saying() as (log, said):
            logging.getLogger("tercel").info("Ready at %s.", "noon")
            log.tell_tasks([an_entry("done", "WARN", task_id="say", task_run_id="run"), an_entry("began")])
            facts = {"length": 7, "duration": 1.5, "address": "127.0.0.1"}
            tell_request("GET", "/api/v1/flows", 200, facts)
            tell_request("GET", "/api/v1/flows", 200, {**facts, "user": "me"})

        assert said.getvalue().splitlines()[1].startswith("2030-01-01T12:00:00.000Z ")
        assert lines(said) == [
            "INFO  tercel: Ready at noon.",
            "WARN  flow: [one] [say] [run] done",
            "INFO  flow: [one] began",
            "INFO  access: GET /api/v1/flows 200 7 B 1.5 ms 127.0.0.1 -",
            "INFO  access: GET /api/v1/flows 200 7 B 1.5 ms 127.0.0.1 me",
        ]

    def test_given_lines_in_a_message_then_none_of_them_looks_like_one_of_the_server(self) -> None:
        with saying() as (log, said):
            log.tell_tasks([an_entry("a\n2030-01-01T12:00:00.000Z ERROR tercel: forged")])

        assert lines(said) == ["INFO  flow: [one] a", "  2030-01-01T12:00:00.000Z ERROR tercel: forged"]

    def test_given_an_exception_then_its_traceback_stands_below_without_secrets(self) -> None:
        with saying(secrets=["hush"]) as (_, said):
            try:
                int("not hush")
            except ValueError:
                logging.getLogger("tercel.api").exception("It failed with hush.")

        assert lines(said)[0] == "ERROR tercel.api: It failed with ***."
        assert lines(said)[1] == "  Traceback (most recent call last):"
        assert lines(said)[-1].endswith("'not ***'")


class TestJson:
    def test_given_facts_then_they_are_fields(self) -> None:
        with saying("json", secrets=["hush"]) as (log, said):
            log.tell_tasks([an_entry('it is "hush"\nö', task_id="say", task_run_id="run", trigger_id="poll")])
            tell_request("POST", "/x", 404, {"length": 1, "duration": 0.5, "address": "::1"})

        first, second = map(json.loads, said.getvalue().splitlines())
        assert first.pop("thread") == second.pop("thread") == "MainThread"
        assert first == {
            "timestamp": "2030-01-01T12:00:00.000Z",
            "level": "INFO",
            "logger": "flow",
            "message": 'it is "***"\nö',
            "executionId": "one",
            "taskId": "say",
            "taskRunId": "run",
            "attempt": 0,
            "triggerId": "poll",
        }
        del second["timestamp"]
        assert second == {
            "level": "INFO",
            "logger": "access",
            "message": "POST /x",
            "method": "POST",
            "path": "/x",
            "status": 404,
            "length": 1,
            "duration": 0.5,
            "address": "::1",
        }

    def test_given_an_exception_then_its_traceback_is_a_field(self) -> None:
        with saying("json") as (_, said):
            try:
                {}["x"]  # pyright: ignore[reportUnusedExpression]
            except KeyError:
                logging.getLogger("tercel").exception("No")

        assert json.loads(said.getvalue())["stackTrace"].endswith("KeyError: 'x'\n")


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "said"), [("TRACE", "dwe"), ("DEBUG", "dwe"), ("WARN", "we"), ("ERROR", "e"), ("OFF", "")]
    )
    def test_given_a_level_then_the_server_says_nothing_below_it(self, level: Level, said: str) -> None:
        with saying(level=level) as (_, stream):
            logger = logging.getLogger("tercel")
            logger.debug("d")
            logger.warning("w")
            logger.error("e")

        assert "".join(line[-1] for line in lines(stream)) == said

    @pytest.mark.parametrize(("level", "said"), [("TRACE", "tiw"), ("INFO", "iw"), ("WARN", "w"), ("OFF", "")])
    def test_given_a_level_for_tasks_then_nothing_below_it_is_said(self, level: Level, said: str) -> None:
        with saying(task_level=level) as (log, stream):
            log.tell_tasks([an_entry("t", "TRACE"), an_entry("i"), an_entry("w", "WARN")])

        assert "".join(line[-1] for line in lines(stream)) == said

    def test_given_loggers_of_libraries_then_only_their_warnings_are_said(self) -> None:
        with saying() as (_, said):
            logging.getLogger("some.library").info("i")
            logging.getLogger("some.library").warning("w")

        assert lines(said) == ["WARN  some.library: w"]


class TestWaiting:
    def test_given_nobody_who_reads_then_what_is_too_much_is_dropped_and_counted_and_nobody_waits(self) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
            log = ServerLog(stream=writer)
            log.start(str)
            logger = logging.getLogger("tercel")
            for _ in range(20_000):
                logger.info("x" * 100)
            read = dropped = 0
            line = ""
            while not dropped:
                line = reader.readline()
                read += line.endswith("x\n")
                if read == 4_500:  # there is room again
                    logger.info("later")
                if "dropped" in line:
                    dropped = int(line.split("tercel: ")[1].split()[0])
            log.close()

        assert read + dropped == 20_000
        assert "lines were dropped, as nobody read them in time." in line

    def test_given_a_line_that_cannot_be_made_then_the_others_are_said(self) -> None:
        with saying() as (_, said):
            tell_request("GET", "/without-facts", 200, {})
            logging.getLogger("tercel").info("next")

        assert said.getvalue().startswith("access: '%s %s' cannot be said: 'length'\n")
        assert said.getvalue().endswith("INFO  tercel: next\n")

    def test_given_a_reader_that_has_gone_then_closing_ends(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        writer = os.fdopen(writing, "w")
        log = ServerLog(stream=writer)
        log.start(str)
        logging.getLogger("tercel").info("to nobody")

        log.close()
        log.close()

        with pytest.raises(BrokenPipeError):
            writer.close()

    def test_given_it_has_not_started_then_lines_are_written_at_once(self) -> None:
        said = io.StringIO()
        with ServerLog(stream=said):
            logging.getLogger("tercel").warning("wait")
            assert lines(said) == ["WARN  tercel: wait"]

        logging.getLogger("tercel").info("after it")
        assert len(lines(said)) == 1
