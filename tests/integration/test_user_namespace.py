"""A process without rights gets mounts of its own, whenever it asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TRY_OFTEN = """
import os
from tercel import mounts

def attempt():
    if mounts.why_no_mounts():  # starts a thread, which has to be gone
        mounts.enter_user_namespace()
        with mounts.own_mounts():
            pass

for _ in range(40):
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            print(error.strerror, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_given_a_process_that_has_looked_whether_it_may_mount_then_it_always_gets_its_namespace() -> None:
    command = [sys.executable, "-c", _TRY_OFTEN]
    if os.geteuid() == 0:
        command = [sys.executable, "-m", "tests.unprivileged", *command]

    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])

    assert done.returncode == 0, done.stderr
    if len(done.stdout.splitlines()) == 40:
        pytest.skip(f"no user namespaces here: {done.stdout.splitlines()[0]}")
    assert done.stdout == ""
