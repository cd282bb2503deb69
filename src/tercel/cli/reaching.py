"""Which execution and which task run is meant, and whether this process can reach it."""

from collections.abc import Collection, Sequence
from typing import NoReturn

from tercel.errors import UserError
from tercel.model.execution import TaskRun
from tercel.server import Home
from tercel.store.home import home_users

_MOST_TOLD = 20
_SERVER = "tercel server"


def refuse_elsewhere(home: Home, execution_id: str, hint: str) -> NoReturn:
    """Say that an execution belongs to another process, which lives."""
    owner = home.open_elsewhere().get(execution_id)
    user = next((user for user in home_users(home.settings.home) if user.id == owner), None)
    if user is not None and user.what == _SERVER:
        hint = f"Ask the server, by its API: /api/v1/main/executions/{execution_id}/actions has all that can be done."
    raise UserError(f"The execution {execution_id} runs in {user or 'another process'}.", hint)


def meant_task_run(runs: Sequence[TaskRun], name: str, execution_id: str, *, among: Collection[str] = ()) -> TaskRun:
    """The task run that a task run's id, or a task's, means.

    Args:
        runs: of the execution.
        name: the id.
        execution_id: of the execution.
        among: the states that it can be in; any where empty. It only decides between several runs of a task.

    Raises:
        UserError: there is none, or a task has several.
    """
    for run in runs:
        if run.id == name:
            return run
    found = [run for run in runs if run.task_id == name]
    fitting = [run for run in found if run.state in among] or found
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        tasks = ", ".join(dict.fromkeys(run.task_id for run in runs))
        hint = f"Its tasks are: {tasks}." if tasks else "Nothing of it has run."
        raise UserError(f"The execution {execution_id} has no task run {name!r}.", hint)
    lines = [f"  {run.id}  {_place(run)}  {run.state}" for run in fitting[:_MOST_TOLD]]
    if len(fitting) > _MOST_TOLD:
        lines.append(f"  … and {len(fitting) - _MOST_TOLD} more")
    raise UserError(
        f"The task {name!r} has {len(fitting)} task runs in the execution {execution_id}.",
        "\n".join(["Give the id of one of them:", *lines]),
    )


def _place(run: TaskRun) -> str:
    """Where in its loop a task run is."""
    parts = [] if run.value is None else [f"value {run.value}"]
    if run.iteration is not None:
        parts.append(f"iteration {run.iteration}")
    return ", ".join(parts) or "no loop of its own"
