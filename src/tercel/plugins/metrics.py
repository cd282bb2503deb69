"""Metrics that a flow measures itself: Publish."""

from collections.abc import Iterator
from math import isfinite
from typing import Literal

from tercel.plugin_api import (
    Dynamic,
    Outputs,
    Part,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    parse_duration,
    plugin,
)


class PublishedMetric(Part, frozen=True, kw_only=True):
    """One measured value.

    Attributes:
        type: a counter and a timer add up where they have the same name and tags, a gauge keeps the last value.
        value: a number; of a timer a duration such as PT10S, or seconds.
        tags: tell apart what has the same name.
        description: for readers of the flow.
    """

    type: Literal["counter", "timer", "gauge"]
    name: Dynamic
    value: Dynamic
    tags: dict[str, Dynamic] = {}
    description: str | None = None

    def problems(self) -> Iterator[Problem]:
        """A value that is none."""
        if "{" not in self.value:
            try:
                self.measured(self.value)
            except ValueError as error:
                yield Problem(f"{error}.", path=("value",))

    def measured(self, text: str) -> float:
        """A rendered value as a number; of a timer, seconds. Raises ValueError with a sentence."""
        if self.type == "timer":
            return parse_duration(text).total_seconds()
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no number") from None
        if not isfinite(number):
            raise ValueError(f"{text!r} is no number that can be counted with")
        return number


@plugin("io.kestra.plugin.core.metric.Publish")
class Publish(RunnableTask, frozen=True, kw_only=True):
    """Record metrics of your own.

    Attributes:
        metrics: what is recorded.

    Outputs:
        metrics: how many were recorded.

    Example:
        tasks:
          - id: measure
            type: io.kestra.plugin.core.metric.Publish
            metrics:
              - name: orders
                type: counter
                value: "12"
                tags:
                  region: eu
              - name: waited
                type: timer
                value: PT2.5S
              - name: stock
                type: gauge
                value: "{{ 100 - 12 }}"
    """

    is_inline = True

    metrics: list[PublishedMetric]

    def run(self, context: RunContext) -> Outputs:
        """Render and record every metric."""
        for metric in self.metrics:
            name = context.render(metric.name)
            try:
                value = metric.measured(context.render(metric.value).strip())
            except ValueError as error:
                raise TaskFailedError(f"The value of the metric {name!r} cannot be used: {error}.") from error
            tags = {context.render(key): context.render(tag) for key, tag in metric.tags.items()}
            context.metric(name, value, metric.type, tags)
        return Outputs(metrics=len(self.metrics))
