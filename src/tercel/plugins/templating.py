"""A task made up as it runs: TemplatedTask."""

from tercel.errors import InvalidFlowError
from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, plugin


@plugin("io.kestra.plugin.core.templating.TemplatedTask", aliases=["io.kestra.core.tasks.templating.TemplatedTask"])
class TemplatedTask(RunnableTask, frozen=True, kw_only=True):
    """Run a task whose every property may be an expression, its type included. It gives the outputs of that task.

    Attributes:
        spec: the task in YAML, with its `id` and `type`; rendered before it is read. It has to be a task that does
            work on a worker. Its timeout, retries and the like are those of this one.

    Example:
        inputs:
          - id: kind
            type: STRING
            defaults: log.Log
        tasks:
          - id: whatever
            type: io.kestra.plugin.core.templating.TemplatedTask
            spec: |
              type: io.kestra.plugin.core.{{ inputs.kind }}
              message: Made up as it runs.
    """

    spec: Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Read the task and run it."""
        try:
            task = context.read_task(context.render(self.spec))
        except InvalidFlowError as error:
            raise TaskFailedError(f"The 'spec' holds no task that can run: {error}") from error
        if isinstance(task, TemplatedTask):
            raise TaskFailedError("The 'spec' holds a TemplatedTask again.", "Write the task itself.")
        if not isinstance(task, RunnableTask):
            raise TaskFailedError(
                f"The 'spec' is of type {task.type}, which shapes the flow; only a task that does work can run here."
            )
        if task.updates_execution and context.is_shared:
            raise TaskFailedError(f"The 'spec' is of type {task.type}, which cannot run inside a WorkingDirectory.")
        return task.run(context)
