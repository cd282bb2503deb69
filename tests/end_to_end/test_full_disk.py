"""A home whose disk becomes full: it says so, and nothing is half done; with room again it goes on."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tercel.model import State
from tests.command_line import tercel
from tests.end_to_end.processes import executions, shape, start
from tests.flows import echo, flow, sh
from tests.homes import until

SIZE_MB = 32


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "ballast"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return path


def test_given_a_disk_that_is_full_in_the_middle_when_there_is_room_again_then_recovery_ends_it(
    small_disk: Path, tmp_path: Path
) -> None:
    seen, go = tmp_path / "seen", tmp_path / "go"
    large = """echo '::{"outputs":{"text":"'$(head -c 300000 /dev/zero | tr '\\0' x)'"}}::'"""
    path = tmp_path / "flow.yaml"
    path.write_text(
        flow(
            sh("first", f"echo first >> {seen}"),
            sh("second", f"echo second >> {seen}", f"while [ ! -e {go} ]; do sleep 0.01; done", large),
            echo("third", "{{ outputs.second.vars.text | length }}"),
        )
    )
    home = small_disk / "home"
    running = start("run", path, home=home)
    until(lambda: seen.exists() and "second" in seen.read_text())

    ballast = fill(small_disk)
    go.touch()
    output, _ = running.communicate(timeout=60)
    ballast.unlink()
    [stopped] = executions(home)
    done = tercel("execution", "recover", home=home)

    assert running.returncode == 1
    assert output.endswith(
        f"Error: Writing to the database {home}/tercel.db failed: database or disk is full.\n"
        "Free some space on its disk, or work in another home: --home DIR.\n"
    )
    assert "Traceback" not in output
    assert stopped.state is State.RUNNING
    assert done.returncode == 0, done.stderr
    [ended] = executions(home)
    runs = shape(home, ended)["runs"]
    assert [(name, state, attempts) for name, _, state, attempts, *_ in runs] == [
        ("first:None", "SUCCESS", ["SUCCESS"]),
        ("second:None", "SUCCESS", ["SUCCESS"]),
        ("third:None", "SUCCESS", ["SUCCESS"]),
    ]
    assert runs[2][-1] == '{"value": "300000"}'
    assert seen.read_text().split() == ["first", "second", "second"]


def test_given_a_disk_that_is_full_from_the_start_then_a_run_says_so(small_disk: Path, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(flow(echo("only", "x")))
    home = small_disk / "home"
    home.mkdir()
    ballast = fill(small_disk)

    refused = tercel("run", path, home=home)
    ballast.unlink()
    done = tercel("run", path, home=home)

    assert refused.returncode == 1
    assert "No space left on device" in refused.stderr or "disk is full" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert done.returncode == 0, done.stderr
    assert len(executions(home)) == 1
