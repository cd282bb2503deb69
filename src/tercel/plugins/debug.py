"""Tasks that say or give back something: Return, Log, and its former name Echo."""

from collections.abc import Mapping
from time import perf_counter
from typing import ClassVar

from tercel.plugin_api import Dynamic, LogLevel, Outputs, RunContext, RunnableTask, plugin


@plugin("io.kestra.plugin.core.debug.Return", aliases=["io.kestra.core.tasks.debugs.Return"])
class Return(RunnableTask, frozen=True, kw_only=True):
    """Give a rendered value back as output; handy to look at an expression.

    Outputs:
        value: the rendered `format`; null without one.

    Example:
        tasks:
          - id: greeting
            type: io.kestra.plugin.core.debug.Return
            format: "Hello {{ flow.namespace | upper }}"
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.greeting.value }}"
    """

    is_inline = True

    format: Dynamic | None = None

    def run(self, context: RunContext) -> Outputs:
        """Render `format`."""
        started = perf_counter()
        value = None if self.format is None else context.render(self.format)
        context.logger.debug("null" if value is None else value)
        tags = {"format": self.format or ""}
        context.metric("length", len(value or ""), tags=tags)
        context.metric("duration", perf_counter() - started, "timer", tags)
        return Outputs(value=value)


@plugin("io.kestra.plugin.core.log.Log", aliases=["io.kestra.core.tasks.log.Log"])
class Log(RunnableTask, frozen=True, kw_only=True):
    """Write a message, or one for each item of a list, to the log.

    Attributes:
        message: a text, or a list of texts.

    Example:
        tasks:
          - id: say
            type: io.kestra.plugin.core.log.Log
            level: WARN
            message:
              - "Flow {{ flow.id }} runs."
              - "It started at {{ execution.startDate }}."
    """

    is_inline = True

    message: Dynamic | list[Dynamic]
    level: LogLevel = LogLevel.INFO

    def run(self, context: RunContext) -> Outputs:
        """Log each message."""
        messages = [self.message] if isinstance(self.message, str) else self.message
        for message in messages:
            context.logger.log(self.level, context.render(message))
        return Outputs()


@plugin("io.kestra.plugin.core.debug.Echo", aliases=["io.kestra.core.tasks.debugs.Echo"])
class Echo(RunnableTask, frozen=True, kw_only=True):
    """Write a text to the log; the former name of Log.

    Example:
        tasks:
          - id: say
            type: io.kestra.plugin.core.debug.Echo
            format: "Flow {{ flow.id }} runs."
    """

    deprecated: ClassVar[Mapping[str, str]] = {"type": "Use io.kestra.plugin.core.log.Log."}

    is_inline = True

    format: Dynamic | None = None
    level: LogLevel = LogLevel.INFO

    def run(self, context: RunContext) -> Outputs:
        """Log the text."""
        context.logger.log(self.level, context.render(self.format or ""))
        return Outputs()
