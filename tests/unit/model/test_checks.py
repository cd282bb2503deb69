from __future__ import annotations

from tercel.model.checks import exists_issue, update_issues
from tercel.model.source import read_flow
from tests.unit.model.samples import CATALOG, say


class TestUpdateIssues:
    def test_given_the_same_names_then_there_are_none(self) -> None:
        assert update_issues(read_flow(say(), CATALOG), "dev", "hello") == ()

    def test_given_other_names_then_each_is_told(self) -> None:
        issues = update_issues(read_flow(say(), CATALOG), "prod", "bye")

        assert [(one.code, one.path, one.message, one.hint) for one in issues] == [
            (
                "flow.update.id",
                "id",
                "The flow prod.bye cannot become one with the id 'hello'.",
                "Keep `id: bye`, or create a new flow.",
            ),
            (
                "flow.update.namespace",
                "namespace",
                "The flow prod.bye cannot become one with the namespace 'dev'.",
                "Keep `namespace: prod`, or create a new flow.",
            ),
        ]


def test_given_a_flow_that_is_there_then_creating_it_is_refused() -> None:
    issue = exists_issue(read_flow(say(), CATALOG))

    assert (issue.code, issue.path) == ("flow.exists", "id")
    assert issue.text == (
        "Line 1, column 1 (id): There is a flow dev.hello already. Update it, or choose another id."
    )  # fmt: skip
