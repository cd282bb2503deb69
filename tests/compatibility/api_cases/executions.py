"""Calls of `/executions`: starts, webhooks, reading, searching, following."""

from __future__ import annotations

import json

import httpx

from tests.api_executions import in_state, kill, labels_of, look, pause, paused, running, start, started
from tests.apis import MAIN, Api, At, case, events
from tests.flows import CORE, echo, fail

INPUTS = [
    {"id": "name", "type": "STRING", "defaults": "you"},
    {"id": "count", "type": "INT", "required": False},
]
NOBODY = "0" * 22


@case("POST", "/executions/{namespace}/{id}")
def create(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(echo("say", "Hello {{ inputs.name }}"), inputs=INPUTS)

    response = api.post(
        at(namespace=namespace, id=id),
        params=[("labels", "team:a:b"), ("labels", "day:1"), ("wait", "true"), ("kind", "TEST")],
        files={"name": (None, "Ann"), "count": (None, "3"), "unknown": (None, "x")},
    )

    execution = response.json()
    assert execution["inputs"] == {"name": "Ann", "count": 3}
    assert labels_of(execution) == {"team": "a:b", "day": "1"}
    assert execution["kind"] == "TEST"
    assert execution["taskRunList"][0]["outputs"] == {"value": "Hello Ann"}
    assert execution["url"].endswith(f"/ui/main/executions/{namespace}/{id}/{execution['id']}")
    return response


@case("POST", "/executions/{namespace}/{id}", error=404)
def create_of_nothing(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    assert api.post(at(namespace=namespace, id=id), params={"revision": "2"}).status_code == 404

    return api.post(at(namespace=namespace, id="nothing"))


@case("POST", "/executions/{namespace}/{id}", error=409)
def create_of_a_disabled_flow(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(disabled=True)

    return api.post(at(namespace=namespace, id=id))


@case("POST", "/executions/{namespace}/{id}", error=422)
def create_with_a_wrong_input(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(inputs=[{"id": "count", "type": "INT"}])
    address = at(namespace=namespace, id=id)
    assert api.post(address).status_code == 422
    for label in ("team:", ":a", "team", "system.mine:x"):
        assert api.post(address, params={"labels": label}, files={"count": (None, "1")}).status_code == 422

    response = api.post(address, files={"count": (None, "many")})

    assert "count" in response.json()["message"]
    assert api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["total"] == 0
    return response


@case("POST", "/executions/{namespace}/{id}/validate")
def validate(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(inputs=[*INPUTS, {"id": "word", "type": "SECRET"}, {"id": "data", "type": "FILE"}])
    parts = {"count": (None, "many"), "word": (None, "hush"), "data": ("my.csv", b"a,b")}

    response = api.post(at(namespace=namespace, id=id), files=parts)

    name, count, word, data = response.json()["inputs"]
    assert name == {"input": INPUTS[0], "value": "you", "enabled": True, "isDefault": True, "errors": []}
    assert "many" in count["errors"][0]["message"]
    assert (word["value"], data["value"]) == ("******", "my.csv")
    assert not list(api.engine.storage.list(f"/{namespace.replace('.', '/')}"))
    return response


@case("GET", "/executions/{executionId}")
def get(api: Api, at: At) -> httpx.Response:
    execution = started(api)

    response = api.get(at(executionId=execution["id"]))

    [run] = response.json()["taskRunList"]
    for field in ("id", "executionId", "namespace", "flowId", "taskId"):
        assert run[field]
    for field in ("current", "histories", "startDate", "duration"):
        assert run["state"][field]
    return response


@case("GET", "/executions/{executionId}", error=404)
def get_nothing(api: Api, at: At) -> httpx.Response:
    return api.get(at(executionId=NOBODY))


@case("DELETE", "/executions/{executionId}")
def delete(api: Api, at: At) -> httpx.Response:
    execution = started(api)

    response = api.delete(at(executionId=execution["id"]))

    assert api.get(f"{MAIN}/executions/{execution['id']}").status_code == 404
    return response


@case("DELETE", "/executions/{executionId}", error=404)
def delete_nothing(api: Api, at: At) -> httpx.Response:
    return api.delete(at(executionId=NOBODY))


@case("GET", "/executions/search")
def search(api: Api, at: At) -> httpx.Response:
    execution = started(api, labels={"team": "a"})
    other = started(api, fail("break"), namespace=f"{execution['namespace']}.below", id="other")
    namespace = execution["namespace"]

    def found(*query: tuple[str, str]) -> set[str]:
        response = api.get(at(), params=[("filters[namespace][PREFIX]", namespace), *query])
        assert response.status_code == 200, response.text
        return {one["id"] for one in response.json()["results"]}

    one, two = execution["id"], other["id"]
    assert found() == {one, two}
    assert found(("state", "FAILED")) == found(("filters[state][IN]", "FAILED,KILLED")) == {two}
    assert found(("labels", "team:a")) == found(("filters[labels][EQUALS][team]", "a")) == {one}
    assert found(("filters[namespace][EQUALS]", namespace)) == {one}
    assert found(("flowId", "other")) == found(("filters[flowId][REGEX]", "^o.h")) == {two}
    assert found(("q", "OTHE")) == found(("q", two[:20])) == {two}
    assert found(("scope", "USER")) == {one, two}
    assert found(("scope", "SYSTEM")) == found(("childFilter", "CHILD")) == set()
    assert found(("childFilter", "MAIN"), ("timeRange", "PT1H")) == {one, two}
    assert found(("startDate", execution["state"]["startDate"])) == {one, two}
    assert found(("endDate", "2020-01-01T00:00:00Z")) == set()
    either = (("filters[or][0][flowId][EQUALS]", "other"), ("filters[or][1][labels][EQUALS][team]", "a"))
    assert found(*either) == {one, two}
    newest = api.get(at(), params={"namespace": namespace, "size": "1"}).json()
    assert [two, 2] == [newest["results"][0]["id"], newest["total"]]
    for wrong in ({"sort": "id"}, {"sort": "color:asc"}, {"page": "0"}, {"size": "0"}, {"filters[color][EQUALS]": "x"}):
        assert api.get(at(), params=wrong).status_code == 422

    response = api.get(at(), params={"namespace": namespace, "sort": "state.startDate:asc"})

    assert [one["id"] for one in response.json()["results"]] == [one, two]
    return response


@case("GET", "/executions")
def of_flow(api: Api, at: At) -> httpx.Response:
    execution = started(api)
    assert api.get(at(), params={"namespace": execution["namespace"]}).status_code == 400

    response = api.get(at(), params={"namespace": execution["namespace"], "flowId": execution["flowId"]})

    assert [one["id"] for one in response.json()["results"]] == [execution["id"]]
    return response


@case("POST", "/executions/latest")
def latest(api: Api, at: At) -> httpx.Response:
    execution = started(api)
    namespace, id = execution["namespace"], execution["flowId"]
    second = start(api, namespace, id)

    response = api.post(at(), json=[{"namespace": namespace, "id": id}, {"namespace": namespace, "id": "never"}])

    [found] = response.json()
    assert (found["id"], found["status"]) == (second["id"], "SUCCESS")
    return response


@case("GET", "/executions/{executionId}/follow")
def follow(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(pause(delay="PT0.3S"), echo("say", "hello"))
    execution = start(api, namespace, id, wait=False)

    response = api.get(at(executionId=execution["id"]))

    found = list(events(response))
    assert found[0][0] == "start"
    assert {name for name, _ in found[1:-1]} == {"progress"}
    assert found[-1][0] == "end"
    last = json.loads(found[-1][1])
    assert last["state"]["current"] == "SUCCESS"
    assert len(last["taskRunList"]) == 2
    again = [name for name, _ in events(api.get(at(executionId=execution["id"])))]
    assert again == ["start", "end"]
    return response


@case("GET", "/executions/{executionId}/follow", error=404)
def follow_nothing(api: Api, at: At) -> httpx.Response:
    return api.get(at(executionId=NOBODY))


@case("GET", "/executions/{executionId}/flow")
def flow_that_ran(api: Api, at: At) -> httpx.Response:
    execution = started(api)
    api.save(echo("other", "x"), namespace=execution["namespace"], id="another")

    response = api.get(at(executionId=execution["id"]))

    assert response.json()["tasks"] == [{"id": "say", "type": f"{CORE}.debug.Return"}]
    return response


@case("GET", "/executions/{executionId}/flow", error=404)
def flow_of_nothing(api: Api, at: At) -> httpx.Response:
    return api.get(at(executionId=NOBODY))


@case("GET", "/executions/flows/{namespace}/{flowId}")
def flow_to_run(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(inputs=INPUTS)
    assert namespace in api.get(f"{MAIN}/executions/namespaces").json()
    [listed] = api.get(f"{MAIN}/executions/namespaces/{namespace}/flows").json()

    response = api.get(at(namespace=namespace, flowId=id))

    assert response.json() == listed
    assert response.json()["inputs"] == INPUTS
    return response


# Webhooks


HOOK = {
    "id": "hook",
    "type": f"{CORE}.trigger.Webhook",
    "key": "{{ 'sesame' | upper }}",
    "labels": {"from": "{{ trigger.body.name ?? 'nobody' }}"},
}


def hooked(api: Api, **properties: object) -> tuple[str, str]:
    task = echo("say", "{{ trigger.body }} {{ trigger.parameters.a }} {{ trigger.headers['x-mine'][0] }}")
    return api.save(task, triggers=[{**HOOK, **properties}])


@case("GET", "/executions/webhook/{namespace}/{id}/{key}")
def hook_by_get(api: Api, at: At) -> httpx.Response:
    namespace, id = hooked(api)

    response = api.get(
        at(namespace=namespace, id=id, key="SESAME"), params=[("a", "1"), ("a", "2")], headers={"X-Mine": "m"}
    )

    execution = in_state(api, response.json()["id"], "SUCCESS")
    assert execution["trigger"]["variables"]["parameters"] == {"a": ["1", "2"]}
    assert api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["total"] == 1
    return response


@case("POST", "/executions/webhook/{namespace}/{id}/{key}")
def hook_by_post(api: Api, at: At) -> httpx.Response:
    namespace, id = hooked(api)
    address = at(namespace=namespace, id=id, key="SESAME")
    plain = api.post(f"{address}/and/more", content="a text").json()
    assert plain["trigger"]["variables"]["body"] == "a text"

    response = api.post(address, json={"name": "Ann"})

    execution = response.json()
    assert execution["trigger"]["variables"]["body"] == {"name": "Ann"}
    assert execution["trigger"]["variables"]["headers"]["content-type"] == ["application/json"]
    assert labels_of(execution) == {"from": "Ann"}
    assert labels_of(plain) == {"from": "nobody"}
    return response


@case("PUT", "/executions/webhook/{namespace}/{id}/{key}")
def hook_by_put(api: Api, at: At) -> httpx.Response:
    namespace, id = hooked(api)

    response = api.put(at(namespace=namespace, id=id, key="SESAME"), content=b"\xff[")

    assert response.json()["trigger"]["variables"]["body"] == "\ufffd["
    return response


def refused(api: Api, at: At, method: str) -> httpx.Response:
    namespace, id = hooked(api)
    wrong = api.request(method, at(namespace=namespace, id=id, key="sesame"))
    assert wrong.status_code == 404
    asleep, _ = hooked(api, disabled=True)
    assert api.request(method, at(namespace=asleep, id=id, key="SESAME")).status_code == 409
    off, _ = api.save(triggers=[HOOK], disabled=True)
    assert api.request(method, at(namespace=off, id=id, key="SESAME")).status_code == 409
    assert api.request(method, at(namespace=off, id=id, key="sesame")).status_code == 404
    return api.request(method, at(namespace=namespace, id="nothing", key="SESAME"))


def passed_over(api: Api, at: At, method: str) -> httpx.Response:
    condition = {"type": f"{CORE}.condition.Expression", "expression": "{{ trigger.parameters.go[0] == 'yes' }}"}
    namespace, id = hooked(api, conditions=[condition])
    address = at(namespace=namespace, id=id, key="SESAME")
    assert api.request(method, address, params={"go": "yes"}).status_code == 200

    response = api.request(method, address, params={"go": "no"})

    assert api.request(method, address).status_code == 204
    assert response.content == b""
    assert api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["total"] == 1
    return response


@case("GET", "/executions/webhook/{namespace}/{id}/{key}", error=404)
def hook_without_key_by_get(api: Api, at: At) -> httpx.Response:
    return refused(api, at, "GET")


@case("POST", "/executions/webhook/{namespace}/{id}/{key}", error=404)
def hook_without_key_by_post(api: Api, at: At) -> httpx.Response:
    return refused(api, at, "POST")


@case("PUT", "/executions/webhook/{namespace}/{id}/{key}", error=404)
def hook_without_key_by_put(api: Api, at: At) -> httpx.Response:
    return refused(api, at, "PUT")


@case("GET", "/executions/webhook/{namespace}/{id}/{key}", error=204)
def hook_passed_over_by_get(api: Api, at: At) -> httpx.Response:
    return passed_over(api, at, "GET")


@case("POST", "/executions/webhook/{namespace}/{id}/{key}", error=204)
def hook_passed_over_by_post(api: Api, at: At) -> httpx.Response:
    return passed_over(api, at, "POST")


@case("PUT", "/executions/webhook/{namespace}/{id}/{key}", error=204)
def hook_passed_over_by_put(api: Api, at: At) -> httpx.Response:
    return passed_over(api, at, "PUT")


# Deleting many


@case("DELETE", "/executions/by-ids")
def delete_by_ids(api: Api, at: At) -> httpx.Response:
    done, still_open = started(api), paused(api)

    response = api.request("DELETE", at(), params={"includeNonTerminated": "true"}, json=[done["id"], still_open["id"]])

    assert response.json()["count"] == 2
    for one in (done, still_open):
        assert api.get(f"{MAIN}/executions/{one['id']}").status_code == 404
    return response


@case("DELETE", "/executions/by-ids", error=400)
def delete_wrong_ids(api: Api, at: At) -> httpx.Response:
    done, still_open = started(api), running(api)

    response = api.request("DELETE", at(), json=[done["id"], NOBODY, still_open["id"]])

    assert response.json()["message"] == "invalid bulk delete"
    assert response.json()["invalids"] == [
        {"message": "execution not found", "invalidValue": NOBODY, "path": "execution"},
        {"message": "execution is not terminated", "invalidValue": still_open["id"], "path": "execution"},
    ]
    assert look(api, done["id"])
    kill(api, still_open["id"])
    return response


@case("DELETE", "/executions/by-query")
def delete_by_query(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    done = [start(api, namespace, id) for _ in range(3)]

    response = api.delete(at(), params={"filters[namespace][EQUALS]": namespace, "filters[flowId][EQUALS]": id})

    assert response.json()["count"] == len(done)
    assert api.get(f"{MAIN}/executions/search", params={"namespace": namespace}).json()["total"] == 0
    return response
