"""Keeps, step by step, what a job's directory is made of."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from tercel.layers import LayeredDirectory, LayerError
from tercel.model import WorkerJob
from tercel.model.globs import Globs
from tercel.storage.caches import CacheEntry
from tercel.worker.snapshots import Snapshot, Snapshots, Step


class Recorder:
    """Freezes the directory of one job after each attempt in it, and writes down which layer is whose.

    Args:
        job: whose directory it is.
        directory: open for as long as the job runs.
        snapshots: where it is written down; None where nothing is to be kept after the job.
        clock: the current instant in UTC.
        warn: told what cannot be kept.

    Attributes:
        snapshot: what there is so far.
    """

    def __init__(
        self,
        job: WorkerJob,
        directory: LayeredDirectory,
        snapshots: Snapshots | None,
        clock: Callable[[], datetime],
        warn: Callable[[str], object],
    ) -> None:
        self.directory = directory
        self._snapshots = snapshots
        self._clock = clock
        self._warn = warn
        self._last: Step | None = None
        self.snapshot = Snapshot(
            execution_id=job.execution_id,
            task_run_id=job.task_run_id,
            task_id=job.task.id,
            namespace=job.namespace,
            flow_id=job.flow_id,
            path=directory.path,
            made_at=clock(),
        )

    def cache_restored(self, layers: Sequence[str], entry: CacheEntry | None) -> None:
        """The directory was filled from a cache."""
        self.snapshot = replace(self.snapshot, cache=tuple(layers), entry=entry)

    def inputs_written(self) -> None:
        """Namespace and input files are there: what is in the directory now is what the first step finds."""
        layer = self._frozen()
        if layer is not None:
            self.snapshot = replace(self.snapshot, inputs=(*self.snapshot.inputs, layer))
        self._put()

    def go_on(self, snapshot: Snapshot) -> None:
        """The directory was filled with what an earlier job left."""
        self.snapshot = replace(snapshot, path=self.directory.path)
        self._put()

    def end_step(self, task_id: str, task_run_id: str, attempt: int, state: str, *, keep: bool, is_last: bool) -> None:
        """An attempt has ended.

        Args:
            task_id: whose attempt it was.
            task_run_id: its task run.
            attempt: counted from zero.
            state: how it ended.
            keep: whether what comes next sees what it changed; otherwise the directory is put back.
            is_last: nothing runs after it: it is frozen by `finish`, when its files have been looked at.

        Raises:
            LayerError: the directory cannot be put back.
        """
        step = Step(
            task_id=task_id,
            task_run_id=task_run_id,
            attempt=attempt,
            state=state,
            ended_at=self._clock(),
            kept=keep,
        )
        if is_last and keep:
            self._last = step
            return
        self._add(step, self._frozen() if keep else self.directory.freeze(keep=False))

    def finish(self) -> None:
        """The last step is over, and nobody looks at the directory any more."""
        if self._last is not None:
            step, self._last = self._last, None
            self._add(step, self._frozen(is_last=True))

    def _add(self, step: Step, layer: str | None) -> None:
        step = replace(step, layers=() if layer is None else (layer,))
        self.snapshot = replace(self.snapshot, steps=(*self.snapshot.steps, step))
        self._put()

    def _frozen(self, *, is_last: bool = False) -> str | None:
        try:
            return self.directory.freeze(is_last=is_last)
        except LayerError as error:
            # The next layer holds it too: nothing of it is lost for the run.
            self._warn(str(error))
            return None

    def take(self, globs: Globs) -> tuple[list[str], list[str]]:
        """Move what a cache's patterns take out of what was changed here, into layers that the cache may have.

        To be called after `finish`.

        Returns:
            The ids of those layers; and of all layers there are now. Each the lowest first.

        Raises:
            LayerError: it cannot be done; the snapshot is whole all the same.
            OSError: it cannot be written down; nothing was moved.
        """
        directory, whole = self.directory, self.snapshot
        mine = [layer for layer in directory.layers if layer not in whole.cache]
        parts = {layer: directory.new_id() for layer in mine if layer not in whole.taken}
        if self._snapshots is not None:
            # First: who dies while something is moved leaves a snapshot that is whole, or that nobody can use.
            self._snapshots.put(_with_parts(whole, parts), is_final=False)
        taken: list[str] = []
        layers = list(whole.cache)
        try:
            for layer in mine:
                if layer not in parts:
                    taken.append(layer)
                elif directory.split(layer, globs, below=layers, into=parts[layer]):
                    taken.append(parts[layer])
                    layers.append(parts[layer])
                layers.append(layer)
        finally:
            made = {layer: part for layer, part in parts.items() if directory.has(part)}
            self.snapshot = _with_parts(whole, made)
            self._put()
        return taken, layers

    def _put(self) -> None:
        if self._snapshots is not None:
            self.directory.keep(self.snapshot.layers)
            try:
                self._snapshots.put(self.snapshot)
            except OSError as error:
                self._warn(f"What the task changed cannot be written down: {error.strerror}.")


def _with_parts(snapshot: Snapshot, parts: Mapping[str, str]) -> Snapshot:
    """A snapshot in which part of some layers is in others, right below them."""

    def both(layers: Sequence[str]) -> tuple[str, ...]:
        return tuple(one for layer in layers for one in (parts.get(layer), layer) if one is not None)

    return replace(
        snapshot,
        inputs=both(snapshot.inputs),
        steps=tuple(replace(step, layers=both(step.layers)) for step in snapshot.steps),
        taken=(*snapshot.taken, *parts.values()),
    )
