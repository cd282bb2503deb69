"""Every flow of examples/flows runs, and every code block of the README that is a command or a flow works."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tercel.model.source import read_flow
from tercel.plugins import catalog
from tests.command_line import ROOT, tercel
from tests.servers import http_server

FLOWS = ROOT / "examples" / "flows"
SPECIAL = {"git_clone", "http_download", "retries_and_errors", "working_directory"}


def run(name: str, home: Path, *arguments: object) -> dict[str, Any]:
    done = tercel("run", FLOWS / f"{name}.yaml", "--json", *arguments, home=home)
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


def guide_flows() -> list[str]:
    text = (ROOT / "docs" / "guide.md").read_text()
    return re.findall(r"^```yaml\n(id: .*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", [pytest.param(text, id=text.split()[1]) for text in guide_flows()])
def test_given_a_flow_of_the_guide_then_it_succeeds(text: str, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(text)

    done = tercel("run", tmp_path / "flow.yaml", "--json", home=tmp_path / "home")

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["state"]["current"] == "SUCCESS"


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
