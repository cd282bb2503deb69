"""Queries are read, and what is wrong in them is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tercel.api.paging import Order, page_of, read_paging
from tercel.api.parameters import Parameters
from tercel.api.problems import RequestError
from tercel.model.state import State


class TestParameters:
    def test_given_a_query_then_its_values_are_read(self) -> None:
        query = Parameters.read(
            "page=2&wait=true&on=&state=failed&at=2030-01-01T12:00:00%2B01:00&plus=2030-01-01T12:00:00+01:00"
            "&for=PT1M&labels=a:b&labels=c:d:e&many=1&many=2"
        )

        assert query.whole("page") == 2
        assert query.flag("wait", False)
        assert query.flag("on", False)
        assert not query.flag("nothing", False)
        assert query.choice("state", State) is State.FAILED
        assert query.instant("at") == query.instant("plus") == datetime(2030, 1, 1, 11, tzinfo=UTC)
        assert query.duration("for") == timedelta(minutes=1)
        assert query.labels() == {"a": "b", "c": "d:e"}
        assert query.every("many") == ["1", "2"]
        assert query.text("nothing") is None

    @pytest.mark.parametrize(
        "read",
        [
            lambda query: query.whole("x"),
            lambda query: query.flag("x", True),
            lambda query: query.instant("x"),
            lambda query: query.duration("x"),
            lambda query: query.choice("x", State),
            lambda query: query.labels("x"),
        ],
    )
    def test_given_a_value_that_does_not_fit_then_it_is_422(self, read: Callable[[Parameters], object]) -> None:
        with pytest.raises(RequestError) as refused:
            read(Parameters([("x", "²")]))

        assert refused.value.status == 422

    def test_given_a_needed_parameter_that_is_missing_then_it_is_400(self) -> None:
        with pytest.raises(RequestError, match="'path' is missing") as refused:
            Parameters().needed("path")

        assert refused.value.status == 400

    def test_given_bytes_that_are_no_text_then_it_is_422(self) -> None:
        with pytest.raises(RequestError, match="UTF-8"):
            Parameters.read("q=%ff")


class TestPaging:
    def test_given_nothing_then_it_is_the_first_ten(self) -> None:
        paging = read_paging(Parameters(), ["id"])

        assert (paging.page, paging.size, paging.order) == (1, 10, ())

    def test_given_several_orders_then_the_first_counts_most(self) -> None:
        paging = read_paging(Parameters([("sort", "a:asc"), ("sort", "b:desc"), ("size", "3")]), ["a", "b"])
        rows = [(1, 1), (2, 1), (1, 2), (None, 9), (0, 0)]

        assert paging.order == (Order("a"), Order("b", True))
        assert page_of(rows, paging, {"a": lambda row: row[0], "b": lambda row: row[1]}) == [(0, 0), (1, 2), (1, 1)]

    @pytest.mark.parametrize("pair", [("page", "0"), ("size", "0"), ("size", "x"), ("sort", "a"), ("sort", "b:asc")])
    def test_given_what_cannot_be_then_it_is_422(self, pair: tuple[str, str]) -> None:
        with pytest.raises(RequestError) as refused:
            read_paging(Parameters([pair]), ["a"])

        assert refused.value.status == 422
