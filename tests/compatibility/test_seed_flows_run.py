"""The flows that the project was created for, run for real by `tercel run --task-runner process`.

Their file on the web is stood in for by a local server; see `tests.seeds` for the rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.seeds import SEEDS, Seeds, make_seeds, outputs_of
from tests.tools import need_npm

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project")


@pytest.fixture
def seeds(tmp_path: Path) -> Seeds:
    return make_seeds(tmp_path, task_runner="process")


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
