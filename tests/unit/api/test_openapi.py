"""The description of the API: complete, and right as an OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tercel.api import RESOURCES
from tercel.api.answer_shapes import answer_schema, schemas
from tercel.api.endpoints import read_endpoint
from tercel.api.openapi import about, document, documented_path

ROUTES = [route for resource in RESOURCES for route in resource.ROUTES]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return document(ROUTES)


def operation(described: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    return described["paths"][path][method.lower()]


def test_given_the_routes_then_each_is_described_by_a_sentence_and_an_id_of_its_own(described: dict[str, Any]) -> None:
    found = [operation(described, one.method, documented_path(one)) for one in ROUTES]

    assert len({one["operationId"] for one in found}) == len(ROUTES)
    assert [one["summary"] for one in found if not re.fullmatch(r"[A-Z`].*\.", one["summary"])] == []
    assert [one["operationId"] for one in found if not one["responses"]] == []


def test_given_answers_in_json_then_what_is_in_them_is_written_down() -> None:
    unknown = [
        f"{one.method} {one.path}"
        for one in ROUTES
        if any(given.kind in ("json", "page") for given in read_endpoint(one.answer).given)
        and answer_schema(one.method, one.path) is None
    ]

    assert unknown == []


def test_given_the_objects_then_all_are_valid_and_used_and_none_is_missing(described: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described)))

    assert named == set(described["components"]["schemas"])
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_given_paths_then_they_are_those_that_clients_send(described: dict[str, Any]) -> None:
    assert {"/api/v1/main/flows", "/api/v1/configs", "/ping", "/swagger/{name}"} <= set(described["paths"])
    assert not [path for path in described["paths"] if "*" in path]


def test_given_an_endpoint_then_parameters_body_answers_and_errors_are_told(described: dict[str, Any]) -> None:
    found = operation(described, "DELETE", "/api/v1/main/executions/kill/by-ids")

    assert found["parameters"] == [
        {
            "name": "isOnKillCascade",
            "in": "query",
            "required": False,
            "schema": {"type": "boolean", "default": True},
        }
    ]
    assert found["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"type": "array", "items": {"type": "string"}}}},
    }
    assert set(found["responses"]) == {"200", "400", "401", "404", "409", "413", "422"}
    assert found["summary"] == "Kill the executions by their ids."


def test_given_what_is_open_then_it_says_so(described: dict[str, Any]) -> None:
    for path in ("/ping", "/api/v1/main/executions/webhook/{namespace}/{id}/{key}"):
        found = operation(described, "GET", path)
        assert found["security"] == []
        assert "401" not in found["responses"]


def test_given_closures_without_a_docstring_then_their_path_says_what_they_do() -> None:
    told = {one.path: about(one) for one in ROUTES}

    assert told["/executions/force-run/by-query"] == "Force run the executions that fit the filters."
    assert told["/executions/by-ids"] == "Delete the executions by their ids."
    assert told["/flows/enable/by-query"] == "Enable the flows that fit the filters."


def test_given_an_object_then_optional_members_are_not_required() -> None:
    assert schemas()["Bulk"] == {
        "type": "object",
        "properties": {
            "count": {"type": "integer"},
            "operationId": {"type": "string"},
            "totalItems": {"type": "integer"},
        },
        "required": ["count", "operationId", "totalItems"],
    }
    assert "endDate" not in schemas()["State"]["required"]
