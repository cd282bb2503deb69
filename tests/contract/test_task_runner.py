"""What every task runner promises, run on each of them."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from tercel.errors import TaskFailedError, TaskKilledError, TaskTimeoutError
from tercel.plugin_api import Command, TaskRunner
from tercel.plugins.process import Process
from tercel.plugins.scripts.docker.runner import Docker
from tests.docker_engine import ensure_image
from tests.podman import podman
from tests.run_contexts import DirectoryContext


def a_process(grace_s: float) -> TaskRunner:
    from datetime import timedelta

    return Process(type=Process.plugin_type, kill_grace_period=timedelta(seconds=grace_s))


def a_container(grace_s: float) -> TaskRunner:
    return Docker(kill_grace_period=f"PT{grace_s}S")


def a_copying_container(grace_s: float) -> TaskRunner:
    return Docker(kill_grace_period=f"PT{grace_s}S", file_handling_strategy="VOLUME")


RUNNERS: dict[str, Callable[[float], TaskRunner]] = {
    "process": a_process,
    "container": a_container,
    "container with copies": a_copying_container,
    "container that is kept": a_container,
}
IMAGE = "busybox"
MARK = "TERCEL_TEST_MARK"


@pytest.fixture(scope="session")
def podman_address() -> Iterator[str]:
    # Podman wants short paths.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as folder, podman(Path(folder), IMAGE) as address:
        yield address


@pytest.fixture(params=[*RUNNERS, "container by podman"])
def name(request: pytest.FixtureRequest) -> str:
    """Which task runner it is."""
    return request.param


@pytest.fixture
def make(name: str, request: pytest.FixtureRequest) -> Callable[[float], TaskRunner]:
    """Makes a task runner with a grace of so many seconds."""
    if name != "process":
        request.getfixturevalue("docker_engine")
        ensure_image(IMAGE)
    if name == "container by podman":
        address = request.getfixturevalue("podman_address")
        return lambda grace_s: Docker(kill_grace_period=f"PT{grace_s}S", host=address)
    return RUNNERS[name]


@pytest.fixture
def context(name: str, tmp_path: Path) -> Iterator[DirectoryContext]:
    made = DirectoryContext(tmp_path)
    made.is_shared = name == "container that is kept"
    yield made
    made.remove()
    eventually(lambda: made.leftovers == [])


class Printed:
    """Keeps the bytes of both streams."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""

    def __call__(self, stream: Literal["stdout", "stderr"], block: bytes) -> None:
        if stream == "stdout":
            self.stdout += block
        else:
            self.stderr += block


def shell(context: DirectoryContext, text: str, **env: str) -> Command:
    return Command(
        argv=["/bin/sh", "-c", text],
        env={**env, MARK: str(context.working_directory)},
        directory=context.working_directory,
        image=IMAGE,
    )


def eventually(is_true: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def survivors(context: DirectoryContext) -> list[str]:
    """What still runs of a context's commands, on this machine or in a container of it, by command line."""
    mark = f"{MARK}={context.working_directory}".encode()
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


class TestTaskRunner:
    def test_given_both_streams_when_run_then_each_gets_its_bytes_and_the_code_is_zero(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()

        code = make(5).run(shell(context, "echo out; echo err >&2; printf 'no end'"), context, printed)

        assert (code, printed.stdout, printed.stderr) == (0, b"out\nno end", b"err\n")

    @pytest.mark.parametrize(("text", "code"), [("exit 3", 3), ("kill -KILL $$", 137), ("kill -TERM $$", 143)])
    def test_given_an_end_then_the_code_is_the_shells_way_to_say_it(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext, text: str, code: int
    ) -> None:
        assert make(5).run(shell(context, text), context, Printed()) == code

    def test_given_a_directory_and_variables_then_the_command_sees_them(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()
        runner = make(5)

        runner.run(shell(context, 'pwd; echo "$NAME"; cat', NAME="a b"), context, printed)

        assert printed.stdout.decode().splitlines() == [runner.visible_directory(context.working_directory), "a b"]

    def test_given_many_lines_on_both_streams_then_none_is_lost(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()
        text = "i=0; while [ $i -lt 3000 ]; do echo line $i; echo error $i >&2; i=$((i+1)); done"

        make(5).run(shell(context, text), context, printed)

        assert printed.stdout == b"".join(b"line %d\n" % number for number in range(3000))
        assert printed.stderr == b"".join(b"error %d\n" % number for number in range(3000))

    def test_given_a_missing_program_then_the_message_names_it(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        command = Command(argv=["no-such-program", "-x"], env={}, directory=context.working_directory, image=IMAGE)

        with pytest.raises(TaskFailedError, match="no-such-program"):
            make(5).run(command, context, Printed())

    @pytest.mark.parametrize(("reason", "error"), [("kill", TaskKilledError), ("timeout", TaskTimeoutError)])
    def test_given_a_stop_then_the_command_and_its_descendants_end_at_once(
        self,
        make: Callable[[float], TaskRunner],
        context: DirectoryContext,
        reason: Literal["kill", "timeout"],
        error: type[TaskKilledError | TaskTimeoutError],
    ) -> None:
        printed = Printed()
        text = "echo $$; sleep 60 & echo $!; sh -c 'echo $$; sleep 60'; echo never"

        stopper = threading.Thread(
            target=lambda: (eventually(lambda: printed.stdout.count(b"\n") == 3), context.stop(reason))
        )
        stopper.start()
        started = time.monotonic()
        with pytest.raises(error) as caught:
            make(30).run(shell(context, text), context, printed)
        stopper.join()

        assert time.monotonic() - started < 10
        assert caught.value.outputs == {"exitCode": 143}
        assert survivors(context) == []

    def test_given_a_command_that_ignores_the_request_when_killed_then_force_ends_it_after_the_grace(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()
        text = "trap '' TERM; echo ready; while :; do sleep 1; done"

        stopper = threading.Thread(
            target=lambda: (eventually(lambda: printed.stdout == b"ready\n"), context.stop("kill"))
        )
        stopper.start()
        started = time.monotonic()
        with pytest.raises(TaskKilledError) as caught:
            make(0.2).run(shell(context, text), context, printed)
        stopper.join()

        assert 0.2 <= time.monotonic() - started < 5
        assert caught.value.outputs == {"exitCode": 137}

    def test_given_a_command_that_tidies_up_when_killed_then_it_may_within_the_grace(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()
        text = "sh -c 'trap \"sleep 0.1; echo tidy; exit 0\" TERM; echo ready; while :; do sleep 0.05; done'; echo x"

        stopper = threading.Thread(
            target=lambda: (eventually(lambda: printed.stdout == b"ready\n"), context.stop("kill"))
        )
        stopper.start()
        with pytest.raises(TaskKilledError):
            make(10).run(shell(context, text), context, printed)
        stopper.join()

        assert printed.stdout == b"ready\ntidy\n"

    def test_given_a_stop_before_the_start_then_nothing_runs(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        context.stop("kill")

        with pytest.raises(TaskKilledError):
            make(5).run(shell(context, "touch ran"), context, Printed())

        assert not (context.working_directory / "ran").exists()

    def test_given_a_background_process_when_the_command_ends_then_it_is_gone_too(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()

        code = make(5).run(shell(context, "sleep 60 > /dev/null 2>&1 & echo $!"), context, printed)

        assert code == 0
        assert survivors(context) == []

    def test_given_a_background_process_that_holds_the_streams_then_the_end_does_not_wait_for_it(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()

        started = time.monotonic()
        make(5).run(shell(context, "sleep 60 & echo $!"), context, printed)

        assert time.monotonic() - started < 5
        assert survivors(context) == []

    def test_given_output_that_goes_through_another_process_then_its_end_is_there_too(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        printed = Printed()
        numbers = "".join(f"{number}\n" for number in range(1, 1001))

        code = make(5).run(shell(context, "mkfifo p; tee log.txt < p & exec > p; seq 1000"), context, printed)

        assert code == 0
        assert printed.stdout.decode() == numbers
        assert (context.working_directory / "log.txt").read_text() == numbers

    def test_given_a_sink_that_fails_then_the_error_comes_through_and_nothing_is_left(
        self, make: Callable[[float], TaskRunner], context: DirectoryContext
    ) -> None:
        def fail(stream: str, block: bytes) -> None:
            assert survivors(context)
            raise OSError("the log is full")

        with pytest.raises(OSError, match="the log is full"):
            make(5).run(shell(context, "echo $$; sleep 60"), context, fail)

        eventually(lambda: survivors(context) == [])
