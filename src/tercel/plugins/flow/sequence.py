"""Flowables that run the tasks written in them: Sequential, Parallel, AllowFailure."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from tercel.machine.flowable import Decision, FlowableTask, Lanes
from tercel.model.catalog import plugin
from tercel.model.state import State
from tercel.model.task import Task


@plugin("io.kestra.plugin.core.flow.Sequential", aliases=["io.kestra.core.tasks.flows.Sequential"])
class Sequential(FlowableTask, frozen=True, kw_only=True):
    """Run tasks one after the other; the first that fails ends it.

    Example:
        tasks:
          - id: steps
            type: io.kestra.plugin.core.flow.Sequential
            tasks:
              - id: first
                type: io.kestra.plugin.core.log.Log
                message: One.
              - id: second
                type: io.kestra.plugin.core.log.Log
                message: Two.
    """

    tasks: list[Task]

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks."""
        return {"tasks": self.tasks}


@plugin("io.kestra.plugin.core.flow.AllowFailure", aliases=["io.kestra.core.tasks.flows.AllowFailure"])
class AllowFailure(Sequential, frozen=True, kw_only=True):
    """Run tasks one after the other; when one fails, the flow goes on with a warning.

    Example:
        tasks:
          - id: if_it_can_be
            type: io.kestra.plugin.core.flow.AllowFailure
            tasks:
              - id: optional
                type: io.kestra.plugin.core.execution.Fail
                errorMessage: This service is not there today.
          - id: go_on
            type: io.kestra.plugin.core.log.Log
            message: The rest runs all the same.
    """

    def resolve(self, state: State, decision: Decision) -> State:
        """A failure is a warning."""
        del decision
        return State.WARNING if state is State.FAILED else state


@plugin("io.kestra.plugin.core.flow.Parallel", aliases=["io.kestra.core.tasks.flows.Parallel"])
class Parallel(FlowableTask, frozen=True, kw_only=True):
    """Run tasks side by side.

    Attributes:
        concurrent: how many run at once; 0 is no limit.

    Example:
        tasks:
          - id: side_by_side
            type: io.kestra.plugin.core.flow.Parallel
            concurrent: 2
            tasks:
              - id: orders
                type: io.kestra.plugin.core.log.Log
                message: Loads orders.
              - id: customers
                type: io.kestra.plugin.core.log.Log
                message: Loads customers.
              - id: prices
                type: io.kestra.plugin.core.log.Log
                message: Loads prices.
    """

    tasks: Annotated[list[Task], msgspec.Meta(min_length=1)]
    concurrent: Annotated[int, msgspec.Meta(ge=0)] = 0

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks."""
        return {"tasks": self.tasks}

    def lanes(self, decision: Decision) -> Lanes:
        """One lane for each task."""
        del decision
        return Lanes(side_by_side=True, limit=self.concurrent)
