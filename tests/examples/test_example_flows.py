"""Every flow of examples/flows runs, and every code block of the README that is a command or a flow works."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tercel.model.source import read_flow
from tercel.plugins import catalog
from tests.command_line import ROOT, tercel
from tests.docker_engine import ensure_image
from tests.servers import http_server

FLOWS = ROOT / "examples" / "flows"
SPECIAL = {
    "after_execution",
    "containers",
    "git_clone",
    "http_download",
    "pause_for_approval",
    "retries_and_errors",
    "retry_as_new_execution",
    "working_directory",
}


def run(name: str, home: Path, *arguments: object) -> dict[str, Any]:
    return run_file(FLOWS / f"{name}.yaml", home, *arguments)


def run_file(path: Path, home: Path, *arguments: object) -> dict[str, Any]:
    """Run a flow; where it names another one, the flows beside it are saved before."""
    if re.search(r"^ +flowId: \w", path.read_text(), re.MULTILINE):
        saved = tercel("flow", "save", path.parent, home=home)
        assert saved.returncode == 0, saved.stdout + saved.stderr
    done = tercel("run", path, "--json", *arguments, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def outputs_of(result: Mapping[str, Any], task_id: str) -> dict[str, Any]:
    [found] = [task_run for task_run in result["taskRunList"] if task_run["taskId"] == task_id]
    return found["outputs"]


@pytest.mark.parametrize("name", sorted({path.stem for path in FLOWS.glob("*.yaml")} - SPECIAL))
def test_given_an_example_then_it_succeeds(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path)["state"]["current"] == "SUCCESS"


def test_given_an_allowed_failure_then_the_example_warns(tmp_path: Path) -> None:
    result = run("retries_and_errors", tmp_path)

    assert result["state"]["current"] == "WARNING"
    [flaky] = [task_run for task_run in result["taskRunList"] if task_run["taskId"] == "flaky"]
    assert len(flaky["attempts"]) == 3


def test_given_nobody_who_answers_then_the_example_of_a_pause_goes_on_by_itself(tmp_path: Path) -> None:
    result = run("pause_for_approval", tmp_path)

    assert "PAUSED" in [change["state"] for change in result["state"]["histories"]]
    assert "send" in [task_run["taskId"] for task_run in result["taskRunList"]]


def test_given_an_engine_then_the_example_of_containers_captures_its_file(tmp_path: Path, docker_engine: str) -> None:
    for image in ("ubuntu", "python:3.13-slim"):
        ensure_image(image)

    result = run("containers", tmp_path)

    assert outputs_of(result, "report")["outputFiles"].keys() == {"totals.csv"}


def test_given_a_failure_then_the_example_of_a_new_execution_ends_well_in_the_second_one(tmp_path: Path) -> None:
    result = run("retry_as_new_execution", tmp_path)

    assert result["state"]["current"] == "SUCCESS"
    assert result["originalId"] != result["id"]


def test_given_the_end_then_the_example_of_after_execution_has_told_it(tmp_path: Path) -> None:
    result = run("after_execution", tmp_path)

    assert [task_run["taskId"] for task_run in result["taskRunList"]] == ["work", "clean_up", "tell"]


def test_given_the_main_example_twice_then_the_second_run_restores_the_cache(tmp_path: Path) -> None:
    arguments = ("run", FLOWS / "working_directory.yaml", "--file", f"orders={ROOT / 'examples/data/orders.csv'}")

    first, second = tercel(*arguments, home=tmp_path), tercel(*arguments, home=tmp_path)

    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert "Cache missed: nothing is saved yet." in first.stdout
    assert "Cache restored" in second.stdout
    assert re.search(r"^  best_customer +grace$", second.stdout, re.MULTILINE)
    assert re.search(r"^  summarise.orders +5 \(counter\)$", second.stdout, re.MULTILINE)
    files = dict(re.findall(r"^  report\.outputFiles\.(\S+) +(\S+)$", second.stdout, re.MULTILINE))
    assert sorted(files) == ["orders.csv", "summary.json", "totals.csv"]
    assert json.loads(Path(files["summary.json"]).read_text()) == {"customers": 3, "best": "grace", "currency": "EUR"}


def test_given_a_repository_then_it_is_cloned_beside_the_input_file(tmp_path: Path, repository: Path) -> None:
    result = run("git_clone", tmp_path / "home", "--input", f"repository={repository}")

    assert result["state"]["current"] == "SUCCESS"


def test_given_a_server_then_its_file_is_counted(tmp_path: Path) -> None:
    with http_server(lambda *_: (200, {}, b"1\n2\n")) as address:
        result = run("http_download", tmp_path, "--input", f"address={address}/numbers.csv")

    assert outputs_of(result, "fetch")["length"] == 4


def guide_flows() -> dict[str, str]:
    guide = (ROOT / "docs" / "guide.md").read_text()
    flows = re.findall(r"^```yaml\n(id: .*?)^```", guide, re.MULTILINE | re.DOTALL)
    return {text.split()[1]: text for text in flows}


@pytest.mark.parametrize("name", guide_flows())
def test_given_a_flow_of_the_guide_then_it_succeeds(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "containerImage" in guide_flows()[name]:
        request.getfixturevalue("docker_engine")
        for image in ("ubuntu", "python:3.13-slim"):
            ensure_image(image)
    (tmp_path / "guide").mkdir()
    for flow_id, text in guide_flows().items():
        (tmp_path / "guide" / f"{flow_id}.yaml").write_text(text)

    result = run_file(tmp_path / "guide" / f"{name}.yaml", tmp_path / "home")

    assert result["state"]["current"] == "SUCCESS"


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_given_the_readmes_flow_then_it_is_valid() -> None:
    [text] = readme_blocks("yaml")

    assert read_flow(text, catalog()).id == "hello"


def test_given_the_readmes_commands_then_they_work(tmp_path: Path) -> None:
    lines = [line for block in readme_blocks("sh") for line in block.splitlines() if line]

    assert len(lines) >= 5
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "tercel"
        done = tercel(*arguments, home=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_given_the_extras_then_the_readme_names_each() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"dev"}
    [text] = [block for block in readme_blocks("text") if "pip install" in block]

    named = re.sub(r"\n\s*#", "", text.partition("extras:")[2])
    assert {name.strip() for name in named.split(",")} == extras
