"""The flows that the project was created for, run for real by `tercel run --task-runner process`.

They are read from `shared/seeds` beside the project. What they reach out to is stood in for: their Git repository
by a fixture of ours through Git's own `insteadOf`, their file on the web by a local server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.homes import git
from tests.servers import http_server
from tests.tools import need_npm, venv_with

ROOT = Path(__file__).parents[2]
SEEDS = ROOT.parent / "shared" / "seeds" / "flows"
REPOSITORY = ROOT / "tests" / "fixtures" / "examples_repository"

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project")


class Seeds:
    """Runs seed flows on a home of their own."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        self.home = home
        self.env = env

    def run(self, flow: Path) -> dict[str, Any]:
        """What `tercel run --json` prints, after checking that it ended in SUCCESS."""
        command = [sys.executable, "-m", "tercel", "run", str(flow), "--json", "--task-runner", "process"]
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


@pytest.fixture
def seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seeds:
    python = venv_with("pandas", "requests", "kestra", "faker")
    repository = tmp_path / "examples"
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
    return Seeds(tmp_path / "home", env)


@pytest.mark.parametrize(
    "name", ["000_00_pip", "003_08_python-process", "003_10_pythonRequirementsFile", "003_14_outputTest", "003_15_pip"]
)
def test_given_a_flow_as_written_then_it_succeeds(seeds: Seeds, name: str) -> None:
    seeds.run(SEEDS / f"{name}.yaml")


def test_given_output_dir_then_the_next_task_reads_the_file(seeds: Seeds) -> None:
    result = seeds.run(SEEDS / "003_14_outputTest.yaml")

    assert "Hi, this is output from a script" in seeds.logs(result["id"])


def test_given_003_02_then_it_runs_up_to_the_upload(seeds: Seeds, tmp_path: Path) -> None:
    document = yaml.safe_load((SEEDS / "003_02_pythonCommandsExample.yaml").read_text())
    document["tasks"] = [task for task in document["tasks"] if ".aws.s3." not in task["type"]]
    flow = tmp_path / "flow.yaml"
    flow.write_text(yaml.safe_dump(document, sort_keys=False))

    result = seeds.run(flow)

    uri = outputs_of(result, "outputFile")["uris"]["orders.csv"]
    assert uri.startswith("kestra:///dev/pythoncommandsexample/executions/")


def test_given_003_18_then_the_file_is_downloaded(seeds: Seeds, tmp_path: Path) -> None:
    text = (SEEDS / "003_18_download.yaml").read_text()
    with http_server(lambda *_: (200, {}, b"order_id\n1\n")) as address:
        flow = tmp_path / "flow.yaml"
        flow.write_text(text.replace("https://raw.githubusercontent.com", address))
        result = seeds.run(flow)

    assert outputs_of(result, "http")["length"] == 11


def test_given_003_19_then_an_old_input_outputs_and_metrics_are_read(seeds: Seeds) -> None:
    result = seeds.run(SEEDS / "003_19_outputsMetricsPython.yaml")

    modules = {"pandas", "requests", "kestra", "faker", "csv", "random"}
    assert set(outputs_of(result, "py")["vars"]) == modules
    metrics = {metric["name"]: metric for metric in result["metrics"]}
    assert metrics.keys() == modules
    assert metrics["csv"]["type"] == "timer"
    assert metrics["csv"]["tags"] == {"nr_attempts": "10"}


def test_given_003_21_then_outputs_are_handed_on(seeds: Seeds) -> None:
    result = seeds.run(SEEDS / "003_21_outputsInputs.yaml")

    assert outputs_of(result, "takeInput") == {"value": "data from previous task - hello world!"}


def test_given_004_01_twice_then_node_modules_come_from_the_cache(seeds: Seeds, tmp_path: Path) -> None:
    need_npm()
    npmrc = Path.home() / ".npmrc"
    known = (
        [line for line in npmrc.read_text().splitlines() if not line.startswith("nodedir")] if npmrc.exists() else []
    )
    (tmp_path / ".npmrc").write_text("\n".join(known))  # a key that npm does not know makes it warn on stderr
    seeds.env["HOME"] = str(tmp_path)
    flow = SEEDS / "004_01_node_cached_dependencies.yaml"

    seeds.run(flow)
    second = seeds.run(flow)

    said = seeds.logs(second["id"])
    assert "Cache restored" in said
    assert "Hello" in said
    assert "up to date" in said


def test_given_004_02_twice_then_the_venvs_own_python_runs_from_the_cache(seeds: Seeds) -> None:
    flow = SEEDS / "004_02_python_cached_dependencies.yaml"

    seeds.run(flow)
    second = seeds.run(flow)

    said = seeds.logs(second["id"])
    assert "Cache restored" in said
    assert "Requirement already satisfied: pandas in ./venv/" in said
