"""Conditions and orders as SQL, and which labels are written again; what they find is in the contract of stores."""

from __future__ import annotations

import pytest

from tercel.errors import InvariantError
from tercel.model.search import AllOf, AnyOf, Condition, Operation
from tercel.store.search import KnownLabels, label_rows, order_by, where_term
from tests.builders import NOON, an_execution


class TestWhereTerm:
    def test_given_joined_conditions_then_the_values_stand_in_their_order(self) -> None:
        either = AnyOf(
            (
                Condition(field="flow_id", operation=Operation.EQUALS, value="a"),
                Condition(field="created_at", operation=Operation.LESS_THAN, value=NOON),
            )
        )
        last = Condition(field="revision", operation=Operation.IN, value=(1, 2))

        sql, values = where_term(AllOf((either, last)))

        assert sql == "(((flow_id = ?) OR (created_us < ?)) AND (revision IN (?, ?)))"
        assert values == ["a", 1893499200000000, 1, 2]

    def test_given_nothing_then_all_or_none_fit(self) -> None:
        assert where_term(AllOf()) == ("1 = 1", [])
        assert where_term(AnyOf(())) == ("1 = 0", [])

    def test_given_a_regular_expression_then_that_is_our_mistake(self) -> None:
        with pytest.raises(InvariantError, match="REGEX is no operation of a database"):
            where_term(Condition(field="id", operation=Operation.REGEX, value="a"))


class TestOrderBy:
    def test_given_fields_then_what_is_not_there_comes_last_and_the_id_decides(self) -> None:
        assert order_by(()) == "id DESC"
        assert order_by((("id", False),)) == "id"
        assert order_by((("ended_at", True),)) == "ended_us IS NULL, ended_us DESC, id DESC"
        assert order_by((("namespace", False), ("id", True))) == "namespace, id DESC"


class TestLabelRows:
    def test_given_labels_then_the_own_correlation_is_left_out_and_long_ones_are_cut(self) -> None:
        labels = {"system.correlationId": "execution", "k" * 200: "v" * 500, "odd": "\0"}

        rows = label_rows(an_execution(labels=labels))

        assert rows == [("execution", "k" * 150, "v" * 400), ("execution", "odd", "\ufffd")]

    def test_given_the_correlation_of_another_then_it_is_a_row(self) -> None:
        rows = label_rows(an_execution(labels={"system.correlationId": "parent"}))

        assert rows == [("execution", "system.correlationId", "parent")]


class TestKnownLabels:
    def test_given_a_change_of_something_else_then_they_are_written_already(self) -> None:
        known = KnownLabels()
        known.keep([an_execution(labels={"a": "1"}, version=3)])

        assert known.are_written(an_execution(labels={"a": "1"}, version=4), 3)
        assert not known.are_written(an_execution(labels={"a": "2"}, version=4), 3)

    def test_given_that_somebody_else_was_there_meanwhile_then_nothing_is_sure(self) -> None:
        known = KnownLabels()
        known.keep([an_execution(labels={"a": "1"}, version=3)])

        assert not known.are_written(an_execution(labels={"a": "1"}, version=5), 4)
        assert not known.are_written(an_execution(id="other", labels={"a": "1"}, version=1), 0)

    def test_given_an_end_then_they_are_forgotten(self) -> None:
        known = KnownLabels()
        known.keep([an_execution(version=1)])
        known.keep([an_execution("CREATED", "SUCCESS", version=2)])

        assert not known.are_written(an_execution(version=3), 2)
