"""`python -m tests.simulation_stores --seeds 10000 [--first 0] [--place postgres]`: the simulator for volume."""

import argparse
import sys
import time

from tests.simulation_stores.places import PLACES
from tests.simulation_stores.run import check


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation_stores")
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--place", choices=sorted(PLACES), default="sqlite", help="which store")
    chosen = parser.parse_args()
    begun = time.perf_counter()
    place = PLACES[chosen.place]()
    try:
        for seed in range(chosen.first, chosen.first + chosen.seeds):
            check(seed, place)
    except AssertionError as error:
        print(error)
        return 1
    finally:
        place.close()
    print(f"{chosen.seeds:,} seeds passed in {time.perf_counter() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
