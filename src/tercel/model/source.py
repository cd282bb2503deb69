"""A flow's YAML text to a Flow, or to every issue it has, each with line, path and hint.

The way: text to nodes (`yaml_nodes`), plugin defaults put in (`defaults`), nodes to parts (`convert`), and the
rules that need the whole flow (`checks`).
"""

from collections.abc import Sequence
from typing import cast

import msgspec
from yaml.nodes import MappingNode

from tercel.errors import InvalidFlowError
from tercel.model.catalog import Catalog
from tercel.model.checks import check_defaults, check_ids
from tercel.model.convert import Reading
from tercel.model.defaults import Defaults
from tercel.model.flow import Flow
from tercel.model.issue import Issue
from tercel.model.shapes import Nested
from tercel.model.yaml_nodes import Entries, compose

__all__ = ["Checked", "Issue", "check_flow", "read_flow"]


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


def read_flow(text: str, catalog: Catalog) -> Flow:
    """Read the flow that *text* holds.

    Raises:
        InvalidFlowError: with every issue.
    """
    checked = check_flow(text, catalog)
    if checked.flow is None:
        raise invalid(checked.issues)
    return checked.flow


def check_flow(text: str, catalog: Catalog) -> Checked:
    """Read the flow that *text* holds and say everything that is wrong, or should be written otherwise."""
    root, faults = compose(text)
    if root is None:
        return Checked(None, tuple(faults))
    entries = Entries(root)
    if not isinstance(root, MappingNode):
        mark = root.start_mark
        message, hint = "A flow is a mapping.", "Begin with `id: …`, `namespace: …` and `tasks:`."
        return Checked(None, (Issue(line=mark.line + 1, column=mark.column + 1, message=message, hint=hint),))
    defaults = Defaults(root, entries)
    reading = Reading(catalog, entries, defaults)
    flow = cast("Flow", reading.read(Nested(part=Flow), root, ()))
    check_ids(reading)
    check_defaults(reading, defaults, entries, catalog)
    issues, warnings = _by_line(reading.issues), _by_line(reading.warnings)
    return Checked(None if issues else msgspec.structs.replace(flow, source=text), issues, warnings)


def invalid(issues: Sequence[Issue]) -> InvalidFlowError:
    """The error that carries *issues*, of which there is at least one."""
    if len(issues) == 1:
        return InvalidFlowError(f"The flow is not valid. {issues[0].text}", issues=issues)
    lines = "".join(f"\n  {issue.text}" for issue in issues)
    return InvalidFlowError(f"The flow is not valid, for {len(issues)} reasons:{lines}", issues=issues)


def _by_line(issues: Sequence[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(issues, key=lambda issue: (issue.line, issue.column)))
