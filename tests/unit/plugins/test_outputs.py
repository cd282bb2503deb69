"""OutputValues."""

from __future__ import annotations

from pathlib import Path

from tercel.plugins.outputs import OutputValues
from tests.job_runners import Bench


def test_given_values_then_texts_inside_are_rendered_and_the_rest_kept(tmp_path: Path) -> None:
    values = {"a": "{{ flow.id }}", "b": [1, {"c": "{{ 1 + 1 }}"}], "d": None, "e": True}

    result = Bench(tmp_path).run(OutputValues(id="o", type="O", values=values))

    assert result.outputs == {"values": {"a": "flow", "b": [1, {"c": "2"}], "d": None, "e": True}}
