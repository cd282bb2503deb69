"""Addresses lead to routes."""

from __future__ import annotations

import pytest

from tercel.api.call import Call
from tercel.api.routing import Route, Routes
from tercel.errors import UserError


def nothing(_: Call) -> None: ...


def routes(*paths: str, legacy: str = "") -> Routes:
    listed = [Route(method=path.partition(" ")[0], path=path.partition(" ")[2], answer=nothing) for path in paths]
    if legacy:
        listed.append(
            Route(method="POST", path="/executions/{executionId}/actions/restart", answer=nothing, legacy=legacy)
        )
    return Routes(listed)


FLOWS = routes(
    "GET /flows/{namespace}/{id}",
    "GET /flows/search",
    "GET /flows/{namespace}",
    "POST /flows/{namespace}",
    "DELETE /flows/delete/by-ids",
    "GET /executions/{executionId}/flow",
)


@pytest.mark.parametrize(
    ("address", "path", "values"),
    [
        ("/api/v1/main/flows/search", "/flows/search", {}),
        ("/api/v1/flows/search", "/flows/search", {}),
        ("/api/v1/flows/a.b/", "/flows/{namespace}", {"namespace": "a.b"}),
        ("/api/v1/flows/a%2Fb/%24c", "/flows/{namespace}/{id}", {"namespace": "a/b", "id": "$c"}),
        ("/api/v1/main/flows/main/x", "/flows/{namespace}/{id}", {"namespace": "main", "id": "x"}),
        ("/api/v1/flows/a/deprecated", "/flows/{namespace}/{id}", {"namespace": "a", "id": "deprecated"}),
    ],
)
def test_given_an_address_then_it_leads_to_its_route(address: str, path: str, values: dict[str, str]) -> None:
    found = FLOWS.find("GET", address)

    assert found.route is not None
    assert found.route.path == path
    assert found.values == values


def test_given_head_then_it_is_answered_as_get() -> None:
    assert FLOWS.find("HEAD", "/api/v1/flows/search").route is not None


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/api/v1",
        "/api/v1/other/flows/search",
        "/flows/search",
        "/api/v1/nothing",
        "/api/v1/main/flows/deprecated",  # a word of clients, never a namespace
        "/api/v1/flows/hashes/x",
        "/api/v1/main/executions/webhook/flow",
    ],
)
def test_given_what_is_no_address_then_nothing_is_found(address: str) -> None:
    found = FLOWS.find("GET", address)

    assert found.route is None
    assert not found.allowed


def test_given_another_method_then_the_possible_ones_are_told() -> None:
    assert set(FLOWS.find("PATCH", "/api/v1/flows/a").allowed) == {"GET", "POST"}


def test_given_a_word_of_the_address_then_it_is_no_namespace_for_another_method_either() -> None:
    found = FLOWS.find("GET", "/api/v1/main/flows/delete/by-ids")

    assert found.route is None
    assert found.allowed == ("DELETE",)


def test_given_bytes_that_are_no_text_then_it_is_refused() -> None:
    with pytest.raises(UserError, match="UTF-8"):
        FLOWS.find("GET", "/api/v1/flows/%ff")


class TestLegacy:
    routes = routes("POST /executions/{namespace}/{id}", legacy="/executions/{executionId}/restart")

    def test_given_the_id_of_an_execution_then_the_word_is_an_action(self) -> None:
        execution_id = "0123456789abcdefghABCD"

        for address in (f"/executions/{execution_id}/restart", f"/executions/{execution_id}/actions/restart"):
            found = self.routes.find("POST", f"/api/v1{address}")
            assert found.route is not None
            assert found.route.legacy
            assert found.values == {"executionId": execution_id}

    def test_given_a_namespace_then_the_word_is_a_flow(self) -> None:
        found = self.routes.find("POST", "/api/v1/executions/company.team/restart")

        assert found.values == {"namespace": "company.team", "id": "restart"}


def test_given_a_rest_then_it_is_all_that_is_left() -> None:
    listed = routes("POST /webhook/{key}/{path*}", "POST /webhook/{key}")

    assert listed.find("POST", "/api/v1/webhook/k/a/b").values == {"key": "k", "path": "a/b"}
    assert listed.find("POST", "/api/v1/webhook/k").values == {"key": "k"}


def test_given_two_answers_for_the_same_then_it_is_refused() -> None:
    with pytest.raises(ValueError, match="answered twice"):
        routes("GET /flows/{a}", "GET /flows/{b}")
