"""Calls of `/namespaces/{namespace}/files`."""

from __future__ import annotations

import io
from zipfile import ZipFile

import httpx

from tests.apis import MAIN, Api, At, case
from tests.flows import echo, flow


def address(namespace: str, more: str = "") -> str:
    return f"{MAIN}/namespaces/{namespace}/files{more}"


def put(api: Api, namespace: str, path: str, content: bytes = b"text", name: str = "file") -> httpx.Response:
    files = {"fileContent": (name, content)}
    return api.post(address(namespace), params={"path": path}, files=files)


def filled(api: Api, *paths: str) -> str:
    """A namespace with files."""
    namespace = api.new_namespace()
    for path in paths or ("/a.txt", "/lib/b.py", "/lib/deep/c.py"):
        assert put(api, namespace, path, path.encode()).status_code == 200
    return namespace


def paths(api: Api, namespace: str) -> list[str]:
    return api.get(address(namespace, "/search"), params={"q": ""}).json()


def names(api: Api, namespace: str, path: str = "/") -> dict[str, str]:
    found = api.get(address(namespace, "/directory"), params={"path": path})
    assert found.status_code == 200, found.text
    return {one["fileName"]: one["type"] for one in found.json()}


@case("GET", "/namespaces/{namespace}/files")
def get(api: Api, at: At) -> httpx.Response:
    namespace = filled(api, "/dir/ä b%20.txt")
    put(api, namespace, "dir/ä b%20.txt", b"second")
    wanted = {"path": "/dir/ä b%20.txt"}
    assert api.get(at(namespace=namespace), params={**wanted, "revision": "1"}).text == "/dir/ä b%20.txt"
    assert api.get(at(namespace=namespace), params={**wanted, "revision": "3"}).status_code == 404

    response = api.get(at(namespace=namespace), params=wanted)

    assert response.content == b"second"
    assert response.headers["content-length"] == "6"
    assert response.headers["content-disposition"].startswith("attachment; ")
    return response


@case("GET", "/namespaces/{namespace}/files", error=404)
def get_nothing(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.get(at(namespace=namespace), params={"path": "/lib"}).status_code == 404
    assert api.get(at(namespace=namespace)).status_code == 400
    return api.get(at(namespace=namespace), params={"path": "/nothing"})


@case("GET", "/namespaces/{namespace}/files", error=422)
def get_forbidden(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.get(at(namespace=namespace), params={"path": "/../x"}).status_code == 422
    return api.get(at(namespace=namespace), params={"path": "/_flows/hello.yml"})


@case("POST", "/namespaces/{namespace}/files")
def put_file(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    assert api.post(at(namespace=namespace), params={"path": "/a"}).status_code == 422
    assert api.post(at(namespace=namespace), files={"fileContent": b"a"}).status_code == 400
    packed = io.BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("top.txt", "top")
        archive.writestr("lib/", "")
        archive.writestr("lib/in.txt", "in")
        archive.writestr("_flows/hello.yml", flow(echo("say", "hello"), id="hello", namespace="elsewhere"))
    archive_file = {"fileContent": ("all.ZIP", packed.getvalue())}
    assert api.post(at(namespace=namespace), params={"path": "/x/all.zip"}, files=archive_file).status_code == 200
    assert paths(api, namespace) == ["/lib/in.txt", "/top.txt"]
    assert api.get(f"{MAIN}/flows/{namespace}/hello").status_code == 200
    flow_file = {"fileContent": ("x", flow(echo("say", "x"), id="other", namespace="elsewhere").encode())}
    assert api.post(at(namespace=namespace), params={"path": "/_flows/x.yml"}, files=flow_file).status_code == 200
    assert api.get(f"{MAIN}/flows/{namespace}/other").status_code == 200

    files = {"fileContent": ("b", b"content")}
    response = api.post(at(namespace=namespace), params={"path": "/new/b.txt"}, files=files)

    assert api.get(address(namespace), params={"path": "/new/b.txt"}).content == b"content"
    return response


@case("PUT", "/namespaces/{namespace}/files")
def move(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.put(at(namespace=namespace), params={"from": "/lib", "to": "/src"}).status_code == 200
    assert api.put(at(namespace=namespace), params={"from": "/src", "to": "/src/in"}).status_code == 422
    assert api.put(at(namespace=namespace), params={"from": "/nothing", "to": "/src"}).status_code == 404
    assert api.put(at(namespace=namespace), params={"from": "/src"}).status_code == 400

    response = api.put(at(namespace=namespace), params={"from": "/a.txt", "to": "/src/a.txt"})

    assert paths(api, namespace) == ["/src/a.txt", "/src/b.py", "/src/deep/c.py"]
    return response


@case("DELETE", "/namespaces/{namespace}/files")
def delete(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.delete(at(namespace=namespace), params={"path": "/nothing"}).status_code == 200
    assert api.delete(at(namespace=namespace), params={"path": "/lib/deep/c.py"}).status_code == 200
    assert names(api, namespace, "/lib") == {"b.py": "File"}

    response = api.delete(at(namespace=namespace), params={"path": "/lib/"})

    assert paths(api, namespace) == ["/a.txt"]
    assert names(api, namespace) == {"a.txt": "File"}
    return response


@case("GET", "/namespaces/{namespace}/files/directory")
def list_folder(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert names(api, api.new_namespace()) == {}
    assert names(api, namespace, "/lib/") == {"deep": "Directory", "b.py": "File"}
    assert api.get(at(namespace=namespace), params={"path": "/nothing"}).status_code == 404

    response = api.get(at(namespace=namespace))

    assert [one["fileName"] for one in response.json()] == ["lib", "a.txt"]
    assert response.json()[1]["size"] == len("/a.txt")
    assert response.json()[0]["lastModifiedTime"] > 1_600_000_000_000
    return response


@case("POST", "/namespaces/{namespace}/files/directory")
def make_folder(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.post(at(namespace=namespace), params={"path": "/a.txt/x"}).status_code == 422

    response = api.post(at(namespace=namespace), params={"path": "/new/deep"})

    assert names(api, namespace, "/new") == {"deep": "Directory"}
    assert names(api, namespace, "/new/deep") == {}
    assert put(api, namespace, "/new/deep").status_code == 422
    api.put(address(namespace), params={"from": "/new", "to": "/old"})
    assert names(api, namespace) == {"a.txt": "File", "lib": "Directory", "old": "Directory"}
    put(api, namespace, "/old/deep/a")
    api.delete(address(namespace), params={"path": "/old/deep/a"})
    assert names(api, namespace) == {"a.txt": "File", "lib": "Directory"}
    return response


@case("GET", "/namespaces/{namespace}/files/stats")
def stats(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    assert api.get(at(namespace=namespace)).json()["type"] == "Directory"
    assert api.get(at(namespace=namespace), params={"path": "/lib/deep"}).json()["fileName"] == "deep"
    assert api.get(at(namespace=namespace), params={"path": "/nothing"}).status_code == 404
    put(api, namespace, "/a.txt", b"longer than before")

    response = api.get(at(namespace=namespace), params={"path": "/a.txt"})

    found = response.json()
    assert (found["fileName"], found["type"], found["size"]) == ("a.txt", "File", 18)
    return response


@case("GET", "/namespaces/{namespace}/files/search")
def search(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)

    response = api.get(at(namespace=namespace), params={"q": ".PY"})

    assert response.json() == ["/lib/b.py", "/lib/deep/c.py"]
    return response


@case("GET", "/namespaces/{namespace}/files/export")
def export(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    api.save(namespace=namespace)

    response = api.get(at(namespace=namespace))

    with ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.txt", "lib/b.py", "lib/deep/c.py", "_flows/hello.yml"]
        assert archive.read("lib/b.py") == b"/lib/b.py"
    assert f'"{namespace}_files.zip"' in response.headers["content-disposition"]
    other = api.new_namespace()
    put(api, other, "/all.zip", response.content, "all.zip")
    assert paths(api, other) == paths(api, namespace)
    return response


@case("GET", "/namespaces/{namespace}/files/revisions")
def revisions(api: Api, at: At) -> httpx.Response:
    namespace = filled(api)
    api.delete(address(namespace), params={"path": "/a.txt"})
    put(api, namespace, "/a.txt", b"again")
    assert api.get(at(namespace=namespace), params={"path": "/nothing"}).status_code == 404

    response = api.get(at(namespace=namespace), params={"path": "/a.txt"})

    assert [one["revision"] for one in response.json()] == [1, 3]
    return response
