"""What an expression sees: inputs, outputs, trigger, taskrun, parents, … (named as users write them).

Pure and cheap: what belongs to the execution is built once, `outputs` and `tasks` are the live ones of the execution
and grow in place, and only `task`, `taskrun` and `parents` are made for each task run.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

from tercel.machine.index import FlowIndex
from tercel.machine.limits import failed_attempts
from tercel.machine.live import LiveExecution
from tercel.model.execution import Execution, TaskRun
from tercel.model.inputs import with_defaults
from tercel.model.jobs import WorkerJob
from tercel.model.state import State
from tercel.model.task import Task

NOTHING: Mapping[str, object] = MappingProxyType({})


def variables(
    flow: FlowIndex, live: LiveExecution, run: TaskRun | None, surroundings: Mapping[str, object] = NOTHING
) -> dict[str, object]:
    """What expressions of a task run see, or those of the execution itself where *run* is None.

    Args:
        flow: the flow that the execution runs.
        live: the execution; its `outputs` and `tasks` are handed on as they are, not copied.
        run: the task run about to start or to be decided.
        surroundings: variables that come from outside the execution, such as `envs` and `globals`.
    """
    seen = {**surroundings, **_of_execution(flow, live), "outputs": live.outputs, "tasks": live.states}
    if run is not None:
        task = flow.places[run.task_id].task
        seen["task"] = {"id": task.id, "type": task.type}
        seen["taskrun"] = task_run_variables(run)
        parents = _parents(live, run)
        if parents:
            seen["parents"] = parents
            seen["parent"] = parents[0]
    # What tasks set is seen at the top, too, where it hides nothing of the engine's own.
    return {**live.execution.variables, **seen} if live.execution.variables else seen


def child_variables(
    job: WorkerJob,
    task: Task,
    child: TaskRun,
    outputs: Mapping[str, Mapping[str, object]],
    states: Mapping[str, State],
) -> dict[str, object]:
    """What expressions of a WorkingDirectory's child see.

    Args:
        job: the WorkingDirectory's own job; nothing in it is changed.
        task: the child's task.
        child: the child's task run.
        outputs: task id to outputs of the siblings that ended in this job.
        states: task id to state of the siblings that started in this job.
    """
    seen = dict(job.variables)
    directory = _mapping(seen.get("taskrun"))
    taskrun = task_run_variables(child)
    for inherited in ("value", "iteration"):
        if inherited in directory:
            taskrun[inherited] = directory[inherited]
    seen["task"] = {"id": task.id, "type": task.type}
    seen["taskrun"] = taskrun
    seen["workerTaskrun"] = directory
    seen["tasks"] = {**_mapping(seen.get("tasks")), **{id_: {"state": state.value} for id_, state in states.items()}}
    all_outputs = dict(_mapping(seen.get("outputs")))
    for id_, value in outputs.items():
        all_outputs[id_] = _placed(_mapping(all_outputs.get(id_)), job.values, value)
    seen["outputs"] = all_outputs
    return seen


def task_run_variables(run: TaskRun) -> dict[str, object]:
    """The `taskrun` of a task run."""
    seen: dict[str, object] = {
        "id": run.id,
        "startDate": run.started_at,
        "attemptsCount": failed_attempts(run.attempts),
    }
    if run.parent_id is not None:
        seen["parentId"] = run.parent_id
    if run.value is not None:
        seen["value"] = run.value
    if run.iteration is not None:
        seen["iteration"] = run.iteration
    return seen


def _of_execution(flow: FlowIndex, live: LiveExecution) -> Mapping[str, object]:
    execution = live.execution
    if live.known is None or live.known[0] is not execution:
        live.known = (execution, _built(flow, execution))
    return live.known[1]


def _built(flow: FlowIndex, execution: Execution) -> Mapping[str, object]:
    seen: dict[str, object] = {
        "flow": {"id": execution.flow_id, "namespace": execution.namespace, "revision": execution.revision},
        "execution": {
            "id": execution.id,
            "startDate": execution.history[0].date,
            "originalId": execution.original_id or execution.id,
            "state": execution.state.value,
        },
        "labels": _nested(execution.labels, "system."),
    }
    if execution.inputs or flow.flow.inputs:
        seen["inputs"] = with_defaults(flow.flow.inputs, _nested(execution.inputs))
    own = execution.variables if execution.has_variables or execution.variables else flow.flow.variables
    if own:
        seen["vars"] = own
    if execution.trigger is not None:
        seen["trigger"] = execution.trigger.get("variables", {})
    return seen


def _nested(flat: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn keys with dots (that start with *prefix*) into maps inside maps; where two clash the first stays."""
    nested: dict[str, object] = {}
    for key, value in flat.items():
        *maps, last = key.split(".") if key.startswith(prefix) else [key]
        at = nested
        for name in maps:
            below = at.setdefault(name, {})
            if not isinstance(below, dict):
                break
            at = cast("dict[str, object]", below)
        else:
            at.setdefault(last, value)
    return nested


def _parents(live: LiveExecution, run: TaskRun) -> list[dict[str, object]]:
    parents: list[dict[str, object]] = []
    at = run.parent_id
    while at is not None:
        parent = live.runs[at]
        if parent.value is not None or parent.outputs:
            taskrun = {} if parent.value is None else {"value": parent.value}
            parents.append({"taskrun": taskrun, "outputs": parent.outputs, "task": {"id": parent.task_id}})
        at = parent.parent_id
    return parents


def _placed(at: Mapping[str, object], values: Sequence[str], value: object) -> object:
    """A copy of *at* with *value* put under *values*; what it stands on is never changed."""
    if not values:
        return value
    return {**at, values[0]: _placed(_mapping(at.get(values[0])), values[1:], value)}


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]  # keys are text
