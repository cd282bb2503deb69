"""What has changed between revisions of a flow."""

from __future__ import annotations

import pytest

from tercel.errors import NotFoundError
from tercel.operations.flow_diff import changes_between, choose_revisions
from tercel.store import FlowRevision
from tests.builders import NOON


def a_revision(number: int, source: str = "a\n") -> FlowRevision:
    return FlowRevision(namespace="tests", id="flow", revision=number, source=source, created_at=NOON)


KNOWN = [a_revision(number) for number in (1, 2, 5)]


class TestChooseRevisions:
    @pytest.mark.parametrize(
        ("earlier", "later", "chosen"),
        [(None, None, (2, 5)), (None, 2, (1, 2)), (1, None, (1, 5)), (1, 2, (1, 2)), (5, 1, (5, 1)), (None, 1, (1, 1))],
    )
    def test_given_one_or_both_or_none_then_they_are_chosen(
        self, earlier: int | None, later: int | None, chosen: tuple[int, int]
    ) -> None:
        old, new = choose_revisions(KNOWN, earlier, later)

        assert (old.revision, new.revision) == chosen

    def test_given_one_that_is_not_there_then_those_that_are_are_named(self) -> None:
        with pytest.raises(NotFoundError) as caught:
            choose_revisions(KNOWN, 3)

        assert caught.value.message == "The flow tests.flow has no revision 3."
        assert caught.value.hint == "Its revisions are: 1, 2, 5."


def test_given_other_lines_then_the_difference_is_a_unified_one() -> None:
    assert changes_between(a_revision(1, "a\nb\n"), a_revision(2, "a\nc")) == [
        "--- tests.flow, revision 1",
        "+++ tests.flow, revision 2",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
    assert changes_between(KNOWN[0], KNOWN[0]) == []
