"""Some of a flow's leaves as tasks that need no worker: the executor answers them itself, before the commit."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from tercel.model.flow import Flow
from tercel.model.task import Task
from tercel.model.working_directory import DirectoryTask
from tests.simulation.flows import Starts


class InlineTask(Task, frozen=True, kw_only=True):
    """A leaf that needs no worker."""

    is_inline: ClassVar[bool] = True


class StartsHere(Starts, frozen=True, kw_only=True):
    """A task whose work other executions do, as the executor itself starts them."""

    def started(self, ids: Sequence[str], total: int, base_uri: str) -> Mapping[str, object]:
        return {}


def with_inline_tasks(flow: Flow, seed: int) -> Flow:
    """The flow with about a third of its plain leaves inline; none inside of WorkingDirectories."""
    share = Random(seed).choice([0.0, 0.3, 0.8])
    return replace(flow, **{name: _in(getattr(flow, name), share) for name in flow.__struct_fields__})


def _in(value: Any, share: float) -> Any:
    if isinstance(value, DirectoryTask):  # its own tasks are its worker's
        return replace(value, errors=_in(value.errors, share), finally_=_in(value.finally_, share))
    if type(value) is Starts:
        return StartsHere(**{name: getattr(value, name) for name in value.__struct_fields__})
    if type(value) is Task:
        properties = {name: getattr(value, name) for name in value.__struct_fields__}
        return InlineTask(**properties) if Random(value.id).random() < share else value
    if isinstance(value, msgspec.Struct):
        return replace(value, **{name: _in(getattr(value, name), share) for name in value.__struct_fields__})
    if isinstance(value, list | tuple):
        return type(value)(_in(one, share) for one in value)
    if isinstance(value, dict):
        return {key: _in(one, share) for key, one in value.items()}
    return value
