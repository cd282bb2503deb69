"""`/flows/validate`: what is wrong with flows, tasks and triggers, as clients and their users read it."""

from collections.abc import Sequence
from enum import StrEnum

from starlette.responses import Response

from tercel.api.answers import json_answer
from tercel.api.call import Call
from tercel.api.routing import Route
from tercel.api.shapes import Json, present, written
from tercel.errors import InvalidFlowError
from tercel.model.issue import Issue
from tercel.model.source import Checked, check_flow, documents, read_part
from tercel.model.task import Task
from tercel.model.trigger import Trigger
from tercel.plugins import catalog
from tercel.store import FlowRevision

_UNREADABLE = "Unable to validate the flow: "
_RENAMED = ("type.alias", "property.alias", "property.deprecated")


class Section(StrEnum):
    """What a part of a flow is."""

    TASKS = "TASKS"
    TRIGGERS = "TRIGGERS"


def validate(call: Call) -> Response:
    """What is wrong with each flow of the body."""
    saved = {(one.namespace, one.id): one for one in call.run(call.operations.saved_flows())}
    texts = [text for _, text in documents(call.text)]
    return json_answer([_violation(call, index, text, saved) for index, text in enumerate(texts)])


def _violation(call: Call, index: int, text: str, saved: dict[tuple[str, str], FlowRevision]) -> Json:
    flow = written(text)
    namespace, flow_id = (flow.get(name) for name in ("namespace", "id"))
    checked = check_flow(text, catalog(), call.plugin_defaults)
    known = saved.get((str(namespace), str(flow_id)))
    revision = flow.get("revision")
    is_outdated = revision is not None and revision != (1 if known is None else known.revision + 1)
    return present(
        index=index,
        flow=None if flow_id is None else str(flow_id),
        namespace=None if namespace is None else str(namespace),
        outdated=is_outdated,
        **_found(checked.issues, checked),
    )


def _found(issues: Sequence[Issue], checked: Checked | None = None) -> Json:
    warnings = () if checked is None else checked.warnings
    renamed = [issue for issue in warnings if issue.code in _RENAMED]
    others = [issue for issue in warnings if issue.code not in _RENAMED]
    return present(
        constraints="\n".join(map(constraint, issues)) or None,
        deprecationPaths=[issue.path for issue in renamed] or None,
        infos=[issue.text for issue in renamed] or None,
        warnings=[issue.text for issue in others] or None,
    )


def constraint(issue: Issue) -> str:
    """An issue as a line, begun by the words that clients look for."""
    match issue.code:
        case "type.unknown":
            return f"Invalid type: {issue.message.rpartition(' ')[2].removesuffix('.')} – {issue.text}"
        case "property.unknown":
            return f'Unrecognized field "{issue.path.rpartition(".")[2]}" – {issue.text}'
        case code if not code or code.startswith("yaml."):
            return f"{_UNREADABLE}{issue.text}"
        case _:
            return issue.text


def validate_task(call: Call) -> Response:
    """What is wrong with a task, or a trigger."""
    section = call.query.choice("section", Section) or Section.TASKS
    return _part_checked(call, section)


def validate_trigger(call: Call) -> Response:
    """What is wrong with a trigger."""
    return _part_checked(call, Section.TRIGGERS)


def _part_checked(call: Call, section: Section) -> Response:
    part, noun = (Task, "task") if section is Section.TASKS else (Trigger, "trigger")
    try:
        read_part(call.text, part, noun, catalog())
    except InvalidFlowError as error:
        issues = [issue for issue in error.issues if isinstance(issue, Issue)]
        found = _found(issues) if issues else {"constraints": f"{_UNREADABLE}{error}"}
        return json_answer(present(index=0, outdated=False, **found))
    return json_answer({"index": 0, "outdated": False})


ROUTES = (
    Route(method="POST", path="/flows/validate", answer=validate),
    Route(method="POST", path="/flows/validate/task", answer=validate_task),
    Route(method="POST", path="/flows/validate/trigger", answer=validate_trigger),
)
