"""What properties render to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tercel.plugin_api import TaskFailedError
from tercel.plugins.aws import properties
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path, variables={"n": 7, "blank": " "})


def test_given_blank_text_then_there_is_none(context: DirectoryContext) -> None:
    assert properties.text(context, "{{ blank }}") is None
    assert properties.text(context, None) is None
    assert properties.text(context, " {{ n }} ") == "7"


def test_given_a_duration_then_it_is_read(context: DirectoryContext) -> None:
    assert properties.seconds(context, "PT1M", "stateTtl") == 60
    with pytest.raises(TaskFailedError, match="stateTtl: "):
        properties.seconds(context, "soon", "stateTtl")


def test_given_a_date_without_zone_then_it_is_utc(context: DirectoryContext) -> None:
    date = datetime(2030, 1, 2, 10, tzinfo=UTC)

    assert properties.instant(context, "2030-01-02T10:00:00", "expires") == date
    assert properties.instant(context, "2030-01-02T12:00:00+02:00", "expires") == date
    assert properties.iso(date) == "2030-01-02T10:00:00.000Z"


def test_given_a_map_as_text_then_it_is_read_as_json(context: DirectoryContext) -> None:
    assert properties.text_map(context, '{"a": 1, "b": "x"}', "metadata") == {"a": "1", "b": "x"}
    assert properties.text_map(context, {"{{ n }}": "{{ n }}"}, "metadata") == {"7": "7"}
    assert properties.text_map(context, None, "metadata") == {}
    with pytest.raises(TaskFailedError, match="metadata is no JSON object"):
        properties.text_map(context, "{", "metadata")
