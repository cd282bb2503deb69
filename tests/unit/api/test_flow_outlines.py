"""What lists of flows are searched by."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tercel.api import flow_outlines
from tercel.api.flow_outlines import Outline, outline
from tercel.store import FlowRevision

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def saved(source: str) -> FlowRevision:
    return FlowRevision(namespace="n", id="f", revision=1, source=source, created_at=NOON)


def test_given_a_flow_then_what_it_says_of_itself_is_known() -> None:
    source = "id: f\nlabels: {a: yes}\ndisabled: true\ndescription: 1\ntriggers: [{id: off, type: x}, {type: y}, z]\n"

    assert outline(saved(source)) == Outline(
        labels={"a": "yes"}, disabled=True, description="1", triggers=({"id": "off", "type": "x"},)
    )


@pytest.mark.parametrize(
    "source", ["id: f\ntasks: []\n", "labels: [", "labels: x\n", "labels: [{key: a}]\ntriggers: 1\n"]
)
def test_given_a_flow_that_says_nothing_or_cannot_be_read_then_it_is_empty(source: str) -> None:
    assert outline(saved(source)) == Outline()


def test_given_the_same_text_again_then_it_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(flow_outlines, "written", lambda source: read.append(source) or {})
    texts = [f"labels: {{number: n{number}}} # told nowhere else\n" for number in range(700)]

    for text in (*texts, *texts):
        outline(saved(text))

    assert read == texts
