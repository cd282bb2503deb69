"""Two processes that both believe to have an execution: what one of them has done, the other one must not undo."""

from collections.abc import Iterator

import pytest

from tercel.machine.messages import KillRequested, RestartRequested, TaskRunStarted
from tercel.store import Promise, StaleExecutionError
from tests.simulation_stores.places import PLACES, Place
from tests.simulation_stores.process import Process
from tests.simulation_stores.world import World

JOB = {"kind": "flow", "tasks": [{"kind": "sequential", "id": "s", "tasks": [{"kind": "job", "id": "j"}]}]}


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = PLACES[request.param]()
    yield place
    place.close()


@pytest.fixture
def world(place: Place) -> Iterator[World]:
    """One execution, whose only job is with the worker of the first process."""
    world = World([JOB], 0, frozenset(), place)
    place.clear()
    with world._installed():
        world.open()
        world.start()
        world.turn(world.processes[0])
        yield world
    for process in world.processes:
        process.die()


def test_given_an_adopted_execution_when_the_former_owner_goes_on_then_it_changes_nothing(
    place: Place, world: World
) -> None:
    [zombie] = world.processes
    [held] = zombie.hands
    world.processes.clear()  # taken for dead
    place.disconnect()
    adopter = world.open()
    world.turn(adopter)
    world.processes.append(zombie)

    started = TaskRunStarted(now=world.tick(), run_id=held.job.task_run_id, fence=held.job.fence, worker="zombie")
    zombie.executor.apply("e0a", started)
    world.turn(zombie)

    assert isinstance(zombie.executor.refused["e0a"], StaleExecutionError)
    [mirror] = world.mirrors.values()
    mirror.compare(adopter.store)


def test_given_an_execution_of_another_process_when_an_event_comes_to_this_one_then_it_is_refused(
    world: World,
) -> None:
    [owner] = world.processes
    [held] = owner.hands
    other = world.open()

    asked = other.executor.apply("e0a", KillRequested(now=world.tick()))
    world.turn(other)

    with pytest.raises(StaleExecutionError):
        asked.result()
    finished = owner.executor.apply("e0a", world._finished(held))
    world.turn(owner)
    finished.result()
    assert world.mirrors["e0a"].owner == owner.owner


STARTS = {
    "kind": "flow",
    "tasks": [{"kind": "job", "id": "j"}, {"kind": "subflow", "id": "s", "wait": True, "transmit": True, "total": 1}],
}


def test_given_a_parent_that_was_adopted_before_the_commit_then_the_child_made_with_it_is_not_written_either(
    place: Place,
) -> None:
    world = World([STARTS], 1, frozenset(), place)
    world.often = world.flaky = 0.0
    world.cannot_plan = 0.0
    gate = world.gate
    place.clear()

    def adopt_before_commit(process: Process, point: str) -> None:
        if process is zombie and point == "before commit" and process in world.processes:
            world.processes.remove(process)
            place.disconnect()
            world.open()
        gate(process, point)

    with world._installed():
        zombie = world.open()
        world.start()
        world.turn(zombie)
        [held] = zombie.hands
        world.work(zombie, held)
        world.work(zombie, held)
        world.gate = adopt_before_commit  # type: ignore[method-assign]
        world.turn(zombie)

        assert set(zombie.executor.refused) >= {"e0a"}
        assert set(world.mirrors) == {"e0a"}
        world.is_healing = True
        while world.heal():
            pass
        world.check_end()
    for process in (zombie, *world.processes):
        process.die()


def test_given_a_restart_that_came_too_early_when_the_execution_has_ended_elsewhere_then_it_can_be_restarted_here(
    world: World,
) -> None:
    [owner] = world.processes
    [held] = owner.hands
    other = world.open()
    world.flaky = 1.0

    def restart() -> Promise[None]:
        asked = other.executor.apply("e0a", RestartRequested(now=world.tick(), attempt=1, revision=1))
        world.turn(other)
        return asked

    early = restart()
    while held in owner.hands:
        world.work(owner, held)
    world.turn(owner)
    late = restart()

    with pytest.raises(StaleExecutionError):
        early.result()
    late.result()
    assert world.mirrors["e0a"].owner == other.owner
