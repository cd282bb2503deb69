"""Calls of `/namespaces/{namespace}/kv` and `/kv`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.apis import MAIN, Api, At, case

VALUES = (
    ('"text"', "STRING", "text"),
    ("42", "NUMBER", 42),
    ("1.5", "NUMBER", 1.5),
    ("1.5d1", "NUMBER", 15),
    ("true", "BOOLEAN", True),
    ('{"a": [1, null]}', "JSON", {"a": [1, None]}),
    ("{a: 1.25, b: [x]}", "JSON", {"a": 1.25, "b": ["x"]}),
    ("[1]", "JSON", [1]),
    ("2021-09-01", "DATE", "2021-09-01"),
    ("2021-09-01T01:02:03Z", "DATETIME", "2021-09-01T01:02:03Z"),
    ('"PT5M"', "DURATION", "PT5M"),
    ("'word'", "STRING", "word"),
)

NO_VALUES = ("", "null", "two words", "1] [2", '"open', "{{aGk=}}", "2021-99-01")


def address(namespace: str, key: str = "key") -> str:
    return f"{MAIN}/namespaces/{namespace}/kv/{key}"


def put(api: Api, namespace: str, key: str = "key", value: str = "1", **headers: str) -> None:
    response = api.put(address(namespace, key), content=value, headers=headers)
    assert response.status_code == 200, response.text


@case("PUT", "/namespaces/{namespace}/kv/{key}")
def put_value(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    for text, type_, value in VALUES:
        assert api.put(at(namespace=namespace, key="key"), content=text).status_code == 200
        found = api.get(address(namespace)).json()
        assert (found["type"], found["value"]) == (type_, value), text

    for content_type in ("application/json", "text/plain", "application/octet-stream"):
        headers = {"Content-Type": content_type}
        response = api.put(at(namespace=namespace, key="key"), content='{"a": 1}', headers=headers)
        assert api.get(address(namespace)).json()["value"] == {"a": 1}
    return response


@case("PUT", "/namespaces/{namespace}/kv/{key}", error=422)
def put_what_is_no_value(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    for key in ("-a", "a b", "a/b", "ä"):
        assert api.put(at(namespace=namespace, key=key), content="1").status_code == 422, key
    for value in (*NO_VALUES, "1e400", "[1e400]", "{a: -1e999}", "nan", "1d9999999999", '"\\ud800"'):
        assert api.put(at(namespace=namespace, key="key"), content=value).status_code == 422, value
    for ttl in ("soon", "PT0S", "-PT1H", "P99999999D"):
        refused = api.put(at(namespace=namespace, key="key"), content="1", headers={"ttl": ttl})
        assert refused.status_code == 422, ttl

    response = api.put(at(namespace=namespace, key="key"), content='{"a":')

    assert api.get(address(namespace)).status_code == 404
    return response


@case("GET", "/namespaces/{namespace}/kv/{key}")
def get(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace, value="1")
    put(api, namespace, value="2", ttl="PT1H")

    response = api.get(at(namespace=namespace, key="key"))

    assert response.json().items() >= {"type": "NUMBER", "value": 2, "revision": 2}.items()
    return response


@case("GET", "/namespaces/{namespace}/kv/{key}", error=404)
def get_nothing(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace, "key2")
    return api.get(at(namespace=namespace, key="key"))


@case("GET", "/namespaces/{namespace}/kv/{key}", error=410)
def get_expired(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.engine.operations, "_clock", lambda: datetime.now(UTC) - timedelta(hours=2))
        put(api, namespace, ttl="PT1H")

    response = api.get(at(namespace=namespace, key="key"))

    assert api.get(f"{MAIN}/namespaces/{namespace}/kv").json() == []
    assert api.delete(address(namespace)).json() is False
    return response


@case("DELETE", "/namespaces/{namespace}/kv/{key}")
def delete(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace)

    response = api.delete(at(namespace=namespace, key="key"))

    assert response.json() is True
    assert api.delete(at(namespace=namespace, key="key")).json() is False
    return response


@case("GET", "/namespaces/{namespace}/kv")
def in_namespace(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace, "b", description="second", ttl="P1D")
    put(api, namespace, "a")
    put(api, f"{namespace}.below", "c")

    response = api.get(at(namespace=namespace))

    assert [one["key"] for one in response.json()] == ["a", "b"]
    assert response.json()[1]["description"] == "second"
    assert response.json()[1]["expirationDate"] > response.json()[1]["updateDate"]
    return response


@case("DELETE", "/namespaces/{namespace}/kv")
def delete_many(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace, "a")
    put(api, namespace, "b")

    response = api.request("DELETE", at(namespace=namespace), json={"keys": ["b", "nothing", "b"]})

    assert response.json() == {"keys": ["b"]}
    assert [one["key"] for one in api.get(f"{MAIN}/namespaces/{namespace}/kv").json()] == ["a"]
    return response


@case("GET", "/namespaces/{namespace}/kv/inheritance")
def inherited(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    put(api, namespace, "a")
    put(api, namespace, "b")
    put(api, f"{namespace}.x", "b")
    put(api, f"{namespace}.x.y", "c")

    response = api.get(at(namespace=f"{namespace}.x.y"))

    found = [(one["namespace"], one["key"]) for one in response.json()]
    assert found == [(namespace, "a"), (f"{namespace}.x", "b")]
    return response


@case("GET", "/kv")
def search(api: Api, at: At) -> httpx.Response:
    namespace = api.new_namespace()
    for name, key in ((namespace, "a"), (namespace, "b"), (f"{namespace}.below", "a")):
        put(api, name, key)
    for parameters, count in (
        ({"namespace": namespace}, 3),
        ({"filters[namespace][EQUALS]": namespace}, 2),
        ({"filters[namespace][PREFIX]": namespace, "filters[key][EQUALS]": "a"}, 2),
        ({"filters[namespace][PREFIX]": namespace, "filters[expirationDate][IS_NOT_NULL]": ""}, 0),
    ):
        assert api.get(at(), params=parameters).json()["total"] == count, parameters

    response = api.get(at(), params={"namespace": namespace, "size": "2", "sort": "key:desc"})

    assert [one["key"] for one in response.json()["results"]] == ["b", "a"]
    return response
