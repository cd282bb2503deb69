"""`dependencies` of Python tasks in containers: installed by the image's own pip, kept for that image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercel.model import State
from tests.docker_engine import ensure_image
from tests.homes import Home

IMAGE = "python:3.13-slim"
FLOW = f"""
id: with_dependencies
namespace: company
tasks:
  - id: alone
    type: io.kestra.plugin.scripts.python.Script
    containerImage: {IMAGE}
    dependencies: [iniconfig]
    pythonVersion: "3.8"
    script: |
      import iniconfig
      print("from", iniconfig.__file__)
  - id: directory
    type: io.kestra.plugin.core.flow.WorkingDirectory
    tasks:
      - id: child
        type: io.kestra.plugin.scripts.python.Commands
        containerImage: {IMAGE}
        dependencies: [iniconfig]
        commands:
          - python -c 'import iniconfig; print("from", iniconfig.__file__)'
          - touch "$PYTHONPATH/more" || echo it cannot be changed
        warningOnStdErr: false
"""


@pytest.mark.usefixtures("docker_engine")
def test_given_dependencies_then_a_container_installs_them_once_and_all_that_follow_only_read_them(
    home: Home, tmp_path: Path
) -> None:
    ensure_image(IMAGE)

    first, second = home.run(FLOW), home.run(FLOW)

    [kept] = (home.root / "dependencies").iterdir()
    assert (kept / "requirements.lock").read_text().startswith("iniconfig==")
    for ran in (first, second):
        assert ran.state is State.SUCCESS
        said = f"from {kept}/iniconfig/__init__.py"
        assert said in ran.log_of("alone")
        assert "'pythonVersion' '3.8' is passed over" in ran.log_of("alone")
        assert ran.output_lines("child") == [said, "it cannot be changed"]
    assert not (kept / "more").exists()
