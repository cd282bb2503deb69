"""When a LoopUntil has to go on, to wait or to end, reckoned from spec and rows: written apart from the machine."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import Enum
from re import search

from tercel.model.execution import TaskRun
from tercel.model.state import State
from tests.simulation.flows import FALSE, MINUTES, Spec, enabled
from tests.simulation.restarts import DONE, LIMITS, Reckoner


class Wait(Enum):
    """The verdict of a loop that has another round before it."""

    WAITS = "waits"


class Rounds:
    """The books of all loops of an execution.

    Attributes:
        verdicts: what each loop's present round led to, from its end on.
    """

    def __init__(self, reckoner: Reckoner) -> None:
        self._specs = {id_: spec for id_, spec in reckoner.specs.items() if spec["kind"] == "loop"}
        self._numbers = reckoner.rounds
        self._since: dict[str, datetime] = {}
        self._base: dict[str, int] = {}
        self._wakes: dict[str, datetime] = {}
        self.deadlines: dict[str, datetime] = {}
        self.verdicts: dict[str, State | Wait] = {}

    def waits(self, run_id: str) -> bool:
        """True for a loop that waits for its next round."""
        return self.verdicts.get(run_id) is Wait.WAITS

    def is_past(self, run_id: str, now: datetime) -> bool:
        """True where a loop's timeout has passed."""
        return run_id in self.deadlines and now >= self.deadlines[run_id]

    def may_go_on(self, run_id: str) -> bool:
        """True where a loop's next round comes before its timeout."""
        return run_id not in self.deadlines or self._wakes[run_id] < self.deadlines[run_id]

    def take_over(self, older: "Rounds", ids: Mapping[str, str]) -> None:
        """Know of copies what the books of an older execution say of their originals."""
        pairs = (
            (self._numbers, older._numbers),
            (self._since, older._since),
            (self._base, older._base),
            (self._wakes, older._wakes),
            (self.deadlines, older.deadlines),
            (self.verdicts, older.verdicts),
        )
        for book, old in pairs:
            book.update({ids[run_id]: value for run_id, value in old.items() if run_id in ids})  # type: ignore[misc]

    def next(self, run_id: str) -> None:
        """The next round of a loop begins."""
        self._numbers[run_id] += 1
        del self.verdicts[run_id]

    def again(self, run_id: str) -> None:
        """A loop was restarted: it may go round as often as at first, the round that it is in included."""
        self.verdicts.pop(run_id, None)
        self._base[run_id] = self._numbers.get(run_id, 0)

    def drop(self, run_id: str) -> None:
        """A loop's row is gone."""
        self.verdicts.pop(run_id, None)
        self._numbers.pop(run_id, None)
        self._base.pop(run_id, None)

    def note(
        self, now: datetime, rows: Mapping[str, TaskRun], timed_out: Collection[str], *, stands_still: bool
    ) -> list[str]:
        """Judge the loops whose round ended in this step.

        Args:
            now: of the step.
            rows: as they are after it.
            timed_out: ids of flowables whose time has passed.
            stands_still: nothing may begin or end, since somebody paused the execution.

        Returns:
            Sentences on what is not as it has to be.
        """
        if not self._specs:
            return []
        problems: list[str] = []
        for run in rows.values():
            if run.task_id in self._specs and run.id not in timed_out:
                problems += self._note(self._specs[run.task_id], run, now, rows, stands_still=stands_still)
        return problems

    def _note(
        self, spec: Spec, run: TaskRun, now: datetime, rows: Mapping[str, TaskRun], *, stands_still: bool
    ) -> list[str]:
        begun = [change.date for change in run.history if change.state is State.RUNNING]
        if not begun:
            return []
        if self._since.get(run.id) != begun[-1]:
            self._since[run.id] = begun[-1]
            self._numbers.setdefault(run.id, 0)
            limit = LIMITS[spec.get("timeout")]
            self.deadlines.pop(run.id, None)
            if limit is not None:
                self.deadlines[run.id] = begun[-1] + limit
        number = self._numbers[run.id]
        count = run.outputs.get("iterationCount")
        problems = [] if count == number + 1 else [f"{spec['id']} counts {count} rounds, not {number + 1}."]
        is_open = run.state is State.RUNNING
        was_killed = State.KILLING in [change.state for change in run.history if change.date >= begun[-1]]
        if run.id in self.verdicts or was_killed or stands_still:
            return problems
        main = enabled(spec["tasks"])
        inside = {row.task_id: row for row in rows.values() if row.parent_id == run.id and row.iteration == number}
        ended = [inside[task["id"]].state for task in main if task["id"] in inside]
        if not main or len(ended) < len(main) or any(state not in DONE for state in ended):
            is_past = self.is_past(run.id, now)  # the timer may have been heard in a pause by hand
            is_right = is_past or run.due == self.deadlines.get(run.id) or _in_branches(spec, run, rows) or not is_open
            return problems if is_right else [*problems, f"{spec['id']} has the timer {run.due} in its round."]
        verdict = self._verdict(spec, run.id, ended, now)
        self.verdicts[run.id] = verdict
        if verdict is Wait.WAITS:
            due = self._wakes[run.id] = now + timedelta(minutes=MINUTES[spec["interval"]])
            if run.id in self.deadlines:
                due = min(due, self.deadlines[run.id])
            if not is_open or run.due != due:
                problems.append(f"{spec['id']} has to wait until {due}; it is {run.state} until {run.due}.")
        elif is_open and not _in_branches(spec, run, rows):
            problems.append(f"{spec['id']} has to end as {verdict}, yet it is {run.state}.")
        return problems

    def _verdict(self, spec: Spec, run_id: str, ended: list[State], now: datetime) -> State | Wait:
        count = self._numbers[run_id] + 1
        state = State.WARNING if State.WARNING in ended else State.SUCCESS
        if "nope" in spec["condition"]:
            return State.FAILED
        if holds(spec["condition"], count):
            return state
        longest = MINUTES[spec["max_time"]] if "max_time" in spec else None
        is_late = longest is not None and now >= self._since[run_id] + timedelta(minutes=longest)
        if count - self._base.get(run_id, 0) >= spec["max_rounds"] or is_late:
            return State.FAILED if spec["fail_on_max"] else state
        return Wait.WAITS


def holds(condition: str, count: int) -> bool:
    """Whether a loop's condition holds after *count* rounds."""
    least = search(r">= (\d)", condition)
    return count >= int(least[1]) if least else condition not in FALSE


def _in_branches(spec: Spec, run: TaskRun, rows: Mapping[str, TaskRun]) -> bool:
    names = {task["id"] for branch in ("errors", "finally") for task in spec.get(branch, [])}
    return any(row.parent_id == run.id and row.task_id in names for row in rows.values())
