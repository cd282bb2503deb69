"""Waiting: Sleep."""

from threading import TIMEOUT_MAX, Event

from tercel.plugin_api import (
    DynamicDuration,
    Outputs,
    RunContext,
    RunnableTask,
    TaskFailedError,
    parse_duration,
    plugin,
)


@plugin("io.kestra.plugin.core.flow.Sleep")
class Sleep(RunnableTask, frozen=True, kw_only=True):
    """Wait, and hold a worker's slot meanwhile; `Pause` with `delay` waits without one.

    Attributes:
        duration: how long, such as PT10S; or an expression that gives a duration.

    Example:
        tasks:
          - id: wait
            type: io.kestra.plugin.core.flow.Sleep
            duration: PT0.2S
    """

    duration: DynamicDuration

    def run(self, context: RunContext) -> Outputs:
        """Wait; a kill or timeout ends it at once."""
        rendered = context.render(self.duration)
        try:
            seconds = parse_duration(rendered).total_seconds()
        except ValueError as error:
            raise TaskFailedError(f"The duration cannot be read: {error}.") from error
        stopped = Event()
        with context.stopping(stopped.set):
            stopped.wait(min(max(seconds, 0.0), TIMEOUT_MAX))
        context.stop_if_killed()
        return Outputs()
