"""The example of every type works: each is valid, and runs, is evaluated, or starts what it says it would.

Those that need a service are run in `test_service_examples`. A script language that is not on this machine is stood in
for, which shows its command line only.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tercel.expression import render
from tercel.model import State
from tercel.model.condition import Condition, FlowName
from tercel.model.schema import example, example_flow
from tercel.model.source import check_flow
from tercel.model.task import Part, Task
from tercel.model.trigger import DateContext, DatedTrigger, Trigger
from tercel.operations import WebRequest
from tercel.plugin_api import PollingTrigger, TaskRunner
from tercel.plugins import catalog
from tercel.plugins.scripts import LANGUAGES
from tercel.plugins.triggers import FlowTrigger, Webhook
from tests.homes import until
from tests.plugin_examples import PREFIX, TYPES, ExampleHome, beside, names, triggers_of
from tests.tools import need


def is_task(part: type[Part]) -> bool:
    return issubclass(part, Task)


@pytest.mark.parametrize("name", TYPES)
def test_given_a_type_then_it_has_an_example_that_is_valid(name: str) -> None:
    part = TYPES[name]

    assert example(part), "Add a section `Example:` to the docstring."
    checked = check_flow(example_flow(part), catalog())

    assert [issue.text for issue in checked.issues] == []
    assert [one.text for one in checked.warnings if "is deprecated" not in one.text] == []
    assert part.plugin_type in types_in(yaml.safe_load(example(part)))


def types_in(value: object) -> set[str]:
    """Every `type` that is written in a flow."""
    match value:
        case dict():
            found = {str(value["type"])} if "type" in value else set[str]()
            return found.union(*map(types_in, value.values()))
        case list():
            return set[str]().union(*map(types_in, value))
        case _:
            return set()


# Tasks and task runners


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleHome]:
    with ExampleHome(tmp_path_factory.mktemp("examples") / "home") as opened:
        yield opened


ENDS_AS = {"core.flow.AllowFailure": State.WARNING}


@pytest.mark.parametrize("name", names(lambda part: is_task(part) and ".scripts." not in part.plugin_type))
def test_given_the_example_of_a_task_then_it_runs(home: ExampleHome, name: str) -> None:
    text = example_flow(TYPES[name])
    if "runner: PROCESS" in text:
        need("sort", "coreutils")

    ran = home.run_example(name)

    wanted = ENDS_AS.get(name, State.SUCCESS)
    assert ran.state is wanted, "\n".join(entry.message for entry in ran.logs)
    tasks = [one["id"] for one in tasks_in(yaml.safe_load(text)) if one["type"] == TYPES[name].plugin_type]
    ended = [run.state for run in ran.runs if run.task_id in tasks]
    assert ended
    assert set(ended) == {wanted}


def tasks_in(value: object) -> Iterator[dict[str, Any]]:
    """Every mapping with an id and a type that is written in a flow."""
    match value:
        case dict():
            if "type" in value and "id" in value:
                yield value
            for one in value.values():
                yield from tasks_in(one)
        case list():
            for one in value:
                yield from tasks_in(one)
        case _:
            pass


class TestWhatTasksDo:
    def test_given_the_example_of_kill_then_the_other_execution_is_killed(self, home: ExampleHome) -> None:
        ran = home.run_example("core.execution.Kill")

        [started] = [run.outputs["executionId"] for run in ran.runs if run.task_id == "start"]
        assert home.wait(str(started)).state is State.KILLED

    def test_given_the_example_of_toggle_then_its_trigger_is_disabled(self, home: ExampleHome) -> None:
        home.run_example("core.trigger.Toggle")

        states = home.engine.call(home.engine.queries.trigger_states())
        assert [one.disabled for one in states if one.flow_id == "core-trigger-toggle"] == [True]

    def test_given_the_example_of_log_then_its_lines_are_there(self, home: ExampleHome) -> None:
        ran = home.run_example("core.log.Log")

        first, second = ran.log_of("say").splitlines()
        assert first == "Flow core-log-log runs."
        assert re.fullmatch(r"It started at \d{4}-.*", second)


# Scripts

_DEBIAN = {
    "node": ("node", "nodejs"),
    "perl": ("perl", "perl"),
    "php": ("php", "php-cli"),
    "r": ("Rscript", "r-base-core"),
    "ruby": ("ruby", "ruby"),
    "lua": ("lua", "lua5.4"),
}
"""Languages that Debian has, to the program and its package."""

_ELSEWHERE = {"powershell": "pwsh"}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of the path, whose `python` is the interpreter of the tests."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("name", names(lambda part: ".scripts." in part.plugin_type and is_task(part)))
def test_given_the_example_of_a_script_then_it_runs(home: ExampleHome, programs: Path, name: str) -> None:
    language = name.split(".")[1]
    if language in _DEBIAN:
        need(*_DEBIAN[language])
    elif language not in {"python", "shell"}:
        stand_in(programs / _ELSEWHERE.get(language, language))

    ran = home.run_example(name)

    assert ran.state is State.SUCCESS, ran.log_of("hello")
    assert ran.run_of("hello").outputs["exitCode"] == 0
    if name.endswith(".Script"):
        assert f"from {LANGUAGES[language].title}".replace("from shell", "from the shell") in ran.log_of("hello")


def stand_in(program: Path) -> None:
    """Where *program* is not on this machine, have one that prints what the last file that it is given holds."""
    if shutil.which(program.name) is None:
        program.write_text(
            '#!/bin/sh\nfor last; do :; done\nlast=$(echo "$last" | tail -n 1)\n[ ! -f "$last" ] || cat "$last"\n'
        )
        program.chmod(0o755)


def test_given_the_example_of_a_process_then_it_runs(home: ExampleHome) -> None:
    ran = home.run_example("core.runner.Process")

    assert ran.state is State.SUCCESS
    assert "Runs on Linux" in ran.log_of("report")


def test_given_the_example_of_docker_then_it_runs_in_a_container(tmp_path: Path, docker_engine: object) -> None:
    from tests.docker_engine import ensure_image

    ensure_image("ubuntu")
    with ExampleHome(tmp_path / "home", has_containers=True) as home:
        ran = home.run_example("scripts.runner.docker.Docker")

        assert ran.state is State.SUCCESS, ran.log_of("report")
        files = cast("Mapping[str, str]", ran.run_of("report").outputs["outputFiles"])
        assert home.read(files["where.txt"]) == b"Runs on Linux\n"


def test_given_the_task_runners_then_each_is_tried_above() -> None:
    assert names(lambda part: issubclass(part, TaskRunner)) == ["core.runner.Process", "scripts.runner.docker.Docker"]


# Triggers and conditions on dates


def is_dated(part: type[Part]) -> bool:
    """True for triggers that have dates, and for conditions whose example stands on one."""
    if issubclass(part, Trigger):
        return issubclass(part, DatedTrigger)
    return issubclass(part, Condition) and isinstance(
        triggers_of(part.plugin_type.removeprefix(PREFIX))[0], DatedTrigger
    )


_NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)
_SEEING = DateContext(
    flow=FlowName("company.team", "example"), zone=UTC, render=lambda text, extra: cast("str", render(text, extra))
)


@pytest.mark.parametrize("name", names(is_dated))
def test_given_the_example_of_a_trigger_with_dates_then_it_has_a_next_one(name: str) -> None:
    [trigger] = triggers_of(name)
    assert isinstance(trigger, DatedTrigger)

    due = trigger.next_date(_SEEING, _NEW_YEAR)

    assert due is not None
    assert due > _NEW_YEAR
    assert trigger.holds_at(_SEEING, due)


@pytest.mark.parametrize("name", [name for name in names(is_dated) if issubclass(TYPES[name], Condition)])
def test_given_the_example_of_a_condition_on_dates_then_it_holds_at_some_and_not_at_others(name: str) -> None:
    [trigger] = triggers_of(name)
    assert isinstance(trigger, DatedTrigger)

    held = {trigger.holds_at(_SEEING, date) for date in islice(trigger.dates(_SEEING, _NEW_YEAR), 400)}

    assert held == {True, False}


# Triggers and conditions on executions


def is_reacting(part: type[Part]) -> bool:
    """True for the trigger on executions, and for conditions whose example stands on it."""
    if issubclass(part, Trigger):
        return issubclass(part, FlowTrigger)
    return issubclass(part, Condition) and isinstance(
        triggers_of(part.plugin_type.removeprefix(PREFIX))[0], FlowTrigger
    )


ELSEWHERE = """
id: elsewhere
namespace: other
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: Nobody waits for this.}
"""


@pytest.mark.parametrize("name", names(is_reacting))
def test_given_the_example_of_a_trigger_on_executions_then_it_starts_one_after_those_that_are_meant(
    tmp_path: Path, name: str
) -> None:
    text = example_flow(TYPES[name])
    with ExampleHome(tmp_path / "home") as home:
        home.save(text)

        home.run(ELSEWHERE)
        for flow_id in ("greet", "load_orders"):
            if f"flowId: {flow_id}" in text or flow_id == "load_orders":
                home.run(beside(flow_id))

        until(lambda: bool(home.executions("example")))
        [started] = home.executions("example")
        ran = home.wait(started.id)
        assert ran.state is State.SUCCESS
        assert cast("Mapping[str, Any]", started.trigger)["id"] in {"after_orders", "after_both"}
        said = "Both are there." if "Both are" in text else "load_orders ended as SUCCESS."
        assert ran.log_of("hello") == said


def test_given_the_triggers_and_conditions_then_each_is_tried_above() -> None:
    others = names(lambda part: issubclass(part, (Trigger, Condition)) and not is_dated(part) and not is_reacting(part))

    assert [name for name in others if not issubclass(TYPES[name], PollingTrigger)] == ["core.trigger.Webhook"]


def test_given_the_example_of_a_webhook_then_a_request_with_the_key_starts_an_execution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_WEBHOOK_KEY", "c2VzYW1l")
    [trigger] = triggers_of("core.trigger.Webhook")
    assert isinstance(trigger, Webhook)
    with ExampleHome(tmp_path / "home") as home:
        home.save(example_flow(TYPES["core.trigger.Webhook"]))

        request = WebRequest(key="sesame", body='{"order": 7}')
        started = home.engine.call(home.engine.operations.start_by_request("company.team", "example", request))

        assert started is not None
        assert home.wait(started.id).log_of("hello") == "Order 7"
