"""Calls of `/namespaces`."""

from __future__ import annotations

import httpx

from tests.apis import MAIN, Api, At, case


def there(api: Api) -> str:
    """A namespace that has a flow, one below it that has a key, and one that has a file."""
    namespace, _ = api.save()
    api.put(f"{MAIN}/namespaces/{namespace}.keys.deep/kv/key", content="1")
    api.home.put_namespace_file(f"{namespace}.files", "a.txt", "a")
    return namespace


@case("GET", "/namespaces/search")
def search(api: Api, at: At) -> httpx.Response:
    namespace = there(api)
    names = [namespace, f"{namespace}.files", f"{namespace}.keys", f"{namespace}.keys.deep"]
    for parameters, found in (
        ({"q": namespace.upper(), "size": "100"}, names),
        ({"q": namespace, "existing": "true", "sort": "id:desc"}, [names[3], names[1], names[0]]),
        ({"filters[id][EQUALS]": "company"}, ["company"]),
        ({"q": "system"}, ["system"]),
    ):
        answer = api.get(at(), params=parameters).json()
        assert [one["id"] for one in answer["results"] if one["id"].startswith(found[-1][:6])] == found, parameters

    response = api.get(at(), params={"q": namespace})

    assert {one["id"]: one["disabled"] for one in response.json()["results"]}[names[2]] is True
    return response


@case("GET", "/namespaces/{id}")
def get(api: Api, at: At) -> httpx.Response:
    namespace = there(api)
    assert api.get(at(id="nobody.knows")).json() == {"id": "nobody.knows", "deleted": False, "disabled": True}

    response = api.get(at(id=namespace))

    assert response.json()["disabled"] is False
    return response


@case("POST", "/namespaces/autocomplete")
def autocomplete(api: Api, at: At) -> httpx.Response:
    namespace = there(api)
    below = f"{namespace}.files"
    assert api.post(at(), json={"q": "", "ids": [below, "nobody"]}).json() == [below]
    assert f"{namespace}.keys" not in api.post(at(), json={"q": namespace, "existingOnly": True}).json()

    response = api.post(at(), json={"q": namespace})

    assert set(response.json()) >= {namespace, below, f"{namespace}.keys"}
    return response
