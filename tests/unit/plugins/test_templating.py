"""TemplatedTask."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.model import LogLevel, State
from tercel.plugins import catalog
from tercel.plugins.templating import TemplatedTask
from tests.job_runners import Bench, a_directory, a_shell


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, catalog=catalog())


def a_templated(spec: str) -> TemplatedTask:
    return TemplatedTask(id="t", type="T", spec=spec)


def test_given_a_spec_then_the_task_runs_as_this_one_and_gives_its_outputs(bench: Bench) -> None:
    spec = """
    id: inner
    type: io.kestra.plugin.core.{{ family }}.Return
    format: "{{ flow.id }} {% raw %}{{ task.id }}{% endraw %}"
    """

    result = bench.run(a_templated(spec), variables={"family": "debug"})

    assert (result.state, result.message, result.outputs) == (State.SUCCESS, "", {"value": "flow t"})
    assert bench.records.messages(LogLevel.DEBUG, task="t") == ["flow t"]
    assert set(bench.records.values("t")) == {"length", "duration"}


def test_given_json_and_a_former_name_then_they_are_read_too(bench: Bench) -> None:
    spec = '{"id": "i", "type": "io.kestra.core.tasks.debugs.Return", "format": "{{ 1 + 1 }}"}'

    assert bench.run(a_templated(spec)).outputs == {"value": "2"}


def test_given_a_working_directory_then_the_task_works_in_it(bench: Bench) -> None:
    spec = "{id: i, type: io.kestra.plugin.core.storage.LocalFiles, outputs: ['{{ name }}.txt']}"
    made = a_shell("make", "echo hi > a.txt")

    result = bench.run(a_directory(made, a_templated(spec)), variables={"name": "a"})

    assert result.state is State.SUCCESS, result.message
    uris = bench.child("t").outputs["uris"]
    assert isinstance(uris, dict)
    assert bench.read(uris["a.txt"]) == b"hi\n"


def test_given_a_task_that_fails_then_this_one_does(bench: Bench) -> None:
    result = bench.run(a_templated("{id: i, type: io.kestra.plugin.core.execution.Fail, errorMessage: no}"))

    assert (result.state, result.message) == (State.FAILED, "no")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "{id: i, type: io.kestra.core.tasks.templating.TemplatedTask, spec: x}",
            "The 'spec' holds a TemplatedTask again. Write the task itself.",
        ),
        (
            "{id: i, type: io.kestra.plugin.core.flow.Sequential, tasks: "
            "[{id: j, type: io.kestra.plugin.core.debug.Return}]}",
            "The 'spec' is of type io.kestra.plugin.core.flow.Sequential, which shapes the flow; only a task that does "
            "work can run here.",
        ),
        (
            "{id: i, type: io.kestra.plugin.core.flow.WorkingDirectory, tasks: "
            "[{id: j, type: io.kestra.plugin.core.debug.Return}]}",
            "The 'spec' is of type io.kestra.plugin.core.flow.WorkingDirectory, which shapes the flow; only a task "
            "that does work can run here.",
        ),
        (
            "{id: i, type: io.kestra.plugin.core.runner.Process}",
            "The 'spec' holds no task that can run: The task is not valid. Line 1, column 15 (type): ",
        ),
        (
            "{id: i, type: io.kestra.plugin.core.debug.Retrun}",
            "The 'spec' holds no task that can run: The task is not valid. Line 1, column 15 (type): No plugin",
        ),
        ("hello", "The 'spec' holds no task that can run: A task is a mapping. Begin with `type: …`."),
        ("", "The 'spec' holds no task that can run: "),
    ],
)
def test_given_what_is_no_task_for_a_worker_then_it_fails_clearly(bench: Bench, spec: str, message: str) -> None:
    result = bench.run(a_templated(spec))

    assert (result.state, result.message[: len(message)]) == (State.FAILED, message)


def test_given_a_task_that_changes_the_execution_then_it_does_so_outside_of_a_working_directory_only(
    bench: Bench,
) -> None:
    spec = "{id: i, type: io.kestra.plugin.core.execution.Labels, labels: {a: b}}"

    outside = bench.run(a_templated(spec))
    bench.run(a_directory(a_templated(spec)))

    assert outside.update is not None
    assert outside.update.labels == {"a": "b"}
    assert bench.child("t").message == (
        "The 'spec' is of type io.kestra.plugin.core.execution.Labels, which cannot run inside a WorkingDirectory."
    )
