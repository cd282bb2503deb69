"""Template: tasks that are kept apart from flows, and used by several of them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from tercel.errors import UserError
from tercel.machine.flowable import Decision, FlowableTask, Render
from tercel.model.catalog import plugin
from tercel.model.task import Dynamic, Internal, Part, Task


class TemplateContent(Part, frozen=True, kw_only=True):
    """What the file of a template holds.

    Attributes:
        id: of the template.
        namespace: of the template.
        description: for readers.
        tasks: run one after the other.
        errors: run when one of them failed.
    """

    id: str
    namespace: str
    description: str | None = None
    tasks: Annotated[list[Task], msgspec.Meta(min_length=1)]
    errors: list[Task] = []


@plugin("io.kestra.plugin.core.flow.Template", aliases=["io.kestra.core.tasks.flows.Template"])
class Template(FlowableTask, frozen=True, kw_only=True):
    """Run the tasks of a template, one after the other.

    Templates are files in the folder that the setting `TERCEL_TEMPLATES` names, each with `id`, `namespace`, `tasks`
    and `errors`; without that setting they are off. A template is read when the flow is.

    Attributes:
        namespace: of the template.
        template_id: of the template.
        args: seen by its tasks as `parent.outputs.args`.
        content: what the file holds.

    Outputs:
        args: the rendered ones.

    Example:
        tasks:
          - id: greet
            type: io.kestra.plugin.core.flow.Template
            namespace: company.team
            templateId: greeting
            args:
              name: Grace
    """

    deprecated: ClassVar[Mapping[str, str]] = {"type": "Use io.kestra.plugin.core.flow.Subflow."}

    namespace: str
    template_id: str
    args: dict[str, Dynamic] = {}
    content: Annotated[TemplateContent | None, Internal] = None

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """The tasks of the template."""
        return {"tasks": [] if self.content is None else self.content.tasks}

    def decide(self, render: Render) -> Decision:
        """Render the arguments."""
        if self.content is None:
            raise UserError(
                f"The template {self.namespace}.{self.template_id} is not there: templates are off.",
                "Set TERCEL_TEMPLATES to the folder with their files, or use a Subflow.",
            )
        return Decision(outputs={"args": {name: render(text) for name, text in self.args.items()}})
