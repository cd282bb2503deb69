"""How long the command `tercel` takes as a whole process, and scripts in a working directory over a shell loop.

Prints one JSON line a figure. The floors are measured in the same run, with the same interpreter.
"""

import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.report import report, timed

ROOT = Path(__file__).parents[1]
ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "7"))
SCRIPTS = 40
FIB = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nprint(fib(10))\n"


def main() -> None:
    compileall.compile_dir(ROOT / "src", quiet=2)  # an installed package is compiled; an editable one may not be
    with tempfile.TemporaryDirectory(prefix="tercel-bench-") as folder:
        home = Path(folder)
        python = wall([sys.executable, "-c", "pass"], home)
        report("start.python", python)
        report("start.version", wall([*tercel(), "--version"], home), floor=python, target=0.08)
        hello = [*tercel(), "run", str(ROOT / "examples/flows/hello.yaml"), "--home", folder]
        subprocess.run(hello, check=True, capture_output=True)  # the home is made
        report("start.run_hello", wall(hello, home), floor=python, target=0.2)
        report("start.run_hello_memory", peak_mb(hello), "MB", target=60)
        scripts(home)


def scripts(home: Path) -> None:
    """40 Python scripts one after the other, as children of one WorkingDirectory, over a bash loop."""
    (home / "fib.py").write_text(FIB)
    loop = f"for i in $(seq {SCRIPTS}); do python {home / 'fib.py'}; done"
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    children = "".join(
        f"      - id: fib{number}\n        type: io.kestra.plugin.scripts.python.Script\n        runner: PROCESS\n"
        "        script: |\n" + "".join(f"          {line}\n" for line in FIB.splitlines())
        for number in range(SCRIPTS)
    )
    flow = home / "fibs.yaml"
    flow.write_text(
        "id: fibs\nnamespace: bench\ntasks:\n  - id: wd\n"
        f"    type: io.kestra.plugin.core.flow.WorkingDirectory\n    tasks:\n{children}"
    )
    command = [*tercel(), "run", str(flow), "--home", str(home), "--json"]
    floors: list[float] = []
    inside: list[float] = []
    whole: list[float] = []
    for _ in range(ROUNDS):  # one after the other, so that a busy moment hits both
        floors.append(timed(lambda: subprocess.run(["bash", "-c", loop], env=env, check=True, capture_output=True)))
        whole.append(timed(lambda: results.append(subprocess.run(command, env=env, check=True, capture_output=True))))
        inside.append(seconds(json.loads(results.pop().stdout)["state"]))
    floor = statistics.median(floors)
    report("scripts.40_python_in_a_working_directory", statistics.median(inside), floor=floor, target_ratio=1.3)
    report("scripts.40_python_whole_command", statistics.median(whole), floor=floor)


results: list[subprocess.CompletedProcess[bytes]] = []


def seconds(state: dict[str, str]) -> float:
    """How long an execution took, from its JSON."""
    return float(state["duration"].removeprefix("PT").removesuffix("S"))


def tercel() -> Sequence[str]:
    return [str(Path(sys.executable).parent / "tercel")]


def wall(command: Sequence[str], cwd: Path) -> float:
    """Median wall time of a command."""
    return statistics.median(
        timed(lambda: subprocess.run(command, cwd=cwd, check=True, capture_output=True)) for _ in range(ROUNDS)
    )


def peak_mb(command: Sequence[str]) -> float:
    """Peak resident memory of a command itself, in MB."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


if __name__ == "__main__":
    main()
