"""What every dispatcher has to do."""

from collections.abc import Callable, Sequence

import pytest

from tercel.dispatch import Dispatcher, JobRef, Lease, job_ref
from tercel.dispatch.memory import MemoryDispatcher
from tercel.model import Task, WorkerJob
from tercel.store import run


class FakeTransaction:
    """Commits when told to."""

    def __init__(self) -> None:
        self._actions: list[Callable[[], object]] = []

    def after_commit(self, action: Callable[[], object]) -> None:
        self._actions.append(action)

    def commit(self) -> None:
        for action in self._actions:
            action()


class Consumer:
    """Takes jobs and keeps them until the test says more."""

    def __init__(self, dispatcher: Dispatcher, slots: int = 1, groups: Sequence[str] | None = None) -> None:
        self.leases: dict[str, Lease] = {}
        self.cancelled: list[str] = []
        self.leave = dispatcher.consume(groups, slots, self._take, lambda ref: self.cancelled.append(ref.task_run_id))

    def _take(self, job: WorkerJob, lease: Lease) -> None:
        self.leases[job.task_run_id] = lease

    @property
    def taken(self) -> list[str]:
        return list(self.leases)


@pytest.fixture(params=["memory"])
def dispatcher(request: pytest.FixtureRequest) -> Dispatcher:
    return MemoryDispatcher()


def a_job(name: str, group: str = "", fence: int = 1) -> WorkerJob:
    return WorkerJob(
        execution_id="execution",
        namespace="tests",
        flow_id="flow",
        revision=1,
        task_run_id=name,
        task=Task(id=name, type="none"),
        fence=fence,
        group=group,
    )


def enqueue(dispatcher: Dispatcher, *jobs: WorkerJob) -> None:
    tx = FakeTransaction()
    run(dispatcher.enqueue(tx, jobs))
    tx.commit()


class TestDelivery:
    def test_given_a_job_then_it_comes_once_it_is_committed_and_not_before(self, dispatcher: Dispatcher) -> None:
        consumer = Consumer(dispatcher)
        tx, never = FakeTransaction(), FakeTransaction()

        run(dispatcher.enqueue(tx, [a_job("one")]))
        run(dispatcher.enqueue(never, [a_job("rolled-back")]))
        assert consumer.taken == []
        tx.commit()

        assert consumer.taken == ["one"]

    def test_given_jobs_before_any_consumer_then_they_wait_in_order(self, dispatcher: Dispatcher) -> None:
        enqueue(dispatcher, a_job("one"), a_job("two"))
        assert dispatcher.depth("") == 2

        consumer = Consumer(dispatcher, slots=2)

        assert consumer.taken == ["one", "two"]
        assert dispatcher.depth("") == 0

    def test_given_more_jobs_than_slots_then_the_next_comes_when_one_is_free(self, dispatcher: Dispatcher) -> None:
        consumer = Consumer(dispatcher, slots=2)
        enqueue(dispatcher, *[a_job(name) for name in "abcd"])
        assert consumer.taken == ["a", "b"]

        consumer.leases["b"].free()
        assert consumer.taken == ["a", "b", "c"]
        consumer.leases["b"].acknowledge()
        assert consumer.taken == ["a", "b", "c"]
        consumer.leases["a"].acknowledge()
        assert consumer.taken == ["a", "b", "c", "d"]

    def test_given_the_same_job_twice_then_it_comes_once(self, dispatcher: Dispatcher) -> None:
        consumer = Consumer(dispatcher, slots=3)

        enqueue(dispatcher, a_job("one"), a_job("one"))
        enqueue(dispatcher, a_job("one"))

        assert consumer.taken == ["one"]
        assert dispatcher.depth("") == 0

    def test_given_groups_then_they_do_not_disturb_each_other(self, dispatcher: Dispatcher) -> None:
        gpu, default = Consumer(dispatcher, groups=["gpu"]), Consumer(dispatcher, slots=9, groups=[""])

        enqueue(dispatcher, a_job("a", "gpu"), a_job("b", "gpu"), a_job("c"), a_job("d", "nobody"))

        assert (gpu.taken, default.taken) == (["a"], ["c"])
        assert [dispatcher.depth(group) for group in ("gpu", "", "nobody")] == [1, 0, 1]
        assert Consumer(dispatcher, slots=9).taken == ["b", "d"]

    def test_given_jobs_of_all_groups_then_it_is_told_how_many_wait_and_how_long(self, dispatcher: Dispatcher) -> None:
        assert dispatcher.waiting() == (0, 0.0)
        enqueue(dispatcher, a_job("a", "gpu"), a_job("b"))

        count, first_s = dispatcher.waiting()
        _, later_s = dispatcher.waiting()

        assert count == 2
        assert 0 <= first_s <= later_s
        Consumer(dispatcher, slots=2)
        assert dispatcher.waiting() == (0, 0.0)

    def test_given_a_consumer_leaves_then_what_it_had_comes_to_another(self, dispatcher: Dispatcher) -> None:
        leaving = Consumer(dispatcher, slots=3)
        enqueue(dispatcher, a_job("done"), a_job("half"), a_job("free"))
        leaving.leases["done"].acknowledge()
        leaving.leases["free"].free()

        leaving.leave()
        leaving.leave()

        assert Consumer(dispatcher, slots=3).taken == ["half"]


class TestCancel:
    def test_given_a_queued_job_then_it_is_gone_and_given_back(self, dispatcher: Dispatcher) -> None:
        job = a_job("one")
        enqueue(dispatcher, job, a_job("two"))

        assert dispatcher.cancel([job_ref(job)]) == [job_ref(job)]

        assert dispatcher.depth("") == 1
        assert Consumer(dispatcher, slots=2).taken == ["two"]

    def test_given_a_picked_job_then_its_consumer_is_told(self, dispatcher: Dispatcher) -> None:
        consumer = Consumer(dispatcher)
        enqueue(dispatcher, a_job("one"))

        assert dispatcher.cancel([job_ref(a_job("one"))]) == []

        assert consumer.cancelled == ["one"]

    def test_given_another_fence_or_a_finished_job_then_nothing_happens(self, dispatcher: Dispatcher) -> None:
        consumer = Consumer(dispatcher)
        enqueue(dispatcher, a_job("one", fence=2))

        assert dispatcher.cancel([JobRef("execution", "one", 1)]) == []
        consumer.leases["one"].acknowledge()
        assert dispatcher.cancel([JobRef("execution", "one", 2)]) == []

        assert consumer.cancelled == []

    def test_given_a_cancel_while_the_job_is_handed_over_then_the_consumer_is_told_after(self) -> None:
        dispatcher = MemoryDispatcher()
        order: list[str] = []

        def take(job: WorkerJob, lease: Lease) -> None:
            dispatcher.cancel([job_ref(job)])
            order.append("taken")

        dispatcher.consume(None, 1, take, lambda ref: order.append("cancelled"))
        enqueue(dispatcher, a_job("one"))

        assert order == ["taken", "cancelled"]
