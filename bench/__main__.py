"""`make bench`: runs every benchmark in a process of its own, prints a table, writes `bench/results.json`.

`python -m bench NAME…` runs only the modules named.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench.report import as_text

MODULES = ("command_line", "engine", "growth", "durability", "cache", "docker", "server", "http", "mongodb", "s3")
HERE = Path(__file__).parent


def main() -> int:
    """Run the benchmarks; gives 1 where one of them could not be run."""
    rows: list[dict[str, object]] = []
    failed = False
    for module in sys.argv[1:] or MODULES:
        process = subprocess.Popen(
            [sys.executable, "-m", f"bench.{module}"], cwd=HERE.parent, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                row = json.loads(line)
                rows.append(row)
                print(as_text(row), flush=True)
        failed = process.wait() != 0 or failed
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.platform()}
    (HERE / "results.json").write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
