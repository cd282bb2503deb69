"""Flowables that run their tasks once for each value: ForEach, EachSequential, EachParallel."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, ClassVar, cast

import msgspec

from tercel.errors import UserError
from tercel.machine.flowable import Decision, FlowableTask, Lanes, Render
from tercel.model.catalog import plugin
from tercel.model.task import Dynamic, Task


class _Each(FlowableTask, frozen=True, kw_only=True):
    """What loops share: their values are rendered once, and kept."""

    tasks: Annotated[list[Task], msgspec.Meta(min_length=1)]

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks of one round."""
        return {"tasks": self.tasks}

    def _decided(self, values: object, render: Render) -> Decision:
        return Decision(plan=list(loop_values(values, render)))

    def _lanes(self, decision: Decision, limit: int, *, side_by_side: bool = False) -> Lanes:
        return Lanes(values=cast("list[str]", decision.plan), side_by_side=side_by_side, limit=limit)


@plugin("io.kestra.plugin.core.flow.ForEach")
class ForEach(_Each, frozen=True, kw_only=True):
    """Run tasks once for each value, the tasks of one value one after the other.

    Inside, `{{ taskrun.value }}` is the value, `{{ taskrun.iteration }}` its place from zero.

    Attributes:
        values: a list, or a text that renders to a JSON list; a value that comes twice runs once.
        concurrency_limit: how many values run at once; 0 is all of them.

    Example:
        tasks:
          - id: regions
            type: io.kestra.plugin.core.flow.ForEach
            values: ["eu", "us", "asia"]
            concurrencyLimit: 2
            tasks:
              - id: load
                type: io.kestra.plugin.core.debug.Return
                format: "{{ taskrun.iteration }}: {{ taskrun.value }}"
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.load.us.value }}"
    """

    values: list[object] | Dynamic
    concurrency_limit: Annotated[int, msgspec.Meta(ge=0)] = 1

    def decide(self, render: Render) -> Decision:
        """Render the values."""
        return self._decided(self.values, render)

    def lanes(self, decision: Decision) -> Lanes:
        """One lane for each value."""
        return self._lanes(decision, self.concurrency_limit)


@plugin("io.kestra.plugin.core.flow.EachSequential", aliases=["io.kestra.core.tasks.flows.EachSequential"])
class EachSequential(_Each, frozen=True, kw_only=True):
    """Run tasks for one value after the other; older form of ForEach.

    Attributes:
        value: a list, or a text that renders to a JSON list; a value that comes twice runs once.

    Example:
        tasks:
          - id: regions
            type: io.kestra.plugin.core.flow.EachSequential
            value: ["eu", "us"]
            tasks:
              - id: load
                type: io.kestra.plugin.core.log.Log
                message: "Loads {{ taskrun.value }}."
    """

    deprecated: ClassVar[Mapping[str, str]] = {"type": "Use io.kestra.plugin.core.flow.ForEach."}

    value: list[object] | Dynamic

    def decide(self, render: Render) -> Decision:
        """Render the values."""
        return self._decided(self.value, render)

    def lanes(self, decision: Decision) -> Lanes:
        """One lane for each value, one at a time."""
        return self._lanes(decision, 1)


@plugin("io.kestra.plugin.core.flow.EachParallel", aliases=["io.kestra.core.tasks.flows.EachParallel"])
class EachParallel(_Each, frozen=True, kw_only=True):
    """Run every task for every value, all side by side; older form of ForEach.

    Attributes:
        value: a list, or a text that renders to a JSON list; a value that comes twice runs once.
        concurrent: how many tasks run at once; 0 is no limit.

    Example:
        tasks:
          - id: regions
            type: io.kestra.plugin.core.flow.EachParallel
            value: ["eu", "us"]
            concurrent: 2
            tasks:
              - id: load
                type: io.kestra.plugin.core.log.Log
                message: "Loads {{ taskrun.value }}."
    """

    deprecated: ClassVar[Mapping[str, str]] = {"type": "Use io.kestra.plugin.core.flow.ForEach."}

    value: list[object] | Dynamic
    concurrent: Annotated[int, msgspec.Meta(ge=0)] = 0

    def decide(self, render: Render) -> Decision:
        """Render the values."""
        return self._decided(self.value, render)

    def lanes(self, decision: Decision) -> Lanes:
        """One lane for each value and task."""
        return self._lanes(decision, self.concurrent, side_by_side=True)


def loop_values(written: object, render: Render) -> Iterable[str]:
    """The values of a loop as text, each once, in the order of their first appearance.

    Raises:
        UserError: no list, or a null in it.
    """
    items = (
        _listed(render(written)) if isinstance(written, str) else [_rendered(item, render) for item in _list(written)]
    )
    return dict.fromkeys(_text(item, place) for place, item in enumerate(items))


def _listed(text: str) -> Sequence[object]:
    try:
        return _list(msgspec.json.decode(text))
    except msgspec.DecodeError:
        return _list(text)


def _list(value: object) -> Sequence[object]:
    if isinstance(value, list):
        return cast("list[object]", value)
    shown = str(value)
    raise UserError(
        f"The values of a loop have to be a list, not {shown[:100]!r}.",
        'Write ["a", "b"] or an expression that gives a list.',
    )


def _rendered(item: object, render: Render) -> object:
    match item:
        case str():
            return render(item)
        case dict():
            pairs = cast("dict[object, object]", item).items()
            return {_rendered(key, render): _rendered(value, render) for key, value in pairs}
        case list():
            return [_rendered(value, render) for value in cast("list[object]", item)]
        case _:
            return item


def _text(item: object, place: int) -> str:
    if item is None:
        raise UserError(f"Value number {place + 1} of a loop is null.", "Leave it out, or write an empty text.")
    return item if isinstance(item, str) else msgspec.json.encode(item).decode()
