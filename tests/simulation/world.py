"""A fake store, queue, workers and clock around the real machine; moves and faults are drawn from one seed."""

from datetime import UTC, datetime, timedelta
from random import Random
from types import ModuleType
from typing import Any

from msgspec.structs import replace

import tercel.machine.live
import tercel.machine.transition
from tercel.machine import FlowIndex
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    Event,
    ExecutionCreated,
    KillRequested,
    RestartRequested,
    RunTask,
    TaskRunFinished,
    TaskRunStarted,
    TimerDue,
    WorkerLost,
)
from tercel.model.execution import Attempt, Execution, TaskRun, task_run_id
from tercel.model.jobs import WorkerResult
from tercel.model.state import State, StateChange
from tercel.model.working_directory import DirectoryTask
from tests.simulation.flows import INPUTS, Spec, build
from tests.simulation.oracle import Oracle
from tests.simulation.referee import ENDED, Referee, ViolationError, demand
from tests.simulation.restarts import DONE, Reckoner

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FAULTS = (
    "crash_before",
    "crash_after",
    "duplicate",
    "death",
    "zombie",
    "replay",
    "early_timer",
    "kill",
    "reorder",
    "lost",
    "restart",
    "no_folder",
    "deaf",
)


class Machine:
    """The functions of the machine under test: the real ones, or those of a mutant."""

    def __init__(self, transition: Any = tercel.machine.transition, live: Any = tercel.machine.live) -> None:
        self.advance = transition.advance
        self.Live = live.LiveExecution
        self.Index = transition.FlowIndex

    @classmethod
    def of(cls, modules: dict[str, ModuleType]) -> "Machine":
        """The machine made of patched modules."""
        return cls(modules["tercel.machine.transition"], modules["tercel.machine.live"])


class Job:
    """A job in the hands of a worker.

    Args:
        kept: rows of a WorkingDirectory's children that came with it, by task.
        has_folder: the worker still has the directory as the last of them left it.
    """

    def __init__(self, order: RunTask, kept: dict[str, TaskRun], *, has_folder: bool) -> None:
        self.order = order
        self.kept = kept
        self.has_folder = has_folder
        self.is_cancelled = False
        self.children: list[TaskRun] = []


class World:
    """One history."""

    def __init__(self, spec: Spec, seed: int, faults: frozenset[str], machine: Machine) -> None:
        self.rng = Random(seed)
        self.spec = spec
        self.faults = faults
        self.machine = machine
        flow = build(spec)
        self.index: FlowIndex = machine.Index(flow)
        self.referee = Referee(flow, Reckoner(spec))
        self.header = Execution(
            id="e",
            namespace="simulation",
            flow_id="flow",
            revision=1,
            inputs=INPUTS,
            history=(StateChange(State.CREATED, NOON),),
        )
        self.rows: dict[str, TaskRun] = {}
        self.live = machine.Live(self.header)
        self.now = NOON
        self.queue: list[RunTask] = []
        self.hands: list[Job] = []
        self.claimed: set[tuple[str, int]] = set()
        self.kept: dict[tuple[str, int], dict[str, TaskRun]] = {}
        self.mail: list[Event] = [ExecutionCreated(now=NOON)]
        self.past: list[Event] = []
        self.trace: list[str] = []
        self.deadly = self.rng.choice([0.0, 0.0, 0.05, 0.6])
        self.flaky = self.rng.choice([0.02, 0.1, 0.25, 0.5])

    # The history

    def run(self) -> None:
        """An execution to its end, some of them several times."""
        faults = self.faults
        self.to_end()
        for _ in range(self.rng.choice([0, 0, 1, 1, 2, 4]) if "restart" in faults else 0):
            self.faults = faults
            event = RestartRequested(
                now=self.tick(),
                attempt=self.header.attempt_number,
                revision=1,
                from_scratch=self.rng.random() < 0.2,
            )
            self.past = [past for past in self.past if not isinstance(past, KillRequested)]  # it was meant for this end
            self.apply(event)
            self.to_end()

    def to_end(self) -> None:
        """Faults for a while, then healing; then the oracle."""
        for _ in range(self.rng.randint(20, 160)):
            if self.has_ended:
                break
            self.move()
        self.faults = frozenset()
        self.mail += [ExecutionCreated(now=self.now)] if not self.referee.created else []
        for _ in range(2000):
            if self.has_ended:
                break
            self.heal()
        demand(self.has_ended, "It does not end.")
        for event in self.past[-8:]:
            self.apply(event)
        Oracle(self.spec, self.referee, self.header, self.rows).check()
        self.check_rebuilt()

    @property
    def has_ended(self) -> bool:
        return self.header.state in ENDED

    def chance(self, fault: str, probability: float) -> bool:
        drawn = self.rng.random() < probability
        return drawn and fault in self.faults

    def move(self) -> None:
        """One random thing happens."""
        draw = self.rng.random()
        if draw < 0.45 and self.mail:
            self.deliver()
        elif draw < 0.60 and self.queue:
            self.take()
        elif draw < 0.78 and self.hands:
            self.work(self.rng.choice(self.hands))
        elif draw < 0.88:
            self.clock()
        else:
            self.trouble()

    def trouble(self) -> None:
        """One fault, if it is switched on."""
        draw = self.rng.random()
        if draw < 0.2 and self.hands and self.chance("death", 1):
            self.hands.remove(self.rng.choice(self.hands))
        elif draw < 0.4:
            self.sweep()
        elif draw < 0.5 and self.hands and self.chance("zombie", 1):
            job = self.rng.choice(self.hands)
            self.mail.append(WorkerLost(now=self.now, run_id=job.order.run_id, fence=job.order.fence))
        elif draw < 0.65 and self.past and self.chance("replay", 1):
            self.apply(self.rng.choice(self.past))
        elif draw < 0.8 and self.rows and self.chance("early_timer", 1):
            run = self.rng.choice(list(self.rows.values()))
            self.apply(TimerDue(now=self.tick(), run_id=run.id, fence=run.fence - self.rng.randint(0, 1)))
        elif draw < 0.82:
            self.apply(RestartRequested(now=self.tick(), attempt=self.header.attempt_number, revision=1))
        elif draw > 0.85 and self.chance("kill", 0.25):
            self.apply(KillRequested(now=self.tick()))

    def heal(self) -> None:
        """The next thing that ends it without more trouble."""
        if self.mail:
            self.deliver()
        elif self.queue:
            self.take()
        elif self.hands:
            self.work(self.hands[0])
        elif not self.sweep():
            self.clock(far=True)

    # What can happen

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def deliver(self) -> None:
        place = self.rng.randrange(len(self.mail)) if self.chance("reorder", 0.3) else 0
        event = self.mail[place]
        if self.chance("crash_before", 0.05):
            self.trace.append(f"crash before the commit of {short(event)}")
            self.machine.advance(self.index, self.live, replace(event, now=self.tick()))
            self.restart()
            return
        if not self.chance("duplicate", 0.15):
            self.mail.pop(place)
        self.apply(replace(event, now=self.tick()))

    def take(self) -> None:
        """A worker takes a job; each can be claimed once, however often it is delivered."""
        place = self.rng.randrange(len(self.queue)) if self.chance("reorder", 0.5) else 0
        order = self.queue[place]
        if not self.chance("duplicate", 0.08):
            self.queue.pop(place)
        if (order.run_id, order.fence) in self.claimed:
            return
        self.claimed.add((order.run_id, order.fence))
        kept = {} if self.chance("deaf", 0.15) else self.kept.get((order.run_id, order.fence), {})
        self.hands.append(Job(order, kept, has_folder=not self.chance("no_folder", 0.3)))
        if not self.chance("lost", 0.1):
            self.mail.append(TaskRunStarted(now=self.now, run_id=order.run_id, fence=order.fence, worker="w"))

    def work(self, job: Job) -> None:
        """A worker gets on with a job: the next row of a child, or the end."""
        self.tick()
        if self.chance("death", self.deadly):
            self.hands.remove(job)
            self.mail.append(WorkerLost(now=self.now, run_id=job.order.run_id, fence=job.order.fence))
            return
        is_directory = isinstance(job.order.task, DirectoryTask)
        if is_directory and not job.is_cancelled and self._child(job):
            return
        self.hands.remove(job)
        state = self._state(job)
        result = WorkerResult(
            state=state,
            outputs={"value": 1},
            started_at=self.now - timedelta(microseconds=500),
            ended_at=self.now,
            retryable=self.rng.random() < 0.9,
        )
        self._send(TaskRunFinished(now=self.now, run_id=job.order.run_id, fence=job.order.fence, result=result))

    def _state(self, job: Job) -> State:
        draw = self.rng.random()
        if job.is_cancelled and draw < 0.7:
            return State.KILLED
        if draw < self.flaky:
            return State.FAILED
        return State.WARNING if draw < self.flaky + 0.08 else State.KILLED if draw > 0.995 else State.SUCCESS

    def _child(self, job: Job) -> bool:
        tasks = [task for task in job.order.task.children() if not task.disabled]
        tasks = [task for task in tasks if task.id.startswith("c")]
        last = job.children[-1] if job.children else None
        if last is not None and last.state not in ENDED:
            state = self.rng.choice([State.SUCCESS, State.SUCCESS, State.WARNING, State.FAILED, State.RETRYING])
            if last.state is State.RETRYING:
                state = State.RUNNING
            child = replace(last, history=(*last.history, StateChange(state, self.now)))
            job.children[-1] = child
        elif len(job.children) < len(tasks) and (last is None or last.state is not State.FAILED):
            task = tasks[len(job.children)]
            kept = job.kept.get(task.id)
            if kept is not None and kept.state in DONE and job.has_folder:
                job.children.append(kept)
                return self._child(job)
            begun = StateChange(State.RUNNING, self.now)
            child = kept or TaskRun(
                id=task_run_id("e", job.order.run_id, task.id, None, None),
                execution_id="e",
                task_id=task.id,
                parent_id=job.order.run_id,
                history=(StateChange(State.CREATED, self.now),),
            )
            again = (StateChange(State.RESTARTED, self.now),) if child.state in ENDED else ()
            history = (*child.history, *again, begun)
            child = replace(child, history=history, attempts=(*child.attempts, Attempt((begun,))))
            job.children.append(child)
        else:
            return False
        self._send(ChildChanged(now=self.now, run_id=job.order.run_id, fence=job.order.fence, child=child))
        return True

    def _send(self, event: Event) -> None:
        if not self.chance("lost", 0.04):
            self.mail.append(event)

    def sweep(self) -> bool:
        """Declare lost what no worker has and no queue holds; False when there is nothing."""
        held = {(job.order.run_id, job.order.fence) for job in self.hands}
        held |= {(order.run_id, order.fence) for order in self.queue}
        for run_id, seat in self.referee.seats.items():
            if seat.phase != "over" and (run_id, seat.fence) not in held:
                self.mail.append(WorkerLost(now=self.now, run_id=run_id, fence=seat.fence))
                return True
        return False

    def clock(self, *, far: bool = False) -> None:
        """Time passes, and a timer fires if one is due."""
        timers = sorted((run.due, run.id) for run in self.rows.values() if run.due is not None)
        if far:
            demand(timers, "Nothing is under way and no timer is set, yet it has not ended.")
            self.now = max(self.now, timers[0][0])
        else:
            self.now += timedelta(seconds=self.rng.choice([1, 15, 70, 400]))
        due = [run_id for at, run_id in timers if at <= self.now]
        if due:
            run = self.rows[due[0] if far else self.rng.choice(due)]
            self.apply(TimerDue(now=self.tick(), run_id=run.id, fence=run.fence))

    # One event

    def apply(self, event: Event) -> None:
        """Let the machine decide, check, commit, carry out."""
        good = self.referee.is_good(event, self.rows)
        self.trace.append(f"{short(event)}{'' if good else '  (out of date)'}")
        change = self.machine.advance(self.index, self.live, event)
        self.referee.judge(event, change, self.rows, self.header, good=good)
        for run_id in change.removed:
            demand(run_id in self.rows, "A row is removed that there is not.")
            del self.rows[run_id]
        for run in change.runs:
            self.rows[run.id] = run
        self.header = change.execution or self.header
        if good:
            self.past.append(event)
            self.check_rest()
            if self.rng.random() < 0.1:
                again = self.machine.advance(self.index, self.live, event)
                demand(again.is_empty, f"{short(event)} changed something the second time.")
            if self.rng.random() < 0.1:
                self.check_rebuilt()
        if self.chance("crash_after", 0.04):
            self.trace.append("crash after the commit")
            if self.rng.random() < 0.5:
                self.queue.clear()
                self.hands.clear()
            self.restart()
            return
        for command in change.commands:
            match command:
                case RunTask():
                    self.queue.append(command)
                    self.kept[command.run_id, command.fence] = {
                        run.task_id: run for run in self.rows.values() if run.parent_id == command.run_id
                    }
                case CancelTask():
                    self.cancel(command)
                case _:
                    pass

    def cancel(self, command: CancelTask) -> None:
        """A queued job is reported as killed, a running one is told."""
        key = (command.run_id, command.fence)
        if self.chance("lost", 0.1):
            return
        for order in [order for order in self.queue if (order.run_id, order.fence) == key]:
            self.queue.remove(order)
            result = WorkerResult(state=State.KILLED, started_at=self.now, ended_at=self.now)
            self.mail.append(TaskRunFinished(now=self.now, run_id=order.run_id, fence=order.fence, result=result))
        for job in self.hands:
            if (job.order.run_id, job.order.fence) == key:
                job.is_cancelled = True

    def restart(self) -> None:
        """What was in memory is gone; the rows are read again."""
        self.live = self.machine.Live.from_rows(self.index, self.header, list(self.rows.values()))

    # Checks

    def check_rest(self) -> None:
        """Nothing waits for nothing, and RETRYING is said when all there is waits for its next attempt."""
        if self.has_ended:
            return
        demand(self.referee.waits_for(), "Nothing is under way, yet it has not ended.")
        seats = self.referee.seats.values()
        waiting = [seat for seat in seats if seat.retry_at is not None]
        busy = [seat for run_id, seat in self.referee.seats.items() if seat.phase != "over" and not self._rests(run_id)]
        if self.header.state in (State.RUNNING, State.RETRYING):
            rests = not busy and bool(waiting or [seat for seat in seats if seat.phase != "over"])
            demand(rests == (self.header.state is State.RETRYING), f"The execution is {self.header.state}.")

    def _rests(self, run_id: str) -> bool:
        """True for a WorkingDirectory whose child waits for its next attempt."""
        return any(run.parent_id == run_id and run.state is State.RETRYING for run in self.rows.values())

    def check_rebuilt(self) -> None:
        """The aggregate in memory is the one that the rows give."""
        rebuilt = self.machine.Live.from_rows(self.index, self.header, list(self.rows.values()))
        live = self.live
        demand(live.execution == self.header, "The execution in memory is not the stored one.")
        demand(live.runs == self.rows, "The rows in memory are not the stored ones.")
        demand(rebuilt.outputs == live.outputs, "`outputs` are not those of the rows.")
        demand(rebuilt.absorbed == live.absorbed, "What absorbed a failure is not what the rows say.")
        demand(rebuilt.jobs == live.jobs and rebuilt.waiting == live.waiting, "The counts are not those of the rows.")
        demand({k: counts(v) for k, v in rebuilt.scopes.items()} == {k: counts(v) for k, v in live.scopes.items()},
               "A scope is not what its rows give.")  # fmt: skip


def counts(scope: Any) -> dict[str, object]:
    """What a scope counts, without what is only there on the way."""
    left_out = {"parent", "place", "main", "lanes", "finally_started", "errors_started"}
    return {name: getattr(scope, name) for name in type(scope).__slots__ if name not in left_out}


def short(event: Event) -> str:
    """An event in one line."""
    detail = ""
    if isinstance(event, TaskRunFinished):
        detail = f" {event.result.state}{'' if event.result.retryable else ' for good'}"
    elif isinstance(event, ChildChanged):
        detail = f" {event.child.task_id} {event.child.state}"
    run_id = getattr(event, "run_id", "")
    fence = f" #{event.fence}" if hasattr(event, "fence") else ""  # type: ignore[attr-defined]
    return f"{event.now:%H:%M:%S.%f} {type(event).__name__} {run_id[:6]}{fence}{detail}"


__all__ = ["FAULTS", "Machine", "ViolationError", "World", "counts", "short"]
