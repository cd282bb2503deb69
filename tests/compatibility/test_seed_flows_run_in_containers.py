"""The flows that the project was created for, with their tasks in containers as they are written.

The images are stand-ins of the names that the flows use, made from Debian's packages; `pip` and `npm` in them reach
the network as the machine does. What the flows reach out to otherwise is stood in for as in `test_seed_flows_run`.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker_engine import ensure_image
from tests.seeds import SEEDS, Seeds, make_seeds, outputs_of

pytestmark = [
    pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project"),
    pytest.mark.usefixtures("docker_engine"),
]

SCRIPTS = Path("/Users/anna/gh/KESTRA_REPOS/scripts")
"""The folder that 003_01 mounts, on the machine of the one who wrote it."""


@pytest.fixture
def seeds(tmp_path: Path) -> Seeds:
    made = make_seeds(tmp_path, task_runner="")
    made.env["SECRET_DOCKER_PAT"] = base64.b64encode(b"not-a-real-token").decode()
    made.env["TERCEL_DOCKER_VOLUMES"] = "true"
    return made


@pytest.fixture
def mounted_scripts() -> Iterator[Path]:
    """The folder of 003_01, with the script that it runs; all of it is gone afterwards."""
    if os.geteuid() != 0:
        pytest.skip("root alone can make /Users")
    made = [path for path in (SCRIPTS / "etl", *(SCRIPTS / "etl").parents) if not path.exists()]
    (SCRIPTS / "etl").mkdir(parents=True)
    script = SCRIPTS / "etl" / "parametrized.py"
    script.write_text("import pandas\nprint('rows', len(pandas.DataFrame({'a': [1, 2]})))\n")
    yield script
    script.unlink()
    for path in made:
        path.rmdir()


def test_given_003_01_then_a_folder_of_the_machine_is_mounted(seeds: Seeds, mounted_scripts: Path) -> None:
    ensure_image("ghcr.io/kestra-io/pydata")

    result = seeds.run(SEEDS / "003_01_pythonVolume.yaml")

    assert "rows 2" in seeds.logs(result["id"])


def test_given_003_04_then_the_registrys_password_is_nowhere(seeds: Seeds) -> None:
    ensure_image("annageller/kestra")

    result = seeds.run(SEEDS / "003_04_pythonInContainer.yaml")

    assert outputs_of(result, "output")["uris"]
    for path in seeds.home.rglob("*"):
        if path.is_file():
            assert b"not-a-real-token" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("000_00_pip", "python:3.11-slim"),
        ("003_09_pip", "python:3.11-slim"),
        ("003_15_pip", "python:3.11-slim"),
        ("003_13_rustFlow", "ghcr.io/kestra-io/rust"),
    ],
)
def test_given_a_flow_as_written_then_it_succeeds(seeds: Seeds, name: str, image: str) -> None:
    ensure_image(image)

    seeds.run(SEEDS / f"{name}.yaml")


def test_given_003_11_then_r_runs_as_far_as_debian_has_its_packages(seeds: Seeds, tmp_path: Path) -> None:
    """Debian has dplyr, and no arrow: without the lines that are for it, the flow runs to its end."""
    ensure_image("ghcr.io/kestra-io/rdata")
    text = (SEEDS / "003_11_rCars.yaml").read_text()
    flow = tmp_path / "flow.yaml"
    flow.write_text("".join(line for line in text.splitlines(True) if not re.search("arrow|write_parquet", line)))

    result = seeds.run(flow)

    assert outputs_of(result, "outputs")["uris"].keys() == {"final.csv"}
    assert "avg_mpg" in seeds.logs(result["id"])


def test_given_004_01_twice_then_node_modules_come_from_the_cache(seeds: Seeds) -> None:
    ensure_image("node")

    first, second = (seeds.run(SEEDS / "004_01_node_cached_dependencies.yaml") for _ in range(2))

    assert "Hello" in seeds.logs(first["id"])
    assert "Cache restored" in seeds.logs(second["id"])
