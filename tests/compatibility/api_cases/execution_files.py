"""Calls of `/executions/{executionId}/file`, `/outputs`, and expressions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import httpx

from tercel.operations import new_execution_id
from tercel.storage import execution_path
from tests.apis import Api, At, case
from tests.flows import echo, flow, for_each, sh
from tests.homes import Ran

ID = "hello"


def ran(api: Api, *tasks: Any, **properties: Any) -> Ran:
    return api.home.run(flow(*(tasks or (echo("say", "hello"),)), id=ID, namespace=api.new_namespace(), **properties))


def with_file(api: Api, name: str, content: bytes) -> tuple[str, str]:
    """An execution that has a file; its id, and the address of the file."""
    execution = ran(api).execution
    return execution.id, put(api, execution.namespace, execution.id, name, content)


def put(api: Api, namespace: str, execution_id: str, name: str, content: bytes) -> str:
    path = f"{execution_path(namespace, ID, execution_id)}/tasks/say/{name}"
    return api.engine.storage.put(path, io.BytesIO(content))


# Files


@case("GET", "/executions/{executionId}/file")
def download(api: Api, at: At) -> httpx.Response:
    found = ran(api, sh("make", "printf 'a,b\\n' > data.csv", outputFiles=["data.csv"]))
    uri = found.run_of("make").outputs["outputFiles"]["data.csv"]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]
    address = at(executionId=found.execution.id)
    part = api.get(address, params={"path": uri}, headers={"Range": "bytes=1-2"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b",b", "bytes 1-2/4")
    assert api.get(address, params={"path": uri}, headers={"Range": "bytes=4-"}).status_code == 416
    assert api.get(address).status_code == 400

    response = api.get(address, params={"path": uri})

    assert response.content == b"a,b\n"
    assert response.headers["content-length"] == "4"
    assert response.headers["content-disposition"] == 'attachment; filename="data.csv"'
    return response


@case("GET", "/executions/{executionId}/file", error=404)
def download_nothing(api: Api, at: At) -> httpx.Response:
    execution_id, uri = with_file(api, "a.txt", b"a")
    assert api.get(at(executionId=new_execution_id()), params={"path": uri}).status_code == 404

    return api.get(at(executionId=execution_id), params={"path": f"{uri}x"})


@case("GET", "/executions/{executionId}/file", error=422)
def download_elsewhere(api: Api, at: At) -> httpx.Response:
    execution_id, uri = with_file(api, "a.txt", b"a")
    folder = uri.rpartition("/")[0]
    api.engine.storage.put("/company/private.txt", io.BytesIO(b"private"))
    for path in (
        "kestra:///company/private.txt",
        f"{folder}/../../../../../../company/private.txt",
        f"{folder}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/company/private.txt",
        f"{folder}/..%2f..%2f..%2f..%2f..%2f..%2fcompany/private.txt",
        f"{folder}/./a.txt",
        f"{folder}//a.txt",
        f"{folder}/a.txt\0",
        folder.rpartition("/tasks")[0],
        "/etc/passwd",
        "file:///etc/passwd",
        "kestra://etc/passwd",
        "kestra:///../../../../../etc/passwd",
        "kestra:///.staging/x",
        "",
    ):
        response = api.get(at(executionId=execution_id), params={"path": path})
        assert response.status_code == 422, path
        assert response.json()["message"].startswith("Illegal argument: Invalid prefix path")

    return api.get(at(executionId=execution_id), params={"path": "kestra:///company/private.txt"})


@case("GET", "/executions/{executionId}/file/metas")
def metas(api: Api, at: At) -> httpx.Response:
    execution_id, uri = with_file(api, "a.txt", b"12345")
    other_id, _ = with_file(api, "a.txt", b"1")
    moved = api.get(at(executionId=other_id), params={"path": uri})
    assert (moved.status_code, moved.headers["location"].partition("?")[0]) == (307, at(executionId=execution_id))
    assert api.get(moved.headers["location"]).json() == {"size": 5}

    return api.get(at(executionId=execution_id), params={"path": uri})


@case("GET", "/executions/{executionId}/file/preview")
def preview(api: Api, at: At) -> httpx.Response:
    execution_id, uri = with_file(api, "rows.ion", b'{a: 1, b: "x"}\n{a: 2}\n{a: 3}\n')
    execution = api.engine.call(api.engine.operations.get_execution(execution_id))
    address = at(executionId=execution_id)

    def shown(name: str, content: bytes, **query: str) -> Mapping[str, object]:
        path = put(api, execution.namespace, execution_id, name, content)
        return api.get(address, params={"path": path, **query}).json()

    assert shown("a.txt", b"1\n2\n3\n", maxRows="2") == {
        "extension": "txt",
        "type": "TEXT",
        "content": "1\n2\n",
        "maxLine": 2,
        "truncated": True,
    }
    assert shown("a.csv", "ä".encode("latin-1"), encoding="ISO-8859-1")["content"] == "ä"
    assert shown("a.png", b"\x89PNG")["content"] == "iVBORw=="
    kinds = {name: shown(name, b"x")["type"] for name in ("a.md", "a.pdf", "a.JPG", "a")}
    assert kinds == {"a.md": "MARKDOWN", "a.pdf": "PDF", "a.JPG": "IMAGE", "a": "TEXT"}
    assert api.get(address, params={"path": uri, "encoding": "klingon"}).status_code == 422
    assert api.get(address, params={"path": uri, "maxRows": "0"}).status_code == 422
    assert api.get(address, params={"path": "file:///etc/passwd"}).status_code == 422

    response = api.get(address, params={"path": uri, "maxRows": "2"})

    assert response.json()["type"] == "LIST"
    assert response.json()["content"] == [{"a": 1, "b": "x"}, {"a": 2}]
    assert response.json()["truncated"]
    return response


# Outputs


@case("GET", "/outputs/executions/{executionId}")
def outputs(api: Api, at: At) -> httpx.Response:
    found = ran(api, outputs=[{"id": "word", "type": "STRING", "value": "{{ outputs.say.value }}"}])
    assert api.get(at(executionId=ran(api).execution.id)).json() == {}
    assert api.get(at(executionId="none")).status_code == 404

    response = api.get(at(executionId=found.execution.id))

    assert response.json() == {"word": "hello"}
    return response


@case("GET", "/outputs/tasks/{executionId}")
def outputs_of_tasks(api: Api, at: At) -> httpx.Response:
    found = ran(api, for_each("each", ["a", "b"], echo("say", "{{ taskrun.value }}")))

    response = api.get(at(executionId=found.execution.id))

    said = [one for one in response.json() if one["taskId"] == "say"]
    assert [one["value"] for one in said] == ["a", "b"]
    assert {one["taskRunId"] for one in said} <= {run.id for run in found.runs}
    return response


@case("GET", "/outputs/tasks/{executionId}/{taskRunId}")
def outputs_of_task(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    assert api.get(at(executionId=found.execution.id, taskRunId="none")).status_code == 404

    response = api.get(at(executionId=found.execution.id, taskRunId=found.run_of("say").id))

    assert response.json() == {"value": "hello"}
    return response


# Expressions


@case("POST", "/executions/{executionId}/actions/eval")
def evaluate(api: Api, at: At) -> httpx.Response:
    found = ran(api)
    address = at(executionId=found.execution.id)
    failed = api.post(address, content="{{ outputs.nothing.value }}")
    assert failed.status_code == 200
    assert failed.json()["error"]
    assert failed.json()["stackTrace"]
    assert api.post(address, content="{{ broken").json()["error"]
    assert api.post(at(executionId=new_execution_id()), content="x").status_code == 404

    response = api.post(address, content="{{ outputs.say.value | upper }} {{ flow.id }}")

    assert response.json() == {"result": "HELLO hello"}
    return response


@case("POST", "/executions/{executionId}/actions/eval/{taskRunId}")
def evaluate_in_task(api: Api, at: At) -> httpx.Response:
    found = ran(api, for_each("each", ["a"], echo("say", "x")))
    run = found.run_of("say")
    assert api.post(at(executionId=found.execution.id, taskRunId="none"), content="x").status_code == 404

    response = api.post(
        at(executionId=found.execution.id, taskRunId=run.id),
        content="{{ task.id }} {{ taskrun.value }} {{ taskrun.id }}",
    )

    assert response.json() == {"result": f"say a {run.id}"}
    return response
