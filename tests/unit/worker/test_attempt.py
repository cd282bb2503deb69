"""How one attempt ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tercel.errors import ExpressionError, InvariantError, MissingToolError
from tercel.model import LogLevel, State, Task
from tercel.plugin_api import ExecutionUpdate, Outputs, RunContext, TaskFailedError, TaskKilledError
from tercel.secrets import Secrets
from tercel.worker.control import JobControl
from tests.job_runners import Bench, Calls


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, secrets=Secrets({"PW": "hunter2-hunter2"}))


def raising(error: BaseException) -> Callable[[RunContext], Outputs]:
    def raises(context: RunContext) -> Outputs:
        raise error

    return raises


def a_call(function: Callable[[RunContext], Outputs], **properties: object) -> Calls:
    Calls.functions["call"] = function
    return Calls(id="call", **properties)  # type: ignore[arg-type]


class TestStates:
    def test_given_outputs_then_it_succeeded(self, bench: Bench) -> None:
        result = bench.run(a_call(lambda context: Outputs(a=1)))

        assert (result.state, result.outputs, result.message) == (State.SUCCESS, {"a": 1}, "")
        assert result.started_at <= result.ended_at

    def test_given_outputs_that_warn_then_it_is_a_warning(self, bench: Bench) -> None:
        def warns(context: RunContext) -> Outputs:
            outputs = Outputs(a=1)
            outputs.warned = True
            return outputs

        assert bench.run(a_call(warns)).state is State.WARNING

    def test_given_a_change_of_the_execution_then_it_is_handed_on_unless_the_attempt_fails(self, bench: Bench) -> None:
        update = ExecutionUpdate(labels={"a": "b"})

        def changes(context: RunContext) -> Outputs:
            outputs = Outputs(a="x" * len(context.render("{{ size }}")) * 1000)
            outputs.execution_update = update
            return outputs

        bench.services.settings = {"outputs.max-bytes": 2000}

        kept = bench.run(a_call(changes), variables={"size": "1"})
        too_large = bench.run(a_call(changes), variables={"size": "12"})

        assert (kept.state, kept.update) == (State.SUCCESS, update)
        assert (too_large.state, too_large.update) == (State.FAILED, None)
        assert bench.run(a_call(lambda context: Outputs())).update is None

    def test_given_a_failure_then_its_outputs_are_kept_and_its_message_is_logged_once(self, bench: Bench) -> None:
        error = TaskFailedError("It broke.", "Mend it.", outputs={"a": 1})

        result = bench.run(a_call(raising(error)))

        assert (result.state, result.outputs, result.retryable) == (State.FAILED, {"a": 1}, True)
        assert result.message == "It broke. Mend it."
        assert bench.records.messages() == ["It broke. Mend it."]

    @pytest.mark.parametrize("error", [ExpressionError("no x"), MissingToolError("no git", "Install it.")])
    def test_given_an_error_for_people_then_there_is_no_traceback(self, bench: Bench, error: Exception) -> None:
        result = bench.run(a_call(raising(error)))

        assert result.state is State.FAILED
        assert bench.records.messages() == [str(error)]

    def test_given_an_unexpected_error_then_type_causes_and_traceback_are_logged(self, bench: Bench) -> None:
        def breaks(context: RunContext) -> Outputs:
            try:
                return Outputs(a=1 // 0)
            except ZeroDivisionError as error:
                raise ValueError("bad") from error

        result = bench.run(a_call(breaks))

        assert result.message == "ValueError: bad\nCaused by ZeroDivisionError: integer division or modulo by zero"
        assert bench.records.messages(LogLevel.ERROR) == [result.message]
        assert "Traceback" in bench.records.messages(LogLevel.TRACE)[0]

    def test_given_our_own_mistake_then_the_ids_are_in_the_message_and_it_is_not_retried(self, bench: Bench) -> None:
        result = bench.run(a_call(raising(InvariantError("cannot be"))))

        assert result.message == "Internal error in execution execution, task run run: cannot be"
        assert result.retryable is False

    def test_given_an_exit_of_the_interpreter_then_only_the_task_failed(self, bench: Bench) -> None:
        assert bench.run(a_call(raising(SystemExit(3)))).state is State.FAILED

    def test_given_a_task_that_is_killed_then_its_outputs_are_kept(self, bench: Bench) -> None:
        result = bench.run(a_call(raising(TaskKilledError(outputs={"a": 1}))))

        assert (result.state, result.outputs, result.retryable) == (State.KILLED, {"a": 1}, False)

    def test_given_a_kill_then_an_error_it_causes_is_a_kill_too(self, bench: Bench) -> None:
        control = JobControl()

        def broken_by_kill(context: RunContext) -> Outputs:
            control.stop("kill")
            raise OSError("pipe closed")

        assert bench.run(a_call(broken_by_kill), control).state is State.KILLED

    def test_given_a_task_that_is_not_runnable_then_it_failed(self, bench: Bench) -> None:
        result = bench.run(Task(id="x", type="some.Flowable"))

        assert result.state is State.FAILED
        assert "'x' of type some.Flowable" in result.message

    def test_given_a_secret_in_an_error_then_it_is_masked_in_log_and_message(self, bench: Bench) -> None:
        def leaks(context: RunContext) -> Outputs:
            raise TaskFailedError(f"cannot log in with {context.render('{{ secret(`pw`) }}'.replace('`', chr(39)))}")

        result = bench.run(a_call(leaks))

        assert result.message == "cannot log in with **masked*******"
        assert "hunter2" not in "".join(bench.records.messages())


class TestTimeout:
    def test_given_a_timeout_then_the_task_is_stopped_and_failed(self, bench: Bench) -> None:
        def waits(context: RunContext) -> Outputs:
            ended = threading.Event()
            with context.stopping(ended.set):
                ended.wait(30)
            context.stop_if_killed()
            return Outputs()

        begun = time.monotonic()
        result = bench.run(a_call(waits, timeout="PT0.05S"))

        assert (result.state, result.message) == (State.FAILED, "Timeout after 00:00:00.050")
        assert time.monotonic() - begun < 5
        assert bench.records.messages(LogLevel.ERROR) == ["Timeout after 00:00:00.050"]

    def test_given_a_task_that_does_not_look_then_it_failed_with_its_outputs(self, bench: Bench) -> None:
        def sleeps(context: RunContext) -> Outputs:
            ended = threading.Event()
            with context.stopping(ended.set):
                ended.wait(30)
            return Outputs(a=1)

        result = bench.run(a_call(sleeps, timeout="PT0.05S"))

        assert (result.state, result.outputs) == (State.FAILED, {"a": 1})

    def test_given_a_timeout_that_is_none_then_the_task_does_not_start(self, bench: Bench) -> None:
        started: list[int] = []

        def starts(context: RunContext) -> Outputs:
            started.append(1)
            return Outputs()

        result = bench.run(a_call(starts, timeout="{{ 'soon' }}"))

        assert result.state is State.FAILED
        assert "'soon' is not a duration" in result.message
        assert started == []

    def test_given_a_task_in_time_then_it_succeeded(self, bench: Bench) -> None:
        assert bench.run(a_call(lambda context: Outputs(), timeout="PT1H")).state is State.SUCCESS


class TestOutputLimit:
    def test_given_too_much_then_it_failed_naming_the_largest(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, settings={"outputs.max-bytes": 1000})

        result = bench.run(a_call(lambda context: Outputs(vars={"big": "x" * 2000, "small": 1}, exitCode=0)))

        assert (result.state, result.outputs) == (State.FAILED, {})
        assert result.message.startswith("The outputs have 2,042 bytes, more than the 1,000 that are allowed.")
        assert "vars.big (2,002 bytes), vars.small (1 bytes)" in result.message
        assert bench.records.messages(LogLevel.ERROR) == [result.message]

    def test_given_a_value_that_is_no_json_then_it_failed(self, bench: Bench) -> None:
        result = bench.run(a_call(lambda context: Outputs(a=object())))

        assert result.state is State.FAILED
        assert result.message.startswith("The outputs cannot be stored as JSON")


class TestPublishing:
    def test_given_metrics_and_a_failure_then_metrics_are_published(self, bench: Bench) -> None:
        def counts(context: RunContext) -> Outputs:
            context.metric("rows", 2, tags={"a": "b"})
            context.metric("rows", 3, tags={"a": "b"})
            raise TaskFailedError("oh")

        bench.run(a_call(counts), attempt=4)

        (metric,) = bench.records.metrics
        assert (metric.name, metric.value, metric.attempt, metric.task_run_id) == ("rows", 5.0, 4, "run")

    def test_given_a_log_that_cannot_be_stored_then_the_attempt_has_an_end(self, bench: Bench) -> None:
        def broken(entries: object) -> None:
            raise RuntimeError("disk full")

        bench.records.write_logs = broken  # type: ignore[method-assign,assignment]

        def logs(context: RunContext) -> Outputs:
            context.logger.info("x")
            return Outputs()

        result = bench.run(a_call(logs))

        assert (result.state, result.message) == (State.FAILED, "The log cannot be stored: RuntimeError: disk full")

    def test_given_a_log_level_then_milder_lines_are_not_stored(self, bench: Bench) -> None:
        def logs(context: RunContext) -> Outputs:
            context.logger.info("mild")
            context.logger.warn("grave")
            return Outputs()

        bench.run(a_call(logs, log_level=LogLevel.WARN))

        assert bench.records.messages() == ["grave"]
