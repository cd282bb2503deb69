"""Calls every endpoint as its description allows, with schemathesis: the description is true, and nothing breaks.

Run `python -m tests.compatibility.api_schemathesis --minutes 10 --seed 1` for a long time of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx

from tests.api_servers import CREDENTIALS, TOKEN, ApiServer
from tests.command_line import ROOT
from tests.flows import CORE, echo, flow
from tests.homes import until
from tests.triggers import schedule

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
NAMESPACE = "company.team"


class Outcome(NamedTuple):
    """What came of calling all endpoints.

    Attributes:
        calls: how many were made.
        problems: what was found wrong; empty for nothing.
    """

    calls: int
    problems: str


def check(server: ApiServer, *, seed: int = 0, examples: int = 4, minutes: float | None = None) -> Outcome:
    """Call all endpoints.

    Args:
        server: with `CREDENTIALS`.
        seed: the same seed gives the same calls.
        examples: calls of each endpoint.
        minutes: goes on for so long, whatever *examples* says.
    """
    known, texts = prepare(server)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{server.address}/swagger/openapi.json",
        f"--checks={','.join(CHECKS)}",
        f"--seed={seed}",
        f"--max-examples={examples}",
        f"--phases={'fuzzing' if minutes is None else 'coverage,fuzzing'}",
        "--generation-database=none",
        "--continue-on-failure",
        "--suppress-health-check=all",
        "--request-timeout=60",
        "--warnings=off",
        "--no-color",
        f"--header=Authorization:{HEADERS['Authorization']}",
    ]
    if minutes is not None:
        command.append(f"--max-time={round(minutes * 60)}")
    env = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "tests.compatibility.api_schemathesis_hooks",
        "TERCEL_TEST_KNOWN": json.dumps(known),
        "TERCEL_TEST_TEXTS": json.dumps(texts),
        "PYTHONPATH": str(ROOT),
    }
    with TemporaryDirectory() as folder:  # it leaves files where it is started
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
    calls = re.search(r"(\d+) generated", done.stdout)
    is_well = done.returncode == 0 and calls is not None and "Traceback" not in server.said
    problems = "" if is_well else "\n".join((done.stdout, done.stderr, server.said))
    return Outcome(int(calls[1]) if calls else 0, problems)


def prepare(server: ApiServer) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Bring about something of every kind: its names by parameter, and right bodies by a part of the path."""
    with httpx.Client(base_url=f"{server.address}/api/v1/main", headers=HEADERS, timeout=60) as client:

        def call(method: str, address: str, **given: Any) -> httpx.Response:
            return client.request(method, address, **given).raise_for_status()

        tasks = echo("say", "{{ inputs.word }}"), {"id": "log", "type": f"{CORE}.log.Log", "message": "hello"}
        text = flow(
            *tasks,
            namespace=NAMESPACE,
            id="hello",
            inputs=[{"id": "word", "type": "STRING", "defaults": "hello"}, {"id": "data", "type": "FILE"}],
            triggers=[schedule(cron="0 0 1 1 *"), {"id": "hook", "type": f"{CORE}.trigger.Webhook", "key": "a-key"}],
        )
        call("POST", "/flows", content=text)
        executions = [
            call("POST", f"/executions/{NAMESPACE}/hello?wait=true", files={"data": ("a.csv", b"a,b\n1,2\n")}).json()
            for _ in range(3)
        ]
        call("PUT", f"/namespaces/{NAMESPACE}/kv/color", content='"red"')
        call("POST", f"/namespaces/{NAMESPACE}/files?path=/folder/a.txt", files={"fileContent": ("a.txt", b"hello")})
        until(lambda: call("GET", "/triggers/search").json()["total"] > 0)
    known = {
        "namespace": [NAMESPACE],
        "id": ["hello"],
        "flowId": ["hello"],
        "executionId": [one["id"] for one in executions],
        "taskRunId": [run["id"] for one in executions for run in one["taskRunList"]],
        "taskId": ["say", "log"],
        "triggerId": ["schedule", "hook"],
        "key": ["color", "a-key"],
        "metric": ["rows"],
        "cls": [f"{CORE}.log.Log", f"{CORE}.debug.Return"],
        "type": ["flow", "task", "trigger", "STRING", "FILE"],
        "name": ["openapi.json"],
        "file": ["/folder/a.txt", "/folder", *(one["inputs"]["data"] for one in executions)],
    }
    other = flow(echo("say", "hello"), namespace=NAMESPACE, id="other")
    texts = {
        "/flows/validate": [text, other, "id: say\ntype: no.such.Type\n"],
        "/flows": [text, other, f"{text}---\n{other}", "id: hello\n"],
        "/kv/": ['"blue"', "42", '{"a": [1]}', "2030-01-31", '"PT5M"'],
        "/eval": ["{{ outputs.say.value }}", "{{ nothing }}", "{{ 1 / 0 }}", "{{"],
    }
    return known, texts


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with TemporaryDirectory() as folder, ApiServer(Path(folder), CREDENTIALS) as server:
        found = check(server, seed=given.seed, examples=100, minutes=given.minutes)
    print(found.problems or f"Nothing was found by {found.calls} calls.")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
