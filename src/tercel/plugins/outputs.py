"""Outputs without work: OutputValues."""

from tercel.plugin_api import Outputs, RunContext, RunnableTask, plugin


@plugin("io.kestra.plugin.core.output.OutputValues")
class OutputValues(RunnableTask, frozen=True, kw_only=True):
    """Give a map of values back, every text in it rendered.

    Outputs:
        values: the rendered map.

    Example:
        tasks:
          - id: paths
            type: io.kestra.plugin.core.output.OutputValues
            values:
              folder: "{{ flow.namespace }}/{{ execution.startDate | date('yyyy-MM-dd') }}"
              formats:
                - csv
                - json
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.paths.values.folder }}"
    """

    is_inline = True

    values: dict[str, object] = {}

    def run(self, context: RunContext) -> Outputs:
        """Render the values."""
        return Outputs(values=context.render_value(self.values))
