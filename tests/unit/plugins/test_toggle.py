"""Toggle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tercel.model.source import check_flow, read_flow
from tercel.plugins import catalog
from tercel.plugins.toggle import Toggle
from tests.engine_calls import EngineContext
from tests.flows import CORE, flow


def a_toggle(type_name: str = f"{CORE}.trigger.Toggle", **properties: Any) -> Any:
    return read_flow(flow({"id": "t", "type": type_name, **properties}), catalog()).tasks[0]


@pytest.mark.parametrize("type_name", [f"{CORE}.trigger.Toggle", "io.kestra.core.tasks.trigger.Toggle"])
def test_given_a_trigger_then_that_of_the_own_flow_is_disabled(tmp_path: Path, type_name: str) -> None:
    context = EngineContext(tmp_path)

    assert a_toggle(type_name, trigger="{{ 'daily' }}").run(context) == {}

    given = {"namespace": "company.team", "flow_id": "flow", "trigger_id": "daily", "disabled": True}
    assert context.engine.made == [("set_trigger_disabled", given)]


def test_given_a_flow_then_the_trigger_is_one_of_it(tmp_path: Path) -> None:
    context = EngineContext(tmp_path)

    a_toggle(trigger="daily", namespace="{{ inputs.name }}", flowId="other", enabled=True).run(context)

    given = {"namespace": "Ann", "flow_id": "other", "trigger_id": "daily", "disabled": False}
    assert context.engine.made == [("set_trigger_disabled", given)]


@pytest.mark.parametrize(("enabled", "disabled"), [("{{ inputs.yes }}", False), ("{{ inputs.no }}", True)])
def test_given_an_expression_then_it_decides(tmp_path: Path, enabled: str, disabled: bool) -> None:
    context = EngineContext(tmp_path)

    Toggle(id="t", type="T", trigger="daily", enabled=enabled).run(context)

    assert context.engine.made[0][1]["disabled"] is disabled


def test_given_no_trigger_in_yaml_then_it_is_refused() -> None:
    text = flow({"id": "t", "type": f"{CORE}.trigger.Toggle"})

    assert [issue.path for issue in check_flow(text, catalog()).issues] == ["tasks[0].trigger"]


def test_given_that_it_waits_for_the_engine_then_it_is_not_inline() -> None:
    assert not Toggle.is_inline
