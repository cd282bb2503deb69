"""Calls of what the server says of itself."""

from __future__ import annotations

import httpx

from tercel import __version__
from tercel.api import Login
from tests.apis import Api, At, case
from tests.flows import echo
from tests.homes import Home


@case("GET", "/configs")
def configs(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    assert response.json()["version"] == __version__
    return response


@case("POST", "/basicAuth")
def set_basic_auth(api: Api, at: At) -> httpx.Response:
    me, home = ("me@example.com", "Secret123"), api.home.root / "another"
    home.mkdir(exist_ok=True)
    file = home / "login.json"
    file.unlink(missing_ok=True)
    with Home(home) as other, Api(other, login=Login(file=file)) as served:
        refused = served.post(at(), json={"username": "me", "password": "x"})
        assert refused.status_code == 422

        response = served.post(at(), json={"uid": "u", "username": me[0], "password": me[1]})

        assert served.get("/api/v1/configs").status_code == 401
        assert served.get("/api/v1/configs", auth=(me[0], "wrong")).status_code == 401
        assert served.get("/api/v1/me", auth=me).json()["username"] == me[0]
        assert served.get("/ping").status_code == 200
        assert Login(file=file).is_required
    return response


@case("GET", "/basicAuthValidationErrors")
def basic_auth_problems(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    assert response.json() == ["No user is set."]
    return response


@case("GET", "/ping")
def ping(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    assert response.text == "pong"
    return response


@case("GET", "/health")
def health(api: Api, at: At) -> httpx.Response:
    response = api.get(at())

    assert response.json()["status"] == "UP"
    return response


@case("GET", "/version")
def version(api: Api, at: At) -> httpx.Response:
    return api.get(at())


@case("GET", "/prometheus")
def prometheus(api: Api, at: At) -> httpx.Response:
    namespace, id = api.save(echo("one", "1"), echo("two", "2"))
    flow = api.engine.call(api.engine.operations.get_flow(namespace, id))
    api.home.wait(api.engine.call(api.engine.operations.start(flow)).id)

    response = api.get(at())

    lines = response.text.splitlines()
    labels = f'namespace_id="{namespace}",flow_id="{id}"'
    assert f"kestra_executor_execution_started_count_total{{{labels}}} 1" in lines
    assert f'kestra_executor_execution_end_count_total{{{labels},state="SUCCESS"}} 1' in lines
    assert f'kestra_executor_taskrun_ended_count_total{{{labels},state="SUCCESS"}} 2' in lines
    assert "kestra_worker_job_pending 0" in lines
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return response
