"""Properties are changed in the text of a flow, and nothing else is."""

from __future__ import annotations

import pytest

from tercel.errors import InvalidFlowError
from tercel.model.flow_text import with_property
from tercel.model.yaml_nodes import load

PLAIN = "# about\nid: a # short\n\nnamespace: b\ntasks:\n  - {id: t, type: x}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PLAIN, f"{PLAIN}disabled: true\n"),
        (PLAIN.rstrip("\n"), f"{PLAIN}disabled: true\n"),
        (f"{PLAIN}# end\n", f"{PLAIN}# end\ndisabled: true\n"),
        ("id: a\ntext: |\n  one\n\n\n# end", "id: a\ntext: |\n  one\n\n\n# end\ndisabled: true\n"),
        ("id: a\ntext: |+\n  one\n\n...\n", "id: a\ntext: |+\n  one\n\ndisabled: true\n...\n"),
        ("id: a\ndisabled: false # why\nnamespace: b", "id: a\ndisabled: true # why\nnamespace: b"),
        ("id: a\n'disabled': 'no'\nnamespace: b", "id: a\n'disabled': true\nnamespace: b"),
        ("id: a\ndisabled:\nnamespace: b", "id: a\ndisabled: true\nnamespace: b"),
        ("  id: a\n  namespace: b # c", "  id: a\n  namespace: b # c\n  disabled: true\n"),
        ('{"id": "a", "disabled": false}', '{"id": "a", "disabled": true}'),
        ('{"id": "a"}', '{disabled: true, "id": "a"}'),
    ],
)
def test_given_a_text_then_only_the_property_changes(before: str, after: str) -> None:
    found = with_property(before, "disabled", "true")

    assert found == after
    assert load(found) == {**load(before), "disabled": True}  # pyright: ignore[reportGeneralTypeIssues]


def test_given_no_mapping_then_it_is_refused() -> None:
    with pytest.raises(InvalidFlowError):
        with_property("a: [", "disabled", "true")
    with pytest.raises(InvalidFlowError, match=r"Line 1, column 1: A flow is a mapping\."):
        with_property("- a", "disabled", "true")
