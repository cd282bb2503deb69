"""A fake store, queue, workers and clock around the real machine; moves and faults are drawn from one seed."""

from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from random import Random
from types import ModuleType
from typing import Any

from msgspec.structs import replace

import tercel.machine.live
import tercel.machine.replay
import tercel.machine.transition
from tercel.machine import FlowIndex
from tercel.machine.messages import (
    CancelTask,
    ChildChanged,
    Event,
    ExecutionCreated,
    ExecutionTimerDue,
    ForceRunRequested,
    KillRequested,
    LabelsSet,
    PauseRequested,
    ReplayRequested,
    RestartRequested,
    ResumeRequested,
    RunTask,
    SlotFreed,
    StatusChanged,
    SubflowEnded,
    SubflowStarted,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    TimerDue,
    WorkerLost,
)
from tercel.model.execution import Execution, TaskRun, task_run_id
from tercel.model.jobs import ExecutionUpdate, WorkerResult
from tercel.model.state import State, StateChange
from tercel.model.working_directory import DirectoryTask
from tests.simulation.flows import AFTER_BRANCHES, EXECUTABLE, FEATURES, INPUTS, Spec, apart, build
from tests.simulation.oracle import Oracle
from tests.simulation.referee import ENDED, Referee, Seat, ViolationError, demand
from tests.simulation.restarts import DONE, Reckoner
from tests.simulation.standing import paused
from tests.simulation.workers import next_child, update_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WISHES = (KillRequested, PauseRequested, ResumeRequested, ForceRunRequested, LabelsSet, SlotFreed)
FINAL = [State.SUCCESS, State.WARNING, State.FAILED, State.KILLED]
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
    "meddle",
)


class Machine:
    """The functions of the machine under test: the real ones, or those of a mutant."""

    def __init__(
        self,
        transition: Any = tercel.machine.transition,
        live: Any = tercel.machine.live,
        replay: Any = tercel.machine.replay,
    ) -> None:
        self.advance = transition.advance
        self.copies_for_replay = replay.copies_for_replay
        self.Live = live.LiveExecution
        self.Index = transition.FlowIndex

    @classmethod
    def of(cls, modules: dict[str, ModuleType]) -> "Machine":
        """The machine made of patched modules."""
        names = ("transition", "live", "replay")
        return cls(*(modules[f"tercel.machine.{name}"] for name in names))


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


class Children:
    """The executions that one dispatch of a Subflow started; they are kept in the store and outlive every process."""

    def __init__(self, order: RunTask, total: int) -> None:
        self.order = order
        self.total = total
        self.states: list[State | None] = []
        self.is_killed = False

    @property
    def key(self) -> tuple[str, int]:
        """Of the dispatch."""
        return self.order.run_id, self.order.fence

    def open(self) -> list[int]:
        """Those that have not ended."""
        return [index for index, state in enumerate(self.states) if state is None]


class World:
    """One history."""

    def __init__(self, spec: Spec, seed: float, faults: frozenset[str], machine: Machine) -> None:
        self.rng = Random(seed)
        self.dice = apart(self.rng)
        self.whims = apart(self.dice)  # of people who change states by hand
        self.upsets = "task_state" in FEATURES and self.whims.random() < 0.1
        self.restarts_paused = self.dice.random() < 0.3
        self.nudges = "hand" in FEATURES and self.dice.random() < 0.15
        self.replays = "replay" in FEATURES and self.dice.random() < 0.3
        self.keeps_at = self.dice.randint(1, 120) if self.dice.random() < 0.5 else 0
        self.snapshot: tuple[dict[str, TaskRun], Referee, Execution] | None = None
        self.all_faults = faults
        self.latest = self
        self.spec = spec
        self.faults = faults
        self.machine = machine
        flow = build(spec)
        self.index: FlowIndex = machine.Index(flow)
        self.header = Execution(
            id="e",
            namespace="simulation",
            flow_id="flow",
            revision=1,
            inputs=INPUTS,
            history=(StateChange(State.CREATED, NOON),),
            schedule_date=NOON + timedelta(minutes=1) if "schedule" in spec else None,
        )
        self.has_slot = "concurrency" not in spec or self.rng.random() < 0.4
        self.referee = Referee(flow, Reckoner(spec), self.header)
        self.rows: dict[str, TaskRun] = {}
        self.live = machine.Live(self.header)
        self.now = NOON
        self.queue: list[RunTask] = []
        self.hands: list[Job] = []
        self.claimed: set[tuple[str, int]] = set()
        self.kept: dict[tuple[str, int], dict[str, TaskRun]] = {}
        self.orders: dict[tuple[str, int], RunTask] = {}
        self.children: dict[tuple[str, int], Children] = {}
        self.mail: list[Event] = [ExecutionCreated(now=NOON, has_slot=self.has_slot)]
        self.past: list[Event] = []
        self.trace: list[str] = []
        self.deadly = self.rng.choice([0.0, 0.0, 0.05, 0.6])
        self.flaky = self.rng.choice([0.02, 0.1, 0.25, 0.5])

    # The history

    def run(self) -> None:
        """An execution to its end, some of them several times; some are then replayed by another one."""
        self.run_it()
        if self.replays:
            self.replay()

    def replay(self) -> None:
        """Have a new execution begin at one of the task runs of this one, or of this one as it was on the way."""
        rows, referee, header = self.snapshot or (self.rows, self.referee, self.header)
        targets = [run for run in rows.values() if self._may_be_replayed(run, rows, referee)]
        if not targets:
            return
        target = self.dice.choice(targets)
        copies = self.machine.copies_for_replay(self.index, rows, target.id, f"{header.id}r")
        demand(copies is not None, "There is nothing to replay.")
        self.trace.append(f"replay of {target.task_id} {target.id[:6]}")
        self.latest = World(self.spec, self.dice.random(), self.all_faults, self.machine)
        self.latest.trace = self.trace
        self.latest.begin_at(copies, rows, referee, header, now=self.tick())
        self.latest.run()

    def begin_at(
        self, copies: Any, rows: dict[str, TaskRun], referee: Referee, older: Execution, now: datetime
    ) -> None:
        """Begin with copies of another execution's rows, and check that they are."""
        self.now = now
        self.header = Execution(
            id=f"{older.id}r",
            namespace="simulation",
            flow_id="flow",
            revision=1,
            inputs=INPUTS,
            history=(StateChange(State.CREATED, now),),
            variables=older.variables,
            has_variables=older.has_variables,
            parent_id=older.id,
            from_scratch=True,
        )
        self.mail = []
        self.rows = {run.id: run for run in copies.runs}
        self.live = self.machine.Live.from_rows(self.index, self.header, copies.runs)
        self.referee = Referee(self.index.flow, Reckoner(self.spec), self.header)
        ids = copied(rows, self.rows, self.header.id)
        originals = {copy: run_id for run_id, copy in ids.items()}
        open_ = {id_ for id_, copy in ids.items() if rows[id_].state not in ENDED and copy != copies.target}
        at = rows[originals[copies.target]].parent_id
        while at is not None:
            open_.discard(at)
            at = rows[at].parent_id
        demand(not open_, "What has not ended was copied.")
        self.referee.take_over(referee, ids, self.rows, now)
        self.apply(ReplayRequested(now=now, run_id=copies.target))

    def _may_be_replayed(self, run: TaskRun, rows: dict[str, TaskRun], referee: Referee) -> bool:
        """True where it is there because what is before it in its lane, and around it, ended well by itself."""
        specs = referee.reckoner.specs
        at: TaskRun | None = run
        while at is not None:
            around = rows.get(at.parent_id or "")
            spec = self.spec if around is None else specs[around.task_id]
            if any(at.task_id == task["id"] for name in AFTER_BRANCHES for task in spec.get(name, [])):
                return False
            before = referee.reckoner.before(spec, at, rows)
            if at.id in referee.set_at or any(one is None or one.state not in DONE for one in before):
                return False
            at = around
        return True

    def run_it(self) -> None:
        faults = self.faults
        self.to_end()
        for _ in range(self.whims.randint(2, 5) if self.upsets and "restart" in faults else 0):
            self.upset(faults)
        for _ in range(self.rng.choice([0, 0, 1, 1, 2, 4]) if "restart" in faults else 0):
            self.faults = faults
            if self.header.state is State.RETRIED:
                self.change_retried()
                break
            if "status" in FEATURES and self.rng.random() < 0.1:
                self.apply(StatusChanged(now=self.tick(), state=self.rng.choice(FINAL)))
            if self.rows and "task_state" in FEATURES and self.rng.random() < 0.2:
                run = self.rng.choice(list(self.rows.values()))
                attempt = self.header.attempt_number
                self.apply(TaskStateChanged(now=self.tick(), run_id=run.id, state=run.state, attempt=attempt))
            event = self.again()
            meant_for_this_end = (KillRequested, StatusChanged)
            self.past = [past for past in self.past if not isinstance(past, meant_for_this_end)]
            self.apply(event)
            self.to_end()

    def upset(self, faults: frozenset[str]) -> None:
        """Rare by chance: somebody makes failures of several task runs, one after the other."""
        targets = [run for run in self.rows.values() if self._may_be_set(run) and run.state is not State.FAILED]
        if self.header.state is State.RETRIED or not targets:
            return
        run, attempt = self.whims.choice(targets), self.header.attempt_number
        self.faults = faults if self.whims.random() < 0.3 else frozenset()
        self.apply(TaskStateChanged(now=self.tick(), run_id=run.id, state=State.FAILED, attempt=attempt))
        self.to_end()

    def change_retried(self) -> None:
        """Another execution goes on with it: nothing can be done with this one any more."""
        now, attempt = self.tick(), self.header.attempt_number
        run_id = self.rng.choice(list(self.rows))
        self.apply(RestartRequested(now=now, attempt=attempt, revision=1))
        self.apply(StatusChanged(now=now, state=self.rng.choice(FINAL)))
        self.apply(TaskStateChanged(now=now, run_id=run_id, state=State.SKIPPED, attempt=attempt))

    def again(self) -> Event:
        """What an execution that has ended goes on by."""
        attempt = self.header.attempt_number
        targets = [run for run in self.rows.values() if self._may_be_set(run)]
        in_branches = [run for run in targets if self._is_in_branch(run)]
        in_main = [run for run in targets if run not in in_branches]
        if "task_state" in FEATURES and in_branches and self.whims.random() < 0.15:
            run = self.whims.choice(in_branches)
            state = self.whims.choice([state for state in FINAL if state is not run.state])
            return TaskStateChanged(now=self.tick(), run_id=run.id, state=state, attempt=attempt)
        if "task_state" in FEATURES and in_main and self.rng.random() < 0.3:
            run = self.rng.choice(in_main)
            state = self.rng.choice([state for state in FINAL if state is not run.state])
            return TaskStateChanged(now=self.tick(), run_id=run.id, state=state, attempt=attempt)
        from_scratch = self.rng.random() < 0.2
        return RestartRequested(now=self.tick(), attempt=attempt, revision=1, from_scratch=from_scratch)

    def _may_be_set(self, run: TaskRun) -> bool:
        """True for all but children of directories, and what runs anew after every end."""
        return not self._is_in_branch(run, AFTER_BRANCHES) and not self.referee.reckoner.is_child(run, self.rows)

    def _is_in_branch(self, run: TaskRun, names: Sequence[str] = ("errors", "finally")) -> bool:
        """True for what stands in one of these branches, or inside of something that does."""
        specs = self.referee.reckoner.specs
        at: TaskRun | None = run
        while at is not None:
            around = self.rows.get(at.parent_id or "")
            spec = self.spec if around is None else specs[around.task_id]
            if specs[at.task_id] in [task for name in names for task in spec.get(name, [])]:
                return True
            at = around
        return False

    def to_end(self) -> None:
        """Faults for a while, then healing; then the oracle."""
        for _ in range(self.rng.randint(20, 160)):
            if self.has_ended:
                break
            self.move()
        self.faults = frozenset()
        if self.referee.standing.phase == "new":
            self.mail.append(ExecutionCreated(now=self.now, has_slot=self.has_slot))
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
        return not self.header.is_open

    def chance(self, fault: str, probability: float) -> bool:
        drawn = self.rng.random() < probability
        return drawn and fault in self.faults

    def move(self) -> None:
        """One random thing happens."""
        if self.nudges and "meddle" in self.faults:
            if self.dice.random() < 0.05:
                self.nudge()
            self.check_rebuilt()
        draw = self.rng.random()
        if draw < 0.03 and self.chance("meddle", 1):
            self.meddle()
        elif draw < 0.45 and self.mail:
            self.deliver()
        elif draw < 0.60 and self.queue:
            self.take()
        elif draw < 0.78 and self.hands:
            self.work(self.rng.choice(self.hands))
        elif draw < 0.82 and self.unfinished():
            self.end_child(self.rng.choice(self.unfinished()))
        elif draw < 0.88:
            self.clock()
        else:
            self.trouble()

    def nudge(self) -> None:
        """What is rare by chance: a kill while it is paused by hand, and a pause by hand after a restart."""
        if self.referee.standing.is_held:
            if self.dice.random() < 0.3:
                self.apply(KillRequested(now=self.tick()))
        elif self.header.attempt_number > 1:
            self.apply(PauseRequested(now=self.tick()))

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
        elif draw < 0.52 and self.children and self.chance("zombie", 1):
            run_id, fence = self.rng.choice([*self.children, *((one.run_id, one.fence) for one in self.queue)])
            self.mail.append(WorkerLost(now=self.now, run_id=run_id, fence=fence))
        elif draw < 0.65 and self.past and self.chance("replay", 1):
            event = self.rng.choice(self.past)
            # What a person wants a second time is wanted now.
            self.apply(replace(event, now=self.tick()) if isinstance(event, WISHES) else event)
        elif draw < 0.8 and self.rows and self.chance("early_timer", 1):
            run = self.rng.choice(list(self.rows.values()))
            self.apply(TimerDue(now=self.tick(), run_id=run.id, fence=run.fence - self.rng.randint(0, 1)))
        elif draw < 0.82 and (self.restarts_paused or not paused(self.rows)):
            self.apply(RestartRequested(now=self.tick(), attempt=self.header.attempt_number, revision=1))
        elif draw > 0.85 and self.chance("kill", 0.25):
            self.apply(KillRequested(now=self.tick(), cascade=self.rng.random() < 0.8))

    def meddle(self) -> None:
        """Somebody does something to the execution, sensible or not."""
        now = self.tick()
        events: list[Event] = []
        if "pause" in FEATURES or "hand" in FEATURES:
            waiting = sorted(paused(self.rows))
            given = {"onResume": {"value": self.rng.randint(1, 9)}}
            events.append(ResumeRequested(now=now, run_id=self.rng.choice([None, *waiting]), outputs=given))
            if self.rows:
                events.append(ResumeRequested(now=now, run_id=self.rng.choice(list(self.rows))))
        if "hand" in FEATURES:
            events += [PauseRequested(now=now)] * 2
        if "queue" in FEATURES:
            events.append(ForceRunRequested(now=now))
            events.append(SlotFreed(now=now))
        if "status" in FEATURES:
            events.append(StatusChanged(now=now, state=self.rng.choice(FINAL)))
            if self.rows:
                run_id = self.rng.choice(list(self.rows))
                attempt = self.header.attempt_number
                events.append(TaskStateChanged(now=now, run_id=run_id, state=self.rng.choice(FINAL), attempt=attempt))
        if self.restarts_paused and paused(self.rows):
            attempt = self.header.attempt_number - self.rng.choice([0, 0, 0, 1])
            events += [RestartRequested(now=now, attempt=attempt, revision=1)] * 3
        if self.header.is_closing:
            events += [KillRequested(now=now)] * 2
        if "labels" in FEATURES:
            events.append(LabelsSet(now=now, labels={self.rng.choice("ab"): self.rng.choice("xy")}))
        if events:
            self.apply(self.rng.choice(events))

    def heal(self) -> None:
        """The next thing that ends it without more trouble."""
        if self.mail:
            self.deliver()
        elif self.queue:
            self.take()
        elif self.hands:
            self.work(self.hands[0])
        elif self.unfinished():
            self.end_child(self.unfinished()[0])
        elif not self.sweep():
            self.go_on()

    def go_on(self) -> None:
        """What waits for a person, a slot or its time goes on."""
        timers = self.timers()
        if self.referee.standing.phase == "queued":
            self.apply(SlotFreed(now=self.tick()))
        elif self._is_paused() and (not timers or self.referee.standing.is_held or self.rng.random() < 0.5):
            waiting = sorted(paused(self.rows))
            self.apply(ResumeRequested(now=self.tick(), run_id=self.rng.choice([None, *waiting])))
        else:
            self.clock(far=True)

    def _is_paused(self) -> bool:
        return self.referee.standing.is_held or bool(paused(self.rows))

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
        if order.task.type in EXECUTABLE:
            self.start_children(order)
            return
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
            update=self._update(job, state),
        )
        self._send(TaskRunFinished(now=self.now, run_id=job.order.run_id, fence=job.order.fence, result=result))

    def _update(self, job: Job, state: State) -> ExecutionUpdate | None:
        """What tasks do that change their own execution."""
        seat = self.referee.seats.get(job.order.run_id)
        if state not in DONE or seat is None or seat.is_cancelled:
            return None
        return update_of(self.rng, self.referee.reckoner.specs[job.order.task.id])

    def _state(self, job: Job) -> State:
        draw = self.rng.random()
        if job.is_cancelled and draw < 0.7:
            return State.KILLED
        if draw < self.flaky or (self._asks_for_another(job) and self.dice.random() < 0.8):
            return State.FAILED
        return State.WARNING if draw < self.flaky + 0.08 else State.KILLED if draw > 0.995 else State.SUCCESS

    def _asks_for_another(self, job: Job) -> bool:
        """True where a child of a directory failed that is to be tried again by a new execution."""
        last = job.children[-1] if job.children else None
        retry = self.referee.retries.get(last.task_id) if last is not None and last.state is State.FAILED else None
        return retry is not None and retry.behavior == "CREATE_NEW_EXECUTION"

    def _child(self, job: Job) -> bool:
        order = job.order
        child = next_child(self.rng, self.now, job, order.task, (self.header.id, order.run_id))
        if child is not None:
            self._send(ChildChanged(now=self.now, run_id=order.run_id, fence=order.fence, child=child))
        return child is not None

    def _send(self, event: Event) -> None:
        if not self.chance("lost", 0.04):
            self.mail.append(event)

    # The executions that a Subflow starts

    def unfinished(self) -> list[Children]:
        """Those of dispatches of which some execution may still be started or end."""
        return [one for one in self.children.values() if one.open() or self._may_start(one)]

    def _may_start(self, children: Children) -> bool:
        seat = self.referee.seats.get(children.order.run_id)
        is_current = seat is not None and seat.fence == children.order.fence and seat.phase == "running"
        return (
            len(children.states) < children.total
            and is_current
            and not children.is_killed
            and not (seat and seat.is_cancelled)
        )

    def start_children(self, order: RunTask) -> None:
        """Start some or all executions of a dispatch, in the transaction that tells the machine."""
        key = (order.run_id, order.fence)
        spec = self.referee.reckoner.specs[order.task.id]
        children = self.children.get(key) or Children(order, spec["total"])
        if key not in self.children and self.rng.random() < 0.07:
            result = WorkerResult(
                state=State.FAILED, started_at=self.now, ended_at=self.now, retryable=self.rng.random() < 0.5
            )
            self._send(TaskRunFinished(now=self.now, run_id=order.run_id, fence=order.fence, result=result))
            return
        begun = len(children.states)
        started = self.rng.randint(min(begun + 1, children.total), children.total)
        now = self.tick()
        event = SubflowStarted(
            now=now, run_id=order.run_id, fence=order.fence, total=children.total, started=max(started, begun)
        )
        if self.chance("crash_before", 0.05):
            self.trace.append(f"crash before the commit of {short(event)}")
            self.machine.advance(self.index, self.live, event)
            self.restart()
            return
        if self.apply(event):
            self.children[key] = children
            children.states += [None] * (started - begun)

    def end_child(self, children: Children) -> None:
        """One more execution is started, or one ends."""
        self.tick()
        if self._may_start(children) and (not children.open() or self.rng.random() < 0.5):
            self.start_children(children.order)
            return
        if not children.open():
            return
        index = self.rng.choice(children.open())
        draw = self.rng.random()
        state = State.SUCCESS
        if children.is_killed and draw < 0.8:
            state = State.KILLED
        elif draw < self.flaky:
            state = State.FAILED
        elif draw < self.flaky + 0.15:
            state = self.rng.choice([State.WARNING, State.WARNING, State.KILLED, State.CANCELLED])
        children.states[index] = state
        self._send(self._ended(children, index))

    def _ended(self, children: Children, index: int) -> SubflowEnded:
        run_id, fence = children.key
        state = children.states[index] or State.SUCCESS
        return SubflowEnded(
            now=self.now, run_id=run_id, fence=fence, index=index, state=state, outputs={"value": index}
        )

    def _recover(self, run_id: str, seat: Seat) -> bool:
        """What the engine finds out about a Subflow's dispatch after a crash; False when it knows all."""
        key = (run_id, seat.fence)
        children = self.children.get(key)
        if children is None:
            if key in {(order.run_id, order.fence) for order in self.queue}:
                return False
            if seat.is_cancelled:
                self._killed(*key)
            else:
                self.queue.append(self.orders[key])
            return True
        if seat.is_cancelled and not children.is_killed:
            children.is_killed = True
            return True
        untold = [
            index for index, state in enumerate(children.states) if state is not None and index not in seat.children
        ]
        if untold:
            self.mail.append(self._ended(children, untold[0]))
        elif seat.is_cancelled and not children.open():
            self._killed(*key)
        return bool(untold) or (seat.is_cancelled and not children.open())

    def _killed(self, run_id: str, fence: int) -> None:
        result = WorkerResult(state=State.KILLED, started_at=self.now, ended_at=self.now)
        self.mail.append(TaskRunFinished(now=self.now, run_id=run_id, fence=fence, result=result))

    def sweep(self) -> bool:
        """Declare lost what no worker has and no queue holds; False when there is nothing."""
        held = {(job.order.run_id, job.order.fence) for job in self.hands}
        held |= {(order.run_id, order.fence) for order in self.queue}
        for run_id, seat in self.referee.seats.items():
            if seat.is_executable:
                if seat.phase != "over" and self._recover(run_id, seat):
                    return True
                continue
            if seat.phase != "over" and (run_id, seat.fence) not in held:
                self.mail.append(WorkerLost(now=self.now, run_id=run_id, fence=seat.fence))
                return True
        return False

    def timers(self) -> list[tuple[datetime, str]]:
        """What is set, soonest first; the execution's own has no id."""
        own = [] if self.header.due is None else [(self.header.due, "")]
        return sorted([*own, *((run.due, run.id) for run in self.rows.values() if run.due is not None)])

    def clock(self, *, far: bool = False) -> None:
        """Time passes, and a timer fires if one is due."""
        timers = self.timers()
        if far:
            demand(timers, "Nothing is under way and no timer is set, yet it has not ended.")
            self.now = max(self.now, timers[0][0])
        else:
            self.now += timedelta(seconds=self.rng.choice([1, 15, 70, 400]))
        due = [run_id for at, run_id in timers if at <= self.now]
        if due:
            self.ring(due[0] if far else self.rng.choice(due))

    def ring(self, run_id: str) -> None:
        """A timer fires."""
        now = self.tick()
        if run_id:
            self.apply(TimerDue(now=now, run_id=run_id, fence=self.rows[run_id].fence))
        elif self.header.state is State.CREATED:
            self.apply(ExecutionCreated(now=now, has_slot=self.has_slot))
        else:
            self.apply(ExecutionTimerDue(now=now))

    # One event

    def apply(self, event: Event) -> bool:
        """Let the machine decide, check, commit, carry out; False where the event was out of date."""
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
            if self.replays and self.referee.accepted == self.keeps_at and self.header.is_open:
                self.snapshot = (dict(self.rows), deepcopy(self.referee), self.header)
            self.check_rest()
            if self.rng.random() < 0.1 and not self._may_repeat(event):
                again = self.machine.advance(self.index, self.live, event)
                demand(again.is_empty, f"{short(event)} changed something the second time.")
            if self.rng.random() < 0.1:
                self.check_rebuilt()
        if self.chance("crash_after", 0.04):
            self.trace.append("crash after the commit")
            if self.rng.random() < 0.5:
                self.queue.clear()
                self.hands.clear()
            self.orders |= {(one.run_id, one.fence): one for one in change.commands if isinstance(one, RunTask)}
            self.restart()
            return good
        for command in change.commands:
            match command:
                case RunTask():
                    self.queue.append(command)
                    self.orders[command.run_id, command.fence] = command
                    self.kept[command.run_id, command.fence] = {
                        run.task_id: run for run in self.rows.values() if run.parent_id == command.run_id
                    }
                case CancelTask():
                    self.cancel(command)
                case _:
                    pass
        return good

    def _may_repeat(self, event: Event) -> bool:
        """True for what may be meant a second time: the next one that is paused, what runs after the end."""
        match event:
            case ResumeRequested() | ForceRunRequested():
                return bool(paused(self.rows))
            case KillRequested():
                return self.header.is_closing
            case TimerDue():
                run = self.rows.get(event.run_id)  # a late round may have its timeout behind it already
                return run is not None and run.due is not None and run.due <= event.now
            case _:
                return False

    def cancel(self, command: CancelTask) -> None:
        """A queued job is reported as killed, a running one is told."""
        key = (command.run_id, command.fence)
        if self.chance("lost", 0.1):
            return
        for order in [order for order in self.queue if (order.run_id, order.fence) == key]:
            self.queue.remove(order)
            self._killed(order.run_id, order.fence)
        if key in self.children:
            self.children[key].is_killed = True
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
        demand(self.referee.waits_for(self.rows), "Nothing is under way, yet it has not ended.")
        seats = self.referee.seats.values()
        waiting = [seat for seat in seats if seat.retry_at is not None]
        busy = [seat for run_id, seat in self.referee.seats.items() if seat.phase != "over" and not self._rests(run_id)]
        rests = not busy and bool(waiting or [seat for seat in seats if seat.phase != "over"])
        expected = self.referee.standing.state(self.rows, rests=rests)
        demand(self.header.state is expected, f"The execution is {self.header.state}, not {expected}.")

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
        demand(rebuilt.scopes.keys() == live.scopes.keys(), "Other scopes are open than the rows give.")
        for run_id, scope in live.scopes.items():
            kept, made = counts(scope), counts(rebuilt.scopes[run_id])
            wrong = [name for name, value in kept.items() if made.get(name) != value]
            told = ", ".join(f"{name} {kept[name]} and not {made.get(name)}" for name in wrong)
            demand(not wrong, f"A scope is not what its rows give: {told}.")


def copied(rows: dict[str, TaskRun], copies: dict[str, TaskRun], execution_id: str) -> dict[str, str]:
    """For the id of each row that was copied that of its copy; checks the copies."""
    ids: dict[str, str] = {}
    for run in sorted(rows.values(), key=lambda one: depth(one, rows)):
        if run.parent_id is not None and run.parent_id not in ids:
            continue
        parent_id = None if run.parent_id is None else ids[run.parent_id]
        id_ = task_run_id(execution_id, parent_id, run.task_id, run.value, run.iteration)
        if id_ in copies:
            ids[run.id] = id_
            copy = copies[id_]
            demand(copy.history[: len(run.history)] == run.history, f"{run.task_id} has another past in its copy.")
            demand(copy.outputs == run.outputs and _is_past(copy, run), f"{run.task_id} is another copy.")
            demand(copy.fence == 0 and copy.due is None and copy.state in ENDED, f"{run.task_id} is no past.")
            demand(copy.lost == 0, f"The copy of {run.task_id} has losses.")
    demand(len(ids) == len(copies), "There are copies of nothing.")
    return ids


def _is_past(copy: TaskRun, run: TaskRun) -> bool:
    """True where a copy has the attempts of its original, and none that goes on."""
    if run.state in ENDED:
        return copy.attempts == run.attempts
    same = len(copy.attempts) == len(run.attempts) and copy.attempts[:-1] == run.attempts[:-1]
    return same and all(attempt.state in ENDED for attempt in copy.attempts)


def depth(run: TaskRun, rows: dict[str, TaskRun]) -> int:
    """How many task runs it is inside of."""
    return 0 if run.parent_id is None else 1 + depth(rows[run.parent_id], rows)


def counts(scope: Any) -> dict[str, object]:
    """What a scope counts, without what is only there on the way."""
    left_out = {"parent", "place", "main", "lanes", "finally_started", "errors_started"}
    if scope.is_stopped or scope.is_killing:  # no lane is opened any more
        left_out |= {"next_lane", "_opened", "_openable"}
    found = {name: getattr(scope, name) for name in type(scope).__slots__ if name not in left_out}
    return {**found, "ready": sorted(scope.ready), "_openable": sorted(found.get("_openable", ()))}


def short(event: Event) -> str:
    """An event in one line."""
    detail = ""
    if isinstance(event, TaskRunFinished):
        detail = f" {event.result.state}{'' if event.result.retryable else ' for good'}"
    elif isinstance(event, ChildChanged):
        detail = f" {event.child.task_id} {event.child.state}"
    run_id = getattr(event, "run_id", "") or ""
    fence = f" #{event.fence}" if hasattr(event, "fence") else ""  # type: ignore[attr-defined]
    return f"{event.now:%H:%M:%S.%f} {type(event).__name__} {run_id[:6]}{fence}{detail}"


__all__ = ["FAULTS", "Machine", "ViolationError", "World", "counts", "short"]
