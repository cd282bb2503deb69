"""Filters of both styles become the same conditions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tercel.api.filters import (
    CHILD,
    DATE,
    LEVEL,
    MAP,
    QUERY,
    SCOPE,
    STATE,
    TEXT,
    AllOf,
    AnyOf,
    Condition,
    Operation,
    Scope,
    holds,
    read_filters,
)
from tercel.api.parameters import Parameters
from tercel.api.problems import RequestError
from tercel.model.state import State

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
FIELDS = {
    "q": QUERY,
    "namespace": TEXT,
    "flowId": TEXT,
    "state": STATE,
    "labels": MAP,
    "scope": SCOPE,
    "childFilter": CHILD,
    "level": LEVEL,
    "startDate": DATE,
    "endDate": DATE,
}


def read(query: str) -> AllOf:
    return read_filters(Parameters.read(query), FIELDS, NOON)


@pytest.mark.parametrize(
    ("flat", "nested"),
    [
        ("namespace=a.b", "filters[namespace][PREFIX]=a.b"),
        ("flowId=x", "filters[flowId][EQUALS]=x"),
        ("state=FAILED&state=KILLED", "filters[state][IN]=FAILED,KILLED"),
        ("state=FAILED,KILLED", "filters[state][IN]=failed, killed"),
        ("labels=team:x", "filters[labels][EQUALS][team]=x"),
        ("labels=team:x", "filters[labels][EQUALS]=team:x"),
        ("minLevel=WARN", "filters[level][EQUALS]=WARN"),
        ("startDate=2030-01-01T11:00:00Z", "filters[startDate][GREATER_THAN_OR_EQUAL_TO]=2030-01-01T12:00:00%2B01:00"),
        ("timeRange=PT1H", "filters[timeRange][EQUALS]=PT1H"),
        ("timeRange=PT1H", "startDate=2030-01-01T11:00:00Z"),
        ("scope=USER", "filters%5Bscope%5D%5BIN%5D=USER"),
        ("q=x", "filters[q][EQUALS]=x"),
    ],
)
def test_given_both_styles_then_they_mean_the_same(flat: str, nested: str) -> None:
    assert read(flat) == read(nested)
    assert read(flat).parts


def test_given_parameters_that_are_no_filters_then_nothing_has_to_hold() -> None:
    assert read("page=1&size=2&workerId=x&other=y") == AllOf()


def test_given_groups_then_they_keep_their_form() -> None:
    query = "filters[or][0][flowId][EQUALS]=a&filters[or][1][flowId][EQUALS]=b&filters[or][1][namespace][EQUALS]=n"

    [group] = read(query).parts

    first, second, namespace = (
        Condition(field=field, operation=Operation.EQUALS, value=value)
        for field, value in (("flowId", "a"), ("flowId", "b"), ("namespace", "n"))
    )
    assert group == AnyOf((first, AllOf((second, namespace))))


def test_given_a_group_in_a_group_then_one_level_is_read() -> None:
    query = "filters[and][0][or][1][flowId][EQUALS]=x&filters[and][0][or][0][flowId][EQUALS]=y"

    [group] = read(query).parts

    assert isinstance(group, AllOf)
    assert isinstance(group.parts[0], AnyOf)
    assert [getattr(part, "value", None) for part in group.parts[0].parts] == ["y", "x"]


@pytest.mark.parametrize(
    "query",
    [
        "filters[nothing][EQUALS]=x",
        "filters[flowId][LIKE]=x",
        "filters[state][CONTAINS]=FAILED",
        "filters[state][EQUALS]=GONE",
        "filters[flowId]=x",
        "filters[flowId][EQUALS][key]=x",
        "filters[labels][EQUALS]=x",
        "filters[flowId][EQUALS=x",
        "filters[or][x][flowId][EQUALS]=x",
        "filters[or][0][and][0][or][0][flowId][EQUALS]=x",
        "filters[flowId][REGEX]=(",
        "startDate=yesterday",
        "startDate=2030-01-02&endDate=2030-01-01",
        "startDate=2030-01-02&timeRange=PT1H",
        "timeRange=P999999999D",
        "labels=x",
        "scope=MINE",
    ],
)
def test_given_what_cannot_be_then_it_is_422(query: str) -> None:
    with pytest.raises(RequestError) as refused:
        read(query)

    assert refused.value.status == 422


ROW: dict[str, Any] = {
    "q": ["hello", "company.team"],
    "namespace": "company.team",
    "flowId": "hello",
    "state": State.FAILED,
    "labels": {"team": "a"},
    "scope": Scope.USER,
    "level": "WARN",
    "startDate": NOON,
}


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("", True),
        ("namespace=company", True),
        ("namespace=comp", False),
        ("q=ELL", True),
        ("filters[q][NOT_EQUALS]=ELL", False),
        ("filters[namespace][EQUALS]=company", False),
        ("filters[flowId][STARTS_WITH]=he&filters[flowId][ENDS_WITH]=lo", True),
        ("filters[flowId][CONTAINS]=ELL", True),
        ("filters[flowId][NOT_CONTAINS]=ell", False),
        ("filters[flowId][REGEX]=^h.*o$", True),
        ("filters[flowId][NOT_IN]=a,b", True),
        ("state=FAILED", True),
        ("filters[state][NOT_EQUALS]=FAILED", False),
        ("labels=team:a", True),
        ("labels=team:b", False),
        ("filters[labels][IS_NULL][other]=", True),
        ("filters[labels][NOT_EQUALS][other]=x", True),
        ("filters[labels][EQUALS][other]=x", False),
        ("minLevel=INFO", True),
        ("minLevel=ERROR", False),
        ("filters[level][LESS_THAN]=ERROR", True),
        ("startDate=2030-01-01T12:00:00Z", True),
        ("filters[startDate][GREATER_THAN]=2030-01-01T12:00:00Z", False),
        ("filters[startDate][LESS_THAN_OR_EQUAL_TO]=2030-01-01T12:00:00Z", True),
        ("filters[endDate][IS_NULL]=", True),
        ("endDate=2030-01-02", False),
        ("filters[or][0][flowId][EQUALS]=x&filters[or][1][flowId][EQUALS]=hello", True),
    ],
)
def test_given_a_row_then_the_conditions_are_tested(query: str, fits: bool) -> None:
    assert holds(read(query), ROW.get) is fits
