from collections.abc import Iterator

import pytest

from tests.simulation_stores.places import PLACES, Place
from tests.simulation_stores.run import check

SEEDS = {"sqlite": 300, "postgres": 60}
CHUNKS = 6


@pytest.fixture
def place(name: str) -> Iterator[Place]:
    place = PLACES[name]()
    yield place
    place.close()


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_given_faults_at_every_await_and_commit_then_the_store_holds_what_a_model_without_them_holds(
    name: str, place: Place, chunk: int
) -> None:
    for seed in range(chunk, SEEDS[name], CHUNKS):
        check(seed, place)
