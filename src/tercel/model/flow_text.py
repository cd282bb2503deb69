"""The text of a flow: what counts as a change of it, and changes that leave all else as it was written."""

from typing import cast

from yaml.nodes import MappingNode, Node, ScalarNode

from tercel.model.source import invalid, no_mapping_issue
from tercel.model.yaml_nodes import compose


def is_same_text(one: str, other: str) -> bool:
    r"""Tell whether two texts differ in nothing but their line breaks' form and those at their end.

    Example:
        >>> is_same_text("id: a\r\nnamespace: b", "id: a\nnamespace: b\n\n")
        True
    """
    return _cleaned(one) == _cleaned(other)


def _cleaned(text: str) -> str:
    return text.replace("\r\n", "\n").rstrip("\n")


def with_property(text: str, name: str, value: str) -> str:
    r"""*text* with another value of one of the flow's own properties.

    Args:
        text: YAML of a flow.
        name: of a property that has no parts.
        value: YAML on one line.

    Raises:
        InvalidFlowError: it is not YAML, or no mapping.

    Example:
        >>> with_property("id: a # short\nnamespace: b\n", "disabled", "true")
        'id: a # short\nnamespace: b\ndisabled: true\n'
        >>> with_property("{id: a, disabled: false}", "disabled", "true")
        '{id: a, disabled: true}'
    """
    root, issues = compose(text)
    if not isinstance(root, MappingNode):
        raise invalid(issues or [no_mapping_issue(cast("Node", root))])
    for key, node in cast("list[tuple[Node, Node]]", root.value):
        if isinstance(key, ScalarNode) and key.value == name:
            # A value that is left out has a place of its own, right behind the colon.
            gap = " " if node.start_mark.index == key.end_mark.index + 1 else ""
            return text[: node.start_mark.index] + gap + value + text[node.end_mark.index :]
    if root.flow_style:
        at = root.start_mark.index + 1
        return f"{text[:at]}{name}: {value}, {text[at:]}"
    end = root.end_mark.index
    before = text[:end] if text[:end].endswith("\n") else f"{text[:end]}\n"
    return f"{before}{' ' * root.start_mark.column}{name}: {value}\n{text[end:]}"
