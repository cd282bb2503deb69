"""Calls of `/plugins`."""

from __future__ import annotations

from base64 import b64decode
from xml.etree import ElementTree

import httpx
import yaml
from jsonschema import Draft7Validator

from tests.apis import PLAIN, Api, At, case
from tests.flows import echo, flow

RETURN = "io.kestra.plugin.core.debug.Return"


@case("GET", "/plugins")
def groups(api: Api, at: At) -> httpx.Response:
    page = api.get(at(), params={"size": "1", "page": "2", "sort": "group:asc"}).json()
    assert len(page["results"]) == 1

    response = api.get(at(), params={"size": "1000"})

    found = {one["group"]: one for one in response.json()["results"]}
    assert len(found) == response.json()["total"] == page["total"]
    core = found["io.kestra.plugin.core"]
    assert RETURN in [one["cls"] for one in core["tasks"]]
    assert "io.kestra.plugin.core.trigger.Schedule" in [one["cls"] for one in core["triggers"]]
    assert "io.kestra.plugin.core.condition.DayWeek" in [one["cls"] for one in core["conditions"]]
    assert "io.kestra.plugin.core.runner.Process" in [one["cls"] for one in core["taskRunners"]]
    scripts = [one["cls"] for one in found["io.kestra.plugin.scripts.python"]["tasks"]]
    assert scripts == [f"io.kestra.plugin.scripts.python.{name}" for name in ("Commands", "Script")]
    return response


@case("GET", "/plugins/groups/subgroups")
def subgroups(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    [debug] = [one for one in response.json() if one["subGroup"] == "io.kestra.plugin.core.debug"]
    assert RETURN in [one["cls"] for one in debug["tasks"]]
    assert debug["group"] == "io.kestra.plugin.core"
    return response


@case("GET", "/plugins/icons")
def icons(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    found = response.json()
    assert found["io.kestra.plugin.core.flow.Sequential"]["flowable"] is True
    assert found[RETURN]["flowable"] is False
    assert ElementTree.fromstring(b64decode(found[RETURN]["icon"])).tag == "{http://www.w3.org/2000/svg}svg"
    assert api.get(f"{PLAIN}/plugins/icons/{RETURN}").json() == found[RETURN]
    drawn = api.get(f"{PLAIN}/plugins/{RETURN}/icon.svg")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert drawn.content == b64decode(found[RETURN]["icon"])
    return response


@case("GET", "/plugins/icons/groups")
def group_icons(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    assert {"io.kestra.plugin.core", "io.kestra.plugin.core.debug"} <= response.json().keys()
    return response


@case("GET", "/plugins/schemas/{type}")
def schema(api: Api, at: At) -> httpx.Response:
    for name in ("FLOW", "task", "trigger", "plugindefault"):
        found = api.get(at(type=name)).json()
        Draft7Validator.check_schema(found)
        assert Draft7Validator(found).is_valid({}) is False, name
    assert api.get(at(type="nothing")).status_code == 404
    tasks = Draft7Validator(api.get(at(type="task"), params={"arrayOf": "true"}).json())
    assert tasks.is_valid([echo("a", "b")])
    assert not tasks.is_valid([{**echo("a", "b"), "foramt": "c"}])

    response = api.get(at(type="flow"))

    flows = Draft7Validator(response.json())
    assert flows.is_valid(yaml.safe_load(flow(echo("a", "b"))))
    assert not flows.is_valid(yaml.safe_load(flow({**echo("a", "b"), "foramt": "c"})))
    assert RETURN in response.json()["definitions"]
    return response


@case("GET", "/plugins/inputs")
def inputs(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    found = {one["type"]: one["cls"] for one in response.json()}
    assert found["DATETIME"] == "io.kestra.core.models.flows.input.DateTimeInput"
    return response


@case("GET", "/plugins/inputs/{type}")
def input_documentation(api: Api, at: At) -> httpx.Response:
    assert api.get(at(type="nothing")).status_code == 404

    response = api.get(at(type="INT"))

    found = response.json()["schema"]["properties"]["properties"]
    assert {"id", "defaults", "min", "max"} <= found.keys()
    assert "validator" not in found
    return response


@case("GET", "/plugins/{cls}")
def documentation(api: Api, at: At) -> httpx.Response:
    former = api.get(at(cls="io.kestra.core.tasks.debugs.Return")).json()
    assert api.get(f"{PLAIN}/plugins/{RETURN}/versions").json()["type"] == RETURN
    assert api.get(f"{PLAIN}/plugins/{RETURN}/versions/0").status_code == 404

    response = api.get(at(cls=RETURN))

    found = response.json()
    assert found == former
    assert found["markdown"].startswith(f"# Return\n\n`{RETURN}`\n")
    assert "format" in found["schema"]["properties"]["properties"]
    assert found["schema"]["outputs"]["properties"]["value"]["description"]
    return response


@case("GET", "/plugins/{cls}", error=404)
def document_nothing(api: Api, at: At) -> httpx.Response:
    response = api.get(at(cls="io.kestra.plugin.core.debug.Retrun"))

    assert RETURN in response.json()["hint"]
    return response
