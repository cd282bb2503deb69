"""What tasks in containers cost, over `docker` doing the same in the same run.

Needs an engine and an image, built as the tests do. Prints one JSON line a figure; `python -m bench.docker NAME…`
measures only those below whose name contains NAME.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engine import flow, run
from bench.report import report, timed
from tercel.plugins.scripts.docker.engines import connect, find_host
from tercel.plugins.scripts.docker.transfer import copy_in, copy_out
from tercel.server import Engine, open_home
from tercel.settings import read_settings
from tools.docker_engine import ensure_engine
from tools.docker_images import ensure_image

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "5"))
IMAGE = "busybox"
CHILDREN = 10
FILES = 5_000
FILE_BYTES = 20_000
"""Files of the copied directory, 100 MB in all."""

TASK = f"{{id: ID, type: io.kestra.plugin.scripts.shell.Commands, containerImage: {IMAGE}, commands: [echo hello]}}"


def main(wanted: Sequence[str] = ()) -> None:
    ensure_engine()
    ensure_image(IMAGE)
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as folder:
        with open_home(read_settings({}, home=Path(folder) / "home")) as engine:
            run(engine, flow("warm", TASK))
            for name, measure in (("docker.task", one_task), ("docker.working_directory", working_directory)):
                if not wanted or any(part in name for part in wanted):
                    measure(engine)
        if not wanted or any(part in "docker.copy" for part in wanted):
            copies(Path(folder))


def one_task(engine: Engine) -> None:
    """A whole execution of one task, post to end, over the command line's run of the same."""
    ours, theirs = in_turns(lambda: run(engine, flow("one", TASK)), docker_run, rounds=4 * ROUNDS)
    report("docker.task", ours, floor=theirs, target_ratio=1.1)


def working_directory(engine: Engine) -> None:
    """A WorkingDirectory whose children share a container, and one whose children have one each."""
    shared = flow("shared", directory(TASK))
    alone = flow(
        "alone",
        directory(
            TASK.replace(
                "commands",
                "taskRunner: {type: io.kestra.plugin.scripts.runner.docker.Docker, reuseContainer: false}, commands",
            )
        ),
    )
    ours, apart, theirs = in_turns(
        lambda: run(engine, shared),
        lambda: run(engine, alone),
        lambda: [docker_run() for _ in range(CHILDREN)],
        rounds=ROUNDS,
    )
    report("docker.working_directory", ours, floor=theirs, target_ratio=0.35)
    report("docker.working_directory_without_reuse", apart, floor=theirs)


def copies(folder: Path) -> None:
    """A directory of many files into a container and out of it, over `docker cp`; and the memory that it takes."""
    tree = folder / "tree"
    for number in range(FILES):
        path = tree / f"{number // 100}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(64) + bytes(FILE_BYTES - 64))
    client = connect(find_host("", os.environ))
    name = f"tercel-bench-{os.getpid()}"
    subprocess.run(["docker", "create", "--name", name, IMAGE, "true"], check=True, capture_output=True)
    try:
        before = peak_bytes()

        def ours() -> None:
            copy_in(client, name, [tree], (0, 0))
            copy_out(client, name, tree)

        def theirs() -> None:
            subprocess.run(["docker", "cp", f"{tree}/.", f"{name}:{tree}"], check=True, capture_output=True)
            subprocess.run(["docker", "cp", f"{name}:{tree}/.", f"{folder}/copy"], check=True, capture_output=True)

        ours_s, theirs_s = in_turns(ours, theirs, rounds=ROUNDS)
        report("docker.copy", ours_s, floor=theirs_s, target_ratio=1.5)
        report("docker.copy_memory", (peak_bytes() - before) / 1e6, "MB", target=50)
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def directory(task: str) -> str:
    """A WorkingDirectory with the task so many times."""
    children = ", ".join(task.replace("ID", f"c{number}", 1) for number in range(CHILDREN))
    return f"{{id: ID, type: io.kestra.plugin.core.flow.WorkingDirectory, tasks: [{children}]}}"


def docker_run() -> None:
    subprocess.run(["docker", "run", "--rm", IMAGE, "/bin/sh", "-c", "echo hello"], check=True, capture_output=True)


def in_turns(*actions: Callable[[], object], rounds: int) -> list[float]:
    """The median seconds of each action, one after the other in every round."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, times, strict=True):
            taken.append(timed(action))
            time.sleep(0.2)  # what was left to be removed is gone before the next one
    return [statistics.median(taken) for taken in times]


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
