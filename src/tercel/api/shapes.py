"""The JSON of flows and executions, as clients of every version know it: what is absent is left out. Pure.

What the model knows of that form is in `model/json_form.py`; here is what only the API adds.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from yaml.nodes import MappingNode, Node, ScalarNode

from tercel.model import json_form
from tercel.model.duration import format_duration
from tercel.model.execution import Execution, TaskRun
from tercel.model.flow import Flow
from tercel.model.json_form import instant_text
from tercel.model.state import State, StateChange
from tercel.model.task import Task
from tercel.model.yaml_nodes import Entries, compose, is_null
from tercel.store import FlowRevision

Json = dict[str, object]


def present(**values: object) -> Json:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def labels_json(labels: Mapping[str, str]) -> list[Json]:
    """Labels as a list."""
    return [{"key": key, "value": value} for key, value in labels.items()]


def plain(value: object) -> object:
    """A value of a flow's own as JSON has it: durations as ISO 8601 texts, keys as texts."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[object, object]", value).items()
        return {str(key): plain(entry) for key, entry in entries}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in cast("Iterable[object]", value)]
    if isinstance(value, timedelta):
        return format_duration(value)
    return value


# Flows


def flow_json(saved: FlowRevision, *, with_source: bool = False) -> Json:
    """A flow: its text as JSON, with what tercel knows besides.

    Args:
        saved: a revision. One whose text cannot be read any more has no tasks, and says why as `exception`.
        with_source: with the text, as it was sent.
    """
    read = _written(saved.source)
    flow: Json = {**read}
    flow["id"], flow["namespace"], flow["revision"] = saved.id, saved.namespace, saved.revision
    flow.setdefault("tasks", [])
    flow["disabled"] = read.get("disabled") is True
    flow["deleted"] = saved.deleted
    flow["draft"] = False
    flow["updated"] = instant_text(saved.created_at)
    if with_source:
        flow["source"] = saved.source
    return flow


@lru_cache(maxsize=512)
def _written(source: str) -> Mapping[str, object]:
    """As `written`; shared, and so never changed."""
    return written(source)


def written(source: str) -> Json:
    """The text of a flow as JSON; of one that cannot be read only why, as `exception`."""
    root, faults = compose(source)
    if root is None:
        return {"exception": faults[0].text}
    entries = Entries(root)
    if entries.issues:
        return {"exception": entries.issues[0].text}
    flow = _part(entries, root, is_flow=True)
    if not isinstance(flow, dict):
        return {"exception": "A flow is a mapping."}
    found = {key: value for key, value in cast("Json", flow).items() if value is not None}
    for part in (found, *_maps(found.get("triggers"))):
        _list_labels(part)
    return found


_TEXTS = frozenset({"id", "namespace", "type", "description", "displayName"})
"""Properties that are texts in every part of a flow."""

_CHOICES = {"ENUM": "values", "SELECT": "values", "MULTISELECT": "values"}
"""Types of inputs, and which of their properties is a list of texts."""


def _part(entries: Entries, node: Node, *, is_flow: bool = False) -> object:
    """What *node* stands for; of a flow and its parts, whatever has a type, texts are as they are written.

    So they are read by the model, too: the id of a task may be `on` or `010`.
    """
    if isinstance(node, ScalarNode):
        return entries.value(node)
    if not isinstance(node, MappingNode):
        return [_part(entries, item) for item in node.value]
    pairs = entries.of(node)
    is_part = is_flow or "type" in pairs
    choices = _CHOICES.get(str(pairs["type"][1].value)) if "type" in pairs else None
    found: dict[str, object] = {}
    for name, (_, value) in pairs.items():
        if is_flow and name == "variables":
            found[name] = entries.value(value)
        elif is_part and name in ("labels", choices):
            found[name] = _texts(entries, value)
        elif is_part and name in _TEXTS and isinstance(value, ScalarNode):
            found[name] = _text(value)
        else:
            found[name] = _part(entries, value)
    return found


def _texts(entries: Entries, node: Node) -> object:
    if isinstance(node, ScalarNode):
        return _text(node)
    if isinstance(node, MappingNode):
        return {name: _texts(entries, value) for name, (_, value) in entries.of(node).items()}
    return [_texts(entries, item) for item in node.value]


def _text(node: ScalarNode) -> str | None:
    return None if is_null(node) else cast("str", node.value)


def _list_labels(part: dict[str, Any]) -> None:
    labels = part.get("labels")
    if isinstance(labels, dict):
        part["labels"] = [{"key": key, "value": str(value)} for key, value in cast("dict[str, object]", labels).items()]


def _maps(value: object) -> Iterable[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return (cast("dict[str, Any]", item) for item in items if isinstance(item, dict))


def find_task_json(flow: Mapping[str, object], task_id: str) -> Json | None:
    """A task of a flow as `flow_json` gives it, however deep it is; None where there is none."""
    pending: list[object] = [flow]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            part = cast("Json", value)
            if part is not flow and part.get("id") == task_id and "type" in part:
                return part
            pending += [entry for name, entry in part.items() if name not in _NO_TASKS]
        elif isinstance(value, list):
            pending += cast("list[object]", value)
    return None


_NO_TASKS = frozenset({"triggers", "inputs", "outputs", "labels", "variables", "pluginDefaults", "taskDefaults"})


def flow_for_execution_json(flow: Flow) -> Json:
    """A flow without the properties of its tasks, for whoever may only start it."""
    return present(
        id=flow.id,
        namespace=flow.namespace,
        revision=flow.revision,
        inputs=_written(flow.source).get("inputs"),
        labels=labels_json(flow.labels),
        tasks=[_task_json(task) for task in flow.tasks],
        errors=[_task_json(task) for task in flow.errors] or None,
        triggers=[{"id": trigger.id, "type": trigger.type} for trigger in flow.triggers] or None,
        disabled=flow.disabled,
        deleted=flow.deleted,
    )


def _task_json(task: Task) -> Json:
    return present(id=task.id, type=task.type, tasks=[_task_json(child) for child in task.children()] or None)


# Executions


def execution_json(execution: Execution, runs: Sequence[TaskRun] | None, now: datetime) -> Json:
    """An execution.

    Args:
        execution: it.
        runs: its task runs; None to leave them out.
        now: the current instant, for the time that it has taken so far.
    """
    found = json_form.execution_json(execution, ())
    del found["taskRunList"]
    for name in ("inputs", "outputs", "variables"):
        if found.get(name):
            found[name] = plain(found[name])
        else:
            found.pop(name, None)
    found["state"] = state_json(execution.history, now)
    if execution.trigger is not None:
        found["trigger"] = trigger_json(execution.trigger)
    if runs:
        found["taskRunList"] = [task_run_json(run, execution, now) for run in runs]
    found["deleted"] = False
    return found


def task_run_json(run: TaskRun, execution: Execution, now: datetime) -> Json:
    """A task run of an execution; *now* as in `execution_json`."""
    found = json_form.task_run_json(run, execution)
    found["attempts"] = [
        present(state=state_json(attempt.history, now), workerId=attempt.worker) for attempt in run.attempts
    ]
    found["state"] = state_json(run.history, now)
    if run.outputs:
        found["outputs"] = plain(run.outputs)
    else:
        found.pop("outputs", None)
    return found


def state_json(history: Sequence[StateChange], now: datetime) -> Json:
    """A state with its history; its end is told of what has ended or is paused."""
    found = json_form.state_json(history)
    last = history[-1]
    if last.state is State.PAUSED:
        found["endDate"] = instant_text(last.date)
    if len(history) == 1:
        found["duration"] = format_duration(max(now - last.date, timedelta(0)))
    return found


def trigger_json(trigger: Mapping[str, object]) -> Json:
    """What started an execution, as clients see it: without what only the engine needs."""
    kept = {name: trigger[name] for name in ("id", "type", "variables", "logFile") if trigger.get(name) is not None}
    return cast("Json", plain(kept))


def ui_address(execution: Execution, url: str) -> str | None:
    """Where people look at an execution; None where the server does not know its own address."""
    if not url:
        return None
    return f"{url.rstrip('/')}/ui/main/executions/{execution.namespace}/{execution.flow_id}/{execution.id}"
