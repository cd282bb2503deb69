"""`python -m tests.simulation --seeds 100000 [--first 0]`: the simulator for volume; it goes on after a failure.

`python -m tests.simulation --mutants --seeds 2000` looks for a seed for each mutant and writes `caught.json`.
"""

import argparse
import sys
import time

from tests.simulation.mutants import write_known_seeds
from tests.simulation.run import check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--mutants", action="store_true", help="find the seeds that notice the mutants instead")
    chosen = parser.parse_args()
    begun = time.perf_counter()
    if chosen.mutants:
        unnoticed = write_known_seeds(chosen.seeds)
        print("\n".join(unnoticed) or "every mutant is noticed")
        return bool(unnoticed)
    failing: list[int] = []
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        try:
            check(seed)
        except AssertionError as error:
            print(error, flush=True)
            failing.append(seed)
        done = seed + 1 - chosen.first
        if done % 5000 == 0:
            print(f"{done:,} seeds in {time.perf_counter() - begun:.0f} s, {len(failing):,} failed", flush=True)
    print(f"{chosen.seeds - len(failing):,} seeds passed in {time.perf_counter() - begun:.1f} s")
    if failing:
        print(f"{len(failing):,} failed: {', '.join(map(str, failing))}")
    return bool(failing)


if __name__ == "__main__":
    sys.exit(main())
