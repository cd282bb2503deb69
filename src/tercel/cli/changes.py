"""What task runs did to their directories, for people and as JSON: which of them is meant, and how changes are shown.

The layers lie in the home; whoever looks at them keeps the janitors of other processes from removing them meanwhile.
"""

import json
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import click

from tercel.errors import NotFoundError, UserError
from tercel.layers import LayerStore, Stack
from tercel.layers.changes import Change, stack_changes
from tercel.machine.index import FlowIndex
from tercel.model.execution import Execution, TaskRun
from tercel.model.json_form import Json
from tercel.model.size import format_size, size_text
from tercel.server import Home, open_layers
from tercel.settings import Settings
from tercel.worker.snapshots import Snapshot, Snapshots, Step

MOST_LINES = 100

_SIGNS = {"created": "+", "changed": "~", "deleted": "-"}


class Part(NamedTuple):
    """One child's part in a directory, or that of all of them.

    Attributes:
        name: for people.
        before: layers of the directory as it was found, the lowest first.
        after: layers of the directory as it was left.
    """

    name: str
    snapshot: Snapshot
    before: tuple[str, ...]
    after: tuple[str, ...]


class Kept:
    """What is kept of the directories of one execution.

    Args:
        layers: of the home.
        snapshots: all that there are, the first made first.
        runs: the execution's task runs.
        missing: names of the task runs that have worked in a directory of layers of which nothing is kept.
    """

    def __init__(
        self,
        settings: Settings,
        layers: LayerStore,
        snapshots: Sequence[Snapshot],
        runs: Sequence[TaskRun],
        missing: Sequence[str],
    ) -> None:
        self.layers = layers
        self.snapshots = snapshots
        self.missing = missing
        self._settings = settings
        self._runs = {run.id: run for run in runs}

    def stack(self, layers: Sequence[str]) -> Stack:
        """What layers amount to."""
        return Stack([self.layers.pool.tree(layer) for layer in layers])

    def changes(self, before: Sequence[str], after: Sequence[str]) -> list[Change]:
        """What is other in a directory of some layers than in one of others."""
        return stack_changes(self.stack(before), self.stack(after))

    def steps(self) -> Iterator[tuple[Snapshot, Step, list[Change]]]:
        """Every attempt with what it changed, in order."""
        for snapshot in self.snapshots:
            for place, step in enumerate(snapshot.steps):
                yield snapshot, step, self.changes(snapshot.before(place), snapshot.after(place))

    def name(self, snapshot: Snapshot, task_id: str) -> str:
        """A task as people know it: with the value of the loop that it ran in."""
        run = self._runs.get(snapshot.task_run_id)
        return task_id if run is None or run.value is None else f"{task_id} [{plain_path(run.value)}]"

    def part(self, task_id: str | None, task_run_id: str | None) -> Part:
        """What a name on the command line means.

        Args:
            task_id: a child of a WorkingDirectory, or the task that had the directory for itself, or the
                WorkingDirectory: then all its children together; None for that.
            task_run_id: of the one that is meant where several have this name, or of its WorkingDirectory.

        Raises:
            NotFoundError: there is none.
            click.UsageError: there are several.
        """
        found = [one for snapshot in self.snapshots for one in self._parts(snapshot, task_id, task_run_id)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = "".join(f"\n  --run {one.snapshot.task_run_id}  {one.name}" for one in found)
            name = "directory" if task_id is None else repr(task_id)
            raise click.UsageError(f"There is more than one {name} in this execution. Choose one:{listed}")
        if not self.snapshots:
            raise NotFoundError(self.lack() or self.nothing())
        what = "directory" if task_id is None else f"task {task_id!r} that worked in a directory"
        if task_run_id is not None:
            what += f" with the task run {task_run_id}"
        names = dict.fromkeys(one.task_id for snapshot in self.snapshots for one in (*snapshot.steps, snapshot))
        raise NotFoundError(
            f"There is no {what} in this execution.", f"There are: {', '.join(names)}. {self.lack()}".rstrip()
        )

    def _parts(self, snapshot: Snapshot, task_id: str | None, task_run_id: str | None) -> Iterator[Part]:
        if task_run_id is not None and task_run_id != snapshot.task_run_id:
            meant = next((step.task_id for step in snapshot.steps if step.task_run_id == task_run_id), None)
            if meant is None or task_id not in (None, meant):
                return
            task_id = meant
        if task_id is None or task_id == snapshot.task_id:
            end = snapshot.before(len(snapshot.steps))
            yield Part(self.name(snapshot, snapshot.task_id), snapshot, snapshot.base, end)
            return
        place = snapshot.place_of(task_id)
        if place is not None:
            yield Part(self.name(snapshot, task_id), snapshot, snapshot.before(place), snapshot.after(place))

    def lack(self) -> str:
        """A sentence about what is not kept any more, and why that may be; "" where all is."""
        if not self.missing:
            return ""
        limit, days = self._settings.snapshot_limit_bytes, self._settings.snapshot_days
        why = (
            f"TERCEL_SNAPSHOT_SIZE is {format_size(limit)}, after which the oldest go, and TERCEL_SNAPSHOT_DAYS {days}"
            if limit
            else "TERCEL_SNAPSHOT_SIZE is 0, which switches that off"
        )
        return f"What {', '.join(self.missing)} changed is not kept: {why}."

    def nothing(self) -> str:
        """A sentence for where no task had anything that could be kept."""
        return "No task of this execution kept its files: working directories and tasks with inputFiles do."


@contextmanager
def kept_of(opened: Home, execution_id: str) -> Generator[Kept]:
    """What is kept of an execution's directories, and stays until the block ends.

    Raises:
        NotFoundError: there is no such execution.
    """
    execution = opened.call(opened.queries.get_execution(execution_id))
    runs = opened.call(opened.queries.task_runs(execution_id))
    layers = open_layers(opened.settings, opened.storage).layers
    pool = layers.pool
    if not os.path.isdir(pool.folder):
        yield Kept(opened.settings, layers, [], runs, _missing(opened, execution, runs, []))
        return
    with pool.work() as work:
        with pool.held():
            snapshots = Snapshots(layers).of_execution(execution_id)
            work.uses(layer for one in snapshots for layer in one.layers)
        yield Kept(opened.settings, layers, snapshots, runs, _missing(opened, execution, runs, snapshots))


def _missing(opened: Home, execution: Execution, runs: Sequence[TaskRun], snapshots: Sequence[Snapshot]) -> list[str]:
    """Names of the task runs that had a directory of layers, and left no snapshot."""
    known = {one.task_run_id for one in snapshots}
    unknown = [
        run
        for run in runs
        if run.attempts and run.state.is_terminal and run.id not in known and run.parent_id not in known
    ]
    if not unknown:
        return []
    with suppress(UserError):
        places = FlowIndex(opened.flow_of(execution)).places
        return [
            run.task_id if run.value is None else f"{run.task_id} [{run.value}]"
            for run in unknown
            if (place := places.get(run.task_id)) is not None
            and not place.is_run_by_worker
            and (place.is_directory or getattr(place.task, "input_files", None) is not None)
        ]
    return []


def show_changes(opened: Home, execution_id: str, *, as_json: bool) -> None:
    """Print what each attempt of each task of an execution changed.

    Raises:
        NotFoundError: there is no such execution.
    """
    with kept_of(opened, execution_id) as kept:
        if as_json:
            listed = [
                {
                    "taskId": step.task_id,
                    "taskRunId": step.task_run_id,
                    "attempt": step.attempt,
                    "state": step.state,
                    "kept": step.kept,
                    "changes": [change_json(one) for one in changes],
                }
                for _, step, changes in kept.steps()
            ]
            click.echo(json.dumps(listed, ensure_ascii=False, indent=2))
        else:
            _print_changes(kept)
        lack = kept.lack() or ("" if kept.snapshots else kept.nothing())
        if lack:
            click.echo(lack, err=as_json)


def _print_changes(kept: Kept) -> None:
    everything: list[Change] = []
    count = 0
    for snapshot, step, changes in kept.steps():
        seen = shown(changes)
        everything += seen
        count += 1
        click.echo(f"{_heading(kept, snapshot, step)}: {totals_text(seen)}")
        for one in seen[:MOST_LINES]:
            click.echo(f"  {change_text(one)}")
        if len(seen) > MOST_LINES:
            click.echo(f"  … and {len(seen) - MOST_LINES} more; --json lists all")
    if count > 1:
        click.echo(f"In all: {totals_text(everything)}")


def _heading(kept: Kept, snapshot: Snapshot, step: Step) -> str:
    name = kept.name(snapshot, step.task_id)
    if sum(1 for one in snapshot.steps if one.task_id == step.task_id) > 1 or step.attempt:
        name += f", attempt {step.attempt + 1}"
    return f"{name}  {step.state}" + ("" if step.kept else ", put back")


def change_json(change: Change) -> Json:
    """One change."""
    return {
        "path": change.path,
        "what": change.what,
        "kind": {"f": "file", "d": "folder"}.get(change.kind, "link"),
        "size": change.size,
        "sizeBefore": change.size_before,
    }


def shown(changes: Sequence[Change]) -> list[Change]:
    """Those that people see: a folder that came or went is not among them where something in it is."""
    told = {
        (change.what, change.path[:end])
        for change in changes
        for end in range(len(change.path))
        if change.path[end] == "/"
    }
    return [one for one in changes if one.kind != "d" or one.what == "changed" or (one.what, one.path) not in told]


def totals_text(changes: Sequence[Change]) -> str:
    """How many there are of each kind, and by how much content has grown.

    Example:
        >>> totals_text([Change("a", "created", "f", 2000, 0), Change("b", "deleted", "f", 0, 100)])
        '1 created, 1 deleted, +1.9 kB'
        >>> totals_text([])
        'nothing changed'
    """
    if not changes:
        return "nothing changed"
    grown = sum(one.size - one.size_before for one in changes)
    counts = {what: sum(1 for one in changes if one.what == what) for what in _SIGNS}
    counted = [f"{number} {what}" for what, number in counts.items() if number]
    return ", ".join([*counted, f"{'-' if grown < 0 else '+'}{size_text(abs(grown))}"])


def change_text(change: Change) -> str:
    """One change as a line.

    Example:
        >>> change_text(Change("a.txt", "changed", "f", 2000, 100))
        '~ a.txt  100 B → 2.0 kB'
    """
    line = f"{_SIGNS[change.what]} {plain_path(change.path)}{'/' * (change.kind == 'd')}"
    if change.kind == "d" or change.what == "deleted":
        return line
    now = "link" if change.kind == "l" else size_text(change.size)
    return f"{line}  {now}" if change.what == "created" else f"{line}  {size_text(change.size_before)} → {now}"


def plain_path(path: str) -> str:
    """A path on one line, whatever its name holds."""
    return path if path.isprintable() else path.encode("unicode_escape").decode()
