"""Runs the flows that the project was created for, which are read from `shared/seeds` beside the project.

What they reach out to is stood in for: their Git repository by a fixture of ours through Git's own `insteadOf`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.homes import git
from tests.tools import venv_with

ROOT = Path(__file__).parents[1]
SEEDS = ROOT.parent / "shared" / "seeds" / "flows"
REPOSITORY = ROOT / "tests" / "fixtures" / "examples_repository"


class Seeds:
    """Runs seed flows on a home of their own."""

    def __init__(self, home: Path, env: dict[str, str], task_runner: str) -> None:
        self.home = home
        self.env = env
        self._options = ["--task-runner", task_runner] if task_runner else []

    def run(self, flow: Path) -> dict[str, Any]:
        """What `tercel run --json` prints, after checking that it ended in SUCCESS."""
        command = [sys.executable, "-m", "tercel", "run", str(flow), "--json", *self._options]
        done = subprocess.run(
            [*command, "--home", str(self.home)], env=self.env, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result = json.loads(done.stdout)
        assert result["state"]["current"] == "SUCCESS", done.stdout
        return result

    def logs(self, execution_id: str) -> str:
        """Every log line of an execution."""
        command = [sys.executable, "-m", "tercel", "execution", "logs", execution_id, "--home", str(self.home)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout


def outputs_of(result: dict[str, Any], task_id: str) -> dict[str, Any]:
    """The outputs of a task's only run."""
    [run] = [run for run in result["taskRunList"] if run["taskId"] == task_id]
    return run["outputs"]


def make_seeds(folder: Path, *, task_runner: str) -> Seeds:
    """Seeds with a home in *folder*; *task_runner* is `process`, or empty for what the flows say."""
    python = venv_with("pandas", "requests", "kestra", "faker")
    repository = folder / "examples"
    repository.mkdir()
    git(repository, "init", "-q", "-b", "main")
    subprocess.run(["cp", "-r", f"{REPOSITORY}/.", str(repository)], check=True)
    git(repository, "add", "."), git(repository, "commit", "-qm", "scripts")
    env = {
        **os.environ,
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/kestra-io/examples",
    }
    return Seeds(folder / "home", env, task_runner)
