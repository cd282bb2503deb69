"""A single task from its YAML text, for tasks that make up another one as they run."""

from typing import cast

from tercel.errors import InvalidFlowError
from tercel.model import Task
from tercel.model.catalog import Catalog
from tercel.model.convert import Reading
from tercel.model.defaults import Defaults
from tercel.model.shapes import Nested
from tercel.model.yaml_nodes import Entries, MappingNode, ScalarNode, compose

_TEXT = "tag:yaml.org,2002:str"


def read_task(text: str, catalog: Catalog, task_id: str) -> Task:
    """The task that *text* describes, as one of a flow's `tasks`; no plugin defaults apply.

    Args:
        text: YAML.
        catalog: finds its type.
        task_id: its id where the text gives none.

    Raises:
        InvalidFlowError: it describes none; with every issue.
    """
    root, issues = compose(text)
    if root is not None:
        if not isinstance(root, MappingNode):
            raise InvalidFlowError("A task is a mapping.", "Begin with `type: …`.")
        if not any(isinstance(key, ScalarNode) and key.value == "id" for key, _ in root.value):
            key, value = (ScalarNode(_TEXT, one, root.start_mark, root.end_mark) for one in ("id", task_id))
            root.value.append((key, value))
        entries = Entries(root)
        reading = Reading(catalog, entries, Defaults(root, entries))
        task = cast("Task", reading.read(Nested(part=Task), root, ()))
        if not reading.issues:
            return task
        issues = sorted(reading.issues, key=lambda issue: (issue.line, issue.column))
    raise InvalidFlowError(f"The task is not valid. {' '.join(issue.text for issue in issues)}", issues=issues)
