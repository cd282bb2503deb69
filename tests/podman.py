"""A real Podman of a test's own, which speaks Docker's API on a socket; it ends with the test run."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import docker

from tests.docker_engine import ensure_image
from tests.tools import unavailable

_CONFIGURATION = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
"""What lets root's Podman run on a machine without systemd and without a network of its own."""

_DEADLINE_S = 20.0


@contextmanager
def podman(folder: Path, image: str) -> Generator[str]:
    """The address of an engine that has *image*; skips the test where there is no Podman."""
    program = shutil.which("podman")
    if program is None or os.geteuid() != 0:
        unavailable("podman, as root")
    assert program is not None
    (folder / "containers.conf").write_text(_CONFIGURATION)
    command = [program, "--root", f"{folder}/root", "--runroot", f"{folder}/run"]
    env = {**os.environ, "CONTAINERS_CONF": f"{folder}/containers.conf"}
    saved = folder / "image.tar"
    name = ensure_image(image)
    with closing(docker.from_env()) as client, saved.open("wb") as file:
        file.writelines(client.images.get(name).save(named=name))
    subprocess.run([*command, "load", "-i", saved], env=env, check=True, capture_output=True)
    address = f"unix://{folder}/podman.sock"
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen([*command, "system", "service", "--time=0", address], env=env, stderr=log)
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while not (folder / "podman.sock").exists():
            assert service.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "Podman does not come up"
            time.sleep(0.01)
        yield address
        for thread in threading.enumerate():
            if thread.name == "tercel-remove":  # it has still to do with this engine
                thread.join()
    finally:
        service.terminate()
        service.wait()
        subprocess.run([*command, "rm", "-af"], env=env, check=False, capture_output=True)
        subprocess.run(["umount", f"{folder}/root/overlay"], check=False, capture_output=True)
