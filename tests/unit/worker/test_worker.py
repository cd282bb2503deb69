from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event as Flag
from threading import Lock, current_thread
from time import monotonic, sleep

import pytest

from tercel.dispatch.memory import MemoryDispatcher
from tercel.machine.messages import ChildChanged, Event, TaskRunFinished, TaskRunStarted, WorkerLost
from tercel.model import State, Task, TaskRun, WorkerJob, WorkerResult
from tercel.store import Promise, run
from tercel.worker.control import JobControl
from tercel.worker.worker import Worker
from tests.builders import a_task_run


def _now() -> datetime:
    return datetime.now(UTC)


class Reports:
    """Keeps what a worker reports; a commit takes as long as the test wants."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []
        self.promises: list[Promise[None]] = []

    def apply(self, execution_id: str, event: Event) -> Promise[None]:
        self.events.append((execution_id, event))
        self.promises.append(Promise())
        return self.promises[-1]

    def post(self, execution_id: str, event: Event) -> None:
        self.events.append((execution_id, event))

    def of(self, kind: type[Event]) -> list[str]:
        return [event.run_id for _, event in self.events if isinstance(event, kind)]  # pyright: ignore


class Runner:
    """Runs jobs for as long as the test wants, or until they are stopped."""

    def __init__(self) -> None:
        self.may_end = Flag()
        self.threads: set[str] = set()
        self.running = self.most = 0
        self._lock = Lock()

    def run(self, job: WorkerJob, control: JobControl, report_child: Callable[[TaskRun], None]) -> WorkerResult:
        began = _now()
        with self._lock:
            self.threads.add(current_thread().name)
            self.running += 1
            self.most = max(self.most, self.running)
        report_child(a_task_run("child", "RUNNING"))
        while not (self.may_end.is_set() or control.reason):
            self.may_end.wait(0.005)
        with self._lock:
            self.running -= 1
        state = State.KILLED if control.reason else State.SUCCESS
        return WorkerResult(state=state, started_at=began, ended_at=_now())


class World:
    def __init__(self, slots: int = 4) -> None:
        self.dispatcher = MemoryDispatcher()
        self.reports = Reports()
        self.runner = Runner()
        self.worker = Worker(
            id="worker",
            dispatcher=self.dispatcher,
            reports=self.reports,
            runner=self.runner,
            slots=slots,
            clock=_now,
        )

    def enqueue(self, *names: str) -> None:
        jobs = [
            WorkerJob(
                execution_id="execution",
                namespace="tests",
                flow_id="flow",
                revision=1,
                task_run_id=name,
                task=Task(id=name, type="none"),
                fence=1,
            )
            for name in names
        ]

        class Committed:
            def after_commit(self, action: Callable[[], object]) -> None:
                action()

        run(self.dispatcher.enqueue(Committed(), jobs))


def until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + 20
    while not condition():
        assert monotonic() < deadline, "it never happened"
        sleep(0.001)


@pytest.fixture
def world():
    world = World()
    yield world
    world.runner.may_end.set()
    world.worker.close()


class TestJobs:
    def test_given_a_job_then_its_start_children_and_end_are_reported_in_order(self, world: World) -> None:
        world.runner.may_end.set()

        world.enqueue("one")
        until(lambda: len(world.reports.events) == 3)

        started, child, finished = (event for _, event in world.reports.events)
        assert isinstance(started, TaskRunStarted)
        assert (started.run_id, started.fence, started.worker) == ("one", 1, "worker")
        assert isinstance(child, ChildChanged)
        assert isinstance(finished, TaskRunFinished)
        assert finished.result.state is State.SUCCESS

    def test_given_more_long_jobs_than_slots_then_all_slots_work_at_once(self, world: World) -> None:
        world.enqueue(*[f"{number}" for number in range(6)])

        until(lambda: world.runner.running == 4)
        assert world.dispatcher.depth("") == 2
        world.runner.may_end.set()
        until(lambda: len(world.reports.of(TaskRunFinished)) == 6)

        assert world.runner.most == 4

    def test_given_brief_jobs_before_when_long_ones_come_then_all_slots_work_at_once(self, world: World) -> None:
        world.runner.may_end.set()
        world.enqueue(*[f"brief-{number}" for number in range(40)])
        until(lambda: len(world.reports.of(TaskRunFinished)) == 40)
        world.runner.may_end.clear()

        world.enqueue(*[f"long-{number}" for number in range(4)])

        until(lambda: world.runner.running == 4)
        world.runner.may_end.set()
        until(lambda: len(world.reports.of(TaskRunFinished)) == 44)

    def test_given_a_result_that_is_not_committed_yet_then_the_slot_is_free_already(self, world: World) -> None:
        world.runner.may_end.set()
        world.enqueue(*[f"{number}" for number in range(50)])

        until(lambda: len(world.reports.of(TaskRunFinished)) == 50)

        assert not any(promise.is_done for promise in world.reports.promises)

    def test_given_no_job_then_no_thread_is_started(self) -> None:
        world = World()

        assert world.worker.close()

        assert world.runner.threads == set()


class TestStopping:
    def test_given_a_cancelled_job_then_it_ends_killed_and_others_go_on(self, world: World) -> None:
        world.enqueue("one", "two")
        until(lambda: world.runner.running == 2)

        [ref] = [ref for ref in world.worker.running if ref.task_run_id == "one"]
        assert world.dispatcher.cancel([ref]) == []
        until(lambda: world.reports.of(TaskRunFinished) == ["one"])

        assert world.runner.running == 1

    def test_given_a_shutdown_then_running_jobs_end_and_are_given_back_and_waiting_ones_stay(self) -> None:
        world = World(slots=2)
        world.enqueue("one", "two", "three")
        until(lambda: world.runner.running == 2)

        assert world.worker.close(patience_s=20)

        assert world.reports.of(TaskRunFinished) == []
        assert sorted(world.reports.of(WorkerLost)) == ["one", "two"]
        assert all(event.is_given_back for _, event in world.reports.events if isinstance(event, WorkerLost))
        assert world.worker.running == []
        assert world.dispatcher.depth("") == 3

    def test_given_a_job_that_does_not_end_then_closing_gives_up_after_its_patience(self) -> None:
        class Deaf(Runner):
            def run(self, job: WorkerJob, control: JobControl, report_child: object) -> WorkerResult:
                self.running += 1
                self.may_end.wait(20)
                return WorkerResult(state=State.SUCCESS, started_at=_now(), ended_at=_now())

        world = World()
        world.worker._runner = world.runner = Deaf()  # pyright: ignore[reportPrivateUsage]
        world.enqueue("one")
        until(lambda: world.runner.running == 1)

        assert not world.worker.close(patience_s=0.01)
        world.runner.may_end.set()


def test_given_a_runner_that_breaks_its_word_then_the_job_fails_and_the_slot_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = world.runner.run

    def breaks(job: WorkerJob, control: JobControl, report_child: Callable[[TaskRun], None]) -> WorkerResult:
        if job.task_run_id == "bad":
            raise RuntimeError("no room")
        return whole(job, control, report_child)

    monkeypatch.setattr(world.runner, "run", breaks)
    world.runner.may_end.set()

    world.enqueue("bad", "good")
    until(lambda: len(world.reports.of(TaskRunFinished)) == 2)

    results = {event.run_id: event.result for _, event in world.reports.events if isinstance(event, TaskRunFinished)}
    assert results["bad"].state is State.FAILED
    assert "no room" in results["bad"].message
    assert results["good"].state is State.SUCCESS
