"""`/executions/{executionId}/actions`: what people do with one execution."""

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
from starlette.responses import Response

from tercel.api.answers import json_answer
from tercel.api.call import Call
from tercel.api.execution_starts import given_inputs, inputs_json
from tercel.api.executions import whole_execution
from tercel.api.problems import RequestError
from tercel.api.routing import Route
from tercel.errors import ConflictError
from tercel.model.execution import Execution
from tercel.model.input_types import Input
from tercel.model.labels import label_problems
from tercel.model.state import State


class Label(msgspec.Struct, frozen=True):
    """A label, as clients write it."""

    key: str = ""
    value: str = ""


class TaskState(msgspec.Struct, frozen=True, rename="camel"):
    """The state that a task run is to have."""

    task_run_id: str
    state: State


class Unqueued(StrEnum):
    """What becomes of an execution that waits no longer for its turn."""

    RUNNING = "RUNNING"
    KILLED = "KILLED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


def _answer(call: Call, execution: Execution) -> Response:
    return json_answer(whole_execution(call, execution.id))


def restart(call: Call) -> Response:
    """Go on with an execution that ended badly."""
    revision = call.query.whole("revision", least=1)
    return _answer(call, call.run(call.operations.restart(call.path["executionId"], revision=revision)))


def replay(call: Call) -> Response:
    """Run an execution anew, with the same inputs."""
    return _answer(
        call,
        call.run(
            call.operations.replay(
                call.path["executionId"],
                task_run_id=call.query.text("taskRunId") or None,
                revision=call.query.whole("revision", least=1),
            )
        ),
    )


def replay_with_inputs(call: Call) -> Response:
    """Run an execution anew; what the form leaves out stays as it was."""
    old = call.run(call.operations.get_execution(call.path["executionId"]))
    revision = call.query.whole("revision", least=1)
    flow = call.run(call.operations.get_flow(old.namespace, old.flow_id, revision or old.revision))
    given = given_inputs(call.form, flow.inputs)
    return _answer(
        call,
        call.run(
            call.operations.replay(
                old.id,
                task_run_id=call.query.text("taskRunId") or None,
                revision=revision,
                inputs=given.inputs,
                uploads=given.uploads,
            )
        ),
    )


def kill(call: Call) -> Response:
    """Have an execution end, and those that it started."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    cascade = call.query.flag("isOnKillCascade", True)
    if not execution.is_open and not cascade:
        raise ConflictError(f"The execution {execution.id} has ended already: it is {execution.state}.")
    call.run(call.operations.kill(execution.id, cascade=cascade))
    return _answer(call, execution)


def pause(call: Call) -> Response:
    """Have an execution start nothing more until it is resumed."""
    return _answer(call, call.run(call.operations.pause(call.path["executionId"])))


def resume(call: Call) -> Response:
    """Have a paused execution go on, with what it asks for."""
    execution_id = call.path["executionId"]
    given = given_inputs(call.form, _asked(call))
    return _answer(call, call.run(call.operations.resume(execution_id, given.inputs, uploads=given.uploads)))


def _asked(call: Call) -> Sequence[Input]:
    return call.run(call.operations.resume_inputs(call.path["executionId"]))


def validate_resume(call: Call) -> Response:
    """What would become of the inputs that a paused execution asks for."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    given = given_inputs(call.form, _asked(call))
    found = call.run(call.operations.examine_resume(execution.id, given.inputs, given.names))
    return json_answer(
        {"id": execution.flow_id, "namespace": execution.namespace, "inputs": inputs_json(found, {}, given)}
    )


def force_run(call: Call) -> Response:
    """Have an execution go on without waiting for its time, its turn or a person."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    if execution.state.is_terminal:
        raise RequestError(422, f"The execution {execution.id} has ended: it is {execution.state}.")
    return _answer(call, call.run(call.operations.force_run(execution.id)))


def unqueue(call: Call) -> Response:
    """Have an execution not wait for its turn any longer."""
    state = call.query.choice("state", Unqueued) or Unqueued.RUNNING
    return _answer(call, take_from_queue(call, call.path["executionId"], state))


def take_from_queue(call: Call, execution_id: str, state: Unqueued) -> Execution:
    """Have a queued execution run, or end in *state*. Raises ConflictError where it is not queued."""
    execution = call.run(call.operations.get_execution(execution_id))
    if execution.state is not State.QUEUED:
        raise ConflictError(f"The execution {execution_id} is not queued: it is {execution.state}.")
    if state is Unqueued.RUNNING:
        return call.run(call.operations.force_run(execution_id))
    call.run(call.operations.kill(execution_id))
    ended = call.run(call.operations.wait_for_end(execution_id))
    if state is Unqueued.KILLED or ended.state is not State.KILLED:
        return ended
    return call.run(call.operations.change_status(execution_id, State(state)))


def set_labels(call: Call) -> Response:
    """Give labels to an execution that has ended; those of other keys stay."""
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    labels = read_labels(call.json_as(list[Label]))
    if execution.is_open:
        raise RequestError(400, f"The execution {execution.id} has not ended: it is {execution.state}.")
    return _answer(call, call.run(call.operations.set_labels(execution.id, labels)))


def read_labels(labels: Sequence[Label]) -> dict[str, str]:
    """Labels by key; one without key and value is dropped.

    Raises:
        RequestError: 422, one of them is missing, or the label is tercel's own.
    """
    found: dict[str, str] = {}
    for label in labels:
        if bool(label.key) is not bool(label.value):
            raise RequestError(422, f"The label {label.key or label.value!r} lacks a key or a value.")
        if label.key:
            found[label.key] = label.value
    problems = list(label_problems(found))
    if problems:
        errors = [(problem.message, "labels") for problem in problems]
        raise RequestError(422, problems[0].message, reason="Invalid entity", errors=errors)
    return found


def change_status(call: Call) -> Response:
    """Give an execution that has ended another final state."""
    state = needed_status(call, "status")
    execution = call.run(call.operations.get_execution(call.path["executionId"]))
    if execution.is_open:
        raise RequestError(422, f"The execution {execution.id} has not ended: it is {execution.state}.")
    return _answer(call, call.run(call.operations.change_status(execution.id, state)))


def needed_status(call: Call, name: str) -> State:
    """The state that a request asks for."""
    call.query.needed(name)
    state = call.query.choice(name, State)
    if state is None:
        raise RequestError(422, f"The parameter {name!r} is empty.")
    return state


def change_task_state(call: Call) -> Response:
    """Give a task run of an execution that has ended another final state; the execution goes on after it."""
    asked = call.json_as(TaskState)
    return _answer(
        call,
        call.run(call.operations.change_task_state(call.path["executionId"], asked.task_run_id, asked.state)),
    )


def _action(method: str, name: str, answer: Callable[[Call], Response], *, takes_form: bool = False) -> Route:
    return Route(
        method=method,
        path=f"/executions/{{executionId}}/actions/{name}",
        legacy=f"/executions/{{executionId}}/{name}",
        answer=answer,
        takes_form=takes_form,
    )


ROUTES = (
    _action("POST", "restart", restart),
    _action("POST", "replay", replay),
    _action("POST", "replay-with-inputs", replay_with_inputs, takes_form=True),
    _action("DELETE", "kill", kill),
    _action("POST", "pause", pause),
    _action("POST", "resume", resume, takes_form=True),
    _action("POST", "resume/validate", validate_resume, takes_form=True),
    _action("POST", "force-run", force_run),
    _action("POST", "unqueue", unqueue),
    _action("POST", "labels", set_labels),
    _action("POST", "change-status", change_status),
    _action("POST", "state", change_task_state),
)
