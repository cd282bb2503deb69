"""A world for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.executor.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("tercel.executor.executor._INLINE_BUDGET_S", 60)  # a busy machine brings no further commits
    world = World(tmp_path)
    yield world
    world.close()
