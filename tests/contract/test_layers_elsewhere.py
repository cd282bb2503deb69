"""The tests of layers again, with each backend that is not the best one of this machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.tools import need, unavailable
from tests.unprivileged import NOBODY

PROJECT = Path(__file__).parents[2]
SCENARIOS = "TestCache or test_03 or test_56 or test_63 or test_65 or test_103 or test_104"
SUITES = {
    "contract": ["tests/contract/test_layers.py"],
    "cache and restart": [
        "tests/integration/test_working_directory_cache.py",
        "tests/integration/test_working_directory_restart.py",
    ],
    "killed": ["tests/integration/test_layers_killed.py"],
    "scenarios": ["tests/compatibility/test_working_directory_scenarios.py", "-k", SCENARIOS],
}


def run_again(backend: str, suite: Sequence[str], folder: Path, prefix: Sequence[str]) -> str:
    """Run tests with a backend, their files in *folder*; gives what they said at their end."""
    command = [*prefix, sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", f"--basetemp={folder}/tests", *suite]
    environment = os.environ | {"TERCEL_LAYERS": backend, "UNPRIVILEGED_HOME": os.fspath(folder)}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    return done.stdout


def can(*command: str) -> bool:
    """Whether a command succeeds."""
    return subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60, check=False).returncode == 0


def check(said: str) -> None:
    """See that tests were run and passed, each of them."""
    found = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert found is not None, said
    assert int(found[1]) > 0
    assert "skipped" not in said, said


@pytest.mark.parametrize("suite", SUITES)
class TestEveryBackend:
    def test_given_copies_then_all_holds(self, suite: str, tmp_path: Path) -> None:
        check(run_again("copy", SUITES[suite], tmp_path, []))

    def test_given_a_user_namespace_then_all_holds(self, suite: str) -> None:
        if os.geteuid() != 0:
            unavailable("root, to become a user without rights")
        enter = "from tercel.mounts import enter_user_namespace; enter_user_namespace()"
        if not can(sys.executable, "-m", "tests.unprivileged", sys.executable, "-c", enter):
            unavailable("a system that allows user namespaces")
        with TemporaryDirectory(prefix="tercel-") as folder:  # pytest's own are root's alone
            os.chown(folder, NOBODY, NOBODY)

            check(run_again("userns", SUITES[suite], Path(folder), [sys.executable, "-m", "tests.unprivileged"]))

    def test_given_a_file_system_that_clones_then_all_holds(self, suite: str, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            unavailable("root, to mount a file system that clones files")
        need("mkfs.xfs", "xfsprogs")
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(1 << 30)
        subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", os.fspath(image)], check=True)
        folder = tmp_path / "mounted"
        folder.mkdir()
        loop = f"mount -o loop {shlex.quote(str(image))} {shlex.quote(str(folder))}"
        if not can("unshare", "-m", "sh", "-c", loop):
            unavailable("a loop device, to mount a file system that clones files")
        # In mounts of its own, so that nothing of it is left, however the tests end.
        mounted = f'{loop} && exec "$@"'

        check(run_again("reflink", SUITES[suite], folder, ["unshare", "-m", "sh", "-c", mounted, "sh"]))
