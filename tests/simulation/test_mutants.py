import pytest

from tests.simulation.mutants import MUTANTS, Mutant, caught_by, known_seeds

SEEDS = 1000
SEEDS_FOR_EQUIVALENT = 100
LEAST_NOTICED = 0.98
KNOWN = known_seeds()
MISTAKES = [one for one in MUTANTS if not one.equivalent]


@pytest.mark.parametrize("mutant", [one for one in MISTAKES if one.name in KNOWN], ids=lambda one: one.name)
def test_given_a_mistake_in_the_machine_then_the_simulator_notices(mutant: Mutant) -> None:
    seed = caught_by(mutant, SEEDS, KNOWN[mutant.name])

    more = "`python -m tests.simulation --mutants --seeds 3000` looks further."
    assert seed is not None, f"Nobody noticed: {mutant.name}. {more}"


@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.equivalent], ids=lambda one: one.name)
def test_given_a_change_that_breaks_no_promise_then_nobody_notices(mutant: Mutant) -> None:
    assert caught_by(mutant, SEEDS_FOR_EQUIVALENT) is None, f"It is not equivalent: {mutant.equivalent}."


def test_given_mistakes_that_no_history_has_met_yet_then_they_are_few() -> None:
    """Some need so many coincidences that no seed is known; docs/mutants.md names them."""
    assert sum(one.name in KNOWN for one in MISTAKES) >= LEAST_NOTICED * len(MISTAKES)


def test_given_the_list_then_each_mutant_has_a_name_of_its_own() -> None:
    assert len({one.name for one in MUTANTS}) == len(MUTANTS)
