"""What every test shares: deterministic hypothesis, and fixtures for homes and repositories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tercel", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("tercel")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[object]:
    """A home of its own, with the whole engine, ended after the test."""
    from tests.homes import Home

    with Home(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with one commit on `main`: an executable script and a folder."""
    from tests.homes import git

    path = tmp_path / "repository"
    (path / "scripts").mkdir(parents=True)
    (path / "hello.sh").write_text("#!/bin/sh\necho hello from the repository\n")
    (path / "hello.sh").chmod(0o755)
    (path / "scripts" / "one.py").write_text("print(1)\n")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path
