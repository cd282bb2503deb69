"""The engine and the images that Docker tests stand on, as they are started and built."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.docker_engine import engine_or_skip, ensure_image
from tools import docker_engine
from tools.docker_images import LABEL, Image, ensure, recipe

if TYPE_CHECKING:
    from docker import DockerClient

ROOT = Path(__file__).parents[2]
# A machine of its own: nothing listens at the usual socket there, and what was started ends with it.
KILLED_AND_STARTED = """
mount -t tmpfs tercel /run
mount -t tmpfs tercel /var/lib/docker
"$PYTHON" tools/docker_engine.py >/dev/null
first=$(cat /run/docker.pid)
echo one
kill -9 "$first"
while test -e "/proc/$first"; do sleep 0.01; done
"$PYTHON" tools/docker_engine.py >/dev/null
test "$(cat /run/docker.pid)" != "$first"
echo another
"""


@pytest.fixture
def an_image(docker_engine: DockerClient) -> Iterator[Image]:
    """A recipe of two names, whose every building gives another image."""
    ensure_image("busybox")
    number = uuid4().hex[:12]
    names = (f"tercel-test/{number}:latest", f"tercel-test/{number}:other")
    yield Image(names, (f"RUN cat /proc/sys/kernel/random/uuid > /{number}",), base="tercel-test/busybox:latest")
    for name in names:
        if docker_engine.images.list(name):
            docker_engine.images.remove(name, force=True)


class TestEngine:
    def test_given_several_processes_at_once_then_each_finds_the_one_engine(self) -> None:
        address = engine_or_skip()
        command = [sys.executable, "tools/docker_engine.py"]

        asking = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]

        assert {process.communicate(timeout=60)[0] for process in asking} == {f"{address}\n"}

    def test_given_an_engine_that_does_not_start_then_the_end_of_its_log_is_told(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(docker_engine, "answers", lambda: False)
        monkeypatch.setattr(docker_engine, "state_folder", lambda: tmp_path)

        with pytest.raises(docker_engine.EngineError) as raised:
            docker_engine.start("sh", ["-c", "echo starting; echo no disk >&2; exit 1"])

        assert raised.value.reason == f"a Docker engine that starts (its log is {tmp_path}/engine.log)"
        assert str(raised.value).endswith("\nstarting\nno disk")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root starts engines")
    def test_given_no_engine_or_one_that_was_killed_then_one_is_started(self, tmp_path: Path) -> None:
        engine_or_skip()
        (tmp_path / "data").mkdir()

        started = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-euc", KILLED_AND_STARTED, "sh"],
            cwd=ROOT,
            env=os.environ | {"PYTHON": sys.executable, "TMPDIR": os.fspath(tmp_path), "DOCKER_HOST": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert started.stdout == "one\nanother\n", started.stderr


class TestImages:
    def test_given_two_who_ask_at_once_then_the_image_is_built_once_under_all_its_names(
        self, docker_engine: DockerClient, an_image: Image
    ) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: ensure(docker_engine, an_image), range(2)))

        built = docker_engine.images.list(filters={"label": f"{LABEL}={recipe(an_image)}"})
        assert [sorted(image.tags) for image in built] == [sorted(an_image.names)]

    def test_given_an_image_that_was_untagged_then_it_is_not_built_again(
        self, docker_engine: DockerClient, an_image: Image
    ) -> None:
        ensure(docker_engine, an_image)
        first = docker_engine.images.get(an_image.names[0]).id
        docker_engine.images.remove(an_image.names[0])

        ensure(docker_engine, an_image)

        assert docker_engine.images.get(an_image.names[0]).id == first

    def test_given_another_recipe_then_the_image_is_built_again_and_the_old_one_is_gone(
        self, docker_engine: DockerClient, an_image: Image
    ) -> None:
        ensure(docker_engine, an_image)
        changed = Image(an_image.names, (*an_image.steps, "ENV CHANGED=yes"), an_image.base)

        ensure(docker_engine, changed)

        assert "CHANGED=yes" in docker_engine.images.get(an_image.names[1]).attrs["Config"]["Env"]
        assert docker_engine.images.list(filters={"label": f"{LABEL}={recipe(an_image)}"}) == []

    def test_given_somebody_elses_image_of_that_name_then_it_is_left_as_it_is(
        self, docker_engine: DockerClient, an_image: Image
    ) -> None:
        repository, tag = an_image.names[1].split(":")
        docker_engine.api.import_image_from_data(bytes(1024), repository, tag)
        theirs = docker_engine.images.get(an_image.names[1]).id

        ensure(docker_engine, an_image)

        assert docker_engine.images.get(an_image.names[1]).id == theirs
        assert docker_engine.images.get(an_image.names[0]).id != theirs

    def test_given_a_step_that_fails_then_the_error_says_what_it_said(
        self, docker_engine: DockerClient, an_image: Image
    ) -> None:
        from tools.docker_images import ImageError

        with pytest.raises(ImageError, match=r"cannot be built:\n(.*\n)+out of order\n"):
            ensure(docker_engine, Image(an_image.names, ("RUN echo out of order; exit 3",), an_image.base))

    @pytest.mark.parametrize(
        ("name", "command", "printed"),
        [
            ("busybox", ["sh", "-c", "id -u; pwd"], b"0\n/\n"),
            ("tercel-test/user", ["sh", "-c", "id -u; pwd; touch mine"], b"1234\n/home/worker\n"),
            ("tercel-test/entrypoint", ["sh", "-c", "true"], b"entrypoint: sh -c true\n"),
            ("tercel-test/static", ["echo", "hello"], b"hello\n"),
            ("ubuntu", ["bash", "-c", "echo $BASH_VERSION | cut -c1"], b"5\n"),
            ("python:3.13-slim", ["python", "-c", "print(6 * 7)"], b"42\n"),
        ],
    )
    def test_given_a_name_then_a_container_of_it_runs(
        self, docker_engine: DockerClient, name: str, command: list[str], printed: bytes
    ) -> None:
        assert docker_engine.containers.run(ensure_image(name), command, remove=True) == printed

    def test_given_the_image_without_a_shell_then_none_can_be_started(self, docker_engine: DockerClient) -> None:
        from docker.errors import APIError

        container = docker_engine.containers.create(ensure_image("tercel-test/static"), ["sh", "-c", "true"])
        try:
            with pytest.raises(APIError, match='"sh": executable file not found'):
                container.start()
        finally:
            container.remove()

    @pytest.mark.parametrize("network", ["bridge", "host"])
    def test_given_a_container_then_pip_installs_from_the_index_that_this_machine_uses(
        self, docker_engine: DockerClient, network: str
    ) -> None:
        script = "pip install -q --no-cache-dir --root-user-action ignore six && python -c 'import six; print(six.PY3)'"

        printed = docker_engine.containers.run(
            ensure_image("python:3.13-slim"), ["sh", "-c", script], network_mode=network, remove=True
        )

        assert printed == b"True\n"
