"""One history: executions, processes that share a store, users, workers, a clock and faults, drawn from one seed."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from msgspec.structs import replace

from tercel.errors import NotFoundError, StorageError, TercelError
from tercel.executor import Executor
from tercel.executor.children import parent_of
from tercel.inbox import Letter
from tercel.machine import Change, FlowIndex, LiveExecution, Requests, advance, compile_flow
from tercel.machine.index import Place as TaskPlace
from tercel.machine.live import plan_of
from tercel.machine.messages import (
    ChildChanged,
    Event,
    ExecutionCreated,
    ForceRunRequested,
    KillRequested,
    LabelsSet,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    StatusChanged,
    TaskRunFinished,
    TaskRunStarted,
    TaskStateChanged,
    WorkerLost,
)
from tercel.model.execution import Execution, TaskRun, child_execution_id, execution_id_at
from tercel.model.jobs import ExecutionUpdate, WorkerJob, WorkerResult
from tercel.model.state import State, StateChange
from tercel.model.working_directory import DirectoryTask
from tercel.store import Changes, Promise, StaleExecutionError, Transaction, Triggers, TriggerWindow, run
from tests.simulation.flows import FEATURES, INPUTS, Spec, build
from tests.simulation.referee import ENDED, demand
from tests.simulation.restarts import DONE, Reckoner
from tests.simulation.standing import paused
from tests.simulation.workers import next_child, update_of
from tests.simulation.world import FINAL, short
from tests.simulation_stores.faults import CrashError
from tests.simulation_stores.inline import with_inline_tasks
from tests.simulation_stores.mirror import Mirror
from tests.simulation_stores.places import Place
from tests.simulation_stores.process import Job, Process

CHILDREN: dict[str, Spec] = {
    "child": {"kind": "flow", "tasks": [{"kind": "job", "id": "j1"}, {"kind": "job", "id": "j2"}]},
    "queued child": {"kind": "flow", "tasks": [{"kind": "job", "id": "j1"}], "concurrency": "QUEUE"},
}
"""The flows that tasks start."""

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FAULTS = (
    "crash before commit",
    "crash after commit",
    "crash between",
    "error before commit",
    "error after commit",
    "error while reading",
    "interleave",
    "second process",
    "duplicate",
    "ghost",
    "death",
    "kill",
    "meddle",
    "restart",
    "no folder",
)


class Reaction:
    """What follows from an end."""

    def __init__(self, executions: Sequence[Execution], windows: Sequence[TriggerWindow]) -> None:
        self.executions = executions
        self._windows = windows

    def write(self, triggers: Triggers, tx: Transaction) -> None:
        triggers.save_windows(tx, self._windows)


def reaction_id(execution: Execution, index: int) -> str:
    return execution_id_at(execution.history[index].date, ["reaction", execution.id, index])


def window_of(execution_id: str, index: int) -> TriggerWindow:
    return TriggerWindow(
        namespace="simulation",
        flow_id="child",
        trigger_id="trigger",
        window_id=f"{execution_id} {index}",
        start=NOON,
        end=NOON,
        results={},
    )


class World:
    """One history.

    Args:
        specs: the flow of each execution.
        place: an empty database.
        faults: those of `FAULTS` that may happen.
    """

    def __init__(self, specs: Sequence[Spec], seed: int, faults: frozenset[str], place: Place) -> None:
        rng = self.rng = Random(seed)
        self.faults = faults
        self.place = place
        self.now = NOON
        self.trace: list[str] = []
        self.specs = {f"f{number}": spec for number, spec in enumerate(specs)} | CHILDREN
        self.flows: dict[str, FlowIndex] = {
            flow_id: compile_flow(with_inline_tasks(build(spec), seed)) for flow_id, spec in self.specs.items()
        }
        self.tasks = {flow_id: Reckoner(spec).specs for flow_id, spec in self.specs.items()}
        self.wanted = {
            f"e{number}{letter}": f"f{number}"
            for number, spec in enumerate(specs)
            for letter in ("abc" if "concurrency" in spec else "a")
        }
        self.mirrors: dict[str, Mirror] = {}
        self.processes: list[Process] = []
        self.acting: list[Process] = []
        self.ghosts: list[Job] = []
        self.past: list[tuple[str, Event]] = []
        self.sent: list[tuple[Process, str, Event, Promise[None]]] = []
        self.accepted: dict[int, tuple[Event, Change]] = {}
        self.restarts: Counter[str] = Counter()
        self.orphans: set[str] = set()
        self.opened = 0
        self.is_healing = False
        self.looks = 0
        self.must_succeed = False
        self.violation: Exception | None = None
        self.again: set[str] = set()
        self.commits = 0
        self.often = rng.choice([0.0, 0.01, 0.05, 0.2])
        self.reacts = rng.random() < 0.5
        self.cannot_plan = 0.07
        self.flaky = rng.choice([0.02, 0.1, 0.25, 0.5])
        self.tick_s = rng.choice([0.0001, 0.01, 0.03])
        self.most_live = rng.choice([1, 2, 1000])
        self.monotonic_s = 0.0

    # The history

    def run(self) -> None:
        """All executions to their ends, some of them several times."""
        self.place.clear()
        try:
            with self._installed():
                self.open()
                for _ in range(self.rng.randint(30, 150)):
                    self.move()
                self.is_healing = True
                for _ in range(4000):
                    if not self.heal():
                        break
                self.check_end()
        finally:
            for process in self.processes:
                process.die()

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """Look on whenever an executor asks the machine, and let no real time count."""
        module: Any = sys.modules[Executor.__module__]
        before = module.advance, module.monotonic
        module.advance, module.monotonic = self._advance, self._monotonic
        try:
            yield
        finally:
            module.advance, module.monotonic = before

    def _advance(self, flow: FlowIndex, live: LiveExecution, event: Event, *others: Any, **named: Any) -> Change:
        before = live.execution
        change = advance(flow, live, event, *others, **named)
        self.acting[-1].decided.setdefault(before.id, []).append((before, event, change))
        return change

    def _monotonic(self) -> float:
        self.monotonic_s += self.tick_s
        return self.monotonic_s

    def clock(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def tick(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def chance(self, fault: str, probability: float) -> bool:
        drawn = self.rng.random() < probability
        return drawn and fault in self.faults and not self.is_healing

    @property
    def open_ones(self) -> list[Mirror]:
        return [mirror for mirror in self.mirrors.values() if not mirror.has_ended]

    def owner_of(self, execution_id: str) -> Process | None:
        """The live process that has an execution; None where that is dead or may be another one soon."""
        mirror = self.mirrors.get(execution_id)
        if mirror is not None and mirror.has_ended and len(self.processes) > 1:
            return None  # somebody may restart it elsewhere
        fit = [one for one in self.processes if mirror is None or one.owner == mirror.owner or mirror.has_ended]
        return self.rng.choice(fit) if fit else None

    def move(self) -> None:
        """One random thing happens."""
        draw = self.rng.random()
        process = self.rng.choice(self.processes)
        if draw < 0.40:
            self.turn(process)
        elif draw < 0.70 and process.hands:
            self.work(process, self.rng.choice(process.hands))
        elif draw < 0.78:
            self.start()
        elif draw < 0.88:
            self.now += timedelta(seconds=self.rng.choice([1, 15, 70, 400]))
        else:
            self.trouble(process)

    def trouble(self, process: Process) -> None:
        """One fault, or something that a person does."""
        draw = self.rng.random()
        if draw < 0.15 and self.chance("crash between", 1):
            self.crash(process, "between two steps")
        elif draw < 0.2 and len(self.processes) < 2 and self.chance("second process", 1):
            self.open()
        elif draw < 0.35 and self.past and self.chance("duplicate", 1):
            execution_id, event = self.rng.choice(self.past)
            self.send(execution_id, event)
        elif draw < 0.45 and self.ghosts and self.chance("ghost", 1):
            self.ghost(self.ghosts.pop())
        elif draw < 0.5 and process.hands and self.chance("death", 1):
            held = self.rng.choice(process.hands)
            if self.rng.random() < 0.5:
                process.hands.remove(held)
                held.lease.acknowledge()
            lost = WorkerLost(now=self.tick(), run_id=held.job.task_run_id, fence=held.job.fence)
            self.send(held.job.execution_id, lost)
        elif draw < 0.55 and self.mirrors and self.chance("kill", 0.5):
            is_deep = self.rng.random() < 0.8
            self.send(self.rng.choice(list(self.mirrors)), KillRequested(now=self.now, cascade=is_deep))
        elif draw < 0.7 and self.mirrors and self.chance("meddle", 0.5):
            self.meddle()
        elif draw > 0.7 and self.chance("restart", 1):
            self.restart()

    def heal(self) -> bool:
        """The next thing that brings all to their ends without more trouble; False where nothing is left to do."""
        for process in list(self.processes):
            if process.executor.failure is not None:
                self.crash(process, "as it had failed")
                return True
            if process.executor.has_work:
                self.processes.sort(key=lambda one: one is process)  # the next time it is another one's turn
                self.turn(process)
                return True
        self.check_idle()
        for process in self.processes:
            if process.hands:
                self.work(process, process.hands[0])
                return True
        if self.start():
            return True
        left = self.open_ones
        if not left:
            return self.restart_again()
        timers = [row.due for mirror in left for row in mirror.rows.values() if row.due is not None]
        timers += [mirror.header.due for mirror in left if mirror.header.due is not None]
        held = [mirror for mirror in left if mirror.is_paused]
        if timers and max(timers) > self.now and not (held and self.rng.random() < 0.5):
            self.now = min(at for at in timers if at > self.now)
            return True
        if held:
            self.send(held[0].header.id, ResumeRequested(now=self.now))
            return True
        looks = [at for process in self.processes if (at := process.executor.looks_at) is not None]
        if looks and self.looks < 50:
            self.looks += 1
            self.now = max(self.now, *looks)
            return True
        waiting = {mirror.header.id for mirror in left}
        demand(waiting & self.orphans, f"Nothing moves, yet these have not ended: {sorted(waiting)}.")
        self.crash(self.processes[0], "as nothing moves after an error")
        return True

    def check_idle(self) -> None:
        """Nothing is left to apply: what does not depend on time, workers or people has to have happened."""
        for mirror in self.open_ones:
            for row in mirror.rows.values():
                if row.state is not State.KILLING or self._place(mirror, row).executable is None:
                    continue
                for number in range(int(str(plan_of(row).get("started", 0)))):
                    child = self.mirrors[child_execution_id(row, number)]
                    is_told = child.has_ended or child.header.state is State.KILLING or child.owner != mirror.owner
                    demand(is_told, f"{row.task_id} is killed, and its child {number} does not know.")
        if self.opened > 1:
            return  # one that waits in another process looks only now and then
        for mirror in self.open_ones:
            fellows = [one for one in self.mirrors.values() if one.header.flow_id == mirror.header.flow_id]
            is_free = not any(one.has_begun and not one.has_ended for one in fellows)
            demand(
                mirror.header.state is not State.QUEUED or not is_free,
                f"{mirror.header.id} waits, though nobody has the slot.",
            )

    def _place(self, mirror: Mirror, row: TaskRun) -> TaskPlace:
        return self.flows[mirror.header.flow_id].places[row.task_id]

    def restart_again(self) -> bool:
        """Now that nothing disturbs it, a restart has to succeed in every process; False where all have had theirs."""
        left = [one for one in self.mirrors.values() if one.header.id not in self.again]
        if not left or "restart" not in self.faults:
            return False
        mirror = left[0]
        self.again.add(mirror.header.id)
        event = RestartRequested(now=self.now, attempt=mirror.header.attempt_number, revision=1)
        if mirror.is_judged and mirror.referee.is_good(event, mirror.rows):
            self.must_succeed = True
            self.send(mirror.header.id, event, self.rng.choice(self.processes))
        return True

    def check_end(self) -> None:
        """All have ended, everybody knows, and the ends are right."""
        demand(set(self.mirrors) >= set(self.wanted), "An execution was never begun.")
        for process in self.processes:
            for mirror in self.mirrors.values():
                mirror.compare(process.store)
            demand(not run(process.store.executions.open_elsewhere()), "Something is open.")
            windows = run(process.store.triggers.windows("simulation", "child", "trigger"))
            ends = [(mirror.header.id, end) for mirror in self.mirrors.values() for end in self._ends(mirror.header)]
            demand(
                {window.window_id for window in windows} == {window_of(*end).window_id for end in ends},
                "The windows are not those of the ends.",
            )
        for mirror in self.mirrors.values():
            demand(mirror.has_ended, f"{mirror.header.id} does not end: it is {mirror.header.state}.")
            mirror.judge_end()

    # Processes

    def open(self) -> Process:
        """A process starts: it adopts what dead ones left open, and goes on with it."""
        self.opened += 1
        owner = f"p{self.opened}"
        process = Process(
            owner,
            self.place.open(owner),
            gate=lambda point: self.gate(process, point),
            committed=lambda written: self.noted(lambda: self.committed(process, written)),
            find_flow=self._flow_finder(lambda point: self.gate(process, point)),
            run_inline=self.run_inline,
            plan=self.plan,
            start_child=self.start_child,
            react=self.react,
            clock=self.clock,
            slots=self.rng.randint(1, 4),
            most_live=self.most_live,
            keeps_folder=lambda: not self.chance("no folder", 0.3),
            taken=lambda job: self.noted(lambda: self.taken(job)),
        )
        self.processes.append(process)
        self.trace.append(f"{owner} starts")
        living = {one.owner for one in self.processes}
        found = run(process.store.executions.open_elsewhere())
        left = {execution_id: of for execution_id, of in found.items() if of not in living}
        expected = {one.header.id: one.owner for one in self.open_ones if one.owner not in living}
        demand(left == expected, f"{left} is said to be open, not {expected}.")
        if left:
            adopted = process.store.executions.adopt(left).wait()
            demand(adopted == list(left), f"{adopted} was adopted, not {list(left)}.")
            for execution_id in adopted:
                self.mirrors[execution_id].owner = owner
            self.orphans.difference_update(adopted)
            if self.chance("crash after commit", 0.1):
                self.crash(process, "between adoption and recovery")
                return self.processes[-1]
            process.executor.recover(adopted)
        return process

    def _flow_finder(self, gate: Callable[[str], None]) -> Any:
        async def find(namespace: str, flow_id: str, revision: int) -> FlowIndex:
            gate("read flow")
            return self.flows[flow_id]

        return find

    def crash(self, process: Process, when: str) -> None:
        """A process dies; another one takes over, if it was the last."""
        self.trace.append(f"{process.owner} dies {when}")
        self.processes.remove(process)
        self.sent = [one for one in self.sent if one[0] is not process]
        self.ghosts = [held for held in process.hands if held.has_begun][-3:]
        process.die()
        self.open()

    def gate(self, process: Process, point: str) -> None:
        """What happens at one point of a process."""
        if self.is_healing or not self.rng.random() < self.often:
            return
        draw = self.rng.random()
        others = [one for one in self.processes if one is not process and one not in self.acting]
        if draw < 0.3 and others and "interleave" in self.faults:
            self.trace.append(f"({process.owner} at {point!r}:)")
            self.turn(others[0])
        elif draw < 0.65 and (fault := f"crash {point}" if "commit" in point else "crash between") in self.faults:
            self.trace.append(f"{process.owner} dies at {point!r} ({fault})")
            raise CrashError
        elif point in ("before commit", "after commit") and f"error {point}" in self.faults:
            self.trace.append(f"{process.owner} has an error {point}")
            raise StorageError("The disk is full.")
        elif point.startswith("read") and "error while reading" in self.faults:
            self.trace.append(f"{process.owner} has an error at {point!r}")
            raise StorageError("The database is locked.")

    def noted(self, look: Callable[[], None]) -> None:
        """Look at something inside of an executor's turn, which may catch what that raises."""
        try:
            look()
        except Exception as error:
            self.violation = self.violation or error
            raise

    def turn(self, process: Process) -> None:
        """A process applies what has arrived, and everybody who waits is told."""
        self.noted(lambda: self._turn(process))

    def _turn(self, process: Process) -> None:
        if not process.executor.has_work or process.executor.failure is not None:
            return
        self.trace.append(f"{process.owner} {{")
        self.tick()
        self.acting.append(process)
        try:
            letters = process.executor.turn()
        except CrashError:
            self.acting.pop()
            process.decided.clear()
            self.crash(process, "there")
            return
        self.acting.pop()
        if self.violation is not None:
            raise self.violation
        self.trace.append(f"}} {process.owner}")
        failure = process.executor.failure
        if failure is None:
            self._settle(process)
        process.decided.clear()
        for letter in letters:
            if isinstance(letter.event, RestartRequested) and self._is_written(letter.event):
                process.waits[letter.execution_id] = process.executor.ended(letter.execution_id)
        self._check_told(process, letters, failure)

    def _settle(self, process: Process) -> None:
        """What was decided and not written must be nothing, or belong to an execution that was refused."""
        refused = process.executor.refused
        for execution_id, error in refused.items():
            demand(isinstance(error, StorageError | StaleExecutionError | NotFoundError), f"{error!r}")
            self.trace.append(f"  {execution_id} refused: {error}")
            self.orphans.add(execution_id)
        for execution_id, decisions in process.decided.items():
            if execution_id in refused:
                continue
            for _, event, change in decisions:
                is_row = change.execution is not None or change.runs or change.removed
                demand(not is_row, f"{short(event)} of {execution_id} was decided, and not written.")
                self._accept(execution_id, event)

    def _check_told(self, process: Process, letters: Sequence[Letter], failure: BaseException | None) -> None:
        still: list[tuple[Process, str, Event, Promise[None]]] = []
        of_turn = {id(letter.event) for letter in letters}
        for asked, execution_id, event, promise in self.sent:
            if not promise.is_done:
                demand(id(event) not in of_turn, f"Nobody is told what became of {short(event)} of {execution_id}.")
                still.append((asked, execution_id, event, promise))
                continue
            try:
                promise.result()
                is_kept = True
            except TercelError as error:
                is_kept = False
                is_stale = isinstance(error, StaleExecutionError | NotFoundError)
                demand(not (is_stale and self._is_written(event)), f"{short(event)} was refused, yet is written.")
                demand(not self.must_succeed, f"{short(event)} was refused: {error}")
            if isinstance(event, ExecutionCreated):
                demand(not is_kept or execution_id in self.mirrors, f"{execution_id} was promised, and is not written.")
                continue
            demand(not is_kept or id(event) in self.accepted, f"{short(event)} was promised, and is not written.")
        self.sent = still
        for execution_id, ended in list(process.waits.items()):
            mirror = self.mirrors.get(execution_id)
            if failure is not None:
                demand(ended.is_done, f"Who waits for {execution_id} is not told of the failure.")
            elif execution_id in process.executor.refused:
                demand(ended.is_done, f"Who waits for {execution_id} is not told of the error.")
            elif mirror is not None and mirror.has_ended and mirror.owner == process.owner:
                demand(ended.is_done, f"Who waits for {execution_id} is not told of its end.")
            if ended.is_done:
                is_told = failure is not None or execution_id in process.executor.refused
                is_right = mirror is not None and mirror.has_ended and (is_told or ended.result() == mirror.header)
                demand(is_told or is_right, f"The end of {execution_id} was told otherwise than written.")
                del process.waits[execution_id]

    def _is_written(self, event: Event) -> bool:
        return id(event) in self.accepted and not self.accepted[id(event)][1].is_empty

    def committed(self, process: Process, written: list[Changes]) -> None:
        """A transaction is committed: the model takes the same events, and the store must hold the same rows."""
        self.commits += 1
        ids: dict[str, None] = {}
        created = {execution.id: execution for changes in written for execution in changes.created}
        for changes in written:
            ids.update(dict.fromkeys(execution.id for execution in changes.created))
            ids.update(dict.fromkeys(execution.id for execution, _ in changes.changed))
            ids.update(dict.fromkeys(execution_id for execution_id, _ in changes.removed))
            ids.update(dict.fromkeys(row.execution_id for row in changes.runs))
        self.trace.append(f"  {process.owner} commits {' '.join(ids) or 'nothing'}")
        for execution_id in ids:
            decisions = process.decided.pop(execution_id, [])
            if execution_id in created:
                before = decisions[0][0] if decisions else created[execution_id]
                spec, index = self.specs[before.flow_id], self.flows[before.flow_id]
                self.mirrors[execution_id] = Mirror(spec, index, before, process.owner)
            mirror = self.mirrors[execution_id]
            mirror.owner = process.owner
            for _, event, _ in decisions:
                self._accept(execution_id, event)
        for execution_id in ids:
            self.mirrors[execution_id].compare(process.store)
        for execution_id in ids:
            self.check_others(self.mirrors[execution_id])

    def check_others(self, mirror: Mirror) -> None:
        """What a commit says of one execution, it has to say of those that belong to it, too."""
        index = self.flows[mirror.header.flow_id]
        if index.flow.concurrency is not None:
            fellows = [one for one in self.mirrors.values() if one.header.flow_id == mirror.header.flow_id]
            taken = [one.header.id for one in fellows if one.takes_slot]
            limit = index.flow.concurrency.limit
            demand(len(taken) <= limit, f"{taken} run, and {limit} may.")
        for end in self._ends(mirror.header):
            demand(
                reaction_id(mirror.header, end) in self.mirrors, f"Nothing followed from the end of {mirror.header.id}."
            )
        for row in mirror.rows.values():
            if self._place(mirror, row).executable is None:
                continue
            for number in range(int(str(plan_of(row).get("started", 0)))):
                child = self.mirrors.get(child_execution_id(row, number))
                demand(child is not None, f"The child {number} of {row.task_id} was not made with its parent's row.")
                self._check_report(mirror, row, number, child)
        parent = parent_of(mirror.header)
        if parent is not None and parent.execution_id in self.mirrors:
            above = self.mirrors[parent.execution_id]
            row = above.rows.get(parent.run_id)
            if row is not None and row.fence == parent.fence:
                self._check_report(above, row, parent.number, mirror)

    def _check_report(self, above: Mirror, row: TaskRun, number: int, child: Mirror) -> None:
        """A task run knows which of its executions have ended, as long as it waits for them."""
        waits = row.state in (State.RUNNING, State.KILLING)
        if not child.has_ended or not waits or child.header.state is State.RETRIED:
            return
        ended = int(str(plan_of(row).get("ended", "0")), 16)
        demand(ended >> number & 1, f"{row.task_id} does not know that its child {number} has ended.")

    def _accept(self, execution_id: str, event: Event) -> None:
        mirror = self.mirrors.get(execution_id)
        if mirror is None:
            return
        change = mirror.apply(event)
        self.trace.append(f"    {execution_id} {short(event)}{'' if not change.is_empty else '  (out of date)'}")
        self.accepted[id(event)] = event, change
        if not change.is_empty:
            self.past.append((execution_id, event))

    # Users

    def send(self, execution_id: str, event: Event, process: Process | None = None) -> Promise[None] | None:
        """Somebody tells the process that has an execution of an event."""
        process = process or self.owner_of(execution_id)
        if process is None:
            return None
        event = replace(event, now=self.tick())
        promise = process.executor.apply(execution_id, event)
        self.sent.append((process, execution_id, event, promise))
        return promise

    def start(self) -> bool:
        """Somebody starts the next flow, or one of which they do not know that it was started."""
        under_way = {execution_id for _, execution_id, _, promise in self.sent if not promise.is_done}
        left = [one for one in self.wanted if one not in self.mirrors and one not in under_way]
        if not left:
            return False
        execution_id = left[0]
        spec = self.specs[self.wanted[execution_id]]
        process = self.rng.choice(self.processes)
        execution = Execution(
            id=execution_id,
            namespace="simulation",
            flow_id=self.wanted[execution_id],
            revision=1,
            inputs=INPUTS,
            history=(StateChange(State.CREATED, self.tick()),),
            schedule_date=self.now + timedelta(minutes=1) if "schedule" in spec else None,
        )
        process.waits[execution_id] = process.executor.ended(execution_id)
        promise = process.executor.create(execution)
        letters = process.executor._inbox._letters
        event = letters[-1].event if letters and letters[-1].promise is promise else None
        if event is not None:
            self.sent.append((process, execution_id, event, promise))
        return True

    def restart(self) -> None:
        """Somebody restarts what has ended, or two people do at once."""
        ended = [one for one in self.mirrors.values() if one.has_ended and self.restarts[one.header.id] < 3]
        if not ended:
            return
        mirror = self.rng.choice(ended)
        execution_id = mirror.header.id
        self.restarts[execution_id] += 1
        self.past = [(id_, event) for id_, event in self.past if not isinstance(event, KillRequested)]
        for process in self.rng.sample(self.processes, self.rng.randint(1, len(self.processes))):
            event = RestartRequested(
                now=self.now,
                attempt=mirror.header.attempt_number,
                revision=1,
                from_scratch=self.rng.random() < 0.2,
            )
            self.send(execution_id, event, process)

    def meddle(self) -> None:
        """Somebody does something to an execution, sensible or not."""
        mirror = self.rng.choice(list(self.mirrors.values()))
        events: list[Event] = []
        if "pause" in FEATURES or "hand" in FEATURES:
            waiting = self.rng.choice([None, *sorted(paused(mirror.rows))])
            events.append(ResumeRequested(now=self.now, run_id=waiting, outputs={"onResume": {"value": 1}}))
        if "hand" in FEATURES:
            events += [PauseRequested(now=self.now)] * 2
        if "queue" in FEATURES:
            events.append(ForceRunRequested(now=self.now))
        if "status" in FEATURES:
            events.append(StatusChanged(now=self.now, state=self.rng.choice(FINAL)))
        if "task_state" in FEATURES and mirror.rows:
            run_id, attempt = self.rng.choice(list(mirror.rows)), mirror.header.attempt_number
            state = self.rng.choice(FINAL)
            events.append(TaskStateChanged(now=self.now, run_id=run_id, state=state, attempt=attempt))
        if "labels" in FEATURES:
            events.append(LabelsSet(now=self.now, labels={self.rng.choice("ab"): self.rng.choice("xy")}))
        if events:
            self.send(mirror.header.id, self.rng.choice(events))

    # Executions that others start

    def plan(self, job: WorkerJob) -> Requests | WorkerResult:
        """How many executions a task starts; now and then it cannot be said."""
        if Random(f"{job.task_run_id} {job.fence}").random() < self.cannot_plan:
            now = self.clock()
            return WorkerResult(state=State.FAILED, message="no", started_at=now, ended_at=now)
        request: Any = None
        return Requests(self.tasks[job.flow_id][job.task.id]["total"], lambda _: request)

    async def start_child(self, _: Any, parent: Execution, row: TaskRun, number: int) -> Execution:
        self.gate(self.acting[-1], "read child flow")
        return Execution(
            id=child_execution_id(row, number),
            namespace="simulation",
            flow_id=list(CHILDREN)[len(row.id + row.task_id) % len(CHILDREN)],
            revision=1,
            inputs=INPUTS,
            history=(StateChange(State.CREATED, self.clock()),),
            trigger={
                "variables": {"executionId": parent.id},
                "taskRunId": row.id,
                "fence": row.fence,
                "number": number,
            },
        )

    async def react(
        self, execution: Execution, *, since: int, pending: Any, runs: Sequence[TaskRun], variables: Any
    ) -> "Reaction":
        """A Flow trigger that starts an execution whenever another one has ended, and keeps a window of each."""
        self.gate(self.acting[-1], "read triggers")
        ends = self._ends(execution, since)
        return Reaction(
            [
                Execution(
                    id=reaction_id(execution, index),
                    namespace="simulation",
                    flow_id="child",
                    revision=1,
                    inputs=INPUTS,
                    history=(StateChange(State.CREATED, self.clock()),),
                )
                for index in ends
            ],
            [window_of(execution.id, index) for index in ends],
        )

    def _ends(self, execution: Execution, since: int = 0) -> list[int]:
        """Which entries of an execution's history its triggers react to."""
        if not self.reacts or execution.flow_id in CHILDREN:
            return []
        last = len(execution.history) - 1
        return [
            index
            for index, change in enumerate(execution.history)
            if index >= since and change.state in ENDED and not (index == last and execution.is_open)
        ]

    # Workers

    def taken(self, job: WorkerJob) -> None:
        """A worker takes a job: what it belongs to has to be committed."""
        mirror = self.mirrors.get(job.execution_id)
        row = None if mirror is None else mirror.rows.get(job.task_run_id)
        demand(row is not None and row.fence >= job.fence, f"{job.task.id} came to a worker before its commit.")

    def run_inline(self, job: WorkerJob) -> WorkerResult:
        """The executor answers a task itself: only one that is still wanted."""
        is_wanted = self.acting[-1].executor.is_wanted(job)
        self.noted(lambda: demand(is_wanted, f"{job.task.id} runs, which nobody wants any more."))
        began, state = self.clock(), self._state()
        update = self._update(job, state)
        return WorkerResult(state=state, outputs={"value": 1}, started_at=began, ended_at=self.clock(), update=update)

    def work(self, process: Process, held: Job) -> None:
        """A worker gets on with a job: its start, the next row of a child, or its end."""
        job = held.job
        now = self.tick()
        if not held.has_begun and not (held.is_cancelled and self.rng.random() < 0.5):
            held.has_begun = True
            started = TaskRunStarted(now=now, run_id=job.task_run_id, fence=job.fence, worker=process.owner)
            process.executor.post(job.execution_id, started)
            return
        if isinstance(job.task, DirectoryTask) and not held.is_cancelled and self._child(process, held):
            return
        process.hands.remove(held)
        event = self._finished(held)
        promise = process.executor.apply(job.execution_id, event)
        self.sent.append((process, job.execution_id, event, promise))
        promise.when_done(held.lease.acknowledge)

    def ghost(self, held: Job) -> None:
        """A job of a dead process reports after all."""
        self.send(held.job.execution_id, self._finished(held))

    def _finished(self, held: Job) -> TaskRunFinished:
        state = State.KILLED if held.is_cancelled and self.rng.random() < 0.7 else self._state()
        result = WorkerResult(
            state=state,
            outputs={"value": held.job.attempt, "at": self.now},
            started_at=self.now - timedelta(microseconds=500),
            ended_at=self.now,
            retryable=self.rng.random() < 0.9,
            update=None if held.is_cancelled else self._update(held.job, state),
        )
        return TaskRunFinished(now=self.now, run_id=held.job.task_run_id, fence=held.job.fence, result=result)

    def _update(self, job: WorkerJob, state: State) -> ExecutionUpdate | None:
        """What tasks do that change their own execution."""
        return update_of(self.rng, self.tasks[job.flow_id][job.task.id]) if state in DONE else None

    def _state(self) -> State:
        draw = self.rng.random()
        if draw < self.flaky:
            return State.FAILED
        return State.WARNING if draw < self.flaky + 0.08 else State.KILLED if draw > 0.995 else State.SUCCESS

    def _child(self, process: Process, held: Job) -> bool:
        """The next row of a WorkingDirectory's child; False where there is none."""
        job = held.job
        child = next_child(self.rng, self.now, held, job.task, (job.execution_id, job.task_run_id))
        if child is None:
            return False
        changed = ChildChanged(now=self.now, run_id=job.task_run_id, fence=job.fence, child=child)
        process.executor.post(job.execution_id, changed)
        return True
