"""Every endpoint of the conformance file: it is there, in all its forms, and answers as listed.

What is called, and with what, is said by the modules of `api_cases`, one for each resource.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import httpx
import pytest

from tercel.api import RESOURCES
from tercel.api.routing import shape
from tests.apis import CASES, Api, At, events
from tests.compatibility.api_not_yet import NOT_YET
from tests.homes import Home

FOLDER = Path(__file__).parent
for module in iter_modules([str(FOLDER / "api_cases")]):
    import_module(f"tests.compatibility.api_cases.{module.name}")

ENDPOINTS: list[dict[str, Any]] = json.loads(
    (FOLDER.parent / "conformance" / "openapi-min.json").read_text(encoding="utf-8")
)["endpoints"]


def short(endpoint: Mapping[str, Any]) -> str:
    """Its path without `/api/v1` and tenant."""
    return endpoint["path"].removeprefix("/api/v1").removeprefix("/{tenant}")


def forms(endpoint: Mapping[str, Any]) -> list[str]:
    """The paths under which it has to answer."""
    found = [endpoint["path"], endpoint.get("path_without_tenant"), endpoint.get("legacy_path")]
    if endpoint.get("legacy_path"):
        found.append(endpoint["legacy_path"].replace("/{tenant}", ""))
    return [path for path in dict.fromkeys(found) if path]


ROUTES = {
    (route.method, shape(path))
    for resource in RESOURCES
    for route in resource.ROUTES
    for path in (route.path, route.legacy)
    if path
}
READY = [endpoint for endpoint in ENDPOINTS if f"{endpoint['method']} {short(endpoint)}" not in NOT_YET]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with Home(tmp_path_factory.mktemp("api")) as home:
        home.engine.schedule()
        with Api(home) as served:
            yield served


def test_given_the_list_then_what_is_not_there_yet_is_said_in_one_place() -> None:
    missing = {
        f"{endpoint['method']} {short(endpoint)}"
        for endpoint in ENDPOINTS
        if (endpoint["method"], shape(short(endpoint))) not in ROUTES
    }

    assert missing == set(NOT_YET)


def test_given_the_cases_then_each_is_of_a_listed_endpoint_and_none_is_missing() -> None:
    listed = {(one["method"], short(one), None) for one in READY}
    listed |= {(one["method"], short(one), int(status)) for one in READY for status in one.get("errors", {})}

    assert set(CASES) == listed


@pytest.mark.parametrize(
    ("endpoint", "form"),
    [pytest.param(one, form, id=f"{one['method']} {form}") for one in READY for form in forms(one)],
)
def test_given_an_endpoint_then_it_answers_as_listed(api: Api, endpoint: dict[str, Any], form: str) -> None:
    at = At(form)

    response = CASES[endpoint["method"], short(endpoint), None](api, at)

    assert_called(response, endpoint, at)
    assert response.status_code == endpoint["status"], response.text
    assert_shaped(response, endpoint)


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        pytest.param(one, int(status), id=f"{one['method']} {short(one)} {status}")
        for one in READY
        for status in one.get("errors", {})
    ],
)
def test_given_a_listed_error_then_it_is_told(api: Api, endpoint: dict[str, Any], status: int) -> None:
    at = At(endpoint["path"])

    response = CASES[endpoint["method"], short(endpoint), status](api, at)

    assert_called(response, endpoint, at)
    assert response.status_code == status, response.text
    assert status == 204 or response.json()["message"]


def assert_called(response: httpx.Response, endpoint: Mapping[str, Any], at: At) -> None:
    """The answer is that of the endpoint which the case is about."""
    assert response.request.method == endpoint["method"]
    assert response.request.url.raw_path.decode().partition("?")[0] in at.made


def assert_shaped(response: httpx.Response, endpoint: Mapping[str, Any]) -> None:
    """The answer is of the listed kind and has all listed fields."""
    kind, needed = endpoint["response"], endpoint.get("response_required_fields", ())
    match kind:
        case "empty":
            assert response.content == b""
            return
        case "bytes" | "text":
            assert response.content
            return
        case "sse":
            assert response.headers["content-type"].startswith("text/event-stream")
            value = json.loads(list(events(response))[-1][1])
        case _:
            value = response.json()
    assert isinstance(value, {"array": list, "boolean": bool}.get(kind, dict)), value
    for field in needed:
        assert_there(value, field)
    items = value["results"] if kind == "paged" else value
    if endpoint.get("item_required_fields"):
        assert items, "the case has to bring about an item"
        for item in items:
            for field in endpoint["item_required_fields"]:
                assert_there(item, field)
    if kind == "paged":
        assert value["total"] >= len(items)


def assert_there(value: Any, field: str) -> None:
    """A dotted path leads to something that is not null."""
    found = value
    for name in field.split("."):
        assert isinstance(found, dict), (field, value)
        assert found.get(name) is not None, (field, value)
        found = found[name]
