import pytest

from tests.simulation.run import check

SEEDS = 2000
CHUNK = 250


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_given_random_flows_and_faults_when_healed_then_every_end_is_what_the_oracle_says(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed)
