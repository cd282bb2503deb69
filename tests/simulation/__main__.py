"""`python -m tests.simulation --seeds 100000 [--first 0]`: the simulator for volume."""

import argparse
import sys
import time

from tests.simulation.run import check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    chosen = parser.parse_args()
    begun = time.perf_counter()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        try:
            check(seed)
        except AssertionError as error:
            print(error)
            return 1
    print(f"{chosen.seeds:,} seeds passed in {time.perf_counter() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
