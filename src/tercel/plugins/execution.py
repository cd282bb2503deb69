"""Tasks about the execution they run in: Fail."""

from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, plugin


@plugin("io.kestra.plugin.core.execution.Fail", aliases=["io.kestra.core.tasks.executions.Fail"])
class Fail(RunnableTask, frozen=True, kw_only=True):
    """Fail, always or when a condition holds.

    Attributes:
        condition: fails unless it renders to an empty text, `false`, `0` or `-0`; without one, always.
        error_message: what is said then.
    """

    is_inline = True

    condition: Dynamic | bool | None = None
    error_message: Dynamic = "Task failure"

    def run(self, context: RunContext) -> Outputs:
        """Look at the condition."""
        if self.condition is None or self._holds(context):
            raise TaskFailedError(context.render(self.error_message))
        return Outputs()

    def _holds(self, context: RunContext) -> bool:
        if isinstance(self.condition, str):
            return context.render(self.condition) not in {"", "false", "0", "-0"}
        return bool(self.condition)
