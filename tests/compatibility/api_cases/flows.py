"""Calls of `/flows`."""

from __future__ import annotations

import io
from zipfile import ZipFile

import httpx

from tests.apis import MAIN, Api, At, case
from tests.flows import echo, flow

YAML = {"Content-Type": "application/x-yaml"}


def text(namespace: str, id: str = "hello", word: str = "hello") -> str:
    return flow(echo("say", word), namespace=namespace, id=id)


@case("POST", "/flows")
def create(api: Api, at: At) -> httpx.Response:
    source = f"# as it was sent\n{text(api.new_namespace())}"

    response = api.post(at(), content=source, headers=YAML)

    assert response.json()["source"] == source
    assert response.json()["revision"] == 1
    return response


@case("POST", "/flows", error=422)
def create_again(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save()
    invalid = api.post(at(), content="id: a", headers=YAML)
    assert invalid.status_code == 422
    assert [one["path"] for one in invalid.json()["_embedded"]["errors"]] == ["flow.namespace", "flow.tasks"]

    return api.post(at(), content=text(namespace), headers=YAML)


@case("GET", "/flows/{namespace}/{id}")
def get(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(labels={"team": "a"})
    address = at(namespace=namespace, id=id)
    assert "source" in api.get(address, params={"source": "true"}).json()
    assert api.get(address, params={"revision": "1"}).json()["revision"] == 1
    assert api.get(address, params={"revision": "2"}).status_code == 404

    response = api.get(address)

    assert response.json()["labels"] == [{"key": "team", "value": "a"}]
    assert "source" not in response.json()
    return response


@case("GET", "/flows/{namespace}/{id}", error=404)
def get_nothing(api: Api, at: At) -> httpx.Response:
    return api.get(at(namespace="company", id="nothing"))


@case("PUT", "/flows/{namespace}/{id}")
def update(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    address = at(namespace=namespace, id=id)

    response = api.put(address, content=text(namespace, word="bye"), headers=YAML)

    assert response.json()["revision"] == 2
    assert api.put(address, content=text(namespace, word="bye"), headers=YAML).json()["revision"] == 2
    return response


@case("PUT", "/flows/{namespace}/{id}", error=404)
def update_nothing(api: Api, at: At) -> httpx.Response:
    return api.put(at(namespace="company", id="hello"), content=text("company"), headers=YAML)


@case("PUT", "/flows/{namespace}/{id}", error=422)
def update_to_another(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.put(at(namespace=namespace, id=id), content=text("other", "another"), headers=YAML)

    errors = response.json()["_embedded"]["errors"]
    assert {error["path"] for error in errors} == {"flow.id", "flow.namespace"}
    return response


@case("DELETE", "/flows/{namespace}/{id}")
def delete(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.delete(at(namespace=namespace, id=id))

    address = f"{MAIN}/flows/{namespace}/{id}"
    assert api.get(address).status_code == 404
    deleted = api.get(address, params={"allowDeleted": "true"}).json()
    assert deleted["deleted"]
    assert deleted["revision"] == 2
    assert api.save(namespace=namespace)
    assert api.get(address).json()["revision"] == 3
    return response


@case("DELETE", "/flows/{namespace}/{id}", error=404)
def delete_nothing(api: Api, at: At) -> httpx.Response:
    return api.delete(at(namespace="company", id="nothing"))


@case("GET", "/flows/{namespace}/{id}/revisions")
def revisions(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    api.put(f"{MAIN}/flows/{namespace}/{id}", content=text(namespace, word="bye"))

    response = api.get(at(namespace=namespace, id=id))

    assert [one["revision"] for one in response.json()] == [1, 2]
    return response


@case("GET", "/flows/{namespace}/{id}/tasks/{taskId}")
def task(api: Api, at: At) -> httpx.Response:
    inner = {"id": "outer", "type": "io.kestra.plugin.core.flow.Sequential", "tasks": [echo("inner", "x")]}
    namespace, id = api.save(inner)

    response = api.get(at(namespace=namespace, id=id, taskId="inner"))

    assert response.json()["id"] == "inner"
    return response


@case("GET", "/flows/{namespace}/{id}/tasks/{taskId}", error=404)
def task_nowhere(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    return api.get(at(namespace=namespace, id=id, taskId="nothing"))


@case("GET", "/flows/search")
def search(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save(id="one", labels={"team": "a"})
    api.save(namespace=namespace, id="two")
    below, _ = api.save(namespace=f"{namespace}.below", id="three")
    for parameters, ids in (
        ({"namespace": namespace}, {"one", "two", "three"}),
        ({"filters[namespace][EQUALS]": namespace}, {"one", "two"}),
        ({"filters[namespace][PREFIX]": namespace, "filters[flowId][IN]": "one,three"}, {"one", "three"}),
        ({"namespace": namespace, "labels": "team:a"}, {"one"}),
        ({"filters[namespace][EQUALS]": namespace, "filters[labels][EQUALS][team]": "a"}, {"one"}),
        ({"q": below}, {"three"}),
    ):
        found = api.get(at(), params=parameters).json()
        assert {one["id"] for one in found["results"]} == ids, parameters
        assert found["total"] == len(ids)

    page = {"namespace": namespace, "size": "1", "page": "2", "sort": "id:desc"}
    response = api.get(at(), params=page)

    assert [one["id"] for one in response.json()["results"]] == ["three"]
    assert response.json()["total"] == 3
    return response


@case("GET", "/flows/source")
def search_sources(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save(echo("say", "needle"))
    assert api.get(at(), params={"q": "eedl", "namespace": namespace, "wholeWord": "true"}).json()["total"] == 0
    slow, _ = api.save(echo("say", f"{'a' * 5000}!"))
    endless = api.get(at(), params={"q": r"(a|a|aa)+\$", "namespace": slow, "regex": "true"})
    assert endless.status_code == 422
    assert "takes too long" in endless.json()["message"]

    response = api.get(at(), params={"q": "NEEDLE", "namespace": namespace})

    [found] = response.json()["results"]
    assert found["namespace"] == namespace
    assert "[mark]needle[/mark]" in found["fragments"][0]
    return response


@case("GET", "/flows/distinct-namespaces")
def distinct_namespaces(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save()
    assert namespace in api.get(at()).json()

    response = api.get(at(), params={"q": namespace})

    assert namespace in response.json()
    return response


@case("GET", "/flows/{namespace}")
def in_namespace(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save()
    api.save(namespace=f"{namespace}.below")
    assert api.get(at(namespace="company.nothing")).json() == []

    response = api.get(at(namespace=namespace))

    assert [one["namespace"] for one in response.json()] == [namespace]
    return response


@case("POST", "/flows/{namespace}")
def replace_namespace(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save(id="old")
    kept = api.post(at(namespace=namespace), params={"delete": "false"}, content=text(namespace, "new"), headers=YAML)
    assert [one["id"] for one in kept.json()] == ["new"]
    both = f"{text(namespace, 'new')}\n---\n{text(namespace, 'other')}"

    response = api.post(at(namespace=namespace), content=both, headers=YAML)

    assert [(one["id"], one["deleted"]) for one in response.json()] == [
        ("new", False),
        ("other", False),
        ("old", True),
    ]
    moved = api.post(at(namespace=f"{namespace}.b"), params={"override": "true"}, content=text("x"), headers=YAML)
    assert moved.json()[0]["namespace"] == f"{namespace}.b"
    return response


@case("POST", "/flows/{namespace}", error=422)
def replace_with_foreign(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    address = at(namespace=namespace)
    twice = api.post(address, content=f"{text(namespace)}\n---\n{text(namespace)}", headers=YAML)
    assert twice.status_code == 422
    assert api.post(address, content="", headers=YAML).status_code == 422
    invalid = f"{text(namespace, 'other')}\n---\nid: x"
    assert api.post(address, content=invalid, headers=YAML).status_code == 422

    response = api.post(address, content=text("another"), headers=YAML)

    assert [one["id"] for one in api.get(f"{MAIN}/flows/{namespace}").json()] == [id]
    return response


@case("POST", "/flows/bulk")
def bulk(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save(id="old")
    sources = f"{text(namespace, 'one')}\n---\n{text(f'{namespace}.below', 'two')}"
    scope = {"namespace": namespace}
    assert api.post(at(), params=scope, content=sources, headers=YAML).status_code == 422

    response = api.post(at(), params={**scope, "allowNamespaceChild": "true"}, content=sources, headers=YAML)

    assert [one["id"] for one in response.json()] == ["one", "two", "old"]
    return response


@case("POST", "/flows/validate")
def validate(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save()
    unknown = flow({"id": "a", "type": "io.kestra.plugin.core.log.Lag"}, namespace=namespace, id="b")
    sources = f"{text(namespace)}\n---\n{unknown}\n---\nrevision: 7\n{text(namespace)}"

    response = api.post(at(), content=sources, headers=YAML)

    valid, invalid, outdated = response.json()
    assert "constraints" not in valid
    assert not valid["outdated"]
    assert invalid["constraints"].startswith("Invalid type: io.kestra.plugin.core.log.Lag")
    assert invalid["index"] == 1
    assert outdated["outdated"]
    return response


@case("POST", "/flows/import")
def import_flows(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("good.yml", text(namespace, "zipped"))
        archive.writestr("bad.yml", "id: x")
    other = api.post(at(), files={"fileUpload": ("flows.txt", b"id: a")})
    assert other.status_code == 422
    assert api.post(at(), files={"fileUpload": ("flows.zip", packed.getvalue())}).json() == ["bad.yml"]

    content = f"{text(namespace)}\n---\nid: x".encode()
    response = api.post(at(), files={"fileUpload": ("flows.yaml", content)})

    assert response.json() == ["1"]
    assert [one["id"] for one in api.get(f"{MAIN}/flows/{namespace}").json()] == ["hello", "zipped"]
    return response


@case("POST", "/flows/export/by-ids")
def export_by_ids(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()
    assert api.post(at(), json=[{"namespace": namespace, "id": "nothing"}]).status_code == 404

    response = api.post(at(), json=[{"namespace": namespace, "id": id}])

    assert entries(response) == [f"{namespace}.{id}.yml"]
    return response


@case("GET", "/flows/export/by-query")
def export_by_query(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.get(at(), params={"namespace": namespace})

    assert entries(response) == [f"{namespace}.{id}.yml"]
    return response


def entries(response: httpx.Response) -> list[str]:
    with ZipFile(io.BytesIO(response.content)) as archive:
        return archive.namelist()


@case("DELETE", "/flows/delete/by-ids")
def delete_by_ids(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.request(
        "DELETE", at(), json=[{"namespace": namespace, "id": id}, {"namespace": namespace, "id": "nothing"}]
    )

    assert response.json()["count"] == 1
    assert api.get(f"{MAIN}/flows/{namespace}").json() == []
    return response


@case("DELETE", "/flows/delete/by-query")
def delete_by_query(api: Api, at: At) -> httpx.Response:
    namespace, _ = api.save()
    api.save(namespace=namespace, id="other")

    response = api.delete(at(), params={"namespace": namespace})

    assert response.json()["count"] == 2
    return response


def is_disabled(api: Api, namespace: str, id: str) -> bool:
    return api.get(f"{MAIN}/flows/{namespace}/{id}").json()["disabled"]


@case("POST", "/flows/disable/by-ids")
def disable_by_ids(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.post(at(), json=[{"namespace": namespace, "id": id}])

    assert response.json()["count"] == 1
    assert is_disabled(api, namespace, id)
    assert api.post(at(), json=[{"namespace": namespace, "id": id}]).json()["count"] == 0
    return response


@case("POST", "/flows/disable/by-query")
def disable_by_query(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save()

    response = api.post(at(), params={"namespace": namespace})

    assert response.json()["count"] == 1
    assert is_disabled(api, namespace, id)
    return response


@case("POST", "/flows/enable/by-ids")
def enable_by_ids(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(disabled=True)

    response = api.post(at(), json=[{"namespace": namespace, "id": id}])

    assert response.json()["count"] == 1
    assert not is_disabled(api, namespace, id)
    return response


@case("POST", "/flows/enable/by-query")
def enable_by_query(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(disabled=True)

    response = api.post(at(), params={"filters[namespace][EQUALS]": namespace})

    assert response.json()["count"] == 1
    assert not is_disabled(api, namespace, id)
    return response
