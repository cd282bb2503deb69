"""Going on with a WorkingDirectory where an earlier job of the same run ended: with the directory as it was then."""

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from tercel.layers import LayerError
from tercel.model import State, Task, TaskRun
from tercel.worker.job_scene import JobScene
from tercel.worker.recorder import Recorder
from tercel.worker.run_context import TaskContext
from tercel.worker.snapshots import Snapshot, Snapshots, Step

_DONE = frozenset({State.SUCCESS, State.WARNING, State.SKIPPED})


def go_on(
    scene: JobScene,
    recorder: Recorder,
    snapshots: Snapshots | None,
    children: Sequence[Task],
    *,
    context: TaskContext,
    stage: Callable[[], None],
) -> list[TaskRun] | None:
    """Fill the directory with what the first child that is not done found, or will find.

    Namespace and input files that are others than then are written anew: a repair may be in one of them.

    Args:
        scene: of the job, which brings the rows of children that an earlier one has run.
        recorder: of the directory, which is empty.
        snapshots: where the earlier job wrote down what it did.
        children: those to run, in order.
        context: of the WorkingDirectory.
        stage: writes namespace and input files into the directory.

    Returns:
        The rows of the children that are done; None where all run again, as nothing is left of the directory.
    """
    job = scene.job
    try:
        snapshot = None if snapshots is None else snapshots.of_job(job)
    except LayerError as error:
        context.logger.warn(f"All tasks run again: {error}")
        return None
    if snapshot is None:
        context.logger.warn("All tasks run again: what the earlier ones left in the directory is not kept any more.")
        return None
    rows = {row.task_id: row for row in job.children}
    done, place = _done(snapshot, [rows.get(child.id) for child in children])
    steps = snapshot.steps[:place]
    before = snapshot.before(place)
    try:
        if recorder.directory.uses(snapshot.layers):
            context.logger.warn("All tasks run again: what the earlier ones left in the directory was removed.")
            return None
        repaired = _restaged(recorder, snapshot, before, stage)
    except LayerError as error:
        context.logger.warn(f"All tasks run again: the directory cannot be put back. {error}")
        return None
    if repaired:
        step = Step(
            task_id=job.task.id,
            task_run_id=job.task_run_id,
            attempt=job.attempt,
            state=State.RESTARTED.value,
            ended_at=scene.services.clock(),
            layers=repaired,
        )
        steps = (*steps, step)
    recorder.go_on(replace(snapshot, steps=steps))
    names = ", ".join(repr(row.task_id) for row in done)
    context.logger.info(
        f"Going on with the directory as it was after {names}." if names else "Going on with the directory as it was."
    )
    return done


def _done(snapshot: Snapshot, rows: Sequence[TaskRun | None]) -> tuple[list[TaskRun], int]:
    """The rows of the first children that need not run again, and the number of steps they took."""
    done: list[TaskRun] = []
    place = 0
    for row in rows:
        if row is None or row.state not in _DONE:
            break
        if row.state is not State.SKIPPED:
            at = snapshot.place_of(row.task_id)
            if at is None or at < place or not snapshot.steps[at].kept:
                break
            place = at + 1
        done.append(row)
    return done, place


def _restaged(
    recorder: Recorder, snapshot: Snapshot, before: Sequence[str], stage: Callable[[], None]
) -> tuple[str, ...]:
    """Fill the directory with *before*, and what is different of its input files now; gives the layer of these."""
    from tercel.layers.changes import layer_changes  # noqa: PLC0415  # only after a restart or a lost worker

    directory = recorder.directory
    directory.fill(snapshot.cache, made_at=snapshot.path)
    stage()
    now = directory.freeze()
    changed: set[str] = set()
    if now is not None:
        tree = directory.stack([now]).trees[0]
        earlier = directory.stack(snapshot.inputs)
        changed = {one.path for one in layer_changes(tree, earlier) if one.kind != "d" and one.what != "deleted"}
    directory.fill(before, made_at=snapshot.path)
    if not changed or now is None:
        return ()
    layer = directory.chosen([now], only=changed)
    directory.fill([*before, layer], made_at=snapshot.path)
    return (layer,)
