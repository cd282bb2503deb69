"""Templates: files with tasks, put into the flows that use them when those are read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from tercel.errors import InvalidFlowError
from tercel.model.catalog import Catalog
from tercel.model.flow import Flow
from tercel.model.source import read_part
from tercel.model.task import Task
from tercel.plugins.flow.template import Template, TemplateContent

_MOST_DEEP = 10
"""Templates inside templates; one that holds itself ends here."""


def with_templates(flow: Flow, folder: Path, catalog: Catalog) -> Flow:
    """*flow* with the tasks of the templates that it uses.

    Args:
        flow: as it was read.
        folder: with the files of templates, at any depth.
        catalog: finds the types of their tasks.

    Raises:
        InvalidFlowError: a template is not there or cannot be read, or an id of its tasks is used already.
    """
    if not any(isinstance(task, Template) for task in flow.walk()):
        return flow
    filled = cast("Flow", _Filler(_read_all(folder, catalog)).fill(flow, 0))
    ids = [task.id for task in filled.walk()]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise InvalidFlowError(
            f"The task id {twice[0]!r} is used more than once, in the flow and the templates that it uses.",
            "Give every task its own id.",
        )
    return filled


def _read_all(folder: Path, catalog: Catalog) -> dict[tuple[str, str], TemplateContent]:
    found: dict[tuple[str, str], TemplateContent] = {}
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        try:
            content = read_part(path.read_text(encoding="utf-8"), TemplateContent, f"template {path}", catalog)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidFlowError(f"The template {path} cannot be read: {error}.") from error
        found[content.namespace, content.id] = content
    return found


class _Filler:
    def __init__(self, templates: dict[tuple[str, str], TemplateContent]) -> None:
        self._templates = templates

    def fill(self, part: msgspec.Struct, depth: int) -> msgspec.Struct:
        """*part* with each Template inside it filled."""
        if isinstance(part, Template):
            return self._filled(part, depth)
        changed: dict[str, Any] = {}
        for name in part.__struct_fields__:
            value = getattr(part, name)
            new = self._value(value, depth)
            if new is not value:
                changed[name] = new
        return msgspec.structs.replace(part, **changed) if changed else part

    def _value(self, value: object, depth: int) -> object:
        match value:
            case Task() | TemplateContent():
                return self.fill(value, depth)
            case msgspec.Struct() if any(isinstance(getattr(value, one), Task) for one in value.__struct_fields__):
                return self.fill(value, depth)
            case list():
                items = cast("Sequence[object]", value)
                filled = [self._value(item, depth) for item in items]
                return filled if any(new is not old for new, old in zip(filled, items, strict=True)) else items
            case dict():
                old = cast("dict[object, object]", value)
                new = {key: self._value(item, depth) for key, item in old.items()}
                return new if any(new[key] is not item for key, item in old.items()) else old
            case _:
                return value

    def _filled(self, task: Template, depth: int) -> Template:
        if task.content is not None:
            return task
        content = self._templates.get((task.namespace, task.template_id))
        if content is None or depth >= _MOST_DEEP:
            what = "is not there" if content is None else "holds itself"
            raise InvalidFlowError(
                f"The template {task.namespace}.{task.template_id} of task {task.id!r} {what}.",
                "Its file belongs into the folder that TERCEL_TEMPLATES names.",
            )
        inside = cast("TemplateContent", self.fill(content, depth + 1))
        errors = [*inside.errors, *task.errors]
        return msgspec.structs.replace(task, content=inside, errors=errors)
