"""Outputs without work: OutputValues."""

from tercel.plugin_api import Outputs, RunContext, RunnableTask, plugin


@plugin("io.kestra.plugin.core.output.OutputValues")
class OutputValues(RunnableTask, frozen=True, kw_only=True):
    """Give a map of values back, every text in it rendered.

    Outputs:
        values: the rendered map.
    """

    is_inline = True

    values: dict[str, object] = {}

    def run(self, context: RunContext) -> Outputs:
        """Render the values."""
        return Outputs(values=context.render_value(self.values))
