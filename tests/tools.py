"""Things tests need that are fetched or installed: made once, kept in `.cache/`, skipped with one clear line.

With CI=true, what Debian or PyPI offer must be there: then a skip is a failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(__file__).parents[1] / ".cache"


def unavailable(what: str) -> NoReturn:
    """Skip the test naming *what* is missing; fail it where CI says that all can be had."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not available, and CI must have it")
    pytest.skip(f"{what} is not available")


def need(program: str, package: str) -> str:
    """The path of *program*, which Debian's *package* provides."""
    return shutil.which(program) or unavailable(f"{program} (Debian package {package})")


def need_npm() -> None:
    """Node.js with npm and a registry that answers."""
    need("npm", "npm")
    done = subprocess.run(["npm", "view", "colors", "version"], capture_output=True, timeout=60, check=False)
    if done.returncode:
        unavailable("an npm registry")


def venv_with(*packages: str) -> Path:
    """The python of a virtual environment that has *packages* from PyPI; made once."""
    key = hashlib.sha256(repr((sys.version, packages)).encode()).hexdigest()[:12]
    venv = CACHE / f"venv-{key}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"venv-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (venv / "ready").exists():
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
            command = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
            if subprocess.run(command, check=False, capture_output=True, timeout=600).returncode:
                unavailable(f"PyPI ({', '.join(packages)})")
            (venv / "ready").touch()
    return venv / "bin" / "python"
