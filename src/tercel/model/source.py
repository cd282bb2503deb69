"""A flow's YAML text to a Flow, or to every issue it has, each with line, path and hint.

The way: text to nodes (`yaml_nodes`), plugin defaults put in (`defaults`), nodes to parts (`convert`), and the
rules that need the whole flow (`checks`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar, cast

import msgspec
from yaml.nodes import MappingNode, Node, ScalarNode

from tercel.errors import InvalidFlowError
from tercel.model.catalog import Catalog
from tercel.model.checks import check_flow_rules
from tercel.model.convert import Reading
from tercel.model.defaults import Defaults
from tercel.model.flow import Flow, PluginDefault
from tercel.model.issue import Issue
from tercel.model.shapes import Nested
from tercel.model.task import Part, Task
from tercel.model.yaml_nodes import Entries, compose

__all__ = [
    "Checked",
    "Issue",
    "check_flow",
    "check_flows",
    "check_stored",
    "documents",
    "invalid",
    "no_mapping_issue",
    "read_flow",
    "read_flows",
    "read_part",
]

P = TypeVar("P", bound=Part)
_TEXT = "tag:yaml.org,2002:str"


class Checked(msgspec.Struct, frozen=True):
    """What reading a flow gave.

    Attributes:
        flow: the flow; None where there are issues.
        issues: every violation, by line.
        warnings: what works but should be written otherwise, by line.
    """

    flow: Flow | None
    issues: tuple[Issue, ...] = ()
    warnings: tuple[Issue, ...] = ()


def read_flow(text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault] = ()) -> Flow:
    """Read the flow that *text* holds; arguments as for `check_flow`.

    Raises:
        InvalidFlowError: with every issue.
    """
    checked = check_flow(text, catalog, global_defaults)
    if checked.flow is None:
        raise invalid(checked.issues)
    return checked.flow


def read_flows(text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault] = ()) -> list[Flow]:
    """Read the flows that *text* holds, one for each document; arguments as for `check_flow`.

    Raises:
        InvalidFlowError: with every issue of every flow; their lines are those of the whole text.
    """
    every = check_flows(text, catalog, global_defaults)
    issues = [issue for checked in every for issue in checked.issues]
    if issues:
        raise invalid(issues)
    return [checked.flow for checked in every if checked.flow is not None]


def check_flows(text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault] = ()) -> list[Checked]:
    """As `check_flow` for each document of *text*; lines are those of the whole text, sources those of the document."""
    every: list[Checked] = []
    for line, document in documents(text):
        checked = check_flow(document, catalog, global_defaults)
        issues, warnings = _moved(checked.issues, line), _moved(checked.warnings, line)
        every.append(Checked(checked.flow, issues, warnings))
    return every


def check_flow(text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault] = ()) -> Checked:
    """Read the flow that *text* holds and say everything that is wrong, or should be written otherwise.

    Args:
        text: YAML, one document. A line `revision: …` of the flow itself is not part of the source that is kept.
        catalog: finds types.
        global_defaults: plugin defaults from outside, the most important first; those of the flow go before them,
            and of forced ones behind them.
    """
    return _check(text, catalog, global_defaults)


def check_stored(text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault] = ()) -> Checked:
    """Read the source of a flow that was valid when it was stored; arguments as for `check_flow`.

    Returns:
        The flow without issues; or, where only plugin defaults keep it from being read, the flow without any of them
        and the issues, to be told as an error; or no flow and the issues: an invalid flow, which is shown and can be
        edited, but neither started nor scheduled.
    """
    checked = _check(text, catalog, global_defaults)
    if checked.flow is not None:
        return checked
    bare = _check(text, catalog, (), has_defaults=False)
    return Checked(bare.flow, checked.issues, checked.warnings)


def no_mapping_issue(root: Node) -> Issue:
    """The issue that the text of a flow has another *root* than a mapping."""
    mark = root.start_mark
    message, hint = "A flow is a mapping.", "Begin with `id: …`, `namespace: …` and `tasks:`."
    return Issue(line=mark.line + 1, column=mark.column + 1, message=message, hint=hint)


def _check(
    text: str, catalog: Catalog, global_defaults: Sequence[PluginDefault], *, has_defaults: bool = True
) -> Checked:
    root, faults = compose(text)
    if root is None:
        return Checked(None, tuple(faults))
    entries = Entries(root)
    if not isinstance(root, MappingNode):
        return Checked(None, (no_mapping_issue(root),))
    defaults = Defaults(root, entries, global_defaults) if has_defaults else Defaults(None, entries)
    reading = Reading(catalog, entries, defaults)
    flow = cast("Flow", reading.read(Nested(part=Flow), root, ()))
    check_flow_rules(flow, reading, defaults, entries, catalog)
    issues, warnings = _by_line(reading.issues), _by_line(reading.warnings)
    source = _without_revision(text, root)
    return Checked(None if issues else msgspec.structs.replace(flow, source=source), issues, warnings)


def read_part(text: str, part: type[P], noun: str, catalog: Catalog, missing: Mapping[str, str] | None = None) -> P:
    """Read what *text* holds as *part*; no plugin defaults apply.

    Args:
        text: YAML, one document.
        part: what it has to be.
        noun: what people call that.
        catalog: finds types.
        missing: properties that are taken to be there where the text gives none.

    Raises:
        InvalidFlowError: it is none; with every issue.
    """
    root, issues = compose(text)
    if root is not None:
        if not isinstance(root, MappingNode):
            raise InvalidFlowError(f"A {noun} is a mapping.", "Begin with `type: …`." if part is Task else "")
        there = {key.value for key, _ in root.value if isinstance(key, ScalarNode)}
        for pair in (missing or {}).items():
            if pair[0] not in there:
                key, value = (ScalarNode(_TEXT, one, root.start_mark, root.end_mark) for one in pair)
                root.value.append((key, value))
        entries = Entries(root)
        reading = Reading(catalog, entries, Defaults(root, entries))
        read = cast("P", reading.read(Nested(part=part), root, ()))
        if not reading.issues:
            return read
        issues = _by_line(reading.issues)
    raise InvalidFlowError(f"The {noun} is not valid. {' '.join(issue.text for issue in issues)}", issues=issues)


def invalid(issues: Sequence[Issue]) -> InvalidFlowError:
    """The error that carries *issues*, of which there is at least one."""
    if len(issues) == 1:
        return InvalidFlowError(f"The flow is not valid. {issues[0].text}", issues=issues)
    lines = "".join(f"\n  {issue.text}" for issue in issues)
    return InvalidFlowError(f"The flow is not valid, for {len(issues)} reasons:{lines}", issues=issues)


def _by_line(issues: Sequence[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(issues, key=lambda issue: (issue.line, issue.column)))


def _moved(issues: Sequence[Issue], lines: int) -> tuple[Issue, ...]:
    return tuple(msgspec.structs.replace(issue, line=issue.line + lines) for issue in issues)


_REVISION_LINE = re.compile(r"""\s*(['"]?)revision\1\s*:\s*[0-9]+\s*(?:\#.*)?""")


def _without_revision(text: str, root: MappingNode) -> str:
    """*text* without the line that only says which revision the flow has."""
    if "revision" not in text:
        return text
    lines = text.splitlines(keepends=True)
    for key, _ in cast("list[tuple[Node, Node]]", root.value):
        at = key.start_mark.line
        if isinstance(key, ScalarNode) and key.value == "revision" and _REVISION_LINE.fullmatch(lines[at].rstrip()):
            return "".join((*lines[:at], *lines[at + 1 :]))
    return text


_NOT_YET_A_DOCUMENT = re.compile(r"\s*(?:[#%].*)?")


def documents(text: str) -> Iterator[tuple[int, str]]:
    """The documents of *text*, each with the number of lines before it; one that holds nothing only where all do.

    In YAML a line that begins with `---` parts documents wherever it stands, within texts as well.
    """
    lines = text.splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if re.match(r"---(?:\s|$)", line)]
    found = [
        (start, lines[start:end])
        for start, end in zip([0, *starts], [*starts, len(lines)], strict=True)
        if not all(_NOT_YET_A_DOCUMENT.fullmatch(line.removeprefix("---").strip()) for line in lines[start:end])
    ]
    if not found:
        yield 0, ""
    for start, document in found:
        is_mark = document[0].startswith("---") and document[0][3:].strip() == ""
        yield start + is_mark, "".join(document[is_mark:])
