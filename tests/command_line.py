"""Runs the command `tercel` as people do: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tercel(
    *arguments: object, home: Path | None = None, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; *home* becomes TERCEL_HOME."""
    return subprocess.run(
        command(*arguments),
        env=environment(home, env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tercel", *map(str, arguments)]


def environment(home: Path | None, env: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TERCEL_")}
    return {**kept, **({} if home is None else {"TERCEL_HOME": str(home)}), **(env or {})}
