"""Runs seeds against a place, and makes a failing one small."""

from collections.abc import Sequence
from random import Random

from tercel.errors import TercelError
from tests.simulation.flows import Spec, draw, show, smaller
from tests.simulation_stores.places import Place
from tests.simulation_stores.world import FAULTS, World

FALLS = (AssertionError, TercelError, KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError)


def problem_of(specs: Sequence[Spec], seed: int, faults: frozenset[str], place: Place) -> tuple[str, list[str]] | None:
    """Why a history fails, and what happened in it; None where it does not."""
    world = World(specs, seed, faults, place)
    try:
        world.run()
    except FALLS as error:
        return f"{type(error).__name__}: {error}", world.trace
    return None


def flows_of(seed: int) -> list[Spec]:
    """The flows of a seed, one for each execution."""
    rng = Random(seed)
    return [draw(rng) for _ in range(rng.choice([1, 1, 2, 3]))]


def check(seed: int, place: Place) -> None:
    """Run one seed.

    Raises:
        AssertionError: naming the seed, with the smallest flows and history that still fail.
    """
    specs = flows_of(seed)
    if problem_of(specs, seed, frozenset(FAULTS), place) is not None:
        raise AssertionError(report(seed, specs, place))


def report(seed: int, specs: list[Spec], place: Place) -> str:
    """A failing seed for people: fewer faults, fewer and smaller flows, and what happened."""
    faults = frozenset(FAULTS)
    for fault in FAULTS:
        if problem_of(specs, seed, faults - {fault}, place) is not None:
            faults -= {fault}
    left, changed = 300, True
    while changed and left > 0:
        changed = False
        for candidate in _smaller(specs):
            left -= 1
            if left <= 0:
                break
            try:
                is_bad = problem_of(candidate, seed, faults, place) is not None
            except Exception:  # a cut can leave a flow that cannot be built
                continue
            if is_bad:
                specs, changed = candidate, True
                break
    reason, trace = problem_of(specs, seed, faults, place) or ("it cannot be made smaller", [])
    flows = "\n".join(show(spec) for spec in specs)
    events = "\n  ".join(trace[-80:])
    return f"seed {seed}: {reason}\nfaults: {sorted(faults)}\n{flows}\nwhat happened:\n  {events}"


def _smaller(specs: list[Spec]) -> list[list[Spec]]:
    fewer = [specs[:at] + specs[at + 1 :] for at in range(len(specs))] if len(specs) > 1 else []
    cut = [
        [*specs[:at], candidate, *specs[at + 1 :]]
        for at, spec in enumerate(specs)
        for candidate in smaller(spec)
        if candidate["tasks"]
    ]
    return fewer + cut
