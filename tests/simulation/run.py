"""Runs seeds, and makes a failing one small."""

from random import Random
from re import sub

from tercel.errors import TercelError
from tests.simulation.flows import Spec, draw, show, smaller
from tests.simulation.world import FAULTS, Machine, World

REAL = Machine()
# A mutant may fall over in any way; a real machine must not.
FALLS = (AssertionError, TercelError, KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError)


def problem_of(spec: Spec, seed: int, faults: frozenset[str], machine: Machine) -> tuple[str, list[str]] | None:
    """Why a history fails, and its events; None where it does not."""
    world = World(spec, seed, faults, machine)
    try:
        world.run()
    except FALLS as error:
        last = world.latest
        while last.latest is not last:
            last = last.latest
        return f"{type(error).__name__}: {error}", world.trace + [
            f"row {run.task_id} {run.id[:6]} {' '.join(change.state for change in run.history)}"
            for run in last.rows.values()
        ]
    return None


def flow_of(seed: int) -> Spec:
    """The flow of a seed."""
    return draw(Random(seed))


def check(seed: int, machine: Machine = REAL, *, explain: bool = True) -> None:
    """Run one seed; with *explain*, make what fails small.

    Raises:
        AssertionError: naming the seed, with the smallest flow and history that still fails.
    """
    spec = flow_of(seed)
    faults = frozenset(FAULTS)
    found = problem_of(spec, seed, faults, machine)
    if found is not None:
        raise AssertionError(report(seed, spec, faults, machine) if explain else found[0])


def kind_of(reason: str) -> str:
    """A reason without what names one task run, so that a smaller flow shows the same mistake and not another one."""
    return sub(r"\b[a-z]\d+[xyz]?\b|\b\w{22}\b|\b\w{6} #\d+|\d+", "_", reason)


def report(seed: int, spec: Spec, faults: frozenset[str], machine: Machine) -> str:
    """A failing seed for people: fewer faults, a smaller flow, its events."""
    found = problem_of(spec, seed, faults, machine)
    kind = kind_of(found[0] if found else "")

    def fails(smaller_spec: Spec, fewer: frozenset[str]) -> bool:
        problem = problem_of(smaller_spec, seed, fewer, machine)
        return problem is not None and kind_of(problem[0]) == kind

    for fault in FAULTS:
        if fails(spec, faults - {fault}):
            faults -= {fault}
    left, changed = 400, True
    while changed and left:
        changed = False
        for candidate in smaller(spec):
            left -= 1
            if left <= 0:
                break
            try:
                is_bad = bool(candidate["tasks"]) and fails(candidate, faults)
            except Exception:  # a cut can leave a flow that cannot be built
                continue
            if is_bad:
                spec, changed = candidate, True
                break
    found = problem_of(spec, seed, faults, machine)
    reason, trace = found or ("it cannot be made smaller", [])
    events = "\n  ".join(trace[-60:])
    return f"seed {seed}: {reason}\nfaults: {sorted(faults)}\n{show(spec)}\nevents:\n  {events}"
