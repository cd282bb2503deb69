"""`make bench`: runs every benchmark in a process of its own, prints a table, writes `bench/results.json`.

`python -m bench NAME…` runs only the modules named.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

MODULES = ("command_line", "engine", "cache")
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


def as_text(row: dict[str, object]) -> str:
    """A row for people: name, value, ratio to its floor, target, and whether it is met."""
    value, ratio, target = row["value"], row.get("ratio"), row.get("target")
    over = "" if ratio is None else f"{ratio:.2f} × floor {row['floor']:g}"
    verdict = ""
    if isinstance(target, int | float):
        met = row.get("met")
        if met is None:
            measured = ratio if row.get("target_of", "ratio") == "ratio" and ratio is not None else value
            met = isinstance(measured, int | float) and measured <= target
        verdict = f"target {target:g}: {'met' if met else 'MISSED'}"
    return f"{row['name']!s:<46} {value:>10g} {row['unit']!s:<12} {over:<26} {verdict}"


if __name__ == "__main__":
    sys.exit(main())
