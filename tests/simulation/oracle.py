"""What the end of an execution has to look like, reckoned from what was accepted: written apart from the machine.

Reads specs and rows from the outside in. The only things it takes from the rows are which task runs there are, when
flowables ended, and the states of leaves, which it checks against the referee's books first.
"""

from datetime import datetime

from tercel.model.execution import Execution, TaskRun
from tercel.model.state import State
from tests.simulation.flows import AFTER_BRANCHES, FALSE, LEAVES, Lane, Spec, dependencies, enabled, lanes_of
from tests.simulation.referee import ENDED, Referee, begun_at, demand
from tests.simulation.restarts import BAD as FAILURES
from tests.simulation.rounds import Wait
from tests.simulation.standing import REFUSED

BAD = (State.FAILED, State.KILLED)  # after a CANCELLED one things go on, unless the execution ends with it


class Oracle:
    """Checks one ended execution."""

    def __init__(self, spec: Spec, referee: Referee, execution: Execution, runs: dict[str, TaskRun]) -> None:
        self.spec = spec
        self.referee = referee
        self.execution = execution
        self.runs = runs
        self.seen: set[str] = set()
        self.inside: dict[tuple[str | None, str, int | None], TaskRun] = {}
        for run in runs.values():
            key = (run.parent_id, run.task_id, run.iteration)
            demand(key not in self.inside, f"Two task runs stand at the same place: {key}.")
            self.inside[key] = run

    def check(self) -> None:
        """Raise a ViolationError where the end is not what it has to be."""
        demand(self.execution.state in ENDED, "The execution did not end.")
        demand(self.referee.ended is self.execution.state, "The end was told otherwise than written.")
        standing = self.referee.standing
        if not standing.is_begun:
            expected = REFUSED[standing.behavior] if standing.phase == "refused" else State.KILLED
            expected = standing.ended if standing.changed and standing.ended else expected
            demand(self.execution.state is expected and not self.runs, "It ended before it began.")
            return
        kill_at = self.referee.kill_at
        self._flow(self.spec, kill_at)
        self._after(self.spec)
        left = set(self.runs) - self.seen
        demand(not left, f"Task runs that nothing called for: {sorted(self.runs[id_].task_id for id_ in left)}.")

    def _flow(self, spec: Spec, kill_at: datetime | None) -> None:
        expected = self._scope(spec, None, [[(task, None, None) for task in enabled(spec["tasks"])]], kill_at)
        standing = self.referee.standing
        if kill_at is not None:
            expected = standing.forced or State.KILLED
        demand((self.referee.retry_at is None) or expected is not State.RETRIED, "Nobody tries it again.")
        if standing.changed:
            expected = standing.ended or expected
        demand(self.execution.state is expected, f"The execution is {self.execution.state}, not {expected}.")

    def _after(self, spec: Spec) -> None:
        """What runs after the end: one branch after the other, whatever comes of each."""
        standing = self.referee.standing
        before = standing.final_at
        assert before is not None
        for name in AFTER_BRANCHES:
            is_there = standing.forced is not State.RETRIED  # the execution that tries again is followed by them
            lane: Lane = [(task, None, None) for task in enabled(spec.get(name, []))] if is_there else []
            runs = self._main(None, [lane])
            self._lane(None, lane, standing.after_kill_at)
            demand(standing.after_kill_at or self._is_through(None, lane), f"{name} was cut short.")
            demand(all(self._begun_at(run) >= before for run in runs), f"{name} did not wait for its turn.")
            before = max((before, *(self._ended_at(run) for run in runs)))

    def _scope(
        self,
        spec: Spec,
        run: TaskRun | None,
        lanes: list[Lane],
        kill_at: datetime | None,
        *,
        timed_out: datetime | None = None,
        job: State | None = None,
    ) -> State:
        """The state that follows from the inside of a flowable, of a directory after its job, or of the flow."""
        inner_kill = min((at for at in (kill_at, timed_out) if at is not None), default=None)
        run_id = None if run is None else run.id
        ended_at = self.referee.standing.final_at if run is None else run.history[-1].date
        assert ended_at is not None
        was_killed = kill_at is not None and ended_at >= kill_at
        states: list[State] = []
        waiting = False
        for lane in lanes:
            states += self._lane(run_id, lane, inner_kill)
            waiting |= not self._is_through(run_id, lane)
        self._check_starts(spec, run_id, lanes)
        if timed_out is not None and not (run and self.referee.rounds.waits(run.id)):
            was_open = any(self._ended_at(one) >= timed_out for one in self._main(run_id, lanes))
            # A pause by hand may have kept the next one from starting.
            was_left = waiting and not any(state in BAD for state in states)
            demand(was_open or was_left, f"{spec['id']} timed out after its tasks had ended.")
        is_bad = any(state in BAD for state in states)
        demand(was_killed or timed_out or is_bad or not waiting, f"{spec.get('id', 'The flow')} ended too early.")
        if job is not None:
            outcome = job
        elif timed_out is not None:
            outcome = State.FAILED
        else:
            outcome = worst(states)
        errors = [(task, None, None) for task in enabled(spec.get("errors", []))]
        has_errors = bool(errors) and (run_id, errors[0][0]["id"], None) in self.inside
        if has_errors:
            demand(
                State.FAILED in states or timed_out or job is State.FAILED,
                f"Errors of {spec.get('id', 'the flow')} ran without a failure.",
            )
        elif errors and outcome is State.FAILED:
            demand(was_killed, f"Errors of {spec.get('id', 'the flow')} did not run.")
        if has_errors and timed_out is not None:
            begun = self.inside[(run_id, errors[0][0]["id"], None)].history[0].date
            late = [one for one in self._main(run_id, lanes) if begun >= timed_out and self._ended_at(one) > begun]
            demand(not late, "Errors ran while what had timed out was still being ended.")
        self._lane(run_id, errors, kill_at)
        demand(was_killed or not has_errors or self._is_through(run_id, errors), "Errors were cut short.")
        put_off = [one for one in self._main(run_id, lanes) if one.id in self.referee.later]
        demand(was_killed or timed_out or is_bad or not put_off, "What absorbed a failure did not run again.")
        last = [(task, None, None) for task in enabled(spec.get("finally", []))]
        has_last = bool(last) and (run_id, last[0][0]["id"], None) in self.inside
        final = self._lane(run_id, last, kill_at)
        if not has_last:
            demand(not last or was_killed or outcome is State.KILLED, "`finally` did not run.")
        else:
            demand(outcome is not State.KILLED, "`finally` ran after a kill.")
            demand(was_killed or self._is_through(run_id, last), "`finally` was cut short.")
            begun = self.inside[(run_id, last[0][0]["id"], None)].history[0].date
            for other in (*(step for lane in lanes for step in lane), *errors):
                before = self.inside.get((run_id, other[0]["id"], other[2]))
                demand(before is None or before.history[-1].date <= begun, "`finally` did not come last.")
        if was_killed:
            return State.RETRIED if run is not None and self._is_around_retried(run) else State.KILLED
        if outcome is not State.KILLED:
            if State.KILLED in final:
                outcome = State.KILLED
            elif State.FAILED in final:
                outcome = State.FAILED
        return outcome

    def _is_around_retried(self, run: TaskRun) -> bool:
        """True where a new execution tries again what is inside; a kill that came in between leaves it open."""
        at = self.referee.retried
        while at is not None and at != run.id:
            at = self.runs[at].parent_id if at in self.runs else None
        return at is not None and (self.referee.standing.forced is State.RETRIED or run.state is State.RETRIED)

    def _main(self, parent: str | None, lanes: list[Lane]) -> list[TaskRun]:
        places = ((parent, task["id"], iteration) for lane in lanes for task, _, iteration in lane)
        return [self.inside[place] for place in places if place in self.inside]

    def _ended_at(self, run: TaskRun) -> datetime:
        """When the end became known, which a worker's own clock does not say."""
        seat = self.referee.seats.get(run.id)
        at = run.history[-1].date
        return at if seat is None or not seat.outcomes else max(at, seat.outcomes[-1][2])

    def _check_starts(self, spec: Spec, parent: str | None, lanes: list[Lane]) -> None:
        """Nothing of a main branch starts after something in it went bad, and no more lanes are open than allowed."""
        main = self._main(parent, lanes)
        for bad in main:
            if bad.state not in BAD or bad.id in self.referee.set_at or self._is_put_off(bad):
                continue
            at = self._ended_at(bad)
            for other in main:
                begun = self._begun_at(other)
                is_late = begun > at or (begun == at and self._begun_at(bad) < at)
                is_late &= not self._stood(other)
                demand(not is_late, f"{other.task_id} started after {bad.task_id} had ended as {bad.state}.")
        if spec.get("kind") == "dag":
            self._check_order(spec, parent)
        limit = {"each_sequential": 1}.get(spec.get("kind", ""), spec.get("limit", 0))
        # A replay begins in one lane, and goes on in those that were on their way: that may be one too many.
        if not limit or parent in self.referee.replayed:
            return
        since = None if parent is None else begun_at(self.runs[parent])  # a restart walks lanes again
        spans: list[tuple[datetime, datetime]] = []
        for lane in lanes:
            runs = {
                run.id: self.referee.first_paused.get(run.id) or begun_at(run) for run in self._main(parent, [lane])
            }
            runs = {id_: begun for id_, begun in runs.items() if since is None or begun >= since}
            if runs:
                spans.append((min(runs.values()), max(self._ended_at(self.runs[id_]) for id_ in runs)))
        for begun, _ in spans:
            open_lanes = sum(1 for low, high in spans if low <= begun < high)
            demand(open_lanes <= limit, f"{spec['id']} has {open_lanes} lanes open; {limit} are allowed.")

    def _check_order(self, spec: Spec, parent: str | None) -> None:
        """A task of a Dag starts once all it depends on has ended."""
        for task in enabled(spec["tasks"]):
            run = self.inside.get((parent, task["id"], None))
            for name in dependencies(spec, task) if run is not None else ():
                other = self.inside.get((parent, name, None))
                is_there = name in {one["id"] for one in enabled(spec["tasks"])}
                stood = run is not None and self._stood(run)
                demand(other or stood or not is_there, f"{task['id']} started without {name}.")
                if other is not None and run is not None:
                    waited = self._stood(run) or other.history[-1].date <= self._begun_at(run)
                    waited |= run.history[-1].date <= self._begun_at(other)
                    demand(waited, f"{task['id']} did not wait for {name}.")

    def _lane(self, parent: str | None, lane: Lane, kill_at: datetime | None) -> list[State]:
        """States of a row of tasks; those after a bad one must not be there."""
        states: list[State] = []
        previous: TaskRun | None = None
        stopper: TaskRun | None = None
        has_gap = False
        for spec, value, iteration in lane:
            run = self.inside.get((parent, spec["id"], iteration))
            if run is None:
                has_gap = True
                continue
            # What ended before another one was restarted stays, also where that one then ends badly.
            is_after = stopper is not None and self._over_at(run) > self._begun_at(stopper)
            is_over = (has_gap or is_after) and not self._stood(run)
            demand(not is_over, f"{spec['id']} started after what ended its branch.")
            demand(run.value == value, f"{spec['id']} has the value {run.value!r}, not {value!r}.")
            if previous is not None:
                waited = self._stood(run) or previous.history[-1].date <= self._begun_at(run)
                was_done = run.history[-1].date <= self._begun_at(previous)
                demand(waited or was_done, f"{spec['id']} did not wait for its turn.")
            state = self._run(spec, run, kill_at)
            previous = run
            if self._is_put_off(run):
                continue
            # What another execution was to try again counts as failed where this one goes on all the same.
            states.append(State.FAILED if state is State.RETRIED else state)
            if states[-1] in BAD:
                stopper = run
        return states

    def _is_through(self, parent: str | None, lane: Lane) -> bool:
        for spec, _, iteration in lane:
            run = self.inside.get((parent, spec["id"], iteration))
            if run is None:
                return False
            if run.state in BAD:
                return not self._is_put_off(run)
        return True

    def _is_put_off(self, run: TaskRun) -> bool:
        """True for what had ended badly before a restart, and whose turn to run again has not come."""
        return run.id in self.referee.later and run.state in FAILURES

    def _run(self, spec: Spec, run: TaskRun, kill_at: datetime | None) -> State:
        """Check one task run, and all inside it; gives its state."""
        self.seen.add(run.id)
        demand(run.state in ENDED, f"{spec['id']} is still {run.state}.")
        if run.id in self.referee.set_at or self._is_kept(run) or self._is_put_off(run):
            self._see_inside(run)
            return run.state
        is_broken = run.id not in self.referee.seats and kill_at == self.referee.standing.broken_at
        if is_broken and run.history[-1].date == kill_at and run.state is not State.KILLED:
            kill_at = None  # it ended by what broke the SLA
        expected = self._expected(spec, run, kill_at)
        demand(run.state is expected, f"{spec['id']} is {run.state}, not {expected}.")
        return run.state

    def _see_inside(self, run: TaskRun) -> None:
        """Nothing is demanded of what is inside a task run that was given its state by hand."""
        self.seen.add(run.id)
        for other in self.runs.values():
            if other.parent_id == run.id:
                self._see_inside(other)

    def _is_kept(self, run: TaskRun) -> bool:
        """True for what had ended when somebody gave another task run its state: it stays as it was."""
        kept_at = self.referee.kept_at
        return kept_at is not None and self._over_at(run) < kept_at

    def _stood(self, run: TaskRun) -> bool:
        """True for what was there when somebody gave a task run its state: the order of things is upset since."""
        meddled_at = self.referee.meddled_at
        return meddled_at is not None and run.history[0].date < meddled_at

    def _over_at(self, run: TaskRun) -> datetime:
        """When a task run ended, by itself."""
        return run.history[-2 if run.id in self.referee.set_at else -1].date

    def _begun_at(self, run: TaskRun) -> datetime:
        """When a task run began; what begins again for the sake of something inside stands where it stood."""
        kept_at = self.referee.kept_at
        begun = self.referee.first_paused.get(run.id) or begun_at(run)
        return run.history[0].date if kept_at == begun else begun

    def _expected(self, spec: Spec, run: TaskRun, kill_at: datetime | None) -> State:
        condition = spec.get("run_if", "true")
        if condition in FALSE:
            return State.SKIPPED
        if "nope" in condition:
            return allowed(spec, State.FAILED)
        if spec["kind"] in LEAVES:
            return self._leaf(spec, run, kill_at)
        if spec["kind"] == "directory":
            return self._directory(spec, run, kill_at)
        if spec["kind"] == "pause":
            return self._pause(spec, run, kill_at)
        lanes = lanes_of(spec, self.referee.reckoner.rounds.get(run.id, 0))
        if lanes is None:
            return allowed(spec, State.FAILED)
        timed_out = self.referee.timed_out.get(run.id)
        verdict = self.referee.rounds.verdicts.get(run.id)
        if spec["kind"] == "loop":
            was_cut = timed_out is not None or (kill_at is not None and run.history[-1].date >= kill_at)
            is_bad = any(one.state in BAD for one in self._main(run.id, lanes))
            is_over = isinstance(verdict, State) or not enabled(spec["tasks"])
            demand(was_cut or is_bad or is_over, f"{spec['id']} ended although it was to go on.")
        job = None if isinstance(verdict, Wait) else verdict
        state = self._scope(spec, run, lanes, kill_at, timed_out=timed_out, job=job)
        was_killed = kill_at is not None and run.history[-1].date >= kill_at
        if spec["kind"] == "allow" and state is State.FAILED and not was_killed:
            state = State.WARNING
        return allowed(spec, state)

    def _pause(self, spec: Spec, run: TaskRun, kill_at: datetime | None) -> State:
        how = self.referee.pauses.get(run.id)
        was_killed = kill_at is not None and run.history[-1].date >= kill_at
        if how is None:
            demand(was_killed, f"{spec['id']} ended although nobody resumed it.")
            return State.KILLED
        if how == "CANCEL":
            return State.CANCELLED
        is_over = how == "FAIL"
        lanes = [] if is_over else lanes_of(spec) or []
        state = self._scope(spec, run, lanes, kill_at, job=State.FAILED if is_over else None)
        if how == "WARN" and state is State.SUCCESS:
            state = State.WARNING
        return allowed(spec, state)

    def _leaf(self, spec: Spec, run: TaskRun, kill_at: datetime | None) -> State:
        seat = self.referee.seats[run.id]
        was_killed = seat.is_past or kill_at is not None
        demand(not seat.is_cancelled or was_killed, f"{spec['id']} was cancelled, yet nothing was killed.")
        demand(seat.phase == "over" and seat.retry_at is None, f"{spec['id']} ended although it was to go on.")
        demand(run.fence == seat.fence, f"{spec['id']} has another fence than was dispatched.")
        demand(seat.outcomes, f"{spec['id']} ended without an outcome.")
        state = seat.outcomes[-1][0]
        if run.id == self.referee.retried:
            return State.RETRIED
        tries = [outcome[0] for outcome in seat.outcomes]
        demand(all(one is State.FAILED for one in tries[:-1]), f"{spec['id']} was tried again after {tries}.")
        demand(
            seat.spec["kind"] != "items" or self._counts_children(run), f"{spec['id']} counts its executions wrongly."
        )
        attempts = [attempt.state for attempt in run.attempts]
        demand(attempts.count(State.FAILED) == seat.past_fails + seat.fails(),
               f"{spec['id']} has the attempts {attempts}, not {tries}.")  # fmt: skip
        demand(run.lost == seat.losses, f"{spec['id']} counts {run.lost} losses, not {seat.losses}.")
        if state is State.SUCCESS and seat.retry is not None and seat.retry.warning_on_retry and seat.fails():
            state = State.WARNING
        return allowed(spec, state)

    def _counts_children(self, run: TaskRun) -> bool:
        """True unless a run whose executions have all ended has other counts than they gave."""
        seat = self.referee.seats[run.id]
        ended = [state.value for state in seat.children.values()]
        counts = {state: ended.count(state) for state in ended}
        return seat.is_cancelled or not ended or len(ended) < seat.total or run.outputs.get("iterations") == counts

    def _directory(self, spec: Spec, run: TaskRun, kill_at: datetime | None) -> State:
        state = self._leaf({"id": spec["id"], "kind": "job"}, run, kill_at)
        seat = self.referee.seats[run.id]
        job, _, job_ended = seat.outcomes[-1]
        for child in enabled(spec["tasks"]):
            row = self.inside.get((run.id, child["id"], None))
            if row is not None:
                self.seen.add(row.id)
                demand(row.state in ENDED, f"The child {child['id']} is still {row.state}.")
                demand(row.id in seat.child_lengths, f"The child {child['id']} is of a job that was lost.")
        if seat.is_cancelled or (kill_at is not None and job_ended >= kill_at):
            return allowed(spec, state)
        inside = self._scope(spec, run, [], kill_at, job=job)
        if inside is State.SUCCESS and state is State.WARNING:
            inside = State.WARNING
        return allowed(spec, inside)


def allowed(spec: Spec, state: State) -> State:
    """What `allowFailure` and `allowWarning` make of a state."""
    if spec.get("allow_failure") and state is State.FAILED:
        state = State.WARNING
    if spec.get("allow_warning") and state is State.WARNING:
        state = State.SUCCESS
    return state


def worst(states: list[State]) -> State:
    """KILLED before FAILED before WARNING; all else is success."""
    for state in (State.KILLED, State.FAILED, State.WARNING):
        if state in states:
            return state
    return State.SUCCESS
