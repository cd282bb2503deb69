"""What every test shares: deterministic hypothesis, and fixtures for homes and repositories."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tercel.mounts import enter_user_namespace

if TYPE_CHECKING:
    from docker import DockerClient

    from tests.mongodb import MongoServer
    from tests.s3 import S3Server

if os.environ.get("TERCEL_LAYERS") == "userns" and os.geteuid() != 0:
    enter_user_namespace()  # as long as this process has one thread

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # As in a job that a shell has put into the background: what tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tercel", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("tercel")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[object]:
    """A home of its own, with the whole engine, ended after the test."""
    from tests.homes import Home

    with Home(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with one commit on `main`: an executable script and a folder."""
    from tests.homes import git

    path = tmp_path / "repository"
    (path / "scripts").mkdir(parents=True)
    (path / "hello.sh").write_text("#!/bin/sh\necho hello from the repository\n")
    (path / "hello.sh").chmod(0o755)
    (path / "scripts" / "one.py").write_text("print(1)\n")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerClient]:
    """A client of a Docker engine that answers; `tests.docker_engine.ensure_image` gives it images."""
    from contextlib import closing

    from tests.docker_engine import engine_or_skip

    engine_or_skip()
    import docker

    with closing(docker.from_env()) as client:
        yield client


@pytest.fixture(scope="session")
def mongodb_server() -> Iterator[MongoServer]:
    """A MongoDB server that wants a login, or what stands in for one at the wire."""
    from tests.mongodb import running_server

    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server that wants a login."""
    from tests.s3 import running_server

    with running_server() as server:
        yield server


def pytest_collection_finish() -> None:
    """Spare the collector what lives as long as the run, so that tests which look at time are not held up by it."""
    gc.collect()
    gc.freeze()


CONFORMANCE = {
    "expressions": "test_expression_conformance.py::test_given_a_case",
    "script protocol, lines fed in two ways": "test_script_protocol_conformance.py::test_given_printed_lines",
    "script protocol, byte streams": "test_script_protocol_conformance.py::test_given_chunks_of_bytes",
    "seed flows": "test_seed_flows_run.py",
    "WorkingDirectory scenarios": "test_working_directory_scenarios.py",
    "simulated histories, in chunks of 250": "test_simulation.py",
    "mutants of the machine": "test_mutants.py",
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases of each conformance suite passed, and what was skipped and why."""
    stats = terminalreporter.stats
    for name, place in CONFORMANCE.items():
        counts = {
            outcome: sum(place in report.nodeid for report in stats.get(outcome, ()) if hasattr(report, "nodeid"))
            for outcome in ("passed", "failed", "skipped")
        }
        if any(counts.values()):
            terminalreporter.write_line(f"{name}: " + ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n))
    for reason in sorted({str(report.longrepr[2]) for report in stats.get("skipped", ()) if report.longrepr}):
        terminalreporter.write_line(reason.removeprefix("Skipped: ") + ": skipped")
