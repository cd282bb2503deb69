"""Triggers switched on and off by flows: Toggle."""

from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, is_truthy_text, plugin


@plugin("io.kestra.plugin.core.trigger.Toggle", aliases=["io.kestra.core.tasks.trigger.Toggle"])
class Toggle(RunnableTask, frozen=True, kw_only=True):
    """Disable a trigger, or enable it.

    Attributes:
        trigger: id of the trigger.
        namespace: of the trigger's flow; without it, that of the flow that runs this task.
        flow_id: the trigger's flow; without it, the flow that runs this task.
        enabled: false disables the trigger, true enables it.

    Example:
        tasks:
          - id: work
            type: io.kestra.plugin.core.log.Log
            message: This had to be done once.
          - id: switch_off
            type: io.kestra.plugin.core.trigger.Toggle
            trigger: hourly
            enabled: false
        triggers:
          - id: hourly
            type: io.kestra.plugin.core.trigger.Schedule
            cron: "@hourly"
    """

    trigger: Dynamic
    namespace: Dynamic = "{{ flow.namespace }}"
    flow_id: Dynamic = "{{ flow.id }}"
    enabled: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Have the engine do it."""
        enabled = is_truthy_text(context.render(self.enabled)) if isinstance(self.enabled, str) else self.enabled
        context.engine.set_trigger_disabled(
            context.render(self.namespace),
            context.render(self.flow_id),
            context.render(self.trigger),
            disabled=not enabled,
        )
        return Outputs()
