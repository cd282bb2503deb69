from __future__ import annotations

import pytest

from tercel.errors import InvalidInputError
from tercel.model.labels import READ_ONLY, execution_labels, label_problems


class TestLabelProblems:
    def test_given_keys_then_those_of_tercel_are_told_unless_allowed(self) -> None:
        found = list(label_problems(["team", READ_ONLY, "system.app", "systematic"], allowed=(READ_ONLY,)))

        assert [(one.code, one.path) for one in found] == [("label.system", ("labels", "system.app"))]
        assert [one.path[1] for one in label_problems([READ_ONLY])] == [READ_ONLY]


class TestExecutionLabels:
    def test_given_labels_of_a_flow_then_tercels_own_stay_there(self) -> None:
        flow = {"team": "a", READ_ONLY: "true"}

        assert execution_labels(flow, execution_id="x") == {"team": "a", "system.correlationId": "x"}

    def test_given_a_key_several_times_then_the_first_counts(self) -> None:
        created, triggered, backfilled = {"a": "2", "b": "2"}, {"b": "3", "c": "3"}, {"c": "4", "d": "4"}

        labels = execution_labels({"a": "1"}, created, triggered, backfilled, execution_id="x")

        assert labels == {"a": "1", "b": "2", "c": "3", "d": "4", "system.correlationId": "x"}

    def test_given_a_correlation_then_it_stays_and_is_handed_down(self) -> None:
        given = {"system.correlationId": "mine"}
        parent = {"system.correlationId": "parent", "system.from": "api"}

        assert execution_labels({}, given, execution_id="x") == given
        assert execution_labels({}, execution_id="x", system=parent) == parent
        assert execution_labels({}, given, execution_id="x", system=parent) == {**parent, **given}

    def test_given_reserved_labels_then_all_of_them_are_refused(self) -> None:
        with pytest.raises(InvalidInputError) as one:
            execution_labels({}, {"system.app": "x"}, execution_id="x")
        with pytest.raises(InvalidInputError) as several:
            execution_labels(
                {}, {"system.app": "x", "a": "b"}, {"system.test": "y", "system.app": "z"}, execution_id="x"
            )

        assert str(one.value) == (
            "The label system.app is tercel's own. Only system.correlationId may be given at a start."
        )  # fmt: skip
        assert several.value.message == "The labels system.app, system.test are tercel's own."
