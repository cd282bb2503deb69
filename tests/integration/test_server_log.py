"""What a server says to those who operate it, and what a collector of traces hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.api_servers import ApiServer
from tests.servers import Answer, http_server

FLOW = """
id: hook
namespace: company.team
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: "It is {{ secret('WORD') }}."}
  - {id: hide, type: io.kestra.plugin.core.log.Log, message: not wanted, level: DEBUG}
triggers:
  - {id: web, type: io.kestra.plugin.core.trigger.Webhook, key: a-key-of-mine}
"""


def test_given_json_then_requests_and_tasks_are_lines_of_it_and_secrets_are_in_none(tmp_path: Path) -> None:
    env = {"TERCEL_LOG_FORMAT": "json", "SECRET_WORD": "aHVzaC1odXNo"}
    server = ApiServer(tmp_path, env)
    with server, httpx.Client(base_url=server.address) as client:
        saved = client.post("/api/v1/flows", content=FLOW, headers={"content-type": "application/x-yaml"})
        started = client.post("/api/v1/executions/webhook/company.team/hook/a-key-of-mine").json()
        client.get("/ping")
        client.get("/health")
        flow_of_that_name = client.get("/api/v1/flows/company.team/health")
        url = f"/api/v1/executions/{started['id']}/follow"
        assert "end" in client.get(url).text

    lines = [json.loads(line) for line in server.said.splitlines() if line.startswith("{")]
    assert saved.status_code == 200
    assert "Traceback" not in server.said
    assert "a-key-of-mine" not in server.said
    assert "hush-hush" not in server.said
    assert [(line["method"], line["path"], line["status"]) for line in lines if line["logger"] == "access"] == [
        ("POST", "/api/v1/flows", 200),
        ("POST", "/api/v1/executions/webhook/company.team/hook/***", 200),
        ("GET", flow_of_that_name.url.path, 404),
        ("GET", url, 200),
    ]
    [said] = [line for line in lines if line["logger"] == "flow"]
    assert said["message"] == "It is **masked*."
    assert (said["level"], said["taskId"], said["executionId"]) == ("INFO", "say", started["id"])
    assert "Stopping." in [line["message"] for line in lines]


def test_given_traces_then_a_collector_gets_those_of_executions(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def take(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        bodies.append(body)
        return 200, {}, b""

    with http_server(take) as address:
        env = {"TERCEL_TRACES": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": address, "TERCEL_LOG_ACCESS": "false"}
        server = ApiServer(tmp_path, {**env, "TERCEL_LOG_TASKS": "off", "SECRET_WORD": "aHVzaC1odXNo"})
        with server, httpx.Client(base_url=server.address) as client:
            client.post("/api/v1/flows", content=FLOW, headers={"content-type": "application/x-yaml"})
            started: dict[str, Any] = client.post("/api/v1/executions/webhook/company.team/hook/a-key-of-mine").json()
            client.get(f"/api/v1/executions/{started['id']}/follow")

    names = sorted(
        span.name
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    )
    assert names == ["company.team.hook", "hide", "say"]
    assert "access:" not in server.said
    assert "flow:" not in server.said
