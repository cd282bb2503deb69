from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tercel.model import LogLevel
from tercel.model.jobs import TriggerJob, TriggerResult
from tercel.plugin_api import PollContext, TaskFailedError
from tercel.plugins.triggers import Webhook
from tercel.secrets import Secrets
from tercel.worker.trigger_runner import TriggerRunner
from tests.job_runners import Bench
from tests.polling import Calls

FOLDER = "kestra:///company/team/flow/executions/execution/trigger/calls"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, secrets=Secrets({"TOKEN": "hunter2"}), settings={"outputs.max-bytes": 1000})


@pytest.fixture
def runner(bench: Bench) -> TriggerRunner:
    return TriggerRunner(bench.services, most=2)


def a_job(
    evaluate: Callable[[PollContext], Mapping[str, object] | None] | None = None,
    settle: Callable[[PollContext], object] | None = None,
    trigger: Mapping[str, Any] | None = None,
    **properties: Any,
) -> TriggerJob:
    Calls.functions["calls"] = evaluate or (lambda context: None)
    Calls.settled["calls"] = settle or (lambda context: None)
    values: dict[str, Any] = {
        "execution_id": "execution",
        "namespace": "company.team",
        "flow_id": "flow",
        "trigger": Calls(id="calls", **(trigger or {})),
        "variables": {"flow": {"id": "flow"}},
    }
    return TriggerJob(**(values | properties))


def save(name: str = "a.txt") -> Callable[[PollContext], Mapping[str, object]]:
    def evaluate(context: PollContext) -> Mapping[str, object]:
        path = context.working_directory / name
        path.write_text("content")
        return {"uri": context.save_file(path, name), "more": context.save_stream(BytesIO(b"x"), "more")}

    return evaluate


def fails(context: PollContext) -> None:
    context.memory["n"] = 1
    raise TaskFailedError(context.render("{{ secret('TOKEN') }} is wrong."))


class TestRun:
    def test_given_something_found_then_its_variables_memory_and_files_are_there(
        self, runner: TriggerRunner, bench: Bench
    ) -> None:
        def evaluate(context: PollContext) -> Mapping[str, object]:
            context.memory["seen"] = {"at": datetime(2030, 1, 1, tzinfo=UTC)}
            return {**save()(context), "flow": context.render("{{ flow.id }}")}

        result = runner.run(a_job(evaluate, memory={"before": 1}))

        assert result.variables == {"uri": f"{FOLDER}/a.txt", "more": f"{FOLDER}/more", "flow": "flow"}
        assert result.memory == {"before": 1, "seen": {"at": "2030-01-01T00:00:00Z"}}
        assert (result.problem, result.has_files) == ("", True)
        assert bench.read(f"{FOLDER}/a.txt") == b"content"
        assert bench.left() == []

    def test_given_nothing_found_then_its_files_are_removed_and_the_memory_counts(
        self, runner: TriggerRunner, bench: Bench
    ) -> None:
        def evaluate(context: PollContext) -> None:
            save()(context)
            context.memory["n"] = 1

        result = runner.run(a_job(evaluate))

        assert (result.variables, result.memory, result.has_files) == (None, {"n": 1}, False)
        assert list(bench.storage.list("/")) == []

    def test_given_a_failure_then_it_is_said_with_secrets_masked_and_the_memory_is_as_before(
        self, runner: TriggerRunner
    ) -> None:
        result = runner.run(a_job(fails, memory={"n": 0}))

        assert result.problem == "******* is wrong."
        assert (result.variables, result.memory) == (None, {"n": 0})

    def test_given_an_error_nobody_expected_then_it_is_said_and_logged(self, runner: TriggerRunner) -> None:
        def evaluate(context: PollContext) -> None:
            raise ZeroDivisionError("odd")

        result = runner.run(a_job(evaluate))

        assert result.problem == "ZeroDivisionError: odd"
        assert ["Traceback" in entry.message for entry in result.entries] == [True]

    def test_given_log_lines_then_they_come_with_the_result_as_the_log_level_says(
        self, runner: TriggerRunner, bench: Bench
    ) -> None:
        def evaluate(context: PollContext) -> None:
            context.logger.debug("mild")
            context.logger.warn(context.render("{{ secret('TOKEN') }} is old"))

        result = runner.run(a_job(evaluate, trigger={"log_level": LogLevel.INFO}))

        [entry] = result.entries
        assert (entry.message, entry.level, entry.execution_id) == ("******* is old", LogLevel.WARN, "execution")
        assert (entry.trigger_id, entry.task_id, entry.task_run_id) == ("calls", None, None)
        assert bench.records.entries == []

    def test_given_endless_lines_then_they_are_cut(self, runner: TriggerRunner) -> None:
        def evaluate(context: PollContext) -> None:
            context.logger.log_lines(LogLevel.INFO, ["x" * 10_000] * 1000)

        result = runner.run(a_job(evaluate))

        assert 50 < len(result.entries) < 200

    @pytest.mark.parametrize(
        ("variables", "memory", "problem"),
        [
            ({"x": object()}, {}, "variables of the trigger cannot be stored"),
            ({"x": "y" * 2000}, {}, "more than the 1,000 allowed"),
            ({}, {"x": object()}, "memory of the trigger cannot be stored"),
            ({}, {"x": "y" * 2000}, "more than the 1,000 allowed"),
        ],
    )
    def test_given_what_cannot_be_stored_then_the_evaluation_fails(
        self, runner: TriggerRunner, bench: Bench, variables: Any, memory: Any, problem: str
    ) -> None:
        def evaluate(context: PollContext) -> Mapping[str, object]:
            context.memory.update(memory)
            return {**variables, **save()(context)}

        result = runner.run(a_job(evaluate))

        assert problem in result.problem
        assert (result.variables, result.memory) == (None, {})
        assert list(bench.storage.list("/")) == []

    def test_given_a_trial_then_no_file_of_it_stays(self, runner: TriggerRunner, bench: Bench) -> None:
        result = runner.run(a_job(save(), is_trial=True))

        assert result.variables is not None
        assert list(bench.storage.list("/")) == []

    def test_given_what_a_dead_process_left_then_it_is_removed_first(self, runner: TriggerRunner, bench: Bench) -> None:
        bench.put("company/team/flow/executions/dead/trigger/calls/a.txt", b"left")
        bench.put("company/team/flow/executions/other/trigger/calls/a.txt", b"kept")

        runner.run(a_job(leftover_id="dead"))

        assert [file.uri for file in bench.storage.list("/")] == [
            "kestra:///company/team/flow/executions/other/trigger/calls/a.txt"
        ]

    def test_given_what_is_to_be_settled_then_only_that_is_done(self, runner: TriggerRunner) -> None:
        def settle(context: PollContext) -> None:
            context.memory.clear()

        result = runner.run(a_job(fails, settle, is_settling=True, memory={"n": 1}))

        assert result == TriggerResult(memory={})

    def test_given_a_trigger_of_another_kind_then_that_is_our_mistake(self, runner: TriggerRunner) -> None:
        result = runner.run(replace(a_job(), trigger=Webhook(id="hook", type="webhook", key="k")))

        assert "is no polling trigger" in result.problem

    def test_given_a_timeout_then_the_evaluation_is_ended(self, bench: Bench) -> None:
        runner = TriggerRunner(bench.services, most=1, timeout_s=0.05)

        result = runner.run(a_job(_until_stopped))

        assert result.problem == "Timeout after 00:00:00.050"

    def test_given_an_end_in_time_that_nobody_looked_at_then_the_timeout_still_counts(self, bench: Bench) -> None:
        runner = TriggerRunner(bench.services, most=1, timeout_s=0.05)

        def evaluate(context: PollContext) -> Mapping[str, object]:
            stopped = threading.Event()
            with context.stopping(stopped.set):
                stopped.wait(30)
            return {"x": 1}

        assert runner.run(a_job(evaluate)).problem.startswith("Timeout after")


def _until_stopped(context: PollContext) -> None:
    stopped = threading.Event()
    with context.stopping(stopped.set):
        stopped.wait(30)
    context.stop_if_killed()


class TestThreads:
    def test_given_as_many_as_allowed_then_there_is_no_room_until_one_ends(self, runner: TriggerRunner) -> None:
        results: list[TriggerResult] = []
        ended = threading.Semaphore(0)

        def done(result: TriggerResult) -> None:
            results.append(result)
            ended.release()

        for name in ("one", "two"):
            runner.start(a_job(_until_stopped, execution_id=name), done)
        assert runner.room == 0

        runner.stop("one")
        assert ended.acquire(timeout=30)
        assert runner.room == 1
        runner.stop("nobody")
        runner.close()

        assert ended.acquire(timeout=30)
        assert [bool(result.problem) for result in results] == [True, True]
        assert runner.room == 0

    def test_given_no_more_threads_then_the_evaluation_fails(
        self, runner: TriggerRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        results: list[TriggerResult] = []
        monkeypatch.setattr(threading.Thread, "start", refuse)

        runner.start(a_job(memory={"n": 1}), results.append)

        assert results == [TriggerResult(problem="can't start new thread.", memory={"n": 1})]
        assert runner.room == 2

    def test_given_groups_then_only_their_triggers_are_served(self, bench: Bench) -> None:
        from tercel.model.task import WorkerGroup

        plain, gpu = Calls(id="a"), Calls(id="b", worker_group=WorkerGroup(key="gpu"))
        served = {
            groups: [TriggerRunner(bench.services, most=1, groups=groups).serves(one) for one in (plain, gpu)]
            for groups in (None, ("",), ("gpu",), ("", "gpu"))
        }

        assert served == {None: [True, True], ("",): [True, False], ("gpu",): [False, True], ("", "gpu"): [True, True]}

    def test_given_files_of_an_execution_that_is_not_started_then_they_can_be_discarded(
        self, runner: TriggerRunner, bench: Bench
    ) -> None:
        job = a_job(save())
        assert runner.run(job).has_files

        runner.discard(job)

        assert list(bench.storage.list("/")) == []
